/*
 * The Kafka consumer and producer against librdkafka's mock cluster. Its first join takes 3 s and
 * each further rebalance a session time-out less a second, so cases share a join where they can.
 */
#include "net/kafka.h"

#include <librdkafka/rdkafka_mock.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/str.h"
#include "net/kafka_client.h"

enum { WAIT_MS = 20000, SEEN_MAX = 4096, PARTITIONS = 4, STATES_MAX = 16 };

static const char *real; /* KAFKA_BOOTSTRAP */
static rd_kafka_t *host;
static rd_kafka_mock_cluster_t *cluster;

static const char *servers(void)
{
    return real != NULL ? real : rd_kafka_mock_cluster_bootstraps(cluster);
}

/* ---- a consumer that records ---- */

struct seen {
    int32_t partition;
    int64_t offset;
};

struct watcher {
    struct kafka_consumer *consumer;
    struct seen seen[SEEN_MAX];
    size_t n_seen;
    size_t stop_storing_at; /* messages from this one on are not stored */
    int assigned, assignments, revocations, lost;
    bool owned[PARTITIONS];
    bool states[STATES_MAX];
    int n_states;
    int fatals;
    char why[ERR_MSG_MAX];
    bool pause_on_message;
    unsigned stall_ms;         /* by the first message */
    struct kafka_message last; /* numbers only */
    char last_value[64];
    bool last_null;
    size_t n_headers;
    char header_names[KAFKA_HEADERS_DELIVERED_MAX][16];
    bool header_null[KAFKA_HEADERS_DELIVERED_MAX];
    size_t header_len[KAFKA_HEADERS_DELIVERED_MAX];
    bool store_on_revoke;
    int64_t next[PARTITIONS];
    size_t in_turn, in_turn_max;
    bool closed;
};

struct rig {
    struct loop *loop;
    struct loop_timer tick;
    int64_t deadline_ms;
    bool (*until)(void *ctx);
    void *ctx;
    bool met;
};

static void take_headers(struct watcher *w, const struct kafka_message *m)
{
    w->n_headers = m->n_headers;
    for (size_t i = 0; i < m->n_headers; i++) {
        str_copy(w->header_names[i], sizeof(w->header_names[i]), m->headers[i].name);
        w->header_null[i] = m->headers[i].value == NULL;
        w->header_len[i] = m->headers[i].len;
    }
}

static void on_message(void *ctx, const struct kafka_message *m)
{
    struct watcher *w = ctx;
    assert_true(w->n_seen < SEEN_MAX);
    if (w->n_seen == 0)
        usleep(w->stall_ms * 1000);
    assert_true(w->owned[m->partition]);
    w->last = *m;
    w->last_null = m->value == NULL;
    str_copy(w->last_value, sizeof(w->last_value), "");
    if (m->value != NULL && m->value_len < sizeof(w->last_value))
        memcpy(w->last_value, m->value, m->value_len);
    take_headers(w, m);
    w->next[m->partition] = m->offset + 1;
    if (!w->store_on_revoke && w->n_seen < w->stop_storing_at)
        kafka_consumer_store(w->consumer, m->topic, m->partition, m->offset + 1);
    w->seen[w->n_seen++] = (struct seen){m->partition, m->offset};
    w->in_turn++;
    if (w->in_turn > w->in_turn_max)
        w->in_turn_max = w->in_turn;
    if (w->pause_on_message)
        kafka_consumer_pause(w->consumer, true);
}

static void on_assigned(void *ctx, const char *topic, int32_t partition)
{
    struct watcher *w = ctx;
    (void)topic;
    assert_false(w->owned[partition]);
    w->owned[partition] = true;
    w->assigned++;
    w->assignments++;
}

static void on_revoked(void *ctx, const char *topic, int32_t partition, bool lost)
{
    struct watcher *w = ctx;
    assert_true(w->owned[partition]);
    if (w->store_on_revoke && w->next[partition] > 0)
        kafka_consumer_store(w->consumer, topic, partition, w->next[partition]);
    w->owned[partition] = false;
    w->assigned--;
    w->revocations++;
    w->lost += lost;
}

static void on_state(void *ctx, bool up, bool fatal, const char *why)
{
    struct watcher *w = ctx;
    assert_true(w->n_states < STATES_MAX);
    w->states[w->n_states++] = up;
    w->fatals += fatal;
    str_copy(w->why, sizeof(w->why), why);
}

