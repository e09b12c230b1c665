#include "standin.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/str.h"

void reply_done(struct reply *r)
{
    free(r->body);
    cJSON_Delete(r->headers);
    *r = (struct reply){0};
}

void reply_json(struct reply *r, int status, cJSON *json)
{
    reply_done(r);
    r->body = json ? json_text(json) : NULL;
    r->len = r->body ? strlen(r->body) : 0;
    r->status = r->body ? status : 500;
    cJSON_Delete(json);
}

void reply_detail(struct reply *r, int status, const char *fmt, ...)
{
    struct buf text;
    buf_init(&text, 1024);
    va_list ap;
    va_start(ap, fmt);
    buf_vaddf(&text, fmt, ap);
    va_end(ap);
    cJSON *json = cJSON_CreateObject();
    cJSON_AddStringToObject(json, "detail", buf_str(&text));
    reply_json(r, status, json);
    buf_done(&text);
}

void reply_bytes(struct reply *r, int status, const char *type, char *body, size_t len)
{
    reply_done(r);
    *r = (struct reply){.status = status, .body = body, .len = len};
    reply_header(r, "Content-Type", type);
}

void reply_header(struct reply *r, const char *name, const char *value)
{
    if (!r->headers)
        r->headers = cJSON_CreateObject();
    cJSON_AddStringToObject(r->headers, name, value);
}

cJSON *reply_parse(struct reply *r, const char *body, size_t n)
{
    static const struct json_limits limits = {
        .size = STANDIN_BODY_MAX, .depth = 64, .string = STANDIN_BODY_MAX};
    struct json_fault fault;
    cJSON *json = NULL;
    if (json_parse(body, n, &limits, &json, &fault) < 0) {
        reply_detail(r, 400, "body%s: %s", fault.pointer, fault.reason);
        return NULL;
    }
    return json;
}
