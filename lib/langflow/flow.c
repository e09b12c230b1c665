/*
 * The tenant's flows, and the messages that hang on them.
 */
#include "langflow/native.h"

#include <stdio.h>
#include <string.h>

#include "base/str.h"

#define FLOWS    "/api/v1/flows/"
#define MESSAGES "/api/v1/monitor/messages"

enum { MISSES_MAX = 3, LISTS_MAX = 3, UNLOCKS_MAX = 2 };

static const char list_all[] = "?header_flows=true&get_all=true&remove_example_flows=true";

static const char *own_id(const struct driver_op *op)
{
    return op->target->flow_uuid;
}

/* ---- one flow ---- */

static void build_get(struct driver_op *op, struct exchange_request *r)
{
    langflow_url(op, r, FLOWS, own_id(op), NULL);
}

static bool not_found(struct driver_op *op)
{
    if (op->put && op->misses++ < MISSES_MAX) {
        langflow_settle(op); /* it was said to be made: 1.8 commits after the answer */
        return true;
    }
    op->put = false;
    op->flow = FLOW_ABSENT;
    return true;
}

static bool found(struct driver_op *op)
{
    op->flow = FLOW_THERE;
    op->readback = true;
    return true;
}

static bool feed_get(struct driver_op *op, struct langflow_answer *a)
{
    struct langflow_flow_seen seen;
    bool json = a->r->content_type[0] == '\0' || str_eq(a->r->content_type, "application/json");
    if (a->verdict == VERDICT_GONE) {
        return not_found(op);
    }
    if (a->verdict == VERDICT_ODD) {
        /* Larger than what is taken, or a page where there is nothing; only the list knows. */
        op->by_list = !(json && a->r->truncated);
        return op->by_list || found(op);
    }
    if (!langflow_flow_seen(op, a, own_id(op), &seen)) {
        /* A tenant's data may be nested deeper than what is read here. */
        op->by_list = a->verdict == VERDICT_GOOD;
        return op->by_list;
    }
    if (!seen.flow_fits) {
        return false;
    }
    if (!seen.user_fits) {
        if (!op->kept || op->proven) {
            return false;
        }
        langflow_leave(op); /* the key that was held is another user's */
        return true;
    }
    op->proven = true;
    op->user = USER_THERE;
    return found(op);
}

const struct langflow_step langflow_flow_get = {.what = "looking for the workspace's flow",
                                                .method = METHOD_GET,
                                                .as = AS_TENANT,
                                                .build = build_get,
                                                .feed = feed_get};

static void build_put(struct driver_op *op, struct exchange_request *r)
{
    langflow_url(op, r, FLOWS, own_id(op), NULL);
    langflow_json(r);
    (void)langflow_template_body(op, &r->body);
}

static bool feed_put(struct driver_op *op, struct langflow_answer *a)
{
    struct langflow_flow_seen seen;
    if (a->verdict == VERDICT_GONE && !op->swept) {
        op->sweeping = true; /* an earlier sweep may have been cut off */
        return true;
    }
    if (a->verdict == VERDICT_GONE) {
        langflow_fail(
            op, ERR_CONFLICT,
            "the id of the workspace's flow (%s) is taken by another account of Langflow, "
            "or of none; delete that flow there, then replay",
            own_id(op));
        return true;
    }
    if (a->r->status == 413) {
        langflow_fail(op, ERR_INVALID, "flow \"%.100s\" is larger than the server takes",
                      op->target->flow_id);
        return true;
    }
    if (!langflow_flow_seen(op, a, own_id(op), &seen) || !seen.flow_fits || !seen.user_fits) {
        return false;
    }
    op->flow = FLOW_THERE;
    op->put = true;
    op->readback = false;
    op->misnamed = !seen.name_fits;
    str_copy(a->out->external_id, sizeof(a->out->external_id), own_id(op));
    return true;
}

static void doubt_put(struct driver_op *op)
{
    op->flow = FLOW_UNKNOWN;
}

const struct langflow_step langflow_flow_put = {.what = "making the workspace's flow",
                                                .effect = "flow.put",
                                                .method = METHOD_PUT,
                                                .as = AS_TENANT,
                                                .build = build_put,
                                                .feed = feed_put,
                                                .doubt = doubt_put};

static void build_rename(struct driver_op *op, struct exchange_request *r)
{
    langflow_url(op, r, FLOWS, own_id(op), NULL);
    langflow_json(r);
    buf_adds(&r->body, "{\"name\":");
    buf_add_json(&r->body, op->flow_name);
    buf_addc(&r->body, '}');
}

/*
 * A server renames what it makes where the name is taken. Where it insists, another flow of the
 * tenant's has the name, and keeps it: ours is known by its id.
 */
