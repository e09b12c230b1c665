#include "ragflow/native.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"

enum {
    LOGINS_MAX = 3,
    LOGIN_WAIT_MS = 100,
    LOGIN_WAITS_MAX = 600,
    REQUESTS_MAX = 20000, /* of one operation: two million documents; then another goes on */
    DOCUMENTS_BYTES = RAGFLOW_PAGE * 40
};

/* Whose credential a request bears. */
enum who { NOBODY, PLATFORM, HOLDER, MODELS, ADMIN };

struct step {
    enum exchange_method method;
    enum who who;
    enum ragflow_kind kind;
    const char *effect; /* NULL for a look */
    bool fresh;         /* a create: never sent twice */
    /* Where an open outcome leads: a look, or a wait before one. PHASE_FAILED: another operation
     * does it again. */
    enum ragflow_phase lost;
    bool waits; /* before that look: it may take long */
    ragflow_build_fn *build;
    ragflow_feed_fn *feed;
};

#define LOOK(w, k, b, f)                                                                           \
    {                                                                                              \
        METHOD_GET, w, k, NULL, false, PHASE_FAILED, false, b, f                                   \
    }

static const struct step steps[PHASE_ASKS] = {
    [PHASE_VERSION] = LOOK(PLATFORM, KIND_SYSTEM, ragflow_build_version, ragflow_feed_version),
    [PHASE_LANGUAGE] = LOOK(NOBODY, KIND_SYSTEM, ragflow_build_language, ragflow_feed_language),
    [PHASE_ME] = LOOK(PLATFORM, KIND_LOOK, ragflow_build_me, ragflow_feed_me),
    [PHASE_HEALTHZ] = LOOK(NOBODY, KIND_HEALTH, ragflow_build_healthz, ragflow_feed_healthz),
    [PHASE_LOGIN] = {METHOD_POST, NOBODY, KIND_LOGIN, NULL, false, PHASE_FAILED, false,
                     ragflow_build_login, ragflow_feed_login},
    [PHASE_WHOSE] = LOOK(HOLDER, KIND_LOOK, ragflow_build_me, ragflow_feed_whose),
    [PHASE_USER_LOOK] = LOOK(ADMIN, KIND_ADMIN, ragflow_build_user, ragflow_feed_user),
    [PHASE_USER_CREATE] = {METHOD_POST, ADMIN, KIND_ADMIN, "tenant.create", true, PHASE_USER_LOOK,
                           false, ragflow_build_user_create, ragflow_feed_user_create},
    [PHASE_USER_OPEN] = {METHOD_PUT, ADMIN, KIND_ADMIN, "tenant.open", false, PHASE_USER_LOOK,
                         false, ragflow_build_user_open, ragflow_feed_user_open},
    [PHASE_USER_CLOSE] = {METHOD_PUT, ADMIN, KIND_ADMIN, "tenant.close", false, PHASE_USER_LOOK,
                          false, ragflow_build_user_close, ragflow_feed_user_close},
    [PHASE_USER_DELETE] = {METHOD_DELETE, ADMIN, KIND_ADMIN, "tenant.delete", false,
                           PHASE_USER_LOOK, true, ragflow_build_user, ragflow_feed_user_delete},
    [PHASE_KEYS] = LOOK(ADMIN, KIND_ADMIN, ragflow_build_keys, ragflow_feed_keys),
    [PHASE_KEY_CREATE] = {METHOD_POST, ADMIN, KIND_ADMIN, "tenant.key", true, PHASE_KEYS, false,
                          ragflow_build_keys, ragflow_feed_key_create},
    [PHASE_KEY_DELETE] = {METHOD_DELETE, ADMIN, KIND_ADMIN, "tenant.key.delete", false, PHASE_KEYS,
                          false, ragflow_build_key_delete, ragflow_feed_key_delete},
    [PHASE_MODELS_ME] = LOOK(MODELS, KIND_LOOK, ragflow_build_me, ragflow_feed_models_me),
    [PHASE_MODELS_LIST] = LOOK(MODELS, KIND_LOOK, ragflow_build_models, ragflow_feed_models),
    [PHASE_INVITE] = {METHOD_POST, MODELS, KIND_SETUP, "tenant.invite", true, PHASE_FAILED, false,
                      ragflow_build_invite, ragflow_feed_invite},
    [PHASE_JOIN] = {METHOD_PATCH, HOLDER, KIND_SETUP, "tenant.join", false, PHASE_FAILED, false,
                    ragflow_build_join, ragflow_feed_join},
    [PHASE_PROVIDER] = {METHOD_PUT, HOLDER, KIND_SETUP, "tenant.provider", false, PHASE_FAILED,
                        false, ragflow_build_provider, ragflow_feed_provider},
    [PHASE_INSTANCE] = {METHOD_POST, HOLDER, KIND_SETUP, "tenant.model", true, PHASE_FAILED, false,
                        ragflow_build_instance, ragflow_feed_instance},
    [PHASE_LOOK_ID] = LOOK(HOLDER, KIND_LOOK, ragflow_build_look_id, ragflow_feed_look_id),
    [PHASE_LOOK_NAME] = LOOK(HOLDER, KIND_LOOK, ragflow_build_look_name, ragflow_feed_look_name),
    [PHASE_CREATE] = {METHOD_POST, HOLDER, KIND_CREATE, "collection.create", true, PHASE_LOOK_NAME,
                      false, ragflow_build_create, ragflow_feed_create},
    [PHASE_UPDATE] = {METHOD_PUT, HOLDER, KIND_UPDATE, "collection.update", false, PHASE_LOOK_ID,
                      true, ragflow_build_update, ragflow_feed_update},
    [PHASE_DOCUMENTS] = LOOK(HOLDER, KIND_LOOK, ragflow_build_documents, ragflow_feed_documents),
    [PHASE_DOCUMENTS_DELETE] = {METHOD_DELETE, HOLDER, KIND_DELETE, "document.delete", false,
                                PHASE_DOCUMENTS, true, ragflow_build_documents_delete,
                                ragflow_feed_documents_delete},
    [PHASE_DELETE] = {METHOD_DELETE, HOLDER, KIND_DELETE, "collection.delete", false, PHASE_LOOK_ID,
                      true, ragflow_build_delete, ragflow_feed_delete},
    [PHASE_SEE_VERSION] =
        LOOK(PLATFORM, KIND_SYSTEM, ragflow_build_version, ragflow_feed_see_version),
    [PHASE_SEE_LANGUAGE] =
        LOOK(NOBODY, KIND_SYSTEM, ragflow_build_language, ragflow_feed_see_language),
    [PHASE_SEE_HEALTH] = LOOK(NOBODY, KIND_HEALTH, ragflow_build_healthz, ragflow_feed_see_health),
    [PHASE_SEE_CONFIG] =
        LOOK(NOBODY, KIND_SYSTEM, ragflow_build_see_config, ragflow_feed_see_config),
    [PHASE_SEE_ME] = LOOK(PLATFORM, KIND_LOOK, ragflow_build_me, ragflow_feed_see_me),
    [PHASE_SEE_KEYS] = LOOK(PLATFORM, KIND_LOOK, ragflow_build_see_keys, ragflow_feed_see_keys),
    [PHASE_SEE_ADMIN] = LOOK(NOBODY, KIND_ADMIN, ragflow_build_see_admin, ragflow_feed_see_admin),
    [PHASE_SEE_LOGIN] = {METHOD_POST, NOBODY, KIND_LOGIN, NULL, false, PHASE_FAILED, false,
                         ragflow_build_login, ragflow_feed_see_login},
    [PHASE_SEE_MODELS] = LOOK(MODELS, KIND_LOOK, ragflow_build_me, ragflow_feed_see_models),
};