static void on_closed(void *ctx)
{
    struct watcher *w = ctx;
    w->closed = true;
}

static void new_turn(void *ctx)
{
    struct watcher *w = ctx;
    w->in_turn = 0;
}

/* ---- running ---- */

static void tick(void *ctx)
{
    struct rig *r = ctx;
    r->met = r->until(r->ctx);
    if (r->met || clock_mono_ms() > r->deadline_ms)
        loop_stop(r->loop);
    else
        assert_int_equal(loop_timer_set(r->loop, &r->tick, 10, NULL), 0);
}

static bool run_until(struct rig *r, bool (*until)(void *ctx), void *ctx, int64_t wait_ms)
{
    struct err err;
    r->until = until;
    r->ctx = ctx;
    r->met = false;
    r->deadline_ms = clock_mono_ms() + wait_ms;
    r->tick.fn = tick;
    r->tick.ctx = r;
    assert_int_equal(loop_timer_set(r->loop, &r->tick, 0, &err), 0);
    assert_int_equal(loop_run(r->loop, &err), 0);
    loop_timer_cancel(r->loop, &r->tick);
    return r->met;
}

static bool never(void *ctx)
{
    (void)ctx;
    return false;
}

static void run_for(struct rig *r, int64_t ms)
{
    run_until(r, never, NULL, ms);
}

struct wanted {
    const struct watcher *w;
    size_t n;
};

static bool has_seen(void *ctx)
{
    const struct wanted *wanted = ctx;
    return wanted->w->n_seen >= wanted->n;
}

static bool wait_seen(struct rig *r, const struct watcher *w, size_t n)
{
    struct wanted wanted = {w, n};
    return run_until(r, has_seen, &wanted, WAIT_MS);
}

static bool has_closed(void *ctx)
{
    return ((const struct watcher *)ctx)->closed;
}

static bool is_assigned(void *ctx)
{
    return ((const struct watcher *)ctx)->assigned == PARTITIONS;
}

static void rig_start(struct rig *r)
{
    struct err err;
    *r = (struct rig){.loop = loop_new(&err)};
    assert_non_null(r->loop);
}

static void start_with(struct rig *r, struct watcher *w, const char *bootstrap, const char *topic,
                       const char *group, const char *strategy, const char *statistics_ms)
{
    const struct kafka_property properties[] = {
        {"bootstrap.servers", bootstrap},
        {"group.id", group},
        {"session.timeout.ms", "4000"}, /* the mock expels during its first 3 s otherwise */
        {"heartbeat.interval.ms", "300"},
        {"partition.assignment.strategy", strategy},
        {"statistics.interval.ms", statistics_ms},
        {"reconnect.backoff.max.ms", "300"},
    };
    const struct kafka_consumer_events events = {w, on_message, on_assigned, on_revoked, on_state};
    struct err err;
    *w = (struct watcher){.stop_storing_at = SIZE_MAX};
    w->consumer =
        kafka_consumer_new(r->loop, properties, ARRAY_LEN(properties), topic, &events, &err);
    assert_non_null(w->consumer);
}

static void start(struct rig *r, struct watcher *w, const char *topic, const char *group)
{
    start_with(r, w, servers(), topic, group, "range", "200");
}

static void stop(struct rig *r, struct watcher *w)
{
    kafka_consumer_close(w->consumer, 5000, on_closed, w);
    assert_true(run_until(r, has_closed, w, 9000));
    assert_int_equal(w->assigned, 0);
    kafka_consumer_free(w->consumer);
    w->consumer = NULL;
}

/* ---- producing ---- */

struct outcome {
    unsigned stall_ms; /* by the first */
    int acknowledged, failed;
    int in_turn, in_turn_max;
    enum err_class class;
    char msg[ERR_MSG_MAX];
};

static void on_delivered(void *ctx, const struct err *err)
{
    struct outcome *o = ctx;
    if (o->acknowledged + o->failed == 0)
        usleep(o->stall_ms * 1000);
    o->in_turn++;
    o->in_turn_max = o->in_turn > o->in_turn_max ? o->in_turn : o->in_turn_max;
    if (err == NULL) {
        o->acknowledged++;
        return;
    }
    o->failed++;
    o->class = err->class;
    str_copy(o->msg, sizeof(o->msg), err->msg);
}

