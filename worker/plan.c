#include "plan.h"

#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/str.h"

static const struct json_limits spec_limits = {
    .size = 2 * 1024 * 1024, .depth = 64, .string = 1024 * 1024};

/* Requests per key where the event names no limit; enterprise has to (isolation model, "Rate
 * Limiting"). */
static const struct {
    const char *tier, *rate_limit;
} tier_limits[] = {{"free", "10/minute"}, {"plus", "60/minute"}, {"pro", "300/minute"}};

/* The platform's own variables: they lead to documents, so no event and no default may set them. */
static const char *const own_variables[] = {"ragflow_collection_id", "ragflow_url",
                                            "ragflow_api_key"};

static bool copy_item(const cJSON *item, cJSON *to, const char *name)
{
    cJSON *copy = cJSON_Duplicate(item, true);
    if (!copy || !cJSON_AddItemToObject(to, name, copy)) {
        cJSON_Delete(copy);
        return false;
    }
    return true;
}

static bool has_capability(const struct plan *p, const struct config_offering *offering,
                           const char *name)
{
    if (json_get(p->spec, "capabilities")) {
        return json_has_string(p->spec, "capabilities", name);
    }
    for (size_t i = 0; i < offering->n_capabilities; i++) {
        if (str_eq(offering->capabilities[i], name)) {
            return true;
        }
    }
    return false;
}

static int make_variables(struct plan *p, const struct config_offering *offering, struct err *err)
{
    p->variables = cJSON_CreateObject();
    bool fine = p->variables != NULL;
    for (size_t i = 0; fine && i < offering->n_variables; i++) {
        fine = cJSON_AddStringToObject(p->variables, offering->variables[i].name,
                                       offering->variables[i].value) != NULL;
    }
    const cJSON *item = NULL;
    cJSON_ArrayForEach(item, json_get(p->spec, "variables"))
    {
        cJSON_DeleteItemFromObjectCaseSensitive(p->variables, item->string);
        fine = fine && copy_item(item, p->variables, item->string);
    }
    for (size_t i = 0; i < ARRAY_LEN(own_variables); i++) {
        cJSON_DeleteItemFromObjectCaseSensitive(p->variables, own_variables[i]);
    }
    return fine ? 0 : err_nomem(err);
}

/* Capabilities that came from the offering become part of the spec, so that all that follows sees
 * one list. */
static int make_capabilities(struct plan *p, const struct config_offering *offering,
                             struct err *err)
{
    if (json_get(p->spec, "capabilities")) {
        return 0;
    }
    cJSON *array = cJSON_AddArrayToObject(p->spec, "capabilities");
    for (size_t i = 0; array && i < offering->n_capabilities; i++) {
        cJSON *item = cJSON_CreateString(offering->capabilities[i]);
        if (!item || !cJSON_AddItemToArray(array, item)) {
            cJSON_Delete(item);
            return err_nomem(err);
        }
    }
    return array ? 0 : err_nomem(err);
}

/* The record is read again long after its event was checked: what everything else relies on must
 * be there. */
static int check_members(const cJSON *spec, struct err *err)
{
    static const char *const members[] = {"organization.uuid", "organization.slug", "project.uuid",
                                          "project.slug",      "offering.uuid",     "offering.type",
                                          "plan.tier"};
    for (size_t i = 0; i < ARRAY_LEN(members); i++) {
        if (!json_str(spec, members[i])) {
            return err_set(err, ERR_INVALID, "recorded event: %s is missing", members[i]);
        }
    }
    return 0;
}

static int read_settings(struct plan *p, const struct config_offering *offering, struct err *err)
{
    p->rag = has_capability(p, offering, "rag");
    p->flow_id = json_str(p->spec, "offering.flow_id");
    if (!p->flow_id) {
        p->flow_id = offering->flow;
    }
    if (!p->flow_id) {
        return err_set(err, ERR_INVALID,
                       "no flow for offering type \"%s\": give offerings.%s.flow in the "
                       "configuration, or offering.flow_id in the event",
                       json_str(p->spec, "offering.type"), json_str(p->spec, "offering.type"));
    }
    p->embedding_model = json_str(p->spec, "knowledge_base.embedding_model");
    if (!p->embedding_model) {
        p->embedding_model = offering->embedding_model;
    }
    p->chunk_size = offering->chunk_size;
    p->chunk_overlap = offering->chunk_overlap;
    json_i64(p->spec, "knowledge_base.chunk_size", &p->chunk_size);
    if (!json_i64(p->spec, "knowledge_base.chunk_overlap", &p->chunk_overlap) &&
        p->chunk_overlap >= p->chunk_size) {
        p->chunk_overlap = 0; /* a default is no reason to refuse the event's small chunks */
    }
    if (p->chunk_overlap >= p->chunk_size) {
        return err_set(err, ERR_INVALID,
                       "knowledge_base.chunk_overlap (%lld) must be smaller than chunk_size (%lld)",
                       (long long)p->chunk_overlap, (long long)p->chunk_size);
    }
    return 0;
}

