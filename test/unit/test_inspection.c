/*
 * The runner of drivers' inspections, with a driver that plays a script.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/str.h"
#include "inspection.h"

#define CREDENTIAL "credential-of-the-platform"
#define MODELS_KEY "key-of-the-models"

/* 'w' waits, 'r' asks a port where nobody listens, 'e' wants to change something, 'f' fails,
 * 'd' is done; the last one stays. */
struct driver_op {
    const char *script;
    struct driver_report *report;
    const struct driver_target *target;
};

static const char *script;
static int answers, sites, ops;
static int64_t site_now_ms;

static struct driver_site *site_new(struct err *err);
static void site_free(struct driver_site *site);

static struct driver_op *new_op(const struct driver_target *target, struct driver_report *report,
                                struct err *err)
{
    struct driver_op *op = calloc(1, sizeof(*op));
    if (!op) {
        err_nomem(err);
        return NULL;
    }
    *op = (struct driver_op){script, report, target};
    ops++;
    return op;
}

static struct driver_op *inspect(const struct driver_target *target, struct driver_report *report,
                                 struct err *err)
{
    driver_report_add(report, LEVEL_WARN, "echo", "forget " MODELS_KEY, "it said %s",
                      target->credential);
    return new_op(target, report, err);
}

static struct driver_op *start(enum driver_goal goal, const struct driver_target *target,
                               struct err *err)
{
    assert_int_equal(goal, DRIVER_PRESENT);
    assert_true(target->observe);
    assert_non_null(target->name);
    assert_non_null(target->marker);
    assert_non_null(target->subscription);
    return new_op(target, NULL, err);
}

static void next(struct driver_op *op, struct driver_action *out)
{
    *out = (struct driver_action){0};
    exchange_request_init(&out->request);
    err_clear(&out->err);
    if (op->target->site)
        site_now_ms = op->target->site->now_ms;
    char what = op->script[0];
    op->script += op->script[1] != '\0';
    switch (what) {
    case 'w':
        out->turn = TURN_WAIT;
        out->wait_ms = 5;
        return;
    case 'e':
        out->effect = "thing.create";
        buf_adds(&out->request.body, "a body, which must be freed");
        /* fall through */
    case 'r':
        out->turn = TURN_REQUEST;
        str_copy(out->request.url, sizeof(out->request.url), "http://127.0.0.1:1/");
        return;
    case 'f':
        out->turn = TURN_FAILED;
        err_set(&out->err, ERR_REFUSED, "no to %s", op->target->credential);
        return;
    default:
        out->turn = TURN_DONE;
        return;
    }
}

static void feed(struct driver_op *op, const struct exchange_response *response,
                 struct driver_outcome *out)
{
    *out = (struct driver_outcome){0};
    assert_int_equal(response->status, 0);
    answers++;
    if (op->report)
        driver_report_add(op->report, LEVEL_BAD, "reach", NULL, "%s", response->failure);
}

static void op_free(struct driver_op *op)
{
    ops -= op != NULL;
    free(op);
}

static const struct driver_class whole = {.api = "whole",
                                          .start = start,
                                          .next = next,
                                          .feed = feed,
                                          .free = op_free,
                                          .site_new = site_new,
                                          .site_free = site_free,
                                          .inspect = inspect};
static const struct driver_class plain = {
    .api = "plain", .start = start, .next = next, .feed = feed, .free = op_free};

static struct driver_site *site_new(struct err *err)
{
    struct driver_site *site = calloc(1, sizeof(*site));
    if (!site) {
        err_nomem(err);
        return NULL;
    }
    site->class = &whole;
    site->refs = 1;
    sites++;
    return site;
}

static void site_free(struct driver_site *site)
{
    sites--;
    free(site);
}

/* ---- a run ---- */

struct run {
    struct loop *loop;
    struct inspection *inspection;
    struct driver_report report;
    struct err err;
    int done;
};

static void on_done(void *ctx, const struct err *err)
{
    struct run *r = ctx;
    r->done++;
    r->err = *err;
    inspection_free(r->inspection); /* as it may */
    r->inspection = NULL;
    loop_stop(r->loop);
}

static void on_end(void *ctx)
{
    loop_stop(((struct run *)ctx)->loop);
}

