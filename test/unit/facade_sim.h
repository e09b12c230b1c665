/*
 * The facade's server inside a test: workspaces or collections, with the faults that a network and
 * a server add. Time is a call: sim_wait() lets hidden objects appear and late requests act.
 */
#ifndef TEST_FACADE_SIM_H
#define TEST_FACADE_SIM_H

#include <cjson/cJSON.h>
#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/exchange.h"
#include "base/json.h"
#include "base/str.h"
#include "driver/driver.h"

#define SIM_URL    "http://up.example/base"
#define SIM_NAME   "acme-corp-website-support-csa-001"
#define SIM_MARKER "waldur-subscription:2f1c9a52-6a0e-4c55-8f1e-5d2f0c9b7a01"
#define SIM_OTHER  "waldur-subscription:99999999-6a0e-4c55-8f1e-5d2f0c9b7a99"

enum { SIM_OBJECTS_MAX = 32, SIM_LATE_MAX = 8, SIM_ID_MAX = 512 };

struct sim_object {
    cJSON *json;
    bool hidden;  /* until the next wait */
    bool foreign; /* planted; touching it is the worst that can happen */
};

struct sim {
    bool collections;
    bool not_unique; /* names may be taken twice */
    bool loose;      /* ?name= answers everything */
    bool twice;      /* ?name= lists everything twice */
    bool renames;    /* a create is stored as "<name> (1)" */
    bool forgetful;  /* a create loses the marker */
    bool deaf;       /* PATCH and DELETE answer success and do nothing */
    struct sim_object objects[SIM_OBJECTS_MAX];
    size_t n;
    cJSON *late[SIM_LATE_MAX]; /* creates that act at the next wait */
    size_t n_late;
    unsigned ids;
    unsigned touched_foreign;
    unsigned posts, patches, deletes; /* that acted */
};

struct sim_reply {
    int status;
    char *body; /* NULL: none */
};

static inline void sim_done(struct sim *s)
{
    for (size_t i = 0; i < s->n; i++) {
        cJSON_Delete(s->objects[i].json);
    }
    for (size_t i = 0; i < s->n_late; i++) {
        cJSON_Delete(s->late[i]);
    }
    memset(s, 0, sizeof(*s));
}

static inline const char *sim_marker_of(const struct sim *s, const cJSON *json)
{
    return json_str(json, s->collections ? "description" : "variables.waldur_subscription");
}

static inline bool sim_ours(const struct sim *s, const struct sim_object *o)
{
    return str_eq(sim_marker_of(s, o->json), SIM_MARKER);
}

static inline size_t sim_count_ours(const struct sim *s)
{
    size_t n = 0;
    for (size_t i = 0; i < s->n; i++) {
        n += sim_ours(s, &s->objects[i]);
    }
    return n;
}

static inline struct sim_object *sim_by_id(struct sim *s, const char *id)
{
    for (size_t i = 0; i < s->n; i++) {
        if (str_eq(json_str(s->objects[i].json, "id"), id)) {
            return &s->objects[i];
        }
    }
    return NULL;
}

static inline struct sim_object *sim_by_name(struct sim *s, const char *name)
{
    for (size_t i = 0; i < s->n; i++) {
        if (str_eq(json_str(s->objects[i].json, "name"), name)) {
            return &s->objects[i];
        }
    }
    return NULL;
}

/* Takes json; gives it an id where it has none. */
static inline struct sim_object *sim_insert(struct sim *s, cJSON *json)
{
    char id[32];
    if (s->n == SIM_OBJECTS_MAX) {
        abort();
    }
    if (!json_str(json, "id")) {
        snprintf(id, sizeof(id), "id-%u", ++s->ids);
        cJSON_AddStringToObject(json, "id", id);
    }
    s->objects[s->n] = (struct sim_object){.json = json};
    return &s->objects[s->n++];
}

static inline void sim_erase(struct sim *s, struct sim_object *o)
{
    cJSON_Delete(o->json);
    *o = s->objects[--s->n];
}

/* An object as if somebody had made it; marker NULL: none. Foreign unless it bears our marker. */
static inline struct sim_object *sim_plant(struct sim *s, const char *id, const char *name,
                                           const char *marker)
{
    cJSON *json = cJSON_CreateObject();
    cJSON_AddStringToObject(json, "name", name);
    if (id) {
        cJSON_AddStringToObject(json, "id", id);
    }
    cJSON *holder = s->collections ? json : cJSON_AddObjectToObject(json, "variables");
    if (marker) {
        cJSON_AddStringToObject(holder, s->collections ? "description" : "waldur_subscription",
                                marker);
    }
    struct sim_object *o = sim_insert(s, json);
    o->foreign = !str_eq(marker, SIM_MARKER);
    return o;
}

static inline void sim_set(struct sim_object *o, const char *variable, const char *value)
{
    cJSON *v = cJSON_GetObjectItemCaseSensitive(o->json, "variables");
    cJSON_DeleteItemFromObjectCaseSensitive(v, variable);
    cJSON_AddStringToObject(v, variable, value);
}

