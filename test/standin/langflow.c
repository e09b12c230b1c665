#include "langflow.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/str.h"

enum { PATH_MAX_BYTES = 1024, GZIP_BLOCK = 65535 };

/* ---- answers ---- */

void lf_invalid(struct lf_call *c, const char *member, const char *msg)
{
    cJSON *json = cJSON_CreateObject(), *detail = cJSON_AddArrayToObject(json, "detail");
    cJSON *one = cJSON_CreateObject(), *loc = cJSON_CreateArray();
    cJSON_AddItemToArray(detail, one);
    cJSON_AddStringToObject(one, "type", str_eq(msg, "Field required") ? "missing" : "value_error");
    cJSON_AddItemToObject(one, "loc", loc);
    cJSON_AddItemToArray(loc, cJSON_CreateString("body"));
    cJSON_AddItemToArray(loc, cJSON_CreateString(member));
    cJSON_AddStringToObject(one, "msg", msg);
    if (c->s->minor < 13 && c->body)
        cJSON_AddItemToObject(one, "input", cJSON_Duplicate(c->body, true));
    reply_json(c->out, 422, json);
}

const char *lf_want(struct lf_call *c, const char *member)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(c->body, member);
    if (cJSON_IsString(v))
        return v->valuestring;
    lf_invalid(c, member, v ? "Input should be a valid string" : "Field required");
    return NULL;
}

static unsigned crc32_of(const char *p, size_t n)
{
    unsigned crc = ~0U;
    for (size_t i = 0; i < n; i++) {
        crc ^= (unsigned char)p[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0xedb88320U : 0);
    }
    return ~crc;
}

static void add_le(struct buf *b, unsigned value, int bytes)
{
    for (; bytes; bytes--, value >>= 8)
        buf_addc(b, (char)(value & 0xff));
}

/* RFC 1952 around stored blocks (RFC 1951, 3.2.4): what is sent must be gzip, not small. */
static void add_gzip(struct buf *b, const char *text, size_t n)
{
    static const char head[10] = {0x1f, (char)0x8b, 8, 0, 0, 0, 0, 0, 0, (char)0xff};
    buf_add(b, head, sizeof(head));
    size_t at = 0;
    do {
        size_t len = n - at < GZIP_BLOCK ? n - at : GZIP_BLOCK;
        buf_addc(b, at + len == n);
        add_le(b, (unsigned)len, 2);
        add_le(b, ~(unsigned)len, 2);
        buf_add(b, text + at, len);
        at += len;
    } while (at < n);
    add_le(b, crc32_of(text, n), 4);
    add_le(b, (unsigned)n, 4);
}

void lf_compress(struct lf_call *c, cJSON *json)
{
    const char *accepted = call_header(c->http, "Accept-Encoding");
    if (c->s->minor >= 13 && !(accepted && strstr(accepted, "gzip"))) {
        reply_json(c->out, 200, json);
        return;
    }
    char *text = json_text(json);
    struct buf b;
    cJSON_Delete(json);
    buf_init(&b, STANDIN_ANSWER_MAX);
    if (text)
        add_gzip(&b, text, strlen(text));
    free(text);
    if (b.failed || !b.len) {
        reply_detail(c->out, 500, "out of memory");
        buf_done(&b);
        return;
    }
    size_t n = b.len;
    reply_bytes(c->out, 200, "application/json", buf_steal(&b), n);
    reply_header(c->out, "Content-Encoding", "gzip");
}

static void page_for_404(struct reply *out)
{
    static const char page[] =
        "<!doctype html>\n<html><body><div id=\"root\"></div></body></html>\n";
    char *copy = str_dup(page);
    reply_bytes(out, 200, "text/html; charset=utf-8", copy, copy ? strlen(copy) : 0);
}

/* ---- unauthenticated words ---- */

static void health(struct lf_call *c)
{
    cJSON *json = cJSON_CreateObject();
    cJSON_AddStringToObject(json, "status", "ok");
    reply_json(c->out, 200, json);
}

static void health_check(struct lf_call *c)
{
    cJSON *json = cJSON_CreateObject();
    cJSON_AddStringToObject(json, "status", "ok");
    cJSON_AddStringToObject(json, "chat", "ok");
    cJSON_AddStringToObject(json, "db", "ok");
    reply_json(c->out, 200, json);
}

