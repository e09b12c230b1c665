/*
 * The stand-in Waldur: routes, who may call, errors as Django REST framework words them.
 */
#include "waldur.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/json.h"
#include "base/str.h"

/* ---- errors ---- */

void wd_invalid(struct wd_call *c, const char *member, const char *fmt, ...)
{
    struct buf why;
    va_list ap;
    buf_init(&why, 4096);
    va_start(ap, fmt);
    buf_vaddf(&why, fmt, ap);
    va_end(ap);
    cJSON *json = cJSON_CreateObject();
    cJSON_AddItemToArray(cJSON_AddArrayToObject(json, member), cJSON_CreateString(buf_str(&why)));
    buf_done(&why);
    reply_json(c->out, 400, json);
}

void wd_refuse(struct wd_call *c, const char *why)
{
    cJSON *json = cJSON_CreateArray();
    cJSON_AddItemToArray(json, cJSON_CreateString(why));
    reply_json(c->out, 400, json);
}

void wd_conflict(struct wd_call *c, const char *const *names, const int *valid, size_t n)
{
    struct buf text;
    buf_init(&text, 1024);
    for (size_t i = 0; i < n; i++)
        buf_addf(&text, "%s%s", i ? ", " : "", names[valid[i]]);
    reply_detail(c->out, 409, "Valid states for operation: %s.", buf_str(&text));
    buf_done(&text);
}

static void page(struct reply *out, int status, const char *title)
{
    struct buf html;
    buf_init(&html, 1024);
    buf_addf(&html,
             "<!doctype html>\n<html lang=\"en\">\n<head>\n  <title>%s</title>\n</head>\n<body>\n"
             "  <h1>%s</h1><p></p>\n</body>\n</html>\n",
             title, title);
    size_t len = html.len;
    reply_bytes(out, status, "text/html; charset=utf-8", buf_steal(&html), len);
}

void wd_crash(struct wd_call *c)
{
    page(c->out, 500, "Server Error (500)");
}

void wd_status(struct wd_call *c, const char *fmt, ...)
{
    struct buf text;
    va_list ap;
    buf_init(&text, 1024);
    va_start(ap, fmt);
    buf_vaddf(&text, fmt, ap);
    va_end(ap);
    cJSON *json = cJSON_CreateObject();
    cJSON_AddStringToObject(json, "status", buf_str(&text));
    buf_done(&text);
    reply_json(c->out, 200, json);
}

/* ---- members of bodies ---- */

static char *trimmed(const char *text)
{
    size_t n = strlen(text);
    while (n && isspace((unsigned char)text[n - 1]))
        n--;
    while (n && isspace((unsigned char)*text)) {
        text++;
        n--;
    }
    return str_dupn(text, n);
}

bool wd_take_text(struct wd_call *c, const char *member, struct wd_rule rule, char **out)
{
    const cJSON *value = cJSON_GetObjectItemCaseSensitive(c->body, member);
    *out = NULL;
    if (!value && !rule.required)
        return true;
    if (!value) {
        wd_invalid(c, member, "This field is required.");
        return false;
    }
    if (cJSON_IsNull(value)) {
        wd_invalid(c, member, "This field may not be null.");
        return false;
    }
    if (!cJSON_IsString(value) && !cJSON_IsNumber(value)) {
        wd_invalid(c, member, "Not a valid string.");
        return false;
    }
    char *number = cJSON_IsNumber(value) ? json_text(value) : NULL;
    char *text = trimmed(number ? number : value->valuestring);
    free(number);
    if (text && rule.nonblank && !*text)
        wd_invalid(c, member, "This field may not be blank.");
    else if (text && rule.max && str_utf8_len(text, strlen(text)) > rule.max)
        wd_invalid(c, member, "Ensure this field has no more than %zu characters.", rule.max);
    else
        *out = text;
    if (!*out)
        free(text);
    return *out != NULL;
}

/* ---- small calls ---- */

static void me(struct wd_call *c)
{
    struct wd_show show;
    wd_show_begin(&show, c->s, c->http);
    reply_json(c->out, 200, wd_show_user(&show));
}

