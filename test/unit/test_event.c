/*
 * Decoding of events: both modes, what is kept, and where and why each kind of malformed message is
 * refused.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "event/event.h"

#define TRACE "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
#define SUB   "2f1c9a52-6a0e-4c55-8f1e-5d2f0c9b7a01"
#define ORDER "7f3c1c1e-5b1d-4c1e-9c55-0f6f0a2b8a11"

#define TERMINATED_DATA                                                                            \
    "{\"order_uuid\":\"7F3C1C1E5B1D4C1E9C550F6F0A2B8A11\",\"subscription\":{\"uuid\":\"" SUB       \
    "\",\"extra\":1},\"extra\":{}}"
#define NORMAL_DATA "{\"order_uuid\":\"" ORDER "\",\"subscription\":{\"uuid\":\"" SUB "\"}}"
#define STRUCTURED(attributes, data)                                                               \
    "{\"specversion\":\"1.0\",\"id\":\"e1\",\"source\":\"/w\"," attributes "\"data\":" data "}"
#define TERMINATED(attributes, data)                                                               \
    STRUCTURED("\"type\":\"subscription.terminated\"," attributes, data)
#define CREATED(data) STRUCTURED("\"type\":\"subscription.created\",", data)

#define HEADER(n, v)                                                                               \
    {                                                                                              \
        .name = (n), .value = (v), .len = sizeof(v) - 1                                            \
    }

static const struct event_header binary[] = {
    HEADER("ce_specversion", "1.0"),
    HEADER("ce_id", "e1"),
    HEADER("CE_Source", "/w"),
    HEADER("ce_type", "subscription.terminated"),
    HEADER("Content-Type", "application/json; charset=utf-8"),
    HEADER("ce_time", "2026-11-21T10:00:00Z"),
};
enum { N_BINARY = ARRAY_LEN(binary) };

/* Decoded from an exact copy, so that a read past the end is seen. */
static int decode(const char *body, size_t n, const struct event_header *h, size_t n_h,
                  struct event *e, struct json_fault *fault)
{
    char *copy = malloc(n ? n : 1);
    assert_non_null(copy);
    if (n)
        memcpy(copy, body, n);
    int rc = event_decode(body ? copy : NULL, n, h, n_h, 77, e, fault);
    free(copy);
    return rc;
}

static void refused_with(const char *body, size_t n, const struct event_header *h, size_t n_h,
                         const char *pointer, const char *reason)
{
    struct event e;
    struct event before;
    struct json_fault fault;
    memset(&e, 0x5a, sizeof(e));
    memcpy(&before, &e, sizeof(e));
    assert_int_equal(decode(body, n, h, n_h, &e, &fault), -1);
    assert_string_equal(fault.pointer, pointer);
    assert_string_equal(fault.reason, reason);
    assert_false(fault.internal);
    assert_memory_equal(&e, &before, sizeof(e));
}

static void refused(const char *body, const char *pointer, const char *reason)
{
    refused_with(body, strlen(body), NULL, 0, pointer, reason);
}

static void taken(const char *body, const struct event_header *h, size_t n_h, struct event *e)
{
    struct json_fault fault;
    int rc = decode(body, strlen(body), h, n_h, e, &fault);
    if (rc != 0)
        print_message("%s %s\n", fault.pointer, fault.reason);
    assert_int_equal(rc, 0);
}

static void test_structured(void **state)
{
    (void)state;
    static const char body[] = TERMINATED(
        "\"time\":\"2026-11-21T11:00:00.5+01:00\",\"traceparent\":\"" TRACE "\",", TERMINATED_DATA);
    static const struct event_header with_type[] = {
        HEADER("content-type", "Application/CloudEvents+JSON ; charset=UTF-8"),
        HEADER("ce_id", "other")};
    for (size_t n = 0; n <= ARRAY_LEN(with_type); n += ARRAY_LEN(with_type)) {
        struct event e;
        taken(body, with_type, n, &e);
        assert_int_equal(e.type, EVENT_TERMINATED);
        assert_string_equal(e.id, "e1");
        assert_string_equal(e.source, "/w");
        assert_true(e.time_us == 1795255200500000);
        assert_string_equal(e.traceparent, TRACE);
        assert_string_equal(e.order_uuid, ORDER);
        assert_string_equal(e.subscription_uuid, SUB);
        assert_string_equal(e.organization_uuid, "");
        assert_string_equal(e.data, NORMAL_DATA);
        event_done(&e);
        assert_null(e.data);
    }
}