/* langflow-base had a count of its own until 1.12. */
static void version(struct lf_call *c)
{
    static const struct {
        int minor;
        const char *version, *package;
    } said[] = {
        {8, "0.8.0", "Langflow Base"}, {10, "0.10.1", "Langflow Base"}, {13, "1.13.0", "Langflow"}};
    for (size_t i = 0; i < ARRAY_LEN(said); i++) {
        if (said[i].minor != c->s->minor)
            continue;
        cJSON *json = cJSON_CreateObject();
        cJSON_AddStringToObject(json, "version", said[i].version);
        cJSON_AddStringToObject(json, "main_version", said[i].version);
        cJSON_AddStringToObject(json, "package", said[i].package);
        reply_json(c->out, 200, json);
    }
}

/* Who brings no key that counts is told less. */
static void config(struct lf_call *c)
{
    cJSON *json = cJSON_CreateObject();
    cJSON_AddStringToObject(json, "type", c->user ? "full" : "public");
    if (c->user) {
        cJSON_AddBoolToObject(json, "webhook_auth_enable", c->s->settings.webhook_auth);
        cJSON_AddStringToObject(json, "default_folder_name", "Starter Project");
    }
    if (c->user && c->s->minor >= 10) {
        cJSON_AddBoolToObject(json, "allow_custom_components", c->s->settings.custom_components);
        cJSON_AddBoolToObject(json, "custom_component_admin_only", false);
        cJSON_AddBoolToObject(json, "authz_enabled", false);
    }
    if (c->user && c->s->minor >= 13)
        cJSON_AddBoolToObject(json, "a2a_enabled", c->s->settings.a2a);
    reply_json(c->out, 200, json);
}

static void nothing(struct lf_call *c)
{
    c->out->status = 204;
}

/* ---- who calls ---- */

static bool is_active(const struct lf_record *user)
{
    return json_bool(user->json, "is_active", false);
}

static struct lf_record *by_token(struct lf_call *c, const char *token)
{
    struct lf_record *t = lf_by_alias(c->s, LF_TOKEN, token, NULL);
    if (t && is_active(t->owner))
        return t->owner;
    reply_detail(c->out, 401, t ? "User account is inactive" : "Invalid token");
    return NULL;
}

static struct lf_record *by_key(struct lf_call *c, const char *key)
{
    struct lf_record *k = lf_by_alias(c->s, LF_KEY, key, NULL);
    bool seen = k && lf_seen(c->s, k);
    if (seen && is_active(k->owner))
        return k->owner;
    reply_detail(c->out, 403, "%s",
                 seen && c->s->minor < 12 ? "API key authentication failed" : "Invalid API key");
    return NULL;
}

/* A token is looked at alone, a key where there is none. */
static struct lf_record *caller(struct lf_call *c)
{
    static const char scheme[] = "bearer ";
    const char *token = call_header(c->http, "Authorization");
    const char *key = call_header(c->http, "x-api-key");
    if (token && strncasecmp(token, scheme, strlen(scheme)) == 0)
        return by_token(c, token + strlen(scheme));
    if (!key)
        key = call_argument(c->http, "x-api-key");
    if (key)
        return by_key(c, key);
    reply_detail(c->out, 403, "No authentication credentials provided");
    return NULL;
}

/* ---- routes ---- */

enum who { ANYBODY, MAYBE, USER, SUPER };

