#include "ingest.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "broker.h"
#include "dead_letter.h"
#include "event/event.h"
#include "message.h"
#include "plan.h"
#include "statements.h"
#include "watermark.h"

/*
 * A message is in one of three hands until it is settled: `sent` (its statement is under way),
 * `waiting` (to be offered, organization after organization), or the dead letters'. Settling moves
 * the partition's watermark, and with it the offset.
 */

enum {
    TICK_MS = 500,
    BACKOFF_MIN_MS = 1000,
    BACKOFF_MAX_MS = 30 * 1000,
    WINDOW_ROOM = 8192, /* what may still arrive after the pause, and more */
    CLOSE_MIN_MS = 200,
    HEADERS_MAX = 128,
    SENT_MAX = 32, /* statements under way; beyond, jobs' own would wait behind a flood of events */
};

enum pause_reason {
    PAUSE_TOLD = 1,
    PAUSE_DATABASE = 2,
    PAUSE_HAND = 4,
    PAUSE_WINDOW = 8,
    PAUSE_BACKLOG = 16,
    PAUSE_END = 32, /* draining, or something fatal happened */
};

struct ingest {
    struct loop *loop;
    const struct config *config;
    struct pg *pg;
    struct metrics *metrics;
    void *ctx;
    loop_fn *on_applied;
    void (*on_fatal)(void *ctx, const char *why);

    char *topic;
    char deadline_ms[24];
    int64_t high_water;

    struct kafka_consumer *consumer;
    struct watermark *watermark;
    struct dead_letters *dead_letters;
    struct message_list sent;
    struct fair_queue waiting;
    size_t n_sent, unowned; /* unowned: waiting ones that name no organization */
    uint64_t arrived;
    size_t hand, hand_bytes;
    unsigned paused; /* reasons */
    bool up, fatal;
    char why[ERR_MSG_MAX];

    bool refused; /* said so */
    int64_t backoff_ms, offer_due_ms;
    struct loop_timer tick;

    struct loop_timer drain;
    int64_t drain_deadline_ms;
    bool closing;
    loop_fn *drained;
    void *drained_ctx;
};

/* ---- pausing ---- */

static void set_pause(struct ingest *i, enum pause_reason reason, bool pause)
{
    unsigned before = i->paused;
    i->paused = pause ? before | (unsigned)reason : before & ~(unsigned)reason;
    if ((before != 0) != (i->paused != 0)) {
        kafka_consumer_pause(i->consumer, i->paused != 0);
    }
    if (before != i->paused && (reason == PAUSE_WINDOW || reason == PAUSE_BACKLOG)) {
        log_event(LOG_WARN, pause ? "consumption paused" : "consumption goes on",
                  LOG_S("why", reason == PAUSE_WINDOW ? "messages finished behind one that is not"
                                                      : "jobs waiting in the database"));
    }
}

/* Full at the bound, and until half of it is worked off: pausing throws fetched messages away. */
static void weigh_hand(struct ingest *i)
{
    if (i->hand >= INGEST_HAND_MAX || i->hand_bytes >= INGEST_HAND_BYTES_MAX) {
        set_pause(i, PAUSE_HAND, true);
    } else if (i->hand <= INGEST_HAND_MAX / 2 && i->hand_bytes <= INGEST_HAND_BYTES_MAX / 2) {
        set_pause(i, PAUSE_HAND, false);
    }
}

static void fatal(struct ingest *i, const char *why)
{
    if (i->fatal) {
        return;
    }
    i->fatal = true;
    i->up = false;
    str_copy(i->why, sizeof(i->why), why);
    set_pause(i, PAUSE_END, true);
    i->on_fatal(i->ctx, i->why);
}

/* ---- settling ---- */

static void close_consumer(struct ingest *i);

static void settled(void *ctx, struct message *m)
{
    struct ingest *i = ctx;
    int64_t next = watermark_finish(i->watermark, &m->ticket);
    if (next >= 0) {
        kafka_consumer_store(i->consumer, i->topic, m->ticket.partition, next);
    }
    i->hand--;
    i->hand_bytes -= m->bytes;
    free(m);
    weigh_hand(i);
    if (i->drained && i->hand == 0) {
        close_consumer(i);
    }
}

