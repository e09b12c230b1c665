/*
 * Running a flow, as far as who may is concerned, and the messages that runs leave.
 */
#include "langflow.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/str.h"

/* ---- components ---- */

/* The one that leaves a message when it runs. */
void lf_components(struct lf_call *c)
{
    cJSON *json = cJSON_CreateObject();
    cJSON *group = cJSON_AddObjectToObject(json, "input_output");
    cJSON *chat = cJSON_AddObjectToObject(group, "ChatInput");
    cJSON_AddStringToObject(chat, "display_name", "Chat Input");
    cJSON_AddObjectToObject(chat, "template");
    reply_json(c->out, 200, json);
}

/* ---- runs ---- */

static const char *key_of(const struct lf_call *c)
{
    const char *key = call_header(c->http, "x-api-key");
    return key ? key : call_argument(c->http, "x-api-key");
}

/* Before 1.12 nobody asks here whether the user is active. */
static struct lf_record *runner(struct lf_call *c)
{
    const char *given = key_of(c);
    struct lf_record *key = given ? lf_by_alias(c->s, LF_KEY, given, NULL) : NULL;
    if (!given) {
        reply_detail(c->out, 403, "An API key must be passed as query or header");
        return NULL;
    }
    bool shut = key && c->s->minor >= 12 && !json_bool(key->owner->json, "is_active", false);
    if (!key || !lf_seen(c->s, key) || shut) {
        reply_detail(c->out, 403, "Invalid or missing API key");
        return NULL;
    }
    return key->owner;
}

static struct lf_record *flow_called(const struct lf_call *c, const struct lf_record *user)
{
    char id[UUID_TEXT];
    if (uuid_parse(c->arg, strlen(c->arg), id))
        return lf_find(c->s, LF_FLOW, id);
    struct lf_record *f = lf_first(c->s, user, LF_FLOW);
    while (f && !str_eq(json_str(f->json, "endpoint_name"), c->arg))
        f = lf_next(c->s, f);
    return f;
}

static bool leaves_messages(const struct lf_record *flow)
{
    const cJSON *node;
    cJSON_ArrayForEach(node, json_get(flow->json, "data.nodes"))
    {
        if (str_eq(json_str(node, "data.type"), "ChatInput"))
            return true;
    }
    return false;
}

static void leave_message(struct lf_call *c, const struct lf_record *flow, const char *session,
                          const char *input)
{
    if (leaves_messages(flow))
        lf_message_new(c->s, flow->id, session, input ? input : "");
}

static void answer_run(struct lf_call *c, const struct lf_record *flow)
{
    const char *input = json_str(c->body, "input_value");
    const char *session = json_str(c->body, "session_id");
    if (!session)
        session = flow->id;
    leave_message(c, flow, session, input);
    cJSON *json = cJSON_CreateObject();
    cJSON_AddStringToObject(json, "session_id", session);
    cJSON *outputs = cJSON_AddArrayToObject(json, "outputs"), *one = cJSON_CreateObject();
    cJSON *inputs = cJSON_AddObjectToObject(one, "inputs");
    if (input)
        cJSON_AddStringToObject(inputs, "input_value", input);
    cJSON_AddArrayToObject(one, "outputs");
    cJSON_AddItemToArray(outputs, one);
    reply_json(c->out, 200, json);
}

void lf_run(struct lf_call *c)
{
    struct lf_record *user = runner(c);
    struct lf_record *flow = user ? flow_called(c, user) : NULL;
    if (!user)
        return;
    if (flow && flow->owner != user && c->s->minor < 10)
        reply_detail(c->out, 403, "You do not have permission to run this flow");
    else if (!flow || flow->owner != user)
        reply_detail(c->out, 404, "Flow identifier %s not found", c->arg);
    else
        answer_run(c, flow);
}

/* ---- a project's MCP server, as far as its door goes ---- */

