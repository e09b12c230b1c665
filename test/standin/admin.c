/*
 * /admin: what tests do to an endpoint and see of it. No token: the endpoint listens on loopback.
 */
#include "standin.h"

#include <string.h>

#include "base/json.h"
#include "base/str.h"

static const size_t log_limit = 10000;

static void with_body(struct endpoint *e, const struct admin_request *rq, struct reply *out,
                      void (*fn)(struct endpoint *e, const cJSON *body, struct reply *out))
{
    cJSON *body = reply_parse(out, rq->body, rq->body_len);
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
    store_plant(endpoint_store(e), body, out);
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

static void list_log(struct endpoint *e, const struct admin_request *rq, struct reply *out)
{
    int64_t since = 0, limit = (int64_t)log_limit;
    if ((rq->since && (!str_to_i64(rq->since, &since) || since < 0)) ||
        (rq->limit && (!str_to_i64(rq->limit, &limit) || limit < 1))) {
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

void admin_handle(struct endpoint *e, const struct admin_request *rq, struct reply *out)
{
    bool get = str_eq(rq->method, "GET"), post = str_eq(rq->method, "POST");
    bool del = str_eq(rq->method, "DELETE");
    if (str_eq(rq->path, "/faults") && get) {
        faults_list(endpoint_faults(e), out);
    } else if (str_eq(rq->path, "/faults") && post) {
        with_body(e, rq, out, add_faults);
    } else if (str_eq(rq->path, "/faults") && del) {
        clear_faults(e, out);
    } else if (str_eq(rq->path, "/objects") && get) {
        store_list(endpoint_store(e), out);
    } else if (str_eq(rq->path, "/objects") && post) {
        with_body(e, rq, out, plant);
    } else if (str_eq(rq->path, "/log") && get) {
        list_log(e, rq, out);
    } else if (str_eq(rq->path, "/log") && del) {
        journal_clear(endpoint_journal(e));
        out->status = 204;
    } else if (str_eq(rq->path, "/down") && post) {
        with_body(e, rq, out, go_down);
    } else {
        reply_detail(out, 404, "not found");
    }
}
