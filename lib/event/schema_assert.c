/*
 * The keywords that look at one value. A reason says what was expected; the value itself is never
 * quoted.
 */
#include <math.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/str.h"
#include "event/schema_node.h"

enum {
    TYPE_NULL = 1,
    TYPE_BOOLEAN = 2,
    TYPE_INTEGER = 4,
    TYPE_NUMBER = 8,
    TYPE_STRING = 16,
    TYPE_ARRAY = 32,
    TYPE_OBJECT = 64
};

static const struct {
    const char *name;
    const char *words;
    unsigned bit;
} types[] = {
    {"null", "null", TYPE_NULL},
    {"boolean", "true or false", TYPE_BOOLEAN},
    {"integer", "an integer", TYPE_INTEGER},
    {"number", "a number", TYPE_NUMBER},
    {"string", "a string", TYPE_STRING},
    {"array", "an array", TYPE_ARRAY},
    {"object", "an object", TYPE_OBJECT},
};

unsigned schema_type_bit(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(types); i++)
        if (strcmp(types[i].name, name) == 0)
            return types[i].bit;
    return 0;
}

/* 1.0 is an integer (JSON Schema 2020-12, 6.1.1). */
static unsigned bits_of(const cJSON *v)
{
    if (cJSON_IsNumber(v)) {
        bool whole = isfinite(v->valuedouble) && floor(v->valuedouble) == v->valuedouble;
        return TYPE_NUMBER | (whole ? TYPE_INTEGER : 0u);
    }
    if (cJSON_IsString(v))
        return TYPE_STRING;
    if (cJSON_IsObject(v))
        return TYPE_OBJECT;
    if (cJSON_IsArray(v))
        return TYPE_ARRAY;
    return cJSON_IsBool(v) ? TYPE_BOOLEAN : TYPE_NULL;
}

static const char *type_words(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(types); i++)
        if (strcmp(types[i].name, name) == 0)
            return types[i].words;
    return name;
}

int schema_check_type(const struct schema_node *node, const struct schema_rule *rule,
                      const cJSON *value, const struct schema_place *at, struct schema_fault *fault)
{
    (void)node;
    const unsigned bits = bits_of(value);
    if (cJSON_IsString(rule->arg)) {
        if (bits & schema_type_bit(rule->arg->valuestring))
            return 0;
        return schema_refuse(at, fault, "must be %s", type_words(rule->arg->valuestring));
    }
    struct buf words;
    buf_init(&words, JSON_REASON_MAX);
    const cJSON *name;
    cJSON_ArrayForEach(name, rule->arg)
    {
        if (bits & schema_type_bit(name->valuestring)) {
            buf_done(&words);
            return 0;
        }
        buf_adds(&words, name == rule->arg->child ? "" : name->next ? ", " : " or ");
        buf_adds(&words, type_words(name->valuestring));
    }
    schema_refuse(at, fault, "must be %s", buf_str(&words));
    buf_done(&words);
    return -1;
}

static bool same_scalar(const cJSON *a, const cJSON *b)
{
    if (cJSON_IsNumber(a) && cJSON_IsNumber(b)) /* exactly, unlike cJSON_Compare */
        return a->valuedouble >= b->valuedouble && a->valuedouble <= b->valuedouble;
    if (cJSON_IsString(a) && cJSON_IsString(b))
        return strcmp(a->valuestring, b->valuestring) == 0;
    return (a->type & 0xff) == (b->type & 0xff) && (cJSON_IsBool(a) || cJSON_IsNull(a));
}

/* "must be one of ..." with the schema's own values; cut where they are many. */
static int refuse_listing(const char *words, const cJSON *first, const struct schema_place *at,
                          struct schema_fault *fault)
{
    struct buf list;
    buf_init(&list, JSON_REASON_MAX - 20);
    for (const cJSON *item = first; item; item = item->next) {
        char *text = json_text(item);
        size_t room = list.max - list.len;
        if (!text || strlen(text) + strlen(", ...") > room) {
            cJSON_free(text);
            buf_adds(&list, "...");
            break;
        }
        buf_adds(&list, text);
        cJSON_free(text);
        if (item->next)
            buf_adds(&list, ", ");
    }
    schema_refuse(at, fault, "must be %s%s", words, buf_str(&list));
    buf_done(&list);
    return -1;
}

int schema_check_const(const struct schema_node *node, const struct schema_rule *rule,
                       const cJSON *value, const struct schema_place *at,
                       struct schema_fault *fault)
{
    (void)node;
    if (same_scalar(rule->arg, value))
        return 0;
    const cJSON alone = {.type = rule->arg->type,
                         .valuestring = rule->arg->valuestring,
                         .valueint = rule->arg->valueint,
                         .valuedouble = rule->arg->valuedouble};
    return refuse_listing("", &alone, at, fault);
}

int schema_check_enum(const struct schema_node *node, const struct schema_rule *rule,
                      const cJSON *value, const struct schema_place *at, struct schema_fault *fault)
{
    (void)node;
    const cJSON *item;
    cJSON_ArrayForEach(item, rule->arg) if (same_scalar(item, value)) return 0;
    return refuse_listing("one of ", rule->arg->child, at, fault);
}

