#include "waldur/op.h"

#include <stdio.h>
#include <string.h>

#include "base/str.h"
#include "waldur/native.h"

const char waldur_orders[] = "/marketplace-orders/";
const char waldur_resources[] = "/marketplace-provider-resources/";
const char waldur_keys[] = "/marketplace-resource-api-keys/";

/* ---- life ---- */

void op_init(struct waldur_op *op, const struct waldur_op_class *class,
             const struct waldur_access *access)
{
    op->class = class;
    op->access = *access;
    op->rounds_max = WALDUR_ROUNDS_MAX;
    if (op->access.settle_ms <= 0) {
        op->access.settle_ms = WALDUR_SETTLE_MS;
    }
    err_clear(&op->err);
}

void op_done(struct waldur_op *op)
{
    op->end = OP_DONE;
}

void op_fail(struct waldur_op *op, const struct err *e)
{
    op->end = OP_FAILED;
    op->err = *e;
}

void op_fail_with(struct waldur_op *op, enum err_class class, const char *what)
{
    op->end = OP_FAILED;
    err_set(&op->err, class, "%s", what);
}

static void tell_end(struct waldur_op *op, struct waldur_action *out)
{
    exchange_request_done(&out->request);
    out->effect = NULL;
    out->turn = op->end == OP_DONE ? WALDUR_DONE : WALDUR_FAILED;
    out->err = op->err;
}

void waldur_op_next(struct waldur_op *op, struct waldur_action *out)
{
    memset(out, 0, sizeof(*out));
    exchange_request_init(&out->request);
    err_clear(&out->err);
    if (op->end != OP_RUNS) {
        tell_end(op, out);
        return;
    }
    if (op->wait_ms > 0) {
        out->turn = WALDUR_WAIT;
        out->wait_ms = op->wait_ms;
        op->wait_ms = 0;
        return;
    }
    if (op->rounds >= op->rounds_max) {
        op_fail_with(op, ERR_UNKNOWN, "Waldur's answers contradict each other; gave up asking");
    } else {
        op->class->next(op, out);
    }
    if (op->end != OP_RUNS) {
        tell_end(op, out);
    }
}

void waldur_op_feed(struct waldur_op *op, const struct exchange_response *response,
                    struct waldur_outcome *out)
{
    memset(out, 0, sizeof(*out));
    err_clear(&out->err);
    if (op->end == OP_RUNS) {
        op->class->feed(op, response, out);
    }
}

void waldur_op_free(struct waldur_op *op)
{
    if (op) {
        op->class->free(op);
    }
}

/* ---- requests ---- */

void op_request(struct waldur_op *op, struct waldur_action *out, const char *path,
                const char *effect, struct buf *body)
{
    struct exchange_request *r = &out->request;
    struct buf url;
    buf_init(&url, sizeof(r->url) - 1);
    buf_adds(&url, op->access.url);
    buf_adds(&url, path);
    bool fits = !url.failed && str_copy(r->url, sizeof(r->url), buf_str(&url));
    buf_done(&url);

    op->rounds++;
    out->turn = WALDUR_REQUEST;
    out->effect = effect;
    r->method = effect ? METHOD_POST : METHOD_GET;
    r->fresh_connection = effect != NULL; /* it must not be sent twice (exchange.h) */
    r->auth_header = op->access.credential ? "Authorization" : NULL;
    r->auth_scheme = op->access.scheme ? op->access.scheme : "Token ";
    r->credential = op->access.credential;
    r->timeout_ms = op->access.timeout_ms;
    if (body) {
        r->content_type = "application/json";
        r->body = *body;
        buf_init(body, body->max);
    }
    if (!fits || r->body.failed) {
        op_fail_with(op, ERR_INTERNAL,
                     "the request could not be built (memory, or a URL or body too long)");
    }
}

void op_look(struct waldur_op *op, struct waldur_action *out, const char *collection,
             const char *uuid)
{
    char path[128];
    snprintf(path, sizeof(path), "%s%s/", collection, uuid);
    op_request(op, out, path, NULL, NULL);
}