static struct run run(const struct driver_class *class, const char *what, const char *credential,
                      bool to_its_end)
{
    struct run r = {.done = 0};
    struct err err;
    const struct driver_settings settings = {.models_key = MODELS_KEY};
    const struct driver_target target = {.url = "http://127.0.0.1:1",
                                         .credential = credential,
                                         .timeout_ms = 1000,
                                         .settings = &settings};
    struct loop_timer timer = {.fn = on_end, .ctx = &r};
    script = what;
    answers = 0;
    site_now_ms = 0;
    assert_non_null(r.loop = loop_new(&err));
    struct http *http = http_new(r.loop, NULL, &err);
    assert_non_null(http);
    r.inspection = inspection_start(r.loop, http, class, &target, &r.report, on_done, &r, &err);
    assert_non_null(r.inspection);
    assert_int_equal(r.done, 0); /* never at once */
    assert_int_equal(loop_timer_set(r.loop, &timer, to_its_end ? 20000 : 200, &err), 0);
    assert_int_equal(loop_run(r.loop, &err), 0);
    assert_int_equal(r.done, to_its_end);
    inspection_free(r.inspection);
    loop_timer_cancel(r.loop, &timer);
    http_free(http);
    loop_free(r.loop);
    assert_int_equal(ops, 0);
    assert_int_equal(sites, 0);
    return r;
}

static void expect_no_secret(const struct run *r)
{
    for (size_t i = 0; i < r->report.n; i++) {
        assert_null(strstr(r->report.findings[i].what, CREDENTIAL));
        assert_null(strstr(r->report.findings[i].mend, MODELS_KEY));
    }
    assert_null(strstr(r->err.msg, CREDENTIAL));
}

static void test_to_its_end(void **state)
{
    (void)state;
    struct run r = run(&whole, "wrwrd", CREDENTIAL, true);
    assert_int_equal(r.err.class, ERR_NONE);
    assert_int_equal(answers, 2);
    assert_true(site_now_ms > 0);
    assert_int_equal(r.report.n, 3);
    assert_string_equal(r.report.findings[2].subject, "reach");
    expect_no_secret(&r);
}

static void test_failure(void **state)
{
    (void)state;
    struct run r = run(&whole, "f", CREDENTIAL, true);
    assert_int_equal(r.err.class, ERR_REFUSED);
    assert_int_equal(r.report.n, 1);
    expect_no_secret(&r);
    assert_non_null(strstr(r.report.findings[0].what, "it said ***"));
    assert_non_null(strstr(r.report.findings[0].mend, "forget ***"));
}

static void test_nothing_is_changed(void **state)
{
    (void)state;
    struct run r = run(&whole, "ed", CREDENTIAL, true);
    assert_int_equal(r.err.class, ERR_INTERNAL);
    assert_int_equal(answers, 0);
}

static void test_without_end(void **state)
{
    (void)state;
    struct run r = run(&whole, "r", CREDENTIAL, true);
    assert_int_equal(r.err.class, ERR_INTERNAL);
    assert_int_equal(answers, 100);
}

static void test_stopped(void **state)
{
    (void)state;
    struct run r = run(&whole, "w", CREDENTIAL, false);
    assert_int_equal(r.report.n, 1);
    expect_no_secret(&r);
}

static void test_mere_look(void **state)
{
    (void)state;
    struct run r = run(&plain, "d", CREDENTIAL, true);
    assert_int_equal(r.err.class, ERR_NONE);
    assert_int_equal(r.report.n, 1);
    assert_string_equal(r.report.findings[0].subject, "credential");
    assert_int_equal(r.report.findings[0].level, LEVEL_OK);
    r = run(&plain, "d", NULL, true);
    assert_non_null(strstr(r.report.findings[0].what, "none is set"));
    r = run(&plain, "f", CREDENTIAL, true);
    assert_int_equal(r.err.class, ERR_REFUSED);
    assert_int_equal(r.report.n, 0);
    expect_no_secret(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_to_its_end),
        cmocka_unit_test(test_failure),
        cmocka_unit_test(test_nothing_is_changed),
        cmocka_unit_test(test_without_end),
        cmocka_unit_test(test_stopped),
        cmocka_unit_test(test_mere_look),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
