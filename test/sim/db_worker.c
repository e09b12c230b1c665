/*
 * Workers, and the jobs that go from hand to hand.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "db_internal.h"
#include "store/migrate.h"

enum { RELEASE_MAX = 1000, BACK_MS = 1000 };

static const int64_t forgotten_us = 3600LL * 1000000;

/* ---- a list of jobs ---- */

static void list_add(struct db *db, struct job_row *j)
{
    if (db->n_list == db->cap_list) {
        db->cap_list = db->cap_list ? db->cap_list * 2 : 64;
        db->list = realloc(db->list, db->cap_list * sizeof(*db->list));
        if (!db->list) {
            abort();
        }
    }
    db->list[db->n_list++] = j;
}

static int by_id(const void *a, const void *b)
{
    const struct job_row *const *x = a, *const *y = b;
    return (*x)->pub.id < (*y)->pub.id ? -1 : (*x)->pub.id > (*y)->pub.id;
}

static void list_sort(struct db *db, size_t most)
{
    if (db->n_list > 1) {
        qsort(db->list, db->n_list, sizeof(*db->list), by_id);
    }
    db->n_list = db->n_list < most ? db->n_list : most;
}

static void queue(struct db *db, struct job_row *j, const char *actor, int64_t delay_ms)
{
    const struct move m = {.to = JOB_QUEUED,
                           .actor = actor,
                           .step = STEP_MAX,
                           .attempts = NO_ATTEMPTS,
                           .delay_ms = delay_ms};
    job_move(db, j, &m);
}

/* ---- workers ---- */

static void forget_workers(struct db *db)
{
    for (size_t i = 0; i < db->workers.n; i++) {
        struct worker_row *w = db->workers.rows[i];
        if (!w->gone && w->lease_us < db->now_us - forgotten_us && !w->running) {
            EDIT(db, &w->gone);
            w->gone = true;
        }
    }
}

PGresult *db_worker_register(struct db *db)
{
    char owner[UUID_TEXT];
    int64_t pid, lease_ms;
    const char *host = db_keep(db, 1), *version = db_keep(db, 3);
    if (!db_uuid(db, 0, owner) || !db_i64(db, 2, &pid) || !db_i64(db, 4, &lease_ms)) {
        return NULL;
    }
    forget_workers(db);
    if (!owner[0] || !host || !version) {
        db_refuse(db, "23502", "worker: null");
        return NULL;
    }
    if (db_find_worker(db, owner)) {
        db_refuse(db, "23505", "worker_pkey");
        return NULL;
    }
    struct worker_row *w = db_alloc(db, sizeof(*w));
    *w = (struct worker_row){.host = host,
                             .version = version,
                             .pid = pid,
                             .started_us = db->now_us,
                             .lease_us = db->now_us + lease_ms * 1000};
    str_copy(w->owner, UUID_TEXT, owner);
    db_add(db, &db->workers, w);
    return db_one(db, "");
}

PGresult *db_worker_renew(struct db *db)
{
    char owner[UUID_TEXT];
    int64_t lease_ms;
    if (!db_uuid(db, 0, owner) || !db_i64(db, 1, &lease_ms)) {
        return NULL;
    }
    struct worker_row *w = db_find_worker(db, owner);
    bool good = w && w->lease_us > db->now_us;
    if (good) {
        EDIT(db, &w->lease_us);
        w->lease_us = db->now_us + lease_ms * 1000;
    }
    return db_one(db, good ? "t" : "f");
}

PGresult *db_worker_leave(struct db *db)
{
    char owner[UUID_TEXT];
    if (!db_uuid(db, 0, owner)) {
        return NULL;
    }
    struct worker_row *w = db_find_worker(db, owner);
    db->n_list = 0;
    if (w) {
        for (struct job_row *j = w->running; j; j = j->next) {
            list_add(db, j);
        }
        list_sort(db, SIZE_MAX);
        for (size_t i = 0; i < db->n_list; i++) {
            queue(db, db->list[i], "drain", 0);
        }
        EDIT(db, w);
        w->lease_us = INT64_MIN;
        w->gone = true;
    }
    db->notify = db->n_list > 0;
    return db_one_i64(db, (int64_t)db->n_list);
}

