/*
 * The native driver, inside: a Langflow user is a subscription's workspace.
 *
 * An operation is a handful of facts (is the user there, have we got in, is the flow there, ...).
 * langflow_plan reads them and names the next request; its answer changes the facts. What an open
 * outcome puts in doubt is forgotten, and so asked for again. Lists become a queue of what is to be
 * done to what they showed.
 */
#ifndef LANGFLOW_NATIVE_H
#define LANGFLOW_NATIVE_H

#include "base/json.h"
#include "driver/driver.h"

enum {
    LANGFLOW_ANSWER_MAX = 8 * 1024 * 1024,
    LANGFLOW_TEMPLATES_MAX = 8,
    LANGFLOW_QUEUE_MAX = 1000, /* of one list; what is beyond shows when it is listed again */
    LANGFLOW_PAGES_MAX = 200,
    LANGFLOW_SEARCH_MAX = 200,
};

/* ---- the site (site.c) ---- */

/* A flow of the platform's account as the body of a PUT that makes the tenant's. */
struct langflow_template {
    char *flow_id; /* as the offering names it; NULL: free */
    char *name;    /* what the tenant's is to be called */
    char *body;
    size_t body_len;
    int64_t read_ms;
};

struct langflow_site {
    struct driver_site base; /* first */
    int minor;               /* 1.minor; later majors count as the newest */
    int64_t version_read_ms;
    int64_t login_blocked_until_ms; /* the server counts the logins of this address */
    struct langflow_template templates[LANGFLOW_TEMPLATES_MAX];
};

struct driver_site *langflow_site_new(struct err *err);
void langflow_site_free(struct driver_site *site);
bool langflow_version_fresh(const struct langflow_site *s);
/* NULL when it has to be read (again). */
const struct langflow_template *langflow_template_find(const struct langflow_site *s,
                                                       const char *flow_id);

/* Reads "1.10.1" or, of langflow-base, "0.10.1" out of the answer. False where it says neither. */
bool langflow_read_version(const struct exchange_response *r, char text[DRIVER_VERSION_MAX + 1],
                           int *minor);

/* ---- steps ---- */

enum langflow_as { AS_NOBODY, AS_PLATFORM, AS_TENANT };

enum langflow_verdict {
    VERDICT_GOOD,    /* 2xx with what may be JSON, or 204 */
    VERDICT_ODD,     /* 2xx with a page, or with more than fits */
    VERDICT_GONE,    /* 404, 410 */
    VERDICT_DENIED,  /* 401, 403 */
    VERDICT_REFUSED, /* another 4xx */
    VERDICT_LATER,   /* 429, 503 that says when */
    VERDICT_OPEN,    /* no usable answer */
};

struct langflow_answer {
    const struct exchange_response *r;
    enum langflow_verdict verdict;
    struct driver_outcome *out; /* err and effect are preset from the verdict */
};

struct langflow_step {
    const char *what;   /* for errors: what was being done */
    const char *effect; /* NULL for a look */
    enum exchange_method method;
    enum langflow_as as;
    bool queued; /* of an item: bounded by its list */
    void (*build)(struct driver_op *op, struct exchange_request *r);
    /* Takes the answer into the facts. False: nothing was taken, the usual is to be done. */
    bool (*feed)(struct driver_op *op, struct langflow_answer *a);
    void (*doubt)(struct driver_op *op); /* the outcome is open; NULL: no fact hangs on it */
};

/* ---- operations ---- */

enum langflow_user { USER_UNKNOWN, USER_THERE, USER_ABSENT, USER_FOREIGN };
enum langflow_entry { ENTRY_NONE, ENTRY_KEY, ENTRY_TOKEN };
enum langflow_flow { FLOW_UNKNOWN, FLOW_THERE, FLOW_ABSENT };

/* One thing that a list showed and something is to be done to. */
struct langflow_item {
    const struct langflow_step *step;
    char id[UUID_TEXT]; /* "" for one that is to be made */
    char *name;         /* owned */
    char *endpoint;     /* owned; NULL: it has none */
    size_t variable;    /* index among the wanted ones */
    int tries;          /* to unlock a flow, or to list its files */
};

