/*
 * libcurl's multi interface on the loop.
 *
 * Was anything sent? Everything after a failed call hangs on this, and CURLINFO_REQUEST_SIZE is
 * what answers it: libcurl adds to it what a write of the request took, headers and body, over all
 * connections tried, and it is 0 until then. The result code does not tell:
 * CURLE_OPERATION_TIMEDOUT is a full backlog as well as a server that accepted and went silent. The
 * times do not tell either: PRETRANSFER is stamped after the request was written, CONNECT is 0 on a
 * reused connection.
 *
 * Who re-sends? libcurl itself: on a reused connection that ends before the first byte of an answer
 * it repeats the request, a POST too, and says nothing. fresh_connection prevents it. Such a
 * connection still goes into the cache afterwards: what reuses it is idempotent (or fresh again,
 * and then does not), and forbidding the reuse would spend a handshake more on every request that
 * follows a create.
 *
 * Re-entrance: libcurl is entered by socket_action (from a descriptor's or the timer's callback),
 * add_handle and remove_handle alone. The callbacks it makes meanwhile only keep books. Done
 * callbacks run after socket_action has returned, so they may send, cancel and free.
 */
#include "net/http.h"

#include <ctype.h>
#include <curl/curl.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/str.h"

enum {
    POOL_MAX = 64,            /* idle easy handles kept, some 30 KiB each */
    CONNECTIONS_MAX = 64,     /* idle connections kept */
    BUFFER_BYTES = 4 * 1024,  /* of each call under way: answers are short, calls are many */
    UPLOAD_BYTES = 16 * 1024, /* the least that libcurl takes; only TLS needs it */
    /* Servers on uvicorn close an idle connection after 5 s: reuse no older one, it is about to go.
     */
    IDLE_MAX_S = 4,
    RETRY_MS = 100,
    DEFAULT_CONNECT_MS = 5000,
    DEFAULT_TIMEOUT_MS = 30000,
};

static const int64_t park_ms = 24 * 3600 * 1000;
static const int64_t retry_after_max_s = 365 * 24 * 3600;

struct http_call {
    struct http *h;
    CURL *easy;
    struct http_call *prev, *next;
    http_done_fn *done;
    void *ctx;
    struct buf request_body;
    struct buf body;
    struct curl_slist *headers; /* holds the credential: wiped */
    bool truncated, no_memory;
    bool unwatched; /* the loop could not watch its socket */
    bool finished;  /* its callback is running */
    char error[CURL_ERROR_SIZE];
};

struct socket_watch {
    struct http *h;
    curl_socket_t fd;
};

struct http {
    struct loop *loop;
    CURLM *multi;
    char *user_agent;
    int64_t connect_timeout_ms, timeout_ms;
    size_t response_max;
    /* Always set, far away when libcurl wants none: setting a set timer cannot fail. */
    struct loop_timer timer;
    struct http_call *calls;
    size_t n_calls;
    bool some_unwatched;
    bool *freed; /* told when a done callback frees the client */
    CURL *pool[POOL_MAX];
    size_t n_pool;
};

/* ---- a call's life ---- */

static void wipe_headers(struct curl_slist *headers)
{
    for (struct curl_slist *l = headers; l; l = l->next)
        explicit_bzero(l->data, strlen(l->data));
    curl_slist_free_all(headers);
}

static void pool_put(struct http *h, CURL *easy)
{
    if (h->n_pool == POOL_MAX) {
        curl_easy_cleanup(easy);
        return;
    }
    curl_easy_reset(easy);
    h->pool[h->n_pool++] = easy;
}

static CURL *pool_take(struct http *h)
{
    return h->n_pool > 0 ? h->pool[--h->n_pool] : curl_easy_init();
}

static void call_free(struct http_call *c)
{
    wipe_headers(c->headers);
    /* Bodies carry variables and keys of subscriptions. */
    if (c->request_body.data)
        explicit_bzero(c->request_body.data, c->request_body.len);
    buf_done(&c->request_body);
    buf_done(&c->body);
    free(c);
}

static void call_link(struct http *h, struct http_call *c)
{
    c->next = h->calls;
    if (c->next)
        c->next->prev = c;
    h->calls = c;
    h->n_calls++;
}

