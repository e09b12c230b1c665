/*
 * The engine, with PostgreSQL played by the test and the clock its own: identity and lease, how
 * many jobs are claimed, and that what is dropped is given back.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "base/uuid.h"
#include "engine.h"
#include "statements.h"
#include "store/migrate.h"
#include "store/pg.h"

#define SUBSCRIPTION "2f1c9a52-6a0e-4c55-8f1e-5d2f0c9b7a01"
#define ORGANIZATION "99999999-6a0e-4c55-8f1e-5d2f0c9b7a99"

enum { SAID_MAX = 64, TEXT_MAX = 256, LEASE_MS = 15 * 1000, LOOK_MS = 600, COLUMNS = 34 };

static struct config_runtime runtimes[] = {{.name = "eu"}};
static const struct config whole = {.runtimes = runtimes,
                                    .n_runtimes = 1,
                                    .retry_deadline_ms = 3600 * 1000,
                                    .worker_max_jobs = 2,
                                    .worker_lease_ms = LEASE_MS};

struct said {
    enum statement statement;
    char param[4][TEXT_MAX];
    pg_done_fn *done; /* NULL: answered, or nobody waits for an answer */
    void *ctx;
};

static struct world {
    struct config config;
    struct loop *loop;
    struct metrics *metrics;
    struct engine *engine;
    void (*on_state)(void *ctx, bool up, const char *why);
    void *state_ctx;
    bool up, drained;
    int64_t ahead_ms;
    struct said said[SAID_MAX];
    size_t n_said;
} world;

/* ---- PostgreSQL and the clock ---- */

int64_t __real_clock_mono_us(void);
int64_t __wrap_clock_mono_us(void);
int64_t __wrap_clock_mono_ms(void);
struct pg *__wrap_pg_new(struct loop *loop, const struct pg_options *options, struct err *err);
void __wrap_pg_free(struct pg *p);
bool __wrap_pg_is_up(const struct pg *p);
const char *__wrap_pg_why(const struct pg *p);
int __wrap_pg_submit(struct pg *p, int statement, const char *lock_key, bool alone,
                     const struct pg_param *params, pg_done_fn *done, void *ctx, struct err *err);

int64_t __wrap_clock_mono_us(void)
{
    return __real_clock_mono_us() + world.ahead_ms * 1000;
}

int64_t __wrap_clock_mono_ms(void)
{
    return __wrap_clock_mono_us() / 1000;
}

struct pg *__wrap_pg_new(struct loop *loop, const struct pg_options *options, struct err *err)
{
    (void)loop, (void)err;
    world.on_state = options->on_state;
    world.state_ctx = options->ctx;
    return (struct pg *)(void *)&world;
}

void __wrap_pg_free(struct pg *p)
{
    (void)p;
}

bool __wrap_pg_is_up(const struct pg *p)
{
    (void)p;
    return world.up;
}

const char *__wrap_pg_why(const struct pg *p)
{
    (void)p;
    return "it is down";
}

int __wrap_pg_submit(struct pg *p, int statement, const char *lock_key, bool alone,
                     const struct pg_param *params, pg_done_fn *done, void *ctx, struct err *err)
{
    (void)p, (void)lock_key, (void)alone, (void)err;
    assert_true(world.n_said < SAID_MAX);
    struct said *s = &world.said[world.n_said++];
    *s = (struct said){.statement = (enum statement)statement, .done = done, .ctx = ctx};
    for (int i = 0; i < statements[statement].n_params && i < (int)ARRAY_LEN(s->param); i++) {
        snprintf(s->param[i], TEXT_MAX, "%s", params[i].value ? params[i].value : "NULL");
    }
    return 0;
}

static size_t count(enum statement statement)
{
    size_t n = 0;
    for (size_t i = 0; i < world.n_said; i++) {
        n += world.said[i].statement == statement;
    }
    return n;
}

/* The last of its kind. */
static struct said *last(enum statement statement)
{
    for (size_t i = world.n_said; i > 0; i--) {
        if (world.said[i - 1].statement == statement) {
            return &world.said[i - 1];
        }
    }
    fail_msg("%s was not said", statements[statement].name);
    return NULL;
}

