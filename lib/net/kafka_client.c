/*
 * librdkafka's threads write into an eventfd when the client's queue stops being empty; everything
 * else, its callbacks included, happens on the loop's thread inside serve().
 */
#include "net/kafka_client.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "base/str.h"

enum { STATS_BYTES_MAX = 8 * 1024 * 1024 };

/* ---- configuration ---- */

static int set_property(rd_kafka_conf_t *conf, const struct kafka_property *p, struct err *err)
{
    char why[256] = "";
    if (rd_kafka_conf_set(conf, p->name, p->value, why, sizeof(why)) == RD_KAFKA_CONF_OK)
        return 0;
    err_set(err, ERR_INVALID, "kafka property %s: %s", p->name, why);
    err_redact(err, p->value); /* librdkafka quotes it, and it may be a secret */
    return -1;
}

static int set_users_property(rd_kafka_conf_t *conf, const struct kafka_property *fixed,
                              size_t n_fixed, const struct kafka_property *p, struct err *err)
{
    for (size_t i = 0; i < n_fixed; i++) {
        if (str_eq(p->name, fixed[i].name) && !str_eq(p->value, fixed[i].value))
            return err_set(err, ERR_INVALID, "kafka property %s: must stay %s; remove it", p->name,
                           fixed[i].value);
    }
    return set_property(conf, p, err);
}

static void drop_log(const rd_kafka_t *rk, int level, const char *facility, const char *text)
{
    /* Runs on librdkafka's threads. What matters arrives as an error event too. */
    (void)rk, (void)level, (void)facility, (void)text;
}

rd_kafka_conf_t *kafka_conf_new(const struct kafka_property *defaults, size_t n_defaults,
                                const struct kafka_property *fixed, size_t n_fixed,
                                const struct kafka_property *properties, size_t n, struct err *err)
{
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    int rc = 0;
    for (size_t i = 0; i < n_defaults && rc == 0; i++)
        rc = set_property(conf, &defaults[i], err);
    for (size_t i = 0; i < n_fixed && rc == 0; i++)
        rc = set_property(conf, &fixed[i], err);
    for (size_t i = 0; i < n && rc == 0; i++)
        rc = set_users_property(conf, fixed, n_fixed, &properties[i], err);
    if (rc != 0) {
        rd_kafka_conf_destroy(conf);
        return NULL;
    }
    rd_kafka_conf_set_log_cb(conf, drop_log);
    return conf;
}

/* ---- what is known of the brokers ---- */

static void remember(struct kafka_client *cl, const char *text)
{
    str_copy(cl->last_error, sizeof(cl->last_error), text != NULL ? text : "");
    for (char *p = cl->last_error; *p != '\0'; p++) {
        if ((unsigned char)*p < ' ')
            *p = ' ';
    }
}

bool kafka_client_up(const struct kafka_client *cl)
{
    return cl->reach == KAFKA_REACH_UP && cl->trouble == RD_KAFKA_RESP_ERR_NO_ERROR && !cl->fatal;
}

static void report(struct kafka_client *cl)
{
    if (cl->fatal ||
        (cl->reach == KAFKA_REACH_UNKNOWN && cl->trouble == RD_KAFKA_RESP_ERR_NO_ERROR))
        return;
    bool up = kafka_client_up(cl);
    if (cl->reported && cl->reported_up == up)
        return;
    cl->reported = true;
    cl->reported_up = up;
    if (up)
        cl->last_error[0] = '\0'; /* the next outage has its own reason */
    if (cl->hooks.on_state == NULL)
        return;
    const char *why = "connected";
    if (!up)
        why = cl->last_error[0] != '\0' ? cl->last_error : "no broker is reachable";
    cl->hooks.on_state(cl->hooks.ctx, up, false, why);
}

void kafka_client_fatal(struct kafka_client *cl, const char *text)
{
    if (cl->fatal)
        return;
    cl->fatal = true;
    remember(cl, text);
    if (cl->hooks.on_state != NULL)
        cl->hooks.on_state(cl->hooks.ctx, false, true, cl->last_error);
}

void kafka_client_answered(struct kafka_client *cl)
{
    cl->reach = KAFKA_REACH_UP;
    report(cl);
}

void kafka_client_trouble(struct kafka_client *cl, rd_kafka_resp_err_t code, const char *text)
{
    remember(cl, text);
    cl->trouble = code;
    report(cl);
}

void kafka_client_trouble_over(struct kafka_client *cl)
{
    cl->trouble = RD_KAFKA_RESP_ERR_NO_ERROR;
    report(cl);
}

static void on_error(rd_kafka_t *rk, int code, const char *reason, void *opaque)
{
    struct kafka_client *cl = opaque;
    if (code == RD_KAFKA_RESP_ERR__FATAL) {
        char text[ERR_MSG_MAX] = "";
        rd_kafka_fatal_error(rk, text, sizeof(text));
        kafka_client_fatal(cl, text);
        return;
    }
    if (code == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN) {
        /* The error before it says more: refused, time-out, certificate, credentials. */
        if (cl->last_error[0] == '\0')
            remember(cl, reason);
        cl->reach = KAFKA_REACH_DOWN;
        report(cl);
        return;
    }
    remember(cl, reason);
}

