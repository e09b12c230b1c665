/*
 * The provider's calls about resources.
 */
#include "waldur.h"

#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/str.h"

void wd_resource_get(struct wd_call *c)
{
    struct wd_show show;
    wd_show_begin(&show, c->s, c->http);
    reply_json(c->out, 200, wd_show_resource(&show, c->at));
}

void wd_resource_set_backend_id(struct wd_call *c)
{
    char *id;
    if (!wd_take_text(c, "backend_id", (struct wd_rule){.max = 255}, &id))
        return;
    bool changed = id && !str_eq(id, wd_text(c->at, "backend_id"));
    if (changed) {
        wd_set_text(c->at->own, "backend_id", id);
        wd_touch(c->s, c->at);
    }
    free(id);
    wd_status(c, "Resource backend_id %s changed.", changed ? "has been" : "is not");
}

/* The body's member, or NULL and a 400. */
static const cJSON *required(struct wd_call *c, const char *member)
{
    const cJSON *value = cJSON_GetObjectItemCaseSensitive(c->body, member);
    if (!value)
        wd_invalid(c, member, "This field is required.");
    else if (cJSON_IsNull(value))
        wd_invalid(c, member, "This field may not be null.");
    else
        return value;
    return NULL;
}

static void keep(struct wd_call *c, const char *member, const cJSON *value)
{
    wd_set(c->at->own, member, cJSON_Duplicate(value, true));
    wd_touch(c->s, c->at);
}

void wd_resource_set_metadata(struct wd_call *c)
{
    const cJSON *value = required(c, "backend_metadata");
    if (!value)
        return;
    keep(c, "backend_metadata", value);
    wd_status(c, "Resource backend metadata has been changed.");
}

/* 400 {"member": [{"inner": ["why"]}]} for the first entry that is not as it should be. */
static bool check_entries(struct wd_call *c, const char *member, const cJSON *list,
                          const char *const inner[2])
{
    const cJSON *one;
    cJSON_ArrayForEach(one, list)
    {
        for (int i = 0; i < 2; i++) {
            const char *text = json_str(one, inner[i]);
            if (text && *text)
                continue;
            cJSON *answer = cJSON_CreateObject(), *entry = cJSON_CreateObject();
            cJSON *words = cJSON_AddArrayToObject(entry, inner[i]);
            cJSON_AddItemToArray(words, cJSON_CreateString(text ? "This field may not be blank."
                                                                : "This field is required."));
            cJSON_AddItemToArray(cJSON_AddArrayToObject(answer, member), entry);
            reply_json(c->out, 400, answer);
            return false;
        }
    }
    return true;
}

static const cJSON *required_list(struct wd_call *c, const char *member)
{
    const cJSON *list = required(c, member);
    if (!list || cJSON_IsArray(list))
        return list;
    wd_invalid(c, member, "Expected a list of items.");
    return NULL;
}

static bool is_url(const char *text)
{
    return str_starts(text, "http://") || str_starts(text, "https://");
}

static bool urls_ok(struct wd_call *c, const cJSON *list)
{
    const cJSON *one;
    cJSON_ArrayForEach(one, list)
    {
        if (!is_url(json_str(one, "url"))) {
            wd_invalid(c, "endpoints", "Enter a valid URL.");
            return false;
        }
    }
    return true;
}

/* The list is the whole: what was there goes. */
void wd_resource_set_endpoints(struct wd_call *c)
{
    static const char *const inner[2] = {"name", "url"};
    const cJSON *one, *list = required_list(c, "endpoints");
    if (!list || !check_entries(c, "endpoints", list, inner) || !urls_ok(c, list))
        return;
    cJSON *endpoints = cJSON_CreateArray();
    cJSON_ArrayForEach(one, list)
    {
        char uuid[UUID_TEXT], hex[WD_HEX];
        uuid_make(uuid);
        uuid_hex(uuid, hex);
        cJSON *entry = cJSON_CreateObject();
        cJSON_AddStringToObject(entry, "uuid", hex);
        cJSON_AddStringToObject(entry, "name", json_str(one, "name"));
        cJSON_AddStringToObject(entry, "url", json_str(one, "url"));
        cJSON_AddItemToArray(endpoints, entry);
    }
    wd_set(c->at->own, "endpoints", endpoints);
    wd_touch(c->s, c->at);
    wd_status(c, "Resource endpoints have been set.");
}

