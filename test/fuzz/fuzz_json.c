/*
 * The reader: what it takes it bounds, writes as text that reads back as the same tree, and tells
 * member by member where it is an object. Three bytes of limits, then the document.
 */
#include <cjson/cJSON.h>

#include "base/str.h"
#include "fuzz.h"

struct measure {
    size_t depth, string, items;
};

static void measure(const cJSON *tree, size_t depth, struct measure *m)
{
    const cJSON *item = NULL;
    bool nests = cJSON_IsArray(tree) || cJSON_IsObject(tree);
    depth += nests;
    m->items++;
    m->depth = depth > m->depth ? depth : m->depth;
    for (const char *const *s = (const char *const[]){tree->string, cJSON_GetStringValue(tree), ""};
         !*s || **s; s++) {
        size_t n = *s ? strlen(*s) : 0;
        m->string = n > m->string ? n : m->string;
    }
    cJSON_ArrayForEach(item, tree)
    {
        measure(item, depth, m);
    }
}

static void check_members_differ(const cJSON *tree)
{
    const cJSON *a = NULL;
    cJSON_ArrayForEach(a, tree)
    {
        for (const cJSON *b = a->next; b && a->string; b = b->next) {
            HOLDS(!str_eq(a->string, b->string));
        }
        check_members_differ(a);
    }
}

/* Written, read and written again it is the same. */
static void check_text(const cJSON *tree)
{
    static const struct json_limits wide = {SIZE_MAX, 64, SIZE_MAX};
    struct json_fault fault;
    cJSON *again = NULL;
    char *text = json_text(tree);
    HOLDS(text);
    HOLDS(json_parse(text, strlen(text), &wide, &again, &fault) == 0);
    HOLDS(cJSON_Compare(tree, again, true));
    char *twice = json_text(again);
    HOLDS(str_eq(text, twice));
    free(twice);
    free(text);
    cJSON_Delete(again);
}

struct members {
    const cJSON *next;
    const char *from, *to;
    size_t n;
};

static void on_member(void *ctx, const struct json_member *member)
{
    struct members *m = ctx;
    m->n++;
    HOLDS(member->name >= m->from && member->value > member->name);
    HOLDS(member->value_len > 0 && member->value + member->value_len <= m->to);
    if (!m->next) {
        return;
    }
    const cJSON *named = m->next;
    m->next = named->next;
    if (!memchr(member->name, '\\', member->name_len)) {
        HOLDS(json_member_is(member, named->string));
    }
    static const struct json_limits wide = {SIZE_MAX, 64, SIZE_MAX};
    struct json_fault fault;
    cJSON *value = NULL;
    HOLDS(json_parse(member->value, member->value_len, &wide, &value, &fault) == 0);
    HOLDS(cJSON_Compare(value, named, true));
    cJSON_Delete(value);
}

static void check_members(struct fuzz_input in, const struct json_limits *limits, const cJSON *tree)
{
    struct json_fault fault;
    struct members m = {.next = tree ? tree->child : NULL, .from = in.p, .to = in.p + in.n};
    int rc = json_members(in.p, in.n, limits, on_member, &m, &fault);
    HOLDS((rc == 0) == cJSON_IsObject(tree));
    if (rc == 0) {
        HOLDS((int)m.n == cJSON_GetArraySize(tree));
    } else {
        fuzz_check_fault(&fault);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input in = {(const char *)data, size};
    const size_t text_max = fuzz_byte(&in), string_max = fuzz_byte(&in), depth = fuzz_byte(&in);
    /* Mostly roomy ones, or most inputs would end at them. */
    const struct json_limits limits = {
        .size = text_max < 32 ? text_max * 8 : SIZE_MAX,
        .string = string_max < 32 ? string_max : SIZE_MAX,
        .depth = depth < 64 ? depth : 64,
    };
    cJSON *tree = NULL;
    struct json_fault fault;
    char *text = fuzz_copy(in);
    const struct fuzz_input copy = {text, in.n};
    if (json_parse(text, in.n, &limits, &tree, &fault) == 0) {
        struct measure m = {0, 0, 0};
        HOLDS(tree);
        measure(tree, 0, &m);
        HOLDS(in.n <= limits.size && m.string <= limits.string && m.depth <= limits.depth);
        HOLDS(m.items <= in.n);
        HOLDS(str_is_utf8(text, in.n) && !memchr(text, '\0', in.n));
        check_members_differ(tree);
        check_text(tree);
    } else {
        HOLDS(!tree);
        fuzz_check_fault(&fault);
    }
    check_members(copy, &limits, tree);
    cJSON_Delete(tree);
    free(text);
    return 0;
}
