/*
 * net/http.h on simulated time. What becomes of a request is drawn when it is sent: when, and how
 * often, its product performs it, and what comes back when. A client that gives up, cancels or dies
 * does not stop a request that is under way.
 */
#include "net/http.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "sim.h"

struct http_call {
    struct http *http; /* NULL: nobody waits any more */
    struct proc *proc;
    struct http_call *next, *prev; /* the client's */
    http_done_fn *done;
    void *ctx;
    int refs; /* of each happening, and of the client */
    struct exchange_request request;
    char *url_secret, *credential;
    char request_id[64];
    enum product product;
    enum request_fault fault; /* R_FAULTS: none */
    bool answered;
    struct exchange_response answer;
    char *body;
};

struct http {
    struct proc *proc;
    struct http_call list; /* head */
    size_t n;
};

static size_t under_way;

size_t http_calls(void)
{
    return under_way;
}

/* ---- calls ---- */

/* Not inlined: the compiler cannot know that the last one is not this one. */
__attribute__((noinline)) static void unref(struct http_call *c)
{
    if (--c->refs > 0) {
        return;
    }
    exchange_request_done(&c->request);
    free(c->url_secret);
    free(c->credential);
    free(c->body);
    free(c);
    under_way--;
}

static void leave(struct http_call *c)
{
    c->next->prev = c->prev;
    c->prev->next = c->next;
    c->http->n--; // NOLINT(clang-analyzer-core.NullDereference)
    c->http = NULL;
    unref(c);
}

static void keep_body(struct http_call *c, const char *text)
{
    free(c->body);
    c->body = sim_text(text);
    c->answer.body = c->body;
    c->answer.body_len = strlen(c->body);
}

static void keep(struct http_call *c, const struct exchange_response *r)
{
    c->answer = *r;
    keep_body(c, r->body);
}

static void fail(struct http_call *c, bool sent, const char *why)
{
    c->answer = (struct exchange_response){.sent = sent, .retry_after_ms = -1};
    str_copy(c->answer.failure, sizeof(c->answer.failure), why);
    keep_body(c, "");
}

static void status(struct http_call *c, int code, const char *type, const char *body)
{
    c->answer = (struct exchange_response){.sent = true, .status = code, .retry_after_ms = -1};
    str_copy(c->answer.content_type, sizeof(c->answer.content_type), type);
    keep_body(c, body);
}

/* ---- the product's side ---- */

static void made(const struct http_call *c, int code)
{
    if (c->request.method == METHOD_POST && code >= 200 && code <= 299 &&
        !strstr(c->request.url, "/login") && !db_effect_of(world.db, c->request_id)) {
        sim_breach("%s made something at %s and no record leads to it", c->request_id,
                   c->request.url);
    }
}

/* What its client will see of it, while that still waits. */
static void disguise(struct http_call *c, const struct exchange_response *r)
{
    keep(c, r);
    if (c->fault == R_500_AFTER) {
        status(c, 500, "application/json", "{\"detail\":\"simulated\"}");
    } else if (c->fault == R_HALF_BODY && (r->status > 299 || sim_chance(0.5))) {
        fail(c, true, "transfer closed with outstanding read data remaining");
    } else if (c->fault == R_HALF_BODY) { /* whole by its length, and no JSON */
        c->body[strlen(c->body) / 2] = '\0';
        c->answer.body_len = strlen(c->body);
    } else if (c->fault == R_HTML_200) {
        status(c, 200, "text/html", "<!doctype html><title>Welcome</title>");
    }
}

static bool waited_for(const struct http_call *c)
{
    return c->http && !c->answered;
}

/* What a server that does not keep it says to have deleted. */
static struct exchange_response pretend(const struct http_call *c)
{
    static char ragflow[] = "{\"code\":0,\"data\":{\"success_count\":1}}",
                langflow[] = "{\"detail\":\"deleted\"}", none[] = "";
    char *body = world.dialects.facade ? none : c->product == PRODUCT_RAGFLOW ? ragflow : langflow;
    struct exchange_response r = {.sent = true,
                                  .status = world.dialects.facade ? 204 : 200,
                                  .body = body,
                                  .body_len = strlen(body),
                                  .retry_after_ms = -1};
    str_copy(r.content_type, sizeof(r.content_type), "application/json");
    return r;
}

/* too_late: later than any request may be performed. */
static struct exchange_response ask(struct http_call *c, bool too_late)
{
    const struct db_effect *e = db_effect_of(world.db, c->request_id);
    bool unkept = e && c->fault == R_UNKEPT;
    if (e && too_late) {
        subscription_shaken(e->subscription, true);
    }
    /* What is gone as a whole is looked for; of what was in it the server is believed. */
    if (unkept && e->object) {
        return pretend(c);
    }
    struct exchange_response r = product_ask(&world.upstream[c->product].product, &c->request);
    if (unkept && (c->request.method == METHOD_POST || c->request.method == METHOD_PUT) &&
        r.status >= 200 && r.status <= 299) {
        server_loses(c->product, r.body, e->subscription);
    }
    return r;
}