void wd_resource_report(struct wd_call *c)
{
    static const char *const inner[2] = {"header", "body"};
    const cJSON *list = required_list(c, "report");
    if (!list)
        return;
    if (!list->child) {
        wd_invalid(c, "report", "Report object should contain at least one section.");
        return;
    }
    if (!check_entries(c, "report", list, inner))
        return;
    keep(c, "report", list);
    wd_status(c, "Report is submitted");
}

void wd_resource_set_limits(struct wd_call *c)
{
    const cJSON *one, *limits = required(c, "limits");
    if (!limits)
        return;
    if (!cJSON_IsObject(limits)) {
        wd_invalid(c, "limits", "Expected a dictionary of items but got type \"str\".");
        return;
    }
    cJSON_ArrayForEach(one, limits)
    {
        if (!cJSON_IsNumber(one) || one->valuedouble != (double)(int64_t)one->valuedouble) {
            wd_invalid(c, "limits", "A valid integer is required.");
            return;
        }
    }
    keep(c, "limits", limits);
    wd_status(c, "Limits are set.");
}

void wd_resource_set_ok(struct wd_call *c)
{
    static const int valid[] = {WD_R_CREATING, WD_R_OK, WD_R_ERRED, WD_R_UPDATING,
                                WD_R_TERMINATING};
    if (c->at->state == WD_R_TERMINATED) {
        wd_conflict(c, wd_resource_states, valid, ARRAY_LEN(valid));
        return;
    }
    wd_resource_move(c->s, c->at, WD_R_OK);
    wd_set_text(c->at->own, "error_message", "");
    wd_set_text(c->at->own, "error_traceback", "");
    if (str_eq(c->action, "set_as_ok"))
        c->out->status = 200;
    else
        wd_status(c, "Resource state has been set to OK.");
}

void wd_resource_set_erred(struct wd_call *c)
{
    const char *message = json_str(c->body, "error_message");
    const char *traceback = json_str(c->body, "error_traceback");
    if (c->at->state != WD_R_ERRED) {
        wd_resource_move(c->s, c->at, WD_R_ERRED);
        wd_fire(c->s, "marketplace_resource_erred_on_backend", "Resource {} got error on backend.",
                NULL, c->at);
    }
    wd_set_text(c->at->own, "error_message", message ? message : "");
    wd_set_text(c->at->own, "error_traceback", traceback ? traceback : "");
    wd_touch(c->s, c->at);
    c->out->status = 200;
}

void wd_resource_sync(struct wd_call *c)
{
    char now[CLOCK_TEXT_MAX];
    wd_time(now, wd_now_us(c->s));
    wd_set_text(c->at->own, "last_sync", now);
    c->out->status = 200;
}

/* An order by somebody who need not ask the consumer. */
static struct wd_record *order(struct wd_call *c, enum wd_type type)
{
    const struct wd_wish wish = {
        .type = type, .resource = c->at, .attributes = json_get(c->body, "attributes")};
    struct wd_record *o = wd_order_new(c, &wish);
    if (o)
        wd_order_approve(c->s, o);
    return o;
}

void wd_resource_restore(struct wd_call *c)
{
    if (order(c, WD_RESTORE))
        wd_resource_get(c);
}

void wd_resource_terminate(struct wd_call *c)
{
    const struct wd_record *o = order(c, WD_TERMINATE);
    if (!o)
        return;
    cJSON *answer = cJSON_CreateObject();
    cJSON_AddStringToObject(answer, "order_uuid", o->id);
    reply_json(c->out, 200, answer);
}

void wd_offering_check_unique(struct wd_call *c)
{
    char *id;
    bool all = json_bool(c->body, "check_all_offerings", false), unique = true;
    if (!wd_take_text(c, "backend_id",
                      (struct wd_rule){.max = 255, .required = true, .nonblank = true}, &id))
        return;
    for (const struct wd_record *r = c->s->first[WD_RESOURCE]; r && unique; r = r->next) {
        bool counts = all ? r->offering->customer == c->at->customer : r->offering == c->at;
        unique = !counts || !str_eq(wd_text(r, "backend_id"), id);
    }
    free(id);
    cJSON *answer = cJSON_CreateObject();
    cJSON_AddBoolToObject(answer, "is_unique", unique);
    reply_json(c->out, 200, answer);
}
