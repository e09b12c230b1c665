/*
 * What tests do to the stand-in Waldur, as its consumers, its staff and its cron, and see of it:
 *
 *   /settings                 GET, POST: see struct wd_settings; answers what was before
 *   /objects                  GET: everything; POST: customers, projects, offerings, plans
 *   /things/{uuid}            POST: changes members of one of those, slugs too
 *   /orders                   GET: all, in few words; POST: one or an array of new ones
 *   /orders/{uuid}/ACTION     POST approve, execute, reject, cancel, retry, unlink
 *   /resources/{uuid}/ACTION  POST update, terminate, restore, expire, pause, resume, rotate, set,
 *                             unlink
 *   /hooks                    POST {"url","form","event_types"}: of staff, in any form
 *   /resend, /send            POST {"event","url"}, {"url","body"}: once more, or anything at all
 *   /counters, /texts, /deliveries   GET; DELETE for the last two
 */
#include "waldur.h"

#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/str.h"

/* ---- settings ---- */

static cJSON *show_settings(const struct wd_settings *s)
{
    cJSON *json = cJSON_CreateObject();
    cJSON_AddNumberToObject(json, "process_ms", (double)s->process_ms);
    cJSON_AddNumberToObject(json, "race_ms", (double)s->race_ms);
    cJSON_AddBoolToObject(json, "is_support", s->is_support);
    cJSON_AddBoolToObject(json, "is_staff", s->is_staff);
    cJSON_AddStringToObject(json, "token_state", s->token_state);
    cJSON *denied = cJSON_AddArrayToObject(json, "denied");
    for (size_t i = 0; i < s->n_denied; i++)
        cJSON_AddItemToArray(denied, cJSON_CreateString(s->denied[i]));
    cJSON_AddNumberToObject(json, "drop", s->drop);
    cJSON_AddNumberToObject(json, "duplicate", s->duplicate);
    cJSON_AddNumberToObject(json, "window_ms", (double)s->window_ms);
    cJSON_AddNumberToObject(json, "senders", (double)s->senders);
    cJSON_AddNumberToObject(json, "timeout_ms", (double)s->timeout_ms);
    cJSON_AddNumberToObject(json, "seed", (double)s->seed);
    cJSON_AddBoolToObject(json, "ssrf_guard", s->ssrf_guard);
    cJSON_AddBoolToObject(json, "stomp_spaces", s->stomp_spaces);
    return json;
}

static void change_share(const cJSON *body, const char *name, double *share)
{
    const cJSON *value = json_get(body, name);
    if (cJSON_IsNumber(value))
        *share = value->valuedouble;
}

static void change_settings(struct wd_settings *s, const cJSON *body)
{
    const cJSON *one, *denied = json_get(body, "denied");
    json_i64(body, "process_ms", &s->process_ms);
    json_i64(body, "race_ms", &s->race_ms);
    json_i64(body, "window_ms", &s->window_ms);
    json_i64(body, "senders", &s->senders);
    json_i64(body, "timeout_ms", &s->timeout_ms);
    json_i64(body, "seed", &s->seed);
    change_share(body, "drop", &s->drop);
    change_share(body, "duplicate", &s->duplicate);
    s->is_support = json_bool(body, "is_support", s->is_support);
    s->is_staff = json_bool(body, "is_staff", s->is_staff);
    s->ssrf_guard = json_bool(body, "ssrf_guard", s->ssrf_guard);
    s->stomp_spaces = json_bool(body, "stomp_spaces", s->stomp_spaces);
    if (json_str(body, "token_state"))
        str_copy(s->token_state, sizeof(s->token_state), json_str(body, "token_state"));
    if (denied)
        s->n_denied = 0;
    cJSON_ArrayForEach(one, denied)
    {
        if (cJSON_IsString(one) && s->n_denied < WD_DENIED_MAX)
            str_copy(s->denied[s->n_denied++], WD_WORD_MAX, one->valuestring);
    }
}

static void settings(struct wd_call *c)
{
    cJSON *before = show_settings(&c->s->settings);
    if (str_eq(c->http->method, "POST")) {
        change_settings(&c->s->settings, c->body);
        if (json_get(c->body, "seed"))
            wd_sender_reset(c->s);
    }
    reply_json(c->out, 200, before);
}

