/*
 * What Waldur sends: both forms, their traps, and where and why each kind of malformed body is
 * refused. Bodies are as reference sources of Waldur make them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/str.h"
#include "waldur/hook.h"

#define ORDER     "7f3c1c1e-5b1d-4c1e-9c55-0f6f0a2b8a11"
#define ORDER_HEX "7f3c1c1e5b1d4c1e9c550f6f0a2b8a11"
#define SUB       "2f1c9a52-6a0e-4c55-8f1e-5d2f0c9b7a01"
#define SUB_HEX   "2f1c9a526a0e4c558f1e5d2f0c9b7a01"
#define OTHER     "99999999-6a0e-4c55-8f1e-5d2f0c9b7a99"
#define OTHER_HEX "999999996a0e4c558f1e5d2f0c9b7a99"

#define CREATED                "\"created\":\"2024-10-25T10:00:00+00:00\",\"message\":\"m\","
#define WEBHOOK(type, context) "{" CREATED "\"event_type\":\"" type "\",\"context\":{" context "}}"
#define APPROVED(context)      WEBHOOK("marketplace_order_approved", context)
#define ORDER_GIVEN            "\"order_uuid\":\"" ORDER_HEX "\""

/* Decoded from an exact copy, so that a read past the end is seen. */
static int decode(const char *body, size_t n, struct hook *h, struct json_fault *fault)
{
    char *copy = malloc(n ? n : 1);
    assert_non_null(copy);
    memcpy(copy, body, n);
    int rc = hook_decode(copy, n, h, fault);
    free(copy);
    return rc;
}

static struct hook taken(const char *body)
{
    struct json_fault fault;
    struct hook h;
    if (decode(body, strlen(body), &h, &fault)) {
        fail_msg("%s: %s %s", body, fault.pointer, fault.reason);
    }
    return h;
}

static void refused(const char *body, const char *pointer, const char *reason)
{
    struct json_fault fault;
    struct hook h, before;
    memset(&h, 0x5a, sizeof(h));
    memcpy(&before, &h, sizeof(h));
    assert_int_equal(decode(body, strlen(body), &h, &fault), -1);
    assert_string_equal(fault.pointer, pointer);
    assert_string_equal(fault.reason, reason);
    assert_false(fault.internal);
    assert_memory_equal(&h, &before, sizeof(h));
}

static void a_webhook_is_read_whole(void **state)
{
    (void)state;
    struct hook h = taken(
        "{\"created\":\"2024-10-25T10:00:00.5+02:00\",\"message\":\"Marketplace order has been "
        "approved.\",\"event_type\":\"marketplace_order_approved\",\"context\":{"
        "\"ip_address\":\"10.0.0.1\",\"user_uuid\":\"" OTHER_HEX "\",\"user_is_staff\":\"False\","
        "\"order_uuid\":\"" ORDER_HEX "\",\"order_cost\":10.0,\"order_limits\":{},"
        "\"order_attributes\":{\"name\":\"my-ws\",\"order_uuid\":1},"
        "\"order_get_state_display\":\"executing\",\"order_get_type_display\":\"Create\","
        "\"order_provider_reviewed_by\":\"None\",\"offering_uuid\":\"" OTHER_HEX "\","
        "\"plan_uuid\":\"None\",\"resource_uuid\":\"" SUB_HEX "\",\"resource_backend_uuid\":"
        "\"None\",\"project_uuid\":\"" OTHER "\",\"project_end_date\":\"None\","
        "\"customer_uuid\":\"None\"}}");
    assert_int_equal(h.kind, HOOK_ORDER_APPROVED);
    assert_int_equal(h.order_type, WALDUR_TYPE_CREATE);
    assert_int_equal(h.order_state, WALDUR_ORDER_EXECUTING);
    assert_string_equal(h.order_uuid, ORDER);
    assert_string_equal(h.resource_uuid, SUB);
    assert_string_equal(h.offering_uuid, OTHER);
    assert_string_equal(h.project_uuid, OTHER);
    assert_string_equal(h.customer_uuid, "");
    assert_string_equal(h.api_key_uuid, "");
    assert_true(h.created_us == INT64_C(1729843200500000));
}

