/*
 * Datasets. Lookups by id and by name are hashed, so that a storm measures the worker, not this.
 */
#include "ragflow.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/str.h"

enum { NAME_BYTES = 128, RENAMES_MAX = 1000, ERRORS_MAX = 5 };

/* What a sent parser_config is merged over; config_omitted() tells what differs where none was. */
static const char config_sent[] =
    "{\"auto_keywords\":0,\"auto_questions\":0,\"children_delimiter\":\"\","
    "\"chunk_token_num\":512,\"compilation_template_group_id\":[],"
    "\"delimiter\":\"\\n\",\"enable_children\":false,\"ext\":{},\"filename_embd_weight\":0.1,"
    "\"graphrag\":{\"batch_chunk_token_size\":4096,\"build_subgraph_min_timeout_seconds\":600,"
    "\"build_subgraph_timeout_per_chunk_seconds\":300,\"community\":false,"
    "\"community_timeout_seconds\":1800,\"entity_types\":[\"organization\","
    "\"person\",\"geo\",\"event\",\"category\"],\"lock_acquire_timeout_seconds\":600,"
    "\"merge_timeout_seconds\":180,\"method\":\"light\",\"resolution\":false,"
    "\"resolution_timeout_seconds\":1800,\"retry_attempts\":2,\"retry_backoff_max_seconds\":60.0,"
    "\"retry_backoff_seconds\":2.0,\"use_graphrag\":false},\"html4excel\":false,"
    "\"image_context_size\":0,\"layout_recognize\":\"DeepDOC\",\"llm_id\":\"\","
    "\"pages\":null,\"parent_child\":{\"children_delimiter\":\"\\n\","
    "\"use_parent_child\":false},\"raptor\":{\"auto_disable_for_structured_data\":true,"
    "\"clustering_ratio\":0.5,\"clustering_threshold\":0.3,\"max_cluster\":64,"
    "\"max_token\":512,\"prompt\":\"Summarize the paragraphs below "
    "without inventing facts or changing numbers.\\nOutput exactly "
    "two parts in the same language as the source:\\n1. First line: "
    "a concise title only.\\n2. Following lines: a concise summary "
    "of the content.\\nDo not output labels, Markdown headings, bullet "
    "points, or any other commentary.\\n\\nParagraphs:\\n{cluster_content}\","
    "\"random_seed\":0,\"scope\":\"file\",\"use_raptor\":false},\"table_column_mode\":null,"
    "\"table_column_names\":null,\"table_column_roles\":null,\"table_context_size\":0,"
    "\"tag_kb_ids\":[],\"task_page_size\":null,\"topn_tags\":1}";

/* ---- the collection of them ---- */

static size_t bucket(const char *s)
{
    uint64_t h = 14695981039346656037ULL; /* FNV-1a */
    for (; *s; s++)
        h = (h ^ (unsigned char)*s) * 1099511628211ULL;
    return (size_t)(h % RAGFLOW_BUCKETS);
}

/* utf8mb4_unicode_ci as far as ASCII goes: case and trailing blanks do not count. */
static char *fold(const char *name)
{
    char *folded = str_dup(name);
    size_t n = folded ? strlen(folded) : 0;
    for (size_t i = 0; i < n; i++)
        folded[i] = (char)tolower((unsigned char)folded[i]);
    while (n && folded[n - 1] == ' ')
        folded[--n] = 0;
    return folded;
}

struct dataset *dataset_find(const struct ragflow *r, const char *id)
{
    struct dataset *d = r->by_id[bucket(id)];
    while (d && !str_eq(d->id, id))
        d = d->next_id;
    return d;
}

/* Of one tenant, by name as the database compares names. */
static struct dataset *find_name(const struct ragflow *r, const struct tenant *t, const char *name)
{
    char *folded = fold(name);
    struct dataset *d = folded ? r->by_name[bucket(folded)] : NULL;
    while (d && !(d->owner == t && str_eq(d->folded, folded)))
        d = d->next_name;
    free(folded);
    return d;
}

bool dataset_visible(const struct dataset *d, const struct tenant *t)
{
    return d->owner == t ||
           (str_eq(json_str(d->json, "permission"), "team") && tenant_joined(t, d->owner));
}

