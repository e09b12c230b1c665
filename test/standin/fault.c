/*
 * Fault rules. A rule counts the requests that it matches; `nth` (with `count`, default 1) makes it
 * due on the n-th of them and the count-1 after it, `every` on all (with `count`, on the first
 * count), `probability` on a share of them, drawn from `seed`. Every rule counts every request; the
 * first due rule wins. `trace` matches a part of the request's traceparent: the calls made for one
 * event.
 */
#include "standin.h"

#include <regex.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/rng.h"
#include "base/str.h"

enum { RULES_MAX = 1000, HEADERS_MAX = 16 };

struct rule {
    int64_t id;
    char *method, *path_prefix, *body_contains, *trace; /* NULL: any */
    regex_t regex;
    bool has_regex;
    int64_t nth, count; /* nth 0: from the first on; count -1: without end */
    double probability; /* 1: always */
    struct rng rng;
    int64_t seen, fired;
    cJSON *source; /* as it was given */
    struct fault *fault;
    struct rule *next;
};

struct faults {
    struct rule *first, **tail;
    size_t n;
    int64_t last_id;
};

static const struct kind {
    const char *name;
    enum fault_outcome outcome;
    bool act, wait_before;
} kinds[] = {
    {"fail_before", FAULT_STATUS, false, false}, {"lose_reply", FAULT_CLOSE, true, false},
    {"drop_before", FAULT_CLOSE, false, false},  {"delay", FAULT_NORMAL, true, true},
    {"delay_reply", FAULT_NORMAL, true, false},  {"status", FAULT_STATUS, false, false},
    {"malformed", FAULT_MALFORMED, true, false}, {"truncate", FAULT_TRUNCATE, true, false},
    {"hang", FAULT_HANG, false, false},
};

struct faults *faults_new(void)
{
    struct faults *f = calloc(1, sizeof(*f));
    if (f)
        f->tail = &f->first;
    return f;
}

void fault_unref(struct fault *f)
{
    if (!f || --f->refs)
        return;
    free(f->body);
    cJSON_Delete(f->headers);
    free(f);
}

static void rule_free(struct rule *r)
{
    if (!r)
        return;
    free(r->method);
    free(r->path_prefix);
    free(r->body_contains);
    free(r->trace);
    if (r->has_regex)
        regfree(&r->regex);
    cJSON_Delete(r->source);
    fault_unref(r->fault);
    free(r);
}

void faults_clear(struct faults *f)
{
    for (struct rule *r = f->first, *next; r; r = next) {
        next = r->next;
        rule_free(r);
    }
    f->first = NULL;
    f->tail = &f->first;
    f->n = 0;
}

void faults_free(struct faults *f)
{
    if (!f)
        return;
    faults_clear(f);
    free(f);
}

/* ---- reading a rule ---- */

static const struct kind *find_kind(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        if (str_eq(kinds[i].name, name))
            return &kinds[i];
    }
    return NULL;
}

static bool headers_ok(const cJSON *headers)
{
    if (!headers)
        return true;
    const cJSON *h;
    cJSON_ArrayForEach(h, headers)
    {
        if (!cJSON_IsString(h) || strpbrk(h->valuestring, "\r\n"))
            return false;
    }
    return cJSON_IsObject(headers) && cJSON_GetArraySize(headers) <= HEADERS_MAX;
}

static bool read_fault(const cJSON *json, struct fault *out, const char **why)
{
    const struct kind *kind = find_kind(json_str(json, "kind"));
    const cJSON *headers = json_get(json, "headers"), *body = json_get(json, "body");
    int64_t ms = 0, status = 500;
    if (!kind)
        *why = "/fault/kind: fail_before, lose_reply, drop_before, delay, delay_reply, status, "
               "malformed, "
               "truncate or hang";
    else if (json_get(json, "ms") && (!json_i64(json, "ms", &ms) || ms < 0 || ms > 3600000))
        *why = "/fault/ms: 0 to 3600000";
    else if (json_get(json, "status") &&
             (!json_i64(json, "status", &status) || status < 200 || status > 599))
        *why = "/fault/status: 200 to 599";
    else if (!headers_ok(headers))
        *why = "/fault/headers: an object of strings";
    if (*why)
        return false;
    out->kind = kind->name;
    out->outcome = kind->outcome;
    out->act = json_bool(json, "act", kind->act);
    out->echo = json_bool(json, "echo", false);
    out->before_ms = kind->wait_before ? ms : 0;
    out->after_ms = kind->wait_before ? 0 : ms;
    out->status = (int)status;
    out->headers = headers ? cJSON_Duplicate(headers, true) : NULL;
    if (cJSON_IsString(body))
        out->body = str_dup(body->valuestring);
    else if (body)
        out->body = json_text(body);
    return true;
}

