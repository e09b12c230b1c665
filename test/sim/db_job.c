/*
 * Jobs: the one place where a state changes, what is wanted next, and the guard.
 */
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "db_internal.h"

static const char nil_uuid[] = "00000000-0000-0000-0000-000000000000";

/* Until a time. */
static bool waits(enum job_state s)
{
    return s == JOB_RETRYING || s == JOB_HELD;
}

/* ---- who waits where ---- */

/* Room for one more at `at` of n pointers. */
static void *open_gap(void *list, size_t *n, size_t *cap, size_t at)
{
    void **p = list;
    if (*n == *cap) {
        *cap = *cap ? *cap * 2 : 16;
        p = realloc(list, *cap * sizeof(*p));
        if (!p) {
            abort();
        }
    }
    memmove(p + at + 1, p + at, (*n - at) * sizeof(*p));
    ++*n;
    return p;
}

/* The first place whose organization is not below uuid. */
static size_t organization_place(const struct db *db, const char *uuid)
{
    size_t from = 0, to = db->n_organizations;
    while (from < to) {
        size_t middle = from + (to - from) / 2;
        if (strcmp(db->organizations[middle]->uuid, uuid) < 0) {
            from = middle + 1;
        } else {
            to = middle;
        }
    }
    return from;
}

/* Organizations, lanes and queues are made on first sight; an empty one is as good as none, so that
 * undoing leaves it. */
struct organization *db_organization(struct db *db, const char *uuid)
{
    size_t i = organization_place(db, uuid);
    if (i < db->n_organizations && str_eq(db->organizations[i]->uuid, uuid)) {
        return db->organizations[i];
    }
    db->organizations =
        open_gap(db->organizations, &db->n_organizations, &db->cap_organizations, i);
    struct organization *o = db_alloc(db, sizeof(*o));
    str_copy(o->uuid, UUID_TEXT, uuid);
    db->organizations[i] = o;
    return o;
}

/* By their names' bytes, as the collation C orders them. */
static struct lane *lane_of(struct db *db, const char *name)
{
    size_t i = 0;
    while (i < db->n_lanes && strcmp(db->lanes[i]->name, name) < 0) {
        i++;
    }
    if (i < db->n_lanes && str_eq(db->lanes[i]->name, name)) {
        return db->lanes[i];
    }
    db->lanes = open_gap(db->lanes, &db->n_lanes, &db->cap_lanes, i);
    struct lane *l = db_alloc(db, sizeof(*l));
    l->name = db_dup(db, name);
    db->lanes[i] = l;
    return l;
}

size_t lane_place(const struct lane *l, const char *uuid, bool above)
{
    size_t from = 0, to = l->n;
    while (from < to) {
        size_t middle = from + (to - from) / 2;
        int order = strcmp(l->queues[middle]->organization->uuid, uuid);
        if (order < 0 || (above && order == 0)) {
            from = middle + 1;
        } else {
            to = middle;
        }
    }
    return from;
}

static struct queue *queue_of(struct db *db, struct lane *l, struct organization *o)
{
    size_t i = lane_place(l, o->uuid, false);
    if (i < l->n && l->queues[i]->organization == o) {
        return l->queues[i];
    }
    l->queues = open_gap(l->queues, &l->n, &l->cap, i);
    struct queue *q = db_alloc(db, sizeof(*q));
    q->organization = o;
    l->queues[i] = q;
    return q;
}

static bool comes_after(const struct job_row *a, const struct job_row *b)
{
    return a->pub.next_attempt_at_us != b->pub.next_attempt_at_us
               ? a->pub.next_attempt_at_us > b->pub.next_attempt_at_us
               : a->pub.id > b->pub.id;
}

/* From the end: most jobs wait for a later time than those before. */
static void link_by_time(struct db *db, struct job_row **first, struct job_row **last,
                         struct job_row *j)
{
    struct job_row *before = *last;
    while (before && comes_after(before, j)) {
        before = before->prev;
    }
    struct job_row **forward = before ? &before->next : first;
    struct job_row **back = *forward ? &(*forward)->prev : last;
    j->prev = before;
    j->next = *forward;
    EDIT(db, forward);
    EDIT(db, back);
    *forward = j;
    *back = j;
}

static void unlink_by_time(struct db *db, struct job_row **first, struct job_row **last,
                           const struct job_row *j)
{
    struct job_row **forward = j->prev ? &j->prev->next : first;
    struct job_row **back = j->next ? &j->next->prev : last;
    EDIT(db, forward);
    EDIT(db, back);
    *forward = j->next;
    *back = j->prev;
}

static void count(struct db *db, int64_t *n, int by)
{
    EDIT(db, n);
    *n += by;
}

