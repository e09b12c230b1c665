/*
 * What is found out once about a server and shared: its version, and the templates.
 */
#include "langflow/native.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"

enum {
    FRESH_MS = 5 * 60 * 1000,
    MINOR_MIN = 8,
    MINOR_NEWEST = 1000, /* of majors that did not exist when this was written */
    TEMPLATES_BYTES_MAX = 16 * 1024 * 1024,
};

static const char flow_list_path[] =
    "/api/v1/flows/?header_flows=true&get_all=true&remove_example_flows=false";

struct driver_site *langflow_site_new(struct err *err)
{
    struct langflow_site *s = calloc(1, sizeof(*s));
    if (!s) {
        err_nomem(err);
        return NULL;
    }
    s->base.class = &langflow_class;
    s->base.refs = 1;
    return &s->base;
}

static void template_free(struct langflow_template *t)
{
    free(t->flow_id);
    free(t->name);
    free(t->body);
    *t = (struct langflow_template){.flow_id = NULL};
}

void langflow_site_free(struct driver_site *site)
{
    struct langflow_site *s = (struct langflow_site *)site;
    if (!s) {
        return;
    }
    for (size_t i = 0; i < LANGFLOW_TEMPLATES_MAX; i++) {
        template_free(&s->templates[i]);
    }
    free(s);
}

/* ---- version ---- */

bool langflow_version_fresh(const struct langflow_site *s)
{
    return s->base.known && s->base.now_ms - s->version_read_ms < FRESH_MS;
}

/* Digits up to three; -1 for none. Moves on. */
static int number(const char **p)
{
    int n = -1;
    for (int i = 0; i < 3 && **p >= '0' && **p <= '9'; i++, ++*p) {
        n = (n < 0 ? 0 : n * 10) + (**p - '0');
    }
    return n;
}

/* langflow-base counted 0.8 to 0.11 beside Langflow's 1.8 to 1.11. */
static bool parse_version(const char *said, const char *package, char *text, size_t size,
                          int *minor)
{
    const char *p = said;
    int major = number(&p);
    if (major < 0 || *p++ != '.') {
        return false;
    }
    int n = number(&p);
    if (n < 0) {
        return false;
    }
    if (major == 0 && package && str_starts(package, "Langflow Base")) {
        major = 1;
    }
    const char *rest = p;
    size_t len = strspn(rest, ".0123456789abcdefghijklmnopqrstuvwxyz+-");
    snprintf(text, size, "%d.%d%.*s", major, n, (int)(len < 24 ? len : 24), rest);
    *minor = major == 1 ? n : major == 0 ? 0 : MINOR_NEWEST;
    return true;
}

bool langflow_read_version(const struct exchange_response *r, char text[DRIVER_VERSION_MAX + 1],
                           int *minor)
{
    static const struct json_limits limits = {.size = 65536, .depth = 16, .string = 4096};
    struct json_fault fault;
    cJSON *json = NULL;
    if (r->truncated || json_parse(r->body, r->body_len, &limits, &json, &fault)) {
        return false;
    }
    const char *said = json_str(json, "version");
    bool fine =
        said && parse_version(said, json_str(json, "package"), text, DRIVER_VERSION_MAX + 1, minor);
    cJSON_Delete(json);
    return fine;
}

static void build_version(struct driver_op *op, struct exchange_request *r)
{
    langflow_url(op, r, "/api/v1/version", NULL, NULL);
}

