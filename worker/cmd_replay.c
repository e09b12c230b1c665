/*
 * replay: failed jobs run again.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/str.h"
#include "base/uuid.h"
#include "commands.h"
#include "machine/machine.h"
#include "session.h"

enum {
    REPLAY_LIMIT = 1000,
    REPLAY_WAIT_MS = 60000,
    REPLAY_POLL_MS = 200,
    REPLAY_RATE_MAX = 10000,
};

/* One subscription and what became of its replay. "" is "not known". */
struct target {
    char subscription[UUID_TEXT];
    char verdict[16], job[24], kind[16], from_step[24], state[16], step[24], error_class[16];
    char *error;
    bool settled;
};

struct replay {
    const struct cli *cli;
    struct session session;
    struct target *targets;
    size_t n;
    size_t room;
    size_t unknown; /* operands that name no subscription */
    const char *from_step;
    int64_t rate; /* 0: as fast as it goes */
    int64_t wait_ms;
    bool dry_run, wait;
    int64_t workers; /* with a live lease */
};

static void sleep_ms(int64_t ms)
{
    if (ms <= 0)
        return;
    struct timespec left = {ms / 1000, (ms % 1000) * 1000000};
    while (nanosleep(&left, &left) != 0)
        ;
}

/* ---- what to replay ---- */

static int add_target(struct replay *r, const char *uuid)
{
    for (size_t i = 0; i < r->n; i++)
        if (str_eq(r->targets[i].subscription, uuid))
            return CLI_OK;
    if (r->n == r->room) {
        size_t room = r->room ? r->room * 2 : 16;
        struct target *grown = realloc(r->targets, room * sizeof(*grown));
        if (!grown)
            return cli_failf("out of memory");
        r->targets = grown;
        r->room = room;
    }
    r->targets[r->n] = (struct target){0};
    str_copy(r->targets[r->n++].subscription, UUID_TEXT, uuid);
    return CLI_OK;
}

static int named_targets(struct replay *r, int argc, char **argv)
{
    for (int i = 0; i < argc; i++) {
        char uuid[UUID_TEXT];
        int found = session_subscription(&r->session, argv[i], uuid);
        if (found < 0)
            return CLI_FAILED;
        r->unknown += found == 0;
        int rc = found ? add_target(r, uuid) : CLI_OK;
        if (rc != CLI_OK)
            return rc;
    }
    return CLI_OK;
}

static int found_targets(struct replay *r, const struct session_filters *f)
{
    struct buf sql;
    buf_init(&sql, 8192);
    buf_addf(&sql,
             "SELECT j.subscription_uuid FROM agent_marketplace.provisioning_job j WHERE %s "
             "GROUP BY j.subscription_uuid ORDER BY min(j.updated_at) LIMIT $5::bigint",
             session_filter_sql);
    PGresult *res = session_query(&r->session, buf_str(&sql), SESSION_FILTERS, f->values);
    int rc = res ? CLI_OK : CLI_FAILED;
    /* Distinct already: looking for each among the others would take long. */
    r->room = res ? (size_t)PQntuples(res) : 0;
    r->targets = calloc(r->room + 1, sizeof(*r->targets));
    if (!r->targets)
        rc = cli_failf("out of memory");
    for (size_t i = 0; rc == CLI_OK && i < r->room; i++)
        str_copy(r->targets[r->n++].subscription, UUID_TEXT, PQgetvalue(res, (int)i, 0));
    PQclear(res);
    buf_done(&sql);
    return rc;
}

/* ---- asking for it ---- */

static void take(char *out, size_t size, const PGresult *res, int row, int column)
{
    str_copy(out, size, PQgetvalue(res, row, column));
}

static int replay_one(struct replay *r, struct target *t)
{
    char deadline[24];
    snprintf(deadline, sizeof(deadline), "%" PRId64, r->session.config->retry_deadline_ms);
    const char *const params[] = {t->subscription, r->from_step, deadline, "replay",
                                  r->dry_run ? "true" : "false"};
    PGresult *res =
        session_query(&r->session,
                      "SELECT verdict, job_id, kind, step FROM agent_marketplace.job_replay("
                      "$1::uuid, $2::agent_marketplace.job_step, $3::bigint, $4, $5::boolean)",
                      5, params);
    if (!res)
        return CLI_FAILED;
    take(t->verdict, sizeof(t->verdict), res, 0, 0);
    take(t->job, sizeof(t->job), res, 0, 1);
    take(t->kind, sizeof(t->kind), res, 0, 2);
    take(t->from_step, sizeof(t->from_step), res, 0, 3);
    t->settled = !str_eq(t->verdict, "queued") || r->dry_run;
    PQclear(res);
    return CLI_OK;
}

static int replay_all(struct replay *r)
{
    int64_t began = clock_mono_ms();
    for (size_t i = 0; i < r->n; i++) {
        if (r->rate > 0)
            sleep_ms(began + (int64_t)i * 1000 / r->rate - clock_mono_ms());
        if (replay_one(r, &r->targets[i]) != CLI_OK)
            return cli_failf(
                "%zu of %zu replays were asked for, then the database failed; run the same "
                "command again for the rest",
                i, r->n);
        cli_progress("replayed %zu of %zu", i + 1, r->n);
    }
    return CLI_OK;
}

