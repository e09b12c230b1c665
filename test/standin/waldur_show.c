/*
 * Rows as the API shows them; where a call asks for some members (?field=), those alone.
 */
#include "waldur.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/json.h"
#include "base/str.h"

enum { URL_BYTES = 320 };

/* One row on its way out. */
struct row {
    const struct wd_show *show;
    cJSON *to;
};

void wd_show_begin(struct wd_show *show, struct wd_store *s, const struct call *http)
{
    const char *host = http->connection ? call_header(http, "Host") : NULL;
    const char *name, *value;
    *show = (struct wd_show){.s = s};
    snprintf(show->base, sizeof(show->base), "http://%s/api", host ? host : "waldur.example");
    for (size_t i = 0; http->connection && call_argument_at(http, i, &name, &value); i++) {
        if (str_eq(name, "field") && show->n < WD_FIELDS_MAX)
            show->fields[show->n++] = value;
    }
}

static bool wants(const struct row *w, const char *name)
{
    if (!w->show->n)
        return true;
    for (size_t i = 0; i < w->show->n; i++) {
        if (str_eq(w->show->fields[i], name))
            return true;
    }
    return false;
}

static void text(struct row *w, const char *name, const char *value)
{
    if (wants(w, name))
        wd_set_text(w->to, name, value);
}

static void number(struct row *w, const char *name, double value)
{
    if (wants(w, name))
        cJSON_AddNumberToObject(w->to, name, value);
}

static void truth(struct row *w, const char *name, bool value)
{
    if (wants(w, name))
        cJSON_AddBoolToObject(w->to, name, value);
}

/* NULL: null. */
static void copy(struct row *w, const char *name, const cJSON *value)
{
    if (wants(w, name))
        cJSON_AddItemToObject(w->to, name,
                              value ? cJSON_Duplicate(value, true) : cJSON_CreateNull());
}

static void object(struct row *w, const char *name, const cJSON *value)
{
    if (wants(w, name))
        cJSON_AddItemToObject(w->to, name,
                              value ? cJSON_Duplicate(value, true) : cJSON_CreateObject());
}

static void when(struct row *w, const char *name, int64_t us)
{
    char at[CLOCK_TEXT_MAX];
    if (!wants(w, name))
        return;
    wd_time(at, us);
    wd_set_text(w->to, name, us ? at : NULL);
}

void wd_time(char out[CLOCK_TEXT_MAX], int64_t us)
{
    clock_format_us(out, us);
}

static void url(struct row *w, const char *name, const char *collection, const char *id)
{
    char at[URL_BYTES];
    if (!wants(w, name))
        return;
    snprintf(at, sizeof(at), "%s/%s/%s/", w->show->base, collection, id);
    wd_set_text(w->to, name, at);
}

/* Members of another row under a prefix: "customer" and "name" make customer_name. */
static void other(struct row *w, const char *prefix, const char *member,
                  const struct wd_record *from)
{
    char name[WD_WORD_MAX];
    snprintf(name, sizeof(name), "%s_%s", prefix, member);
    if (!from)
        text(w, name, NULL);
    else
        text(w, name, str_eq(member, "uuid") ? from->id : wd_text(from, member));
}

static void own(struct row *w, const struct wd_record *r)
{
    const cJSON *one;
    cJSON_ArrayForEach(one, r->own)
    {
        if (!str_eq(one->string, "attributes"))
            copy(w, one->string, one);
    }
}

static cJSON *own_of(const struct wd_record *r, const char *name)
{
    return cJSON_GetObjectItemCaseSensitive(r->own, name);
}

/* ---- orders ---- */

bool wd_is_secret(const char *name)
{
    static const char *const words[] = {"password", "secret", "token"};
    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        if (strcasestr(name, words[i]))
            return true;
    }
    return false;
}

/* Waldur keeps what looks like a credential to itself. */
static void safe_attributes(struct row *w, const cJSON *attributes)
{
    if (!wants(w, "attributes"))
        return;
    cJSON *to = cJSON_AddObjectToObject(w->to, "attributes");
    const cJSON *one;
    cJSON_ArrayForEach(one, attributes)
    {
        if (!wd_is_secret(one->string))
            cJSON_AddItemToObject(to, one->string, cJSON_Duplicate(one, true));
    }
}

static void offering_and_plan(struct row *w, const struct wd_record *r)
{
    const struct wd_record *f = r->offering;
    url(w, "offering", "marketplace-public-offerings", f->id);
    other(w, "offering", "uuid", f);
    other(w, "offering", "name", f);
    other(w, "offering", "type", f);
    text(w, "offering_description", "");
    truth(w, "offering_shared", true);
    truth(w, "offering_billable", true);
    object(w, "offering_plugin_options", own_of(f, "plugin_options"));
    text(w, "category_title", "AI");
    text(w, "category_uuid", "c0c0c0c0c0c04c0cac0cc0c0c0c0c0c0");
    other(w, "provider", "uuid", f->customer);
    other(w, "provider", "name", f->customer);
    other(w, "provider", "slug", f->customer);
    if (r->plan)
        url(w, "plan", "marketplace-public-plans", r->plan->id);
    other(w, "plan", "uuid", r->plan);
    other(w, "plan", "name", r->plan);
    text(w, "plan_description", r->plan ? "" : NULL);
    text(w, "plan_unit", r->plan ? "month" : NULL);
}