/* Out of libcurl and out of the list. What the easy handle knows stays readable. */
static void call_unlink(struct http_call *c)
{
    struct http *h = c->h;
    curl_multi_remove_handle(h->multi, c->easy);
    if (c->prev)
        c->prev->next = c->next;
    else
        h->calls = c->next;
    if (c->next)
        c->next->prev = c->prev;
    h->n_calls--;
}

/* ---- what came back ---- */

/* Seconds or an HTTP-date (RFC 9110, 10.2.3); -1 for anything else. */
static int64_t parse_retry_after(const char *value)
{
    int64_t s;
    if (!str_to_i64(value, &s)) {
        time_t when = curl_getdate(value, NULL);
        if (when < 0)
            return -1;
        s = (int64_t)when - clock_wall_us() / 1000000;
        if (s < 0)
            s = 0;
    }
    if (s < 0)
        return -1;
    return (s < retry_after_max_s ? s : retry_after_max_s) * 1000;
}

/* The last answer's header, not an interim one's and no trailer. */
static const char *answer_header(CURL *easy, const char *name)
{
    struct curl_header *header;
    return curl_easy_header(easy, name, 0, CURLH_HEADER, -1, &header) == CURLHE_OK ? header->value
                                                                                   : "";
}

/* Printable ASCII alone. */
static void copy_printable(char *dst, size_t size, const char *src)
{
    size_t n = 0;
    for (; *src && n + 1 < size; src++)
        if ((unsigned char)*src >= 0x20 && (unsigned char)*src < 0x7f)
            dst[n++] = *src;
    dst[n] = 0;
}

static void copy_media_type(char *dst, size_t size, const char *src)
{
    char type[128];
    copy_printable(type, sizeof type, src);
    type[strcspn(type, "; ")] = 0;
    for (char *p = type; *p; p++)
        *p = (char)tolower((unsigned char)*p);
    str_copy(dst, size, type);
}

static const char *failure_of(const struct http_call *c, CURLcode code)
{
    if (c->no_memory)
        return "out of memory while reading the answer";
    if (c->unwatched)
        return "its socket could not be watched";
    if (c->error[0])
        return c->error;
    return code == CURLE_OK ? "the answer has no status" : curl_easy_strerror(code);
}

static void response_of(const struct http_call *c, CURLcode code, struct exchange_response *r)
{
    long size = 0, status = 0;
    *r = (struct exchange_response){.body = "", .retry_after_ms = -1};
    curl_easy_getinfo(c->easy, CURLINFO_REQUEST_SIZE, &size);
    r->sent = size > 0;
    /* An answer cut off at our own bound has a status all the same. */
    if (code == CURLE_OK || (code == CURLE_WRITE_ERROR && c->truncated))
        curl_easy_getinfo(c->easy, CURLINFO_RESPONSE_CODE, &status);
    if (status == 0 || c->unwatched) {
        copy_printable(r->failure, sizeof r->failure, failure_of(c, code));
        return;
    }
    r->status = (int)status;
    r->truncated = c->truncated;
    if (!c->truncated) {
        r->body = buf_str(&c->body);
        r->body_len = c->body.len;
    }
    copy_media_type(r->content_type, sizeof r->content_type,
                    answer_header(c->easy, "Content-Type"));
    copy_printable(r->request_id, sizeof r->request_id, answer_header(c->easy, "X-Request-Id"));
    copy_printable(r->authorization, sizeof r->authorization,
                   answer_header(c->easy, "Authorization"));
    r->retry_after_ms = parse_retry_after(answer_header(c->easy, "Retry-After"));
}

/* False when the callback freed the client. */
static bool call_finish(struct http_call *c, CURLcode code)
{
    struct http *h = c->h;
    struct exchange_response response;
    bool freed = false;
    call_unlink(c);
    if (FAULT_FAILS("request/after"))
        code = CURLE_RECV_ERROR;
    response_of(c, code, &response);
    pool_put(h, c->easy);
    c->finished = true;
    h->freed = &freed;
    c->done(c->ctx, &response);
    if (!freed)
        h->freed = NULL;
    call_free(c);
    return !freed;
}

static struct http_call *find_unwatched(const struct http *h)
{
    for (struct http_call *c = h->calls; c; c = c->next)
        /* The list is linked both ways: what was freed has left it.
         * NOLINTNEXTLINE(clang-analyzer-unix.Malloc) */
        if (c->unwatched)
            return c;
    return NULL;
}

