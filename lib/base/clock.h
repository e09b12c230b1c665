/*
 * Time. Wall-clock time is microseconds since 1970-01-01 UTC (`_us`),
 * monotonic time is milliseconds from an arbitrary start (`_ms`); the two are
 * never mixed. The core reads no clock: it is given the time.
 */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

int64_t clock_wall_us(void);
int64_t clock_mono_ms(void);
int64_t clock_mono_us(void);

/*
 * RFC 3339 date-time, as JSON Schema's `date-time` format: "T" and "Z" in either case, any offset
 * up to 23:59, a fraction of 1 to 9 digits (cut to microseconds), seconds 00-59, real calendar
 * days, years 0001-9999. False on anything else; then *us is untouched.
 */
bool clock_parse(const char *s, size_t n, int64_t *us);
/* "2026-11-21T10:00:00Z", with ".ffffff" only where the microseconds are not 0. */
enum { CLOCK_TEXT_MAX = 32 };
void clock_format(char out[CLOCK_TEXT_MAX], int64_t us);
/* The same, always with six digits of fraction: columns of times line up. */
void clock_format_us(char out[CLOCK_TEXT_MAX], int64_t us);

#endif
