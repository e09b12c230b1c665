/*
 * The executor and its half that drives upstreams, with PostgreSQL and HTTP played by the test:
 * what is said to the one before anything is said to the other, and what becomes of a job whatever
 * both answer. The dialect is the façade's, whose sequences are short.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "drive.h"
#include "executor_internal.h"

#define SUBSCRIPTION "2f1c9a52-6a0e-4c55-8f1e-5d2f0c9b7a01"
#define ORGANIZATION "99999999-6a0e-4c55-8f1e-5d2f0c9b7a99"
#define OWNER        "11111111-6a0e-4c55-8f1e-5d2f0c9b7a11"
#define CREDENTIAL   "the-platforms-credential"
#define NAME         "acme-web-csa-007"

enum {
    SAID_MAX = 16,
    TEXT_MAX = 512,
    TIMEOUT_MS = 30 * 1000,
    SETTLE_MS = 2000,
    SLACK_MS = 10 * 1000, /* a machine may be slow */
};

static struct config_runtime runtimes[] = {
    {.name = "eu",
     .langflow = {.api = "workspaces",
                  .url = "http://l",
                  .api_key = CREDENTIAL,
                  .concurrency = 4,
                  .timeout_ms = TIMEOUT_MS},
     .ragflow = {
         .api = "collections", .url = "http://r", .concurrency = 4, .timeout_ms = TIMEOUT_MS}}};
static const struct config whole = {.runtimes = runtimes,
                                    .n_runtimes = 1,
                                    .any_offering = {.flow = "flow", .chunk_size = 512},
                                    .retry_initial_ms = 1000,
                                    .retry_max_ms = 60 * 1000,
                                    .retry_factor = 2.0,
                                    .retry_deadline_ms = 3600 * 1000,
                                    .scheduling_runtime_max = 500,
                                    .reveal_public_key = {9}, /* a point of the curve */
                                    .worker_probe_settle_ms = SETTLE_MS};

struct said {
    enum statement statement;
    char param[PG_PARAMS_MAX][TEXT_MAX];
    bool null[PG_PARAMS_MAX];
    pg_done_fn *done;
    void *ctx;
};

static struct world {
    struct config config;
    struct loop *loop;
    struct metrics *metrics;
    struct executor *executor;
    struct said said[SAID_MAX]; /* statements, those that wait for an answer and the others */
    size_t n_said;
    bool full; /* PostgreSQL's queue takes nothing */
    /* the request under way */
    char url[EXCHANGE_URL_MAX], body[TEXT_MAX], request_id[TEXT_MAX];
    enum exchange_method method;
    bool fresh;
    http_done_fn *answer;
    void *answer_ctx;
    size_t requests;
    bool leaseless;
    size_t finished, outcomes, stranded;
    int64_t stranded_job, stranded_fence;
} world;

/* ---- PostgreSQL and HTTP ---- */

int __wrap_pg_submit(struct pg *p, int statement, const char *lock_key, bool alone,
                     const struct pg_param *params, pg_done_fn *done, void *ctx, struct err *err);
struct http_call *__wrap_http_send(struct http *h, struct exchange_request *request,
                                   const char *const *headers, http_done_fn *done, void *ctx,
                                   struct err *err);
void __wrap_http_cancel(struct http *h, struct http_call *call);

int __wrap_pg_submit(struct pg *p, int statement, const char *lock_key, bool alone,
                     const struct pg_param *params, pg_done_fn *done, void *ctx, struct err *err)
{
    (void)p, (void)alone;
    if (world.full) {
        return err_set(err, ERR_UNAVAILABLE, "the queue is full");
    }
    assert_string_equal(lock_key, SUBSCRIPTION);
    assert_true(world.n_said < SAID_MAX);
    struct said *s = &world.said[world.n_said++];
    *s = (struct said){.statement = (enum statement)statement, .done = done, .ctx = ctx};
    for (int i = 0; i < statements[statement].n_params; i++) {
        s->null[i] = !params[i].value;
        snprintf(s->param[i], TEXT_MAX, "%s", params[i].value ? params[i].value : "");
    }
    return 0;
}

