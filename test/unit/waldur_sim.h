/*
 * One order of one resource at a Waldur inside a test, old (2024) or new (2026), with what its API
 * is known to do wrong, and faults that happen on the way. What was asked is kept as one line:
 *
 *   o, r, k    a look at order, resource, the resource's keys; o:404 with the status of a fault
 *   +order.approve, ...   a change, likewise
 *   ?          the shell was asked      w    a wait
 */
#ifndef TEST_WALDUR_SIM_H
#define TEST_WALDUR_SIM_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/exchange.h"
#include "base/json.h"
#include "base/str.h"
#include "base/uuid.h"
#include "waldur/intake.h"
#include "waldur/key.h"
#include "waldur/report.h"

#define WS_URL          "https://waldur.example/api"
#define WS_TOKEN        "planted-token-of-the-platform"
#define WS_ORDER        "7f3c1c1e-5b1d-4c1e-9c55-0f6f0a2b8a11"
#define WS_ORDER_HEX    "7f3c1c1e5b1d4c1e9c550f6f0a2b8a11"
#define WS_RESOURCE     "2f1c9a52-6a0e-4c55-8f1e-5d2f0c9b7a01"
#define WS_RESOURCE_HEX "2f1c9a526a0e4c558f1e5d2f0c9b7a01"
#define WS_OFFERING     "5aa5c1c8-61f4-4d10-9a55-3a0f6a2b8a55"
#define WS_OFFERING_HEX "5aa5c1c861f44d109a553a0f6a2b8a55"
#define WS_CUSTOMER_HEX "9d0e7a341c1b4a708a3b3f1f5a1f6b02"
#define WS_PROJECT_HEX  "c1f6d1a88f0a4f0eb6a72d8f7f1a9c03"
#define WS_PLAN_HEX     "aaaac1a88f0a4f0eb6a72d8f7f1a9caa"
#define WS_KEY          "11111111-6a0e-4c55-8f1e-5d2f0c9b7a11"
#define WS_NAME         "acme-corp-website-support-csa-001"
#define WS_API_KEY      "pk_live_plantedplantedplantedplanted"

enum { WS_KEYS_MAX = 40, WS_FAULTS_MAX = 8 };

/* Happens to the next request (times: to as many) whose mark is this. */
struct ws_fault {
    const char *mark; /* "o", "+order.done", ...; NULL: any */
    int skip;         /* so many of them pass before */
    int times;
    int status; /* 0: no answer */
    const char *body;
    int64_t retry_after_ms; /* 0: none */
    bool unsent;            /* it never left */
    bool acts;              /* what was asked for happens all the same */
    bool late;              /* and not before the next wait */
};

struct ws_key {
    char uuid[UUID_TEXT];
    char client_id[64];
    enum waldur_key_state state;
};

struct waldur_sim {
    bool old; /* Waldur of 2024 */
    enum waldur_order_type type;
    enum waldur_order_state state;
    enum waldur_resource_state resource_state;
    bool no_order, no_resource; /* 404 */
    const char *resource, *offering, *offering_type, *attributes;
    int slow_approval; /* looks until an approved order executes */
    bool approved;
    bool deaf; /* set_state_done and _erred answer 200 and change nothing: several orders execute */
    bool filtered;                        /* metadata is shown by Waldur's own members alone */
    void (*before)(struct waldur_sim *s); /* somebody else is quicker: called before each request */
    char backend_id[256];
    cJSON *metadata, *endpoints;
    struct ws_key keys[WS_KEYS_MAX];
    size_t n_keys;
    char error_message[512];
    struct ws_fault faults[WS_FAULTS_MAX];
    size_t n_faults;
    char late[40]; /* the change that acts at the next wait */
    char late_url[256];
    char *late_body;
    unsigned posted_to_closed; /* changes of an order that did not execute, but for those allowed */
    struct waldur_site site;
    char log[4096];
    char *body; /* of the last answer */
    /* The shell's answer: backend id, or NULL with a reason, or neither. */
    const char *accept, *leave;
};

static inline struct waldur_sim ws_begin(bool old)
{
    return (struct waldur_sim){.old = old,
                               .type = WALDUR_TYPE_CREATE,
                               .state = WALDUR_ORDER_PENDING_PROVIDER,
                               .resource_state = WALDUR_RESOURCE_CREATING,
                               .resource = WS_RESOURCE_HEX,
                               .offering = WS_OFFERING_HEX,
                               .offering_type = "Marketplace.Slurm",
                               .attributes = "{\"name\":\"my-ws\"}",
                               .accept = WS_NAME};
}

