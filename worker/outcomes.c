#include "outcomes.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "base/uuid.h"
#include "statements.h"

/*
 * A claimed row has a slot until it is settled: with the broker, acknowledged (to be deleted), or
 * not taken (to be given back). Work is done in the hook before the loop sleeps, so that what is
 * acknowledged in one turn leaves in one statement.
 */

enum {
    TICK_MS = 1000,
    CLAIM_MAX = 256,
    BACKOFF_MAX_MS = 30 * 1000,
    IDS_TEXT_MAX = OUTCOMES_MAX * 21 + 3,
};

struct ids {
    int64_t v[OUTCOMES_MAX];
    size_t n;
};

struct slot {
    struct outcomes *all;
    struct slot *next; /* free ones */
    bool used;
    int64_t id;
};

struct outcomes {
    struct loop *loop;
    struct outcomes_options o;
    char *topic;
    struct loop_timer tick, drain;
    struct slot slots[OUTCOMES_MAX];
    struct slot *free;
    size_t in_flight; /* rows that are ours: with the broker, or in one of these: */
    struct ids acknowledged, deleting, refused, returning;
    bool claiming, claim_wanted;
    char claimer[UUID_TEXT]; /* for whom the last claim was */
    bool claim_lost;         /* nobody knows what it got: to be forgotten before the next one */
    bool forgetting;
    bool tick_first; /* what the database did not do is tried again at the next tick */
    int64_t backoff_ms, claim_due_ms;
    bool trouble; /* said so */
    bool ended;   /* drained was called */
    loop_fn *drained;
    void *drained_ctx;
};

/* ---- the broker ---- */

static void ids_add(struct ids *l, int64_t id)
{
    if (l->n < OUTCOMES_MAX) {
        l->v[l->n++] = id;
    }
}

static void say_trouble(struct outcomes *o, const struct err *err)
{
    if (!o->trouble) {
        o->trouble = true;
        log_event(LOG_ERROR, "outcomes cannot be published", LOG_S("error", err->msg));
    }
}

/* Many rows fail together: they are one failure. */
static void back_off(struct outcomes *o)
{
    int64_t now = clock_mono_ms();
    if (now < o->claim_due_ms) {
        return;
    }
    o->backoff_ms = o->backoff_ms ? o->backoff_ms * 2 : TICK_MS;
    o->backoff_ms = o->backoff_ms < BACKOFF_MAX_MS ? o->backoff_ms : BACKOFF_MAX_MS;
    o->claim_due_ms = now + o->backoff_ms;
}

static void not_delivered(struct outcomes *o, int64_t id, const struct err *err)
{
    say_trouble(o, err);
    if (err->class == ERR_REFUSED) {
        /* It is the row's own trouble. Its claim runs out by itself; given back, it would come
         * again at once and for ever. */
        o->in_flight--;
        return;
    }
    back_off(o);
    ids_add(&o->refused, id);
}

static void on_delivered(void *ctx, const struct err *err)
{
    struct slot *s = ctx;
    struct outcomes *o = s->all;
    s->next = o->free;
    s->used = false;
    o->free = s;
    if (err) {
        not_delivered(o, s->id, err);
        return;
    }
    o->backoff_ms = o->claim_due_ms = 0;
    if (o->trouble) {
        o->trouble = false;
        log_event(LOG_INFO, "outcomes are published again");
    }
    ids_add(&o->acknowledged, s->id);
}

static void produce(struct outcomes *o, int64_t id, const char *subscription, const char *payload)
{
    static const char content_type[] = "application/cloudevents+json; charset=UTF-8";
    static const struct kafka_header header = {"content-type", content_type,
                                               sizeof(content_type) - 1};
    struct slot *s = o->free;
    struct err err;
    o->in_flight++;
    o->free = s->next;
    s->used = true;
    s->id = id;
    if (kafka_produce(o->o.producer, o->topic, subscription, strlen(subscription), payload,
                      strlen(payload), &header, 1, 0, on_delivered, s, &err)) {
        on_delivered(s, &err);
    }
}

/* ---- the outbox ---- */

