#include "drive.h"

#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "account.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/json.h"
#include "base/str.h"
#include "executor_internal.h"

/*
 * One turn after the other: ask the driver; commit the intent where the request changes something;
 * send; feed the answer; record what became of the effect. The slot is held while requests flow and
 * given back for waits.
 */

static void turn(struct job *j);

/* Drivers read no clock. */
static void tick(const struct job *j)
{
    if (j->target.site) {
        j->target.site->now_ms = clock_mono_ms();
    }
}

static void end_op(struct job *j)
{
    if (j->op) {
        j->driver->free(j->op);
        j->op = NULL;
    }
    driver_site_unref(j->target.site);
    j->target.site = NULL;
    account_free(j->account);
    j->account = NULL;
    plan_done(&j->plan);
    job_request_done(j);
}

void drive_end(struct job *j)
{
    loop_timer_cancel(j->executor->loop, &j->timer);
    upstream_release(j);
    end_op(j);
}

static enum driver_goal driver_goal(enum goal goal)
{
    static const enum driver_goal goals[] = {[GOAL_PRESENT] = DRIVER_PRESENT,
                                             [GOAL_CLOSED] = DRIVER_CLOSED,
                                             [GOAL_ABSENT] = DRIVER_ABSENT};
    return goals[goal];
}

/* What only a present object needs: settings and variables out of the event. */
static int fill_settings(struct job *j, const struct config_runtime *r, struct err *err)
{
    struct driver_target *t = &j->target;
    if (plan_make(j->spec, j->config, &j->plan, err)) {
        return -1;
    }
    if (j->product == PRODUCT_LANGFLOW) {
        const struct config_document *flow = config_flow(j->config, j->plan.flow_id);
        t->flow_id = j->plan.flow_id;
        t->template = flow ? flow->text : NULL;
        t->template_len = flow ? flow->len : 0;
        t->variables = j->plan.variables;
        t->changed = j->variables_due;
        return j->plan.rag ? plan_add_collection(&j->plan, j->collection_id, r->ragflow.url, err)
                           : 0;
    }
    t->embedding_model = config_embedding_model(&r->ragflow, j->plan.embedding_model);
    t->chunk_size = j->plan.chunk_size;
    t->chunk_overlap = j->plan.chunk_overlap;
    return 0;
}

/*
 * How long to wait before absence is believed. A request that was cut off early (the process ended,
 * or lost the database) may be performed as late as one that was waited for to its end: its
 * time-out and then the settle time.
 */
static int64_t settle_ms(const struct job *j, const struct config_product *c)
{
    const struct open_effect *open = &j->open[j->product];
    int64_t settle_ms = j->executor->o.config->worker_probe_settle_ms;
    int64_t left_ms = c->timeout_ms + settle_ms - open->age_ms - (clock_mono_ms() - j->claimed_ms);
    return open->any && left_ms > settle_ms ? left_ms : settle_ms;
}

static struct driver_target target_of(const struct job *j, const struct config_product *c)
{
    const struct open_effect *open = &j->open[j->product];
    return (struct driver_target){
        .url = c->url,
        .credential = c->api_key,
        .timeout_ms = c->timeout_ms,
        .subscription = j->subscription,
        .name = j->name,
        .marker = j->marker,
        .external_id = j->product == PRODUCT_LANGFLOW ? j->workspace_id : j->collection_id,
        .tenant_id = j->product == PRODUCT_RAGFLOW ? j->tenant_id : NULL,
        .uncertain = open->any,
        .updating = open->update,
        .deleting = open->delete_id,
        .settle_ms = settle_ms(j, c),
    };
}

static int start_op(struct job *j, struct err *err)
{
    struct driver_site *site = NULL;
    const struct config_product *c = upstream_config(j->upstream);
    j->driver = upstream_driver(j->upstream);
    j->config = j->executor->o.config;
    const struct config_runtime *r = config_runtime_named(j->config, j->runtime_name);
    if (!c || !j->driver || !r) {
        return err_set(err, ERR_UNAVAILABLE, "runtime \"%s\" left the configuration",
                       j->runtime_name);
    }
    j->target = target_of(j, c);
    if (upstream_site(j->upstream, &site, err)) {
        return -1;
    }
    j->target.site = driver_site_ref(site);
    if (site) {
        j->account = account_new(j, r, err);
        if (!j->account) {
            return -1;
        }
        account_fill(j->account, &j->target);
    }
    if (j->goal == GOAL_PRESENT && fill_settings(j, r, err)) {
        return -1;
    }
    j->op = j->driver->start(driver_goal(j->goal), &j->target, err);
    return j->op ? 0 : -1;
}

