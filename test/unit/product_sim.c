#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "product_sim.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/json.h"
#include "base/str.h"

enum { ARGUMENTS_MAX = 16, TEXT_MAX_BYTES = 4096, GZIP_HEAD = 10, GZIP_BLOCK_HEAD = 5 };

/* One request taken apart, as a server's library would have it. */
struct wire {
    char path[TEXT_MAX_BYTES];
    char query[TEXT_MAX_BYTES]; /* cut up by NULs */
    size_t n;
    const char *name[ARGUMENTS_MAX], *value[ARGUMENTS_MAX];
    const char *auth_header, *content_type;
    char authorization[TEXT_MAX_BYTES];
};

/* ---- what the dialects ask of their server ---- */

const char *call_argument(const struct call *c, const char *name)
{
    const struct wire *w = c->connection;
    for (size_t i = 0; w && i < w->n; i++) {
        if (str_eq(w->name[i], name)) {
            return w->value[i];
        }
    }
    return NULL;
}

bool call_argument_at(const struct call *c, size_t i, const char **name, const char **value)
{
    const struct wire *w = c->connection;
    if (!w || i >= w->n) {
        return false;
    }
    *name = w->name[i];
    *value = w->value[i];
    return true;
}

const char *call_header(const struct call *c, const char *name)
{
    const struct wire *w = c->connection;
    if (w && w->auth_header && strcasecmp(name, w->auth_header) == 0) {
        return w->authorization;
    }
    if (w && strcasecmp(name, "Content-Type") == 0) {
        return w->content_type;
    }
    return strcasecmp(name, "Accept-Encoding") == 0 ? "gzip" : NULL;
}

/* ---- requests ---- */

static void unescape(char *s)
{
    char *out = s;
    for (; *s; s++) {
        if (s[0] == '%' && isxdigit((unsigned char)s[1]) && isxdigit((unsigned char)s[2])) {
            const char hex[] = {s[1], s[2], '\0'};
            *out++ = (char)strtoul(hex, NULL, 16);
            s += 2;
        } else {
            *out++ = *s == '+' ? ' ' : *s;
        }
    }
    *out = '\0';
}

static void split_query(struct wire *w)
{
    char *rest = w->query;
    while (rest && *rest && w->n < ARGUMENTS_MAX) {
        char *next = strchr(rest, '&'), *equals;
        if (next) {
            *next++ = '\0';
        }
        equals = strchr(rest, '=');
        if (equals) {
            *equals = '\0';
            unescape(equals + 1);
        }
        unescape(rest);
        w->name[w->n] = rest;
        w->value[w->n++] = equals ? equals + 1 : "";
        rest = next;
    }
}

static void take_apart(const char *base, const struct exchange_request *r, struct wire *w)
{
    w->n = 0;
    w->query[0] = '\0';
    if (!str_starts(r->url, base)) {
        fail_msg("a request to %s", r->url);
    }
    const char *path = r->url + strlen(base);
    path += str_starts(path, "-admin/") ? strlen("-admin") : 0;
    assert_int_equal(path[0], '/');
    char sent[TEXT_MAX_BYTES];
    int n = snprintf(sent, sizeof(sent), "%.*s%s", (int)strcspn(path, "#"), path,
                     r->url_secret ? r->url_secret : "");
    assert_true(n > 0 && (size_t)n < sizeof(sent));
    char *question = strchr(sent, '?');
    if (question) {
        *question = '\0';
        assert_true(str_copy(w->query, sizeof(w->query), question + 1));
        split_query(w);
    }
    assert_true(str_copy(w->path, sizeof(w->path), sent));
    unescape(w->path);
    w->auth_header = r->auth_header;
    w->content_type = r->content_type;
    if (r->auth_header) {
        assert_non_null(r->credential);
        snprintf(w->authorization, sizeof(w->authorization), "%s%s", r->auth_scheme, r->credential);
    }
}

/* ---- answers ---- */

