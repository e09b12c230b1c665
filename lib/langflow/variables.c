/*
 * The workspace's variables. Those named ragflow_* and waldur_* are the platform's and kept as they
 * should be; all others are the tenant's once they are there.
 */
#include "langflow/native.h"

#include <stdlib.h>
#include <string.h>

#include "base/str.h"

#define VARIABLES  "/api/v1/variables/"
#define SECRET_KEY "ragflow_api_key"
#define RETRIEVAL  "ragflow_"
#define GENERIC    "Generic"
#define CREDENTIAL "Credential"

enum { REFUSALS_MAX = 2, MISSES_MAX = 2 };

/* A Generic value that begins so is refused: it would look encrypted. */
static const char encrypted[] = "gAAAAA";

static bool is_platforms(const char *name)
{
    return str_starts(name, RETRIEVAL) || str_starts(name, "waldur_");
}

/* Lists do not show these. */
static bool is_hidden(const char *name)
{
    size_t n = strlen(name);
    return n >= 4 && str_starts(name, "__") && strcmp(name + n - 2, "__") == 0;
}

/* ---- what is wanted ---- */

static int want(struct driver_op *op, const char *name, const char *value, bool secret)
{
    if (name[0] == '\0' || value[0] == '\0') {
        return 0; /* servers take no blank ones */
    }
    struct langflow_variable v = {.name = str_dup(name),
                                  .value = str_dup(value),
                                  .credential = secret || str_starts(value, encrypted),
                                  .platform = is_platforms(name),
                                  .changed = json_has_string(op->target->changed, "", name)};
    struct langflow_variable *more =
        reallocarray(op->variables, op->n_variables + 1, sizeof(*op->variables));
    if (more) {
        op->variables = more;
    }
    if (!more || !v.name || !v.value) {
        free(v.name);
        free(v.value);
        return -1;
    }
    op->variables[op->n_variables++] = v;
    return 0;
}

static int want_item(struct driver_op *op, const cJSON *item)
{
    if (!item->string || cJSON_IsNull(item) ||
        (op->target->collection_key && str_eq(item->string, SECRET_KEY))) {
        return 0;
    }
    if (cJSON_IsString(item)) {
        return want(op, item->string, item->valuestring, false);
    }
    char *text = json_text(item);
    int r = text ? want(op, item->string, text, false) : -1;
    free(text);
    return r;
}

int langflow_variables_want(struct driver_op *op, struct err *err)
{
    const struct driver_target *t = op->target;
    const cJSON *item = NULL;
    int r = 0;
    if (op->goal != DRIVER_PRESENT) {
        return 0;
    }
    cJSON_ArrayForEach(item, t->variables)
    {
        r = r ? r : want_item(op, item);
    }
    if (r == 0 && t->collection_key) {
        r = want(op, SECRET_KEY, t->collection_key, true);
    }
    return r ? err_nomem(err) : 0;
}

void langflow_variables_free(struct driver_op *op)
{
    for (size_t i = 0; i < op->n_variables; i++) {
        langflow_wipe(op->variables[i].value);
        free(op->variables[i].value);
        free(op->variables[i].name);
    }
    free(op->variables);
    op->variables = NULL;
    op->n_variables = 0;
}

/* ---- what is there ---- */

/* Known to be blank: 1.12 and later leave such ones behind at a login. */
static bool is_blank(const cJSON *there)
{
    return !json_bool(there, "has_value", true);
}

static bool holds(const cJSON *there, const struct langflow_variable *v)
{
    return str_eq(json_str(there, "value"), v->value);
}

static bool differs(const cJSON *there, const struct langflow_variable *v)
{
    if (is_blank(there)) {
        return true;
    }
    if (!v->platform && (!v->changed || v->written)) {
        return false;
    }
    if (v->credential) {
        return !v->written || !str_eq(json_str(there, "type"), CREDENTIAL);
    }
    return !holds(there, v) || !str_eq(json_str(there, "type"), GENERIC);
}

static bool queue_one(struct driver_op *op, const struct langflow_step *step, const cJSON *there,
                      size_t variable)
{
    char id[UUID_TEXT];
    return !langflow_uuid(there, "id", id) || langflow_queue(op, step, id, NULL, NULL, variable);
}

/*
 * Of two with one name the platform's second goes; of a tenant's two the ones that are still as we
 * made them, as long as one stays.
 */
static bool is_surplus(const cJSON *there, const struct langflow_variable *v, bool first,
                       size_t edited)
{
    if (v->platform) {
        return !first;
    }
    return holds(there, v) && (edited > 0 || !first);
}

