/*
 * Checking: walks rules and value together. Keywords that speak of another type than the value's
 * take it, as the specification wants; schema_assert.c has those without subschemas.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "event/schema.h"
#include "event/schema_node.h"

/* Recursion is bounded by the schema's own depth: no $ref leads in a circle. */
static size_t render(const struct schema_place *at, char pointer[JSON_POINTER_MAX])
{
    if (!at) {
        pointer[0] = '\0';
        return 0;
    }
    size_t depth = render(at->up, pointer);
    if (at->name)
        json_pointer_push(pointer, at->name);
    else
        json_pointer_push_index(pointer, at->index);
    return depth + 1;
}

int schema_refuse(const struct schema_place *at, struct schema_fault *fault, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(fault->text.reason, sizeof(fault->text.reason), fmt, ap);
    va_end(ap);
    fault->text.internal = false;
    fault->depth = render(at, fault->text.pointer);
    return -1;
}

int schema_node_check(const struct schema_node *node, const cJSON *value,
                      const struct schema_place *at, struct schema_fault *fault)
{
    for (size_t i = 0; i < node->n_rules; i++) {
        const struct schema_rule *rule = &node->rules[i];
        if (rule->keyword->check(node, rule, value, at, fault) != 0)
            return -1;
    }
    return 0;
}

int schema_check_ref(const struct schema_node *node, const struct schema_rule *rule,
                     const cJSON *value, const struct schema_place *at, struct schema_fault *fault)
{
    (void)node;
    return schema_node_check(rule->subs[0], value, at, fault);
}

int schema_check_property_names(const struct schema_node *node, const struct schema_rule *rule,
                                const cJSON *value, const struct schema_place *at,
                                struct schema_fault *fault)
{
    (void)node;
    if (!cJSON_IsObject(value))
        return 0;
    const cJSON *member;
    cJSON_ArrayForEach(member, value)
    {
        const struct schema_place here = {at, member->string, 0};
        const cJSON name = {.type = cJSON_String, .valuestring = member->string};
        if (schema_node_check(rule->subs[0], &name, &here, fault) != 0)
            return -1;
    }
    return 0;
}

int schema_check_properties(const struct schema_node *node, const struct schema_rule *rule,
                            const cJSON *value, const struct schema_place *at,
                            struct schema_fault *fault)
{
    (void)node;
    if (!cJSON_IsObject(value))
        return 0;
    size_t i = 0;
    const cJSON *property;
    cJSON_ArrayForEach(property, rule->arg)
    {
        const struct schema_node *sub = rule->subs[i++];
        const cJSON *member = cJSON_GetObjectItemCaseSensitive(value, property->string);
        const struct schema_place here = {at, property->string, 0};
        if (member && schema_node_check(sub, member, &here, fault) != 0)
            return -1;
    }
    return 0;
}

int schema_check_additional(const struct schema_node *node, const struct schema_rule *rule,
                            const cJSON *value, const struct schema_place *at,
                            struct schema_fault *fault)
{
    if (!cJSON_IsObject(value))
        return 0;
    const cJSON *named = cJSON_GetObjectItemCaseSensitive(node->json, "properties");
    const cJSON *member;
    cJSON_ArrayForEach(member, value)
    {
        if (cJSON_GetObjectItemCaseSensitive(named, member->string))
            continue;
        const struct schema_place here = {at, member->string, 0};
        if (schema_node_check(rule->subs[0], member, &here, fault) != 0)
            return -1;
    }
    return 0;
}

int schema_check_items(const struct schema_node *node, const struct schema_rule *rule,
                       const cJSON *value, const struct schema_place *at,
                       struct schema_fault *fault)
{
    (void)node;
    if (!cJSON_IsArray(value))
        return 0;
    struct schema_place here = {at, NULL, 0};
    const cJSON *item;
    cJSON_ArrayForEach(item, value)
    {
        if (schema_node_check(rule->subs[0], item, &here, fault) != 0)
            return -1;
        here.index++;
    }
    return 0;
}

int schema_check_all_of(const struct schema_node *node, const struct schema_rule *rule,
                        const cJSON *value, const struct schema_place *at,
                        struct schema_fault *fault)
{
    (void)node;
    for (size_t i = 0; i < rule->n_subs; i++)
        if (schema_node_check(rule->subs[i], value, at, fault) != 0)
            return -1;
    return 0;
}

/*
 * How many alternatives take the value. Where none does, *fault is that of the one that got
 * deepest: it is most likely the one that was meant.
 */
static size_t count_taking(const struct schema_rule *rule, const cJSON *value,
                           const struct schema_place *at, struct schema_fault *fault)
{
    size_t taking = 0;
    struct schema_fault deepest = {.depth = 0};
    for (size_t i = 0; i < rule->n_subs; i++) {
        struct schema_fault tried;
        if (schema_node_check(rule->subs[i], value, at, &tried) == 0)
            taking++;
        else if (i == taking || tried.depth > deepest.depth)
            deepest = tried;
    }
    if (taking == 0)
        *fault = deepest;
    return taking;
}

int schema_check_any_of(const struct schema_node *node, const struct schema_rule *rule,
                        const cJSON *value, const struct schema_place *at,
                        struct schema_fault *fault)
{
    (void)node;
    return count_taking(rule, value, at, fault) > 0 ? 0 : -1;
}

int schema_check_one_of(const struct schema_node *node, const struct schema_rule *rule,
                        const cJSON *value, const struct schema_place *at,
                        struct schema_fault *fault)
{
    (void)node;
    size_t taking = count_taking(rule, value, at, fault);
    if (taking > 1)
        return schema_refuse(at, fault, "must fit exactly one of %zu alternatives", rule->n_subs);
    return taking == 1 ? 0 : -1;
}

int schema_check_if(const struct schema_node *node, const struct schema_rule *rule,
                    const cJSON *value, const struct schema_place *at, struct schema_fault *fault)
{
    (void)node;
    struct schema_fault ignored;
    bool holds = schema_node_check(rule->subs[0], value, at, &ignored) == 0;
    const struct schema_node *then = rule->subs[holds ? 1 : 2];
    return then ? schema_node_check(then, value, at, fault) : 0;
}

int schema_check(const struct schema *s, const cJSON *value, struct json_fault *fault)
{
    struct schema_fault found;
    if (schema_node_check(s->root, value, NULL, &found) == 0)
        return 0;
    *fault = found.text;
    return -1;
}