static int decode(const struct message *m, struct event *out, struct json_fault *fault);

static struct message *message_of(struct fair_item *item)
{
    return (struct message *)(void *)((char *)item - offsetof(struct message, turn));
}

/* Whose it is. What cannot be read is nobody's; offered, it says why. */
static void identify(struct message *m)
{
    struct event e;
    struct json_fault fault;
    if (m->subscription[0] || decode(m, &e, &fault)) {
        return;
    }
    str_copy(m->subscription, sizeof(m->subscription), e.subscription_uuid);
    str_copy(m->organization, sizeof(m->organization), e.organization_uuid);
    event_done(&e);
}

/* NULL: none waits. */
static struct message *waiting_of(struct ingest *i, const char *subscription)
{
    for (struct fair_item *first = i->waiting.first; first; first = first->next_turn) {
        for (struct fair_item *item = first; item; item = item->next) {
            if (str_eq(message_of(item)->subscription, subscription)) {
                return message_of(item);
            }
        }
    }
    return NULL;
}

/* Events of one subscription stay in order: one whose termination, which need not name its
 * organization, waits already, waits behind that. */
static void hold(struct ingest *i, struct message *m)
{
    identify(m);
    bool alone = m->organization[0] && i->unowned == 0;
    const struct message *other =
        alone || !m->subscription[0] ? NULL : waiting_of(i, m->subscription);
    str_copy(m->owner, sizeof(m->owner), other ? other->owner : m->organization);
    i->unowned += m->owner[0] == '\0';
    fair_push(&i->waiting, &m->turn, m->owner, m->number);
}

static struct message *take_waiting(struct ingest *i)
{
    struct message *m = message_of(fair_pop(&i->waiting));
    i->unowned -= m->owner[0] == '\0';
    return m;
}

static void bury(struct ingest *i, struct message *m, const char *class,
                 const struct json_fault *fault)
{
    if (dead_letters_take(i->dead_letters, m, class, fault)) {
        hold(i, m);
    }
}

/* ---- the inbox ---- */

static void offer_waiting(struct ingest *i);

/* The statement can never work with these values: data, constraints, limits of size. */
static bool is_poison(const struct err *err)
{
    return err->class == ERR_REFUSED &&
           (str_starts(err->sqlstate, "22") || str_starts(err->sqlstate, "23") ||
            str_starts(err->sqlstate, "54"));
}

static void not_taken(struct ingest *i, struct message *m, const struct err *err)
{
    int64_t now = clock_mono_ms();
    if (is_poison(err)) {
        struct json_fault fault = {0};
        /* PostgreSQL's words may quote the value. */
        snprintf(fault.reason, sizeof(fault.reason), "refused by the database, SQLSTATE %s",
                 err->sqlstate);
        bury(i, m, "refused", &fault);
        return;
    }
    if (pg_is_up(i->pg)) { /* else the connection's loss is told, and waited for */
        if (!i->refused) {
            i->refused = true;
            log_event(LOG_ERROR, "events cannot be taken in", LOG_S("error", err->msg));
        }
        if (i->offer_due_ms <= now) {
            i->backoff_ms = i->backoff_ms ? i->backoff_ms * 2 : BACKOFF_MIN_MS;
            i->backoff_ms = i->backoff_ms < BACKOFF_MAX_MS ? i->backoff_ms : BACKOFF_MAX_MS;
            i->offer_due_ms = now + i->backoff_ms;
        }
    }
    hold(i, m);
}

static void on_taken(void *ctx, const PGresult *res, const struct err *err)
{
    struct message *m = ctx;
    struct ingest *i = m->keeper;
    TAILQ_REMOVE(&i->sent, m, link);
    i->n_sent--;
    if (!res) {
        not_taken(i, m, err);
        return;
    }
    const char *verdict = PQgetvalue(res, 0, 0);
    i->backoff_ms = 0;
    if (i->refused) {
        i->refused = false;
        log_event(LOG_INFO, "events are taken in again");
    }
    metrics_add(i->metrics, M_EVENTS_TOTAL, METRIC_LABELS(verdict), 1);
    if (i->on_applied && str_eq(verdict, "applied")) {
        i->on_applied(i->ctx);
    }
    settled(i, m);
    if (!i->closing) {
        offer_waiting(i);
    }
}

