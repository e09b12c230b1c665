/*
 * An endpoint: libmicrohttpd on the loop's epoll, without threads. Waiting requests are suspended
 * connections with a timer each, so thousands of slow answers cost no thread. Connections are
 * accepted here, not by libmicrohttpd, so that a port can refuse for a while and come back.
 */
#include "standin.h"

#include <arpa/inet.h>
#include <errno.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/rng.h"
#include "base/str.h"

enum {
    ACCEPTS_PER_TURN = 128,
    BACKLOG = 4096,
    REOPEN_MS = 20,
    IDLE_S = 300,
    LOGGED_BODY = 2048,
    LOGGED_HEAD = 64 * 1024,
    LOGGED_VALUE = 512
};

enum phase { PHASE_RECEIVE, PHASE_BEGIN, PHASE_ACT, PHASE_ANSWER };

struct request {
    struct endpoint *e;
    struct MHD_Connection *conn;
    char *method, *path;
    struct buf body;
    enum phase phase;
    uint64_t n; /* in the journal; 0: not there */
    struct fault *fault;
    struct reply reply;
    bool acted, cut;
    bool asleep; /* suspended, and in the endpoint's list */
    struct loop_timer timer;
    struct request *prev, *next;
};

struct endpoint {
    struct loop *loop;
    const struct dialect *dialect;
    struct sockaddr_in address;
    int listen_fd; /* -1 while it refuses */
    struct MHD_Daemon *daemon;
    int daemon_fd;
    bool dirty; /* libmicrohttpd has work that its descriptor does not show */
    struct loop_timer run_timer, reopen_timer;
    int64_t down_until_ms;
    struct request *asleep;
    void *store; /* the dialect's */
    struct faults *faults;
    struct journal *journal;
};

/* ---- sleeping and waking ---- */

static void wake(struct request *r)
{
    struct endpoint *e = r->e;
    if (!r->asleep)
        return;
    loop_timer_cancel(e->loop, &r->timer);
    if (r->prev)
        r->prev->next = r->next;
    else
        e->asleep = r->next;
    if (r->next)
        r->next->prev = r->prev;
    r->prev = r->next = NULL;
    r->asleep = false;
    MHD_resume_connection(r->conn);
    e->dirty = true;
    loop_wake(e->loop);
}

static void act_once(struct request *r);

/* Acts here and not when it is resumed: libmicrohttpd may never resume one whose client has gone.
 */
static void on_woken(void *ctx)
{
    struct request *r = ctx;
    if (r->phase == PHASE_ACT)
        act_once(r);
    wake(r);
}

/* ms < 0: until released. */
static enum MHD_Result nap(struct request *r, int64_t ms)
{
    struct endpoint *e = r->e;
    struct err err;
    r->timer.fn = on_woken;
    r->timer.ctx = r;
    if (ms >= 0 && loop_timer_set(e->loop, &r->timer, ms, &err) < 0)
        return MHD_NO;
    MHD_suspend_connection(r->conn);
    r->asleep = true;
    r->next = e->asleep;
    if (e->asleep)
        e->asleep->prev = r;
    e->asleep = r;
    return MHD_YES;
}

void endpoint_release(struct endpoint *e)
{
    for (struct request *r = e->asleep, *next; r; r = next) {
        next = r->next;
        if (r->fault && r->fault->outcome == FAULT_HANG) {
            r->cut = true;
            wake(r);
        }
    }
}

/* ---- the journal ---- */

struct pairs {
    struct buf *out;
    bool any;
};

static enum MHD_Result add_pair(void *cls, enum MHD_ValueKind kind, const char *key,
                                const char *value)
{
    struct pairs *p = cls;
    char name[128];
    size_t i = 0;
    for (; i < sizeof(name) - 1 && key[i]; i++)
        name[i] = (char)(kind == MHD_HEADER_KIND && key[i] >= 'A' && key[i] <= 'Z' ? key[i] | 32
                                                                                   : key[i]);
    name[i] = 0;
    const char *shown = value ? value : "";
    if (str_eq(name, "authorization") || str_eq(name, "x-api-key") || str_eq(name, "cookie"))
        shown = "***";
    if (p->any)
        buf_addc(p->out, ',');
    buf_add_json(p->out, name);
    buf_addc(p->out, ':');
    buf_add_jsonn(p->out, shown, strnlen(shown, LOGGED_VALUE));
    p->any = true;
    return MHD_YES;
}

static void add_pairs(struct request *r, enum MHD_ValueKind kind, struct buf *out)
{
    struct pairs pairs = {.out = out};
    buf_addc(out, '{');
    MHD_get_connection_values(r->conn, kind, add_pair, &pairs);
    buf_addc(out, '}');
}

