/*
 * Langflow's driver against a server gone mad: see property.h. Only users that are recorded, were
 * made, or were shown with our marker are changed.
 */
#ifndef TEST_LANGFLOW_MAD_H
#define TEST_LANGFLOW_MAD_H

#include "langflow_world.h"
#include "property.h"

#define MAD_USERS PRODUCT_URL "/api/v1/users/"

enum { MAD_LANGFLOW_TURNS = 1000 };

static inline void langflow_mad_broken(void *ctx, const char *why)
{
    struct world *w = ctx;
    print_error("PROPERTY_SEED=%" PRIu64 "\n", w->seed);
    WORLD_FAIL(w, "%s", why);
}

struct langflow_mad {
    struct world world; /* first */
    struct shown shown;
};

/* The user's id in the path, canonical; false where it is about something else. */
static inline bool langflow_mad_user(const char *url, char id[UUID_TEXT])
{
    const char *at = url + strlen(MAD_USERS);
    return str_starts(url, MAD_USERS) && uuid_parse(at, strlen(at), id);
}

static inline void langflow_mad_asked(void *ctx, const struct driver_action *a)
{
    struct langflow_mad *m = ctx;
    struct world *w = ctx;
    char id[UUID_TEXT] = "";
    w->site->now_ms = ++world_now_ms;
    world_say(w, "%s %s\n", exchange_method_name(a->request.method), a->request.url);
    world_check_request(w, a);
    if (!a->effect || !str_starts(a->request.url, MAD_USERS) || a->request.method == METHOD_POST) {
        return;
    }
    if (!langflow_mad_user(a->request.url, id) || !shown_has(&m->shown, id)) {
        langflow_mad_broken(w, "a change aimed at a user that was not shown to be ours");
    }
}

static inline const char *langflow_mad_id(const cJSON *user)
{
    static char id[UUID_TEXT];
    const char *text = json_str(user, "id");
    return text && uuid_parse(text, strlen(text), id) ? id : NULL;
}

static inline const char *langflow_mad_ours(void *ctx, const cJSON *user)
{
    const struct world *w = ctx;
    bool ours = str_eq(json_str(user, "optins.waldur_subscription"), WORLD_MARKER) &&
                (!w->target.proof || str_eq(json_str(user, "optins.waldur_proof"), WORLD_PROOF)) &&
                !json_bool(user, "is_superuser", false);
    return ours ? langflow_mad_id(user) : NULL;
}

static inline void langflow_mad_answered(void *ctx, const struct driver_action *a,
                                         const struct exchange_response *r,
                                         const struct driver_outcome *out)
{
    struct langflow_mad *m = ctx;
    struct world *w = ctx;
    cJSON *json = mad_tree(r);
    world_say(w, "  %d%s\n", r->status, r->truncated ? " cut" : "");
    if (json && str_starts(a->request.url, MAD_USERS)) {
        const cJSON *users = json_get(json, "users");
        shown_add_all(&m->shown, users ? users : json, w, langflow_mad_ours);
        if (a->request.method == METHOD_POST) {
            shown_add(&m->shown, langflow_mad_id(json));
        }
    }
    cJSON_Delete(json);
    (void)out;
}

static inline void langflow_mad_waited(void *ctx, const struct driver_action *a)
{
    struct world *w = ctx;
    world_now_ms += a->wait_ms;
    w->site->now_ms = world_now_ms;
}

static inline struct mad langflow_mad_frame(struct langflow_mad *m)
{
    const struct driver_target *t = &m->world.target;
    return (struct mad){.class = world_class(),
                        .target = t,
                        .bases = {PRODUCT_URL},
                        .secrets = {t->password, t->secret, t->proof, t->collection_key},
                        .requests_max = MAD_LANGFLOW_TURNS,
                        .waits_max = MAD_LANGFLOW_TURNS,
                        .ctx = m,
                        .asked = langflow_mad_asked,
                        .answered = langflow_mad_answered,
                        .waited = langflow_mad_waited,
                        .broken = langflow_mad_broken};
}

/* The world is aimed (world_aim), and its target has what more an operation may be told. */
static inline void langflow_mad_run(struct langflow_mad *m, enum driver_goal goal,
                                    const struct mad_answers *answers)
{
    const struct mad mad = langflow_mad_frame(m);
    const char *recorded = m->world.target.external_id;
    struct driver_action end;
    char id[UUID_TEXT];
    struct err err;
    if (recorded && uuid_parse(recorded, strlen(recorded), id)) {
        shown_add(&m->shown, id);
    }
    m->world.site->now_ms = world_now_ms;
    struct driver_op *op = mad.class->start(goal, &m->world.target, &err);
    assert_non_null(op);
    mad_drive(&mad, answers, op, &end);
    mad.class->free(op);
}

static inline void langflow_mad_inspect(struct langflow_mad *m, const struct mad_answers *answers)
{
    struct mad mad = langflow_mad_frame(m);
    struct driver_report report = {.n = 0};
    struct driver_action end;
    struct err err;
    m->world.target.observe = true;
    m->world.site->now_ms = world_now_ms;
    mad.asked = NULL; /* it looks, without a credential too, and where operations never go */
    struct driver_op *op = mad.class->inspect(&m->world.target, &report, &err);
    assert_non_null(op);
    mad_drive(&mad, answers, op, &end);
    mad.class->free(op);
    mad_check_report(&mad, &report);
}

#endif
