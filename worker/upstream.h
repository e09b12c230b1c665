/*
 * The upstreams: one per runtime and product. Each bounds how many jobs drive it at once, lets the
 * organizations among those that wait take turns, and has a circuit breaker: after some failures in
 * a row it opens and jobs are held; one of them comes back early and tries, the others sleep until
 * it works again. Changes of health are told once, not per job.
 */
#ifndef WORKER_UPSTREAM_H
#define WORKER_UPSTREAM_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "config/config.h"
#include "driver/driver.h"
#include "machine/machine.h"
#include "metrics.h"
#include "net/loop.h"

/* A server that wants to be left alone for longer is not waited for in memory. */
enum { UPSTREAM_PATIENCE_MS = 5 * 1000 };

struct job;
struct upstream;
struct upstreams;

struct upstreams_events {
    void *ctx;
    void (*granted)(void *ctx, struct job *job); /* the waiting job has a slot now */
    /* The breaker opened while the job waited; it waits no more. */
    void (*dismissed)(void *ctx, struct job *job, const struct err *err, int64_t hold_ms);
    void (*recovered)(void *ctx, const char *runtime); /* jobs held for this runtime may run */
    void (*probe)(void *ctx, const char *runtime);     /* one of them is to try whether it works */
};

struct upstreams *upstreams_new(struct loop *loop, const struct upstreams_events *events,
                                struct metrics *metrics, struct err *err);
void upstreams_free(struct upstreams *u);
/* The configuration was read anew: addresses and credentials are taken from it at the next use, and
 * what is down may be tried at once. */
void upstreams_configure(struct upstreams *u, const struct config *config);

/* NULL and *err (ERR_UNAVAILABLE) when the configuration has no such runtime, or no driver for its
 * api. */
struct upstream *upstreams_get(struct upstreams *u, const char *runtime, enum product product,
                               struct err *err);
const struct config_product *upstream_config(const struct upstream *up);
const struct driver_class *upstream_driver(const struct upstream *up);
/*
 * What is known of it, made at first use and after each configuration; borrowed (driver_site_ref to
 * keep it). NULL for a class without sites. -1: no memory.
 */
int upstream_site(struct upstream *up, struct driver_site **out, struct err *err);

/*
 * May a job drive it? 0: job->has_slot is true now. 1: it waits, `granted` will come. -1: the
 * breaker is open, or the server wants
 * to be left alone for long; *err says since when and why, *hold_ms when to come back.
 */
int upstream_acquire(struct upstream *up, struct job *job, int64_t *hold_ms, struct err *err);
/* Is it down, so that a job that has just failed is better held? Then *hold_ms: as for
 * upstream_acquire. */
bool upstream_holds(const struct upstream *up, int64_t *hold_ms);
/* How long the server has asked to be left alone still: no request may leave. 0: not at all. */
int64_t upstream_patience_ms(const struct upstream *up);
/* Gives the slot back, or leaves the queue. Nothing happens without either. */
void upstream_release(struct job *job);

/* What an exchange said about the upstream's health; ERR_NONE and every real answer are good. */
void upstream_report(struct upstream *up, const struct err *err, int64_t duration_ms, int status,
                     const char *method);

/* How many more jobs of a runtime are worth claiming: 0 while its Langflow is down or wants to be
 * left alone, 1 when it is to be tried. Not all need its RAGFlow: those that do are held one by
 * one. */
size_t upstreams_room(const struct upstreams *u, const char *runtime);
/* The same of those that were held there: for whichever product it was, they need not come back
 * while one of the runtime's is down. */
size_t upstreams_room_for_held(const struct upstreams *u, const char *runtime);
size_t upstreams_down(const struct upstreams *u);
void upstreams_json(const struct upstreams *u, struct buf *out);

#endif
