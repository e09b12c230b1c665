/*
 * A shell around the native Langflow driver, a stand-in server before it, and a clock that both go
 * by: what is journalled and recorded here is what the worker would have. Faults hit one request.
 */
#ifndef TEST_LANGFLOW_WORLD_H
#define TEST_LANGFLOW_WORLD_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/rng.h"
#include "base/str.h"
#include "driver/driver.h"
#include "langflow/langflow.h"
#include "naming/naming.h"
#include "product_sim.h"

#define WORLD_SUBSCRIPTION "2f1c9a52-6a0e-4c55-8f1e-5d2f0c9b7a01"
#define WORLD_NAME         "acme-corp-website-support-csa-001"
#define WORLD_MARKER       "waldur-subscription:" WORLD_SUBSCRIPTION
#define WORLD_OTHER        "waldur-subscription:99999999-6a0e-4c55-8f1e-5d2f0c9b7a99"
#define WORLD_PROOF        "0123456789abcdef0123456789abcdef"
#define WORLD_FLOW         "customer-support-agent-v1"
#define WORLD_COLLECTION   "ragflow-secret-of-this-subscription"
#define WORLD_DATA         "{\"nodes\":[{\"id\":\"n1\",\"data\":{\"type\":\"ChatInput\"}}],\"edges\":[]}"

enum { WORLD_TURNS_MAX = 400, WORLD_TRACE_MAX = 32768, WORLD_LATE_MAX = 8 };

enum blow {
    BLOW_NONE,
    BLOW_CRASH_BEFORE, /* intended, never sent, and the process is gone */
    BLOW_CRASH_AFTER,  /* acted, and the process is gone */
    BLOW_NOT_SENT,
    BLOW_LOST_BEFORE, /* sent, did not act, no answer */
    BLOW_LOST_AFTER,  /* acted, no answer */
    BLOW_500_BEFORE,
    BLOW_500_AFTER,
    BLOW_503_BEFORE, /* with Retry-After */
    BLOW_PAGE,       /* 200 text/html, nothing done */
    BLOW_PAGE_AFTER, /* acted */
    BLOW_CUT,        /* acted, the body over the cap */
    BLOW_GARBLED,    /* acted, the body is not JSON */
    BLOW_EMPTY,      /* acted, the body is {} */
    BLOW_403,        /* not acted */
    BLOW_MAX,
    BLOW_LATE /* acts at the next wait, no answer */
};

struct world;
typedef void world_meddle(struct world *w, const struct exchange_request *r,
                          struct exchange_response *out);

struct world {
    struct product_sim product;
    struct driver_site *site;
    struct driver_target target;
    char flow_uuid[UUID_TEXT];
    char password[40];
    unsigned passwords;
    cJSON *variables;
    /* what the worker has recorded */
    char external_id[EXTERNAL_ID_MAX + 1];
    char secret[DRIVER_SECRET_MAX + 1];
    char deleting[UUID_TEXT];
    bool open;
    /* the run that was last */
    int requests, waits, changes, logins;
    int turns_max; /* 0: WORLD_TURNS_MAX */
    int blamed;    /* answers that tell of a server that lets nobody in */
    int64_t waited_ms;
    char trace[WORLD_TRACE_MAX];
    size_t trace_len;
    struct driver_action last;
    struct driver_outcome outcome; /* of the last request */
    bool crashed, struck;
    /* the blow to come: at which request, counted from 0 */
    enum blow blow;
    int at;
    /* or at any, by chance */
    struct rng *rng;
    unsigned trouble; /* in a hundred */
    struct world_late {
        struct exchange_request request;
        char credential[512];
    } late[WORLD_LATE_MAX];
    size_t n_late;
    world_meddle *meddle; /* may change what is answered; NULL */
    void *meddle_ctx;
    uint64_t seed;
    cJSON *foreign; /* what must stay as it is: the planted stranger */
    char stranger_id[UUID_TEXT], superuser_id[UUID_TEXT];
    int superuser_flows; /* templates */
};

static int64_t world_now_ms = 1000;

int64_t __wrap_clock_mono_ms(void);
int64_t __wrap_clock_mono_ms(void)
{
    return world_now_ms;
}

static inline const struct driver_class *world_class(void)
{
    const struct driver_class *class = langflow_driver("langflow");
    assert_non_null(class);
    return class;
}