void op_post(struct waldur_op *op, struct waldur_action *out, const char *collection,
             const char *uuid, const char *action, const char *effect, struct buf *body)
{
    char path[160];
    struct buf empty;
    snprintf(path, sizeof(path), "%s%s/%s/", collection, uuid, action);
    buf_init(&empty, 16);
    if (!body) {
        buf_adds(&empty, "{}");
    }
    op_request(op, out, path, effect, body ? body : &empty);
}

void op_backend_id_body(struct buf *body, const char *backend_id)
{
    buf_init(body, EXCHANGE_REQUEST_MAX);
    buf_adds(body, "{\"backend_id\":");
    buf_add_json(body, backend_id);
    buf_addc(body, '}');
}

/* ---- answers ---- */

bool op_answered(const struct exchange_response *r)
{
    cJSON *tree = NULL;
    struct json_fault fault;
    if (r->truncated) {
        return false;
    }
    if (r->body_len == 0) {
        return r->status >= 200 && r->status <= 299; /* actions' answers may be empty */
    }
    bool json = json_parse(r->body, r->body_len, &waldur_body_limits, &tree, &fault) == 0;
    cJSON_Delete(tree);
    return json;
}

static void redact(const struct waldur_op *op, struct err *e)
{
    if (op->access.credential) {
        err_redact(e, op->access.credential);
    }
    if (op->class->redact) {
        op->class->redact(op, e);
    }
}

enum err_class op_classify(const struct waldur_op *op, const struct exchange_response *r,
                           struct waldur_outcome *out)
{
    struct err *e = &out->err;
    exchange_classify(r, e);
    bool json = r->status != 0 && op_answered(r);
    if (e->class == ERR_GONE && !json) {
        /* What stands before a Waldur that restarts says so, too. */
        err_set(e, ERR_UNAVAILABLE,
                "HTTP %d that is not of Waldur's API; where it stays, check waldur.url", r->status);
        e->http_status = r->status;
    }
    out->answered = json && r->status < 500 && e->class != ERR_THROTTLED;
    redact(op, e);
    return e->class;
}

enum err_class op_looked(const struct waldur_op *op, const struct exchange_response *r,
                         struct waldur_outcome *out)
{
    if (op_classify(op, r, out) == ERR_CONFLICT) {
        out->err.class = ERR_UNAVAILABLE;
    }
    return out->err.class;
}

void op_unreadable(struct waldur_op *op, const struct exchange_response *r,
                   struct waldur_outcome *out, const char *what, const struct json_fault *fault)
{
    bool internal = fault && fault->internal;
    err_set(&out->err, internal ? ERR_INTERNAL : ERR_UNKNOWN, "HTTP %d whose body is no %s%s%s%s%s",
            r->status, what, fault ? ": " : "", fault ? fault->pointer : "",
            fault && fault->pointer[0] ? " " : "", fault ? fault->reason : "");
    out->err.http_status = r->status;
    out->answered = out->answered && fault && fault->pointer[0];
    redact(op, &out->err);
    op_fail(op, &out->err);
}

/* A success whose body may be read; else the operation has failed, unless it is gone. */
static bool readable(struct waldur_op *op, const struct exchange_response *r,
                     struct waldur_outcome *out, const char *what)
{
    enum err_class class = op_looked(op, r, out);
    if (class == ERR_NONE && r->truncated) {
        op_unreadable(op, r, out, what, NULL);
        return false;
    }
    if (class != ERR_NONE && class != ERR_GONE) {
        op_fail(op, &out->err);
    }
    return class == ERR_NONE;
}

bool op_read_order(struct waldur_op *op, const struct exchange_response *r, const char *uuid,
                   struct waldur_order *it, struct waldur_outcome *out)
{
    struct waldur_order o;
    struct json_fault fault;
    if (!readable(op, r, out, "order")) {
        return false;
    }
    if (waldur_order_decode(r->body, r->body_len, &o, &fault)) {
        op_unreadable(op, r, out, "order", &fault);
        return false;
    }
    if (!str_eq(o.uuid, uuid)) {
        waldur_order_done(&o);
        op_unreadable(op, r, out, "order of this UUID", NULL);
        return false;
    }
    waldur_order_done(it);
    *it = o;
    return true;
}

