#include "store/migrate.h"

#include <ctype.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "store/pg.h"
#include "store/pg_internal.h"

/* "provmigr": the same in every version of the program, or two of them would not see each other. */
#define MIGRATE_LOCK "8102661234025391986"
#define MIGRATE_WAIT "60s"

struct run {
    PGconn *conn;
    const struct migration *list;
    size_t n;
    migrate_say_fn *say;
    void *ctx;
};

static int command(PGconn *conn, const char *sql, struct err *err)
{
    PGresult *res = pg_query(conn, sql, 0, NULL, err);
    if (!res)
        return -1;
    PQclear(res);
    return 0;
}

/* ---- where it failed ---- */

static const char *skip_quoted(const char *p, char quote, bool backslashes)
{
    for (p++; *p && *p != quote; p++)
        if (backslashes && *p == '\\' && p[1])
            p++;
    return *p ? p + 1 : p; /* a doubled quote starts the next run, which ends where it should */
}

static const char *skip_block_comment(const char *p)
{
    int depth = 0;
    do {
        if (p[0] == '/' && p[1] == '*') {
            depth++;
            p += 2;
        } else if (p[0] == '*' && p[1] == '/') {
            depth--;
            p += 2;
        } else {
            p++;
        }
    } while (*p && depth > 0);
    return p;
}

/* $tag$ ... $tag$; a lone $ or $1 is passed over. */
static const char *skip_dollar(const char *p)
{
    size_t tag = 1;
    while (isalnum((unsigned char)p[tag]) || p[tag] == '_' || (unsigned char)p[tag] >= 0x80)
        tag++;
    if (p[tag] != '$' || isdigit((unsigned char)p[1]))
        return p + 1;
    tag++;
    for (const char *q = p + tag; *q; q++)
        if (strncmp(q, p, tag) == 0)
            return q + tag;
    return p + strlen(p);
}

static bool is_word(char c)
{
    return isalnum((unsigned char)c) || c == '_' || (unsigned char)c >= 0x80;
}

static const char *skip_word(const char *p)
{
    if ((*p == 'e' || *p == 'E') && p[1] == '\'')
        return skip_quoted(p + 1, '\'', true);
    while (is_word(*p) || *p == '$')
        p++;
    return p;
}

/* Behind the comment, literal, name or character at p; never splits one of them. */
static const char *skip_token(const char *p)
{
    if (p[0] == '-' && p[1] == '-')
        return p + strcspn(p, "\n");
    if (p[0] == '/' && p[1] == '*')
        return skip_block_comment(p);
    if (*p == '\'' || *p == '"')
        return skip_quoted(p, *p, false);
    if (*p == '$')
        return skip_dollar(p);
    if (is_word(*p))
        return skip_word(p);
    return p + 1;
}

static bool is_blank_token(const char *p)
{
    return isspace((unsigned char)*p) || (p[0] == '-' && p[1] == '-') ||
           (p[0] == '/' && p[1] == '*');
}

static int line_at(const char *sql, const char *p)
{
    int line = 1;
    for (; sql < p; sql++)
        line += *sql == '\n';
    return line;
}

int migrate_statement_line(const char *sql, int n)
{
    const char *p = sql;
    bool inside = false; /* a statement; empty ones are none */
    int parens = 0;      /* a rule's actions are separated by semicolons too */
    while (*p) {
        if (*p == ';' && parens == 0) {
            n -= inside;
            inside = false;
        } else if (!is_blank_token(p)) {
            if (!inside && n == 0)
                return line_at(sql, p);
            inside = true;
            parens += (*p == '(') - (*p == ')' && parens > 0);
        }
        p = skip_token(p);
    }
    return line_at(sql, p);
}

/* PostgreSQL counts characters, from 1. */
static int line_of_position(const char *sql, const char *position)
{
    int64_t chars = 0;
    if (!str_to_i64(position, &chars))
        return 1;
    const char *p = sql;
    for (chars--; *p && chars > 0; chars--)
        for (p++; ((unsigned char)*p & 0xc0) == 0x80;)
            p++;
    return line_at(sql, p);
}

/* ---- one file ---- */

static int sql_failed(PGconn *conn, const struct migration *m, const PGresult *res, int statement,
                      struct err *err)
{
    if (PQstatus(conn) != CONNECTION_OK)
        return err_set(err, ERR_UNAVAILABLE, /* its commit had not been sent */
                       "%s: the database connection was lost; run migrate again", m->name);
    const char *position = PQresultErrorField(res, PG_DIAG_STATEMENT_POSITION);
    int line =
        position ? line_of_position(m->sql, position) : migrate_statement_line(m->sql, statement);
    char where[160];
    snprintf(where, sizeof(where), "%s:%d", m->name, line);
    pg_err_from_result(err, res, where);
    return -1;
}

/* The whole file in one simple query, so that the results before the error tell which one failed.
 */
