#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "langflow/native.h"
#include "langflow_world.h"

static const char *const profiles[] = {"1.8", "1.10", "1.13"};

static void expect_failure(struct world *w, enum driver_goal goal, enum err_class class,
                           const char *words)
{
    if (world_run(w, goal)) {
        WORLD_FAIL(w, "done, where it should have failed: %s", words);
    }
    if (w->last.err.class != class || !strstr(w->last.err.msg, words)) {
        WORLD_FAIL(w, "failed with %s: %s", err_class_name(w->last.err.class), w->last.err.msg);
    }
}

static void observe(struct world *w, enum driver_goal goal, enum driver_sight sight, bool met)
{
    w->target.observe = true;
    world_must(w, goal);
    w->target.observe = false;
    if (w->last.sight != sight || w->last.met != met) {
        WORLD_FAIL(w, "goal %d: sight %d, met %d", goal, w->last.sight, w->last.met);
    }
    assert_string_equal(w->last.external_id, sight == SIGHT_OURS ? w->external_id : "");
    assert_int_equal(w->changes, 0);
}

/* ---- how many requests it takes ---- */

/* Version and template are read once for a runtime: not counted here. */
static void warm_up(struct world *w)
{
    world_must(w, DRIVER_PRESENT);
    world_must(w, DRIVER_ABSENT);
    world_check(w, DRIVER_ABSENT);
}

static void a_fresh_workspace_takes_nine_or_ten_requests(void **state)
{
    (void)state;
    for (size_t p = 0; p < ARRAY_LEN(profiles); p++) {
        struct world w;
        bool lags = str_eq(profiles[p], "1.8");
        world_begin(&w, profiles[p]);
        world_settings(&w, "{\"new_user_is_active\":true}");
        warm_up(&w);
        world_must(&w, DRIVER_PRESENT);
        assert_int_equal(w.requests, lags ? 11 : 9); /* 1.8: two lists prove the commits */
        assert_int_equal(w.logins, 1);
        world_check(&w, DRIVER_PRESENT);
        world_must(&w, DRIVER_ABSENT);
        world_settings(&w, "{\"new_user_is_active\":false}");
        world_must(&w, DRIVER_PRESENT);
        assert_int_equal(w.requests, lags ? 12 : 10);
        world_check(&w, DRIVER_PRESENT);
        world_end(&w);
    }
}

static void a_steady_run_takes_two_requests_or_three(void **state)
{
    (void)state;
    for (size_t p = 0; p < ARRAY_LEN(profiles); p++) {
        struct world w;
        world_begin(&w, profiles[p]);
        world_must(&w, DRIVER_PRESENT);
        world_must(&w, DRIVER_PRESENT);
        assert_int_equal(w.requests, 2);
        assert_int_equal(w.changes, 0);
        world_check(&w, DRIVER_PRESENT);
        w.target.collection_key = WORLD_COLLECTION;
        world_must(&w, DRIVER_PRESENT);
        world_check(&w, DRIVER_PRESENT);
        world_must(&w, DRIVER_PRESENT);
        assert_int_equal(w.requests, 3);
        assert_int_equal(w.changes, 1);
        world_check(&w, DRIVER_PRESENT);
        world_end(&w);
    }
}

static void goals_follow_one_another(void **state)
{
    static const enum driver_goal goals[] = {
        DRIVER_ABSENT,  DRIVER_CLOSED, DRIVER_PRESENT, DRIVER_CLOSED, DRIVER_CLOSED,
        DRIVER_PRESENT, DRIVER_CLOSED, DRIVER_ABSENT,  DRIVER_ABSENT, DRIVER_PRESENT};
    (void)state;
    for (size_t p = 0; p < ARRAY_LEN(profiles); p++) {
        struct world w;
        world_begin(&w, profiles[p]);
        w.target.collection_key = WORLD_COLLECTION;
        for (size_t i = 0; i < ARRAY_LEN(goals); i++) {
            world_must(&w, goals[i]);
            world_check(&w, goals[i]);
            if (i > 0 && goals[i] == goals[i - 1]) {
                assert_int_equal(w.changes, 0);
                assert_true(w.requests <= 2);
            }
        }
        world_end(&w);
    }
}

/* ---- whose it is ---- */

static void a_strangers_user_is_a_conflict_and_left_alone(void **state)
{
    /* The last two are made to look like ours. */
    static const char *const optins[] = {"{}", "{\"waldur_subscription\":\"" WORLD_OTHER "\"}",
                                         "{\"waldur_subscription\":\"" WORLD_MARKER "\"}",
                                         "{\"waldur_subscription\":\"" WORLD_MARKER
                                         "\",\"waldur_proof\":\"0123\"}"};
    (void)state;
    for (size_t p = 0; p < ARRAY_LEN(profiles); p++) {
        for (size_t i = 0; i < ARRAY_LEN(optins); i++) {
            struct world w;
            char text[400];
            world_begin(&w, profiles[p]);
            snprintf(text, sizeof(text),
                     "{\"username\":\"" WORLD_NAME "\",\"optins\":%s,\"keys\":[\"sk-x\"]}",
                     optins[i]);
            world_plant(&w, text, w.stranger_id);
            world_know_stranger(&w);
            expect_failure(&w, DRIVER_PRESENT, ERR_CONFLICT, WORLD_NAME);
            assert_non_null(strstr(w.last.err.msg, w.stranger_id));
            world_must(&w, DRIVER_CLOSED);
            assert_int_equal(w.changes, 0);
            world_must(&w, DRIVER_ABSENT);
            assert_int_equal(w.changes, 0);
            world_end(&w);
        }
    }
}

static void a_superuser_is_never_adopted(void **state)
{
    static const enum driver_goal goals[] = {DRIVER_CLOSED, DRIVER_ABSENT};
    (void)state;
    for (size_t p = 0; p < ARRAY_LEN(profiles); p++) {
        struct world w;
        char path[200];
        world_begin(&w, profiles[p]);
        snprintf(path, sizeof(path), "/users/%s", w.superuser_id);
        world_do(&w, METHOD_PATCH, path, PRODUCT_TOKEN,
                 "{\"username\":\"" WORLD_NAME
                 "\",\"optins\":{\"waldur_subscription\":\"" WORLD_MARKER
                 "\",\"waldur_proof\":\"" WORLD_PROOF "\"}}");
        expect_failure(&w, DRIVER_PRESENT, ERR_CONFLICT, WORLD_NAME);
        for (size_t i = 0; i < ARRAY_LEN(goals); i++) {
            world_must(&w, goals[i]);
            assert_int_equal(w.changes, 0);
        }
        world_end(&w);
    }
}

static void a_name_that_differs_in_case_is_a_strangers(void **state)
{
    struct world w;
    (void)state;
    world_begin(&w, "1.13");
    world_plant(&w, "{\"username\":\"ACME-corp-website-support-csa-001\"}", NULL);
    expect_failure(&w, DRIVER_PRESENT, ERR_CONFLICT, "without this subscription's marker");
    world_end(&w);
}

static void what_an_earlier_attempt_made_is_adopted(void **state)
{
    (void)state;
    for (size_t p = 0; p < ARRAY_LEN(profiles); p++) {
        struct world w;
        world_begin(&w, profiles[p]);
        world_must(&w, DRIVER_PRESENT);
        w.external_id[0] = w.secret[0] = '\0'; /* nobody recorded it */
        world_must(&w, DRIVER_PRESENT);
        world_check(&w, DRIVER_PRESENT);
        w.external_id[0] = w.secret[0] = '\0';
        world_must(&w, DRIVER_CLOSED);
        world_check(&w, DRIVER_CLOSED);
        w.external_id[0] = '\0';
        world_must(&w, DRIVER_ABSENT);
        world_check(&w, DRIVER_ABSENT);
        world_end(&w);
    }
}

/* Made, and the process was gone before it heard of it; meanwhile somebody got a key. */
static void what_is_adopted_after_a_crash_keeps_no_key(void **state)
{
    static const char *const proofs[] = {WORLD_PROOF, NULL};
    (void)state;
    for (size_t p = 0; p < ARRAY_LEN(profiles) * ARRAY_LEN(proofs); p++) {
        struct world w;
        world_begin(&w, profiles[p / ARRAY_LEN(proofs)]);
        w.target.proof = proofs[p % ARRAY_LEN(proofs)];
        world_must(&w, DRIVER_PRESENT);
        world_do(&w, METHOD_POST, "/api_key/", w.secret, "{\"name\":\"somebody's\"}");
        world_now_ms += 1000;
        w.external_id[0] = w.secret[0] = '\0';
        world_must(&w, DRIVER_PRESENT);
        world_check(&w, DRIVER_PRESENT);
        /* Recorded, it may have keys of its tenant's. */
        world_do(&w, METHOD_POST, "/api_key/", w.secret, "{\"name\":\"the tenant's\"}");
        w.secret[0] = '\0';
        world_must(&w, DRIVER_PRESENT);
        cJSON *user = world_ours(&w);
        assert_int_equal(cJSON_GetArraySize(json_get(user, "keys")), 2);
        cJSON_Delete(user);
        world_end(&w);
    }
}

/* Tenants may change their own name and optins: the recorded id is what counts. */
static void renamed_it_is_still_ours(const char *profile, enum driver_goal goal, const char *name,
                                     bool with_key)
{
    struct world w;
    char path[200];
    world_begin(&w, profile);
    world_must(&w, DRIVER_PRESENT);
    snprintf(path, sizeof(path), "/users/%s", w.external_id);
    cJSON *wanted = cJSON_CreateObject();
    cJSON_AddStringToObject(wanted, "username", name);
    cJSON_AddObjectToObject(wanted, "optins");
    char *body = json_text(wanted);
    world_do(&w, METHOD_PATCH, path, w.secret, body);
    free(body);
    cJSON_Delete(wanted);
    w.secret[0] = with_key ? w.secret[0] : '\0';
    world_must(&w, goal);
    if (goal == DRIVER_ABSENT) {
        world_check(&w, goal);
    } else {
        assert_int_equal(world_count(&w), 1);
        world_must(&w, goal);
        assert_true(w.changes == 0 || goal == DRIVER_CLOSED);
        assert_int_equal(world_count(&w), 1);
    }
    world_end(&w);
}

