/*
 * Decodes messages for test/differential: each line of standard input is
 *   {"body": BASE64, "headers": [[NAME, BASE64 or null], ...]}
 * and is answered by one line, {"ok":true, ...} or {"ok":false, "pointer":..., "reason":...}. With
 * "schema": FILE beside it the body is checked against that schema alone, and headers are not
 * looked at.
 */
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/json.h"
#include "event/embedded.h"
#include "event/event.h"
#include "event/schema.h"

enum { LINE_MAX_BYTES = 16 * 1024 * 1024, HEADERS_MAX = 1024 };

struct message {
    char *body;
    size_t n;
    struct event_header headers[HEADERS_MAX];
    char *values[HEADERS_MAX];
    size_t n_headers;
};

/* An exact allocation, so that AddressSanitizer sees a read past its end. */
static char *from_base64(const char *text, size_t *n)
{
    const size_t len = strlen(text);
    char *big = malloc(len + 1);
    size_t used = 0;
    if (!big || sodium_base642bin((unsigned char *)big, len + 1, text, len, NULL, &used, NULL,
                                  sodium_base64_VARIANT_ORIGINAL) != 0) {
        free(big);
        return NULL;
    }
    char *exact = malloc(used ? used : 1);
    if (exact)
        memcpy(exact, big, used);
    free(big);
    *n = used;
    return exact;
}

static int read_headers(const cJSON *tree, struct message *m)
{
    const cJSON *pair;
    cJSON_ArrayForEach(pair, json_get(tree, "headers"))
    {
        const char *name = cJSON_GetStringValue(cJSON_GetArrayItem(pair, 0));
        const char *value = cJSON_GetStringValue(cJSON_GetArrayItem(pair, 1));
        if (!name || m->n_headers == HEADERS_MAX)
            return -1;
        struct event_header *h = &m->headers[m->n_headers];
        h->name = name;
        if (value) {
            m->values[m->n_headers] = from_base64(value, &h->len);
            h->value = m->values[m->n_headers];
        }
        if (value && !h->value)
            return -1;
        m->n_headers++;
    }
    return 0;
}

static void message_done(struct message *m)
{
    for (size_t i = 0; i < m->n_headers; i++)
        free(m->values[i]);
    free(m->body);
}

static void print_event(const struct event *e)
{
    struct buf b;
    buf_init(&b, LINE_MAX_BYTES);
    buf_addf(&b, "{\"ok\":true,\"type\":\"%s\",\"time_us\":%lld,\"id\":", event_type_name(e->type),
             (long long)e->time_us);
    buf_add_json(&b, e->id);
    buf_adds(&b, ",\"source\":");
    buf_add_json(&b, e->source);
    buf_addf(&b,
             ",\"traceparent\":\"%s\",\"order_uuid\":\"%s\",\"subscription_uuid\":\"%s\","
             "\"organization_uuid\":\"%s\",\"data\":%s}",
             e->traceparent, e->order_uuid, e->subscription_uuid, e->organization_uuid, e->data);
    puts(buf_str(&b));
    buf_done(&b);
}

static void print_fault(const struct json_fault *fault)
{
    struct buf b;
    buf_init(&b, LINE_MAX_BYTES);
    buf_adds(&b, "{\"ok\":false,\"pointer\":");
    buf_add_json(&b, fault->pointer);
    buf_adds(&b, ",\"reason\":");
    buf_add_json(&b, fault->reason);
    buf_adds(&b, "}");
    puts(buf_str(&b));
    buf_done(&b);
}

/* NULL for a name that is none. Loaded anew for each line: the loader is under test too. */
static struct schema *schema_named(const char *name)
{
    struct err err;
    for (size_t i = 0; i < n_embedded_schemas; i++)
        if (strcmp(embedded_schemas[i].name, name) == 0)
            return schema_load(embedded_schemas[i].text, embedded_schemas[i].len, &err);
    return NULL;
}

static int check_schema(const char *name, const struct message *m)
{
    const struct json_limits limits = {EVENT_BYTES_MAX, EVENT_DEPTH_MAX, EVENT_BYTES_MAX};
    struct json_fault fault;
    cJSON *tree = NULL;
    struct schema *schema = schema_named(name);
    if (!schema)
        return -1;
    if (json_parse(m->body, m->n, &limits, &tree, &fault) == 0 &&
        schema_check(schema, tree, &fault) == 0)
        puts("{\"ok\":true}");
    else
        print_fault(&fault);
    cJSON_Delete(tree);
    schema_free(schema);
    return 0;
}

static void decode_event(const struct message *m)
{
    struct json_fault fault;
    struct event e;
    if (event_decode(m->body, m->n, m->headers, m->n_headers, 0, &e, &fault) != 0) {
        print_fault(&fault);
        return;
    }
    print_event(&e);
    event_done(&e);
}

static int answer_line(const char *line, size_t n)
{
    const struct json_limits limits = {LINE_MAX_BYTES, 8, LINE_MAX_BYTES};
    struct json_fault fault;
    struct message m = {0};
    cJSON *tree;
    if (json_parse(line, n, &limits, &tree, &fault) != 0)
        return -1;
    const char *body = json_str(tree, "body");
    const char *schema = json_str(tree, "schema");
    m.body = body ? from_base64(body, &m.n) : NULL;
    int rc = m.body && read_headers(tree, &m) == 0 ? 0 : -1;
    if (rc == 0 && schema)
        rc = check_schema(schema, &m);
    else if (rc == 0)
        decode_event(&m);
    message_done(&m);
    cJSON_Delete(tree);
    return rc;
}

int main(void)
{
    char *line = NULL;
    size_t size = 0;
    ssize_t n;
    int rc = sodium_init() < 0 ? -1 : 0;
    while (rc == 0 && (n = getline(&line, &size, stdin)) > 0) {
        rc = answer_line(line, (size_t)n);
        if (rc != 0)
            fprintf(stderr, "event_decode: a line of input is malformed\n");
    }
    free(line);
    return rc == 0 ? 0 : 2;
}
