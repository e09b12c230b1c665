/*
 * Time and chance: one clock, one queue of what will happen, one generator; and the clocks and the
 * randomness that the production code asks for.
 */
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/str.h"
#include "sim.h"
#include "world.h"

struct world world;

/* ---- memory ---- */

void *sim_alloc(size_t n)
{
    void *p = calloc(1, n);
    if (!p) {
        fputs("sim: out of memory\n", stderr);
        abort();
    }
    return p;
}

char *sim_text(const char *s)
{
    size_t n = strlen(s) + 1;
    return memcpy(sim_alloc(n), s, n);
}

/* ---- chance ---- */

uint64_t sim_below(uint64_t bound)
{
    return rng_below(&world.rng, bound);
}

int64_t sim_between(int64_t low, int64_t high)
{
    return low + (int64_t)sim_below((uint64_t)(high - low) + 1);
}

bool sim_chance(double p)
{
    return p > 0 && (double)(rng_next(&world.rng) >> 11) < p * 9007199254740992.0;
}

/* What the production code draws comes from a generator of its own: a fault more or less must not
 * change every id. */
static struct rng bytes;

static const char *source_name(void)
{
    return "simulation";
}

static uint32_t source_random(void)
{
    return (uint32_t)(rng_next(&bytes) >> 32);
}

static void source_buf(void *const buf, const size_t size)
{
    unsigned char *p = buf;
    for (size_t at = 0; at < size; at += sizeof(uint64_t)) {
        uint64_t v = rng_next(&bytes);
        size_t n = size - at < sizeof(v) ? size - at : sizeof(v);
        memcpy(p + at, &v, n);
    }
}

void random_begin(uint64_t seed)
{
    static struct randombytes_implementation source = {
        .implementation_name = source_name, .random = source_random, .buf = source_buf};
    randombytes_set_implementation(&source);
    rng_seed(&bytes, seed ^ UINT64_C(0x5bd1e995c0ffee11));
    rng_seed(&world.rng, seed);
}

/* ---- what will happen ---- */

struct happening {
    int64_t at_us;
    uint64_t tie;
    sim_fn *fn;
    void *ctx;
    uint64_t arg;
};

static struct {
    struct happening *heap;
    size_t n, room;
} queue;

static bool sooner(const struct happening *a, const struct happening *b)
{
    return a->at_us != b->at_us ? a->at_us < b->at_us : a->tie < b->tie;
}

void sim_after(int64_t delay_us, sim_fn *fn, void *ctx, uint64_t arg)
{
    struct happening h = {world.now_us + (delay_us > 0 ? delay_us : 0), rng_next(&world.rng), fn,
                          ctx, arg};
    if (queue.n == queue.room) {
        queue.room = queue.room ? 2 * queue.room : 256;
        queue.heap = realloc(queue.heap, queue.room * sizeof(*queue.heap));
        if (!queue.heap) {
            abort();
        }
    }
    size_t i = queue.n++;
    for (; i > 0 && sooner(&h, &queue.heap[(i - 1) / 2]); i = (i - 1) / 2) {
        queue.heap[i] = queue.heap[(i - 1) / 2];
    }
    queue.heap[i] = h;
}

static struct happening take(void)
{
    struct happening first = queue.heap[0], last = queue.heap[--queue.n];
    size_t i = 0;
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= queue.n) {
            break;
        }
        if (child + 1 < queue.n && sooner(&queue.heap[child + 1], &queue.heap[child])) {
            child++;
        }
        if (!sooner(&queue.heap[child], &last)) {
            break;
        }
        queue.heap[i] = queue.heap[child];
        i = child;
    }
    queue.heap[i] = last;
    return first;
}

bool sim_step(int64_t until_us)
{
    if (queue.n == 0 || queue.heap[0].at_us > until_us) {
        world.now_us = until_us > world.now_us ? until_us : world.now_us;
        return false;
    }
    struct happening h = take();
    world.now_us = h.at_us > world.now_us ? h.at_us : world.now_us;
    h.fn(h.ctx, h.arg, true);
    return true;
}

void queue_end(void)
{
    while (queue.n > 0) {
        struct happening h = take();
        h.fn(h.ctx, h.arg, false);
    }
}

void queue_free(void)
{
    free(queue.heap);
    queue.heap = NULL;
    queue.n = queue.room = 0;
}

/* ---- clocks ---- */

/* 2026-11-21T10:00:00Z */
static const int64_t epoch_us = INT64_C(1795255200) * SECOND;

int64_t wall_us(void)
{
    return epoch_us + world.now_us;
}

int64_t __wrap_clock_mono_us(void);
int64_t __wrap_clock_mono_ms(void);
int64_t __wrap_clock_wall_us(void);

int64_t __wrap_clock_mono_us(void)
{
    return world.current ? proc_mono_us(world.current) : world.now_us;
}

int64_t __wrap_clock_mono_ms(void)
{
    return __wrap_clock_mono_us() / 1000;
}

int64_t __wrap_clock_wall_us(void)
{
    return wall_us() + (world.current ? world.current->wall_offset_us : 0);
}

/* ---- who a process is ---- */

pid_t __wrap_getpid(void);
int __wrap_gethostname(char *name, size_t size);

pid_t __wrap_getpid(void)
{
    return world.current ? 1000 + (pid_t)world.current->serial : 1;
}

int __wrap_gethostname(char *name, size_t size)
{
    snprintf(name, size, "%s", world.current ? world.current->who : "simulation");
    return 0;
}

/* ---- the story ---- */

void sim_say(const char *who, const char *fmt, ...)
{
    if (!world.trace) {
        return;
    }
    va_list ap;
    printf("%12.6f %-9s ", (double)world.now_us / SECOND, who);
    va_start(ap, fmt);
    vprintf(fmt, ap);
    va_end(ap);
    putchar('\n');
}

void sim_breach(const char *fmt, ...)
{
    char text[WORDS_MAX];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    sim_say("BREACH", "%s", text);
    if (!world.breach[0]) {
        snprintf(world.breach, sizeof(world.breach), "at %.6f s: %s", (double)world.now_us / SECOND,
                 text);
    }
}
