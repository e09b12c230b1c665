#include "standin.h"

#include "base/str.h"

static const struct dialect *const dialects[] = {&dialect_workspaces, &dialect_collections,
                                                 &dialect_ragflow, &dialect_langflow,
                                                 &dialect_waldur};

const struct dialect *dialect_find(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(dialects); i++) {
        if (str_eq(name, dialects[i]->name))
            return dialects[i];
    }
    return NULL;
}

bool dialect_profile(const struct dialect *d, const char *wanted, const char **out)
{
    if (!d->profiles || !wanted) {
        *out = d->profiles ? d->profiles[0] : NULL;
        return !wanted;
    }
    for (size_t i = 0; d->profiles[i]; i++) {
        if (str_eq(wanted, d->profiles[i])) {
            *out = d->profiles[i];
            return true;
        }
    }
    return false;
}
