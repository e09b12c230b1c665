#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/rng.h"
#include "base/str.h"
#include "net/loop.h"

static struct loop *loop;

static int set_up(void **state)
{
    (void)state;
    loop = loop_new(NULL);
    return loop ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    loop_free(loop);
    return 0;
}

static void run(void)
{
    struct err err;
    if (loop_run(loop, &err) != 0)
        fail_msg("%s", err.msg);
}

static int ready_fd(void)
{
    int fd = eventfd(1, EFD_NONBLOCK | EFD_CLOEXEC);
    assert_true(fd >= 0);
    return fd;
}

static void spin_ms(int64_t ms)
{
    for (int64_t end = clock_mono_us() + ms * 1000; clock_mono_us() < end;)
        ;
}

static void on_stop(void *ctx)
{
    (void)ctx;
    loop_stop(loop);
}

/* ---- timers ---- */

enum { MANY = 500 };

struct tick {
    struct loop_timer timer;
    int64_t fired_us, asked_us, delay_ms;
    int order;
};

static int fired;

static void on_tick(void *ctx)
{
    struct tick *t = ctx;
    t->fired_us = clock_mono_us();
    t->order = fired++;
}

static void tick_set(struct tick *t, int64_t delay_ms)
{
    t->timer.fn = on_tick;
    t->timer.ctx = t;
    t->delay_ms = delay_ms;
    t->asked_us = clock_mono_us();
    t->order = -1;
    assert_int_equal(loop_timer_set(loop, &t->timer, delay_ms, NULL), 0);
}

static void timers_fire_in_order_and_never_early(void **state)
{
    (void)state;
    uint64_t seed = (uint64_t)clock_mono_us();
    print_message("seed %llu\n", (unsigned long long)seed);
    struct rng rng;
    rng_seed(&rng, seed);
    static struct tick ticks[MANY];
    memset(ticks, 0, sizeof ticks);
    fired = 0;
    for (int i = 0; i < MANY; i++)
        tick_set(&ticks[i], (int64_t)rng_below(&rng, 40));
    int cancelled = 0;
    for (int i = 0; i < MANY; i++) {
        uint64_t dice = rng_below(&rng, 4);
        if (dice == 0 && ++cancelled)
            loop_timer_cancel(loop, &ticks[i].timer);
        else if (dice == 1)
            tick_set(&ticks[i], (int64_t)rng_below(&rng, 40));
    }
    struct loop_timer stop = {.fn = on_stop};
    assert_int_equal(loop_timer_set(loop, &stop, 60, NULL), 0);
    run();
    assert_int_equal(fired, MANY - cancelled);
    static const struct tick *by_order[MANY];
    for (int i = 0; i < MANY; i++) {
        if (ticks[i].order < 0)
            continue;
        assert_true(ticks[i].fired_us - ticks[i].asked_us >= ticks[i].delay_ms * 1000);
        by_order[ticks[i].order] = &ticks[i];
    }
    for (int i = 1; i < fired; i++) {
        const struct loop_timer *a = &by_order[i - 1]->timer, *b = &by_order[i]->timer;
        assert_true(a->due_ms < b->due_ms || (a->due_ms == b->due_ms && a->seq < b->seq));
    }
}

/* The last leaf fills the gap and is earlier than its new parent: it must rise. */
static void cancelling_keeps_the_order_across_subtrees(void **state)
{
    (void)state;
    static const int64_t delays[] = {1, 30, 2, 31, 32, 3, 4};
    struct tick ticks[ARRAY_LEN(delays)] = {0};
    fired = 0;
    for (size_t i = 0; i < ARRAY_LEN(delays); i++)
        tick_set(&ticks[i], delays[i]);
    loop_timer_cancel(loop, &ticks[3].timer);
    struct loop_timer stop = {.fn = on_stop};
    assert_int_equal(loop_timer_set(loop, &stop, 40, NULL), 0);
    run();
    static const int order[] = {0, 4, 1, -1, 5, 2, 3};
    for (size_t i = 0; i < ARRAY_LEN(order); i++)
        assert_int_equal(ticks[i].order, order[i]);
}