static void write_down(struct request *r)
{
    struct buf b;
    size_t shown = r->body.len < LOGGED_BODY ? r->body.len : LOGGED_BODY;
    buf_init(&b, LOGGED_HEAD);
    buf_adds(&b, "\"method\":");
    buf_add_json(&b, r->method);
    buf_adds(&b, ",\"path\":");
    buf_add_json(&b, r->path);
    buf_adds(&b, ",\"query\":");
    add_pairs(r, MHD_GET_ARGUMENT_KIND, &b);
    buf_adds(&b, ",\"headers\":");
    add_pairs(r, MHD_HEADER_KIND, &b);
    buf_adds(&b, ",\"body\":");
    buf_add_jsonn(&b, buf_str(&r->body), shown);
    r->n = journal_begin(r->e->journal, b.failed ? "\"lost\":true" : buf_str(&b));
    buf_done(&b);
}

/* ---- answering ---- */

static void end_entry(struct request *r, int status)
{
    const char *kind = r->fault ? r->fault->kind : r->cut ? "down" : NULL;
    if (r->n)
        journal_end(r->e->journal, r->n, status, kind, r->acted);
    r->n = 0;
}

static enum MHD_Result send_response(struct request *r, struct MHD_Response *response, int status)
{
    char id[32];
    struct buf b;
    if (!response)
        return MHD_NO;
    buf_init(&b, sizeof(id));
    buf_addf(&b, "standin-%llu", (unsigned long long)r->n);
    MHD_add_response_header(response, "X-Request-Id", buf_str(&b));
    buf_done(&b);
    if (!MHD_get_response_header(response, "Content-Type"))
        MHD_add_response_header(response, "Content-Type", "application/json");
    end_entry(r, status);
    enum MHD_Result queued = MHD_queue_response(r->conn, (unsigned)status, response);
    MHD_destroy_response(response);
    return queued;
}

static void add_headers(struct MHD_Response *response, const cJSON *headers)
{
    const cJSON *h;
    cJSON_ArrayForEach(h, headers)
    {
        if (response)
            MHD_add_response_header(response, h->string, h->valuestring);
    }
}

static struct MHD_Response *copy_of(const char *text)
{
    /* MHD_RESPMEM_MUST_COPY does not write, its parameter only lacks the const. */
    char *copy = str_dup(text);
    return copy ? MHD_create_response_from_buffer(strlen(copy), copy, MHD_RESPMEM_MUST_FREE) : NULL;
}

static enum MHD_Result answer_plain(struct request *r)
{
    struct reply *reply = &r->reply;
    char *body = reply->body;
    reply->body = NULL;
    struct MHD_Response *response = MHD_create_response_from_buffer(
        reply->len, body, body ? MHD_RESPMEM_MUST_FREE : MHD_RESPMEM_PERSISTENT);
    add_headers(response, reply->headers);
    return send_response(r, response, reply->status);
}

static enum MHD_Result answer_status(struct request *r)
{
    const struct fault *f = r->fault;
    struct buf b;
    buf_init(&b, STANDIN_ANSWER_MAX);
    if (f->echo) {
        buf_adds(&b, "{\"detail\":[{\"type\":\"value_error\",\"loc\":[\"body\"],\"msg\":"
                     "\"an injected fault\",\"input\":");
        buf_add_jsonn(&b, buf_str(&r->body), r->body.len);
        buf_adds(&b, "}]}");
    } else {
        buf_adds(&b, f->body ? f->body : "{\"detail\":\"an injected fault\"}");
    }
    struct MHD_Response *response = copy_of(buf_str(&b));
    buf_done(&b);
    add_headers(response, f->headers);
    return send_response(r, response, f->status);
}

static enum MHD_Result answer_malformed(struct request *r)
{
    const char *body = r->fault->body ? r->fault->body : "{\"id\": \"half an ans";
    return send_response(r, copy_of(body), r->reply.status == 204 ? 200 : r->reply.status);
}

struct half {
    char *body;
    size_t len;
};

static ssize_t read_half(void *cls, uint64_t pos, char *out, size_t max)
{
    const struct half *h = cls;
    if (pos >= h->len)
        return MHD_CONTENT_READER_END_WITH_ERROR;
    size_t n = h->len - (size_t)pos < max ? h->len - (size_t)pos : max;
    memcpy(out, h->body + pos, n);
    return (ssize_t)n;
}

static void free_half(void *cls)
{
    struct half *h = cls;
    free(h->body);
    free(h);
}

