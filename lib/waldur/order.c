#include "waldur/order.h"

#include <string.h>

#include "base/str.h"
#include "waldur/native.h"

/* What orders and resources call by the same names. */
struct common {
    char *offering_uuid, *plan_uuid, *customer_uuid, *project_uuid;
    char *plan_name, *customer_slug, *customer_name, *project_slug, *project_name;
    int64_t *created_us, *modified_us;
};

static int read_common(const cJSON *tree, const struct common *c, struct json_fault *fault)
{
    return waldur_read_uuid(tree, "offering_uuid", c->offering_uuid, fault) ||
                   waldur_read_uuid(tree, "plan_uuid", c->plan_uuid, fault) ||
                   waldur_read_uuid(tree, "customer_uuid", c->customer_uuid, fault) ||
                   waldur_read_uuid(tree, "project_uuid", c->project_uuid, fault) ||
                   waldur_read_cut(tree, "plan_name", c->plan_name, WALDUR_NAME_MAX, fault) ||
                   waldur_read_cut(tree, "customer_name", c->customer_name, WALDUR_NAME_MAX,
                                   fault) ||
                   waldur_read_cut(tree, "project_name", c->project_name, WALDUR_NAME_MAX, fault) ||
                   waldur_read_whole(tree, "customer_slug", c->customer_slug, WALDUR_SLUG_MAX,
                                     fault) ||
                   waldur_read_whole(tree, "project_slug", c->project_slug, WALDUR_SLUG_MAX,
                                     fault) ||
                   waldur_read_time(tree, "created", c->created_us, fault) ||
                   waldur_read_time(tree, "modified", c->modified_us, fault)
               ? -1
               : 0;
}

/* The member is taken out of the tree; NULL where there is none. */
static int take(cJSON *tree, const char *name, bool array, cJSON **out, struct json_fault *fault)
{
    cJSON *member = cJSON_GetObjectItemCaseSensitive(tree, name);
    if (!member || cJSON_IsNull(member)) {
        return 0;
    }
    if (array ? !cJSON_IsArray(member) : !cJSON_IsObject(member)) {
        return waldur_refuse(fault, name, array ? "must be an array" : "must be an object");
    }
    *out = cJSON_DetachItemViaPointer(tree, member);
    return 0;
}

static int check_limits(const cJSON *limits, struct json_fault *fault)
{
    const cJSON *limit = NULL;
    cJSON_ArrayForEach(limit, limits)
    {
        if (!cJSON_IsNumber(limit) || limit->valuedouble < -9007199254740991.0 ||
            limit->valuedouble > 9007199254740991.0 ||
            limit->valuedouble != (double)(int64_t)limit->valuedouble) {
            return waldur_refuse(fault, "limits", "must hold whole numbers alone");
        }
    }
    return 0;
}

static int take_bought(cJSON *tree, cJSON **attributes, cJSON **limits, struct json_fault *fault)
{
    return take(tree, "attributes", false, attributes, fault) ||
                   take(tree, "limits", false, limits, fault) || check_limits(*limits, fault)
               ? -1
               : 0;
}

static int check_endpoints(const cJSON *endpoints, struct json_fault *fault)
{
    const cJSON *one = NULL;
    cJSON_ArrayForEach(one, endpoints)
    {
        if (!json_str(one, "name") || !json_str(one, "url")) {
            return waldur_refuse(fault, "endpoints", "must hold objects with a name and a url");
        }
    }
    return 0;
}

/* A word of terms.h. */
static int read_word(const cJSON *tree, const char *path, bool required, const char **text,
                     struct json_fault *fault)
{
    if (waldur_read_text(tree, path, text, fault)) {
        return -1;
    }
    return required && !*text ? waldur_refuse(fault, path, "is required") : 0;
}

static int read_order(cJSON *tree, struct waldur_order *o, struct json_fault *fault)
{
    const struct common c = {.offering_uuid = o->offering_uuid,
                             .plan_uuid = o->plan_uuid,
                             .customer_uuid = o->customer_uuid,
                             .project_uuid = o->project_uuid,
                             .plan_name = o->plan_name,
                             .customer_slug = o->customer_slug,
                             .customer_name = o->customer_name,
                             .project_slug = o->project_slug,
                             .project_name = o->project_name,
                             .created_us = &o->created_us,
                             .modified_us = &o->modified_us};
    const char *type = NULL, *state = NULL;
    if (waldur_read_uuid(tree, "uuid", o->uuid, fault) ||
        read_word(tree, "state", true, &state, fault) ||
        read_word(tree, "type", false, &type, fault) || read_common(tree, &c, fault) ||
        waldur_read_uuid(tree, "marketplace_resource_uuid", o->resource_uuid, fault) ||
        waldur_read_cut(tree, "offering_type", o->offering_type, WALDUR_NAME_MAX, fault) ||
        waldur_read_cut(tree, "resource_name", o->resource_name, WALDUR_NAME_MAX, fault)) {
        return -1;
    }
    o->type = waldur_order_type_parse(type);
    o->state = waldur_order_state_parse(state);
    if (!o->uuid[0]) {
        return waldur_refuse(fault, "uuid", "is required");
    }
    return take_bought(tree, &o->attributes, &o->limits, fault);
}

