/*
 * What a subscription's event and the configuration make of each other: runtime, name, variables,
 * settings, the terms of its key. Pure; contract sections 2 to 4.
 */
#ifndef WORKER_PLAN_H
#define WORKER_PLAN_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "config/config.h"
#include "naming/naming.h"

struct plan {
    cJSON *spec;         /* the created event's data; owned; NULL when none is known */
    bool rag;            /* capability "rag", the event's or else the offering's */
    const char *flow_id; /* borrowed from spec or the configuration */
    cJSON *variables;    /* defaults, the event's over them; owned; platform's own are added by
                            plan_add_collection */
    const char *embedding_model; /* as events name it; the event's or the offering's */
    int64_t chunk_size, chunk_overlap;
};

/* Reads the event's data. -1 with ERR_INVALID naming the member that makes the subscription
 * impossible. */
int plan_make(const char *spec, const struct config *config, struct plan *out, struct err *err);
void plan_done(struct plan *p);

/*
 * The runtime for a subscription seen for the first time. NULL when it is not configured; *err then
 * says which one is missing (ERR_UNAVAILABLE: the job is held).
 */
const struct config_runtime *plan_runtime(const struct plan *p, const struct config *config,
                                          struct err *err);
/* Where an event's data (a created event's) would place its subscription today: a runtime's name,
 * borrowed from the configuration; NULL where nobody can say. */
const char *plan_place(const char *spec, const struct config *config);
int plan_name(const struct plan *p, const char *subscription, char out[NAME_BYTES_MAX + 1],
              struct err *err);

/*
 * Names of the variables that the workspace is to be given whatever its tenant made of them: what
 * differs between those recorded (a JSON object; NULL: none were) and the plan's, and what was due
 * before (NULL: nothing). An array of texts (cJSON_Delete()); NULL and *err.
 */
cJSON *plan_due(const struct plan *p, const char *recorded, const cJSON *due, struct err *err);
/* The columns of AgentConfig that the event decides, as step_name takes them (free()). due may be
 * NULL. */
char *plan_config_json(const struct plan *p, const cJSON *due, struct err *err);
/* The terms of the API key, as step_api_key takes them (free()). */
char *plan_terms_json(const struct plan *p, struct err *err);

/* Adds ragflow_collection_id, ragflow_url to the variables, over anything an event says. */
int plan_add_collection(struct plan *p, const char *collection_id, const char *ragflow_url,
                        struct err *err);

#endif