static void events_are_told_apart(void **state)
{
    (void)state;
    static const struct {
        const char *type;
        enum hook_kind kind;
    } events[] = {{"marketplace_order_created", HOOK_ORDER_MOVED},
                  {"marketplace_order_approved", HOOK_ORDER_APPROVED},
                  {"marketplace_order_rejected", HOOK_ORDER_CLOSED},
                  {"marketplace_order_completed", HOOK_ORDER_CLOSED},
                  {"marketplace_order_terminated", HOOK_ORDER_CLOSED},
                  {"marketplace_order_failed", HOOK_ORDER_CLOSED},
                  {"marketplace_order_unlinked", HOOK_UNLINKED},
                  {"marketplace_resource_create_requested", HOOK_RESOURCE_REQUESTED},
                  {"marketplace_resource_terminate_requested", HOOK_RESOURCE_REQUESTED},
                  {"marketplace_resource_terminate_succeeded", HOOK_RESOURCE_CHANGED},
                  {"marketplace_resource_update_limits_failed", HOOK_RESOURCE_CHANGED},
                  {"marketplace_resource_paused", HOOK_RESOURCE_CHANGED},
                  {"marketplace_resource_unlinked", HOOK_UNLINKED},
                  {"marketplace_resource_api_key_revealed", HOOK_OTHER},
                  {"marketplace_order_", HOOK_OTHER},
                  {"marketplace_order_approved2", HOOK_OTHER},
                  {"Marketplace_order_approved", HOOK_OTHER},
                  {"project_creation_succeeded", HOOK_OTHER}};
    for (size_t i = 0; i < ARRAY_LEN(events); i++) {
        char body[512];
        snprintf(body, sizeof(body),
                 "{" CREATED "\"event_type\":\"%s\",\"context\":{" ORDER_GIVEN
                 ",\"resource_uuid\":\"" SUB "\"}}",
                 events[i].type);
        struct hook h = taken(body);
        if (h.kind != events[i].kind) {
            fail_msg("%s is kind %d", events[i].type, (int)h.kind);
        }
        assert_string_equal(h.order_uuid, h.kind == HOOK_OTHER ? "" : ORDER);
    }
}

/* Other events' members are theirs, whatever they are called. */
static void what_is_not_ours_is_not_looked_into(void **state)
{
    (void)state;
    struct hook h = taken(WEBHOOK("user_creation_succeeded", "\"order_uuid\":[],\"x\":{\"y\":1}"));
    assert_int_equal(h.kind, HOOK_OTHER);
    h = taken("{\"object_type\":\"offering_user\",\"order_uuid\":17}");
    assert_int_equal(h.kind, HOOK_OTHER);
    assert_true(h.created_us == -1);
}

static void a_message_is_read_whole(void **state)
{
    (void)state;
    struct hook h = taken(
        "{\"schema_version\":1,\"order_uuid\":\"" ORDER_HEX
        "\",\"order_state\":\"pending provider\",\"offering_uuid\":\"" OTHER_HEX
        "\",\"object_type\":\"order\",\"order_type\":\"Terminate\",\"resource_uuid\":\"" SUB_HEX
        "\",\"resource_backend_id\":\"\",\"resource_name\":\"ws\",\"project_uuid\":\"" OTHER_HEX
        "\",\"attributes\":{\"deep\":[[1]]},\"limits\":{},\"plan_uuid\":null}");
    assert_int_equal(h.kind, HOOK_ORDER_MOVED);
    assert_int_equal(h.order_type, WALDUR_TYPE_TERMINATE);
    assert_int_equal(h.order_state, WALDUR_ORDER_PENDING_PROVIDER);
    assert_string_equal(h.order_uuid, ORDER);
    assert_string_equal(h.resource_uuid, SUB);
    assert_string_equal(h.offering_uuid, OTHER);
    assert_string_equal(h.project_uuid, OTHER);
    assert_string_equal(h.customer_uuid, "");
    assert_true(h.created_us == -1);
}

