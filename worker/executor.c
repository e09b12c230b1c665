#include "executor.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/rng.h"
#include "base/str.h"
#include "drive.h"
#include "executor_internal.h"
#include "statements.h"

static void step_begin(struct job *j);

struct executor *executor_new(struct loop *loop, const struct executor_options *options,
                              struct err *err)
{
    struct executor *x = calloc(1, sizeof(*x));
    if (!x) {
        err_nomem(err);
        return NULL;
    }
    x->loop = loop;
    x->o = *options;
    uint64_t seed = 0;
    rng_bytes(&seed, sizeof(seed));
    rng_seed(&x->jitter, seed);
    struct http_options http = {.user_agent = "provisioner/" PROVISIONER_VERSION};
    struct upstreams_events events = {.ctx = x,
                                      .granted = drive_granted,
                                      .dismissed = drive_dismissed,
                                      .recovered = drive_recovered,
                                      .probe = drive_probe};
    x->http = http_new(loop, &http, err);
    x->upstreams = x->http ? upstreams_new(loop, &events, options->metrics, err) : NULL;
    if (!x->upstreams) {
        executor_free(x);
        return NULL;
    }
    executor_configure(x, options->config);
    return x;
}

void executor_free(struct executor *x)
{
    if (!x) {
        return;
    }
    while (x->jobs) {
        struct job *j = x->jobs;
        x->jobs = j->next;
        loop_timer_cancel(x->loop, &j->timer);
        job_free(j);
    }
    http_free(x->http);
    upstreams_free(x->upstreams);
    free(x);
}

void executor_configure(struct executor *x, const struct config *config)
{
    x->o.config = config;
    upstreams_configure(x->upstreams, config);
}

bool executor_uses(const struct executor *x, const struct config *config)
{
    for (const struct job *j = x->jobs; j; j = j->next) {
        if (j->op && j->config == config) {
            return true;
        }
    }
    return false;
}

size_t executor_jobs(const struct executor *x)
{
    return x->n_jobs;
}

struct upstreams *executor_upstreams(struct executor *x)
{
    return x->upstreams;
}

size_t executor_jobs_of(const struct executor *x, const char *lane)
{
    size_t n = 0;
    for (const struct job *j = x->jobs; j; j = j->next) {
        n += str_eq(j->runtime_name ? j->runtime_name : j->lane, lane);
    }
    return n;
}

/* ---- leaving ---- */

void executor_drop(struct job *j)
{
    struct executor *x = j->executor;
    loop_timer_cancel(x->loop, &j->timer);
    if (j->call) {
        http_cancel(x->http, j->call);
        j->call = NULL;
    }
    upstream_release(j);
    *(j->prev ? &j->prev->next : &x->jobs) = j->next;
    if (j->next) {
        j->next->prev = j->prev;
    }
    x->n_jobs--;
    metrics_set(x->o.metrics, M_JOBS_IN_HAND, NULL, (double)x->n_jobs);
    job_free(j);
    x->o.finished(x->o.ctx);
}

void executor_strand(struct job *j)
{
    const struct executor_options *o = &j->executor->o;
    o->stranded(o->ctx, j->id, j->fence);
    executor_drop(j);
}

void executor_abandon(struct executor *x)
{
    struct job *next = NULL;
    for (struct job *j = x->jobs; j; j = next) {
        next = j->next;
        j->abandoned = true;
        if (j->wait == WAIT_STORE) {
            continue; /* its statement will report; then it goes */
        }
        executor_drop(j);
    }
}

void executor_drain(struct executor *x)
{
    struct job *next = NULL;
    x->draining = true;
    for (struct job *j = x->jobs; j; j = next) {
        next = j->next;
        /* A request under way is heard out, so that its outcome is known; everything else can stop
         * here. */
        if (j->wait == WAIT_SLOT || j->wait == WAIT_TIMER) {
            executor_drop(j);
        }
    }
}

/* ---- statements ---- */

int executor_submit(struct job *j, enum statement statement, const struct pg_param *params,
                    pg_done_fn *done)
{
    struct err err;
    j->wait = WAIT_STORE;
    if (pg_submit(j->executor->o.pg, (int)statement, j->subscription, false, params, done, j,
                  &err)) {
        j->wait = WAIT_NOTHING;
        JOB_LOG(j, LOG_ERROR, "job dropped", LOG_S("error", err.msg));
        executor_strand(j);
        return -1;
    }
    return 0;
}

