/*
 * A Kafka message with any headers, as the worker takes it in: lines of `name: value`, a name alone
 * for a null header, an empty line, then the body. Kept in memory, told as JSON and read back, the
 * headers are the same; the event is decoded from the copy.
 */
#include <strings.h>

#include "base/str.h"
#include "event/event.h"
#include "fuzz.h"
#include "message.h"

enum { HEADERS_MAX = 128, FALLBACK_US = 77 };

static size_t split(struct fuzz_input *in, struct kafka_header headers[HEADERS_MAX])
{
    size_t n = 0;
    while (in->n > 0) {
        struct fuzz_input line = fuzz_until(in, "\n");
        if (line.n == 0 || n == HEADERS_MAX) {
            break;
        }
        bool null = !memmem(line.p, line.n, ": ", 2);
        headers[n].name = fuzz_text(fuzz_until(&line, ": "));
        headers[n].value = null ? NULL : fuzz_copy(line);
        headers[n++].len = null ? 0 : line.n;
    }
    return n;
}

/* A null header is another than an empty one. */
static bool same_bytes(const struct kafka_header *a, const struct kafka_header *b)
{
    if (!a->value || !b->value) {
        return !a->value && !b->value && a->len == b->len;
    }
    return a->len == b->len && memcmp(a->value, b->value, a->len) == 0;
}

static void check_copy(const struct kafka_message *m, const struct message *copy)
{
    HOLDS(copy->n_headers == m->n_headers && copy->value_len == m->value_len);
    HOLDS(!copy->value == !m->value && !copy->key == !m->key);
    HOLDS(m->value_len == 0 || memcmp(copy->value, m->value, m->value_len) == 0);
    for (size_t i = 0; i < m->n_headers; i++) {
        const struct kafka_header *a = &m->headers[i], *b = &copy->headers[i];
        HOLDS(str_eq(a->name, b->name));
        HOLDS(same_bytes(a, b));
    }
}

/* Those that an earlier dead letter left are gone, the others come back in their order. */
static void check_json(const struct message *m)
{
    static struct message_headers read; /* large */
    struct err err;
    struct buf b;
    size_t n = 0;
    buf_init(&b, MESSAGE_HEADERS_JSON_MAX);
    HOLDS(message_headers_json(m, &b) == 0 && b.len <= MESSAGE_HEADERS_JSON_MAX);
    HOLDS(message_headers_read(buf_str(&b), &read, &err) == 0);
    bool whole = read.n == 0 || !str_eq(read.list[read.n - 1].name, MESSAGE_LEFT_OUT);
    for (size_t i = 0; i < m->n_headers; i++) {
        const struct kafka_header *h = &m->headers[i], *back = &read.list[n];
        if (message_is_error_header(h->name)) {
            continue;
        }
        HOLDS(!whole || n < read.n);
        if (whole) {
            HOLDS(same_bytes(h, back));
            HOLDS(!str_is_utf8(h->name, strlen(h->name)) || str_eq(h->name, back->name));
        }
        n++;
    }
    HOLDS(!whole || n == read.n);
    message_headers_done(&read);
    buf_done(&b);
}

static const struct kafka_header *named(const struct message *m, const char *name)
{
    for (size_t i = 0; i < m->n_headers; i++) {
        if (strcasecmp(m->headers[i].name, name) == 0) {
            return &m->headers[i];
        }
    }
    return NULL;
}

/* What the header says to its last byte, where headers say it. */
static void check_attribute(const struct message *m, const char *name, const char *text)
{
    const struct kafka_header *h = named(m, name);
    if (!named(m, "content-type") && named(m, "ce_specversion")) {
        HOLDS(h && h->len == strlen(text) && memcmp(h->value, text, h->len) == 0);
    }
}

static void check_event(const struct message *m)
{
    struct event_header headers[HEADERS_MAX];
    struct json_fault fault;
    struct event e;
    for (size_t i = 0; i < m->n_headers; i++) {
        headers[i] =
            (struct event_header){m->headers[i].name, m->headers[i].value, m->headers[i].len};
    }
    if (event_decode(m->value, m->value_len, headers, m->n_headers, FALLBACK_US, &e, &fault)) {
        fuzz_check_fault(&fault);
        return;
    }
    HOLDS(fuzz_is_uuid(e.order_uuid) && fuzz_is_uuid(e.subscription_uuid));
    HOLDS(e.id[0] && e.source[0] && e.data && e.type < EVENT_TYPE_MAX);
    check_attribute(m, "ce_id", e.id);
    check_attribute(m, "ce_source", e.source);
    event_done(&e);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input in = {(const char *)data, size};
    struct kafka_header headers[HEADERS_MAX];
    size_t n = split(&in, headers);
    char *body = fuzz_copy(in);
    const struct kafka_message m = {.topic = "t",
                                    .timestamp_ms = n > 0 && headers[0].len > 0 ? (int64_t)n : -1,
                                    .value = body,
                                    .value_len = in.n,
                                    .headers = headers,
                                    .n_headers = n};
    struct message *copy = message_copy(&m);
    HOLDS(copy);
    check_copy(&m, copy);
    check_json(copy);
    check_event(copy);
    HOLDS(message_replays(copy) >= 0);
    HOLDS(message_time_us(copy) == (m.timestamp_ms < 0 ? -1 : m.timestamp_ms * 1000));
    free(copy);
    free(body);
    for (size_t i = 0; i < n; i++) {
        free((void *)headers[i].name);
        free((void *)headers[i].value);
    }
    return 0;
}