static void link_ready(struct db *db, struct job_row *j)
{
    j->queue = queue_of(db, j->lane, j->organization);
    link_by_time(db, &j->queue->first, &j->queue->last, j);
    count(db, &j->lane->ready, 1);
}

static void unlink_ready(struct db *db, struct job_row *j)
{
    unlink_by_time(db, &j->queue->first, &j->queue->last, j);
    count(db, &j->lane->ready, -1);
    j->queue = NULL;
}

static void link_running(struct db *db, struct job_row *j)
{
    struct worker_row *w = j->owner;
    j->prev = NULL;
    j->next = w->running;
    if (j->next) {
        EDIT(db, &j->next->prev);
        j->next->prev = j;
    }
    EDIT(db, &w->running);
    w->running = j;
    count(db, &j->lane->running, 1);
    count(db, &j->organization->running, 1);
}

static void unlink_running(struct db *db, const struct job_row *j)
{
    struct job_row **forward = j->prev ? &j->prev->next : &j->owner->running;
    EDIT(db, forward);
    *forward = j->next;
    if (j->next) {
        EDIT(db, &j->next->prev);
        j->next->prev = j->prev;
    }
    count(db, &j->lane->running, -1);
    count(db, &j->organization->running, -1);
}

/* The job itself is being edited. */
static void link_in(struct db *db, struct job_row *j)
{
    count(db, &db->counts[j->pub.state], 1);
    if (j->pub.state == JOB_QUEUED && j->paused) {
        count(db, &db->n_stopped, 1);
    } else if (j->pub.state == JOB_QUEUED) {
        link_ready(db, j);
    } else if (waits(j->pub.state)) {
        link_by_time(db, &db->later.first, &db->later.last, j);
    } else if (j->pub.state == JOB_RUNNING) {
        link_running(db, j);
    }
}

static void link_out(struct db *db, struct job_row *j)
{
    count(db, &db->counts[j->pub.state], -1);
    if (j->pub.state == JOB_QUEUED && j->paused) {
        count(db, &db->n_stopped, -1);
    } else if (j->pub.state == JOB_QUEUED) {
        unlink_ready(db, j);
    } else if (waits(j->pub.state)) {
        unlink_by_time(db, &db->later.first, &db->later.last, j);
    } else if (j->pub.state == JOB_RUNNING) {
        unlink_running(db, j);
    }
}

/* ---- pauses ---- */

bool db_is_paused(const struct db *db, const char *scope, const char *target)
{
    for (size_t i = db->n_pauses > 0 ? db->pauses.n : 0; i-- > 0;) {
        const struct pause_row *p = db->pauses.rows[i];
        if (!p->gone && str_eq(p->scope, scope) && str_eq(p->target, target)) {
            return true;
        }
    }
    return false;
}

bool job_is_paused(const struct db *db, const struct job_row *j)
{
    return db_is_paused(db, "all", "") || db_is_paused(db, "runtime", j->lane->name) ||
           db_is_paused(db, "organization", j->organization->uuid) ||
           db_is_paused(db, "subscription", j->pub.subscription);
}

void job_set_paused(struct db *db, struct job_row *j, bool paused)
{
    EDIT(db, j);
    link_out(db, j);
    j->paused = paused;
    if (!paused && j->pub.next_attempt_at_us < db->now_us) {
        j->pub.next_attempt_at_us = db->now_us;
    }
    link_in(db, j);
}

/* ---- states ---- */

static bool plan_has(enum job_kind kind, enum job_step step)
{
    size_t n;
    const enum job_step *plan = machine_plan(kind, &n);
    for (size_t i = 0; i < n; i++) {
        if (plan[i] == step) {
            return true;
        }
    }
    return false;
}

/* In PostgreSQL's order: the trigger, checks, the unique index, the foreign key. */
static bool move_check(struct db *db, const struct job_row *j, const struct move *m)
{
    const struct job_row *newest = j->subscription->newest;
    enum job_state from = j->pub.state;
    if (from != m->to && !machine_may(from, m->to)) {
        return db_refuse(db, "23514", "an edge that the machine does not have");
    }
    if (m->attempts != NO_ATTEMPTS && m->attempts < 0) {
        return db_refuse(db, "23514", "provisioning_job_attempts_check");
    }
    if (m->to == JOB_FAILED && (!m->error_class || !m->error || !m->error[0])) {
        return db_refuse(db, "23514", "provisioning_job_failed_says_why");
    }
    if (m->to == JOB_RUNNING && !m->owner && !j->owner) {
        return db_refuse(db, "23514", "provisioning_job_running_is_leased");
    }
    if (machine_live(m->to) && j != newest && machine_live(newest->pub.state)) {
        return db_refuse(db, "23505", "provisioning_job_one_live");
    }
    return m->step == STEP_MAX || plan_has(j->pub.kind, m->step) ||
           db_refuse(db, "23503", "provisioning_job: a step that is not of the kind's plan");
}

