/*
 * The thread and the loop share one struct, which belongs to both: the last to leave frees it. The
 * thread alone writes the report, and lets it be seen by writing into the eventfd.
 */
#include "net/kafka_probe.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/str.h"
#include "net/kafka_client.h"

enum {
    SLICE_MS = 500,     /* of a wait: how soon an abandoned thread notices */
    PATIENCE_MS = 2000, /* after every broker refused: another address may answer yet */
    ADMIN_MS = 5000,    /* for settings and the group, which are the less important ones */
};

struct kafka_probe {
    atomic_int owners;
    atomic_bool abandoned;
    pthread_t thread;
    int efd;
    rd_kafka_t *rk;
    char group[256];
    int64_t end_ms;
    /* the thread's, until it has told */
    struct kafka_probe_report report;
    char last_error[ERR_MSG_MAX];
    enum err_class last_class;
    int64_t all_down_ms; /* 0: not all are */
    /* the loop's */
    struct loop *loop;
    kafka_probe_fn *done;
    void *ctx;
};

static const struct kafka_property probe_defaults[] = {
    {"client.id", "provisioner"},
    {"reconnect.backoff.max.ms", "1000"},
    {"enable.auto.commit", "false"},
    {"socket.keepalive.enable", "true"},
};

static void leave(struct kafka_probe *p)
{
    if (atomic_fetch_sub(&p->owners, 1) > 1)
        return;
    if (p->efd >= 0)
        close(p->efd);
    free(p);
}

static int64_t left_ms(const struct kafka_probe *p)
{
    int64_t left = p->end_ms - clock_mono_ms();
    return left > 0 ? left : 0;
}

static int slice_ms(const struct kafka_probe *p, int64_t most)
{
    int64_t left = left_ms(p);
    left = left < most ? left : most;
    return left > 1 ? (int)left : 1;
}

/* ---- errors ---- */

static enum err_class class_of(rd_kafka_resp_err_t code)
{
    switch (code) {
    case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
    case RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC:
        return ERR_GONE;
    case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
    case RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED:
    case RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED:
    case RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED:
    case RD_KAFKA_RESP_ERR__AUTHENTICATION:
        return ERR_UNAUTHORIZED;
    case RD_KAFKA_RESP_ERR__INVALID_ARG:
    case RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION:
        return ERR_INVALID;
    default:
        return ERR_UNAVAILABLE;
    }
}

static void set_code(struct err *err, rd_kafka_resp_err_t code)
{
    err_set(err, class_of(code), "%s", rd_kafka_err2str(code));
}

/* Runs inside rd_kafka_poll, on the thread. */
static void on_error(rd_kafka_t *rk, int code, const char *reason, void *opaque)
{
    struct kafka_probe *p = opaque;
    struct err err;
    /* "(after 3ms in state CONNECT, ...)" helps nobody. */
    const char *aside = strstr(reason, " (after ");
    int n = (int)(aside ? (size_t)(aside - reason) : strlen(reason));
    (void)rk;
    if (code == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN) {
        if (p->all_down_ms == 0)
            p->all_down_ms = clock_mono_ms();
        return;
    }
    err_set(&err, class_of((rd_kafka_resp_err_t)code), "%.*s", n, reason);
    /* A refused login says more than the connections that end after it. */
    if (p->last_class == ERR_UNAUTHORIZED && err.class != ERR_UNAUTHORIZED)
        return;
    str_copy(p->last_error, sizeof(p->last_error), err.msg);
    p->last_class = err.class;
}

/* ---- questions, on the thread ---- */

static bool hopeless(const struct kafka_probe *p)
{
    return left_ms(p) == 0 || atomic_load(&p->abandoned) ||
           (p->all_down_ms && clock_mono_ms() - p->all_down_ms > PATIENCE_MS);
}

static int find_brokers(struct kafka_probe *p)
{
    const struct rd_kafka_metadata *m = NULL;
    while (!hopeless(p)) {
        rd_kafka_resp_err_t code = rd_kafka_metadata(p->rk, 0, NULL, &m, slice_ms(p, SLICE_MS));
        rd_kafka_poll(p->rk, 0);
        if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
            continue;
        p->report.brokers = m->broker_cnt;
        rd_kafka_metadata_destroy(m);
        return 0;
    }
    return err_set(&p->report.err, p->last_error[0] ? p->last_class : ERR_UNAVAILABLE, "%s",
                   p->last_error[0] ? p->last_error : "no broker answers");
}

static void note_partitions(struct kafka_probe_topic *t, const rd_kafka_metadata_topic_t *m)
{
    t->partitions = m->partition_cnt;
    for (int i = 0; i < m->partition_cnt; i++) {
        const rd_kafka_metadata_partition_t *part = &m->partitions[i];
        t->leaderless += part->leader < 0;
        t->out_of_sync += part->isr_cnt < part->replica_cnt;
        if (i == 0 || part->replica_cnt < t->replicas)
            t->replicas = part->replica_cnt;
    }
}