/* After libcurl was entered: finishes what is finished. Must be the caller's last use of h. */
static void drain(struct http *h)
{
    const CURLMsg *m;
    int left;
    while ((m = curl_multi_info_read(h->multi, &left))) {
        struct http_call *c = NULL;
        CURLcode code = m->data.result;
        curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&c);
        if (!call_finish(c, code))
            return;
    }
    for (struct http_call *c; h->some_unwatched && (c = find_unwatched(h));)
        if (!call_finish(c, CURLE_ABORTED_BY_CALLBACK))
            return;
    h->some_unwatched = false;
}

/* The caller's last use of h and of what libcurl may free. */
static void enter(struct http *h, curl_socket_t fd, int mask)
{
    int running;
    /* Where memory ends inside libcurl, it does not name its next timeout: look again soon. */
    if (curl_multi_socket_action(h->multi, fd, mask, &running) != CURLM_OK)
        (void)loop_timer_set(h->loop, &h->timer, RETRY_MS, NULL);
    drain(h);
}

/* ---- libcurl's callbacks ---- */

static void on_ready(void *ctx, uint32_t events)
{
    const struct socket_watch *w = ctx;
    int mask = 0;
    if (events & (EPOLLIN | EPOLLHUP))
        mask |= CURL_CSELECT_IN;
    if (events & EPOLLOUT)
        mask |= CURL_CSELECT_OUT;
    if (events & EPOLLERR)
        mask |= CURL_CSELECT_ERR;
    enter(w->h, w->fd, mask);
}

static void on_timeout(void *ctx)
{
    struct http *h = ctx;
    (void)loop_timer_set(h->loop, &h->timer, park_ms, NULL); /* into the place that it just left */
    enter(h, CURL_SOCKET_TIMEOUT, 0);
}

static int on_timer(CURLM *multi, long timeout_ms, void *ctx)
{
    struct http *h = ctx;
    (void)multi;
    (void)loop_timer_set(h->loop, &h->timer, timeout_ms < 0 ? park_ms : timeout_ms, NULL);
    return 0;
}

static int watch_socket(struct http *h, curl_socket_t fd, uint32_t events, struct socket_watch *w)
{
    if (w)
        return loop_fd_mod(h->loop, fd, events, NULL);
    w = malloc(sizeof *w);
    if (!w)
        return -1;
    *w = (struct socket_watch){h, fd};
    if (loop_fd_add(h->loop, fd, events, on_ready, w, NULL) != 0) {
        free(w);
        return -1;
    }
    curl_multi_assign(h->multi, fd, w);
    return 0;
}

static int on_socket(CURL *easy, curl_socket_t fd, int what, void *ctx, void *assigned)
{
    struct http *h = ctx;
    if (what == CURL_POLL_REMOVE) {
        if (assigned)
            loop_fd_del(h->loop, fd);
        free(assigned);
        return 0;
    }
    uint32_t events = (what & CURL_POLL_IN ? EPOLLIN : 0u) | (what & CURL_POLL_OUT ? EPOLLOUT : 0u);
    if (watch_socket(h, fd, events, assigned) != 0) {
        /* Saying so to libcurl would end every transfer of this client, now and later. */
        struct http_call *c = NULL;
        curl_easy_getinfo(easy, CURLINFO_PRIVATE, (char **)&c);
        if (c)
            h->some_unwatched = c->unwatched = true;
    }
    return 0;
}

static size_t on_body(char *p, size_t size, size_t n, void *ctx)
{
    struct http_call *c = ctx;
    size_t bytes = size * n;
    if (bytes > c->body.max - c->body.len) {
        c->truncated = true;
        buf_done(&c->body);
        return CURL_WRITEFUNC_ERROR;
    }
    if (buf_add(&c->body, p, bytes) != 0) {
        c->no_memory = true;
        return CURL_WRITEFUNC_ERROR;
    }
    return bytes;
}

/* ---- the client ---- */

static void ignore_sigpipe(void)
{
    struct sigaction old;
    if (sigaction(SIGPIPE, NULL, &old) == 0 && old.sa_handler == SIG_DFL)
        (void)signal(SIGPIPE, SIG_IGN);
}

