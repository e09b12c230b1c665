/*
 * Errors as values. A function that can fail returns 0 or -1 and fills the
 * `struct err` it is given; outputs are untouched on failure. The class, not
 * the call site, decides what may be done next (see machine/judge.h).
 * Messages never carry a secret or a value taken from untrusted input whole.
 */
#ifndef BASE_ERR_H
#define BASE_ERR_H

#include <stdbool.h>
#include <stdint.h>

enum err_class {
    ERR_NONE = 0,
    ERR_INVALID,      /* the input or the configuration is wrong; permanent */
    ERR_UNAVAILABLE,  /* nothing was sent or the server is away; plain retry */
    ERR_UNKNOWN,      /* it was sent and nobody knows what became of it; probe first */
    ERR_THROTTLED,    /* told to wait; retry_after_ms says how long; costs no attempt */
    ERR_UNAUTHORIZED, /* our credential is refused; hold the runtime */
    ERR_REFUSED,      /* the server understood and said no; permanent */
    ERR_CONFLICT,     /* the name is taken by what is not ours; permanent */
    ERR_GONE,         /* it does not exist (any more); success for a delete */
    ERR_INTERNAL,     /* memory, a broken invariant, a bug */
    ERR_CLASS_MAX
};

enum { ERR_MSG_MAX = 512 };

struct err {
    enum err_class class;
    int http_status;        /* 0 where no answer came */
    int64_t retry_after_ms; /* -1 where the server named none */
    char sqlstate[6];       /* "" where PostgreSQL was not involved */
    char msg[ERR_MSG_MAX];  /* one line: what was wrong and what to do; cut with "..." */
};

/* A clean error: class ERR_NONE, retry_after_ms -1, everything else empty. */
void err_clear(struct err *e);

/* Clears *e (which may be NULL), sets class and message, returns -1 for `return err_set(...)`. */
int err_set(struct err *e, enum err_class class, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Puts "prefix: " before the message that is there; returns -1. */
int err_prefix(struct err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Every occurrence of the secret in the message becomes asterisks, also of its beginning alone:
 * servers may repeat what they were sent, and their words are cut. */
void err_redact(struct err *e, const char *secret);

/* ERR_INTERNAL "out of memory"; returns -1. */
int err_nomem(struct err *e);

/* Stable lower-case name ("unavailable", ...), as stored in error_class. */
const char *err_class_name(enum err_class class);
/* The reverse; ERR_CLASS_MAX for a name that is none. */
enum err_class err_class_parse(const char *name);

#endif