static void find_topic(struct kafka_probe *p, struct kafka_probe_topic *t)
{
    const struct rd_kafka_metadata *m = NULL;
    rd_kafka_resp_err_t code = RD_KAFKA_RESP_ERR__TIMED_OUT;
    rd_kafka_topic_t *topic = rd_kafka_topic_new(p->rk, t->name, NULL);
    if (!topic) {
        set_code(&t->err, rd_kafka_last_error());
        return;
    }
    while (code == RD_KAFKA_RESP_ERR__TIMED_OUT && left_ms(p) > 0 && !atomic_load(&p->abandoned))
        code = rd_kafka_metadata(p->rk, 0, topic, &m, slice_ms(p, SLICE_MS));
    if (code == RD_KAFKA_RESP_ERR_NO_ERROR && m->topic_cnt == 1) {
        code = m->topics[0].err;
        /* Of a topic some of whose partitions have no leader the rest is told all the same. */
        if (code == RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE)
            code = RD_KAFKA_RESP_ERR_NO_ERROR;
        note_partitions(t, &m->topics[0]);
    }
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
        set_code(&t->err, code);
    rd_kafka_metadata_destroy(m);
    rd_kafka_topic_destroy(topic);
}

static rd_kafka_AdminOptions_t *admin_options(const struct kafka_probe *p, rd_kafka_admin_op_t op)
{
    char why[256];
    rd_kafka_AdminOptions_t *o = rd_kafka_AdminOptions_new(p->rk, op);
    (void)rd_kafka_AdminOptions_set_request_timeout(o, slice_ms(p, ADMIN_MS), why, sizeof(why));
    return o;
}

/* The answer to an admin request; NULL where none came. */
static rd_kafka_event_t *admin_answer(const struct kafka_probe *p, rd_kafka_queue_t *queue)
{
    int64_t until = clock_mono_ms() + slice_ms(p, ADMIN_MS) + SLICE_MS;
    while (clock_mono_ms() < until && !atomic_load(&p->abandoned)) {
        rd_kafka_event_t *event = rd_kafka_queue_poll(queue, SLICE_MS);
        if (event)
            return event;
    }
    return NULL;
}

static void note_setting(struct kafka_probe_topic *t, const char *name, const char *value)
{
    int64_t *into = str_eq(name, "max.message.bytes")     ? &t->max_message_bytes
                    : str_eq(name, "retention.ms")        ? &t->retention_ms
                    : str_eq(name, "min.insync.replicas") ? &t->min_in_sync
                                                          : NULL;
    if (value && str_eq(name, "cleanup.policy"))
        t->compacts = strstr(value, "compact") != NULL;
    if (!value || !into || !str_to_i64(value, into))
        return;
    if (into == &t->retention_ms && *into < 0)
        *into = INT64_MAX;
}

static void note_settings(struct kafka_probe *p, const rd_kafka_ConfigResource_t *resource)
{
    const char *name = rd_kafka_ConfigResource_name(resource);
    size_t n = 0;
    for (size_t i = 0; i < p->report.n_topics; i++) {
        struct kafka_probe_topic *t = &p->report.topics[i];
        if (!str_eq(t->name, name))
            continue;
        if (rd_kafka_ConfigResource_error(resource) != RD_KAFKA_RESP_ERR_NO_ERROR) {
            set_code(&t->config_err, rd_kafka_ConfigResource_error(resource));
            continue;
        }
        err_clear(&t->config_err);
        const rd_kafka_ConfigEntry_t **entries = rd_kafka_ConfigResource_configs(resource, &n);
        for (size_t k = 0; k < n; k++)
            note_setting(t, rd_kafka_ConfigEntry_name(entries[k]),
                         rd_kafka_ConfigEntry_value(entries[k]));
    }
}

static void note_config_failure(struct kafka_probe *p, rd_kafka_event_t *event)
{
    for (size_t i = 0; i < p->report.n_topics; i++) {
        struct err *err = &p->report.topics[i].config_err;
        if (event)
            set_code(err, rd_kafka_event_error(event));
        else
            err_set(err, ERR_UNAVAILABLE, "no answer came in time");
    }
}

