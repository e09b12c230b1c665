/*
 * The stand-in Langflow, as versions 1.8, 1.10 and 1.13 were seen to answer;
 * test/contract/langflow.py holds it and live servers to the same words. The token that it was
 * started with is a superuser's key and password. /admin/settings tells it what to be: see struct
 * lf_settings.
 */
#ifndef STANDIN_LANGFLOW_H
#define STANDIN_LANGFLOW_H

#include "base/uuid.h"
#include "standin.h"

enum lf_kind {
    LF_USER,
    LF_PROJECT,
    LF_FLOW,
    LF_VARIABLE,
    LF_KEY,
    LF_TOKEN,
    LF_MESSAGE,
    LF_FILE,
    LF_KINDS
};

enum { LF_BUCKETS = 16384, LF_BODY_MAX = 8 * 1024 * 1024, LF_TOKENS_MAX = 16 };

/* One row, or file. Users, messages and files hang on no owner, everything else on its user. */
struct lf_record {
    enum lf_kind kind;
    uint64_t seq;
    bool planted;
    int64_t changes;
    char id[UUID_TEXT];
    cJSON *json;  /* as it is shown, but for what depends on the version */
    char *alias;  /* second way to find it; NULL for none */
    char *secret; /* a user's password; the key itself */
    /* Of a user: what logins go by until the last change of it is committed. */
    int64_t changed_ms;
    bool was_active;
    char *old_secret;
    struct lf_record *owner;
    int64_t from_ms;               /* not seen before: the commit comes after the answer */
    int64_t until_ms;              /* 0: not being deleted */
    struct lf_record *prev, *next; /* the owner's, of this kind */
    struct lf_record *first[LF_KINDS], *last[LF_KINDS]; /* a user's */
    struct lf_record *next_id, *next_alias, *next_dying;
};

struct lf_settings {
    int64_t commit_ms;   /* answers go out this long before their commit */
    int64_t erase_ms;    /* how long the deletion of a user takes */
    int64_t login_limit; /* logins in a window; 0: any number */
    int64_t login_window_ms;
    int64_t retry_after_s; /* what those are told that were too many */
    bool new_user_is_active, signup, auto_login;
    bool webhook_auth, custom_components, a2a;
    bool frontend; /* a page is answered where there is nothing (404) */
    bool shuffle;  /* lists of users have no order */
};

struct lf_store {
    int minor; /* 1.minor */
    struct lf_settings settings;
    int64_t now_ms;
    uint64_t seq, created, deleted, turn;
    int64_t window_from_ms, logins;
    struct lf_record *by_id[LF_BUCKETS], *by_alias[LF_BUCKETS];
    struct lf_record *first[LF_KINDS], *last[LF_KINDS]; /* those without an owner */
    struct lf_record *dying;
};

/* One call under way. */
struct lf_call {
    struct lf_store *s;
    const struct call *http;
    struct reply *out;
    struct lf_record *user; /* who calls; NULL: nobody */
    const char *arg;        /* what stands for {} in the route */
    const char *rest;       /* likewise for a second {} */
    char id[UUID_TEXT];     /* arg, where the route wants a UUID */
    cJSON *body;
};

/* ---- rows (langflow_store.c) ---- */

/* Takes the tree; `id` NULL makes one. NULL when memory ends. */
struct lf_record *lf_add(struct lf_store *s, enum lf_kind kind, struct lf_record *owner,
                         const char *id, const char *alias, cJSON *json);
/* Deletes it with what hangs on it, at once or after the setting's delay and at least `ms`. */
void lf_remove(struct lf_store *s, struct lf_record *r, int64_t ms);
/* Does what has become due. */
void lf_settle(struct lf_store *s);
void lf_clear(struct lf_store *s);
bool lf_alias(struct lf_store *s, struct lf_record *r, const char *alias);

/* Only what is committed is seen. */
struct lf_record *lf_find(const struct lf_store *s, enum lf_kind kind, const char *id);
/* A row has this id, seen or not: there can be no other. */
bool lf_taken(const struct lf_store *s, enum lf_kind kind, const char *id);
/* The user's own. */
struct lf_record *lf_own(const struct lf_store *s, enum lf_kind kind, const struct lf_record *user,
                         const char *id);
struct lf_record *lf_first(const struct lf_store *s, const struct lf_record *owner,
                           enum lf_kind kind);
