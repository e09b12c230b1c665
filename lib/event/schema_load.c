/*
 * Loading: every keyword of a subschema becomes a rule, in the order of the table below, cheap ones
 * first, so that a fault is the same whatever order the document is written in.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "event/schema.h"
#include "event/schema_node.h"

enum { SCHEMA_BYTES_MAX = 256 * 1024, SCHEMA_DEPTH_MAX = 64 };

#define DIALECT     "https://json-schema.org/draft/2020-12/schema"
#define DEFS_PREFIX "#/$defs/"

const struct schema_keyword schema_keywords[] = {
    {"type", SCHEMA_SHAPE_TYPES, false, schema_check_type},
    {"const", SCHEMA_SHAPE_SCALAR, false, schema_check_const},
    {"enum", SCHEMA_SHAPE_SCALARS, false, schema_check_enum},
    {"minLength", SCHEMA_SHAPE_COUNT, false, schema_check_min_length},
    {"maxLength", SCHEMA_SHAPE_COUNT, false, schema_check_max_length},
    {"minItems", SCHEMA_SHAPE_COUNT, false, schema_check_min_items},
    {"maxItems", SCHEMA_SHAPE_COUNT, false, schema_check_max_items},
    {"minimum", SCHEMA_SHAPE_NUMBER, false, schema_check_minimum},
    {"maximum", SCHEMA_SHAPE_NUMBER, false, schema_check_maximum},
    {"maxProperties", SCHEMA_SHAPE_COUNT, false, schema_check_max_properties},
    {"required", SCHEMA_SHAPE_NAMES, false, schema_check_required},
    {"pattern", SCHEMA_SHAPE_PATTERN, false, schema_check_pattern},
    {"format", SCHEMA_SHAPE_FORMAT, false, schema_check_format},
    {"$ref", SCHEMA_SHAPE_REF, true, schema_check_ref},
    {"propertyNames", SCHEMA_SHAPE_NODE, false, schema_check_property_names},
    {"properties", SCHEMA_SHAPE_NODE_MAP, false, schema_check_properties},
    {"additionalProperties", SCHEMA_SHAPE_NODE, false, schema_check_additional},
    {"items", SCHEMA_SHAPE_NODE, false, schema_check_items},
    {"allOf", SCHEMA_SHAPE_NODES, true, schema_check_all_of},
    {"anyOf", SCHEMA_SHAPE_NODES, true, schema_check_any_of},
    {"oneOf", SCHEMA_SHAPE_NODES, true, schema_check_one_of},
    {"if", SCHEMA_SHAPE_IF, true, schema_check_if},
};
const size_t n_schema_keywords = ARRAY_LEN(schema_keywords);

/* Say nothing about values, or are read together with another keyword. */
static const char *const other_keywords[] = {"title",   "description", "examples",
                                             "default", "then",        "else"};
static const char *const root_keywords[] = {"$schema", "$defs"};

static struct schema_node *node_new(struct schema *s, const cJSON *json, struct err *err);

static bool among(const char *name, const char *const *list, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(name, list[i]) == 0)
            return true;
    return false;
}

static const struct schema_keyword *keyword_named(const char *name)
{
    for (size_t i = 0; i < n_schema_keywords; i++)
        if (strcmp(name, schema_keywords[i].name) == 0)
            return &schema_keywords[i];
    return NULL;
}

static bool is_scalar(const cJSON *v)
{
    return !cJSON_IsArray(v) && !cJSON_IsObject(v);
}

static bool is_type_name(const cJSON *v)
{
    return cJSON_IsString(v) && schema_type_bit(v->valuestring) != 0;
}

static bool is_string(const cJSON *v)
{
    return cJSON_IsString(v);
}

/* A non-empty array of what `is` takes. */
static bool is_list(const cJSON *v, bool (*is)(const cJSON *))
{
    if (!cJSON_IsArray(v) || !v->child)
        return false;
    const cJSON *item;
    cJSON_ArrayForEach(item, v) if (!is(item)) return false;
    return true;
}

