/*
 * libmicrohttpd on the loop: its epoll descriptor is watched by ours, MHD_run does what is ready.
 * MHD watches its sockets edge-triggered and remembers what is left to do (a pipelined request, a
 * connection about to time out) without its descriptor becoming readable again: MHD_get_timeout
 * tells, so it is asked after each run and a timer set.
 *
 * A body is always read to its end before the answer goes out, also where the answer is a refusal:
 * MHD 0.9.75 closes the connection after an early answer to POST and PUT alone, and a client that
 * is still sending may lose the answer. How much is read so is bounded.
 */
#include "net/httpd.h"

#include <errno.h>
#include <limits.h>
#include <microhttpd.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/str.h"

enum {
    MEMORY_PER_CONNECTION = 32 * 1024, /* request line, headers, buffers */
    IDLE_S = 10, /* a connection without a byte; not one that waits for its handler */
    BACKLOG = 128,
    DISCARD_MAX = 8 * HTTPD_BODY_MAX, /* a body beyond this closes the connection */
    HOST_MAX = 256,
    METHODS_MAX = 128,
};

static const int64_t park_ms = 24 * 3600 * 1000;

struct httpd {
    struct loop *loop;
    struct MHD_Daemon *daemon;
    int epoll; /* MHD's; -1 while not watched */
    int port;
    /* Always set, far away when MHD wants none: setting a set timer cannot fail. */
    struct loop_timer timer;
    struct httpd_route *routes;
    size_t n_routes;
    size_t bodies;                 /* bytes of all requests' bodies */
    struct httpd_request *waiting; /* suspended until their handlers answer */
    bool again;                    /* the run under way leaves something to the next */
    bool stopping;
};

struct httpd_request {
    struct httpd *h;
    struct MHD_Connection *connection;
    struct httpd_request *prev, *next; /* in waiting */
    const struct httpd_route *route;   /* NULL: refused */
    int refusal;                       /* status where the request is refused, or 0 */
    size_t received;                   /* of the body, what was discarded included */
    struct buf body;
    struct MHD_Response *response;
    unsigned status;
    int retry_after_s; /* 0: nothing is said */
    bool handled, waits, broken;
};

/* ---- routes ---- */

static bool path_matches(const char *pattern, const char *path)
{
    size_t n = strlen(pattern);
    if (n > 0 && pattern[n - 1] == '*')
        return strncmp(pattern, path, n - 1) == 0;
    return strcmp(pattern, path) == 0;
}

/* NULL and the status of the refusal when there is none. */
static const struct httpd_route *find_route(const struct httpd *h, const char *method,
                                            const char *path, int *refusal)
{
    const char *wanted = strcmp(method, "HEAD") == 0 ? "GET" : method;
    *refusal = MHD_HTTP_NOT_FOUND;
    for (size_t i = 0; i < h->n_routes; i++) {
        if (!path_matches(h->routes[i].path, path))
            continue;
        if (strcmp(h->routes[i].method, wanted) == 0) {
            *refusal = 0;
            return &h->routes[i];
        }
        *refusal = MHD_HTTP_METHOD_NOT_ALLOWED;
    }
    return NULL;
}

static void routes_free(struct httpd *h)
{
    for (size_t i = 0; i < h->n_routes; i++) {
        free((char *)h->routes[i].method);
        free((char *)h->routes[i].path);
    }
    free(h->routes);
}

static int routes_copy(struct httpd *h, const struct httpd_route *routes, size_t n, struct err *err)
{
    if (n > HTTPD_ROUTES_MAX)
        return err_set(err, ERR_INTERNAL, "too many routes (%zu)", n);
    h->routes = calloc(n + 1, sizeof *h->routes);
    if (!h->routes)
        return err_nomem(err);
    for (size_t i = 0; i < n; i++) {
        h->routes[i] = routes[i];
        h->routes[i].method = str_dup(routes[i].method);
        h->routes[i].path = str_dup(routes[i].path);
        h->n_routes++;
        if (!h->routes[i].method || !h->routes[i].path)
            return err_nomem(err);
    }
    return 0;
}

/* ---- answers ---- */

