/*
 * The admin service: a session instead of keys, HTTP 400 for every error with the code in the body,
 * and HTML for those who are not logged in.
 */
#include "ragflow.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/str.h"

enum { SUPERUSER_CIPHER_BYTES = 256, ALL = 7 };

static const char superuser[] = "admin@ragflow.io";

static void succeed(struct ask *a, cJSON *data, const char *message)
{
    cJSON *json = cJSON_CreateObject();
    cJSON_AddNumberToObject(json, "code", 0);
    if (data)
        cJSON_AddItemToObject(json, "data", data);
    cJSON_AddStringToObject(json, "message", message);
    reply_json(a->out, 200, json);
}

static void refuse(struct ask *a, int code, const char *message)
{
    cJSON *json = cJSON_CreateObject();
    cJSON_AddNumberToObject(json, "code", code);
    cJSON_AddNullToObject(json, "data");
    cJSON_AddStringToObject(json, "message", message);
    reply_json(a->out, 400, json);
}

static void refuse_html(struct ask *a)
{
    static const char page[] = "<!doctype html>\n<html lang=en>\n<title>401 Unauthorized</title>\n"
                               "<h1>Unauthorized</h1>\n";
    reply_bytes(a->out, 401, "text/html; charset=utf-8", str_dup(page), strlen(page));
}

/* ---- passwords: base64 of what a 2048-bit RSA key makes; nobody here can look inside ---- */

static bool is_encrypted(const char *text)
{
    size_t n = text ? strlen(text) : 0, pad = 0;
    while (pad < 2 && pad < n && text[n - 1 - pad] == '=')
        pad++;
    for (size_t i = 0; i + pad < n; i++) {
        if (!isalnum((unsigned char)text[i]) && text[i] != '+' && text[i] != '/')
            return false;
    }
    return n && n % 4 == 0 && n / 4 * 3 - pad == SUPERUSER_CIPHER_BYTES;
}

static bool check_password(struct ask *a, const cJSON *body)
{
    if (is_encrypted(json_str(body, "password")))
        return true;
    refuse(a, 500, "Error('Invalid base64-encoded string or ciphertext of a wrong length')");
    return false;
}

