/*
 * The stand-in upstreams: one program that plays the platform's facade, "workspaces" (Langflow's
 * side) or "collections" (RAGFlow's), the products themselves and Waldur, with fault injection
 * under /admin. An endpoint is one dialect on one port with objects, fault rules and a request log
 * of its own. Everything is in memory; one loop, no threads.
 */
#ifndef STANDIN_STANDIN_H
#define STANDIN_STANDIN_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "net/loop.h"

enum {
    STANDIN_CONNECTIONS_MAX = 10000,
    STANDIN_BODY_MAX = 16 * 1024 * 1024, /* no dialect may want more */
    FACADE_BODY_MAX = 1024 * 1024,
    STANDIN_ANSWER_MAX = 256 * 1024 * 1024, /* /admin/log of a whole storm */
};

/* ---- answers ---- */

struct reply {
    int status; /* 0: not set yet */
    char *body; /* owned; NULL for none */
    size_t len;
    cJSON *headers; /* owned, an object of strings; NULL for none */
};

void reply_done(struct reply *r);
/* Takes the tree. Everything set before goes, headers included. */
void reply_json(struct reply *r, int status, cJSON *json);
/* {"detail": ...}, as both products' frameworks write their errors. */
void reply_detail(struct reply *r, int status, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* Takes the body (malloc), which is sent as it is. */
void reply_bytes(struct reply *r, int status, const char *type, char *body, size_t len);
void reply_header(struct reply *r, const char *name, const char *value);
/* A body as JSON, or NULL and a 400 that says why. cJSON_Delete() ends it. */
cJSON *reply_parse(struct reply *r, const char *body, size_t n);

/* ---- dialects (dialect.c) ---- */

/* One request to a dialect. */
struct call {
    const char *method, *path;
    const char *body;
    size_t body_len;
    void *connection; /* for call_argument and call_header */
};

/* A query argument or a header, NULL for none. */
const char *call_argument(const struct call *c, const char *name);
const char *call_header(const struct call *c, const char *name);
/* The i-th query argument, repeated ones each for itself; false when there are not so many. */
bool call_argument_at(const struct call *c, size_t i, const char **name, const char **value);

/* What one dialect does; `store` is whatever its new() made. */
struct dialect {
    const char *name;
    const char *const *profiles; /* NULL-terminated, the default first; NULL: there are none */
    size_t body_max;             /* longer bodies are answered 413 */
    bool own_health;             /* GET /health is the product's own */
    /* profile is one of profiles, or NULL where there are none. NULL when memory ends. */
    void *(*new)(const char *token, const char *profile);
    /* What happens later can from then on happen on time and of its own accord. NULL: nothing does.
     */
    int (*attach)(void *store, struct loop *loop, struct err *err);
    void (*free)(void *store); /* NULL allowed; while the loop is still there */
    /* Authorizes the call, performs it and answers. */
    void (*handle)(void *store, const struct call *c, struct reply *out);
    /* POST /admin/objects: puts objects there as somebody else would have. */
    void (*plant)(void *store, const cJSON *objects, struct reply *out);
    /* GET /admin/objects: everything that is there, in order of creation. */
    void (*list)(void *store, struct reply *out);
    /* Other calls to /admin, path without that prefix; unanswered ones become 404. NULL: none. */
    void (*admin)(void *store, const struct call *c, struct reply *out);
};

/* The facade (store.c): every object needs a `name`; a listing is {"objects":[{"seq","marker",
 * "planted","changes","object"}],"created":N,"deleted":N}. */
extern const struct dialect dialect_workspaces, dialect_collections;

/* RAGFlow itself (ragflow.h). */
extern const struct dialect dialect_ragflow;
/* Langflow itself (langflow.h). */
extern const struct dialect dialect_langflow;
/* Waldur itself (waldur.h). */
extern const struct dialect dialect_waldur;

/* NULL for a name that is none. */
const struct dialect *dialect_find(const char *name);
/* The profile as the dialect spells it (its default for NULL); false when it has no such one. */
bool dialect_profile(const struct dialect *d, const char *wanted, const char **out);

/* ---- faults (fault.c) ---- */

enum fault_outcome {
    FAULT_NORMAL,    /* the real answer */
    FAULT_STATUS,    /* `status`, `headers`, `body` in its place */
    FAULT_CLOSE,     /* the connection ends without a byte */
    FAULT_MALFORMED, /* the real status with a body that is not JSON */
    FAULT_TRUNCATE,  /* half the body under the full Content-Length */
    FAULT_HANG       /* nothing, ever */
};

struct fault {
    const char *kind;
    enum fault_outcome outcome;
    bool act;
    bool echo; /* FAULT_STATUS: the body repeats the request's, as FastAPI's 422 does */
    int64_t before_ms, after_ms; /* waits around the acting */
    int status;
    char *body;     /* NULL: a detail that names the fault */
    cJSON *headers; /* object of strings; NULL for none */
    unsigned refs;
};

struct faults;

struct faults *faults_new(void);
void faults_free(struct faults *f);
/* One rule or an array of rules; answers {"ids":[...]}. */
void faults_add(struct faults *f, const cJSON *rules, struct reply *out);
void faults_clear(struct faults *f);
/* Every rule with how often it was seen and fired. */
void faults_list(const struct faults *f, struct reply *out);
/* Counts the request against every rule; the first one that is due. trace: its traceparent, NULL
 * for none. fault_unref() it; NULL for none. */
struct fault *faults_pick(struct faults *f, const char *method, const char *path, const char *body,
                          const char *trace);
void fault_unref(struct fault *f);

/* ---- the log of requests (journal.c) ---- */

struct journal;

struct journal *journal_new(void);
void journal_free(struct journal *j);
/* head: the members that are known on arrival, as JSON without braces; copied. Returns the
 * request's number. */
uint64_t journal_begin(struct journal *j, const char *head);
/* status 0: no answer went out. fault: static text or NULL. Forgotten requests are ignored. */
void journal_end(struct journal *j, uint64_t n, int status, const char *fault, bool acted);
/* {"entries":[...],"next":N,"dropped":N}: at most `limit` entries from number `since` on. */
void journal_list(const struct journal *j, uint64_t since, size_t limit, struct reply *out);
void journal_clear(struct journal *j);

/* ---- endpoints (server.c) ---- */

struct endpoint;

struct endpoint_options {
    const struct dialect *dialect;
    const char *profile; /* as dialect_profile gave it */
    const char *listen;  /* host:port; port 0 picks one */
    const char *token;
};

struct endpoint *endpoint_new(struct loop *loop, const struct endpoint_options *options,
                              struct err *err);
void endpoint_free(struct endpoint *e);
int endpoint_port(const struct endpoint *e);

const struct dialect *endpoint_dialect(const struct endpoint *e);
void *endpoint_store(struct endpoint *e);
struct faults *endpoint_faults(struct endpoint *e);
struct journal *endpoint_journal(struct endpoint *e);
/* From now on for ms: refuse closes the listening socket, else requests are cut off unanswered. 0
 * ends it. */
int endpoint_down(struct endpoint *e, int64_t ms, bool refuse, struct err *err);
/* Cuts off the requests that a `hang` keeps. */
void endpoint_release(struct endpoint *e);

/* ---- /admin (admin.c) ---- */

/* c->path is the path below /admin, "/faults". */
void admin_handle(struct endpoint *e, const struct call *c, struct reply *out);

#endif
