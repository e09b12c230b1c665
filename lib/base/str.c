#include "base/str.h"

#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool str_copy(char *dst, size_t size, const char *src)
{
    size_t n = strnlen(src, size);
    bool fits = n < size;
    if (!fits)
        n = size - 1;
    memcpy(dst, src, n);
    dst[n] = '\0';
    return fits;
}

bool str_eq(const char *a, const char *b)
{
    if (!a || !b)
        return a == b;
    return strcmp(a, b) == 0;
}

bool str_starts(const char *s, const char *prefix)
{
    return strncmp(s, prefix, strlen(prefix)) == 0;
}

char *str_dupn(const char *s, size_t n)
{
    if (!s || n == SIZE_MAX)
        return NULL;
    char *copy = malloc(n + 1);
    if (!copy)
        return NULL;
    memcpy(copy, s, n);
    copy[n] = '\0';
    return copy;
}

char *str_dup(const char *s)
{
    return s ? str_dupn(s, strlen(s)) : NULL;
}

/* Digits at *s, which moves past them; false for none or beyond INT64_MIN. Negative: it reaches
 * further. */
static bool digits_negated(const char **s, int64_t *out)
{
    const char *p = *s;
    int64_t v = 0;
    for (; *p >= '0' && *p <= '9'; p++) {
        if (__builtin_mul_overflow(v, 10, &v) || __builtin_sub_overflow(v, *p - '0', &v))
            return false;
    }
    if (p == *s)
        return false;
    *s = p;
    *out = v;
    return true;
}

bool str_to_i64(const char *s, int64_t *out)
{
    if (!s)
        return false;
    bool negative = *s == '-';
    s += negative;
    int64_t v;
    if (!digits_negated(&s, &v) || *s)
        return false;
    if (!negative && __builtin_sub_overflow(0, v, &v))
        return false;
    *out = v;
    return true;
}

static bool is_tail(unsigned char c)
{
    return (c & 0xC0U) == 0x80U;
}

size_t str_utf8_step(const char *s, size_t n)
{
    const unsigned char *p = (const unsigned char *)s;
    if (n == 0)
        return 0;
    if (p[0] < 0x80)
        return 1;
    if (p[0] < 0xC2 || p[0] > 0xF4 || n < 2 || !is_tail(p[1]))
        return 0;
    if (p[0] < 0xE0)
        return 2;
    /* The second byte's narrower ranges keep out overlongs, surrogates and what is above U+10FFFF.
     */
    if ((p[0] == 0xE0 && p[1] < 0xA0) || (p[0] == 0xED && p[1] > 0x9F))
        return 0;
    if (n < 3 || !is_tail(p[2]))
        return 0;
    if (p[0] < 0xF0)
        return 3;
    if ((p[0] == 0xF0 && p[1] < 0x90) || (p[0] == 0xF4 && p[1] > 0x8F))
        return 0;
    return n >= 4 && is_tail(p[3]) ? 4 : 0;
}

bool str_is_utf8(const char *s, size_t n)
{
    while (n > 0) {
        size_t step = str_utf8_step(s, n);
        if (step == 0)
            return false;
        s += step;
        n -= step;
    }
    return true;
}

size_t str_utf8_len(const char *s, size_t n)
{
    size_t points = 0;
    for (size_t i = 0; i < n; i++)
        points += !is_tail((unsigned char)s[i]);
    return points;
}

size_t str_utf8_cut(const char *s, size_t n, size_t max)
{
    if (n <= max)
        return n;
    while (max > 0 && is_tail((unsigned char)s[max]))
        max--;
    return max;
}

void str_hex(char *out, const void *p, size_t n)
{
    static const char digits[] = "0123456789abcdef";
    const unsigned char *b = p;
    for (size_t i = 0; i < n; i++) {
        *out++ = digits[b[i] >> 4];
        *out++ = digits[b[i] & 15U];
    }
    *out = '\0';
}

void str_sha256_hex(char out[65], const void *p, size_t n)
{
    unsigned char digest[crypto_hash_sha256_BYTES];
    crypto_hash_sha256(digest, p, n);
    str_hex(out, digest, sizeof(digest));
}

/* Largest first, so that the first that divides gives the shortest text. */
static const struct {
    const char *name;
    int64_t ms;
} duration_units[] = {
    {"d", 86400000}, {"h", 3600000}, {"m", 60000}, {"s", 1000}, {"ms", 1},
};

static const int64_t duration_max_ms = INT64_C(36525) * 86400000; /* 100 years */

bool str_to_duration_ms(const char *s, int64_t *out_ms)
{
    if (str_eq(s, "0")) {
        *out_ms = 0;
        return true;
    }
    int64_t v;
    if (!s || !digits_negated(&s, &v))
        return false;
    for (size_t i = 0; i < ARRAY_LEN(duration_units); i++) {
        if (!str_eq(s, duration_units[i].name))
            continue;
        if (__builtin_mul_overflow(v, -duration_units[i].ms, &v) || v > duration_max_ms)
            return false;
        *out_ms = v;
        return true;
    }
    return false;
}

void str_from_duration_ms(char *out, size_t size, int64_t ms)
{
    if (ms == 0) {
        str_copy(out, size, "0");
        return;
    }
    size_t i = 0;
    while (ms % duration_units[i].ms != 0)
        i++;
    snprintf(out, size, "%" PRId64 "%s", ms / duration_units[i].ms, duration_units[i].name);
}