static void move_audit(struct db *db, const struct job_row *j, const struct move *m)
{
    static const char *const actions[JOB_STATE_MAX] = {
        "job.queued", "job.running",    "job.retrying",  "job.held",
        "job.failed", "job.superseded", "job.succeeded", "job.cancelled"};
    bool step = m->to == JOB_RUNNING && !m->owner;
    db_audit(db, j->pub.subscription, j->organization->uuid, j->pub.id, m->actor,
             step ? "step" : actions[m->to]);
}

static void set_owner(struct job_row *j, const struct move *m)
{
    if (m->owner) {
        j->owner = m->owner;
        j->pub.fence++;
    } else if (m->to != JOB_RUNNING) {
        j->owner = NULL;
    }
    str_copy(j->pub.owner, UUID_TEXT, j->owner ? j->owner->owner : "");
}

bool job_move(struct db *db, struct job_row *j, const struct move *m)
{
    if (!move_check(db, j, m)) {
        return false;
    }
    EDIT(db, j);
    link_out(db, j);
    j->pub.state = m->to;
    j->pub.step = m->step == STEP_MAX ? j->pub.step : m->step;
    j->pub.attempts = m->attempts == NO_ATTEMPTS ? j->pub.attempts : (int)m->attempts;
    if (m->to == JOB_QUEUED || waits(m->to)) {
        j->pub.next_attempt_at_us = db->now_us + m->delay_ms * 1000;
    }
    set_owner(j, m);
    if (m->to != JOB_RUNNING) {
        j->pub.error_class = db_dup(db, m->error_class);
        j->pub.error = db_dup(db, m->error);
    }
    j->finished_us = machine_live(m->to) ? 0 : db->now_us;
    j->updated_us = db->now_us;
    link_in(db, j);
    move_audit(db, j, m);
    return true;
}

static struct job_row *make_job(struct db *db, const struct subscription_row *s, enum job_kind kind,
                                int64_t deadline_ms)
{
    size_t n;
    struct job_row *j = db_alloc(db, sizeof(*j));
    j->pub = (struct db_job){
        .id = ++db->jobs.last_id,
        .generation = s->pub.generation,
        .kind = kind,
        .state = JOB_QUEUED,
        .step = machine_plan(kind, &n)[0],
        .next_attempt_at_us = db->now_us,
    };
    str_copy(j->pub.subscription, UUID_TEXT, s->pub.uuid);
    str_copy(j->order, UUID_TEXT, s->pub.order);
    j->organization = db_organization(db, s->organization ? s->organization : nil_uuid);
    j->slug = s->slug ? s->slug : "";
    j->runtime_name = s->config ? s->config->pub.runtime_name : s->runtime_name;
    j->tier = s->tier;
    j->lane = lane_of(db, j->pub.step == STEP_REVOKE || !j->runtime_name ? "" : j->runtime_name);
    j->paused = db_is_paused(db, "subscription", s->pub.uuid);
    j->older = s->newest;
    j->traceparent = s->traceparent;
    j->deadline_us = db->now_us + deadline_ms * 1000;
    j->created_us = j->updated_us = db->now_us;
    return j;
}

/* KIND_MAX: none. */
static enum job_kind wish_kind(const struct subscription_row *s)
{
    const struct config_row *c = s->config;
    switch (s->pub.wanted) {
    case DB_SUSPENDED:
        return KIND_SUSPEND;
    case DB_ABSENT:
        return s->wish.alive == ALIVE_NULL ? KIND_MAX : KIND_TERMINATE;
    case DB_PURGED:
        return KIND_PURGE;
    case DB_PRESENT:
        break;
    }
    if (c && c->status == STATUS_READY) {
        return KIND_UPDATE;
    }
    bool whole = c && c->pub.workspace_id && c->pub.api_key;
    return whole && c->status == STATUS_SUSPENDED ? KIND_RESUME : KIND_PROVISION;
}

bool job_want(struct db *db, struct subscription_row *s, int64_t deadline_ms)
{
    struct job_row *old = s->newest;
    if (old && old->pub.state == JOB_RUNNING) {
        return true;
    }
    if (old && (machine_live(old->pub.state) || old->pub.state == JOB_FAILED)) {
        const struct move end = {
            .to = JOB_SUPERSEDED, .actor = "inbox", .step = STEP_MAX, .attempts = NO_ATTEMPTS};
        if (!job_move(db, old, &end)) {
            return false;
        }
    }
    enum job_kind kind = wish_kind(s);
    if (kind == KIND_MAX) {
        return true;
    }
    struct job_row *j = make_job(db, s, kind, deadline_ms);
    j->subscription = s;
    EDIT(db, &s->newest);
    s->newest = j;
    db_add(db, &db->jobs, j);
    link_in(db, j);
    db_audit(db, s->pub.uuid, s->organization, j->pub.id, "inbox", "job.queued");
    db->notify = true;
    return true;
}

