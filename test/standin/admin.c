/*
 * /admin: what tests do to an endpoint and see of it. No token: the endpoint listens on loopback.
 */
#include "standin.h"

#include <string.h>

#include "base/json.h"
#include "base/str.h"

static const size_t log_limit = 10000;

static void with_body(struct endpoint *e, const struct call *c, struct reply *out,
                      void (*fn)(struct endpoint *e, const cJSON *body, struct reply *out))
{
    cJSON *body = reply_parse(out, c->body, c->body_len);
    if (body)
        fn(e, body, out);
    cJSON_Delete(body);
}

static void add_faults(struct endpoint *e, const cJSON *body, struct reply *out)
{
    faults_add(endpoint_faults(e), body, out);
}

static void plant(struct endpoint *e, const cJSON *body, struct reply *out)
{
    endpoint_dialect(e)->plant(endpoint_store(e), body, out);
}

static void go_down(struct endpoint *e, const cJSON *body, struct reply *out)
{
    int64_t ms;
    struct err err;
    if (!json_i64(body, "ms", &ms) || ms < 0 || ms > 3600000)
        reply_detail(out, 422, "/ms: 0 to 3600000");
    else if (endpoint_down(e, ms, str_eq(json_str(body, "mode"), "refuse"), &err) < 0)
        reply_detail(out, 500, "%s", err.msg);
    else
        out->status = 204;
}

static void list_log(struct endpoint *e, const struct call *c, struct reply *out)
{
    int64_t since = 0, limit = (int64_t)log_limit;
    const char *from = call_argument(c, "since"), *most = call_argument(c, "limit");
    if ((from && (!str_to_i64(from, &since) || since < 0)) ||
        (most && (!str_to_i64(most, &limit) || limit < 1))) {
        reply_detail(out, 422, "since and limit are whole numbers");
        return;
    }
    journal_list(endpoint_journal(e), (uint64_t)since, (size_t)limit, out);
}

static void clear_faults(struct endpoint *e, struct reply *out)
{
    faults_clear(endpoint_faults(e));
    endpoint_release(e);
    out->status = 204;
}

void admin_handle(struct endpoint *e, const struct call *c, struct reply *out)
{
    bool get = str_eq(c->method, "GET"), post = str_eq(c->method, "POST");
    bool del = str_eq(c->method, "DELETE");
    if (str_eq(c->path, "/faults") && get) {
        faults_list(endpoint_faults(e), out);
    } else if (str_eq(c->path, "/faults") && post) {
        with_body(e, c, out, add_faults);
    } else if (str_eq(c->path, "/faults") && del) {
        clear_faults(e, out);
    } else if (str_eq(c->path, "/objects") && get) {
        endpoint_dialect(e)->list(endpoint_store(e), out);
    } else if (str_eq(c->path, "/objects") && post) {
        with_body(e, c, out, plant);
    } else if (str_eq(c->path, "/log") && get) {
        list_log(e, c, out);
    } else if (str_eq(c->path, "/log") && del) {
        journal_clear(endpoint_journal(e));
        out->status = 204;
    } else if (str_eq(c->path, "/down") && post) {
        with_body(e, c, out, go_down);
    } else if (endpoint_dialect(e)->admin) {
        endpoint_dialect(e)->admin(endpoint_store(e), c, out);
    }
    if (!out->status)
        reply_detail(out, 404, "not found");
}