static enum MHD_Result answer_half(struct request *r)
{
    struct half *h = r->reply.len > 1 ? calloc(1, sizeof(*h)) : NULL;
    if (!h) {
        end_entry(r, 0);
        return MHD_NO;
    }
    h->body = r->reply.body;
    h->len = r->reply.len / 2;
    r->reply.body = NULL;
    struct MHD_Response *response =
        MHD_create_response_from_callback(r->reply.len, 4096, read_half, h, free_half);
    if (!response)
        free_half(h);
    add_headers(response, r->reply.headers);
    return send_response(r, response, r->reply.status);
}

static enum MHD_Result answer(struct request *r)
{
    enum fault_outcome outcome = r->fault ? r->fault->outcome : FAULT_NORMAL;
    if (r->cut)
        outcome = FAULT_CLOSE;
    switch (outcome) {
    case FAULT_STATUS:
        return answer_status(r);
    case FAULT_MALFORMED:
        return answer_malformed(r);
    case FAULT_TRUNCATE:
        return answer_half(r);
    case FAULT_HANG:
        return nap(r, -1);
    case FAULT_CLOSE:
        end_entry(r, 0);
        return MHD_NO;
    case FAULT_NORMAL:
        break;
    }
    return answer_plain(r);
}

/* ---- acting ---- */

const char *call_argument(const struct call *c, const char *name)
{
    return MHD_lookup_connection_value(c->connection, MHD_GET_ARGUMENT_KIND, name);
}

const char *call_header(const struct call *c, const char *name)
{
    return MHD_lookup_connection_value(c->connection, MHD_HEADER_KIND, name);
}

struct sought {
    size_t left;
    const char **name, **value;
    bool found;
};

static enum MHD_Result at_place(void *cls, enum MHD_ValueKind kind, const char *key,
                                const char *value)
{
    struct sought *s = cls;
    (void)kind;
    if (s->left--)
        return MHD_YES;
    *s->name = key;
    *s->value = value ? value : "";
    s->found = true;
    return MHD_NO;
}

bool call_argument_at(const struct call *c, size_t i, const char **name, const char **value)
{
    struct sought s = {.left = i, .name = name, .value = value};
    MHD_get_connection_values(c->connection, MHD_GET_ARGUMENT_KIND, at_place, &s);
    return s.found;
}

static struct call call_of(struct request *r, size_t prefix)
{
    return (struct call){.method = r->method,
                         .path = r->path + prefix,
                         .body = buf_str(&r->body),
                         .body_len = r->body.len,
                         .connection = r->conn};
}

static void act(struct request *r)
{
    struct call c = call_of(r, 0);
    r->acted = true;
    if (r->body.failed)
        reply_detail(&r->reply, 413, "at most %zu bytes", r->e->dialect->body_max);
    else
        r->e->dialect->handle(r->e->store, &c, &r->reply);
}

static void act_once(struct request *r)
{
    if (!r->acted && (!r->fault || r->fault->act))
        act(r);
}

static enum MHD_Result without_faults(struct request *r)
{
    static const char prefix[] = "/admin";
    const struct dialect *d = r->e->dialect;
    if (r->body.failed) {
        reply_detail(&r->reply, 413, "at most %zu bytes", d->body_max);
    } else if (str_starts(r->path, "/admin/")) {
        struct call c = call_of(r, strlen(prefix));
        admin_handle(r->e, &c, &r->reply);
    } else {
        cJSON *answer = cJSON_CreateObject();
        cJSON_AddStringToObject(answer, "status", "ok");
        cJSON_AddStringToObject(answer, "dialect", d->name);
        reply_json(&r->reply, 200, answer);
    }
    return answer_plain(r);
}

static enum MHD_Result begin(struct request *r)
{
    bool down = clock_mono_ms() < r->e->down_until_ms;
    bool health = !down && !r->e->dialect->own_health && str_eq(r->path, "/health");
    if (str_starts(r->path, "/admin/") || health)
        return without_faults(r);
    write_down(r);
    r->phase = PHASE_ACT;
    if (down) {
        r->cut = true;
        return answer(r);
    }
    struct call c = call_of(r, 0);
    r->fault = faults_pick(r->e->faults, r->method, r->path, buf_str(&r->body),
                           call_header(&c, "traceparent"));
    return r->fault && r->fault->before_ms ? nap(r, r->fault->before_ms) : MHD_YES;
}

/* One phase after another, until the request sleeps, is answered or cut off. */
static enum MHD_Result advance(struct request *r)
{
    if (r->phase == PHASE_BEGIN) {
        enum MHD_Result result = begin(r);
        if (r->phase == PHASE_BEGIN || r->asleep || result == MHD_NO)
            return result;
    }
    if (r->phase == PHASE_ACT) {
        act_once(r);
        r->phase = PHASE_ANSWER;
        if (r->fault && r->fault->after_ms)
            return nap(r, r->fault->after_ms);
    }
    return answer(r);
}

