/*
 * Parameters, JSON and results, as PostgreSQL reads and prints them.
 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/str.h"
#include "db_internal.h"

static const char bad_text[] = "22P02", not_null[] = "23502";

/* ---- parameters ---- */

bool db_null(const struct db *db, int i)
{
    return !db->params[i].value;
}

const char *db_text(struct db *db, int i)
{
    const struct pg_param *p = &db->params[i];
    return p->value && p->len >= 0 ? db_dupn(db, p->value, (size_t)p->len) : p->value;
}

char *db_keep(struct db *db, int i)
{
    const struct pg_param *p = &db->params[i];
    return p->value && p->len >= 0 ? db_dupn(db, p->value, (size_t)p->len) : db_dup(db, p->value);
}

bool db_i64_or(struct db *db, int i, int64_t fallback, int64_t *out)
{
    const char *text = db_text(db, i);
    if (!text) {
        *out = fallback;
        return true;
    }
    return str_to_i64(text, out) || db_refuse(db, bad_text, "a parameter is no integer");
}

bool db_i64(struct db *db, int i, int64_t *out)
{
    return db_null(db, i) ? db_refuse(db, not_null, "a number is null") : db_i64_or(db, i, 0, out);
}

bool db_uuid(struct db *db, int i, char out[UUID_TEXT])
{
    const char *text = db_text(db, i);
    out[0] = '\0';
    return !text || uuid_parse(text, strlen(text), out) ||
           db_refuse(db, bad_text, "a parameter is no UUID");
}

bool db_time(struct db *db, int i, int64_t *out)
{
    const char *text = db_text(db, i);
    *out = 0;
    return !text || clock_parse(text, strlen(text), out) ||
           db_refuse(db, "22007", "a parameter is no time");
}

bool db_step(struct db *db, int i, enum job_step *out)
{
    const char *text = db_text(db, i);
    *out = text ? job_step_parse(text) : STEP_MAX;
    return !text || *out != STEP_MAX || db_refuse(db, bad_text, "a parameter is no job_step");
}

static int digit(char c)
{
    static const char digits[] = "0123456789abcdef";
    const char *at = c ? strchr(digits, c | ('a' ^ 'A')) : NULL;
    return at ? (int)(at - digits) : -1;
}

static bool from_hex(struct db *db, const char *text, struct db_bytes *out)
{
    size_t n = strlen(text);
    if (n % 2 != 0 || !str_starts(text, "\\x")) {
        return db_refuse(db, bad_text, "a parameter is no bytea in hex");
    }
    out->len = n / 2 - 1;
    unsigned char *bytes = db_alloc(db, out->len + 1);
    out->data = bytes;
    for (size_t i = 0; i < out->len; i++) {
        int high = digit(text[2 + 2 * i]), low = digit(text[3 + 2 * i]);
        if (high < 0 || low < 0) {
            return db_refuse(db, bad_text, "a parameter is no bytea in hex");
        }
        bytes[i] = (unsigned char)(high << 4 | low);
    }
    return true;
}

bool db_bytea(struct db *db, int i, struct db_bytes *out)
{
    const struct pg_param *p = &db->params[i];
    *out = (struct db_bytes){0};
    if (!p->value) {
        return true;
    }
    if (p->len < 0) {
        return from_hex(db, p->value, out);
    }
    out->len = (size_t)p->len;
    out->data = (const unsigned char *)db_dupn(db, p->value, out->len);
    return true;
}

bool db_json(struct db *db, int i, cJSON **out)
{
    const char *text = db_text(db, i);
    *out = text ? cJSON_ParseWithOpts(text, NULL, 1) : NULL;
    return !text || *out || db_refuse(db, bad_text, "a parameter is no JSON");
}

void kept_free(struct kept *k)
{
    free(k->text);
    cJSON_Delete(k->tree);
    *k = (struct kept){0};
}

