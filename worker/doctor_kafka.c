/*
 * doctor: Kafka. Topics are judged by what the worker relies on: whole originals fit among the dead
 * letters, nothing is dropped because a newer message has its key, and a lost broker loses nothing.
 */
#include <inttypes.h>
#include <stdio.h>

#include "base/str.h"
#include "broker.h"
#include "doctor.h"

enum { LETTER_BYTES = 8 * 1024 * 1024 };

/* As broker_probe orders them. */
enum topic_role { TOPIC_EVENTS, TOPIC_LETTERS, TOPIC_OUTCOMES };

static const struct {
    const char *subject, *setting;
} roles[] = {
    [TOPIC_EVENTS] = {"events", "kafka.topics.events"},
    [TOPIC_LETTERS] = {"dead letters", "kafka.topics.dead_letters"},
    [TOPIC_OUTCOMES] = {"outcomes", "kafka.topics.outcomes"},
};

/* Brokers may repeat what they were sent, and librdkafka what it was given. */
static struct err without_secrets(const struct exam *e, const struct err *err)
{
    const struct config *c = e->doctor->config;
    struct err clean = *err;
    for (size_t i = 0; i < c->n_kafka_properties; i++)
        if (c->kafka_properties[i].secret)
            err_redact(&clean, c->kafka_properties[i].value);
    return clean;
}

static void look_at_brokers(struct exam *e, const struct kafka_probe_report *r)
{
    const char *servers = e->doctor->config->kafka_bootstrap_servers;
    struct err why = without_secrets(e, &r->err);
    if (why.class == ERR_NONE)
        EXAM_ADD(e, LEVEL_OK, "brokers", NULL, "%d at %s", r->brokers, servers);
    else if (why.class == ERR_UNAUTHORIZED)
        EXAM_ADD(e, LEVEL_BAD, "brokers",
                 "look at kafka.properties (sasl.*, ssl.*) and at the brokers' users",
                 "the credentials are refused at %s: %s", servers, why.msg);
    else
        EXAM_ADD(e, LEVEL_BAD, "brokers",
                 "look at kafka.bootstrap_servers, at security.protocol under kafka.properties, "
                 "and at the brokers",
                 "no broker can be used at %s: %s", servers, why.msg);
}

static void not_there(struct exam *e, const struct kafka_probe_topic *t, enum topic_role role)
{
    char mend[FINDING_TEXT_MAX];
    struct err why = without_secrets(e, &t->err);
    switch (why.class) {
    case ERR_GONE:
        snprintf(mend, sizeof(mend),
                 "kafka-topics.sh --bootstrap-server %.200s --create --topic %s --partitions %s; "
                 "or mend %s",
                 e->doctor->config->kafka_bootstrap_servers, t->name,
                 role == TOPIC_EVENTS ? "12" : "3", roles[role].setting);
        EXAM_ADD(e, LEVEL_BAD, roles[role].subject, mend, "there is no topic %s", t->name);
        return;
    case ERR_UNAUTHORIZED:
        snprintf(mend, sizeof(mend), "let the worker's user Describe and %s topic %s",
                 role == TOPIC_EVENTS ? "Read" : "Write", t->name);
        EXAM_ADD(e, LEVEL_BAD, roles[role].subject, mend, "topic %s is not for us: %s", t->name,
                 why.msg);
        return;
    default:
        EXAM_ADD(e, LEVEL_BAD, roles[role].subject, "look at the brokers",
                 "topic %s cannot be seen: %s", t->name, why.msg);
        return;
    }
}

static void look_at_partitions(struct exam *e, const struct kafka_probe_topic *t,
                               enum topic_role role, int brokers)
{
    const char *subject = roles[role].subject;
    EXAM_ADD(e, LEVEL_OK, subject, NULL, "topic %s: %d partition%s, %d replica%s", t->name,
             t->partitions, t->partitions == 1 ? "" : "s", t->replicas,
             t->replicas == 1 ? "" : "s");
    if (t->leaderless > 0)
        EXAM_ADD(e, LEVEL_BAD, subject, "look at the brokers that hold them",
                 "%d of its partitions have no leader", t->leaderless);
    else if (t->out_of_sync > 0)
        EXAM_ADD(e, LEVEL_WARN, subject, "look at the brokers that lag behind",
                 "%d of its partitions have replicas out of sync", t->out_of_sync);
    if (brokers > 1 && t->replicas == 1)
        EXAM_ADD(e, LEVEL_WARN, subject, "give it three replicas",
                 "one replica: what a lost broker held is lost");
    if (t->min_in_sync > t->replicas)
        EXAM_ADD(e, LEVEL_BAD, subject, "lower min.insync.replicas, or give it more replicas",
                 "min.insync.replicas is %" PRId64 ", above its replicas: nothing can be written",
                 t->min_in_sync);
}

static void set_topic(char *out, size_t size, const struct exam *e,
                      const struct kafka_probe_topic *t, const char *setting)
{
    snprintf(out, size,
             "kafka-configs.sh --bootstrap-server %.200s --alter --topic %s --add-config %s",
             e->doctor->config->kafka_bootstrap_servers, t->name, setting);
}

