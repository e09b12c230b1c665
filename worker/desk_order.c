#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "base/str.h"
#include "desk_internal.h"
#include "plan.h"
#include "waldur/intake.h"
#include "waldur/report.h"
#include "waldur/words.h"

/*
 * An order that has a verdict which Waldur was not told is reported; every other one is read, and
 * what was read decides. Both may be done any number of times over.
 */

enum { PENDING_MS = 30 * 1000 };

/* ---- what was read ---- */

static bool copy_column(const PGresult *res, int row, int column, char **out)
{
    if (PQgetisnull(res, row, column)) {
        return true;
    }
    *out = str_dup(PQgetvalue(res, row, column));
    return *out != NULL;
}

/* order_uuid, fence, phase, order_type, resource_uuid, backend_id, verdict, told, job_id,
 * job_error_class, attempts, name, api_key, status, delivery_prefix, delivery */
int desk_order_read(struct errand *e, const PGresult *res, int row)
{
    int64_t attempts = 0;
    (void)str_to_i64(PQgetvalue(res, row, 10), &attempts);
    e->attempts = (int)attempts;
    str_copy(e->resource, sizeof(e->resource), PQgetvalue(res, row, 4));
    str_copy(e->job_id, sizeof(e->job_id), PQgetvalue(res, row, 8));
    str_copy(e->prefix, sizeof(e->prefix), PQgetvalue(res, row, 12));
    return copy_column(res, row, 2, &e->phase) && copy_column(res, row, 3, &e->order_type) &&
                   copy_column(res, row, 5, &e->backend_id) &&
                   copy_column(res, row, 6, &e->verdict) && copy_column(res, row, 7, &e->told) &&
                   copy_column(res, row, 9, &e->job_class) && copy_column(res, row, 11, &e->name) &&
                   copy_column(res, row, 13, &e->status) && copy_column(res, row, 15, &e->delivery)
               ? 0
               : -1;
}

static bool add_text(cJSON *json, const char *name, const char *text)
{
    return !text || !text[0] || cJSON_AddStringToObject(json, name, text) != NULL;
}

/* As waldur_learn reads them. free(). */
static char *facts_of(const struct waldur_intake *in, const struct config *c)
{
    const struct waldur_order *o = &in->order;
    const struct waldur_resource *r = &in->resource;
    if (!in->has_order) {
        return str_dup("{}");
    }
    const struct config_offering *offering = config_offering_of(c, o->offering_uuid);
    const char *resource = o->resource_uuid[0] ? o->resource_uuid : r->uuid;
    const char *customer = o->customer_uuid[0] ? o->customer_uuid : r->customer_uuid;
    const char *slug = o->customer_slug[0] ? o->customer_slug : r->customer_slug;
    const char *type = o->type == WALDUR_TYPE_UNKNOWN ? NULL : waldur_order_type_name(o->type);
    cJSON *json = cJSON_CreateObject();
    bool fine = json && add_text(json, "type", type) &&
                add_text(json, "state", waldur_order_state_name(o->state)) &&
                add_text(json, "resource", resource) &&
                add_text(json, "offering", o->offering_uuid) &&
                add_text(json, "offering_type", offering ? offering->type : NULL) &&
                add_text(json, "organization", customer) && add_text(json, "slug", slug);
    char *text = fine ? json_text(json) : NULL;
    cJSON_Delete(json);
    return text;
}

/* Reads the facts anew; on failure the errand is put off, and false. */
static bool learn(struct errand *e)
{
    const struct waldur_intake *in = waldur_intake_of(e->talk.op);
    struct err err;
    free(e->facts);
    e->facts = facts_of(in, e->config);
    if (!e->facts) {
        err_nomem(&err);
        errand_put_off(e, &err);
        return false;
    }
    if (in->has_order && in->order.resource_uuid[0]) {
        str_copy(e->resource, sizeof(e->resource), in->order.resource_uuid);
    }
    return true;
}

/* ---- the end of a look ---- */

static void log_order(const struct errand *e, enum log_level level, const char *event,
                      const char *detail)
{
    log_event(level, event, LOG_S("order", e->uuid),
              LOG_S("subscription", e->resource[0] ? e->resource : NULL),
              LOG_S("reason", e->reason), LOG_S("detail", detail && detail[0] ? detail : NULL));
}

