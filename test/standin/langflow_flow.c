/*
 * Projects and flows. Both products' habit of renaming what is taken lives here.
 */
#include "langflow.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/str.h"

enum { NAME_TRIES = 100000, FLOWS_AT_ONCE = 10000 };

static const char *text_of(const struct lf_record *r, const char *member)
{
    return json_str(r->json, member);
}

static struct lf_record *by_member(const struct lf_store *s, const struct lf_record *user,
                                   enum lf_kind kind, const char *member, const char *text)
{
    struct lf_record *r = lf_first(s, user, kind);
    while (r && !str_eq(text_of(r, member), text))
        r = lf_next(s, r);
    return r;
}

/* name, or the first of "name (1)", "name (2)" (or "name-1") that is free. NULL when memory ends.
 */
static char *free_name(const struct lf_store *s, const struct lf_record *user, enum lf_kind kind,
                       const char *member, const char *name)
{
    bool endpoint = str_eq(member, "endpoint_name");
    struct buf b;
    buf_init(&b, LF_BODY_MAX);
    buf_adds(&b, name);
    for (int i = 1; i < NAME_TRIES && by_member(s, user, kind, member, buf_str(&b)); i++) {
        buf_reset(&b);
        buf_addf(&b, endpoint ? "%s-%d" : "%s (%d)", name, i);
    }
    return buf_steal(&b);
}

static void set_free_name(const struct lf_store *s, const struct lf_record *user, enum lf_kind kind,
                          const char *member, cJSON *json)
{
    const char *wanted = json_str(json, member);
    char *name = wanted ? free_name(s, user, kind, member, wanted) : NULL;
    if (name)
        lf_set(json, member, cJSON_CreateString(name));
    free(name);
}

/* ---- projects ---- */

static struct lf_record *project_new(struct lf_store *s, struct lf_record *user, const char *name,
                                     const char *description, bool usual)
{
    cJSON *json = cJSON_CreateObject();
    cJSON_AddStringToObject(json, "name", name);
    lf_set(json, "description", description ? cJSON_CreateString(description) : cJSON_CreateNull());
    if (usual)
        cJSON_AddNullToObject(json, "auth_settings");
    else
        cJSON_AddStringToObject(cJSON_AddObjectToObject(json, "auth_settings"), "auth_type",
                                "apikey");
    cJSON_AddNullToObject(json, "id");
    cJSON_AddNullToObject(json, "parent_id");
    set_free_name(s, user, LF_PROJECT, "name", json);
    return lf_add(s, LF_PROJECT, user, NULL, NULL, json);
}

struct lf_record *lf_project_default(struct lf_store *s, struct lf_record *user)
{
    struct lf_record *first = user->first[LF_PROJECT];
    return first ? first
                 : project_new(s, user, "Starter Project",
                               "Manage your own flows. Download and upload projects.", true);
}

void lf_project_list(struct lf_call *c)
{
    cJSON *json = cJSON_CreateArray();
    for (struct lf_record *p = lf_first(c->s, c->user, LF_PROJECT); p; p = lf_next(c->s, p)) {
        cJSON *one = cJSON_Duplicate(p->json, true);
        if (c->s->minor >= 13) {
            cJSON_AddStringToObject(one, "owner_username", text_of(c->user, "username"));
            cJSON_AddBoolToObject(one, "is_owner", true);
        }
        cJSON_AddItemToArray(json, one);
    }
    reply_json(c->out, 200, json);
}

void lf_project_create(struct lf_call *c)
{
    const char *name = lf_want(c, "name");
    if (!name)
        return;
    struct lf_record *p = project_new(c->s, c->user, name, json_str(c->body, "description"), false);
    reply_json(c->out, 201, p ? cJSON_Duplicate(p->json, true) : NULL);
}

static struct lf_record *own_project(struct lf_call *c)
{
    struct lf_record *p = lf_own(c->s, LF_PROJECT, c->user, c->id);
    if (!p)
        reply_detail(c->out, 404, "Project not found");
    return p;
}

void lf_project_get(struct lf_call *c)
{
    struct lf_record *p = own_project(c);
    if (!p)
        return;
    cJSON *json = cJSON_Duplicate(p->json, true);
    cJSON *flows = cJSON_AddArrayToObject(json, "flows");
    for (struct lf_record *f = lf_first(c->s, c->user, LF_FLOW); f; f = lf_next(c->s, f)) {
        if (str_eq(text_of(f, "folder_id"), p->id))
            cJSON_AddItemToArray(flows, cJSON_Duplicate(f->json, true));
    }
    reply_json(c->out, 200, json);
}