static CURLM *multi_new(struct http *h)
{
    CURLM *m = curl_multi_init();
    if (!m)
        return NULL;
    CURLMcode bad = CURLM_OK;
    bad |= curl_multi_setopt(m, CURLMOPT_SOCKETFUNCTION, on_socket);
    bad |= curl_multi_setopt(m, CURLMOPT_SOCKETDATA, h);
    bad |= curl_multi_setopt(m, CURLMOPT_TIMERFUNCTION, on_timer);
    bad |= curl_multi_setopt(m, CURLMOPT_TIMERDATA, h);
    bad |= curl_multi_setopt(m, CURLMOPT_MAXCONNECTS, (long)CONNECTIONS_MAX);
    /* HTTP/1.1 alone: never wait for a connection that might turn out to multiplex. */
    bad |= curl_multi_setopt(m, CURLMOPT_PIPELINING, CURLPIPE_NOTHING);
    if (bad == CURLM_OK)
        return m;
    curl_multi_cleanup(m);
    return NULL;
}

static int64_t positive(int64_t value, int64_t fallback)
{
    return value > 0 ? value : fallback;
}

struct http *http_new(struct loop *loop, const struct http_options *options, struct err *err)
{
    static const struct http_options none = {0};
    const struct http_options *o = options ? options : &none;
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
        err_set(err, ERR_INTERNAL, "libcurl cannot be initialised");
        return NULL;
    }
    struct http *h = calloc(1, sizeof *h);
    if (!h) {
        err_nomem(err);
        curl_global_cleanup();
        return NULL;
    }
    h->loop = loop;
    h->timer = (struct loop_timer){.fn = on_timeout, .ctx = h};
    h->connect_timeout_ms = positive(o->connect_timeout_ms, DEFAULT_CONNECT_MS);
    h->timeout_ms = positive(o->timeout_ms, DEFAULT_TIMEOUT_MS);
    h->response_max = o->response_max ? o->response_max : HTTP_RESPONSE_MAX;
    h->user_agent = str_dup(o->user_agent ? o->user_agent : "provisioner");
    h->multi = multi_new(h);
    if (!h->user_agent || !h->multi) {
        err_nomem(err);
        http_free(h);
        return NULL;
    }
    if (loop_timer_set(loop, &h->timer, park_ms, err) != 0) {
        http_free(h);
        return NULL;
    }
    ignore_sigpipe();
    return h;
}

void http_free(struct http *h)
{
    if (!h)
        return;
    while (h->calls) {
        struct http_call *c = h->calls;
        call_unlink(c); // NOLINT(clang-analyzer-unix.Malloc): as above
        curl_easy_cleanup(c->easy);
        call_free(c);
    }
    while (h->n_pool > 0)
        curl_easy_cleanup(h->pool[--h->n_pool]);
    curl_multi_cleanup(h->multi); /* closes the connections; on_socket still runs */
    loop_timer_cancel(h->loop, &h->timer);
    if (h->freed)
        *h->freed = true;
    free(h->user_agent);
    free(h);
    curl_global_cleanup();
}

/* ---- sending ---- */

/* RFC 3986, 2.3 */
#define UNRESERVED "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"

/* No control character: neither may anyone smuggle in a header, nor libcurl cut a line. */
static bool is_header_text(const char *s)
{
    size_t n = strnlen(s, HTTP_HEADER_MAX + 1);
    for (size_t i = 0; i < n; i++)
        if (((unsigned char)s[i] < 0x20 && s[i] != '\t') || s[i] == 0x7f)
            return false;
    return n <= HTTP_HEADER_MAX;
}

static int check_request(const struct http *h, const struct exchange_request *r,
                         const char *const *headers, struct err *err)
{
    if (h->n_calls >= HTTP_CALLS_MAX)
        return err_set(err, ERR_THROTTLED, "%d requests are under way already", HTTP_CALLS_MAX);
    if (!str_starts(r->url, "http://") && !str_starts(r->url, "https://"))
        return err_set(err, ERR_INVALID, "the URL must start with http:// or https://");
    if (r->url_secret && r->url_secret[strspn(r->url_secret, UNRESERVED)])
        return err_set(err, ERR_INVALID, "the secret at the URL's end cannot be sent");
    if (r->body.failed)
        return err_set(err, ERR_INTERNAL, "the request's body could not be built");
    if (r->auth_header && (!r->credential || !is_header_text(r->credential)))
        return err_set(err, ERR_INVALID, "the credential cannot be sent in a header");
    for (size_t i = 0; headers && headers[i]; i++)
        if (i >= HTTP_HEADERS_MAX || !strchr(headers[i], ':') || !is_header_text(headers[i]))
            return err_set(err, ERR_INVALID, "header %zu of the request cannot be sent", i + 1);
    return 0;
}

