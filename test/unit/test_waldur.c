/*
 * Taking orders in, reporting them and answering for keys, against Waldur old and new, with all
 * that its API is known to do wrong. Each case tells what was asked, in order (waldur_sim.h).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "waldur_sim.h"

#define NOT_FOUND "{\"detail\":\"Not found.\"}"
#define HTML      "<html><body><h1>502 Bad Gateway</h1></body></html>"

static void said(const struct waldur_sim *s, const char *log)
{
    assert_string_equal(s->log, log);
}

/* ---- intake ---- */

struct taken {
    struct waldur_op *op;
    struct waldur_action end;
    const struct waldur_intake *it;
};

static struct taken take(struct waldur_sim *s)
{
    static const char *const offerings[] = {"00000000-61f4-4d10-9a55-3a0f6a2b8a55", WS_OFFERING};
    const struct waldur_intake_target target = {
        .access = ws_access(s), .order = WS_ORDER, .offerings = offerings, .n_offerings = 2};
    struct err err;
    struct taken t = {.op = waldur_intake_start(&target, &err)};
    assert_non_null(t.op);
    t.end = ws_drive(s, t.op);
    t.it = waldur_intake_of(t.op);
    return t;
}

static void took(struct waldur_sim *s, enum waldur_intake_end how, const char *log)
{
    struct taken t = take(s);
    said(s, log);
    assert_int_equal(t.end.turn, WALDUR_DONE);
    assert_int_equal(t.it->end, how);
    assert_int_equal(t.it->has_order, how != WALDUR_INTAKE_GONE);
    assert_int_equal(t.it->reason[0] != '\0', how == WALDUR_INTAKE_LEFT);
    if (how == WALDUR_INTAKE_TAKE) {
        assert_true(t.it->has_resource);
        assert_string_equal(t.it->order.uuid, WS_ORDER);
        assert_string_equal(t.it->resource.uuid, WS_RESOURCE);
        assert_int_equal(t.it->order.state, WALDUR_ORDER_EXECUTING);
    }
    waldur_op_free(t.op);
}

static void intake_failed(struct waldur_sim *s, enum err_class class, const char *log)
{
    struct taken t = take(s);
    said(s, log);
    assert_int_equal(t.end.turn, WALDUR_FAILED);
    assert_string_equal(err_class_name(t.end.err.class), err_class_name(class));
    assert_true(t.end.err.msg[0]);
    waldur_op_free(t.op);
}

static void an_order_is_approved_and_announced(void **state)
{
    (void)state;
    for (int old = 0; old < 2; old++) {
        struct waldur_sim s = ws_begin(old);
        took(&s, WALDUR_INTAKE_TAKE, "o r ? +order.approve o +resource.backend_id r");
        assert_string_equal(s.backend_id, WS_NAME);
        ws_end(&s);
    }
}

static void what_executes_is_announced_once(void **state)
{
    (void)state;
    struct waldur_sim s = ws_begin(false);
    s.state = WALDUR_ORDER_EXECUTING;
    took(&s, WALDUR_INTAKE_TAKE, "o r ? +resource.backend_id r");
    s.log[0] = '\0';
    took(&s, WALDUR_INTAKE_TAKE, "o r ?");
    ws_end(&s);
}

static void restore_and_update_are_announced_and_terminate_is_not(void **state)
{
    (void)state;
    static const enum waldur_order_type types[] = {WALDUR_TYPE_RESTORE, WALDUR_TYPE_UPDATE,
                                                   WALDUR_TYPE_TERMINATE};
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        struct waldur_sim s = ws_begin(false);
        s.type = types[i];
        s.accept = types[i] == WALDUR_TYPE_TERMINATE ? NULL : WS_NAME;
        took(&s, WALDUR_INTAKE_TAKE,
             s.accept ? "o r ? +order.approve o +resource.backend_id r" : "o r ? +order.approve o");
        ws_end(&s);
    }
}

static void approval_is_processed_later(void **state)
{
    (void)state;
    struct waldur_sim s = ws_begin(false);
    s.slow_approval = 3;
    took(&s, WALDUR_INTAKE_TAKE, "o r ? +order.approve o w o w o +resource.backend_id r");
    ws_end(&s);
}

static void an_approval_without_effect_is_given_up(void **state)
{
    (void)state;
    struct waldur_sim s = ws_begin(false);
    s.slow_approval = 1000;
    intake_failed(&s, ERR_UNKNOWN, "o r ? +order.approve o w o w o w o w o w o");
    ws_end(&s);
}

static void a_lost_answer_is_looked_after_before_it_is_repeated(void **state)
{
    (void)state;
    struct waldur_sim s = ws_begin(false);
    ws_fault(&s, (struct ws_fault){.mark = "+order.approve", .acts = true});
    ws_fault(&s, (struct ws_fault){.mark = "+resource.backend_id", .status = 502, .body = HTML});
    took(&s, WALDUR_INTAKE_TAKE,
         "o r ? +order.approve:0 w o +resource.backend_id:502 w r +resource.backend_id r");
    ws_end(&s);
    s = ws_begin(false);
    ws_fault(&s, (struct ws_fault){.mark = "+order.approve", .late = true});
    took(&s, WALDUR_INTAKE_TAKE, "o r ? +order.approve:0 w o +resource.backend_id r");
    ws_end(&s);
    s = ws_begin(false);
    ws_fault(&s, (struct ws_fault){.mark = "+order.approve", .times = 9});
    intake_failed(&s, ERR_UNKNOWN,
                  "o r ? +order.approve:0 w o +order.approve:0 w o +order.approve:0 w o");
    ws_end(&s);
}

static void somebody_approves(struct waldur_sim *s)
{
    if (strstr(s->log, "?")) {
        s->state = s->state == WALDUR_ORDER_PENDING_PROVIDER ? WALDUR_ORDER_EXECUTING : s->state;
    }
}

static void somebody_cancels(struct waldur_sim *s)
{
    if (strstr(s->log, "?")) {
        s->state = WALDUR_ORDER_CANCELED;
    }
}

static void a_conflict_is_a_reason_to_look_again(void **state)
{
    (void)state;
    struct waldur_sim s = ws_begin(false);
    s.before = somebody_approves;
    took(&s, WALDUR_INTAKE_TAKE, "o r ? +order.approve o +resource.backend_id r");
    ws_end(&s);
    s = ws_begin(false);
    s.before = somebody_cancels;
    took(&s, WALDUR_INTAKE_CLOSED, "o r ? +order.approve o");
    assert_string_equal(s.backend_id, "");
    ws_end(&s);
    s = ws_begin(false);
    ws_fault(&s, (struct ws_fault){.mark = "+order.approve", .status = 409, .body = "{}"});
    intake_failed(&s, ERR_UNAVAILABLE, "o r ? +order.approve:409 o w o w o w o w o w o");
    ws_end(&s);
}

