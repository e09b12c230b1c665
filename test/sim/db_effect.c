/*
 * The journal of changes in other systems.
 */
#include <string.h>

#include "base/str.h"
#include "db_internal.h"

const char *const db_effect_states[EFFECT_STATE_MAX] = {"intended", "unknown",  "done",
                                                        "refused",  "not_sent", "replaced"};

static const int64_t no_age_ms = 1000000000000;

static bool is_open(const struct effect_row *e)
{
    return e->state == EFFECT_INTENDED || e->state == EFFECT_UNKNOWN;
}

static void set_state(struct db *db, struct subscription_row *s, struct effect_row *e,
                      enum db_effect_state state)
{
    bool was_open = is_open(e);
    e->state = state;
    e->pub.state = db_effect_states[state];
    e->settled_us = is_open(e) ? 0 : db->now_us;
    if (was_open && !is_open(e)) {
        EDIT(db, &s->open_effects);
        s->open_effects--;
    }
}

void effects_close(struct db *db, struct subscription_row *s, const char *product,
                   const char *operation, enum db_effect_state state, const char *external_id)
{
    size_t left = s->open_effects;
    for (struct effect_row *e = s->last_effect; e && left > 0; e = e->older) {
        if (!is_open(e)) {
            continue;
        }
        left--;
        if (str_eq(e->pub.product, product) &&
            (!operation || str_eq(e->pub.operation, operation))) {
            EDIT(db, e);
            set_state(db, s, e, state);
            e->pub.external_id = e->pub.external_id ? e->pub.external_id : external_id;
        }
    }
}

static void look_at(const struct effect_row *e, struct db_open *open, int64_t *newest_us)
{
    open->n++;
    open->updating |= str_eq(e->pub.method, "PATCH") || str_eq(e->pub.method, "PUT");
    if (!e->pub.object) {
        *newest_us = e->pub.intended_at_us > *newest_us ? e->pub.intended_at_us : *newest_us;
    } else if (!open->deleting || strcmp(e->pub.object, open->deleting) > 0) {
        open->deleting = e->pub.object;
    }
}

struct db_open effects_open(const struct db *db, const struct subscription_row *s,
                            enum product product)
{
    struct db_open open = {.age_ms = no_age_ms};
    int64_t newest_us = INT64_MIN;
    size_t left = s->open_effects;
    for (const struct effect_row *e = s->last_effect; e && left > 0; e = e->older) {
        if (is_open(e)) {
            left--;
            if (str_eq(e->pub.product, product_name(product))) {
                look_at(e, &open, &newest_us);
            }
        }
    }
    if (newest_us != INT64_MIN) {
        open.age_ms = db_ms(db->now_us - newest_us);
    }
    return open;
}

static struct effect_row *make_effect(struct db *db, const struct job_row *j)
{
    struct effect_row *e = db_alloc(db, sizeof(*e));
    e->pub = (struct db_effect){
        .id = ++db->effects.last_id,
        .job = j->pub.id,
        .fence = j->pub.fence,
        .product = db_keep(db, 4),
        .operation = db_keep(db, 5),
        .method = db_keep(db, 6),
        .target = db_keep(db, 7),
        .request_id = db_keep(db, 11),
        .object = db_keep(db, 12),
        .state = db_effect_states[EFFECT_INTENDED],
    };
    str_copy(e->pub.subscription, UUID_TEXT, j->pub.subscription);
    e->step = j->pub.step;
    e->runtime_name = j->runtime_name ? j->runtime_name : "";
    e->name = db_keep(db, 8);
    e->marker = db_keep(db, 9);
    e->sha256 = db_keep(db, 10);
    e->http_status = -1;
    e->pub.intended_at_us = db->now_us;
    return e;
}

