/*
 * The recorded runtime of a subscription: its constraints, and the steps that write it.
 */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/str.h"
#include "db_internal.h"

const char *const db_statuses[STATUS_MAX] = {"provisioning", "ready",    "failed", "suspended",
                                             "terminating",  "archived", "purged"};

enum { NAME_MAX_BYTES = 128, HASH_BYTES = 32, KEY_SEALED_MIN = 48, RUNTIME_SEALED_MIN = 40 };

void config_status(struct config_row *c, enum db_status status)
{
    c->status = status;
    c->pub.status = db_statuses[status];
}

enum product db_product(const char *name)
{
    int p = 0;
    while (p < PRODUCT_MAX && !str_eq(name, product_name((enum product)p))) {
        p++;
    }
    return (enum product)p;
}

/* ---- constraints ---- */

static bool is_name_char(char c, bool edge)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || (c == '-' && !edge);
}

static bool is_name(const char *s)
{
    size_t n = strlen(s);
    for (size_t i = 0; i < n; i++) {
        if (!is_name_char(s[i], i == 0 || i + 1 == n)) {
            return false;
        }
    }
    return n > 0 && n <= NAME_MAX_BYTES;
}

static bool is_one_of(const char *s, const char *const *list, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (str_eq(s, list[i])) {
            return true;
        }
    }
    return false;
}

/* NULL passes a CHECK. */
static bool not_empty(const char *s)
{
    return !s || s[0];
}

static bool texts_check(const struct config_row *c)
{
    static const char *const tiers[] = {"free", "plus", "pro", "enterprise"};
    static const char *const runtimes[] = {"shared", "dedicated"};
    return is_one_of(c->plan_tier, tiers, ARRAY_LEN(tiers)) &&
           is_one_of(c->runtime, runtimes, ARRAY_LEN(runtimes)) && c->pub.runtime_name[0] &&
           is_name(c->pub.name) && not_empty(c->pub.workspace_id) &&
           not_empty(c->pub.collection_id) && not_empty(c->run_url) &&
           not_empty(c->pub.tenant_id) && not_empty(c->pub.residue);
}

static bool status_check(struct db *db, const struct config_row *c)
{
    const struct db_config *p = &c->pub;
    if (c->status == STATUS_READY && !(p->workspace_id && p->api_key && c->ready_us &&
                                       (p->collection_id || !p->rag || c->updating))) {
        return db_refuse(db, "23514", "agent_config_ready_is_whole");
    }
    if (c->status == STATUS_ARCHIVED && (p->collection_id || p->api_key || !p->archived_at_us)) {
        return db_refuse(db, "23514", "agent_config_archived_is_closed");
    }
    if (c->status == STATUS_PURGED && (p->collection_id || p->api_key || p->workspace_id)) {
        return db_refuse(db, "23514", "agent_config_purged_is_empty");
    }
    return true;
}

static bool config_once(struct db *db, enum map_name map, struct config_row *c, const char *id,
                        const char *what)
{
    size_t i = 0;
    const struct config_row *other;
    if (!id) {
        return true;
    }
    uint64_t hash = db_hash_text(db_hash_text(0, c->pub.runtime_name), id);
    while ((other = map_next(&db->maps[map], hash, &i))) {
        const char *its =
            map == MAP_WORKSPACES ? other->pub.workspace_id : other->pub.collection_id;
        if (other != c && str_eq(its, id) && str_eq(other->pub.runtime_name, c->pub.runtime_name)) {
            return db_refuse(db, "23505", what);
        }
    }
    map_add(db, map, hash, c);
    return true;
}

bool config_check(struct db *db, struct config_row *c)
{
    if (!c->plan_tier || !c->capabilities || !c->variables) {
        return db_refuse(db, "23502", "agent_config: null");
    }
    if (!texts_check(c)) {
        return db_refuse(db, "23514", "agent_config: a column's check");
    }
    return status_check(db, c) &&
           config_once(db, MAP_WORKSPACES, c, c->pub.workspace_id, "agent_config_workspace_once") &&
           config_once(db, MAP_COLLECTIONS, c, c->pub.collection_id,
                       "agent_config_collection_once");
}