static void version(struct wd_call *c)
{
    cJSON *json = cJSON_CreateObject();
    cJSON_AddStringToObject(json, "version", c->s->year == 24 ? "7.1.9" : "8.1.2");
    reply_json(c->out, 200, json);
}

static void forbidden(struct wd_call *c)
{
    reply_detail(c->out, 403, "You do not have permission to perform this action.");
}

/* ---- routes ---- */

enum who {
    PROVIDER, /* the token's user */
    STAFF,
    STAFF_IN_2024,
    CONSUMER /* staff may, too */
};

enum { NO_ROW = -1 };

static const struct route {
    const char *methods; /* with a space after each */
    const char *path;    /* {} is a UUID */
    int kind;            /* of the row that {} names */
    int since;
    enum who who;
    void (*fn)(struct wd_call *c);
} routes[] = {
    {"GET HEAD ", "marketplace-orders/", NO_ROW, 24, PROVIDER, wd_order_list},
    {"POST ", "marketplace-orders/", NO_ROW, 24, CONSUMER, forbidden},
    {"GET HEAD ", "marketplace-orders/{}/", WD_ORDER, 24, PROVIDER, wd_order_get},
    {"DELETE ", "marketplace-orders/{}/", WD_ORDER, 24, CONSUMER, forbidden},
    {"POST ", "marketplace-orders/{}/approve_by_provider/", WD_ORDER, 24, PROVIDER,
     wd_order_approve_by_provider},
    {"POST ", "marketplace-orders/{}/reject_by_provider/", WD_ORDER, 24, PROVIDER,
     wd_order_reject_by_provider},
    {"POST ", "marketplace-orders/{}/set_state_executing/", WD_ORDER, 24, PROVIDER,
     wd_order_set_executing},
    {"POST ", "marketplace-orders/{}/set_state_done/", WD_ORDER, 24, PROVIDER, wd_order_set_done},
    {"POST ", "marketplace-orders/{}/set_state_erred/", WD_ORDER, 24, PROVIDER, wd_order_set_erred},
    {"POST ", "marketplace-orders/{}/set_backend_id/", WD_ORDER, 26, PROVIDER,
     wd_order_set_backend_id},
    {"POST ", "marketplace-orders/{}/set_provider_info/", WD_ORDER, 26, PROVIDER,
     wd_order_set_info},
    {"POST ", "marketplace-orders/{}/cancel/", WD_ORDER, 24, CONSUMER, wd_order_cancel},
    {"POST ", "marketplace-orders/{}/retry/", WD_ORDER, 26, PROVIDER, wd_order_again},
    {"GET HEAD ", "marketplace-provider-resources/", NO_ROW, 24, PROVIDER, wd_resource_list},
    {"GET HEAD ", "marketplace-provider-resources/{}/", WD_RESOURCE, 24, PROVIDER, wd_resource_get},
    {"POST ", "marketplace-provider-resources/{}/set_backend_id/", WD_RESOURCE, 24, PROVIDER,
     wd_resource_set_backend_id},
    {"POST ", "marketplace-provider-resources/{}/set_backend_metadata/", WD_RESOURCE, 24, PROVIDER,
     wd_resource_set_metadata},
    {"POST ", "marketplace-provider-resources/{}/set_endpoints/", WD_RESOURCE, 26, PROVIDER,
     wd_resource_set_endpoints},
    {"POST ", "marketplace-provider-resources/{}/submit_report/", WD_RESOURCE, 24, PROVIDER,
     wd_resource_report},
    {"POST ", "marketplace-provider-resources/{}/set_limits/", WD_RESOURCE, 24, PROVIDER,
     wd_resource_set_limits},
    {"POST ", "marketplace-provider-resources/{}/set_state_ok/", WD_RESOURCE, 26, PROVIDER,
     wd_resource_set_ok},
    {"POST ", "marketplace-provider-resources/{}/set_as_ok/", WD_RESOURCE, 26, PROVIDER,
     wd_resource_set_ok},
    {"POST ", "marketplace-provider-resources/{}/set_as_erred/", WD_RESOURCE, 24, STAFF_IN_2024,
     wd_resource_set_erred},
    {"POST ", "marketplace-provider-resources/{}/refresh_last_sync/", WD_RESOURCE, 24, PROVIDER,
     wd_resource_sync},
    {"POST ", "marketplace-provider-resources/{}/restore/", WD_RESOURCE, 26, PROVIDER,
     wd_resource_restore},
    {"POST ", "marketplace-provider-resources/{}/terminate/", WD_RESOURCE, 24, PROVIDER,
     wd_resource_terminate},
    {"POST ", "marketplace-provider-offerings/{}/check_unique_backend_id/", WD_OFFERING, 24,
     PROVIDER, wd_offering_check_unique},
    {"GET HEAD ", "marketplace-resource-api-keys/", NO_ROW, 26, PROVIDER, wd_key_list},
    {"POST ", "marketplace-resource-api-keys/report_created/", NO_ROW, 26, PROVIDER, wd_key_report},
    {"GET HEAD ", "marketplace-resource-api-keys/{}/", WD_KEY, 26, PROVIDER, wd_key_get},
    {"POST ", "marketplace-resource-api-keys/{}/set_key/", WD_KEY, 26, PROVIDER, wd_key_set},
    {"POST ", "marketplace-resource-api-keys/{}/set_erred/", WD_KEY, 26, PROVIDER,
     wd_key_set_erred},
    {"GET ", "marketplace-resource-api-keys/{}/reveal/", WD_KEY, 26, CONSUMER, wd_key_reveal},
    {"POST ", "marketplace-resource-api-keys/{}/rotate/", WD_KEY, 26, CONSUMER, wd_key_rotate},
    {"GET HEAD ", "events/", NO_ROW, 24, PROVIDER, wd_event_list},
    {"GET HEAD ", "hooks-web/", NO_ROW, 24, PROVIDER, wd_hook_list},
    {"POST ", "hooks-web/", NO_ROW, 24, PROVIDER, wd_hook_create},
    {"GET HEAD ", "hooks-web/{}/", WD_HOOK, 24, PROVIDER, wd_hook_get},
    {"PUT PATCH ", "hooks-web/{}/", WD_HOOK, 24, PROVIDER, wd_hook_change},
    {"DELETE ", "hooks-web/{}/", WD_HOOK, 24, PROVIDER, wd_hook_delete},
    {"GET HEAD ", "users/me/", NO_ROW, 24, PROVIDER, me},
    {"GET HEAD ", "version/", NO_ROW, 24, PROVIDER, version},
};

