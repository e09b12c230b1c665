/*
 * Metrics as Prometheus reads them.
 */
#include "metrics.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/str.h"

enum { TEXT_MAX = 16 * 1024 * 1024 };

static struct metrics *fresh(void)
{
    struct err err;
    struct metrics *m = metrics_new(&err);
    assert_non_null(m);
    return m;
}

static char *print(const struct metrics *m)
{
    struct buf b;
    buf_init(&b, TEXT_MAX);
    assert_int_equal(metrics_print(m, &b), 0);
    return buf_steal(&b);
}

/* The family's part of the text. */
static char *family(const struct metrics *m, const char *name)
{
    char *text = print(m), head[128];
    snprintf(head, sizeof(head), "# HELP %s ", name);
    const char *start = strstr(text, head);
    assert_non_null(start);
    const char *end = strstr(start + 1, "# HELP ");
    char *part = str_dupn(start, end ? (size_t)(end - start) : strlen(start));
    free(text);
    return part;
}

static void expect(const struct metrics *m, const char *name, const char *wanted)
{
    char *got = family(m, name);
    assert_string_equal(got, wanted);
    free(got);
}

static void test_counter(void **state)
{
    (void)state;
    struct metrics *m = fresh();
    metrics_add(m, M_EVENTS_TOTAL, METRIC_LABELS("stale"), 1);
    metrics_add(m, M_EVENTS_TOTAL, METRIC_LABELS("applied"), 1);
    metrics_add(m, M_EVENTS_TOTAL, METRIC_LABELS("applied"), 2);
    metrics_add(m, M_TAKEOVERS_TOTAL, NULL, 1);
    expect(m, "provisioner_events_total",
           "# HELP provisioner_events_total Events read from Kafka and settled, by what became of "
           "them.\n"
           "# TYPE provisioner_events_total counter\n"
           "provisioner_events_total{verdict=\"applied\"} 3\n"
           "provisioner_events_total{verdict=\"stale\"} 1\n");
    expect(m, "provisioner_takeovers_total",
           "# HELP provisioner_takeovers_total Jobs taken over from workers whose lease ended.\n"
           "# TYPE provisioner_takeovers_total counter\n"
           "provisioner_takeovers_total 1\n");
    metrics_free(m);
    metrics_free(NULL);
}

static void test_fresh(void **state)
{
    (void)state;
    struct metrics *m = fresh();
    expect(m, "provisioner_dead_letters_total",
           "# HELP provisioner_dead_letters_total Messages that could not be taken in.\n"
           "# TYPE provisioner_dead_letters_total counter\n"
           "provisioner_dead_letters_total 0\n");
    expect(m, "provisioner_kafka_paused",
           "# HELP provisioner_kafka_paused Whether consumption is paused (1).\n"
           "# TYPE provisioner_kafka_paused gauge\n");
    expect(m, "provisioner_build_info",
           "# HELP provisioner_build_info Always 1; the version is in the label.\n"
           "# TYPE provisioner_build_info gauge\n"
           "provisioner_build_info{version=\"" PROVISIONER_VERSION "\"} 1\n");
    metrics_free(m);
}

/* Every family once, HELP then TYPE then its own samples, all named as they should be. */
static void test_every_family(void **state)
{
    (void)state;
    struct metrics *m = fresh();
    char *text = print(m), *rest = NULL;
    char name[128] = "";
    int families = 0;
    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        if (str_starts(line, "# HELP ")) {
            assert_int_equal(sscanf(line, "# HELP %127s", name), 1);
            assert_true(str_starts(name, "provisioner_"));
            families++;
        } else {
            assert_non_null(strstr(line, name));
        }
    }
    assert_int_equal(families, METRIC_MAX);
    free(text);
    metrics_free(m);
}

static void test_gauge_is_cleared(void **state)
{
    (void)state;
    struct metrics *m = fresh();
    metrics_set(m, M_JOBS, METRIC_LABELS("queued"), 7);
    metrics_set(m, M_JOBS, METRIC_LABELS("queued"), 0.25);
    metrics_set(m, M_JOBS, METRIC_LABELS("held"), -3);
    char *text = family(m, "provisioner_jobs");
    assert_non_null(
        strstr(text, "\nprovisioner_jobs{state=\"held\"} -3\nprovisioner_jobs{state=\"queued\"} "
                     "0.25\n"));
    free(text);
    metrics_clear(m, M_JOBS);
    text = family(m, "provisioner_jobs");
    assert_null(strstr(text, "state="));
    free(text);
    metrics_free(m);
}

