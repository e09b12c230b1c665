#include "base/clock.h"

#include <stdio.h>
#include <time.h>

enum { SECONDS_PER_DAY = 86400 };

static int64_t read_us(clockid_t id)
{
    struct timespec t;
    /* Fails only for a clock that does not exist; Linux has both. */
    clock_gettime(id, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

int64_t clock_wall_us(void)
{
    return read_us(CLOCK_REALTIME);
}

int64_t clock_mono_us(void)
{
    return read_us(CLOCK_MONOTONIC);
}

int64_t clock_mono_ms(void)
{
    return clock_mono_us() / 1000;
}

/* Days since 1970-01-01 in the proleptic Gregorian calendar; the year starts in March, leap day
 * last. */
static int64_t days_from_civil(int64_t y, int m, int d)
{
    y -= m <= 2;
    int64_t era = (y >= 0 ? y : y - 399) / 400;
    int64_t year_of_era = y - era * 400;
    int64_t day_of_year = (153 * (m + (m > 2 ? -3 : 9)) + 2) / 5 + d - 1;
    int64_t day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    return era * 146097 + day_of_era - 719468;
}

static void civil_from_days(int64_t days, int64_t *y, int *m, int *d)
{
    days += 719468;
    int64_t era = (days >= 0 ? days : days - 146096) / 146097;
    int64_t day_of_era = days - era * 146097;
    int64_t year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    int64_t month = (5 * day_of_year + 2) / 153;
    *d = (int)(day_of_year - (153 * month + 2) / 5 + 1);
    *m = (int)(month < 10 ? month + 3 : month - 9);
    *y = year_of_era + era * 400 + (*m <= 2);
}

static int month_days(int y, int m)
{
    static const unsigned char days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = (y % 4 == 0 && y % 100 != 0) || y % 400 == 0;
    return days[m - 1] + (m == 2 && leap);
}

/* The text that is left to read. */
struct cursor {
    const char *p;
    const char *end;
};

static bool take(struct cursor *c, const char *any_of)
{
    if (c->p == c->end)
        return false;
    for (; *any_of; any_of++) {
        if (*c->p == *any_of) {
            c->p++;
            return true;
        }
    }
    return false;
}

/* Exactly `width` digits within [min, max]. */
static bool number(struct cursor *c, int width, int min, int max, int *out)
{
    int v = 0;
    for (int i = 0; i < width; i++, c->p++) {
        if (c->p == c->end || *c->p < '0' || *c->p > '9')
            return false;
        v = v * 10 + (*c->p - '0');
    }
    *out = v;
    return v >= min && v <= max;
}

/* 1 to 9 digits after a '.', which is optional. */
static bool fraction(struct cursor *c, int *us)
{
    *us = 0;
    if (!take(c, "."))
        return true;
    int digits = 0;
    int scale = 100000;
    for (; c->p < c->end && *c->p >= '0' && *c->p <= '9'; c->p++, digits++) {
        *us += (*c->p - '0') * scale;
        scale /= 10;
    }
    return digits >= 1 && digits <= 9;
}

static bool offset(struct cursor *c, int *seconds)
{
    *seconds = 0;
    if (take(c, "Zz"))
        return true;
    if (c->p == c->end)
        return false;
    int sign = *c->p == '-' ? -1 : 1;
    int h, m;
    if (!take(c, "+-") || !number(c, 2, 0, 23, &h) || !take(c, ":") || !number(c, 2, 0, 59, &m))
        return false;
    *seconds = sign * (h * 3600 + m * 60);
    return true;
}

bool clock_parse(const char *s, size_t n, int64_t *us)
{
    if (!s)
        return false;
    struct cursor c = {s, s + n};
    int year, month, day, h, m, sec, micro, off;
    if (!number(&c, 4, 1, 9999, &year) || !take(&c, "-") || !number(&c, 2, 1, 12, &month) ||
        !take(&c, "-") || !number(&c, 2, 1, month_days(year, month), &day))
        return false;
    if (!take(&c, "Tt") || !number(&c, 2, 0, 23, &h) || !take(&c, ":") ||
        !number(&c, 2, 0, 59, &m) || !take(&c, ":") || !number(&c, 2, 0, 59, &sec))
        return false;
    if (!fraction(&c, &micro) || !offset(&c, &off) || c.p != c.end)
        return false;
    int64_t seconds = days_from_civil(year, month, day) * SECONDS_PER_DAY;
    seconds += h * 3600 + m * 60 + sec - off;
    *us = seconds * 1000000 + micro;
    return true;
}

static int64_t floor_div(int64_t a, int64_t b)
{
    return a / b - (a % b < 0);
}

static void format(char out[CLOCK_TEXT_MAX], int64_t us, bool always_micro)
{
    int64_t seconds = floor_div(us, 1000000);
    int micro = (int)(us % 1000000);
    if (micro < 0)
        micro += 1000000;
    int64_t days = floor_div(seconds, SECONDS_PER_DAY);
    int rest = (int)(seconds - days * SECONDS_PER_DAY);
    int64_t y;
    int m, d;
    civil_from_days(days, &y, &m, &d);
    /* The year fits in 7 characters over the whole range of us. */
    int n = snprintf(out, CLOCK_TEXT_MAX, "%04d-%02d-%02dT%02d:%02d:%02d", (int)y, m, d,
                     rest / 3600, rest / 60 % 60, rest % 60);
    size_t left = CLOCK_TEXT_MAX - (size_t)n;
    if (micro != 0 || always_micro)
        snprintf(out + n, left, ".%06dZ", micro);
    else
        snprintf(out + n, left, "Z");
}

void clock_format(char out[CLOCK_TEXT_MAX], int64_t us)
{
    format(out, us, false);
}

void clock_format_us(char out[CLOCK_TEXT_MAX], int64_t us)
{
    format(out, us, true);
}
