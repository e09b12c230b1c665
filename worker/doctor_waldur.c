/*
 * doctor: Waldur. Who the token is, which offerings it may work on, and whether a webhook leads to
 * us. Changes nothing.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/str.h"
#include "doctor.h"
#include "waldur/order.h"

enum step { STEP_VERSION, STEP_ME, STEP_ORDERS, STEP_OFFERING, STEP_KEYS, STEP_HOOKS, STEP_OVER };

static const char hook_path[] = "/hooks/waldur/";
static const struct json_limits limits = {
    .size = WALDUR_BODY_MAX, .depth = WALDUR_DEPTH_MAX, .string = 64 * 1024};

struct waldur_exam {
    struct exam *exam;
    enum step step;
    size_t offering;
    size_t mapped; /* offerings that have a UUID */
    struct http_call *call;
};

static void next(struct waldur_exam *x);

/* ---- answers ---- */

static void refused(struct exam *e, const char *subject, const char *mend, const struct err *err)
{
    struct err said = *err;
    err_redact(&said, e->doctor->config->waldur_token);
    EXAM_ADD(e, LEVEL_BAD, subject, mend, "%s", said.msg);
}

/* True where the server is there and takes the token; else said, and there is no use in going on.
 */
static bool is_let_in(struct waldur_exam *x, const struct err *err)
{
    struct exam *e = x->exam;
    if (err->class == ERR_UNAUTHORIZED && err->http_status == 401) {
        refused(
            e, "credential",
            "give a valid waldur.token (of a user whose tokens do not expire), then send SIGHUP",
            err);
    } else if (err->class == ERR_UNAVAILABLE || err->class == ERR_UNKNOWN) {
        refused(e, "reach", "look at the server, at waldur.url, and at what stands between", err);
    } else {
        return true;
    }
    return false;
}

static void see_version(struct exam *e, const cJSON *json)
{
    const char *version = json_str(json, "version");
    if (version) {
        EXAM_ADD(e, LEVEL_OK, "version", NULL, "Waldur %.60s", version);
    } else {
        EXAM_ADD(e, LEVEL_NOTE, "version", NULL, "it does not tell its version");
    }
}

static void see_me(struct exam *e, const struct err *err, const cJSON *json)
{
    if (err->class != ERR_NONE || !json_str(json, "uuid")) {
        EXAM_ADD(e, LEVEL_BAD, "answer", "waldur.url has to lead to Waldur's API, https://host/api",
                 "users/me/ is not answered as Waldur does: %s",
                 err->class == ERR_NONE ? "no user is told" : err->msg);
        return;
    }
    int64_t lifetime = 0;
    EXAM_ADD(e, LEVEL_OK, "credential", NULL, "it is taken; the user is \"%.80s\"",
             json_str(json, "username") ? json_str(json, "username") : "?");
    if (json_i64(json, "token_lifetime", &lifetime)) {
        EXAM_ADD(e, LEVEL_WARN, "credential",
                 "set the user's token_lifetime to null, or use a personal access token",
                 "the token expires when nobody has used it for %lld s", (long long)lifetime);
    }
}

static void see_orders(struct exam *e, const struct err *err)
{
    if (err->class != ERR_NONE) {
        refused(e, "rights", "give the user the role OFFERING.MANAGER on each offering", err);
    } else {
        EXAM_ADD(e, LEVEL_OK, "rights", NULL, "orders can be listed");
    }
}

static void see_offering(struct waldur_exam *x, const struct err *err)
{
    struct exam *e = x->exam;
    const struct config_offering *o = &e->doctor->config->offerings[x->offering - 1];
    if (err->class == ERR_GONE) {
        EXAM_ADD(e, LEVEL_BAD, "offering",
                 "correct offerings.<type>.uuid, or give the user the role OFFERING.MANAGER on it",
                 "%s (%s) is not there, or not for this user", o->type, o->uuid);
    } else if (err->class != ERR_NONE) {
        refused(e, "offering", "give the user the role OFFERING.MANAGER on it", err);
    } else {
        EXAM_ADD(e, LEVEL_OK, "offering", NULL, "%s (%s) is there", o->type, o->uuid);
    }
}

static void see_keys(struct exam *e, const struct err *err)
{
    if (err->class == ERR_GONE) {
        EXAM_ADD(e, LEVEL_BAD, "keys", "write waldur.keys: sealed, or upgrade Waldur",
                 "this Waldur cannot hold API keys, and waldur.keys is waldur");
    } else if (err->class != ERR_NONE) {
        refused(e, "keys", "give the user the role OFFERING.MANAGER on each offering", err);
    } else {
        EXAM_ADD(e, LEVEL_OK, "keys", NULL, "API keys can be listed");
    }
}

/* The URL holds the secret: it is compared, and shown nowhere. */
static void see_hooks(struct exam *e, const struct err *err, const cJSON *json)
{
    const char *secret = e->doctor->config->waldur_hook_secret;
    const char *mend = "make a webhook of a staff or support user at Waldur, to "
                       "https://this-worker/hooks/waldur/SECRET; the sweep works without";
    char end[300];
    const cJSON *hook = NULL;
    snprintf(end, sizeof(end), "%s%s", hook_path, secret);
    cJSON_ArrayForEach(hook, json)
    {
        const char *url = json_str(hook, "destination_url");
        size_t n = url ? strlen(url) : 0;
        if (n < strlen(end) || !str_eq(url + n - strlen(end), end)) {
            continue;
        }
        bool json_body =
            !json_str(hook, "content_type") || str_eq(json_str(hook, "content_type"), "json");
        if (!json_bool(hook, "is_active", true) || !json_body) {
            EXAM_ADD(e, LEVEL_WARN, "webhook", "switch it on, with content type json",
                     "it is there and inactive, or not of JSON");
        } else {
            EXAM_ADD(e, LEVEL_OK, "webhook", NULL, "one leads to waldur.hook_secret's path");
        }
        return;
    }
    if (err->class != ERR_NONE) {
        EXAM_ADD(e, LEVEL_NOTE, "webhook", mend, "this user cannot see webhooks");
    } else {
        EXAM_ADD(e, LEVEL_NOTE, "webhook", mend, "this user has none that leads here");
    }
}