static inline void ws_end(struct waldur_sim *s)
{
    cJSON_Delete(s->metadata);
    cJSON_Delete(s->endpoints);
    free(s->body);
    free(s->late_body);
    memset(s, 0, sizeof(*s));
}

static inline struct waldur_access ws_access(struct waldur_sim *s)
{
    return (struct waldur_access){.url = WS_URL,
                                  .credential = WS_TOKEN,
                                  .timeout_ms = 30000,
                                  .settle_ms = 10,
                                  .site = &s->site};
}

static inline void ws_fault(struct waldur_sim *s, struct ws_fault fault)
{
    assert_true(s->n_faults < WS_FAULTS_MAX);
    fault.times = fault.times ? fault.times : 1;
    s->faults[s->n_faults++] = fault;
}

static inline void ws_add_key(struct waldur_sim *s, const char *client_id,
                              enum waldur_key_state state)
{
    assert_true(s->n_keys < WS_KEYS_MAX);
    struct ws_key *k = &s->keys[s->n_keys++];
    snprintf(k->uuid, sizeof(k->uuid), "%08zu-6a0e-4c55-8f1e-5d2f0c9b7a11",
             (size_t)11111110 + s->n_keys);
    str_copy(k->client_id, sizeof(k->client_id), client_id);
    k->state = state;
}

static inline void ws_log(struct waldur_sim *s, const char *mark)
{
    size_t n = strlen(s->log);
    snprintf(s->log + n, sizeof(s->log) - n, "%s%s", n ? " " : "", mark);
}

/* ---- bodies ---- */

static inline void ws_order_body(const struct waldur_sim *s, struct buf *b)
{
    buf_addf(b,
             "{\"url\":\"" WS_URL "/marketplace-orders/" WS_ORDER_HEX "/\",\"uuid\":\"%s\","
             "\"type\":\"%s\",\"state\":\"%s\",\"resource_uuid\":null,"
             "\"marketplace_resource_uuid\":\"%s\",\"offering_uuid\":\"%s\","
             "\"offering_type\":\"%s\",\"offering_name\":\"AI workspace\",\"plan_uuid\":"
             "\"" WS_PLAN_HEX "\",\"plan_name\":\"Pro\",\"customer_uuid\":\"" WS_CUSTOMER_HEX
             "\",\"customer_name\":\"Acme Corp\",\"customer_slug\":\"acme-corp\",\"project_uuid\":"
             "\"" WS_PROJECT_HEX "\",\"project_name\":\"Website Support\",\"project_slug\":"
             "\"website-support\",\"resource_name\":\"my-ws\",\"limits\":{\"requests\":120},"
             "\"attributes\":%s,\"cost\":\"10.0\",\"created\":\"2026-11-21T10:00:00.123456Z\","
             "\"modified\":\"2026-11-21T10:05:00Z\",\"created_by_email\":\"jane@example.com\","
             "\"error_message\":\"\"%s}",
             s->old ? WS_ORDER_HEX : WS_ORDER, waldur_order_type_name(s->type),
             waldur_order_state_name(s->state), s->resource, s->offering, s->offering_type,
             s->attributes, s->old ? "" : ",\"slug\":\"my-ws-order\",\"backend_id\":\"\"");
}

static inline void ws_add_tree(struct buf *b, const cJSON *tree, const char *none)
{
    char *text = tree ? json_text(tree) : NULL;
    buf_adds(b, text ? text : none);
    free(text);
}

static inline void ws_resource_body(const struct waldur_sim *s, struct buf *b)
{
    buf_addf(b,
             "{\"uuid\":\"%s\",\"name\":\"my-ws\",\"state\":\"%s\",\"paused\":false,"
             "\"offering_uuid\":\"%s\",\"plan_uuid\":\"" WS_PLAN_HEX "\",\"plan_name\":\"Pro\","
             "\"customer_uuid\":\"" WS_CUSTOMER_HEX "\",\"customer_name\":\"Acme Corp\","
             "\"project_uuid\":\"" WS_PROJECT_HEX "\",\"project_name\":\"Website Support\","
             "\"created\":\"2026-11-21T10:00:00Z\",\"modified\":\"2026-11-21T10:05:00Z\","
             "\"backend_id\":",
             s->old ? WS_RESOURCE_HEX : WS_RESOURCE, waldur_resource_state_name(s->resource_state),
             s->offering);
    buf_add_json(b, s->backend_id);
    buf_adds(b, ",\"backend_metadata\":");
    ws_add_tree(b, s->filtered ? NULL : s->metadata, "{}");
    buf_adds(b, ",\"endpoints\":");
    ws_add_tree(b, s->endpoints, "[]");
    buf_adds(b, s->old ? "}"
                       : ",\"slug\":\"my-ws\",\"customer_slug\":\"acme-corp\",\"project_slug\":"
                         "\"website-support\",\"offering_slug\":\"ai-workspace\"}");
}