struct http_call *__wrap_http_send(struct http *h, struct exchange_request *request,
                                   const char *const *headers, http_done_fn *done, void *ctx,
                                   struct err *err)
{
    (void)h, (void)err;
    assert_null(world.answer); /* one after the other */
    str_copy(world.url, sizeof(world.url), request->url);
    snprintf(world.body, sizeof(world.body), "%s", buf_str(&request->body));
    world.method = request->method;
    world.fresh = request->fresh_connection;
    assert_true(str_starts(headers[0], "X-Request-Id: "));
    assert_true(str_starts(headers[1], "traceparent: 00-"));
    snprintf(world.request_id, sizeof(world.request_id), "%s",
             headers[0] + strlen("X-Request-Id: "));
    world.answer = done;
    world.answer_ctx = ctx;
    world.requests++;
    return (struct http_call *)(void *)&world.answer;
}

void __wrap_http_cancel(struct http *h, struct http_call *call)
{
    (void)h, (void)call;
    world.answer = NULL;
}

/* The statement that came last. */
static const struct said *last(enum statement statement)
{
    assert_true(world.n_said > 0);
    const struct said *s = &world.said[world.n_said - 1];
    assert_string_equal(statements[s->statement].name, statements[statement].name);
    return s;
}

static size_t count(enum statement statement)
{
    size_t n = 0;
    for (size_t i = 0; i < world.n_said; i++) {
        n += world.said[i].statement == statement;
    }
    return n;
}

static void tell(enum statement statement, const char *verdict, const char *second)
{
    const struct said s = *last(statement);
    PGresult *res = PQmakeEmptyPGresult(NULL, PGRES_TUPLES_OK);
    PGresAttDesc columns[] = {{.name = (char *)(uintptr_t) "verdict"},
                              {.name = (char *)(uintptr_t) "more"}};
    assert_true(PQsetResultAttrs(res, 2, columns));
    assert_true(PQsetvalue(res, 0, 0, (char *)(uintptr_t)verdict, (int)strlen(verdict)));
    assert_true(PQsetvalue(res, 0, 1, (char *)(uintptr_t)second, (int)strlen(second)));
    s.done(s.ctx, res, NULL);
    PQclear(res);
}

static void ok(enum statement statement)
{
    tell(statement, "ok", "77");
}

static void fail_with(enum statement statement, enum err_class class)
{
    const struct said s = *last(statement);
    struct err err;
    err_set(&err, class, "PostgreSQL says no");
    str_copy(err.sqlstate, sizeof(err.sqlstate), "22001");
    s.done(s.ctx, NULL, &err);
}

static void asked(enum exchange_method method, const char *url)
{
    assert_non_null(world.answer);
    assert_int_equal(world.method, method);
    assert_string_equal(world.url, url);
}

static void answer_with(struct exchange_response r)
{
    http_done_fn *answer = world.answer;
    assert_non_null(answer);
    world.answer = NULL;
    r.body = r.body ? r.body : "";
    r.body_len = strlen(r.body);
    if (r.retry_after_ms == 0) {
        r.retry_after_ms = -1;
    }
    str_copy(r.content_type, sizeof(r.content_type), "application/json");
    answer(world.answer_ctx, &r);
}

static void answer(int status, const char *body)
{
    answer_with((struct exchange_response){.sent = true, .status = status, .body = body});
}

static void lose_answer(void)
{
    answer_with((struct exchange_response){.sent = true, .failure = "the connection was reset"});
}

/* A workspace as the façade shows it; its variables beside the marker. */
static const char *workspace(const char *id, const char *variables)
{
    static char text[TEXT_MAX];
    char marker[MARKER_MAX];
    naming_marker(SUBSCRIPTION, marker);
    snprintf(text, sizeof(text),
             "{\"id\":\"%s\",\"name\":\"" NAME
             "\",\"variables\":{\"waldur_subscription\":\"%s\"%s}}",
             id, marker, variables);
    return text;
}

#define COMPLETE ",\"waldur_status\":\"active\""

/* ---- jobs ---- */

static bool leased(void *ctx)
{
    (void)ctx;
    return !world.leaseless;
}

static const char *owner(void *ctx)
{
    (void)ctx;
    return OWNER;
}

static void on_finished(void *ctx)
{
    (void)ctx;
    world.finished++;
}

static void on_outcome(void *ctx)
{
    (void)ctx;
    world.outcomes++;
}

static void on_runtime(void *ctx, const char *runtime)
{
    (void)ctx, (void)runtime;
}

