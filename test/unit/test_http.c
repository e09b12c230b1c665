#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/str.h"
#include "net/http.h"

static struct loop *loop;
static struct http *http;

/* A name that takes long to resolve: libcurl's resolver thread comes by here. */
int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
                struct addrinfo **out)
{
    int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
    if (node && strcmp(node, "slow.test") == 0) {
        usleep(700 * 1000);
        return EAI_AGAIN;
    }
    *(void **)&real = dlsym(RTLD_NEXT, "getaddrinfo");
    return real(node, service, hints, out);
}

/* A kernel that watches no more descriptors (max_user_watches). */
static bool watches_exhausted;

int epoll_ctl(int epoll, int op, int fd, struct epoll_event *event)
{
    if (watches_exhausted && op == EPOLL_CTL_ADD) {
        errno = ENOSPC;
        return -1;
    }
    return (int)syscall(SYS_epoll_ctl, epoll, op, fd, event);
}

/* ---- a scripted server on the same loop ---- */

enum { CONNS_MAX = 64, REQUEST_MAX = 2 * 1024 * 1024 };

struct server;

struct conn {
    struct server *s;
    int fd; /* -1: closed */
    int requests;
    struct buf in;
};

static struct server {
    int fd, port;
    int accepted, requests;
    struct conn conns[CONNS_MAX];
    void (*answer)(struct server *s, struct conn *c); /* NULL: sends `reply` */
    const void *reply;
    size_t reply_len;
    bool close_after;
    char seen[REQUEST_MAX]; /* the newest request */
} server;

static void conn_close(struct conn *c)
{
    if (c->fd < 0)
        return;
    loop_fd_del(loop, c->fd);
    close(c->fd);
    c->fd = -1;
    buf_done(&c->in);
}

static void conn_write(struct conn *c, const void *p, size_t n)
{
    assert_int_equal(send(c->fd, p, n, MSG_NOSIGNAL), n);
}

/* Bytes of the first request in `in`; 0 while it is not whole. */
static size_t whole_request(const struct buf *in)
{
    const char *end = strstr(buf_str(in), "\r\n\r\n");
    if (!end)
        return 0;
    const char *field = strcasestr(buf_str(in), "content-length:");
    size_t body = field && field < end ? (size_t)strtoul(field + 15, NULL, 10) : 0;
    size_t n = (size_t)(end - buf_str(in)) + 4 + body;
    return in->len >= n ? n : 0;
}

static void on_conn(void *ctx, uint32_t events)
{
    struct conn *c = ctx;
    struct server *s = c->s;
    char chunk[16384];
    (void)events;
    ssize_t n = recv(c->fd, chunk, sizeof chunk, 0);
    if (n <= 0) {
        conn_close(c);
        return;
    }
    assert_int_equal(buf_add(&c->in, chunk, (size_t)n), 0);
    size_t len = whole_request(&c->in);
    if (len == 0)
        return;
    assert_true(str_copy(s->seen, sizeof s->seen, buf_str(&c->in)));
    buf_reset(&c->in);
    c->requests++;
    s->requests++;
    if (s->answer) {
        s->answer(s, c);
        return;
    }
    conn_write(c, s->reply, s->reply_len);
    if (s->close_after)
        conn_close(c);
}

static void on_listen(void *ctx, uint32_t events)
{
    struct server *s = ctx;
    (void)events;
    assert_true(s->accepted < CONNS_MAX);
    struct conn *c = &s->conns[s->accepted];
    c->fd = accept4(s->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (c->fd < 0)
        return;
    s->accepted++;
    c->s = s;
    c->requests = 0;
    buf_init(&c->in, REQUEST_MAX - 1);
    assert_int_equal(loop_fd_add(loop, c->fd, EPOLLIN, on_conn, c, NULL), 0);
}

static int bound_socket(int *port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof a;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&a, n), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &n), 0);
    *port = ntohs(a.sin_port);
    return fd;
}

