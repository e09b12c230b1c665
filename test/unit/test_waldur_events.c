/*
 * Orders as events, and what buyers read. An event is what event_decode makes of it: the schemas
 * judge.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/str.h"
#include "event/event.h"
#include "waldur/translate.h"
#include "waldur/words.h"
#include "waldur_sim.h"

#define URL "https://waldur.example/api"

static struct waldur_order order_of(const char *members)
{
    struct waldur_order o;
    struct json_fault fault;
    struct buf b;
    buf_init(&b, 1 << 20);
    buf_addf(&b,
             "{\"uuid\":\"" WS_ORDER_HEX "\",\"state\":\"executing\",\"created\":"
             "\"2026-11-21T10:00:00.5Z\",\"marketplace_resource_uuid\":\"" WS_RESOURCE_HEX
             "\"%s%s}",
             members[0] ? "," : "", members);
    if (waldur_order_decode(buf_str(&b), b.len, &o, &fault)) {
        fail_msg("%s: %s %s", buf_str(&b), fault.pointer, fault.reason);
    }
    buf_done(&b);
    return o;
}

static struct waldur_resource resource_of(const char *members)
{
    struct waldur_resource r;
    struct json_fault fault;
    struct buf b;
    buf_init(&b, 1 << 20);
    buf_addf(&b, "{\"uuid\":\"" WS_RESOURCE_HEX "\",\"state\":\"Creating\"%s%s}",
             members[0] ? "," : "", members);
    if (waldur_resource_decode(buf_str(&b), b.len, &r, &fault)) {
        fail_msg("%s: %s %s", buf_str(&b), fault.pointer, fault.reason);
    }
    buf_done(&b);
    return r;
}

#define OWNERS                                                                                     \
    "\"customer_uuid\":\"" WS_CUSTOMER_HEX "\",\"customer_slug\":\"acme-corp\",\"customer_name\":" \
    "\"Acme Corp\",\"project_uuid\":\"" WS_PROJECT_HEX "\",\"project_slug\":\"website-support\","  \
    "\"project_name\":\"Website Support\""
#define OFFERING "\"offering_uuid\":\"" WS_OFFERING_HEX "\""
#define PLAN     "\"plan_uuid\":\"" WS_PLAN_HEX "\",\"plan_name\":\"Pro\""
#define CREATE   "\"type\":\"Create\"," OWNERS "," OFFERING "," PLAN ",\"resource_name\":\"my-ws\""

static const char *const capabilities[] = {"rag"};
static const char *const variables[] = {"agent_name", "tone", "max_turns", "strict"};
static const struct waldur_mapping mappings[] = {
    {"number", "subscription.id"},
    {"mode", "runtime.mode"},
    {"model", "knowledge_base.embedding_model"},
    {"chunk", "knowledge_base.chunk_size"},
    {"overlap", "knowledge_base.chunk_overlap"},
    {"rate", "api_key.rate_limit"},
    {"until", "api_key.expires_at"},
    {"domains", "api_key.allowed_domains"},
    {"may", "api_key.permissions"},
    {"greeting", "variables.welcome_message"},
};
static const struct waldur_setup setup = {.type = "csa",
                                          .flow = "customer-support-agent-v1",
                                          .capabilities = capabilities,
                                          .n_capabilities = 1,
                                          .variables = variables,
                                          .n_variables = ARRAY_LEN(variables),
                                          .mappings = mappings,
                                          .n_mappings = ARRAY_LEN(mappings),
                                          .rate_component = "requests"};

static enum waldur_translation translate(const struct waldur_setup *with, const char *order,
                                         const char *resource, struct waldur_event *e,
                                         char reason[WALDUR_REASON_MAX])
{
    struct waldur_order o = order_of(order);
    struct waldur_resource r = resource_of(resource);
    enum waldur_translation t = waldur_translate(URL, with, &o, &r, e, reason);
    waldur_order_done(&o);
    waldur_resource_done(&r);
    return t;
}

/* Its data as event_decode keeps it: what the schema knows of it. */
static void is_event(const struct waldur_event *e, struct event *out)
{
    struct json_fault fault;
    struct buf b;
    buf_init(&b, 1 << 21);
    assert_int_equal(waldur_event_write(e, &b), 0);
    if (event_decode(buf_str(&b), b.len, NULL, 0, 0, out, &fault)) {
        fail_msg("%s: %s %s", buf_str(&b), fault.pointer, fault.reason);
    }
    assert_string_equal(out->id, e->id);
    assert_string_equal(out->source, e->source);
    assert_int_equal(out->time_us, e->time_us);
    assert_string_equal(out->subscription_uuid, e->subscription_uuid);
    buf_done(&b);
}

