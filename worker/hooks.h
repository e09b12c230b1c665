/*
 * Waldur's webhooks: POST /hooks/waldur/SECRET. Nobody signs them, so the secret in the path is
 * what a sender proves itself by, and what it says is only a hint: which order, resource or key to
 * look at. 202 once that is durable, 400 and where it is wrong for what is no body of Waldur's, 404
 * for a wrong secret as for any path that there is not, 503 and Retry-After while the database is
 * away.
 *
 * Hints have a connection of their own, so that an answer waits for one commit and not behind the
 * statements of jobs.
 */
#ifndef WORKER_HOOKS_H
#define WORKER_HOOKS_H

#include "base/err.h"
#include "config/config.h"
#include "metrics.h"
#include "net/httpd.h"
#include "net/loop.h"
#include "waldur/hook.h"

struct hooks;

struct hooks_options {
    const struct config *config; /* borrowed until hooks_configure brings another */
    struct metrics *metrics;     /* borrowed */
    void *ctx;
    loop_fn *on_hint; /* one is durable: look soon. NULL allowed */
};

struct hooks *hooks_new(struct loop *loop, const struct hooks_options *options, struct err *err);
/* After the server that has its route is gone. */
void hooks_free(struct hooks *h);
/* The configuration was read anew. */
void hooks_configure(struct hooks *h, const struct config *config);

/* The kind of hint (waldur_hint) that it is kept as; NULL: nothing that is looked at. Static. */
const char *hooks_kind(const struct hook *hook);

/* To be served; valid as long as h. */
struct httpd_route hooks_route(struct hooks *h);

#endif
