#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/str.h"
#include "net/http.h"
#include "net/httpd.h"

static struct loop *loop;
static struct httpd *httpd;

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

/* ---- handlers ---- */

enum { LATE_MAX = 600 };

static struct httpd_request *late[LATE_MAX];
static size_t n_late;
static size_t body_seen;

static void hello(void *ctx, struct httpd_request *r, const char *path, const char *body,
                  size_t body_len)
{
    (void)path;
    (void)body;
    (void)body_len;
    httpd_reply(r, 200, "text/plain", ctx, strlen(ctx));
}

static void echo(void *ctx, struct httpd_request *r, const char *path, const char *body,
                 size_t body_len)
{
    struct buf out;
    const char *token = httpd_header(r, "x-token");
    (void)ctx;
    assert_int_equal(body[body_len], 0);
    assert_null(httpd_header(r, "absent"));
    body_seen = body_len;
    buf_init(&out, 4096);
    (void)buf_addf(&out, "%s|%s|%.100s", path, token ? token : "-", body);
    httpd_reply(r, 202, NULL, out.data, out.len);
    httpd_reply(r, 500, NULL, "", 0); /* once answered, answered */
    buf_done(&out);
}

static void later(void *ctx, struct httpd_request *r, const char *path, const char *body,
                  size_t body_len)
{
    (void)ctx;
    (void)path;
    (void)body;
    (void)body_len;
    assert_true(n_late < LATE_MAX);
    late[n_late++] = r;
}

static void release(void *ctx, struct httpd_request *r, const char *path, const char *body,
                    size_t body_len)
{
    while (n_late > 0)
        httpd_reply(late[--n_late], 200, "text/plain", "at last", 7);
    echo(ctx, r, path, body, body_len);
}

static char greeting[] = "hello\n";

static const struct httpd_route routes[] = {
    {"GET", "/hello", hello, greeting}, {"POST", "/hello", echo, NULL},
    {"POST", "/hooks/*", echo, NULL},   {"PATCH", "/hooks/*", echo, NULL},
    {"GET", "/late", later, NULL},      {"POST", "/release", release, NULL},
};

static int set_up(void **state)
{
    struct err err;
    (void)state;
    n_late = 0;
    loop = loop_new(NULL);
    httpd = httpd_new(loop, "127.0.0.1:0", routes, ARRAY_LEN(routes), &err);
    if (!httpd)
        fail_msg("%s", err.msg);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    httpd_free(httpd);
    loop_free(loop);
    return 0;
}

/* ---- a raw client on the same loop ---- */

struct client {
    int fd;
    bool closed;
    struct buf in;
    const char *until; /* stop the loop when this has come */
    const char *out;   /* left to send */
    size_t out_len;
};

static bool client_done(const struct client *c)
{
    return c->closed || (c->until && strstr(buf_str(&c->in), c->until));
}

static void on_client(void *ctx, uint32_t events)
{
    struct client *c = ctx;
    char chunk[4096];
    if ((events & EPOLLOUT) && c->out_len > 0) {
        ssize_t n = send(c->fd, c->out, c->out_len, MSG_NOSIGNAL);
        if (n > 0) {
            c->out += n;
            c->out_len -= (size_t)n;
        }
    }
    if (c->out_len == 0)
        assert_int_equal(loop_fd_mod(loop, c->fd, EPOLLIN, NULL), 0);
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
        ssize_t n = recv(c->fd, chunk, sizeof chunk, 0);
        if (n > 0)
            assert_int_equal(buf_add(&c->in, chunk, (size_t)n), 0);
        else if (n == 0 || errno != EAGAIN)
            c->closed = true;
    }
    if (c->closed)
        loop_fd_del(loop, c->fd);
    if (client_done(c))
        loop_stop(loop);
}

