#include "dead_letter.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "statements.h"

enum {
    TICK_MS = 1000,
    BACKOFF_MAX_MS = 30 * 1000,
    OWN_HEADERS_MAX = 12,
    KEPT_HEADERS_MAX = 128, /* as many as are delivered */
    NUMBER_MAX = 24,
    MESSAGE_TEXT_MAX = JSON_POINTER_MAX + JSON_REASON_MAX + 4,
};

enum stage { STAGE_RECORD, STAGE_PUBLISH, STAGE_MARK };

/* What is published: less, when the broker finds the whole too large. */
enum extent { EXTENT_WHOLE, EXTENT_NO_VALUE, EXTENT_BARE };

struct letter {
    struct letter *next, *prev;
    struct dead_letters *all;
    struct message *m;
    const char *class;
    struct json_fault fault;
    int64_t at_us;
    int64_t id;
    enum stage stage;
    enum extent extent;
    bool busy; /* an answer will come */
    unsigned attempts;
    int64_t due_ms; /* when not busy */
};

struct dead_letters {
    struct loop *loop;
    struct dead_letters_options o;
    char *source, *topic;
    struct letter *list;
    struct loop_timer tick;
    bool trouble; /* said so */
};

static void advance(struct letter *l);

/* ---- waiting ---- */

static void on_tick(void *ctx)
{
    struct dead_letters *d = ctx;
    struct letter *next;
    struct err err;
    int64_t now = clock_mono_ms();
    for (struct letter *l = d->list; l; l = next) {
        next = l->next;
        if (!l->busy && l->due_ms <= now) {
            advance(l);
        }
    }
    if (d->list) {
        (void)loop_timer_set(d->loop, &d->tick, TICK_MS, &err);
    }
}

static void wait_for(struct letter *l, int64_t delay_ms)
{
    struct err err;
    l->busy = false;
    l->due_ms = clock_mono_ms() + delay_ms;
    if (l->all->tick.slot == 0) {
        /* One timer for all: setting it anew cannot fail, and the first time memory is plentiful;
         * the next letter tries again. */
        (void)loop_timer_set(l->all->loop, &l->all->tick, TICK_MS, &err);
    }
}

/* Tells of trouble once, until something works again. */
static void trouble(struct letter *l, const char *what, const char *why)
{
    if (!l->all->trouble) {
        l->all->trouble = true;
        log_event(LOG_ERROR, what, LOG_S("error", why), LOG_I("partition", l->m->partition),
                  LOG_I("offset", l->m->offset));
    }
    unsigned shift = l->attempts < 5 ? l->attempts : 5;
    l->attempts++;
    int64_t delay_ms = (int64_t)TICK_MS << shift;
    wait_for(l, delay_ms < BACKOFF_MAX_MS ? delay_ms : BACKOFF_MAX_MS);
}

static void store_trouble(struct letter *l, const struct err *err)
{
    if (err->class == ERR_REFUSED) {
        trouble(l, "dead letters cannot be kept", err->msg);
    } else {
        wait_for(l, TICK_MS); /* the database's coming and going is told elsewhere */
    }
}

static void letter_free(struct letter *l)
{
    if (l->prev) {
        l->prev->next = l->next;
    } else {
        l->all->list = l->next;
    }
    if (l->next) {
        l->next->prev = l->prev;
    }
    free(l);
}

static void settle(struct letter *l)
{
    struct dead_letters *d = l->all;
    struct message *m = l->m;
    letter_free(l);
    d->o.settled(d->o.ctx, m);
}

/* ---- the table ---- */

static void on_recorded(void *ctx, const PGresult *res, const struct err *err)
{
    struct letter *l = ctx;
    l->busy = false;
    if (!res) {
        store_trouble(l, err);
        return;
    }
    if (PQntuples(res) != 1 || !str_to_i64(PQgetvalue(res, 0, 0), &l->id)) {
        trouble(l, "dead letters cannot be kept", "the database did not say under which id");
        return;
    }
    if (str_eq(PQgetvalue(res, 0, 1), "t")) {
        settle(l);
        return;
    }
    l->stage = STAGE_PUBLISH;
    l->attempts = 0;
    advance(l);
}

static int shorter(size_t n, size_t max)
{
    return (int)(n < max ? n : max);
}

