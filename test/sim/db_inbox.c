/*
 * What comes in: events and what could not be decoded.
 */
#include <string.h>

#include "base/str.h"
#include "db_internal.h"

const char *const db_event_verdicts[] = {"applied", "repeated", "stale", "noted", "duplicate"};
const char *const db_wanted_names[] = {"present", "suspended", "absent", "purged"};

static const int64_t ahead_us = 5LL * 60 * 1000000;

struct wish {
    const char *source, *id, *type, *traceparent;
    char subscription[UUID_TEXT], organization[UUID_TEXT], order[UUID_TEXT];
    int64_t at_us, until_us, deadline_ms;
    int64_t partition, offset;
    cJSON *tree;
    const char *data, *slug, *tier;
    bool creates, terminates, tells, suspends, resumes; /* tells: carries a spec */
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
    w->creates = str_eq(w->type, "subscription.created");
    w->terminates = str_eq(w->type, "subscription.terminated");
    w->tells = w->creates || str_eq(w->type, "subscription.updated");
    w->suspends = str_eq(w->type, "subscription.suspended");
    w->resumes = str_eq(w->type, "subscription.resumed");
    int64_t latest = db->now_us + ahead_us;
    w->until_us = db_null(db, 6) || w->at_us > latest ? latest : w->at_us;
    return true;
}

/* The constraints of subscription's key, then those of subscription_event. */
static bool wish_check(struct db *db, const struct wish *w)
{
    if (!w->subscription[0] || !w->order[0]) {
        return db_refuse(db, "23502", "subscription: null");
    }
    db->events.last_id++;
    if (!w->source || !w->id || !w->type || db_null(db, 6) || !w->data) {
        return db_refuse(db, "23502", "subscription_event: null");
    }
    if (!w->source[0] || !w->id[0]) {
        return db_refuse(db, "23514", "subscription_event: empty");
    }
    return w->tells || w->terminates || w->suspends || w->resumes ||
           db_refuse(db, "23514", "subscription_event_type_check");
}

static struct subscription_row *add_subscription(struct db *db, const struct wish *w)
{
    struct subscription_row *s = db_alloc(db, sizeof(*s));
    str_copy(s->pub.uuid, UUID_TEXT, w->subscription);
    s->pub.generation = 1;
    s->pub.wanted = s->wish.wanted = DB_ABSENT;
    s->pub.wanted_at_us = INT64_MIN;
    str_copy(s->pub.order, UUID_TEXT, w->order);
    s->created_us = db->now_us;
    db_add(db, &db->subscriptions, s);
    map_add(db, MAP_SUBSCRIPTIONS, db_hash_text(0, s->pub.uuid), s);
    return s;
}

/* ---- what is wanted ---- */

static enum db_wanted wanted_of(const struct wish_parts *p, bool terminates)
{
    if (p->alive == ALIVE_FALSE) {
        return p->wanted == DB_PURGED && !terminates ? DB_PURGED : DB_ABSENT;
    }
    return p->suspended ? DB_SUSPENDED : p->spec ? DB_PRESENT : DB_ABSENT;
}

static struct wish_parts wish_after(const struct wish_parts *before, const struct wish *w)
{
    struct wish_parts p = *before;
    const int64_t at = w->until_us;
    if (p.alive_at_us && at < p.alive_at_us) {
        return p;
    }
    if (w->creates || w->terminates) {
        p.alive = w->creates ? ALIVE_TRUE : ALIVE_FALSE;
        p.alive_at_us = at;
    }
    if (w->tells && at >= p.spec_at_us) {
        p.spec = w->data;
        p.spec_at_us = at;
    }
    if ((w->creates || w->suspends || w->resumes) && at >= p.suspended_at_us) {
        p.suspended = w->suspends;
        p.suspended_at_us = at;
    }
    p.wanted = wanted_of(&p, w->terminates);
    return p;
}