static void perform(void *ctx, uint64_t arg, bool run)
{
    struct http_call *c = ctx;
    if (run && waited_for(c)) {
        (void)proc_action(c->proc, "before a request is performed");
    }
    /* What a process that ended had sent may still be on its way, or not. */
    if (run && (c->http || c->fault == R_LATE || !sim_chance(0.3))) {
        struct exchange_response r = ask(c, arg > 0);
        made(c, r.status);
        sim_say(product_name(c->product), "%s %s %s%s -> %d %.70s", c->request_id,
                exchange_method_name(c->request.method), c->request.url,
                c->request.url_secret ? "..." : "", r.status, r.body);
        if (waited_for(c)) {
            disguise(c, &r);
            (void)proc_action(c->proc, "after a request was performed");
        }
    }
    unref(c);
}

/* ---- the client's side ---- */

static void on_done(void *ctx, uint64_t arg, bool run)
{
    struct http_call *c = ctx;
    (void)arg;
    if (run && c->http && !c->proc->dying) {
        http_done_fn *done = c->done;
        void *done_ctx = c->ctx;
        leave(c);
        // NOLINTNEXTLINE(clang-analyzer-unix.Malloc): referred to still
        sim_say(c->proc->who, "%s answered: %d %s", c->request_id, c->answer.status,
                c->answer.failure);
        done(done_ctx, &c->answer);
    }
    unref(c);
}

/* arg: it gave up, or the connection failed; 1 + what to say. */
static void answer(void *ctx, uint64_t arg, bool run)
{
    static const char *const words[] = {"", "connection refused", "connection reset by peer",
                                        "time-out: no answer came"};
    struct http_call *c = ctx;
    if (run && c->http) {
        c->answered = true;
        if (arg > 0 && arg < ARRAY_LEN(words)) {
            fail(c, arg > 1, words[arg]);
        } else if (c->answer.status == 0) {
            fail(c, true, words[2]);
        }
        proc_post(c->proc, on_done, c, 0);
        return;
    }
    unref(c);
}

enum { SAY_ANSWER, SAY_REFUSED, SAY_RESET, SAY_TIMEOUT };

static void at(struct http_call *c, int64_t delay_us, sim_fn *fn, uint64_t arg)
{
    c->refs++;
    sim_after(delay_us, fn, c, arg);
}

/* ---- what becomes of a request ---- */

static enum request_fault draw(const struct exchange_request *r)
{
    if (!world.storm) {
        return R_FAULTS;
    }
    for (int f = 0; f < R_FAULTS; f++) {
        if (sim_chance(world.faults.request[f]) && !(f == R_TWICE && r->fresh_connection)) {
            return (enum request_fault)f;
        }
    }
    return R_FAULTS;
}

static bool outage(struct http_call *c, int64_t there_us)
{
    const struct upstream_world *u = &world.upstream[c->product];
    if (world.now_us >= u->outage_until_us) {
        return false;
    }
    if (u->outage_refuses) {
        at(c, there_us, answer, SAY_REFUSED);
    } else {
        status(c, 503, "application/json", "{\"detail\":\"simulated outage\"}");
        at(c, 2 * there_us, answer, SAY_ANSWER);
    }
    return true;
}

/*
 * What a sweep that lands too late leaves, an empty flow in the platform's own account, is
 * nobody's, and of two datasets that do, RAGFlow gives the second a name that nobody looks for:
 * those keep to the time.
 */
static int64_t late_us(const struct http_call *c)
{
    const struct db_effect *e = db_effect_of(world.db, c->request_id);
    bool sweep = e && str_eq(e->operation, "residue.put");
    bool second =
        e && str_eq(e->operation, "collection.create") && subscription_has_surplus(e->subscription);
    int64_t late =
        sim_between(0, (sweep || second ? world.late_max_ms : world.faults.late_max_ms) * MS);
    if (e && late > world.late_max_ms * MS) {
        subscription_shaken(e->subscription, true);
    }
    return late;
}