static void record(struct letter *l)
{
    const struct message *m = l->m;
    struct dead_letters *d = l->all;
    char partition[NUMBER_MAX], offset[NUMBER_MAX], bytes[NUMBER_MAX], replays[NUMBER_MAX];
    char time[CLOCK_TEXT_MAX];
    struct buf headers;
    struct err err;

    buf_init(&headers, MESSAGE_HEADERS_JSON_MAX);
    snprintf(partition, sizeof(partition), "%" PRId32, m->partition);
    snprintf(offset, sizeof(offset), "%" PRId64, m->offset);
    snprintf(bytes, sizeof(bytes), "%zu", m->value_len);
    snprintf(replays, sizeof(replays), "%d", message_replays(m));
    int64_t time_us = message_time_us(m);
    if (time_us >= 0) {
        clock_format(time, time_us);
    }
    const struct pg_param p[] = {
        {d->source, -1},
        {partition, -1},
        {offset, -1},
        {time_us >= 0 ? time : NULL, -1},
        {m->key, shorter(m->key_len, DEAD_LETTER_KEY_MAX)},
        {m->value, shorter(m->value_len, DEAD_LETTER_VALUE_MAX)},
        {bytes, -1},
        {message_headers_json(m, &headers) ? "[]" : buf_str(&headers), -1},
        {l->fault.pointer, -1},
        {l->fault.reason, -1},
        {replays, -1},
    };
    if (pg_submit(d->o.pg, S_DEAD_LETTER_ADD, NULL, false, p, on_recorded, l, &err)) {
        wait_for(l, TICK_MS);
    }
    buf_done(&headers);
}

static void on_marked(void *ctx, const PGresult *res, const struct err *err)
{
    struct letter *l = ctx;
    if (res) {
        settle(l);
    } else {
        store_trouble(l, err);
    }
}

static void mark(struct letter *l)
{
    char id[NUMBER_MAX];
    struct err err;
    snprintf(id, sizeof(id), "%" PRId64, l->id);
    const struct pg_param p[] = {{id, -1}};
    if (pg_submit(l->all->o.pg, S_DEAD_LETTER_PUBLISHED, NULL, false, p, on_marked, l, &err)) {
        wait_for(l, TICK_MS);
    }
}

/* ---- the topic ---- */

/* Where and why, and how it came here. Texts are borrowed by the headers. */
struct why {
    char partition[NUMBER_MAX], offset[NUMBER_MAX], replays[NUMBER_MAX], bytes[NUMBER_MAX];
    char at[CLOCK_TEXT_MAX];
    char text[MESSAGE_TEXT_MAX];
    struct kafka_header headers[KEPT_HEADERS_MAX + OWN_HEADERS_MAX];
    size_t n;
};

static void add(struct why *w, const char *name, const char *value)
{
    w->headers[w->n++] = (struct kafka_header){name, value, strlen(value)};
}

static void add_original(const struct letter *l, struct why *w)
{
    const struct message *m = l->m;
    for (size_t i = 0; l->extent != EXTENT_BARE && i < m->n_headers && i < KEPT_HEADERS_MAX; i++) {
        if (!message_is_error_header(m->headers[i].name)) {
            w->headers[w->n++] = m->headers[i];
        }
    }
}

static void explain(const struct letter *l, struct why *w)
{
    const struct message *m = l->m;
    w->n = 0;
    add_original(l, w);
    snprintf(w->partition, sizeof(w->partition), "%" PRId32, m->partition);
    snprintf(w->offset, sizeof(w->offset), "%" PRId64, m->offset);
    snprintf(w->replays, sizeof(w->replays), "%d", message_replays(m));
    snprintf(w->bytes, sizeof(w->bytes), "%zu", m->value_len);
    snprintf(w->text, sizeof(w->text), "%s%s%s", l->fault.pointer, l->fault.pointer[0] ? ": " : "",
             l->fault.reason);
    clock_format(w->at, l->at_us);
    add(w, "__connect.errors.topic", l->all->source);
    add(w, "__connect.errors.partition", w->partition);
    add(w, "__connect.errors.offset", w->offset);
    add(w, "__connect.errors.exception.class.name", l->class);
    add(w, "__connect.errors.exception.message", w->text);
    add(w, "provisioner.dlq.version", "1");
    add(w, "provisioner.dlq.pointer", l->fault.pointer);
    add(w, "provisioner.dlq.reason", l->fault.reason);
    add(w, "provisioner.dlq.at", w->at);
    add(w, "provisioner.replays", w->replays);
    if (l->extent != EXTENT_WHOLE) {
        add(w, "provisioner.dlq.value_bytes", w->bytes);
    }
}