static void renamed_and_unmarked_it_is_still_ours(void **state)
{
    static const enum driver_goal goals[] = {DRIVER_PRESENT, DRIVER_CLOSED, DRIVER_ABSENT};
    static const char *const names[] = {"mine now", "a,b", "%_\\", "x"};
    (void)state;
    for (size_t p = 0; p < ARRAY_LEN(profiles); p++) {
        for (size_t i = 0; i < ARRAY_LEN(goals) * ARRAY_LEN(names); i++) {
            const char *name = names[i / ARRAY_LEN(goals)];
            renamed_it_is_still_ours(profiles[p], goals[i % ARRAY_LEN(goals)], name, true);
            renamed_it_is_still_ours(profiles[p], goals[i % ARRAY_LEN(goals)], name, false);
        }
    }
}

static void what_was_removed_by_hand_is_not_looked_for_for_ever(void **state)
{
    static const enum driver_goal goals[] = {DRIVER_PRESENT, DRIVER_CLOSED, DRIVER_ABSENT};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(profiles) * ARRAY_LEN(goals); i++) {
        enum driver_goal goal = goals[i % ARRAY_LEN(goals)];
        struct world w;
        char path[200];
        world_begin(&w, profiles[i / ARRAY_LEN(goals)]);
        world_must(&w, DRIVER_PRESENT);
        snprintf(path, sizeof(path), "/run/%s", w.flow_uuid);
        world_do(&w, METHOD_POST, path, w.secret, "{\"input_value\":\"hi\"}");
        snprintf(path, sizeof(path), "/users/%s", w.external_id);
        world_do(&w, METHOD_DELETE, path, PRODUCT_TOKEN, NULL);
        world_now_ms += 10000;
        world_must(&w, goal);
        world_check(&w, goal); /* the messages, too, are gone before 1.13 lets them go by itself */
        assert_true(goal == DRIVER_PRESENT || w.changes <= 3);
        world_end(&w);
    }
}

/* The platform's account may still hold the flow's id when the workspace is wanted again. */
static void a_sweep_that_was_cut_off_is_ended(void **state)
{
    static const enum driver_goal goals[] = {DRIVER_PRESENT, DRIVER_CLOSED, DRIVER_ABSENT};
    (void)state;
    for (size_t i = 0; i < 2 * ARRAY_LEN(goals); i++) {
        struct world w;
        char path[200];
        world_begin(&w, i % 2 ? "1.8" : "1.10");
        world_must(&w, DRIVER_PRESENT);
        snprintf(path, sizeof(path), "/users/%s", w.external_id);
        world_do(&w, METHOD_DELETE, path, PRODUCT_TOKEN, NULL);
        world_now_ms += 10000;
        w.blow = BLOW_CRASH_AFTER;
        for (w.at = 0; !strstr(w.trace, "PUT "); w.at++) {
            assert_false(world_run(&w, DRIVER_ABSENT));
        }
        w.blow = BLOW_NONE;
        world_must(&w, goals[i / 2]);
        world_check(&w, goals[i / 2]);
        world_end(&w);
    }
}

static void a_key_of_another_user_is_not_used(void **state)
{
    static const enum driver_goal goals[] = {DRIVER_PRESENT, DRIVER_CLOSED, DRIVER_ABSENT};
    (void)state;
    for (size_t p = 0; p < ARRAY_LEN(profiles); p++) {
        for (size_t i = 0; i < ARRAY_LEN(goals); i++) {
            struct world w;
            world_begin(&w, profiles[p]);
            world_must(&w, DRIVER_PRESENT);
            str_copy(w.secret, sizeof(w.secret), "sk-stranger");
            world_must(&w, goals[i]);
            world_check(&w, goals[i]);
            world_end(&w);
        }
    }
}

static void another_owner(struct world *w, const struct exchange_request *r,
                          struct exchange_response *out)
{
    static char body[4096];
    cJSON *flow = strstr(r->url, w->flow_uuid) ? cJSON_Parse(out->body) : NULL;
    if (flow && out->status == 200) {
        cJSON_ReplaceItemInObjectCaseSensitive(flow, "user_id", cJSON_CreateString(w->stranger_id));
        char *text = json_text(flow);
        assert_true(str_copy(body, sizeof(body), text));
        free(text);
        out->body = body;
        out->body_len = strlen(body);
    }
    cJSON_Delete(flow);
}

static void a_flow_of_another_owner_is_not_taken_for_ours(void **state)
{
    (void)state;
    for (size_t p = 0; p < ARRAY_LEN(profiles); p++) {
        struct world w;
        world_begin(&w, profiles[p]);
        world_must(&w, DRIVER_PRESENT);
        w.meddle = another_owner;
        expect_failure(&w, DRIVER_PRESENT, ERR_UNKNOWN, "flow");
        assert_null(strstr(w.trace, "PUT "));
        assert_null(strstr(w.trace, "/variables/"));
        world_end(&w);
    }
}

static void an_open_delete_is_finished_first(void **state)
{
    static const enum driver_goal goals[] = {DRIVER_PRESENT, DRIVER_CLOSED, DRIVER_ABSENT};
    (void)state;
    for (size_t p = 0; p < ARRAY_LEN(profiles); p++) {
        for (size_t i = 0; i < ARRAY_LEN(goals); i++) {
            struct world w;
            char old[UUID_TEXT];
            world_begin(&w, profiles[p]);
            world_must(&w, DRIVER_PRESENT);
            str_copy(old, sizeof(old), w.external_id);
            str_copy(w.deleting, sizeof(w.deleting), old);
            w.open = true;
            world_must(&w, goals[i]);
            assert_string_not_equal(w.external_id, old);
            assert_true(w.waits > 0);
            world_check(&w, goals[i]);
            world_end(&w);
        }
    }
}

/* A key whose making nobody recorded is one too many, and only the open effect tells of it. */
static void a_stray_key_goes(void **state)
{
    (void)state;
    for (size_t p = 0; p < ARRAY_LEN(profiles); p++) {
        struct world w;
        world_begin(&w, profiles[p]);
        world_must(&w, DRIVER_PRESENT);
        world_do(&w, METHOD_POST, "/api_key/", w.secret, "{\"name\":\"provisioner\"}");
        w.open = true;
        world_must(&w, DRIVER_PRESENT);
        assert_int_equal(w.waited_ms, w.target.settle_ms);
        world_check(&w, DRIVER_PRESENT);
        world_end(&w);
    }
}

/* ---- what tenants do ---- */

static void edit_variable(struct world *w, const char *name, const char *value)
{
    char path[200], body[200];
    size_t n = 0;
    cJSON *user = world_ours(w);
    const char *id = json_str(world_variable(user, name, &n), "id");
    snprintf(path, sizeof(path), "/variables/%s", id);
    snprintf(body, sizeof(body), "{\"id\":\"%s\",\"value\":\"%s\"}", id, value);
    world_do(w, METHOD_PATCH, path, w->secret, body);
    cJSON_Delete(user);
}

static void check_edits(struct world *w)
{
    cJSON *user = world_ours(w);
    const cJSON *flow = cJSON_GetArrayItem(json_get(user, "flows"), 0);
    world_check_variable(w, user, "tone", "edited", "Generic");
    world_check_variable(w, user, "ragflow_collection_id", "c-1", "Generic");
    assert_int_equal(cJSON_GetArraySize(json_get(user, "flows")), 2);
    assert_string_equal(json_str(flow, "name"), "My agent");
    assert_int_equal(cJSON_GetArraySize(json_get(flow, "data.nodes")), 0);
    assert_int_equal(cJSON_GetArraySize(json_get(user, "keys")), 1);
    cJSON_Delete(user);
}

static void edits_of_tenants_survive(void **state)
{
    (void)state;
    for (size_t p = 0; p < ARRAY_LEN(profiles); p++) {
        struct world w;
        char path[200];
        world_begin(&w, profiles[p]);
        world_must(&w, DRIVER_PRESENT);
        snprintf(path, sizeof(path), "/flows/%s", w.flow_uuid);
        world_do(&w, METHOD_PATCH, path, w.secret,
                 "{\"name\":\"My agent\",\"data\":{\"nodes\":[],\"edges\":[]}}");
        world_do(&w, METHOD_POST, "/flows/", w.secret, "{\"name\":\"another\"}");
        edit_variable(&w, "tone", "edited");
        edit_variable(&w, "ragflow_collection_id", "edited");
        world_must(&w, DRIVER_PRESENT);
        check_edits(&w);
        w.secret[0] = '\0';
        world_must(&w, DRIVER_PRESENT);
        check_edits(&w);
        world_must(&w, DRIVER_CLOSED);
        world_must(&w, DRIVER_PRESENT);
        check_edits(&w);
        world_end(&w);
    }
}

static void nest_deeply(struct world *w, const struct exchange_request *r,
                        struct exchange_response *out)
{
    static char body[1000];
    char deep[101], back[101];
    if (r->method != METHOD_GET || !strstr(r->url, w->flow_uuid)) {
        return;
    }
    memset(deep, '[', sizeof(deep) - 1);
    memset(back, ']', sizeof(back) - 1);
    deep[sizeof(deep) - 1] = back[sizeof(back) - 1] = '\0';
    snprintf(body, sizeof(body), "{\"id\":\"%s\",\"user_id\":\"%s\",\"data\":%s%s}", w->flow_uuid,
             w->external_id, deep, back);
    out->body = body;
    out->body_len = strlen(body);
}

/* What tenants put into their flow does not keep us from looking after the rest. */
static void data_that_cannot_be_read_is_no_obstacle(void **state)
{
    (void)state;
    for (size_t p = 0; p < ARRAY_LEN(profiles); p++) {
        struct world w;
        world_begin(&w, profiles[p]);
        world_must(&w, DRIVER_PRESENT);
        w.meddle = nest_deeply;
        world_must(&w, DRIVER_PRESENT);
        assert_int_equal(w.changes, 0);
        world_check(&w, DRIVER_PRESENT);
        observe(&w, DRIVER_PRESENT, SIGHT_OURS, true);
        world_end(&w);
    }
}

static void delete_flow(struct world *w)
{
    char path[200];
    snprintf(path, sizeof(path), "/flows/%s", w->flow_uuid);
    world_do(w, METHOD_DELETE, path, w->secret, NULL);
    world_now_ms += 1000;
}

static void a_deleted_flow_is_made_again(void **state)
{
    (void)state;
    for (size_t p = 0; p < ARRAY_LEN(profiles); p++) {
        struct world w;
        world_begin(&w, profiles[p]);
        world_must(&w, DRIVER_PRESENT);
        delete_flow(&w);
        world_must(&w, DRIVER_PRESENT);
        world_check(&w, DRIVER_PRESENT);
        world_end(&w);
    }
}

