/*
 * The schema validator: every keyword accepts, refuses and points; what is not supported does not
 * load.
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
#include "event/embedded.h"
#include "event/schema.h"

#define HEAD "{\"$schema\":\"https://json-schema.org/draft/2020-12/schema\","

static const struct json_limits limits = {1 << 20, 64, 1 << 20};

static struct schema *load(const char *rest)
{
    char text[2048];
    struct err err;
    int n = snprintf(text, sizeof(text), HEAD "%s", rest);
    assert_true(n > 0 && (size_t)n < sizeof(text));
    struct schema *s = schema_load(text, (size_t)n, &err);
    if (!s)
        print_message("%s\n", err.msg);
    return s;
}

static cJSON *parse(const char *text)
{
    struct json_fault fault;
    cJSON *tree = NULL;
    assert_int_equal(json_parse(text, strlen(text), &limits, &tree, &fault), 0);
    return tree;
}

/* pointer NULL: the value is to be taken. */
static void expect(const char *schema, const char *value, const char *pointer, const char *reason)
{
    struct json_fault fault = {.pointer = "untouched"};
    struct schema *s = load(schema);
    cJSON *tree = parse(value);
    assert_non_null(s);
    int rc = schema_check(s, tree, &fault);
    if (pointer) {
        assert_int_equal(rc, -1);
        assert_string_equal(fault.pointer, pointer);
        assert_string_equal(fault.reason, reason);
        assert_false(fault.internal);
    } else {
        if (rc != 0)
            print_message("%s refused by %s: %s\n", value, schema, fault.reason);
        assert_int_equal(rc, 0);
        assert_string_equal(fault.pointer, "untouched");
    }
    cJSON_Delete(tree);
    schema_free(s);
}

static void takes(const char *schema, const char *value)
{
    expect(schema, value, NULL, NULL);
}

static void test_types(void **state)
{
    (void)state;
    static const char *const values[] = {"null", "true", "7", "1.5", "\"x\"", "[]", "{}"};
    static const char *const names[] = {"null",   "boolean", "integer", "number",
                                        "string", "array",   "object"};
    static const char *const words[] = {"null",     "true or false", "an integer", "a number",
                                        "a string", "an array",      "an object"};
    for (size_t t = 0; t < ARRAY_LEN(names); t++) {
        char schema[64], reason[64];
        snprintf(schema, sizeof(schema), "\"type\":\"%s\"}", names[t]);
        snprintf(reason, sizeof(reason), "must be %s", words[t]);
        for (size_t v = 0; v < ARRAY_LEN(values); v++)
            if (v == t || (t == 3 && v == 2))
                takes(schema, values[v]);
            else
                expect(schema, values[v], "", reason);
    }
    takes("\"type\":\"integer\"}", "1.0");
    takes("\"type\":\"integer\"}", "-1e3");
    takes("\"type\":[\"string\",\"null\"]}", "null");
    expect("\"type\":[\"string\",\"null\"]}", "7", "", "must be a string or null");
    expect("\"type\":[\"string\",\"null\",\"array\"]}", "7", "",
           "must be a string, null or an array");
}

static void test_const_and_enum(void **state)
{
    (void)state;
    takes("\"const\":\"1.0\"}", "\"1.0\"");
    expect("\"const\":\"1.0\"}", "1.0", "", "must be \"1.0\"");
    expect("\"const\":\"1.0\"}", "\"1.0 \"", "", "must be \"1.0\"");
    takes("\"const\":1}", "1.0");
    expect("\"const\":0}", "false", "", "must be 0");
    expect("\"const\":null}", "0", "", "must be null");
    expect("\"const\":true}", "false", "", "must be true");
    takes("\"enum\":[\"a\",null,2]}", "2e0");
    takes("\"enum\":[\"a\",null,2]}", "null");
    expect("\"enum\":[\"a\",null,2]}", "\"secret\"", "", "must be one of \"a\", null, 2");
    /* A list that does not fit is cut between two values. */
    char schema[600] = "\"enum\":[\"first\"";
    for (int i = 0; i < 30; i++) {
        size_t used = strlen(schema);
        snprintf(schema + used, sizeof(schema) - used, ",\"value-%02d\"", i);
    }
    size_t used = strlen(schema);
    snprintf(schema + used, sizeof(schema) - used, "]}");
    struct schema *s = load(schema);
    cJSON *seven = parse("7");
    struct json_fault fault;
    assert_int_equal(schema_check(s, seven, &fault), -1);
    assert_non_null(strstr(fault.reason, "must be one of \"first\", \"value-00\", "));
    assert_string_equal(fault.reason + strlen(fault.reason) - 5, ", ...");
    cJSON_Delete(seven);
    schema_free(s);
}