bool db_json_kept(struct db *db, int i, const cJSON **out)
{
    const char *text = db_text(db, i);
    cJSON *tree = NULL;
    *out = NULL;
    for (size_t k = 0; text && k < KEPT_MAX && db->kept[k].text; k++) {
        if (str_eq(db->kept[k].text, text)) {
            *out = db->kept[k].tree;
            return true;
        }
    }
    if (!text || !db_json(db, i, &tree)) {
        return !text;
    }
    struct kept *k = &db->kept[db->n_kept++ % KEPT_MAX];
    kept_free(k);
    *k = (struct kept){str_dup(text), tree};
    *out = tree;
    return true;
}

bool db_ids(struct db *db, int i, int64_t **out, size_t *n)
{
    const char *at = db_text(db, i);
    *n = SIZE_MAX;
    *out = NULL;
    if (!at) {
        return true;
    }
    *n = 0;
    *out = db_alloc(db, strlen(at) * sizeof(**out)); /* every id has its comma or brace */
    for (at++; *at && *at != '}'; at += *at == ',') {
        char *end;
        (*out)[(*n)++] = strtoll(at, &end, 10);
        if (end == at) {
            return db_refuse(db, bad_text, "a parameter is no bigint[]");
        }
        at = end;
    }
    return true;
}

/* ---- JSON ---- */

/* jsonb's order of members: by length, then by bytes. */
static int order_of(const cJSON *a, const cJSON *b)
{
    size_t m = strlen(a->string), n = strlen(b->string);
    return m != n ? (m < n ? -1 : 1) : memcmp(a->string, b->string, m);
}

static void sort_members(cJSON *object)
{
    cJSON *sorted = NULL, *next;
    for (cJSON *item = object->child; item; item = next) {
        next = item->next;
        cJSON **at = &sorted;
        while (*at && order_of(*at, item) <= 0) {
            at = &(*at)->next;
        }
        item->next = *at;
        *at = item;
    }
    object->child = sorted;
}

static void add_number(struct buf *out, double d)
{
    if (fabs(d) < 1e15 && d == floor(d)) {
        buf_addf(out, "%" PRId64, (int64_t)d);
        return;
    }
    char text[40];
    snprintf(text, sizeof(text), "%.15g", d);
    if (strtod(text, NULL) != d) {
        snprintf(text, sizeof(text), "%.17g", d);
    }
    buf_adds(out, text);
}

static void add_value(struct buf *out, cJSON *tree);

/* Of members with the same name the last one counts. */
static void add_members(struct buf *out, cJSON *object)
{
    bool first = true;
    sort_members(object);
    for (cJSON *item = object->child; item; item = item->next) {
        if (item->next && str_eq(item->next->string, item->string)) {
            continue;
        }
        buf_adds(out, first ? "" : ", ");
        first = false;
        buf_add_json(out, item->string);
        buf_adds(out, ": ");
        add_value(out, item);
    }
}

static void add_value(struct buf *out, cJSON *tree)
{
    if (cJSON_IsObject(tree)) {
        buf_addc(out, '{');
        add_members(out, tree);
        buf_addc(out, '}');
    } else if (cJSON_IsArray(tree)) {
        buf_addc(out, '[');
        for (cJSON *item = tree->child; item; item = item->next) {
            buf_adds(out, item == tree->child ? "" : ", ");
            add_value(out, item);
        }
        buf_addc(out, ']');
    } else if (cJSON_IsString(tree)) {
        buf_add_json(out, tree->valuestring);
    } else if (cJSON_IsNumber(tree)) {
        add_number(out, tree->valuedouble);
    } else {
        buf_adds(out, cJSON_IsNull(tree) ? "null" : cJSON_IsTrue(tree) ? "true" : "false");
    }
}

char *db_json_text(struct db *db, cJSON *tree)
{
    if (!tree) {
        return NULL;
    }
    buf_reset(&db->text);
    add_value(&db->text, tree);
    return db_dupn(db, buf_str(&db->text), db->text.len);
}

