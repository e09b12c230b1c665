/*
 * Tables and what may reach a terminal; files of events.
 */
#include <locale.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/rng.h"
#include "base/str.h"
#include "eventfile.h"
#include "table.h"

enum { COLUMNS = 4 };

static const struct table_column columns[COLUMNS] = {
    {"id", "ID", CELL_NUMBER, false, 0},
    {"at", "AT", CELL_TIME, false, 2},
    {"what", "WHAT", CELL_TEXT, true, 0},
    {"more", NULL, CELL_JSON, false, 0},
};

static const char *cell(const void *ctx, size_t row, size_t column)
{
    const char *const *cells = ctx;
    return cells[row * COLUMNS + column];
}

static struct table table_of(const char *const *cells, size_t rows)
{
    return (struct table){columns, COLUMNS, rows, cell, cells};
}

static const char *const two_rows[] = {
    "7",   "2026-11-21 10:00:00+00",        "short",           "[1, 2]",
    "123", "2026-11-21 09:30:00.250001+00", "a longer reason", NULL,
};

static int64_t noon(void)
{
    int64_t us = 0;
    assert_true(clock_parse("2026-11-21T12:00:00Z", 20, &us));
    return us;
}

static void expect_text(const struct table *t, size_t width, bool absolute, const char *wanted)
{
    struct buf out;
    struct table_view view = {width, noon(), absolute};
    buf_init(&out, 1 << 20);
    table_text(t, &view, &out);
    assert_string_equal(buf_str(&out), wanted);
    buf_done(&out);
}

static void test_text(void **state)
{
    (void)state;
    struct table t = table_of(two_rows, 2);
    expect_text(&t, 0, false,
                " ID  AT      WHAT\n"
                "  7  2h ago  short\n"
                "123  2h ago  a longer reason\n");
    expect_text(&t, 0, true,
                " ID  AT                             WHAT\n"
                "  7  2026-11-21T10:00:00Z (2h ago)  short\n"
                "123  2026-11-21T09:30:00Z (2h ago)  a longer reason\n");
    t.n_rows = 0;
    expect_text(&t, 0, false, "");
}

static void test_narrow(void **state)
{
    (void)state;
    struct table t = table_of(two_rows, 2);
    /* Flexible columns are cut first, then columns are left out, then everything is cut. */
    expect_text(&t, 23, false,
                " ID  AT      WHAT\n"
                "  7  2h ago  short\n"
                "123  2h ago  a longer …\n");
    expect_text(&t, 18, false,
                " ID  WHAT\n"
                "  7  short\n"
                "123  a longer rea…\n");
    expect_text(&t, 9, false,
                " ID  WHAT\n"
                "  7  sho…\n"
                "123  a l…\n");
}

static void test_fields(void **state)
{
    (void)state;
    const char *const cells[] = {"7", NULL, "a\nb", NULL};
    struct table t = table_of(cells, 1);
    struct table_view view = {0, noon(), true};
    struct buf out;
    buf_init(&out, 4096);
    table_fields(&t, 0, &view, &out);
    assert_string_equal(buf_str(&out), "ID    7\nWHAT  a\\nb\n");
    buf_done(&out);
}

static void test_json(void **state)
{
    (void)state;
    struct table t = table_of(two_rows, 2);
    struct buf out;
    buf_init(&out, 4096);
    table_json(&t, &out);
    assert_string_equal(
        buf_str(&out),
        "[\n {\"id\": 7, \"at\": \"2026-11-21T10:00:00Z\", \"what\": \"short\", \"more\": [1, "
        "2]},\n"
        " {\"id\": 123, \"at\": \"2026-11-21T09:30:00.250001Z\", \"what\": \"a longer reason\", "
        "\"more\": null}\n]");
    t.n_rows = 0;
    buf_reset(&out);
    table_json(&t, &out);
    assert_string_equal(buf_str(&out), "[]");
    buf_done(&out);
}

static void expect_escaped(const char *in, size_t n, const char *wanted)
{
    struct buf out;
    buf_init(&out, 4096);
    table_escape(&out, in, n);
    assert_string_equal(buf_str(&out), wanted);
    buf_done(&out);
}

static void test_escape(void **state)
{
    (void)state;
    expect_escaped("\x1b[31mred\x07", 9, "\\x1b[31mred\\x07");
    expect_escaped("a\0b", 3, "a\\x00b");
    expect_escaped("l1\r\nl2\t\x7f", 8, "l1\\r\\nl2\\t\\x7f");
    expect_escaped("\xc2\x9b"
                   "31m",
                   5, "\\x9b31m"); /* C1: CSI in one character */
    expect_escaped("\x9b"
                   "31m",
                   4, "\\x9b31m"); /* the same as a bare byte */
    expect_escaped("a\xe2\x80\xae"
                   "b",
                   5, "a\\u{202e}b"); /* turns the direction around */
    expect_escaped("caf\xc3\xa9 \xe4\xb8\xad", 9, "caf\xc3\xa9 \xe4\xb8\xad");
}

/* Whatever comes in: printable, well-formed, and nothing else. */
static void test_escape_property(void **state)
{
    (void)state;
    struct rng rng;
    uint64_t seed = (uint64_t)time(NULL);
    printf("seed %llu\n", (unsigned long long)seed);
    rng_seed(&rng, seed);
    for (int round = 0; round < 20000; round++) {
        char in[48];
        struct buf out;
        size_t n = rng_below(&rng, sizeof(in));
        for (size_t i = 0; i < n; i++)
            in[i] = (char)(rng_below(&rng, 3) ? rng_below(&rng, 256) : 0xc2 - rng_below(&rng, 80));
        buf_init(&out, 4096);
        table_escape(&out, in, n);
        assert_false(out.failed);
        assert_true(str_is_utf8(buf_str(&out), out.len));
        for (size_t i = 0; i < out.len; i++) {
            unsigned char c = (unsigned char)out.data[i];
            assert_true(c >= 0x20 && c != 0x7f);
            if (c == 0xc2)
                assert_true((unsigned char)out.data[i + 1] >= 0xa0);
        }
        buf_done(&out);
    }
}

