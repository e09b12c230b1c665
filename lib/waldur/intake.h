/*
 * Takes an order in: reads it and its resource, asks the shell, has it approved where it waits for
 * the provider, and tells Waldur the resource's backend id before anything is provisioned, because
 * of a resource without one Waldur believes, when its order errs, that nothing was ever made.
 *
 * Effects: "order.approve", "resource.backend_id".
 */
#ifndef WALDUR_INTAKE_H
#define WALDUR_INTAKE_H

#include "waldur/op.h"
#include "waldur/order.h"

enum { WALDUR_REASON_MAX = 300 };

struct waldur_intake_target {
    struct waldur_access access;
    const char *order; /* its UUID, canonical */
    /* Offerings that are ours, canonical UUIDs. */
    const char *const *offerings;
    size_t n_offerings;
};

enum waldur_intake_end {
    WALDUR_INTAKE_TAKE,    /* it executes, and its resource is announced: provision */
    WALDUR_INTAKE_LEFT,    /* not now; `reason` says why and what would change it */
    WALDUR_INTAKE_CLOSED,  /* done, erred, canceled or rejected: order.state */
    WALDUR_INTAKE_FOREIGN, /* of an offering that is not ours */
    WALDUR_INTAKE_GONE /* not known there, or not to this token; order and resource are not set */
};

/* The operation's own, until it is freed. */
struct waldur_intake {
    enum waldur_intake_end end;
    bool has_order; /* `order` was read: always but for GONE */
    bool has_resource;
    struct waldur_order order;
    struct waldur_resource resource; /* has_resource: always for TAKE and in the shell's turn */
    char reason[WALDUR_REASON_MAX];  /* for operators; LEFT alone */
};

/* Copies *target; what it points to is borrowed. NULL and *err when memory ends. */
struct waldur_op *waldur_intake_start(const struct waldur_intake_target *target, struct err *err);

/* In the shell's turn (WALDUR_ASK) what was read, after WALDUR_DONE the result. */
const struct waldur_intake *waldur_intake_of(const struct waldur_op *op);

/*
 * The shell's decision, one of the two, before the next waldur_op_next. Of what is canceled, unread
 * or waits for others it is not asked: it is asked of orders that wait for the provider and of
 * those that execute, of our offerings, with their resource.
 *
 * accept: backend_id is what the resource shall be called (at most WALDUR_BACKEND_ID_MAX
 * characters; copied); NULL for an order that announces nothing, as those that terminate do.
 */
void waldur_intake_accept(struct waldur_op *op, const char *backend_id);
/* The order is left as it is, for this reason (copied). */
void waldur_intake_leave(struct waldur_op *op, const char *reason);

#endif
