/*
 * Tenants: keys, teams, and the models that their datasets may use.
 */
#include "ragflow.h"

#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/str.h"

enum { TOKEN_RANDOM = 43, BETA_RANDOM = 32 };

/* ---- who there is ---- */

void tenant_free(struct tenant *t)
{
    if (!t)
        return;
    cJSON_Delete(t->keys);
    cJSON_Delete(t->joined);
    cJSON_Delete(t->providers);
    free(t->default_model);
    free(t);
}

struct tenant *tenant_add(struct ragflow *r, const char *email)
{
    struct tenant *t = calloc(1, sizeof(*t)), **at = &r->tenants;
    if (!t)
        return NULL;
    ragflow_id(t->id);
    t->active = true;
    t->keys = cJSON_CreateArray();
    t->joined = cJSON_CreateArray();
    t->providers = cJSON_CreateObject();
    t->default_model = str_dup("bge-m3@xxxx"); /* the placeholder of the stock configuration */
    if (!str_copy(t->email, sizeof(t->email), email) || !t->keys || !t->joined || !t->providers ||
        !t->default_model) {
        tenant_free(t);
        return NULL;
    }
    while (*at)
        at = &(*at)->next;
    *at = t;
    return t;
}

void tenant_delete(struct ragflow *r, struct tenant *t)
{
    struct tenant **at = &r->tenants;
    for (struct dataset *d = r->oldest, *next; d; d = next) {
        next = d->newer;
        if (d->owner != t)
            continue;
        cJSON_DeleteItemFromObjectCaseSensitive(r->blobs, d->id);
        dataset_remove(r, d);
    }
    while (*at != t)
        at = &(*at)->next;
    *at = t->next;
    tenant_free(t);
}

struct tenant *tenant_by_id(const struct ragflow *r, const char *id)
{
    struct tenant *t = r->tenants;
    while (t && !str_eq(t->id, id))
        t = t->next;
    return t;
}

struct tenant *tenant_by_email(const struct ragflow *r, const char *email)
{
    struct tenant *t = r->tenants;
    while (t && !str_eq(t->email, email))
        t = t->next;
    return t;
}

static cJSON *find_key(const struct tenant *t, const char *token)
{
    cJSON *key;
    cJSON_ArrayForEach(key, t->keys)
    {
        if (str_eq(json_str(key, "token"), token))
            return key;
    }
    return NULL;
}

/* Keys of inactive users go on working, as in the product. */
struct tenant *tenant_by_key(const struct ragflow *r, const char *key)
{
    struct tenant *t = r->tenants;
    while (t && !find_key(t, key))
        t = t->next;
    return t;
}

static cJSON *membership(const struct tenant *t, const char *id)
{
    cJSON *one;
    cJSON_ArrayForEach(one, t->joined)
    {
        if (str_eq(json_str(one, "tenant"), id))
            return one;
    }
    return NULL;
}

bool tenant_joined(const struct tenant *t, const struct tenant *other)
{
    return str_eq(json_str(membership(t, other->id), "role"), "normal");
}

/* ---- keys ---- */

cJSON *tenant_mint(struct tenant *t, const char *token)
{
    char beta[BETA_RANDOM + 1], fresh[64];
    cJSON *key = cJSON_CreateObject();
    ragflow_random(beta, "", BETA_RANDOM);
    ragflow_random(fresh, "ragflow-", TOKEN_RANDOM);
    cJSON_AddStringToObject(key, "beta", beta);
    cJSON_AddStringToObject(key, "tenant_id", t->id);
    cJSON_AddStringToObject(key, "token", token ? token : fresh);
    ragflow_stamp(key, false);
    cJSON_AddItemToArray(t->keys, key);
    return key;
}

bool tenant_unmint(struct tenant *t, const char *token)
{
    cJSON *key = find_key(t, token);
    if (!key)
        return false;
    cJSON_Delete(cJSON_DetachItemViaPointer(t->keys, key));
    return true;
}

/* All of them in clear, as there. */
void keys_list(struct ask *a)
{
    cJSON *data = cJSON_CreateArray(), *key;
    cJSON_ArrayForEach(key, a->tenant->keys)
    {
        cJSON *row = cJSON_Duplicate(key, true);
        cJSON_AddNullToObject(row, "dialog_id");
        cJSON_AddNullToObject(row, "source");
        ragflow_stamp(row, true);
        cJSON_InsertItemInArray(data, 0, row); /* newest first */
    }
    ask_success(a, data);
}

void keys_create(struct ask *a)
{
    cJSON *data = cJSON_Duplicate(tenant_mint(a->tenant, NULL), true);
    cJSON_AddNullToObject(data, "update_date");
    cJSON_AddNullToObject(data, "update_time");
    ask_success(a, data);
}

/* Always true. Of a user who has joined another tenant's team the product looks for the key there,
 * and deletes nothing. */
void keys_delete(struct ask *a)
{
    const cJSON *one;
    bool elsewhere = false;
    cJSON_ArrayForEach(one, a->tenant->joined)
    {
        elsewhere = elsewhere || str_eq(json_str(one, "role"), "normal");
    }
    if (!elsewhere)
        tenant_unmint(a->tenant, a->part[0]);
    ask_success(a, cJSON_CreateTrue());
}

