#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/rng.h"
#include "base/str.h"
#include "net/loop.h"
#include "store/pg.h"
#include "unit/pg_cluster.h"

enum { WAIT_MS = 20000 };

enum { INSERT, UPDATE_SLOWLY, SLEEP, DEFERRED, TRACE, BYTES, FLAKY, STAR };
static const struct pg_statement statements[] = {
    [INSERT] = {"insert", "insert into t (id, note) values ($1, $2)", 2},
    [UPDATE_SLOWLY] = {"update_slowly",
                       "with u as (update account set n = n + 1 where id = $1 returning id)"
                       " select pg_sleep(0.02) from u",
                       1},
    [SLEEP] = {"sleep", "select pg_sleep($1)", 1},
    [DEFERRED] = {"deferred", "insert into d (id) values ($1)", 1},
    [TRACE] = {"trace", "insert into trace (key, n) values ($1, $2)", 2},
    [BYTES] = {"bytes", "select $1::bytea, $2::text, $3::text is null", 3},
    [FLAKY] = {"flaky", "select flaky($1)", 1},
    [STAR] = {"star", "select * from star", 0},
};

static const char schema[] =
    "drop schema if exists agent_marketplace cascade;"
    "create schema agent_marketplace;"
    "create table t (id int primary key, note text);"
    "create table account (id int primary key, n int not null default 0);"
    "insert into account (id) values (1), (2);"
    "create table d (id int unique deferrable initially deferred);"
    "create table trace (at bigserial, key text, n int unique check (n <> 0));"
    "create table star (a int);"
    "create sequence tries;"
    /* Sequences are not rolled back: the first $1 calls fail. */
    "create function flaky(failures int) returns text language plpgsql as $$ begin"
    " if nextval('tries') <= failures then raise exception 'not now' using errcode = '40001';"
    " end if;"
    " insert into trace (key, n) values ('k', 1); return 'ok'; end $$;";

static struct pg_cluster cluster;

struct fixture {
    struct loop *loop;
    struct pg *pg;
    PGconn *sql; /* on the side */
    int ups, downs;
    char why[ERR_MSG_MAX];
    int answers; /* callbacks so far, of all */
};

/* ---- helpers ---- */

static void on_state(void *ctx, bool up, const char *why)
{
    struct fixture *f = ctx;
    if (up)
        f->ups++;
    else
        f->downs++;
    str_copy(f->why, sizeof(f->why), why);
}

struct waiting {
    struct loop *loop;
    struct loop_timer timer;
    bool (*ready)(void *ctx);
    void *ctx;
    int64_t deadline_ms;
    bool late;
};

static void look(void *ctx)
{
    struct waiting *w = ctx;
    w->late = clock_mono_ms() > w->deadline_ms;
    if (w->late || (w->ready && w->ready(w->ctx)))
        loop_stop(w->loop);
    else
        loop_timer_set(w->loop, &w->timer, 1, NULL);
}

/* Turns the loop until ready, or for ms where ready is NULL; false when that took too long. */
static bool turn_until(struct loop *loop, bool (*ready)(void *ctx), void *ctx, int64_t ms)
{
    struct waiting w = {.loop = loop, .ready = ready, .ctx = ctx};
    w.timer.fn = look;
    w.timer.ctx = &w;
    w.deadline_ms = clock_mono_ms() + ms;
    assert_int_equal(loop_timer_set(loop, &w.timer, 0, NULL), 0);
    assert_int_equal(loop_run(loop, NULL), 0);
    loop_timer_cancel(loop, &w.timer);
    return !w.late;
}

static bool is_up(void *ctx)
{
    return pg_is_up(ctx);
}

static bool is_down(void *ctx)
{
    return !pg_is_up(ctx);
}

static bool is_idle(void *ctx)
{
    return pg_outstanding(ctx) == 0;
}

static bool is_positive(void *ctx)
{
    return *(int *)ctx > 0;
}

static struct pg *open_with(struct fixture *f, const struct pg_options *options)
{
    struct err err;
    struct pg *p = pg_new(f->loop, options, &err);
    if (!p)
        fail_msg("%s", err.msg);
    return p;
}

static struct pg *open_pg(struct fixture *f, const char *application, int64_t timeout_ms)
{
    struct pg_options options = {.url = cluster.url,
                                 .application = application,
                                 .statements = statements,
                                 .n_statements = ARRAY_LEN(statements),
                                 .statement_timeout_ms = timeout_ms,
                                 .on_state = on_state,
                                 .ctx = f};
    struct pg *p = open_with(f, &options);
    if (!turn_until(f->loop, is_up, p, WAIT_MS))
        fail_msg("not up: %s", f->why);
    return p;
}

