/*
 * Shared by the desk and its halves for orders (desk_order.c) and keys (desk_key.c); nobody else's.
 */
#ifndef WORKER_DESK_INTERNAL_H
#define WORKER_DESK_INTERNAL_H

#include <libpq-fe.h>
#include <sys/queue.h>

#include "base/rng.h"
#include "base/uuid.h"
#include "desk.h"
#include "naming/naming.h"
#include "secret/secret.h"
#include "statements.h"
#include "talk.h"
#include "waldur/report.h"
#include "waldur/terms.h"
#include "waldur/translate.h"
#include "waldur/words.h"

enum { ENDPOINTS_MAX = 16 };

enum errand_kind { ERRAND_ORDER, ERRAND_KEY };

/* An order or a key in hand. Waits for one thing at a time: its talk, or a statement. */
struct errand {
    LIST_ENTRY(errand) link;
    struct desk *desk;
    enum errand_kind kind;
    const struct config *config; /* what it borrows from */
    char uuid[UUID_TEXT];        /* of the order or key */
    char resource[UUID_TEXT];    /* "" while it is not known */
    char owner[UUID_TEXT];
    char fence[24];
    int attempts;
    char *delivery;                      /* the clear key, sealed, in hex; NULL: none is kept */
    char prefix[API_KEY_PREFIX_LEN + 1]; /* of that key; "" for none */
    char clear[SECRET_TEXT_MAX + 1];     /* wiped with the errand */
    char *status;                        /* of the subscription; NULL: it has none */

    struct talk talk;
    bool stored, abandoned; /* a statement is under way; drop it when that is back */
    char effect_id[24];

    /* orders */
    char *phase, *order_type, *verdict, *told, *job_class; /* as claimed; NULL: none */
    char job_id[24];
    char *name;       /* frozen for the subscription; NULL: not yet */
    char *backend_id; /* what Waldur was told, or is to be told */
    bool reporting;
    const char **offerings; /* that are ours */
    struct waldur_event event;
    bool has_event;
    char *facts;        /* JSON, of what was read last */
    const char *reason; /* static; why it is left */
    const char *runtime;
    struct waldur_key_told key_told;
    struct waldur_endpoint endpoints[ENDPOINTS_MAX];
    char *endpoint_urls[ENDPOINTS_MAX];
    size_t n_endpoints;
    char *metadata;
    char words[WALDUR_WORDS_MAX]; /* what buyers read */
};

struct desk {
    struct loop *loop;
    struct desk_options o;
    struct pg_listen *listen;
    LIST_HEAD(errand_list, errand) errands;
    size_t n_errands;
    bool claiming, claiming_keys, wanted, more, draining, drained_called;
    bool trouble; /* claims are refused, and it was said */
    struct loop_timer tick, drain;
    loop_fn *drained;
    void *drained_ctx;
    struct rng jitter;
    bool counting;
    int64_t count_due_ms, count_sent_ms;
};

/* Frees it and everything that it waits for. */
void errand_drop(struct errand *e);
/* The first thing in every callback: the answer's first column; NULL: the errand is gone, or is
 * being put off because PostgreSQL refused. */
const char *errand_verdict(struct errand *e, const PGresult *res, const struct err *err);
/* Queues a statement for it; on failure it has been dropped. */
void errand_submit(struct errand *e, enum statement statement, const struct pg_param *params,
                   pg_done_fn *done);
/* The three first parameters of every fenced statement. */
void errand_fence(const struct errand *e, struct pg_param out[3]);
/* Comes again later: by the class of the error, and how often it was tried. */
void errand_put_off(struct errand *e, const struct err *err);
/* What every talk of an errand does: effects are intended and settled, requests ask for the lease.
 */
void errand_intend(void *ctx, const struct exchange_request *request, const char *effect);
void errand_settled(void *ctx, const struct waldur_outcome *outcome);
bool errand_may(void *ctx);
/* 0, or -1 and *err: the clear key out of the delivery. */
int errand_open_key(struct errand *e, struct err *err);

/* From a row of S_WALDUR_CLAIM, S_WALDUR_KEY_CLAIM. They take the errand to its end. */
int desk_order_read(struct errand *e, const PGresult *res, int row);
void desk_order_begin(struct errand *e);
int desk_key_read(struct errand *e, const PGresult *res, int row);
void desk_key_begin(struct errand *e);

#endif