void users_me(struct ask *a)
{
    const struct tenant *t = a->tenant;
    char nickname[RAGFLOW_EMAIL];
    cJSON *data = cJSON_CreateObject();
    str_copy(nickname, sizeof(nickname), t->email);
    nickname[strcspn(nickname, "@")] = 0;
    cJSON_AddStringToObject(data, "id", t->id);
    cJSON_AddStringToObject(data, "email", t->email);
    cJSON_AddStringToObject(data, "nickname", nickname);
    cJSON_AddStringToObject(data, "is_active", t->active ? "1" : "0");
    cJSON_AddBoolToObject(data, "is_superuser", t->superuser);
    cJSON_AddStringToObject(data, "status", "1");
    ask_success(a, data);
}

/* ---- teams ---- */

void tenant_join(struct tenant *guest, const struct tenant *host, const char *role)
{
    cJSON *row = cJSON_CreateObject();
    cJSON_AddStringToObject(row, "tenant", host->id);
    cJSON_AddStringToObject(row, "role", role);
    cJSON_AddItemToArray(guest->joined, row);
}

static void invite(struct ask *a, const cJSON *body)
{
    struct tenant *guest = tenant_by_email(a->r, json_str(body, "email"));
    if (!str_eq(a->part[0], a->tenant->id)) {
        ask_fail(a, CODE_AUTHENTICATION, "No authorization.");
    } else if (!guest) {
        ask_fail(a, CODE_DATA, "User not found.");
    } else if (guest == a->tenant || membership(guest, a->tenant->id)) {
        ask_fail(a, CODE_DATA, "%s is already in the team.", guest->email);
    } else {
        tenant_join(guest, a->tenant, "invite");
        cJSON *data = cJSON_CreateObject();
        cJSON_AddStringToObject(data, "id", guest->id);
        cJSON_AddStringToObject(data, "email", guest->email);
        ask_success(a, data);
    }
}

void team_invite(struct ask *a)
{
    cJSON *body = ask_body(a);
    if (body)
        invite(a, body);
    cJSON_Delete(body);
}

void team_accept(struct ask *a)
{
    cJSON *row = membership(a->tenant, a->part[0]);
    if (row)
        ragflow_set_text(row, "role", "normal");
    ask_success(a, cJSON_CreateTrue());
}

/* ---- models ---- */

cJSON *tenant_add_model(struct tenant *t, const char *provider, const char *instance,
                        const char *model, const char *type)
{
    char id[RAGFLOW_ID];
    cJSON *p = cJSON_GetObjectItemCaseSensitive(t->providers, provider);
    if (!p)
        p = cJSON_AddObjectToObject(t->providers, provider);
    cJSON *i = cJSON_GetObjectItemCaseSensitive(p, instance);
    if (!i)
        i = cJSON_AddObjectToObject(p, instance);
    cJSON *models = cJSON_GetObjectItemCaseSensitive(i, "models");
    if (!models)
        models = cJSON_AddArrayToObject(i, "models");
    cJSON *row = cJSON_CreateObject();
    ragflow_id(id);
    cJSON_AddStringToObject(row, "model_id", id);
    cJSON_AddStringToObject(row, "model_name", model);
    cJSON_AddStringToObject(row, "model_type", type);
    cJSON_AddStringToObject(row, "provider_name", provider);
    cJSON_AddStringToObject(row, "instance_name", instance);
    cJSON_AddItemToArray(models, row);
    return row;
}

static bool instance_has(const cJSON *instance, const char *name, size_t n)
{
    const cJSON *row;
    cJSON_ArrayForEach(row, json_get(instance, "models"))
    {
        const char *mine = json_str(row, "model_name");
        if (mine && strlen(mine) == n && memcmp(mine, name, n) == 0)
            return true;
    }
    return false;
}

/* The tenant's next model after `row`, the first for NULL; NULL after the last. */
static const cJSON *next_model(const struct tenant *t, const cJSON *row)
{
    bool seen = !row;
    for (const cJSON *p = t->providers->child; p; p = p->next) {
        for (const cJSON *i = p->child; i; i = i->next) {
            const cJSON *one;
            cJSON_ArrayForEach(one, json_get(i, "models"))
            {
                if (seen)
                    return one;
                seen = one == row;
            }
        }
    }
    return NULL;
}

static bool tenant_has_id(const struct tenant *t, const char *id)
{
    const cJSON *row = next_model(t, NULL);
    while (row && !str_eq(json_str(row, "model_id"), id))
        row = next_model(t, row);
    return row != NULL;
}

/* By id a joined tenant's model will do; by name only one's own. */
static bool check_model_id(struct ask *a, const char *id)
{
    for (const struct tenant *t = a->r->tenants; t; t = t->next) {
        if ((t == a->tenant || tenant_joined(a->tenant, t)) && tenant_has_id(t, id))
            return true;
    }
    ask_fail(a, CODE_DATA, "Model %s not found.", id);
    return false;
}