static bool compare_one(struct driver_op *op, const cJSON *list, size_t i)
{
    const struct langflow_variable *v = &op->variables[i];
    const cJSON *there = NULL, *first = NULL;
    size_t n = 0, edited = 0;
    cJSON_ArrayForEach(there, list)
    {
        bool named = str_eq(json_str(there, "name"), v->name);
        first = named && !first ? there : first;
        n += named;
        edited += named && !holds(there, v);
    }
    if (n == 0 && v->written) {
        op->variables_late = op->variables_late || !is_hidden(v->name);
        return true;
    }
    if (n == 0) {
        return langflow_queue(op, &langflow_variable_create, "", NULL, NULL, i);
    }
    bool fine = !differs(first, v) || queue_one(op, &langflow_variable_update, first, i);
    const cJSON *again = n > 1 ? list : NULL;
    cJSON_ArrayForEach(there, again)
    {
        if (fine && str_eq(json_str(there, "name"), v->name) &&
            is_surplus(there, v, there == first, edited)) {
            fine = queue_one(op, &langflow_variable_delete, there, i);
        }
    }
    return fine;
}

static bool is_wanted(const struct driver_op *op, const char *name)
{
    for (size_t i = 0; i < op->n_variables; i++) {
        if (str_eq(op->variables[i].name, name)) {
            return true;
        }
    }
    return false;
}

static void doubt(struct driver_op *op)
{
    langflow_queue_clear(op);
    op->variables_listed = false;
}

/* What was made does not show. A commit may come after its answer, so not at once again. */
static void late(struct driver_op *op)
{
    op->variables_late = false;
    langflow_settle(op);
    for (size_t i = 0; op->variable_misses >= MISSES_MAX && i < op->n_variables; i++) {
        op->variables[i].written = false;
    }
    op->variable_misses = op->variable_misses >= MISSES_MAX ? 0 : op->variable_misses + 1;
}

void langflow_variables_compare(struct driver_op *op, const cJSON *list)
{
    const cJSON *there = NULL;
    bool fine = true;
    langflow_queue_clear(op);
    for (size_t i = 0; fine && i < op->n_variables; i++) {
        fine = compare_one(op, list, i);
    }
    /* What leads to documents, and what an order dropped, goes where it is not wanted any more. */
    cJSON_ArrayForEach(there, list)
    {
        const char *name = json_str(there, "name");
        bool goes =
            name && (str_starts(name, RETRIEVAL) || json_has_string(op->target->changed, "", name));
        if (fine && goes && !is_wanted(op, name)) {
            fine = queue_one(op, &langflow_variable_delete, there, 0);
        }
    }
    op->variables_listed = fine;
    if (op->variables_late && !op->failed) {
        doubt(op);
        late(op);
    }
}

static void build_list(struct driver_op *op, struct exchange_request *r)
{
    langflow_url(op, r, VARIABLES, NULL, NULL);
}

static bool feed_list(struct driver_op *op, struct langflow_answer *a)
{
    cJSON *list = langflow_tree(a);
    bool fine = cJSON_IsArray(list);
    if (fine) {
        op->variables_read = true;
        langflow_variables_compare(op, list);
    }
    cJSON_Delete(list);
    return fine;
}

const struct langflow_step langflow_variable_list = {.what = "listing the workspace's variables",
                                                     .method = METHOD_GET,
                                                     .as = AS_TENANT,
                                                     .build = build_list,
                                                     .feed = feed_list};

/* ---- changes ---- */

/* Always the whole of it: older servers blank what is not said, and keep secrets in the clear. */
static void add_body(struct buf *b, const struct langflow_variable *v, const char *id)
{
    buf_addc(b, '{');
    if (id[0]) {
        buf_adds(b, "\"id\":");
        buf_add_json(b, id);
        buf_addc(b, ',');
    }
    buf_adds(b, "\"name\":");
    buf_add_json(b, v->name);
    buf_adds(b, ",\"value\":");
    buf_add_json(b, v->value);
    buf_adds(b, ",\"type\":");
    buf_add_json(b, v->credential ? CREDENTIAL : GENERIC);
    buf_adds(b, ",\"default_fields\":[]}");
}

static void build_change(struct driver_op *op, struct exchange_request *r)
{
    const struct langflow_item *item = langflow_item(op);
    langflow_url(op, r, VARIABLES, item->id[0] ? item->id : NULL, NULL);
    langflow_json(r);
    add_body(&r->body, &op->variables[item->variable], item->id);
}

/*
 * From 1.10 on an answer comes after its commit: in a user that is new, and that nothing was open
 * in since, what shows all that was asked for is there, and once. Otherwise a list has to tell.
 */
