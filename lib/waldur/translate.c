#include "waldur/translate.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "base/str.h"

/* What a translation is made of, and how it ends. */
struct maker {
    const struct waldur_setup *setup;
    const struct waldur_order *order;
    const struct waldur_resource *resource;
    cJSON *data;
    enum waldur_translation end;
    char *reason;
};

static void refuse(struct maker *m, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* The first reason stands. */
static void refuse(struct maker *m, const char *fmt, ...)
{
    va_list ap;
    if (m->end != WALDUR_TRANSLATED) {
        return;
    }
    m->end = WALDUR_UNTRANSLATABLE;
    va_start(ap, fmt);
    vsnprintf(m->reason, WALDUR_REASON_MAX, fmt, ap);
    va_end(ap);
}

enum { QUOTE_MAX = 100 };

struct quote {
    char text[QUOTE_MAX + 1];
};

/* What a reason quotes of it. */
static struct quote quote(const char *text)
{
    struct quote q;
    size_t n = str_utf8_cut(text, strlen(text), QUOTE_MAX);
    memcpy(q.text, text, n);
    q.text[n] = '\0';
    return q;
}

static void out_of_memory(struct maker *m)
{
    m->end = WALDUR_TRANSLATION_MEMORY;
}

/* Hands the value over to the object. */
static void put(struct maker *m, cJSON *object, const char *name, cJSON *value)
{
    if (!object || !value || !cJSON_AddItemToObject(object, name, value)) {
        cJSON_Delete(value);
        out_of_memory(m);
    }
}

static void put_text(struct maker *m, cJSON *object, const char *name, const char *text)
{
    put(m, object, name, cJSON_CreateString(text));
}

/* The object of this name within, made where there is none; NULL when memory ends. */
static cJSON *within(struct maker *m, cJSON *object, const char *name)
{
    cJSON *it = cJSON_GetObjectItemCaseSensitive(object, name);
    if (!it) {
        it = cJSON_AddObjectToObject(object, name);
        if (!it) {
            out_of_memory(m);
        }
    }
    return it;
}

static const char *either(const char *first, const char *second)
{
    return first[0] ? first : second;
}

/* ---- who and what ---- */

/* Customer or project. An empty slug is one: the UUID stands for it in names. */
static void put_owner(struct maker *m, const char *name, const char *what, const char *uuid,
                      const char *slug, const char *title)
{
    cJSON *object = within(m, m->data, name);
    if (!uuid[0]) {
        refuse(m, "neither order nor resource tells the %s's UUID", what);
        return;
    }
    put_text(m, object, "uuid", uuid);
    put_text(m, object, "slug", slug);
    if (title[0]) {
        put_text(m, object, "name", title);
    }
}

static void put_subscription(struct maker *m)
{
    cJSON *object = within(m, m->data, "subscription");
    const char *name = either(m->order->resource_name, m->resource->name);
    put_text(m, object, "uuid", m->resource->uuid);
    if (name[0]) {
        put_text(m, object, "name", name);
    }
}

static void put_offering(struct maker *m)
{
    const char *uuid = either(m->order->offering_uuid, m->resource->offering_uuid);
    cJSON *object = within(m, m->data, "offering");
    if (!m->setup->type || !m->setup->type[0]) {
        refuse(m,
               "no offering of the configuration has this order's offering %s; set its uuid "
               "under offerings",
               uuid);
        return;
    }
    if (!uuid[0]) {
        refuse(m, "neither order nor resource tells the offering's UUID");
        return;
    }
    put_text(m, object, "uuid", uuid);
    put_text(m, object, "type", m->setup->type);
    if (m->setup->flow) {
        put_text(m, object, "flow_id", m->setup->flow);
    }
}

/* ---- the plan ---- */

static const char *tier_of_name(const char *name)
{
    static const char *const tiers[] = {"free", "plus", "pro", "enterprise"};
    for (size_t i = 0; i < ARRAY_LEN(tiers); i++) {
        if (strcasecmp(tiers[i], name) == 0) {
            return tiers[i];
        }
    }
    return NULL;
}

static const char *tier_by_uuid(const struct waldur_setup *s, const char *uuid)
{
    char known[UUID_TEXT];
    for (size_t i = 0; i < s->n_plans && uuid[0]; i++) {
        const char *plan = s->plans[i].plan;
        if (uuid_parse(plan, strlen(plan), known) && str_eq(known, uuid)) {
            return s->plans[i].tier;
        }
    }
    return NULL;
}

static const char *tier_by_name(const struct waldur_setup *s, const char *name)
{
    for (size_t i = 0; i < s->n_plans && name[0]; i++) {
        if (str_eq(s->plans[i].plan, name)) {
            return s->plans[i].tier;
        }
    }
    return tier_of_name(name);
}

static void put_plan(struct maker *m)
{
    const struct waldur_order *o = m->order;
    bool told = o->plan_uuid[0] || o->plan_name[0];
    const char *uuid = told ? o->plan_uuid : m->resource->plan_uuid;
    const char *name = told ? o->plan_name : m->resource->plan_name;
    const char *tier = tier_by_uuid(m->setup, uuid);
    tier = tier ? tier : tier_by_name(m->setup, name);
    if (!uuid[0] && !name[0]) {
        refuse(m, "neither order nor resource tells a plan; give the offering one at Waldur");
        return;
    }
    if (!tier) {
        refuse(m,
               "plan \"%s\" (%s) is no tier; name its tier (free, plus, pro or enterprise) "
               "under waldur.plans",
               quote(name).text, uuid[0] ? uuid : "no UUID");
        return;
    }
    put_text(m, within(m, m->data, "plan"), "tier", tier);
}

/* ---- attributes ---- */

/* An order that changes or restores need not repeat what the first one said. */
static const cJSON *bought(const cJSON *by_order, const cJSON *before, const char *name)
{
    const cJSON *it = cJSON_GetObjectItemCaseSensitive(by_order, name);
    it = it ? it : cJSON_GetObjectItemCaseSensitive(before, name);
    return cJSON_IsNull(it) ? NULL : it;
}

static const cJSON *attribute(const struct maker *m, const char *name)
{
    return bought(m->order->attributes, m->resource->attributes, name);
}

static bool whole(const cJSON *number, int64_t *out)
{
    double d = number->valuedouble;
    if (!(d >= -9007199254740991.0 && d <= 9007199254740991.0) || d != (double)(int64_t)d) {
        return false;
    }
    *out = (int64_t)d;
    return true;
}

static void attribute_is(struct maker *m, const char *name, const char *wanted)
{
    refuse(m, "attribute \"%s\" has to be %s", quote(name).text, wanted);
}

static void put_variable(struct maker *m, const char *name, const char *as)
{
    const cJSON *value = attribute(m, name);
    if (!value) {
        return;
    }
    if (!cJSON_IsString(value) && !cJSON_IsNumber(value) && !cJSON_IsBool(value)) {
        attribute_is(m, name, "text, a number, true or false, to be a variable");
        return;
    }
    put(m, within(m, m->data, "variables"), as, cJSON_Duplicate(value, false));
}

static void put_words(struct maker *m, cJSON *object, const char *as, const char *name,
                      const cJSON *value)
{
    char text[24];
    int64_t number = 0;
    if (cJSON_IsString(value)) {
        if (value->valuestring[0]) {
            put_text(m, object, as, value->valuestring);
        }
    } else if (cJSON_IsNumber(value) && whole(value, &number)) {
        snprintf(text, sizeof(text), "%lld", (long long)number);
        put_text(m, object, as, text);
    } else {
        attribute_is(m, name, "text or a whole number");
    }
}

static void put_number(struct maker *m, cJSON *object, const char *as, const char *name,
                       const cJSON *value)
{
    int64_t number = 0;
    bool good = cJSON_IsNumber(value)
                    ? whole(value, &number)
                    : str_to_i64(cJSON_IsString(value) ? value->valuestring : "", &number);
    if (good) {
        put(m, object, as, cJSON_CreateNumber((double)number));
    } else {
        attribute_is(m, name, "a whole number");
    }
}

/* "a, b ,c" */
static void add_parts(struct maker *m, cJSON *array, const char *text)
{
    while (*text) {
        size_t n = strcspn(text, ",\n"), from = 0, to = n;
        while (from < to && isspace((unsigned char)text[from])) {
            from++;
        }
        while (to > from && isspace((unsigned char)text[to - 1])) {
            to--;
        }
        char *part = to > from ? str_dupn(text + from, to - from) : NULL;
        if (to > from && (!part || !cJSON_AddItemToArray(array, cJSON_CreateString(part)))) {
            out_of_memory(m);
        }
        free(part);
        text += n + (text[n] != '\0');
    }
}

static void put_list(struct maker *m, cJSON *object, const char *as, const char *name,
                     const cJSON *value)
{
    const cJSON *one = NULL;
    cJSON *array = cJSON_CreateArray();
    if (!array) {
        out_of_memory(m);
        return;
    }
    if (cJSON_IsString(value)) {
        add_parts(m, array, value->valuestring);
    } else if (cJSON_IsArray(value)) {
        cJSON_ArrayForEach(one, value)
        {
            if (!cJSON_IsString(one)) {
                attribute_is(m, name, "a list of texts");
            } else if (!cJSON_AddItemToArray(array, cJSON_CreateString(one->valuestring))) {
                out_of_memory(m);
            }
        }
    } else {
        attribute_is(m, name, "a list of texts, or one text with commas");
    }
    put(m, object, as, array);
}

typedef void put_fn(struct maker *m, cJSON *object, const char *as, const char *name,
                    const cJSON *value);

static const struct member {
    const char *object, *name;
    put_fn *put;
} members[] = {
    {"subscription", "id", put_words},
    {"runtime", "mode", put_words},
    {"knowledge_base", "embedding_model", put_words},
    {"knowledge_base", "chunk_size", put_number},
    {"knowledge_base", "chunk_overlap", put_number},
    {"api_key", "rate_limit", put_words},
    {"api_key", "expires_at", put_words},
    {"api_key", "allowed_domains", put_list},
    {"api_key", "permissions", put_list},
};

static const char variables_of[] = "variables.";

static const struct member *member_of(const char *path)
{
    const char *dot = strchr(path, '.');
    for (size_t i = 0; i < ARRAY_LEN(members) && dot; i++) {
        const struct member *one = &members[i];
        if (strlen(one->object) == (size_t)(dot - path) && str_starts(path, one->object) &&
            str_eq(dot + 1, one->name)) {
            return one;
        }
    }
    return NULL;
}

bool waldur_member_known(const char *member)
{
    return (str_starts(member, variables_of) && member[strlen(variables_of)]) || member_of(member);
}

static void put_mapping(struct maker *m, const struct waldur_mapping *mapping)
{
    const cJSON *value = attribute(m, mapping->attribute);
    const struct member *member = member_of(mapping->member);
    if (!value) {
        return;
    }
    if (str_starts(mapping->member, variables_of)) {
        put_variable(m, mapping->attribute, mapping->member + strlen(variables_of));
    } else if (member) {
        cJSON *object = within(m, m->data, member->object);
        cJSON_DeleteItemFromObjectCaseSensitive(object, member->name);
        member->put(m, object, member->name, mapping->attribute, value);
    } else {
        refuse(m, "\"%s\" is nothing that an attribute can become", quote(mapping->member).text);
    }
}

/* The rate that was bought as a limit; what an attribute says counts more. */
static void put_rate(struct maker *m)
{
    const char *component = m->setup->rate_component;
    const cJSON *limit =
        component ? bought(m->order->limits, m->resource->limits, component) : NULL;
    char text[48];
    int64_t rate = 0;
    if (!limit) {
        return;
    }
    if (!whole(limit, &rate) || rate < 1 || rate > 999999999) {
        refuse(m, "limit \"%s\" has to be 1 to 999999999 requests a minute", quote(component).text);
        return;
    }
    snprintf(text, sizeof(text), "%lld/minute", (long long)rate);
    put_text(m, within(m, m->data, "api_key"), "rate_limit", text);
}

static void put_settings(struct maker *m)
{
    const struct waldur_setup *s = m->setup;
    if (s->n_capabilities > 0) {
        put(m, m->data, "capabilities",
            cJSON_CreateStringArray(s->capabilities, (int)s->n_capabilities));
    }
    put_rate(m);
    for (size_t i = 0; i < s->n_variables; i++) {
        put_variable(m, s->variables[i], s->variables[i]);
    }
    for (size_t i = 0; i < s->n_mappings; i++) {
        put_mapping(m, &s->mappings[i]);
    }
}

/* ---- the envelope ---- */

/* Scheme, host and port: what else a URL may hold can be a secret, or change. */
static void put_source(struct maker *m, const char *url, struct waldur_event *e)
{
    const char *host = strstr(url, "://");
    host = host ? host + 3 : url;
    size_t n = strcspn(host, "/?#");
    const char *user = memrchr(host, '@', n);
    const char *from = user ? user + 1 : host;
    int scheme = (int)(host - url), left = (int)(n - (size_t)(from - host));
    if (left == 0 || scheme + left > EVENT_SOURCE_MAX) {
        refuse(m, "waldur.url has no host, or is too long");
        return;
    }
    snprintf(e->source, sizeof(e->source), "%.*s%.*s", scheme, url, left, from);
}

static const char *kind_of(enum waldur_order_type type)
{
    switch (type) {
    case WALDUR_TYPE_CREATE:
    case WALDUR_TYPE_RESTORE:
        return "created";
    case WALDUR_TYPE_TERMINATE:
        return "terminated";
    case WALDUR_TYPE_UPDATE:
        return "updated";
    case WALDUR_TYPE_UNKNOWN:
    case WALDUR_TYPE_MAX:
        break;
    }
    return NULL;
}

/* kind: of the type, and of the id's end unless `mark` is. */
static void name_event(struct waldur_event *e, const char *kind, const char *of, const char *uuid,
                       const char *mark)
{
    char hex[33];
    uuid_hex(uuid, hex);
    snprintf(e->type, sizeof(e->type), "subscription.%s", kind);
    snprintf(e->id, sizeof(e->id), "%s-%s-%s", of, hex, mark);
}

static enum waldur_translation finish(struct maker *m, struct waldur_event *e,
                                      struct waldur_event *out)
{
    if (m->end == WALDUR_TRANSLATED) {
        e->data = json_text(m->data);
        if (!e->data) {
            out_of_memory(m);
        }
    }
    cJSON_Delete(m->data);
    if (m->end == WALDUR_TRANSLATED) {
        *out = *e;
    }
    return m->end;
}

static struct maker make(const struct waldur_setup *setup, const struct waldur_order *order,
                         const struct waldur_resource *resource, char *reason)
{
    struct maker m = {.setup = setup,
                      .order = order,
                      .resource = resource,
                      .data = cJSON_CreateObject(),
                      .reason = reason};
    if (!m.data) {
        out_of_memory(&m);
    }
    return m;
}

enum waldur_translation waldur_translate(const char *url, const struct waldur_setup *setup,
                                         const struct waldur_order *order,
                                         const struct waldur_resource *resource,
                                         struct waldur_event *out, char reason[WALDUR_REASON_MAX])
{
    struct maker m = make(setup, order, resource, reason);
    struct waldur_event e = {.time_us = order->created_us};
    const char *kind = kind_of(order->type);
    put_source(&m, url, &e);
    if (!kind) {
        refuse(&m, "the order is of a type that is not known here");
        return finish(&m, &e, out);
    }
    if (order->created_us < 0) {
        refuse(&m, "the order does not tell when it was created");
    }
    name_event(&e, kind, "order", order->uuid, kind);
    memcpy(e.subscription_uuid, resource->uuid, sizeof(e.subscription_uuid));
    put_text(&m, m.data, "order_uuid", order->uuid);
    put_subscription(&m);
    if (order->type != WALDUR_TYPE_TERMINATE) {
        put_owner(&m, "organization", "customer",
                  either(order->customer_uuid, resource->customer_uuid),
                  either(order->customer_slug, resource->customer_slug),
                  either(order->customer_name, resource->customer_name));
        put_owner(&m, "project", "project", either(order->project_uuid, resource->project_uuid),
                  either(order->project_slug, resource->project_slug),
                  either(order->project_name, resource->project_name));
        put_offering(&m);
        put_plan(&m);
        put_settings(&m);
    }
    return finish(&m, &e, out);
}

enum waldur_translation waldur_translate_undone(const char *url, const char *order_uuid,
                                                const char *resource_uuid, int64_t now_us,
                                                struct waldur_event *out,
                                                char reason[WALDUR_REASON_MAX])
{
    struct maker m = make(NULL, NULL, NULL, reason);
    struct waldur_event e = {.time_us = now_us};
    put_source(&m, url, &e);
    name_event(&e, "terminated", "order", order_uuid, "undone");
    (void)str_copy(e.subscription_uuid, sizeof(e.subscription_uuid), resource_uuid);
    put_text(&m, m.data, "order_uuid", order_uuid);
    put_text(&m, within(&m, m.data, "subscription"), "uuid", resource_uuid);
    return finish(&m, &e, out);
}

enum waldur_translation waldur_translate_paused(const char *url, const char *resource_uuid,
                                                bool paused, int64_t modified_us,
                                                struct waldur_event *out,
                                                char reason[WALDUR_REASON_MAX])
{
    struct maker m = make(NULL, NULL, NULL, reason);
    struct waldur_event e = {.time_us = modified_us};
    const char *kind = paused ? "suspended" : "resumed";
    char mark[40];
    put_source(&m, url, &e);
    snprintf(mark, sizeof(mark), "%lld-%s", (long long)modified_us, kind);
    name_event(&e, kind, "resource", resource_uuid, mark);
    (void)str_copy(e.subscription_uuid, sizeof(e.subscription_uuid), resource_uuid);
    put_text(&m, within(&m, m.data, "subscription"), "uuid", resource_uuid);
    return finish(&m, &e, out);
}

int waldur_event_write(const struct waldur_event *e, struct buf *out)
{
    char time[CLOCK_TEXT_MAX];
    clock_format(time, e->time_us);
    buf_adds(out, "{\"specversion\":\"1.0\",\"id\":");
    buf_add_json(out, e->id);
    buf_adds(out, ",\"source\":");
    buf_add_json(out, e->source);
    buf_adds(out, ",\"type\":");
    buf_add_json(out, e->type);
    buf_adds(out, ",\"subject\":");
    buf_add_json(out, e->subscription_uuid);
    buf_adds(out, ",\"time\":");
    buf_add_json(out, time);
    buf_adds(out, ",\"data\":");
    buf_adds(out, e->data);
    return buf_addc(out, '}');
}

void waldur_event_done(struct waldur_event *e)
{
    if (e->data) {
        explicit_bzero(e->data, strlen(e->data));
    }
    free(e->data);
    e->data = NULL;
}