static void link_name(struct ragflow *r, struct dataset *d)
{
    struct dataset **at = &r->by_name[bucket(d->folded)];
    d->next_name = *at;
    *at = d;
}

static void unlink_name(struct ragflow *r, struct dataset *d)
{
    struct dataset **at = &r->by_name[bucket(d->folded)];
    while (*at != d)
        at = &(*at)->next_name;
    *at = d->next_name;
}

void dataset_free(struct dataset *d)
{
    if (!d)
        return;
    cJSON_Delete(d->json);
    cJSON_Delete(d->documents);
    free(d->folded);
    free(d);
}

/* Takes the tree, which must hold strings `id` and `name`. */
static struct dataset *insert(struct ragflow *r, struct tenant *owner, cJSON *json)
{
    struct dataset *d = calloc(1, sizeof(*d));
    if (!d) {
        cJSON_Delete(json);
        return NULL;
    }
    d->json = json;
    d->id = json_str(json, "id");
    d->folded = fold(json_str(json, "name"));
    d->documents = cJSON_CreateArray();
    d->owner = owner;
    if (!d->folded || !d->documents) {
        dataset_free(d);
        return NULL;
    }
    d->seq = ++r->created;
    d->older = r->newest;
    if (r->newest)
        r->newest->newer = d;
    else
        r->oldest = d;
    r->newest = d;
    struct dataset **id = &r->by_id[bucket(d->id)];
    d->next_id = *id;
    *id = d;
    link_name(r, d);
    return d;
}

void dataset_remove(struct ragflow *r, struct dataset *d)
{
    struct dataset **at = &r->by_id[bucket(d->id)];
    while (*at != d)
        at = &(*at)->next_id;
    *at = d->next_id;
    unlink_name(r, d);
    if (d->older)
        d->older->newer = d->newer;
    else
        r->oldest = d->newer;
    if (d->newer)
        d->newer->older = d->older;
    else
        r->newest = d->older;
    r->deleted++;
    dataset_free(d);
}

/* ---- what one looks like ---- */

static cJSON *config_default(void)
{
    return cJSON_Parse(config_sent);
}

/* The cost trap: without a parser_config the expensive parts are on. */
static cJSON *config_omitted(void)
{
    static const char *const absent[] = {"compilation_template_group_id",
                                         "enable_children",
                                         "ext",
                                         "filename_embd_weight",
                                         "pages",
                                         "table_column_mode",
                                         "tag_kb_ids",
                                         "table_column_names",
                                         "table_column_roles",
                                         "task_page_size"};
    cJSON *config = config_default();
    cJSON *raptor = cJSON_GetObjectItemCaseSensitive(config, "raptor");
    cJSON *graphrag = cJSON_GetObjectItemCaseSensitive(config, "graphrag");
    for (size_t i = 0; i < ARRAY_LEN(absent); i++)
        cJSON_DeleteItemFromObjectCaseSensitive(config, absent[i]);
    cJSON_DeleteItemFromObjectCaseSensitive(raptor, "auto_disable_for_structured_data");
    cJSON_DeleteItemFromObjectCaseSensitive(raptor, "scope");
    cJSON_DeleteItemFromObjectCaseSensitive(graphrag, "community");
    cJSON_DeleteItemFromObjectCaseSensitive(graphrag, "resolution");
    ragflow_set(raptor, "use_raptor", cJSON_CreateTrue());
    ragflow_set(graphrag, "use_graphrag", cJSON_CreateTrue());
    ragflow_set(config, "topn_tags", cJSON_CreateNumber(3));
    return config;
}

/* Objects are merged, everything else replaces. Depth is bounded by the parser's. */
static void merge(cJSON *into, const cJSON *from)
{
    const cJSON *v;
    cJSON_ArrayForEach(v, from)
    {
        cJSON *mine = cJSON_GetObjectItemCaseSensitive(into, v->string);
        if (cJSON_IsObject(mine) && cJSON_IsObject(v))
            merge(mine, v);
        else
            ragflow_set(into, v->string, cJSON_Duplicate(v, true));
    }
}