static void messages_are_told_apart(void **state)
{
    (void)state;
    static const struct {
        const char *body;
        enum hook_kind kind;
        enum waldur_order_state state;
    } messages[] = {
        /* the older form */
        {"{" ORDER_GIVEN ",\"order_state\":\"executing\"}", HOOK_ORDER_APPROVED,
         WALDUR_ORDER_EXECUTING},
        {"{" ORDER_GIVEN ",\"order_state\":\"Pending-Consumer\",\"sequence_number\":3}",
         HOOK_ORDER_MOVED, WALDUR_ORDER_PENDING_CONSUMER},
        {"{" ORDER_GIVEN ",\"order_state\":\"done\"}", HOOK_ORDER_CLOSED, WALDUR_ORDER_DONE},
        {"{" ORDER_GIVEN ",\"order_state\":\"erred\"}", HOOK_ORDER_CLOSED, WALDUR_ORDER_ERRED},
        {"{" ORDER_GIVEN ",\"order_state\":\"canceled\"}", HOOK_ORDER_CLOSED,
         WALDUR_ORDER_CANCELED},
        {"{" ORDER_GIVEN ",\"order_state\":\"rejected\"}", HOOK_ORDER_CLOSED,
         WALDUR_ORDER_REJECTED},
        {"{" ORDER_GIVEN ",\"order_state\":\"pending start_date\"}", HOOK_ORDER_MOVED,
         WALDUR_ORDER_PENDING_START_DATE},
        {"{" ORDER_GIVEN ",\"order_state\":\"a state of another year, and a long one\"}",
         HOOK_ORDER_MOVED, WALDUR_ORDER_UNKNOWN},
        {"{" ORDER_GIVEN "}", HOOK_ORDER_MOVED, WALDUR_ORDER_UNKNOWN},
        {"{\"object_type\":\"resource\",\"resource_uuid\":\"" SUB "\",\"resource_state\":\"OK\"}",
         HOOK_RESOURCE_CHANGED, WALDUR_ORDER_UNKNOWN},
        {"{\"resource_uuid\":\"" SUB "\"}", HOOK_RESOURCE_CHANGED, WALDUR_ORDER_UNKNOWN},
        {"{\"action\":\"rotate\",\"resource_uuid\":\"" SUB "\",\"resource_backend_id\":\"b\","
         "\"api_key_uuid\":\"" OTHER_HEX "\",\"client_id\":\"c\"}",
         HOOK_KEY_ROTATION, WALDUR_ORDER_UNKNOWN},
        {"{\"object_type\":\"resource_api_key_rotation\",\"resource_uuid\":\"" SUB "\"}",
         HOOK_KEY_ROTATION, WALDUR_ORDER_UNKNOWN},
        /* an event_type may stand beside */
        {"{\"object_type\":\"order\",\"event_type\":7," ORDER_GIVEN "}", HOOK_ORDER_MOVED,
         WALDUR_ORDER_UNKNOWN},
    };
    for (size_t i = 0; i < ARRAY_LEN(messages); i++) {
        struct hook h = taken(messages[i].body);
        if (h.kind != messages[i].kind || h.order_state != messages[i].state) {
            fail_msg("%s: kind %d, state %d", messages[i].body, (int)h.kind, (int)h.order_state);
        }
    }
    assert_string_equal(taken(messages[11].body).api_key_uuid, OTHER);
    /* and a context makes a webhook of it, whatever else is there */
    struct hook h =
        taken("{" CREATED "\"event_type\":\"marketplace_order_approved\",\"order_uuid\":"
              "\"" OTHER "\",\"context\":{" ORDER_GIVEN "}}");
    assert_int_equal(h.kind, HOOK_ORDER_APPROVED);
    assert_string_equal(h.order_uuid, ORDER);
}

static void types_are_told_apart(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        enum waldur_order_type type;
    } types[] = {{"\"Create\"", WALDUR_TYPE_CREATE},
                 {"\"UPDATE\"", WALDUR_TYPE_UPDATE},
                 {"\"Terminate\"", WALDUR_TYPE_TERMINATE},
                 {"\"restore\"", WALDUR_TYPE_RESTORE},
                 {"\"None\"", WALDUR_TYPE_UNKNOWN},
                 {"\"Creates\"", WALDUR_TYPE_UNKNOWN},
                 {"null", WALDUR_TYPE_UNKNOWN},
                 {"\"\"", WALDUR_TYPE_UNKNOWN}};
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        char body[512];
        snprintf(body, sizeof(body), APPROVED(ORDER_GIVEN ",\"order_get_type_display\":%s"),
                 types[i].text);
        assert_int_equal(taken(body).order_type, types[i].type);
    }
}