/* ---- customers, projects, offerings, plans ---- */

static const char *const things[] = {"customer", "project", "offering", "plan", NULL};

static struct wd_record *named(struct wd_store *s, enum wd_kind kind, const cJSON *from,
                               const char *member)
{
    return wd_find(s, kind, json_str(from, member));
}

/* What the thing belongs to; false where that is nothing. */
static bool belongs(struct wd_store *s, enum wd_kind kind, const cJSON *wanted,
                    struct wd_record *to)
{
    to->customer = named(s, WD_CUSTOMER, wanted, "customer");
    to->offering = named(s, WD_OFFERING, wanted, "offering");
    return kind == WD_CUSTOMER || (kind == WD_PLAN ? to->offering : to->customer) != NULL;
}

static bool plant_one(struct wd_store *s, const cJSON *wanted, cJSON *ids)
{
    const char *name = json_str(wanted, "name"), *slug = json_str(wanted, "slug");
    int kind = wd_word(things, json_str(wanted, "kind"));
    struct wd_record place = {0};
    if (!name || kind < 0 || !belongs(s, (enum wd_kind)kind, wanted, &place))
        return false;
    cJSON *own = cJSON_Duplicate(wanted, true);
    static const char *const not_shown[] = {"kind", "uuid", "customer"};
    for (size_t i = 0; i < ARRAY_LEN(not_shown); i++)
        cJSON_DeleteItemFromObjectCaseSensitive(own, not_shown[i]);
    char *made = slug ? NULL : wd_slug(s, (enum wd_kind)kind, name);
    if (!slug)
        wd_set_text(own, "slug", made);
    free(made);
    if (kind == WD_OFFERING && !json_str(own, "type"))
        wd_set_text(own, "type", "Marketplace.Slurm");
    struct wd_record *r = wd_add(s, (enum wd_kind)kind, json_str(wanted, "uuid"), own);
    if (!r)
        return false;
    r->customer = place.customer;
    r->offering = place.offering;
    cJSON_AddItemToArray(ids, cJSON_CreateString(r->id));
    return true;
}

void wd_plant(void *store, const cJSON *objects, struct reply *out)
{
    struct wd_store *s = store;
    cJSON *answer = cJSON_CreateObject(), *ids = cJSON_AddArrayToObject(answer, "ids");
    bool ok = true;
    if (cJSON_IsArray(objects)) {
        const cJSON *one;
        cJSON_ArrayForEach(one, objects)
        {
            ok = ok && plant_one(s, one, ids);
        }
    } else {
        ok = plant_one(s, objects, ids);
    }
    if (ok) {
        reply_json(out, 201, answer);
        return;
    }
    cJSON_Delete(answer);
    reply_detail(out, 422,
                 "a kind (customer, project, offering, plan), a name, a uuid that is free, and of "
                 "a project or an offering its customer, of a plan its offering");
}

static void change_thing(struct wd_call *c)
{
    const cJSON *one;
    cJSON_ArrayForEach(one, c->body)
    {
        if (!str_eq(one->string, "customer"))
            wd_set(c->at->own, one->string, cJSON_Duplicate(one, true));
    }
    struct wd_record *customer = named(c->s, WD_CUSTOMER, c->body, "customer");
    if (customer)
        c->at->customer = customer;
    wd_touch(c->s, c->at);
    c->out->status = 204;
}

/* ---- orders ---- */

/* Where a new one is to be when the call is over. */
static bool bring(struct wd_store *s, struct wd_record *o, const char *state)
{
    if (str_eq(state, "pending-consumer"))
        return true;
    wd_order_approve(s, o);
    if (str_eq(state, "executing") && o->state != WD_EXECUTING)
        wd_order_execute(s, o);
    return !state || str_eq(state, "pending-provider") || str_eq(state, "executing");
}