static bool is_tool(const struct lf_record *flow, const struct lf_record *project)
{
    return json_bool(flow->json, "mcp_enabled", false) &&
           str_eq(json_str(flow->json, "folder_id"), project->id);
}

static cJSON *tools_of(const struct lf_call *c, const struct lf_record *project)
{
    cJSON *tools = cJSON_CreateArray();
    for (struct lf_record *f = lf_first(c->s, project->owner, LF_FLOW); f; f = lf_next(c->s, f)) {
        if (!is_tool(f, project))
            continue;
        cJSON *tool = cJSON_CreateObject();
        cJSON_AddStringToObject(tool, "name", json_str(f->json, "name"));
        cJSON_AddItemToArray(tools, tool);
    }
    return tools;
}

static void answer_event(struct lf_call *c, cJSON *result)
{
    cJSON *json = cJSON_CreateObject();
    const cJSON *id = json_get(c->body, "id");
    cJSON_AddStringToObject(json, "jsonrpc", "2.0");
    cJSON_AddItemToObject(json, "id", id ? cJSON_Duplicate(id, true) : cJSON_CreateNull());
    cJSON_AddItemToObject(json, "result", result);
    char *text = json_text(json);
    struct buf b;
    cJSON_Delete(json);
    buf_init(&b, STANDIN_ANSWER_MAX);
    buf_addf(&b, "event: message\r\ndata: %s\r\n\r\n", text ? text : "{}");
    free(text);
    size_t n = b.len;
    reply_bytes(c->out, 200, "text/event-stream", buf_steal(&b), n);
}

/* Before 1.12 nobody without a key gets that far. */
static void call_tool(struct lf_call *c, const struct lf_record *project, cJSON *result)
{
    const char *name = json_str(c->body, "params.name");
    bool runs = c->s->minor >= 12 || key_of(c);
    struct lf_record *f = runs ? lf_first(c->s, project->owner, LF_FLOW) : NULL;
    cJSON *content = cJSON_AddArrayToObject(result, "content"), *one = cJSON_CreateObject();
    char words[300];
    while (f && !(is_tool(f, project) && str_eq(json_str(f->json, "name"), name)))
        f = lf_next(c->s, f);
    if (f)
        leave_message(c, f, f->id, json_str(c->body, "params.arguments.input_value"));
    snprintf(words, sizeof(words), "Flow with name '%.100s' not found", name ? name : "");
    cJSON_AddStringToObject(one, "type", "text");
    cJSON_AddStringToObject(one, "text", f ? "ran" : words);
    cJSON_AddItemToArray(content, one);
    cJSON_AddBoolToObject(result, "isError", !f);
}

/* Nobody asks whether the owner is active where the project wants no key. */
void lf_mcp(struct lf_call *c)
{
    struct lf_record *project = lf_find(c->s, LF_PROJECT, c->id);
    if (!project) {
        reply_detail(c->out, 404, "Project not found");
        return;
    }
    if (!str_eq(json_str(project->json, "auth_settings.auth_type"), "none") && !key_of(c)) {
        reply_detail(c->out, 401,
                     "API key required for this project. Provide x-api-key header or query "
                     "parameter.");
        return;
    }
    if (!str_eq(json_str(project->json, "auth_settings.auth_type"), "none") &&
        runner(c) != project->owner) {
        if (!c->out->status)
            reply_detail(c->out, 404, "Project not found");
        return;
    }
    cJSON *result = cJSON_CreateObject();
    if (str_eq(json_str(c->body, "method"), "tools/list")) {
        /* Without a key 1.10 looks for flows of somebody else than the project's owner. */
        bool none = c->s->minor == 10 && !key_of(c);
        cJSON_AddItemToObject(result, "tools", none ? cJSON_CreateArray() : tools_of(c, project));
    } else if (str_eq(json_str(c->body, "method"), "tools/call")) {
        call_tool(c, project, result);
    }
    answer_event(c, result);
}

