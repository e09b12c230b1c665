/*
 * Binary mode (Kafka protocol binding 1.0.2, 3.2): each attribute is a header ce_NAME,
 * `datacontenttype` is the header content-type, the body is `data`.
 */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/str.h"
#include "event/event_parts.h"

enum { ATTRIBUTE_MAX = 64 };

const struct event_header *event_header_named(const struct event_header *headers, size_t n,
                                              const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (strcasecmp(headers[i].name, name) == 0)
            return &headers[i];
    return NULL;
}

bool event_header_is_media_type(const struct event_header *h, const char *type)
{
    const size_t n = strlen(type);
    const char *value = h->value;
    if (!value || h->len < n || strncasecmp(value, type, n) != 0)
        return false;
    return h->len == n || value[n] == ';' || value[n] == ' ' || value[n] == '\t';
}

/*
 * The attribute that a header carries; false for a header that carries none. Attribute names have
 * lower-case letters and digits alone; the case of headers is not to be relied upon.
 */
static bool attribute_of(const char *header, char name[ATTRIBUTE_MAX])
{
    if (strcasecmp(header, "content-type") == 0)
        return str_copy(name, ATTRIBUTE_MAX, "datacontenttype");
    if (strncasecmp(header, "ce_", 3) != 0 || !header[3])
        return false;
    size_t n = 0;
    for (const char *p = header + 3; *p; p++) {
        char c = *p >= 'A' && *p <= 'Z' ? (char)(*p - 'A' + 'a') : *p;
        if (n + 1 >= ATTRIBUTE_MAX || !((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9')))
            return false;
        name[n++] = c;
    }
    name[n] = '\0';
    return true;
}

static int add_attribute(cJSON *tree, const char *name, const struct event_header *h,
                         struct json_fault *fault)
{
    char pointer[JSON_POINTER_MAX] = "";
    json_pointer_push(pointer, name);
    if (cJSON_GetObjectItemCaseSensitive(tree, name))
        return json_refuse(fault, pointer, "is given twice");
    cJSON *item;
    if (!h->value) {
        item = cJSON_CreateNull();
    } else {
        if (!str_is_utf8(h->value, h->len))
            return json_refuse(fault, pointer, "is not UTF-8");
        if (memchr(h->value, '\0', h->len))
            return json_refuse(fault, pointer, "holds a NUL");
        char *text = str_dupn(h->value, h->len);
        item = text ? cJSON_CreateString(text) : NULL;
        free(text);
    }
    if (!item || !cJSON_AddItemToObject(tree, name, item)) {
        cJSON_Delete(item);
        return json_broken(fault, "out of memory");
    }
    return 0;
}

/* The body's own faults are told as the structured form would have them, below /data. */
static int add_data(cJSON *tree, const void *body, size_t n, struct json_fault *fault)
{
    const struct json_limits limits = {EVENT_BYTES_MAX, EVENT_DEPTH_MAX - 1, EVENT_BYTES_MAX};
    struct json_fault inner;
    cJSON *data;
    if (n == 0)
        return 0; /* an event without data: the schema says what that means */
    if (json_parse(body, n, &limits, &data, &inner) != 0) {
        if (inner.internal)
            return json_broken(fault, inner.reason);
        char pointer[JSON_POINTER_MAX] = "/data";
        const size_t used = strlen(pointer);
        if (!str_copy(pointer + used, sizeof(pointer) - used, inner.pointer))
            str_copy(pointer + used, sizeof(pointer) - used, "/...");
        return json_refuse(fault, pointer, "%s", inner.reason);
    }
    if (!cJSON_AddItemToObject(tree, "data", data)) {
        cJSON_Delete(data);
        return json_broken(fault, "out of memory");
    }
    return 0;
}

int event_binary_tree(const void *body, size_t n, const struct event_header *headers,
                      size_t n_headers, cJSON **out, struct json_fault *fault)
{
    cJSON *tree = cJSON_CreateObject();
    if (!tree)
        return json_broken(fault, "out of memory");
    int rc = add_data(tree, body, n, fault);
    for (size_t i = 0; rc == 0 && i < n_headers; i++) {
        char name[ATTRIBUTE_MAX];
        if (attribute_of(headers[i].name, name))
            rc = add_attribute(tree, name, &headers[i], fault);
    }
    if (rc != 0) {
        cJSON_Delete(tree);
        return -1;
    }
    *out = tree;
    return 0;
}
