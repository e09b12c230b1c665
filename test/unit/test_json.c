#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/rng.h"
#include "base/str.h"

static const struct json_limits limits = {.size = 16 * 1024 * 1024, .depth = 64, .string = 65536};

/* The bytes are copied to the heap at their exact size, so that a read too far is seen. */
static cJSON *parse_n(const char *p, size_t n, const struct json_limits *l,
                      struct json_fault *fault)
{
    char *copy = malloc(n ? n : 1);
    assert_non_null(copy);
    memcpy(copy, p, n);
    cJSON *const untouched = (cJSON *)fault;
    cJSON *tree = untouched;
    int r = json_parse(copy, n, l, &tree, fault);
    free(copy);
    if (r) {
        assert_ptr_equal(tree, untouched);
        assert_true(fault->reason[0] != '\0');
        assert_false(fault->internal);
        return NULL;
    }
    assert_non_null(tree);
    return tree;
}

static cJSON *parse(const char *s, struct json_fault *fault)
{
    return parse_n(s, strlen(s), &limits, fault);
}

static const char *const allowed[] = {
    "{}",
    "[]",
    "null",
    "true",
    "false",
    "\"\"",
    "0",
    "-0",
    "-1",
    "10",
    "1.5",
    "0.1",
    "1e5",
    "1E+5",
    "1e-5",
    "0e0",
    "0e+1",
    "-0.0e-0",
    "1.0E+2",
    "123e65",
    "1e-400",
    "20e1",
    " [ 1 , 2 ] ",
    "\t\r\n{ \"a\" : 1 }\n",
    "[[],[[]],{}]",
    "{\"\":0}",
    "{\"a\":1,\"b\":2,\"A\":3}",
    "[\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"]",
    "[\"\\u0041\\u00e9\\u20AC\\uD83d\\uDE00\"]",
    "[\"\\u0001\\u001f\\uffff\"]",
    "[\"aé€😀\x7f\"]",
    "[\"\xf4\x8f\xbf\xbf\"]",
    "[\"\xe2\x80\xa8\"]",
    "{\"a\":{\"a\":{\"a\":1}},\"b\":{\"a\":1}}",
    "[{\"a\":1},{\"a\":2}]",
    "[1,\n2]",
    "123456789012345678901234567890",
    "[\"\\uDBFF\\uDFFF\"]",
    "[\"\xef\xbb\xbf\"]",
    "{\"a\":\"b\",\"ab\":\"\"}",
};

static void accepts_what_the_grammar_allows(void **state)
{
    (void)state;
    struct json_fault fault;
    for (size_t i = 0; i < ARRAY_LEN(allowed); i++) {
        cJSON *tree = parse(allowed[i], &fault);
        if (!tree)
            fail_msg("%s: %s", allowed[i], fault.reason);
        cJSON_Delete(tree);
    }
}