static inline const char *sim_get(const struct sim_object *o, const char *variable)
{
    return json_str(cJSON_GetObjectItemCaseSensitive(o->json, "variables"), variable);
}

/* Somebody else's marker in the place of ours. */
static inline void sim_disown(struct sim *s, struct sim_object *o)
{
    if (s->collections) {
        cJSON_ReplaceItemInObjectCaseSensitive(o->json, "description",
                                               cJSON_CreateString(SIM_OTHER));
    } else {
        sim_set(o, "waldur_subscription", SIM_OTHER);
    }
    o->foreign = true;
}

/* ---- requests ---- */

static inline struct sim_object *sim_create(struct sim *s, const cJSON *body)
{
    cJSON *json = cJSON_Duplicate(body, true);
    if (s->renames) {
        char name[256];
        snprintf(name, sizeof(name), "%s (1)", json_str(body, "name"));
        cJSON_ReplaceItemInObjectCaseSensitive(json, "name", cJSON_CreateString(name));
    }
    if (s->forgetful) {
        cJSON_DeleteItemFromObjectCaseSensitive(json, "variables");
        cJSON_DeleteItemFromObjectCaseSensitive(json, "description");
    }
    s->posts++;
    return sim_insert(s, json);
}

static inline bool sim_taken(struct sim *s, const cJSON *body)
{
    return !s->not_unique && !s->renames && sim_by_name(s, json_str(body, "name"));
}

static inline void sim_wait(struct sim *s)
{
    for (size_t i = 0; i < s->n; i++) {
        s->objects[i].hidden = false;
    }
    for (size_t i = 0; i < s->n_late; i++) {
        if (!sim_taken(s, s->late[i])) {
            sim_create(s, s->late[i]);
        }
        cJSON_Delete(s->late[i]);
    }
    s->n_late = 0;
}

static inline void sim_answer(struct sim_reply *out, int status, cJSON *json)
{
    out->status = status;
    out->body = json ? json_text(json) : NULL;
    cJSON_Delete(json);
}

static inline void sim_merge(struct sim_object *o, const cJSON *body)
{
    cJSON *v = cJSON_GetObjectItemCaseSensitive(o->json, "variables");
    const cJSON *item = NULL;
    cJSON_ArrayForEach(item, json_get(body, "variables"))
    {
        cJSON_DeleteItemFromObjectCaseSensitive(v, item->string);
        if (!cJSON_IsNull(item)) { /* RFC 7396 */
            cJSON_AddItemToObject(v, item->string, cJSON_Duplicate(item, true));
        }
    }
}

static inline void sim_list(struct sim *s, const char *name, struct sim_reply *out)
{
    cJSON *array = cJSON_CreateArray();
    for (size_t i = 0; i < s->n * (s->twice ? 2 : 1); i++) {
        const struct sim_object *o = &s->objects[i % s->n];
        if (!o->hidden && (s->loose || str_eq(json_str(o->json, "name"), name))) {
            cJSON_AddItemToArray(array, cJSON_Duplicate(o->json, true));
        }
    }
    sim_answer(out, 200, array);
}

static inline void sim_one(struct sim *s, enum exchange_method method, const char *id,
                           const cJSON *body, struct sim_reply *out)
{
    struct sim_object *o = sim_by_id(s, id);
    bool changes = method != METHOD_GET;
    if (o && changes && o->foreign) {
        s->touched_foreign++;
    }
    if (!o || (o->hidden && !changes)) {
        sim_answer(out, 404, NULL);
    } else if (method == METHOD_GET) {
        sim_answer(out, 200, cJSON_Duplicate(o->json, true));
    } else if (method == METHOD_DELETE) {
        out->status = 204;
        s->deletes++;
        if (!s->deaf) {
            sim_erase(s, o);
        }
    } else if (method == METHOD_PATCH && !s->collections) {
        s->patches++;
        if (!s->deaf) {
            sim_merge(o, body);
        }
        sim_answer(out, 200, cJSON_Duplicate(o->json, true));
    } else {
        sim_answer(out, 405, NULL);
    }
}

static inline void sim_unescape(char *out, size_t size, const char *in)
{
    size_t n = 0;
    for (; *in && n + 1 < size; in++) {
        char c = *in;
        if (c == '%' && isxdigit((unsigned char)in[1]) && isxdigit((unsigned char)in[2])) {
            const char hex[] = {in[1], in[2], '\0'};
            c = (char)strtoul(hex, NULL, 16);
            in += 2;
        }
        out[n++] = c;
    }
    out[n] = '\0';
}