static void test_binary(void **state)
{
    (void)state;
    struct event e;
    taken(TERMINATED_DATA, binary, N_BINARY, &e);
    assert_int_equal(e.type, EVENT_TERMINATED);
    assert_string_equal(e.id, "e1");
    assert_string_equal(e.source, "/w");
    assert_true(e.time_us == 1795255200000000);
    assert_string_equal(e.data, NORMAL_DATA);
    event_done(&e);
}

static void test_created(void **state)
{
    (void)state;
    static const char party[] = "{\"uuid\":\"2F1C9A526A0E4C558F1E5D2F0C9B7A01\",\"slug\":\"\"}";
    char body[2048];
    struct event e;
    snprintf(
        body, sizeof(body),
        CREATED(
            "{\"order_uuid\":\"" ORDER "\",\"subscription\":{\"uuid\":\"" SUB
            "\"},\"organization\":%s,"
            "\"project\":%s,\"offering\":{\"uuid\":\"" SUB
            "\",\"type\":\"csa\"},\"plan\":{\"tier\":\"pro\"},"
            "\"variables\":{\"any\":1.5,\"thing\":null},\"knowledge_base\":{\"chunk_size\":1e3}}"),
        party, party);
    taken(body, NULL, 0, &e);
    assert_int_equal(e.type, EVENT_CREATED);
    assert_string_equal(e.organization_uuid, SUB);
    assert_true(e.time_us == 77);
    assert_non_null(strstr(e.data, "\"organization\":{\"uuid\":\"" SUB "\",\"slug\":\"\"}"));
    assert_non_null(strstr(e.data, "\"variables\":{\"any\":1.5,\"thing\":null}"));
    assert_non_null(strstr(e.data, "\"chunk_size\":1000}"));
    event_done(&e);
}

static void test_changes(void **state)
{
    (void)state;
    static const struct {
        const char *type;
        enum event_type as;
    } rows[] = {{"suspended", EVENT_SUSPENDED}, {"resumed", EVENT_RESUMED}};
    char body[512];
    struct event e;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        snprintf(body, sizeof(body), STRUCTURED("\"type\":\"subscription.%s\",", "%s"),
                 rows[i].type, NORMAL_DATA);
        taken(body, NULL, 0, &e);
        assert_int_equal(e.type, rows[i].as);
        assert_string_equal(e.data, NORMAL_DATA);
        assert_string_equal(e.organization_uuid, "");
        event_done(&e);
        snprintf(body, sizeof(body), STRUCTURED("\"type\":\"subscription.%s\",", "%s"),
                 rows[i].type,
                 "{\"order_uuid\":\"" ORDER "\",\"subscription\":{\"uuid\":\"" SUB
                 "\"},\"reason\":\"unpaid\",\"plan\":{\"tier\":7}}");
        taken(body, NULL, 0, &e);
        assert_non_null(strstr(e.data, "\"reason\":\"unpaid\"}"));
        event_done(&e);
    }
    /* An update tells all that a creation tells. */
    refused(STRUCTURED("\"type\":\"subscription.updated\",", NORMAL_DATA), "/data/organization",
            "is required");
    refused(STRUCTURED("\"type\":\"subscription.suspended\",",
                       "{\"order_uuid\":\"" ORDER "\",\"subscription\":{\"uuid\":\"" SUB
                       "\"},\"reason\":7}"),
            "/data/reason", "must be a string or null");
}

/* CloudEvents' JSON format: an attribute that is null is one that is absent. */
static void test_null_attributes(void **state)
{
    (void)state;
    static const struct event_header headers[] = {HEADER("ce_specversion", "1.0"),
                                                  HEADER("ce_id", "e1"),
                                                  HEADER("ce_source", "/w"),
                                                  HEADER("ce_type", "subscription.terminated"),
                                                  {.name = "ce_time"},
                                                  {.name = "content-type"}};
    struct event e;
    taken(
        TERMINATED("\"time\":null,\"subject\":null,\"traceparent\":null,\"datacontenttype\":null,",
                   NORMAL_DATA),
        NULL, 0, &e);
    assert_true(e.time_us == 77);
    event_done(&e);
    taken(NORMAL_DATA, headers, ARRAY_LEN(headers), &e);
    assert_true(e.time_us == 77);
    event_done(&e);
    refused(STRUCTURED("\"type\":null,", NORMAL_DATA), "/type", "must be a string");
}

