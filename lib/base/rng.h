/*
 * Randomness: the system's source for secrets and ids, a seeded generator for jitter and tests.
 */
#ifndef BASE_RNG_H
#define BASE_RNG_H

#include <stddef.h>
#include <stdint.h>

/* Initialises libsodium; aborts the process where the system has no random source. Idempotent. */
void rng_init(void);
/* Cryptographic bytes; rng_init() must have run. */
void rng_bytes(void *p, size_t n);

/* splitmix64: small, seedable, not for secrets. */
struct rng {
    uint64_t state;
};
void rng_seed(struct rng *r, uint64_t seed);
uint64_t rng_next(struct rng *r);
/* Uniform in [0, bound); 0 for bound 0. */
uint64_t rng_below(struct rng *r, uint64_t bound);

#endif
