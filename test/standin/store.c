/*
 * The objects of one endpoint and the facade's rules over them. Lookups by id and by name are
 * hashed, so that a storm of thousands of objects measures the worker, not this.
 */
#include "standin.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/str.h"
#include "base/uuid.h"

enum { BUCKETS = 8192, NAME_MAX_BYTES = 128 };

struct object {
    uint64_t seq;
    cJSON *json;
    const char *id, *name; /* inside json */
    bool planted;
    int64_t changes;
    struct object *older, *newer;
    struct object *next_id, *next_name;
};

enum noun { WORKSPACES, COLLECTIONS, NOUNS };

struct store {
    enum noun noun;
    char *token;
    struct object *oldest, *newest;
    struct object *by_id[BUCKETS], *by_name[BUCKETS];
    uint64_t created, deleted;
};

static size_t bucket(const char *s)
{
    uint64_t h = 14695981039346656037ULL; /* FNV-1a */
    for (; *s; s++)
        h = (h ^ (unsigned char)*s) * 1099511628211ULL;
    return (size_t)(h % BUCKETS);
}

static void store_free(void *store)
{
    struct store *s = store;
    if (!s)
        return;
    free(s->token);
    for (struct object *o = s->oldest, *next; o; o = next) {
        next = o->newer;
        cJSON_Delete(o->json);
        free(o);
    }
    free(s);
}

static void *store_new(enum noun noun, const char *token)
{
    struct store *s = calloc(1, sizeof(*s));
    if (!s)
        return NULL;
    s->noun = noun;
    s->token = str_dup(token);
    if (s->token)
        return s;
    store_free(s);
    return NULL;
}

static struct object *find_id(const struct store *s, const char *id)
{
    struct object *o = s->by_id[bucket(id)];
    while (o && !str_eq(o->id, id))
        o = o->next_id;
    return o;
}

static struct object *find_name(const struct store *s, const char *name)
{
    struct object *o = s->by_name[bucket(name)];
    while (o && !str_eq(o->name, name))
        o = o->next_name;
    return o;
}

/* Takes the tree, which must hold strings `id` and `name`. */
static struct object *insert(struct store *s, cJSON *json, bool planted)
{
    struct object *o = calloc(1, sizeof(*o));
    if (!o) {
        cJSON_Delete(json);
        return NULL;
    }
    o->json = json;
    o->id = json_str(json, "id");
    o->name = json_str(json, "name");
    o->planted = planted;
    o->seq = ++s->created;
    o->older = s->newest;
    if (s->newest)
        s->newest->newer = o;
    else
        s->oldest = o;
    s->newest = o;
    struct object **id = &s->by_id[bucket(o->id)], **name = &s->by_name[bucket(o->name)];
    o->next_id = *id;
    *id = o;
    o->next_name = *name;
    *name = o;
    return o;
}

static void erase(struct store *s, struct object *o)
{
    struct object **at = &s->by_id[bucket(o->id)];
    while (*at != o)
        at = &(*at)->next_id;
    *at = o->next_id;
    at = &s->by_name[bucket(o->name)];
    while (*at != o)
        at = &(*at)->next_name;
    *at = o->next_name;
    if (o->older)
        o->older->newer = o->newer;
    else
        s->oldest = o->newer;
    if (o->newer)
        o->newer->older = o->older;
    else
        s->newest = o->older;
    s->deleted++;
    cJSON_Delete(o->json);
    free(o);
}

/* ---- checks ---- */

static bool check_string(const cJSON *body, const char *name, bool required, struct reply *out)
{
    const cJSON *v = json_get(body, name);
    if (!v && !required)
        return true;
    if (!v || !cJSON_IsString(v) || (required && !*v->valuestring)) {
        reply_detail(out, 422, "/%s: a %sstring is wanted", name, required ? "non-empty " : "");
        return false;
    }
    return true;
}

static bool check_int(const cJSON *body, const char *name, int64_t min, int64_t max,
                      struct reply *out)
{
    int64_t n;
    if (!json_get(body, name))
        return true;
    if (!json_i64(body, name, &n) || n < min || n > max) {
        reply_detail(out, 422, "/%s: a whole number from %lld to %lld is wanted", name,
                     (long long)min, (long long)max);
        return false;
    }
    return true;
}

static bool check_variables(const cJSON *body, struct reply *out)
{
    const cJSON *v = json_get(body, "variables");
    if (v && !cJSON_IsObject(v)) {
        reply_detail(out, 422, "/variables: an object is wanted");
        return false;
    }
    return true;
}