static const struct route {
    const char *method, *pattern; /* {} is one segment, {id} one that has to be a UUID */
    enum who who;
    int since; /* 1.since */
    void (*fn)(struct lf_call *c);
} routes[] = {
    {"GET", "/health", ANYBODY, 0, health},
    {"GET", "/health_check", ANYBODY, 0, health_check},
    {"GET", "/api/v1/version", ANYBODY, 0, version},
    {"GET", "/api/v1/auto_login", ANYBODY, 0, lf_auto_login},
    {"GET", "/api/v1/config", MAYBE, 0, config},
    {"POST", "/api/v1/login", ANYBODY, 0, lf_login},
    {"GET", "/api/v1/all", USER, 0, lf_components},
    {"POST", "/api/v1/users/", MAYBE, 0, lf_user_create},
    {"GET", "/api/v1/users/", SUPER, 0, lf_user_list},
    {"GET", "/api/v1/users/whoami", USER, 0, lf_user_whoami},
    {"GET", "/api/v1/users/{id}", USER, 13, lf_user_get},
    {"PATCH", "/api/v1/users/{id}", USER, 0, lf_user_patch},
    {"DELETE", "/api/v1/users/{id}", USER, 0, lf_user_delete},
    {"PATCH", "/api/v1/users/{id}/reset-password", USER, 0, lf_user_reset},
    {"GET", "/api/v1/projects/", USER, 0, lf_project_list},
    {"POST", "/api/v1/projects/", USER, 0, lf_project_create},
    {"GET", "/api/v1/projects/{id}", USER, 0, lf_project_get},
    {"PATCH", "/api/v1/projects/{id}", USER, 0, lf_project_patch},
    {"DELETE", "/api/v1/projects/{id}", USER, 0, lf_project_delete},
    {"GET", "/api/v1/flows/", USER, 0, lf_flow_list},
    {"POST", "/api/v1/flows/", USER, 0, lf_flow_create},
    {"DELETE", "/api/v1/flows/", USER, 0, lf_flow_delete_many},
    {"GET", "/api/v1/flows/{id}", USER, 0, lf_flow_get},
    {"PUT", "/api/v1/flows/{id}", USER, 0, lf_flow_put},
    {"PATCH", "/api/v1/flows/{id}", USER, 0, lf_flow_patch},
    {"DELETE", "/api/v1/flows/{id}", USER, 0, lf_flow_delete},
    {"GET", "/api/v1/flows/public_flow/{id}", ANYBODY, 0, lf_flow_public},
    {"GET", "/api/v1/variables/", USER, 0, lf_variable_list},
    {"POST", "/api/v1/variables/", USER, 0, lf_variable_create},
    {"PATCH", "/api/v1/variables/{id}", USER, 0, lf_variable_patch},
    {"DELETE", "/api/v1/variables/{id}", USER, 0, lf_variable_delete},
    {"GET", "/api/v1/api_key/", USER, 0, lf_key_list},
    {"POST", "/api/v1/api_key/", USER, 0, lf_key_create},
    {"DELETE", "/api/v1/api_key/{id}", USER, 0, lf_key_delete},
    {"POST", "/api/v1/run/{}", ANYBODY, 0, lf_run},
    {"POST", "/api/v1/mcp/project/{id}/streamable", ANYBODY, 0, lf_mcp},
    {"GET", "/api/v1/monitor/messages", USER, 0, lf_message_list},
    {"DELETE", "/api/v1/monitor/messages", USER, 0, lf_message_delete},
    {"GET", "/api/v1/monitor/messages/sessions", USER, 0, lf_message_sessions},
    {"DELETE", "/api/v1/monitor/messages/session/{}", USER, 0, lf_message_delete_session},
    {"DELETE", "/api/v1/monitor/builds", USER, 0, nothing},
    {"POST", "/api/v1/files/upload/{id}", USER, 0, lf_file_upload},
    {"GET", "/api/v1/files/list/{id}", USER, 0, lf_file_list},
    {"DELETE", "/api/v1/files/delete/{id}/{}", USER, 0, lf_file_delete},
    {"GET", "/api/v2/files", USER, 0, lf_user_file_list},
    {"POST", "/api/v2/files", USER, 0, lf_user_file_upload},
    {"DELETE", "/api/v2/files", USER, 0, lf_user_file_delete},
};

/* *arg is set to what stands for the braces; it points into path and is not ended by a NUL. */
static bool fits(const char *pattern, const char *path, const char **arg, size_t *len)
{
    const char *brace = strchr(pattern, '{');
    size_t before = brace ? (size_t)(brace - pattern) : strlen(pattern);
    *arg = NULL;
    if (strncmp(pattern, path, before) != 0)
        return false;
    if (!brace)
        return path[before] == 0;
    *arg = path + before;
    *len = strcspn(*arg, "/");
    if (*len && str_eq(strchr(brace, '}') + 1, "/{}"))
        return (*arg)[*len] == '/' && (*arg)[*len + 1] && !strchr(*arg + *len + 1, '/');
    return *len && str_eq(strchr(brace, '}') + 1, *arg + *len);
}

static bool parse_body(struct lf_call *c, const struct route *route)
{
    bool form =
        route->fn == lf_login || route->fn == lf_file_upload || route->fn == lf_user_file_upload;
    bool wants = !str_eq(c->http->method, "GET") && !form;
    if (!wants || !c->http->body_len)
        return true;
    c->body = reply_parse(c->out, c->http->body, c->http->body_len);
    if (c->body) {
        if (cJSON_IsObject(c->body) || cJSON_IsArray(c->body))
            return true;
    }
    lf_invalid(c, "body", "JSON decode error");
    return false;
}

