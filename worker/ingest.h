/*
 * Ingest: from Kafka to the inbox. A message is decoded and taken in by one statement; its offset
 * is stored only when that is committed, and only up to the first message that is still in hand.
 * What cannot be decoded becomes a dead letter: in the table, then in the topic, then its offset
 * moves. What is in hand is bounded, and consumption pauses while the database is down, too much is
 * in hand, or too many jobs wait.
 */
#ifndef WORKER_INGEST_H
#define WORKER_INGEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "config/config.h"
#include "metrics.h"
#include "net/kafka.h"
#include "net/loop.h"
#include "store/pg.h"

enum {
    INGEST_HAND_MAX = 8000, /* messages in hand; beyond it consumption pauses. As many, so that a
                               quiet tenant's are seen behind a loud one's */
    INGEST_HAND_BYTES_MAX = 16 << 20, /* of them, headers and keys included */
    INGEST_WINDOW_MAX = 50000,        /* finished ones of a partition behind one that is not */
};

struct ingest;

struct ingest_options {
    const struct config *config;     /* borrowed until ingest_configure brings another */
    struct pg *pg;                   /* borrowed: engine_pg() */
    struct kafka_producer *producer; /* borrowed; for dead letters, shared with the outcomes */
    struct metrics *metrics;         /* borrowed */
    void *ctx;
    loop_fn *on_applied; /* an event was taken in and a job waits; NULL allowed */
    /* The Kafka client is beyond repair, or memory ended: the process should end. Once. */
    void (*on_fatal)(void *ctx, const char *why);
};

struct ingest *ingest_new(struct loop *loop, const struct ingest_options *options, struct err *err);
/*
 * After ingest_drain's done, or at once: what is in hand is then delivered again. Statements and
 * messages under way still name it, so the pg and the producer must be freed after it, before the
 * loop turns again; and not from within their callbacks.
 */
void ingest_free(struct ingest *i);

/*
 * true: nothing is read until told otherwise. That the database is down is noticed without it, but
 * later, by a timer.
 */
void ingest_pause(struct ingest *i, bool pause);

/* Jobs that wait in the database, from time to time: above the configuration's high water
 * consumption pauses, below 80 % of it it goes on. */
void ingest_backlog(struct ingest *i, int64_t waiting_jobs);

/* The configuration was read anew: limits are taken from it; topics and brokers are not. */
void ingest_configure(struct ingest *i, const struct config *config);

/*
 * Reads nothing more, waits for what is in hand, commits the offsets, leaves the group, and calls
 * done within timeout_ms. Once.
 */
void ingest_drain(struct ingest *i, int64_t timeout_ms, loop_fn *done, void *ctx);

struct ingest_health {
    bool up;          /* the brokers answer */
    const char *why;  /* "" when up; borrowed until the next turn */
    int64_t lag;      /* messages not yet taken in, of our partitions; -1 unknown */
    size_t in_flight; /* messages in hand */
    bool paused;
    int assigned; /* partitions */
};
void ingest_health(const struct ingest *i, struct ingest_health *out);

#endif
