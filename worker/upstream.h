/*
 * The upstreams: one per runtime and product. Each bounds how many jobs drive it at once, and has a
 * circuit breaker: after some failures in a row it opens and jobs are held; one of them comes back
 * early and tries, the others sleep until it works again. Changes of health are told once, not per
 * job.
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

struct job;
struct upstream;
struct upstreams;

struct upstreams_events {
    void *ctx;
    void (*granted)(void *ctx, struct job *job); /* the waiting job has a slot now */
    /* The breaker opened while the job waited; it waits no more. */
    void (*dismissed)(void *ctx, struct job *job, const struct err *err, int64_t hold_ms);
    void (*recovered)(void *ctx, const char *runtime); /* jobs held for this runtime may run */
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
 * breaker is open; *err says since when and why, *hold_ms when to come back.
 */
int upstream_acquire(struct upstream *up, struct job *job, int64_t *hold_ms, struct err *err);
/* Gives the slot back, or leaves the queue. Nothing happens without either. */
void upstream_release(struct job *job);

/* What an exchange said about the upstream's health; ERR_NONE and every real answer are good. */
void upstream_report(struct upstream *up, const struct err *err, int64_t duration_ms, int status,
                     const char *method);

size_t upstreams_down(const struct upstreams *u);
void upstreams_json(const struct upstreams *u, struct buf *out);

#endif
