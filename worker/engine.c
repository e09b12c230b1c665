#include "engine.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "base/uuid.h"
#include "executor.h"
#include "job.h"
#include "lanes.h"
#include "statements.h"
#include "store/migrate.h"
#include "upstream.h"

/*
 * A lease covers everything that this process has in hand. It is renewed at a third of its length;
 * time is counted from before the statement that renewed it was sent, so that we always believe in
 * it for less long than the database does. After its loss, or the connection's, every job is
 * dropped and a new identity is taken: what was half done is found again by claiming it. A job that
 * had to be dropped while the lease goes on is stranded: nobody else may run it until we have given
 * it back.
 */

enum {
    CLAIM_MAX = 128, /* jobs in one claim */
    CLAIM_SHARE = 1, /* of one organization in one round, times the weight of its plan */
    CLAIM_POLICY_MAX = 256 * 1024,
    AGAIN_MS = 30, /* another worker may have been claiming when there was nothing for us */
    LOOK_MS = 500, /* between looks when nobody wakes us: retries that fall due */
    STATEMENT_TIMEOUT_MS = 30 * 1000,
    /* A row that somebody keeps locked is waited for twice, in its group and alone; a renewal
     * behind both must still be in time. */
    LOCKS_A_LEASE = 8,
    STRANDED_MAX = 256,           /* beyond it everything is given back */
    STRANDED_AGAIN_MS = 5 * 1000, /* between tries to give the same ones back */
    HAND_BACK_MS = 2 * 1000,      /* of the drain's time, for giving back what did not end */
    LEASE_MARGIN_MS = 1000        /* no request leaves when the lease ends sooner */
};

enum phase {
    PHASE_DOWN,
    PHASE_CHECKING,
    PHASE_REGISTERING,
    PHASE_WORKING,
    PHASE_DRAINING,
    PHASE_LEFT
};

struct stranded {
    int64_t job, fence;
};

struct engine {
    struct loop *loop;
    const struct config *config;
    struct metrics *metrics;
    struct pg *pg;
    struct pg_listen *listen;
    struct executor *executor;
    void *ctx; /* of the four below */
    loop_fn *on_outcome, *on_lost, *on_order;
    void (*on_database)(void *ctx, bool up);
    char *only; /* "{1,2,3}" or NULL */
    char owner[UUID_TEXT];
    char former[UUID_TEXT]; /* to be given up on the next connection; "" for none */
    enum phase phase;
    bool schema_ok;
    char why[ERR_MSG_MAX];
    int64_t leased_until_ms; /* monotonic */
    int64_t renew_sent_ms;
    bool registering, renewing, claiming, claim_wanted;
    bool trouble;        /* claims fail, and it was said */
    bool careful;        /* a job that cannot be claimed may be the reason */
    bool release_wanted; /* held jobs may run: the configuration is another */
    struct stranded stranded[STRANDED_MAX];
    size_t n_stranded, n_sent; /* of them, those that are being given back */
    bool too_many_stranded, giving_back;
    int64_t give_back_due_ms;
    bool left_jobs;     /* draining: the jobs were given back, or that is under way */
    bool told, curious; /* work was announced; before the claim under way */
    struct lanes *lanes;
    struct loop_timer look, again, renew, drain;
    loop_fn *drained;
    void *drained_ctx;
};

static void before_sleep(void *ctx);
static void on_pg_state(void *ctx, bool up, const char *why);

/* ---- executor's questions ---- */

static bool lease_is_good(const struct engine *e)
{
    return e->leased_until_ms - LEASE_MARGIN_MS > clock_mono_ms();
}

static bool leased(void *ctx)
{
    return lease_is_good(ctx);
}

static const char *owner(void *ctx)
{
    return ((struct engine *)ctx)->owner;
}

static void wake(void *ctx)
{
    engine_wake(ctx);
}

