/*
 * Validation as the Python server's models do it: every fault at once, in the order of the model's
 * fields and then of the surplus members, in the words of its library. Tables say what is wanted.
 */
#include "ragflow.h"

#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/str.h"
#include "base/uuid.h"

enum {
    WRITTEN_AS_FLOAT = 1 << 20,
    SHOWN_MAX = 128,
    PATH_MAX_BYTES = 256,
    CONFIG_MAX = 65535,
    PAGES_MAX = 1000000000
};

enum shape { STRING, INTEGER, NUMBER, BOOLEAN, STRINGS, LIST, ANY_OBJECT, MODEL };

struct field {
    const char *name;
    enum shape shape;
    double min, max; /* of the value, or of a string's characters; max 0: none */
    bool required, nullable, since025;
    const struct field *members; /* MODEL; ends with an empty name */
    const char *const *one_of;   /* STRING */
    const char *only;            /* what to say when it is none of one_of */
    const char *model;           /* MODEL: the class that messages name */
};

struct check {
    struct ask *a;
    struct buf faults;
};

/* ---- values as Python prints them ---- */

static void add_number(struct buf *b, const cJSON *v)
{
    char *text = cJSON_PrintUnformatted(v);
    buf_adds(b, text ? text : "?");
    if ((v->type & WRITTEN_AS_FLOAT) && text && !strpbrk(text, ".eE"))
        buf_adds(b, ".0");
    free(text);
}

static void add_value(struct buf *b, const cJSON *v, bool outermost);

static void add_members(struct buf *b, const cJSON *v)
{
    const cJSON *one;
    buf_addc(b, cJSON_IsObject(v) ? '{' : '[');
    cJSON_ArrayForEach(one, v)
    {
        if (one != v->child)
            buf_adds(b, ", ");
        if (one->string)
            buf_addf(b, "'%s': ", one->string);
        add_value(b, one, false);
    }
    buf_addc(b, cJSON_IsObject(v) ? '}' : ']');
}

/* Depth is bounded by the parser's. */
static void add_value(struct buf *b, const cJSON *v, bool outermost)
{
    if (cJSON_IsString(v))
        buf_addf(b, outermost ? "%s" : "'%s'", v->valuestring);
    else if (cJSON_IsNumber(v))
        add_number(b, v);
    else if (cJSON_IsBool(v))
        buf_adds(b, cJSON_IsTrue(v) ? "True" : "False");
    else if (cJSON_IsNull(v))
        buf_adds(b, "None");
    else
        add_members(b, v);
}

static void complain_text(struct check *k, const char *where, const char *what, const char *value)
{
    size_t n = strlen(value);
    bool cut = str_utf8_len(value, n) > SHOWN_MAX;
    if (cut)
        n = str_utf8_cut(value, n, SHOWN_MAX - 3);
    buf_addf(&k->faults, "%sField: <%s> - Message: <%s> - Value: <%.*s%s>",
             k->faults.len ? "\n" : "", where, what, (int)n, value, cut ? "..." : "");
}

static void complain(struct check *k, const char *where, const char *what, const cJSON *value)
{
    struct buf text;
    buf_init(&text, STANDIN_BODY_MAX);
    add_value(&text, value, true);
    complain_text(k, where, what, buf_str(&text));
    buf_done(&text);
}

static void complain_bound(struct check *k, const char *where, const char *fmt, double bound,
                           const cJSON *value)
{
    char what[128];
    struct buf text;
    buf_init(&text, sizeof(what));
    buf_addf(&text, "%s %g", fmt, bound);
    str_copy(what, sizeof(what), buf_str(&text));
    buf_done(&text);
    complain(k, where, what, value);
}

/* ---- one value ---- */

