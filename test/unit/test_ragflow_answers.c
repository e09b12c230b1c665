#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "ragflow/native.h"
#include "ragflow_sim.h"

/* ---- what a RAGFlow 0.27 said ---- */

struct golden {
    const char *name;
    enum ragflow_kind kind;
    bool changes;
    enum ragflow_meaning meaning;
    enum err_class class; /* of MEANS_ERROR */
};

/* Every recorded case of a request that the driver makes, or makes the like of. */
static const struct golden golden[] = {
    {"version", KIND_SYSTEM, false, MEANS_DONE, ERR_NONE},
    {"healthz ok", KIND_HEALTH, false, MEANS_DONE, ERR_NONE},
    {"config", KIND_SYSTEM, false, MEANS_DONE, ERR_NONE},
    {"no auth", KIND_LOOK, false, MEANS_DENIED, ERR_NONE},
    {"bad key", KIND_LOOK, false, MEANS_DENIED, ERR_NONE},
    {"list keys", KIND_LOOK, false, MEANS_DONE, ERR_NONE},
    {"list empty", KIND_LOOK, false, MEANS_DONE, ERR_NONE},
    {"list by missing name", KIND_LOOK, false, MEANS_NOT_THERE, ERR_NONE},
    {"create minimal", KIND_CREATE, true, MEANS_DONE, ERR_NONE},
    {"create full", KIND_CREATE, true, MEANS_DONE, ERR_NONE},
    {"create duplicate", KIND_CREATE, true, MEANS_DONE, ERR_NONE},
    {"create design body", KIND_CREATE, true, MEANS_ERROR, ERR_REFUSED},
    {"create model not configured", KIND_CREATE, true, MEANS_ERROR, ERR_REFUSED},
    {"create overlapped direct", KIND_CREATE, true, MEANS_ERROR, ERR_REFUSED},
    {"create empty name", KIND_CREATE, true, MEANS_ERROR, ERR_REFUSED},
    {"create no name", KIND_CREATE, true, MEANS_ERROR, ERR_REFUSED},
    {"create chunk 0", KIND_CREATE, true, MEANS_ERROR, ERR_REFUSED},
    {"create bad json", KIND_CREATE, true, MEANS_ERROR, ERR_REFUSED},
    {"list by name", KIND_LOOK, false, MEANS_DONE, ERR_NONE},
    {"list by id", KIND_LOOK, false, MEANS_DONE, ERR_NONE},
    {"list by missing id", KIND_LOOK, false, MEANS_NOT_THERE, ERR_NONE},
    {"list bad id", KIND_LOOK, false, MEANS_ERROR, ERR_REFUSED},
    {"update overlap via ext", KIND_UPDATE, true, MEANS_DONE, ERR_NONE},
    {"update empty", KIND_UPDATE, true, MEANS_NOT_THERE, ERR_NONE}, /* refused: a look tells why */
    {"update missing", KIND_UPDATE, true, MEANS_NOT_THERE, ERR_NONE},
    {"docs list", KIND_LOOK, false, MEANS_DONE, ERR_NONE},
    {"delete missing", KIND_DELETE, true, MEANS_NOT_THERE, ERR_NONE},
    {"delete bad id", KIND_DELETE, true, MEANS_ERROR, ERR_REFUSED},
    {"delete", KIND_DELETE, true, MEANS_DONE, ERR_NONE},
    {"delete again", KIND_DELETE, true, MEANS_NOT_THERE, ERR_NONE},
    {"collections path", KIND_CREATE, true, MEANS_ERROR, ERR_UNAVAILABLE},
    {"revoked key use", KIND_LOOK, false, MEANS_DENIED, ERR_NONE},
};

/* Recorded of requests that the driver never makes. */
static const char *const not_asked[] = {"ping",         "mint key with api key",
                                        "get one",      "get missing",
                                        "list page 2",  "docs delete all empty",
                                        "delete empty", "delete null",
                                        "delete extra", "revoke key"};

static const struct golden *golden_named(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(golden); i++) {
        if (str_eq(golden[i].name, name)) {
            return &golden[i];
        }
    }
    return NULL;
}

static bool is_not_asked(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(not_asked); i++) {
        if (str_eq(not_asked[i], name)) {
            return true;
        }
    }
    return false;
}