static void outcome(void *ctx)
{
    struct engine *e = ctx;
    if (e->on_outcome) {
        e->on_outcome(e->ctx);
    }
}

static void announce(void *ctx)
{
    struct engine *e = ctx;
    if (e->on_order) {
        e->on_order(e->ctx);
    }
}

static void strand(void *ctx, int64_t job, int64_t fence)
{
    struct engine *e = ctx;
    if (e->n_stranded == STRANDED_MAX) {
        e->too_many_stranded = true;
        return;
    }
    e->stranded[e->n_stranded++] = (struct stranded){job, fence};
}

/* ---- held jobs ---- */

static void release_held(void *ctx, const char *runtime);

/* They go in portions: the answer says how many there were, and whose. */
static void on_released(void *ctx, const PGresult *res, const struct err *err)
{
    struct engine *e = ctx;
    if (!res) {
        if (pg_is_up(e->pg)) {
            log_event(LOG_WARN, "held jobs could not be released; they come back by themselves",
                      LOG_S("error", err->msg));
        }
        return;
    }
    engine_wake(e);
    if (str_eq(PQgetvalue(res, 0, 1), "t")) {
        release_held(e, PQgetisnull(res, 0, 0) ? NULL : PQgetvalue(res, 0, 0));
    }
}

/* NULL: of every runtime. */
static void release_held(void *ctx, const char *runtime)
{
    struct engine *e = ctx;
    struct err err;
    const struct pg_param p[] = {{runtime, -1}, {NULL, -1}};
    if (pg_submit(e->pg, S_JOBS_RELEASE, NULL, true, p, on_released, e, &err)) {
        log_event(LOG_WARN, "held jobs could not be released; they come back by themselves",
                  LOG_S("error", err.msg));
    }
}

/* Where that fails the upstream calls again. */
static void on_probe_released(void *ctx, const PGresult *res, const struct err *err)
{
    (void)err;
    if (res) {
        engine_wake(ctx);
    }
}

static void release_one(void *ctx, const char *runtime)
{
    struct engine *e = ctx;
    struct err err;
    const struct pg_param p[] = {{runtime, -1}, {"1", -1}};
    if (e->phase == PHASE_WORKING) {
        (void)pg_submit(e->pg, S_JOBS_RELEASE, NULL, true, p, on_probe_released, e, &err);
    }
}

/* ---- life ---- */

static char *only_text(const struct engine_options *o)
{
    struct buf b;
    buf_init(&b, 16 * 1024 * 1024);
    buf_addc(&b, '{');
    for (size_t i = 0; i < o->n_only; i++) {
        buf_addf(&b, "%s%" PRId64, i ? "," : "", o->only[i]);
    }
    buf_addc(&b, '}');
    return buf_steal(&b);
}

static int start_parts(struct engine *e, struct err *err)
{
    struct pg_options pg = {.url = e->config->database_url,
                            .application = "provisioner",
                            .statements = statements,
                            .n_statements = STATEMENT_MAX,
                            .statement_timeout_ms = STATEMENT_TIMEOUT_MS,
                            .lock_timeout_ms = e->config->worker_lease_ms / LOCKS_A_LEASE,
                            .on_state = on_pg_state,
                            .ctx = e};
    struct executor_options x = {.metrics = e->metrics,
                                 .config = e->config,
                                 .ctx = e,
                                 .leased = leased,
                                 .owner = owner,
                                 .finished = wake,
                                 .outcome = outcome,
                                 .announce = announce,
                                 .recovered = release_held,
                                 .probe = release_one,
                                 .stranded = strand};
    if (loop_before_sleep(e->loop, before_sleep, e, err)) {
        return -1;
    }
    e->pg = pg_new(e->loop, &pg, err);
    if (!e->pg) {
        return -1;
    }
    x.pg = e->pg;
    e->executor = executor_new(e->loop, &x, err);
    if (!e->executor) {
        return -1;
    }
    if (!e->only) {
        e->listen =
            pg_listen_new(e->loop, e->config->database_url, "provisioner_jobs", wake, e, err);
        return e->listen ? 0 : -1;
    }
    return 0;
}

