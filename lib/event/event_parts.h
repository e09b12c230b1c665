/*
 * What the files of event.h share.
 */
#ifndef EVENT_EVENT_PARTS_H
#define EVENT_EVENT_PARTS_H

#include <cjson/cJSON.h>

#include "event/event.h"
#include "event/schema.h"

/* The schema of a type, loaded at first use and kept. NULL and *err when that failed. */
const struct schema *event_schema(enum event_type t, struct err *err);

/*
 * A binary-mode message as the structured form would have it: attributes from headers, `data` from
 * the body. 0 and *out (cJSON_Delete), or -1 and *fault.
 */
int event_binary_tree(const void *body, size_t n, const struct event_header *headers,
                      size_t n_headers, cJSON **out, struct json_fault *fault);

/* The W3C trace context in s as version 00; false leaves out untouched. */
bool event_traceparent(const char *s, size_t n, char out[TRACEPARENT_MAX + 1]);

/* The first header of that name, case ignored, or NULL. */
const struct event_header *event_header_named(const struct event_header *headers, size_t n,
                                              const char *name);
/* Compares a header's media type, case and parameters ignored. */
bool event_header_is_media_type(const struct event_header *h, const char *type);

#endif
