/*
 * RAGFlow's driver against a server gone mad: see property.h. Only datasets that were shown to be
 * ours are changed, and only the subscription's own account.
 */
#ifndef TEST_RAGFLOW_MAD_H
#define TEST_RAGFLOW_MAD_H

#include "property.h"
#include "ragflow_sim.h"

enum { MAD_RAGFLOW_REQUESTS = 400 };

struct ragflow_mad {
    struct sim sim; /* first */
    struct shown shown;
    unsigned long changes, deletes; /* of datasets */
    enum driver_turn end;
};

static inline void ragflow_mad_broken(void *ctx, const char *why)
{
    struct sim *w = ctx;
    SIM_BROKEN(w, "%s", why);
}

/* The dataset that the request changes; false where it changes none. */
static inline bool ragflow_mad_dataset(const struct exchange_request *r, char id[33])
{
    if (r->method == METHOD_DELETE && str_eq(r->url, PRODUCT_URL "/api/v1/datasets")) {
        cJSON *body = cJSON_Parse(buf_str(&r->body));
        str_copy(id, 33, cJSON_GetArrayItem(json_get(body, "ids"), 0)->valuestring);
        cJSON_Delete(body);
        return true;
    }
    return sim_dataset_of(r->url, id);
}

static inline void ragflow_mad_asked(void *ctx, const struct driver_action *a)
{
    struct ragflow_mad *m = ctx;
    struct sim *w = ctx;
    const struct exchange_request *r = &a->request;
    char id[33] = "";
    sim_say(w, exchange_method_name(r->method), r->url);
    m->changes += a->effect != NULL;
    m->deletes += a->effect && str_eq(a->effect, "collection.delete");
    sim_check_shape(w, a);
    sim_check_account(w, r);
    if (r->method != METHOD_GET && r->method != METHOD_POST && ragflow_mad_dataset(r, id) &&
        !(sim_is_hex(id) && shown_has(&m->shown, id))) {
        ragflow_mad_broken(w, "a change aimed at what was not shown to be ours");
    }
}

/* In lower case; NULL where it is none. */
static inline const char *ragflow_mad_ours(void *ctx, const cJSON *row)
{
    static char id[33];
    const char *text = json_str(row, "id");
    (void)ctx;
    if (!text || strlen(text) != 32 || !sim_is_ours(row)) {
        return NULL;
    }
    for (size_t i = 0; i < sizeof(id); i++) {
        id[i] = (char)(text[i] >= 'A' && text[i] <= 'F' ? text[i] + 32 : text[i]);
    }
    return id;
}

static inline void ragflow_mad_answered(void *ctx, const struct driver_action *a,
                                        const struct exchange_response *r,
                                        const struct driver_outcome *out)
{
    struct ragflow_mad *m = ctx;
    struct sim *w = ctx;
    cJSON *json = mad_tree(r);
    (void)a;
    shown_add_all(&m->shown, json_get(json, "data"), w, ragflow_mad_ours);
    cJSON_Delete(json);
    sim_say(w, "  ", r->body);
    if (out->record && !sim_is_hex(out->external_id)) {
        ragflow_mad_broken(w, "recorded what is no id");
    }
    w->site->now_ms++;
}

static inline void ragflow_mad_waited(void *ctx, const struct driver_action *a)
{
    struct sim *w = ctx;
    w->site->now_ms += a->wait_ms;
}

static inline struct mad ragflow_mad_frame(struct ragflow_mad *m)
{
    const struct driver_target *t = &m->sim.t;
    return (struct mad){.class = sim_class(),
                        .target = t,
                        .bases = {PRODUCT_URL, PRODUCT_URL "-admin"},
                        .secrets = {t->password, t->password_wire, t->secret, m->sim.s.models_key,
                                    m->sim.s.admin_password_wire, m->sim.s.provider_key},
                        .requests_max = MAD_RAGFLOW_REQUESTS,
                        .waits_max = MAD_RAGFLOW_REQUESTS,
                        .ctx = m,
                        .asked = ragflow_mad_asked,
                        .answered = ragflow_mad_answered,
                        .waited = ragflow_mad_waited,
                        .broken = ragflow_mad_broken};
}

/* The sim has its target (sim_target) and its site, and what more an operation may be told. */
static inline void ragflow_mad_run(struct ragflow_mad *m, enum driver_goal goal,
                                   const struct mad_answers *answers)
{
    const struct mad mad = ragflow_mad_frame(m);
    struct driver_action end;
    struct err err;
    struct driver_op *op = mad.class->start(goal, &m->sim.t, &err);
    assert_non_null(op);
    mad_drive(&mad, answers, op, &end);
    m->end = end.turn;
    mad.class->free(op);
}

static inline void ragflow_mad_inspect(struct ragflow_mad *m, const struct mad_answers *answers)
{
    const struct mad mad = ragflow_mad_frame(m);
    struct driver_report report = {.n = 0};
    struct driver_action end;
    struct err err;
    m->sim.t.observe = true;
    struct driver_op *op = mad.class->inspect(&m->sim.t, &report, &err);
    assert_non_null(op);
    mad_drive(&mad, answers, op, &end);
    mad.class->free(op);
    mad_check_report(&mad, &report);
}

#endif