static bool add_header(struct http_call *c, const char *line)
{
    struct curl_slist *l = curl_slist_append(c->headers, line);
    if (l)
        c->headers = l;
    return l != NULL;
}

/* "Name: scheme value". The copies that libcurl makes of it are beyond reach; ours are wiped. */
static bool add_header_of(struct http_call *c, const char *name, const char *scheme,
                          const char *value)
{
    size_t size = strlen(name) + strlen(scheme) + strlen(value) + 3;
    char *line = malloc(size);
    if (!line)
        return false;
    (void)snprintf(line, size, "%s: %s%s", name, scheme, value);
    bool added = add_header(c, line);
    explicit_bzero(line, size);
    free(line);
    return added;
}

static bool add_headers(struct http_call *c, const struct exchange_request *r,
                        const char *const *headers)
{
    /* libcurl would wait a second for "100 Continue", and name a form where no type is named. */
    bool ok = add_header(c, "Expect:");
    if (r->content_type)
        ok = ok && add_header_of(c, "Content-Type", "", r->content_type);
    else
        ok = ok && add_header(c, "Content-Type:");
    if (r->auth_header)
        ok = ok &&
             add_header_of(c, r->auth_header, r->auth_scheme ? r->auth_scheme : "", r->credential);
    for (size_t i = 0; ok && headers && headers[i]; i++)
        ok = add_header(c, headers[i]);
    return ok;
}

/* The copy that libcurl makes of it is beyond reach; ours is wiped. */
static CURLcode set_url(struct http_call *c, const struct exchange_request *r)
{
    if (!r->url_secret)
        return curl_easy_setopt(c->easy, CURLOPT_URL, r->url);
    size_t size = strlen(r->url) + strlen(r->url_secret) + 1;
    char *url = malloc(size);
    if (!url)
        return CURLE_OUT_OF_MEMORY;
    (void)snprintf(url, size, "%s%s", r->url, r->url_secret);
    CURLcode code = curl_easy_setopt(c->easy, CURLOPT_URL, url);
    explicit_bzero(url, size);
    free(url);
    return code;
}

static CURLcode set_request(struct http_call *c, const struct exchange_request *r)
{
    bool may_have_body = r->method == METHOD_POST || r->method == METHOD_PUT ||
                         r->method == METHOD_PATCH || r->body.len > 0;
    CURLcode bad = CURLE_OK;
    bad |= set_url(c, r);
    bad |= curl_easy_setopt(c->easy, CURLOPT_HTTPHEADER, c->headers);
    if (may_have_body) {
        bad |= curl_easy_setopt(c->easy, CURLOPT_POST, 1L);
        bad |= curl_easy_setopt(c->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)r->body.len);
        /* Never NULL: libcurl would read the body from standard input. */
        bad |= curl_easy_setopt(c->easy, CURLOPT_POSTFIELDS, r->body.data ? r->body.data : "");
    } else {
        bad |= curl_easy_setopt(c->easy, CURLOPT_HTTPGET, 1L);
    }
    bad |= curl_easy_setopt(c->easy, CURLOPT_CUSTOMREQUEST, exchange_method_name(r->method));
    return bad;
}

#ifdef PROVISIONER_FAULTS
static curl_socket_t no_socket(void *ctx, curlsocktype purpose, struct curl_sockaddr *address)
{
    (void)ctx;
    (void)purpose;
    (void)address;
    return CURL_SOCKET_BAD;
}
#endif