static void answer(struct said *s, const PGresult *res, const struct err *err)
{
    pg_done_fn *done = s->done;
    assert_non_null(done);
    s->done = NULL;
    done(s->ctx, res, err);
}

static void put(PGresult *res, int row, int column, const char *value)
{
    assert_true(PQsetvalue(res, row, column, (char *)(uintptr_t)value, (int)strlen(value)));
}

static PGresult *result(int columns)
{
    PGresAttDesc names[COLUMNS];
    PGresult *res = PQmakeEmptyPGresult(NULL, PGRES_TUPLES_OK);
    for (int i = 0; i < columns; i++) {
        names[i] = (PGresAttDesc){.name = (char *)(uintptr_t) "column"};
    }
    assert_true(PQsetResultAttrs(res, columns, names));
    return res;
}

static void tell(struct said *s, const char *value)
{
    PGresult *res = result(1);
    if (value) {
        put(res, 0, 0, value);
    }
    answer(s, res, NULL);
    PQclear(res);
}

static void fail_with(struct said *s, enum err_class class)
{
    struct err err;
    err_set(&err, class, "no");
    answer(s, NULL, &err);
}

/* n jobs, from this number on, each at the step that one statement ends. */
static void give_jobs(int first, int n)
{
    PGresult *res = result(COLUMNS);
    for (int i = 0; i < n; i++) {
        char id[16];
        snprintf(id, sizeof(id), "%d", first + i);
        for (int c = 0; c < COLUMNS; c++) {
            assert_true(PQsetvalue(res, i, c, NULL, -1));
        }
        const char *const known[] = {id, "3", SUBSCRIPTION, "provision", "record", "0", "60000"};
        for (size_t c = 0; c < ARRAY_LEN(known); c++) {
            put(res, i, (int)c, known[c]);
        }
        put(res, i, 9, ORGANIZATION);
        put(res, i, 11, ORGANIZATION);
        put(res, i, 29, "eu");
    }
    answer(last(S_JOBS_CLAIM), res, NULL);
    PQclear(res);
}

/* ---- the engine ---- */

static void stop(void *ctx)
{
    loop_stop(ctx);
}

static void turn(int64_t ms)
{
    struct err err;
    struct loop_timer timer = {.fn = stop, .ctx = world.loop};
    assert_int_equal(loop_timer_set(world.loop, &timer, ms, &err), 0);
    assert_int_equal(loop_run(world.loop, &err), 0);
}

/* Timers that are due by then fire now. */
static void pass(int64_t ms)
{
    world.ahead_ms += ms + 20;
    turn(10);
}

static void on_drained(void *ctx)
{
    (void)ctx;
    world.drained = true;
}

static int setup(void **state)
{
    static const int64_t only[] = {7};
    struct err err;
    (void)state;
    world = (struct world){.config = whole};
    world.loop = loop_new(&err);
    world.metrics = metrics_new(&err);
    const struct engine_options o = {
        .config = &world.config, .metrics = world.metrics, .only = only, .n_only = 1};
    log_setup(LOG_ERROR, false, -1);
    world.engine = engine_new(world.loop, &o, &err);
    assert_non_null(world.engine);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    engine_free(world.engine);
    metrics_free(world.metrics);
    loop_free(world.loop);
    return 0;
}

static void connect_to(int version)
{
    char text[16];
    snprintf(text, sizeof(text), "%d", version);
    world.up = true;
    world.on_state(world.state_ctx, true, NULL);
    tell(last(S_SCHEMA_VERSION), text);
}

/* Registered, and asked for jobs. */
static void begin(void)
{
    connect_to(migrate_wanted());
    tell(last(S_WORKER_REGISTER), "");
    turn(1);
    assert_int_equal(count(S_JOBS_CLAIM), 1);
}

static bool is_leased(void)
{
    struct engine_health health;
    engine_health(world.engine, &health);
    return health.leased;
}

static size_t jobs(void)
{
    struct engine_health health;
    engine_health(world.engine, &health);
    return health.jobs;
}