static bool has_shape(const cJSON *v, enum schema_shape shape)
{
    switch (shape) {
    case SCHEMA_SHAPE_TYPES:
        return is_type_name(v) || is_list(v, is_type_name);
    case SCHEMA_SHAPE_SCALAR:
        return is_scalar(v);
    case SCHEMA_SHAPE_SCALARS:
        return is_list(v, is_scalar);
    case SCHEMA_SHAPE_COUNT:
        return cJSON_IsNumber(v) && v->valuedouble >= 0 && floor(v->valuedouble) == v->valuedouble;
    case SCHEMA_SHAPE_NUMBER:
        return cJSON_IsNumber(v);
    case SCHEMA_SHAPE_NAMES:
        return is_list(v, is_string);
    case SCHEMA_SHAPE_FORMAT:
        return cJSON_IsString(v) && strcmp(v->valuestring, "date-time") == 0;
    case SCHEMA_SHAPE_REF:
        return cJSON_IsString(v) && str_starts(v->valuestring, DEFS_PREFIX);
    case SCHEMA_SHAPE_PATTERN:
        return cJSON_IsString(v);
    case SCHEMA_SHAPE_NODES:
        return cJSON_IsArray(v) && v->child;
    case SCHEMA_SHAPE_NODE:
    case SCHEMA_SHAPE_NODE_MAP:
    case SCHEMA_SHAPE_IF:
        return cJSON_IsObject(v);
    }
    return false;
}

/* The node for a subschema under $defs, made once. */
static struct schema_node *node_for_def(struct schema *s, const cJSON *json, struct err *err)
{
    for (struct schema_node *n = s->nodes; n; n = n->next) {
        if (n->json != json)
            continue;
        if (!n->building)
            return n;
        err_set(err, ERR_INVALID, "$defs/%s refers to itself", json->string);
        return NULL;
    }
    struct schema_node *n = node_new(s, json, err);
    if (n)
        n->def = json->string;
    return n;
}

static struct schema_node *resolve(struct schema *s, const cJSON *ref, struct err *err)
{
    const char *name = ref->valuestring + strlen(DEFS_PREFIX);
    const cJSON *defs = cJSON_GetObjectItemCaseSensitive(s->json, "$defs");
    const cJSON *json = cJSON_GetObjectItemCaseSensitive(defs, name);
    if (!json) {
        err_set(err, ERR_INVALID, "%s does not exist", ref->valuestring);
        return NULL;
    }
    return node_for_def(s, json, err);
}

static int subs_alloc(struct schema_rule *rule, size_t n, struct err *err)
{
    rule->subs = calloc(n ? n : 1, sizeof(struct schema_node *));
    if (!rule->subs)
        return err_nomem(err);
    rule->n_subs = n;
    return 0;
}

/* One node for each member or item of arg. */
static int subs_from_children(struct schema *s, struct schema_rule *rule, struct err *err)
{
    if (subs_alloc(rule, (size_t)cJSON_GetArraySize(rule->arg), err) != 0)
        return -1;
    size_t i = 0;
    const cJSON *child;
    cJSON_ArrayForEach(child, rule->arg)
    {
        rule->subs[i] = node_new(s, child, err);
        if (!rule->subs[i++])
            return -1;
    }
    return 0;
}

/* One node for each of the given subschemas that is there. */
static int subs_from(struct schema *s, struct schema_rule *rule, const cJSON *const *json, size_t n,
                     struct err *err)
{
    if (subs_alloc(rule, n, err) != 0)
        return -1;
    for (size_t i = 0; i < n; i++) {
        if (!json[i])
            continue;
        rule->subs[i] = node_new(s, json[i], err);
        if (!rule->subs[i])
            return -1;
    }
    return 0;
}

static int rule_build(struct schema *s, const struct schema_node *node, struct schema_rule *rule,
                      struct err *err)
{
    const enum schema_shape shape = rule->keyword->shape;
    if (!has_shape(rule->arg, shape))
        return err_set(err, ERR_INVALID, "\"%s\" has a value that is not supported",
                       rule->keyword->name);
    switch (shape) {
    case SCHEMA_SHAPE_PATTERN:
        rule->regex = schema_regex_new(rule->arg->valuestring, err);
        return rule->regex ? 0 : -1;
    case SCHEMA_SHAPE_REF:
        if (subs_alloc(rule, 1, err) != 0)
            return -1;
        rule->subs[0] = resolve(s, rule->arg, err);
        return rule->subs[0] ? 0 : -1;
    case SCHEMA_SHAPE_NODE:
        return subs_from(s, rule, &rule->arg, 1, err);
    case SCHEMA_SHAPE_NODES:
    case SCHEMA_SHAPE_NODE_MAP:
        return subs_from_children(s, rule, err);
    case SCHEMA_SHAPE_IF: {
        const cJSON *const parts[] = {rule->arg,
                                      cJSON_GetObjectItemCaseSensitive(node->json, "then"),
                                      cJSON_GetObjectItemCaseSensitive(node->json, "else")};
        return subs_from(s, rule, parts, ARRAY_LEN(parts), err);
    }
    default:
        return 0;
    }
}

