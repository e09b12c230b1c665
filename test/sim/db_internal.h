/*
 * What the files of the simulated database share. Rows and texts live in an arena until db_free, so
 * that a row is plain bytes: before one is changed db_edit keeps its old bytes, and a statement
 * that is refused gets all of them back. Times are microseconds, 0 is SQL NULL where a column may
 * be NULL.
 */
#ifndef SIM_DB_INTERNAL_H
#define SIM_DB_INTERNAL_H

#include <cjson/cJSON.h>
#include <limits.h>

#include "base/buf.h"
#include "db.h"

enum db_event_verdict { EVENT_APPLIED, EVENT_REPEATED, EVENT_STALE, EVENT_NOTED, EVENT_DUPLICATE };
extern const char *const db_event_verdicts[];

enum db_status {
    STATUS_PROVISIONING,
    STATUS_READY,
    STATUS_FAILED,
    STATUS_SUSPENDED,
    STATUS_TERMINATING,
    STATUS_ARCHIVED,
    STATUS_PURGED,
    STATUS_MAX
};
extern const char *const db_statuses[STATUS_MAX];

enum db_effect_state {
    EFFECT_INTENDED,
    EFFECT_UNKNOWN,
    EFFECT_DONE,
    EFFECT_REFUSED,
    EFFECT_NOT_SENT,
    EFFECT_REPLACED,
    EFFECT_STATE_MAX
};
extern const char *const db_effect_states[EFFECT_STATE_MAX];

extern const char *const db_wanted_names[];

struct job_row;

struct event_row {
    int64_t seq, at_us, received_us, partition, offset; /* partition, offset -1: NULL */
    const char *source, *id, *type, *subscription, *organization, *order, *topic, *traceparent,
        *data;
    enum db_event_verdict verdict;
};

/* What wish_after changes; of the times 0 is NULL. */
struct wish_parts {
    enum db_wanted wanted;
    enum { ALIVE_NULL, ALIVE_FALSE, ALIVE_TRUE } alive;
    bool suspended;
    int64_t alive_at_us, spec_at_us, suspended_at_us;
    const char *spec;
};

struct subscription_row {
    struct db_subscription pub;
    struct wish_parts wish; /* wanted and spec are pub's */
    int64_t event_seq, created_us, updated_us;
    const char *organization, *slug, *traceparent, *runtime_name;
    const char *tier;       /* of the spec's plan */
    struct job_row *newest; /* no other job of it is live or failed: job_want ends them first */
    struct config_row *config;
    struct effect_row *last_effect;
    size_t open_effects;
    struct key_row *live_key;
    uint64_t blocked; /* the claim of the outbox that met a row in other hands */
};

struct runtime_key {
    struct db_bytes sealed;
    int64_t updated_us;
};

struct config_row {
    struct db_config pub;
    enum db_status status;
    const char *organization, *organization_slug, *project, *project_slug, *offering,
        *offering_type, *plan_tier, *capabilities, *variables, *runtime, *run_url, *status_reason,
        *variables_due; /* NULL: none */
    bool updating;
    int64_t ready_us, created_us, updated_us;
    struct runtime_key keys[PRODUCT_MAX];
};

struct organization {
    char uuid[UUID_TEXT];
    int64_t running;
    uint64_t claim; /* the latest that met it */
    int64_t left;   /* how many more may run by that claim */
};

/* The ready jobs of one organization in one lane: by next_attempt_at, id. */
struct queue {
    struct organization *organization;
    struct job_row *first, *last;
};

struct lane {
    const char *name;
    struct queue **queues; /* by organization */
    size_t n, cap;
    int64_t ready, running;
    /* The claim under way: how many more it may take, what the organization at hand may still have,
     * where its walk stands and began (empty: NULL). */
    int64_t room, owed;
    char at[UUID_TEXT], first[UUID_TEXT];
    bool around, walking;
    size_t rank; /* among the open ones, from 1 on */
};

struct pause_row {
    const char *scope, *target;
    int64_t created_us;
    bool gone; /* deleted */
};

struct worker_row {
    char owner[UUID_TEXT];
    const char *host, *version;
    int64_t pid, started_us, lease_us; /* INT64_MIN: -infinity */
    bool gone;                         /* deleted */
    struct job_row *running;
};

