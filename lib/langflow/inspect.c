/*
 * What can be seen of a Langflow from outside, and what to do about it. Nothing is ever made.
 */
#include "langflow/native.h"

#include <string.h>

#include "base/str.h"

enum { MINOR_SAFE = 10, MINOR_KEYS_STOP = 12 };

static void add(struct driver_op *op, enum driver_level level, const char *subject,
                const char *mend, const char *what)
{
    driver_report_add(op->report, level, subject, mend, "%s", what);
}

static void over(struct driver_op *op)
{
    op->inspected++;
}

/* ---- version ---- */

static void build_version(struct driver_op *op, struct exchange_request *r)
{
    langflow_url(op, r, "/api/v1/version", NULL, NULL);
}

/* 1.10.0 is older than 1.10.1. */
static bool is_safe(const char *version, int minor)
{
    return minor > MINOR_SAFE || (minor == MINOR_SAFE && !str_starts(version, "1.10.0"));
}

static bool feed_version(struct driver_op *op, struct langflow_answer *a)
{
    static const char upgrade[] = "upgrade Langflow to 1.10.1 or later, best to 1.12 or later";
    char text[DRIVER_VERSION_MAX + 1];
    int minor = 0;
    over(op);
    if (a->verdict == VERDICT_OPEN) {
        return false;
    }
    if (!langflow_read_version(a->r, text, &minor)) {
        driver_report_add(op->report, LEVEL_BAD, "version",
                          "check the runtime's langflow.url, and that Langflow 1.10.1 or later "
                          "answers there",
                          "GET /api/v1/version says no version (HTTP %d)", a->r->status);
        return true;
    }
    op->site->minor = minor;
    str_copy(op->site->base.version, sizeof(op->site->base.version), text);
    if (minor < 8) {
        driver_report_add(op->report, LEVEL_BAD, "version", upgrade,
                          "Langflow %s cannot make a flow under a given id", text);
    } else if (!is_safe(text, minor)) {
        driver_report_add(op->report, LEVEL_WARN, "version", upgrade,
                          "Langflow %s: users can read and build vertices of other users' flows "
                          "(GHSA-gh98-4phw-6fmw)%s",
                          text,
                          minor < MINOR_SAFE
                              ? ", delete others' chat sessions, and webhooks are open to anybody"
                              : "");
    } else {
        driver_report_add(op->report, LEVEL_OK, "version", NULL, "Langflow %s", text);
    }
    if (minor >= 8 && minor < MINOR_KEYS_STOP) {
        add(op, LEVEL_NOTE, "closing", "upgrade to 1.12 or later, where it does",
            "keys of inactive users still run flows: closing a workspace relies on deleting all "
            "of its keys");
    }
    return true;
}

/* ---- health ---- */

static void build_health(struct driver_op *op, struct exchange_request *r)
{
    langflow_url(op, r, "/health_check", NULL, NULL);
}

static bool feed_health(struct driver_op *op, struct langflow_answer *a)
{
    cJSON *json = langflow_tree(a);
    bool fine = str_eq(json_str(json, "status"), "ok") && str_eq(json_str(json, "db"), "ok");
    cJSON_Delete(json);
    over(op);
    if (fine) {
        add(op, LEVEL_OK, "health", NULL, "service and database say ok");
    } else {
        driver_report_add(op->report, LEVEL_BAD, "health", "see Langflow's log and its database",
                          "GET /health_check does not say ok (HTTP %d)", a->r->status);
    }
    return true;
}

/* ---- credential ---- */

static void build_whoami(struct driver_op *op, struct exchange_request *r)
{
    langflow_url(op, r, "/api/v1/users/whoami", NULL, NULL);
}