static void on_stranded(void *ctx, int64_t job, int64_t fence)
{
    (void)ctx;
    world.stranded++;
    world.stranded_job = job;
    world.stranded_fence = fence;
}

static int setup(void **state)
{
    struct err err;
    (void)state;
    world = (struct world){.config = whole};
    world.loop = loop_new(&err);
    world.metrics = metrics_new(&err);
    const struct executor_options o = {.metrics = world.metrics,
                                       .config = &world.config,
                                       .leased = leased,
                                       .owner = owner,
                                       .finished = on_finished,
                                       .outcome = on_outcome,
                                       .recovered = on_runtime,
                                       .probe = on_runtime,
                                       .stranded = on_stranded};
    world.executor = executor_new(world.loop, &o, &err);
    assert_non_null(world.executor);
    log_setup(LOG_ERROR, false, -1);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    executor_free(world.executor);
    metrics_free(world.metrics);
    loop_free(world.loop);
    return 0;
}

static const char spec[] = "{\"subscription\":{\"uuid\":\"" SUBSCRIPTION "\",\"id\":\"7\"},"
                           "\"organization\":{\"uuid\":\"" ORGANIZATION "\",\"slug\":\"acme\"},"
                           "\"project\":{\"uuid\":\"" ORGANIZATION "\",\"slug\":\"web\"},"
                           "\"offering\":{\"uuid\":\"" ORGANIZATION "\",\"type\":\"csa\"},"
                           "\"plan\":{\"tier\":\"pro\"},\"api_key\":{},\"runtime\":{}}";

