#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/str.h"
#include "plan.h"

#define SUB_UUID "2f1c9a52-6a0e-4c55-8f1e-5d2f0c9b7a01"
#define ORG_UUID "0a1b2c3d-6a0e-4c55-8f1e-5d2f0c9b7a02"
#define PRJ_UUID "9f8e7d6c-6a0e-4c55-8f1e-5d2f0c9b7a03"
#define OFF_UUID "7f7f7f7f-6a0e-4c55-8f1e-5d2f0c9b7a04"

/* ---- a configuration and an event to vary ---- */

static char *csa_capabilities[] = {"rag", "voice"};
static struct config_pair csa_variables[] = {
    {"tone", "calm", false}, {"language", "et", false}, {"ragflow_url", "http://elsewhere", false}};
static struct config_offering offerings[] = {
    {.type = "csa",
     .flow = "flow-of-csa",
     .capabilities = csa_capabilities,
     .n_capabilities = 2,
     .variables = csa_variables,
     .n_variables = 3,
     .embedding_model = "model-of-csa",
     .chunk_size = 512,
     .chunk_overlap = 50},
    {.type = "bare", .embedding_model = "model-of-bare", .chunk_size = 256},
};
static struct config_runtime runtimes[] = {
    {.name = "bigcorp-own", .mode = RUNTIME_DEDICATED, .organization = "bigcorp"},
    {.name = "shared-eu", .mode = RUNTIME_SHARED},
    {.name = "shared-us", .mode = RUNTIME_SHARED},
    {.name = "acme-own", .mode = RUNTIME_DEDICATED, .organization = "acme-corp"},
};
static const struct config config = {
    .offerings = offerings,
    .n_offerings = 2,
    .any_offering = {.embedding_model = "model-of-any", .chunk_size = 1024, .chunk_overlap = 5},
    .runtimes = runtimes,
    .n_runtimes = 4};

/* The whole record; `path` (members joined by '.') replaced with the JSON `value`, or taken out for
 * NULL. path NULL: as it is. free(). */
static char *spec_with(const char *path, const char *value)
{
    static const char whole[] =
        "{\"subscription\":{\"uuid\":\"" SUB_UUID "\",\"id\":\"7\"},"
        "\"organization\":{\"uuid\":\"" ORG_UUID "\",\"slug\":\"acme-corp\"},"
        "\"project\":{\"uuid\":\"" PRJ_UUID "\",\"slug\":\"website-support\"},"
        "\"offering\":{\"uuid\":\"" OFF_UUID "\",\"type\":\"csa\"},"
        "\"plan\":{\"tier\":\"pro\"},"
        "\"knowledge_base\":{},\"api_key\":{},\"runtime\":{}}";
    cJSON *json = cJSON_Parse(whole);
    cJSON *at = json;
    char name[64] = "";
    while (path && *path) {
        size_t n = strcspn(path, ".");
        if (name[0]) {
            at = cJSON_GetObjectItemCaseSensitive(at, name);
            assert_non_null(at);
        }
        snprintf(name, sizeof(name), "%.*s", (int)n, path);
        path += n + (path[n] == '.');
    }
    if (name[0]) {
        cJSON_DeleteItemFromObjectCaseSensitive(at, name);
        if (value) {
            cJSON *item = cJSON_Parse(value);
            assert_non_null(item);
            cJSON_AddItemToObject(at, name, item);
        }
    }
    char *text = json_text(json);
    cJSON_Delete(json);
    return text;
}

static struct plan plan_with(const char *path, const char *value)
{
    struct plan p;
    struct err err;
    char *spec = spec_with(path, value);
    if (plan_make(spec, &config, &p, &err)) {
        fail_msg("%s", err.msg);
    }
    free(spec);
    return p;
}

static void refused_with(const char *path, const char *value, const char *words)
{
    struct plan p = {.chunk_size = 4711};
    struct err err;
    char *spec = spec_with(path, value);
    assert_int_equal(plan_make(spec, &config, &p, &err), -1);
    assert_int_equal(err.class, ERR_INVALID);
    if (!strstr(err.msg, words)) {
        fail_msg("\"%s\" does not say \"%s\"", err.msg, words);
    }
    assert_int_equal(p.chunk_size, 4711); /* untouched */
    free(spec);
}

static void assert_text(char *made, const char *wanted)
{
    assert_non_null(made);
    assert_string_equal(made, wanted);
    free(made);
}

/* ---- settings ---- */

static void defaults_come_from_the_offering(void **state)
{
    (void)state;
    struct plan p = plan_with(NULL, NULL);
    assert_string_equal(p.flow_id, "flow-of-csa");
    assert_true(p.rag);
    assert_string_equal(p.embedding_model, "model-of-csa");
    assert_int_equal(p.chunk_size, 512);
    assert_int_equal(p.chunk_overlap, 50);
    assert_text(json_text(p.variables), "{\"tone\":\"calm\",\"language\":\"et\"}");
    plan_done(&p);
    plan_done(&p); /* twice is harmless */
}

