/*
 * doctor: PostgreSQL. Statements are prepared when a connection is made, and so may name only what
 * is there: the first connection asks the catalogue alone, the second reads what is recorded of
 * migrations, the third what only a schema up to date holds.
 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/str.h"
#include "doctor.h"
#include "store/migrate.h"
#include "store/pg.h"

enum {
    VERSION_MIN = 150000,
    SKEW_MAX_MS = 2000,
    CONNECTIONS_BUSY_PERCENT = 90,
};

enum stage { STAGE_CATALOGUE, STAGE_SCHEMA, STAGE_WORK, STAGE_MAX };

struct database {
    struct exam *exam;
    enum stage stage;
    struct pg *pg[STAGE_MAX];
    int64_t asked_us, asked_ms; /* for the clock: wall and monotonic */
    int64_t way_us, skew_us;    /* how long the answer took; the database's clock less ours */
    bool recorded, readable;    /* schema_migration is there; and may be read */
    bool usable;                /* nothing stands against looking further */
};

/* ---- what is asked ---- */

enum { Q_CLOCK, Q_FACTS, Q_RIGHTS };
enum { Q_APPLIED };
enum { Q_WORKERS, Q_BACKLOG };

static const char facts_sql[] =
    "SELECT current_user, current_database(), current_setting('server_version'),"
    " current_setting('server_version_num'), current_setting('transaction_read_only') = 'on',"
    " pg_is_in_recovery(), current_setting('server_encoding'), current_setting('fsync') = 'on',"
    " current_setting('full_page_writes') = 'on',"
    " (SELECT sum(numbackends) FROM pg_stat_database),"
    " current_setting('max_connections')::int"
    " - current_setting('superuser_reserved_connections')::int,"
    " c.oid IS NOT NULL, coalesce(has_schema_privilege(c.relnamespace, 'USAGE')"
    " AND has_table_privilege(c.oid, 'SELECT'), false)"
    " FROM (SELECT) one LEFT JOIN pg_class c ON c.relname = 'schema_migration'"
    " AND c.relnamespace = to_regnamespace('agent_marketplace')::oid";
enum {
    F_ROLE,
    F_DATABASE,
    F_VERSION,
    F_VERSION_NUMBER,
    F_READ_ONLY,
    F_STANDBY,
    F_ENCODING,
    F_FSYNC,
    F_FULL_PAGES,
    F_CONNECTIONS,
    F_CONNECTIONS_MAX,
    F_RECORDED,
    F_READABLE,
};

/* What migrations grant to provisioner_worker is what the program needs: no list is kept here. */
static const char rights_sql[] =
    "WITH w AS (SELECT to_regrole('provisioner_worker')::oid AS role,"
    " to_regnamespace('agent_marketplace')::oid AS schema),"
    " lacking AS (SELECT c.relname, string_agg(p, ', ' ORDER BY p) AS rights"
    "  FROM w JOIN pg_class c ON c.relnamespace = w.schema AND c.relkind IN ('r', 'p'),"
    "  unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS p"
    "  WHERE has_table_privilege(w.role, c.oid, p) AND NOT has_table_privilege(c.oid, p)"
    "  GROUP BY c.relname)"
    " SELECT w.role IS NOT NULL, coalesce(has_schema_privilege(w.schema, 'USAGE'), true),"
    " (SELECT string_agg(rights || ' on ' || relname, '; ' ORDER BY relname) FROM lacking),"
    " (SELECT count(*) FROM pg_proc f WHERE f.pronamespace = w.schema"
    "  AND has_function_privilege(w.role, f.oid, 'EXECUTE')"
    "  AND NOT has_function_privilege(f.oid, 'EXECUTE')),"
    " coalesce((SELECT bool_or(row_security_active(c.oid)) FROM pg_class c"
    "  WHERE c.relnamespace = w.schema AND c.relrowsecurity), false)"
    "  AND NOT coalesce(pg_has_role(w.role, 'USAGE'), false)"
    " FROM w";
enum { R_ROLE, R_SCHEMA, R_TABLES, R_FUNCTIONS, R_BLIND };

static const char workers_sql[] =
    "SELECT count(*), string_agg(format('%s (process %s, version %s)', host, pid, version), ', '"
    " ORDER BY host, pid) FROM agent_marketplace.worker WHERE lease_until > now()";

