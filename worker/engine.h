/*
 * The engine: claims jobs and brings them to their end. It owns the leases, the executor, the
 * upstreams and the database connection of one process; `run` gives it Kafka beside it, `retention`
 * lets it work on a few jobs alone.
 */
#ifndef WORKER_ENGINE_H
#define WORKER_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "config/config.h"
#include "metrics.h"
#include "net/loop.h"
#include "store/pg.h"

struct engine;

struct engine_options {
    const struct config *config; /* borrowed */
    struct metrics *metrics;     /* borrowed */
    const int64_t *only;         /* copied; job ids to restrict to, NULL for all */
    size_t n_only;
    void *ctx;           /* of the four below, which may be NULL */
    loop_fn *on_outcome; /* an outcome was committed to the outbox */
    void (*on_database)(void *ctx, bool up);
    loop_fn *on_order; /* a job waits for what the desk has to tell */
    loop_fn *on_lost;  /* the lease is lost: whatever was claimed under its name is another's */
};

struct engine *engine_new(struct loop *loop, const struct engine_options *options, struct err *err);
/* After engine_drain's done, or at once: jobs in hand are then taken over when the lease ends. */
void engine_free(struct engine *e);

/*
 * Claims nothing more, lets jobs reach their next boundary, gives the rest back, and calls done
 * within timeout_ms.
 */
void engine_drain(struct engine *e, int64_t timeout_ms, loop_fn *done, void *ctx);

/* New work may be there: look soon. */
void engine_wake(struct engine *e);

/* The pipelined connection, shared with ingest and outcomes. Statements: statements.h. */
struct pg *engine_pg(struct engine *e);
/* This process's identity in leases and claims; a new one after every loss of the lease. */
const char *engine_owner(const struct engine *e);

/* Is the lease good for another request? */
bool engine_leased(const struct engine *e);
/* How many more jobs of a runtime are worth claiming: 0 while it is not well. */
size_t engine_room(const struct engine *e, const char *runtime);

struct engine_health {
    bool database;   /* connected */
    bool schema;     /* at the version this program needs */
    bool leased;     /* a live lease is held */
    const char *why; /* first thing that is wrong, "" for nothing; borrowed until the next turn */
    size_t jobs;     /* in hand */
    size_t upstreams_down;
};
void engine_health(const struct engine *e, struct engine_health *out);

/* JSON array of {"runtime","product","state","reason"} of upstreams that are not well, appended to
 * out. */
struct buf;
void engine_upstreams_json(const struct engine *e, struct buf *out);

/* Takes a configuration read anew (SIGHUP): runtimes, credentials, offerings, retry and limits. */
void engine_reload(struct engine *e, const struct config *config);
/* Does a job still use this one, read before? */
bool engine_uses(const struct engine *e, const struct config *config);

#endif