static bool check_new(const struct store *s, const cJSON *body, struct reply *out)
{
    if (!cJSON_IsObject(body)) {
        reply_detail(out, 422, "an object is wanted");
        return false;
    }
    if (!check_string(body, "name", true, out))
        return false;
    if (strlen(json_str(body, "name")) > NAME_MAX_BYTES) {
        reply_detail(out, 422, "/name: at most %d bytes", NAME_MAX_BYTES);
        return false;
    }
    if (s->noun == WORKSPACES)
        return check_string(body, "flow_id", true, out) && check_variables(body, out);
    return check_string(body, "embedding_model", true, out) &&
           check_string(body, "description", false, out) &&
           check_int(body, "chunk_size", 1, 65536, out) &&
           check_int(body, "chunk_overlap", 0, 65535, out);
}

/* ---- the facade ---- */

static void take_member(cJSON *to, const cJSON *from, const char *name)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(from, name);
    if (v)
        cJSON_AddItemToObject(to, name, cJSON_Duplicate(v, true));
}

static cJSON *new_object(const struct store *s, const cJSON *body)
{
    static const char *const members[NOUNS][6] = {
        {"name", "flow_id", "variables"},
        {"name", "embedding_model", "chunk_size", "chunk_overlap", "description"},
    };
    char id[UUID_TEXT], now[CLOCK_TEXT_MAX];
    uuid_make(id);
    clock_format(now, clock_wall_us());
    cJSON *json = cJSON_CreateObject();
    cJSON_AddStringToObject(json, "id", id);
    for (size_t i = 0; members[s->noun][i]; i++)
        take_member(json, body, members[s->noun][i]);
    if (s->noun == WORKSPACES && !json_get(json, "variables"))
        cJSON_AddObjectToObject(json, "variables");
    cJSON_AddStringToObject(json, "created_at", now);
    return json;
}

static void create(struct store *s, const cJSON *body, struct reply *out)
{
    if (!check_new(s, body, out))
        return;
    if (find_name(s, json_str(body, "name"))) {
        reply_detail(out, 409, "the name is taken");
        return;
    }
    struct object *o = insert(s, new_object(s, body), false);
    if (!o) {
        reply_detail(out, 500, "out of memory");
        return;
    }
    cJSON *answer = cJSON_CreateObject();
    cJSON_AddStringToObject(answer, "id", o->id);
    cJSON_AddStringToObject(answer, "name", o->name);
    reply_json(out, 201, answer);
}

static void list(const struct store *s, const char *name, struct reply *out)
{
    cJSON *answer = cJSON_CreateArray();
    if (name) {
        for (struct object *o = s->by_name[bucket(name)]; o; o = o->next_name) {
            if (str_eq(o->name, name))
                cJSON_AddItemToArray(answer, cJSON_Duplicate(o->json, true));
        }
    } else {
        for (struct object *o = s->oldest; o; o = o->newer)
            cJSON_AddItemToArray(answer, cJSON_Duplicate(o->json, true));
    }
    reply_json(out, 200, answer);
}

static void patch(struct object *o, const cJSON *body, struct reply *out)
{
    if (!cJSON_IsObject(body)) {
        reply_detail(out, 422, "an object is wanted");
        return;
    }
    if (!check_variables(body, out) || !check_string(body, "flow_id", false, out))
        return;
    const cJSON *flow = json_get(body, "flow_id");
    if (flow)
        cJSON_ReplaceItemInObjectCaseSensitive(o->json, "flow_id", cJSON_Duplicate(flow, true));
    cJSON *mine = cJSON_GetObjectItemCaseSensitive(o->json, "variables");
    if (!mine)
        mine = cJSON_AddObjectToObject(o->json, "variables");
    const cJSON *v;
    cJSON_ArrayForEach(v, json_get(body, "variables"))
    {
        cJSON_DeleteItemFromObjectCaseSensitive(mine, v->string);
        cJSON_AddItemToObject(mine, v->string, cJSON_Duplicate(v, true));
    }
    o->changes++;
    reply_json(out, 200, cJSON_Duplicate(o->json, true));
}

static void handle_collection(struct store *s, const struct call *c, struct reply *out)
{
    if (str_eq(c->method, "GET")) {
        list(s, call_argument(c, "name"), out);
    } else if (str_eq(c->method, "POST")) {
        cJSON *body = reply_parse(out, c->body, c->body_len);
        if (body)
            create(s, body, out);
        cJSON_Delete(body);
    } else {
        reply_detail(out, 405, "method not allowed");
    }
}

