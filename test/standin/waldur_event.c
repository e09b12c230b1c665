/*
 * Events: rows of /api/events/, bodies of webhooks, and the message bus's words about the same.
 */
#include "waldur.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/str.h"

/* ---- the context, as Waldur's loggers flatten it ---- */

/* None, True and False become words. */
static void word(cJSON *to, const char *name, const char *text)
{
    cJSON_AddStringToObject(to, name, text ? text : "None");
}

static void when(cJSON *to, const char *name, int64_t us)
{
    char at[CLOCK_TEXT_MAX], offset[CLOCK_TEXT_MAX + 8];
    clock_format_us(at, us);
    /* isoformat() has an offset where others have Z. */
    snprintf(offset, sizeof(offset), "%.*s+00:00", (int)strcspn(at, "Z"), at);
    word(to, name, us ? offset : NULL);
}

static void whole(cJSON *to, const char *name, const struct wd_record *r, const char *member)
{
    const cJSON *value = cJSON_GetObjectItemCaseSensitive(r->own, member);
    cJSON_AddItemToObject(to, name, value ? cJSON_Duplicate(value, true) : cJSON_CreateObject());
}

/* Only where it happened inside of a request. */
static void add_user(cJSON *to, enum wd_actor actor)
{
    bool consumer = actor == WD_CONSUMER;
    if (actor == WD_SYSTEM)
        return;
    word(to, "ip_address", consumer ? "10.0.0.1" : "10.0.0.2");
    word(to, "user_uuid",
         consumer ? "1a9e1a9e1a9e41a98e1a9e1a9e1a9e1a" : "a6e17a6e17a64e178a6e17a6e17a6e17");
    word(to, "user_full_name", consumer ? "Jane Doe" : "Site Agent");
    word(to, "user_native_name", "");
    word(to, "user_username", consumer ? "jane" : "agent");
    word(to, "user_is_staff", "False");
    word(to, "user_is_support", "False");
    word(to, "user_token_lifetime", "None");
}

/* Attributes go out as they were given; the newer one blackens those that a credential's name
 * gives away. */
static void add_attributes(const struct wd_store *s, cJSON *to, const char *name,
                           const struct wd_record *r)
{
    whole(to, name, r, "attributes");
    cJSON *one, *attributes = cJSON_GetObjectItemCaseSensitive(to, name);
    for (one = attributes->child; one && s->year != 24;) {
        cJSON *next = one->next;
        if (wd_is_secret(one->string))
            wd_set_text(attributes, one->string, "***");
        one = next;
    }
}

static void add_order(const struct wd_store *s, cJSON *to, const struct wd_record *o)
{
    word(to, "order_uuid", o->id);
    when(to, "order_created", o->created_us);
    when(to, "order_modified", o->modified_us);
    cJSON_AddNumberToObject(to, "order_cost", 10);
    whole(to, "order_limits", o, "limits");
    add_attributes(s, to, "order_attributes", o);
    word(to, "order_get_state_display", wd_order_states[o->state]);
    word(to, "order_get_type_display", wd_types[o->type]);
    when(to, "order_consumer_reviewed_at", o->consumer_us);
    word(to, "order_provider_reviewed_by", o->provider_us ? "agent" : NULL);
    when(to, "order_provider_reviewed_at", o->provider_us);
    word(to, "created_by_uuid", "1a9e1a9e1a9e41a98e1a9e1a9e1a9e1a");
    word(to, "created_by_full_name", o->by_system ? "System Robot" : "Jane Doe");
    word(to, "created_by_username", o->by_system ? "system_robot" : "jane");
    if (o->consumer_us)
        word(to, "consumer_reviewed_by_uuid", "1a9e1a9e1a9e41a98e1a9e1a9e1a9e1a");
}

static void add_resource(const struct wd_store *s, cJSON *to, const struct wd_record *r)
{
    word(to, "resource_uuid", r->id);
    word(to, "resource_name", wd_text(r, "name"));
    when(to, "resource_created", r->created_us);
    when(to, "resource_modified", r->modified_us);
    add_attributes(s, to, "resource_attributes", r);
    cJSON_AddNumberToObject(to, "resource_cost", 10);
    whole(to, "resource_limits", r, "limits");
    word(to, "resource_get_state_display", wd_resource_states[r->state]);
    whole(to, "resource_backend_metadata", r, "backend_metadata");
    word(to, "resource_backend_uuid", NULL);
    word(to, "resource_backend_type", NULL);
}

