#include "talk.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/str.h"

enum { PATIENCE_MS = 5 * 1000 }; /* what is asked for longer is not waited for in memory */

static void turn(struct talk *t);
static void send(struct talk *t);

static void request_done(struct talk *t)
{
    if (t->request) {
        exchange_request_done(t->request);
        free(t->request);
        t->request = NULL;
    }
}

void talk_end(struct talk *t)
{
    if (!t->op) {
        return;
    }
    loop_timer_cancel(t->loop, &t->timer);
    if (t->call) {
        http_cancel(marketplace_http(t->m), t->call);
        t->call = NULL;
    }
    request_done(t);
    waldur_op_free(t->op);
    t->op = NULL;
}

bool talk_busy(const struct talk *t)
{
    return t->call != NULL;
}

void talk_request_id(const struct talk *t, char *out, size_t size)
{
    snprintf(out, size, "%s.%u", t->label, t->requests);
}

/* ---- answers ---- */

static void on_answer(void *ctx, const struct exchange_response *response)
{
    struct talk *t = ctx;
    struct waldur_outcome outcome;
    const char *effect = t->effect;

    FAULT_POINT("http/waldur/%s/answered", effect ? effect : "look");
    t->call = NULL;
    t->effect = NULL;
    t->intended = false;
    waldur_op_feed(t->op, response, &outcome);
    marketplace_report(t->m, response, &outcome, clock_mono_ms() - t->sent_ms, t->method);
    if (effect && t->events->settled) {
        t->events->settled(t->ctx, &outcome);
    }
    turn(t);
}

/* ---- requests ---- */

static void on_timer(void *ctx)
{
    struct talk *t = ctx;
    if (t->request) {
        send(t);
    } else {
        turn(t);
    }
}

static int sleep_for(struct talk *t, int64_t ms, struct err *err)
{
    t->timer = (struct loop_timer){.fn = on_timer, .ctx = t};
    return loop_timer_set(t->loop, &t->timer, ms, err);
}

/* What was intended did not leave. */
static void give_up(struct talk *t, const struct err *err)
{
    struct err e = *err;
    if (t->effect && t->intended && t->events->settled) {
        struct waldur_outcome outcome = {.effect = WALDUR_EFFECT_NOT_SENT, .err = e};
        t->events->settled(t->ctx, &outcome);
    }
    t->effect = NULL;
    t->intended = false;
    request_done(t);
    t->events->end(t->ctx, &e);
}

static bool wait_or_give_up(struct talk *t)
{
    struct err err;
    int64_t pause_ms = marketplace_pause_ms(t->m, 0);
    if (t->events->may && !t->events->may(t->ctx)) {
        err_set(&err, ERR_UNAVAILABLE, "this worker stops, or its lease is about to end");
        give_up(t, &err);
        return true;
    }
    if (pause_ms == 0) {
        return false;
    }
    err_set(&err, ERR_THROTTLED, "Waldur is left alone just now");
    err.retry_after_ms = pause_ms;
    if (pause_ms > PATIENCE_MS || sleep_for(t, pause_ms, &err) != 0) {
        give_up(t, &err);
    }
    return true;
}

static void send(struct talk *t)
{
    struct err err;
    char id[64], line[96];
    if (wait_or_give_up(t)) {
        return;
    }
    talk_request_id(t, id, sizeof(id));
    snprintf(line, sizeof(line), "X-Request-Id: %s", id);
    const char *const headers[] = {line, NULL};
    FAULT_POINT("http/waldur/%s/before", t->effect ? t->effect : "look");
    t->sent_ms = clock_mono_ms();
    t->method = t->request->method;
    t->call = http_send(marketplace_http(t->m), t->request, headers, on_answer, t, &err);
    if (!t->call) {
        give_up(t, &err);
        return;
    }
    request_done(t);
}

static void request(struct talk *t, struct waldur_action *action)
{
    struct err err;
    t->request = malloc(sizeof(*t->request));
    if (!t->request) {
        exchange_request_done(&action->request);
        err_nomem(&err);
        t->events->end(t->ctx, &err);
        return;
    }
    *t->request = action->request;
    t->effect = action->effect;
    t->requests++;
    if (!action->effect) {
        send(t);
    } else if (t->events->intend) {
        t->events->intend(t->ctx, t->request, t->effect);
    } else {
        err_set(&err, ERR_INTERNAL, "a change (%s) where none is to be made", t->effect);
        give_up(t, &err);
    }
}

static void turn(struct talk *t)
{
    struct waldur_action action = {0};
    struct err err;
    waldur_op_next(t->op, &action);
    switch (action.turn) {
    case WALDUR_REQUEST:
        request(t, &action);
        return;
    case WALDUR_ASK:
        t->events->ask(t->ctx);
        return;
    case WALDUR_WAIT:
        if (sleep_for(t, action.wait_ms, &err)) {
            t->events->end(t->ctx, &err);
        }
        return;
    case WALDUR_DONE:
        t->events->end(t->ctx, NULL);
        return;
    case WALDUR_FAILED:
        t->events->end(t->ctx, &action.err);
        return;
    }
}

void talk_go(struct talk *t)
{
    if (t->request) {
        t->intended = true;
        send(t);
    } else {
        turn(t);
    }
}

void talk_start(struct talk *t, struct loop *loop, struct marketplace *m, struct waldur_op *op,
                const char *label, const struct talk_events *events, void *ctx)
{
    *t = (struct talk){.loop = loop, .m = m, .op = op, .events = events, .ctx = ctx};
    str_copy(t->label, sizeof(t->label), label);
    turn(t);
}