static void server_start(struct server *s)
{
    memset(s, 0, sizeof *s);
    for (int i = 0; i < CONNS_MAX; i++)
        s->conns[i].fd = -1;
    s->fd = bound_socket(&s->port);
    assert_int_equal(listen(s->fd, 64), 0);
    assert_int_equal(loop_fd_add(loop, s->fd, EPOLLIN, on_listen, s, NULL), 0);
}

static void server_close_listener(struct server *s)
{
    if (s->fd < 0)
        return;
    loop_fd_del(loop, s->fd);
    close(s->fd);
    s->fd = -1;
}

static void server_stop(struct server *s)
{
    server_close_listener(s);
    for (int i = 0; i < s->accepted; i++)
        conn_close(&s->conns[i]);
}

static void server_says(const char *reply, bool close_after)
{
    server.answer = NULL;
    server.reply = reply;
    server.reply_len = strlen(reply);
    server.close_after = close_after;
}

#define OK_REPLY "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

/* ---- calls ---- */

struct outcome {
    int calls;
    struct exchange_response r;
    char body[4096]; /* its beginning */
    struct http_call *call;
    struct outcome *cancel; /* cancelled from the callback */
};

static int waiting; /* outcomes that the loop runs for */

static void on_done(void *ctx, const struct exchange_response *r)
{
    struct outcome *o = ctx;
    o->calls++;
    o->r = *r;
    (void)str_copy(o->body, sizeof o->body, r->body);
    assert_int_equal(r->body[r->body_len], 0);
    assert_true(r->status != 0 ? r->failure[0] == 0 : r->failure[0] != 0);
    o->r.body = o->body;
    http_cancel(http, o->call); /* in its own callback: nothing happens */
    if (o->cancel)
        http_cancel(http, o->cancel->call);
    if (--waiting <= 0)
        loop_stop(loop);
}

static void on_stop(void *ctx)
{
    (void)ctx;
    loop_stop(loop);
}

static void run_for(int64_t ms)
{
    struct loop_timer stop = {.fn = on_stop};
    assert_int_equal(loop_timer_set(loop, &stop, ms, NULL), 0);
    assert_int_equal(loop_run(loop, NULL), 0);
    loop_timer_cancel(loop, &stop);
}

static void request(struct exchange_request *q, enum exchange_method m, const char *path)
{
    exchange_request_init(q);
    q->method = m;
    q->timeout_ms = 5000;
    (void)snprintf(q->url, sizeof q->url, "http://127.0.0.1:%d%s", server.port, path);
    if (m == METHOD_POST) {
        q->content_type = "application/json";
        assert_int_equal(buf_adds(&q->body, "{\"n\":1}"), 0);
    }
}

static void start(struct outcome *o, struct exchange_request *q)
{
    struct err err;
    *o = (struct outcome){.cancel = o->cancel};
    o->call = http_send(http, q, NULL, on_done, o, &err);
    if (!o->call)
        fail_msg("%s", err.msg);
    assert_int_equal(o->calls, 0);
    exchange_request_done(q);
}

static void finish(int n)
{
    waiting = n;
    run_for(10000);
    assert_true(waiting <= 0);
}

static struct outcome perform(struct exchange_request *q)
{
    struct outcome o = {0};
    start(&o, q);
    finish(1);
    assert_int_equal(o.calls, 1);
    assert_int_equal(http_in_flight(http), 0);
    return o;
}

static struct outcome get(void)
{
    struct exchange_request q;
    request(&q, METHOD_GET, "/");
    return perform(&q);
}

static int set_up(void **state)
{
    (void)state;
    static const struct http_options options = {
        .user_agent = "test/1", .connect_timeout_ms = 1000, .response_max = 4000};
    loop = loop_new(NULL);
    http = http_new(loop, &options, NULL);
    server_start(&server);
    server_says(OK_REPLY, false);
    return http ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    http_free(http);
    server_stop(&server);
    loop_free(loop);
    return 0;
}

/* ---- what goes out ---- */

