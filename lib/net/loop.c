/*
 * One turn: epoll_wait, ready descriptors, due timers, hooks. The sleep ends when the earliest
 * timer is due: epoll_wait's own timeout does that in milliseconds, so no timerfd is needed.
 *
 * Events carry the generation of the watch they were asked for. Deleting a watch ends its
 * generation, so an event that was already fetched for a descriptor closed (and perhaps reused)
 * earlier in the same batch finds another generation in the table and is dropped.
 */
#include "net/loop.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/clock.h"

enum { EVENTS_PER_TURN = 256, TABLE_MIN = 64 };

/* Far enough to be never, near enough not to overflow (100 years). */
static const int64_t delay_max_ms = INT64_C(100) * 366 * 24 * 3600 * 1000;

struct watch {
    loop_fd_fn *fn; /* NULL: not watched */
    void *ctx;
    uint32_t events;
    uint32_t generation;
};

struct hook {
    loop_fn *fn; /* NULL: deleted while hooks ran */
    void *ctx;
};

struct loop {
    int epoll;
    bool stop, wake, hooks_running;
    uint32_t generation;   /* of the newest watch */
    uint64_t seq;          /* of the next timer */
    struct watch *watches; /* by descriptor */
    size_t n_watches;
    struct loop_timer **heap;
    size_t n_timers, heap_cap;
    struct hook hooks[LOOP_HOOKS_MAX];
    size_t n_hooks;
    struct loop_stats stats;
    struct epoll_event ready[EVENTS_PER_TURN];
};

struct loop *loop_new(struct err *err)
{
    struct loop *l = calloc(1, sizeof *l);
    if (!l) {
        err_nomem(err);
        return NULL;
    }
    l->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (l->epoll < 0) {
        err_set(err, ERR_INTERNAL, "cannot create an epoll descriptor: %s", strerror(errno));
        free(l);
        return NULL;
    }
    return l;
}

void loop_free(struct loop *l)
{
    if (!l)
        return;
    close(l->epoll);
    free(l->watches);
    free(l->heap);
    free(l);
}

/* ---- descriptors ---- */

static int table_reserve(struct loop *l, int fd, struct err *err)
{
    size_t n = l->n_watches ? l->n_watches : TABLE_MIN;
    while (n <= (size_t)fd)
        n *= 2;
    if (n == l->n_watches)
        return 0;
    struct watch *watches = realloc(l->watches, n * sizeof *watches);
    if (!watches)
        return err_nomem(err);
    memset(watches + l->n_watches, 0, (n - l->n_watches) * sizeof *watches);
    l->watches = watches;
    l->n_watches = n;
    return 0;
}

static struct watch *watch_of(struct loop *l, int fd)
{
    if (fd < 0 || (size_t)fd >= l->n_watches || !l->watches[fd].fn)
        return NULL;
    return &l->watches[fd];
}

static int control(struct loop *l, int op, int fd, uint32_t events, uint32_t generation,
                   struct err *err)
{
    struct epoll_event e = {.events = events};
    e.data.u64 = (uint64_t)generation << 32 | (uint32_t)fd;
    if (epoll_ctl(l->epoll, op, fd, &e) != 0)
        return err_set(err, ERR_INTERNAL, "cannot watch descriptor %d: %s", fd, strerror(errno));
    return 0;
}

int loop_fd_add(struct loop *l, int fd, uint32_t events, loop_fd_fn *fn, void *ctx, struct err *err)
{
    if (fd < 0 || !fn)
        return err_set(err, ERR_INTERNAL, "cannot watch descriptor %d: not a descriptor", fd);
    if (watch_of(l, fd))
        return err_set(err, ERR_INTERNAL, "descriptor %d is watched already", fd);
    if (table_reserve(l, fd, err) != 0)
        return -1;
    uint32_t generation = ++l->generation;
    if (control(l, EPOLL_CTL_ADD, fd, events, generation, err) != 0)
        return -1;
    l->watches[fd] = (struct watch){fn, ctx, events, generation};
    return 0;
}

int loop_fd_mod(struct loop *l, int fd, uint32_t events, struct err *err)
{
    struct watch *w = watch_of(l, fd);
    if (!w)
        return err_set(err, ERR_INTERNAL, "descriptor %d is not watched", fd);
    if (control(l, EPOLL_CTL_MOD, fd, events, w->generation, err) != 0)
        return -1;
    w->events = events;
    return 0;
}

void loop_fd_del(struct loop *l, int fd)
{
    struct watch *w = watch_of(l, fd);
    if (!w)
        return;
    *w = (struct watch){0};
    /* Fails harmlessly where the descriptor is closed already: the kernel has forgotten it then. */
    (void)epoll_ctl(l->epoll, EPOLL_CTL_DEL, fd, NULL);
}

static void dispatch(struct loop *l, const struct epoll_event *e)
{
    struct watch *w = watch_of(l, (int)(uint32_t)e->data.u64);
    if (!w || w->generation != (uint32_t)(e->data.u64 >> 32))
        return;
    /* The mask may have shrunk since the event was fetched. */
    uint32_t events = e->events & (w->events | EPOLLERR | EPOLLHUP);
    if (events)
        w->fn(w->ctx, events);
}

/* ---- timers: a binary heap of pointers, earliest first ---- */

static bool earlier(const struct loop_timer *a, const struct loop_timer *b)
{
    return a->due_ms != b->due_ms ? a->due_ms < b->due_ms : a->seq < b->seq;
}

static void heap_put(struct loop *l, size_t i, struct loop_timer *t)
{
    l->heap[i] = t;
    t->slot = i + 1;
}

