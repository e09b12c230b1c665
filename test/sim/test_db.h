/*
 * The simulated database held against PostgreSQL: what its test's files share.
 */
#ifndef SIM_TEST_DB_H
#define SIM_TEST_DB_H

#include <libpq-fe.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/rng.h"
#include "db_internal.h"

/* What people ask for counts as statements too. */
enum { T_REPLAY = STATEMENT_MAX, T_PURGE, T_CANCEL, T_PAUSE, T_RESUME, T_MAX };

enum { CALL_STORE = 16 << 10, CALL_PARAMS = 16 };

struct call {
    int statement;
    int n;
    struct pg_param p[CALL_PARAMS];
    char store[CALL_STORE]; /* what p points to */
    size_t used;
};

const char *call_name(int statement);

/* ---- test_db_real.c ---- */

struct real {
    PGconn *conn;
};

/* A private cluster, migrated, whose functions ask a clock that the test sets. -1: said on stderr.
 */
int real_start(struct real *r);
void real_end(struct real *r);
/* Empty tables, sequences from 1. */
int real_reset(struct real *r);
/* Sends the statement, in a transaction of its own, at that time. */
void real_send(struct real *r, const struct call *call, int64_t now_us);
/* What became of the oldest that was sent; whether it notified. PQclear. */
PGresult *real_receive(struct real *r, bool *notified);
/* Alone, when nothing is sent, at the last call's time; notices are forgotten. PQclear. */
PGresult *real_query(struct real *r, const char *sql);

/* ---- test_db_tables.c ---- */

/* Compares every table; false: what differs is on stderr. */
bool tables_equal(struct real *r, const struct db *db);
/* What db.h shows agrees with the rows behind it. */
bool looks_right(const struct db *db);
/* The same cells; JSON by its meaning. any_order: the rows are a set. */
bool results_equal(const PGresult *real, const PGresult *sim, bool any_order);

/* ---- test_db_calls.c ---- */

/* What calls are made about; whoever makes them goes by what the simulated database holds. */
enum { SUBSCRIPTIONS = 9, WORKERS = 4, ORGANIZATIONS = 3 };

struct maker {
    struct rng rng;
    struct db *db;
    int64_t now_us;
    uint64_t made; /* for names that shall be new */
    char subscriptions[SUBSCRIPTIONS][UUID_TEXT];
    char workers[WORKERS][UUID_TEXT];
    char organizations[ORGANIZATIONS][UUID_TEXT];
};

void maker_init(struct maker *m, struct db *db, uint64_t seed);
/* The next call; the clock goes on. */
void make_call(struct maker *m, struct call *call);

/* ---- test_db.c ---- */

enum { EPISODE_CALLS = 1500, BATCH = 50, SEEN_MAX = 512, SEEN_TEXT = 64 };

/* A call that the simulated database has performed and PostgreSQL will. */
struct performed {
    struct call call;
    int64_t now_us;
    PGresult *sim;
    struct err err;
    bool notified, violated;
};

/* Statements with their verdicts, and how often each was met. */
struct seen {
    char what[SEEN_MAX][SEEN_TEXT];
    unsigned times[SEEN_MAX];
    size_t n;
};

struct test {
    struct real real;
    struct maker maker;
    struct db *db;
    uint64_t seed;
    struct performed batch[BATCH];
    struct performed *current;
    size_t compared;
    struct seen seen;
};

/* Both databases anew. */
bool test_begin(struct test *t, uint64_t seed);
/* One call of both, with texts (NULL: SQL NULL) as its parameters; false: they differ. */
bool test_call(struct test *t, int statement, int n, const char *const *values);

/* ---- test_db_scenes.c ---- */

/* What chance does not lead to. */
bool scenes(struct test *t);

/* ---- test_db_speed.c ---- */

/* Says how long so many lives took; the exit status. */
int speed(int lives);

#endif
