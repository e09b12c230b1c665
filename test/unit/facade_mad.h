/*
 * A facade's driver against a server gone mad: see property.h. Only what a look showed to be ours
 * is changed.
 */
#ifndef TEST_FACADE_MAD_H
#define TEST_FACADE_MAD_H

#include "facade_sim.h"
#include "langflow/langflow.h"
#include "property.h"
#include "ragflow/ragflow.h"

struct facade_mad {
    bool collections;
    struct driver_target target;
    cJSON *variables;
    uint64_t seed;
    struct shown shown;
};

static inline const struct driver_class *facade_class(bool collections)
{
    return collections ? ragflow_driver("collections") : langflow_driver("workspaces");
}

/* The target's variables and those that changed are in *variables: cJSON_Delete() it behind it. */
static inline struct driver_target facade_target(cJSON **variables)
{
    *variables = cJSON_Parse("{\"variables\":{\"tone\":\"calm\",\"ragflow_collection_id\":\"c1\","
                             "\"ragflow_url\":\"http://r\",\"nothing\":null},"
                             "\"changed\":[\"tone\",\"dropped\"]}");
    return (struct driver_target){.url = SIM_URL,
                                  .name = SIM_NAME,
                                  .marker = SIM_MARKER,
                                  .settle_ms = 10,
                                  .flow_id = "flow",
                                  .variables = json_get(*variables, "variables"),
                                  .changed = json_get(*variables, "changed"),
                                  .chunk_size = 512};
}

static inline void facade_mad_broken(void *ctx, const char *why)
{
    const struct facade_mad *w = ctx;
    fail_msg("%s; PROPERTY_SEED=%" PRIu64, why, w->seed);
}

static inline void facade_mad_asked(void *ctx, const struct driver_action *a)
{
    struct facade_mad *w = ctx;
    const struct sim sim = {.collections = w->collections};
    char id[SIM_ID_MAX], name[SIM_ID_MAX];
    if (!sim_route(&sim, a->request.url, id, name)) {
        facade_mad_broken(w, "a request to nowhere");
    }
    bool look = a->request.method == METHOD_GET;
    if (look == (a->effect != NULL)) {
        facade_mad_broken(w, "a change without an effect, or a look with one");
    }
    if (!look && a->request.method != METHOD_POST &&
        (!shown_has(&w->shown, id) || strspn(id, ".") == strlen(id))) {
        facade_mad_broken(w, "a change aimed at what was not shown to be ours");
    }
}

static inline const char *facade_mad_ours(void *ctx, const cJSON *object)
{
    const struct facade_mad *w = ctx;
    const struct sim sim = {.collections = w->collections};
    return str_eq(sim_marker_of(&sim, object), SIM_MARKER) ? json_str(object, "id") : NULL;
}

static inline void facade_mad_answered(void *ctx, const struct driver_action *a,
                                       const struct exchange_response *r,
                                       const struct driver_outcome *out)
{
    struct facade_mad *w = ctx;
    (void)out;
    if (a->request.method == METHOD_GET) {
        cJSON *json = mad_tree(r);
        shown_add_all(&w->shown, json, w, facade_mad_ours);
        cJSON_Delete(json);
    }
}

/* w->target as facade_target made it, with more of what an operation may be told. */
static inline void facade_mad_run(struct facade_mad *w, enum driver_goal goal,
                                  const struct mad_answers *answers)
{
    const struct mad mad = {.class = facade_class(w->collections),
                            .target = &w->target,
                            .bases = {SIM_URL},
                            .requests_max = DRIVER_ROUNDS_MAX,
                            .waits_max = DRIVER_ROUNDS_MAX,
                            .ctx = w,
                            .asked = facade_mad_asked,
                            .answered = facade_mad_answered,
                            .broken = facade_mad_broken};
    struct driver_action end;
    struct err err;
    struct driver_op *op = mad.class->start(goal, &w->target, &err);
    assert_non_null(op);
    mad_drive(&mad, answers, op, &end);
    mad.class->free(op);
}

#endif
