/*
 * The executor's half that drives upstreams: slot, driver, intent, request, answer, and round
 * again.
 */
#ifndef WORKER_DRIVE_H
#define WORKER_DRIVE_H

#include <stdint.h>

#include "base/err.h"
#include "machine/machine.h"

struct job;

/* Starts the step's driver towards the goal. */
void drive_begin(struct job *j, enum product product, enum goal goal);
/* Gives slot, driver and timer back; nothing happens where none is held. */
void drive_end(struct job *j);

/* The upstreams' events. */
void drive_granted(void *ctx, struct job *j);
void drive_dismissed(void *ctx, struct job *j, const struct err *err, int64_t hold_ms);
void drive_recovered(void *ctx, const char *runtime);
void drive_probe(void *ctx, const char *runtime);

#endif