static bool effect_check(struct db *db, const struct effect_row *e)
{
    const struct db_effect *p = &e->pub;
    if (!p->product || !p->operation || !p->method || !p->target || !p->request_id || !e->name ||
        !e->marker || !e->sha256) {
        return db_refuse(db, "23502", "provisioning_effect: null");
    }
    if (db_product(p->product) == PRODUCT_MAX && !str_eq(p->product, "waldur")) {
        return db_refuse(db, "23514", "provisioning_effect_product_check");
    }
    return (p->operation[0] && (!p->object || p->object[0])) ||
           db_refuse(db, "23514", "provisioning_effect: empty");
}

static struct effect_row *intend(struct db *db, struct job_row *j)
{
    struct subscription_row *s = j->subscription;
    const char *product = db_text(db, 4), *operation = db_text(db, 5);
    if (product && operation) {
        effects_close(db, s, product, operation, EFFECT_REPLACED, NULL);
    }
    struct effect_row *e = make_effect(db, j);
    if (!effect_check(db, e)) {
        return NULL;
    }
    db_add(db, &db->effects, e);
    map_add(db, MAP_REQUESTS, db_hash_text(0, e->pub.request_id), e);
    EDIT(db, s);
    e->older = s->last_effect;
    s->last_effect = e;
    s->open_effects++;
    return e;
}

PGresult *db_effect_intend(struct db *db)
{
    struct job_row *j;
    enum guard guard = job_guard(db, &j, true);
    const struct effect_row *e = guard == GUARD_OK ? intend(db, j) : NULL;
    if (db->refused) {
        return NULL;
    }
    PGresult *res = db_one(db, db_guard_name(guard));
    if (e) {
        db_put_i64(res, 0, 1, e->pub.id);
    } else {
        db_put(res, 0, 1, NULL);
    }
    return res;
}

static bool read_state(struct db *db, int i, enum db_effect_state *out)
{
    const char *text = db_text(db, i);
    for (int s = 0; s < EFFECT_STATE_MAX; s++) {
        if (str_eq(text, db_effect_states[s])) {
            *out = (enum db_effect_state)s;
            return true;
        }
    }
    return db_refuse(db, text ? "22P02" : "23502", "a parameter is no effect_state");
}

/* What this one's intent replaced may still land. */
static void reopen_replaced(struct db *db, struct subscription_row *s, const struct effect_row *by)
{
    for (struct effect_row *e = s->last_effect; e; e = e->older) {
        if (e->state == EFFECT_REPLACED && e->settled_us == by->pub.intended_at_us &&
            str_eq(e->pub.product, by->pub.product) &&
            str_eq(e->pub.operation, by->pub.operation)) {
            EDIT(db, e);
            e->state = EFFECT_UNKNOWN;
            e->pub.state = db_effect_states[EFFECT_UNKNOWN];
            e->settled_us = 0;
            EDIT(db, &s->open_effects);
            s->open_effects++;
        }
    }
}

PGresult *db_effect_settle(struct db *db)
{
    int64_t id, fence, http_status;
    enum db_effect_state state = EFFECT_INTENDED;
    if (!db_i64_or(db, 0, 0, &id) || !db_i64_or(db, 1, -1, &fence) || !read_state(db, 2, &state) ||
        !db_i64_or(db, 4, -1, &http_status)) {
        return NULL;
    }
    struct effect_row *e = db_by_id(&db->effects, id);
    if (!e || e->pub.fence != fence || !is_open(e)) {
        return db_one(db, "f");
    }
    const char *external_id = db_keep(db, 3);
    struct subscription_row *s = db_find_subscription(db, e->pub.subscription);
    EDIT(db, e);
    set_state(db, s, e, state);
    e->pub.external_id = external_id ? external_id : e->pub.external_id;
    e->http_status = http_status;
    e->error_class = db_keep(db, 5);
    e->error = db_keep(db, 6);
    if (state == EFFECT_NOT_SENT || state == EFFECT_REFUSED) {
        reopen_replaced(db, s, e);
    }
    return db_one(db, "t");
}
