#include "base/err.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "base/str.h"

static const char *const class_names[ERR_CLASS_MAX] = {
    [ERR_NONE] = "none",         [ERR_INVALID] = "invalid",     [ERR_UNAVAILABLE] = "unavailable",
    [ERR_UNKNOWN] = "unknown",   [ERR_THROTTLED] = "throttled", [ERR_UNAUTHORIZED] = "unauthorized",
    [ERR_REFUSED] = "refused",   [ERR_CONFLICT] = "conflict",   [ERR_GONE] = "gone",
    [ERR_INTERNAL] = "internal",
};

void err_clear(struct err *e)
{
    *e = (struct err){.class = ERR_NONE, .retry_after_ms = -1};
}

/*
 * Messages end up in log lines, headers and UTF-8 columns, and hold words of other programs:
 * control characters become spaces and broken UTF-8 (also where the cut split a character) becomes
 * '?'.
 */
static void make_one_line(char *s)
{
    size_t n = strlen(s);
    for (size_t i = 0; i < n;) {
        size_t step = str_utf8_step(s + i, n - i);
        if (step == 0)
            s[i] = '?';
        else if ((unsigned char)s[i] < 0x20 || s[i] == 0x7f)
            s[i] = ' ';
        i += step == 0 ? 1 : step;
    }
    while (n > 0 && s[n - 1] == ' ')
        s[--n] = '\0';
}

/* Takes the text over into e->msg; `full` is its length before it was cut to text's size. */
static void store_message(struct err *e, char text[ERR_MSG_MAX], size_t full)
{
    static const char dots[] = "...";
    if (full >= ERR_MSG_MAX) {
        size_t keep = str_utf8_cut(text, ERR_MSG_MAX - 1, ERR_MSG_MAX - sizeof(dots));
        memcpy(text + keep, dots, sizeof(dots));
    }
    make_one_line(text);
    memcpy(e->msg, text, strlen(text) + 1);
}

int err_set(struct err *e, enum err_class class, const char *fmt, ...)
{
    if (!e)
        return -1;
    /* Formatted aside first: an argument may be e->msg itself. */
    char text[ERR_MSG_MAX];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    if (n < 0) {
        text[0] = '\0';
        n = 0;
    }
    err_clear(e);
    e->class = class;
    store_message(e, text, (size_t)n);
    return -1;
}

int err_prefix(struct err *e, const char *fmt, ...)
{
    if (!e)
        return -1;
    char text[ERR_MSG_MAX];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    if (n < 0)
        return -1;
    size_t full = (size_t)n;
    if (full < sizeof(text)) {
        int more = snprintf(text + full, sizeof(text) - full, ": %s", e->msg);
        full += more < 0 ? 0 : (size_t)more;
    }
    store_message(e, text, full);
    return -1;
}

int err_nomem(struct err *e)
{
    return err_set(e, ERR_INTERNAL, "out of memory");
}

const char *err_class_name(enum err_class class)
{
    if ((unsigned)class >= ERR_CLASS_MAX)
        return class_names[ERR_INTERNAL];
    return class_names[class];
}

enum err_class err_class_parse(const char *name)
{
    for (unsigned i = 0; i < ERR_CLASS_MAX; i++) {
        if (str_eq(name, class_names[i]))
            return (enum err_class)i;
    }
    return ERR_CLASS_MAX;
}

/* A shorter piece than this gives nothing away, and may be an accident. */
enum { REDACT_MIN = 8 };

void err_redact(struct err *e, const char *secret)
{
    size_t n = secret ? strlen(secret) : 0;
    if (n == 0) {
        return;
    }
    size_t least = n < REDACT_MIN ? n : REDACT_MIN;
    for (char *at = e->msg; *at;) {
        size_t same = 0;
        while (same < n && at[same] == secret[same]) {
            same++;
        }
        if (same >= least) {
            memset(at, '*', same);
            at += same;
        } else {
            at++;
        }
    }
}
