/*
 * The watermark against a naive model, and the cases that offsets bring: gaps, rewinds, partitions
 * that go and come back.
 */
#include "watermark.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/rng.h"
#include "base/str.h"

enum { PARTITIONS = 3, MODEL_MAX = 20000, TICKETS_MAX = 512, WINDOW = 200 };

static struct watermark *fresh(size_t max)
{
    struct err err;
    struct watermark *w = watermark_new(max, &err);
    assert_non_null(w);
    return w;
}

static struct watermark_ticket take(struct watermark *w, int32_t partition, int64_t offset)
{
    struct watermark_ticket t;
    assert_int_equal(watermark_take(w, partition, offset, &t), WATERMARK_NEW);
    return t;
}

static void test_in_order(void **state)
{
    (void)state;
    struct err err;
    struct watermark *w = fresh(10);
    assert_int_equal(watermark_assign(w, 0, &err), 0);
    for (int64_t offset = 5; offset < 100; offset++) {
        struct watermark_ticket t = take(w, 0, offset);
        assert_int_equal(watermark_finish(w, &t), offset + 1);
        assert_int_equal(watermark_finish(w, &t), -1);
    }
    watermark_free(w);
}

static void test_out_of_order_and_gaps(void **state)
{
    (void)state;
    struct err err;
    struct watermark *w = fresh(10);
    assert_int_equal(watermark_assign(w, 2, &err), 0);
    struct watermark_ticket a = take(w, 2, 0), b = take(w, 2, 7), c = take(w, 2, 1000);
    assert_int_equal(watermark_width(w, 2), 3);
    assert_int_equal(watermark_finish(w, &c), -1);
    assert_int_equal(watermark_finish(w, &a), 1);
    assert_int_equal(watermark_finish(w, &b), 1001);
    assert_int_equal(watermark_width(w, 2), 0);
    watermark_free(w);
}

static void test_revoked_tickets_count_no_more(void **state)
{
    (void)state;
    struct err err;
    struct watermark *w = fresh(10);
    struct watermark_ticket t;
    assert_int_equal(watermark_take(w, 1, 5, &t), WATERMARK_FOREIGN);
    assert_int_equal(watermark_assign(w, 1, &err), 0);
    struct watermark_ticket old = take(w, 1, 5);
    watermark_revoke(w, 1);
    assert_int_equal(watermark_finish(w, &old), -1);
    assert_int_equal(watermark_take(w, 1, 6, &t), WATERMARK_FOREIGN);
    assert_int_equal(watermark_assign(w, 1, &err), 0);
    struct watermark_ticket again = take(w, 1, 5);
    assert_int_equal(watermark_finish(w, &old), -1);
    assert_int_equal(watermark_width(w, 1), 1);
    assert_int_equal(watermark_finish(w, &again), 6);
    watermark_free(w);
}

static void test_delivered_again(void **state)
{
    (void)state;
    struct err err;
    struct watermark *w = fresh(10);
    assert_int_equal(watermark_assign(w, 0, &err), 0);
    struct watermark_ticket a = take(w, 0, 10), b = take(w, 0, 12), t;
    assert_int_equal(watermark_take(w, 0, 10, &t), WATERMARK_KNOWN);
    assert_int_equal(watermark_finish(w, &b), -1);
    assert_int_equal(watermark_take(w, 0, 12, &t), WATERMARK_KNOWN);
    /* The log began anew: nothing from before may move the offset any more. */
    struct watermark_ticket c = take(w, 0, 3);
    assert_int_equal(watermark_finish(w, &a), -1);
    assert_int_equal(watermark_finish(w, &c), 4);
    watermark_free(w);
}

static void test_bounds(void **state)
{
    (void)state;
    struct err err;
    struct watermark *w = fresh(3);
    struct watermark_ticket t, first;
    assert_int_equal(watermark_assign(w, WATERMARK_PARTITIONS_MAX, &err), -1);
    assert_int_equal(watermark_assign(w, -1, &err), -1);
    assert_int_equal(watermark_assign(w, 9, &err), 0);
    first = take(w, 9, 1);
    take(w, 9, 2);
    take(w, 9, 3);
    assert_int_equal(watermark_take(w, 9, 4, &t), WATERMARK_FULL);
    assert_int_equal(watermark_finish(w, &first), 2);
    take(w, 9, 4);
    assert_int_equal(watermark_widest(w), 3);
    assert_int_equal(watermark_width(w, 0), 0);
    assert_int_equal(watermark_take(w, -1, 4, &t), WATERMARK_FOREIGN);
    watermark_free(w);
    watermark_free(NULL);
}

static void test_a_wide_window_is_given_back(void **state)
{
    (void)state;
    enum { N = 20000 };
    struct err err;
    struct watermark *w = fresh(N);
    struct watermark_ticket *t = calloc(N, sizeof(*t));
    assert_non_null(t);
    assert_int_equal(watermark_assign(w, 0, &err), 0);
    for (int i = 0; i < N; i++) {
        t[i] = take(w, 0, i);
    }
    for (int i = N - 1; i > 0; i--) {
        assert_int_equal(watermark_finish(w, &t[i]), -1);
    }
    assert_int_equal(watermark_finish(w, &t[0]), N);
    t[0] = take(w, 0, N);
    assert_int_equal(watermark_finish(w, &t[0]), N + 1);
    free(t);
    watermark_free(w);
}

