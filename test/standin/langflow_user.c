/*
 * Logins, users and API keys.
 */
#include "langflow.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/rng.h"
#include "base/str.h"

enum { SECRET_BYTES = 32, PAGE = 10, PAGE_MAX = 200, FORM_VALUE_MAX = 1024, SHOWN_OF_KEY = 8 };

static void add_now(cJSON *to, const char *name)
{
    char now[CLOCK_TEXT_MAX];
    clock_format_us(now, clock_wall_us());
    lf_set(to, name, cJSON_CreateString(now));
}

static void make_secret(const char *prefix, char *out, size_t size)
{
    unsigned char raw[SECRET_BYTES];
    char hex[2 * SECRET_BYTES + 1];
    struct buf b;
    rng_bytes(raw, sizeof(raw));
    str_hex(hex, raw, sizeof(raw));
    buf_init(&b, size);
    buf_addf(&b, "%s%s", prefix, hex);
    str_copy(out, size, buf_str(&b));
    buf_done(&b);
}

/* ---- logins ---- */

static int hex_digit(char c)
{
    const char *digits = "0123456789abcdef", *at = c ? strchr(digits, c | 32) : NULL;
    return at ? (int)(at - digits) : -1;
}

/* A value of a form, decoded; false when it is not there or too long. */
static bool form_value(const char *form, const char *name, char out[FORM_VALUE_MAX])
{
    size_t len = strlen(name), n = 0;
    while (form && !(strncmp(form, name, len) == 0 && form[len] == '=')) {
        form = strchr(form, '&');
        form = form ? form + 1 : NULL;
    }
    if (!form)
        return false;
    for (const char *p = form + len + 1; *p && *p != '&'; p++) {
        int high = *p == '%' ? hex_digit(p[1]) : -1, low = high >= 0 ? hex_digit(p[2]) : -1;
        if (n == FORM_VALUE_MAX - 1)
            return false;
        out[n++] = low >= 0 ? (char)(high * 16 + low) : *p == '+' ? ' ' : *p;
        p += low >= 0 ? 2 : 0;
    }
    out[n] = 0;
    return true;
}

static bool too_many(struct lf_call *c)
{
    struct lf_store *s = c->s;
    if (!s->settings.login_limit)
        return false;
    if (s->now_ms - s->window_from_ms >= s->settings.login_window_ms) {
        s->window_from_ms = s->now_ms;
        s->logins = 0;
    }
    if (++s->logins <= s->settings.login_limit)
        return false;
    char seconds[24];
    snprintf(seconds, sizeof(seconds), "%lld", (long long)s->settings.retry_after_s);
    cJSON *json = cJSON_CreateObject();
    cJSON_AddStringToObject(json, "detail", "Too many requests. Please try again later.");
    cJSON_AddStringToObject(json, "retry_after", seconds);
    reply_json(c->out, 429, json);
    reply_header(c->out, "Retry-After", seconds);
    return true;
}

static void forget_old_tokens(struct lf_store *s, struct lf_record *user)
{
    int n = 0;
    for (struct lf_record *t = user->first[LF_TOKEN]; t; t = t->next)
        n++;
    for (; n >= LF_TOKENS_MAX && user->first[LF_TOKEN]; n--)
        lf_remove(s, user->first[LF_TOKEN], 0);
}

static void give_token(struct lf_call *c, struct lf_record *user)
{
    char token[128], cookie[192];
    struct buf b;
    forget_old_tokens(c->s, user);
    make_secret("eyJhbGciOiJIUzI1NiJ9.", token, sizeof(token));
    if (!lf_add(c->s, LF_TOKEN, user, NULL, token, cJSON_CreateObject())) {
        reply_detail(c->out, 500, "out of memory");
        return;
    }
    cJSON *json = cJSON_CreateObject();
    cJSON_AddStringToObject(json, "access_token", token);
    cJSON_AddStringToObject(json, "refresh_token", token);
    cJSON_AddStringToObject(json, "token_type", "bearer");
    reply_json(c->out, 200, json);
    buf_init(&b, sizeof(cookie));
    buf_addf(&b, "access_token_lf=%s; HttpOnly; Path=/; SameSite=lax", token);
    reply_header(c->out, "Set-Cookie", buf_str(&b));
    buf_done(&b);
    add_now(user->json, "last_login_at");
    lf_project_default(c->s, user);
    lf_variable_placeholders(c->s, user);
}

