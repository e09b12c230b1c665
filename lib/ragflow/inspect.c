/*
 * What can be seen of a RAGFlow from outside, for the operator: nothing is changed, whatever the
 * answers are, and every finding says what to do. A login ends the admin account's session of
 * before: running workers log in again.
 */
#include "ragflow/native.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/str.h"

#define MEND_URL     "check runtimes[].ragflow.url, and that the server runs"
#define MEND_UPGRADE "upgrade to RAGFlow 0.27 or newer"

static const enum ragflow_phase order[] = {PHASE_SEE_VERSION, PHASE_SEE_LANGUAGE, PHASE_SEE_HEALTH,
                                           PHASE_SEE_CONFIG,  PHASE_SEE_ME,       PHASE_SEE_KEYS,
                                           PHASE_SEE_ADMIN,   PHASE_SEE_LOGIN,    PHASE_SEE_MODELS};

/* Whether there is anything to ask with. */
static bool applies(const struct driver_op *op, enum ragflow_phase phase)
{
    const struct driver_settings *s = op->target->settings;
    bool admin = s && s->admin_url;
    switch (phase) {
    case PHASE_SEE_ME:
    case PHASE_SEE_KEYS:
        return op->target->credential != NULL;
    case PHASE_SEE_ADMIN:
        return admin;
    case PHASE_SEE_LOGIN:
        return admin && s->admin_email && s->admin_password_wire;
    case PHASE_SEE_MODELS:
        return s && s->models_key;
    default:
        return true;
    }
}

/* To the next thing to look at, none after the last. */
static void onward(struct driver_op *op)
{
    size_t i = 0;
    while (i < ARRAY_LEN(order) && order[i] != op->phase) {
        i++;
    }
    for (i++; i < ARRAY_LEN(order); i++) {
        if (applies(op, order[i])) {
            op->phase = order[i];
            return;
        }
    }
    op->phase = PHASE_DONE;
}

static void add_tenancy(struct driver_op *op)
{
    static const char subject[] = "tenancy";
    const struct driver_settings *s = op->target->settings;
    switch (s ? s->tenancy : TENANCY_SHARED) {
    case TENANCY_SHARED:
        driver_report_add(op->report, LEVEL_NOTE, subject,
                          "set tenancy: organization or subscription where customers must be "
                          "apart, and hand out no key of this tenant",
                          "shared: all collections are in one RAGFlow tenant; whoever holds one of "
                          "its keys reads and deletes them all");
        return;
    case TENANCY_ORGANIZATION:
        driver_report_add(op->report, LEVEL_OK, subject, NULL,
                          "organization: a RAGFlow tenant for each; subscriptions of one "
                          "organization are not apart");
        return;
    case TENANCY_SUBSCRIPTION:
        driver_report_add(op->report, LEVEL_OK, subject, NULL,
                          "subscription: a RAGFlow tenant for each");
        return;
    }
}

struct driver_op *ragflow_inspect(const struct driver_target *target, struct driver_report *report,
                                  struct err *err)
{
    struct driver_op *op = calloc(1, sizeof(*op));
    struct driver_site *site = target->site ? driver_site_ref(target->site) : ragflow_site_new(err);
    if (!op || !site) {
        free(op);
        driver_site_unref(site);
        err_nomem(err);
        return NULL;
    }
    op->target = target;
    op->site = (struct ragflow_site *)site;
    op->report = report;
    op->goal = DRIVER_ABSENT;
    op->phase = order[0];
    buf_init(&op->ids, 1);
    add_tenancy(op);
    return op;
}

/* ---- the server ---- */

