/*
 * The consumer. One topic, so a partition's number finds its slot. librdkafka keeps a partition's
 * pause across re-assignment, and before 2.4.0 resuming one that is not paused can rewind it: the
 * slots remember what was paused here, also while the partition is someone else's.
 *
 * A resume that crosses the start of a partition's fetching is dropped (seen in 2.0.2: "outdated op
 * PAUSE"), and the partition stays paused for good. So a resume is believed when something came of
 * it, a message or word of the partition's end; until then both are said again, now and then.
 */
#include "net/kafka.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/str.h"
#include "net/kafka_client.h"

enum {
    PARTITIONS_MAX = 100000,
    COMMIT_MS = 3000, /* the longest that a rebalance may stop the loop */
    CLOSE_POLL_MS = 20,
    RESUME_MIN_MS = 2000, /* until a resume of which nothing came is repeated; doubled each time */
    RESUME_MAX_MS = 60 * 1000,
};

struct slot {
    bool assigned;
    bool paused;               /* by us, as librdkafka sees it */
    int64_t lag;               /* -1: unknown */
    int64_t again_ms, wait_ms; /* when the resume is said again; 0: it is known to flow */
};

struct kafka_consumer {
    struct kafka_client client;
    struct kafka_consumer_events events;
    char *topic;
    struct slot *slots; /* by partition */
    size_t n_slots;
    bool paused;
    size_t doubted; /* slots with a resume that may not have been heard */
    bool joined;    /* an assignment came at least once */
    int assigned;
    uint64_t messages;
    rd_kafka_queue_t *closing; /* where librdkafka sends what is left while it leaves the group */
    struct loop_timer close_timer;
    int64_t close_deadline_ms;
    loop_fn *close_done;
    void *close_ctx;
    struct kafka_header headers[KAFKA_HEADERS_DELIVERED_MAX];
};

static const struct kafka_property consumer_defaults[] = {
    {"client.id", "provisioner"},
    {"enable.auto.commit", "true"},
    {"auto.commit.interval.ms", "1000"},
    {"auto.offset.reset", "earliest"},
    {"partition.assignment.strategy", "range"},
    {"session.timeout.ms", "10000"},
    /* At fewer than are in a burst it stops asking, and looks again a second later. */
    {"queued.min.messages", "10000"},
    {"queued.max.messages.kbytes", "16384"},
    {"fetch.max.bytes", "8388608"},
    {"statistics.interval.ms", "5000"},
    /* A topic that the broker does not tell yet, for it is new, is asked for again soon. */
    {"topic.metadata.refresh.interval.ms", "5000"},
    {"topic.metadata.propagation.max.ms", "5000"},
    {"reconnect.backoff.max.ms", "2000"},
    {"allow.auto.create.topics", "false"},
    {"socket.keepalive.enable", "true"},
};

static const struct kafka_property consumer_fixed[] = {
    {"enable.auto.offset.store", "false"},
    {"enable.partition.eof", "true"},
};

/* ---- partitions ---- */

static struct slot *slot_get(struct kafka_consumer *c, int32_t partition)
{
    if (partition < 0 || partition >= PARTITIONS_MAX)
        return NULL;
    size_t wanted = (size_t)partition + 1;
    if (wanted > c->n_slots) {
        struct slot *grown = realloc(c->slots, wanted * sizeof(*grown));
        if (grown == NULL)
            return NULL;
        for (size_t i = c->n_slots; i < wanted; i++)
            grown[i] = (struct slot){.lag = -1};
        c->slots = grown;
        c->n_slots = wanted;
    }
    return &c->slots[partition];
}

static void believe(struct kafka_consumer *c, struct slot *slot)
{
    c->doubted -= slot->again_ms != 0;
    slot->again_ms = 0;
}

static void doubt(struct kafka_consumer *c, struct slot *slot, int64_t wait_ms)
{
    c->doubted += slot->again_ms == 0;
    slot->wait_ms = wait_ms;
    slot->again_ms = clock_mono_ms() + wait_ms;
}