/* No line is wider than the terminal, whatever is in the cells. */
static void test_width_property(void **state)
{
    (void)state;
    struct rng rng;
    uint64_t seed = (uint64_t)time(NULL) + 1;
    printf("seed %llu\n", (unsigned long long)seed);
    rng_seed(&rng, seed);
    for (int round = 0; round < 2000; round++) {
        char text[3][40];
        const char *cells[3 * COLUMNS] = {0};
        struct buf out;
        for (size_t r = 0; r < 3; r++) {
            size_t n = rng_below(&rng, 39);
            for (size_t i = 0; i < n; i++)
                text[r][i] = (char)(1 + rng_below(&rng, 255));
            text[r][n] = '\0';
            cells[r * COLUMNS] = "12";
            cells[r * COLUMNS + 1] = rng_below(&rng, 2) ? "2026-11-21 10:00:00+00" : NULL;
            cells[r * COLUMNS + 2] = rng_below(&rng, 4) ? text[r] : NULL;
        }
        struct table t = table_of(cells, 3);
        struct table_view view = {12 + rng_below(&rng, 80), noon(), rng_below(&rng, 2) == 0};
        buf_init(&out, 1 << 16);
        table_text(&t, &view, &out);
        size_t lines = 0;
        for (const char *p = buf_str(&out); *p; lines++) {
            size_t n = strcspn(p, "\n");
            assert_in_range(table_width(p, n), 0, view.width);
            p += n + 1;
        }
        assert_int_equal(lines, 4);
        buf_done(&out);
    }
}

static void test_ago(void **state)
{
    (void)state;
    static const struct {
        int64_t seconds;
        const char *text;
    } cases[] = {{0, "now"},         {5, "5s ago"},      {119, "119s ago"},  {120, "2m ago"},
                 {7199, "119m ago"}, {7200, "2h ago"},   {172800, "2d ago"}, {-30, "in 30s"},
                 {-3600, "in 60m"},  {-864000, "in 10d"}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct buf out;
        buf_init(&out, 100);
        table_ago(&out, noon() - cases[i].seconds * 1000000, noon());
        assert_string_equal(buf_str(&out), cases[i].text);
        buf_done(&out);
    }
}

static void test_time(void **state)
{
    (void)state;
    int64_t us, same;
    assert_true(table_time("2026-11-21 12:00:00+00", &us));
    assert_int_equal(us, noon());
    assert_true(table_time("2026-11-21T12:00:00Z", &same));
    assert_int_equal(us, same);
    assert_false(table_time("infinity", &us));
    assert_false(table_time("-infinity", &us));
    assert_false(table_time("", &us));
    assert_false(table_time("+00", &us));
}

/* ---- files of events ---- */

static void expect_slices(const char *text, const char *const *wanted, const size_t *lines,
                          size_t n)
{
    struct err err;
    struct eventfile *f = eventfile_split("f", text, strlen(text), &err);
    assert_non_null(f);
    assert_int_equal(f->n, n);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(f->slices[i].len, strlen(wanted[i]));
        assert_memory_equal(f->slices[i].text, wanted[i], f->slices[i].len);
        assert_int_equal(f->slices[i].line, lines[i]);
    }
    eventfile_free(f);
}

static void test_split(void **state)
{
    (void)state;
    expect_slices("{\n \"a\": 1\n}\n", (const char *[]){"{\n \"a\": 1\n}"}, (size_t[]){1}, 1);
    expect_slices("{\"a\": 1}\n\n{\"b\": \"}\"}\r\nnonsense\n",
                  (const char *[]){"{\"a\": 1}", "{\"b\": \"}\"}", "nonsense"}, (size_t[]){1, 3, 4},
                  3);
    expect_slices(" [ {\"a\": [1, {}]},\n\"x,]\\\"\" , \n 5]\n",
                  (const char *[]){"{\"a\": [1, {}]}", "\"x,]\\\"\"", "5"}, (size_t[]){1, 2, 3}, 3);
    expect_slices("[1,,2,]", (const char *[]){"1", "", "2", ""}, (size_t[]){1, 1, 1, 1}, 4);
    expect_slices("\xef\xbb\xbf{}", (const char *[]){"{}"}, (size_t[]){1}, 1);
    expect_slices("garbage", (const char *[]){"garbage"}, (size_t[]){1}, 1);
}

static void test_split_refuses(void **state)
{
    (void)state;
    static const char *const bad[] = {"", " \n", "[]", "[{}", "[{}}", "[{}] x", "[\"open"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct err err;
        err_clear(&err);
        assert_null(eventfile_split("name", bad[i], strlen(bad[i]), &err));
        assert_int_equal(err.class, ERR_INVALID);
        assert_non_null(strstr(err.msg, "name"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text),           cmocka_unit_test(test_narrow),
        cmocka_unit_test(test_fields),         cmocka_unit_test(test_json),
        cmocka_unit_test(test_escape),         cmocka_unit_test(test_escape_property),
        cmocka_unit_test(test_width_property), cmocka_unit_test(test_ago),
        cmocka_unit_test(test_time),           cmocka_unit_test(test_split),
        cmocka_unit_test(test_split_refuses),
    };
    setlocale(LC_CTYPE, "C.UTF-8");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
