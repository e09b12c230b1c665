/*
 * The worker around the RAGFlow driver, inside a test: it performs requests on the product that the
 * stand-in plays, records what the driver says must be recorded, keeps a journal of open changes,
 * and can be cut off or lied to at any request. Every request that changes something is held
 * against what is there: it may reach what is ours alone.
 */
#ifndef TEST_RAGFLOW_SIM_H
#define TEST_RAGFLOW_SIM_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/str.h"
#include "driver/driver.h"
#include "product_sim.h"
#include "ragflow/ragflow.h"

#define SIM_NAME       "acme-corp-website-support-csa-001"
#define SIM_MARKER     "waldur-subscription:2f1c9a52-6a0e-4c55-8f1e-5d2f0c9b7a01"
#define SIM_OTHER      "waldur-subscription:99999999-6a0e-4c55-8f1e-5d2f0c9b7a99"
#define SIM_EMAIL      "w-2f1c9a526a0e4c558f1e5d2f0c9b7a01@provisioner.invalid"
#define SIM_MODEL      "text-embedding-3-small@OpenAI"
#define SIM_MODELS_KEY "ragflow-models-key-000000000000000000000000"

enum { SIM_TURNS_MAX = 400, SIM_LOG = 16384, SIM_TIMEOUT_MS = 30000 };

enum cut {
    CUT_NONE,
    CUT_BEFORE,     /* the process ends: intended, never sent */
    CUT_AFTER,      /* the process ends: acted, the answer never seen */
    CUT_NOT_SENT,   /* nothing left */
    CUT_LOST,       /* acted, no answer */
    CUT_SWALLOWED,  /* sent, did not act, no answer */
    CUT_500,        /* acted */
    CUT_HTML,       /* 502 of a proxy; did not act */
    CUT_TRUNCATED,  /* acted */
    CUT_MALFORMED,  /* acted */
    CUT_CODE_100,   /* did not act */
    CUT_LATE,       /* acts at the next wait, or when nobody waits any more; no answer */
    CUT_LATE_DEATH, /* the same, and the process ends */
    CUT_KINDS
};

struct sim {
    struct product_sim p;
    uint64_t seed; /* of the run, for its report */
    struct driver_site *site;
    struct driver_target t;
    struct driver_settings s;
    bool go;
    char wire[345]; /* a password as RAGFlow wants it */
    /* the records */
    char id[EXTERNAL_ID_MAX + 1], tenant[EXTERNAL_ID_MAX + 1], secret[DRIVER_SECRET_MAX + 1];
    /* the journal: changes let out and not settled */
    bool open, open_update;
    char open_delete[EXTERNAL_ID_MAX + 1];
    /* the fault to come */
    enum cut cut;
    int cut_at; /* the request, from 1 */
    /* NULL, or the body that request is answered with, having acted: @ID and @TENANT in it are what
     * has been recorded. */
    const char *lie;
    char lie_text[4096];
    struct exchange_request late; /* what has not landed yet */
    bool is_late;
    char late_secret[DRIVER_SECRET_MAX + 1], late_credential[DRIVER_SECRET_MAX + 1];
    /* what happened */
    int requests, changes, logins;
    int blamed; /* answers that are said to tell of the server, and nothing good */
    int64_t waited_ms;
    bool dead;
    bool forgets; /* the process ends before it records what the operation ended with */
    struct driver_outcome last; /* of the last answer */
    struct driver_action end;
    char log[SIM_LOG];
};

static inline const struct driver_class *sim_class(void)
{
    return ragflow_driver("ragflow");
}

static inline void sim_new_site(struct sim *w)
{
    struct err err;
    driver_site_unref(w->site);
    w->site = sim_class()->site_new(&err);
    w->t.site = w->site;
}

