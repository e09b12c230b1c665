#include <errno.h>
#include <malloc.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "admin.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/rng.h"
#include "broker.h"
#include "commands.h"
#include "desk.h"
#include "engine.h"
#include "hooks.h"
#include "ingest.h"
#include "marketplace.h"
#include "metrics.h"
#include "net/loop.h"
#include "outcomes.h"
#include "secret/secret.h"
#include "supervisor.h"
#include "sweep.h"

/*
 * The running worker: one loop, on which ingest fills the inbox, the engine works it off, outcomes
 * go out and the administrator looks in. Ends on SIGTERM or SIGINT: reading stops first, then jobs,
 * then outcomes; a second signal, or the drain's bound, ends it at once, and the next process finds
 * everything by the leases.
 */

enum { INGEST_DRAIN_MS = 5 * 1000, DESK_DRAIN_MS = 5 * 1000, OUTCOMES_DRAIN_MS = 3 * 1000 };

struct run {
    const char *file;
    struct loop *loop;
    struct config *config;
    struct config **retired; /* read before the last SIGHUP; steps may still use them */
    size_t n_retired;
    struct metrics *metrics;
    struct engine *engine;
    struct kafka_producer *producer; /* of dead letters and outcomes */
    struct ingest *ingest;
    struct outcomes *outcomes;
    /* NULL where no Waldur is configured */
    struct marketplace *marketplace;
    struct hooks *hooks;
    struct desk *desk;
    struct sweep *sweep;
    struct admin *admin;
    struct supervisor *supervisor;
    int signals;
    bool stopping;
    int status;
    struct loop_timer deadline;
    int64_t drained_by_ms;
};

static void wake_engine(void *ctx)
{
    engine_wake(((struct run *)ctx)->engine);
}

static void wake_outcomes(void *ctx)
{
    struct run *r = ctx;
    if (r->outcomes) {
        outcomes_wake(r->outcomes);
    }
}

static void wake_desk(void *ctx)
{
    struct run *r = ctx;
    if (r->desk) {
        desk_wake(r->desk);
    }
}

static void on_lost(void *ctx)
{
    struct run *r = ctx;
    if (r->desk) {
        desk_abandon(r->desk);
        sweep_abandon(r->sweep);
    }
}

/* ---- the end ---- */

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static void on_outcomes_drained(void *ctx)
{
    loop_stop(((struct run *)ctx)->loop);
}

static void on_engine_drained(void *ctx)
{
    struct run *r = ctx;
    outcomes_drain(r->outcomes, OUTCOMES_DRAIN_MS, on_outcomes_drained, r);
}

static void on_desk_drained(void *ctx)
{
    struct run *r = ctx;
    /* Most of what is left; the rest is for the outcomes. */
    int64_t left_ms = r->drained_by_ms - clock_mono_ms();
    int64_t outcomes_ms = least(OUTCOMES_DRAIN_MS, left_ms / 4);
    engine_drain(r->engine, left_ms - outcomes_ms, on_engine_drained, r);
}

static void on_ingest_drained(void *ctx)
{
    struct run *r = ctx;
    if (!r->desk) {
        on_desk_drained(r);
        return;
    }
    sweep_stop(r->sweep);
    int64_t left_ms = r->drained_by_ms - clock_mono_ms();
    desk_drain(r->desk, least(DESK_DRAIN_MS, left_ms / 4), on_desk_drained, r);
}

static void on_deadline(void *ctx)
{
    struct run *r = ctx;
    log_event(LOG_WARN, "drain's bound reached; leaving at once");
    loop_stop(r->loop);
}

static void stop(struct run *r, const char *why, int status)
{
    struct err err;
    if (r->stopping) {
        loop_stop(r->loop);
        return;
    }
    r->stopping = true;
    r->status = status;
    log_event(LOG_INFO, "draining", LOG_S("why", why));
    admin_stopping(r->admin);
    supervisor_tell(r->supervisor, "STOPPING=1");
    r->drained_by_ms = clock_mono_ms() + r->config->worker_drain_ms;
    r->deadline = (struct loop_timer){.fn = on_deadline, .ctx = r};
    (void)loop_timer_set(r->loop, &r->deadline, r->config->worker_drain_ms, &err);
    ingest_drain(r->ingest, least(INGEST_DRAIN_MS, r->config->worker_drain_ms / 4),
                 on_ingest_drained, r);
}

static void on_fatal(void *ctx, const char *why)
{
    log_event(LOG_ERROR, "Kafka client cannot go on; ending, so that the supervisor starts anew",
              LOG_S("why", why));
    stop(ctx, "fatal Kafka error", CLI_FAILED);
}

/* ---- signals ---- */

static int keep_retired(struct run *r)
{
    struct config **more = realloc(r->retired, (r->n_retired + 1) * sizeof(struct config *));
    if (!more) {
        return -1;
    }
    r->retired = more;
    r->retired[r->n_retired++] = r->config;
    return 0;
}