static const char backlog_sql[] =
    "SELECT (SELECT count(*) FROM agent_marketplace.provisioning_job WHERE state = 'failed'),"
    " (SELECT count(*) FROM agent_marketplace.provisioning_job WHERE state = 'held'),"
    " (SELECT count(*) FROM agent_marketplace.dead_letter WHERE state = 'new')";

static const struct pg_statement catalogue_statements[] = {
    [Q_CLOCK] = {"clock", "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint", 0},
    [Q_FACTS] = {"facts", facts_sql, 0},
    [Q_RIGHTS] = {"rights", rights_sql, 0},
};
static const struct pg_statement schema_statements[] = {
    [Q_APPLIED] = {"applied", migrate_rows_sql, 0},
};
static const struct pg_statement work_statements[] = {
    [Q_WORKERS] = {"workers", workers_sql, 0},
    [Q_BACKLOG] = {"backlog", backlog_sql, 0},
};

/* ---- values ---- */

static const char *text_of(const PGresult *res, int column)
{
    return PQgetvalue(res, 0, column);
}

static bool is_true(const PGresult *res, int column)
{
    return str_eq(text_of(res, column), "t");
}

static int64_t number_of(const PGresult *res, int column)
{
    int64_t n = 0;
    (void)str_to_i64(text_of(res, column), &n);
    return n;
}

/* ---- stages ---- */

static int connect_stage(struct database *d, struct err *err);

static void over(struct database *d, enum driver_level level, const char *subject, const char *mend,
                 const char *what)
{
    if (what)
        EXAM_ADD(d->exam, level, subject, mend, "%s", what);
    exam_over(d->exam);
}

static void failed(struct database *d, const struct err *err)
{
    over(d, LEVEL_BAD, "answer", "look into the database's log", err->msg);
}

static void next_stage(struct database *d)
{
    struct err err;
    d->stage++;
    if (connect_stage(d, &err) != 0)
        failed(d, &err);
}

static void ask(struct database *d, int statement, pg_done_fn *done)
{
    struct err err;
    if (!d->exam->over && pg_submit(d->pg[d->stage], statement, NULL, true, NULL, done, d, &err))
        failed(d, &err);
}

/* ---- the third: what only a schema up to date holds ---- */

static void on_backlog(void *ctx, const PGresult *res, const struct err *err)
{
    struct database *d = ctx;
    if (d->exam->over)
        return;
    if (!res) {
        failed(d, err);
        return;
    }
    int64_t jobs_failed = number_of(res, 0), held = number_of(res, 1), letters = number_of(res, 2);
    if (jobs_failed + held > 0)
        EXAM_ADD(d->exam, LEVEL_NOTE, "jobs", "`provisioner jobs --state failed,held` says why",
                 "%" PRId64 " failed, %" PRId64 " held", jobs_failed, held);
    if (letters > 0)
        EXAM_ADD(d->exam, LEVEL_NOTE, "dead letters", "`provisioner dead-letters list` says why",
                 "%" PRId64 " new", letters);
    exam_over(d->exam);
}

static void on_workers(void *ctx, const PGresult *res, const struct err *err)
{
    struct database *d = ctx;
    if (d->exam->over)
        return;
    if (!res)
        failed(d, err);
    else if (number_of(res, 0) == 0)
        EXAM_ADD(d->exam, LEVEL_NOTE, "workers", "start one with `provisioner run`",
                 "none holds a lease: events are kept, and nobody works on them");
    else
        EXAM_ADD(d->exam, LEVEL_OK, "workers", NULL, "%s at work: %s", text_of(res, 0),
                 text_of(res, 1));
}

/* ---- the second: migrations ---- */

static void pending(struct database *d, int current, int n)
{
    EXAM_ADD(d->exam, LEVEL_BAD, "schema", "run `provisioner migrate` as the role that owns it",
             "version %d of %d: %d migration%s not applied", current, migrate_wanted(), n,
             n == 1 ? " is" : "s are");
    exam_over(d->exam);
}