static void on_look(void *ctx);
static void on_again(void *ctx);
static void on_renew_due(void *ctx);
static void on_drain_timeout(void *ctx);

struct engine *engine_new(struct loop *loop, const struct engine_options *options, struct err *err)
{
    struct engine *e = calloc(1, sizeof(*e));
    if (!e) {
        err_nomem(err);
        return NULL;
    }
    e->loop = loop;
    e->config = options->config;
    e->release_wanted = !options->only;
    e->metrics = options->metrics;
    e->on_outcome = options->on_outcome;
    e->on_database = options->on_database;
    e->on_lost = options->on_lost;
    e->on_order = options->on_order;
    e->ctx = options->ctx;
    e->look = (struct loop_timer){.fn = on_look, .ctx = e};
    e->again = (struct loop_timer){.fn = on_again, .ctx = e};
    e->renew = (struct loop_timer){.fn = on_renew_due, .ctx = e};
    e->drain = (struct loop_timer){.fn = on_drain_timeout, .ctx = e};
    str_copy(e->why, sizeof(e->why), "not connected to the database yet");
    e->lanes = lanes_new();
    if (!e->lanes || (options->only && !(e->only = only_text(options)))) {
        err_nomem(err);
    } else if (!start_parts(e, err)) {
        return e;
    }
    engine_free(e);
    return NULL;
}

void engine_free(struct engine *e)
{
    if (!e) {
        return;
    }
    loop_before_sleep_del(e->loop, before_sleep, e);
    loop_timer_cancel(e->loop, &e->look);
    loop_timer_cancel(e->loop, &e->again);
    loop_timer_cancel(e->loop, &e->renew);
    loop_timer_cancel(e->loop, &e->drain);
    executor_free(e->executor);
    pg_listen_free(e->listen);
    pg_free(e->pg);
    lanes_free(e->lanes);
    free(e->only);
    free(e);
}

void engine_wake(struct engine *e)
{
    e->claim_wanted = true;
    e->told = true;
}

struct pg *engine_pg(struct engine *e)
{
    return e->pg;
}

const char *engine_owner(const struct engine *e)
{
    return e->owner;
}

bool engine_leased(const struct engine *e)
{
    return (e->phase == PHASE_WORKING || e->phase == PHASE_DRAINING) && lease_is_good(e);
}

size_t engine_room(const struct engine *e, const char *runtime)
{
    return upstreams_room(executor_upstreams(e->executor), runtime);
}

void engine_reload(struct engine *e, const struct config *config)
{
    e->config = config;
    executor_configure(e->executor, config);
    e->release_wanted = !e->only;
    engine_wake(e);
}

bool engine_uses(const struct engine *e, const struct config *config)
{
    return executor_uses(e->executor, config);
}

/* ---- lease ---- */

static void set_timer(struct engine *e, struct loop_timer *t, int64_t ms)
{
    struct err err;
    if (loop_timer_set(e->loop, t, ms, &err)) {
        log_event(LOG_ERROR, "timer", LOG_S("error", err.msg));
    }
}

static void lose(struct engine *e, const char *why)
{
    if (e->owner[0]) {
        str_copy(e->former, sizeof(e->former), e->owner);
    }
    e->leased_until_ms = 0;
    e->renewing = false;
    e->claiming = false;
    e->careful = false;
    e->n_stranded = e->n_sent = 0;
    e->too_many_stranded = false;
    str_copy(e->why, sizeof(e->why), why);
    loop_timer_cancel(e->loop, &e->renew);
    size_t jobs = executor_jobs(e->executor);
    if (jobs > 0) {
        log_event(LOG_WARN, "jobs in hand dropped", LOG_I("jobs", (int64_t)jobs),
                  LOG_S("why", why));
    }
    executor_abandon(e->executor);
    if (e->on_lost) {
        e->on_lost(e->ctx);
    }
}