static void project_and_customer(struct row *w, const struct wd_record *r, bool slugs)
{
    other(w, "project", "uuid", r->project);
    other(w, "project", "name", r->project);
    text(w, "project_description", "");
    other(w, "customer", "uuid", r->project->customer);
    other(w, "customer", "name", r->project->customer);
    if (slugs) {
        other(w, "project", "slug", r->project);
        other(w, "customer", "slug", r->project->customer);
    }
}

static void who(struct row *w, const struct wd_record *o)
{
    bool consumer = o->consumer_us && !o->by_system, provider = o->provider_us != 0;
    text(w, "created_by_username", o->by_system ? "system_robot" : "jane");
    text(w, "created_by_full_name", o->by_system ? "System Robot" : "Jane Doe");
    text(w, "created_by_email", o->by_system ? NULL : "jane@consumer.example");
    text(w, "created_by_civil_number", NULL);
    text(w, "created_by_organization", NULL);
    text(w, "consumer_reviewed_by", consumer ? "jane" : NULL);
    text(w, "consumer_reviewed_by_full_name", consumer ? "Jane Doe" : NULL);
    text(w, "consumer_reviewed_by_username", consumer ? "jane" : NULL);
    when(w, "consumer_reviewed_at", o->consumer_us);
    text(w, "provider_reviewed_by", provider ? "agent" : NULL);
    text(w, "provider_reviewed_by_full_name", provider ? "Site Agent" : NULL);
    text(w, "provider_reviewed_by_username", provider ? "agent" : NULL);
    when(w, "provider_reviewed_at", o->provider_us);
}

static void prices(struct row *w, const struct wd_record *o)
{
    text(w, "cost", "10.0000000000");
    number(w, "fixed_price", 10);
    number(w, "activation_price", 0);
    number(w, "old_cost_estimate", o->type == WD_CREATE ? 0 : 10);
    text(w, "new_cost_estimate", "10.0000000000");
    other(w, "old_plan", "uuid", o->old_plan);
    other(w, "old_plan", "name", o->old_plan);
    other(w, "new_plan", "uuid", o->type == WD_UPDATE ? o->plan : NULL);
    other(w, "new_plan", "name", o->type == WD_UPDATE ? o->plan : NULL);
}

/* Members that an order may have, and what stands where it has none. */
static void order_texts(struct row *w, const struct wd_record *o)
{
    static const char *const texts[] = {"error_message", "error_traceback",
                                        "consumer_rejection_comment", "provider_rejection_comment",
                                        "provider_message"};
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        text(w, texts[i], wd_text(o, texts[i]));
    if (own_of(o, "provider_message_url"))
        text(w, "provider_message_url", wd_text(o, "provider_message_url"));
    copy(w, "termination_comment", own_of(o, "termination_comment"));
    text(w, "output", "");
    text(w, "request_comment", NULL);
    text(w, "callback_url", NULL);
    text(w, "start_date", NULL);
    text(w, "issue", NULL);
    text(w, "attachment", NULL);
    text(w, "resource_type", NULL);
    text(w, "resource_uuid", NULL); /* the plugin's own object: there is none */
}

cJSON *wd_show_order(const struct wd_show *show, const struct wd_record *o)
{
    struct row row = {.show = show, .to = cJSON_CreateObject()}, *w = &row;
    bool new = show->s->year != 24;
    url(w, "url", "marketplace-orders", o->id);
    text(w, "uuid", o->id);
    when(w, "created", o->created_us);
    when(w, "modified", o->modified_us);
    text(w, "type", wd_types[o->type]);
    text(w, "state", wd_order_states[o->state]);
    if (o->resource) {
        text(w, "marketplace_resource_uuid", o->resource->id);
        text(w, "resource_name", wd_text(o->resource, "name"));
    }
    offering_and_plan(w, o);
    project_and_customer(w, o, true);
    safe_attributes(w, own_of(o, "attributes"));
    object(w, "limits", own_of(o, "limits"));
    who(w, o);
    prices(w, o);
    order_texts(w, o);
    truth(w, "can_terminate", wd_is_open(o) && o->state != WD_EXECUTING);
    when(w, "completed_at", o->completed_us);
    if (new) {
        text(w, "slug", wd_text(o, "slug"));
        text(w, "backend_id", wd_text(o, "backend_id"));
        text(w, "order_subtype", NULL);
    }
    return row.to;
}

/* ---- resources ---- */

static const struct wd_record *open_order(const struct wd_record *r)
{
    const struct wd_record *o = r->last_order;
    while (o && !wd_is_open(o))
        o = o->prev_order;
    return o;
}