struct job_row {
    struct db_job pub;
    struct subscription_row *subscription;
    struct organization *organization;
    struct worker_row *owner;
    struct lane *lane;
    struct queue *queue; /* while it is ready */
    struct job_row *next,
        *prev;             /* in the queue, among those that wait for a time, or the owner's */
    struct job_row *older; /* of the same subscription */
    const char *slug, *runtime_name, *traceparent, *tier;
    const char *cancel_actor, *cancel_error;
    char order[UUID_TEXT];
    int64_t deadline_us, created_us, updated_us, finished_us;
    int64_t credit; /* what the claim under way tells */
    bool paused;
};

struct effect_row {
    struct db_effect pub;
    enum db_effect_state state;
    enum job_step step;
    struct effect_row *older; /* of the same subscription */
    const char *runtime_name, *name, *marker, *sha256, *error_class, *error;
    int64_t http_status, settled_us; /* http_status -1: NULL */
};

struct key_row {
    struct db_key pub;
    int64_t id, created_us, expires_us, revoked_us;
    const char *organization, *permissions, *domains, *rate_limit;
    struct db_bytes hash, sealed;
};

struct outbox_row {
    int64_t id, created_us, claimed_until_us;
    const char *type, *payload;
    char owner[UUID_TEXT];
    struct subscription_row *subscription;
    struct outbox_row *next, *prev;
    bool gone; /* deleted */
};

struct letter_row {
    int64_t id, partition, offset, at_us, value_bytes, received_us, published_us, replays;
    const char *topic, *headers, *pointer, *reason;
    struct db_bytes key, value;
};

struct audit_row {
    const char *subscription, *organization, *actor, *action; /* NULL: SQL NULL */
    int64_t job;                                              /* 0: NULL */
};

/* Rows in the order of insertion, which is that of their ids. */
struct table {
    void **rows;
    size_t n, cap;
    int64_t last_id; /* a sequence: goes on where a statement is refused */
};

/* From a hash to rows. A row that no longer has the key is passed over by whoever compares. */
struct map {
    struct map_slot {
        uint64_t hash;
        void *row;
    } * slots;
    size_t n, cap;
};

enum map_name {
    MAP_SUBSCRIPTIONS,
    MAP_EVENTS,
    MAP_NAMES,
    MAP_WORKSPACES,
    MAP_COLLECTIONS,
    MAP_PREFIXES,
    MAP_HASHES,
    MAP_REQUESTS,
    MAP_LETTERS,
    MAP_MAX
};

struct arena_chunk;

/* Jobs by next_attempt_at, id. */
struct job_list {
    struct job_row *first, *last;
};

/* Who may have more in which lane, and how many in one round. */
struct turn {
    struct lane *lane;
    struct queue *queue;
    int64_t share;
};

/* What a claim's walk met; for the test. */
enum claim_met {
    MET_PAUSE_ALL = 1 << 0,
    MET_PAUSE_LANE = 1 << 1,
    MET_PAUSE_ORGANIZATION = 1 << 2,
    MET_LANE_FULL = 1 << 3,
    MET_NO_ROOM = 1 << 4,
    MET_ORGANIZATION_FULL = 1 << 5,
    MET_WEIGHT = 1 << 6,
    MET_CREDIT = 1 << 7,
    MET_ROUND = 1 << 8,
    MET_LANES = 1 << 9,
    MET_DUE = 1 << 10
};

/* A document that was read, by its text. */
enum { KEPT_MAX = 16 };
struct kept {
    char *text;
    cJSON *tree;
};
void kept_free(struct kept *k);

struct db {
    struct db_options options;
    int64_t now_us;
    struct table events, subscriptions, configs, jobs, effects, keys, workers, outbox, letters,
        audit, pauses;
    struct map maps[MAP_MAX];
    struct organization **organizations; /* by uuid */
    size_t n_organizations, cap_organizations;
    struct lane **lanes; /* by name */
    size_t n_lanes, cap_lanes;
    struct job_list later;       /* that wait for a time */
    int64_t n_pauses, n_stopped; /* stopped: queued, and their subscription is paused */
    struct outbox_row *outbox_first, *outbox_last;
    size_t outbox_n;
    int64_t counts[JOB_STATE_MAX];
    uint64_t outbox_claims, job_claims;
    unsigned met; /* of enum claim_met, by the latest claim */
    /* the statement under way */
    const struct pg_param *params;
    enum statement statement;
    struct err *err;
    bool refused, notify;
    struct undo *undo;
    size_t n_undo, cap_undo;
    unsigned char *old;
    size_t n_old, cap_old;
    struct job_row **list; /* scratch of claims and releases */
    size_t n_list, cap_list;
    struct turn *turns; /* scratch of claims */
    size_t n_turns, cap_turns;
    struct buf text; /* scratch */
    struct kept kept[KEPT_MAX];
    size_t n_kept; /* ever */
    struct arena_chunk *chunks;
    size_t chunk_left;
    char *chunk_at;
};