static bool feed_whoami(struct driver_op *op, struct langflow_answer *a)
{
    static const char mend[] = "give the runtime's langflow.api_key a key of a superuser (langflow "
                               "api-key, or LANGFLOW_API_KEY_SOURCE=env)";
    cJSON *json = langflow_tree(a);
    const char *name = json_str(json, "username");
    over(op);
    if (!name) {
        driver_report_add(op->report, LEVEL_BAD, "credential", mend,
                          "Langflow does not take the platform's key (HTTP %d)", a->r->status);
    } else if (!json_bool(json, "is_superuser", false)) {
        add(op, LEVEL_BAD, "credential", mend, "the platform's key is not a superuser's");
    } else {
        add(op, LEVEL_OK, "credential", NULL, "the platform's key is a superuser's");
        if (!str_copy(op->superuser, sizeof(op->superuser), name)) {
            op->superuser[0] = '\0';
        }
    }
    cJSON_Delete(json);
    return true;
}

/* ---- doors ---- */

static void build_auto_login(struct driver_op *op, struct exchange_request *r)
{
    langflow_url(op, r, "/api/v1/auto_login", NULL, NULL);
}

static bool feed_auto_login(struct driver_op *op, struct langflow_answer *a)
{
    over(op);
    if (a->verdict == VERDICT_GOOD) {
        add(op, LEVEL_BAD, "automatic login",
            "set LANGFLOW_AUTO_LOGIN=false with LANGFLOW_SUPERUSER and "
            "LANGFLOW_SUPERUSER_PASSWORD, and restart Langflow",
            "anybody is logged in as the superuser without a password");
    } else if (a->verdict == VERDICT_DENIED || a->verdict == VERDICT_REFUSED) {
        add(op, LEVEL_OK, "automatic login", NULL, "off");
    } else {
        driver_report_add(op->report, LEVEL_NOTE, "automatic login", NULL,
                          "GET /api/v1/auto_login says nothing (HTTP %d)", a->r->status);
    }
    return true;
}

/* The superuser's own name is taken: where anybody may sign up the server says that, and makes
 * nothing. */
static void build_sign_up(struct driver_op *op, struct exchange_request *r)
{
    langflow_url(op, r, "/api/v1/users/", NULL, NULL);
    langflow_json(r);
    buf_adds(&r->body, "{\"username\":");
    buf_add_json(&r->body, op->superuser);
    buf_adds(&r->body, ",\"password\":\"nobody-signs-up-with-this\"}");
}

static bool feed_sign_up(struct driver_op *op, struct langflow_answer *a)
{
    bool old = !langflow_since(op, 10);
    over(op);
    if (a->verdict == VERDICT_DENIED) {
        add(op, LEVEL_OK, "open sign-up", NULL, "off");
    } else if (a->r->status == 400 || a->verdict == VERDICT_GOOD) {
        add(op, LEVEL_BAD, "open sign-up",
            old ? "upgrade to 1.10.1 or later and set LANGFLOW_ENABLE_SIGNUP=false; until then "
                  "keep "
                  "LANGFLOW_NEW_USER_IS_ACTIVE=false, and /api/v1/users/ away from the outside"
                : "set LANGFLOW_ENABLE_SIGNUP=false and restart Langflow",
            "anybody may make an account");
    } else {
        driver_report_add(op->report, LEVEL_NOTE, "open sign-up", NULL,
                          "could not be seen (HTTP %d)", a->r->status);
    }
    return true;
}

/* ---- settings ---- */

static void build_config(struct driver_op *op, struct exchange_request *r)
{
    langflow_url(op, r, "/api/v1/config", NULL, NULL);
}

static void see_webhooks(struct driver_op *op, bool shut)
{
    if (shut) {
        add(op, LEVEL_OK, "webhooks", NULL, "want a key");
        return;
    }
    add(op, LEVEL_WARN, "webhooks", "set LANGFLOW_WEBHOOK_AUTH_ENABLE=true and restart Langflow",
        langflow_since(op, 10) ? "anybody runs flows through their webhooks"
                               : "anybody runs flows through their webhooks, those of closed "
                                 "workspaces, too");
}