/* ---- messages ---- */

struct lf_record *lf_message_new(struct lf_store *s, const char *flow_id, const char *session,
                                 const char *text)
{
    char now[CLOCK_TEXT_MAX];
    clock_format(now, clock_wall_us());
    cJSON *json = cJSON_CreateObject();
    cJSON_AddNullToObject(json, "id");
    cJSON_AddStringToObject(json, "flow_id", flow_id);
    cJSON_AddStringToObject(json, "timestamp", now);
    cJSON_AddStringToObject(json, "sender", "User");
    cJSON_AddStringToObject(json, "sender_name", "User");
    cJSON_AddStringToObject(json, "session_id", session);
    cJSON_AddStringToObject(json, "text", text);
    return lf_add(s, LF_MESSAGE, NULL, NULL, flow_id, json);
}

typedef void each_message(struct lf_call *c, struct lf_record *message, void *ctx);

/* The messages of the caller's flows. */
static void own_messages(struct lf_call *c, const char *flow_id, each_message *fn, void *ctx)
{
    for (struct lf_record *f = lf_first(c->s, c->user, LF_FLOW); f; f = lf_next(c->s, f)) {
        if (flow_id && !str_eq(flow_id, f->id))
            continue;
        struct lf_record *m = lf_by_alias(c->s, LF_MESSAGE, f->id, NULL), *after;
        for (; m; m = after) {
            after = lf_by_alias(c->s, LF_MESSAGE, f->id, m);
            if (lf_seen(c->s, m))
                fn(c, m, ctx);
        }
    }
}

static void collect(struct lf_call *c, struct lf_record *m, void *ctx)
{
    const char *session = call_argument(c->http, "session_id");
    if (!session || str_eq(session, json_str(m->json, "session_id")))
        cJSON_AddItemToArray(ctx, cJSON_Duplicate(m->json, true));
}

void lf_message_list(struct lf_call *c)
{
    cJSON *json = cJSON_CreateArray();
    own_messages(c, call_argument(c->http, "flow_id"), collect, json);
    reply_json(c->out, 200, json);
}

static void collect_session(struct lf_call *c, struct lf_record *m, void *ctx)
{
    const char *session = json_str(m->json, "session_id");
    const cJSON *known;
    (void)c;
    cJSON_ArrayForEach(known, (cJSON *)ctx)
    {
        if (str_eq(known->valuestring, session))
            return;
    }
    cJSON_AddItemToArray(ctx, cJSON_CreateString(session));
}

void lf_message_sessions(struct lf_call *c)
{
    cJSON *json = cJSON_CreateArray();
    own_messages(c, call_argument(c->http, "flow_id"), collect_session, json);
    reply_json(c->out, 200, json);
}

static void delete_wanted(struct lf_call *c, struct lf_record *m, void *ctx)
{
    const cJSON *id;
    (void)ctx;
    cJSON_ArrayForEach(id, c->body)
    {
        if (str_eq(cJSON_GetStringValue(id), m->id)) {
            lf_remove(c->s, m, 0);
            return;
        }
    }
}

void lf_message_delete(struct lf_call *c)
{
    own_messages(c, NULL, delete_wanted, NULL);
    c->out->status = 204;
}

static void delete_of_session(struct lf_call *c, struct lf_record *m, void *ctx)
{
    (void)ctx;
    if (str_eq(json_str(m->json, "session_id"), c->arg))
        lf_remove(c->s, m, 0);
}

/* Before 1.10 anybody's. */
void lf_message_delete_session(struct lf_call *c)
{
    if (c->s->minor >= 10) {
        own_messages(c, NULL, delete_of_session, NULL);
    } else {
        for (struct lf_record *m = c->s->first[LF_MESSAGE], *after; m; m = after) {
            after = m->next;
            delete_of_session(c, m, NULL);
        }
    }
    c->out->status = 204;
}