static void check_characters(struct check *k, const char *where, const struct field *f,
                             const cJSON *v)
{
    char what[96];
    struct buf text;
    double n = (double)str_utf8_len(v->valuestring, strlen(v->valuestring));
    if (n >= f->min && (f->max <= 0 || n <= f->max))
        return;
    double bound = n < f->min ? f->min : f->max;
    buf_init(&text, sizeof(what));
    buf_addf(&text, "String should have at %s %g character%s", n < f->min ? "least" : "most", bound,
             bound > 1 ? "s" : "");
    str_copy(what, sizeof(what), buf_str(&text));
    buf_done(&text);
    complain(k, where, what, v);
}

static void check_string(struct check *k, const char *where, const struct field *f, const cJSON *v)
{
    if (!cJSON_IsString(v)) {
        complain(k, where, f->only ? f->only : "Input should be a valid string", v);
        return;
    }
    for (size_t i = 0; f->one_of && f->one_of[i]; i++) {
        if (str_eq(f->one_of[i], v->valuestring))
            return;
    }
    if (f->one_of)
        complain(k, where, f->only, v);
    else
        check_characters(k, where, f, v);
}

static void check_number(struct check *k, const char *where, const struct field *f, const cJSON *v)
{
    bool whole = f->shape == INTEGER;
    if (!cJSON_IsNumber(v) || (whole && (v->type & WRITTEN_AS_FLOAT)))
        complain(k, where,
                 whole ? "Input should be a valid integer" : "Input should be a valid number", v);
    else if (v->valuedouble < f->min)
        complain_bound(k, where, "Input should be greater than or equal to", f->min, v);
    else if (f->max > 0 && v->valuedouble > f->max)
        complain_bound(k, where, "Input should be less than or equal to", f->max, v);
}

static void check_list_of(struct check *k, const char *where, bool strings, const cJSON *v)
{
    const cJSON *one;
    if (!cJSON_IsArray(v)) {
        complain(k, where, "Input should be a valid list", v);
        return;
    }
    int i = 0;
    cJSON_ArrayForEach(one, v)
    {
        char at[PATH_MAX_BYTES + 16];
        struct buf text;
        buf_init(&text, sizeof(at));
        buf_addf(&text, "%s.%d", where, i++);
        str_copy(at, sizeof(at), buf_str(&text));
        buf_done(&text);
        if (strings && !cJSON_IsString(one))
            complain(k, at, "Input should be a valid string", one);
    }
}

static void check_members(struct check *k, const char *where, const struct field *fields,
                          const cJSON *v);

static void check_model(struct check *k, const char *where, const struct field *f, const cJSON *v)
{
    if (cJSON_IsObject(v)) {
        check_members(k, where, f->members, v);
        return;
    }
    struct buf text;
    buf_init(&text, 256);
    buf_addf(&text, "Input should be a valid dictionary or instance of %s", f->model);
    complain(k, where, buf_str(&text), v);
    buf_done(&text);
}

static void check_value(struct check *k, const char *where, const struct field *f, const cJSON *v)
{
    if (f->nullable && cJSON_IsNull(v))
        return;
    switch (f->shape) {
    case STRING:
        check_string(k, where, f, v);
        break;
    case INTEGER:
    case NUMBER:
        check_number(k, where, f, v);
        break;
    case BOOLEAN:
        if (!cJSON_IsBool(v))
            complain(k, where, "Input should be a valid boolean", v);
        break;
    case STRINGS:
    case LIST:
        check_list_of(k, where, f->shape == STRINGS, v);
        break;
    case ANY_OBJECT:
        if (!cJSON_IsObject(v))
            complain(k, where, "Input should be a valid dictionary", v);
        break;
    case MODEL:
        check_model(k, where, f, v);
        break;
    }
}

static bool known(const struct check *k, const struct field *f)
{
    return !f->since025 || k->a->r->profile != RAGFLOW_024;
}

static void path_of(char out[PATH_MAX_BYTES], const char *where, const char *name)
{
    struct buf text;
    buf_init(&text, PATH_MAX_BYTES - 1);
    buf_addf(&text, "%s%s%s", where, *where ? "." : "", name);
    str_copy(out, PATH_MAX_BYTES, buf_str(&text));
    buf_done(&text);
}

