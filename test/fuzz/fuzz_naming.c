/*
 * Names of any six words, a line each: organization, project, type, id, subscription's UUID, and
 * one more for the other objects' UUID. What a name may be stands in naming.h.
 */
#include "base/str.h"
#include "fuzz.h"
#include "naming/naming.h"

static void check_alphabet(const char *s)
{
    size_t n = strlen(s);
    HOLDS(strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789-") == n);
    HOLDS(!strstr(s, "--") && s[0] != '-' && (n == 0 || s[n - 1] != '-'));
}

/* Normalised once is normalised for good, and cut is a beginning of the whole. */
static void check_normalise(const char *in, char *out, size_t size)
{
    char *again = malloc(size), part[9];
    HOLDS(again);
    naming_normalise(in, out, size);
    check_alphabet(out);
    HOLDS(strlen(out) <= strlen(in));
    naming_normalise(out, again, size);
    HOLDS(str_eq(out, again));
    free(again);
    naming_normalise(in, part, sizeof(part));
    check_alphabet(part);
    HOLDS(str_starts(out, part));
}

static char *normal(const char *in)
{
    char *out = malloc(strlen(in) + 1);
    HOLDS(out);
    check_normalise(in, out, strlen(in) + 1);
    return out;
}

/* Type and id stand whole at the end. */
static void check_tail(const struct naming_input *in, const char *name, const char *type,
                       const char *id)
{
    char tail[2 * NAME_PART_MAX + 4], hex[33], padded[NAME_PART_MAX + 1];
    uuid_hex(in->subscription_uuid, hex);
    size_t n = strlen(id);
    bool number = n > 0 && n < 3 && strspn(id, "0123456789") == n;
    const char *zeros = !number ? "" : n == 1 ? "00" : "0";
    snprintf(padded, sizeof(padded), "%s%s", zeros, n ? id : hex);
    snprintf(tail, sizeof(tail), "-%s-%s", type, padded);
    HOLDS(strlen(name) > strlen(tail));
    HOLDS(str_eq(name + strlen(name) - strlen(tail), tail));
}

/* Where all fits, it is the parts and nothing else. */
static void check_whole(const char *name, const char *organization, const char *project,
                        const struct naming_input *in)
{
    char head[NAME_BYTES_MAX + 3], first[9], second[9];
    snprintf(first, sizeof(first), "%s", in->organization_uuid);
    snprintf(second, sizeof(second), "%s", in->project_uuid);
    if (strlen(name) < NAME_BYTES_MAX - 1 && strlen(organization) + strlen(project) < 40) {
        snprintf(head, sizeof(head), "%s-%s-", organization[0] ? organization : first,
                 project[0] ? project : second);
        HOLDS(str_starts(name, head));
    }
}

static void check_name(const struct naming_input *in)
{
    char name[NAME_BYTES_MAX + 1], again[NAME_BYTES_MAX + 1];
    struct err err;
    char *type = normal(in->offering_type), *id = normal(in->subscription_id);
    char *organization = normal(in->organization_slug), *project = normal(in->project_slug);
    bool fits = type[0] && strlen(type) <= NAME_PART_MAX && strlen(id) <= NAME_PART_MAX;
    memset(name, '#', sizeof(name));
    int rc = naming_make(in, name, &err);
    HOLDS((rc == 0) == fits);
    if (rc == 0) {
        HOLDS(memchr(name, '\0', sizeof(name)));
        check_alphabet(name);
        check_tail(in, name, type, id);
        check_whole(name, organization, project, in);
        struct naming_input normalised = *in;
        normalised.organization_slug = organization;
        normalised.project_slug = project;
        normalised.offering_type = type;
        normalised.subscription_id = id;
        HOLDS(naming_make(&normalised, again, &err) == 0 && str_eq(name, again));
    } else {
        HOLDS(err.class == ERR_INVALID && err.msg[0] && name[0] == '#');
    }
    free(project);
    free(organization);
    free(id);
    free(type);
}

static void check_of_uuid(const char *uuid)
{
    char marker[MARKER_MAX], flow[UUID_TEXT], again[UUID_TEXT];
    naming_marker(uuid, marker);
    HOLDS(str_starts(marker, "waldur-subscription:") && str_eq(strchr(marker, ':') + 1, uuid));
    naming_flow_uuid(uuid, flow);
    HOLDS(fuzz_is_uuid(flow) && flow[14] == '8' && strchr("89ab", flow[19]));
    naming_flow_uuid(uuid, again);
    HOLDS(str_eq(flow, again));
}

/* A UUID out of any line. */
static void make_uuid(const char *line, char out[UUID_TEXT])
{
    char hex[65];
    if (!uuid_parse(line, strlen(line), out)) {
        str_sha256_hex(hex, line, strlen(line));
        HOLDS(uuid_parse(hex, 32, out));
    }
    HOLDS(fuzz_is_uuid(out));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input in = {(const char *)data, size};
    char *line[6], uuid[UUID_TEXT], other[UUID_TEXT];
    for (size_t i = 0; i < ARRAY_LEN(line); i++) {
        line[i] = fuzz_text(fuzz_until(&in, "\n"));
    }
    make_uuid(line[4], uuid);
    make_uuid(line[5], other);
    const struct naming_input input = {.organization_slug = line[0],
                                       .organization_uuid = other,
                                       .project_slug = line[1],
                                       .project_uuid = uuid,
                                       .offering_type = line[2],
                                       .subscription_id = line[3],
                                       .subscription_uuid = uuid};
    check_name(&input);
    check_of_uuid(uuid);
    for (size_t i = 0; i < ARRAY_LEN(line); i++) {
        free(line[i]);
    }
    return 0;
}
