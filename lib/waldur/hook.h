/*
 * What Waldur tells of its own accord: the body of a webhook,
 *
 *   {"created": ..., "message": ..., "event_type": ..., "context": {...}}
 *
 * or a message of its event subscriptions in the unified form (and in the older one, which has less
 * of the same), {"object_type": "order", "order_uuid": ..., "order_state": ..., ...}.
 *
 * A hint, and nothing else: nobody signed it, it has no id, it comes late, twice, out of order, or
 * not at all. Whoever acts on it reads the order first. So what only a newer Waldur would say (an
 * event, a state, a kind of object) is no error but HOOK_OTHER or ..._UNKNOWN; a member that is
 * read and is of the wrong type or no UUID is one. Members that are not read may hold anything.
 */
#ifndef WALDUR_HOOK_H
#define WALDUR_HOOK_H

#include <stddef.h>
#include <stdint.h>

#include "base/json.h"
#include "base/uuid.h"
#include "waldur/terms.h"

enum { HOOK_BYTES_MAX = 1024 * 1024, HOOK_DEPTH_MAX = 32 };

enum hook_kind {
    HOOK_OTHER,              /* about something else, or nothing that is known */
    HOOK_ORDER_MOVED,        /* placed, or in another state */
    HOOK_ORDER_APPROVED,     /* it executes: of every type, and again after a retry */
    HOOK_ORDER_CLOSED,       /* done, erred, rejected or canceled */
    HOOK_RESOURCE_REQUESTED, /* an order about it was placed, and nobody approved it yet */
    HOOK_RESOURCE_CHANGED,
    HOOK_UNLINKED,     /* staff made Waldur forget it: what it left may be an orphan */
    HOOK_KEY_ROTATION, /* a new key of its own is wanted */
    HOOK_KIND_MAX
};

/* UUIDs are canonical, "" where none was given. */
struct hook {
    enum hook_kind kind;
    enum waldur_order_type order_type;
    enum waldur_order_state order_state;
    char order_uuid[UUID_TEXT];    /* always there for HOOK_ORDER_... */
    char resource_uuid[UUID_TEXT]; /* always there for HOOK_RESOURCE_... and HOOK_KEY_ROTATION;
                                      HOOK_UNLINKED has one of the two */
    char offering_uuid[UUID_TEXT];
    char project_uuid[UUID_TEXT];
    char customer_uuid[UUID_TEXT]; /* webhooks alone */
    char api_key_uuid[UUID_TEXT];  /* HOOK_KEY_ROTATION alone, and there not always */
    int64_t created_us;            /* webhooks alone; else -1 */
};

/*
 * Decodes n bytes. 0, or -1 and *fault with the JSON Pointer of the member and the reason; *out is
 * then untouched. fault->internal: memory ended, and nothing is said of the body.
 */
int hook_decode(const void *body, size_t n, struct hook *out, struct json_fault *fault);
/* The same of an event as REST lists it, which has a webhook's form. */
int hook_of_event(const cJSON *event, struct hook *out, struct json_fault *fault);

#endif