static void look_at_letters(struct exam *e, const struct kafka_probe_topic *t)
{
    char mend[FINDING_TEXT_MAX], setting[64], kept[32], wanted[32];
    int64_t wanted_ms = e->doctor->config->retention_dead_letters_ms;
    if (t->max_message_bytes >= 0 && t->max_message_bytes < LETTER_BYTES) {
        snprintf(setting, sizeof(setting), "max.message.bytes=%d", LETTER_BYTES);
        set_topic(mend, sizeof(mend), e, t, setting);
        EXAM_ADD(e, LEVEL_WARN, roles[TOPIC_LETTERS].subject, mend,
                 "max.message.bytes is %" PRId64 ": originals larger than that go in parts only, "
                 "or not at all",
                 t->max_message_bytes);
    }
    if (t->retention_ms >= 0 && t->retention_ms < wanted_ms) {
        snprintf(setting, sizeof(setting), "retention.ms=%" PRId64, wanted_ms);
        set_topic(mend, sizeof(mend), e, t, setting);
        str_from_duration_ms(kept, sizeof(kept), t->retention_ms);
        str_from_duration_ms(wanted, sizeof(wanted), wanted_ms);
        EXAM_ADD(e, LEVEL_NOTE, roles[TOPIC_LETTERS].subject, mend,
                 "the topic keeps them for %s, retention.dead_letters is %s", kept, wanted);
    }
}

static void look_at_settings(struct exam *e, const struct kafka_probe_topic *t,
                             enum topic_role role)
{
    char mend[FINDING_TEXT_MAX];
    struct err why = without_secrets(e, &t->config_err);
    if (why.class != ERR_NONE) {
        EXAM_ADD(e, LEVEL_NOTE, roles[role].subject,
                 "let the worker's user DescribeConfigs, or see to README.md, \"Kafka\", yourself",
                 "its settings cannot be read: %s", why.msg);
        return;
    }
    if (t->compacts == 1) {
        set_topic(mend, sizeof(mend), e, t, "cleanup.policy=delete");
        EXAM_ADD(e, LEVEL_WARN, roles[role].subject, mend,
                 "it is compacted: messages go where a newer one has their key, read or not");
    }
    if (role == TOPIC_LETTERS)
        look_at_letters(e, t);
}

static void look_at_group(struct exam *e, const struct kafka_probe_report *r)
{
    const char *group = e->doctor->config->kafka_group_id;
    struct err why = without_secrets(e, &r->group_err);
    char lag[64] = "";
    if (r->group_lag >= 0)
        snprintf(lag, sizeof(lag), ", %" PRId64 " event%s not yet taken in", r->group_lag,
                 r->group_lag == 1 ? "" : "s");
    if (why.class == ERR_UNAUTHORIZED)
        EXAM_ADD(e, LEVEL_BAD, "group", "let the worker's user Read and Describe the group",
                 "group %s is not for us: %s", group, why.msg);
    else if (why.class != ERR_NONE)
        EXAM_ADD(e, LEVEL_NOTE, "group", NULL, "group %s cannot be seen: %s", group, why.msg);
    else if (r->group_members == 0)
        EXAM_ADD(e, LEVEL_NOTE, "group", "start one with `provisioner run`",
                 "group %s: no worker reads events%s", group, lag);
    else if (r->group_members < 0)
        EXAM_ADD(e, LEVEL_OK, "group", NULL, "group %s%s", group, lag);
    else
        EXAM_ADD(e, LEVEL_OK, "group", NULL, "group %s: %s, %d reading%s", group, r->group_state,
                 r->group_members, lag);
}

static void on_report(void *ctx, const struct kafka_probe_report *r)
{
    struct exam *e = ctx;
    look_at_brokers(e, r);
    for (size_t i = 0; r->err.class == ERR_NONE && i < r->n_topics; i++) {
        const struct kafka_probe_topic *t = &r->topics[i];
        if (t->err.class != ERR_NONE) {
            not_there(e, t, (enum topic_role)i);
            continue;
        }
        look_at_partitions(e, t, (enum topic_role)i, r->brokers);
        look_at_settings(e, t, (enum topic_role)i);
    }
    if (r->err.class == ERR_NONE)
        look_at_group(e, r);
    exam_over(e);
}

static int start(struct exam *e, struct err *err)
{
    struct err why;
    e->state =
        broker_probe(e->doctor->loop, e->doctor->config, e->doctor->timeout_ms, on_report, e, &why);
    if (e->state)
        return 0;
    if (why.class != ERR_INVALID) {
        *err = why;
        return -1;
    }
    why = without_secrets(e, &why);
    EXAM_ADD(e, LEVEL_BAD, "properties", "mend kafka.properties", "%s", why.msg);
    exam_over(e);
    return 0;
}

static void stop(struct exam *e)
{
    kafka_probe_free(e->state);
    e->state = NULL;
}

const struct exam_class exam_kafka = {start, stop};