struct langflow_variable {
    char *name, *value; /* owned; the value is wiped before it is freed */
    bool credential;    /* cannot be read back */
    bool platform;      /* ours to keep as it should be; others are the tenant's once there */
    bool changed;       /* by an order: written over a tenant's, once */
    bool written;       /* by this operation */
    int refusals;
};

struct driver_op {
    const struct driver_target *target;
    struct langflow_site *site; /* a reference */
    enum driver_goal goal;
    struct driver_report *report; /* of an inspection; else NULL */
    unsigned inspected;           /* how many of its looks are over */
    char superuser[LANGFLOW_SEARCH_MAX];

    const struct langflow_step *step; /* asked, not answered yet */
    int rounds;                       /* requests that no list bounds */
    int opens;                        /* open outcomes in a row */
    int64_t wait_ms;
    bool settled; /* what was under way before has had its time */
    bool rested;  /* and what was done before, where commits come after answers */
    bool done, failed, met;
    enum driver_sight sight;
    struct err err;
    char residue[DRIVER_RESIDUE_MAX + 1];

    enum langflow_user user;
    char user_id[UUID_TEXT]; /* recorded, made or found; "" for none */
    char *username;          /* what it is called now, as far as known */
    bool created;            /* by this operation: empty, and its password is ours */
    bool adopted;            /* by this operation: found by its name */
    bool active, closed;     /* as seen */
    bool opened;             /* active, with this operation's password */
    bool shut;               /* the server said that it closed it */
    bool look;               /* by name: it may be there under an id that is not recorded */
    bool not_by_id;          /* GET of one user is not to be had */
    bool unlisted;           /* the id was not among those that bear the name */
    bool wide;               /* look through all users for the id */
    bool vanishing;          /* its delete was accepted */
    int polls, deletes, taken, logins, pages, empty_looks;
    int64_t skip, limit; /* of the page to come */
    bool reread;         /* the version, because the server behaves like another one */
    bool denied;         /* one 401 or 403 that was not believed */

    enum langflow_entry entry;
    char key[DRIVER_SECRET_MAX + 1]; /* the tenant's; "" for none */
    bool proven;                     /* the key is this user's */
    bool kept;                       /* the key was held before this operation */
    char *token;
    bool keys_listed;

    enum langflow_flow flow;
    char template_id[UUID_TEXT];
    char *flow_name;    /* as asked for */
    bool put, readback; /* by this operation; and seen since */
    int misses;         /* of reading it back */
    bool misnamed;
    bool by_list; /* the flow is looked for in the list of all */
    bool flows_listed, messages_listed;
    int flow_lists, message_lists;
    size_t gained; /* deleted since the last list */
    bool emptied;  /* flows and messages went before their user */
    bool sweeping; /* the flow's id may be held by the platform's own account, for a moment */
    bool swept;
    int sweep_misses;

    char **files; /* names of the files of the flow in hand; owned */
    size_t n_files, file_at;
    bool files_gone; /* the user's own */
    int file_purges;

    struct langflow_variable *variables;
    size_t n_variables;
    bool variables_listed, variables_begun, variables_made, variables_late;
    bool variables_read; /* their list, by this operation */
    int variable_misses;

    struct langflow_item *queue;
    size_t n_queue, queue_room, at; /* items, places, and the one in hand */
    bool cut;                       /* there was more than the queue may hold */
};

/* ---- the frame (native.c) ---- */

extern const struct driver_class langflow_class;

