/*
 * The lanes of claims, one for each runtime ("" for what needs none yet): how many jobs of each
 * this process takes, and where the round between organizations goes on.
 */
#ifndef WORKER_LANES_H
#define WORKER_LANES_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "config/config.h"
#include "executor.h"

struct lanes;

/* NULL when memory ends. */
struct lanes *lanes_new(void);
void lanes_free(struct lanes *l);

/* A claimed job: the round stands at its organization, which may still have `credit` in it. What
 * memory does not allow is forgotten, and costs a little fairness. */
void lanes_served(struct lanes *l, const char *lane, const char *organization, int64_t credit);

/*
 * How many more jobs of a lane this process takes: where there are several, each may have half of
 * what the others leave, so that no slow runtime ever holds all places. Pure; exposed for its test.
 */
size_t lanes_room(size_t places, size_t in_hand, size_t in_lane);

/* The parameter p_policy of jobs_claim, appended to out. */
void lanes_policy(const struct lanes *l, const struct config *config, struct executor *x,
                  struct buf *out);

#endif