static void becomes_with(const struct waldur_setup *with, const char *order, const char *resource,
                         const char *data)
{
    char reason[WALDUR_REASON_MAX] = "";
    struct waldur_event e;
    struct event event;
    if (translate(with, order, resource, &e, reason) != WALDUR_TRANSLATED) {
        fail_msg("%s", reason);
    }
    is_event(&e, &event);
    assert_string_equal(e.data, data);
    event_done(&event);
    waldur_event_done(&e);
}

static void refused_with(const struct waldur_setup *with, const char *order, const char *resource,
                         const char *why)
{
    char reason[WALDUR_REASON_MAX] = "";
    struct waldur_event e = {.data = (char *)(uintptr_t)why};
    assert_int_equal(translate(with, order, resource, &e, reason), WALDUR_UNTRANSLATABLE);
    if (!strstr(reason, why)) {
        fail_msg("\"%s\" does not say \"%s\"", reason, why);
    }
    assert_ptr_equal(e.data, why);
}

#define HEAD                                                                                       \
    "{\"order_uuid\":\"" WS_ORDER "\",\"subscription\":{\"uuid\":\"" WS_RESOURCE                   \
    "\",\"name\":\"my-ws\"},\"organization\":{\"uuid\":\"9d0e7a34-1c1b-4a70-8a3b-3f1f5a1f6b02\","  \
    "\"slug\":\"acme-corp\",\"name\":\"Acme Corp\"},\"project\":{\"uuid\":"                        \
    "\"c1f6d1a8-8f0a-4f0e-b6a7-2d8f7f1a9c03\",\"slug\":\"website-support\",\"name\":"              \
    "\"Website Support\"},\"offering\":{\"uuid\":\"" WS_OFFERING "\",\"type\":\"csa\""

static void a_create_order_becomes_a_created_event(void **state)
{
    (void)state;
    struct waldur_event e;
    char reason[WALDUR_REASON_MAX] = "";
    assert_int_equal(translate(&setup, CREATE, "", &e, reason), WALDUR_TRANSLATED);
    assert_string_equal(e.type, "subscription.created");
    assert_string_equal(e.id, "order-" WS_ORDER_HEX "-created");
    assert_string_equal(e.source, "https://waldur.example");
    assert_string_equal(e.subscription_uuid, WS_RESOURCE);
    char time[CLOCK_TEXT_MAX];
    clock_format(time, e.time_us);
    assert_string_equal(time, "2026-11-21T10:00:00.500000Z");
    waldur_event_done(&e);
    becomes_with(&setup, CREATE, "",
                 HEAD ",\"flow_id\":\"customer-support-agent-v1\"},\"plan\":{\"tier\":\"pro\"},"
                      "\"capabilities\":[\"rag\"]}");
    const struct waldur_setup bare = {.type = "csa"};
    becomes_with(&bare, CREATE, "", HEAD "},\"plan\":{\"tier\":\"pro\"}}");
    /* The same resource again: another order, another event. */
    becomes_with(&bare, "\"type\":\"Restore\"," OWNERS "," OFFERING "," PLAN, "\"name\":\"my-ws\"",
                 HEAD "},\"plan\":{\"tier\":\"pro\"}}");
}