static bool is_stale(const struct wish_parts *was, const struct wish_parts *is, int64_t at)
{
    bool same = was->wanted == is->wanted && was->alive == is->alive &&
                was->suspended == is->suspended && was->alive_at_us == is->alive_at_us &&
                was->spec_at_us == is->spec_at_us && was->suspended_at_us == is->suspended_at_us &&
                str_eq(was->spec, is->spec);
    return same && (at < was->alive_at_us || at < was->spec_at_us || at < was->suspended_at_us);
}

static enum db_event_verdict judge(const struct subscription_row *s, const struct wish *w,
                                   const struct wish_parts *n)
{
    bool same_spec = str_eq(n->spec, s->wish.spec) || (!n->spec && !s->wish.spec);
    if (is_stale(&s->wish, n, w->until_us)) {
        return EVENT_STALE;
    }
    if (n->wanted != s->wish.wanted) {
        return EVENT_APPLIED;
    }
    if ((n->wanted == DB_ABSENT || n->wanted == DB_PURGED) && !w->terminates) {
        return EVENT_NOTED;
    }
    if (w->until_us < s->pub.wanted_at_us && same_spec) {
        return EVENT_NOTED;
    }
    return same_spec && str_eq(w->order, s->pub.order) && s->newest &&
                   s->newest->pub.generation == s->pub.generation &&
                   machine_live(s->newest->pub.state)
               ? EVENT_REPEATED
               : EVENT_APPLIED;
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
        .type = db_dup(db, w->type),
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

/* This event is what the wish is known by. */
static void lead(struct subscription_row *s, const struct wish *w, const struct event_row *e)
{
    if (w->until_us > s->pub.wanted_at_us) {
        s->pub.wanted_at_us = w->until_us;
    }
    str_copy(s->pub.order, UUID_TEXT, w->order);
    s->traceparent = e->traceparent;
}

static bool apply(struct db *db, struct subscription_row *s, const struct wish *w,
                  const struct event_row *e, const struct wish_parts *n, bool known)
{
    EDIT(db, s);
    if ((e->verdict == EVENT_APPLIED || !known) &&
        (w->until_us >= s->pub.wanted_at_us || n->wanted != s->wish.wanted)) {
        lead(s, w, e);
    }
    if (n->spec_at_us != s->wish.spec_at_us || !str_eq(n->spec, s->wish.spec)) {
        s->tier = n->spec ? w->tier : s->tier;
        s->runtime_name = n->spec ? db_keep(db, 13) : s->runtime_name;
    }
    s->wish = *n;
    s->pub.wanted = n->wanted;
    s->pub.spec = n->spec;
    s->pub.generation += known && e->verdict == EVENT_APPLIED;
    s->event_seq = e->seq;
    s->organization = e->organization;
    s->slug = w->slug ? w->slug : s->slug;
    s->updated_us = db->now_us;
    return !s->runtime_name || s->runtime_name[0] ||
           db_refuse(db, "23514", "subscription_runtime_name_check");
}

static enum db_event_verdict take(struct db *db, struct wish *w)
{
    static const char *const actions[] = {"event.applied", "event.repeated", "event.stale",
                                          "event.noted"};
    struct subscription_row *s = db_find_subscription(db, w->subscription);
    bool known = s != NULL;
    /* Most events need not name their organization. */
    if (s && s->organization && !w->organization[0]) {
        str_copy(w->organization, UUID_TEXT, s->organization);
    }
    if (event_is_known(db, w)) {
        return EVENT_DUPLICATE;
    }
    s = s ? s : add_subscription(db, w);
    struct wish_parts n = wish_after(&s->wish, w);
    const struct event_row *e = add_event(db, w, judge(s, w, &n));
    if (e->verdict == EVENT_STALE || e->verdict == EVENT_REPEATED) {
        db_audit(db, s->pub.uuid, s->organization, 0, "inbox", actions[e->verdict]);
        return e->verdict;
    }
    if (apply(db, s, w, e, &n, known)) {
        db_audit(db, s->pub.uuid, s->organization, 0, "inbox", actions[e->verdict]);
        if (e->verdict == EVENT_APPLIED) {
            job_want(db, s, w->deadline_ms);
        }
    }
    return e->verdict;
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
