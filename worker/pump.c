#include "pump.h"

#include <signal.h>

#include "base/clock.h"
#include "base/str.h"
#include "broker.h"
#include "cli.h"

enum {
    PUMP_TICK_MS = 100,
    PUMP_GRACE_MS = 2000,
    PUMP_BURST = 256, /* sends before the loop turns: answers must be taken too */
};

static size_t outstanding(const struct pump *p)
{
    return p->sent - p->done - p->failed;
}

static void keep_first(struct pump *p, const struct err *err)
{
    if (p->err.class == ERR_NONE)
        p->err = *err;
}

static void end_if_settled(struct pump *p)
{
    if (outstanding(p) == 0 && (p->stopped || p->sent == p->n))
        loop_stop(p->loop);
}

void pump_feed(struct pump *p)
{
    struct err err;
    for (size_t burst = 0; burst < PUMP_BURST; burst++) {
        if (p->stopped || p->sent == p->n || outstanding(p) >= p->window)
            break;
        /* Counted first: the answer may be quicker than the return. */
        p->sent++;
        err_clear(&err);
        if (p->send(p->ctx, p->sent - 1, &err) == 0)
            continue;
        p->sent--;
        if (err.class != ERR_THROTTLED) {
            keep_first(p, &err);
            p->stopped = true;
        }
        break;
    }
    end_if_settled(p);
}

void pump_answer(struct pump *p, const struct err *err)
{
    p->progress_ms = clock_mono_ms();
    if (err) {
        p->failed++;
        p->stopped = true;
        keep_first(p, err);
    } else {
        p->done++;
    }
    pump_feed(p);
}

static void tick(void *ctx)
{
    struct pump *p = ctx;
    struct err err;
    char bound[24];
    cli_progress("%s %zu of %zu", p->verb, p->done, p->n);
    if (clock_mono_ms() - p->progress_ms > p->timeout_ms) {
        str_from_duration_ms(bound, sizeof(bound), p->timeout_ms);
        err_set(&err, outstanding(p) ? ERR_UNKNOWN : ERR_UNAVAILABLE, "no answer came within %s",
                bound);
        keep_first(p, &err);
        p->stopped = p->gave_up = true;
        loop_stop(p->loop);
        return;
    }
    pump_feed(p);
    if (loop_timer_set(p->loop, &p->timer, PUMP_TICK_MS, &err) != 0) {
        keep_first(p, &err);
        p->stopped = p->gave_up = true;
        loop_stop(p->loop);
    }
}

int pump_run(struct pump *p)
{
    struct err err;
    err_clear(&p->err);
    p->progress_ms = clock_mono_ms();
    p->timer = (struct loop_timer){.fn = tick, .ctx = p};
    if (p->n == 0)
        return 0;
    if (loop_timer_set(p->loop, &p->timer, 0, &err) != 0 || loop_run(p->loop, &err) != 0)
        keep_first(p, &err);
    loop_timer_cancel(p->loop, &p->timer);
    cli_progress_end();
    return p->done == p->n ? 0 : -1;
}

/* ---- Kafka ---- */

struct kafka_producer *pump_producer(struct loop *loop, const struct config *config,
                                     struct err *err)
{
    sigset_t all, before;
    /* librdkafka's threads inherit this: signals stay with the one thread that is ours. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    struct kafka_producer *producer = broker_producer(loop, config, err);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return producer;
}

int pump_kafka(struct pump *p, const struct kafka_producer *producer, const struct config *config,
               int64_t timeout_ms)
{
    /* librdkafka gives messages up by itself: its words come first where both take as long. */
    p->timeout_ms = timeout_ms + PUMP_GRACE_MS;
    int rc = pump_run(p);
    if (rc != 0 && p->gave_up && !kafka_producer_up(producer))
        err_set(&p->err, ERR_UNAVAILABLE,
                "no broker answers at %s; look at kafka.bootstrap_servers",
                config->kafka_bootstrap_servers);
    return rc;
}
