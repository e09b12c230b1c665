/*
 * Small string helpers that the C library lacks.
 */
#ifndef BASE_STR_H
#define BASE_STR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

/* Copies at most size-1 bytes and always terminates; true when everything fitted. size > 0. */
bool str_copy(char *dst, size_t size, const char *src);
bool str_eq(const char *a, const char *b); /* NULL equals NULL alone */
bool str_starts(const char *s, const char *prefix);
/* NULL for NULL; NULL also when memory ends. */
char *str_dup(const char *s);
char *str_dupn(const char *s, size_t n);

/* Whole-string decimal with an optional '-'; false on anything else, overflow included. */
bool str_to_i64(const char *s, int64_t *out);

/* Well-formed UTF-8 without surrogates and overlongs (Unicode 15, table 3-7). */
bool str_is_utf8(const char *s, size_t n);
/* Bytes (1 to 4) of the well-formed character that starts at s; 0 where there is none, and for n =
 * 0. */
size_t str_utf8_step(const char *s, size_t n);
/* Code points in well-formed UTF-8. */
size_t str_utf8_len(const char *s, size_t n);
/* The largest length <= max to which well-formed UTF-8 can be cut without splitting a character. */
size_t str_utf8_cut(const char *s, size_t n, size_t max);

/* out needs 2 * n + 1 bytes. */
void str_hex(char *out, const void *p, size_t n);
/* Lower-case hex SHA-256; out holds 65 bytes. */
void str_sha256_hex(char out[65], const void *p, size_t n);

/*
 * Durations as the configuration writes them: digits and one of ms, s, m, h, d; "0" alone is 0.
 * False on anything else or beyond 100 years.
 */
bool str_to_duration_ms(const char *s, int64_t *out_ms);
/* The shortest such form, e.g. 90000 -> "90s"; ms >= 0. */
void str_from_duration_ms(char *out, size_t size, int64_t ms);

#endif
