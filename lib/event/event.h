/*
 * Subscription events: CloudEvents 1.0 in structured and binary mode (Kafka protocol binding 1.0.2)
 * into one value. The schemas under schemas/ are the contract; the decoder validates with them
 * (event/schema.h), so the two cannot disagree. Unknown members are ignored.
 */
#ifndef EVENT_EVENT_H
#define EVENT_EVENT_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/json.h"
#include "base/uuid.h"

enum {
    EVENT_BYTES_MAX = 1024 * 1024,
    EVENT_DEPTH_MAX = 32,
    EVENT_ID_MAX = 256,
    EVENT_SOURCE_MAX = 512,
    TRACEPARENT_MAX = 55,
};

enum event_type {
    EVENT_CREATED,
    EVENT_UPDATED,
    EVENT_SUSPENDED,
    EVENT_RESUMED,
    EVENT_TERMINATED,
    EVENT_TYPE_MAX
};

/* A message header; value may be NULL (Kafka's null) and need not be terminated. */
struct event_header {
    const char *name;
    const void *value;
    size_t len;
};

struct event {
    enum event_type type;
    char id[EVENT_ID_MAX * 4 + 1];
    char source[EVENT_SOURCE_MAX * 4 + 1];
    int64_t time_us; /* the event's `time`, else the fallback that was given */
    char traceparent[TRACEPARENT_MAX +
                     1]; /* "" where there was none or it was malformed (W3C Trace Context 1) */
    char order_uuid[UUID_TEXT];
    char subscription_uuid[UUID_TEXT];
    char organization_uuid[UUID_TEXT]; /* "" where the event names none; created and updated do */
    char
        *data; /* normalised compact JSON of `data`: UUIDs canonical, unknown members gone; owned */
};

/*
 * Decodes one message. Mode by the headers: `content-type` application/cloudevents+json (parameters
 * allowed) or no content-type and no ce_specversion is structured; ce_specversion present is
 * binary, where attributes come from ce_* headers and the body is `data` (content-type
 * application/json or none). Pointers name the place in the structured form, e.g.
 * "/data/plan/tier", for both modes; for a header,
 * "/type" and so on. On failure *fault says where and why, and *out is untouched; fault->internal
 * means that the message may be fine and memory ended.
 */
int event_decode(const void *body, size_t n, const struct event_header *headers, size_t n_headers,
                 int64_t fallback_time_us, struct event *out, struct json_fault *fault);
void event_done(struct event *e);

const char *event_type_name(enum event_type t); /* "subscription.created" */

#endif
