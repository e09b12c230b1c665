/*
 * Orders: their states, what they do to resources, and the provider's calls.
 */
#include "waldur.h"

#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/str.h"

/* ---- states ---- */

bool wd_is_open(const struct wd_record *order)
{
    return order->state <= WD_EXECUTING;
}

void wd_resource_move(struct wd_store *s, struct wd_record *r, enum wd_resource_state state)
{
    if (r->state == (int)state)
        return;
    r->state = state;
    wd_touch(s, r);
    wd_tell_resource(s, r);
}

static void process(struct wd_store *s, void *what)
{
    struct wd_record *o = wd_find(s, WD_ORDER, what);
    free(what);
    if (!o || o->state != WD_EXECUTING || !o->resource)
        return;
    if (o->type == WD_UPDATE)
        wd_resource_move(s, o->resource, WD_R_UPDATING);
    else if (o->type == WD_TERMINATE)
        wd_resource_move(s, o->resource, WD_R_TERMINATING);
    /* Nobody else finishes those. */
    if (str_eq(wd_text(o->offering, "type"), "Marketplace.Basic"))
        wd_order_finish(s, o, WD_DONE);
}

static void fire_move(struct wd_store *s, const struct wd_record *o)
{
    static const struct {
        const char *type, *message;
    } events[WD_ORDER_STATES] = {
        [WD_EXECUTING] = {"marketplace_order_approved", "Marketplace order has been approved."},
        [WD_DONE] = {"marketplace_order_completed", "Marketplace order has been completed."},
        [WD_ERRED] = {"marketplace_order_failed", "Marketplace order has been marked as failed."},
        [WD_CANCELED] = {"marketplace_order_terminated", "Marketplace order has been terminated."},
        [WD_REJECTED] = {"marketplace_order_rejected", "Marketplace order has been rejected."}};
    if (events[o->state].type)
        wd_fire(s, events[o->state].type, events[o->state].message, o, o->resource);
}

void wd_order_move(struct wd_store *s, struct wd_record *o, enum wd_order_state state)
{
    bool was_open = wd_is_open(o);
    o->state = state;
    wd_touch(s, o);
    if (!wd_is_open(o))
        o->completed_us = o->modified_us;
    if (o->resource && was_open != wd_is_open(o))
        o->resource->open += wd_is_open(o) ? (size_t)1 : (size_t)-1;
    if (state == WD_REJECTED && o->type == WD_CREATE && o->resource)
        wd_resource_move(s, o->resource, WD_R_TERMINATED);
    fire_move(s, o);
    wd_tell_order(s, o);
}

/* To executing, and to Celery, which gets to it after the answer is out. */
void wd_order_execute(struct wd_store *s, struct wd_record *o)
{
    if (o->type == WD_RESTORE)
        wd_resource_move(s, o->resource, WD_R_CREATING);
    wd_order_move(s, o, WD_EXECUTING);
    char *id = str_dup(o->id);
    if (id)
        wd_later(s, s->settings.process_ms, process, id, free);
}

void wd_order_approve(struct wd_store *s, struct wd_record *o)
{
    o->consumer_us = wd_now_us(s);
    if (str_eq(wd_text(o->offering, "type"), "Marketplace.Script"))
        wd_order_execute(s, o);
    else
        wd_order_move(s, o, WD_PENDING_PROVIDER);
}

/* ---- the callbacks: order and resource together ---- */

/* The one that is executing, where there is exactly one of the type. */
static struct wd_record *only_executing(const struct wd_record *r, enum wd_type type)
{
    struct wd_record *found = NULL;
    for (struct wd_record *o = r->first_order; o; o = o->next_order) {
        if (o->type != type || o->state != WD_EXECUTING)
            continue;
        if (found)
            return NULL;
        found = o;
    }
    return found;
}

/* The state machine lets nothing out of Terminated but an error. */
static bool set_ok(struct wd_store *s, struct wd_record *r)
{
    if (r->state == WD_R_TERMINATED)
        return false;
    wd_resource_move(s, r, WD_R_OK);
    return true;
}