static void acquire(struct job *j)
{
    struct err err;
    int64_t hold_ms = 0;
    struct upstream *up = upstreams_get(j->executor->upstreams, j->runtime_name, j->product, &err);
    int r = up ? upstream_acquire(up, j, &hold_ms, &err) : -1;
    if (r < 0 && !up && err.class == ERR_INTERNAL) {
        executor_settle(j, &err); /* memory ended: that is no word about the runtime */
    } else if (r < 0 && !up) {
        executor_hold_for_runtime(j, &err);
    } else if (r < 0) {
        executor_hold(j, &err, hold_ms);
    } else if (r > 0) {
        j->wait = WAIT_SLOT;
    } else {
        drive_granted(j->executor, j);
    }
}

void drive_begin(struct job *j, enum product product, enum goal goal)
{
    j->product = product;
    j->goal = goal;
    acquire(j);
}

void drive_granted(void *ctx, struct job *j)
{
    struct err err;
    (void)ctx;
    j->wait = WAIT_NOTHING;
    if (!j->op && start_op(j, &err)) {
        executor_settle(j, &err);
        return;
    }
    turn(j);
}

void drive_dismissed(void *ctx, struct job *j, const struct err *err, int64_t hold_ms)
{
    (void)ctx;
    j->wait = WAIT_NOTHING;
    executor_hold(j, err, hold_ms);
}

void drive_recovered(void *ctx, const char *runtime)
{
    struct executor *x = ctx;
    x->o.recovered(x->o.ctx, runtime);
}

void drive_probe(void *ctx, const char *runtime)
{
    struct executor *x = ctx;
    x->o.probe(x->o.ctx, runtime);
}

/* ---- sending ---- */

static void record_effect(struct job *j, const struct driver_outcome *outcome)
{
    static const char *const states[] = {[EFFECT_DONE] = "done",
                                         [EFFECT_UNKNOWN] = "unknown",
                                         [EFFECT_REFUSED] = "refused",
                                         [EFFECT_NOT_SENT] = "not_sent"};
    struct err err;
    char id[24], status[16];
    if (j->effect_id == 0 || outcome->effect == EFFECT_NONE) {
        return;
    }
    const char *state = states[outcome->effect];
    bool bad = outcome->err.class != ERR_NONE;
    metrics_add(j->executor->o.metrics, M_EFFECTS_TOTAL,
                METRIC_LABELS(product_name(j->product), state), 1);
    snprintf(id, sizeof(id), "%" PRId64, j->effect_id);
    snprintf(status, sizeof(status), "%d", outcome->err.http_status);
    const struct pg_param p[] = {
        {id, -1},
        {j->fence_text, -1},
        {state, -1},
        {outcome->external_id[0] ? outcome->external_id : NULL, -1},
        {outcome->err.http_status ? status : NULL, -1},
        {bad ? err_class_name(outcome->err.class) : NULL, -1},
        {bad ? outcome->err.msg : NULL, -1},
    };
    /* Nobody waits for it: an effect that stays "intended" is treated as unknown all the same. */
    (void)pg_submit(j->executor->o.pg, S_EFFECT_SETTLE, j->subscription, false, p, NULL, NULL,
                    &err);
    if (outcome->effect == EFFECT_UNKNOWN) {
        JOB_LOG(j, LOG_INFO, "outcome of a change is unknown; looking", LOG_S("effect", j->effect),
                LOG_S("error", outcome->err.msg));
    }
}

/* Words of a server may repeat what it was sent. */
static void redact(const struct job *j, struct err *err)
{
    err_redact(err, j->target.credential);
    if (j->account) {
        account_redact(j->account, err);
    }
}

/* What the answer says about the server, not about the object. */
static void report_health(struct job *j, const struct exchange_response *response,
                          const struct driver_outcome *outcome)
{
    struct err seen;
    exchange_classify(response, &seen);
    redact(j, &seen);
    if (outcome->health == HEALTH_GOOD) {
        err_clear(&seen);
    } else if (outcome->health == HEALTH_AS_SAID || outcome->err.class == ERR_UNKNOWN) {
        seen = outcome->err; /* "200 OK" and nonsense is no sign of health */
    }
    int64_t took_ms = clock_mono_ms() - j->request_started_ms;
    /* May hold or dismiss other jobs, never this one: it has its slot. */
    upstream_report(j->upstream, &seen, took_ms, response->status, exchange_method_name(j->method));
}