/* ---- waiting ---- */

static char *open_jobs(const struct replay *r, size_t *n)
{
    const char **ids = calloc(r->n + 1, sizeof(*ids));
    *n = 0;
    if (!ids)
        return NULL;
    for (size_t i = 0; i < r->n; i++)
        if (!r->targets[i].settled)
            ids[(*n)++] = r->targets[i].job;
    char *text = session_array(ids, *n);
    free(ids);
    return text;
}

static void note(struct target *t, const PGresult *res, int row)
{
    take(t->state, sizeof(t->state), res, row, 1);
    take(t->step, sizeof(t->step), res, row, 2);
    take(t->error_class, sizeof(t->error_class), res, row, 3);
    free(t->error);
    t->error = PQgetisnull(res, row, 4) ? NULL : str_dup(PQgetvalue(res, row, 4));
    t->settled = !machine_live(job_state_parse(t->state));
}

/* As the database orders them. */
static int by_job(const void *a, const void *b)
{
    const struct target *x = *(const struct target *const *)a,
                        *y = *(const struct target *const *)b;
    int64_t i = 0, k = 0;
    str_to_i64(x->job, &i);
    str_to_i64(y->job, &k);
    return (i > k) - (i < k);
}

static int look(struct replay *r, struct target **sorted, size_t n_sorted, size_t *left)
{
    char *ids = open_jobs(r, left);
    const char *const params[] = {ids};
    PGresult *res = ids ? session_query(&r->session,
                                        "SELECT id, state, step, error_class, error FROM "
                                        "agent_marketplace.provisioning_job "
                                        "WHERE id = ANY ($1::text[]::bigint[]) ORDER BY id",
                                        1, params)
                        : NULL;
    free(ids);
    if (!res)
        return CLI_FAILED;
    size_t k = 0;
    for (int row = 0; row < PQntuples(res); row++) {
        while (k < n_sorted && !str_eq(sorted[k]->job, PQgetvalue(res, row, 0)))
            k++;
        if (k == n_sorted)
            break;
        note(sorted[k], res, row);
        *left -= sorted[k]->settled;
    }
    PQclear(res);
    return CLI_OK;
}

static int wait_settled(struct replay *r)
{
    int64_t end = clock_mono_ms() + r->wait_ms;
    struct target **sorted = calloc(r->n + 1, sizeof(struct target *));
    size_t left = r->n, queued = 0;
    int rc = CLI_OK;
    if (!sorted)
        return cli_failf("out of memory");
    for (size_t i = 0; i < r->n; i++)
        if (!r->targets[i].settled)
            sorted[queued++] = &r->targets[i];
    qsort(sorted, queued, sizeof(struct target *), by_job);
    while (rc == CLI_OK && queued > 0) {
        rc = look(r, sorted, queued, &left);
        if (rc != CLI_OK || left == 0 || clock_mono_ms() >= end || !r->wait)
            break;
        cli_progress("waiting: %zu of %zu have settled", queued - left, queued);
        sleep_ms(REPLAY_POLL_MS);
    }
    cli_progress_end();
    free(sorted);
    return rc;
}

/* ---- the end ---- */

static const char *explain(const struct replay *r, const struct target *t)
{
    if (str_eq(t->verdict, "none"))
        return "it has no failed or cancelled job";
    if (str_eq(t->verdict, "superseded"))
        return "a newer order took the failed job's place";
    if (str_eq(t->verdict, "bad step"))
        return "--from-step takes a step of this job that is not behind the one that failed";
    if (r->dry_run)
        return "would run again";
    if (t->settled || !*t->state)
        return t->error;
    if (r->workers == 0)
        return "waits for a worker";
    return t->error ? t->error : "has not settled yet";
}

static const struct table_column columns[] = {
    {"subscription_uuid", "SUBSCRIPTION", CELL_TEXT, false, 0},
    {"job_id", "JOB", CELL_NUMBER, false, 0},
    {"kind", "KIND", CELL_TEXT, false, 1},
    {"verdict", "REPLAY", CELL_TEXT, false, 0},
    {"from_step", "FROM STEP", CELL_TEXT, false, 2},
    {"state", "STATE", CELL_TEXT, false, 0},
    {"step", "STEP", CELL_TEXT, false, 3},
    {"error_class", "CLASS", CELL_TEXT, false, 4},
    {"error", NULL, CELL_TEXT, false, 0},
    {"note", "NOTE", CELL_TEXT, true, 0},
};

static const char *target_cell(const void *ctx, size_t row, size_t column)
{
    const struct replay *r = ctx;
    const struct target *t = &r->targets[row];
    const char *const cells[] = {t->subscription, t->job,       t->kind, t->verdict,
                                 t->from_step,    t->state,     t->step, t->error_class,
                                 t->error,        explain(r, t)};
    return cells[column] && *cells[column] ? cells[column] : NULL;
}

