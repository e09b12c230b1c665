/*
 * doctor's parts: one exam a server, all on one loop at the same time. An exam adds its findings
 * and says when it is over; what is not over when the time is gets a finding that says so.
 */
#ifndef WORKER_DOCTOR_H
#define WORKER_DOCTOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "config/config.h"
#include "findings.h"
#include "machine/machine.h"
#include "net/http.h"
#include "net/loop.h"

struct doctor {
    const struct config *config;
    struct loop *loop;
    struct http *http;
    int64_t timeout_ms; /* of the whole */
    size_t under_way;   /* exams that are not over */
};

struct exam;

struct exam_class {
    /* What it finds may come at once or later, from the loop. -1 and *err: doctor itself failed. */
    int (*start)(struct exam *e, struct err *err);
    /* Ends it, over or not: nothing is added after this. It may not have been started. */
    void (*stop)(struct exam *e);
};

struct exam {
    const struct exam_class *class;
    struct doctor *doctor;
    char server[96];                      /* as findings name it */
    const struct config_runtime *runtime; /* of a product */
    enum product product;
    struct findings findings;
    bool over;
    void *state; /* the class's own */
};

extern const struct exam_class exam_configuration, exam_database, exam_kafka, exam_product,
    exam_waldur;

/* At most once an exam. */
void exam_over(struct exam *e);

/* findings_add for this exam's server. */
#define EXAM_ADD(e, level, subject, mend, ...)                                                     \
    findings_add(&(e)->findings, level, (e)->server, subject, mend, __VA_ARGS__)

#endif