void executor_fence(const struct job *j, struct fence_params *f)
{
    snprintf(f->deadline, sizeof(f->deadline), "%" PRId64,
             j->executor->o.config->retry_deadline_ms);
    f->params[0] = (struct pg_param){j->id_text, -1};
    f->params[1] = (struct pg_param){j->executor->o.owner(j->executor->o.ctx), -1};
    f->params[2] = (struct pg_param){j->fence_text, -1};
    f->params[3] = (struct pg_param){f->deadline, -1};
}

bool executor_lost(struct job *j, const char *verdict)
{
    if (str_eq(verdict, "lost")) {
        metrics_add(j->executor->o.metrics, M_LEASES_LOST_TOTAL, NULL, 1);
        /* Not a warning each: that the lease was lost is told once. */
        JOB_LOG(j, LOG_INFO, "job is another worker's now; dropped");
    } else if (str_eq(verdict, "superseded")) {
        metrics_add(j->executor->o.metrics, M_JOBS_FINISHED_TOTAL,
                    METRIC_LABELS(job_kind_name(j->kind), "superseded"), 1);
        JOB_LOG(j, LOG_INFO, "job superseded by a newer order");
    } else if (str_eq(verdict, "cancelled")) {
        metrics_add(j->executor->o.metrics, M_JOBS_FINISHED_TOTAL,
                    METRIC_LABELS(job_kind_name(j->kind), "cancelled"), 1);
        JOB_LOG(j, LOG_INFO, "job cancelled");
        j->executor->o.outcome(j->executor->o.ctx);
    } else if (str_eq(verdict, "queued")) {
        JOB_LOG(j, LOG_DEBUG, "job waits: its runtime has as many as it may");
    } else if (str_eq(verdict, "paused")) {
        JOB_LOG(j, LOG_INFO, "job stopped: it is paused");
    } else if (str_eq(verdict, "wait")) {
        JOB_LOG(j, LOG_DEBUG, "job held: Waldur has to be told first");
        j->executor->o.announce(j->executor->o.ctx);
    } else {
        return false;
    }
    executor_drop(j);
    return true;
}

const char *executor_verdict(struct job *j, const PGresult *res, const struct err *err)
{
    j->wait = WAIT_NOTHING;
    if (res && !j->abandoned) {
        return PQgetvalue(res, 0, 0);
    }
    if (err && err->class == ERR_REFUSED && !j->abandoned) {
        return NULL;
    }
    /* The connection went, or the lease did: the next claim starts from what the database says. */
    if (j->abandoned) {
        executor_drop(j);
    } else {
        executor_strand(j);
    }
    return "dropped";
}

/* ---- settling ---- */

static void on_settled(void *ctx, const PGresult *res, const struct err *err)
{
    struct job *j = ctx;
    const char *verdict = executor_verdict(j, res, err);
    if (!verdict) {
        JOB_LOG(j, LOG_ERROR, "the job's state could not be written", LOG_S("error", err->msg));
        executor_strand(j);
        return;
    }
    if (str_eq(verdict, "dropped") || executor_lost(j, verdict)) {
        return;
    }
    if (j->failed) {
        metrics_add(j->executor->o.metrics, M_JOBS_FINISHED_TOTAL,
                    METRIC_LABELS(job_kind_name(j->kind), "failed"), 1);
        j->executor->o.outcome(j->executor->o.ctx);
    }
    executor_drop(j);
}

static void log_verdict(const struct job *j, const struct verdict *v, const struct err *err)
{
    if (v->to == JOB_FAILED) {
        JOB_LOG(j, LOG_ERROR, "job failed", LOG_S("class", err_class_name(err->class)),
                LOG_S("error", err->msg), LOG_B("out_of_time", v->out_of_time));
    } else if (v->to == JOB_RETRYING) {
        /* Not a warning: that an upstream is not well is told once, by the upstream. */
        JOB_LOG(j, LOG_INFO, "step will be tried again", LOG_S("class", err_class_name(err->class)),
                LOG_S("error", err->msg), LOG_I("delay_ms", v->delay_ms));
    } else {
        /* Held jobs are many and their upstream has been told of once: not a line each. */
        JOB_LOG(j, LOG_DEBUG, "job held", LOG_S("error", err->msg));
    }
}

