#include "machine/machine.h"

#include "base/str.h"

static const char *const state_names[JOB_STATE_MAX] = {
    [JOB_QUEUED] = "queued",       [JOB_RUNNING] = "running",     [JOB_RETRYING] = "retrying",
    [JOB_HELD] = "held",           [JOB_FAILED] = "failed",       [JOB_SUPERSEDED] = "superseded",
    [JOB_SUCCEEDED] = "succeeded", [JOB_CANCELLED] = "cancelled",
};

static const char *const kind_names[KIND_MAX] = {
    [KIND_PROVISION] = "provision", [KIND_UPDATE] = "update",       [KIND_SUSPEND] = "suspend",
    [KIND_RESUME] = "resume",       [KIND_TERMINATE] = "terminate", [KIND_PURGE] = "purge",
};

static const char *const step_names[STEP_MAX] = {
    [STEP_NAME] = "name",
    [STEP_ANNOUNCE] = "announce",
    [STEP_COLLECTION] = "collection",
    [STEP_WORKSPACE] = "workspace",
    [STEP_API_KEY] = "api_key",
    [STEP_RECORD] = "record",
    [STEP_REPORT] = "report",
    [STEP_CLOSE_WORKSPACE] = "close_workspace",
    [STEP_OPEN_WORKSPACE] = "open_workspace",
    [STEP_REVOKE] = "revoke",
    [STEP_ARCHIVE] = "archive",
    [STEP_CHAT_HISTORY] = "chat_history",
};

static const char *const product_names[PRODUCT_MAX] = {
    [PRODUCT_LANGFLOW] = "langflow",
    [PRODUCT_RAGFLOW] = "ragflow",
};

static int index_of(const char *const *names, int n, const char *name)
{
    for (int i = 0; i < n; i++) {
        if (str_eq(names[i], name)) {
            return i;
        }
    }
    return n;
}

const char *job_state_name(enum job_state s)
{
    return state_names[s];
}

enum job_state job_state_parse(const char *name)
{
    return (enum job_state)index_of(state_names, JOB_STATE_MAX, name);
}

const char *job_kind_name(enum job_kind k)
{
    return kind_names[k];
}

enum job_kind job_kind_parse(const char *name)
{
    return (enum job_kind)index_of(kind_names, KIND_MAX, name);
}

const char *job_step_name(enum job_step s)
{
    return step_names[s];
}

enum job_step job_step_parse(const char *name)
{
    return (enum job_step)index_of(step_names, STEP_MAX, name);
}

const char *product_name(enum product p)
{
    return product_names[p];
}

#define TO(s) (1u << (s))

static const unsigned edges[JOB_STATE_MAX] = {
    [JOB_QUEUED] = TO(JOB_RUNNING) | TO(JOB_SUPERSEDED) | TO(JOB_CANCELLED),
    [JOB_RUNNING] = TO(JOB_QUEUED) | TO(JOB_RETRYING) | TO(JOB_HELD) | TO(JOB_FAILED) |
                    TO(JOB_SUPERSEDED) | TO(JOB_SUCCEEDED) | TO(JOB_CANCELLED),
    [JOB_RETRYING] = TO(JOB_QUEUED) | TO(JOB_RUNNING) | TO(JOB_SUPERSEDED) | TO(JOB_CANCELLED),
    [JOB_HELD] = TO(JOB_RUNNING) | TO(JOB_QUEUED) | TO(JOB_SUPERSEDED) | TO(JOB_CANCELLED),
    [JOB_FAILED] = TO(JOB_QUEUED) | TO(JOB_SUPERSEDED),
    [JOB_CANCELLED] = TO(JOB_QUEUED),
};

bool machine_may(enum job_state from, enum job_state to)
{
    return (edges[from] & TO(to)) != 0;
}

bool machine_live(enum job_state s)
{
    return s == JOB_QUEUED || s == JOB_RUNNING || s == JOB_RETRYING || s == JOB_HELD;
}

enum { PLAN_MAX = 7 };