static void tell(struct kafka_consumer *c, int32_t partition, bool pause)
{
    if (!pause && FAULT_FAILS("kafka/%s/resume", c->topic))
        return;
    rd_kafka_topic_partition_list_t *one = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(one, c->topic, partition);
    if (pause)
        rd_kafka_pause_partitions(c->client.rk, one);
    else
        rd_kafka_resume_partitions(c->client.rk, one);
    rd_kafka_topic_partition_list_destroy(one);
}

static void pause_one(struct kafka_consumer *c, int32_t partition, bool pause)
{
    struct slot *slot = &c->slots[partition];
    tell(c, partition, pause);
    slot->paused = pause;
    if (pause)
        believe(c, slot);
    else
        doubt(c, slot, RESUME_MIN_MS);
}

static void flows(struct kafka_consumer *c, int32_t partition)
{
    if (c->doubted > 0 && partition >= 0 && (size_t)partition < c->n_slots)
        believe(c, &c->slots[partition]);
}

/* A pause first: what is not paused must not be resumed. */
static void resume_again(struct kafka_consumer *c)
{
    int64_t now = clock_mono_ms();
    for (size_t i = 0; i < c->n_slots && c->doubted > 0; i++) {
        struct slot *slot = &c->slots[i];
        if (slot->again_ms == 0 || slot->again_ms > now || !slot->assigned)
            continue;
        tell(c, (int32_t)i, true);
        tell(c, (int32_t)i, false);
        doubt(c, slot, slot->wait_ms < RESUME_MAX_MS / 2 ? slot->wait_ms * 2 : RESUME_MAX_MS);
    }
}

static bool is_cooperative(rd_kafka_t *rk)
{
    return str_eq(rd_kafka_rebalance_protocol(rk), "COOPERATIVE");
}

static void note_error(struct kafka_consumer *c, rd_kafka_error_t *error)
{
    if (error == NULL)
        return;
    if (rd_kafka_error_is_fatal(error))
        kafka_client_fatal(&c->client, rd_kafka_error_string(error));
    rd_kafka_error_destroy(error);
}

static void assign(struct kafka_consumer *c, const rd_kafka_topic_partition_list_t *partitions)
{
    rd_kafka_t *rk = c->client.rk;
    if (is_cooperative(rk))
        note_error(c, rd_kafka_incremental_assign(rk, partitions));
    else
        rd_kafka_assign(rk, partitions);
    for (int i = 0; i < partitions->cnt; i++) {
        int32_t partition = partitions->elems[i].partition;
        struct slot *slot = slot_get(c, partition);
        if (slot == NULL) {
            kafka_client_fatal(&c->client, "out of memory, or too many partitions");
            return;
        }
        if (!slot->assigned)
            c->assigned++;
        slot->assigned = true;
        slot->lag = -1;
        /* Before the first message of it can be taken from the queue. */
        if (c->paused || slot->paused)
            pause_one(c, partition, c->paused);
    }
    c->joined = true;
    kafka_client_trouble_over(&c->client);
    kafka_client_answered(&c->client);
    for (int i = 0; i < partitions->cnt; i++)
        c->events.on_assigned(c->events.ctx, c->topic, partitions->elems[i].partition);
}

/* Like rd_kafka_commit, which may wait for a minute. What is not committed is delivered again. */
static void commit_stored(struct kafka_consumer *c)
{
    if (c->client.reach != KAFKA_REACH_UP)
        return;
    int64_t patience_ms = COMMIT_MS;
    if (c->closing != NULL && c->close_deadline_ms - clock_mono_ms() < patience_ms)
        patience_ms = c->close_deadline_ms - clock_mono_ms();
    rd_kafka_queue_t *answer = rd_kafka_queue_new(c->client.rk);
    if (rd_kafka_commit_queue(c->client.rk, NULL, answer, NULL, NULL) ==
        RD_KAFKA_RESP_ERR_NO_ERROR) {
        rd_kafka_event_t *event =
            rd_kafka_queue_poll(answer, patience_ms > 0 ? (int)patience_ms : 0);
        if (event != NULL)
            rd_kafka_event_destroy(event);
    }
    rd_kafka_queue_destroy(answer);
}

