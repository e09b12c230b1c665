/*
 * Operations on Waldur's REST API: sans-IO, like those of drivers (driver/driver.h). An operation
 * says which request it wants next and is fed the answer, until it is done or has a classified
 * error. It reads no clock and no random source, and keeps nothing outside itself and its site.
 *
 * What starts one, and what it results in, stands in intake.h, report.h, key.h and list.h; the rest
 * is the same for all and stands here.
 *
 * The shell's side of the bargain: before a request with an `effect` leaves, its intent is
 * committed; after the answer, what waldur_op_feed says became of the effect is recorded; a wait is
 * waited out. No change is repeated before a look has shown that it is still needed, and none is
 * taken for made before a look has shown it.
 *
 * Errors are exchange_classify's, with these differences. ERR_GONE: what was asked about is not
 * there (or this token may not see it), said by Waldur itself; a 404 of whatever stands before it
 * is ERR_UNAVAILABLE, as a success of it is ERR_UNKNOWN: Waldur speaks JSON, or not a word. A 409
 * is a reason to look again; one that stays is ERR_UNAVAILABLE. A 405 and another 4xx are
 * ERR_REFUSED. ERR_UNAUTHORIZED with http_status 401 is about the token, with 403 about this one
 * object. ERR_UNKNOWN: looked as often as is sensible, and nobody knows.
 */
#ifndef WALDUR_OP_H
#define WALDUR_OP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/exchange.h"

enum {
    WALDUR_VERSION_MAX = 47,
    WALDUR_ROUNDS_MAX = 48, /* requests of an operation about one order or key */
    WALDUR_LOOKS_MAX = 6,   /* looks at what a change has not brought about yet */
    WALDUR_SETTLE_MS = 1000,
};

enum waldur_support { WALDUR_SUPPORT_UNKNOWN, WALDUR_SUPPORT_YES, WALDUR_SUPPORT_NO };

/*
 * What is known of the server. All zero at first and whenever it may be another version; filled by
 * the operations. For one thread; outlives them.
 */
struct waldur_site {
    char version[WALDUR_VERSION_MAX + 1]; /* the shell's (doctor): no operation asks */
    enum waldur_support endpoints;        /* set_endpoints */
    enum waldur_support keys;             /* marketplace-resource-api-keys */
};

/* Everything borrowed; must outlive the operation. */
struct waldur_access {
    const char *url;          /* up to and with "/api", no trailing slash */
    const char *credential;   /* never logged */
    const char *scheme;       /* static: "Token " or "Bearer "; NULL: "Token " */
    int64_t timeout_ms;       /* of one request; 0: the transport's default */
    int64_t settle_ms;        /* between two looks, doubled each time; 0: WALDUR_SETTLE_MS */
    struct waldur_site *site; /* never NULL */
};

enum waldur_turn {
    WALDUR_REQUEST,
    WALDUR_ASK, /* an intake's: the shell decides (intake.h), then waldur_op_next */
    WALDUR_WAIT,
    WALDUR_DONE,
    WALDUR_FAILED
};

struct waldur_action {
    enum waldur_turn turn;
    struct exchange_request request; /* WALDUR_REQUEST: the caller's to send or ..._done */
    const char *effect; /* static, e.g. "order.approve"; NULL for a mere look. The request's body
                           of "key.report" and "key.set" holds a clear key */
    int64_t wait_ms;    /* WALDUR_WAIT */
    struct err err;     /* WALDUR_FAILED; holds no credential and no key */
};

enum waldur_effect {
    WALDUR_EFFECT_NONE, /* it was a look */
    WALDUR_EFFECT_DONE,
    WALDUR_EFFECT_UNKNOWN, /* the next request is the look that tells */
    WALDUR_EFFECT_REFUSED,
    WALDUR_EFFECT_NOT_SENT
};

/* What an answer meant: for the journal of effects, and for the health of the server. */
struct waldur_outcome {
    enum waldur_effect effect;
    bool answered;  /* Waldur itself answered, whatever it said: it is there and well */
    struct err err; /* ERR_NONE when the answer was a good one; holds no secret */
};

struct waldur_op;

/* Fills *out. After WALDUR_WAIT call again when the time is over; after WALDUR_REQUEST feed first.
 */
void waldur_op_next(struct waldur_op *op, struct waldur_action *out);
void waldur_op_feed(struct waldur_op *op, const struct exchange_response *response,
                    struct waldur_outcome *out);
void waldur_op_free(struct waldur_op *op); /* NULL allowed */

#endif
