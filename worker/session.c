#include "session.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/str.h"
#include "base/uuid.h"
#include "machine/machine.h"
#include "store/migrate.h"
#include "store/pg.h"

enum { ARRAY_BYTES_MAX = 16 * 1024 * 1024, LIMIT_MAX = 100000 };

/* ---- opening ---- */

static int check_schema(struct session *s)
{
    struct err err;
    PGresult *res = pg_query(
        s->conn, "SELECT coalesce(max(version), 0) FROM agent_marketplace.schema_migration", 0,
        NULL, &err);
    int64_t version = 0;
    if (!res && !str_eq(err.sqlstate, "42P01") && !str_eq(err.sqlstate, "3F000"))
        return cli_fail(&err);
    if (res)
        str_to_i64(PQgetvalue(res, 0, 0), &version);
    PQclear(res);
    if (version < migrate_wanted())
        return cli_failf("the database's schema is at version %" PRId64
                         ", version %d is needed; run "
                         "`provisioner migrate`",
                         version, migrate_wanted());
    if (version > migrate_wanted())
        return cli_failf("the database's schema is at version %" PRId64
                         ", this program knows %d; use "
                         "the program that migrated it",
                         version, migrate_wanted());
    return CLI_OK;
}

int session_open(struct session *s, const struct cli *cli)
{
    struct err err;
    char timeout[24];
    *s = (struct session){.cli = cli};
    int rc = cli_config(cli, &s->config);
    if (rc != CLI_OK)
        return rc;
    s->conn = pg_connect(s->config->database_url, "provisioner command", &err);
    if (!s->conn)
        return cli_fail(&err);
    rc = check_schema(s);
    if (rc != CLI_OK)
        return rc;
    snprintf(timeout, sizeof(timeout), "%d", SESSION_STATEMENT_MS);
    const char *const params[] = {timeout};
    PGresult *res =
        session_query(s, "SELECT set_config('statement_timeout', $1, false)", 1, params);
    PQclear(res);
    return res ? CLI_OK : CLI_FAILED;
}

void session_close(struct session *s)
{
    PQfinish(s->conn);
    config_free(s->config);
    *s = (struct session){0};
}

/* ---- questions ---- */

PGresult *session_query(struct session *s, const char *sql, int n, const char *const *params)
{
    struct err err;
    PGresult *res = pg_query(s->conn, sql, n, params, &err);
    if (!res)
        cli_fail(&err);
    return res;
}

int session_number(struct session *s, const char *sql, int n, const char *const *params,
                   int64_t fallback, int64_t *out)
{
    PGresult *res = session_query(s, sql, n, params);
    if (!res)
        return -1;
    int64_t value = fallback;
    if (PQntuples(res) > 0 && !PQgetisnull(res, 0, 0))
        str_to_i64(PQgetvalue(res, 0, 0), &value);
    PQclear(res);
    *out = value;
    return 0;
}

static const char *result_cell(const void *ctx, size_t row, size_t column)
{
    const PGresult *res = ctx;
    return PQgetisnull(res, (int)row, (int)column) ? NULL : PQgetvalue(res, (int)row, (int)column);
}

struct table session_table(const PGresult *res, const struct table_column *columns,
                           size_t n_columns)
{
    return (struct table){.columns = columns,
                          .n_columns = n_columns,
                          .n_rows = (size_t)PQntuples(res),
                          .cell = result_cell,
                          .ctx = res};
}

struct table_view session_view(bool absolute)
{
    return (struct table_view){
        .width = cli_width(), .now_us = clock_wall_us(), .absolute = absolute};
}

int session_list(struct session *s, PGresult *res, const struct table_column *columns,
                 size_t n_columns, const char *none)
{
    struct buf out;
    struct table t = session_table(res, columns, n_columns);
    struct table_view view = session_view(false);
    buf_init(&out, SESSION_OUTPUT_MAX);
    if (cli_has(s->cli, OPT_JSON)) {
        table_json(&t, &out);
        buf_addc(&out, '\n');
    } else {
        table_text(&t, &view, &out);
        if (t.n_rows == 0)
            fprintf(stderr, "%s\n", none);
    }
    PQclear(res);
    return cli_print(&out);
}

char *session_array(const char *const *items, size_t n)
{
    struct buf out;
    buf_init(&out, ARRAY_BYTES_MAX);
    buf_addc(&out, '{');
    for (size_t i = 0; i < n; i++) {
        buf_adds(&out, i ? ",\"" : "\"");
        for (const char *p = items[i]; *p; p++) {
            if (*p == '"' || *p == '\\')
                buf_addc(&out, '\\');
            buf_addc(&out, *p);
        }
        buf_addc(&out, '"');
    }
    buf_addc(&out, '}');
    return buf_steal(&out);
}

/* ---- subscriptions ---- */

