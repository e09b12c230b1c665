/*
 * The one Waldur as this process sees it: how it is reached, what is known of it, and whether it is
 * well. After failures in a row, or when it refuses the token, it is left alone for a while and
 * then tried by one; when it asks for patience it gets that. Changes are told once.
 */
#ifndef WORKER_MARKETPLACE_H
#define WORKER_MARKETPLACE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "config/config.h"
#include "metrics.h"
#include "net/http.h"
#include "net/loop.h"
#include "waldur/op.h"

struct marketplace;

/* metrics: borrowed; NULL allowed, for commands. */
struct marketplace *marketplace_new(struct loop *loop, const struct config *config,
                                    struct metrics *metrics, struct err *err);
void marketplace_free(struct marketplace *m);
/* The configuration was read anew: what is down may be tried at once. */
void marketplace_configure(struct marketplace *m, const struct config *config);
bool marketplace_configured(const struct marketplace *m);

/* Borrows from the configuration it has now, which must outlive the operation. */
struct waldur_access marketplace_access(struct marketplace *m);
struct http *marketplace_http(struct marketplace *m);

/* How long no request may leave; 0: one may. While it is tried after a failure one may at a time:
 * in_use is how many are under way. */
int64_t marketplace_pause_ms(const struct marketplace *m, size_t in_use);
/* What an exchange said; the token is taken out of its words. */
void marketplace_report(struct marketplace *m, const struct exchange_response *response,
                        struct waldur_outcome *outcome, int64_t took_ms,
                        enum exchange_method method);

bool marketplace_down(const struct marketplace *m);
/* Appends {"runtime":"waldur",...}, as engine_upstreams_json has them, after a comma where that is
 * asked for; nothing while it is well. */
void marketplace_json(const struct marketplace *m, bool comma, struct buf *out);

#endif
