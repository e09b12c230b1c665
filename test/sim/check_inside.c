/*
 * What an active subscription's objects hold: what its newest order says, and keys that open.
 */
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "base/str.h"
#include "check.h"
#include "secret/secret.h"
#include "setup.h"

enum { CHUNK_OVERLAP = 32 };

/* ---- keys ---- */

/* Opening takes longer than all else that is checked: some of them tell for all. */
static void check_api_key(const struct found *f, size_t key)
{
    const struct config *config = setup_config(&world.dialects, 0);
    const struct db_bytes sealed = db_key_sealed_at(world.db, key);
    const struct db_bytes hash = db_key_hash_at(world.db, key);
    unsigned char digest[crypto_hash_sha256_BYTES];
    char clear[API_KEY_LEN + 1];
    struct err err;
    if (!sim_chance(0.2)) {
        return;
    }
    if (api_key_open(sealed.data, sealed.len, config->reveal_public_key, setup_reveal_private(),
                     clear, &err)) {
        bad(f, "its API key cannot be revealed: %s", err.msg);
        return;
    }
    crypto_hash_sha256(digest, (const unsigned char *)clear, strlen(clear));
    if (!str_starts(clear, f->config->api_key) || hash.len != sizeof(digest) ||
        memcmp(hash.data, digest, sizeof(digest)) != 0) {
        bad(f, "its API key is revealed as %s, which is not %s or has another hash", clear,
            f->config->api_key);
    }
}

/* The key of its account at a product; false: none is kept, or it does not open. */
static bool open_runtime_key(const struct found *f, enum product p, char clear[SECRET_TEXT_MAX + 1])
{
    const struct db_bytes sealed = db_runtime_key(world.db, f->s->uuid, p);
    char context[UUID_TEXT + 16];
    struct err err;
    snprintf(context, sizeof(context), "%s/%s", f->s->uuid, product_name(p));
    return sealed.data && secret_open(setup_config(&world.dialects, 0)->master_key, context,
                                      sealed.data, sealed.len, clear, &err) == 0;
}

static void check_langflow_key(const struct found *f)
{
    char clear[SECRET_TEXT_MAX + 1];
    const cJSON *key;
    if (!open_runtime_key(f, PRODUCT_LANGFLOW, clear)) {
        bad(f, "no key of its Langflow user is kept that opens");
        return;
    }
    cJSON_ArrayForEach(key, json_get(f->workspace, "keys"))
    {
        if (str_eq(json_str(key, "api_key"), clear)) {
            return;
        }
    }
    bad(f, "the key %s of its Langflow user is kept, and the user has no such one", clear);
}

static bool has_token(const cJSON *tenant, const char *token)
{
    const cJSON *key;
    cJSON_ArrayForEach(key, json_get(tenant, "keys"))
    {
        if (str_eq(cJSON_GetStringValue(key), token)) {
            return true;
        }
    }
    return false;
}

static void check_ragflow_key(const struct found *f, const cJSON *tenants)
{
    char clear[SECRET_TEXT_MAX + 1];
    const cJSON *one, *tenant = NULL;
    cJSON_ArrayForEach(one, tenants)
    {
        tenant = str_eq(json_str(one, "id"), f->config->tenant_id) ? one : tenant;
    }
    if (!tenant) {
        bad(f, "tenant %s is recorded, and is not there", f->config->tenant_id);
    } else if (!open_runtime_key(f, PRODUCT_RAGFLOW, clear)) {
        bad(f, "no key of its RAGFlow tenant is kept that opens");
    } else if (!has_token(tenant, clear)) {
        bad(f, "the key %s of its RAGFlow tenant is kept, and the tenant has no such one", clear);
    }
}

/* ---- variables ---- */

const char *found_variable(const struct found *f, const char *name)
{
    const cJSON *one;
    if (world.dialects.facade) {
        const cJSON *all = json_get(f->workspace, "object.variables");
        return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(all, name));
    }
    cJSON_ArrayForEach(one, json_get(f->workspace, "variables"))
    {
        if (str_eq(json_str(one, "name"), name)) {
            return json_str(one, "value");
        }
    }
    return NULL;
}

/* A merge at the facade cannot take one away: absent is what is empty, too. */
static void check_variable(const struct found *f, const char *name, const char *wanted)
{
    const char *there = found_variable(f, name);
    bool absent = !there || (world.dialects.facade && !there[0]);
    if (wanted ? !str_eq(there, wanted) : !absent) {
        bad(f, "its variable %s is %s, not %s", name, there ? there : "not there",
            wanted ? wanted : "absent");
    }
}

static void check_variables(const struct found *f)
{
    const char *url = world.upstream[PRODUCT_RAGFLOW].product.url;
    char agent[32], revision[16];
    snprintf(agent, sizeof(agent), "Agent %d", f->s->number);
    snprintf(revision, sizeof(revision), "%d", f->s->revision);
    check_variable(f, "agent_name", agent);
    check_variable(f, "revision", revision);
    check_variable(f, "ragflow_collection_id",
                   f->s->rag ? json_str(f->collection, "object.id") : NULL);
    check_variable(f, "ragflow_url", f->s->rag ? url : NULL);
}

/* ---- the collection ---- */

static void check_number(const struct found *f, const char *path, int64_t wanted)
{
    int64_t there = -1;
    (void)json_i64(f->collection, path, &there);
    if (there != wanted) {
        bad(f, "its collection's %s is %" PRId64 ", not %" PRId64, path, there, wanted);
    }
}

static void check_settings(const struct found *f)
{
    int64_t size = f->s->chunk_size;
    const char *model = json_str(f->collection, "object.embedding_model");
    bool by_id = !world.dialects.facade && strspn(model, "0123456789abcdef") == 32; /* of a model */
    if (!str_starts(model, "text-embedding-3-small") && !by_id) {
        bad(f, "its collection's model is %s", model);
    }
    if (world.dialects.facade) {
        check_number(f, "object.chunk_size", size);
        check_number(f, "object.chunk_overlap", CHUNK_OVERLAP);
    } else {
        check_number(f, "object.parser_config.chunk_token_num", size);
        check_number(f, "object.parser_config.overlapped_percent",
                     (100 * CHUNK_OVERLAP + size - 1) / size);
    }
}

void check_inside(const struct found *f, size_t key, const cJSON *tenants)
{
    check_api_key(f, key);
    check_variables(f);
    if (f->collection) {
        check_settings(f);
    }
    if (!world.dialects.facade) {
        check_langflow_key(f);
    }
    if (f->collection && world.dialects.tenancy != TENANCY_SHARED) {
        check_ragflow_key(f, tenants);
    }
}