static void revoke(struct kafka_consumer *c, const rd_kafka_topic_partition_list_t *partitions)
{
    rd_kafka_t *rk = c->client.rk;
    bool lost = rd_kafka_assignment_lost(rk) != 0;
    for (int i = 0; i < partitions->cnt; i++)
        c->events.on_revoked(c->events.ctx, c->topic, partitions->elems[i].partition, lost);
    if (!lost)
        commit_stored(c);
    for (int i = 0; i < partitions->cnt; i++) {
        struct slot *slot = slot_get(c, partitions->elems[i].partition);
        if (slot != NULL && slot->assigned) {
            slot->assigned = false;
            believe(c, slot);
            c->assigned--;
        }
    }
    if (is_cooperative(rk))
        note_error(c, rd_kafka_incremental_unassign(rk, partitions));
    else
        rd_kafka_assign(rk, NULL);
}

static void on_rebalance(rd_kafka_t *rk, rd_kafka_resp_err_t code,
                         rd_kafka_topic_partition_list_t *partitions, void *opaque)
{
    struct kafka_consumer *c = ((struct kafka_client *)opaque)->hooks.ctx;
    if (code == RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS)
        assign(c, partitions);
    else if (code == RD_KAFKA_RESP_ERR__REVOKE_PARTITIONS)
        revoke(c, partitions);
    else
        rd_kafka_assign(rk, NULL);
}

/* ---- messages ---- */

static size_t take_headers(struct kafka_consumer *c, const rd_kafka_message_t *m)
{
    rd_kafka_headers_t *list;
    size_t n = 0;
    if (rd_kafka_message_headers(m, &list) != RD_KAFKA_RESP_ERR_NO_ERROR)
        return 0;
    while (n < KAFKA_HEADERS_DELIVERED_MAX) {
        struct kafka_header *h = &c->headers[n];
        if (rd_kafka_header_get_all(list, n, &h->name, &h->value, &h->len) !=
            RD_KAFKA_RESP_ERR_NO_ERROR)
            break;
        n++;
    }
    return n;
}

static void deliver(struct kafka_consumer *c, const rd_kafka_message_t *m)
{
    rd_kafka_timestamp_type_t kind;
    int64_t timestamp_ms = rd_kafka_message_timestamp(m, &kind);
    struct kafka_message out = {
        .topic = c->topic,
        .partition = m->partition,
        .offset = m->offset,
        .timestamp_ms = kind == RD_KAFKA_TIMESTAMP_NOT_AVAILABLE ? -1 : timestamp_ms,
        .key = m->key,
        .key_len = m->key_len,
        .value = m->payload,
        .value_len = m->len,
        .headers = c->headers,
        .n_headers = take_headers(c, m),
    };
    c->messages++;
    /* An offset that may not be reset keeps its partition still, whatever the others deliver. */
    if (c->client.trouble != RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET)
        kafka_client_trouble_over(&c->client);
    kafka_client_answered(&c->client);
    flows(c, m->partition);
    FAULT_POINT("kafka/%s/message", c->topic);
    c->events.on_message(c->events.ctx, &out);
}

static void on_consumer_error(struct kafka_consumer *c, const rd_kafka_message_t *m)
{
    char text[ERR_MSG_MAX] = "";
    switch (m->err) {
    case RD_KAFKA_RESP_ERR__PARTITION_EOF:
        flows(c, m->partition);
        break;
    case RD_KAFKA_RESP_ERR__FATAL:
        rd_kafka_fatal_error(c->client.rk, text, sizeof(text));
        kafka_client_fatal(&c->client, text);
        break;
    case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
    case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
    case RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED:
    case RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET:
        kafka_client_trouble(&c->client, m->err, rd_kafka_message_errstr(m));
        break;
    default:
        break; /* librdkafka goes on by itself */
    }
}