/* ---- libmicrohttpd's callbacks ---- */

static void request_free(struct request *r)
{
    if (!r)
        return;
    end_entry(r, 0);
    fault_unref(r->fault);
    reply_done(&r->reply);
    buf_done(&r->body);
    free(r->method);
    free(r->path);
    free(r);
}

static struct request *request_new(struct endpoint *e, struct MHD_Connection *conn,
                                   const char *path, const char *method)
{
    struct request *r = calloc(1, sizeof(*r));
    if (!r)
        return NULL;
    r->e = e;
    r->conn = conn;
    buf_init(&r->body, e->dialect->body_max);
    r->method = str_dup(method);
    r->path = str_dup(path);
    if (!r->method || !r->path) {
        request_free(r);
        return NULL;
    }
    return r;
}

static enum MHD_Result on_request(void *cls, struct MHD_Connection *conn, const char *path,
                                  const char *method, const char *version, const char *upload,
                                  size_t *upload_len, void **state)
{
    struct request *r = *state;
    (void)version;
    if (!r) {
        *state = request_new(cls, conn, path, method);
        return *state ? MHD_YES : MHD_NO;
    }
    if (*upload_len) {
        buf_add(&r->body, upload, *upload_len); /* a failed buffer is answered with 413 */
        *upload_len = 0;
        return MHD_YES;
    }
    if (r->phase == PHASE_RECEIVE)
        r->phase = PHASE_BEGIN;
    return advance(r);
}

static void on_completed(void *cls, struct MHD_Connection *conn, void **state,
                         enum MHD_RequestTerminationCode why)
{
    (void)cls;
    (void)conn;
    (void)why;
    request_free(*state);
    *state = NULL;
}

/* ---- the loop ---- */

static void on_daemon(void *ctx, uint32_t events)
{
    struct endpoint *e = ctx;
    (void)events;
    e->dirty = true;
}

static void on_run_timer(void *ctx)
{
    struct endpoint *e = ctx;
    e->dirty = true;
}

static void before_sleep(void *ctx)
{
    struct endpoint *e = ctx;
    MHD_UNSIGNED_LONG_LONG wait;
    struct err err;
    if (!e->dirty)
        return;
    e->dirty = false;
    MHD_run(e->daemon);
    if (MHD_get_timeout(e->daemon, &wait) != MHD_YES)
        return;
    if (wait == 0) {
        e->dirty = true;
        loop_wake(e->loop);
        return;
    }
    /* Without the timer idle connections only live longer. */
    (void)loop_timer_set(e->loop, &e->run_timer, wait < 60000 ? (int64_t)wait : 60000, &err);
}

static void on_listen(void *ctx, uint32_t events)
{
    struct endpoint *e = ctx;
    (void)events;
    for (int i = 0; i < ACCEPTS_PER_TURN; i++) {
        struct sockaddr_in from;
        socklen_t n = sizeof(from);
        int fd = accept4(e->listen_fd, (struct sockaddr *)&from, &n, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0)
            return;
        /* Closes fd itself when it cannot take it. */
        MHD_add_connection(e->daemon, fd, (struct sockaddr *)&from, n);
        e->dirty = true;
    }
}

static int open_socket(struct endpoint *e, struct err *err)
{
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    socklen_t n = sizeof(e->address);
    if (fd < 0)
        return err_set(err, ERR_INTERNAL, "socket: %s", strerror(errno));
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (bind(fd, (struct sockaddr *)&e->address, n) < 0 || listen(fd, BACKLOG) < 0 ||
        getsockname(fd, (struct sockaddr *)&e->address, &n) < 0) {
        int saved = errno;
        close(fd);
        return err_set(err, ERR_UNAVAILABLE, "can't listen: %s", strerror(saved));
    }
    if (loop_fd_add(e->loop, fd, EPOLLIN, on_listen, e, err) < 0) {
        close(fd);
        return -1;
    }
    e->listen_fd = fd;
    return 0;
}

static void close_socket(struct endpoint *e)
{
    if (e->listen_fd < 0)
        return;
    loop_fd_del(e->loop, e->listen_fd);
    close(e->listen_fd);
    e->listen_fd = -1;
}

static void on_reopen(void *ctx)
{
    struct endpoint *e = ctx;
    struct err err;
    if (e->listen_fd < 0 && open_socket(e, &err) < 0)
        (void)loop_timer_set(e->loop, &e->reopen_timer, REOPEN_MS, &err);
}

