/*
 * What tests do to the stand-in Langflow and see of it.
 */
#include "langflow.h"

#include <string.h>

#include "base/json.h"
#include "base/rng.h"
#include "base/str.h"

/* ---- settings ---- */

static cJSON *show_settings(const struct lf_settings *s)
{
    cJSON *json = cJSON_CreateObject();
    cJSON_AddNumberToObject(json, "commit_ms", (double)s->commit_ms);
    cJSON_AddNumberToObject(json, "erase_ms", (double)s->erase_ms);
    cJSON_AddNumberToObject(json, "login_limit", (double)s->login_limit);
    cJSON_AddNumberToObject(json, "login_window_ms", (double)s->login_window_ms);
    cJSON_AddNumberToObject(json, "retry_after_s", (double)s->retry_after_s);
    cJSON_AddBoolToObject(json, "new_user_is_active", s->new_user_is_active);
    cJSON_AddBoolToObject(json, "signup", s->signup);
    cJSON_AddBoolToObject(json, "auto_login", s->auto_login);
    cJSON_AddBoolToObject(json, "webhook_auth", s->webhook_auth);
    cJSON_AddBoolToObject(json, "custom_components", s->custom_components);
    cJSON_AddBoolToObject(json, "a2a", s->a2a);
    cJSON_AddBoolToObject(json, "frontend", s->frontend);
    cJSON_AddBoolToObject(json, "shuffle", s->shuffle);
    return json;
}

static void change_settings(struct lf_settings *s, const cJSON *body)
{
    json_i64(body, "commit_ms", &s->commit_ms);
    json_i64(body, "erase_ms", &s->erase_ms);
    json_i64(body, "login_limit", &s->login_limit);
    json_i64(body, "login_window_ms", &s->login_window_ms);
    json_i64(body, "retry_after_s", &s->retry_after_s);
    s->new_user_is_active = json_bool(body, "new_user_is_active", s->new_user_is_active);
    s->signup = json_bool(body, "signup", s->signup);
    s->auto_login = json_bool(body, "auto_login", s->auto_login);
    s->webhook_auth = json_bool(body, "webhook_auth", s->webhook_auth);
    s->custom_components = json_bool(body, "custom_components", s->custom_components);
    s->a2a = json_bool(body, "a2a", s->a2a);
    s->frontend = json_bool(body, "frontend", s->frontend);
    s->shuffle = json_bool(body, "shuffle", s->shuffle);
}

/* Answers what was set before. */
void lf_admin(void *store, const struct call *c, struct reply *out)
{
    struct lf_store *s = store;
    if (!str_eq(c->path, "/settings"))
        return;
    cJSON *before = show_settings(&s->settings);
    if (str_eq(c->method, "POST")) {
        cJSON *body = reply_parse(out, c->body, c->body_len);
        if (!body) {
            cJSON_Delete(before);
            return;
        }
        change_settings(&s->settings, body);
        s->logins = 0;
        cJSON_Delete(body);
    }
    reply_json(out, 200, before);
}

/* ---- planting ---- */

static struct lf_record *plant_user(struct lf_store *s, const cJSON *wanted)
{
    char password[33];
    unsigned char raw[16];
    const char *name = json_str(wanted, "username"), *given = json_str(wanted, "password");
    const cJSON *one;
    rng_bytes(raw, sizeof(raw));
    str_hex(password, raw, sizeof(raw));
    struct lf_record *user =
        name ? lf_user_new(s, name, given ? given : password, json_get(wanted, "optins")) : NULL;
    if (!user)
        return NULL;
    lf_set(user->json, "is_active", cJSON_CreateBool(json_bool(wanted, "is_active", true)));
    cJSON_ArrayForEach(one, json_get(wanted, "flows"))
    {
        lf_flow_new(s, user, json_str(one, "id"), one);
    }
    cJSON_ArrayForEach(one, json_get(wanted, "variables"))
    {
        lf_variable_new(s, user, one);
    }
    cJSON_ArrayForEach(one, json_get(wanted, "keys"))
    {
        lf_key_new(s, user, "planted", cJSON_IsString(one) ? one->valuestring : password);
    }
    return user;
}

static struct lf_record *plant_message(struct lf_store *s, const cJSON *wanted)
{
    const char *flow = json_str(wanted, "flow_id"), *text = json_str(wanted, "text");
    const char *session = json_str(wanted, "session_id");
    return flow ? lf_message_new(s, flow, session ? session : flow, text ? text : "") : NULL;
}

static struct lf_record *plant_file(struct lf_store *s, const cJSON *wanted)
{
    const char *folder = json_str(wanted, "folder"), *name = json_str(wanted, "name");
    return folder && name ? lf_file_new(s, folder, name) : NULL;
}

static bool plant_one(struct lf_store *s, const cJSON *wanted, cJSON *ids)
{
    const char *kind = json_str(wanted, "kind");
    struct lf_record *user =
        str_eq(kind, "flow") ? lf_find(s, LF_USER, json_str(wanted, "user_id")) : NULL;
    struct lf_record *r = NULL;
    if (!kind || str_eq(kind, "user"))
        r = plant_user(s, wanted);
    else if (str_eq(kind, "message"))
        r = plant_message(s, wanted);
    else if (str_eq(kind, "file"))
        r = plant_file(s, wanted);
    else if (user && json_str(wanted, "name"))
        r = lf_flow_new(s, user, json_str(wanted, "id"), wanted);
    if (!r)
        return false;
    r->planted = true;
    cJSON_AddItemToArray(ids, cJSON_CreateString(r->id));
    return true;
}