static void expect_trace(const char *extension, const char *header, const char *want)
{
    char body[1024];
    struct event e;
    const struct event_header h = {"traceparent", header, header ? strlen(header) : 0};
    snprintf(body, sizeof(body), TERMINATED("\"traceparent\":\"%s\",", NORMAL_DATA), extension);
    taken(body, &h, header ? 1 : 0, &e);
    assert_string_equal(e.traceparent, want);
    event_done(&e);
}

static void test_traceparent(void **state)
{
    (void)state;
    static const char other[] = "00-00000000000000000000000000000001-0000000000000001-00";
    expect_trace(TRACE, other, TRACE);
    expect_trace("", other, other);
    expect_trace("broken", NULL, "");
    expect_trace(TRACE "-more", NULL, "");
    expect_trace("cc"
                 "-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
                 NULL, TRACE);
    expect_trace("cc"
                 "-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01more",
                 NULL, "");
    expect_trace("ff"
                 "-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
                 NULL, "");
    expect_trace("00-4BF92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", NULL, "");
    expect_trace("00-00000000000000000000000000000000-00f067aa0ba902b7-01", NULL, "");
    expect_trace("00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", NULL, "");
    expect_trace("00-4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7-01", NULL, "");
    expect_trace("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0", NULL, "");
}

static void test_not_json(void **state)
{
    (void)state;
    refused("", "", "is empty; an event in JSON was expected");
    refused_with(NULL, 0, NULL, 0, "", "is empty; an event in JSON was expected");
    refused("{", "", "the document ends too early, at byte 1");
    refused("hello", "", "expected a value, at byte 0");
    refused("[]", "", "must be an object");
    refused("\"x\"", "", "must be an object");
    refused("{\"id\":01}", "", "expected ',' or '}', at byte 7");
    refused("{\"id\":\"\xff\"}", "/id", "invalid UTF-8, at byte 7");
    refused("{\"id\":\"\xed\xa0\x80\"}", "/id", "invalid UTF-8, at byte 7");
    refused("{\"id\":\"\\ud800\"}", "/id", "a lone surrogate in a string, at byte 7");
    refused("{\"id\":\"a\\u0000b\"}", "/id", "a NUL character in a string, at byte 8");
    refused_with("{\"id\":\"\0\"}", 10, NULL, 0, "/id",
                 "a raw control character in a string, at byte 7");
    refused_with("{}\0", 3, NULL, 0, "", "something follows the document, at byte 2");
    refused("{\"data\":{\"plan\":{\"tier\":\"pro\",\"t\\u0069er\":\"free\"}}}", "/data/plan/tier",
            "a member that occurs twice, at byte 30");
}

static char *filled(const char *head, size_t n, const char *piece, size_t *len)
{
    const size_t used = strlen(head), step = strlen(piece);
    char *text = malloc(used + n * step + 1);
    assert_non_null(text);
    memcpy(text, head, used);
    for (size_t i = 0; i < n; i++)
        memcpy(text + used + i * step, piece, step);
    *len = used + n * step;
    text[*len] = '\0';
    return text;
}

static void test_too_much(void **state)
{
    (void)state;
    size_t n;
    char *body = filled("{\"x\":\"", 5 * 1024 * 1024 - 6, "a", &n);
    refused_with(body, n, NULL, 0, "", "is 5242880 bytes; at most 1048576 are taken");
    refused_with(body, n, binary, N_BINARY, "", "is 5242880 bytes; at most 1048576 are taken");
    free(body);
    /* 32 levels are taken, counted from the event, in both modes. */
    body = filled("", 10000, "[", &n);
    refused_with(body, n, NULL, 0,
                 "/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0",
                 "nested too deeply, at byte 32");
    refused_with(body, n, binary, N_BINARY,
                 "/data/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0",
                 "nested too deeply, at byte 31");
    free(body);
    body = filled("", 10000, "{\"a\":", &n);
    refused_with(body, n, NULL, 0,
                 "/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a",
                 "nested too deeply, at byte 160");
    free(body);
}

/* The longest message that is taken: an unknown member may fill it. */
static void test_a_whole_mebibyte(void **state)
{
    (void)state;
    size_t n;
    static const char head[] = TERMINATED("", NORMAL_DATA);
    char *text = filled("", EVENT_BYTES_MAX + 1, "a", &n);
    struct event e;
    struct json_fault fault;
    memcpy(text, head, sizeof(head) - 2);
    /* In the middle and at the end of a longer text.
     * NOLINTBEGIN(bugprone-not-null-terminated-result) */
    memcpy(text + sizeof(head) - 2, ",\"x\":\"", 6);
    memcpy(text + n - 3, "\"} ", 3);
    /* NOLINTEND(bugprone-not-null-terminated-result) */
    refused_with(text, n, NULL, 0, "", "is 1048577 bytes; at most 1048576 are taken");
    assert_int_equal(decode(text, n - 1, NULL, 0, &e, &fault), 0);
    assert_string_equal(e.data, NORMAL_DATA);
    event_done(&e);
    free(text);
}

