/*
 * JSON for untrusted input. json_parse checks strictly first (RFC 8259, UTF-8, no NUL in any form,
 * no duplicate member, depth, string length, size) without recursion, then builds a cJSON tree, so
 * that the tree says exactly what the bytes say. Numbers are doubles: more than 63 characters or
 * beyond a double's range is refused, precision is not checked (json_i64 does).
 */
#ifndef BASE_JSON_H
#define BASE_JSON_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum { JSON_POINTER_MAX = 256, JSON_REASON_MAX = 200 };

struct json_limits {
    size_t size;   /* bytes of the document */
    size_t depth;  /* nested arrays and objects; at most 64 */
    size_t string; /* bytes of one string as written, names included */
};

/* Where and why an input was refused. pointer is RFC 6901, "" for the whole; cut whole segments
 * with "/..." */
struct json_fault {
    char pointer[JSON_POINTER_MAX];
    char reason[JSON_REASON_MAX]; /* never quotes a value from the input */
    bool internal; /* memory ended: says nothing about the input, which may be tried again */
};

/* Fills *fault; returns -1. */
int json_refuse(struct json_fault *fault, const char *pointer, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* The same for a failure that is ours (memory), not the input's. */
int json_broken(struct json_fault *fault, const char *why);

/* 0 and *out (cJSON_Delete), or -1 and *fault. */
int json_parse(const char *p, size_t n, const struct json_limits *limits, cJSON **out,
               struct json_fault *fault);

/* A member of an object as it is written, without the space around it. */
struct json_member {
    const char *name; /* between its quotes, escapes as they are */
    size_t name_len;
    const char *value;
    size_t value_len;
};

typedef void json_member_fn(void *ctx, const struct json_member *member);

/*
 * Tells the members of an object in their order, without building anything: for documents that pass
 * through. The check is the same as json_parse's; what fn was told counts only where 0 comes back.
 */
int json_members(const char *p, size_t n, const struct json_limits *limits, json_member_fn *fn,
                 void *ctx, struct json_fault *fault);
/* For names that are written without escapes. */
bool json_member_is(const struct json_member *m, const char *name);

/* Appends "/token" with ~ and / escaped (RFC 6901); cuts rather than overflows. */
void json_pointer_push(char pointer[JSON_POINTER_MAX], const char *token);
void json_pointer_push_index(char pointer[JSON_POINTER_MAX], size_t index);

/* Look-ups in trees: `path` is member names joined by '.', e.g. "data.plan.tier". NULL when absent.
 */
const cJSON *json_get(const cJSON *tree, const char *path);
const char *json_str(const cJSON *tree, const char *path); /* NULL unless a string */
bool json_i64(const cJSON *tree, const char *path,
              int64_t *out); /* false unless whole and within ±(2^53 - 1) */
bool json_bool(const cJSON *tree, const char *path, bool fallback);
/* True when path is an array of strings that holds s. */
bool json_has_string(const cJSON *tree, const char *path, const char *s);

/*
 * Compact text (free()), that json_parse reads back as the same tree, numbers to the last bit. NULL
 * when memory ends, above 64 MiB and above 64 levels.
 */
char *json_text(const cJSON *tree);

#endif
