/*
 * The HTTP client: libcurl's multi interface on the loop. Redirects are not followed, only http and
 * https are spoken (HTTP/1.1), compressed bodies are accepted, responses are capped after
 * decompression, connections are reused unless the request says fresh. No proxy, cookie or netrc is
 * taken from the environment. TLS may raise SIGPIPE: http_new ignores it where it has its default
 * action.
 */
#ifndef NET_HTTP_H
#define NET_HTTP_H

#include "base/exchange.h"
#include "net/loop.h"

enum {
    HTTP_RESPONSE_MAX = 8 * 1024 * 1024,
    HTTP_CALLS_MAX = 16384,
    HTTP_HEADERS_MAX = 32,  /* extra header lines of a request */
    HTTP_HEADER_MAX = 8192, /* bytes of one */
};

struct http;
struct http_call;

/*
 * The response is borrowed until the callback returns. Called exactly once, never from within
 * http_send. The callback may send, cancel and free the client itself.
 */
typedef void http_done_fn(void *ctx, const struct exchange_response *response);

struct http_options {
    const char *user_agent;
    int64_t connect_timeout_ms; /* default 5000 */
    int64_t timeout_ms;         /* whole exchange, where the request names none; default 30000 */
    size_t response_max;        /* default HTTP_RESPONSE_MAX */
};

/* Strings are copied; a 0 or NULL option is the default, options may be NULL. */
struct http *http_new(struct loop *loop, const struct http_options *options, struct err *err);
/* Calls still under way are dropped without a callback. */
void http_free(struct http *h);

/*
 * Sends. Everything in the request is copied or taken: the body buffer is moved out of it. headers:
 * extra "Name: value" lines, NULL-terminated, may be NULL. NULL and *err when nothing could be
 * started; the request is then as it was. ERR_INVALID: the URL, a header or the credential can't be
 * sent; ERR_THROTTLED: too many calls are under way.
 */
struct http_call *http_send(struct http *h, struct exchange_request *request,
                            const char *const *headers, http_done_fn *done, void *ctx,
                            struct err *err);
/*
 * No callback after this. The request may or may not have reached the server. From within a call's
 * own callback nothing happens; after it the call is gone and must not be named.
 */
void http_cancel(struct http *h, struct http_call *call);

size_t http_in_flight(const struct http *h);

#endif
