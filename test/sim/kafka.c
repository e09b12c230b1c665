/*
 * net/kafka.h on simulated time: one topic of events with its consumer group, and two topics that
 * are written to. A member that leaves, or gives no sign of life for a session, makes the group
 * share the partitions out anew; what was not committed is delivered again to whoever is next.
 */
#include "net/kafka.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "sim.h"

enum { SESSION_MS = 10000, COMMIT_MS = 5000, FETCH_MAX = 16, LETTERS_MAX = 512 };

struct stored {
    char *key, *value; /* value NULL: a tombstone */
    int64_t timestamp_ms;
    bool valid;
    bool taken, buried; /* in the inbox; among the dead letters */
    bool published;     /* in the dead letters' topic */
};

struct partition {
    struct stored *messages;
    size_t n, room;
    int64_t committed;
    struct kafka_consumer *owner;
};

struct kafka_consumer {
    struct loop *loop;
    struct proc *proc;
    struct kafka_consumer_events events;
    char *topic;
    struct kafka_consumer *next; /* members */
    bool member, joined, paused, closing, fetching, committing, up;
    uint64_t generation; /* of the group that it last agreed to */
    bool mine[PARTITIONS_MAX_SIM];
    int64_t position[PARTITIONS_MAX_SIM], stored[PARTITIONS_MAX_SIM];
    uint64_t delivered;
    loop_fn *close_done;
    void *close_ctx;
    int refs; /* of the process, and of what is under way to it */
    bool freed;
};

struct letter {
    int32_t partition;
    int64_t offset;
    char id[24];
};

static struct {
    struct partition partitions[PARTITIONS_MAX_SIM];
    size_t n;
    struct kafka_consumer *members;
    uint64_t generation;
    bool sharing;
    int64_t down_until_us;
    struct letter letters[LETTERS_MAX];
    size_t n_letters;
} broker;

/* ---- the outbox, as the database and the topic show it ---- */

enum { OUTCOMES_KNOWN_MAX = 4096 };

static struct {
    struct outcome {
        int64_t row;
        char *payload;
        bool published;
    } * list;
    size_t n, room;
} outcomes;

static struct outcome *outcome_by_row(int64_t row)
{
    for (size_t i = outcomes.n; i > 0; i--) {
        if (outcomes.list[i - 1].row == row) {
            return &outcomes.list[i - 1];
        }
    }
    return NULL;
}

/* The CloudEvents id. */
static void id_of(const char *payload, char out[128])
{
    const char *at = strstr(payload, "\"id\": \"job-");
    at = at ? at + 7 : strstr(payload, "\"id\":\"job-");
    out[0] = '\0';
    if (at) {
        at = strstr(at, "job-");
        snprintf(out, 128, "%.*s", (int)strcspn(at, "\""), at);
    }
}

void outbox_claimed(const char *id, const char *payload)
{
    int64_t row = 0;
    (void)str_to_i64(id, &row);
    struct outcome *o = outcome_by_row(row);
    if (o) {
        if (!str_eq(o->payload, payload)) {
            sim_breach("outbox row %s changed from %s to %s", id, o->payload, payload);
        }
        return;
    }
    if (outcomes.n == outcomes.room) {
        outcomes.room = outcomes.room ? 2 * outcomes.room : 32;
        outcomes.list = realloc(outcomes.list, outcomes.room * sizeof(struct outcome));
        if (!outcomes.list) {
            abort();
        }
    }
    char mine[128], other[128];
    id_of(payload, mine);
    for (size_t i = 0; i < outcomes.n; i++) {
        id_of(outcomes.list[i].payload, other);
        if (str_eq(mine, other) && !str_eq(outcomes.list[i].payload, payload)) {
            sim_breach("two outcomes have the id %s: %s and %s", mine, outcomes.list[i].payload,
                       payload);
        }
    }
    outcomes.list[outcomes.n++] = (struct outcome){row, sim_text(payload), false};
}

static void outcome_published(const char *payload)
{
    for (size_t i = 0; i < outcomes.n; i++) {
        if (str_eq(outcomes.list[i].payload, payload)) {
            outcomes.list[i].published = true;
            return;
        }
    }
    sim_breach("an outcome was published that no row of the outbox has: %s", payload);
}

