/*
 * An order's body, and behind a line "@@" its resource's: whatever they are, they are refused with
 * the place, or read within their bounds and then translated; what an event is made of,
 * event_decode reads, or refuses what a buyer wrote with its place. An attribute that no setting
 * names goes nowhere.
 */
#include "base/str.h"
#include "event/event.h"
#include "fuzz.h"
#include "waldur/translate.h"

#define PLANTED "planted-secret-of-a-buyer"

static const char *const variables[] = {"agent_name", "tone"};
static const char *const capabilities[] = {"rag"};
static const struct waldur_plan plans[] = {{"Large", "enterprise"},
                                           {"aaaac1a88f0a4f0eb6a72d8f7f1a9caa", "plus"}};
static const struct waldur_mapping mappings[] = {
    {"number", "subscription.id"},
    {"mode", "runtime.mode"},
    {"model", "knowledge_base.embedding_model"},
    {"chunk", "knowledge_base.chunk_size"},
    {"overlap", "knowledge_base.chunk_overlap"},
    {"rate", "api_key.rate_limit"},
    {"until", "api_key.expires_at"},
    {"domains", "api_key.allowed_domains"},
    {"may", "api_key.permissions"},
    {"greeting", "variables.welcome_message"},
};
static const struct waldur_setup setup = {.type = "csa",
                                          .capabilities = capabilities,
                                          .n_capabilities = 1,
                                          .variables = variables,
                                          .n_variables = 2,
                                          .mappings = mappings,
                                          .n_mappings = sizeof(mappings) / sizeof(mappings[0]),
                                          .plans = plans,
                                          .n_plans = 2,
                                          .rate_component = "requests"};

static bool uuid_or_none(const char *s)
{
    return !s[0] || fuzz_is_uuid(s);
}

static bool text_within(const char *s, size_t characters)
{
    return str_is_utf8(s, strlen(s)) && str_utf8_len(s, strlen(s)) <= characters;
}

static void check_order(const struct waldur_order *o)
{
    HOLDS(fuzz_is_uuid(o->uuid) && o->type < WALDUR_TYPE_MAX && o->state < WALDUR_ORDER_MAX);
    HOLDS(uuid_or_none(o->resource_uuid) && uuid_or_none(o->offering_uuid));
    HOLDS(uuid_or_none(o->plan_uuid) && uuid_or_none(o->customer_uuid));
    HOLDS(uuid_or_none(o->project_uuid));
    HOLDS(text_within(o->customer_slug, WALDUR_SLUG_MAX) &&
          text_within(o->project_slug, WALDUR_SLUG_MAX));
    HOLDS(text_within(o->resource_name, WALDUR_NAME_MAX) &&
          text_within(o->customer_name, WALDUR_NAME_MAX));
    HOLDS(!o->attributes || cJSON_IsObject(o->attributes));
    HOLDS(!o->limits || cJSON_IsObject(o->limits));
}

static void check_resource(const struct waldur_resource *r)
{
    HOLDS(fuzz_is_uuid(r->uuid) && r->state < WALDUR_RESOURCE_MAX);
    HOLDS(uuid_or_none(r->offering_uuid) && uuid_or_none(r->customer_uuid));
    HOLDS(text_within(r->backend_id, WALDUR_BACKEND_ID_MAX) &&
          text_within(r->name, WALDUR_NAME_MAX));
    HOLDS(!r->metadata || cJSON_IsObject(r->metadata));
    HOLDS(!r->endpoints || cJSON_IsArray(r->endpoints));
}

/* A secret under the names that settings know is the buyer's own doing. */
static bool planted_elsewhere(const cJSON *attributes)
{
    const cJSON *one = NULL;
    cJSON_ArrayForEach(one, attributes)
    {
        bool named = false;
        for (size_t i = 0; i < setup.n_variables; i++) {
            named = named || str_eq(one->string, variables[i]);
        }
        for (size_t i = 0; i < setup.n_mappings; i++) {
            named = named || str_eq(one->string, mappings[i].attribute);
        }
        char *text = named ? json_text(one) : NULL;
        bool planted = text && strstr(text, PLANTED);
        free(text);
        if (planted) {
            return false;
        }
    }
    return true;
}

static void check_event(const struct waldur_event *e, bool clean)
{
    struct event event;
    struct json_fault fault;
    struct buf b;
    buf_init(&b, 64 * 1024 * 1024);
    HOLDS(waldur_event_write(e, &b) == 0);
    HOLDS(str_starts(e->type, "subscription.") && e->id[0] && e->source[0]);
    HOLDS(!clean || !strstr(e->data, PLANTED));
    if (event_decode(buf_str(&b), b.len, NULL, 0, 0, &event, &fault) == 0) {
        HOLDS(str_eq(event.id, e->id) && str_eq(event.subscription_uuid, e->subscription_uuid));
        HOLDS(event.time_us == e->time_us);
        event_done(&event);
    } else {
        fuzz_check_fault(&fault);
        /* It is what a buyer wrote, or a type that the worker does not take yet. */
        HOLDS(b.len > EVENT_BYTES_MAX || str_eq(fault.pointer, "/type") ||
              fault.pointer[0] == '\0' || str_starts(fault.pointer, "/data/"));
        HOLDS(!str_starts(fault.pointer, "/data/organization") &&
              !str_starts(fault.pointer, "/data/project") &&
              !str_starts(fault.pointer, "/data/offering") &&
              !str_starts(fault.pointer, "/data/plan"));
    }
    buf_done(&b);
}

static void translate(const struct waldur_order *o, const struct waldur_resource *r)
{
    char reason[WALDUR_REASON_MAX] = "";
    struct waldur_event e = {.data = NULL};
    bool clean = planted_elsewhere(o->attributes) && planted_elsewhere(r->attributes) &&
                 !strstr(o->resource_name, PLANTED) && !strstr(r->name, PLANTED) &&
                 !strstr(o->customer_name, PLANTED) && !strstr(r->customer_name, PLANTED) &&
                 !strstr(o->customer_slug, PLANTED) && !strstr(r->customer_slug, PLANTED) &&
                 !strstr(o->project_name, PLANTED) && !strstr(r->project_name, PLANTED) &&
                 !strstr(o->project_slug, PLANTED) && !strstr(r->project_slug, PLANTED);
    switch (waldur_translate("https://waldur.example/api", &setup, o, r, &e, reason)) {
    case WALDUR_TRANSLATED:
        HOLDS(!reason[0]);
        check_event(&e, clean);
        waldur_event_done(&e);
        return;
    case WALDUR_UNTRANSLATABLE:
        HOLDS(reason[0] && str_is_utf8(reason, strlen(reason)) && !e.data);
        return;
    case WALDUR_TRANSLATION_MEMORY:
        HOLDS(false);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input all = {(const char *)data, size}, first = fuzz_until(&all, "\n@@\n");
    struct json_fault fault;
    struct waldur_order o;
    struct waldur_resource r;
    char *order = fuzz_copy(first), *resource = fuzz_copy(all);
    bool has_order = waldur_order_decode(order, first.n, &o, &fault) == 0;
    if (has_order) {
        check_order(&o);
    } else {
        fuzz_check_fault(&fault);
    }
    bool has_resource = waldur_resource_decode(resource, all.n, &r, &fault) == 0;
    if (has_resource) {
        check_resource(&r);
    } else {
        fuzz_check_fault(&fault);
    }
    if (has_order && has_resource) {
        translate(&o, &r);
    }
    if (has_order) {
        waldur_order_done(&o);
    }
    if (has_resource) {
        waldur_resource_done(&r);
    }
    free(order);
    free(resource);
    return 0;
}