static void what_waits_for_others_is_left(void **state)
{
    (void)state;
    static const enum waldur_order_state states[] = {
        WALDUR_ORDER_PENDING_CONSUMER, WALDUR_ORDER_PENDING_PROJECT,
        WALDUR_ORDER_PENDING_START_DATE, WALDUR_ORDER_UNKNOWN};
    for (size_t i = 0; i < ARRAY_LEN(states); i++) {
        struct waldur_sim s = ws_begin(false);
        s.state = states[i];
        took(&s, WALDUR_INTAKE_LEFT, "o");
        ws_end(&s);
    }
    struct waldur_sim s = ws_begin(false);
    s.type = WALDUR_TYPE_UNKNOWN;
    took(&s, WALDUR_INTAKE_LEFT, "o");
    s.log[0] = '\0';
    s.type = WALDUR_TYPE_CREATE;
    s.offering = "";
    took(&s, WALDUR_INTAKE_LEFT, "o");
    ws_end(&s);
}

static void offerings_that_end_by_themselves_are_left(void **state)
{
    (void)state;
    static const char *const types[] = {"Marketplace.Basic", "Marketplace.Script"};
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        struct waldur_sim s = ws_begin(false);
        s.offering_type = types[i];
        struct taken t = take(&s);
        said(&s, "o");
        assert_int_equal(t.it->end, WALDUR_INTAKE_LEFT);
        assert_non_null(strstr(t.it->reason, "Marketplace.Slurm"));
        waldur_op_free(t.op);
        ws_end(&s);
    }
}

static void the_shell_may_leave_it(void **state)
{
    (void)state;
    struct waldur_sim s = ws_begin(false);
    s.leave = "no tier";
    struct taken t = take(&s);
    said(&s, "o r ?");
    assert_int_equal(t.it->end, WALDUR_INTAKE_LEFT);
    assert_string_equal(t.it->reason, "no tier");
    assert_true(t.it->has_resource);
    waldur_op_free(t.op);
    ws_end(&s);
}

static void closed_foreign_and_unknown_orders(void **state)
{
    (void)state;
    for (int i = WALDUR_ORDER_DONE; i <= WALDUR_ORDER_REJECTED; i++) {
        struct waldur_sim s = ws_begin(false);
        s.state = (enum waldur_order_state)i;
        took(&s, WALDUR_INTAKE_CLOSED, "o");
        ws_end(&s);
    }
    struct waldur_sim s = ws_begin(true);
    s.offering = "99999999-61f4-4d10-9a55-3a0f6a2b8a99";
    took(&s, WALDUR_INTAKE_FOREIGN, "o");
    ws_end(&s);
    s = ws_begin(true);
    s.no_order = true;
    took(&s, WALDUR_INTAKE_GONE, "o");
    ws_end(&s);
    s = ws_begin(true);
    s.no_resource = true;
    took(&s, WALDUR_INTAKE_LEFT, "o r");
    ws_end(&s);
}

