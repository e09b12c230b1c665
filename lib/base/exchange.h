/*
 * One HTTP exchange as values: what a driver wants sent and what came back.
 * Drivers make requests and read responses; the shell performs them.
 */
#ifndef BASE_EXCHANGE_H
#define BASE_EXCHANGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

enum { EXCHANGE_URL_MAX = 2048, EXCHANGE_REQUEST_MAX = 4 * 1024 * 1024 };

enum exchange_method { METHOD_GET, METHOD_POST, METHOD_PUT, METHOD_PATCH, METHOD_DELETE };

struct exchange_request {
    enum exchange_method method;
    char url[EXCHANGE_URL_MAX]; /* absolute; holds no secret */
    const char *url_secret;     /* borrowed; follows the url when it is sent, and is never logged;
                                   unreserved characters alone; NULL for none */
    const char *content_type;   /* static text; NULL without a body */
    struct buf body;            /* owned by whoever owns the request */
    const char *auth_header;    /* e.g. "Authorization"; static; NULL for none */
    const char *auth_scheme;    /* e.g. "Bearer "; static; "" for none */
    const char *credential;     /* borrowed; never logged */
    bool fresh_connection; /* a create: libcurl re-sends a POST on a reused connection (7.88.1) */
    int64_t timeout_ms;    /* 0: the transport's default */
};

struct exchange_response {
    bool sent;        /* at least one byte of the request left (CURLINFO_REQUEST_SIZE > 0) */
    int status;       /* 0: no usable answer; then `failure` says why */
    const char *body; /* NUL-terminated; borrowed until the callback returns; "" for none */
    size_t body_len;
    bool truncated;          /* the body went over the transport's cap and was dropped */
    char content_type[64];   /* lower case, without parameters; "" for none */
    char request_id[80];     /* the server's X-Request-Id, printable ASCII alone; "" for none */
    char authorization[256]; /* its Authorization header, likewise: a session, and so a secret */
    int64_t retry_after_ms;  /* -1: not named. Seconds and HTTP-dates both (RFC 9110, 10.2.3) */
    char failure[160];       /* transport error in words; "" when status is set */
};

enum { EXCHANGE_WORDS_MAX = 201 };

const char *exchange_method_name(enum exchange_method m);
void exchange_request_init(struct exchange_request *r);
void exchange_request_done(struct exchange_request *r);

/* The server's words: at most 200 printable bytes of `detail`, `message` or `error`; "" where there
 * are none. */
void exchange_words(const struct exchange_response *r, char out[EXCHANGE_WORDS_MAX]);

/*
 * The one place that decides what an answer means, before a product's own rules. ERR_NONE for a 2xx
 * (the caller still has to read the body: a 2xx that does not parse is ERR_UNKNOWN); GONE for
 * 404/410; CONFLICT for 409; THROTTLED for 429, and 503 with Retry-After; UNAUTHORIZED for 401/403;
 * UNAVAILABLE when nothing was sent; UNKNOWN for 408, 425, every 5xx, 1xx, 3xx and every failure
 * after sending; REFUSED for other 4xx. *e (which may be NULL) gets class, http_status,
 * retry_after_ms and a one-line message with the server's words and request id.
 */
enum err_class exchange_classify(const struct exchange_response *r, struct err *e);

#endif