static void client_open(struct client *c)
{
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_port = htons((uint16_t)httpd_port(httpd)),
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    memset(c, 0, sizeof *c);
    buf_init(&c->in, 1 << 20);
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(c->fd, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(fcntl(c->fd, F_SETFL, O_NONBLOCK), 0);
    assert_int_equal(loop_fd_add(loop, c->fd, EPOLLIN, on_client, c, NULL), 0);
}

static void client_close(struct client *c)
{
    if (c->fd < 0)
        return;
    loop_fd_del(loop, c->fd);
    close(c->fd);
    c->fd = -1;
    buf_done(&c->in);
}

static void client_send(struct client *c, const char *p, size_t n)
{
    c->out = p;
    c->out_len = n;
    assert_int_equal(loop_fd_mod(loop, c->fd, EPOLLIN | EPOLLOUT, NULL), 0);
}

/* Sends, and runs until `until` has come (or the server closes). */
static const char *talk(struct client *c, const char *request, const char *until)
{
    c->until = until;
    client_send(c, request, strlen(request));
    run_for(3000);
    return buf_str(&c->in);
}

static void expect(const char *request, const char *status, const char *text)
{
    struct client c;
    client_open(&c);
    const char *answer = talk(&c, request, text);
    if (!str_starts(answer, status) || !strstr(answer, text))
        fail_msg("wanted %s with %s, got: %s", status, text, answer);
    client_close(&c);
}

#define HOST "Host: x\r\n"

/* ---- cases ---- */

static void routes_are_served(void **state)
{
    (void)state;
    expect("GET /hello HTTP/1.1\r\n" HOST "\r\n", "HTTP/1.1 200 ", "\r\n\r\nhello\n");
    expect("GET /hello?a=b HTTP/1.1\r\n" HOST "\r\n", "HTTP/1.1 200 ", "\r\n\r\nhello\n");
    expect("POST /hooks/waldur HTTP/1.1\r\n" HOST "X-Token: t0k\r\nContent-Length: 4\r\n\r\nbody",
           "HTTP/1.1 202 ", "/hooks/waldur|t0k|body");
    expect("POST /hooks/ HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n"
           "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
           "HTTP/1.1 202 ", "/hooks/|-|abcde");
    expect("POST /hooks/x HTTP/1.1\r\n" HOST "Content-Length: 0\r\n\r\n", "HTTP/1.1 202 ",
           "/hooks/x|-|");
}

static void head_is_get_without_a_body(void **state)
{
    (void)state;
    struct client c;
    client_open(&c);
    (void)talk(&c, "HEAD /hello HTTP/1.1\r\n" HOST "\r\n", "\r\n\r\n");
    run_for(20);
    const char *answer = buf_str(&c.in);
    assert_true(str_starts(answer, "HTTP/1.1 200 "));
    assert_non_null(strstr(answer, "Content-Length: 6\r\n"));
    assert_non_null(strstr(answer, "Content-Type: text/plain\r\n"));
    assert_string_equal(strstr(answer, "\r\n\r\n"), "\r\n\r\n");
    client_close(&c);
}

static void refusals_are_json(void **state)
{
    (void)state;
    expect("GET /nowhere HTTP/1.1\r\n" HOST "\r\n", "HTTP/1.1 404 ",
           "\r\n\r\n{\"error\":\"not found\"}");
    expect("GET /hello/ HTTP/1.1\r\n" HOST "\r\n", "HTTP/1.1 404 ",
           "Content-Type: application/json");
    expect("DELETE /hello HTTP/1.1\r\n" HOST "\r\n", "HTTP/1.1 405 ", "Allow: GET, HEAD, POST\r\n");
    expect("GET /hooks/a HTTP/1.1\r\n" HOST "\r\n", "HTTP/1.1 405 ",
           "{\"error\":\"method not allowed\"}");
    /* The body of a refused request is no request of its own. */
    expect("PATCH /nowhere HTTP/1.1\r\n" HOST "Content-Length: 36\r\n\r\n"
           "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n12345"
           "GET /hooks/z HTTP/1.1\r\n" HOST "\r\n",
           "HTTP/1.1 404 ", "HTTP/1.1 405 ");
    expect("GET /hello HTTP/1.1\r\n\r\n", "HTTP/1.1 400 ", "\r\n\r\n"); /* no Host */
}

static void post_of(struct buf *b, size_t n, bool chunked)
{
    buf_init(b, n + 1024);
    if (chunked)
        (void)buf_addf(
            b, "PATCH /hooks/a HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n%zx\r\n", n);
    else
        (void)buf_addf(b, "PATCH /hooks/a HTTP/1.1\r\n" HOST "Content-Length: %zu\r\n\r\n", n);
    for (size_t i = 0; i < n; i++)
        (void)buf_addc(b, 'x');
    if (chunked)
        (void)buf_adds(b, "\r\n0\r\n\r\n");
    assert_false(b->failed);
}

/* Each sends all but the last byte of its body, so that all are held at once. How many are refused?
 */
static int hold_bodies(void)
{
    enum { N = HTTPD_BODIES_MAX / HTTPD_BODY_MAX + 2 };
    static struct client clients[N];
    struct buf b;
    int refused = 0, accepted = 0;
    post_of(&b, HTTPD_BODY_MAX, false);
    for (int i = 0; i < N; i++) {
        client_open(&clients[i]);
        client_send(&clients[i], b.data, b.len - 1);
        while (clients[i].out_len > 0)
            run_for(2);
        run_for(5);
    }
    for (int i = N - 1; i >= 0; i--) {
        const char *answer = talk(&clients[i], "x", "\r\n\r\n");
        refused += str_starts(answer, "HTTP/1.1 503 ");
        accepted += str_starts(answer, "HTTP/1.1 202 ");
        client_close(&clients[i]);
    }
    run_for(20);
    assert_int_equal(refused + accepted, N);
    buf_done(&b);
    return refused;
}

static void bodies_are_capped(void **state)
{
    (void)state;
    for (int chunked = 0; chunked < 2; chunked++) {
        struct buf b;
        body_seen = 0;
        post_of(&b, HTTPD_BODY_MAX, chunked);
        expect(b.data, "HTTP/1.1 202 ", "/hooks/a|-|xxx");
        assert_int_equal(body_seen, HTTPD_BODY_MAX);
        buf_done(&b);

        body_seen = 0;
        post_of(&b, HTTPD_BODY_MAX + 1, chunked);
        expect(b.data, "HTTP/1.1 413 ", "{\"error\":\"the body is too large\"}");
        assert_int_equal(body_seen, 0);
        buf_done(&b);

        struct client c;
        client_open(&c);
        post_of(&b, 9 * HTTPD_BODY_MAX, chunked);
        (void)talk(&c, b.data, NULL);
        assert_true(c.closed);
        client_close(&c);
        buf_done(&b);
    }
    assert_in_range(hold_bodies(), 2, 3); /* what was refused amid its body is not held */
}

static void bodies_are_capped_together(void **state)
{
    (void)state;
    for (int round = 0; round < 3; round++) /* what was held is given back */
        assert_in_range(hold_bodies(), 2, 3);
}

static void answer_late(void *ctx)
{
    (void)ctx;
    while (n_late > 0)
        httpd_reply(late[--n_late], 200, "text/plain", "at last", 7);
}

static void an_answer_may_come_later(void **state)
{
    (void)state;
    struct client c;
    struct loop_timer timer = {.fn = answer_late};
    client_open(&c);
    for (int i = 0; i < 3; i++) {
        buf_reset(&c.in);
        assert_int_equal(loop_timer_set(loop, &timer, 50, NULL), 0);
        int64_t begin = clock_mono_ms();
        assert_non_null(strstr(talk(&c, "GET /late HTTP/1.1\r\n" HOST "\r\n", "at last"), " 200 "));
        assert_in_range(clock_mono_ms() - begin, 45, 1500);
        assert_false(c.closed);
    }
    client_close(&c);
}

static void a_handler_may_answer_another_request(void **state)
{
    (void)state;
    static const char ask[] = "GET /late HTTP/1.1\r\n" HOST "\r\n";
    struct client c;
    client_open(&c);
    client_send(&c, ask, sizeof ask - 1);
    run_for(20);
    assert_int_equal(n_late, 1);
    struct client other;
    client_open(&other);
    client_send(&other, "POST /release HTTP/1.1\r\n" HOST "Content-Length: 0\r\n\r\n",
                strlen("POST /release HTTP/1.1\r\n" HOST "Content-Length: 0\r\n\r\n"));
    c.until = "at last";
    run_for(500);
    run_for(20);
    assert_non_null(strstr(buf_str(&c.in), "at last"));
    assert_non_null(strstr(buf_str(&other.in), "/release|-|"));
    client_close(&c);
    client_close(&other);
}

static void a_client_may_go_before_the_answer(void **state)
{
    (void)state;
    struct client c;
    client_open(&c);
    client_send(&c, "GET /late HTTP/1.1\r\n" HOST "\r\n",
                strlen("GET /late HTTP/1.1\r\n" HOST "\r\n"));
    run_for(20);
    assert_int_equal(n_late, 1);
    client_close(&c);
    run_for(20);
    answer_late(NULL);
    run_for(20);
    expect("GET /hello HTTP/1.1\r\n" HOST "\r\n", "HTTP/1.1 200 ", "hello\n");
}

static void pipelined_requests_are_answered_in_order(void **state)
{
    (void)state;
    enum { N = 50 };
    struct client c;
    struct buf b;
    buf_init(&b, 1 << 16);
    for (int i = 0; i < N; i++)
        (void)buf_addf(&b, "POST /hooks/%03d HTTP/1.1\r\n" HOST "Content-Length: 3\r\n\r\nabc", i);
    client_open(&c);
    int64_t begin = clock_mono_ms();
    const char *at = talk(&c, b.data, "/hooks/049|-|abc");
    assert_true(clock_mono_ms() - begin < 2000);
    for (int i = 0; i < N; i++) {
        char mark[32];
        (void)snprintf(mark, sizeof mark, "/hooks/%03d|-|abc", i);
        at = strstr(at, mark);
        assert_non_null(at);
    }
    assert_false(c.closed);
    client_close(&c);
    buf_done(&b);
}

static void a_late_answer_holds_the_pipeline_only(void **state)
{
    (void)state;
    struct client c;
    client_open(&c);
    client_send(&c, "GET /late HTTP/1.1\r\n" HOST "\r\nGET /hello HTTP/1.1\r\n" HOST "\r\n",
                strlen("GET /late HTTP/1.1\r\n" HOST "\r\nGET /hello HTTP/1.1\r\n" HOST "\r\n"));
    run_for(20);
    assert_int_equal(n_late, 1);
    assert_int_equal(c.in.len, 0);
    expect("GET /hello HTTP/1.1\r\n" HOST "\r\n", "HTTP/1.1 200 ", "hello\n");
    answer_late(NULL);
    c.until = "hello\n";
    run_for(2000);
    assert_non_null(strstr(buf_str(&c.in), "at last"));
    assert_non_null(strstr(buf_str(&c.in), "hello\n"));
    client_close(&c);
}

static int to_come;

static void on_response(void *ctx, const struct exchange_response *r)
{
    (void)ctx;
    assert_int_equal(r->status, 200);
    if (--to_come == 0)
        loop_stop(loop);
}

/* Client and server in one loop, many connections, answers from a timer: nothing gets stuck. */
static void our_own_client_and_server_share_a_loop(void **state)
{
    (void)state;
    enum { ROUNDS = 5, N = 100 };
    struct http *http = http_new(loop, NULL, NULL);
    assert_non_null(http);
    int64_t begin = clock_mono_ms();
    for (int round = 0; round < ROUNDS; round++) {
        to_come = N;
        for (int i = 0; i < N; i++) {
            struct exchange_request q;
            exchange_request_init(&q);
            q.method = METHOD_GET;
            (void)snprintf(q.url, sizeof q.url, "http://127.0.0.1:%d/%s", httpd_port(httpd),
                           i % 2 ? "late" : "hello");
            assert_non_null(http_send(http, &q, NULL, on_response, NULL, NULL));
        }
        struct loop_timer timer = {.fn = answer_late};
        while (to_come > 0) {
            assert_int_equal(loop_timer_set(loop, &timer, 2, NULL), 0);
            run_for(5);
            loop_timer_cancel(loop, &timer);
            assert_true(clock_mono_ms() - begin < 8000);
        }
    }
    http_free(http);
}

/* Beyond the limit, connections wait in the backlog; when others go, they are served. */
static void connections_are_bounded(void **state)
{
    (void)state;
    enum { N = HTTPD_CONNECTIONS_MAX + 20 };
    static struct client clients[N];
    static const char ask[] = "GET /late HTTP/1.1\r\n" HOST "\r\n";
    for (int i = 0; i < N; i++) {
        client_open(&clients[i]);
        client_send(&clients[i], ask, sizeof ask - 1);
        if (i % 50 == 0)
            run_for(2);
    }
    run_for(50);
    assert_int_equal(n_late, HTTPD_CONNECTIONS_MAX);
    answer_late(NULL);
    run_for(20);
    for (int i = 0; i < HTTPD_CONNECTIONS_MAX; i++)
        client_close(&clients[i]);
    run_for(50);
    assert_int_equal(n_late, 20);
    answer_late(NULL);
    run_for(20);
    for (int i = 0; i < N; i++)
        client_close(&clients[i]);
}

static void the_server_may_be_freed_with_requests_unanswered(void **state)
{
    (void)state;
    struct client c, other;
    client_open(&c);
    client_open(&other);
    client_send(&c, "GET /late HTTP/1.1\r\n" HOST "\r\n",
                strlen("GET /late HTTP/1.1\r\n" HOST "\r\n"));
    client_send(&other, "POST /hooks/a HTTP/1.1\r\n" HOST "Content-Length: 9\r\n\r\nhalf",
                strlen("POST /hooks/a HTTP/1.1\r\n" HOST "Content-Length: 9\r\n\r\nhalf"));
    run_for(20);
    assert_int_equal(n_late, 1);
    httpd_free(httpd);
    httpd = NULL;
    run_for(20);
    assert_true(c.closed);
    assert_true(other.closed);
    assert_int_equal(c.in.len, 0);
    client_close(&c);
    client_close(&other);
    httpd_free(NULL);
}

static void an_idle_server_does_not_spin(void **state)
{
    (void)state;
    struct client c;
    struct loop_stats before, after;
    client_open(&c);
    (void)talk(&c, "GET /hello HTTP/1.1\r\n" HOST "\r\n", "hello\n");
    loop_stats_take(loop, &before);
    run_for(100);
    loop_stats_take(loop, &after);
    assert_in_range(after.turns - before.turns, 1, 5);
    client_close(&c);
}

static void listen_addresses(void **state)
{
    (void)state;
    struct err err;
    static const char *const bad[] = {
        "",      "9464",        ":9464",         "127.0.0.1",   "127.0.0.1:",
        "::1:0", "[::1]",       "[::1:0",        "[]:0",        "127.0.0.1:65536",
        "h:-1",  "127.0.0.1:x", "h:0x10",        "[::1]x:9464", "127.0.0.1:+1",
        "[x]:1", "256.0.0.1:0", "h:000000000080"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct httpd *h = httpd_new(loop, bad[i], routes, 1, &err);
        if (h)
            fail_msg("took %s", bad[i]);
        assert_int_equal(err.class, ERR_INVALID);
    }
    char taken[64];
    (void)snprintf(taken, sizeof taken, "127.0.0.1:%d", httpd_port(httpd));
    assert_null(httpd_new(loop, taken, routes, 1, &err));
    assert_int_equal(err.class, ERR_UNAVAILABLE);
    assert_non_null(strstr(err.msg, taken));
    assert_in_range(httpd_port(httpd), 1, 65535);
    struct httpd *named = httpd_new(loop, "localhost:0", routes, 1, &err);
    assert_non_null(named);
    httpd_free(named);
    struct httpd *v6 = httpd_new(loop, "[::1]:0", routes, 1, &err);
    if (!v6)
        print_message("no IPv6 here: %s\n", err.msg);
    else
        assert_in_range(httpd_port(v6), 1, 65535);
    httpd_free(v6);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(routes_are_served),
        CASE(head_is_get_without_a_body),
        CASE(refusals_are_json),
        CASE(bodies_are_capped),
        CASE(bodies_are_capped_together),
        CASE(an_answer_may_come_later),
        CASE(a_handler_may_answer_another_request),
        CASE(a_client_may_go_before_the_answer),
        CASE(pipelined_requests_are_answered_in_order),
        CASE(a_late_answer_holds_the_pipeline_only),
        CASE(our_own_client_and_server_share_a_loop),
        CASE(connections_are_bounded),
        CASE(the_server_may_be_freed_with_requests_unanswered),
        CASE(an_idle_server_does_not_spin),
        CASE(listen_addresses),
    };
    alarm(100);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