/* What an operation is told; the site comes with sim_new_site. */
static inline void sim_target(struct sim *w, enum driver_tenancy tenancy)
{
    memset(w->wire, 'A', 342);
    memcpy(w->wire + 342, "==", 3);
    w->s = (struct driver_settings){.tenancy = tenancy,
                                    .admin_url = PRODUCT_URL "-admin",
                                    .admin_email = "admin@ragflow.io",
                                    .admin_password_wire = w->wire};
    w->t = (struct driver_target){.url = PRODUCT_URL,
                                  .credential = PRODUCT_TOKEN,
                                  .timeout_ms = SIM_TIMEOUT_MS,
                                  .settings = &w->s,
                                  .subscription = "2f1c9a52-6a0e-4c55-8f1e-5d2f0c9b7a01",
                                  .name = SIM_NAME,
                                  .marker = SIM_MARKER,
                                  .settle_ms = 10,
                                  .password = "random-password-of-the-operation",
                                  .password_wire = w->wire,
                                  .tenant_email = SIM_EMAIL,
                                  .embedding_model = SIM_MODEL,
                                  .chunk_size = 512,
                                  .chunk_overlap = 50};
}

static inline void sim_begin(struct sim *w, const char *profile, enum driver_tenancy tenancy)
{
    memset(w, 0, sizeof(*w));
    product_begin(&w->p, "ragflow", profile);
    w->go = str_eq(profile, "0.27-go");
    sim_target(w, tenancy);
    cJSON_Delete(product_admin(&w->p, "POST", "/models", "{\"model\":\"" SIM_MODEL "\"}"));
    if (tenancy != TENANCY_SHARED) {
        cJSON_Delete(product_admin(&w->p, "POST", "/tenants",
                                   "{\"email\":\"models@example.com\",\"key\":\"" SIM_MODELS_KEY
                                   "\"}"));
        cJSON_Delete(product_admin(&w->p, "POST", "/models",
                                   "{\"model\":\"" SIM_MODEL
                                   "\",\"tenant\":\"models@example.com\"}"));
        w->s.models_key = SIM_MODELS_KEY;
    }
    sim_new_site(w);
}

static inline void sim_end(struct sim *w)
{
    driver_site_unref(w->site);
    if (w->is_late) {
        exchange_request_done(&w->late);
    }
    product_end(&w->p);
}

#define SIM_BROKEN(w, ...)                                                                         \
    do {                                                                                           \
        print_error("%s\nPROPERTY_SEED=%llu\n", (w)->log, (unsigned long long)(w)->seed);          \
        fail_msg(__VA_ARGS__);                                                                     \
    } while (0)

static inline void sim_say(struct sim *w, const char *a, const char *b)
{
    size_t n = strlen(w->log);
    (void)snprintf(w->log + n, sizeof(w->log) - n, "%s %.150s\n", a, b);
}

/* ---- what may be touched ---- */

/* Ours: the marker, or a name that is the marker's where descriptions come later. */
static inline bool sim_is_ours(const cJSON *object)
{
    const char *name = json_str(object, "name");
    return str_eq(json_str(object, "description"), SIM_MARKER) ||
           (name && str_starts(name, SIM_MARKER));
}

static inline bool sim_is_ours_by_id(struct sim *w, const char *id)
{
    cJSON *objects = product_objects(&w->p);
    const cJSON *one = NULL;
    bool ours = true; /* one that is gone already is nobody's */
    cJSON_ArrayForEach(one, objects)
    {
        if (str_eq(json_str(one, "object.id"), id)) {
            ours = sim_is_ours(json_get(one, "object"));
        }
    }
    cJSON_Delete(objects);
    return ours;
}

static inline bool sim_is_hex(const char *s)
{
    return s && strlen(s) == 32 && strspn(s, "0123456789abcdef") == 32;
}

/* The dataset's id in the path; false where it is of something else. */
static inline bool sim_dataset_of(const char *url, char id[33])
{
    static const char root[] = PRODUCT_URL "/api/v1/datasets/";
    if (!str_starts(url, root) || strlen(url) < strlen(root) + 32) {
        return false;
    }
    memcpy(id, url + strlen(root), 32);
    id[32] = '\0';
    return sim_is_hex(id);
}

