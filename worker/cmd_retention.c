/*
 * retention: deletes what is due, and nothing else: the chat history of archived subscriptions (and
 * the workspace that kept it), old events, old dead letters.
 *
 * Two runs at once are safe: a subscription's purge is wished for under its row's lock, its job is
 * run by whoever claims it, and rows that another run is deleting are skipped.
 */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/str.h"
#include "base/uuid.h"
#include "commands.h"
#include "engine.h"
#include "machine/machine.h"
#include "metrics.h"
#include "session.h"

enum {
    RETENTION_LIMIT = 1000,
    RETENTION_LIMIT_MAX = 10000,
    RETENTION_WAIT_MS = 5 * 60 * 1000,
    RETENTION_POLL_MS = 200,
    RETENTION_DRAIN_MS = 10000,
    RETENTION_BATCHES_MAX = 1000, /* of 1000 rows: a million of each kind in one run */
};
#define BATCH_ROWS "1000"

enum outcome { WAITS, PURGED, SKIPPED, FAILED, UNSETTLED };
static const char *const outcome_names[] = {"due", "purged", "skipped", "failed", "unsettled"};

struct due {
    char subscription[UUID_TEXT];
    char *name, *archived_at;
    int64_t job; /* 0: none */
    enum outcome outcome;
    char *error;
};

struct rows {
    int64_t due, deleted, left;
};

struct retention {
    const struct cli *cli;
    struct session session;
    bool dry_run;
    int64_t now_us, limit, wait_ms;
    char now[CLOCK_TEXT_MAX], history_before[CLOCK_TEXT_MAX], events_before[CLOCK_TEXT_MAX],
        letters_before[CLOCK_TEXT_MAX], deadline[24];
    int64_t due_total;
    struct due *due;
    size_t n_due;
    struct rows events, letters;
    /* while the engine runs */
    struct loop *loop;
    struct engine *engine;
    struct loop_timer timer;
    int64_t end_ms;
    bool draining;
};

/* ---- what is due ---- */

/* What an earlier run could not purge is due still. */
#define DUE_FROM                                                                                   \
    "FROM agent_marketplace.agent_config c "                                                       \
    "JOIN agent_marketplace.subscription s ON s.uuid = c.subscription_uuid "                       \
    "WHERE c.status = 'archived' AND c.archived_at <= $1::timestamptz "                            \
    "AND s.wanted IN ('absent', 'purged') "

static int find_due(struct retention *r)
{
    char limit[24];
    snprintf(limit, sizeof(limit), "%" PRId64, r->limit);
    const char *const params[] = {r->history_before, limit};
    if (session_number(&r->session, "SELECT count(*) " DUE_FROM, 1, params, 0, &r->due_total) != 0)
        return CLI_FAILED;
    PGresult *res = session_query(&r->session,
                                  "SELECT c.subscription_uuid, c.name, c.archived_at " DUE_FROM
                                  "ORDER BY c.archived_at, c.subscription_uuid LIMIT $2::bigint",
                                  2, params);
    if (!res)
        return CLI_FAILED;
    size_t n = (size_t)PQntuples(res);
    r->due = calloc(n + 1, sizeof(*r->due));
    for (size_t i = 0; r->due && i < n; i++) {
        struct due *d = &r->due[r->n_due++];
        str_copy(d->subscription, sizeof(d->subscription), PQgetvalue(res, (int)i, 0));
        d->name = str_dup(PQgetvalue(res, (int)i, 1));
        d->archived_at = PQgetisnull(res, (int)i, 2) ? NULL : str_dup(PQgetvalue(res, (int)i, 2));
    }
    PQclear(res);
    return r->due ? CLI_OK : cli_failf("out of memory");
}

static void settle(struct due *d, enum outcome outcome, const char *error)
{
    d->outcome = outcome;
    free(d->error);
    d->error = error ? str_dup(error) : NULL;
}

/* Nothing was wished for: an earlier run's purge is alive, or that of one beside us. */
static int find_job(struct retention *r, struct due *d)
{
    const char *const params[] = {d->subscription};
    if (session_number(&r->session,
                       "SELECT id FROM agent_marketplace.provisioning_job "
                       "WHERE subscription_uuid = $1::uuid AND kind = 'purge' "
                       "AND state IN ('queued', 'running', 'retrying', 'held')",
                       1, params, 0, &d->job) != 0)
        return CLI_FAILED;
    if (d->job == 0)
        settle(d, SKIPPED, "no longer due, or in other hands");
    return CLI_OK;
}