static const char *const forbidden[] = {
    "",
    " ",
    "[",
    "]",
    "{",
    "}",
    "[1",
    "[1,",
    "[1,]",
    "[,1]",
    "[,]",
    "[1,,2]",
    "[1 2]",
    "[1}",
    "{]",
    "{\"a\"",
    "{\"a\":",
    "{\"a\":1",
    "{\"a\":1,",
    "{\"a\":1,}",
    "{,}",
    "{\"a\" 1}",
    "{\"a\"::1}",
    "{a:1}",
    "{'a':1}",
    "{1:1}",
    "{null:1}",
    "{\"a\":1 \"b\":2}",
    "{\"a\":1;}",
    "{\"a\"}",
    "{\"a\",\"b\"}",
    "[\"a\":1]",
    "1 2",
    "[] []",
    "{}x",
    "[]]",
    "nul",
    "nulll",
    "True",
    "NaN",
    "Infinity",
    "-Infinity",
    "[-]",
    "+1",
    "01",
    "-01",
    "00",
    "1.",
    ".5",
    "-.5",
    "1.e1",
    "1e",
    "1e+",
    "1E-",
    "0x10",
    "1_000",
    "1a",
    "0.e1",
    "--1",
    "1e1.5",
    "\"",
    "\"a",
    "\"\\",
    "\"\\\"",
    "\"\\x41\"",
    "\"\\u\"",
    "\"\\u12\"",
    "\"\\u12g4\"",
    "\"\\U0041\"",
    "\"\\'\"",
    "\"\\0\"",
    "\"a\nb\"",
    "\"a\tb\"",
    "\"\x1f\"",
    "'a'",
    "\"\\u0000\"",
    "\"a\\u0000b\"",
    "{\"\\u0000\":1}",
    "\"\\uD800\"",
    "\"\\uD800x\"",
    "\"\\uD800\\n\"",
    "\"\\uD800\\u0041\"",
    "\"\\uD800\\uD800\"",
    "\"\\uDC00\"",
    "\"\\uDE00\\uD83D\"",
    "\"\\uD83D\\u\"",
    "\"\xff\"",
    "\"\xc3\"",
    "\"\xc3(\"",
    "\"\xc0\x80\"",
    "\"\xed\xa0\x80\"",
    "\"\xf4\x90\x80\x80\"",
    "\"\xe2\x82\"",
    "\xef\xbb\xbf{}",
    "\xff",
    "[1]\x0c",
    "\xa0[]",
    "/*c*/1",
    "1//c",
    "[1]#",
    "\xe2\x80\x8b[]",
    "{\"a\":1,\"a\":2}",
    "{\"a\":1,\"\\u0061\":2}",
    "{\"\":1,\"\":1}",
    "{\"x\":{\"b\":1,\"c\":2,\"b\":3}}",
    "{\"\\ud83d\\ude00\":1,\"😀\":2}",
    "{\"/\":1,\"\\/\":2}",
    "1e400",
    "-1e400",
    "[1e999999999]",
    "1234567890123456789012345678901234567890123456789012345678901234",
};

static void refuses_what_the_grammar_forbids(void **state)
{
    (void)state;
    struct json_fault fault;
    for (size_t i = 0; i < ARRAY_LEN(forbidden); i++) {
        cJSON *tree = parse(forbidden[i], &fault);
        if (tree)
            fail_msg("accepted: %s", forbidden[i]);
    }
}

static void refuses_raw_nul(void **state)
{
    (void)state;
    static const struct {
        const char *p;
        size_t n;
    } cases[] = {{"[1]\0", 4},    {"\0", 1},  {"\"a\0b\"", 5}, {"{\"a\0\":1}", 8}, {"[1\0]", 4},
                 {"\"\\\0\"", 4}, {"1\0", 2}, {"-\0", 2},      {"1e\0", 3}};
    struct json_fault fault;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        assert_null(parse_n(cases[i].p, cases[i].n, &limits, &fault));
}

static void faults_name_the_place(void **state)
{
    (void)state;
    static const struct {
        const char *in;
        const char *pointer;
        const char *reason;
    } cases[] = {
        {"", "", "the document ends too early, at byte 0"},
        {"{\"data\":{\"plan\":tru}}", "/data/plan", "expected a value, at byte 16"},
        {"{\"data\":{\"plan\":1,\"plan\":2}}", "/data/plan",
         "a member that occurs twice, at byte 18"},
        {"{\"a\":[0,{\"b\":[1,\"\\ud800\"]}]}", "/a/1/b/1",
         "a lone surrogate in a string, at byte 17"},
        {"{\"a/b\":{\"m~n\":?}}", "/a~1b/m~0n", "expected a value, at byte 14"},
        /* Behind the 0 the member is over: the object is at fault. */
        {"{\"a/b\":{\"m~n\":01}}", "/a~1b", "expected ',' or '}', at byte 15"},
        {"{\"\\u0061\\/\":-}", "/a~1", "a malformed number, at byte 12"},
        {"[1,2,x]", "/2", "expected a value, at byte 5"},
        {"[x]", "/0", "expected a value, at byte 1"},
        {"{\"a\":1,x}", "", "expected a member name, at byte 7"},
        {"{\"a\":{\"b\":1 \"c\":2}}", "/a", "expected ',' or '}', at byte 12"},
        {"{\"a\":1}}", "", "something follows the document, at byte 7"},
        {"{\"a\":[1,2,", "/a/2", "the document ends too early, at byte 10"},
        {"{\"\":{\"\":?}}", "//", "expected a value, at byte 8"},
    };
    struct json_fault fault;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        assert_null(parse(cases[i].in, &fault));
        assert_string_equal(fault.pointer, cases[i].pointer);
        assert_string_equal(fault.reason, cases[i].reason);
    }
}