static void attributes_go_where_the_settings_say_and_nowhere_else(void **state)
{
    (void)state;
    becomes_with(
        &setup,
        CREATE ",\"limits\":{\"requests\":120},\"attributes\":{\"name\":\"my-ws\",\"password\":"
               "\"planted\",\"agent_name\":\"Ada\",\"max_turns\":4,\"strict\":true,\"tone\":null,"
               "\"number\":1,\"mode\":\"dedicated\",\"model\":\"text-embedding-3-small\",\"chunk\":"
               "\"512\",\"overlap\":50,\"until\":\"2027-01-01T00:00:00Z\",\"domains\":"
               "\"example.com, *.example.com ,,\",\"may\":[\"chat\"],\"greeting\":\"Hi!\"}",
        "",
        "{\"order_uuid\":\"" WS_ORDER "\",\"subscription\":{\"uuid\":\"" WS_RESOURCE
        "\",\"name\":\"my-ws\",\"id\":\"1\"},\"organization\":{\"uuid\":"
        "\"9d0e7a34-1c1b-4a70-8a3b-3f1f5a1f6b02\",\"slug\":\"acme-corp\",\"name\":\"Acme Corp\"},"
        "\"project\":{\"uuid\":\"c1f6d1a8-8f0a-4f0e-b6a7-2d8f7f1a9c03\",\"slug\":"
        "\"website-support\",\"name\":\"Website Support\"},\"offering\":{\"uuid\":\"" WS_OFFERING
        "\",\"type\":\"csa\",\"flow_id\":\"customer-support-agent-v1\"},\"plan\":{\"tier\":\"pro\"}"
        ","
        "\"capabilities\":[\"rag\"],\"api_key\":{\"rate_limit\":\"120/minute\",\"expires_at\":"
        "\"2027-01-01T00:00:00Z\",\"allowed_domains\":[\"example.com\",\"*.example.com\"],"
        "\"permissions\":[\"chat\"]},\"variables\":{\"agent_name\":\"Ada\",\"max_turns\":4,"
        "\"strict\":true,\"welcome_message\":\"Hi!\"},\"runtime\":{\"mode\":\"dedicated\"},"
        "\"knowledge_base\":{\"embedding_model\":\"text-embedding-3-small\",\"chunk_size\":512,"
        "\"chunk_overlap\":50}}");
    /* What an attribute says counts more than the limit. */
    const struct waldur_setup rated = {.type = "csa",
                                       .mappings = mappings,
                                       .n_mappings = ARRAY_LEN(mappings),
                                       .rate_component = "requests"};
    becomes_with(&rated,
                 CREATE ",\"limits\":{\"requests\":120},\"attributes\":{\"rate\":\"5/second\"}", "",
                 HEAD "},\"plan\":{\"tier\":\"pro\"},\"api_key\":{\"rate_limit\":\"5/second\"}}");
    /* An order that restores does not repeat them: the resource has them. */
    const struct waldur_setup named = {.type = "csa", .variables = variables, .n_variables = 2};
    becomes_with(&named,
                 "\"type\":\"Restore\"," OWNERS "," OFFERING "," PLAN
                 ",\"attributes\":{\"tone\":\"dry\"}",
                 "\"name\":\"my-ws\",\"attributes\":{\"tone\":\"warm\",\"agent_name\":\"Ada\"}",
                 HEAD "},\"plan\":{\"tier\":\"pro\"},\"variables\":{\"agent_name\":\"Ada\","
                      "\"tone\":\"dry\"}}");
}

static void an_attribute_of_the_wrong_kind_is_named(void **state)
{
    (void)state;
    static const struct {
        const char *attributes, *why;
    } cases[] = {
        {"{\"agent_name\":{}}", "\"agent_name\" has to be text, a number, true or false"},
        {"{\"tone\":[1]}", "\"tone\""},
        {"{\"number\":1.5}", "\"number\" has to be text or a whole number"},
        {"{\"chunk\":\"many\"}", "\"chunk\" has to be a whole number"},
        {"{\"chunk\":true}", "\"chunk\""},
        {"{\"domains\":[1]}", "\"domains\" has to be a list of texts"},
        {"{\"domains\":{}}", "\"domains\""},
        {"{\"greeting\":[]}", "\"greeting\""},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char order[2048];
        snprintf(order, sizeof(order), CREATE ",\"attributes\":%s", cases[i].attributes);
        refused_with(&setup, order, "", cases[i].why);
    }
    refused_with(&setup, CREATE ",\"limits\":{\"requests\":0}", "", "limit \"requests\"");
    refused_with(&setup, CREATE ",\"limits\":{\"requests\":1000000000}", "", "limit \"requests\"");
    const struct waldur_mapping odd = {"a", "plan.tier"};
    const struct waldur_setup wrong = {.type = "csa", .mappings = &odd, .n_mappings = 1};
    refused_with(&wrong, CREATE ",\"attributes\":{\"a\":\"enterprise\"}", "", "plan.tier");
}

static void members_are_known(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(mappings); i++) {
        assert_true(waldur_member_known(mappings[i].member));
    }
    static const char *const none[] = {
        "",        "variables", "variables.",           "plan.tier",
        "api_key", "api_key.",  "api_key.rate_limit.x", "key.rate_limit"};
    for (size_t i = 0; i < ARRAY_LEN(none); i++) {
        assert_false(waldur_member_known(none[i]));
    }
}