/* Another flow of the tenant's has the name: it keeps it, and ours is known by its id. */
static void a_silent_rename_is_answered_once(void **state)
{
    (void)state;
    for (size_t p = 0; p < ARRAY_LEN(profiles); p++) {
        struct world w;
        const cJSON *flow = NULL;
        world_begin(&w, profiles[p]);
        world_must(&w, DRIVER_PRESENT);
        delete_flow(&w);
        world_do(&w, METHOD_POST, "/flows/", w.secret, "{\"name\":\"Support Agent\"}");
        world_must(&w, DRIVER_PRESENT);
        assert_non_null(strstr(w.trace, "PATCH /api/v1/flows/"));
        cJSON *user = world_ours(&w);
        cJSON_ArrayForEach(flow, json_get(user, "flows"))
        {
            bool ours = str_eq(json_str(flow, "id"), w.flow_uuid);
            assert_string_equal(json_str(flow, "name"),
                                ours ? "Support Agent (1)" : "Support Agent");
        }
        cJSON_Delete(user);
        world_must(&w, DRIVER_PRESENT);
        assert_int_equal(w.requests, 2);
        world_end(&w);
    }
}

static void rename_on_creation(struct world *w, const struct exchange_request *r,
                               struct exchange_response *out)
{
    static char body[4096];
    (void)w;
    if (r->method == METHOD_PUT && out->status == 201) {
        cJSON *flow = cJSON_Parse(out->body);
        cJSON_ReplaceItemInObjectCaseSensitive(flow, "name", cJSON_CreateString("Agent (7)"));
        char *text = json_text(flow);
        assert_true(str_copy(body, sizeof(body), text));
        free(text);
        cJSON_Delete(flow);
        out->body = body;
        out->body_len = strlen(body);
    }
}

static void a_rename_without_need_is_mended(void **state)
{
    struct world w;
    (void)state;
    world_begin(&w, "1.10");
    w.meddle = rename_on_creation;
    world_must(&w, DRIVER_PRESENT);
    assert_non_null(strstr(w.trace, "PATCH /api/v1/flows/"));
    world_check(&w, DRIVER_PRESENT);
    world_end(&w);
}

static void a_flow_id_that_another_holds_is_a_conflict(void **state)
{
    (void)state;
    for (size_t p = 0; p < ARRAY_LEN(profiles); p++) {
        struct world w;
        char text[300];
        world_begin(&w, profiles[p]);
        snprintf(text, sizeof(text),
                 "{\"kind\":\"flow\",\"user_id\":\"%s\",\"id\":\"%s\",\"name\":\"x\"}",
                 w.stranger_id, w.flow_uuid);
        world_plant(&w, text, NULL);
        world_know_stranger(&w);
        expect_failure(&w, DRIVER_PRESENT, ERR_CONFLICT, w.flow_uuid);
        world_end(&w);
    }
}

/* ---- variables ---- */

static void want_variables(struct world *w, const char *json)
{
    cJSON_Delete(w->variables);
    w->variables = cJSON_Parse(json);
    assert_non_null(w->variables);
    w->target.variables = w->variables;
}

static void variables_of_all_types_arrive(void **state)
{
    (void)state;
    for (size_t p = 0; p < ARRAY_LEN(profiles); p++) {
        struct world w;
        world_begin(&w, profiles[p]);
        want_variables(&w, "{\"s\":\"t\\u00e9xt \\\"q\\\"\",\"n\":1.5,\"t\":true,\"f\":false,"
                           "\"o\":{\"a\":[1]},\"l\":[],\"z\":null,\"e\":\"\",\"\":\"x\","
                           "\"c\":\"gAAAAAlooks-encrypted\",\"FLOW_ID\":\"mine\","
                           "\"__hidden__\":\"h\"}");
        world_must(&w, DRIVER_PRESENT);
        cJSON *user = world_ours(&w);
        world_check_variable(&w, user, "s", "t\xc3\xa9xt \"q\"", "Generic");
        world_check_variable(&w, user, "n", "1.5", "Generic");
        world_check_variable(&w, user, "t", "true", "Generic");
        world_check_variable(&w, user, "f", "false", "Generic");
        world_check_variable(&w, user, "o", "{\"a\":[1]}", "Generic");
        world_check_variable(&w, user, "l", "[]", "Generic");
        world_check_variable(&w, user, "c", "gAAAAAlooks-encrypted", "Credential");
        world_check_variable(&w, user, "FLOW_ID", "mine", "Generic");
        world_check_variable(&w, user, "__hidden__", "h", "Generic");
        world_check_variable(&w, user, "z", NULL, NULL);
        world_check_variable(&w, user, "e", NULL, NULL);
        cJSON_Delete(user);
        world_must(&w, DRIVER_PRESENT);
        assert_int_equal(w.changes,
                         1); /* the hidden one: only its own name tells that it is there */
        world_end(&w);
    }
}

/* Two of a name come out of a rename as they do out of a race. */
static void plant_variable(struct world *w, const char *name, const char *value)
{
    char body[300], path[200];
    int status = 0;
    snprintf(body, sizeof(body),
             "{\"name\":\"%s-x\",\"value\":\"%s\",\"type\":\"Generic\",\"default_fields\":[]}",
             name, value);
    cJSON *made = world_call(w, METHOD_POST, "/variables/", w->secret, body, &status);
    assert_int_equal(status, 201);
    snprintf(path, sizeof(path), "/variables/%s", json_str(made, "id"));
    snprintf(body, sizeof(body), "{\"id\":\"%s\",\"name\":\"%s\"}", json_str(made, "id"), name);
    world_do(w, METHOD_PATCH, path, w->secret, body);
    cJSON_Delete(made);
}

/* Over what the tenant made of them, once; what was dropped goes; all else is the tenant's. */
static void orders_write_what_they_change(void **state)
{
    (void)state;
    for (size_t p = 0; p < ARRAY_LEN(profiles); p++) {
        struct world w;
        size_t n = 0;
        cJSON *changed = cJSON_Parse("[\"tone\",\"dropped\",\"sealed\",\"never\"]");
        world_begin(&w, profiles[p]);
        want_variables(&w, "{\"tone\":\"calm\",\"mine\":\"m\",\"dropped\":\"x\",\"sealed\":\"a\"}");
        world_must(&w, DRIVER_PRESENT);
        edit_variable(&w, "tone", "edited");
        edit_variable(&w, "mine", "edited");
        world_do(&w, METHOD_POST, "/variables/", w.secret,
                 "{\"name\":\"own\",\"value\":\"o\",\"type\":\"Generic\",\"default_fields\":[]}");
        want_variables(&w, "{\"tone\":\"brisk\",\"mine\":\"m\",\"sealed\":\"gAAAAABx\"}");
        w.target.changed = changed;
        world_must(&w, DRIVER_PRESENT);
        cJSON *user = world_ours(&w);
        world_check_variable(&w, user, "tone", "brisk", "Generic");
        world_check_variable(&w, user, "mine", "edited", "Generic");
        world_check_variable(&w, user, "own", "o", "Generic");
        assert_null(world_variable(user, "dropped", &n));
        assert_string_equal(json_str(world_variable(user, "sealed", &n), "type"), "Credential");
        cJSON_Delete(user);
        /* Nothing is due any more: what the tenant does next stays. */
        w.target.changed = NULL;
        edit_variable(&w, "tone", "edited again");
        world_must(&w, DRIVER_PRESENT);
        user = world_ours(&w);
        world_check_variable(&w, user, "tone", "edited again", "Generic");
        cJSON_Delete(user);
        cJSON_Delete(changed);
        world_end(&w);
    }
}

static void two_variables_of_one_name_become_one(void **state)
{
    (void)state;
    for (size_t p = 0; p < ARRAY_LEN(profiles); p++) {
        struct world w;
        world_begin(&w, profiles[p]);
        world_must(&w, DRIVER_PRESENT);
        plant_variable(&w, "ragflow_collection_id", "c-old");
        plant_variable(&w, "tone", "calm");
        plant_variable(&w, "agent_name", "edited by its tenant");
        world_must(&w, DRIVER_PRESENT);
        cJSON *user = world_ours(&w);
        world_check_variable(&w, user, "ragflow_collection_id", "c-1", "Generic");
        world_check_variable(&w, user, "tone", "calm", "Generic");
        world_check_variable(&w, user, "agent_name", "edited by its tenant", "Generic");
        cJSON_Delete(user);
        world_end(&w);
    }
}

static void without_retrieval_nothing_leads_to_documents(void **state)
{
    (void)state;
    for (size_t p = 0; p < ARRAY_LEN(profiles); p++) {
        struct world w;
        world_begin(&w, profiles[p]);
        w.target.collection_key = WORLD_COLLECTION;
        world_must(&w, DRIVER_PRESENT);
        w.target.collection_key = NULL;
        want_variables(&w, "{\"tone\":\"calm\"}");
        world_must(&w, DRIVER_PRESENT);
        cJSON *user = world_ours(&w);
        world_check_variable(&w, user, "ragflow_collection_id", NULL, NULL);
        world_check_variable(&w, user, "ragflow_url", NULL, NULL);
        world_check_variable(&w, user, "ragflow_api_key", NULL, NULL);
        world_check_variable(&w, user, "tone", "calm", "Generic");
        cJSON_Delete(user);
        world_end(&w);
    }
}

/* ---- templates ---- */

static void a_template_is_found_by_id_endpoint_or_name(void **state)
{
    struct world w;
    char id[UUID_TEXT];
    (void)state;
    world_begin(&w, "1.10");
    cJSON *super = world_user_by(&w, "object.username", "langflow-admin");
    str_copy(id, sizeof(id), json_str(cJSON_GetArrayItem(json_get(super, "flows"), 0), "id"));
    cJSON_Delete(super);
    const char *const names[] = {WORLD_FLOW, "Support Agent", id};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        w.target.flow_id = names[i];
        world_must(&w, DRIVER_PRESENT);
        world_check(&w, DRIVER_PRESENT);
        world_must(&w, DRIVER_ABSENT);
    }
    w.target.flow_id = "nobody-has-this";
    expect_failure(&w, DRIVER_PRESENT, ERR_INVALID, "nobody-has-this");
    assert_int_equal(w.changes, 0);
    world_end(&w);
}

