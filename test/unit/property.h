/*
 * What the property tests share: seeds, chance, and a driver against a server that may answer
 * anything (mad_drive). The answers come from whoever runs it, a generator or a fuzzer's input;
 * what must hold whatever they are is checked here, what holds of one product by its own hooks.
 */
#ifndef TEST_PROPERTY_H
#define TEST_PROPERTY_H

#include <ctype.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/exchange.h"
#include "base/json.h"
#include "base/rng.h"
#include "base/str.h"
#include "driver/driver.h"

/* ---- seeds ---- */

/* Runs one() with as many seeds, or with $PROPERTY_SEED alone; how many those were. */
static inline size_t property_runs(size_t runs, void (*one)(uint64_t seed))
{
    const char *given = getenv("PROPERTY_SEED");
    uint64_t seed = given ? strtoull(given, NULL, 10) : (uint64_t)clock_wall_us();
    runs = given ? 1 : runs;
    print_message("seeds from %" PRIu64 "\n", seed);
    for (size_t i = 0; i < runs; i++) {
        one(seed + i);
    }
    return runs;
}

static inline bool property_chance(struct rng *rng, unsigned percent)
{
    return rng_below(rng, 100) < percent;
}

#define PROPERTY_DRAW(rng, list) ((list)[rng_below((rng), ARRAY_LEN(list))])

/* Knocks a few bytes of the text out of place, `percent` of the time. */
static inline void property_knock(struct rng *rng, unsigned percent, char *text)
{
    size_t len = strlen(text);
    for (uint64_t n = property_chance(rng, percent) ? 1 + rng_below(rng, 4) : 0; n > 0; n--) {
        text[rng_below(rng, len)] = (char)(1 + rng_below(rng, 255));
    }
}

/* ---- a server gone mad ---- */

/* Where answers come from. */
struct mad_answers {
    void *ctx;
    /* The body stays the source's, until it is asked again or ends. */
    void (*give)(void *ctx, const struct driver_action *a, struct exchange_response *out);
};

enum { MAD_SECRETS_MAX = 8, MAD_BASES_MAX = 2 };

struct mad {
    const struct driver_class *class;
    const struct driver_target *target;
    const char *bases[MAD_BASES_MAX];     /* what every request is below; NULL: no second one */
    const char *secrets[MAD_SECRETS_MAX]; /* what stands in no error; NULL for none */
    int requests_max, waits_max;
    void *ctx;
    /* The test's own: each may be NULL but the last. */
    void (*asked)(void *ctx, const struct driver_action *a);
    void (*answered)(void *ctx, const struct driver_action *a, const struct exchange_response *r,
                     const struct driver_outcome *out);
    void (*waited)(void *ctx, const struct driver_action *a);
    void (*broken)(void *ctx, const char *why); /* does not return */
};

static inline bool mad_is_below(const char *url, const char *base)
{
    return base && str_starts(url, base) && url[strlen(base)] == '/';
}

/* Inside its own server, and of one form whoever reads it: no segment is empty or leads upwards,
 * nothing ends the path early. */
static inline void mad_check_url(const struct mad *m, const struct exchange_request *r)
{
    const char *url = r->url, *rest = r->url_secret ? r->url_secret : "";
    const char *base = mad_is_below(url, m->bases[0])   ? m->bases[0]
                       : mad_is_below(url, m->bases[1]) ? m->bases[1]
                                                        : NULL;
    if (!base) {
        m->broken(m->ctx, "a request outside of the server's base");
        return;
    }
    const char *path = url + strlen(base);
    size_t n = strcspn(path, "?");
    for (const char *p = path; *p; p++) {
        if ((unsigned char)*p <= ' ' || (unsigned char)*p >= 0x7f || strchr("#\\\"<>{}|^`", *p)) {
            m->broken(m->ctx, "a character that no URL has");
        }
    }
    for (const char *p = rest; *p; p++) {
        if (!isalnum((unsigned char)*p) && !strchr("-._~", *p)) {
            m->broken(m->ctx, "a reserved character in the URL's secret");
        }
    }
    bool change = r->method != METHOD_GET && r->method != METHOD_POST;
    if (change && n > 0 && path[n - 1] == '/' && !rest[0]) {
        m->broken(m->ctx, "a change of all that there is");
    }
    for (size_t from = 0; from < n;) {
        size_t len = strcspn(path + from + 1, "/?");
        bool dots = len > 0 && len < 3 && strspn(path + from + 1, ".") >= len;
        bool last = from + 1 + len >= n;
        if (dots || (len == 0 && !last)) {
            m->broken(m->ctx, "a path that may mean another");
        }
        from += 1 + len;
    }
}

static inline void mad_check_text(const struct mad *m, const char *text, const char *why)
{
    for (size_t i = 0; i < MAD_SECRETS_MAX; i++) {
        if (m->secrets[i] && strstr(text, m->secrets[i])) {
            m->broken(m->ctx, why);
        }
    }
}

static inline void mad_check_request(const struct mad *m, const struct driver_action *a)
{
    const struct exchange_request *r = &a->request;
    bool change =
        r->method == METHOD_PUT || r->method == METHOD_PATCH || r->method == METHOD_DELETE;
    mad_check_url(m, r);
    if (a->effect ? r->method == METHOD_GET : change) {
        m->broken(m->ctx, "a change without an effect, or a look with one");
    }
    if (a->effect && m->target->observe) {
        m->broken(m->ctx, "an observation changes something");
    }
    if (a->deletes[0] && r->method != METHOD_DELETE) {
        m->broken(m->ctx, "a delete by another method");
    }
    if (m->asked) {
        m->asked(m->ctx, a);
    }
}