void outbox_done(const char *ids)
{
    for (const char *p = ids; *p; p += strcspn(p, "0123456789")) {
        char *end = NULL;
        if (*p < '0' || *p > '9') {
            p++;
            continue;
        }
        int64_t row = strtoll(p, &end, 10);
        const struct outcome *o = outcome_by_row(row);
        if (!o || !o->published) {
            sim_breach("outbox row %" PRId64 " was deleted before it was published", row);
        }
        p = end;
    }
}

/* ---- messages ---- */

static void fetch_soon(struct kafka_consumer *c);

void kafka_append(size_t partition, const char *key, const char *value, bool valid)
{
    struct partition *p = &broker.partitions[partition];
    if (p->n == p->room) {
        p->room = p->room ? 2 * p->room : 32;
        p->messages = realloc(p->messages, p->room * sizeof(struct stored));
        if (!p->messages) {
            abort();
        }
    }
    p->messages[p->n++] = (struct stored){.key = sim_text(key),
                                          .value = value ? sim_text(value) : NULL,
                                          .timestamp_ms = database_now_us(NULL) / 1000,
                                          .valid = valid};
    sim_say("kafka", "%zu/%zu: %.110s", partition, p->n - 1, value ? value : "(none)");
    if (p->owner) {
        fetch_soon(p->owner);
    }
}

static struct stored *message(int32_t partition, int64_t offset)
{
    if (partition < 0 || (size_t)partition >= broker.n || offset < 0 ||
        (size_t)offset >= broker.partitions[partition].n) {
        sim_breach("there is no message %" PRId32 "/%" PRId64, partition, offset);
        return NULL;
    }
    return &broker.partitions[partition].messages[offset];
}

void kafka_finished(int32_t partition, int64_t offset)
{
    struct stored *m = message(partition, offset);
    if (m) {
        m->taken = true;
        if (!m->valid) {
            sim_breach("the malformed message %" PRId32 "/%" PRId64 " was taken in", partition,
                       offset);
        }
    }
}

static void bury(int32_t partition, int64_t offset)
{
    struct stored *m = message(partition, offset);
    if (!m) {
        return;
    }
    m->buried = true;
    if (m->valid) {
        sim_breach("the valid message %" PRId32 "/%" PRId64 " became a dead letter", partition,
                   offset);
    }
    if (!m->published) {
        sim_breach("dead letter %" PRId32 "/%" PRId64 " is marked as published, and is not",
                   partition, offset);
    }
}

void dead_letter_kept(int32_t partition, int64_t offset, const char *id, bool published)
{
    if (published) {
        bury(partition, offset);
        return;
    }
    for (size_t i = 0; i < broker.n_letters; i++) {
        if (str_eq(broker.letters[i].id, id)) {
            return;
        }
    }
    if (broker.n_letters < LETTERS_MAX) {
        struct letter *l = &broker.letters[broker.n_letters++];
        *l = (struct letter){.partition = partition, .offset = offset};
        str_copy(l->id, sizeof(l->id), id);
    }
}

void dead_letter_marked(const char *id)
{
    for (size_t i = 0; i < broker.n_letters; i++) {
        if (str_eq(broker.letters[i].id, id)) {
            bury(broker.letters[i].partition, broker.letters[i].offset);
            return;
        }
    }
    sim_breach("dead letter %s is marked, and was never kept", id);
}

/* ---- consuming ---- */

static bool down(void)
{
    return world.now_us < broker.down_until_us;
}

/* Not inlined: the compiler cannot know that the last one is not this one. */
__attribute__((noinline)) static void consumer_unref(struct kafka_consumer *c)
{
    if (--c->refs == 0) {
        free(c->topic);
        free(c);
    }
}

static void at(struct kafka_consumer *c, int64_t delay_us, sim_fn *fn, uint64_t arg)
{
    c->refs++;
    sim_after(delay_us, fn, c, arg);
}

static void post(struct kafka_consumer *c, sim_fn *fn, uint64_t arg)
{
    c->refs++;
    proc_post(c->proc, fn, c, arg);
}

static void check_store(const struct kafka_consumer *c, int32_t partition, int64_t next)
{
    const struct partition *p = &broker.partitions[partition];
    for (int64_t i = p->committed; i < next && (size_t)i < p->n; i++) {
        if (!p->messages[i].taken && !p->messages[i].buried) {
            sim_breach("%s stores offset %" PRId64 " of partition %" PRId32 ", and message %" PRId64
                       " is not finished",
                       c->proc->who, next, partition, i);
        }
    }
    if ((size_t)next > p->n) {
        sim_breach("%s stores offset %" PRId64 " of partition %" PRId32 " behind its end",
                   c->proc->who, next, partition);
    }
}