static void begin_registering(struct engine *e);

static void on_renewed(void *ctx, const PGresult *res, const struct err *err)
{
    struct engine *e = ctx;
    e->renewing = false;
    if (!res) {
        /* The connection's loss is told by on_pg_state; a refusal or a time-out leaves the lease
         * running. */
        log_event(LOG_WARN, "lease not renewed", LOG_S("error", err->msg));
        return;
    }
    if (e->phase != PHASE_WORKING && e->phase != PHASE_DRAINING) {
        return;
    }
    if (str_eq(PQgetvalue(res, 0, 0), "t")) {
        e->leased_until_ms = e->renew_sent_ms + e->config->worker_lease_ms;
        return;
    }
    lose(e, "the lease ran out before it was renewed");
    metrics_add(e->metrics, M_LEASES_LOST_TOTAL, NULL, 1);
    if (e->phase == PHASE_WORKING) {
        begin_registering(e);
    }
}

static void on_renew_due(void *ctx)
{
    struct engine *e = ctx;
    struct err err;
    char lease[24];
    set_timer(e, &e->renew, e->config->worker_lease_ms / 3);
    if (e->renewing) {
        return;
    }
    snprintf(lease, sizeof(lease), "%" PRId64, e->config->worker_lease_ms);
    const struct pg_param p[] = {{e->owner, -1}, {lease, -1}};
    e->renew_sent_ms = clock_mono_ms();
    e->renewing = pg_submit(e->pg, S_WORKER_RENEW, NULL, true, p, on_renewed, e, &err) == 0;
}

static void on_registered(void *ctx, const PGresult *res, const struct err *err)
{
    struct engine *e = ctx;
    e->registering = false;
    if (e->phase != PHASE_REGISTERING) {
        return;
    }
    if (!res) {
        str_copy(e->why, sizeof(e->why), err->msg);
        return; /* tried again by on_look */
    }
    e->phase = PHASE_WORKING;
    e->why[0] = '\0';
    e->former[0] = '\0';
    e->leased_until_ms = e->renew_sent_ms + e->config->worker_lease_ms;
    log_event(LOG_INFO, "worker registered", LOG_S("owner", e->owner));
    set_timer(e, &e->renew, e->config->worker_lease_ms / 3);
    engine_wake(e);
}

static void begin_registering(struct engine *e)
{
    struct err err;
    char host[256] = "", pid[16], lease[24];

    e->phase = PHASE_REGISTERING;
    if (e->former[0]) {
        const struct pg_param p[] = {{e->former, -1}};
        (void)pg_submit(e->pg, S_WORKER_LEAVE, NULL, true, p, NULL, NULL, &err);
    }
    uuid_make(e->owner);
    if (gethostname(host, sizeof(host) - 1)) {
        str_copy(host, sizeof(host), "unknown");
    }
    snprintf(pid, sizeof(pid), "%ld", (long)getpid());
    snprintf(lease, sizeof(lease), "%" PRId64, e->config->worker_lease_ms);
    const struct pg_param p[] = {
        {e->owner, -1}, {host, -1}, {pid, -1}, {PROVISIONER_VERSION, -1}, {lease, -1}};
    e->renew_sent_ms = clock_mono_ms();
    e->registering =
        pg_submit(e->pg, S_WORKER_REGISTER, NULL, true, p, on_registered, e, &err) == 0;
}

