/*
 * An operation on Waldur against a server gone mad (property.h): whatever it answers, the operation
 * ends, asks about nothing but what it was given, posts nothing that its last looks do not justify,
 * takes nothing for done that no look showed, and says no secret.
 */
#ifndef TEST_WALDUR_MAD_H
#define TEST_WALDUR_MAD_H

#include "property.h"
#include "waldur/list.h"
#include "waldur_sim.h"

enum { MAD_KEYS_MAX = 4000, MAD_REQUESTS_MAX = 200 };

#define MAD_CLIENT "pk_live_abcd"

/* What kind of operation. */
enum mad_kind { MAD_INTAKE, MAD_DONE, MAD_ERRED, MAD_KEY, MAD_NO_KEY, MAD_LIST, MAD_KINDS };

struct mad_key {
    char uuid[UUID_TEXT];
    enum waldur_key_state state;
};

struct waldur_mad {
    enum mad_kind kind;
    enum waldur_list_kind list;
    bool leaves, terminates; /* what the shell says to an intake */
    uint64_t seed;
    struct waldur_site site;
    /* Where answers come from; the body stays the source's until it is asked again. */
    void *ctx;
    void (*give)(void *ctx, const struct waldur_action *a, struct exchange_response *out);
    /* What was seen last. */
    bool order_last; /* the last request was a look at the order, and it was readable */
    enum waldur_order_state order; /* as it showed; UNKNOWN until one did */
    char backend_id[WALDUR_BACKEND_ID_MAX * 4 + 1];
    struct mad_key keys[MAD_KEYS_MAX]; /* of our resource, in the listing that is read */
    size_t n_keys;
    bool client_shown;
    bool asked;
    char resource[UUID_TEXT]; /* what it is about: an intake is told by the order */
};

static inline void waldur_mad_broken(const struct waldur_mad *m, const char *why)
{
    fail_msg("%s; PROPERTY_SEED=%" PRIu64, why, m->seed);
}