static struct tick pair[2];

static void cancel_the_other(void *ctx)
{
    struct tick *t = ctx;
    on_tick(t);
    loop_timer_cancel(loop, &pair[t == &pair[0]].timer);
}

static void a_timer_may_cancel_one_that_is_due(void **state)
{
    (void)state;
    memset(pair, 0, sizeof pair);
    fired = 0;
    for (int i = 0; i < 2; i++) {
        tick_set(&pair[i], 5);
        pair[i].timer.fn = cancel_the_other;
    }
    struct loop_timer stop = {.fn = on_stop};
    assert_int_equal(loop_timer_set(loop, &stop, 20, NULL), 0);
    run();
    assert_int_equal(fired, 1);
    assert_int_equal(pair[0].order, 0);
    loop_timer_cancel(loop, &pair[1].timer); /* not set any more */
}

static int repeats;

static void on_repeat(void *ctx)
{
    struct loop_timer *t = ctx;
    if (++repeats == 3)
        loop_stop(loop);
    assert_int_equal(loop_timer_set(loop, t, 0, NULL), 0);
}

static void a_timer_that_sets_itself_does_not_starve_the_turn(void **state)
{
    (void)state;
    repeats = 0;
    struct loop_timer t = {.fn = on_repeat, .ctx = &t};
    assert_int_equal(loop_timer_set(loop, &t, -5, NULL), 0);
    run();
    struct loop_stats stats;
    loop_stats_take(loop, &stats);
    assert_int_equal(repeats, 3);
    assert_int_equal(stats.turns, 3);
    loop_timer_cancel(loop, &t);
}

static void the_farthest_timer_does_not_overflow(void **state)
{
    (void)state;
    struct tick far = {0};
    fired = 0;
    tick_set(&far, INT64_MAX);
    struct loop_timer stop = {.fn = on_stop};
    assert_int_equal(loop_timer_set(loop, &stop, 1, NULL), 0);
    run();
    assert_int_equal(fired, 0);
    loop_timer_cancel(loop, &far.timer);
}

/* ---- descriptors ---- */

struct reader {
    int fd;
    int calls;
    struct reader *other;
    struct reader *successor;
};

static void on_read(void *ctx, uint32_t events)
{
    struct reader *r = ctx;
    uint64_t count;
    assert_true(events & EPOLLIN);
    r->calls++;
    assert_int_equal(read(r->fd, &count, sizeof count), sizeof count);
}

/* Both descriptors are ready in one batch: the first closes the other's, and a new owner gets its
 * number. */
static void on_read_replace(void *ctx, uint32_t events)
{
    struct reader *r = ctx;
    on_read(ctx, events);
    if (!r->other || r->other->fd < 0)
        return;
    int old = r->other->fd;
    loop_fd_del(loop, old);
    close(old);
    r->other->fd = -1;
    r->successor->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    assert_int_equal(r->successor->fd, old);
    assert_int_equal(loop_fd_add(loop, old, EPOLLIN, on_read, r->successor, NULL), 0);
}

static void stale_events_do_not_reach_a_new_owner(void **state)
{
    (void)state;
    struct reader successor = {.fd = -1};
    struct reader a = {.fd = ready_fd(), .successor = &successor};
    struct reader b = {.fd = ready_fd(), .successor = &successor};
    a.other = &b;
    b.other = &a;
    assert_int_equal(loop_fd_add(loop, a.fd, EPOLLIN, on_read_replace, &a, NULL), 0);
    assert_int_equal(loop_fd_add(loop, b.fd, EPOLLIN, on_read_replace, &b, NULL), 0);
    struct loop_timer stop = {.fn = on_stop};
    assert_int_equal(loop_timer_set(loop, &stop, 20, NULL), 0);
    run();
    assert_int_equal(a.calls + b.calls, 1);
    assert_int_equal(successor.calls, 0);

    /* The new owner's own events do arrive. */
    uint64_t one = 1;
    assert_int_equal(write(successor.fd, &one, sizeof one), sizeof one);
    assert_int_equal(loop_timer_set(loop, &stop, 5, NULL), 0);
    run();
    assert_int_equal(successor.calls, 1);
    loop_fd_del(loop, successor.fd);
    close(successor.fd);
    int left = a.fd >= 0 ? a.fd : b.fd;
    loop_fd_del(loop, left);
    close(left);
}

