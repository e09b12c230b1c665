/*
 * What goes over the wire and what comes back: URLs, trees of small answers, and flows, which may
 * be megabytes and pass through as they are written.
 */
#include "langflow/native.h"

#include <stdlib.h>
#include <string.h>

#include "base/str.h"

static const struct json_limits answer_limits = {
    .size = LANGFLOW_ANSWER_MAX, .depth = 64, .string = LANGFLOW_ANSWER_MAX};

void langflow_url(const struct driver_op *op, struct exchange_request *r, const char *path,
                  const char *id, const char *rest)
{
    struct buf url;
    buf_init(&url, sizeof(r->url) - 1);
    buf_adds(&url, op->target->url);
    buf_adds(&url, path);
    if (id) {
        buf_adds(&url, id);
    }
    if (rest) {
        buf_adds(&url, rest);
    }
    /* Without its id a path would mean all there are. */
    bool cut = id && id[0] == '\0';
    if (cut || url.failed || !str_copy(r->url, sizeof(r->url), buf_str(&url))) {
        r->url[0] = '\0';
    }
    buf_done(&url);
}

void langflow_json(struct exchange_request *r)
{
    r->content_type = "application/json";
}

cJSON *langflow_tree(const struct langflow_answer *a)
{
    struct json_fault fault;
    cJSON *tree = NULL;
    if (a->verdict != VERDICT_GOOD ||
        json_parse(a->r->body, a->r->body_len, &answer_limits, &tree, &fault)) {
        return NULL;
    }
    return tree;
}

bool langflow_uuid(const cJSON *object, const char *member, char out[UUID_TEXT])
{
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, member));
    return text && uuid_parse(text, strlen(text), out);
}

/* ---- spans ---- */

/* The string that a member is, decoded; NULL where it is none, or memory ends: then *starved. */
static char *span_text(const struct json_member *m, bool *starved)
{
    struct json_fault fault;
    cJSON *tree = NULL;
    if (m->value[0] != '"') {
        return NULL;
    }
    if (json_parse(m->value, m->value_len, &answer_limits, &tree, &fault)) {
        *starved = *starved || fault.internal;
        return NULL;
    }
    char *text = str_dup(cJSON_GetStringValue(tree));
    *starved = *starved || !text;
    cJSON_Delete(tree);
    return text;
}

static bool span_is(const struct json_member *m, const char *wanted, bool *starved)
{
    char *text = span_text(m, starved);
    bool same = text && str_eq(text, wanted);
    free(text);
    return same;
}

static bool span_is_uuid(const struct json_member *m, const char *wanted)
{
    char id[UUID_TEXT];
    bool quoted = m->value_len > 2 && m->value[0] == '"';
    return quoted && uuid_parse(m->value + 1, m->value_len - 2, id) && str_eq(id, wanted);
}

/* ---- answers with one flow ---- */

struct flow_reader {
    const struct driver_op *op;
    const char *flow_id;
    struct langflow_flow_seen seen;
    bool starved; /* memory ended: nothing is known */
};

static void see_member(void *ctx, const struct json_member *m)
{
    struct flow_reader *f = ctx;
    if (json_member_is(m, "id")) {
        f->seen.flow_fits = span_is_uuid(m, f->flow_id);
    } else if (json_member_is(m, "user_id")) {
        f->seen.user_fits = span_is_uuid(m, f->op->user_id);
    } else if (json_member_is(m, "name")) {
        f->seen.name_fits = f->op->flow_name && span_is(m, f->op->flow_name, &f->starved);
    } else if (json_member_is(m, "access_type")) {
        f->seen.private = span_is(m, "PRIVATE", &f->starved);
    } else if (json_member_is(m, "mcp_enabled") || json_member_is(m, "a2a_enabled")) {
        f->seen.served = f->seen.served || m->value[0] == 't';
    }
}

bool langflow_flow_seen(const struct driver_op *op, const struct langflow_answer *a,
                        const char *flow_id, struct langflow_flow_seen *out)
{
    struct json_fault fault;
    struct flow_reader f = {.op = op, .flow_id = flow_id};
    if (a->verdict != VERDICT_GOOD ||
        json_members(a->r->body, a->r->body_len, &answer_limits, see_member, &f, &fault) ||
        f.starved) {
        return false;
    }
    *out = f.seen;
    return true;
}

/* ---- templates ---- */

/* The server's own, the template owner's own, what would write files on the server, and a door
 * that its tenant may open. */
static const char *const dropped[] = {"id",           "user_id",       "user",       "folder_id",
                                      "folder",       "project_id",    "name_key",   "access_type",
                                      "workspace_id", "fs_path",       "updated_at", "created_at",
                                      "create_at",    "endpoint_name", "mcp_enabled"};

struct flow_writer {
    struct buf *body;
    char *name;
    bool has_data, starved;
};

static void write_member(void *ctx, const struct json_member *m)
{
    struct flow_writer *w = ctx;
    for (size_t i = 0; i < ARRAY_LEN(dropped); i++) {
        if (json_member_is(m, dropped[i])) {
            return;
        }
    }
    /* Nobody writes these names with escapes but to hide them. */
    if (memchr(m->name, '\\', m->name_len)) {
        return;
    }
    if (json_member_is(m, "name")) {
        free(w->name); /* a second one is refused, but later */
        w->name = span_text(m, &w->starved);
        return;
    }
    w->has_data = w->has_data || (json_member_is(m, "data") && m->value[0] == '{');
    buf_addc(w->body, ',');
    buf_addc(w->body, '"');
    buf_add(w->body, m->name, m->name_len);
    buf_adds(w->body, "\":");
    buf_add(w->body, m->value, m->value_len);
}

int langflow_flow_body(const char *text, size_t n, const char *fallback_name, struct buf *body,
                       char **name, struct err *err)
{
    static const struct json_limits limits = {
        .size = EXCHANGE_REQUEST_MAX, .depth = 64, .string = EXCHANGE_REQUEST_MAX};
    struct flow_writer w = {.body = body};
    struct json_fault fault;
    buf_adds(body, "{\"access_type\":\"PRIVATE\",\"mcp_enabled\":false");
    bool read = json_members(text, n, &limits, write_member, &w, &fault) == 0;
    if (read && !w.starved && (!w.name || w.name[0] == '\0')) {
        free(w.name);
        w.name = str_dup(fallback_name);
    }
    buf_adds(body, ",\"name\":");
    buf_add_json(body, w.name);
    buf_addc(body, '}');
    if (read && w.has_data && w.name && !body->failed) {
        *name = w.name;
        return 0;
    }
    free(w.name);
    if (!read && !fault.internal) {
        return err_set(err, ERR_INVALID, "the template flow is not usable: %.*s%s%s",
                       JSON_REASON_MAX, fault.reason, fault.pointer[0] ? " at " : "",
                       fault.pointer);
    }
    if (!read || w.starved || (w.has_data && !body->full)) {
        return err_nomem(err);
    }
    if (!w.has_data) {
        return err_set(err, ERR_INVALID,
                       "the template flow has no \"data\" object; export one flow, not a list");
    }
    return err_set(err, ERR_INVALID, "the template flow is larger than %d MiB",
                   EXCHANGE_REQUEST_MAX / 1024 / 1024);
}
