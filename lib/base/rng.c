#include "base/rng.h"

#include <sodium.h>
#include <stdlib.h>

void rng_init(void)
{
    if (sodium_init() < 0)
        abort();
}

void rng_bytes(void *p, size_t n)
{
    randombytes_buf(p, n);
}

void rng_seed(struct rng *r, uint64_t seed)
{
    r->state = seed;
}

uint64_t rng_next(struct rng *r)
{
    uint64_t z = r->state += UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

uint64_t rng_below(struct rng *r, uint64_t bound)
{
    if (bound == 0)
        return 0;
    /* 2^64 mod bound: values below it would make the small remainders more likely. */
    uint64_t skip = (0 - bound) % bound;
    uint64_t v;
    do {
        v = rng_next(r);
    } while (v < skip);
    return v % bound;
}
