/*
 * Findings as text and as JSON, and the worst of them.
 */
#include <locale.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/json.h"
#include "base/str.h"
#include "findings.h"

enum { OUTPUT_MAX = 1 << 20 };

static struct findings some(void)
{
    struct findings f = {0};
    findings_add(&f, LEVEL_OK, "database", "version", NULL, "PostgreSQL %d", 15);
    findings_add(&f, LEVEL_BAD, "database", "schema", "run `provisioner migrate`", "3 pending");
    findings_add(&f, LEVEL_NOTE, "kafka", "group", NULL, "nobody reads");
    findings_add(&f, LEVEL_WARN, "kafka", "clock", "NTP", "far off");
    return f;
}

static void expect_text(const struct findings *f, size_t width, const char *wanted)
{
    struct buf out;
    buf_init(&out, OUTPUT_MAX);
    findings_text(f, width, &out);
    assert_string_equal(buf_str(&out), wanted);
    buf_done(&out);
}

static void test_text(void **state)
{
    (void)state;
    struct findings f = some();
    expect_text(&f, 0,
                "database\n"
                "  ok    version  PostgreSQL 15\n"
                "  bad   schema   3 pending\n"
                "                 mend: run `provisioner migrate`\n"
                "\n"
                "kafka\n"
                "  note  group    nobody reads\n"
                "  warn  clock    far off\n"
                "                 mend: NTP\n"
                "\n"
                "2 things are to be mended\n");
    f.n = 2;
    expect_text(&f, 80,
                "database\n"
                "  ok    version  PostgreSQL 15\n"
                "  bad   schema   3 pending\n"
                "                 mend: run `provisioner migrate`\n"
                "\n"
                "1 thing is to be mended\n");
    f.n = 1;
    expect_text(&f, 0,
                "database\n"
                "  ok    version  PostgreSQL 15\n"
                "\n"
                "nothing is to be mended\n");
    f.n = 0;
    expect_text(&f, 0, "nothing is to be mended\n");
    findings_done(&f);
}

static void test_broken_lines(void **state)
{
    (void)state;
    struct findings f = {0};
    findings_add(&f, LEVEL_BAD, "s", "x", "do this and that, then something else",
                 "a_word_that_is_wider_than_the_terminal_is and äöü äöü äöü äöü äöü äöü äöü");
    expect_text(&f, 40,
                "s\n"
                "  bad   x  a_word_that_is_wider_than_the_terminal_is\n"
                "           and äöü äöü äöü äöü äöü äöü\n"
                "           äöü\n"
                "           mend: do this and that, then something else\n"
                "\n"
                "1 thing is to be mended\n");
    findings_done(&f);
}

static void test_what_could_steer_a_terminal(void **state)
{
    (void)state;
    struct findings f = {0};
    findings_add(&f, LEVEL_NOTE, "s\x1b", "x", "a\nb", "\x1b[2J \xe2\x80\xae");
    expect_text(&f, 0,
                "s\\x1b\n"
                "  note  x  \\x1b[2J \\u{202e}\n"
                "           mend: a\\nb\n"
                "\n"
                "nothing is to be mended\n");
    findings_done(&f);
}

static void test_json(void **state)
{
    (void)state;
    static const struct json_limits limits = {.size = OUTPUT_MAX, .depth = 8, .string = 1024};
    struct json_fault fault;
    cJSON *tree = NULL;
    struct buf out;
    struct findings f = some();
    buf_init(&out, OUTPUT_MAX);
    findings_json(&f, &out);
    assert_int_equal(json_parse(buf_str(&out), out.len, &limits, &tree, &fault), 0);
    assert_string_equal(json_str(tree, "worst"), "bad");
    const cJSON *list = json_get(tree, "findings");
    assert_int_equal(cJSON_GetArraySize(list), 4);
    const cJSON *second = cJSON_GetArrayItem(list, 1);
    assert_string_equal(json_str(second, "level"), "bad");
    assert_string_equal(json_str(second, "server"), "database");
    assert_string_equal(json_str(second, "subject"), "schema");
    assert_string_equal(json_str(second, "what"), "3 pending");
    assert_string_equal(json_str(second, "mend"), "run `provisioner migrate`");
    assert_true(cJSON_IsNull(json_get(cJSON_GetArrayItem(list, 0), "mend")));
    cJSON_Delete(tree);
    findings_done(&f);
    buf_reset(&out);
    findings_json(&f, &out);
    assert_string_equal(buf_str(&out), "{\"findings\": [],\n \"worst\": \"ok\"}\n");
    buf_done(&out);
}

static void test_worst(void **state)
{
    (void)state;
    struct findings f = {0};
    assert_int_equal(findings_worst(&f), LEVEL_OK);
    findings_add(&f, LEVEL_NOTE, "s", "x", NULL, "-");
    findings_add(&f, LEVEL_OK, "s", "x", NULL, "-");
    assert_int_equal(findings_worst(&f), LEVEL_NOTE);
    assert_int_equal(findings_to_mend(&f), 0);
    findings_add(&f, LEVEL_WARN, "s", "x", "m", "-");
    assert_int_equal(findings_worst(&f), LEVEL_WARN);
    assert_int_equal(findings_to_mend(&f), 1);
    findings_done(&f);
}

static void test_long_and_many(void **state)
{
    (void)state;
    struct findings f = {0}, all = {0};
    char text[2 * FINDING_TEXT_MAX];
    memset(text, 'x', sizeof(text));
    /* The last character that fits has two bytes, and only one of them would. */
    memcpy(text + FINDING_TEXT_MAX - 1, "ä", 2);
    text[FINDING_TEXT_MAX + 1] = '\0';
    for (int i = 0; i < 1000; i++)
        findings_add(&f, LEVEL_NOTE, "s", "x", text, "%s", text);
    findings_append(&all, &f);
    findings_append(&all, &f);
    assert_int_equal(all.n, 2000);
    assert_false(all.failed);
    assert_int_equal(strlen(all.list[1999].what), FINDING_TEXT_MAX - 1);
    assert_int_equal(strlen(all.list[1999].mend), FINDING_TEXT_MAX - 1);
    findings_done(&f);
    findings_done(&all);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text),
        cmocka_unit_test(test_broken_lines),
        cmocka_unit_test(test_what_could_steer_a_terminal),
        cmocka_unit_test(test_json),
        cmocka_unit_test(test_worst),
        cmocka_unit_test(test_long_and_many),
    };
    setlocale(LC_CTYPE, "C.UTF-8");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