static void plan(struct http_call *c)
{
    int64_t there_us = sim_between(200, 20 * MS), back_us = there_us + sim_between(200, 20 * MS);
    int64_t late, timeout_us = (c->request.timeout_ms ? c->request.timeout_ms : 30000) * MS;
    if (outage(c, there_us)) {
        return;
    }
    c->fault = draw(&c->request);
    switch (c->fault) {
    case R_REFUSED:
        at(c, there_us, answer, SAY_REFUSED);
        return;
    case R_RESET_BEFORE:
        at(c, there_us, answer, SAY_RESET);
        return;
    case R_RESET_AFTER:
        at(c, there_us, perform, 0);
        at(c, back_us, answer, SAY_RESET);
        return;
    case R_LATE:
        late = late_us(c);
        at(c, timeout_us, answer, SAY_TIMEOUT);
        at(c, timeout_us + late, perform, late > world.late_max_ms * MS);
        return;
    case R_TWICE:
        at(c, there_us, perform, 0);
        at(c, there_us + sim_between(1, 5 * MS), perform, 0);
        at(c, back_us + 5 * MS, answer, SAY_ANSWER);
        return;
    case R_500_BEFORE:
        status(c, 500, "application/json", "{\"detail\":\"simulated\"}");
        at(c, back_us, answer, SAY_ANSWER);
        return;
    case R_502_HTML:
        status(c, 502, "text/html", "<html><body>502 Bad Gateway</body></html>");
        at(c, back_us, answer, SAY_ANSWER);
        return;
    case R_THROTTLED:
        status(c, sim_chance(0.5) ? 429 : 503, "application/json", "{\"detail\":\"slow down\"}");
        c->answer.retry_after_ms = sim_between(0, 3) * 1000;
        at(c, back_us, answer, SAY_ANSWER);
        return;
    case R_HANG:
        at(c, timeout_us, answer, SAY_TIMEOUT);
        return;
    case R_HANG_AFTER:
        at(c, there_us, perform, 0);
        at(c, timeout_us, answer, SAY_TIMEOUT);
        return;
    case R_SLOW:
        at(c, sim_between(there_us, timeout_us - 50 * MS), perform, 0);
        at(c, timeout_us - 20 * MS, answer, SAY_ANSWER);
        return;
    case R_500_AFTER:
    case R_HALF_BODY:
    case R_HTML_200:
    case R_UNKEPT:
    case R_FAULTS:
        at(c, there_us, perform, 0);
        at(c, back_us, answer, SAY_ANSWER);
        return;
    }
}

/* ---- the client ---- */

struct http *http_new(struct loop *loop, const struct http_options *options, struct err *err)
{
    (void)loop, (void)options, (void)err;
    struct http *h = sim_alloc(sizeof(*h));
    h->proc = world.current;
    h->list.next = h->list.prev = &h->list;
    return h;
}

void http_free(struct http *h)
{
    if (!h) {
        return;
    }
    while (h->list.next != &h->list) {
        leave(h->list.next); // NOLINT(clang-analyzer-unix.Malloc): referred to still
    }
    free(h);
}

static const char *header(const char *const *headers, const char *name)
{
    size_t n = strlen(name);
    for (size_t i = 0; headers && headers[i]; i++) {
        if (strncmp(headers[i], name, n) == 0) {
            return headers[i] + n;
        }
    }
    return "";
}

static int which(const char *url)
{
    for (int p = 0; p < PRODUCT_MAX; p++) {
        if (str_starts(url, world.upstream[p].product.url)) {
            return p;
        }
    }
    return -1;
}

struct http_call *http_send(struct http *h, struct exchange_request *request,
                            const char *const *headers, http_done_fn *done, void *ctx,
                            struct err *err)
{
    const char *id = header(headers, "X-Request-Id: ");
    int product = which(request->url);
    if (product < 0) {
        sim_breach("a request to %s", request->url);
    }
    if (product < 0 || h->proc->dying || proc_action(h->proc, "before a request leaves")) {
        err_set(err, ERR_UNAVAILABLE, "the process is ending");
        return NULL;
    }
    check_request(h->proc, request, id);
    struct http_call *c = sim_alloc(sizeof(*c));
    *c = (struct http_call){.http = h,
                            .proc = h->proc,
                            .done = done,
                            .ctx = ctx,
                            .refs = 1,
                            .request = *request,
                            .product = (enum product)product,
                            .answer = {.sent = true, .retry_after_ms = -1}};
    buf_init(&request->body, EXCHANGE_REQUEST_MAX);
    if (request->url_secret) {
        c->request.url_secret = c->url_secret = sim_text(request->url_secret);
    }
    if (request->credential) {
        c->request.credential = c->credential = sim_text(request->credential);
    }
    str_copy(c->request_id, sizeof(c->request_id), id);
    c->next = &h->list;
    c->prev = h->list.prev;
    c->prev->next = c->next->prev = c;
    h->n++;
    under_way++;
    sim_say(h->proc->who, "%s sends %s %s", c->request_id, exchange_method_name(c->request.method),
            c->request.url);
    plan(c);
    (void)proc_action(h->proc, "after a request left");
    return c;
}

void http_cancel(struct http *h, struct http_call *call)
{
    (void)h;
    if (call->http) {
        leave(call);
    }
}

size_t http_in_flight(const struct http *h)
{
    return h->n;
}
