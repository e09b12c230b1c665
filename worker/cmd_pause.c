/*
 * pause, resume: what operators stop, and let go on.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "base/uuid.h"
#include "commands.h"
#include "operator.h"
#include "session.h"

/* One thing to stop or to let go on. */
struct target {
    const char *scope, *label; /* borrowed */
    char *target;              /* as in scheduling_pause */
    bool changed;
    char running[24]; /* pause: jobs that stop at their next boundary */
};

struct pause {
    struct session session;
    const struct cli *cli;
    bool resumes;
    struct target *targets;
    size_t n;
};

/* ---- what is meant ---- */

static const char *scope_of(enum cli_option_id id)
{
    return id == OPT_ALL            ? "all"
           : id == OPT_RUNTIME      ? "runtime"
           : id == OPT_ORGANIZATION ? "organization"
           : id == OPT_SUBSCRIPTION ? "subscription"
                                    : NULL;
}

/* A pause of what is spelt wrong would stop nothing, and nobody would know. */
static int find_runtime(struct pause *p, const char *name, char **out)
{
    int64_t known = 1;
    const char *const params[] = {name};
    if (!p->resumes && !config_runtime_named(p->session.config, name) &&
        session_number(&p->session,
                       "SELECT count(*) FROM (SELECT FROM agent_marketplace.agent_config WHERE "
                       "runtime_name = $1 LIMIT 1) x",
                       1, params, 0, &known) != 0)
        return CLI_FAILED;
    if (known == 0)
        return cli_failf("there is no runtime \"%s\"; `provisioner config` shows them", name);
    *out = str_dup(name);
    return *out ? CLI_OK : cli_failf("out of memory");
}

static int find_organization(struct pause *p, const char *text, char **out)
{
    char uuid[UUID_TEXT];
    if (uuid_parse(text, strlen(text), uuid)) {
        *out = str_dup(uuid);
        return *out ? CLI_OK : cli_failf("out of memory");
    }
    const char *const params[] = {text};
    PGresult *res = session_query(&p->session,
                                  "SELECT DISTINCT organization_uuid FROM "
                                  "agent_marketplace.subscription WHERE organization_slug = $1 AND "
                                  "organization_uuid IS NOT NULL LIMIT 2",
                                  1, params);
    if (!res)
        return CLI_FAILED;
    int n = PQntuples(res);
    *out = n == 1 ? str_dup(PQgetvalue(res, 0, 0)) : NULL;
    PQclear(res);
    if (n == 0)
        return cli_failf("no subscription of an organization \"%s\" is known; give its UUID", text);
    if (n > 1)
        return cli_failf("more than one organization is called \"%s\"; give its UUID", text);
    return *out ? CLI_OK : cli_failf("out of memory");
}

static int find(struct pause *p, enum cli_option_id id, const char *text, char **out)
{
    char uuid[UUID_TEXT];
    switch (id) {
    case OPT_RUNTIME:
        return find_runtime(p, text, out);
    case OPT_ORGANIZATION:
        return find_organization(p, text, out);
    case OPT_SUBSCRIPTION:
        if (session_subscription(&p->session, text, uuid) <= 0)
            return CLI_FAILED;
        *out = str_dup(uuid);
        break;
    default:
        *out = str_dup("");
        break;
    }
    return *out ? CLI_OK : cli_failf("out of memory");
}

/* All are found before the first is touched. */
static int find_all(struct pause *p)
{
    p->targets = calloc(p->cli->n_given + 1, sizeof(*p->targets));
    if (!p->targets)
        return cli_failf("out of memory");
    for (size_t i = 0; i < p->cli->n_given; i++) {
        const struct cli_given *g = &p->cli->given[i];
        struct target *t = &p->targets[p->n];
        t->scope = scope_of(g->id);
        if (!t->scope)
            continue;
        t->label = g->value ? g->value : "everything";
        int rc = find(p, g->id, t->label, &t->target);
        if (rc != CLI_OK)
            return rc;
        p->n++;
    }
    return CLI_OK;
}

/* ---- doing it ---- */

static int count_running(struct pause *p, struct target *t)
{
    const char *const params[] = {t->scope, t->target};
    int64_t n = 0;
    if (session_number(&p->session,
                       "SELECT count(*) FROM agent_marketplace.provisioning_job WHERE state = "
                       "'running' AND CASE $1 WHEN 'all' THEN true WHEN 'runtime' THEN lane = $2 "
                       "WHEN 'organization' THEN organization_uuid::text = $2 "
                       "ELSE subscription_uuid::text = $2 END",
                       2, params, 0, &n) != 0)
        return CLI_FAILED;
    snprintf(t->running, sizeof(t->running), "%" PRId64, n);
    return CLI_OK;
}