static void on_applied(void *ctx, const PGresult *res, const struct err *err)
{
    struct database *d = ctx;
    struct migrate_report report;
    struct err why;
    if (d->exam->over)
        return;
    if (!res) {
        failed(d, err);
    } else if (migrate_judge(res, &report, &why) != 0) {
        over(d, LEVEL_BAD, "schema",
             "run the program that migrated it, or restore what is named here", why.msg);
    } else if (report.pending > 0) {
        pending(d, report.current, report.pending);
    } else {
        EXAM_ADD(d->exam, LEVEL_OK, "schema", NULL, "version %d, as this program needs it",
                 report.current);
        if (d->usable)
            next_stage(d);
        else
            exam_over(d->exam);
    }
}

/* ---- the first: the catalogue ---- */

static void on_clock(void *ctx, const PGresult *res, const struct err *err)
{
    struct database *d = ctx;
    if (d->exam->over)
        return;
    if (!res) {
        failed(d, err);
        return;
    }
    /* Read at some moment while the question was under way. */
    d->way_us = (clock_mono_ms() - d->asked_ms) * 1000;
    d->skew_us = number_of(res, 0) - d->asked_us - d->way_us / 2;
}

static void look_at_clock(const struct database *d)
{
    bool apart = llabs(d->skew_us) - d->way_us / 2 > SKEW_MAX_MS * 1000LL;
    EXAM_ADD(d->exam, apart ? LEVEL_WARN : LEVEL_OK, "clock",
             apart ? "let both hosts set their clocks by NTP; leases and the order of events go by "
                     "the database's"
                   : NULL,
             "%.1f s %s this host's", fabs((double)d->skew_us) / 1e6,
             d->skew_us < 0 ? "behind" : "ahead of");
}

static void look_at_server(struct exam *e, const PGresult *res)
{
    bool old = number_of(res, F_VERSION_NUMBER) < VERSION_MIN;
    bool closed = is_true(res, F_READ_ONLY) || is_true(res, F_STANDBY);
    bool durable = is_true(res, F_FSYNC) && is_true(res, F_FULL_PAGES);
    EXAM_ADD(e, LEVEL_OK, "connection", NULL, "database %s, role %s", text_of(res, F_DATABASE),
             text_of(res, F_ROLE));
    EXAM_ADD(e, old ? LEVEL_BAD : LEVEL_OK, "version", old ? "upgrade to 15 or later" : NULL,
             "PostgreSQL %s", text_of(res, F_VERSION));
    if (closed)
        EXAM_ADD(e, LEVEL_BAD, "writing", "let database.url name the primary",
                 is_true(res, F_STANDBY) ? "this is a stand-by"
                                         : "transactions are read-only here");
    if (!str_eq(text_of(res, F_ENCODING), "UTF8"))
        EXAM_ADD(e, LEVEL_BAD, "encoding", "make the database anew: createdb --encoding UTF8 ...",
                 "%s: names and events in other scripts cannot be kept", text_of(res, F_ENCODING));
    if (!durable)
        EXAM_ADD(e, LEVEL_WARN, "durability", "set fsync and full_page_writes to on",
                 "%s is off: when the machine goes down, what is committed may be lost, and with "
                 "it every trace of what was created upstream",
                 is_true(res, F_FSYNC) ? "full_page_writes" : "fsync");
}

static void look_at_connections(struct exam *e, const PGresult *res)
{
    int64_t used = number_of(res, F_CONNECTIONS), most = number_of(res, F_CONNECTIONS_MAX);
    bool busy = used * 100 >= most * CONNECTIONS_BUSY_PERCENT;
    EXAM_ADD(e, busy ? LEVEL_WARN : LEVEL_OK, "connections",
             busy ? "raise max_connections; a worker needs two" : NULL,
             "%" PRId64 " of %" PRId64 " in use", used, most);
}

static void on_facts(void *ctx, const PGresult *res, const struct err *err)
{
    struct database *d = ctx;
    if (d->exam->over)
        return;
    if (!res) {
        failed(d, err);
        return;
    }
    look_at_server(d->exam, res);
    look_at_clock(d);
    look_at_connections(d->exam, res);
    d->recorded = is_true(res, F_RECORDED);
    d->readable = is_true(res, F_READABLE);
}