static void wait_idle(struct fixture *f, struct pg *p)
{
    if (!turn_until(f->loop, is_idle, p, WAIT_MS))
        fail_msg("%zu statements are still outstanding", pg_outstanding(p));
}

static void sql(struct fixture *f, const char *text)
{
    PGresult *res = PQexec(f->sql, text);
    ExecStatusType status = PQresultStatus(res);
    PQclear(res);
    if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK)
        fail_msg("%s: %s", text, PQerrorMessage(f->sql));
}

static int number(struct fixture *f, const char *text)
{
    struct err err;
    PGresult *res = pg_query(f->sql, text, 0, NULL, &err);
    if (!res)
        fail_msg("%s: %s", text, err.msg);
    int64_t value = -1;
    assert_true(str_to_i64(PQgetvalue(res, 0, 0), &value));
    PQclear(res);
    return (int)value;
}

static void connect_aside(struct fixture *f)
{
    struct err err;
    PQfinish(f->sql);
    f->sql = pg_connect(cluster.url, "aside", &err);
    if (!f->sql)
        fail_msg("%s", err.msg);
}

struct call {
    struct fixture *f;
    int answers; /* to this one; must become 1 */
    int order;   /* among all answers, from 1 */
    struct err err;
    char value[40];
};

static void on_done(void *ctx, const PGresult *res, const struct err *err)
{
    struct call *c = ctx;
    c->answers++;
    c->order = ++c->f->answers;
    assert_true((res == NULL) == (err != NULL));
    if (err)
        c->err = *err;
    else if (PQntuples(res) == 1)
        str_copy(c->value, sizeof(c->value), PQgetvalue(res, 0, 0));
}

struct how {
    const char *key;
    bool alone;
};

static void submit(struct fixture *f, struct pg *p, struct call *c, int statement, struct how how,
                   const char *a, const char *b)
{
    const struct pg_param params[] = {{a, -1}, {b, -1}, {NULL, -1}};
    struct err err;
    c->f = f;
    if (pg_submit(p, statement, how.key, how.alone, params, on_done, c, &err) != 0)
        fail_msg("%s", err.msg);
}

static void submit_int(struct fixture *f, struct call *c, int statement, int value)
{
    char text[16];
    snprintf(text, sizeof(text), "%d", value);
    submit(f, f->pg, c, statement, (struct how){0}, text, "note");
}

static void expect_ok(const struct call *c)
{
    assert_int_equal(c->answers, 1);
    if (c->err.class != ERR_NONE)
        fail_msg("%s", c->err.msg);
}

static void expect_error(const struct call *c, enum err_class class, const char *sqlstate)
{
    assert_int_equal(c->answers, 1);
    if (c->err.class != class)
        fail_msg("expected %s, got %s: %s", err_class_name(class), err_class_name(c->err.class),
                 c->err.msg);
    assert_string_equal(c->err.sqlstate, sqlstate);
    assert_true(c->err.msg[0] != '\0');
}

static struct pg_stats stats_of(const struct pg *p)
{
    struct pg_stats s;
    pg_stats(p, &s);
    return s;
}

static int start_cluster(void **state)
{
    (void)state;
    struct err err;
    if (pg_cluster_start(&cluster) != 0)
        return -1;
    PGconn *admin = pg_connect(cluster.admin, "test_pg", &err);
    PQclear(PQexec(admin, "alter database provisioner set deadlock_timeout = '50ms'"));
    PQfinish(admin);
    return admin ? 0 : -1;
}

static int end_cluster(void **state)
{
    (void)state;
    return pg_cluster_do("remove");
}

static int setup(void **state)
{
    struct err err;
    struct fixture *f = calloc(1, sizeof *f);
    *state = f;
    f->loop = loop_new(&err);
    connect_aside(f);
    sql(f, schema);
    f->pg = open_pg(f, "test_pg", 10000);
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    pg_free(f->pg);
    PQfinish(f->sql);
    loop_free(f->loop);
    free(f);
    return 0;
}

/* ---- groups ---- */

static void one_turn_is_one_commit(void **state)
{
    struct fixture *f = *state;
    struct call calls[100] = {0};
    for (int i = 0; i < 100; i++)
        submit_int(f, &calls[i], INSERT, i);
    assert_int_equal(pg_outstanding(f->pg), 100);
    wait_idle(f, f->pg);
    assert_int_equal(stats_of(f->pg).groups, 1);
    assert_int_equal(stats_of(f->pg).statements, 100);
    assert_int_equal(stats_of(f->pg).replays, 0);
    for (int i = 0; i < 100; i++) {
        expect_ok(&calls[i]);
        assert_int_equal(calls[i].order, i + 1);
    }
    assert_int_equal(number(f, "select count(*) from t"), 100);
    assert_int_equal(number(f, "select count(distinct xmin::text) from t"), 1);
    assert_int_equal(f->ups, 1);
    assert_int_equal(f->downs, 0);
}