/* ---- claims ---- */

struct claim {
    struct worker_row *owner;
    int64_t limit, share;
    char after[UUID_TEXT];
    int64_t *only;
    size_t n_only; /* SIZE_MAX: all */
    size_t n_dead; /* of the list: they were taken over */
    const cJSON *policy;
    int64_t organization_max, lane_max; /* INT64_MAX: none */
    size_t n_walking;                   /* lanes */
};

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t room(const struct db *db, const struct claim *c)
{
    return c->limit - (int64_t)db->n_list;
}

static void take(struct db *db, const struct claim *c, struct job_row *j, const char *actor)
{
    j->credit = 0;
    const struct move m = {.to = JOB_RUNNING,
                           .actor = actor,
                           .step = STEP_MAX,
                           .attempts = NO_ATTEMPTS,
                           .owner = c->owner};
    job_move(db, j, &m);
}

static bool is_asked_for(const struct claim *c, const struct job_row *j)
{
    for (size_t i = 0; i < c->n_only && c->n_only != SIZE_MAX; i++) {
        if (c->only[i] == j->pub.id) {
            return true;
        }
    }
    return c->n_only == SIZE_MAX;
}

/* The dead worker after this one that has jobs, by owner. */
static struct worker_row *next_dead(const struct db *db, const struct worker_row *after)
{
    struct worker_row *first = NULL;
    for (size_t i = 0; i < db->workers.n; i++) {
        struct worker_row *w = db->workers.rows[i];
        if (!w->gone && w->lease_us <= db->now_us && w->running &&
            (!after || strcmp(w->owner, after->owner) > 0) &&
            (!first || strcmp(w->owner, first->owner) < 0)) {
            first = w;
        }
    }
    return first;
}

/* Worker by worker. PostgreSQL promises no order among the jobs of one: by id. */
static void take_over(struct db *db, struct claim *c)
{
    struct worker_row *w = NULL;
    while (room(db, c) > 0 && (w = next_dead(db, w))) {
        size_t first = db->n_list;
        for (struct job_row *j = w->running; j; j = j->next) {
            if (is_asked_for(c, j)) {
                list_add(db, j);
            }
        }
        qsort(db->list + first, db->n_list - first, sizeof(*db->list), by_id);
        db->n_list = (size_t)least((int64_t)db->n_list, c->limit);
        for (size_t i = first; i < db->n_list; i++) {
            take(db, c, db->list[i], "takeover");
        }
    }
    c->n_dead = db->n_list;
}

static bool is_due(const struct db *db, const struct job_row *j)
{
    return (j->pub.state == JOB_QUEUED || j->pub.state == JOB_RETRYING ||
            j->pub.state == JOB_HELD) &&
           j->pub.next_attempt_at_us <= db->now_us;
}

static void take_asked(struct db *db, const struct claim *c)
{
    for (size_t i = 0; i < c->n_only && room(db, c) > 0; i++) {
        struct job_row *j = db_by_id(&db->jobs, c->only[i]);
        if (j && is_due(db, j) && !job_is_paused(db, j)) {
            take(db, c, j, "claim");
            list_add(db, j);
        }
    }
}

/* ---- the policy ---- */

/* Numbers are numbers there, and whole. */
static int64_t number_in(const cJSON *object, const char *name, int64_t fallback)
{
    const cJSON *item = name ? cJSON_GetObjectItemCaseSensitive(object, name) : NULL;
    return item && cJSON_IsNumber(item) ? (int64_t)item->valuedouble : fallback;
}

static const cJSON *member(const cJSON *object, const char *name)
{
    return cJSON_GetObjectItemCaseSensitive(object, name);
}

static bool read_policy(struct db *db, struct claim *c)
{
    if (!db_json_kept(db, 6, &c->policy)) {
        return false;
    }
    c->organization_max = number_in(c->policy, "organization_max", INT64_MAX);
    c->lane_max = number_in(c->policy, "runtime_max", INT64_MAX);
    return true;
}

/* ---- the walk ---- */

static int64_t policy_room(const struct claim *c, const struct lane *l)
{
    return number_in(member(c->policy, "room"), l->name,
                     number_in(c->policy, "room_else", c->limit));
}

