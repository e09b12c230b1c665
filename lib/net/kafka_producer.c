/*
 * The producer. Each message carries a small record through librdkafka that says whom to call when
 * its fate is known; the records are listed, so that free can drop them.
 */
#include "net/kafka.h"

#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "base/str.h"
#include "net/kafka_client.h"

struct delivery {
    struct delivery *next, *prev;
    kafka_delivered_fn *done;
    void *ctx;
};

struct kafka_producer {
    struct kafka_client client;
    struct delivery list; /* a ring; its head is no delivery */
    size_t outstanding;
    int served; /* in this turn */
};

static const struct kafka_property producer_defaults[] = {
    {"client.id", "provisioner"},
    {"acks", "all"},
    {"enable.idempotence", "true"},
    {"message.max.bytes", "8388608"},
    {"delivery.timeout.ms", "30000"},
    {"queue.buffering.max.messages", "20000"},
    {"queue.buffering.max.kbytes", "65536"},
    {"statistics.interval.ms", "5000"},
    {"topic.metadata.refresh.interval.ms", "30000"},
    {"topic.metadata.propagation.max.ms", "5000"},
    {"reconnect.backoff.max.ms", "2000"},
    {"allow.auto.create.topics", "false"},
    {"socket.keepalive.enable", "true"},
};

/* ---- outcomes ---- */

static enum err_class failure_class(rd_kafka_resp_err_t code, bool maybe_written)
{
    switch (code) {
    case RD_KAFKA_RESP_ERR__QUEUE_FULL:
        return ERR_THROTTLED;
    case RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE:
    case RD_KAFKA_RESP_ERR_INVALID_MSG:
    case RD_KAFKA_RESP_ERR_INVALID_MSG_SIZE:
    case RD_KAFKA_RESP_ERR_INVALID_RECORD:
    case RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP:
    case RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION:
    case RD_KAFKA_RESP_ERR__INVALID_ARG:
        return ERR_REFUSED;
    case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
    case RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED:
        return ERR_UNAUTHORIZED;
    default:
        return maybe_written ? ERR_UNKNOWN : ERR_UNAVAILABLE;
    }
}

static int failure(struct err *err, const char *topic, rd_kafka_resp_err_t code, bool maybe_written)
{
    enum err_class class = failure_class(code, maybe_written);
    int rc = err_set(err, class, "kafka topic %s: %s", topic, rd_kafka_err2str(code));
    if (class == ERR_THROTTLED && err != NULL)
        err->retry_after_ms = 1000;
    return rc;
}

static void delivery_drop(struct kafka_producer *p, struct delivery *d)
{
    d->prev->next = d->next;
    d->next->prev = d->prev;
    p->outstanding--;
    free(d);
}

static void on_delivery(rd_kafka_t *rk, const rd_kafka_message_t *m, void *opaque)
{
    struct kafka_producer *p = ((struct kafka_client *)opaque)->hooks.ctx;
    struct delivery *d = m->_private;
    kafka_delivered_fn *done = d->done;
    void *ctx = d->ctx;
    struct err err;
    rd_kafka_resp_err_t code = FAULT_FAILS("kafka/%s/delivery", rd_kafka_topic_name(m->rkt))
                                   ? RD_KAFKA_RESP_ERR__TIMED_OUT
                                   : m->err;
    bool failed = code != RD_KAFKA_RESP_ERR_NO_ERROR;
    if (failed)
        failure(&err, rd_kafka_topic_name(m->rkt), code,
                rd_kafka_message_status(m) != RD_KAFKA_MSG_STATUS_NOT_PERSISTED);
    else
        kafka_client_answered(&p->client);
    FAULT_POINT("kafka/%s/produce/answered", rd_kafka_topic_name(m->rkt));
    delivery_drop(p, d);
    done(ctx, failed ? &err : NULL);
    if (++p->served >= KAFKA_BUDGET)
        rd_kafka_yield(rk); /* puts the rest back */
}

static bool producer_serve(void *ctx)
{
    struct kafka_producer *p = ctx;
    p->served = 0;
    rd_kafka_poll(p->client.rk, 0);
    return p->served >= KAFKA_BUDGET;
}

/* ---- sending ---- */

static rd_kafka_headers_t *copy_headers(const struct kafka_header *headers, size_t n)
{
    rd_kafka_headers_t *list = rd_kafka_headers_new(n);
    for (size_t i = 0; i < n; i++)
        rd_kafka_header_add(list, headers[i].name, -1, headers[i].value,
                            headers[i].value != NULL ? (ssize_t)headers[i].len : 0);
    return list;
}