static void alone_means_alone(void **state)
{
    struct fixture *f = *state;
    struct call calls[6] = {0};
    static const bool alone[] = {false, false, true, true, false, false};
    for (int i = 0; i < 6; i++) {
        char text[12];
        snprintf(text, sizeof(text), "%d", i);
        submit(f, f->pg, &calls[i], INSERT, (struct how){.alone = alone[i]}, text, NULL);
    }
    wait_idle(f, f->pg);
    assert_int_equal(stats_of(f->pg).groups, 4);
    assert_int_equal(number(f, "select count(distinct xmin::text) from t"), 4);
    assert_int_equal(number(f, "select count(*) from t where note is null"), 6);
    assert_int_equal(number(f, "select count(distinct xmin::text) from t where id in (4, 5)"), 1);
    for (int i = 0; i < 6; i++)
        assert_int_equal(calls[i].order, i + 1);
}

static void only_the_culprit_fails(void **state)
{
    struct fixture *f = *state;
    enum { N = 60 };
    struct call calls[N] = {0};
    for (int i = 0; i < N; i++)
        submit_int(f, &calls[i], INSERT, i == 23 ? 5 : i);
    submit(f, f->pg, &calls[40], INSERT, (struct how){0}, "not a number", "x");
    calls[40].answers--; /* this call has two statements; the second comes last */
    wait_idle(f, f->pg);
    assert_int_equal(stats_of(f->pg).replays, 1);
    assert_int_equal(stats_of(f->pg).groups, 1 + N + 1);
    assert_int_equal(stats_of(f->pg).failures, 2);
    for (int i = 0; i < N; i++) {
        if (i == 23)
            expect_error(&calls[i], ERR_REFUSED, "23505");
        else if (i == 40)
            expect_error(&calls[i], ERR_REFUSED, "22P02");
        else
            expect_ok(&calls[i]);
        if (i != 40)
            assert_int_equal(calls[i].order, i + 1);
    }
    assert_non_null(strstr(calls[23].err.msg, "insert: "));
    assert_non_null(strstr(calls[23].err.msg, "t_pkey"));
    assert_int_equal(number(f, "select count(*) from t"), N - 1);
    assert_true(pg_is_up(f->pg));
}

static void a_commit_can_fail_too(void **state)
{
    struct fixture *f = *state;
    struct call calls[12] = {0};
    for (int i = 0; i < 11; i++)
        submit_int(f, &calls[i], DEFERRED, i == 7 ? 3 : i);
    wait_idle(f, f->pg);
    for (int i = 0; i < 11; i++) {
        if (i == 7)
            expect_error(&calls[i], ERR_REFUSED, "23505");
        else
            expect_ok(&calls[i]);
    }
    assert_int_equal(stats_of(f->pg).replays, 1);
    assert_int_equal(number(f, "select count(*) from d"), 10);
    submit_int(f, &calls[11], DEFERRED, 3); /* a group of one */
    wait_idle(f, f->pg);
    expect_error(&calls[11], ERR_REFUSED, "23505");
    assert_int_equal(number(f, "select count(*) from d"), 10);
}

static void serialization_failures_are_retried(void **state)
{
    struct fixture *f = *state;
    struct call calls[3] = {0};
    submit_int(f, &calls[0], FLAKY, 4);
    wait_idle(f, f->pg);
    expect_ok(&calls[0]);
    assert_string_equal(calls[0].value, "ok");
    assert_int_equal(number(f, "select last_value from tries"), 5);
    sql(f, "alter sequence tries restart");
    submit_int(f, &calls[1], FLAKY, 1000);
    submit_int(f, &calls[2], INSERT, 1);
    wait_idle(f, f->pg);
    expect_error(&calls[1], ERR_UNAVAILABLE, "40001");
    expect_ok(&calls[2]);
    /* Once in the group, then PG_TRIES_MAX times singly. */
    assert_int_equal(number(f, "select last_value from tries"), 1 + PG_TRIES_MAX);
    assert_int_equal(number(f, "select count(*) from t"), 1);
}