/* name@provider or name@instance@provider. */
static bool has_named(const char *model, const cJSON *provider)
{
    const char *first = strchr(model, '@'), *last = strrchr(model, '@');
    const cJSON *instance;
    cJSON_ArrayForEach(instance, provider)
    {
        size_t n = (size_t)(last - first) - (first == last ? 0 : 1);
        bool wanted = first == last || (strlen(instance->string) == n &&
                                        memcmp(instance->string, first + 1, n) == 0);
        if (wanted && instance_has(instance, model, (size_t)(first - model)))
            return true;
    }
    return false;
}

bool tenant_check_model(struct ask *a, const char *model)
{
    const char *last = strrchr(model, '@');
    bool old = a->r->profile == RAGFLOW_024;
    if (!last)
        return check_model_id(a, model);
    const cJSON *provider = cJSON_GetObjectItemCaseSensitive(a->tenant->providers, last + 1);
    if (provider && has_named(model, provider))
        return true;
    if (old)
        ask_fail(a, CODE_ARGUMENT, "Unsupported model: <%s>", model);
    else if (!provider)
        ask_fail(a, CODE_DATA, "Provider %s not found for model %s.", last + 1, model);
    else
        ask_fail(a, CODE_DATA, "Model %s not found.", model);
    return false;
}

void provider_add(struct ask *a)
{
    cJSON *body = ask_body(a);
    const char *name = body ? json_str(body, "provider_name") : NULL;
    if (body && !name) {
        ask_fail(a, CODE_ARGUMENT, "provider_name is required");
    } else if (body && cJSON_GetObjectItemCaseSensitive(a->tenant->providers, name)) {
        ask_fail(a, CODE_DATA, "Provider %s already exists", name);
    } else if (body) {
        cJSON_AddObjectToObject(a->tenant->providers, name);
        ask_success(a, cJSON_CreateTrue());
    }
    cJSON_Delete(body);
}

static void add_instance(struct ask *a, const cJSON *body)
{
    const char *provider = a->part[0], *name = json_str(body, "instance_name");
    cJSON *p = cJSON_GetObjectItemCaseSensitive(a->tenant->providers, provider);
    const cJSON *model, *type;
    if (!p || !name || str_eq(name, "default") || cJSON_GetObjectItemCaseSensitive(p, name)) {
        ask_fail(a, CODE_DATA,
                 p ? "Instance name is missing, reserved or already exists" : "Provider not found");
        return;
    }
    cJSON *instance = cJSON_AddObjectToObject(p, name);
    ragflow_set_text(instance, "api_key", json_str(body, "api_key"));
    ragflow_set_text(instance, "base_url", json_str(body, "base_url"));
    cJSON_ArrayForEach(model, json_get(body, "model_info"))
    {
        cJSON_ArrayForEach(type, json_get(model, "model_type"))
        {
            if (json_str(model, "model_name") && cJSON_IsString(type))
                tenant_add_model(a->tenant, provider, name, json_str(model, "model_name"),
                                 type->valuestring);
        }
    }
    ask_success(a, cJSON_CreateTrue());
}

void provider_add_instance(struct ask *a)
{
    cJSON *body = ask_body(a);
    if (body)
        add_instance(a, body);
    cJSON_Delete(body);
}

/* The provider's secret in clear, to whoever holds a key of the tenant: as there. */
void provider_get_instance(struct ask *a)
{
    cJSON *p = cJSON_GetObjectItemCaseSensitive(a->tenant->providers, a->part[0]);
    const cJSON *instance = p ? cJSON_GetObjectItemCaseSensitive(p, a->part[1]) : NULL;
    if (!instance) {
        ask_fail(a, CODE_DATA, "Instance %s not found", a->part[1]);
        return;
    }
    cJSON *data = cJSON_Duplicate(instance, true);
    ragflow_set_text(data, "instance_name", a->part[1]);
    ragflow_set_text(data, "provider_name", a->part[0]);
    ask_success(a, data);
}

void models_list(struct ask *a)
{
    const char *type = call_argument(a->call, "type");
    cJSON *data = cJSON_CreateArray();
    for (const cJSON *row = next_model(a->tenant, NULL); row; row = next_model(a->tenant, row)) {
        if (!type || str_eq(type, json_str(row, "model_type")))
            cJSON_AddItemToArray(data, cJSON_Duplicate(row, true));
    }
    ask_success(a, data);
}

void models_default(struct ask *a)
{
    cJSON *body = ask_body(a);
    if (!body)
        return;
    const char *name = json_str(body, "model_name"), *provider = json_str(body, "model_provider");
    struct buf model;
    buf_init(&model, 1024);
    buf_addf(&model, "%s@%s", name ? name : "", provider ? provider : "");
    if (!str_eq(json_str(body, "model_type"), "embedding") ||
        tenant_check_model(a, buf_str(&model))) {
        char *copy = str_dup(buf_str(&model));
        if (copy && str_eq(json_str(body, "model_type"), "embedding")) {
            free(a->tenant->default_model);
            a->tenant->default_model = copy;
        } else {
            free(copy);
        }
        ask_success(a, cJSON_CreateTrue());
    }
    buf_done(&model);
    cJSON_Delete(body);
}
