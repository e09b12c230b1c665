/*
 * What all operations on one RAGFlow share: its version, which of its two servers answers, whose
 * the platform's key is, and the one session that the admin service grants an account at a time.
 */
#include "ragflow/native.h"

#include <stdlib.h>
#include <string.h>

#include "base/str.h"

enum { FACTS_MS = 60 * 60 * 1000, LOGIN_EXTRA_MS = 1000, ROBBED_MS = 1000 };

/* Deletes are safe, the overlap can be set, version and health are open from here on. */
static const int oldest[3] = {0, 25, 2};

#define TOO_OLD                                                                                    \
    "RAGFlow %s is older than 0.25.2, where a delete may mean more than it says; upgrade it, "     \
    "then replay"

struct driver_site *ragflow_site_new(struct err *err)
{
    struct ragflow_site *site = calloc(1, sizeof(*site));
    if (!site) {
        err_nomem(err);
        return NULL;
    }
    site->base.class = &ragflow_native;
    site->base.refs = 1;
    return &site->base;
}

void ragflow_site_free(struct driver_site *site)
{
    if (site) {
        explicit_bzero(site, sizeof(struct ragflow_site));
        free(site);
    }
}

bool ragflow_site_since(const struct ragflow_site *site, int major, int minor, int patch)
{
    const int wanted[3] = {major, minor, patch};
    for (size_t i = 0; i < ARRAY_LEN(wanted); i++) {
        if (site->number[i] != wanted[i]) {
            return site->number[i] > wanted[i];
        }
    }
    return true;
}

const char *ragflow_site_model(const struct ragflow_site *site, const char *name)
{
    for (size_t i = 0; i < site->n_models; i++) {
        if (str_eq(site->models[i].name, name)) {
            return site->models[i].id;
        }
    }
    return NULL;
}

/* ---- the version ---- */

/* "v0.27.0" and "0.27.0-rc1"; anything else is a build out of the source, and taken for new. */
void ragflow_read_version(struct ragflow_site *site, const char *text)
{
    const char *p = text + (text[0] == 'v');
    for (size_t i = 0; i < ARRAY_LEN(site->number); i++) {
        char *end = NULL;
        long n = *p >= '0' && *p <= '9' ? strtol(p, &end, 10) : -1;
        if (n < 0 || n > INT32_MAX || (i < 2 && *end != '.')) {
            site->number[0] = site->number[1] = site->number[2] = INT32_MAX;
            return;
        }
        site->number[i] = (int)n;
        p = end + (i < 2);
    }
}

/* Printable, and not longer than there is room. */
static void keep_version(struct ragflow_site *site, const char *text)
{
    struct err plain;
    err_set(&plain, ERR_NONE, "%.*s", DRIVER_VERSION_MAX, text[0] ? text : "unknown");
    str_copy(site->base.version, sizeof(site->base.version), plain.msg);
    ragflow_read_version(site, text);
}

void ragflow_build_version(struct driver_op *op, struct exchange_request *r)
{
    ragflow_url(r, op->target->url, "/api/v1/system/version");
}

static void too_old(struct driver_op *op, const char *version, struct driver_outcome *out)
{
    op->site->base.known = false; /* the next one asks again: it may have been upgraded */
    ragflow_fail_with(op, ERR_UNAVAILABLE, TOO_OLD, version);
    out->err = op->err;
    out->health = HEALTH_AS_SAID;
}

static void facts_are_in(struct driver_op *op)
{
    op->site->learned_ms = op->site->base.now_ms;
    op->site->base.known = true;
    ragflow_enter(op);
}

static void after_language(struct driver_op *op)
{
    if (ragflow_has_tenant(op)) {
        facts_are_in(op);
    } else {
        op->phase = PHASE_ME;
    }
}

