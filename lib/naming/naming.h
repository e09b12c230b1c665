/*
 * Names of workspaces and collections (contract, section 3). Pure.
 */
#ifndef NAMING_NAMING_H
#define NAMING_NAMING_H

#include "base/err.h"
#include "base/uuid.h"

enum { NAME_BYTES_MAX = 128, NAME_PART_MAX = 40, MARKER_MAX = 64 };

struct naming_input {
    const char *organization_slug; /* may be "" */
    const char *organization_uuid; /* canonical */
    const char *project_slug;
    const char *project_uuid;
    const char *offering_type;   /* must hold a letter or digit */
    const char *subscription_id; /* NULL or "": the UUID's 32 hex digits stand */
    const char *subscription_uuid;
};

/*
 * {org}-{project}-{type}-{id}, each part lower-cased, '_' made '-', all but [a-z0-9-] dropped, runs
 * of '-' folded, outer '-' trimmed. A numeric id is padded to three digits. An empty slug becomes
 * the first 8 hex digits of its object's UUID. Above 128 bytes the project is cut, then the
 * organization, each to no less than 8 bytes, '-' and 6 hex digits of the SHA-256 of the whole
 * (normalised) slug; type and id never. (7 where the eighth is a '-'; the cut is by 6 hex digits,
 * so different slugs almost never meet.) An id of which nothing is left counts as none. ERR_INVALID
 * when type or id exceed NAME_PART_MAX bytes after normalising, or the type is left empty.
 *
 * A name is no key. With three components fixed, another fourth (normalised, an id padded) gives
 * another name; across borders the joining '-' says nothing: "a-b" + "c" and "a" + "b-c" make one
 * name. The store keeps names unique, which turns such a meeting into a conflict.
 */
int naming_make(const struct naming_input *in, char out[NAME_BYTES_MAX + 1], struct err *err);

/* Lower-case, '_' to '-', others dropped, folded, trimmed. out holds size bytes; cut to fit. */
void naming_normalise(const char *in, char *out, size_t size);

/* "waldur-subscription:<uuid>": on everything that is created upstream. */
void naming_marker(const char *subscription_uuid, char out[MARKER_MAX]);

/*
 * The id of the subscription's own flow: always the same, so that making it twice makes one.
 * A version-8 UUID (RFC 9562, 5.8) out of a SHA-256: Langflow 1.13 refuses version 5 for flows.
 */
void naming_flow_uuid(const char *subscription_uuid, char out[UUID_TEXT]);

#endif