/* lane_due: how many there were. */
static int64_t queue_due(struct db *db, const struct lane *l, enum job_state state, int64_t most)
{
    int64_t n = 0;
    struct job_row *next;
    for (struct job_row *j = db->later.first; j && n < most && is_due(db, j); j = next) {
        next = j->next;
        if (j->lane != l || j->pub.state != state) {
            continue;
        }
        const struct move m = {.to = JOB_QUEUED,
                               .actor = "due",
                               .step = STEP_MAX,
                               .attempts = NO_ATTEMPTS,
                               .error_class = j->pub.error_class,
                               .error = j->pub.error};
        job_move(db, j, &m);
        db->met |= MET_DUE;
        n++;
    }
    return n;
}

/* jobs_due. */
static void queue_all_due(struct db *db, const struct claim *c)
{
    for (size_t i = 0; i < db->n_lanes && db->later.first && is_due(db, db->later.first); i++) {
        struct lane *l = db->lanes[i];
        int64_t left = least(c->limit, policy_room(c, l));
        if (left <= 0 || db_is_paused(db, "all", "") || db_is_paused(db, "runtime", l->name)) {
            continue;
        }
        int64_t half = (left + 1) / 2;
        left -= queue_due(db, l, JOB_HELD,
                          least(half, number_in(member(c->policy, "held"), l->name, half)));
        queue_due(db, l, JOB_RETRYING, left);
    }
}

/* How many more of a lane this claim may take. */
static int64_t lane_room(struct db *db, const struct claim *c, const struct lane *l)
{
    int64_t told = policy_room(c, l);
    int64_t left = c->lane_max == INT64_MAX ? told : c->lane_max - least(l->running, c->lane_max);
    if (told <= 0) {
        db->met |= MET_NO_ROOM;
    } else if (left <= 0) {
        db->met |= MET_LANE_FULL;
    }
    return least(told, left);
}

/* False: no UUID. */
static bool open_lane(struct db *db, struct claim *c, struct lane *l)
{
    const char *at = db_member(db, member(c->policy, "after"), l->name);
    str_copy(l->at, UUID_TEXT, c->after);
    if (at && !uuid_parse(at, strlen(at), l->at)) {
        return db_refuse(db, "22P02", "policy.after is no UUID");
    }
    str_copy(l->first, UUID_TEXT, l->at);
    l->owed = number_in(member(c->policy, "credit"), l->name, 0);
    l->around = false;
    l->walking = true;
    l->rank = ++c->n_walking;
    return true;
}

/* Lanes that are not open walk nowhere. */
static bool open_lanes(struct db *db, struct claim *c)
{
    for (size_t i = 0; i < db->n_lanes; i++) {
        struct lane *l = db->lanes[i];
        l->walking = false;
        l->room = l->ready > 0 ? lane_room(db, c, l) : 0;
        if (l->room <= 0) {
            continue;
        }
        if (db_is_paused(db, "runtime", l->name)) {
            db->met |= MET_PAUSE_LANE;
        } else if (!open_lane(db, c, l)) {
            return false;
        }
    }
    db->met |= c->n_walking > 1 ? MET_LANES : 0;
    return true;
}

/* What organization's turn it is in a lane, and how many it may have; NULL: none's. */
static struct queue *next_turn(struct db *db, struct claim *c, struct lane *l, int64_t *share)
{
    if (l->room <= 0) {
        l->walking = false;
        c->n_walking--;
        return NULL;
    }
    if (l->owed > 0) {
        size_t at = lane_place(l, l->at, false);
        *share = l->owed;
        l->owed = 0;
        db->met |= MET_CREDIT;
        return at < l->n && str_eq(l->queues[at]->organization->uuid, l->at) ? l->queues[at] : NULL;
    }
    size_t i = l->at[0] ? lane_place(l, l->at, true) : 0;
    while (i < l->n && !l->queues[i]->first) {
        i++;
    }
    if (i == l->n && !l->around) {
        l->around = true;
        l->at[0] = '\0';
        return NULL;
    }
    if (i == l->n ||
        (l->around && l->first[0] && strcmp(l->queues[i]->organization->uuid, l->first) > 0)) {
        l->walking = false;
        c->n_walking--;
        return NULL;
    }
    struct queue *q = l->queues[i];
    str_copy(l->at, UUID_TEXT, q->organization->uuid);
    *share = c->share * number_in(member(c->policy, "weights"), q->first->tier, 1);
    db->met |= *share > c->share ? MET_WEIGHT : 0;
    return q;
}