static void check_surplus(struct check *k, const char *where, const struct field *fields,
                          const cJSON *object)
{
    const cJSON *v;
    cJSON_ArrayForEach(v, object)
    {
        const struct field *f = fields;
        char at[PATH_MAX_BYTES];
        while (f->name && !(known(k, f) && str_eq(f->name, v->string)))
            f++;
        if (f->name)
            continue;
        path_of(at, where, v->string);
        complain(k, at, "Extra inputs are not permitted", v);
    }
}

/* Recursion ends with the tables. */
static void check_members(struct check *k, const char *where, const struct field *fields,
                          const cJSON *object)
{
    for (const struct field *f = fields; f->name; f++) {
        const cJSON *v = cJSON_GetObjectItemCaseSensitive(object, f->name);
        char at[PATH_MAX_BYTES];
        if (!known(k, f))
            continue;
        path_of(at, where, f->name);
        if (v)
            check_value(k, at, f, v);
        else if (f->required)
            complain(k, at, "Field required", object);
    }
    check_surplus(k, where, fields, object);
}

/* ---- the tables ---- */

static const struct field raptor[] = {
    {.name = "use_raptor", .shape = BOOLEAN},
    {.name = "prompt", .shape = STRING, .min = 1},
    {.name = "max_token", .shape = INTEGER, .min = 512, .max = 2048},
    {.name = "clustering_threshold", .shape = NUMBER, .max = 1},
    {.name = "clustering_ratio", .shape = NUMBER, .max = 1, .since025 = true},
    {.name = "threshold", .shape = NUMBER, .max = 1},
    {.name = "max_cluster", .shape = INTEGER, .min = 1, .max = 1024},
    {.name = "random_seed", .shape = INTEGER},
    {.name = "scope",
     .shape = STRING,
     .one_of = (const char *const[]){"file", "dataset", NULL},
     .only = "Input should be 'file' or 'dataset'",
     .since025 = true},
    {.name = "auto_disable_for_structured_data", .shape = BOOLEAN, .since025 = true},
    {0}};

static const struct field graphrag[] = {
    {.name = "use_graphrag", .shape = BOOLEAN},
    {.name = "entity_types", .shape = STRINGS},
    {.name = "method",
     .shape = STRING,
     .one_of = (const char *const[]){"light", "general", "ner", NULL},
     .only = "Input should be 'light', 'general' or 'ner'"},
    {.name = "community", .shape = BOOLEAN},
    {.name = "resolution", .shape = BOOLEAN},
    {.name = "batch_chunk_token_size", .shape = INTEGER, .min = 512, .max = 8196, .since025 = true},
    {.name = "retry_attempts", .shape = INTEGER, .since025 = true},
    {.name = "retry_backoff_seconds", .shape = NUMBER, .since025 = true},
    {.name = "retry_backoff_max_seconds", .shape = NUMBER, .since025 = true},
    {.name = "build_subgraph_timeout_per_chunk_seconds", .shape = INTEGER, .since025 = true},
    {.name = "build_subgraph_min_timeout_seconds", .shape = INTEGER, .since025 = true},
    {.name = "merge_timeout_seconds", .shape = INTEGER, .since025 = true},
    {.name = "resolution_timeout_seconds", .shape = INTEGER, .since025 = true},
    {.name = "community_timeout_seconds", .shape = INTEGER, .since025 = true},
    {.name = "lock_acquire_timeout_seconds", .shape = INTEGER, .since025 = true},
    {0}};

static const struct field parent_child[] = {
    {.name = "use_parent_child", .shape = BOOLEAN},
    {.name = "children_delimiter", .shape = STRING, .min = 1},
    {0}};