static void test_types_and_members(void **state)
{
    (void)state;
    refused("{}", "/type", "is required");
    refused("{\"type\":7}", "/type", "must be a string");
    refused(STRUCTURED("\"type\":\"subscription.vanished\",", "{}"), "/type",
            "is unknown; known are subscription.created, subscription.updated, "
            "subscription.suspended, subscription.resumed, subscription.terminated");
    refused("{\"type\":\"subscription.created\"}", "/specversion", "is required");
    refused("{\"type\":\"subscription.created\",\"specversion\":\"0.3\",\"id\":\"\",\"source\":"
            "\"\",\"data\":7}",
            "/specversion", "must be \"1.0\"");
    refused("{\"type\":\"subscription.created\",\"specversion\":\"1.0\",\"id\":\"\",\"source\":"
            "\"\",\"data\":7}",
            "/id", "must have at least 1 character");
    refused(STRUCTURED("\"type\":\"subscription.created\",", "7"), "/data", "must be an object");
    refused(CREATED("{}"), "/data/order_uuid", "is required");
    refused(CREATED(NORMAL_DATA), "/data/organization", "is required");
    refused(TERMINATED("", "{\"order_uuid\":\"" ORDER "\",\"subscription\":{}}"),
            "/data/subscription/uuid", "is required");
    refused(TERMINATED("", "{\"order_uuid\":\"" ORDER "\",\"subscription\":[]}"),
            "/data/subscription", "must be an object");
    refused(TERMINATED("", "{\"order_uuid\":\"nonsense\",\"subscription\":{}}"), "/data/order_uuid",
            "is not a valid UUID");
    refused(TERMINATED("\"time\":\"yesterday\",", NORMAL_DATA), "/time",
            "is not a valid date-time such as 2026-11-21T10:00:00Z");
    refused(TERMINATED("\"time\":7,", NORMAL_DATA), "/time", "must be a string or null");
    refused(TERMINATED("\"datacontenttype\":\"text/xml\",", NORMAL_DATA), "/datacontenttype",
            "is not a valid JSON media type");
}

#define WHOLE(extra)                                                                               \
    CREATED("{\"order_uuid\":\"" ORDER "\",\"subscription\":{\"uuid\":\"" SUB                      \
            "\"},\"organization\":{\"uuid\":\"" SUB                                                \
            "\",\"slug\":\"o\"},\"project\":{\"uuid\":\"" SUB                                      \
            "\",\"slug\":\"p\"},\"offering\":{\"uuid\":\"" SUB                                     \
            "\",\"type\":\"csa\"},\"plan\":{\"tier\":\"pro\"}," extra "}")

static void test_values(void **state)
{
    (void)state;
    struct event e;
    taken(WHOLE("\"unknown\":1"), NULL, 0, &e);
    event_done(&e);
    refused(WHOLE("\"capabilities\":[\"rag\",7]"), "/data/capabilities/1", "must be a string");
    refused(WHOLE("\"variables\":{\"a/b\":[]}"), "/data/variables/a~1b",
            "must be a string, a number, true or false or null");
    refused(WHOLE("\"variables\":{\"n\":9007199254740993}"), "/data/variables/n",
            "must be at most 9007199254740991");
    refused(WHOLE("\"knowledge_base\":{\"chunk_size\":0}"), "/data/knowledge_base/chunk_size",
            "must be at least 1");
    refused(WHOLE("\"knowledge_base\":{\"chunk_size\":1.5}"), "/data/knowledge_base/chunk_size",
            "must be an integer");
    refused(WHOLE("\"api_key\":{\"rate_limit\":\"many\"}"), "/data/api_key/rate_limit",
            "is not a valid rate such as 100/minute");
    refused(WHOLE("\"api_key\":{\"allowed_domains\":[\"https://a.example\"]}"),
            "/data/api_key/allowed_domains/0", "is not a valid host name or *.host name");
    refused(WHOLE("\"runtime\":{\"mode\":\"cloud\"}"), "/data/runtime/mode",
            "must be one of \"shared\", \"dedicated\"");
}

