#include "langflow/native.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "langflow/langflow.h"

enum {
    OPENS_MAX = 4, /* open outcomes in a row: more tell of a server that is not well */
};

/* ---- life ---- */

void langflow_wipe(char *secret)
{
    volatile char *p = secret;
    while (p && *p) {
        *p++ = '\0';
    }
}

static void op_free(struct driver_op *op)
{
    if (!op) {
        return;
    }
    langflow_queue_clear(op);
    free(op->queue);
    langflow_variables_free(op);
    langflow_wipe(op->key);
    langflow_wipe(op->token);
    free(op->token);
    free(op->username);
    free(op->flow_name);
    if (op->site) {
        driver_site_unref(&op->site->base);
    }
    free(op);
}

static struct driver_op *op_new(const struct driver_target *target, struct err *err)
{
    if (!target->site) {
        err_set(err, ERR_INTERNAL, "a langflow operation without a site");
        return NULL;
    }
    struct driver_op *op = calloc(1, sizeof(*op));
    if (!op) {
        err_nomem(err);
        return NULL;
    }
    op->target = target;
    op->site = (struct langflow_site *)driver_site_ref(target->site);
    return op;
}

static struct driver_op *start(enum driver_goal goal, const struct driver_target *target,
                               struct err *err)
{
    if (goal == DRIVER_PRESENT && !(target->flow_id && target->flow_uuid)) {
        err_set(err, ERR_INVALID,
                "the offering names no flow; give it one (offerings.<type>.flow), then replay");
        return NULL;
    }
    struct driver_op *op = op_new(target, err);
    if (!op) {
        return NULL;
    }
    op->goal = goal;
    op->settled = target->observe || !(target->uncertain || target->updating);
    const char *id = target->external_id;
    if (id && uuid_parse(id, strlen(id), op->user_id) && target->secret &&
        str_copy(op->key, sizeof(op->key), target->secret) && op->key[0] != '\0') {
        op->entry = ENTRY_KEY;
        op->kept = true;
    }
    if (langflow_variables_want(op, err)) {
        op_free(op);
        return NULL;
    }
    return op;
}

static struct driver_op *inspect(const struct driver_target *target, struct driver_report *report,
                                 struct err *err)
{
    struct driver_op *op = op_new(target, err);
    if (op) {
        op->report = report;
        report->n = 0;
    }
    return op;
}

/* ---- how it stands ---- */

/* Servers repeat what they were sent. */
static void scrub(const struct driver_op *op, struct err *e)
{
    err_redact(e, op->target->password);
    err_redact(e, op->target->secret);
    err_redact(e, op->target->proof);
    err_redact(e, op->target->collection_key);
    err_redact(e, op->key);
    err_redact(e, op->token);
}

static void fail(struct driver_op *op, const struct err *e)
{
    op->failed = true;
    op->err = *e;
    scrub(op, &op->err);
}

void langflow_fail(struct driver_op *op, enum err_class class, const char *fmt, ...)
{
    char text[ERR_MSG_MAX];
    struct err e;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    err_set(&e, class, "%s", text);
    fail(op, &e);
}

bool langflow_stopped(const struct driver_op *op)
{
    return op->done || op->failed || op->wait_ms > 0;
}

bool langflow_since(const struct driver_op *op, int minor)
{
    return op->site->minor >= minor;
}

void langflow_settle(struct driver_op *op)
{
    op->wait_ms = op->target->settle_ms > 0 ? op->target->settle_ms : 1;
}

void langflow_forget_entry(struct driver_op *op)
{
    langflow_wipe(op->token);
    free(op->token);
    op->token = NULL;
    langflow_wipe(op->key);
    op->key[0] = '\0';
    op->entry = ENTRY_NONE;
    op->kept = false;
    op->proven = false;
    op->opened = false;
}

void langflow_leave(struct driver_op *op)
{
    langflow_forget_entry(op);
    op->keys_listed = false;
    op->flows_listed = false;
    op->flow_lists = 0;
    op->messages_listed = false;
    op->files_gone = false;
    op->variables_listed = false;
    langflow_queue_clear(op);
}