static const struct field parser_config[] = {
    {.name = "auto_keywords", .shape = INTEGER, .max = 32},
    {.name = "auto_questions", .shape = INTEGER, .max = 10},
    {.name = "chunk_token_num", .shape = INTEGER, .min = 1, .max = 2048},
    {.name = "delimiter", .shape = STRING, .min = 1},
    {.name = "graphrag", .shape = MODEL, .members = graphrag, .model = "GraphragConfig"},
    {.name = "html4excel", .shape = BOOLEAN},
    {.name = "layout_recognize", .shape = STRING},
    {.name = "parent_child",
     .shape = MODEL,
     .members = parent_child,
     .model = "ParentChildConfig",
     .since025 = true},
    {.name = "raptor", .shape = MODEL, .members = raptor, .model = "RaptorConfig"},
    {.name = "tag_kb_ids", .shape = STRINGS},
    {.name = "topn_tags", .shape = INTEGER, .min = 1, .max = 10},
    {.name = "filename_embd_weight", .shape = NUMBER, .max = 1, .nullable = true},
    {.name = "task_page_size", .shape = INTEGER, .min = 1, .nullable = true},
    {.name = "pages", .shape = LIST, .nullable = true},
    {.name = "enable_children", .shape = BOOLEAN, .since025 = true},
    {.name = "children_delimiter", .shape = STRING, .since025 = true},
    {.name = "compilation_template_group_id", .shape = STRINGS, .since025 = true},
    {.name = "table_column_mode", .shape = STRING, .nullable = true, .since025 = true},
    {.name = "table_column_roles", .shape = ANY_OBJECT, .nullable = true, .since025 = true},
    {.name = "table_column_names", .shape = STRINGS, .nullable = true, .since025 = true},
    {.name = "ext", .shape = ANY_OBJECT, .since025 = true},
    {0}};

#define CHUNK_METHODS                                                                              \
    "Input should be 'naive', 'book', 'email', 'laws', 'manual', 'one', 'paper', 'picture', "      \
    "'presentation', 'qa', 'table', 'tag' or 'resume'"

static const char *const chunk_methods[] = {
    "naive",   "book",         "email", "laws",  "manual", "one",    "paper",
    "picture", "presentation", "qa",    "table", "tag",    "resume", NULL};
static const char *const permissions[] = {"me", "team", NULL};

/* What create and update share; `name` stands before it in each. */
#define SHARED_FIELDS                                                                              \
    {.name = "avatar", .shape = STRING, .max = 65535, .nullable = true},                           \
        {.name = "description", .shape = STRING, .max = 65535, .nullable = true},                  \
        {.name = "embedding_model", .shape = STRING, .max = 255, .nullable = true},                \
        {.name = "permission",                                                                     \
         .shape = STRING,                                                                          \
         .one_of = permissions,                                                                    \
         .only = "Input should be 'me' or 'team'"},                                                \
        {.name = "chunk_method", .shape = STRING, .one_of = chunk_methods, .only = CHUNK_METHODS}, \
        {.name = "parse_type", .shape = INTEGER, .max = 64, .nullable = true},                     \
        {.name = "pipeline_id", .shape = STRING, .min = 32, .max = 32, .nullable = true},          \
        {.name = "parser_config",                                                                  \
         .shape = MODEL,                                                                           \
         .members = parser_config,                                                                 \
         .model = "ParserConfig",                                                                  \
         .nullable = true},                                                                        \
        {.name = "auto_metadata_config", .shape = ANY_OBJECT, .nullable = true, .since025 = true}, \
    {                                                                                              \
        .name = "ext", .shape = ANY_OBJECT, .since025 = true                                       \
    }

static const struct field create_fields[] = {
    {.name = "name", .shape = STRING, .min = 1, .max = 128, .required = true}, SHARED_FIELDS, {0}};