static bool finish_create(struct wd_store *s, struct wd_record *r, const struct wd_record *found,
                          enum wd_order_state state)
{
    if (state == WD_DONE) {
        if (!set_ok(s, r))
            return false;
        wd_fire(s, "marketplace_resource_create_succeeded", "Resource {} has been created.", NULL,
                r);
    } else if (state == WD_ERRED) {
        /* A resource without a backend id counts as one that never was. */
        bool gone = found && found->type == WD_CREATE && r->state == WD_R_CREATING &&
                    !*wd_text(r, "backend_id");
        wd_resource_move(s, r, gone ? WD_R_TERMINATED : WD_R_ERRED);
        wd_fire(s, "marketplace_resource_create_failed", "Resource {} creation has failed.", NULL,
                r);
    } else {
        wd_resource_move(s, r, WD_R_TERMINATED);
        wd_fire(s, "marketplace_resource_create_canceled",
                "Resource {} creation has been canceled.", NULL, r);
    }
    return true;
}

static bool finish_update(struct wd_store *s, struct wd_record *r, const struct wd_record *found,
                          enum wd_order_state state)
{
    if (state == WD_ERRED) {
        wd_resource_move(s, r, WD_R_ERRED);
        wd_fire(s, "marketplace_resource_update_failed", "Resource {} update has failed.", NULL, r);
        return true;
    }
    if (!set_ok(s, r))
        return false;
    if (state == WD_CANCELED) {
        wd_fire(s, "marketplace_resource_update_canceled", "Resource {} update has canceled.", NULL,
                r);
        return true;
    }
    const cJSON *limits = found ? json_get(found->own, "limits") : NULL;
    if (found && found->plan)
        r->plan = found->plan;
    wd_fire(s, "marketplace_resource_update_succeeded",
            "Resource {} has been updated successfully.", NULL, r);
    if (limits && limits->child) {
        wd_set(r->own, "limits", cJSON_Duplicate(limits, true));
        wd_fire(s, "marketplace_resource_update_limits_succeeded",
                "Limits of resource {} have been updated.", NULL, r);
    }
    wd_touch(s, r);
    return true;
}

static bool finish_terminate(struct wd_store *s, struct wd_record *r, enum wd_order_state state)
{
    if (state == WD_DONE) {
        wd_resource_move(s, r, WD_R_TERMINATED);
        for (struct wd_record *k = r->first_key, *next; k; k = next) {
            next = k->next_key;
            wd_remove(s, k);
        }
        wd_fire(s, "marketplace_resource_terminate_succeeded", "Resource {} has been deleted.",
                NULL, r);
        return true;
    }
    if (!set_ok(s, r))
        return false;
    wd_fire(s,
            state == WD_ERRED ? "marketplace_resource_terminate_failed"
                              : "marketplace_resource_terminate_canceled",
            state == WD_ERRED ? "Resource {} deletion has failed."
                              : "Resource {} terminate has canceled.",
            NULL, r);
    return true;
}

bool wd_order_finish(struct wd_store *s, struct wd_record *o, enum wd_order_state state)
{
    struct wd_record *r = o->resource, *found = only_executing(r, o->type);
    if (found)
        wd_order_move(s, found, state);
    switch (o->type) {
    case WD_CREATE:
    case WD_RESTORE:
        return finish_create(s, r, found, state);
    case WD_UPDATE:
        return finish_update(s, r, found, state);
    case WD_TERMINATE:
    case WD_TYPES:
        break;
    }
    return finish_terminate(s, r, state);
}

bool wd_order_retry(struct wd_store *s, struct wd_record *o)
{
    if (o->state != WD_ERRED || !o->resource)
        return false;
    if (o->type == WD_CREATE || o->type == WD_RESTORE)
        wd_resource_move(s, o->resource, WD_R_CREATING);
    wd_set_text(o->own, "error_message", "");
    wd_set_text(o->own, "error_traceback", "");
    o->completed_us = 0;
    wd_order_execute(s, o);
    return true;
}

/* ---- new ones ---- */