/* The group refuses who is no member of today's generation. */
static void commit(struct kafka_consumer *c)
{
    if (!c->member || c->generation != broker.generation || down()) {
        return;
    }
    for (size_t i = 0; i < broker.n; i++) {
        struct partition *p = &broker.partitions[i];
        if (c->mine[i] && c->stored[i] > p->committed) {
            p->committed = c->stored[i];
        }
    }
}

static void commit_due(void *ctx, uint64_t arg, bool run)
{
    struct kafka_consumer *c = ctx;
    (void)arg;
    if (run && !c->freed && (down() || c->proc->paused)) {
        at(c, SECOND, commit_due, 0);
    } else {
        c->committing = false;
        if (run && !c->freed) {
            commit(c);
        }
    }
    consumer_unref(c);
}

void kafka_consumer_store(struct kafka_consumer *c, const char *topic, int32_t partition,
                          int64_t next_offset)
{
    (void)topic;
    if (c->proc->dying || partition < 0 || (size_t)partition >= broker.n || !c->mine[partition]) {
        return;
    }
    check_store(c, partition, next_offset);
    c->stored[partition] = next_offset;
    if (!c->committing) {
        c->committing = true;
        at(c, sim_between(1, COMMIT_MS) * MS, commit_due, 0);
    }
    (void)proc_action(c->proc, "after an offset was stored");
}

static bool something_to_read(const struct kafka_consumer *c)
{
    for (size_t i = 0; i < broker.n; i++) {
        if (c->mine[i] && (size_t)c->position[i] < broker.partitions[i].n) {
            return true;
        }
    }
    return false;
}

static void deliver(struct kafka_consumer *c, int32_t partition)
{
    static const struct kafka_header header = {"content-type", "application/cloudevents+json", 28};
    int64_t offset = c->position[partition]++;
    const struct stored *m = &broker.partitions[partition].messages[offset];
    const struct kafka_message out = {.topic = c->topic,
                                      .partition = partition,
                                      .offset = offset,
                                      .timestamp_ms = m->timestamp_ms,
                                      .key = m->key,
                                      .key_len = strlen(m->key),
                                      .value = m->value,
                                      .value_len = m->value ? strlen(m->value) : 0,
                                      .headers = &header,
                                      .n_headers = 1};
    c->delivered++;
    c->events.on_message(c->events.ctx, &out);
}

static void on_fetched(void *ctx, uint64_t generation, bool run)
{
    struct kafka_consumer *c = ctx;
    c->fetching = false;
    if (run && !c->freed && c->generation == generation) {
        int left = FETCH_MAX;
        for (int32_t i = 0; (size_t)i < broker.n; i++) {
            while (c->mine[i] && left > 0 && !c->paused && !c->closing && !c->proc->dying &&
                   (size_t)c->position[i] < broker.partitions[i].n) {
                left--;
                deliver(c, i);
            }
        }
    }
    if (run && !c->freed) {
        fetch_soon(c);
    }
    consumer_unref(c);
}

static void fetched(void *ctx, uint64_t generation, bool run)
{
    struct kafka_consumer *c = ctx;
    if (run && !c->freed && down()) {
        at(c, broker.down_until_us - world.now_us + MS, fetched, generation);
    } else if (run && !c->freed) {
        post(c, on_fetched, generation);
    }
    consumer_unref(c);
}

static void fetch_soon(struct kafka_consumer *c)
{
    if (c->fetching || c->paused || c->closing || c->freed || !something_to_read(c)) {
        return;
    }
    c->fetching = true;
    at(c, sim_between(MS, 20 * MS), fetched, c->generation);
}

void kafka_consumer_pause(struct kafka_consumer *c, bool pause)
{
    c->paused = pause;
    fetch_soon(c);
}

bool kafka_consumer_paused(const struct kafka_consumer *c)
{
    return c->paused;
}

void kafka_consumer_health(const struct kafka_consumer *c, struct kafka_health *out)
{
    *out = (struct kafka_health){.up = c->up, .lag = 0, .messages = c->delivered};
    for (size_t i = 0; i < broker.n; i++) {
        out->assigned += c->mine[i];
        out->lag += c->mine[i] ? (int64_t)broker.partitions[i].n - c->stored[i] : 0;
    }
}

/* ---- the group ---- */

