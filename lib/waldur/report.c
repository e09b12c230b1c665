#include "waldur/report.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "waldur/native.h"

/*
 * Order, resource, keys, and the order again right before the last word, which is posted only where
 * that look says that it executes. Each change goes back to the look that shows it.
 */
enum step {
    LOOK_ORDER,
    LOOK_RESOURCE,
    LOOK_KEYS,
    SET_EXECUTING,
    SET_BACKEND_ID,
    SET_METADATA,
    SET_ENDPOINTS,
    REPORT_KEY,
    SET_VERDICT,
};

struct told_key {
    bool there; /* in the list that is being read */
    struct change change;
};

struct report_op {
    struct waldur_op op;
    struct waldur_report_target target;
    enum step step;
    bool told_all; /* what a buyer needs is there: only the last word is missing */
    bool endpoints_doubted;
    bool no_return; /* an erred order that cannot be set executing again */
    cJSON *metadata;
    struct waldur_order order;
    struct waldur_resource resource;
    struct change executing, backend_id, metadata_change, endpoints, verdict;
    struct told_key *keys; /* one for each of the target's */
    size_t key;            /* the one to be reported */
    int page;
    struct waldur_report result;
};

static bool is_done(const struct report_op *o)
{
    return o->target.verdict == WALDUR_VERDICT_DONE;
}

static void end(struct report_op *o, enum waldur_report_end how)
{
    o->result.end = how;
    op_done(&o->op);
}

static void pursue(struct report_op *o, struct change *c, enum step post, enum step look,
                   const char *what)
{
    switch (op_pursue(&o->op, c, what)) {
    case CHANGE_POST:
        o->step = post;
        break;
    case CHANGE_LOOK:
        o->step = look;
        o->page = 1;
        break;
    case CHANGE_FAILED:
        break;
    }
}

/* ---- the order ---- */

static void order_erred(struct report_op *o)
{
    if (!is_done(o)) {
        end(o, o->verdict.posts > 0 ? WALDUR_REPORT_TOLD : WALDUR_REPORT_ALREADY);
    } else if (o->no_return || o->verdict.posts > 0) {
        end(o, WALDUR_REPORT_CLOSED);
    } else {
        pursue(o, &o->executing, SET_EXECUTING, LOOK_ORDER,
               "the order that erred is not set executing again");
    }
}

static void order_executes(struct report_op *o)
{
    const struct waldur_report_target *t = &o->target;
    bool resource = t->backend_id || (is_done(o) && (o->metadata || t->n_endpoints > 0));
    bool keys = is_done(o) && t->n_keys > 0;
    if (!o->told_all && (resource || keys)) {
        o->step = resource ? LOOK_RESOURCE : LOOK_KEYS;
        o->page = 1;
        return;
    }
    pursue(o, &o->verdict, SET_VERDICT, LOOK_ORDER,
           is_done(o) ? "the order still executes after it was set done; where another order of "
                        "the same type executes for its resource, cancel one at Waldur"
                      : "the order still executes after it was set erred; where another order of "
                        "the same type executes for its resource, cancel one at Waldur");
}

/* It needs no report any more; but a key that is kept until Waldur has it is the resource's. */
static void order_done(struct report_op *o)
{
    if (is_done(o) && o->verdict.posts > 0) {
        end(o, WALDUR_REPORT_TOLD);
    } else if (is_done(o) && o->target.n_keys > 0) {
        o->step = LOOK_KEYS;
        o->page = 1;
    } else {
        end(o, WALDUR_REPORT_ALREADY);
    }
}