void langflow_residue(struct driver_op *op, const char *what)
{
    size_t n = strlen(op->residue);
    if (!strstr(op->residue, what)) {
        snprintf(op->residue + n, sizeof(op->residue) - n, "%s%s", n > 0 ? "; " : "", what);
    }
}

/* ---- the queue ---- */

static bool queue_grow(struct driver_op *op)
{
    size_t room = op->queue_room ? 2 * op->queue_room : 8;
    struct langflow_item *more = reallocarray(op->queue, room, sizeof(*more));
    if (!more) {
        return false;
    }
    op->queue = more;
    op->queue_room = room;
    return true;
}

bool langflow_queue(struct driver_op *op, const struct langflow_step *step, const char *id,
                    const char *name, const char *endpoint, size_t variable)
{
    if (op->n_queue == LANGFLOW_QUEUE_MAX) {
        op->cut = true;
        return true;
    }
    struct langflow_item item = {
        .step = step, .name = str_dup(name), .endpoint = str_dup(endpoint), .variable = variable};
    str_copy(item.id, sizeof(item.id), id);
    bool room = op->n_queue < op->queue_room || queue_grow(op);
    if (!room || (name && !item.name) || (endpoint && !item.endpoint)) {
        free(item.name);
        free(item.endpoint);
        langflow_fail(op, ERR_INTERNAL, "out of memory");
        return false;
    }
    op->queue[op->n_queue++] = item;
    return true;
}

struct langflow_item *langflow_item(struct driver_op *op)
{
    return op->at < op->n_queue ? &op->queue[op->at] : NULL;
}

void langflow_queue_clear(struct driver_op *op)
{
    for (size_t i = 0; i < op->n_queue; i++) {
        free(op->queue[i].name);
        free(op->queue[i].endpoint);
    }
    op->n_queue = 0;
    op->at = 0;
    op->cut = false;
    langflow_files_clear(op);
}

void langflow_item_done(struct driver_op *op)
{
    op->at++;
    if (op->at < op->n_queue) {
        return;
    }
    if (op->cut) {
        op->flows_listed = op->keys_listed = op->variables_listed = false;
    }
    langflow_queue_clear(op);
}

/* ---- next ---- */

static void authenticate(const struct driver_op *op, enum langflow_as as,
                         struct exchange_request *r)
{
    if (as == AS_PLATFORM && op->target->credential) {
        r->auth_header = "x-api-key";
        r->credential = op->target->credential;
    } else if (as == AS_TENANT && op->entry == ENTRY_KEY) {
        r->auth_header = "x-api-key";
        r->credential = op->key;
    } else if (as == AS_TENANT && op->entry == ENTRY_TOKEN) {
        r->auth_header = "Authorization";
        r->auth_scheme = "Bearer ";
        r->credential = op->token;
    }
}

/* False where it could not be built; the operation has failed then. */
static bool build(struct driver_op *op, const struct langflow_step *step, struct driver_action *out)
{
    struct exchange_request *r = &out->request;
    r->method = step->method;
    r->timeout_ms = op->target->timeout_ms;
    r->fresh_connection = step->method == METHOD_POST && step->effect;
    authenticate(op, step->as, r);
    step->build(op, r);
    if (!op->failed && (r->body.failed || r->url[0] == '\0')) {
        langflow_fail(op, ERR_INTERNAL,
                      "%s: the request could not be built (memory, or a URL too long)", step->what);
    }
    if (op->failed) {
        exchange_request_done(r);
        return false;
    }
    op->step = step;
    out->turn = TURN_REQUEST;
    out->effect = step->effect;
    if (step == &langflow_user_delete) {
        str_copy(out->deletes, sizeof(out->deletes), op->user_id);
    }
    return true;
}