static void give_up_partitions(struct kafka_consumer *c, bool lost)
{
    for (int32_t i = 0; (size_t)i < broker.n; i++) {
        if (c->mine[i]) {
            c->events.on_revoked(c->events.ctx, c->topic, i, lost);
        }
    }
    if (!lost) {
        commit(c);
    }
    memset(c->mine, 0, sizeof(c->mine));
}

static void on_assigned(void *ctx, uint64_t generation, bool run)
{
    struct kafka_consumer *c = ctx;
    if (run && !c->freed && !c->closing && c->member && generation == broker.generation) {
        c->generation = generation;
        if (!c->up) {
            c->up = true;
            c->events.on_state(c->events.ctx, true, false, "");
        }
        for (int32_t i = 0; (size_t)i < broker.n; i++) {
            struct partition *p = &broker.partitions[i];
            if (p->owner == c) {
                sim_say(c->proc->who, "partition %" PRId32 " assigned from %" PRId64, i,
                        p->committed);
                c->mine[i] = true;
                c->position[i] = c->stored[i] = p->committed;
                c->events.on_assigned(c->events.ctx, c->topic, i);
            }
        }
        fetch_soon(c);
    }
    consumer_unref(c);
}

/* All have answered: the partitions are dealt out. */
static void share_out(void)
{
    size_t n = 0, i = 0;
    for (struct kafka_consumer *c = broker.members; c; c = c->next) {
        if (!c->joined) {
            return;
        }
        n++;
    }
    broker.sharing = false;
    broker.generation++;
    for (size_t p = 0; p < broker.n; p++) {
        broker.partitions[p].owner = NULL;
    }
    for (struct kafka_consumer *c = broker.members; c; c = c->next, i++) {
        for (size_t p = 0; p < broker.n; p++) {
            if (p % n == i) {
                broker.partitions[p].owner = c;
            }
        }
        post(c, on_assigned, broker.generation);
    }
}

static void on_rejoin(void *ctx, uint64_t arg, bool run)
{
    struct kafka_consumer *c = ctx;
    (void)arg;
    if (run && !c->freed && c->member && broker.sharing) {
        give_up_partitions(c, false);
        c->joined = true;
        share_out();
    }
    consumer_unref(c);
}

static void rebalance(void)
{
    broker.sharing = true;
    for (struct kafka_consumer *c = broker.members; c; c = c->next) {
        c->joined = false;
        if (!c->freed) { /* else the others wait until its session is over */
            post(c, on_rejoin, 0);
        }
    }
}

static void expel(struct kafka_consumer *c)
{
    if (!c->member) {
        return;
    }
    struct kafka_consumer **at_ = &broker.members;
    while (*at_ != c) {
        at_ = &(*at_)->next;
    }
    *at_ = c->next;
    c->member = false;
    for (size_t p = 0; p < broker.n; p++) {
        if (broker.partitions[p].owner == c) {
            broker.partitions[p].owner = NULL;
        }
    }
    rebalance();
    consumer_unref(c);
}

static void join(struct kafka_consumer *c)
{
    c->member = true;
    c->refs++;
    c->joined = false;
    struct kafka_consumer **last = &broker.members;
    while (*last) {
        last = &(*last)->next;
    }
    *last = c;
    c->next = NULL;
    rebalance();
}

static void on_joining(void *ctx, uint64_t arg, bool run)
{
    struct kafka_consumer *c = ctx;
    (void)arg;
    if (run && !c->freed && !c->closing && !c->member) {
        if (down()) {
            at(c, broker.down_until_us - world.now_us + MS, on_joining, 0);
        } else {
            join(c);
        }
    }
    consumer_unref(c);
}

/* It was away for too long, and hears of it. */
static void on_expelled(void *ctx, uint64_t arg, bool run)
{
    struct kafka_consumer *c = ctx;
    (void)arg;
    if (run && !c->freed && !c->member && !c->closing) {
        give_up_partitions(c, true);
        at(c, sim_between(1, 50) * MS, on_joining, 0);
    }
    consumer_unref(c);
}

static void session_over(void *ctx, uint64_t pause, bool run)
{
    struct kafka_consumer *c = ctx;
    bool silent = c->freed || (c->proc->paused && c->proc->pauses == pause);
    if (run && c->member && silent) {
        sim_say("kafka", "%s gave no sign of life", c->proc->who);
        bool freed = c->freed;
        c->refs++;
        expel(c);
        if (!freed) {
            post(c, on_expelled, 0);
        }
        consumer_unref(c);
    }
    consumer_unref(c); // NOLINT(clang-analyzer-unix.Malloc): referred to still
}

