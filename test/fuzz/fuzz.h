/*
 * What the fuzz targets share. A target is one file, fuzz_X.c, with LLVMFuzzerTestOneInput(): it
 * feeds the bytes to what it tests and aborts where a property does not hold. It must do the same
 * for the same bytes whenever it is run: no clock, no randomness, nothing kept between two inputs.
 */
#ifndef TEST_FUZZ_FUZZ_H
#define TEST_FUZZ_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
/* Runs once, before the first input. A target may have none. */
int LLVMFuzzerInitialize(int *argc, char ***argv);

#define HOLDS(property)                                                                            \
    do {                                                                                           \
        if (!(property)) {                                                                         \
            fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #property);          \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

/* What is left of the input. */
struct fuzz_input {
    const char *p;
    size_t n;
};

/* 0 where nothing is left. */
static inline uint8_t fuzz_byte(struct fuzz_input *in)
{
    if (in->n == 0) {
        return 0;
    }
    in->n--;
    return (uint8_t)*in->p++;
}

/* Up to the mark, which is taken too, or all that is left. */
static inline struct fuzz_input fuzz_until(struct fuzz_input *in, const char *mark)
{
    struct fuzz_input out = *in;
    const char *at = in->n ? memmem(in->p, in->n, mark, strlen(mark)) : NULL;
    if (!at) {
        *in = (struct fuzz_input){NULL, 0};
        return out;
    }
    out.n = (size_t)(at - in->p);
    in->p = at + strlen(mark);
    in->n -= out.n + strlen(mark);
    return out;
}

/* A copy of its own, so that AddressSanitizer sees a byte too many; free(). */
static inline char *fuzz_copy(struct fuzz_input in)
{
    char *copy = calloc(1, in.n ? in.n : 1);
    HOLDS(copy);
    if (in.n) {
        memcpy(copy, in.p, in.n);
    }
    return copy;
}

/* The same as a C string, which ends at a NUL within. */
static inline char *fuzz_text(struct fuzz_input in)
{
    char *copy = malloc(in.n + 1);
    HOLDS(copy);
    if (in.n) {
        memcpy(copy, in.p, in.n);
    }
    copy[in.n] = '\0';
    return copy;
}

static inline bool fuzz_is_uuid(const char *s)
{
    size_t i = 0;
    for (; s[i]; i++) {
        bool dash = i == 8 || i == 13 || i == 18 || i == 23;
        if (i > 35 || (dash ? s[i] != '-' : !strchr("0123456789abcdef", s[i]))) {
            return false;
        }
    }
    return i == 36;
}

/* A refusal says where and why, in bounds, and blames the input. */
static inline void fuzz_check_fault(const struct json_fault *fault)
{
    HOLDS(memchr(fault->pointer, '\0', sizeof(fault->pointer)));
    HOLDS(memchr(fault->reason, '\0', sizeof(fault->reason)));
    HOLDS(fault->pointer[0] == '\0' || fault->pointer[0] == '/');
    HOLDS(fault->reason[0] != '\0');
    HOLDS(!fault->internal);
}

#endif
