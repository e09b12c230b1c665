/*
 * Getting into the tenant's account: with the key that is held, or by a login with the password
 * that the platform has just set; and the keys themselves.
 */
#include "langflow/native.h"

#include <stdlib.h>
#include <string.h>

#include "base/str.h"

#define KEYS     "/api/v1/api_key/"
#define KEY_NAME "provisioner"

enum {
    TOKEN_MAX = 4096,
    LOGINS_MAX = 4,
    LOGINS_OF_ONE = 2,      /* password, before it is set again */
    LOGIN_PAUSE_MS = 60000, /* where a 429 does not say */
    KEY_SHOWN = 8,          /* characters of a key that lists show */
};

/* What can stand in a header: printable ASCII without spaces. */
static bool is_secret(const char *s, size_t max)
{
    size_t n = 0;
    for (; s && s[n] > 0x20 && s[n] < 0x7f && n <= max; n++) {
    }
    return n > 0 && n <= max && s[n] == '\0';
}

/* ---- login ---- */

static void build_login(struct driver_op *op, struct exchange_request *r)
{
    langflow_url(op, r, "/api/v1/login", NULL, NULL);
    r->content_type = "application/x-www-form-urlencoded";
    buf_adds(&r->body, "username=");
    buf_add_url(&r->body, op->username ? op->username : op->target->name);
    buf_adds(&r->body, "&password=");
    buf_add_url(&r->body, op->target->password ? op->target->password : "");
    op->logins++;
}

/* The server counts the logins of this address, whoever they are for. */
static bool throttled(struct driver_op *op, struct langflow_answer *a)
{
    int64_t pause_ms = a->r->retry_after_ms >= 0 ? a->r->retry_after_ms : LOGIN_PAUSE_MS;
    op->site->login_blocked_until_ms = op->site->base.now_ms + pause_ms;
    a->out->health = HEALTH_GOOD;
    langflow_fail(op, ERR_THROTTLED,
                  "Langflow allows no more logins for now; raise LANGFLOW_RATE_LIMIT_PER_MINUTE "
                  "there if this is often so");
    op->err.retry_after_ms = pause_ms;
    op->err.http_status = a->r->status;
    return true;
}

/* A commit that is late (1.8: 400 or 401, also for who was just activated), or the password of
 * another operation. */
static bool not_let_in(struct driver_op *op, struct langflow_answer *a)
{
    a->out->health = HEALTH_GOOD;
    if (op->logins >= LOGINS_MAX) {
        langflow_fail(op, ERR_UNKNOWN,
                      "Langflow does not let the workspace's user in with the password that it was "
                      "given (HTTP %d)",
                      a->r->status);
        return true;
    }
    op->opened = op->logins % LOGINS_OF_ONE != 0;
    langflow_settle(op);
    return true;
}

static bool feed_login(struct driver_op *op, struct langflow_answer *a)
{
    bool refused = a->verdict == VERDICT_REFUSED && a->r->status == 400;
    if (a->verdict == VERDICT_LATER && a->r->status == 429) {
        return throttled(op, a);
    }
    if (a->verdict == VERDICT_DENIED || refused) {
        return not_let_in(op, a);
    }
    cJSON *json = langflow_tree(a);
    const char *token = json_str(json, "access_token");
    bool fine = is_secret(token, TOKEN_MAX);
    if (fine) {
        langflow_forget_entry(op);
        op->opened = true;
        op->token = str_dup(token);
        op->entry = op->token ? ENTRY_TOKEN : ENTRY_NONE;
        op->proven = true;
        if (!op->token) {
            langflow_fail(op, ERR_INTERNAL, "out of memory");
        }
    }
    cJSON_Delete(json);
    return fine;
}

const struct langflow_step langflow_login = {.what = "logging in as the workspace's user",
                                             .method = METHOD_POST,
                                             .as = AS_NOBODY,
                                             .build = build_login,
                                             .feed = feed_login};

/* ---- whose key it is ---- */

static void build_whoami(struct driver_op *op, struct exchange_request *r)
{
    langflow_url(op, r, "/api/v1/users/whoami", NULL, NULL);
}

static bool feed_whoami(struct driver_op *op, struct langflow_answer *a)
{
    char id[UUID_TEXT];
    cJSON *json = langflow_tree(a);
    bool fine = json && langflow_uuid(json, "id", id);
    if (fine && str_eq(id, op->user_id)) {
        const char *name = json_str(json, "username");
        char *copy = name ? str_dup(name) : NULL;
        if (copy) {
            free(op->username);
            op->username = copy;
        }
        op->proven = true;
        op->active = true;
        op->user = USER_THERE;
    } else if (fine) {
        langflow_leave(op); /* somebody else's key: not one request more with it */
    }
    cJSON_Delete(json);
    return fine;
}

