/*
 * What the beginning and the end of a world need of its parts.
 */
#ifndef SIM_WORLD_H
#define SIM_WORLD_H

#include <stdint.h>

void random_begin(uint64_t seed);
/* Everything that would still happen only gives its memory back. */
void queue_end(void);
void queue_free(void);
/* Simulated time as a calendar has it. */
int64_t wall_us(void);

#endif