static bool consumer_serve(void *ctx)
{
    struct kafka_consumer *c = ctx;
    if (c->doubted > 0)
        resume_again(c);
    for (int i = 0; i < KAFKA_BUDGET; i++) {
        rd_kafka_message_t *m = rd_kafka_consumer_poll(c->client.rk, 0);
        if (m == NULL)
            return false;
        if (m->err != RD_KAFKA_RESP_ERR_NO_ERROR)
            on_consumer_error(c, m);
        else if (c->closing == NULL)
            deliver(c, m);
        rd_kafka_message_destroy(m);
    }
    return true;
}

/* ---- lag ---- */

static int64_t number(const cJSON *object, const char *name)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
    return cJSON_IsNumber(item) ? (int64_t)item->valuedouble : -1;
}

static int64_t partition_lag(const cJSON *p)
{
    int64_t lag = number(p, "consumer_lag_stored");
    if (lag < 0)
        lag = number(p, "consumer_lag");
    if (lag >= 0)
        return lag;
    /* Nothing was stored yet: all that the broker keeps is ahead. */
    int64_t high = number(p, "ls_offset");
    int64_t low = number(p, "lo_offset");
    if (high < 0)
        high = number(p, "hi_offset");
    return high >= 0 && low >= 0 && low <= high ? high - low : -1;
}

static void consumer_stats(void *ctx, const cJSON *stats)
{
    struct kafka_consumer *c = ctx;
    const cJSON *topics = cJSON_GetObjectItemCaseSensitive(stats, "topics");
    const cJSON *topic = cJSON_GetObjectItemCaseSensitive(topics, c->topic);
    const cJSON *p;
    cJSON_ArrayForEach(p, cJSON_GetObjectItemCaseSensitive(topic, "partitions"))
    {
        int64_t partition = number(p, "partition");
        if (partition >= 0 && (size_t)partition < c->n_slots)
            c->slots[partition].lag = partition_lag(p);
    }
}

void kafka_consumer_health(const struct kafka_consumer *c, struct kafka_health *out)
{
    int64_t lag = c->joined ? 0 : -1;
    for (size_t i = 0; i < c->n_slots && lag >= 0; i++) {
        if (!c->slots[i].assigned)
            continue;
        lag = c->slots[i].lag < 0 ? -1 : lag + c->slots[i].lag;
    }
    *out = (struct kafka_health){.up = kafka_client_up(&c->client),
                                 .lag = lag,
                                 .assigned = c->assigned,
                                 .messages = c->messages};
}

/* ---- life ---- */

static void consumer_state(void *ctx, bool up, bool fatal, const char *why)
{
    struct kafka_consumer *c = ctx;
    c->events.on_state(c->events.ctx, up, fatal, why);
}

static int subscribe(struct kafka_consumer *c, struct err *err)
{
    rd_kafka_t *rk = c->client.rk;
    if (rd_kafka_poll_set_consumer(rk) != RD_KAFKA_RESP_ERR_NO_ERROR)
        return err_set(err, ERR_INVALID, "kafka property group.id: missing");
    rd_kafka_topic_partition_list_t *topics = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(topics, c->topic, RD_KAFKA_PARTITION_UA);
    rd_kafka_resp_err_t code = rd_kafka_subscribe(rk, topics);
    rd_kafka_topic_partition_list_destroy(topics);
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
        return err_set(err, ERR_INVALID, "kafka topic %s: %s", c->topic, rd_kafka_err2str(code));
    return 0;
}

