#include "admin.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "net/httpd.h"
#include "statements.h"
#include "store/pg.h"

enum {
    COUNT_MS = 10 * 1000,
    COUNT_COST = 50,     /* counting takes at most a fiftieth of the database's time */
    COUNT_EXACT = 10000, /* beyond it the database's statistics tell */
    ANSWER_MAX = 16 * 1024 * 1024,
    ROUTES_MAX = 8,
};

static const char *const scopes[] = {"all", "runtime", "organization", "subscription"};

struct admin {
    struct loop *loop;
    struct admin_options o;
    struct httpd *httpd;
    struct loop_timer count;
    bool counting, stopping;
    int64_t count_sent_ms;
    struct pg_stats stats; /* at the last scrape */
    int64_t paused[ARRAY_LEN(scopes)];
};

/* ---- counting ---- */

static void count_later(struct admin *a, int64_t delay_ms)
{
    struct err err;
    if (loop_timer_set(a->loop, &a->count, delay_ms, &err)) {
        log_event(LOG_ERROR, "jobs are not counted any more", LOG_S("error", err.msg));
    }
}

/* Said when they change: nothing else tells why jobs wait. */
static void take_pauses(struct admin *a, const char *scope, int64_t n)
{
    for (size_t i = 0; i < ARRAY_LEN(scopes); i++) {
        if (!str_eq(scope, scopes[i])) {
            continue;
        }
        if (n != a->paused[i]) {
            log_event(n ? LOG_WARN : LOG_INFO, "pauses changed", LOG_S("scope", scope),
                      LOG_I("pauses", n));
        }
        a->paused[i] = n;
        metrics_set(a->o.metrics, M_PAUSED, METRIC_LABELS(scope), (double)n);
    }
}

static void on_counted(void *ctx, const PGresult *res, const struct err *err)
{
    struct admin *a = ctx;
    int64_t waiting = 0;
    (void)err;
    a->counting = false;
    int64_t took_ms = clock_mono_ms() - a->count_sent_ms;
    count_later(a, took_ms * COUNT_COST > COUNT_MS ? took_ms * COUNT_COST : COUNT_MS);
    if (!res) {
        return;
    }
    metrics_clear(a->o.metrics, M_JOBS);
    for (int i = 0; i < PQntuples(res); i++) {
        const char *state = PQgetvalue(res, i, 0);
        int64_t n = 0;
        if (!str_to_i64(PQgetvalue(res, i, 1), &n)) {
            continue;
        }
        if (str_starts(state, "pause.")) {
            take_pauses(a, state + strlen("pause."), n);
            continue;
        }
        if (str_eq(state, "outbox")) {
            metrics_set(a->o.metrics, M_OUTBOX_WAITING, NULL, (double)n);
            continue;
        }
        metrics_set(a->o.metrics, M_JOBS, METRIC_LABELS(state), (double)n);
        waiting += str_eq(state, "failed") || str_eq(state, "running") ? 0 : n;
    }
    if (a->o.ingest) {
        ingest_backlog(a->o.ingest, waiting);
    }
}

static void on_count_due(void *ctx)
{
    struct admin *a = ctx;
    struct pg *pg = engine_pg(a->o.engine);
    struct err err;
    char exact[16];
    snprintf(exact, sizeof(exact), "%d", COUNT_EXACT);
    const struct pg_param p[] = {{exact, -1}};
    a->count_sent_ms = clock_mono_ms();
    a->counting = pg_is_up(pg) && pg_submit(pg, S_COUNTS, NULL, true, p, on_counted, a, &err) == 0;
    if (!a->counting) {
        count_later(a, 1000);
    }
}

/* ---- endpoints ---- */

static void reply(struct httpd_request *r, int status, const char *type, struct buf *body)
{
    static const char sorry[] = "{\"error\":\"out of memory\"}";
    if (body->failed) {
        httpd_reply(r, 503, "application/json", sorry, sizeof(sorry) - 1);
    } else {
        httpd_reply(r, status, type, buf_str(body), body->len);
    }
    buf_done(body);
}

static void healthz(void *ctx, struct httpd_request *r, const char *path, const char *body,
                    size_t body_len)
{
    static const char ok[] = "{\"status\":\"ok\"}\n";
    (void)ctx, (void)path, (void)body, (void)body_len;
    httpd_reply(r, 200, "application/json", ok, sizeof(ok) - 1);
}

struct check {
    const char *name;
    bool ok;
    const char *why;
};

static void add_checks(struct buf *out, const struct check *checks, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const char *why = checks[i].why[0] ? checks[i].why : "not known";
        buf_addf(out, "%s\"%s\":{\"ok\":%s,\"why\":", i ? "," : "", checks[i].name,
                 checks[i].ok ? "true" : "false");
        buf_add_json(out, checks[i].ok ? "" : why);
        buf_addc(out, '}');
    }
}