/* What no request may be, whatever was answered before. */
static inline void sim_check_shape(struct sim *w, const struct driver_action *a)
{
    const struct exchange_request *r = &a->request;
    const char *url = r->url;
    if (strstr(url, "ragflow-") || strstr(url, w->wire) || strstr(url, PRODUCT_TOKEN)) {
        SIM_BROKEN(w, "a secret in a URL: %s", url);
    }
    if ((r->method == METHOD_GET || strstr(url, "/admin/login")) != (a->effect == NULL)) {
        SIM_BROKEN(w, "%s %s: effect %s", exchange_method_name(r->method), url,
                   a->effect ? a->effect : "none");
    }
    if (r->method == METHOD_POST && !strstr(url, "/login") && !r->fresh_connection) {
        SIM_BROKEN(w, "a create that may be sent twice: %s", url);
    }
    if (r->method != METHOD_DELETE || strstr(url, "/admin/")) {
        return;
    }
    cJSON *body = cJSON_Parse(buf_str(&r->body));
    const cJSON *ids = json_get(body, "ids"), *id = NULL;
    bool documents = strstr(url, "/documents") != NULL;
    int n = cJSON_GetArraySize(ids);
    bool good =
        cJSON_IsArray(ids) && cJSON_GetArraySize(body) == 1 && n >= 1 && (documents || n == 1);
    cJSON_ArrayForEach(id, ids)
    {
        good = good && sim_is_hex(cJSON_GetStringValue(id));
    }
    cJSON_Delete(body);
    if (!good) {
        SIM_BROKEN(w, "a delete that may mean more: %s %s", url, buf_str(&r->body));
    }
}

static inline void sim_check_account(struct sim *w, const struct exchange_request *r)
{
    if (r->method != METHOD_GET && strstr(r->url, "/admin/users/") &&
        !strstr(r->url, "w-2f1c9a526a0e4c558f1e5d2f0c9b7a01")) {
        SIM_BROKEN(w, "somebody else's account: %s", r->url);
    }
}

static inline void sim_check_aim(struct sim *w, const struct driver_action *a)
{
    const struct exchange_request *r = &a->request;
    char id[33] = "";
    sim_check_shape(w, a);
    if (r->method == METHOD_GET || r->method == METHOD_POST) {
        return;
    }
    sim_check_account(w, r);
    if (r->method == METHOD_DELETE && str_eq(r->url, PRODUCT_URL "/api/v1/datasets")) {
        cJSON *body = cJSON_Parse(buf_str(&r->body));
        str_copy(id, sizeof(id), cJSON_GetArrayItem(json_get(body, "ids"), 0)->valuestring);
        cJSON_Delete(body);
    } else if (!sim_dataset_of(r->url, id)) {
        return;
    }
    if (!sim_is_ours_by_id(w, id)) {
        SIM_BROKEN(w, "a stranger's dataset: %s %s", exchange_method_name(r->method), r->url);
    }
}

/* ---- one operation ---- */

static inline void sim_journal(struct sim *w, const struct driver_action *a)
{
    w->open = true;
    w->open_update =
        w->open_update || a->request.method == METHOD_PUT || a->request.method == METHOD_PATCH;
    if (a->deletes[0]) {
        str_copy(w->open_delete, sizeof(w->open_delete), a->deletes);
    }
}

/* What was kept back acts now. */
static inline void sim_land(struct sim *w)
{
    if (w->is_late) {
        w->is_late = false;
        sim_say(w, "(lands)", w->late.url);
        (void)product_ask(&w->p, &w->late);
        exchange_request_done(&w->late);
    }
}

static inline void sim_keep(struct sim *w, const struct exchange_request *r)
{
    sim_land(w);
    w->late = *r;
    buf_init(&w->late.body, EXCHANGE_REQUEST_MAX);
    buf_adds(&w->late.body, buf_str(&r->body));
    if (r->url_secret) {
        str_copy(w->late_secret, sizeof(w->late_secret), r->url_secret);
        w->late.url_secret = w->late_secret;
    }
    if (r->credential) {
        str_copy(w->late_credential, sizeof(w->late_credential), r->credential);
        w->late.credential = w->late_credential;
    }
    w->is_late = true;
}