void lf_project_patch(struct lf_call *c)
{
    static const char *const members[] = {"name", "description", "auth_settings", NULL};
    struct lf_record *p = own_project(c);
    const char *name = json_str(c->body, "name");
    struct lf_record *holder = name ? by_member(c->s, c->user, LF_PROJECT, "name", name) : NULL;
    if (!p)
        return;
    if (holder && holder != p) {
        if (c->s->minor >= 13)
            reply_detail(c->out, 409, "Project name must be unique");
        else
            reply_detail(c->out, 500,
                         "(sqlite3.IntegrityError) UNIQUE constraint failed: folder.user_id, "
                         "folder.name");
        return;
    }
    lf_take(p->json, c->body, members);
    p->changes++;
    reply_json(c->out, 200, cJSON_Duplicate(p->json, true));
}

void lf_project_delete(struct lf_call *c)
{
    struct lf_record *p = own_project(c);
    if (!p)
        return;
    lf_remove(c->s, p, 0);
    c->out->status = 204;
}

/* ---- what a flow may be ---- */

static const char *const taken[] = {
    "name",    "description",   "icon",        "icon_bg_color",      "gradient",    "data",
    "tags",    "is_component",  "locked",      "mcp_enabled",        "action_name", "folder_id",
    "webhook", "endpoint_name", "access_type", "action_description", NULL};

static bool endpoint_ok(const char *name)
{
    for (; name && *name; name++) {
        bool ok = (*name >= 'a' && *name <= 'z') || (*name >= 'A' && *name <= 'Z') ||
                  (*name >= '0' && *name <= '9') || *name == '_' || *name == '-';
        if (!ok)
            return false;
    }
    return true;
}

static bool check_flow(struct lf_call *c, bool name_wanted)
{
    const cJSON *data = json_get(c->body, "data");
    const char *access = json_str(c->body, "access_type");
    bool filled = cJSON_IsObject(data) && data->child;
    if (name_wanted && !lf_want(c, "name"))
        return false;
    if (data && !cJSON_IsNull(data) && !cJSON_IsObject(data))
        lf_invalid(c, "data", "Input should be a valid dictionary");
    else if (filled && !json_get(data, "nodes"))
        lf_invalid(c, "data", "Value error, Flow must have nodes");
    else if (filled && !json_get(data, "edges"))
        lf_invalid(c, "data", "Value error, Flow must have edges");
    else if (!endpoint_ok(json_str(c->body, "endpoint_name")))
        lf_invalid(c, "endpoint_name",
                   "Value error, Endpoint name must contain only letters, numbers, hyphens, and "
                   "underscores");
    else if (access && !str_eq(access, "PRIVATE") && !str_eq(access, "PUBLIC"))
        lf_invalid(c, "access_type", "Input should be 'PRIVATE' or 'PUBLIC'");
    return !c->out->status;
}

/* From 1.13 on version 5 belongs to the product. */
static bool reserved(struct lf_call *c, const char *id)
{
    if (c->s->minor < 13 || id[14] != '5')
        return false;
    reply_detail(c->out, 400, "UUID5 flow IDs are reserved for public execution histories.");
    return true;
}

static struct lf_record *own_folder(const struct lf_call *c)
{
    const char *id = json_str(c->body, "folder_id");
    return id ? lf_own(c->s, LF_PROJECT, c->user, id) : NULL;
}

static bool bad_folder(struct lf_call *c)
{
    if (!json_str(c->body, "folder_id") || own_folder(c))
        return false;
    reply_detail(c->out, 400, "Folder not found");
    return true;
}

/* Somebody else of the user's own flows has it. */
static bool clashes(const struct lf_call *c, const struct lf_record *self, const char *member)
{
    const char *text = json_str(c->body, member);
    const struct lf_record *r =
        text && *text ? by_member(c->s, c->user, LF_FLOW, member, text) : NULL;
    return r && r != self;
}

static void touch(cJSON *json)
{
    char now[CLOCK_TEXT_MAX];
    clock_format(now, clock_wall_us());
    lf_set(json, "updated_at", cJSON_CreateString(now));
}

