/*
 * Files on the server's disk: those of flows, in a folder of the flow's id, stay when flow and user
 * go; those of users, in one of the user's, stay before 1.13.
 */
#include "langflow.h"

#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/str.h"

enum { NAME_MAX_BYTES = 255 };

struct lf_record *lf_file_new(struct lf_store *s, const char *folder, const char *name)
{
    cJSON *json = cJSON_CreateObject();
    cJSON_AddNullToObject(json, "id");
    cJSON_AddStringToObject(json, "folder", folder);
    cJSON_AddStringToObject(json, "name", name);
    return lf_add(s, LF_FILE, NULL, NULL, folder, json);
}

cJSON *lf_file_names(const struct lf_store *s, const char *folder)
{
    cJSON *names = cJSON_CreateArray();
    struct lf_record *f = lf_by_alias(s, LF_FILE, folder, NULL);
    for (; f; f = lf_by_alias(s, LF_FILE, folder, f))
        cJSON_AddItemToArray(names, cJSON_CreateString(json_str(f->json, "name")));
    return names;
}

/* All of a folder; returns how many. */
static int remove_all(struct lf_store *s, const char *folder)
{
    int n = 0;
    for (struct lf_record *f; (f = lf_by_alias(s, LF_FILE, folder, NULL)); n++)
        lf_remove(s, f, 0);
    return n;
}

void lf_files_erase(struct lf_store *s, const char *folder)
{
    (void)remove_all(s, folder);
}

/* ---- what is sent ---- */

/* The name of the one part that is a file. False and a 422 where there is none. */
static bool uploaded(struct lf_call *c, char name[NAME_MAX_BYTES + 1])
{
    static const char mark[] = "filename=\"";
    const char *at = c->http->body_len ? strstr(c->http->body, mark) : NULL;
    size_t n = at ? strcspn(at + strlen(mark), "\"\r\n") : 0;
    if (!n || n > NAME_MAX_BYTES) {
        lf_invalid(c, "file", "Field required");
        return false;
    }
    memcpy(name, at + strlen(mark), n);
    name[n] = 0;
    return true;
}

static struct lf_record *own_flow(struct lf_call *c)
{
    struct lf_record *f = lf_own(c->s, LF_FLOW, c->user, c->id);
    if (!f)
        reply_detail(c->out, 404, "Flow not found");
    return f;
}

void lf_file_upload(struct lf_call *c)
{
    char name[NAME_MAX_BYTES + 1], whole[NAME_MAX_BYTES + 32];
    const struct lf_record *flow = own_flow(c);
    struct buf b;
    if (!flow || !uploaded(c, name))
        return;
    buf_init(&b, sizeof(whole));
    buf_addf(&b, "2026-01-01_00-00-00_%s", name);
    str_copy(whole, sizeof(whole), buf_str(&b));
    lf_file_new(c->s, flow->id, whole);
    buf_reset(&b);
    buf_addf(&b, "%s/%s", flow->id, whole);
    cJSON *json = cJSON_CreateObject();
    cJSON_AddStringToObject(json, "flowId", flow->id);
    cJSON_AddStringToObject(json, "file_path", buf_str(&b));
    buf_done(&b);
    reply_json(c->out, 201, json);
}

void lf_file_list(struct lf_call *c)
{
    const struct lf_record *flow = own_flow(c);
    if (!flow)
        return;
    cJSON *json = cJSON_CreateObject();
    cJSON_AddItemToObject(json, "files", lf_file_names(c->s, flow->id));
    reply_json(c->out, 200, json);
}

static void answer_message(struct lf_call *c, const char *words)
{
    cJSON *json = cJSON_CreateObject();
    cJSON_AddStringToObject(json, "message", words);
    reply_json(c->out, 200, json);
}

/* One that is not there is deleted, too. */
void lf_file_delete(struct lf_call *c)
{
    const char *name = c->rest;
    struct buf b;
    if (strstr(name, "..") || strpbrk(name, "/\\")) {
        reply_detail(c->out, 400,
                     "Invalid file name. Use a simple file name without directory paths or '..'.");
        return;
    }
    if (!own_flow(c))
        return;
    struct lf_record *f = lf_by_alias(c->s, LF_FILE, c->id, NULL);
    while (f && !str_eq(json_str(f->json, "name"), name))
        f = lf_by_alias(c->s, LF_FILE, c->id, f);
    if (f)
        lf_remove(c->s, f, 0);
    buf_init(&b, LF_BODY_MAX);
    buf_addf(&b, "File %s deleted successfully", name);
    answer_message(c, buf_str(&b));
    buf_done(&b);
}

/* ---- the user's own ---- */

void lf_user_file_upload(struct lf_call *c)
{
    char name[NAME_MAX_BYTES + 1];
    if (!uploaded(c, name))
        return;
    const struct lf_record *f = lf_file_new(c->s, c->user->id, name);
    cJSON *json = cJSON_CreateObject();
    cJSON_AddStringToObject(json, "id", f ? f->id : "");
    cJSON_AddStringToObject(json, "name", name);
    reply_json(c->out, 201, json);
}

void lf_user_file_list(struct lf_call *c)
{
    cJSON *json = cJSON_CreateArray(), *names = lf_file_names(c->s, c->user->id);
    const cJSON *name;
    cJSON_ArrayForEach(name, names)
    {
        cJSON *one = cJSON_CreateObject();
        cJSON_AddStringToObject(one, "name", name->valuestring);
        cJSON_AddItemToArray(json, one);
    }
    cJSON_Delete(names);
    reply_json(c->out, 200, json);
}

void lf_user_file_delete(struct lf_call *c)
{
    struct buf b;
    buf_init(&b, LF_BODY_MAX);
    buf_addf(&b, "All %d files deleted successfully", remove_all(c->s, c->user->id));
    answer_message(c, buf_str(&b));
    buf_done(&b);
}
