/*
 * What happens later: a heap of tasks by their time, done with the next call and, where there is a
 * loop, when they are due.
 */
#include "waldur.h"

#include <stdlib.h>

#include "base/clock.h"

struct task {
    int64_t due_ms;
    uint64_t seq; /* those of one time keep their order */
    wd_task_fn *fn;
    void *what;
    void (*drop)(void *what);
};

struct wd_agenda {
    struct task *heap; /* heap[0] is the next one */
    size_t n, cap;
    uint64_t seq;
    struct loop *loop; /* NULL: none */
    struct loop_timer timer;
};

struct wd_agenda *wd_agenda_new(void)
{
    return calloc(1, sizeof(struct wd_agenda));
}

void wd_agenda_free(struct wd_agenda *a)
{
    if (!a)
        return;
    if (a->loop)
        loop_timer_cancel(a->loop, &a->timer);
    for (size_t i = 0; i < a->n; i++)
        a->heap[i].drop(a->heap[i].what);
    free(a->heap);
    free(a);
}

static bool sooner(const struct task *a, const struct task *b)
{
    return a->due_ms != b->due_ms ? a->due_ms < b->due_ms : a->seq < b->seq;
}

static void swap(struct task *a, struct task *b)
{
    struct task other = *a;
    *a = *b;
    *b = other;
}

static void rise(struct wd_agenda *a, size_t i)
{
    for (; i && sooner(&a->heap[i], &a->heap[(i - 1) / 2]); i = (i - 1) / 2)
        swap(&a->heap[i], &a->heap[(i - 1) / 2]);
}

static void sink(struct wd_agenda *a)
{
    size_t i = 0;
    for (;;) {
        size_t least = i;
        for (size_t child = 2 * i + 1; child <= 2 * i + 2 && child < a->n; child++) {
            if (sooner(&a->heap[child], &a->heap[least]))
                least = child;
        }
        if (least == i)
            return;
        swap(&a->heap[i], &a->heap[least]);
        i = least;
    }
}

static struct task take_first(struct wd_agenda *a)
{
    struct task first = a->heap[0];
    a->heap[0] = a->heap[--a->n];
    sink(a);
    return first;
}

/* Setting it anew cannot fail, and the first setting only when memory ends: then tasks wait for the
 * next call. */
static void set_timer(struct wd_agenda *a)
{
    struct err err;
    if (!a->loop || !a->n)
        return;
    int64_t wait = a->heap[0].due_ms - clock_mono_ms();
    (void)loop_timer_set(a->loop, &a->timer, wait > 0 ? wait : 0, &err);
}

void wd_later(struct wd_store *s, int64_t ms, wd_task_fn *fn, void *what, void (*drop)(void *what))
{
    struct wd_agenda *a = s->agenda;
    if (a->n == a->cap) {
        size_t cap = a->cap ? 2 * a->cap : 64;
        struct task *heap = realloc(a->heap, cap * sizeof(*heap));
        if (!heap) {
            drop(what);
            return;
        }
        a->heap = heap;
        a->cap = cap;
    }
    a->heap[a->n] = (struct task){.due_ms = clock_mono_ms() + (ms > 0 ? ms : 0),
                                  .seq = ++a->seq,
                                  .fn = fn,
                                  .what = what,
                                  .drop = drop};
    rise(a, a->n++);
    set_timer(a);
}

void wd_settle(struct wd_store *s)
{
    struct wd_agenda *a = s->agenda;
    enum wd_actor before = s->actor;
    s->now_ms = clock_mono_ms();
    s->actor = WD_SYSTEM;
    while (a->n && a->heap[0].due_ms <= s->now_ms) {
        struct task task = take_first(a);
        task.fn(s, task.what);
    }
    s->actor = before;
    set_timer(a);
}

static void on_timer(void *ctx)
{
    wd_settle(ctx);
}

void wd_agenda_attach(struct wd_store *s, struct loop *loop)
{
    s->agenda->loop = loop;
    s->agenda->timer.fn = on_timer;
    s->agenda->timer.ctx = s;
    set_timer(s->agenda);
}