static int read_resource(cJSON *tree, struct waldur_resource *r, struct json_fault *fault)
{
    const struct common c = {.offering_uuid = r->offering_uuid,
                             .plan_uuid = r->plan_uuid,
                             .customer_uuid = r->customer_uuid,
                             .project_uuid = r->project_uuid,
                             .plan_name = r->plan_name,
                             .customer_slug = r->customer_slug,
                             .customer_name = r->customer_name,
                             .project_slug = r->project_slug,
                             .project_name = r->project_name,
                             .created_us = &r->created_us,
                             .modified_us = &r->modified_us};
    const char *state = NULL;
    if (waldur_read_uuid(tree, "uuid", r->uuid, fault) ||
        read_word(tree, "state", true, &state, fault) || read_common(tree, &c, fault) ||
        waldur_read_cut(tree, "name", r->name, WALDUR_NAME_MAX, fault) ||
        waldur_read_whole(tree, "backend_id", r->backend_id, WALDUR_BACKEND_ID_MAX, fault) ||
        waldur_read_flag(tree, "paused", &r->paused, fault)) {
        return -1;
    }
    r->state = waldur_resource_state_parse(state);
    if (!r->uuid[0]) {
        return waldur_refuse(fault, "uuid", "is required");
    }
    return take_bought(tree, &r->attributes, &r->limits, fault) ||
                   take(tree, "backend_metadata", false, &r->metadata, fault) ||
                   take(tree, "endpoints", true, &r->endpoints, fault) ||
                   check_endpoints(r->endpoints, fault)
               ? -1
               : 0;
}

/* ---- what they own ---- */

/* Values that a buyer may have put there are not left in freed memory. */
static void wipe(cJSON *tree)
{
    /* Depth first without recursion: a node's parent is found again on a stack of its depth, which
     * json_parse has bounded. */
    cJSON *stack[WALDUR_DEPTH_MAX + 1];
    size_t depth = 0;
    for (cJSON *at = tree; at;) {
        if (at->valuestring) {
            explicit_bzero(at->valuestring, strlen(at->valuestring));
        }
        if (at->child && depth < ARRAY_LEN(stack)) {
            stack[depth++] = at;
            at = at->child;
            continue;
        }
        while (at && !at->next) {
            at = depth > 0 ? stack[--depth] : NULL;
        }
        at = at ? at->next : NULL;
    }
    cJSON_Delete(tree);
}

void waldur_order_done(struct waldur_order *o)
{
    wipe(o->attributes);
    cJSON_Delete(o->limits);
    o->attributes = NULL;
    o->limits = NULL;
}

void waldur_resource_done(struct waldur_resource *r)
{
    wipe(r->attributes);
    cJSON_Delete(r->limits);
    r->attributes = NULL;
    r->limits = NULL;
    cJSON_Delete(r->metadata);
    cJSON_Delete(r->endpoints);
    r->metadata = NULL;
    r->endpoints = NULL;
}

/* ---- whole answers ---- */

static cJSON *parse(const void *body, size_t n, struct json_fault *fault)
{
    cJSON *tree = NULL;
    if (n == 0) {
        json_refuse(fault, "", "is empty");
        return NULL;
    }
    if (json_parse(body, n, &waldur_body_limits, &tree, fault)) {
        return NULL;
    }
    if (!cJSON_IsObject(tree)) {
        json_refuse(fault, "", "must be an object");
        cJSON_Delete(tree);
        return NULL;
    }
    return tree;
}

int waldur_order_decode(const void *body, size_t n, struct waldur_order *out,
                        struct json_fault *fault)
{
    struct waldur_order o = {.created_us = -1, .modified_us = -1};
    cJSON *tree = parse(body, n, fault);
    int rc = tree ? read_order(tree, &o, fault) : -1;
    wipe(tree);
    if (rc == 0) {
        *out = o;
    } else {
        waldur_order_done(&o);
    }
    return rc;
}

int waldur_resource_decode(const void *body, size_t n, struct waldur_resource *out,
                           struct json_fault *fault)
{
    struct waldur_resource r = {.created_us = -1, .modified_us = -1};
    cJSON *tree = parse(body, n, fault);
    int rc = tree ? read_resource(tree, &r, fault) : -1;
    wipe(tree);
    if (rc == 0) {
        *out = r;
    } else {
        waldur_resource_done(&r);
    }
    return rc;
}
