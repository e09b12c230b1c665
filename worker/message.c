#include "message.h"

#include <sodium.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/str.h"

enum { LEFT_OUT_ROOM = 128, REPLAYS_MAX = 1000000 };

static const int64_t time_max_ms = INT64_C(253402300799999); /* the end of year 9999 */

static size_t size_of(const struct kafka_message *m)
{
    size_t n =
        sizeof(struct message) + m->n_headers * sizeof(m->headers[0]) + m->key_len + m->value_len;
    for (size_t i = 0; i < m->n_headers; i++) {
        n += strlen(m->headers[i].name) + 1 + m->headers[i].len;
    }
    return n;
}

/* NULL stays NULL; what is merely empty does not become it. */
static const void *put(char **at, const void *p, size_t n)
{
    if (!p) {
        return NULL;
    }
    char *start = *at;
    memcpy(start, p, n);
    *at += n;
    return start;
}

struct message *message_copy(const struct kafka_message *m)
{
    size_t bytes = size_of(m);
    struct message *c = malloc(bytes + 1); /* so that an empty value has an address of its own */
    if (!c) {
        return NULL;
    }
    *c = (struct message){.bytes = bytes,
                          .partition = m->partition,
                          .offset = m->offset,
                          .timestamp_ms = m->timestamp_ms,
                          .key_len = m->key_len,
                          .value_len = m->value_len,
                          .n_headers = m->n_headers};
    char *at = (char *)&c->headers[m->n_headers];
    c->key = put(&at, m->key, m->key_len);
    c->value = put(&at, m->value, m->value_len);
    for (size_t i = 0; i < m->n_headers; i++) {
        const struct kafka_header *h = &m->headers[i];
        c->headers[i].name = put(&at, h->name, strlen(h->name) + 1);
        c->headers[i].value = put(&at, h->value, h->value ? h->len : 0);
        c->headers[i].len = h->value ? h->len : 0;
    }
    return c;
}

int64_t message_time_us(const struct message *m)
{
    return m->timestamp_ms >= 0 && m->timestamp_ms <= time_max_ms ? m->timestamp_ms * 1000 : -1;
}

bool message_is_error_header(const char *name)
{
    return str_starts(name, "__connect.errors.") || str_starts(name, "provisioner.dlq.") ||
           str_eq(name, MESSAGE_REPLAYS);
}

static void add_header(struct buf *out, bool first, const char *name, const char *base64)
{
    buf_adds(out, first ? "{\"name\":" : ",{\"name\":");
    buf_add_json(out, name);
    buf_adds(out, ",\"value_base64\":");
    buf_add_json(out, base64); /* NULL: null */
    buf_addc(out, '}');
}

/* *base64: free(); NULL for a null header. False when memory ends. */
static bool encode(const struct kafka_header *h, char **base64)
{
    *base64 = NULL;
    if (!h->value) {
        return true;
    }
    size_t size = sodium_base64_encoded_len(h->len, sodium_base64_VARIANT_ORIGINAL);
    *base64 = malloc(size);
    if (*base64) {
        sodium_bin2base64(*base64, size, h->value, h->len, sodium_base64_VARIANT_ORIGINAL);
    }
    return *base64 != NULL;
}

static void add_left_out(struct buf *out, bool first, size_t left_out)
{
    char number[24];
    char *base64;
    snprintf(number, sizeof(number), "%zu", left_out);
    const struct kafka_header h = {MESSAGE_LEFT_OUT, number, strlen(number)};
    if (encode(&h, &base64)) {
        add_header(out, first, h.name, base64);
    }
    free(base64);
}

int message_headers_json(const struct message *m, struct buf *out)
{
    size_t added = 0, left_out = 0;
    buf_addc(out, '[');
    for (size_t i = 0; i < m->n_headers; i++) {
        const struct kafka_header *h = &m->headers[i];
        if (message_is_error_header(h->name)) {
            continue;
        }
        char *base64 = NULL;
        /* A character of a name takes at most six bytes as JSON. */
        size_t most = 6 * strlen(h->name) + h->len / 3 * 4 + 64;
        if (out->len + most + LEFT_OUT_ROOM > MESSAGE_HEADERS_JSON_MAX || !encode(h, &base64)) {
            left_out++;
            continue;
        }
        add_header(out, added++ == 0, h->name, base64);
        free(base64);
    }
    if (left_out > 0) {
        add_left_out(out, added == 0, left_out);
    }
    buf_addc(out, ']');
    return out->failed ? -1 : 0;
}

static bool read_header(const cJSON *object, struct kafka_header *h)
{
    const char *base64 = json_str(object, "value_base64");
    const char *name = json_str(object, "name");
    bool null = cJSON_IsNull(json_get(object, "value_base64"));
    if (!name || !(base64 || null)) {
        return false;
    }
    h->name = name;
    if (null) {
        return true;
    }
    size_t room = strlen(base64) + 1; /* more than enough, and never nothing */
    unsigned char *bytes = malloc(room);
    h->value = bytes;
    return bytes && sodium_base642bin(bytes, room, base64, strlen(base64), NULL, &h->len, NULL,
                                      sodium_base64_VARIANT_ORIGINAL) == 0;
}

static int read_headers(const cJSON *tree, struct message_headers *h, struct err *err)
{
    const cJSON *object;
    if (!cJSON_IsArray(tree)) {
        return err_set(err, ERR_INVALID, "its headers are no array");
    }
    cJSON_ArrayForEach(object, tree)
    {
        if (h->n == MESSAGE_HEADERS_MAX) {
            return err_set(err, ERR_INVALID, "it has more than %d headers", MESSAGE_HEADERS_MAX);
        }
        h->list[h->n] = (struct kafka_header){NULL, NULL, 0};
        if (!read_header(object, &h->list[h->n++])) {
            return err_set(err, ERR_INVALID, "its header %zu cannot be read", h->n);
        }
    }
    return 0;
}

int message_headers_read(const char *json, struct message_headers *out, struct err *err)
{
    /* PostgreSQL puts spaces between what was written without. */
    static const struct json_limits limits = {
        .size = 2 * MESSAGE_HEADERS_JSON_MAX, .depth = 2, .string = 2 * MESSAGE_HEADERS_JSON_MAX};
    struct json_fault fault;
    cJSON *tree = NULL;
    if (json_parse(json, strlen(json), &limits, &tree, &fault)) {
        return err_set(err, fault.internal ? ERR_INTERNAL : ERR_INVALID,
                       "its headers cannot be read: %s %s", fault.pointer, fault.reason);
    }
    *out = (struct message_headers){.tree = tree};
    if (read_headers(tree, out, err)) {
        message_headers_done(out);
        return -1;
    }
    return 0;
}

void message_headers_done(struct message_headers *h)
{
    for (size_t i = 0; i < h->n; i++) {
        free((void *)h->list[i].value);
    }
    cJSON_Delete(h->tree);
    *h = (struct message_headers){0};
}

int message_replays(const struct message *m)
{
    for (size_t i = 0; i < m->n_headers; i++) {
        const struct kafka_header *h = &m->headers[i];
        char text[16] = "";
        int64_t n;
        if (!str_eq(h->name, MESSAGE_REPLAYS) || !h->value || h->len >= sizeof(text)) {
            continue;
        }
        memcpy(text, h->value, h->len);
        if (str_to_i64(text, &n) && n >= 0 && n <= REPLAYS_MAX) {
            return (int)n;
        }
    }
    return 0;
}
