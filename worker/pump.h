/*
 * Sends many things that are acknowledged one by one, a bounded number at a time, on a loop of its
 * own: messages to Kafka, statements to the database.
 */
#ifndef WORKER_PUMP_H
#define WORKER_PUMP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "config/config.h"
#include "net/kafka.h"
#include "net/loop.h"

struct pump {
    struct loop *loop;
    /* Starts item i. ERR_THROTTLED: later. Any other failure ends the sending. */
    int (*send)(void *ctx, size_t i, struct err *err);
    void *ctx;
    size_t n;           /* items 0 .. n - 1 */
    size_t window;      /* at most so many without an answer */
    int64_t timeout_ms; /* gives up when no answer has come for so long */
    const char *verb;   /* for the progress line: "sent" */

    size_t sent, done, failed;
    bool stopped; /* nothing further is sent */
    bool gave_up;
    struct err err; /* the first failure */
    int64_t progress_ms;
    struct loop_timer timer;
};

/* Runs until every item is answered, or the time is over. 0 when all are done; else -1, p->err says
 * why. */
int pump_run(struct pump *p);
/* An item's answer; err NULL: it is done. */
void pump_answer(struct pump *p, const struct err *err);
/* Nothing can be sent yet, or it can be now (as pg's on_state tells): starts the sending. */
void pump_feed(struct pump *p);

/* broker_producer, for a program that takes its signals as they come. */
struct kafka_producer *pump_producer(struct loop *loop, const struct config *config,
                                     struct err *err);
/* pump_run for messages: gives up after timeout_ms without an acknowledgement. */
int pump_kafka(struct pump *p, const struct kafka_producer *producer, const struct config *config,
               int64_t timeout_ms);

#endif