static void errors_hold_or_wait_and_change_nothing(void **state)
{
    (void)state;
    static const struct {
        struct ws_fault fault;
        enum err_class class;
        const char *log;
    } cases[] = {
        {{.mark = "o", .status = 401, .body = "{\"detail\":\"Invalid token " WS_TOKEN ".\"}"},
         ERR_UNAUTHORIZED,
         "o:401"},
        {{.mark = "r", .status = 403, .body = "{\"detail\":\"no\"}"}, ERR_UNAUTHORIZED, "o r:403"},
        {{.mark = "o", .status = 404, .body = HTML}, ERR_UNAVAILABLE, "o:404"},
        {{.mark = "o", .status = 410, .body = ""}, ERR_UNAVAILABLE, "o:410"},
        {{.mark = "o", .status = 502, .body = HTML}, ERR_UNKNOWN, "o:502"},
        {{.mark = "o", .status = 200, .body = HTML}, ERR_UNKNOWN, "o:200"},
        {{.mark = "o", .status = 200, .body = "[]"}, ERR_UNKNOWN, "o:200"},
        {{.mark = "o", .status = 200, .body = ""}, ERR_UNKNOWN, "o:200"},
        {{.mark = "o", .unsent = true}, ERR_UNAVAILABLE, "o:0"},
        {{.mark = "o"}, ERR_UNKNOWN, "o:0"},
        {{.mark = "+order.approve", .status = 403, .body = "{}"},
         ERR_UNAUTHORIZED,
         "o r ? +order.approve:403"},
        {{.mark = "+order.approve", .status = 400, .body = "{}"},
         ERR_REFUSED,
         "o r ? +order.approve:400"},
        {{.mark = "+order.approve", .status = 405, .body = "{}"},
         ERR_REFUSED,
         "o r ? +order.approve:405"},
        {{.mark = "+order.approve", .status = 429, .body = "{}"},
         ERR_THROTTLED,
         "o r ? +order.approve:429"},
        {{.mark = "+order.approve", .unsent = true}, ERR_UNAVAILABLE, "o r ? +order.approve:0"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct waldur_sim s = ws_begin(i % 2);
        ws_fault(&s, cases[i].fault);
        intake_failed(&s, cases[i].class, cases[i].log);
        assert_int_equal(s.state, WALDUR_ORDER_PENDING_PROVIDER);
        assert_string_equal(s.backend_id, "");
        ws_end(&s);
    }
}

static void retry_after_is_handed_on(void **state)
{
    (void)state;
    for (int status = 429; status <= 503; status += 74) {
        struct waldur_sim s = ws_begin(false);
        ws_fault(&s, (struct ws_fault){.mark = "r",
                                       .status = status,
                                       .body = "{\"detail\":\"Request was throttled.\"}",
                                       .retry_after_ms = 7000});
        struct taken t = take(&s);
        assert_int_equal(t.end.turn, WALDUR_FAILED);
        assert_int_equal(t.end.err.class, ERR_THROTTLED);
        assert_int_equal(t.end.err.retry_after_ms, 7000);
        waldur_op_free(t.op);
        ws_end(&s);
    }
}

/* What one answer to the approval is told to be. */
static struct waldur_outcome outcome_of(const struct exchange_response *r)
{
    static const char *const offerings[] = {WS_OFFERING};
    struct waldur_sim s = ws_begin(false);
    const struct waldur_intake_target target = {
        .access = ws_access(&s), .order = WS_ORDER, .offerings = offerings, .n_offerings = 1};
    struct waldur_outcome out = {0};
    struct waldur_action a;
    struct err err;
    struct waldur_op *op = waldur_intake_start(&target, &err);
    for (waldur_op_next(op, &a); !a.effect; waldur_op_next(op, &a)) {
        if (a.turn == WALDUR_ASK) {
            waldur_intake_accept(op, WS_NAME);
        } else {
            struct exchange_response good = ws_answer(&s, &a);
            waldur_op_feed(op, &good, &out);
            assert_true(out.answered);
            assert_int_equal(out.err.class, ERR_NONE);
        }
        exchange_request_done(&a.request);
    }
    waldur_op_feed(op, r, &out);
    exchange_request_done(&a.request);
    waldur_op_free(op);
    ws_end(&s);
    return out;
}

static void what_became_of_a_change_is_told(void **state)
{
    (void)state;
    static const struct {
        int status;
        bool sent;
        const char *body;
        int64_t retry_after_ms;
        enum waldur_effect effect;
        bool answered;
        enum err_class class;
    } cases[] = {
        {200, true, "", -1, WALDUR_EFFECT_DONE, true, ERR_NONE},
        {200, true, "{\"detail\":\"ok\"}", -1, WALDUR_EFFECT_DONE, true, ERR_NONE},
        {200, true, HTML, -1, WALDUR_EFFECT_UNKNOWN, false, ERR_UNKNOWN},
        {409, true, "{}", -1, WALDUR_EFFECT_REFUSED, true, ERR_CONFLICT},
        {404, true, NOT_FOUND, -1, WALDUR_EFFECT_REFUSED, true, ERR_GONE},
        {404, true, HTML, -1, WALDUR_EFFECT_REFUSED, false, ERR_UNAVAILABLE},
        {403, true, "{}", -1, WALDUR_EFFECT_REFUSED, true, ERR_UNAUTHORIZED},
        {400, true, "{}", -1, WALDUR_EFFECT_REFUSED, true, ERR_REFUSED},
        {429, true, "{}", 1000, WALDUR_EFFECT_REFUSED, false, ERR_THROTTLED},
        {503, true, HTML, 1000, WALDUR_EFFECT_UNKNOWN, false, ERR_THROTTLED},
        {503, true, HTML, -1, WALDUR_EFFECT_UNKNOWN, false, ERR_UNKNOWN},
        {500, true, "{}", -1, WALDUR_EFFECT_UNKNOWN, false, ERR_UNKNOWN},
        {301, true, "", -1, WALDUR_EFFECT_UNKNOWN, false, ERR_UNKNOWN},
        {0, true, "", -1, WALDUR_EFFECT_UNKNOWN, false, ERR_UNKNOWN},
        {0, false, "", -1, WALDUR_EFFECT_NOT_SENT, false, ERR_UNAVAILABLE},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const struct exchange_response r = {.sent = cases[i].sent,
                                            .status = cases[i].status,
                                            .body = cases[i].body,
                                            .body_len = strlen(cases[i].body),
                                            .retry_after_ms = cases[i].retry_after_ms};
        struct waldur_outcome out = outcome_of(&r);
        if (out.effect != cases[i].effect || out.answered != cases[i].answered ||
            out.err.class != cases[i].class) {
            fail_msg("case %zu: effect %d, answered %d, %s", i, out.effect, out.answered,
                     err_class_name(out.err.class));
        }
    }
}

static void changes_resource(struct waldur_sim *s)
{
    s->resource = strstr(s->log, "+order.approve") ? WS_ORDER : WS_RESOURCE_HEX;
}

static void an_order_stays_with_its_resource(void **state)
{
    (void)state;
    struct waldur_sim s = ws_begin(false);
    s.resource = "";
    took(&s, WALDUR_INTAKE_LEFT, "o");
    ws_end(&s);
    s = ws_begin(false);
    s.before = changes_resource;
    intake_failed(&s, ERR_UNKNOWN, "o r ? +order.approve o");
    assert_string_equal(s.backend_id, "");
    ws_end(&s);
    s = ws_begin(false);
    ws_fault(&s, (struct ws_fault){.mark = "r",
                                   .status = 200,
                                   .body = "{\"uuid\":\"" WS_ORDER "\",\"state\":\"OK\"}"});
    intake_failed(&s, ERR_UNKNOWN, "o r:200");
    ws_end(&s);
}

static void a_backend_id_has_to_fit(void **state)
{
    (void)state;
    static char longest[WALDUR_BACKEND_ID_MAX * WALDUR_CHARACTER + 2];
    memset(longest, 'a', sizeof(longest) - 1);
    struct waldur_sim s = ws_begin(false);
    s.accept = longest;
    intake_failed(&s, ERR_INTERNAL, "o r ?");
    ws_end(&s);
}

static void an_order_of_another_uuid_is_no_answer(void **state)
{
    (void)state;
    struct waldur_sim s = ws_begin(false);
    ws_fault(&s,
             (struct ws_fault){.mark = "o",
                               .status = 200,
                               .body = "{\"uuid\":\"" WS_RESOURCE "\",\"state\":\"executing\"}"});
    intake_failed(&s, ERR_UNKNOWN, "o:200");
    ws_end(&s);
}

static void nobody_deciding_is_an_error(void **state)
{
    (void)state;
    static const char *const offerings[] = {WS_OFFERING};
    struct waldur_sim s = ws_begin(false);
    const struct waldur_intake_target target = {
        .access = ws_access(&s), .order = WS_ORDER, .offerings = offerings, .n_offerings = 1};
    struct err err;
    struct waldur_op *op = waldur_intake_start(&target, &err);
    struct waldur_action a;
    struct waldur_outcome out;
    for (waldur_op_next(op, &a); a.turn == WALDUR_REQUEST; waldur_op_next(op, &a)) {
        struct exchange_response r = ws_answer(&s, &a);
        waldur_op_feed(op, &r, &out);
    }
    assert_int_equal(a.turn, WALDUR_ASK);
    waldur_op_next(op, &a);
    assert_int_equal(a.turn, WALDUR_FAILED);
    assert_int_equal(a.err.class, ERR_INTERNAL);
    waldur_op_free(op);
    ws_end(&s);
}

/* ---- report ---- */

#define METADATA "{\"workspace\":\"" WS_NAME "\",\"ready\":true}"

static const struct waldur_endpoint endpoints[] = {{"Chat", "https://chat.example/x"},
                                                   {"API", "https://api.example/x"}};
static const struct waldur_key_told keys[] = {{"pk_live_abcd", WS_API_KEY}};

static struct waldur_report_target all_of(struct waldur_sim *s)
{
    return (struct waldur_report_target){.access = ws_access(s),
                                         .order = WS_ORDER,
                                         .resource = WS_RESOURCE,
                                         .verdict = WALDUR_VERDICT_DONE,
                                         .backend_id = WS_NAME,
                                         .metadata = METADATA,
                                         .endpoints = endpoints,
                                         .n_endpoints = 2,
                                         .keys = keys,
                                         .n_keys = 1};
}

static struct waldur_report_target done_alone(struct waldur_sim *s)
{
    return (struct waldur_report_target){.access = ws_access(s),
                                         .order = WS_ORDER,
                                         .resource = WS_RESOURCE,
                                         .verdict = WALDUR_VERDICT_DONE};
}

static struct waldur_report_target erred(struct waldur_sim *s)
{
    return (struct waldur_report_target){.access = ws_access(s),
                                         .order = WS_ORDER,
                                         .resource = WS_RESOURCE,
                                         .verdict = WALDUR_VERDICT_ERRED,
                                         .backend_id = WS_NAME,
                                         .error_message = "It could not be set up."};
}

static struct waldur_sim executing(bool old)
{
    struct waldur_sim s = ws_begin(old);
    s.state = WALDUR_ORDER_EXECUTING;
    str_copy(s.backend_id, sizeof(s.backend_id), WS_NAME);
    return s;
}

static struct waldur_report reported(struct waldur_sim *s, struct waldur_report_target target,
                                     enum waldur_report_end how, const char *log)
{
    struct err err;
    struct waldur_op *op = waldur_report_start(&target, &err);
    assert_non_null(op);
    struct waldur_action end = ws_drive(s, op);
    struct waldur_report report = *waldur_report_of(op);
    said(s, log);
    if (end.turn != WALDUR_DONE) {
        fail_msg("%s", end.err.msg);
    }
    assert_int_equal(report.end, how);
    waldur_op_free(op);
    return report;
}

static struct err report_failed(struct waldur_sim *s, struct waldur_report_target target,
                                enum err_class class, const char *log)
{
    struct err err;
    struct waldur_op *op = waldur_report_start(&target, &err);
    assert_non_null(op);
    struct waldur_action end = ws_drive(s, op);
    said(s, log);
    assert_int_equal(end.turn, WALDUR_FAILED);
    assert_string_equal(err_class_name(end.err.class), err_class_name(class));
    waldur_op_free(op);
    return end.err;
}

static void everything_is_told_before_the_order_is_done(void **state)
{
    (void)state;
    struct waldur_sim s = executing(false);
    s.backend_id[0] = '\0';
    struct waldur_report r = reported(&s, all_of(&s), WALDUR_REPORT_TOLD,
                                      "o r +resource.backend_id r +resource.metadata r "
                                      "+resource.endpoints r k +key.report k o +order.done o");
    assert_int_equal(r.state, WALDUR_ORDER_DONE);
    assert_false(r.endpoints_untold);
    assert_true(r.keys_told && !r.keys_untold);
    assert_int_equal(s.resource_state, WALDUR_RESOURCE_OK);
    assert_int_equal(s.n_keys, 1);
    char *metadata = json_text(s.metadata);
    assert_string_equal(metadata, METADATA);
    free(metadata);
    assert_null(strstr(s.body, WS_API_KEY));
    assert_int_equal(s.site.endpoints, WALDUR_SUPPORT_YES);
    assert_int_equal(s.site.keys, WALDUR_SUPPORT_YES);
    /* The order is done: nothing is posted again, and the key is there. */
    s.log[0] = '\0';
    r = reported(&s, all_of(&s), WALDUR_REPORT_ALREADY, "o k");
    assert_int_equal(r.state, WALDUR_ORDER_DONE);
    assert_true(r.keys_told && !r.keys_untold);
    s.log[0] = '\0';
    s.n_keys = 0; /* people have set it done: the key, and nothing else, is missing */
    r = reported(&s, all_of(&s), WALDUR_REPORT_ALREADY, "o k +key.report k");
    assert_true(r.keys_told && !r.keys_untold);
    assert_int_equal(s.n_keys, 1);
    /* Waldur's retry: what is there stays. */
    s.log[0] = '\0';
    s.state = WALDUR_ORDER_EXECUTING;
    reported(&s, all_of(&s), WALDUR_REPORT_TOLD, "o r k o +order.done o");
    ws_end(&s);
}

static void an_old_waldur_is_told_what_it_can_be_told(void **state)
{
    (void)state;
    struct waldur_sim s = executing(true);
    struct waldur_report r =
        reported(&s, all_of(&s), WALDUR_REPORT_TOLD,
                 "o r +resource.metadata r +resource.endpoints r +resource.endpoints r k o r k o "
                 "+order.done o");
    assert_true(r.endpoints_untold);
    assert_true(r.keys_untold);
    assert_int_equal(s.site.endpoints, WALDUR_SUPPORT_NO);
    assert_int_equal(s.site.keys, WALDUR_SUPPORT_NO);
    /* And is not asked again. */
    s.log[0] = '\0';
    s.state = WALDUR_ORDER_EXECUTING;
    r = reported(&s, all_of(&s), WALDUR_REPORT_TOLD, "o r k o +order.done o");
    assert_true(r.endpoints_untold && r.keys_untold && !r.keys_told);
    s.log[0] = '\0';
    r = reported(&s, all_of(&s), WALDUR_REPORT_ALREADY, "o k");
    assert_true(r.keys_untold && !r.keys_told);
    ws_end(&s);
}

static void a_terminate_order_is_done_alone(void **state)
{
    (void)state;
    struct waldur_sim s = executing(false);
    s.type = WALDUR_TYPE_TERMINATE;
    s.no_resource = true;
    reported(&s, done_alone(&s), WALDUR_REPORT_TOLD, "o +order.done o");
    ws_end(&s);
}

static void no_order_is_told_that_does_not_execute(void **state)
{
    (void)state;
    static const struct {
        enum waldur_order_state state;
        enum waldur_report_end done, erred;
    } cases[] = {
        {WALDUR_ORDER_DONE, WALDUR_REPORT_ALREADY, WALDUR_REPORT_ALREADY},
        {WALDUR_ORDER_CANCELED, WALDUR_REPORT_CLOSED, WALDUR_REPORT_CLOSED},
        {WALDUR_ORDER_REJECTED, WALDUR_REPORT_CLOSED, WALDUR_REPORT_CLOSED},
        {WALDUR_ORDER_PENDING_PROVIDER, WALDUR_REPORT_PENDING, WALDUR_REPORT_PENDING},
        {WALDUR_ORDER_PENDING_CONSUMER, WALDUR_REPORT_PENDING, WALDUR_REPORT_PENDING},
        {WALDUR_ORDER_UNKNOWN, WALDUR_REPORT_PENDING, WALDUR_REPORT_PENDING},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct waldur_sim s = executing(i % 2);
        s.state = cases[i].state;
        bool done = cases[i].state == WALDUR_ORDER_DONE;
        struct waldur_report r =
            reported(&s, all_of(&s), cases[i].done, done ? "o k +key.report k" : "o");
        assert_int_equal(r.state, cases[i].state);
        assert_int_equal(s.n_keys, done);
        s.log[0] = '\0';
        reported(&s, erred(&s), cases[i].erred, "o");
        assert_int_equal(s.state, cases[i].state);
        ws_end(&s);
    }
    struct waldur_sim s = executing(false);
    s.state = WALDUR_ORDER_ERRED;
    reported(&s, erred(&s), WALDUR_REPORT_ALREADY, "o");
    ws_end(&s);
    s = executing(false);
    s.no_order = true;
    reported(&s, erred(&s), WALDUR_REPORT_GONE, "o");
    ws_end(&s);
}

static void an_error_is_reported_after_the_backend_id(void **state)
{
    (void)state;
    for (int old = 0; old < 2; old++) {
        struct waldur_sim s = executing(old);
        s.backend_id[0] = '\0';
        struct waldur_report r = reported(&s, erred(&s), WALDUR_REPORT_TOLD,
                                          "o r +resource.backend_id r o +order.erred o");
        assert_int_equal(r.state, WALDUR_ORDER_ERRED);
        /* Terminated would be the end: nobody would ever order its removal. */
        assert_int_equal(s.resource_state, WALDUR_RESOURCE_ERRED);
        assert_string_equal(s.error_message, "It could not be set up.");
        assert_int_equal(s.posted_to_closed, 0);
        ws_end(&s);
    }
}

static void finishes_after_the_resource(struct waldur_sim *s)
{
    if (strstr(s->log, " r")) {
        s->state = WALDUR_ORDER_DONE;
        s->resource_state = WALDUR_RESOURCE_OK;
    }
}

static void a_late_error_breaks_no_resource(void **state)
{
    (void)state;
    struct waldur_sim s = executing(true);
    s.before = finishes_after_the_resource;
    reported(&s, erred(&s), WALDUR_REPORT_ALREADY, "o r o");
    assert_int_equal(s.posted_to_closed, 0);
    assert_int_equal(s.resource_state, WALDUR_RESOURCE_OK);
    ws_end(&s);
}

static void a_success_that_changed_nothing_is_seen(void **state)
{
    (void)state;
    struct waldur_sim s = executing(true);
    s.deaf = true;
    struct err e =
        report_failed(&s, done_alone(&s), ERR_UNKNOWN, "o +order.done o w o w o w o w o w o");
    assert_non_null(strstr(e.msg, "another order"));
    s.log[0] = '\0';
    report_failed(&s, erred(&s), ERR_UNKNOWN, "o r o +order.erred o w o w o w o w o w o");
    ws_end(&s);
}

static void a_lost_answer_about_the_end_is_looked_after(void **state)
{
    (void)state;
    struct waldur_sim s = executing(false);
    ws_fault(&s, (struct ws_fault){.mark = "+order.done", .acts = true});
    struct waldur_report r =
        reported(&s, done_alone(&s), WALDUR_REPORT_TOLD, "o +order.done:0 w o");
    assert_int_equal(r.state, WALDUR_ORDER_DONE);
    ws_end(&s);
    s = executing(false);
    ws_fault(&s, (struct ws_fault){.mark = "+order.done", .late = true});
    reported(&s, done_alone(&s), WALDUR_REPORT_TOLD, "o +order.done:0 w o");
    ws_end(&s);
    s = executing(false);
    ws_fault(&s, (struct ws_fault){.mark = "+order.done", .status = 504, .body = HTML});
    reported(&s, done_alone(&s), WALDUR_REPORT_TOLD, "o +order.done:504 w o +order.done o");
    ws_end(&s);
    s = executing(false);
    ws_fault(&s, (struct ws_fault){.mark = "+order.erred", .status = 500, .acts = true});
    reported(&s, erred(&s), WALDUR_REPORT_TOLD, "o r o +order.erred:500 w o");
    assert_int_equal(s.posted_to_closed, 0);
    ws_end(&s);
    /* Two of us: the second is told 409, and that is success. */
    s = executing(false);
    ws_fault(&s,
             (struct ws_fault){.mark = "+order.done", .status = 409, .body = "{}", .acts = true});
    reported(&s, done_alone(&s), WALDUR_REPORT_TOLD, "o +order.done:409 o");
    ws_end(&s);
}

static void a_key_is_reported_once(void **state)
{
    (void)state;
    struct waldur_sim s = executing(false);
    struct waldur_report_target t = done_alone(&s);
    t.keys = keys;
    t.n_keys = 1;
    ws_fault(&s, (struct ws_fault){.mark = "+key.report", .late = true});
    reported(&s, t, WALDUR_REPORT_TOLD, "o k +key.report:0 w k o +order.done o");
    assert_int_equal(s.n_keys, 1);
    ws_end(&s);
    /* On the second page, of a server that has its own idea of pages. */
    s = executing(false);
    for (int i = 0; i < 14; i++) {
        char client[32];
        snprintf(client, sizeof(client), "pk_live_%d", i);
        ws_add_key(&s, client, WALDUR_KEY_OK);
    }
    ws_add_key(&s, "pk_live_abcd", WALDUR_KEY_ERRED);
    t.access = ws_access(&s);
    reported(&s, t, WALDUR_REPORT_TOLD, "o k k o +order.done o");
    assert_int_equal(s.n_keys, 15);
    /* Ten of them: the page that lies past the end is one, too. */
    s.log[0] = '\0';
    s.n_keys = 10;
    s.state = WALDUR_ORDER_EXECUTING;
    reported(&s, t, WALDUR_REPORT_TOLD, "o k k +key.report k k o +order.done o");
    ws_end(&s);
}

static void a_key_that_is_refused_holds_the_order(void **state)
{
    (void)state;
    struct waldur_sim s = executing(false);
    struct waldur_report_target t = done_alone(&s);
    t.keys = keys;
    t.n_keys = 1;
    ws_fault(&s,
             (struct ws_fault){.mark = "+key.report",
                               .status = 400,
                               .body = "{\"detail\":\"bad key " WS_API_KEY " of " WS_TOKEN "\"}"});
    struct err e = report_failed(&s, t, ERR_REFUSED, "o k +key.report:400");
    assert_non_null(strstr(e.msg, "***"));
    assert_int_equal(s.state, WALDUR_ORDER_EXECUTING);
    ws_end(&s);
}

static void an_order_that_erred_is_set_executing_again(void **state)
{
    (void)state;
    struct waldur_sim s = executing(false);
    s.state = WALDUR_ORDER_ERRED;
    reported(&s, done_alone(&s), WALDUR_REPORT_TOLD, "o +order.executing o +order.done o");
    ws_end(&s);
    for (int status = 405; status <= 409; status += 4) {
        s = executing(false);
        s.state = WALDUR_ORDER_ERRED;
        ws_fault(&s, (struct ws_fault){.mark = "+order.executing", .status = status, .body = "{}"});
        char log[64];
        snprintf(log, sizeof(log), "o +order.executing:%d o", status);
        struct waldur_report r = reported(&s, done_alone(&s), WALDUR_REPORT_CLOSED, log);
        assert_int_equal(r.state, WALDUR_ORDER_ERRED);
        ws_end(&s);
    }
}

static void an_offering_whose_orders_no_provider_ends(void **state)
{
    (void)state;
    struct waldur_sim s = executing(false);
    ws_fault(&s, (struct ws_fault){.mark = "+order.done", .status = 405, .body = "{}"});
    struct err e = report_failed(&s, done_alone(&s), ERR_REFUSED, "o +order.done:405");
    assert_non_null(strstr(e.msg, "Marketplace.Slurm"));
    ws_end(&s);
}

static void metadata_that_is_shown_in_part_is_told(void **state)
{
    (void)state;
    struct waldur_sim s = executing(false);
    struct waldur_report_target t = done_alone(&s);
    t.metadata = METADATA;
    s.filtered = true;
    reported(&s, t, WALDUR_REPORT_TOLD, "o r +resource.metadata r o +order.done o");
    ws_end(&s);
    /* What is another thing is not. */
    s = executing(false);
    t.access = ws_access(&s);
    s.metadata = cJSON_Parse("{\"workspace\":\"other\"}");
    ws_fault(&s, (struct ws_fault){.mark = "+resource.metadata", .status = 200, .times = 3});
    report_failed(&s, t, ERR_UNKNOWN, "o r +resource.metadata:200 r w r w r w r w r w r");
    assert_int_equal(s.state, WALDUR_ORDER_EXECUTING);
    ws_end(&s);
}

static void an_order_about_another_resource_is_not_reported(void **state)
{
    (void)state;
    struct waldur_sim s = executing(false);
    struct waldur_report_target t = all_of(&s);
    t.resource = WS_ORDER;
    report_failed(&s, t, ERR_INVALID, "o");
    ws_end(&s);
    s = executing(false);
    s.no_resource = true;
    reported(&s, all_of(&s), WALDUR_REPORT_GONE, "o r");
    ws_end(&s);
}

static void metadata_has_to_be_an_object(void **state)
{
    (void)state;
    static const char *const texts[] = {"[]", "{", "\"x\""};
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        struct waldur_sim s = executing(false);
        struct waldur_report_target t = all_of(&s);
        struct err err;
        t.metadata = texts[i];
        assert_null(waldur_report_start(&t, &err));
        assert_int_equal(err.class, ERR_INVALID);
        ws_end(&s);
    }
}