static CURLcode set_transport(struct http_call *c, const struct exchange_request *r)
{
    const struct http *h = c->h;
    int64_t timeout_ms = positive(r->timeout_ms, h->timeout_ms);
    int64_t connect_ms = h->connect_timeout_ms < timeout_ms ? h->connect_timeout_ms : timeout_ms;
    CURL *e = c->easy;
    CURLcode bad = CURLE_OK;
    bad |= curl_easy_setopt(e, CURLOPT_TIMEOUT_MS, (long)timeout_ms);
    bad |= curl_easy_setopt(e, CURLOPT_CONNECTTIMEOUT_MS, (long)connect_ms);
    bad |= curl_easy_setopt(e, CURLOPT_FRESH_CONNECT, r->fresh_connection ? 1L : 0L);
    bad |= curl_easy_setopt(e, CURLOPT_MAXAGE_CONN, (long)IDLE_MAX_S);
    bad |= curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
    /* Else a call that ends while its name is being resolved holds the loop until the resolver
     * gives up. */
    bad |= curl_easy_setopt(e, CURLOPT_QUICK_EXIT, 1L);
    bad |= curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR, "http,https");
    bad |= curl_easy_setopt(e, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    bad |= curl_easy_setopt(e, CURLOPT_FOLLOWLOCATION, 0L);
    bad |= curl_easy_setopt(e, CURLOPT_PROXY, "");
    bad |= curl_easy_setopt(e, CURLOPT_DISALLOW_USERNAME_IN_URL, 1L);
    bad |= curl_easy_setopt(e, CURLOPT_PATH_AS_IS, 1L);
    bad |= curl_easy_setopt(e, CURLOPT_ACCEPT_ENCODING, "");
    bad |= curl_easy_setopt(e, CURLOPT_USERAGENT, h->user_agent);
    bad |= curl_easy_setopt(e, CURLOPT_BUFFERSIZE, (long)BUFFER_BYTES);
    bad |= curl_easy_setopt(e, CURLOPT_UPLOAD_BUFFERSIZE, (long)UPLOAD_BYTES);
    bad |= curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, on_body);
    bad |= curl_easy_setopt(e, CURLOPT_WRITEDATA, c);
    bad |= curl_easy_setopt(e, CURLOPT_ERRORBUFFER, c->error);
    bad |= curl_easy_setopt(e, CURLOPT_PRIVATE, c);
#ifdef PROVISIONER_FAULTS
    if (FAULT_FAILS("request/before")) {
        bad |= curl_easy_setopt(e, CURLOPT_FRESH_CONNECT, 1L);
        bad |= curl_easy_setopt(e, CURLOPT_OPENSOCKETFUNCTION, no_socket);
    }
#endif
    return bad;
}

/* NULL when memory ends. */
static struct http_call *call_new(struct http *h, const struct exchange_request *r,
                                  const char *const *headers)
{
    struct http_call *c = calloc(1, sizeof *c);
    if (!c)
        return NULL;
    c->h = h;
    buf_init(&c->body, h->response_max);
    c->easy = pool_take(h);
    if (c->easy && add_headers(c, r, headers) && set_request(c, r) == CURLE_OK &&
        set_transport(c, r) == CURLE_OK)
        return c;
    if (c->easy)
        curl_easy_cleanup(c->easy);
    call_free(c);
    return NULL;
}

struct http_call *http_send(struct http *h, struct exchange_request *request,
                            const char *const *headers, http_done_fn *done, void *ctx,
                            struct err *err)
{
    if (check_request(h, request, headers, err) != 0)
        return NULL;
    struct http_call *c = call_new(h, request, headers);
    if (!c) {
        err_nomem(err);
        return NULL;
    }
    c->done = done;
    c->ctx = ctx;
    CURLMcode code = curl_multi_add_handle(h->multi, c->easy);
    if (code != CURLM_OK) {
        err_set(err, ERR_INTERNAL, "libcurl takes no request: %s", curl_multi_strerror(code));
        curl_easy_cleanup(c->easy);
        call_free(c);
        return NULL;
    }
    /* libcurl holds a pointer to the bytes, which do not move with the struct. */
    c->request_body = request->body;
    buf_init(&request->body, request->body.max);
    call_link(h, c);
    return c;
}

void http_cancel(struct http *h, struct http_call *call)
{
    if (!call || call->finished)
        return;
    call_unlink(call);
    pool_put(h, call->easy);
    call_free(call);
}

size_t http_in_flight(const struct http *h)
{
    return h->n_calls;
}
