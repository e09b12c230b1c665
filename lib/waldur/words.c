#include "waldur/words.h"

#include <ctype.h>
#include <stdio.h>

#include "base/str.h"

/* The reason, as far as it is a buyer's matter. */
static const char *because(enum err_class class)
{
    switch (class) {
    case ERR_INVALID:
        return "What was ordered cannot be provided as it was ordered.";
    case ERR_UNAVAILABLE:
    case ERR_UNKNOWN:
    case ERR_THROTTLED:
        return "A service that it needs could not be reached for too long. Ordering again later "
               "may "
               "help.";
    case ERR_CONFLICT:
        return "Something else stands in its place already.";
    case ERR_GONE:
        return "Something that it needs is no longer there.";
    case ERR_REFUSED:
        return "A service that it needs does not allow it.";
    case ERR_NONE:
    case ERR_UNAUTHORIZED:
    case ERR_INTERNAL:
    case ERR_CLASS_MAX:
        break;
    }
    return "The reason lies with the provider.";
}

static const char *beginning(enum waldur_order_type type)
{
    switch (type) {
    case WALDUR_TYPE_CREATE:
        return "The agent could not be set up.";
    case WALDUR_TYPE_RESTORE:
        return "The agent could not be restored.";
    case WALDUR_TYPE_UPDATE:
        return "The agent could not be changed.";
    case WALDUR_TYPE_TERMINATE:
        return "The agent could not be removed.";
    case WALDUR_TYPE_UNKNOWN:
    case WALDUR_TYPE_MAX:
        break;
    }
    return "The order could not be carried out.";
}

static void compose(const char *what, enum err_class class, const char *reference,
                    char out[WALDUR_WORDS_MAX])
{
    char clean[WALDUR_REFERENCE_MAX + 1];
    size_t n = 0;
    for (const char *p = reference ? reference : ""; *p && n < WALDUR_REFERENCE_MAX; p++) {
        if (isalnum((unsigned char)*p) || *p == '-') {
            clean[n++] = *p;
        }
    }
    clean[n] = '\0';
    snprintf(out, WALDUR_WORDS_MAX, "%s %s%s%s%s", what, because(class),
             n ? " Support finds it under the reference " : "", clean, n ? "." : "");
}

void waldur_words_failed(enum waldur_order_type type, enum err_class class, const char *reference,
                         char out[WALDUR_WORDS_MAX])
{
    compose(beginning(type), class, reference, out);
}

void waldur_words_no_key(enum err_class class, const char *reference, char out[WALDUR_WORDS_MAX])
{
    compose("There is no new key; the old one is as it was.", class, reference, out);
}