static bool let_in(struct lf_call *c, const struct route *route)
{
    if (route->who == ANYBODY)
        return true;
    c->user = caller(c);
    if (!c->user && route->who == MAYBE)
        reply_done(c->out);
    if (!c->user)
        return route->who == MAYBE;
    if (route->who == SUPER && !json_bool(c->user->json, "is_superuser", false)) {
        reply_detail(c->out, 403, "The user doesn't have enough privileges");
        return false;
    }
    return true;
}

static void serve(struct lf_call *c, const struct route *route, const char *arg, size_t len)
{
    char text[PATH_MAX_BYTES] = "";
    if (len < sizeof(text) && arg)
        memcpy(text, arg, len);
    c->arg = text;
    c->rest = arg && arg[len] ? arg + len + 1 : "";
    if (let_in(c, route) && parse_body(c, route)) {
        if (strstr(route->pattern, "{id}") && !uuid_parse(text, strlen(text), c->id))
            lf_invalid(c, "id", "Input should be a valid UUID");
        else
            route->fn(c);
    }
    c->arg = NULL;
    cJSON_Delete(c->body);
}

/* Somewhere else, or in another way. */
static void no_route(struct lf_call *c, bool other_method)
{
    struct buf b;
    if (other_method) {
        reply_detail(c->out, 405, "Method Not Allowed");
        return;
    }
    buf_init(&b, PATH_MAX_BYTES);
    buf_addf(&b, "%s/", c->http->path);
    for (size_t i = 0; i < ARRAY_LEN(routes) && !c->out->status; i++) {
        if (!str_eq(routes[i].pattern, buf_str(&b)))
            continue;
        c->out->status = 307;
        reply_header(c->out, "Location", buf_str(&b));
    }
    buf_done(&b);
    if (!c->out->status)
        reply_detail(c->out, 404, "Not Found");
}

static void handle(void *store, const struct call *http, struct reply *out)
{
    struct lf_call c = {.s = store, .http = http, .out = out};
    bool other_method = false, served = false;
    const char *arg;
    size_t len = 0;
    lf_settle(c.s);
    for (size_t i = 0; i < ARRAY_LEN(routes) && !served; i++) {
        if (!fits(routes[i].pattern, http->path, &arg, &len))
            continue;
        /* An id's route must not catch a word that has one of its own, /users/whoami. */
        if (str_eq(routes[i].method, http->method) && c.s->minor >= routes[i].since) {
            serve(&c, &routes[i], arg, len);
            served = true;
        }
        other_method = true;
    }
    if (!served)
        no_route(&c, other_method);
    if (out->status == 404 && c.s->settings.frontend)
        page_for_404(out);
}

/* ---- life ---- */

static const char *const profiles[] = {"1.10", "1.8", "1.13", NULL};

static void store_free(void *store)
{
    struct lf_store *s = store;
    if (!s)
        return;
    lf_clear(s);
    free(s);
}

/* A superuser whose password and key is the token. */
static bool add_superuser(struct lf_store *s, const char *token)
{
    struct lf_record *user = lf_user_new(s, "langflow-admin", token, NULL);
    if (!user || !lf_key_new(s, user, "static", token))
        return false;
    lf_set(user->json, "is_active", cJSON_CreateBool(true));
    lf_set(user->json, "is_superuser", cJSON_CreateBool(true));
    user->planted = true;
    return true;
}

static void *store_new(const char *token, const char *profile)
{
    struct lf_store *s = calloc(1, sizeof(*s));
    if (!s)
        return NULL;
    s->minor = str_eq(profile, "1.8") ? 8 : str_eq(profile, "1.13") ? 13 : 10;
    s->now_ms = clock_mono_ms();
    s->settings.login_limit = s->minor >= 10 ? 5 : 0;
    s->settings.login_window_ms = 60000;
    s->settings.retry_after_s = 60;
    s->settings.webhook_auth = s->minor >= 10;
    s->settings.custom_components = true;
    /* 1.8 answers before it commits, 1.13 erases in the background. */
    s->settings.erase_ms = s->minor == 8 ? 20 : s->minor == 13 ? 300 : 0;
    if (add_superuser(s, token))
        return s;
    store_free(s);
    return NULL;
}

const struct dialect dialect_langflow = {.name = "langflow",
                                         .profiles = profiles,
                                         .body_max = LF_BODY_MAX,
                                         .own_health = true,
                                         .new = store_new,
                                         .free = store_free,
                                         .handle = handle,
                                         .plant = lf_plant,
                                         .list = lf_list,
                                         .admin = lf_admin};
