#include "waldur/key.h"

#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "waldur/native.h"

/* Every step but the posts is a look at all keys of the resource. */
enum step { LOOK, SET_KEY, SET_ERRED };

struct key_op {
    struct waldur_op op;
    struct waldur_key_target target;
    enum step step;
    int page;
    bool any;               /* the resource has keys at all */
    bool told;              /* one of them bears our client_id */
    struct key_row at;      /* the key that it is about; uuid "" while none is found */
    struct key_row bearing; /* told */
    struct change change;
    struct waldur_key result;
};

static void end(struct key_op *k, enum waldur_key_end how, const struct key_row *row)
{
    k->result.end = how;
    k->result.state = row->state;
    memcpy(k->result.key_uuid, row->uuid, sizeof(row->uuid));
    if (!k->result.client_id[0]) {
        memcpy(k->result.client_id, row->client_id, sizeof(row->client_id));
    }
    op_done(&k->op);
}

/* ---- what is listed ---- */

static void key_seen(void *ctx, const struct key_row *row)
{
    struct key_op *k = ctx;
    const char *wanted = k->change.posts > 0 ? k->result.key_uuid : k->target.key;
    k->any = true;
    if (k->target.api_key && str_eq(row->client_id, k->target.client_id)) {
        k->told = true;
        k->bearing = *row;
    }
    if (wanted ? str_eq(row->uuid, wanted) : !k->at.uuid[0] && row->state == WALDUR_KEY_UPDATING) {
        k->at = *row;
    }
}

static void pursue(struct key_op *k)
{
    bool set = k->target.api_key != NULL;
    memcpy(k->result.key_uuid, k->at.uuid, sizeof(k->at.uuid));
    if (k->change.posts == 0) {
        memcpy(k->result.client_id, k->at.client_id, sizeof(k->at.client_id));
    }
    switch (op_pursue(&k->op, &k->change,
                      set ? "Waldur still waits for the key that it was given"
                          : "Waldur still waits for the key that it was told will not come")) {
    case CHANGE_POST:
        k->step = set ? SET_KEY : SET_ERRED;
        break;
    case CHANGE_LOOK:
        k->step = LOOK;
        k->page = 1;
        break;
    case CHANGE_FAILED:
        break;
    }
}

static void after_list(struct key_op *k)
{
    bool posted = k->change.posts > 0;
    if (k->told) {
        end(k, posted ? WALDUR_KEY_TOLD : WALDUR_KEY_ALREADY, &k->bearing);
    } else if (!k->any || ((k->target.key || posted) && !k->at.uuid[0])) {
        end(k, WALDUR_KEY_GONE, &k->at);
    } else if (k->at.state == WALDUR_KEY_UPDATING) {
        pursue(k);
    } else if (k->at.state == WALDUR_KEY_ERRED && !k->target.api_key) {
        end(k, posted ? WALDUR_KEY_TOLD : WALDUR_KEY_ALREADY, &k->at);
    } else {
        end(k, WALDUR_KEY_NOT_WANTED, &k->at);
    }
}

/* ---- requests ---- */

static void post_key(struct key_op *k, struct waldur_action *out)
{
    struct buf body;
    buf_init(&body, EXCHANGE_REQUEST_MAX);
    buf_adds(&body, "{\"api_key\":");
    buf_add_json(&body, k->target.api_key);
    buf_adds(&body, ",\"client_id\":");
    buf_add_json(&body, k->target.client_id);
    buf_addc(&body, '}');
    op_post(&k->op, out, waldur_keys, k->at.uuid, "set_key", "key.set", &body);
}

static void post_erred(struct key_op *k, struct waldur_action *out)
{
    struct buf body;
    buf_init(&body, EXCHANGE_REQUEST_MAX);
    buf_adds(&body, "{\"error_message\":");
    buf_add_json(&body, k->target.error_message ? k->target.error_message : "");
    buf_addc(&body, '}');
    op_post(&k->op, out, waldur_keys, k->at.uuid, "set_erred", "key.erred", &body);
}

static void key_next(struct waldur_op *op, struct waldur_action *out)
{
    struct key_op *k = (struct key_op *)op;
    switch (k->step) {
    case LOOK:
        op_look_keys(op, out, k->target.resource, k->page);
        return;
    case SET_KEY:
        post_key(k, out);
        return;
    case SET_ERRED:
        post_erred(k, out);
        return;
    }
}

/* ---- answers ---- */

static void feed_list(struct key_op *k, const struct exchange_response *r,
                      struct waldur_outcome *out)
{
    if (k->page == 1) {
        k->any = k->told = false;
        k->at = k->bearing = (struct key_row){.modified_us = -1};
    }
    switch (op_read_keys(&k->op, r, k->target.resource, k->page, key_seen, k, out)) {
    case KEYS_MORE:
        k->page++;
        return;
    case KEYS_END:
        after_list(k);
        return;
    case KEYS_NONE_HERE:
        end(k, WALDUR_KEY_NOT_SUPPORTED, &k->at);
        return;
    case KEYS_DOUBT:
        k->op.wait_ms = k->op.access.settle_ms;
        return;
    case KEYS_FAILED:
        return;
    }
}

static void key_feed(struct waldur_op *op, const struct exchange_response *r,
                     struct waldur_outcome *out)
{
    struct key_op *k = (struct key_op *)op;
    if (k->step == LOOK) {
        feed_list(k, r, out);
    } else if (op_posted(op, &k->change, r, out)) {
        k->step = LOOK;
        k->page = 1;
    }
}

/* ---- life ---- */

static void key_redact(const struct waldur_op *op, struct err *err)
{
    const struct key_op *k = (const struct key_op *)op;
    if (k->target.api_key) {
        err_redact(err, k->target.api_key);
    }
}

static void key_free(struct waldur_op *op)
{
    free(op);
}

struct waldur_op *waldur_key_start(const struct waldur_key_target *target, struct err *err)
{
    static const struct waldur_op_class class = {
        .next = key_next, .feed = key_feed, .free = key_free, .redact = key_redact};
    struct key_op *k = calloc(1, sizeof(*k));
    if (!k) {
        err_nomem(err);
        return NULL;
    }
    op_init(&k->op, &class, &target->access);
    k->op.rounds_max += 2 * KEY_PAGES_MAX;
    k->target = *target;
    k->page = 1;
    return &k->op;
}

const struct waldur_key *waldur_key_of(const struct waldur_op *op)
{
    return &((const struct key_op *)op)->result;
}