static void test_sizes(void **state)
{
    (void)state;
    takes("\"maxLength\":2}", "\"\\ud83d\\ude00e\"");
    expect("\"maxLength\":2}", "\"eee\"", "", "must have at most 2 characters");
    expect("\"minLength\":1}", "\"\"", "", "must have at least 1 character");
    takes("\"minLength\":2,\"minItems\":1,\"minimum\":1}", "{}");
    expect("\"minLength\":2}", "\"\\ud83d\\ude00\"", "", "must have at least 2 characters");
    expect("\"minItems\":1}", "[]", "", "must have at least 1 element");
    takes("\"maxItems\":2}", "[1,2]");
    expect("\"maxItems\":2}", "[1,2,3]", "", "must have at most 2 elements");
    takes("\"maxProperties\":1}", "{\"a\":1}");
    expect("\"maxProperties\":1}", "{\"a\":1,\"b\":2}", "", "must have at most 1 member");
    takes("\"minimum\":1,\"maximum\":3}", "1");
    takes("\"minimum\":1,\"maximum\":3}", "3.0");
    expect("\"minimum\":1}", "0.999", "", "must be at least 1");
    expect("\"maximum\":9007199254740991}", "9007199254740993", "",
           "must be at most 9007199254740991");
}

static void test_members_and_places(void **state)
{
    (void)state;
    const char *schema =
        "\"required\":[\"a\"],\"properties\":{\"a\":{\"items\":{\"required\":[\"x/y~\"],"
        "\"properties\":{\"x/y~\":{\"type\":\"null\"}}}}}}";
    takes(schema, "{\"a\":[{\"x/y~\":null}],\"b\":7}");
    takes(schema, "[]");
    expect(schema, "{\"A\":1}", "/a", "is required");
    expect(schema, "{\"a\":[{\"x/y~\":null},{}]}", "/a/1/x~1y~0", "is required");
    expect(schema, "{\"a\":[{\"x/y~\":1}]}", "/a/0/x~1y~0", "must be null");
    schema = "\"propertyNames\":{\"maxLength\":2},\"properties\":{\"a\":{}},"
             "\"additionalProperties\":{\"type\":\"null\"}}";
    takes(schema, "{\"a\":1,\"bb\":null}");
    expect(schema, "{\"bb\":1}", "/bb", "must be null");
    expect(schema, "{\"ccc\":null}", "/ccc", "must have at most 2 characters");
}

static void test_patterns_and_formats(void **state)
{
    (void)state;
    takes("\"pattern\":\"^a+$\"}", "\"aaa\"");
    takes("\"pattern\":\"^a+$\"}", "7");
    expect("\"pattern\":\"^a+$\"}", "\"aaa\\n\"", "", "does not match ^a+$");
    expect("\"title\":\"scream\",\"pattern\":\"^a+$\"}", "\"b\"", "", "is not a valid scream");
    takes("\"pattern\":\"a\"}", "\"bab\"");
    takes("\"format\":\"date-time\"}", "\"2026-11-21T10:00:00Z\"");
    expect("\"format\":\"date-time\"}", "\"2026-02-30T10:00:00Z\"", "", "does not match date-time");
}