static void reports_hold_and_wait(void **state)
{
    (void)state;
    static const struct {
        struct ws_fault fault;
        enum err_class class;
        const char *log;
    } cases[] = {
        {{.mark = "o", .status = 401}, ERR_UNAUTHORIZED, "o:401"},
        {{.mark = "o", .status = 404, .body = HTML}, ERR_UNAVAILABLE, "o:404"},
        {{.mark = "r", .status = 503, .retry_after_ms = 1}, ERR_THROTTLED, "o r:503"},
        {{.mark = "k", .status = 403},
         ERR_UNAUTHORIZED,
         "o r +resource.metadata r "
         "+resource.endpoints r k:403"},
        {{.mark = "k", .status = 200, .body = "[{\"uuid\":1}]"},
         ERR_UNKNOWN,
         "o r +resource.metadata r +resource.endpoints r k:200"},
        {{.mark = "+resource.endpoints", .status = 403},
         ERR_UNAUTHORIZED,
         "o r +resource.metadata r +resource.endpoints:403"},
        {{.mark = "+resource.endpoints", .status = 429},
         ERR_THROTTLED,
         "o r +resource.metadata r +resource.endpoints:429"},
        {{.mark = "+order.done", .unsent = true},
         ERR_UNAVAILABLE,
         "o r +resource.metadata r +resource.endpoints r k +key.report k o +order.done:0"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct waldur_sim s = executing(false);
        ws_fault(&s, cases[i].fault);
        report_failed(&s, all_of(&s), cases[i].class, cases[i].log);
        assert_int_equal(s.state, WALDUR_ORDER_EXECUTING);
        ws_end(&s);
    }
}

/* ---- keys ---- */

static struct waldur_key answered(struct waldur_sim *s, struct waldur_key_target t,
                                  enum waldur_key_end how, const char *log)
{
    struct err err;
    t.access = ws_access(s);
    t.resource = WS_RESOURCE;
    struct waldur_op *op = waldur_key_start(&t, &err);
    assert_non_null(op);
    struct waldur_action end = ws_drive(s, op);
    struct waldur_key key = *waldur_key_of(op);
    said(s, log);
    assert_int_equal(end.turn, WALDUR_DONE);
    assert_int_equal(key.end, how);
    waldur_op_free(op);
    s->log[0] = '\0';
    return key;
}

#define NEW_KEY ((struct waldur_key_target){.client_id = "pk_live_new", .api_key = WS_API_KEY})
#define NO_KEY  ((struct waldur_key_target){.error_message = "There is no new key."})

static void a_key_that_is_waited_for_is_handed_over(void **state)
{
    (void)state;
    struct waldur_sim s = executing(false);
    ws_add_key(&s, "pk_live_one", WALDUR_KEY_OK);
    ws_add_key(&s, "pk_live_old", WALDUR_KEY_UPDATING);
    struct waldur_key k = answered(&s, NEW_KEY, WALDUR_KEY_TOLD, "k +key.set k");
    assert_int_equal(k.state, WALDUR_KEY_OK);
    assert_string_equal(k.client_id, "pk_live_old");
    assert_string_equal(k.key_uuid, s.keys[1].uuid);
    assert_string_equal(s.keys[1].client_id, "pk_live_new");
    answered(&s, NEW_KEY, WALDUR_KEY_ALREADY, "k");
    /* Waldur waits once more: for another. */
    s.keys[1].state = WALDUR_KEY_UPDATING;
    k = answered(&s, NEW_KEY, WALDUR_KEY_ALREADY, "k");
    assert_int_equal(k.state, WALDUR_KEY_UPDATING);
    ws_end(&s);
}

static void a_key_that_nobody_waits_for_is_not(void **state)
{
    (void)state;
    struct waldur_sim s = executing(false);
    ws_add_key(&s, "pk_live_one", WALDUR_KEY_OK);
    answered(&s, NEW_KEY, WALDUR_KEY_NOT_WANTED, "k");
    s.keys[0].state = WALDUR_KEY_ERRED;
    answered(&s, NEW_KEY, WALDUR_KEY_NOT_WANTED, "k");
    struct waldur_key_target t = NEW_KEY;
    t.key = WS_ORDER; /* none of them */
    answered(&s, t, WALDUR_KEY_GONE, "k");
    s.n_keys = 0;
    answered(&s, NEW_KEY, WALDUR_KEY_GONE, "k");
    s.old = true;
    s.site.keys = WALDUR_SUPPORT_UNKNOWN;
    answered(&s, NEW_KEY, WALDUR_KEY_NOT_SUPPORTED, "k w k");
    assert_int_equal(s.site.keys, WALDUR_SUPPORT_NO);
    ws_end(&s);
}

static void a_key_that_will_not_come(void **state)
{
    (void)state;
    struct waldur_sim s = executing(false);
    ws_add_key(&s, "pk_live_old", WALDUR_KEY_UPDATING);
    struct waldur_key k = answered(&s, NO_KEY, WALDUR_KEY_TOLD, "k +key.erred k");
    assert_int_equal(k.state, WALDUR_KEY_ERRED);
    assert_string_equal(s.keys[0].client_id, "pk_live_old");
    answered(&s, NO_KEY, WALDUR_KEY_NOT_WANTED, "k");
    struct waldur_key_target t = NO_KEY;
    t.key = s.keys[0].uuid;
    answered(&s, t, WALDUR_KEY_ALREADY, "k");
    ws_end(&s);
}

static void a_lost_answer_about_a_key_is_looked_after(void **state)
{
    (void)state;
    struct waldur_sim s = executing(false);
    ws_add_key(&s, "pk_live_old", WALDUR_KEY_UPDATING);
    ws_fault(&s, (struct ws_fault){.mark = "+key.set", .acts = true});
    answered(&s, NEW_KEY, WALDUR_KEY_TOLD, "k +key.set:0 w k");
    s.keys[0] = (struct ws_key){0};
    s.n_keys = 0;
    ws_add_key(&s, "pk_live_old", WALDUR_KEY_UPDATING);
    ws_fault(&s, (struct ws_fault){.mark = "+key.set", .status = 502, .body = HTML});
    answered(&s, NEW_KEY, WALDUR_KEY_TOLD, "k +key.set:502 w k +key.set k");
    ws_end(&s);
}

/* ---- reading ---- */

static void refused_order(const char *body, const char *pointer, const char *reason)
{
    struct waldur_order o;
    struct json_fault fault;
    assert_int_equal(waldur_order_decode(body, strlen(body), &o, &fault), -1);
    assert_string_equal(fault.pointer, pointer);
    assert_non_null(strstr(fault.reason, reason));
}

#define ORDER_WITH(members) "{\"uuid\":\"" WS_ORDER_HEX "\",\"state\":\"done\"," members "}"

static void orders_are_read_with_their_traps(void **state)
{
    (void)state;
    struct waldur_order o;
    struct json_fault fault;
    const char *body = ORDER_WITH("\"type\":\"Restore\",\"plan_uuid\":\"None\",\"plan_name\":null,"
                                  "\"customer_slug\":\"\",\"resource_uuid\":\"" WS_ORDER_HEX "\","
                                  "\"attributes\":null,\"limits\":{\"a\":2,\"b\":0},\"output\":17");
    assert_int_equal(waldur_order_decode(body, strlen(body), &o, &fault), 0);
    assert_string_equal(o.uuid, WS_ORDER);
    assert_int_equal(o.type, WALDUR_TYPE_RESTORE);
    assert_string_equal(o.resource_uuid, ""); /* `resource_uuid` is something else */
    assert_string_equal(o.plan_uuid, "");
    assert_null(o.attributes);
    assert_int_equal(o.created_us, -1);
    waldur_order_done(&o);
    body = "{\"uuid\":\"" WS_ORDER "\",\"state\":\"Pending Provider\"}";
    assert_int_equal(waldur_order_decode(body, strlen(body), &o, &fault), 0);
    assert_int_equal(o.state, WALDUR_ORDER_PENDING_PROVIDER);
    waldur_order_done(&o);

    refused_order("", "", "is empty");
    refused_order("<html>", "", "");
    refused_order("[]", "", "must be an object");
    refused_order("{\"state\":\"done\"}", "/uuid", "is required");
    refused_order("{\"uuid\":\"" WS_ORDER "\"}", "/state", "is required");
    refused_order("{\"uuid\":\"x\",\"state\":\"done\"}", "/uuid", "must be a UUID");
    refused_order(ORDER_WITH("\"type\":1"), "/type", "must be a string");
    refused_order(ORDER_WITH("\"created\":\"yesterday\""), "/created", "must be a date");
    refused_order(ORDER_WITH("\"attributes\":[]"), "/attributes", "must be an object");
    refused_order(ORDER_WITH("\"limits\":{\"a\":1.5}"), "/limits", "whole numbers");
    refused_order(ORDER_WITH("\"limits\":{\"a\":\"1\"}"), "/limits", "whole numbers");
    refused_order(ORDER_WITH("\"limits\":{\"a\":1e300}"), "/limits", "whole numbers");
}

static void long_names_are_cut_and_long_slugs_refused(void **state)
{
    (void)state;
    struct waldur_order o;
    struct json_fault fault;
    struct buf name, body;
    buf_init(&name, 4096);
    buf_init(&body, 4096);
    for (int i = 0; i < 300; i++) {
        buf_adds(&name, "é");
    }
    buf_addf(&body, ORDER_WITH("\"customer_name\":\"%s\""), buf_str(&name));
    assert_int_equal(waldur_order_decode(buf_str(&body), body.len, &o, &fault), 0);
    assert_int_equal(strlen(o.customer_name), 2 * WALDUR_NAME_MAX);
    waldur_order_done(&o);
    buf_reset(&body);
    buf_addf(&body, ORDER_WITH("\"customer_slug\":\"%s\""), buf_str(&name));
    refused_order(buf_str(&body), "/customer_slug", "longer");
    buf_done(&name);
    buf_done(&body);
}

static void resources_are_read_with_their_traps(void **state)
{
    (void)state;
    static const struct {
        const char *members, *pointer;
    } cases[] = {
        {"\"endpoints\":{}", "/endpoints"},
        {"\"endpoints\":[{\"name\":\"a\"}]", "/endpoints"},
        {"\"backend_metadata\":[]", "/backend_metadata"},
        {"\"paused\":\"False\"", "/paused"},
        {"\"backend_id\":7", "/backend_id"},
    };
    struct waldur_resource r;
    struct json_fault fault;
    const char *good = "{\"uuid\":\"" WS_RESOURCE_HEX "\",\"state\":\"OK\",\"paused\":true,"
                       "\"backend_id\":null,\"backend_metadata\":null,\"slug\":null}";
    assert_int_equal(waldur_resource_decode(good, strlen(good), &r, &fault), 0);
    assert_string_equal(r.uuid, WS_RESOURCE);
    assert_int_equal(r.state, WALDUR_RESOURCE_OK);
    assert_true(r.paused);
    assert_null(r.metadata);
    assert_null(r.endpoints);
    waldur_resource_done(&r);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char body[256];
        snprintf(body, sizeof(body), "{\"uuid\":\"" WS_RESOURCE "\",\"state\":\"OK\",%s}",
                 cases[i].members);
        assert_int_equal(waldur_resource_decode(body, strlen(body), &r, &fault), -1);
        assert_string_equal(fault.pointer, cases[i].pointer);
    }
}