static const char *or_null(const char *s)
{
    return s[0] ? s : NULL;
}

static int submit(struct ingest *i, struct message *m, const struct event *e)
{
    char time[CLOCK_TEXT_MAX], partition[24], offset[24];
    struct err err;
    clock_format(time, e->time_us);
    snprintf(partition, sizeof(partition), "%" PRId32, m->partition);
    snprintf(offset, sizeof(offset), "%" PRId64, m->offset);
    const struct pg_param p[] = {
        {e->source, -1},
        {e->id, -1},
        {event_type_name(e->type), -1},
        {e->subscription_uuid, -1},
        {or_null(e->organization_uuid), -1},
        {e->order_uuid, -1},
        {time, -1},
        {e->data, -1},
        {or_null(e->traceparent), -1},
        {i->topic, -1},
        {partition, -1},
        {offset, -1},
        {i->deadline_ms, -1},
        {plan_place(e->data, i->config), -1},
    };
    return pg_submit(i->pg, S_INBOX_TAKE, e->subscription_uuid, false, p, on_taken, m, &err);
}

static int decode(const struct message *m, struct event *out, struct json_fault *fault)
{
    struct event_header headers[HEADERS_MAX];
    size_t n = m->n_headers < HEADERS_MAX ? m->n_headers : HEADERS_MAX;
    int64_t time_us = message_time_us(m);
    if (!m->value) {
        *fault = (struct json_fault){0};
        str_copy(fault->reason, sizeof(fault->reason), "empty message");
        return -1;
    }
    for (size_t h = 0; h < n; h++) {
        headers[h] =
            (struct event_header){m->headers[h].name, m->headers[h].value, m->headers[h].len};
    }
    return event_decode(m->value, m->value_len, headers, n,
                        time_us >= 0 ? time_us : clock_wall_us(), out, fault);
}

/* Decodes and sends. False: what memory does not allow now waits. */
static bool offer(struct ingest *i, struct message *m)
{
    struct event e;
    struct json_fault fault;
    if (decode(m, &e, &fault)) {
        if (fault.internal) {
            hold(i, m);
            return false;
        }
        bury(i, m, "invalid", &fault);
        return true;
    }
    bool sent = submit(i, m, &e) == 0;
    event_done(&e);
    if (!sent) {
        hold(i, m);
        return false;
    }
    TAILQ_INSERT_TAIL(&i->sent, m, link);
    i->n_sent++;
    return true;
}

static bool may_offer(const struct ingest *i)
{
    return i->n_sent < SENT_MAX && pg_is_up(i->pg) && i->offer_due_ms <= clock_mono_ms();
}

/* Everybody in turn, as far as it goes; what could not be buried waits, and is no reason to stop.
 */
static void offer_waiting(struct ingest *i)
{
    for (size_t n = i->waiting.n; n > 0 && may_offer(i); n--) {
        if (!offer(i, take_waiting(i))) {
            return;
        }
    }
}

/* ---- Kafka ---- */

static void keep(struct ingest *i, const struct kafka_message *k,
                 const struct watermark_ticket *ticket)
{
    struct message *m = message_copy(k);
    if (!m) {
        fatal(i, "out of memory");
        return;
    }
    m->keeper = i;
    m->ticket = *ticket;
    i->hand++;
    i->hand_bytes += m->bytes;
    m->number = i->arrived++;
    if (i->waiting.n == 0 && i->n_sent < SENT_MAX) {
        (void)offer(i, m);
    } else {
        hold(i, m);
    }
    weigh_hand(i);
}

static void on_message(void *ctx, const struct kafka_message *k)
{
    struct ingest *i = ctx;
    struct watermark_ticket ticket;
    if (i->paused & PAUSE_END) {
        return; /* not finished, so it is delivered again to whoever is next */
    }
    switch (watermark_take(i->watermark, k->partition, k->offset, &ticket)) {
    case WATERMARK_KNOWN:
    case WATERMARK_FOREIGN:
        return;
    case WATERMARK_FULL:
        fatal(i, "out of memory for offsets");
        return;
    case WATERMARK_NEW:
        keep(i, k, &ticket);
        if (watermark_width(i->watermark, k->partition) >= INGEST_WINDOW_MAX) {
            set_pause(i, PAUSE_WINDOW, true);
        }
        return;
    }
}

