#include "base/buf.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"

enum { BUF_FIRST_CAP = 128, DIGITS_MAX = 20 };

static const char replacement[] = "\xEF\xBF\xBD"; /* U+FFFD */

void buf_init(struct buf *b, size_t max)
{
    /* One byte beyond max is allocated for the NUL. */
    *b = (struct buf){.max = max < SIZE_MAX ? max : SIZE_MAX - 1};
}

void buf_done(struct buf *b)
{
    free(b->data);
    buf_init(b, b->max);
}

void buf_reset(struct buf *b)
{
    b->len = 0;
    b->failed = b->full = false;
    if (b->data)
        b->data[0] = '\0';
}

static int buf_fail(struct buf *b)
{
    buf_done(b);
    b->failed = true;
    return -1;
}

/* Room for n more bytes and the NUL. */
static int buf_reserve(struct buf *b, size_t n)
{
    if (b->failed)
        return -1;
    if (n > b->max - b->len) {
        (void)buf_fail(b);
        b->full = true;
        return -1;
    }
    size_t need = b->len + n + 1;
    if (need <= b->cap)
        return 0;
    size_t cap = b->cap ? b->cap : BUF_FIRST_CAP;
    while (cap < need)
        cap = cap > SIZE_MAX / 2 ? need : cap * 2;
    if (cap > b->max + 1)
        cap = b->max + 1;
    char *data = realloc(b->data, cap);
    if (!data)
        return buf_fail(b);
    b->data = data;
    b->cap = cap;
    b->data[b->len] = '\0';
    return 0;
}

int buf_add(struct buf *b, const void *p, size_t n)
{
    if (buf_reserve(b, n))
        return -1;
    if (n > 0)
        memcpy(b->data + b->len, p, n);
    b->len += n;
    b->data[b->len] = '\0';
    return 0;
}

int buf_adds(struct buf *b, const char *s)
{
    return buf_add(b, s, strlen(s));
}

int buf_addc(struct buf *b, char c)
{
    return buf_add(b, &c, 1);
}

int buf_add_i64(struct buf *b, int64_t n)
{
    char text[DIGITS_MAX + 1];
    size_t at = sizeof(text);
    uint64_t left = n < 0 ? 0 - (uint64_t)n : (uint64_t)n;
    do {
        text[--at] = (char)('0' + left % 10);
        left /= 10;
    } while (left > 0);
    if (n < 0)
        text[--at] = '-';
    return buf_add(b, text + at, sizeof(text) - at);
}

int buf_vaddf(struct buf *b, const char *fmt, va_list ap)
{
    va_list again;
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    int r = -1;
    if (n < 0) {
        buf_fail(b);
    } else if (!buf_reserve(b, (size_t)n)) {
        vsnprintf(b->data + b->len, (size_t)n + 1, fmt, again);
        b->len += (size_t)n;
        r = 0;
    }
    va_end(again);
    return r;
}

int buf_addf(struct buf *b, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int r = buf_vaddf(b, fmt, ap);
    va_end(ap);
    return r;
}

/* One ASCII character that may not stand in a JSON string as it is. */
static int add_escaped(struct buf *b, char c)
{
    switch (c) {
    case '"':
        return buf_add(b, "\\\"", 2);
    case '\\':
        return buf_add(b, "\\\\", 2);
    case '\b':
        return buf_add(b, "\\b", 2);
    case '\f':
        return buf_add(b, "\\f", 2);
    case '\n':
        return buf_add(b, "\\n", 2);
    case '\r':
        return buf_add(b, "\\r", 2);
    case '\t':
        return buf_add(b, "\\t", 2);
    case '\0':
        return buf_add(b, replacement, sizeof(replacement) - 1);
    default:
        return buf_addf(b, "\\u%04x", (unsigned)(unsigned char)c);
    }
}

/* ASCII that stands in a JSON string as it is: nearly everything. */
static bool is_plain(char c)
{
    return c >= 0x20 && c != '"' && c != '\\' && (unsigned char)c < 0x80;
}

int buf_add_jsonn(struct buf *b, const char *s, size_t n)
{
    if (!s)
        return buf_add(b, "null", 4);
    buf_addc(b, '"');
    size_t start = 0; /* of the run that is copied as it is */
    for (size_t i = 0; i < n;) {
        if (is_plain(s[i])) {
            i++;
            continue;
        }
        size_t step = str_utf8_step(s + i, n - i);
        if (step > 1) {
            i += step;
            continue;
        }
        buf_add(b, s + start, i - start);
        if (step == 0)
            buf_add(b, replacement, sizeof(replacement) - 1);
        else
            add_escaped(b, s[i]);
        start = ++i;
    }
    buf_add(b, s + start, n - start);
    return buf_addc(b, '"');
}

int buf_add_json(struct buf *b, const char *s)
{
    return buf_add_jsonn(b, s, s ? strlen(s) : 0);
}

static bool is_unreserved(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '.' || c == '_' || c == '~';
}

int buf_add_url(struct buf *b, const char *s)
{
    for (; *s; s++) {
        if (is_unreserved(*s))
            buf_addc(b, *s);
        else
            buf_addf(b, "%%%02X", (unsigned)(unsigned char)*s);
    }
    return b->failed ? -1 : 0;
}

const char *buf_str(const struct buf *b)
{
    return b->data ? b->data : "";
}

char *buf_steal(struct buf *b)
{
    /* A buffer to which nothing was added still hands over "": NULL says failed and nothing else.
     */
    if (buf_reserve(b, 0))
        return NULL;
    char *data = b->data;
    buf_init(b, b->max);
    return data;
}
