/*
 * Outcome events: written with the state that they tell, and taken by whoever publishes them.
 */
#include <inttypes.h>
#include <string.h>

#include "base/clock.h"
#include "base/str.h"
#include "db_internal.h"

static const int64_t claim_us = 60LL * 1000000;

static void add_member(struct buf *out, const char *name, const char *value)
{
    if (value) {
        bool first = out->len == 0 || out->data[out->len - 1] == '{';
        buf_addf(out, "%s\"%s\": ", first ? "" : ", ", name);
        buf_add_json(out, value);
    }
}

/* The part behind the point. */
static const char *outcome_of(const char *type)
{
    return strchr(type, '.') + 1;
}

/* Members in jsonb's order; none that is null. */
static void add_data(struct buf *out, const struct job_row *j, const char *type,
                     const char *error_class, const char *error)
{
    const struct config_row *c = j->subscription->config;
    buf_adds(out, ", \"data\": {");
    add_member(out, "name", c ? c->pub.name : NULL);
    add_member(out, "step", error ? job_step_name(j->pub.step) : NULL);
    add_member(out, "error", error);
    bool paused = str_eq(type, "subscription.paused");
    add_member(out, "status", c ? db_statuses[c->status] : paused ? "suspended" : outcome_of(type));
    add_member(out, "order_uuid", j->order);
    add_member(out, "error_class", error_class);
    add_member(out, "runtime_name", c ? c->pub.runtime_name : NULL);
    add_member(out, "workspace_id", c ? c->pub.workspace_id : NULL);
    add_member(out, "api_key_prefix", c ? c->pub.api_key : NULL);
    add_member(out, "knowledge_base_id", c ? c->pub.collection_id : NULL);
    add_member(out, "subscription_uuid", j->pub.subscription);
    buf_addc(out, '}');
}

static const char *payload(struct db *db, const struct job_row *j, const char *type,
                           const char *error_class, const char *error)
{
    char time[CLOCK_TEXT_MAX];
    struct buf *out = &db->text;
    clock_format_us(time, db->now_us);
    buf_reset(out);
    buf_addf(out, "{\"id\": \"job-%" PRId64 "-%" PRId64 "-%s\"", j->pub.id, j->pub.fence,
             outcome_of(type));
    add_data(out, j, type, error_class, error);
    add_member(out, "time", time);
    add_member(out, "type", type);
    add_member(out, "source", "/provisioner");
    add_member(out, "subject", j->pub.subscription);
    add_member(out, "specversion", "1.0");
    add_member(out, "traceparent", j->traceparent);
    add_member(out, "datacontenttype", "application/json");
    buf_addc(out, '}');
    return db_dupn(db, buf_str(out), out->len);
}

void outcome_emit(struct db *db, const struct job_row *j, const char *type, const char *error_class,
                  const char *error)
{
    struct outbox_row *o = db_alloc(db, sizeof(*o));
    *o = (struct outbox_row){
        .id = ++db->outbox.last_id,
        .created_us = db->now_us,
        .type = type,
        .payload = payload(db, j, type, error_class, error),
        .subscription = j->subscription,
        .prev = db->outbox_last,
    };
    db_add(db, &db->outbox, o);
    struct outbox_row **forward = o->prev ? &o->prev->next : &db->outbox_first;
    EDIT(db, forward);
    EDIT(db, &db->outbox_last);
    EDIT(db, &db->outbox_n);
    *forward = o;
    db->outbox_last = o;
    db->outbox_n++;
}

static void put_row(PGresult *res, int row, const struct outbox_row *o)
{
    db_put_i64(res, row, 0, o->id);
    db_put(res, row, 1, o->subscription->pub.uuid);
    db_put(res, row, 2, o->type);
    db_put(res, row, 3, o->payload);
}

/* The claim ends with the claimer's lease. */
static bool is_held(const struct db *db, const struct outbox_row *o)
{
    if (o->claimed_until_us <= db->now_us) {
        return false;
    }
    const struct worker_row *w = db_find_worker(db, o->owner);
    return !w || w->lease_us > db->now_us;
}

/* A row waits while an older one of its subscription is in another worker's hands. */
PGresult *db_outbox_claim(struct db *db)
{
    char owner[UUID_TEXT];
    int64_t limit;
    if (!db_uuid(db, 0, owner) || !db_i64(db, 1, &limit)) {
        return NULL;
    }
    PGresult *res = db_result(db);
    uint64_t claim = ++db->outbox_claims;
    int n = 0;
    for (struct outbox_row *o = db->outbox_first; o && n < limit; o = o->next) {
        if (is_held(db, o)) {
            if (!str_eq(o->owner, owner)) {
                o->subscription->blocked = claim;
            }
        } else if (o->subscription->blocked != claim) {
            EDIT(db, o);
            str_copy(o->owner, UUID_TEXT, owner);
            o->claimed_until_us = db->now_us + claim_us;
            put_row(res, n++, o);
        }
    }
    return res;
}

static struct outbox_row *find(const struct db *db, int64_t id)
{
    struct outbox_row *o = db_by_id(&db->outbox, id);
    return o && !o->gone ? o : NULL;
}

static void drop(struct db *db, struct outbox_row *o)
{
    struct outbox_row **forward = o->prev ? &o->prev->next : &db->outbox_first;
    struct outbox_row **back = o->next ? &o->next->prev : &db->outbox_last;
    EDIT(db, forward);
    EDIT(db, back);
    EDIT(db, &o->gone);
    EDIT(db, &db->outbox_n);
    *forward = o->next;
    *back = o->prev;
    o->gone = true;
    db->outbox_n--;
}

PGresult *db_outbox_done(struct db *db)
{
    int64_t *ids, n = 0;
    size_t n_ids;
    if (!db_ids(db, 0, &ids, &n_ids)) {
        return NULL;
    }
    for (size_t i = 0; i < n_ids && n_ids != SIZE_MAX; i++) {
        struct outbox_row *o = find(db, ids[i]);
        if (o) {
            drop(db, o);
            n++;
        }
    }
    return db_one_i64(db, n);
}

PGresult *db_outbox_back(struct db *db)
{
    int64_t *ids, n = 0;
    size_t n_ids;
    if (!db_ids(db, 0, &ids, &n_ids)) {
        return NULL;
    }
    for (size_t i = 0; i < n_ids && n_ids != SIZE_MAX; i++) {
        struct outbox_row *o = find(db, ids[i]);
        if (o) {
            EDIT(db, o);
            o->claimed_until_us = 0;
            o->owner[0] = '\0';
            n++;
        }
    }
    return db_one_i64(db, n);
}

PGresult *db_outbox_forget(struct db *db)
{
    char owner[UUID_TEXT];
    int64_t *ids, n = 0;
    size_t n_ids;
    if (!db_uuid(db, 0, owner) || !db_ids(db, 1, &ids, &n_ids)) {
        return NULL;
    }
    for (struct outbox_row *o = db->outbox_first; o; o = o->next) {
        bool kept = !str_eq(o->owner, owner) || n_ids == SIZE_MAX; /* NULL: nothing is unlike it */
        for (size_t i = 0; !kept && i < n_ids; i++) {
            kept = ids[i] == o->id;
        }
        if (!kept) {
            EDIT(db, o);
            o->claimed_until_us = 0;
            o->owner[0] = '\0';
            n++;
        }
    }
    return db_one_i64(db, n);
}
