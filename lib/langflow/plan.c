/*
 * From the facts to the next request.
 */
#include "langflow/native.h"

#include <string.h>

#include "base/str.h"

static void done(struct driver_op *op)
{
    op->done = true;
}

/* Is the user in hand the one that an earlier delete may still reach? */
static bool under_deletion(const struct driver_op *op)
{
    const char *id = op->target->deleting;
    char canonical[UUID_TEXT];
    return id && !op->target->observe && op->user_id[0] != '\0' &&
           uuid_parse(id, strlen(id), canonical) && str_eq(canonical, op->user_id);
}

static bool looks_by_id(const struct driver_op *op)
{
    return op->user_id[0] != '\0' && langflow_since(op, 13) && !op->not_by_id;
}

static const struct langflow_step *look(const struct driver_op *op)
{
    return looks_by_id(op) ? &langflow_user_get : &langflow_user_list;
}

/* A step that leads to a login is not begun where logins are not let through. */
static const struct langflow_step *unless_blocked(struct driver_op *op,
                                                  const struct langflow_step *step)
{
    int64_t left_ms = op->site->login_blocked_until_ms - op->site->base.now_ms;
    if (left_ms <= 0) {
        return step;
    }
    langflow_fail(op, ERR_THROTTLED,
                  "Langflow allows no more logins for now; raise LANGFLOW_RATE_LIMIT_PER_MINUTE "
                  "there if this is often so");
    op->err.retry_after_ms = left_ms;
    return NULL;
}

static const struct langflow_step *enter(struct driver_op *op)
{
    return unless_blocked(op, op->opened ? &langflow_login : &langflow_user_open);
}

/* ---- present ---- */

/* Nothing is made before it is known what of. */
static const struct langflow_step *make_user(struct driver_op *op)
{
    const struct langflow_step *template = langflow_template_wanted(op);
    if (template) {
        return template;
    }
    if (op->target->template && !op->flow_name) {
        struct buf body;
        buf_init(&body, EXCHANGE_REQUEST_MAX);
        int r = langflow_template_body(op, &body);
        buf_done(&body);
        if (r) {
            return NULL;
        }
    }
    return unless_blocked(op, &langflow_user_create);
}

/* Until we are in; a key that is held counts as that until it is refused. */
static const struct langflow_step *present_user(struct driver_op *op)
{
    if (op->vanishing) {
        return look(op);
    }
    if (under_deletion(op)) {
        return &langflow_user_delete;
    }
    if (op->user == USER_THERE || op->user_id[0] != '\0') {
        return enter(op);
    }
    return op->look && op->user == USER_UNKNOWN ? &langflow_user_list : make_user(op);
}

static const struct langflow_step *present_key(const struct driver_op *op)
{
    return op->keys_listed ? &langflow_key_create : &langflow_key_list;
}

static const struct langflow_step *present_flow(struct driver_op *op)
{
    const struct langflow_step *template = NULL;
    switch (op->flow) {
    case FLOW_UNKNOWN:
        return op->by_list ? &langflow_flow_list : &langflow_flow_get;
    case FLOW_ABSENT:
        if (!op->proven) {
            return &langflow_whoami;
        }
        if (op->sweeping) {
            return &langflow_residue_delete;
        }
        template = langflow_template_wanted(op);
        return template ? template : &langflow_flow_put;
    case FLOW_THERE:
        break;
    }
    if (!op->proven) {
        return &langflow_whoami;
    }
    if (op->put && !op->readback && !langflow_since(op, 10)) {
        return op->by_list ? &langflow_flow_list : &langflow_flow_get;
    }
    return op->misnamed ? &langflow_flow_rename : NULL;
}

static const struct langflow_step *present_variables(struct driver_op *op)
{
    if (op->variables_listed) {
        return NULL;
    }
    if (op->created && !op->variables_begun) {
        op->variables_begun = true;
        langflow_variables_compare(op, NULL);
        const struct langflow_item *item = langflow_item(op);
        if (item || op->failed) {
            return item ? item->step : NULL;
        }
    }
    return &langflow_variable_list;
}

static const struct langflow_step *plan_present(struct driver_op *op)
{
    bool inside = op->entry != ENTRY_NONE && !under_deletion(op) && !op->vanishing;
    if (!inside) {
        return present_user(op);
    }
    if (op->key[0] == '\0') {
        return present_key(op);
    }
    const struct langflow_step *step = present_flow(op);
    if (step || op->failed) {
        return step;
    }
    /* A key of ours that was made, and whose making nobody recorded, is one too many. */
    if (op->kept && op->target->uncertain && !op->keys_listed) {
        return &langflow_key_list;
    }
    step = present_variables(op);
    if (!step && !op->failed) {
        done(op);
    }
    return step;
}

/* ---- what is left where no user is ---- */

static const struct langflow_step *sweep(struct driver_op *op)
{
    const struct driver_target *t = op->target;
    bool nothing = op->swept || op->emptied || langflow_since(op, 13) || !t->flow_uuid;
    if (op->goal == DRIVER_CLOSED) {
        /* Messages stay their time; but a sweep that was cut off is ended. */
        op->sweeping = !nothing && t->uncertain;
        nothing = !op->sweeping;
    }
    if (nothing || !t->external_id) {
        done(op);
        return NULL;
    }
    return op->sweeping ? &langflow_residue_delete : &langflow_residue_put;
}

