/*
 * The files of schemas/, carried inside the program (generated at build time).
 */
#ifndef EVENT_EMBEDDED_H
#define EVENT_EMBEDDED_H

#include <stddef.h>

struct embedded_schema {
    const char *name; /* file name */
    const char *text; /* NUL-terminated */
    size_t len;
};

extern const struct embedded_schema embedded_schemas[];
extern const size_t n_embedded_schemas;

#endif
