/*
 * cancel: ends jobs that shall not go on.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "commands.h"
#include "operator.h"
#include "session.h"

enum { CELL_MAX = 40 };

struct target {
    const char *job; /* borrowed */
    char verdict[CELL_MAX], subscription[CELL_MAX], kind[CELL_MAX], state[CELL_MAX], step[CELL_MAX];
};

struct cancel {
    struct session session;
    const struct cli *cli;
    struct target *targets;
    size_t n;
};

static int cancel_one(struct cancel *c, struct target *t, const char *deadline, const char *actor)
{
    const char *const params[] = {t->job, cli_value(c->cli, OPT_REASON), deadline, actor};
    PGresult *res = session_query(&c->session,
                                  "SELECT verdict, subscription_uuid, kind, state, step FROM "
                                  "agent_marketplace.job_cancel($1::bigint, $2, $3::bigint, $4)",
                                  4, params);
    if (!res)
        return CLI_FAILED;
    char *const cells[] = {t->verdict, t->subscription, t->kind, t->state, t->step};
    for (size_t i = 0; i < ARRAY_LEN(cells); i++)
        str_copy(cells[i], CELL_MAX, PQgetvalue(res, 0, (int)i));
    PQclear(res);
    return CLI_OK;
}

static int cancel_all(struct cancel *c)
{
    char deadline[24], actor[OPERATOR_MAX];
    operator_name(actor);
    snprintf(deadline, sizeof(deadline), "%" PRId64, c->session.config->retry_deadline_ms);
    for (size_t i = 0; i < c->n; i++)
        if (cancel_one(c, &c->targets[i], deadline, actor) != CLI_OK)
            return CLI_FAILED;
    return CLI_OK;
}

static const char *note(const struct target *t)
{
    if (str_eq(t->verdict, "none"))
        return "there is no such job; `provisioner jobs` lists them";
    if (str_eq(t->verdict, "finished"))
        return "it has ended already";
    if (str_eq(t->verdict, "cancelling"))
        return "it ends where it stands; then `provisioner replay` runs it again";
    return "`provisioner replay` runs it again";
}

static const struct table_column columns[] = {
    {"id", "JOB", CELL_NUMBER, false, 0},
    {"verdict", "VERDICT", CELL_TEXT, false, 0},
    {"subscription_uuid", "SUBSCRIPTION", CELL_TEXT, false, 0},
    {"kind", "KIND", CELL_TEXT, false, 2},
    {"state", "WAS", CELL_TEXT, false, 0},
    {"step", "STEP", CELL_TEXT, false, 1},
    {"note", "NOTE", CELL_TEXT, true, 0},
};

static const char *cell(const void *ctx, size_t row, size_t column)
{
    const struct target *t = &((const struct cancel *)ctx)->targets[row];
    const char *const cells[] = {t->job,   t->verdict, t->subscription, t->kind,
                                 t->state, t->step,    note(t)};
    return *cells[column] ? cells[column] : NULL;
}

static int print(const struct cancel *c)
{
    struct buf out;
    struct table t = {columns, ARRAY_LEN(columns), c->n, cell, c};
    struct table_view view = session_view(false);
    bool refused = false;
    buf_init(&out, SESSION_OUTPUT_MAX);
    if (cli_has(c->cli, OPT_JSON)) {
        table_json(&t, &out);
        buf_addc(&out, '\n');
    } else {
        table_text(&t, &view, &out);
    }
    for (size_t i = 0; i < c->n; i++)
        refused = refused || str_eq(c->targets[i].verdict, "none") ||
                  str_eq(c->targets[i].verdict, "finished");
    int rc = cli_print(&out);
    return rc == CLI_OK && refused ? CLI_FAILED : rc;
}

static int read_operands(struct cancel *c, int argc, char **argv)
{
    const char *reason = cli_value(c->cli, OPT_REASON);
    if (reason && !str_is_utf8(reason, strlen(reason)))
        return cli_usage(c->cli, "--reason is not UTF-8");
    c->targets = calloc((size_t)argc, sizeof(*c->targets));
    if (!c->targets)
        return cli_failf("out of memory");
    for (int i = 0; i < argc; i++) {
        int64_t id;
        if (!str_to_i64(argv[i], &id) || id < 1)
            return cli_usage(c->cli, "\"%s\" is no job; `provisioner jobs` lists them", argv[i]);
        c->targets[c->n++].job = argv[i];
    }
    return CLI_OK;
}

int cmd_cancel(int argc, char **argv, const struct cli *cli)
{
    struct cancel c = {.cli = cli};
    int rc = read_operands(&c, argc, argv);
    if (rc == CLI_OK)
        rc = session_open(&c.session, cli);
    if (rc == CLI_OK)
        rc = cancel_all(&c);
    if (rc == CLI_OK)
        rc = print(&c);
    free(c.targets);
    session_close(&c.session);
    return rc;
}
