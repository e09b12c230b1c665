#include "sweep.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "statements.h"
#include "talk.h"
#include "waldur/list.h"
#include "waldur/translate.h"

/*
 * Stages, one after the other; each is a list that is read to its end and then written. A sweep
 * that fails anywhere is over, and the next one begins anew: nothing of it has to be kept.
 */

enum {
    TICK_MIN_MS = 200,
    TICK_MAX_MS = 1000,
    ASKED_MS = 2 * 1000, /* between two that are asked for */
    UUIDS_MAX = WALDUR_LIST_ROWS_MAX * UUID_TEXT + 16,
};

enum stage { STAGE_IDLE, STAGE_BEGIN, STAGE_ORDERS, STAGE_RESOURCES, STAGE_KEYS, STAGE_END };

struct found {
    char uuid[UUID_TEXT];     /* of the resource */
    char key_uuid[UUID_TEXT]; /* keys */
    bool paused;
    int64_t modified_us;
};

struct sweep {
    struct loop *loop;
    struct sweep_options o;
    struct loop_timer tick;
    enum stage stage;
    /* Statements under way; of them, the first so many are of what was dropped. Answers come in
     * order. */
    unsigned asked, ignored;
    bool stopped;
    const struct config *config; /* what the talk borrows from */
    char owner[UUID_TEXT], fence[24];
    struct talk talk;
    const char **offerings;
    size_t n_offerings;
    struct buf orders; /* "{uuid,uuid" */
    struct found *found;
    size_t n_found, room;
    bool no_memory;
    int64_t since_us, modified_us;
    int64_t started_ms;
    size_t n_orders;
};

static void next_stage(struct sweep *s);
static void finish(struct sweep *s, const struct err *err);

/* ---- statements ---- */

/* The first thing in every callback. NULL: the answer is for a sweep that was dropped. */
static struct sweep *redeem(void *ctx)
{
    struct sweep *s = ctx;
    s->asked--;
    if (s->ignored > 0) {
        s->ignored--;
        return NULL;
    }
    return s;
}

static int ask(struct sweep *s, enum statement statement, const struct pg_param *p,
               pg_done_fn *done)
{
    struct err err;
    if (pg_submit(s->o.pg, (int)statement, NULL, true, p, done, s, &err)) {
        return -1;
    }
    s->asked++;
    return 0;
}

static void drop(struct sweep *s)
{
    talk_end(&s->talk);
    s->ignored = s->asked;
    s->stage = STAGE_IDLE;
    s->config = NULL;
    s->n_found = 0;
    buf_done(&s->orders);
}

/* ---- rows ---- */

static int on_order(void *ctx, const struct waldur_row *row)
{
    struct sweep *s = ctx;
    s->n_orders++;
    buf_addf(&s->orders, "%s%s", s->orders.len > 1 ? "," : "", row->uuid);
    return 0;
}

static int on_found(void *ctx, const struct waldur_row *row)
{
    struct sweep *s = ctx;
    bool key = row->kind == WALDUR_LIST_KEYS;
    if (s->n_found == s->room) {
        size_t room = s->room ? s->room * 2 : 64;
        struct found *more = realloc(s->found, room * sizeof(*more));
        if (!more) {
            s->no_memory = true;
            return 1;
        }
        s->found = more;
        s->room = room;
    }
    struct found *f = &s->found[s->n_found++];
    *f = (struct found){.paused = row->paused, .modified_us = row->modified_us};
    str_copy(f->uuid, sizeof(f->uuid), key ? row->resource_uuid : row->uuid);
    str_copy(f->key_uuid, sizeof(f->key_uuid), key ? row->uuid : "");
    if (!key && row->modified_us > s->modified_us) {
        s->modified_us = row->modified_us;
    }
    return 0;
}

/* ---- what was found ---- */

static void on_orders_told(void *ctx, const PGresult *res, const struct err *err)
{
    struct sweep *s = redeem(ctx);
    int64_t n = 0;
    if (!s) {
        return;
    }
    if (!res) {
        finish(s, err);
        return;
    }
    if (PQgetisnull(res, 0, 0)) {
        drop(s); /* another's by now */
        return;
    }
    (void)str_to_i64(PQgetvalue(res, 0, 0), &n);
    if (n > 0) { /* the statement wakes every desk, ours too */
        metrics_add(s->o.metrics, M_WALDUR_HINTS_TOTAL, METRIC_LABELS("sweep", "order"), (double)n);
    }
    next_stage(s);
}

static void tell_orders(struct sweep *s)
{
    struct err err;
    buf_addc(&s->orders, '}');
    const struct pg_param p[] = {{s->owner, -1}, {s->fence, -1}, {buf_str(&s->orders), -1}};
    if (s->orders.failed || ask(s, S_WALDUR_SWEEP_ORDERS, p, on_orders_told)) {
        err_nomem(&err);
        finish(s, &err);
    }
}