static void keeps_to_its_limits(void **state)
{
    (void)state;
    struct json_fault fault;
    struct json_limits l = {.size = 10, .depth = 2, .string = 3};
    cJSON *tree = parse_n("[[\"abc\"]] ", 10, &l, &fault);
    assert_non_null(tree);
    cJSON_Delete(tree);
    assert_null(parse_n("[[\"abc\"]]  ", 11, &l, &fault));
    assert_string_equal(fault.reason, "larger than 10 bytes");
    assert_null(parse_n("[[[]]]", 6, &l, &fault));
    assert_string_equal(fault.pointer, "/0/0");
    assert_null(parse_n("\"abcd\"", 6, &l, &fault));
    assert_null(parse_n("{\"abcd\":1}", 10, &l, &fault));
    assert_null(parse_n("\"\\u0041\"", 8, &l, &fault)); /* as written */
    /* 64 levels whatever the caller asks for. */
    l = (struct json_limits){.size = 1000, .depth = 1000, .string = 3};
    char deep[130];
    memset(deep, '[', 65);
    memset(deep + 65, ']', 65);
    assert_null(parse_n(deep, 130, &l, &fault));
    assert_non_null(strstr(fault.reason, "nested too deeply"));
    tree = parse_n(deep + 1, 128, &l, &fault);
    assert_non_null(tree);
    char *text = json_text(tree);
    assert_memory_equal(text, deep + 1, 128);
    free(text);
    cJSON_Delete(tree);
    l.depth = 0;
    assert_null(parse_n("[]", 2, &l, &fault));
    cJSON_Delete(tree = parse_n("1", 1, &l, &fault));
    assert_non_null(tree);
}

/* 100,000 members with a common beginning, sorted, reversed and in disorder; then one of them
 * twice. */
static void many_members_stay_cheap(void **state)
{
    (void)state;
    enum { MEMBERS = 100000 };
    struct buf b;
    buf_init(&b, limits.size);
    int64_t start = clock_mono_ms();
    for (uint64_t stride = 1; stride < MEMBERS; stride = stride * 300 + 1) {
        buf_reset(&b);
        for (uint64_t i = 0; i < MEMBERS; i++)
            buf_addf(&b, "%s\"a common beginning %06llu\":1", i ? "," : "{",
                     (unsigned long long)(i * stride % MEMBERS));
        size_t open = b.len;
        buf_addc(&b, '}');
        struct json_fault fault;
        cJSON *tree = parse_n(b.data, b.len, &limits, &fault);
        assert_non_null(tree);
        cJSON_Delete(tree);
        b.len = open;
        buf_adds(&b, ",\"a common begi\\u006eing 077777\":1}");
        tree = parse_n(b.data, b.len, &limits, &fault);
        assert_non_null(tree);
        cJSON_Delete(tree);
        b.len = open;
        buf_adds(&b, ",\"a common begi\\u006ening 077777\":1}");
        assert_null(parse_n(b.data, b.len, &limits, &fault));
        assert_string_equal(fault.pointer, "/a common beginning 077777");
    }
    /* Quadratic would be minutes. */
    assert_true(clock_mono_ms() - start < 30000);
    buf_done(&b);
}