const char *db_member(struct db *db, const cJSON *object, const char *name)
{
    cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
    if (!item || cJSON_IsNull(item)) {
        return NULL;
    }
    return cJSON_IsString(item) ? db_dup(db, item->valuestring) : db_json_text(db, item);
}

bool db_member_uuid(struct db *db, const cJSON *object, const char *name, const char **out)
{
    char uuid[UUID_TEXT];
    const char *text = db_member(db, object, name);
    *out = NULL;
    if (text && !uuid_parse(text, strlen(text), uuid)) {
        return db_refuse(db, bad_text, "a member is no UUID");
    }
    *out = text ? db_dup(db, uuid) : NULL;
    return true;
}

bool db_member_texts(struct db *db, const cJSON *object, const char *name, const char **out,
                     bool *has_null)
{
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(object, name);
    *out = NULL;
    if (!list || cJSON_IsNull(list)) {
        return true;
    }
    if (!cJSON_IsArray(list)) {
        return db_refuse(db, bad_text, "a member is no text[]");
    }
    buf_reset(&db->text);
    buf_addc(&db->text, '[');
    for (const cJSON *item = list->child; item; item = item->next) {
        buf_adds(&db->text, item == list->child ? "" : ",");
        buf_add_json(&db->text, item->valuestring);
        if (has_null && cJSON_IsNull(item)) {
            *has_null = true;
        }
    }
    buf_addc(&db->text, ']');
    *out = db_dupn(db, buf_str(&db->text), db->text.len);
    return true;
}

int64_t db_ms(int64_t us)
{
    return us < 0 ? -((500 - us) / 1000) : (us + 500) / 1000;
}

/* ---- results ---- */

static PGresAttDesc claim_columns[] = {
    {.name = "job_id"},
    {.name = "fence"},
    {.name = "subscription_uuid"},
    {.name = "kind"},
    {.name = "step"},
    {.name = "attempts"},
    {.name = "deadline_left_ms"},
    {.name = "waited_ms"},
    {.name = "takeover"},
    {.name = "organization_uuid"},
    {.name = "organization_slug"},
    {.name = "order_uuid"},
    {.name = "generation"},
    {.name = "traceparent"},
    {.name = "spec"},
    {.name = "name"},
    {.name = "runtime_name"},
    {.name = "workspace_id"},
    {.name = "collection_id"},
    {.name = "status"},
    {.name = "capabilities"},
    {.name = "langflow_open"},
    {.name = "ragflow_open"},
    {.name = "langflow_age_ms"},
    {.name = "langflow_update"},
    {.name = "langflow_delete"},
    {.name = "ragflow_age_ms"},
    {.name = "ragflow_update"},
    {.name = "ragflow_delete"},
    {.name = "lane"},
    {.name = "credit"},
    {.name = "tenant_id"},
    {.name = "langflow_key"},
    {.name = "ragflow_key"},
    {.name = "variables"},
    {.name = "variables_due"},
    {.name = "collection_asked"},
};

#define COLUMNS(...)                                                                               \
    {                                                                                              \
        (PGresAttDesc[]){__VA_ARGS__},                                                             \
            sizeof((PGresAttDesc[]){__VA_ARGS__}) / sizeof(PGresAttDesc)                           \
    }
#define COLUMN(x)                                                                                  \
    {                                                                                              \
        .name = (x)                                                                                \
    }