static void settle_as(struct job *j, const struct verdict *v, const struct err *err)
{
    struct fence_params f;
    struct pg_param p[9];
    char attempts[16], delay[24], text[ERR_MSG_MAX + 64];

    drive_end(j);
    log_verdict(j, v, err);
    j->failed = v->to == JOB_FAILED;
    snprintf(attempts, sizeof(attempts), "%d", j->attempts + (v->counts ? 1 : 0));
    snprintf(delay, sizeof(delay), "%" PRId64, v->delay_ms);
    snprintf(text, sizeof(text), "%s%s", v->out_of_time ? "gave up at the deadline; last: " : "",
             err->msg);
    executor_fence(j, &f);
    memcpy(p, f.params, sizeof(f.params));
    p[4] = (struct pg_param){job_state_name(v->to), -1};
    p[5] = (struct pg_param){attempts, -1};
    p[6] = (struct pg_param){delay, -1};
    p[7] = (struct pg_param){err_class_name(err->class), -1};
    p[8] = (struct pg_param){text, -1};
    (void)executor_submit(j, S_JOB_SETTLE, p, on_settled);
}

void executor_settle(struct job *j, const struct err *err)
{
    const struct config *c = j->executor->o.config;
    struct retry_policy policy = {
        .initial_ms = c->retry_initial_ms, .max_ms = c->retry_max_ms, .factor = c->retry_factor};
    uint64_t random = rng_next(&j->executor->jitter);
    struct verdict v = machine_judge(err, j->attempts, job_deadline_left_ms(j), &policy, random);
    settle_as(j, &v, err);
}

void executor_hold(struct job *j, const struct err *err, int64_t hold_ms)
{
    struct verdict v = {.to = JOB_HELD, .delay_ms = hold_ms};
    settle_as(j, &v, err);
}

void executor_hold_for_runtime(struct job *j, const struct err *err)
{
    enum { HOLD_MS = 5 * 60 * 1000, TELL_MS = 60 * 1000 };
    struct executor *x = j->executor;
    int64_t now = clock_mono_ms();
    if (x->runtime_missed_ms == 0 || now - x->runtime_missed_ms >= TELL_MS) {
        x->runtime_missed_ms = now;
        JOB_LOG(j, LOG_WARN, "job held; there may be more", LOG_S("error", err->msg));
    }
    executor_hold(j, err, HOLD_MS);
}

/* ---- steps ---- */

/* The next step at which there is something to do; STEP_MAX when the job is then done. */
static enum job_step next_step(const struct job *j)
{
    struct facts facts = job_facts(j, j->executor->o.config);
    enum job_step step = machine_next(j->kind, j->step);
    while (step != STEP_MAX && machine_action(j->kind, step, &facts).kind == ACTION_PASS) {
        step = machine_next(j->kind, step);
    }
    return step;
}

static struct pg_param next_param(struct job *j)
{
    j->next_step = next_step(j);
    return (struct pg_param){j->next_step == STEP_MAX ? NULL : job_step_name(j->next_step), -1};
}

static void finish(struct job *j)
{
    struct executor *x = j->executor;
    int64_t took_ms = clock_mono_ms() - j->claimed_ms;
    metrics_add(x->o.metrics, M_JOBS_FINISHED_TOTAL,
                METRIC_LABELS(job_kind_name(j->kind), "succeeded"), 1);
    if (j->kind == KIND_PROVISION) {
        metrics_observe(x->o.metrics, M_READY_SECONDS, NULL,
                        (double)(j->age_ms + took_ms) / 1000.0);
    }
    JOB_LOG(j, LOG_INFO, "job succeeded", LOG_I("took_ms", took_ms),
            LOG_I("age_ms", j->age_ms + took_ms));
    executor_drop(j);
}

static void on_step_refused(struct job *j, const struct err *err)
{
    struct err e;
    err_set(&e, ERR_INTERNAL, "PostgreSQL refused the step (%s): %.400s", err->sqlstate, err->msg);
    executor_settle(j, &e);
}