static struct delivery *delivery_new(struct kafka_producer *p, kafka_delivered_fn *done, void *ctx)
{
    struct delivery *d = malloc(sizeof(*d));
    if (d == NULL)
        return NULL;
    *d = (struct delivery){.next = &p->list, .prev = p->list.prev, .done = done, .ctx = ctx};
    d->prev->next = d;
    d->next->prev = d;
    p->outstanding++;
    return d;
}

int kafka_produce(struct kafka_producer *p, const char *topic, const void *key, size_t key_len,
                  const void *value, size_t value_len, const struct kafka_header *headers,
                  size_t n_headers, int64_t timestamp_ms, kafka_delivered_fn *done, void *ctx,
                  struct err *err)
{
    if (n_headers > KAFKA_HEADERS_PRODUCED_MAX)
        return err_set(err, ERR_REFUSED, "kafka topic %s: %zu headers, at most %d are sent", topic,
                       n_headers, KAFKA_HEADERS_PRODUCED_MAX);
    FAULT_POINT("kafka/%s/produce/before", topic);
    if (FAULT_FAILS("kafka/%s/produce", topic))
        return failure(err, topic, RD_KAFKA_RESP_ERR__QUEUE_FULL, false);
    struct delivery *d = delivery_new(p, done, ctx);
    if (d == NULL)
        return err_nomem(err);
    rd_kafka_headers_t *list = copy_headers(headers, n_headers);
    const rd_kafka_vu_t parts[] = {
        {.vtype = RD_KAFKA_VTYPE_TOPIC, .u.cstr = topic},
        {.vtype = RD_KAFKA_VTYPE_MSGFLAGS, .u.i = RD_KAFKA_MSG_F_COPY},
        {.vtype = RD_KAFKA_VTYPE_KEY, .u.mem = {.ptr = (void *)(uintptr_t)key, .size = key_len}},
        {.vtype = RD_KAFKA_VTYPE_VALUE,
         .u.mem = {.ptr = (void *)(uintptr_t)value, .size = value_len}},
        {.vtype = RD_KAFKA_VTYPE_TIMESTAMP, .u.i64 = timestamp_ms},
        {.vtype = RD_KAFKA_VTYPE_OPAQUE, .u.ptr = d},
        {.vtype = RD_KAFKA_VTYPE_HEADERS, .u.headers = list},
    };
    rd_kafka_error_t *error = rd_kafka_produceva(p->client.rk, parts, ARRAY_LEN(parts));
    if (error == NULL)
        return 0;
    rd_kafka_resp_err_t code = rd_kafka_error_code(error);
    rd_kafka_error_destroy(error);
    rd_kafka_headers_destroy(list);
    delivery_drop(p, d);
    return failure(err, topic, code, false);
}

/* ---- life ---- */

struct kafka_producer *kafka_producer_new(struct loop *loop,
                                          const struct kafka_property *properties, size_t n,
                                          struct err *err)
{
    struct kafka_producer *p = calloc(1, sizeof(*p));
    if (p == NULL) {
        err_nomem(err);
        return NULL;
    }
    p->list.next = p->list.prev = &p->list;
    const struct kafka_client_hooks hooks = {.ctx = p, .serve = producer_serve};
    kafka_client_init(&p->client, loop, &hooks);
    rd_kafka_conf_t *conf = kafka_conf_new(producer_defaults, ARRAY_LEN(producer_defaults), NULL, 0,
                                           properties, n, err);
    if (conf != NULL)
        rd_kafka_conf_set_dr_msg_cb(conf, on_delivery);
    if (conf == NULL || kafka_client_create(&p->client, RD_KAFKA_PRODUCER, conf, err) != 0 ||
        kafka_client_watch(&p->client, rd_kafka_queue_get_main(p->client.rk), err) != 0) {
        kafka_producer_free(p);
        return NULL;
    }
    return p;
}

size_t kafka_producer_outstanding(const struct kafka_producer *p)
{
    return p->outstanding;
}

bool kafka_producer_up(const struct kafka_producer *p)
{
    return kafka_client_up(&p->client);
}

void kafka_producer_free(struct kafka_producer *p)
{
    if (p == NULL)
        return;
    if (p->client.rk != NULL)
        rd_kafka_purge(p->client.rk, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT |
                                         RD_KAFKA_PURGE_F_NON_BLOCKING);
    kafka_client_free(&p->client);
    for (struct delivery *d = p->list.next, *next; d != &p->list; d = next) {
        next = d->next;
        free(d);
    }
    free(p);
}
