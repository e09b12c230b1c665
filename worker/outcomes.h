/*
 * Outcomes: from the outbox to Kafka. Rows are claimed in groups, produced in order, and deleted
 * when the broker has acknowledged them; what it does not take is given back. At least once: after
 * a crash in between a row is produced again, with the same CloudEvents id.
 */
#ifndef WORKER_OUTCOMES_H
#define WORKER_OUTCOMES_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "net/kafka.h"
#include "net/loop.h"
#include "store/pg.h"

enum { OUTCOMES_MAX = 1024 /* claimed and not yet deleted or given back */ };

struct outcomes;

struct outcomes_options {
    struct pg *pg;                   /* borrowed */
    struct kafka_producer *producer; /* borrowed */
    const char *topic;               /* copied */
    void *ctx;
    const char *(*owner)(void *ctx); /* whose claims they are; NULL or "": nothing is claimed now */
};

struct outcomes *outcomes_new(struct loop *loop, const struct outcomes_options *options,
                              struct err *err);
/* When ingest_free may be called. */
void outcomes_free(struct outcomes *o);

/* An outcome was committed: look at once, not at the next second. */
void outcomes_wake(struct outcomes *o);

/* Claims nothing more and calls done when all that was claimed is settled, or after timeout_ms. */
void outcomes_drain(struct outcomes *o, int64_t timeout_ms, loop_fn *done, void *ctx);

size_t outcomes_in_flight(const struct outcomes *o);

#endif