static void on_step_written(void *ctx, const PGresult *res, const struct err *err)
{
    struct job *j = ctx;
    struct executor *x = j->executor;
    const char *verdict = executor_verdict(j, res, err);
    if (!verdict) {
        on_step_refused(j, err);
        return;
    }
    if (str_eq(verdict, "dropped")) {
        return;
    }
    if (str_starts(verdict, "conflict:")) {
        struct err e;
        err_set(
            &e, ERR_CONFLICT,
            "subscriptions %s and %s map to one name; give one of them another id or slug, then "
            "replay",
            j->subscription, verdict + strlen("conflict:"));
        executor_settle(j, &e);
        return;
    }
    if (executor_lost(j, verdict)) {
        return;
    }
    metrics_observe(x->o.metrics, M_STEP_SECONDS,
                    METRIC_LABELS(job_kind_name(j->kind), job_step_name(j->step)),
                    (double)(clock_mono_ms() - j->step_started_ms) / 1000.0);
    if (j->step == STEP_RECORD || j->step == STEP_ARCHIVE) {
        x->o.outcome(x->o.ctx);
    }
    if (j->next_step == STEP_MAX) {
        finish(j);
        return;
    }
    j->step = j->next_step;
    j->attempts = 0;
    if (x->draining) {
        executor_drop(j);
        return;
    }
    step_begin(j);
}

void executor_write_step(struct job *j, enum statement statement, const struct pg_param *extra,
                         size_t n)
{
    struct fence_params f;
    struct pg_param p[PG_PARAMS_MAX];

    executor_fence(j, &f);
    memcpy(p, f.params, sizeof(f.params));
    p[4] = next_param(j);
    for (size_t i = 0; i < n; i++) {
        p[5 + i] = extra[i];
    }
    (void)executor_submit(j, statement, p, on_step_written);
}

/* Name and runtime are chosen once: a recorded choice stands, whatever the configuration says
 * today. */
static int choose(struct job *j, struct plan *plan, const char **name, const char **runtime,
                  const char **mode, char made[NAME_BYTES_MAX + 1], struct err *err)
{
    if (j->name && j->runtime_name) {
        *name = j->name;
        *runtime = j->runtime_name;
        *mode = "shared"; /* ignored by the statement: the row is there */
        return 0;
    }
    const struct config_runtime *r = plan_runtime(plan, j->executor->o.config, err);
    if (!r) {
        return 1;
    }
    if (plan_name(plan, j->subscription, made, err)) {
        return -1;
    }
    *name = made;
    *runtime = r->name;
    *mode = r->mode == RUNTIME_DEDICATED ? "dedicated" : "shared";
    return 0;
}

/* The terms are looked at early: what cannot end well must not begin. */
static char *checked_config(const struct job *j, const struct plan *plan, struct err *err)
{
    char *terms = plan_terms_json(plan, err);
    char *config = terms ? plan_config_json(plan, j->variables_due, err) : NULL;
    free(terms);
    return config;
}

/* Until the workspace has them, what this order changes is due beside what earlier ones did. */
static int refresh_due(struct job *j, const struct plan *plan, struct err *err)
{
    cJSON *due = plan_due(plan, j->variables, j->variables_due, err);
    if (!due) {
        return -1;
    }
    cJSON_Delete(j->variables_due);
    j->variables_due = due;
    return 0;
}

static void runtime_max_text(const struct job *j, char out[24])
{
    snprintf(out, 24, "%" PRId64, j->executor->o.config->scheduling_runtime_max);
}

static void freeze_name(struct job *j)
{
    struct plan plan = {0};
    struct err err;
    char made[NAME_BYTES_MAX + 1];
    const char *name = NULL, *runtime = NULL, *mode = NULL;

    if (plan_make(j->spec, j->executor->o.config, &plan, &err)) {
        executor_settle(j, &err);
        return;
    }
    int r = choose(j, &plan, &name, &runtime, &mode, made, &err);
    if (r == 0 && refresh_due(j, &plan, &err)) {
        r = -1;
    }
    char *config = r == 0 ? checked_config(j, &plan, &err) : NULL;
    bool rag = plan.rag;
    if (!config) {
        plan_done(&plan);
        if (r > 0) {
            executor_hold_for_runtime(j, &err);
        } else {
            executor_settle(j, &err);
        }
        return;
    }
    if (!j->name) {
        j->name = str_dup(name);
        j->runtime_name = str_dup(runtime);
    }
    if (!j->name || !j->runtime_name) {
        err_nomem(&err);
        plan_done(&plan);
        free(config);
        executor_settle(j, &err);
        return;
    }
    j->rag_recorded = rag;
    char runtime_max[24];
    runtime_max_text(j, runtime_max);
    const struct pg_param extra[] = {
        {j->name, -1}, {mode, -1}, {j->runtime_name, -1}, {config, -1}, {runtime_max, -1}};
    executor_write_step(j, S_STEP_NAME, extra, ARRAY_LEN(extra));
    plan_done(&plan);
    free(config);
}