/* How many more of an organization may run: counted once in a claim. */
static int64_t *left_of(struct db *db, const struct claim *c, struct organization *o)
{
    if (o->claim != db->job_claims) {
        o->claim = db->job_claims;
        o->left = c->organization_max == INT64_MAX
                      ? c->limit
                      : c->organization_max - least(o->running, c->organization_max);
    }
    db->met |= o->left <= 0 && c->organization_max != INT64_MAX ? MET_ORGANIZATION_FULL : 0;
    return &o->left;
}

/* How many it took. */
static int64_t serve(struct db *db, const struct claim *c, struct lane *l, struct queue *q,
                     int64_t share)
{
    int64_t *left = left_of(db, c, q->organization), n = 0;
    int64_t most = least(least(share, l->room), least(*left, room(db, c)));
    while (n < most && q->first && is_due(db, q->first)) {
        struct job_row *j = q->first;
        take(db, c, j, "claim");
        j->credit = share - ++n;
        list_add(db, j);
    }
    l->room -= n;
    *left -= n;
    return n;
}

static void add_turn(struct db *db, struct lane *l, struct queue *q, int64_t share)
{
    if (db->n_turns == db->cap_turns) {
        db->cap_turns = db->cap_turns ? db->cap_turns * 2 : 64;
        db->turns = realloc(db->turns, db->cap_turns * sizeof(*db->turns));
        if (!db->turns) {
            abort();
        }
    }
    db->turns[db->n_turns++] = (struct turn){l, q, share};
}

static void visit(struct db *db, struct claim *c, struct lane *l)
{
    int64_t share = 0;
    struct queue *q = next_turn(db, c, l, &share);
    if (!q) {
        return;
    }
    if (db_is_paused(db, "organization", q->organization->uuid)) {
        db->met |= MET_PAUSE_ORGANIZATION;
    } else if (serve(db, c, l, q, share) > 0) {
        add_turn(db, l, q, share);
    }
}

/* Again and again who had something; t counts on from the walk. */
static void go_round(struct db *db, const struct claim *c, size_t t)
{
    bool progress = true;
    while (db->n_turns > 0 && room(db, c) > 0) {
        if (t >= db->n_turns) {
            if (!progress) {
                return;
            }
            progress = false;
            t = 0;
        }
        struct turn *x = &db->turns[t++];
        if (x->share == 0 || x->lane->room <= 0 || *left_of(db, c, x->queue->organization) <= 0) {
            continue;
        }
        if (serve(db, c, x->lane, x->queue, x->share) > 0) {
            progress = true;
            db->met |= MET_ROUND;
        } else {
            x->share = 0;
        }
    }
}

/* Once around in every lane, an organization of each in turn. */
static void walk(struct db *db, struct claim *c)
{
    size_t i = 0, t = 0;
    db->n_turns = 0;
    db->job_claims++;
    queue_all_due(db, c);
    if (db_is_paused(db, "all", "")) {
        db->met |= MET_PAUSE_ALL;
        return;
    }
    if (room(db, c) <= 0 || !open_lanes(db, c)) {
        return;
    }
    while (c->n_walking > 0 && room(db, c) > 0) {
        struct lane *l = db->lanes[i++ % db->n_lanes];
        if (l->walking) {
            t = l->rank;
            visit(db, c, l);
        }
    }
    go_round(db, c, t);
}

static void put_key(struct db *db, PGresult *res, int row, int column, const struct db_bytes *key)
{
    if (key && key->data) {
        char *hex = db_alloc(db, key->len * 2 + 1);
        str_hex(hex, key->data, key->len);
        db_put(res, row, column, hex);
    } else {
        db_put(res, row, column, NULL);
    }
}

