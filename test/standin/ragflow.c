/*
 * The stand-in RAGFlow's way in: routes by version, whose key it is, and the shape of answers.
 */
#include "ragflow.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/rng.h"
#include "base/str.h"

enum {
    V024 = 1 << RAGFLOW_024,
    PYTHON = 1 << RAGFLOW_PYTHON,
    GO = 1 << RAGFLOW_GO,
    V027 = PYTHON | GO,
    ALL = V024 | V027
};

static const char *const profiles[] = {"0.27-python", "0.24", "0.27-go", NULL};

/* ---- small things ---- */

void ragflow_id(char out[RAGFLOW_ID])
{
    unsigned char raw[16];
    rng_bytes(raw, sizeof(raw));
    str_hex(out, raw, sizeof(raw));
    out[12] = '1'; /* the product makes version 1, and old ones accept no other */
    out[16] = '9';
}

void ragflow_random(char *out, const char *prefix, size_t n)
{
    static const char alphabet[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    size_t at = strlen(prefix);
    memcpy(out, prefix, at);
    rng_bytes(out + at, n);
    for (size_t i = at; i < at + n; i++)
        out[i] = alphabet[(unsigned char)out[i] % 64];
    out[at + n] = 0;
}

void ragflow_set(cJSON *to, const char *name, cJSON *value)
{
    if (cJSON_GetObjectItemCaseSensitive(to, name))
        cJSON_ReplaceItemInObjectCaseSensitive(to, name, value);
    else
        cJSON_AddItemToObject(to, name, value);
}

void ragflow_set_text(cJSON *to, const char *name, const char *text)
{
    ragflow_set(to, name, text ? cJSON_CreateString(text) : cJSON_CreateNull());
}

void ragflow_stamp(cJSON *to, bool update)
{
    int64_t ms = clock_wall_us() / 1000;
    time_t seconds = (time_t)(ms / 1000);
    struct tm tm;
    char date[64];
    gmtime_r(&seconds, &tm);
    strftime(date, sizeof(date), "%a, %d %b %Y %H:%M:%S GMT", &tm);
    ragflow_set(to, update ? "update_time" : "create_time", cJSON_CreateNumber((double)ms));
    ragflow_set_text(to, update ? "update_date" : "create_date", date);
}

/* ---- answers ---- */

static void answer(struct ask *a, int code, cJSON *data, const char *message)
{
    cJSON *json = cJSON_CreateObject();
    cJSON_AddNumberToObject(json, "code", code);
    if (data)
        cJSON_AddItemToObject(json, "data", data);
    if (message)
        cJSON_AddStringToObject(json, "message", message);
    else if (a->r->profile == RAGFLOW_GO)
        cJSON_AddNullToObject(json, "message");
    reply_json(a->out, 200, json);
}

void ask_ok(struct ask *a, cJSON *data)
{
    answer(a, 0, data, NULL);
}

void ask_success(struct ask *a, cJSON *data)
{
    answer(a, 0, data, "success");
}

void ask_fail(struct ask *a, int code, const char *fmt, ...)
{
    struct buf text;
    buf_init(&text, STANDIN_BODY_MAX);
    va_list ap;
    va_start(ap, fmt);
    buf_vaddf(&text, fmt, ap);
    va_end(ap);
    answer(a, code, a->r->profile == RAGFLOW_GO ? cJSON_CreateNull() : NULL, buf_str(&text));
    buf_done(&text);
}

int ask_miss_code(const struct ask *a)
{
    return a->r->profile == RAGFLOW_024 ? CODE_PERMISSION : CODE_DATA;
}

/* As the frameworks' own error handlers write: data first and null. */
static void http_error(struct ask *a, int status, int code, const char *error, const char *message)
{
    cJSON *json = cJSON_CreateObject();
    cJSON_AddNumberToObject(json, "code", code);
    cJSON_AddNullToObject(json, "data");
    if (error)
        cJSON_AddStringToObject(json, "error", error);
    cJSON_AddStringToObject(json, "message", message);
    reply_json(a->out, status, json);
}

static bool is_json_type(const char *type)
{
    static const char json[] = "application/json";
    return type && str_starts(type, json) && strchr("; ", type[strlen(json)]);
}

cJSON *ask_body(struct ask *a)
{
    static const struct json_limits limits = {
        .size = STANDIN_BODY_MAX, .depth = 64, .string = STANDIN_BODY_MAX};
    int code = a->r->profile == RAGFLOW_GO ? CODE_DATA : CODE_ARGUMENT;
    const char *type = call_header(a->call, "Content-Type");
    struct json_fault fault;
    cJSON *json = NULL;
    if (!is_json_type(type)) {
        ask_fail(a, code, "Unsupported content type: Expected application/json, got %s",
                 type ? type : "None");
        return NULL;
    }
    if (json_parse(a->call->body, a->call->body_len, &limits, &json, &fault) < 0) {
        ask_fail(a, code, "Malformed JSON syntax: Missing commas/brackets or invalid encoding");
        return NULL;
    }
    if (!cJSON_IsObject(json)) {
        cJSON_Delete(json);
        ask_fail(a, code, "Invalid request payload: expected object");
        return NULL;
    }
    check_mark_floats(json, a->call->body);
    return json;
}

/* ---- system ---- */

static void ping(struct ask *a)
{
    static const char pong[] = "pong";
    reply_bytes(a->out, 200, "text/html; charset=utf-8", str_dup(pong), strlen(pong));
}

static void healthz(struct ask *a)
{
    static const char *const parts[] = {"db", "redis", "doc_engine", "storage", "status"};
    bool down = a->r->settings.database_down;
    cJSON *json = cJSON_CreateObject();
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        bool hit = down && (str_eq(parts[i], "db") || str_eq(parts[i], "status"));
        cJSON_AddStringToObject(json, parts[i], hit ? "nok" : "ok");
    }
    if (down) {
        cJSON *db = cJSON_AddObjectToObject(cJSON_AddObjectToObject(json, "_meta"), "db");
        cJSON_AddStringToObject(db, "elapsed", "3.0");
        cJSON_AddStringToObject(db, "error", "Can't connect to MySQL server");
    }
    reply_json(a->out, down ? 500 : 200, json);
}