static void read_settings(struct kafka_probe *p, rd_kafka_queue_t *queue)
{
    rd_kafka_ConfigResource_t *asked[KAFKA_PROBE_TOPICS_MAX];
    size_t n = 0;
    for (size_t i = 0; i < p->report.n_topics; i++)
        if (p->report.topics[i].err.class == ERR_NONE)
            asked[n++] =
                rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC, p->report.topics[i].name);
    if (n == 0)
        return;
    rd_kafka_AdminOptions_t *options = admin_options(p, RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS);
    rd_kafka_DescribeConfigs(p->rk, asked, n, options, queue);
    rd_kafka_AdminOptions_destroy(options);
    rd_kafka_ConfigResource_destroy_array(asked, n);
    rd_kafka_event_t *event = admin_answer(p, queue);
    const rd_kafka_DescribeConfigs_result_t *result =
        event ? rd_kafka_event_DescribeConfigs_result(event) : NULL;
    if (!result || rd_kafka_event_error(event) != RD_KAFKA_RESP_ERR_NO_ERROR) {
        note_config_failure(p, event);
    } else {
        const rd_kafka_ConfigResource_t **told =
            rd_kafka_DescribeConfigs_result_resources(result, &n);
        for (size_t i = 0; i < n; i++)
            note_settings(p, told[i]);
    }
    rd_kafka_event_destroy(event);
}

/*
 * Whoever may not look for the group's coordinator is told so beside the answer, which only comes
 * too late. The admin client's DescribeConsumerGroups would tell more, and aborts the process where
 * its coordinator goes away (2.0.2 and later).
 */
static void note_refusal(struct kafka_probe *p)
{
    rd_kafka_message_t *m;
    while ((m = rd_kafka_consumer_poll(p->rk, 0)) != NULL) {
        if (class_of(m->err) == ERR_UNAUTHORIZED)
            set_code(&p->report.group_err, m->err);
        rd_kafka_message_destroy(m);
    }
}

static void note_lag(struct kafka_probe *p, const rd_kafka_topic_partition_list_t *committed,
                     const rd_kafka_topic_partition_list_t *ends)
{
    p->report.group_lag = 0;
    for (int i = 0; i < committed->cnt; i++) {
        int64_t from = committed->elems[i].offset > 0 ? committed->elems[i].offset : 0;
        int64_t to = ends->elems[i].offset;
        if (committed->elems[i].err == RD_KAFKA_RESP_ERR_NO_ERROR && to > from)
            p->report.group_lag += to - from;
    }
}

static void read_offsets(struct kafka_probe *p)
{
    const struct kafka_probe_topic *t = &p->report.topics[0];
    if (t->err.class != ERR_NONE || t->partitions == 0)
        return;
    rd_kafka_topic_partition_list_t *committed = rd_kafka_topic_partition_list_new(t->partitions);
    for (int i = 0; i < t->partitions; i++)
        rd_kafka_topic_partition_list_add(committed, t->name, i);
    rd_kafka_topic_partition_list_t *ends = rd_kafka_topic_partition_list_copy(committed);
    for (int i = 0; i < ends->cnt; i++)
        ends->elems[i].offset = RD_KAFKA_OFFSET_END;
    rd_kafka_resp_err_t code = rd_kafka_committed(p->rk, committed, slice_ms(p, ADMIN_MS));
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR) {
        set_code(&p->report.group_err, code);
        note_refusal(p);
    } else {
        err_clear(&p->report.group_err);
        code = rd_kafka_offsets_for_times(p->rk, ends, slice_ms(p, ADMIN_MS));
        if (code == RD_KAFKA_RESP_ERR_NO_ERROR)
            note_lag(p, committed, ends);
    }
    rd_kafka_topic_partition_list_destroy(committed);
    rd_kafka_topic_partition_list_destroy(ends);
}

static void read_members(struct kafka_probe *p)
{
    const struct rd_kafka_group_list *list = NULL;
    if (rd_kafka_list_groups(p->rk, p->group, &list, slice_ms(p, ADMIN_MS)) !=
        RD_KAFKA_RESP_ERR_NO_ERROR)
        return;
    p->report.group_members = 0;
    for (int i = 0; i < list->group_cnt; i++) {
        const struct rd_kafka_group_info *g = &list->groups[i];
        if (!str_eq(g->group, p->group) || g->err != RD_KAFKA_RESP_ERR_NO_ERROR)
            continue;
        p->report.group_members = g->member_cnt;
        str_copy(p->report.group_state, sizeof(p->report.group_state), g->state);
    }
    rd_kafka_group_list_destroy(list);
}

static void ask_all(struct kafka_probe *p)
{
    if (find_brokers(p) != 0)
        return;
    for (size_t i = 0; i < p->report.n_topics; i++)
        find_topic(p, &p->report.topics[i]);
    rd_kafka_queue_t *queue = rd_kafka_queue_new(p->rk);
    read_settings(p, queue);
    rd_kafka_queue_destroy(queue);
    read_offsets(p);
    read_members(p);
}