static int wish_all(struct retention *r)
{
    for (size_t i = 0; i < r->n_due; i++) {
        struct due *d = &r->due[i];
        const char *const params[] = {d->subscription, r->history_before, r->deadline};
        if (session_number(
                &r->session,
                "SELECT agent_marketplace.retention_purge($1::uuid, $2::timestamptz, $3::bigint)",
                3, params, 0, &d->job) != 0)
            return CLI_FAILED;
        if (d->job == 0 && find_job(r, d) != CLI_OK)
            return CLI_FAILED;
        cli_progress("wished for %zu of %zu purges", i + 1, r->n_due);
    }
    return CLI_OK;
}

/* ---- the engine's run ---- */

static struct due *due_of(struct retention *r, const char *job)
{
    int64_t id = 0;
    str_to_i64(job, &id);
    for (size_t i = 0; i < r->n_due; i++)
        if (r->due[i].job == id)
            return &r->due[i];
    return NULL;
}

/* residue: what a server said that it could not take away; "" for nothing. */
static void note(struct due *d, enum job_state state, const char *step, const char *error,
                 const char *residue)
{
    char text[512];
    snprintf(text, sizeof(text), "%s: %s", step, error);
    if (machine_live(state))
        settle(d, UNSETTLED, *error ? text : NULL);
    else if (state == JOB_SUCCEEDED)
        settle(d, PURGED, *residue ? residue : NULL);
    else if (state == JOB_FAILED)
        settle(d, FAILED, text);
    else
        settle(d, SKIPPED, "a newer order took its place");
}

/* How the jobs stand; -1 when it cannot be told. */
static int look(struct retention *r, size_t *left)
{
    struct buf ids;
    buf_init(&ids, (size_t)RETENTION_LIMIT_MAX * 24);
    buf_addc(&ids, '{');
    for (size_t i = 0; i < r->n_due; i++)
        if (r->due[i].job && (r->due[i].outcome == WAITS || r->due[i].outcome == UNSETTLED))
            buf_addf(&ids, "%s%" PRId64, ids.len > 1 ? "," : "", r->due[i].job);
    buf_addc(&ids, '}');
    const char *const params[] = {buf_str(&ids)};
    PGresult *res =
        session_query(&r->session,
                      "SELECT j.id, j.state, j.step, j.error, c.residue "
                      "FROM agent_marketplace.provisioning_job j "
                      "LEFT JOIN agent_marketplace.agent_config c USING (subscription_uuid) "
                      "WHERE j.id = ANY ($1::bigint[])",
                      1, params);
    buf_done(&ids);
    if (!res)
        return -1;
    *left = 0;
    for (int row = 0; row < PQntuples(res); row++) {
        struct due *d = due_of(r, PQgetvalue(res, row, 0));
        enum job_state state = job_state_parse(PQgetvalue(res, row, 1));
        if (d)
            note(d, state, PQgetvalue(res, row, 2), PQgetvalue(res, row, 3),
                 PQgetvalue(res, row, 4));
        *left += machine_live(state);
    }
    PQclear(res);
    return 0;
}

static void on_drained(void *ctx)
{
    loop_stop(((struct retention *)ctx)->loop);
}

static void drain(struct retention *r)
{
    if (r->draining)
        return;
    r->draining = true;
    loop_timer_cancel(r->loop, &r->timer);
    engine_drain(r->engine, RETENTION_DRAIN_MS, on_drained, r);
}

static void on_signal(void *ctx, uint32_t events)
{
    (void)events;
    drain(ctx);
}

static void on_timer(void *ctx)
{
    struct retention *r = ctx;
    struct err err;
    size_t left = 0;
    if (look(r, &left) != 0 || left == 0 || clock_mono_ms() >= r->end_ms) {
        drain(r);
        return;
    }
    cli_progress("purging: %zu to go", left);
    if (loop_timer_set(r->loop, &r->timer, RETENTION_POLL_MS, &err) != 0)
        drain(r);
}

static size_t job_ids(const struct retention *r, int64_t *ids)
{
    size_t n = 0;
    for (size_t i = 0; i < r->n_due; i++)
        if (r->due[i].job)
            ids[n++] = r->due[i].job;
    return n;
}

