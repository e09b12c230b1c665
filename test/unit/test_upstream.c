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
#include "job.h"
#include "upstream.h"

enum { JOBS = 12 };

static struct config_runtime runtimes[] = {
    {.name = "eu",
     .langflow = {.api = "workspaces", .url = "http://l", .concurrency = 1},
     .ragflow = {.api = "collections", .url = "http://r", .concurrency = 1}}};
static const struct config config = {.runtimes = runtimes, .n_runtimes = 1};

struct world {
    struct loop *loop;
    struct metrics *metrics;
    struct upstreams *all;
    struct upstream *up;
    struct job jobs[JOBS];
    char order[JOBS + 1]; /* a letter for each that got its slot: its organization's */
    size_t granted, dismissed, recovered;
    int64_t hold_ms;
};

static void on_granted(void *ctx, struct job *job)
{
    struct world *w = ctx;
    w->order[w->granted++] = job->organization[0];
    w->order[w->granted] = '\0';
}

static void on_dismissed(void *ctx, struct job *job, const struct err *err, int64_t hold_ms)
{
    struct world *w = ctx;
    assert_false(job->has_slot);
    assert_null(job->upstream);
    assert_int_not_equal(err->class, ERR_NONE);
    w->hold_ms = hold_ms;
    w->dismissed++;
}

static void on_recovered(void *ctx, const char *runtime)
{
    struct world *w = ctx;
    assert_string_equal(runtime, "eu");
    w->recovered++;
}

static int setup(void **state)
{
    static struct world world;
    struct world *w = &world;
    struct err err;
    memset(w, 0, sizeof(*w));
    struct upstreams_events events = {
        .ctx = w, .granted = on_granted, .dismissed = on_dismissed, .recovered = on_recovered};
    w->loop = loop_new(&err);
    w->metrics = metrics_new(&err);
    w->all = upstreams_new(w->loop, &events, w->metrics, &err);
    upstreams_configure(w->all, &config);
    w->up = upstreams_get(w->all, "eu", PRODUCT_LANGFLOW, &err);
    assert_non_null(w->up);
    log_setup(LOG_ERROR, false, -1);
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;
    for (size_t i = 0; i < JOBS; i++) {
        upstream_release(&w->jobs[i]);
    }
    upstreams_free(w->all);
    metrics_free(w->metrics);
    loop_free(w->loop);
    return 0;
}

/* A job of each letter, in this order; the first gets the slot, the others wait. */
static void queue(struct world *w, const char *organizations)
{
    struct err err;
    int64_t hold_ms;
    for (size_t i = 0; organizations[i]; i++) {
        snprintf(w->jobs[i].organization, sizeof(w->jobs[i].organization), "%c", organizations[i]);
        assert_int_equal(upstream_acquire(w->up, &w->jobs[i], &hold_ms, &err), i > 0);
    }
}

static void stop(void *ctx)
{
    loop_stop(ctx);
}

static void turn(struct world *w, int64_t ms)
{
    struct err err;
    struct loop_timer timer = {.fn = stop, .ctx = w->loop};
    assert_int_equal(loop_timer_set(w->loop, &timer, ms, &err), 0);
    assert_int_equal(loop_run(w->loop, &err), 0);
}

/* Whoever has the slot gives it back, until nobody waits. */
static void run_dry(struct world *w)
{
    for (int rounds = 0; rounds < 2 * JOBS; rounds++) {
        for (size_t i = 0; i < JOBS; i++) {
            if (w->jobs[i].has_slot) {
                upstream_release(&w->jobs[i]);
                break;
            }
        }
        turn(w, 1);
    }
}

static void test_organizations_take_turns(void **state)
{
    struct world *w = *state;
    queue(w, "aaaaabbcaab");
    run_dry(w);
    assert_string_equal(w->order, "abcababaaa");
}

/* Whichever leaves the queue, the others keep their order and none is lost. */
static void test_any_may_leave(void **state)
{
    static const char organizations[] = "xaabbbcac";
    for (size_t leaver = 1; organizations[leaver]; leaver++) {
        teardown(state);
        setup(state);
        struct world *w = *state;
        queue(w, organizations);
        upstream_release(&w->jobs[leaver]);
        run_dry(w);
        size_t left[3] = {0};
        for (size_t i = 0; i < w->granted; i++) {
            left[w->order[i] - 'a']++;
        }
        left[organizations[leaver] - 'a']++;
        assert_int_equal(left[0], 3);
        assert_int_equal(left[1], 3);
        assert_int_equal(left[2], 2);
        /* As long as all three wait, each has one turn in three. */
        assert_true(w->order[0] != w->order[1] && w->order[1] != w->order[2] &&
                    w->order[0] != w->order[2]);
    }
}