/* Who says nothing of them allows them. */
static void see_rest(struct driver_op *op, const cJSON *json)
{
    if (json_bool(json, "allow_custom_components", true)) {
        add(op, LEVEL_NOTE, "custom components",
            "isolate the server: its files, its network, its environment; or set "
            "LANGFLOW_ALLOW_CUSTOM_COMPONENTS=false where templates do without them",
            "tenants can run Python in the server");
    }
    if (json_bool(json, "a2a_enabled", false)) {
        add(op, LEVEL_NOTE, "agents", "set LANGFLOW_A2A_ENABLED=false and restart Langflow",
            "flows can be published as agents (A2A), which closing a workspace does not look at");
    }
}

/* Without a key that counts an answer has little in it. */
static bool feed_config(struct driver_op *op, struct langflow_answer *a)
{
    cJSON *json = langflow_tree(a);
    const cJSON *webhooks = json_get(json, "webhook_auth_enable");
    over(op);
    if (cJSON_IsBool(webhooks)) {
        see_webhooks(op, cJSON_IsTrue(webhooks));
        see_rest(op, json);
    } else {
        driver_report_add(op->report, LEVEL_NOTE, "webhooks", NULL,
                          "GET /api/v1/config does not say whether they want a key (HTTP %d)",
                          a->r->status);
    }
    cJSON_Delete(json);
    return true;
}

static void build_users(struct driver_op *op, struct exchange_request *r)
{
    langflow_url(op, r, "/api/v1/users/?limit=1", NULL, NULL);
}

static bool feed_users(struct driver_op *op, struct langflow_answer *a)
{
    over(op);
    if (a->verdict == VERDICT_GOOD) {
        add(op, LEVEL_BAD, "access without a key",
            "set LANGFLOW_SKIP_AUTH_AUTO_LOGIN=false and LANGFLOW_AUTO_LOGIN=false, and restart "
            "Langflow",
            "the list of users is shown to anybody");
    }
    return true;
}

static void build_messages(struct driver_op *op, struct exchange_request *r)
{
    langflow_url(op, r, "/api/v1/monitor/messages?session_id=none-has-this", NULL, NULL);
}

static bool feed_messages(struct driver_op *op, struct langflow_answer *a)
{
    over(op);
    if (a->verdict == VERDICT_GOOD) {
        add(op, LEVEL_BAD, "access without a key", "upgrade Langflow to 1.10.1 or later",
            "chat messages are shown to anybody");
    }
    return true;
}

static const struct langflow_step looks[] = {
    {.what = "reading Langflow's version",
     .method = METHOD_GET,
     .build = build_version,
     .feed = feed_version},
    {.what = "asking for Langflow's health",
     .method = METHOD_GET,
     .build = build_health,
     .feed = feed_health},
    {.what = "asking whose the platform's key is",
     .method = METHOD_GET,
     .as = AS_PLATFORM,
     .build = build_whoami,
     .feed = feed_whoami},
    {.what = "trying the automatic login",
     .method = METHOD_GET,
     .build = build_auto_login,
     .feed = feed_auto_login},
    {.what = "trying to sign up",
     .method = METHOD_POST,
     .build = build_sign_up,
     .feed = feed_sign_up},
    {.what = "reading Langflow's settings",
     .method = METHOD_GET,
     .as = AS_PLATFORM,
     .build = build_config,
     .feed = feed_config},
    {.what = "listing users without a key",
     .method = METHOD_GET,
     .build = build_users,
     .feed = feed_users},
    {.what = "listing messages without a key",
     .method = METHOD_GET,
     .build = build_messages,
     .feed = feed_messages},
};

const struct langflow_step *langflow_inspect_plan(struct driver_op *op)
{
    if (op->inspected < ARRAY_LEN(looks) && looks[op->inspected].feed == feed_sign_up &&
        op->superuser[0] == '\0') {
        add(op, LEVEL_NOTE, "open sign-up", "mend the credential first",
            "could not be looked at without a superuser's name");
        over(op);
    }
    if (op->inspected == ARRAY_LEN(looks)) {
        op->done = true;
        return NULL;
    }
    return &looks[op->inspected];
}
