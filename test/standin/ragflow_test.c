/*
 * What tests do to a stand-in RAGFlow and see of it, below /admin:
 *
 *   GET  /objects    every dataset of every tenant
 *   POST /objects    datasets as somebody else made them: members as in the API, and `tenant` (id
 * or email; default: the token's) and `documents` (names) GET  /tenants    tenants with their keys
 *   POST /tenants    {"email", "key", "superuser", "member"}: one more, without the admin service;
 *                    `member` (id or email) joins its team at once
 *   POST /documents  {"dataset", "names"}
 *   POST /models     {"model": "name@provider", "tenant", "type", "instance", "api_key", "default"}
 *   GET  /storage    {"blobs": N, "orphans": N, "buckets": {dataset: N}}
 *   GET, PUT /settings  {"database_down", "race", "refuse_login", "delete_errors", "version",
 *                    "register_enabled"}
 */
#include "ragflow.h"

#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/str.h"

/* By id or email; the first for NULL. */
static struct tenant *named(const struct ragflow *r, const char *who)
{
    if (!who)
        return r->tenants;
    struct tenant *t = tenant_by_id(r, who);
    return t ? t : tenant_by_email(r, who);
}

/* ---- objects ---- */

static bool plant_one(struct ragflow *r, const cJSON *wanted, cJSON *ids)
{
    struct tenant *t = named(r, json_str(wanted, "tenant"));
    struct dataset *d = t && json_str(wanted, "name") ? dataset_plant(r, t, wanted) : NULL;
    const cJSON *name;
    if (!d)
        return false;
    cJSON_ArrayForEach(name, json_get(wanted, "documents"))
    {
        if (cJSON_IsString(name))
            document_add(r, d, name->valuestring);
    }
    cJSON_AddItemToArray(ids, cJSON_CreateString(d->id));
    return true;
}

void ragflow_plant(void *store, const cJSON *objects, struct reply *out)
{
    cJSON *answer = cJSON_CreateObject(), *ids = cJSON_AddArrayToObject(answer, "ids");
    bool ok = true;
    if (cJSON_IsArray(objects)) {
        const cJSON *one;
        cJSON_ArrayForEach(one, objects) ok = ok && plant_one(store, one, ids);
    } else {
        ok = plant_one(store, objects, ids);
    }
    if (ok) {
        reply_json(out, 201, answer);
        return;
    }
    cJSON_Delete(answer);
    reply_detail(out, 422, "every dataset needs a name, a tenant that exists and an unused id");
}

void ragflow_objects(void *store, struct reply *out)
{
    const struct ragflow *r = store;
    cJSON *answer = cJSON_CreateObject(), *objects = cJSON_AddArrayToObject(answer, "objects");
    for (const struct dataset *d = r->oldest; d; d = d->newer) {
        cJSON *one = cJSON_CreateObject();
        cJSON_AddNumberToObject(one, "seq", (double)d->seq);
        ragflow_set_text(one, "marker", json_str(d->json, "description"));
        cJSON_AddBoolToObject(one, "planted", d->planted);
        cJSON_AddNumberToObject(one, "changes", (double)d->changes);
        cJSON_AddItemToObject(one, "object", dataset_render(r, d));
        cJSON_AddItemToArray(objects, one);
    }
    cJSON_AddNumberToObject(answer, "created", (double)r->created);
    cJSON_AddNumberToObject(answer, "deleted", (double)r->deleted);
    reply_json(out, 200, answer);
}

/* ---- the rest ---- */

static void list_tenants(struct ragflow *r, struct reply *out)
{
    cJSON *answer = cJSON_CreateObject(), *tenants = cJSON_AddArrayToObject(answer, "tenants");
    for (const struct tenant *t = r->tenants; t; t = t->next) {
        cJSON *row = cJSON_CreateObject(), *keys = cJSON_AddArrayToObject(row, "keys");
        const cJSON *key;
        cJSON_AddStringToObject(row, "id", t->id);
        cJSON_AddStringToObject(row, "email", t->email);
        cJSON_AddBoolToObject(row, "active", t->active);
        cJSON_ArrayForEach(key, t->keys)
        {
            cJSON_AddItemToArray(keys, cJSON_CreateString(json_str(key, "token")));
        }
        cJSON_AddItemToObject(row, "joined", cJSON_Duplicate(t->joined, true));
        cJSON_AddItemToArray(tenants, row);
    }
    reply_json(out, 200, answer);
}

static void add_tenant(struct ragflow *r, const cJSON *body, struct reply *out)
{
    const char *email = json_str(body, "email"), *key = json_str(body, "key");
    struct tenant *t = NULL;
    if (email && !tenant_by_email(r, email) && (!key || !tenant_by_key(r, key)))
        t = tenant_add(r, email);
    if (!t) {
        reply_detail(out, 422, "a tenant needs an email and, if any, a key that are not in use");
        return;
    }
    t->superuser = json_bool(body, "superuser", false);
    if (json_str(body, "member") && named(r, json_str(body, "member")))
        tenant_join(named(r, json_str(body, "member")), t, "normal");
    cJSON *answer = cJSON_CreateObject();
    cJSON_AddStringToObject(answer, "id", t->id);
    cJSON_AddStringToObject(answer, "key", json_str(tenant_mint(t, key), "token"));
    reply_json(out, 201, answer);
}