static void on_claimed(void *ctx, const PGresult *res, const struct err *err)
{
    struct outcomes *o = ctx;
    o->claiming = false;
    if (!res) {
        o->claim_lost = err->class == ERR_UNKNOWN;
        if (err->class == ERR_REFUSED) {
            say_trouble(o, err);
            back_off(o);
        }
        return;
    }
    int rows = PQntuples(res);
    for (int i = 0; i < rows && o->free; i++) {
        int64_t id;
        if (str_to_i64(PQgetvalue(res, i, 0), &id)) {
            produce(o, id, PQgetvalue(res, i, 1), PQgetvalue(res, i, 3));
        }
    }
    if (rows > 0) {
        outcomes_wake(o); /* there may be more */
    }
}

static bool may_claim(const struct outcomes *o)
{
    if (!o->claim_wanted || o->claiming || o->claim_lost || o->drained ||
        o->in_flight >= OUTCOMES_MAX || !pg_is_up(o->o.pg)) {
        return false;
    }
    /* A fresh producer knows of no broker yet: only after a failure is its word taken. */
    return o->backoff_ms == 0 ||
           (clock_mono_ms() >= o->claim_due_ms && kafka_producer_up(o->o.producer));
}

static void claim(struct outcomes *o)
{
    char limit[16];
    struct err err;
    const char *owner = o->o.owner(o->o.ctx);
    size_t room = OUTCOMES_MAX - o->in_flight;
    o->claim_wanted = false;
    if (!owner || !owner[0]) {
        return;
    }
    snprintf(limit, sizeof(limit), "%zu", room < CLAIM_MAX ? room : CLAIM_MAX);
    str_copy(o->claimer, sizeof(o->claimer), owner);
    const struct pg_param p[] = {{o->claimer, -1}, {limit, -1}};
    o->claiming = pg_submit(o->o.pg, S_OUTBOX_CLAIM, NULL, true, p, on_claimed, o, &err) == 0;
}

static void add_ids(struct buf *text, const struct ids *l)
{
    for (size_t i = 0; i < l->n; i++) {
        buf_addf(text, "%s%" PRId64, text->len > 1 ? "," : "", l->v[i]);
    }
}

static void on_forgotten(void *ctx, const PGresult *res, const struct err *err)
{
    struct outcomes *o = ctx;
    (void)err;
    o->forgetting = false;
    o->claim_lost = !res;
    o->claim_wanted = o->claim_wanted || res;
    o->tick_first = o->tick_first || !res;
}

/* A claim that may have got rows, which would lie there until it runs out: all but those in hand
 * are free again. */
static void forget(struct outcomes *o)
{
    struct buf text;
    struct err err;
    buf_init(&text, IDS_TEXT_MAX);
    buf_addc(&text, '{');
    for (size_t i = 0; i < OUTCOMES_MAX; i++) {
        if (o->slots[i].used) {
            buf_addf(&text, "%s%" PRId64, text.len > 1 ? "," : "", o->slots[i].id);
        }
    }
    add_ids(&text, &o->acknowledged);
    add_ids(&text, &o->deleting);
    add_ids(&text, &o->refused);
    add_ids(&text, &o->returning);
    buf_addc(&text, '}');
    const struct pg_param p[] = {{o->claimer, -1}, {buf_str(&text), -1}};
    o->forgetting = !text.failed &&
                    pg_submit(o->o.pg, S_OUTBOX_FORGET, NULL, true, p, on_forgotten, o, &err) == 0;
    buf_done(&text);
}

static void on_deleted(void *ctx, const PGresult *res, const struct err *err)
{
    struct outcomes *o = ctx;
    (void)err;
    if (res) {
        o->in_flight -= o->deleting.n;
    } else {
        for (size_t i = 0; i < o->deleting.n; i++) {
            ids_add(&o->acknowledged, o->deleting.v[i]);
        }
        o->tick_first = true;
    }
    o->deleting.n = 0;
}

/* Where the database refuses it the claims run out by themselves. */
static void on_returned(void *ctx, const PGresult *res, const struct err *err)
{
    struct outcomes *o = ctx;
    (void)err;
    for (size_t i = 0; !res && !pg_is_up(o->o.pg) && i < o->returning.n; i++) {
        ids_add(&o->refused, o->returning.v[i]);
        o->in_flight++;
    }
    o->in_flight -= o->returning.n;
    o->returning.n = 0;
}