static void answer_inactive(struct lf_call *c, const struct lf_record *user)
{
    if (json_str(user->json, "last_login_at"))
        reply_detail(c->out, 401, "Inactive user");
    else
        reply_detail(c->out, 400, "Waiting for approval");
}

void lf_login(struct lf_call *c)
{
    char name[FORM_VALUE_MAX], password[FORM_VALUE_MAX];
    if (too_many(c))
        return;
    if (!form_value(c->http->body, "username", name) ||
        !form_value(c->http->body, "password", password)) {
        lf_invalid(c, "username", "Field required");
        return;
    }
    struct lf_record *user = lf_by_alias(c->s, LF_USER, name, NULL);
    bool late = user && c->s->now_ms < user->changed_ms;
    if (user && !(late ? user->was_active : json_bool(user->json, "is_active", false))) {
        answer_inactive(c, user);
    } else if (!user || !str_eq(late ? user->old_secret : user->secret, password)) {
        reply_detail(c->out, 401, "Incorrect username or password");
        reply_header(c->out, "WWW-Authenticate", "Bearer");
    } else {
        give_token(c, user);
    }
}

void lf_auto_login(struct lf_call *c)
{
    if (c->s->settings.auto_login) {
        give_token(c, c->s->first[LF_USER]); /* the one that was there first */
        return;
    }
    cJSON *json = cJSON_CreateObject();
    cJSON *detail = cJSON_AddObjectToObject(json, "detail");
    cJSON_AddStringToObject(detail, "message", "Auto login is disabled.");
    cJSON_AddBoolToObject(detail, "auto_login", false);
    reply_json(c->out, 403, json);
}

/* ---- users ---- */

struct lf_record *lf_user_new(struct lf_store *s, const char *name, const char *password,
                              const cJSON *optins)
{
    cJSON *json = cJSON_CreateObject();
    cJSON_AddNullToObject(json, "id");
    cJSON_AddStringToObject(json, "username", name);
    cJSON_AddNullToObject(json, "profile_image");
    cJSON_AddNullToObject(json, "store_api_key");
    cJSON_AddBoolToObject(json, "is_active", s->settings.new_user_is_active);
    cJSON_AddBoolToObject(json, "is_superuser", false);
    add_now(json, "create_at");
    add_now(json, "updated_at");
    cJSON_AddNullToObject(json, "last_login_at");
    if (optins) {
        cJSON_AddItemToObject(json, "optins", cJSON_Duplicate(optins, true));
    } else {
        cJSON *usual = cJSON_AddObjectToObject(json, "optins");
        cJSON_AddBoolToObject(usual, "github_starred", false);
        cJSON_AddBoolToObject(usual, "dialog_dismissed", false);
        cJSON_AddBoolToObject(usual, "discord_clicked", false);
    }
    struct lf_record *user = lf_add(s, LF_USER, NULL, NULL, name, json);
    if (!user)
        return NULL;
    user->secret = str_dup(password);
    if (user->secret && lf_project_default(s, user))
        return user;
    lf_remove(s, user, 0);
    return NULL;
}

static bool is_super(const struct lf_record *user)
{
    return user && json_bool(user->json, "is_superuser", false);
}

static bool optins_ok(struct lf_call *c)
{
    const cJSON *optins = json_get(c->body, "optins");
    if (!optins || cJSON_IsNull(optins) || cJSON_IsObject(optins))
        return true;
    lf_invalid(c, "optins", "Input should be a valid dictionary");
    return false;
}