static void replay(const struct golden *g, const cJSON *response)
{
    int64_t status = 0;
    assert_true(json_i64(response, "http_status", &status));
    char *body = json_text(json_get(response, "body"));
    const struct exchange_response r = {.sent = true,
                                        .status = (int)status,
                                        .body = body,
                                        .body_len = strlen(body),
                                        .retry_after_ms = -1};
    struct ragflow_answer a;
    ragflow_answer_read(g->kind, g->changes, &r, &a);
    if (a.meaning != g->meaning || (a.meaning == MEANS_ERROR && a.err.class != g->class)) {
        fail_msg("%s: meaning %d, %s", g->name, (int)a.meaning, a.err.msg);
    }
    bool known = a.meaning != MEANS_DONE || a.health == HEALTH_GOOD || g->kind == KIND_HEALTH;
    assert_true(known);
    assert_true(a.meaning == MEANS_DONE || a.err.msg[0]);
    assert_null(strstr(a.err.msg, "Value:"));
    ragflow_answer_done(&a);
    free(body);
}

static void every_recorded_answer(void **state)
{
    FILE *f = fopen(TEST_TOOLS "/../contract/ragflow-0.27.jsonl", "r");
    char *line = NULL;
    size_t size = 0, replayed = 0, skipped = 0;
    (void)state;
    assert_non_null(f);
    while (getline(&line, &size, f) > 0) {
        cJSON *record = cJSON_Parse(line);
        const char *name = json_str(record, "case");
        const struct golden *g = golden_named(name);
        if (g) {
            replay(g, json_get(record, "response"));
            replayed++;
        } else if (is_not_asked(name)) {
            skipped++;
        } else {
            fail_msg("%s: nobody says what it means", name);
        }
        cJSON_Delete(record);
    }
    free(line);
    fclose(f);
    assert_int_equal(replayed, ARRAY_LEN(golden));
    assert_int_equal(skipped, ARRAY_LEN(not_asked));
    assert_int_equal(replayed + skipped, 42);
}

/* What the records do not hold. */
static const struct {
    enum ragflow_kind kind;
    bool changes;
    int status;
    const char *body;
    enum ragflow_meaning meaning;
    enum err_class class;
    enum driver_health health;
} cases[] = {
    {KIND_LOOK, false, 200, "{\"code\":100,\"data\":null,\"message\":\"X()\"}", MEANS_ERROR,
     ERR_UNAVAILABLE, HEALTH_AS_SAID},
    {KIND_CREATE, true, 200, "{\"code\":100}", MEANS_ERROR, ERR_UNKNOWN, HEALTH_AS_SAID},
    {KIND_LOOK, false, 200, "{\"code\":105}", MEANS_ERROR, ERR_UNAVAILABLE, HEALTH_AS_SAID},
    {KIND_LOOK, false, 200, "{\"code\":106}", MEANS_ERROR, ERR_UNAVAILABLE, HEALTH_AS_SAID},
    {KIND_LOOK, false, 200, "{\"code\":102,\"message\":\"Internal server error\"}", MEANS_ERROR,
     ERR_UNAVAILABLE, HEALTH_AS_SAID},
    {KIND_DELETE, true, 200, "{\"code\":102,\"message\":\"database operation failed\"}",
     MEANS_ERROR, ERR_UNKNOWN, HEALTH_AS_SAID},
    {KIND_LOOK, false, 200, "{\"code\":102,\"message\":null}", MEANS_NOT_THERE, ERR_REFUSED,
     HEALTH_GOOD},
    {KIND_LOOK, false, 200, "{\"code\":108}", MEANS_NOT_THERE, ERR_REFUSED, HEALTH_GOOD},
    {KIND_LOOK, false, 200, "{\"code\":109}", MEANS_DENIED, ERR_UNAUTHORIZED, HEALTH_GOOD},
    {KIND_LOOK, false, 200, "{\"code\":0,\"data\":false}", MEANS_DENIED, ERR_UNAUTHORIZED,
     HEALTH_GOOD},
    {KIND_LOOK, false, 200, "{\"code\":0}", MEANS_DONE, ERR_NONE, HEALTH_GOOD},
    {KIND_CREATE, true, 200, "{\"code\":103}", MEANS_ERROR, ERR_REFUSED, HEALTH_GOOD},
    {KIND_SETUP, true, 200, "{\"code\":102}", MEANS_TAKEN, ERR_REFUSED, HEALTH_GOOD},
    {KIND_LOOK, false, 200, "{\"code\":4711}", MEANS_ERROR, ERR_UNAVAILABLE, HEALTH_AS_SAID},
    {KIND_LOOK, false, 200, "{\"code\":\"0\"}", MEANS_ERROR, ERR_UNKNOWN, HEALTH_AS_SAID},
    {KIND_LOOK, false, 200, "<html>", MEANS_ERROR, ERR_UNKNOWN, HEALTH_AS_SAID},
    {KIND_LOOK, false, 200, "", MEANS_ERROR, ERR_UNKNOWN, HEALTH_AS_SAID},
    {KIND_LOOK, false, 502, "<html>", MEANS_ERROR, ERR_UNKNOWN, HEALTH_AS_SEEN},
    {KIND_LOOK, false, 404, "{\"code\":404}", MEANS_ERROR, ERR_UNAVAILABLE, HEALTH_AS_SEEN},
    {KIND_SYSTEM, false, 404, "{\"code\":404}", MEANS_NOT_THERE, ERR_GONE, HEALTH_GOOD},
    {KIND_LOOK, false, 403, "{\"code\":403}", MEANS_ERROR, ERR_UNAUTHORIZED, HEALTH_AS_SEEN},
    {KIND_ADMIN, true, 400, "{\"code\":409}", MEANS_TAKEN, ERR_REFUSED, HEALTH_GOOD},
    {KIND_ADMIN, true, 400, "{\"code\":404}", MEANS_NOT_THERE, ERR_REFUSED, HEALTH_GOOD},
    {KIND_ADMIN, true, 400, "{\"code\":-1}", MEANS_ERROR, ERR_REFUSED, HEALTH_GOOD},
    {KIND_ADMIN, true, 400, "{\"code\":500}", MEANS_ERROR, ERR_UNKNOWN, HEALTH_AS_SAID},
    {KIND_ADMIN, false, 400, "{\"code\":403}", MEANS_ERROR, ERR_UNAUTHORIZED, HEALTH_AS_SAID},
    {KIND_ADMIN, false, 401, "<html>", MEANS_DENIED, ERR_UNAUTHORIZED, HEALTH_GOOD},
    {KIND_ADMIN, false, 400, "<html>", MEANS_ERROR, ERR_REFUSED, HEALTH_AS_SEEN},
    {KIND_HEALTH, false, 200, "{\"status\":\"ok\"}", MEANS_DONE, ERR_NONE, HEALTH_AS_SAID},
    {KIND_HEALTH, false, 200, "{\"status\":\"nok\"}", MEANS_NOT_THERE, ERR_NONE, HEALTH_AS_SAID},
    {KIND_HEALTH, false, 500, "{\"status\":\"ok\"}", MEANS_NOT_THERE, ERR_UNKNOWN, HEALTH_AS_SAID},
};

