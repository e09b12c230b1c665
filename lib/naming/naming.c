#include "naming/naming.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"

enum {
    CUT_HASH_LEN = 6,
    CUT_TAIL = 1 + CUT_HASH_LEN, /* '-' and the hash */
    CUT_MIN = 8 + CUT_TAIL,      /* a cut slug keeps 8 bytes of itself */
    UUID_PART_LEN = 8,
    ID_DIGITS = 3,
    DASHES = 3,
};

_Static_assert(2 * NAME_PART_MAX + DASHES + 2 * CUT_MIN <= NAME_BYTES_MAX,
               "a type and an id at their longest leave room for two cut slugs");

/* What the slug letter becomes; 0 where it is dropped. */
static char normal_char(char c)
{
    if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-')
        return c;
    if (c >= 'A' && c <= 'Z')
        return (char)(c - 'A' + 'a');
    return c == '_' ? '-' : '\0';
}

void naming_normalise(const char *in, char *out, size_t size)
{
    size_t n = 0;
    bool dash = false; /* held back until something follows it: folds runs and trims both ends */
    for (; *in; in++) {
        char c = normal_char(*in);
        if (!c)
            continue;
        if (c == '-') {
            dash = n > 0;
            continue;
        }
        if (n + dash + 1 >= size)
            break;
        if (dash)
            out[n++] = '-';
        dash = false;
        out[n++] = c;
    }
    out[n] = '\0';
}

/* The normalised slug, or where nothing is left of it the UUID's first 8 hex digits; NULL without
 * memory. */
static char *whole_slug(const char *slug, const char *uuid)
{
    size_t size = strlen(slug) + UUID_PART_LEN + 1;
    char *out = malloc(size);
    if (!out)
        return NULL;
    naming_normalise(slug, out, size);
    if (out[0] == '\0')
        str_copy(out, UUID_PART_LEN + 1, uuid);
    return out;
}

/* Shortens the slug by up to *excess bytes, and *excess by what that gave. */
static void cut_slug(char *slug, size_t *excess)
{
    size_t len = strlen(slug);
    if (*excess == 0 || len <= CUT_MIN)
        return;
    char hash[65];
    str_sha256_hex(hash, slug, len);
    size_t target = len - CUT_MIN > *excess ? len - *excess : (size_t)CUT_MIN;
    size_t keep = target - CUT_TAIL;
    /* keep is below the slug's length. */
    if (slug[keep - 1] == '-') // NOLINT(clang-analyzer-core.UndefinedBinaryOperatorResult)
        keep--;
    slug[keep] = '-';
    memcpy(slug + keep + 1, hash, CUT_HASH_LEN);
    slug[keep + CUT_TAIL] = '\0';
    size_t gain = len - keep - CUT_TAIL;
    *excess -= gain < *excess ? gain : *excess;
}

/* A part that is never cut; what is allowed and "-x" fit, so that any excess shows. */
struct part {
    char text[NAME_PART_MAX + 3];
};

static int make_type(const char *type, struct part *out, struct err *err)
{
    naming_normalise(type, out->text, sizeof(out->text));
    size_t n = strlen(out->text);
    if (n == 0)
        return err_set(err, ERR_INVALID, "the offering type has no letter or digit");
    if (n > NAME_PART_MAX)
        return err_set(err, ERR_INVALID, "the offering type is longer than %d bytes",
                       NAME_PART_MAX);
    return 0;
}

static int make_id(const struct naming_input *in, struct part *out, struct err *err)
{
    naming_normalise(in->subscription_id ? in->subscription_id : "", out->text, sizeof(out->text));
    size_t n = strlen(out->text);
    if (n > NAME_PART_MAX)
        return err_set(err, ERR_INVALID, "the subscription's id is longer than %d bytes",
                       NAME_PART_MAX);
    if (n == 0) {
        uuid_hex(in->subscription_uuid, out->text);
    } else if (n < ID_DIGITS && strspn(out->text, "0123456789") == n) {
        memmove(out->text + ID_DIGITS - n, out->text, n + 1);
        memset(out->text, '0', ID_DIGITS - n);
    }
    return 0;
}

static int join(char *organization, char *project, const struct part *type, const struct part *id,
                char out[NAME_BYTES_MAX + 1], struct err *err)
{
    size_t total =
        strlen(organization) + strlen(project) + strlen(type->text) + strlen(id->text) + DASHES;
    size_t excess = total > NAME_BYTES_MAX ? total - NAME_BYTES_MAX : 0;
    cut_slug(project, &excess);
    cut_slug(organization, &excess);
    if (excess > 0)
        return err_set(err, ERR_INTERNAL, "the name does not fit in %d bytes", NAME_BYTES_MAX);
    snprintf(out, NAME_BYTES_MAX + 1, "%s-%s-%s-%s", organization, project, type->text, id->text);
    return 0;
}

int naming_make(const struct naming_input *in, char out[NAME_BYTES_MAX + 1], struct err *err)
{
    struct part type, id;
    if (make_type(in->offering_type, &type, err) || make_id(in, &id, err))
        return -1;
    char *organization = whole_slug(in->organization_slug, in->organization_uuid);
    char *project = whole_slug(in->project_slug, in->project_uuid);
    int r = organization && project ? join(organization, project, &type, &id, out, err)
                                    : err_nomem(err);
    free(organization);
    free(project);
    return r;
}

void naming_marker(const char *subscription_uuid, char out[MARKER_MAX])
{
    snprintf(out, MARKER_MAX, "waldur-subscription:%s", subscription_uuid);
}

void naming_flow_uuid(const char *subscription_uuid, char out[UUID_TEXT])
{
    static const char space[] = "waldur-subscription-flow:";
    enum { VERSION_AT = 12, VARIANT_AT = 16 };
    char text[sizeof(space) + UUID_TEXT], hex[65];
    snprintf(text, sizeof(text), "%s%s", space, subscription_uuid);
    str_sha256_hex(hex, text, strlen(text));
    hex[VERSION_AT] = '8';
    hex[VARIANT_AT] = "89ab"[(unsigned char)hex[VARIANT_AT] & 3U];
    (void)uuid_parse(hex, 32, out);
}