static inline struct exchange_response sim_answer(struct sim *w, const struct exchange_request *r,
                                                  enum cut cut)
{
    static const char html[] = "<html><body>502 Bad Gateway</body></html>";
    static const char code_100[] =
        "{\"code\":100,\"data\":null,\"message\":\"OperationalError()\"}";
    bool acts = cut == CUT_NONE || cut == CUT_AFTER || cut == CUT_LOST || cut == CUT_500 ||
                cut == CUT_TRUNCATED || cut == CUT_MALFORMED;
    struct exchange_response out = {.sent = cut != CUT_NOT_SENT, .body = "", .retry_after_ms = -1};
    if (acts) {
        out = product_ask(&w->p, r);
    } else if (cut == CUT_LATE || cut == CUT_LATE_DEATH) {
        sim_keep(w, r);
    }
    switch (cut) {
    case CUT_NOT_SENT:
    case CUT_LOST:
    case CUT_SWALLOWED:
    case CUT_LATE:
        out.status = 0;
        out.body = "";
        str_copy(out.failure, sizeof(out.failure), "connection reset");
        break;
    case CUT_500:
        out.status = 500;
        out.body = "{\"code\":500,\"message\":\"boom\"}";
        break;
    case CUT_HTML:
        out.status = 502;
        out.body = html;
        break;
    case CUT_TRUNCATED:
        out.truncated = true;
        out.body = "";
        break;
    case CUT_MALFORMED:
        out.body = "{\"code\":0,\"data\":{\"id\":";
        break;
    case CUT_CODE_100:
        out.status = 200;
        out.body = code_100;
        break;
    case CUT_NONE:
    case CUT_BEFORE:
    case CUT_AFTER:
    case CUT_LATE_DEATH:
    case CUT_KINDS:
        break;
    }
    out.body_len = strlen(out.body);
    return out;
}

static inline void sim_check_words(struct sim *w, const struct err *e)
{
    if (strstr(e->msg, "ragflow-") || strstr(e->msg, PRODUCT_TOKEN) || strstr(e->msg, "AAAAAAAA") ||
        strstr(e->msg, "scrypt") || (w->s.provider_key && strstr(e->msg, w->s.provider_key))) {
        SIM_BROKEN(w, "a secret in words: %s", e->msg);
    }
}

static inline void sim_record(struct sim *w, const struct driver_action *a,
                              const struct driver_outcome *o)
{
    w->blamed += o->health == HEALTH_AS_SAID && o->err.class != ERR_NONE;
    if (o->record) {
        str_copy(w->id, sizeof(w->id), o->external_id);
    }
    if (o->tenant_id[0]) {
        str_copy(w->tenant, sizeof(w->tenant), o->tenant_id);
    }
    if (o->secret[0]) {
        str_copy(w->secret, sizeof(w->secret), o->secret);
    }
    if (a->effect && o->effect == EFFECT_NONE) {
        SIM_BROKEN(w, "a change without an effect: %s", a->effect);
    }
    if (!a->effect && o->effect != EFFECT_NONE) {
        SIM_BROKEN(w, "an effect without a change");
    }
    sim_check_words(w, &o->err);
}

static inline const char *sim_lie(struct sim *w)
{
    size_t n = 0;
    for (const char *p = w->lie; *p && n + 64 < sizeof(w->lie_text);) {
        bool id = str_starts(p, "@ID"), tenant = str_starts(p, "@TENANT");
        const char *with = id ? w->id : w->tenant;
        if (id || tenant) {
            n += (size_t)snprintf(w->lie_text + n, 64, "%s", with);
            p += id ? 3 : 7;
        } else {
            w->lie_text[n++] = *p++;
        }
    }
    w->lie_text[n] = '\0';
    return w->lie_text;
}