/* Keys, poison, solitude and turns at random; n is unique and tells the order of submission. */
static void order_holds_whatever_fails(void **state)
{
    struct fixture *f = *state;
    enum { N = 3000 };
    static const char *const keys[] = {NULL, "a", "b", "c", "d", "e", "f", "g"};
    struct call *calls = calloc(N, sizeof *calls);
    struct rng rng;
    uint64_t seed = (uint64_t)time(NULL);
    int refused = 0;
    print_message("seed %llu\n", (unsigned long long)seed);
    rng_seed(&rng, seed);
    for (int i = 0; i < N; i++) {
        char n[16];
        bool bad = rng_below(&rng, 150) == 0;
        const char *key = keys[rng_below(&rng, ARRAY_LEN(keys))];
        struct how how = {.key = key, .alone = rng_below(&rng, 100) == 0};
        snprintf(n, sizeof(n), "%d", bad ? 0 : i + 1);
        refused += bad;
        submit(f, f->pg, &calls[i], TRACE, how, key, n);
        if (rng_below(&rng, 20) == 0)
            turn_until(f->loop, NULL, NULL, 0);
    }
    wait_idle(f, f->pg);
    int failed = 0;
    for (int i = 0; i < N; i++) {
        assert_int_equal(calls[i].answers, 1);
        assert_int_equal(calls[i].order, i + 1);
        failed += calls[i].err.class != ERR_NONE;
    }
    free(calls);
    assert_int_equal(failed, refused);
    assert_true(stats_of(f->pg).replays > 0);
    assert_int_equal(number(f, "select count(*) from trace"), N - refused);
    assert_int_equal(number(f, "select count(*) from (select n, max(n) over (partition by key"
                               " order by at) as top from trace where key is not null) x"
                               " where n < top"),
                     0);
}

/* Group 2 must not commit what group 1, once replayed, comes to later: same key, two groups. */
static void a_second_group_waits_for_its_keys(void **state)
{
    struct fixture *f = *state;
    struct call calls[4] = {0};
    submit(f, f->pg, &calls[0], TRACE, (struct how){.key = "k"}, "k", "1");
    submit(f, f->pg, &calls[1], TRACE, (struct how){.key = "z"}, "z", "0"); /* fails the group */
    submit(f, f->pg, &calls[2], TRACE, (struct how){.key = "k", .alone = true}, "k", "2");
    submit(f, f->pg, &calls[3], TRACE, (struct how){.key = "k"}, "k", "3");
    wait_idle(f, f->pg);
    expect_ok(&calls[0]);
    expect_error(&calls[1], ERR_REFUSED, "23514");
    expect_ok(&calls[2]);
    expect_ok(&calls[3]);
    assert_int_equal(number(f, "select (array_agg(n order by at) = '{1,2,3}')::int from trace"), 1);
}

/* One that is tried again singly stays ahead of those that wait for its key. */
static void retries_keep_their_place(void **state)
{
    struct fixture *f = *state;
    struct call calls[3] = {0};
    submit(f, f->pg, &calls[0], FLAKY, (struct how){.key = "k"}, "4", NULL);
    submit(f, f->pg, &calls[1], TRACE, (struct how){.key = "k"}, "k", "2");
    submit(f, f->pg, &calls[2], TRACE, (struct how){.key = "k", .alone = true}, "k", "3");
    wait_idle(f, f->pg);
    for (int i = 0; i < 3; i++)
        expect_ok(&calls[i]);
    assert_int_equal(number(f, "select last_value from tries"), 5);
    assert_int_equal(number(f, "select (array_agg(n order by at) = '{1,2,3}')::int from trace"), 1);
}

static void cross(struct fixture *f, bool keyed, uint64_t *replays)
{
    enum { ROUNDS = 4 };
    static const char *const rows[] = {"1", "2"};
    struct pg *pair[2] = {open_pg(f, "one", 10000), open_pg(f, "two", 10000)};
    struct call calls[ROUNDS][2][2];
    memset(calls, 0, sizeof(calls));
    for (int r = 0; r < ROUNDS; r++) {
        for (int who = 0; who < 2; who++)
            for (int i = 0; i < 2; i++) {
                const char *row = rows[i ^ who];
                submit(f, pair[who], &calls[r][who][i], UPDATE_SLOWLY,
                       (struct how){.key = keyed ? row : NULL}, row, NULL);
            }
        wait_idle(f, pair[0]);
        wait_idle(f, pair[1]);
    }
    for (int r = 0; r < ROUNDS; r++)
        for (int i = 0; i < 4; i++)
            expect_ok(&calls[r][i / 2][i % 2]);
    *replays = stats_of(pair[0]).replays + stats_of(pair[1]).replays;
    pg_free(pair[0]);
    pg_free(pair[1]);
    assert_int_equal(number(f, "select count(*) from account where n = 8"), 2);
    sql(f, "update account set n = 0");
}

static void sorting_avoids_deadlocks(void **state)
{
    uint64_t replays = 99;
    cross(*state, true, &replays);
    assert_int_equal(replays, 0);
    /* Unsorted they do deadlock, and still every statement happens once. */
    cross(*state, false, &replays);
    assert_true(replays > 0);
}

struct chain {
    struct fixture *f;
    int id, left, failures;
};