static void pointers_cut_whole_segments(void **state)
{
    (void)state;
    char p[JSON_POINTER_MAX] = "";
    json_pointer_push(p, "");
    json_pointer_push(p, "a~b/c");
    json_pointer_push_index(p, 42);
    assert_string_equal(p, "//a~0b~1c/42");
    p[0] = '\0';
    for (int i = 0; i < 200; i++)
        json_pointer_push(p, "12345");
    assert_true(strlen(p) < sizeof(p));
    assert_string_equal(p + strlen(p) - 10, "/12345/...");
    char long_token[2 * JSON_POINTER_MAX];
    memset(long_token, '~', sizeof(long_token) - 1);
    long_token[sizeof(long_token) - 1] = '\0';
    str_copy(p, sizeof(p), "/data");
    json_pointer_push(p, long_token);
    assert_string_equal(p, "/data/...");
    json_pointer_push(p, "x");
    assert_string_equal(p, "/data/...");
    /* To the last byte: 251 stay, one more is cut. */
    for (size_t n = 240; n < 260; n++) {
        memset(long_token, 'x', n);
        long_token[n] = '\0';
        p[0] = '\0';
        json_pointer_push(p, long_token);
        assert_true(n + 1 <= 251 ? strlen(p) == n + 1 : str_eq(p, "/..."));
        json_pointer_push(p, "yyyyyyyy");
        assert_true(strlen(p) < sizeof(p));
        assert_true(str_is_utf8(p, strlen(p)));
    }
}

static void looks_things_up(void **state)
{
    (void)state;
    struct json_fault fault;
    cJSON *t = parse(
        "{\"data\":{\"plan\":{\"tier\":\"pro\",\"n\":3,\"on\":true},\"caps\":[\"rag\",\"web\"],"
        "\"mixed\":[\"rag\",1],\"Data\":0},\"f\":1.5,\"w\":2.0,\"e\":1e3,\"z\":-0,"
        "\"max\":9007199254740991,\"over\":9007199254740992,\"min\":-9007199254740991,"
        "\"null\":null}",
        &fault);
    assert_non_null(t);
    assert_string_equal(json_str(t, "data.plan.tier"), "pro");
    assert_null(json_str(t, "data.plan.n"));
    assert_null(json_str(t, "data.plan.tier.x"));
    assert_null(json_str(t, "Data.plan.tier"));
    assert_null(json_str(NULL, "data"));
    assert_ptr_equal(json_get(t, ""), t);
    assert_null(json_get(t, "data.caps.0"));
    int64_t v = 0;
    assert_true(json_i64(t, "data.plan.n", &v) && v == 3);
    assert_true(json_i64(t, "w", &v) && v == 2);
    assert_true(json_i64(t, "e", &v) && v == 1000);
    assert_true(json_i64(t, "z", &v) && v == 0);
    assert_true(json_i64(t, "max", &v) && v == INT64_C(9007199254740991));
    assert_true(json_i64(t, "min", &v) && v == -INT64_C(9007199254740991));
    assert_false(json_i64(t, "over", &v) || json_i64(t, "f", &v) || json_i64(t, "null", &v) ||
                 json_i64(t, "none", &v) || json_i64(t, "data.plan.tier", &v));
    assert_true(v == -INT64_C(9007199254740991));
    assert_true(json_bool(t, "data.plan.on", false));
    assert_true(json_bool(t, "data.plan.off", true));
    assert_false(json_bool(t, "f", false));
    assert_true(json_has_string(t, "data.caps", "web"));
    assert_false(json_has_string(t, "data.caps", "we"));
    assert_false(json_has_string(t, "data.mixed", "rag"));
    assert_false(json_has_string(t, "data.none", "rag"));
    cJSON_Delete(t);
    assert_null(json_text(NULL));
}

