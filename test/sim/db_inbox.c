/*
 * What comes in: events and what could not be decoded.
 */
#include <string.h>

#include "base/str.h"
#include "db_internal.h"

const char *const db_event_verdicts[] = {"applied", "repeated", "stale", "duplicate"};
const char *const db_wanted_names[] = {"present", "suspended", "absent", "purged"};

static const int64_t ahead_us = 5LL * 60 * 1000000;

struct wish {
    const char *source, *id, *type, *traceparent;
    char subscription[UUID_TEXT], organization[UUID_TEXT], order[UUID_TEXT];
    int64_t at_us, until_us, deadline_ms;
    int64_t partition, offset;
    cJSON *tree;
    const char *data, *slug, *tier;
    enum db_wanted wanted;
};

static uint64_t event_hash(const char *source, const char *id)
{
    return db_hash_text(db_hash_text(0, source), id);
}

static bool event_is_known(const struct db *db, const struct wish *w)
{
    size_t i = 0;
    const struct event_row *e;
    uint64_t hash = event_hash(w->source, w->id);
    while ((e = map_next(&db->maps[MAP_EVENTS], hash, &i)) &&
           !(str_eq(e->id, w->id) && str_eq(e->source, w->source))) {
    }
    return e != NULL;
}

static bool wish_read(struct db *db, struct wish *w)
{
    w->source = db_text(db, 0);
    w->id = db_text(db, 1);
    w->type = db_text(db, 2);
    w->traceparent = db_text(db, 8);
    if (!db_uuid(db, 3, w->subscription) || !db_uuid(db, 4, w->organization) ||
        !db_uuid(db, 5, w->order) || !db_time(db, 6, &w->at_us) || !db_json(db, 7, &w->tree) ||
        !db_i64_or(db, 10, -1, &w->partition) || !db_i64_or(db, 11, -1, &w->offset) ||
        !db_i64(db, 12, &w->deadline_ms)) {
        return false;
    }
    w->slug = db_member(db, cJSON_GetObjectItemCaseSensitive(w->tree, "organization"), "slug");
    w->tier = db_member(db, cJSON_GetObjectItemCaseSensitive(w->tree, "plan"), "tier");
    w->data = db_json_text(db, w->tree);
    w->wanted = str_eq(w->type, "subscription.created") ? DB_PRESENT : DB_ABSENT;
    int64_t latest = db->now_us + ahead_us;
    w->until_us = db_null(db, 6) || w->at_us > latest ? latest : w->at_us;
    return true;
}

/* The constraints of subscription, then those of subscription_event. */
static bool wish_check(struct db *db, const struct wish *w)
{
    const char *runtime = w->wanted == DB_PRESENT ? db_text(db, 13) : NULL;
    if (!w->subscription[0] || !w->order[0]) {
        return db_refuse(db, "23502", "subscription: null");
    }
    if (runtime && !runtime[0]) {
        return db_refuse(db, "23514", "subscription_runtime_name_check");
    }
    if (w->wanted == DB_PRESENT && !w->data) {
        return db_refuse(db, "23514", "subscription_present_has_spec");
    }
    db->events.last_id++;
    if (!w->source || !w->id || !w->type || db_null(db, 6) || !w->data) {
        return db_refuse(db, "23502", "subscription_event: null");
    }
    if (!w->source[0] || !w->id[0]) {
        return db_refuse(db, "23514", "subscription_event: empty");
    }
    return str_eq(w->type, "subscription.created") || str_eq(w->type, "subscription.terminated") ||
           db_refuse(db, "23514", "subscription_event_type_check");
}

static struct subscription_row *add_subscription(struct db *db, const struct wish *w)
{
    struct subscription_row *s = db_alloc(db, sizeof(*s));
    str_copy(s->pub.uuid, UUID_TEXT, w->subscription);
    s->pub.generation = 1;
    s->created_us = db->now_us;
    db_add(db, &db->subscriptions, s);
    map_add(db, MAP_SUBSCRIPTIONS, db_hash_text(0, s->pub.uuid), s);
    return s;
}

static bool says_nothing_new(const struct subscription_row *s, const struct wish *w)
{
    return w->wanted == s->pub.wanted && str_eq(w->order, s->pub.order) &&
           (w->wanted != DB_PRESENT || str_eq(w->data, s->pub.spec)) && s->newest &&
           s->newest->pub.generation == s->pub.generation && machine_live(s->newest->pub.state);
}

static enum db_event_verdict judge(const struct subscription_row *s, const struct wish *w)
{
    if (s && w->until_us < s->pub.wanted_at_us) {
        return EVENT_STALE;
    }
    return s && says_nothing_new(s, w) ? EVENT_REPEATED : EVENT_APPLIED;
}

static const struct event_row *add_event(struct db *db, const struct wish *w,
                                         enum db_event_verdict verdict)
{
    struct event_row *e = db_alloc(db, sizeof(*e));
    *e = (struct event_row){
        .seq = db->events.last_id,
        .at_us = w->at_us,
        .received_us = db->now_us,
        .partition = w->partition,
        .offset = w->offset,
        .source = db_dup(db, w->source),
        .id = db_dup(db, w->id),
        .type = w->wanted == DB_PRESENT ? "subscription.created" : "subscription.terminated",
        .subscription = db_dup(db, w->subscription),
        .organization = w->organization[0] ? db_dup(db, w->organization) : NULL,
        .order = db_dup(db, w->order),
        .topic = db_keep(db, 9),
        .traceparent = db_dup(db, w->traceparent),
        .data = w->data,
        .verdict = verdict,
    };
    db_add(db, &db->events, e);
    map_add(db, MAP_EVENTS, event_hash(e->source, e->id), e);
    return e;
}