static void templates_are_read_once_and_again_after_a_while(void **state)
{
    struct world w;
    (void)state;
    world_begin(&w, "1.10");
    for (int i = 0; i < 3; i++) {
        world_must(&w, DRIVER_PRESENT);
        assert_int_equal(strstr(w.trace, "header_flows") != NULL, i != 1);
        assert_int_equal(strstr(w.trace, "/version") != NULL, i != 1);
        world_must(&w, DRIVER_ABSENT);
        world_now_ms += i == 1 ? 5 * 60 * 1000 : 0;
    }
    world_end(&w);
}

static void more_templates_than_places(void **state)
{
    struct world w;
    (void)state;
    world_begin(&w, "1.10");
    for (int round = 0; round < 24; round++) {
        char text[400], name[40];
        snprintf(name, sizeof(name), "template-%d", round % 12);
        snprintf(text, sizeof(text),
                 "{\"kind\":\"flow\",\"user_id\":\"%s\",\"name\":\"%s\",\"data\":" WORLD_DATA "}",
                 w.superuser_id, name);
        if (round < 12) {
            world_plant(&w, text, NULL);
        }
        w.superuser_flows = round < 12 ? round + 2 : 13;
        w.target.flow_id = name;
        world_must(&w, DRIVER_PRESENT);
        cJSON *user = world_ours(&w);
        assert_string_equal(json_str(cJSON_GetArrayItem(json_get(user, "flows"), 0), "name"), name);
        cJSON_Delete(user);
        world_must(&w, DRIVER_ABSENT);
    }
    world_end(&w);
}

static char *big_template(size_t bytes)
{
    static const char head[] = "{\"id\":\"0b4b33c9-3a4a-405a-9b3e-2ce9aa61b145\",\"user_id\":\"u\","
                               "\"folder_id\":\"f\",\"endpoint_name\":\"e\",\"name\":\"Big\","
                               "\"access_type\":\"PUBLIC\",\"tags\":[\"a\"],\"data\":{\"nodes\":"
                               "[\"";
    static const char tail[] = "\"],\"edges\":[]}}";
    char *text = malloc(bytes + sizeof(head) + sizeof(tail));
    assert_non_null(text);
    memcpy(text, head, sizeof(head) - 1);
    memset(text + sizeof(head) - 1, 'x', bytes);
    memcpy(text + sizeof(head) - 1 + bytes, tail, sizeof(tail));
    return text;
}

static void check_big(struct world *w, const cJSON *template)
{
    cJSON *user = world_ours(w);
    const cJSON *flow = cJSON_GetArrayItem(json_get(user, "flows"), 0);
    assert_true(cJSON_Compare(json_get(flow, "data"), json_get(template, "data"), true));
    assert_string_equal(json_str(flow, "name"), "Big");
    assert_string_equal(json_str(flow, "id"), w->flow_uuid);
    assert_string_equal(json_str(flow, "access_type"), "PRIVATE");
    assert_true(cJSON_IsNull(json_get(flow, "endpoint_name")));
    assert_int_equal(cJSON_GetArraySize(json_get(flow, "tags")), 1);
    cJSON_Delete(user);
}

static void templates_of_megabytes_pass_through(void **state)
{
    (void)state;
    for (size_t p = 0; p < ARRAY_LEN(profiles); p++) {
        struct world w;
        world_begin(&w, profiles[p]);
        char *text = big_template(2 * 1024 * 1024);
        cJSON *template = cJSON_Parse(text);
        w.target.template = text;
        w.target.template_len = strlen(text);
        world_must(&w, DRIVER_PRESENT);
        assert_null(strstr(w.trace, "header_flows"));
        check_big(&w, template);
        world_must(&w, DRIVER_PRESENT);
        assert_int_equal(w.requests, 2);
        world_must(&w, DRIVER_ABSENT);
        /* The same out of the platform's account. */
        cJSON_ReplaceItemInObjectCaseSensitive(template, "user_id",
                                               cJSON_CreateString(w.superuser_id));
        cJSON_AddStringToObject(template, "kind", "flow");
        char *planted = json_text(template);
        world_plant(&w, planted, NULL);
        free(planted);
        w.superuser_flows++;
        w.target.template = NULL;
        w.target.flow_id = "Big";
        world_must(&w, DRIVER_PRESENT);
        check_big(&w, template);
        cJSON_Delete(template);
        free(text);
        world_end(&w);
    }
}

static void unusable_templates_make_nothing(void **state)
{
    static const char *const texts[] = {"",
                                        "[]",
                                        "{\"name\":\"x\"",
                                        "{\"name\":\"x\"}",
                                        "{\"name\":\"x\",\"data\":null}",
                                        "{\"name\":\"x\",\"data\":{},\"data\":{}}"};
    struct world w;
    (void)state;
    world_begin(&w, "1.10");
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        w.target.template = texts[i];
        w.target.template_len = strlen(texts[i]);
        expect_failure(&w, DRIVER_PRESENT, ERR_INVALID, WORLD_FLOW);
        assert_int_equal(w.changes, 0);
    }
    char *text = big_template(5 * 1024 * 1024);
    w.target.template = text;
    w.target.template_len = strlen(text);
    expect_failure(&w, DRIVER_PRESENT, ERR_INVALID, "larger");
    free(text);
    w.target.template = NULL;
    w.target.flow_id = NULL;
    expect_failure(&w, DRIVER_PRESENT, ERR_INVALID, "flow");
    world_end(&w);
}

/* ---- servers' ways ---- */

static void logins_are_not_tried_while_they_are_refused(void **state)
{
    struct world w;
    (void)state;
    world_begin(&w, "1.13");
    world_settings(&w, "{\"login_limit\":5}");
    world_must(&w, DRIVER_PRESENT);
    for (int i = 0; i < 4; i++) {
        w.secret[0] = '\0';
        world_must(&w, DRIVER_PRESENT);
    }
    w.secret[0] = '\0';
    expect_failure(&w, DRIVER_PRESENT, ERR_THROTTLED, "LANGFLOW_RATE_LIMIT_PER_MINUTE");
    assert_int_equal(w.last.err.retry_after_ms, 60000);
    assert_int_equal(w.outcome.health, HEALTH_GOOD);
    assert_int_equal(w.outcome.err.class, ERR_THROTTLED);
    world_now_ms += 20000;
    expect_failure(&w, DRIVER_PRESENT, ERR_THROTTLED, "logins");
    assert_int_equal(w.requests, 0);
    assert_true(w.last.err.retry_after_ms <= 40000 && w.last.err.retry_after_ms > 39000);
    world_now_ms += w.last.err.retry_after_ms;
    world_must(&w, DRIVER_PRESENT);
    world_check(&w, DRIVER_PRESENT);
    world_end(&w);
}

static void say_version(struct world *w, const struct exchange_request *r,
                        struct exchange_response *out)
{
    if (strstr(r->url, "/api/v1/version")) {
        out->body = w->meddle_ctx;
        out->body_len = strlen(out->body);
        out->status = out->body_len ? 200 : 404;
    }
}

static void versions_are_read_as_they_are_said(void **state)
{
    static const struct {
        const char *body, *version; /* version NULL: refused */
    } said[] = {
        {"{\"version\":\"0.8.0\",\"package\":\"Langflow Base\"}", "1.8.0"},
        {"{\"version\":\"0.10.1\",\"package\":\"Langflow Base\"}", "1.10.1"},
        {"{\"version\":\"0.10.1.dev3\",\"package\":\"Langflow Base Nightly\"}", "1.10.1.dev3"},
        {"{\"version\":\"1.10.1\",\"package\":\"Langflow\"}", "1.10.1"},
        {"{\"version\":\"2.0.0\",\"package\":\"Langflow\"}", "2.0.0"},
        {"{\"version\":\"1.7.3\",\"package\":\"Langflow\"}", NULL},
        {"{\"version\":\"0.7.3\",\"package\":\"Langflow Base\"}", NULL},
        {"{\"version\":\"0.10.1\",\"package\":\"Langflow\"}", NULL},
        {"{\"version\":\"x\"}", NULL},
        {"{\"version\":\"1\"}", NULL},
        {"{}", NULL},
        {"<html>", NULL},
        {NULL, NULL}, /* 404 */
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(said); i++) {
        struct world w;
        char body[200];
        world_begin(&w, "1.10");
        str_copy(body, sizeof(body), said[i].body ? said[i].body : "");
        w.meddle = say_version;
        w.meddle_ctx = body;
        assert_false(w.site->known);
        if (said[i].version) {
            world_must(&w, DRIVER_ABSENT);
            assert_true(w.site->known);
            assert_string_equal(w.site->version, said[i].version);
        } else {
            expect_failure(&w, DRIVER_PRESENT, ERR_UNAVAILABLE, "1.10.1");
            assert_int_equal(w.outcome.health, HEALTH_AS_SAID);
            assert_false(w.site->known);
            assert_int_equal(w.requests, 1);
        }
        world_end(&w);
    }
}

static void refuse_platform(struct world *w, const struct exchange_request *r,
                            struct exchange_response *out)
{
    (void)w;
    if (str_eq(r->credential, PRODUCT_TOKEN)) {
        out->status = 403;
        out->body = "{\"detail\":\"Invalid API key\"}";
        out->body_len = strlen(out->body);
    }
}

static void a_refused_superuser_is_the_runtimes_matter(void **state)
{
    (void)state;
    for (size_t p = 0; p < ARRAY_LEN(profiles); p++) {
        struct world w;
        world_begin(&w, profiles[p]);
        w.meddle = refuse_platform;
        expect_failure(&w, DRIVER_PRESENT, ERR_UNAUTHORIZED, "Invalid API key");
        assert_int_equal(w.outcome.health, HEALTH_AS_SEEN);
        assert_int_equal(w.blamed, 1);
        assert_int_equal(w.waits, str_eq(profiles[p], "1.8"));
        world_end(&w);
    }
}

static void refuse_tenants(struct world *w, const struct exchange_request *r,
                           struct exchange_response *out)
{
    (void)w;
    if (r->auth_header && !str_eq(r->credential, PRODUCT_TOKEN) && !strstr(r->url, "/api_key/")) {
        out->status = 403;
        out->body = "{\"detail\":\"Invalid API key\"}";
        out->body_len = strlen(out->body);
    }
}