static void test_combinations(void **state)
{
    (void)state;
    const char *any = "\"anyOf\":[{\"type\":\"null\"},{\"type\":\"object\",\"required\":[\"a\"]}]}";
    takes(any, "null");
    takes(any, "{\"a\":1}");
    /* The alternative that got deepest is the one that was meant. */
    expect(any, "{}", "/a", "is required");
    expect(any, "7", "", "must be null");
    takes("\"oneOf\":[{\"minimum\":5},{\"maximum\":3}]}", "7");
    expect("\"oneOf\":[{\"minimum\":5},{\"maximum\":3}]}", "4", "", "must be at least 5");
    expect("\"oneOf\":[{\"minimum\":3},{\"maximum\":5}]}", "4", "",
           "must fit exactly one of 2 alternatives");
    takes("\"allOf\":[{\"minimum\":3},{\"maximum\":5}]}", "4");
    expect("\"allOf\":[{\"minimum\":3},{\"maximum\":5}]}", "6", "", "must be at most 5");
    const char *when =
        "\"if\":{\"minimum\":10},\"then\":{\"type\":\"integer\"},\"else\":{\"minimum\":5}}";
    takes(when, "11");
    expect(when, "11.5", "", "must be an integer");
    takes(when, "5.5");
    expect(when, "4", "", "must be at least 5");
    takes("\"if\":{\"minimum\":10},\"then\":{\"maximum\":20}}", "4");
    const char *ref = "\"properties\":{\"a\":{\"$ref\":\"#/$defs/x\",\"type\":\"number\"}},"
                      "\"$defs\":{\"x\":{\"$ref\":\"#/$defs/y\"},\"y\":{\"enum\":[1,\"b\"]}}}";
    takes(ref, "{\"a\":1}");
    expect(ref, "{\"a\":2}", "/a", "must be one of 1, \"b\"");
    expect(ref, "{\"a\":\"b\"}", "/a", "must be a number");
}

static void does_not_load(const char *text, const char *why)
{
    struct err err;
    assert_null(schema_load(text, strlen(text), &err));
    if (!strstr(err.msg, why))
        print_message("%s\n", err.msg);
    assert_non_null(strstr(err.msg, why));
    assert_int_equal(err.class, ERR_INVALID);
}

static void test_what_does_not_load(void **state)
{
    (void)state;
    does_not_load("", "the document ends too early");
    does_not_load("{}", "\"$schema\" must be");
    does_not_load(HEAD "\"uniqueItems\":true}", "keyword \"uniqueItems\" is not supported");
    does_not_load(HEAD "\"properties\":{\"a\":{\"$defs\":{}}}}",
                  "keyword \"$defs\" is not supported");
    does_not_load(HEAD "\"properties\":{\"a\":true}}", "a subschema must be an object");
    does_not_load(HEAD "\"$defs\":{\"a\":{\"contains\":{}}}}",
                  "keyword \"contains\" is not supported");
    static const char *const values[] = {
        "\"type\":\"text\"}",
        "\"type\":[]}",
        "\"minLength\":-1}",
        "\"maxItems\":1.5}",
        "\"maximum\":\"7\"}",
        "\"required\":[7]}",
        "\"enum\":[[1]]}",
        "\"const\":{}}",
        "\"format\":\"email\"}",
        "\"pattern\":7}",
        "\"items\":[]}",
        "\"allOf\":[]}",
        "\"$ref\":\"other.json\"}",
        "\"properties\":[{}]}",
        "\"if\":false}",
        "\"additionalProperties\":false}",
    };
    for (size_t i = 0; i < ARRAY_LEN(values); i++) {
        char text[200];
        snprintf(text, sizeof(text), HEAD "%s", values[i]);
        does_not_load(text, "has a value that is not supported");
    }
    does_not_load(HEAD "\"$ref\":\"#/$defs/a\"}", "#/$defs/a does not exist");
    does_not_load(HEAD "\"$defs\":{\"a\":{\"items\":{\"$ref\":\"#/$defs/a\"}}}}",
                  "$defs/a refers to itself");
}