static void connections_are_reused(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++) {
        struct outcome o = get();
        assert_int_equal(o.r.status, 200);
        assert_true(o.r.sent);
        assert_string_equal(o.body, "ok");
        assert_int_equal(o.r.body_len, 2);
        assert_int_equal(o.r.retry_after_ms, -1);
    }
    assert_int_equal(server.accepted, 1);
    assert_int_equal(server.requests, 3);
}

static void the_request_is_what_was_asked(void **state)
{
    (void)state;
    struct exchange_request q;
    struct outcome o = {0};
    struct err err;
    static const char *const headers[] = {"X-Request-Id: abc", "Idempotency-Key: k1", NULL};
    request(&q, METHOD_POST, "/a/../b%2Fc?d=e");
    q.auth_header = "Authorization";
    q.auth_scheme = "Bearer ";
    q.credential = "s3cret";
    o.call = http_send(http, &q, headers, on_done, &o, &err);
    assert_non_null(o.call);
    assert_null(q.body.data); /* taken */
    assert_int_equal(q.body.len, 0);
    assert_int_equal(http_in_flight(http), 1);
    finish(1);
    char expected[512];
    (void)snprintf(expected, sizeof expected,
                   "POST /a/../b%%2Fc?d=e HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUser-Agent: test/1\r\n"
                   "Accept: */*\r\n",
                   server.port);
    assert_memory_equal(server.seen, expected, strlen(expected));
    assert_non_null(strstr(server.seen, "\r\nContent-Type: application/json\r\n"));
    assert_non_null(strstr(server.seen, "\r\nAuthorization: Bearer s3cret\r\n"));
    assert_non_null(strstr(server.seen, "\r\nX-Request-Id: abc\r\nIdempotency-Key: k1\r\n"));
    assert_non_null(strstr(server.seen, "\r\nContent-Length: 7\r\n"));
    assert_non_null(strstr(server.seen, "gzip"));
    assert_non_null(strstr(server.seen, "\r\n\r\n{\"n\":1}"));
    assert_null(strcasestr(server.seen, "expect"));

    /* The pooled handle forgets everything. */
    (void)get();
    assert_null(strstr(server.seen, "s3cret"));
    assert_null(strcasestr(server.seen, "content-"));
}

static void methods_carry_bodies_where_there_are_some(void **state)
{
    (void)state;
    static const struct {
        enum exchange_method method;
        const char *name, *body;
        bool length;
    } cases[] = {{METHOD_GET, "GET ", "", false},        {METHOD_POST, "POST ", "", true},
                 {METHOD_PUT, "PUT ", "", true},         {METHOD_PUT, "PUT ", "x", true},
                 {METHOD_PATCH, "PATCH ", "{}", true},   {METHOD_DELETE, "DELETE ", "", false},
                 {METHOD_DELETE, "DELETE ", "{}", true}, {METHOD_GET, "GET ", "", false}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct exchange_request q;
        request(&q, cases[i].method, "/");
        buf_reset(&q.body);
        assert_int_equal(buf_adds(&q.body, cases[i].body), 0);
        assert_int_equal(perform(&q).r.status, 200);
        assert_memory_equal(server.seen, cases[i].name, strlen(cases[i].name));
        char length[64];
        (void)snprintf(length, sizeof length, "\r\nContent-Length: %zu\r\n", strlen(cases[i].body));
        assert_int_equal(strstr(server.seen, length) != NULL, cases[i].length);
        const char *end = strstr(server.seen, "\r\n\r\n");
        assert_non_null(end);
        assert_string_equal(end + 4, cases[i].body);
    }
    assert_int_equal(server.accepted, 1);
}

static void a_large_body_arrives_whole_without_a_pause(void **state)
{
    (void)state;
    struct exchange_request q;
    request(&q, METHOD_POST, "/");
    buf_reset(&q.body);
    for (int i = 0; i < 120000; i++) /* beyond 1 MiB libcurl likes to ask first */
        assert_int_equal(buf_addf(&q.body, "%09d\n", i), 0);
    int64_t begin = clock_mono_ms();
    assert_int_equal(perform(&q).r.status, 200);
    assert_true(clock_mono_ms() - begin < 900); /* no wait for 100 Continue */
    assert_string_equal(server.seen + strlen(server.seen) - 20, "000119998\n000119999\n");
}