static const struct field update_fields[] = {
    {.name = "name", .shape = STRING, .min = 1, .max = 128},
    SHARED_FIELDS,
    {.name = "pagerank", .shape = INTEGER, .max = 100},
    {.name = "language", .shape = STRING, .max = 32, .since025 = true},
    {.name = "connectors", .shape = LIST, .since025 = true},
    {0}};

static const struct field delete_fields[] = {
    {.name = "ids", .shape = STRINGS, .nullable = true},
    {.name = "delete_all", .shape = BOOLEAN, .since025 = true},
    {0}};

static const struct field delete_fields_024[] = {
    {.name = "ids", .shape = STRINGS, .nullable = true, .required = true}, {0}};

/* ---- bodies ---- */

static const char *skip_string(const char *p)
{
    for (p++; *p && *p != '"'; p++) {
        if (*p == '\\' && p[1])
            p++;
    }
    return *p ? p + 1 : p;
}

/* The next number in the text; NULL at its end. */
static const char *next_number(const char *p)
{
    while (*p && *p != '-' && (*p < '0' || *p > '9'))
        p = *p == '"' ? skip_string(p) : p + 1;
    return *p ? p : NULL;
}

/* The tree's numbers come in the order of the text's. */
static const char *mark_floats(cJSON *v, const char *text)
{
    if (cJSON_IsNumber(v) && text && (text = next_number(text))) {
        size_t n = strspn(text, "-+0123456789.eE");
        for (size_t i = 0; i < n; i++) {
            if (strchr(".eE", text[i]))
                v->type |= WRITTEN_AS_FLOAT;
        }
        return text + n;
    }
    cJSON *one;
    cJSON_ArrayForEach(one, v) text = mark_floats(one, text);
    return text;
}

void check_mark_floats(cJSON *tree, const char *text)
{
    mark_floats(tree, text);
}

/* Trims a member in place. */
static void trim(const cJSON *body, const char *name)
{
    static const char blanks[] = " \t\r\n\v\f";
    cJSON *v = cJSON_GetObjectItemCaseSensitive(body, name);
    if (!cJSON_IsString(v))
        return;
    size_t skip = strspn(v->valuestring, blanks), n = strlen(v->valuestring + skip);
    memmove(v->valuestring, v->valuestring + skip, n + 1);
    while (n && strchr(blanks, v->valuestring[n - 1]))
        v->valuestring[--n] = 0;
}

static bool is_hex_id(const char *s)
{
    return strlen(s) == 32 && strspn(s, "0123456789abcdefABCDEF") == 32;
}

static bool blank_between(const char *from, const char *to)
{
    while (from < to && strchr(" \t", *from))
        from++;
    return from == to;
}

static void check_model_name(struct check *k, const cJSON *body)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(body, "embedding_model");
    if (!cJSON_IsString(v) || is_hex_id(v->valuestring))
        return;
    const char *at = strchr(v->valuestring, '@');
    if (!at)
        complain(k, "embedding_model",
                 "embedding model identifier must follow <model_name>@<provider> format", v);
    else if (blank_between(v->valuestring, at) || blank_between(at + 1, at + strlen(at)))
        complain(k, "embedding_model", "both model_name and provider must be non-empty strings", v);
}

/* Whitespace goes before the length is looked at, yet the message shows what was sent. */
static void check_name(struct check *k, cJSON *body)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(body, "name");
    char *sent = cJSON_IsString(v) ? str_dup(v->valuestring) : NULL;
    trim(body, "name");
    if (sent && !*v->valuestring)
        complain_text(k, "name", "String should have at least 1 character", sent);
    free(sent);
}

static void check_pipeline(struct check *k, const cJSON *body)
{
    const cJSON *method = cJSON_GetObjectItemCaseSensitive(body, "chunk_method");
    const cJSON *type = cJSON_GetObjectItemCaseSensitive(body, "parse_type");
    const cJSON *pipeline = cJSON_GetObjectItemCaseSensitive(body, "pipeline_id");
    bool typed = type && !cJSON_IsNull(type), piped = pipeline && !cJSON_IsNull(pipeline);
    if (method && (piped || (typed && type->valuedouble != 1)))
        complain(k, "", "parse_type and pipeline_id must not be given with chunk_method", body);
    else if (!method && typed != piped)
        complain(k, "", "parse_type and pipeline_id must be given together", body);
}

