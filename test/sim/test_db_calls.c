/*
 * Random calls, mostly such as workers make them, so that lives get far; and often enough what
 * none should: wrong fences, strangers, what constraints forbid.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/str.h"
#include "test_db.h"

static const char deadline_ms[] = "3600000";
static const char nil_uuid[] = "00000000-0000-0000-0000-000000000000";
static const int64_t start_us = 1790000000000000;

static uint64_t below(struct maker *m, uint64_t n)
{
    return rng_below(&m->rng, n);
}

/* One time in n. */
static bool rarely(struct maker *m, uint64_t n)
{
    return below(m, n) == 0;
}

#define ONE_OF(m, list) ((list)[below((m), ARRAY_LEN(list))])

static void make_uuid(struct maker *m, char out[UUID_TEXT])
{
    uint64_t a = rng_next(&m->rng), b = rng_next(&m->rng);
    snprintf(out, UUID_TEXT, "%08x-%04x-%04x-%04x-%012" PRIx64, (unsigned)(a >> 32),
             (unsigned)(a >> 16 & 0xffff), (unsigned)(a & 0xffff), (unsigned)(b >> 48),
             b & 0xffffffffffff);
}

void maker_init(struct maker *m, struct db *db, uint64_t seed)
{
    *m = (struct maker){.db = db, .now_us = start_us};
    rng_seed(&m->rng, seed);
    for (int i = 0; i < SUBSCRIPTIONS; i++) {
        make_uuid(m, m->subscriptions[i]);
    }
    for (int i = 0; i < WORKERS; i++) {
        make_uuid(m, m->workers[i]);
    }
    for (int i = 0; i < ORGANIZATIONS; i++) {
        make_uuid(m, m->organizations[i]);
    }
}

/* ---- parameters ---- */

static void add(struct call *c, const char *value)
{
    c->p[c->n++] = (struct pg_param){value, -1};
}

__attribute__((format(printf, 2, 3))) static const char *text(struct call *c, const char *fmt, ...)
{
    va_list ap;
    char *at = c->store + c->used;
    va_start(ap, fmt);
    c->used += (size_t)vsnprintf(at, sizeof(c->store) - c->used, fmt, ap) + 1;
    va_end(ap);
    return at;
}

static void add_i64(struct call *c, int64_t n)
{
    add(c, text(c, "%" PRId64, n));
}

static void add_time(struct call *c, int64_t us)
{
    char time[CLOCK_TEXT_MAX];
    clock_format(time, us);
    add(c, text(c, "%s", time));
}

static void add_bytea(struct maker *m, struct call *c, size_t n)
{
    char hex[2 * 128 + 1];
    unsigned char bytes[128];
    for (size_t i = 0; i < n; i++) {
        bytes[i] = (unsigned char)below(m, 256);
    }
    str_hex(hex, bytes, n);
    add(c, text(c, "\\x%s", hex));
}

static const char *subscription(struct maker *m)
{
    return m->subscriptions[below(m, SUBSCRIPTIONS)];
}

/* Mostly one that is as asked for, if there is one. */
static const char *subscription_that(struct maker *m, bool (*is)(const struct subscription_row *))
{
    const char *uuid = subscription(m);
    for (int i = 0; i < 3 * SUBSCRIPTIONS && !rarely(m, 3 * SUBSCRIPTIONS); i++) {
        const struct subscription_row *s = db_find_subscription(m->db, uuid);
        if (s && is(s)) {
            break;
        }
        uuid = subscription(m);
    }
    return uuid;
}

static bool is_running(const struct subscription_row *s)
{
    return s->newest && s->newest->pub.state == JOB_RUNNING;
}

static bool has_failed(const struct subscription_row *s)
{
    return s->newest &&
           (s->newest->pub.state == JOB_FAILED || s->newest->pub.state == JOB_CANCELLED);
}

static bool is_archived(const struct subscription_row *s)
{
    return s->config && s->config->status == STATUS_ARCHIVED;
}

static const char *worker(struct maker *m)
{
    return m->workers[below(m, WORKERS)];
}