/* The path below /api/ against a route's. What stands for {} goes into id, "" where it is no UUID.
 */
static bool path_fits(const char *pattern, const char *path, char id[WD_HEX])
{
    id[0] = '\0';
    while (*pattern) {
        if (!str_starts(pattern, "{}")) {
            if (*pattern++ != *path++)
                return false;
            continue;
        }
        size_t n = strcspn(path, "/");
        char *segment = n ? str_dupn(path, n) : NULL;
        if (!segment)
            return false;
        if (!wd_hex(segment, id))
            id[0] = '\0';
        free(segment);
        pattern += 2;
        path += n;
    }
    return !*path;
}

static bool method_fits(const struct route *r, const char *method)
{
    char word[16];
    int n = snprintf(word, sizeof(word), "%s ", method);
    return n > 0 && (size_t)n < sizeof(word) && strstr(r->methods, word);
}

/* NULL, and whether there is such a path at all. */
static const struct route *find_route(struct wd_call *c, const char *path, bool *known)
{
    for (size_t i = 0; i < ARRAY_LEN(routes); i++) {
        if (routes[i].since > c->s->year || !path_fits(routes[i].path, path, c->id))
            continue;
        *known = true;
        if (method_fits(&routes[i], c->http->method))
            return &routes[i];
    }
    return NULL;
}

/* ---- who calls ---- */

static bool unauthorized(struct wd_call *c, const char *why)
{
    reply_detail(c->out, 401, "%s", why);
    reply_header(c->out, "WWW-Authenticate", "Token");
    return false;
}