static void add_scope(cJSON *to, const struct wd_record *r)
{
    const struct wd_record *customer = r->project->customer;
    word(to, "offering_uuid", r->offering->id);
    word(to, "offering_name", wd_text(r->offering, "name"));
    if (r->plan) {
        word(to, "plan_uuid", r->plan->id);
        word(to, "plan_name", wd_text(r->plan, "name"));
    }
    word(to, "project_uuid", r->project->id);
    word(to, "project_name", wd_text(r->project, "name"));
    word(to, "project_end_date", NULL);
    word(to, "customer_uuid", customer->id);
    word(to, "customer_name", wd_text(customer, "name"));
    word(to, "customer_abbreviation", wd_text(customer, "abbreviation"));
    word(to, "customer_contact_details", "");
}

static char *context_text(const struct wd_store *s, const struct wd_record *order,
                          const struct wd_record *resource)
{
    cJSON *to = cJSON_CreateObject();
    add_user(to, s->actor);
    if (order)
        add_order(s, to, order);
    if (resource)
        add_resource(s, to, resource);
    if (order || resource)
        add_scope(to, order ? order : resource);
    char *text = json_text(to);
    cJSON_Delete(to);
    return text;
}

/* ---- events ---- */

static char *message_text(const char *message, const struct wd_record *resource)
{
    const char *gap = strstr(message, "{}");
    struct buf b;
    if (!gap || !resource)
        return str_dup(message);
    buf_init(&b, WD_BODY_MAX);
    buf_addf(&b, "%.*s%s%s", (int)(gap - message), message, wd_text(resource, "name"), gap + 2);
    return buf_steal(&b);
}

static void add_json(struct buf *b, const struct wd_record *e, const char *created)
{
    buf_adds(b, "{\"created\":");
    buf_add_json(b, created);
    buf_adds(b, ",\"message\":");
    buf_add_json(b, wd_text(e, "message"));
    buf_addf(b, ",\"context\":%s,\"event_type\":", e->text);
    buf_add_json(b, wd_text(e, "event_type"));
    buf_addc(b, '}');
}

/* As Python's requests encodes an object within an object: by the names of its members alone. */
static void add_form(struct buf *b, const struct wd_record *e, const char *created)
{
    cJSON *context = cJSON_Parse(e->text);
    const cJSON *one;
    buf_adds(b, "created=");
    buf_add_url(b, created);
    buf_adds(b, "&message=");
    buf_add_url(b, wd_text(e, "message"));
    cJSON_ArrayForEach(one, context)
    {
        buf_addf(b, "&context=%s", one->string);
    }
    buf_addf(b, "&event_type=%s", wd_text(e, "event_type"));
    cJSON_Delete(context);
}

char *wd_event_body(const struct wd_record *e, enum wd_form form)
{
    cJSON *made = cJSON_CreateObject();
    struct buf b;
    when(made, "created", e->created_us);
    buf_init(&b, WD_BODY_MAX);
    if (form == WD_FORM_ENCODED)
        add_form(&b, e, json_str(made, "created"));
    else
        add_json(&b, e, json_str(made, "created"));
    cJSON_Delete(made);
    return buf_steal(&b);
}

static bool anybody(const struct wd_store *s, enum wd_form form, const char *type)
{
    for (const struct wd_record *h = s->first[WD_HOOK]; h; h = h->next) {
        if (wd_hook_wants(s, h, form, type))
            return true;
    }
    return false;
}

static void add_ids(cJSON *own, const struct wd_record *order, const struct wd_record *resource)
{
    const struct wd_record *r = order ? order : resource;
    if (order)
        cJSON_AddStringToObject(own, "order", order->id);
    if (resource)
        cJSON_AddStringToObject(own, "resource", resource->id);
    if (!r)
        return;
    cJSON_AddStringToObject(own, "project", r->project->id);
    cJSON_AddStringToObject(own, "customer", r->project->customer->id);
}