/* reason: one of few words. */
static void nothing_to_do(const struct errand *e, const char *reason)
{
    metrics_add(e->desk->o.metrics, M_WALDUR_DROPPED_TOTAL, METRIC_LABELS(reason), 1);
}

static void on_left(void *ctx, const PGresult *res, const struct err *err)
{
    struct errand *e = ctx;
    if (errand_verdict(e, res, err)) {
        errand_drop(e);
    }
}

static void leave(struct errand *e, const char *phase, const char *reason, const char *detail)
{
    struct pg_param p[7];
    e->reason = reason;
    bool dropped = str_eq(phase, "dropped"), new = !str_eq(phase, e->phase);
    if (dropped || new) { /* what is left is looked at again by every sweep */
        nothing_to_do(e, reason);
    }
    log_order(e, new ? LOG_INFO : LOG_DEBUG, dropped ? "order dropped" : "order left", detail);
    errand_fence(e, p);
    p[3] = (struct pg_param){e->facts ? e->facts : "{}", -1};
    p[4] = (struct pg_param){phase, -1};
    p[5] = (struct pg_param){reason, -1};
    p[6] = (struct pg_param){detail && detail[0] ? detail : NULL, -1};
    errand_submit(e, S_WALDUR_LEAVE, p, on_left);
}

static void on_taken(void *ctx, const PGresult *res, const struct err *err)
{
    struct errand *e = ctx;
    struct desk *d = e->desk;
    const char *verdict = errand_verdict(e, res, err);
    if (!verdict) {
        return;
    }
    if (str_eq(verdict, "stale") || str_eq(verdict, "noted")) {
        nothing_to_do(e, verdict);
    } else if (str_eq(verdict, "applied") || str_eq(verdict, "replayed")) {
        log_event(LOG_INFO, "order taken", LOG_S("order", e->uuid),
                  LOG_S("subscription", e->resource), LOG_S("name", e->backend_id),
                  LOG_S("inbox", verdict));
    } else if (!str_eq(verdict, "lost")) {
        nothing_to_do(e, "handled");
    }
    errand_drop(e);
    desk_wake(d);
    d->o.on_job(d->o.ctx);
}

static const char *or_null(const char *s)
{
    return s && s[0] ? s : NULL;
}

static void take(struct errand *e, const struct waldur_intake *in)
{
    struct pg_param p[14];
    char deadline[24], time[CLOCK_TEXT_MAX];
    const struct waldur_event *event = &e->event;
    const char *organization =
        in->order.customer_uuid[0] ? in->order.customer_uuid : in->resource.customer_uuid;
    snprintf(deadline, sizeof(deadline), "%" PRId64, e->config->retry_deadline_ms);
    clock_format(time, event->time_us);
    errand_fence(e, p);
    p[3] = (struct pg_param){e->facts, -1};
    p[4] = (struct pg_param){or_null(e->backend_id), -1};
    p[5] = (struct pg_param){event->source, -1};
    p[6] = (struct pg_param){event->id, -1};
    p[7] = (struct pg_param){event->type, -1};
    p[8] = (struct pg_param){event->subscription_uuid, -1};
    p[9] = (struct pg_param){or_null(organization), -1};
    p[10] = (struct pg_param){time, -1};
    p[11] = (struct pg_param){event->data, -1};
    p[12] = (struct pg_param){deadline, -1};
    p[13] = (struct pg_param){e->runtime, -1};
    errand_submit(e, S_WALDUR_TAKE, p, on_taken);
}

static void on_closed(void *ctx, const PGresult *res, const struct err *err)
{
    struct errand *e = ctx;
    struct desk *d = e->desk;
    const char *verdict = errand_verdict(e, res, err);
    if (!verdict) {
        return;
    }
    if (str_eq(verdict, "undone")) {
        log_order(e, LOG_WARN, "order was undone at Waldur; what was made for it is taken away",
                  NULL);
        d->o.on_job(d->o.ctx);
    }
    if (!str_eq(verdict, "lost")) {
        nothing_to_do(e, str_eq(verdict, "told") ? "handled" : e->reason);
    }
    errand_drop(e);
}

/* Closed at Waldur, by others or by an earlier report. The termination of what was undone is made
 * beforehand: whether it is needed, and as of when, is the database's to say. */