static bool feed_rename(struct driver_op *op, struct langflow_answer *a)
{
    struct langflow_flow_seen seen;
    bool taken = a->verdict == VERDICT_REFUSED && (a->r->status == 400 || a->r->status == 409);
    if (!taken && (!langflow_flow_seen(op, a, own_id(op), &seen) || !seen.name_fits)) {
        return false;
    }
    op->misnamed = false;
    return true;
}

const struct langflow_step langflow_flow_rename = {.what = "renaming the workspace's flow",
                                                   .effect = "flow.rename",
                                                   .method = METHOD_PATCH,
                                                   .as = AS_TENANT,
                                                   .build = build_rename,
                                                   .feed = feed_rename};

/* ---- all of them ---- */

static void build_list(struct driver_op *op, struct exchange_request *r)
{
    langflow_url(op, r, FLOWS, NULL, list_all);
}

/* What a server lists beside the tenant's own (examples without an owner) is not ours to touch. */
static bool is_foreign(const struct driver_op *op, const cJSON *flow)
{
    char owner[UUID_TEXT];
    const cJSON *member = cJSON_GetObjectItemCaseSensitive(flow, "user_id");
    return member && !(langflow_uuid(flow, "user_id", owner) && str_eq(owner, op->user_id));
}

static bool is_shut(const cJSON *flow)
{
    return str_eq(json_str(flow, "access_type"), "PRIVATE") &&
           !json_bool(flow, "mcp_enabled", false) && !json_bool(flow, "a2a_enabled", false);
}

static bool queue_flows(struct driver_op *op, const cJSON *list)
{
    const cJSON *flow = NULL;
    bool closing = op->goal == DRIVER_CLOSED;
    const struct langflow_step *step = closing ? &langflow_flow_close : &langflow_file_list;
    cJSON_ArrayForEach(flow, list)
    {
        char id[UUID_TEXT];
        if ((closing && is_shut(flow)) || is_foreign(op, flow) || !langflow_uuid(flow, "id", id)) {
            continue;
        }
        if (!langflow_queue(op, step, id, json_str(flow, "name"), json_str(flow, "endpoint_name"),
                            0)) {
            return false;
        }
    }
    return true;
}

static void look_for_own(struct driver_op *op, const cJSON *list)
{
    const cJSON *flow = NULL;
    op->by_list = false;
    cJSON_ArrayForEach(flow, list)
    {
        char id[UUID_TEXT];
        if (langflow_uuid(flow, "id", id) && str_eq(id, own_id(op))) {
            (void)found(op);
            return;
        }
    }
    (void)not_found(op);
}

/* The one that is known goes as it should; the user's own delete takes the others, if not what
 * hangs on them. */
static bool too_long(struct driver_op *op)
{
    op->flows_listed = true;
    if (op->flow_lists++ == 0 && own_id(op)) {
        return langflow_queue(op, &langflow_file_list, own_id(op), NULL, NULL, 0);
    }
    langflow_residue(op, "the list of flows is too long to be read");
    return true;
}

static bool feed_list(struct driver_op *op, struct langflow_answer *a)
{
    if (op->goal == DRIVER_ABSENT && a->verdict == VERDICT_ODD && a->r->truncated) {
        return too_long(op);
    }
    cJSON *list = langflow_tree(a);
    bool fine = cJSON_IsArray(list);
    if (fine && op->goal == DRIVER_PRESENT) {
        look_for_own(op, list);
    } else if (fine) {
        bool stuck = op->flow_lists++ > 0 && op->gained == 0;
        langflow_queue_clear(op);
        op->gained = 0;
        op->flows_listed = true;
        if (!stuck || op->goal == DRIVER_CLOSED) {
            (void)queue_flows(op, list);
        }
    }
    cJSON_Delete(list);
    return fine;
}

const struct langflow_step langflow_flow_list = {.what = "listing the workspace's flows",
                                                 .method = METHOD_GET,
                                                 .as = AS_TENANT,
                                                 .build = build_list,
                                                 .feed = feed_list};

static void doubt_list(struct driver_op *op)
{
    langflow_queue_clear(op);
    op->flows_listed = false;
    op->flow_lists = 0;
}

/*
 * Private alone leaves a door: its project's servers (MCP; from 1.13 on A2A) run or list it for
 * anybody where the tenant has told them to want no key, whether its owner is active or not.
 * 1.8 clears an endpoint's name that is not said again.
 */
static void build_close(struct driver_op *op, struct exchange_request *r)
{
    const struct langflow_item *item = langflow_item(op);
    langflow_url(op, r, FLOWS, item->id, NULL);
    langflow_json(r);
    buf_adds(&r->body, "{\"access_type\":\"PRIVATE\",\"mcp_enabled\":false");
    if (langflow_since(op, 13)) {
        buf_adds(&r->body, ",\"a2a_enabled\":false");
    }
    if (item->endpoint) {
        buf_adds(&r->body, ",\"endpoint_name\":");
        buf_add_json(&r->body, item->endpoint);
    }
    if (item->tries > 0) {
        buf_adds(&r->body, ",\"locked\":true"); /* as its tenant had it */
    }
    buf_addc(&r->body, '}');
}