static void add_nulls(cJSON *json)
{
    static const char *const works[] = {
        "graphrag",          "mindmap",  "raptor",    "session_essence",
        "session_graph",     "skill",    "structure", "structure_graph",
        "structure_mindmap", "timeline", "wiki"};
    for (size_t i = 0; i < ARRAY_LEN(works); i++) {
        struct buf name;
        buf_init(&name, 64);
        buf_addf(&name, "%s_task_id", works[i]);
        cJSON_AddNullToObject(json, buf_str(&name));
        buf_reset(&name);
        buf_addf(&name, "%s_task_finish_at", works[i]);
        cJSON_AddNullToObject(json, buf_str(&name));
        buf_done(&name);
    }
    cJSON_AddNullToObject(json, "avatar");
    cJSON_AddNullToObject(json, "description");
    cJSON_AddNullToObject(json, "pipeline_id");
    cJSON_AddNullToObject(json, "tenant_embd_id");
}

static cJSON *blank(const struct tenant *owner, const char *name)
{
    char id[RAGFLOW_ID];
    cJSON *json = cJSON_CreateObject();
    ragflow_id(id);
    cJSON_AddStringToObject(json, "id", id);
    cJSON_AddStringToObject(json, "name", name);
    cJSON_AddStringToObject(json, "tenant_id", owner->id);
    cJSON_AddStringToObject(json, "created_by", owner->id);
    cJSON_AddStringToObject(json, "embedding_model", owner->default_model);
    cJSON_AddStringToObject(json, "chunk_method", "naive");
    cJSON_AddStringToObject(json, "permission", "me");
    cJSON_AddStringToObject(json, "language", "English");
    cJSON_AddStringToObject(json, "status", "1");
    cJSON_AddNumberToObject(json, "chunk_count", 0);
    cJSON_AddNumberToObject(json, "document_count", 0);
    cJSON_AddNumberToObject(json, "token_num", 0);
    cJSON_AddNumberToObject(json, "pagerank", 0);
    cJSON_AddNumberToObject(json, "similarity_threshold", 0.2);
    cJSON_AddNumberToObject(json, "vector_similarity_weight", 0.3);
    add_nulls(json);
    ragflow_stamp(json, false);
    ragflow_stamp(json, true);
    return json;
}

cJSON *dataset_render(const struct ragflow *r, const struct dataset *d)
{
    cJSON *json = cJSON_Duplicate(d->json, true);
    ragflow_set(json, "document_count", cJSON_CreateNumber(cJSON_GetArraySize(d->documents)));
    if (r->profile == RAGFLOW_GO) {
        cJSON *method = cJSON_DetachItemFromObjectCaseSensitive(json, "chunk_method");
        cJSON_AddItemToObject(json, "parser_id", method);
    }
    return json;
}

struct dataset *dataset_plant(struct ragflow *r, struct tenant *owner, const cJSON *wanted)
{
    cJSON *json = blank(owner, json_str(wanted, "name"));
    cJSON_AddItemToObject(json, "parser_config", config_default());
    const cJSON *v;
    cJSON_ArrayForEach(v, wanted)
    {
        if (!str_eq(v->string, "tenant") && !str_eq(v->string, "documents"))
            ragflow_set(json, v->string, cJSON_Duplicate(v, true));
    }
    const char *id = json_str(json, "id");
    if (!id || !json_str(json, "name") || dataset_find(r, id)) {
        cJSON_Delete(json);
        return NULL;
    }
    struct dataset *d = insert(r, owner, json);
    if (d)
        d->planted = true;
    return d;
}

/* ---- create ---- */

/* "stem(7)" is "stem" and 7; 0 where there is no such end. */
static long counter_of(const char *stem, size_t *main_len)
{
    size_t n = strlen(stem), at;
    *main_len = n;
    if (n < 3 || stem[n - 1] != ')')
        return 0;
    for (at = n - 1; at && isdigit((unsigned char)stem[at - 1]);)
        at--;
    if (!at || at == n - 1 || n - at > 9 || stem[at - 1] != '(')
        return 0;
    *main_len = at - 1;
    while (*main_len && stem[*main_len - 1] == ' ')
        (*main_len)--;
    return strtol(stem + at, NULL, 10);
}