static void refusals_name_the_member(void **state)
{
    (void)state;
    static const char uuid[] = "must be a UUID, with or without dashes";
    refused("", "", "is empty; an event in JSON was expected");
    refused("[]", "", "must be an object");
    refused("{}", "/event_type", "is required");
    refused("{\"event_type\":null}", "/event_type", "is required");
    refused("{\"event_type\":1}", "/event_type", "must be a string");
    refused("{" CREATED "\"event_type\":\"x\"}", "/context", "is required");
    refused("{" CREATED "\"event_type\":\"x\",\"context\":\"order_uuid\"}", "/context",
            "must be an object; the hook's content type in Waldur has to be json");
    refused("{\"event_type\":\"x\",\"context\":{}}", "/created", "is required");
    refused("{\"event_type\":\"x\",\"context\":{},\"created\":1729850400}", "/created",
            "must be a string");
    refused("{\"event_type\":\"x\",\"context\":{},\"created\":\"2024-10-25T10:00:00\"}", "/created",
            "must be a date and time with an offset (RFC 3339)");
    refused(APPROVED(""), "/context/order_uuid", "is required");
    refused(APPROVED("\"order_uuid\":\"None\""), "/context/order_uuid", "is required");
    refused(APPROVED("\"order_uuid\":\"none\""), "/context/order_uuid", uuid);
    refused(APPROVED("\"order_uuid\":7"), "/context/order_uuid", "must be a string");
    refused(APPROVED(ORDER_GIVEN ",\"resource_uuid\":\"" SUB "0\""), "/context/resource_uuid",
            uuid);
    refused(APPROVED(ORDER_GIVEN ",\"order_get_type_display\":[]"),
            "/context/order_get_type_display", "must be a string");
    refused(WEBHOOK("marketplace_resource_paused", ORDER_GIVEN), "/context/resource_uuid",
            "is required");
    refused(WEBHOOK("marketplace_resource_unlinked", ""), "/context/resource_uuid", "is required");
    refused("{\"object_type\":\"order\"}", "/order_uuid", "is required");
    refused("{\"object_type\":3}", "/object_type", "must be a string");
    refused("{\"object_type\":\"resource\"," ORDER_GIVEN "}", "/resource_uuid", "is required");
    refused("{\"api_key_uuid\":\"" OTHER "\"," ORDER_GIVEN "}", "/resource_uuid", "is required");
    refused("{" ORDER_GIVEN ",\"order_state\":{}}", "/order_state", "must be a string");
    refused("{" ORDER_GIVEN ",\"offering_uuid\":\"x\"}", "/offering_uuid", uuid);
}

static void bounds_are_kept(void **state)
{
    (void)state;
    struct json_fault fault;
    struct hook h;
    struct buf b;
    buf_init(&b, 2 * HOOK_BYTES_MAX);
    /* As large as may be, nearly all of it one attribute. */
    buf_adds(&b, "{" ORDER_GIVEN ",\"attributes\":\"");
    while (b.len < HOOK_BYTES_MAX - 2) {
        buf_addc(&b, 'x');
    }
    buf_adds(&b, "\"}");
    assert_int_equal(b.len, HOOK_BYTES_MAX);
    assert_int_equal(decode(buf_str(&b), b.len, &h, &fault), 0);
    buf_addc(&b, ' ');
    assert_int_equal(decode(buf_str(&b), b.len, &h, &fault), -1);
    assert_string_equal(fault.pointer, "");
    buf_reset(&b);
    for (int depth = HOOK_DEPTH_MAX; depth <= HOOK_DEPTH_MAX + 1; depth++) {
        buf_reset(&b);
        buf_adds(&b, "{" ORDER_GIVEN ",\"a\":");
        for (int i = 1; i < depth; i++) {
            buf_addc(&b, '[');
        }
        for (int i = 1; i < depth; i++) {
            buf_addc(&b, ']');
        }
        buf_addc(&b, '}');
        assert_int_equal(decode(buf_str(&b), b.len, &h, &fault), depth == HOOK_DEPTH_MAX ? 0 : -1);
    }
    buf_done(&b);
    /* What a form-encoded hook sends. */
    static const char form[] = "created=2024-10-25&context=ip_address&context=order_uuid";
    assert_int_equal(decode(form, strlen(form), &h, &fault), -1);
    assert_string_equal(fault.pointer, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_webhook_is_read_whole),
        cmocka_unit_test(events_are_told_apart),
        cmocka_unit_test(what_is_not_ours_is_not_looked_into),
        cmocka_unit_test(a_message_is_read_whole),
        cmocka_unit_test(messages_are_told_apart),
        cmocka_unit_test(types_are_told_apart),
        cmocka_unit_test(refusals_name_the_member),
        cmocka_unit_test(bounds_are_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
