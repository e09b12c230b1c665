/*
 * UUIDs as text: accepted with and without dashes and in either case, kept
 * dashed and lower-case.
 */
#ifndef BASE_UUID_H
#define BASE_UUID_H

#include <stdbool.h>
#include <stddef.h>

enum { UUID_TEXT = 37 }; /* 36 characters and the NUL */

/* n bytes, all of which must be the UUID. False leaves out untouched. */
bool uuid_parse(const char *s, size_t n, char out[UUID_TEXT]);
/* Random (version 4). rng_init() must have run. */
void uuid_make(char out[UUID_TEXT]);
/* The 32 hex digits without dashes of a canonical UUID. */
void uuid_hex(const char *uuid, char out[33]);

#endif