/* False when the process died over it. */
static inline bool sim_ask(struct sim *w, struct driver_op *op, struct driver_action *a)
{
    enum cut cut = ++w->requests == w->cut_at ? w->cut : CUT_NONE;
    bool was_open = w->open, was_update = w->open_update;
    char was_delete[EXTERNAL_ID_MAX + 1];
    struct driver_outcome outcome;
    memcpy(was_delete, w->open_delete, sizeof(was_delete));
    sim_say(w, exchange_method_name(a->request.method), a->request.url);
    sim_check_aim(w, a);
    w->logins += strstr(a->request.url, "/admin/login") != NULL;
    w->changes += a->effect != NULL;
    if (a->effect) {
        sim_journal(w, a);
    }
    if (cut == CUT_BEFORE) {
        return false;
    }
    w->site->now_ms++;
    struct exchange_response r = sim_answer(w, &a->request, cut);
    if (cut == CUT_AFTER || cut == CUT_LATE_DEATH) {
        return false;
    }
    if (w->lie && w->requests == w->cut_at) {
        r.body = sim_lie(w);
        r.body_len = strlen(r.body);
    }
    sim_say(w, "   ", r.body);
    sim_class()->feed(op, &r, &outcome);
    sim_record(w, a, &outcome);
    w->last = outcome;
    if (a->effect && outcome.effect != EFFECT_UNKNOWN) {
        w->open = was_open;
        w->open_update = was_update;
        memcpy(w->open_delete, was_delete, sizeof(was_delete));
    }
    return true;
}

static inline void sim_finish(struct sim *w)
{
    w->open = w->open_update = false;
    w->open_delete[0] = '\0';
    if (!w->t.observe) {
        str_copy(w->id, sizeof(w->id), w->end.external_id);
        str_copy(w->tenant, sizeof(w->tenant), w->end.tenant_id);
        str_copy(w->secret, sizeof(w->secret), w->end.secret);
    }
}

/* One operation with what the records have; true when it is done. */
static inline bool sim_run(struct sim *w, enum driver_goal goal)
{
    struct err err;
    char id[EXTERNAL_ID_MAX + 1], tenant[EXTERNAL_ID_MAX + 1], secret[DRIVER_SECRET_MAX + 1];
    char deleting[EXTERNAL_ID_MAX + 1];
    memcpy(id, w->id, sizeof(id));
    memcpy(tenant, w->tenant, sizeof(tenant));
    memcpy(secret, w->secret, sizeof(secret));
    memcpy(deleting, w->open_delete, sizeof(deleting));
    w->t.external_id = id[0] ? id : NULL;
    w->t.tenant_id = tenant[0] ? tenant : NULL;
    w->t.secret = secret[0] ? secret : NULL;
    w->t.uncertain = w->open;
    w->t.updating = w->open_update;
    w->t.deleting = deleting[0] ? deleting : NULL;
    w->requests = w->changes = w->logins = 0;
    w->waited_ms = 0;
    w->dead = false;
    sim_say(w, goal == DRIVER_PRESENT ? "-- present" : "-- absent", w->open ? "?" : "");
    struct driver_op *op = sim_class()->start(goal, &w->t, &err);
    if (!op) {
        w->end = (struct driver_action){.turn = TURN_FAILED, .err = err};
        return false;
    }
    for (int turns = 0; !w->dead; turns++) {
        if (turns > SIM_TURNS_MAX) {
            SIM_BROKEN(w, "endless");
        }
        sim_class()->next(op, &w->end);
        if (w->end.turn == TURN_REQUEST) {
            w->dead = !sim_ask(w, op, &w->end);
            exchange_request_done(&w->end.request);
        } else if (w->end.turn == TURN_WAIT) {
            w->waited_ms += w->end.wait_ms;
            w->site->now_ms += w->end.wait_ms;
            sim_land(w);
        } else {
            break;
        }
    }
    sim_class()->free(op);
    w->t.external_id = w->t.tenant_id = w->t.secret = w->t.deleting = NULL;
    if (w->dead) { /* with all that it knew of the site */
        sim_new_site(w);
        return false;
    }
    sim_check_words(w, &w->end.err);
    sim_say(w, w->end.turn == TURN_DONE ? "done" : "failed", w->end.err.msg);
    if (w->end.turn == TURN_DONE && !w->forgets) {
        sim_finish(w);
    }
    return w->end.turn == TURN_DONE;
}

/* ---- the promise ---- */

static inline int sim_count_ours(struct sim *w)
{
    cJSON *objects = product_objects(&w->p);
    const cJSON *one = NULL;
    int n = 0;
    cJSON_ArrayForEach(one, objects)
    {
        n += sim_is_ours(json_get(one, "object"));
    }
    cJSON_Delete(objects);
    return n;
}

