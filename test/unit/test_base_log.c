#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "base/str.h"

/* A datagram socket pair keeps every write(2) apart. */
static int ends[2];
static char line[64 * 1024];

static int start(void **state)
{
    (void)state;
    return socketpair(AF_UNIX, SOCK_DGRAM, 0, ends);
}

static int stop(void **state)
{
    (void)state;
    log_setup(LOG_INFO, true, STDERR_FILENO);
    close(ends[0]);
    close(ends[1]);
    return 0;
}

/* One write as it came out; 0 where there was none. */
static size_t written(void)
{
    ssize_t n = recv(ends[1], line, sizeof(line) - 1, MSG_DONTWAIT);
    size_t len = n > 0 ? (size_t)n : 0;
    line[len] = '\0';
    return len;
}

static cJSON *written_json(void)
{
    static const struct json_limits limits = {.size = 8192, .depth = 1, .string = 8192};
    size_t n = written();
    assert_in_range(n, 2, 8192);
    assert_int_equal(line[n - 1], '\n');
    assert_null(memchr(line, '\n', n - 1));
    cJSON *tree;
    struct json_fault fault;
    if (json_parse(line, n, &limits, &tree, &fault))
        fail_msg("%s: %s", fault.reason, line);
    return tree;
}

static void writes_json_lines(void **state)
{
    (void)state;
    log_setup(LOG_INFO, true, ends[0]);
    int64_t before = clock_wall_us();
    log_event(LOG_WARN, "job \"held\"", LOG_S("why", "a\nb\xff"), LOG_I("n", INT64_MIN),
              LOG_B("last", true), LOG_S("none", NULL), LOG_S("empty", ""));
    cJSON *t = written_json();
    const char *time = json_str(t, "time");
    int64_t us;
    assert_true(clock_parse(time, strlen(time), &us));
    assert_int_equal(strlen(time), 27);
    assert_true(us >= before && us <= clock_wall_us());
    assert_string_equal(json_str(t, "level"), "warn");
    assert_string_equal(json_str(t, "event"), "job \"held\"");
    assert_string_equal(json_str(t, "why"), "a\nb\xEF\xBF\xBD");
    assert_true(json_bool(t, "last", false));
    assert_non_null(strstr(line, "\"n\":-9223372036854775808,"));
    assert_null(json_get(t, "none"));
    assert_string_equal(json_str(t, "empty"), "");
    assert_null(json_get(t, "cut"));
    cJSON_Delete(t);
    assert_int_equal(written(), 0); /* one write a line */
    log_event(LOG_INFO, "bare");
    t = written_json();
    assert_int_equal(cJSON_GetArraySize(t), 3);
    cJSON_Delete(t);
}

static void writes_text_lines(void **state)
{
    (void)state;
    log_setup(LOG_DEBUG, false, ends[0]);
    log_event(LOG_ERROR, "job finished", LOG_S("job", "a-1"), LOG_S("why", "two words"),
              LOG_I("n", 3), LOG_B("ok", false), LOG_S("x", "a=b"), LOG_S("e", ""),
              LOG_S("nl", "a\nevil"));
    written();
    assert_string_equal(
        line + 27, " ERROR job finished job=a-1 why=\"two words\" n=3 ok=false x=\"a=b\" e=\"\""
                   " nl=\"a\\nevil\"\n");
    log_event(LOG_DEBUG, "one\ntwo");
    written();
    assert_string_equal(line + 27, " DEBUG \"one\\ntwo\"\n");
}

static void keeps_below_its_level(void **state)
{
    (void)state;
    log_setup(LOG_WARN, true, ends[0]);
    log_event(LOG_INFO, "not this");
    assert_int_equal(written(), 0);
    assert_false(log_enabled(LOG_INFO));
    assert_true(log_enabled(LOG_WARN) && log_enabled(LOG_ERROR));
    enum log_level level = LOG_ERROR;
    assert_true(log_level_parse("debug", &level) && level == LOG_DEBUG);
    assert_false(log_level_parse("DEBUG", &level) || log_level_parse("", &level) ||
                 log_level_parse(NULL, &level));
    assert_int_equal(level, LOG_DEBUG);
}

static void cuts_what_is_long(void **state)
{
    (void)state;
    log_setup(LOG_INFO, true, ends[0]);
    char text[6001];
    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    memcpy(text + 2047, "€", 3); /* stands across the cut */
    log_event(LOG_INFO, "long", LOG_S("v", text));
    cJSON *t = written_json();
    const char *v = json_str(t, "v");
    assert_int_equal(strlen(v), 2047 + 3);
    assert_string_equal(v + 2047, "…");
    cJSON_Delete(t);
    text[2048] = '\0';
    text[2047] = 'x';
    log_event(LOG_INFO, "whole", LOG_S("v", text));
    t = written_json();
    assert_string_equal(json_str(t, "v"), text);
    cJSON_Delete(t);
}

static void a_line_has_a_bound(void **state)
{
    (void)state;
    char hard[6001];
    memset(hard, 1, sizeof(hard) - 1); /* six bytes each when escaped */
    hard[sizeof(hard) - 1] = '\0';
    for (int json = 0; json < 2; json++) {
        log_setup(LOG_INFO, json, ends[0]);
        struct log_field fields[200];
        for (size_t i = 0; i + 1 < ARRAY_LEN(fields); i++) {
            static char keys[200][8];
            snprintf(keys[i], sizeof(keys[i]), "k%zu", i);
            fields[i] = LOG_S(keys[i], hard);
        }
        fields[ARRAY_LEN(fields) - 1] = LOG_END;
        log_write(LOG_INFO, hard, fields);
        if (!json) {
            size_t n = written();
            assert_in_range(n, 7000, 8192);
            assert_string_equal(line + n - 10, " cut=true\n");
            continue;
        }
        cJSON *t = written_json();
        assert_true(json_bool(t, "cut", false));
        const char *v = json_str(t, "k0");
        assert_non_null(v);
        assert_string_equal(v + strlen(v) - 3, "…");
        cJSON_Delete(t);
    }
}

/* Whatever the last value's length, the line ends properly and within the bound. */
static void a_line_is_whole_at_any_length(void **state)
{
    (void)state;
    log_setup(LOG_INFO, true, ends[0]);
    char full[2049], last[2049];
    memset(full, 'x', sizeof(full) - 1);
    full[sizeof(full) - 1] = '\0';
    for (size_t n = 1700; n < 2048; n++) {
        memset(last, 'y', n);
        last[n] = '\0';
        log_event(LOG_INFO, "e", LOG_S("a", full), LOG_S("b", full), LOG_S("c", full),
                  LOG_S("d", last), LOG_S("e", full));
        cJSON *t = written_json();
        assert_int_equal(strlen(json_str(t, "c")), 2048);
        /* A value goes whole or is marked, or its absence is. */
        const char *d = json_str(t, "d");
        assert_true(str_eq(d, last) || strstr(d, "y…") != NULL);
        assert_true(json_get(t, "e") || json_bool(t, "cut", false));
        cJSON_Delete(t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writes_json_lines),     cmocka_unit_test(writes_text_lines),
        cmocka_unit_test(keeps_below_its_level), cmocka_unit_test(cuts_what_is_long),
        cmocka_unit_test(a_line_has_a_bound),    cmocka_unit_test(a_line_is_whole_at_any_length),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
