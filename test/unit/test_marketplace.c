#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "marketplace.h"

#define PLANTED "hunter2-PLANTED"

static struct config config = {.waldur_url = (char *)"http://w",
                               .waldur_api = (char *)"http://w/api",
                               .waldur_token = (char *)PLANTED,
                               .waldur_auth = (char *)"token",
                               .waldur_timeout_ms = 1000};
static struct loop *loop;
static struct metrics *metrics;
static struct marketplace *m;

static int setup(void **state)
{
    struct err err;
    (void)state;
    log_setup(LOG_ERROR + 1, true, 2);
    loop = loop_new(&err);
    metrics = metrics_new(&err);
    m = loop && metrics ? marketplace_new(loop, &config, metrics, &err) : NULL;
    return m ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    marketplace_free(m);
    metrics_free(metrics);
    loop_free(loop);
    return 0;
}

/* What an answer of this kind is to the marketplace. */
static void told(enum err_class class, int status, bool answered, int64_t retry_after_ms)
{
    struct exchange_response response = {.sent = true, .status = status};
    struct waldur_outcome outcome = {.answered = answered};
    if (class == ERR_NONE) {
        err_clear(&outcome.err);
    } else {
        err_set(&outcome.err, class, "it said " PLANTED);
    }
    outcome.err.http_status = status;
    outcome.err.retry_after_ms = retry_after_ms;
    marketplace_report(m, &response, &outcome, 3, METHOD_GET);
    assert_null(strstr(outcome.err.msg, PLANTED));
}

static void good(void)
{
    told(ERR_NONE, 200, true, -1);
}

static void bad(void)
{
    told(ERR_UNKNOWN, 503, false, -1);
}

static bool is_up(void)
{
    struct buf text;
    buf_init(&text, 1 << 20);
    assert_int_equal(metrics_print(metrics, &text), 0);
    bool up = strstr(buf_str(&text), "\nprovisioner_waldur_up 1\n") != NULL;
    assert_true(up || strstr(buf_str(&text), "\nprovisioner_waldur_up 0\n"));
    buf_done(&text);
    return up;
}

static char *json(bool comma)
{
    static char text[2048];
    struct buf out;
    buf_init(&out, sizeof(text) - 1);
    marketplace_json(m, comma, &out);
    str_copy(text, sizeof(text), buf_str(&out));
    buf_done(&out);
    return text;
}

static void failures_in_a_row_close_it(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++) {
        bad();
    }
    good();
    for (int i = 0; i < 4; i++) {
        bad();
    }
    assert_false(marketplace_down(m));
    assert_int_equal(marketplace_pause_ms(m, 3), 0);
    assert_string_equal(json(false), "");
    bad();
    assert_true(marketplace_down(m));
    assert_false(is_up());
    assert_in_range(marketplace_pause_ms(m, 0), 1, 1000);
    assert_non_null(
        strstr(json(true), ",{\"runtime\":\"waldur\",\"product\":\"waldur\",\"since\":\""));
    assert_null(strstr(json(true), PLANTED));
    good();
    assert_false(marketplace_down(m));
    assert_true(is_up());
    assert_int_equal(marketplace_pause_ms(m, 9), 0);
}

/* It may have been away for an upgrade. */
static void what_a_server_lacked_is_asked_again_when_it_is_back(void **state)
{
    (void)state;
    struct waldur_site *site = marketplace_access(m).site;
    site->endpoints = WALDUR_SUPPORT_NO;
    bad();
    good();
    assert_int_equal(site->endpoints, WALDUR_SUPPORT_NO);
    for (int i = 0; i < 5; i++) {
        bad();
    }
    good();
    assert_int_equal(site->endpoints, WALDUR_SUPPORT_UNKNOWN);
}

/* The answers that say no are answers: of no number of them it follows that Waldur is away. */
static void refusals_do_not(void **state)
{
    (void)state;
    for (int i = 0; i < 50; i++) {
        told(ERR_CONFLICT, 409, true, -1);
        told(ERR_GONE, 404, true, -1);
        told(ERR_REFUSED, 400, true, -1);
    }
    assert_false(marketplace_down(m));
    assert_string_equal(json(false), "");
}

static void a_refused_token_closes_it_at_once(void **state)
{
    (void)state;
    told(ERR_UNAUTHORIZED, 401, true, -1);
    assert_true(marketplace_down(m));
    assert_in_range(marketplace_pause_ms(m, 0), 20 * 1000, 30 * 1000);
    /* Another token may be the mend. */
    marketplace_configure(m, &config);
    assert_int_equal(marketplace_pause_ms(m, 0), 0);
    assert_true(marketplace_pause_ms(m, 1) > 0); /* one tries */
}

static void what_is_forbidden_is_told_and_closes_nothing(void **state)
{
    (void)state;
    told(ERR_UNAUTHORIZED, 403, true, -1);
    assert_false(marketplace_down(m));
    assert_true(is_up());
    assert_int_equal(marketplace_pause_ms(m, 5), 0);
    assert_true(
        str_starts(json(false), "{\"runtime\":\"waldur\",\"product\":\"waldur\",\"reason\":"));
    assert_null(strstr(json(false), PLANTED));
    marketplace_configure(m, &config);
    assert_string_equal(json(false), "");
}

static void patience_is_given(void **state)
{
    (void)state;
    told(ERR_THROTTLED, 429, false, 40 * 1000);
    assert_in_range(marketplace_pause_ms(m, 0), 39 * 1000, 40 * 1000);
    told(ERR_THROTTLED, 429, false, 2 * 1000); /* the longest that was asked for counts */
    assert_in_range(marketplace_pause_ms(m, 0), 38 * 1000, 40 * 1000);
    assert_false(marketplace_down(m));
}

static void access_is_what_the_configuration_says(void **state)
{
    (void)state;
    struct waldur_access a = marketplace_access(m);
    assert_string_equal(a.url, "http://w/api");
    assert_string_equal(a.scheme, "Token ");
    assert_string_equal(a.credential, PLANTED);
    assert_non_null(a.site);
    config.waldur_auth = (char *)"bearer";
    assert_string_equal(marketplace_access(m).scheme, "Bearer ");
    config.waldur_auth = (char *)"token";
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(failures_in_a_row_close_it),
        CASE(what_a_server_lacked_is_asked_again_when_it_is_back),
        CASE(refusals_do_not),
        CASE(a_refused_token_closes_it_at_once),
        CASE(what_is_forbidden_is_told_and_closes_nothing),
        CASE(patience_is_given),
        CASE(access_is_what_the_configuration_says),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