static void chain_next(void *ctx, const PGresult *res, const struct err *err)
{
    struct chain *c = ctx;
    char id[16];
    (void)res;
    c->failures += err != NULL;
    if (c->left-- == 0)
        return;
    snprintf(id, sizeof(id), "%d", c->id++);
    const struct pg_param params[] = {{id, -1}, {"chained", -1}};
    assert_int_equal(pg_submit(c->f->pg, INSERT, NULL, false, params, chain_next, c, NULL), 0);
}

static void ten_thousand(void **state)
{
    struct fixture *f = *state;
    struct chain chains[200];
    int64_t start = clock_mono_ms();
    for (int i = 0; i < 200; i++) {
        chains[i] = (struct chain){.f = f, .id = i * 100, .left = 50};
        chain_next(&chains[i], NULL, NULL);
    }
    wait_idle(f, f->pg);
    print_message("10,000 in %lld ms, %llu groups\n", (long long)(clock_mono_ms() - start),
                  (unsigned long long)stats_of(f->pg).groups);
    for (int i = 0; i < 200; i++)
        assert_int_equal(chains[i].failures, 0);
    assert_int_equal(stats_of(f->pg).statements, 10000);
    assert_true(stats_of(f->pg).groups <= 200);
    assert_int_equal(number(f, "select count(*) from t"), 10000);
}

static void parameters_arrive_as_they_are(void **state)
{
    struct fixture *f = *state;
    struct call calls[3] = {0};
    enum { BIG = 3 << 20 };
    char *big = malloc(BIG);
    memset(big, 'x', BIG);
    const struct pg_param binary[] = {{"a\0b\xff", 4}, {"", -1}, {NULL, -1}};
    const struct pg_param empty[] = {{"", 0}, {"x", 1}, {NULL, 7}};
    const struct pg_param large[] = {{big, BIG}, {"", -1}, {"", -1}};
    const struct pg_param *const sets[] = {binary, empty, large};
    for (int i = 0; i < 3; i++) {
        calls[i].f = f;
        assert_int_equal(pg_submit(f->pg, BYTES, NULL, false, sets[i], on_done, &calls[i], NULL),
                         0);
    }
    free(big);
    wait_idle(f, f->pg);
    for (int i = 0; i < 3; i++)
        expect_ok(&calls[i]);
    assert_string_equal(calls[0].value, "\\x610062ff");
    assert_string_equal(calls[1].value, "\\x");
    assert_true(str_starts(calls[2].value, "\\x7878"));
}

static void the_queue_has_an_end(void **state)
{
    struct fixture *f = *state;
    struct call *calls = calloc(PG_QUEUE_MAX, sizeof *calls);
    struct err err;
    const struct pg_param params[] = {{"1", -1}, {NULL, -1}};
    for (int i = 0; i < PG_QUEUE_MAX; i++) {
        calls[i].f = f;
        assert_int_equal(pg_submit(f->pg, INSERT, NULL, false, params, on_done, &calls[i], &err),
                         0);
    }
    assert_int_equal(pg_submit(f->pg, INSERT, NULL, false, params, on_done, calls, &err), -1);
    assert_int_equal(err.class, ERR_UNAVAILABLE);
    assert_int_equal(pg_submit(f->pg, 99, NULL, false, params, on_done, calls, &err), -1);
    assert_int_equal(err.class, ERR_INTERNAL);
    /* Freed with everything outstanding, some of it in flight: no callback runs. */
    turn_until(f->loop, NULL, NULL, 0);
    int answers = f->answers;
    pg_free(f->pg);
    f->pg = NULL;
    turn_until(f->loop, NULL, NULL, 20);
    assert_int_equal(f->answers, answers);
    free(calls);
}

/* ---- losses ---- */

static void sleep_long(struct fixture *f, struct call *c)
{
    submit(f, f->pg, c, SLEEP, (struct how){.alone = true}, "30", NULL);
}

static void lose(struct fixture *f, const char *how)
{
    struct call calls[5] = {0};
    sleep_long(f, &calls[0]);
    submit_int(f, &calls[1], INSERT, 1); /* sent behind the first, never run */
    sleep_long(f, &calls[2]);            /* the third group: not sent */
    turn_until(f->loop, NULL, NULL, 100);
    assert_int_equal(pg_cluster_do(how), 0);
    assert_true(turn_until(f->loop, is_down, f->pg, WAIT_MS));
    assert_int_equal(pg_outstanding(f->pg), 0);
    expect_error(&calls[0], ERR_UNKNOWN, "");
    expect_error(&calls[1], ERR_UNKNOWN, "");
    expect_error(&calls[2], ERR_UNAVAILABLE, "");
    /* While down everything fails, at once but not inside pg_submit. */
    submit_int(f, &calls[3], INSERT, 2);
    assert_int_equal(calls[3].answers, 0);
    wait_idle(f, f->pg);
    expect_error(&calls[3], ERR_UNAVAILABLE, "");
    assert_int_equal(pg_cluster_do("start"), 0);
    assert_true(turn_until(f->loop, is_up, f->pg, WAIT_MS));
    submit_int(f, &calls[4], INSERT, 3);
    wait_idle(f, f->pg);
    expect_ok(&calls[4]);
    connect_aside(f);
    assert_int_equal(number(f, "select count(*) from t"), 1);
    assert_int_equal(stats_of(f->pg).reconnects, 1);
    assert_int_equal(f->ups, 2);
    assert_int_equal(f->downs, 1);
}

