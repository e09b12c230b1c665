/*
 * What is seen from outside: /healthz, /readyz and /metrics, and the gauges that the database
 * counts every 10 s.
 */
#ifndef WORKER_ADMIN_H
#define WORKER_ADMIN_H

#include "base/err.h"
#include "engine.h"
#include "ingest.h"
#include "marketplace.h"
#include "metrics.h"
#include "net/httpd.h"
#include "net/loop.h"

struct admin;

/* All borrowed; ingest may be NULL, then Kafka is not asked about. */
struct admin_options {
    const char *listen; /* "host:port" */
    struct engine *engine;
    struct ingest *ingest;
    struct metrics *metrics;
    struct marketplace *marketplace;  /* NULL: no Waldur is configured */
    const struct httpd_route *routes; /* served beside; copied */
    size_t n_routes;
};

struct admin *admin_new(struct loop *loop, const struct admin_options *options, struct err *err);
/* When ingest_free may be called. */
void admin_free(struct admin *a);

int admin_port(const struct admin *a);

/* The process is about to stop: /readyz says so with 503, /healthz stays as it is. */
void admin_stopping(struct admin *a);

#endif
