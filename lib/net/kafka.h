/*
 * librdkafka on the loop: a consumer whose offsets move only when told, and a producer with
 * acknowledgements. Works with 2.0.2 (Debian 12) and later: consume_batch is never used, events
 * arrive by an eventfd and a 1 s timer, so that max.poll.interval.ms is never exceeded while the
 * loop turns. Block all signals before the first call: librdkafka starts threads.
 */
#ifndef NET_KAFKA_H
#define NET_KAFKA_H

#include <librdkafka/rdkafka.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "net/loop.h"

/* name/value strings for librdkafka; later ones win. */
struct kafka_property {
    const char *name, *value;
};

struct kafka_header {
    const char *name;
    const void *value; /* NULL: a null header */
    size_t len;
};

/* ---- consumer ---- */

struct kafka_consumer;

struct kafka_message {
    const char *topic; /* borrowed, like all below, until the callback returns */
    int32_t partition;
    int64_t offset;
    int64_t timestamp_ms; /* -1: none */
    const void *key;
    size_t key_len;
    const void *value; /* NULL: tombstone */
    size_t value_len;
    const struct kafka_header *headers;
    size_t n_headers; /* at most 128 are delivered */
};

struct kafka_consumer_events {
    void *ctx;
    void (*on_message)(void *ctx, const struct kafka_message *m);
    /* A partition came: nothing of it is outstanding. */
    void (*on_assigned)(void *ctx, const char *topic, int32_t partition);
    /* A partition goes; lost: someone may own it already. Store offsets for finished work now, in
     * here. */
    void (*on_revoked)(void *ctx, const char *topic, int32_t partition, bool lost);
    /* Broker reachability changed, or (fatal) the client must be replaced: the process should end.
     */
    void (*on_state)(void *ctx, bool up, bool fatal, const char *why);
};

/* Defaults that properties may override: enable.auto.offset.store=false (this one not),
 * auto.offset.reset=earliest, partition.assignment.strategy=range (cooperative-sticky may spin
 * before 2.6.1), session.timeout.ms=10000, small fetch queues, statistics.interval.ms=5000. */
struct kafka_consumer *
kafka_consumer_new(struct loop *loop, const struct kafka_property *properties, size_t n,
                   const char *topic, const struct kafka_consumer_events *events, struct err *err);

/* The next offset to read after a crash (last finished + 1). Ignored for a partition that is not
 * ours (any more). */
void kafka_consumer_store(struct kafka_consumer *c, const char *topic, int32_t partition,
                          int64_t next_offset);

/* Pauses or resumes everything assigned, and what is assigned later, until told otherwise.
 * Idempotent. */
void kafka_consumer_pause(struct kafka_consumer *c, bool pause);
bool kafka_consumer_paused(const struct kafka_consumer *c);

struct kafka_health {
    bool up;
    int64_t lag;       /* messages not yet read or stored, over assigned partitions; -1 unknown */
    int assigned;      /* partitions */
    uint64_t messages; /* delivered since start */
};
void kafka_consumer_health(const struct kafka_consumer *c, struct kafka_health *out);

/* Starts leaving the group; done is called when it is finished or after timeout_ms. */
void kafka_consumer_close(struct kafka_consumer *c, int64_t timeout_ms, loop_fn *done, void *ctx);
/*
 * Frees; blocks at most a second. From close's done on, or at once when leaving does not matter;
 * not within another callback.
 */
void kafka_consumer_free(struct kafka_consumer *c);

/* ---- producer ---- */

struct kafka_producer;
/* err is NULL when the broker acknowledged (acks=all, idempotent). */
typedef void kafka_delivered_fn(void *ctx, const struct err *err);

struct kafka_producer *kafka_producer_new(struct loop *loop,
                                          const struct kafka_property *properties, size_t n,
                                          struct err *err);
/*
 * Copies everything. timestamp_ms 0: now. 0 and later one callback; or -1 and *err (queue full:
 * ERR_THROTTLED; too large: ERR_REFUSED) and no callback.
 */
int kafka_produce(struct kafka_producer *p, const char *topic, const void *key, size_t key_len,
                  const void *value, size_t value_len, const struct kafka_header *headers,
                  size_t n_headers, int64_t timestamp_ms, kafka_delivered_fn *done, void *ctx,
                  struct err *err);
size_t kafka_producer_outstanding(const struct kafka_producer *p);
bool kafka_producer_up(const struct kafka_producer *p);
/* Drops what is outstanding without callbacks; blocks at most a second. Not within a callback. */
void kafka_producer_free(struct kafka_producer *p);

#endif
