/*
 * /api/hooks-web/: who is told of events.
 */
#include "waldur.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/str.h"

/* Of the types that a hook may name: those of orders and resources. */
static const char *const types[] = {"marketplace_order_approved",
                                    "marketplace_order_completed",
                                    "marketplace_order_created",
                                    "marketplace_order_failed",
                                    "marketplace_order_rejected",
                                    "marketplace_order_terminated",
                                    "marketplace_resource_create_canceled",
                                    "marketplace_resource_create_failed",
                                    "marketplace_resource_create_requested",
                                    "marketplace_resource_create_succeeded",
                                    "marketplace_resource_downscaled",
                                    "marketplace_resource_erred_on_backend",
                                    "marketplace_resource_paused",
                                    "marketplace_resource_terminate_canceled",
                                    "marketplace_resource_terminate_failed",
                                    "marketplace_resource_terminate_requested",
                                    "marketplace_resource_terminate_succeeded",
                                    "marketplace_resource_update_canceled",
                                    "marketplace_resource_update_end_date_succeeded",
                                    "marketplace_resource_update_failed",
                                    "marketplace_resource_update_limits_failed",
                                    "marketplace_resource_update_limits_succeeded",
                                    "marketplace_resource_update_requested",
                                    "marketplace_resource_update_succeeded",
                                    NULL};
static const char *const newer_types[] = {
    "marketplace_order_unlinked", "marketplace_resource_unlinked",
    "marketplace_resource_api_key_rotated", "marketplace_resource_api_key_revealed", NULL};
static const char *const groups[] = {"auth",      "customers", "permissions", "projects",
                                     "providers", "resources", "users",       NULL};
static const char *const contents[] = {"json", "form", NULL};

static bool known_type(const struct wd_store *s, const char *type)
{
    return wd_word(types, type) >= 0 || (s->year != 24 && wd_word(newer_types, type) >= 0);
}

bool wd_hook_wants(const struct wd_store *s, const struct wd_record *h, enum wd_form form,
                   const char *type)
{
    const char *given = json_str(h->own, "form"); /* of hooks that tests made */
    bool encoded = !given && str_eq(json_str(h->own, "content_type"), "form");
    int mine = given ? wd_word(wd_forms, given) : encoded ? WD_FORM_ENCODED : WD_WEBHOOK;
    if (mine != (int)form || !json_bool(h->own, "is_active", true))
        return false;
    if (form != WD_WEBHOOK && form != WD_FORM_ENCODED)
        return true;
    /* A provider's own hooks see nothing: orders are the consumers'. */
    if (!given && !s->settings.is_support && !s->settings.is_staff)
        return false;
    return json_has_string(h->own, "event_types", type) ||
           (known_type(s, type) && json_has_string(h->own, "event_groups", "resources"));
}

/* ---- where hooks may lead ---- */

bool wd_is_public(const char *url)
{
    static const struct {
        uint32_t net, mask;
    } ours[] = {{0x7f000000, 0xff000000}, {0x0a000000, 0xff000000}, {0xac100000, 0xfff00000},
                {0xc0a80000, 0xffff0000}, {0xa9fe0000, 0xffff0000}, {0x00000000, 0xff000000}};
    const char *from = str_starts(url, "http://")    ? url + strlen("http://")
                       : str_starts(url, "https://") ? url + strlen("https://")
                                                     : NULL;
    char *host = from ? str_dupn(from, strcspn(from, ":/?#")) : NULL;
    struct in_addr ip;
    bool good = host && *host && !str_eq(host, "localhost");
    if (good && inet_pton(AF_INET, host, &ip) == 1) {
        for (size_t i = 0; i < ARRAY_LEN(ours); i++)
            good = good && (ntohl(ip.s_addr) & ours[i].mask) != ours[i].net;
    }
    free(host);
    return good;
}

/* ---- the calls ---- */

static bool check_url(struct wd_call *c, bool partial)
{
    char *url;
    if (!wd_take_text(c, "destination_url",
                      (struct wd_rule){.max = 200, .required = !partial, .nonblank = true}, &url))
        return false;
    bool ok = true;
    if (url && !str_starts(url, "http://") && !str_starts(url, "https://")) {
        wd_invalid(c, "destination_url", "Enter a valid URL.");
        ok = false;
    } else if (url && c->s->settings.ssrf_guard && !wd_is_public(url)) {
        wd_invalid(c, "destination_url", "URL points to a private or internal address.");
        ok = false;
    }
    free(url);
    return ok;
}

static bool check_words(struct wd_call *c, const char *member,
                        bool (*known)(const struct wd_store *s, const char *word))
{
    const cJSON *one, *list = cJSON_GetObjectItemCaseSensitive(c->body, member);
    if (list && !cJSON_IsArray(list)) {
        wd_invalid(c, member, "Expected a list of items.");
        return false;
    }
    cJSON_ArrayForEach(one, list)
    {
        const char *word = cJSON_GetStringValue(one);
        if (!word || !known(c->s, word)) {
            wd_invalid(c, member, "\"%s\" is not a valid choice.", word ? word : "");
            return false;
        }
    }
    return true;
}

static bool known_group(const struct wd_store *s, const char *group)
{
    (void)s;
    return wd_word(groups, group) >= 0;
}

static bool check(struct wd_call *c, bool partial)
{
    const cJSON *content = cJSON_GetObjectItemCaseSensitive(c->body, "content_type");
    if (!check_url(c, partial) || !check_words(c, "event_types", known_type) ||
        !check_words(c, "event_groups", known_group))
        return false;
    if (!content || (cJSON_IsString(content) && wd_word(contents, content->valuestring) >= 0))
        return true;
    wd_invalid(c, "content_type", "\"%s\" is not a valid choice.",
               cJSON_IsString(content) ? content->valuestring : "");
    return false;
}

static void take(cJSON *own, const cJSON *body)
{
    static const char *const members[] = {"destination_url", "content_type", "event_types",
                                          "event_groups", "is_active"};
    for (size_t i = 0; i < ARRAY_LEN(members); i++) {
        const cJSON *value = cJSON_GetObjectItemCaseSensitive(body, members[i]);
        if (value)
            wd_set(own, members[i], cJSON_Duplicate(value, true));
    }
}

static void show(struct wd_call *c, int status, const struct wd_record *h)
{
    struct wd_show fields;
    wd_show_begin(&fields, c->s, c->http);
    reply_json(c->out, status, wd_show_hook(&fields, h));
}

void wd_hook_get(struct wd_call *c)
{
    show(c, 200, c->at);
}

void wd_hook_create(struct wd_call *c)
{
    if (!check(c, false))
        return;
    cJSON *own = cJSON_CreateObject();
    cJSON_AddStringToObject(own, "content_type", "json");
    cJSON_AddArrayToObject(own, "event_types");
    cJSON_AddArrayToObject(own, "event_groups");
    cJSON_AddBoolToObject(own, "is_active", true);
    take(own, c->body);
    struct wd_record *h = wd_add(c->s, WD_HOOK, NULL, own);
    if (h)
        show(c, 201, h);
    else
        wd_crash(c);
}

void wd_hook_change(struct wd_call *c)
{
    if (!check(c, str_eq(c->http->method, "PATCH")))
        return;
    take(c->at->own, c->body);
    wd_touch(c->s, c->at);
    show(c, 200, c->at);
}

void wd_hook_delete(struct wd_call *c)
{
    wd_remove(c->s, c->at);
    c->at = NULL;
    c->out->status = 204;
}