static bool read_counts(const cJSON *match, struct rule *r, const char **why)
{
    bool every = json_bool(match, "every", false);
    const cJSON *p = json_get(match, "probability");
    int64_t seed = 1;
    r->count = every || p ? -1 : 1;
    if (json_get(match, "nth") && (!json_i64(match, "nth", &r->nth) || r->nth < 1))
        *why = "/match/nth: 1 or more";
    else if (json_get(match, "count") && (!json_i64(match, "count", &r->count) || r->count < 1))
        *why = "/match/count: 1 or more";
    else if (p && (!cJSON_IsNumber(p) || p->valuedouble < 0 || p->valuedouble > 1))
        *why = "/match/probability: 0 to 1";
    if (*why)
        return false;
    json_i64(match, "seed", &seed);
    rng_seed(&r->rng, (uint64_t)seed);
    r->probability = p ? p->valuedouble : 1;
    return true;
}

static bool read_match(const cJSON *match, struct rule *r, const char **why)
{
    const char *method = json_str(match, "method"), *prefix = json_str(match, "path_prefix");
    const char *regex = json_str(match, "path_regex"), *body = json_str(match, "body_contains");
    const char *trace = json_str(match, "trace");
    if (regex) {
        if (regcomp(&r->regex, regex, REG_EXTENDED | REG_NOSUB)) {
            *why = "/match/path_regex: not an extended regular expression";
            return false;
        }
        r->has_regex = true;
    }
    r->method = str_dup(method);
    r->path_prefix = str_dup(prefix);
    r->body_contains = str_dup(body);
    r->trace = str_dup(trace);
    if ((method && !r->method) || (prefix && !r->path_prefix) || (body && !r->body_contains) ||
        (trace && !r->trace)) {
        *why = "out of memory";
        return false;
    }
    return read_counts(match, r, why);
}

static struct rule *read_rule(const cJSON *json, const char **why)
{
    struct rule *r = calloc(1, sizeof(*r));
    struct fault *fault = calloc(1, sizeof(*fault));
    if (!r || !fault) {
        free(r);
        free(fault);
        *why = "out of memory";
        return NULL;
    }
    fault->refs = 1;
    r->fault = fault;
    r->source = cJSON_Duplicate(json, true);
    if (read_match(json_get(json, "match"), r, why) &&
        read_fault(json_get(json, "fault"), fault, why))
        return r;
    rule_free(r);
    return NULL;
}

static bool add_one(struct faults *f, const cJSON *json, cJSON *ids, const char **why)
{
    if (f->n >= RULES_MAX) {
        *why = "too many rules";
        return false;
    }
    struct rule *r = read_rule(json, why);
    if (!r)
        return false;
    r->id = ++f->last_id;
    *f->tail = r;
    f->tail = &r->next;
    f->n++;
    cJSON_AddItemToArray(ids, cJSON_CreateNumber((double)r->id));
    return true;
}

void faults_add(struct faults *f, const cJSON *rules, struct reply *out)
{
    cJSON *answer = cJSON_CreateObject();
    cJSON *ids = cJSON_AddArrayToObject(answer, "ids");
    const char *why = NULL;
    bool ok = true;
    if (cJSON_IsArray(rules)) {
        const cJSON *one;
        cJSON_ArrayForEach(one, rules) ok = ok && add_one(f, one, ids, &why);
    } else {
        ok = add_one(f, rules, ids, &why);
    }
    if (ok) {
        reply_json(out, 201, answer);
        return;
    }
    cJSON_Delete(answer);
    reply_detail(out, 422, "%s", why);
}

/* ---- using them ---- */

static bool matches(const struct rule *r, const char *method, const char *path, const char *body,
                    const char *trace)
{
    return (!r->trace || (trace && strstr(trace, r->trace))) &&
           (!r->method || str_eq(r->method, method)) &&
           (!r->path_prefix || str_starts(path, r->path_prefix)) &&
           (!r->has_regex || regexec(&r->regex, path, 0, NULL, 0) == 0) &&
           (!r->body_contains || strstr(body, r->body_contains));
}

static bool due(struct rule *r)
{
    int64_t first = r->nth ? r->nth : 1;
    if (r->seen < first || (r->count >= 0 && r->fired >= r->count))
        return false;
    if (r->probability >= 1)
        return true;
    return (double)rng_below(&r->rng, 1U << 30) < r->probability * (double)(1U << 30);
}

struct fault *faults_pick(struct faults *f, const char *method, const char *path, const char *body,
                          const char *trace)
{
    struct rule *hit = NULL;
    for (struct rule *r = f->first; r; r = r->next) {
        if (!matches(r, method, path, body, trace))
            continue;
        r->seen++;
        if (!hit && due(r))
            hit = r;
    }
    if (!hit)
        return NULL;
    hit->fired++;
    hit->fault->refs++;
    return hit->fault;
}

void faults_list(const struct faults *f, struct reply *out)
{
    cJSON *answer = cJSON_CreateObject();
    cJSON *rules = cJSON_AddArrayToObject(answer, "rules");
    for (const struct rule *r = f->first; r; r = r->next) {
        cJSON *one = cJSON_Duplicate(r->source, true);
        cJSON_AddNumberToObject(one, "id", (double)r->id);
        cJSON_AddNumberToObject(one, "seen", (double)r->seen);
        cJSON_AddNumberToObject(one, "fired", (double)r->fired);
        cJSON_AddItemToArray(rules, one);
    }
    reply_json(out, 200, answer);
}