static int change(struct pause *p, struct target *t, const char *actor)
{
    const char *const set[] = {t->scope, t->target, t->label, cli_value(p->cli, OPT_REASON), actor};
    const char *const lift[] = {t->scope, t->target, actor};
    PGresult *res =
        p->resumes
            ? session_query(&p->session, "SELECT agent_marketplace.pause_lift($1, $2, $3)", 3, lift)
            : session_query(&p->session, "SELECT agent_marketplace.pause_set($1, $2, $3, $4, $5)",
                            5, set);
    if (!res)
        return CLI_FAILED;
    t->changed = str_eq(PQgetvalue(res, 0, 0), "t");
    PQclear(res);
    return p->resumes ? CLI_OK : count_running(p, t);
}

static int change_all(struct pause *p)
{
    char actor[OPERATOR_MAX];
    operator_name(actor);
    for (size_t i = 0; i < p->n; i++)
        if (change(p, &p->targets[i], actor) != CLI_OK)
            return CLI_FAILED;
    return CLI_OK;
}

/* ---- telling ---- */

static const struct table_column list_columns[] = {
    {"scope", "SCOPE", CELL_TEXT, false, 0}, {"label", "PAUSED", CELL_TEXT, true, 0},
    {"target", NULL, CELL_TEXT, false, 0},   {"reason", "REASON", CELL_TEXT, true, 2},
    {"actor", "BY", CELL_TEXT, false, 1},    {"created_at", "SINCE", CELL_TIME, false, 0},
};

static int list(struct pause *p)
{
    PGresult *res =
        session_query(&p->session,
                      "SELECT scope, label, nullif(target, ''), reason, actor, created_at FROM "
                      "agent_marketplace.scheduling_pause ORDER BY created_at, scope, target",
                      0, NULL);
    return res ? session_list(&p->session, res, list_columns, ARRAY_LEN(list_columns),
                              "nothing is paused")
               : CLI_FAILED;
}

static const struct table_column done_columns[] = {
    {"scope", "SCOPE", CELL_TEXT, false, 0},
    {"label", "WHAT", CELL_TEXT, true, 0},
    {"target", NULL, CELL_TEXT, false, 0},
    {"verdict", "VERDICT", CELL_TEXT, false, 0},
    {"running", "STILL RUNNING", CELL_NUMBER, false, 1},
};

static const char *done_cell(const void *ctx, size_t row, size_t column)
{
    const struct pause *p = ctx;
    const struct target *t = &p->targets[row];
    const char *verdict = p->resumes ? (t->changed ? "resumed" : "was not paused")
                                     : (t->changed ? "paused" : "was paused already");
    const char *const cells[] = {t->scope, t->label, t->target, verdict, t->running};
    return *cells[column] ? cells[column] : NULL;
}

static int print(struct pause *p)
{
    struct buf out;
    struct table t = {done_columns, ARRAY_LEN(done_columns), p->n, done_cell, p};
    struct table_view view = session_view(false);
    buf_init(&out, SESSION_OUTPUT_MAX);
    if (cli_has(p->cli, OPT_JSON)) {
        table_json(&t, &out);
        buf_addc(&out, '\n');
    } else {
        table_text(&t, &view, &out);
    }
    return cli_print(&out);
}

static int run(struct pause *p)
{
    int rc = session_open(&p->session, p->cli);
    if (rc == CLI_OK)
        rc = find_all(p);
    if (rc == CLI_OK && p->n == 0)
        return list(p);
    if (rc == CLI_OK)
        rc = change_all(p);
    if (rc == CLI_OK)
        rc = print(p);
    if (rc == CLI_OK && p->resumes)
        session_tell_pauses(&p->session);
    return rc;
}

static int begin(const struct cli *cli, bool resumes)
{
    struct pause p = {.cli = cli, .resumes = resumes};
    bool named = false;
    const char *reason = cli_value(cli, OPT_REASON);
    for (size_t i = 0; i < cli->n_given; i++) {
        const char *value = cli->given[i].value;
        named = named || scope_of(cli->given[i].id);
        if (value && !str_is_utf8(value, strlen(value)))
            return cli_usage(cli, "the value of an option is not UTF-8");
    }
    if (!named && (resumes || reason))
        return cli_usage(cli, "say what: --all, --runtime, --organization or --subscription");
    int rc = run(&p);
    for (size_t i = 0; i < p.n; i++)
        free(p.targets[i].target);
    free(p.targets);
    session_close(&p.session);
    return rc;
}

int cmd_pause(int argc, char **argv, const struct cli *cli)
{
    (void)argc, (void)argv;
    return begin(cli, false);
}

int cmd_resume(int argc, char **argv, const struct cli *cli)
{
    (void)argc, (void)argv;
    return begin(cli, true);
}
