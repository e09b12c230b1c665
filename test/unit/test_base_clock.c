#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/rng.h"
#include "base/str.h"

static void accepts_date_times(void **state)
{
    (void)state;
    static const struct {
        const char *in;
        int64_t us;
        const char *out;
    } cases[] = {
        {"1970-01-01T00:00:00Z", 0, "1970-01-01T00:00:00Z"},
        {"2026-11-21T10:00:00Z", 1795255200000000, "2026-11-21T10:00:00Z"},
        {"2026-11-21t10:00:00z", 1795255200000000, "2026-11-21T10:00:00Z"},
        {"2026-11-21T12:30:00+02:30", 1795255200000000, "2026-11-21T10:00:00Z"},
        {"2026-11-20T10:01:00-23:59", 1795255200000000, "2026-11-21T10:00:00Z"},
        {"2026-11-21T10:00:00-00:00", 1795255200000000, "2026-11-21T10:00:00Z"},
        {"2026-11-21T10:00:00.5Z", 1795255200500000, "2026-11-21T10:00:00.500000Z"},
        {"2026-11-21T10:00:00.000001Z", 1795255200000001, "2026-11-21T10:00:00.000001Z"},
        {"2026-11-21T10:00:00.123456789Z", 1795255200123456, "2026-11-21T10:00:00.123456Z"},
        {"2024-02-29T23:59:59Z", 1709251199000000, "2024-02-29T23:59:59Z"},
        {"2000-02-29T00:00:00Z", 951782400000000, "2000-02-29T00:00:00Z"},
        {"1969-12-31T23:59:59.999999Z", -1, "1969-12-31T23:59:59.999999Z"},
        {"0001-01-01T00:00:00Z", -62135596800000000, "0001-01-01T00:00:00Z"},
        {"9999-12-31T23:59:59Z", 253402300799000000, "9999-12-31T23:59:59Z"},
        {"0001-01-01T00:00:00+00:01", -62135596860000000, "0000-12-31T23:59:00Z"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        int64_t us = 4711;
        assert_true(clock_parse(cases[i].in, strlen(cases[i].in), &us));
        assert_true(us == cases[i].us);
        char out[CLOCK_TEXT_MAX];
        clock_format(out, us);
        assert_string_equal(out, cases[i].out);
    }
}

static void refuses_everything_else(void **state)
{
    (void)state;
    static const char *const cases[] = {
        "",
        "2026-11-21",
        "2026-11-21T10:00:00",
        "2026-11-21T10:00Z",
        "2026-11-21 10:00:00Z",
        "2026-11-21T10:00:00.Z",
        "2026-11-21T10:00:00.1234567890Z",
        "2026-11-21T10:00:00,5Z",
        "2026-11-21T10:00:00ZZ",
        "2026-11-21T10:00:00Z ",
        " 2026-11-21T10:00:00Z",
        "2026-11-21T10:00:60Z",
        "2026-11-21T10:60:00Z",
        "2026-11-21T24:00:00Z",
        "2026-11-31T10:00:00Z",
        "2026-02-29T10:00:00Z",
        "1900-02-29T10:00:00Z",
        "2026-00-10T10:00:00Z",
        "2026-13-10T10:00:00Z",
        "2026-11-00T10:00:00Z",
        "0000-01-01T00:00:00Z",
        "12026-11-21T10:00:00Z",
        "-026-11-21T10:00:00Z",
        "2026-11-21T10:00:00+24:00",
        "2026-11-21T10:00:00+02:60",
        "2026-11-21T10:00:00+0200",
        "2026-11-21T10:00:00+02",
        "2026-11-21T10:00:00+",
        "2026-11-21T10:00:00 02:00",
        "2026-1-21T10:00:00Z",
        "20261121T100000Z",
        "2026-11-21T10:00:0xZ",
    };
    int64_t us = 4711;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        assert_false(clock_parse(cases[i], strlen(cases[i]), &us));
        assert_int_equal(us, 4711);
    }
    /* Only the n bytes count: neither cut nor run over. */
    const char *whole = "2026-11-21T10:00:00Z";
    for (size_t n = 0; n < strlen(whole); n++)
        assert_false(clock_parse(whole, n, &us));
    assert_false(clock_parse(NULL, 0, &us));
}

static void agrees_with_the_c_library(void **state)
{
    (void)state;
    uint64_t seed = (uint64_t)clock_mono_us();
    print_message("seed %llu\n", (unsigned long long)seed);
    struct rng r;
    rng_seed(&r, seed);
    for (int i = 0; i < 100000; i++) {
        /* Years 1 to 9999. */
        int64_t sec = -INT64_C(62135596800) + (int64_t)rng_below(&r, UINT64_C(315537897600));
        int64_t micro = (int64_t)rng_below(&r, 1000000);
        char text[CLOCK_TEXT_MAX], want[64];
        clock_format_us(text, sec * 1000000 + micro);
        time_t t = (time_t)sec;
        struct tm tm;
        gmtime_r(&t, &tm);
        snprintf(want, sizeof(want), "%04d-%02d-%02dT%02d:%02d:%02d.%06dZ", tm.tm_year + 1900,
                 tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, (int)micro);
        assert_string_equal(text, want);
        int64_t back;
        assert_true(clock_parse(text, strlen(text), &back));
        assert_true(back == sec * 1000000 + micro);
    }
}

static void formats_any_number(void **state)
{
    (void)state;
    char out[CLOCK_TEXT_MAX];
    clock_format(out, INT64_MIN);
    assert_string_equal(out, "-290308-12-21T19:59:05.224192Z");
    clock_format(out, INT64_MAX);
    assert_string_equal(out, "294247-01-10T04:00:54.775807Z");
    clock_format_us(out, 0);
    assert_string_equal(out, "1970-01-01T00:00:00.000000Z");
}

static void reads_the_clocks(void **state)
{
    (void)state;
    int64_t a = clock_mono_us();
    int64_t ms = clock_mono_ms();
    int64_t b = clock_mono_us();
    assert_true(a <= b && a / 1000 <= ms && ms <= b / 1000);
    int64_t off = clock_wall_us() / 1000000 - (int64_t)time(NULL);
    assert_true(off >= -1 && off <= 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(accepts_date_times),        cmocka_unit_test(refuses_everything_else),
        cmocka_unit_test(agrees_with_the_c_library), cmocka_unit_test(formats_any_number),
        cmocka_unit_test(reads_the_clocks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
