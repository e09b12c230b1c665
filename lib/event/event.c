/*
 * Decoding: bytes to a tree, the tree against the schema of its type, then into struct event.
 */
#include "event/event.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/str.h"
#include "event/event_parts.h"

#define MEDIA_TYPE "application/cloudevents+json"

static int parse(const void *body, size_t n, const struct event_header *headers, size_t n_headers,
                 cJSON **tree, struct json_fault *fault)
{
    /* One string may fill the message: the schema bounds those that are read. */
    const struct json_limits limits = {EVENT_BYTES_MAX, EVENT_DEPTH_MAX, EVENT_BYTES_MAX};
    const struct event_header *type = event_header_named(headers, n_headers, "content-type");
    const bool binary = event_header_named(headers, n_headers, "ce_specversion") != NULL;
    if (n > EVENT_BYTES_MAX)
        return json_refuse(fault, "", "is %zu bytes; at most %d are taken", n, EVENT_BYTES_MAX);
    if (type && event_header_is_media_type(type, "application/cloudevents-batch+json"))
        return json_refuse(fault, "", "is a batch; one event a message is taken");
    if (type ? event_header_is_media_type(type, MEDIA_TYPE) : !binary) {
        if (n == 0)
            return json_refuse(fault, "", "is empty; an event in JSON was expected");
        return json_parse(body, n, &limits, tree, fault);
    }
    if (!binary)
        return json_refuse(fault, "/specversion",
                           "is required: the content-type is not " MEDIA_TYPE
                           ", so a ce_specversion header must be there");
    return event_binary_tree(body, n, headers, n_headers, tree, fault);
}

/* The event's type picks the schema; what is no object is left to any schema to refuse. */
static int find_type(const cJSON *tree, enum event_type *out, struct json_fault *fault)
{
    const cJSON *type = cJSON_GetObjectItemCaseSensitive(tree, "type");
    if (cJSON_IsObject(tree) && !type)
        return json_refuse(fault, "/type", "is required");
    if (type && !cJSON_IsString(type))
        return json_refuse(fault, "/type", "must be a string");
    if (!type) {
        *out = EVENT_CREATED;
        return 0;
    }
    struct buf known;
    buf_init(&known, JSON_REASON_MAX);
    for (unsigned i = 0; i < EVENT_TYPE_MAX; i++) {
        const char *name = event_type_name((enum event_type)i);
        if (str_eq(type->valuestring, name)) {
            buf_done(&known);
            *out = (enum event_type)i;
            return 0;
        }
        buf_addf(&known, "%s%s", i ? ", " : "", name);
    }
    json_refuse(fault, "/type", "is unknown; known are %s", buf_str(&known));
    buf_done(&known);
    return -1;
}

static int fix_uuid(void *ctx, cJSON *value)
{
    (void)ctx;
    char canonical[UUID_TEXT];
    if (!uuid_parse(value->valuestring, strlen(value->valuestring), canonical))
        return -1;
    return cJSON_SetValuestring(value, canonical) ? 0 : -1;
}

static int check(cJSON *tree, enum event_type *type, struct json_fault *fault)
{
    struct err err;
    if (find_type(tree, type, fault) != 0)
        return -1;
    const struct schema *schema = event_schema(*type, &err);
    if (!schema)
        return json_broken(fault, err.msg);
    if (schema_check(schema, tree, fault) != 0)
        return -1;
    if (schema_normalise(schema, tree, "uuid", fix_uuid, NULL) != 0)
        return json_broken(fault, "out of memory");
    return 0;
}

bool event_traceparent(const char *s, size_t n, char out[TRACEPARENT_MAX + 1])
{
    static const char form[] = "xx-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx-xxxxxxxxxxxxxxxx-xx";
    _Static_assert(sizeof(form) == TRACEPARENT_MAX + 1,
                   "one character of form for each of the text");
    if (n < TRACEPARENT_MAX)
        return false;
    for (size_t i = 0; i < TRACEPARENT_MAX; i++)
        if (form[i] == '-' ? s[i] != '-' : !s[i] || !strchr("0123456789abcdef", s[i]))
            return false;
    /* A later version may have more to say after a dash; what version 00 knows of it stands first.
     */
    const bool v00 = memcmp(s, "00", 2) == 0;
    if (memcmp(s, "ff", 2) == 0 || (n > TRACEPARENT_MAX && (v00 || s[TRACEPARENT_MAX] != '-')))
        return false;
    if (strspn(s + 3, "0") >= 32 || strspn(s + 36, "0") >= 16)
        return false;
    memcpy(out, s, TRACEPARENT_MAX);
    memcpy(out, "00", 2);
    out[TRACEPARENT_MAX] = '\0';
    return true;
}

static void fill_traceparent(struct event *e, const cJSON *tree, const struct event_header *headers,
                             size_t n)
{
    const char *extension = json_str(tree, "traceparent");
    if (extension && event_traceparent(extension, strlen(extension), e->traceparent))
        return;
    const struct event_header *h = event_header_named(headers, n, "traceparent");
    if (h && h->value)
        event_traceparent(h->value, h->len, e->traceparent);
}

static void copy_member(char *out, size_t size, const cJSON *tree, const char *path)
{
    const char *s = json_str(tree, path);
    str_copy(out, size, s ? s : "");
}

/* The tree was checked: what is required is there and fits. */
static int fill(struct event *e, const cJSON *tree, int64_t fallback_time_us,
                struct json_fault *fault)
{
    const char *time = json_str(tree, "time");
    copy_member(e->id, sizeof(e->id), tree, "id");
    copy_member(e->source, sizeof(e->source), tree, "source");
    copy_member(e->order_uuid, sizeof(e->order_uuid), tree, "data.order_uuid");
    copy_member(e->subscription_uuid, sizeof(e->subscription_uuid), tree, "data.subscription.uuid");
    copy_member(e->organization_uuid, sizeof(e->organization_uuid), tree, "data.organization.uuid");
    if (!time || !clock_parse(time, strlen(time), &e->time_us))
        e->time_us = fallback_time_us;
    e->data = json_text(json_get(tree, "data"));
    return e->data ? 0 : json_broken(fault, "out of memory");
}

int event_decode(const void *body, size_t n, const struct event_header *headers, size_t n_headers,
                 int64_t fallback_time_us, struct event *out, struct json_fault *fault)
{
    cJSON *tree = NULL;
    struct event e = {0};
    if (parse(body, n, headers, n_headers, &tree, fault) != 0)
        return -1;
    int rc = check(tree, &e.type, fault);
    if (rc == 0)
        rc = fill(&e, tree, fallback_time_us, fault);
    if (rc == 0)
        fill_traceparent(&e, tree, headers, n_headers);
    cJSON_Delete(tree);
    if (rc != 0) {
        event_done(&e);
        return -1;
    }
    *out = e;
    return 0;
}

void event_done(struct event *e)
{
    free(e->data);
    *e = (struct event){0};
}