/* What the change made is recorded, so that nobody need look for it: only now is it done. */
static void made(struct job *j)
{
    struct driver_outcome outcome = {.effect = EFFECT_DONE};
    err_clear(&outcome.err);
    str_copy(outcome.external_id, sizeof(outcome.external_id), j->made_id);
    record_effect(j, &outcome);
    j->effect_id = 0;
}

static void on_kept(void *ctx, const PGresult *res, const struct err *err)
{
    struct job *j = ctx;
    const char *verdict = executor_verdict(j, res, err);
    if (!verdict) {
        struct err e;
        err_set(&e, ERR_INTERNAL, "PostgreSQL refused what was made upstream (%s): %.400s",
                err->sqlstate, err->msg);
        executor_settle(j, &e);
        return;
    }
    if (str_eq(verdict, "dropped") || executor_lost(j, verdict)) {
        return;
    }
    made(j);
    turn(j);
}

static const char *text_or_null(const char *s)
{
    return s[0] ? s : NULL;
}

/* A later attempt shall find what this answer told, and not ask, or make, it again. */
static void keep(struct job *j, const struct driver_outcome *o)
{
    struct fence_params f;
    struct pg_param p[8];
    struct err err;
    char sealed[ACCOUNT_SEALED_HEX_MAX + 1] = "";

    if (o->secret[0] && account_seal(j, j->config, j->product, o->secret, sealed, &err)) {
        executor_settle(j, &err);
        return;
    }
    executor_fence(j, &f);
    memcpy(p, f.params, sizeof(f.params));
    p[4] = (struct pg_param){product_name(j->product), -1};
    p[5] = (struct pg_param){o->record ? text_or_null(o->external_id) : NULL, -1};
    p[6] = (struct pg_param){text_or_null(o->tenant_id), -1};
    p[7] = (struct pg_param){text_or_null(sealed), -1};
    (void)executor_submit(j, S_RUNTIME_KEEP, p, on_kept);
}

static void on_answer(void *ctx, const struct exchange_response *response)
{
    struct job *j = ctx;
    struct driver_outcome outcome;

    FAULT_POINT("http/%s/%s/answered", j->driver->api, j->effect ? j->effect : "look");
    j->call = NULL;
    j->wait = WAIT_NOTHING;
    tick(j);
    j->driver->feed(j->op, response, &outcome);
    redact(j, &outcome.err);
    bool keeps =
        (outcome.record && outcome.external_id[0]) || outcome.tenant_id[0] || outcome.secret[0];
    if (keeps && outcome.effect == EFFECT_DONE) {
        /* Open until it is kept: who takes the job over in between has to look for it. */
        str_copy(j->made_id, sizeof(j->made_id), outcome.external_id);
    } else if (j->effect_id != 0 && (j->deletes[0] || outcome.unseen) &&
               outcome.effect == EFFECT_DONE) {
        /* Accepted is not yet gone, and made not yet recorded: open until the step has seen it.
         * Whoever goes on instead must not take what is about to vanish for what is wanted, nor
         * leave behind what nobody wants any more. */
        j->effect_id = 0;
    } else {
        record_effect(j, &outcome);
        j->effect_id = 0;
    }
    report_health(j, response, &outcome);
    if (keeps) {
        keep(j, &outcome);
    } else {
        turn(j);
    }
    sodium_memzero(outcome.secret, sizeof(outcome.secret));
}

/* Draining, or the lease is too close to its end for another request. What was intended did not
 * leave. */
static void give_up(struct job *j)
{
    struct driver_outcome outcome = {.effect = EFFECT_NOT_SENT};
    err_clear(&outcome.err);
    record_effect(j, &outcome);
    JOB_LOG(j, LOG_INFO, "job given up before a request");
    /* Renewed late, the lease goes on: unless it is given back, nobody would run the job. */
    executor_strand(j);
}

static void send(struct job *j);

static void on_patience(void *ctx)
{
    struct job *j = ctx;
    j->wait = WAIT_NOTHING;
    send(j);
}