static void on_answer(void *ctx, const struct exchange_response *response)
{
    struct waldur_exam *x = ctx;
    struct exam *e = x->exam;
    struct err err;
    struct json_fault fault;
    cJSON *json = NULL;
    x->call = NULL;
    exchange_classify(response, &err);
    if (err.class == ERR_NONE &&
        json_parse(response->body, response->body_len, &limits, &json, &fault) != 0) {
        err_set(&err, ERR_UNKNOWN, "the answer is no JSON: %s", fault.reason);
    }
    if (x->step == STEP_VERSION && err.class == ERR_GONE) {
        err_clear(&err);
    }
    if (!is_let_in(x, &err)) {
        x->step = STEP_OVER;
    } else if (x->step == STEP_VERSION) {
        see_version(e, json);
    } else if (x->step == STEP_ME) {
        see_me(e, &err, json);
    } else if (x->step == STEP_ORDERS) {
        see_orders(e, &err);
    } else if (x->step == STEP_OFFERING) {
        see_offering(x, &err);
    } else if (x->step == STEP_KEYS) {
        see_keys(e, &err);
    } else {
        see_hooks(e, &err, json);
    }
    cJSON_Delete(json);
    next(x);
}

/* ---- requests ---- */

static void ask(struct waldur_exam *x, const char *path, const char *body)
{
    const struct doctor *d = x->exam->doctor;
    const struct config *c = d->config;
    struct exchange_request r;
    struct err err;
    exchange_request_init(&r);
    r.method = body ? METHOD_POST : METHOD_GET;
    snprintf(r.url, sizeof(r.url), "%s/%s", c->waldur_api, path);
    r.auth_header = "Authorization";
    r.auth_scheme = str_eq(c->waldur_auth, "bearer") ? "Bearer " : "Token ";
    r.credential = c->waldur_token;
    r.timeout_ms = c->waldur_timeout_ms < d->timeout_ms ? c->waldur_timeout_ms : d->timeout_ms;
    if (body) {
        r.content_type = "application/json";
        buf_adds(&r.body, body);
    }
    x->call = http_send(d->http, &r, NULL, on_answer, x, &err);
    exchange_request_done(&r);
    if (!x->call) {
        EXAM_ADD(x->exam, LEVEL_BAD, "inspection", NULL, "it could not be made: %s", err.msg);
        exam_over(x->exam);
    }
}

/* Whether this user works on the offering is told by a question that only those who do may ask. */
static bool ask_offering(struct waldur_exam *x)
{
    const struct config *c = x->exam->doctor->config;
    char path[128];
    while (x->offering < c->n_offerings) {
        const char *uuid = c->offerings[x->offering++].uuid;
        if (uuid) {
            x->mapped++;
            snprintf(path, sizeof(path),
                     "marketplace-provider-offerings/%s/check_unique_backend_id/", uuid);
            ask(x, path, "{\"backend_id\":\"provisioner-doctor\",\"check_all_offerings\":false}");
            return true;
        }
    }
    if (x->mapped == 0) {
        EXAM_ADD(x->exam, LEVEL_WARN, "offering", "write offerings.<type>.uuid",
                 "no offering of Waldur's is mapped: every order is foreign");
    }
    return false;
}

static void next(struct waldur_exam *x)
{
    const struct config *c = x->exam->doctor->config;
    if (x->step == STEP_OFFERING && ask_offering(x)) {
        return;
    }
    if (x->step < STEP_OVER) {
        x->step++;
    }
    switch (x->step) {
    case STEP_ME:
        ask(x, "users/me/", NULL);
        return;
    case STEP_ORDERS:
        ask(x, "marketplace-orders/?page_size=1", NULL);
        return;
    case STEP_OFFERING:
        if (ask_offering(x)) {
            return;
        }
        break;
    case STEP_KEYS:
        if (str_eq(c->waldur_keys, "waldur")) {
            ask(x, "marketplace-resource-api-keys/?page_size=1", NULL);
            return;
        }
        break;
    case STEP_HOOKS:
        if (c->waldur_hook_secret) {
            ask(x, "hooks-web/?page_size=100", NULL);
            return;
        }
        EXAM_ADD(x->exam, LEVEL_NOTE, "webhook",
                 "write waldur.hook_secret to hear of orders at once",
                 "no webhooks are taken; the sweep alone finds orders");
        break;
    case STEP_VERSION:
    case STEP_OVER:
        exam_over(x->exam);
        return;
    }
    next(x);
}

/* ---- the exam ---- */

static int start(struct exam *e, struct err *err)
{
    struct waldur_exam *x = calloc(1, sizeof(*x));
    if (!x) {
        return err_nomem(err);
    }
    e->state = x;
    x->exam = e;
    EXAM_ADD(e, LEVEL_OK, "address", NULL, "%s", e->doctor->config->waldur_api);
    ask(x, "version/", NULL);
    return 0;
}

static void stop(struct exam *e)
{
    struct waldur_exam *x = e->state;
    if (!x) {
        return;
    }
    if (x->call) {
        http_cancel(e->doctor->http, x->call);
    }
    free(x);
    e->state = NULL;
}

const struct exam_class exam_waldur = {start, stop};
