/*
 * The steps that only move a subscription on, and a job's other ends.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "db_internal.h"

/* Writes what the step writes; false when refused. */
typedef bool step_fn(struct db *db, struct job_row *j);

static PGresult *step(struct db *db, step_fn *write)
{
    struct job_row *j;
    enum job_step next;
    enum guard guard = job_guard(db, &j, true);
    if (guard == GUARD_OK && db_step(db, 4, &next) && write(db, j)) {
        job_advance(db, j, next);
    }
    return db->refused ? NULL : db_one(db, db_guard_name(guard));
}

static bool pass(struct db *db, struct job_row *j)
{
    (void)db;
    (void)j;
    return true;
}

PGresult *db_step_pass(struct db *db)
{
    return step(db, pass);
}

static bool ready(struct db *db, struct job_row *j)
{
    struct config_row *c = j->subscription->config;
    if (c) {
        EDIT(db, c);
        c->ready_us = c->status == STATUS_READY && c->ready_us ? c->ready_us : db->now_us;
        config_status(c, STATUS_READY);
        c->status_reason = NULL;
        c->updating = false;
        c->pub.archived_at_us = 0;
        c->updated_us = db->now_us;
        if (!config_check(db, c)) {
            return false;
        }
    }
    outcome_emit(db, j, "subscription.ready", NULL, NULL);
    return true;
}

PGresult *db_step_ready(struct db *db)
{
    return step(db, ready);
}

static bool revoke(struct db *db, struct job_row *j)
{
    struct subscription_row *s = j->subscription;
    struct key_row *k = s->live_key;
    if (k) {
        EDIT(db, k);
        EDIT(db, &s->live_key);
        k->revoked_us = db->now_us;
        k->pub.revoked = true;
        s->live_key = NULL;
        db_audit(db, s->pub.uuid, k->organization, j->pub.id, "worker", "api_key.revoked");
    }
    if (s->config) {
        EDIT(db, s->config);
        config_status(s->config, STATUS_TERMINATING);
        s->config->status_reason = NULL;
        s->config->pub.api_key = NULL;
        s->config->updated_us = db->now_us;
    }
    return true;
}

static bool refuse(struct db *db, struct job_row *j)
{
    struct config_row *c = j->subscription->config;
    if (c) {
        EDIT(db, c);
        config_status(c, STATUS_SUSPENDED);
        c->status_reason = NULL;
        c->pub.archived_at_us = 0;
        c->updated_us = db->now_us;
    }
    return true;
}

static PGresult *step_and_enter(struct db *db, step_fn *write)
{
    struct job_row *j;
    enum job_step next;
    bool full = false;
    enum guard guard = job_guard(db, &j, true);
    if (guard == GUARD_OK && db_step(db, 4, &next) && write(db, j)) {
        job_enter(db, j, next, 5, &full);
    }
    return db->refused ? NULL : db_one(db, full ? "queued" : db_guard_name(guard));
}

PGresult *db_step_revoke(struct db *db)
{
    return step_and_enter(db, revoke);
}

PGresult *db_step_refuse(struct db *db)
{
    return step_and_enter(db, refuse);
}

static bool suspended(struct db *db, struct job_row *j)
{
    outcome_emit(db, j, "subscription.paused", NULL, NULL);
    return true;
}

PGresult *db_step_suspended(struct db *db)
{
    return step(db, suspended);
}

static bool archive(struct db *db, struct job_row *j)
{
    struct config_row *c = j->subscription->config;
    if (c) {
        EDIT(db, c);
        config_status(c, c->pub.workspace_id ? STATUS_ARCHIVED : STATUS_PURGED);
        c->status_reason = NULL;
        c->pub.archived_at_us = c->pub.archived_at_us ? c->pub.archived_at_us : db->now_us;
        c->updated_us = db->now_us;
        if (!config_check(db, c)) {
            return false;
        }
    }
    bool archived = c && c->status == STATUS_ARCHIVED;
    outcome_emit(db, j, archived ? "subscription.archived" : "subscription.purged", NULL, NULL);
    return true;
}

PGresult *db_step_archive(struct db *db)
{
    return step(db, archive);
}

/* ---- job_settle ---- */

static const char *reason_of(struct db *db, const struct job_row *j)
{
    const char *step_name = job_step_name(j->pub.step);
    size_t size = strlen(step_name) + strlen(j->pub.error) + 3;
    char *text = db_alloc(db, size);
    snprintf(text, size, "%s: %s", step_name, j->pub.error);
    return text;
}

/* A subscription that works goes on working, one that is shut stays so. */
static void tell_failure(struct db *db, struct job_row *j)
{
    struct config_row *c = j->subscription->config;
    if (c) {
        EDIT(db, c);
        if (c->status != STATUS_READY && c->status != STATUS_ARCHIVED &&
            c->status != STATUS_SUSPENDED) {
            config_status(c, STATUS_FAILED);
        }
        c->status_reason = reason_of(db, j);
        c->updated_us = db->now_us;
    }
    outcome_emit(db, j, "subscription.failed", j->pub.error_class, j->pub.error);
}

static bool settle(struct db *db, struct job_row *j)
{
    const char *to = db_text(db, 4);
    struct move m = {.to = job_state_parse(to),
                     .actor = "worker",
                     .step = STEP_MAX,
                     .error_class = db_text(db, 7),
                     .error = db_text(db, 8)};
    if (m.to == JOB_STATE_MAX) {
        return db_refuse(db, "22P02", "a parameter is no job_state");
    }
    if (!db_i64_or(db, 5, NO_ATTEMPTS, &m.attempts) || !db_i64(db, 6, &m.delay_ms) ||
        !job_move(db, j, &m)) {
        return false;
    }
    if (m.to == JOB_FAILED) {
        tell_failure(db, j);
    }
    return true;
}

PGresult *db_job_settle(struct db *db)
{
    struct job_row *j;
    enum guard guard = job_guard(db, &j, false);
    if (guard == GUARD_OK) {
        settle(db, j);
    }
    return db->refused ? NULL : db_one(db, db_guard_name(guard));
}
