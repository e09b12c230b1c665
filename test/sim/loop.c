/*
 * net/loop.h on simulated time: a turn handles what was posted to the process, then due timers,
 * then hooks. A process has few timers, so they stand in no order.
 */
#include "net/loop.h"

#include <stdlib.h>

#include "base/clock.h"
#include "sim.h"

struct loop {
    struct proc *proc;
    bool wake;
    uint64_t seq;
    struct loop_timer **timers;
    size_t n, room;
    struct {
        loop_fn *fn;
        void *ctx;
    } hooks[LOOP_HOOKS_MAX];
    size_t n_hooks;
    bool hooks_running;
};

struct loop *loop_new(struct err *err)
{
    (void)err;
    struct loop *l = sim_alloc(sizeof(*l));
    l->proc = world.current;
    return l;
}

void loop_free(struct loop *l)
{
    if (l) {
        free(l->timers);
        free(l);
    }
}

/* ---- timers ---- */

int loop_timer_set(struct loop *l, struct loop_timer *t, int64_t delay_ms, struct err *err)
{
    (void)err;
    if (!t->slot) {
        if (l->n == l->room) {
            l->room = l->room ? 2 * l->room : 32;
            l->timers = realloc(l->timers, l->room * sizeof(struct loop_timer *));
            if (!l->timers) {
                abort();
            }
        }
        l->timers[l->n] = t;
        t->slot = ++l->n;
    }
    t->due_ms = delay_ms > 0 ? (clock_mono_us() + 999) / 1000 + delay_ms : clock_mono_ms();
    t->seq = l->seq++;
    return 0;
}

void loop_timer_cancel(struct loop *l, struct loop_timer *t)
{
    if (!t->slot) {
        return;
    }
    struct loop_timer *last = l->timers[--l->n];
    l->timers[t->slot - 1] = last;
    last->slot = t->slot;
    t->slot = 0;
}

static struct loop_timer *earliest(const struct loop *l, uint64_t limit)
{
    struct loop_timer *first = NULL;
    for (size_t i = 0; i < l->n; i++) {
        struct loop_timer *t = l->timers[i];
        if (t->seq < limit && (!first || t->due_ms < first->due_ms ||
                               (t->due_ms == first->due_ms && t->seq < first->seq))) {
            first = t;
        }
    }
    return first;
}

static void run_timers(struct loop *l)
{
    int64_t now_ms = clock_mono_ms();
    uint64_t limit = l->seq;
    struct loop_timer *t;
    while (!l->proc->dying && (t = earliest(l, limit)) && t->due_ms <= now_ms) {
        loop_timer_cancel(l, t);
        t->fn(t->ctx);
    }
}

/* ---- hooks ---- */

int loop_before_sleep(struct loop *l, loop_fn *fn, void *ctx, struct err *err)
{
    if (l->n_hooks == LOOP_HOOKS_MAX) {
        return err_set(err, ERR_INTERNAL, "too many before-sleep hooks");
    }
    l->hooks[l->n_hooks].fn = fn;
    l->hooks[l->n_hooks++].ctx = ctx;
    l->wake = true;
    return 0;
}

static void compact(struct loop *l)
{
    size_t kept = 0;
    for (size_t i = 0; i < l->n_hooks; i++) {
        if (l->hooks[i].fn) {
            l->hooks[kept++] = l->hooks[i];
        }
    }
    l->n_hooks = kept;
}

void loop_before_sleep_del(struct loop *l, loop_fn *fn, void *ctx)
{
    for (size_t i = 0; i < l->n_hooks; i++) {
        if (l->hooks[i].fn == fn && l->hooks[i].ctx == ctx) {
            l->hooks[i].fn = NULL;
            break;
        }
    }
    if (!l->hooks_running) {
        compact(l);
    }
}

void loop_wake(struct loop *l)
{
    l->wake = true;
}

/* ---- turns ---- */

void loop_turn(struct loop *l)
{
    run_timers(l);
    l->hooks_running = true;
    for (size_t i = 0; i < l->n_hooks && !l->proc->dying; i++) {
        if (l->hooks[i].fn) {
            l->hooks[i].fn(l->hooks[i].ctx);
        }
    }
    l->hooks_running = false;
    compact(l);
}

void loop_woken(struct loop *l)
{
    l->wake = false;
}

int64_t loop_wants_us(const struct loop *l)
{
    if (l->wake) {
        return 0;
    }
    int64_t due_ms = -1;
    for (size_t i = 0; i < l->n; i++) {
        due_ms = due_ms < 0 || l->timers[i]->due_ms < due_ms ? l->timers[i]->due_ms : due_ms;
    }
    return due_ms < 0 ? -1 : due_ms * 1000;
}

/* ---- what no part of the worker does without sockets ---- */

static void absent(const char *what)
{
    sim_breach("%s is called, which the simulation does not have", what);
}

int loop_fd_add(struct loop *l, int fd, uint32_t events, loop_fd_fn *fn, void *ctx, struct err *err)
{
    (void)l, (void)fd, (void)events, (void)fn, (void)ctx;
    absent("loop_fd_add");
    return err_set(err, ERR_INTERNAL, "there are no descriptors");
}

int loop_fd_mod(struct loop *l, int fd, uint32_t events, struct err *err)
{
    (void)l, (void)fd, (void)events;
    absent("loop_fd_mod");
    return err_set(err, ERR_INTERNAL, "there are no descriptors");
}

void loop_fd_del(struct loop *l, int fd)
{
    (void)l, (void)fd;
    absent("loop_fd_del");
}

int loop_run(struct loop *l, struct err *err)
{
    (void)l;
    absent("loop_run");
    return err_set(err, ERR_INTERNAL, "the simulation runs the loop");
}

void loop_stop(struct loop *l)
{
    (void)l;
    absent("loop_stop");
}

void loop_stats_take(struct loop *l, struct loop_stats *out)
{
    (void)l;
    *out = (struct loop_stats){0};
}