bool runtime_key_keep(struct db *db, struct subscription_row *s, const char *product,
                      struct db_bytes sealed)
{
    enum product p = db_product(product);
    if (!sealed.data) {
        if (p != PRODUCT_MAX && s->config) {
            EDIT(db, &s->config->keys[p]);
            s->config->keys[p] = (struct runtime_key){0};
        }
        return true;
    }
    if (p == PRODUCT_MAX || sealed.len <= RUNTIME_SEALED_MIN) {
        return db_refuse(db, product ? "23514" : "23502", "agent_runtime_key: a column's check");
    }
    if (!s->config) {
        return db_refuse(db, "23503", "agent_runtime_key: no agent_config");
    }
    EDIT(db, &s->config->keys[p]);
    s->config->keys[p] = (struct runtime_key){sealed, db->now_us};
    return true;
}

/* ---- step_name ---- */

static struct config_row *find_name(const struct db *db, const char *name)
{
    size_t i = 0;
    struct config_row *c;
    uint64_t hash = db_hash_text(0, name);
    while ((c = map_next(&db->maps[MAP_NAMES], hash, &i)) && !str_eq(c->pub.name, name)) {
    }
    return c;
}

static bool read_variables(struct db *db, const cJSON *json, struct config_row *c)
{
    cJSON *variables = cJSON_GetObjectItemCaseSensitive(json, "variables");
    if (!variables || cJSON_IsNull(variables)) {
        return true;
    }
    c->variables = db_json_text(db, variables);
    return cJSON_IsObject(variables) || db_refuse(db, "23514", "agent_config_variables_check");
}

static bool read_config(struct db *db, const cJSON *json, struct config_row *c)
{
    bool has_null = false;
    c->organization_slug = db_member(db, json, "organization_slug");
    c->project_slug = db_member(db, json, "project_slug");
    c->offering_type = db_member(db, json, "offering_type");
    c->plan_tier = db_member(db, json, "plan_tier");
    c->runtime = db_keep(db, 6);
    c->pub.runtime_name = db_keep(db, 7);
    c->pub.name = db_keep(db, 5);
    c->pub.rag = json_has_string(json, "capabilities", "rag");
    if (!db_member_uuid(db, json, "organization_uuid", &c->organization) ||
        !db_member_uuid(db, json, "project_uuid", &c->project) ||
        !db_member_uuid(db, json, "offering_uuid", &c->offering) ||
        !db_member_texts(db, json, "capabilities", &c->capabilities, &has_null)) {
        return false;
    }
    if (!db_member_texts(db, json, "variables_due", &c->variables_due, NULL)) {
        return false;
    }
    const cJSON *variables = cJSON_GetObjectItemCaseSensitive(json, "variables");
    if (!c->organization || !c->organization_slug || !c->project || !c->project_slug ||
        !c->offering || !c->offering_type || !c->plan_tier || !c->capabilities || !variables ||
        cJSON_IsNull(variables) || !c->runtime || !c->pub.runtime_name || !c->pub.name) {
        return db_refuse(db, "23502", "agent_config: null");
    }
    return read_variables(db, json, c) &&
           (!has_null || db_refuse(db, "23514", "agent_config_capabilities_check"));
}

static void insert_config(struct db *db, struct subscription_row *s, struct config_row *c)
{
    c->created_us = db->now_us;
    c->variables_due = NULL;
    db_add(db, &db->configs, c);
    map_add(db, MAP_NAMES, db_hash_text(0, c->pub.name), c);
    EDIT(db, &s->config);
    s->config = c;
}

/* What an order may change of a configuration that is there. */
static bool refresh_config(struct db *db, struct config_row *c, const struct config_row *wanted)
{
    EDIT(db, c);
    c->updating = c->status == STATUS_READY;
    c->plan_tier = wanted->plan_tier;
    c->capabilities = wanted->capabilities;
    c->variables = wanted->variables;
    c->pub.rag = wanted->pub.rag;
    config_status(c, c->updating ? STATUS_READY : STATUS_PROVISIONING);
    c->variables_due = wanted->variables_due;
    c->status_reason = NULL;
    c->pub.archived_at_us = 0;
    c->updated_us = db->now_us;
    return config_check(db, c);
}

