/*
 * Files that a workspace leaves on the server's disk: those of a flow outlive it and its user, and
 * before 1.13 those of a user do, too. They go first, since only their owner can delete them. What
 * cannot be deleted is told, and keeps nobody from deleting the rest.
 */
#include "langflow/native.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/str.h"

#define FILES      "/api/v1/files/"
#define USER_FILES "/api/v2/files"

enum {
    FILES_MAX = 1000, /* of one list */
    NAME_MAX_BYTES = 255,
    LISTS_MAX = 8,  /* of one flow */
    PURGES_MAX = 3, /* of what is the user's own */
};

void langflow_files_clear(struct driver_op *op)
{
    for (size_t i = 0; i < op->n_files; i++) {
        free(op->files[i]);
    }
    free(op->files);
    op->files = NULL;
    op->n_files = 0;
    op->file_at = 0;
}

/* What can be one segment of a path, and is taken for that by servers. */
static bool is_file_name(const char *name)
{
    size_t n = 0;
    for (; name && (unsigned char)name[n] >= 0x20 && name[n] != 0x7f && n <= NAME_MAX_BYTES; n++) {
    }
    return n > 0 && n <= NAME_MAX_BYTES && name[n] == '\0' && !strpbrk(name, "/\\") &&
           !strstr(name, "..") && !str_eq(name, ".");
}

/* ---- of a flow ---- */

static void build_list(struct driver_op *op, struct exchange_request *r)
{
    langflow_url(op, r, FILES "list/", langflow_item(op)->id, NULL);
}

static void go_on(struct driver_op *op, const char *residue)
{
    langflow_files_clear(op);
    if (residue) {
        langflow_residue(op, residue);
    }
    langflow_item(op)->step = &langflow_flow_delete;
}

static bool keep_names(struct driver_op *op, const cJSON *names)
{
    const cJSON *one = NULL;
    langflow_files_clear(op);
    op->files = calloc(FILES_MAX, sizeof(*op->files));
    cJSON_ArrayForEach(one, names)
    {
        const char *name = cJSON_GetStringValue(one);
        if (!is_file_name(name)) {
            langflow_residue(op, "files of a flow have names that cannot be asked for");
            continue;
        }
        char *copy = op->files && op->n_files < FILES_MAX ? str_dup(name) : NULL;
        if (copy) {
            op->files[op->n_files++] = copy;
        }
    }
    return op->files != NULL;
}

static void take_names(struct driver_op *op, const cJSON *names)
{
    struct langflow_item *item = langflow_item(op);
    if (!keep_names(op, names)) {
        langflow_fail(op, ERR_INTERNAL, "out of memory");
    } else if (op->n_files == 0) {
        go_on(op, NULL);
    } else if (item->tries++ >= LISTS_MAX) {
        go_on(op, "files of a flow could not be deleted");
    } else {
        item->step = &langflow_file_delete;
    }
}

/* An answer that is no list, be it the server's own trouble: asked again, and then let be. */
static bool no_list(struct driver_op *op, const struct langflow_answer *a)
{
    if (a->verdict == VERDICT_GONE || a->r->status == 405) {
        go_on(op, NULL); /* no such flow, or a version that knows no files */
        return true;
    }
    if (a->verdict != VERDICT_ODD && a->verdict != VERDICT_REFUSED && a->r->status != 500) {
        return false;
    }
    if (langflow_item(op)->tries++ >= LISTS_MAX / 2) {
        go_on(op, "files of a flow could not be listed");
    } else {
        langflow_settle(op);
    }
    return true;
}

static bool feed_list(struct driver_op *op, struct langflow_answer *a)
{
    if (no_list(op, a)) {
        return true;
    }
    cJSON *json = langflow_tree(a);
    const cJSON *names = json_get(json, "files");
    bool fine = cJSON_IsArray(names);
    if (fine) {
        take_names(op, names);
    }
    cJSON_Delete(json);
    return fine;
}

const struct langflow_step langflow_file_list = {.what = "listing a flow's files",
                                                 .method = METHOD_GET,
                                                 .as = AS_TENANT,
                                                 .queued = true,
                                                 .build = build_list,
                                                 .feed = feed_list};

static void build_delete(struct driver_op *op, struct exchange_request *r)
{
    struct buf rest;
    buf_init(&rest, sizeof(r->url));
    buf_addc(&rest, '/');
    buf_add_url(&rest, op->files[op->file_at]);
    if (!rest.failed) {
        langflow_url(op, r, FILES "delete/", langflow_item(op)->id, buf_str(&rest));
    }
    buf_done(&rest);
}

/* The list tells again what is there. */
static void doubt_delete(struct driver_op *op)
{
    langflow_files_clear(op);
    langflow_item(op)->step = &langflow_file_list;
}

static bool feed_delete(struct driver_op *op, struct langflow_answer *a)
{
    bool said = a->verdict == VERDICT_GOOD || a->verdict == VERDICT_GONE ||
                a->verdict == VERDICT_REFUSED || a->r->status == 500;
    if (!said) {
        return false;
    }
    str_copy(a->out->external_id, sizeof(a->out->external_id), langflow_item(op)->id);
    if (++op->file_at == op->n_files) {
        doubt_delete(op);
    }
    return true;
}

const struct langflow_step langflow_file_delete = {.what = "deleting a file of a flow",
                                                   .effect = "file.delete",
                                                   .method = METHOD_DELETE,
                                                   .as = AS_TENANT,
                                                   .queued = true,
                                                   .build = build_delete,
                                                   .feed = feed_delete,
                                                   .doubt = doubt_delete};

/* ---- of the user ---- */

static void build_purge(struct driver_op *op, struct exchange_request *r)
{
    langflow_url(op, r, USER_FILES, NULL, NULL);
    op->file_purges++;
}

/* All of them, says a server whose disk did as it was told. */
static bool purged(const struct langflow_answer *a)
{
    cJSON *json = langflow_tree(a);
    const char *message = json_str(json, "message");
    bool all = json && !(message && strcasestr(message, "fail"));
    cJSON_Delete(json);
    return all;
}

static bool feed_purge(struct driver_op *op, struct langflow_answer *a)
{
    bool none = a->verdict == VERDICT_GONE || a->r->status == 405;
    if (none || purged(a)) {
        op->files_gone = true;
        return true;
    }
    bool told = a->verdict == VERDICT_REFUSED || op->file_purges >= PURGES_MAX;
    if (told && a->verdict != VERDICT_DENIED && a->verdict != VERDICT_LATER) {
        langflow_residue(op, "files of the user could not be deleted");
        op->files_gone = true;
        return true;
    }
    return false;
}

const struct langflow_step langflow_file_purge = {.what = "deleting the workspace's files",
                                                  .effect = "file.delete",
                                                  .method = METHOD_DELETE,
                                                  .as = AS_TENANT,
                                                  .build = build_purge,
                                                  .feed = feed_purge};
