#include "waldur/terms.h"

#include <stddef.h>

#include "base/str.h"

enum { WORD_MAX = 32 }; /* longer than any word */

static const char *const types[] = {[WALDUR_TYPE_CREATE] = "Create",
                                    [WALDUR_TYPE_UPDATE] = "Update",
                                    [WALDUR_TYPE_TERMINATE] = "Terminate",
                                    [WALDUR_TYPE_RESTORE] = "Restore"};

static const char *const order_states[] = {[WALDUR_ORDER_PENDING_CONSUMER] = "pending-consumer",
                                           [WALDUR_ORDER_PENDING_PROVIDER] = "pending-provider",
                                           [WALDUR_ORDER_PENDING_PROJECT] = "pending-project",
                                           [WALDUR_ORDER_PENDING_START_DATE] = "pending-start-date",
                                           [WALDUR_ORDER_EXECUTING] = "executing",
                                           [WALDUR_ORDER_DONE] = "done",
                                           [WALDUR_ORDER_ERRED] = "erred",
                                           [WALDUR_ORDER_CANCELED] = "canceled",
                                           [WALDUR_ORDER_REJECTED] = "rejected"};

static const char *const resource_states[] = {[WALDUR_RESOURCE_CREATING] = "Creating",
                                              [WALDUR_RESOURCE_OK] = "OK",
                                              [WALDUR_RESOURCE_ERRED] = "Erred",
                                              [WALDUR_RESOURCE_UPDATING] = "Updating",
                                              [WALDUR_RESOURCE_TERMINATING] = "Terminating",
                                              [WALDUR_RESOURCE_TERMINATED] = "Terminated"};

static const char *const key_states[] = {[WALDUR_KEY_CREATING] = "Creating",
                                         [WALDUR_KEY_OK] = "OK",
                                         [WALDUR_KEY_UPDATING] = "Updating",
                                         [WALDUR_KEY_ERRED] = "Erred"};

_Static_assert(ARRAY_LEN(types) == WALDUR_TYPE_MAX, "a type without a word");
_Static_assert(ARRAY_LEN(order_states) == WALDUR_ORDER_MAX, "a state without a word");
_Static_assert(ARRAY_LEN(resource_states) == WALDUR_RESOURCE_MAX, "a state without a word");
_Static_assert(ARRAY_LEN(key_states) == WALDUR_KEY_MAX, "a state without a word");

static void fold(const char *text, char out[WORD_MAX])
{
    (void)str_copy(out, WORD_MAX, text);
    for (char *p = out; *p; p++) {
        *p = (char)(*p >= 'A' && *p <= 'Z' ? *p - 'A' + 'a' : *p == ' ' || *p == '_' ? '-' : *p);
    }
}

/* The first of the words is the unknown one, and has none. */
static int find(const char *const *words, size_t n, const char *word)
{
    char given[WORD_MAX], known[WORD_MAX];
    if (!word) {
        return 0;
    }
    fold(word, given);
    for (size_t i = 1; i < n; i++) {
        fold(words[i], known);
        if (str_eq(known, given)) {
            return (int)i;
        }
    }
    return 0;
}

static const char *name(const char *const *words, size_t n, size_t i)
{
    return i > 0 && i < n ? words[i] : "unknown";
}

enum waldur_order_type waldur_order_type_parse(const char *word)
{
    return (enum waldur_order_type)find(types, ARRAY_LEN(types), word);
}

enum waldur_order_state waldur_order_state_parse(const char *word)
{
    return (enum waldur_order_state)find(order_states, ARRAY_LEN(order_states), word);
}

enum waldur_resource_state waldur_resource_state_parse(const char *word)
{
    return (enum waldur_resource_state)find(resource_states, ARRAY_LEN(resource_states), word);
}

enum waldur_key_state waldur_key_state_parse(const char *word)
{
    return (enum waldur_key_state)find(key_states, ARRAY_LEN(key_states), word);
}

const char *waldur_order_type_name(enum waldur_order_type type)
{
    return name(types, ARRAY_LEN(types), (size_t)type);
}

const char *waldur_order_state_name(enum waldur_order_state state)
{
    return name(order_states, ARRAY_LEN(order_states), (size_t)state);
}

const char *waldur_resource_state_name(enum waldur_resource_state state)
{
    return name(resource_states, ARRAY_LEN(resource_states), (size_t)state);
}

const char *waldur_key_state_name(enum waldur_key_state state)
{
    return name(key_states, ARRAY_LEN(key_states), (size_t)state);
}

bool waldur_order_closed(enum waldur_order_state state)
{
    return state == WALDUR_ORDER_DONE || state == WALDUR_ORDER_ERRED ||
           state == WALDUR_ORDER_CANCELED || state == WALDUR_ORDER_REJECTED;
}