static cJSON *blank_flow(const struct lf_store *s)
{
    static const char *const nulls[] = {"description", "icon",        "icon_bg_color",
                                        "gradient",    "data",        "endpoint_name",
                                        "tags",        "action_name", "action_description"};
    cJSON *json = cJSON_CreateObject();
    for (size_t i = 0; i < ARRAY_LEN(nulls); i++)
        cJSON_AddNullToObject(json, nulls[i]);
    cJSON_AddBoolToObject(json, "is_component", false);
    cJSON_AddBoolToObject(json, "webhook", false);
    cJSON_AddBoolToObject(json, "locked", false);
    cJSON_AddBoolToObject(json, "mcp_enabled", false);
    cJSON_AddStringToObject(json, "access_type", "PRIVATE");
    if (s->minor >= 10) {
        cJSON_AddNullToObject(json, "workspace_id");
        cJSON_AddNullToObject(json, "name_key");
    }
    if (s->minor >= 13) {
        cJSON_AddStringToObject(json, "flow_type", "workflow");
        cJSON_AddBoolToObject(json, "a2a_enabled", false);
        cJSON_AddNullToObject(json, "a2a_card_overrides");
    }
    return json;
}

struct lf_record *lf_flow_new(struct lf_store *s, struct lf_record *user, const char *id,
                              const cJSON *wanted)
{
    cJSON *json = blank_flow(s);
    const char *folder;
    lf_take(json, wanted, taken);
    cJSON_AddStringToObject(json, "user_id", user->id);
    set_free_name(s, user, LF_FLOW, "name", json);
    set_free_name(s, user, LF_FLOW, "endpoint_name", json);
    folder = json_str(json, "folder_id");
    if (!folder || !lf_own(s, LF_PROJECT, user, folder)) {
        const struct lf_record *usual = lf_project_default(s, user);
        lf_set(json, "folder_id", cJSON_CreateString(usual ? usual->id : ""));
    }
    touch(json);
    return lf_add(s, LF_FLOW, user, id, NULL, json);
}

static void answer_flow(struct lf_call *c, int status, const struct lf_record *flow)
{
    reply_json(c->out, status, flow ? cJSON_Duplicate(flow->json, true) : NULL);
}

/* ---- calls ---- */

/* Not whose it is, nor whether it is locked. */
static cJSON *brief(const struct lf_store *s, const struct lf_record *f)
{
    static const char *const shown[] = {
        "id",   "name",        "folder_id",   "is_component", "endpoint_name",      "description",
        "data", "access_type", "mcp_enabled", "tags",         "action_description", "action_name"};
    static const char *const newer[] = {"flow_type", "a2a_enabled", "a2a_card_overrides",
                                        "updated_at"};
    cJSON *json = cJSON_CreateObject();
    for (size_t i = 0; i < ARRAY_LEN(shown) + (s->minor >= 13 ? ARRAY_LEN(newer) : 0); i++) {
        const char *name = i < ARRAY_LEN(shown) ? shown[i] : newer[i - ARRAY_LEN(shown)];
        const cJSON *v = cJSON_GetObjectItemCaseSensitive(f->json, name);
        bool null = !v || str_eq(name, "data");
        cJSON_AddItemToObject(json, name, null ? cJSON_CreateNull() : cJSON_Duplicate(v, true));
    }
    return json;
}

void lf_flow_list(struct lf_call *c)
{
    bool headers = str_eq(call_argument(c->http, "header_flows"), "true");
    cJSON *json = cJSON_CreateArray();
    for (struct lf_record *f = lf_first(c->s, c->user, LF_FLOW); f; f = lf_next(c->s, f))
        cJSON_AddItemToArray(json, headers ? brief(c->s, f) : cJSON_Duplicate(f->json, true));
    lf_compress(c, json);
}

void lf_flow_create(struct lf_call *c)
{
    char id[UUID_TEXT] = "";
    const char *wanted = json_str(c->body, "id");
    if (!check_flow(c, true))
        return;
    if (c->s->minor >= 10 && wanted && !uuid_parse(wanted, strlen(wanted), id)) {
        lf_invalid(c, "id", "Input should be a valid UUID");
        return;
    }
    if (*id && reserved(c, id))
        return;
    if (*id && lf_find(c->s, LF_FLOW, id)) {
        if (c->s->minor >= 13)
            reply_detail(c->out, 400, "Id must be unique");
        else
            reply_detail(c->out, 500, "An internal error occurred while creating the flow.");
        return;
    }
    answer_flow(c, 201, lf_flow_new(c->s, c->user, *id ? id : NULL, c->body));
}

static struct lf_record *own_flow(struct lf_call *c)
{
    struct lf_record *f = lf_own(c->s, LF_FLOW, c->user, c->id);
    if (!f)
        reply_detail(c->out, 404, "Flow not found");
    return f;
}