static void contradictions_come_to_an_end(void **state)
{
    (void)state;
    for (size_t p = 0; p < ARRAY_LEN(profiles); p++) {
        struct world w;
        world_begin(&w, profiles[p]);
        w.meddle = refuse_tenants;
        expect_failure(&w, DRIVER_PRESENT, ERR_UNKNOWN, "contradict");
        w.meddle = NULL;
        world_must(&w, DRIVER_PRESENT);
        world_check(&w, DRIVER_PRESENT);
        world_end(&w);
    }
}

static void count_refusals(struct world *w, const struct exchange_request *r,
                           struct exchange_response *out)
{
    int *refusals = w->meddle_ctx;
    *refusals += out->status == 403 && str_eq(r->credential, "sk-revoked");
}

static void a_refused_tenant_is_not(void **state)
{
    (void)state;
    for (size_t p = 0; p < ARRAY_LEN(profiles); p++) {
        struct world w;
        int refusals = 0;
        world_begin(&w, profiles[p]);
        world_must(&w, DRIVER_PRESENT);
        str_copy(w.secret, sizeof(w.secret), "sk-revoked");
        w.meddle = count_refusals;
        w.meddle_ctx = &refusals;
        world_must(&w, DRIVER_PRESENT);
        assert_int_equal(refusals, str_eq(profiles[p], "1.8") ? 2 : 1);
        assert_int_equal(w.blamed, 0);
        world_check(&w, DRIVER_PRESENT);
        world_end(&w);
    }
}

static int count_of(const char *text, const char *part)
{
    int n = 0;
    while ((text = strstr(text, part))) {
        text += strlen(part);
        n++;
    }
    return n;
}

/* 1.8 says that a user is active before it lets it in, and tells who never was in something else.
 * Waiting is all that helps; a new password would be as late. */
static void a_late_activation_is_waited_for(void **state)
{
    static const char *const refused[] = {"login 400", "login 401"};
    struct world w;
    (void)state;
    world_begin(&w, "1.8");
    world_settings(&w, "{\"commit_ms\":1500}");
    for (size_t i = 0; i < ARRAY_LEN(refused); i++) {
        world_must(&w, DRIVER_PRESENT);
        if (w.logins != 2 || w.blamed || !strstr(w.trace, refused[i]) ||
            count_of(w.trace, "PATCH /api/v1/users/") != 1) {
            WORLD_FAIL(&w, "%d logins, blamed %d times", w.logins, w.blamed);
        }
        world_check(&w, DRIVER_PRESENT);
        world_must(&w, DRIVER_CLOSED);
        world_check(&w, DRIVER_CLOSED);
    }
    world_end(&w);
}

/* Where answers come before commits, what the job before made is not in sight yet. */
static void closing_waits_for_what_was_just_made(void **state)
{
    struct world w;
    (void)state;
    world_begin(&w, "1.8");
    world_must(&w, DRIVER_PRESENT);
    world_settings(&w, "{\"commit_ms\":1500}");
    world_do(&w, METHOD_POST, "/variables/", w.secret,
             "{\"name\":\"ragflow_api_key\",\"type\":\"Credential\",\"value\":\"k-1\","
             "\"default_fields\":[]}");
    world_must(&w, DRIVER_CLOSED);
    world_now_ms += 3000;
    cJSON *user = world_ours(&w);
    const cJSON *variable = NULL;
    cJSON_ArrayForEach(variable, json_get(user, "variables"))
    {
        if (str_starts(json_str(variable, "name"), "ragflow_")) {
            WORLD_FAIL(&w, "%s is left", json_str(variable, "name"));
        }
    }
    cJSON_Delete(user);
    world_end(&w);
}

/* A sweep that was cut off left its flow, under the id that ours shall have. */
static void a_swept_id_is_free_only_when_that_is_committed(void **state)
{
    struct world w;
    char text[512];
    (void)state;
    world_begin(&w, "1.8");
    snprintf(text, sizeof(text),
             "{\"kind\":\"flow\",\"user_id\":\"%s\",\"id\":\"%s\",\"name\":\"left\"}",
             w.superuser_id, w.flow_uuid);
    world_plant(&w, text, NULL);
    world_settings(&w, "{\"commit_ms\":1500}");
    world_must(&w, DRIVER_PRESENT);
    world_check(&w, DRIVER_PRESENT);
    world_end(&w);
}

static void shut_out(struct world *w, const struct exchange_request *r,
                     struct exchange_response *out)
{
    (void)w;
    if (strstr(r->url, "/login")) {
        out->status = 401;
        out->body = "{\"detail\":\"Inactive user\"}";
        out->body_len = strlen(out->body);
    }
}

static void a_login_that_is_never_let_in_is_not_the_runtimes_matter(void **state)
{
    (void)state;
    for (size_t p = 0; p < ARRAY_LEN(profiles); p++) {
        struct world w;
        world_begin(&w, profiles[p]);
        w.meddle = shut_out;
        expect_failure(&w, DRIVER_PRESENT, ERR_UNKNOWN, "does not let the workspace's user in");
        assert_int_equal(w.logins, 4);
        assert_int_equal(w.blamed, 0);
        assert_int_equal(w.outcome.health, HEALTH_GOOD);
        assert_int_equal(count_of(w.trace, "PATCH /api/v1/users/"), 2);
        world_end(&w);
    }
}

/* Servers repeat what they were sent: one answer becomes that, with a status of its own. */
struct echo {
    int status, at;
};

static void echo(struct world *w, const struct exchange_request *r, struct exchange_response *out)
{
    static char body[8192];
    const struct echo *e = w->meddle_ctx;
    struct buf b;
    if (w->requests != e->at) {
        return;
    }
    buf_init(&b, sizeof(body) - 1);
    buf_addf(&b, "{\"detail\":\"echo: %s %s ", w->password, r->credential ? r->credential : "");
    for (const char *p = buf_str(&r->body); *p && b.len < 4000; p++) {
        buf_addc(&b, *p == '"' || *p == '\\' ? '\'' : *p);
    }
    buf_adds(&b, "\"}");
    str_copy(body, sizeof(body), buf_str(&b));
    buf_done(&b);
    out->status = e->status;
    out->body = body;
    out->body_len = strlen(body);
}

static void no_secret_is_in_any_error(void **state)
{
    static const int statuses[] = {422, 400, 409, 500, 403, 401, 429, 418};
    static const enum driver_goal goals[] = {DRIVER_PRESENT, DRIVER_CLOSED, DRIVER_ABSENT};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(statuses) * ARRAY_LEN(goals); i++) {
        enum driver_goal goal = goals[i % ARRAY_LEN(goals)];
        struct echo e = {.status = statuses[i / ARRAY_LEN(goals)]};
        for (bool hit = true; hit; e.at++) {
            struct world w;
            world_begin(&w, "1.10");
            w.target.collection_key = WORLD_COLLECTION;
            if (goal != DRIVER_PRESENT) {
                world_must(&w, DRIVER_PRESENT);
            }
            w.meddle = echo;
            w.meddle_ctx = &e;
            bool done = world_run(&w, goal); /* looks at every word */
            /* A 422 repeats what nobody here knows to be a secret, too. */
            assert_true(done || e.status != 422 || !strstr(w.last.err.msg, "echo"));
            hit = w.requests > e.at;
            world_end(&w);
        }
        assert_true(e.at > 5);
    }
}

/* A page in the place of every 404, as a server with its frontend mounted answers. */
static void pages_are_not_taken_for_answers(void **state)
{
    (void)state;
    for (size_t p = 0; p < ARRAY_LEN(profiles); p++) {
        struct world w;
        world_begin(&w, profiles[p]);
        world_settings(&w, "{\"frontend\":true}");
        world_must(&w, DRIVER_PRESENT);
        world_check(&w, DRIVER_PRESENT);
        delete_flow(&w);
        world_must(&w, DRIVER_PRESENT);
        world_check(&w, DRIVER_PRESENT);
        world_must(&w, DRIVER_CLOSED);
        world_check(&w, DRIVER_CLOSED);
        world_must(&w, DRIVER_ABSENT);
        world_check(&w, DRIVER_ABSENT);
        world_end(&w);
    }
}

/* ---- closing and deleting ---- */

/* One call to the MCP server of the workspace's project, by nobody. cJSON_Delete() it. */
static cJSON *mcp(struct world *w, const char *method, const char *params)
{
    struct exchange_request r;
    cJSON *user = world_ours(w);
    const cJSON *project = cJSON_GetArrayItem(json_get(user, "projects"), 0);
    exchange_request_init(&r);
    r.method = METHOD_POST;
    r.content_type = "application/json";
    snprintf(r.url, sizeof(r.url), PRODUCT_URL "/api/v1/mcp/project/%s/streamable",
             json_str(project, "id"));
    buf_addf(&r.body, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"%s\",\"params\":%s}", method,
             params);
    struct exchange_response out = product_ask(&w->product, &r);
    exchange_request_done(&r);
    cJSON_Delete(user);
    const char *data = strstr(out.body, "data:");
    assert_int_equal(out.status, 200);
    assert_non_null(data);
    return cJSON_Parse(data + strlen("data:"));
}

static size_t mcp_tools(struct world *w)
{
    cJSON *said = mcp(w, "tools/list", "{}");
    const cJSON *tools = json_get(said, "result.tools");
    assert_true(cJSON_IsArray(tools));
    size_t n = (size_t)cJSON_GetArraySize(tools);
    cJSON_Delete(said);
    return n;
}

static bool mcp_runs(struct world *w)
{
    cJSON *said = mcp(w, "tools/call", "{\"name\":\"Support Agent\"}");
    bool ran = !json_bool(said, "result.isError", true);
    cJSON_Delete(said);
    return ran;
}

static void give_away(struct world *w)
{
    char path[200];
    cJSON *user = world_ours(w);
    const cJSON *project = cJSON_GetArrayItem(json_get(user, "projects"), 0);
    snprintf(path, sizeof(path), "/projects/%s", json_str(project, "id"));
    world_do(w, METHOD_PATCH, path, w->secret, "{\"auth_settings\":{\"auth_type\":\"none\"}}");
    cJSON_Delete(user);
}

