/*
 * What the consumer and the producer share: configuration, the eventfd and the timer that drive a
 * client on the loop, and what is known of the brokers. Private to net/kafka_*.c.
 */
#ifndef NET_KAFKA_CLIENT_H
#define NET_KAFKA_CLIENT_H

#include <cjson/cJSON.h>
#include <librdkafka/rdkafka.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "net/kafka.h"
#include "net/loop.h"

enum {
    KAFKA_BUDGET =
        256, /* messages or deliveries handled before others on the loop get their turn */
    KAFKA_POLL_MS = 1000, /* with no traffic nothing wakes us, and max.poll.interval.ms runs */
    KAFKA_FREE_MS = 1000,
    KAFKA_HEADERS_DELIVERED_MAX = 128,
    KAFKA_HEADERS_PRODUCED_MAX = 512,
};

enum kafka_reach { KAFKA_REACH_UNKNOWN, KAFKA_REACH_UP, KAFKA_REACH_DOWN };

struct kafka_client_hooks {
    void *ctx;
    /* Serves what is queued; true when the budget ended before the queue did. */
    bool (*serve)(void *ctx);
    void (*on_stats)(void *ctx, const cJSON *stats);                   /* may be NULL */
    void (*on_state)(void *ctx, bool up, bool fatal, const char *why); /* may be NULL */
};

struct kafka_client {
    struct loop *loop;
    struct kafka_client_hooks hooks;
    rd_kafka_t *rk;
    rd_kafka_queue_t *queue;
    int efd;
    struct loop_timer timer;
    int64_t poll_ms;
    enum kafka_reach reach;
    rd_kafka_resp_err_t trouble; /* brokers answer, but not with what we need */
    bool reported, reported_up;
    bool fatal;
    char last_error[ERR_MSG_MAX];
};

/* Sets defaults, then the user's properties; `fixed` ones may be given with that very value alone.
 */
rd_kafka_conf_t *kafka_conf_new(const struct kafka_property *defaults, size_t n_defaults,
                                const struct kafka_property *fixed, size_t n_fixed,
                                const struct kafka_property *properties, size_t n, struct err *err);

/* Before anything else; kafka_client_free is allowed from then on. */
void kafka_client_init(struct kafka_client *cl, struct loop *loop,
                       const struct kafka_client_hooks *hooks);
/* Takes conf, whether it succeeds or not. */
int kafka_client_create(struct kafka_client *cl, rd_kafka_type_t type, rd_kafka_conf_t *conf,
                        struct err *err);
/* Puts `queue` (taken) on the loop. */
int kafka_client_watch(struct kafka_client *cl, rd_kafka_queue_t *queue, struct err *err);
/* Blocks at most KAFKA_FREE_MS; calls nothing back. */
void kafka_client_free(struct kafka_client *cl);

bool kafka_client_up(const struct kafka_client *cl);
/* A broker certainly answered just now. */
void kafka_client_answered(struct kafka_client *cl);
void kafka_client_trouble(struct kafka_client *cl, rd_kafka_resp_err_t code, const char *text);
void kafka_client_trouble_over(struct kafka_client *cl);
void kafka_client_fatal(struct kafka_client *cl, const char *text);
/* Serves soon again: for what the budget left behind. */
void kafka_client_rearm(const struct kafka_client *cl);

#endif