static void after_order(struct report_op *o)
{
    o->result.state = o->order.state;
    switch (o->order.state) {
    case WALDUR_ORDER_EXECUTING:
        order_executes(o);
        return;
    case WALDUR_ORDER_DONE:
        order_done(o);
        return;
    case WALDUR_ORDER_ERRED:
        order_erred(o);
        return;
    case WALDUR_ORDER_CANCELED:
    case WALDUR_ORDER_REJECTED:
        end(o, WALDUR_REPORT_CLOSED);
        return;
    case WALDUR_ORDER_UNKNOWN:
    case WALDUR_ORDER_PENDING_CONSUMER:
    case WALDUR_ORDER_PENDING_PROVIDER:
    case WALDUR_ORDER_PENDING_PROJECT:
    case WALDUR_ORDER_PENDING_START_DATE:
    case WALDUR_ORDER_MAX:
        break;
    }
    end(o, WALDUR_REPORT_PENDING);
}

/* ---- the resource ---- */

static bool has_endpoint(const cJSON *endpoints, const struct waldur_endpoint *wanted)
{
    const cJSON *one = NULL;
    cJSON_ArrayForEach(one, endpoints)
    {
        if (str_eq(json_str(one, "name"), wanted->name) &&
            str_eq(json_str(one, "url"), wanted->url)) {
            return true;
        }
    }
    return false;
}

static bool endpoints_are(const struct report_op *o)
{
    bool same = o->resource.endpoints &&
                (size_t)cJSON_GetArraySize(o->resource.endpoints) == o->target.n_endpoints;
    for (size_t i = 0; i < o->target.n_endpoints && same; i++) {
        same = has_endpoint(o->resource.endpoints, &o->target.endpoints[i]);
    }
    return same;
}

/*
 * Equal; or, once Waldur has taken it, not contradicted: versions that describe the metadata in
 * their schema (8.0.5) need not show more of it than these members of their own.
 */
static bool metadata_is(const struct report_op *o)
{
    static const char *const own[] = {"action", "instance_name", "runtime_state", "state"};
    const cJSON *shown = o->resource.metadata, *one = NULL;
    if (cJSON_Compare(o->metadata, shown, true) || (!shown && !o->metadata->child)) {
        return true;
    }
    bool same = o->metadata_change.outcome == WALDUR_EFFECT_DONE;
    cJSON_ArrayForEach(one, shown)
    {
        const cJSON *ours = cJSON_GetObjectItemCaseSensitive(o->metadata, one->string);
        bool known = false;
        for (size_t i = 0; i < ARRAY_LEN(own) && !ours; i++) {
            known = known || str_eq(own[i], one->string);
        }
        same = same && (ours ? cJSON_Compare(ours, one, true) : known);
    }
    return same;
}

static bool endpoints_wanted(const struct report_op *o)
{
    return is_done(o) && o->target.n_endpoints > 0 && !o->result.endpoints_untold;
}

static void everything_told(struct report_op *o)
{
    o->told_all = true;
    o->step = LOOK_ORDER; /* minutes may lie between the first look and the last word */
}

static void after_resource(struct report_op *o)
{
    const struct waldur_report_target *t = &o->target;
    if (o->result.endpoints_untold) {
        o->op.access.site->endpoints = WALDUR_SUPPORT_NO; /* the resource itself is there */
    } else if (endpoints_wanted(o) && o->op.access.site->endpoints == WALDUR_SUPPORT_NO) {
        o->result.endpoints_untold = !endpoints_are(o);
    }
    if (t->backend_id && !str_eq(t->backend_id, o->resource.backend_id)) {
        pursue(o, &o->backend_id, SET_BACKEND_ID, LOOK_RESOURCE,
               "the resource does not bear the backend id that it was given");
    } else if (is_done(o) && o->metadata && !metadata_is(o)) {
        pursue(o, &o->metadata_change, SET_METADATA, LOOK_RESOURCE,
               "the resource does not have the metadata that it was given");
    } else if (endpoints_wanted(o) && !endpoints_are(o)) {
        pursue(o, &o->endpoints, SET_ENDPOINTS, LOOK_RESOURCE,
               "the resource does not have the endpoints that it was given");
    } else if (is_done(o) && t->n_keys > 0) {
        o->step = LOOK_KEYS;
        o->page = 1;
    } else {
        everything_told(o);
    }
}

/* ---- its keys ---- */

