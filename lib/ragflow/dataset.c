/*
 * The dataset: looked for by the recorded id, then by name; made, set, read back. Names are not
 * unique, compared loosely by the server, and changed by it where they are taken: the marker in the
 * description and the tenant tell what is ours.
 *
 * The Go server keeps neither description nor settings at a create. There the dataset is made under
 * the marker as its name, which nobody else uses, and gets its own name with its marker at once.
 */
#include "ragflow/native.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/str.h"

enum { NAMES_MAX = 3, OVERLAP_MAX = 90 };

/* ---- names ---- */

struct names {
    char name[NAMES_MAX][RAGFLOW_NAME_MAX + 8];
    size_t n;
};

/* The name that a create asks for. */
static const char *first_name(const struct driver_op *op)
{
    return op->site->go ? op->target->marker : op->target->name;
}

/* Nothing of ours can be there but under its own name: no create that went out is open. */
static bool is_first(const struct driver_op *op)
{
    return op->goal == DRIVER_PRESENT && !op->uncertain && !op->misnamed && !ragflow_observing(op);
}

/*
 * Where ours may be. A create whose reply was lost may have found its own name taken by an earlier
 * one, and then made "name(1)".
 */
static void list_names(const struct driver_op *op, struct names *out)
{
    out->n = 0;
    str_copy(out->name[out->n++], sizeof(out->name[0]), op->target->name);
    if (op->site->go && !is_first(op)) {
        str_copy(out->name[out->n++], sizeof(out->name[0]), op->target->marker);
    }
    if ((op->uncertain || op->goal == DRIVER_ABSENT) &&
        strlen(first_name(op)) + strlen("(1)") <= RAGFLOW_NAME_MAX) {
        (void)snprintf(out->name[out->n++], sizeof(out->name[0]), "%s(1)", first_name(op));
    }
}

/* A name that only this driver or the server gave: the marker, or either with a number. */
static bool is_provisional(const struct driver_op *op, const char *name)
{
    const char *const stems[] = {op->target->marker, op->target->name};
    for (size_t i = 0; name && i < ARRAY_LEN(stems); i++) {
        const char *rest = str_starts(name, stems[i]) ? name + strlen(stems[i]) : NULL;
        size_t digits = rest && rest[0] == '(' ? strspn(rest + 1, "0123456789") : 0;
        if ((i == 0 && rest && rest[0] == '\0') || (digits > 0 && str_eq(rest + 1 + digits, ")"))) {
            return true;
        }
    }
    return false;
}

/* On Go a crash may come between the create and the marker. */
static bool is_marked(const struct driver_op *op, const cJSON *row)
{
    const char *name = json_str(row, "name"), *marker = op->target->marker;
    return str_eq(json_str(row, "description"), marker) ||
           (op->site->go && name && str_starts(name, marker) && is_provisional(op, name));
}

static bool is_own_tenants(const struct driver_op *op, const cJSON *row)
{
    char tenant[RAGFLOW_ID];
    return ragflow_id_of(row, "tenant_id", tenant) && str_eq(tenant, op->tenant);
}

static int64_t number_of(const cJSON *row, const char *path, int64_t fallback)
{
    int64_t n = 0;
    return json_i64(row, path, &n) ? n : fallback;
}

static bool is_empty(const cJSON *row)
{
    return number_of(row, "document_count", -1) == 0 && number_of(row, "chunk_count", -1) == 0;
}

/* ---- looking ---- */

static void keep_row(struct driver_op *op, const cJSON *row)
{
    cJSON *copy = cJSON_Duplicate(row, true);
    if (!copy) {
        ragflow_fail_with(op, ERR_INTERNAL, "out of memory");
        return;
    }
    cJSON_Delete(op->row);
    op->row = copy;
}

static void forget_rows(struct driver_op *op)
{
    cJSON_Delete(op->row);
    cJSON_Delete(op->extra);
    op->row = op->extra = NULL;
    op->foreign[0] = '\0';
}

/* Anew by name; what was seen by id stays. */
static void seek_names(struct driver_op *op)
{
    op->look = 0;
    op->named = true;
    op->foreign[0] = '\0';
    op->phase = PHASE_LOOK_NAME;
}

void ragflow_seek(struct driver_op *op)
{
    forget_rows(op);
    op->created = op->doomed = op->named = false;
    str_copy(op->id, sizeof(op->id), op->recorded);
    if (op->id[0] != '\0') {
        op->phase = PHASE_LOOK_ID;
    } else {
        seek_names(op);
    }
}

void ragflow_build_look_id(struct driver_op *op, struct exchange_request *r)
{
    ragflow_url(r, op->target->url, "/api/v1/datasets?id=%s", op->id);
}

