/*
 * Drivers: sans-IO protocol code. An operation brings one upstream object of one subscription to a
 * goal. It says which request it wants next and is fed the answer, until it is done or has a
 * classified error. It never touches a socket, reads no clock and keeps nothing outside itself and
 * its site, so that a shell, a transcript, a simulator and a fuzzer can all run it.
 *
 * The shell's side of the bargain: before a request with an `effect` leaves, its intent is
 * committed; after the answer, what driver_feed says became of the effect is recorded; a wait is
 * waited out.
 */
#ifndef DRIVER_DRIVER_H
#define DRIVER_DRIVER_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/exchange.h"
#include "base/uuid.h"

enum {
    EXTERNAL_ID_MAX = 128,
    DRIVER_ROUNDS_MAX = 24, /* requests that bring an operation no further */
    DRIVER_SECRET_MAX = 255,
    DRIVER_VERSION_MAX = 47,
    DRIVER_RESIDUE_MAX = 300,
    DRIVER_FINDINGS_MAX = 24,
    DRIVER_FINDING_MAX = 300,
};

struct driver_class;

/* ---- what a runtime is ---- */

enum driver_tenancy { TENANCY_SHARED, TENANCY_ORGANIZATION, TENANCY_SUBSCRIPTION };

/* What of a runtime's configuration goes beyond address and credential. Borrowed; NULL: not set. */
struct driver_settings {
    enum driver_tenancy tenancy;
    /* RAGFlow's admin service, for the other two tenancies. */
    const char *admin_url;           /* no trailing slash */
    const char *admin_email;         /* the superuser's */
    const char *admin_password_wire; /* as RAGFlow wants passwords on the wire */
    /* A tenant whose models all others use (RAGFlow 0.27): one of its API keys. */
    const char *models_key;
    /* Else every new tenant gets this provider (RAGFlow 0.26). */
    const char *provider;          /* "OpenAI" */
    const char *provider_instance; /* any name but "default" */
    const char *provider_key;
    const char *provider_url; /* NULL: the provider's own */
};

/*
 * What the operations of one product of one runtime have found out about it and share: version,
 * templates, sessions. Made by a driver class, kept by the shell, held by every operation that
 * names it. For one thread. A new configuration gets a new site.
 */
struct driver_site {
    const struct driver_class *class;
    unsigned refs;
    int64_t now_ms; /* the shell's monotonic clock, set before every next and feed */
    bool known;     /* the version is found out: until then one operation at a time is enough */
    char version[DRIVER_VERSION_MAX + 1]; /* "" until then; the server's word, printable */
    char server[DRIVER_VERSION_MAX + 1];  /* which of the product's servers: "python", "go", ... */
};

/* Each side may end first: the shell and the operations hold a reference each. NULL allowed. */
struct driver_site *driver_site_ref(struct driver_site *site);
void driver_site_unref(struct driver_site *site);

/* ---- operations ---- */

enum driver_goal { DRIVER_PRESENT, DRIVER_CLOSED, DRIVER_ABSENT };

/* Everything borrowed; must outlive the operation. */
struct driver_target {
    const char *url;        /* the product's base, no trailing slash */
    const char *credential; /* the platform's own there; NULL: none */
    int64_t timeout_ms;
    struct driver_site *site;               /* NULL for a class that has none */
    const struct driver_settings *settings; /* likewise */
    const char *subscription;               /* its UUID, canonical */
    const char *name;                       /* the frozen name */
    const char *marker;                     /* "waldur-subscription:<uuid>" */
    /* Hex that nobody without the master key can make: it tells what the platform made from what
     * somebody else made under the same name and marker. NULL: the marker alone has to do. */
    const char *proof;
    const char *external_id; /* as recorded; NULL when nothing is */
    bool uncertain;          /* an earlier change's outcome is open: absence must be seen twice */
    bool updating;           /* one that is an update: what is seen must be seen twice, too */
    /* One that is the delete of this whole object: where it is still there, it must go, whatever
     * the goal; else the delete may land on what is believed to be there. NULL. */
    const char *deleting;
    bool observe;      /* only look, and say whether the goal is met: no request changes anything */
    int64_t settle_ms; /* between those two looks */
    /* Accounts of the subscription's own at the product. */
    const char *secret;        /* its API key, as recorded; NULL when none is */
    const char *password;      /* random, this operation's: for an account that it makes or opens */
    const char *password_wire; /* the same as RAGFlow wants it; NULL: not needed */
    const char *tenant_email;  /* RAGFlow's user; cannot be guessed, and so is ours where it is */
    const char *tenant_id;     /* as recorded; NULL when nothing is */
    /* workspaces */
    const char *flow_id;   /* the offering's template flow */
    const char *flow_uuid; /* what the subscription's own flow has as its id */
    const char *template;  /* the template's JSON, out of a file; NULL: the platform's own
                              account at the product has it, under flow_id */
    size_t template_len;
    const cJSON *variables; /* object */
    /* Names (array) of those that are written over what a tenant made of them, and taken away where
     * they are not wanted any more; all others are the tenant's once there. NULL: none. */
    const cJSON *changed;
    const char *collection_key; /* value of the secret variable ragflow_api_key; NULL: none */
    /* collections */
    const char *embedding_model; /* NULL: the server's default */
    int64_t chunk_size, chunk_overlap;
};

