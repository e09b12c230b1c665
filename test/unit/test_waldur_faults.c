/*
 * Every way that a request can fail, at every request of taking in, reporting and answering for a
 * key: the operation, run again until it is done, ends with what was wanted, with one key, and
 * without a word about an order that does not execute.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "waldur_sim.h"

#define HTML "<html><body><h1>502 Bad Gateway</h1></body></html>"

static const struct ws_fault blows[] = {
    {.status = 0},                                               /* lost on its way */
    {.status = 0, .acts = true},                                 /* its answer was lost */
    {.status = 0, .late = true},                                 /* it arrives later */
    {.status = 0, .unsent = true},                               /* nobody listens */
    {.status = 502, .body = HTML},                               /* by a proxy alone */
    {.status = 502, .body = HTML, .acts = true},                 /* and behind it */
    {.status = 500, .body = "{\"detail\":\"x\"}", .acts = true}, /* broken after the change */
    {.status = 409, .body = "{\"detail\":\"Valid states for operation: x.\"}", .acts = true},
    {.status = 429, .body = "{}", .retry_after_ms = 5},
    {.status = 503, .body = HTML, .retry_after_ms = 5},
    {.status = 401, .body = "{\"detail\":\"Token has expired.\"}"},
    {.status = 403, .body = "{\"detail\":\"no\"}"},
    {.status = 404, .body = HTML},
    {.status = 200, .body = HTML},
    {.status = 408, .body = "", .acts = true},
};

typedef struct waldur_op *start_fn(struct waldur_sim *s);

static struct waldur_op *start_intake(struct waldur_sim *s)
{
    static const char *const offerings[] = {WS_OFFERING};
    const struct waldur_intake_target target = {
        .access = ws_access(s), .order = WS_ORDER, .offerings = offerings, .n_offerings = 1};
    struct err err;
    return waldur_intake_start(&target, &err);
}

static struct waldur_op *start_report(struct waldur_sim *s, enum waldur_verdict verdict)
{
    static const struct waldur_endpoint endpoints[] = {{"Chat", "https://chat.example/x"}};
    static const struct waldur_key_told keys[] = {{"pk_live_abcd", WS_API_KEY}};
    const struct waldur_report_target target = {.access = ws_access(s),
                                                .order = WS_ORDER,
                                                .resource = WS_RESOURCE,
                                                .verdict = verdict,
                                                .backend_id = WS_NAME,
                                                .metadata = "{\"ready\":true}",
                                                .endpoints = endpoints,
                                                .n_endpoints = 1,
                                                .keys = keys,
                                                .n_keys = 1,
                                                .error_message = "no"};
    struct err err;
    return waldur_report_start(&target, &err);
}

static struct waldur_op *start_done(struct waldur_sim *s)
{
    return start_report(s, WALDUR_VERDICT_DONE);
}

static struct waldur_op *start_erred(struct waldur_sim *s)
{
    return start_report(s, WALDUR_VERDICT_ERRED);
}

static struct waldur_op *start_key(struct waldur_sim *s)
{
    const struct waldur_key_target target = {.access = ws_access(s),
                                             .resource = WS_RESOURCE,
                                             .client_id = "pk_live_new",
                                             .api_key = WS_API_KEY};
    struct err err;
    return waldur_key_start(&target, &err);
}

struct way {
    start_fn *start;
    enum waldur_order_state from, to;
    size_t keys; /* before */
    bool old;
};

static bool run(struct waldur_sim *s, const struct way *way)
{
    struct waldur_op *op = way->start(s);
    assert_non_null(op);
    bool done = ws_drive(s, op).turn == WALDUR_DONE;
    if (done && way->start == start_intake) {
        assert_int_equal(waldur_intake_of(op)->end, WALDUR_INTAKE_TAKE);
    }
    waldur_op_free(op);
    return done;
}

static void check(struct waldur_sim *s, const struct way *way)
{
    assert_string_equal(s->backend_id, WS_NAME);
    assert_int_equal(s->state, way->to);
    assert_int_equal(s->posted_to_closed, 0);
    if (way->start == start_done) {
        assert_int_equal(s->n_keys, way->old ? 0 : 1);
        assert_int_equal(s->resource_state, WALDUR_RESOURCE_OK);
        assert_true(json_bool(s->metadata, "ready", false));
        assert_int_equal(cJSON_GetArraySize(s->endpoints), way->old ? 0 : 1);
    } else if (way->start == start_erred) {
        assert_int_equal(s->n_keys, 0);
        assert_int_equal(s->resource_state, WALDUR_RESOURCE_ERRED);
    } else if (way->start == start_key) {
        assert_int_equal(s->n_keys, 1);
        assert_int_equal(s->keys[0].state, WALDUR_KEY_OK);
        assert_string_equal(s->keys[0].client_id, "pk_live_new");
    }
}

/* False when the operation has fewer requests. */
static bool strike(const struct way *way, struct ws_fault blow, int at)
{
    struct waldur_sim s = ws_begin(way->old);
    s.state = way->from;
    if (way->start == start_key) {
        str_copy(s.backend_id, sizeof(s.backend_id), WS_NAME);
    }
    for (size_t i = 0; i < way->keys; i++) {
        ws_add_key(&s, "pk_live_old", WALDUR_KEY_UPDATING);
    }
    blow.skip = at;
    ws_fault(&s, blow);
    bool done = run(&s, way), struck = s.faults[0].times == 0;
    for (int again = 0; !done && again < 3; again++) {
        ws_late(&s); /* a retry is never at once */
        done = run(&s, way);
    }
    if (!done) {
        fail_msg("blow %d at %d: never done: %s", blow.status, at, s.log);
    }
    check(&s, way);
    ws_end(&s);
    return struck;
}

static void every_blow(const struct way *way)
{
    for (size_t i = 0; i < ARRAY_LEN(blows); i++) {
        int at = 0;
        while (strike(way, blows[i], at)) {
            at++;
        }
        assert_true(at > 1);
    }
}

static void taking_in(void **state)
{
    (void)state;
    for (int old = 0; old < 2; old++) {
        every_blow(&(struct way){start_intake, WALDUR_ORDER_PENDING_PROVIDER,
                                 WALDUR_ORDER_EXECUTING, 0, old});
        every_blow(
            &(struct way){start_intake, WALDUR_ORDER_EXECUTING, WALDUR_ORDER_EXECUTING, 0, old});
    }
}

static void reporting_done(void **state)
{
    (void)state;
    every_blow(&(struct way){start_done, WALDUR_ORDER_EXECUTING, WALDUR_ORDER_DONE, 0, false});
    every_blow(&(struct way){start_done, WALDUR_ORDER_EXECUTING, WALDUR_ORDER_DONE, 0, true});
    every_blow(&(struct way){start_done, WALDUR_ORDER_ERRED, WALDUR_ORDER_DONE, 0, false});
}

static void reporting_erred(void **state)
{
    (void)state;
    for (int old = 0; old < 2; old++) {
        every_blow(&(struct way){start_erred, WALDUR_ORDER_EXECUTING, WALDUR_ORDER_ERRED, 0, old});
    }
}

static void answering_for_a_key(void **state)
{
    (void)state;
    every_blow(&(struct way){start_key, WALDUR_ORDER_DONE, WALDUR_ORDER_DONE, 1, false});
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(taking_in),
        cmocka_unit_test(reporting_done),
        cmocka_unit_test(reporting_erred),
        cmocka_unit_test(answering_for_a_key),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