static struct kafka_producer *producer_start(struct rig *r, const struct kafka_property *more,
                                             size_t n)
{
    struct kafka_property properties[8] = {
        {"bootstrap.servers", servers()},
        {"statistics.interval.ms", "200"},
        {"reconnect.backoff.max.ms", "300"},
    };
    struct err err;
    assert_true(n <= 5);
    for (size_t i = 0; i < n; i++)
        properties[3 + i] = more[i];
    struct kafka_producer *p = kafka_producer_new(r->loop, properties, 3 + n, &err);
    assert_non_null(p);
    return p;
}

static bool is_settled(void *ctx)
{
    return kafka_producer_outstanding(ctx) == 0;
}

/* n messages, the number as value, by key over the partitions. */
static void fill(struct rig *r, const char *topic, int n)
{
    struct kafka_producer *p = producer_start(r, NULL, 0);
    struct outcome o = {0};
    struct err err;
    for (int i = 0; i < n; i++) {
        char text[16];
        snprintf(text, sizeof(text), "%d", i);
        assert_int_equal(kafka_produce(p, topic, text, strlen(text), text, strlen(text), NULL, 0, 0,
                                       on_delivered, &o, &err),
                         0);
    }
    assert_int_equal(kafka_producer_outstanding(p), (size_t)n);
    assert_true(run_until(r, is_settled, p, WAIT_MS));
    assert_int_equal(o.acknowledged, n);
    assert_int_equal(o.failed, 0);
    assert_true(kafka_producer_up(p));
    kafka_producer_free(p);
}

static void topic_new(rd_kafka_mock_cluster_t *where, const char *name, int partitions)
{
    if (where != NULL)
        assert_int_equal(rd_kafka_mock_topic_create(where, name, partitions, 1), 0);
}

/* Every offset of every partition from 0 up, exactly once and in order. */
static void check_exact(const struct watcher *w, size_t n)
{
    int64_t next[PARTITIONS] = {0};
    assert_int_equal(w->n_seen, n);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(w->seen[i].offset, next[w->seen[i].partition]);
        next[w->seen[i].partition]++;
    }
}

/* ---- consumer ---- */

static void test_restart_continues_at_stored_offset(void **state)
{
    (void)state;
    struct rig r;
    static struct watcher some, none; /* two groups at once: their joins take the mock 3 s each */
    rig_start(&r);
    topic_new(cluster, "some", 1);
    topic_new(cluster, "none", 1);
    fill(&r, "some", 10);
    fill(&r, "none", 3);

    start(&r, &some, "some", "some");
    start(&r, &none, "none", "none");
    some.stop_storing_at = 6;
    none.stop_storing_at = 0;
    assert_true(wait_seen(&r, &some, 10));
    assert_true(wait_seen(&r, &none, 3));
    check_exact(&some, 10);
    check_exact(&none, 3);
    stop(&r, &some);
    stop(&r, &none);
    assert_int_equal(some.lost, 0);

    /* A store before the assignment, or for a partition that does not exist, changes nothing. */
    start(&r, &some, "some", "some");
    start(&r, &none, "none", "none");
    kafka_consumer_store(some.consumer, "some", 0, 9);
    kafka_consumer_store(some.consumer, "some", 3, 9);
    assert_true(wait_seen(&r, &some, 4));
    assert_true(wait_seen(&r, &none, 3));
    assert_int_equal(some.seen[0].offset, 6);
    check_exact(&none, 3);
    stop(&r, &some);
    stop(&r, &none);
    loop_free(r.loop);
}

static bool lag_is_known(void *ctx)
{
    struct kafka_health h;
    kafka_consumer_health(((const struct watcher *)ctx)->consumer, &h);
    return h.lag >= 0;
}

