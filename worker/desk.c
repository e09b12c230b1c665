#include "desk.h"

#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "desk_internal.h"

enum {
    TICK_MS = 1000,
    CLAIM_MAX = 64,
    KEYS_MAX = 4, /* in one claim */
    HELD_TEXT_MAX = 64 * 1024,
    BACKOFF_FIRST_MS = 1000,
    BACKOFF_MAX_MS = 5 * 60 * 1000,
    AWAY_MAX_MS = 60 * 1000, /* Waldur's own absence is waited for by nobody one by one */
    FORBIDDEN_MS = 5 * 60 * 1000,
    COUNT_MS = 10 * 1000,
    COUNT_COST = 50,
};

/* ---- errands ---- */

static void before_sleep(void *ctx);

void errand_drop(struct errand *e)
{
    struct desk *d = e->desk;
    talk_end(&e->talk);
    LIST_REMOVE(e, link);
    d->n_errands--;
    d->wanted = d->wanted || d->more;
    if (e->has_event) {
        waldur_event_done(&e->event);
    }
    for (size_t i = 0; i < e->n_endpoints; i++) {
        free(e->endpoint_urls[i]);
    }
    free(e->offerings);
    secret_wipe(e->delivery);
    char *const texts[] = {e->delivery,   e->status, e->phase,     e->order_type,
                           e->verdict,    e->told,   e->job_class, e->name,
                           e->backend_id, e->facts,  e->metadata};
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        free(texts[i]);
    }
    sodium_memzero(e, sizeof(*e));
    free(e);
    loop_wake(d->loop);
}

void errand_fence(const struct errand *e, struct pg_param out[3])
{
    out[0] = (struct pg_param){e->uuid, -1};
    out[1] = (struct pg_param){e->owner, -1};
    out[2] = (struct pg_param){e->fence, -1};
}

void errand_submit(struct errand *e, enum statement statement, const struct pg_param *params,
                   pg_done_fn *done)
{
    struct err err;
    /* Statements of a subscription keep one order, whoever sends them (store/pg.h). */
    const char *key = e->resource[0] ? e->resource : e->uuid;
    e->stored = true;
    if (pg_submit(e->desk->o.pg, (int)statement, key, false, params, done, e, &err)) {
        log_event(LOG_ERROR, "an order is dropped; it is claimed again", LOG_S("order", e->uuid),
                  LOG_S("error", err.msg));
        errand_drop(e);
    }
}

const char *errand_verdict(struct errand *e, const PGresult *res, const struct err *err)
{
    e->stored = false;
    if (e->abandoned) {
        errand_drop(e);
        return NULL;
    }
    if (res) {
        return PQgetisnull(res, 0, 0) ? "" : PQgetvalue(res, 0, 0);
    }
    if (err->class == ERR_REFUSED) {
        struct err refused;
        err_set(&refused, ERR_INTERNAL, "PostgreSQL refused the statement (%s): %.300s",
                err->sqlstate, err->msg);
        log_event(LOG_ERROR, "what became of an order cannot be written", LOG_S("order", e->uuid),
                  LOG_S("error", refused.msg));
        errand_put_off(e, &refused);
    } else {
        errand_drop(e); /* it is claimed again, under this name or another */
    }
    return NULL;
}

static void on_put_off(void *ctx, const PGresult *res, const struct err *err)
{
    struct errand *e = ctx;
    (void)res, (void)err;
    errand_drop(e);
}

/* Doubling, half of it by chance. */
static int64_t backoff_ms(struct errand *e, int64_t max_ms)
{
    int64_t ms = BACKOFF_FIRST_MS;
    for (int i = 0; i < e->attempts && ms < max_ms; i++) {
        ms *= 2;
    }
    ms = ms < max_ms ? ms : max_ms;
    return ms / 2 + (int64_t)rng_below(&e->desk->jitter, (uint64_t)ms / 2 + 1);
}

