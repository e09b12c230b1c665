/*
 * Private to config: YAML as a small tree with places. A subset on purpose: one document, no
 * anchors, no aliases, no tags, keys are text, every dimension bounded, duplicate keys refused.
 */
#ifndef CONFIG_NODE_H
#define CONFIG_NODE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

enum {
    CONFIG_DEPTH_MAX = 16,
    CONFIG_NODES_MAX = 65536,
    CONFIG_CHILDREN_MAX = 1024, /* also bounds the search for duplicate keys */
    CONFIG_KEY_MAX = 255,
    CONFIG_SHOWN_MAX = 64, /* of a key, in messages */
};

struct config_place {
    size_t line, column; /* from 1; columns count characters */
};

enum config_node_kind { CONFIG_SCALAR, CONFIG_SEQUENCE, CONFIG_MAPPING };

struct config_node {
    enum config_node_kind kind;
    struct config_place at;
    char *key; /* NULL outside a mapping */
    struct config_place key_at;
    char *text; /* scalars */
    bool plain; /* scalars: written without quotes, not as a block */
    size_t n;   /* children */
    struct config_node *first, *last, *next;
};

/* file: for messages. The tree may hold secrets: config_node_free wipes it. */
int config_node_parse(const char *file, const char *text, size_t n, struct config_node **out,
                      struct err *err);
void config_node_free(struct config_node *n);

const struct config_node *config_node_get(const struct config_node *map, const char *key);
const struct config_node *config_node_item(const struct config_node *list, size_t index);
/* YAML's null: nothing, "~" or "null" without quotes. */
bool config_node_is_null(const struct config_node *n);

/* ERR_INVALID "file:line:column: ..."; returns -1. */
int config_fail(const char *file, struct config_place at, struct err *err, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
/*
 * A key as messages show it: its leading name characters only, because a forgotten blank after the
 * colon makes a value part of the key.
 */
const char *config_key_shown(const char *key, char out[CONFIG_SHOWN_MAX + 4]);

#endif