static bool authenticate(struct wd_call *c)
{
    static const char scheme[] = "token";
    const char *given = call_header(c->http, "Authorization"), *state;
    size_t n = strlen(scheme);
    if (!given || strncasecmp(given, scheme, n) != 0 || (given[n] && given[n] != ' '))
        return unauthorized(c, "Authentication credentials were not provided.");
    given += n + strspn(given + n, " ");
    if (!*given)
        return unauthorized(c, "Invalid token header. No credentials provided.");
    if (strchr(given, ' '))
        return unauthorized(c, "Invalid token header. Token string should not contain spaces.");
    if (!str_eq(given, c->s->token))
        return unauthorized(c, "Invalid token.");
    state = c->s->settings.token_state;
    if (str_eq(state, "expired"))
        return unauthorized(c, "Token has expired.");
    if (str_eq(state, "inactive"))
        return unauthorized(c, "User inactive or deleted.");
    return true;
}

static bool allowed(const struct wd_call *c, const struct route *r)
{
    const struct wd_settings *set = &c->s->settings;
    for (size_t i = 0; i < set->n_denied; i++) {
        if (str_eq(set->denied[i], c->action) || str_eq(set->denied[i], c->route))
            return false;
    }
    bool only_staff =
        r->who == STAFF || r->who == CONSUMER || (r->who == STAFF_IN_2024 && c->s->year == 24);
    return !only_staff || set->is_staff;
}

/* ---- a call ---- */

/* The last segment, without its slash: "set_state_done". */
static char *action_of(const char *pattern)
{
    size_t n = strlen(pattern);
    while (n && pattern[n - 1] == '/')
        n--;
    const char *from = pattern;
    for (size_t i = 0; i < n; i++) {
        if (pattern[i] == '/')
            from = pattern + i + 1;
    }
    return str_dupn(from, (size_t)(pattern + n - from));
}

static bool is_seen(const struct wd_record *r)
{
    const struct wd_record *offering = r->kind == WD_OFFERING ? r
                                       : r->kind == WD_KEY    ? r->resource->offering
                                                              : r->offering;
    return !offering || !json_bool(offering->own, "hidden", false);
}

static bool find_row(struct wd_call *c, const struct route *r)
{
    static const char *const names[WD_KINDS] = {[WD_OFFERING] = "Offering",
                                                [WD_RESOURCE] = "Resource",
                                                [WD_ORDER] = "Order",
                                                [WD_KEY] = "ResourceApiKey",
                                                [WD_HOOK] = "WebHook"};
    if (r->kind == NO_ROW)
        return true;
    c->at = *c->id ? wd_find(c->s, (enum wd_kind)r->kind, c->id) : NULL;
    if (c->at && is_seen(c->at))
        return true;
    reply_detail(c->out, 404, "No %s matches the given query.", names[r->kind]);
    return false;
}

static bool read_body(struct wd_call *c)
{
    static const struct json_limits limits = {
        .size = WD_BODY_MAX, .depth = 32, .string = WD_BODY_MAX};
    struct json_fault fault;
    const char *type = call_header(c->http, "Content-Type");
    if (!c->http->body_len) {
        c->body = cJSON_CreateObject();
        return c->body != NULL;
    }
    if (!type || strncasecmp(type, "application/json", strlen("application/json")) != 0) {
        reply_detail(c->out, 415, "Unsupported media type \"%s\" in request.", type ? type : "");
        return false;
    }
    if (json_parse(c->http->body, c->http->body_len, &limits, &c->body, &fault) < 0) {
        reply_detail(c->out, 400, "JSON parse error - %s", fault.reason);
        return false;
    }
    if (cJSON_IsObject(c->body))
        return true;
    wd_invalid(c, "non_field_errors", "Invalid data. Expected a dictionary, but got %s.",
               cJSON_IsArray(c->body) ? "list" : "str");
    return false;
}

/* Every text that comes in, but for keys where they belong. */
static void remember(struct wd_call *c)
{
    cJSON *body = cJSON_Duplicate(c->body, true), *one = cJSON_CreateObject();
    if (str_eq(c->action, "report_created") || str_eq(c->action, "set_key"))
        cJSON_DeleteItemFromObjectCaseSensitive(body, "api_key");
    cJSON_AddStringToObject(one, "route", c->route);
    cJSON_AddStringToObject(one, "uuid", c->id);
    cJSON_AddItemToObject(one, "body", body);
    cJSON_AddItemToArray(c->s->texts, one);
}

