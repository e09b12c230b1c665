#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "ragflow_sim.h"

static const char *const profiles[] = {"0.27-python", "0.27-go"};
static const enum driver_tenancy tenancies[] = {TENANCY_SHARED, TENANCY_ORGANIZATION,
                                                TENANCY_SUBSCRIPTION};

/* ---- how many requests it takes ---- */

/* Facts about the site apart: version, language, and whose the key is. */
static void shared_bars(void **state)
{
    struct sim w;
    (void)state;
    sim_begin(&w, "0.27-python", TENANCY_SHARED);
    assert_true(sim_run(&w, DRIVER_PRESENT));
    sim_check_present(&w);
    assert_int_equal(w.requests, 3 + 4);
    assert_int_equal(w.changes, 2);
    assert_true(w.site->known);
    assert_string_equal(w.site->version, "v0.27.0");
    assert_string_equal(w.site->server, "python");
    assert_true(sim_run(&w, DRIVER_PRESENT));
    assert_int_equal(w.requests, 1);
    sim_check_present(&w);
    assert_true(sim_run(&w, DRIVER_ABSENT));
    sim_check_absent(&w);
    assert_true(sim_run(&w, DRIVER_PRESENT));
    assert_int_equal(w.requests, 4);
    sim_end(&w);
}

static void tenant_bars(void **state)
{
    (void)state;
    for (size_t i = 1; i < ARRAY_LEN(tenancies); i++) {
        struct sim w;
        sim_begin(&w, "0.27-python", tenancies[i]);
        assert_true(sim_run(&w, DRIVER_PRESENT));
        sim_check_present(&w);
        print_message("tenancy %d: fresh %d requests\n", (int)tenancies[i], w.requests);
        assert_int_equal(w.requests, 2 + 1 + 2 + 2 + 2 + 4);
        assert_true(sim_run(&w, DRIVER_PRESENT));
        assert_int_equal(w.requests, 1);
        sim_check_present(&w);
        assert_true(sim_run(&w, DRIVER_ABSENT));
        sim_check_absent(&w);
        assert_int_equal(sim_count_users(&w), tenancies[i] == TENANCY_ORGANIZATION);
        sim_end(&w);
    }
}

static void without_overlap_there_is_nothing_to_update(void **state)
{
    struct sim w;
    (void)state;
    sim_begin(&w, "0.27-python", TENANCY_SHARED);
    w.t.chunk_overlap = 0;
    assert_true(sim_run(&w, DRIVER_PRESENT));
    assert_int_equal(w.requests, 3 + 3);
    sim_end(&w);
}

/* ---- cut off ---- */

/* After the fault, whatever came of it, an undisturbed run ends well. */
static void converge(struct sim *w, enum driver_goal goal, enum cut cut, int at)
{
    w->cut = cut;
    w->cut_at = at;
    bool done = sim_run(w, goal);
    w->cut_at = 0;
    for (int i = 0; i < 3 && !done; i++) {
        if (!w->dead && w->end.err.class != ERR_UNKNOWN && w->end.err.class != ERR_UNAVAILABLE &&
            w->end.err.class != ERR_UNAUTHORIZED) {
            SIM_BROKEN(w, "fault %d at request %d ended for good: %s", (int)cut, at,
                       w->end.err.msg);
        }
        done = sim_run(w, goal);
    }
    if (!done) {
        SIM_BROKEN(w, "fault %d at request %d: %s", (int)cut, at, w->end.err.msg);
    }
}

static void __attribute__((unused)) plant_neighbours(struct sim *w)
{
    char id[33];
    sim_plant(w, "{\"name\":\"ACME-Corp-Website-Support-CSA-001\"}", id);
    sim_plant(w, "{\"name\":\"acme-corp-website-support-csa-001 \"}", id);
    sim_plant(w, "{\"name\":\"other\",\"description\":\"" SIM_OTHER "\",\"documents\":[\"a\"]}", id);
}

static void __attribute__((unused)) check_neighbours(struct sim *w, int planted)
{
    cJSON *objects = product_objects(&w->p);
    const cJSON *one = NULL;
    int n = 0;
    int64_t changes = 0;
    cJSON_ArrayForEach(one, objects)
    {
        if (!sim_is_ours(json_get(one, "object"))) {
            n++;
            assert_true(json_i64(one, "changes", &changes));
            if (changes != 0) {
                SIM_BROKEN(w, "a neighbour was changed");
            }
        }
    }
    cJSON_Delete(objects);
    if (n != planted) {
        SIM_BROKEN(w, "%d neighbours, not %d", n, planted);
    }
}

static int count_requests(const char *profile, enum driver_tenancy tenancy, enum driver_goal goal)
{
    struct sim w;
    sim_begin(&w, profile, tenancy);
    assert_true(sim_run(&w, DRIVER_PRESENT));
    if (goal == DRIVER_ABSENT) {
        assert_true(sim_run(&w, DRIVER_ABSENT));
    }
    int n = w.requests;
    sim_end(&w);
    return n;
}

static void cut_at(const char *profile, enum driver_tenancy tenancy, enum driver_goal goal,
                   enum cut cut, int at)
{
    struct sim w;
    sim_begin(&w, profile, tenancy);
    if (goal == DRIVER_ABSENT) {
        assert_true(sim_run(&w, DRIVER_PRESENT));
        sim_new_site(&w);
        converge(&w, DRIVER_ABSENT, cut, at);
        sim_check_absent(&w);
    } else {
        converge(&w, DRIVER_PRESENT, cut, at);
        sim_check_present(&w);
        assert_true(sim_run(&w, DRIVER_ABSENT));
        sim_check_absent(&w);
    }
    sim_end(&w);
}

static void every_fault_at_every_request(void **state)
{
    int n = 0;
    (void)state;
    for (size_t p = 0; p < ARRAY_LEN(profiles); p++) {
        for (size_t t = 0; t < ARRAY_LEN(tenancies); t++) {
            for (int g = 0; g < 2; g++) {
                enum driver_goal goal = g ? DRIVER_ABSENT : DRIVER_PRESENT;
                int requests = count_requests(profiles[p], tenancies[t], goal) + 3;
                for (int cut = CUT_BEFORE; cut < CUT_KINDS; cut++) {
                    for (int at = 1; at <= requests; at++, n++) {
                        cut_at(profiles[p], tenancies[t], goal, (enum cut)cut, at);
                    }
                }
            }
        }
    }
    print_message("%d faults\n", n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shared_bars),
        cmocka_unit_test(tenant_bars),
        cmocka_unit_test(without_overlap_there_is_nothing_to_update),
        cmocka_unit_test(every_fault_at_every_request),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
