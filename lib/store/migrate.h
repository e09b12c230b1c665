/*
 * Schema migrations: migrations/NNNN_name.sql, embedded in the program, forward only, checksummed
 * (SHA-256), each in its own transaction, all under one advisory lock.
 */
#ifndef STORE_MIGRATE_H
#define STORE_MIGRATE_H

#include <libpq-fe.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

struct migration {
    int version;
    const char *name; /* file name */
    const char *sql;
    size_t len;
};

/* In order of version; generated at build time from migrations/. */
extern const struct migration migrations[];
extern const size_t n_migrations;

struct migrate_report {
    int applied;  /* by this call */
    int pending;  /* --check: would be applied */
    int current;  /* newest version in the database afterwards */
};

/*
 * Applies what is missing (check: only counts). say is called for each file applied or pending. Errors: a
 * recorded checksum differs from the file's (ERR_CONFLICT), the database is newer than this program
 * (ERR_CONFLICT), or SQL failed (file and line in the message).
 */
int migrate_run(PGconn *conn, bool check, void (*say)(void *ctx, const struct migration *m, bool applied),
                void *ctx, struct migrate_report *report, struct err *err);

/* The schema version that this program needs. */
int migrate_wanted(void);

#endif