static int64_t delay_ms(struct errand *e, const struct err *err)
{
    switch (err->class) {
    case ERR_THROTTLED:
        return err->retry_after_ms > BACKOFF_FIRST_MS ? err->retry_after_ms : BACKOFF_FIRST_MS;
    case ERR_UNAUTHORIZED:
        return FORBIDDEN_MS;
    case ERR_UNAVAILABLE:
    case ERR_UNKNOWN:
        return backoff_ms(e, AWAY_MAX_MS);
    default:
        return backoff_ms(e, BACKOFF_MAX_MS);
    }
}

void errand_put_off(struct errand *e, const struct err *err)
{
    struct pg_param p[7];
    char delay[24];
    bool counts = err->class != ERR_THROTTLED && err->class != ERR_UNAUTHORIZED;
    if (!errand_may(e)) {
        errand_drop(e); /* not its own trouble: who claims it next goes on at once */
        return;
    }
    talk_end(&e->talk);
    snprintf(delay, sizeof(delay), "%" PRId64, delay_ms(e, err));
    log_event(LOG_INFO, e->kind == ERRAND_ORDER ? "order put off" : "key put off",
              LOG_S("order", e->uuid), LOG_S("subscription", e->resource[0] ? e->resource : NULL),
              LOG_S("class", err_class_name(err->class)), LOG_S("error", err->msg));
    errand_fence(e, p);
    p[3] = (struct pg_param){delay, -1};
    p[4] = (struct pg_param){counts ? "t" : "f", -1};
    p[5] = (struct pg_param){err_class_name(err->class), -1};
    p[6] = (struct pg_param){err->msg, -1};
    errand_submit(e, e->kind == ERRAND_ORDER ? S_WALDUR_WAIT : S_WALDUR_KEY_WAIT, p, on_put_off);
}

int errand_open_key(struct errand *e, struct err *err)
{
    unsigned char sealed[SECRET_TEXT_MAX + SECRET_SEALED_EXTRA];
    size_t n = 0;
    if (!e->delivery ||
        sodium_hex2bin(sealed, sizeof(sealed), e->delivery, strlen(e->delivery), NULL, &n, NULL)) {
        return err_set(err, ERR_INTERNAL, "the key that Waldur shall have is not kept any more");
    }
    return api_key_delivery_open(e->config->master_key, e->resource, e->prefix, sealed, n, e->clear,
                                 err);
}

/* ---- effects ---- */

/* The path of a URL: what the journal keeps of where a request went. */
static const char *path_of(const char *url)
{
    const char *host = strstr(url, "://");
    const char *path = host ? strchr(host + 3, '/') : NULL;
    return path ? path : "/";
}

static void on_intended(void *ctx, const PGresult *res, const struct err *err)
{
    struct errand *e = ctx;
    const char *verdict = errand_verdict(e, res, err);
    if (!verdict) {
        return;
    }
    if (!str_eq(verdict, "ok")) {
        log_event(LOG_INFO, "order is another worker's now; dropped", LOG_S("order", e->uuid));
        errand_drop(e);
        return;
    }
    str_copy(e->effect_id, sizeof(e->effect_id), PQgetvalue(res, 0, 1));
    talk_go(&e->talk);
}

void errand_intend(void *ctx, const struct exchange_request *request, const char *effect)
{
    struct errand *e = ctx;
    struct pg_param p[8];
    char sha[65], id[64];
    str_sha256_hex(sha, buf_str(&request->body), request->body.len);
    talk_request_id(&e->talk, id, sizeof(id));
    errand_fence(e, p);
    p[3] = (struct pg_param){effect, -1};
    p[4] = (struct pg_param){exchange_method_name(request->method), -1};
    p[5] = (struct pg_param){path_of(request->url), -1};
    p[6] = (struct pg_param){sha, -1};
    p[7] = (struct pg_param){id, -1};
    errand_submit(e, S_WALDUR_INTEND, p, on_intended);
}