int session_subscription(struct session *s, const char *text, char out[UUID_TEXT])
{
    char uuid[UUID_TEXT] = "";
    const bool is_uuid = uuid_parse(text, strlen(text), uuid);
    const char *const params[] = {is_uuid ? uuid : NULL, text};
    if (!str_is_utf8(text, strlen(text))) {
        cli_failf("\"%s\" is no subscription: neither a UUID nor a name", text);
        return 0;
    }
    PGresult *res =
        session_query(s,
                      "SELECT uuid FROM agent_marketplace.subscription WHERE uuid = $1::uuid "
                      "UNION SELECT subscription_uuid FROM agent_marketplace.agent_config WHERE "
                      "name = $2 LIMIT 1",
                      2, params);
    if (!res)
        return -1;
    int found = PQntuples(res);
    if (found)
        str_copy(out, UUID_TEXT, PQgetvalue(res, 0, 0));
    else
        cli_failf(
            "there is no subscription \"%s\"; give its UUID or the name that was frozen for it",
            text);
    PQclear(res);
    return found;
}

/* ---- pauses ---- */

enum { PAUSES_TOLD = 5 };

void session_tell_pauses(struct session *s)
{
    struct buf line;
    PGresult *res = session_query(
        s,
        "SELECT CASE scope WHEN 'all' THEN 'everything' ELSE scope || ' ' || label "
        "END, actor, reason, count(*) OVER () FROM agent_marketplace.scheduling_pause "
        "ORDER BY scope <> 'all', created_at LIMIT 5",
        0, NULL);
    int n = res ? PQntuples(res) : 0;
    for (int i = 0; i < n; i++) {
        buf_init(&line, 4096);
        table_escape(&line, PQgetvalue(res, i, 0), strlen(PQgetvalue(res, i, 0)));
        buf_adds(&line, " by ");
        table_escape(&line, PQgetvalue(res, i, 1), strlen(PQgetvalue(res, i, 1)));
        if (!PQgetisnull(res, i, 2)) {
            buf_adds(&line, ": ");
            table_escape(&line, PQgetvalue(res, i, 2), strlen(PQgetvalue(res, i, 2)));
        }
        fprintf(stderr, "paused: %s\n", buf_str(&line));
        buf_done(&line);
    }
    int64_t all = 0;
    if (n == PAUSES_TOLD && str_to_i64(PQgetvalue(res, 0, 3), &all) && all > n)
        fprintf(stderr, "paused: and %" PRId64 " more; `provisioner pause` lists them\n", all - n);
    PQclear(res);
}

/* ---- filters ---- */

const char session_filter_sql[] =
    " ($1::text[] IS NULL OR j.state = ANY ($1::text[]::agent_marketplace.job_state[]))"
    " AND ($2::text IS NULL OR j.organization_slug = $2)"
    " AND ($3::text IS NULL OR j.error_class = $3 OR position(lower($3) IN lower(j.error)) > 0)"
    " AND ($4::timestamptz IS NULL OR j.updated_at >= $4::timestamptz) ";

enum { STATES_GIVEN_MAX = 64 };

static int add_state(const struct cli *cli, const char *text, size_t len, const char **states,
                     size_t *n)
{
    char name[24] = "";
    if (len < sizeof(name))
        memcpy(name, text, len);
    enum job_state state = job_state_parse(name);
    if (state == JOB_STATE_MAX || *n == STATES_GIVEN_MAX)
        return cli_usage(cli,
                         "--state does not know \"%.*s\"; states are queued, running, retrying, "
                         "held, failed, superseded, succeeded, cancelled",
                         (int)len, text);
    states[(*n)++] = job_state_name(state);
    return CLI_OK;
}

/* Every --state, each a list parted by commas, as an array; NULL where there is none. */
static int collect_states(const struct cli *cli, char **out)
{
    const char *states[STATES_GIVEN_MAX];
    size_t n = 0;
    for (size_t i = 0; i < cli->n_given; i++) {
        if (cli->given[i].id != OPT_STATE)
            continue;
        for (const char *p = cli->given[i].value;; p++) {
            size_t len = strcspn(p, ",");
            int rc = add_state(cli, p, len, states, &n);
            if (rc != CLI_OK)
                return rc;
            p += len;
            if (!*p)
                break;
        }
    }
    *out = n ? session_array(states, n) : NULL;
    return n && !*out ? cli_failf("out of memory") : CLI_OK;
}

int session_filters(const struct cli *cli, int64_t limit, struct session_filters *f)
{
    int64_t since_us, count;
    *f = (struct session_filters){0};
    f->values[1] = cli_value(cli, OPT_ORGANIZATION);
    f->values[2] = cli_value(cli, OPT_ERROR);
    for (size_t i = 1; i <= 2; i++)
        if (f->values[i] && !str_is_utf8(f->values[i], strlen(f->values[i])))
            return cli_usage(cli, "the value of a filter is not UTF-8");
    if (cli_has(cli, OPT_SINCE)) {
        if (cli_time(cli, OPT_SINCE, clock_wall_us(), &since_us) != 0)
            return CLI_USAGE;
        clock_format(f->since, since_us);
        f->values[3] = f->since;
    }
    if (cli_integer(cli, OPT_LIMIT, 1, LIMIT_MAX, limit, &count) != 0)
        return CLI_USAGE;
    snprintf(f->limit, sizeof(f->limit), "%" PRId64, count);
    f->values[4] = f->limit;
    int rc = collect_states(cli, &f->states);
    f->values[0] = f->states;
    return rc;
}

void session_filters_done(struct session_filters *f)
{
    free(f->states);
    *f = (struct session_filters){0};
}