void ragflow_build_look_name(struct driver_op *op, struct exchange_request *r)
{
    char name[RAGFLOW_ENCODED];
    struct names names;
    list_names(op, &names);
    ragflow_url(r, op->target->url, "/api/v1/datasets?name=%s&page_size=%d",
                ragflow_encode(name, names.name[op->look < names.n ? op->look : 0]), RAGFLOW_PAGE);
}

/* "Not there" and "not yours" are one answer: whose key it is decides which. */
static bool believable(struct driver_op *op)
{
    if (!op->tenant_sure) {
        op->after = op->phase;
        op->phase = PHASE_WHOSE;
    }
    return op->tenant_sure;
}

/* ---- what is there against what is wanted ---- */

int64_t ragflow_overlap_percent(const struct driver_target *t)
{
    int64_t overlap = t->chunk_overlap < t->chunk_size ? t->chunk_overlap : t->chunk_size;
    int64_t percent = t->chunk_size > 0 ? (100 * overlap + t->chunk_size - 1) / t->chunk_size : 0;
    return percent > OVERLAP_MAX ? OVERLAP_MAX : percent;
}

/* What differs and an update can mend; "" where nothing does. */
static void differences(const struct driver_op *op, const cJSON *row, char *out, size_t size)
{
    static const char chunk[] = "parser_config.chunk_token_num",
                      overlap[] = "parser_config.overlapped_percent",
                      raptor[] = "parser_config.raptor.use_raptor",
                      graph[] = "parser_config.graphrag.use_graphrag";
    const struct driver_target *t = op->target;
    int64_t tokens = number_of(row, chunk, -1), percent = number_of(row, overlap, 0);
    const char *name = json_str(row, "name"), *mark = json_str(row, "description");
    out[0] = '\0';
    if (tokens != t->chunk_size) {
        (void)snprintf(out, size, "%s is %" PRId64 ", not %" PRId64, chunk, tokens, t->chunk_size);
    } else if (percent != ragflow_overlap_percent(t)) {
        (void)snprintf(out, size, "%s is %" PRId64 ", not %" PRId64, overlap, percent,
                       ragflow_overlap_percent(t));
    } else if (is_provisional(op, name)) {
        (void)snprintf(out, size, "name is \"%.128s\", not \"%s\"", name, t->name);
    } else if (!str_eq(mark, t->marker)) {
        (void)snprintf(out, size, "description is \"%.64s\", not \"%s\"", mark ? mark : "",
                       t->marker);
    } else if (op->created && json_bool(row, raptor, false)) {
        (void)snprintf(out, size, "%s is true, not false", raptor);
    } else if (op->created && json_bool(row, graph, false)) {
        (void)snprintf(out, size, "%s is true, not false", graph);
    }
}

static void fail_different(struct driver_op *op, const char *what)
{
    if (op->refused.class != ERR_NONE) {
        ragflow_fail_with(op, ERR_REFUSED, "dataset %s: %.200s; the update was refused: %.200s",
                          op->id, what, op->refused.msg);
        return;
    }
    ragflow_fail_with(op, ERR_REFUSED,
                      "dataset %s: %.300s; the server does not keep what it is told%s", op->id,
                      what, op->site->go ? " (its Go variant; use the Python one)" : "");
}

static void compare(struct driver_op *op, const cJSON *row)
{
    char what[ERR_MSG_MAX];
    differences(op, row, what, sizeof(what));
    enum ragflow_fit fit = ragflow_model_fit(op, row);
    bool fits = fit == MODEL_FITS;
    if (fit == MODEL_UNKNOWN) {
        op->learning = true;
        op->phase = PHASE_MODELS_LIST;
    } else if (ragflow_observing(op)) {
        ragflow_observed(op, SIGHT_OURS, fits && what[0] == '\0');
    } else if (!fits) {
        const char *has = json_str(row, "embedding_model");
        ragflow_fail_with(op, ERR_REFUSED,
                          "dataset %s: embedding_model is \"%.128s\", not \"%.128s\"; it is fixed "
                          "when a dataset is made: map the model to this one, or have the dataset "
                          "emptied and deleted, then replay",
                          op->id, has ? has : "",
                          op->model[0] ? op->model : "one that the server can use");
    } else if (what[0] == '\0') {
        op->phase = PHASE_DONE;
    } else if (op->updated || op->refused.class != ERR_NONE) {
        fail_different(op, what);
    } else {
        op->phase = PHASE_UPDATE;
    }
}