static void add_documents(struct ragflow *r, const cJSON *body, struct reply *out)
{
    const char *id = json_str(body, "dataset");
    struct dataset *d = id ? dataset_find(r, id) : NULL;
    const cJSON *name;
    if (!d) {
        reply_detail(out, 422, "/dataset: the id of one that is there");
        return;
    }
    cJSON *answer = cJSON_CreateObject(), *ids = cJSON_AddArrayToObject(answer, "ids");
    cJSON_ArrayForEach(name, json_get(body, "names"))
    {
        if (cJSON_IsString(name))
            cJSON_AddItemToArray(
                ids, cJSON_CreateString(json_str(document_add(r, d, name->valuestring), "id")));
    }
    reply_json(out, 201, answer);
}

static void add_model(struct ragflow *r, const cJSON *body, struct reply *out)
{
    const char *model = json_str(body, "model"), *type = json_str(body, "type");
    const char *instance = json_str(body, "instance"), *at = model ? strrchr(model, '@') : NULL;
    struct tenant *t = named(r, json_str(body, "tenant"));
    char *name = at ? str_dupn(model, (size_t)(at - model)) : NULL;
    if (!t || !name) {
        free(name);
        reply_detail(out, 422, "a model is NAME@PROVIDER, of a tenant that exists");
        return;
    }
    instance = instance ? instance : "main";
    const cJSON *row = tenant_add_model(t, at + 1, instance, name, type ? type : "embedding");
    free(name);
    cJSON *provider = cJSON_GetObjectItemCaseSensitive(t->providers, at + 1);
    if (json_str(body, "api_key"))
        ragflow_set_text(cJSON_GetObjectItemCaseSensitive(provider, instance), "api_key",
                         json_str(body, "api_key"));
    char *fresh = json_bool(body, "default", false) ? str_dup(model) : NULL;
    if (fresh) {
        free(t->default_model);
        t->default_model = fresh;
    }
    reply_json(out, 201, cJSON_Duplicate(row, true));
}

static void report_storage(struct ragflow *r, struct reply *out)
{
    cJSON *answer = cJSON_CreateObject(), *buckets = cJSON_CreateObject();
    const cJSON *bucket;
    int blobs = 0, orphans = 0;
    cJSON_ArrayForEach(bucket, r->blobs)
    {
        int n = cJSON_GetArraySize(bucket);
        blobs += n;
        orphans += dataset_find(r, bucket->string) ? 0 : n;
        cJSON_AddNumberToObject(buckets, bucket->string, n);
    }
    cJSON_AddNumberToObject(answer, "blobs", blobs);
    cJSON_AddNumberToObject(answer, "orphans", orphans);
    cJSON_AddItemToObject(answer, "buckets", buckets);
    reply_json(out, 200, answer);
}

static void show_settings(struct ragflow *r, struct reply *out)
{
    const struct ragflow_settings *s = &r->settings;
    cJSON *answer = cJSON_CreateObject();
    cJSON_AddBoolToObject(answer, "database_down", s->database_down);
    cJSON_AddBoolToObject(answer, "race", s->race);
    cJSON_AddBoolToObject(answer, "refuse_login", s->refuse_login);
    cJSON_AddNumberToObject(answer, "delete_errors", (double)s->delete_errors);
    cJSON_AddNumberToObject(answer, "register_enabled", (double)s->register_enabled);
    cJSON_AddStringToObject(answer, "version", s->version);
    reply_json(out, 200, answer);
}

static void set_settings(struct ragflow *r, const cJSON *body, struct reply *out)
{
    struct ragflow_settings *s = &r->settings;
    s->database_down = json_bool(body, "database_down", s->database_down);
    s->race = json_bool(body, "race", s->race);
    s->refuse_login = json_bool(body, "refuse_login", s->refuse_login);
    json_i64(body, "delete_errors", &s->delete_errors);
    json_i64(body, "register_enabled", &s->register_enabled);
    if (json_str(body, "version"))
        str_copy(s->version, sizeof(s->version), json_str(body, "version"));
    show_settings(r, out);
}

void ragflow_admin(void *store, const struct call *c, struct reply *out)
{
    static const struct {
        const char *method, *path;
        void (*look)(struct ragflow *r, struct reply *out);
        void (*change)(struct ragflow *r, const cJSON *body, struct reply *out);
    } calls[] = {
        {"GET", "/tenants", list_tenants, NULL},     {"POST", "/tenants", NULL, add_tenant},
        {"POST", "/documents", NULL, add_documents}, {"POST", "/models", NULL, add_model},
        {"GET", "/storage", report_storage, NULL},   {"GET", "/settings", show_settings, NULL},
        {"PUT", "/settings", NULL, set_settings},
    };
    for (size_t i = 0; i < ARRAY_LEN(calls); i++) {
        if (!str_eq(c->method, calls[i].method) || !str_eq(c->path, calls[i].path))
            continue;
        cJSON *body = calls[i].change ? reply_parse(out, c->body, c->body_len) : NULL;
        if (body)
            calls[i].change(store, body, out);
        else if (calls[i].look)
            calls[i].look(store, out);
        cJSON_Delete(body);
        return;
    }
}