static void survives_a_restart(void **state)
{
    lose(*state, "restart");
}

static void survives_a_crash(void **state)
{
    lose(*state, "kill");
}

static void stays_quiet_while_down(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(pg_cluster_do("stop"), 0);
    turn_until(f->loop, NULL, NULL, 1500);
    assert_false(pg_is_up(f->pg));
    assert_int_equal(f->downs, 1);
    assert_int_equal(pg_cluster_do("start"), 0);
    assert_true(turn_until(f->loop, is_up, f->pg, WAIT_MS));
    assert_int_equal(f->ups, 2);
}

static void survives_its_backend(void **state)
{
    struct fixture *f = *state;
    struct call calls[2] = {0};
    sleep_long(f, &calls[0]);
    turn_until(f->loop, NULL, NULL, 50);
    assert_int_equal(number(f, "select count(pg_terminate_backend(pid)) from pg_stat_activity"
                               " where application_name = 'test_pg'"),
                     1);
    wait_idle(f, f->pg);
    expect_error(&calls[0], ERR_UNKNOWN, "");
    assert_true(turn_until(f->loop, is_up, f->pg, WAIT_MS));
    submit_int(f, &calls[1], INSERT, 1);
    wait_idle(f, f->pg);
    expect_ok(&calls[1]);
}

/* Several rounds with load: what was answered well is there, what certainly did not happen is not.
 */
static void promises_hold_under_losses(void **state)
{
    struct fixture *f = *state;
    enum { ROUNDS = 6, N = 3000 };
    static struct call calls[ROUNDS][N];
    memset(calls, 0, sizeof(calls));
    int unknown = 0, ok = 0;
    for (int r = 0; r < ROUNDS; r++) {
        assert_true(turn_until(f->loop, is_up, f->pg, WAIT_MS));
        for (int i = 0; i < N; i++)
            submit_int(f, &calls[r][i], INSERT, r * N + i);
        turn_until(f->loop, NULL, NULL, 2 + r);
        sql(f, "select pg_terminate_backend(pid) from pg_stat_activity"
               " where application_name = 'test_pg'");
        wait_idle(f, f->pg);
        for (int i = 0; i < N; i++) {
            const struct call *c = &calls[r][i];
            assert_int_equal(c->answers, 1);
            if (c->err.class == ERR_UNKNOWN) {
                unknown++;
                continue;
            }
            ok += c->err.class == ERR_NONE;
            char query[80];
            snprintf(query, sizeof(query), "select count(*) from t where id = %d", r * N + i);
            if (i % 50 == 0 || (i && calls[r][i - 1].err.class != c->err.class))
                assert_int_equal(number(f, query), c->err.class == ERR_NONE);
        }
    }
    int there = number(f, "select count(*) from t");
    print_message("%d good, %d unknown, %d there\n", ok, unknown, there);
    assert_true(there >= ok && there <= ok + unknown);
}

static void statements_time_out(void **state)
{
    struct fixture *f = *state;
    struct call calls[4] = {0};
    pg_free(f->pg);
    f->pg = open_pg(f, "test_pg", 500);
    submit_int(f, &calls[0], INSERT, 1);
    submit(f, f->pg, &calls[1], SLEEP, (struct how){0}, "5", NULL);
    submit_int(f, &calls[2], INSERT, 2);
    wait_idle(f, f->pg);
    expect_ok(&calls[0]);
    expect_error(&calls[1], ERR_UNAVAILABLE, "57014");
    expect_ok(&calls[2]);
    assert_int_equal(number(f, "select count(*) from t"), 2);
    assert_true(pg_is_up(f->pg));
}

static void a_silent_server_is_left(void **state)
{
    struct fixture *f = *state;
    struct call calls[2] = {0};
    pg_free(f->pg);
    f->pg = open_pg(f, "silent", 300);
    pid_t pid = number(f, "select pid from pg_stat_activity where application_name = 'silent'");
    assert_int_equal(kill(pid, SIGSTOP), 0);
    submit_int(f, &calls[0], INSERT, 1);
    bool left = turn_until(f->loop, is_idle, f->pg, WAIT_MS);
    kill(pid, SIGCONT);
    assert_true(left);
    expect_error(&calls[0], ERR_UNKNOWN, "");
    assert_true(turn_until(f->loop, is_up, f->pg, WAIT_MS));
    submit_int(f, &calls[1], INSERT, 2);
    wait_idle(f, f->pg);
    expect_ok(&calls[1]);
}