/* ---- small things ---- */

void ragflow_fail(struct driver_op *op, const struct err *e)
{
    op->phase = PHASE_FAILED;
    op->err = *e;
}

void ragflow_fail_with(struct driver_op *op, enum err_class class, const char *fmt, ...)
{
    char text[ERR_MSG_MAX];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    op->phase = PHASE_FAILED;
    err_set(&op->err, class, "%s", text);
}

void ragflow_gain(struct driver_op *op)
{
    op->rounds = 0;
}

void ragflow_settle(struct driver_op *op, enum ragflow_phase phase)
{
    op->after = phase;
    op->phase = PHASE_SETTLE;
}

void ragflow_observed(struct driver_op *op, enum driver_sight sight, bool met)
{
    op->phase = PHASE_DONE;
    op->sight = sight;
    op->met = met;
}

bool ragflow_observing(const struct driver_op *op)
{
    return op->target->observe;
}

bool ragflow_settled(struct driver_op *op, enum ragflow_phase again)
{
    if (op->uncertain && ++op->empty_looks < 2) {
        ragflow_settle(op, again);
        return false;
    }
    return true;
}

bool ragflow_has_tenant(const struct driver_op *op)
{
    return op->target->settings && op->target->settings->tenancy != TENANCY_SHARED;
}

