#include "waldur/intake.h"

#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "waldur/native.h"

enum step {
    LOOK_ORDER,
    LOOK_RESOURCE,
    ASK, /* the shell's turn */
    APPROVE,
    ANNOUNCE,
};

struct intake_op {
    struct waldur_op op;
    struct waldur_intake_target target;
    enum step step;
    bool asked, accepted; /* the shell was, and it has */
    bool announces;
    char backend_id[WALDUR_BACKEND_ID_MAX * WALDUR_CHARACTER + 1];
    struct change approve, announce;
    struct waldur_intake result;
};

static void end(struct intake_op *i, enum waldur_intake_end how)
{
    i->result.end = how;
    op_done(&i->op);
}

static void leave(struct intake_op *i, const char *reason)
{
    (void)str_copy(i->result.reason, sizeof(i->result.reason), reason);
    end(i, WALDUR_INTAKE_LEFT);
}

/* ---- what an order's own words say ---- */

static bool is_ours(const struct intake_op *i)
{
    bool ours = false;
    for (size_t n = 0; n < i->target.n_offerings && !ours; n++) {
        ours = str_eq(i->target.offerings[n], i->result.order.offering_uuid);
    }
    return ours;
}

/* Types of offerings whose orders Waldur ends by itself, whatever a worker does. */
static bool ends_by_itself(const char *offering_type)
{
    return str_eq(offering_type, "Marketplace.Basic") ||
           str_eq(offering_type, "Marketplace.Script");
}

/* Why it is not for us yet; NULL where it is. */
static const char *obstacle(const struct waldur_order *o)
{
    switch (o->state) {
    case WALDUR_ORDER_PENDING_CONSUMER:
        return "the order waits for its consumer's approval";
    case WALDUR_ORDER_PENDING_PROJECT:
        return "the order waits for its project to start";
    case WALDUR_ORDER_PENDING_START_DATE:
        return "the order waits for its start date";
    case WALDUR_ORDER_UNKNOWN:
        return "the order is in a state that is not known here; a newer worker may know it";
    case WALDUR_ORDER_PENDING_PROVIDER:
    case WALDUR_ORDER_EXECUTING:
    case WALDUR_ORDER_DONE:
    case WALDUR_ORDER_ERRED:
    case WALDUR_ORDER_CANCELED:
    case WALDUR_ORDER_REJECTED:
    case WALDUR_ORDER_MAX:
        break;
    }
    if (o->type == WALDUR_TYPE_UNKNOWN) {
        return "the order is of a type that is not known here; a newer worker may know it";
    }
    if (!o->offering_uuid[0]) {
        return "the order does not tell its offering (offering_uuid)";
    }
    if (ends_by_itself(o->offering_type)) {
        return "Waldur ends the orders of offerings of this type by itself, provisioned or not; "
               "make the offering one of type Marketplace.Slurm (site agent)";
    }
    if (!o->resource_uuid[0]) {
        return "the order names no resource (marketplace_resource_uuid) yet";
    }
    return NULL;
}

static void first_look(struct intake_op *i)
{
    const struct waldur_order *o = &i->result.order;
    const char *why = obstacle(o);
    if (o->offering_uuid[0] && !is_ours(i)) {
        end(i, WALDUR_INTAKE_FOREIGN);
    } else if (waldur_order_closed(o->state)) {
        end(i, WALDUR_INTAKE_CLOSED);
    } else if (why) {
        leave(i, why);
    } else {
        i->step = LOOK_RESOURCE;
    }
}

/* ---- after the shell's decision ---- */

static void pursue(struct intake_op *i, struct change *c, enum step post, enum step look,
                   const char *what)
{
    switch (op_pursue(&i->op, c, what)) {
    case CHANGE_POST:
        i->step = post;
        break;
    case CHANGE_LOOK:
        i->step = look;
        break;
    case CHANGE_FAILED:
        break;
    }
}

static void after_resource(struct intake_op *i)
{
    if (!i->announces || str_eq(i->result.resource.backend_id, i->backend_id)) {
        end(i, WALDUR_INTAKE_TAKE);
        return;
    }
    pursue(i, &i->announce, ANNOUNCE, LOOK_RESOURCE,
           "the resource does not bear the backend id that it was given");
}

static void after_order(struct intake_op *i)
{
    enum waldur_order_state state = i->result.order.state;
    if (waldur_order_closed(state)) {
        end(i, WALDUR_INTAKE_CLOSED);
    } else if (state == WALDUR_ORDER_PENDING_PROVIDER) {
        pursue(i, &i->approve, APPROVE, LOOK_ORDER, "the order waits for its provider's approval");
    } else if (state == WALDUR_ORDER_EXECUTING) {
        after_resource(i);
    } else {
        leave(i, "the order waits again, and not for its provider");
    }
}