/* Is the dataset in hand one that an earlier delete may still reach? */
static bool under_deletion(const struct driver_op *op)
{
    return !ragflow_observing(op) && str_eq(op->target->deleting, op->id);
}

/* Surplus, or misnamed: goes if nobody has put anything into it. */
static void remove_surplus(struct driver_op *op, const cJSON *row)
{
    if (is_empty(row)) {
        op->phase = PHASE_DELETE;
        return;
    }
    ragflow_fail_with(op, ERR_CONFLICT,
                      "two datasets bear this subscription's marker, and the surplus one, %s, is "
                      "not empty; decide which to keep, delete the other in RAGFlow, then replay",
                      op->id);
}

/* One of ours is in hand, op->id, and this is how it looks. */
static void seen_ours(struct driver_op *op, const cJSON *row)
{
    const char *name = json_str(row, "name");
    op->empty_looks = 0;
    if (op->created && !op->updated && !str_eq(name, first_name(op)) &&
        !str_eq(name, op->target->name)) {
        op->misnamed = op->doomed = true;
    }
    if (op->goal == DRIVER_ABSENT && ragflow_observing(op)) {
        ragflow_observed(op, SIGHT_OURS, false);
    } else if (op->goal == DRIVER_ABSENT || under_deletion(op)) {
        op->phase = PHASE_DOCUMENTS;
    } else if (op->doomed) {
        remove_surplus(op, row);
    } else if (op->updating) {
        op->updating = false;
        ragflow_settle(op, PHASE_LOOK_ID);
    } else if (op->uncertain && !op->named && !op->created) {
        seek_names(op); /* an open create may have made another one */
    } else {
        compare(op, row);
    }
}

/* ---- none of ours ---- */

static void seen_none(struct driver_op *op)
{
    bool wanted = op->goal == DRIVER_PRESENT;
    if (ragflow_observing(op)) {
        bool account = ragflow_has_tenant(op) && !wanted &&
                       op->target->settings->tenancy == TENANCY_SUBSCRIPTION;
        ragflow_observed(op,
                         account          ? SIGHT_OURS
                         : op->foreign[0] ? SIGHT_FOREIGN
                                          : SIGHT_ABSENT,
                         !wanted && !account);
        return;
    }
    if (!ragflow_settled(op, PHASE_LOOK_NAME)) {
        op->foreign[0] = '\0';
        return;
    }
    op->uncertain = false;
    op->empty_looks = 0;
    op->id[0] = '\0';
    op->created = op->updated = false;
    if (!wanted) {
        ragflow_emptied(op);
    } else if (op->foreign[0]) {
        ragflow_fail_with(op, ERR_CONFLICT,
                          "\"%s\" exists in RAGFlow (id %s) without this subscription's marker; "
                          "rename or remove it there, then replay",
                          op->target->name, op->foreign);
    } else if (op->misnamed) {
        ragflow_fail_with(op, ERR_CONFLICT,
                          "the server made \"%s\" under another name, and it was removed again; "
                          "free that name there, then replay",
                          op->target->name);
    } else {
        ragflow_equip(op);
    }
}

void ragflow_emptied(struct driver_op *op)
{
    bool account = ragflow_has_tenant(op) && op->target->settings->tenancy == TENANCY_SUBSCRIPTION;
    op->emptied = true;
    op->phase = account ? PHASE_USER_LOOK : PHASE_DONE;
}

/* ---- answers to looks ---- */

static void id_is_gone(struct driver_op *op)
{
    if (str_eq(op->recorded, op->id)) {
        op->recorded[0] = '\0';
    }
    if (op->created && !op->doomed) {
        op->uncertain = true; /* a read-back that misses is no proof of absence */
    }
    op->doomed = op->created = op->updated = false;
    forget_rows(op);
    if (op->recorded[0] != '\0') {
        ragflow_seek(op);
    } else {
        op->id[0] = '\0';
        seek_names(op);
    }
}

static const cJSON *row_with_id(const cJSON *rows, const char *id)
{
    const cJSON *row = NULL;
    char has[RAGFLOW_ID];
    cJSON_ArrayForEach(row, rows)
    {
        if (ragflow_id_of(row, "id", has) && str_eq(has, id)) {
            return row;
        }
    }
    return NULL;
}

static void not_ours(struct driver_op *op, const cJSON *row)
{
    const char *mark = json_str(row, "description");
    if (op->created && is_own_tenants(op, row)) {
        ragflow_fail_with(op, ERR_REFUSED,
                          "dataset %s: description is \"%.64s\", not \"%s\"; the server does not "
                          "keep what it is told; remove that dataset there, then replay",
                          op->id, mark ? mark : "", op->target->marker);
        return;
    }
    id_is_gone(op); /* somebody else's: only the name can tell what is ours */
}

