/*
 * One operation on Waldur's REST API (waldur/op.h), carried out over HTTP: what it asks is sent,
 * what comes back is fed, waits are waited out. Who owns the talk decides what a change needs
 * before it may leave, and what becomes of the result.
 */
#ifndef WORKER_TALK_H
#define WORKER_TALK_H

#include <stdint.h>

#include "base/exchange.h"
#include "marketplace.h"
#include "net/http.h"
#include "net/loop.h"
#include "waldur/op.h"

struct talk;

/* Each may end the talk (talk_end) and free what holds it. */
struct talk_events {
    /* A change is about to leave: commit its intent, then talk_go. NULL: none is ever made. */
    void (*intend)(void *ctx, const struct exchange_request *request, const char *effect);
    /* What became of it; before anything else happens. NULL likewise. */
    void (*settled)(void *ctx, const struct waldur_outcome *outcome);
    /* The shell's turn (an intake's): decide, then talk_go. NULL: it has none. */
    void (*ask)(void *ctx);
    /* May a request leave? Else the talk ends with ERR_UNAVAILABLE. NULL: always. */
    bool (*may)(void *ctx);
    /* It is over; err NULL: well. The operation is there until talk_end. */
    void (*end)(void *ctx, const struct err *err);
};

/* All but `op` belongs to talk.c. */
struct talk {
    struct loop *loop;
    struct marketplace *m;
    const struct talk_events *events;
    void *ctx;
    struct waldur_op *op; /* NULL: not talking */
    char label[48];
    unsigned requests;
    struct exchange_request *request; /* built, not sent */
    const char *effect;
    struct http_call *call;
    enum exchange_method method;
    int64_t sent_ms;
    struct loop_timer timer;
    bool intended;
};

/* Takes op over. label: the beginning of the requests' ids. Events come from within. */
void talk_start(struct talk *t, struct loop *loop, struct marketplace *m, struct waldur_op *op,
                const char *label, const struct talk_events *events, void *ctx);
void talk_go(struct talk *t);
/* "label.n" of the request that is about to leave. */
void talk_request_id(const struct talk *t, char *out, size_t size);
/* Is a request under way? Whoever stops hears it out, to know what became of it. */
bool talk_busy(const struct talk *t);
/* Ends it, wherever it is; no event comes any more. Nothing happens where none is going on. */
void talk_end(struct talk *t);

#endif
