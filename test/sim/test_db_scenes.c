/*
 * What chance does not lead to: thousands of organizations, and rows that no statement makes.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/str.h"
#include "test_db.h"

enum { CROWD = 4100, HELD = 1001, SCENE_SEED = 0 };

static const char nil_uuid[] = "00000000-0000-0000-0000-000000000000";
static const char deadline_ms[] = "3600000";

#define CALL(t, statement, ...)                                                                    \
    test_call((t), (statement), sizeof((const char *[]){__VA_ARGS__}) / sizeof(const char *),      \
              (const char *[]){__VA_ARGS__})

/* Many calls at once are one query for PostgreSQL. */
static bool run(struct test *t, const char *sql)
{
    PGresult *res = real_query(&t->real, sql);
    bool fine = PQresultStatus(res) == PGRES_TUPLES_OK || PQresultStatus(res) == PGRES_COMMAND_OK;
    if (!fine) {
        fprintf(stderr, "%s: %s\n", sql, PQresultErrorMessage(res));
    }
    PQclear(res);
    return fine;
}

static bool simulate(struct test *t, enum statement statement, int n, const char *const *values)
{
    struct pg_param p[CALL_PARAMS];
    struct err err;
    for (int i = 0; i < n; i++) {
        p[i] = (struct pg_param){values[i], -1};
    }
    PGresult *res = db_exec(t->db, statement, p, &err);
    PQclear(res);
    return res != NULL;
}

#define SIMULATE(t, statement, ...)                                                                \
    simulate((t), (statement), sizeof((const char *[]){__VA_ARGS__}) / sizeof(const char *),       \
             (const char *[]){__VA_ARGS__})

static void uuid_of(char out[UUID_TEXT], int i)
{
    snprintf(out, UUID_TEXT, "%08x-0000-4000-8000-000000000000", (unsigned)i);
}

/* What as many events leave behind, without PostgreSQL's doing it 4100 times. */
static const char arrived[] =
    "with n as (select i, (lpad(to_hex(i), 8, '0') || '-0000-4000-8000-000000000000')::uuid as u,"
    "           '00000000-0000-0000-0000-000000000000'::uuid as nil,"
    "           '2026-01-01T00:00:00Z'::timestamptz as t from generate_series(1, 4100) i),"
    " s as (insert into subscription (uuid, wanted, wanted_at, event_seq, order_uuid,"
    "       organization_uuid, spec, alive, alive_at, spec_at, suspended_at)"
    "       select u, 'present', t, i, nil, u, '{}', true, t, t, t from n),"
    " e as (insert into subscription_event (source, event_id, type, subscription_uuid,"
    "       organization_uuid, order_uuid, event_time, verdict, data)"
    "       select '/crowd', i, 'subscription.created', u, u, nil, t, 'applied', '{}' from n"
    "       order by i),"
    " j as (insert into provisioning_job (subscription_uuid, organization_uuid, order_uuid, kind,"
    "       generation, step, deadline_at) select u, u, nil, 'provision', 1, 'name',"
    "       sim_clock.now() + interval '1 hour' from n order by i)"
    "insert into audit_log (subscription_uuid, organization_uuid, job_id, actor, action)"
    " select u, u, nullif(k * i, 0), 'inbox', case k when 0 then 'event.applied' else 'job.queued'"
    " end from n, generate_series(0, 1) k order by i, k";

/* Subscription and organization have the same UUID; the order is the nil one. */
static bool arrive(struct test *t)
{
    char uuid[UUID_TEXT], id[24];
    bool fine = true;
    for (int i = 1; i <= CROWD && fine; i++) {
        uuid_of(uuid, i);
        snprintf(id, sizeof(id), "%d", i);
        fine = SIMULATE(t, S_INBOX_TAKE, "/crowd", id, "subscription.created", uuid, uuid, nil_uuid,
                        "2026-01-01T00:00:00Z", "{}", NULL, NULL, NULL, NULL, deadline_ms, NULL);
    }
    return fine && run(t, arrived);
}

/* All running jobs go over into held. */
static bool hold(struct test *t)
{
    char id[24], fence[24];
    bool fine = true;
    for (size_t i = 0; i < t->db->jobs.n && fine; i++) {
        const struct job_row *j = t->db->jobs.rows[i];
        if (j->pub.state == JOB_RUNNING) {
            snprintf(id, sizeof(id), "%" PRId64, j->pub.id);
            snprintf(fence, sizeof(fence), "%" PRId64, j->pub.fence);
            fine = SIMULATE(t, S_JOB_SETTLE, id, t->maker.workers[0], fence, deadline_ms, "held",
                            "0", "0", "unauthorized", "401");
        }
    }
    return fine && run(t, "select job_settle(id, lease_owner, fence, 3600000, 'held', 0, 0,"
                          " 'unauthorized', '401') from (select * from provisioning_job"
                          " where state = 'running' order by id) j");
}

static bool claim(struct test *t, const char *limit, const char *share, const char *careful)
{
    return CALL(t, S_JOBS_CLAIM, t->maker.workers[0], limit, nil_uuid, share, NULL, careful, "{}");
}

static bool add_worker(struct test *t)
{
    return CALL(t, S_WORKER_REGISTER, t->maker.workers[0], "host", "1", "0.1.0", "15000");
}

