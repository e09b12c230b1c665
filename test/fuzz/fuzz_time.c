/*
 * Times and durations: what is read is written so that it reads back as the same, and lies within
 * the years and the bounds that the headers promise.
 */
#include "base/clock.h"
#include "base/str.h"
#include "fuzz.h"

static const int64_t year_1_us = INT64_C(-62135596800) * 1000000;
static const int64_t year_10000_us = INT64_C(253402300800) * 1000000;
static const int64_t day_us = INT64_C(86400) * 1000000;
static const int64_t century_ms = INT64_C(36525) * 86400 * 1000;

static void check_time(const char *s, size_t n)
{
    char text[CLOCK_TEXT_MAX];
    int64_t us = -77, again = 0;
    if (!clock_parse(s, n, &us)) {
        HOLDS(us == -77);
        return;
    }
    HOLDS(n >= strlen("2026-11-21T10:00:00Z") && s[4] == '-' && s[13] == ':');
    /* An offset may lead across the border. */
    HOLDS(us >= year_1_us - day_us && us < year_10000_us + day_us);
    if (us < year_1_us || us >= year_10000_us) {
        return;
    }
    clock_format(text, us);
    HOLDS(clock_parse(text, strlen(text), &again) && again == us);
    if (s[n - 1] == 'Z' || s[n - 1] == 'z') { /* no other day is meant than the one that is said */
        HOLDS(memcmp(text, s, strlen("2026-11-21")) == 0);
        HOLDS(memcmp(text + 11, s + 11, strlen("10:00:00")) == 0);
    }
    clock_format_us(text, us);
    HOLDS(strlen(text) == strlen("2026-11-21T10:00:00.000000Z"));
    HOLDS(clock_parse(text, strlen(text), &again) && again == us);
}

static void check_duration(const char *s)
{
    char text[32];
    int64_t ms = -77, again = 0;
    if (!str_to_duration_ms(s, &ms)) {
        HOLDS(ms == -77);
        return;
    }
    HOLDS(ms >= 0 && ms <= century_ms);
    str_from_duration_ms(text, sizeof(text), ms);
    HOLDS(str_to_duration_ms(text, &again) && again == ms);
    HOLDS(strlen(text) <= strlen(s) || s[0] == '0');
}

static void check_number(const char *s)
{
    char text[32];
    int64_t n = -77;
    if (str_to_i64(s, &n)) {
        snprintf(text, sizeof(text), "%lld", (long long)n);
        const char *digits = s + (s[0] == '-');
        digits += strspn(digits, "0");
        HOLDS(str_eq(n < 0 ? text + 1 : text, digits[0] ? digits : "0"));
    } else {
        HOLDS(n == -77);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct fuzz_input in = {(const char *)data, size};
    char *exact = fuzz_copy(in), *text = fuzz_text(in);
    check_time(exact, size);
    check_duration(text);
    check_number(text);
    free(text);
    free(exact);
    return 0;
}