static void test_pause_resume_and_health(void **state)
{
    (void)state;
    struct rig r;
    static struct watcher w;
    struct kafka_health h;
    rig_start(&r);
    topic_new(cluster, "pause", PARTITIONS);
    fill(&r, "pause", 40);

    start(&r, &w, "pause", "pause");
    kafka_consumer_health(w.consumer, &h);
    assert_false(h.up);
    assert_int_equal(h.lag, -1);
    kafka_consumer_pause(w.consumer, true); /* before anything is assigned */
    kafka_consumer_pause(w.consumer, true);
    assert_true(kafka_consumer_paused(w.consumer));
    assert_true(run_until(&r, is_assigned, &w, WAIT_MS));
    run_for(&r, 500);
    assert_int_equal(w.n_seen, 0);

    w.pause_on_message = true;
    kafka_consumer_pause(w.consumer, false);
    assert_true(wait_seen(&r, &w, 1));
    run_for(&r, 500);
    assert_int_equal(w.n_seen, 1); /* nothing that was fetched already slips through */

    w.pause_on_message = false;
    w.stop_storing_at = 30;
    kafka_consumer_pause(w.consumer, false);
    kafka_consumer_pause(w.consumer, false);
    assert_true(wait_seen(&r, &w, 40));
    run_for(&r, 500);
    check_exact(&w, 40);
    assert_true(run_until(&r, lag_is_known, &w, WAIT_MS));
    kafka_consumer_health(w.consumer, &h);
    assert_true(h.up);
    assert_int_equal(h.assigned, PARTITIONS);
    assert_int_equal(h.messages, 40);
    assert_int_equal(h.lag, 10);
    stop(&r, &w);
    loop_free(r.loop);
}

/*
 * The first message holds the loop up until all are fetched. Then no event comes any more (and no
 * statistics): what a budget leaves must be served because the client asks for it.
 */
static void test_one_turn_has_a_budget(void **state)
{
    (void)state;
    enum { BURST = 12 * KAFKA_BUDGET };
    struct rig r;
    static struct watcher w;
    struct err err;
    rig_start(&r);
    topic_new(cluster, "many", 1);
    fill(&r, "many", BURST);
    start_with(&r, &w, servers(), "many", "many", "range", "0");
    w.stall_ms = 700;
    assert_int_equal(loop_before_sleep(r.loop, new_turn, &w, &err), 0);
    assert_true(wait_seen(&r, &w, 1));
    int64_t began_ms = clock_mono_ms();
    assert_true(wait_seen(&r, &w, BURST));
    /* Not at a turn for each poll. */
    assert_true(clock_mono_ms() - began_ms < BURST / KAFKA_BUDGET / 2 * KAFKA_POLL_MS);
    check_exact(&w, BURST);
    assert_true(w.in_turn_max > KAFKA_BUDGET / 2);
    /* The eventfd and the timer may both be served in one turn. */
    assert_true(w.in_turn_max <= (size_t)KAFKA_BUDGET * 2);
    stop(&r, &w);
    loop_free(r.loop);
}

static void test_roundtrip_of_everything(void **state)
{
    (void)state;
    struct rig r;
    static struct watcher w;
    struct kafka_header headers[KAFKA_HEADERS_DELIVERED_MAX + 10];
    static const char bytes[3] = {'a', '\0', 'b'};
    struct outcome o = {0};
    struct err err;
    rig_start(&r);
    topic_new(cluster, "whole", 1);
    struct kafka_producer *p = producer_start(&r, NULL, 0);
    for (size_t i = 0; i < ARRAY_LEN(headers); i++)
        headers[i] = (struct kafka_header){"filler", "x", 1};
    headers[0] = (struct kafka_header){"bytes", bytes, sizeof(bytes)};
    headers[1] = (struct kafka_header){"null", NULL, 0};
    headers[2] = (struct kafka_header){"empty", "", 0};

    start(&r, &w, "whole", "whole");
    assert_int_equal(kafka_produce(p, "whole", "key", 3, "value", 5, headers, 3, 1700000000123,
                                   on_delivered, &o, &err),
                     0);
    assert_true(wait_seen(&r, &w, 1));
    assert_string_equal(w.last_value, "value");
    assert_int_equal(w.last.key_len, 3);
    assert_int_equal(w.last.timestamp_ms, 1700000000123);
    assert_int_equal(w.n_headers, 3);
    assert_string_equal(w.header_names[0], "bytes");
    assert_int_equal(w.header_len[0], 3);
    assert_true(w.header_null[1] && !w.header_null[0] && !w.header_null[2]);
    assert_string_equal(w.header_names[2], "empty");

    /* A tombstone; and more headers than are delivered. */
    int64_t before_ms = clock_wall_us() / 1000;
    assert_int_equal(kafka_produce(p, "whole", NULL, 0, NULL, 0, headers, ARRAY_LEN(headers), 0,
                                   on_delivered, &o, &err),
                     0);
    assert_true(wait_seen(&r, &w, 2));
    assert_true(w.last_null);
    assert_null(w.last.key);
    assert_int_equal(w.n_headers, KAFKA_HEADERS_DELIVERED_MAX);
    assert_in_range(w.last.timestamp_ms, before_ms - 1, before_ms + WAIT_MS);

    assert_int_equal(kafka_produce(p, "whole", NULL, 0, "", 0, NULL, 0, 0, on_delivered, &o, &err),
                     0);
    assert_true(wait_seen(&r, &w, 3));
    assert_false(w.last_null);
    assert_int_equal(w.last.value_len, 0);
    assert_int_equal(w.n_headers, 0);
    assert_true(
        run_until(&r, is_settled, p, WAIT_MS)); /* what is seen may not be acknowledged yet */
    assert_int_equal(o.acknowledged, 3);

    kafka_producer_free(p);
    stop(&r, &w);
    loop_free(r.loop);
}