/* The next try at a free name. It works on a path's last part: "org/sub.v1" becomes "sub(1).v1". */
static char *next_name(const char *name)
{
    const char *slash = strrchr(name, '/'), *last = slash ? slash + 1 : name;
    const char *dot = strrchr(last, '.');
    if (!dot || dot == last || !dot[1])
        dot = last + strlen(last);
    char *stem = str_dupn(last, (size_t)(dot - last));
    if (!stem)
        return NULL;
    size_t n;
    long counter = counter_of(stem, &n);
    struct buf b;
    buf_init(&b, 4096);
    buf_addf(&b, "%.*s(%ld)%s", (int)n, stem, counter + 1, dot);
    free(stem);
    return buf_steal(&b);
}

/* Go counts up from the name as it was asked for. */
static char *nth_name(const char *name, int n)
{
    const char *dot = strrchr(name, '.');
    if (!dot || dot == name)
        dot = name + strlen(name);
    struct buf b;
    buf_init(&b, 4096);
    buf_addf(&b, "%.*s(%d)%s", (int)(dot - name), name, n, dot);
    return buf_steal(&b);
}

static char *free_name(struct ask *a, const char *wanted)
{
    char *name = str_dup(wanted);
    for (int i = 1; name && i <= RENAMES_MAX; i++) {
        if (a->r->settings.race || !find_name(a->r, a->tenant, name))
            return name;
        char *next = a->r->profile == RAGFLOW_GO ? nth_name(wanted, i) : next_name(name);
        free(name);
        name = next;
    }
    free(name);
    return NULL;
}

/* `ext` at the top goes over the request unchecked, as there. */
static void take_ext(cJSON *body)
{
    cJSON *ext = cJSON_DetachItemFromObjectCaseSensitive(body, "ext"), *v;
    cJSON_ArrayForEach(v, ext)
    {
        ragflow_set(body, v->string, cJSON_Duplicate(v, true));
    }
    cJSON_Delete(ext);
}

static void take_config(cJSON *json, const cJSON *sent)
{
    cJSON *config = NULL;
    if (sent && cJSON_IsObject(sent) && sent->child) {
        config = config_default();
        merge(config, sent);
    } else {
        config = config_omitted();
    }
    cJSON_AddItemToObject(json, "parser_config", config);
}

static void take_members(cJSON *json, const cJSON *body, const char *const *names)
{
    for (; *names; names++) {
        const cJSON *v = cJSON_GetObjectItemCaseSensitive(body, *names);
        if (v)
            ragflow_set(json, *names, cJSON_Duplicate(v, true));
    }
}

static void take_model(cJSON *json, const char *model)
{
    if (!model)
        return;
    ragflow_set_text(json, "embedding_model", model);
    if (!strchr(model, '@'))
        ragflow_set_text(json, "tenant_embd_id", model);
}

static bool model_is_fine(struct ask *a, const char *model)
{
    bool default_counts = a->r->profile == RAGFLOW_GO;
    if (!model && default_counts)
        model = a->tenant->default_model;
    return !model || tenant_check_model(a, model);
}

static void create(struct ask *a, const cJSON *body)
{
    static const char *const python[] = {"description",  "avatar",      "permission",
                                         "chunk_method", "pipeline_id", NULL};
    static const char *const go[] = {"permission", "pipeline_id", NULL};
    const char *wanted = json_str(body, "name"), *model = json_str(body, "embedding_model");
    bool is_go = a->r->profile == RAGFLOW_GO;
    if (!wanted || strlen(wanted) > NAME_BYTES) {
        ask_fail(a, CODE_DATA, "Internal server error");
        return;
    }
    if (!model_is_fine(a, model))
        return;
    char *name = free_name(a, wanted);
    if (!name) {
        ask_fail(a, CODE_DATA, "Internal server error");
        return;
    }
    cJSON *json = blank(a->tenant, name);
    free(name);
    take_members(json, body, is_go ? go : python);
    if (is_go && json_str(body, "parser_id"))
        ragflow_set_text(json, "chunk_method", json_str(body, "parser_id"));
    take_model(json, model);
    take_config(json, is_go ? NULL : cJSON_GetObjectItemCaseSensitive(body, "parser_config"));
    struct dataset *d = insert(a->r, a->tenant, json);
    if (d)
        ask_ok(a, dataset_render(a->r, d));
    else
        ask_fail(a, CODE_EXCEPTION, "MemoryError()");
}