void wd_fire(struct wd_store *s, const char *type, const char *message,
             const struct wd_record *order, const struct wd_record *resource)
{
    char *text = context_text(s, order, resource), *said = message_text(message, resource);
    cJSON *own = text && said ? cJSON_CreateObject() : NULL;
    cJSON_AddStringToObject(own, "event_type", type);
    cJSON_AddStringToObject(own, "message", said);
    add_ids(own, order, resource);
    free(said);
    struct wd_record *e = wd_add(s, WD_EVENT, NULL, own);
    if (!e) {
        free(text);
        return;
    }
    e->text = text;
    for (enum wd_form form = WD_WEBHOOK; form <= WD_FORM_ENCODED; form++) {
        if (anybody(s, form, type))
            wd_send(s, form, type, e->id, wd_event_body(e, form));
    }
}

/* ---- the message bus ---- */

static char *text_of(cJSON *json)
{
    char *text = json_text(json);
    cJSON_Delete(json);
    return text;
}

/* "pending provider", as its pages have it: not the API's spelling. */
static void tell_state(const struct wd_store *s, cJSON *to, const struct wd_record *o)
{
    char text[WD_WORD_MAX];
    str_copy(text, sizeof(text), wd_order_states[o->state]);
    for (char *p = text; *p; p++) {
        if (*p == '-' && s->settings.stomp_spaces)
            *p = ' ';
    }
    word(to, "order_state", text);
}

char *wd_order_message(const struct wd_store *s, const struct wd_record *o, enum wd_form form)
{
    const struct wd_record *r = o->resource;
    cJSON *to = cJSON_CreateObject();
    word(to, "order_uuid", o->id);
    if (form == WD_STOMP_LEGACY) {
        word(to, "order_state", wd_order_states[o->state]);
        return text_of(to);
    }
    word(to, "schema_version", "1");
    word(to, "object_type", "order");
    tell_state(s, to, o);
    word(to, "order_type", wd_types[o->type]);
    word(to, "offering_uuid", o->offering->id);
    word(to, "resource_uuid", r->id);
    word(to, "resource_backend_id", wd_text(r, "backend_id"));
    word(to, "resource_name", wd_text(r, "name"));
    word(to, "project_uuid", o->project->id);
    word(to, "project_name", wd_text(o->project, "name"));
    whole(to, "attributes", o, "attributes");
    whole(to, "limits", o, "limits");
    wd_set_text(to, "plan_uuid", o->plan ? o->plan->id : NULL);
    return text_of(to);
}

char *wd_resource_message(const struct wd_record *r)
{
    cJSON *to = cJSON_CreateObject();
    word(to, "schema_version", "1");
    word(to, "object_type", "resource");
    word(to, "resource_uuid", r->id);
    word(to, "offering_uuid", r->offering->id);
    word(to, "resource_name", wd_text(r, "name"));
    word(to, "resource_state", wd_resource_states[r->state]);
    word(to, "project_uuid", r->project->id);
    word(to, "project_name", wd_text(r->project, "name"));
    whole(to, "limits", r, "limits");
    return text_of(to);
}

char *wd_rotation_message(const struct wd_record *key)
{
    cJSON *to = cJSON_CreateObject();
    word(to, "object_type", "resource_api_key_rotation");
    word(to, "action", "rotate");
    word(to, "resource_uuid", key->resource->id);
    word(to, "resource_backend_id", wd_text(key->resource, "backend_id"));
    word(to, "api_key_uuid", key->id);
    word(to, "client_id", wd_text(key, "client_id"));
    return text_of(to);
}

void wd_tell_order(struct wd_store *s, const struct wd_record *o)
{
    for (enum wd_form form = WD_STOMP; form <= WD_STOMP_LEGACY; form++) {
        if (anybody(s, form, "order"))
            wd_send(s, form, "order", "", wd_order_message(s, o, form));
    }
}

void wd_tell_resource(struct wd_store *s, const struct wd_record *r)
{
    if (anybody(s, WD_STOMP, "resource"))
        wd_send(s, WD_STOMP, "resource", "", wd_resource_message(r));
}

void wd_tell_rotation(struct wd_store *s, const struct wd_record *key)
{
    static const char type[] = "resource_api_key_rotation";
    if (anybody(s, WD_STOMP, type))
        wd_send(s, WD_STOMP, type, "", wd_rotation_message(key));
}
