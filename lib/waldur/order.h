/*
 * An order and a resource as REST tells them: the few members that are used, UUIDs canonical, "" or
 * NULL for what is not told (a newer Waldur tells more: M24's resources have no slugs at all).
 *
 * Members that are not read may hold anything. One that is read and has another type, or is no
 * UUID, is an error; a word that is not known is none (terms.h).
 */
#ifndef WALDUR_ORDER_H
#define WALDUR_ORDER_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/json.h"
#include "base/uuid.h"
#include "waldur/terms.h"

enum {
    WALDUR_BODY_MAX = 8 * 1024 * 1024, /* bytes of an answer that is read */
    WALDUR_DEPTH_MAX = 48,
    WALDUR_SLUG_MAX = 255, /* characters; Waldur's own bound is 50 */
    WALDUR_NAME_MAX = 255, /* characters; longer ones are cut */
    WALDUR_BACKEND_ID_MAX = 255,
    WALDUR_CHARACTER = 4, /* bytes of a character at most */
};

typedef char waldur_slug[WALDUR_SLUG_MAX * WALDUR_CHARACTER + 1];
typedef char waldur_name[WALDUR_NAME_MAX * WALDUR_CHARACTER + 1];

struct waldur_order {
    char uuid[UUID_TEXT]; /* always there */
    enum waldur_order_type type;
    enum waldur_order_state state; /* always told, so UNKNOWN is a word that is not known */
    char resource_uuid[UUID_TEXT]; /* marketplace_resource_uuid: `resource_uuid` is another thing */
    char offering_uuid[UUID_TEXT];
    waldur_name offering_type; /* the plugin's: "Marketplace.Slurm" */
    char plan_uuid[UUID_TEXT];
    waldur_name plan_name;
    char customer_uuid[UUID_TEXT];
    waldur_slug customer_slug;
    waldur_name customer_name;
    char project_uuid[UUID_TEXT];
    waldur_slug project_slug;
    waldur_name project_name;
    waldur_name resource_name;
    int64_t created_us; /* -1 where it is not told */
    int64_t modified_us;
    cJSON *attributes; /* object; NULL for none. Owned. Buyers may put secrets there */
    cJSON *limits;     /* object of whole numbers; NULL for none. Owned */
};

struct waldur_resource {
    char uuid[UUID_TEXT]; /* always there */
    enum waldur_resource_state state;
    char offering_uuid[UUID_TEXT];
    waldur_name name;
    char plan_uuid[UUID_TEXT];
    waldur_name plan_name;
    char customer_uuid[UUID_TEXT];
    waldur_slug customer_slug;
    waldur_name customer_name;
    char project_uuid[UUID_TEXT];
    waldur_slug project_slug;
    waldur_name project_name;
    char backend_id[WALDUR_BACKEND_ID_MAX * WALDUR_CHARACTER + 1];
    bool paused;
    int64_t created_us; /* -1 where it is not told */
    int64_t modified_us;
    cJSON *attributes; /* as an order's: those that it was created with */
    cJSON *limits;
    cJSON *metadata;  /* backend_metadata, object; NULL for none. Owned */
    cJSON *endpoints; /* array of {name, url}; NULL where this Waldur tells none. Owned */
};

/*
 * Reads n bytes of an answer. 0, or -1 and *fault; *out is then untouched, else to be given to
 * ..._done().
 */
int waldur_order_decode(const void *body, size_t n, struct waldur_order *out,
                        struct json_fault *fault);
int waldur_resource_decode(const void *body, size_t n, struct waldur_resource *out,
                           struct json_fault *fault);
/* Wipes and frees what it owns; NULL and what is all zero are allowed. */
void waldur_order_done(struct waldur_order *o);
void waldur_resource_done(struct waldur_resource *r);

#endif
