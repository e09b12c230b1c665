/*
 * The real side: a private PostgreSQL whose time is the test's.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/str.h"
#include "store/migrate.h"
#include "test_db.h"
#include "unit/pg_cluster.h"

/*
 * The migrations' own functions and defaults, but for what they ask the time and, where they
 * leave open which row comes first, for an order.
 */
static const char set_up[] =
    "create schema sim_clock;"
    "create function sim_clock.now() returns timestamptz stable language sql as"
    " $$ select current_setting('sim.now')::timestamptz $$;"
    "create function sim_clock.us(timestamptz) returns bigint immutable language sql as"
    " $$ select (extract(epoch from $1) * 1000000)::bigint $$;"
    "do $do$ declare f record; d record; o record; old text; new text; n integer := 0; ordered "
    "integer := 0;"
    "begin"
    " for f in select oid from pg_proc where pronamespace = 'agent_marketplace'::regnamespace loop"
    "  old := pg_get_functiondef(f.oid);"
    "  new := replace(replace(old, 'clock_timestamp()', 'now()'), 'now()', 'sim_clock.now()');"
    "  n := n + (new <> old)::integer;"
    "  for o in select * from (values"
    "    ('ORDER BY j.next_attempt_at LIMIT', 'ORDER BY j.next_attempt_at, j.id LIMIT'),"
    "    ('ORDER BY j.organization_uuid, j.next_attempt_at LIMIT',"
    "     'ORDER BY j.organization_uuid, j.next_attempt_at, j.id LIMIT'),"
    "    ('LIMIT p_limit - cardinality(ids) FOR',"
    "     'ORDER BY j.id LIMIT p_limit - cardinality(ids) FOR'),"
    "    ('LIMIT least(p_limit, 1000) FOR', 'ORDER BY j.id LIMIT least(p_limit, 1000) FOR')) "
    "x(was, is_now) loop"
    "   ordered := ordered"
    "              + (length(new) - length(replace(new, o.was, ''))) / length(o.was);"
    "   new := replace(new, o.was, o.is_now);"
    "  end loop;"
    "  if new <> old then execute new; end if;"
    " end loop;"
    " if n < 25 or ordered <> 8 then"
    "  raise exception 'functions changed: %, orders: %', n, ordered; end if;"
    " for d in select adrelid::regclass as t, attname from pg_attrdef"
    "          join pg_attribute on attrelid = adrelid and attnum = adnum"
    "          where pg_get_expr(adbin, adrelid) in ('now()', 'clock_timestamp()')"
    "          and adrelid in (select oid from pg_class"
    "                          where relnamespace = 'agent_marketplace'::regnamespace) loop"
    "  execute format('alter table %s alter column %I set default sim_clock.now()', d.t, "
    "d.attname);"
    " end loop;"
    "end $do$;"
    "alter table audit_log disable trigger user;"
    "set synchronous_commit = off;"
    "set plan_cache_mode = force_generic_plan;"
    "listen provisioner_jobs";

static const struct pg_statement asked_for[T_MAX - STATEMENT_MAX] = {
    {"job_replay",
     "SELECT verdict FROM agent_marketplace.job_replay($1::uuid, $2::agent_marketplace.job_step, "
     "$3::bigint, 'replay', false)",
     3},
    {"retention_purge",
     "SELECT coalesce(agent_marketplace.retention_purge($1::uuid, $2::timestamptz, $3::bigint), 0)",
     3},
    {"job_cancel",
     "SELECT verdict FROM agent_marketplace.job_cancel($1::bigint, $2, $3::bigint, 'cancel')", 3},
    {"pause_set", "SELECT agent_marketplace.pause_set($1, $2, $2, NULL, 'pause')", 2},
    {"pause_lift", "SELECT agent_marketplace.pause_lift($1, $2, 'resume')", 2},
};

static const struct pg_statement *statement_of(int i)
{
    return i < STATEMENT_MAX ? &statements[i] : &asked_for[i - STATEMENT_MAX];
}

const char *call_name(int statement)
{
    return statement_of(statement)->name;
}

static int say(const char *what, const struct err *err)
{
    fprintf(stderr, "%s: %s\n", what, err->msg);
    return -1;
}

static int run(struct real *r, const char *sql)
{
    PGresult *res = PQexec(r->conn, sql);
    bool fine = PQresultStatus(res) == PGRES_COMMAND_OK || PQresultStatus(res) == PGRES_TUPLES_OK;
    if (!fine) {
        fprintf(stderr, "%s: %s\n", sql, PQerrorMessage(r->conn));
    }
    PQclear(res);
    return fine ? 0 : -1;
}