/* As counted last; `provisioner pause` lists them. */
static void add_pauses(const struct admin *a, struct buf *out)
{
    buf_adds(out, ",\"paused\":{");
    for (size_t i = 0; i < ARRAY_LEN(scopes); i++) {
        buf_addf(out, "%s\"%s\":%" PRId64, i ? "," : "", scopes[i], a->paused[i]);
    }
    buf_addc(out, '}');
}

/* Those that are not well, Waldur among them. */
static void add_upstreams(const struct admin *a, struct buf *out)
{
    engine_upstreams_json(a->o.engine, out);
    if (a->o.marketplace && out->len > 0) {
        bool others = out->len > 1 && out->data[out->len - 2] != '[';
        out->data[--out->len] = '\0';
        marketplace_json(a->o.marketplace, others, out);
        buf_addc(out, ']');
    }
}

static void readyz(void *ctx, struct httpd_request *r, const char *path, const char *body,
                   size_t body_len)
{
    struct admin *a = ctx;
    struct engine_health e;
    struct ingest_health i = {.up = true, .why = ""};
    struct buf out;
    (void)path, (void)body, (void)body_len;
    engine_health(a->o.engine, &e);
    if (a->o.ingest) {
        ingest_health(a->o.ingest, &i);
    }
    bool schema = e.database && e.schema;
    bool ready = schema && i.up && !a->stopping;
    const struct check checks[] = {
        {"database", e.database, e.why},
        {"schema", schema, e.database ? e.why : "the database is not connected"},
        {"kafka", i.up, i.why},
        {"lease", e.leased, e.why},
        {"running", !a->stopping, "the process is stopping"},
    };
    buf_init(&out, ANSWER_MAX);
    buf_addf(&out, "{\"ready\":%s,\"checks\":{", ready ? "true" : "false");
    add_checks(&out, checks, ARRAY_LEN(checks));
    buf_adds(&out, "},\"upstreams\":");
    add_upstreams(a, &out);
    add_pauses(a, &out);
    buf_adds(&out, "}\n");
    reply(r, ready ? 200 : 503, "application/json", &out);
}

/* What is only known by asking. */
static void take_stats(struct admin *a)
{
    struct loop_stats loop;
    struct pg_stats pg;
    loop_stats_take(a->loop, &loop);
    metrics_set(a->o.metrics, M_LOOP_LAG_SECONDS, NULL, (double)loop.lag_max_us / 1e6);
    pg_stats(engine_pg(a->o.engine), &pg);
    metrics_add(a->o.metrics, M_DATABASE_GROUPS_TOTAL, NULL, (double)(pg.groups - a->stats.groups));
    metrics_add(a->o.metrics, M_DATABASE_STATEMENTS_TOTAL, NULL,
                (double)(pg.statements - a->stats.statements));
    a->stats = pg;
}

static void metrics(void *ctx, struct httpd_request *r, const char *path, const char *body,
                    size_t body_len)
{
    struct admin *a = ctx;
    struct buf out;
    (void)path, (void)body, (void)body_len;
    take_stats(a);
    buf_init(&out, ANSWER_MAX);
    (void)metrics_print(a->o.metrics, &out);
    reply(r, 200, "text/plain; version=0.0.4; charset=utf-8", &out);
}

/* ---- life ---- */

struct admin *admin_new(struct loop *loop, const struct admin_options *options, struct err *err)
{
    struct admin *a = calloc(1, sizeof(*a));
    if (!a) {
        err_nomem(err);
        return NULL;
    }
    struct httpd_route routes[ROUTES_MAX] = {
        {"GET", "/healthz", healthz, a},
        {"GET", "/readyz", readyz, a},
        {"GET", "/metrics", metrics, a},
    };
    size_t n_routes = 3;
    for (size_t i = 0; i < options->n_routes && n_routes < ROUTES_MAX; i++) {
        routes[n_routes++] = options->routes[i];
    }
    a->loop = loop;
    a->o = *options;
    a->o.listen = NULL;
    a->o.routes = NULL;
    a->count = (struct loop_timer){.fn = on_count_due, .ctx = a};
    a->httpd = httpd_new(loop, options->listen, routes, n_routes, err);
    if (!a->httpd || loop_timer_set(loop, &a->count, 0, err)) {
        admin_free(a);
        return NULL;
    }
    return a;
}

void admin_free(struct admin *a)
{
    if (!a) {
        return;
    }
    loop_timer_cancel(a->loop, &a->count);
    httpd_free(a->httpd);
    free(a);
}

int admin_port(const struct admin *a)
{
    return httpd_port(a->httpd);
}

void admin_stopping(struct admin *a)
{
    a->stopping = true;
}