static void what_cannot_be_sent_is_refused_at_once(void **state)
{
    (void)state;
    struct exchange_request q;
    struct err err;
    struct outcome o = {0};
    static const char *const bad[][2] = {
        {"X: a\r\nY: b", NULL}, {"no colon", NULL}, {"X: \x7f", NULL}};
    request(&q, METHOD_POST, "/");
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_null(http_send(http, &q, bad[i], on_done, &o, &err));
        assert_int_equal(err.class, ERR_INVALID);
    }
    q.auth_header = "Authorization";
    assert_null(http_send(http, &q, NULL, on_done, &o, &err));
    q.credential = "s3cret\r\nX: y";
    assert_null(http_send(http, &q, NULL, on_done, &o, &err));
    assert_int_equal(err.class, ERR_INVALID);
    assert_null(strstr(err.msg, "s3cret"));
    q.auth_header = NULL;
    static const char *const urls[] = {"file:///etc/passwd", "127.0.0.1", ""};
    for (size_t i = 0; i < ARRAY_LEN(urls); i++) {
        (void)str_copy(q.url, sizeof q.url, urls[i]);
        assert_null(http_send(http, &q, NULL, on_done, &o, &err));
        assert_int_equal(err.class, ERR_INVALID);
    }
    assert_string_equal(buf_str(&q.body), "{\"n\":1}"); /* as it was */
    exchange_request_done(&q);
    assert_int_equal(http_in_flight(http), 0);
}

static void no_proxy_is_taken_from_the_environment(void **state)
{
    (void)state;
    setenv("http_proxy", "http://127.0.0.1:1", 1);
    setenv("ALL_PROXY", "http://127.0.0.1:1", 1);
    assert_int_equal(get().r.status, 200);
    unsetenv("http_proxy");
    unsetenv("ALL_PROXY");
}

/* ---- what comes back ---- */

static void compressed_bodies_are_unpacked_within_the_bound(void **state)
{
    (void)state;
    static const unsigned char gzip_hello[] = {0x1f, 0x8b, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00,
                                               0x02, 0xff, 0xcb, 0x48, 0xcd, 0xc9, 0xc9, 0xd7,
                                               0x51, 0x48, 0xaf, 0xca, 0x2c, 0x00, 0x00, 0x4a,
                                               0x9b, 0xb1, 0x5c, 0x0b, 0x00, 0x00, 0x00};
    static const unsigned char gzip_bomb[] = {
        0x1f, 0x8b, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0xff, 0xed, 0xc1, 0x01, 0x01,
        0x00, 0x00, 0x00, 0x80, 0x90, 0xfe, 0xaf, 0xee, 0x08, 0x0a, 0x00, 0x00, 0x00, 0x00,
        0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x00, 0x00, 0x00, 0x6a, 0xeb, 0x8e, 0x97, 0xd7, 0x00, 0x00, 0x01, 0x00};

    static char reply[1024];
    int n = snprintf(reply, sizeof reply,
                     "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %zu\r\n\r\n",
                     sizeof gzip_hello);
    memcpy(reply + n, gzip_hello, sizeof gzip_hello);
    server.reply = reply;
    server.reply_len = (size_t)n + sizeof gzip_hello;
    assert_string_equal(get().body, "hello, gzip");

    n = snprintf(reply, sizeof reply,
                 "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %zu\r\n\r\n",
                 sizeof gzip_bomb);
    memcpy(reply + n, gzip_bomb, sizeof gzip_bomb);
    server.reply_len = (size_t)n + sizeof gzip_bomb;
    struct outcome o = get();
    assert_int_equal(o.r.status, 200);
    assert_true(o.r.truncated);
    assert_int_equal(o.r.body_len, 0);
}

