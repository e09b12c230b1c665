/*
 * A validator for the subset of JSON Schema 2020-12 that schemas/ uses: type, const, enum, properties,
 * required, items, minItems, maxItems, minLength, maxLength, minimum, maximum, maxProperties,
 * propertyNames (maxLength), pattern (the part of ECMA 262 that is also POSIX ERE), format (date-time,
 * asserted), allOf, anyOf, oneOf, if/then/else, $ref to "#/$defs/...", plus the annotations $schema, $id, title,
 * description, examples, default. Any other keyword makes schema_load fail, so a schema can never say more
 * than is checked. Lengths count code points, as the specification wants.
 */
#ifndef EVENT_SCHEMA_H
#define EVENT_SCHEMA_H

#include <cjson/cJSON.h>

#include "base/err.h"
#include "base/json.h"

struct schema;

/* text: a whole schema document. NULL and *err on an unknown keyword or a bad pattern. */
struct schema *schema_load(const char *text, size_t n, struct err *err);
void schema_free(struct schema *s);

/* 0, or -1 and *fault with the deepest first violation; its reason says what was expected, never the value. */
int schema_check(const struct schema *s, const cJSON *value, struct json_fault *fault);

#endif