void datasets_create(struct ask *a)
{
    cJSON *body = ask_body(a);
    if (body && check_create(a, body)) {
        if (a->r->profile == RAGFLOW_PYTHON)
            take_ext(body);
        create(a, body);
    }
    cJSON_Delete(body);
}

/* ---- list and get ---- */

static void lacks(struct ask *a, const char *what, const char *name)
{
    ask_fail(a, ask_miss_code(a), "User '%s' lacks permission for %s '%s'", a->tenant->id, what,
             name);
}

static double time_of(const struct dataset *d, bool update)
{
    const cJSON *v = json_get(d->json, update ? "update_time" : "create_time");
    return v ? v->valuedouble : 0;
}

static int by_creation(const void *a, const void *b)
{
    const struct dataset *x = *(struct dataset *const *)a, *y = *(struct dataset *const *)b;
    double s = time_of(x, false), t = time_of(y, false);
    return s < t ? -1 : s > t ? 1 : x->seq < y->seq ? -1 : 1;
}

static int by_change(const void *a, const void *b)
{
    const struct dataset *x = *(struct dataset *const *)a, *y = *(struct dataset *const *)b;
    double s = time_of(x, true), t = time_of(y, true);
    return s < t ? -1 : s > t ? 1 : x->seq < y->seq ? -1 : 1;
}

static cJSON *list_row(const struct ask *a, const struct dataset *d)
{
    cJSON *row = dataset_render(a->r, d);
    char nickname[RAGFLOW_EMAIL];
    str_copy(nickname, sizeof(nickname), d->owner->email);
    nickname[strcspn(nickname, "@")] = 0;
    cJSON_AddStringToObject(row, "nickname", nickname);
    cJSON_AddNullToObject(row, "tenant_avatar");
    cJSON_AddStringToObject(row, "embedding_model_name", "");
    return row;
}

static bool listed(const struct list_request *rq, const struct dataset *d, const char *folded)
{
    if (*rq->id && !str_eq(d->id, rq->id))
        return false;
    if (folded && !str_eq(d->folded, folded))
        return false;
    const cJSON *id;
    cJSON_ArrayForEach(id, rq->ids)
    {
        if (str_eq(id->valuestring, d->id))
            return true;
    }
    return !rq->ids;
}

/* Candidates by the narrowest index: one id, one name's bucket, or all. */
static size_t collect(const struct ask *a, const struct list_request *rq, struct dataset **out)
{
    char *folded = rq->name ? fold(rq->name) : NULL;
    struct dataset *d = *rq->id  ? dataset_find(a->r, rq->id)
                        : folded ? a->r->by_name[bucket(folded)]
                                 : a->r->oldest;
    size_t n = 0;
    while (d) {
        if (dataset_visible(d, a->tenant) && listed(rq, d, folded))
            out[n++] = d;
        d = *rq->id ? NULL : folded ? d->next_name : d->newer;
    }
    free(folded);
    return n;
}

static void list(struct ask *a, const struct list_request *rq)
{
    size_t room = *rq->id ? 1 : (size_t)(a->r->created - a->r->deleted) + 1;
    struct dataset **found = calloc(room, sizeof(struct dataset *));
    size_t n = found ? collect(a, rq, found) : 0;
    if (!n && (*rq->id || rq->name)) {
        lacks(a, "dataset", *rq->id ? rq->id : rq->name);
        free(found);
        return;
    }
    if (n)
        qsort(found, n, sizeof(struct dataset *), rq->by_update ? by_change : by_creation);
    cJSON *data = cJSON_CreateArray();
    int64_t first = rq->page > (int64_t)n ? (int64_t)n : (rq->page - 1) * rq->page_size;
    for (int64_t i = first; found && i < (int64_t)n && i - first < rq->page_size; i++)
        cJSON_AddItemToArray(data, list_row(a, found[rq->descending ? (int64_t)n - 1 - i : i]));
    free(found);
    cJSON *answer = cJSON_CreateObject();
    cJSON_AddNumberToObject(answer, "code", 0);
    cJSON_AddItemToObject(answer, "data", data);
    if (a->r->profile == RAGFLOW_GO)
        cJSON_AddNullToObject(answer, "message");
    cJSON_AddNumberToObject(answer, "total_datasets", (double)n);
    reply_json(a->out, 200, answer);
}