static bool request(struct driver_op *op, struct driver_action *out)
{
    const struct langflow_step *step = op->report ? langflow_inspect_plan(op) : langflow_plan(op);
    if (!step) {
        return false;
    }
    /* Items are bounded by their list, further pages by their number. */
    bool counts = !step->queued && op->skip == 0;
    if (counts && op->rounds++ >= DRIVER_ROUNDS_MAX) {
        langflow_fail(op, ERR_UNKNOWN,
                      "the server's answers contradict each other; gave up asking");
        return false;
    }
    return build(op, step, out);
}

static void result(const struct driver_op *op, struct driver_action *out)
{
    const struct driver_target *t = op->target;
    bool there = op->user == USER_THERE;
    out->turn = TURN_DONE;
    out->sight = op->sight;
    out->met = op->met;
    str_copy(out->residue, sizeof(out->residue), op->residue);
    if (!there) {
        return;
    }
    str_copy(out->external_id, sizeof(out->external_id), op->user_id);
    str_copy(out->flow_id, sizeof(out->flow_id), t->flow_uuid ? t->flow_uuid : "");
    if (op->goal == DRIVER_PRESENT) {
        str_copy(out->secret, sizeof(out->secret), op->key);
    }
}

static void next(struct driver_op *op, struct driver_action *out)
{
    memset(out, 0, sizeof(*out));
    exchange_request_init(&out->request);
    err_clear(&out->err);
    if (!langflow_stopped(op) && request(op, out)) {
        return;
    }
    if (op->failed) {
        out->turn = TURN_FAILED;
        out->err = op->err;
    } else if (op->wait_ms > 0) {
        out->turn = TURN_WAIT;
        out->wait_ms = op->wait_ms;
        op->wait_ms = 0;
    } else {
        result(op, out);
    }
}

/* ---- feed ---- */

static enum langflow_verdict judge(const struct exchange_response *r, enum err_class class)
{
    static const char json[] = "application/json";
    bool named = r->content_type[0] != '\0';
    switch (class) {
    case ERR_NONE:
        return r->status != 204 && (r->truncated || (named && !str_eq(r->content_type, json)))
                   ? VERDICT_ODD
                   : VERDICT_GOOD;
    case ERR_GONE:
        return VERDICT_GONE;
    case ERR_UNAUTHORIZED:
        return VERDICT_DENIED;
    case ERR_THROTTLED:
        return VERDICT_LATER;
    case ERR_REFUSED:
    case ERR_CONFLICT:
    case ERR_INVALID:
        return VERDICT_REFUSED;
    case ERR_UNAVAILABLE:
    case ERR_UNKNOWN:
    case ERR_INTERNAL:
    case ERR_CLASS_MAX:
        break;
    }
    return VERDICT_OPEN;
}

static enum driver_effect effect_of(enum langflow_verdict verdict, int status)
{
    switch (verdict) {
    case VERDICT_GOOD:
        return EFFECT_DONE;
    case VERDICT_GONE:
    case VERDICT_DENIED:
    case VERDICT_REFUSED:
        return EFFECT_REFUSED;
    case VERDICT_LATER:
        return status == 429 ? EFFECT_REFUSED : EFFECT_UNKNOWN;
    case VERDICT_ODD:
    case VERDICT_OPEN:
        break;
    }
    return EFFECT_UNKNOWN;
}

/* What an answer says of the server, whoever it was about. */
static enum driver_health health_of(const struct langflow_step *step, enum langflow_verdict verdict)
{
    bool real = verdict == VERDICT_REFUSED || verdict == VERDICT_GONE ||
                (verdict == VERDICT_DENIED && step->as != AS_PLATFORM);
    return real ? HEALTH_GOOD : HEALTH_AS_SEEN;
}

/* A 422 repeats what it was sent, passwords included: its words go nowhere. */
static void word(const struct langflow_step *step, const struct exchange_response *r, struct err *e)
{
    if (e->class == ERR_NONE) {
        return;
    }
    if (r->status == 422) {
        err_set(e, ERR_REFUSED, "HTTP 422: the server does not take what it was sent%s%s",
                r->request_id[0] ? ", request " : "", r->request_id);
        e->http_status = r->status;
    } else if (e->class == ERR_CONFLICT) {
        e->class = ERR_REFUSED; /* a conflict, here, is about who owns a name */
    }
    err_prefix(e, "%s", step->what);
}