static void tier_is(const struct waldur_plan *plans, size_t n, const char *plan, const char *tier)
{
    const struct waldur_setup with = {.type = "csa", .plans = plans, .n_plans = n};
    char order[1024], reason[WALDUR_REASON_MAX] = "";
    struct waldur_event e;
    snprintf(order, sizeof(order), "\"type\":\"Create\"," OWNERS "," OFFERING "%s%s",
             plan[0] ? "," : "", plan);
    enum waldur_translation t = translate(&with, order, "", &e, reason);
    if (!tier) {
        assert_int_equal(t, WALDUR_UNTRANSLATABLE);
        assert_non_null(strstr(reason, "plan"));
        return;
    }
    assert_int_equal(t, WALDUR_TRANSLATED);
    char wanted[64];
    snprintf(wanted, sizeof(wanted), "\"plan\":{\"tier\":\"%s\"}", tier);
    assert_non_null(strstr(e.data, wanted));
    waldur_event_done(&e);
}

static void a_tier_is_mapped_or_named(void **state)
{
    (void)state;
    static const struct waldur_plan plans[] = {{"Large", "enterprise"},
                                               {WS_PLAN_HEX, "plus"},
                                               {"BBBBC1A8-8F0A-4F0E-B6A7-2D8F7F1A9CAA", "free"}};
    tier_is(plans, 3, "\"plan_uuid\":\"" WS_PLAN_HEX "\",\"plan_name\":\"Large\"", "plus");
    tier_is(plans, 3, "\"plan_uuid\":\"bbbbc1a88f0a4f0eb6a72d8f7f1a9caa\"", "free");
    tier_is(plans, 3, "\"plan_name\":\"Large\"", "enterprise");
    tier_is(plans, 3, "\"plan_name\":\"large\"", NULL); /* names are names */
    tier_is(plans, 3, "\"plan_name\":\"Pro\"", "pro");
    tier_is(NULL, 0, "\"plan_name\":\"ENTERPRISE\"", "enterprise");
    tier_is(NULL, 0, "\"plan_uuid\":\"" WS_PLAN_HEX "\",\"plan_name\":\"Professional\"", NULL);
    tier_is(NULL, 0, "", NULL);
    /* The resource's plan stands where the order tells none, and only there. */
    const struct waldur_setup with = {.type = "csa"};
    becomes_with(&with, "\"type\":\"Restore\"," OWNERS "," OFFERING,
                 "\"name\":\"my-ws\",\"plan_name\":\"Free\"",
                 HEAD "},\"plan\":{\"tier\":\"free\"}}");
    refused_with(&with, "\"type\":\"Create\"," OWNERS "," OFFERING ",\"plan_name\":\"Gold\"",
                 "\"plan_name\":\"Free\"", "waldur.plans");
}

static void slugs_may_be_empty_and_owners_may_not(void **state)
{
    (void)state;
    const struct waldur_setup with = {.type = "csa"};
    /* Waldur of 2024 tells slugs in the order alone; non-Latin names have none at all. */
    becomes_with(&with,
                 "\"type\":\"Create\",\"customer_uuid\":\"" WS_CUSTOMER_HEX
                 "\",\"customer_slug\":\"\",\"project_uuid\":\"" WS_PROJECT_HEX "\"," OFFERING
                 "," PLAN,
                 "\"customer_slug\":null,\"project_slug\":\"from-the-resource\"",
                 "{\"order_uuid\":\"" WS_ORDER "\",\"subscription\":{\"uuid\":\"" WS_RESOURCE
                 "\"},\"organization\":{\"uuid\":\"9d0e7a34-1c1b-4a70-8a3b-3f1f5a1f6b02\",\"slug\":"
                 "\"\"},\"project\":{\"uuid\":\"c1f6d1a8-8f0a-4f0e-b6a7-2d8f7f1a9c03\",\"slug\":"
                 "\"from-the-resource\"},\"offering\":{\"uuid\":\"" WS_OFFERING
                 "\",\"type\":\"csa\"},\"plan\":{\"tier\":\"pro\"}}");
    refused_with(&with, "\"type\":\"Create\"," OFFERING "," PLAN, "", "customer's UUID");
    refused_with(&with,
                 "\"type\":\"Create\",\"customer_uuid\":\"" WS_CUSTOMER_HEX "\"," OFFERING "," PLAN,
                 "", "project's UUID");
    refused_with(&with, "\"type\":\"Create\"," OWNERS "," PLAN, "", "offering's UUID");
    const struct waldur_setup none = {.type = NULL};
    refused_with(&none, CREATE, "", "under offerings");
    refused_with(&with, "\"type\":\"Migrate\"," OWNERS, "", "not known");
    struct waldur_order o = order_of(CREATE);
    struct waldur_resource r = resource_of("");
    struct waldur_event e;
    char reason[WALDUR_REASON_MAX] = "";
    o.created_us = -1;
    assert_int_equal(waldur_translate(URL, &with, &o, &r, &e, reason), WALDUR_UNTRANSLATABLE);
    assert_non_null(strstr(reason, "created"));
    waldur_order_done(&o);
    waldur_resource_done(&r);
}