static bool order_one(struct wd_call *c, const cJSON *wanted, enum wd_type type,
                      struct wd_record *resource, cJSON *made)
{
    struct wd_store *s = c->s;
    struct wd_wish wish = {.type = type,
                           .resource = resource,
                           .offering = named(s, WD_OFFERING, wanted, "offering"),
                           .project = named(s, WD_PROJECT, wanted, "project"),
                           .plan = named(s, WD_PLAN, wanted, "plan"),
                           .name = json_str(wanted, "name"),
                           .uuid = json_str(wanted, "resource_uuid"),
                           .attributes = json_get(wanted, "attributes"),
                           .limits = json_get(wanted, "limits"),
                           .anyway = json_bool(wanted, "anyway", false)};
    if (!resource && (type != WD_CREATE || !wish.offering || !wish.project)) {
        reply_detail(c->out, 422, "a Create has an offering and a project, others a resource");
        return false;
    }
    s->actor = str_eq(json_str(wanted, "by"), "system") ? WD_SYSTEM : WD_CONSUMER;
    struct wd_record *o = wd_order_new(c, &wish);
    if (!o)
        return false;
    if (!bring(s, o, json_str(wanted, "state"))) {
        reply_detail(c->out, 422, "/state: pending-consumer, pending-provider or executing");
        return false;
    }
    cJSON *one = cJSON_CreateObject();
    cJSON_AddStringToObject(one, "order", o->id);
    cJSON_AddStringToObject(one, "resource", o->resource->id);
    cJSON_AddItemToArray(made, one);
    return true;
}

static bool order_wanted(struct wd_call *c, const cJSON *wanted, cJSON *made)
{
    const char *word = json_str(wanted, "type");
    int type = word ? wd_word(wd_types, word) : WD_CREATE;
    if (type < 0) {
        reply_detail(c->out, 422, "/type: Create, Update, Terminate or Restore");
        return false;
    }
    return order_one(c, wanted, (enum wd_type)type, named(c->s, WD_RESOURCE, wanted, "resource"),
                     made);
}

/* Those before one that fails stay. */
static void place_orders(struct wd_call *c)
{
    cJSON *answer = cJSON_CreateObject(), *made = cJSON_AddArrayToObject(answer, "orders");
    bool ok = true;
    if (cJSON_IsArray(c->body)) {
        const cJSON *one;
        cJSON_ArrayForEach(one, c->body)
        {
            ok = ok && order_wanted(c, one, made);
        }
    } else {
        ok = order_wanted(c, c->body, made);
    }
    if (ok)
        reply_json(c->out, 201, answer);
    else
        cJSON_Delete(answer);
}

static void add_told(cJSON *to, const struct wd_told *t)
{
    cJSON_AddNumberToObject(to, "approved", (double)t->approved);
    cJSON_AddNumberToObject(to, "executing", (double)t->executing);
    cJSON_AddNumberToObject(to, "done", (double)t->done);
    cJSON_AddNumberToObject(to, "done_refused", (double)t->done_refused);
    cJSON_AddNumberToObject(to, "erred", (double)t->erred);
    cJSON_AddNumberToObject(to, "erred_late", (double)t->erred_late);
    cJSON_AddNumberToObject(to, "erred_refused", (double)t->erred_refused);
}

static cJSON *few_words(const struct wd_record *o)
{
    cJSON *one = cJSON_CreateObject();
    cJSON_AddStringToObject(one, "order", o->id);
    cJSON_AddStringToObject(one, "type", wd_types[o->type]);
    cJSON_AddStringToObject(one, "state", wd_order_states[o->state]);
    cJSON_AddStringToObject(one, "error_message", wd_text(o, "error_message"));
    cJSON_AddStringToObject(one, "resource", o->resource->id);
    cJSON_AddStringToObject(one, "resource_state", wd_resource_states[o->resource->state]);
    cJSON_AddStringToObject(one, "backend_id", wd_text(o->resource, "backend_id"));
    add_told(cJSON_AddObjectToObject(one, "told"), &o->told);
    return one;
}

static void list_orders(struct wd_call *c)
{
    cJSON *list = cJSON_CreateArray();
    for (const struct wd_record *o = c->s->first[WD_ORDER]; o; o = o->next)
        cJSON_AddItemToArray(list, few_words(o));
    reply_json(c->out, 200, list);
}