#define WORLD_FAIL(w, ...)                                                                         \
    do {                                                                                           \
        print_error("trace: %s\n", (w)->trace);                                                    \
        fail_msg(__VA_ARGS__);                                                                     \
    } while (0)

/* ---- what is there ---- */

static inline cJSON *world_user_by(struct world *w, const char *member, const char *value)
{
    cJSON *users = product_objects(&w->product), *user = NULL, *found = NULL;
    cJSON_ArrayForEach(user, users)
    {
        if (str_eq(json_str(user, member), value)) {
            found = user;
        }
    }
    found = found ? cJSON_Duplicate(found, true) : NULL;
    cJSON_Delete(users);
    return found;
}

/* cJSON_Delete() it; NULL where there is none. */
static inline cJSON *world_ours(struct world *w)
{
    return world_user_by(w, "object.optins.waldur_subscription", WORLD_MARKER);
}

static inline size_t world_count(struct world *w)
{
    cJSON *users = product_objects(&w->product), *user = NULL;
    size_t n = 0;
    cJSON_ArrayForEach(user, users)
    {
        n += !json_bool(user, "planted", false);
    }
    cJSON_Delete(users);
    return n;
}

static inline void world_settings(struct world *w, const char *json)
{
    cJSON_Delete(product_admin(&w->product, "POST", "/settings", json));
}

static inline void world_plant(struct world *w, const char *json, char id[UUID_TEXT])
{
    cJSON *answer = product_admin(&w->product, "POST", "/objects", json);
    const cJSON *ids = json_get(answer, "ids");
    if (id) {
        str_copy(id, UUID_TEXT, cJSON_GetStringValue(cJSON_GetArrayItem(ids, 0)));
    }
    cJSON_Delete(answer);
}

static inline void world_plant_file(struct world *w, const char *folder, const char *name)
{
    char *text = NULL;
    cJSON *wanted = cJSON_CreateObject();
    cJSON_AddStringToObject(wanted, "kind", "file");
    cJSON_AddStringToObject(wanted, "folder", folder);
    cJSON_AddStringToObject(wanted, "name", name);
    text = json_text(wanted);
    world_plant(w, text, NULL);
    free(text);
    cJSON_Delete(wanted);
}

/* One call as somebody: `key` in x-api-key. The answer's tree, NULL where it is none. */
static inline cJSON *world_call(struct world *w, enum exchange_method method, const char *path,
                                const char *key, const char *body, int *status)
{
    struct exchange_request r;
    exchange_request_init(&r);
    r.method = method;
    snprintf(r.url, sizeof(r.url), "%s/api/v1%s", PRODUCT_URL, path);
    r.auth_header = key ? "x-api-key" : NULL;
    r.credential = key;
    if (body) {
        r.content_type = "application/json";
        buf_adds(&r.body, body);
    }
    struct exchange_response out = product_ask(&w->product, &r);
    exchange_request_done(&r);
    if (status) {
        *status = out.status;
    }
    return cJSON_Parse(out.body);
}

static inline void world_do(struct world *w, enum exchange_method method, const char *path,
                            const char *key, const char *body)
{
    int status = 0;
    cJSON_Delete(world_call(w, method, path, key, body, &status));
    if (status < 200 || status > 299) {
        WORLD_FAIL(w, "%s: HTTP %d", path, status);
    }
}

/* The stranger as it is now is what it has to be from now on. */
static inline void world_know_stranger(struct world *w)
{
    cJSON_Delete(w->foreign);
    w->foreign = world_user_by(w, "object.id", w->stranger_id);
}

/* Strangers are left alone; last_login and the like are not touched either. */
static inline void world_check_strangers(struct world *w)
{
    cJSON *now = world_user_by(w, "object.id", w->stranger_id);
    if (!now || !cJSON_Compare(now, w->foreign, true)) {
        WORLD_FAIL(w, "the stranger was touched");
    }
    cJSON_Delete(now);
    cJSON *super = world_user_by(w, "object.id", w->superuser_id);
    int flows = cJSON_GetArraySize(json_get(super, "flows"));
    /* A sweep that was cut off leaves its flow there until the next run. */
    bool cut_off = w->crashed || w->last.turn == TURN_FAILED;
    if (flows < w->superuser_flows || flows > w->superuser_flows + cut_off ||
        cJSON_GetArraySize(json_get(super, "keys")) != 1) {
        WORLD_FAIL(w, "something was left in the superuser's account");
    }
    cJSON_Delete(super);
}