static void open_doors(struct world *w)
{
    char path[200];
    snprintf(path, sizeof(path), "/flows/%s", w->flow_uuid);
    give_away(w);
    assert_int_equal(mcp_tools(w), 0); /* as they were made */
    world_do(w, METHOD_PATCH, path, w->secret,
             "{\"access_type\":\"PUBLIC\",\"endpoint_name\":\"agent\",\"mcp_enabled\":true,"
             "\"locked\":true}");
    world_do(w, METHOD_POST, "/flows/", w->secret,
             "{\"name\":\"more\",\"access_type\":\"PUBLIC\",\"endpoint_name\":\"more\"}");
    world_do(w, METHOD_POST, "/flows/", w->secret, "{\"name\":\"hidden\",\"mcp_enabled\":true}");
    world_do(w, METHOD_POST, "/api_key/", w->secret, "{\"name\":\"their own\"}");
}

static void check_flows(struct world *w)
{
    cJSON *user = world_ours(w);
    const cJSON *flow = NULL;
    assert_int_equal(cJSON_GetArraySize(json_get(user, "flows")), 3);
    cJSON_ArrayForEach(flow, json_get(user, "flows"))
    {
        bool ours = str_eq(json_str(flow, "id"), w->flow_uuid);
        const char *endpoint = str_eq(json_str(flow, "name"), "more") ? "more" : NULL;
        const char *name = json_str(flow, "endpoint_name");
        assert_true(str_eq(name, ours ? "agent" : endpoint) || (!name && !ours && !endpoint));
        assert_int_equal(json_bool(flow, "locked", false), ours);
    }
    cJSON_Delete(user);
}

static void closing_leaves_no_way_in(void **state)
{
    (void)state;
    for (size_t p = 0; p < ARRAY_LEN(profiles); p++) {
        for (int with_key = 0; with_key < 2; with_key++) {
            struct world w;
            bool lists = !str_eq(profiles[p], "1.10"), runs = str_eq(profiles[p], "1.13");
            world_begin(&w, profiles[p]);
            w.target.collection_key = WORLD_COLLECTION;
            world_must(&w, DRIVER_PRESENT);
            open_doors(&w);
            assert_int_equal(mcp_tools(&w), lists ? 2 : 0);
            assert_int_equal(mcp_runs(&w), runs);
            w.secret[0] = with_key ? w.secret[0] : '\0';
            world_must(&w, DRIVER_CLOSED);
            assert_int_equal(w.logins, !with_key);
            world_check(&w, DRIVER_CLOSED);
            assert_int_equal(mcp_tools(&w), 0);
            assert_false(mcp_runs(&w));
            check_flows(&w);
            world_end(&w);
        }
    }
}

/* More than one list is taken for at once. */
static void closing_and_purging_reach_everything(void **state)
{
    enum { MANY = 2100 };
    struct world w;
    (void)state;
    world_begin(&w, "1.13");
    world_must(&w, DRIVER_PRESENT);
    struct buf b;
    buf_init(&b, 4 * 1024 * 1024);
    buf_addc(&b, '[');
    for (int i = 0; i < MANY; i++) {
        buf_addf(&b,
                 "%s{\"kind\":\"flow\",\"user_id\":\"%s\",\"name\":\"f%d\",\"access_type\":"
                 "\"PUBLIC\"}",
                 i ? "," : "", w.external_id, i);
    }
    buf_addc(&b, ']');
    world_plant(&w, buf_str(&b), NULL);
    buf_done(&b);
    w.turns_max = 3 * MANY;
    world_must(&w, DRIVER_CLOSED);
    world_check(&w, DRIVER_CLOSED);
    world_must(&w, DRIVER_ABSENT);
    world_check(&w, DRIVER_ABSENT);
    world_end(&w);
}

static void keep_locked(struct world *w, const struct exchange_request *r,
                        struct exchange_response *out)
{
    int *asked = w->meddle_ctx;
    if (r->method == METHOD_PATCH && strstr(r->url, "/flows/") &&
        !strstr(buf_str(&r->body), "\"locked\":false")) {
        out->status = 423;
        out->body = "{\"detail\":\"Flow is locked. Unlock it before making changes.\"}";
        out->body_len = strlen(out->body);
        ++*asked;
    }
}

static void a_lock_that_does_not_open_is_told(void **state)
{
    struct world w;
    int asked = 0;
    (void)state;
    world_begin(&w, "1.13");
    world_must(&w, DRIVER_PRESENT);
    open_doors(&w);
    w.meddle = keep_locked;
    w.meddle_ctx = &asked;
    expect_failure(&w, DRIVER_CLOSED, ERR_REFUSED, "locked");
    assert_int_equal(asked, 3);
    world_end(&w);
}

static void a_purge_takes_messages_and_waits_for_the_end(void **state)
{
    (void)state;
    for (size_t p = 0; p < ARRAY_LEN(profiles); p++) {
        struct world w;
        char path[100];
        world_begin(&w, profiles[p]);
        world_must(&w, DRIVER_PRESENT);
        snprintf(path, sizeof(path), "/run/%s?stream=false", w.flow_uuid);
        world_do(&w, METHOD_POST, path, w.secret, "{\"input_value\":\"hi\"}");
        world_do(&w, METHOD_POST, "/flows/", w.secret, "{\"name\":\"second\"}");
        world_must(&w, DRIVER_CLOSED);
        world_must(&w, DRIVER_ABSENT);
        assert_int_equal(w.waits > 0, !str_eq(profiles[p], "1.10"));
        world_check(&w, DRIVER_ABSENT);
        world_end(&w);
    }
}

/* A server whose flows leave messages behind: ours go by their ids, others' are not touched. */
static void keep_messages(struct world *w, const struct exchange_request *r,
                          struct exchange_response *out)
{
    static char body[600];
    int *deleted = w->meddle_ctx;
    if (!strstr(r->url, "/monitor/messages")) {
        return;
    }
    if (r->method == METHOD_DELETE) {
        assert_string_equal(buf_str(&r->body), "[\"11111111-1111-4111-8111-111111111111\"]");
        ++*deleted;
        return;
    }
    snprintf(body, sizeof(body),
             "[{\"id\":\"11111111-1111-4111-8111-111111111111\",\"flow_id\":\"%s\"},"
             "{\"id\":\"22222222-2222-4222-8222-222222222222\",\"flow_id\":"
             "\"33333333-3333-4333-8333-333333333333\"}]",
             w->flow_uuid);
    out->body = *deleted == 1 ? "[]" : body;
    out->body_len = strlen(out->body);
}

static void messages_that_outlive_their_flow_go(void **state)
{
    (void)state;
    for (int deleted = 0; deleted < 2; deleted++) {
        struct world w;
        int n = deleted ? 5 : 0; /* the second server never lets go */
        world_begin(&w, "1.8");
        world_must(&w, DRIVER_PRESENT);
        w.meddle = keep_messages;
        w.meddle_ctx = &n;
        world_must(&w, DRIVER_ABSENT);
        assert_int_equal(n, deleted ? 8 : 1);
        assert_int_equal(w.last.residue[0] != '\0', deleted);
        world_check(&w, DRIVER_ABSENT);
        world_end(&w);
    }
}

/* Names are the tenant's to choose. */
static void a_purge_takes_files(void **state)
{
    static const char *const names[] = {"a.txt", "b%2e c?x=1&y#z.txt", "\xc3\xa9.pdf", "+ .csv",
                                        "a.b"};
    (void)state;
    for (size_t p = 0; p < ARRAY_LEN(profiles); p++) {
        struct world w;
        char second[UUID_TEXT], text[200];
        world_begin(&w, profiles[p]);
        world_must(&w, DRIVER_PRESENT);
        snprintf(text, sizeof(text), "{\"kind\":\"flow\",\"user_id\":\"%s\",\"name\":\"more\"}",
                 w.external_id);
        world_plant(&w, text, second);
        world_plant_file(&w, w.stranger_id, "theirs.txt");
        world_know_stranger(&w);
        for (size_t i = 0; i < ARRAY_LEN(names); i++) {
            world_plant_file(&w, w.flow_uuid, names[i]);
            world_plant_file(&w, second, names[i]);
            world_plant_file(&w, w.external_id, names[i]);
        }
        world_must(&w, DRIVER_ABSENT);
        assert_string_equal(w.last.residue, "");
        world_check(&w, DRIVER_ABSENT);
        world_end(&w);
    }
}

struct reopening {
    bool closed; /* the close was answered */
    int looks;   /* that still show it open */
};

/* A server that says that it closed the user, and shows otherwise. */
static void show_it_open(struct world *w, const struct exchange_request *r,
                         struct exchange_response *out)
{
    static char body[65536];
    static const char shut[] = "\"is_active\":false";
    struct reopening *o = w->meddle_ctx;
    char *at = NULL;
    if (r->method == METHOD_PATCH && strstr(r->url, "/users/") && strstr(buf_str(&r->body), shut)) {
        o->closed = true;
    }
    if (r->method != METHOD_GET || !strstr(r->url, "/users/") || !o->closed || o->looks == 0) {
        return;
    }
    o->looks--;
    assert_true(str_copy(body, sizeof(body), out->body));
    while ((at = strstr(body, shut))) {
        char *word = at + strlen(shut) - strlen("false");
        for (const char *c = " true"; *c; c++) {
            *word++ = *c;
        }
    }
    out->body = body;
}

static void a_close_is_believed_when_it_is_seen(void **state)
{
    (void)state;
    for (size_t p = 0; p < ARRAY_LEN(profiles); p++) {
        struct world w;
        struct reopening o = {.looks = 2};
        world_begin(&w, profiles[p]);
        world_must(&w, DRIVER_PRESENT);
        w.meddle = show_it_open;
        w.meddle_ctx = &o;
        world_must(&w, DRIVER_CLOSED);
        assert_int_equal(o.looks, 0);
        assert_true(w.waits >= 2);
        world_check(&w, DRIVER_CLOSED);
        world_end(&w);
        world_begin(&w, profiles[p]);
        world_must(&w, DRIVER_PRESENT);
        o = (struct reopening){.looks = 1000};
        w.meddle = show_it_open;
        w.meddle_ctx = &o;
        expect_failure(&w, DRIVER_CLOSED, ERR_UNKNOWN, "still shows it open");
        world_end(&w);
    }
}

#define EXAMPLE "11111111-2222-4333-8444-555555555555"
#define THEIRS  "99999999-2222-4333-8444-555555555555"