void datasets_list(struct ask *a)
{
    struct list_request rq;
    if (!check_list(a, &rq))
        return;
    list(a, &rq);
    list_request_done(&rq);
}

/* The dataset of the path, or NULL and the answer. */
static struct dataset *of_path(struct ask *a, bool own)
{
    char id[RAGFLOW_ID];
    if (!check_uuid(a, a->part[0], id)) {
        ask_fail(a, CODE_ARGUMENT, "Field: <dataset_id> - Message: <%s> - Value: <%s>",
                 a->r->profile == RAGFLOW_024 ? "Invalid UUID1 format" : "Invalid UUID format",
                 a->part[0]);
        return NULL;
    }
    struct dataset *d = dataset_find(a->r, id);
    if (d && (own ? d->owner == a->tenant : dataset_visible(d, a->tenant)))
        return d;
    lacks(a, "dataset", a->part[0]);
    return NULL;
}

void datasets_get(struct ask *a)
{
    const struct dataset *d = of_path(a, false);
    if (!d)
        return;
    cJSON *data = dataset_render(a->r, d);
    cJSON_AddArrayToObject(data, "connectors");
    cJSON_AddNumberToObject(data, "size", 0);
    ask_ok(a, data);
}

/* ---- update ---- */

/* Members of `ext` come to stand beside it, which is why an overlap can be set here alone. */
static void update_config(const struct ask *a, cJSON *json, const cJSON *sent)
{
    cJSON *config = cJSON_GetObjectItemCaseSensitive(json, "parser_config");
    cJSON *change = cJSON_Duplicate(sent, true);
    if (a->r->profile == RAGFLOW_PYTHON) {
        cJSON *ext = cJSON_DetachItemFromObjectCaseSensitive(change, "ext");
        merge(config, change);
        merge(config, ext);
        cJSON_Delete(ext);
        if (!json_get(change, "parent_child")) {
            cJSON *whole = config_default();
            ragflow_set(config, "parent_child",
                        cJSON_DetachItemFromObjectCaseSensitive(whole, "parent_child"));
            cJSON_Delete(whole);
        }
    } else {
        merge(config, change);
    }
    cJSON_Delete(change);
}

static bool rename_to(struct ask *a, struct dataset *d, const char *name)
{
    const struct dataset *other = find_name(a->r, a->tenant, name);
    char *folded = fold(name);
    if (!folded || (other && other != d)) {
        free(folded);
        ask_fail(a, CODE_DATA, "Dataset name '%s' already exists", name);
        return false;
    }
    unlink_name(a->r, d);
    free(d->folded);
    d->folded = folded;
    link_name(a->r, d);
    ragflow_set_text(d->json, "name", name);
    return true;
}

static void update(struct ask *a, struct dataset *d, const cJSON *body)
{
    static const char *const python[] = {"description", "avatar",   "permission", "chunk_method",
                                         "pagerank",    "language", NULL};
    static const char *const go[] = {"description", "avatar",   "permission",
                                     "pagerank",    "language", NULL};
    bool is_go = a->r->profile == RAGFLOW_GO;
    const cJSON *config = cJSON_GetObjectItemCaseSensitive(body, "parser_config");
    const char *name = json_str(body, "name"), *model = json_str(body, "embedding_model");
    if ((model && !tenant_check_model(a, model)) || (name && !rename_to(a, d, name)))
        return;
    take_members(d->json, body, is_go ? go : python);
    if (is_go && json_str(body, "parser_id"))
        ragflow_set_text(d->json, "chunk_method", json_str(body, "parser_id"));
    take_model(d->json, model);
    if (cJSON_IsObject(config))
        update_config(a, d->json, config);
    ragflow_stamp(d->json, true);
    d->changes++;
    cJSON *data = dataset_render(a->r, d);
    cJSON_AddArrayToObject(data, "connectors");
    ask_ok(a, data);
}

