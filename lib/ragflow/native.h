/*
 * The driver for RAGFlow itself: what its files share. A collection is a dataset of one tenant;
 * with a tenancy other than "shared" that tenant is a RAGFlow user made through the product's admin
 * service. One operation is a row of phases; each phase that asks something is one row of a table
 * (native.c): what is asked, as whom, what the answer leads to.
 *
 * Only a look ends an operation. What an answer to a change claims is never taken for what is
 * there.
 */
#ifndef RAGFLOW_NATIVE_H
#define RAGFLOW_NATIVE_H

#include <stdlib.h>

#include "base/json.h"
#include "driver/driver.h"

enum {
    RAGFLOW_ID = 33,       /* 32 hex digits and the NUL */
    RAGFLOW_SESSION = 256, /* as exchange_response has it */
    RAGFLOW_MODEL = 129,   /* the product's column holds 128 characters */
    RAGFLOW_MODELS_MAX = 8,
    RAGFLOW_PAGE = 100, /* the most that a listing gives */
    RAGFLOW_NAME_MAX = 128
};

/* ---- answers (answer.c) ---- */

enum ragflow_kind {
    KIND_SYSTEM, /* about the server: a path that it does not know is an answer */
    KIND_HEALTH, /* healthz, without the envelope that all others have */
    KIND_LOOK,   /* of an account or a dataset */
    KIND_CREATE,
    KIND_UPDATE,
    KIND_DELETE,
    KIND_SETUP, /* teams and providers: done before is as good */
    KIND_ADMIN, /* the admin service */
    KIND_LOGIN
};

enum ragflow_meaning {
    MEANS_DONE,
    MEANS_NOT_THERE, /* or not this key's to see: the product does not tell which */
    MEANS_TAKEN,     /* it is there already */
    MEANS_DENIED,    /* the key is wrong, or the database is away: healthz tells which */
    MEANS_ERROR
};

struct ragflow_answer {
    enum ragflow_meaning meaning;
    cJSON *json;       /* owned; NULL where the body was none */
    const cJSON *data; /* inside it */
    int64_t code;      /* the body's; -1 where there is none */
    const char *session;
    enum driver_health health;
    struct err err; /* the server's words; its class counts for MEANS_ERROR */
};

/* changes: the request was to change something, so that a breakdown leaves its outcome open. */
void ragflow_answer_read(enum ragflow_kind kind, bool changes, const struct exchange_response *r,
                         struct ragflow_answer *out);
void ragflow_answer_done(struct ragflow_answer *a);

/* ---- the site (site.c) ---- */

struct ragflow_model {
    char name[RAGFLOW_MODEL], id[RAGFLOW_ID];
};

struct ragflow_site {
    struct driver_site base; /* first */
    int64_t learned_ms;      /* when version and the rest were found out */
    int32_t number[3];       /* of the version; all INT32_MAX where it cannot be read */
    bool go;
    char tenant[RAGFLOW_ID]; /* whose the platform's key is; "" where nobody asked */
    char session[RAGFLOW_SESSION];
    const struct driver_op *logging_in; /* who is about to get the next session */
    int64_t login_until_ms;             /* then it is given up */
    char models_tenant[RAGFLOW_ID];
    struct ragflow_model models[RAGFLOW_MODELS_MAX];
    size_t n_models;
};

struct driver_site *ragflow_site_new(struct err *err);
void ragflow_site_free(struct driver_site *site);
/* Sets the number. */
void ragflow_read_version(struct ragflow_site *site, const char *text);
/* True from that version on. */
bool ragflow_site_since(const struct ragflow_site *site, int major, int minor, int patch);
/* NULL where it is not known. */
const char *ragflow_site_model(const struct ragflow_site *site, const char *name);

/* ---- operations (native.c) ---- */

extern const struct driver_class ragflow_native;