void ragflow_feed_see_version(struct driver_op *op, const struct ragflow_answer *a,
                              struct driver_outcome *out)
{
    static const char subject[] = "version";
    const char *text = cJSON_GetStringValue(a->data);
    struct ragflow_site seen = {.go = false};
    struct err plain;
    (void)out;
    err_set(&plain, ERR_NONE, "%.47s", text ? text : "");
    ragflow_read_version(&seen, text ? text : "");
    bool known = text && seen.number[0] != INT32_MAX;
    if (a->meaning == MEANS_NOT_THERE) {
        driver_report_add(op->report, LEVEL_BAD, subject, MEND_UPGRADE,
                          "older than 0.25: it has no /api/v1/system/version, and is refused");
    } else if (a->meaning != MEANS_DONE) {
        driver_report_add(op->report, LEVEL_BAD, subject, MEND_URL, "not told: %.200s", a->err.msg);
    } else if (!known) {
        driver_report_add(op->report, LEVEL_NOTE, subject,
                          "run a released version: it is taken for the newest", "\"%s\"",
                          plain.msg);
    } else if (!ragflow_site_since(&seen, 0, 25, 2)) {
        driver_report_add(op->report, LEVEL_BAD, subject, MEND_UPGRADE,
                          "%s, older than 0.25.2, is refused", plain.msg);
    } else if (!ragflow_site_since(&seen, 0, 27, 0)) {
        driver_report_add(op->report, LEVEL_NOTE, subject,
                          MEND_UPGRADE ": holes between tenants were closed with every release",
                          "%s", plain.msg);
    } else {
        driver_report_add(op->report, LEVEL_OK, subject, NULL, "%s", plain.msg);
    }
    onward(op);
}

void ragflow_feed_see_language(struct driver_op *op, const struct ragflow_answer *a,
                               struct driver_outcome *out)
{
    const char *language = json_str(a->data, "language");
    (void)out;
    if (str_eq(language, "go")) {
        driver_report_add(op->report, LEVEL_WARN, "server",
                          "set API_PROXY_SCHEME=python in RAGFlow's environment",
                          "the Go variant, which may not keep chunk settings");
    } else if (a->meaning == MEANS_DONE || a->meaning == MEANS_NOT_THERE) {
        driver_report_add(op->report, LEVEL_OK, "server", NULL, "the Python variant");
    }
    onward(op);
}

void ragflow_feed_see_health(struct driver_op *op, const struct ragflow_answer *a,
                             struct driver_outcome *out)
{
    static const char *const parts[] = {"db", "redis", "doc_engine", "storage"};
    bool named = false;
    (void)out;
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        const char *state = json_str(a->json, parts[i]);
        struct err plain;
        err_set(&plain, ERR_NONE, "%.40s", state ? state : "");
        if (state && !str_eq(state, "ok")) {
            named = true;
            driver_report_add(op->report, LEVEL_BAD, "health",
                              "look into RAGFlow's log and that part's", "%s is %s", parts[i],
                              plain.msg);
        }
    }
    op->met = a->meaning == MEANS_DONE; /* what a refused key is judged by */
    if (op->met) {
        driver_report_add(op->report, LEVEL_OK, "health", NULL, "all parts are ok");
    } else if (!named) {
        driver_report_add(op->report, LEVEL_BAD, "health", MEND_URL, "healthz does not answer");
    }
    onward(op);
}

void ragflow_build_see_config(struct driver_op *op, struct exchange_request *r)
{
    ragflow_url(r, op->target->url, "/api/v1/system/config");
}

void ragflow_feed_see_config(struct driver_op *op, const struct ragflow_answer *a,
                             struct driver_outcome *out)
{
    int64_t enabled = 0;
    (void)out;
    bool known = json_i64(a->data, "registerEnabled", &enabled) ||
                 json_get(a->data, "registerEnabled") != NULL;
    if (known && (enabled != 0 || json_bool(a->data, "registerEnabled", false))) {
        driver_report_add(op->report, LEVEL_WARN, "open sign-up",
                          "set REGISTER_ENABLED=0 in RAGFlow's environment",
                          "anybody who reaches the server can make an account");
    } else if (known) {
        driver_report_add(op->report, LEVEL_OK, "open sign-up", NULL, "off");
    }
    onward(op);
}

/* ---- the keys ---- */