static void key_seen(void *ctx, const struct key_row *row)
{
    struct report_op *o = ctx;
    for (size_t i = 0; i < o->target.n_keys; i++) {
        if (str_eq(o->target.keys[i].client_id, row->client_id)) {
            o->keys[i].there = true;
        }
    }
}

/* The key that is not listed; NULL: all are. */
static struct told_key *missing_key(struct report_op *o)
{
    for (size_t i = 0; i < o->target.n_keys; i++) {
        if (!o->keys[i].there) {
            o->key = i;
            return &o->keys[i];
        }
    }
    return NULL;
}

static void after_keys(struct report_op *o)
{
    struct told_key *missing = missing_key(o);
    o->result.keys_told = !missing && !o->result.keys_untold;
    if (missing && !o->result.keys_untold) {
        pursue(o, &missing->change, REPORT_KEY, LOOK_KEYS,
               "Waldur does not list the key that it was given");
    } else if (o->order.state == WALDUR_ORDER_DONE) {
        end(o, WALDUR_REPORT_ALREADY);
    } else {
        everything_told(o);
    }
}

/* ---- requests ---- */

static void post_metadata(struct report_op *o, struct waldur_action *out)
{
    struct buf body;
    char *text = json_text(o->metadata);
    buf_init(&body, EXCHANGE_REQUEST_MAX);
    buf_adds(&body, "{\"backend_metadata\":");
    buf_adds(&body, text ? text : "");
    buf_addc(&body, '}');
    body.failed = body.failed || !text;
    free(text);
    op_post(&o->op, out, waldur_resources, o->target.resource, "set_backend_metadata",
            "resource.metadata", &body);
}

static void post_endpoints(struct report_op *o, struct waldur_action *out)
{
    struct buf body;
    buf_init(&body, EXCHANGE_REQUEST_MAX);
    buf_adds(&body, "{\"endpoints\":[");
    for (size_t i = 0; i < o->target.n_endpoints; i++) {
        buf_adds(&body, i ? ",{\"name\":" : "{\"name\":");
        buf_add_json(&body, o->target.endpoints[i].name);
        buf_adds(&body, ",\"url\":");
        buf_add_json(&body, o->target.endpoints[i].url);
        buf_addc(&body, '}');
    }
    buf_adds(&body, "]}");
    op_post(&o->op, out, waldur_resources, o->target.resource, "set_endpoints",
            "resource.endpoints", &body);
}

static void post_key(struct report_op *o, struct waldur_action *out)
{
    const struct waldur_key_told *key = &o->target.keys[o->key];
    struct buf body;
    char path[96];
    buf_init(&body, EXCHANGE_REQUEST_MAX);
    buf_adds(&body, "{\"resource\":");
    buf_add_json(&body, o->target.resource);
    buf_adds(&body, ",\"client_id\":");
    buf_add_json(&body, key->client_id);
    buf_adds(&body, ",\"api_key\":");
    buf_add_json(&body, key->api_key);
    buf_addc(&body, '}');
    snprintf(path, sizeof(path), "%sreport_created/", waldur_keys);
    op_request(&o->op, out, path, "key.report", &body);
}

/* error_traceback, too: Waldur of 2024 reads both, whether they are there or not. */
static void post_verdict(struct report_op *o, struct waldur_action *out)
{
    if (is_done(o)) {
        op_post(&o->op, out, waldur_orders, o->target.order, "set_state_done", "order.done", NULL);
        return;
    }
    struct buf body;
    buf_init(&body, EXCHANGE_REQUEST_MAX);
    buf_adds(&body, "{\"error_message\":");
    buf_add_json(&body, o->target.error_message ? o->target.error_message : "");
    buf_adds(&body, ",\"error_traceback\":\"\"}");
    op_post(&o->op, out, waldur_orders, o->target.order, "set_state_erred", "order.erred", &body);
}