static void a_changed_schema_is_prepared_anew(void **state)
{
    struct fixture *f = *state;
    struct call calls[3] = {0};
    submit(f, f->pg, &calls[0], STAR, (struct how){0}, NULL, NULL);
    wait_idle(f, f->pg);
    expect_ok(&calls[0]);
    sql(f, "alter table star add b int");
    submit(f, f->pg, &calls[1], STAR, (struct how){0}, NULL, NULL);
    wait_idle(f, f->pg);
    expect_error(&calls[1], ERR_UNAVAILABLE, "0A000");
    assert_true(turn_until(f->loop, is_up, f->pg, WAIT_MS));
    submit(f, f->pg, &calls[2], STAR, (struct how){0}, NULL, NULL);
    wait_idle(f, f->pg);
    expect_ok(&calls[2]);
}

static void waits_for_its_schema(void **state)
{
    struct fixture *f = *state;
    pg_free(f->pg);
    f->pg = NULL;
    sql(f, "drop table star");
    f->ups = f->downs = 0;
    struct pg_options options = {.url = cluster.url,
                                 .application = "test_pg",
                                 .statements = statements,
                                 .n_statements = ARRAY_LEN(statements),
                                 .statement_timeout_ms = 1000,
                                 .on_state = on_state,
                                 .ctx = f};
    f->pg = open_with(f, &options);
    assert_true(turn_until(f->loop, is_positive, &f->downs, WAIT_MS));
    turn_until(f->loop, NULL, NULL, 500);
    assert_int_equal(f->downs, 1);
    assert_int_equal(f->ups, 0);
    assert_non_null(strstr(f->why, "star: relation \"star\" does not exist"));
    sql(f, "create table star (a int)");
    assert_true(turn_until(f->loop, is_up, f->pg, WAIT_MS));
    assert_int_equal(f->ups, 1);
}

static void refused_connections_tell_no_secret(void **state)
{
    struct fixture *f = *state;
    struct err err;
    char url[300];
    pg_free(f->pg);
    f->pg = NULL;
    f->downs = 0;
    snprintf(url, sizeof(url), "postgresql://provisioner:s3cr3t%s", strchr(cluster.url, '@'));
    assert_null(pg_connect(url, "test_pg", &err));
    assert_int_equal(err.class, ERR_UNAVAILABLE);
    assert_non_null(strstr(err.msg, "password authentication failed"));
    assert_null(strstr(err.msg, "s3cr3t"));
    struct pg_options options = {.url = url,
                                 .application = "test_pg",
                                 .statements = statements,
                                 .n_statements = ARRAY_LEN(statements),
                                 .statement_timeout_ms = 1000,
                                 .on_state = on_state,
                                 .ctx = f};
    f->pg = open_with(f, &options);
    assert_true(turn_until(f->loop, is_positive, &f->downs, WAIT_MS));
    turn_until(f->loop, NULL, NULL, 500);
    assert_int_equal(f->downs, 1);
    assert_non_null(strstr(f->why, "password authentication failed"));
    assert_null(strstr(f->why, "s3cr3t"));
}

static void bad_urls_are_refused_at_once(void **state)
{
    struct fixture *f = *state;
    static const char *const urls[] = {"", "provisioner", "postgresql://u:s3cr%zzt@h/d",
                                       "postgresql://u:p@h/d?nonsense=s3cr3t", "s3cr3t='x"};
    for (size_t i = 0; i < ARRAY_LEN(urls); i++) {
        struct err err;
        struct pg_options options = {.url = urls[i],
                                     .application = "x",
                                     .statements = statements,
                                     .n_statements = 1,
                                     .statement_timeout_ms = 1};
        assert_null(pg_new(f->loop, &options, &err));
        assert_int_equal(err.class, ERR_INVALID);
        assert_null(strstr(err.msg, "s3cr"));
        assert_null(pg_connect(urls[i], "x", &err));
        assert_int_equal(err.class, ERR_INVALID);
        assert_null(pg_listen_new(f->loop, urls[i], "channel", NULL, NULL, &err));
        assert_int_equal(err.class, ERR_INVALID);
    }
    assert_null(pg_listen_new(f->loop, cluster.url, "a; drop table t", NULL, NULL, NULL));
}

/* ---- notifications ---- */

static void count(void *ctx)
{
    ++*(int *)ctx;
}