/* The server was told to be busy by the answer to another job. */
static void be_patient(struct job *j, int64_t ms)
{
    struct driver_outcome outcome = {.effect = EFFECT_NOT_SENT};
    struct err err;
    j->timer.fn = on_patience;
    j->timer.ctx = j;
    if (ms <= UPSTREAM_PATIENCE_MS && loop_timer_set(j->executor->loop, &j->timer, ms, &err) == 0) {
        j->wait = WAIT_TIMER;
        return;
    }
    err_clear(&outcome.err);
    record_effect(j, &outcome);
    j->effect_id = 0;
    err_set(&err, ERR_THROTTLED, "%s of runtime \"%s\" asked to be left alone",
            product_name(j->product), j->runtime_name);
    err.retry_after_ms = ms;
    executor_settle(j, &err);
}

static void send(struct job *j)
{
    struct executor *x = j->executor;
    struct err err;
    char request_id[64], trace[TRACEPARENT_MAX + 1];
    char line_id[80], line_trace[16 + TRACEPARENT_MAX];

    if (x->draining || !x->o.leased(x->o.ctx)) {
        give_up(j);
        return;
    }
    int64_t patience_ms = upstream_patience_ms(j->upstream);
    if (patience_ms > 0) {
        be_patient(j, patience_ms);
        return;
    }
    job_request_id(j, request_id, sizeof(request_id));
    job_traceparent(j, trace);
    snprintf(line_id, sizeof(line_id), "X-Request-Id: %s", request_id);
    snprintf(line_trace, sizeof(line_trace), "traceparent: %s", trace);
    const char *const headers[] = {line_id, line_trace, NULL};
    FAULT_POINT("http/%s/%s/before", j->driver->api, j->effect ? j->effect : "look");
    j->request_started_ms = clock_mono_ms();
    j->method = j->request->method;
    j->call = http_send(x->http, j->request, headers, on_answer, j, &err);
    if (!j->call) {
        executor_settle(j, &err);
        return;
    }
    job_request_done(j);
    j->wait = WAIT_HTTP;
}

static void on_intended(void *ctx, const PGresult *res, const struct err *err)
{
    struct job *j = ctx;
    const char *verdict = executor_verdict(j, res, err);
    if (!verdict) {
        struct err e;
        err_set(&e, ERR_INTERNAL, "PostgreSQL refused the intent (%s): %.400s", err->sqlstate,
                err->msg);
        executor_settle(j, &e);
        return;
    }
    if (str_eq(verdict, "dropped") || executor_lost(j, verdict)) {
        return;
    }
    int64_t id = 0;
    if (str_to_i64(PQgetvalue(res, 0, 1), &id)) {
        j->effect_id = id;
    }
    j->open[j->product].any = true;
    send(j);
}

/* The path of a URL: what the journal keeps of where a request went. */
static const char *path_of(const char *url)
{
    const char *host = strstr(url, "://");
    const char *path = host ? strchr(host + 3, '/') : NULL;
    return path ? path : "/";
}

static void intend(struct job *j)
{
    struct fence_params f;
    struct pg_param p[13];
    char sha[65], request_id[64];

    str_sha256_hex(sha, buf_str(&j->request->body), j->request->body.len);
    job_request_id(j, request_id, sizeof(request_id));
    executor_fence(j, &f);
    memcpy(p, f.params, sizeof(f.params));
    p[4] = (struct pg_param){product_name(j->product), -1};
    p[5] = (struct pg_param){j->effect, -1};
    p[6] = (struct pg_param){exchange_method_name(j->request->method), -1};
    p[7] = (struct pg_param){path_of(j->request->url), -1};
    p[8] = (struct pg_param){j->name, -1};
    p[9] = (struct pg_param){j->marker, -1};
    p[10] = (struct pg_param){sha, -1};
    p[11] = (struct pg_param){request_id, -1};
    p[12] = (struct pg_param){text_or_null(j->deletes), -1};
    (void)executor_submit(j, S_EFFECT_INTEND, p, on_intended);
}

/* ---- turns ---- */

static void on_waited(void *ctx)
{
    struct job *j = ctx;
    j->wait = WAIT_NOTHING;
    acquire(j);
}

static void wait_for(struct job *j, int64_t ms)
{
    struct err err;
    upstream_release(j);
    j->timer.fn = on_waited;
    j->timer.ctx = j;
    if (loop_timer_set(j->executor->loop, &j->timer, ms, &err)) {
        executor_settle(j, &err);
        return;
    }
    j->wait = WAIT_TIMER;
}

/* Replaces a recorded text; "" is none. */
static bool record(char **recorded, const char *text)
{
    char *copy = text[0] ? str_dup(text) : NULL;
    if (text[0] && !copy) {
        return false;
    }
    free(*recorded);
    *recorded = copy;
    return true;
}

