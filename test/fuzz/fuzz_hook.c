/*
 * What Waldur sends: whatever it is, it is refused with the place, or told in words that are known,
 * with the UUID of what it is about.
 */
#include "base/str.h"
#include "fuzz.h"
#include "waldur/hook.h"

static bool uuid_or_none(const char *s)
{
    return !s[0] || fuzz_is_uuid(s);
}

static void check_hook(const struct hook *h)
{
    bool order = h->kind == HOOK_ORDER_MOVED || h->kind == HOOK_ORDER_APPROVED ||
                 h->kind == HOOK_ORDER_CLOSED;
    bool resource = h->kind == HOOK_RESOURCE_REQUESTED || h->kind == HOOK_RESOURCE_CHANGED ||
                    h->kind == HOOK_KEY_ROTATION;
    HOLDS(h->kind < HOOK_KIND_MAX && h->order_type < WALDUR_TYPE_MAX);
    HOLDS(h->order_state < WALDUR_ORDER_MAX);
    HOLDS(uuid_or_none(h->order_uuid) && uuid_or_none(h->resource_uuid));
    HOLDS(uuid_or_none(h->offering_uuid) && uuid_or_none(h->project_uuid));
    HOLDS(uuid_or_none(h->customer_uuid) && uuid_or_none(h->api_key_uuid));
    HOLDS(!order || h->order_uuid[0]);
    HOLDS(!resource || h->resource_uuid[0]);
    HOLDS(h->kind != HOOK_UNLINKED || h->order_uuid[0] || h->resource_uuid[0]);
    HOLDS(h->kind != HOOK_OTHER || (!h->order_uuid[0] && !h->resource_uuid[0]));
}

/* A refusal names a member that is there, or one that is missing; never "" for an object. */
static void check_refusal(const struct json_fault *fault, const char *body, size_t n)
{
    static const struct json_limits limits = {HOOK_BYTES_MAX, HOOK_DEPTH_MAX, HOOK_BYTES_MAX};
    struct json_fault other;
    cJSON *tree = NULL;
    fuzz_check_fault(fault);
    if (json_parse(body, n, &limits, &tree, &other) == 0) {
        HOLDS(cJSON_IsObject(tree) == (fault->pointer[0] == '/'));
        cJSON_Delete(tree);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct json_fault fault;
    struct hook h = {.created_us = -77};
    char *body = fuzz_copy((struct fuzz_input){(const char *)data, size});
    if (hook_decode(body, size, &h, &fault) == 0) {
        check_hook(&h);
    } else {
        HOLDS(h.created_us == -77);
        check_refusal(&fault, body, size);
    }
    free(body);
    return 0;
}
