/*
 * The HTTP client: libcurl's multi interface on the loop. Redirects are not followed, only http and https
 * are spoken, gzip is accepted, responses are capped, connections are reused unless the request says fresh.
 */
#ifndef NET_HTTP_H
#define NET_HTTP_H

#include "base/exchange.h"
#include "net/loop.h"

enum { HTTP_RESPONSE_MAX = 8 * 1024 * 1024 };

struct http;
struct http_call;

/* The response is borrowed until the callback returns. Called exactly once, never from within http_send. */
typedef void http_done_fn(void *ctx, const struct exchange_response *response);

struct http_options {
    const char *user_agent;
    int64_t connect_timeout_ms; /* default 5000 */
    int64_t timeout_ms;         /* whole exchange, where the request names none; default 30000 */
    size_t response_max;        /* default HTTP_RESPONSE_MAX */
};

struct http *http_new(struct loop *loop, const struct http_options *options, struct err *err);
/* Calls still under way are dropped without a callback. */
void http_free(struct http *h);

/*
 * Sends. Everything in the request is copied or taken: the body buffer is moved out of it. headers: extra
 * "Name: value" lines, NULL-terminated, may be NULL. NULL and *err when nothing could be started.
 */
struct http_call *http_send(struct http *h, struct exchange_request *request, const char *const *headers,
                            http_done_fn *done, void *ctx, struct err *err);
/* No callback after this. The request may or may not have reached the server. */
void http_cancel(struct http *h, struct http_call *call);

size_t http_in_flight(const struct http *h);

#endif