static inline void ws_keys_body(const struct waldur_sim *s, const char *url, struct buf *b,
                                int *status)
{
    const char *at = strstr(url, "&page=");
    size_t page = at ? (size_t)strtoul(at + 6, NULL, 10) : 1, from = (page - 1) * 10;
    if (page > 1 && from >= s->n_keys) {
        *status = 404;
        buf_adds(b, "{\"detail\":\"Invalid page.\"}");
        return;
    }
    buf_addc(b, '[');
    /* This one does not honour page_size. */
    for (size_t i = from; i < s->n_keys && i < from + 10; i++) {
        buf_addf(b,
                 "%s{\"uuid\":\"%s\",\"resource_uuid\":\"" WS_RESOURCE_HEX
                 "\",\"resource_backend_id\":\"\",\"modified\":\"2026-11-21T10:05:00Z\","
                 "\"client_id\":\"%s\",\"state\":\"%s\",\"error_message\":\"\"}",
                 i > from ? "," : "", s->keys[i].uuid, s->keys[i].client_id,
                 waldur_key_state_name(s->keys[i].state));
    }
    buf_addc(b, ']');
}

/* ---- changes ---- */

static inline int ws_conflict(struct buf *b)
{
    buf_adds(b, "{\"detail\":\"Valid states for operation: executing.\"}");
    return 409;
}

static inline int ws_close(struct waldur_sim *s, enum waldur_order_state to, struct buf *b)
{
    if (s->state != WALDUR_ORDER_EXECUTING) {
        s->posted_to_closed++;
        if (to == WALDUR_ORDER_DONE) {
            return ws_conflict(b);
        }
        s->resource_state = WALDUR_RESOURCE_ERRED; /* no check at all */
        return 200;
    }
    if (!s->deaf) {
        s->state = to;
        s->resource_state = to == WALDUR_ORDER_DONE ? WALDUR_RESOURCE_OK
                            : s->backend_id[0]      ? WALDUR_RESOURCE_ERRED
                                                    : WALDUR_RESOURCE_TERMINATED;
    }
    return 200;
}

static inline cJSON *ws_take(const cJSON *body, const char *name)
{
    return cJSON_Duplicate(json_get(body, name), true);
}

static inline int ws_key_report(struct waldur_sim *s, const cJSON *body)
{
    assert_string_equal(json_str(body, "resource"), WS_RESOURCE);
    assert_string_equal(json_str(body, "api_key"), WS_API_KEY);
    ws_add_key(s, json_str(body, "client_id"), WALDUR_KEY_OK);
    return 201;
}

static inline int ws_key_set(struct waldur_sim *s, const char *url, const cJSON *body)
{
    for (size_t i = 0; i < s->n_keys; i++) {
        if (strstr(url, s->keys[i].uuid)) {
            const char *client = json_str(body, "client_id");
            bool erred = strstr(url, "/set_erred/") != NULL;
            s->keys[i].state = erred ? WALDUR_KEY_ERRED : WALDUR_KEY_OK;
            if (client) {
                str_copy(s->keys[i].client_id, sizeof(s->keys[i].client_id), client);
            }
            return 200;
        }
    }
    return 404;
}

static inline int ws_change(struct waldur_sim *s, const char *effect, const char *url,
                            const cJSON *body, struct buf *b)
{
    if (str_eq(effect, "order.approve")) {
        if (s->state != WALDUR_ORDER_PENDING_PROVIDER || s->approved) {
            return ws_conflict(b);
        }
        s->approved = true;
        s->state = s->slow_approval ? s->state : WALDUR_ORDER_EXECUTING;
        return 200;
    }
    if (str_eq(effect, "order.executing")) {
        if (s->state != WALDUR_ORDER_ERRED) {
            return ws_conflict(b);
        }
        s->state = WALDUR_ORDER_EXECUTING;
        return 200;
    }
    if (str_eq(effect, "order.done")) {
        return ws_close(s, WALDUR_ORDER_DONE, b);
    }
    if (str_eq(effect, "order.erred")) {
        /* Waldur of 2024 reads both, there or not. */
        assert_non_null(json_str(body, "error_message"));
        assert_non_null(json_str(body, "error_traceback"));
        str_copy(s->error_message, sizeof(s->error_message), json_str(body, "error_message"));
        return ws_close(s, WALDUR_ORDER_ERRED, b);
    }
    if (str_eq(effect, "resource.backend_id")) {
        str_copy(s->backend_id, sizeof(s->backend_id), json_str(body, "backend_id"));
    } else if (str_eq(effect, "resource.metadata")) {
        cJSON_Delete(s->metadata);
        s->metadata = ws_take(body, "backend_metadata");
    } else if (str_eq(effect, "resource.endpoints")) {
        if (s->old) {
            buf_adds(b, "<h1>Not Found</h1>");
            return 404;
        }
        cJSON_Delete(s->endpoints);
        s->endpoints = ws_take(body, "endpoints");
    } else if (str_eq(effect, "key.report")) {
        return s->old ? 404 : ws_key_report(s, body);
    } else {
        return ws_key_set(s, url, body);
    }
    buf_adds(b, "{\"status\":\"it has been changed.\"}");
    return 200;
}

