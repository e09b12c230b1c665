#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lanes.h"

/* However many runtimes hang, and however full they have made the place, the next one gets in. */
static void test_hanging_runtimes_leave_room(void **state)
{
    (void)state;
    for (size_t places = 1; places <= 2000; places = places * 2 + 1) {
        size_t in_hand = 0;
        for (int lane = 0; (size_t)1 << lane <= places; lane++) {
            size_t in_lane = 0;
            while (lanes_room(places, in_hand, in_lane) > 0) {
                in_lane++;
                in_hand++;
            }
            assert_true(in_lane > 0);
        }
        assert_true(in_hand <= places);
    }
}

static void test_half_of_what_the_others_leave(void **state)
{
    (void)state;
    assert_int_equal(lanes_room(1000, 0, 0), 500);
    assert_int_equal(lanes_room(1000, 500, 500), 0);
    assert_int_equal(lanes_room(1000, 500, 0), 250);
    assert_int_equal(lanes_room(1000, 400, 200), 200);
    assert_int_equal(lanes_room(1000, 1000, 0), 0);
    assert_int_equal(lanes_room(1, 0, 0), 1);
    assert_int_equal(lanes_room(10, 20, 5), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hanging_runtimes_leave_room),
        cmocka_unit_test(test_half_of_what_the_others_leave),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