static int execute_file(PGconn *conn, const struct migration *m, struct err *err)
{
    if (!PQsendQuery(conn, m->sql))
        return err_set(err, ERR_UNAVAILABLE, "%s: the database connection is closed", m->name);
    int statement = 0;
    int rc = 0;
    PGresult *res;
    while ((res = PQgetResult(conn)) != NULL) {
        ExecStatusType status = PQresultStatus(res);
        if (status == PGRES_COPY_IN || status == PGRES_COPY_OUT || status == PGRES_COPY_BOTH) {
            /* There is nobody to copy from or to, and PQgetResult would return this for ever. */
            PQclear(res);
            return err_set(err, ERR_INVALID, "%s:%d: a migration cannot COPY", m->name,
                           migrate_statement_line(m->sql, statement));
        }
        if (rc == 0 && status == PGRES_FATAL_ERROR)
            rc = sql_failed(conn, m, res, statement, err);
        statement++;
        PQclear(res);
    }
    if (rc == 0 && PQtransactionStatus(conn) != PQTRANS_INTRANS)
        rc = err_set(err, ERR_INVALID,
                     "%s ends its transaction itself; a migration must not hold BEGIN or COMMIT",
                     m->name);
    return rc;
}

static int record(PGconn *conn, const struct migration *m, const char *checksum, struct err *err)
{
    char version[16];
    snprintf(version, sizeof(version), "%d", m->version);
    const char *params[] = {version, m->name, checksum};
    PGresult *res = pg_query(conn,
                             "insert into agent_marketplace.schema_migration"
                             " (version, name, checksum) values ($1, $2, $3)",
                             3, params, err);
    if (!res)
        return -1;
    PQclear(res);
    return 0;
}

static int apply(PGconn *conn, const struct migration *m, struct err *err)
{
    char checksum[65];
    str_sha256_hex(checksum, m->sql, m->len);
    if (strlen(m->sql) != m->len)
        return err_set(err, ERR_INVALID, "%s holds a NUL byte", m->name);
    if (command(conn, "begin", err) != 0)
        return -1;
    int rc = command(conn, "set local search_path = agent_marketplace, public", err);
    if (rc == 0)
        rc = execute_file(conn, m, err);
    if (rc == 0)
        rc = record(conn, m, checksum, err);
    if (rc == 0) {
        rc = command(conn, "commit", err); /* deferred constraints speak up here */
        if (rc != 0)
            err_prefix(err, "%s: at its commit", m->name);
    }
    if (rc != 0)
        PQclear(PQexec(conn, "rollback"));
    return rc;
}

/* ---- what is there and what is missing ---- */

static int table_exists(PGconn *conn, bool *exists, struct err *err)
{
    PGresult *res = pg_query(
        conn, "select to_regclass('agent_marketplace.schema_migration') is not null", 0, NULL, err);
    if (!res)
        return -1;
    *exists = str_eq(PQgetvalue(res, 0, 0), "t");
    PQclear(res);
    return 0;
}

/* Only where it is missing: "if not exists" asks for the right to create even when there is nothing
 * to do. */
static int ensure_table(PGconn *conn, struct err *err)
{
    static const char *const steps[] = {
        "begin",
        "create schema if not exists agent_marketplace",
        "create table agent_marketplace.schema_migration ("
        " version int primary key, name text not null, checksum text not null,"
        " applied_at timestamptz not null default now())",
        "commit",
    };
    bool exists = false;
    if (table_exists(conn, &exists, err) != 0)
        return -1;
    for (size_t i = 0; !exists && i < ARRAY_LEN(steps); i++) {
        if (command(conn, steps[i], err) != 0) {
            PQclear(PQexec(conn, "rollback"));
            return err_prefix(err, "cannot create agent_marketplace.schema_migration");
        }
    }
    return 0;
}

static int list_check(const struct run *r, struct err *err)
{
    for (size_t i = 0; i < r->n; i++)
        if (r->list[i].version <= (i ? r->list[i - 1].version : 0))
            return err_set(err, ERR_INTERNAL, "%s is not in order of version", r->list[i].name);
    return 0;
}

static int wanted_of(const struct run *r)
{
    return r->n ? r->list[r->n - 1].version : 0;
}

static int row_check(const struct migration *m, const char *checksum, struct err *err)
{
    char ours[65];
    str_sha256_hex(ours, m->sql, m->len);
    if (str_eq(ours, checksum))
        return 0;
    return err_set(err, ERR_CONFLICT,
                   "%s was changed after it was applied; restore it and add a new migration",
                   m->name);
}