/* Signals end the wait in order: what is under way comes to its next boundary. */
static int run_loop(struct retention *r, struct metrics *metrics, const int64_t *ids, size_t n)
{
    struct err err;
    sigset_t ends;
    const struct engine_options options = {
        .config = r->session.config, .metrics = metrics, .only = ids, .n_only = n};
    sigemptyset(&ends);
    sigaddset(&ends, SIGINT);
    sigaddset(&ends, SIGTERM);
    sigprocmask(SIG_BLOCK, &ends, NULL);
    int fd = signalfd(-1, &ends, SFD_CLOEXEC | SFD_NONBLOCK);
    r->engine = engine_new(r->loop, &options, &err);
    r->end_ms = clock_mono_ms() + r->wait_ms;
    r->timer = (struct loop_timer){.fn = on_timer, .ctx = r};
    int rc = r->engine ? 0 : -1;
    if (rc == 0 && fd >= 0)
        rc = loop_fd_add(r->loop, fd, EPOLLIN, on_signal, r, &err);
    if (rc == 0)
        rc = loop_timer_set(r->loop, &r->timer, 0, &err);
    if (rc == 0)
        rc = loop_run(r->loop, &err);
    loop_timer_cancel(r->loop, &r->timer);
    engine_free(r->engine);
    if (fd >= 0)
        close(fd);
    return rc == 0 ? CLI_OK : cli_fail(&err);
}

static int purge(struct retention *r)
{
    struct err err;
    size_t left;
    int64_t *ids = calloc(r->n_due + 1, sizeof(*ids));
    size_t n = ids ? job_ids(r, ids) : 0;
    int rc = ids ? CLI_OK : cli_failf("out of memory");
    if (n > 0) {
        struct metrics *metrics = metrics_new(&err);
        r->loop = metrics ? loop_new(&err) : NULL;
        rc = r->loop ? run_loop(r, metrics, ids, n) : cli_fail(&err);
        loop_free(r->loop);
        metrics_free(metrics);
        cli_progress_end();
        /* Jobs that ended while the engine drained. */
        if (rc == CLI_OK && look(r, &left) != 0)
            rc = CLI_FAILED;
    }
    free(ids);
    return rc;
}

/* ---- old rows ---- */

/* The event of the current wish stays for as long as that is the wish. */
#define EVENT_IS_OLD                                                                               \
    "e.received_at < $1::timestamptz AND NOT EXISTS (SELECT FROM agent_marketplace.subscription "  \
    "s "                                                                                           \
    "WHERE s.uuid = e.subscription_uuid AND s.event_seq = e.seq) "

/* A batch: $1 older than this, $2 from here on. How many went, and where to go on. */
#define DELETE_EVENTS                                                                              \
    "WITH old AS (SELECT e.seq FROM agent_marketplace.subscription_event e WHERE " EVENT_IS_OLD    \
    "AND e.received_at >= $2::timestamptz ORDER BY e.received_at LIMIT " BATCH_ROWS                \
    " FOR UPDATE OF e SKIP LOCKED), "                                                              \
    "gone AS (DELETE FROM agent_marketplace.subscription_event d USING old WHERE d.seq = old.seq " \
    "RETURNING d.received_at) SELECT count(*), max(received_at) FROM gone"
#define DELETE_LETTERS                                                                             \
    "WITH old AS (SELECT d.id FROM agent_marketplace.dead_letter d WHERE "                         \
    "d.received_at < $1::timestamptz AND d.received_at >= $2::timestamptz "                        \
    "ORDER BY d.received_at LIMIT " BATCH_ROWS " FOR UPDATE SKIP LOCKED), "                        \
    "gone AS (DELETE FROM agent_marketplace.dead_letter d USING old WHERE d.id = old.id "          \
    "RETURNING d.received_at) SELECT count(*), max(received_at) FROM gone"
#define COUNT_EVENTS                                                                               \
    "SELECT count(*) FROM agent_marketplace.subscription_event e WHERE " EVENT_IS_OLD
#define COUNT_LETTERS                                                                              \
    "SELECT count(*) FROM agent_marketplace.dead_letter WHERE received_at < $1::timestamptz"

