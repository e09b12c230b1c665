/*
 * Kafka clients as the configuration has them.
 */
#ifndef WORKER_BROKER_H
#define WORKER_BROKER_H

#include "base/err.h"
#include "config/config.h"
#include "net/kafka.h"
#include "net/kafka_probe.h"
#include "net/loop.h"

struct kafka_producer *broker_producer(struct loop *loop, const struct config *config,
                                       struct err *err);
/* Of the events' topic, in the configured group. */
struct kafka_consumer *broker_consumer(struct loop *loop, const struct config *config,
                                       const struct kafka_consumer_events *events, struct err *err);
/* Of the three topics (events, dead letters, outcomes: in this order) and the configured group. */
struct kafka_probe *broker_probe(struct loop *loop, const struct config *config, int64_t timeout_ms,
                                 kafka_probe_fn *done, void *ctx, struct err *err);

#endif
