/*
 * orders: what became of Waldur's orders, and what they wait for.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "commands.h"
#include "session.h"

enum { ORDERS_LIMIT = 50, ORDERS_LIMIT_MAX = 1000000, PHASES_MAX = 32 };

static const char *const phases[] = {"hinted", "left", "taken", "reported", "dropped"};

static const struct table_column columns[] = {
    {"order_uuid", "ORDER", CELL_TEXT, false, 0},
    {"order_type", "TYPE", CELL_TEXT, false, 0},
    {"phase", "PHASE", CELL_TEXT, false, 0},
    {"order_state", "AT WALDUR", CELL_TEXT, false, 2},
    {"organization_slug", "ORGANIZATION", CELL_TEXT, false, 3},
    {"backend_id", "NAME", CELL_TEXT, false, 4},
    {"resource_uuid", NULL, CELL_TEXT, false, 0},
    {"offering_type", NULL, CELL_TEXT, false, 0},
    {"source", NULL, CELL_TEXT, false, 0},
    {"reason", "REASON", CELL_TEXT, false, 0},
    {"detail", "DETAIL", CELL_TEXT, true, 1},
    {"verdict", "JOB", CELL_TEXT, false, 5},
    {"told", "TOLD", CELL_TEXT, false, 0},
    {"told_at", NULL, CELL_TIME, false, 0},
    {"unlinked_at", "UNLINKED", CELL_TIME, false, 6},
    {"attempts", NULL, CELL_NUMBER, false, 0},
    {"due_at", NULL, CELL_TIME, false, 0},
    {"error_class", "CLASS", CELL_TEXT, false, 5},
    {"error", "ERROR", CELL_TEXT, true, 1},
    {"updated_at", "UPDATED", CELL_TIME, false, 0},
};

static const char sql[] =
    "SELECT order_uuid, order_type, phase, order_state, organization_slug, backend_id, "
    "resource_uuid, offering_type, source, reason, detail, verdict, told, told_at, unlinked_at, "
    "attempts, due_at, error_class, error, updated_at FROM agent_marketplace.waldur_order "
    "WHERE ($1::text[] IS NULL OR phase = ANY ($1::text[])) "
    "AND ($2::text IS NULL OR organization_slug = $2) ORDER BY updated_at DESC, order_uuid "
    "LIMIT $3::bigint";

static const char *phase_of(const char *text, size_t len)
{
    for (size_t i = 0; i < ARRAY_LEN(phases); i++)
        if (strlen(phases[i]) == len && memcmp(phases[i], text, len) == 0)
            return phases[i];
    return NULL;
}

/* Every --state, each a list parted by commas, as an array; NULL where there is none. */
static int collect_phases(const struct cli *cli, char **out)
{
    const char *chosen[PHASES_MAX];
    size_t n = 0;
    for (size_t i = 0; i < cli->n_given; i++) {
        const char *p = cli->given[i].value;
        if (cli->given[i].id != OPT_STATE)
            continue;
        for (size_t len = 0;; p += len + 1) {
            len = strcspn(p, ",");
            const char *phase = phase_of(p, len);
            if (!phase || n == PHASES_MAX)
                return cli_usage(cli,
                                 "--state does not know \"%.*s\"; an order here is hinted, left, "
                                 "taken, reported or dropped",
                                 (int)len, p);
            chosen[n++] = phase;
            if (!p[len])
                break;
        }
    }
    *out = n ? session_array(chosen, n) : NULL;
    return n && !*out ? cli_failf("out of memory") : CLI_OK;
}

int cmd_orders(int argc, char **argv, const struct cli *cli)
{
    struct session s = {0};
    char *chosen = NULL;
    char limit[24];
    int64_t n = 0;
    (void)argc, (void)argv;
    if (cli_integer(cli, OPT_LIMIT, 1, ORDERS_LIMIT_MAX, ORDERS_LIMIT, &n) != 0)
        return CLI_USAGE;
    snprintf(limit, sizeof(limit), "%lld", (long long)n);
    int rc = collect_phases(cli, &chosen);
    if (rc == CLI_OK)
        rc = session_open(&s, cli);
    if (rc == CLI_OK) {
        const char *const params[] = {chosen, cli_value(cli, OPT_ORGANIZATION), limit};
        PGresult *res = session_query(&s, sql, ARRAY_LEN(params), params);
        rc = res ? session_list(&s, res, columns, ARRAY_LEN(columns), "no orders match")
                 : CLI_FAILED;
    }
    free(chosen);
    session_close(&s);
    return rc;
}