/* A step holds on to strings of the configuration that it began with. */
static void free_unused(struct run *r)
{
    size_t kept = 0;
    for (size_t i = 0; i < r->n_retired; i++) {
        if (engine_uses(r->engine, r->retired[i]) ||
            (r->desk &&
             (desk_uses(r->desk, r->retired[i]) || sweep_uses(r->sweep, r->retired[i])))) {
            r->retired[kept++] = r->retired[i];
        } else {
            config_free(r->retired[i]);
        }
    }
    r->n_retired = kept;
}

static void free_retired(struct run *r)
{
    while (r->n_retired > 0) {
        config_free(r->retired[--r->n_retired]);
    }
    free(r->retired);
    r->retired = NULL;
}

static int check(const struct config *c, struct err *err)
{
    if (!c->has_reveal_public_key) {
        return err_set(err, ERR_INVALID,
                       "%s: secrets.reveal_public_key is missing: the worker cannot hand out keys "
                       "without it (32 bytes in base64; see README.md, \"Keys\")",
                       c->file);
    }
    return config_check_products(c, err);
}

static void reload(struct run *r)
{
    struct config *config = NULL;
    struct err err;

    if (r->stopping) {
        return;
    }
    if (config_load(r->file, &config, &err) || check(config, &err)) {
        config_free(config);
        log_event(LOG_ERROR, "configuration not reloaded; the former one stays",
                  LOG_S("error", err.msg));
        return;
    }
    if (config->waldur_url && !r->desk) {
        config_free(config);
        log_event(LOG_ERROR, "configuration not reloaded; the former one stays: a Waldur that was "
                             "not there before needs a restart");
        return;
    }
    free_unused(r);
    if (keep_retired(r)) {
        config_free(config);
        log_event(LOG_ERROR, "configuration not reloaded: out of memory");
        return;
    }
    r->config = config;
    enum log_level level = LOG_INFO;
    (void)log_level_parse(config->log_level, &level);
    log_setup(level, strcmp(config->log_format, "json") == 0, STDERR_FILENO);
    engine_reload(r->engine, config);
    ingest_configure(r->ingest, config);
    if (r->desk) {
        marketplace_configure(r->marketplace, config);
        hooks_configure(r->hooks, config);
        desk_configure(r->desk, config);
        sweep_configure(r->sweep, config);
    }
    log_event(LOG_INFO,
              "configuration reloaded: runtimes, offerings, retry, retention, limits, log; "
              "servers' addresses need a restart");
}

static void on_signal(void *ctx, uint32_t events)
{
    struct run *r = ctx;
    struct signalfd_siginfo info;
    (void)events;
    while (read(r->signals, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
        if (info.ssi_signo == SIGHUP) {
            reload(r);
        } else {
            stop(r, info.ssi_signo == SIGINT ? "SIGINT" : "SIGTERM", CLI_OK);
        }
    }
}

/* A connection for each request under way: a login's 1024 files may be too few for that. */
static void raise_file_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit); /* what there is must do */
    }
}

/* Blocked for every thread that is still to come: only the loop hears them. */
static int open_signals(struct run *r, struct err *err)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    if (sigprocmask(SIG_BLOCK, &set, NULL) ||
        (r->signals = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC)) < 0) {
        return err_set(err, ERR_INTERNAL, "signals: %s", strerror(errno));
    }
    signal(SIGPIPE, SIG_IGN);
    return loop_fd_add(r->loop, r->signals, EPOLLIN, on_signal, r, err);
}

/* ---- the beginning ---- */

static void on_database(void *ctx, bool up)
{
    struct run *r = ctx;
    if (r->ingest) {
        ingest_pause(r->ingest, !up);
    }
}

static const char *owner(void *ctx)
{
    return engine_owner(((struct run *)ctx)->engine);
}

static int start_kafka(struct run *r, struct err *err)
{
    if (!(r->producer = broker_producer(r->loop, r->config, err))) {
        return -1;
    }
    struct ingest_options ingest = {.config = r->config,
                                    .pg = engine_pg(r->engine),
                                    .producer = r->producer,
                                    .metrics = r->metrics,
                                    .ctx = r,
                                    .on_applied = wake_engine,
                                    .on_fatal = on_fatal};
    struct outcomes_options outcomes = {.pg = engine_pg(r->engine),
                                        .producer = r->producer,
                                        .topic = r->config->topic_outcomes,
                                        .ctx = r,
                                        .owner = owner};
    r->ingest = ingest_new(r->loop, &ingest, err);
    r->outcomes = r->ingest ? outcomes_new(r->loop, &outcomes, err) : NULL;
    return r->outcomes ? 0 : -1;
}

static bool leased(void *ctx)
{
    return engine_leased(((struct run *)ctx)->engine);
}

static size_t room(void *ctx, const char *runtime)
{
    return engine_room(((struct run *)ctx)->engine, runtime);
}

