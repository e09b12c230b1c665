/*
 * The two forms have different places for the same members, so a form is a table of places. Traps
 * of the webhook: UUIDs without dashes, None as the text "None", and a "terminated" order that was
 * canceled.
 */
#include "waldur/hook.h"

#include <stdbool.h>
#include <string.h>

#include "base/clock.h"
#include "base/str.h"
#include "waldur/native.h"

/* Members of a form, as paths of json_get; NULL: the form has none. */
struct form {
    const char *order, *resource, *offering, *project, *customer, *key, *type, *state;
};

static const struct form webhook = {.order = "context.order_uuid",
                                    .resource = "context.resource_uuid",
                                    .offering = "context.offering_uuid",
                                    .project = "context.project_uuid",
                                    .customer = "context.customer_uuid",
                                    .type = "context.order_get_type_display",
                                    .state = "context.order_get_state_display"};

static const struct form message = {.order = "order_uuid",
                                    .resource = "resource_uuid",
                                    .offering = "offering_uuid",
                                    .project = "project_uuid",
                                    .key = "api_key_uuid",
                                    .type = "order_type",
                                    .state = "order_state"};

/* ---- words ---- */

struct word {
    const char *text;
    int value;
};

/* M24's names, and what was added by 2026. Those of a resource stand without their common
 * beginning. */
static const struct word order_events[] = {
    {"created", HOOK_ORDER_MOVED},   {"approved", HOOK_ORDER_APPROVED},
    {"rejected", HOOK_ORDER_CLOSED}, {"completed", HOOK_ORDER_CLOSED},
    {"failed", HOOK_ORDER_CLOSED},   {"terminated", HOOK_ORDER_CLOSED}, /* it was canceled */
    {"unlinked", HOOK_UNLINKED}};

static const struct word resource_events[] = {{"create_requested", HOOK_RESOURCE_REQUESTED},
                                              {"update_requested", HOOK_RESOURCE_REQUESTED},
                                              {"terminate_requested", HOOK_RESOURCE_REQUESTED},
                                              {"create_succeeded", HOOK_RESOURCE_CHANGED},
                                              {"create_failed", HOOK_RESOURCE_CHANGED},
                                              {"create_canceled", HOOK_RESOURCE_CHANGED},
                                              {"update_succeeded", HOOK_RESOURCE_CHANGED},
                                              {"update_failed", HOOK_RESOURCE_CHANGED},
                                              {"update_canceled", HOOK_RESOURCE_CHANGED},
                                              {"terminate_succeeded", HOOK_RESOURCE_CHANGED},
                                              {"terminate_failed", HOOK_RESOURCE_CHANGED},
                                              {"terminate_canceled", HOOK_RESOURCE_CHANGED},
                                              {"update_limits_succeeded", HOOK_RESOURCE_CHANGED},
                                              {"update_limits_failed", HOOK_RESOURCE_CHANGED},
                                              {"update_end_date_succeeded", HOOK_RESOURCE_CHANGED},
                                              {"downscaled", HOOK_RESOURCE_CHANGED},
                                              {"paused", HOOK_RESOURCE_CHANGED},
                                              {"erred_on_backend", HOOK_RESOURCE_CHANGED},
                                              {"has_been_changed", HOOK_RESOURCE_CHANGED},
                                              {"unlinked", HOOK_UNLINKED}};

/* 0, which is "unknown" everywhere, for a word that is none of them. */
static int find(const struct word *words, size_t n, const char *text)
{
    for (size_t i = 0; i < n; i++) {
        if (str_eq(words[i].text, text)) {
            return words[i].value;
        }
    }
    return 0;
}

/* ---- members ---- */

static int read_members(const cJSON *tree, const struct form *f, struct hook *h,
                        struct json_fault *fault)
{
    const char *type = NULL, *state = NULL;
    if (waldur_read_uuid(tree, f->order, h->order_uuid, fault) ||
        waldur_read_uuid(tree, f->resource, h->resource_uuid, fault) ||
        waldur_read_uuid(tree, f->offering, h->offering_uuid, fault) ||
        waldur_read_uuid(tree, f->project, h->project_uuid, fault) ||
        waldur_read_uuid(tree, f->customer, h->customer_uuid, fault) ||
        waldur_read_uuid(tree, f->key, h->api_key_uuid, fault) ||
        waldur_read_text(tree, f->type, &type, fault) ||
        waldur_read_text(tree, f->state, &state, fault)) {
        return -1;
    }
    h->order_type = waldur_order_type_parse(type);
    h->order_state = waldur_order_state_parse(state);
    return 0;
}

/* Of what it is about, the UUID must be there. */
static int check_subject(const struct form *f, const struct hook *h, struct json_fault *fault)
{
    bool order = h->order_uuid[0] != '\0', resource = h->resource_uuid[0] != '\0';
    switch (h->kind) {
    case HOOK_ORDER_MOVED:
    case HOOK_ORDER_APPROVED:
    case HOOK_ORDER_CLOSED:
        return order ? 0 : waldur_refuse(fault, f->order, "is required");
    case HOOK_RESOURCE_REQUESTED:
    case HOOK_RESOURCE_CHANGED:
    case HOOK_KEY_ROTATION:
        return resource ? 0 : waldur_refuse(fault, f->resource, "is required");
    case HOOK_UNLINKED:
        return order || resource ? 0 : waldur_refuse(fault, f->resource, "is required");
    case HOOK_OTHER:
    case HOOK_KIND_MAX:
        break;
    }
    return 0;
}

/* ---- webhooks ---- */

