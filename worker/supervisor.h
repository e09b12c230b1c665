/*
 * The supervisor's protocol (sd_notify(3), systemd 252): readiness, stopping, and a watchdog that
 * the loop feeds, so that a process whose loop hangs is started anew. Without $NOTIFY_SOCKET
 * nothing happens.
 */
#ifndef WORKER_SUPERVISOR_H
#define WORKER_SUPERVISOR_H

#include "base/err.h"
#include "net/loop.h"

struct supervisor;

/* Reads $NOTIFY_SOCKET, $WATCHDOG_USEC and $WATCHDOG_PID; starts feeding the watchdog from the
 * loop. */
struct supervisor *supervisor_new(struct loop *loop, struct err *err);
void supervisor_free(struct supervisor *s);

/* One assignment, e.g. "READY=1"; never blocks, and a failure does not matter. */
void supervisor_tell(const struct supervisor *s, const char *assignment);

#endif
