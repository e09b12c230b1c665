/*
 * An order with its resource as the event that provisions it (contract, section 2). Pure.
 *
 * Only what is named here or in the settings leaves an order's attributes: buyers may have put
 * anything there.
 */
#ifndef WALDUR_TRANSLATE_H
#define WALDUR_TRANSLATE_H

#include "base/err.h"
#include "base/uuid.h"
#include "event/event.h"
#include "waldur/intake.h"
#include "waldur/order.h"

enum { WALDUR_EVENT_TYPE_MAX = 32, WALDUR_EVENT_ID_MAX = 96 };

/* Which tier a plan is; `plan` is its UUID in any form, or its name. */
struct waldur_plan {
    const char *plan;
    const char *tier;
};

/*
 * Which attribute (`attribute`) becomes what of the event (`member`), so that operators can call
 * them as they like. Members:
 *
 *   subscription.id                                        text, or a whole number
 *   runtime.mode                                           text
 *   knowledge_base.embedding_model                         text
 *   knowledge_base.chunk_size, .chunk_overlap              whole number, or text of one
 *   api_key.rate_limit, api_key.expires_at                 text
 *   api_key.allowed_domains, api_key.permissions           array of text, or text with commas
 *   variables.NAME                                         text, number or boolean
 */
struct waldur_mapping {
    const char *attribute;
    const char *member;
};

/* Is it one of them? For whoever checks a configuration. */
bool waldur_member_known(const char *member);

/* Of one offering, out of the configuration. Everything borrowed; NULL or 0: not set. */
struct waldur_setup {
    const char *type; /* our offering type */
    const char *flow; /* flow_id; NULL: the worker's configuration says */
    const char *const *capabilities;
    size_t n_capabilities;
    const char *const *variables; /* attributes that become variables of the same name */
    size_t n_variables;
    const struct waldur_mapping *mappings;
    size_t n_mappings;
    const struct waldur_plan *plans;
    size_t n_plans;
    const char *rate_component; /* the limit that is the key's rate in requests a minute */
};

struct waldur_event {
    char type[WALDUR_EVENT_TYPE_MAX]; /* "subscription.created", ".terminated", ".updated",
                                         ".suspended", ".resumed" */
    char id[WALDUR_EVENT_ID_MAX];
    char source[EVENT_SOURCE_MAX + 1];
    char subscription_uuid[UUID_TEXT];
    int64_t time_us;
    char *data; /* compact JSON, as the schemas want it; owned */
};

enum waldur_translation {
    WALDUR_TRANSLATED,
    WALDUR_UNTRANSLATABLE, /* reason: what is missing, and where to mend it */
    WALDUR_TRANSLATION_MEMORY
};

/*
 * The order of a type that is known. Create and Restore make created, Terminate terminated, Update
 * updated. url: Waldur's, of which the source is made: scheme, host and port alone. The tier is
 * what `plans` says of the plan's UUID, else of its name, else the name itself in lower case where
 * it is a tier. Where order and resource both tell a thing the order's counts: it was decided
 * with that. *out is set for WALDUR_TRANSLATED alone, reason for WALDUR_UNTRANSLATABLE alone.
 */
enum waldur_translation waldur_translate(const char *url, const struct waldur_setup *setup,
                                         const struct waldur_order *order,
                                         const struct waldur_resource *resource,
                                         struct waldur_event *out, char reason[WALDUR_REASON_MAX]);

/* A terminated event for an order that was taken and then undone at Waldur (canceled, rejected, or
 * its resource Terminated). */
enum waldur_translation waldur_translate_undone(const char *url, const char *order_uuid,
                                                const char *resource_uuid, int64_t now_us,
                                                struct waldur_event *out,
                                                char reason[WALDUR_REASON_MAX]);

/* suspended or resumed, as the resource is now; its time and id are those of its last change. */
enum waldur_translation waldur_translate_paused(const char *url, const char *resource_uuid,
                                                bool paused, int64_t modified_us,
                                                struct waldur_event *out,
                                                char reason[WALDUR_REASON_MAX]);

/* Appends the whole CloudEvent in structured mode: what event_decode reads. 0 or -1 (the buffer).
 */
int waldur_event_write(const struct waldur_event *e, struct buf *out);
void waldur_event_done(struct waldur_event *e);

#endif
