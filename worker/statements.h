/*
 * The prepared statements of the pipelined connection, by index. Parameters are text; the order is
 * that of the SQL functions in migrations/.
 */
#ifndef WORKER_STATEMENTS_H
#define WORKER_STATEMENTS_H

#include <stddef.h>

#include "store/pg.h"

enum statement {
    S_INBOX_TAKE, /* source, id, type, subscription, organization, order, time, data, traceparent,
                     topic, partition, offset, deadline_ms, runtime_name */
    S_DEAD_LETTER_ADD, /* topic, partition, offset, time, key, value, value_bytes, headers, pointer,
                          reason, replays -> id, published */
    S_DEAD_LETTER_PUBLISHED,   /* id */
    S_WORKER_REGISTER,         /* owner, host, pid, version, lease_ms */
    S_WORKER_RENEW,            /* owner, lease_ms */
    S_WORKER_LEAVE,            /* owner */
    S_JOBS_CLAIM,              /* owner, limit, after, share, only, careful, policy -> see job.c */
    S_JOBS_BACK,               /* owner, jobs, fences -> those that are still ours */
    S_STEP_PASS,               /* job, owner, fence, deadline_ms, next */
    S_STEP_NAME,               /* ..., name, runtime, runtime_name, config, runtime_max */
    S_STEP_RESOURCE,           /* ..., product, external_id, detail, sealed */
    S_STEP_API_KEY,            /* ..., prefix, hash, sealed, terms */
    S_STEP_API_KEY_FOR_WALDUR, /* ..., prefix, hash, sealed, terms, sealed for the delivery */
    S_STEP_READY,
    S_STEP_REVOKE, /* ..., runtime_max */
    S_STEP_REFUSE, /* ..., runtime_max */
    S_STEP_SUSPENDED,
    S_STEP_ARCHIVE,
    S_STEP_ANNOUNCE,
    S_STEP_REPORT,
    S_JOB_SETTLE,    /* job, owner, fence, deadline_ms, to, attempts, delay_ms, class, error */
    S_EFFECT_INTEND, /* job, owner, fence, deadline_ms, product, operation, method, target, name,
                        marker, sha256, request_id, object -> verdict, effect_id */
    S_EFFECT_SETTLE, /* effect, fence, state, external_id, http_status, class, error */
    S_RUNTIME_KEEP,  /* job, owner, fence, deadline_ms, product, external_id, tenant, sealed */
    S_JOBS_RELEASE,  /* runtime_name (NULL: all), how many (NULL) -> the former, whether there are
                        more */
    S_OUTBOX_CLAIM,  /* owner, limit -> id, subscription, type, payload */
    S_OUTBOX_DONE,   /* ids */
    S_OUTBOX_BACK,   /* ids */
    S_OUTBOX_FORGET, /* owner, ids that it keeps */
    S_WALDUR_HINT,   /* kind, source, order, resource, key */
    S_WALDUR_CLAIM,  /* owner, limit, orders in hand -> see desk.c */
    S_WALDUR_ACCEPT, /* order, owner, fence, facts, name, organization_max, approved -> verdict,
                        name */
    S_WALDUR_TAKE,   /* order, owner, fence, facts, backend_id, source, event_id, type,
                        subscription, organization, time, data, deadline_ms, runtime_name */
    S_WALDUR_LEAVE,  /* order, owner, fence, facts, phase, reason, detail */
    S_WALDUR_CLOSED, /* order, owner, fence, facts, state, source, event_id, time, data,
                        deadline_ms */
    S_WALDUR_WAIT,   /* order, owner, fence, delay_ms, counts, class, error */
    S_WALDUR_TOLD,   /* order, owner, fence, state, backend_id, delivered prefix */
    S_WALDUR_INTEND, /* order or key, owner, fence, operation, method, target, sha256, request_id
                        -> verdict, effect_id */
    S_WALDUR_SETTLE, /* effect, fence, state, http_status, class, error */
    S_WALDUR_KEY_CLAIM,    /* owner, limit, keys in hand -> see desk.c */
    S_WALDUR_KEY_KEEP,     /* key, owner, fence, prefix, hash, sealed, sealed for the delivery */
    S_WALDUR_KEY_LIVE,     /* key, owner, fence */
    S_WALDUR_KEY_END,      /* key, owner, fence, phase, reason */
    S_WALDUR_KEY_WAIT,     /* key, owner, fence, delay_ms, counts, class, error */
    S_WALDUR_SWEEP_BEGIN,  /* owner, every_ms, asked_ms -> fence, modified_from */
    S_WALDUR_SWEEP_ORDERS, /* owner, fence, open orders -> how many hints */
    S_WALDUR_SWEEP_END,    /* owner, fence, modified_from, error */
    S_WALDUR_PAUSED,       /* subscription, source, event_id, type, time, data, deadline_ms */
    S_WALDUR_COUNTS,       /* -> what, reason, count */
    S_COUNTS,              /* exact up to -> what, count: states, 'outbox', 'pause.<scope>' */
    S_SCHEMA_VERSION,      /* -> newest migration */
    STATEMENT_MAX
};

extern const struct pg_statement statements[STATEMENT_MAX];

#endif
