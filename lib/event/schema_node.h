/*
 * How a loaded schema looks inside: nodes (one a subschema) of rules (one a keyword), in the order
 * in which they are checked. Shared by the files of schema.h alone.
 */
#ifndef EVENT_SCHEMA_NODE_H
#define EVENT_SCHEMA_NODE_H

#include <cjson/cJSON.h>
#include <regex.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "base/json.h"

struct schema_keyword;

struct schema_rule {
    const struct schema_keyword *keyword;
    const cJSON *arg; /* the keyword's value in the document */
    struct schema_node *
        *subs; /* its subschemas, in the order of arg; for `if`: if, then, else (or NULL) */
    size_t n_subs;
    regex_t *regex; /* of `pattern` */
};

struct schema_node {
    const char *title; /* NULL where there is none */
    const char *def;   /* its name under $defs; NULL elsewhere */
    const cJSON *json;
    struct schema_rule *rules;
    size_t n_rules;
    bool building; /* its rules are being made: a $ref to it now is a circle */
    struct schema_node *next;
};

struct schema {
    cJSON *json; /* the document, which nodes point into */
    struct schema_node *root;
    struct schema_node *nodes; /* every node, for freeing */
};

/* A place in the value that is checked; rendered as a pointer only when something is wrong there.
 */
struct schema_place {
    const struct schema_place *up; /* NULL at the root */
    const char *name;              /* NULL: an array's element */
    size_t index;
};

struct schema_fault {
    struct json_fault text;
    size_t depth; /* segments of the pointer */
};

/* 0, or -1 and *fault. */
typedef int schema_check_fn(const struct schema_node *node, const struct schema_rule *rule,
                            const cJSON *value, const struct schema_place *at,
                            struct schema_fault *fault);

/* What a keyword's value must be for the schema to load. */
enum schema_shape {
    SCHEMA_SHAPE_TYPES,   /* a type's name, or an array of them */
    SCHEMA_SHAPE_SCALAR,  /* string, number, boolean or null */
    SCHEMA_SHAPE_SCALARS, /* an array of them */
    SCHEMA_SHAPE_COUNT,   /* a whole number from 0 */
    SCHEMA_SHAPE_NUMBER,
    SCHEMA_SHAPE_NAMES, /* an array of strings */
    SCHEMA_SHAPE_PATTERN,
    SCHEMA_SHAPE_FORMAT,
    SCHEMA_SHAPE_REF,
    SCHEMA_SHAPE_NODE,  /* a schema */
    SCHEMA_SHAPE_NODES, /* an array of schemas */
    SCHEMA_SHAPE_NODE_MAP,
    SCHEMA_SHAPE_IF, /* a schema, with `then` and `else` beside it */
};

struct schema_keyword {
    const char *name;
    enum schema_shape shape;
    bool in_place; /* its subschemas speak of the same value */
    schema_check_fn *check;
};

extern const struct schema_keyword schema_keywords[];
extern const size_t n_schema_keywords;

/* The bit of a type's name; 0 for a name that is none. */
unsigned schema_type_bit(const char *name);

/* The pattern compiled, NULL and *err where it is broken or not the same in ECMA 262 and POSIX. */
regex_t *schema_regex_new(const char *pattern, struct err *err);
void schema_regex_free(regex_t *r);

int schema_node_check(const struct schema_node *node, const cJSON *value,
                      const struct schema_place *at, struct schema_fault *fault);
/* Fills *fault for this place; returns -1. */
int schema_refuse(const struct schema_place *at, struct schema_fault *fault, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

schema_check_fn schema_check_type, schema_check_const, schema_check_enum, schema_check_min_length,
    schema_check_max_length, schema_check_min_items, schema_check_max_items, schema_check_minimum,
    schema_check_maximum, schema_check_max_properties, schema_check_required, schema_check_pattern,
    schema_check_format, schema_check_ref, schema_check_property_names, schema_check_properties,
    schema_check_additional, schema_check_items, schema_check_all_of, schema_check_any_of,
    schema_check_one_of, schema_check_if;

#endif