/* Above Kafka's own limit of 1 MB: both ends must be set for it. */
static void test_large_message(void **state)
{
    (void)state;
    enum { LARGE = 5 * 1000 * 1000 };
    struct rig r;
    static struct watcher w;
    struct outcome o = {0};
    struct err err;
    rig_start(&r);
    topic_new(cluster, "large", 1);
    struct kafka_producer *p = producer_start(&r, NULL, 0);
    char *large = calloc(1, LARGE);
    assert_non_null(large);
    for (int i = 0; i < 3; i++)
        assert_int_equal(
            kafka_produce(p, "large", NULL, 0, large, LARGE, NULL, 0, 0, on_delivered, &o, &err),
            0);
    free(large);
    start(&r, &w, "large", "large");
    assert_true(wait_seen(&r, &w, 3));
    check_exact(&w, 3);
    assert_int_equal(w.last.value_len, LARGE);
    assert_true(
        run_until(&r, is_settled, p, WAIT_MS)); /* what is seen may not be acknowledged yet */
    assert_int_equal(o.acknowledged, 3);
    kafka_producer_free(p);
    stop(&r, &w);
    loop_free(r.loop);
}

/* ---- rebalancing ---- */

struct pair {
    struct watcher *a, *b;
    size_t n;
};

static bool is_shared(void *ctx)
{
    const struct pair *p = ctx;
    return p->a->assigned == PARTITIONS / 2 && p->b->assigned == PARTITIONS / 2;
}

static bool have_seen(void *ctx)
{
    const struct pair *p = ctx;
    return p->a->n_seen + p->b->n_seen >= p->n;
}

/*
 * The mock may refuse the commit inside a rebalance, and now and then a member's SyncGroup, which
 * costs another round; Kafka does neither.
 */
static void rebalance(const char *name, const char *strategy)
{
    struct rig r;
    static struct watcher a, b;
    struct pair both = {&a, &b, 0};
    const char *bootstrap = servers();
    rig_start(&r);
    topic_new(cluster, name, PARTITIONS);
    fill(&r, name, 100);

    start_with(&r, &a, bootstrap, name, name, strategy, "200");
    a.store_on_revoke =
        real != NULL; /* so only the commit inside the rebalance can move the offsets */
    assert_true(wait_seen(&r, &a, 100));
    check_exact(&a, 100);
    assert_int_equal(a.assigned, PARTITIONS);
    if (real == NULL)
        run_for(&r, 1500); /* until they are committed by time */

    start_with(&r, &b, bootstrap, name, name, strategy, "200");
    assert_true(run_until(&r, is_shared, &both, 2 * WAIT_MS));
    for (int i = 0; i < PARTITIONS; i++)
        assert_true(a.owned[i] != b.owned[i]);
    assert_int_equal(a.lost, 0);
    run_for(&r, 500);
    assert_int_equal(a.n_seen + b.n_seen, 100); /* what was stored is not delivered again */

    a.store_on_revoke = false;
    both.n = a.n_seen + b.n_seen + 40;
    fill(&r, name, 40);
    assert_true(run_until(&r, have_seen, &both, WAIT_MS));
    run_for(&r, 200);
    assert_int_equal(a.n_seen + b.n_seen, both.n);
    assert_true(b.n_seen > 0);

    /* Paused while the other leaves: what comes along is paused too, and flows when told so. */
    kafka_consumer_pause(a.consumer, true);
    stop(&r, &b);
    assert_true(run_until(&r, is_assigned, &a, 2 * WAIT_MS));
    size_t at_pause = a.n_seen;
    fill(&r, name, 40);
    run_for(&r, 500);
    assert_int_equal(a.n_seen, at_pause);
    kafka_consumer_pause(a.consumer, false);
    assert_true(wait_seen(&r, &a, at_pause + 40));
    stop(&r, &a);
    loop_free(r.loop);
}