static void report_next(struct waldur_op *op, struct waldur_action *out)
{
    struct report_op *o = (struct report_op *)op;
    struct buf body;
    switch (o->step) {
    case LOOK_ORDER:
        op_look(op, out, waldur_orders, o->target.order);
        return;
    case LOOK_RESOURCE:
        op_look(op, out, waldur_resources, o->target.resource);
        return;
    case LOOK_KEYS:
        op_look_keys(op, out, o->target.resource, o->page);
        return;
    case SET_EXECUTING:
        op_post(op, out, waldur_orders, o->target.order, "set_state_executing", "order.executing",
                NULL);
        return;
    case SET_BACKEND_ID:
        op_backend_id_body(&body, o->target.backend_id);
        op_post(op, out, waldur_resources, o->target.resource, "set_backend_id",
                "resource.backend_id", &body);
        return;
    case SET_METADATA:
        post_metadata(o, out);
        return;
    case SET_ENDPOINTS:
        post_endpoints(o, out);
        return;
    case REPORT_KEY:
        post_key(o, out);
        return;
    case SET_VERDICT:
        post_verdict(o, out);
        return;
    }
}

/* ---- answers ---- */

static void gone(struct report_op *o, struct waldur_outcome *out)
{
    if (out->err.class == ERR_GONE) {
        err_clear(&out->err);
        o->result.state = WALDUR_ORDER_UNKNOWN;
        end(o, WALDUR_REPORT_GONE);
    }
}

static void feed_order(struct report_op *o, const struct exchange_response *r,
                       struct waldur_outcome *out)
{
    if (!op_read_order(&o->op, r, o->target.order, &o->order, out)) {
        gone(o, out);
        return;
    }
    if (o->order.resource_uuid[0] && !str_eq(o->order.resource_uuid, o->target.resource)) {
        op_fail_with(&o->op, ERR_INVALID, "the order is about another resource at Waldur");
        return;
    }
    after_order(o);
}

static void feed_resource(struct report_op *o, const struct exchange_response *r,
                          struct waldur_outcome *out)
{
    if (!op_read_resource(&o->op, r, o->target.resource, &o->resource, out)) {
        gone(o, out);
        return;
    }
    after_resource(o);
}

static void feed_keys(struct report_op *o, const struct exchange_response *r,
                      struct waldur_outcome *out)
{
    for (size_t i = 0; i < o->target.n_keys && o->page == 1; i++) {
        o->keys[i].there = false;
    }
    switch (op_read_keys(&o->op, r, o->target.resource, o->page, key_seen, o, out)) {
    case KEYS_MORE:
        o->page++;
        return;
    case KEYS_END:
        after_keys(o);
        return;
    case KEYS_NONE_HERE:
        o->result.keys_untold = true;
        after_keys(o);
        return;
    case KEYS_DOUBT:
        o->step = LOOK_ORDER; /* is Waldur there at all? */
        return;
    case KEYS_FAILED:
        return;
    }
}

/* Refused for what this Waldur or this type of offering is, not for what the request says. */
static bool cannot(const struct exchange_response *r)
{
    return r->status == 404 || r->status == 405 || r->status == 501;
}

static void feed_executing(struct report_op *o, const struct exchange_response *r,
                           struct waldur_outcome *out)
{
    bool posted = op_posted(&o->op, &o->executing, r, out);
    if (r->status == 405 || r->status == 409) {
        o->op.end = OP_RUNS; /* the next look ends it */
        o->no_return = true;
        posted = true;
    }
    o->step = posted ? LOOK_ORDER : o->step;
}

static void feed_endpoints(struct report_op *o, const struct exchange_response *r,
                           struct waldur_outcome *out)
{
    bool posted = op_posted(&o->op, &o->endpoints, r, out);
    if (cannot(r)) {
        o->op.end = OP_RUNS;
        /* By a page that a proxy may have made it is not believed before it was said twice. */
        o->result.endpoints_untold = out->answered || o->endpoints_doubted;
        o->endpoints_doubted = true;
        o->endpoints = (struct change){.posts = 0};
        out->effect = WALDUR_EFFECT_REFUSED;
        out->answered = true;
        posted = true;
    } else if (out->effect == WALDUR_EFFECT_DONE) {
        o->op.access.site->endpoints = WALDUR_SUPPORT_YES;
    }
    o->step = posted ? LOOK_RESOURCE : o->step;
}