static int delete_rows(struct retention *r, const char *sql, const char *before, const char *what,
                       struct rows *rows)
{
    char from[64] = "-infinity";
    for (int batch = 0; batch < RETENTION_BATCHES_MAX; batch++) {
        const char *const params[] = {before, from};
        PGresult *res = session_query(&r->session, sql, 2, params);
        if (!res)
            return CLI_FAILED;
        int64_t n = 0;
        str_to_i64(PQgetvalue(res, 0, 0), &n);
        if (n > 0)
            str_copy(from, sizeof(from), PQgetvalue(res, 0, 1));
        PQclear(res);
        if (n == 0)
            break;
        rows->deleted += n;
        cli_progress("deleted %" PRId64 " %s", rows->deleted, what);
    }
    cli_progress_end();
    return CLI_OK;
}

static int old_rows(struct retention *r, const char *count, const char *erase, const char *before,
                    const char *what, struct rows *rows)
{
    const char *const params[] = {before};
    if (session_number(&r->session, count, 1, params, 0, &rows->due) != 0)
        return CLI_FAILED;
    rows->left = rows->due;
    if (r->dry_run || rows->due == 0)
        return CLI_OK;
    if (delete_rows(r, erase, before, what, rows) != CLI_OK)
        return CLI_FAILED;
    return session_number(&r->session, count, 1, params, 0, &rows->left) == 0 ? CLI_OK : CLI_FAILED;
}

/* ---- what was done ---- */

static size_t count(const struct retention *r, enum outcome outcome)
{
    size_t n = 0;
    for (size_t i = 0; i < r->n_due; i++)
        n += r->due[i].outcome == outcome;
    return n;
}

/* A person has to look: at what was not purged, and at what a purge has left behind. */
static bool needs_attention(const struct retention *r)
{
    bool residue = false;
    for (size_t i = 0; i < r->n_due; i++)
        residue = residue || (r->due[i].outcome == PURGED && r->due[i].error);
    return !r->dry_run && (residue || count(r, FAILED) || count(r, UNSETTLED));
}

static const struct table_column columns[] = {
    {"subscription_uuid", "SUBSCRIPTION", CELL_TEXT, false, 0},
    {"name", "NAME", CELL_TEXT, true, 1},
    {"archived_at", "ARCHIVED", CELL_TIME, false, 0},
    {"job_id", "JOB", CELL_NUMBER, false, 2},
    {"result", "RESULT", CELL_TEXT, false, 0},
    {"error", "ERROR", CELL_TEXT, true, 0},
};

static const char *due_cell(const void *ctx, size_t row, size_t column)
{
    static char number[24];
    const struct due *d = &((const struct retention *)ctx)->due[row];
    snprintf(number, sizeof(number), "%" PRId64, d->job);
    const char *const cells[] = {
        d->subscription,           d->name, d->archived_at, d->job ? number : NULL,
        outcome_names[d->outcome], d->error};
    return cells[column];
}

static void add_rows_json(struct buf *out, const char *name, const struct rows *rows)
{
    buf_addf(out,
             ",\n \"%s\": {\"due\": %" PRId64 ", \"deleted\": %" PRId64 ", \"left\": %" PRId64 "}",
             name, rows->due, rows->deleted, rows->left);
}

static void add_json(const struct retention *r, const struct table *t, struct buf *out)
{
    buf_addf(out,
             "{\"now\": \"%s\", \"dry_run\": %s,\n \"subscriptions\": {\"due\": %" PRId64
             ", \"purged\": %zu, \"skipped\": %zu, \"failed\": %zu, \"unsettled\": %zu, \"left\": "
             "%" PRId64 ", \"items\": ",
             r->now, r->dry_run ? "true" : "false", r->due_total, count(r, PURGED),
             count(r, SKIPPED), count(r, FAILED), count(r, UNSETTLED),
             r->due_total - (int64_t)count(r, PURGED) - (int64_t)count(r, SKIPPED));
    table_json(t, out);
    buf_addc(out, '}');
    add_rows_json(out, "events", &r->events);
    add_rows_json(out, "dead_letters", &r->letters);
    buf_adds(out, "}\n");
}

static void add_rows_text(struct buf *out, const struct retention *r, const char *name,
                          const struct rows *rows)
{
    buf_addf(out, "%-15s %" PRId64 " due", name, rows->due);
    if (!r->dry_run)
        buf_addf(out, ", %" PRId64 " deleted, %" PRId64 " left", rows->deleted, rows->left);
    buf_addc(out, '\n');
}