static int count_rules(const struct schema *s, const cJSON *json, size_t *n, struct err *err)
{
    const cJSON *member;
    *n = 0;
    cJSON_ArrayForEach(member, json)
    {
        if (keyword_named(member->string))
            ++*n;
        else if (!among(member->string, other_keywords, ARRAY_LEN(other_keywords)) &&
                 (json != s->json ||
                  !among(member->string, root_keywords, ARRAY_LEN(root_keywords))))
            return err_set(err, ERR_INVALID, "keyword \"%s\" is not supported", member->string);
    }
    return 0;
}

static int rules_build(struct schema *s, struct schema_node *node, struct err *err)
{
    size_t n;
    if (count_rules(s, node->json, &n, err) != 0)
        return -1;
    node->rules = calloc(n ? n : 1, sizeof(*node->rules));
    if (!node->rules)
        return err_nomem(err);
    for (size_t i = 0; i < n_schema_keywords; i++) {
        const cJSON *arg = cJSON_GetObjectItemCaseSensitive(node->json, schema_keywords[i].name);
        if (!arg)
            continue;
        struct schema_rule *rule = &node->rules[node->n_rules++];
        rule->keyword = &schema_keywords[i];
        rule->arg = arg;
        if (rule_build(s, node, rule, err) != 0)
            return -1;
    }
    return 0;
}

/* Owned by the schema from the start, so that a failure below leaves nothing to undo. */
static struct schema_node *node_new(struct schema *s, const cJSON *json, struct err *err)
{
    if (!cJSON_IsObject(json)) {
        err_set(err, ERR_INVALID, "a subschema must be an object");
        return NULL;
    }
    struct schema_node *node = calloc(1, sizeof(*node));
    if (!node) {
        err_nomem(err);
        return NULL;
    }
    node->json = json;
    node->title = json_str(json, "title");
    node->next = s->nodes;
    s->nodes = node;
    node->building = true;
    if (rules_build(s, node, err) != 0)
        return NULL;
    node->building = false;
    return node;
}

/* Definitions that nothing refers to are checked too. */
static int defs_build(struct schema *s, struct err *err)
{
    const cJSON *def;
    cJSON_ArrayForEach(def, cJSON_GetObjectItemCaseSensitive(
                                s->json, "$defs")) if (!node_for_def(s, def, err)) return -1;
    return 0;
}

struct schema *schema_load(const char *text, size_t n, struct err *err)
{
    const struct json_limits limits = {SCHEMA_BYTES_MAX, SCHEMA_DEPTH_MAX, SCHEMA_BYTES_MAX};
    struct json_fault fault;
    struct schema *s = calloc(1, sizeof(*s));
    if (!s) {
        err_nomem(err);
        return NULL;
    }
    if (json_parse(text, n, &limits, &s->json, &fault) != 0) {
        err_set(err, ERR_INVALID, "schema: %s: %s", fault.pointer, fault.reason);
        schema_free(s);
        return NULL;
    }
    const char *dialect = json_str(s->json, "$schema");
    if (!dialect || strcmp(dialect, DIALECT) != 0) {
        err_set(err, ERR_INVALID, "schema: \"$schema\" must be \"" DIALECT "\"");
        schema_free(s);
        return NULL;
    }
    s->root = node_new(s, s->json, err);
    if (!s->root || defs_build(s, err) != 0) {
        err_prefix(err, "schema");
        schema_free(s);
        return NULL;
    }
    return s;
}

static void node_free(struct schema_node *node)
{
    for (size_t i = 0; i < node->n_rules; i++) {
        free(node->rules[i].subs);
        schema_regex_free(node->rules[i].regex);
    }
    free(node->rules);
    free(node);
}

void schema_free(struct schema *s)
{
    if (!s)
        return;
    while (s->nodes) {
        struct schema_node *next = s->nodes->next;
        node_free(s->nodes);
        s->nodes = next;
    }
    cJSON_Delete(s->json);
    free(s);
}