static bool name_and_enter(struct db *db, struct job_row *j, const char **holder, bool *full)
{
    enum job_step next;
    cJSON *json = NULL;
    struct subscription_row *s = j->subscription;
    struct config_row *c = db_alloc(db, sizeof(*c));
    str_copy(c->pub.subscription, UUID_TEXT, s->pub.uuid);
    config_status(c, STATUS_PROVISIONING);
    c->updated_us = db->now_us;
    bool fine = db_step(db, 4, &next) && db_json(db, 8, &json) && read_config(db, json, c) &&
                config_check(db, c);
    cJSON_Delete(json);
    if (!fine) {
        return false;
    }
    const struct config_row *taken = find_name(db, c->pub.name);
    if (!s->config && taken) {
        *holder = taken->pub.subscription;
        return true;
    }
    if (!s->config) {
        insert_config(db, s, c);
    } else if (!refresh_config(db, s->config, c)) {
        return false;
    }
    EDIT(db, &j->runtime_name);
    j->runtime_name = s->config->pub.runtime_name;
    return job_enter(db, j, next, 9, full);
}

PGresult *db_step_name(struct db *db)
{
    struct job_row *j;
    const char *holder = NULL;
    bool full = false;
    char conflict[sizeof("conflict:") + UUID_TEXT];
    enum guard guard = job_guard(db, &j, true);
    if (guard == GUARD_OK) {
        name_and_enter(db, j, &holder, &full);
    }
    if (db->refused) {
        return NULL;
    }
    snprintf(conflict, sizeof(conflict), "conflict:%s", holder ? holder : "");
    return db_one(db, holder ? conflict : full ? "queued" : db_guard_name(guard));
}

/* ---- step_resource, runtime_keep ---- */

struct resource {
    const char *product, *external_id, *run_url, *tenant_id, *residue, *flow_id, *variables;
    struct db_bytes sealed;
};

static bool read_resource(struct db *db, struct resource *r)
{
    cJSON *detail = NULL;
    r->product = db_keep(db, 5);
    r->external_id = db_keep(db, 6);
    bool fine = db_json(db, 7, &detail) && db_bytea(db, 8, &r->sealed);
    if (fine && detail) {
        r->residue = db_member(db, detail, "residue");
        r->run_url = db_member(db, detail, "run_url");
        r->tenant_id = db_member(db, detail, "tenant_id");
        r->flow_id = db_member(db, detail, "flow_id");
        r->variables = db_member(db, detail, "variables");
    }
    cJSON_Delete(detail);
    return fine;
}

/* Read as a UUID only where it is recorded. */
static bool record_flow(struct db *db, struct config_row *c, const char *flow_id)
{
    char uuid[UUID_TEXT];
    if (flow_id && !uuid_parse(flow_id, strlen(flow_id), uuid)) {
        return db_refuse(db, "22P02", "flow_id is no UUID");
    }
    c->pub.flow_id = flow_id ? db_dup(db, uuid) : NULL;
    return true;
}

static bool record_config(struct db *db, struct subscription_row *s, const struct resource *r)
{
    struct config_row *c = s->config;
    EDIT(db, c);
    if (db_product(r->product) == PRODUCT_LANGFLOW) {
        if (!record_flow(db, c, r->flow_id)) {
            return false;
        }
        c->pub.workspace_id = r->external_id;
        c->run_url = r->run_url;
    } else if (db_product(r->product) == PRODUCT_RAGFLOW) {
        c->pub.collection_id = r->external_id;
        c->pub.tenant_id = r->tenant_id;
    }
    c->pub.residue = r->residue ? r->residue : c->pub.residue;
    if (str_eq(r->variables, "true")) {
        c->variables_due = NULL;
    }
    bool missed = db_product(r->product) != PRODUCT_RAGFLOW || c->pub.rag;
    if (!r->external_id && c->status == STATUS_READY && missed) {
        config_status(c, STATUS_PROVISIONING);
    }
    c->updated_us = db->now_us;
    return config_check(db, c) && runtime_key_keep(db, s, r->product, r->sealed);
}

