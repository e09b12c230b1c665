/*
 * A Kafka message kept in memory while its fate is open: one allocation.
 */
#ifndef WORKER_MESSAGE_H
#define WORKER_MESSAGE_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "base/buf.h"
#include "base/uuid.h"
#include "fair.h"
#include "net/kafka.h"
#include "watermark.h"

enum { MESSAGE_HEADERS_JSON_MAX = 256 * 1024, MESSAGE_HEADERS_MAX = 256 };

#define MESSAGE_REPLAYS  "provisioner.replays"
#define MESSAGE_LEFT_OUT "provisioner.dlq.headers_left_out"

TAILQ_HEAD(message_list, message);

struct message {
    TAILQ_ENTRY(message) link; /* these are its keeper's */
    void *keeper;
    struct fair_item turn;
    uint64_t number;              /* in order of arrival */
    char subscription[UUID_TEXT]; /* "" until it was looked for, or for none */
    char organization[UUID_TEXT];
    char owner[UUID_TEXT];
    struct watermark_ticket ticket;
    size_t bytes; /* of this allocation */
    int32_t partition;
    int64_t offset;
    int64_t timestamp_ms; /* -1: none; anything a producer may say */
    const void *key;      /* NULL: none */
    size_t key_len;
    const void *value; /* NULL: a tombstone */
    size_t value_len;
    size_t n_headers;
    struct kafka_header headers[]; /* behind them all bytes */
};

/* NULL when memory ends. free(). */
struct message *message_copy(const struct kafka_message *m);

/* Microseconds since 1970; -1 where there is none or none that can be (years 1970 to 9999). */
int64_t message_time_us(const struct message *m);

/* True for what an earlier dead letter left on a message that was replayed. */
bool message_is_error_header(const char *name);

/*
 * The headers, without those, as JSON [{"name":...,"value_base64":...}] within
 * MESSAGE_HEADERS_JSON_MAX; what does not fit is counted by a last one, MESSAGE_LEFT_OUT.
 */
int message_headers_json(const struct message *m, struct buf *out);

/* Read back from there. Names are the tree's, values are owned one by one. */
struct message_headers {
    cJSON *tree;
    struct kafka_header list[MESSAGE_HEADERS_MAX];
    size_t n;
};

/* 0, or -1 and *err: ERR_INVALID where the text is not what message_headers_json writes. */
int message_headers_read(const char *json, struct message_headers *out, struct err *err);
void message_headers_done(struct message_headers *h);

/* How often it was replayed before, as its header says. */
int message_replays(const struct message *m);

#endif
