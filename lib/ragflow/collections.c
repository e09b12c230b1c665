#include "driver/facade.h"
#include "ragflow/native.h"
#include "ragflow/ragflow.h"

#include "base/json.h"
#include "base/str.h"

static bool ours(const cJSON *object, const struct driver_target *t)
{
    return str_eq(json_str(object, "description"), t->marker);
}

static cJSON *create_body(const struct driver_target *t)
{
    cJSON *body = cJSON_CreateObject();
    if (!body || !cJSON_AddStringToObject(body, "name", t->name) ||
        !cJSON_AddStringToObject(body, "description", t->marker) ||
        (t->embedding_model &&
         !cJSON_AddStringToObject(body, "embedding_model", t->embedding_model)) ||
        !cJSON_AddNumberToObject(body, "chunk_size", (double)t->chunk_size) ||
        !cJSON_AddNumberToObject(body, "chunk_overlap", (double)t->chunk_overlap)) {
        cJSON_Delete(body);
        return NULL;
    }
    return body;
}

/* The facade cannot change a collection: its settings are those of its creation. */
static const struct facade_noun collection = {
    .path = "/api/v1/collections",
    .effect_create = "collection.create",
    .effect_update = NULL,
    .effect_delete = "collection.delete",
    .ours = ours,
    .create_body = create_body,
};

static struct driver_op *start(enum driver_goal goal, const struct driver_target *target,
                               struct err *err)
{
    return facade_start(&collection, goal, target, err);
}

static const struct driver_class collections = {
    .api = "collections",
    .start = start,
    .next = facade_next,
    .feed = facade_feed,
    .free = facade_free,
};

const struct driver_class *ragflow_driver(const char *api)
{
    static const struct driver_class *const classes[] = {&collections, &ragflow_native};
    for (size_t i = 0; i < ARRAY_LEN(classes); i++) {
        if (str_eq(api, classes[i]->api)) {
            return classes[i];
        }
    }
    return NULL;
}
