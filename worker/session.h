/*
 * What commands on the database share: the configuration, a plain connection, the schema's version,
 * and results as tables or JSON. Failures are said on standard error where they happen.
 */
#ifndef WORKER_SESSION_H
#define WORKER_SESSION_H

#include <libpq-fe.h>

#include "cli.h"
#include "table.h"

enum {
    SESSION_STATEMENT_MS = 60000,           /* no statement of a command takes longer */
    SESSION_OUTPUT_MAX = 256 * 1024 * 1024, /* bytes of one command's output */
};

struct session {
    const struct cli *cli;
    struct config *config;
    PGconn *conn;
};

/* Returns CLI_OK, or the status to return; session_close is right in both cases. */
int session_open(struct session *s, const struct cli *cli);
void session_close(struct session *s);

/* NULL after the error has been said. Names in sql are qualified; values are parameters. */
PGresult *session_query(struct session *s, const char *sql, int n, const char *const *params);
/* The first value of the first row as a number; fallback for NULL and no row. -1: said. */
int session_number(struct session *s, const char *sql, int n, const char *const *params,
                   int64_t fallback, int64_t *out);

/* A result's rows by columns of the same order; borrows both. */
struct table session_table(const PGresult *res, const struct table_column *columns,
                           size_t n_columns);
struct table_view session_view(bool absolute);
/* Prints the result as the command line wants it: one JSON array, or a table; `none` is said (on
 * standard error) in place of an empty table. Clears res. */
int session_list(struct session *s, PGresult *res, const struct table_column *columns,
                 size_t n_columns, const char *none);

/* Says on standard error what operators have paused, a line for each of the first few; nothing
 * where nothing is. */
void session_tell_pauses(struct session *s);

/* A PostgreSQL array's text from strings, "{...}"; NULL when memory ends. free(). */
char *session_array(const char *const *items, size_t n);

/*
 * A subscription by UUID (both forms) or frozen name. 1 found (out is the canonical UUID), 0
 * unknown, -1 failed; the last two have been said.
 */
int session_subscription(struct session *s, const char *text, char out[37]);

/* Filters that `jobs` and `replay` share, from --state, --organization, --error, --since, --limit.
 */
enum { SESSION_FILTERS = 5 };
struct session_filters {
    char *states; /* array text */
    const char
        *values[SESSION_FILTERS]; /* $1 states, $2 organization, $3 error, $4 since, $5 limit */
    char since[32];
    char limit[24];
};
/* CLI_OK, or the status to return after it has been said. */
int session_filters(const struct cli *cli, int64_t limit, struct session_filters *f);
void session_filters_done(struct session_filters *f);
/* The condition on provisioning_job j that takes $1..$4. */
extern const char session_filter_sql[];

#endif
