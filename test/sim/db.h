/*
 * The database of a simulation: the tables of schema agent_marketplace and the worker's statements
 * (worker/statements.h), in memory. Statements mean what the SQL functions in migrations/ mean, to
 * the letter of their results; test/sim/test_db.c drives both with the same random calls and
 * compares results and tables. Each statement is atomic and alone: whoever simulates the connection
 * decides when, and whether, one is performed, and whether its answer arrives.
 */
#ifndef SIM_DB_H
#define SIM_DB_H

#include <libpq-fe.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/uuid.h"
#include "machine/machine.h"
#include "statements.h"

struct db;

struct db_options {
    int64_t (*now_us)(void *ctx);                  /* the server's clock */
    void (*notify)(void *ctx);                     /* pg_notify('provisioner_jobs', ''), at once */
    void (*violated)(void *ctx, const char *what); /* a constraint of the schema, an edge that the
                                                      machine does not have, ...: says which */
    void *ctx;
    bool named; /* results bear their columns' names, which the worker never asks for */
};

/* Empty and migrated. Ends the process where memory ends: this is a test. */
struct db *db_new(const struct db_options *options);
void db_free(struct db *db);

/*
 * Performs one statement as PostgreSQL would: exactly one result (PQclear), or NULL and *err
 * (ERR_REFUSED, sqlstate set), and then nothing has changed but the sequences. Where PostgreSQL may
 * choose, jobs go by id. A parameter that is no value of its type is refused only where it is read.
 */
PGresult *db_exec(struct db *db, enum statement statement, const struct pg_param *params,
                  struct err *err);

/* ---- what people and cron ask for (the SQL functions of the same names) ---- */

/* step NULL: where it failed. Gives the verdict: "queued", "none", "superseded", "bad step". */
const char *db_job_replay(struct db *db, const char *subscription, const char *step,
                          int64_t deadline_ms);
/* Gives the verdict: "cancelled", "cancelling" (it runs), "finished", "none". reason may be NULL.
 */
const char *db_job_cancel(struct db *db, int64_t job, const char *reason, int64_t deadline_ms);
/* target as in scheduling_pause. False: it is paused already, or *err (may be NULL) says no. */
bool db_pause_set(struct db *db, const char *scope, const char *target, struct err *err);
/* False: it was not paused. */
bool db_pause_lift(struct db *db, const char *scope, const char *target);
/* The new job, or 0. */
int64_t db_retention_purge(struct db *db, const char *subscription, int64_t before_us,
                           int64_t deadline_ms);

/* ---- looking (rows are borrowed until the next call that changes anything) ---- */

enum db_wanted { DB_PRESENT, DB_SUSPENDED, DB_ABSENT, DB_PURGED };

struct db_subscription {
    char uuid[UUID_TEXT];
    enum db_wanted wanted;
    int64_t generation, wanted_at_us;
    char order[UUID_TEXT];
    const char *spec; /* JSON, NULL */
};

/* bytea; data NULL: SQL NULL. */
struct db_bytes {
    const unsigned char *data;
    size_t len;
};

struct db_config {
    char subscription[UUID_TEXT];
    const char *name, *runtime_name, *workspace_id, *flow_id, *collection_id, *tenant_id, *api_key,
        *status, *residue; /* NULL: SQL NULL */
    bool rag;
    int64_t archived_at_us; /* 0: NULL */
};

struct db_job {
    int64_t id, fence, generation;
    char subscription[UUID_TEXT], owner[UUID_TEXT]; /* owner "": none */
    enum job_kind kind;
    enum job_state state;
    enum job_step step;
    int attempts;
    int64_t next_attempt_at_us;
    const char *error_class, *error;
};

struct db_effect {
    int64_t id, job, fence;
    int64_t intended_at_us;
    char subscription[UUID_TEXT];
    const char *product, *operation, *method, *target, *request_id, *external_id, *object;
    const char *state; /* intended, done, unknown, refused, not_sent, replaced */
};

struct db_key {
    char subscription[UUID_TEXT];
    const char *prefix;
    bool revoked;
};

/* By position, from 0 on; NULL past the end. The order is that of insertion. */
const struct db_subscription *db_subscription_at(const struct db *db, size_t i);
const struct db_config *db_config_at(const struct db *db, size_t i);
const struct db_job *db_job_at(const struct db *db, size_t i);
const struct db_effect *db_effect_at(const struct db *db, size_t i);
const struct db_key *db_key_at(const struct db *db, size_t i);

/* The API key of the same position: what it hashes to, and itself, sealed. */
struct db_bytes db_key_hash_at(const struct db *db, size_t i);
struct db_bytes db_key_sealed_at(const struct db *db, size_t i);

/* Of one subscription; NULL: none. */
const struct db_subscription *db_subscription(const struct db *db, const char *uuid);
const struct db_config *db_config(const struct db *db, const char *uuid);
/* The sealed key of its account at the product (agent_runtime_key). */
struct db_bytes db_runtime_key(const struct db *db, const char *uuid, enum product product);
const struct db_job *db_live_job(const struct db *db, const char *uuid);
/* The effect whose intent was committed for this X-Request-Id; NULL: none. */
const struct db_effect *db_effect_of(const struct db *db, const char *request_id);
/* When the owner's lease ends by the server's clock; 0: no such worker. */
int64_t db_lease_until_us(const struct db *db, const char *owner);
size_t db_outbox(const struct db *db); /* rows that wait to be published */
/* Since when the subscription's newest job is paused, by the longest of its pauses; 0: it is not.
 */
int64_t db_paused_since_us(const struct db *db, const char *uuid);
/* How many jobs run at most in one lane; else of one organization. */
int64_t db_running_most(const struct db *db, bool lanes);
/* The i-th of the pauses that hold; false: there are fewer. */
bool db_pause_at(const struct db *db, size_t i, const char **scope, const char **target);

#endif