/* ---- beginning and end ---- */

static inline void world_plant_template(struct world *w)
{
    char text[1024];
    cJSON *super = world_user_by(w, "object.username", "langflow-admin");
    str_copy(w->superuser_id, sizeof(w->superuser_id), json_str(super, "object.id"));
    cJSON_Delete(super);
    snprintf(text, sizeof(text),
             "{\"kind\":\"flow\",\"user_id\":\"%s\",\"name\":\"Support Agent\",\"endpoint_name\":"
             "\"" WORLD_FLOW "\",\"access_type\":\"PUBLIC\",\"mcp_enabled\":true,"
             "\"description\":\"d\\u00e9j\\u00e0\","
             "\"data\":" WORLD_DATA "}",
             w->superuser_id);
    world_plant(w, text, NULL);
}

/* What the driver is given. */
static inline void world_aim(struct world *w)
{
    struct err err;
    w->site = world_class()->site_new(&err);
    assert_non_null(w->site);
    w->variables = cJSON_Parse("{\"agent_name\":\"Support Assistant\",\"tone\":\"calm\","
                               "\"limit\":3,\"ragflow_collection_id\":\"c-1\","
                               "\"ragflow_url\":\"http://ragflow.example\",\"nothing\":null,"
                               "\"blank\":\"\"}");
    naming_flow_uuid(WORLD_SUBSCRIPTION, w->flow_uuid);
    w->target = (struct driver_target){.url = PRODUCT_URL,
                                       .credential = PRODUCT_TOKEN,
                                       .timeout_ms = 30000,
                                       .site = w->site,
                                       .subscription = WORLD_SUBSCRIPTION,
                                       .name = WORLD_NAME,
                                       .marker = WORLD_MARKER,
                                       .proof = WORLD_PROOF,
                                       .settle_ms = 2000,
                                       .flow_id = WORLD_FLOW,
                                       .flow_uuid = w->flow_uuid,
                                       .variables = w->variables};
}

static inline void world_begin(struct world *w, const char *profile)
{
    memset(w, 0, sizeof(*w));
    product_begin(&w->product, "langflow", profile);
    world_settings(w, str_eq(profile, "1.13") ? "{\"login_limit\":0,\"erase_ms\":3000}"
                                              : "{\"login_limit\":0}");
    world_plant_template(w);
    world_plant(w,
                "{\"username\":\"acme-corp-website-support-csa-0012\",\"optins\":{"
                "\"waldur_subscription\":\"" WORLD_OTHER "\"},\"keys\":[\"sk-stranger\"],"
                "\"flows\":[{\"name\":\"theirs\",\"access_type\":\"PUBLIC\"}],"
                "\"variables\":[{\"name\":\"tone\",\"type\":\"Generic\",\"value\":\"loud\"}]}",
                w->stranger_id);
    world_know_stranger(w);
    w->superuser_flows = 1;
    world_aim(w);
}

static inline void world_end(struct world *w)
{
    for (size_t i = 0; i < w->n_late; i++) {
        exchange_request_done(&w->late[i].request);
    }
    cJSON_Delete(w->foreign);
    cJSON_Delete(w->variables);
    driver_site_unref(w->site);
    product_end(&w->product);
}

/* ---- one run ---- */