static void the_event_comes_first(void **state)
{
    (void)state;
    struct plan p = plan_with("offering.flow_id", "\"flow-of-event\"");
    assert_string_equal(p.flow_id, "flow-of-event");
    plan_done(&p);

    p = plan_with("variables", "{\"tone\":\"loud\",\"Tone\":\"other\",\"n\":7,\"on\":true,"
                               "\"none\":null}");
    assert_text(json_text(p.variables), "{\"language\":\"et\",\"tone\":\"loud\",\"Tone\":\"other\","
                                        "\"n\":7,\"on\":true,\"none\":null}");
    plan_done(&p);

    p = plan_with("knowledge_base",
                  "{\"embedding_model\":\"small\",\"chunk_size\":100,\"chunk_overlap\":99}");
    assert_string_equal(p.embedding_model, "small");
    assert_int_equal(p.chunk_size, 100);
    assert_int_equal(p.chunk_overlap, 99);
    plan_done(&p);

    p = plan_with("knowledge_base", "{\"chunk_size\":50}"); /* the offering's overlap is 50 */
    assert_int_equal(p.chunk_size, 50);
    assert_int_equal(p.chunk_overlap, 0);
    plan_done(&p);

    p = plan_with("offering", "{\"uuid\":\"" OFF_UUID "\",\"type\":\"x\",\"flow_id\":\"f\"}");
    assert_string_equal(p.embedding_model, "model-of-any");
    assert_int_equal(p.chunk_size, 1024);
    assert_int_equal(p.chunk_overlap, 5);
    plan_done(&p);
}

static void capabilities_of_either(void **state)
{
    static const struct {
        const char *type, *given;
        bool rag;
        const char *listed;
    } cases[] = {
        {"\"csa\"", NULL, true, "[\"rag\",\"voice\"]"},
        {"\"csa\"", "[]", false, "[]"}, /* said and empty is said */
        {"\"csa\"", "[\"voice\"]", false, "[\"voice\"]"},
        {"\"csa\"", "[\"x\",\"rag\"]", true, "[\"x\",\"rag\"]"},
        {"\"csa\"", "[\"RAG\",\"rag2\"]", false, "[\"RAG\",\"rag2\"]"},
        {"\"bare\"", NULL, false, "[]"},
        {"\"bare\"", "[\"rag\"]", true, "[\"rag\"]"},
        {"\"unknown\"", NULL, false, "[]"},
        {"\"unknown\"", "[\"rag\"]", true, "[\"rag\"]"},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct plan p;
        struct err err;
        char offering[128];
        snprintf(offering, sizeof(offering),
                 "{\"uuid\":\"" OFF_UUID "\",\"type\":%s,\"flow_id\":\"f\"}", cases[i].type);
        char *with_type = spec_with("offering", offering);
        cJSON *json = cJSON_Parse(with_type);
        if (cases[i].given) {
            cJSON_AddItemToObject(json, "capabilities", cJSON_Parse(cases[i].given));
        }
        char *spec = json_text(json);
        assert_int_equal(plan_make(spec, &config, &p, &err), 0);
        assert_int_equal(p.rag, cases[i].rag);
        char *columns = plan_config_json(&p, NULL, &err);
        cJSON *row = cJSON_Parse(columns);
        assert_text(json_text(json_get(row, "capabilities")), cases[i].listed);
        cJSON_Delete(row);
        cJSON_Delete(json);
        free(columns);
        free(spec);
        free(with_type);
        plan_done(&p);
    }
}

static void impossible_subscriptions_are_refused(void **state)
{
    static const char *const needed[] = {"organization.uuid", "organization.slug", "project.uuid",
                                         "project.slug",      "offering.uuid",     "offering.type",
                                         "plan.tier"};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(needed); i++) {
        refused_with(needed[i], NULL, needed[i]);
        refused_with(needed[i], "7", needed[i]);
    }
    refused_with("organization", "null", "organization.uuid");
    refused_with("offering.type", "\"bare\"", "offerings.bare.flow");
    refused_with("offering.type", "\"unknown\"", "offering.flow_id");
    refused_with("knowledge_base.chunk_overlap", "512", "chunk_overlap (512)");
    refused_with("knowledge_base", "{\"chunk_size\":50,\"chunk_overlap\":50}", "chunk_size (50)");
}

