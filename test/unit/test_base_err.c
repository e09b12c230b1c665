#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "base/err.h"
#include "base/str.h"

static void sets_and_clears(void **state)
{
    (void)state;
    struct err e = {.http_status = 500, .sqlstate = "23505", .retry_after_ms = 7};
    assert_int_equal(err_set(&e, ERR_REFUSED, "no %d", 42), -1);
    assert_int_equal(e.class, ERR_REFUSED);
    assert_string_equal(e.msg, "no 42");
    assert_int_equal(e.http_status, 0);
    assert_string_equal(e.sqlstate, "");
    assert_int_equal(e.retry_after_ms, -1);
    assert_int_equal(err_set(NULL, ERR_REFUSED, "nobody listens"), -1);
    assert_int_equal(err_prefix(NULL, "nobody listens"), -1);
    assert_int_equal(err_nomem(&e), -1);
    assert_int_equal(e.class, ERR_INTERNAL);
    err_clear(&e);
    assert_int_equal(e.class, ERR_NONE);
    assert_string_equal(e.msg, "");
}

static void prefix_keeps_everything_else(void **state)
{
    (void)state;
    struct err e;
    err_set(&e, ERR_THROTTLED, "slow down");
    e.http_status = 429;
    e.retry_after_ms = 1500;
    assert_int_equal(err_prefix(&e, "step %s", "workspace"), -1);
    assert_string_equal(e.msg, "step workspace: slow down");
    assert_int_equal(e.class, ERR_THROTTLED);
    assert_int_equal(e.http_status, 429);
    assert_int_equal(e.retry_after_ms, 1500);
    /* Its own message is a fair argument. */
    err_set(&e, ERR_INVALID, "again: %s", e.msg);
    assert_string_equal(e.msg, "again: step workspace: slow down");
}

static void cuts_long_messages_at_a_character(void **state)
{
    (void)state;
    char text[2 * ERR_MSG_MAX];
    for (size_t shift = 0; shift < 4; shift++) {
        size_t n = 0;
        while (n < shift)
            text[n++] = 'x';
        while (n + 3 < sizeof(text)) {
            memcpy(text + n, "€", 3);
            n += 3;
        }
        text[n] = '\0';
        struct err e;
        err_set(&e, ERR_INVALID, "%s", text);
        size_t len = strlen(e.msg);
        assert_in_range(len, ERR_MSG_MAX - 4, ERR_MSG_MAX - 1);
        assert_string_equal(e.msg + len - 3, "...");
        assert_true(str_is_utf8(e.msg, len));
        err_prefix(&e, "%s", "before");
        assert_true(str_starts(e.msg, "before: "));
        len = strlen(e.msg);
        assert_in_range(len, ERR_MSG_MAX - 4, ERR_MSG_MAX - 1);
        assert_string_equal(e.msg + len - 3, "...");
        assert_true(str_is_utf8(e.msg, len));
    }
    struct err e;
    memset(text, 'a', ERR_MSG_MAX - 1);
    text[ERR_MSG_MAX - 1] = '\0';
    err_set(&e, ERR_INVALID, "%s", text);
    assert_string_equal(e.msg, text);
}

static void messages_are_one_clean_line(void **state)
{
    (void)state;
    struct err e;
    err_set(&e, ERR_REFUSED, "ERROR:  a\nDETAIL:\tb\x1b[31m \xff\xc3(\x7f\n");
    assert_string_equal(e.msg, "ERROR:  a DETAIL: b [31m ?\?(");
    err_set(&e, ERR_REFUSED, "žluťoučký €");
    assert_string_equal(e.msg, "žluťoučký €");
}

static void class_names_go_both_ways(void **state)
{
    (void)state;
    for (unsigned i = 0; i < ERR_CLASS_MAX; i++) {
        const char *name = err_class_name((enum err_class)i);
        assert_non_null(name);
        assert_int_equal(err_class_parse(name), i);
    }
    assert_string_equal(err_class_name(ERR_UNAVAILABLE), "unavailable");
    assert_string_equal(err_class_name(ERR_CLASS_MAX), "internal");
    assert_int_equal(err_class_parse("Unavailable"), ERR_CLASS_MAX);
    assert_int_equal(err_class_parse(""), ERR_CLASS_MAX);
    assert_int_equal(err_class_parse(NULL), ERR_CLASS_MAX);
}

static void secrets_are_masked_whole_and_cut(void **state)
{
    static const struct {
        const char *message, *secret, *wanted;
    } rows[] = {
        {"key sk-1234567890 is bad, sk-1234567890", "sk-1234567890",
         "key ************* is bad, *************"},
        {"a server's words are cut: sk-12345678 (request 7)", "sk-1234567890",
         "a server's words are cut: *********** (request 7)"},
        {"short: abc, not ab", "abc", "short: ***, not ab"},
        {"too little to tell: sk-1234", "sk-1234567890", "too little to tell: sk-1234"},
        {"nothing", NULL, "nothing"},
        {"nothing", "", "nothing"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct err e;
        err_set(&e, ERR_REFUSED, "%s", rows[i].message);
        err_redact(&e, rows[i].secret);
        assert_string_equal(e.msg, rows[i].wanted);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sets_and_clears),
        cmocka_unit_test(prefix_keeps_everything_else),
        cmocka_unit_test(cuts_long_messages_at_a_character),
        cmocka_unit_test(messages_are_one_clean_line),
        cmocka_unit_test(class_names_go_both_ways),
        cmocka_unit_test(secrets_are_masked_whole_and_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