static void check_config_size(struct check *k, const cJSON *body)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(body, "parser_config");
    char *text = cJSON_IsObject(v) ? json_text(v) : NULL;
    if (text && strlen(text) > CONFIG_MAX)
        complain(k, "parser_config", "Parser config exceeds size limit (max 65,535 characters)", v);
    free(text);
}

static bool settle(struct check *k)
{
    bool ok = !k->faults.len;
    if (!ok)
        ask_fail(k->a, k->a->r->profile == RAGFLOW_GO ? CODE_DATA : CODE_ARGUMENT, "%s",
                 buf_str(&k->faults));
    buf_done(&k->faults);
    return ok;
}

/* The Go server decodes into a struct: surplus members vanish, its own errors are 102. */
static bool check_go(struct ask *a, const cJSON *body, bool create)
{
    const cJSON *name = cJSON_GetObjectItemCaseSensitive(body, "name");
    if (name && cJSON_IsString(name) && *name->valuestring) {
        if (strlen(name->valuestring) <= 128)
            return true;
        ask_fail(a, CODE_DATA, "Dataset name is too long");
        return false;
    }
    if (!create && !name)
        return true;
    ask_fail(a, CODE_DATA, "Dataset name can't be empty.");
    return false;
}

static bool check_dataset(struct ask *a, cJSON *body, const struct field *fields)
{
    struct check k = {.a = a};
    buf_init(&k.faults, STANDIN_BODY_MAX);
    trim(body, "embedding_model");
    if (a->r->profile == RAGFLOW_GO) {
        trim(body, "name");
        return check_go(a, body, fields == create_fields);
    }
    check_name(&k, body);
    if (k.faults.len) /* or the length would be told once more */
        ragflow_set_text(body, "name", "-");
    check_model_name(&k, body);
    check_members(&k, "", fields, body);
    check_pipeline(&k, body);
    check_config_size(&k, body);
    return settle(&k);
}

bool check_create(struct ask *a, cJSON *body)
{
    return check_dataset(a, body, create_fields);
}

bool check_update(struct ask *a, cJSON *body)
{
    return check_dataset(a, body, update_fields);
}

/* ---- ids ---- */

bool check_uuid(const struct ask *a, const char *text, char out[RAGFLOW_ID])
{
    char uuid[UUID_TEXT];
    if (!uuid_parse(text, strlen(text), uuid))
        return false;
    uuid_hex(uuid, out);
    return a->r->profile != RAGFLOW_024 || out[12] == '1';
}

static const char *bad_uuid(const struct ask *a)
{
    return a->r->profile == RAGFLOW_024 ? "Invalid UUID1 format" : "Invalid UUID format";
}

static void check_ids(struct check *k, cJSON *ids)
{
    for (cJSON *one = cJSON_IsArray(ids) ? ids->child : NULL; one; one = one->next) {
        char id[RAGFLOW_ID];
        if (!cJSON_IsString(one)) {
            complain(k, "ids", "Input should be a valid string", one);
            return;
        }
        if (!check_uuid(k->a, one->valuestring, id)) {
            complain(k, "ids", bad_uuid(k->a), ids);
            return;
        }
        cJSON_SetValuestring(one, id);
        for (const cJSON *other = ids->child; other != one; other = other->next) {
            if (str_eq(other->valuestring, id)) {
                complain(k, "ids", "Duplicate ids", ids);
                return;
            }
        }
    }
}