static const struct {
    PGresAttDesc *columns;
    int n;
} shapes[STATEMENT_MAX] = {
    [S_INBOX_TAKE] = COLUMNS(COLUMN("inbox_take")),
    [S_DEAD_LETTER_ADD] = COLUMNS(COLUMN("id"), COLUMN("published")),
    [S_DEAD_LETTER_PUBLISHED] = COLUMNS(COLUMN("dead_letter_published")),
    [S_WORKER_REGISTER] = COLUMNS(COLUMN("worker_register")),
    [S_WORKER_RENEW] = COLUMNS(COLUMN("worker_renew")),
    [S_WORKER_LEAVE] = COLUMNS(COLUMN("worker_leave")),
    [S_JOBS_CLAIM] = {claim_columns, ARRAY_LEN(claim_columns)},
    [S_JOBS_BACK] = COLUMNS(COLUMN("jobs_back")),
    [S_STEP_PASS] = COLUMNS(COLUMN("step_pass")),
    [S_STEP_NAME] = COLUMNS(COLUMN("step_name")),
    [S_STEP_RESOURCE] = COLUMNS(COLUMN("step_resource")),
    [S_STEP_API_KEY] = COLUMNS(COLUMN("step_api_key")),
    [S_STEP_READY] = COLUMNS(COLUMN("step_ready")),
    [S_STEP_REVOKE] = COLUMNS(COLUMN("step_revoke")),
    [S_STEP_REFUSE] = COLUMNS(COLUMN("step_refuse")),
    [S_STEP_SUSPENDED] = COLUMNS(COLUMN("step_suspended")),
    [S_STEP_ARCHIVE] = COLUMNS(COLUMN("step_archive")),
    [S_JOB_SETTLE] = COLUMNS(COLUMN("job_settle")),
    [S_EFFECT_INTEND] = COLUMNS(COLUMN("verdict"), COLUMN("effect_id")),
    [S_EFFECT_SETTLE] = COLUMNS(COLUMN("effect_settle")),
    [S_RUNTIME_KEEP] = COLUMNS(COLUMN("runtime_keep")),
    [S_JOBS_RELEASE] = COLUMNS(COLUMN("text"), COLUMN("jobs_release")),
    [S_OUTBOX_CLAIM] =
        COLUMNS(COLUMN("id"), COLUMN("subscription_uuid"), COLUMN("type"), COLUMN("payload")),
    [S_OUTBOX_DONE] = COLUMNS(COLUMN("outbox_done")),
    [S_OUTBOX_BACK] = COLUMNS(COLUMN("outbox_back")),
    [S_OUTBOX_FORGET] = COLUMNS(COLUMN("outbox_forget")),
    [S_COUNTS] = COLUMNS(COLUMN("what"), COLUMN("n")),
    [S_SCHEMA_VERSION] = COLUMNS(COLUMN("coalesce")),
};

/* A claim's many names would cost more than all the rest of it. */
static PGresAttDesc nameless[ARRAY_LEN(claim_columns)];

PGresult *db_result(const struct db *db)
{
    PGresult *res = PQmakeEmptyPGresult(NULL, PGRES_TUPLES_OK);
    PGresAttDesc *columns = db->options.named ? shapes[db->statement].columns : nameless;
    if (!res || !PQsetResultAttrs(res, shapes[db->statement].n, columns)) {
        abort();
    }
    return res;
}

void db_put(PGresult *res, int row, int column, const char *value)
{
    int len = value ? (int)strlen(value) : -1;
    if (!PQsetvalue(res, row, column, (char *)(uintptr_t)value, len)) {
        abort();
    }
}

void db_put_i64(PGresult *res, int row, int column, int64_t value)
{
    char text[24];
    snprintf(text, sizeof(text), "%" PRId64, value);
    db_put(res, row, column, text);
}

void db_put_bool(PGresult *res, int row, int column, bool value)
{
    db_put(res, row, column, value ? "t" : "f");
}

PGresult *db_one(const struct db *db, const char *value)
{
    PGresult *res = db_result(db);
    db_put(res, 0, 0, value);
    return res;
}

PGresult *db_one_i64(const struct db *db, int64_t value)
{
    PGresult *res = db_result(db);
    db_put_i64(res, 0, 0, value);
    return res;
}