void errand_settled(void *ctx, const struct waldur_outcome *o)
{
    static const char *const states[] = {[WALDUR_EFFECT_NONE] = "unknown",
                                         [WALDUR_EFFECT_DONE] = "done",
                                         [WALDUR_EFFECT_UNKNOWN] = "unknown",
                                         [WALDUR_EFFECT_REFUSED] = "refused",
                                         [WALDUR_EFFECT_NOT_SENT] = "not_sent"};
    struct errand *e = ctx;
    struct err err;
    char status[16];
    bool bad = o->err.class != ERR_NONE;
    if (!e->effect_id[0]) {
        return;
    }
    metrics_add(e->desk->o.metrics, M_EFFECTS_TOTAL, METRIC_LABELS("waldur", states[o->effect]), 1);
    snprintf(status, sizeof(status), "%d", o->err.http_status);
    const struct pg_param p[] = {{e->effect_id, -1},
                                 {e->fence, -1},
                                 {states[o->effect], -1},
                                 {o->err.http_status ? status : NULL, -1},
                                 {bad ? err_class_name(o->err.class) : NULL, -1},
                                 {bad ? o->err.msg : NULL, -1}};
    /* Nobody waits for it: what stays "intended" is looked at all the same. */
    (void)pg_submit(e->desk->o.pg, S_WALDUR_SETTLE, e->resource[0] ? e->resource : e->uuid, false,
                    p, NULL, NULL, &err);
    e->effect_id[0] = '\0';
}

bool errand_may(void *ctx)
{
    const struct errand *e = ctx;
    const struct desk *d = e->desk;
    return !d->draining && d->o.leased(d->o.ctx) && str_eq(d->o.owner(d->o.ctx), e->owner);
}

/* ---- claims ---- */

static char *held_text(const struct desk *d, enum errand_kind kind)
{
    struct buf b;
    const struct errand *e = NULL;
    buf_init(&b, HELD_TEXT_MAX);
    buf_addc(&b, '{');
    LIST_FOREACH(e, &d->errands, link)
    {
        if (e->kind == kind) {
            buf_addf(&b, "%s%s", b.len > 1 ? "," : "", e->uuid);
        }
    }
    buf_addc(&b, '}');
    return buf_steal(&b);
}

static struct errand *errand_new(struct desk *d, enum errand_kind kind, const PGresult *res,
                                 int row)
{
    struct errand *e = calloc(1, sizeof(*e));
    if (!e) {
        return NULL;
    }
    e->desk = d;
    e->kind = kind;
    e->config = d->o.config;
    str_copy(e->uuid, sizeof(e->uuid), PQgetvalue(res, row, 0));
    str_copy(e->fence, sizeof(e->fence), PQgetvalue(res, row, 1));
    str_copy(e->owner, sizeof(e->owner), d->o.owner(d->o.ctx));
    LIST_INSERT_HEAD(&d->errands, e, link);
    d->n_errands++;
    int rc = kind == ERRAND_ORDER ? desk_order_read(e, res, row) : desk_key_read(e, res, row);
    if (rc) {
        errand_drop(e);
        return NULL;
    }
    return e;
}

static void take_rows(struct desk *d, enum errand_kind kind, const PGresult *res)
{
    int rows = PQntuples(res);
    for (int i = 0; i < rows; i++) {
        struct errand *e = errand_new(d, kind, res, i);
        if (!e) {
            log_event(LOG_ERROR, "out of memory: an order is left for the next claim");
        } else if (kind == ERRAND_ORDER) {
            desk_order_begin(e);
        } else {
            desk_key_begin(e);
        }
    }
    d->more = d->more || rows > 0;
}

/* A claim's rows are those of the owner that asked; where that has changed meanwhile they are free
 * again. */
static bool stays(struct desk *d, const PGresult *res, const struct err *err)
{
    bool trouble = !res && err->class == ERR_REFUSED;
    if (trouble && !d->trouble) {
        log_event(LOG_ERROR, "orders cannot be claimed", LOG_S("error", err->msg));
    }
    d->trouble = trouble || (d->trouble && !res);
    return res && !d->draining && pg_is_up(d->o.pg);
}