void lf_user_create(struct lf_call *c)
{
    const char *name = lf_want(c, "username"), *password = name ? lf_want(c, "password") : NULL;
    if (!password || !optins_ok(c))
        return;
    if (c->s->minor >= 10 && !is_super(c->user) && !c->s->settings.signup) {
        reply_detail(c->out, 403, "Public user registration is disabled.");
    } else if (lf_by_alias(c->s, LF_USER, name, NULL)) {
        reply_detail(c->out, 400, "This username is unavailable.");
    } else {
        struct lf_record *user = lf_user_new(c->s, name, password, json_get(c->body, "optins"));
        reply_json(c->out, 201, user ? cJSON_Duplicate(user->json, true) : NULL);
    }
}

/* SQL's LIKE, case folded: % is any text, _ any letter. */
static bool like(const char *text, const char *pattern)
{
    for (; *pattern && *pattern != '%'; pattern++, text++) {
        if (!*text || (*pattern != '_' && strncasecmp(text, pattern, 1) != 0))
            return false;
    }
    if (!*pattern)
        return !*text;
    for (; *text; text++) {
        if (like(text, pattern + 1))
            return true;
    }
    return like(text, pattern + 1);
}

/* 1.10 hands what is searched for on to LIKE as it is. */
static bool holds(const struct lf_store *s, const char *name, const char *part)
{
    struct buf b;
    if (s->minor >= 13)
        return strcasestr(name, part) != NULL;
    buf_init(&b, FORM_VALUE_MAX);
    buf_addf(&b, "%%%s%%", part);
    bool found = !b.failed && like(name, buf_str(&b));
    buf_done(&b);
    return found;
}

static bool matches(const struct lf_call *c, const struct lf_record *user)
{
    const char *search = call_argument(c->http, "search");
    const char *exact = call_argument(c->http, "username");
    const char *name = json_str(user->json, "username");
    return (c->s->minor < 10 || !search || holds(c->s, name, search)) &&
           (c->s->minor < 13 || !exact || str_eq(name, exact));
}

static int by_name(const void *a, const void *b)
{
    const struct lf_record *const *x = a, *const *y = b;
    return strcmp(json_str((*x)->json, "username"), json_str((*y)->json, "username"));
}

/* Who matches, in the order in which pages show them; free() it. */
static struct lf_record **matching(struct lf_call *c, size_t *n)
{
    struct lf_record **found = NULL;
    size_t room = 0;
    *n = 0;
    for (struct lf_record *u = lf_first(c->s, NULL, LF_USER); u; u = lf_next(c->s, u)) {
        if (!matches(c, u))
            continue;
        if (*n == room) {
            room = room ? 2 * room : 64;
            struct lf_record **more = realloc(found, room * sizeof(struct lf_record *));
            if (!more)
                break;
            found = more;
        }
        found[(*n)++] = u;
    }
    if (c->s->minor >= 13 && *n)
        qsort(found, *n, sizeof(struct lf_record *), by_name);
    return found;
}

static bool page_of(struct lf_call *c, int64_t *skip, int64_t *limit)
{
    const char *from = call_argument(c->http, "skip"), *most = call_argument(c->http, "limit");
    bool strict = c->s->minor >= 13;
    *skip = 0;
    *limit = PAGE;
    if ((from && !str_to_i64(from, skip)) || (*skip < 0 && strict))
        lf_invalid(c, "skip", "Input should be greater than or equal to 0");
    else if ((most && !str_to_i64(most, limit)) || (strict && *limit < 1))
        lf_invalid(c, "limit", "Input should be greater than or equal to 1");
    else if (strict && *limit > PAGE_MAX)
        lf_invalid(c, "limit", "Input should be less than or equal to 200");
    return !c->out->status;
}

void lf_user_list(struct lf_call *c)
{
    int64_t skip, limit;
    size_t n;
    if (!page_of(c, &skip, &limit))
        return;
    struct lf_record **found = matching(c, &n);
    /* Without an order a page may begin anywhere: here so that pages in a row show the same. */
    size_t turn =
        c->s->settings.shuffle && c->s->minor < 13 && n ? (size_t)c->s->turn++ * (n - 1) : 0;
    cJSON *json = cJSON_CreateObject();
    cJSON_AddNumberToObject(json, "total_count", (double)n);
    cJSON *users = cJSON_AddArrayToObject(json, "users");
    for (int64_t i = skip; i < (int64_t)n && i - skip < limit; i++) {
        size_t at = ((size_t)i + turn) % (n ? n : 1);
        cJSON_AddItemToArray(users, cJSON_Duplicate(found[at]->json, true));
    }
    if (c->s->minor >= 13)
        cJSON_AddObjectToObject(json, "deletion_requests");
    free(found);
    reply_json(c->out, 200, json);
}

