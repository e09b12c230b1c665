/*
 * A validator for the subset of JSON Schema 2020-12 that schemas/ uses: type, const, enum,
 * properties, additionalProperties (a schema), required, items, minItems, maxItems, minLength,
 * maxLength, minimum, maximum, maxProperties, propertyNames, pattern (the part of ECMA 262 that is
 * also POSIX ERE), format (date-time, asserted), allOf, anyOf, oneOf, if/then/else, $ref to
 * "#/$defs/...", plus the annotations $schema, title, description, examples, default. Any other
 * keyword makes schema_load fail, so a schema can never say more than is checked. Lengths count
 * code points, as the specification wants.
 */
#ifndef EVENT_SCHEMA_H
#define EVENT_SCHEMA_H

#include <cjson/cJSON.h>

#include "base/err.h"
#include "base/json.h"

struct schema;

/* text: a whole schema document. NULL and *err on an unknown keyword, a bad pattern or a circle of
 * $ref. */
struct schema *schema_load(const char *text, size_t n, struct err *err);
void schema_free(struct schema *s);

/*
 * 0, or -1 and *fault with the first violation in the schema's order; its reason says what was
 * expected, never the value. A missing member is reported at its own place.
 */
int schema_check(const struct schema *s, const cJSON *value, struct json_fault *fault);

/* Changes one value in place; -1 stops the walk. */
typedef int schema_fix_fn(void *ctx, cJSON *value);

/*
 * Drops the members that the schema does not name from every object whose `properties` it names
 * (where there is no additionalProperties), and calls fix on every value that "#/$defs/<def>"
 * governs. For values that schema_check took. 0, or -1 when fix failed.
 */
int schema_normalise(const struct schema *s, cJSON *value, const char *def, schema_fix_fn *fix,
                     void *ctx);

#endif