const struct langflow_step langflow_whoami = {.what = "asking whose the workspace's key is",
                                              .method = METHOD_GET,
                                              .as = AS_TENANT,
                                              .build = build_whoami,
                                              .feed = feed_whoami};

/* ---- keys ---- */

static void build_key_list(struct driver_op *op, struct exchange_request *r)
{
    langflow_url(op, r, KEYS, NULL, NULL);
}

/* As far as the list shows it. */
static bool is_held(const struct driver_op *op, const cJSON *key)
{
    const char *masked = json_str(key, "api_key");
    return op->entry == ENTRY_KEY && masked && strncmp(masked, op->key, KEY_SHOWN) == 0;
}

static bool queue_keys(struct driver_op *op, const cJSON *keys, bool held)
{
    const cJSON *key = NULL;
    bool all = op->goal == DRIVER_CLOSED || op->adopted;
    cJSON_ArrayForEach(key, keys)
    {
        char id[UUID_TEXT];
        bool ours = all || str_eq(json_str(key, "name"), KEY_NAME);
        if (ours && is_held(op, key) == held && langflow_uuid(key, "id", id) &&
            !langflow_queue(op, &langflow_key_delete, id, NULL, NULL, held)) {
            return false;
        }
    }
    return true;
}

static bool feed_key_list(struct driver_op *op, struct langflow_answer *a)
{
    char owner[UUID_TEXT];
    cJSON *json = langflow_tree(a);
    const cJSON *keys = json_get(json, "api_keys");
    bool ours = !langflow_uuid(json, "user_id", owner) || str_eq(owner, op->user_id);
    bool fine = cJSON_IsArray(keys) && ours;
    if (fine) {
        langflow_queue_clear(op);
        op->keys_listed = true;
        /* The one that opens this door comes last, and where it is wanted not at all. */
        if (queue_keys(op, keys, false) && op->goal == DRIVER_CLOSED) {
            queue_keys(op, keys, true);
        }
    }
    cJSON_Delete(json);
    return fine;
}

const struct langflow_step langflow_key_list = {.what = "listing the workspace's keys",
                                                .method = METHOD_GET,
                                                .as = AS_TENANT,
                                                .build = build_key_list,
                                                .feed = feed_key_list};

static void build_key_delete(struct driver_op *op, struct exchange_request *r)
{
    langflow_url(op, r, KEYS, langflow_item(op)->id, NULL);
}

static bool feed_key_delete(struct driver_op *op, struct langflow_answer *a)
{
    bool gone =
        a->verdict == VERDICT_GONE || (a->verdict == VERDICT_REFUSED && a->r->status == 400);
    if (a->verdict != VERDICT_GOOD && !gone) {
        return false;
    }
    const struct langflow_item *item = langflow_item(op);
    str_copy(a->out->external_id, sizeof(a->out->external_id), item->id);
    a->out->effect = EFFECT_DONE;
    bool held = item->variable != 0;
    langflow_item_done(op);
    if (held && !langflow_item(op)) {
        langflow_forget_entry(op);
    }
    return true;
}

static void doubt_keys(struct driver_op *op)
{
    langflow_queue_clear(op);
    op->keys_listed = false;
}

const struct langflow_step langflow_key_delete = {.what = "deleting a key of the workspace",
                                                  .effect = "key.delete",
                                                  .method = METHOD_DELETE,
                                                  .as = AS_TENANT,
                                                  .queued = true,
                                                  .build = build_key_delete,
                                                  .feed = feed_key_delete,
                                                  .doubt = doubt_keys};

static void build_key_create(struct driver_op *op, struct exchange_request *r)
{
    langflow_url(op, r, KEYS, NULL, NULL);
    langflow_json(r);
    buf_adds(&r->body, "{\"name\":\"" KEY_NAME "\"}");
}

static bool feed_key_create(struct driver_op *op, struct langflow_answer *a)
{
    cJSON *json = langflow_tree(a);
    const char *key = json_str(json, "api_key");
    char id[UUID_TEXT] = "";
    bool fine = is_secret(key, DRIVER_SECRET_MAX);
    if (fine) {
        langflow_forget_entry(op);
        str_copy(op->key, sizeof(op->key), key);
        op->opened = true;
        op->entry = ENTRY_KEY;
        op->proven = true;
        langflow_uuid(json, "id", id);
        str_copy(a->out->external_id, sizeof(a->out->external_id), id);
        str_copy(a->out->secret, sizeof(a->out->secret), key);
    }
    cJSON_Delete(json);
    return fine;
}

const struct langflow_step langflow_key_create = {.what = "making the workspace's key",
                                                  .effect = "key.create",
                                                  .method = METHOD_POST,
                                                  .as = AS_TENANT,
                                                  .build = build_key_create,
                                                  .feed = feed_key_create,
                                                  .doubt = doubt_keys};