enum ragflow_phase {
    /* the site */
    PHASE_VERSION,
    PHASE_LANGUAGE,
    PHASE_ME,
    /* in between: after it, `after` goes on */
    PHASE_HEALTHZ,
    PHASE_LOGIN,
    PHASE_WHOSE,
    /* the tenant */
    PHASE_USER_LOOK,
    PHASE_USER_CREATE,
    PHASE_USER_OPEN,
    PHASE_USER_CLOSE,
    PHASE_USER_DELETE,
    PHASE_KEYS,
    PHASE_KEY_CREATE,
    PHASE_KEY_DELETE,
    /* its models */
    PHASE_MODELS_ME,
    PHASE_MODELS_LIST,
    PHASE_INVITE,
    PHASE_JOIN,
    PHASE_PROVIDER,
    PHASE_INSTANCE,
    /* the dataset */
    PHASE_LOOK_ID,
    PHASE_LOOK_NAME,
    PHASE_CREATE,
    PHASE_UPDATE,
    PHASE_DOCUMENTS,
    PHASE_DOCUMENTS_DELETE,
    PHASE_DELETE,
    /* inspection */
    PHASE_SEE_VERSION,
    PHASE_SEE_LANGUAGE,
    PHASE_SEE_HEALTH,
    PHASE_SEE_CONFIG,
    PHASE_SEE_ME,
    PHASE_SEE_KEYS,
    PHASE_SEE_ADMIN,
    PHASE_SEE_LOGIN,
    PHASE_SEE_MODELS,
    PHASE_ASKS, /* those before ask something */
    PHASE_SETTLE = PHASE_ASKS,
    PHASE_DONE,
    PHASE_FAILED
};

struct driver_op {
    const struct driver_target *target;
    struct ragflow_site *site;
    struct driver_report *report; /* an inspection's */
    enum driver_goal goal;
    enum ragflow_phase phase;
    enum ragflow_phase after; /* where a phase in between, or a wait, leads */
    int rounds;               /* requests since something was gained, bounded */
    int requests;             /* all of them, bounded too */
    int logins, login_waits;  /* bounded */
    bool robbed;              /* others' logins ended one session after another */
    bool uncertain;           /* a change that was let out may still land */
    bool updating;            /* likewise an update */
    int empty_looks;          /* that showed none of ours, in a row */
    /* the tenant */
    char tenant[RAGFLOW_ID]; /* whose the dataset must be; "" until known */
    bool tenant_sure;        /* the key in use is known to be that tenant's */
    char secret[DRIVER_SECRET_MAX + 1];
    bool held;                           /* the secret came from the records alone */
    bool was_denied;                     /* the records' secret is refused */
    char surplus[DRIVER_SECRET_MAX + 1]; /* the key to delete */
    char session[RAGFLOW_SESSION];       /* that the request under way bears */
    bool user_active;
    bool emptied;  /* ABSENT: no dataset is left, and the account goes */
    bool equipped; /* the tenant's models are set up */
    /* the dataset */
    char recorded[RAGFLOW_ID]; /* as the records have it, until found gone */
    char id[RAGFLOW_ID];       /* the one in hand */
    size_t look;               /* which of the names is being looked up */
    bool named;                /* it was looked for by name, too */
    cJSON *row;                /* of the one to keep, as last seen; owned */
    cJSON *extra;              /* of one too many; owned */
    char foreign[RAGFLOW_ID];  /* has the name and not the marker */
    bool created;              /* the id in hand came from our own create */
    bool updated;              /* its settings were written */
    bool doomed;               /* it goes, whatever the goal: surplus, or misnamed */
    bool learning;             /* which model an id is, before what is there is judged */
    bool misnamed;             /* the server made it under another name */
    char model[RAGFLOW_MODEL]; /* as this tenant names it; "" for the server's default */
    struct buf ids;            /* of the documents to delete, as JSON */
    int64_t documents;         /* how many there were; -1: not asked yet */
    enum driver_sight sight;   /* what an observation ended with */
    bool met;
    char residue[DRIVER_RESIDUE_MAX + 1];
    struct err denied;      /* while healthz is asked */
    const char *denied_key; /* which one that was; static */
    struct err refused;     /* the update's answer, while it is looked what is there */
    struct err err;
};

