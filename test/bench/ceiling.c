/*
 * How fast the parts are without a worker: what test/bench/run holds the worker's figures against.
 *
 *   ceiling pg URL SECONDS                         commits of a minimal transaction, over the
 *                                                  worker's own pipelined connection
 *   ceiling http AT_ONCE SECONDS {URL TOKEN}...    look-ups, over the worker's own HTTP client
 *
 * Prints "name per-second" lines. The transaction updates one row and inserts one, as every step of
 * a job does at least.
 */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/str.h"
#include "net/http.h"
#include "net/loop.h"
#include "store/pg.h"

enum { WINDOW = 512, ROWS = 1000, SECONDS_MAX = 600, AT_ONCE_MAX = 1024 };

struct meter {
    struct loop *loop;
    struct loop_timer end;
    bool over;
    size_t in_flight;
    uint64_t done, failed;
    int64_t began_us, took_us;
    void (*more)(struct meter *m);
    /* pg */
    struct pg *pg;
    bool alone;
    /* http */
    struct http *http;
    char **targets; /* URL, token, URL, token, ... */
    size_t n_targets, next_target, at_once;
};

static void on_end(void *ctx)
{
    struct meter *m = ctx;
    m->over = true;
    m->took_us = clock_mono_us() - m->began_us;
    if (m->in_flight == 0) {
        loop_stop(m->loop);
    }
}

static int meter_begin(struct meter *m, int64_t seconds, struct err *err)
{
    m->over = false;
    m->done = m->failed = 0;
    m->end = (struct loop_timer){.fn = on_end, .ctx = m};
    m->began_us = clock_mono_us();
    m->more(m);
    return loop_timer_set(m->loop, &m->end, seconds * 1000, err);
}

static void answered(struct meter *m, bool well)
{
    m->in_flight--;
    m->done += !m->over && well;
    m->failed += !well;
    if (!m->over) {
        m->more(m);
    } else if (m->in_flight == 0) {
        loop_stop(m->loop);
    }
}

static int report(const struct meter *m, const char *name)
{
    if (m->failed > 0 || m->done == 0) {
        fprintf(stderr, "ceiling: %s: %llu failed, %llu done\n", name,
                (unsigned long long)m->failed, (unsigned long long)m->done);
        return 1;
    }
    printf("%s %.0f\n", name, (double)m->done * 1e6 / (double)m->took_us);
    return 0;
}

/* ---- PostgreSQL ---- */

static const struct pg_statement minimal[] = {
    {"minimal",
     "WITH u AS (UPDATE ceiling_job SET n = n + 1, at = now() WHERE id = $1::int) "
     "INSERT INTO ceiling_event (job, body) VALUES ($1::int, $2)",
     2}};

static int prepare(const char *url, struct err *err)
{
    static const char *const sql[] = {
        "DROP TABLE IF EXISTS ceiling_event, ceiling_job",
        "CREATE TABLE ceiling_job (id int PRIMARY KEY, n bigint NOT NULL, at timestamptz)",
        "CREATE TABLE ceiling_event (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "
        "job int NOT NULL, body text NOT NULL, at timestamptz NOT NULL DEFAULT now())",
        "INSERT INTO ceiling_job SELECT i, 0, now() FROM generate_series(0, 999) i"};
    PGconn *conn = pg_connect(url, "ceiling", err);
    int rc = conn ? 0 : -1;
    for (size_t i = 0; rc == 0 && i < ARRAY_LEN(sql); i++) {
        PGresult *res = pg_query(conn, sql[i], 0, NULL, err);
        rc = res ? 0 : -1;
        PQclear(res);
    }
    PQfinish(conn);
    return rc;
}

static void on_committed(void *ctx, const PGresult *res, const struct err *err)
{
    (void)err;
    answered(ctx, res != NULL);
}

static void more_statements(struct meter *m)
{
    static const char body[] = "a step's worth of text, as an audit row or an effect has it, more "
                               "or less two hundred bytes of it: .............................. "
                               "...............................................................";
    struct err err;
    char id[24];
    while (m->in_flight < WINDOW) {
        snprintf(id, sizeof(id), "%llu", (unsigned long long)((m->done + m->in_flight) % ROWS));
        const struct pg_param p[] = {{id, -1}, {body, -1}};
        if (pg_submit(m->pg, 0, NULL, m->alone, p, on_committed, m, &err)) {
            fprintf(stderr, "ceiling: %s\n", err.msg);
            return;
        }
        m->in_flight++;
    }
}