static void on_claimed(void *ctx, const PGresult *res, const struct err *err)
{
    struct desk *d = ctx;
    d->claiming = false;
    if (stays(d, res, err)) {
        take_rows(d, ERRAND_ORDER, res);
    }
}

static void on_keys_claimed(void *ctx, const PGresult *res, const struct err *err)
{
    struct desk *d = ctx;
    d->claiming_keys = false;
    if (stays(d, res, err)) {
        take_rows(d, ERRAND_KEY, res);
    }
}

static size_t room(const struct desk *d)
{
    size_t max = (size_t)d->o.config->waldur_concurrency;
    if (marketplace_pause_ms(d->o.marketplace, d->n_errands) > 0) {
        return 0;
    }
    if (marketplace_down(d->o.marketplace)) {
        max = 1; /* one tries */
    }
    return max > d->n_errands ? max - d->n_errands : 0;
}

static bool claim_some(struct desk *d, enum statement statement, enum errand_kind kind, size_t n,
                       pg_done_fn *done)
{
    struct err err;
    char limit[16];
    char *held = held_text(d, kind);
    snprintf(limit, sizeof(limit), "%zu", n);
    const struct pg_param p[] = {{d->o.owner(d->o.ctx), -1}, {limit, -1}, {held, -1}};
    bool sent = held && pg_submit(d->o.pg, (int)statement, NULL, true, p, done, d, &err) == 0;
    free(held);
    return sent;
}

static void claim(struct desk *d)
{
    size_t n = room(d);
    d->wanted = false;
    d->more = false;
    if (n == 0 || !d->o.leased(d->o.ctx) || !marketplace_configured(d->o.marketplace)) {
        d->more = true;
        return;
    }
    d->claiming =
        claim_some(d, S_WALDUR_CLAIM, ERRAND_ORDER, n < CLAIM_MAX ? n : CLAIM_MAX, on_claimed);
    if (n > 1) {
        d->claiming_keys = claim_some(d, S_WALDUR_KEY_CLAIM, ERRAND_KEY,
                                      n < KEYS_MAX ? n : KEYS_MAX, on_keys_claimed);
    }
}

/* ---- counting ---- */

static void on_counted(void *ctx, const PGresult *res, const struct err *err)
{
    struct desk *d = ctx;
    (void)err;
    d->counting = false;
    int64_t now = clock_mono_ms();
    int64_t cost = (now - d->count_sent_ms) * COUNT_COST;
    d->count_due_ms = now + (cost > COUNT_MS ? cost : COUNT_MS);
    if (!res) {
        return;
    }
    metrics_clear(d->o.metrics, M_WALDUR_ORDERS);
    for (int i = 0; i < PQntuples(res); i++) {
        const char *what = PQgetvalue(res, i, 0);
        int64_t n = 0;
        (void)str_to_i64(PQgetvalue(res, i, 2), &n);
        if (str_eq(what, "hints") || str_eq(what, "keys")) {
            metrics_set(d->o.metrics, M_WALDUR_WAITING, METRIC_LABELS(what), (double)n);
        } else {
            metrics_set(d->o.metrics, M_WALDUR_ORDERS, METRIC_LABELS(what, PQgetvalue(res, i, 1)),
                        (double)n);
        }
    }
}

static void count(struct desk *d)
{
    struct err err;
    d->count_sent_ms = clock_mono_ms();
    if (d->counting || d->count_sent_ms < d->count_due_ms || !pg_is_up(d->o.pg)) {
        return;
    }
    d->counting = pg_submit(d->o.pg, S_WALDUR_COUNTS, NULL, true, NULL, on_counted, d, &err) == 0;
}

/* ---- the loop ---- */

static void end_drain(struct desk *d)
{
    d->drained_called = true;
    loop_timer_cancel(d->loop, &d->drain);
    d->drained(d->drained_ctx);
}

static void before_sleep(void *ctx)
{
    struct desk *d = ctx;
    if (d->drained && !d->drained_called && d->n_errands == 0 && !d->claiming &&
        !d->claiming_keys) {
        end_drain(d);
    } else if (d->wanted && !d->draining && !d->claiming && !d->claiming_keys &&
               pg_is_up(d->o.pg) && d->o.owner(d->o.ctx)[0]) {
        claim(d);
    }
}