bool check_delete(struct ask *a, cJSON *body)
{
    struct check k = {.a = a};
    buf_init(&k.faults, STANDIN_BODY_MAX);
    if (a->r->profile != RAGFLOW_GO)
        check_members(&k, "", a->r->profile == RAGFLOW_024 ? delete_fields_024 : delete_fields,
                      body);
    if (!k.faults.len)
        check_ids(&k, cJSON_GetObjectItemCaseSensitive(body, "ids"));
    return settle(&k);
}

/* ---- the query of a list ---- */

static void take_page(struct check *k, const char *name, const char *text, int64_t max,
                      int64_t *out)
{
    if (!str_to_i64(text, out) || *out > PAGES_MAX)
        complain_text(
            k, name, "Input should be a valid integer, unable to parse string as an integer", text);
    else if (*out < 1)
        complain_text(k, name, "Input should be greater than or equal to 1", text);
    else if (max && *out > max)
        complain_text(k, name, "Input should be less than or equal to 100", text);
}

static void take_flag(struct check *k, const char *name, const char *text, bool *out)
{
    static const char *const words[] = {"false", "0", "off", "no",  "n", "f",
                                        "true",  "1", "on",  "yes", "y", "t"};
    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        if (strcasecmp(words[i], text) == 0) {
            *out = i >= ARRAY_LEN(words) / 2;
            return;
        }
    }
    complain_text(k, name, "Input should be a valid boolean, unable to interpret input", text);
}

static void take_ids(struct check *k, const char *text, struct list_request *out)
{
    if (!out->ids)
        out->ids = cJSON_CreateArray();
    for (const char *p = text; *p;) {
        size_t n = strcspn(p, ",");
        char *one = str_dupn(p, n), id[RAGFLOW_ID];
        if (!one || !check_uuid(k->a, one, id))
            complain_text(k, "ids", bad_uuid(k->a), text);
        else
            cJSON_AddItemToArray(out->ids, cJSON_CreateString(id));
        free(one);
        p += n + (p[n] == ',');
    }
    if (cJSON_GetArraySize(out->ids) > 100)
        complain_text(k, "ids", "List should have at most 100 items", text);
}

static void take_argument(struct check *k, const char *name, const char *text,
                          struct list_request *out)
{
    bool old = k->a->r->profile == RAGFLOW_024, ignored = false;
    if (str_eq(name, "id")) {
        if (!check_uuid(k->a, text, out->id))
            complain_text(k, name, bad_uuid(k->a), text);
    } else if (str_eq(name, "name")) {
        out->name = *text ? text : NULL; /* an empty one filters nothing */
    } else if (str_eq(name, "ids") && !old) {
        take_ids(k, text, out);
    } else if (str_eq(name, "page")) {
        take_page(k, name, text, 0, &out->page);
    } else if (str_eq(name, "page_size")) {
        take_page(k, name, text, old ? 0 : 100, &out->page_size);
    } else if (str_eq(name, "orderby")) {
        out->by_update = str_eq(text, "update_time");
        if (!out->by_update && !str_eq(text, "create_time"))
            complain_text(k, name, "Input should be 'create_time' or 'update_time'", text);
    } else if (str_eq(name, "desc")) {
        take_flag(k, name, text, &out->descending);
    } else if (str_eq(name, "include_parsing_status") && !old) {
        take_flag(k, name, text, &ignored);
    } else if (!str_eq(name, "ext") || old) {
        complain_text(k, name, "Extra inputs are not permitted", text);
    }
}

bool check_list(struct ask *a, struct list_request *out)
{
    struct check k = {.a = a};
    const char *name, *text;
    *out = (struct list_request){.page = 1, .page_size = 30, .descending = true};
    buf_init(&k.faults, STANDIN_BODY_MAX);
    for (size_t i = 0; call_argument_at(a->call, i, &name, &text); i++)
        take_argument(&k, name, text, out);
    if (settle(&k))
        return true;
    list_request_done(out);
    return false;
}

void list_request_done(struct list_request *rq)
{
    cJSON_Delete(rq->ids);
    rq->ids = NULL;
}