static bool feed_close(struct driver_op *op, struct langflow_answer *a)
{
    struct langflow_flow_seen seen;
    struct langflow_item *item = langflow_item(op);
    if (a->r->status == 423 && item->tries < UNLOCKS_MAX) {
        item->step = &langflow_flow_unlock;
        return true;
    }
    bool fine = a->verdict == VERDICT_GONE || (langflow_flow_seen(op, a, item->id, &seen) &&
                                               seen.flow_fits && seen.private && !seen.served);
    if (fine) {
        str_copy(a->out->external_id, sizeof(a->out->external_id), item->id);
        langflow_item_done(op);
    }
    return fine;
}

const struct langflow_step langflow_flow_close = {.what = "making a flow private",
                                                  .effect = "flow.close",
                                                  .method = METHOD_PATCH,
                                                  .as = AS_TENANT,
                                                  .queued = true,
                                                  .build = build_close,
                                                  .feed = feed_close,
                                                  .doubt = doubt_list};

/* 1.13 refuses every change of a locked flow but this one, and this one only by itself. */
static void build_unlock(struct driver_op *op, struct exchange_request *r)
{
    langflow_url(op, r, FLOWS, langflow_item(op)->id, NULL);
    langflow_json(r);
    buf_adds(&r->body, "{\"locked\":false}");
}

static bool feed_unlock(struct driver_op *op, struct langflow_answer *a)
{
    struct langflow_flow_seen seen;
    struct langflow_item *item = langflow_item(op);
    if (a->verdict != VERDICT_GONE &&
        !(langflow_flow_seen(op, a, item->id, &seen) && seen.flow_fits)) {
        return false;
    }
    str_copy(a->out->external_id, sizeof(a->out->external_id), item->id);
    item->tries++;
    item->step = &langflow_flow_close; /* which sees for itself whether it is gone */
    return true;
}

const struct langflow_step langflow_flow_unlock = {.what = "unlocking a flow",
                                                   .effect = "flow.unlock",
                                                   .method = METHOD_PATCH,
                                                   .as = AS_TENANT,
                                                   .queued = true,
                                                   .build = build_unlock,
                                                   .feed = feed_unlock,
                                                   .doubt = doubt_list};

static void build_delete(struct driver_op *op, struct exchange_request *r)
{
    langflow_url(op, r, FLOWS, langflow_item(op)->id, NULL);
}

static bool feed_delete(struct driver_op *op, struct langflow_answer *a)
{
    if (a->verdict != VERDICT_GOOD && a->verdict != VERDICT_GONE) {
        return false;
    }
    op->gained += a->verdict == VERDICT_GOOD;
    a->out->effect = EFFECT_DONE;
    str_copy(a->out->external_id, sizeof(a->out->external_id), langflow_item(op)->id);
    langflow_item_done(op);
    if (!langflow_item(op)) {
        op->flows_listed = false; /* there may be more than one list shows */
        if (!langflow_since(op, 10)) {
            langflow_settle(op); /* and it shows what is gone until that is committed */
        }
    }
    return true;
}

const struct langflow_step langflow_flow_delete = {.what = "deleting a flow of the workspace",
                                                   .effect = "flow.delete",
                                                   .method = METHOD_DELETE,
                                                   .as = AS_TENANT,
                                                   .queued = true,
                                                   .build = build_delete,
                                                   .feed = feed_delete,
                                                   .doubt = doubt_list};

/* ---- messages ---- */

static void build_messages(struct driver_op *op, struct exchange_request *r)
{
    langflow_url(op, r, MESSAGES, NULL, NULL);
}

static void leave_messages(struct driver_op *op, const char *why)
{
    langflow_queue_clear(op);
    op->messages_listed = true;
    langflow_residue(op, why);
}

/* Flows take their messages along; what is left of our own flow is named by its id. Sessions are
 * nothing to go by: on 1.8 deleting one deletes everybody's. */
static bool queue_messages(struct driver_op *op, const cJSON *list)
{
    const cJSON *message = NULL;
    cJSON_ArrayForEach(message, list)
    {
        char id[UUID_TEXT], flow[UUID_TEXT];
        bool ours =
            langflow_uuid(message, "flow_id", flow) && own_id(op) && str_eq(flow, own_id(op));
        if (ours && langflow_uuid(message, "id", id) &&
            !langflow_queue(op, &langflow_message_delete, id, NULL, NULL, 0)) {
            return false;
        }
    }
    return true;
}