void ragflow_feed_look_id(struct driver_op *op, const struct ragflow_answer *a,
                          struct driver_outcome *out)
{
    const cJSON *row = row_with_id(a->data, op->id);
    if (a->meaning == MEANS_DONE && !cJSON_IsArray(a->data)) {
        ragflow_fail_with(op, ERR_UNKNOWN, "the answer to a look-up by id is no list");
        out->err = op->err;
    } else if (!row) {
        if (believable(op)) {
            id_is_gone(op);
        }
    } else if (is_own_tenants(op, row) && is_marked(op, row)) {
        keep_row(op, row);
        if (op->phase != PHASE_FAILED) {
            seen_ours(op, op->row);
        }
    } else {
        not_ours(op, row);
    }
}

/* Which of two of ours stays: the recorded one, else the older. */
static bool goes_before(const struct driver_op *op, const cJSON *a, const cJSON *b)
{
    bool a_recorded = strcasecmp(json_str(a, "id"), op->recorded) == 0;
    bool b_recorded = strcasecmp(json_str(b, "id"), op->recorded) == 0;
    if (a_recorded != b_recorded) {
        return a_recorded;
    }
    return number_of(a, "create_time", INT64_MAX) < number_of(b, "create_time", INT64_MAX);
}

static void note(struct driver_op *op, const cJSON *row)
{
    if (!op->row) {
        keep_row(op, row);
        return;
    }
    if (strcasecmp(json_str(op->row, "id"), json_str(row, "id")) == 0) {
        keep_row(op, row);
        return;
    }
    bool first = goes_before(op, row, op->row);
    cJSON *extra = cJSON_Duplicate(first ? op->row : row, true);
    if (!extra) {
        ragflow_fail_with(op, ERR_INTERNAL, "out of memory");
        return;
    }
    cJSON_Delete(op->extra);
    op->extra = extra;
    if (first) {
        keep_row(op, row);
    }
}

/* The filter is looser than equality, and shows what teams share. */
static void sift(struct driver_op *op, const cJSON *rows, const char *name)
{
    const cJSON *row = NULL;
    char id[RAGFLOW_ID];
    if (cJSON_GetArraySize(rows) >= RAGFLOW_PAGE) {
        ragflow_fail_with(op, ERR_REFUSED,
                          "%d datasets or more have names like \"%.128s\"; remove what nobody "
                          "needs there, then replay",
                          RAGFLOW_PAGE, name);
    }
    cJSON_ArrayForEach(row, rows)
    {
        if (op->phase == PHASE_FAILED || !str_eq(json_str(row, "name"), name) ||
            !is_own_tenants(op, row)) {
            continue;
        }
        bool usable = ragflow_id_of(row, "id", id);
        if (is_marked(op, row) && usable) {
            note(op, row);
        } else if (is_marked(op, row)) {
            ragflow_fail_with(op, ERR_UNKNOWN, "the server lists a dataset of ours without an id");
        } else if (str_eq(name, op->target->name)) {
            str_copy(op->foreign, sizeof(op->foreign), usable ? id : "?");
        }
    }
}

/* All names have been looked up. */
static void looked(struct driver_op *op)
{
    op->look = 0;
    if (!op->row) {
        seen_none(op);
    } else if (op->extra && ragflow_observing(op)) {
        (void)ragflow_id_of(op->row, "id", op->id);
        ragflow_observed(op, SIGHT_OURS, false); /* there is one too many */
    } else if (op->extra && op->goal == DRIVER_PRESENT) {
        (void)ragflow_id_of(op->extra, "id", op->id);
        op->doomed = true;
        op->created = false;
        remove_surplus(op, op->extra);
    } else {
        (void)ragflow_id_of(op->row, "id", op->id);
        if (!ragflow_observing(op) && op->foreign[0] &&
            is_provisional(op, json_str(op->row, "name"))) {
            op->misnamed = op->doomed = true; /* made while a stranger had the name */
        }
        seen_ours(op, op->row);
    }
}

void ragflow_feed_look_name(struct driver_op *op, const struct ragflow_answer *a,
                            struct driver_outcome *out)
{
    struct names names;
    list_names(op, &names);
    if (a->meaning == MEANS_NOT_THERE) {
        if (!believable(op)) {
            return;
        }
    } else if (cJSON_IsArray(a->data)) {
        sift(op, a->data, names.name[op->look < names.n ? op->look : 0]);
    } else {
        ragflow_fail_with(op, ERR_UNKNOWN, "the answer to a look-up by name is no list");
    }
    if (op->phase == PHASE_FAILED) {
        out->err = op->err;
    } else if (++op->look >= names.n) {
        looked(op);
    }
}