/* The staff's or the consumer's cancellation. What becomes of the resource is newer. */
static void cancel(struct wd_store *s, struct wd_record *o)
{
    if (s->year != 24 && o->state == WD_EXECUTING) {
        wd_order_finish(s, o, WD_CANCELED);
        return;
    }
    wd_order_move(s, o, WD_CANCELED);
    if (s->year != 24 && o->type == WD_CREATE)
        wd_resource_move(s, o->resource, WD_R_TERMINATED);
}

static void act_on_order(struct wd_call *c)
{
    struct wd_store *s = c->s;
    struct wd_record *o = c->at;
    bool ok = wd_is_open(o);
    if (str_eq(c->action, "unlink")) {
        if (s->year != 24)
            wd_fire(s, "marketplace_order_unlinked", "Marketplace order has been unlinked.", o,
                    o->resource);
        wd_remove(s, o);
        ok = true;
    } else if (str_eq(c->action, "retry")) {
        ok = wd_order_retry(s, o);
    } else if (ok && str_eq(c->action, "approve")) {
        wd_order_approve(s, o);
    } else if (ok && str_eq(c->action, "execute")) {
        wd_order_execute(s, o);
    } else if (ok && str_eq(c->action, "reject")) {
        wd_order_move(s, o, WD_REJECTED);
    } else if (ok && str_eq(c->action, "cancel")) {
        cancel(s, o);
    } else if (ok) {
        reply_detail(c->out, 404, "no such action");
        return;
    }
    if (ok)
        c->out->status = 204;
    else
        reply_detail(c->out, 409, "not in this state");
}

/* ---- resources ---- */

static void order_about(struct wd_call *c, enum wd_type type, bool by_system)
{
    cJSON *answer = cJSON_CreateObject(), *made = cJSON_AddArrayToObject(answer, "orders");
    if (by_system)
        wd_set_text(c->body, "by", "system");
    if (order_one(c, c->body, type, c->at, made))
        reply_json(c->out, 201, cJSON_DetachItemFromArray(made, 0));
    cJSON_Delete(answer);
}

static void pause_resource(struct wd_call *c, bool paused)
{
    wd_set(c->at->own, "paused", cJSON_CreateBool(paused));
    wd_touch(c->s, c->at);
    if (paused)
        wd_fire(c->s, "marketplace_resource_paused", "Resource {} has been paused.", NULL, c->at);
    wd_tell_resource(c->s, c->at);
    c->out->status = 204;
}

static void rotate(struct wd_call *c)
{
    const char *client = json_str(c->body, "client_id");
    for (struct wd_record *k = c->at->first_key; k; k = k->next_key) {
        if (!client || str_eq(client, wd_text(k, "client_id")))
            wd_key_turn(c->s, k);
    }
    c->out->status = 204;
}

static void unlink_resource(struct wd_call *c)
{
    if (c->s->year != 24)
        wd_fire(c->s, "marketplace_resource_unlinked", "Resource {} has been unlinked.", NULL,
                c->at);
    wd_remove(c->s, c->at);
    c->out->status = 204;
}

/* Members and the state, without anything that would follow. */
static void set_resource(struct wd_call *c)
{
    const cJSON *one;
    cJSON_ArrayForEach(one, c->body)
    {
        if (str_eq(one->string, "state") || cJSON_HasObjectItem(c->at->own, one->string))
            continue;
        reply_detail(c->out, 422, "/%s: a resource has none of its own", one->string);
        return;
    }
    cJSON_ArrayForEach(one, c->body)
    {
        if (!str_eq(one->string, "state"))
            wd_set(c->at->own, one->string, cJSON_Duplicate(one, true));
    }
    int state = wd_word(wd_resource_states, json_str(c->body, "state"));
    if (state >= 0)
        c->at->state = state;
    wd_touch(c->s, c->at);
    c->out->status = 204;
}

static void act_on_resource(struct wd_call *c)
{
    const char *action = c->action;
    if (str_eq(action, "update"))
        order_about(c, WD_UPDATE, false);
    else if (str_eq(action, "terminate") || str_eq(action, "expire"))
        order_about(c, WD_TERMINATE, str_eq(action, "expire"));
    else if (str_eq(action, "restore"))
        order_about(c, WD_RESTORE, false);
    else if (str_eq(action, "pause") || str_eq(action, "resume"))
        pause_resource(c, str_eq(action, "pause"));
    else if (str_eq(action, "rotate"))
        rotate(c);
    else if (str_eq(action, "unlink"))
        unlink_resource(c);
    else if (str_eq(action, "set"))
        set_resource(c);
    else
        reply_detail(c->out, 404, "no such action");
}