/* 1.8 says so of any trouble while it looks a key up, and of a key that it has just made any may:
 * one such answer is no proof. */
static void denied(struct driver_op *op, struct langflow_answer *a)
{
    const struct langflow_step *step = op->step;
    bool doubtful = !langflow_since(op, 10) || (step->as == AS_TENANT && !op->kept);
    if (doubtful && !op->denied) {
        op->denied = true;
        langflow_settle(op);
        a->out->health = HEALTH_GOOD;
        return;
    }
    if (step->as == AS_TENANT && op->entry != ENTRY_NONE) {
        langflow_leave(op);
        return;
    }
    fail(op, &a->out->err);
}

/* What was to be changed may have been, and may yet be. */
static void open_outcome(struct driver_op *op, struct langflow_answer *a)
{
    const struct langflow_step *step = op->step;
    a->out->effect = EFFECT_UNKNOWN;
    if (step->doubt) {
        step->doubt(op);
    }
    if (++op->opens > OPENS_MAX) {
        fail(op, &a->out->err);
        return;
    }
    langflow_settle(op);
}

static void odd(const struct driver_op *op, struct langflow_answer *a)
{
    struct err *e = &a->out->err;
    err_set(e, ERR_UNKNOWN, "%s: HTTP %d with a body that does not say so", op->step->what,
            a->r->status);
    e->http_status = a->r->status;
    a->out->health = HEALTH_AS_SAID;
}

/* The answer was not what the step hoped for. */
static void usual(struct driver_op *op, struct langflow_answer *a)
{
    struct driver_outcome *out = a->out;
    bool change = op->step->effect != NULL;
    switch (a->verdict) {
    case VERDICT_DENIED:
        denied(op, a);
        return;
    case VERDICT_GOOD:
    case VERDICT_ODD:
        odd(op, a);
        break;
    case VERDICT_GONE:
        /* Not an end: what stands before a server that restarts says so, too. */
        out->err.class = ERR_UNAVAILABLE;
        out->health = op->step->as == AS_PLATFORM ? HEALTH_AS_SAID : out->health;
        fail(op, &out->err);
        return;
    case VERDICT_REFUSED:
    case VERDICT_LATER:
        fail(op, &out->err);
        return;
    case VERDICT_OPEN:
        break;
    }
    if (change) {
        open_outcome(op, a);
    } else {
        fail(op, &out->err);
    }
}

static void feed(struct driver_op *op, const struct exchange_response *response,
                 struct driver_outcome *out)
{
    const struct langflow_step *step = op->step;
    memset(out, 0, sizeof(*out));
    err_clear(&out->err);
    if (!step) {
        return; /* nothing was asked */
    }
    exchange_classify(response, &out->err);
    struct langflow_answer a = {
        .r = response, .out = out, .verdict = judge(response, out->err.class)};
    word(step, response, &out->err);
    out->health = health_of(step, a.verdict);
    if (out->err.class == ERR_UNAVAILABLE && response->status == 0) {
        out->effect = EFFECT_NOT_SENT;
        fail(op, &out->err);
    } else {
        out->effect = effect_of(a.verdict, response->status);
        if (!step->feed(op, &a)) {
            usual(op, &a);
        } else if (op->failed) {
            out->err = op->err;
        } else {
            err_clear(&out->err);
        }
        op->denied = op->denied && a.verdict != VERDICT_GOOD;
        op->opens = step->effect && a.verdict == VERDICT_GOOD ? 0 : op->opens;
    }
    if (!step->effect) {
        out->effect = EFFECT_NONE;
    }
    scrub(op, &out->err);
    op->step = NULL;
}

const struct driver_class langflow_class = {
    .api = "langflow",
    .start = start,
    .next = next,
    .feed = feed,
    .free = op_free,
    .site_new = langflow_site_new,
    .site_free = langflow_site_free,
    .inspect = inspect,
};