static void apply(struct db *db, struct subscription_row *s, const struct wish *w,
                  const struct event_row *e, bool known)
{
    EDIT(db, s);
    s->pub.wanted = w->wanted;
    s->pub.generation += known;
    s->pub.wanted_at_us = w->until_us;
    s->event_seq = e->seq;
    str_copy(s->pub.order, UUID_TEXT, w->order);
    s->organization = e->organization;
    s->slug = w->slug ? w->slug : s->slug;
    if (w->wanted == DB_PRESENT) {
        s->pub.spec = w->data;
        s->tier = w->tier;
        s->runtime_name = db_keep(db, 13);
    }
    s->traceparent = e->traceparent;
    s->updated_us = db->now_us;
}

static enum db_event_verdict take(struct db *db, struct wish *w)
{
    static const char *const actions[] = {"event.applied", "event.repeated", "event.stale"};
    struct subscription_row *s = db_find_subscription(db, w->subscription);
    bool known = s != NULL;
    /* A termination need not name its organization. */
    if (s && s->organization && !w->organization[0]) {
        str_copy(w->organization, UUID_TEXT, s->organization);
    }
    enum db_event_verdict verdict = judge(s, w);
    if (event_is_known(db, w)) {
        return EVENT_DUPLICATE;
    }
    const struct event_row *e = add_event(db, w, verdict);
    if (verdict != EVENT_APPLIED) {
        db_audit(db, s->pub.uuid, s->organization, 0, "inbox", actions[verdict]);
        return verdict;
    }
    if (!s) {
        s = add_subscription(db, w);
    }
    apply(db, s, w, e, known);
    db_audit(db, s->pub.uuid, s->organization, 0, "inbox", actions[EVENT_APPLIED]);
    job_want(db, s, w->deadline_ms);
    return EVENT_APPLIED;
}

PGresult *db_inbox_take(struct db *db)
{
    struct wish w = {0};
    PGresult *res = NULL;
    if (wish_read(db, &w) && wish_check(db, &w)) {
        enum db_event_verdict verdict = take(db, &w);
        res = db->refused ? NULL : db_one(db, db_event_verdicts[verdict]);
    }
    cJSON_Delete(w.tree);
    return res;
}

/* ---- dead letters ---- */

static struct letter_row *find_letter(const struct db *db, uint64_t hash,
                                      const struct letter_row *like)
{
    size_t i = 0;
    struct letter_row *l;
    while ((l = map_next(&db->maps[MAP_LETTERS], hash, &i)) &&
           !(l->partition == like->partition && l->offset == like->offset &&
             l->at_us == like->at_us && str_eq(l->topic, like->topic))) {
    }
    return l;
}

static bool letter_check(struct db *db, const struct letter_row *l, const cJSON *headers)
{
    if (!l->topic || !headers || !l->pointer || !l->reason) {
        return db_refuse(db, "23502", "dead_letter: null");
    }
    return (l->reason[0] && cJSON_IsArray(headers)) ||
           db_refuse(db, "23514", "dead_letter: a column's check");
}

static bool letter_read(struct db *db, struct letter_row *l)
{
    cJSON *headers = NULL;
    l->topic = db_keep(db, 0);
    l->pointer = db_keep(db, 8);
    l->reason = db_keep(db, 9);
    bool fine = db_i64(db, 1, &l->partition) && db_i64(db, 2, &l->offset) &&
                db_time(db, 3, &l->at_us) && db_bytea(db, 4, &l->key) &&
                db_bytea(db, 5, &l->value) && db_i64(db, 6, &l->value_bytes) &&
                db_json(db, 7, &headers) && db_i64(db, 10, &l->replays);
    db->letters.last_id += fine;
    fine = fine && letter_check(db, l, headers);
    l->headers = fine ? db_json_text(db, headers) : NULL;
    cJSON_Delete(headers);
    return fine;
}

PGresult *db_dead_letter_add(struct db *db)
{
    struct letter_row *l = db_alloc(db, sizeof(*l));
    if (!letter_read(db, l)) {
        return NULL;
    }
    const int64_t numbers[] = {l->partition, l->offset, l->at_us};
    uint64_t hash = db_hash(db_hash_text(0, l->topic), numbers, sizeof(numbers));
    struct letter_row *known = find_letter(db, hash, l);
    if (!known) {
        l->id = db->letters.last_id;
        l->received_us = db->now_us;
        db_add(db, &db->letters, l);
        map_add(db, MAP_LETTERS, hash, l);
        known = l;
    }
    PGresult *res = db_result(db);
    db_put_i64(res, 0, 0, known->id);
    db_put_bool(res, 0, 1, known->published_us != 0);
    return res;
}

PGresult *db_dead_letter_published(struct db *db)
{
    int64_t id;
    if (!db_i64_or(db, 0, 0, &id)) {
        return NULL;
    }
    struct letter_row *l = db_by_id(&db->letters, id);
    if (l && l->published_us == 0) {
        EDIT(db, l);
        l->published_us = db->now_us;
    }
    return db_one(db, NULL);
}