int plan_make(const char *spec, const struct config *config, struct plan *out, struct err *err)
{
    struct plan p = {0};
    struct json_fault fault;

    if (!spec) {
        return err_set(err, ERR_INVALID, "no created event is known for this subscription");
    }
    if (json_parse(spec, strlen(spec), &spec_limits, &p.spec, &fault)) {
        return fault.internal ? err_nomem(err)
                              : err_set(err, ERR_INVALID, "recorded event, %s: %s", fault.pointer,
                                        fault.reason);
    }
    const struct config_offering *offering =
        config_offering(config, json_str(p.spec, "offering.type"));
    if (check_members(p.spec, err) || read_settings(&p, offering, err) ||
        make_capabilities(&p, offering, err) || make_variables(&p, offering, err)) {
        plan_done(&p);
        return -1;
    }
    *out = p;
    return 0;
}

void plan_done(struct plan *p)
{
    cJSON_Delete(p->spec);
    cJSON_Delete(p->variables);
    memset(p, 0, sizeof(*p));
}

const struct config_runtime *plan_runtime(const struct plan *p, const struct config *config,
                                          struct err *err)
{
    const char *organization = json_str(p->spec, "organization.slug");
    bool dedicated = str_eq(json_str(p->spec, "runtime.mode"), "dedicated");
    const struct config_runtime *runtime =
        config_runtime_for(config, dedicated ? RUNTIME_DEDICATED : RUNTIME_SHARED, organization);
    if (!runtime && dedicated) {
        err_set(err, ERR_UNAVAILABLE,
                "no dedicated runtime for organization \"%s\": add one under runtimes with that "
                "organization, then send SIGHUP",
                organization);
    } else if (!runtime) {
        err_set(err, ERR_UNAVAILABLE,
                "no shared runtime is configured: add one under runtimes, then send SIGHUP");
    }
    return runtime;
}

const char *plan_place(const char *spec, const struct config *config)
{
    struct plan p = {0};
    struct json_fault fault;
    struct err err;
    if (!spec || json_parse(spec, strlen(spec), &spec_limits, &p.spec, &fault)) {
        return NULL;
    }
    const struct config_runtime *runtime = plan_runtime(&p, config, &err);
    plan_done(&p);
    return runtime ? runtime->name : NULL;
}

int plan_name(const struct plan *p, const char *subscription, char out[NAME_BYTES_MAX + 1],
              struct err *err)
{
    struct naming_input in = {
        .organization_slug = json_str(p->spec, "organization.slug"),
        .organization_uuid = json_str(p->spec, "organization.uuid"),
        .project_slug = json_str(p->spec, "project.slug"),
        .project_uuid = json_str(p->spec, "project.uuid"),
        .offering_type = json_str(p->spec, "offering.type"),
        .subscription_id = json_str(p->spec, "subscription.id"),
        .subscription_uuid = subscription,
    };
    return naming_make(&in, out, err);
}

/* Copies text members "to" <- "from.path"; false when memory ends. */
static bool copy_texts(const cJSON *from, cJSON *to, const char *const (*pairs)[2], size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const char *text = json_str(from, pairs[i][1]);
        if (text && !cJSON_AddStringToObject(to, pairs[i][0], text)) {
            return false;
        }
    }
    return true;
}

static char *finish(cJSON *json, bool fine, struct err *err)
{
    char *text = fine ? json_text(json) : NULL;
    cJSON_Delete(json);
    if (!text) {
        err_nomem(err);
    }
    return text;
}