static void a_terminate_order_needs_no_more_than_its_resource(void **state)
{
    (void)state;
    const struct waldur_setup none = {.type = NULL};
    char reason[WALDUR_REASON_MAX] = "";
    struct waldur_event e;
    struct event event;
    assert_int_equal(translate(&none, "\"type\":\"Terminate\"", "", &e, reason), WALDUR_TRANSLATED);
    assert_string_equal(e.type, "subscription.terminated");
    assert_string_equal(e.id, "order-" WS_ORDER_HEX "-terminated");
    assert_string_equal(e.data, "{\"order_uuid\":\"" WS_ORDER
                                "\",\"subscription\":{\"uuid\":\"" WS_RESOURCE "\"}}");
    is_event(&e, &event);
    assert_int_equal(event.type, EVENT_TERMINATED);
    event_done(&event);
    waldur_event_done(&e);
}

static void an_update_order_becomes_an_updated_event(void **state)
{
    (void)state;
    char reason[WALDUR_REASON_MAX] = "";
    struct waldur_event e;
    assert_int_equal(
        translate(&setup, "\"type\":\"Update\"," OWNERS "," OFFERING "," PLAN, "", &e, reason),
        WALDUR_TRANSLATED);
    assert_string_equal(e.type, "subscription.updated");
    assert_string_equal(e.id, "order-" WS_ORDER_HEX "-updated");
    assert_non_null(strstr(e.data, "\"tier\":\"pro\""));
    waldur_event_done(&e);
}

static void what_is_undone_is_terminated(void **state)
{
    (void)state;
    char reason[WALDUR_REASON_MAX] = "";
    struct waldur_event e;
    struct event event;
    assert_int_equal(waldur_translate_undone(URL, WS_ORDER, WS_RESOURCE, 1000000, &e, reason),
                     WALDUR_TRANSLATED);
    assert_string_equal(e.type, "subscription.terminated");
    assert_string_equal(e.id, "order-" WS_ORDER_HEX "-undone");
    is_event(&e, &event);
    assert_string_equal(event.order_uuid, WS_ORDER);
    event_done(&event);
    waldur_event_done(&e);
}

static void a_flag_becomes_suspended_or_resumed(void **state)
{
    (void)state;
    char reason[WALDUR_REASON_MAX] = "";
    struct waldur_event e;
    assert_int_equal(waldur_translate_paused(URL, WS_RESOURCE, true, 1700000000000001, &e, reason),
                     WALDUR_TRANSLATED);
    assert_string_equal(e.type, "subscription.suspended");
    assert_string_equal(e.id, "resource-" WS_RESOURCE_HEX "-1700000000000001-suspended");
    assert_string_equal(e.data, "{\"subscription\":{\"uuid\":\"" WS_RESOURCE "\"}}");
    waldur_event_done(&e);
    assert_int_equal(waldur_translate_paused(URL, WS_RESOURCE, false, 1700000000000001, &e, reason),
                     WALDUR_TRANSLATED);
    assert_string_equal(e.type, "subscription.resumed");
    waldur_event_done(&e);
}