void ragflow_feed_version(struct driver_op *op, const struct ragflow_answer *a,
                          struct driver_outcome *out)
{
    struct ragflow_site *site = op->site;
    if (a->meaning == MEANS_NOT_THERE) {
        too_old(op, "(without a version)", out);
        return;
    }
    const char *text = cJSON_GetStringValue(a->data);
    keep_version(site, text ? text : "unknown");
    if (!ragflow_site_since(site, oldest[0], oldest[1], oldest[2])) {
        too_old(op, site->base.version, out);
        return;
    }
    if (ragflow_site_since(site, 0, 27, 0)) {
        op->phase = PHASE_LANGUAGE;
        return;
    }
    site->go = false;
    str_copy(site->base.server, sizeof(site->base.server), "python");
    after_language(op);
}

void ragflow_build_language(struct driver_op *op, struct exchange_request *r)
{
    ragflow_url(r, op->target->url, "/api/v1/language");
}

void ragflow_feed_language(struct driver_op *op, const struct ragflow_answer *a,
                           struct driver_outcome *out)
{
    (void)out;
    op->site->go = str_eq(json_str(a->data, "language"), "go");
    str_copy(op->site->base.server, sizeof(op->site->base.server), op->site->go ? "go" : "python");
    after_language(op);
}

/* ---- whose key it is ---- */

void ragflow_build_me(struct driver_op *op, struct exchange_request *r)
{
    ragflow_url(r, op->target->url, "/api/v1/users/me");
}

static bool read_me(struct driver_op *op, const struct ragflow_answer *a, char tenant[RAGFLOW_ID])
{
    if (a->meaning == MEANS_DONE && ragflow_id_of(a->data, "id", tenant)) {
        return true;
    }
    ragflow_fail_with(op, ERR_UNKNOWN, "the server does not tell whose the API key is");
    return false;
}

void ragflow_feed_me(struct driver_op *op, const struct ragflow_answer *a,
                     struct driver_outcome *out)
{
    if (read_me(op, a, op->site->tenant)) {
        facts_are_in(op);
    } else {
        out->err = op->err;
    }
}

/* "Not there" is believed only of a key that is known to be the right tenant's. */
void ragflow_feed_whose(struct driver_op *op, const struct ragflow_answer *a,
                        struct driver_outcome *out)
{
    char tenant[RAGFLOW_ID];
    if (!read_me(op, a, tenant)) {
        out->err = op->err;
    } else if (!str_eq(tenant, op->tenant)) {
        ragflow_fail_with(
            op, ERR_UNAUTHORIZED,
            "the recorded API key is of RAGFlow tenant %s, the collection of %s; what "
            "it does not show may be there all the same",
            tenant, op->tenant);
    } else {
        op->tenant_sure = true;
        op->phase = op->after;
    }
}

/* The beginning of every operation. */
static bool facts_count(const struct driver_op *op)
{
    const struct ragflow_site *site = op->site;
    return site->base.known && site->base.now_ms - site->learned_ms < FACTS_MS &&
           (ragflow_has_tenant(op) || site->tenant[0] != '\0');
}

/* Shared: everything is in the tenant of the platform's key. */
static void enter_shared(struct driver_op *op)
{
    const char *recorded = op->target->tenant_id;
    if (recorded && recorded[0] != '\0' && !str_eq(recorded, op->site->tenant)) {
        ragflow_fail_with(op, ERR_UNAUTHORIZED,
                          "the runtime's API key is of RAGFlow tenant %s, the collection of %.64s; "
                          "give the runtime a key of that tenant",
                          op->site->tenant, recorded);
        return;
    }
    str_copy(op->tenant, sizeof(op->tenant), op->site->tenant);
    op->tenant_sure = true;
    ragflow_seek(op);
}