char *plan_config_json(const struct plan *p, const cJSON *due, struct err *err)
{
    static const char *const pairs[][2] = {
        {"organization_uuid", "organization.uuid"},
        {"organization_slug", "organization.slug"},
        {"project_uuid", "project.uuid"},
        {"project_slug", "project.slug"},
        {"offering_uuid", "offering.uuid"},
        {"offering_type", "offering.type"},
        {"plan_tier", "plan.tier"},
    };
    cJSON *json = cJSON_CreateObject();
    bool fine = json && copy_texts(p->spec, json, pairs, ARRAY_LEN(pairs)) &&
                copy_item(json_get(p->spec, "capabilities"), json, "capabilities") &&
                copy_item(p->variables, json, "variables") &&
                (!due || copy_item(due, json, "variables_due"));
    return finish(json, fine, err);
}

static bool add_name(cJSON *names, const char *name)
{
    const cJSON *there = NULL;
    cJSON_ArrayForEach(there, names)
    {
        if (str_eq(there->valuestring, name)) {
            return true;
        }
    }
    cJSON *item = cJSON_CreateString(name);
    if (!item || !cJSON_AddItemToArray(names, item)) {
        cJSON_Delete(item);
        return false;
    }
    return true;
}

/* Names in `of` of what `other` holds otherwise, or not at all. */
static bool add_different(cJSON *names, const cJSON *of, const cJSON *other)
{
    const cJSON *item = NULL;
    cJSON_ArrayForEach(item, of)
    {
        const cJSON *there = cJSON_GetObjectItemCaseSensitive(other, item->string);
        if (!(there && cJSON_Compare(item, there, true)) && !add_name(names, item->string)) {
            return false;
        }
    }
    return true;
}

cJSON *plan_due(const struct plan *p, const char *recorded, const cJSON *due, struct err *err)
{
    struct json_fault fault;
    cJSON *before = NULL;
    if (recorded && json_parse(recorded, strlen(recorded), &spec_limits, &before, &fault)) {
        err_set(err, ERR_INTERNAL, "recorded variables, %s: %s", fault.pointer, fault.reason);
        return NULL;
    }
    cJSON *names = due ? cJSON_Duplicate(due, true) : cJSON_CreateArray();
    bool fine = names && (!before || (add_different(names, before, p->variables) &&
                                      add_different(names, p->variables, before)));
    cJSON_Delete(before);
    if (!fine) {
        cJSON_Delete(names);
        err_nomem(err);
        return NULL;
    }
    return names;
}

static const char *rate_limit(const struct plan *p)
{
    const char *given = json_str(p->spec, "api_key.rate_limit");
    for (size_t i = 0; !given && i < ARRAY_LEN(tier_limits); i++) {
        if (str_eq(tier_limits[i].tier, json_str(p->spec, "plan.tier"))) {
            given = tier_limits[i].rate_limit;
        }
    }
    return given;
}

static bool copy_array(const struct plan *p, const char *path, cJSON *to, const char *name)
{
    const cJSON *array = json_get(p->spec, path);
    return array ? copy_item(array, to, name) : cJSON_AddArrayToObject(to, name) != NULL;
}

char *plan_terms_json(const struct plan *p, struct err *err)
{
    const char *limit = rate_limit(p);
    if (!limit) {
        err_set(err, ERR_INVALID,
                "plan tier \"%s\" has no rate limit of its own: the event must carry "
                "api_key.rate_limit",
                json_str(p->spec, "plan.tier"));
        return NULL;
    }
    const char *expires = json_str(p->spec, "api_key.expires_at");
    cJSON *json = cJSON_CreateObject();
    bool fine = json && cJSON_AddStringToObject(json, "rate_limit", limit) &&
                copy_array(p, "api_key.permissions", json, "permissions") &&
                copy_array(p, "api_key.allowed_domains", json, "allowed_domains") &&
                (!expires || cJSON_AddStringToObject(json, "expires_at", expires));
    return finish(json, fine, err);
}

int plan_add_collection(struct plan *p, const char *collection_id, const char *ragflow_url,
                        struct err *err)
{
    const struct {
        const char *name, *value;
    } own[] = {{"ragflow_collection_id", collection_id}, {"ragflow_url", ragflow_url}};

    for (size_t i = 0; i < ARRAY_LEN(own); i++) {
        cJSON_DeleteItemFromObjectCaseSensitive(p->variables, own[i].name);
        if (own[i].value && !cJSON_AddStringToObject(p->variables, own[i].name, own[i].value)) {
            return err_nomem(err);
        }
    }
    return 0;
}