static void on_paused(void *ctx, const PGresult *res, const struct err *err)
{
    struct sweep *s = redeem(ctx);
    if (s && !res && err->class == ERR_REFUSED) {
        log_event(LOG_ERROR, "a pause at Waldur cannot be taken in", LOG_S("error", err->msg));
    } else if (s && res && !PQgetisnull(res, 0, 0)) {
        s->o.on_job(s->o.ctx);
    }
}

static void tell_pause(struct sweep *s, const struct found *f)
{
    struct waldur_event e;
    char reason[WALDUR_REASON_MAX], time[CLOCK_TEXT_MAX], deadline[24];
    if (f->modified_us < 0 ||
        waldur_translate_paused(s->config->waldur_api, f->uuid, f->paused, f->modified_us, &e,
                                reason) != WALDUR_TRANSLATED) {
        return;
    }
    clock_format(time, e.time_us);
    snprintf(deadline, sizeof(deadline), "%" PRId64, s->config->retry_deadline_ms);
    const struct pg_param p[] = {{f->uuid, -1}, {e.source, -1}, {e.id, -1},    {e.type, -1},
                                 {time, -1},    {e.data, -1},   {deadline, -1}};
    (void)ask(s, S_WALDUR_PAUSED, p, on_paused);
    waldur_event_done(&e);
}

static void on_key_hinted(void *ctx, const PGresult *res, const struct err *err)
{
    struct sweep *s = redeem(ctx);
    (void)err;
    if (s && res) {
        s->o.on_hint(s->o.ctx);
    }
}

static void tell_key(struct sweep *s, const struct found *f)
{
    const struct pg_param p[] = {
        {"key", -1}, {"sweep", -1}, {NULL, -1}, {f->uuid, -1}, {f->key_uuid, -1}};
    metrics_add(s->o.metrics, M_WALDUR_HINTS_TOTAL, METRIC_LABELS("sweep", "key"), 1);
    (void)ask(s, S_WALDUR_HINT, p, on_key_hinted);
}

static void tell_found(struct sweep *s)
{
    for (size_t i = 0; i < s->n_found; i++) {
        if (s->stage == STAGE_KEYS) {
            tell_key(s, &s->found[i]);
        } else {
            tell_pause(s, &s->found[i]);
        }
    }
    s->n_found = 0;
    next_stage(s);
}

/* ---- lists ---- */

static bool may(void *ctx)
{
    const struct sweep *s = ctx;
    return !s->stopped && s->o.leased(s->o.ctx) && str_eq(s->o.owner(s->o.ctx), s->owner);
}

static void on_listed(void *ctx, const struct err *err)
{
    struct sweep *s = ctx;
    struct err e;
    if (err || s->no_memory) {
        if (!err) {
            err_nomem(&e);
        }
        finish(s, err ? err : &e);
        return;
    }
    talk_end(&s->talk);
    if (s->stage == STAGE_ORDERS) {
        tell_orders(s);
    } else {
        tell_found(s);
    }
}

static const struct talk_events list_events = {.may = may, .end = on_listed};

static void list(struct sweep *s, enum waldur_list_kind kind, unsigned states,
                 waldur_row_fn *on_row)
{
    struct err err;
    struct waldur_list_target t = {.access = marketplace_access(s->o.marketplace),
                                   .kind = kind,
                                   .offerings = s->offerings,
                                   .n_offerings = s->n_offerings,
                                   .states = states,
                                   .since_us = kind == WALDUR_LIST_RESOURCES ? s->since_us : -1,
                                   .row = on_row,
                                   .ctx = s};
    struct waldur_op *op = waldur_list_start(&t, &err);
    if (!op) {
        finish(s, &err);
        return;
    }
    talk_start(&s->talk, s->loop, s->o.marketplace, op, "sweep", &list_events, s);
}

/* ---- stages ---- */

static void on_ended(void *ctx, const PGresult *res, const struct err *err)
{
    struct sweep *s = redeem(ctx);
    (void)res, (void)err;
    if (s) {
        drop(s);
    }
}

static void finish(struct sweep *s, const struct err *err)
{
    char modified[CLOCK_TEXT_MAX] = "";
    bool failed = err && err->class != ERR_NONE;
    talk_end(&s->talk);
    s->stage = STAGE_END;
    metrics_add(s->o.metrics, M_WALDUR_SWEEPS_TOTAL, METRIC_LABELS(failed ? "failed" : "done"), 1);
    if (failed) {
        log_event(LOG_INFO, "sweep over Waldur's orders ended early", LOG_S("error", err->msg));
    } else {
        log_event(LOG_DEBUG, "sweep over Waldur's orders", LOG_I("open", (int64_t)s->n_orders),
                  LOG_I("took_ms", clock_mono_ms() - s->started_ms));
    }
    if (!failed && s->modified_us >= 0) {
        clock_format(modified, s->modified_us);
    }
    const struct pg_param p[] = {{s->owner, -1},
                                 {s->fence, -1},
                                 {modified[0] ? modified : NULL, -1},
                                 {failed ? err->msg : NULL, -1}};
    if (ask(s, S_WALDUR_SWEEP_END, p, on_ended)) {
        drop(s);
    }
}