static struct wd_record *new_resource(struct wd_store *s, const struct wd_wish *wish)
{
    const char *name = wish->name ? wish->name : json_str(wish->attributes, "name");
    char *slug = wd_slug(s, WD_RESOURCE, name ? name : "resource");
    cJSON *own = cJSON_CreateObject();
    cJSON_AddStringToObject(own, "name", name ? name : "resource");
    cJSON_AddStringToObject(own, "slug", slug ? slug : "");
    free(slug);
    cJSON_AddStringToObject(own, "backend_id", "");
    cJSON_AddObjectToObject(own, "backend_metadata");
    cJSON_AddArrayToObject(own, "endpoints");
    cJSON_AddArrayToObject(own, "report");
    cJSON_AddStringToObject(own, "error_message", "");
    cJSON_AddStringToObject(own, "error_traceback", "");
    cJSON_AddNullToObject(own, "end_date");
    cJSON_AddObjectToObject(own, "options");
    cJSON_AddBoolToObject(own, "paused", false);
    cJSON_AddBoolToObject(own, "downscaled", false);
    cJSON_AddBoolToObject(own, "restrict_member_access", false);
    cJSON_AddItemToObject(own, "attributes",
                          wish->attributes ? cJSON_Duplicate(wish->attributes, true)
                                           : cJSON_CreateObject());
    cJSON_AddItemToObject(
        own, "limits", wish->limits ? cJSON_Duplicate(wish->limits, true) : cJSON_CreateObject());
    struct wd_record *r = wd_add(s, WD_RESOURCE, wish->uuid, own);
    if (!r)
        return NULL;
    char now[CLOCK_TEXT_MAX];
    wd_time(now, r->created_us);
    wd_set_text(r->own, "last_sync", now);
    r->offering = wish->offering;
    r->project = wish->project;
    r->plan = wish->plan;
    r->state = WD_R_CREATING;
    return r;
}

static bool may_be_ordered(struct wd_call *c, const struct wd_wish *wish)
{
    static const int terminable[] = {WD_R_OK, WD_R_ERRED}, updatable[] = {WD_R_OK};
    static const int restorable[] = {WD_R_TERMINATED};
    const struct wd_record *r = wish->resource;
    if (wish->type == WD_TERMINATE && r->state != WD_R_OK && r->state != WD_R_ERRED)
        wd_conflict(c, wd_resource_states, terminable, ARRAY_LEN(terminable));
    else if (wish->type == WD_UPDATE && r->state != WD_R_OK)
        wd_conflict(c, wd_resource_states, updatable, ARRAY_LEN(updatable));
    else if (wish->type == WD_RESTORE && r->state != WD_R_TERMINATED)
        wd_conflict(c, wd_resource_states, restorable, ARRAY_LEN(restorable));
    else if (wish->type == WD_RESTORE &&
             !json_bool(r->offering->own, "plugin_options.can_restore_resource", false))
        wd_refuse(c, "Restoration of resources is not allowed for this offering.");
    else if (r->open)
        wd_refuse(c, "Pending order for resource already exists.");
    else
        return true;
    return false;
}

static void fire_requested(struct wd_store *s, const struct wd_record *o)
{
    if (o->type == WD_CREATE)
        wd_fire(s, "marketplace_resource_create_requested",
                "Resource {} creation has been requested.", NULL, o->resource);
    else if (o->type == WD_UPDATE)
        wd_fire(s, "marketplace_resource_update_requested",
                "Resource {} update has been requested.", NULL, o->resource);
    else if (o->type == WD_TERMINATE)
        wd_fire(s, "marketplace_resource_terminate_requested",
                "Resource {} deletion has been requested.", NULL, o->resource);
}