enum driver_turn { TURN_REQUEST, TURN_WAIT, TURN_DONE, TURN_FAILED };

/* What stands under the subscription's id or name. */
enum driver_sight { SIGHT_ABSENT, SIGHT_OURS, SIGHT_FOREIGN };

struct driver_action {
    enum driver_turn turn;
    struct exchange_request
        request;        /* TURN_REQUEST: the caller's to send or exchange_request_done */
    const char *effect; /* static, e.g. "collection.create"; NULL for a mere look */
    char
        deletes[EXTERNAL_ID_MAX + 1]; /* id of the whole object that the request deletes, else "" */
    int64_t wait_ms;                  /* TURN_WAIT */
    /* TURN_DONE: what is there, to be recorded. "" when absent; what was recorded before and is ""
     * now is to be forgotten. */
    char external_id[EXTERNAL_ID_MAX + 1];
    char flow_id[UUID_TEXT];              /* workspaces: the flow that runs */
    char tenant_id[EXTERNAL_ID_MAX + 1];  /* collections: the account whose it is */
    char secret[DRIVER_SECRET_MAX + 1];   /* the API key of the subscription's own account */
    char residue[DRIVER_RESIDUE_MAX + 1]; /* what the server said it could not take away */
    enum driver_sight sight;              /* TURN_DONE of an observation */
    bool met;                             /* likewise: the goal is met as things stand */
    struct err err; /* TURN_FAILED; holds none of the operation's secrets but the credential */
};

enum driver_effect { EFFECT_NONE, EFFECT_DONE, EFFECT_UNKNOWN, EFFECT_REFUSED, EFFECT_NOT_SENT };

/* What an answer says about the server, for whoever keeps an eye on its health. */
enum driver_health {
    HEALTH_AS_SEEN, /* what its status says */
    HEALTH_GOOD,    /* a real answer, whatever its status: about one account or object alone */
    HEALTH_AS_SAID, /* what `err` says, whatever its status */
};

/* What an answer meant: for the journal and the health of the upstream. */
struct driver_outcome {
    enum driver_effect effect;
    enum driver_health health;
    char external_id[EXTERNAL_ID_MAX + 1];
    /* What must not wait for the operation's end to be recorded. */
    bool record; /* external_id is the object's own */
    /* It was made, and is yet to be seen: until the operation has, whoever comes later has to look.
     */
    bool unseen;
    char tenant_id[EXTERNAL_ID_MAX + 1]; /* "" for none */
    char secret[DRIVER_SECRET_MAX + 1];  /* "" for none */
    struct err err; /* ERR_NONE when the answer was a good one; holds no secret, as in an action */
};

/* ---- inspection ---- */

enum driver_level { LEVEL_OK, LEVEL_NOTE, LEVEL_WARN, LEVEL_BAD };

/* One thing that was looked at, and how to mend what is wrong with it. */
struct driver_finding {
    enum driver_level level;
    const char *subject; /* static: "version", "credential", "open sign-up", ... */
    char what[DRIVER_FINDING_MAX + 1];
    char mend[DRIVER_FINDING_MAX + 1]; /* "" where nothing is to be done */
};

struct driver_report {
    size_t n;
    struct driver_finding findings[DRIVER_FINDINGS_MAX];
};

/* Adds one; a full report keeps what it has. mend may be NULL. */
void driver_report_add(struct driver_report *r, enum driver_level level, const char *subject,
                       const char *mend, const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));

/* ---- classes ---- */

struct driver_op;

struct driver_class {
    const char *api; /* as in the configuration */
    struct driver_op *(*start)(enum driver_goal goal, const struct driver_target *target,
                               struct err *err);
    /* Fills *out. After TURN_WAIT call again when the time is over; after TURN_REQUEST feed first.
     */
    void (*next)(struct driver_op *op, struct driver_action *out);
    void (*feed)(struct driver_op *op, const struct exchange_response *response,
                 struct driver_outcome *out);
    void (*free)(struct driver_op *op); /* NULL allowed */
    /* NULL for a class without sites: what it needs to know comes with the target. */
    struct driver_site *(*site_new)(struct err *err);
    void (*site_free)(struct driver_site *site); /* driver_site_unref calls it */
    /*
     * An operation that changes nothing and fills *report, which must outlive it, with what can be
     * seen of the server from outside: version, credential, settings that are not safe. Of the
     * target it uses url, credential, timeout_ms, site and settings. NULL: there is nothing to see.
     */
    struct driver_op *(*inspect)(const struct driver_target *target, struct driver_report *report,
                                 struct err *err);
};

#endif