static bool feed_messages(struct driver_op *op, struct langflow_answer *a)
{
    bool no_list =
        a->verdict == VERDICT_ODD || a->verdict == VERDICT_GONE || a->verdict == VERDICT_REFUSED;
    if (no_list) {
        leave_messages(op, "chat messages could not be listed");
        return true;
    }
    cJSON *list = langflow_tree(a);
    bool fine = cJSON_IsArray(list);
    if (fine) {
        langflow_queue_clear(op);
        op->messages_listed = queue_messages(op, list);
    }
    cJSON_Delete(list);
    if (fine && langflow_item(op) && op->message_lists++ >= LISTS_MAX) {
        leave_messages(op, "chat messages of the flow could not be deleted");
    }
    return fine;
}

const struct langflow_step langflow_message_list = {.what = "listing the workspace's messages",
                                                    .method = METHOD_GET,
                                                    .as = AS_TENANT,
                                                    .build = build_messages,
                                                    .feed = feed_messages};

/* All that are queued at once. */
static void build_message_delete(struct driver_op *op, struct exchange_request *r)
{
    langflow_url(op, r, MESSAGES, NULL, NULL);
    langflow_json(r);
    buf_addc(&r->body, '[');
    for (size_t i = op->at; i < op->n_queue; i++) {
        buf_adds(&r->body, i > op->at ? "," : "");
        buf_add_json(&r->body, op->queue[i].id);
    }
    buf_addc(&r->body, ']');
}

static void doubt_messages(struct driver_op *op)
{
    langflow_queue_clear(op);
    op->messages_listed = false;
}

static bool feed_message_delete(struct driver_op *op, struct langflow_answer *a)
{
    if (a->verdict != VERDICT_GOOD && a->verdict != VERDICT_GONE) {
        return false;
    }
    doubt_messages(op); /* until the list says so, too */
    return true;
}

const struct langflow_step langflow_message_delete = {.what = "deleting the workspace's messages",
                                                      .effect = "message.delete",
                                                      .method = METHOD_DELETE,
                                                      .as = AS_TENANT,
                                                      .build = build_message_delete,
                                                      .feed = feed_message_delete,
                                                      .doubt = doubt_messages};

/* ---- residue ---- */

/*
 * Before 1.13 messages outlive a user that was deleted with its flows still there, out of
 * everybody's reach; but they hang on the flow's id alone. Whoever makes a flow under that id has
 * them, and deleting it takes them along.
 */
static void build_residue(struct driver_op *op, struct exchange_request *r)
{
    langflow_url(op, r, FLOWS, own_id(op), NULL);
    langflow_json(r);
    buf_adds(&r->body, "{\"name\":");
    buf_add_json(&r->body, op->target->marker);
    buf_adds(&r->body, ",\"access_type\":\"PRIVATE\",\"data\":{\"nodes\":[],\"edges\":[]}}");
}

static bool feed_residue(struct driver_op *op, struct langflow_answer *a)
{
    struct langflow_flow_seen seen;
    if (a->verdict == VERDICT_GONE || a->verdict == VERDICT_REFUSED) {
        op->swept = true; /* somebody has the flow, and with it what hangs on it */
        return true;
    }
    if (!langflow_flow_seen(op, a, own_id(op), &seen) || !seen.flow_fits) {
        return false;
    }
    op->sweeping = true;
    langflow_settle(op); /* a delete that comes before the commit would miss it */
    return true;
}

const struct langflow_step langflow_residue_put = {.what = "reaching for messages that were left",
                                                   .effect = "residue.put",
                                                   .method = METHOD_PUT,
                                                   .as = AS_PLATFORM,
                                                   .build = build_residue,
                                                   .feed = feed_residue};

static bool feed_residue_delete(struct driver_op *op, struct langflow_answer *a)
{
    if (a->verdict != VERDICT_GOOD && a->verdict != VERDICT_GONE) {
        return false;
    }
    a->out->effect = EFFECT_DONE;
    if (a->verdict == VERDICT_GONE && op->sweep_misses++ < MISSES_MAX) {
        langflow_settle(op); /* or it comes before the commit of what made it */
        return true;
    }
    if (op->goal == DRIVER_PRESENT && a->verdict == VERDICT_GOOD && !langflow_since(op, 10)) {
        langflow_settle(op); /* its id is free again when that is committed */
    }
    op->sweeping = false;
    op->swept = true;
    return true;
}

static void build_residue_delete(struct driver_op *op, struct exchange_request *r)
{
    langflow_url(op, r, FLOWS, own_id(op), NULL);
}

const struct langflow_step langflow_residue_delete = {.what = "deleting messages that were left",
                                                      .effect = "residue.delete",
                                                      .method = METHOD_DELETE,
                                                      .as = AS_PLATFORM,
                                                      .build = build_residue_delete,
                                                      .feed = feed_residue_delete};