/* ---- db.c: memory, undoing, finding ---- */

void *db_alloc(struct db *db, size_t size); /* zeroed */
char *db_dup(struct db *db, const char *s); /* NULL for NULL */
char *db_dupn(struct db *db, const char *s, size_t n);
void db_edit(struct db *db, void *p, size_t size);
#define EDIT(db, p) db_edit((db), (p), sizeof(*(p)))
/* Says no: false, for `return db_refuse(...)`. */
bool db_refuse(struct db *db, const char *sqlstate, const char *what);
void db_add(struct db *db, struct table *t, void *row);
/* A row of a table whose rows begin with their int64_t id. */
void *db_by_id(const struct table *t, int64_t id);
uint64_t db_hash(uint64_t seed, const void *p, size_t n);
uint64_t db_hash_text(uint64_t seed, const char *s);
void map_add(struct db *db, enum map_name name, uint64_t hash, void *row);
/* The slots of one hash: *i begins with 0. NULL after the last. */
void *map_next(const struct map *m, uint64_t hash, size_t *i);
struct subscription_row *db_find_subscription(const struct db *db, const char *uuid);
struct worker_row *db_find_worker(const struct db *db, const char *owner);
/* subscription, organization: borrowed texts of rows, NULL: none. */
void db_audit(struct db *db, const char *subscription, const char *organization, int64_t job,
              const char *actor, const char *action);

/* ---- db_value.c: parameters, JSON, results ---- */

bool db_null(const struct db *db, int i);
const char *db_text(struct db *db, int i);       /* borrowed; NULL for NULL */
char *db_keep(struct db *db, int i);             /* the same, kept */
bool db_i64(struct db *db, int i, int64_t *out); /* NULL is refused */
bool db_i64_or(struct db *db, int i, int64_t fallback, int64_t *out);
bool db_uuid(struct db *db, int i, char out[UUID_TEXT]); /* "" for NULL */
bool db_time(struct db *db, int i, int64_t *out);        /* 0 for NULL */
bool db_bytea(struct db *db, int i, struct db_bytes *out);
bool db_step(struct db *db, int i, enum job_step *out); /* STEP_MAX for NULL */
/* cJSON_Delete; NULL for NULL. */
bool db_json(struct db *db, int i, cJSON **out);
/* The same, where few documents come again and again: read once, and the database's. */
bool db_json_kept(struct db *db, int i, const cJSON **out);
/* bigint[]; *n is SIZE_MAX for NULL. *out is the arena's. */
bool db_ids(struct db *db, int i, int64_t **out, size_t *n);

/* jsonb's own text. Sorts the tree. */
char *db_json_text(struct db *db, cJSON *tree);
/* A member as text, as ->> gives it; NULL where there is none or null. */
const char *db_member(struct db *db, const cJSON *object, const char *name);
bool db_member_uuid(struct db *db, const cJSON *object, const char *name, const char **out);
/* text[] as array_to_json prints it; NULL for NULL. has_null (may be NULL): one element is null. */
bool db_member_texts(struct db *db, const cJSON *object, const char *name, const char **out,
                     bool *has_null);
/* Milliseconds, rounded as PostgreSQL rounds. */
int64_t db_ms(int64_t us);

PGresult *db_result(const struct db *db);
void db_put(PGresult *res, int row, int column, const char *value);
void db_put_i64(PGresult *res, int row, int column, int64_t value);
void db_put_bool(PGresult *res, int row, int column, bool value);
/* One row, one column. */
PGresult *db_one(const struct db *db, const char *value);
PGresult *db_one_i64(const struct db *db, int64_t value);

/* ---- db_job.c ---- */

