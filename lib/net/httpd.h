/*
 * The HTTP server: libmicrohttpd on the loop's epoll, no threads. Bounded connections, headers,
 * bodies (one and all together) and idle time; a handler answers at once or later.
 */
#ifndef NET_HTTPD_H
#define NET_HTTPD_H

#include <stddef.h>

#include "base/err.h"
#include "net/loop.h"

enum {
    HTTPD_CONNECTIONS_MAX = 256,
    HTTPD_BODY_MAX = 1024 * 1024,
    HTTPD_BODIES_MAX = 32 * 1024 * 1024, /* of all requests at one time; beyond it 503 */
    HTTPD_ROUTES_MAX = 64,
};

struct httpd;
struct httpd_request;

struct httpd_route {
    const char *method; /* "GET"; HEAD is answered from GET */
    const char *path;   /* exact; a trailing '*' matches any rest */
    /*
     * Must call httpd_reply once, now or later. body is NUL-terminated and, like path, borrowed
     * until then. Must not call httpd_free.
     */
    void (*handler)(void *ctx, struct httpd_request *r, const char *path, const char *body,
                    size_t body_len);
    void *ctx;
};

/*
 * listen: "host:port" or "[v6]:port"; port 0 picks one. Routes are copied; the first that matches
 * serves. ERR_INVALID where listen is malformed or the host unknown, ERR_UNAVAILABLE where the
 * address is taken.
 */
struct httpd *httpd_new(struct loop *loop, const char *listen, const struct httpd_route *routes,
                        size_t n, struct err *err);
int httpd_port(const struct httpd *h);
/* Requests not answered yet are closed; they must not be answered any more. */
void httpd_free(struct httpd *h);

/* Copies the body; content_type may be NULL. Not from within another thread or after httpd_free.
 * Unknown paths get 404, other methods 405, too large bodies 413, all as JSON. */
void httpd_reply(struct httpd_request *r, int status, const char *content_type, const void *body,
                 size_t n);
/* Before the answer: that it shall say Retry-After. */
void httpd_retry_after(struct httpd_request *r, int seconds);
/* A request header, or NULL. */
const char *httpd_header(const struct httpd_request *r, const char *name);

#endif
