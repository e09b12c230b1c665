/*
 * The schemas that events are decoded with, from those that the program carries.
 */
#include <pthread.h>
#include <string.h>

#include "event/embedded.h"
#include "event/event_parts.h"

static const struct {
    const char *name;
    const char *file;
} types[EVENT_TYPE_MAX] = {
    [EVENT_CREATED] = {"subscription.created", "subscription.created.schema.json"},
    [EVENT_UPDATED] = {"subscription.updated", "subscription.updated.schema.json"},
    [EVENT_SUSPENDED] = {"subscription.suspended", "subscription.suspended.schema.json"},
    [EVENT_RESUMED] = {"subscription.resumed", "subscription.resumed.schema.json"},
    [EVENT_TERMINATED] = {"subscription.terminated", "subscription.terminated.schema.json"},
};

const char *event_type_name(enum event_type t)
{
    return (unsigned)t < EVENT_TYPE_MAX ? types[t].name : "unknown";
}

static struct schema *load(const char *file, struct err *err)
{
    for (size_t i = 0; i < n_embedded_schemas; i++)
        if (strcmp(embedded_schemas[i].name, file) == 0)
            return schema_load(embedded_schemas[i].text, embedded_schemas[i].len, err);
    err_set(err, ERR_INTERNAL, "schema %s is not in the program", file);
    return NULL;
}

const struct schema *event_schema(enum event_type t, struct err *err)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static struct schema *loaded[EVENT_TYPE_MAX];
    pthread_mutex_lock(&lock);
    if (!loaded[t])
        loaded[t] = load(types[t].file, err);
    const struct schema *s = loaded[t];
    pthread_mutex_unlock(&lock);
    return s;
}