void kafka_paused(struct proc *p)
{
    for (struct kafka_consumer *c = broker.members; c; c = c->next) {
        if (c->proc == p && !c->freed) {
            at(c, SESSION_MS * MS, session_over, p->pauses);
        }
    }
}

void kafka_outage(int64_t for_us)
{
    sim_say("kafka", "away for %.1f s", (double)for_us / SECOND);
    broker.down_until_us = world.now_us + for_us;
}

struct kafka_consumer *
kafka_consumer_new(struct loop *loop, const struct kafka_property *properties, size_t n,
                   const char *topic, const struct kafka_consumer_events *events, struct err *err)
{
    (void)properties, (void)n, (void)err;
    struct kafka_consumer *c = sim_alloc(sizeof(*c));
    c->loop = loop;
    c->proc = world.current;
    c->events = *events;
    c->topic = sim_text(topic);
    c->refs = 1;
    at(c, sim_between(1, 200) * MS, on_joining, 0);
    return c;
}

static void on_closed(void *ctx, uint64_t arg, bool run)
{
    struct kafka_consumer *c = ctx;
    (void)arg;
    if (run && !c->freed) {
        give_up_partitions(c, !c->member);
        expel(c);
        c->close_done(c->close_ctx); // NOLINT(clang-analyzer-unix.Malloc): referred to still
    }
    consumer_unref(c);
}

static void closed(void *ctx, uint64_t arg, bool run)
{
    struct kafka_consumer *c = ctx;
    (void)arg;
    if (run && !c->freed) {
        post(c, on_closed, 0);
    }
    consumer_unref(c);
}

void kafka_consumer_close(struct kafka_consumer *c, int64_t timeout_ms, loop_fn *done, void *ctx)
{
    (void)timeout_ms;
    if (!c->closing) {
        c->closing = true;
        c->close_done = done;
        c->close_ctx = ctx;
        at(c, sim_between(1, 100) * MS, closed, 0);
    }
}

void kafka_consumer_free(struct kafka_consumer *c)
{
    if (!c) {
        return;
    }
    c->freed = true;
    /* It says nothing; the group finds out. */
    if (c->member) {
        at(c, SESSION_MS * MS, session_over, 0);
    }
    consumer_unref(c);
}

/* ---- producing ---- */

struct delivery {
    struct kafka_producer *producer; /* NULL: nobody waits */
    struct delivery *next, *prev;
    kafka_delivered_fn *done;
    void *ctx;
    char *value;
    bool outcome;
    int32_t partition;
    int64_t offset;
    enum { TAKEN, DOUBTED, NOT_TAKEN } fate;
};

struct kafka_producer {
    struct proc *proc;
    struct delivery list;
    size_t outstanding;
};

static void delivery_leave(struct delivery *d)
{
    d->next->prev = d->prev;
    d->prev->next = d->next;
    d->producer->outstanding--; // NOLINT(clang-analyzer-core.NullDereference)
    d->producer = NULL;
}

static void delivery_free(struct delivery *d)
{
    free(d->value);
    free(d);
}

static void on_delivered(void *ctx, uint64_t arg, bool run)
{
    struct delivery *d = ctx;
    (void)arg;
    bool told = run && d->producer && !d->producer->proc->dying;
    if (d->producer) {
        delivery_leave(d);
    }
    if (told) {
        struct err err;
        if (d->fate == NOT_TAKEN) {
            err_set(&err, ERR_UNAVAILABLE, "simulated: the broker did not take it");
        } else {
            err_set(&err, ERR_UNKNOWN, "simulated: no acknowledgement came");
        }
        d->done(d->ctx, d->fate == TAKEN ? NULL : &err);
    } else if (d->producer) {
        delivery_leave(d);
    }
    delivery_free(d);
}

static void landed(void *ctx, uint64_t arg, bool run)
{
    struct delivery *d = ctx;
    (void)arg;
    if (run && down()) {
        sim_after(broker.down_until_us - world.now_us + MS, landed, d, 0);
        return;
    }
    if (run && d->fate != NOT_TAKEN && (d->producer || sim_chance(0.5))) {
        if (d->outcome) {
            outcome_published(d->value);
        } else {
            struct stored *m = message(d->partition, d->offset);
            if (m) {
                m->published = true;
            }
        }
    }
    if (run && d->producer) {
        (void)proc_action(d->producer->proc, "after a message was appended, before its answer");
    }
    if (run && d->producer) {
        proc_post(d->producer->proc, on_delivered, d, 0);
    } else {
        delivery_free(d);
    }
}