static void add_text(const struct retention *r, const struct table *t, struct buf *out)
{
    struct table_view view = session_view(false);
    table_text(t, &view, out);
    buf_addf(out, "%s%-15s %" PRId64 " due", r->n_due ? "\n" : "", "subscriptions", r->due_total);
    if (!r->dry_run)
        buf_addf(out,
                 ", %zu purged, %zu skipped, %zu failed, %zu not settled, %" PRId64
                 " beyond --limit",
                 count(r, PURGED), count(r, SKIPPED), count(r, FAILED), count(r, UNSETTLED),
                 r->due_total > (int64_t)r->n_due ? r->due_total - (int64_t)r->n_due : 0);
    buf_addc(out, '\n');
    add_rows_text(out, r, "events", &r->events);
    add_rows_text(out, r, "dead letters", &r->letters);
    if (r->dry_run)
        buf_adds(out, "nothing was changed\n");
}

static int print(const struct retention *r)
{
    struct buf out;
    struct table t = {columns, ARRAY_LEN(columns), r->n_due, due_cell, r};
    buf_init(&out, SESSION_OUTPUT_MAX);
    if (cli_has(r->cli, OPT_JSON))
        add_json(r, &t, &out);
    else
        add_text(r, &t, &out);
    int rc = cli_print(&out);
    if (rc == CLI_OK && needs_attention(r))
        rc = CLI_ATTENTION;
    return rc;
}

/* ---- the command ---- */

static void before(const struct retention *r, int64_t retention_ms, char out[CLOCK_TEXT_MAX])
{
    clock_format(out, r->now_us - retention_ms * 1000);
}

static int read_options(struct retention *r)
{
    const struct cli *cli = r->cli;
    const char *now = cli_value(cli, OPT_NOW);
    r->dry_run = cli_has(cli, OPT_DRY_RUN);
    r->now_us = clock_wall_us();
    if (now && (!clock_parse(now, strlen(now), &r->now_us) || r->now_us < 0))
        return cli_usage(cli, "--now takes a time such as 2026-11-21T10:00:00Z, from 1970 on");
    if (cli_integer(cli, OPT_LIMIT, 1, RETENTION_LIMIT_MAX, RETENTION_LIMIT, &r->limit) != 0 ||
        cli_duration(cli, OPT_WAIT, RETENTION_WAIT_MS, &r->wait_ms) != 0)
        return CLI_USAGE;
    return CLI_OK;
}

static int run(struct retention *r)
{
    const struct config *c = r->session.config;
    clock_format(r->now, r->now_us);
    before(r, c->retention_chat_history_ms, r->history_before);
    before(r, c->retention_events_ms, r->events_before);
    before(r, c->retention_dead_letters_ms, r->letters_before);
    snprintf(r->deadline, sizeof(r->deadline), "%" PRId64, c->retry_deadline_ms);
    int rc = find_due(r);
    if (rc == CLI_OK && !r->dry_run)
        rc = wish_all(r);
    if (rc == CLI_OK && !r->dry_run)
        rc = purge(r);
    if (rc == CLI_OK)
        rc = old_rows(r, COUNT_EVENTS, DELETE_EVENTS, r->events_before, "events", &r->events);
    if (rc == CLI_OK)
        rc = old_rows(r, COUNT_LETTERS, DELETE_LETTERS, r->letters_before, "dead letters",
                      &r->letters);
    return rc == CLI_OK ? print(r) : rc;
}

static int refused(const struct err *err)
{
    cli_fail(err);
    return CLI_USAGE;
}

int cmd_retention(int argc, char **argv, const struct cli *cli)
{
    struct retention r = {.cli = cli};
    struct err err;
    (void)argc, (void)argv;
    int rc = read_options(&r);
    if (rc == CLI_OK)
        rc = session_open(&r.session, cli);
    if (rc == CLI_OK && config_check_products(r.session.config, &err))
        rc = refused(&err);
    if (rc == CLI_OK)
        rc = run(&r);
    for (size_t i = 0; i < r.n_due; i++) {
        free(r.due[i].name);
        free(r.due[i].archived_at);
        free(r.due[i].error);
    }
    free(r.due);
    session_close(&r.session);
    return rc;
}
