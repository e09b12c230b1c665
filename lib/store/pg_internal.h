/*
 * What the files of lib/store share about libpq: session settings, errors, and dialling: one
 * connection that is made and made again on the loop. For lib/store alone.
 */
#ifndef STORE_PG_INTERNAL_H
#define STORE_PG_INTERNAL_H

#include <libpq-fe.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/rng.h"
#include "net/loop.h"

enum {
    PG_CONNECT_MS = 10000, /* one attempt, set-up included */
    PG_SILENCE_MS = 5000,  /* beyond what statement_timeout allows */
    PG_BACKOFF_MIN_MS = 100,
    PG_BACKOFF_MAX_MS = 2000,
    PG_STEADY_MS = 5000, /* a connection that lasted this long starts the backoff anew */
    PG_TICK_MS = 1000,   /* how often `tick` is called while settled */
    PG_APPLICATION_MAX = 64
};

/*
 * Sets a session up the same everywhere: text formats do not depend on the server's configuration.
 * $1 is statement_timeout, $2 lock_timeout, in milliseconds as text, "0" for none.
 */
extern const char pg_session_sql[];

/* conninfo keywords and values for PQconnect*Params with expand_dbname. */
enum { PG_KEYWORDS_MAX = 12 };
struct pg_conninfo {
    const char *keywords[PG_KEYWORDS_MAX];
    const char *values[PG_KEYWORDS_MAX];
};
void pg_conninfo_fill(struct pg_conninfo *c, const char *url, const char *application);

/* ERR_INVALID, without quoting it, when libpq cannot read the URL. */
int pg_url_check(const char *url, struct err *err);

/* libpq prints notices on standard error unless told otherwise. */
void pg_notices_off(PGconn *conn);

/* What a SQLSTATE means for the caller; the statement itself did not happen unless ERR_UNKNOWN. */
enum err_class pg_class_of(const char *sqlstate);
/* Deadlock or serialization failure: the same statement may succeed when run again. */
bool pg_is_retryable(const char *sqlstate);
/* The session's prepared statement is gone, or the schema outgrew it: connecting anew mends it. */
bool pg_is_stale(const PGresult *res);
/* Class, sqlstate and words of a failed result; its DETAIL, which quotes data, is left out. */
void pg_err_from_result(struct err *err, const PGresult *res, const char *what);
/* The result's SQLSTATE, "" where it has none. */
const char *pg_sqlstate(const PGresult *res);

/* ---- dialling ---- */

struct pg_dial {
    struct loop *loop;
    char *url; /* secret */
    char application[PG_APPLICATION_MAX];
    PGconn *conn;    /* NULL between attempts */
    int fd;          /* watched descriptor, -1 */
    uint32_t events; /* watched for */
    bool settled;
    unsigned attempts; /* since the last steady connection */
    int64_t settled_ms;
    struct loop_timer timer; /* always set: backoff, then the attempt's deadline, then the tick */
    struct rng rng;
    /* Connected, nothing is watched: the owner watches and calls pg_dial_settle when set up. */
    void (*connected)(void *ctx);
    /* The connection, or the attempt, is gone; the next attempt is timed. why is one line. */
    void (*lost)(void *ctx, const char *why);
    void (*tick)(void *ctx); /* may be NULL */
    void *ctx;
};

/* url, application, loop and the callbacks are set by the caller; the rest starts zeroed. */
int pg_dial_start(struct pg_dial *d, struct loop *loop, const char *url, const char *application,
                  struct err *err);
void pg_dial_done(struct pg_dial *d);
/* Watches the connection's descriptor (anew); on failure the connection is dropped and -1 returned.
 */
int pg_dial_watch(struct pg_dial *d, uint32_t events, loop_fd_fn *fn, void *ctx);
void pg_dial_settle(struct pg_dial *d);
/* Closes the connection, times the next attempt, calls lost. why: one line, NULL for libpq's words.
 */
void pg_dial_drop(struct pg_dial *d, const char *why);

#endif