static bool some_broker_up(const cJSON *stats)
{
    const cJSON *broker;
    cJSON_ArrayForEach(broker, cJSON_GetObjectItemCaseSensitive(stats, "brokers"))
    {
        const char *state = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(broker, "state"));
        if (state != NULL && strcmp(state, "UP") == 0)
            return true;
    }
    return false;
}

static int on_stats(rd_kafka_t *rk, char *json, size_t len, void *opaque)
{
    (void)rk;
    struct kafka_client *cl = opaque;
    if (len > STATS_BYTES_MAX)
        return 0;
    cJSON *stats = cJSON_ParseWithLength(json, len);
    if (stats == NULL)
        return 0;
    cl->reach = some_broker_up(stats) ? KAFKA_REACH_UP : KAFKA_REACH_DOWN;
    if (cl->hooks.on_stats != NULL)
        cl->hooks.on_stats(cl->hooks.ctx, stats);
    cJSON_Delete(stats);
    report(cl);
    return 0; /* librdkafka frees json */
}

/* ---- on the loop ---- */

void kafka_client_rearm(const struct kafka_client *cl)
{
    const uint64_t one = 1;
    /* Fails only when the counter is full, and then it wakes us anyway. */
    ssize_t written = write(cl->efd, &one, sizeof(one));
    (void)written;
}

static void on_event(void *ctx, uint32_t events)
{
    (void)events;
    struct kafka_client *cl = ctx;
    uint64_t count;
    /* Read before serving: what comes after an emptied queue writes anew. */
    ssize_t got = read(cl->efd, &count, sizeof(count));
    (void)got;
    if (cl->hooks.serve(cl->hooks.ctx))
        kafka_client_rearm(cl);
}

static void on_timer(void *ctx)
{
    struct kafka_client *cl = ctx;
    struct err err;
    if (loop_timer_set(cl->loop, &cl->timer, cl->poll_ms, &err) != 0)
        kafka_client_fatal(cl, err.msg);
    if (cl->hooks.serve(cl->hooks.ctx))
        kafka_client_rearm(cl);
}

void kafka_client_init(struct kafka_client *cl, struct loop *loop,
                       const struct kafka_client_hooks *hooks)
{
    *cl = (struct kafka_client){.loop = loop, .hooks = *hooks, .efd = -1, .poll_ms = KAFKA_POLL_MS};
    cl->timer.fn = on_timer;
    cl->timer.ctx = cl;
}

int kafka_client_create(struct kafka_client *cl, rd_kafka_type_t type, rd_kafka_conf_t *conf,
                        struct err *err)
{
    char why[256] = "";
    rd_kafka_conf_set_opaque(conf, cl);
    rd_kafka_conf_set_error_cb(conf, on_error);
    rd_kafka_conf_set_stats_cb(conf, on_stats);
    cl->rk = rd_kafka_new(type, conf, why, sizeof(why));
    if (cl->rk != NULL)
        return 0;
    rd_kafka_conf_destroy(conf);
    return err_set(err, ERR_INVALID, "kafka: %s", why);
}

int kafka_client_watch(struct kafka_client *cl, rd_kafka_queue_t *queue, struct err *err)
{
    const uint64_t one = 1;
    cl->queue = queue;
    cl->efd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (cl->efd < 0)
        return err_set(err, ERR_INTERNAL, "eventfd: %s", strerror(errno));
    if (loop_fd_add(cl->loop, cl->efd, EPOLLIN, on_event, cl, err) != 0)
        return -1;
    rd_kafka_queue_io_event_enable(queue, cl->efd, &one, sizeof(one));
    /* Something may have been queued before events were on. */
    kafka_client_rearm(cl);
    return loop_timer_set(cl->loop, &cl->timer, cl->poll_ms, err);
}

/* ---- end ---- */

static void *destroy(void *rk)
{
    rd_kafka_destroy_flags(rk, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
    return NULL;
}

/*
 * Several versions can hang in destroy (2.0.2 when a consumed partition was removed). The process
 * goes on to its end then, and leaves the client behind.
 */
static void destroy_bounded(rd_kafka_t *rk)
{
    pthread_t thread;
    struct timespec until;
    if (pthread_create(&thread, NULL, destroy, rk) != 0) {
        destroy(rk);
        return;
    }
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += KAFKA_FREE_MS / 1000;
    if (pthread_timedjoin_np(thread, NULL, &until) != 0)
        pthread_detach(thread);
}

void kafka_client_free(struct kafka_client *cl)
{
    loop_timer_cancel(cl->loop, &cl->timer);
    if (cl->queue != NULL) {
        rd_kafka_queue_io_event_enable(cl->queue, -1, NULL, 0);
        rd_kafka_queue_destroy(cl->queue);
    }
    if (cl->efd >= 0) {
        loop_fd_del(cl->loop, cl->efd);
        close(cl->efd);
    }
    if (cl->rk != NULL)
        destroy_bounded(cl->rk);
    cl->rk = NULL;
    cl->queue = NULL;
    cl->efd = -1;
}