static bool feed_version(struct driver_op *op, struct langflow_answer *a)
{
    struct langflow_site *s = op->site;
    char text[DRIVER_VERSION_MAX + 1];
    int minor = 0;
    if (a->verdict == VERDICT_OPEN || a->verdict == VERDICT_LATER) {
        return false;
    }
    if (a->verdict != VERDICT_GOOD || !langflow_read_version(a->r, text, &minor)) {
        langflow_fail(op, ERR_UNAVAILABLE,
                      "the server does not say which Langflow it is (GET /api/v1/version); check "
                      "the runtime's url, and that it is Langflow 1.10.1 or later");
        a->out->health = HEALTH_AS_SAID;
        return true;
    }
    if (minor < MINOR_MIN) {
        langflow_fail(
            op, ERR_UNAVAILABLE,
            "Langflow %s is not supported: it cannot make a flow under a given id; upgrade "
            "to 1.10.1 or later",
            text);
        a->out->health = HEALTH_AS_SAID;
        return true;
    }
    s->minor = minor;
    s->base.known = true;
    s->version_read_ms = s->base.now_ms;
    str_copy(s->base.version, sizeof(s->base.version), text);
    str_copy(s->base.server, sizeof(s->base.server), "python");
    return true;
}

const struct langflow_step langflow_version_read = {.what = "reading Langflow's version",
                                                    .method = METHOD_GET,
                                                    .as = AS_NOBODY,
                                                    .build = build_version,
                                                    .feed = feed_version};

/* ---- templates ---- */

static bool template_fresh(const struct langflow_site *s, const struct langflow_template *t)
{
    return t->flow_id && s->base.now_ms - t->read_ms < FRESH_MS;
}

const struct langflow_template *langflow_template_find(const struct langflow_site *s,
                                                       const char *flow_id)
{
    for (size_t i = 0; i < LANGFLOW_TEMPLATES_MAX; i++) {
        const struct langflow_template *t = &s->templates[i];
        if (template_fresh(s, t) && str_eq(t->flow_id, flow_id)) {
            return t;
        }
    }
    return NULL;
}

static struct langflow_template *oldest(struct langflow_site *s)
{
    struct langflow_template *found = NULL;
    for (size_t i = 0; i < LANGFLOW_TEMPLATES_MAX; i++) {
        struct langflow_template *t = &s->templates[i];
        if (t->flow_id && (!found || t->read_ms < found->read_ms)) {
            found = t;
        }
    }
    return found;
}

/* An empty place, once the bytes fit. */
static struct langflow_template *template_place(struct langflow_site *s, const char *flow_id,
                                                size_t bytes)
{
    struct langflow_template *place = NULL;
    size_t held = 0;
    for (size_t i = 0; i < LANGFLOW_TEMPLATES_MAX; i++) {
        struct langflow_template *t = &s->templates[i];
        if (str_eq(t->flow_id, flow_id)) {
            template_free(t);
        }
        held += t->body_len;
        place = t->flow_id ? place : t;
    }
    while (!place || held + bytes > TEMPLATES_BYTES_MAX) {
        struct langflow_template *old = oldest(s);
        if (!old) {
            break;
        }
        held -= old->body_len;
        template_free(old);
        place = old;
    }
    return place;
}

static void template_keep(struct driver_op *op, const struct langflow_answer *a)
{
    const char *flow_id = op->target->flow_id;
    struct langflow_template t = {.read_ms = op->site->base.now_ms};
    struct buf body;
    struct err e;
    buf_init(&body, EXCHANGE_REQUEST_MAX);
    if (langflow_flow_body(a->r->body, a->r->body_len, flow_id, &body, &t.name, &e)) {
        buf_done(&body);
        langflow_fail(op, e.class, "flow \"%.100s\": %.300s", flow_id, e.msg);
        return;
    }
    t.flow_id = str_dup(flow_id);
    t.body_len = body.len;
    t.body = buf_steal(&body);
    struct langflow_template *place = template_place(op->site, flow_id, t.body_len);
    if (!t.flow_id || !t.body || !place) {
        template_free(&t);
        langflow_fail(op, ERR_INTERNAL, "out of memory");
        return;
    }
    *place = t;
}

const struct langflow_step *langflow_template_wanted(struct driver_op *op)
{
    if (op->target->template || langflow_template_find(op->site, op->target->flow_id)) {
        return NULL;
    }
    return op->template_id[0] ? &langflow_template_get : &langflow_template_list;
}

