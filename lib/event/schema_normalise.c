/*
 * Bringing a value that was checked into one form. What is dropped and what is fixed follows from
 * the schema alone, so that nothing is listed twice.
 */
#include <string.h>

#include "event/schema.h"
#include "event/schema_node.h"

struct walk {
    const char *def;
    schema_fix_fn *fix;
    void *ctx;
};

/* Whether name, a member of an object that node governs, is spoken of; open: every member is. */
static void look_up(const struct schema_node *node, const char *name, bool *closed, bool *open,
                    bool *named)
{
    for (size_t i = 0; i < node->n_rules; i++) {
        const struct schema_rule *rule = &node->rules[i];
        if (rule->keyword->check == schema_check_additional)
            *open = true;
        if (rule->keyword->check == schema_check_properties) {
            *closed = true;
            *named = *named || cJSON_GetObjectItemCaseSensitive(rule->arg, name);
        }
        for (size_t k = 0; rule->keyword->in_place && k < rule->n_subs; k++)
            if (rule->subs[k])
                look_up(rule->subs[k], name, closed, open, named);
    }
}

static void prune(const struct schema_node *node, cJSON *object)
{
    cJSON *next;
    for (cJSON *member = object->child; member; member = next) {
        bool closed = false, open = false, named = false;
        next = member->next;
        look_up(node, member->string, &closed, &open, &named);
        if (closed && !open && !named)
            cJSON_Delete(cJSON_DetachItemViaPointer(object, member));
    }
}

static int walk_value(const struct walk *w, const struct schema_node *node, cJSON *value);

static int walk_properties(const struct walk *w, const struct schema_rule *rule, cJSON *object)
{
    size_t i = 0;
    const cJSON *property;
    cJSON_ArrayForEach(property, rule->arg)
    {
        const struct schema_node *sub = rule->subs[i++];
        cJSON *member = cJSON_GetObjectItemCaseSensitive(object, property->string);
        if (member && walk_value(w, sub, member) != 0)
            return -1;
    }
    return 0;
}

static int walk_additional(const struct walk *w, const struct schema_node *node,
                           const struct schema_rule *rule, cJSON *object)
{
    const cJSON *named = cJSON_GetObjectItemCaseSensitive(node->json, "properties");
    cJSON *member;
    cJSON_ArrayForEach(member, object)
    {
        if (cJSON_GetObjectItemCaseSensitive(named, member->string))
            continue;
        if (walk_value(w, rule->subs[0], member) != 0)
            return -1;
    }
    return 0;
}

static int walk_items(const struct walk *w, const struct schema_rule *rule, cJSON *array)
{
    cJSON *item;
    cJSON_ArrayForEach(item, array) if (walk_value(w, rule->subs[0], item) != 0) return -1;
    return 0;
}

static int walk_rules(const struct walk *w, const struct schema_node *node, cJSON *value)
{
    if (node->def && strcmp(node->def, w->def) == 0 && w->fix(w->ctx, value) != 0)
        return -1;
    for (size_t i = 0; i < node->n_rules; i++) {
        const struct schema_rule *rule = &node->rules[i];
        schema_check_fn *const check = rule->keyword->check;
        int rc = 0;
        if (check == schema_check_properties && cJSON_IsObject(value))
            rc = walk_properties(w, rule, value);
        else if (check == schema_check_additional && cJSON_IsObject(value))
            rc = walk_additional(w, node, rule, value);
        else if (check == schema_check_items && cJSON_IsArray(value))
            rc = walk_items(w, rule, value);
        for (size_t k = 0; rc == 0 && rule->keyword->in_place && k < rule->n_subs; k++)
            if (rule->subs[k])
                rc = walk_rules(w, rule->subs[k], value);
        if (rc != 0)
            return -1;
    }
    return 0;
}

/* Pruned once, at the node that a value is reached by: those in place below it know only a part. */
static int walk_value(const struct walk *w, const struct schema_node *node, cJSON *value)
{
    if (cJSON_IsObject(value))
        prune(node, value);
    return walk_rules(w, node, value);
}

int schema_normalise(const struct schema *s, cJSON *value, const char *def, schema_fix_fn *fix,
                     void *ctx)
{
    const struct walk w = {def, fix, ctx};
    return walk_value(&w, s->root, value);
}