/* Lists show a flow without an owner and one of a stranger's beside the tenant's own. */
static void list_strangers_flows(struct world *w, const struct exchange_request *r,
                                 struct exchange_response *out)
{
    static char body[16384];
    if (!strstr(r->url, "/flows/?") || out->status != 200 || out->body[0] != '[') {
        return;
    }
    snprintf(body, sizeof(body),
             "[{\"id\":\"" EXAMPLE "\",\"name\":\"example\",\"user_id\":null},"
             "{\"id\":\"" THEIRS "\",\"name\":\"theirs\",\"user_id\":\"%s\"}%s%s",
             w->stranger_id, out->body[1] == ']' ? "" : ",", out->body + 1);
    out->body = body;
    out->body_len = strlen(body);
    ++*(int *)w->meddle_ctx;
}

static void what_others_have_is_left_alone(void **state)
{
    static const enum driver_goal goals[] = {DRIVER_CLOSED, DRIVER_ABSENT};
    (void)state;
    for (size_t p = 0; p < ARRAY_LEN(profiles); p++) {
        for (size_t i = 0; i < ARRAY_LEN(goals); i++) {
            struct world w;
            int lists = 0;
            world_begin(&w, profiles[p]);
            world_must(&w, DRIVER_PRESENT);
            open_doors(&w);
            w.meddle = list_strangers_flows;
            w.meddle_ctx = &lists;
            world_must(&w, goals[i]);
            assert_true(lists > 0);
            assert_null(strstr(w.trace, EXAMPLE));
            assert_null(strstr(w.trace, THEIRS));
            world_check(&w, goals[i]);
            world_end(&w);
        }
    }
}

static void cut_flows(struct world *w, const struct exchange_request *r,
                      struct exchange_response *out)
{
    (void)w;
    if (strstr(r->url, "/flows/?")) {
        out->truncated = true;
        out->body = "";
        out->body_len = 0;
    }
}

static void more_flows_than_can_be_read_go_with_their_user(void **state)
{
    struct world w;
    (void)state;
    world_begin(&w, "1.13");
    world_must(&w, DRIVER_PRESENT);
    w.meddle = cut_flows;
    assert_false(world_run(&w, DRIVER_CLOSED)); /* closed is what nobody can promise */
    world_must(&w, DRIVER_ABSENT);
    assert_non_null(strstr(w.last.residue, "flows"));
    world_check(&w, DRIVER_ABSENT);
    world_end(&w);
}

/* Files that stay are told, and nothing else stays for their sake. */
static void files_that_stay_are_told(void **state)
{
    static const char *const names[] = {"../../etc/passwd", "..", "a/b", "a\\b", "a\nb", "", "."};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        struct world w;
        world_begin(&w, "1.13");
        world_must(&w, DRIVER_PRESENT);
        world_plant_file(&w, w.flow_uuid, names[i]);
        world_plant_file(&w, w.flow_uuid, "fine.txt");
        world_must(&w, DRIVER_ABSENT);
        assert_string_equal(w.last.residue, "files of a flow have names that cannot be asked for");
        assert_null(strstr(w.trace, "delete/../"));
        assert_non_null(strstr(w.trace, "/fine.txt 200"));
        world_now_ms += 10000;
        assert_int_equal(world_count(&w), 0);
        world_end(&w);
    }
}

struct refusal {
    const char *path;
    int status;
    const char *body;
};

static void refuse_files(struct world *w, const struct exchange_request *r,
                         struct exchange_response *out)
{
    const struct refusal *refusal = w->meddle_ctx;
    if (strstr(r->url, refusal->path)) {
        out->status = refusal->status;
        out->body = refusal->body;
        out->body_len = strlen(out->body);
        str_copy(out->content_type, sizeof(out->content_type),
                 out->body[0] == '<' ? "text/html" : "application/json");
    }
}

static void files_never_block_a_purge(void **state)
{
    static const struct {
        struct refusal refusal;
        const char *residue;
    } cases[] = {
        {{"/v1/files/list/", 404, "{}"}, ""},
        {{"/v1/files/list/", 405, "{}"}, ""},
        {{"/v1/files/list/", 500, "{}"}, "listed"},
        {{"/v1/files/list/", 400, "{}"}, "listed"},
        {{"/v1/files/list/", 200, "<html>"}, "listed"},
        {{"/v1/files/list/", 200, "{\"files\":[\"always.txt\"]}"}, "files of a flow could"},
        {{"/v1/files/list/", 200, "{\"files\":[1,null,{}]}"}, "names"},
        {{"/v2/files", 404, "{}"}, ""},
        {{"/v2/files", 405, "{}"}, ""},
        {{"/v2/files", 400, "{}"}, "files of the user"},
        {{"/v2/files", 500, "{}"}, "files of the user"},
        {{"/v2/files", 200, "<html>"}, "files of the user"},
        {{"/v2/files", 200, "{\"message\":\"Failed to delete files.\"}"}, "files of the user"},
        {{"/files", 404, "{}"}, ""},
        {{"/files", 500, "{}"}, "; "},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct world w;
        struct refusal refusal = cases[i].refusal;
        world_begin(&w, "1.10");
        world_must(&w, DRIVER_PRESENT);
        w.meddle = refuse_files;
        w.meddle_ctx = &refusal;
        world_must(&w, DRIVER_ABSENT);
        if (!strstr(w.last.residue, cases[i].residue) ||
            (!cases[i].residue[0] && w.last.residue[0])) {
            WORLD_FAIL(&w, "case %zu: residue \"%s\"", i, w.last.residue);
        }
        world_check(&w, DRIVER_ABSENT);
        world_end(&w);
    }
}

static void the_list_says_which_files_are_gone(void **state)
{
    static const int statuses[] = {500, 400, 404, 200};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(statuses); i++) {
        struct world w;
        /* Whatever the deletes are said to have done. */
        struct refusal refusal = {"/v1/files/delete/", statuses[i], "{}"};
        world_begin(&w, "1.10");
        world_must(&w, DRIVER_PRESENT);
        world_plant_file(&w, w.flow_uuid, "one.txt");
        world_plant_file(&w, w.flow_uuid, "two.txt");
        w.meddle = refuse_files;
        w.meddle_ctx = &refusal;
        world_must(&w, DRIVER_ABSENT);
        assert_string_equal(w.last.residue, "");
        world_check(&w, DRIVER_ABSENT);
        world_end(&w);
    }
}

/* Whoever comes before the erasure is over must not take what is there for what will be. */
static void an_accepted_delete_is_not_yet_done(void **state)
{
    (void)state;
    for (size_t p = 0; p < ARRAY_LEN(profiles); p++) {
        struct world w;
        bool at_once = str_eq(profiles[p], "1.10");
        world_begin(&w, profiles[p]);
        world_must(&w, DRIVER_PRESENT);
        w.blow = BLOW_500_BEFORE;
        w.at = 8; /* the look after the delete */
        assert_false(world_run(&w, DRIVER_ABSENT));
        assert_non_null(strstr(w.trace, "DELETE /api/v1/users/"));
        assert_int_equal(w.open, !at_once);
        w.blow = BLOW_NONE;
        world_must(&w, DRIVER_PRESENT);
        world_check(&w, DRIVER_PRESENT);
        world_end(&w);
    }
}

static void a_delete_that_never_comes_true_is_told(void **state)
{
    struct world w;
    (void)state;
    world_begin(&w, "1.13");
    world_must(&w, DRIVER_PRESENT);
    world_settings(&w, "{\"erase_ms\":100000000}");
    expect_failure(&w, DRIVER_ABSENT, ERR_UNAVAILABLE, "still lists");
    assert_true(w.waited_ms > 10000);
    world_end(&w);
}

/* ---- looking ---- */

static void observations_change_nothing(void **state)
{
    (void)state;
    for (size_t p = 0; p < ARRAY_LEN(profiles); p++) {
        struct world w;
        char path[200];
        world_begin(&w, profiles[p]);
        w.target.collection_key = WORLD_COLLECTION;
        observe(&w, DRIVER_PRESENT, SIGHT_ABSENT, false);
        observe(&w, DRIVER_ABSENT, SIGHT_ABSENT, true);
        world_must(&w, DRIVER_PRESENT);
        observe(&w, DRIVER_PRESENT, SIGHT_OURS, true);
        observe(&w, DRIVER_CLOSED, SIGHT_OURS, false);
        observe(&w, DRIVER_ABSENT, SIGHT_OURS, false);
        snprintf(path, sizeof(path), "/users/%s", w.external_id);
        world_do(&w, METHOD_PATCH, path, w.secret, "{\"username\":\"else\",\"optins\":{}}");
        observe(&w, DRIVER_PRESENT, SIGHT_OURS, true);
        want_variables(&w, "{\"ragflow_collection_id\":\"c-2\",\"ragflow_url\":\"u\"}");
        observe(&w, DRIVER_PRESENT, SIGHT_OURS, false);
        world_must(&w, DRIVER_CLOSED);
        observe(&w, DRIVER_PRESENT, SIGHT_OURS, false);
        observe(&w, DRIVER_CLOSED, SIGHT_OURS, true);
        world_must(&w, DRIVER_ABSENT);
        world_plant(&w, "{\"username\":\"" WORLD_NAME "\"}", NULL);
        observe(&w, DRIVER_PRESENT, SIGHT_FOREIGN, false);
        observe(&w, DRIVER_ABSENT, SIGHT_FOREIGN, true);
        world_end(&w);
    }
}

static void cut_long_lists(struct world *w, const struct exchange_request *r,
                           struct exchange_response *out)
{
    (void)w;
    if (r->method == METHOD_GET && strstr(r->url, "/users/?") && out->body_len > 12000) {
        out->truncated = true;
        out->body = "";
        out->body_len = 0;
    }
}

static void the_user_is_found_among_many(void **state)
{
    (void)state;
    for (size_t p = 0; p < ARRAY_LEN(profiles); p++) {
        struct world w;
        world_begin(&w, profiles[p]);
        world_must(&w, DRIVER_PRESENT);
        for (int i = 0; i < 100; i++) {
            char text[200];
            snprintf(text, sizeof(text), "{\"username\":\"" WORLD_NAME "%d\"}", i);
            world_plant(&w, text, NULL);
        }
        w.external_id[0] = w.secret[0] = '\0';
        w.meddle = cut_long_lists; /* more than a transport takes: smaller pages */
        world_must(&w, DRIVER_CLOSED);
        assert_string_not_equal(w.external_id, "");
        world_check(&w, DRIVER_CLOSED);
        world_must(&w, DRIVER_ABSENT);
        world_check(&w, DRIVER_ABSENT);
        world_end(&w);
    }
}

/* ---- inspection ---- */

