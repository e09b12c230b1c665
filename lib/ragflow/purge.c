/*
 * Deleting. A dataset's end leaves the files of its documents in the object storage: only deleting
 * the documents frees them. And a request without ids means "all" on some versions: every delete is
 * built here, of ids that were checked.
 */
#include "ragflow/native.h"

#include <string.h>

#include "base/str.h"

/* ---- documents ---- */

void ragflow_build_documents(struct driver_op *op, struct exchange_request *r)
{
    ragflow_url(r, op->target->url, "/api/v1/datasets/%s/documents?page=1&page_size=%d", op->id,
                RAGFLOW_PAGE);
}

/* Their ids as the members of a JSON array; false where one of them has none. */
static bool take_ids(struct driver_op *op, const cJSON *docs)
{
    const cJSON *doc = NULL;
    char id[RAGFLOW_ID];
    int n = 0;
    buf_reset(&op->ids);
    cJSON_ArrayForEach(doc, docs)
    {
        if (!ragflow_id_of(doc, "id", id)) {
            return false;
        }
        if (n++ < RAGFLOW_PAGE) {
            buf_addf(&op->ids, "%s\"%s\"", op->ids.len ? "," : "", id);
        }
    }
    return !op->ids.failed;
}

void ragflow_feed_documents(struct driver_op *op, const struct ragflow_answer *a,
                            struct driver_outcome *out)
{
    const cJSON *docs = json_get(a->data, "docs");
    int64_t total = 0;
    if (a->meaning == MEANS_NOT_THERE) {
        op->phase = PHASE_LOOK_ID;
        return;
    }
    if (!cJSON_IsArray(docs) || !json_i64(a->data, "total", &total) || total < 0 ||
        !take_ids(op, docs)) {
        ragflow_fail_with(op, ERR_UNKNOWN, "the answer is no list of documents");
        out->err = op->err;
        return;
    }
    if (op->documents >= 0 && total < op->documents) {
        ragflow_gain(op);
    }
    op->documents = total;
    if (op->ids.len > 0) {
        op->phase = PHASE_DOCUMENTS_DELETE;
    } else if (total == 0) {
        op->phase = PHASE_DELETE;
    } else {
        ragflow_settle(op, PHASE_DOCUMENTS); /* it counts what it does not list */
    }
}

void ragflow_build_documents_delete(struct driver_op *op, struct exchange_request *r)
{
    ragflow_url(r, op->target->url, "/api/v1/datasets/%s/documents", op->id);
    buf_addf(&r->body, "{\"ids\":[%s]}", buf_str(&op->ids));
    ragflow_body(r);
    if (op->ids.len == 0 || op->ids.failed || !ragflow_is_id(op->id)) {
        r->body.failed = true;
    }
}

void ragflow_feed_documents_delete(struct driver_op *op, const struct ragflow_answer *a,
                                   struct driver_outcome *out)
{
    (void)a;
    err_clear(&out->err); /* refused: some went meanwhile, or all did */
    op->phase = PHASE_DOCUMENTS;
}

/* ---- the dataset ---- */

/* The only request that deletes datasets: exactly one, whose id is an id. */
void ragflow_build_delete(struct driver_op *op, struct exchange_request *r)
{
    ragflow_url(r, op->target->url, "/api/v1/datasets");
    buf_addf(&r->body, "{\"ids\":[\"%s\"]}", op->id);
    ragflow_body(r);
    if (!ragflow_is_id(op->id)) {
        r->body.failed = true;
    }
}

/* What the server says it could not take away: the dataset's row is gone all the same. */
static void note_residue(struct driver_op *op, const cJSON *data)
{
    const cJSON *errors = json_get(data, "errors"), *one = NULL;
    int64_t n = 1;
    struct buf b;
    buf_init(&b, ERR_MSG_MAX);
    cJSON_ArrayForEach(one, errors)
    {
        const char *text = cJSON_GetStringValue(one);
        if (b.len < DRIVER_RESIDUE_MAX) {
            buf_addf(&b, "%s%.100s", b.len ? "; " : "", text ? text : "?");
        }
    }
    if (b.len == 0 && !op->site->go && (!json_i64(data, "success_count", &n) || n != 1)) {
        buf_addf(&b, "the server does not say that it deleted one dataset");
    }
    if (b.len > 0) {
        struct err line; /* makes it one printable line */
        err_set(&line, ERR_REFUSED, "dataset %s: %s", op->id, buf_str(&b));
        line.msg[str_utf8_cut(line.msg, strlen(line.msg), DRIVER_RESIDUE_MAX)] = '\0';
        err_redact(&line, op->target->credential);
        err_redact(&line, op->secret);
        str_copy(op->residue, sizeof(op->residue), line.msg);
    }
    buf_done(&b);
}

void ragflow_feed_delete(struct driver_op *op, const struct ragflow_answer *a,
                         struct driver_outcome *out)
{
    err_clear(&out->err); /* refused: it went meanwhile, or it is somebody else's; a look tells */
    if (a->meaning == MEANS_DONE) {
        note_residue(op, a->data);
    }
    op->documents = -1;
    op->phase = PHASE_LOOK_ID;
}
