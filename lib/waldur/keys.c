/*
 * The keys of a resource as Waldur lists them: what a report and an answer for a key both look at.
 */
#include <stdio.h>
#include <string.h>

#include "base/str.h"
#include "waldur/list.h"
#include "waldur/native.h"

int key_row_read(const cJSON *item, struct key_row *out, struct json_fault *fault)
{
    struct key_row row = {.modified_us = -1};
    const char *state = NULL;
    if (!cJSON_IsObject(item)) {
        return json_refuse(fault, "", "must be an object");
    }
    if (waldur_read_uuid(item, "uuid", row.uuid, fault) ||
        waldur_read_uuid(item, "resource_uuid", row.resource_uuid, fault) ||
        waldur_read_text(item, "state", &state, fault) ||
        waldur_read_whole(item, "client_id", row.client_id, WALDUR_CLIENT_ID_MAX, fault) ||
        waldur_read_time(item, "modified", &row.modified_us, fault)) {
        return -1;
    }
    if (!row.uuid[0]) {
        return waldur_refuse(fault, "uuid", "is required");
    }
    row.state = waldur_key_state_parse(state);
    *out = row;
    return 0;
}

void op_look_keys(struct waldur_op *op, struct waldur_action *out, const char *resource, int page)
{
    char path[192];
    snprintf(path, sizeof(path), "%s?resource_uuid=%s&page_size=%d&page=%d", waldur_keys, resource,
             WALDUR_LIST_PAGE, page);
    op_request(op, out, path, NULL, NULL);
}

/* One that cannot be read fails it all: what is missing may be there. */
static int read_rows(const cJSON *array, const char *resource,
                     void (*row)(void *ctx, const struct key_row *row), void *ctx,
                     struct json_fault *fault)
{
    struct key_row key;
    const cJSON *item = NULL;
    if (!cJSON_IsArray(array)) {
        return json_refuse(fault, "", "must be an array");
    }
    cJSON_ArrayForEach(item, array)
    {
        if (key_row_read(item, &key, fault)) {
            return -1;
        }
        if (str_eq(key.resource_uuid, resource)) { /* whatever became of the filter */
            row(ctx, &key);
        }
    }
    return 0;
}

enum keys_read op_without_keys(struct waldur_op *op, struct waldur_outcome *out)
{
    struct waldur_site *site = op->access.site;
    if (!out->answered && site->keys == WALDUR_SUPPORT_YES) {
        op_fail(op, &out->err); /* not Waldur's word */
        return KEYS_FAILED;
    }
    err_clear(&out->err);
    if (!out->answered && site->keys == WALDUR_SUPPORT_UNKNOWN && !op->doubted) {
        op->doubted = true;
        return KEYS_DOUBT;
    }
    site->keys = WALDUR_SUPPORT_NO;
    return KEYS_NONE_HERE;
}

enum keys_read op_read_keys(struct waldur_op *op, const struct exchange_response *r,
                            const char *resource, int page,
                            void (*row)(void *ctx, const struct key_row *row), void *ctx,
                            struct waldur_outcome *out)
{
    struct json_fault fault;
    cJSON *array = NULL;
    enum err_class class = op_looked(op, r, out);
    if (r->status == 404 && page == 1) {
        return op_without_keys(op, out);
    }
    if (class == ERR_GONE && page > 1) {
        err_clear(&out->err);
        return KEYS_END;
    }
    if (class != ERR_NONE) {
        op_fail(op, &out->err);
        return KEYS_FAILED;
    }
    if (r->truncated || json_parse(r->body, r->body_len, &waldur_body_limits, &array, &fault)) {
        op_unreadable(op, r, out, "list of keys", r->truncated ? NULL : &fault);
        return KEYS_FAILED;
    }
    int rc = read_rows(array, resource, row, ctx, &fault);
    int n = cJSON_GetArraySize(array);
    cJSON_Delete(array);
    if (rc) {
        op_unreadable(op, r, out, "list of keys", &fault);
        return KEYS_FAILED;
    }
    op->access.site->keys = WALDUR_SUPPORT_YES;
    if (page >= KEY_PAGES_MAX) {
        op_fail_with(op, ERR_UNKNOWN, "Waldur lists more keys of one resource than anybody reads");
        return KEYS_FAILED;
    }
    return n < PAGE_LEAST ? KEYS_END : KEYS_MORE;
}