/* One whose lease is good, if any is and mostly. */
static const char *good_worker(struct maker *m)
{
    const char *uuid = worker(m);
    for (int i = 0; i < WORKERS && !rarely(m, 10); i++) {
        if (db_lease_until_us(m->db, uuid) > m->now_us) {
            break;
        }
        uuid = m->workers[i];
    }
    return uuid;
}

/* ---- events ---- */

static const char *organization(struct maker *m, const char *uuid)
{
    unsigned place = (unsigned char)uuid[0] % (ORGANIZATIONS + 1);
    if (rarely(m, 12)) {
        place = (unsigned)below(m, ORGANIZATIONS + 1);
    }
    return place < ORGANIZATIONS ? m->organizations[place] : NULL;
}

static const char *const runtimes[] = {"alpha", "beta"};

static const char *const specs[] = {
    "{\"organization\":{\"slug\":\"uni\",\"uuid\":null},\"plan\":{\"tier\":\"pro\"}}",
    "{\"plan\": {\"tier\": \"pro\"}, \"organization\": {\"uuid\": null, \"slug\": \"uni\"}}",
    "{\"organization\":{\"slug\":\"lab\"},\"n\":12.5,\"list\":[1,\"\\u00e4\\n\",true,null,{}]}",
    "{\"organization\":null,\"bb\":1,\"a\":{\"zz\":1,\"y\":[[],[{}]]}}",
    "{\"plan\":{\"tier\":7}}",
    "{\"plan\":[],\"b\":{}}",
    "{}",
};

static const struct db_subscription *known(struct maker *m, const char *uuid)
{
    return db_subscription(m->db, uuid);
}

static void add_order(struct maker *m, struct call *c, const char *uuid)
{
    const struct db_subscription *s = known(m, uuid);
    char order[UUID_TEXT];
    make_uuid(m, order);
    add(c, text(c, "%s", s && !rarely(m, 3) ? s->order : order));
}

static void add_event_id(struct maker *m, struct call *c)
{
    const struct table *events = &m->db->events;
    if (events->n > 0 && rarely(m, 6)) {
        const struct event_row *e = events->rows[below(m, events->n)];
        add(c, e->source);
        add(c, e->id);
        return;
    }
    add(c, rarely(m, 40) ? "" : rarely(m, 2) ? "/waldur" : "/cli");
    add(c, text(c, "event-%" PRIu64, ++m->made));
}