static void test_histogram(void **state)
{
    (void)state;
    struct metrics *m = fresh();
    const char *const labels[] = {"shared-eu", "langflow", NULL};
    metrics_observe(m, M_UPSTREAM_SECONDS, labels, 0.005); /* a bound belongs to its bucket */
    metrics_observe(m, M_UPSTREAM_SECONDS, labels, 0.3);
    metrics_observe(m, M_UPSTREAM_SECONDS, labels, 61);
    char *text = family(m, "provisioner_upstream_seconds");
#define SAMPLE(le, n)                                                                              \
    "provisioner_upstream_seconds_bucket{runtime=\"shared-eu\",product=\"langflow\",le=\"" le      \
    "\"} " n "\n"
#define LABELS "{runtime=\"shared-eu\",product=\"langflow\"}"
    const char *wanted = SAMPLE("0.005", "1") SAMPLE("0.01", "1") SAMPLE("0.025", "1")
        SAMPLE("0.05", "1") SAMPLE("0.1", "1") SAMPLE("0.25", "1") SAMPLE("0.5", "2")
            SAMPLE("1", "2") SAMPLE("2.5", "2") SAMPLE("5", "2") SAMPLE("10", "2") SAMPLE("30", "2")
                SAMPLE("60", "2")
                    SAMPLE("+Inf", "3") "provisioner_upstream_seconds_sum" LABELS " 61.305\n"
                                        "provisioner_upstream_seconds_count" LABELS " 3\n";
    assert_non_null(strstr(text, " histogram\n"));
    assert_string_equal(strstr(text, " histogram\n") + strlen(" histogram\n"), wanted);
    free(text);
    metrics_observe(m, M_READY_SECONDS, NULL, 1.5);
    text = family(m, "provisioner_ready_seconds");
    assert_non_null(strstr(text, "provisioner_ready_seconds_bucket{le=\"1\"} 0\n"));
    assert_non_null(strstr(text, "provisioner_ready_seconds_bucket{le=\"2.5\"} 1\n"));
    assert_non_null(strstr(text, "provisioner_ready_seconds_sum 1.5\n"));
    free(text);
    metrics_free(m);
}

static void test_label_values(void **state)
{
    (void)state;
    struct metrics *m = fresh();
    char longer[400], cut[400];
    memset(longer, 'x', sizeof(longer));
    memcpy(longer + 127, "\xc3\xa9", 2); /* a character over the cut */
    longer[399] = '\0';
    metrics_set(m, M_JOBS, METRIC_LABELS("a\"b\\c\nd"), 1);
    metrics_set(m, M_JOBS, METRIC_LABELS(longer), 2);
    metrics_set(m, M_JOBS, METRIC_LABELS("\xff\xfe"), 3);
    metrics_set(m, M_JOBS, NULL, 4);
    char *text = family(m, "provisioner_jobs");
    assert_non_null(strstr(text, "{state=\"a\\\"b\\\\c\\nd\"} 1\n"));
    snprintf(cut, sizeof(cut), "{state=\"%.127s\"} 2\n", longer);
    assert_non_null(strstr(text, cut));
    assert_non_null(strstr(text, "{state=\"other\"} 3\n"));
    assert_non_null(strstr(text, "{state=\"\"} 4\n"));
    free(text);
    /* The longest that four labels can become. */
    memset(longer, '"', 300);
    metrics_add(m, M_UPSTREAM_REQUESTS_TOTAL, METRIC_LABELS(longer, longer, longer, longer), 1);
    metrics_free(m);
}

static size_t count(const char *text, const char *what)
{
    size_t n = 0;
    for (const char *at = text; (at = strstr(at, what)); at++) {
        n++;
    }
    return n;
}

static void test_series_are_bounded(void **state)
{
    (void)state;
    struct metrics *m = fresh();
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < 1500; i++) {
            char kind[16];
            snprintf(kind, sizeof(kind), "k%d", i);
            metrics_add(m, M_JOBS_FINISHED_TOTAL, METRIC_LABELS(kind, "done"), 1);
            metrics_observe(m, M_STEP_SECONDS, METRIC_LABELS(kind, "s"), 1);
        }
    }
    char *text = family(m, "provisioner_jobs_finished_total");
    assert_int_equal(count(text, "\nprovisioner_"), 1001);
    assert_non_null(strstr(text, "{kind=\"k999\",state=\"done\"} 2\n"));
    assert_non_null(strstr(text, "{kind=\"other\",state=\"other\"} 1000\n"));
    assert_null(strstr(text, "k1000"));
    free(text);
    text = family(m, "provisioner_step_seconds");
    assert_int_equal(count(text, "_count{"), 1001);
    free(text);
    metrics_free(m);
}

static void test_numbers(void **state)
{
    (void)state;
    static const struct {
        double value;
        const char *text;
    } cases[] = {{0, "0"},
                 {0.1, "0.1"},
                 {1.0 / 3, "0.3333333333333333"},
                 {0.1 + 0.2, "0.30000000000000004"},
                 {1e6, "1000000"},
                 {123456789012345, "123456789012345"},
                 {1e21, "1e+21"},
                 {1e-9, "1e-09"},
                 {1.5e300 * 1e300, "+Inf"},
                 {-1.5e300 * 1e300, "-Inf"}};
    struct metrics *m = fresh();
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char wanted[80];
        snprintf(wanted, sizeof(wanted), "\nprovisioner_outbox_waiting %s\n", cases[i].text);
        metrics_set(m, M_OUTBOX_WAITING, NULL, cases[i].value);
        char *text = family(m, "provisioner_outbox_waiting");
        assert_non_null(strstr(text, wanted));
        free(text);
    }
    metrics_free(m);
}

static void test_print_is_bounded(void **state)
{
    (void)state;
    struct metrics *m = fresh();
    struct buf b;
    buf_init(&b, 100);
    assert_int_equal(metrics_print(m, &b), -1);
    buf_done(&b);
    metrics_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_counter),
        cmocka_unit_test(test_fresh),
        cmocka_unit_test(test_every_family),
        cmocka_unit_test(test_gauge_is_cleared),
        cmocka_unit_test(test_histogram),
        cmocka_unit_test(test_label_values),
        cmocka_unit_test(test_series_are_bounded),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_print_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