static void test_rebalance_eager(void **state)
{
    (void)state;
    rebalance("eager", "range");
}

static void test_rebalance_cooperative(void **state)
{
    (void)state;
    rebalance("cooperative", "cooperative-sticky");
}

/* ---- outages ---- */

struct states {
    const struct watcher *w;
    int n;
};

static bool has_states(void *ctx)
{
    const struct states *s = ctx;
    return s->w->n_states >= s->n;
}

static void test_outage_is_told_once(void **state)
{
    (void)state;
    struct rig r;
    static struct watcher w;
    rd_kafka_mock_cluster_t *own = rd_kafka_mock_cluster_new(host, 1);
    const char *bootstrap = rd_kafka_mock_cluster_bootstraps(own);
    const struct kafka_property more[] = {{"bootstrap.servers", bootstrap},
                                          {"delivery.timeout.ms", "1500"}};
    struct outcome o = {0};
    struct err err;
    rig_start(&r);
    topic_new(own, "outage", 1);
    struct kafka_producer *p = producer_start(&r, more, ARRAY_LEN(more));
    start_with(&r, &w, bootstrap, "outage", "outage", "range", "200");
    struct states one = {&w, 1}, two = {&w, 2}, three = {&w, 3};
    assert_true(run_until(&r, has_states, &one, WAIT_MS));
    assert_true(w.states[0]);
    assert_int_equal(
        kafka_produce(p, "outage", NULL, 0, "1", 1, NULL, 0, 0, on_delivered, &o, &err), 0);
    assert_true(wait_seen(&r, &w, 1));

    rd_kafka_mock_broker_set_down(own, 1);
    assert_true(run_until(&r, has_states, &two, WAIT_MS));
    assert_false(w.states[1]);
    assert_true(strlen(w.why) > 0);
    run_for(&r, 1500); /* several reconnects and statistics later: not a word more */
    assert_int_equal(w.n_states, 2);
    assert_false(kafka_producer_up(p));
    assert_int_equal(
        kafka_produce(p, "outage", NULL, 0, "2", 1, NULL, 0, 0, on_delivered, &o, &err), 0);
    assert_true(run_until(&r, is_settled, p, WAIT_MS));
    assert_int_equal(o.failed, 1);
    assert_true(o.class == ERR_UNAVAILABLE || o.class == ERR_UNKNOWN);

    rd_kafka_mock_broker_set_up(own, 1);
    assert_true(run_until(&r, has_states, &three, WAIT_MS));
    assert_true(w.states[2]);
    assert_int_equal(w.fatals, 0);

    /* Leaving a group whose broker is silent ends when it must. */
    rd_kafka_mock_broker_set_down(own, 1);
    int64_t began_ms = clock_mono_ms();
    kafka_consumer_close(w.consumer, 1000, on_closed, &w);
    kafka_consumer_close(w.consumer, 1000, on_closed, &w);
    assert_true(run_until(&r, has_closed, &w, WAIT_MS));
    kafka_consumer_free(w.consumer);
    kafka_producer_free(p);
    assert_true(clock_mono_ms() - began_ms < 1000 + 2 * KAFKA_FREE_MS + 1000);
    loop_free(r.loop);
    rd_kafka_mock_cluster_destroy(own);
}

