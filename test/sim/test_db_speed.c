/*
 * How fast the simulated database is: whole lives of subscriptions, from the order to the archive,
 * with the statements that a worker sends for them.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/str.h"
#include "test_db.h"

static const char owner[] = "11111111-1111-4111-8111-111111111111";
static const char order[] = "22222222-2222-4222-8222-222222222222";
static const char nil_uuid[] = "00000000-0000-0000-0000-000000000000";
static const char deadline_ms[] = "3600000";
static const char trace[] = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
static const char spec[] =
    "{\"organization\":{\"uuid\":\"33333333-3333-4333-8333-333333333333\",\"slug\":\"uni\"},"
    "\"project\":{\"uuid\":\"44444444-4444-4444-8444-444444444444\",\"slug\":\"physics\"},"
    "\"offering\":{\"uuid\":\"55555555-5555-4555-8555-555555555555\",\"type\":\"Agent\"},"
    "\"plan\":{\"tier\":\"pro\"},\"capabilities\":[\"chat\",\"rag\"],"
    "\"variables\":{\"model\":\"small\",\"temperature\":0.7},"
    "\"api_key\":{\"permissions\":[\"chat\"],\"allowed_domains\":[\"example.org\"]}}";
static const char config[] =
    "{\"organization_uuid\":\"33333333-3333-4333-8333-333333333333\",\"organization_slug\":\"uni\","
    "\"project_uuid\":\"44444444-4444-4444-8444-444444444444\",\"project_slug\":\"physics\","
    "\"offering_uuid\":\"55555555-5555-4555-8555-555555555555\",\"offering_type\":\"Agent\","
    "\"plan_tier\":\"pro\",\"capabilities\":[\"chat\",\"rag\"],\"variables\":{\"model\":\"small\"}"
    "}";
static const char terms[] =
    "{\"permissions\":[\"chat\"],\"allowed_domains\":[],\"rate_limit\":\"60/minute\"}";

static const char policy[] =
    "{\"organization_max\":200,\"runtime_max\":500,\"weights\":{\"free\":1,\"plus\":2,\"pro\":4,"
    "\"enterprise\":8},\"room\":{\"alpha\":1000},\"room_else\":1000,\"after\":{\"alpha\":"
    "\"33333333-3333-4333-8333-333333333333\"},\"credit\":{\"alpha\":0}}";

struct speed {
    struct db *db;
    int64_t now_us;
    size_t statements;
    char subscription[UUID_TEXT], job[24], fence[24], effect[24], outbox[24];
    int life, request;
};

static int64_t now(void *ctx)
{
    return ((const struct speed *)ctx)->now_us;
}

/* Ends the process where the answer's first value is not as it should be; NULL: any. */
static PGresult *exec(struct speed *s, enum statement statement, int n, const char *const *values,
                      const char *expected)
{
    struct pg_param p[CALL_PARAMS];
    struct err err;
    err_clear(&err);
    for (int i = 0; i < n; i++) {
        p[i] = (struct pg_param){values[i], -1};
    }
    s->now_us += 100;
    s->statements++;
    PGresult *res = db_exec(s->db, statement, p, &err);
    if (!res || (expected && !str_eq(PQgetvalue(res, 0, 0), expected))) {
        fprintf(stderr, "%s: %s %s\n", call_name(statement), err.msg,
                res ? PQgetvalue(res, 0, 0) : "");
        exit(1);
    }
    return res;
}

#define EXEC(s, expected, statement, ...)                                                          \
    exec((s), (statement), sizeof((const char *[]){__VA_ARGS__}) / sizeof(const char *),           \
         (const char *[]){__VA_ARGS__}, (expected))
#define DO(...) PQclear(EXEC(__VA_ARGS__))
/* A statement of the job at hand. */
#define STEP(s, statement, ...)                                                                    \
    DO((s), "ok", (statement), (s)->job, owner, (s)->fence, deadline_ms, __VA_ARGS__)

static void take(struct speed *s, const char *type)
{
    char id[48], time[CLOCK_TEXT_MAX];
    snprintf(id, sizeof(id), "%s-%d", type, s->life);
    clock_format(time, s->now_us);
    DO(s, "applied", S_INBOX_TAKE, "/speed", id, type, s->subscription,
       "33333333-3333-4333-8333-333333333333", order, time, spec, trace, "events", "0", "1",
       deadline_ms, "alpha");
    PGresult *res = EXEC(s, NULL, S_JOBS_CLAIM, owner, "5", nil_uuid, "2", NULL, "f", policy);
    str_copy(s->job, sizeof(s->job), PQgetvalue(res, 0, 0));
    str_copy(s->fence, sizeof(s->fence), PQgetvalue(res, 0, 1));
    PQclear(res);
}