static void test_patterns_that_differ_do_not_load(void **state)
{
    (void)state;
    static const char *const patterns[] = {
        "a.b",   "[^a]",  "[]a]", "[[:alpha:]]", "[\\\\d]", "\\\\d",   "\\\\bx",
        "(?:a)", "a*?",   "a+?",  "a{1,2}?",     "a{,2}",   "\u00e9+", "[a",
        "a{2",   "a\\\\", "(*a)", "a**",         "(a",      "a{2,1}",
    };
    for (size_t i = 0; i < ARRAY_LEN(patterns); i++) {
        char text[200];
        snprintf(text, sizeof(text), HEAD "\"pattern\":\"%s\"}", patterns[i]);
        does_not_load(text, "pattern ");
    }
    takes("\"pattern\":\"^[a-z.*+?$()-]{2,3}(\\\\.|\\\\\\\\)?$\"}", "\".a-.\"");
}

static int upper(void *ctx, cJSON *value)
{
    ++*(int *)ctx;
    return cJSON_SetValuestring(value, "FIXED") ? 0 : -1;
}

static int refuse(void *ctx, cJSON *value)
{
    (void)ctx;
    (void)value;
    return -1;
}

static void test_normalise(void **state)
{
    (void)state;
    struct schema *s =
        load("\"properties\":{\"id\":{\"$ref\":\"#/$defs/"
             "u\"},\"free\":{},\"open\":{\"properties\":{\"id\":{\"$ref\":\"#/$defs/u\"}},"
             "\"additionalProperties\":{\"properties\":{\"k\":{}}}},\"list\":{\"items\":{\"$ref\":"
             "\"#/$defs/o\"}}},"
             "\"allOf\":[{\"properties\":{\"more\":{\"$ref\":\"#/$defs/u\"}}}],"
             "\"$defs\":{\"u\":{\"type\":\"string\"},\"o\":{\"properties\":{\"id\":{\"$ref\":\"#/"
             "$defs/u\"}}}}}");
    cJSON *tree = parse(
        "{\"x\":1,\"id\":\"a\",\"free\":{\"x\":1},\"open\":{\"id\":\"b\",\"y\":{\"k\":1,\"z\":2}},"
        "\"list\":[{\"id\":\"c\",\"x\":1},{\"x\":{}}],\"more\":\"d\",\"ID\":1}");
    int calls = 0;
    assert_int_equal(schema_normalise(s, tree, "u", upper, &calls), 0);
    assert_int_equal(calls, 4);
    char *text = json_text(tree);
    assert_string_equal(
        text, "{\"id\":\"FIXED\",\"free\":{\"x\":1},\"open\":{\"id\":\"FIXED\",\"y\":{\"k\":1}},"
              "\"list\":[{\"id\":\"FIXED\"},{}],\"more\":\"FIXED\"}");
    assert_int_equal(schema_normalise(s, tree, "u", refuse, NULL), -1);
    cJSON_free(text);
    cJSON_Delete(tree);
    schema_free(s);
}

/* What the program carries loads, and takes its own examples. */
static void test_published_schemas(void **state)
{
    (void)state;
    assert_true(n_embedded_schemas >= 6);
    for (size_t i = 0; i < n_embedded_schemas; i++) {
        const struct embedded_schema *e = &embedded_schemas[i];
        struct err err;
        struct json_fault fault;
        struct schema *s = schema_load(e->text, e->len, &err);
        if (!s)
            print_message("%s: %s\n", e->name, err.msg);
        assert_non_null(s);
        cJSON *document = parse(e->text);
        const cJSON *example = json_get(document, "examples");
        assert_true(cJSON_GetArraySize(example) >= 1);
        for (example = example->child; example; example = example->next)
            assert_int_equal(schema_check(s, example, &fault), 0);
        cJSON_Delete(document);
        schema_free(s);
    }
    schema_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_types),
        cmocka_unit_test(test_const_and_enum),
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_members_and_places),
        cmocka_unit_test(test_patterns_and_formats),
        cmocka_unit_test(test_combinations),
        cmocka_unit_test(test_what_does_not_load),
        cmocka_unit_test(test_patterns_that_differ_do_not_load),
        cmocka_unit_test(test_normalise),
        cmocka_unit_test(test_published_schemas),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
