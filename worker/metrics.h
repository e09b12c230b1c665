/*
 * Prometheus metrics (text format 0.0.4), names starting with provisioner_. The table in metrics.c
 * lists every family with its type, help text, labels and buckets; series come into being as they
 * are touched and are bounded in number (further ones fall into label value "other").
 */
#ifndef WORKER_METRICS_H
#define WORKER_METRICS_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

enum metric {
    M_EVENTS_TOTAL,              /* counter   verdict: those of inbox_take; dead */
    M_JOBS,                      /* gauge     state: of live and failed jobs in the database */
    M_PAUSED,                    /* gauge     scope: pauses that operators have set */
    M_JOBS_FINISHED_TOTAL,       /* counter   kind, state */
    M_STEP_SECONDS,              /* histogram kind, step */
    M_READY_SECONDS,             /* histogram event accepted to ready */
    M_EFFECTS_TOTAL,             /* counter   product, class: done unknown refused not_sent */
    M_UPSTREAM_REQUESTS_TOTAL,   /* counter   runtime, product, method, status: 2xx 4xx 5xx none ...
                                  */
    M_UPSTREAM_SECONDS,          /* histogram runtime, product */
    M_UPSTREAM_UP,               /* gauge     runtime, product */
    M_JOBS_IN_HAND,              /* gauge     jobs held by this process */
    M_LEASES_LOST_TOTAL,         /* counter */
    M_TAKEOVERS_TOTAL,           /* counter */
    M_INBOX_LAG,                 /* gauge     messages read and not yet committed */
    M_KAFKA_LAG,                 /* gauge     messages not yet read */
    M_KAFKA_PAUSED,              /* gauge */
    M_OUTBOX_WAITING,            /* gauge */
    M_DEAD_LETTERS_TOTAL,        /* counter */
    M_LOOP_LAG_SECONDS,          /* gauge     longest turn since the last scrape */
    M_DATABASE_UP,               /* gauge */
    M_DATABASE_GROUPS_TOTAL,     /* counter   commits */
    M_DATABASE_STATEMENTS_TOTAL, /* counter */
    M_WALDUR_UP,                 /* gauge     whether Waldur is asked (1) or left alone (0) */
    M_WALDUR_HINTS_TOTAL,        /* counter   source, kind: order closed unlinked resource key
                                    ignored foreign refused */
    M_WALDUR_HOOK_SECONDS,       /* histogram webhook read to answered */
    M_WALDUR_ORDERS,             /* gauge     phase, reason: of those that wait or run */
    M_WALDUR_WAITING,            /* gauge     what: hints, keys */
    M_WALDUR_DROPPED_TOTAL,      /* counter   reason */
    M_WALDUR_REPORTS_TOTAL,      /* counter   state: done erred */
    M_WALDUR_KEYS_TOTAL,         /* counter   end: delivered rotated erred dropped */
    M_WALDUR_SWEEPS_TOTAL,       /* counter   result: done failed */
    M_BUILD_INFO,                /* gauge     version */
    METRIC_MAX
};

struct metrics;

struct metrics *metrics_new(struct err *err);
void metrics_free(struct metrics *m);

/* labels: the values in the table's order, NULL-terminated; NULL for none. Never fail; never block.
 */
void metrics_add(struct metrics *m, enum metric which, const char *const *labels, double delta);
void metrics_set(struct metrics *m, enum metric which, const char *const *labels, double value);
/* Removes every series of a gauge, before it is set anew from a query. */
void metrics_clear(struct metrics *m, enum metric which);
void metrics_observe(struct metrics *m, enum metric which, const char *const *labels,
                     double seconds);

/* METRIC_LABELS("a", "b") */
#define METRIC_LABELS(...) ((const char *const[]){__VA_ARGS__, NULL})

/* All families with their HELP and TYPE, series sorted. */
int metrics_print(const struct metrics *m, struct buf *out);

#endif
