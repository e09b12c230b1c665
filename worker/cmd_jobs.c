/*
 * jobs: the list of jobs.
 */
#include "base/str.h"
#include "commands.h"
#include "session.h"

enum { JOBS_LIMIT = 50 };

static const struct table_column columns[] = {
    {"id", "JOB", CELL_NUMBER, false, 0},
    {"subscription_uuid", "SUBSCRIPTION", CELL_TEXT, false, 0},
    {"organization_slug", "ORGANIZATION", CELL_TEXT, false, 2},
    {"runtime_name", "RUNTIME", CELL_TEXT, false, 4},
    {"kind", "KIND", CELL_TEXT, false, 0},
    {"state", "STATE", CELL_TEXT, false, 0},
    {"step", "STEP", CELL_TEXT, false, 1},
    {"attempts", "TRIES", CELL_NUMBER, false, 5},
    {"next_attempt_at", NULL, CELL_TIME, false, 0},
    {"error_class", "CLASS", CELL_TEXT, false, 3},
    {"error", "ERROR", CELL_TEXT, true, 0},
    {"updated_at", NULL, CELL_TIME, false, 0},
    {NULL, "NEXT TRY", CELL_TIME, false, 6},
    {NULL, "UPDATED", CELL_TIME, false, 0},
};

int cmd_jobs(int argc, char **argv, const struct cli *cli)
{
    struct session s = {0};
    struct session_filters f;
    struct buf sql;
    (void)argc, (void)argv;
    int rc = session_filters(cli, JOBS_LIMIT, &f);
    if (rc == CLI_OK)
        rc = session_open(&s, cli);
    buf_init(&sql, 8192);
    buf_addf(
        &sql,
        "SELECT j.id, j.subscription_uuid, j.organization_slug, j.runtime_name, j.kind, j.state, "
        "j.step, j.attempts, j.next_attempt_at, j.error_class, j.error, j.updated_at, "
        "CASE WHEN j.state IN ('queued', 'retrying', 'held') THEN j.next_attempt_at END, "
        "j.updated_at FROM agent_marketplace.provisioning_job j WHERE %s "
        "ORDER BY j.updated_at DESC, j.id DESC LIMIT $5::bigint",
        session_filter_sql);
    PGresult *res =
        rc == CLI_OK ? session_query(&s, buf_str(&sql), SESSION_FILTERS, f.values) : NULL;
    if (rc == CLI_OK)
        rc = res ? session_list(&s, res, columns, ARRAY_LEN(columns), "no jobs match") : CLI_FAILED;
    /* Why nothing moves must not have to be guessed. */
    if (rc == CLI_OK && !cli_has(cli, OPT_JSON))
        session_tell_pauses(&s);
    buf_done(&sql);
    session_filters_done(&f);
    session_close(&s);
    return rc;
}
