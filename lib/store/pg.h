/*
 * One PostgreSQL connection in pipeline mode on the loop. Statements gather during a turn of the loop and
 * leave together before it sleeps, in groups: one sync, one commit. A statement's callback runs only when
 * its group is committed. A failing statement rolls its group back; the group is then run again singly, so
 * that only the culprit fails. Reconnects by itself.
 */
#ifndef STORE_PG_H
#define STORE_PG_H

#include <libpq-fe.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "net/loop.h"

enum { PG_PARAMS_MAX = 24, PG_GROUP_MAX = 256, PG_GROUPS_IN_FLIGHT = 2, PG_QUEUE_MAX = 200000 };

/* Prepared on every new connection. Table index = the `statement` argument below. */
struct pg_statement {
    const char *name;
    const char *sql;
    int n_params;
};

struct pg;

struct pg_options {
    const char *url;           /* secret */
    const char *application;   /* application_name */
    const struct pg_statement *statements;
    size_t n_statements;
    int64_t statement_timeout_ms;
    /* up: connected and prepared, statements flow. down: lost; `why` is one line without secrets. */
    void (*on_state)(void *ctx, bool up, const char *why);
    void *ctx;
};

/*
 * res: exactly one result, PGRES_TUPLES_OK or PGRES_COMMAND_OK, borrowed; NULL with err set on failure.
 * err->class: ERR_REFUSED a statement that PostgreSQL rejects (sqlstate set); ERR_UNKNOWN the connection went
 * after it was sent, so it may have happened; ERR_UNAVAILABLE it certainly did not.
 */
typedef void pg_done_fn(void *ctx, const PGresult *res, const struct err *err);

struct pg_param {
    const char *value; /* NULL: SQL NULL. Text format, or bytes when len >= 0 */
    int len;           /* -1: a C string in text format */
};

struct pg *pg_new(struct loop *loop, const struct pg_options *options, struct err *err);
/* Outstanding callbacks are dropped. */
void pg_free(struct pg *p);

/*
 * Queues a statement; parameters are copied. lock_key orders statements inside a group (bytewise, stable;
 * NULL first): statements that lock rows pass the subscription's UUID, so that two workers' groups take their
 * row locks in one order and never deadlock. alone: the statement gets a group of its own.
 * Statements with the same lock_key keep their order, within and across groups.
 * -1 and *err only when the queue is full or memory ends; while down, statements fail through the callback
 * with ERR_UNAVAILABLE on the next turn.
 */
int pg_submit(struct pg *p, int statement, const char *lock_key, bool alone, const struct pg_param *params,
              pg_done_fn *done, void *ctx, struct err *err);

bool pg_is_up(const struct pg *p);
size_t pg_outstanding(const struct pg *p);

struct pg_stats {
    uint64_t statements, groups, replays, failures, reconnects;
};
void pg_stats(const struct pg *p, struct pg_stats *out);

/* ---- notifications: a second, plain connection that only LISTENs ---- */

struct pg_listen;
/* channel is a plain identifier. on_notify also runs after every (re)connect, since notices may have been missed. */
struct pg_listen *pg_listen_new(struct loop *loop, const char *url, const char *channel, loop_fn *on_notify,
                                void *ctx, struct err *err);
void pg_listen_free(struct pg_listen *l);

/* ---- plain synchronous use, for commands ---- */

/* Connects within 10 s; NULL and *err without secrets. PQfinish() ends it. */
PGconn *pg_connect(const char *url, const char *application, struct err *err);
/* params: n C strings (NULL is SQL NULL). NULL and *err unless the result is TUPLES_OK or COMMAND_OK. */
PGresult *pg_query(PGconn *conn, const char *sql, int n, const char *const *params, struct err *err);
/* libpq's last message as one line, secrets impossible in it. */
void pg_error_line(const char *message, char *out, size_t size);

#endif