static void other_answers(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const struct exchange_response r = {.sent = true,
                                            .status = cases[i].status,
                                            .body = cases[i].body,
                                            .body_len = strlen(cases[i].body),
                                            .retry_after_ms = -1};
        struct ragflow_answer a;
        ragflow_answer_read(cases[i].kind, cases[i].changes, &r, &a);
        if (a.meaning != cases[i].meaning || a.err.class != cases[i].class ||
            a.health != cases[i].health) {
            fail_msg("case %zu, %s: meaning %d, class %s, health %d", i, cases[i].body,
                     (int)a.meaning, err_class_name(a.err.class), (int)a.health);
        }
        ragflow_answer_done(&a);
    }
}

/* ---- inspection ---- */

static struct driver_report inspect(struct sim *w)
{
    struct driver_report report = {.n = 0};
    struct driver_action a;
    struct driver_outcome outcome;
    struct err err;
    struct driver_op *op = sim_class()->inspect(&w->t, &report, &err);
    assert_non_null(op);
    for (sim_class()->next(op, &a); a.turn == TURN_REQUEST; sim_class()->next(op, &a)) {
        assert_null(a.effect);
        assert_true(a.request.method == METHOD_GET || strstr(a.request.url, "/login"));
        struct exchange_response r = product_ask(&w->p, &a.request);
        exchange_request_done(&a.request);
        sim_class()->feed(op, &r, &outcome);
    }
    assert_int_equal(a.turn, TURN_DONE);
    sim_class()->free(op);
    for (size_t i = 0; i < report.n; i++) {
        const struct driver_finding *f = &report.findings[i];
        assert_true(f->what[0] && (f->level == LEVEL_OK || f->mend[0]));
        assert_null(strstr(f->what, PRODUCT_TOKEN));
        assert_null(strstr(f->what, "AAAA"));
        assert_null(strstr(f->what, "scrypt"));
    }
    return report;
}