static void on_tick(void *ctx)
{
    struct desk *d = ctx;
    struct err err;
    if (loop_timer_set(d->loop, &d->tick, TICK_MS, &err)) {
        log_event(LOG_ERROR, "orders are only looked for when somebody calls",
                  LOG_S("error", err.msg));
    }
    d->wanted = true;
    if (marketplace_configured(d->o.marketplace)) {
        count(d);
    }
}

static void wake(void *ctx)
{
    desk_wake(ctx);
}

void desk_wake(struct desk *d)
{
    d->wanted = true;
    loop_wake(d->loop);
}

void desk_abandon(struct desk *d)
{
    struct errand *next = NULL;
    for (struct errand *e = LIST_FIRST(&d->errands); e; e = next) {
        next = LIST_NEXT(e, link);
        if (e->stored) {
            e->abandoned = true; /* its statement will report; then it goes */
            talk_end(&e->talk);
        } else {
            errand_drop(e);
        }
    }
}

static void on_drain_due(void *ctx)
{
    struct desk *d = ctx;
    log_event(LOG_WARN, "orders in hand are left for others",
              LOG_I("orders", (int64_t)d->n_errands));
    desk_abandon(d);
    end_drain(d);
}

void desk_drain(struct desk *d, int64_t timeout_ms, loop_fn *done, void *ctx)
{
    struct err err;
    struct errand *next = NULL;
    d->draining = true;
    d->drained = done;
    d->drained_ctx = ctx;
    for (struct errand *e = LIST_FIRST(&d->errands); e; e = next) {
        next = LIST_NEXT(e, link);
        if (!e->stored && !talk_busy(&e->talk)) {
            errand_drop(e); /* it waits for a time; who comes next waits again */
        }
    }
    (void)loop_timer_set(d->loop, &d->drain, timeout_ms, &err);
    loop_wake(d->loop);
}

size_t desk_in_hand(const struct desk *d)
{
    return d->n_errands;
}

/* ---- life ---- */

static int listen(struct desk *d, struct err *err)
{
    d->listen =
        pg_listen_new(d->loop, d->o.config->database_url, "provisioner_orders", wake, d, err);
    return d->listen ? 0 : -1;
}

struct desk *desk_new(struct loop *loop, const struct desk_options *options, struct err *err)
{
    struct desk *d = calloc(1, sizeof(*d));
    if (!d) {
        err_nomem(err);
        return NULL;
    }
    uint64_t seed = 0;
    rng_bytes(&seed, sizeof(seed));
    rng_seed(&d->jitter, seed);
    d->loop = loop;
    d->o = *options;
    LIST_INIT(&d->errands);
    d->tick = (struct loop_timer){.fn = on_tick, .ctx = d};
    d->drain = (struct loop_timer){.fn = on_drain_due, .ctx = d};
    if (loop_before_sleep(loop, before_sleep, d, err) || listen(d, err) ||
        loop_timer_set(loop, &d->tick, 0, err)) {
        desk_free(d);
        return NULL;
    }
    return d;
}

void desk_free(struct desk *d)
{
    if (!d) {
        return;
    }
    loop_before_sleep_del(d->loop, before_sleep, d);
    loop_timer_cancel(d->loop, &d->tick);
    loop_timer_cancel(d->loop, &d->drain);
    while (!LIST_EMPTY(&d->errands)) {
        errand_drop(LIST_FIRST(&d->errands));
    }
    pg_listen_free(d->listen);
    free(d);
}

void desk_configure(struct desk *d, const struct config *config)
{
    d->o.config = config;
    desk_wake(d);
}

bool desk_uses(const struct desk *d, const struct config *config)
{
    const struct errand *e = NULL;
    LIST_FOREACH(e, &d->errands, link)
    {
        if (e->config == config) {
            return true;
        }
    }
    return false;
}
