/*
 * The HTTP server: libmicrohttpd on the loop's epoll, no threads. Bounded connections, headers, bodies and
 * time; a handler answers at once or later.
 */
#ifndef NET_HTTPD_H
#define NET_HTTPD_H

#include <stddef.h>

#include "base/err.h"
#include "net/loop.h"

enum { HTTPD_CONNECTIONS_MAX = 256, HTTPD_BODY_MAX = 1024 * 1024 };

struct httpd;
struct httpd_request;

struct httpd_route {
    const char *method; /* "GET"; HEAD is answered from GET */
    const char *path;   /* exact; a trailing '*' matches any rest */
    /* Must call httpd_reply once, now or later. body is NUL-terminated and borrowed until then. */
    void (*handler)(void *ctx, struct httpd_request *r, const char *path, const char *body, size_t body_len);
    void *ctx;
};

/* listen: "host:port" or "[v6]:port"; port 0 picks one. Routes are copied. */
struct httpd *httpd_new(struct loop *loop, const char *listen, const struct httpd_route *routes, size_t n,
                        struct err *err);
int httpd_port(const struct httpd *h);
/* Requests not answered yet are closed. */
void httpd_free(struct httpd *h);

/* Copies the body. Unknown paths get 404, other methods 405, too large bodies 413, all as JSON. */
void httpd_reply(struct httpd_request *r, int status, const char *content_type, const void *body, size_t n);
/* A request header, or NULL. */
const char *httpd_header(const struct httpd_request *r, const char *name);

#endif