static void put_config(struct db *db, PGresult *res, int row, const struct config_row *c)
{
    const char *const texts[] = {c ? c->pub.name : NULL,
                                 c ? c->pub.runtime_name : NULL,
                                 c ? c->pub.workspace_id : NULL,
                                 c ? c->pub.collection_id : NULL,
                                 c ? db_statuses[c->status] : NULL,
                                 c ? c->capabilities : NULL};
    for (int i = 0; i < (int)ARRAY_LEN(texts); i++) {
        db_put(res, row, 15 + i, texts[i]);
    }
    db_put(res, row, 31, c ? c->pub.tenant_id : NULL);
    for (int i = 0; i < PRODUCT_MAX; i++) {
        put_key(db, res, row, 32 + i, c ? &c->keys[i].sealed : NULL);
    }
    db_put(res, row, 34, c ? c->variables : NULL);
    db_put(res, row, 35, c ? (c->variables_due ? c->variables_due : "[]") : NULL);
}

static bool collection_asked(const struct subscription_row *s)
{
    const struct effect_row *e = s->last_effect;
    while (e && !str_eq(e->pub.product, product_name(PRODUCT_RAGFLOW))) {
        e = e->older;
    }
    return e != NULL;
}

static void put_open(const struct db *db, PGresult *res, int row, const struct subscription_row *s)
{
    for (int p = 0; p < PRODUCT_MAX; p++) {
        const struct db_open open = effects_open(db, s, (enum product)p);
        db_put_bool(res, row, 21 + p, open.n > 0);
        db_put_i64(res, row, 23 + 3 * p, open.age_ms);
        db_put_bool(res, row, 24 + 3 * p, open.updating);
        db_put(res, row, 25 + 3 * p, open.deleting);
    }
}

/* Columns in the order of jobs_claim and runtime_recorded; worker/job.c reads them. */
static void put_job(struct db *db, PGresult *res, int row, const struct job_row *j, bool takeover)
{
    db_put_i64(res, row, 0, j->pub.id);
    db_put_i64(res, row, 1, j->pub.fence);
    db_put(res, row, 2, j->pub.subscription);
    db_put(res, row, 3, job_kind_name(j->pub.kind));
    db_put(res, row, 4, job_step_name(j->pub.step));
    db_put_i64(res, row, 5, j->pub.attempts);
    db_put_i64(res, row, 6, db_ms(j->deadline_us - db->now_us));
    db_put_i64(res, row, 7, db_ms(db->now_us - j->created_us));
    db_put_bool(res, row, 8, takeover);
    db_put(res, row, 9, j->organization->uuid);
    db_put(res, row, 10, j->slug);
    db_put(res, row, 11, j->order);
    db_put_i64(res, row, 12, j->pub.generation);
    db_put(res, row, 13, j->traceparent);
    db_put(res, row, 14, j->subscription->pub.spec);
    put_config(db, res, row, j->subscription->config);
    put_open(db, res, row, j->subscription);
    db_put(res, row, 29, j->lane->name);
    db_put_i64(res, row, 30, j->credit);
    db_put_bool(res, row, 36, collection_asked(j->subscription));
}

static void claim(struct db *db, struct claim *c)
{
    db->n_list = 0;
    take_over(db, c);
    if (c->n_only != SIZE_MAX) {
        take_asked(db, c);
    } else if (read_policy(db, c)) {
        walk(db, c);
    }
}

PGresult *db_jobs_claim(struct db *db)
{
    struct claim c = {0};
    char owner[UUID_TEXT];
    db->met = 0;
    if (!db_uuid(db, 0, owner) || !db_i64(db, 1, &c.limit) || !db_uuid(db, 2, c.after) ||
        !db_i64(db, 3, &c.share) || !db_ids(db, 4, &c.only, &c.n_only)) {
        return NULL;
    }
    PGresult *res = db_result(db);
    c.owner = db_find_worker(db, owner);
    if (!c.owner || c.owner->lease_us <= db->now_us) {
        return res;
    }
    claim(db, &c);
    for (size_t i = 0; i < db->n_list; i++) {
        put_job(db, res, (int)i, db->list[i], i < c.n_dead);
    }
    return res;
}