static void test_another_schema_is_not_worked_on(void **state)
{
    (void)state;
    struct engine_health health;
    connect_to(migrate_wanted() - 1);
    turn(1);
    assert_int_equal(count(S_WORKER_REGISTER) + count(S_JOBS_CLAIM), 0);
    engine_health(world.engine, &health);
    assert_false(health.schema);
    assert_non_null(strstr(health.why, "provisioner migrate"));
    pass(LOOK_MS);
    char text[16];
    snprintf(text, sizeof(text), "%d", migrate_wanted());
    tell(last(S_SCHEMA_VERSION), text); /* migrated meanwhile */
    assert_int_equal(count(S_WORKER_REGISTER), 1);
}

/* As many as it may have, and one more for each that ends. */
static void test_no_more_jobs_than_it_may_have(void **state)
{
    (void)state;
    begin();
    assert_string_equal(last(S_JOBS_CLAIM)->param[0], engine_owner(world.engine));
    assert_string_equal(last(S_JOBS_CLAIM)->param[1], "2");
    give_jobs(5, 2);
    assert_int_equal(jobs(), 2);
    turn(1);
    pass(LOOK_MS);
    assert_int_equal(count(S_JOBS_CLAIM), 1); /* there is no room */
    tell(last(S_STEP_READY), "ok");           /* what is left of its plan has nothing to do */
    assert_int_equal(jobs(), 1);
    turn(1);
    assert_int_equal(count(S_JOBS_CLAIM), 2);
    assert_string_equal(last(S_JOBS_CLAIM)->param[1], "1");
}

static void test_without_a_lease_nothing_is_claimed(void **state)
{
    (void)state;
    begin();
    tell(last(S_JOBS_CLAIM), NULL);
    assert_true(is_leased());
    pass(LEASE_MS - 500); /* too near to its end */
    assert_false(is_leased());
    engine_wake(world.engine);
    turn(1);
    assert_int_equal(count(S_JOBS_CLAIM), 1);
    assert_int_equal(count(S_WORKER_RENEW), 1);
}

/* The lease counts from before the statement that renewed it was sent. */
static void test_a_renewal_counts_from_when_it_was_asked_for(void **state)
{
    (void)state;
    begin();
    pass(LEASE_MS / 3);
    struct said *renewal = last(S_WORKER_RENEW);
    world.ahead_ms += LEASE_MS - 500; /* the answer took this long */
    tell(renewal, "t");
    assert_false(is_leased());
}

static void test_a_lost_lease_takes_everything(void **state)
{
    (void)state;
    char former[UUID_TEXT];
    begin();
    str_copy(former, sizeof(former), engine_owner(world.engine));
    give_jobs(5, 1);
    pass(LEASE_MS / 3);
    tell(last(S_WORKER_RENEW), "f");
    assert_false(is_leased());
    assert_string_equal(last(S_WORKER_LEAVE)->param[0], former);
    assert_string_not_equal(last(S_WORKER_REGISTER)->param[0], former);
    assert_string_equal(last(S_WORKER_REGISTER)->param[0], engine_owner(world.engine));
    tell(last(S_STEP_READY), "lost"); /* an answer that was still to come */
    assert_int_equal(jobs(), 0);
    tell(last(S_WORKER_REGISTER), "");
    assert_true(is_leased());
}

static void test_a_renewal_that_failed_changes_nothing(void **state)
{
    (void)state;
    begin();
    pass(LEASE_MS / 3);
    fail_with(last(S_WORKER_RENEW), ERR_UNAVAILABLE);
    assert_true(is_leased());
    pass(LEASE_MS / 3);
    assert_int_equal(count(S_WORKER_RENEW), 2);
    tell(last(S_WORKER_RENEW), "t");
    pass(LEASE_MS / 3 * 2);
    assert_true(is_leased());
}