static inline void mad_check_outcome(const struct mad *m, const struct driver_action *a,
                                     const struct exchange_response *r,
                                     const struct driver_outcome *out)
{
    if ((out->effect != EFFECT_NONE) != (a->effect != NULL)) {
        m->broken(m->ctx, "an effect without a change, or a change without an effect");
    }
    if (out->effect == EFFECT_NOT_SENT && r->sent) {
        m->broken(m->ctx, "what was sent is said not to be");
    }
    /* What nobody answered may have happened. */
    if (a->effect && r->sent && r->status == 0 && out->effect != EFFECT_UNKNOWN) {
        m->broken(m->ctx, "an outcome is taken for known that nobody told");
    }
    if (out->record && !out->external_id[0]) {
        m->broken(m->ctx, "nothing is to be recorded as the object's id");
    }
    mad_check_text(m, out->err.msg, "a secret in words");
    if (m->answered) {
        m->answered(m->ctx, a, r, out);
    }
}

static inline void mad_check_end(const struct mad *m, const struct driver_action *a)
{
    if (a->turn == TURN_FAILED && (a->err.class == ERR_NONE || a->err.class == ERR_INTERNAL ||
                                   a->err.class >= ERR_CLASS_MAX || !a->err.msg[0])) {
        m->broken(m->ctx, "failed without a reason, or by its own fault");
    }
    if (a->turn == TURN_FAILED) {
        mad_check_text(m, a->err.msg, "a secret in words");
    }
    mad_check_text(m, a->residue, "a secret in what is left");
}

/* Runs the operation to its end, which *end is; the operation stays the caller's. */
static inline void mad_drive(const struct mad *m, const struct mad_answers *answers,
                             struct driver_op *op, struct driver_action *end)
{
    int requests = 0, waits = 0;
    for (m->class->next(op, end); end->turn == TURN_REQUEST || end->turn == TURN_WAIT;
         m->class->next(op, end)) {
        requests += end->turn == TURN_REQUEST;
        waits += end->turn == TURN_WAIT;
        if (requests > m->requests_max || waits > m->waits_max) {
            m->broken(m->ctx, "unbounded");
            return;
        }
        if (end->turn == TURN_WAIT) {
            if (end->wait_ms <= 0) {
                m->broken(m->ctx, "a wait for nothing");
            }
            if (m->waited) {
                m->waited(m->ctx, end);
            }
            continue;
        }
        struct exchange_response r = {.body = "", .retry_after_ms = -1};
        struct driver_outcome out;
        mad_check_request(m, end);
        answers->give(answers->ctx, end, &r);
        if (r.truncated) { /* the transport dropped it */
            r.body = "";
            r.body_len = 0;
        }
        m->class->feed(op, &r, &out);
        mad_check_outcome(m, end, &r, &out);
        exchange_request_done(&end->request);
    }
    mad_check_end(m, end);
}

/* What an inspection found says nothing secret, and is whole. */
static inline void mad_check_report(const struct mad *m, const struct driver_report *report)
{
    if (report->n > DRIVER_FINDINGS_MAX) {
        m->broken(m->ctx, "more findings than there is room for");
    }
    for (size_t i = 0; i < report->n; i++) {
        const struct driver_finding *f = &report->findings[i];
        if (!f->subject || !f->what[0] || f->level > LEVEL_BAD) {
            m->broken(m->ctx, "a finding that says nothing");
        }
        mad_check_text(m, f->what, "a secret in a finding");
        mad_check_text(m, f->mend, "a secret in a finding");
    }
}

/* ---- what answers showed ---- */

enum { SHOWN_MAX = 1600 };

/* Ids of objects that answers showed to be ours. */
struct shown {
    char ids[SHOWN_MAX][EXTERNAL_ID_MAX + 1];
    size_t n;
};

static inline void shown_add(struct shown *s, const char *id)
{
    if (id && s->n < SHOWN_MAX) {
        str_copy(s->ids[s->n++], sizeof(s->ids[0]), id);
    }
}

static inline bool shown_has(const struct shown *s, const char *id)
{
    bool known = false;
    for (size_t i = 0; i < s->n && !known; i++) {
        known = str_eq(s->ids[i], id);
    }
    return known;
}

/* Adds of an object, or of each in an array, the id that ours() says. */
static inline void shown_add_all(struct shown *s, const cJSON *json, void *ctx,
                                 const char *(*ours)(void *ctx, const cJSON *object))
{
    const cJSON *one = NULL;
    if (cJSON_IsArray(json)) {
        cJSON_ArrayForEach(one, json)
        {
            shown_add(s, ours(ctx, one));
        }
    } else if (cJSON_IsObject(json)) {
        shown_add(s, ours(ctx, json));
    }
}

/* What a success said; NULL where it is no strict JSON. cJSON_Delete(). */
static inline cJSON *mad_tree(const struct exchange_response *r)
{
    static const struct json_limits limits = {.size = 1 << 22, .depth = 64, .string = 1 << 22};
    struct json_fault fault;
    cJSON *json = NULL;
    if (r->status < 200 || r->status > 299 || r->truncated ||
        json_parse(r->body, r->body_len, &limits, &json, &fault)) {
        return NULL;
    }
    return json;
}

#endif