/* With what the records have: that is enough, unless an account may be on its way in or out. */
static void enter_tenant(struct driver_op *op)
{
    const struct driver_target *t = op->target;
    bool open = t->uncertain || t->updating || t->deleting;
    bool wanted = op->goal == DRIVER_PRESENT && !t->observe;
    bool moving = open && wanted && t->settings->tenancy == TENANCY_SUBSCRIPTION;
    bool has_tenant = ragflow_is_id(t->tenant_id);
    bool known = has_tenant && t->secret && t->secret[0] != '\0' &&
                 str_copy(op->secret, sizeof(op->secret), t->secret);
    op->held = known;
    if (has_tenant) {
        str_copy(op->tenant, sizeof(op->tenant), t->tenant_id);
    }
    if (known && !moving) {
        ragflow_seek(op);
    } else if (moving && t->updating) {
        op->updating = false; /* waited for here, before anything is looked at */
        ragflow_settle(op, PHASE_USER_LOOK);
    } else {
        bool fresh = wanted && !open && !t->secret && !t->tenant_id;
        op->phase = fresh ? PHASE_USER_CREATE : PHASE_USER_LOOK;
    }
}

void ragflow_enter(struct driver_op *op)
{
    if (!facts_count(op)) {
        op->phase = PHASE_VERSION;
    } else if (ragflow_has_tenant(op)) {
        enter_tenant(op);
    } else {
        enter_shared(op);
    }
}

/* ---- is the database well ---- */

void ragflow_build_healthz(struct driver_op *op, struct exchange_request *r)
{
    ragflow_url(r, op->target->url, "/api/v1/system/healthz");
}

/*
 * A server whose database is away knows no key, and says so. Only where all is well the key is at
 * fault; a tenant's that the records have may be replaced, the account is asked for another.
 */
void ragflow_feed_healthz(struct driver_op *op, const struct ragflow_answer *a,
                          struct driver_outcome *out)
{
    if (a->meaning != MEANS_DONE) {
        ragflow_fail_with(op, ERR_UNAVAILABLE,
                          "RAGFlow knows no key at present, and its healthz is not ok: a database "
                          "outage; %.200s",
                          op->denied.msg);
        out->err = op->err;
        return;
    }
    out->health = HEALTH_GOOD;
    if (op->robbed) {
        /* The login itself is taken: nothing is refused, and soon it is this one's turn. */
        ragflow_fail_with(op, ERR_THROTTLED,
                          "others log in to the admin service as %s all the time, and each login "
                          "ends the session before it",
                          op->target->settings->admin_email);
        op->err.retry_after_ms = ROBBED_MS;
        return;
    }
    if (op->held) {
        op->held = false;
        op->was_denied = true;
        explicit_bzero(op->secret, sizeof(op->secret));
        op->phase = PHASE_USER_LOOK;
        return;
    }
    ragflow_fail_with(op, ERR_UNAUTHORIZED, "RAGFlow is well, and refuses %s: %.200s",
                      op->denied_key, op->denied.msg);
    if (!(ragflow_has_tenant(op) && op->secret[0] != '\0')) {
        out->err = op->err;
        out->health = HEALTH_AS_SAID;
    }
}

/* ---- the admin service's session ---- */

void ragflow_build_login(struct driver_op *op, struct exchange_request *r)
{
    const struct driver_settings *s = op->target->settings;
    ragflow_url(r, s->admin_url, "/api/v1/admin/login");
    buf_adds(&r->body, "{\"email\":");
    buf_add_json(&r->body, s->admin_email);
    buf_adds(&r->body, ",\"password\":");
    buf_add_json(&r->body, s->admin_password_wire);
    buf_addc(&r->body, '}');
    ragflow_body(r);
}

/* The session is in the header. The body tells of the user before the login, with a token that is
 * no longer one, and the hash of the password. */
void ragflow_feed_login(struct driver_op *op, const struct ragflow_answer *a,
                        struct driver_outcome *out)
{
    if (a->meaning == MEANS_DONE && a->session[0] != '\0') {
        str_copy(op->site->session, sizeof(op->site->session), a->session);
        op->phase = op->after;
        return;
    }
    if (a->meaning == MEANS_DONE) {
        ragflow_fail_with(op, ERR_UNKNOWN, "the admin service's login names no session");
    } else {
        ragflow_fail_with(op, ERR_UNAUTHORIZED,
                          "the admin service refuses the login; check admin email, password and "
                          "public key of the runtime: %.200s",
                          a->err.msg);
    }
    out->err = op->err;
    out->health = HEALTH_AS_SAID;
}