static void test_topic_that_does_not_exist(void **state)
{
    (void)state;
    struct rig r;
    static struct watcher w;
    const struct kafka_property more[] = {{"topic.metadata.propagation.max.ms", "200"}};
    struct outcome o = {0};
    struct err err;
    struct states one = {&w, 1}, two = {&w, 2};
    rig_start(&r);
    /* The mock creates what it is asked for, so the topic is there but refused. */
    topic_new(cluster, "absent", 1);
    rd_kafka_mock_topic_set_error(cluster, "absent", RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART);
    struct kafka_producer *p = producer_start(&r, more, ARRAY_LEN(more));
    assert_int_equal(
        kafka_produce(p, "absent", NULL, 0, "1", 1, NULL, 0, 0, on_delivered, &o, &err), 0);
    start(&r, &w, "absent", "absent");
    assert_true(run_until(&r, has_states, &one, WAIT_MS));
    if (w.states[0]) /* the connection may be told first */
        assert_true(run_until(&r, has_states, &two, WAIT_MS));
    assert_false(w.states[w.n_states - 1]);
    assert_non_null(strstr(w.why, "absent"));
    assert_true(run_until(&r, is_settled, p, WAIT_MS));
    assert_int_equal(o.failed, 1);
    assert_int_equal(o.class, ERR_UNAVAILABLE);
    assert_non_null(strstr(o.msg, "absent"));
    kafka_producer_free(p);
    kafka_consumer_free(w.consumer); /* without leaving */
    loop_free(r.loop);
}

/* ---- producer ---- */

static void test_refusals_and_bounds(void **state)
{
    (void)state;
    struct rig r;
    const struct kafka_property more[] = {{"message.max.bytes", "2000"},
                                          {"queue.buffering.max.messages", "5"},
                                          {"bootstrap.servers", "127.0.0.1:1"}};
    static const struct kafka_header header = {"h", "v", 1};
    static char big[3000];
    struct outcome o = {0};
    struct err err;
    rig_start(&r);
    struct kafka_producer *p = producer_start(&r, more, ARRAY_LEN(more));
    assert_int_equal(
        kafka_produce(p, "t", NULL, 0, big, sizeof(big), &header, 1, 0, on_delivered, &o, &err),
        -1);
    assert_int_equal(err.class, ERR_REFUSED);
    assert_int_equal(kafka_produce(p, "t", NULL, 0, "1", 1, &header, KAFKA_HEADERS_PRODUCED_MAX + 1,
                                   0, on_delivered, &o, &err),
                     -1);
    assert_int_equal(err.class, ERR_REFUSED);
    for (int i = 0; i < 5; i++)
        assert_int_equal(kafka_produce(p, "t", NULL, 0, "1", 1, NULL, 0, 0, on_delivered, &o, &err),
                         0);
    assert_int_equal(kafka_produce(p, "t", NULL, 0, "1", 1, NULL, 0, 0, on_delivered, &o, &err),
                     -1);
    assert_int_equal(err.class, ERR_THROTTLED);
    assert_true(err.retry_after_ms > 0);
    assert_int_equal(kafka_producer_outstanding(p), 5);
    run_for(&r, 300);
    int64_t began_ms = clock_mono_ms();
    kafka_producer_free(p);
    assert_true(clock_mono_ms() - began_ms < KAFKA_FREE_MS + 500);
    assert_int_equal(o.acknowledged + o.failed, 0); /* dropped, silently */
    loop_free(r.loop);
}

static bool has_begun(void *ctx)
{
    const struct outcome *o = ctx;
    return o->acknowledged + o->failed > 0;
}

static void next_turn(void *ctx)
{
    ((struct outcome *)ctx)->in_turn = 0;
}

/* As above: the first holds the loop up until all have come. */
static void test_acknowledgements_come_in_turns(void **state)
{
    enum { TURNS = 12 };
    (void)state;
    const struct kafka_property quiet = {"statistics.interval.ms", "0"};
    struct rig r;
    struct outcome o = {.stall_ms = 500};
    struct err err;
    rig_start(&r);
    topic_new(cluster, "acks", 1);
    struct kafka_producer *p = producer_start(&r, &quiet, 1);
    assert_int_equal(loop_before_sleep(r.loop, next_turn, &o, &err), 0);
    for (int i = 0; i < TURNS * KAFKA_BUDGET; i++)
        assert_int_equal(
            kafka_produce(p, "acks", NULL, 0, "1", 1, NULL, 0, 0, on_delivered, &o, &err), 0);
    assert_true(run_until(&r, has_begun, &o, WAIT_MS));
    assert_true(run_until(&r, is_settled, p, TURNS / 2 * KAFKA_POLL_MS));
    assert_int_equal(o.acknowledged, TURNS * KAFKA_BUDGET);
    /* The eventfd and the timer may both be served in one turn. */
    assert_in_range(o.in_turn_max, KAFKA_BUDGET / 2, KAFKA_BUDGET * 2);
    kafka_producer_free(p);
    loop_free(r.loop);
}

