/*
 * The sweep: every waldur.sweep one replica lists the open orders of our offerings, the resources
 * that changed, and the keys that are wanted, and leaves hints where something calls for a look. So
 * a webhook that was lost is a delay, and none at all would do. It changes nothing at Waldur.
 */
#ifndef WORKER_SWEEP_H
#define WORKER_SWEEP_H

#include "base/err.h"
#include "config/config.h"
#include "marketplace.h"
#include "metrics.h"
#include "net/loop.h"
#include "store/pg.h"

struct sweep;

struct sweep_options {
    const struct config *config;     /* borrowed until sweep_configure; see sweep_uses */
    struct pg *pg;                   /* borrowed: engine_pg() */
    struct marketplace *marketplace; /* borrowed */
    struct metrics *metrics;         /* borrowed */
    void *ctx;
    const char *(*owner)(void *ctx); /* as the desk's */
    bool (*leased)(void *ctx);
    loop_fn *on_hint; /* something is due at the desk */
    loop_fn *on_job;  /* a job may wait */
};

struct sweep *sweep_new(struct loop *loop, const struct sweep_options *options, struct err *err);
/* Statements under way still name it: the pg must be freed after it, before the loop turns again.
 */
void sweep_free(struct sweep *s);
void sweep_configure(struct sweep *s, const struct config *config);
bool sweep_uses(const struct sweep *s, const struct config *config);
/* The lease or the connection is lost: what is under way is dropped. */
void sweep_abandon(struct sweep *s);
/* Nothing is begun any more; what is under way is dropped: it changes nothing. */
void sweep_stop(struct sweep *s);

#endif
