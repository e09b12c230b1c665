/*
 * Waldur's own words, as enums: types and states of orders, states of resources and of their keys.
 *
 * The word of a newer Waldur that is not known here is ..._UNKNOWN, which is 0, and no error.
 */
#ifndef WALDUR_TERMS_H
#define WALDUR_TERMS_H

#include <stdbool.h>

enum waldur_order_type {
    WALDUR_TYPE_UNKNOWN,
    WALDUR_TYPE_CREATE,
    WALDUR_TYPE_UPDATE,
    WALDUR_TYPE_TERMINATE,
    WALDUR_TYPE_RESTORE,
    WALDUR_TYPE_MAX
};

enum waldur_order_state {
    WALDUR_ORDER_UNKNOWN,
    WALDUR_ORDER_PENDING_CONSUMER,
    WALDUR_ORDER_PENDING_PROVIDER,
    WALDUR_ORDER_PENDING_PROJECT,
    WALDUR_ORDER_PENDING_START_DATE,
    WALDUR_ORDER_EXECUTING,
    WALDUR_ORDER_DONE,
    WALDUR_ORDER_ERRED,
    WALDUR_ORDER_CANCELED,
    WALDUR_ORDER_REJECTED,
    WALDUR_ORDER_MAX
};

enum waldur_resource_state {
    WALDUR_RESOURCE_UNKNOWN,
    WALDUR_RESOURCE_CREATING,
    WALDUR_RESOURCE_OK,
    WALDUR_RESOURCE_ERRED,
    WALDUR_RESOURCE_UPDATING,
    WALDUR_RESOURCE_TERMINATING,
    WALDUR_RESOURCE_TERMINATED,
    WALDUR_RESOURCE_MAX
};

enum waldur_key_state {
    WALDUR_KEY_UNKNOWN,
    WALDUR_KEY_CREATING,
    WALDUR_KEY_OK,
    WALDUR_KEY_UPDATING, /* a new key is wanted */
    WALDUR_KEY_ERRED,
    WALDUR_KEY_MAX
};

/*
 * In any case, and with blanks or underscores for dashes: messages say "pending provider" where
 * REST says "pending-provider", and displays begin with a capital.
 */
enum waldur_order_type waldur_order_type_parse(const char *word);
enum waldur_order_state waldur_order_state_parse(const char *word);
enum waldur_resource_state waldur_resource_state_parse(const char *word);
enum waldur_key_state waldur_key_state_parse(const char *word);

/* As REST says them ("Create", "pending-provider", "OK"), "unknown" for what is none. Static. */
const char *waldur_order_type_name(enum waldur_order_type type);
const char *waldur_order_state_name(enum waldur_order_state state);
const char *waldur_resource_state_name(enum waldur_resource_state state);
const char *waldur_key_state_name(enum waldur_key_state state);

/* Done, erred, canceled or rejected. */
bool waldur_order_closed(enum waldur_order_state state);

#endif