static int print(const struct replay *r)
{
    struct buf out;
    struct table_view view = session_view(false);
    struct table t = {columns, ARRAY_LEN(columns), r->n, target_cell, r};
    buf_init(&out, SESSION_OUTPUT_MAX);
    if (cli_has(r->cli, OPT_JSON)) {
        table_json(&t, &out);
        buf_addc(&out, '\n');
    } else {
        table_text(&t, &view, &out);
        if (r->n == 0 && r->unknown == 0)
            fputs("nothing to replay: no failed job matches\n", stderr);
    }
    return cli_print(&out);
}

static int status(const struct replay *r)
{
    bool refused = r->unknown > 0, bad = false;
    for (size_t i = 0; i < r->n; i++) {
        const struct target *t = &r->targets[i];
        const bool queued = str_eq(t->verdict, "queued");
        refused = refused || !queued;
        if (!queued || r->dry_run)
            continue;
        bad = bad || str_eq(t->state, "failed") || (!t->settled && (r->wait || r->workers == 0));
    }
    return bad ? CLI_ATTENTION : refused ? CLI_FAILED : CLI_OK;
}

static int run(struct replay *r)
{
    if (r->n > 1 && !r->dry_run && !cli_has(r->cli, OPT_YES) &&
        !cli_confirm("Replay the failed jobs of %zu subscriptions?", r->n))
        return cli_failf(
            "nothing was replayed: %zu subscriptions match; confirm with --yes, or look first "
            "with --dry-run",
            r->n);
    if (session_number(&r->session,
                       "SELECT count(*) FROM agent_marketplace.worker WHERE lease_until > now()", 0,
                       NULL, 0, &r->workers) != 0)
        return CLI_FAILED;
    if (r->workers == 0 && r->n > 0 && !r->dry_run)
        cli_failf("no worker is running, so nothing will move; start one with `provisioner run`");
    int rc = replay_all(r);
    /* Without a worker there is nothing to wait for. */
    r->wait = r->wait && r->workers > 0;
    if (rc == CLI_OK && !r->dry_run)
        rc = wait_settled(r);
    if (rc == CLI_OK)
        rc = print(r);
    return rc == CLI_OK ? status(r) : rc;
}

static int read_options(struct replay *r, const struct session_filters *f, int argc)
{
    const struct cli *cli = r->cli;
    const char *rate = cli_value(cli, OPT_RATE);
    char number[16] = "";
    r->dry_run = cli_has(cli, OPT_DRY_RUN);
    r->wait = !cli_has(cli, OPT_NO_WAIT);
    r->from_step = cli_value(cli, OPT_FROM_STEP);
    if (r->from_step && job_step_parse(r->from_step) == STEP_MAX)
        return cli_usage(cli, "there is no step \"%s\"; `provisioner graph` shows them",
                         r->from_step);
    if (rate) {
        size_t n = strcspn(rate, "/");
        if (n < sizeof(number))
            memcpy(number, rate, n);
        if (!str_to_i64(number, &r->rate) || r->rate < 1 || r->rate > REPLAY_RATE_MAX ||
            (rate[n] && !str_eq(rate + n, "/s")))
            return cli_usage(cli, "--rate takes a number a second from 1/s to %d/s",
                             REPLAY_RATE_MAX);
    }
    if (f->states && !str_eq(f->states, "{\"failed\"}") && !str_eq(f->states, "{\"cancelled\"}"))
        return cli_usage(cli, "only jobs that failed or were cancelled can be replayed: --state "
                              "takes failed or cancelled here");
    if (argc == 0 && !f->states)
        return cli_usage(cli, "say which: SUBSCRIPTION..., or --state failed");
    bool filtered = f->states || cli_has(cli, OPT_LIMIT);
    for (size_t i = 1; i < SESSION_FILTERS - 1; i++)
        filtered |= f->values[i] != NULL;
    if (argc > 0 && filtered)
        return cli_usage(cli, "filters and SUBSCRIPTION... exclude each other");
    return cli_duration(cli, OPT_WAIT, REPLAY_WAIT_MS, &r->wait_ms) == 0 ? CLI_OK : CLI_USAGE;
}

int cmd_replay(int argc, char **argv, const struct cli *cli)
{
    struct replay r = {.cli = cli};
    struct session_filters f;
    int rc = session_filters(cli, REPLAY_LIMIT, &f);
    if (rc == CLI_OK)
        rc = read_options(&r, &f, argc);
    if (rc == CLI_OK)
        rc = session_open(&r.session, cli);
    if (rc == CLI_OK)
        rc = argc > 0 ? named_targets(&r, argc, argv) : found_targets(&r, &f);
    if (rc == CLI_OK)
        rc = run(&r);
    for (size_t i = 0; i < r.n; i++)
        free(r.targets[i].error);
    free(r.targets);
    session_filters_done(&f);
    session_close(&r.session);
    return rc;
}