static void on_state(void *ctx, bool up, const char *why)
{
    struct meter *m = ctx;
    if (!up) {
        fprintf(stderr, "ceiling: %s\n", why);
    }
    loop_stop(m->loop);
}

static int measure_pg(struct meter *m, const char *url, int64_t seconds, struct err *err)
{
    const struct pg_options options = {.url = url,
                                       .application = "ceiling",
                                       .statements = minimal,
                                       .n_statements = ARRAY_LEN(minimal),
                                       .statement_timeout_ms = 30000,
                                       .on_state = on_state,
                                       .ctx = m};
    int rc = 0;
    if (prepare(url, err) || !(m->pg = pg_new(m->loop, &options, err)) || loop_run(m->loop, err)) {
        return -1;
    }
    if (!pg_is_up(m->pg)) {
        return err_set(err, ERR_UNAVAILABLE, "no connection to the database");
    }
    m->more = more_statements;
    for (int alone = 0; alone <= 1 && rc == 0; alone++) {
        m->alone = alone;
        rc = meter_begin(m, seconds, err) || loop_run(m->loop, err) ? -1 : 0;
        if (rc == 0 && report(m, alone ? "pg_single" : "pg_grouped")) {
            rc = err_set(err, ERR_INTERNAL, "statements failed");
        }
    }
    return rc;
}

/* ---- HTTP ---- */

static void on_answer(void *ctx, const struct exchange_response *r)
{
    answered(ctx, r->status == 200);
}

static void more_requests(struct meter *m)
{
    struct err err;
    while (m->in_flight < m->at_once) {
        struct exchange_request r;
        exchange_request_init(&r);
        r.method = METHOD_GET;
        char **target = m->targets + 2 * (m->next_target++ % m->n_targets);
        str_copy(r.url, sizeof(r.url), target[0]);
        r.auth_header = "Authorization";
        r.auth_scheme = "Bearer ";
        r.credential = target[1];
        r.timeout_ms = 10000;
        bool sent = http_send(m->http, &r, NULL, on_answer, m, &err) != NULL;
        exchange_request_done(&r);
        if (!sent) {
            fprintf(stderr, "ceiling: %s\n", err.msg);
            return;
        }
        m->in_flight++;
    }
}

static int measure_http(struct meter *m, int64_t seconds, struct err *err)
{
    m->more = more_requests;
    if (!(m->http = http_new(m->loop, NULL, err)) || meter_begin(m, seconds, err) ||
        loop_run(m->loop, err)) {
        return -1;
    }
    return report(m, "http") ? err_set(err, ERR_INTERNAL, "requests failed") : 0;
}

static int usage(void)
{
    fputs("usage: ceiling pg URL SECONDS | ceiling http AT_ONCE SECONDS {URL TOKEN}...\n", stderr);
    return 2;
}

int main(int argc, char **argv)
{
    struct meter m = {0};
    struct err err;
    int64_t seconds = 0, at_once = 0;
    bool pg = argc == 4 && str_eq(argv[1], "pg") && str_to_i64(argv[3], &seconds);
    bool http = argc >= 6 && argc % 2 == 0 && str_eq(argv[1], "http") &&
                str_to_i64(argv[2], &at_once) && str_to_i64(argv[3], &seconds);
    if ((!pg && !http) || seconds < 1 || seconds > SECONDS_MAX ||
        (http && (at_once < 1 || at_once > AT_ONCE_MAX))) {
        return usage();
    }
    if (!(m.loop = loop_new(&err))) {
        fprintf(stderr, "ceiling: %s\n", err.msg);
        return 1;
    }
    if (http) {
        m.at_once = (size_t)at_once;
        m.targets = argv + 4;
        m.n_targets = ((size_t)argc - 4) / 2;
    }
    int rc = pg ? measure_pg(&m, argv[2], seconds, &err) : measure_http(&m, seconds, &err);
    if (rc) {
        fprintf(stderr, "ceiling: %s\n", err.msg);
    }
    http_free(m.http);
    pg_free(m.pg);
    loop_free(m.loop);
    return rc ? 1 : 0;
}