struct kafka_producer *kafka_producer_new(struct loop *loop,
                                          const struct kafka_property *properties, size_t n,
                                          struct err *err)
{
    (void)loop, (void)properties, (void)n, (void)err;
    struct kafka_producer *p = sim_alloc(sizeof(*p));
    p->proc = world.current;
    p->list.next = p->list.prev = &p->list;
    return p;
}

static int64_t number_in(const struct kafka_header *headers, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++) {
        if (str_eq(headers[i].name, name)) {
            return strtoll(headers[i].value, NULL, 10);
        }
    }
    return -1;
}

int kafka_produce(struct kafka_producer *p, const char *topic, const void *key, size_t key_len,
                  const void *value, size_t value_len, const struct kafka_header *headers,
                  size_t n_headers, int64_t timestamp_ms, kafka_delivered_fn *done, void *ctx,
                  struct err *err)
{
    (void)key, (void)key_len, (void)timestamp_ms;
    if (p->proc->dying || proc_action(p->proc, "before a message leaves")) {
        return err_set(err, ERR_THROTTLED, "the process is ending");
    }
    struct delivery *d = sim_alloc(sizeof(*d));
    d->producer = p;
    d->done = done;
    d->ctx = ctx;
    d->outcome = strstr(topic, "outcomes") != NULL;
    if (d->outcome) {
        d->value = sim_alloc(value_len + 1);
        memcpy(d->value, value, value_len);
    } else {
        d->partition = (int32_t)number_in(headers, n_headers, "__connect.errors.partition");
        d->offset = number_in(headers, n_headers, "__connect.errors.offset");
    }
    d->next = &p->list;
    d->prev = p->list.prev;
    d->prev->next = d->next->prev = d;
    p->outstanding++;
    d->fate = TAKEN;
    if (world.storm && sim_chance(world.faults.produce_fails)) {
        d->fate = sim_chance(0.5) ? DOUBTED : NOT_TAKEN;
    }
    bool slow = world.storm && sim_chance(world.faults.produce_slow);
    sim_after(slow ? sim_between(SECOND, 20 * SECOND) : sim_between(MS, 20 * MS), landed, d, 0);
    return 0;
}

size_t kafka_producer_outstanding(const struct kafka_producer *p)
{
    return p->outstanding;
}

bool kafka_producer_up(const struct kafka_producer *p)
{
    (void)p;
    return !down();
}

void kafka_producer_free(struct kafka_producer *p)
{
    if (!p) {
        return;
    }
    while (p->list.next != &p->list) {
        delivery_leave(p->list.next);
    }
    free(p);
}

/* ---- the whole ---- */

void kafka_begin(size_t partitions)
{
    broker.n = partitions;
}

bool kafka_quiet(void)
{
    for (size_t i = 0; i < broker.n; i++) {
        if ((size_t)broker.partitions[i].committed < broker.partitions[i].n) {
            return false;
        }
    }
    return true;
}

void kafka_check(void)
{
    for (size_t i = 0; i < broker.n; i++) {
        for (size_t k = 0; k < broker.partitions[i].n; k++) {
            const struct stored *m = &broker.partitions[i].messages[k];
            if (m->valid ? !m->taken : !m->buried) {
                sim_breach("message %zu/%zu is lost", i, k);
            }
        }
    }
    for (size_t i = 0; i < outcomes.n; i++) {
        if (!outcomes.list[i].published) {
            sim_breach("outcome %s was never published", outcomes.list[i].payload);
        }
    }
}

void kafka_end(void)
{
    for (size_t i = 0; i < broker.n; i++) {
        for (size_t k = 0; k < broker.partitions[i].n; k++) {
            free(broker.partitions[i].messages[k].key);
            free(broker.partitions[i].messages[k].value);
        }
        free(broker.partitions[i].messages);
    }
    while (broker.members) {
        struct kafka_consumer *c = broker.members;
        broker.members = c->next;
        consumer_unref(c);
    }
    memset(&broker, 0, sizeof(broker));
    for (size_t i = 0; i < outcomes.n; i++) {
        free(outcomes.list[i].payload);
    }
    outcomes.n = 0;
}

void kafka_free(void)
{
    free(outcomes.list);
    outcomes.list = NULL;
    outcomes.room = 0;
}