static void on_assigned(void *ctx, const char *topic, int32_t partition)
{
    struct ingest *i = ctx;
    struct err err;
    log_event(LOG_DEBUG, "partition assigned", LOG_S("topic", topic),
              LOG_I("partition", partition));
    if (watermark_assign(i->watermark, partition, &err)) {
        fatal(i, err.msg);
    }
}

/* Offsets of finished work are stored as soon as they are known: nothing is left to do for it. */
static void on_revoked(void *ctx, const char *topic, int32_t partition, bool lost)
{
    struct ingest *i = ctx;
    log_event(LOG_DEBUG, "partition revoked", LOG_S("topic", topic), LOG_I("partition", partition),
              LOG_B("lost", lost));
    watermark_revoke(i->watermark, partition);
}

static void on_state(void *ctx, bool up, bool is_fatal, const char *why)
{
    struct ingest *i = ctx;
    if (is_fatal) {
        fatal(i, why);
        return;
    }
    i->up = up;
    str_copy(i->why, sizeof(i->why), up ? "" : why);
    log_event(up ? LOG_INFO : LOG_ERROR, up ? "kafka up" : "kafka down",
              LOG_S("why", up ? NULL : why));
}

/* ---- time ---- */

static void look(struct ingest *i)
{
    set_pause(i, PAUSE_DATABASE, !pg_is_up(i->pg));
    offer_waiting(i);
    if ((i->paused & PAUSE_WINDOW) && watermark_widest(i->watermark) < INGEST_WINDOW_MAX / 2) {
        set_pause(i, PAUSE_WINDOW, false);
    }
}

static void measure(struct ingest *i)
{
    struct kafka_health k;
    kafka_consumer_health(i->consumer, &k);
    metrics_set(i->metrics, M_INBOX_LAG, NULL, (double)i->hand);
    metrics_set(i->metrics, M_KAFKA_PAUSED, NULL, i->paused ? 1 : 0);
    if (k.lag >= 0) {
        metrics_set(i->metrics, M_KAFKA_LAG, NULL, (double)k.lag);
    } else {
        metrics_clear(i->metrics, M_KAFKA_LAG); /* unknown is not zero */
    }
}

static void on_tick(void *ctx)
{
    struct ingest *i = ctx;
    struct err err;
    if (loop_timer_set(i->loop, &i->tick, TICK_MS, &err)) {
        fatal(i, err.msg);
        return;
    }
    look(i);
    measure(i);
}

/* ---- draining ---- */

static void on_closed(void *ctx)
{
    struct ingest *i = ctx;
    loop_timer_cancel(i->loop, &i->tick);
    i->drained(i->drained_ctx);
}

static void close_consumer(struct ingest *i)
{
    if (i->closing) {
        return;
    }
    i->closing = true;
    loop_timer_cancel(i->loop, &i->drain);
    int64_t left_ms = i->drain_deadline_ms - clock_mono_ms();
    kafka_consumer_close(i->consumer, left_ms > CLOSE_MIN_MS ? left_ms : CLOSE_MIN_MS, on_closed,
                         i);
}

static void on_drain_due(void *ctx)
{
    struct ingest *i = ctx;
    log_event(LOG_WARN, "messages in hand are left to be delivered again",
              LOG_I("messages", (int64_t)i->hand));
    close_consumer(i);
}

/* Not finished, so they are delivered again to whoever is next. */
static void drop_waiting(struct ingest *i)
{
    while (i->waiting.n > 0) {
        struct message *m = take_waiting(i);
        i->hand--;
        i->hand_bytes -= m->bytes;
        free(m);
    }
}

void ingest_drain(struct ingest *i, int64_t timeout_ms, loop_fn *done, void *ctx)
{
    struct err err;
    i->drained = done;
    i->drained_ctx = ctx;
    i->drain_deadline_ms = clock_mono_ms() + timeout_ms;
    set_pause(i, PAUSE_END, true);
    drop_waiting(i);
    /* Leaving the group takes a part of the time. */
    if (i->hand == 0 || loop_timer_set(i->loop, &i->drain, timeout_ms * 3 / 5, &err)) {
        close_consumer(i);
    }
}