static void on_schema(void *ctx, const PGresult *res, const struct err *err)
{
    struct engine *e = ctx;
    int64_t version = -1;
    if (e->phase != PHASE_CHECKING) {
        return;
    }
    if (res && str_to_i64(PQgetvalue(res, 0, 0), &version) && version == migrate_wanted()) {
        e->schema_ok = true;
        begin_registering(e);
        return;
    }
    bool was_ok = e->schema_ok;
    char before[sizeof(e->why)];
    str_copy(before, sizeof(before), e->why);
    e->schema_ok = false;
    snprintf(e->why, sizeof(e->why),
             res ? "the database schema is at version %" PRId64 ", this program needs %d: run "
                   "`provisioner migrate`"
                 : "the schema version cannot be read (found %" PRId64 ", needed %d): run "
                   "`provisioner migrate`",
             version, migrate_wanted());
    if (was_ok || !str_eq(before, e->why)) {
        log_event(LOG_ERROR, "schema not usable", LOG_S("why", e->why),
                  LOG_S("error", err && err->class != ERR_NONE ? err->msg : NULL));
    }
}

static void check_schema(struct engine *e)
{
    struct err err;
    e->phase = PHASE_CHECKING;
    (void)pg_submit(e->pg, S_SCHEMA_VERSION, NULL, true, NULL, on_schema, e, &err);
}

static void on_pg_state(void *ctx, bool up, const char *why)
{
    struct engine *e = ctx;
    metrics_set(e->metrics, M_DATABASE_UP, NULL, up ? 1 : 0);
    if (e->on_database) {
        e->on_database(e->ctx, up);
    }
    if (e->phase == PHASE_LEFT) {
        return;
    }
    if (!up) {
        log_event(LOG_ERROR, "database not usable", LOG_S("why", why));
        bool draining = e->phase == PHASE_DRAINING;
        lose(e, why);
        e->phase = draining ? PHASE_DRAINING : PHASE_DOWN;
        return;
    }
    log_event(LOG_INFO, "database connected");
    if (e->phase != PHASE_DRAINING) {
        check_schema(e);
        set_timer(e, &e->look, LOOK_MS);
    }
}

/* ---- claiming ---- */

/* Told once, until claims work again; that the connection went is told by on_pg_state. */
static void claim_failed(struct engine *e, const struct err *err)
{
    if (err->class == ERR_UNKNOWN) {
        e->too_many_stranded = true; /* nobody knows how many */
    }
    if (!pg_is_up(e->pg) || e->phase != PHASE_WORKING) {
        return;
    }
    str_copy(e->why, sizeof(e->why), err->msg);
    e->careful = err->class == ERR_REFUSED;
    if (!e->trouble) {
        e->trouble = true;
        log_event(LOG_ERROR, "jobs cannot be claimed", LOG_S("error", err->msg));
    }
}

static void claim_worked(struct engine *e)
{
    if (e->trouble) {
        e->trouble = false;
        e->why[0] = '\0';
        log_event(LOG_INFO, "jobs are claimed again");
    }
}

static void on_claimed(void *ctx, const PGresult *res, const struct err *err)
{
    struct engine *e = ctx;
    int takeovers = 0;
    e->claiming = false;
    if (!res) {
        claim_failed(e, err);
        return;
    }
    int rows = PQntuples(res);
    if (e->phase != PHASE_WORKING) {
        return; /* given back by worker_leave, or taken over from the former owner */
    }
    claim_worked(e);
    for (int i = 0; i < rows; i++) {
        struct job *j = job_from_row(res, i, clock_mono_ms());
        if (!j) {
            log_event(LOG_ERROR, "out of memory: claimed jobs are given back");
            e->too_many_stranded = true;
            continue;
        }
        takeovers += j->takeover;
        if (!j->takeover) {
            lanes_served(e->lanes, j->lane, j->organization, j->credit);
        }
        executor_start(e->executor, j);
    }
    if (takeovers > 0) {
        log_event(LOG_WARN, "jobs of a worker that is gone taken over", LOG_I("jobs", takeovers));
    }
    if (rows > 0) {
        engine_wake(e); /* there may be more */
    } else if (e->curious) {
        set_timer(e, &e->again, AGAIN_MS);
    }
}

/* Once only: who was told of work and finds none twice waits for the next look. */
static void on_again(void *ctx)
{
    struct engine *e = ctx;
    e->claim_wanted = true;
}

