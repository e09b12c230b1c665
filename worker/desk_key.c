#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/str.h"
#include "desk_internal.h"
#include "waldur/key.h"

/*
 * A key that Waldur wants anew: made, sealed and kept; then told; and only when Waldur was seen to
 * have it does it become the live one, in place of the former. Whoever takes over goes on with the
 * key that was kept: Waldur is never told two.
 */

static void end_with(struct errand *e, const char *phase, const char *reason);

/* key_uuid, fence, phase, resource_uuid, prefix, attempts, status, api_key, delivery */
int desk_key_read(struct errand *e, const PGresult *res, int row)
{
    int64_t attempts = 0;
    (void)str_to_i64(PQgetvalue(res, row, 5), &attempts);
    e->attempts = (int)attempts;
    str_copy(e->resource, sizeof(e->resource), PQgetvalue(res, row, 3));
    str_copy(e->prefix, sizeof(e->prefix), PQgetvalue(res, row, 4));
    e->phase = str_dup(PQgetvalue(res, row, 2));
    e->status = str_dup(PQgetvalue(res, row, 6));
    if (!PQgetisnull(res, row, 8)) {
        e->delivery = str_dup(PQgetvalue(res, row, 8));
        return e->delivery && e->phase && e->status ? 0 : -1;
    }
    return e->phase && e->status ? 0 : -1;
}

static void log_key(const struct errand *e, enum log_level level, const char *event,
                    const char *reason)
{
    log_event(level, event, LOG_S("key", e->uuid), LOG_S("subscription", e->resource),
              LOG_S("prefix", e->prefix[0] ? e->prefix : NULL), LOG_S("reason", reason));
}

/* ---- the end ---- */

static void on_ended(void *ctx, const PGresult *res, const struct err *err)
{
    struct errand *e = ctx;
    if (errand_verdict(e, res, err)) {
        errand_drop(e);
    }
}

static void end_with(struct errand *e, const char *phase, const char *reason)
{
    struct pg_param p[5];
    metrics_add(e->desk->o.metrics, M_WALDUR_KEYS_TOTAL, METRIC_LABELS(phase), 1);
    log_key(e, LOG_INFO, "no new key", reason);
    errand_fence(e, p);
    p[3] = (struct pg_param){phase, -1};
    p[4] = (struct pg_param){reason, -1};
    errand_submit(e, S_WALDUR_KEY_END, p, on_ended);
}

static void on_live(void *ctx, const PGresult *res, const struct err *err)
{
    struct errand *e = ctx;
    const char *verdict = errand_verdict(e, res, err);
    if (!verdict) {
        return;
    }
    if (str_eq(verdict, "ok")) {
        metrics_add(e->desk->o.metrics, M_WALDUR_KEYS_TOTAL, METRIC_LABELS("rotated"), 1);
        log_key(e, LOG_INFO, "key rotated", NULL);
    } else {
        log_key(e, LOG_WARN, "the new key is not used", verdict);
    }
    errand_drop(e);
}

static void go_live(struct errand *e)
{
    struct pg_param p[3];
    errand_fence(e, p);
    errand_submit(e, S_WALDUR_KEY_LIVE, p, on_live);
}

static void key_end(void *ctx, const struct err *err)
{
    struct errand *e = ctx;
    if (err) {
        errand_put_off(e, err);
        return;
    }
    const struct waldur_key *k = waldur_key_of(e->talk.op);
    bool made = e->clear[0] != '\0';
    switch (k->end) {
    case WALDUR_KEY_TOLD:
    case WALDUR_KEY_ALREADY:
        if (made) {
            go_live(e);
        } else {
            end_with(e, "erred", "inactive");
        }
        return;
    case WALDUR_KEY_NOT_WANTED:
        end_with(e, "dropped", "unwanted");
        return;
    case WALDUR_KEY_GONE:
        end_with(e, "dropped", "gone");
        return;
    case WALDUR_KEY_NOT_SUPPORTED:
        end_with(e, "dropped", "unsupported");
        return;
    }
}

static const struct talk_events key_events = {
    .intend = errand_intend, .settled = errand_settled, .may = errand_may, .end = key_end};

/* ---- telling ---- */

static void tell(struct errand *e)
{
    struct err err;
    char label[48];
    bool made = e->clear[0] != '\0';
    struct waldur_key_target t = {.access = marketplace_access(e->desk->o.marketplace),
                                  .resource = e->resource,
                                  .key = e->uuid,
                                  .client_id = e->prefix,
                                  .api_key = made ? e->clear : NULL};
    if (!made) {
        waldur_words_no_key(ERR_REFUSED, NULL, e->words);
        t.error_message = e->words;
    }
    struct waldur_op *op = waldur_key_start(&t, &err);
    if (!op) {
        errand_put_off(e, &err);
        return;
    }
    snprintf(label, sizeof(label), "k%.8s.%.20s", e->uuid, e->fence);
    talk_start(&e->talk, e->desk->loop, e->desk->o.marketplace, op, label, &key_events, e);
}

static void on_kept(void *ctx, const PGresult *res, const struct err *err)
{
    struct errand *e = ctx;
    struct err failed;
    const char *verdict = errand_verdict(e, res, err);
    if (!verdict) {
        return;
    }
    if (str_eq(verdict, "ok")) {
        if (errand_open_key(e, &failed)) {
            errand_put_off(e, &failed);
        } else {
            tell(e);
        }
    } else if (str_eq(verdict, "inactive")) {
        tell(e);
    } else {
        errand_drop(e);
    }
}

static void make(struct errand *e)
{
    struct api_key key;
    struct err err;
    struct pg_param p[7];
    unsigned char delivery[API_KEY_DELIVERY_LEN];
    char hash[2 + 64 + 1], sealed[2 + 2 * API_KEY_SEALED_LEN + 1] = "\\x";
    char kept[2 + 2 * API_KEY_DELIVERY_LEN + 1] = "\\x";
    if (api_key_make_delivered(e->config->reveal_public_key, e->config->master_key, e->resource,
                               &key, delivery, &err)) {
        errand_put_off(e, &err);
        return;
    }
    snprintf(hash, sizeof(hash), "\\x%s", key.hash_hex);
    str_hex(sealed + 2, key.sealed, sizeof(key.sealed));
    str_hex(kept + 2, delivery, sizeof(delivery));
    str_copy(e->prefix, sizeof(e->prefix), key.prefix);
    e->delivery = str_dup(kept + 2);
    if (!e->delivery) {
        err_nomem(&err);
        errand_put_off(e, &err);
        return;
    }
    errand_fence(e, p);
    p[3] = (struct pg_param){key.prefix, -1};
    p[4] = (struct pg_param){hash, -1};
    p[5] = (struct pg_param){sealed, -1};
    p[6] = (struct pg_param){kept, -1};
    errand_submit(e, S_WALDUR_KEY_KEEP, p, on_kept);
}

void desk_key_begin(struct errand *e)
{
    struct err err;
    bool handed = str_eq(e->config->waldur_keys, "waldur");
    if (str_eq(e->phase, "kept")) {
        if (errand_open_key(e, &err)) {
            errand_put_off(e, &err);
        } else {
            tell(e);
        }
    } else if (handed && str_eq(e->status, "ready")) {
        make(e);
    } else if (handed && str_eq(e->status, "provisioning")) {
        err_set(&err, ERR_UNAVAILABLE, "the subscription is not ready yet");
        errand_put_off(e, &err);
    } else {
        tell(e); /* that there will be none */
    }
}
