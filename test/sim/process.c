/*
 * Processes: each holds what worker/run.c holds, wired as there, without signals, sockets and
 * supervisor. One may end at any of its actions, be stopped and go on, be drained, or read its
 * configuration anew.
 */
#include <stdio.h>
#include <stdlib.h>

#include "broker.h"
#include "engine.h"
#include "ingest.h"
#include "metrics.h"
#include "outcomes.h"
#include "sim.h"

enum {
    INGEST_DRAIN_MS = 5 * 1000,
    OUTCOMES_DRAIN_MS = 3 * 1000,
    TURN_MIN_US = 5,
    TURN_MAX_US = 200,
};

struct item {
    struct item *next;
    sim_fn *fn;
    void *ctx;
    uint64_t arg;
};

struct run_parts {
    struct proc *proc;
    int config; /* 0 or 1 */
    struct metrics *metrics;
    struct engine *engine;
    struct kafka_producer *producer;
    struct ingest *ingest;
    struct outcomes *outcomes;
    int64_t drained_by_us;
};

/* ---- clocks ---- */

int64_t proc_mono_us(const struct proc *p)
{
    int64_t d = world.now_us - p->boot_us;
    return p->mono_base_us + d + d / 1000000 * p->ppm + d % 1000000 * p->ppm / 1000000;
}

/* When its monotonic clock shows this; never too early. */
static int64_t when(const struct proc *p, int64_t mono_us)
{
    int64_t left = mono_us - proc_mono_us(p);
    return left <= 0 ? world.now_us : world.now_us + left - left / 1000000 * p->ppm + 1;
}

/* ---- turns ---- */

static void turn(void *ctx, uint64_t no, bool run);

static void turn_at(struct proc *p, int64_t at_us)
{
    at_us = at_us > p->busy_until_us ? at_us : p->busy_until_us;
    if (p->paused || !p->alive || (p->turn_at_us >= 0 && p->turn_at_us <= at_us)) {
        return;
    }
    p->turn_at_us = at_us;
    sim_after(at_us - world.now_us, turn, p, ++p->turn_no);
}

void proc_post(struct proc *p, sim_fn *fn, void *ctx, uint64_t arg)
{
    struct item *i = sim_alloc(sizeof(*i));
    *i = (struct item){.fn = fn, .ctx = ctx, .arg = arg};
    *p->last = i;
    p->last = &i->next;
    turn_at(p, world.now_us);
}

static struct item *pop(struct proc *p)
{
    struct item *i = p->first;
    p->first = i->next;
    if (!p->first) {
        p->last = &p->first;
    }
    return i;
}

static void drop_items(struct proc *p)
{
    while (p->first) {
        struct item *i = pop(p);
        i->fn(i->ctx, i->arg, false);
        free(i);
    }
}

/* What was there when the turn began; what comes meanwhile waits for the next one. */
static void read_items(struct proc *p)
{
    struct item *first = p->first, *next;
    p->first = NULL;
    p->last = &p->first;
    for (; first; first = next) {
        next = first->next;
        first->fn(first->ctx, first->arg, !p->dying);
        free(first);
    }
}

static void turn(void *ctx, uint64_t no, bool run)
{
    struct proc *p = ctx;
    if (!run || no != p->turn_no || !p->alive || p->paused) {
        return;
    }
    p->turn_at_us = -1;
    world.current = p;
    loop_woken(p->loop);
    read_items(p);
    loop_turn(p->loop);
    world.current = NULL;
    p->busy_until_us = world.now_us + sim_between(TURN_MIN_US, TURN_MAX_US);
    if (p->dying || p->drained) {
        proc_kill(p);
        return;
    }
    int64_t wants = p->first ? 0 : loop_wants_us(p->loop);
    if (wants >= 0) {
        turn_at(p, wants == 0 ? world.now_us : when(p, wants));
    }
}

/* ---- the beginning, as worker/run.c has it ---- */

static void on_outcomes_drained(void *ctx)
{
    struct run_parts *r = ctx;
    sim_say(r->proc->who, "drained");
    r->proc->drained = true;
}

static void on_engine_drained(void *ctx)
{
    struct run_parts *r = ctx;
    outcomes_drain(r->outcomes, OUTCOMES_DRAIN_MS, on_outcomes_drained, r);
}

static void on_ingest_drained(void *ctx)
{
    struct run_parts *r = ctx;
    int64_t left_ms = (r->drained_by_us - proc_mono_us(r->proc)) / 1000;
    int64_t outcomes_ms = left_ms / 4 < OUTCOMES_DRAIN_MS ? left_ms / 4 : OUTCOMES_DRAIN_MS;
    engine_drain(r->engine, left_ms - outcomes_ms, on_engine_drained, r);
}

static void wake_engine(void *ctx)
{
    engine_wake(((struct run_parts *)ctx)->engine);
}

static void wake_outcomes(void *ctx)
{
    struct run_parts *r = ctx;
    if (r->outcomes) {
        outcomes_wake(r->outcomes);
    }
}

static void on_database(void *ctx, bool up)
{
    struct run_parts *r = ctx;
    if (r->ingest) {
        ingest_pause(r->ingest, !up);
    }
}

static void on_fatal(void *ctx, const char *why)
{
    struct run_parts *r = ctx;
    sim_breach("%s: ingest cannot go on: %s", r->proc->who, why);
}

static const char *owner(void *ctx)
{
    return engine_owner(((struct run_parts *)ctx)->engine);
}