bool ragflow_is_id(const char *s)
{
    return s && strlen(s) == RAGFLOW_ID - 1 &&
           strspn(s, "0123456789abcdefABCDEF") == RAGFLOW_ID - 1;
}

bool ragflow_id_of(const cJSON *object, const char *member, char out[RAGFLOW_ID])
{
    const char *s = json_str(object, member);
    if (!ragflow_is_id(s)) {
        return false;
    }
    for (size_t i = 0; i < RAGFLOW_ID; i++) {
        out[i] = (char)tolower((unsigned char)s[i]);
    }
    return true;
}

void ragflow_url(struct exchange_request *r, const char *base, const char *fmt, ...)
{
    char path[RAGFLOW_ENCODED * 2];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(path, sizeof(path), fmt, ap);
    va_end(ap);
    int m = base ? snprintf(r->url, sizeof(r->url), "%s%s", base, path) : -1;
    if (n < 0 || (size_t)n >= sizeof(path) || m < 0 || (size_t)m >= sizeof(r->url)) {
        r->body.failed = true;
    }
}

void ragflow_body(struct exchange_request *r)
{
    r->content_type = "application/json";
}

const char *ragflow_encode(char out[RAGFLOW_ENCODED], const char *s)
{
    struct buf b;
    buf_init(&b, RAGFLOW_ENCODED - 1);
    buf_add_url(&b, s ? s : "");
    str_copy(out, RAGFLOW_ENCODED, buf_str(&b));
    buf_done(&b);
    return out;
}

/* Whatever leaves this driver in words holds none of what it was trusted with. */
static void scrub(const struct driver_op *op, struct err *e)
{
    const struct driver_target *t = op->target;
    const struct driver_settings *s = t->settings;
    const char *const secrets[] = {t->credential,
                                   t->secret,
                                   t->password,
                                   t->password_wire,
                                   op->secret,
                                   op->surplus,
                                   op->session,
                                   op->site->session,
                                   s ? s->admin_password_wire : NULL,
                                   s ? s->models_key : NULL,
                                   s ? s->provider_key : NULL};
    for (size_t i = 0; e->class != ERR_NONE && i < ARRAY_LEN(secrets); i++) {
        err_redact(e, secrets[i]);
    }
}

const struct driver_class ragflow_native = {
    .api = "ragflow",
    .start = ragflow_start,
    .next = ragflow_next,
    .feed = ragflow_feed,
    .free = ragflow_free,
    .site_new = ragflow_site_new,
    .site_free = ragflow_site_free,
    .inspect = ragflow_inspect,
};

/* ---- life ---- */

static bool model_is_usable(const char *model)
{
    const char *at = strchr(model, '@');
    size_t n = strlen(model);
    if (ragflow_is_id(model)) {
        return true;
    }
    return at && n < RAGFLOW_MODEL && strspn(model, " \t") < (size_t)(at - model) &&
           at[1 + strspn(at + 1, " \t")] != '\0';
}