/* A refused key says little while the database is away. */
static void add_key_finding(struct driver_op *op, const struct ragflow_answer *a,
                            const char *subject, const char *setting)
{
    char mend[DRIVER_FINDING_MAX + 1], id[RAGFLOW_ID];
    (void)snprintf(mend, sizeof(mend), "make an API key in RAGFlow and set %s", setting);
    if (a->meaning == MEANS_DONE && ragflow_id_of(a->data, "id", id)) {
        driver_report_add(op->report, LEVEL_OK, subject, NULL, "accepted, of tenant %s", id);
    } else if (a->meaning == MEANS_DENIED && !op->met) {
        driver_report_add(op->report, LEVEL_BAD, subject,
                          "mend the database first: RAGFlow refuses every key without it",
                          "refused, and healthz is not ok");
    } else if (a->meaning == MEANS_DENIED || a->err.class == ERR_UNAUTHORIZED) {
        driver_report_add(op->report, LEVEL_BAD, subject, mend, "refused: %.200s", a->err.msg);
    } else {
        driver_report_add(op->report, LEVEL_BAD, subject, MEND_URL, "not tried: %.200s",
                          a->err.class != ERR_NONE ? a->err.msg : "no tenant in the answer");
    }
    if (json_bool(a->data, "is_superuser", false)) {
        driver_report_add(op->report, LEVEL_WARN, subject,
                          "use a key of an account without these rights", "it is a superuser's");
    }
}

void ragflow_feed_see_me(struct driver_op *op, const struct ragflow_answer *a,
                         struct driver_outcome *out)
{
    (void)out;
    add_key_finding(op, a, "credential", "runtimes[].ragflow.api_key");
    onward(op);
}

void ragflow_build_see_keys(struct driver_op *op, struct exchange_request *r)
{
    ragflow_url(r, op->target->url, "/api/v1/system/tokens");
}

void ragflow_feed_see_keys(struct driver_op *op, const struct ragflow_answer *a,
                           struct driver_outcome *out)
{
    (void)out;
    if (a->meaning == MEANS_DONE && cJSON_IsArray(a->data)) {
        driver_report_add(op->report, LEVEL_NOTE, "keys",
                          "hand no key of this tenant to others, and keep the models' provider in "
                          "a tenant of its own",
                          "the tenant has %d; whoever holds one reads all of them, and the "
                          "provider's secret, in clear",
                          cJSON_GetArraySize(a->data));
    }
    onward(op);
}

void ragflow_feed_see_models(struct driver_op *op, const struct ragflow_answer *a,
                             struct driver_outcome *out)
{
    (void)out;
    add_key_finding(op, a, "models tenant", "the runtime's models key");
    onward(op);
}

/* ---- the admin service ---- */

void ragflow_build_see_admin(struct driver_op *op, struct exchange_request *r)
{
    ragflow_url(r, op->target->settings->admin_url, "/api/v1/admin/ping");
}

void ragflow_feed_see_admin(struct driver_op *op, const struct ragflow_answer *a,
                            struct driver_outcome *out)
{
    (void)out;
    if (a->meaning == MEANS_DONE) {
        driver_report_add(op->report, LEVEL_OK, "admin service", NULL, "answers");
    } else {
        driver_report_add(op->report, LEVEL_BAD, "admin service",
                          "start RAGFlow with --enable-adminserver, and check the runtime's admin "
                          "url",
                          "does not answer: %.200s", a->err.msg);
    }
    onward(op);
}

void ragflow_feed_see_login(struct driver_op *op, const struct ragflow_answer *a,
                            struct driver_outcome *out)
{
    static const char subject[] = "admin login";
    (void)out;
    if (a->meaning == MEANS_DONE && a->session[0] != '\0') {
        str_copy(op->site->session, sizeof(op->site->session), a->session);
        driver_report_add(op->report, LEVEL_OK, subject, NULL, "accepted");
    } else if (a->meaning == MEANS_DONE) {
        driver_report_add(op->report, LEVEL_BAD, subject,
                          "let what stands before the admin service pass its Authorization header",
                          "accepted, but the answer names no session");
    } else {
        driver_report_add(op->report, LEVEL_BAD, subject,
                          "check the runtime's admin email and password, and that its public key "
                          "is RAGFlow's conf/public.pem",
                          "refused: %.200s", a->err.msg);
    }
    onward(op);
}