static int start_parts(struct run_parts *r, const struct config *config, struct err *err)
{
    struct loop *loop = r->proc->loop;
    struct engine_options engine = {.config = config,
                                    .metrics = r->metrics,
                                    .ctx = r,
                                    .on_outcome = wake_outcomes,
                                    .on_database = on_database};
    if (!(r->engine = engine_new(loop, &engine, err)) ||
        !(r->producer = broker_producer(loop, config, err))) {
        return -1;
    }
    struct ingest_options ingest = {.config = config,
                                    .pg = engine_pg(r->engine),
                                    .producer = r->producer,
                                    .metrics = r->metrics,
                                    .ctx = r,
                                    .on_applied = wake_engine,
                                    .on_fatal = on_fatal};
    struct outcomes_options outcomes = {.pg = engine_pg(r->engine),
                                        .producer = r->producer,
                                        .topic = config->topic_outcomes,
                                        .ctx = r,
                                        .owner = owner};
    r->ingest = ingest_new(loop, &ingest, err);
    r->outcomes = r->ingest ? outcomes_new(loop, &outcomes, err) : NULL;
    if (!r->outcomes) {
        return -1;
    }
    ingest_pause(r->ingest, true);
    return 0;
}

void proc_start(struct proc *p)
{
    struct err err;
    drop_items(p); /* for whom it was before: the broker did not know that it was gone */
    p->serial = ++world.serials;
    p->alive = true;
    p->dying = p->paused = p->draining = p->drained = false;
    p->boot_us = world.now_us;
    p->mono_base_us = sim_between(0, 1000000) * SECOND;
    p->ppm = sim_between(-200, 200);
    p->wall_offset_us = sim_between(-2 * SECOND, 2 * SECOND);
    p->first = NULL;
    p->last = &p->first;
    p->turn_at_us = -1;
    p->busy_until_us = world.now_us;
    snprintf(p->who, sizeof(p->who), "w%d", p->slot + 1);
    sim_say(p->who, "starts");
    struct run_parts *r = sim_alloc(sizeof(*r));
    p->parts = r;
    r->proc = p;
    world.current = p;
    p->loop = loop_new(&err);
    r->metrics = metrics_new(&err);
    int started = r->metrics ? start_parts(r, setup_config(&world.dialects, 0), &err) : -1;
    world.current = NULL;
    if (started) {
        sim_breach("%s does not start: %s", p->who, err.msg);
    }
    turn_at(p, world.now_us);
}

/* ---- the end ---- */

/* What it holds is given back to memory; nothing of it reaches the outside. */
void proc_kill(struct proc *p)
{
    struct run_parts *r = p->parts;
    if (!p->alive) {
        drop_items(p);
        return;
    }
    sim_say(p->who, p->drained ? "ends" : "is gone");
    p->dying = true;
    drop_items(p);
    world.current = p;
    ingest_free(r->ingest);
    outcomes_free(r->outcomes);
    kafka_producer_free(r->producer);
    engine_free(r->engine);
    metrics_free(r->metrics);
    loop_free(p->loop);
    world.current = NULL;
    free(r);
    p->parts = NULL;
    p->loop = NULL;
    p->alive = p->dying = false;
    p->turn_no++;
}

bool proc_action(struct proc *p, const char *what)
{
    if (p->dying || !world.storm || world.crashes_left == 0 || !sim_chance(world.faults.crash)) {
        return p->dying;
    }
    world.crashes_left--;
    sim_say(p->who, "is killed %s", what);
    p->dying = true;
    if (world.current != p) {
        proc_kill(p);
    }
    return true;
}

/* ---- what happens to it ---- */

static void on_resume(void *ctx, uint64_t pause, bool run)
{
    struct proc *p = ctx;
    if (run && p->paused && p->pauses == pause) {
        proc_resume(p);
    }
}

void proc_pause(struct proc *p, int64_t for_us)
{
    if (!p->alive || p->paused) {
        return;
    }
    sim_say(p->who, "is stopped for %.1f s", (double)for_us / SECOND);
    p->paused = true;
    p->pauses++;
    p->turn_at_us = -1;
    p->turn_no++;
    kafka_paused(p);
    sim_after(for_us, on_resume, p, p->pauses);
}

void proc_resume(struct proc *p)
{
    if (p->alive && p->paused) {
        sim_say(p->who, "goes on");
        p->paused = false;
        turn_at(p, world.now_us);
    }
}

void proc_drain(struct proc *p)
{
    struct run_parts *r = p->parts;
    if (!p->alive || p->draining || p->paused) {
        return;
    }
    sim_say(p->who, "is told to end");
    int64_t drain_ms = setup_config(&world.dialects, 0)->worker_drain_ms;
    p->draining = true;
    world.current = p;
    r->drained_by_us = proc_mono_us(p) + drain_ms * 1000;
    ingest_drain(r->ingest, INGEST_DRAIN_MS < drain_ms / 4 ? INGEST_DRAIN_MS : drain_ms / 4,
                 on_ingest_drained, r);
    world.current = NULL;
    turn_at(p, world.now_us);
}

void proc_reload(struct proc *p)
{
    struct run_parts *r = p->parts;
    if (!p->alive || p->draining || p->paused) {
        return;
    }
    sim_say(p->who, "reads its configuration anew");
    r->config = 1 - r->config;
    world.current = p;
    engine_reload(r->engine, setup_config(&world.dialects, r->config));
    ingest_configure(r->ingest, setup_config(&world.dialects, r->config));
    world.current = NULL;
    turn_at(p, world.now_us);
}

const char *proc_owner(const struct proc *p)
{
    return engine_owner(p->parts->engine);
}