/* Nothing here can keep a job from going back, so none is ever still the worker's. */
PGresult *db_jobs_back(struct db *db)
{
    char owner[UUID_TEXT];
    int64_t *jobs, *fences;
    size_t n, m;
    if (!db_uuid(db, 0, owner) || !db_ids(db, 1, &jobs, &n) || !db_ids(db, 2, &fences, &m)) {
        return NULL;
    }
    db->n_list = 0;
    for (size_t i = 0; n != SIZE_MAX && m != SIZE_MAX && i < n && i < m; i++) {
        struct job_row *j = db_by_id(&db->jobs, jobs[i]);
        if (j && j->pub.fence == fences[i] && j->pub.state == JOB_RUNNING &&
            str_eq(j->pub.owner, owner)) {
            list_add(db, j);
        }
    }
    list_sort(db, SIZE_MAX);
    for (size_t i = 0; i < db->n_list; i++) {
        queue(db, db->list[i], "worker", BACK_MS);
    }
    return db_result(db);
}

/* The one that would come back first; none without a runtime. */
static void list_first_held(struct db *db, const char *runtime)
{
    db->n_list = 0;
    for (struct job_row *j = db->later.first; j && db->n_list == 0; j = j->next) {
        if (runtime && j->pub.state == JOB_HELD && str_eq(j->runtime_name, runtime)) {
            list_add(db, j);
        }
    }
}

static void list_held(struct db *db, const char *runtime, size_t limit)
{
    db->n_list = 0;
    for (struct job_row *j = db->later.first; j; j = j->next) {
        if (j->pub.state == JOB_HELD && (!runtime || str_eq(j->runtime_name, runtime))) {
            list_add(db, j);
        }
    }
    list_sort(db, limit);
}

PGresult *db_jobs_release(struct db *db)
{
    const char *runtime = db_text(db, 0);
    int64_t limit;
    if (!db_i64_or(db, 1, RELEASE_MAX, &limit)) {
        return NULL;
    }
    if (limit == 1) {
        list_first_held(db, runtime);
    } else {
        list_held(db, runtime, limit < RELEASE_MAX ? (size_t)limit : RELEASE_MAX);
    }
    for (size_t i = 0; i < db->n_list; i++) {
        queue(db, db->list[i], "release", 0);
    }
    db->notify = db->n_list > 0;
    PGresult *res = db_result(db);
    db_put(res, 0, 0, runtime);
    db_put_bool(res, 0, 1, db->n_list == RELEASE_MAX);
    return res;
}

static int64_t pauses_of(const struct db *db, const char *scope)
{
    int64_t n = 0;
    for (size_t i = 0; i < db->pauses.n; i++) {
        const struct pause_row *p = db->pauses.rows[i];
        n += !p->gone && str_eq(p->scope, scope);
    }
    return n;
}

/* No statistics were ever gathered here: whatever is beyond `exact` counts as that. */
PGresult *db_counts(struct db *db)
{
    static const char *const scopes[] = {"all", "runtime", "organization", "subscription"};
    int64_t exact;
    if (!db_i64(db, 0, &exact)) {
        return NULL;
    }
    const int64_t *n = db->counts;
    int64_t held = least(n[JOB_HELD], exact), later = least(n[JOB_HELD] + n[JOB_RETRYING], exact);
    const struct {
        const char *what;
        int64_t n;
    } rows[] = {
        {"queued", least(n[JOB_QUEUED] - db->n_stopped, exact) + least(db->n_stopped, exact)},
        {"retrying", later - held},
        {"held", held},
        {"running", n[JOB_RUNNING]},
        {"failed", least(n[JOB_FAILED], exact)},
        {"outbox", least((int64_t)db->outbox_n, exact)}};
    PGresult *res = db_result(db);
    int row = 0;
    for (; row < (int)ARRAY_LEN(rows); row++) {
        db_put(res, row, 0, rows[row].what);
        db_put_i64(res, row, 1, rows[row].n);
    }
    for (size_t i = 0; i < ARRAY_LEN(scopes); i++, row++) {
        char what[32];
        snprintf(what, sizeof(what), "pause.%s", scopes[i]);
        db_put(res, row, 0, what);
        db_put_i64(res, row, 1, pauses_of(db, scopes[i]));
    }
    return res;
}

PGresult *db_schema_version(struct db *db)
{
    return db_one_i64(db, migrate_wanted());
}
