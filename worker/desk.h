/*
 * The desk: works off what Waldur is owed and owes. It claims orders and keys that are due, reads
 * them at Waldur, has orders approved by rule, announces their resources, puts their events into
 * the inbox, reports how their jobs ended, and hands over keys. Whatever it changes at Waldur is an
 * effect: intended before, recorded after, and believed only when a look has shown it.
 *
 * An order is one worker's at a time: its row names the worker's lease and the claim's fence, and
 * every write obeys the answer. While Waldur is away nothing is claimed, and nothing errs.
 */
#ifndef WORKER_DESK_H
#define WORKER_DESK_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "config/config.h"
#include "marketplace.h"
#include "metrics.h"
#include "net/loop.h"
#include "store/pg.h"

struct desk;

struct desk_options {
    const struct config *config; /* borrowed until desk_configure brings another; see desk_uses */
    struct pg *pg;               /* borrowed: engine_pg() */
    struct marketplace *marketplace; /* borrowed */
    struct metrics *metrics;         /* borrowed */
    void *ctx;
    const char *(*owner)(void *ctx); /* this process's identity in leases; "" while it has none */
    bool (*leased)(void *ctx);       /* is the lease good for another request? */
    /* How many more jobs a runtime would be given: 0 while it is not well. */
    size_t (*room)(void *ctx, const char *runtime);
    loop_fn *on_job; /* a job may wait: claim soon */
};

struct desk *desk_new(struct loop *loop, const struct desk_options *options, struct err *err);
/* After desk_drain's done, or at once: what is in hand is taken over when the lease ends.
 * Statements under way still name it: the pg must be freed after it, before the loop turns again.
 */
void desk_free(struct desk *d);
void desk_configure(struct desk *d, const struct config *config);
bool desk_uses(const struct desk *d, const struct config *config);

/* Something may be due: claim soon. */
void desk_wake(struct desk *d);
/* The lease or the connection is lost: everything in hand is another's. */
void desk_abandon(struct desk *d);
/* Claims nothing more, hears out what is under way, and calls done within timeout_ms. Once. */
void desk_drain(struct desk *d, int64_t timeout_ms, loop_fn *done, void *ctx);

size_t desk_in_hand(const struct desk *d);

#endif
