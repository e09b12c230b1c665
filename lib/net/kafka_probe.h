/*
 * One look at the brokers: who answers, which of the topics are there and how they are set up, and
 * what is known of a consumer group. librdkafka answers such questions only to those who wait, so a
 * thread of its own waits, and the loop is told. Changes nothing: topics are not created by asking.
 */
#ifndef NET_KAFKA_PROBE_H
#define NET_KAFKA_PROBE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "net/kafka.h"
#include "net/loop.h"

enum { KAFKA_PROBE_TOPICS_MAX = 8, KAFKA_PROBE_STATE_MAX = 31 };

struct kafka_probe_topic {
    char name[256];
    struct err
        err; /* ERR_NONE: it is there; GONE: it is not; UNAUTHORIZED: not for us; else unseen */
    int partitions;
    int leaderless;  /* of them: nobody serves them now */
    int out_of_sync; /* of them: a replica lags behind */
    int replicas;    /* the least that a partition has */
    /* Settings; each is -1 where it cannot be read, and config_err says why. */
    struct err config_err;
    int64_t max_message_bytes;
    int64_t retention_ms; /* INT64_MAX: for ever */
    int64_t compacts;     /* 1: older messages of a key are dropped */
    int64_t min_in_sync;  /* min.insync.replicas */
};

struct kafka_probe_report {
    struct err err; /* ERR_NONE: brokers answered; else nothing below is known */
    int brokers;
    size_t n_topics;
    struct kafka_probe_topic topics[KAFKA_PROBE_TOPICS_MAX];
    struct err group_err; /* ERR_NONE: the group's offsets can be read */
    int64_t group_lag;    /* messages of the first topic that it has not finished; -1 unknown */
    int group_members;    /* -1: unknown */
    char group_state[KAFKA_PROBE_STATE_MAX + 1]; /* "Stable", "Empty", ...; "": unknown */
};

struct kafka_probe;
/* Once, from the loop; report is borrowed until the probe is freed. May free the probe. */
typedef void kafka_probe_fn(void *ctx, const struct kafka_probe_report *report);

/*
 * The group is that of the property group.id, which must be there; it reads the first topic. It is
 * not joined. Takes at most timeout_ms, and less where every broker refuses at once. Strings are
 * copied. NULL and *err: ERR_INVALID for a property that librdkafka does not take.
 */
struct kafka_probe *kafka_probe_start(struct loop *loop, const struct kafka_property *properties,
                                      size_t n, const char *const *topics, size_t n_topics,
                                      int64_t timeout_ms, kafka_probe_fn *done, void *ctx,
                                      struct err *err);
/* No callback after this. Blocks at most a second; NULL allowed. */
void kafka_probe_free(struct kafka_probe *p);

#endif