static void claim(struct engine *e)
{
    struct err err;
    struct buf policy;
    char limit[16], share[16];
    size_t held = executor_jobs(e->executor);
    size_t room =
        (size_t)e->config->worker_max_jobs > held ? (size_t)e->config->worker_max_jobs - held : 0;

    e->claim_wanted = false;
    if (room == 0 || !lease_is_good(e)) {
        return;
    }
    snprintf(limit, sizeof(limit), "%zu", room < CLAIM_MAX ? room : CLAIM_MAX);
    snprintf(share, sizeof(share), "%d", CLAIM_SHARE);
    buf_init(&policy, CLAIM_POLICY_MAX);
    lanes_policy(e->lanes, e->config, e->executor, &policy);
    const struct pg_param p[] = {
        {e->owner, -1},        {limit, -1},   {"00000000-0000-0000-0000-000000000000", -1},
        {share, -1},           {e->only, -1}, {e->careful ? "t" : "f", -1},
        {buf_str(&policy), -1}};
    e->curious = e->told && !e->only;
    e->told = false;
    e->claiming =
        !policy.failed && pg_submit(e->pg, S_JOBS_CLAIM, NULL, true, p, on_claimed, e, &err) == 0;
    buf_done(&policy);
}

/* ---- stranded jobs ---- */

static bool still_ours(const PGresult *res, const struct stranded *s)
{
    for (int i = 0; i < PQntuples(res); i++) {
        int64_t job;
        if (str_to_i64(PQgetvalue(res, i, 0), &job) && job == s->job) {
            return true;
        }
    }
    return false;
}

/* The answer lists what could not be given back now. */
static void on_given_back(void *ctx, const PGresult *res, const struct err *err)
{
    struct engine *e = ctx;
    (void)err;
    e->giving_back = false;
    e->give_back_due_ms = clock_mono_ms() + STRANDED_AGAIN_MS;
    if (!res || e->phase != PHASE_WORKING) {
        return;
    }
    size_t kept = 0;
    for (size_t i = 0; i < e->n_stranded; i++) {
        if (i >= e->n_sent || still_ours(res, &e->stranded[i])) {
            e->stranded[kept++] = e->stranded[i];
        }
    }
    e->n_stranded = kept;
    if (kept == 0) {
        e->give_back_due_ms = 0;
    }
    engine_wake(e);
}

static void give_back_stranded(struct engine *e)
{
    struct buf jobs, fences;
    struct err err;
    if (e->n_stranded == 0 || e->giving_back || clock_mono_ms() < e->give_back_due_ms) {
        return;
    }
    buf_init(&jobs, STRANDED_MAX * 21 + 2);
    buf_init(&fences, STRANDED_MAX * 21 + 2);
    for (size_t i = 0; i < e->n_stranded; i++) {
        buf_addf(&jobs, "%c%" PRId64, i ? ',' : '{', e->stranded[i].job);
        buf_addf(&fences, "%c%" PRId64, i ? ',' : '{', e->stranded[i].fence);
    }
    buf_addc(&jobs, '}');
    buf_addc(&fences, '}');
    const struct pg_param p[] = {{e->owner, -1}, {buf_str(&jobs), -1}, {buf_str(&fences), -1}};
    e->n_sent = e->n_stranded;
    e->giving_back = !jobs.failed && !fences.failed &&
                     pg_submit(e->pg, S_JOBS_BACK, NULL, true, p, on_given_back, e, &err) == 0;
    buf_done(&jobs);
    buf_done(&fences);
}

