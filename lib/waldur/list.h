/*
 * Lists: orders, resources, keys or events, all pages of all our offerings.
 *
 * Rows may leave or enter the list while it is read. What is listed by its time of creation is
 * therefore walked by it, so that a row that leaves makes none be missed; keys, which Waldur does
 * not sort, are paged, and one may be missed until the next time. Each row is told once. The list
 * ends with the last page; a page that lies past it (404) is one, too.
 *
 * An operation without effects.
 */
#ifndef WALDUR_LIST_H
#define WALDUR_LIST_H

#include <stddef.h>

#include "base/uuid.h"
#include "waldur/hook.h"
#include "waldur/key.h"
#include "waldur/op.h"
#include "waldur/order.h"
#include "waldur/terms.h"

enum {
    WALDUR_LIST_ROWS_MAX = 100000, /* of one list; more is an error */
    WALDUR_LIST_PAGE = 100,        /* rows that are asked for at once */
};

enum waldur_list_kind {
    WALDUR_LIST_ORDERS,
    WALDUR_LIST_RESOURCES,
    WALDUR_LIST_KEYS,
    WALDUR_LIST_EVENTS
};

/* A row. What a kind does not have is 0, "" or -1. */
struct waldur_row {
    enum waldur_list_kind kind;
    char uuid[UUID_TEXT]; /* of the order, resource, key or event */
    char resource_uuid[UUID_TEXT];
    char offering_uuid[UUID_TEXT];
    enum waldur_order_type order_type;
    enum waldur_order_state order_state;
    enum waldur_resource_state resource_state;
    enum waldur_key_state key_state;
    char client_id[WALDUR_CLIENT_ID_MAX * 4 + 1];
    char backend_id[WALDUR_BACKEND_ID_MAX * 4 + 1];
    bool paused; /* resources */
    int64_t created_us;
    int64_t modified_us;
    struct hook hook; /* events: what its webhook would have told */
};

/* Not 0: enough, the list ends here and is done. Called from within waldur_op_feed. */
typedef int waldur_row_fn(void *ctx, const struct waldur_row *row);

/* Everything borrowed; must outlive the operation. */
struct waldur_list_target {
    struct waldur_access access;
    enum waldur_list_kind kind;
    const char *const *offerings; /* canonical UUIDs, one list after the other; not for events */
    size_t n_offerings;           /* 0: whatever the token may see */
    unsigned states;  /* 1U << state, of orders, resources or keys; 0: all. Not for events */
    int64_t since_us; /* created since then (orders, events) or modified (resources);
                         -1: ever. Not for keys */
    const char *const *event_types; /* events: Waldur's names; n_event_types 0: all */
    size_t n_event_types;
    waldur_row_fn *row;
    void *ctx;
};

/* What one listing came to. */
struct waldur_list {
    size_t rows;        /* that were told */
    size_t skipped;     /* that could not be read (no UUID, a member of another type) */
    bool not_supported; /* keys: this Waldur has none */
};

/* Copies *target; what it points to is borrowed. NULL and *err when memory ends. */
struct waldur_op *waldur_list_start(const struct waldur_list_target *target, struct err *err);
/* After WALDUR_DONE or WALDUR_FAILED. The operation's own. */
const struct waldur_list *waldur_list_of(const struct waldur_op *op);

#endif
