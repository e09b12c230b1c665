/*
 * Shared by the executor and its half that drives upstreams (drive.c); nobody else's.
 */
#ifndef WORKER_EXECUTOR_INTERNAL_H
#define WORKER_EXECUTOR_INTERNAL_H

#include "base/rng.h"
#include "executor.h"
#include "job.h"
#include "statements.h"
#include "upstream.h"

struct executor {
    struct loop *loop;
    struct executor_options o;
    struct http *http;
    struct upstreams *upstreams;
    struct job *jobs;
    size_t n_jobs;
    bool draining;
    int64_t runtime_missed_ms; /* when one was missed last, and that was said; 0: never */
    struct rng jitter;
};

/* The first four parameters of every fenced statement. */
struct fence_params {
    struct pg_param params[4];
    char deadline[24];
};

void executor_fence(const struct job *j, struct fence_params *f);
/* Queues a statement for the job; on failure the job has been dropped. */
int executor_submit(struct job *j, enum statement statement, const struct pg_param *params,
                    pg_done_fn *done);
/* First thing in every callback: the verdict; NULL when PostgreSQL refused; "dropped" when the job
 * is gone. */
const char *executor_verdict(struct job *j, const PGresult *res, const struct err *err);
/* True when the verdict ends the job here; it has been dropped. */
bool executor_lost(struct job *j, const char *verdict);
/* Writes a step's end: fence, next step, and the statement's own parameters. */
void executor_write_step(struct job *j, enum statement statement, const struct pg_param *extra,
                         size_t n);
/* What a failed attempt means is the machine's to say; the job ends or waits. */
void executor_settle(struct job *j, const struct err *err);
void executor_hold(struct job *j, const struct err *err, int64_t hold_ms);
/* The configuration lacks its runtime; a reload releases it. */
void executor_hold_for_runtime(struct job *j, const struct err *err);
/* Frees the job and everything it waits for. */
void executor_drop(struct job *j);
/* The same for one that the database counts as ours: it must be given back. */
void executor_strand(struct job *j);

#endif