static void bodies_are_capped(void **state)
{
    (void)state;
    static char reply[8192];
    for (size_t size = 4000; size <= 4001; size++) {
        int n =
            snprintf(reply, sizeof reply, "HTTP/1.1 404 No\r\nContent-Length: %zu\r\n\r\n", size);
        memset(reply + n, 'x', size);
        server.reply = reply;
        server.reply_len = (size_t)n + size;
        struct outcome o = get();
        assert_int_equal(o.r.status, 404);
        assert_true(o.r.sent);
        assert_int_equal(o.r.truncated, size > 4000);
        assert_int_equal(o.r.body_len, size > 4000 ? 0 : size);
    }
}

static void broken_answers_have_no_status(void **state)
{
    (void)state;
    static const char *const replies[] = {
        "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        "SSH-2.0-OpenSSH_9.2\r\n",
        "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnope",
        "HTTP/1.1 2",
        "HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
        "\x16\x03\x01\x02",
        "",
    };
    for (size_t i = 0; i < ARRAY_LEN(replies); i++) {
        server_says(replies[i], true);
        struct outcome o = get();
        print_message("%zu: %s\n", i, o.r.failure);
        assert_int_equal(o.r.status, 0);
        assert_true(o.r.sent);
        assert_string_equal(o.body, "");
    }
}

static void headers_of_the_last_answer_count(void **state)
{
    (void)state;
    server_says("HTTP/1.1 103 Early\r\nRetry-After: 9\r\nX-Request-Id: no\r\n\r\n"
                "HTTP/1.1 201 Created\r\nContent-Type: Application/JSON; charset=UTF-8\r\n"
                "X-Request-ID:  id\x01\xff-7 \r\nauthorization: a-session\r\nTransfer-Encoding: "
                "chunked\r\n\r\n"
                "2\r\n{}\r\n0\r\nRetry-After: 5\r\n\r\n",
                false);
    struct outcome o = get();
    assert_int_equal(o.r.status, 201);
    assert_string_equal(o.body, "{}");
    assert_string_equal(o.r.content_type, "application/json");
    assert_string_equal(o.r.request_id, "id-7");
    assert_string_equal(o.r.authorization, "a-session");
    assert_int_equal(o.r.retry_after_ms, -1);
}

/* The journal keeps the URL: what it must not have is sent all the same. */
static void the_end_of_a_url(void **state)
{
    (void)state;
    struct exchange_request q;
    struct err err;
    request(&q, METHOD_GET, "/keys/");
    q.url_secret = "tok-en_1.~";
    (void)perform(&q);
    assert_true(str_starts(server.seen, "GET /keys/tok-en_1.~ HTTP/1.1\r\n"));
    request(&q, METHOD_GET, "/keys/");
    q.url_secret = "a/b";
    assert_null(http_send(http, &q, NULL, on_done, NULL, &err));
    assert_int_equal(err.class, ERR_INVALID);
    exchange_request_done(&q);
}

static int64_t retry_after(const char *value)
{
    static char reply[256];
    (void)snprintf(reply, sizeof reply,
                   "HTTP/1.1 503 Busy\r\nRetry-After: %s\r\nContent-Length: 0\r\n\r\n", value);
    server_says(reply, false);
    struct outcome o = get();
    assert_int_equal(o.r.status, 503);
    return o.r.retry_after_ms;
}

static void retry_after_comes_in_two_forms(void **state)
{
    (void)state;
    char date[64];
    time_t then = time(NULL) + 90;
    struct tm tm;
    assert_true(strftime(date, sizeof date, "%a, %d %b %Y %H:%M:%S GMT", gmtime_r(&then, &tm)) > 0);
    int64_t ms = retry_after(date);
    assert_true(ms > 85000 && ms <= 90000);
    assert_int_equal(retry_after("120"), 120000);
    assert_int_equal(retry_after("0"), 0);
    assert_int_equal(retry_after("Wed, 21 Oct 2015 07:28:00 GMT"), 0);
    assert_int_equal(retry_after("-1"), -1);
    assert_int_equal(retry_after("soon"), -1);
    assert_int_equal(retry_after(""), -1);
    assert_int_equal(retry_after("99999999999999999999999"), -1);
    assert_int_equal(retry_after("9999999999999"), INT64_C(365) * 24 * 3600 * 1000);
}

