#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/rng.h"
#include "base/str.h"
#include "naming/naming.h"

#define ORG_UUID "0a1b2c3d-6a0e-4c55-8f1e-5d2f0c9b7a01"
#define PRJ_UUID "9f8e7d6c-6a0e-4c55-8f1e-5d2f0c9b7a02"
#define SUB_UUID "2f1c9a52-6a0e-4c55-8f1e-5d2f0c9b7a01"

static struct naming_input input(const char *org, const char *project, const char *type,
                                 const char *id)
{
    return (struct naming_input){.organization_slug = org,
                                 .organization_uuid = ORG_UUID,
                                 .project_slug = project,
                                 .project_uuid = PRJ_UUID,
                                 .offering_type = type,
                                 .subscription_id = id,
                                 .subscription_uuid = SUB_UUID};
}

static void make(const struct naming_input *in, char out[NAME_BYTES_MAX + 1])
{
    struct err err;
    if (naming_make(in, out, &err))
        fail_msg("%s", err.msg);
}

static void names_by_example(void **state)
{
    (void)state;
    static const struct {
        const char *org, *project, *type, *id, *name;
    } cases[] = {
        /* The identifier scheme's own examples. */
        {"acme-corp", "website-support", "csa", "001", "acme-corp-website-support-csa-001"},
        {"techstartup", "product-team", "research", "042", "techstartup-product-team-research-042"},
        {"consultingfirm", "client-a", "code-assistant", "108",
         "consultingfirm-client-a-code-assistant-108"},
        /* Normalising. */
        {"Acme_Corp", "Website  Support!", "CSA", "1", "acme-corp-websitesupport-csa-001"},
        {"--a__b--", "_-_c_-_", "-t-", "-42-", "a-b-c-t-042"},
        {"žluť", "a/../b", "t\n", "7", "lu-ab-t-007"},
        /* Ids: numbers are padded, not cut; other ids stay; none is the UUID. */
        {"o", "p", "t", "0", "o-p-t-000"},
        {"o", "p", "t", "0042", "o-p-t-0042"},
        {"o", "p", "t", "12345", "o-p-t-12345"},
        {"o", "p", "t", "a1", "o-p-t-a1"},
        {"o", "p", "t", "1-2", "o-p-t-1-2"},
        {"o", "p", "t", NULL, "o-p-t-2f1c9a526a0e4c558f1e5d2f0c9b7a01"},
        {"o", "p", "t", "", "o-p-t-2f1c9a526a0e4c558f1e5d2f0c9b7a01"},
        {"o", "p", "t", "#!", "o-p-t-2f1c9a526a0e4c558f1e5d2f0c9b7a01"},
        {"o", "p", "t", SUB_UUID, "o-p-t-" SUB_UUID},
        /* Empty slugs, also those of which nothing is left. */
        {"", "p", "t", "1", "0a1b2c3d-p-t-001"},
        {"o", "", "t", "1", "o-9f8e7d6c-t-001"},
        {"日本", "___", "t", "1", "0a1b2c3d-9f8e7d6c-t-001"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct naming_input in = input(cases[i].org, cases[i].project, cases[i].type, cases[i].id);
        char name[NAME_BYTES_MAX + 1];
        make(&in, name);
        assert_string_equal(name, cases[i].name);
    }
}

static void normalises_within_its_space(void **state)
{
    (void)state;
    char out[6];
    naming_normalise("ab-cd-ef", out, sizeof(out));
    assert_string_equal(out, "ab-cd");
    naming_normalise("abcde-f", out, sizeof(out));
    assert_string_equal(out, "abcde");
    naming_normalise("abcd-ef", out, sizeof(out)); /* no dash is left at the end */
    assert_string_equal(out, "abcd");
    naming_normalise("abc", out, 1);
    assert_string_equal(out, "");
}

static void type_and_id_have_a_bound(void **state)
{
    (void)state;
    static const char forty[] = "a234567890b234567890c234567890d234567890";
    static const char *const too_long[] = {"a234567890b234567890c234567890d2345678901",
                                           "a234567890b234567890c234567890d234567890-x",
                                           "a234567890b234567890c234567890d23456789-xy"};
    char name[NAME_BYTES_MAX + 1];
    struct naming_input in = input("o", "p", forty, forty);
    make(&in, name);
    assert_string_equal(name + 4 + 40, "-a234567890b234567890c234567890d234567890");
    in = input("o", "p", "_a234567890_b234567890_c234567890_d2345_!!!", "1");
    make(&in, name);
    str_copy(name, sizeof(name), "untouched");
    struct err err;
    for (size_t i = 0; i < ARRAY_LEN(too_long); i++) {
        in = input("o", "p", too_long[i], "1");
        assert_int_equal(naming_make(&in, name, &err), -1);
        assert_int_equal(err.class, ERR_INVALID);
        in = input("o", "p", "t", too_long[i]);
        assert_int_equal(naming_make(&in, name, &err), -1);
        assert_int_equal(err.class, ERR_INVALID);
    }
    static const char *const no_type[] = {"", "-", "__", "日本"};
    for (size_t i = 0; i < ARRAY_LEN(no_type); i++) {
        in = input("o", "p", no_type[i], "1");
        assert_int_equal(naming_make(&in, name, &err), -1);
        assert_int_equal(err.class, ERR_INVALID);
    }
    assert_string_equal(name, "untouched");
}

/* `length` letters that cycle, so that every place is different from its neighbours. */
static const char *long_slug(char *buffer, size_t length, char first)
{
    for (size_t i = 0; i < length; i++)
        buffer[i] = (char)(first + (char)(i % 7));
    buffer[length] = '\0';
    return buffer;
}

static void cuts_the_project_first(void **state)
{
    (void)state;
    char org[301], project[301], name[NAME_BYTES_MAX + 1], hash[65], want[1024];
    /* 20 + 99 + 3 + 3 and three dashes are 128 bytes. */
    struct naming_input in =
        input(long_slug(org, 20, 'a'), long_slug(project, 99, 'p'), "csa", "001");
    make(&in, name);
    assert_int_equal(strlen(name), 128);
    snprintf(want, sizeof(want), "%s-%s-csa-001", org, project);
    assert_string_equal(name, want);

    long_slug(project, 100, 'p');
    make(&in, name);
    str_sha256_hex(hash, project, 100);
    snprintf(want, sizeof(want), "%s-%.92s-%.6s-csa-001", org, project, hash);
    assert_int_equal(strlen(name), 128);
    assert_string_equal(name, want);

    /* Both: the project down to 8 bytes, the organization to what is left. */
    long_slug(org, 300, 'a');
    make(&in, name);
    char org_hash[65];
    str_sha256_hex(org_hash, org, 300);
    snprintf(want, sizeof(want), "%.97s-%.6s-%.8s-%.6s-csa-001", org, org_hash, project, hash);
    assert_string_equal(name, want);

    /* A project of 15 bytes gains nothing from a cut: the organization gives it all. */
    long_slug(project, 15, 'p');
    make(&in, name);
    snprintf(want, sizeof(want), "%.97s-%.6s-%s-csa-001", org, org_hash, project);
    assert_string_equal(name, want);

    /* A cut behind a dash drops the dash. */
    long_slug(org, 20, 'a');
    long_slug(project, 100, 'p');
    project[91] = '-';
    make(&in, name);
    str_sha256_hex(hash, project, 100);
    snprintf(want, sizeof(want), "%s-%.91s-%.6s-csa-001", org, project, hash);
    assert_string_equal(name, want);
}

static void what_differs_behind_the_cut_still_counts(void **state)
{
    (void)state;
    char a[301], b[301], one[NAME_BYTES_MAX + 1], two[NAME_BYTES_MAX + 1];
    long_slug(a, 300, 'a');
    long_slug(b, 300, 'a');
    for (size_t i = 130; i < 300; i++) {
        b[i] = 'z';
        struct naming_input in = input("o", a, "t", "1");
        make(&in, one);
        in.project_slug = b;
        make(&in, two);
        assert_string_not_equal(one, two);
        in = input(a, "p", "t", "1");
        make(&in, one);
        in.organization_slug = b;
        make(&in, two);
        assert_string_not_equal(one, two);
        b[i] = a[i];
    }
}

/*
 * What is injective and what is not: with three components fixed the fourth decides; across a
 * border the joining '-' hides where one component ends, and "1" and "001" are one id.
 */
static void borders_are_not_injective(void **state)
{
    (void)state;
    static const struct {
        const char *parts[2][4];
        bool same;
    } cases[] = {
        {{{"a-b", "c", "t", "1"}, {"a", "b-c", "t", "1"}}, true},
        {{{"a", "b-c", "t", "1"}, {"a", "b", "c-t", "1"}}, true},
        {{{"a", "b", "t-x", "001"}, {"a", "b", "t", "x-001"}}, true},
        {{{"a", "b", "t", "1"}, {"a", "b", "t", "001"}}, true},
        {{{"a", "b", "t", "1"}, {"a", "b", "t", "0001"}}, false},
        {{{"ab", "c", "t", "1"}, {"a", "bc", "t", "1"}}, false},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char names[2][NAME_BYTES_MAX + 1];
        for (size_t k = 0; k < 2; k++) {
            const char *const *p = cases[i].parts[k];
            struct naming_input in = input(p[0], p[1], p[2], p[3]);
            make(&in, names[k]);
        }
        assert_int_equal(str_eq(names[0], names[1]), cases[i].same);
    }
}

static void random_slug(struct rng *r, char *out, size_t max)
{
    static const char letters[] = "abcXYZ0189--__ .!\xc3\xa9";
    size_t n = rng_below(r, 8) == 0 ? rng_below(r, max) : rng_below(r, 24);
    for (size_t i = 0; i < n; i++)
        out[i] = letters[rng_below(r, sizeof(letters) - 1)];
    out[n] = '\0';
}

struct draw {
    char text[4][301];
    char normal[4][301];
};

static void draw_components(struct rng *r, struct draw *d)
{
    for (size_t i = 0; i < 4; i++)
        random_slug(r, d->text[i], i < 2 ? 300 : 40);
    if (d->text[2][0] == '\0' || strspn(d->text[2], "-_ .!\xc3\xa9") == strlen(d->text[2]))
        str_copy(d->text[2], sizeof(d->text[2]), "t");
    for (size_t i = 0; i < 4; i++)
        naming_normalise(d->text[i], d->normal[i], sizeof(d->normal[i]));
}

static struct naming_input input_of(const struct draw *d)
{
    return input(d->text[0], d->text[1], d->text[2], d->text[3]);
}

static void assert_well_formed(const char *name, const struct draw *d)
{
    size_t n = strlen(name);
    assert_in_range(n, 7, NAME_BYTES_MAX);
    assert_int_equal(strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-"), n);
    assert_null(strstr(name, "--"));
    assert_true(name[0] != '-' && name[n - 1] != '-');
    /* Type and id stand whole at the end. */
    char tail[1024];
    const char *id = d->normal[3];
    bool number = id[0] && strspn(id, "0123456789") == strlen(id);
    int pad = number && strlen(id) < 3 ? 3 - (int)strlen(id) : 0;
    snprintf(tail, sizeof(tail), "-%s-%.*s%s", d->normal[2], pad, "00",
             id[0] ? id : "2f1c9a526a0e4c558f1e5d2f0c9b7a01");
    assert_true(n > strlen(tail));
    assert_string_equal(name + n - strlen(tail), tail);
}

/* True when both come to one component: the same normalised, or the same number. */
static bool same_component(size_t which, const char *a, const char *b)
{
    if (which != 3)
        return str_eq(a, b);
    int64_t x, y;
    bool numbers = str_to_i64(a, &x) && str_to_i64(b, &y) && a[0] != '-' && b[0] != '-';
    return str_eq(a, b) || (numbers && x == y && strlen(a) <= 3 && strlen(b) <= 3);
}

static void properties(void **state)
{
    (void)state;
    uint64_t seed = (uint64_t)clock_mono_us();
    print_message("seed %llu\n", (unsigned long long)seed);
    struct rng r;
    rng_seed(&r, seed);
    for (int i = 0; i < 20000; i++) {
        struct draw d = {0}, other = {0};
        draw_components(&r, &d);
        draw_components(&r, &other);
        struct naming_input in = input_of(&d);
        char name[NAME_BYTES_MAX + 1], again[NAME_BYTES_MAX + 1], text[301];
        make(&in, name);
        assert_well_formed(name, &d);
        make(&in, again);
        assert_string_equal(name, again);
        for (size_t k = 0; k < 4; k++) {
            naming_normalise(d.normal[k], text, sizeof(text));
            assert_string_equal(text, d.normal[k]);
        }
        /* Normalised components make the same name. */
        in = input(d.normal[0], d.normal[1], d.normal[2], d.normal[3]);
        make(&in, again);
        assert_string_equal(name, again);
        size_t which = rng_below(&r, 4);
        if (same_component(which, d.normal[which], other.normal[which]))
            continue;
        struct draw changed = d;
        memcpy(changed.text[which], other.text[which], sizeof(changed.text[which]));
        in = input_of(&changed);
        make(&in, again);
        if (str_eq(name, again))
            fail_msg("component %zu: \"%s\" and \"%s\" both make %s", which, d.text[which],
                     changed.text[which], name);
    }
}

/* Recorded once: another id for the same subscription would make a second flow. */
static void flow_ids(void **state)
{
    (void)state;
    char a[UUID_TEXT], b[UUID_TEXT];
    naming_flow_uuid(SUB_UUID, a);
    naming_flow_uuid("00000000-0000-4000-8000-000000000000", b);
    assert_string_not_equal(a, b);
    assert_int_equal(a[14], '8');
    assert_non_null(strchr("89ab", a[19]));
    assert_string_equal(a, "0b4b33c9-3a4a-805a-9b3e-2ce9aa61b145");
}

static void markers(void **state)
{
    (void)state;
    char marker[MARKER_MAX];
    naming_marker(SUB_UUID, marker);
    assert_string_equal(marker, "waldur-subscription:" SUB_UUID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_by_example),
        cmocka_unit_test(normalises_within_its_space),
        cmocka_unit_test(type_and_id_have_a_bound),
        cmocka_unit_test(cuts_the_project_first),
        cmocka_unit_test(what_differs_behind_the_cut_still_counts),
        cmocka_unit_test(borders_are_not_injective),
        cmocka_unit_test(properties),
        cmocka_unit_test(flow_ids),
        cmocka_unit_test(markers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