#define MAD_HOLDS(m, property)                                                                     \
    do {                                                                                           \
        if (!(property)) {                                                                         \
            waldur_mad_broken((m), "does not hold: " #property);                                   \
        }                                                                                          \
    } while (0)

/* Was a row shown that says that this key is waited for? */
static inline bool mad_waits(const struct waldur_mad *m, const char *url)
{
    bool waits = false;
    for (size_t i = 0; i < m->n_keys && !waits; i++) {
        waits = strstr(url, m->keys[i].uuid) && m->keys[i].state == WALDUR_KEY_UPDATING;
    }
    return waits;
}

static inline void waldur_mad_asked(struct waldur_mad *m, const struct waldur_action *a)
{
    const char *effect = a->effect ? a->effect : "";
    MAD_HOLDS(m, (a->request.method == METHOD_POST) == (a->effect != NULL));
    MAD_HOLDS(m, str_eq(a->request.credential, WS_TOKEN));
    MAD_HOLDS(m, !strstr(a->request.url, WS_API_KEY) && !strstr(a->request.url, WS_TOKEN));
    if (m->kind == MAD_LIST) {
        MAD_HOLDS(m, !a->effect && str_starts(a->request.url, WS_URL "/"));
        return;
    }
    (void)ws_mark_of(a, m->resource); /* the URL is one of those about what was given */
    if (str_eq(effect, "order.done") || str_eq(effect, "order.erred")) {
        MAD_HOLDS(m, m->order_last && m->order == WALDUR_ORDER_EXECUTING);
        MAD_HOLDS(m, m->kind == (str_eq(effect, "order.done") ? MAD_DONE : MAD_ERRED));
    } else if (str_eq(effect, "order.executing")) {
        MAD_HOLDS(m, m->order_last && m->order == WALDUR_ORDER_ERRED && m->kind == MAD_DONE);
    } else if (str_eq(effect, "order.approve")) {
        MAD_HOLDS(m,
                  m->kind == MAD_INTAKE && m->asked && m->order == WALDUR_ORDER_PENDING_PROVIDER);
    } else if (str_starts(effect, "resource.")) {
        MAD_HOLDS(m, m->order == WALDUR_ORDER_EXECUTING);
        MAD_HOLDS(m, m->kind == MAD_DONE || str_eq(effect, "resource.backend_id"));
        MAD_HOLDS(m, !strstr(buf_str(&a->request.body), WS_API_KEY));
    } else if (str_eq(effect, "key.report")) {
        MAD_HOLDS(m, m->kind == MAD_DONE && !m->client_shown);
        MAD_HOLDS(m, m->order == WALDUR_ORDER_EXECUTING || m->order == WALDUR_ORDER_DONE);
    } else if (a->effect) {
        MAD_HOLDS(m, m->kind == (str_eq(effect, "key.set") ? MAD_KEY : MAD_NO_KEY));
        MAD_HOLDS(m, m->kind == MAD_NO_KEY || !m->client_shown);
        MAD_HOLDS(m, mad_waits(m, a->request.url));
    }
}

static inline void mad_saw_keys(struct waldur_mad *m, const char *url, const cJSON *rows)
{
    const cJSON *row = NULL;
    if (str_eq(strstr(url, "&page="), "&page=1")) {
        m->n_keys = 0;
        m->client_shown = false;
    }
    cJSON_ArrayForEach(row, rows)
    {
        char uuid[UUID_TEXT] = "", resource[UUID_TEXT] = "";
        const char *one = json_str(row, "uuid"), *of = json_str(row, "resource_uuid");
        bool ours = one && of && uuid_parse(one, strlen(one), uuid) &&
                    uuid_parse(of, strlen(of), resource) && str_eq(resource, WS_RESOURCE);
        if (ours && m->n_keys < MAD_KEYS_MAX) {
            struct mad_key *key = &m->keys[m->n_keys++];
            memcpy(key->uuid, uuid, sizeof(uuid));
            key->state = waldur_key_state_parse(json_str(row, "state"));
            m->client_shown = m->client_shown || str_eq(json_str(row, "client_id"), MAD_CLIENT);
        }
    }
}

static inline void waldur_mad_saw(struct waldur_mad *m, const struct waldur_action *a,
                                  const struct exchange_response *r)
{
    cJSON *tree = mad_tree(r);
    struct waldur_order o;
    struct waldur_resource s;
    struct json_fault fault;
    const char *mark = m->kind == MAD_LIST ? "" : ws_mark_of(a, m->resource);
    m->order_last = false;
    if (str_eq(mark, "o") && tree && waldur_order_decode(r->body, r->body_len, &o, &fault) == 0) {
        m->order_last = str_eq(o.uuid, WS_ORDER);
        m->order = m->order_last ? o.state : m->order;
        if (m->order_last && m->kind == MAD_INTAKE && !m->asked) {
            memcpy(m->resource, o.resource_uuid, sizeof(m->resource));
        }
        waldur_order_done(&o);
    } else if (str_eq(mark, "r") && tree &&
               waldur_resource_decode(r->body, r->body_len, &s, &fault) == 0) {
        str_copy(m->backend_id, sizeof(m->backend_id), s.backend_id);
        waldur_resource_done(&s);
    } else if (str_eq(mark, "k")) {
        mad_saw_keys(m, a->request.url, tree);
    }
    cJSON_Delete(tree);
}

/* The key is one where the operation has it. */
static inline void mad_secrets(const struct waldur_mad *m, const char *text)
{
    bool has_key = m->kind == MAD_DONE || m->kind == MAD_ERRED || m->kind == MAD_KEY;
    MAD_HOLDS(m, !strstr(text, WS_TOKEN));
    MAD_HOLDS(m, !has_key || !strstr(text, WS_API_KEY));
}

static inline void waldur_mad_outcome(const struct waldur_mad *m, const struct waldur_action *a,
                                      const struct exchange_response *r,
                                      const struct waldur_outcome *out)
{
    MAD_HOLDS(m, (out->effect != WALDUR_EFFECT_NONE) == (a->effect != NULL));
    MAD_HOLDS(m, out->effect != WALDUR_EFFECT_NOT_SENT || !r->sent);
    MAD_HOLDS(m, !a->effect || !r->sent || r->status != 0 || out->effect == WALDUR_EFFECT_UNKNOWN);
    MAD_HOLDS(m, out->effect != WALDUR_EFFECT_DONE || (r->status >= 200 && r->status < 300));
    MAD_HOLDS(m, !out->answered || r->status != 0);
    mad_secrets(m, out->err.msg);
}

static inline void waldur_mad_end(const struct waldur_mad *m, const struct waldur_op *op,
                                  const struct waldur_action *a)
{
    if (a->turn == WALDUR_FAILED) {
        MAD_HOLDS(m, a->err.class != ERR_NONE && a->err.class < ERR_CLASS_MAX && a->err.msg[0]);
        MAD_HOLDS(m, a->err.class != ERR_INTERNAL && a->err.class != ERR_CONFLICT);
        mad_secrets(m, a->err.msg);
        return;
    }
    MAD_HOLDS(m, a->turn == WALDUR_DONE);
    if (m->kind == MAD_INTAKE && waldur_intake_of(op)->end == WALDUR_INTAKE_TAKE) {
        MAD_HOLDS(m, m->asked && !m->leaves && m->order == WALDUR_ORDER_EXECUTING);
        MAD_HOLDS(m, m->terminates || str_eq(m->backend_id, WS_NAME));
    }
    if (m->kind == MAD_DONE || m->kind == MAD_ERRED) {
        const struct waldur_report *r = waldur_report_of(op);
        enum waldur_order_state wanted =
            m->kind == MAD_DONE ? WALDUR_ORDER_DONE : WALDUR_ORDER_ERRED;
        MAD_HOLDS(m, r->end != WALDUR_REPORT_TOLD || (m->order_last && m->order == wanted));
        MAD_HOLDS(m, r->end == WALDUR_REPORT_GONE || r->state == m->order);
        MAD_HOLDS(m, !r->keys_told || (m->client_shown && !r->keys_untold));
    }
    if (m->kind == MAD_KEY && waldur_key_of(op)->end == WALDUR_KEY_TOLD) {
        MAD_HOLDS(m, m->client_shown);
    }
}

static inline int waldur_mad_row(void *ctx, const struct waldur_row *row)
{
    const struct waldur_mad *m = ctx;
    MAD_HOLDS(m, row->kind == m->list && strlen(row->uuid) == 36);
    return 0;
}

static inline struct waldur_op *waldur_mad_start(struct waldur_mad *m)
{
    static const char *const offerings[] = {WS_OFFERING};
    static const struct waldur_endpoint endpoints[] = {{"Chat", "https://chat.example/x"}};
    static const struct waldur_key_told keys[] = {{MAD_CLIENT, WS_API_KEY}};
    const struct waldur_access access = {
        .url = WS_URL, .credential = WS_TOKEN, .settle_ms = 10, .site = &m->site};
    const struct waldur_intake_target intake = {
        .access = access, .order = WS_ORDER, .offerings = offerings, .n_offerings = 1};
    const struct waldur_report_target report = {
        .access = access,
        .order = WS_ORDER,
        .resource = WS_RESOURCE,
        .verdict = m->kind == MAD_DONE ? WALDUR_VERDICT_DONE : WALDUR_VERDICT_ERRED,
        .backend_id = m->terminates ? NULL : WS_NAME,
        .metadata = m->terminates ? NULL : "{\"ready\":true}",
        .endpoints = m->terminates ? NULL : endpoints,
        .n_endpoints = m->terminates ? 0 : 1,
        .keys = keys,
        .n_keys = 1,
        .error_message = "no"};
    const struct waldur_key_target key = {.access = access,
                                          .resource = WS_RESOURCE,
                                          .client_id = MAD_CLIENT,
                                          .api_key = m->kind == MAD_KEY ? WS_API_KEY : NULL};
    const struct waldur_list_target list = {.access = access,
                                            .kind = m->list,
                                            .offerings = offerings,
                                            .n_offerings = 1,
                                            .since_us = -1,
                                            .row = waldur_mad_row,
                                            .ctx = m};
    struct err err;
    switch (m->kind) {
    case MAD_INTAKE:
        return waldur_intake_start(&intake, &err);
    case MAD_DONE:
    case MAD_ERRED:
        return waldur_report_start(&report, &err);
    case MAD_KEY:
    case MAD_NO_KEY:
        return waldur_key_start(&key, &err);
    case MAD_LIST:
    case MAD_KINDS:
        break;
    }
    return waldur_list_start(&list, &err);
}

static inline void waldur_mad_ask(struct waldur_mad *m, struct waldur_op *op)
{
    const struct waldur_intake *it = waldur_intake_of(op);
    MAD_HOLDS(m, !m->asked && it->has_order && it->has_resource);
    MAD_HOLDS(m, str_eq(it->order.uuid, WS_ORDER) && str_eq(it->resource.uuid, m->resource));
    MAD_HOLDS(m, str_eq(it->order.offering_uuid, WS_OFFERING));
    m->asked = true;
    if (m->leaves) {
        waldur_intake_leave(op, "no");
    } else {
        waldur_intake_accept(op, m->terminates ? NULL : WS_NAME);
    }
}

static inline void waldur_mad_run(struct waldur_mad *m)
{
    int requests = 0, waits = 0;
    int most = m->kind == MAD_LIST ? WALDUR_LIST_ROWS_MAX : MAD_REQUESTS_MAX;
    struct waldur_action a;
    struct waldur_op *op = waldur_mad_start(m);
    assert_non_null(op);
    str_copy(m->resource, sizeof(m->resource), WS_RESOURCE);
    for (waldur_op_next(op, &a); a.turn != WALDUR_DONE && a.turn != WALDUR_FAILED;
         waldur_op_next(op, &a)) {
        if (a.turn == WALDUR_WAIT) {
            MAD_HOLDS(m, a.wait_ms > 0 && ++waits <= MAD_REQUESTS_MAX);
            continue;
        }
        if (a.turn == WALDUR_ASK) {
            waldur_mad_ask(m, op);
            continue;
        }
        struct exchange_response r = {.body = "", .retry_after_ms = -1};
        struct waldur_outcome out;
        MAD_HOLDS(m, ++requests <= most);
        waldur_mad_asked(m, &a);
        m->give(m->ctx, &a, &r);
        if (r.truncated) { /* the transport dropped it */
            r.body = "";
            r.body_len = 0;
        }
        waldur_mad_saw(m, &a, &r);
        waldur_op_feed(op, &r, &out);
        waldur_mad_outcome(m, &a, &r, &out);
        exchange_request_done(&a.request);
    }
    waldur_mad_end(m, op, &a);
    waldur_op_free(op);
}

#endif
