#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "langflow_world.h"

static const char *const profiles[] = {"1.8", "1.10", "1.13"};

#define EACH_PROFILE(p) (const char *const *p = profiles; p < profiles + ARRAY_LEN(profiles); p++)

/* ---- how many requests it takes ---- */

/* Version and template are read once for a runtime: not counted here. */
static void warm_up(struct world *w)
{
    world_must(w, DRIVER_PRESENT);
    world_must(w, DRIVER_ABSENT);
    world_check_absent(w);
}

static void a_fresh_workspace_takes_ten_requests(void **state)
{
    (void)state;
    for
        EACH_PROFILE(p)
        {
            struct world w;
            bool lags = str_eq(*p, "1.8");
            world_begin(&w, *p);
            world_settings(&w, "{\"new_user_is_active\":true}");
            warm_up(&w);
            world_must(&w, DRIVER_PRESENT);
            world_check_present(&w);
            assert_int_equal(w.requests, 10 + lags);
            assert_int_equal(w.logins, 1);
            world_must(&w, DRIVER_ABSENT);
            world_settings(&w, "{\"new_user_is_active\":false}");
            world_must(&w, DRIVER_PRESENT);
            world_check_present(&w);
            assert_int_equal(w.requests, 11 + lags);
            world_end(&w);
        }
}

static void a_steady_run_takes_two_requests_or_three(void **state)
{
    (void)state;
    for
        EACH_PROFILE(p)
        {
            struct world w;
            world_begin(&w, *p);
            world_must(&w, DRIVER_PRESENT);
            world_must(&w, DRIVER_PRESENT);
            assert_int_equal(w.requests, 2);
            assert_int_equal(w.changes, 0);
            world_check_present(&w);
            w.target.collection_key = WORLD_COLLECTION;
            world_must(&w, DRIVER_PRESENT);
            world_check_present(&w);
            world_must(&w, DRIVER_PRESENT);
            assert_int_equal(w.requests, 3);
            assert_int_equal(w.changes, 1);
            world_check_present(&w);
            world_end(&w);
        }
}

static void goals_follow_one_another(void **state)
{
    (void)state;
    for
        EACH_PROFILE(p)
        {
            struct world w;
            world_begin(&w, *p);
            w.target.collection_key = WORLD_COLLECTION;
            world_must(&w, DRIVER_ABSENT);
            world_check_absent(&w);
            world_must(&w, DRIVER_CLOSED);
            world_check_closed(&w);
            world_must(&w, DRIVER_PRESENT);
            world_check_present(&w);
            world_must(&w, DRIVER_CLOSED);
            world_check_closed(&w);
            world_must(&w, DRIVER_CLOSED);
            assert_int_equal(w.changes, 0);
            assert_true(w.requests <= 2);
            world_must(&w, DRIVER_PRESENT);
            world_check_present(&w);
            world_must(&w, DRIVER_CLOSED);
            world_must(&w, DRIVER_ABSENT);
            world_check_absent(&w);
            world_must(&w, DRIVER_ABSENT);
            assert_int_equal(w.changes, 0);
            world_end(&w);
        }
}

/* ---- whatever fails ---- */

static void restore(struct world *w, enum driver_goal before)
{
    w->target.collection_key = WORLD_COLLECTION;
    world_must(w, DRIVER_PRESENT);
    if (before != DRIVER_PRESENT) {
        world_must(w, before);
    }
}

/* True while the blow still hits a request. */
static bool one_blow(const char *profile, enum driver_goal before, enum driver_goal goal,
                     enum blow blow, int at, const char *settings)
{
    struct world w;
    world_begin(&w, profile);
    world_settings(&w, settings);
    restore(&w, before);
    w.blow = blow;
    w.at = at;
    bool done = world_run(&w, goal);
    bool struck = w.struck;
    for (int again = 0; !done && again < 4; again++) {
        w.blow = BLOW_NONE;
        world_now_ms += 1000; /* a retry is never at once */
        done = world_run(&w, goal);
    }
    if (!done) {
        WORLD_FAIL(&w, "%s, from %d to %d, blow %d at %d: never done: %s", profile, before, goal,
                   blow, at, w.last.err.msg);
    }
    world_check(&w, goal);
    w.blow = BLOW_NONE;
    world_must(&w, goal);
    world_check(&w, goal);
    world_end(&w);
    return struck;
}

static void blows_everywhere(const char *settings)
{
    static const enum driver_goal goals[] = {DRIVER_PRESENT, DRIVER_CLOSED, DRIVER_ABSENT};
    for
        EACH_PROFILE(p)
        {
            for (size_t from = 0; from < ARRAY_LEN(goals); from++) {
                for (size_t to = 0; to < ARRAY_LEN(goals); to++) {
                    for (int blow = BLOW_NONE + 1; blow < BLOW_MAX; blow++) {
                        int at = 0;
                        while (
                            one_blow(*p, goals[from], goals[to], (enum blow)blow, at, settings)) {
                            at++;
                        }
                        assert_true(at > 0);
                    }
                }
            }
        }
}

static void every_request_may_fail_in_every_way(void **state)
{
    (void)state;
    blows_everywhere("{}");
}

static void also_where_answers_come_before_commits(void **state)
{
    (void)state;
    blows_everywhere("{\"commit_ms\":20,\"new_user_is_active\":true}");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_fresh_workspace_takes_ten_requests),
        cmocka_unit_test(a_steady_run_takes_two_requests_or_three),
        cmocka_unit_test(goals_follow_one_another),
        cmocka_unit_test(every_request_may_fail_in_every_way),
        cmocka_unit_test(also_where_answers_come_before_commits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