static void words_are_folded_and_named(void **state)
{
    (void)state;
    assert_int_equal(waldur_order_state_parse("pending provider"), WALDUR_ORDER_PENDING_PROVIDER);
    assert_int_equal(waldur_order_state_parse("PENDING_START_DATE"),
                     WALDUR_ORDER_PENDING_START_DATE);
    assert_int_equal(waldur_order_state_parse("nowhere"), WALDUR_ORDER_UNKNOWN);
    assert_int_equal(waldur_order_state_parse("unknown"), WALDUR_ORDER_UNKNOWN);
    assert_int_equal(waldur_order_state_parse(NULL), WALDUR_ORDER_UNKNOWN);
    assert_int_equal(waldur_order_type_parse("create"), WALDUR_TYPE_CREATE);
    assert_int_equal(waldur_resource_state_parse("Ok"), WALDUR_RESOURCE_OK);
    assert_int_equal(waldur_key_state_parse("updating"), WALDUR_KEY_UPDATING);
    for (int i = 1; i < WALDUR_ORDER_MAX; i++) {
        enum waldur_order_state s = (enum waldur_order_state)i;
        assert_int_equal(waldur_order_state_parse(waldur_order_state_name(s)), s);
        assert_int_equal(waldur_order_closed(s), i >= WALDUR_ORDER_DONE);
    }
    for (int i = 1; i < WALDUR_RESOURCE_MAX; i++) {
        enum waldur_resource_state s = (enum waldur_resource_state)i;
        assert_int_equal(waldur_resource_state_parse(waldur_resource_state_name(s)), s);
    }
    assert_string_equal(waldur_order_state_name(WALDUR_ORDER_MAX), "unknown");
    assert_string_equal(waldur_key_state_name(WALDUR_KEY_UNKNOWN), "unknown");
    assert_string_equal(waldur_order_type_name(WALDUR_TYPE_RESTORE), "Restore");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_order_is_approved_and_announced),
        cmocka_unit_test(what_executes_is_announced_once),
        cmocka_unit_test(restore_and_update_are_announced_and_terminate_is_not),
        cmocka_unit_test(approval_is_processed_later),
        cmocka_unit_test(an_approval_without_effect_is_given_up),
        cmocka_unit_test(a_lost_answer_is_looked_after_before_it_is_repeated),
        cmocka_unit_test(a_conflict_is_a_reason_to_look_again),
        cmocka_unit_test(what_waits_for_others_is_left),
        cmocka_unit_test(offerings_that_end_by_themselves_are_left),
        cmocka_unit_test(the_shell_may_leave_it),
        cmocka_unit_test(closed_foreign_and_unknown_orders),
        cmocka_unit_test(errors_hold_or_wait_and_change_nothing),
        cmocka_unit_test(retry_after_is_handed_on),
        cmocka_unit_test(what_became_of_a_change_is_told),
        cmocka_unit_test(an_order_stays_with_its_resource),
        cmocka_unit_test(a_backend_id_has_to_fit),
        cmocka_unit_test(an_order_of_another_uuid_is_no_answer),
        cmocka_unit_test(nobody_deciding_is_an_error),
        cmocka_unit_test(everything_is_told_before_the_order_is_done),
        cmocka_unit_test(an_old_waldur_is_told_what_it_can_be_told),
        cmocka_unit_test(a_terminate_order_is_done_alone),
        cmocka_unit_test(no_order_is_told_that_does_not_execute),
        cmocka_unit_test(an_error_is_reported_after_the_backend_id),
        cmocka_unit_test(a_late_error_breaks_no_resource),
        cmocka_unit_test(a_success_that_changed_nothing_is_seen),
        cmocka_unit_test(a_lost_answer_about_the_end_is_looked_after),
        cmocka_unit_test(a_key_is_reported_once),
        cmocka_unit_test(a_key_that_is_refused_holds_the_order),
        cmocka_unit_test(an_order_that_erred_is_set_executing_again),
        cmocka_unit_test(an_offering_whose_orders_no_provider_ends),
        cmocka_unit_test(metadata_that_is_shown_in_part_is_told),
        cmocka_unit_test(an_order_about_another_resource_is_not_reported),
        cmocka_unit_test(metadata_has_to_be_an_object),
        cmocka_unit_test(reports_hold_and_wait),
        cmocka_unit_test(a_key_that_is_waited_for_is_handed_over),
        cmocka_unit_test(a_key_that_nobody_waits_for_is_not),
        cmocka_unit_test(a_key_that_will_not_come),
        cmocka_unit_test(a_lost_answer_about_a_key_is_looked_after),
        cmocka_unit_test(orders_are_read_with_their_traps),
        cmocka_unit_test(long_names_are_cut_and_long_slugs_refused),
        cmocka_unit_test(resources_are_read_with_their_traps),
        cmocka_unit_test(words_are_folded_and_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
