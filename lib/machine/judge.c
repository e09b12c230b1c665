#include "machine/machine.h"

enum { HOLD_MS = 30 * 1000, DELAY_MIN_MS = 50, TOLD_MAX_MS = 60 * 60 * 1000 };

/* Exponential with full jitter: uniform in [min, min(max, initial * factor^attempts)]. */
static int64_t backoff(const struct retry_policy *p, int attempts, uint64_t random)
{
    double ceiling = (double)p->initial_ms;
    for (int i = 0; i < attempts && ceiling < (double)p->max_ms; i++) {
        ceiling *= p->factor;
    }
    if (ceiling > (double)p->max_ms) {
        ceiling = (double)p->max_ms;
    }
    uint64_t span = ceiling > DELAY_MIN_MS ? (uint64_t)ceiling - DELAY_MIN_MS : 0;
    return DELAY_MIN_MS + (int64_t)(span == 0 ? 0 : random % (span + 1));
}

/* As told, within reason: "at once" from all would be a storm, and "next year" a job forgotten. */
static int64_t throttle(const struct err *err, const struct retry_policy *p, int attempts,
                        uint64_t random)
{
    if (err->retry_after_ms < 0) {
        return backoff(p, attempts, random);
    }
    int64_t least = backoff(p, 0, random);
    int64_t told = err->retry_after_ms < TOLD_MAX_MS ? err->retry_after_ms : TOLD_MAX_MS;
    return told > least ? told : least;
}

struct verdict machine_judge(const struct err *err, int attempts, int64_t deadline_left_ms,
                             const struct retry_policy *policy, uint64_t random)
{
    struct verdict v = {.to = JOB_FAILED, .counts = true};

    switch (err->class) {
    case ERR_UNAVAILABLE:
    case ERR_UNKNOWN:
    case ERR_INTERNAL:
        v.to = JOB_RETRYING;
        v.delay_ms = backoff(policy, attempts, random);
        break;
    case ERR_THROTTLED:
        v.to = JOB_RETRYING;
        v.delay_ms = throttle(err, policy, attempts, random);
        v.counts = false;
        break;
    case ERR_UNAUTHORIZED:
        v.to = JOB_HELD;
        v.delay_ms = HOLD_MS;
        v.counts = false;
        return v;
    case ERR_NONE:
    case ERR_INVALID:
    case ERR_REFUSED:
    case ERR_CONFLICT:
    case ERR_GONE:
    case ERR_CLASS_MAX:
        return v;
    }
    if (deadline_left_ms <= 0) {
        v.to = JOB_FAILED;
        v.delay_ms = 0;
        v.out_of_time = true;
    }
    return v;
}
