#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"

static void grows_and_keeps_its_nul(void **state)
{
    (void)state;
    struct buf b;
    buf_init(&b, 100000);
    assert_string_equal(buf_str(&b), "");
    for (int i = 0; i < 10000; i++)
        assert_int_equal(buf_addf(&b, "%d,", i % 10), 0);
    assert_int_equal(b.len, 20000);
    assert_int_equal(strlen(buf_str(&b)), 20000);
    assert_int_equal(buf_add(&b, "a\0b", 3), 0);
    assert_memory_equal(b.data + 20000, "a\0b", 4);
    buf_reset(&b);
    assert_string_equal(buf_str(&b), "");
    assert_non_null(b.data);
    buf_done(&b);
    assert_null(b.data);
}

static void bound_is_exact_and_failure_stays(void **state)
{
    (void)state;
    struct buf b;
    buf_init(&b, 5);
    assert_int_equal(buf_adds(&b, "12345"), 0);
    assert_int_equal(buf_add(&b, "", 0), 0);
    assert_int_equal(buf_addc(&b, '6'), -1);
    assert_true(b.failed);
    assert_int_equal(b.len, 0);
    assert_string_equal(buf_str(&b), "");
    assert_int_equal(buf_adds(&b, "1"), -1);
    assert_int_equal(buf_addf(&b, "%d", 1), -1);
    assert_int_equal(buf_add_json(&b, "x"), -1);
    assert_int_equal(buf_add_url(&b, "x"), -1);
    assert_null(buf_steal(&b));
    buf_reset(&b);
    assert_int_equal(buf_addf(&b, "%s", "12345"), 0);
    assert_int_equal(buf_addf(&b, "%s", "6"), -1);
    buf_done(&b);
    assert_int_equal(buf_adds(&b, "again"), 0);
    buf_done(&b);
}

static void prints_numbers(void **state)
{
    (void)state;
    struct buf b;
    buf_init(&b, 100);
    const int64_t numbers[] = {0, 7, -1, 10, 909, INT64_MAX, INT64_MIN};
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        assert_int_equal(buf_add_i64(&b, numbers[i]), 0);
        assert_int_equal(buf_addc(&b, ' '), 0);
    }
    assert_string_equal(buf_str(&b), "0 7 -1 10 909 9223372036854775807 -9223372036854775808 ");
    buf_done(&b);
    buf_init(&b, 1);
    assert_int_equal(buf_add_i64(&b, 10), -1);
    assert_true(b.failed);
}

static void steals(void **state)
{
    (void)state;
    struct buf b;
    buf_init(&b, 10);
    char *nothing = buf_steal(&b);
    assert_string_equal(nothing, "");
    free(nothing);
    buf_adds(&b, "mine");
    char *s = buf_steal(&b);
    assert_string_equal(s, "mine");
    free(s);
    assert_int_equal(b.len, 0);
    assert_int_equal(buf_adds(&b, "0123456789"), 0);
    buf_done(&b);
}

static void escapes_json(void **state)
{
    (void)state;
    static const struct {
        const char *in;
        size_t n;
        const char *out;
    } cases[] = {
        {"", 0, "\"\""},
        {"plain /text", 11, "\"plain /text\""},
        {"q\"b\\n\nt\tr\rb\bf\f", 14, "\"q\\\"b\\\\n\\nt\\tr\\rb\\bf\\f\""},
        {"\x01\x1f\x7f", 3, "\"\\u0001\\u001f\x7f\""},
        {"a\0b", 3,
         "\"a\xEF\xBF\xBD"
         "b\""},
        {"€😀", 7, "\"€😀\""},
        {"\xff|\xc3|\xed\xa0\x80|\xc0\x80", 10,
         "\"\xEF\xBF\xBD|\xEF\xBF\xBD|\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD|\xEF\xBF\xBD\xEF\xBF\xBD"
         "\""},
        {"\xe2\x82", 2, "\"\xEF\xBF\xBD\xEF\xBF\xBD\""},
    };
    struct buf b;
    buf_init(&b, 1000);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        buf_reset(&b);
        assert_int_equal(buf_add_jsonn(&b, cases[i].in, cases[i].n), 0);
        assert_string_equal(buf_str(&b), cases[i].out);
    }
    buf_reset(&b);
    assert_int_equal(buf_add_json(&b, NULL), 0);
    assert_string_equal(buf_str(&b), "null");
    buf_done(&b);
}

static void encodes_urls(void **state)
{
    (void)state;
    struct buf b;
    buf_init(&b, 1000);
    assert_int_equal(buf_add_url(&b, "aZ09-._~ /?&=%+#\n€"), 0);
    assert_string_equal(buf_str(&b), "aZ09-._~%20%2F%3F%26%3D%25%2B%23%0A%E2%82%AC");
    buf_reset(&b);
    assert_int_equal(buf_add_url(&b, ""), 0);
    assert_string_equal(buf_str(&b), "");
    buf_done(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(grows_and_keeps_its_nul),
        cmocka_unit_test(bound_is_exact_and_failure_stays),
        cmocka_unit_test(prints_numbers),
        cmocka_unit_test(steals),
        cmocka_unit_test(escapes_json),
        cmocka_unit_test(encodes_urls),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