static void what_is_no_record_is_refused(void **state)
{
    static const char *const specs[] = {"", "{", "[]", "null", "7", "{}", "{\"a\":1,\"a\":2}"};
    struct plan p;
    struct err err;
    (void)state;
    assert_int_equal(plan_make(NULL, &config, &p, &err), -1);
    assert_int_equal(err.class, ERR_INVALID);
    for (size_t i = 0; i < ARRAY_LEN(specs); i++) {
        assert_int_equal(plan_make(specs[i], &config, &p, &err), -1);
        assert_int_equal(err.class, ERR_INVALID);
        assert_non_null(strstr(err.msg, "recorded event"));
    }
}

/* ---- runtime and name ---- */

static void the_runtime_is_chosen(void **state)
{
    struct err err;
    (void)state;
    struct plan p = plan_with(NULL, NULL);
    assert_string_equal(plan_runtime(&p, &config, &err)->name, "shared-eu");
    plan_done(&p);

    p = plan_with("runtime", NULL);
    assert_string_equal(plan_runtime(&p, &config, &err)->name, "shared-eu");
    plan_done(&p);

    p = plan_with("runtime.mode", "\"dedicated\"");
    assert_string_equal(plan_runtime(&p, &config, &err)->name, "acme-own");

    struct config only_shared = {.runtimes = runtimes + 1, .n_runtimes = 2};
    assert_null(plan_runtime(&p, &only_shared, &err));
    assert_int_equal(err.class, ERR_UNAVAILABLE); /* held, not failed */
    assert_non_null(strstr(err.msg, "dedicated"));
    assert_non_null(strstr(err.msg, "\"acme-corp\""));
    plan_done(&p);

    struct config only_dedicated = {.runtimes = runtimes + 3, .n_runtimes = 1};
    p = plan_with(NULL, NULL);
    assert_null(plan_runtime(&p, &only_dedicated, &err));
    assert_int_equal(err.class, ERR_UNAVAILABLE);
    assert_non_null(strstr(err.msg, "no shared runtime"));
    plan_done(&p);
}

static void names_follow_the_contract(void **state)
{
    static const struct {
        const char *path, *value, *name;
    } cases[] = {
        {NULL, NULL, "acme-corp-website-support-csa-007"},
        {"subscription.id", "\"A_12\"", "acme-corp-website-support-csa-a-12"},
        {"subscription.id", NULL, "acme-corp-website-support-csa-2f1c9a526a0e4c558f1e5d2f0c9b7a01"},
        {"organization.slug", "\"\"", "0a1b2c3d-website-support-csa-007"},
        {"project.slug", "\"\"", "acme-corp-9f8e7d6c-csa-007"},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct err err;
        char name[NAME_BYTES_MAX + 1];
        struct plan p = plan_with(cases[i].path, cases[i].value);
        assert_int_equal(plan_name(&p, SUB_UUID, name, &err), 0);
        assert_string_equal(name, cases[i].name);
        plan_done(&p);
    }
}

/* ---- what is written ---- */

static void the_config_row_is_whole(void **state)
{
    struct err err;
    (void)state;
    struct plan p = plan_with("variables", "{\"tone\":\"loud\"}");
    assert_text(plan_config_json(&p, NULL, &err),
                "{\"organization_uuid\":\"" ORG_UUID "\",\"organization_slug\":\"acme-corp\","
                "\"project_uuid\":\"" PRJ_UUID "\",\"project_slug\":\"website-support\","
                "\"offering_uuid\":\"" OFF_UUID "\",\"offering_type\":\"csa\","
                "\"plan_tier\":\"pro\",\"capabilities\":[\"rag\",\"voice\"],"
                "\"variables\":{\"language\":\"et\",\"tone\":\"loud\"}}");
    plan_done(&p);
}

static void assert_due(const char *variables, const char *recorded, const char *before,
                       const char *wanted)
{
    struct err err;
    struct plan p = plan_with("variables", variables);
    cJSON *due = before ? cJSON_Parse(before) : NULL;
    cJSON *now = plan_due(&p, recorded, due, &err);
    assert_non_null(now);
    assert_text(json_text(now), wanted);
    char *columns = plan_config_json(&p, now, &err);
    assert_non_null(strstr(columns, "\"variables_due\":["));
    free(columns);
    cJSON_Delete(now);
    cJSON_Delete(due);
    plan_done(&p);
}

/* Added, changed (in value or in type), dropped; what was due before stays so, and is named once.
 */