static inline void world_say(struct world *w, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

static inline void world_say(struct world *w, const char *fmt, ...)
{
    va_list ap;
    size_t room = sizeof(w->trace) - w->trace_len;
    va_start(ap, fmt);
    int n = vsnprintf(w->trace + w->trace_len, room, fmt, ap);
    va_end(ap);
    w->trace_len += n > 0 && (size_t)n < room ? (size_t)n : 0;
}

/* Nothing secret in words that end up in logs and tables. */
static inline void world_check_words(struct world *w, const struct err *e)
{
    const char *const secrets[] = {w->password, w->secret, WORLD_COLLECTION, WORLD_PROOF,
                                   "eyJhbGci"};
    for (size_t i = 0; i < ARRAY_LEN(secrets); i++) {
        if (secrets[i][0] && strstr(e->msg, secrets[i])) {
            WORLD_FAIL(w, "a secret in an error: %s", e->msg);
        }
    }
}

static inline void world_check_request(struct world *w, const struct driver_action *a)
{
    const struct exchange_request *r = &a->request;
    const char *path = r->url + strlen(PRODUCT_URL);
    bool login = str_starts(path, "/api/v1/login");
    bool look = r->method == METHOD_GET || login;
    if (look != !a->effect) {
        WORLD_FAIL(w, "%s: a change without an effect, or a look with one", path);
    }
    if (a->effect && (w->target.observe || r->fresh_connection != (r->method == METHOD_POST))) {
        WORLD_FAIL(w, "%s: a change where none may be, or on a used connection", path);
    }
    bool user = w->stranger_id[0] && strstr(path, w->stranger_id);
    bool admin = w->superuser_id[0] && strstr(path, w->superuser_id);
    if (user || admin) {
        WORLD_FAIL(w, "a request about a stranger: %s", path);
    }
    /* Servers take a comma in a query for two values. */
    assert_null(strstr(r->url, "%2C"));
    /* What is the tenants' is never asked for as the superuser, but for templates and residue. */
    bool platforms = str_starts(path, "/api/v1/users/") && !strstr(path, "whoami");
    bool template = r->method == METHOD_GET && str_starts(path, "/api/v1/flows/");
    bool residue = a->effect && str_starts(a->effect, "residue.") && strstr(path, w->flow_uuid);
    if (str_eq(r->credential, PRODUCT_TOKEN) && !platforms && !template && !residue) {
        WORLD_FAIL(w, "as the superuser: %s", path);
    }
    if (strstr(r->url, PRODUCT_TOKEN) || (w->password[0] && strstr(r->url, w->password)) ||
        (w->secret[0] && strstr(r->url, w->secret))) {
        WORLD_FAIL(w, "a secret in a URL");
    }
    if (r->auth_header) {
        bool bearer = str_eq(r->auth_header, "Authorization");
        assert_string_equal(r->auth_scheme, bearer ? "Bearer " : "");
        assert_true(bearer || str_eq(r->auth_header, "x-api-key"));
    } else {
        assert_true(login || str_starts(path, "/api/v1/version"));
    }
}

/* What was under way lands. */
static inline void world_land(struct world *w)
{
    for (size_t i = 0; i < w->n_late; i++) {
        struct exchange_request *r = &w->late[i].request;
        r->credential = r->credential ? w->late[i].credential : NULL;
        struct exchange_response out = product_ask(&w->product, r);
        world_say(w, "(late %s %d) ", exchange_method_name(r->method), out.status);
        exchange_request_done(r);
    }
    w->n_late = 0;
}

static inline void world_keep_late(struct world *w, const struct exchange_request *r)
{
    if (w->n_late == WORLD_LATE_MAX) {
        return;
    }
    struct world_late *late = &w->late[w->n_late++];
    late->request = *r;
    str_copy(late->credential, sizeof(late->credential), r->credential ? r->credential : "");
    buf_init(&late->request.body, EXCHANGE_REQUEST_MAX);
    buf_add(&late->request.body, buf_str(&r->body), r->body.len);
}

static inline enum blow world_draw(struct world *w, const struct driver_action *a)
{
    if (!w->rng || rng_below(w->rng, 100) >= w->trouble) {
        return w->blow != BLOW_NONE && w->requests == w->at ? w->blow : BLOW_NONE;
    }
    enum blow blow = (enum blow)(1 + rng_below(w->rng, BLOW_LATE));
    blow = blow == BLOW_MAX || (blow == BLOW_LATE && !a->effect) ? BLOW_LOST_BEFORE : blow;
    if (blow == BLOW_LATE) {
        world_keep_late(w, &a->request);
    }
    return blow;
}

static inline struct exchange_response world_answer(struct world *w, const struct driver_action *a,
                                                    enum blow blow)
{
    static const char page[] = "<!doctype html><html></html>";
    bool struck = blow != BLOW_NONE;
    bool acts = blow == BLOW_NONE || blow == BLOW_CRASH_AFTER || blow == BLOW_LOST_AFTER ||
                blow == BLOW_500_AFTER || blow == BLOW_PAGE_AFTER || blow == BLOW_CUT ||
                blow == BLOW_GARBLED || blow == BLOW_EMPTY;
    struct exchange_response r = {.sent = blow != BLOW_NOT_SENT, .body = "", .retry_after_ms = -1};
    w->struck = w->struck || struck;
    if (acts) {
        r = product_ask(&w->product, &a->request);
    }
    switch (blow) {
    case BLOW_NOT_SENT:
    case BLOW_LOST_BEFORE:
    case BLOW_LOST_AFTER:
    case BLOW_LATE:
        r.status = 0;
        r.body = "";
        str_copy(r.failure, sizeof(r.failure), "connection reset");
        break;
    case BLOW_500_BEFORE:
    case BLOW_500_AFTER:
        r.status = 500;
        r.body = "{\"detail\":\"database is locked\"}";
        break;
    case BLOW_503_BEFORE:
        r.status = 503;
        r.retry_after_ms = 1000;
        r.body = "{\"detail\":\"busy\"}";
        break;
    case BLOW_PAGE:
    case BLOW_PAGE_AFTER:
        r.status = 200;
        r.body = page;
        str_copy(r.content_type, sizeof(r.content_type), "text/html");
        break;
    case BLOW_CUT:
        r.truncated = true;
        r.body = "";
        break;
    case BLOW_GARBLED:
        r.body = "{\"id\":\"";
        break;
    case BLOW_EMPTY:
        r.body = "{}";
        break;
    case BLOW_403:
        r.status = 403;
        r.body = "{\"detail\":\"API key authentication failed\"}";
        break;
    case BLOW_NONE:
    case BLOW_CRASH_BEFORE:
    case BLOW_CRASH_AFTER:
    case BLOW_MAX:
        break;
    }
    r.body_len = strlen(r.body);
    if (w->meddle) {
        w->meddle(w, &a->request, &r);
    }
    w->crashed = blow == BLOW_CRASH_AFTER;
    return r;
}

static inline void world_journal(struct world *w, const struct driver_action *a)
{
    const struct driver_outcome *out = &w->outcome;
    bool deletes = str_eq(a->effect, "workspace.delete");
    if (a->effect && out->effect == EFFECT_NONE) {
        WORLD_FAIL(w, "nothing is said of a change");
    }
    if (!a->effect) {
        assert_int_equal(out->effect, EFFECT_NONE);
        assert_string_equal(out->secret, "");
    }
    if (deletes) {
        str_copy(w->deleting, sizeof(w->deleting),
                 w->crashed || out->effect == EFFECT_UNKNOWN ? a->deletes : "");
    }
    w->open = w->open || (a->effect && (w->crashed || out->effect == EFFECT_UNKNOWN));
    if (out->record) {
        assert_string_not_equal(out->external_id, "");
        str_copy(w->external_id, sizeof(w->external_id), out->external_id);
    }
    if (out->secret[0]) {
        str_copy(w->secret, sizeof(w->secret), out->secret);
    }
}

static inline void world_ask(struct world *w, struct driver_op *op, const struct driver_action *a)
{
    const char *path = a->request.url + strlen(PRODUCT_URL);
    world_check_request(w, a);
    memset(&w->outcome, 0, sizeof(w->outcome));
    enum blow blow = world_draw(w, a);
    if (blow == BLOW_CRASH_BEFORE) {
        w->crashed = w->struck = true;
        w->outcome.effect = a->effect ? EFFECT_UNKNOWN : EFFECT_NONE;
        world_journal(w, a);
        return;
    }
    world_now_ms++;
    struct exchange_response r = world_answer(w, a, blow);
    w->requests++;
    w->changes += a->effect != NULL;
    w->logins += str_starts(path, "/api/v1/login");
    w->site->now_ms = world_now_ms;
    if (!w->crashed) {
        world_class()->feed(op, &r, &w->outcome);
    } else {
        w->outcome.effect = a->effect ? EFFECT_UNKNOWN : EFFECT_NONE;
    }
    w->blamed += (r.status == 401 || r.status == 403) && w->outcome.health != HEALTH_GOOD;
    world_say(w, "%s %.120s %s%d\n", exchange_method_name(a->request.method), path,
              w->crashed ? "crash " : "", r.status);
    world_check_words(w, &w->outcome.err);
    world_journal(w, a);
}

static inline void world_prepare(struct world *w)
{
    w->requests = w->waits = w->changes = w->logins = w->blamed = 0;
    w->waited_ms = 0;
    w->trace_len = 0;
    w->trace[0] = '\0';
    w->crashed = w->struck = false;
    snprintf(w->password, sizeof(w->password), "Pass-%06u-word", ++w->passwords);
    w->target.password = w->password;
    w->target.external_id = w->external_id[0] ? w->external_id : NULL;
    w->target.secret = w->secret[0] ? w->secret : NULL;
    w->target.deleting = w->deleting[0] ? w->deleting : NULL;
    w->target.uncertain = w->open;
}

static inline void world_drive(struct world *w, struct driver_op *op)
{
    for (int turns = 0;; turns++) {
        if (turns > (w->turns_max ? w->turns_max : WORLD_TURNS_MAX)) {
            WORLD_FAIL(w, "endless");
        }
        w->site->now_ms = world_now_ms;
        world_class()->next(op, &w->last);
        if (w->last.turn == TURN_WAIT) {
            assert_true(w->last.wait_ms > 0);
            w->waits++;
            w->waited_ms += w->last.wait_ms;
            world_now_ms += w->last.wait_ms;
            world_say(w, "wait %d\n", (int)w->last.wait_ms);
            world_land(w);
            continue;
        }
        if (w->last.turn != TURN_REQUEST) {
            return;
        }
        world_ask(w, op, &w->last);
        exchange_request_done(&w->last.request);
        if (w->crashed) {
            return;
        }
    }
}

/* True when it is done; recorded then as the worker would. */
static inline bool world_run(struct world *w, enum driver_goal goal)
{
    struct err err;
    char external_id[EXTERNAL_ID_MAX + 1], secret[DRIVER_SECRET_MAX + 1], deleting[UUID_TEXT];
    world_prepare(w);
    /* What is recorded meanwhile does not change what the operation was started with. */
    str_copy(external_id, sizeof(external_id), w->external_id);
    str_copy(secret, sizeof(secret), w->secret);
    str_copy(deleting, sizeof(deleting), w->deleting);
    w->target.external_id = external_id[0] ? external_id : NULL;
    w->target.secret = secret[0] ? secret : NULL;
    w->target.deleting = deleting[0] ? deleting : NULL;
    memset(&w->last, 0, sizeof(w->last));
    struct driver_op *op = world_class()->start(goal, &w->target, &err);
    if (!op) {
        w->last.turn = TURN_FAILED;
        w->last.err = err;
        return false;
    }
    world_drive(w, op);
    world_class()->free(op);
    world_now_ms += 30; /* what was answered is committed by then */
    w->target.external_id = w->target.secret = w->target.deleting = NULL;
    world_check_strangers(w);
    if (w->crashed) {
        return false;
    }
    if (w->last.turn == TURN_FAILED) {
        world_check_words(w, &w->last.err);
        assert_int_not_equal(w->last.err.class, ERR_NONE);
        assert_string_not_equal(w->last.err.msg, "");
        return false;
    }
    if (!w->target.observe) {
        str_copy(w->external_id, sizeof(w->external_id), w->last.external_id);
        str_copy(w->secret, sizeof(w->secret), w->last.secret);
        w->deleting[0] = '\0';
        w->open = false;
    }
    return true;
}

static inline void world_must(struct world *w, enum driver_goal goal)
{
    if (!world_run(w, goal)) {
        WORLD_FAIL(w, "not done: %s", w->last.err.msg);
    }
}

/* ---- the promise ---- */

static inline const cJSON *world_variable(const cJSON *user, const char *name, size_t *n)
{
    const cJSON *v = NULL, *found = NULL;
    *n = 0;
    cJSON_ArrayForEach(v, json_get(user, "variables"))
    {
        if (str_eq(json_str(v, "name"), name)) {
            found = v;
            ++*n;
        }
    }
    return found;
}

static inline void world_check_variable(struct world *w, const cJSON *user, const char *name,
                                        const char *value, const char *type)
{
    size_t n = 0;
    const cJSON *v = world_variable(user, name, &n);
    if (n != (value ? 1 : 0)) {
        WORLD_FAIL(w, "%zu variables called %s", n, name);
    }
    if (value && (!str_eq(json_str(v, "value"), value) || !str_eq(json_str(v, "type"), type))) {
        WORLD_FAIL(w, "variable %s is %s", name, json_str(v, "value"));
    }
}

static inline void world_check_recorded(struct world *w, const cJSON *user)
{
    if (!str_eq(json_str(user, "object.id"), w->external_id)) {
        WORLD_FAIL(w, "recorded is another id: %s", w->external_id);
    }
    assert_string_equal(w->last.flow_id, w->flow_uuid);
}

static inline void world_check_present(struct world *w)
{
    cJSON *user = world_ours(w);
    if (!user || world_count(w) != 1) {
        WORLD_FAIL(w, "%zu users", world_count(w));
    }
    world_check_recorded(w, user);
    const cJSON *flows = json_get(user, "flows"), *keys = json_get(user, "keys");
    const cJSON *flow = cJSON_GetArrayItem(flows, 0), *key = cJSON_GetArrayItem(keys, 0);
    if (!json_bool(user, "object.is_active", false) ||
        json_get(user, "object.optins.waldur_status")) {
        WORLD_FAIL(w, "the user is not open");
    }
    if (!str_eq(json_str(user, "object.optins.waldur_proof"), w->target.proof)) {
        WORLD_FAIL(w, "the user bears no proof");
    }
    if (cJSON_GetArraySize(keys) != 1 || !str_eq(json_str(key, "api_key"), w->secret)) {
        WORLD_FAIL(w, "%d keys, or another than is recorded", cJSON_GetArraySize(keys));
    }
    if (cJSON_GetArraySize(flows) != 1 || !str_eq(json_str(flow, "id"), w->flow_uuid)) {
        WORLD_FAIL(w, "%d flows, or another", cJSON_GetArraySize(flows));
    }
    cJSON *data = cJSON_Parse(WORLD_DATA);
    if (!cJSON_Compare(data, json_get(flow, "data"), true)) {
        WORLD_FAIL(w, "the flow is not the template");
    }
    cJSON_Delete(data);
    assert_string_equal(json_str(flow, "name"), "Support Agent");
    assert_string_equal(json_str(flow, "access_type"), "PRIVATE");
    assert_false(json_bool(flow, "mcp_enabled", true));
    world_check_variable(w, user, "agent_name", "Support Assistant", "Generic");
    world_check_variable(w, user, "tone", "calm", "Generic");
    world_check_variable(w, user, "limit", "3", "Generic");
    world_check_variable(w, user, "ragflow_collection_id", "c-1", "Generic");
    world_check_variable(w, user, "ragflow_api_key", w->target.collection_key, "Credential");
    world_check_variable(w, user, "nothing", NULL, NULL);
    world_check_variable(w, user, "blank", NULL, NULL);
    cJSON_Delete(user);
}

static inline void world_check_closed(struct world *w)
{
    cJSON *user = world_ours(w);
    const cJSON *flow = NULL;
    if (!user) {
        assert_string_equal(w->external_id, "");
        assert_int_equal(world_count(w), 0);
        return;
    }
    assert_int_equal(world_count(w), 1);
    world_check_recorded(w, user);
    if (json_bool(user, "object.is_active", true) ||
        !str_eq(json_str(user, "object.optins.waldur_status"), "closed")) {
        WORLD_FAIL(w, "the user is not closed");
    }
    if (!str_eq(json_str(user, "object.optins.waldur_proof"), w->target.proof)) {
        WORLD_FAIL(w, "the user bears no proof");
    }
    if (cJSON_GetArraySize(json_get(user, "keys")) != 0) {
        WORLD_FAIL(w, "keys are left");
    }
    cJSON_ArrayForEach(flow, json_get(user, "flows"))
    {
        assert_string_equal(json_str(flow, "access_type"), "PRIVATE");
        if (json_bool(flow, "mcp_enabled", false)) {
            WORLD_FAIL(w, "the project's MCP server has a flow");
        }
    }
    world_check_variable(w, user, "ragflow_collection_id", NULL, NULL);
    world_check_variable(w, user, "ragflow_api_key", NULL, NULL);
    assert_string_equal(w->last.secret, "");
    cJSON_Delete(user);
}

static inline void world_check_absent(struct world *w)
{
    assert_string_equal(w->last.external_id, "");
    assert_string_equal(w->last.secret, "");
    if (world_count(w) != 0) {
        WORLD_FAIL(w, "%zu users are left", world_count(w));
    }
    cJSON *all = product_admin(&w->product, "GET", "/objects", NULL);
    if (cJSON_GetArraySize(json_get(all, "orphans")) != 0) {
        WORLD_FAIL(w, "messages are left");
    }
    if (cJSON_GetArraySize(json_get(all, "stray_files")) != 0) {
        WORLD_FAIL(w, "files are left");
    }
    cJSON_Delete(all);
}

/* Once everything that was under way has landed. */
static inline void world_check(struct world *w, enum driver_goal goal)
{
    world_now_ms += 10000;
    if (goal == DRIVER_PRESENT) {
        world_check_present(w);
    } else if (goal == DRIVER_CLOSED) {
        world_check_closed(w);
    } else {
        world_check_absent(w);
    }
}

#endif