/* ---- properties ---- */

static void refuse(struct rig *r, const struct kafka_property *property, const char *topic,
                   const char *words, const char *not_words)
{
    static struct watcher w;
    const struct kafka_consumer_events events = {&w, on_message, on_assigned, on_revoked, on_state};
    struct err err;
    err_clear(&err);
    assert_null(
        kafka_consumer_new(r->loop, property, property != NULL ? 1 : 0, topic, &events, &err));
    assert_int_equal(err.class, ERR_INVALID);
    assert_non_null(strstr(err.msg, words));
    if (not_words != NULL)
        assert_null(strstr(err.msg, not_words));
}

static void test_properties(void **state)
{
    (void)state;
    struct rig r;
    struct err err;
    const struct kafka_property unknown = {"no.such.thing", "1"};
    const struct kafka_property fixed = {"enable.auto.offset.store", "true"};
    const struct kafka_property secret = {"ssl.key.pem", "hunter2"};
    const struct kafka_property range = {"session.timeout.ms", "-5"};
    rig_start(&r);
    refuse(&r, &unknown, "t", "No such configuration property: \"no.such.thing\"", NULL);
    refuse(&r, &fixed, "t", "must stay false", NULL);
    refuse(&r, &secret, "t", "", "hunter2");
    refuse(&r, &range, "t", "session.timeout.ms", NULL);
    refuse(&r, NULL, "t", "group.id", NULL);
    refuse(&r, NULL, "^t", "pattern", NULL);
    assert_null(kafka_producer_new(r.loop, &unknown, 1, &err));
    assert_int_equal(err.class, ERR_INVALID);
    kafka_consumer_free(NULL);
    kafka_producer_free(NULL);
    loop_free(r.loop);
}

/* ---- fixture ---- */

static int cluster_start(void **state)
{
    (void)state;
    char why[256];
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, NULL); /* librdkafka's threads inherit it */
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    rd_kafka_conf_set_log_cb(conf, NULL);
    host = rd_kafka_new(RD_KAFKA_PRODUCER, conf, why, sizeof(why));
    if (host != NULL)
        cluster = rd_kafka_mock_cluster_new(host, 2);
    sigprocmask(SIG_UNBLOCK, &all, NULL);
    return cluster != NULL ? 0 : -1;
}

static int cluster_stop(void **state)
{
    (void)state;
    rd_kafka_mock_cluster_destroy(cluster);
    rd_kafka_destroy(host);
    return 0;
}

int main(void)
{
    const struct CMUnitTest anywhere[] = {
        cmocka_unit_test(test_acknowledgements_come_in_turns),
        cmocka_unit_test(test_roundtrip_of_everything),
        cmocka_unit_test(test_restart_continues_at_stored_offset),
        cmocka_unit_test(test_pause_resume_and_health),
        cmocka_unit_test(test_one_turn_has_a_budget),
        cmocka_unit_test(test_rebalance_eager),
    };
    const struct CMUnitTest by_mock[] = {
        cmocka_unit_test(test_properties),
        cmocka_unit_test(test_refusals_and_bounds),
        cmocka_unit_test(test_topic_that_does_not_exist),
        cmocka_unit_test(test_outage_is_told_once),
    };
    const struct CMUnitTest by_kafka[] = {
        cmocka_unit_test(test_large_message),
        cmocka_unit_test(test_rebalance_cooperative),
    };
    real = getenv("KAFKA_BOOTSTRAP");
    if (real != NULL) {
        int failed = cmocka_run_group_tests_name("kafka, real", anywhere, NULL, NULL);
        return failed + cmocka_run_group_tests_name("kafka, real", by_kafka, NULL, NULL);
    }
    int failed = cmocka_run_group_tests_name("kafka, mock", anywhere, cluster_start, cluster_stop);
    return failed +
           cmocka_run_group_tests_name("kafka, mock", by_mock, cluster_start, cluster_stop);
}