void lf_user_whoami(struct lf_call *c)
{
    reply_json(c->out, 200, cJSON_Duplicate(c->user->json, true));
}

void lf_user_get(struct lf_call *c)
{
    struct lf_record *user = lf_find(c->s, LF_USER, c->id);
    if (user != c->user && !is_super(c->user))
        reply_detail(c->out, 403, "Permission denied");
    else if (!user)
        reply_detail(c->out, 404, "User not found");
    else
        reply_json(c->out, 200, cJSON_Duplicate(user->json, true));
}

static bool may_patch(struct lf_call *c)
{
    const cJSON *active = json_get(c->body, "is_active");
    bool self = str_eq(c->user->id, c->id), super = is_super(c->user);
    if (self && cJSON_IsFalse(active))
        reply_detail(c->out, 403, "You can't deactivate your own user account");
    else if (!super && (!self || json_bool(c->body, "is_superuser", false)))
        reply_detail(c->out, 403, "Permission denied");
    else if (!super && json_str(c->body, "password"))
        reply_detail(c->out, 400, "You can't change your password here");
    return !c->out->status;
}

static bool rename_user(struct lf_call *c, struct lf_record *user, const char *name)
{
    struct lf_record *holder = name ? lf_by_alias(c->s, LF_USER, name, NULL) : NULL;
    if (holder && holder != user) {
        reply_detail(c->out, 400, "%s",
                     c->s->minor >= 13
                         ? "This username is unavailable."
                         : "(sqlite3.IntegrityError) UNIQUE constraint failed: user.username");
        return false;
    }
    return !name || lf_alias(c->s, user, name);
}

static void keep_old(const struct lf_store *s, struct lf_record *user)
{
    free(user->old_secret);
    user->old_secret = str_dup(user->secret);
    user->was_active = json_bool(user->json, "is_active", false);
    user->changed_ms = s->now_ms + s->settings.commit_ms;
}

void lf_user_patch(struct lf_call *c)
{
    static const char *const members[] = {"username",     "profile_image", "is_active",
                                          "is_superuser", "optins",        NULL};
    if (!optins_ok(c) || !may_patch(c))
        return;
    struct lf_record *user = lf_find(c->s, LF_USER, c->id);
    const char *password = json_str(c->body, "password");
    if (!user) {
        reply_detail(c->out, 404, "User not found");
        return;
    }
    if (!rename_user(c, user, json_str(c->body, "username")))
        return;
    keep_old(c->s, user);
    lf_take(user->json, c->body, members);
    add_now(user->json, "updated_at");
    if (password && *password) {
        free(user->secret);
        user->secret = str_dup(password);
    }
    user->changes++;
    reply_json(c->out, 200, cJSON_Duplicate(user->json, true));
}

void lf_user_reset(struct lf_call *c)
{
    const char *password = lf_want(c, "password"), *current = NULL;
    if (password && c->s->minor >= 13)
        current = lf_want(c, "current_password");
    if (!password || (c->s->minor >= 13 && !current))
        return;
    if (!str_eq(c->user->id, c->id)) {
        reply_detail(c->out, 404, "You can't change another user's password");
    } else if (current && !str_eq(current, c->user->secret)) {
        reply_detail(c->out, 400, "Current password is incorrect");
    } else if (str_eq(password, c->user->secret)) {
        reply_detail(c->out, 400, "You can't use your current password");
    } else {
        free(c->user->secret);
        c->user->secret = str_dup(password);
        reply_json(c->out, 200, cJSON_Duplicate(c->user->json, true));
    }
}