int endpoint_down(struct endpoint *e, int64_t ms, bool refuse, struct err *err)
{
    e->down_until_ms = clock_mono_ms() + ms;
    if (!refuse)
        return 0;
    close_socket(e);
    return loop_timer_set(e->loop, &e->reopen_timer, ms, err);
}

/* ---- life ---- */

static int parse_listen(const char *listen, struct sockaddr_in *out, struct err *err)
{
    const char *colon = strrchr(listen, ':');
    char *host = colon ? str_dupn(listen, (size_t)(colon - listen)) : NULL;
    int64_t port = -1;
    struct in_addr ip;
    bool ok = host && inet_pton(AF_INET, host, &ip) == 1 && str_to_i64(colon + 1, &port) &&
              port >= 0 && port <= 65535;
    free(host);
    if (!ok)
        return err_set(err, ERR_INVALID, "--listen wants an IPv4 address and a port, 127.0.0.1:0");
    *out = (struct sockaddr_in){
        .sin_family = AF_INET, .sin_addr = ip, .sin_port = htons((uint16_t)port)};
    return 0;
}

static int start_daemon(struct endpoint *e, struct err *err)
{
    e->daemon = MHD_start_daemon(
        MHD_USE_EPOLL | MHD_USE_NO_LISTEN_SOCKET | MHD_ALLOW_SUSPEND_RESUME, 0, NULL, NULL,
        on_request, e, MHD_OPTION_CONNECTION_LIMIT, (unsigned)STANDIN_CONNECTIONS_MAX,
        MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)IDLE_S, MHD_OPTION_NOTIFY_COMPLETED, on_completed,
        NULL, MHD_OPTION_END);
    if (!e->daemon)
        return err_set(err, ERR_INTERNAL, "libmicrohttpd does not start");
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(e->daemon, MHD_DAEMON_INFO_EPOLL_FD);
    if (!info)
        return err_set(err, ERR_INTERNAL, "libmicrohttpd has no epoll");
    e->daemon_fd = info->epoll_fd;
    if (loop_fd_add(e->loop, e->daemon_fd, EPOLLIN, on_daemon, e, err) < 0)
        return -1;
    return loop_before_sleep(e->loop, before_sleep, e, err);
}

struct endpoint *endpoint_new(struct loop *loop, const struct endpoint_options *options,
                              struct err *err)
{
    struct endpoint *e = calloc(1, sizeof(*e));
    if (!e) {
        err_nomem(err);
        return NULL;
    }
    e->loop = loop;
    e->dialect = options->dialect;
    e->listen_fd = e->daemon_fd = -1;
    e->run_timer.fn = on_run_timer;
    e->reopen_timer.fn = on_reopen;
    e->run_timer.ctx = e->reopen_timer.ctx = e;
    e->store = e->dialect->new (options->token, options->profile);
    e->faults = faults_new();
    e->journal = journal_new();
    bool whole = e->store && e->faults && e->journal;
    if (!whole)
        err_nomem(err);
    bool ready = whole && (!e->dialect->attach || e->dialect->attach(e->store, loop, err) == 0);
    if (!ready || parse_listen(options->listen, &e->address, err) < 0 || start_daemon(e, err) < 0 ||
        open_socket(e, err) < 0) {
        endpoint_free(e);
        return NULL;
    }
    return e;
}

void endpoint_free(struct endpoint *e)
{
    if (!e)
        return;
    close_socket(e);
    loop_timer_cancel(e->loop, &e->reopen_timer);
    loop_timer_cancel(e->loop, &e->run_timer);
    while (e->asleep) {
        e->asleep->cut = true;
        wake(e->asleep);
    }
    if (e->daemon_fd >= 0) {
        loop_fd_del(e->loop, e->daemon_fd);
        loop_before_sleep_del(e->loop, before_sleep, e);
    }
    if (e->daemon) {
        MHD_run(e->daemon); /* lets resumed connections end */
        MHD_stop_daemon(e->daemon);
    }
    e->dialect->free(e->store);
    faults_free(e->faults);
    journal_free(e->journal);
    free(e);
}

int endpoint_port(const struct endpoint *e)
{
    return ntohs(e->address.sin_port);
}

const struct dialect *endpoint_dialect(const struct endpoint *e)
{
    return e->dialect;
}

void *endpoint_store(struct endpoint *e)
{
    return e->store;
}

struct faults *endpoint_faults(struct endpoint *e)
{
    return e->faults;
}

struct journal *endpoint_journal(struct endpoint *e)
{
    return e->journal;
}