static void handle_one(struct store *s, const struct call *c, const char *id, struct reply *out)
{
    struct object *o = find_id(s, id);
    bool patchable = s->noun == WORKSPACES;
    if (!o) {
        reply_detail(out, 404, "no such object");
    } else if (str_eq(c->method, "GET")) {
        reply_json(out, 200, cJSON_Duplicate(o->json, true));
    } else if (str_eq(c->method, "DELETE")) {
        erase(s, o);
        out->status = 204;
    } else if (str_eq(c->method, "PATCH") && patchable) {
        cJSON *body = reply_parse(out, c->body, c->body_len);
        if (body)
            patch(o, body, out);
        cJSON_Delete(body);
    } else {
        reply_detail(out, 405, "method not allowed");
    }
}

static bool authorized(const struct store *s, const struct call *c)
{
    static const char scheme[] = "Bearer ";
    const char *given = call_header(c, "Authorization");
    return given && str_starts(given, scheme) && str_eq(given + strlen(scheme), s->token);
}

static void store_handle(void *store, const struct call *c, struct reply *out)
{
    struct store *s = store;
    static const char *const roots[NOUNS] = {"/api/v1/workspaces", "/api/v1/collections"};
    const char *root = roots[s->noun];
    const char *rest = str_starts(c->path, root) ? c->path + strlen(root) : NULL;
    if (!authorized(s, c))
        reply_detail(out, 401, "not authenticated");
    else if (rest && !*rest)
        handle_collection(s, c, out);
    else if (rest && rest[0] == '/' && rest[1] && !strchr(rest + 1, '/'))
        handle_one(s, c, rest + 1, out);
    else
        reply_detail(out, 404, "not found");
}

/* ---- for tests ---- */

static bool plant_one(struct store *s, const cJSON *wanted, cJSON *ids)
{
    if (!json_str(wanted, "name"))
        return false;
    cJSON *json = cJSON_Duplicate(wanted, true);
    if (!json_str(json, "id")) {
        char id[UUID_TEXT];
        uuid_make(id);
        cJSON_DeleteItemFromObjectCaseSensitive(json, "id");
        cJSON_AddStringToObject(json, "id", id);
    }
    struct object *o = insert(s, json, true);
    if (o)
        cJSON_AddItemToArray(ids, cJSON_CreateString(o->id));
    return o != NULL;
}

static void store_plant(void *store, const cJSON *objects, struct reply *out)
{
    struct store *s = store;
    cJSON *answer = cJSON_CreateObject();
    cJSON *ids = cJSON_AddArrayToObject(answer, "ids");
    bool ok = true;
    if (cJSON_IsArray(objects)) {
        const cJSON *one;
        cJSON_ArrayForEach(one, objects) ok = ok && plant_one(s, one, ids);
    } else {
        ok = plant_one(s, objects, ids);
    }
    if (ok) {
        reply_json(out, 201, answer);
        return;
    }
    cJSON_Delete(answer);
    reply_detail(out, 422, "every object needs a name");
}

static const char *marker(const struct store *s, const struct object *o)
{
    bool workspaces = s->noun == WORKSPACES;
    return json_str(o->json, workspaces ? "variables.waldur_subscription" : "description");
}

static void store_list(void *store, struct reply *out)
{
    const struct store *s = store;
    cJSON *answer = cJSON_CreateObject();
    cJSON *objects = cJSON_AddArrayToObject(answer, "objects");
    for (const struct object *o = s->oldest; o; o = o->newer) {
        cJSON *one = cJSON_CreateObject();
        const char *mark = marker(s, o);
        cJSON_AddNumberToObject(one, "seq", (double)o->seq);
        cJSON_AddItemToObject(one, "marker", mark ? cJSON_CreateString(mark) : cJSON_CreateNull());
        cJSON_AddBoolToObject(one, "planted", o->planted);
        cJSON_AddNumberToObject(one, "changes", (double)o->changes);
        cJSON_AddItemToObject(one, "object", cJSON_Duplicate(o->json, true));
        cJSON_AddItemToArray(objects, one);
    }
    cJSON_AddNumberToObject(answer, "created", (double)s->created);
    cJSON_AddNumberToObject(answer, "deleted", (double)s->deleted);
    reply_json(out, 200, answer);
}

/* ---- the two dialects ---- */

static void *workspaces_new(const char *token, const char *profile)
{
    (void)profile;
    return store_new(WORKSPACES, token);
}

static void *collections_new(const char *token, const char *profile)
{
    (void)profile;
    return store_new(COLLECTIONS, token);
}

const struct dialect dialect_workspaces = {.name = "workspaces",
                                           .body_max = FACADE_BODY_MAX,
                                           .new = workspaces_new,
                                           .free = store_free,
                                           .handle = store_handle,
                                           .plant = store_plant,
                                           .list = store_list};

const struct dialect dialect_collections = {.name = "collections",
                                            .body_max = FACADE_BODY_MAX,
                                            .new = collections_new,
                                            .free = store_free,
                                            .handle = store_handle,
                                            .plant = store_plant,
                                            .list = store_list};