static void report(struct world *w, int64_t retry_after_ms)
{
    struct err err;
    err_set(&err, ERR_THROTTLED, "busy");
    err.retry_after_ms = retry_after_ms;
    upstream_report(w->up, &err, 1, 429, "POST");
}

/* Nobody gets a slot before the time is over, and somebody soon after it. */
static void test_patience_is_kept(void **state)
{
    struct world *w = *state;
    queue(w, "ab");
    int64_t before = clock_mono_ms();
    report(w, 1500);
    report(w, 1000); /* a shorter one takes nothing back */
    upstream_release(&w->jobs[0]);
    assert_true(upstream_patience_ms(w->up) > 1000);
    while (w->granted == 0) {
        turn(w, 10);
        assert_true(w->granted == 0 || clock_mono_ms() - before >= 1500);
    }
    assert_int_equal(upstream_patience_ms(w->up), 0);
    assert_int_equal(w->dismissed, 0);
}

/* Who would have to wait long waits in the database, and no more are claimed meanwhile. */
static void test_long_patience_holds(void **state)
{
    struct world *w = *state;
    struct err err;
    int64_t hold_ms = 0;
    queue(w, "ab");
    assert_true(upstreams_room(w->all, "eu") > JOBS);
    report(w, 600 * 1000);
    assert_int_equal(w->dismissed, 1);
    assert_in_range(w->hold_ms, 599 * 1000, 600 * 1000);
    assert_int_equal(upstreams_room(w->all, "eu"), 0);
    assert_int_equal(upstream_acquire(w->up, &w->jobs[5], &hold_ms, &err), -1);
    assert_int_equal(err.class, ERR_THROTTLED);
    assert_in_range(hold_ms, 599 * 1000, 600 * 1000);
}

static void fail_often(struct upstream *up)
{
    struct err err;
    err_set(&err, ERR_UNAVAILABLE, "away");
    for (int i = 0; i < 5; i++) {
        upstream_report(up, &err, 1, 0, "GET");
    }
}

static void test_room_while_down(void **state)
{
    struct world *w = *state;
    struct err good;
    queue(w, "ab");
    fail_often(w->up);
    assert_int_equal(w->dismissed, 1);
    assert_int_equal(upstreams_room(w->all, "eu"), 0);
    assert_true(upstreams_room(w->all, "us") > JOBS);
    upstreams_configure(w->all, &config); /* it may be tried at once */
    assert_int_equal(upstreams_room(w->all, "eu"), 0);
    upstream_release(&w->jobs[0]);
    assert_int_equal(upstreams_room(w->all, "eu"), 1);
    err_clear(&good);
    upstream_report(w->up, &good, 1, 200, "GET");
    assert_int_equal(w->recovered, 1);
    assert_true(upstreams_room(w->all, "eu") > JOBS);
}

/* Not all jobs need RAGFlow; but those that are held stay until all of the runtime works. */
static void test_held_while_ragflow_is_down(void **state)
{
    struct world *w = *state;
    struct err err;
    int64_t hold_ms = 0;
    struct upstream *ragflow = upstreams_get(w->all, "eu", PRODUCT_RAGFLOW, &err);
    assert_true(upstreams_room_for_held(w->all, "eu") > JOBS);
    assert_false(upstream_holds(ragflow, &hold_ms));
    fail_often(ragflow);
    assert_true(upstream_holds(ragflow, &hold_ms));
    assert_in_range(hold_ms, 60 * 1000, 120 * 1000);
    assert_false(upstream_holds(w->up, &hold_ms));
    assert_true(upstreams_room(w->all, "eu") > JOBS);
    assert_int_equal(upstreams_room_for_held(w->all, "eu"), 0);
    assert_true(upstreams_room_for_held(w->all, "us") > JOBS);
    err_clear(&err);
    upstream_report(ragflow, &err, 1, 200, "GET");
    assert_true(upstreams_room_for_held(w->all, "eu") > JOBS);
    fail_often(w->up);
    assert_int_equal(upstreams_room_for_held(w->all, "eu"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_organizations_take_turns, setup, teardown),
        cmocka_unit_test_setup_teardown(test_any_may_leave, setup, teardown),
        cmocka_unit_test_setup_teardown(test_patience_is_kept, setup, teardown),
        cmocka_unit_test_setup_teardown(test_long_patience_holds, setup, teardown),
        cmocka_unit_test_setup_teardown(test_room_while_down, setup, teardown),
        cmocka_unit_test_setup_teardown(test_held_while_ragflow_is_down, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