static void perform(struct wd_call *c, const struct route *r)
{
    if (!find_row(c, r))
        return;
    if (!allowed(c, r)) {
        forbidden(c);
        return;
    }
    bool changes = !strstr(r->methods, "GET") && !strstr(r->methods, "DELETE");
    if (changes && !read_body(c))
        return;
    if (changes && c->http->body_len)
        remember(c);
    r->fn(c);
}

static void count_call(struct wd_call *c)
{
    char name[2 * WD_WORD_MAX];
    snprintf(name, sizeof(name), "%s %s", c->http->method, c->route);
    wd_count(c->s->calls, name);
}

static void dispatch(struct wd_call *c, const char *path)
{
    bool known = false;
    const struct route *r = find_route(c, path, &known);
    if (!known) {
        page(c->out, 404, "Not Found");
        return;
    }
    if (!authenticate(c))
        return;
    if (!r) {
        reply_detail(c->out, 405, "Method \"%s\" not allowed.", c->http->method);
        return;
    }
    char *action = action_of(r->path);
    c->route = r->path;
    c->action = action ? action : "";
    count_call(c);
    perform(c, r);
    cJSON_Delete(c->body);
    free(action);
}

/* What Django does in production with every method: the body is lost on the way. */
static void redirect(const struct call *c, struct reply *out)
{
    struct buf to;
    const char *name, *value;
    buf_init(&to, 4096);
    buf_addf(&to, "%s/", c->path);
    for (size_t i = 0; call_argument_at(c, i, &name, &value); i++) {
        buf_addc(&to, i ? '&' : '?');
        buf_add_url(&to, name);
        buf_addc(&to, '=');
        buf_add_url(&to, value);
    }
    out->status = 301;
    reply_header(out, "Location", buf_str(&to));
    buf_done(&to);
}

static void handle(void *store, const struct call *http, struct reply *out)
{
    struct wd_store *s = store;
    struct wd_call c = {.s = s, .http = http, .out = out};
    size_t n = strlen(http->path);
    wd_settle(s);
    if (!str_starts(http->path, "/api/")) {
        page(out, 404, "Not Found");
        return;
    }
    if (http->path[n - 1] != '/') {
        wd_count(s->calls, "without a slash");
        redirect(http, out);
        return;
    }
    s->actor = WD_PROVIDER;
    dispatch(&c, http->path + strlen("/api/"));
    s->actor = WD_SYSTEM;
}

/* ---- the dialect ---- */

static void store_free(void *store)
{
    struct wd_store *s = store;
    if (!s)
        return;
    wd_agenda_free(s->agenda);
    wd_sender_free(s->sender);
    wd_clear(s);
    wd_slugs_free(s);
    cJSON_Delete(s->calls);
    cJSON_Delete(s->ignored);
    cJSON_Delete(s->texts);
    free(s->token);
    free(s);
}

static void *store_new(const char *token, const char *profile)
{
    struct wd_store *s = calloc(1, sizeof(*s));
    if (!s)
        return NULL;
    s->year = str_eq(profile, "24") ? 24 : 26;
    s->settings = (struct wd_settings){.is_support = true,
                                       .token_state = "valid",
                                       .senders = 8,
                                       .timeout_ms = 10000,
                                       .seed = 1,
                                       .stomp_spaces = true};
    s->token = str_dup(token);
    s->agenda = wd_agenda_new();
    s->sender = wd_sender_new();
    s->calls = cJSON_CreateObject();
    s->ignored = cJSON_CreateObject();
    s->texts = cJSON_CreateArray();
    if (s->token && s->agenda && s->sender && s->calls && s->ignored && s->texts) {
        wd_sender_reset(s);
        return s;
    }
    store_free(s);
    return NULL;
}

static int attach(void *store, struct loop *loop, struct err *err)
{
    struct wd_store *s = store;
    wd_agenda_attach(s, loop);
    return wd_sender_attach(s, loop, err);
}

static const char *const profiles[] = {"26", "24", NULL};

const struct dialect dialect_waldur = {.name = "waldur",
                                       .profiles = profiles,
                                       .body_max = WD_BODY_MAX,
                                       .new = store_new,
                                       .free = store_free,
                                       .attach = attach,
                                       .handle = handle,
                                       .plant = wd_plant,
                                       .list = wd_list,
                                       .admin = wd_admin};