static void on_read_mute_other(void *ctx, uint32_t events)
{
    struct reader *r = ctx;
    on_read(ctx, events);
    assert_int_equal(loop_fd_mod(loop, r->other->fd, 0, NULL), 0);
}

static void a_changed_mask_holds_for_events_already_fetched(void **state)
{
    (void)state;
    struct reader a = {.fd = ready_fd()}, b = {.fd = ready_fd(), .other = &a};
    a.other = &b;
    assert_int_equal(loop_fd_add(loop, a.fd, EPOLLIN, on_read_mute_other, &a, NULL), 0);
    assert_int_equal(loop_fd_add(loop, b.fd, EPOLLIN, on_read_mute_other, &b, NULL), 0);
    struct loop_timer stop = {.fn = on_stop};
    assert_int_equal(loop_timer_set(loop, &stop, 10, NULL), 0);
    run();
    assert_int_equal(a.calls + b.calls, 1);
    loop_fd_del(loop, a.fd);
    loop_fd_del(loop, b.fd);
    close(a.fd);
    close(b.fd);
}

static void wrong_descriptors_are_refused(void **state)
{
    (void)state;
    struct err err;
    struct reader r = {.fd = ready_fd()};
    assert_int_equal(loop_fd_add(loop, -1, EPOLLIN, on_read, &r, &err), -1);
    assert_int_equal(loop_fd_mod(loop, r.fd, EPOLLIN, &err), -1);
    assert_int_equal(err.class, ERR_INTERNAL);
    assert_int_equal(loop_fd_add(loop, r.fd, EPOLLIN, on_read, &r, &err), 0);
    assert_int_equal(loop_fd_add(loop, r.fd, EPOLLIN, on_read, &r, &err), -1);
    loop_fd_del(loop, r.fd);
    loop_fd_del(loop, r.fd);
    loop_fd_del(loop, 100000);
    loop_fd_del(loop, -1);
    close(r.fd);
    assert_int_equal(loop_fd_add(loop, r.fd, EPOLLIN, on_read, &r, &err), -1);
}

static void high_descriptors_grow_the_table(void **state)
{
    (void)state;
    int low = ready_fd(), high = dup2(low, 900);
    assert_int_equal(high, 900);
    struct reader r = {.fd = high};
    assert_int_equal(loop_fd_add(loop, high, EPOLLIN, on_read, &r, NULL), 0);
    struct loop_timer stop = {.fn = on_stop};
    assert_int_equal(loop_timer_set(loop, &stop, 5, NULL), 0);
    run();
    assert_int_equal(r.calls, 1);
    loop_fd_del(loop, high);
    close(high);
    close(low);
}

/* ---- hooks ---- */

static struct buf_text {
    char text[64];
    size_t len;
} seen;

static void note(char c)
{
    assert_true(seen.len + 1 < sizeof seen.text);
    seen.text[seen.len++] = c;
    seen.text[seen.len] = 0;
}

static void hook_a(void *ctx)
{
    (void)ctx;
    note('a');
}

static void hook_c(void *ctx)
{
    (void)ctx;
    note('c');
}

/* Deletes itself and the first, adds a new one, which still runs in this turn. */
static void hook_b(void *ctx)
{
    (void)ctx;
    note('b');
    loop_before_sleep_del(loop, hook_b, NULL);
    loop_before_sleep_del(loop, hook_a, NULL);
    assert_int_equal(loop_before_sleep(loop, hook_c, NULL, NULL), 0);
    loop_wake(loop);
}

