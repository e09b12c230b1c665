/*
 * Events, structured and binary: the first line holds letters ('b': binary mode, with the usual
 * headers; 'j', 't', 'n': a content-type), the rest is the body. What is taken reads the same when
 * it is put together again from what was kept.
 */
#include "base/buf.h"
#include "base/clock.h"
#include "base/str.h"
#include "event/event.h"
#include "fuzz.h"

enum { HEADERS_MAX = 8, FALLBACK_US = 77 };

static void add(struct event_header *headers, size_t *n, const char *name, const char *value)
{
    headers[(*n)++] =
        (struct event_header){.name = name, .value = value, .len = value ? strlen(value) : 0};
}

static size_t draw_headers(const char *letters, struct event_header headers[HEADERS_MAX])
{
    size_t n = 0;
    if (strchr(letters, 'b')) {
        add(headers, &n, "ce_specversion", "1.0");
        add(headers, &n, "ce_id", "e1");
        add(headers, &n, "ce_source", "/waldur");
        add(headers, &n, "CE_Type",
            strchr(letters, 'x')   ? "subscription.terminated"
            : strchr(letters, 'u') ? "subscription.updated"
            : strchr(letters, 'z') ? "subscription.suspended"
            : strchr(letters, 'r') ? "subscription.resumed"
                                   : "subscription.created");
    }
    if (strchr(letters, 'j')) {
        add(headers, &n, "content-type", "application/json");
    } else if (strchr(letters, 't')) {
        add(headers, &n, "content-type", "text/plain");
    } else if (strchr(letters, 's')) {
        add(headers, &n, "content-type", "application/cloudevents+json; charset=utf-8");
    } else if (strchr(letters, 'n')) {
        add(headers, &n, "content-type", NULL);
    }
    if (strchr(letters, 'p')) {
        add(headers, &n, "traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
    }
    return n;
}

static bool same(const struct event *a, const struct event *b)
{
    return a->type == b->type && str_eq(a->id, b->id) && str_eq(a->source, b->source) &&
           a->time_us == b->time_us && str_eq(a->traceparent, b->traceparent) &&
           str_eq(a->order_uuid, b->order_uuid) &&
           str_eq(a->subscription_uuid, b->subscription_uuid) &&
           str_eq(a->organization_uuid, b->organization_uuid) && str_eq(a->data, b->data);
}

static void check_again(const struct event *e)
{
    char time[CLOCK_TEXT_MAX];
    struct event again;
    struct json_fault fault;
    struct buf b;
    buf_init(&b, 4 * EVENT_BYTES_MAX);
    buf_adds(&b, "{\"specversion\":\"1.0\",\"id\":");
    buf_add_json(&b, e->id);
    buf_adds(&b, ",\"source\":");
    buf_add_json(&b, e->source);
    buf_addf(&b, ",\"type\":\"%s\",", event_type_name(e->type));
    if (e->time_us != FALLBACK_US) {
        clock_format(time, e->time_us);
        buf_addf(&b, "\"time\":\"%s\",", time);
    }
    if (e->traceparent[0]) {
        buf_addf(&b, "\"traceparent\":\"%s\",", e->traceparent);
    }
    buf_addf(&b, "\"data\":%s}", e->data);
    HOLDS(event_decode(buf_str(&b), b.len, NULL, 0, FALLBACK_US, &again, &fault) == 0);
    HOLDS(same(e, &again));
    event_done(&again);
    buf_done(&b);
}

static void check_event(const struct event *e)
{
    HOLDS(e->type < EVENT_TYPE_MAX && e->id[0] && e->source[0] && e->data && e->data[0] == '{');
    HOLDS(fuzz_is_uuid(e->order_uuid) && fuzz_is_uuid(e->subscription_uuid));
    bool tells_all = e->type == EVENT_CREATED || e->type == EVENT_UPDATED;
    HOLDS(fuzz_is_uuid(e->organization_uuid) || (!tells_all && !e->organization_uuid[0]));
    HOLDS(strlen(e->traceparent) == 0 || strlen(e->traceparent) == TRACEPARENT_MAX);
    check_again(e);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input in = {(const char *)data, size};
    struct event_header headers[HEADERS_MAX];
    char *letters = fuzz_text(fuzz_until(&in, "\n"));
    char *body = fuzz_copy(in);
    struct event e = {.time_us = -1};
    struct json_fault fault;
    size_t n = draw_headers(letters, headers);
    if (event_decode(body, in.n, headers, n, FALLBACK_US, &e, &fault) == 0) {
        check_event(&e);
        event_done(&e);
    } else {
        fuzz_check_fault(&fault);
        HOLDS(e.time_us == -1 && !e.data);
    }
    free(body);
    free(letters);
    return 0;
}