static int start_waldur(struct run *r, struct err *err)
{
    if (!r->config->waldur_url) {
        return 0;
    }
    r->marketplace = marketplace_new(r->loop, r->config, r->metrics, err);
    struct hooks_options hooks = {
        .config = r->config, .metrics = r->metrics, .ctx = r, .on_hint = wake_desk};
    struct desk_options desk = {.config = r->config,
                                .pg = engine_pg(r->engine),
                                .marketplace = r->marketplace,
                                .metrics = r->metrics,
                                .ctx = r,
                                .owner = owner,
                                .leased = leased,
                                .room = room,
                                .on_job = wake_engine};
    struct sweep_options sweep = {.config = r->config,
                                  .pg = engine_pg(r->engine),
                                  .marketplace = r->marketplace,
                                  .metrics = r->metrics,
                                  .ctx = r,
                                  .owner = owner,
                                  .leased = leased,
                                  .on_hint = wake_desk,
                                  .on_job = wake_engine};
    if (!r->marketplace || !(r->hooks = hooks_new(r->loop, &hooks, err)) ||
        !(r->sweep = sweep_new(r->loop, &sweep, err))) {
        return -1;
    }
    r->desk = desk_new(r->loop, &desk, err);
    return r->desk ? 0 : -1;
}

static int start(struct run *r, struct err *err)
{
    struct engine_options engine = {.config = r->config,
                                    .metrics = r->metrics,
                                    .ctx = r,
                                    .on_outcome = wake_outcomes,
                                    .on_database = on_database,
                                    .on_order = wake_desk,
                                    .on_lost = on_lost};
    if (!(r->engine = engine_new(r->loop, &engine, err)) || start_kafka(r, err) ||
        start_waldur(r, err)) {
        return -1;
    }
    ingest_pause(r->ingest, true); /* until the database is there */
    struct admin_options admin = {.listen = r->config->http_listen,
                                  .engine = r->engine,
                                  .ingest = r->ingest,
                                  .metrics = r->metrics,
                                  .marketplace = r->marketplace};
    struct httpd_route hook;
    if (r->hooks) {
        hook = hooks_route(r->hooks);
        admin.routes = &hook;
        admin.n_routes = 1;
    }
    r->admin = admin_new(r->loop, &admin, err);
    r->supervisor = r->admin ? supervisor_new(r->loop, err) : NULL;
    return r->supervisor ? 0 : -1;
}

static void end(struct run *r)
{
    supervisor_free(r->supervisor);
    admin_free(r->admin);
    desk_free(r->desk);
    sweep_free(r->sweep);
    hooks_free(r->hooks);
    marketplace_free(r->marketplace);
    ingest_free(r->ingest);
    outcomes_free(r->outcomes);
    kafka_producer_free(r->producer);
    engine_free(r->engine);
    metrics_free(r->metrics);
    if (r->loop && r->signals >= 0) {
        loop_timer_cancel(r->loop, &r->deadline);
        loop_fd_del(r->loop, r->signals);
        close(r->signals);
    }
    loop_free(r->loop);
    free_retired(r);
    config_free(r->config);
}

/* librdkafka's threads would each open an arena and keep what it ever held; they allocate too
 * little to wait for one another. Large blocks go back to the system at once, whatever came before.
 */
static void one_heap(void)
{
    mallopt(M_ARENA_MAX, 1);
    mallopt(M_MMAP_THRESHOLD, 128 * 1024);
}

int cmd_run(int argc, char **argv, const struct cli *cli)
{
    struct run r = {.file = cli->config_file, .signals = -1, .status = CLI_OK};
    struct err err;
    (void)argc;
    (void)argv;

    one_heap();
    secret_harden_process();
    raise_file_limit();
    rng_init();
    int status = cli_config(cli, &r.config);
    if (status != CLI_OK) {
        return status;
    }
    enum log_level level = LOG_INFO;
    (void)log_level_parse(r.config->log_level, &level);
    log_setup(level, strcmp(r.config->log_format, "json") == 0, STDERR_FILENO);
    if (check(r.config, &err)) {
        (void)cli_fail(&err);
        config_free(r.config);
        return CLI_USAGE;
    }
    if (!(r.loop = loop_new(&err)) || open_signals(&r, &err) || !(r.metrics = metrics_new(&err)) ||
        start(&r, &err)) {
        r.status = cli_fail(&err);
    } else {
        log_event(LOG_INFO, "provisioner started", LOG_S("version", PROVISIONER_VERSION),
                  LOG_S("config", r.config->file), LOG_I("pid", (int64_t)getpid()));
        supervisor_tell(r.supervisor, "READY=1");
        if (loop_run(r.loop, &err)) {
            r.status = cli_fail(&err);
        }
        log_event(LOG_INFO, "provisioner ended", LOG_I("status", r.status));
    }
    status = r.status;
    end(&r);
    return status;
}