static bool resource_record(struct db *db, struct subscription_row *s)
{
    struct resource r = {0};
    if (!read_resource(db, &r) || (s->config && !record_config(db, s, &r))) {
        return false;
    }
    if (r.residue) {
        db_audit(db, s->pub.uuid, s->config ? s->config->organization : NULL, 0, "worker",
                 "residue");
    }
    effects_close(db, s, r.product, NULL, EFFECT_DONE, r.external_id);
    return true;
}

PGresult *db_step_resource(struct db *db)
{
    struct job_row *j;
    enum job_step next;
    enum guard guard = job_guard(db, &j, true);
    if (guard == GUARD_REFUSED || !db_step(db, 4, &next)) {
        return NULL;
    }
    if (guard != GUARD_LOST && resource_record(db, j->subscription) && guard == GUARD_OK) {
        job_advance(db, j, next);
    }
    return db->refused ? NULL : db_one(db, db_guard_name(guard));
}

static bool keep(struct db *db, struct subscription_row *s)
{
    struct config_row *c = s->config;
    struct db_bytes sealed;
    const char *product = db_text(db, 4), *external_id = db_keep(db, 5), *tenant = db_keep(db, 6);
    if (!db_bytea(db, 7, &sealed)) {
        return false;
    }
    if (c) {
        EDIT(db, c);
        enum product p = db_product(product);
        if (external_id && p == PRODUCT_LANGFLOW) {
            c->pub.workspace_id = external_id;
        } else if (external_id && p == PRODUCT_RAGFLOW) {
            c->pub.collection_id = external_id;
        }
        c->pub.tenant_id = tenant ? tenant : c->pub.tenant_id;
        c->updated_us = db->now_us;
        if (!config_check(db, c)) {
            return false;
        }
    }
    return !sealed.data || runtime_key_keep(db, s, product, sealed);
}

PGresult *db_runtime_keep(struct db *db)
{
    struct job_row *j;
    enum guard guard = job_guard(db, &j, true);
    if (guard != GUARD_LOST && guard != GUARD_REFUSED) {
        keep(db, j->subscription);
    }
    return db->refused ? NULL : db_one(db, db_guard_name(guard));
}

/* ---- the API key ---- */

struct terms {
    const char *permissions, *domains, *rate_limit;
    int64_t expires_us;
};

static bool is_rate(const char *s)
{
    static const char *const units[] = {"/second", "/minute", "/hour", "/day"};
    size_t digits = strspn(s, "0123456789");
    return digits > 0 && s[0] != '0' && is_one_of(s + digits, units, ARRAY_LEN(units));
}

static bool read_terms(struct db *db, struct terms *t)
{
    cJSON *json = NULL;
    if (!db_json(db, 8, &json)) {
        return false;
    }
    const char *expires = db_member(db, json, "expires_at");
    t->rate_limit = db_member(db, json, "rate_limit");
    bool fine = db_member_texts(db, json, "permissions", &t->permissions, NULL) &&
                db_member_texts(db, json, "allowed_domains", &t->domains, NULL);
    if (fine && expires && !clock_parse(expires, strlen(expires), &t->expires_us)) {
        fine = db_refuse(db, "22007", "expires_at is no time");
    }
    cJSON_Delete(json);
    return fine;
}

static bool has_nulls(const struct terms *t)
{
    return !t->permissions || !t->domains || !t->rate_limit;
}

static bool terms_check(struct db *db, const struct terms *t)
{
    if (has_nulls(t)) {
        return db_refuse(db, "23502", "agent_api_key: null");
    }
    return is_rate(t->rate_limit) || db_refuse(db, "23514", "agent_api_key_rate_limit_check");
}

static void set_terms(struct key_row *k, const struct terms *t)
{
    k->permissions = t->permissions;
    k->domains = t->domains;
    k->rate_limit = t->rate_limit;
    k->expires_us = t->expires_us;
}