/* What no server would take is not asked for. */
static int check_target(enum driver_goal goal, const struct driver_target *t, struct err *err)
{
    bool tenant = t->settings && t->settings->tenancy != TENANCY_SHARED;
    if (goal == DRIVER_CLOSED) {
        return err_set(err, ERR_INTERNAL, "a collection is never closed");
    }
    if (!t->site || !t->name || !t->marker || !t->name[0] || !t->marker[0] ||
        strlen(t->name) > RAGFLOW_NAME_MAX || strlen(t->marker) > RAGFLOW_NAME_MAX) {
        return err_set(err, ERR_INTERNAL, "a collection needs a site, a name and a marker");
    }
    if (tenant && (!t->tenant_email || !t->settings->admin_url || !t->settings->admin_email ||
                   !t->settings->admin_password_wire)) {
        return err_set(err, ERR_INVALID,
                       "this tenancy needs RAGFlow's admin service: its url, email and password");
    }
    if (goal != DRIVER_PRESENT) {
        return 0;
    }
    if (t->embedding_model && !model_is_usable(t->embedding_model)) {
        return err_set(err, ERR_INVALID,
                       "\"%.100s\" is no embedding model of RAGFlow's, which are model@provider; "
                       "map it in runtimes[].ragflow.embedding_models",
                       t->embedding_model);
    }
    if (t->chunk_size < 1 || t->chunk_size > 2048 || t->chunk_overlap < 0) {
        return err_set(err, ERR_INVALID,
                       "RAGFlow takes chunk sizes from 1 to 2048 and overlaps from 0, not %lld and "
                       "%lld",
                       (long long)t->chunk_size, (long long)t->chunk_overlap);
    }
    return 0;
}

struct driver_op *ragflow_start(enum driver_goal goal, const struct driver_target *target,
                                struct err *err)
{
    if (check_target(goal, target, err)) {
        return NULL;
    }
    struct driver_op *op = calloc(1, sizeof(*op));
    if (!op) {
        err_nomem(err);
        return NULL;
    }
    op->target = target;
    op->site = (struct ragflow_site *)driver_site_ref(target->site);
    op->goal = goal;
    op->uncertain = target->uncertain && !target->observe;
    op->updating = target->updating && !target->observe;
    op->documents = -1;
    buf_init(&op->ids, DOCUMENTS_BYTES);
    if (goal == DRIVER_PRESENT && target->embedding_model) {
        str_copy(op->model, sizeof(op->model), target->embedding_model);
    }
    if (ragflow_is_id(target->external_id)) {
        for (size_t i = 0; i < RAGFLOW_ID; i++) {
            op->recorded[i] = (char)tolower((unsigned char)target->external_id[i]);
        }
    }
    ragflow_enter(op);
    return op;
}

void ragflow_free(struct driver_op *op)
{
    if (!op) {
        return;
    }
    if (op->site->logging_in == op) {
        op->site->logging_in = NULL;
    }
    cJSON_Delete(op->row);
    cJSON_Delete(op->extra);
    buf_done(&op->ids);
    driver_site_unref(&op->site->base);
    explicit_bzero(op, sizeof(*op));
    free(op);
}

/* ---- next ---- */

/*
 * The admin service knows one session an account: a second login ends the first. So one operation
 * logs in and the others wait for it, though not for ever. True when the request may be built.
 */
static bool have_session(struct driver_op *op, struct driver_action *out)
{
    struct ragflow_site *site = op->site;
    if (site->session[0] != '\0') {
        return true;
    }
    if (site->logging_in && site->logging_in != op && site->base.now_ms < site->login_until_ms) {
        if (op->login_waits++ >= LOGIN_WAITS_MAX) {
            ragflow_fail_with(op, ERR_UNAVAILABLE, "no session of the admin service came about");
            return true;
        }
        out->turn = TURN_WAIT;
        out->wait_ms = LOGIN_WAIT_MS;
        return false;
    }
    site->logging_in = op;
    site->login_until_ms = site->base.now_ms + 2 * op->target->timeout_ms + LOGIN_WAIT_MS;
    op->after = op->phase;
    op->phase = PHASE_LOGIN;
    return true;
}

