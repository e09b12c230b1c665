/*
 * Documents and their stored files. Deleting a document frees its file; deleting its dataset does
 * not, which is the leak that the worker has to know of.
 */
#include "ragflow.h"

#include <string.h>

#include "base/json.h"
#include "base/str.h"

enum { FILE_NAME_MAX = 255 };

cJSON *document_add(struct ragflow *r, struct dataset *d, const char *name)
{
    char id[RAGFLOW_ID];
    cJSON *doc = cJSON_CreateObject();
    cJSON *bucket = cJSON_GetObjectItemCaseSensitive(r->blobs, d->id);
    ragflow_id(id);
    cJSON_AddStringToObject(doc, "id", id);
    cJSON_AddStringToObject(doc, "dataset_id", d->id);
    cJSON_AddStringToObject(doc, "name", name);
    cJSON_AddStringToObject(doc, "location", name);
    cJSON_AddStringToObject(doc, "created_by", d->owner->id);
    cJSON_AddStringToObject(doc, "run", "UNSTART");
    cJSON_AddNumberToObject(doc, "chunk_count", 0);
    cJSON_AddNumberToObject(doc, "token_count", 0);
    /* As the dataset's stands now: later changes of the dataset do not reach it. */
    cJSON_AddItemToObject(doc, "parser_config",
                          cJSON_Duplicate(json_get(d->json, "parser_config"), true));
    ragflow_stamp(doc, false);
    cJSON_AddItemToArray(d->documents, doc);
    if (!bucket)
        bucket = cJSON_AddObjectToObject(r->blobs, d->id);
    ragflow_set(bucket, name, cJSON_CreateTrue());
    return doc;
}

/* The dataset of the path, or NULL and the answer. */
static struct dataset *of_path(struct ask *a)
{
    char id[RAGFLOW_ID];
    struct dataset *d = check_uuid(a, a->part[0], id) ? dataset_find(a->r, id) : NULL;
    if (d && dataset_visible(d, a->tenant))
        return d;
    ask_fail(a, CODE_DATA, "You don't own the dataset %s.", a->part[0]);
    return NULL;
}

static int64_t number_of(const struct ask *a, const char *name, int64_t fallback)
{
    const char *text = call_argument(a->call, name);
    int64_t n;
    return text && str_to_i64(text, &n) && n > 0 && n <= 1000000 ? n : fallback;
}

void documents_list(struct ask *a)
{
    const struct dataset *d = of_path(a);
    int64_t page = number_of(a, "page", 1), size = number_of(a, "page_size", 30);
    if (!d)
        return;
    int total = cJSON_GetArraySize(d->documents);
    cJSON *data = cJSON_CreateObject(), *docs = cJSON_AddArrayToObject(data, "docs");
    for (int64_t i = (page - 1) * size; i < total && i < page * size; i++)
        cJSON_AddItemToArray(
            docs, cJSON_Duplicate(cJSON_GetArrayItem(d->documents, total - 1 - (int)i), true));
    cJSON_AddNumberToObject(data, "total", total);
    ask_success(a, data);
}

static bool has_document(const struct dataset *d, const char *name)
{
    const cJSON *doc;
    cJSON_ArrayForEach(doc, d->documents)
    {
        if (str_eq(json_str(doc, "name"), name))
            return true;
    }
    return false;
}

/* The names in a multipart form; what the files hold does not matter here. */
void documents_upload(struct ask *a)
{
    static const char mark[] = "filename=\"";
    struct dataset *d = of_path(a);
    if (!d)
        return;
    cJSON *data = cJSON_CreateArray();
    for (const char *p = a->call->body; (p = strstr(p, mark));) {
        char name[FILE_NAME_MAX + 1];
        p += strlen(mark);
        size_t n = strcspn(p, "\"\r\n");
        if (!n || n > FILE_NAME_MAX)
            continue;
        memcpy(name, p, n);
        name[n] = 0;
        if (!has_document(d, name))
            cJSON_AddItemToArray(data, cJSON_Duplicate(document_add(a->r, d, name), true));
    }
    if (data->child) {
        ask_ok(a, data);
        return;
    }
    cJSON_Delete(data);
    ask_fail(a, CODE_ARGUMENT, "No file part!");
}

static cJSON *find_document(const struct dataset *d, const char *id)
{
    cJSON *doc;
    cJSON_ArrayForEach(doc, d->documents)
    {
        if (str_eq(json_str(doc, "id"), id))
            return doc;
    }
    return NULL;
}

static void remove_document(struct ragflow *r, struct dataset *d, cJSON *doc)
{
    cJSON *bucket = cJSON_GetObjectItemCaseSensitive(r->blobs, d->id);
    cJSON_DeleteItemFromObjectCaseSensitive(bucket, json_str(doc, "location"));
    if (bucket && !bucket->child)
        cJSON_DeleteItemFromObjectCaseSensitive(r->blobs, d->id);
    cJSON_Delete(cJSON_DetachItemViaPointer(d->documents, doc));
}

static bool among(const cJSON *ids, const cJSON *doc)
{
    const cJSON *id;
    cJSON_ArrayForEach(id, ids)
    {
        if (str_eq(id->valuestring, json_str(doc, "id")))
            return true;
    }
    return false;
}

static bool all_there(struct ask *a, const struct dataset *d, const cJSON *ids)
{
    const cJSON *id;
    cJSON_ArrayForEach(id, ids)
    {
        if (cJSON_IsString(id) && find_document(d, id->valuestring))
            continue;
        ask_fail(a, CODE_DATA, "These documents do not belong to dataset %s or do not exist: %s",
                 d->id, cJSON_IsString(id) ? id->valuestring : "?");
        return false;
    }
    return true;
}

static void delete_documents(struct ask *a, struct dataset *d, const cJSON *ids, bool all)
{
    cJSON *doc = d->documents->child;
    int deleted = 0;
    if (!all && !all_there(a, d, ids))
        return;
    for (cJSON *next; doc; doc = next) {
        next = doc->next;
        if (!all && !among(ids, doc))
            continue;
        remove_document(a->r, d, doc);
        deleted++;
    }
    cJSON *data = NULL;
    if (a->r->profile != RAGFLOW_024) {
        data = cJSON_CreateObject();
        cJSON_AddNumberToObject(data, "deleted", deleted);
    }
    ask_ok(a, data);
}

/* Before 0.25 no ids, by whatever mistake, are all of them. */
void documents_delete(struct ask *a)
{
    bool old = a->r->profile == RAGFLOW_024;
    struct dataset *d = of_path(a);
    cJSON *body = !d || (old && !a->call->body_len) ? NULL : ask_body(a);
    if (!d || (!body && a->out->status))
        return;
    const cJSON *ids = body ? cJSON_GetObjectItemCaseSensitive(body, "ids") : NULL;
    bool all = old ? !ids || !ids->child : json_bool(body, "delete_all", false);
    bool some = ids && cJSON_IsArray(ids) && ids->child;
    if (!old && all == some)
        ask_fail(a, CODE_DATA,
                 some ? "should not provide both doc ids and delete_all(true), dataset: %s. "
                      : "should either provide doc ids or set delete_all(true), dataset: %s. ",
                 d->id);
    else
        delete_documents(a, d, ids, all);
    cJSON_Delete(body);
}