/* Whose key Waldur is to hand out is kept for it, sealed, until it has it. */
static bool is_delivered(const struct config *c)
{
    return c->waldur_url && str_eq(c->waldur_keys, "waldur");
}

static int make_key(const struct job *j, struct api_key *key, char delivery[], struct err *err)
{
    const struct config *c = j->executor->o.config;
    unsigned char sealed[API_KEY_DELIVERY_LEN];
    if (!is_delivered(c)) {
        return api_key_make(c->reveal_public_key, key, err);
    }
    if (api_key_make_delivered(c->reveal_public_key, c->master_key, j->subscription, key, sealed,
                               err)) {
        return -1;
    }
    str_hex(delivery, sealed, sizeof(sealed));
    return 0;
}

static void issue_key(struct job *j)
{
    struct plan plan = {0};
    struct api_key key;
    struct err err;
    char *terms = NULL;
    char hash[2 + 64 + 1], delivery[2 + 2 * API_KEY_DELIVERY_LEN + 1] = "\\x";

    if (plan_make(j->spec, j->executor->o.config, &plan, &err) ||
        !(terms = plan_terms_json(&plan, &err)) || make_key(j, &key, delivery + 2, &err)) {
        free(terms);
        plan_done(&plan);
        executor_settle(j, &err);
        return;
    }
    snprintf(hash, sizeof(hash), "\\x%s", key.hash_hex);
    char sealed[2 + 2 * API_KEY_SEALED_LEN + 1] = "\\x";
    str_hex(sealed + 2, key.sealed, sizeof(key.sealed));
    const struct pg_param extra[] = {
        {key.prefix, -1}, {hash, -1}, {sealed, -1}, {terms, -1}, {delivery, -1}};
    if (delivery[2]) {
        executor_write_step(j, S_STEP_API_KEY_FOR_WALDUR, extra, ARRAY_LEN(extra));
    } else {
        executor_write_step(j, S_STEP_API_KEY, extra, ARRAY_LEN(extra) - 1);
    }
    free(terms);
    plan_done(&plan);
}

static void end_keys(struct job *j, enum statement statement)
{
    char runtime_max[24];
    runtime_max_text(j, runtime_max);
    const struct pg_param extra[] = {{runtime_max, -1}};
    executor_write_step(j, statement, extra, ARRAY_LEN(extra));
}

static void step_begin(struct job *j)
{
    struct facts facts = job_facts(j, j->executor->o.config);
    struct action action = machine_action(j->kind, j->step, &facts);

    j->step_started_ms = clock_mono_ms();
    switch (action.kind) {
    case ACTION_FREEZE_NAME:
        freeze_name(j);
        return;
    case ACTION_DRIVE:
        drive_begin(j, action.product, action.goal);
        return;
    case ACTION_ISSUE_KEY:
        issue_key(j);
        return;
    case ACTION_REVOKE_KEYS:
        end_keys(j, S_STEP_REVOKE);
        return;
    case ACTION_REFUSE_KEYS:
        end_keys(j, S_STEP_REFUSE);
        return;
    case ACTION_RECORD_READY:
        executor_write_step(j, S_STEP_READY, NULL, 0);
        return;
    case ACTION_RECORD_SUSPENDED:
        executor_write_step(j, S_STEP_SUSPENDED, NULL, 0);
        return;
    case ACTION_ARCHIVE:
        executor_write_step(j, S_STEP_ARCHIVE, NULL, 0);
        return;
    case ACTION_TELL_WALDUR: /* the desk does; here it is only seen to */
        executor_write_step(j, j->step == STEP_ANNOUNCE ? S_STEP_ANNOUNCE : S_STEP_REPORT, NULL, 0);
        return;
    case ACTION_PASS:
        executor_write_step(j, S_STEP_PASS, NULL, 0);
        return;
    }
}

void executor_start(struct executor *x, struct job *job)
{
    job->executor = x;
    job->next = x->jobs;
    if (x->jobs) {
        x->jobs->prev = job;
    }
    x->jobs = job;
    x->n_jobs++;
    metrics_set(x->o.metrics, M_JOBS_IN_HAND, NULL, (double)x->n_jobs);
    if (job->takeover) {
        metrics_add(x->o.metrics, M_TAKEOVERS_TOTAL, NULL, 1);
    }
    JOB_LOG(job, LOG_DEBUG, job->takeover ? "job taken over" : "job claimed");
    step_begin(job);
}