static void redirects_are_not_followed(void **state)
{
    (void)state;
    server_says("HTTP/1.1 307 Go\r\nLocation: /there\r\nContent-Length: 0\r\n\r\n", false);
    assert_int_equal(get().r.status, 307);
    assert_int_equal(server.requests, 1);
}

/* ---- was it sent? ---- */

static void answer_nothing(struct server *s, struct conn *c)
{
    (void)s;
    (void)c;
}

static void a_silent_server_got_the_request(void **state)
{
    (void)state;
    struct exchange_request q;
    server.answer = answer_nothing;
    request(&q, METHOD_POST, "/");
    q.timeout_ms = 100;
    int64_t begin = clock_mono_ms();
    struct outcome o = perform(&q);
    assert_in_range(clock_mono_ms() - begin, 100, 2000);
    assert_int_equal(o.r.status, 0);
    assert_true(o.r.sent);
    assert_int_equal(server.requests, 1);
}

static void a_refused_connection_sends_nothing(void **state)
{
    (void)state;
    struct exchange_request q;
    server_close_listener(&server);
    request(&q, METHOD_POST, "/");
    struct outcome o = perform(&q);
    assert_int_equal(o.r.status, 0);
    assert_false(o.r.sent);
    assert_non_null(strstr(o.r.failure, "connect"));
}

