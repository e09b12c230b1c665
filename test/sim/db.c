/*
 * The simulated database itself: its memory, what undoes a refused statement, and looking.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "db_internal.h"

enum {
    CHUNK_BYTES = 256 << 10,
    ALIGNMENT = 16,
    MAP_FIRST = 256,
    MAP_ROOM = 16, /* more than a statement adds to one map */
    TEXT_MAX = 64 << 20
};

struct arena_chunk {
    struct arena_chunk *next;
    _Alignas(ALIGNMENT) char bytes[];
};

/* The bytes from `old` on belong at `at`. */
struct undo {
    void *at;
    size_t size, old;
};

static void *checked(void *p)
{
    if (!p) {
        fputs("the simulated database: out of memory\n", stderr);
        abort();
    }
    return p;
}

/* ---- memory ---- */

static void add_chunk(struct db *db, size_t size)
{
    struct arena_chunk *chunk = checked(malloc(sizeof(*chunk) + size));
    chunk->next = db->chunks;
    db->chunks = chunk;
    db->chunk_at = chunk->bytes;
    db->chunk_left = size;
}

void *db_alloc(struct db *db, size_t size)
{
    size = (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    if (size > db->chunk_left) {
        add_chunk(db, size > CHUNK_BYTES ? size : CHUNK_BYTES);
    }
    void *p = db->chunk_at;
    db->chunk_at += size;
    db->chunk_left -= size;
    return memset(p, 0, size);
}

char *db_dupn(struct db *db, const char *s, size_t n)
{
    char *copy = db_alloc(db, n + 1);
    memcpy(copy, s, n);
    return copy;
}

char *db_dup(struct db *db, const char *s)
{
    return s ? db_dupn(db, s, strlen(s)) : NULL;
}

/* ---- undoing ---- */

void db_edit(struct db *db, void *p, size_t size)
{
    if (db->n_undo == db->cap_undo) {
        db->cap_undo = db->cap_undo ? db->cap_undo * 2 : 64;
        db->undo = checked(realloc(db->undo, db->cap_undo * sizeof(*db->undo)));
    }
    while (db->n_old + size > db->cap_old) {
        db->cap_old = db->cap_old ? db->cap_old * 2 : 16 << 10;
        db->old = checked(realloc(db->old, db->cap_old));
    }
    memcpy(db->old + db->n_old, p, size);
    db->undo[db->n_undo++] = (struct undo){p, size, db->n_old};
    db->n_old += size;
}

static void undo_all(struct db *db)
{
    while (db->n_undo > 0) {
        const struct undo *u = &db->undo[--db->n_undo];
        memcpy(u->at, db->old + u->old, u->size);
    }
}

bool db_refuse(struct db *db, const char *sqlstate, const char *what)
{
    if (!db->refused) {
        db->refused = true;
        err_set(db->err, ERR_REFUSED, "%s", what);
        if (db->err) {
            str_copy(db->err->sqlstate, sizeof(db->err->sqlstate), sqlstate);
        }
        if (db->options.violated) {
            db->options.violated(db->options.ctx, what);
        }
    }
    return false;
}

/* ---- tables ---- */

void db_add(struct db *db, struct table *t, void *row)
{
    if (t->n == t->cap) {
        t->cap = t->cap ? t->cap * 2 : 64;
        t->rows = checked(realloc(t->rows, t->cap * sizeof(*t->rows)));
    }
    EDIT(db, &t->n);
    t->rows[t->n++] = row;
}

static int64_t id_of(const void *row)
{
    int64_t id;
    memcpy(&id, row, sizeof(id));
    return id;
}

void *db_by_id(const struct table *t, int64_t id)
{
    size_t from = 0, to = t->n;
    while (from < to) {
        size_t middle = from + (to - from) / 2;
        int64_t here = id_of(t->rows[middle]);
        if (here == id) {
            return t->rows[middle];
        }
        if (here < id) {
            from = middle + 1;
        } else {
            to = middle;
        }
    }
    return NULL;
}

/* FNV-1a, then mixed, as the tables use its low bits. */
uint64_t db_hash(uint64_t seed, const void *p, size_t n)
{
    const unsigned char *bytes = p;
    uint64_t h = seed ^ 0xcbf29ce484222325u;
    for (size_t i = 0; i < n; i++) {
        h = (h ^ bytes[i]) * 0x100000001b3u;
    }
    return h ^ (h >> 29);
}

uint64_t db_hash_text(uint64_t seed, const char *s)
{
    return db_hash(seed, s, strlen(s));
}

static void place(struct map *m, struct map_slot slot)
{
    size_t i = slot.hash & (m->cap - 1);
    while (m->slots[i].row) {
        i = (i + 1) & (m->cap - 1);
    }
    m->slots[i] = slot;
}

static void grow(struct map *m)
{
    struct map_slot *old = m->slots;
    size_t n = m->cap;
    m->cap = n ? n * 2 : MAP_FIRST;
    m->slots = checked(calloc(m->cap, sizeof(*m->slots)));
    for (size_t i = 0; i < n; i++) {
        if (old[i].row) {
            place(m, old[i]);
        }
    }
    free(old);
}

void map_add(struct db *db, enum map_name name, uint64_t hash, void *row)
{
    struct map *m = &db->maps[name];
    size_t i = hash & (m->cap - 1);
    while (m->slots[i].row) {
        if (m->slots[i].hash == hash && m->slots[i].row == row) {
            return;
        }
        i = (i + 1) & (m->cap - 1);
    }
    EDIT(db, &m->slots[i]);
    EDIT(db, &m->n);
    m->slots[i] = (struct map_slot){hash, row};
    m->n++;
}

void *map_next(const struct map *m, uint64_t hash, size_t *i)
{
    for (;; ++*i) {
        const struct map_slot *slot = &m->slots[(hash + *i) & (m->cap - 1)];
        if (!slot->row) {
            return NULL;
        }
        if (slot->hash == hash) {
            ++*i;
            return slot->row;
        }
    }
}

void db_audit(struct db *db, const char *subscription, const char *organization, int64_t job,
              const char *actor, const char *action)
{
    struct audit_row *a = db_alloc(db, sizeof(*a));
    *a = (struct audit_row){subscription, organization, actor, action, job};
    db_add(db, &db->audit, a);
}

/* ---- the database ---- */

struct db *db_new(const struct db_options *options)
{
    struct db *db = checked(calloc(1, sizeof(*db)));
    db->options = *options;
    buf_init(&db->text, TEXT_MAX);
    for (int i = 0; i < MAP_MAX; i++) {
        grow(&db->maps[i]);
    }
    return db;
}

static void free_tables(struct db *db)
{
    struct table *const tables[] = {&db->events,  &db->subscriptions, &db->configs, &db->jobs,
                                    &db->effects, &db->keys,          &db->workers, &db->outbox,
                                    &db->letters, &db->audit,         &db->pauses};
    for (size_t i = 0; i < ARRAY_LEN(tables); i++) {
        free(tables[i]->rows);
    }
    for (int i = 0; i < MAP_MAX; i++) {
        free(db->maps[i].slots);
    }
    for (size_t i = 0; i < db->n_lanes; i++) {
        free(db->lanes[i]->queues);
    }
    free(db->lanes);
}

void db_free(struct db *db)
{
    if (!db) {
        return;
    }
    free_tables(db);
    while (db->chunks) {
        struct arena_chunk *next = db->chunks->next;
        free(db->chunks);
        db->chunks = next;
    }
    free(db->organizations);
    free(db->turns);
    for (size_t i = 0; i < KEPT_MAX; i++) {
        kept_free(&db->kept[i]);
    }
    free(db->undo);
    free(db->old);
    free(db->list);
    buf_done(&db->text);
    free(db);
}

typedef PGresult *statement_fn(struct db *db);

static statement_fn *const functions[STATEMENT_MAX] = {
    [S_INBOX_TAKE] = db_inbox_take,
    [S_DEAD_LETTER_ADD] = db_dead_letter_add,
    [S_DEAD_LETTER_PUBLISHED] = db_dead_letter_published,
    [S_WORKER_REGISTER] = db_worker_register,
    [S_WORKER_RENEW] = db_worker_renew,
    [S_WORKER_LEAVE] = db_worker_leave,
    [S_JOBS_CLAIM] = db_jobs_claim,
    [S_JOBS_BACK] = db_jobs_back,
    [S_STEP_PASS] = db_step_pass,
    [S_STEP_NAME] = db_step_name,
    [S_STEP_RESOURCE] = db_step_resource,
    [S_STEP_API_KEY] = db_step_api_key,
    [S_STEP_READY] = db_step_ready,
    [S_STEP_REVOKE] = db_step_revoke,
    [S_STEP_REFUSE] = db_step_refuse,
    [S_STEP_SUSPENDED] = db_step_suspended,
    [S_STEP_ARCHIVE] = db_step_archive,
    [S_JOB_SETTLE] = db_job_settle,
    [S_EFFECT_INTEND] = db_effect_intend,
    [S_EFFECT_SETTLE] = db_effect_settle,
    [S_RUNTIME_KEEP] = db_runtime_keep,
    [S_JOBS_RELEASE] = db_jobs_release,
    [S_OUTBOX_CLAIM] = db_outbox_claim,
    [S_OUTBOX_DONE] = db_outbox_done,
    [S_OUTBOX_BACK] = db_outbox_back,
    [S_OUTBOX_FORGET] = db_outbox_forget,
    [S_COUNTS] = db_counts,
    [S_SCHEMA_VERSION] = db_schema_version,
};

/* Maps grow here alone: undoing knows their slots by address. */
static void begin(struct db *db, struct err *err)
{
    db->now_us = db->options.now_us(db->options.ctx);
    db->err = err;
    db->refused = false;
    db->notify = false;
    db->n_undo = 0;
    db->n_old = 0;
    for (int i = 0; i < MAP_MAX; i++) {
        if ((db->maps[i].n + MAP_ROOM) * 2 > db->maps[i].cap) {
            grow(&db->maps[i]);
        }
    }
}

/* False where the statement was refused: then it never was. */
static bool commit(struct db *db)
{
    if (db->refused) {
        undo_all(db);
    } else if (db->notify && db->options.notify) {
        db->options.notify(db->options.ctx);
    }
    return !db->refused;
}

PGresult *db_exec(struct db *db, enum statement statement, const struct pg_param *params,
                  struct err *err)
{
    begin(db, err);
    db->params = params;
    db->statement = statement;
    PGresult *res = functions[statement](db);
    if (!commit(db)) {
        PQclear(res);
        return NULL;
    }
    return checked(res);
}

/* ---- what people and cron ask for ---- */

static bool step_is_reached(const struct job_row *j, enum job_step step)
{
    size_t n;
    const enum job_step *plan = machine_plan(j->pub.kind, &n);
    for (size_t i = 0; i < n; i++) {
        if (plan[i] == step) {
            return true;
        }
        if (plan[i] == j->pub.step) {
            return false;
        }
    }
    return false;
}

/* The latest that may run again. */
static struct job_row *ended_job(const struct subscription_row *s)
{
    struct job_row *j = s ? s->newest : NULL;
    while (j && j->pub.state != JOB_FAILED && j->pub.state != JOB_CANCELLED) {
        j = j->older;
    }
    return j;
}

static const char *replay(struct db *db, const char *subscription, const char *step_name,
                          int64_t deadline_ms)
{
    static const enum db_status again[KIND_MAX] = {
        [KIND_PROVISION] = STATUS_PROVISIONING, [KIND_UPDATE] = STATUS_PROVISIONING,
        [KIND_SUSPEND] = STATUS_SUSPENDED,      [KIND_RESUME] = STATUS_PROVISIONING,
        [KIND_TERMINATE] = STATUS_TERMINATING,  [KIND_PURGE] = STATUS_TERMINATING};
    struct subscription_row *s = db_find_subscription(db, subscription);
    struct job_row *j = ended_job(s);
    if (!j) {
        return "none";
    }
    if (s->pub.generation != j->pub.generation) {
        return "superseded";
    }
    enum job_step step = step_name ? job_step_parse(step_name) : j->pub.step;
    if (!step_is_reached(j, step)) {
        return "bad step";
    }
    EDIT(db, j);
    j->deadline_us = db->now_us + deadline_ms * 1000;
    const struct move m = {
        .to = JOB_QUEUED, .actor = "replay", .step = step, .attempts = 0, .delay_ms = 0};
    if (job_move(db, j, &m) && s->config && s->config->status == STATUS_FAILED) {
        EDIT(db, s->config);
        config_status(s->config, again[j->pub.kind]);
        s->config->status_reason = NULL;
        s->config->updated_us = db->now_us;
    }
    db->notify = true;
    return "queued";
}

const char *db_job_replay(struct db *db, const char *subscription, const char *step,
                          int64_t deadline_ms)
{
    begin(db, NULL);
    const char *verdict = replay(db, subscription, step, deadline_ms);
    return commit(db) ? verdict : "refused";
}

static const char *cancelled_text(struct db *db, const char *reason)
{
    buf_reset(&db->text);
    buf_addf(&db->text, "cancelled%s%s", reason ? ": " : "", reason ? reason : "");
    return db_dupn(db, buf_str(&db->text), db->text.len);
}

static const char *cancel(struct db *db, int64_t job, const char *reason, int64_t deadline_ms)
{
    struct job_row *j = db_by_id(&db->jobs, job);
    if (!j) {
        return "none";
    }
    if (!machine_live(j->pub.state)) {
        return "finished";
    }
    EDIT(db, j);
    j->cancel_actor = "cancel";
    j->cancel_error = cancelled_text(db, reason);
    if (j->pub.state != JOB_RUNNING) {
        return job_end_cancelled(db, j, deadline_ms) ? "cancelled" : "refused";
    }
    db_audit(db, j->pub.subscription, j->organization->uuid, job, "cancel", "job.cancelling");
    return "cancelling";
}

const char *db_job_cancel(struct db *db, int64_t job, const char *reason, int64_t deadline_ms)
{
    begin(db, NULL);
    const char *verdict = cancel(db, job, reason, deadline_ms);
    return commit(db) ? verdict : "refused";
}

/* ---- pauses ---- */

static struct pause_row *find_pause(const struct db *db, const char *scope, const char *target)
{
    for (size_t i = db->pauses.n; i-- > 0;) {
        struct pause_row *p = db->pauses.rows[i];
        if (!p->gone && str_eq(p->scope, scope) && str_eq(p->target, target)) {
            return p;
        }
    }
    return NULL;
}

/* What pause_set and pause_lift tell of: its subscription's jobs, and the audit. */
static void mark_paused(struct db *db, const char *scope, const char *target, bool paused)
{
    struct subscription_row *s =
        str_eq(scope, "subscription") ? db_find_subscription(db, target) : NULL;
    for (struct job_row *j = s ? s->newest : NULL; j; j = j->older) {
        if (j->paused != paused) {
            job_set_paused(db, j, paused);
        }
    }
    db_audit(db, s ? s->pub.uuid : NULL,
             s                               ? s->organization
             : str_eq(scope, "organization") ? db_dup(db, target)
                                             : NULL,
             0, paused ? "pause" : "resume", paused ? "pause" : "resume");
}

static bool pause_set(struct db *db, const char *scope, const char *target)
{
    if (str_eq(scope, "subscription") && !db_find_subscription(db, target)) {
        return db_refuse(db, "P0002", "a pause of no subscription");
    }
    if (find_pause(db, scope, target)) {
        return false;
    }
    struct pause_row *p = db_alloc(db, sizeof(*p));
    *p = (struct pause_row){
        .scope = db_dup(db, scope), .target = db_dup(db, target), .created_us = db->now_us};
    db_add(db, &db->pauses, p);
    EDIT(db, &db->n_pauses);
    db->n_pauses++;
    mark_paused(db, scope, target, true);
    return true;
}

bool db_pause_set(struct db *db, const char *scope, const char *target, struct err *err)
{
    begin(db, err);
    bool set = pause_set(db, scope, target);
    return commit(db) && set;
}

bool db_pause_lift(struct db *db, const char *scope, const char *target)
{
    begin(db, NULL);
    struct pause_row *p = find_pause(db, scope, target);
    if (!p) {
        return false;
    }
    EDIT(db, p);
    EDIT(db, &db->n_pauses);
    p->gone = true;
    db->n_pauses--;
    mark_paused(db, scope, target, false);
    db->notify = true;
    return commit(db);
}

static bool may_purge(const struct subscription_row *s, int64_t before_us)
{
    if (!s || (s->pub.wanted != DB_ABSENT && s->pub.wanted != DB_PURGED) || !s->config) {
        return false;
    }
    return s->config->status == STATUS_ARCHIVED && s->config->pub.archived_at_us <= before_us &&
           !(s->newest && machine_live(s->newest->pub.state));
}

int64_t db_retention_purge(struct db *db, const char *subscription, int64_t before_us,
                           int64_t deadline_ms)
{
    begin(db, NULL);
    struct subscription_row *s = db_find_subscription(db, subscription);
    if (!may_purge(s, before_us)) {
        return 0;
    }
    EDIT(db, s);
    s->pub.wanted = s->wish.wanted = DB_PURGED;
    s->pub.generation++;
    s->updated_us = db->now_us;
    job_want(db, s, deadline_ms);
    return commit(db) ? s->newest->pub.id : 0;
}

/* ---- looking ---- */

struct subscription_row *db_find_subscription(const struct db *db, const char *uuid)
{
    size_t i = 0;
    struct subscription_row *s;
    uint64_t hash = db_hash_text(0, uuid);
    while ((s = map_next(&db->maps[MAP_SUBSCRIPTIONS], hash, &i)) && !str_eq(s->pub.uuid, uuid)) {
    }
    return s;
}

struct worker_row *db_find_worker(const struct db *db, const char *owner)
{
    for (size_t i = db->workers.n; i-- > 0;) {
        struct worker_row *w = db->workers.rows[i];
        if (!w->gone && str_eq(w->owner, owner)) {
            return w;
        }
    }
    return NULL;
}

static const void *at(const struct table *t, size_t i)
{
    return i < t->n ? t->rows[i] : NULL;
}

/* The public part is the first of its row. */
const struct db_subscription *db_subscription_at(const struct db *db, size_t i)
{
    return at(&db->subscriptions, i);
}

const struct db_config *db_config_at(const struct db *db, size_t i)
{
    return at(&db->configs, i);
}

const struct db_job *db_job_at(const struct db *db, size_t i)
{
    return at(&db->jobs, i);
}

const struct db_effect *db_effect_at(const struct db *db, size_t i)
{
    return at(&db->effects, i);
}

const struct db_key *db_key_at(const struct db *db, size_t i)
{
    return at(&db->keys, i);
}

struct db_bytes db_key_hash_at(const struct db *db, size_t i)
{
    return ((const struct key_row *)db->keys.rows[i])->hash;
}

struct db_bytes db_key_sealed_at(const struct db *db, size_t i)
{
    return ((const struct key_row *)db->keys.rows[i])->sealed;
}

struct db_bytes db_runtime_key(const struct db *db, const char *uuid, enum product product)
{
    const struct subscription_row *s = db_find_subscription(db, uuid);
    return s && s->config ? s->config->keys[product].sealed : (struct db_bytes){0};
}

const struct db_subscription *db_subscription(const struct db *db, const char *uuid)
{
    const struct subscription_row *s = db_find_subscription(db, uuid);
    return s ? &s->pub : NULL;
}

const struct db_config *db_config(const struct db *db, const char *uuid)
{
    const struct subscription_row *s = db_find_subscription(db, uuid);
    return s && s->config ? &s->config->pub : NULL;
}

const struct db_job *db_live_job(const struct db *db, const char *uuid)
{
    const struct subscription_row *s = db_find_subscription(db, uuid);
    return s && s->newest && machine_live(s->newest->pub.state) ? &s->newest->pub : NULL;
}

const struct db_effect *db_effect_of(const struct db *db, const char *request_id)
{
    size_t i = 0;
    const struct effect_row *e;
    uint64_t hash = db_hash_text(0, request_id);
    while ((e = map_next(&db->maps[MAP_REQUESTS], hash, &i)) &&
           !str_eq(e->pub.request_id, request_id)) {
    }
    return e ? &e->pub : NULL;
}

int64_t db_lease_until_us(const struct db *db, const char *owner)
{
    const struct worker_row *w = db_find_worker(db, owner);
    return w ? w->lease_us : 0;
}

int64_t db_paused_since_us(const struct db *db, const char *uuid)
{
    const struct subscription_row *s = db_find_subscription(db, uuid);
    int64_t since = 0;
    for (size_t i = 0; s && s->newest && db->n_pauses > 0 && i < db->pauses.n; i++) {
        const struct pause_row *p = db->pauses.rows[i];
        const char *target = str_eq(p->scope, "all")            ? ""
                             : str_eq(p->scope, "runtime")      ? s->newest->lane->name
                             : str_eq(p->scope, "organization") ? s->newest->organization->uuid
                                                                : uuid;
        if (!p->gone && str_eq(p->target, target) && (!since || p->created_us < since)) {
            since = p->created_us;
        }
    }
    return since;
}

int64_t db_running_most(const struct db *db, bool lanes)
{
    int64_t most = 0;
    for (size_t i = 0; i < (lanes ? db->n_lanes : db->n_organizations); i++) {
        int64_t n = lanes ? db->lanes[i]->running : db->organizations[i]->running;
        most = n > most ? n : most;
    }
    return most;
}

bool db_pause_at(const struct db *db, size_t i, const char **scope, const char **target)
{
    const struct pause_row *p;
    size_t k = 0;
    do {
        if (k == db->pauses.n) {
            return false;
        }
        p = db->pauses.rows[k++];
    } while (p->gone || i-- > 0);
    *scope = p->scope;
    *target = p->target;
    return true;
}

size_t db_outbox(const struct db *db)
{
    return db->outbox_n;
}