/* Stored blocks alone, as langflow.c writes them (RFC 1951, 3.2.4). */
static char *gunzip(const char *p, size_t n)
{
    char *out = malloc(n + 1);
    size_t at = GZIP_HEAD, len = 0;
    bool last = false;
    assert_non_null(out);
    while (!last) {
        assert_true(at + GZIP_BLOCK_HEAD <= n);
        size_t size = (unsigned char)p[at + 1] | (size_t)(unsigned char)p[at + 2] << 8;
        last = p[at] & 1;
        assert_true(at + GZIP_BLOCK_HEAD + size <= n);
        memcpy(out + len, p + at + GZIP_BLOCK_HEAD, size);
        at += GZIP_BLOCK_HEAD + size;
        len += size;
    }
    out[len] = '\0';
    return out;
}

static const char *reply_header_of(const struct reply *r, const char *name)
{
    return cJSON_GetStringValue(cJSON_GetObjectItem(r->headers, name));
}

static void perform(struct product_sim *p, const struct call *c)
{
    reply_done(&p->reply);
    free(p->plain);
    p->plain = NULL;
    if (str_starts(c->path, "/admin/")) {
        struct call below = *c;
        below.path = c->path + strlen("/admin");
        if (str_eq(below.path, "/objects") && str_eq(c->method, "GET")) {
            p->dialect->list(p->store, &p->reply);
        } else if (str_eq(below.path, "/objects")) {
            cJSON *body = cJSON_ParseWithLength(c->body, c->body_len);
            p->dialect->plant(p->store, body, &p->reply);
            cJSON_Delete(body);
        } else {
            p->dialect->admin(p->store, &below, &p->reply);
        }
    } else {
        p->dialect->handle(p->store, c, &p->reply);
    }
    if (str_eq(reply_header_of(&p->reply, "Content-Encoding"), "gzip")) {
        p->plain = gunzip(p->reply.body, p->reply.len);
    } else {
        p->plain = str_dupn(p->reply.body ? p->reply.body : "", p->reply.len);
    }
}

struct exchange_response product_ask(struct product_sim *p, const struct exchange_request *r)
{
    struct wire w;
    assert_false(r->body.failed);
    take_apart(p->url, r, &w);
    const struct call c = {.method = exchange_method_name(r->method),
                           .path = w.path,
                           .body = buf_str(&r->body),
                           .body_len = r->body.len,
                           .connection = &w};
    perform(p, &c);
    const char *type = reply_header_of(&p->reply, "Content-Type");
    const char *after = reply_header_of(&p->reply, "Retry-After");
    struct exchange_response out = {.sent = true,
                                    .status = p->reply.status,
                                    .body = p->plain,
                                    .body_len = strlen(p->plain),
                                    .retry_after_ms = after ? 1000 * strtol(after, NULL, 10) : -1};
    const char *session = reply_header_of(&p->reply, "Authorization");
    str_copy(out.authorization, sizeof(out.authorization), session ? session : "");
    str_copy(out.content_type, sizeof(out.content_type), type ? type : "application/json");
    out.content_type[strcspn(out.content_type, ";")] = '\0';
    return out;
}

cJSON *product_admin(struct product_sim *p, const char *method, const char *path, const char *body)
{
    char full[TEXT_MAX_BYTES];
    snprintf(full, sizeof(full), "/admin%s", path);
    const struct call c = {.method = method,
                           .path = full,
                           .body = body ? body : "",
                           .body_len = body ? strlen(body) : 0};
    perform(p, &c);
    if (p->reply.status < 200 || p->reply.status > 299) {
        fail_msg("%s /admin%s: %d %s", method, path, p->reply.status, p->plain);
    }
    return cJSON_Parse(p->plain);
}

cJSON *product_objects(struct product_sim *p)
{
    cJSON *all = product_admin(p, "GET", "/objects", NULL);
    cJSON *objects = cJSON_DetachItemFromObjectCaseSensitive(all, "objects");
    cJSON_Delete(all);
    assert_non_null(objects);
    return objects;
}

void product_begin(struct product_sim *p, const char *dialect, const char *profile)
{
    const char *found = NULL;
    *p = (struct product_sim){.dialect = dialect_find(dialect), .url = PRODUCT_URL};
    assert_non_null(p->dialect);
    assert_true(dialect_profile(p->dialect, profile, &found));
    p->store = p->dialect->new (PRODUCT_TOKEN, found);
    assert_non_null(p->store);
}

void product_end(struct product_sim *p)
{
    reply_done(&p->reply);
    free(p->plain);
    p->dialect->free(p->store);
    *p = (struct product_sim){0};
}