struct lf_record *lf_next(const struct lf_store *s, const struct lf_record *r);
/* The first (after NULL) or next of an alias, seen or not. */
struct lf_record *lf_by_alias(const struct lf_store *s, enum lf_kind kind, const char *alias,
                              const struct lf_record *after);
bool lf_seen(const struct lf_store *s, const struct lf_record *r);

void lf_set(cJSON *object, const char *name, cJSON *value); /* takes the value; replaces */
/* Members of `from` that are there and not null, into `to`. */
void lf_take(cJSON *to, const cJSON *from, const char *const *names);

/* ---- answers (langflow.c) ---- */

/* 422 as FastAPI lists it. */
void lf_invalid(struct lf_call *c, const char *member, const char *msg);
/* The body's member as a string, or NULL and a 422. */
const char *lf_want(struct lf_call *c, const char *member);
/* gzip, whatever was asked for, in the older ones. */
void lf_compress(struct lf_call *c, cJSON *json);

/* ---- what is served ---- */

void lf_login(struct lf_call *c);
void lf_auto_login(struct lf_call *c);
void lf_user_create(struct lf_call *c);
void lf_user_list(struct lf_call *c);
void lf_user_whoami(struct lf_call *c);
void lf_user_get(struct lf_call *c);
void lf_user_patch(struct lf_call *c);
void lf_user_reset(struct lf_call *c);
void lf_user_delete(struct lf_call *c);
void lf_key_list(struct lf_call *c);
void lf_key_create(struct lf_call *c);
void lf_key_delete(struct lf_call *c);
struct lf_record *lf_user_new(struct lf_store *s, const char *name, const char *password,
                              const cJSON *optins);
struct lf_record *lf_key_new(struct lf_store *s, struct lf_record *user, const char *name,
                             const char *key);

struct lf_record *lf_project_default(struct lf_store *s, struct lf_record *user);
void lf_project_list(struct lf_call *c);
void lf_project_create(struct lf_call *c);
void lf_project_get(struct lf_call *c);
void lf_project_patch(struct lf_call *c);
void lf_project_delete(struct lf_call *c);

struct lf_record *lf_flow_new(struct lf_store *s, struct lf_record *user, const char *id,
                              const cJSON *wanted);
void lf_flow_list(struct lf_call *c);
void lf_flow_create(struct lf_call *c);
void lf_flow_get(struct lf_call *c);
void lf_flow_public(struct lf_call *c);
void lf_flow_put(struct lf_call *c);
void lf_flow_patch(struct lf_call *c);
void lf_flow_delete(struct lf_call *c);
void lf_flow_delete_many(struct lf_call *c);

void lf_run(struct lf_call *c);
void lf_components(struct lf_call *c);
void lf_mcp(struct lf_call *c);
void lf_message_list(struct lf_call *c);
void lf_message_sessions(struct lf_call *c);
void lf_message_delete(struct lf_call *c);
void lf_message_delete_session(struct lf_call *c);
struct lf_record *lf_message_new(struct lf_store *s, const char *flow_id, const char *session,
                                 const char *text);

void lf_file_upload(struct lf_call *c);
void lf_file_list(struct lf_call *c);
void lf_file_delete(struct lf_call *c);
void lf_user_file_upload(struct lf_call *c);
void lf_user_file_list(struct lf_call *c);
void lf_user_file_delete(struct lf_call *c);
/* In a folder of a flow's or a user's id. */
struct lf_record *lf_file_new(struct lf_store *s, const char *folder, const char *name);
cJSON *lf_file_names(const struct lf_store *s, const char *folder);
void lf_files_erase(struct lf_store *s, const char *folder);

struct lf_record *lf_variable_new(struct lf_store *s, struct lf_record *user, const cJSON *wanted);
void lf_variable_placeholders(struct lf_store *s, struct lf_record *user);
void lf_variable_list(struct lf_call *c);
void lf_variable_create(struct lf_call *c);
void lf_variable_patch(struct lf_call *c);
void lf_variable_delete(struct lf_call *c);

/* ---- for tests (langflow_admin.c) ---- */

void lf_admin(void *store, const struct call *c, struct reply *out);
void lf_plant(void *store, const cJSON *objects, struct reply *out);
void lf_list(void *store, struct reply *out);

#endif