/* ---- closed ---- */

static const struct langflow_step *shut_doors(struct driver_op *op)
{
    if (op->flows_listed && op->variables_listed && op->keys_listed) {
        return &langflow_user_close;
    }
    if (op->entry == ENTRY_NONE) {
        return enter(op);
    }
    if (!op->proven) {
        return &langflow_whoami;
    }
    if (!op->flows_listed) {
        return &langflow_flow_list;
    }
    return op->variables_listed ? &langflow_key_list : &langflow_variable_list;
}

static const struct langflow_step *plan_closed(struct driver_op *op)
{
    if (op->vanishing) {
        return look(op);
    }
    if (op->user == USER_ABSENT || op->user == USER_FOREIGN) {
        return sweep(op);
    }
    if (under_deletion(op)) {
        return &langflow_user_delete;
    }
    if (op->user == USER_UNKNOWN && op->unlisted && op->shut) {
        op->user = USER_THERE; /* under another name than it had a moment ago */
    }
    if (op->user == USER_UNKNOWN) {
        return op->unlisted ? enter(op) : look(op);
    }
    if (!op->active && op->closed) {
        done(op);
        return NULL;
    }
    return shut_doors(op);
}

/* ---- absent ---- */

static const struct langflow_step *plan_absent(struct driver_op *op)
{
    if (op->vanishing) {
        return look(op);
    }
    if (op->user == USER_ABSENT || op->user == USER_FOREIGN) {
        return sweep(op);
    }
    if (under_deletion(op)) {
        return &langflow_user_delete;
    }
    if (op->user_id[0] == '\0') {
        return &langflow_user_list;
    }
    if (op->flows_listed && op->messages_listed && op->files_gone) {
        op->emptied = true;
        return &langflow_user_delete;
    }
    if (op->entry == ENTRY_NONE) {
        return enter(op);
    }
    if (!op->proven) {
        return &langflow_whoami;
    }
    if (!op->flows_listed) {
        return &langflow_flow_list;
    }
    return op->messages_listed ? &langflow_file_purge : &langflow_message_list;
}

/* ---- observations ---- */

static const struct langflow_step *observed(struct driver_op *op, enum driver_sight sight, bool met)
{
    op->sight = sight;
    op->met = met;
    done(op);
    return NULL;
}

static const struct langflow_step *observe_inside(struct driver_op *op)
{
    if (!op->active || op->closed || op->entry == ENTRY_NONE || op->flow == FLOW_ABSENT) {
        return observed(op, SIGHT_OURS, false);
    }
    if (op->flow == FLOW_UNKNOWN) {
        return op->by_list ? &langflow_flow_list : &langflow_flow_get;
    }
    if (!op->proven) {
        return &langflow_whoami;
    }
    if (!op->variables_begun) {
        op->variables_begun = true;
        for (size_t i = 0; i < op->n_variables; i++) {
            op->variables[i].written = true; /* what cannot be read back counts as right */
        }
        return &langflow_variable_list;
    }
    bool differ = langflow_item(op) != NULL;
    langflow_queue_clear(op);
    return observed(op, SIGHT_OURS, !differ);
}

static const struct langflow_step *plan_observation(struct driver_op *op)
{
    switch (op->user) {
    case USER_UNKNOWN:
        return look(op);
    case USER_ABSENT:
        return observed(op, SIGHT_ABSENT, op->goal != DRIVER_PRESENT);
    case USER_FOREIGN:
        return observed(op, SIGHT_FOREIGN, op->goal != DRIVER_PRESENT);
    case USER_THERE:
        break;
    }
    if (op->goal == DRIVER_PRESENT) {
        return observe_inside(op);
    }
    return observed(op, SIGHT_OURS, op->goal == DRIVER_CLOSED && !op->active && op->closed);
}

/* ---- all of them ---- */

const struct langflow_step *langflow_plan(struct driver_op *op)
{
    if (!langflow_version_fresh(op->site)) {
        return &langflow_version_read;
    }
    /* Before 1.10 what was made or deleted a moment ago may not be committed yet, whatever was
     * answered: who finds something there looks only when that has had its time. */
    bool fresh = op->goal == DRIVER_PRESENT && !op->target->external_id;
    bool young = !fresh && !op->target->observe && !langflow_since(op, 10);
    if (!op->settled || (young && !op->rested)) {
        op->settled = op->rested = true;
        langflow_settle(op);
        return NULL;
    }
    if (op->target->observe) {
        return plan_observation(op);
    }
    const struct langflow_item *item = langflow_item(op);
    if (item) {
        return item->step;
    }
    switch (op->goal) {
    case DRIVER_PRESENT:
        return plan_present(op);
    case DRIVER_CLOSED:
        return plan_closed(op);
    case DRIVER_ABSENT:
        break;
    }
    return plan_absent(op);
}
