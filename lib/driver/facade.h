/*
 * The protocol of the platform's own facade (dialects `workspaces` and `collections`): named REST
 * resources, `GET ?name=` to look one up, unique names, 201/409/404. What differs between the two
 * nouns is in struct facade_noun; everything that makes a change safe is here, once.
 */
#ifndef DRIVER_FACADE_H
#define DRIVER_FACADE_H

#include "driver/driver.h"

struct facade_noun {
    const char *path;          /* "/api/v1/workspaces" */
    const char *effect_create; /* "workspace.create" */
    const char *effect_update; /* NULL: the resource cannot be changed */
    const char *effect_delete;
    /* Does the object bear this subscription's marker? */
    bool (*ours)(const cJSON *object, const struct driver_target *target);
    /* The body that creates it. NULL when memory ends. */
    cJSON *(*create_body)(const struct driver_target *target);
    /* The body that brings an existing object to the goal; *needed false when it is there already.
     */
    cJSON *(*update_body)(const cJSON *object, enum driver_goal goal,
                          const struct driver_target *target, bool *needed);
};

struct driver_op *facade_start(const struct facade_noun *noun, enum driver_goal goal,
                               const struct driver_target *target, struct err *err);
void facade_next(struct driver_op *op, struct driver_action *out);
void facade_feed(struct driver_op *op, const struct exchange_response *response,
                 struct driver_outcome *out);
void facade_free(struct driver_op *op);

#endif