static void closed(struct errand *e, enum waldur_order_state state)
{
    struct pg_param p[9];
    struct waldur_event undone;
    struct err err;
    char reason[WALDUR_REASON_MAX], deadline[24];
    if (!e->resource[0]) {
        leave(e, "dropped", waldur_order_state_name(state), NULL);
        return;
    }
    if (waldur_translate_undone(e->config->waldur_api, e->uuid, e->resource, clock_wall_us(),
                                &undone, reason) != WALDUR_TRANSLATED) {
        err_nomem(&err);
        errand_put_off(e, &err);
        return;
    }
    e->reason = waldur_order_state_name(state);
    snprintf(deadline, sizeof(deadline), "%" PRId64, e->config->retry_deadline_ms);
    errand_fence(e, p);
    p[3] = (struct pg_param){e->facts ? e->facts : "{}", -1};
    p[4] = (struct pg_param){e->reason, -1};
    p[5] = (struct pg_param){undone.source, -1};
    p[6] = (struct pg_param){undone.id, -1};
    p[7] = (struct pg_param){undone.data, -1};
    p[8] = (struct pg_param){deadline, -1};
    errand_submit(e, S_WALDUR_CLOSED, p, on_closed);
    waldur_event_done(&undone);
}

static void intake_end(void *ctx, const struct err *err)
{
    struct errand *e = ctx;
    if (err) {
        errand_put_off(e, err);
        return;
    }
    if (!learn(e)) {
        return;
    }
    const struct waldur_intake *in = waldur_intake_of(e->talk.op);
    switch (in->end) {
    case WALDUR_INTAKE_TAKE:
        take(e, in);
        return;
    case WALDUR_INTAKE_LEFT:
        leave(e, "left", e->reason ? e->reason : "waits", in->reason);
        return;
    case WALDUR_INTAKE_CLOSED:
        closed(e, in->order.state);
        return;
    case WALDUR_INTAKE_FOREIGN:
        leave(e, "dropped", "foreign", NULL);
        return;
    case WALDUR_INTAKE_GONE:
        leave(e, "dropped", "gone", NULL);
        return;
    }
}

/* ---- the decision ---- */

static void decline(struct errand *e, const char *reason, const char *detail)
{
    e->reason = reason;
    waldur_intake_leave(e->talk.op, detail);
    talk_go(&e->talk);
}

struct setup {
    struct waldur_setup it;
    struct waldur_plan plans[256];
    struct waldur_mapping mappings[256];
};

/* Borrows from the configuration. */
static void set_up(const struct config *c, const struct config_offering *offering,
                   struct setup *out)
{
    *out = (struct setup){0};
    for (size_t i = 0; i < c->n_waldur_plans && i < ARRAY_LEN(out->plans); i++) {
        out->plans[i] = (struct waldur_plan){c->waldur_plans[i].name, c->waldur_plans[i].value};
        out->it.n_plans++;
    }
    for (size_t i = 0; i < offering->n_attributes && i < ARRAY_LEN(out->mappings); i++) {
        const struct config_pair *a = &offering->attributes[i];
        out->mappings[i] = (struct waldur_mapping){a->name, a->value};
        out->it.n_mappings++;
    }
    out->it.type = offering->type;
    out->it.flow = offering->flow;
    out->it.plans = out->plans;
    out->it.mappings = out->mappings;
    out->it.rate_component = offering->rate_component;
}

/* False where that has been answered already. */
static bool translate(struct errand *e, const struct waldur_intake *in)
{
    static const char memory[] = "memory ended; it is looked at again";
    char reason[WALDUR_REASON_MAX];
    const struct config_offering *offering = config_offering_of(e->config, in->order.offering_uuid);
    if (!offering) {
        decline(e, "offering", "its offering left the configuration");
        return false;
    }
    struct setup *setup = malloc(sizeof(*setup));
    if (!setup) {
        decline(e, "memory", memory);
        return false;
    }
    set_up(e->config, offering, setup);
    enum waldur_translation t = waldur_translate(e->config->waldur_api, &setup->it, &in->order,
                                                 &in->resource, &e->event, reason);
    free(setup);
    if (t != WALDUR_TRANSLATED) {
        bool no_memory = t == WALDUR_TRANSLATION_MEMORY;
        decline(e, no_memory ? "memory" : "settings", no_memory ? memory : reason);
        return false;
    }
    e->has_event = true;
    return true;
}