static const struct {
    size_t n;
    enum job_step steps[PLAN_MAX];
} plans[KIND_MAX] = {
    [KIND_PROVISION] = {7,
                        {STEP_NAME, STEP_ANNOUNCE, STEP_COLLECTION, STEP_WORKSPACE, STEP_API_KEY,
                         STEP_RECORD, STEP_REPORT}},
    [KIND_UPDATE] = {6,
                     {STEP_NAME, STEP_COLLECTION, STEP_WORKSPACE, STEP_API_KEY, STEP_RECORD,
                      STEP_REPORT}},
    [KIND_SUSPEND] = {4, {STEP_REVOKE, STEP_CLOSE_WORKSPACE, STEP_RECORD, STEP_REPORT}},
    [KIND_RESUME] = {6,
                     {STEP_NAME, STEP_COLLECTION, STEP_OPEN_WORKSPACE, STEP_API_KEY, STEP_RECORD,
                      STEP_REPORT}},
    [KIND_TERMINATE] = {5,
                        {STEP_REVOKE, STEP_CLOSE_WORKSPACE, STEP_COLLECTION, STEP_ARCHIVE,
                         STEP_REPORT}},
    [KIND_PURGE] = {3, {STEP_CHAT_HISTORY, STEP_WORKSPACE, STEP_RECORD}},
};

const enum job_step *machine_plan(enum job_kind kind, size_t *n)
{
    *n = plans[kind].n;
    return plans[kind].steps;
}

enum job_step machine_next(enum job_kind kind, enum job_step step)
{
    for (size_t i = 0; i + 1 < plans[kind].n; i++) {
        if (plans[kind].steps[i] == step) {
            return plans[kind].steps[i + 1];
        }
    }
    return STEP_MAX;
}

static struct action drive(enum product product, enum goal goal)
{
    return (struct action){.kind = ACTION_DRIVE, .product = product, .goal = goal};
}

static struct action plain(enum action_kind kind)
{
    return (struct action){.kind = kind};
}

/* Of the kinds that bring about what is present. */
static bool makes(enum job_kind kind)
{
    return kind == KIND_PROVISION || kind == KIND_UPDATE || kind == KIND_RESUME;
}

static struct action collection_action(enum job_kind kind, const struct facts *f)
{
    if (makes(kind) && f->rag) {
        return drive(PRODUCT_RAGFLOW, GOAL_PRESENT);
    }
    /* An order may have dropped retrieval; a failed attempt may have left one behind. */
    bool possible = f->has_collection || (kind == KIND_TERMINATE && f->rag);
    return f->named && possible ? drive(PRODUCT_RAGFLOW, GOAL_ABSENT) : plain(ACTION_PASS);
}

static struct action workspace_action(enum job_kind kind, const struct facts *f)
{
    if (makes(kind)) {
        return drive(PRODUCT_LANGFLOW, GOAL_PRESENT);
    }
    if (!f->named) {
        return plain(ACTION_PASS);
    }
    bool close = kind == KIND_SUSPEND || (kind == KIND_TERMINATE && f->keep_history);
    return drive(PRODUCT_LANGFLOW, close ? GOAL_CLOSED : GOAL_ABSENT);
}

static struct action record_action(enum job_kind kind)
{
    if (kind == KIND_SUSPEND) {
        return plain(ACTION_RECORD_SUSPENDED);
    }
    return plain(kind == KIND_PURGE ? ACTION_ARCHIVE : ACTION_RECORD_READY);
}

struct action machine_action(enum job_kind kind, enum job_step step, const struct facts *f)
{
    switch (step) {
    case STEP_NAME:
        return plain(ACTION_FREEZE_NAME);
    case STEP_COLLECTION:
        return collection_action(kind, f);
    case STEP_WORKSPACE:
    case STEP_CLOSE_WORKSPACE:
    case STEP_OPEN_WORKSPACE:
        return workspace_action(kind, f);
    case STEP_API_KEY:
        return plain(ACTION_ISSUE_KEY);
    case STEP_REVOKE:
        return plain(kind == KIND_SUSPEND ? ACTION_REFUSE_KEYS : ACTION_REVOKE_KEYS);
    case STEP_RECORD:
        return record_action(kind);
    case STEP_ARCHIVE:
        return plain(ACTION_ARCHIVE);
    case STEP_ANNOUNCE:
    case STEP_REPORT:
        return plain(f->waldur ? ACTION_TELL_WALDUR : ACTION_PASS);
    case STEP_CHAT_HISTORY: /* goes with the workspace in every dialect so far */
    case STEP_MAX:
        break;
    }
    return plain(ACTION_PASS);
}