void langflow_fail(struct driver_op *op, enum err_class class, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* Waits as long as late changes may take. */
void langflow_settle(struct driver_op *op);
/* The key and the token in hand are worth nothing any more. */
void langflow_forget_entry(struct driver_op *op);
/* Likewise, and what was listed with them counts no more. */
void langflow_leave(struct driver_op *op);
bool langflow_stopped(const struct driver_op *op);
/* The server is 1.minor or later. */
bool langflow_since(const struct driver_op *op, int minor);
/* Something cannot be taken away; said once, in one line with the rest. */
void langflow_residue(struct driver_op *op, const char *what);
void langflow_wipe(char *secret); /* NULL allowed; does not free */

/* The queue. Adding takes nothing over; false when memory ends (the operation has failed). */
bool langflow_queue(struct driver_op *op, const struct langflow_step *step, const char *id,
                    const char *name, const char *endpoint, size_t variable);
struct langflow_item *langflow_item(struct driver_op *op);
void langflow_item_done(struct driver_op *op);
void langflow_queue_clear(struct driver_op *op);

/* What comes next (plan.c); NULL when the operation waits or has ended. */
const struct langflow_step *langflow_plan(struct driver_op *op);
/* The template, before anything is made that needs it; NULL when it is at hand or has failed. */
const struct langflow_step *langflow_template_wanted(struct driver_op *op);
/* The body of the flow's PUT, and its name into op->flow_name; 0, or -1 after failing the
 * operation. */
int langflow_template_body(struct driver_op *op, struct buf *body);
/* Likewise of an inspection (inspect.c). */
const struct langflow_step *langflow_inspect_plan(struct driver_op *op);

/* ---- requests and answers (wire.c) ---- */

/* base + path, or with the id between: "/api/v1/users/" "{id}" "". Ids are canonical UUIDs. */
void langflow_url(const struct driver_op *op, struct exchange_request *r, const char *path,
                  const char *id, const char *rest);
/* The content type; the body is begun by the caller. */
void langflow_json(struct exchange_request *r);
/* The body as a tree, NULL where it is none. cJSON_Delete() it. */
cJSON *langflow_tree(const struct langflow_answer *a);
/* A member that is a UUID, canonical. */
bool langflow_uuid(const cJSON *object, const char *member, char out[UUID_TEXT]);

/* What an answer with one flow says; its data is looked over, never built. */
struct langflow_flow_seen {
    bool flow_fits, user_fits, name_fits, private;
    bool served; /* by servers of its project, which a tenant can open to anybody */
};
bool langflow_flow_seen(const struct driver_op *op, const struct langflow_answer *a,
                        const char *flow_id, struct langflow_flow_seen *out);

/*
 * The body of a PUT that makes a tenant's flow out of a template: its members as they are written,
 * without what belongs to the server or to the template's owner, private, and shut to MCP. *name
 * (free()) is what it is called.
 */
int langflow_flow_body(const char *text, size_t n, const char *fallback_name, struct buf *body,
                       char **name, struct err *err);

/* ---- variables (variables.c) ---- */

/* What target and goal want; 0, or -1 and *err. */
int langflow_variables_want(struct driver_op *op, struct err *err);
void langflow_variables_free(struct driver_op *op);
/* Queues what `list` (NULL: an empty one) lacks. */
void langflow_variables_compare(struct driver_op *op, const cJSON *list);

/* ---- files (file.c) ---- */

void langflow_files_clear(struct driver_op *op);

/* ---- steps ---- */

extern const struct langflow_step langflow_version_read;
extern const struct langflow_step langflow_template_list, langflow_template_get;
extern const struct langflow_step langflow_user_create, langflow_user_open, langflow_user_get,
    langflow_user_list, langflow_user_close, langflow_user_delete;
extern const struct langflow_step langflow_login, langflow_whoami;
extern const struct langflow_step langflow_key_list, langflow_key_delete, langflow_key_create;
extern const struct langflow_step langflow_flow_get, langflow_flow_put, langflow_flow_rename,
    langflow_flow_list, langflow_flow_close, langflow_flow_unlock, langflow_flow_delete;
extern const struct langflow_step langflow_residue_put, langflow_residue_delete;
extern const struct langflow_step langflow_file_list, langflow_file_delete, langflow_file_purge;
extern const struct langflow_step langflow_message_list, langflow_message_delete;
extern const struct langflow_step langflow_variable_list, langflow_variable_create,
    langflow_variable_update, langflow_variable_delete;

#endif
