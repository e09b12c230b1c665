/*
 * Patterns. JSON Schema wants ECMA 262, the C library has POSIX extended expressions: only what
 * means the same in both is taken, so that every other validator agrees with this one.
 */
#include <stdlib.h>
#include <string.h>

#include "event/schema_node.h"

/* The set that starts after p's '['; the position after its ']', or NULL when it differs between
 * the two. */
static const char *skip_set(const char *p)
{
    /* "[^x]" would match one byte here and one code point there; an escape is a plain '\' here. */
    if (*p == '^' || *p == ']')
        return NULL;
    for (; *p && *p != ']'; p++)
        if (*p == '\\' || *p == '[')
            return NULL;
    return *p ? p + 1 : NULL;
}

/* ECMA has lazy quantifiers, POSIX none; POSIX has "{,n}", ECMA takes it literally. */
static const char *skip_quantifier(const char *p)
{
    if (*p == '{') {
        if (p[1] < '0' || p[1] > '9')
            return NULL;
        p = strchr(p, '}');
        if (!p)
            return NULL;
    }
    p++;
    return *p && strchr("*+?{", *p) ? NULL : p;
}

/* True when the pattern is one of ASCII whose meaning is the same in both. */
static bool is_common(const char *p)
{
    while (p && *p) {
        if ((unsigned char)*p >= 0x80 || *p == '.' || (*p == '(' && strchr("?*+{", p[1])))
            return false;
        if (*p == '[')
            p = skip_set(p + 1);
        else if (*p == '\\')
            p = p[1] && strchr("^$\\.*+?()[]{}|/", p[1]) ? p + 2 : NULL;
        else if (strchr("*+?{", *p))
            p = skip_quantifier(p);
        else
            p++;
    }
    return p != NULL;
}

regex_t *schema_regex_new(const char *pattern, struct err *err)
{
    if (!is_common(pattern)) {
        err_set(err, ERR_INVALID, "pattern %s means something else in POSIX than in ECMA 262",
                pattern);
        return NULL;
    }
    regex_t *r = malloc(sizeof(*r));
    if (!r) {
        err_nomem(err);
        return NULL;
    }
    int rc = regcomp(r, pattern, REG_EXTENDED | REG_NOSUB);
    if (rc != 0) {
        char why[100];
        regerror(rc, r, why, sizeof(why));
        free(r);
        err_set(err, ERR_INVALID, "pattern %s: %s", pattern, why);
        return NULL;
    }
    return r;
}

void schema_regex_free(regex_t *r)
{
    if (!r)
        return;
    regfree(r);
    free(r);
}