static void feed_verdict(struct report_op *o, const struct exchange_response *r,
                         struct waldur_outcome *out)
{
    if (op_posted(&o->op, &o->verdict, r, out)) {
        o->step = LOOK_ORDER;
    } else if (r->status == 405) {
        err_prefix(&o->op.err, "Waldur lets no provider end the orders of offerings of this type; "
                               "make the offering one of type Marketplace.Slurm (site agent)");
    }
}

static void report_feed(struct waldur_op *op, const struct exchange_response *r,
                        struct waldur_outcome *out)
{
    struct report_op *o = (struct report_op *)op;
    struct change *c = NULL;
    switch (o->step) {
    case LOOK_ORDER:
        feed_order(o, r, out);
        return;
    case LOOK_RESOURCE:
        feed_resource(o, r, out);
        return;
    case LOOK_KEYS:
        feed_keys(o, r, out);
        return;
    case SET_EXECUTING:
        feed_executing(o, r, out);
        return;
    case SET_ENDPOINTS:
        feed_endpoints(o, r, out);
        return;
    case SET_VERDICT:
        feed_verdict(o, r, out);
        return;
    case SET_BACKEND_ID:
    case SET_METADATA:
        c = o->step == SET_BACKEND_ID ? &o->backend_id : &o->metadata_change;
        o->step = op_posted(op, c, r, out) ? LOOK_RESOURCE : o->step;
        return;
    case REPORT_KEY:
        if (op_posted(op, &o->keys[o->key].change, r, out)) {
            o->step = LOOK_KEYS;
            o->page = 1;
        }
        return;
    }
}

/* ---- life ---- */

static void report_redact(const struct waldur_op *op, struct err *err)
{
    const struct report_op *o = (const struct report_op *)op;
    for (size_t i = 0; i < o->target.n_keys; i++) {
        err_redact(err, o->target.keys[i].api_key);
    }
}

static void report_free(struct waldur_op *op)
{
    struct report_op *o = (struct report_op *)op;
    waldur_order_done(&o->order);
    waldur_resource_done(&o->resource);
    cJSON_Delete(o->metadata);
    free(o->keys);
    free(o);
}

static int take_metadata(struct report_op *o, const char *text, struct err *err)
{
    struct json_fault fault;
    if (!text) {
        return 0;
    }
    if (json_parse(text, strlen(text), &waldur_body_limits, &o->metadata, &fault)) {
        return err_set(err, fault.internal ? ERR_INTERNAL : ERR_INVALID, "metadata: %s %s",
                       fault.pointer, fault.reason);
    }
    return cJSON_IsObject(o->metadata) ? 0
                                       : err_set(err, ERR_INVALID, "metadata: must be an object");
}

struct waldur_op *waldur_report_start(const struct waldur_report_target *target, struct err *err)
{
    static const struct waldur_op_class class = {
        .next = report_next, .feed = report_feed, .free = report_free, .redact = report_redact};
    struct report_op *o = calloc(1, sizeof(*o));
    struct told_key *keys = calloc(target->n_keys ? target->n_keys : 1, sizeof(*keys));
    if (!o || !keys) {
        free(o);
        free(keys);
        err_nomem(err);
        return NULL;
    }
    op_init(&o->op, &class, &target->access);
    o->op.rounds_max += 4 * (int)target->n_keys;
    o->target = *target;
    o->keys = keys;
    o->page = 1;
    if (take_metadata(o, target->metadata, err)) {
        report_free(&o->op);
        return NULL;
    }
    return &o->op;
}

const struct waldur_report *waldur_report_of(const struct waldur_op *op)
{
    return &((const struct report_op *)op)->result;
}