static const char *plural(double n)
{
    return n > 1 || n < 1 ? "s" : "";
}

static double length_of(const cJSON *string)
{
    return (double)str_utf8_len(string->valuestring, strlen(string->valuestring));
}

int schema_check_min_length(const struct schema_node *node, const struct schema_rule *rule,
                            const cJSON *value, const struct schema_place *at,
                            struct schema_fault *fault)
{
    (void)node;
    const double limit = rule->arg->valuedouble;
    if (!cJSON_IsString(value) || length_of(value) >= limit)
        return 0;
    return schema_refuse(at, fault, "must have at least %.17g character%s", limit, plural(limit));
}

int schema_check_max_length(const struct schema_node *node, const struct schema_rule *rule,
                            const cJSON *value, const struct schema_place *at,
                            struct schema_fault *fault)
{
    (void)node;
    const double limit = rule->arg->valuedouble;
    if (!cJSON_IsString(value) || length_of(value) <= limit)
        return 0;
    return schema_refuse(at, fault, "must have at most %.17g character%s", limit, plural(limit));
}

int schema_check_min_items(const struct schema_node *node, const struct schema_rule *rule,
                           const cJSON *value, const struct schema_place *at,
                           struct schema_fault *fault)
{
    (void)node;
    const double limit = rule->arg->valuedouble;
    if (!cJSON_IsArray(value) || cJSON_GetArraySize(value) >= limit)
        return 0;
    return schema_refuse(at, fault, "must have at least %.17g element%s", limit, plural(limit));
}

int schema_check_max_items(const struct schema_node *node, const struct schema_rule *rule,
                           const cJSON *value, const struct schema_place *at,
                           struct schema_fault *fault)
{
    (void)node;
    const double limit = rule->arg->valuedouble;
    if (!cJSON_IsArray(value) || cJSON_GetArraySize(value) <= limit)
        return 0;
    return schema_refuse(at, fault, "must have at most %.17g element%s", limit, plural(limit));
}

int schema_check_max_properties(const struct schema_node *node, const struct schema_rule *rule,
                                const cJSON *value, const struct schema_place *at,
                                struct schema_fault *fault)
{
    (void)node;
    const double limit = rule->arg->valuedouble;
    if (!cJSON_IsObject(value) || cJSON_GetArraySize(value) <= limit)
        return 0;
    return schema_refuse(at, fault, "must have at most %.17g member%s", limit, plural(limit));
}

int schema_check_minimum(const struct schema_node *node, const struct schema_rule *rule,
                         const cJSON *value, const struct schema_place *at,
                         struct schema_fault *fault)
{
    (void)node;
    if (!cJSON_IsNumber(value) || value->valuedouble >= rule->arg->valuedouble)
        return 0;
    return schema_refuse(at, fault, "must be at least %.17g", rule->arg->valuedouble);
}

int schema_check_maximum(const struct schema_node *node, const struct schema_rule *rule,
                         const cJSON *value, const struct schema_place *at,
                         struct schema_fault *fault)
{
    (void)node;
    if (!cJSON_IsNumber(value) || value->valuedouble <= rule->arg->valuedouble)
        return 0;
    return schema_refuse(at, fault, "must be at most %.17g", rule->arg->valuedouble);
}

int schema_check_required(const struct schema_node *node, const struct schema_rule *rule,
                          const cJSON *value, const struct schema_place *at,
                          struct schema_fault *fault)
{
    (void)node;
    if (!cJSON_IsObject(value))
        return 0;
    const cJSON *name;
    cJSON_ArrayForEach(name, rule->arg)
    {
        const struct schema_place missing = {at, name->valuestring, 0};
        if (!cJSON_GetObjectItemCaseSensitive(value, name->valuestring))
            return schema_refuse(&missing, fault, "is required");
    }
    return 0;
}

/* A title tells people more than a pattern does. */
static int refuse_form(const struct schema_node *node, const char *form,
                       const struct schema_place *at, struct schema_fault *fault)
{
    if (node->title)
        return schema_refuse(at, fault, "is not a valid %s", node->title);
    return schema_refuse(at, fault, "does not match %s", form);
}

int schema_check_pattern(const struct schema_node *node, const struct schema_rule *rule,
                         const cJSON *value, const struct schema_place *at,
                         struct schema_fault *fault)
{
    if (!cJSON_IsString(value))
        return 0;
    int rc = regexec(rule->regex, value->valuestring, 0, NULL, 0);
    if (rc == 0)
        return 0;
    if (rc != REG_NOMATCH) {
        schema_refuse(at, fault, "out of memory");
        fault->text.internal = true;
        return -1;
    }
    return refuse_form(node, rule->arg->valuestring, at, fault);
}

int schema_check_format(const struct schema_node *node, const struct schema_rule *rule,
                        const cJSON *value, const struct schema_place *at,
                        struct schema_fault *fault)
{
    int64_t us;
    if (!cJSON_IsString(value) || clock_parse(value->valuestring, strlen(value->valuestring), &us))
        return 0;
    return refuse_form(node, rule->arg->valuestring, at, fault);
}