static void version(struct ask *a)
{
    ask_success(a, cJSON_CreateString(a->r->settings.version));
}

static void config(struct ask *a)
{
    cJSON *data = cJSON_CreateObject();
    cJSON_AddBoolToObject(data, "disablePasswordLogin", false);
    cJSON_AddNumberToObject(data, "registerEnabled", (double)a->r->settings.register_enabled);
    ask_success(a, data);
}

static void language(struct ask *a)
{
    cJSON *data = cJSON_CreateObject();
    cJSON_AddStringToObject(data, "language", a->r->profile == RAGFLOW_GO ? "go" : "python");
    ask_success(a, data);
}

/* ---- routes ---- */

static const struct route routes[] = {
    {"POST", "/api/v1/datasets", ALL, false, datasets_create},
    {"GET", "/api/v1/datasets", ALL, false, datasets_list},
    {"DELETE", "/api/v1/datasets", ALL, false, datasets_delete},
    {"GET", "/api/v1/datasets/*", V027, false, datasets_get},
    {"PUT", "/api/v1/datasets/*", ALL, false, datasets_update},
    {"GET", "/api/v1/datasets/*/documents", ALL, false, documents_list},
    {"POST", "/api/v1/datasets/*/documents", ALL, false, documents_upload},
    {"DELETE", "/api/v1/datasets/*/documents", ALL, false, documents_delete},
    {"GET", "/api/v1/system/ping", V027, true, ping},
    {"GET", "/api/v1/system/healthz", V027, true, healthz},
    {"GET", "/api/v1/system/version", V027, true, version},
    {"GET", "/api/v1/system/config", V027, true, config},
    {"GET", "/api/v1/language", V027, true, language},
    {"GET", "/api/v1/system/tokens", V027, false, keys_list},
    {"POST", "/api/v1/system/tokens", V027, false, keys_create},
    {"DELETE", "/api/v1/system/tokens/*", V027, false, keys_delete},
    {"GET", "/api/v1/users/me", V027, false, users_me},
    {"POST", "/api/v1/tenants/*/users", V027, false, team_invite},
    {"PATCH", "/api/v1/tenants/*", V027, false, team_accept},
    {"PUT", "/api/v1/providers", V027, false, provider_add},
    {"POST", "/api/v1/providers/*/instances", V027, false, provider_add_instance},
    {"GET", "/api/v1/providers/*/instances/*", V027, false, provider_get_instance},
    {"GET", "/api/v1/models", V027, false, models_list},
    {"PATCH", "/api/v1/models/default", V027, false, models_default},
    {"GET", "/v1/system/ping", V024, true, ping},
    {"GET", "/v1/system/healthz", ALL, true, healthz},
    {"GET", "/v1/system/version", V024, false, version},
    {"GET", "/v1/system/config", V024, true, config},
    {"GET", "/v1/system/token_list", V024, false, keys_list},
    {"POST", "/v1/system/new_token", V024, false, keys_create},
    {"DELETE", "/v1/system/token/*", V024, false, keys_delete},
};

/* One segment after another; stars take theirs into a->part. */
static bool route_matches(const char *route, const char *path, struct ask *a)
{
    size_t star = 0;
    while (*route && *path) {
        size_t n = strcspn(route + 1, "/") + 1, m = strcspn(path + 1, "/") + 1;
        if (route[1] == '*') {
            if (m == 1 || m > sizeof(a->part[0]) || star == RAGFLOW_PARTS_MAX)
                return false;
            memcpy(a->part[star], path + 1, m - 1);
            a->part[star++][m - 1] = 0;
        } else if (n != m || memcmp(route, path, n) != 0) {
            return false;
        }
        route += n;
        path += m;
    }
    return !*route && !*path;
}

