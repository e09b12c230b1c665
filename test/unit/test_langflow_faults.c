#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "langflow_world.h"

/*
 * Every way that a request can fail, at every request of every way from one goal to another: what
 * is there afterwards is what was wanted.
 */

static const char *const profiles[] = {"1.8", "1.10", "1.13"};

/* True while the blow still hits a request. */
static bool one_blow(const char *profile, enum driver_goal before, enum driver_goal goal,
                     enum blow blow, int at, const char *settings)
{
    struct world w;
    world_begin(&w, profile);
    world_settings(&w, settings);
    w.target.collection_key = WORLD_COLLECTION;
    world_must(&w, DRIVER_PRESENT);
    world_must(&w, before);
    if (w.external_id[0]) {
        world_plant_file(&w, w.flow_uuid, "one.txt");
        world_plant_file(&w, w.flow_uuid, "two.txt");
        world_plant_file(&w, w.external_id, "own.txt");
    }
    w.blow = blow;
    w.at = at;
    bool done = world_run(&w, goal);
    bool struck = w.struck;
    w.blow = BLOW_NONE;
    for (int again = 0; !done && again < 4; again++) {
        world_now_ms += 1000; /* a retry is never at once */
        done = world_run(&w, goal);
    }
    if (!done) {
        WORLD_FAIL(&w, "%s, from %d to %d, blow %d at %d: never done: %s", profile, before, goal,
                   blow, at, w.last.err.msg);
    }
    world_check(&w, goal);
    world_end(&w);
    return struck;
}

static void every_blow(const char *profile, enum driver_goal from, enum driver_goal to,
                       const char *settings)
{
    for (int blow = BLOW_NONE + 1; blow < BLOW_MAX; blow++) {
        int at = 0;
        while (one_blow(profile, from, to, (enum blow)blow, at, settings)) {
            at++;
        }
        assert_true(at > 0);
    }
}

static void every_request_may_fail_in_every_way(void **state)
{
    static const enum driver_goal ways[][2] = {
        {DRIVER_ABSENT, DRIVER_PRESENT},  {DRIVER_CLOSED, DRIVER_PRESENT},
        {DRIVER_PRESENT, DRIVER_PRESENT}, {DRIVER_PRESENT, DRIVER_CLOSED},
        {DRIVER_PRESENT, DRIVER_ABSENT},  {DRIVER_CLOSED, DRIVER_ABSENT},
    };
    (void)state;
    for (size_t p = 0; p < ARRAY_LEN(profiles); p++) {
        for (size_t i = 0; i < ARRAY_LEN(ways); i++) {
            every_blow(profiles[p], ways[i][0], ways[i][1], "{}");
        }
    }
}

static void also_where_answers_come_before_commits(void **state)
{
    static const char settings[] = "{\"commit_ms\":20,\"new_user_is_active\":true}";
    (void)state;
    for (size_t p = 0; p < ARRAY_LEN(profiles); p++) {
        every_blow(profiles[p], DRIVER_ABSENT, DRIVER_PRESENT, settings);
    }
    every_blow("1.8", DRIVER_PRESENT, DRIVER_CLOSED, settings);
    every_blow("1.8", DRIVER_PRESENT, DRIVER_ABSENT, settings);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_request_may_fail_in_every_way),
        cmocka_unit_test(also_where_answers_come_before_commits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
