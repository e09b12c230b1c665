/*
 * The machine: what a job is, which states it may pass through, which steps its kind has and what
 * each step does; and what a failure means for it. Pure data and pure functions; the shell acts.
 * The tables job_plan and job_edge in migrations/ hold the same data; a test compares them.
 */
#ifndef MACHINE_MACHINE_H
#define MACHINE_MACHINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

enum job_state {
    JOB_QUEUED,
    JOB_RUNNING,
    JOB_RETRYING,
    JOB_HELD,
    JOB_FAILED,
    JOB_SUPERSEDED,
    JOB_SUCCEEDED,
    JOB_CANCELLED,
    JOB_STATE_MAX
};

enum job_kind {
    KIND_PROVISION,
    KIND_UPDATE,
    KIND_SUSPEND,
    KIND_RESUME,
    KIND_TERMINATE,
    KIND_PURGE,
    KIND_MAX
};

enum job_step {
    STEP_NAME,
    STEP_ANNOUNCE,
    STEP_COLLECTION,
    STEP_WORKSPACE,
    STEP_API_KEY,
    STEP_RECORD,
    STEP_REPORT,
    STEP_CLOSE_WORKSPACE,
    STEP_OPEN_WORKSPACE,
    STEP_REVOKE,
    STEP_ARCHIVE,
    STEP_CHAT_HISTORY,
    STEP_MAX
};

/* Names as in the database; parse returns the MAX value for what is none. */
const char *job_state_name(enum job_state s);
enum job_state job_state_parse(const char *name);
const char *job_kind_name(enum job_kind k);
enum job_kind job_kind_parse(const char *name);
const char *job_step_name(enum job_step s);
enum job_step job_step_parse(const char *name);

/* May a job go from one state to the other? */
bool machine_may(enum job_state from, enum job_state to);
/* A live job still works or waits; a subscription has at most one. */
bool machine_live(enum job_state s);

enum product { PRODUCT_LANGFLOW, PRODUCT_RAGFLOW, PRODUCT_MAX };
const char *product_name(enum product p);

/* What an upstream object shall be after a step. */
enum goal { GOAL_PRESENT, GOAL_CLOSED, GOAL_ABSENT };

/* What the shell does for a step. */
enum action_kind {
    ACTION_FREEZE_NAME, /* choose runtime and name, write AgentConfig */
    ACTION_DRIVE,       /* run the product's driver towards the goal, record the id */
    ACTION_ISSUE_KEY,
    ACTION_REVOKE_KEYS,
    ACTION_REFUSE_KEYS, /* for as long as it is suspended */
    ACTION_RECORD_READY,
    ACTION_RECORD_SUSPENDED,
    ACTION_ARCHIVE, /* archived, or purged where no workspace is left */
    ACTION_TELL_WALDUR,
    ACTION_PASS, /* nothing to do in this case */
};

struct action {
    enum action_kind kind;
    enum product product; /* ACTION_DRIVE */
    enum goal goal;       /* ACTION_DRIVE */
};

/* What is recorded about a subscription, as far as steps depend on it. */
struct facts {
    bool named;          /* AgentConfig has a row: something may exist upstream */
    bool rag;            /* the subscription uses retrieval */
    bool has_collection; /* one is recorded, or was ever asked for: it may have landed late */
    bool keep_history;   /* chat history outlives the termination */
    bool waldur;         /* there is a Waldur to tell */
};

/* The steps of a kind, in order. */
const enum job_step *machine_plan(enum job_kind kind, size_t *n);
/* The step after this one; STEP_MAX after the last, or when the kind has no such step. */
enum job_step machine_next(enum job_kind kind, enum job_step step);
/* What to do for a step in the light of the facts. */
struct action machine_action(enum job_kind kind, enum job_step step, const struct facts *facts);

struct retry_policy {
    int64_t initial_ms, max_ms;
    double factor;
};

struct verdict {
    enum job_state to; /* JOB_RETRYING, JOB_HELD or JOB_FAILED */
    int64_t delay_ms;  /* until the next attempt */
    bool counts;       /* it used up an attempt */
    bool out_of_time;  /* failed only because the deadline has passed */
};

/*
 * What a failed attempt means. attempts: those of this step so far, this one not counted. random:
 * any 64 random bits (full jitter). The deadline bounds retries, never holds.
 */
struct verdict machine_judge(const struct err *err, int attempts, int64_t deadline_left_ms,
                             const struct retry_policy *policy, uint64_t random);

/* The machine as Mermaid diagrams: states, and the steps of each kind. */
int machine_mermaid(struct buf *out);

#endif