static void listens_again_after_a_restart(void **state)
{
    struct fixture *f = *state;
    struct err err;
    int calls = 0;
    struct pg_listen *l = pg_listen_new(f->loop, cluster.url, "jobs_due", count, &calls, &err);
    assert_non_null(l);
    assert_true(turn_until(f->loop, is_positive, &calls, WAIT_MS)); /* once when it begins */
    calls = 0;
    sql(f, "notify other");
    turn_until(f->loop, NULL, NULL, 50);
    assert_int_equal(calls, 0);
    sql(f, "begin; notify jobs_due, '1'; notify jobs_due, '2'; notify jobs_due, '3'; commit");
    assert_true(turn_until(f->loop, is_positive, &calls, WAIT_MS));
    assert_true(calls <= 3);
    turn_until(f->loop, NULL, NULL, 20);
    calls = 0;
    assert_int_equal(pg_cluster_do("restart"), 0);
    assert_true(turn_until(f->loop, is_positive, &calls, WAIT_MS)); /* missed ones, perhaps */
    turn_until(f->loop, NULL, NULL, 20);
    calls = 0;
    connect_aside(f);
    sql(f, "notify jobs_due");
    assert_true(turn_until(f->loop, is_positive, &calls, WAIT_MS));
    assert_int_equal(calls, 1);
    pg_listen_free(l);
    pg_listen_free(NULL);
}

/* ---- words ---- */

static void error_lines(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {NULL, "no reason given"},
        {"\n \n", "no reason given"},
        {"ERROR:  boom \"x\"\nDETAIL:  Key (a)=(secret).\nHINT:  do\tthis\n", "ERROR:  boom \"x\"; "
                                                                              "HINT:  do this"},
        {"ERROR:  syntax error at \"x\"\nLINE 1: select secret\n               ^\n",
         "ERROR:  syntax error at \"x\""},
        {"connection to server at \"db\" (10.0.0.1), port 5432 failed: Connection refused\n\tIs "
         "the "
         "server running?\n",
         "connection to server at \"db\" (10.0.0.1), port 5432 failed: Connection refused; Is the "
         "server running?"},
        {"could not translate host name \"db.example\" to address: unknown\n",
         "could not translate host name \"db.example\" to address: unknown"},
        {"could not translate host name \"cret@db\" to address: unknown\n",
         "could not translate host name \"...\" to address: unknown"},
        {"invalid port number: \"s3cr3t\"\n", "invalid port number: \"...\""},
        {"invalid integer value \"s3\" for connection option \"port\"\n",
         "invalid integer value \"...\" for connection option \"...\""},
    };
    char line[200];
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        pg_error_line(cases[i][0], line, sizeof(line));
        assert_string_equal(line, cases[i][1]);
    }
    char tiny[8];
    pg_error_line("connection to server lost", tiny, sizeof(tiny));
    assert_string_equal(tiny, "connect");
}

static void synchronous_queries(void **state)
{
    struct fixture *f = *state;
    struct err err;
    const char *const params[] = {"7", NULL};
    PGresult *res = pg_query(f->sql, "select $1::int + 1, $2::text is null", 2, params, &err);
    assert_non_null(res);
    assert_string_equal(PQgetvalue(res, 0, 0), "8");
    assert_string_equal(PQgetvalue(res, 0, 1), "t");
    PQclear(res);
    assert_null(pg_query(f->sql, "select 1 / 0", 0, NULL, &err));
    assert_int_equal(err.class, ERR_REFUSED);
    assert_string_equal(err.sqlstate, "22012");
    assert_null(pg_query(f->sql, "select pg_terminate_backend(pg_backend_pid()), pg_sleep(1)", 0,
                         NULL, &err));
    assert_int_not_equal(err.class, ERR_REFUSED);
    assert_null(pg_query(f->sql, "select 1", 0, NULL, &err));
    assert_int_equal(err.class, ERR_UNAVAILABLE);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(error_lines),
        CASE(synchronous_queries),
        CASE(one_turn_is_one_commit),
        CASE(alone_means_alone),
        CASE(only_the_culprit_fails),
        CASE(a_commit_can_fail_too),
        CASE(serialization_failures_are_retried),
        CASE(order_holds_whatever_fails),
        CASE(a_second_group_waits_for_its_keys),
        CASE(retries_keep_their_place),
        CASE(sorting_avoids_deadlocks),
        CASE(ten_thousand),
        CASE(parameters_arrive_as_they_are),
        CASE(the_queue_has_an_end),
        CASE(survives_a_restart),
        CASE(survives_a_crash),
        CASE(stays_quiet_while_down),
        CASE(survives_its_backend),
        CASE(promises_hold_under_losses),
        CASE(statements_time_out),
        CASE(a_silent_server_is_left),
        CASE(a_changed_schema_is_prepared_anew),
        CASE(waits_for_its_schema),
        CASE(refused_connections_tell_no_secret),
        CASE(bad_urls_are_refused_at_once),
        CASE(listens_again_after_a_restart),
    };
    return cmocka_run_group_tests(tests, start_cluster, end_cluster);
}
