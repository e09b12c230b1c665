/*
 * Drivers: sans-IO protocol code. An operation brings one upstream object of one subscription to a
 * goal. It says which request it wants next and is fed the answer, until it is done or has a
 * classified error. It never touches a socket, reads no clock and keeps nothing outside itself, so
 * that a shell, a transcript, a simulator and a fuzzer can all run it.
 *
 * The shell's side of the bargain: before a request with an `effect` leaves, its intent is
 * committed; after the answer, what driver_feed says became of the effect is recorded; a wait is
 * waited out.
 */
#ifndef DRIVER_DRIVER_H
#define DRIVER_DRIVER_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/exchange.h"

enum { EXTERNAL_ID_MAX = 128, DRIVER_ROUNDS_MAX = 24 };

enum driver_goal { DRIVER_PRESENT, DRIVER_CLOSED, DRIVER_ABSENT };

/* Everything borrowed; must outlive the operation. */
struct driver_target {
    const char *url;        /* the product's base, no trailing slash */
    const char *credential; /* NULL: none */
    int64_t timeout_ms;
    const char *name;        /* the frozen name */
    const char *marker;      /* "waldur-subscription:<uuid>" */
    const char *external_id; /* as recorded; NULL when nothing is */
    bool uncertain;          /* an earlier change's outcome is open: absence must be seen twice */
    bool updating;           /* one that is an update: what is seen must be seen twice, too */
    /* One that is a delete, of this id, as it stands in a URL: where that object is still there, it
     * must go, whatever the goal; else the delete may land on what is believed to be there. NULL.
     */
    const char *deleting;
    bool observe;      /* only look, and say whether the goal is met: no request changes anything */
    int64_t settle_ms; /* between those two looks */
    /* workspaces */
    const char *flow_id;
    const cJSON *variables; /* object */
    /* collections */
    const char *embedding_model; /* NULL: the server's default */
    int64_t chunk_size, chunk_overlap;
};

enum driver_turn { TURN_REQUEST, TURN_WAIT, TURN_DONE, TURN_FAILED };

/* What stands under the subscription's id or name. */
enum driver_sight { SIGHT_ABSENT, SIGHT_OURS, SIGHT_FOREIGN };

struct driver_action {
    enum driver_turn turn;
    struct exchange_request
        request;        /* TURN_REQUEST: the caller's to send or exchange_request_done */
    const char *effect; /* static, e.g. "collection.create"; NULL for a mere look */
    int64_t wait_ms;    /* TURN_WAIT */
    char external_id[EXTERNAL_ID_MAX + 1]; /* TURN_DONE: "" when the object is absent */
    enum driver_sight sight;               /* TURN_DONE of an observation */
    bool met;                              /* likewise: the goal is met as things stand */
    struct err err;                        /* TURN_FAILED */
};

enum driver_effect { EFFECT_NONE, EFFECT_DONE, EFFECT_UNKNOWN, EFFECT_REFUSED, EFFECT_NOT_SENT };

/* What an answer meant: for the journal and the health of the upstream. */
struct driver_outcome {
    enum driver_effect effect;
    char external_id[EXTERNAL_ID_MAX + 1];
    struct err err; /* ERR_NONE when the answer was a good one */
};

struct driver_op;

struct driver_class {
    const char *api; /* as in the configuration */
    struct driver_op *(*start)(enum driver_goal goal, const struct driver_target *target,
                               struct err *err);
    /* Fills *out. After TURN_WAIT call again when the time is over; after TURN_REQUEST feed first.
     */
    void (*next)(struct driver_op *op, struct driver_action *out);
    void (*feed)(struct driver_op *op, const struct exchange_response *response,
                 struct driver_outcome *out);
    void (*free)(struct driver_op *op); /* NULL allowed */
};

#endif