/* The answer to a job's write is unknown, while the lease goes on: nobody else would run it. */
static void test_a_stranded_job_is_given_back(void **state)
{
    (void)state;
    begin();
    give_jobs(5, 1);
    fail_with(last(S_STEP_READY), ERR_UNKNOWN);
    assert_int_equal(jobs(), 0);
    pass(LOOK_MS);
    assert_int_equal(count(S_JOBS_BACK), 1);
    assert_string_equal(last(S_JOBS_BACK)->param[0], engine_owner(world.engine));
    assert_string_equal(last(S_JOBS_BACK)->param[1], "{5}");
    assert_string_equal(last(S_JOBS_BACK)->param[2], "{3}");
    tell(last(S_JOBS_BACK), "5"); /* it is still ours: its row was locked */
    pass(LOOK_MS);
    assert_int_equal(count(S_JOBS_BACK), 1); /* not at once */
    pass(6 * 1000);
    assert_int_equal(count(S_JOBS_BACK), 2);
    tell(last(S_JOBS_BACK), NULL);
    pass(6 * 1000);
    assert_int_equal(count(S_JOBS_BACK), 2);
}

/* Nobody knows what a claim got whose answer was lost: all is given back with the identity. */
static void test_a_claim_whose_answer_was_lost(void **state)
{
    (void)state;
    char former[UUID_TEXT];
    begin();
    str_copy(former, sizeof(former), engine_owner(world.engine));
    fail_with(last(S_JOBS_CLAIM), ERR_UNKNOWN);
    pass(LOOK_MS);
    assert_string_equal(last(S_WORKER_LEAVE)->param[0], former);
    assert_string_not_equal(last(S_WORKER_REGISTER)->param[0], former);
}

static void test_a_refused_claim_is_made_with_care(void **state)
{
    (void)state;
    begin();
    fail_with(last(S_JOBS_CLAIM), ERR_REFUSED);
    pass(LOOK_MS);
    assert_int_equal(count(S_JOBS_CLAIM), 2);
    assert_int_equal(count(S_WORKER_REGISTER), 1);
    tell(last(S_JOBS_CLAIM), NULL);
}

static void test_a_lost_connection_takes_the_identity(void **state)
{
    (void)state;
    char former[UUID_TEXT];
    begin();
    str_copy(former, sizeof(former), engine_owner(world.engine));
    give_jobs(5, 1);
    world.up = false;
    world.on_state(world.state_ctx, false, "it went");
    fail_with(last(S_STEP_READY), ERR_UNKNOWN);
    assert_int_equal(jobs(), 0);
    assert_false(is_leased());
    connect_to(migrate_wanted());
    assert_string_equal(last(S_WORKER_LEAVE)->param[0], former);
    assert_string_not_equal(last(S_WORKER_REGISTER)->param[0], former);
    assert_int_equal(count(S_JOBS_BACK), 0);
}

static void test_draining_gives_back_what_does_not_end(void **state)
{
    (void)state;
    begin();
    give_jobs(5, 1);
    engine_drain(world.engine, 20 * 1000, on_drained, NULL);
    turn(1);
    assert_int_equal(count(S_WORKER_LEAVE), 0); /* its statement is heard out */
    assert_int_equal(count(S_JOBS_CLAIM), 1);
    pass(19 * 1000);
    assert_int_equal(count(S_WORKER_LEAVE), 1);
    assert_false(world.drained);
    tell(last(S_WORKER_LEAVE), "1");
    assert_true(world.drained);
}

static void test_draining_ends_when_all_has_ended(void **state)
{
    (void)state;
    begin();
    give_jobs(5, 1);
    engine_drain(world.engine, 20 * 1000, on_drained, NULL);
    tell(last(S_STEP_READY), "ok");
    turn(1);
    fail_with(last(S_WORKER_LEAVE), ERR_UNAVAILABLE);
    assert_true(world.drained);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_another_schema_is_not_worked_on),
        TEST(test_no_more_jobs_than_it_may_have),
        TEST(test_without_a_lease_nothing_is_claimed),
        TEST(test_a_renewal_counts_from_when_it_was_asked_for),
        TEST(test_a_lost_lease_takes_everything),
        TEST(test_a_renewal_that_failed_changes_nothing),
        TEST(test_a_stranded_job_is_given_back),
        TEST(test_a_claim_whose_answer_was_lost),
        TEST(test_a_refused_claim_is_made_with_care),
        TEST(test_a_lost_connection_takes_the_identity),
        TEST(test_draining_gives_back_what_does_not_end),
        TEST(test_draining_ends_when_all_has_ended),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