/* From 1.13 on: shut out at once, erased in the background; who asks again is told the same. */
static void begin_erasure(struct lf_call *c, struct lf_record *user)
{
    char request[UUID_TEXT];
    str_copy(request, sizeof(request), user->id);
    for (char *p = request; *p; p++)
        *p = (char)(*p == '0'   ? 'f'
                    : *p == 'f' ? '0'
                                : *p); /* any UUID that follows from the user's */
    lf_set(user->json, "is_active", cJSON_CreateBool(false));
    for (struct lf_record *k = user->first[LF_KEY], *next; k; k = next) {
        next = k->next;
        lf_remove(c->s, k, 0);
    }
    cJSON *json = cJSON_CreateObject();
    cJSON_AddStringToObject(json, "detail", "User deletion started");
    cJSON_AddStringToObject(json, "request_id", request);
    reply_json(c->out, 202, json);
}

void lf_user_delete(struct lf_call *c)
{
    bool super = is_super(c->user);
    struct lf_record *user = lf_find(c->s, LF_USER, c->id);
    if (str_eq(c->user->id, c->id) && (super || c->s->minor >= 12)) {
        reply_detail(c->out, 400, "You can't delete your own user account");
        return;
    }
    if (!super) {
        reply_detail(c->out, 403, "The user doesn't have enough privileges");
        return;
    }
    if (!user) {
        reply_detail(c->out, 404, "User not found");
        return;
    }
    if (c->s->minor >= 13)
        begin_erasure(c, user);
    else
        reply_detail(c->out, 200, "User deleted");
    lf_remove(c->s, user, c->s->settings.erase_ms);
}

/* ---- keys ---- */

struct lf_record *lf_key_new(struct lf_store *s, struct lf_record *user, const char *name,
                             const char *key)
{
    cJSON *json = cJSON_CreateObject();
    cJSON_AddStringToObject(json, "name", name);
    cJSON_AddNullToObject(json, "last_used_at");
    cJSON_AddNumberToObject(json, "total_uses", 0);
    cJSON_AddBoolToObject(json, "is_active", true);
    if (s->minor >= 10)
        cJSON_AddNullToObject(json, "expires_at");
    cJSON_AddNullToObject(json, "id");
    cJSON_AddStringToObject(json, "user_id", user->id);
    add_now(json, "created_at");
    struct lf_record *r = lf_add(s, LF_KEY, user, NULL, key, json);
    if (r)
        r->secret = str_dup(key);
    return r;
}

static cJSON *show_key(const struct lf_record *key, bool whole)
{
    cJSON *json = cJSON_Duplicate(key->json, true);
    char *text = str_dup(key->secret);
    if (text && !whole && strlen(text) > SHOWN_OF_KEY)
        memset(text + SHOWN_OF_KEY, '*', strlen(text) - SHOWN_OF_KEY);
    if (whole)
        cJSON_DeleteItemFromObjectCaseSensitive(json, "created_at");
    cJSON_AddStringToObject(json, "api_key", text ? text : "");
    free(text);
    return json;
}

void lf_key_list(struct lf_call *c)
{
    cJSON *json = cJSON_CreateObject(), *keys = cJSON_CreateArray();
    for (struct lf_record *k = lf_first(c->s, c->user, LF_KEY); k; k = lf_next(c->s, k))
        cJSON_AddItemToArray(keys, show_key(k, false));
    cJSON_AddNumberToObject(json, "total_count", cJSON_GetArraySize(keys));
    cJSON_AddStringToObject(json, "user_id", c->user->id);
    cJSON_AddItemToObject(json, "api_keys", keys);
    reply_json(c->out, 200, json);
}

void lf_key_create(struct lf_call *c)
{
    char key[128];
    const char *name = json_str(c->body, "name");
    make_secret("sk-", key, sizeof(key));
    struct lf_record *made = lf_key_new(c->s, c->user, name ? name : "", key);
    reply_json(c->out, 200, made ? show_key(made, true) : NULL);
}

void lf_key_delete(struct lf_call *c)
{
    struct lf_record *key = lf_own(c->s, LF_KEY, c->user, c->id);
    if (!key) {
        reply_detail(c->out, 400, "API Key not found");
        return;
    }
    lf_remove(c->s, key, 0);
    reply_detail(c->out, 200, "API Key deleted");
}