static void sift_up(struct loop *l, size_t i, struct loop_timer *t)
{
    for (; i > 0 && earlier(t, l->heap[(i - 1) / 2]); i = (i - 1) / 2)
        heap_put(l, i, l->heap[(i - 1) / 2]);
    heap_put(l, i, t);
}

static void sift_down(struct loop *l, size_t i, struct loop_timer *t)
{
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= l->n_timers)
            break;
        if (child + 1 < l->n_timers && earlier(l->heap[child + 1], l->heap[child]))
            child++;
        if (!earlier(l->heap[child], t))
            break;
        heap_put(l, i, l->heap[child]);
        i = child;
    }
    heap_put(l, i, t);
}

/* Puts t where it belongs, given that only i may be out of order. */
static void heap_fix(struct loop *l, size_t i, struct loop_timer *t)
{
    if (i > 0 && earlier(t, l->heap[(i - 1) / 2]))
        sift_up(l, i, t);
    else
        sift_down(l, i, t);
}

static int heap_reserve(struct loop *l, struct err *err)
{
    if (l->n_timers < l->heap_cap)
        return 0;
    if (l->n_timers >= LOOP_TIMERS_MAX)
        return err_set(err, ERR_INTERNAL, "too many timers (%d)", LOOP_TIMERS_MAX);
    size_t cap = l->heap_cap ? l->heap_cap * 2 : TABLE_MIN;
    struct loop_timer **heap = realloc(l->heap, cap * sizeof *heap);
    if (!heap)
        return err_nomem(err);
    l->heap = heap;
    l->heap_cap = cap;
    return 0;
}

int loop_timer_set(struct loop *l, struct loop_timer *t, int64_t delay_ms, struct err *err)
{
    if (!t->slot) {
        if (heap_reserve(l, err) != 0)
            return -1;
        t->slot = ++l->n_timers;
    }
    if (delay_ms > delay_max_ms)
        delay_ms = delay_max_ms;
    /* The clock is cut to milliseconds: count from the next one, or the timer would be early. */
    t->due_ms = delay_ms > 0 ? (clock_mono_us() + 999) / 1000 + delay_ms : clock_mono_ms();
    t->seq = l->seq++;
    heap_fix(l, t->slot - 1, t);
    return 0;
}

void loop_timer_cancel(struct loop *l, struct loop_timer *t)
{
    if (!t->slot)
        return;
    size_t i = t->slot - 1;
    t->slot = 0;
    struct loop_timer *last = l->heap[--l->n_timers];
    if (last != t)
        heap_fix(l, i, last);
}

static void run_timers(struct loop *l)
{
    int64_t now = clock_mono_ms();
    uint64_t limit = l->seq;
    /* What is set from here on sorts behind everything that is due, and waits for the next turn. */
    while (l->n_timers > 0 && l->heap[0]->due_ms <= now && l->heap[0]->seq < limit) {
        struct loop_timer *t = l->heap[0];
        loop_timer_cancel(l, t);
        t->fn(t->ctx);
    }
}

static int sleep_ms(const struct loop *l)
{
    if (l->wake)
        return 0;
    if (l->n_timers == 0)
        return -1;
    int64_t left = l->heap[0]->due_ms - clock_mono_ms();
    if (left <= 0)
        return 0;
    return left > INT_MAX ? INT_MAX : (int)left;
}

/* ---- hooks ---- */

int loop_before_sleep(struct loop *l, loop_fn *fn, void *ctx, struct err *err)
{
    if (l->n_hooks == LOOP_HOOKS_MAX)
        return err_set(err, ERR_INTERNAL, "too many before-sleep hooks (%d)", LOOP_HOOKS_MAX);
    l->hooks[l->n_hooks++] = (struct hook){fn, ctx};
    return 0;
}

static void hooks_compact(struct loop *l)
{
    size_t kept = 0;
    for (size_t i = 0; i < l->n_hooks; i++)
        if (l->hooks[i].fn)
            l->hooks[kept++] = l->hooks[i];
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
    if (!l->hooks_running)
        hooks_compact(l);
}

static void run_hooks(struct loop *l)
{
    l->hooks_running = true;
    for (size_t i = 0; i < l->n_hooks; i++)
        if (l->hooks[i].fn)
            l->hooks[i].fn(l->hooks[i].ctx);
    l->hooks_running = false;
    hooks_compact(l);
}

void loop_wake(struct loop *l)
{
    l->wake = true;
}

/* ---- running ---- */

static int turn(struct loop *l, int timeout_ms, struct err *err)
{
    int n = epoll_wait(l->epoll, l->ready, EVENTS_PER_TURN, timeout_ms);
    if (n < 0 && errno != EINTR)
        return err_set(err, ERR_INTERNAL, "epoll_wait: %s", strerror(errno));
    int64_t start = clock_mono_us();
    l->wake = false;
    for (int i = 0; i < n; i++)
        dispatch(l, &l->ready[i]);
    run_timers(l);
    run_hooks(l);
    l->stats.turns++;
    l->stats.lag_last_us = clock_mono_us() - start;
    if (l->stats.lag_last_us > l->stats.lag_max_us)
        l->stats.lag_max_us = l->stats.lag_last_us;
    return 0;
}

int loop_run(struct loop *l, struct err *err)
{
    int rc = 0;
    /* The first turn does not sleep: hooks may hold work from before. */
    for (int timeout_ms = 0; rc == 0 && !l->stop; timeout_ms = sleep_ms(l))
        rc = turn(l, timeout_ms, err);
    l->stop = false;
    return rc;
}

void loop_stop(struct loop *l)
{
    l->stop = true;
}

void loop_stats_take(struct loop *l, struct loop_stats *out)
{
    *out = l->stats;
    l->stats.lag_max_us = 0;
}