static const struct driver_finding *finding(const struct driver_report *r, const char *subject)
{
    for (size_t i = 0; i < r->n; i++) {
        if (str_eq(r->findings[i].subject, subject)) {
            return &r->findings[i];
        }
    }
    fail_msg("nothing about %s", subject);
    return NULL;
}

static void inspect(struct world *w, struct driver_report *report)
{
    struct err err;
    size_t before = world_count(w);
    struct driver_op *op = world_class()->inspect(&w->target, report, &err);
    assert_non_null(op);
    for (int turns = 0; turns < 50; turns++) {
        w->site->now_ms = world_now_ms;
        world_class()->next(op, &w->last);
        if (w->last.turn != TURN_REQUEST) {
            break;
        }
        assert_null(w->last.effect);
        struct exchange_response r = product_ask(&w->product, &w->last.request);
        world_class()->feed(op, &r, &w->outcome);
        assert_int_equal(w->outcome.effect, EFFECT_NONE);
        exchange_request_done(&w->last.request);
    }
    world_class()->free(op);
    assert_int_equal(w->last.turn, TURN_DONE);
    assert_int_equal(world_count(w), before);
    for (size_t i = 0; i < report->n; i++) {
        bool bad = report->findings[i].level >= LEVEL_WARN;
        assert_true(!bad || report->findings[i].mend[0]);
    }
}

static void check_level(const struct driver_report *r, const char *subject, enum driver_level level,
                        const char *words)
{
    const struct driver_finding *f = finding(r, subject);
    if (f->level != level || !(strstr(f->what, words) || strstr(f->mend, words))) {
        fail_msg("%s: level %d: %s; %s", subject, f->level, f->what, f->mend);
    }
}

static void check_silence(const struct driver_report *r, const char *subject)
{
    for (size_t i = 0; i < r->n; i++) {
        assert_string_not_equal(r->findings[i].subject, subject);
    }
}

static void an_inspection_says_what_to_mend(void **state)
{
    (void)state;
    for (size_t p = 0; p < ARRAY_LEN(profiles); p++) {
        struct world w;
        struct driver_report report;
        bool old = str_eq(profiles[p], "1.8");
        world_begin(&w, profiles[p]);
        inspect(&w, &report);
        check_level(&report, "version", old ? LEVEL_WARN : LEVEL_OK, profiles[p]);
        check_level(&report, "health", LEVEL_OK, "");
        check_level(&report, "credential", LEVEL_OK, "");
        check_level(&report, "automatic login", LEVEL_OK, "");
        check_level(&report, "open sign-up", old ? LEVEL_BAD : LEVEL_OK, old ? "upgrade" : "");
        check_level(&report, "webhooks", old ? LEVEL_WARN : LEVEL_OK,
                    old ? "LANGFLOW_WEBHOOK_AUTH_ENABLE=true" : "");
        check_level(&report, "custom components", LEVEL_NOTE, "isolate");
        check_silence(&report, "agents");
        world_settings(&w, "{\"auto_login\":true,\"signup\":true}");
        inspect(&w, &report);
        check_level(&report, "automatic login", LEVEL_BAD, "LANGFLOW_AUTO_LOGIN=false");
        check_level(&report, "open sign-up", LEVEL_BAD, "LANGFLOW_ENABLE_SIGNUP=false");
        w.target.credential = "sk-stranger";
        inspect(&w, &report);
        check_level(&report, "credential", LEVEL_BAD, "superuser");
        check_level(&report, "open sign-up", LEVEL_NOTE, "credential");
        world_settings(&w, "{\"webhook_auth\":false,\"custom_components\":false,\"a2a\":true}");
        w.target.credential = PRODUCT_TOKEN;
        inspect(&w, &report);
        check_level(&report, "webhooks", LEVEL_WARN, old ? "closed" : "anybody");
        if (!old) {
            check_silence(&report, "custom components");
        }
        if (str_eq(profiles[p], "1.13")) {
            check_level(&report, "agents", LEVEL_NOTE, "LANGFLOW_A2A_ENABLED=false");
        }
        w.target.credential = "sk-nobody";
        inspect(&w, &report);
        check_level(&report, "webhooks", LEVEL_NOTE, "HTTP 200");
        check_level(&report, "credential", LEVEL_BAD, "403");
        world_end(&w);
    }
}

static void small_print(void **state)
{
    struct driver_action a;
    struct err err;
    struct world w;
    (void)state;
    world_begin(&w, "1.10");
    assert_string_equal(world_class()->api, "langflow");
    world_class()->free(NULL);
    world_class()->site_free(NULL);
    w.target.site = NULL;
    assert_null(world_class()->start(DRIVER_PRESENT, &w.target, &err));
    assert_int_equal(err.class, ERR_INTERNAL);
    w.target.site = w.site;
    struct driver_op *op = world_class()->start(DRIVER_PRESENT, &w.target, &err);
    world_class()->next(op, &a);
    exchange_request_done(&a.request);
    world_class()->free(op); /* abandoned half-way */
    op = world_class()->start(DRIVER_PRESENT, &w.target, &err);
    struct exchange_response r = {.status = 200, .body = "{}", .body_len = 2};
    world_class()->feed(op, &r, &w.outcome); /* nothing was asked */
    assert_int_equal(w.outcome.effect, EFFECT_NONE);
    world_class()->free(op);
    world_end(&w);
}

/* ---- where memory ends ---- */

static void *no_memory(size_t size)
{
    (void)size;
    return NULL;
}

static void a_name_that_cannot_be_read_now_is_not_replaced(void **state)
{
    static const char flow[] = "{\"name\":\"Support\",\"data\":{}}";
    cJSON_Hooks none = {.malloc_fn = no_memory, .free_fn = free};
    struct buf body;
    struct err err;
    char *name = NULL;
    (void)state;
    buf_init(&body, EXCHANGE_REQUEST_MAX);
    cJSON_InitHooks(&none);
    int rc = langflow_flow_body(flow, strlen(flow), "fallback", &body, &name, &err);
    cJSON_InitHooks(NULL);
    assert_int_equal(rc, -1);
    assert_int_equal(err.class, ERR_INTERNAL);
    assert_null(name);

    buf_reset(&body);
    assert_int_equal(langflow_flow_body(flow, strlen(flow), "fallback", &body, &name, &err), 0);
    assert_string_equal(name, "Support");
    free(name);
    buf_done(&body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_fresh_workspace_takes_nine_or_ten_requests),
        cmocka_unit_test(a_steady_run_takes_two_requests_or_three),
        cmocka_unit_test(goals_follow_one_another),
        cmocka_unit_test(a_strangers_user_is_a_conflict_and_left_alone),
        cmocka_unit_test(a_superuser_is_never_adopted),
        cmocka_unit_test(a_name_that_differs_in_case_is_a_strangers),
        cmocka_unit_test(what_an_earlier_attempt_made_is_adopted),
        cmocka_unit_test(what_is_adopted_after_a_crash_keeps_no_key),
        cmocka_unit_test(renamed_and_unmarked_it_is_still_ours),
        cmocka_unit_test(what_was_removed_by_hand_is_not_looked_for_for_ever),
        cmocka_unit_test(a_sweep_that_was_cut_off_is_ended),
        cmocka_unit_test(a_key_of_another_user_is_not_used),
        cmocka_unit_test(a_flow_of_another_owner_is_not_taken_for_ours),
        cmocka_unit_test(an_open_delete_is_finished_first),
        cmocka_unit_test(a_stray_key_goes),
        cmocka_unit_test(edits_of_tenants_survive),
        cmocka_unit_test(data_that_cannot_be_read_is_no_obstacle),
        cmocka_unit_test(a_deleted_flow_is_made_again),
        cmocka_unit_test(a_silent_rename_is_answered_once),
        cmocka_unit_test(a_rename_without_need_is_mended),
        cmocka_unit_test(a_flow_id_that_another_holds_is_a_conflict),
        cmocka_unit_test(variables_of_all_types_arrive),
        cmocka_unit_test(orders_write_what_they_change),
        cmocka_unit_test(two_variables_of_one_name_become_one),
        cmocka_unit_test(without_retrieval_nothing_leads_to_documents),
        cmocka_unit_test(a_template_is_found_by_id_endpoint_or_name),
        cmocka_unit_test(templates_are_read_once_and_again_after_a_while),
        cmocka_unit_test(more_templates_than_places),
        cmocka_unit_test(templates_of_megabytes_pass_through),
        cmocka_unit_test(unusable_templates_make_nothing),
        cmocka_unit_test(logins_are_not_tried_while_they_are_refused),
        cmocka_unit_test(versions_are_read_as_they_are_said),
        cmocka_unit_test(a_refused_superuser_is_the_runtimes_matter),
        cmocka_unit_test(contradictions_come_to_an_end),
        cmocka_unit_test(a_refused_tenant_is_not),
        cmocka_unit_test(a_late_activation_is_waited_for),
        cmocka_unit_test(closing_waits_for_what_was_just_made),
        cmocka_unit_test(a_swept_id_is_free_only_when_that_is_committed),
        cmocka_unit_test(a_login_that_is_never_let_in_is_not_the_runtimes_matter),
        cmocka_unit_test(no_secret_is_in_any_error),
        cmocka_unit_test(pages_are_not_taken_for_answers),
        cmocka_unit_test(closing_leaves_no_way_in),
        cmocka_unit_test(closing_and_purging_reach_everything),
        cmocka_unit_test(a_lock_that_does_not_open_is_told),
        cmocka_unit_test(a_purge_takes_messages_and_waits_for_the_end),
        cmocka_unit_test(messages_that_outlive_their_flow_go),
        cmocka_unit_test(a_close_is_believed_when_it_is_seen),
        cmocka_unit_test(what_others_have_is_left_alone),
        cmocka_unit_test(more_flows_than_can_be_read_go_with_their_user),
        cmocka_unit_test(a_purge_takes_files),
        cmocka_unit_test(files_that_stay_are_told),
        cmocka_unit_test(files_never_block_a_purge),
        cmocka_unit_test(the_list_says_which_files_are_gone),
        cmocka_unit_test(an_accepted_delete_is_not_yet_done),
        cmocka_unit_test(a_delete_that_never_comes_true_is_told),
        cmocka_unit_test(observations_change_nothing),
        cmocka_unit_test(the_user_is_found_among_many),
        cmocka_unit_test(an_inspection_says_what_to_mend),
        cmocka_unit_test(a_name_that_cannot_be_read_now_is_not_replaced),
        cmocka_unit_test(small_print),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