struct wd_record *wd_order_new(struct wd_call *c, const struct wd_wish *wish)
{
    struct wd_store *s = c->s;
    struct wd_record *r = wish->resource;
    if (r && !wish->anyway && !may_be_ordered(c, wish))
        return NULL;
    if (!r)
        r = new_resource(s, wish);
    cJSON *own = r ? cJSON_CreateObject() : NULL;
    struct wd_record *o = wd_add(s, WD_ORDER, NULL, own);
    if (!o) {
        wd_crash(c);
        return NULL;
    }
    char *slug = wd_slug(s, WD_ORDER, wd_text(r, "name"));
    wd_set_text(own, "slug", slug && *slug ? slug : "order");
    free(slug);
    wd_set(own, "attributes",
           wish->attributes ? cJSON_Duplicate(wish->attributes, true) : cJSON_CreateObject());
    wd_set(own, "limits",
           wish->limits ? cJSON_Duplicate(wish->limits, true) : cJSON_CreateObject());
    o->type = wish->type;
    o->state = WD_PENDING_CONSUMER;
    o->offering = r->offering;
    o->project = r->project;
    o->plan = wish->plan ? wish->plan : r->plan;
    o->old_plan = wish->type == WD_UPDATE ? r->plan : NULL;
    o->by_system = s->actor == WD_SYSTEM;
    wd_order_link(r, o);
    fire_requested(s, o);
    wd_tell_order(s, o);
    return o;
}

/* ---- the provider's calls ---- */

void wd_order_get(struct wd_call *c)
{
    struct wd_show show;
    wd_show_begin(&show, c->s, c->http);
    reply_json(c->out, 200, wd_show_order(&show, c->at));
}

/* A member of the body, where it is a string, into the row. */
static void keep_text(struct wd_call *c, const char *member)
{
    const char *text = json_str(c->body, member);
    if (text)
        wd_set_text(c->at->own, member, text);
}

static void say_done(struct wd_call *c, const char *detail)
{
    if (c->s->year == 24)
        c->out->status = 200;
    else
        reply_detail(c->out, 200, "%s", detail);
}

static bool in_state(struct wd_call *c, const int *valid, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (c->at->state == valid[i])
            return true;
    }
    wd_conflict(c, wd_order_states, valid, n);
    return false;
}

static bool of_type(struct wd_call *c, const char *const *types)
{
    const char *type = wd_text(c->at->offering, "type");
    if (wd_word(types, type) >= 0)
        return true;
    /* What was meant as the explanation is taken as the method's name. */
    reply_detail(c->out, 405,
                 "Method \"The order's offering with %s type does not support this action\" not "
                 "allowed.",
                 type);
    return false;
}

static const char *const agents[] = {"Marketplace.Slurm", NULL};
static const char *const finishers[] = {"Marketplace.Slurm", "Marketplace.Basic",
                                        "Marketplace.Support", NULL};
static const char *const cancelers[] = {"Marketplace.Basic", "Marketplace.Support", NULL};

static bool customer_is_blocked(struct wd_call *c)
{
    if (!json_bool(c->at->project->customer->own, "blocked", false))
        return false;
    wd_refuse(c, "Blocked organization is not available.");
    return true;
}

/* Its state was read while it was still pending, as it may be where nobody locks the row. */
static bool is_racing(struct wd_call *c)
{
    const struct wd_record *o = c->at;
    return o->state == WD_EXECUTING && o->provider_us &&
           wd_now_us(c->s) - o->provider_us < c->s->settings.race_ms * 1000;
}

void wd_order_approve_by_provider(struct wd_call *c)
{
    static const int valid[] = {WD_PENDING_PROVIDER};
    if (customer_is_blocked(c) || (!is_racing(c) && !in_state(c, valid, ARRAY_LEN(valid))))
        return;
    const cJSON *one, *attributes = c->s->year == 24 ? NULL : json_get(c->body, "attributes");
    cJSON *mine = cJSON_GetObjectItemCaseSensitive(c->at->own, "attributes");
    cJSON_ArrayForEach(one, attributes)
    {
        if (one->string)
            wd_set(mine, one->string, cJSON_Duplicate(one, true));
    }
    c->at->provider_us = wd_now_us(c->s);
    c->at->told.approved++;
    wd_order_execute(c->s, c->at);
    say_done(c, "Order has been approved.");
}

