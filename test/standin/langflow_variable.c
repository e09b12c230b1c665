/*
 * Global variables, of one user each.
 */
#include "langflow.h"

#include <string.h>

#include "base/json.h"
#include "base/str.h"

static const char encrypted[] = "gAAAAA";

static bool is_generic(const struct lf_record *v)
{
    return str_eq(json_str(v->json, "type"), "Generic");
}

static bool is_blank(const struct lf_record *v)
{
    const char *value = json_str(v->json, "value");
    return !value || !*value;
}

static cJSON *show(const struct lf_store *s, const struct lf_record *v)
{
    cJSON *json = cJSON_Duplicate(v->json, true);
    if (str_eq(json_str(json, "type"), "Credential"))
        lf_set(json, "value", cJSON_CreateNull());
    if (s->minor >= 13) {
        cJSON_AddBoolToObject(json, "has_value", !is_blank(v));
        cJSON_AddBoolToObject(json, "is_owner", true);
        cJSON_AddBoolToObject(json, "can_manage_shares", true);
    }
    cJSON_AddNullToObject(json, "validation_error");
    cJSON_AddNullToObject(json, "is_valid");
    return json;
}

/* A blank Generic variable counts as one that cannot be decrypted: left out. */
static bool listed(const struct lf_record *v)
{
    return !(is_generic(v) && is_blank(v));
}

struct lf_record *lf_variable_new(struct lf_store *s, struct lf_record *user, const cJSON *wanted)
{
    static const char *const members[] = {"name", "type", "value", "default_fields", NULL};
    cJSON *json = cJSON_CreateObject();
    cJSON_AddNullToObject(json, "id");
    lf_take(json, wanted, members);
    if (!json_str(json, "type"))
        lf_set(json, "type", cJSON_CreateString("Credential"));
    if (!json_get(json, "default_fields"))
        cJSON_AddArrayToObject(json, "default_fields");
    return lf_add(s, LF_VARIABLE, user, NULL, NULL, json);
}

/* Newer ones put blank credentials there at a login. */
void lf_variable_placeholders(struct lf_store *s, struct lf_record *user)
{
    static const char *const names[] = {"ASTRA_TOKEN", "COMPONENT_ID", "FIELD_NAME", "FLOW_ID"};
    if (s->minor < 12 || user->first[LF_VARIABLE])
        return;
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        cJSON *wanted = cJSON_CreateObject();
        cJSON_AddStringToObject(wanted, "name", names[i]);
        cJSON_AddStringToObject(wanted, "value", "");
        lf_variable_new(s, user, wanted);
        cJSON_Delete(wanted);
    }
}

static bool is_hidden(const char *name)
{
    size_t n = strlen(name);
    return n >= 4 && str_starts(name, "__") && str_eq(name + n - 2, "__");
}

void lf_variable_list(struct lf_call *c)
{
    cJSON *json = cJSON_CreateArray();
    for (struct lf_record *v = lf_first(c->s, c->user, LF_VARIABLE); v; v = lf_next(c->s, v)) {
        if (listed(v) && !is_hidden(json_str(v->json, "name")))
            cJSON_AddItemToArray(json, show(c->s, v));
    }
    reply_json(c->out, 200, json);
}

/* The check sees what the list shows, the hidden ones too. */
static bool is_taken(const struct lf_call *c, const char *name)
{
    for (struct lf_record *v = lf_first(c->s, c->user, LF_VARIABLE); v; v = lf_next(c->s, v)) {
        if (listed(v) && str_eq(json_str(v->json, "name"), name))
            return true;
    }
    return false;
}

static bool looks_encrypted(const char *type, const char *value)
{
    return str_eq(type, "Generic") && value && str_starts(value, encrypted);
}

void lf_variable_create(struct lf_call *c)
{
    const char *name = lf_want(c, "name"), *value = name ? lf_want(c, "value") : NULL;
    if (!value)
        return;
    if (!cJSON_IsArray(json_get(c->body, "default_fields"))) {
        lf_invalid(c, "default_fields", "Field required");
    } else if (!*name && !*value) {
        reply_detail(c->out, 400, "Variable name and value cannot be empty");
    } else if (!*name) {
        reply_detail(c->out, 400, "Variable name cannot be empty");
    } else if (!*value) {
        reply_detail(c->out, 400, "Variable value cannot be empty");
    } else if (is_taken(c, name)) {
        reply_detail(c->out, 400, "Variable name already exists");
    } else if (looks_encrypted(json_str(c->body, "type"), value)) {
        reply_detail(c->out, 500,
                     "Generic variable '%s' cannot start with 'gAAAAA' as this is reserved for "
                     "encrypted values. Please use a different value.",
                     name);
    } else {
        struct lf_record *v = lf_variable_new(c->s, c->user, c->body);
        reply_json(c->out, 201, v ? show(c->s, v) : NULL);
    }
}

void lf_variable_patch(struct lf_call *c)
{
    static const char *const members[] = {"name", "type", "value", "default_fields", NULL};
    char id[UUID_TEXT];
    const char *given = lf_want(c, "id");
    struct lf_record *v = given ? lf_own(c->s, LF_VARIABLE, c->user, c->id) : NULL;
    if (!given)
        return;
    if (!v) {
        reply_detail(c->out, 404, "Variable not found");
        return;
    }
    const char *type = json_str(c->body, "type"), *value = json_str(c->body, "value");
    if (looks_encrypted(type ? type : json_str(v->json, "type"), value)) {
        reply_detail(c->out, 404, "Variable not found");
    } else if (!uuid_parse(given, strlen(given), id) || !str_eq(id, c->id)) {
        reply_detail(c->out, 500, "(sqlite3.IntegrityError) UNIQUE constraint failed: variable.id");
    } else {
        lf_take(v->json, c->body, members);
        v->changes++;
        reply_json(c->out, 200, show(c->s, v));
    }
}

void lf_variable_delete(struct lf_call *c)
{
    struct lf_record *v = lf_own(c->s, LF_VARIABLE, c->user, c->id);
    if (!v && c->s->minor >= 10) {
        reply_detail(c->out, 404, "Variable not found");
    } else if (!v) {
        reply_detail(c->out, 500, "%s variable not found.", c->id);
    } else {
        lf_remove(c->s, v, 0);
        c->out->status = 204;
    }
}