/* Both sides in order of version: what is recorded must be a prefix of the list, byte for byte. */
static int rows_check(const struct run *r, const PGresult *rows, size_t *applied, struct err *err)
{
    size_t count = (size_t)PQntuples(rows);
    for (size_t i = 0; i < count; i++) {
        int64_t version = 0;
        (void)str_to_i64(PQgetvalue(rows, (int)i, 0), &version);
        if (version > wanted_of(r))
            return err_set(err, ERR_CONFLICT,
                           "the database's schema is at version %s, newer than this program's %d; "
                           "install the newer program",
                           PQgetvalue(rows, (int)count - 1, 0), wanted_of(r));
        if (i >= r->n || version < r->list[i].version)
            return err_set(err, ERR_CONFLICT,
                           "the database has migration %d (%s), which this program does not know",
                           (int)version, PQgetvalue(rows, (int)i, 1));
        if (version > r->list[i].version)
            return err_set(err, ERR_CONFLICT,
                           "%s was never applied, but a newer one was; give it a newer number",
                           r->list[i].name);
        if (row_check(&r->list[i], PQgetvalue(rows, (int)i, 2), err) != 0)
            return -1;
    }
    *applied = count;
    return 0;
}

const char migrate_rows_sql[] = "select version, name, checksum"
                                " from agent_marketplace.schema_migration order by version";

static int read_applied(const struct run *r, size_t *applied, struct err *err)
{
    bool exists = false;
    if (table_exists(r->conn, &exists, err) != 0)
        return -1;
    if (!exists) {
        *applied = 0;
        return 0;
    }
    PGresult *rows = pg_query(r->conn, migrate_rows_sql, 0, NULL, err);
    if (!rows)
        return -1;
    int rc = rows_check(r, rows, applied, err);
    PQclear(rows);
    return rc;
}

/* ---- the run ---- */

static void tell(const struct run *r, const struct migration *m, bool applied)
{
    if (r->say)
        r->say(r->ctx, m, applied);
}

static struct migrate_report report_of(const struct run *r, size_t applied)
{
    return (struct migrate_report){.pending = (int)(r->n - applied),
                                   .current = applied ? r->list[applied - 1].version : 0};
}

static int check_only(const struct run *r, struct migrate_report *report, struct err *err)
{
    size_t applied = 0;
    if (read_applied(r, &applied, err) != 0)
        return -1;
    for (size_t i = applied; i < r->n; i++)
        tell(r, &r->list[i], false);
    *report = report_of(r, applied);
    return 0;
}

static int apply_missing(const struct run *r, struct migrate_report *report, struct err *err)
{
    size_t before = 0;
    if (ensure_table(r->conn, err) != 0 || read_applied(r, &before, err) != 0)
        return -1;
    for (size_t i = before; i < r->n; i++) {
        if (apply(r->conn, &r->list[i], err) != 0)
            return -1;
        tell(r, &r->list[i], true);
    }
    *report = (struct migrate_report){.applied = (int)(r->n - before), .current = wanted_of(r)};
    return 0;
}

static int lock(PGconn *conn, struct err *err)
{
    /* Also for the files: one that waits for a table's lock would make everybody wait behind it. */
    if (command(conn, "set lock_timeout = '" MIGRATE_WAIT "'", err) != 0 ||
        command(conn, "set statement_timeout = 0", err) != 0)
        return -1;
    if (command(conn, "select pg_advisory_lock(" MIGRATE_LOCK ")", err) == 0)
        return 0;
    if (str_eq(err->sqlstate, "55P03"))
        err_prefix(err, "another migration has been running for " MIGRATE_WAIT "; try again later");
    return -1;
}

/* The lock is the session's; where the connection is gone, so is the lock. */
static void unlock(PGconn *conn)
{
    PQclear(PQexec(conn, "select pg_advisory_unlock(" MIGRATE_LOCK ")"));
    PQclear(PQexec(conn, "reset lock_timeout"));
}

int migrate_run_list(PGconn *conn, const struct migration *list, size_t n, bool check,
                     migrate_say_fn *say, void *ctx, struct migrate_report *report, struct err *err)
{
    struct err unused;
    struct run r = {conn, list, n, say, ctx};
    if (!err)
        err = &unused;
    if (list_check(&r, err) != 0)
        return -1;
    if (check)
        return check_only(&r, report, err);
    if (lock(conn, err) != 0)
        return -1;
    int rc = apply_missing(&r, report, err);
    unlock(conn);
    return rc;
}

int migrate_run(PGconn *conn, bool check, migrate_say_fn *say, void *ctx,
                struct migrate_report *report, struct err *err)
{
    return migrate_run_list(conn, migrations, n_migrations, check, say, ctx, report, err);
}

int migrate_judge(const PGresult *rows, struct migrate_report *report, struct err *err)
{
    const struct run r = {.list = migrations, .n = n_migrations};
    size_t applied = 0;
    if (rows_check(&r, rows, &applied, err) != 0)
        return -1;
    *report = report_of(&r, applied);
    return 0;
}

int migrate_wanted(void)
{
    return n_migrations ? migrations[n_migrations - 1].version : 0;
}