static bool look_at_rights(struct exam *e, const PGresult *res)
{
    static const char mend[] =
        "GRANT provisioner_worker TO this role, or let database.url name the schema's owner";
    if (!is_true(res, R_SCHEMA)) {
        EXAM_ADD(e, LEVEL_BAD, "rights", mend, "the role may not use schema agent_marketplace");
        return false;
    }
    if (!PQgetisnull(res, 0, R_TABLES)) {
        EXAM_ADD(e, LEVEL_BAD, "rights", mend, "the role lacks %s", text_of(res, R_TABLES));
        return false;
    }
    if (number_of(res, R_FUNCTIONS) > 0) {
        EXAM_ADD(e, LEVEL_BAD, "rights", mend, "the role may not call %s of the schema's functions",
                 text_of(res, R_FUNCTIONS));
        return false;
    }
    if (is_true(res, R_BLIND)) {
        EXAM_ADD(e, LEVEL_BAD, "rights", mend,
                 "row-level security hides subscriptions from the role");
        return false;
    }
    if (!is_true(res, R_ROLE)) {
        EXAM_ADD(e, LEVEL_WARN, "rights",
                 "CREATE ROLE provisioner_worker NOLOGIN, then restore "
                 "the grants of migrations/0003_access.sql",
                 "there is no role provisioner_worker: what is needed cannot be told");
        return true;
    }
    EXAM_ADD(e, LEVEL_OK, "rights", NULL, "the role may do what the program needs");
    return true;
}

static void on_rights(void *ctx, const PGresult *res, const struct err *err)
{
    struct database *d = ctx;
    if (d->exam->over)
        return;
    if (!res) {
        failed(d, err);
    } else if (!d->recorded) {
        pending(d, 0, (int)n_migrations);
    } else {
        d->usable = look_at_rights(d->exam, res);
        if (d->readable)
            next_stage(d);
        else
            exam_over(d->exam);
    }
}

/* ---- connections ---- */

static void begin_stage(struct database *d)
{
    switch (d->stage) {
    case STAGE_CATALOGUE:
        d->asked_us = clock_wall_us();
        d->asked_ms = clock_mono_ms();
        ask(d, Q_CLOCK, on_clock);
        ask(d, Q_FACTS, on_facts);
        ask(d, Q_RIGHTS, on_rights);
        return;
    case STAGE_SCHEMA:
        ask(d, Q_APPLIED, on_applied);
        return;
    case STAGE_WORK:
    case STAGE_MAX:
        ask(d, Q_WORKERS, on_workers);
        ask(d, Q_BACKLOG, on_backlog);
        return;
    }
}

static void on_state(void *ctx, bool up, const char *why)
{
    struct database *d = ctx;
    if (d->exam->over)
        return;
    if (up)
        begin_stage(d);
    else
        over(d, LEVEL_BAD, "connection",
             "look at database.url, at the server, and at who may come in (pg_hba.conf)", why);
}

static int connect_stage(struct database *d, struct err *err)
{
    static const struct {
        const struct pg_statement *statements;
        size_t n;
    } of[STAGE_MAX] = {
        [STAGE_CATALOGUE] = {catalogue_statements, ARRAY_LEN(catalogue_statements)},
        [STAGE_SCHEMA] = {schema_statements, ARRAY_LEN(schema_statements)},
        [STAGE_WORK] = {work_statements, ARRAY_LEN(work_statements)},
    };
    const struct doctor *doctor = d->exam->doctor;
    const struct pg_options options = {.url = doctor->config->database_url,
                                       .application = "provisioner doctor",
                                       .statements = of[d->stage].statements,
                                       .n_statements = of[d->stage].n,
                                       .statement_timeout_ms = doctor->timeout_ms,
                                       .on_state = on_state,
                                       .ctx = d};
    d->pg[d->stage] = pg_new(doctor->loop, &options, err);
    return d->pg[d->stage] ? 0 : -1;
}

static int start(struct exam *e, struct err *err)
{
    struct database *d = calloc(1, sizeof(*d));
    struct err why;
    if (!d)
        return err_nomem(err);
    e->state = d;
    d->exam = e;
    if (connect_stage(d, &why) == 0)
        return 0;
    if (why.class == ERR_INTERNAL) {
        *err = why;
        return -1;
    }
    over(d, LEVEL_BAD, "connection", "mend database.url", why.msg);
    return 0;
}

static void stop(struct exam *e)
{
    struct database *d = e->state;
    for (int i = 0; d && i < STAGE_MAX; i++)
        pg_free(d->pg[i]);
    free(d);
    e->state = NULL;
}

const struct exam_class exam_database = {start, stop};