static void inbox_take(struct maker *m, struct call *c)
{
    static const int64_t offsets[] = {0, 0, 0, 0, 200000, -200000, -30000000};
    const char *uuid = rarely(m, 2) ? subscription(m) : subscription_that(m, is_running);
    static const char *const types[] = {
        "subscription.created",   "subscription.created",   "subscription.updated",
        "subscription.suspended", "subscription.resumed",   "subscription.terminated",
        "subscription.updated",   "subscription.suspended", "subscription.terminated"};
    add_event_id(m, c);
    add(c, rarely(m, 60) ? "subscription.other" : ONE_OF(m, types));
    add(c, uuid);
    add(c, organization(m, uuid));
    add_order(m, c, uuid);
    const struct db_subscription *s = known(m, uuid);
    add_time(c, s && rarely(m, 8) ? s->wanted_at_us
                                  : m->now_us + (rarely(m, 60) ? 900000000 : ONE_OF(m, offsets)));
    add(c, rarely(m, 30) ? NULL : ONE_OF(m, specs));
    add(c, rarely(m, 2) ? NULL : "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
    bool kafka = !rarely(m, 3);
    add(c, kafka ? "waldur.events" : NULL);
    add(c, kafka ? text(c, "%" PRIu64, below(m, 4)) : NULL);
    add(c, kafka ? text(c, "%" PRIu64, ++m->made) : NULL);
    add(c, deadline_ms);
    add(c, rarely(m, 3) ? NULL : rarely(m, 60) ? "" : ONE_OF(m, runtimes));
}

static void dead_letter_add(struct maker *m, struct call *c)
{
    add(c, rarely(m, 2) ? "waldur.events" : "other");
    add_i64(c, (int64_t)below(m, 2));
    add_i64(c, (int64_t)below(m, 12));
    if (rarely(m, 2)) {
        add(c, NULL);
    } else {
        add_time(c, start_us + (int64_t)below(m, 2) * 1000);
    }
    char *key = (char *)(uintptr_t)text(c, "key-%d", (int)below(m, 9));
    key[1] = '\0';
    c->p[c->n++] = (struct pg_param){rarely(m, 4) ? NULL : key, 5};
    add_bytea(m, c, below(m, 60));
    add_i64(c, 70);
    add(c, rarely(m, 20) ? "{}" : "[{\"name\":\"h\",\"value\":\"v\"}]");
    add(c, "/data/plan");
    add(c, rarely(m, 12) ? "" : "is missing");
    add_i64(c, (int64_t)below(m, 3));
}

static void dead_letter_published(struct maker *m, struct call *c)
{
    add_i64(c, (int64_t)below(m, (uint64_t)m->db->letters.last_id + 2));
}

/* ---- workers ---- */

static void worker_register(struct maker *m, struct call *c)
{
    const char *uuid = worker(m);
    for (int i = 0; i < WORKERS && db_find_worker(m->db, uuid) && !rarely(m, 30); i++) {
        uuid = m->workers[i];
    }
    add(c, uuid);
    add(c, "host");
    add_i64(c, 4711);
    add(c, "0.1.0");
    add_i64(c, rarely(m, 5) ? 2000 : 15000);
}

static void worker_renew(struct maker *m, struct call *c)
{
    add(c, good_worker(m));
    add_i64(c, 15000);
}

static void worker_leave(struct maker *m, struct call *c)
{
    add(c, worker(m));
}

static const struct job_row *any_job(struct maker *m)
{
    const struct table *jobs = &m->db->jobs;
    return jobs->n ? jobs->rows[below(m, jobs->n)] : NULL;
}

/* The newest of a subscription: most likely alive. */
static const struct job_row *job(struct maker *m)
{
    /* Rather one that its next write stops. */
    int stopped = rarely(m, 4) ? SUBSCRIPTIONS : 0;
    for (int tries = 0; tries < 2 * SUBSCRIPTIONS + stopped; tries++) {
        const struct subscription_row *s = db_find_subscription(m->db, subscription(m));
        const struct job_row *j = s ? s->newest : NULL;
        if (j && j->pub.state == JOB_RUNNING &&
            (tries >= stopped || j->cancel_error || job_is_paused(m->db, j))) {
            return j;
        }
    }
    return any_job(m);
}

static const struct job_row *mostly_running(struct maker *m)
{
    return rarely(m, 20) ? any_job(m) : job(m);
}

/* The job's, but for one time in n. */
static void add_owner(struct maker *m, struct call *c, const struct job_row *j, uint64_t n)
{
    add(c, text(c, "%s", j && j->pub.owner[0] && !rarely(m, n) ? j->pub.owner : worker(m)));
}

static const char *ids(struct maker *m, struct call *c, uint64_t last, int n)
{
    char list[256] = "";
    size_t len = 0;
    for (int i = 0; i < n; i++) {
        len += (size_t)snprintf(list + len, sizeof(list) - len, "%s%" PRIu64, i ? "," : "",
                                last - below(m, last < 12 ? last + 1 : 12));
    }
    return text(c, "{%s}", list);
}

static const char *member(struct maker *m, struct call *c, const char *name, uint64_t least,
                          uint64_t most)
{
    return text(c, "\"%s\":%" PRIu64, name, least + below(m, most - least + 1));
}

static const char *after_of(struct maker *m)
{
    return m->organizations[below(m, ORGANIZATIONS)];
}

/* Mostly such as workers send them, with small numbers. */
static const char *policy(struct maker *m, struct call *c)
{
    if (rarely(m, 3)) {
        return rarely(m, 2) ? "{}" : NULL;
    }
    return text(c,
                "{%s,%s,\"weights\":{%s},\"room\":{%s},%s,\"held\":{%s},\"after\":{\"%s\":\"%s\"},"
                "\"credit\":{\"%s\":%d}}",
                rarely(m, 3) ? "\"x\":1" : member(m, c, "organization_max", 0, 3),
                rarely(m, 3) ? "\"runtime_max\":null" : member(m, c, "runtime_max", 0, 3),
                rarely(m, 2) ? "" : member(m, c, "pro", 1, 4),
                rarely(m, 2) ? "" : member(m, c, ONE_OF(m, runtimes), 0, 3),
                rarely(m, 2) ? "\"room_else\":9" : member(m, c, "room_else", 0, 4),
                rarely(m, 2) ? "" : member(m, c, ONE_OF(m, runtimes), 0, 2),
                rarely(m, 2) ? "" : ONE_OF(m, runtimes), after_of(m),
                rarely(m, 2) ? "" : ONE_OF(m, runtimes), (int)below(m, 3));
}

static void jobs_claim(struct maker *m, struct call *c)
{
    char after[UUID_TEXT];
    make_uuid(m, after);
    add(c, good_worker(m));
    add_i64(c, 1 + (int64_t)below(m, rarely(m, 3) ? 12 : 4));
    add(c, rarely(m, 10)  ? NULL
           : rarely(m, 3) ? nil_uuid
           : rarely(m, 2) ? m->organizations[below(m, ORGANIZATIONS)]
                          : text(c, "%s", after));
    add_i64(c, 1 + (int64_t)below(m, 3));
    add(c, rarely(m, 6) ? ids(m, c, (uint64_t)m->db->jobs.last_id, (int)below(m, 6)) : NULL);
    add(c, rarely(m, 5) ? "t" : "f");
    add(c, policy(m, c));
}

/* Each job once: what a second mention does, PostgreSQL leaves to how it fetches. */
static void jobs_back(struct maker *m, struct call *c)
{
    const struct job_row *j = mostly_running(m), *k = mostly_running(m);
    add_owner(m, c, j, 5);
    int64_t wrong = rarely(m, 6);
    if (!j || !k || rarely(m, 20)) {
        add(c, "{}");
        add(c, "{}");
    } else if (j == k) {
        add(c, text(c, "{%" PRId64 "}", j->pub.id));
        add(c, text(c, "{%" PRId64 "}", j->pub.fence + wrong));
    } else {
        add(c, text(c, "{%" PRId64 ",%" PRId64 "}", j->pub.id, k->pub.id));
        add(c, text(c, "{%" PRId64 ",%" PRId64 "}", j->pub.fence + wrong, k->pub.fence));
    }
}

static void jobs_release(struct maker *m, struct call *c)
{
    add(c, rarely(m, 3) ? NULL : ONE_OF(m, runtimes));
    add(c, rarely(m, 3) ? "1" : rarely(m, 2) ? "2" : NULL);
}

/* ---- what a running job writes ---- */

static const struct job_row *fence(struct maker *m, struct call *c)
{
    const struct job_row *j = mostly_running(m);
    add_i64(c, j ? j->pub.id + (rarely(m, 60) ? 1 : 0) : 1);
    add_owner(m, c, j, 30);
    add_i64(c, j ? j->pub.fence - (rarely(m, 30) ? 1 : 0) : 0);
    add(c, deadline_ms);
    return j;
}

static void add_next(struct maker *m, struct call *c, const struct job_row *j)
{
    enum job_step next = j ? machine_next(j->pub.kind, j->pub.step) : STEP_MAX;
    if (rarely(m, 20)) {
        next = (enum job_step)below(m, STEP_MAX + 1);
    }
    add(c, next == STEP_MAX ? NULL : job_step_name(next));
}

static void step_plain(struct maker *m, struct call *c)
{
    add_next(m, c, fence(m, c));
}

static void add_runtime_max(struct maker *m, struct call *c)
{
    add(c, rarely(m, 3) ? NULL : text(c, "%" PRIu64, below(m, 3)));
}

static void step_revoke(struct maker *m, struct call *c)
{
    step_plain(m, c);
    add_runtime_max(m, c);
}

static const char *config_name(struct maker *m, struct call *c, const struct job_row *j)
{
    static const char *const bad[] = {"", "-a", "a-", "A", "a_b"};
    if (rarely(m, 5)) {
        return text(c, "n-%.8s", subscription(m));
    }
    return rarely(m, 16) ? ONE_OF(m, bad) : text(c, "n-%.8s", j ? j->pub.subscription : "0");
}

static const char *config_json(struct maker *m, struct call *c)
{
    static const char *const capabilities[] = {"[\"chat\"]", "[\"rag\", \"chat\"]",
                                               "[\"chat\",\"rag\"]", "[]"};
    static const char *const bad[] = {"null", "[null]"};
    static const char *const variables[] = {"{}", "{\"b\":2,\"a\":\"x\"}"};
    static const char *const tiers[] = {"free", "plus", "pro", "enterprise"};
    static const char *const due[] = {"", ",\"variables_due\":[]",
                                      ",\"variables_due\":[\"a\",\"b c\"]"};
    return text(c,
                "{\"organization_uuid\":\"%s\",\"organization_slug\":\"uni\",\"project_uuid\":"
                "\"%s\",\"project_slug\":\"p\",\"offering_uuid\":\"%s\",%s\"plan_tier\":\"%s\","
                "\"capabilities\":%s,\"variables\":%s%s}",
                m->organizations[0], m->organizations[1], m->organizations[2],
                rarely(m, 40) ? "" : "\"offering_type\":\"Agent\",",
                rarely(m, 40) ? "gold" : ONE_OF(m, tiers),
                rarely(m, 40) ? ONE_OF(m, bad) : ONE_OF(m, capabilities),
                rarely(m, 40) ? "[]" : ONE_OF(m, variables), ONE_OF(m, due));
}

static void step_name(struct maker *m, struct call *c)
{
    const struct job_row *j = fence(m, c);
    add_next(m, c, j);
    add(c, config_name(m, c, j));
    add(c, rarely(m, 40) ? "borrowed" : "shared");
    add(c, ONE_OF(m, runtimes));
    add(c, config_json(m, c));
    add_runtime_max(m, c);
}

/* Sometimes one that another subscription has. */
static const char *external_id(struct maker *m, struct call *c)
{
    if (rarely(m, 40)) {
        return "";
    }
    return rarely(m, 4) ? text(c, "x-%d", (int)below(m, 2)) : text(c, "x-%" PRIu64, 10 + ++m->made);
}

static void add_sealed(struct maker *m, struct call *c)
{
    if (rarely(m, 2)) {
        add(c, NULL);
    } else {
        add_bytea(m, c, rarely(m, 30) ? 40 : 56);
    }
}

static const char *product_of(struct maker *m, const struct job_row *j)
{
    if (rarely(m, 60)) {
        return "waldur";
    }
    if (j && !rarely(m, 10)) {
        return j->pub.step == STEP_COLLECTION ? "ragflow" : "langflow";
    }
    return rarely(m, 2) ? "langflow" : "ragflow";
}

static void step_resource(struct maker *m, struct call *c)
{
    const struct job_row *j = fence(m, c);
    bool absent = j && (j->pub.kind == KIND_PURGE || j->pub.step == STEP_COLLECTION);
    absent = absent && (j->pub.kind == KIND_TERMINATE || j->pub.kind == KIND_PURGE);
    add_next(m, c, j);
    add(c, product_of(m, j));
    add(c, absent != rarely(m, 8) ? NULL : external_id(m, c));
    char flow[UUID_TEXT];
    make_uuid(m, flow);
    const char *detail = NULL;
    if (!rarely(m, 8)) {
        detail = text(c, "{%s%s\"flow_id\":\"%s\",\"run_url\":\"%s\",\"tenant_id\":%s}",
                      rarely(m, 8) ? "\"residue\":\"a file\"," : "",
                      rarely(m, 2) ? "\"variables\":true," : "", rarely(m, 25) ? "none" : flow,
                      rarely(m, 40) ? "" : "http://x/run", rarely(m, 3) ? "null" : "\"t1\"");
    }
    add(c, detail);
    add_sealed(m, c);
}

static const char *terms_json(struct maker *m)
{
    static const char *const terms[] = {
        "{\"permissions\":[\"chat\"],\"allowed_domains\":[],\"rate_limit\":\"60/minute\"}",
        "{\"permissions\":[],\"allowed_domains\":[\"a.example\",\"*.b\"],\"rate_limit\":\"1/day\","
        "\"expires_at\":\"2027-01-02T03:04:05Z\"}",
        "{\"permissions\":[\"a\\\"b\",\"c,d\",\"\",\"NULL\"],\"allowed_domains\":[],"
        "\"rate_limit\":\"100/hour\",\"expires_at\":null}",
    };
    static const char *const bad[] = {
        "{\"permissions\":[],\"allowed_domains\":[],\"rate_limit\":\"0/day\"}",
        "{\"permissions\":[],\"rate_limit\":\"1/day\"}",
    };
    return rarely(m, 8) ? ONE_OF(m, bad) : ONE_OF(m, terms);
}

static void step_api_key(struct maker *m, struct call *c)
{
    add_next(m, c, fence(m, c));
    add(c, rarely(m, 30)  ? "pk_live_short"
           : rarely(m, 5) ? "pk_live_same0000"
                          : text(c, "pk_live_%08" PRIu64, ++m->made));
    if (rarely(m, 30)) {
        add(c, "\\x1111111111111111111111111111111111111111111111111111111111111111");
    } else {
        add_bytea(m, c, rarely(m, 40) ? 31 : 32);
    }
    add_bytea(m, c, rarely(m, 40) ? 48 : 60);
    add(c, terms_json(m));
}

static void job_settle(struct maker *m, struct call *c)
{
    static const char *const likely[] = {"retrying", "held", "failed", "queued"};
    fence(m, c);
    add(c, rarely(m, 30) ? job_state_name((enum job_state)below(m, JOB_STATE_MAX))
                         : ONE_OF(m, likely));
    add_i64(c, rarely(m, 15) ? -1 : (int64_t)below(m, 5));
    add_i64(c, (int64_t)below(m, 4) * 700);
    add(c, rarely(m, 20) ? NULL : "refused");
    add(c, rarely(m, 40) ? "" : "400: \"no\"\tat all");
}

static void effect_intend(struct maker *m, struct call *c)
{
    static const char *const operations[] = {"create", "delete", "update"};
    static const char *const methods[] = {"POST", "DELETE", "PATCH", "PUT"};
    const struct job_row *j = fence(m, c);
    size_t k = below(m, 3);
    add(c, rarely(m, 40) ? "other" : product_of(m, j));
    add(c, rarely(m, 40) ? "" : operations[k]);
    add(c, methods[rarely(m, 5) ? below(m, 4) : k]);
    add(c, "/api/v1/flows/1");
    add(c, "name");
    add(c, "marker");
    add(c, "sha");
    add(c, text(c, "p%" PRIu64, ++m->made));
    add(c, rarely(m, 3) ? text(c, "%s", rarely(m, 20) ? "" : rarely(m, 2) ? "o-1" : "o-2") : NULL);
}

/* Mostly the newest that is open. */
static const struct effect_row *late_effect(struct maker *m)
{
    const struct table *effects = &m->db->effects;
    size_t back = rarely(m, 4) ? below(m, 40) : 0;
    for (size_t i = effects->n; i > 0 && back == 0; i--) {
        const struct effect_row *e = effects->rows[i - 1];
        if (e->state == EFFECT_INTENDED || e->state == EFFECT_UNKNOWN) {
            return e;
        }
    }
    return effects->n > back ? effects->rows[effects->n - 1 - back] : NULL;
}

static void effect_settle(struct maker *m, struct call *c)
{
    const struct effect_row *e = late_effect(m);
    add_i64(c, e ? e->pub.id : 1);
    add_i64(c, e ? e->pub.fence + (rarely(m, 20) ? 1 : 0) : 0);
    add(c, db_effect_states[below(m, EFFECT_STATE_MAX)]);
    add(c, rarely(m, 2) ? NULL : "x-9");
    add(c, rarely(m, 3) ? NULL : "503");
    add(c, rarely(m, 2) ? NULL : "unknown");
    add(c, rarely(m, 2) ? NULL : "timed out");
}

static void runtime_keep(struct maker *m, struct call *c)
{
    const struct job_row *j = fence(m, c);
    add(c, product_of(m, j));
    add(c, rarely(m, 3) ? NULL : external_id(m, c));
    add(c, rarely(m, 2) ? NULL : rarely(m, 20) ? "" : "t2");
    add_sealed(m, c);
}

/* ---- the rest ---- */

static void outbox_claim(struct maker *m, struct call *c)
{
    add(c, worker(m));
    add_i64(c, 1 + (int64_t)below(m, 5));
}

static void outbox_ids(struct maker *m, struct call *c)
{
    add(c, ids(m, c, (uint64_t)m->db->outbox.last_id, (int)below(m, 4)));
}

static void outbox_forget(struct maker *m, struct call *c)
{
    add_owner(m, c, NULL, 10);
    outbox_ids(m, c);
}

/* Some are more than will be counted. */
static void counts(struct maker *m, struct call *c)
{
    add(c, rarely(m, 3) ? "2" : "1000");
}

static void nothing(struct maker *m, struct call *c)
{
    (void)m;
    (void)c;
}

static void replay(struct maker *m, struct call *c)
{
    add(c, subscription_that(m, has_failed));
    add(c, rarely(m, 2) ? NULL : job_step_name((enum job_step)below(m, STEP_MAX)));
    add(c, deadline_ms);
}

static void purge(struct maker *m, struct call *c)
{
    add(c, subscription_that(m, is_archived));
    add_time(c, m->now_us - (rarely(m, 3) ? 20000000 : 0));
    add(c, deadline_ms);
}

static void cancel(struct maker *m, struct call *c)
{
    const struct job_row *j = rarely(m, 3) ? any_job(m) : job(m);
    add_i64(c, j && !rarely(m, 20) ? j->pub.id : m->db->jobs.last_id + 1);
    add(c, rarely(m, 2) ? NULL : "\"no\" more");
    add(c, deadline_ms);
}

static void add_scope(struct maker *m, struct call *c)
{
    char uuid[UUID_TEXT];
    uint64_t k = below(m, 8);
    make_uuid(m, uuid);
    add(c, k == 0 ? "all" : k == 1 ? "runtime" : k < 4 ? "organization" : "subscription");
    add(c, k == 0          ? ""
           : k == 1        ? ONE_OF(m, runtimes)
           : k < 4         ? after_of(m)
           : rarely(m, 20) ? text(c, "%s", uuid)
                           : subscription_that(m, is_running));
}

static void pause(struct maker *m, struct call *c)
{
    const char *scope, *target;
    if (rarely(m, 8) && db_pause_at(m->db, 0, &scope, &target)) {
        add(c, scope);
        add(c, target);
    } else {
        add_scope(m, c);
    }
}

static void resume(struct maker *m, struct call *c)
{
    const char *scope, *target;
    if (!rarely(m, 20) &&
        db_pause_at(m->db, (size_t)below(m, (uint64_t)m->db->n_pauses + 1), &scope, &target)) {
        add(c, scope);
        add(c, target);
    } else {
        add_scope(m, c);
    }
}

static const struct {
    void (*make)(struct maker *m, struct call *c);
    unsigned weight;
} kinds[T_MAX] = {
    [S_INBOX_TAKE] = {inbox_take, 13},
    [S_DEAD_LETTER_ADD] = {dead_letter_add, 2},
    [S_DEAD_LETTER_PUBLISHED] = {dead_letter_published, 1},
    [S_WORKER_REGISTER] = {worker_register, 4},
    [S_WORKER_RENEW] = {worker_renew, 6},
    [S_WORKER_LEAVE] = {worker_leave, 2},
    [S_JOBS_CLAIM] = {jobs_claim, 14},
    [S_JOBS_BACK] = {jobs_back, 2},
    [S_STEP_PASS] = {step_plain, 2},
    [S_STEP_NAME] = {step_name, 2},
    [S_STEP_RESOURCE] = {step_resource, 2},
    [S_STEP_API_KEY] = {step_api_key, 2},
    [S_STEP_READY] = {step_plain, 2},
    [S_STEP_REVOKE] = {step_revoke, 1},
    [S_STEP_REFUSE] = {step_revoke, 1},
    [S_STEP_SUSPENDED] = {step_plain, 1},
    [S_STEP_ARCHIVE] = {step_plain, 1},
    [S_JOB_SETTLE] = {job_settle, 7},
    [S_EFFECT_INTEND] = {effect_intend, 8},
    [S_EFFECT_SETTLE] = {effect_settle, 6},
    [S_RUNTIME_KEEP] = {runtime_keep, 4},
    [S_JOBS_RELEASE] = {jobs_release, 2},
    [S_OUTBOX_CLAIM] = {outbox_claim, 3},
    [S_OUTBOX_DONE] = {outbox_ids, 2},
    [S_OUTBOX_BACK] = {outbox_ids, 1},
    [S_OUTBOX_FORGET] = {outbox_forget, 1},
    [S_COUNTS] = {counts, 2},
    [S_SCHEMA_VERSION] = {nothing, 1},
    [T_REPLAY] = {replay, 4},
    [T_PURGE] = {purge, 9},
    [T_CANCEL] = {cancel, 2},
    [T_PAUSE] = {pause, 2},
    [T_RESUME] = {resume, 5},
};

/* What the step of the job at hand calls for. */
static int step_statement(struct maker *m)
{
    const struct job_row *j = job(m);
    if (rarely(m, 10)) {
        return S_RUNTIME_KEEP;
    }
    switch (j ? j->pub.step : STEP_MAX) {
    case STEP_NAME:
        return S_STEP_NAME;
    case STEP_COLLECTION:
    case STEP_WORKSPACE:
    case STEP_CLOSE_WORKSPACE:
    case STEP_OPEN_WORKSPACE:
        return S_STEP_RESOURCE;
    case STEP_API_KEY:
        return S_STEP_API_KEY;
    case STEP_RECORD:
        return j->pub.kind == KIND_PURGE     ? S_STEP_ARCHIVE
               : j->pub.kind == KIND_SUSPEND ? S_STEP_SUSPENDED
                                             : S_STEP_READY;
    case STEP_REVOKE:
        return j->pub.kind == KIND_SUSPEND ? S_STEP_REFUSE : S_STEP_REVOKE;
    case STEP_ARCHIVE:
        return S_STEP_ARCHIVE;
    default:
        return S_STEP_PASS;
    }
}

static int any_statement(struct maker *m)
{
    unsigned total = 0;
    for (int i = 0; i < T_MAX; i++) {
        total += kinds[i].weight;
    }
    unsigned at = (unsigned)below(m, total);
    int i = 0;
    while (at >= kinds[i].weight) {
        at -= kinds[i++].weight;
    }
    return i;
}

/* Without a running job there is nothing to write: rather get one. */
static int idle_statement(struct maker *m)
{
    static const int idle[] = {S_INBOX_TAKE, S_INBOX_TAKE, S_WORKER_REGISTER, S_JOBS_CLAIM,
                               S_JOBS_CLAIM};
    return rarely(m, 2) ? any_statement(m) : ONE_OF(m, idle);
}

static void pass_time(struct maker *m)
{
    int64_t us = 1 + (int64_t)below(m, 100000);
    if (rarely(m, 40)) {
        us += (int64_t)below(m, 20000000);
    } else if (rarely(m, 400)) {
        us += 7200LL * 1000000;
    }
    m->now_us += us;
}

void make_call(struct maker *m, struct call *c)
{
    pass_time(m);
    c->n = 0;
    c->used = 0;
    c->statement = m->db->counts[JOB_RUNNING] == 0 ? idle_statement(m)
                   : rarely(m, 2)                  ? step_statement(m)
                                                   : any_statement(m);
    kinds[c->statement].make(m, c);
}