static bool is_proof(const struct driver_op *op, const cJSON *made,
                     const struct langflow_variable *v)
{
    return op->created && !op->variables_read && langflow_since(op, 10) &&
           str_eq(json_str(made, "type"), v->credential ? CREDENTIAL : GENERIC) &&
           (v->credential || holds(made, v));
}

/* What was made without proof has to show in a list: there may be two of it now. */
static void changed(struct driver_op *op, bool made)
{
    op->variables_made = op->variables_made || made;
    langflow_item_done(op);
    if (!langflow_item(op) && op->variables_made) {
        op->variables_made = false;
        op->variables_listed = false;
    }
}

/* Servers' words about a variable may repeat its value. */
static bool refuse(struct driver_op *op, const struct langflow_variable *v, int status)
{
    langflow_fail(op, ERR_REFUSED, "Langflow refuses the variable \"%.100s\" (HTTP %d)", v->name,
                  status);
    op->err.http_status = status;
    return true;
}

static bool feed_create(struct driver_op *op, struct langflow_answer *a)
{
    struct langflow_variable *v = &op->variables[langflow_item(op)->variable];
    char id[UUID_TEXT] = "";
    if (a->verdict == VERDICT_REFUSED) {
        bool exists = a->r->status == 400 && v->refusals++ < REFUSALS_MAX;
        if (exists && is_hidden(v->name)) {
            v->written = true;
            changed(op, false);
        } else if (exists) {
            doubt(op);
        } else {
            refuse(op, v, a->r->status);
        }
        return true;
    }
    cJSON *json = langflow_tree(a);
    bool fine = langflow_uuid(json, "id", id) && str_eq(json_str(json, "name"), v->name);
    if (fine) {
        v->written = true;
        str_copy(a->out->external_id, sizeof(a->out->external_id), id);
        changed(op, !is_proof(op, json, v));
    }
    cJSON_Delete(json);
    return fine;
}

const struct langflow_step langflow_variable_create = {.what = "making a variable of the workspace",
                                                       .effect = "variable.create",
                                                       .method = METHOD_POST,
                                                       .as = AS_TENANT,
                                                       .queued = true,
                                                       .build = build_change,
                                                       .feed = feed_create,
                                                       .doubt = doubt};

static bool feed_update(struct driver_op *op, struct langflow_answer *a)
{
    const struct langflow_item *item = langflow_item(op);
    struct langflow_variable *v = &op->variables[item->variable];
    char id[UUID_TEXT] = "";
    if (a->verdict == VERDICT_GONE && v->refusals++ < REFUSALS_MAX) {
        doubt(op);
        return true;
    }
    if (a->verdict == VERDICT_REFUSED || a->verdict == VERDICT_GONE) {
        return refuse(op, v, a->r->status);
    }
    cJSON *json = langflow_tree(a);
    bool fine = langflow_uuid(json, "id", id) && str_eq(id, item->id) &&
                str_eq(json_str(json, "type"), v->credential ? CREDENTIAL : GENERIC) &&
                (v->credential || holds(json, v));
    v->written = fine;
    cJSON_Delete(json);
    if (fine) {
        str_copy(a->out->external_id, sizeof(a->out->external_id), id);
        changed(op, false);
    }
    return fine;
}

const struct langflow_step langflow_variable_update = {.what =
                                                           "setting a variable of the workspace",
                                                       .effect = "variable.update",
                                                       .method = METHOD_PATCH,
                                                       .as = AS_TENANT,
                                                       .queued = true,
                                                       .build = build_change,
                                                       .feed = feed_update,
                                                       .doubt = doubt};

static void build_delete(struct driver_op *op, struct exchange_request *r)
{
    langflow_url(op, r, VARIABLES, langflow_item(op)->id, NULL);
}

static bool feed_delete(struct driver_op *op, struct langflow_answer *a)
{
    if (a->verdict != VERDICT_GOOD && a->verdict != VERDICT_GONE) {
        return false;
    }
    a->out->effect = EFFECT_DONE;
    str_copy(a->out->external_id, sizeof(a->out->external_id), langflow_item(op)->id);
    changed(op, false);
    return true;
}

const struct langflow_step langflow_variable_delete = {.what =
                                                           "deleting a variable of the workspace",
                                                       .effect = "variable.delete",
                                                       .method = METHOD_DELETE,
                                                       .as = AS_TENANT,
                                                       .queued = true,
                                                       .build = build_delete,
                                                       .feed = feed_delete,
                                                       .doubt = doubt};