static void not_published(struct letter *l, const struct err *err)
{
    if (err->class == ERR_REFUSED && l->extent != EXTENT_BARE) {
        l->extent++; /* most likely too large; the table has it whole */
        wait_for(l, 0);
        return;
    }
    trouble(l, "dead letters cannot be published", err->msg);
}

static void on_published(void *ctx, const struct err *err)
{
    struct letter *l = ctx;
    l->busy = false;
    if (err) {
        not_published(l, err);
        return;
    }
    if (l->all->trouble) {
        l->all->trouble = false;
        log_event(LOG_INFO, "dead letters are published again");
    }
    l->stage = STAGE_MARK;
    l->attempts = 0;
    advance(l);
}

static void publish(struct letter *l)
{
    const struct message *m = l->m;
    bool bare = l->extent == EXTENT_BARE;
    bool whole = l->extent == EXTENT_WHOLE;
    struct why w;
    struct err err;
    explain(l, &w);
    if (kafka_produce(l->all->o.producer, l->all->topic, bare ? NULL : m->key,
                      bare ? 0 : m->key_len, whole ? m->value : NULL, whole ? m->value_len : 0,
                      w.headers, w.n, !bare && m->timestamp_ms > 0 ? m->timestamp_ms : 0,
                      on_published, l, &err)) {
        l->busy = false;
        not_published(l, &err);
    }
}

static void advance(struct letter *l)
{
    l->busy = true;
    if (l->stage != STAGE_PUBLISH && !pg_is_up(l->all->o.pg)) {
        wait_for(l, TICK_MS);
        return;
    }
    switch (l->stage) {
    case STAGE_RECORD:
        record(l);
        break;
    case STAGE_PUBLISH:
        publish(l);
        break;
    case STAGE_MARK:
        mark(l);
        break;
    }
}

/* ---- life ---- */

struct dead_letters *dead_letters_new(struct loop *loop, const struct dead_letters_options *options,
                                      struct err *err)
{
    struct dead_letters *d = calloc(1, sizeof(*d));
    if (!d) {
        err_nomem(err);
        return NULL;
    }
    d->loop = loop;
    d->o = *options;
    d->source = str_dup(options->source);
    d->topic = str_dup(options->topic);
    d->o.source = d->o.topic = NULL;
    d->tick = (struct loop_timer){.fn = on_tick, .ctx = d};
    if (!d->source || !d->topic) {
        err_nomem(err);
        dead_letters_free(d);
        return NULL;
    }
    return d;
}

void dead_letters_free(struct dead_letters *d)
{
    if (!d) {
        return;
    }
    loop_timer_cancel(d->loop, &d->tick);
    struct letter *next;
    for (struct letter *l = d->list; l; l = next) {
        next = l->next;
        free(l->m);
        free(l);
    }
    free(d->source);
    free(d->topic);
    free(d);
}

int dead_letters_take(struct dead_letters *d, struct message *m, const char *class,
                      const struct json_fault *fault)
{
    struct letter *l = calloc(1, sizeof(*l));
    if (!l) {
        return -1;
    }
    *l = (struct letter){.next = d->list,
                         .all = d,
                         .m = m,
                         .class = class,
                         .fault = *fault,
                         .at_us = clock_wall_us()};
    if (d->list) {
        d->list->prev = l;
    }
    d->list = l;
    metrics_add(d->o.metrics, M_DEAD_LETTERS_TOTAL, NULL, 1);
    metrics_add(d->o.metrics, M_EVENTS_TOTAL, METRIC_LABELS("dead"), 1);
    log_event(LOG_WARN, "dead letter", LOG_S("topic", d->source), LOG_I("partition", m->partition),
              LOG_I("offset", m->offset), LOG_S("pointer", fault->pointer),
              LOG_S("reason", fault->reason));
    advance(l);
    return 0;
}