void lf_flow_get(struct lf_call *c)
{
    struct lf_record *f = own_flow(c);
    if (f)
        answer_flow(c, 200, f);
}

void lf_flow_public(struct lf_call *c)
{
    struct lf_record *f = lf_find(c->s, LF_FLOW, c->id);
    if (f && str_eq(text_of(f, "access_type"), "PUBLIC"))
        answer_flow(c, 200, f);
    else if (c->s->minor >= 13)
        reply_detail(c->out, 404, "Flow not found");
    else
        reply_detail(c->out, 403, "Flow is not public");
}

/* From 1.13 on a locked flow may be unlocked, or told what it is already; nothing else. */
static bool is_locked(struct lf_call *c, const struct lf_record *f)
{
    bool changes = false;
    for (const char *const *m = taken; *m && !changes; m++) {
        const cJSON *v = cJSON_GetObjectItemCaseSensitive(c->body, *m);
        const cJSON *now = cJSON_GetObjectItemCaseSensitive(f->json, *m);
        changes = v && !cJSON_IsNull(v) && !str_eq(*m, "locked") && !cJSON_Compare(v, now, true);
    }
    if (c->s->minor < 13 || !json_bool(f->json, "locked", false) || !changes)
        return false;
    reply_detail(c->out, 423, "Flow is locked. Unlock it before making changes.");
    return true;
}

/* What is not named, or null, stays; but 1.8 clears an endpoint name that is not named. */
static void overwrite(struct lf_call *c, struct lf_record *f)
{
    const cJSON *endpoint = cJSON_GetObjectItemCaseSensitive(c->body, "endpoint_name");
    const char *text = cJSON_GetStringValue(endpoint);
    lf_take(f->json, c->body, taken);
    if ((endpoint || c->s->minor < 10) && (!text || !*text))
        lf_set(f->json, "endpoint_name", cJSON_CreateNull());
    touch(f->json);
    f->changes++;
    answer_flow(c, 200, f);
}

void lf_flow_put(struct lf_call *c)
{
    struct lf_record *there = lf_find(c->s, LF_FLOW, c->id);
    if (!check_flow(c, true) || reserved(c, c->id))
        return;
    if (there && there->owner != c->user)
        reply_detail(c->out, 404, "Flow not found");
    else if (bad_folder(c) || (there && is_locked(c, there)))
        return;
    else if (there && clashes(c, there, "name"))
        reply_detail(c->out, 409, "Name must be unique");
    else if (clashes(c, there, "endpoint_name"))
        reply_detail(c->out, 409, "Endpoint name must be unique");
    else if (there)
        overwrite(c, there);
    else if (lf_taken(c->s, LF_FLOW, c->id)) /* its commit is still to come: the key is unique */
        reply_detail(c->out, 500, "UNIQUE constraint failed: flow.id");
    else
        answer_flow(c, 201, lf_flow_new(c->s, c->user, c->id, c->body));
}

void lf_flow_patch(struct lf_call *c)
{
    struct lf_record *f = own_flow(c);
    if (!f || !check_flow(c, false) || is_locked(c, f))
        return;
    if (clashes(c, f, "name"))
        reply_detail(c->out, 400, "%s",
                     c->s->minor >= 13 ? "Name must be unique" : " flow must be unique");
    else if (clashes(c, f, "endpoint_name"))
        reply_detail(c->out, 400, "Endpoint name must be unique");
    else
        overwrite(c, f);
}

void lf_flow_delete(struct lf_call *c)
{
    struct lf_record *f = own_flow(c);
    if (!f)
        return;
    lf_remove(c->s, f, 0);
    cJSON *json = cJSON_CreateObject();
    cJSON_AddStringToObject(json, "message", "Flow deleted successfully");
    reply_json(c->out, 200, json);
}

void lf_flow_delete_many(struct lf_call *c)
{
    const cJSON *one;
    int deleted = 0;
    if (!cJSON_IsArray(c->body) || cJSON_GetArraySize(c->body) > FLOWS_AT_ONCE) {
        lf_invalid(c, "body", "Input should be a valid list");
        return;
    }
    cJSON_ArrayForEach(one, c->body)
    {
        struct lf_record *f =
            cJSON_IsString(one) ? lf_own(c->s, LF_FLOW, c->user, one->valuestring) : NULL;
        if (!f)
            continue;
        lf_remove(c->s, f, 0);
        deleted++;
    }
    cJSON *json = cJSON_CreateObject();
    cJSON_AddNumberToObject(json, "deleted", deleted);
    reply_json(c->out, 200, json);
}