/* ---- the guard ---- */

const char *db_guard_name(enum guard g)
{
    static const char *const names[] = {"ok", "lost", "superseded", "cancelled", "paused"};
    return names[g];
}

static enum guard supersede(struct db *db, struct job_row *j, int64_t deadline_ms)
{
    const struct move end = {
        .to = JOB_SUPERSEDED, .actor = "worker", .step = STEP_MAX, .attempts = NO_ATTEMPTS};
    return job_move(db, j, &end) && job_want(db, j->subscription, deadline_ms) ? GUARD_SUPERSEDED
                                                                               : GUARD_REFUSED;
}

/* Nobody brings the job to an end now. What works goes on working, what is closed stays so. */
static void tell_cancelled(struct db *db, const struct job_row *j, const char *error)
{
    struct config_row *c = j->subscription->config;
    if (c) {
        EDIT(db, c);
        if (c->status == STATUS_PROVISIONING || c->status == STATUS_TERMINATING) {
            config_status(c, STATUS_FAILED);
        }
        buf_reset(&db->text);
        buf_addf(&db->text, "%s: %s", job_step_name(j->pub.step), error);
        c->status_reason = db_dupn(db, buf_str(&db->text), db->text.len);
        c->updated_us = db->now_us;
    }
    outcome_emit(db, j, "subscription.failed", "cancelled", error);
}

bool job_end_cancelled(struct db *db, struct job_row *j, int64_t deadline_ms)
{
    const struct move m = {.to = JOB_CANCELLED,
                           .actor = j->cancel_actor,
                           .step = STEP_MAX,
                           .attempts = NO_ATTEMPTS,
                           .error_class = "cancelled",
                           .error = j->cancel_error};
    if (!job_move(db, j, &m)) {
        return false;
    }
    j->pub.fence++;
    j->cancel_actor = j->cancel_error = NULL;
    if (j->subscription->pub.generation > j->pub.generation) {
        return job_want(db, j->subscription, deadline_ms);
    }
    tell_cancelled(db, j, m.error);
    return true;
}

static enum guard stand_back(struct db *db, struct job_row *j)
{
    const struct move back = {
        .to = JOB_QUEUED, .actor = "pause", .step = STEP_MAX, .attempts = NO_ATTEMPTS};
    return job_move(db, j, &back) ? GUARD_PAUSED : GUARD_REFUSED;
}

enum guard job_guard(struct db *db, struct job_row **job, bool stop)
{
    int64_t id, fence, deadline_ms;
    char owner[UUID_TEXT];
    *job = NULL;
    if (!db_i64_or(db, 0, 0, &id) || !db_uuid(db, 1, owner) || !db_i64_or(db, 2, -1, &fence) ||
        !db_i64(db, 3, &deadline_ms)) {
        return GUARD_REFUSED;
    }
    struct job_row *j = *job = db_by_id(&db->jobs, id);
    if (!j || j->pub.state != JOB_RUNNING || !str_eq(j->pub.owner, owner) ||
        j->pub.fence != fence) {
        return GUARD_LOST;
    }
    if (j->cancel_error) {
        return job_end_cancelled(db, j, deadline_ms) ? GUARD_CANCELLED : GUARD_REFUSED;
    }
    if (j->subscription->pub.generation > j->pub.generation) {
        return supersede(db, j, deadline_ms);
    }
    return stop && job_is_paused(db, j) ? stand_back(db, j) : GUARD_OK;
}

bool job_advance(struct db *db, struct job_row *j, enum job_step next)
{
    const struct move m = {
        .to = next == STEP_MAX ? JOB_SUCCEEDED : JOB_RUNNING,
        .actor = "worker",
        .step = next,
        .attempts = 0,
    };
    return job_move(db, j, &m);
}

static void change_lane(struct db *db, struct job_row *j, struct lane *lane)
{
    EDIT(db, j);
    count(db, &j->lane->running, -1);
    j->lane = lane;
    count(db, &j->lane->running, 1);
}

bool job_enter(struct db *db, struct job_row *j, enum job_step next, int i, bool *full)
{
    int64_t most;
    struct lane *lane = lane_of(db, j->runtime_name ? j->runtime_name : "");
    if (!db_i64_or(db, i, INT64_MAX, &most)) {
        return false;
    }
    *full = false;
    if (next != STEP_MAX && lane != j->lane) {
        *full = lane->running >= most;
        change_lane(db, j, lane);
    }
    const struct move wait = {.to = JOB_QUEUED, .actor = "worker", .step = next, .attempts = 0};
    return *full ? job_move(db, j, &wait) : job_advance(db, j, next);
}