static inline cJSON *ws_parse(const char *text)
{
    cJSON *tree = cJSON_Parse(text);
    assert_non_null(tree);
    return tree;
}

static inline void ws_late(struct waldur_sim *s)
{
    if (s->late[0]) {
        struct buf b;
        buf_init(&b, 4096);
        cJSON *body = ws_parse(s->late_body);
        (void)ws_change(s, s->late, s->late_url, body, &b);
        cJSON_Delete(body);
        buf_done(&b);
        s->late[0] = '\0';
    }
}

/* ---- requests ---- */

/* What is asked for; the URL is the very one, and of nothing else. */
static inline const char *ws_mark_of(const struct waldur_action *a, const char *resource)
{
    static char mark[48];
    char look[256];
    const char *url = a->request.url;
    if (a->effect) {
        static const struct {
            const char *effect, *collection, *action;
        } posts[] = {
            {"order.approve", "orders", "approve_by_provider"},
            {"order.executing", "orders", "set_state_executing"},
            {"order.done", "orders", "set_state_done"},
            {"order.erred", "orders", "set_state_erred"},
            {"resource.backend_id", "provider-resources", "set_backend_id"},
            {"resource.metadata", "provider-resources", "set_backend_metadata"},
            {"resource.endpoints", "provider-resources", "set_endpoints"},
        };
        char wanted[256] = "";
        for (size_t i = 0; i < ARRAY_LEN(posts); i++) {
            if (str_eq(posts[i].effect, a->effect)) {
                snprintf(
                    wanted, sizeof(wanted), WS_URL "/marketplace-%s/%s/%s/", posts[i].collection,
                    str_eq(posts[i].collection, "orders") ? WS_ORDER : resource, posts[i].action);
            }
        }
        if (str_eq(a->effect, "key.report")) {
            str_copy(wanted, sizeof(wanted),
                     WS_URL "/marketplace-resource-api-keys/report_created/");
        }
        if (wanted[0]) {
            assert_string_equal(url, wanted);
        } else {
            const char *rest = url + strlen(WS_URL "/marketplace-resource-api-keys/");
            char uuid[UUID_TEXT];
            assert_true(str_starts(url, WS_URL "/marketplace-resource-api-keys/"));
            assert_true(strlen(rest) > 36 && uuid_parse(rest, 36, uuid));
            assert_string_equal(rest + 36,
                                str_eq(a->effect, "key.set") ? "/set_key/" : "/set_erred/");
        }
        assert_int_equal(a->request.method, METHOD_POST);
        assert_string_equal(a->request.content_type, "application/json");
        assert_true(a->request.fresh_connection);
        snprintf(mark, sizeof(mark), "+%s", a->effect);
        return mark;
    }
    assert_int_equal(a->request.method, METHOD_GET);
    assert_null(a->request.content_type);
    if (str_eq(url, WS_URL "/marketplace-orders/" WS_ORDER "/")) {
        return "o";
    }
    snprintf(look, sizeof(look), WS_URL "/marketplace-provider-resources/%s/", resource);
    if (str_eq(url, look)) {
        return "r";
    }
    snprintf(
        look, sizeof(look),
        WS_URL "/marketplace-resource-api-keys/?resource_uuid=%s&page_size=100&page=", resource);
    assert_true(str_starts(url, look));
    return "k";
}

static inline const char *ws_mark(const struct waldur_action *a)
{
    return ws_mark_of(a, WS_RESOURCE);
}