static bool order(struct test *t, const char *id, const char *type, const char *uuid)
{
    char time[CLOCK_TEXT_MAX];
    clock_format(time, t->maker.now_us);
    return CALL(t, S_INBOX_TAKE, "/scene", id, type, uuid, uuid, nil_uuid, time, "{}", NULL, NULL,
                NULL, NULL, deadline_ms, NULL);
}

/* Of thousands of organizations each has its turn; 1000 held jobs are released at once. */
static bool crowd(struct test *t)
{
    bool same = test_begin(t, SCENE_SEED);
    int64_t today_us = t->maker.now_us;
    t->maker.now_us += 10 * 1000000;
    same = same && add_worker(t) && arrive(t) && tables_equal(&t->real, t->db);
    t->maker.now_us = today_us;
    same = same && claim(t, "5", "1", "f") &&
           order(t, "1", "subscription.created", "ffffffff-0000-4000-8000-000000000000");
    t->maker.now_us += 1000;
    same = same && order(t, "2", "subscription.created", "fffffffe-0000-4000-8000-000000000000");
    same = same && claim(t, "1", "1", "f") && claim(t, "5", "1", "f") && claim(t, "5", "1", "f");
    t->maker.now_us += 11 * 1000000;
    same = same && claim(t, "1001", "1", "t") && hold(t) && CALL(t, S_COUNTS, "1000000");
    t->maker.now_us += 1000;
    same = same && CALL(t, S_JOBS_RELEASE, NULL, NULL);
    t->maker.now_us += 1000;
    same = same && CALL(t, S_JOBS_RELEASE, NULL, NULL);
    return same && tables_equal(&t->real, t->db);
}

/* ---- what a job writes once a newer wish is there ---- */

#define NEXT(step) "3600000", step

static const struct {
    enum statement statement;
    int n;
    const char *values[10]; /* behind job, owner and fence */
} late[] = {
    {S_STEP_PASS, 2, {NEXT("announce")}},
    {S_STEP_NAME, 7, {NEXT("announce"), "n", "shared", "alpha", "{}", NULL}},
    {S_STEP_RESOURCE, 6, {NEXT("workspace"), "ragflow", "x", "{\"residue\":\"r\"}", NULL}},
    {S_STEP_API_KEY, 6, {NEXT("record"), "pk_live_00000000", "\\x00", "\\x00", "{}"}},
    {S_STEP_READY, 2, {NEXT("report")}},
    {S_STEP_REVOKE, 3, {NEXT(NULL), NULL}},
    {S_STEP_REFUSE, 3, {NEXT(NULL), NULL}},
    {S_STEP_SUSPENDED, 2, {NEXT("report")}},
    {S_STEP_ARCHIVE, 2, {NEXT(NULL)}},
    {S_JOB_SETTLE, 6, {NEXT("failed"), "0", "0", "refused", "no"}},
    {S_EFFECT_INTEND,
     10,
     {NEXT("langflow"), "create", "POST", "/", "n", "m", "sha", "request", NULL}},
    {S_RUNTIME_KEEP, 5, {NEXT("langflow"), "x", NULL, NULL}},
};

static bool write_late(struct test *t, size_t i)
{
    char id[24], job[24], uuid[UUID_TEXT];
    const char *values[CALL_PARAMS] = {job, t->maker.workers[0], "1"};
    uuid_of(uuid, (int)i + 1);
    snprintf(id, sizeof(id), "%zu", 2 * i);
    bool same = order(t, id, "subscription.created", uuid) && claim(t, "1", "1", "f");
    snprintf(id, sizeof(id), "%zu", 2 * i + 1);
    same = same && order(t, id, "subscription.terminated", uuid);
    if (!same) {
        return false;
    }
    snprintf(job, sizeof(job), "%" PRId64, db_live_job(t->db, uuid)->id);
    for (int k = 0; k < late[i].n; k++) {
        values[3 + k] = late[i].values[k];
    }
    same = test_call(t, late[i].statement, 3 + late[i].n, values);
    /* Taken too, so that the next claim finds the next order. */
    t->maker.now_us += 1000;
    return same && claim(t, "1", "1", "f");
}

static bool superseded(struct test *t)
{
    bool same = test_begin(t, SCENE_SEED) && add_worker(t);
    for (size_t i = 0; i < ARRAY_LEN(late) && same; i++) {
        same = write_late(t, i);
    }
    return same && tables_equal(&t->real, t->db);
}

/* A failed job of an older generation: statements end it with the newer wish. */
static bool stale_failure(struct test *t)
{
    bool same = test_begin(t, SCENE_SEED) && add_worker(t);
    const char *uuid = t->maker.subscriptions[0];
    same = same && order(t, "1", "subscription.created", uuid) && claim(t, "1", "1", "f") &&
           CALL(t, S_JOB_SETTLE, "1", t->maker.workers[0], "1", deadline_ms, "failed", "0", "0",
                "refused", "no") &&
           run(t, "update subscription set generation = generation + 1");
    if (!same) {
        return false;
    }
    db_find_subscription(t->db, uuid)->pub.generation++;
    return CALL(t, T_REPLAY, uuid, NULL, deadline_ms);
}

bool scenes(struct test *t)
{
    return stale_failure(t) && superseded(t) && crowd(t);
}
