/*
 * One PostgreSQL connection in pipeline mode on the loop. Statements gather during a turn of the
 * loop and leave together before it sleeps, in groups: one sync, one commit. A statement's callback
 * runs only when its group is committed. A failing statement rolls its group back; the group is
 * then run again singly, so that only the culprit fails. Reconnects by itself; only looking a host
 * name up blocks the loop, so a URL should hold an address where the resolver is slow.
 *
 * Order: callbacks run in the order of submission, always. Statements with the same lock_key also
 * execute in that order. Statements with different keys, or none, may execute in another.
 */
#ifndef STORE_PG_H
#define STORE_PG_H

#include <libpq-fe.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "net/loop.h"

enum {
    PG_PARAMS_MAX = 24,
    PG_GROUP_MAX = 256,           /* statements */
    PG_GROUP_BYTES_MAX = 4 << 20, /* of parameters; a larger statement gets a group of its own */
    PG_GROUPS_IN_FLIGHT = 2,
    PG_QUEUE_MAX = 200000,          /* statements outstanding */
    PG_QUEUE_BYTES_MAX = 512 << 20, /* of parameters, outstanding */
    PG_TRIES_MAX = 5                /* of one statement that deadlocks or cannot be serialized */
};

/* Prepared on every new connection. Table index = the `statement` argument below. */
struct pg_statement {
    const char *name;
    const char *sql;
    int n_params;
};

struct pg;

struct pg_options {
    const char *url;                       /* secret */
    const char *application;               /* application_name */
    const struct pg_statement *statements; /* borrowed for the life of struct pg */
    size_t n_statements;
    int64_t statement_timeout_ms; /* > 0; also bounds the wait for a server that says nothing */
    /* How long a row that somebody else keeps locked may hold everything up; 0: as long as a
     * statement may take. */
    int64_t lock_timeout_ms;
    /*
     * up: connected and prepared, statements flow. down: lost, or the first attempt failed; `why`
     * is one line without secrets. Once per change. May submit. NULL: nobody asks.
     */
    void (*on_state)(void *ctx, bool up, const char *why);
    void *ctx;
};

/*
 * res: exactly one result, PGRES_TUPLES_OK or PGRES_COMMAND_OK, borrowed; NULL with err set on
 * failure. err->class: ERR_REFUSED a statement that PostgreSQL rejects (sqlstate set); ERR_UNKNOWN
 * the connection went after it was sent, so it may have happened; ERR_UNAVAILABLE it certainly did
 * not: it was never sent, or the server could not do it now (sqlstate set: time-outs, deadlocks
 * after PG_TRIES_MAX tries, disk full, read-only stand-by, ...). It may pg_submit, but not pg_free.
 */
typedef void pg_done_fn(void *ctx, const PGresult *res, const struct err *err);

struct pg_param {
    const char *value; /* NULL: SQL NULL. Text format, or bytes when len >= 0 */
    int len;           /* -1: a C string in text format */
};

struct pg *pg_new(struct loop *loop, const struct pg_options *options, struct err *err);
/* Outstanding callbacks are dropped. Not to be called from a callback of p's, on_state included. */
void pg_free(struct pg *p);

/*
 * Queues a statement; parameters (as many as the statement has) and lock_key are copied; done may
 * be NULL. lock_key orders statements inside a group (bytewise, stable; NULL first): statements
 * that lock rows pass the subscription's UUID, so that two workers' groups take their row locks in
 * one order and never deadlock. alone: the statement gets a group of its own. Statements with the
 * same lock_key keep their order, within and across groups, also when a group is run again. -1 and
 * *err only when the queue is full or memory ends; while down, statements fail through the callback
 * with ERR_UNAVAILABLE on the next turn.
 */
int pg_submit(struct pg *p, int statement, const char *lock_key, bool alone,
              const struct pg_param *params, pg_done_fn *done, void *ctx, struct err *err);

bool pg_is_up(const struct pg *p);
/* While down: why the last attempt failed, one line without secrets; borrowed until the next turn.
 */
const char *pg_why(const struct pg *p);
/* Submitted, callback not yet run. */
size_t pg_outstanding(const struct pg *p);

struct pg_stats {
    uint64_t statements; /* committed */
    uint64_t groups;     /* syncs that came back, replays included */
    uint64_t replays;    /* groups that were rolled back and run again singly */
    uint64_t failures;   /* statements whose callback got an error */
    uint64_t reconnects; /* connections made after the first */
};
void pg_stats(const struct pg *p, struct pg_stats *out);

/* ---- notifications: a second, plain connection that only LISTENs ---- */

struct pg_listen;
/*
 * channel is a plain lower-case identifier. on_notify also runs after every (re)connect, since
 * notices may have been missed. Several notices that arrive together make one call. It must not
 * call pg_listen_free.
 */
struct pg_listen *pg_listen_new(struct loop *loop, const char *url, const char *channel,
                                loop_fn *on_notify, void *ctx, struct err *err);
void pg_listen_free(struct pg_listen *l);

/* ---- plain synchronous use, for commands ---- */

/*
 * Connects within 10 s; NULL and *err without secrets. The session is set up as struct pg's are
 * (search_path agent_marketplace, public; UTC; ISO dates), but has no statement_timeout. PQfinish()
 * ends it.
 */
PGconn *pg_connect(const char *url, const char *application, struct err *err);
/*
 * params: n C strings (NULL is SQL NULL). NULL and *err unless the result is TUPLES_OK or
 * COMMAND_OK; classes as in pg_done_fn.
 */
PGresult *pg_query(PGconn *conn, const char *sql, int n, const char *const *params,
                   struct err *err);
/* libpq's last message as one line, secrets impossible in it. */
void pg_error_line(const char *message, char *out, size_t size);

#endif
