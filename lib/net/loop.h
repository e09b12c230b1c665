/*
 * The event loop: epoll, a timer heap that bounds its sleep, before-sleep hooks. One thread, no
 * globals. Everything here is called on the loop's thread. Callbacks may add, change and delete any
 * descriptor, timer and hook, their own included; only loop_free and loop_run are not for
 * callbacks.
 */
#ifndef NET_LOOP_H
#define NET_LOOP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum { LOOP_HOOKS_MAX = 64, LOOP_TIMERS_MAX = 1 << 22 };

struct loop;

/* events: EPOLLIN | EPOLLOUT | EPOLLERR | EPOLLHUP as reported. */
typedef void loop_fd_fn(void *ctx, uint32_t events);
typedef void loop_fn(void *ctx);

struct loop *loop_new(struct err *err);
/* Descriptors and timers still in it are forgotten. NULL: nothing happens. */
void loop_free(struct loop *l);

/*
 * Watches fd (not owned). A descriptor may be deleted, closed, reused and added again while its old
 * events are still queued: such events are dropped, not delivered to the new owner.
 */
int loop_fd_add(struct loop *l, int fd, uint32_t events, loop_fd_fn *fn, void *ctx,
                struct err *err);
int loop_fd_mod(struct loop *l, int fd, uint32_t events, struct err *err);
void loop_fd_del(struct loop *l, int fd); /* unknown fd: nothing happens */

/*
 * Intrusive one-shot timer; zero-initialise, then set fn and ctx. Must be cancelled before its
 * memory goes. Never fires early; timers due at the same time fire in the order in which they were
 * set.
 */
struct loop_timer {
    loop_fn *fn;
    void *ctx;
    int64_t due_ms; /* clock_mono_ms; this and the rest belong to the loop */
    uint64_t seq;   /* order of setting */
    size_t slot;    /* heap position + 1; 0 when not set */
};
/* Sets, or sets anew: that cannot fail. A delay of 0 fires in the next turn, not in this one. */
int loop_timer_set(struct loop *l, struct loop_timer *t, int64_t delay_ms, struct err *err);
void loop_timer_cancel(struct loop *l, struct loop_timer *t); /* not set: nothing happens */

/*
 * Hooks run, in order of adding, after the ready events and timers of a turn and before the next
 * sleep; once also before the first sleep. One that gives work to an earlier hook calls loop_wake.
 */
int loop_before_sleep(struct loop *l, loop_fn *fn, void *ctx, struct err *err);
void loop_before_sleep_del(struct loop *l, loop_fn *fn, void *ctx);
/* The next turn does not sleep: for work that a before-sleep hook leaves behind. */
void loop_wake(struct loop *l);

/*
 * Runs until loop_stop, finishing the turn in which that is called; returns 0, or -1 when epoll
 * itself fails. A stop before the run ends it at once. May be called again.
 */
int loop_run(struct loop *l, struct err *err);
void loop_stop(struct loop *l);

struct loop_stats {
    uint64_t turns;
    int64_t lag_max_us;  /* longest time that one turn's callbacks took, since the last call */
    int64_t lag_last_us; /* the same of the turn before this one */
};
void loop_stats_take(struct loop *l, struct loop_stats *out);

#endif