int langflow_template_body(struct driver_op *op, struct buf *body)
{
    const struct driver_target *t = op->target;
    const struct langflow_template *kept = langflow_template_find(op->site, t->flow_id);
    char *name = NULL;
    struct err e;
    if (t->template) {
        if (langflow_flow_body(t->template, t->template_len, t->flow_id, body, &name, &e)) {
            langflow_fail(op, e.class, "flow \"%.100s\": %.300s", t->flow_id, e.msg);
            return -1;
        }
    } else if (kept) {
        name = str_dup(kept->name);
        buf_add(body, kept->body, kept->body_len);
    }
    if (!name || body->failed) {
        free(name);
        langflow_fail(op, ERR_INTERNAL, "out of memory");
        return -1;
    }
    free(op->flow_name);
    op->flow_name = name;
    return 0;
}

static void template_missing(struct driver_op *op)
{
    langflow_fail(op, ERR_INVALID,
                  "Langflow has no flow with the id, endpoint name or name \"%.120s\" in the "
                  "platform's account; import it there, or give the offering a file of it, then "
                  "replay",
                  op->target->flow_id);
}

static void build_template_list(struct driver_op *op, struct exchange_request *r)
{
    langflow_url(op, r, flow_list_path, NULL, NULL);
}

/* An id is worth more than an endpoint's name, and that more than a flow's. */
static int likeness(const cJSON *flow, const char *wanted)
{
    static const char *const members[] = {"name", "endpoint_name", "id"};
    int best = 0;
    for (int i = 0; i < (int)ARRAY_LEN(members); i++) {
        best = str_eq(json_str(flow, members[i]), wanted) ? i + 1 : best;
    }
    return best;
}

static bool feed_template_list(struct driver_op *op, struct langflow_answer *a)
{
    cJSON *list = langflow_tree(a);
    const cJSON *flow = NULL;
    int best = 0;
    if (!cJSON_IsArray(list)) {
        cJSON_Delete(list);
        return false;
    }
    cJSON_ArrayForEach(flow, list)
    {
        int alike = likeness(flow, op->target->flow_id);
        char id[UUID_TEXT];
        if (alike > best && langflow_uuid(flow, "id", id)) {
            best = alike;
            str_copy(op->template_id, sizeof(op->template_id), id);
        }
    }
    cJSON_Delete(list);
    if (!best) {
        template_missing(op);
    }
    return true;
}

const struct langflow_step langflow_template_list = {.what = "looking for the template flow",
                                                     .method = METHOD_GET,
                                                     .as = AS_PLATFORM,
                                                     .build = build_template_list,
                                                     .feed = feed_template_list};

static void build_template_get(struct driver_op *op, struct exchange_request *r)
{
    langflow_url(op, r, "/api/v1/flows/", op->template_id, NULL);
}

static bool feed_template_get(struct driver_op *op, struct langflow_answer *a)
{
    struct langflow_flow_seen seen;
    bool json = a->r->content_type[0] == '\0' || str_eq(a->r->content_type, "application/json");
    if (a->verdict == VERDICT_ODD && a->r->truncated && json) {
        langflow_fail(op, ERR_INVALID, "flow \"%.100s\" is too large for a template",
                      op->target->flow_id);
        return true;
    }
    if (a->verdict == VERDICT_GONE) {
        template_missing(op);
        return true;
    }
    if (!langflow_flow_seen(op, a, op->template_id, &seen) || !seen.flow_fits) {
        return false;
    }
    template_keep(op, a);
    return true;
}

const struct langflow_step langflow_template_get = {.what = "reading the template flow",
                                                    .method = METHOD_GET,
                                                    .as = AS_PLATFORM,
                                                    .build = build_template_get,
                                                    .feed = feed_template_get};