void datasets_update(struct ask *a)
{
    bool old = a->r->profile == RAGFLOW_024;
    cJSON *body = ask_body(a);
    if (body && !body->child) {
        ask_fail(a, old ? CODE_ARGUMENT : CODE_DATA, "%s",
                 old ? "No properties were modified" : "no properties were modified");
    } else if (body && check_update(a, body)) {
        struct dataset *d = of_path(a, true);
        if (d)
            update(a, d, body);
    }
    cJSON_Delete(body);
}

/* ---- delete ---- */

static cJSON *all_ids(const struct ask *a)
{
    cJSON *ids = cJSON_CreateArray();
    for (const struct dataset *d = a->r->oldest; d; d = d->newer) {
        if (d->owner == a->tenant)
            cJSON_AddItemToArray(ids, cJSON_CreateString(d->id));
    }
    return ids;
}

/* The ids that this version takes the body to mean: null means all before 0.25. */
static cJSON *meant_ids(const struct ask *a, const cJSON *body)
{
    const cJSON *ids = cJSON_GetObjectItemCaseSensitive(body, "ids");
    bool none = !cJSON_IsArray(ids) || !ids->child;
    if (a->r->profile == RAGFLOW_024 ? cJSON_IsNull(ids)
                                     : none && json_bool(body, "delete_all", false))
        return all_ids(a);
    return cJSON_IsArray(ids) ? cJSON_Duplicate(ids, true) : cJSON_CreateArray();
}

/* False and the answer when one of them is not the tenant's: then nothing is deleted. */
static bool all_mine(struct ask *a, const cJSON *ids)
{
    struct buf missing;
    const cJSON *id;
    buf_init(&missing, STANDIN_BODY_MAX);
    cJSON_ArrayForEach(id, ids)
    {
        const struct dataset *d = dataset_find(a->r, id->valuestring);
        if (!d || d->owner != a->tenant)
            buf_addf(&missing, "%s'%s'", missing.len ? ", " : "", id->valuestring);
    }
    bool ok = !missing.len;
    if (!ok)
        ask_fail(a, ask_miss_code(a), "User '%s' lacks permission for datasets: %s", a->tenant->id,
                 buf_str(&missing));
    buf_done(&missing);
    return ok;
}

static void delete_all_of(struct ask *a, const cJSON *ids)
{
    cJSON *data = cJSON_CreateObject(), *errors = cJSON_CreateArray();
    const cJSON *id;
    int count = 0;
    cJSON_ArrayForEach(id, ids)
    {
        struct dataset *d = dataset_find(a->r, id->valuestring);
        if (!d || d->owner != a->tenant)
            continue;
        if (a->r->settings.delete_errors > 0 && cJSON_GetArraySize(errors) < ERRORS_MAX) {
            a->r->settings.delete_errors--;
            cJSON_AddItemToArray(errors,
                                 cJSON_CreateString("Remove document from the doc store failed"));
        }
        dataset_remove(a->r, d); /* its row goes even then */
        count++;
    }
    cJSON_AddNumberToObject(data, "success_count", count);
    if (a->r->profile == RAGFLOW_GO || cJSON_GetArraySize(errors))
        cJSON_AddItemToObject(data, "errors", errors);
    else
        cJSON_Delete(errors);
    if (a->r->profile == RAGFLOW_024 && !json_get(data, "errors")) {
        cJSON_Delete(data);
        data = NULL;
    }
    ask_ok(a, data);
}

void datasets_delete(struct ask *a)
{
    cJSON *body = ask_body(a);
    if (body && check_delete(a, body)) {
        cJSON *ids = meant_ids(a, body);
        bool is_go = a->r->profile == RAGFLOW_GO;
        if (is_go && !ids->child) {
            cJSON *data = cJSON_CreateObject();
            cJSON_AddArrayToObject(data, "deleted");
            ask_ok(a, data);
        } else if (is_go || all_mine(a, ids)) {
            delete_all_of(a, ids);
        }
        cJSON_Delete(ids);
    }
    cJSON_Delete(body);
}