/* Splits the request's URL: *id or *name is filled, the other "". False for a strange path. */
static inline bool sim_route(const struct sim *s, const char *url, char id[SIM_ID_MAX],
                             char name[SIM_ID_MAX])
{
    char root[128];
    snprintf(root, sizeof(root), SIM_URL "/api/v1/%s",
             s->collections ? "collections" : "workspaces");
    id[0] = name[0] = '\0';
    if (!str_starts(url, root)) {
        return false;
    }
    const char *rest = url + strlen(root);
    if (rest[0] == '/') {
        sim_unescape(id, SIM_ID_MAX, rest + 1);
        return id[0] != '\0' && !strchr(rest + 1, '/') && !strchr(rest + 1, '?');
    }
    if (str_starts(rest, "?name=")) {
        sim_unescape(name, SIM_ID_MAX, rest + 6);
        return true;
    }
    return rest[0] == '\0';
}

static inline void sim_handle(struct sim *s, const struct exchange_request *r, bool hide,
                              struct sim_reply *out)
{
    char id[SIM_ID_MAX], name[SIM_ID_MAX];
    cJSON *body = r->body.len ? cJSON_Parse(buf_str(&r->body)) : NULL;
    *out = (struct sim_reply){0};
    if (!sim_route(s, r->url, id, name)) {
        sim_answer(out, 404, NULL);
    } else if (id[0]) {
        sim_one(s, r->method, id, body, out);
    } else if (r->method == METHOD_GET) {
        sim_list(s, name, out);
    } else if (r->method != METHOD_POST || !json_str(body, "name")) {
        sim_answer(out, 422, NULL);
    } else if (sim_taken(s, body)) {
        sim_answer(out, 409, NULL);
    } else {
        struct sim_object *o = sim_create(s, body);
        o->hidden = hide;
        cJSON *made = cJSON_CreateObject();
        cJSON_AddStringToObject(made, "id", json_str(o->json, "id"));
        cJSON_AddStringToObject(made, "name", json_str(o->json, "name"));
        sim_answer(out, 201, made);
    }
    cJSON_Delete(body);
}

/* ---- faults ---- */

enum fault_kind {
    FAULT_NONE,
    FAULT_NOT_SENT,
    FAULT_LOST_BEFORE, /* sent, did not act, no answer */
    FAULT_LOST_AFTER,  /* acted, no answer */
    FAULT_LATE,        /* a create acts at the next wait, no answer; else as LOST_BEFORE */
    FAULT_HIDDEN,      /* a create acts, is answered, and shows at the next wait */
    FAULT_HIDDEN_LOST, /* the same without an answer */
    FAULT_STATUS,      /* answers the status without acting */
    FAULT_STATUS_AFTER,
    FAULT_BODY,    /* acts, answers its own status with another body */
    FAULT_CUT,     /* acts, its body goes over the transport's cap */
    FAULT_CLAIMED, /* answers success to a change without acting */
    FAULT_KIND_MAX
};

struct fault {
    enum fault_kind kind;
    int status;
    int64_t retry_after_ms; /* 0: none */
    const char *body;
};

static inline bool fault_acts(enum fault_kind kind)
{
    return kind != FAULT_NOT_SENT && kind != FAULT_LOST_BEFORE && kind != FAULT_LATE &&
           kind != FAULT_STATUS && kind != FAULT_CLAIMED;
}

/* Performs the request. The response borrows from *reply (sim_reply_done). */
static inline struct exchange_response sim_exchange(struct sim *s, const struct exchange_request *r,
                                                    const struct fault *f, struct sim_reply *reply)
{
    bool hide = f->kind == FAULT_HIDDEN || f->kind == FAULT_HIDDEN_LOST;
    *reply = (struct sim_reply){0};
    if (fault_acts(f->kind)) {
        sim_handle(s, r, hide, reply);
    } else if (f->kind == FAULT_LATE && r->method == METHOD_POST && s->n_late < SIM_LATE_MAX) {
        s->late[s->n_late++] = cJSON_Parse(buf_str(&r->body));
    }
    struct exchange_response out = {.sent = f->kind != FAULT_NOT_SENT,
                                    .status = reply->status,
                                    .body = reply->body ? reply->body : "",
                                    .retry_after_ms = f->retry_after_ms ? f->retry_after_ms : -1};
    if (f->kind == FAULT_STATUS || f->kind == FAULT_STATUS_AFTER) {
        out.status = f->status;
        out.body = f->body ? f->body : "{\"detail\":\"words of the server\"}";
    } else if (f->kind == FAULT_BODY) {
        out.body = f->body;
    } else if (f->kind == FAULT_CLAIMED && r->method != METHOD_GET) {
        out.status = r->method == METHOD_POST ? 201 : r->method == METHOD_DELETE ? 204 : 200;
        out.body = r->method == METHOD_POST ? "{\"id\":\"id-0\",\"name\":\"" SIM_NAME "\"}" : "";
    } else if (f->kind == FAULT_CUT) {
        out.truncated = true;
        out.body = "";
    } else if (f->kind != FAULT_NONE && f->kind != FAULT_HIDDEN) {
        out.status = 0;
        out.body = "";
        str_copy(out.failure, sizeof(out.failure), "connection reset");
    }
    out.body_len = strlen(out.body);
    return out;
}

static inline void sim_reply_done(struct sim_reply *reply)
{
    free(reply->body);
    reply->body = NULL;
}

#endif
