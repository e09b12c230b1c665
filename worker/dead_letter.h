/*
 * Dead letters: what cannot be taken in is kept in the table, then published to the topic with why,
 * and given back when both are acknowledged. Trouble with either is met with patience: the letter
 * waits, its offset with it, and nothing else does.
 */
#ifndef WORKER_DEAD_LETTER_H
#define WORKER_DEAD_LETTER_H

#include <stddef.h>

#include "base/err.h"
#include "base/json.h"
#include "message.h"
#include "metrics.h"
#include "net/kafka.h"
#include "net/loop.h"
#include "store/pg.h"

enum {
    DEAD_LETTER_VALUE_MAX = 8 * 1024 * 1024, /* bytes kept in the table */
    DEAD_LETTER_KEY_MAX = 64 * 1024,
};

struct dead_letters;

struct dead_letters_options {
    struct pg *pg; /* borrowed, like the next two */
    struct kafka_producer *producer;
    struct metrics *metrics;
    const char *source; /* the events' topic; copied, like the next */
    const char *topic;
    void *ctx;
    void (*settled)(void *ctx, struct message *m); /* given back */
};

struct dead_letters *dead_letters_new(struct loop *loop, const struct dead_letters_options *options,
                                      struct err *err);
/* Frees the messages too. Under the same condition as ingest_free. */
void dead_letters_free(struct dead_letters *d);

/*
 * Takes m over. class is a static word for what kind of trouble it is; fault says where and why. -1
 * when memory ends: m is then the caller's still.
 */
int dead_letters_take(struct dead_letters *d, struct message *m, const char *class,
                      const struct json_fault *fault);

#endif
