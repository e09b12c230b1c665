/*
 * Schema migrations: migrations/NNNN_name.sql, embedded in the program, forward only, checksummed
 * (SHA-256), each in its own transaction, all under one advisory lock. What is applied is recorded
 * in agent_marketplace.schema_migration, which the runner itself creates.
 */
#ifndef STORE_MIGRATE_H
#define STORE_MIGRATE_H

#include <libpq-fe.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

struct migration {
    int version;      /* > 0 */
    const char *name; /* file name */
    const char *sql;  /* sql[len] is NUL; no BEGIN, COMMIT or the like of its own */
    size_t len;
};

/* In order of version; generated at build time from migrations/. */
extern const struct migration migrations[];
extern const size_t n_migrations;

struct migrate_report {
    int applied; /* by this call */
    int pending; /* --check: would be applied */
    int current; /* newest version in the database afterwards; 0 for none */
};

typedef void migrate_say_fn(void *ctx, const struct migration *m, bool applied);

/*
 * Applies what is missing (check: only counts, and writes nothing). say (may be NULL) is called for
 * each file applied or pending. Any number may run at once; the others wait, at most a minute. Each
 * file runs with search_path agent_marketplace, public. Errors: a recorded checksum differs from
 * the file's, a file is missing or older than what is applied, or the database is newer than this
 * program (ERR_CONFLICT); SQL failed (file and line in the message; class and sqlstate from
 * PostgreSQL); another run kept the lock (ERR_UNAVAILABLE). What was applied before an error stays
 * applied; *report is filled on success alone.
 */
int migrate_run(PGconn *conn, bool check, migrate_say_fn *say, void *ctx,
                struct migrate_report *report, struct err *err);

/* The same with another list (in order of version), for tests. */
int migrate_run_list(PGconn *conn, const struct migration *list, size_t n, bool check,
                     migrate_say_fn *say, void *ctx, struct migrate_report *report,
                     struct err *err);

/* What is recorded, for whoever reads it over another kind of connection; the table must exist. */
extern const char migrate_rows_sql[];
/* The rows of that, held against this program's files: *report, or -1 and *err (ERR_CONFLICT). */
int migrate_judge(const PGresult *rows, struct migrate_report *report, struct err *err);

/* The schema version that this program needs. */
int migrate_wanted(void);

/* The line of the n-th (from 0) statement's first word; the last line where there are fewer. */
int migrate_statement_line(const char *sql, int n);

#endif