static bool is_prefix(const char *s)
{
    static const char start[] = "pk_live_";
    static const char letters[] = "0123456789"
                                  "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                  "abcdefghijklmnopqrstuvwxyz";
    return str_starts(s, start) && strlen(s) == sizeof(start) - 1 + 8 &&
           strspn(s + sizeof(start) - 1, letters) == 8;
}

static bool same_bytes(const struct db_bytes *a, const struct db_bytes *b)
{
    return a->len == b->len && memcmp(a->data, b->data, a->len) == 0;
}

static bool key_is_new(struct db *db, const struct key_row *k, uint64_t prefix, uint64_t hash)
{
    size_t i = 0;
    const struct key_row *other;
    while ((other = map_next(&db->maps[MAP_PREFIXES], prefix, &i))) {
        if (str_eq(other->pub.prefix, k->pub.prefix)) {
            return db_refuse(db, "23505", "agent_api_key_prefix_key");
        }
    }
    i = 0;
    while ((other = map_next(&db->maps[MAP_HASHES], hash, &i))) {
        if (same_bytes(&other->hash, &k->hash)) {
            return db_refuse(db, "23505", "agent_api_key_key_hash_key");
        }
    }
    return true;
}

/* Nulls before all that is wrong otherwise. */
static bool key_check(struct db *db, const struct key_row *k, const struct terms *t)
{
    if (!k->pub.prefix || !k->hash.data || !k->sealed.data || has_nulls(t)) {
        return db_refuse(db, "23502", "agent_api_key: null");
    }
    return (is_prefix(k->pub.prefix) && k->hash.len == HASH_BYTES &&
            k->sealed.len > KEY_SEALED_MIN) ||
           db_refuse(db, "23514", "agent_api_key: a column's check");
}

static bool insert_key(struct db *db, struct job_row *j, const struct terms *t)
{
    struct subscription_row *s = j->subscription;
    struct key_row *k = db_alloc(db, sizeof(*k));
    k->id = ++db->keys.last_id;
    str_copy(k->pub.subscription, UUID_TEXT, s->pub.uuid);
    k->pub.prefix = db_keep(db, 5);
    k->organization = s->config->organization;
    k->created_us = db->now_us;
    set_terms(k, t);
    if (!db_bytea(db, 6, &k->hash) || !db_bytea(db, 7, &k->sealed) || !key_check(db, k, t) ||
        !terms_check(db, t)) {
        return false;
    }
    uint64_t prefix = db_hash_text(0, k->pub.prefix);
    uint64_t hash = db_hash(0, k->hash.data, k->hash.len);
    if (!key_is_new(db, k, prefix, hash)) {
        return false;
    }
    db_add(db, &db->keys, k);
    map_add(db, MAP_PREFIXES, prefix, k);
    map_add(db, MAP_HASHES, hash, k);
    EDIT(db, &s->live_key);
    s->live_key = k;
    db_audit(db, s->pub.uuid, k->organization, j->pub.id, "worker", "api_key.created");
    return true;
}

static bool issue_and_advance(struct db *db, struct job_row *j)
{
    struct terms terms = {0};
    enum job_step next;
    struct subscription_row *s = j->subscription;
    if (!db_step(db, 4, &next)) {
        return false;
    }
    if (!s->config) {
        return db_refuse(db, "P0002", "a key for a subscription without agent_config");
    }
    if (!read_terms(db, &terms)) {
        return false;
    }
    if (!s->live_key) {
        if (!insert_key(db, j, &terms)) {
            return false;
        }
    } else if (terms_check(db, &terms)) {
        EDIT(db, s->live_key);
        set_terms(s->live_key, &terms);
    } else {
        return false;
    }
    EDIT(db, s->config);
    s->config->pub.api_key = s->live_key->pub.prefix;
    s->config->updated_us = db->now_us;
    return config_check(db, s->config) && job_advance(db, j, next);
}

PGresult *db_step_api_key(struct db *db)
{
    struct job_row *j;
    enum guard guard = job_guard(db, &j, true);
    if (guard == GUARD_OK) {
        issue_and_advance(db, j);
    }
    return db->refused ? NULL : db_one(db, db_guard_name(guard));
}
