#include <string.h>

#include "base/clock.h"
#include "base/str.h"
#include "waldur/native.h"

const struct json_limits waldur_body_limits = {WALDUR_BODY_MAX, WALDUR_DEPTH_MAX, WALDUR_BODY_MAX};

int waldur_refuse(struct json_fault *fault, const char *path, const char *reason)
{
    char pointer[JSON_POINTER_MAX] = "", token[64];
    while (*path) {
        size_t n = strcspn(path, ".");
        (void)str_copy(token, n + 1 < sizeof(token) ? n + 1 : sizeof(token), path);
        json_pointer_push(pointer, token);
        path += n + (path[n] == '.');
    }
    return json_refuse(fault, pointer, "%s", reason);
}

int waldur_read_text(const cJSON *tree, const char *path, const char **text,
                     struct json_fault *fault)
{
    *text = NULL;
    if (!path) {
        return 0;
    }
    const cJSON *member = json_get(tree, path);
    *text = cJSON_GetStringValue(member);
    if (member && !*text && !cJSON_IsNull(member)) {
        return waldur_refuse(fault, path, "must be a string");
    }
    if (*text && (!**text || str_eq(*text, "None"))) {
        *text = NULL;
    }
    return 0;
}

int waldur_read_uuid(const cJSON *tree, const char *path, char out[UUID_TEXT],
                     struct json_fault *fault)
{
    const char *text = NULL;
    if (waldur_read_text(tree, path, &text, fault)) {
        return -1;
    }
    if (text && !uuid_parse(text, strlen(text), out)) {
        return waldur_refuse(fault, path, "must be a UUID, with or without dashes");
    }
    return 0;
}

int waldur_read_time(const cJSON *tree, const char *path, int64_t *us, struct json_fault *fault)
{
    const char *text = NULL;
    if (waldur_read_text(tree, path, &text, fault)) {
        return -1;
    }
    if (text && !clock_parse(text, strlen(text), us)) {
        return waldur_refuse(fault, path, "must be a date and time with an offset (RFC 3339)");
    }
    return 0;
}

/* Bytes of the first `max` characters; json_parse has seen to it that it is UTF-8. */
static size_t characters(const char *text, size_t max)
{
    size_t n = 0, left = strlen(text);
    for (size_t i = 0; i < max && n < left; i++) {
        n += str_utf8_step(text + n, left - n);
    }
    return n;
}

static int read_bounded(const cJSON *tree, const char *path, char *out, size_t max, bool cut,
                        struct json_fault *fault)
{
    const char *text = NULL;
    if (waldur_read_text(tree, path, &text, fault)) {
        return -1;
    }
    if (!text) {
        return 0;
    }
    size_t n = characters(text, max);
    if (text[n] && !cut) {
        return waldur_refuse(fault, path, "is longer than Waldur lets it be");
    }
    memcpy(out, text, n);
    out[n] = '\0';
    return 0;
}

int waldur_read_cut(const cJSON *tree, const char *path, char *out, size_t max,
                    struct json_fault *fault)
{
    return read_bounded(tree, path, out, max, true, fault);
}

int waldur_read_whole(const cJSON *tree, const char *path, char *out, size_t max,
                      struct json_fault *fault)
{
    return read_bounded(tree, path, out, max, false, fault);
}

int waldur_read_flag(const cJSON *tree, const char *path, bool *out, struct json_fault *fault)
{
    const cJSON *member = json_get(tree, path);
    if (!member || cJSON_IsNull(member)) {
        return 0;
    }
    if (!cJSON_IsBool(member)) {
        return waldur_refuse(fault, path, "must be true or false");
    }
    *out = cJSON_IsTrue(member);
    return 0;
}