/* flow_id, run_url, tenant_id, residue, variables, as resource_record reads them. free(). */
static char *detail_of(const struct job *j, const struct driver_action *a)
{
    struct buf run;
    buf_init(&run, EXCHANGE_URL_MAX);
    if (a->flow_id[0]) {
        buf_addf(&run, "%s/api/v1/run/%s", j->target.url, a->flow_id);
    }
    const struct {
        const char *name, *value;
    } members[] = {{"flow_id", a->flow_id},
                   {"run_url", buf_str(&run)},
                   {"tenant_id", a->tenant_id},
                   {"residue", a->residue}};
    cJSON *json = run.failed ? NULL : cJSON_CreateObject();
    bool fine = json != NULL;
    for (size_t i = 0; i < ARRAY_LEN(members) && fine; i++) {
        fine = !members[i].value[0] ||
               cJSON_AddStringToObject(json, members[i].name, members[i].value) != NULL;
    }
    if (fine && j->product == PRODUCT_LANGFLOW && j->goal == GOAL_PRESENT) {
        fine = cJSON_AddTrueToObject(json, "variables") != NULL;
    }
    char *text = fine ? json_text(json) : NULL;
    cJSON_Delete(json);
    buf_done(&run);
    return text;
}

/* What the step leaves behind decides what comes next, so it counts before it is written. */
static int remember(struct job *j, const struct driver_action *a, const char *sealed,
                    struct err *err)
{
    bool langflow = j->product == PRODUCT_LANGFLOW;
    bool fine = record(langflow ? &j->workspace_id : &j->collection_id, a->external_id) &&
                record(&j->sealed_keys[j->product], sealed[0] ? sealed + 2 : "") &&
                (langflow || record(&j->tenant_id, a->tenant_id));
    if (!fine) {
        return err_nomem(err);
    }
    job_settled(j, j->product);
    return 0;
}

static void done(struct job *j, const struct driver_action *a)
{
    struct err err;
    char sealed[ACCOUNT_SEALED_HEX_MAX + 1] = "";
    bool fine = !a->secret[0] || !account_seal(j, j->config, j->product, a->secret, sealed, &err);
    char *detail = fine ? detail_of(j, a) : NULL;
    drive_end(j);
    if (fine && !detail) {
        err_nomem(&err);
    }
    if (!detail || remember(j, a, sealed, &err)) {
        free(detail);
        executor_settle(j, &err);
        return;
    }
    if (a->residue[0]) {
        JOB_LOG(j, LOG_WARN, "something was left behind upstream; a person has to look",
                LOG_S("residue", a->residue));
    }
    const struct pg_param extra[] = {{product_name(j->product), -1},
                                     {text_or_null(a->external_id), -1},
                                     {detail, -1},
                                     {text_or_null(sealed), -1}};
    executor_write_step(j, S_STEP_RESOURCE, extra, ARRAY_LEN(extra));
    free(detail);
}

static void request(struct job *j, struct driver_action *action)
{
    job_request_done(j);
    j->request = malloc(sizeof(*j->request));
    if (!j->request) {
        struct err err;
        exchange_request_done(&action->request);
        err_nomem(&err);
        executor_settle(j, &err);
        return;
    }
    *j->request = action->request;
    j->effect = action->effect;
    str_copy(j->deletes, sizeof(j->deletes), action->deletes);
    j->effect_id = 0;
    j->requests++;
    if (action->effect) {
        intend(j);
    } else {
        send(j);
    }
}

/* What failed because its server is down waits with the others of that server, until its own time
 * is over. */
static void failed(struct job *j, const struct err *err)
{
    int64_t hold_ms = 0;
    bool away = err->class == ERR_UNAVAILABLE || err->class == ERR_UNKNOWN;
    if (away && job_deadline_left_ms(j) > 0 && upstream_holds(j->upstream, &hold_ms)) {
        executor_hold(j, err, hold_ms);
    } else {
        executor_settle(j, err);
    }
}

static void turn(struct job *j)
{
    struct driver_action action;
    if (j->executor->draining) {
        executor_drop(j);
        return;
    }
    tick(j);
    j->driver->next(j->op, &action);
    switch (action.turn) {
    case TURN_REQUEST:
        request(j, &action);
        return;
    case TURN_WAIT:
        wait_for(j, action.wait_ms);
        return;
    case TURN_DONE:
        done(j, &action);
        sodium_memzero(action.secret, sizeof(action.secret));
        return;
    case TURN_FAILED:
        redact(j, &action.err);
        failed(j, &action.err);
        return;
    }
}