static void on_note_t(void *ctx)
{
    (void)ctx;
    note('t');
    loop_stop(loop);
}

static void hooks_run_in_order_before_the_sleep(void **state)
{
    (void)state;
    memset(&seen, 0, sizeof seen);
    assert_int_equal(loop_before_sleep(loop, hook_a, NULL, NULL), 0);
    assert_int_equal(loop_before_sleep(loop, hook_b, NULL, NULL), 0);
    struct loop_timer stop = {.fn = on_note_t};
    assert_int_equal(loop_timer_set(loop, &stop, 20, NULL), 0);
    run();
    /* Before the first sleep; again after loop_wake; and at the end of the turn that stops. */
    assert_string_equal(seen.text, "abcctc");
    loop_before_sleep_del(loop, hook_c, NULL);
    loop_before_sleep_del(loop, hook_c, NULL);
}

static void hooks_are_bounded(void **state)
{
    (void)state;
    for (int i = 0; i < LOOP_HOOKS_MAX; i++)
        assert_int_equal(loop_before_sleep(loop, hook_a, NULL, NULL), 0);
    assert_int_equal(loop_before_sleep(loop, hook_a, NULL, NULL), -1);
    for (int i = 0; i < LOOP_HOOKS_MAX; i++)
        loop_before_sleep_del(loop, hook_a, NULL);
    assert_int_equal(loop_before_sleep(loop, hook_a, NULL, NULL), 0);
    loop_before_sleep_del(loop, hook_a, NULL);
}

/* ---- the rest ---- */

static void on_busy(void *ctx)
{
    (void)ctx;
    spin_ms(15);
    loop_stop(loop);
}

static int64_t cpu_us(void)
{
    struct timespec t;
    assert_int_equal(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t), 0);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static void stats_tell_the_work_and_not_the_sleep(void **state)
{
    (void)state;
    struct loop_stats stats;
    struct loop_timer t = {.fn = on_stop};
    assert_int_equal(loop_timer_set(loop, &t, 150, NULL), 0);
    int64_t cpu = cpu_us();
    run();
    assert_true(cpu_us() - cpu < 30000);
    loop_stats_take(loop, &stats);
    assert_int_equal(stats.turns, 2);
    assert_true(stats.lag_max_us < 120000);

    t.fn = on_busy;
    assert_int_equal(loop_timer_set(loop, &t, 1, NULL), 0);
    run();
    loop_stats_take(loop, &stats);
    assert_true(stats.lag_max_us >= 15000);
    assert_true(stats.lag_last_us >= 15000);
    loop_stats_take(loop, &stats);
    assert_int_equal(stats.lag_max_us, 0);
}

static void a_stop_before_the_run_ends_it_once(void **state)
{
    (void)state;
    struct loop_stats stats;
    loop_stop(loop);
    run();
    loop_stats_take(loop, &stats);
    assert_int_equal(stats.turns, 0);
    struct loop_timer stop = {.fn = on_stop};
    assert_int_equal(loop_timer_set(loop, &stop, 1, NULL), 0);
    run();
    loop_stats_take(loop, &stats);
    assert_true(stats.turns >= 1);
    loop_free(NULL);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(timers_fire_in_order_and_never_early),
        CASE(cancelling_keeps_the_order_across_subtrees),
        CASE(a_timer_may_cancel_one_that_is_due),
        CASE(a_timer_that_sets_itself_does_not_starve_the_turn),
        CASE(the_farthest_timer_does_not_overflow),
        CASE(stale_events_do_not_reach_a_new_owner),
        CASE(a_changed_mask_holds_for_events_already_fetched),
        CASE(wrong_descriptors_are_refused),
        CASE(high_descriptors_grow_the_table),
        CASE(hooks_run_in_order_before_the_sleep),
        CASE(hooks_are_bounded),
        CASE(stats_tell_the_work_and_not_the_sleep),
        CASE(a_stop_before_the_run_ends_it_once),
    };
    alarm(60);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
