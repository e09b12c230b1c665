#include "broker.h"

#include <stdlib.h>

#include "base/str.h"

enum { OWN_MAX = 2 };

/* What the configuration names by itself stands after the free properties and so wins. */
static struct kafka_property *properties(const struct config *config, bool group, size_t *n)
{
    struct kafka_property *p = calloc(config->n_kafka_properties + OWN_MAX, sizeof(*p));
    size_t at = 0;
    if (!p) {
        return NULL;
    }
    for (size_t i = 0; i < config->n_kafka_properties; i++) {
        p[at++] = (struct kafka_property){config->kafka_properties[i].name,
                                          config->kafka_properties[i].value};
    }
    p[at++] = (struct kafka_property){"bootstrap.servers", config->kafka_bootstrap_servers};
    if (group) {
        p[at++] = (struct kafka_property){"group.id", config->kafka_group_id};
    }
    *n = at;
    return p;
}

struct kafka_producer *broker_producer(struct loop *loop, const struct config *config,
                                       struct err *err)
{
    size_t n = 0;
    struct kafka_property *p = properties(config, false, &n);
    if (!p) {
        err_nomem(err);
        return NULL;
    }
    struct kafka_producer *producer = kafka_producer_new(loop, p, n, err);
    free(p);
    return producer;
}

struct kafka_consumer *broker_consumer(struct loop *loop, const struct config *config,
                                       const struct kafka_consumer_events *events, struct err *err)
{
    size_t n = 0;
    struct kafka_property *p = properties(config, true, &n);
    if (!p) {
        err_nomem(err);
        return NULL;
    }
    struct kafka_consumer *consumer =
        kafka_consumer_new(loop, p, n, config->topic_events, events, err);
    free(p);
    return consumer;
}

struct kafka_probe *broker_probe(struct loop *loop, const struct config *config, int64_t timeout_ms,
                                 kafka_probe_fn *done, void *ctx, struct err *err)
{
    const char *const topics[] = {config->topic_events, config->topic_dead_letters,
                                  config->topic_outcomes};
    size_t n = 0;
    struct kafka_property *p = properties(config, true, &n);
    if (!p) {
        err_nomem(err);
        return NULL;
    }
    struct kafka_probe *probe =
        kafka_probe_start(loop, p, n, topics, ARRAY_LEN(topics), timeout_ms, done, ctx, err);
    free(p);
    return probe;
}