static struct MHD_Response *response_new(const char *content_type, const void *body, size_t n)
{
    struct MHD_Response *m =
        MHD_create_response_from_buffer(n, (void *)body, MHD_RESPMEM_MUST_COPY);
    if (!m)
        return NULL;
    if ((content_type &&
         MHD_add_response_header(m, MHD_HTTP_HEADER_CONTENT_TYPE, content_type) != MHD_YES) ||
        MHD_add_response_header(m, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store") != MHD_YES) {
        MHD_destroy_response(m);
        return NULL;
    }
    return m;
}

static void wait_end(struct httpd_request *r)
{
    if (!r->waits)
        return;
    if (r->prev)
        r->prev->next = r->next;
    else
        r->h->waiting = r->next;
    if (r->next)
        r->next->prev = r->prev;
    r->waits = false;
    MHD_resume_connection(r->connection);
    /* Without a thread of its own MHD has nobody to wake: the next run does the resuming. */
    r->h->again = true;
    (void)loop_timer_set(r->h->loop, &r->h->timer, 0, NULL);
}

static void wait_begin(struct httpd_request *r)
{
    r->waits = true;
    r->prev = NULL;
    r->next = r->h->waiting;
    if (r->next)
        r->next->prev = r;
    r->h->waiting = r;
    MHD_suspend_connection(r->connection);
}

static int add_retry_after(struct httpd_request *r)
{
    char seconds[16];
    if (r->retry_after_s <= 0)
        return 0;
    snprintf(seconds, sizeof seconds, "%d", r->retry_after_s);
    return MHD_add_response_header(r->response, MHD_HTTP_HEADER_RETRY_AFTER, seconds) == MHD_YES
               ? 0
               : -1;
}

void httpd_reply(struct httpd_request *r, int status, const char *content_type, const void *body,
                 size_t n)
{
    if (r->response || r->broken)
        return;
    r->status = (unsigned)status;
    r->response = response_new(content_type, body, n);
    r->broken = !r->response || add_retry_after(r);
    wait_end(r);
}

void httpd_retry_after(struct httpd_request *r, int seconds)
{
    r->retry_after_s = seconds;
}

/* "GET, HEAD, POST": what the path does take. */
static void allowed_methods(const struct httpd *h, const char *path, char out[METHODS_MAX])
{
    size_t len = 0;
    out[0] = 0;
    for (size_t i = 0; i < h->n_routes; i++) {
        if (!path_matches(h->routes[i].path, path))
            continue;
        const char *method = h->routes[i].method;
        int n = snprintf(out + len, METHODS_MAX - len, "%s%s%s", len ? ", " : "", method,
                         strcmp(method, "GET") == 0 ? ", HEAD" : "");
        if (n < 0 || (size_t)n >= METHODS_MAX - len) {
            out[len] = 0;
            return;
        }
        len += (size_t)n;
    }
}

static const char *refusal_text(int status)
{
    switch (status) {
    case MHD_HTTP_NOT_FOUND:
        return "{\"error\":\"not found\"}\n";
    case MHD_HTTP_METHOD_NOT_ALLOWED:
        return "{\"error\":\"method not allowed\"}\n";
    case MHD_HTTP_CONTENT_TOO_LARGE:
        return "{\"error\":\"the body is too large\"}\n";
    default:
        return "{\"error\":\"too many requests at once\"}\n";
    }
}

static void refuse(struct httpd_request *r, const char *path)
{
    const char *text = refusal_text(r->refusal);
    httpd_reply(r, r->refusal, "application/json", text, strlen(text));
    if (r->response && r->refusal == MHD_HTTP_METHOD_NOT_ALLOWED) {
        char methods[METHODS_MAX];
        allowed_methods(r->h, path, methods);
        if (MHD_add_response_header(r->response, MHD_HTTP_HEADER_ALLOW, methods) != MHD_YES)
            r->broken = true;
    }
}

const char *httpd_header(const struct httpd_request *r, const char *name)
{
    return MHD_lookup_connection_value(r->connection, MHD_HEADER_KIND, name);
}

/* ---- requests ---- */

static enum MHD_Result request_begin(struct httpd *h, struct MHD_Connection *connection,
                                     const char *method, const char *path, void **slot)
{
    struct httpd_request *r = calloc(1, sizeof *r);
    if (!r)
        return MHD_NO;
    r->h = h;
    r->connection = connection;
    r->route = find_route(h, method, path, &r->refusal);
    buf_init(&r->body, HTTPD_BODY_MAX);
    *slot = r;
    return MHD_YES;
}

static void body_drop(struct httpd_request *r)
{
    r->h->bodies -= r->body.len;
    buf_done(&r->body);
}

static enum MHD_Result request_body(struct httpd_request *r, const char *p, size_t n)
{
    r->received += n;
    if (r->received > DISCARD_MAX)
        return MHD_NO;
    if (r->refusal)
        return MHD_YES;
    if (r->received > HTTPD_BODY_MAX)
        r->refusal = MHD_HTTP_CONTENT_TOO_LARGE;
    else if (n > HTTPD_BODIES_MAX - r->h->bodies)
        r->refusal = MHD_HTTP_SERVICE_UNAVAILABLE;
    if (r->refusal) {
        body_drop(r);
        return MHD_YES;
    }
    size_t before = r->body.len;
    if (buf_add(&r->body, p, n) != 0) {
        r->h->bodies -= before; /* a failed buffer is empty */
        return MHD_NO;
    }
    r->h->bodies += n;
    return MHD_YES;
}

static enum MHD_Result request_answer(struct httpd_request *r, const char *path)
{
    if (!r->handled) {
        r->handled = true;
        if (r->refusal)
            refuse(r, path);
        else
            r->route->handler(r->route->ctx, r, path, buf_str(&r->body), r->body.len);
    }
    if (r->broken)
        return MHD_NO;
    if (r->response)
        return MHD_queue_response(r->connection, r->status, r->response);
    wait_begin(r);
    return MHD_YES;
}

/* MHD's access handler: once with the headers, then for pieces of the body, then for the answer. */
static enum MHD_Result on_access(void *ctx, struct MHD_Connection *connection, const char *path,
                                 const char *method, const char *version, const char *upload,
                                 size_t *upload_len, void **slot)
{
    struct httpd *h = ctx;
    (void)version;
    if (h->stopping)
        return MHD_NO;
    if (!*slot)
        return request_begin(h, connection, method, path, slot);
    if (*upload_len == 0)
        return request_answer(*slot, path);
    enum MHD_Result rc = request_body(*slot, upload, *upload_len);
    *upload_len = 0;
    return rc;
}

static void on_completed(void *ctx, struct MHD_Connection *connection, void **slot,
                         enum MHD_RequestTerminationCode why)
{
    struct httpd_request *r = *slot;
    (void)ctx;
    (void)connection;
    (void)why;
    if (!r)
        return;
    if (r->response)
        MHD_destroy_response(r->response);
    body_drop(r);
    free(r);
    *slot = NULL;
}

/* At its limit MHD stops listening, and begins again only with the run that follows a connection's
 * end. */
static void on_connection(void *ctx, struct MHD_Connection *connection, void **slot,
                          enum MHD_ConnectionNotificationCode what)
{
    struct httpd *h = ctx;
    (void)connection;
    (void)slot;
    if (what == MHD_CONNECTION_NOTIFY_CLOSED)
        h->again = true;
}

/* ---- the loop ---- */

static void run(struct httpd *h)
{
    unsigned long long ms;
    int64_t delay_ms = park_ms;
    h->again = false;
    MHD_run(h->daemon);
    if (h->again)
        delay_ms = 0;
    else if (MHD_get_timeout(h->daemon, &ms) == MHD_YES && ms < (unsigned long long)park_ms)
        delay_ms = (int64_t)ms;
    (void)loop_timer_set(h->loop, &h->timer, delay_ms, NULL);
}

static void on_ready(void *ctx, uint32_t events)
{
    (void)events;
    run(ctx);
}

static void on_timeout(void *ctx)
{
    struct httpd *h = ctx;
    /* Into the place that it just left, before handlers set timers of their own. */
    (void)loop_timer_set(h->loop, &h->timer, park_ms, NULL);
    run(h);
}

/* ---- listening ---- */

/* Splits "host:port" and "[v6]:port". */
static int parse_listen(const char *listen, char host[HOST_MAX], const char **port, struct err *err)
{
    bool bracket = listen[0] == '[';
    const char *end = bracket ? strchr(listen, ']') : strrchr(listen, ':');
    const char *begin = listen + bracket;
    const char *colon = end && bracket ? end + 1 : end;
    int64_t number;
    if (!end || end == begin || *colon != ':' || (size_t)(end - begin) >= HOST_MAX ||
        (!bracket && memchr(begin, ':', (size_t)(end - begin))))
        return err_set(err, ERR_INVALID,
                       "the listen address must be host:port or [v6]:port, e.g. 127.0.0.1:9464");
    if (!str_to_i64(colon + 1, &number) || number < 0 || number > 65535 || strlen(colon + 1) > 5)
        return err_set(err, ERR_INVALID, "the listen address's port must be 0 to 65535");
    memcpy(host, begin, (size_t)(end - begin));
    host[end - begin] = 0;
    *port = colon + 1;
    return 0;
}

/* A listening socket, or -1 and errno. */
static int listen_on(const struct addrinfo *a)
{
    int fd = socket(a->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1;
    if (fd < 0)
        return -1;
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0 &&
        bind(fd, a->ai_addr, a->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0)
        return fd;
    int saved = errno;
    close(fd);
    errno = saved;
    return -1;
}

static int open_listener(const char *listen, struct err *err)
{
    char host[HOST_MAX];
    const char *port = NULL;
    struct addrinfo hints = {.ai_flags = AI_PASSIVE | AI_NUMERICSERV, .ai_socktype = SOCK_STREAM};
    struct addrinfo *found;
    if (parse_listen(listen, host, &port, err) != 0)
        return -1;
    int rc = getaddrinfo(host, port, &hints, &found);
    if (rc != 0)
        return err_set(err, ERR_INVALID, "cannot listen on %.200s: %s", listen, gai_strerror(rc));
    int fd = -1;
    for (const struct addrinfo *a = found; a && fd < 0; a = a->ai_next)
        fd = listen_on(a);
    if (fd < 0)
        err_set(err, ERR_UNAVAILABLE, "cannot listen on %.200s: %s", listen, strerror(errno));
    freeaddrinfo(found);
    return fd;
}

static int port_of(int fd)
{
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } a = {.v6 = {0}};
    socklen_t n = sizeof a;
    if (getsockname(fd, &a.any, &n) != 0)
        return 0;
    return ntohs(a.any.sa_family == AF_INET6 ? a.v6.sin6_port : a.v4.sin_port);
}

/* ---- the server ---- */

static int start(struct httpd *h, int listener, struct err *err)
{
    h->port = port_of(listener);
    h->daemon = MHD_start_daemon(MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME, 0, NULL, NULL, on_access,
                                 h, MHD_OPTION_LISTEN_SOCKET, listener, MHD_OPTION_NOTIFY_COMPLETED,
                                 on_completed, NULL, MHD_OPTION_NOTIFY_CONNECTION, on_connection, h,
                                 MHD_OPTION_CONNECTION_LIMIT, (unsigned)HTTPD_CONNECTIONS_MAX,
                                 MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)MEMORY_PER_CONNECTION,
                                 MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)IDLE_S,
                                 MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_END);
    /* Where it fails, MHD may have closed the socket already: closing it here might hit another's.
     */
    if (!h->daemon)
        return err_set(err, ERR_INTERNAL, "the HTTP server does not start: %s", strerror(errno));
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(h->daemon, MHD_DAEMON_INFO_EPOLL_FD);
    if (!info)
        return err_set(err, ERR_INTERNAL, "the HTTP server has no epoll descriptor");
    if (loop_fd_add(h->loop, info->epoll_fd, EPOLLIN, on_ready, h, err) != 0)
        return -1;
    h->epoll = info->epoll_fd;
    return loop_timer_set(h->loop, &h->timer, 0, err);
}

struct httpd *httpd_new(struct loop *loop, const char *listen, const struct httpd_route *routes,
                        size_t n, struct err *err)
{
    struct httpd *h = calloc(1, sizeof *h);
    if (!h) {
        err_nomem(err);
        return NULL;
    }
    h->loop = loop;
    h->epoll = -1;
    h->timer = (struct loop_timer){.fn = on_timeout, .ctx = h};
    int listener = -1;
    if (routes_copy(h, routes, n, err) == 0)
        listener = open_listener(listen, err);
    if (listener < 0 || start(h, listener, err) != 0) {
        httpd_free(h);
        return NULL;
    }
    return h;
}

int httpd_port(const struct httpd *h)
{
    return h->port;
}

void httpd_free(struct httpd *h)
{
    if (!h)
        return;
    h->stopping = true;
    if (h->epoll >= 0)
        loop_fd_del(h->loop, h->epoll);
    /* MHD aborts the process where it is stopped with connections suspended. */
    while (h->waiting)
        wait_end(h->waiting);
    loop_timer_cancel(h->loop, &h->timer);
    if (h->daemon)
        MHD_stop_daemon(h->daemon);
    routes_free(h);
    free(h);
}