/* One that was claimed at this step, of a subscription whose name is frozen. */
static struct job *claimed(enum job_kind kind, enum job_step step)
{
    struct job *j = calloc(1, sizeof(*j));
    assert_non_null(j);
    j->id = 5;
    j->fence = 3;
    str_copy(j->id_text, sizeof(j->id_text), "5");
    str_copy(j->fence_text, sizeof(j->fence_text), "3");
    str_copy(j->subscription, sizeof(j->subscription), SUBSCRIPTION);
    str_copy(j->organization, sizeof(j->organization), ORGANIZATION);
    str_copy(j->traceparent, sizeof(j->traceparent),
             "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    j->kind = kind;
    j->step = step;
    j->claimed_ms = clock_mono_ms();
    j->deadline_mono_ms = j->claimed_ms + 3600 * 1000;
    j->organization_slug = str_dup("acme");
    j->lane = str_dup("eu");
    j->spec = str_dup(spec);
    j->name = str_dup(NAME);
    j->runtime_name = str_dup("eu");
    naming_marker(j->subscription, j->marker);
    return j;
}

static struct job *begin(enum job_kind kind, enum job_step step)
{
    struct job *j = claimed(kind, step);
    executor_start(world.executor, j);
    return j;
}

/* At the create of a workspace, whose intent was just told. */
static struct job *begin_create(void)
{
    struct job *j = begin(KIND_PROVISION, STEP_WORKSPACE);
    asked(METHOD_GET, "http://l/api/v1/workspaces?name=" NAME);
    answer(200, "[]");
    return j;
}

/* ---- intents ---- */

static void test_the_intent_is_committed_before_the_request(void **state)
{
    (void)state;
    (void)begin_create();
    assert_null(world.answer);
    assert_int_equal(world.requests, 1);
    const struct said *s = last(S_EFFECT_INTEND);
    static const char *const expected[] = {
        "5", OWNER, "3", "3600000", "langflow", "workspace.create", "POST", "/api/v1/workspaces",
        NAME};
    for (size_t i = 0; i < ARRAY_LEN(expected); i++) {
        assert_string_equal(s->param[i], expected[i]);
    }
    assert_true(s->null[12]);
    char sha[65], id[TEXT_MAX];
    str_copy(sha, sizeof(sha), s->param[10]);
    str_copy(id, sizeof(id), s->param[11]);
    ok(S_EFFECT_INTEND);
    asked(METHOD_POST, "http://l/api/v1/workspaces");
    assert_true(world.fresh);
    assert_string_equal(world.request_id, id);
    char again[65];
    str_sha256_hex(again, world.body, strlen(world.body));
    assert_string_equal(sha, again);
    answer(201, workspace("w1", COMPLETE));
    assert_int_equal(count(S_EFFECT_SETTLE), 0); /* open until it was seen and recorded */
    asked(METHOD_GET, "http://l/api/v1/workspaces/w1");
    answer(200, workspace("w1", COMPLETE));
    s = last(S_STEP_RESOURCE);
    assert_string_equal(s->param[4], "api_key");
    assert_string_equal(s->param[6], "w1");
}

/* Whatever ends the job here, nothing goes upstream. */
static void test_verdicts_end_the_job(void **state)
{
    static const char *const verdicts[] = {"lost", "superseded", "cancelled", "queued", "paused"};
    for (size_t i = 0; i < ARRAY_LEN(verdicts); i++) {
        (void)begin_create();
        tell(S_EFFECT_INTEND, verdicts[i], "");
        assert_null(world.answer);
        assert_int_equal(executor_jobs(world.executor), 0);
        assert_int_equal(world.finished, 1);
        assert_int_equal(world.stranded, 0);
        assert_int_equal(world.outcomes, str_eq(verdicts[i], "cancelled"));
        teardown(state);
        setup(state);
    }
}

static void test_verdicts_end_the_job_after_a_step(void **state)
{
    static const char *const verdicts[] = {"lost", "superseded", "cancelled", "queued", "paused"};
    for (size_t i = 0; i < ARRAY_LEN(verdicts); i++) {
        (void)begin(KIND_PROVISION, STEP_RECORD);
        tell(S_STEP_READY, verdicts[i], "");
        assert_int_equal(executor_jobs(world.executor), 0);
        assert_int_equal(world.n_said, 1);
        teardown(state);
        setup(state);
    }
}

static void test_a_lost_connection_strands_the_job(void **state)
{
    (void)state;
    (void)begin_create();
    fail_with(S_EFFECT_INTEND, ERR_UNKNOWN);
    assert_null(world.answer);
    assert_int_equal(world.stranded, 1);
    assert_int_equal(world.stranded_job, 5);
    assert_int_equal(world.stranded_fence, 3);
    assert_int_equal(executor_jobs(world.executor), 0);
}

static void test_a_full_queue_strands_the_job(void **state)
{
    (void)state;
    world.full = true;
    (void)begin(KIND_PROVISION, STEP_RECORD);
    assert_int_equal(world.stranded, 1);
    assert_int_equal(executor_jobs(world.executor), 0);
}

static void test_a_refused_intent_sends_nothing(void **state)
{
    (void)state;
    (void)begin_create();
    fail_with(S_EFFECT_INTEND, ERR_REFUSED);
    assert_null(world.answer);
    const struct said *s = last(S_JOB_SETTLE);
    assert_string_equal(s->param[4], "retrying");
    assert_string_equal(s->param[7], "internal");
    assert_non_null(strstr(s->param[8], "22001"));
    ok(S_JOB_SETTLE);
    assert_int_equal(executor_jobs(world.executor), 0);
}

static void test_nothing_leaves_without_a_lease(void **state)
{
    (void)state;
    (void)begin_create();
    world.leaseless = true;
    ok(S_EFFECT_INTEND);
    assert_null(world.answer);
    assert_string_equal(last(S_EFFECT_SETTLE)->param[2], "not_sent");
    assert_int_equal(world.stranded, 1);
    assert_int_equal(executor_jobs(world.executor), 0);
}

static void test_draining_ends_jobs_at_their_next_boundary(void **state)
{
    (void)state;
    (void)begin_create();
    executor_drain(world.executor);
    assert_int_equal(executor_jobs(world.executor), 1);
    ok(S_EFFECT_INTEND);
    assert_null(world.answer);
    assert_string_equal(last(S_EFFECT_SETTLE)->param[2], "not_sent");
    assert_int_equal(executor_jobs(world.executor), 0);
}

static void test_an_answer_is_heard_out_while_draining(void **state)
{
    (void)state;
    (void)begin_create();
    ok(S_EFFECT_INTEND);
    executor_drain(world.executor);
    answer(201, workspace("w1", COMPLETE));
    assert_int_equal(count(S_EFFECT_SETTLE), 0); /* who takes it over looks for it */
    assert_null(world.answer);
    assert_int_equal(executor_jobs(world.executor), 0);
}

static void test_a_change_is_settled_by_its_answer(void **state)
{
    (void)state;
    struct job *j = claimed(KIND_PROVISION, STEP_WORKSPACE);
    j->workspace_id = str_dup("w1");
    executor_start(world.executor, j);
    answer(200, workspace("w1", ""));
    assert_string_equal(last(S_EFFECT_INTEND)->param[5], "workspace.update");
    ok(S_EFFECT_INTEND);
    executor_drain(world.executor);
    answer(200, workspace("w1", COMPLETE));
    const struct said *s = last(S_EFFECT_SETTLE);
    assert_string_equal(s->param[0], "77");
    assert_string_equal(s->param[1], "3");
    assert_string_equal(s->param[2], "done");
    assert_null(world.answer);
    assert_int_equal(executor_jobs(world.executor), 0);
}

static void test_draining_ends_a_finished_step(void **state)
{
    (void)state;
    (void)begin(KIND_PROVISION, STEP_RECORD);
    executor_drain(world.executor);
    ok(S_STEP_READY);
    assert_int_equal(executor_jobs(world.executor), 0);
    assert_int_equal(world.outcomes, 1);
}

static void test_an_abandoned_job_says_nothing_more(void **state)
{
    (void)state;
    (void)begin_create();
    executor_abandon(world.executor);
    assert_int_equal(executor_jobs(world.executor), 1);
    ok(S_EFFECT_INTEND);
    assert_null(world.answer);
    assert_int_equal(executor_jobs(world.executor), 0);
    assert_int_equal(world.stranded, 0);
    (void)begin_create();
    ok(S_EFFECT_INTEND);
    size_t said = world.n_said;
    executor_abandon(world.executor); /* its request is cut off */
    assert_null(world.answer);
    assert_int_equal(world.n_said, said);
    assert_int_equal(executor_jobs(world.executor), 0);
}

/* ---- what became of a request ---- */

static void test_an_open_outcome_is_journalled_and_looked_into(void **state)
{
    (void)state;
    (void)begin_create();
    ok(S_EFFECT_INTEND);
    lose_answer();
    assert_string_equal(last(S_EFFECT_SETTLE)->param[2], "unknown");
    asked(METHOD_GET, "http://l/api/v1/workspaces?name=" NAME);
}

static void test_refusals_fail_the_job(void **state)
{
    (void)state;
    (void)begin_create();
    ok(S_EFFECT_INTEND);
    answer(400, "{\"message\":\"no such flow for " CREDENTIAL "\"}");
    assert_string_equal(world.said[world.n_said - 2].param[2], "refused");
    assert_null(strstr(world.said[world.n_said - 2].param[6], CREDENTIAL));
    const struct said *s = last(S_JOB_SETTLE);
    assert_string_equal(s->param[4], "failed");
    assert_string_equal(s->param[5], "1");
    assert_string_equal(s->param[7], "refused");
    assert_non_null(strstr(s->param[8], "no such flow"));
    assert_null(strstr(s->param[8], CREDENTIAL));
    ok(S_JOB_SETTLE);
    assert_int_equal(world.outcomes, 1);
    assert_int_equal(executor_jobs(world.executor), 0);
}

/* A look's words are told on, too. */
static void test_no_words_repeat_the_credential(void **state)
{
    (void)state;
    (void)begin(KIND_PROVISION, STEP_WORKSPACE);
    answer(403, "{\"message\":\"" CREDENTIAL " may not\"}");
    const struct said *s = last(S_JOB_SETTLE);
    assert_string_equal(s->param[4], "held");
    assert_string_equal(s->param[5], "0");
    assert_non_null(strstr(s->param[8], "may not"));
    assert_null(strstr(s->param[8], CREDENTIAL));
}

static void test_a_throttled_job_waits_as_told(void **state)
{
    (void)state;
    (void)begin(KIND_PROVISION, STEP_WORKSPACE);
    answer_with((struct exchange_response){.sent = true, .status = 429, .retry_after_ms = 90000});
    const struct said *s = last(S_JOB_SETTLE);
    assert_string_equal(s->param[4], "retrying");
    assert_string_equal(s->param[5], "0");
    assert_string_equal(s->param[6], "90000");
}

/* Another job was told to leave the server alone. */
static void test_patience_that_another_was_asked_for(void **state)
{
    struct err err;
    struct job *j = begin_create();
    err_set(&err, ERR_THROTTLED, "later");
    err.retry_after_ms = UPSTREAM_PATIENCE_MS - 1000;
    upstream_report(j->upstream, &err, 1, 429, "GET");
    ok(S_EFFECT_INTEND);
    assert_null(world.answer);
    assert_int_equal(j->wait, WAIT_TIMER);
    teardown(state);
    setup(state);
    j = begin_create();
    err.retry_after_ms = UPSTREAM_PATIENCE_MS + 60 * 1000;
    upstream_report(j->upstream, &err, 1, 429, "GET");
    ok(S_EFFECT_INTEND);
    assert_null(world.answer);
    assert_string_equal(world.said[world.n_said - 2].param[2], "not_sent");
    const struct said *s = last(S_JOB_SETTLE);
    assert_string_equal(s->param[4], "retrying");
    assert_string_equal(s->param[7], "throttled");
}

static void test_a_settled_job_that_cannot_be_written_is_stranded(void **state)
{
    (void)state;
    (void)begin(KIND_PROVISION, STEP_WORKSPACE);
    answer(400, "{}");
    fail_with(S_JOB_SETTLE, ERR_REFUSED);
    assert_int_equal(world.stranded, 1);
    assert_int_equal(executor_jobs(world.executor), 0);
}

/* ---- what is open when it is claimed ---- */

static void assert_waits_about(const struct job *j, int64_t ms)
{
    assert_int_equal(j->wait, WAIT_TIMER);
    int64_t left_ms = j->timer.due_ms - clock_mono_ms();
    assert_in_range(left_ms, ms > SLACK_MS ? ms - SLACK_MS : 0, ms + 100);
}

static void test_an_open_create_is_waited_for(void **state)
{
    (void)state;
    struct job *j = claimed(KIND_PROVISION, STEP_WORKSPACE);
    j->open[PRODUCT_LANGFLOW].any = true;
    executor_start(world.executor, j);
    answer(200, "[]");
    assert_waits_about(j, TIMEOUT_MS + SETTLE_MS); /* as late as one that was waited for */
    assert_int_equal(world.n_said, 0);
    teardown(state);
    setup(state);
    j = claimed(KIND_PROVISION, STEP_WORKSPACE);
    j->open[PRODUCT_LANGFLOW].any = true;
    j->open[PRODUCT_LANGFLOW].age_ms = 3600 * 1000;
    executor_start(world.executor, j);
    answer(200, "[]");
    assert_waits_about(j, SETTLE_MS);
}

static void test_an_open_update_is_waited_for(void **state)
{
    (void)state;
    struct job *j = claimed(KIND_PROVISION, STEP_WORKSPACE);
    j->workspace_id = str_dup("w1");
    j->open[PRODUCT_LANGFLOW].any = true;
    j->open[PRODUCT_LANGFLOW].update = true;
    executor_start(world.executor, j);
    asked(METHOD_GET, "http://l/api/v1/workspaces/w1");
    answer(200, workspace("w1", COMPLETE));
    assert_null(world.answer);
    assert_int_equal(j->wait, WAIT_TIMER);
    assert_int_equal(world.n_said, 0);
}

static void test_what_an_open_delete_may_reach_is_deleted_first(void **state)
{
    (void)state;
    struct job *j = claimed(KIND_PROVISION, STEP_WORKSPACE);
    j->workspace_id = str_dup("w1");
    j->open[PRODUCT_LANGFLOW].any = true;
    j->open[PRODUCT_LANGFLOW].delete_id = str_dup("w1");
    executor_start(world.executor, j);
    answer(200, workspace("w1", COMPLETE));
    const struct said *s = last(S_EFFECT_INTEND);
    assert_string_equal(s->param[5], "workspace.delete");
    assert_string_equal(s->param[12], "w1");
}

/* Accepted is not gone: whoever takes the job over in between must know of it. */
static void test_a_delete_stays_open_until_it_is_seen(void **state)
{
    (void)state;
    struct job *j = claimed(KIND_TERMINATE, STEP_CLOSE_WORKSPACE);
    j->workspace_id = str_dup("w1");
    executor_start(world.executor, j);
    answer(200, workspace("w1", COMPLETE));
    assert_string_equal(last(S_EFFECT_INTEND)->param[12], "w1");
    ok(S_EFFECT_INTEND);
    asked(METHOD_DELETE, "http://l/api/v1/workspaces/w1");
    answer(204, "");
    assert_int_equal(count(S_EFFECT_SETTLE), 0);
    answer(404, "{}");
    answer(200, "[]");
    const struct said *s = last(S_STEP_RESOURCE); /* which settles what is open */
    assert_true(s->null[6]);
    assert_int_equal(count(S_EFFECT_SETTLE), 0);
}

/* ---- steps ---- */

static void test_a_taken_name_fails_the_job(void **state)
{
    (void)state;
    (void)begin(KIND_PROVISION, STEP_NAME);
    tell(S_STEP_NAME, "conflict:" ORGANIZATION, "");
    const struct said *s = last(S_JOB_SETTLE);
    assert_string_equal(s->param[4], "failed");
    assert_string_equal(s->param[7], "conflict");
    assert_non_null(strstr(s->param[8], ORGANIZATION));
}

static void test_a_refused_step_is_tried_again(void **state)
{
    (void)state;
    (void)begin(KIND_PROVISION, STEP_RECORD);
    fail_with(S_STEP_READY, ERR_REFUSED);
    const struct said *s = last(S_JOB_SETTLE);
    assert_string_equal(s->param[4], "retrying");
    assert_string_equal(s->param[7], "internal");
}

static struct job *unnamed(void)
{
    struct job *j = claimed(KIND_PROVISION, STEP_NAME);
    free(j->name);
    free(j->runtime_name);
    j->name = j->runtime_name = NULL;
    return j;
}

static void test_a_name_is_frozen_with_its_runtime(void **state)
{
    (void)state;
    executor_start(world.executor, unnamed());
    const struct said *s = last(S_STEP_NAME);
    assert_string_equal(s->param[4], "workspace");
    assert_string_equal(s->param[6], "shared");
    assert_string_equal(s->param[7], "eu");
    assert_string_equal(s->param[9], "500");
    ok(S_STEP_NAME);
    asked(METHOD_GET, "http://l/api/v1/workspaces?name=" NAME);
}

static void test_what_cannot_end_well_does_not_begin(void **state)
{
    (void)state;
    struct job *j = unnamed();
    char *tier = strstr(j->spec, "\"pro\"");
    memset(tier + 1, 'x', 3); /* it has no rate limit of its own, and the event names none */
    executor_start(world.executor, j);
    const struct said *s = last(S_JOB_SETTLE);
    assert_string_equal(s->param[4], "failed");
    assert_string_equal(s->param[7], "invalid");
    teardown(state);
    setup(state);
    j = unnamed();
    free(j->spec);
    j->spec = NULL;
    executor_start(world.executor, j);
    assert_string_equal(last(S_JOB_SETTLE)->param[4], "failed");
}

static void test_without_a_runtime_a_job_is_held(void **state)
{
    (void)state;
    world.config.n_runtimes = 0;
    executor_start(world.executor, unnamed());
    const struct said *s = last(S_JOB_SETTLE);
    assert_string_equal(s->param[4], "held");
    assert_string_equal(s->param[5], "0");
    assert_non_null(strstr(s->param[8], "runtime"));
    (void)begin(KIND_PROVISION, STEP_WORKSPACE); /* or one that left the configuration */
    s = last(S_JOB_SETTLE);
    assert_string_equal(s->param[4], "held");
    assert_non_null(strstr(s->param[8], "\"eu\""));
    assert_null(world.answer);
}

/* The configuration lost the runtime while the job waited for its slot's next use. */
static void test_a_runtime_that_leaves_meanwhile(void **state)
{
    (void)state;
    runtimes[0].langflow.concurrency = 1;
    (void)begin(KIND_PROVISION, STEP_WORKSPACE);
    struct job *second = begin(KIND_PROVISION, STEP_WORKSPACE);
    assert_int_equal(second->wait, WAIT_SLOT);
    world.config.n_runtimes = 0;
    drive_granted(world.executor, second);
    runtimes[0].langflow.concurrency = 4;
    assert_string_equal(last(S_JOB_SETTLE)->param[7], "unavailable");
}

/* One after the other: as many as the product may have, and the others when the upstream is down.
 */
static void test_an_upstream_that_is_down_holds_those_that_wait(void **state)
{
    (void)state;
    struct err err;
    runtimes[0].langflow.concurrency = 1;
    struct job *first = begin(KIND_PROVISION, STEP_WORKSPACE);
    struct job *second = begin(KIND_PROVISION, STEP_WORKSPACE);
    runtimes[0].langflow.concurrency = 4;
    assert_int_equal(first->wait, WAIT_HTTP);
    assert_int_equal(second->wait, WAIT_SLOT);
    assert_int_equal(world.requests, 1);
    err_set(&err, ERR_UNAUTHORIZED, "a wrong key");
    upstream_report(first->upstream, &err, 1, 401, "GET");
    const struct said *s = last(S_JOB_SETTLE);
    assert_string_equal(s->param[4], "held");
    assert_ptr_equal(s->ctx, second);
    ok(S_JOB_SETTLE);
    (void)begin(KIND_PROVISION, STEP_WORKSPACE); /* whoever comes now is held, too */
    assert_string_equal(last(S_JOB_SETTLE)->param[4], "held");
    assert_int_equal(world.requests, 1);
}

static void test_jobs_are_counted_by_lane(void **state)
{
    (void)state;
    (void)begin(KIND_PROVISION, STEP_RECORD);
    executor_start(world.executor, unnamed());
    assert_int_equal(executor_jobs(world.executor), 2);
    assert_int_equal(executor_jobs_of(world.executor, "eu"), 2);
    assert_int_equal(executor_jobs_of(world.executor, "us"), 0);
    assert_false(executor_uses(world.executor, &world.config));
    (void)begin(KIND_PROVISION, STEP_WORKSPACE);
    assert_true(executor_uses(world.executor, &world.config));
    assert_false(executor_uses(world.executor, &whole));
}

static void test_keys_are_revoked_and_issued(void **state)
{
    (void)state;
    (void)begin(KIND_TERMINATE, STEP_REVOKE);
    assert_string_equal(last(S_STEP_REVOKE)->param[4], "close_workspace");
    (void)begin(KIND_PROVISION, STEP_API_KEY);
    const struct said *s = last(S_STEP_API_KEY);
    assert_true(str_starts(s->param[5], "pk_live_"));
    assert_non_null(strstr(s->param[8], "300/minute"));
    struct job *j = claimed(KIND_PROVISION, STEP_API_KEY);
    j->spec[0] = '[';
    executor_start(world.executor, j);
    assert_string_equal(last(S_JOB_SETTLE)->param[4], "failed");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_the_intent_is_committed_before_the_request),
        TEST(test_verdicts_end_the_job),
        TEST(test_verdicts_end_the_job_after_a_step),
        TEST(test_a_lost_connection_strands_the_job),
        TEST(test_a_full_queue_strands_the_job),
        TEST(test_a_refused_intent_sends_nothing),
        TEST(test_nothing_leaves_without_a_lease),
        TEST(test_draining_ends_jobs_at_their_next_boundary),
        TEST(test_an_answer_is_heard_out_while_draining),
        TEST(test_a_change_is_settled_by_its_answer),
        TEST(test_draining_ends_a_finished_step),
        TEST(test_an_abandoned_job_says_nothing_more),
        TEST(test_an_open_outcome_is_journalled_and_looked_into),
        TEST(test_refusals_fail_the_job),
        TEST(test_no_words_repeat_the_credential),
        TEST(test_a_throttled_job_waits_as_told),
        TEST(test_patience_that_another_was_asked_for),
        TEST(test_a_settled_job_that_cannot_be_written_is_stranded),
        TEST(test_an_open_create_is_waited_for),
        TEST(test_an_open_update_is_waited_for),
        TEST(test_what_an_open_delete_may_reach_is_deleted_first),
        TEST(test_a_delete_stays_open_until_it_is_seen),
        TEST(test_a_taken_name_fails_the_job),
        TEST(test_a_refused_step_is_tried_again),
        TEST(test_a_name_is_frozen_with_its_runtime),
        TEST(test_what_cannot_end_well_does_not_begin),
        TEST(test_without_a_runtime_a_job_is_held),
        TEST(test_a_runtime_that_leaves_meanwhile),
        TEST(test_an_upstream_that_is_down_holds_those_that_wait),
        TEST(test_jobs_are_counted_by_lane),
        TEST(test_keys_are_revoked_and_issued),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