static void on_look(void *ctx)
{
    struct engine *e = ctx;
    if (e->phase == PHASE_LEFT) {
        return;
    }
    set_timer(e, &e->look, LOOK_MS);
    if (!pg_is_up(e->pg)) {
        return;
    }
    if (e->phase == PHASE_CHECKING) {
        check_schema(e);
    } else if (e->phase == PHASE_REGISTERING && !e->registering) {
        begin_registering(e);
    } else if (e->phase == PHASE_WORKING && e->too_many_stranded) {
        lose(e, "many statements failed; jobs are given back and claimed anew");
        begin_registering(e);
    } else if (e->phase == PHASE_WORKING) {
        give_back_stranded(e);
        e->claim_wanted = true;
    }
}

/* ---- draining ---- */

static void leave(struct engine *e)
{
    e->phase = PHASE_LEFT;
    loop_timer_cancel(e->loop, &e->look);
    loop_timer_cancel(e->loop, &e->again);
    loop_timer_cancel(e->loop, &e->renew);
    loop_timer_cancel(e->loop, &e->drain);
    e->drained(e->drained_ctx);
}

static void on_left(void *ctx, const PGresult *res, const struct err *err)
{
    struct engine *e = ctx;
    if (e->phase != PHASE_DRAINING) {
        return;
    }
    if (res) {
        log_event(LOG_INFO, "worker left", LOG_S("jobs_given_back", PQgetvalue(res, 0, 0)));
    } else {
        log_event(LOG_WARN,
                  "worker left without giving its jobs back; others take over when the "
                  "lease ends",
                  LOG_S("error", err->msg));
    }
    leave(e);
}

static void give_back(struct engine *e)
{
    struct err err;
    const struct pg_param p[] = {{e->owner, -1}};
    e->left_jobs = true;
    if (e->owner[0] == '\0' || !pg_is_up(e->pg) ||
        pg_submit(e->pg, S_WORKER_LEAVE, NULL, true, p, on_left, e, &err)) {
        leave(e);
    }
}

static void on_drain_timeout(void *ctx)
{
    struct engine *e = ctx;
    if (e->phase != PHASE_DRAINING) {
        return;
    }
    log_event(LOG_WARN, "drain took too long", LOG_I("jobs", (int64_t)executor_jobs(e->executor)));
    if (e->left_jobs) {
        leave(e);
        return;
    }
    /* What is still asked upstream is cut off, and found by a look of whoever claims the job. */
    executor_abandon(e->executor);
    give_back(e);
    if (e->phase == PHASE_DRAINING) {
        set_timer(e, &e->drain, HAND_BACK_MS);
    }
}

void engine_drain(struct engine *e, int64_t timeout_ms, loop_fn *done, void *ctx)
{
    e->drained = done;
    e->drained_ctx = ctx;
    e->phase = PHASE_DRAINING;
    int64_t hand_back_ms = timeout_ms / 4 < HAND_BACK_MS ? timeout_ms / 4 : HAND_BACK_MS;
    set_timer(e, &e->drain, timeout_ms - hand_back_ms);
    executor_drain(e->executor);
    loop_wake(e->loop);
}

static void before_sleep(void *ctx)
{
    struct engine *e = ctx;
    if (e->phase == PHASE_WORKING && e->release_wanted) {
        e->release_wanted = false;
        release_held(e, NULL);
    }
    if (e->phase == PHASE_WORKING && e->claim_wanted && !e->claiming) {
        claim(e);
    } else if (e->phase == PHASE_DRAINING && !e->left_jobs && !e->claiming &&
               executor_jobs(e->executor) == 0) {
        give_back(e);
    }
}

/* ---- seen from outside ---- */

void engine_health(const struct engine *e, struct engine_health *out)
{
    *out = (struct engine_health){
        .database = pg_is_up(e->pg),
        .schema = e->schema_ok,
        .leased = lease_is_good(e),
        .why = pg_is_up(e->pg) ? e->why : pg_why(e->pg),
        .jobs = executor_jobs(e->executor),
        .upstreams_down = upstreams_down(executor_upstreams(e->executor)),
    };
}

void engine_upstreams_json(const struct engine *e, struct buf *out)
{
    upstreams_json(executor_upstreams(e->executor), out);
}