/* The name that the subscription would get, and where it would run. False: answered already. */
static bool plan(struct errand *e, bool pending, char name[NAME_BYTES_MAX + 1])
{
    struct plan plan = {0};
    struct err err;
    const struct config_runtime *runtime = NULL;
    char *terms = NULL;
    bool fine = plan_make(e->event.data, e->config, &plan, &err) == 0 &&
                plan_name(&plan, e->event.subscription_uuid, name, &err) == 0 &&
                (terms = plan_terms_json(&plan, &err)) != NULL;
    const char *reason = "settings";
    free(terms);
    if (fine) {
        runtime = plan_runtime(&plan, e->config, &err);
        e->runtime = runtime ? runtime->name : NULL;
        reason = "runtime";
        fine = runtime || !pending;
    }
    plan_done(&plan);
    if (fine && pending && e->desk->o.room(e->desk->o.ctx, runtime->name) == 0) {
        err_set(&err, ERR_UNAVAILABLE, "runtime \"%s\" is not well just now", runtime->name);
        fine = false;
    }
    /* What executes already goes on to its end, and the job says what is wrong: but without a name
     * there is nothing to go on with. */
    if (!fine) {
        decline(e, reason, err.msg);
    }
    return fine;
}

static void on_accepted(void *ctx, const PGresult *res, const struct err *err)
{
    struct errand *e = ctx;
    char detail[WALDUR_REASON_MAX];
    struct err memory;
    const char *verdict = errand_verdict(e, res, err);
    if (!verdict) {
        return;
    }
    const char *told = PQgetisnull(res, 0, 1) ? "" : PQgetvalue(res, 0, 1);
    if (str_eq(verdict, "lost")) {
        errand_drop(e);
    } else if (str_eq(verdict, "quota")) {
        snprintf(detail, sizeof(detail),
                 "its organization has %.20s active subscriptions; waldur.organization_max allows "
                 "%" PRId64,
                 told, e->config->waldur_organization_max);
        decline(e, "quota", detail);
    } else if (str_eq(verdict, "name")) {
        snprintf(detail, sizeof(detail), "another subscription has the name %.128s", told);
        decline(e, "name", detail);
    } else {
        bool announces = !str_eq(e->event.type, "subscription.terminated");
        free(e->backend_id);
        e->backend_id = announces ? str_dup(told) : NULL;
        if (announces && !e->backend_id) {
            err_nomem(&memory);
            errand_put_off(e, &memory);
            return;
        }
        waldur_intake_accept(e->talk.op, e->backend_id);
        talk_go(&e->talk);
    }
}

static void accept(struct errand *e, const char *name, bool pending)
{
    struct pg_param p[7];
    char max[24];
    bool bounded =
        e->config->waldur_organization_max > 0 && str_eq(e->event.type, "subscription.created");
    snprintf(max, sizeof(max), "%" PRId64, e->config->waldur_organization_max);
    errand_fence(e, p);
    p[3] = (struct pg_param){e->facts, -1};
    p[4] = (struct pg_param){or_null(name), -1};
    p[5] = (struct pg_param){bounded ? max : NULL, -1};
    p[6] = (struct pg_param){pending ? "f" : "t", -1};
    errand_submit(e, S_WALDUR_ACCEPT, p, on_accepted);
}

static void intake_ask(void *ctx)
{
    struct errand *e = ctx;
    char name[NAME_BYTES_MAX + 1] = "";
    if (!learn(e)) {
        return;
    }
    const struct waldur_intake *in = waldur_intake_of(e->talk.op);
    bool pending = in->order.state == WALDUR_ORDER_PENDING_PROVIDER;
    if (e->has_event) {
        waldur_event_done(&e->event);
        e->has_event = false;
    }
    e->reason = NULL;
    if (!translate(e, in)) {
        return;
    }
    bool terminates = str_eq(e->event.type, "subscription.terminated");
    if (pending && str_eq(e->config->waldur_approve, "manual")) {
        decline(e, "manual", "it waits for a person's approval (waldur.approve: manual)");
    } else if (terminates || plan(e, pending, name)) {
        accept(e, name, pending);
    }
}

