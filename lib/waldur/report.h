/*
 * Reports how an order ended: done, with everything a buyer needs told before, or erred.
 *
 * The order is read first, always, and nothing is posted unless it executes: Waldur's
 * set_state_erred checks nothing, and would break the resource of an order that is done. Two
 * exceptions: an order that erred and shall be done is set executing again first; and the keys of
 * one that is done already (by people, or before our last crash) are brought to Waldur all the
 * same.
 *
 * Effects, in their order: "order.executing", "resource.backend_id", "resource.metadata",
 * "resource.endpoints", "key.report", then "order.done" or "order.erred".
 */
#ifndef WALDUR_REPORT_H
#define WALDUR_REPORT_H

#include <stddef.h>

#include "base/uuid.h"
#include "waldur/op.h"
#include "waldur/terms.h"

enum waldur_verdict { WALDUR_VERDICT_DONE, WALDUR_VERDICT_ERRED };

struct waldur_endpoint {
    const char *name; /* at most 150 characters */
    const char *url;
};

/* A key of the resource's that Waldur shall hold for its buyers. */
struct waldur_key_told {
    const char *client_id; /* public: the key's prefix */
    const char *api_key;   /* secret */
};

/* Everything borrowed; must outlive the operation. */
struct waldur_report_target {
    struct waldur_access access;
    const char *order;    /* its UUID, canonical */
    const char *resource; /* the UUID of the resource that the order has to be about */
    enum waldur_verdict verdict;
    /* What of the resource shall be so; not of an order that terminates. Each may be NULL (or of
     * no length): left as it is. Only backend_id counts for WALDUR_VERDICT_ERRED. */
    const char *backend_id;
    const char *metadata; /* JSON text of an object; buyers see it: no secrets */
    const struct waldur_endpoint *endpoints;
    size_t n_endpoints;
    const struct waldur_key_told *keys; /* those that Waldur has under the same client_id stay */
    size_t n_keys;
    const char *error_message; /* WALDUR_VERDICT_ERRED: what buyers read (words.h) */
};

enum waldur_report_end {
    WALDUR_REPORT_TOLD,    /* and seen: `state` is the verdict's */
    WALDUR_REPORT_ALREADY, /* `state` is done or erred, and not by us. It may be the other one: a
                              done order cannot be made to err any more */
    WALDUR_REPORT_CLOSED,  /* canceled or rejected, or erred and not to be set executing again */
    WALDUR_REPORT_PENDING, /* it does not execute yet, or in a state that is not known */
    WALDUR_REPORT_GONE     /* the order, or the resource of one that creates, is not known there */
};

struct waldur_report {
    enum waldur_report_end end;
    enum waldur_order_state state; /* as seen last; UNKNOWN for GONE */
    bool endpoints_untold;         /* this Waldur cannot be told: its version is too old */
    bool keys_untold;              /* likewise: the keys are not at Waldur */
    bool keys_told;                /* each was seen there: by TOLD, or ALREADY of a done order */
};

/* Copies *target; what it points to is borrowed. NULL and *err: memory, or metadata that is no JSON
 * object (ERR_INVALID). */
struct waldur_op *waldur_report_start(const struct waldur_report_target *target, struct err *err);
/* After WALDUR_DONE. The operation's own. */
const struct waldur_report *waldur_report_of(const struct waldur_op *op);

#endif