static void set_credential(struct driver_op *op, const struct step *step,
                           struct exchange_request *r)
{
    const struct driver_target *t = op->target;
    switch (step->who) {
    case NOBODY:
        break;
    case PLATFORM:
        r->credential = t->credential;
        break;
    case HOLDER:
        r->credential = ragflow_has_tenant(op) ? op->secret : t->credential;
        break;
    case MODELS:
        r->credential = t->settings->models_key;
        break;
    case ADMIN: /* a copy: the site's may change before this one is sent */
        memcpy(op->session, op->site->session, sizeof(op->session));
        r->credential = op->session;
        break;
    }
    if (r->credential) {
        r->auth_header = "Authorization";
        r->auth_scheme = "Bearer ";
    }
}

static void build(struct driver_op *op, struct driver_action *out)
{
    const struct step *step = &steps[op->phase];
    struct exchange_request *r = &out->request;
    r->method = step->method;
    r->fresh_connection = step->fresh;
    r->timeout_ms = op->target->timeout_ms;
    out->effect = step->effect;
    set_credential(op, step, r);
    step->build(op, r);
    if (op->phase == PHASE_DELETE) {
        str_copy(out->deletes, sizeof(out->deletes), op->id);
    } else if (op->phase == PHASE_USER_DELETE) {
        str_copy(out->deletes, sizeof(out->deletes), op->target->tenant_email);
    }
    if (step->effect && (ragflow_observing(op) || op->report)) {
        ragflow_fail_with(op, ERR_INTERNAL, "a look was about to change something");
    } else if (r->body.failed) {
        ragflow_fail_with(op, ERR_INTERNAL,
                          "the request could not be built (memory, or a URL too long)");
    }
}

static bool asks(const struct driver_op *op)
{
    return op->phase < PHASE_ASKS;
}

static void conclude(const struct driver_op *op, struct driver_action *out)
{
    if (op->phase == PHASE_FAILED) {
        out->turn = TURN_FAILED;
        out->effect = NULL;
        out->err = op->err;
        scrub(op, &out->err);
        return;
    }
    out->turn = TURN_DONE;
    out->sight = op->sight;
    out->met = op->met;
    str_copy(out->residue, sizeof(out->residue), op->residue);
    bool there = ragflow_observing(op) ? op->sight == SIGHT_OURS : op->goal == DRIVER_PRESENT;
    if (there) {
        str_copy(out->external_id, sizeof(out->external_id), op->id);
        str_copy(out->tenant_id, sizeof(out->tenant_id), op->tenant);
        str_copy(out->secret, sizeof(out->secret), op->secret);
    }
}

void ragflow_next(struct driver_op *op, struct driver_action *out)
{
    memset(out, 0, sizeof(*out));
    exchange_request_init(&out->request);
    err_clear(&out->err);
    if (op->phase == PHASE_SETTLE) {
        op->phase = op->after;
        out->turn = TURN_WAIT;
        out->wait_ms = op->target->settle_ms;
        return;
    }
    if (asks(op) && steps[op->phase].who == ADMIN && !have_session(op, out)) {
        return;
    }
    if (asks(op) && (op->rounds++ >= DRIVER_ROUNDS_MAX || op->requests++ >= REQUESTS_MAX)) {
        ragflow_fail_with(op, ERR_UNKNOWN,
                          "the server's answers contradict each other, or there is no end to what "
                          "it has; gave up asking");
    }
    if (asks(op)) {
        out->turn = TURN_REQUEST;
        build(op, out);
        if (asks(op)) {
            return;
        }
        exchange_request_done(&out->request);
    }
    conclude(op, out);
}

/* ---- feed ---- */

static enum driver_effect effect_of(const struct ragflow_answer *a)
{
    if (a->meaning == MEANS_DONE) {
        return EFFECT_DONE;
    }
    if (a->meaning != MEANS_ERROR) {
        return EFFECT_REFUSED;
    }
    switch (a->err.class) {
    case ERR_UNKNOWN:
        return EFFECT_UNKNOWN;
    case ERR_UNAVAILABLE:
        return a->err.http_status == 0 ? EFFECT_NOT_SENT : EFFECT_REFUSED;
    case ERR_THROTTLED:
        return a->err.http_status == 429 ? EFFECT_REFUSED : EFFECT_UNKNOWN;
    case ERR_NONE:
    case ERR_INVALID:
    case ERR_UNAUTHORIZED:
    case ERR_REFUSED:
    case ERR_CONFLICT:
    case ERR_GONE:
    case ERR_INTERNAL:
    case ERR_CLASS_MAX:
        break;
    }
    return EFFECT_REFUSED;
}