/* `\w` of the product's regular expression is taken as ASCII's. */
static bool is_email(const char *s)
{
    size_t n = strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-");
    if (!n || s[n] != '@')
        return false;
    const char *host = s + n + 1, *dot = strrchr(host, '.');
    size_t m = strspn(host, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-.");
    return dot && dot > host && !host[m] && strlen(dot + 1) >= 2 && !strstr(host, "..");
}

/* ---- the session ---- */

/* A new one ends the one before. The header has it; the body tells the user's row as it was before
 * the login, with a token that is no session. */
static void log_in(struct ask *a, const cJSON *body)
{
    const char *email = json_str(body, "email");
    if (!check_password(a, body))
        return;
    if (!email || strcmp(email, superuser) != 0) {
        refuse(a, 404, "User not found");
        return;
    }
    if (a->r->settings.refuse_login) {
        refuse(a, 400, "Error email or password");
        return;
    }
    ragflow_random(a->r->session, "Ij", 50);
    cJSON *data = cJSON_CreateObject();
    cJSON_AddStringToObject(data, "email", superuser);
    cJSON_AddStringToObject(data, "access_token", "0123456789abcdef0123456789abcdef");
    cJSON_AddStringToObject(data, "password", "scrypt:32768:8:1$stand-in$0123456789abcdef");
    cJSON_AddBoolToObject(data, "is_superuser", true);
    succeed(a, data, "Welcome back!");
    reply_header(a->out, "Authorization", a->r->session);
}

static bool in_session(const struct ask *a)
{
    static const char scheme[] = "Bearer ";
    const char *given = call_header(a->call, "Authorization");
    if (given && str_starts(given, scheme))
        given += strlen(scheme);
    return given && *a->r->session && !a->r->settings.database_down && str_eq(given, a->r->session);
}

static void ping(struct ask *a)
{
    succeed(a, NULL, "PONG");
}

/* ---- users ---- */

static cJSON *show(const struct tenant *t)
{
    cJSON *row = cJSON_CreateObject();
    cJSON_AddStringToObject(row, "id", t->id);
    cJSON_AddStringToObject(row, "email", t->email);
    cJSON_AddStringToObject(row, "nickname", "");
    cJSON_AddStringToObject(row, "is_active", t->active ? "1" : "0");
    cJSON_AddBoolToObject(row, "is_superuser", t->superuser);
    cJSON_AddStringToObject(row, "status", "1");
    return row;
}

/* The user of the path, or NULL and the answer. */
static struct tenant *of_path(struct ask *a)
{
    struct tenant *t = tenant_by_email(a->r, a->part[0]);
    if (!t)
        refuse(a, 404, "User not found");
    return t;
}

static void create(struct ask *a, const cJSON *body)
{
    const char *email = json_str(body, "username");
    if (!email || !is_email(email)) {
        refuse(a, 400, "Invalid email address");
        return;
    }
    if (!check_password(a, body))
        return;
    if (str_eq(email, superuser) || tenant_by_email(a->r, email)) {
        refuse(a, 409, "User already exists");
        return;
    }
    struct tenant *t = tenant_add(a->r, email);
    if (!t) {
        refuse(a, 500, "Create user failed");
        return;
    }
    char token[64];
    ragflow_random(token, "", 32);
    cJSON *data = show(t);
    cJSON_AddStringToObject(data, "access_token", token);
    succeed(a, data, "User created successfully");
}

static void list_users(struct ask *a)
{
    cJSON *data = cJSON_CreateArray();
    for (const struct tenant *t = a->r->tenants; t; t = t->next)
        cJSON_AddItemToArray(data, show(t));
    succeed(a, data, "Get all users");
}

/* Who is not there is an empty array. */
static void get_user(struct ask *a)
{
    const struct tenant *t = tenant_by_email(a->r, a->part[0]);
    cJSON *data = cJSON_CreateArray();
    if (t)
        cJSON_AddItemToArray(data, show(t));
    succeed(a, data, "");
}

static void list_datasets(struct ask *a)
{
    const struct tenant *t = of_path(a);
    if (!t)
        return;
    cJSON *data = cJSON_CreateArray();
    for (const struct dataset *d = a->r->oldest; d; d = d->newer) {
        if (d->owner != t)
            continue;
        cJSON *row = cJSON_CreateObject();
        cJSON_AddStringToObject(row, "name", json_str(d->json, "name"));
        cJSON_AddStringToObject(row, "status", "1");
        cJSON_AddNumberToObject(row, "doc_num", cJSON_GetArraySize(d->documents));
        cJSON_AddItemToArray(data, row);
    }
    succeed(a, data, "");
}

static void activate(struct ask *a, const cJSON *body)
{
    const char *status = json_str(body, "activate_status");
    struct tenant *t = of_path(a);
    if (!t)
        return;
    if (!str_eq(status, "on") && !str_eq(status, "off")) {
        refuse(a, 400, "Invalid activate_status");
        return;
    }
    t->active = str_eq(status, "on");
    succeed(a, NULL, "User activate status updated");
}

static void delete_user(struct ask *a)
{
    struct tenant *t = of_path(a);
    if (!t)
        return;
    if (t->superuser || t == a->r->tenants) {
        refuse(a, 403, "Can't delete the super user");
    } else if (t->active) {
        refuse(a, -1, "User is active and can't be deleted.");
    } else {
        tenant_delete(a->r, t);
        succeed(a, NULL, "Successfully deleted user");
    }
}

/* ---- keys ---- */

static void create_key(struct ask *a)
{
    struct tenant *t = of_path(a);
    if (t)
        succeed(a, cJSON_Duplicate(tenant_mint(t, NULL), true), "API key generated successfully");
}

static void list_keys(struct ask *a)
{
    const struct tenant *t = of_path(a);
    if (t)
        succeed(a, cJSON_Duplicate(t->keys, true), "");
}

static void delete_key(struct ask *a)
{
    struct tenant *t = of_path(a);
    if (t && tenant_unmint(t, a->part[1]))
        succeed(a, NULL, "API key deleted successfully");
    else if (t)
        refuse(a, 404, "API key not found or could not be deleted");
}

/* ---- routes ---- */

static void with_body(struct ask *a, void (*fn)(struct ask *a, const cJSON *body))
{
    static const struct json_limits limits = {.size = 65536, .depth = 8, .string = 65536};
    struct json_fault fault;
    cJSON *body = NULL;
    if (json_parse(a->call->body, a->call->body_len, &limits, &body, &fault) < 0)
        refuse(a, 400, "Request body is not JSON");
    else
        fn(a, body);
    cJSON_Delete(body);
}

static void login_route(struct ask *a)
{
    with_body(a, log_in);
}

static void create_route(struct ask *a)
{
    with_body(a, create);
}

static void activate_route(struct ask *a)
{
    with_body(a, activate);
}

static const struct route routes[] = {
    {"GET", "/api/v1/admin/ping", ALL, true, ping},
    {"POST", "/api/v1/admin/login", ALL, true, login_route},
    {"GET", "/api/v1/admin/users", ALL, false, list_users},
    {"POST", "/api/v1/admin/users", ALL, false, create_route},
    {"GET", "/api/v1/admin/users/*", ALL, false, get_user},
    {"DELETE", "/api/v1/admin/users/*", ALL, false, delete_user},
    {"GET", "/api/v1/admin/users/*/datasets", ALL, false, list_datasets},
    {"PUT", "/api/v1/admin/users/*/activate", ALL, false, activate_route},
    {"GET", "/api/v1/admin/users/*/keys", ALL, false, list_keys},
    {"POST", "/api/v1/admin/users/*/keys", ALL, false, create_key},
    {"DELETE", "/api/v1/admin/users/*/keys/*", ALL, false, delete_key},
};

void admin_service(struct ask *a)
{
    bool other_method;
    const struct route *route = route_find(routes, ARRAY_LEN(routes), a, &other_method);
    if (!route)
        refuse(a, other_method ? 405 : 404, other_method ? "Method not allowed" : "Not found");
    else if (route->open || in_session(a))
        route->handler(a);
    else
        refuse_html(a);
}
