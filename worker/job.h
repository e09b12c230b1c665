/*
 * A claimed job as this process holds it: what the claim said, and where its execution stands.
 */
#ifndef WORKER_JOB_H
#define WORKER_JOB_H

#include <libpq-fe.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/log.h"
#include "base/uuid.h"
#include "config/config.h"
#include "driver/driver.h"
#include "event/event.h"
#include "fair.h"
#include "machine/machine.h"
#include "naming/naming.h"
#include "net/loop.h"
#include "plan.h"

struct account;
struct executor;
struct http_call;
struct upstream;

/* What a job waits for. Exactly one thing at a time: that is what makes dropping it safe. */
enum job_wait {
    WAIT_NOTHING,
    WAIT_STORE, /* a statement's callback will come, whatever happens */
    WAIT_SLOT,  /* in an upstream's queue */
    WAIT_HTTP,
    WAIT_TIMER,
};

struct job {
    /* identity and claim */
    int64_t id, fence;
    char id_text[24], fence_text[24];
    char subscription[UUID_TEXT];
    char organization[UUID_TEXT];
    char order[UUID_TEXT];
    char *organization_slug;
    enum job_kind kind;
    enum job_step step;
    int attempts;
    int64_t deadline_mono_ms;
    int64_t age_ms; /* from creation to claim */
    bool takeover;
    char *lane;     /* the runtime under which it was claimed; "" where that was not known */
    int64_t credit; /* what its organization might still have had in that round */
    char traceparent[TRACEPARENT_MAX + 1]; /* never "": a job without one gets one */
    char *spec;                            /* the created event's data; NULL when none is known */

    /* recorded about the subscription; kept up to date as steps are written */
    char *name, *runtime_name, *workspace_id, *collection_id;
    char *tenant_id;                /* the account at RAGFlow whose the collection is */
    char *sealed_keys[PRODUCT_MAX]; /* of accounts at the products, in hex; account.h */
    bool rag_recorded;
    bool collection_asked; /* a change at RAGFlow was ever intended for it */
    char *variables;       /* a JSON object; NULL while nothing is recorded */
    cJSON *variables_due; /* names of those that an order changed, not yet in the workspace; NULL */
    struct open_effect {
        bool any, update;
        int64_t age_ms;  /* of the newest that is no delete, at the claim */
        char *delete_id; /* of the object that one deletes as a whole; NULL: none does */
    } open[PRODUCT_MAX];

    /* execution */
    struct executor *executor;
    struct job *next, *prev; /* the executor's list */
    enum job_wait wait;
    bool abandoned;          /* drop as soon as the wait is over */
    bool failed;             /* being settled as failed */
    enum job_step next_step; /* of the statement under way */
    int64_t claimed_ms, step_started_ms;

    /* a step that drives an upstream */
    enum product product;
    enum goal goal;
    struct upstream *upstream;
    bool has_slot;
    struct fair_item turn; /* in the upstream's queue */
    const struct driver_class *driver;
    struct driver_op *op;
    const struct config *config; /* what op's target borrows from */
    struct driver_target target;
    struct account *account;
    struct plan plan;
    char marker[MARKER_MAX];
    struct exchange_request *request; /* built, not sent yet: kilobytes, so never longer */
    struct http_call *call;
    int64_t effect_id; /* 0: the request under way is a mere look */
    const char *effect;
    char deletes[EXTERNAL_ID_MAX + 1]; /* the whole object that it deletes; "" for none */
    char made_id[EXTERNAL_ID_MAX + 1]; /* of what the answer told, while that is being kept */
    enum exchange_method method;
    int64_t request_started_ms;
    unsigned requests; /* of this claim, for request ids */
    struct loop_timer timer;
};

/* From a row of S_JOBS_CLAIM (statements.h). NULL when memory ends. */
struct job *job_from_row(const PGresult *res, int row, int64_t now_mono_ms);
/* Drops the request that was built; none: nothing happens. */
void job_request_done(struct job *j);
/* Frees what it owns; the caller has ended every wait. */
void job_free(struct job *j);

/* No change of this product is open any more. */
void job_settled(struct job *j, enum product product);

struct facts job_facts(const struct job *j, const struct config *config);
int64_t job_deadline_left_ms(const struct job *j);

/* "p<job>.<fence>.<n>", and the header lines for the next request; n counts up. */
void job_request_id(const struct job *j, char *out, size_t size);
/* The trace of the event with a fresh span of ours. */
void job_traceparent(const struct job *j, char out[TRACEPARENT_MAX + 1]);

/* A log line with the job's whole context before the given fields (at most 8). */
void job_log(const struct job *j, enum log_level level, const char *event,
             const struct log_field *fields);
#define JOB_LOG(j, level, event, ...)                                                              \
    job_log((j), (level), (event), (const struct log_field[]){__VA_ARGS__ __VA_OPT__(, ) LOG_END})

#endif