void ragflow_fail(struct driver_op *op, const struct err *e);
void ragflow_fail_with(struct driver_op *op, enum err_class class, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* Something was gained: the bound on requests counts from here. */
void ragflow_gain(struct driver_op *op);
/* Waits for settle_ms before the phase. */
void ragflow_settle(struct driver_op *op, enum ragflow_phase phase);
void ragflow_observed(struct driver_op *op, enum driver_sight sight, bool met);
/* An observation, and it is over. */
bool ragflow_observing(const struct driver_op *op);
/* None of ours in sight: true when that is enough, else the wait before `again` is due. */
bool ragflow_settled(struct driver_op *op, enum ragflow_phase again);

bool ragflow_is_id(const char *s);
/* The object's member as an id, in lower case; false where it is none. */
bool ragflow_id_of(const cJSON *object, const char *member, char out[RAGFLOW_ID]);
/* Of one of the tenancies in which each has an account of its own. */
bool ragflow_has_tenant(const struct driver_op *op);

/* base and the path; the arguments are percent-encoded already. A URL that is too long fails the
 * request. */
void ragflow_url(struct exchange_request *r, const char *base, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* Takes what buf_* made of the body; says its type. */
void ragflow_body(struct exchange_request *r);
/* In out, percent-encoded; "" where it does not fit. */
enum { RAGFLOW_ENCODED = 1024 };
const char *ragflow_encode(char out[RAGFLOW_ENCODED], const char *s);

typedef void ragflow_build_fn(struct driver_op *op, struct exchange_request *r);
typedef void ragflow_feed_fn(struct driver_op *op, const struct ragflow_answer *a,
                             struct driver_outcome *out);

/* ---- phases, each file its own ---- */

ragflow_build_fn ragflow_build_version, ragflow_build_language, ragflow_build_me,
    ragflow_build_healthz, ragflow_build_login;
ragflow_feed_fn ragflow_feed_version, ragflow_feed_language, ragflow_feed_me, ragflow_feed_healthz,
    ragflow_feed_login, ragflow_feed_whose;

/* The site is known: goes for the tenant, or for the dataset. */
void ragflow_enter(struct driver_op *op);

ragflow_build_fn ragflow_build_user, ragflow_build_user_create, ragflow_build_user_open,
    ragflow_build_user_close, ragflow_build_keys, ragflow_build_key_delete;
ragflow_feed_fn ragflow_feed_user, ragflow_feed_user_create, ragflow_feed_user_open,
    ragflow_feed_user_close, ragflow_feed_user_delete, ragflow_feed_keys, ragflow_feed_key_create,
    ragflow_feed_key_delete;

/* Before a create: what the tenant's models need, then the create. */
void ragflow_equip(struct driver_op *op);
/* Whether the row's model is the one that is wanted. Unknown: the models tenant's list tells. */
enum ragflow_fit { MODEL_FITS, MODEL_DIFFERS, MODEL_UNKNOWN };
enum ragflow_fit ragflow_model_fit(const struct driver_op *op, const cJSON *row);
ragflow_build_fn ragflow_build_models, ragflow_build_invite, ragflow_build_join,
    ragflow_build_provider, ragflow_build_instance;
ragflow_feed_fn ragflow_feed_models_me, ragflow_feed_models, ragflow_feed_invite, ragflow_feed_join,
    ragflow_feed_provider, ragflow_feed_instance;

/* Whose key it is, is known: looks for the dataset. */
void ragflow_seek(struct driver_op *op);
/* No dataset of ours is left, and that has settled. */
void ragflow_emptied(struct driver_op *op);
ragflow_build_fn ragflow_build_look_id, ragflow_build_look_name, ragflow_build_create,
    ragflow_build_update;
ragflow_feed_fn ragflow_feed_look_id, ragflow_feed_look_name, ragflow_feed_create,
    ragflow_feed_update;

/* What the wanted overlap is in percent of a chunk. */
int64_t ragflow_overlap_percent(const struct driver_target *t);

ragflow_build_fn ragflow_build_documents, ragflow_build_documents_delete, ragflow_build_delete;
ragflow_feed_fn ragflow_feed_documents, ragflow_feed_documents_delete, ragflow_feed_delete;

ragflow_build_fn ragflow_build_see_config, ragflow_build_see_keys, ragflow_build_see_admin;
ragflow_feed_fn ragflow_feed_see_version, ragflow_feed_see_language, ragflow_feed_see_health,
    ragflow_feed_see_config, ragflow_feed_see_me, ragflow_feed_see_keys, ragflow_feed_see_admin,
    ragflow_feed_see_login, ragflow_feed_see_models;
/* An inspection goes on whatever the answer was. */
struct driver_op *ragflow_inspect(const struct driver_target *target, struct driver_report *report,
                                  struct err *err);

struct driver_op *ragflow_start(enum driver_goal goal, const struct driver_target *target,
                                struct err *err);
void ragflow_next(struct driver_op *op, struct driver_action *out);
void ragflow_feed(struct driver_op *op, const struct exchange_response *response,
                  struct driver_outcome *out);
void ragflow_free(struct driver_op *op);

#endif