static void a_source_is_no_more_than_the_server(void **state)
{
    (void)state;
    static const struct {
        const char *url, *source;
    } cases[] = {
        {"https://waldur.example/api", "https://waldur.example"},
        {"https://user:planted@waldur.example:8443/hidden/api?token=planted",
         "https://waldur.example:8443"},
        {"http://[::1]:8000/api", "http://[::1]:8000"},
        {"https://waldur.example", "https://waldur.example"},
        {"https://waldur.example/@odd/api", "https://waldur.example"},
        {"https:///api", NULL},
        {"", NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char reason[WALDUR_REASON_MAX] = "";
        struct waldur_event e = {.source = ""};
        enum waldur_translation t =
            waldur_translate_undone(cases[i].url, WS_ORDER, WS_RESOURCE, 0, &e, reason);
        assert_int_equal(t, cases[i].source ? WALDUR_TRANSLATED : WALDUR_UNTRANSLATABLE);
        assert_string_equal(e.source, cases[i].source ? cases[i].source : "");
        if (cases[i].source) {
            waldur_event_done(&e);
        }
    }
}

static void long_reasons_are_cut_at_a_character(void **state)
{
    (void)state;
    char order[1024], reason[WALDUR_REASON_MAX] = "", name[600] = "";
    const struct waldur_setup with = {.type = "csa"};
    struct waldur_event e;
    for (size_t i = 0; i < 125; i++) {
        snprintf(name + strlen(name), sizeof(name) - strlen(name), "%s", i ? "\u00e9" : "x");
    }
    snprintf(order, sizeof(order),
             "\"type\":\"Create\"," OWNERS "," OFFERING ",\"plan_name\":\"%s\"", name);
    assert_int_equal(translate(&with, order, "", &e, reason), WALDUR_UNTRANSLATABLE);
    assert_true(str_is_utf8(reason, strlen(reason)));
}

/* ---- words ---- */

static void buyers_read_our_words_alone(void **state)
{
    (void)state;
    char words[WALDUR_WORDS_MAX];
    for (int class = 0; class <= ERR_CLASS_MAX; class ++) {
        for (int type = 0; type <= WALDUR_TYPE_MAX; type++) {
            waldur_words_failed((enum waldur_order_type)type, (enum err_class) class, "a1b2-c3",
                                words);
            assert_non_null(strstr(words, "could not be"));
            assert_non_null(strstr(words, "reference a1b2-c3."));
            assert_null(strstr(words, "http"));
        }
        waldur_words_no_key((enum err_class) class, NULL, words);
        assert_non_null(strstr(words, "no new key"));
        assert_null(strstr(words, "reference"));
    }
    waldur_words_failed(WALDUR_TYPE_CREATE, ERR_UNAVAILABLE, NULL, words);
    assert_string_equal(words,
                        "The agent could not be set up. A service that it needs could not be "
                        "reached for too long. Ordering again later may help.");
    waldur_words_failed(WALDUR_TYPE_RESTORE, ERR_UNAUTHORIZED, "x", words);
    assert_string_equal(words,
                        "The agent could not be restored. The reason lies with the provider. "
                        "Support finds it under the reference x.");
}

static void a_reference_is_letters_digits_and_dashes(void **state)
{
    (void)state;
    char words[WALDUR_WORDS_MAX], most[WALDUR_REFERENCE_MAX + 1];
    waldur_words_failed(WALDUR_TYPE_CREATE, ERR_GONE, "<b>7\n%s-\xc3\xa9</b>", words);
    assert_non_null(strstr(words, "reference b7s-b."));
    waldur_words_failed(WALDUR_TYPE_CREATE, ERR_GONE, "<>", words);
    assert_null(strstr(words, "reference"));
    memset(most, '9', WALDUR_REFERENCE_MAX);
    most[WALDUR_REFERENCE_MAX] = '\0';
    char longer[200];
    memset(longer, '9', sizeof(longer) - 1);
    longer[sizeof(longer) - 1] = '\0';
    for (int class = 0; class <= ERR_CLASS_MAX; class ++) {
        waldur_words_failed(WALDUR_TYPE_UNKNOWN, (enum err_class) class, longer, words);
        assert_non_null(strstr(words, most));
        assert_int_equal(words[strlen(words) - 1], '.'); /* whole, whatever the class */
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_create_order_becomes_a_created_event),
        cmocka_unit_test(attributes_go_where_the_settings_say_and_nowhere_else),
        cmocka_unit_test(an_attribute_of_the_wrong_kind_is_named),
        cmocka_unit_test(members_are_known),
        cmocka_unit_test(a_tier_is_mapped_or_named),
        cmocka_unit_test(slugs_may_be_empty_and_owners_may_not),
        cmocka_unit_test(a_terminate_order_needs_no_more_than_its_resource),
        cmocka_unit_test(an_update_order_becomes_an_updated_event),
        cmocka_unit_test(what_is_undone_is_terminated),
        cmocka_unit_test(a_flag_becomes_suspended_or_resumed),
        cmocka_unit_test(a_source_is_no_more_than_the_server),
        cmocka_unit_test(long_reasons_are_cut_at_a_character),
        cmocka_unit_test(buyers_read_our_words_alone),
        cmocka_unit_test(a_reference_is_letters_digits_and_dashes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