static void decodes_strings(void **state)
{
    (void)state;
    struct json_fault fault;
    cJSON *t =
        parse("{\"\\u0061\\u00e9\":\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u20ac\\uD83D\\uDE00\"}", &fault);
    assert_string_equal(json_str(t, "aé"), "\"\\/\b\f\n\r\t€😀");
    char *text = json_text(t);
    assert_string_equal(text, "{\"aé\":\"\\\"\\\\/\\b\\f\\n\\r\\t€😀\"}");
    free(text);
    cJSON_Delete(t);
}

static void numbers_survive_to_the_last_bit(void **state)
{
    (void)state;
    static const struct {
        const char *in;
        const char *out;
    } cases[] = {
        {"9007199254740991", "9007199254740991"},
        {"-9007199254740991", "-9007199254740991"},
        {"0.30000000000000004", "0.30000000000000004"},
        {"0.3", "0.3"},
        {"1.0", "1"},
        {"1e3", "1000"},
        {"1e300", "1e+300"},
        {"5e-324", "4.94065645841247e-324"},
        {"512", "512"},
        {"-1.25", "-1.25"},
        {"-0", "-0"},
    };
    struct json_fault fault;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        cJSON *t = parse(cases[i].in, &fault);
        char *text = json_text(t);
        assert_string_equal(text, cases[i].out);
        free(text);
        cJSON_Delete(t);
    }
    struct rng r;
    rng_seed(&r, 7);
    for (int i = 0; i < 20000; i++) {
        uint64_t bits = rng_next(&r);
        double want;
        memcpy(&want, &bits, sizeof(want));
        if (!(want - want == 0))
            continue;
        cJSON *t = cJSON_CreateNumber(want);
        char *text = json_text(t);
        cJSON_Delete(t);
        t = parse(text, &fault);
        assert_true(cJSON_GetNumberValue(t) == want);
        free(text);
        cJSON_Delete(t);
    }
}

static void random_string(struct rng *r, struct buf *b)
{
    static const char *const pieces[] = {
        "a", "B", "é", "€", "😀", "\\n", "\\u0041", "\\uD83D\\uDE00", " ", "\\/", "0"};
    buf_addc(b, '"');
    for (uint64_t n = rng_below(r, 6); n > 0; n--)
        buf_adds(b, pieces[rng_below(r, ARRAY_LEN(pieces))]);
    buf_addc(b, '"');
}

static void random_value(struct rng *r, struct buf *b, int depth)
{
    static const char *const scalars[] = {"null", "true",  "false",        "0",
                                          "-1",   "1.5e3", "123456789012", "-0.001"};
    uint64_t kind = rng_below(r, depth > 0 ? 6 : 4);
    if (kind < 2) {
        buf_adds(b, scalars[rng_below(r, ARRAY_LEN(scalars))]);
    } else if (kind < 4) {
        random_string(r, b);
    } else {
        bool object = kind == 4;
        buf_addc(b, object ? '{' : '[');
        uint64_t n = rng_below(r, 5);
        for (uint64_t i = 0; i < n; i++) {
            buf_adds(b, i ? " ,\n" : "");
            if (object)
                buf_addf(b, "\"k%llu\\u0041\": ", (unsigned long long)i);
            random_value(r, b, depth - 1);
        }
        buf_addc(b, object ? '}' : ']');
    }
}

/* Valid documents are accepted and survive; damaged ones never crash, and what is accepted still
 * survives. */
