#include "driver/facade.h"
#include "langflow/langflow.h"
#include "langflow/native.h"

#include "base/json.h"
#include "base/str.h"

/* Variables that belong to the platform; a tenant's edits of all others survive. */
#define MARKER_VARIABLE     "waldur_subscription"
#define STATUS_VARIABLE     "waldur_status"
#define STATUS_ACTIVE       "active"
#define STATUS_CLOSED       "closed"
#define COLLECTION_VARIABLE "ragflow_collection_id"

static bool ours(const cJSON *object, const struct driver_target *t)
{
    return str_eq(json_str(object, "variables." MARKER_VARIABLE), t->marker);
}

static bool add_text(cJSON *object, const char *name, const char *text)
{
    return cJSON_AddStringToObject(object, name, text) != NULL;
}

/* Everything that a workspace starts with, the platform's own variables over the others. */
static cJSON *all_variables(const struct driver_target *t)
{
    cJSON *v = t->variables ? cJSON_Duplicate(t->variables, true) : cJSON_CreateObject();
    if (!v) {
        return NULL;
    }
    cJSON_DeleteItemFromObjectCaseSensitive(v, MARKER_VARIABLE);
    cJSON_DeleteItemFromObjectCaseSensitive(v, STATUS_VARIABLE);
    if (!add_text(v, MARKER_VARIABLE, t->marker) || !add_text(v, STATUS_VARIABLE, STATUS_ACTIVE)) {
        cJSON_Delete(v);
        return NULL;
    }
    return v;
}

static cJSON *create_body(const struct driver_target *t)
{
    cJSON *body = cJSON_CreateObject();
    cJSON *variables = all_variables(t);
    if (!body || !variables || !add_text(body, "name", t->name) ||
        (t->flow_id && !add_text(body, "flow_id", t->flow_id)) ||
        !cJSON_AddItemToObject(body, "variables", variables)) {
        cJSON_Delete(variables);
        cJSON_Delete(body);
        return NULL;
    }
    return body;
}

static bool platform_owned(const char *name)
{
    return str_starts(name, "ragflow_") || str_starts(name, "waldur_");
}

/* A member that is missing says the same as null: a server may drop nulls as it merges. */
static bool same(const cJSON *there, const cJSON *wanted)
{
    return there ? cJSON_Compare(there, wanted, true) : cJSON_IsNull(wanted);
}

/* Empties what leads to documents (unless it may: `open`) and what an order dropped, but not what
 * is wanted; a merge cannot take a member away. */
static bool add_blanks(const cJSON *has, const cJSON *wanted, const cJSON *dropped, bool open,
                       cJSON *out)
{
    bool fine = true;
    const cJSON *item = NULL;
    cJSON_ArrayForEach(item, has)
    {
        bool blank = cJSON_IsNull(item) || str_eq(cJSON_GetStringValue(item), "");
        bool goes = (!open && str_starts(item->string, "ragflow_")) ||
                    json_has_string(dropped, "", item->string);
        if (fine && !blank && goes && !cJSON_GetObjectItemCaseSensitive(wanted, item->string)) {
            fine = add_text(out, item->string, "");
        }
    }
    return fine;
}

/* What an open workspace still lacks: missing variables, and those that differ of the platform's
 * own and of what an order changed. */
static cJSON *missing_variables(const cJSON *has, const struct driver_target *t)
{
    cJSON *want = all_variables(t);
    bool retrieval = cJSON_GetObjectItemCaseSensitive(want, COLLECTION_VARIABLE) != NULL;
    cJSON *item = want ? want->child : NULL;
    while (item) {
        cJSON *next = item->next;
        const cJSON *there = cJSON_GetObjectItemCaseSensitive(has, item->string);
        bool matters =
            !there || platform_owned(item->string) || json_has_string(t->changed, "", item->string);
        if (!matters || same(there, item)) {
            cJSON_Delete(cJSON_DetachItemViaPointer(want, item));
        }
        item = next;
    }
    if (want && !add_blanks(has, t->variables, t->changed, retrieval, want)) {
        cJSON_Delete(want);
        return NULL;
    }
    return want;
}

/* What shuts a workspace: its status, and no way to the documents any more. */
static cJSON *closing_variables(const cJSON *has)
{
    cJSON *want = cJSON_CreateObject();
    bool closed = str_eq(json_str(has, STATUS_VARIABLE), STATUS_CLOSED);
    if (!want || (!closed && !add_text(want, STATUS_VARIABLE, STATUS_CLOSED)) ||
        !add_blanks(has, NULL, NULL, false, want)) {
        cJSON_Delete(want);
        return NULL;
    }
    return want;
}

static cJSON *update_body(const cJSON *object, enum driver_goal goal, const struct driver_target *t,
                          bool *needed)
{
    const cJSON *has = cJSON_GetObjectItemCaseSensitive(object, "variables");
    cJSON *variables = goal == DRIVER_CLOSED ? closing_variables(has) : missing_variables(has, t);
    *needed = !variables || variables->child;
    cJSON *body = variables && *needed ? cJSON_CreateObject() : NULL;
    if (!body || !cJSON_AddItemToObject(body, "variables", variables)) {
        cJSON_Delete(variables);
        cJSON_Delete(body);
        return NULL;
    }
    return body;
}

static const struct facade_noun workspace = {
    .path = "/api/v1/workspaces",
    .effect_create = "workspace.create",
    .effect_update = "workspace.update",
    .effect_delete = "workspace.delete",
    .ours = ours,
    .create_body = create_body,
    .update_body = update_body,
};

static struct driver_op *start(enum driver_goal goal, const struct driver_target *target,
                               struct err *err)
{
    return facade_start(&workspace, goal, target, err);
}

static const struct driver_class workspaces = {
    .api = "workspaces",
    .start = start,
    .next = facade_next,
    .feed = facade_feed,
    .free = facade_free,
};

const struct driver_class *langflow_driver(const char *api)
{
    static const struct driver_class *const classes[] = {&workspaces, &langflow_class};
    for (size_t i = 0; i < ARRAY_LEN(classes); i++) {
        if (str_eq(api, classes[i]->api)) {
            return classes[i];
        }
    }
    return NULL;
}