static inline int ws_serve(struct waldur_sim *s, const struct waldur_action *a, struct buf *b)
{
    static const char not_found[] = "{\"detail\":\"Not found.\"}";
    const char *mark = ws_mark(a);
    int status = 200;
    if (a->effect) {
        cJSON *body = ws_parse(buf_str(&a->request.body));
        status = ws_change(s, a->effect, a->request.url, body, b);
        cJSON_Delete(body);
        return status;
    }
    if (str_eq(mark, "o") ? s->no_order : str_eq(mark, "r") && s->no_resource) {
        buf_adds(b, not_found);
        return 404;
    }
    if (str_eq(mark, "o")) {
        if (s->approved && s->state == WALDUR_ORDER_PENDING_PROVIDER && --s->slow_approval <= 0) {
            s->state = WALDUR_ORDER_EXECUTING;
        }
        ws_order_body(s, b);
    } else if (str_eq(mark, "r")) {
        ws_resource_body(s, b);
    } else if (s->old) {
        buf_adds(b, "<!doctype html><h1>Not Found</h1>");
        return 404;
    } else {
        ws_keys_body(s, a->request.url, b, &status);
    }
    return status;
}

static inline struct ws_fault *ws_fault_of(struct waldur_sim *s, const char *mark)
{
    for (size_t i = 0; i < s->n_faults; i++) {
        struct ws_fault *f = &s->faults[i];
        if (f->times > 0 && (!f->mark || str_eq(f->mark, mark))) {
            if (f->skip > 0) {
                f->skip--;
                continue;
            }
            f->times--;
            return f;
        }
    }
    return NULL;
}

static inline struct exchange_response ws_answer(struct waldur_sim *s,
                                                 const struct waldur_action *a)
{
    struct exchange_response r = {.sent = true, .body = "", .retry_after_ms = -1};
    char mark[64], entry[80];
    struct buf b;
    assert_string_equal(a->request.auth_header, "Authorization");
    assert_string_equal(a->request.auth_scheme, "Token ");
    assert_string_equal(a->request.credential, WS_TOKEN);
    str_copy(mark, sizeof(mark), ws_mark(a));
    if (s->before) {
        s->before(s);
    }
    buf_init(&b, 1 << 20);
    struct ws_fault *f = ws_fault_of(s, mark);
    if (f && f->late && a->effect) {
        str_copy(s->late, sizeof(s->late), a->effect);
        str_copy(s->late_url, sizeof(s->late_url), a->request.url);
        free(s->late_body);
        s->late_body = str_dup(buf_str(&a->request.body));
    } else if (!f || f->acts) {
        r.status = ws_serve(s, a, &b);
    }
    if (f) {
        buf_reset(&b);
        buf_adds(&b, f->body ? f->body : "");
        r.status = f->status;
        r.sent = !f->unsent;
        r.retry_after_ms = f->retry_after_ms ? f->retry_after_ms : -1;
        str_copy(r.failure, sizeof(r.failure), f->status ? "" : "connection reset");
        snprintf(entry, sizeof(entry), "%s:%d", mark, f->status);
    } else {
        str_copy(entry, sizeof(entry), mark);
    }
    ws_log(s, entry);
    free(s->body);
    r.body_len = b.len;
    s->body = buf_steal(&b);
    r.body = s->body ? s->body : "";
    return r;
}

/* The operation to its end. */
static inline struct waldur_action ws_drive(struct waldur_sim *s, struct waldur_op *op)
{
    struct waldur_action a;
    for (int turns = 0; turns < 1000; turns++) {
        waldur_op_next(op, &a);
        if (a.turn == WALDUR_DONE || a.turn == WALDUR_FAILED) {
            assert_null(strstr(a.err.msg, WS_TOKEN));
            assert_null(strstr(a.err.msg, WS_API_KEY));
            return a;
        }
        if (a.turn == WALDUR_WAIT) {
            assert_true(a.wait_ms > 0);
            ws_log(s, "w");
            ws_late(s);
        } else if (a.turn == WALDUR_ASK) {
            ws_log(s, "?");
            if (s->leave) {
                waldur_intake_leave(op, s->leave);
            } else {
                waldur_intake_accept(op, s->accept);
            }
        } else {
            struct waldur_outcome out;
            struct exchange_response r = ws_answer(s, &a);
            waldur_op_feed(op, &r, &out);
            assert_int_equal(out.effect != WALDUR_EFFECT_NONE, a.effect != NULL);
            assert_null(strstr(out.err.msg, WS_TOKEN));
            assert_null(strstr(out.err.msg, WS_API_KEY));
            exchange_request_done(&a.request);
        }
    }
    fail_msg("unbounded: %s", s->log);
    return a;
}

#endif