/* ---- create ---- */

static void add_model(const struct driver_op *op, struct buf *b)
{
    if (op->model[0] != '\0') {
        buf_adds(b, ",\"embedding_model\":");
        buf_add_json(b, op->model);
    }
}

/* Without a parser_config the server turns on what costs most. */
void ragflow_build_create(struct driver_op *op, struct exchange_request *r)
{
    const struct driver_target *t = op->target;
    ragflow_url(r, t->url, "/api/v1/datasets");
    buf_adds(&r->body, "{\"name\":");
    buf_add_json(&r->body, first_name(op));
    if (op->site->go) {
        buf_adds(&r->body, ",\"permission\":\"me\",\"parser_id\":\"naive\"");
        add_model(op, &r->body);
        buf_addc(&r->body, '}');
    } else {
        buf_adds(&r->body, ",\"description\":");
        buf_add_json(&r->body, t->marker);
        buf_adds(&r->body, ",\"permission\":\"me\",\"chunk_method\":\"naive\"");
        add_model(op, &r->body);
        buf_addf(&r->body,
                 ",\"parser_config\":{\"chunk_token_num\":%" PRId64 ",\"delimiter\":\"\\n\"}}",
                 t->chunk_size);
    }
    ragflow_body(r);
}

void ragflow_feed_create(struct driver_op *op, const struct ragflow_answer *a,
                         struct driver_outcome *out)
{
    char id[RAGFLOW_ID];
    if (a->meaning != MEANS_DONE || !ragflow_id_of(a->data, "id", id)) {
        out->effect = EFFECT_UNKNOWN;
        err_set(&out->err, ERR_UNKNOWN, "the answer to the create names no dataset");
        op->uncertain = true;
        op->empty_looks = 0;
        ragflow_seek(op);
        return;
    }
    ragflow_gain(op);
    str_copy(op->id, sizeof(op->id), id);
    str_copy(out->external_id, sizeof(out->external_id), id);
    str_copy(out->tenant_id, sizeof(out->tenant_id), op->tenant);
    out->record = true;
    op->created = true;
    op->updated = false;
    err_clear(&op->refused);
    char what[ERR_MSG_MAX];
    differences(op, a->data, what, sizeof(what));
    bool sure = is_own_tenants(op, a->data) && is_marked(op, a->data) &&
                str_eq(json_str(a->data, "name"), first_name(op));
    op->phase = sure && what[0] != '\0' ? PHASE_UPDATE : PHASE_LOOK_ID;
}

/* ---- update ---- */

/* Go knows nothing of `ext`, and made what costs most. */
static void add_config(const struct driver_op *op, struct buf *b)
{
    int64_t percent = ragflow_overlap_percent(op->target);
    buf_addf(b, "\"parser_config\":{\"chunk_token_num\":%" PRId64, op->target->chunk_size);
    if (op->site->go) {
        buf_addf(b, ",\"delimiter\":\"\\n\",\"overlapped_percent\":%" PRId64, percent);
    } else {
        buf_addf(b, ",\"ext\":{\"overlapped_percent\":%" PRId64 "}", percent);
    }
    if (op->site->go && (op->created || is_provisional(op, json_str(op->row, "name")))) {
        buf_adds(b, ",\"raptor\":{\"use_raptor\":false},\"graphrag\":{\"use_graphrag\":false}");
    }
    buf_addc(b, '}');
}

void ragflow_build_update(struct driver_op *op, struct exchange_request *r)
{
    ragflow_url(r, op->target->url, "/api/v1/datasets/%s", op->id);
    buf_addc(&r->body, '{');
    if (op->site->go || is_provisional(op, json_str(op->row, "name"))) {
        buf_adds(&r->body, "\"name\":");
        buf_add_json(&r->body, op->target->name);
        buf_adds(&r->body, ",\"description\":");
        buf_add_json(&r->body, op->target->marker);
        buf_addc(&r->body, ',');
    }
    add_config(op, &r->body);
    buf_addc(&r->body, '}');
    ragflow_body(r);
}

/* Refused: it is gone, the name is taken, or the settings are no good; a look tells which. */
void ragflow_feed_update(struct driver_op *op, const struct ragflow_answer *a,
                         struct driver_outcome *out)
{
    (void)out;
    if (a->meaning == MEANS_DONE) {
        op->updated = true;
        err_clear(&op->refused);
    } else {
        op->refused = a->err;
    }
    op->phase = PHASE_LOOK_ID;
}