static void a_full_backlog_sends_nothing(void **state)
{
    (void)state;
    enum { FILLERS = 8 };
    int port, fillers[FILLERS], fd = bound_socket(&port);
    assert_int_equal(listen(fd, 0), 0);
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_port = htons((uint16_t)port),
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    for (int i = 0; i < FILLERS; i++) {
        fillers[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (connect(fillers[i], (struct sockaddr *)&a, sizeof a) != 0)
            assert_int_equal(errno, EINPROGRESS);
    }
    struct exchange_request q;
    request(&q, METHOD_POST, "/");
    (void)snprintf(q.url, sizeof q.url, "http://127.0.0.1:%d/", port);
    q.timeout_ms = 150;
    struct outcome o = perform(&q);
    assert_int_equal(o.r.status, 0);
    assert_false(o.r.sent);
    for (int i = 0; i < FILLERS; i++)
        close(fillers[i]);
    close(fd);
}

static void a_socket_that_cannot_be_watched_fails_its_call_alone(void **state)
{
    (void)state;
    struct exchange_request q;
    watches_exhausted = true;
    request(&q, METHOD_GET, "/");
    struct outcome o = perform(&q);
    watches_exhausted = false;
    assert_int_equal(o.r.status, 0);
    assert_false(o.r.sent);
    assert_string_equal(o.r.failure, "its socket could not be watched");
    assert_int_equal(get().r.status, 200);
}

static void a_name_that_is_slow_to_resolve_does_not_hold_the_loop(void **state)
{
    (void)state;
    struct exchange_request q;
    request(&q, METHOD_GET, "/");
    (void)str_copy(q.url, sizeof q.url, "http://slow.test/");
    q.timeout_ms = 100;
    int64_t begin = clock_mono_ms();
    struct outcome o = perform(&q);
    assert_in_range(clock_mono_ms() - begin, 100, 500);
    assert_int_equal(o.r.status, 0);
    assert_false(o.r.sent);

    request(&q, METHOD_GET, "/");
    (void)str_copy(q.url, sizeof q.url, "http://slow.test/");
    begin = clock_mono_ms();
    start(&o, &q);
    run_for(20);
    http_cancel(http, o.call);
    assert_in_range(clock_mono_ms() - begin, 20, 400);
    usleep(800 * 1000); /* the resolver's threads clean up after themselves */
}

/* Answers a connection's first request; reads the second and closes. */
static void answer_once(struct server *s, struct conn *c)
{
    (void)s;
    if (c->requests == 1)
        conn_write(c, OK_REPLY, strlen(OK_REPLY));
    else
        conn_close(c);
}

/*
 * The trap that fresh_connection exists for: the server has read (and may have carried out) the
 * POST on a reused connection; libcurl repeats it and reports the second one's success.
 */
static void libcurl_repeats_a_post_on_a_reused_connection(void **state)
{
    (void)state;
    struct exchange_request q;
    server.answer = answer_once;
    assert_int_equal(get().r.status, 200);
    request(&q, METHOD_POST, "/create");
    struct outcome o = perform(&q);
    assert_int_equal(o.r.status, 200);
    assert_int_equal(server.requests, 3); /* the GET and two POSTs for one asked */
    assert_int_equal(server.accepted, 2);
}

static void answer_get_only(struct server *s, struct conn *c)
{
    if (str_starts(s->seen, "GET "))
        conn_write(c, OK_REPLY, strlen(OK_REPLY));
    else
        conn_close(c);
}

static void a_fresh_connection_sends_a_post_once(void **state)
{
    (void)state;
    struct exchange_request q;
    server.answer = answer_get_only;
    assert_int_equal(get().r.status, 200);
    request(&q, METHOD_POST, "/create");
    q.fresh_connection = true;
    struct outcome o = perform(&q);
    assert_int_equal(o.r.status, 0);
    assert_true(o.r.sent);
    assert_int_equal(server.requests, 2);
    assert_int_equal(server.accepted, 2);
}

static void a_fresh_connection_is_reused_afterwards(void **state)
{
    (void)state;
    struct exchange_request q;
    request(&q, METHOD_POST, "/create");
    q.fresh_connection = true;
    assert_int_equal(perform(&q).r.status, 200);
    assert_int_equal(get().r.status, 200);
    assert_int_equal(server.accepted, 1);
}

static void answer_once_then_vanish(struct server *s, struct conn *c)
{
    if (c->requests == 2)
        server_close_listener(s);
    answer_once(s, c);
}

/* libcurl's own second attempt is refused: what the first sent must not be forgotten. */
static void a_refused_repetition_was_sent_all_the_same(void **state)
{
    (void)state;
    struct exchange_request q;
    server.answer = answer_once_then_vanish;
    assert_int_equal(get().r.status, 200);
    request(&q, METHOD_POST, "/create");
    struct outcome o = perform(&q);
    assert_int_equal(o.r.status, 0);
    assert_int_equal(server.requests, 2);
    assert_true(o.r.sent);
}

/* ---- cancelling ---- */

static void a_call_may_be_cancelled_at_every_stage(void **state)
{
    (void)state;
    struct exchange_request q;
    struct outcome o = {0};
    server.answer = answer_nothing;
    request(&q, METHOD_POST, "/");
    start(&o, &q);
    http_cancel(http, o.call); /* before libcurl has begun */
    run_for(20);
    assert_int_equal(server.accepted, 0);

    request(&q, METHOD_POST, "/");
    start(&o, &q);
    run_for(40); /* the server has read it */
    assert_int_equal(server.requests, 1);
    http_cancel(http, o.call);
    run_for(20);
    assert_int_equal(o.calls, 0);
    assert_int_equal(http_in_flight(http), 0);

    server_says("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart", false);
    request(&q, METHOD_GET, "/");
    start(&o, &q);
    run_for(40); /* amid the body */
    http_cancel(http, o.call);
    run_for(20);
    assert_int_equal(o.calls, 0);
    http_cancel(http, NULL);

    server_says(OK_REPLY, false);
    assert_int_equal(get().r.status, 200);
}

/* Each of two calls cancels the other; both may be finished inside libcurl already. */
static void a_callback_may_cancel_another_call(void **state)
{
    (void)state;
    struct exchange_request q;
    for (int i = 0; i < 20; i++) {
        struct outcome a = {0}, b = {0};
        a.cancel = &b;
        b.cancel = &a;
        request(&q, METHOD_GET, "/");
        start(&a, &q);
        request(&q, METHOD_GET, "/");
        start(&b, &q);
        finish(1);
        run_for(5);
        assert_int_equal(a.calls + b.calls, 1);
        assert_int_equal(http_in_flight(http), 0);
    }
}

static void free_in_callback(void *ctx, const struct exchange_response *r)
{
    struct outcome *o = ctx;
    o->calls++;
    http_free(http);
    http = NULL;
    assert_int_equal(r->status, 200);
    assert_string_equal(r->body, "ok");
    loop_stop(loop);
}

static void the_client_may_be_freed_with_calls_under_way(void **state)
{
    (void)state;
    struct exchange_request q;
    struct outcome silent = {0}, last = {0};
    struct server *s = &server;
    request(&q, METHOD_GET, "/");
    s->answer = answer_nothing;
    start(&silent, &q);
    run_for(30);
    server_says(OK_REPLY, false);
    request(&q, METHOD_GET, "/");
    assert_non_null(http_send(http, &q, NULL, free_in_callback, &last, NULL));
    run_for(5000);
    assert_int_equal(last.calls, 1);
    assert_int_equal(silent.calls, 0);
    assert_null(http);
    run_for(10);
    http_free(NULL);
}

static int chain_left;

static void send_again(void *ctx, const struct exchange_response *r)
{
    struct exchange_request q;
    assert_int_equal(r->status, 200);
    if (--chain_left == 0) {
        loop_stop(loop);
        return;
    }
    request(&q, METHOD_GET, "/");
    assert_non_null(http_send(http, &q, NULL, send_again, ctx, NULL));
}

static void a_callback_may_send(void **state)
{
    (void)state;
    struct exchange_request q;
    chain_left = 50;
    request(&q, METHOD_GET, "/");
    assert_non_null(http_send(http, &q, NULL, send_again, NULL, NULL));
    run_for(5000);
    assert_int_equal(chain_left, 0);
    assert_int_equal(server.accepted, 1);
}

static void many_calls_run_at_once(void **state)
{
    (void)state;
    enum { N = 60 };
    static struct outcome outcomes[N];
    for (int round = 0; round < 5; round++) {
        for (int i = 0; i < N; i++) {
            struct exchange_request q;
            request(&q, METHOD_GET, "/");
            start(&outcomes[i], &q);
        }
        assert_int_equal(http_in_flight(http), N);
        finish(N);
        for (int i = 0; i < N; i++)
            assert_int_equal(outcomes[i].r.status, 200);
    }
    assert_in_range(server.accepted, 1, CONNS_MAX);
    assert_int_equal(server.requests, 5 * N);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(connections_are_reused),
        CASE(the_request_is_what_was_asked),
        CASE(methods_carry_bodies_where_there_are_some),
        CASE(a_large_body_arrives_whole_without_a_pause),
        CASE(what_cannot_be_sent_is_refused_at_once),
        CASE(no_proxy_is_taken_from_the_environment),
        CASE(compressed_bodies_are_unpacked_within_the_bound),
        CASE(bodies_are_capped),
        CASE(broken_answers_have_no_status),
        CASE(headers_of_the_last_answer_count),
        CASE(the_end_of_a_url),
        CASE(retry_after_comes_in_two_forms),
        CASE(redirects_are_not_followed),
        CASE(a_silent_server_got_the_request),
        CASE(a_refused_connection_sends_nothing),
        CASE(a_full_backlog_sends_nothing),
        CASE(a_socket_that_cannot_be_watched_fails_its_call_alone),
        CASE(a_name_that_is_slow_to_resolve_does_not_hold_the_loop),
        CASE(libcurl_repeats_a_post_on_a_reused_connection),
        CASE(a_fresh_connection_sends_a_post_once),
        CASE(a_fresh_connection_is_reused_afterwards),
        CASE(a_refused_repetition_was_sent_all_the_same),
        CASE(a_call_may_be_cancelled_at_every_stage),
        CASE(a_callback_may_cancel_another_call),
        CASE(the_client_may_be_freed_with_calls_under_way),
        CASE(a_callback_may_send),
        CASE(many_calls_run_at_once),
    };
    alarm(100);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