/* ---- webhooks ---- */

static void add_hook(struct wd_call *c)
{
    const char *url = json_str(c->body, "url"), *form = json_str(c->body, "form");
    form = form ? form : wd_forms[WD_WEBHOOK];
    if (!url || wd_word(wd_forms, form) < 0) {
        reply_detail(c->out, 422, "a url, and a form: webhook, form, stomp or stomp-legacy");
        return;
    }
    cJSON *own = cJSON_CreateObject();
    cJSON_AddStringToObject(own, "destination_url", url);
    cJSON_AddStringToObject(own, "form", form);
    cJSON_AddBoolToObject(own, "is_active", true);
    const cJSON *types = json_get(c->body, "event_types");
    if (types) {
        cJSON_AddItemToObject(own, "event_types", cJSON_Duplicate(types, true));
    } else {
        cJSON *groups = cJSON_AddArrayToObject(own, "event_groups");
        cJSON_AddItemToArray(groups, cJSON_CreateString("resources"));
    }
    struct wd_record *h = wd_add(c->s, WD_HOOK, NULL, own);
    cJSON *answer = cJSON_CreateObject();
    cJSON_AddStringToObject(answer, "uuid", h ? h->id : "");
    reply_json(c->out, 201, answer);
}

static void resend(struct wd_call *c)
{
    const struct wd_record *e = named(c->s, WD_EVENT, c->body, "event");
    const char *url = json_str(c->body, "url");
    if (!e || !url) {
        reply_detail(c->out, 422, "an event and a url");
        return;
    }
    wd_send_to(c->s, url, wd_text(e, "event_type"), wd_event_body(e, WD_WEBHOOK));
    c->out->status = 204;
}

static void send_any(struct wd_call *c)
{
    const char *url = json_str(c->body, "url");
    const cJSON *body = json_get(c->body, "body");
    if (!url || !body) {
        reply_detail(c->out, 422, "a url and a body");
        return;
    }
    wd_send_to(c->s, url, "", cJSON_IsString(body) ? str_dup(body->valuestring) : json_text(body));
    c->out->status = 204;
}

static void deliveries(struct wd_call *c)
{
    if (str_eq(c->http->method, "DELETE")) {
        wd_deliveries_clear(c->s);
        c->out->status = 204;
        return;
    }
    cJSON *answer = cJSON_CreateObject();
    cJSON_AddItemToObject(answer, "deliveries", wd_deliveries(c->s));
    cJSON_AddNumberToObject(answer, "waiting", (double)wd_sending(c->s));
    reply_json(c->out, 200, answer);
}

/* ---- what is there ---- */

static void add_all(struct wd_store *s, cJSON *to, const char *name, enum wd_kind kind,
                    cJSON *(*show)(const struct wd_show *show, const struct wd_record *r))
{
    const struct wd_show all = {.s = s, .base = "http://waldur.example/api"};
    cJSON *list = cJSON_AddArrayToObject(to, name);
    for (const struct wd_record *r = s->first[kind]; r; r = r->next)
        cJSON_AddItemToArray(list, show(&all, r));
}

static cJSON *show_thing(const struct wd_show *show, const struct wd_record *r)
{
    cJSON *json = cJSON_Duplicate(r->own, true);
    (void)show;
    wd_set_text(json, "uuid", r->id);
    if (r->customer)
        wd_set_text(json, "customer", r->customer->id);
    return json;
}

static cJSON *show_whole_key(const struct wd_show *show, const struct wd_record *k)
{
    cJSON *json = wd_show_key(show, k);
    wd_set_text(json, "api_key", k->text);
    return json;
}