void wd_order_reject_by_provider(struct wd_call *c)
{
    static const int valid[] = {WD_PENDING_PROVIDER};
    if (customer_is_blocked(c) || !in_state(c, valid, ARRAY_LEN(valid)))
        return;
    keep_text(c, "provider_rejection_comment");
    c->at->provider_us = wd_now_us(c->s);
    wd_order_move(c->s, c->at, WD_REJECTED);
    c->out->status = 200;
}

void wd_order_set_executing(struct wd_call *c)
{
    static const int valid[] = {WD_PENDING_CONSUMER, WD_PENDING_PROVIDER, WD_ERRED};
    if (!in_state(c, valid, ARRAY_LEN(valid)) || !of_type(c, agents))
        return;
    c->at->told.executing++;
    wd_order_move(c->s, c->at, WD_EXECUTING); /* and nobody processes it */
    c->out->status = 200;
}

void wd_order_set_done(struct wd_call *c)
{
    static const int valid[] = {WD_EXECUTING};
    c->at->told.done_refused++;
    if (!in_state(c, valid, ARRAY_LEN(valid)) || !of_type(c, finishers))
        return;
    if (!wd_order_finish(c->s, c->at, WD_DONE)) {
        wd_crash(c);
        return;
    }
    c->at->told.done_refused--;
    c->at->told.done++;
    c->out->status = 200;
}

/* Looks at no state. */
void wd_order_set_erred(struct wd_call *c)
{
    struct wd_record *o = c->at;
    bool late = o->state != WD_EXECUTING;
    const char *message = json_str(c->body, "error_message");
    const char *traceback = json_str(c->body, "error_traceback");
    o->told.erred_refused++;
    if (!of_type(c, agents))
        return;
    /* The older one reads both, whether they are there or not. */
    if ((c->s->year == 24 && (!message || !traceback)) || !wd_order_finish(c->s, o, WD_ERRED)) {
        wd_crash(c);
        return;
    }
    o->told.erred_refused--;
    if (late)
        o->told.erred_late++;
    else
        o->told.erred++;
    wd_set_text(o->own, "error_message", message ? message : "");
    wd_set_text(o->own, "error_traceback", traceback ? traceback : "");
    wd_touch(c->s, o);
    c->out->status = 200;
}

void wd_order_set_backend_id(struct wd_call *c)
{
    char *id;
    if (!wd_take_text(c, "backend_id",
                      (struct wd_rule){.max = 255, .required = true, .nonblank = true}, &id))
        return;
    bool changed = !str_eq(id, wd_text(c->at, "backend_id"));
    if (changed) {
        wd_set_text(c->at->own, "backend_id", id);
        wd_touch(c->s, c->at);
    }
    free(id);
    wd_status(c, "Order backend_id %s changed.", changed ? "has been" : "is not");
}

void wd_order_set_info(struct wd_call *c)
{
    static const int valid[] = {WD_PENDING_CONSUMER, WD_PENDING_PROVIDER, WD_PENDING_PROJECT,
                                WD_PENDING_START_DATE};
    if (!in_state(c, valid, ARRAY_LEN(valid)))
        return;
    keep_text(c, "provider_message");
    keep_text(c, "provider_message_url");
    wd_touch(c->s, c->at);
    reply_detail(c->out, 200, "Provider info has been updated.");
}

void wd_order_cancel(struct wd_call *c)
{
    static const int valid[] = {WD_PENDING_CONSUMER, WD_PENDING_PROVIDER, WD_EXECUTING};
    if (!in_state(c, valid, ARRAY_LEN(valid)) || !of_type(c, cancelers))
        return;
    wd_order_move(c->s, c->at, WD_CANCELED);
    c->out->status = 202;
}

void wd_order_again(struct wd_call *c)
{
    static const int valid[] = {WD_ERRED};
    if (!in_state(c, valid, ARRAY_LEN(valid)))
        return;
    if (wd_order_retry(c->s, c->at))
        reply_detail(c->out, 200, "Order has been scheduled for retry.");
    else
        wd_crash(c);
}