struct kafka_consumer *
kafka_consumer_new(struct loop *loop, const struct kafka_property *properties, size_t n,
                   const char *topic, const struct kafka_consumer_events *events, struct err *err)
{
    if (topic[0] == '\0' || topic[0] == '^') {
        err_set(err, ERR_INVALID, "kafka topic: one name is wanted, no pattern");
        return NULL;
    }
    struct kafka_consumer *c = calloc(1, sizeof(*c));
    char *name = str_dup(topic);
    rd_kafka_conf_t *conf =
        kafka_conf_new(consumer_defaults, ARRAY_LEN(consumer_defaults), consumer_fixed,
                       ARRAY_LEN(consumer_fixed), properties, n, err);
    if (c == NULL || name == NULL || conf == NULL) {
        if (conf != NULL) {
            rd_kafka_conf_destroy(conf);
            err_nomem(err);
        }
        free(name);
        free(c);
        return NULL;
    }
    c->topic = name;
    c->events = *events;
    const struct kafka_client_hooks hooks = {
        .ctx = c, .serve = consumer_serve, .on_stats = consumer_stats, .on_state = consumer_state};
    kafka_client_init(&c->client, loop, &hooks);
    rd_kafka_conf_set_rebalance_cb(conf, on_rebalance);
    if (kafka_client_create(&c->client, RD_KAFKA_CONSUMER, conf, err) != 0 ||
        subscribe(c, err) != 0 ||
        kafka_client_watch(&c->client, rd_kafka_queue_get_consumer(c->client.rk), err) != 0) {
        kafka_consumer_free(c);
        return NULL;
    }
    return c;
}

void kafka_consumer_store(struct kafka_consumer *c, const char *topic, int32_t partition,
                          int64_t next_offset)
{
    FAULT_POINT("kafka/%s/offset/before", topic);
    if (FAULT_FAILS("kafka/%s/offset", topic))
        return;
    rd_kafka_topic_partition_list_t *one = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(one, topic, partition)->offset = next_offset;
    rd_kafka_offsets_store(c->client.rk,
                           one); /* refused for a partition that is not ours: as wanted */
    rd_kafka_topic_partition_list_destroy(one);
    FAULT_POINT("kafka/%s/offset/stored", topic);
}

void kafka_consumer_pause(struct kafka_consumer *c, bool pause)
{
    c->paused = pause;
    for (size_t i = 0; i < c->n_slots; i++) {
        if (c->slots[i].assigned && c->slots[i].paused != pause)
            pause_one(c, (int32_t)i, pause);
    }
}

bool kafka_consumer_paused(const struct kafka_consumer *c)
{
    return c->paused;
}

static void close_turn(void *ctx)
{
    struct kafka_consumer *c = ctx;
    struct err err;
    consumer_serve(c);
    bool over = c->client.fatal || rd_kafka_consumer_closed(c->client.rk) ||
                clock_mono_ms() >= c->close_deadline_ms;
    if (!over && loop_timer_set(c->client.loop, &c->close_timer, CLOSE_POLL_MS, &err) == 0)
        return;
    c->close_done(c->close_ctx); /* may free c */
}

void kafka_consumer_close(struct kafka_consumer *c, int64_t timeout_ms, loop_fn *done, void *ctx)
{
    struct err err;
    if (c->closing != NULL)
        return;
    c->close_done = done;
    c->close_ctx = ctx;
    c->close_deadline_ms = clock_mono_ms() + timeout_ms;
    c->close_timer.fn = close_turn;
    c->close_timer.ctx = c;
    c->closing = rd_kafka_queue_new(c->client.rk);
    rd_kafka_error_t *error = rd_kafka_consumer_close_queue(c->client.rk, c->closing);
    if (error != NULL) {
        c->close_deadline_ms = 0; /* nothing to wait for */
        rd_kafka_error_destroy(error);
    }
    if (loop_timer_set(c->client.loop, &c->close_timer, 0, &err) != 0)
        done(ctx);
}

void kafka_consumer_free(struct kafka_consumer *c)
{
    if (c == NULL)
        return;
    loop_timer_cancel(c->client.loop, &c->close_timer);
    if (c->closing != NULL)
        rd_kafka_queue_destroy(c->closing);
    kafka_client_free(&c->client);
    free(c->slots);
    free(c->topic);
    free(c);
}