static int prepare(struct real *r)
{
    PGresult *res =
        PQprepare(r->conn, "set_clock", "select set_config('sim.now', $1, false)", 1, NULL);
    for (int i = 0; i < T_MAX && PQresultStatus(res) == PGRES_COMMAND_OK; i++) {
        const struct pg_statement *s = statement_of(i);
        PQclear(res);
        res = PQprepare(r->conn, s->name, s->sql, s->n_params, NULL);
    }
    bool fine = PQresultStatus(res) == PGRES_COMMAND_OK;
    if (!fine) {
        fprintf(stderr, "preparing: %s\n", PQerrorMessage(r->conn));
    }
    PQclear(res);
    return fine && PQenterPipelineMode(r->conn) ? 0 : -1;
}

int real_start(struct real *r)
{
    struct pg_cluster cluster;
    struct migrate_report report;
    struct err err;
    err_clear(&err);
    if (pg_cluster_start(&cluster)) {
        return -1;
    }
    r->conn = pg_connect(cluster.url, "test_db", &err);
    if (!r->conn || migrate_run(r->conn, false, NULL, NULL, &report, &err)) {
        return say("migrating", &err);
    }
    return run(r, set_up) || prepare(r) ? -1 : 0;
}

void real_end(struct real *r)
{
    PQfinish(r->conn);
    pg_cluster_do("remove");
}

/* The result of the next query of the pipeline; the NULL behind it is taken too. */
static PGresult *next_result(struct real *r)
{
    PGresult *res = PQgetResult(r->conn), *end;
    while (PQresultStatus(res) != PGRES_PIPELINE_SYNC && (end = PQgetResult(r->conn))) {
        PQclear(end);
    }
    return res;
}

/* Of what one sync ends: the last of n results. */
static PGresult *receive(struct real *r, int n)
{
    PGresult *res = NULL;
    for (int i = 0; i < n; i++) {
        PQclear(res);
        res = next_result(r);
    }
    PQclear(next_result(r));
    return res;
}

static void end_transaction(struct real *r)
{
    if (!PQpipelineSync(r->conn)) {
        abort();
    }
}

static bool heard(struct real *r)
{
    bool any = false;
    PGnotify *notice;
    while ((notice = PQnotifies(r->conn))) {
        any = true;
        PQfreemem(notice);
    }
    return any;
}

PGresult *real_query(struct real *r, const char *sql)
{
    PQsendQueryParams(r->conn, sql, 0, NULL, NULL, NULL, NULL, 0);
    end_transaction(r);
    PGresult *res = receive(r, 1);
    heard(r);
    return res;
}

static int ask(struct real *r, const char *sql)
{
    PGresult *res = real_query(r, sql);
    bool fine = PQresultStatus(res) == PGRES_COMMAND_OK || PQresultStatus(res) == PGRES_TUPLES_OK;
    if (!fine) {
        fputs(PQresultErrorMessage(res), stderr);
    }
    PQclear(res);
    return fine ? 0 : -1;
}

int real_reset(struct real *r)
{
    if (ask(r, "truncate subscription, subscription_event, provisioning_job, provisioning_effect,"
               " agent_config, agent_api_key, agent_runtime_key, worker, outbox, dead_letter, "
               "audit_log,"
               " scheduling_pause, waldur_delivery"
               " restart identity") != 0) {
        return -1;
    }
    /* What the session remembers of queues is of a world that is gone: ids and time begin anew. */
    return ask(r, "select set_config('provisioner.floor_of_' || queue, '', false)"
                  " from unnest('{ready,later,running,outbox}'::text[]) queue");
}

void real_send(struct real *r, const struct call *call, int64_t now_us)
{
    char time[CLOCK_TEXT_MAX];
    const char *clock[] = {time}, *values[CALL_PARAMS];
    int lengths[CALL_PARAMS], formats[CALL_PARAMS];
    clock_format_us(time, now_us);
    for (int i = 0; i < call->n; i++) {
        values[i] = call->p[i].value;
        formats[i] = call->p[i].len >= 0;
        lengths[i] = call->p[i].len;
    }
    PQsendQueryPrepared(r->conn, "set_clock", 1, clock, NULL, NULL, 0);
    PQsendQueryPrepared(r->conn, call_name(call->statement), call->n, values, lengths, formats, 0);
    end_transaction(r);
}

PGresult *real_receive(struct real *r, bool *notified)
{
    PGresult *res = receive(r, 2);
    *notified = heard(r);
    return res;
}