/* ---- life ---- */

void ingest_configure(struct ingest *i, const struct config *config)
{
    i->config = config;
    snprintf(i->deadline_ms, sizeof(i->deadline_ms), "%" PRId64, config->retry_deadline_ms);
    i->high_water = config->worker_inbox_high_water;
}

static int start(struct ingest *i, const struct ingest_options *o, struct err *err)
{
    const struct kafka_consumer_events events = {.ctx = i,
                                                 .on_message = on_message,
                                                 .on_assigned = on_assigned,
                                                 .on_revoked = on_revoked,
                                                 .on_state = on_state};
    const struct dead_letters_options dead = {.pg = o->pg,
                                              .producer = o->producer,
                                              .metrics = o->metrics,
                                              .source = o->config->topic_events,
                                              .topic = o->config->topic_dead_letters,
                                              .ctx = i,
                                              .settled = settled};
    i->topic = str_dup(o->config->topic_events);
    i->watermark = i->topic ? watermark_new(INGEST_WINDOW_MAX + WINDOW_ROOM, err) : NULL;
    i->dead_letters = i->watermark ? dead_letters_new(i->loop, &dead, err) : NULL;
    if (!i->dead_letters) {
        return err_nomem(err);
    }
    i->consumer = broker_consumer(i->loop, o->config, &events, err);
    if (!i->consumer) {
        return -1;
    }
    set_pause(i, PAUSE_DATABASE, !pg_is_up(i->pg));
    return loop_timer_set(i->loop, &i->tick, TICK_MS, err);
}

struct ingest *ingest_new(struct loop *loop, const struct ingest_options *options, struct err *err)
{
    struct ingest *i = calloc(1, sizeof(*i));
    if (!i) {
        err_nomem(err);
        return NULL;
    }
    i->loop = loop;
    i->pg = options->pg;
    i->metrics = options->metrics;
    i->ctx = options->ctx;
    i->on_applied = options->on_applied;
    i->on_fatal = options->on_fatal;
    i->tick = (struct loop_timer){.fn = on_tick, .ctx = i};
    i->drain = (struct loop_timer){.fn = on_drain_due, .ctx = i};
    TAILQ_INIT(&i->sent);
    fair_init(&i->waiting);
    str_copy(i->why, sizeof(i->why), "not connected to Kafka yet");
    ingest_configure(i, options->config);
    if (start(i, options, err)) {
        ingest_free(i);
        return NULL;
    }
    return i;
}

static void list_free(struct message_list *list)
{
    while (!TAILQ_EMPTY(list)) {
        struct message *m = TAILQ_FIRST(list);
        TAILQ_REMOVE(list, m, link);
        free(m);
    }
}

void ingest_free(struct ingest *i)
{
    if (!i) {
        return;
    }
    loop_timer_cancel(i->loop, &i->tick);
    loop_timer_cancel(i->loop, &i->drain);
    kafka_consumer_free(i->consumer);
    dead_letters_free(i->dead_letters);
    watermark_free(i->watermark);
    list_free(&i->sent);
    drop_waiting(i);
    free(i->topic);
    free(i);
}

void ingest_pause(struct ingest *i, bool pause)
{
    set_pause(i, PAUSE_TOLD, pause);
    look(i);
}

void ingest_backlog(struct ingest *i, int64_t waiting_jobs)
{
    if (waiting_jobs > i->high_water) {
        set_pause(i, PAUSE_BACKLOG, true);
    } else if (waiting_jobs <= i->high_water / 5 * 4) {
        set_pause(i, PAUSE_BACKLOG, false);
    }
}

void ingest_health(const struct ingest *i, struct ingest_health *out)
{
    struct kafka_health k;
    kafka_consumer_health(i->consumer, &k);
    *out = (struct ingest_health){.up = i->up && k.up,
                                  .why = i->why,
                                  .lag = k.lag,
                                  .in_flight = i->hand,
                                  .paused = i->paused != 0,
                                  .assigned = k.assigned};
}