void lf_plant(void *store, const cJSON *objects, struct reply *out)
{
    struct lf_store *s = store;
    cJSON *answer = cJSON_CreateObject(), *ids = cJSON_AddArrayToObject(answer, "ids");
    bool ok = true;
    lf_settle(s);
    if (cJSON_IsArray(objects)) {
        const cJSON *one;
        cJSON_ArrayForEach(one, objects)
        {
            ok = ok && plant_one(s, one, ids);
        }
    } else {
        ok = plant_one(s, objects, ids);
    }
    if (ok) {
        reply_json(out, 201, answer);
        return;
    }
    cJSON_Delete(answer);
    reply_detail(
        out, 422,
        "a user needs a username, a message a flow_id, a flow a user_id and a name, a file "
        "a folder (of a flow's or user's id) and a name");
}

/* ---- listing ---- */

static const char *marker(const struct lf_record *user)
{
    const cJSON *one, *optins = json_get(user->json, "optins");
    cJSON_ArrayForEach(one, optins)
    {
        if (cJSON_IsString(one) && str_starts(one->valuestring, "waldur-subscription:"))
            return one->valuestring;
    }
    return json_str(optins, "marker");
}

static void add_owned(const struct lf_record *user, enum lf_kind kind, const char *name, cJSON *to)
{
    cJSON *list = cJSON_AddArrayToObject(to, name);
    for (const struct lf_record *r = user->first[kind]; r; r = r->next) {
        cJSON *one = cJSON_Duplicate(r->json, true);
        cJSON_AddNumberToObject(one, "changes", (double)r->changes);
        if (kind == LF_KEY)
            cJSON_AddStringToObject(one, "api_key", r->secret);
        cJSON_AddItemToArray(list, one);
    }
}

static void add_left(const struct lf_store *s, cJSON *flows)
{
    cJSON *flow;
    cJSON_ArrayForEach(flow, flows)
    {
        const char *id = json_str(flow, "id");
        cJSON_AddItemToObject(flow, "files", lf_file_names(s, id));
        cJSON *list = cJSON_AddArrayToObject(flow, "messages");
        struct lf_record *m = lf_by_alias(s, LF_MESSAGE, id, NULL);
        for (; m; m = lf_by_alias(s, LF_MESSAGE, id, m))
            cJSON_AddItemToArray(list, cJSON_Duplicate(m->json, true));
    }
}

static cJSON *show_user(const struct lf_store *s, const struct lf_record *user)
{
    cJSON *json = cJSON_CreateObject();
    const char *mark = marker(user);
    cJSON_AddNumberToObject(json, "seq", (double)user->seq);
    cJSON_AddItemToObject(json, "marker", mark ? cJSON_CreateString(mark) : cJSON_CreateNull());
    cJSON_AddBoolToObject(json, "planted", user->planted);
    cJSON_AddNumberToObject(json, "changes", (double)user->changes);
    cJSON_AddItemToObject(json, "object", cJSON_Duplicate(user->json, true));
    add_owned(user, LF_PROJECT, "projects", json);
    add_owned(user, LF_FLOW, "flows", json);
    add_owned(user, LF_VARIABLE, "variables", json);
    add_owned(user, LF_KEY, "keys", json);
    cJSON_AddItemToObject(json, "files", lf_file_names(s, user->id));
    add_left(s, cJSON_GetObjectItemCaseSensitive(json, "flows"));
    return json;
}

static void add_strays(const struct lf_store *s, cJSON *to)
{
    cJSON *strays = cJSON_AddArrayToObject(to, "stray_files");
    for (const struct lf_record *f = s->first[LF_FILE]; f; f = f->next) {
        if (!lf_find(s, LF_FLOW, f->alias) && !lf_find(s, LF_USER, f->alias))
            cJSON_AddItemToArray(strays, cJSON_Duplicate(f->json, true));
    }
}

/* Everything that is there, committed or not; orphans are messages whose flow is gone, stray files
 * those whose flow or user is. */
void lf_list(void *store, struct reply *out)
{
    struct lf_store *s = store;
    cJSON *json = cJSON_CreateObject(), *users = cJSON_AddArrayToObject(json, "objects");
    lf_settle(s);
    for (const struct lf_record *u = s->first[LF_USER]; u; u = u->next)
        cJSON_AddItemToArray(users, show_user(s, u));
    cJSON *orphans = cJSON_AddArrayToObject(json, "orphans");
    for (const struct lf_record *m = s->first[LF_MESSAGE]; m; m = m->next) {
        if (!lf_find(s, LF_FLOW, m->alias))
            cJSON_AddItemToArray(orphans, cJSON_Duplicate(m->json, true));
    }
    add_strays(s, json);
    cJSON_AddNumberToObject(json, "created", (double)s->created);
    cJSON_AddNumberToObject(json, "deleted", (double)s->deleted);
    reply_json(out, 200, json);
}
