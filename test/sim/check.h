/*
 * What the checks share.
 */
#ifndef SIM_CHECK_H
#define SIM_CHECK_H

#include <cjson/cJSON.h>

#include "sim.h"

/* What is there of one subscription. */
struct found {
    const struct subscription *s;
    const struct db_config *config;
    const cJSON *workspace, *collection; /* one of them, as the stand-in lists it */
    int workspaces, collections;
};

/* It is not as it was promised. */
void bad(const struct found *f, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* The value of one of its workspace's variables; NULL: it is not there. */
const char *found_variable(const struct found *f, const char *name);

/*
 * What is inside of an active one's objects, against its newest order: variables, settings of the
 * collection, and every sealed key against what it opens. key: the position of its live one;
 * tenants: RAGFlow's accounts, NULL where there are none.
 */
void check_inside(const struct found *f, size_t key, const cJSON *tenants);

#endif