void waldur_intake_accept(struct waldur_op *op, const char *backend_id)
{
    struct intake_op *i = (struct intake_op *)op;
    i->accepted = true;
    i->announces = backend_id && backend_id[0];
    if (i->announces && !str_copy(i->backend_id, sizeof(i->backend_id), backend_id)) {
        op_fail_with(op, ERR_INTERNAL, "the backend id is longer than Waldur lets it be");
        return;
    }
    after_order(i);
}

void waldur_intake_leave(struct waldur_op *op, const char *reason)
{
    struct intake_op *i = (struct intake_op *)op;
    leave(i, reason);
}

/* ---- requests ---- */

static void post_backend_id(struct intake_op *i, struct waldur_action *out)
{
    struct buf body;
    op_backend_id_body(&body, i->backend_id);
    op_post(&i->op, out, waldur_resources, i->result.order.resource_uuid, "set_backend_id",
            "resource.backend_id", &body);
}

static void ask(struct intake_op *i, struct waldur_action *out)
{
    if (i->asked) {
        op_fail_with(&i->op, ERR_INTERNAL, "nobody decided about the order");
        return;
    }
    i->asked = true;
    out->turn = WALDUR_ASK;
}

static void intake_next(struct waldur_op *op, struct waldur_action *out)
{
    struct intake_op *i = (struct intake_op *)op;
    switch (i->step) {
    case LOOK_ORDER:
        op_look(op, out, waldur_orders, i->target.order);
        return;
    case LOOK_RESOURCE:
        op_look(op, out, waldur_resources, i->result.order.resource_uuid);
        return;
    case ASK:
        ask(i, out);
        return;
    case APPROVE:
        op_post(op, out, waldur_orders, i->target.order, "approve_by_provider", "order.approve",
                NULL);
        return;
    case ANNOUNCE:
        post_backend_id(i, out);
        return;
    }
}

/* ---- answers ---- */

static void feed_order(struct intake_op *i, const struct exchange_response *r,
                       struct waldur_outcome *out)
{
    char resource[UUID_TEXT];
    memcpy(resource, i->result.order.resource_uuid, sizeof(resource));
    if (!op_read_order(&i->op, r, i->target.order, &i->result.order, out)) {
        if (out->err.class == ERR_GONE) {
            err_clear(&out->err);
            i->result.has_order = false;
            end(i, WALDUR_INTAKE_GONE);
        }
        return;
    }
    i->result.has_order = true;
    if (!i->accepted) {
        first_look(i);
    } else if (!str_eq(resource, i->result.order.resource_uuid)) {
        op_fail_with(&i->op, ERR_UNKNOWN, "the order is about another resource than before");
    } else {
        after_order(i);
    }
}

static void feed_resource(struct intake_op *i, const struct exchange_response *r,
                          struct waldur_outcome *out)
{
    if (!op_read_resource(&i->op, r, i->result.order.resource_uuid, &i->result.resource, out)) {
        if (out->err.class == ERR_GONE) {
            err_clear(&out->err);
            leave(i, "the order's resource is not to be seen at Waldur; where it exists, give the "
                     "token's user the role OFFERING.MANAGER on its offering");
        }
        return;
    }
    i->result.has_resource = true;
    if (!i->accepted) {
        i->step = ASK;
    } else {
        after_resource(i);
    }
}

static void intake_feed(struct waldur_op *op, const struct exchange_response *r,
                        struct waldur_outcome *out)
{
    struct intake_op *i = (struct intake_op *)op;
    switch (i->step) {
    case LOOK_ORDER:
        feed_order(i, r, out);
        return;
    case LOOK_RESOURCE:
        feed_resource(i, r, out);
        return;
    case ASK:
        return; /* nothing was asked of Waldur */
    case APPROVE:
        if (op_posted(op, &i->approve, r, out)) {
            i->step = LOOK_ORDER;
        }
        return;
    case ANNOUNCE:
        if (op_posted(op, &i->announce, r, out)) {
            i->step = LOOK_RESOURCE;
        }
        return;
    }
}

/* ---- life ---- */

static void intake_free(struct waldur_op *op)
{
    struct intake_op *i = (struct intake_op *)op;
    waldur_order_done(&i->result.order);
    waldur_resource_done(&i->result.resource);
    free(i);
}

struct waldur_op *waldur_intake_start(const struct waldur_intake_target *target, struct err *err)
{
    static const struct waldur_op_class class = {
        .next = intake_next, .feed = intake_feed, .free = intake_free};
    struct intake_op *i = calloc(1, sizeof(*i));
    if (!i) {
        err_nomem(err);
        return NULL;
    }
    op_init(&i->op, &class, &target->access);
    i->target = *target;
    return &i->op;
}

const struct waldur_intake *waldur_intake_of(const struct waldur_op *op)
{
    return &((const struct intake_op *)op)->result;
}