static const struct talk_events intake_events = {.intend = errand_intend,
                                                 .settled = errand_settled,
                                                 .ask = intake_ask,
                                                 .may = errand_may,
                                                 .end = intake_end};

/* ---- reports ---- */

static void on_told(void *ctx, const PGresult *res, const struct err *err)
{
    struct errand *e = ctx;
    struct desk *d = e->desk;
    const char *verdict = errand_verdict(e, res, err);
    if (!verdict) {
        return;
    }
    errand_drop(e);
    desk_wake(d);
}

static void told(struct errand *e, const struct waldur_report *r)
{
    struct pg_param p[6];
    bool done = r->state == WALDUR_ORDER_DONE;
    bool by_us = r->end == WALDUR_REPORT_TOLD;
    bool delivered = done && e->key_told.api_key && r->keys_told;
    const char *state = done ? "done" : "erred";
    if (by_us) {
        metrics_add(e->desk->o.metrics, M_WALDUR_REPORTS_TOTAL, METRIC_LABELS(state), 1);
    }
    if (delivered) {
        metrics_add(e->desk->o.metrics, M_WALDUR_KEYS_TOTAL, METRIC_LABELS("delivered"), 1);
    }
    if (r->keys_untold && e->key_told.api_key) {
        log_order(e, LOG_WARN, "this Waldur holds no API keys; the key stays here, sealed", NULL);
    }
    log_event(LOG_INFO, by_us ? "order reported" : "order was closed already",
              LOG_S("order", e->uuid), LOG_S("subscription", e->resource), LOG_S("state", state));
    errand_fence(e, p);
    p[3] = (struct pg_param){state, -1};
    p[4] = (struct pg_param){by_us ? or_null(e->backend_id) : NULL, -1};
    p[5] = (struct pg_param){delivered ? e->prefix : NULL, -1};
    errand_submit(e, S_WALDUR_TOLD, p, on_told);
}

static void report_end(void *ctx, const struct err *err)
{
    struct errand *e = ctx;
    struct err pending;
    if (err) {
        errand_put_off(e, err);
        return;
    }
    const struct waldur_report *r = waldur_report_of(e->talk.op);
    switch (r->end) {
    case WALDUR_REPORT_TOLD:
    case WALDUR_REPORT_ALREADY:
        told(e, r);
        return;
    case WALDUR_REPORT_CLOSED:
        closed(e, r->state);
        return;
    case WALDUR_REPORT_PENDING:
        err_set(&pending, ERR_THROTTLED, "the order does not execute: %s",
                waldur_order_state_name(r->state));
        pending.retry_after_ms = PENDING_MS;
        errand_put_off(e, &pending);
        return;
    case WALDUR_REPORT_GONE:
        leave(e, "dropped", "gone", NULL);
        return;
    }
}

static const struct talk_events report_events = {
    .intend = errand_intend, .settled = errand_settled, .may = errand_may, .end = report_end};

/* "https://agents.example/{name}" with the name put in. free(). */
static char *endpoint_url(const char *pattern, const char *name)
{
    struct buf out;
    static const char mark[] = "{name}";
    buf_init(&out, 1024);
    for (const char *at = NULL; (at = strstr(pattern, mark)); pattern = at + sizeof(mark) - 1) {
        buf_add(&out, pattern, (size_t)(at - pattern));
        buf_adds(&out, name);
    }
    buf_adds(&out, pattern);
    return buf_steal(&out);
}

static bool make_endpoints(struct errand *e)
{
    const struct config *c = e->config;
    for (size_t i = 0; i < c->n_waldur_endpoints && i < ARRAY_LEN(e->endpoints); i++) {
        char *url = endpoint_url(c->waldur_endpoints[i].value, e->name);
        if (!url) {
            return false;
        }
        e->endpoint_urls[i] = url;
        e->endpoints[i] = (struct waldur_endpoint){c->waldur_endpoints[i].name, url};
        e->n_endpoints++;
    }
    return true;
}