static void denied(struct driver_op *op, const struct step *step, const struct ragflow_answer *a,
                   struct driver_outcome *out)
{
    static const char *const keys[] = {[NOBODY] = "the request",
                                       [PLATFORM] = "runtimes[].ragflow.api_key",
                                       [HOLDER] = "runtimes[].ragflow.api_key",
                                       [MODELS] = "the models tenant's key",
                                       [ADMIN] = "the admin service's own session"};
    struct ragflow_site *site = op->site;
    bool own = step->who == HOLDER && ragflow_has_tenant(op); /* says nothing of other accounts */
    op->denied = a->err;
    op->denied_key = own ? "the account's own key" : keys[step->who];
    err_clear(&out->err);
    if (step->who != ADMIN) {
        out->health = own ? HEALTH_GOOD : HEALTH_AS_SAID;
        err_set(&out->err, ERR_UNAVAILABLE, "%s; healthz will tell whether the key is at fault",
                a->err.msg);
        op->phase = PHASE_HEALTHZ;
        return;
    }
    /* Somebody logged in anew meanwhile; else this one does. */
    out->health = HEALTH_GOOD;
    if (str_eq(op->session, site->session)) {
        explicit_bzero(site->session, sizeof(site->session));
    }
    if (++op->logins > LOGINS_MAX) {
        op->held = false;
        op->robbed = true;
        op->phase = PHASE_HEALTHZ;
    }
}

/* A change whose outcome is open: nothing is believed until it was looked at. */
static void lost(struct driver_op *op, const struct step *step)
{
    op->uncertain = true;
    op->empty_looks = 0;
    if (op->phase == PHASE_CREATE) {
        ragflow_seek(op);
    } else if (step->waits) {
        ragflow_settle(op, step->lost);
    } else {
        op->phase = step->lost;
    }
}

static void failed(struct driver_op *op, const struct step *step, const struct ragflow_answer *a,
                   struct driver_outcome *out)
{
    if (out->effect == EFFECT_UNKNOWN && a->err.class == ERR_UNKNOWN &&
        step->lost != PHASE_FAILED) {
        lost(op, step);
        return;
    }
    if (op->phase == PHASE_CREATE && a->err.class == ERR_REFUSED) {
        ragflow_fail_with(op, ERR_REFUSED,
                          "%.300s; if it is the embedding model: runtimes[].ragflow."
                          "embedding_models names it, and the tenant must have it",
                          a->err.msg);
        op->err.http_status = a->err.http_status;
        return;
    }
    ragflow_fail(op, &a->err);
}

void ragflow_feed(struct driver_op *op, const struct exchange_response *response,
                  struct driver_outcome *out)
{
    struct ragflow_answer a;
    memset(out, 0, sizeof(*out));
    err_clear(&out->err);
    if (!asks(op)) {
        return; /* nothing was asked */
    }
    const struct step *step = &steps[op->phase];
    ragflow_answer_read(step->kind, step->effect != NULL, response, &a);
    scrub(op, &a.err);
    out->health = a.health;
    out->effect = step->effect ? effect_of(&a) : EFFECT_NONE;
    if (op->phase == PHASE_LOGIN && op->site->logging_in == op) {
        op->site->logging_in = NULL;
    }
    if (a.meaning == MEANS_ERROR || (step->effect && a.meaning != MEANS_DONE)) {
        out->err = a.err;
    }
    if (op->report) {
        step->feed(op, &a, out);
    } else if (a.meaning == MEANS_DENIED && step->kind != KIND_LOGIN) {
        denied(op, step, &a, out);
    } else if (a.meaning == MEANS_ERROR && step->kind != KIND_LOGIN) {
        failed(op, step, &a, out);
    } else if (a.meaning == MEANS_ERROR && a.err.class != ERR_REFUSED) {
        ragflow_fail(op, &a.err);
    } else {
        step->feed(op, &a, out);
    }
    ragflow_answer_done(&a);
    scrub(op, &out->err);
}