enum { NO_ATTEMPTS = INT_MIN };

/* The arguments of job_transition. */
struct move {
    enum job_state to;
    const char *actor;
    enum job_step step; /* STEP_MAX: as it is */
    int64_t attempts;   /* NO_ATTEMPTS: as they are */
    int64_t delay_ms;
    const char *error_class, *error;
    struct worker_row *owner; /* NULL: as it is */
};

struct organization *db_organization(struct db *db, const char *uuid);
/* The first place in the lane whose organization is not below uuid; above: that is above it. */
size_t lane_place(const struct lane *l, const char *uuid, bool above);
bool job_move(struct db *db, struct job_row *j, const struct move *m);
bool job_want(struct db *db, struct subscription_row *s, int64_t deadline_ms);

void job_set_paused(struct db *db, struct job_row *j, bool paused);
bool job_is_paused(const struct db *db, const struct job_row *j);
bool db_is_paused(const struct db *db, const char *scope, const char *target);

/* What the statements of a running job begin with. */
enum guard { GUARD_OK, GUARD_LOST, GUARD_SUPERSEDED, GUARD_CANCELLED, GUARD_PAUSED, GUARD_REFUSED };
/* Reads job, owner, fence, deadline_ms. *j is NULL where there is no such job. stop false: it is
 * leaving anyway. */
enum guard job_guard(struct db *db, struct job_row **j, bool stop);
const char *db_guard_name(enum guard g);
/* The end that was written down in the row. */
bool job_end_cancelled(struct db *db, struct job_row *j, int64_t deadline_ms);
bool job_advance(struct db *db, struct job_row *j, enum job_step next);
/* Parameter i: how many may run in a lane. *full: it waits its turn there. */
bool job_enter(struct db *db, struct job_row *j, enum job_step next, int i, bool *full);

/* ---- the statements: NULL when refused ---- */

PGresult *db_inbox_take(struct db *db);
PGresult *db_dead_letter_add(struct db *db);
PGresult *db_dead_letter_published(struct db *db);
PGresult *db_worker_register(struct db *db);
PGresult *db_worker_renew(struct db *db);
PGresult *db_worker_leave(struct db *db);
PGresult *db_jobs_claim(struct db *db);
PGresult *db_jobs_back(struct db *db);
PGresult *db_jobs_release(struct db *db);
PGresult *db_counts(struct db *db);
PGresult *db_schema_version(struct db *db);
PGresult *db_step_pass(struct db *db);
PGresult *db_step_name(struct db *db);
PGresult *db_step_resource(struct db *db);
PGresult *db_step_api_key(struct db *db);
PGresult *db_step_ready(struct db *db);
PGresult *db_step_revoke(struct db *db);
PGresult *db_step_refuse(struct db *db);
PGresult *db_step_suspended(struct db *db);
PGresult *db_step_archive(struct db *db);
PGresult *db_job_settle(struct db *db);
PGresult *db_effect_intend(struct db *db);
PGresult *db_effect_settle(struct db *db);
PGresult *db_runtime_keep(struct db *db);
PGresult *db_outbox_claim(struct db *db);
PGresult *db_outbox_done(struct db *db);
PGresult *db_outbox_back(struct db *db);
PGresult *db_outbox_forget(struct db *db);

/* ---- db_config.c ---- */

void config_status(struct config_row *c, enum db_status status);
/* The constraints of agent_config on the row as it now stands. */
bool config_check(struct db *db, struct config_row *c);
enum product db_product(const char *name);
bool runtime_key_keep(struct db *db, struct subscription_row *s, const char *product,
                      struct db_bytes sealed);

/* ---- db_effect.c ---- */

/* What runs before an intent, or with a step's end: every open change of the product gets `state`;
 * operation NULL: whatever it does; external_id NULL: as it is. */
void effects_close(struct db *db, struct subscription_row *s, const char *product,
                   const char *operation, enum db_effect_state state, const char *external_id);

/* What a claim tells of a product's open changes. */
struct db_open {
    int64_t n, age_ms;
    bool updating;
    const char *deleting;
};
struct db_open effects_open(const struct db *db, const struct subscription_row *s,
                            enum product product);

/* ---- db_outbox.c ---- */

void outcome_emit(struct db *db, const struct job_row *j, const char *type, const char *error_class,
                  const char *error);

#endif