static void refused_binary(const struct event_header *extra, const char *body, const char *pointer,
                           const char *reason)
{
    struct event_header headers[N_BINARY + 1];
    memcpy(headers, binary, sizeof(binary));
    headers[N_BINARY] = *extra;
    refused_with(body, strlen(body), headers, N_BINARY + 1, pointer, reason);
}

static void test_binary_faults(void **state)
{
    (void)state;
    static const struct event_header twice = HEADER("CE_ID", "e2"),
                                     type = HEADER("content-type", "application/json"),
                                     data = HEADER("ce_data", "x"),
                                     latin = HEADER("ce_subject", "\xe9"),
                                     nul = HEADER("ce_subject", "a\0b"),
                                     other = HEADER("ce_a-b", "\xff"),
                                     named = HEADER("ce_datacontenttype", "text/xml");
    refused_binary(&twice, NORMAL_DATA, "/id", "is given twice");
    refused_binary(&type, NORMAL_DATA, "/datacontenttype", "is given twice");
    refused_binary(&named, NORMAL_DATA, "/datacontenttype", "is given twice");
    refused_binary(&data, NORMAL_DATA, "/data", "is given twice");
    refused_binary(&latin, NORMAL_DATA, "/subject", "is not UTF-8");
    refused_binary(&nul, NORMAL_DATA, "/subject", "holds a NUL");
    refused_binary(&other, "", "/data", "is required");
    refused_binary(&other, "[]", "/data", "must be an object");
    refused_binary(&other, "{\"order_uuid\":}", "/data/order_uuid", "expected a value, at byte 14");
    refused_with(NORMAL_DATA, strlen(NORMAL_DATA), binary, 3, "/type", "is required");
    refused_with(NORMAL_DATA, strlen(NORMAL_DATA), binary, 0, "/type", "is required");
}

static void test_modes(void **state)
{
    (void)state;
    static const struct event_header batch = HEADER("content-type",
                                                    "application/cloudevents-batch+json"),
                                     plain = HEADER("content-type", "application/json"),
                                     longer =
                                         HEADER("content-type", "application/cloudevents+jsonx");
    static const char body[] = TERMINATED("", NORMAL_DATA);
    static const char why[] =
        "is required: the content-type is not application/cloudevents+json, so a ce_specversion "
        "header must be there";
    refused_with(body, strlen(body), &batch, 1, "", "is a batch; one event a message is taken");
    refused_with(body, strlen(body), &plain, 1, "/specversion", why);
    refused_with(body, strlen(body), &longer, 1, "/specversion", why);
}

/* A pointer that does not fit is cut between segments, below /data too. */
static void test_long_pointer_in_binary_mode(void **state)
{
    (void)state;
    size_t n;
    char *body = filled("{\"", 244, "k", &n);
    char whole[300];
    snprintf(whole, sizeof(whole), "%s\":}", body);
    char pointer[JSON_POINTER_MAX];
    snprintf(pointer, sizeof(pointer), "/data/%s", body + 2);
    refused_with(whole, strlen(whole), binary, N_BINARY, pointer, "expected a value, at byte 248");
    snprintf(whole, sizeof(whole), "%skkkkkk\":}", body);
    refused_with(whole, strlen(whole), binary, N_BINARY, "/data/...",
                 "expected a value, at byte 254");
    free(body);
}

static void test_type_names(void **state)
{
    (void)state;
    assert_string_equal(event_type_name(EVENT_CREATED), "subscription.created");
    assert_string_equal(event_type_name(EVENT_UPDATED), "subscription.updated");
    assert_string_equal(event_type_name(EVENT_SUSPENDED), "subscription.suspended");
    assert_string_equal(event_type_name(EVENT_RESUMED), "subscription.resumed");
    assert_string_equal(event_type_name(EVENT_TERMINATED), "subscription.terminated");
    assert_string_equal(event_type_name(EVENT_TYPE_MAX), "unknown");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_structured),
        cmocka_unit_test(test_binary),
        cmocka_unit_test(test_created),
        cmocka_unit_test(test_changes),
        cmocka_unit_test(test_null_attributes),
        cmocka_unit_test(test_traceparent),
        cmocka_unit_test(test_not_json),
        cmocka_unit_test(test_too_much),
        cmocka_unit_test(test_a_whole_mebibyte),
        cmocka_unit_test(test_types_and_members),
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_binary_faults),
        cmocka_unit_test(test_modes),
        cmocka_unit_test(test_long_pointer_in_binary_mode),
        cmocka_unit_test(test_type_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