static const struct wd_record *first_create(const struct wd_record *r)
{
    const struct wd_record *o = r->first_order;
    while (o && o->type != WD_CREATE)
        o = o->next_order;
    return o;
}

static void order_of(struct row *w, const char *name, const struct wd_record *o)
{
    struct wd_show all = *w->show;
    all.n = 0;
    if (wants(w, name))
        cJSON_AddItemToObject(w->to, name, o ? wd_show_order(&all, o) : cJSON_CreateNull());
}

cJSON *wd_show_resource(const struct wd_show *show, const struct wd_record *r)
{
    struct row row = {.show = show, .to = cJSON_CreateObject()}, *w = &row;
    bool new = show->s->year != 24;
    url(w, "url", "marketplace-provider-resources", r->id);
    text(w, "uuid", r->id);
    when(w, "created", r->created_us);
    when(w, "modified", r->modified_us);
    text(w, "state", wd_resource_states[r->state]);
    own(w, r);
    safe_attributes(w, own_of(r, "attributes"));
    text(w, "effective_id", "");
    text(w, "description", "");
    text(w, "resource_type", NULL);
    text(w, "resource_uuid", NULL);
    url(w, "project", "projects", r->project->id);
    offering_and_plan(w, r);
    text(w, "offering_slug", wd_text(r->offering, "slug"));
    text(w, "offering_state", "Active");
    text(w, "offering_backend_id", "");
    project_and_customer(w, r, new);
    truth(w, "can_terminate", r->state == WD_R_OK || r->state == WD_R_ERRED);
    truth(w, "is_limit_based", true);
    truth(w, "is_usage_based", false);
    if (wants(w, "current_usages"))
        cJSON_AddObjectToObject(w->to, "current_usages");
    order_of(w, "creation_order", first_create(r));
    order_of(w, "order_in_progress", open_order(r));
    if (new)
        truth(w, "has_api_keys", r->first_key != NULL);
    return row.to;
}

/* ---- the rest ---- */

/* Never the key itself. */
cJSON *wd_show_key(const struct wd_show *show, const struct wd_record *k)
{
    struct row row = {.show = show, .to = cJSON_CreateObject()}, *w = &row;
    url(w, "url", "marketplace-resource-api-keys", k->id);
    text(w, "uuid", k->id);
    when(w, "created", k->created_us);
    when(w, "modified", k->modified_us);
    text(w, "resource_uuid", k->resource->id);
    text(w, "resource_name", wd_text(k->resource, "name"));
    text(w, "resource_backend_id", wd_text(k->resource, "backend_id"));
    text(w, "offering_uuid", k->resource->offering->id);
    text(w, "state", wd_key_states[k->state]);
    own(w, k);
    return row.to;
}

cJSON *wd_show_hook(const struct wd_show *show, const struct wd_record *h)
{
    struct row row = {.show = show, .to = cJSON_CreateObject()}, *w = &row;
    url(w, "url", "hooks-web", h->id);
    text(w, "uuid", h->id);
    when(w, "created", h->created_us);
    when(w, "modified", h->modified_us);
    text(w, "hook_type", "webhook");
    text(w, "author_uuid", "a6e17a6e17a64e178a6e17a6e17a6e17");
    text(w, "author_username", "agent");
    text(w, "author_fullname", "Site Agent");
    text(w, "author_email", "agent@provider.example");
    own(w, h);
    return row.to;
}

cJSON *wd_show_event(const struct wd_show *show, const struct wd_record *e)
{
    struct row row = {.show = show, .to = cJSON_CreateObject()}, *w = &row;
    text(w, "uuid", e->id);
    when(w, "created", e->created_us);
    text(w, "event_type", wd_text(e, "event_type"));
    text(w, "message", wd_text(e, "message"));
    if (wants(w, "context"))
        cJSON_AddItemToObject(w->to, "context", cJSON_Parse(e->text));
    return row.to;
}

cJSON *wd_show_user(const struct wd_show *show)
{
    struct row row = {.show = show, .to = cJSON_CreateObject()}, *w = &row;
    const struct wd_settings *set = &show->s->settings;
    url(w, "url", "users", "a6e17a6e17a64e178a6e17a6e17a6e17");
    text(w, "uuid", "a6e17a6e17a64e178a6e17a6e17a6e17");
    text(w, "username", "agent");
    text(w, "full_name", "Site Agent");
    text(w, "first_name", "Site");
    text(w, "last_name", "Agent");
    text(w, "native_name", "");
    text(w, "email", "agent@provider.example");
    text(w, "civil_number", NULL);
    text(w, "slug", "agent");
    truth(w, "is_staff", set->is_staff);
    truth(w, "is_support", set->is_support);
    truth(w, "is_active", true);
    text(w, "date_joined", "2024-01-01T00:00:00.000000Z");
    text(w, "token_lifetime", NULL);
    text(w, "registration_method", "default");
    if (wants(w, "permissions"))
        cJSON_AddArrayToObject(w->to, "permissions");
    return row.to;
}