static void next_stage(struct sweep *s)
{
    s->stage++;
    if (s->stage == STAGE_ORDERS && s->n_offerings > 0) {
        buf_init(&s->orders, UUIDS_MAX);
        buf_addc(&s->orders, '{');
        list(s, WALDUR_LIST_ORDERS,
             1U << WALDUR_ORDER_PENDING_PROVIDER | 1U << WALDUR_ORDER_EXECUTING, on_order);
    } else if (s->stage == STAGE_RESOURCES && s->n_offerings > 0) {
        list(s, WALDUR_LIST_RESOURCES, 0, on_found);
    } else if (s->stage == STAGE_KEYS && s->n_offerings > 0 &&
               str_eq(s->config->waldur_keys, "waldur")) {
        list(s, WALDUR_LIST_KEYS, 1U << WALDUR_KEY_UPDATING, on_found);
    } else if (s->stage == STAGE_END) {
        finish(s, NULL);
    } else {
        next_stage(s);
    }
}

static int take_offerings(struct sweep *s)
{
    const struct config *c = s->config;
    free(s->offerings);
    s->n_offerings = 0;
    s->offerings = calloc(c->n_offerings + 1, sizeof(*s->offerings));
    for (size_t i = 0; s->offerings && i < c->n_offerings; i++) {
        if (c->offerings[i].uuid) {
            s->offerings[s->n_offerings++] = c->offerings[i].uuid;
        }
    }
    return s->offerings ? 0 : -1;
}

static void on_begun(void *ctx, const PGresult *res, const struct err *err)
{
    struct sweep *s = redeem(ctx);
    (void)err;
    if (!s) {
        return;
    }
    s->config = s->o.config;
    if (!res || PQntuples(res) == 0 || s->stopped || take_offerings(s)) {
        drop(s);
        return;
    }
    str_copy(s->fence, sizeof(s->fence), PQgetvalue(res, 0, 0));
    s->since_us = -1;
    (void)str_to_i64(PQgetvalue(res, 0, 1), &s->since_us);
    s->modified_us = -1;
    s->no_memory = false;
    s->n_orders = 0;
    s->started_ms = clock_mono_ms();
    next_stage(s);
}

static void begin(struct sweep *s)
{
    char every[24], asked[24];
    int64_t every_ms = s->o.config->waldur_sweep_ms;
    snprintf(every, sizeof(every), "%" PRId64, every_ms);
    snprintf(asked, sizeof(asked), "%" PRId64, every_ms < ASKED_MS ? every_ms : ASKED_MS);
    str_copy(s->owner, sizeof(s->owner), s->o.owner(s->o.ctx));
    const struct pg_param p[] = {{s->owner, -1}, {every, -1}, {asked, -1}};
    if (s->owner[0] && ask(s, S_WALDUR_SWEEP_BEGIN, p, on_begun) == 0) {
        s->stage = STAGE_BEGIN;
    }
}

static void on_tick(void *ctx)
{
    struct sweep *s = ctx;
    struct err err;
    int64_t ms = s->o.config->waldur_sweep_ms / 5;
    ms = ms < TICK_MIN_MS ? TICK_MIN_MS : ms > TICK_MAX_MS ? TICK_MAX_MS : ms;
    if (loop_timer_set(s->loop, &s->tick, ms, &err)) {
        log_event(LOG_ERROR, "Waldur's orders are not swept any more", LOG_S("error", err.msg));
    }
    if (s->stage == STAGE_IDLE && !s->stopped && marketplace_configured(s->o.marketplace) &&
        marketplace_pause_ms(s->o.marketplace, 0) == 0 && pg_is_up(s->o.pg) &&
        s->o.leased(s->o.ctx)) {
        begin(s);
    }
}

/* ---- life ---- */

struct sweep *sweep_new(struct loop *loop, const struct sweep_options *options, struct err *err)
{
    struct sweep *s = calloc(1, sizeof(*s));
    if (!s) {
        err_nomem(err);
        return NULL;
    }
    s->loop = loop;
    s->o = *options;
    s->tick = (struct loop_timer){.fn = on_tick, .ctx = s};
    if (loop_timer_set(loop, &s->tick, 0, err)) {
        free(s);
        return NULL;
    }
    return s;
}

void sweep_free(struct sweep *s)
{
    if (!s) {
        return;
    }
    drop(s);
    loop_timer_cancel(s->loop, &s->tick);
    free(s->offerings);
    free(s->found);
    free(s);
}

void sweep_configure(struct sweep *s, const struct config *config)
{
    s->o.config = config;
}

bool sweep_uses(const struct sweep *s, const struct config *config)
{
    return s->config == config;
}

void sweep_abandon(struct sweep *s)
{
    drop(s);
}

void sweep_stop(struct sweep *s)
{
    s->stopped = true;
    drop(s);
}
