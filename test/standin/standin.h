/*
 * The stand-in upstreams: one program that plays the platform's facade, "workspaces" (Langflow's
 * side) or "collections" (RAGFlow's), with fault injection under /admin. An endpoint is one dialect
 * on one port with objects, fault rules and a request log of its own. Everything is in memory; one
 * loop, no threads.
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
    STANDIN_BODY_MAX = 1024 * 1024,
    STANDIN_ANSWER_MAX = 256 * 1024 * 1024, /* /admin/log of a whole storm */
};

enum dialect { DIALECT_WORKSPACES, DIALECT_COLLECTIONS, DIALECT_MAX };

const char *dialect_name(enum dialect d);
bool dialect_parse(const char *name, enum dialect *out);

/* ---- answers ---- */

struct reply {
    int status; /* 0: not set yet */
    char *body; /* owned; NULL for none */
    size_t len;
};

void reply_done(struct reply *r);
/* Takes the tree. */
void reply_json(struct reply *r, int status, cJSON *json);
/* {"detail": ...}, as both products' frameworks write their errors. */
void reply_detail(struct reply *r, int status, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* A body as JSON, or NULL and a 400 that says why. cJSON_Delete() ends it. */
cJSON *reply_parse(struct reply *r, const char *body, size_t n);

/* ---- objects (store.c) ---- */

struct store;

struct store_request {
    const char *method, *path;
    const char *name; /* ?name=, NULL for none */
    const char *body;
    size_t body_len;
};

struct store *store_new(enum dialect dialect);
void store_free(struct store *s);
/* The facade itself: performs the request and answers it. */
void store_handle(struct store *s, const struct store_request *rq, struct reply *out);
/* Puts objects there as somebody else would have: one object or an array, members as they are. */
void store_plant(struct store *s, const cJSON *objects, struct reply *out);
/* {"objects":[{"seq","marker","planted","changes","object"}],"created":N,"deleted":N} in order of
 * creation. */
void store_list(const struct store *s, struct reply *out);

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
/* Counts the request against every rule; the first one that is due. fault_unref() it; NULL for
 * none. */
struct fault *faults_pick(struct faults *f, const char *method, const char *path, const char *body);
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
    enum dialect dialect;
    const char *listen; /* host:port; port 0 picks one */
    const char *token;
};

struct endpoint *endpoint_new(struct loop *loop, const struct endpoint_options *options,
                              struct err *err);
void endpoint_free(struct endpoint *e);
int endpoint_port(const struct endpoint *e);

struct store *endpoint_store(struct endpoint *e);
struct faults *endpoint_faults(struct endpoint *e);
struct journal *endpoint_journal(struct endpoint *e);
/* From now on for ms: refuse closes the listening socket, else requests are cut off unanswered. 0
 * ends it. */
int endpoint_down(struct endpoint *e, int64_t ms, bool refuse, struct err *err);
/* Cuts off the requests that a `hang` keeps. */
void endpoint_release(struct endpoint *e);

/* ---- /admin (admin.c) ---- */

struct admin_request {
    const char *method, *path; /* path below /admin, "/faults" */
    const char *since, *limit; /* query arguments, NULL for none */
    const char *body;
    size_t body_len;
};

void admin_handle(struct endpoint *e, const struct admin_request *rq, struct reply *out);

#endif