static void property_parse_and_text_are_inverse(void **state)
{
    (void)state;
    uint64_t seed = (uint64_t)clock_mono_us();
    print_message("seed %llu\n", (unsigned long long)seed);
    struct rng r;
    rng_seed(&r, seed);
    struct buf b;
    buf_init(&b, 1 << 20);
    static const char noise[] = "{}[]\",:\\u0eE+-.1 \t\n\x01\x80\xc3\xed\xff\0dDtfn/";
    for (int i = 0; i < 20000; i++) {
        buf_reset(&b);
        random_value(&r, &b, 5);
        bool damaged = i % 2;
        for (uint64_t k = damaged ? 1 + rng_below(&r, 3) : 0; k > 0; k--)
            b.data[rng_below(&r, b.len)] = noise[rng_below(&r, sizeof(noise) - 1)];
        struct json_fault fault;
        cJSON *tree = parse_n(b.data, b.len, &limits, &fault);
        if (!tree && !damaged)
            fail_msg("refused: %s: %s at %s", b.data, fault.reason, fault.pointer);
        if (!tree)
            continue;
        char *text = json_text(tree);
        cJSON *again = parse(text, &fault);
        assert_non_null(again);
        assert_true(cJSON_Compare(tree, again, true));
        char *same = json_text(again);
        assert_string_equal(text, same);
        free(text);
        free(same);
        cJSON_Delete(tree);
        cJSON_Delete(again);
    }
    buf_done(&b);
}

/* ---- members ---- */

struct told {
    size_t n;
    char text[256];
};

static void tell(void *ctx, const struct json_member *m)
{
    struct told *t = ctx;
    size_t at = strlen(t->text);
    snprintf(t->text + at, sizeof(t->text) - at, "%.*s=%.*s;", (int)m->name_len, m->name,
             (int)m->value_len, m->value);
    t->n++;
}

static void members_are_told_as_written(void **state)
{
    (void)state;
    static const char text[] =
        " { \"a\" : 1.50 ,\"b\":{\"x\":[1, {\"y\":2}]} , \"c\\\"d\":\"e\\n\",\"f\":[ ]\n,"
        "\"g\":null}  ";
    struct told t = {0};
    struct json_fault fault;
    assert_int_equal(json_members(text, strlen(text), &limits, tell, &t, &fault), 0);
    assert_string_equal(t.text, "a=1.50;b={\"x\":[1, {\"y\":2}]};c\\\"d=\"e\\n\";f=[ ];g=null;");
    assert_int_equal(t.n, 5);

    struct json_member m = {"name", 4, "1", 1};
    assert_true(json_member_is(&m, "name"));
    assert_false(json_member_is(&m, "nam"));
    assert_false(json_member_is(&m, "names"));
}

static void members_need_a_sound_object(void **state)
{
    (void)state;
    static const char *const bad[] = {"",
                                      "[]",
                                      "1",
                                      "{\"a\":1",
                                      "{\"a\":1}x",
                                      "{\"a\":1,\"a\":2}",
                                      "{\"a\":{\"b\":1,\"b\":1}}",
                                      "{\"a\":01}",
                                      "{a:1}"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct told t = {0};
        struct json_fault fault;
        assert_int_equal(json_members(bad[i], strlen(bad[i]), &limits, tell, &t, &fault), -1);
        assert_true(fault.reason[0] != '\0');
    }
    struct told t = {0};
    struct json_fault fault;
    const struct json_limits small = {.size = 4, .depth = 64, .string = 64};
    assert_int_equal(json_members("{   }", 5, &small, tell, &t, &fault), -1);
    assert_int_equal(json_members("{}", 2, &small, tell, &t, &fault), 0);
    assert_int_equal(t.n, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(accepts_what_the_grammar_allows),
        cmocka_unit_test(refuses_what_the_grammar_forbids),
        cmocka_unit_test(refuses_raw_nul),
        cmocka_unit_test(faults_name_the_place),
        cmocka_unit_test(keeps_to_its_limits),
        cmocka_unit_test(many_members_stay_cheap),
        cmocka_unit_test(pointers_cut_whole_segments),
        cmocka_unit_test(looks_things_up),
        cmocka_unit_test(decodes_strings),
        cmocka_unit_test(numbers_survive_to_the_last_bit),
        cmocka_unit_test(members_are_told_as_written),
        cmocka_unit_test(members_need_a_sound_object),
        cmocka_unit_test(property_parse_and_text_are_inverse),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