/* ---- the naive model ---- */

struct model {
    bool assigned;
    int64_t offsets[MODEL_MAX]; /* all that was taken since the partition came or began anew */
    bool finished[MODEL_MAX];
    size_t n;
    int64_t stored; /* -1: nothing yet */
};

struct held {
    struct watermark_ticket ticket;
    int64_t model_n; /* index in the model, -1 when it began anew since */
};

struct world {
    struct watermark *w;
    struct rng rng;
    struct model models[PARTITIONS];
    int64_t log[PARTITIONS]; /* next offset that the broker delivers */
    struct held held[TICKETS_MAX];
    size_t n_held;
};

static int64_t model_low_water(const struct model *m)
{
    int64_t next = -1;
    for (size_t i = 0; i < m->n && m->finished[i]; i++) {
        next = m->offsets[i] + 1;
    }
    return next;
}

static size_t model_width(const struct model *m)
{
    size_t i = 0;
    while (i < m->n && m->finished[i]) {
        i++;
    }
    return m->n - i;
}

static void forget(struct world *x, int partition)
{
    x->models[partition].n = 0;
    x->models[partition].stored = -1;
    for (size_t i = 0; i < x->n_held; i++) {
        if (x->held[i].ticket.partition == partition) {
            x->held[i].model_n = -1;
        }
    }
}

static void step_take(struct world *x, int partition)
{
    struct model *m = &x->models[partition];
    struct watermark_ticket t;
    int64_t offset = x->log[partition] + (int64_t)rng_below(&x->rng, 3);
    if (!m->assigned) {
        assert_int_equal(watermark_take(x->w, partition, offset, &t), WATERMARK_FOREIGN);
        return;
    }
    if (x->n_held == TICKETS_MAX || m->n == MODEL_MAX) {
        return;
    }
    if (model_width(m) == WINDOW) {
        assert_int_equal(watermark_take(x->w, partition, offset, &t), WATERMARK_FULL);
        return;
    }
    assert_int_equal(watermark_take(x->w, partition, offset, &t), WATERMARK_NEW);
    x->log[partition] = offset + 1;
    m->offsets[m->n] = offset;
    m->finished[m->n] = false;
    x->held[x->n_held++] = (struct held){t, (int64_t)m->n++};
}

static void step_finish(struct world *x)
{
    if (x->n_held == 0) {
        return;
    }
    size_t i = rng_below(&x->rng, x->n_held);
    struct held h = x->held[i];
    x->held[i] = x->held[--x->n_held];
    struct model *m = &x->models[h.ticket.partition];
    int64_t expected = -1;
    if (h.model_n >= 0) {
        m->finished[h.model_n] = true;
        int64_t low = model_low_water(m);
        if (low > m->stored) {
            expected = m->stored = low;
        }
    }
    assert_int_equal(watermark_finish(x->w, &h.ticket), expected);
    assert_int_equal(watermark_finish(x->w, &h.ticket), -1);
}

/* The partition goes, or comes back at what was stored, or at some other place. */
static void step_rebalance(struct world *x, int partition)
{
    struct model *m = &x->models[partition];
    struct err err;
    if (m->assigned) {
        watermark_revoke(x->w, partition);
        x->log[partition] = m->stored >= 0 ? m->stored : (int64_t)rng_below(&x->rng, 50);
    } else {
        assert_int_equal(watermark_assign(x->w, partition, &err), 0);
    }
    m->assigned = !m->assigned;
    forget(x, partition);
}

static void check_widths(const struct world *x)
{
    size_t widest = 0;
    for (int p = 0; p < PARTITIONS; p++) {
        size_t width = x->models[p].assigned ? model_width(&x->models[p]) : 0;
        assert_int_equal(watermark_width(x->w, p), width);
        widest = width > widest ? width : widest;
    }
    assert_int_equal(watermark_widest(x->w), widest);
}

static void test_model(void **state)
{
    (void)state;
    const char *given = getenv("TEST_SEED");
    int64_t seed = clock_wall_us();
    if (given) {
        assert_true(str_to_i64(given, &seed));
    }
    printf("TEST_SEED=%lld\n", (long long)seed);
    struct world *x = calloc(1, sizeof(*x));
    assert_non_null(x);
    x->w = fresh(WINDOW);
    rng_seed(&x->rng, (uint64_t)seed);
    for (int p = 0; p < PARTITIONS; p++) {
        x->models[p].stored = -1;
    }
    /* Taking is now likelier than finishing, now not: windows fill up and empty. */
    for (int i = 0; i < 60000; i++) {
        int partition = (int)rng_below(&x->rng, PARTITIONS);
        uint64_t dice = rng_below(&x->rng, 1000);
        if (dice < 2) {
            step_rebalance(x, partition);
        } else if (dice < (i / 2000 % 2 ? 350U : 650U)) {
            step_take(x, partition);
        } else {
            step_finish(x);
        }
        check_widths(x);
    }
    watermark_free(x->w);
    free(x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_in_order),
        cmocka_unit_test(test_out_of_order_and_gaps),
        cmocka_unit_test(test_revoked_tickets_count_no_more),
        cmocka_unit_test(test_delivered_again),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_a_wide_window_is_given_back),
        cmocka_unit_test(test_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
