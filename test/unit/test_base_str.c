#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "base/str.h"
#include "base/uuid.h"

static void copies_and_compares(void **state)
{
    (void)state;
    char d[4];
    assert_true(str_copy(d, sizeof(d), "abc"));
    assert_string_equal(d, "abc");
    assert_false(str_copy(d, sizeof(d), "abcd"));
    assert_string_equal(d, "abc");
    assert_false(str_copy(d, 1, "x"));
    assert_string_equal(d, "");
    assert_true(str_eq("a", "a") && str_eq(NULL, NULL));
    assert_false(str_eq("a", "b") || str_eq(NULL, "") || str_eq("", NULL));
    assert_true(str_starts("abc", "ab") && str_starts("abc", ""));
    assert_false(str_starts("ab", "abc"));
    assert_null(str_dup(NULL));
    assert_null(str_dupn(NULL, 3));
    char *s = str_dupn("abcdef", 3);
    assert_string_equal(s, "abc");
    free(s);
}

static void reads_integers(void **state)
{
    (void)state;
    static const struct {
        const char *in;
        bool ok;
        int64_t out;
    } cases[] = {
        {"0", true, 0},
        {"-1", true, -1},
        {"007", true, 7},
        {"9223372036854775807", true, INT64_MAX},
        {"-9223372036854775808", true, INT64_MIN},
        {"9223372036854775808", false, 0},
        {"-9223372036854775809", false, 0},
        {"99999999999999999999", false, 0},
        {"", false, 0},
        {"-", false, 0},
        {"+1", false, 0},
        {" 1", false, 0},
        {"1 ", false, 0},
        {"1x", false, 0},
        {"0x10", false, 0},
        {NULL, false, 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        int64_t v = 4711;
        assert_int_equal(str_to_i64(cases[i].in, &v), cases[i].ok);
        assert_true(v == (cases[i].ok ? cases[i].out : 4711));
    }
}

/* Decodes by the definition rather than by the table of ranges. */
static bool utf8_by_definition(const unsigned char *s, size_t n)
{
    static const unsigned smallest[] = {0, 0, 0x80, 0x800, 0x10000};
    for (size_t i = 0; i < n;) {
        if (s[i] < 0x80) {
            i++;
            continue;
        }
        size_t len = (s[i] & 0xE0) == 0xC0   ? 2
                     : (s[i] & 0xF0) == 0xE0 ? 3
                     : (s[i] & 0xF8) == 0xF0 ? 4
                                             : 0;
        if (len == 0 || n - i < len)
            return false;
        unsigned cp = s[i] & (0xFFU >> (len + 1));
        for (size_t k = 1; k < len; k++) {
            if ((s[i + k] & 0xC0) != 0x80)
                return false;
            cp = cp << 6 | (s[i + k] & 0x3FU);
        }
        if (cp < smallest[len] || cp > 0x10FFFF || (cp >= 0xD800 && cp <= 0xDFFF))
            return false;
        i += len;
    }
    return true;
}

static void utf8_agrees_with_the_definition(void **state)
{
    (void)state;
    unsigned char s[4];
    /* Every three bytes that start beyond ASCII, then four-byte sequences at the interesting leads.
     */
    for (unsigned v = 0x800000; v < 0x1000000; v += 3) {
        s[0] = (unsigned char)(v >> 16);
        s[1] = (unsigned char)(v >> 8);
        s[2] = (unsigned char)v;
        for (size_t n = 1; n <= 3; n++)
            assert_int_equal(str_is_utf8((char *)s, n), utf8_by_definition(s, n));
    }
    struct rng r;
    rng_seed(&r, 20261121);
    for (int i = 0; i < 300000; i++) {
        s[0] = (unsigned char)(0xEF + rng_below(&r, 8));
        for (size_t k = 1; k < 4; k++)
            s[k] = (unsigned char)(0x70 + rng_below(&r, 0x60));
        assert_int_equal(str_is_utf8((char *)s, 4), utf8_by_definition(s, 4));
    }
    assert_true(str_is_utf8("", 0));
    assert_true(str_is_utf8("\xf4\x8f\xbf\xbf", 4));
    assert_false(str_is_utf8("\xf4\x90\x80\x80", 4));
    assert_int_equal(str_utf8_step("", 0), 0);
}

static void counts_and_cuts_utf8(void **state)
{
    (void)state;
    const char *s = "aé€😀";
    assert_int_equal(str_utf8_len(s, strlen(s)), 4);
    assert_int_equal(str_utf8_len("", 0), 0);
    static const size_t want[] = {0, 1, 1, 3, 3, 3, 6, 6, 6, 6, 10, 10};
    for (size_t max = 0; max < ARRAY_LEN(want); max++)
        assert_int_equal(str_utf8_cut(s, strlen(s), max), want[max]);
}

static void hashes(void **state)
{
    (void)state;
    char hex[65];
    str_sha256_hex(hex, "abc", 3);
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    str_hex(hex, "\x00\xff\x1a", 3);
    assert_string_equal(hex, "00ff1a");
    str_hex(hex, "", 0);
    assert_string_equal(hex, "");
}

static void durations(void **state)
{
    (void)state;
    static const struct {
        const char *in;
        int64_t ms; /* -1: refused */
        const char *out;
    } cases[] = {
        {"0", 0, "0"},
        {"0s", 0, "0"},
        {"30s", 30000, "30s"},
        {"90s", 90000, "90s"},
        {"60s", 60000, "1m"},
        {"5m", 300000, "5m"},
        {"24h", 86400000, "1d"},
        {"30d", 2592000000, "30d"},
        {"1500ms", 1500, "1500ms"},
        {"36525d", 3155760000000, "36525d"},
        {"36526d", -1, NULL},
        {"3155760000001ms", -1, NULL},
        {"9223372036854775807d", -1, NULL},
        {"9223372036854775808ms", -1, NULL},
        {"", -1, NULL},
        {"5", -1, NULL},
        {"00", -1, NULL},
        {"-5s", -1, NULL},
        {"+5s", -1, NULL},
        {"5 s", -1, NULL},
        {" 5s", -1, NULL},
        {"5s ", -1, NULL},
        {"5S", -1, NULL},
        {"1.5h", -1, NULL},
        {"1h30m", -1, NULL},
        {"s", -1, NULL},
        {NULL, -1, NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        int64_t ms = -7;
        bool ok = str_to_duration_ms(cases[i].in, &ms);
        assert_int_equal(ok, cases[i].ms >= 0);
        assert_true(ms == (ok ? cases[i].ms : -7));
        if (!ok)
            continue;
        char text[32];
        str_from_duration_ms(text, sizeof(text), ms);
        assert_string_equal(text, cases[i].out);
    }
}

static void uuids(void **state)
{
    (void)state;
    static const char want[] = "2f1c9a52-6a0e-4c55-8f1e-5d2f0c9b7a01";
    static const char *const good[] = {
        "2f1c9a52-6a0e-4c55-8f1e-5d2f0c9b7a01",
        "2F1C9A52-6A0E-4C55-8F1E-5D2F0C9B7A01",
        "2f1c9a526a0e4c558f1e5d2f0c9b7a01",
    };
    static const char *const bad[] = {
        "",
        "2f1c9a52-6a0e-4c55-8f1e-5d2f0c9b7a0",
        "2f1c9a52-6a0e-4c55-8f1e-5d2f0c9b7a011",
        "2f1c9a52-6a0e-4c55-8f1e5-d2f0c9b7a01",
        "2f1c9a526a0e4c558f1e-5d2f0c9b7a0",
        "gf1c9a526a0e4c558f1e5d2f0c9b7a01",
        "{2f1c9a52-6a0e-4c55-8f1e-5d2f0c9b7a}",
        "2f1c9a52-6a0e-4c55-8f1e--d2f0c9b7a01",
    };
    char out[UUID_TEXT];
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        assert_true(uuid_parse(good[i], strlen(good[i]), out));
        assert_string_equal(out, want);
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_false(uuid_parse(bad[i], strlen(bad[i]), out));
    assert_false(uuid_parse(NULL, 36, out));
    assert_string_equal(out, want);
    char hex[33];
    uuid_hex(want, hex);
    assert_string_equal(hex, "2f1c9a526a0e4c558f1e5d2f0c9b7a01");

    char other[UUID_TEXT];
    for (int i = 0; i < 1000; i++) {
        uuid_make(out);
        assert_true(uuid_parse(out, UUID_TEXT - 1, other));
        assert_string_equal(out, other);
        assert_int_equal(out[14], '4');
        assert_non_null(strchr("89ab", out[19]));
    }
    uuid_make(other);
    assert_string_not_equal(out, other);
}

static void random_numbers(void **state)
{
    (void)state;
    /* The reference sequence of splitmix64 for seed 1234567. */
    static const uint64_t want[] = {UINT64_C(6457827717110365317), UINT64_C(3203168211198807973),
                                    UINT64_C(9817491932198370423), UINT64_C(4593380528125082431),
                                    UINT64_C(16408922859458223821)};
    struct rng r;
    rng_seed(&r, 1234567);
    for (size_t i = 0; i < ARRAY_LEN(want); i++)
        assert_true(rng_next(&r) == want[i]);
    assert_int_equal(rng_below(&r, 0), 0);
    assert_int_equal(rng_below(&r, 1), 0);
    unsigned seen[6] = {0};
    for (int i = 0; i < 60000; i++)
        seen[rng_below(&r, 6)]++;
    for (size_t i = 0; i < ARRAY_LEN(seen); i++)
        assert_in_range(seen[i], 9500, 10500);
    /* Three quarters of 2^64: taking the remainder alone would favour the lowest third, 1 in 2. */
    uint64_t huge = UINT64_C(3) << 62;
    unsigned low = 0;
    for (int i = 0; i < 30000; i++) {
        uint64_t v = rng_below(&r, huge);
        assert_true(v < huge);
        low += v < huge / 3;
    }
    assert_in_range(low, 9500, 10500);
}

static int start(void **state)
{
    (void)state;
    rng_init();
    rng_init();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(copies_and_compares),
        cmocka_unit_test(reads_integers),
        cmocka_unit_test(utf8_agrees_with_the_definition),
        cmocka_unit_test(counts_and_cuts_utf8),
        cmocka_unit_test(hashes),
        cmocka_unit_test(durations),
        cmocka_unit_test(uuids),
        cmocka_unit_test(random_numbers),
    };
    return cmocka_run_group_tests(tests, start, NULL);
}