void wd_list(void *store, struct reply *out)
{
    struct wd_store *s = store;
    cJSON *json = cJSON_CreateObject();
    wd_settle(s);
    add_all(s, json, "objects", WD_RESOURCE, wd_show_resource);
    add_all(s, json, "orders", WD_ORDER, wd_show_order);
    add_all(s, json, "keys", WD_KEY, show_whole_key);
    add_all(s, json, "hooks", WD_HOOK, wd_show_hook);
    add_all(s, json, "customers", WD_CUSTOMER, show_thing);
    add_all(s, json, "projects", WD_PROJECT, show_thing);
    add_all(s, json, "offerings", WD_OFFERING, show_thing);
    add_all(s, json, "plans", WD_PLAN, show_thing);
    reply_json(out, 200, json);
}

static void counters(struct wd_call *c)
{
    cJSON *json = cJSON_CreateObject();
    cJSON_AddItemToObject(json, "calls", cJSON_Duplicate(c->s->calls, true));
    cJSON_AddItemToObject(json, "ignored_arguments", cJSON_Duplicate(c->s->ignored, true));
    cJSON *orders = cJSON_AddObjectToObject(json, "orders");
    for (const struct wd_record *o = c->s->first[WD_ORDER]; o; o = o->next) {
        cJSON *told = cJSON_CreateObject();
        add_told(told, &o->told);
        /* Looking for the name first would take longer with each. */
        cJSON_AddItemToObject(orders, o->id, told);
    }
    reply_json(c->out, 200, json);
}

static void texts(struct wd_call *c)
{
    if (str_eq(c->http->method, "DELETE")) {
        cJSON_Delete(c->s->texts);
        c->s->texts = cJSON_CreateArray();
        c->out->status = 204;
    } else {
        reply_json(c->out, 200, cJSON_Duplicate(c->s->texts, true));
    }
}

/* ---- routes ---- */

static const struct {
    const char *methods, *path;
    void (*fn)(struct wd_call *c);
} routes[] = {
    {"GET POST ", "/settings", settings},
    {"GET ", "/orders", list_orders},
    {"POST ", "/orders", place_orders},
    {"POST ", "/hooks", add_hook},
    {"POST ", "/resend", resend},
    {"POST ", "/send", send_any},
    {"GET ", "/counters", counters},
    {"GET DELETE ", "/texts", texts},
    {"GET DELETE ", "/deliveries", deliveries},
};

/* "/orders/{uuid}/cancel": the row into c->at, the action into c->action. */
static bool names_row(struct wd_call *c, const char *prefix, const enum wd_kind *kinds, size_t n)
{
    const char *path = c->http->path;
    if (!str_starts(path, prefix))
        return false;
    path += strlen(prefix);
    size_t len = strcspn(path, "/");
    char *id = str_dupn(path, len);
    for (size_t i = 0; i < n && id && !c->at; i++)
        c->at = wd_find(c->s, kinds[i], id);
    free(id);
    c->action = path[len] ? path + len + 1 : "";
    return c->at != NULL;
}

static void route(struct wd_call *c)
{
    static const enum wd_kind orders[] = {WD_ORDER}, resources[] = {WD_RESOURCE};
    static const enum wd_kind all[] = {WD_CUSTOMER, WD_PROJECT, WD_OFFERING, WD_PLAN};
    bool post = str_eq(c->http->method, "POST");
    for (size_t i = 0; i < ARRAY_LEN(routes); i++) {
        if (str_eq(c->http->path, routes[i].path) && strstr(routes[i].methods, c->http->method)) {
            routes[i].fn(c);
            return;
        }
    }
    if (post && names_row(c, "/orders/", orders, ARRAY_LEN(orders)))
        act_on_order(c);
    else if (post && names_row(c, "/resources/", resources, ARRAY_LEN(resources)))
        act_on_resource(c);
    else if (post && names_row(c, "/things/", all, ARRAY_LEN(all)))
        change_thing(c);
}

void wd_admin(void *store, const struct call *http, struct reply *out)
{
    struct wd_call c = {.s = store, .http = http, .out = out};
    wd_settle(c.s);
    c.body = http->body_len ? reply_parse(out, http->body, http->body_len) : cJSON_CreateObject();
    if (!c.body)
        return;
    c.s->actor = WD_CONSUMER;
    if (cJSON_IsObject(c.body) || str_eq(http->path, "/orders"))
        route(&c);
    else
        reply_detail(out, 422, "an object is wanted");
    c.s->actor = WD_SYSTEM;
    cJSON_Delete(c.body);
}