static void check_finding(const struct driver_report *r, const char *subject,
                          enum driver_level level, const char *what)
{
    for (size_t i = 0; i < r->n; i++) {
        const struct driver_finding *f = &r->findings[i];
        if (str_eq(f->subject, subject) && f->level == level && strstr(f->what, what)) {
            return;
        }
    }
    for (size_t i = 0; i < r->n; i++) {
        print_error("%d %s: %s (%s)\n", (int)r->findings[i].level, r->findings[i].subject,
                    r->findings[i].what, r->findings[i].mend);
    }
    fail_msg("no finding %s: %s", subject, what);
}

static void an_inspection_tells_what_to_mend(void **state)
{
    struct sim w;
    (void)state;
    sim_begin(&w, "0.27-python", TENANCY_SUBSCRIPTION);
    struct driver_report r = inspect(&w);
    check_finding(&r, "version", LEVEL_OK, "v0.27.0");
    check_finding(&r, "server", LEVEL_OK, "Python");
    check_finding(&r, "health", LEVEL_OK, "ok");
    check_finding(&r, "open sign-up", LEVEL_WARN, "anybody");
    check_finding(&r, "credential", LEVEL_OK, "accepted");
    check_finding(&r, "keys", LEVEL_NOTE, "in clear");
    check_finding(&r, "admin service", LEVEL_OK, "answers");
    check_finding(&r, "admin login", LEVEL_OK, "accepted");
    check_finding(&r, "models tenant", LEVEL_OK, "accepted");
    sim_put(&w, "{\"register_enabled\":0,\"refuse_login\":true,\"version\":\"v0.26.1\"}");
    w.t.credential = "ragflow-wrong";
    w.s.models_key = "ragflow-wrong-too";
    r = inspect(&w);
    check_finding(&r, "version", LEVEL_NOTE, "v0.26.1");
    check_finding(&r, "open sign-up", LEVEL_OK, "off");
    check_finding(&r, "credential", LEVEL_BAD, "refused");
    check_finding(&r, "models tenant", LEVEL_BAD, "refused");
    check_finding(&r, "admin login", LEVEL_BAD, "refused");
    sim_put(&w, "{\"database_down\":true,\"version\":\"v0.25.1\"}");
    r = inspect(&w);
    check_finding(&r, "version", LEVEL_BAD, "refused");
    check_finding(&r, "health", LEVEL_BAD, "db is nok");
    check_finding(&r, "credential", LEVEL_BAD, "healthz is not ok");
    sim_end(&w);
    sim_begin(&w, "0.27-go", TENANCY_SHARED);
    w.t.site = NULL; /* one of its own */
    r = inspect(&w);
    check_finding(&r, "server", LEVEL_WARN, "Go");
    check_finding(&r, "tenancy", LEVEL_NOTE, "one RAGFlow tenant");
    sim_end(&w);
    sim_begin(&w, "0.24", TENANCY_SHARED);
    r = inspect(&w);
    check_finding(&r, "version", LEVEL_BAD, "older than 0.25");
    sim_end(&w);
}

/* On some versions a delete without ids means everything: such a one is never built, whatever the
 * operation believes. */
static void no_delete_means_all(void **state)
{
    (void)state;
    static const char id[] = "0123456789abcdef0123456789abcdef";
    static const char *const wrong[] = {
        "",  "0123", "0123456789abcdef0123456789abcde", "..", "0123456789abcdef0123456789abcde\"",
        NULL};
    const struct driver_target target = {.url = "http://r"};
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        struct driver_op op = {.target = &target};
        struct exchange_request whole, documents, none;
        buf_init(&op.ids, 1024);
        str_copy(op.id, sizeof(op.id), id);
        exchange_request_init(&none);
        ragflow_build_documents_delete(&op, &none);
        assert_true(none.body.failed); /* no documents */
        buf_addf(&op.ids, "\"%s\"", id);
        str_copy(op.id, sizeof(op.id), wrong[i] ? wrong[i] : id);
        exchange_request_init(&whole);
        ragflow_build_delete(&op, &whole);
        exchange_request_init(&documents);
        ragflow_build_documents_delete(&op, &documents);
        assert_int_equal(whole.body.failed, wrong[i] != NULL);
        assert_int_equal(documents.body.failed, wrong[i] != NULL);
        exchange_request_done(&none);
        exchange_request_done(&whole);
        exchange_request_done(&documents);
        buf_done(&op.ids);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_delete_means_all),
        cmocka_unit_test(every_recorded_answer),
        cmocka_unit_test(other_answers),
        cmocka_unit_test(an_inspection_tells_what_to_mend),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