static void change(struct speed *s, const char *product, const char *operation, const char *method)
{
    char request[48];
    snprintf(request, sizeof(request), "p%s.%d", s->job, ++s->request);
    PGresult *res =
        EXEC(s, "ok", S_EFFECT_INTEND, s->job, owner, s->fence, deadline_ms, product, operation,
             method, "/api/v1/flows/", "name", "marker",
             "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", request, NULL);
    str_copy(s->effect, sizeof(s->effect), PQgetvalue(res, 0, 1));
    PQclear(res);
    DO(s, "t", S_EFFECT_SETTLE, s->effect, s->fence, "done", NULL, "200", NULL, NULL);
}

static void publish(struct speed *s)
{
    PGresult *res = EXEC(s, NULL, S_OUTBOX_CLAIM, owner, "5");
    snprintf(s->outbox, sizeof(s->outbox), "{%.16s}", PQgetvalue(res, 0, 0));
    PQclear(res);
    DO(s, "1", S_OUTBOX_DONE, s->outbox);
}

static void provision(struct speed *s)
{
    char name[24], id[24], prefix[24], hash[80];
    static const char sealed[] = "\\x000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e"
                                 "1f202122232425262728292a2b2c2d2e2f303132333435";
    snprintf(name, sizeof(name), "n-%d", s->life);
    snprintf(id, sizeof(id), "id-%d", s->life);
    snprintf(prefix, sizeof(prefix), "pk_live_%08u", (unsigned)s->life % 100000000);
    snprintf(hash, sizeof(hash), "\\x%064d", s->life);
    take(s, "subscription.created");
    STEP(s, S_STEP_NAME, "announce", name, "shared", "alpha", config, "500");
    STEP(s, S_STEP_PASS, "collection");
    change(s, "ragflow", "account", "POST");
    STEP(s, S_RUNTIME_KEEP, "ragflow", NULL, "tenant", sealed);
    change(s, "ragflow", "dataset", "POST");
    STEP(s, S_STEP_RESOURCE, "workspace", "ragflow", id, "{\"tenant_id\":\"tenant\"}", sealed);
    change(s, "langflow", "user", "POST");
    change(s, "langflow", "project", "POST");
    change(s, "langflow", "flow", "POST");
    change(s, "langflow", "variable", "POST");
    STEP(s, S_STEP_RESOURCE, "api_key", "langflow", id,
         "{\"flow_id\":\"66666666-6666-4666-8666-666666666666\",\"run_url\":\"http://l/run\"}",
         sealed);
    STEP(s, S_STEP_API_KEY, "record", prefix, hash, sealed, terms);
    STEP(s, S_STEP_READY, "report");
    STEP(s, S_STEP_PASS, NULL);
    publish(s);
}

static void terminate(struct speed *s)
{
    char id[24];
    snprintf(id, sizeof(id), "id-%d", s->life);
    take(s, "subscription.terminated");
    STEP(s, S_STEP_REVOKE, "close_workspace", "500");
    change(s, "langflow", "flow", "PATCH");
    change(s, "langflow", "user", "PATCH");
    STEP(s, S_STEP_RESOURCE, "collection", "langflow", id, "{}", NULL);
    change(s, "ragflow", "dataset", "DELETE");
    STEP(s, S_STEP_RESOURCE, "archive", "ragflow", NULL, "{}", NULL);
    STEP(s, S_STEP_ARCHIVE, "report");
    STEP(s, S_STEP_PASS, NULL);
    publish(s);
}

int speed(int lives)
{
    struct speed s = {.now_us = 1790000000000000};
    const struct db_options options = {.now_us = now, .ctx = &s};
    s.db = db_new(&options);
    DO(&s, "", S_WORKER_REGISTER, owner, "host", "1", "0.1.0", "1000000000");
    int64_t from = clock_mono_us();
    for (s.life = 1; s.life <= lives; s.life++) {
        snprintf(s.subscription, sizeof(s.subscription), "%08u-0000-4000-8000-000000000000",
                 (unsigned)s.life % 100000000);
        provision(&s);
        terminate(&s);
    }
    double us = (double)(clock_mono_us() - from);
    printf("%d lives, %zu statements: %.1f us a life, %.0f statements/s\n", lives, s.statements,
           us / lives, (double)s.statements / us * 1e6);
    db_free(s.db);
    return 0;
}