static inline int sim_count_users(struct sim *w)
{
    cJSON *answer = product_admin(&w->p, "GET", "/tenants", NULL);
    const cJSON *one = NULL;
    int n = 0;
    cJSON_ArrayForEach(one, json_get(answer, "tenants"))
    {
        n += str_eq(json_str(one, "email"), SIM_EMAIL);
    }
    cJSON_Delete(answer);
    return n;
}

/* Of its account. */
static inline int sim_count_keys(struct sim *w)
{
    cJSON *answer = product_admin(&w->p, "GET", "/tenants", NULL);
    const cJSON *one = NULL;
    int n = 0;
    cJSON_ArrayForEach(one, json_get(answer, "tenants"))
    {
        n += str_eq(json_str(one, "email"), SIM_EMAIL) ? cJSON_GetArraySize(json_get(one, "keys"))
                                                       : 0;
    }
    cJSON_Delete(answer);
    return n;
}

/* The dataset's JSON as the stand-in has it; the caller's. NULL for none. */
static inline cJSON *sim_dataset(struct sim *w, const char *id)
{
    cJSON *objects = product_objects(&w->p), *found = NULL;
    const cJSON *one = NULL;
    cJSON_ArrayForEach(one, objects)
    {
        if (str_eq(json_str(one, "object.id"), id)) {
            found = cJSON_Duplicate(json_get(one, "object"), true);
        }
    }
    cJSON_Delete(objects);
    return found;
}

/* Exactly one, the recorded one, as it was wanted. */
static inline void sim_check_present(struct sim *w)
{
    int64_t tokens = 0, percent = 0;
    if (sim_count_ours(w) != 1) {
        SIM_BROKEN(w, "%d datasets of ours", sim_count_ours(w));
    }
    cJSON *o = sim_dataset(w, w->id);
    if (!o) {
        SIM_BROKEN(w, "the recorded dataset is not there");
    }
    json_i64(o, "parser_config.chunk_token_num", &tokens);
    json_i64(o, "parser_config.overlapped_percent", &percent);
    bool good =
        tokens == w->t.chunk_size && percent == (100 * w->t.chunk_overlap + tokens - 1) / tokens &&
        str_eq(json_str(o, "name"), SIM_NAME) && str_eq(json_str(o, "description"), SIM_MARKER) &&
        str_eq(json_str(o, "permission"), "me") && str_eq(json_str(o, "tenant_id"), w->tenant) &&
        !json_bool(o, "parser_config.raptor.use_raptor", true) &&
        !json_bool(o, "parser_config.graphrag.use_graphrag", true);
    cJSON_Delete(o);
    if (!good) {
        SIM_BROKEN(w, "the dataset is not as it was wanted");
    }
    bool shared = w->s.tenancy == TENANCY_SHARED;
    if (shared != (w->secret[0] == '\0') || sim_count_users(w) != !shared) {
        SIM_BROKEN(w, "the account is not as it was wanted");
    }
    if (w->s.tenancy == TENANCY_SUBSCRIPTION && sim_count_keys(w) != 1) {
        SIM_BROKEN(w, "the account has %d keys", sim_count_keys(w));
    }
}

static inline int64_t sim_blobs(struct sim *w)
{
    cJSON *storage = product_admin(&w->p, "GET", "/storage", NULL);
    int64_t n = -1;
    json_i64(storage, "blobs", &n);
    cJSON_Delete(storage);
    return n;
}

static inline void sim_check_absent(struct sim *w)
{
    if (sim_count_ours(w) != 0 || w->id[0] || w->tenant[0] || w->secret[0]) {
        SIM_BROKEN(w, "something is left");
    }
    if (w->s.tenancy == TENANCY_SUBSCRIPTION && sim_count_users(w) != 0) {
        SIM_BROKEN(w, "the account is left");
    }
}

static inline void sim_put(struct sim *w, const char *settings)
{
    cJSON_Delete(product_admin(&w->p, "PUT", "/settings", settings));
}

/* Plants one dataset; its id in out. */
static inline void sim_plant(struct sim *w, const char *json, char out[33])
{
    cJSON *answer = product_admin(&w->p, "POST", "/objects", json);
    str_copy(out, 33, cJSON_GetArrayItem(json_get(answer, "ids"), 0)->valuestring);
    cJSON_Delete(answer);
}

#endif
