/*
 * What the operations share: reading members, making requests, and the life of a change.
 */
#ifndef WALDUR_NATIVE_H
#define WALDUR_NATIVE_H

#include "base/json.h"
#include "base/uuid.h"
#include "waldur/key.h"
#include "waldur/op.h"
#include "waldur/order.h"

/* ---- members (read.c) ---- */

/* Refuses the member at the path (json_get's); returns -1. */
int waldur_refuse(struct json_fault *fault, const char *path, const char *reason);
/* *text is NULL where nothing is given: not there, null, "", or Python's None as text. A path that
 * is NULL gives nothing. */
int waldur_read_text(const cJSON *tree, const char *path, const char **text,
                     struct json_fault *fault);
/* Leaves out as it is where nothing is given. */
int waldur_read_uuid(const cJSON *tree, const char *path, char out[UUID_TEXT],
                     struct json_fault *fault);
/* Microseconds; likewise. */
int waldur_read_time(const cJSON *tree, const char *path, int64_t *us, struct json_fault *fault);
/* At most `max` characters; a longer text is cut. */
int waldur_read_cut(const cJSON *tree, const char *path, char *out, size_t max,
                    struct json_fault *fault);
/* Likewise; a longer text is refused. */
int waldur_read_whole(const cJSON *tree, const char *path, char *out, size_t max,
                      struct json_fault *fault);
int waldur_read_flag(const cJSON *tree, const char *path, bool *out, struct json_fault *fault);
/* What an answer may be at most. */
extern const struct json_limits waldur_body_limits;

/* ---- operations (op.c) ---- */

struct waldur_op_class {
    /* Makes the request (or the shell's turn) of the step that it is in. What is next, and whether
     * to wait before, is decided when an answer is fed. */
    void (*next)(struct waldur_op *op, struct waldur_action *out);
    void (*feed)(struct waldur_op *op, const struct exchange_response *r,
                 struct waldur_outcome *out);
    void (*free)(struct waldur_op *op);
    /* Takes the operation's own secrets out of an error; NULL: it has none. */
    void (*redact)(const struct waldur_op *op, struct err *err);
};

enum op_end { OP_RUNS, OP_DONE, OP_FAILED };

/* The beginning of every operation. */
struct waldur_op {
    const struct waldur_op_class *class;
    struct waldur_access access;
    enum op_end end;
    int rounds;      /* requests so far */
    int rounds_max;  /* and at most */
    bool doubted;    /* KEYS_DOUBT was said */
    int64_t wait_ms; /* to be waited out before the next request; 0: none */
    struct err err;  /* OP_FAILED */
};

void op_init(struct waldur_op *op, const struct waldur_op_class *class,
             const struct waldur_access *access);
void op_done(struct waldur_op *op);
void op_fail(struct waldur_op *op, const struct err *e);
void op_fail_with(struct waldur_op *op, enum err_class class, const char *what);

/*
 * Fills a request for access.url + path, which begins with a slash, has every value encoded, and
 * ends with the slash that Django wants before a query. body: JSON, moved out of it; NULL: a look.
 */
void op_request(struct waldur_op *op, struct waldur_action *out, const char *path,
                const char *effect, struct buf *body);
/* The same for /collection/{uuid}/ and /collection/{uuid}/action/. */
void op_look(struct waldur_op *op, struct waldur_action *out, const char *collection,
             const char *uuid);
void op_post(struct waldur_op *op, struct waldur_action *out, const char *collection,
             const char *uuid, const char *action, const char *effect, struct buf *body);

/* {"backend_id": ...}; buf_done() by whoever it is moved to. */
void op_backend_id_body(struct buf *body, const char *backend_id);

extern const char waldur_orders[], waldur_resources[], waldur_keys[]; /* collections */

/* exchange_classify by Waldur's rules (op.h), without secrets; sets out->err and out->answered. */
enum err_class op_classify(const struct waldur_op *op, const struct exchange_response *r,
                           struct waldur_outcome *out);
/* The same of a look, to which a 409 is no answer. */
enum err_class op_looked(const struct waldur_op *op, const struct exchange_response *r,
                         struct waldur_outcome *out);
/* Is the body JSON, or empty where that is an answer? */
bool op_answered(const struct exchange_response *r);
/* A success that cannot be read: ERR_UNKNOWN in out->err, and the operation fails by it. */
void op_unreadable(struct waldur_op *op, const struct exchange_response *r,
                   struct waldur_outcome *out, const char *what, const struct json_fault *fault);
/*
 * Reads the order or resource of this UUID into *it, in place of what was there. False where it
 * could not, and then the operation has failed, unless out->err is ERR_GONE.
 */
bool op_read_order(struct waldur_op *op, const struct exchange_response *r, const char *uuid,
                   struct waldur_order *it, struct waldur_outcome *out);
bool op_read_resource(struct waldur_op *op, const struct exchange_response *r, const char *uuid,
                      struct waldur_resource *it, struct waldur_outcome *out);

/* ---- changes (op.c) ---- */

enum { CHANGE_POSTS_MAX = 3 };

/* One change that an operation may have to bring about. All zero at first. */
struct change {
    int posts;
    int looks; /* that did not show it, since the last post */
    enum waldur_effect outcome;
    struct err err; /* what the last post was told */
};

enum change_turn { CHANGE_POST, CHANGE_LOOK, CHANGE_FAILED };

/*
 * A look has just shown that it is not made: post it, look again (a wait is set), or the operation
 * fails. `what` says what did not happen, for people.
 */
enum change_turn op_pursue(struct waldur_op *op, struct change *c, const char *what);
/*
 * The answer to a post. True: look next (a wait is set where the answer leaves it open), else the
 * operation has failed; what the caller wants to handle itself, it looks at before.
 */
bool op_posted(struct waldur_op *op, struct change *c, const struct exchange_response *r,
               struct waldur_outcome *out);

/* ---- a resource's keys (keys.c) ---- */

struct key_row {
    char uuid[UUID_TEXT];
    char resource_uuid[UUID_TEXT];
    enum waldur_key_state state;
    char client_id[WALDUR_CLIENT_ID_MAX * WALDUR_CHARACTER + 1];
    int64_t modified_us; /* -1 where it is not told */
};

enum {
    PAGE_LEAST = 10, /* what Waldur's pages hold at least: a shorter one is the last */
    KEY_PAGES_MAX = 20,
};

enum keys_read { KEYS_MORE, KEYS_END, KEYS_NONE_HERE, KEYS_DOUBT, KEYS_FAILED };

/* The answer to a first page of keys was a 404. */
enum keys_read op_without_keys(struct waldur_op *op, struct waldur_outcome *out);
int key_row_read(const cJSON *item, struct key_row *out, struct json_fault *fault);

/* The look at a page of the keys of a resource. */
void op_look_keys(struct waldur_op *op, struct waldur_action *out, const char *resource, int page);
/*
 * Its answer: each row of that resource is told. KEYS_NONE_HERE: this Waldur has no keys.
 * KEYS_DOUBT: so it seems, for the first time, by a page that a proxy may have made; look again.
 */
enum keys_read op_read_keys(struct waldur_op *op, const struct exchange_response *r,
                            const char *resource, int page,
                            void (*row)(void *ctx, const struct key_row *row), void *ctx,
                            struct waldur_outcome *out);

#endif
