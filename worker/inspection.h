/*
 * Runs one driver's inspection on the loop: the operation says which request it wants, and is fed
 * the answer. Where a driver has none, a mere look for what cannot exist tells whether the server
 * is reached, takes the credential and speaks that protocol.
 */
#ifndef WORKER_INSPECTION_H
#define WORKER_INSPECTION_H

#include "driver/driver.h"
#include "net/http.h"
#include "net/loop.h"

struct inspection;

/* err->class is ERR_NONE where it came to its end; else why not, and the report holds what was
 * found until then. May free the inspection. */
typedef void inspection_done_fn(void *ctx, const struct err *err);

/*
 * Of the target url, credential, timeout_ms and settings are used; what it points to, and the
 * report, must outlive the inspection. A site is made where the class has one. done is called once,
 * from the loop. Neither the report nor err holds a secret of the target's when it is called. NULL
 * and *err when nothing could be started.
 */
struct inspection *inspection_start(struct loop *loop, struct http *http,
                                    const struct driver_class *class,
                                    const struct driver_target *target,
                                    struct driver_report *report, inspection_done_fn *done,
                                    void *ctx, struct err *err);
/* Ends it where it stands, without a callback; the report so far holds no secret. NULL allowed. */
void inspection_free(struct inspection *i);

#endif