static enum hook_kind kind_of_event(const char *type)
{
    static const char order[] = "marketplace_order_", resource[] = "marketplace_resource_";
    int kind = HOOK_OTHER;
    if (str_starts(type, order)) {
        kind = find(order_events, ARRAY_LEN(order_events), type + strlen(order));
    } else if (str_starts(type, resource)) {
        kind = find(resource_events, ARRAY_LEN(resource_events), type + strlen(resource));
    }
    return (enum hook_kind)kind;
}

static int read_created(const cJSON *tree, struct hook *h, struct json_fault *fault)
{
    const char *created = NULL;
    if (waldur_read_text(tree, "created", &created, fault)) {
        return -1;
    }
    if (!created) {
        return waldur_refuse(fault, "created", "is required");
    }
    if (!clock_parse(created, strlen(created), &h->created_us)) {
        return waldur_refuse(fault, "created", "must be a date and time with an offset (RFC 3339)");
    }
    return 0;
}

static int read_webhook(const cJSON *tree, struct hook *h, struct json_fault *fault)
{
    const char *type = NULL;
    if (waldur_read_text(tree, "event_type", &type, fault)) {
        return -1;
    }
    if (!type) {
        return waldur_refuse(fault, "event_type", "is required");
    }
    if (!json_get(tree, "context")) {
        return waldur_refuse(fault, "context", "is required");
    }
    if (!cJSON_IsObject(json_get(tree, "context"))) {
        return waldur_refuse(fault, "context",
                             "must be an object; the hook's content type in Waldur has to be json");
    }
    h->kind = kind_of_event(type);
    if (read_created(tree, h, fault)) {
        return -1;
    }
    /* What else there is an event of may call anything by these names. */
    if (h->kind == HOOK_OTHER) {
        return 0;
    }
    return read_members(tree, &webhook, h, fault) ? -1 : check_subject(&webhook, h, fault);
}

/* ---- messages ---- */

static enum hook_kind kind_of_state(enum waldur_order_state state)
{
    switch (state) {
    case WALDUR_ORDER_EXECUTING:
        return HOOK_ORDER_APPROVED;
    case WALDUR_ORDER_DONE:
    case WALDUR_ORDER_ERRED:
    case WALDUR_ORDER_CANCELED:
    case WALDUR_ORDER_REJECTED:
        return HOOK_ORDER_CLOSED;
    case WALDUR_ORDER_UNKNOWN:
    case WALDUR_ORDER_PENDING_CONSUMER:
    case WALDUR_ORDER_PENDING_PROVIDER:
    case WALDUR_ORDER_PENDING_PROJECT:
    case WALDUR_ORDER_PENDING_START_DATE:
    case WALDUR_ORDER_MAX:
        break;
    }
    return HOOK_ORDER_MOVED;
}

/* Before there was an object_type the members told: NULL then where they do not. */
static const char *object_of(const cJSON *tree, const char *said)
{
    if (said) {
        return said;
    }
    if (json_get(tree, "api_key_uuid")) {
        return "resource_api_key_rotation";
    }
    return json_get(tree, "order_uuid")      ? "order"
           : json_get(tree, "resource_uuid") ? "resource"
                                             : NULL;
}

static int read_message(const cJSON *tree, struct hook *h, struct json_fault *fault)
{
    const char *said = NULL;
    if (waldur_read_text(tree, "object_type", &said, fault)) {
        return -1;
    }
    const char *object = object_of(tree, said);
    bool order = str_eq(object, "order"), resource = str_eq(object, "resource");
    bool rotation = str_eq(object, "resource_api_key_rotation");
    if (!order && !resource && !rotation) {
        return 0;
    }
    if (read_members(tree, &message, h, fault)) {
        return -1;
    }
    h->kind = order      ? kind_of_state(h->order_state)
              : rotation ? HOOK_KEY_ROTATION
                         : HOOK_RESOURCE_CHANGED;
    return check_subject(&message, h, fault);
}

/* ---- either ---- */

/* A message may have an event_type beside its own members, and never a context. */
static bool is_message(const cJSON *tree)
{
    return !json_get(tree, "context") &&
           (json_get(tree, "object_type") || json_get(tree, "order_uuid") ||
            json_get(tree, "resource_uuid"));
}

int hook_decode(const void *body, size_t n, struct hook *out, struct json_fault *fault)
{
    /* One attribute may fill it: buyers' attributes ride along, and are not read. */
    static const struct json_limits limits = {HOOK_BYTES_MAX, HOOK_DEPTH_MAX, HOOK_BYTES_MAX};
    struct hook h = {.kind = HOOK_OTHER, .created_us = -1};
    cJSON *tree = NULL;
    int rc = 0;
    if (n == 0) {
        return json_refuse(fault, "", "is empty; an event in JSON was expected");
    }
    if (json_parse(body, n, &limits, &tree, fault)) {
        return -1;
    }
    if (!cJSON_IsObject(tree)) {
        rc = json_refuse(fault, "", "must be an object");
    } else {
        rc = is_message(tree) ? read_message(tree, &h, fault) : read_webhook(tree, &h, fault);
    }
    cJSON_Delete(tree);
    if (rc == 0) {
        *out = h;
    }
    return rc;
}

int hook_of_event(const cJSON *event, struct hook *out, struct json_fault *fault)
{
    struct hook h = {.kind = HOOK_OTHER, .created_us = -1};
    if (!cJSON_IsObject(event)) {
        return json_refuse(fault, "", "must be an object");
    }
    if (read_webhook(event, &h, fault)) {
        return -1;
    }
    *out = h;
    return 0;
}