bool op_read_resource(struct waldur_op *op, const struct exchange_response *r, const char *uuid,
                      struct waldur_resource *it, struct waldur_outcome *out)
{
    struct waldur_resource s;
    struct json_fault fault;
    if (!readable(op, r, out, "resource")) {
        return false;
    }
    if (waldur_resource_decode(r->body, r->body_len, &s, &fault)) {
        op_unreadable(op, r, out, "resource", &fault);
        return false;
    }
    if (!str_eq(s.uuid, uuid)) {
        waldur_resource_done(&s);
        op_unreadable(op, r, out, "resource of this UUID", NULL);
        return false;
    }
    waldur_resource_done(it);
    *it = s;
    return true;
}

/* ---- changes ---- */

static void give_up(struct waldur_op *op, const struct change *c, const char *what)
{
    struct err e = c->err;
    if (c->outcome == WALDUR_EFFECT_DONE) {
        err_set(&e, ERR_UNKNOWN, "%s, although Waldur took the request", what);
    } else {
        if (e.class == ERR_CONFLICT || e.class == ERR_GONE) {
            e.class = ERR_UNAVAILABLE; /* busy with it, or not yet: time may help */
        }
        err_prefix(&e, "%s", what);
    }
    op_fail(op, &e);
}

enum change_turn op_pursue(struct waldur_op *op, struct change *c, const char *what)
{
    if (c->posts == 0 || (c->outcome == WALDUR_EFFECT_UNKNOWN && c->posts < CHANGE_POSTS_MAX)) {
        return CHANGE_POST;
    }
    if (c->outcome == WALDUR_EFFECT_UNKNOWN || ++c->looks >= WALDUR_LOOKS_MAX) {
        give_up(op, c, what);
        return CHANGE_FAILED;
    }
    op->wait_ms = op->access.settle_ms << (c->looks - 1);
    return CHANGE_LOOK;
}

static enum waldur_effect effect_of(const struct exchange_response *r, enum err_class class)
{
    switch (class) {
    case ERR_NONE:
        return WALDUR_EFFECT_DONE;
    case ERR_UNKNOWN:
        return WALDUR_EFFECT_UNKNOWN;
    case ERR_UNAVAILABLE:
        return r->sent ? WALDUR_EFFECT_REFUSED : WALDUR_EFFECT_NOT_SENT; /* sent: a 404 */
    case ERR_THROTTLED:
        return r->status == 429 ? WALDUR_EFFECT_REFUSED : WALDUR_EFFECT_UNKNOWN;
    case ERR_INVALID:
    case ERR_UNAUTHORIZED:
    case ERR_REFUSED:
    case ERR_CONFLICT:
    case ERR_GONE:
    case ERR_INTERNAL:
    case ERR_CLASS_MAX:
        break;
    }
    return WALDUR_EFFECT_REFUSED;
}

bool op_posted(struct waldur_op *op, struct change *c, const struct exchange_response *r,
               struct waldur_outcome *out)
{
    enum err_class class = op_classify(op, r, out);
    if (class == ERR_NONE && !out->answered) {
        class = ERR_UNKNOWN;
        err_set(&out->err, class, "HTTP %d that is not of Waldur's API", r->status);
        out->err.http_status = r->status;
    }
    out->effect = effect_of(r, class);
    c->posts++;
    c->looks = 0;
    c->outcome = out->effect;
    c->err = out->err;
    if (class == ERR_UNKNOWN) {
        op->wait_ms = op->access.settle_ms; /* it may still be under way */
    }
    if (class != ERR_NONE && class != ERR_UNKNOWN && class != ERR_CONFLICT && class != ERR_GONE) {
        op_fail(op, &out->err);
        return false;
    }
    return true;
}
