/*
 * The executor: brings claimed jobs to their end, step by step. Decisions are the machine's and the
 * drivers'; here they are carried out, journalled, and fed back. Everything a job writes carries
 * its fence; a job that lost it, or was superseded, is dropped without another word upstream.
 */
#ifndef WORKER_EXECUTOR_H
#define WORKER_EXECUTOR_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "config/config.h"
#include "metrics.h"
#include "net/http.h"
#include "net/loop.h"
#include "store/pg.h"

struct executor;
struct job;

struct executor_options {
    struct pg *pg;
    struct metrics *metrics;
    const struct config *config;
    void *ctx;
    /* Is our lease good for another request? Asked right before one leaves. */
    bool (*leased)(void *ctx);
    /* Our identity, as the fences have it. */
    const char *(*owner)(void *ctx);
    void (*finished)(void *ctx); /* a job left; there is room, and something may follow it */
    void (*outcome)(void *ctx);  /* an outcome was committed */
    void (*announce)(void *ctx); /* an order is due at the desk */
    void (*recovered)(void *ctx, const char *runtime);
    void (*probe)(void *ctx, const char *runtime);
    /* A job is being dropped that the database still counts as ours, over a connection that works.
     */
    void (*stranded)(void *ctx, int64_t job, int64_t fence);
};

struct executor *executor_new(struct loop *loop, const struct executor_options *options,
                              struct err *err);
void executor_free(struct executor *x);
void executor_configure(struct executor *x, const struct config *config);
/* Does a job still use this one? */
bool executor_uses(const struct executor *x, const struct config *config);

/* Takes the job over and starts it. */
void executor_start(struct executor *x, struct job *job);
/* Jobs stop at their next boundary and are dropped; they stay ours until the lease is given up. */
void executor_drain(struct executor *x);
/* Ours no more: drops every job at once; answers still under way are ignored. */
void executor_abandon(struct executor *x);

size_t executor_jobs(const struct executor *x);
/* Those of one lane (lanes.h). */
size_t executor_jobs_of(const struct executor *x, const char *lane);
struct upstreams *executor_upstreams(struct executor *x);

#endif