static void what_an_order_changes_is_due(void **state)
{
    struct err err;
    (void)state;
    static const char was[] = "{\"language\":\"et\",\"tone\":\"calm\",\"n\":1}";
    assert_due("{\"n\":1}", NULL, NULL, "[]");
    assert_due("{\"n\":1}", was, NULL, "[]");
    assert_due("{\"n\":1.0,\"tone\":\"calm\"}", was, "[]", "[]");
    assert_due("{\"n\":1,\"tone\":\"loud\"}", was, NULL, "[\"tone\"]");
    assert_due("{\"n\":\"1\",\"new\":null}", was, NULL, "[\"n\",\"new\"]");
    assert_due("{}", was, "[\"old\",\"n\"]", "[\"old\",\"n\"]");
    assert_due("{\"n\":1}", was, "[\"tone\"]", "[\"tone\"]"); /* back again before it was there */
    struct plan p = plan_with(NULL, NULL);
    assert_null(plan_due(&p, "{\"n\":", NULL, &err));
    assert_int_equal(err.class, ERR_INTERNAL);
    plan_done(&p);
}

static void tiers_have_limits(void **state)
{
    static const struct {
        const char *tier, *limit;
    } cases[] = {{"\"free\"", "10/minute"}, {"\"plus\"", "60/minute"}, {"\"pro\"", "300/minute"}};
    struct err err;
    char wanted[128];
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct plan p = plan_with("plan.tier", cases[i].tier);
        snprintf(wanted, sizeof(wanted),
                 "{\"rate_limit\":\"%s\",\"permissions\":[],\"allowed_domains\":[]}",
                 cases[i].limit);
        assert_text(plan_terms_json(&p, &err), wanted);
        plan_done(&p);
    }
    struct plan p = plan_with("api_key", "{\"rate_limit\":\"5/second\",\"permissions\":[\"chat\"],"
                                         "\"allowed_domains\":[\"*.example.com\"],"
                                         "\"expires_at\":\"2027-01-01T00:00:00Z\"}");
    assert_text(plan_terms_json(&p, &err),
                "{\"rate_limit\":\"5/second\",\"permissions\":[\"chat\"],"
                "\"allowed_domains\":[\"*.example.com\"],"
                "\"expires_at\":\"2027-01-01T00:00:00Z\"}");
    plan_done(&p);

    p = plan_with("api_key", "{\"expires_at\":null}"); /* null: never */
    assert_text(plan_terms_json(&p, &err),
                "{\"rate_limit\":\"300/minute\",\"permissions\":[],\"allowed_domains\":[]}");
    plan_done(&p);
}

static void enterprise_names_its_own_limit(void **state)
{
    struct err err;
    (void)state;
    struct plan p = plan_with("plan.tier", "\"enterprise\"");
    assert_null(plan_terms_json(&p, &err));
    assert_int_equal(err.class, ERR_INVALID);
    assert_non_null(strstr(err.msg, "api_key.rate_limit"));
    cJSON_AddStringToObject(cJSON_GetObjectItem(p.spec, "api_key"), "rate_limit", "9000/minute");
    assert_text(plan_terms_json(&p, &err), "{\"rate_limit\":\"9000/minute\",\"permissions\":[],"
                                           "\"allowed_domains\":[]}");
    plan_done(&p);
}

static void nobody_else_says_where_the_documents_are(void **state)
{
    static const char forged[] = "{\"ragflow_collection_id\":\"another's\",\"ragflow_url\":"
                                 "\"http://evil\",\"ragflow_api_key\":\"k\",\"tone\":\"loud\"}";
    struct err err;
    (void)state;
    struct plan p = plan_with("variables", forged);
    /* Without retrieval nothing is added, so nothing may be left either. */
    assert_text(json_text(p.variables), "{\"language\":\"et\",\"tone\":\"loud\"}");
    assert_int_equal(plan_add_collection(&p, "c1", "http://r", &err), 0);
    assert_text(json_text(p.variables),
                "{\"language\":\"et\",\"tone\":\"loud\",\"ragflow_collection_id\":\"c1\","
                "\"ragflow_url\":\"http://r\"}");
    assert_int_equal(plan_add_collection(&p, "c2", "http://r", &err), 0);
    assert_string_equal(json_str(p.variables, "ragflow_collection_id"), "c2");
    assert_int_equal(plan_add_collection(&p, NULL, "http://r", &err), 0);
    assert_null(json_get(p.variables, "ragflow_collection_id"));
    plan_done(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_come_from_the_offering),
        cmocka_unit_test(the_event_comes_first),
        cmocka_unit_test(capabilities_of_either),
        cmocka_unit_test(impossible_subscriptions_are_refused),
        cmocka_unit_test(what_is_no_record_is_refused),
        cmocka_unit_test(the_runtime_is_chosen),
        cmocka_unit_test(names_follow_the_contract),
        cmocka_unit_test(the_config_row_is_whole),
        cmocka_unit_test(what_an_order_changes_is_due),
        cmocka_unit_test(tiers_have_limits),
        cmocka_unit_test(enterprise_names_its_own_limit),
        cmocka_unit_test(nobody_else_says_where_the_documents_are),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