static void *probe_thread(void *arg)
{
    struct kafka_probe *p = arg;
    const uint64_t one = 1;
    ask_all(p);
    ssize_t written = write(p->efd, &one, sizeof(one));
    (void)written; /* fails only where the counter is full */
    rd_kafka_destroy_flags(p->rk, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
    leave(p);
    return NULL;
}

/* ---- the loop's side ---- */

static void on_told(void *ctx, uint32_t events)
{
    struct kafka_probe *p = ctx;
    uint64_t count;
    (void)events;
    if (read(p->efd, &count, sizeof(count)) != (ssize_t)sizeof(count))
        return;
    loop_fd_del(p->loop, p->efd);
    p->done(p->ctx, &p->report);
}

static void prepare_report(struct kafka_probe_report *r, const char *const *topics, size_t n)
{
    err_clear(&r->err);
    err_set(&r->group_err, ERR_UNAVAILABLE, "no answer came in time");
    r->group_lag = r->group_members = -1;
    r->n_topics = n < KAFKA_PROBE_TOPICS_MAX ? n : KAFKA_PROBE_TOPICS_MAX;
    for (size_t i = 0; i < r->n_topics; i++) {
        struct kafka_probe_topic *t = &r->topics[i];
        str_copy(t->name, sizeof(t->name), topics[i]);
        err_clear(&t->err);
        err_set(&t->config_err, ERR_UNAVAILABLE, "no answer came in time");
        t->max_message_bytes = t->retention_ms = t->compacts = t->min_in_sync = -1;
    }
}

static int create_client(struct kafka_probe *p, const struct kafka_property *properties, size_t n,
                         struct err *err)
{
    char why[256] = "";
    rd_kafka_conf_t *conf =
        kafka_conf_new(probe_defaults, ARRAY_LEN(probe_defaults), NULL, 0, properties, n, err);
    if (!conf)
        return -1;
    for (size_t i = 0; i < n; i++)
        if (str_eq(properties[i].name, "group.id"))
            str_copy(p->group, sizeof(p->group), properties[i].value);
    /* Behind the user's: a look must not make what it looks for. */
    rd_kafka_conf_set(conf, "allow.auto.create.topics", "false", why, sizeof(why));
    rd_kafka_conf_set_opaque(conf, p);
    rd_kafka_conf_set_error_cb(conf, on_error);
    p->rk = rd_kafka_new(RD_KAFKA_CONSUMER, conf, why, sizeof(why));
    if (p->rk)
        return 0;
    rd_kafka_conf_destroy(conf);
    return err_set(err, ERR_INVALID, "kafka: %s", why);
}

static int start_thread(struct kafka_probe *p, struct err *err)
{
    if (loop_fd_add(p->loop, p->efd, EPOLLIN, on_told, p, err) != 0)
        return -1;
    atomic_store(&p->owners, 2);
    int code = pthread_create(&p->thread, NULL, probe_thread, p);
    if (code == 0)
        return 0;
    atomic_store(&p->owners, 1);
    loop_fd_del(p->loop, p->efd);
    return err_set(err, ERR_INTERNAL, "a thread could not be started: %s", strerror(code));
}

/* With every signal blocked: librdkafka's threads, and ours, inherit that. */
static int start(struct kafka_probe *p, const struct kafka_property *properties, size_t n,
                 struct err *err)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = create_client(p, properties, n, err);
    if (rc == 0 && (rc = start_thread(p, err)) != 0)
        rd_kafka_destroy_flags(p->rk, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return rc;
}

struct kafka_probe *kafka_probe_start(struct loop *loop, const struct kafka_property *properties,
                                      size_t n, const char *const *topics, size_t n_topics,
                                      int64_t timeout_ms, kafka_probe_fn *done, void *ctx,
                                      struct err *err)
{
    struct kafka_probe *p = calloc(1, sizeof(*p));
    if (!p) {
        err_nomem(err);
        return NULL;
    }
    atomic_init(&p->owners, 1);
    p->loop = loop;
    p->done = done;
    p->ctx = ctx;
    p->end_ms = clock_mono_ms() + timeout_ms;
    prepare_report(&p->report, topics, n_topics);
    p->efd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (p->efd < 0)
        err_set(err, ERR_INTERNAL, "eventfd: %s", strerror(errno));
    else if (start(p, properties, n, err) == 0)
        return p;
    leave(p);
    return NULL;
}

void kafka_probe_free(struct kafka_probe *p)
{
    struct timespec until;
    if (!p)
        return;
    loop_fd_del(p->loop, p->efd);
    atomic_store(&p->abandoned, true);
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += KAFKA_FREE_MS / 1000;
    /* Several versions can hang in destroy: the process goes on without it then. */
    if (pthread_timedjoin_np(p->thread, NULL, &until) != 0)
        pthread_detach(p->thread);
    leave(p);
}