/* Buyers see it: the agent's name, how it is reached, the key's public prefix. */
static bool make_metadata(struct errand *e)
{
    cJSON *json = cJSON_CreateObject();
    bool fine =
        json && add_text(json, "name", e->name) && add_text(json, "api_key_prefix", e->prefix);
    cJSON *endpoints = fine && e->n_endpoints ? cJSON_AddObjectToObject(json, "endpoints") : NULL;
    for (size_t i = 0; fine && endpoints && i < e->n_endpoints; i++) {
        fine = add_text(endpoints, e->endpoints[i].name, e->endpoints[i].url);
    }
    e->metadata = fine ? json_text(json) : NULL;
    cJSON_Delete(json);
    return e->metadata != NULL;
}

static enum err_class class_of(const struct errand *e)
{
    enum err_class class = e->job_class ? err_class_parse(e->job_class) : ERR_INTERNAL;
    return class == ERR_CLASS_MAX ? ERR_INTERNAL : class; /* cancelled, superseded: our own doing */
}

/* What of the resource Waldur is to know, beside the verdict. */
static int fill_done(struct errand *e, struct waldur_report_target *t, struct err *err)
{
    if (!e->name) {
        return 0;
    }
    if (!make_endpoints(e) || !make_metadata(e)) {
        return err_nomem(err);
    }
    t->metadata = e->metadata;
    t->endpoints = e->endpoints;
    t->n_endpoints = e->n_endpoints;
    if (e->delivery && str_eq(e->config->waldur_keys, "waldur")) {
        if (errand_open_key(e, err)) {
            return -1;
        }
        e->key_told = (struct waldur_key_told){e->prefix, e->clear};
        t->keys = &e->key_told;
        t->n_keys = 1;
    }
    return 0;
}

static struct waldur_op *start_report(struct errand *e, struct err *err)
{
    char reference[48];
    enum waldur_order_type type = waldur_order_type_parse(e->order_type);
    bool done = str_eq(e->verdict, "done");
    struct waldur_report_target t = {.access = marketplace_access(e->desk->o.marketplace),
                                     .order = e->uuid,
                                     .resource = e->resource,
                                     .verdict = done ? WALDUR_VERDICT_DONE : WALDUR_VERDICT_ERRED};
    if (type != WALDUR_TYPE_TERMINATE) {
        if (e->name && !str_eq(e->name, e->backend_id)) {
            free(e->backend_id);
            e->backend_id = str_dup(e->name);
            if (!e->backend_id) {
                err_nomem(err);
                return NULL;
            }
        }
        t.backend_id = e->backend_id;
        if (done && fill_done(e, &t, err)) {
            return NULL;
        }
    }
    if (!done) {
        snprintf(reference, sizeof(reference), "job-%s", e->job_id[0] ? e->job_id : "0");
        waldur_words_failed(type, class_of(e), reference, e->words);
        t.error_message = e->words;
    }
    return waldur_report_start(&t, err);
}

/* ---- the beginning ---- */

static struct waldur_op *start_intake(struct errand *e, struct err *err)
{
    size_t n = 0;
    e->offerings = calloc(e->config->n_offerings + 1, sizeof(*e->offerings));
    if (!e->offerings) {
        err_nomem(err);
        return NULL;
    }
    for (size_t i = 0; i < e->config->n_offerings; i++) {
        if (e->config->offerings[i].uuid) {
            e->offerings[n++] = e->config->offerings[i].uuid;
        }
    }
    struct waldur_intake_target t = {.access = marketplace_access(e->desk->o.marketplace),
                                     .order = e->uuid,
                                     .offerings = e->offerings,
                                     .n_offerings = n};
    return waldur_intake_start(&t, err);
}

void desk_order_begin(struct errand *e)
{
    struct err err;
    char label[48];
    /* Which kind of order it is, and so what to report, only a look tells. */
    e->reporting = e->verdict && !str_eq(e->verdict, e->told) && e->order_type &&
                   (str_eq(e->phase, "taken") || str_eq(e->phase, "reported"));
    struct waldur_op *op = e->reporting ? start_report(e, &err) : start_intake(e, &err);
    if (!op) {
        errand_put_off(e, &err);
        return;
    }
    snprintf(label, sizeof(label), "o%.8s.%.20s", e->uuid, e->fence);
    talk_start(&e->talk, e->desk->loop, e->desk->o.marketplace, op, label,
               e->reporting ? &report_events : &intake_events, e);
}