static void send_ids(struct outcomes *o, int statement, struct ids *from, struct ids *to,
                     pg_done_fn *done)
{
    struct buf text;
    struct err err;
    if (from->n == 0 || to->n > 0 || !pg_is_up(o->o.pg)) {
        return;
    }
    buf_init(&text, IDS_TEXT_MAX);
    buf_addc(&text, '{');
    for (size_t i = 0; i < from->n; i++) {
        buf_addf(&text, "%s%" PRId64, i ? "," : "", from->v[i]);
    }
    buf_addc(&text, '}');
    const struct pg_param p[] = {{buf_str(&text), -1}};
    if (!text.failed && pg_submit(o->o.pg, statement, NULL, false, p, done, o, &err) == 0) {
        *to = *from;
        from->n = 0;
    }
    buf_done(&text);
}

/* ---- the loop ---- */

static void end_drain(struct outcomes *o)
{
    loop_timer_cancel(o->loop, &o->drain);
    loop_timer_cancel(o->loop, &o->tick);
    o->ended = true;
    o->drained(o->drained_ctx);
}

static void before_sleep(void *ctx)
{
    struct outcomes *o = ctx;
    if (!o->tick_first) {
        send_ids(o, S_OUTBOX_DONE, &o->acknowledged, &o->deleting, on_deleted);
    }
    send_ids(o, S_OUTBOX_BACK, &o->refused, &o->returning, on_returned);
    if (o->claim_lost && !o->forgetting && !o->tick_first && pg_is_up(o->o.pg)) {
        forget(o);
    }
    if (may_claim(o)) {
        claim(o);
    }
    if (o->drained && !o->ended && o->in_flight == 0 && !o->claiming) {
        end_drain(o);
    }
}

static void on_tick(void *ctx)
{
    struct outcomes *o = ctx;
    struct err err;
    if (loop_timer_set(o->loop, &o->tick, TICK_MS, &err)) {
        log_event(LOG_ERROR, "outcomes are only looked for when this process makes one",
                  LOG_S("error", err.msg));
    }
    o->claim_wanted = true;
    o->tick_first = false;
}

void outcomes_wake(struct outcomes *o)
{
    o->claim_wanted = true;
    loop_wake(o->loop); /* the hook of this turn may be over */
}

static void on_drain_due(void *ctx)
{
    struct outcomes *o = ctx;
    log_event(LOG_WARN, "outcomes in hand are left to be published again",
              LOG_I("outcomes", (int64_t)o->in_flight));
    end_drain(o);
}

void outcomes_drain(struct outcomes *o, int64_t timeout_ms, loop_fn *done, void *ctx)
{
    struct err err;
    o->drained = done;
    o->drained_ctx = ctx;
    (void)loop_timer_set(o->loop, &o->drain, timeout_ms, &err);
    loop_wake(o->loop);
}

size_t outcomes_in_flight(const struct outcomes *o)
{
    return o->in_flight;
}

/* ---- life ---- */

struct outcomes *outcomes_new(struct loop *loop, const struct outcomes_options *options,
                              struct err *err)
{
    struct outcomes *o = calloc(1, sizeof(*o));
    if (!o) {
        err_nomem(err);
        return NULL;
    }
    o->loop = loop;
    o->o = *options;
    o->o.topic = NULL;
    o->topic = str_dup(options->topic);
    o->tick = (struct loop_timer){.fn = on_tick, .ctx = o};
    o->drain = (struct loop_timer){.fn = on_drain_due, .ctx = o};
    for (size_t i = 0; i < OUTCOMES_MAX; i++) {
        o->slots[i] = (struct slot){.all = o, .next = o->free};
        o->free = &o->slots[i];
    }
    if (!o->topic) {
        err_nomem(err);
    } else if (!loop_before_sleep(loop, before_sleep, o, err) &&
               !loop_timer_set(loop, &o->tick, TICK_MS, err)) {
        return o;
    }
    outcomes_free(o);
    return NULL;
}

void outcomes_free(struct outcomes *o)
{
    if (!o) {
        return;
    }
    loop_before_sleep_del(o->loop, before_sleep, o);
    loop_timer_cancel(o->loop, &o->tick);
    loop_timer_cancel(o->loop, &o->drain);
    free(o->topic);
    free(o);
}