const struct route *route_find(const struct route *table, size_t n, struct ask *a,
                               bool *other_method)
{
    *other_method = false;
    for (size_t i = 0; i < n; i++) {
        if (!(table[i].profiles & 1U << a->r->profile) ||
            !route_matches(table[i].path, a->call->path, a))
            continue;
        if (str_eq(table[i].method, a->call->method))
            return &table[i];
        *other_method = true;
    }
    return NULL;
}

/* ---- whose key ---- */

static void unauthorized(struct ask *a, bool missing)
{
    cJSON *json;
    switch (a->r->profile) {
    case RAGFLOW_PYTHON:
        http_error(a, 401, 401, NULL, "<Unauthorized '401: Unauthorized'>");
        return;
    case RAGFLOW_GO:
        http_error(a, 401, 401, NULL, "Invalid access token");
        return;
    case RAGFLOW_024:
        json = cJSON_CreateObject();
        cJSON_AddNumberToObject(json, "code", missing ? 0 : CODE_AUTHENTICATION);
        cJSON_AddBoolToObject(json, "data", false);
        cJSON_AddStringToObject(json, "message",
                                missing ? "`Authorization` can't be empty"
                                        : "Authentication error: API key is invalid!");
        reply_json(a->out, 200, json);
    }
}

/* A database that is away makes every key unknown: that is how the product answers then. */
static bool authorize(struct ask *a)
{
    static const char scheme[] = "Bearer ";
    const char *given = call_header(a->call, "Authorization");
    const char *key = given && str_starts(given, scheme) ? given + strlen(scheme) : given;
    a->tenant = key && !a->r->settings.database_down ? tenant_by_key(a->r, key) : NULL;
    if (!a->tenant) {
        unauthorized(a, !given);
        return false;
    }
    if (a->r->profile == RAGFLOW_GO && a->tenant->superuser) {
        http_error(a, 403, 403, NULL, "Super user shouldn't access the URL");
        return false;
    }
    return true;
}

static void not_found(struct ask *a)
{
    struct buf text;
    buf_init(&text, 4096);
    buf_addf(&text, "Not Found: %s", a->call->path);
    http_error(a, 404, 404, "Not Found", buf_str(&text));
    buf_done(&text);
}

static void handle(void *store, const struct call *c, struct reply *out)
{
    struct ask a = {.r = store, .call = c, .out = out};
    bool other_method;
    if (str_starts(c->path, "/api/v1/admin/")) {
        admin_service(&a);
        return;
    }
    const struct route *route = route_find(routes, ARRAY_LEN(routes), &a, &other_method);
    if (!route && other_method)
        http_error(&a, 200, CODE_EXCEPTION, NULL, "<MethodNotAllowed '405: Method Not Allowed'>");
    else if (!route)
        not_found(&a);
    else if (route->open || authorize(&a))
        route->handler(&a);
}

/* ---- life ---- */

static void ragflow_free(void *store)
{
    struct ragflow *r = store;
    if (!r)
        return;
    for (struct dataset *d = r->oldest, *next; d; d = next) {
        next = d->newer;
        dataset_free(d);
    }
    for (struct tenant *t = r->tenants, *next; t; t = next) {
        next = t->next;
        tenant_free(t);
    }
    cJSON_Delete(r->blobs);
    free(r);
}

static void *ragflow_new(const char *token, const char *profile)
{
    static const enum ragflow_profile order[] = {RAGFLOW_PYTHON, RAGFLOW_024, RAGFLOW_GO};
    struct ragflow *r = calloc(1, sizeof(*r));
    if (!r)
        return NULL;
    for (size_t i = 0; profiles[i]; i++) {
        if (str_eq(profile, profiles[i]))
            r->profile = order[i];
    }
    r->settings.register_enabled = 1;
    str_copy(r->settings.version, sizeof(r->settings.version),
             r->profile == RAGFLOW_024 ? "v0.24.0" : "v0.27.0");
    r->blobs = cJSON_CreateObject();
    struct tenant *t = tenant_add(r, "platform@example.com");
    if (r->blobs && t && tenant_mint(t, token))
        return r;
    ragflow_free(r);
    return NULL;
}

const struct dialect dialect_ragflow = {.name = "ragflow",
                                        .profiles = profiles,
                                        .body_max = STANDIN_BODY_MAX,
                                        .own_health = false,
                                        .new = ragflow_new,
                                        .free = ragflow_free,
                                        .handle = handle,
                                        .plant = ragflow_plant,
                                        .list = ragflow_objects,
                                        .admin = ragflow_admin};
