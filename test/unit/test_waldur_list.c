/*
 * Lists against a Waldur that pages as it likes, sorts or does not, and whose rows come and go
 * while they are read.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/exchange.h"
#include "base/str.h"
#include "waldur/list.h"

#define URL   "https://waldur.example/api"
#define TOKEN "planted-token-of-the-platform"

enum { ROWS_MAX = 2000, REQUESTS_MAX = 4000 };

static const char *const offerings[] = {"5aa5c1c8-61f4-4d10-9a55-3a0f6a2b8a00",
                                        "5aa5c1c8-61f4-4d10-9a55-3a0f6a2b8a01"};

struct server {
    enum waldur_list_kind kind;
    struct {
        int64_t created_us;
        size_t offering;
        bool gone, told;
    } rows[ROWS_MAX];
    size_t n;
    size_t page_size; /* 0: as it is asked for */
    bool unsorted, unfiltered;
    bool halfway;   /* sorted for a page, and then no more; of 300 rows */
    size_t leaves;  /* so many rows leave after each request, the first ones first */
    size_t appears; /* likewise, the last ones */
    size_t doubles; /* rows that were told more than once */
    int requests, waits;
    char urls[8][EXCHANGE_URL_MAX]; /* of the first ones */
    char *body;
    struct waldur_site site;
    struct exchange_response *answer; /* instead of the usual one to... */
    int answer_at;                    /* ... this request */
    int stop_after;                   /* rows; 0: never */
    size_t told;
};

static void fill(struct server *s, size_t n, int64_t from_us, int64_t step_us)
{
    s->n = n;
    for (size_t i = 0; i < n; i++) {
        s->rows[i].created_us = from_us + (int64_t)i * step_us;
        s->rows[i].offering = i % 2;
    }
}

static bool asked(const char *url, const char *name, char value[128])
{
    char wanted[64];
    snprintf(wanted, sizeof(wanted), "%c%s=", strchr(url, '?') ? '&' : '?', name);
    const char *at = strstr(url, wanted);
    if (!at) {
        wanted[0] = '?';
        at = strstr(url, wanted);
    }
    if (!at) {
        return false;
    }
    at += strlen(wanted);
    size_t n = 0;
    for (; *at && *at != '&' && n < 127; n++) {
        char hex[3] = "";
        if (*at == '%' && strlen(at) > 2) {
            memcpy(hex, at + 1, 2);
        }
        value[n] = hex[0] ? (char)strtoul(hex, NULL, 16) : *at;
        at += hex[0] ? 3 : 1;
    }
    value[n] = '\0';
    return true;
}

static int64_t since(const struct server *s, const char *url)
{
    char value[128];
    int64_t us = -1;
    if (s->unfiltered) {
        return -1;
    }
    if (s->kind == WALDUR_LIST_EVENTS) {
        assert_true(!asked(url, "created_from", value) || (str_to_i64(value, &us) && us >= 0));
        return us < 0 ? us : us * 1000000;
    }
    assert_true(!asked(url, "created", value) || clock_parse(value, strlen(value), &us));
    return us;
}

static void add_row(const struct server *s, size_t i, struct buf *b)
{
    char created[CLOCK_TEXT_MAX];
    clock_format_us(created, s->rows[i].created_us);
    buf_addf(b, "%s{\"uuid\":\"%08zx6a0e4c558f1e5d2f0c9b7a01\",\"created\":\"%s\"",
             b->len > 1 ? "," : "", i, created);
    if (s->kind == WALDUR_LIST_EVENTS) {
        buf_addf(b,
                 ",\"event_type\":\"marketplace_order_approved\",\"message\":\"\",\"context\":"
                 "{\"order_uuid\":\"%08zx6a0e4c558f1e5d2f0c9b7a02\"}}",
                 i);
        return;
    }
    buf_addf(b,
             ",\"offering_uuid\":\"%s\",\"state\":\"%s\",\"type\":\"Create\",\"paused\":true,"
             "\"marketplace_resource_uuid\":\"%08zx6a0e4c558f1e5d2f0c9b7a03\",\"resource_uuid\":"
             "\"%08zx6a0e4c558f1e5d2f0c9b7a04\",\"client_id\":\"c%zu\",\"backend_id\":\"b%zu\"}",
             offerings[s->rows[i].offering],
             s->kind == WALDUR_LIST_ORDERS      ? "executing"
             : s->kind == WALDUR_LIST_RESOURCES ? "OK"
                                                : "Updating",
             i, i, i, i);
}

/* 0 to 98, 200; 299 to 201; 199 to 99 */
static size_t halfway(size_t n)
{
    return n < 99 ? n : n == 99 ? 200 : n < 199 ? 399 - n : 398 - n;
}

static int serve(struct server *s, const char *url, struct buf *b)
{
    char value[128];
    int64_t number = 0, from = since(s, url);
    size_t page_size = s->page_size, page = 1, skip = 0, matched = 0;
    if (asked(url, "page_size", value) && !page_size && str_to_i64(value, &number)) {
        page_size = (size_t)number;
    }
    if (asked(url, "page", value) && str_to_i64(value, &number)) {
        page = (size_t)number;
    }
    bool one = asked(url, "offering_uuid", value);
    skip = (page - 1) * page_size;
    buf_addc(b, '[');
    for (size_t n = 0; n < s->n; n++) {
        size_t i = s->unsorted ? (n * 7 + 3) % s->n : s->halfway ? halfway(n) : n;
        bool match = !s->rows[i].gone && s->rows[i].created_us >= from &&
                     (!one || str_eq(value, offerings[s->rows[i].offering]));
        if (match && matched++ >= skip && matched <= skip + page_size) {
            add_row(s, i, b);
        }
    }
    buf_addc(b, ']');
    if (page > 1 && matched <= skip) {
        buf_reset(b);
        buf_adds(b, "{\"detail\":\"Invalid page.\"}");
        return 404;
    }
    return 200;
}

static void time_passes(struct server *s)
{
    size_t n = s->leaves;
    for (size_t i = 0; i < s->n && n > 0; i++) {
        if (s->rows[i].told && !s->rows[i].gone) {
            s->rows[i].gone = true;
            n--;
        }
    }
    for (n = s->appears; n > 0 && s->n < ROWS_MAX; n--, s->n++) {
        s->rows[s->n].created_us = s->rows[s->n - 1].created_us + 5;
    }
}

static int told(void *ctx, const struct waldur_row *row)
{
    struct server *s = ctx;
    size_t i = strtoul(row->uuid, NULL, 16); /* up to the first dash */
    assert_true(i < s->n);
    assert_int_equal(row->kind, s->kind);
    s->doubles += s->rows[i].told;
    s->rows[i].told = true;
    s->told++;
    if (s->kind == WALDUR_LIST_ORDERS) {
        assert_int_equal(row->order_state, WALDUR_ORDER_EXECUTING);
        assert_int_equal(row->order_type, WALDUR_TYPE_CREATE);
        assert_string_equal(row->resource_uuid + 8, "-6a0e-4c55-8f1e-5d2f0c9b7a03");
    } else if (s->kind == WALDUR_LIST_RESOURCES) {
        assert_int_equal(row->resource_state, WALDUR_RESOURCE_OK);
        assert_true(row->paused);
        assert_int_equal(row->backend_id[0], 'b');
    } else if (s->kind == WALDUR_LIST_KEYS) {
        assert_int_equal(row->key_state, WALDUR_KEY_UPDATING);
        assert_string_equal(row->resource_uuid + 8, "-6a0e-4c55-8f1e-5d2f0c9b7a04");
        assert_int_equal(row->client_id[0], 'c');
    } else {
        assert_int_equal(row->hook.kind, HOOK_ORDER_APPROVED);
        assert_string_equal(row->hook.order_uuid + 8, "-6a0e-4c55-8f1e-5d2f0c9b7a02");
    }
    return s->stop_after && s->told >= (size_t)s->stop_after;
}

static struct waldur_list_target target_of(struct server *s)
{
    return (struct waldur_list_target){
        .access = {.url = URL, .credential = TOKEN, .site = &s->site},
        .kind = s->kind,
        .since_us = -1,
        .row = told,
        .ctx = s};
}

static struct waldur_action list(struct server *s, const struct waldur_list_target *target,
                                 struct waldur_list *result)
{
    struct err err;
    struct waldur_action a;
    struct waldur_op *op = waldur_list_start(target, &err);
    assert_non_null(op);
    for (waldur_op_next(op, &a); a.turn == WALDUR_REQUEST || a.turn == WALDUR_WAIT;
         waldur_op_next(op, &a)) {
        if (a.turn == WALDUR_WAIT) {
            s->waits++;
            continue;
        }
        struct waldur_outcome out;
        struct buf b;
        assert_true(s->requests < REQUESTS_MAX);
        assert_true(str_starts(a.request.url, URL "/"));
        assert_non_null(strstr(a.request.url, "/?")); /* the slash that Django wants */
        assert_null(a.effect);
        if (s->requests < (int)ARRAY_LEN(s->urls)) {
            str_copy(s->urls[s->requests], EXCHANGE_URL_MAX, a.request.url);
        }
        buf_init(&b, 1 << 22);
        struct exchange_response r = {.sent = true, .retry_after_ms = -1};
        r.status = serve(s, a.request.url, &b);
        free(s->body);
        r.body_len = b.len;
        r.body = s->body = buf_steal(&b);
        if (s->answer && (s->answer_at < 0 || s->requests == s->answer_at)) {
            r = *s->answer;
            r.body_len = strlen(r.body);
        }
        s->requests++;
        waldur_op_feed(op, &r, &out);
        assert_int_equal(out.effect, WALDUR_EFFECT_NONE);
        exchange_request_done(&a.request);
        time_passes(s);
    }
    assert_true(a.turn == WALDUR_DONE || a.turn == WALDUR_FAILED);
    *result = *waldur_list_of(op);
    waldur_op_free(op);
    free(s->body);
    s->body = NULL;
    return a;
}

static void lists_all(struct server *s, const struct waldur_list_target *target)
{
    struct waldur_list result;
    size_t n = s->n;
    struct waldur_action end = list(s, target, &result);
    if (end.turn != WALDUR_DONE) {
        fail_msg("%s", end.err.msg);
    }
    for (size_t i = 0; i < n; i++) {
        if (!s->rows[i].told) {
            fail_msg("row %zu of %zu was not told, after %d requests", i, n, s->requests);
        }
    }
    assert_int_equal(s->doubles, 0);
    assert_int_equal(result.rows, s->told);
    assert_int_equal(result.skipped, 0);
}

static struct server *server(enum waldur_list_kind kind, size_t n, int64_t step_us)
{
    struct server *s = calloc(1, sizeof(*s));
    assert_non_null(s);
    s->kind = kind;
    fill(s, n, 1763719200123456, step_us);
    return s;
}

static void few_rows_are_one_request(void **state)
{
    (void)state;
    for (int kind = WALDUR_LIST_ORDERS; kind <= WALDUR_LIST_EVENTS; kind++) {
        struct server *s = server((enum waldur_list_kind)kind, 9, 1000);
        struct waldur_list_target t = target_of(s);
        lists_all(s, &t);
        assert_int_equal(s->requests, 1);
        free(s);
    }
}

static void all_pages_are_read(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 1, 10, 11, 99, 100, 101, 199, 250, 1000};
    static const size_t pages[] = {0, 10, 37, 100};
    /* All at one time, several at one, and each at its own. */
    static const int64_t steps[] = {0, 1, 40000, 3000000};
    for (int kind = WALDUR_LIST_ORDERS; kind <= WALDUR_LIST_EVENTS; kind++) {
        for (size_t i = 0; i < ARRAY_LEN(sizes) * ARRAY_LEN(pages) * ARRAY_LEN(steps); i++) {
            struct server *s = server((enum waldur_list_kind)kind, sizes[i % ARRAY_LEN(sizes)],
                                      steps[i / ARRAY_LEN(sizes) / ARRAY_LEN(pages)]);
            struct waldur_list_target t = target_of(s);
            s->page_size = pages[i / ARRAY_LEN(sizes) % ARRAY_LEN(pages)];
            lists_all(s, &t);
            free(s);
        }
    }
}

static void rows_that_leave_make_none_be_missed(void **state)
{
    (void)state;
    static const int64_t steps[] = {1, 1000000, 40000};
    for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
        struct server *s = server(WALDUR_LIST_ORDERS, 500, steps[i]);
        struct waldur_list_target t = target_of(s);
        s->leaves = 30;
        lists_all(s, &t);
        free(s);
    }
}

static void rows_that_appear_are_told(void **state)
{
    (void)state;
    struct server *s = server(WALDUR_LIST_ORDERS, 450, 1000);
    struct waldur_list_target t = target_of(s);
    s->appears = 3;
    lists_all(s, &t);
    assert_true(s->told > 450);
    free(s);
}

static void a_server_that_does_not_sort_or_filter_is_read_by_pages(void **state)
{
    (void)state;
    for (int kind = WALDUR_LIST_ORDERS; kind <= WALDUR_LIST_EVENTS; kind++) {
        for (int how = 1; how < 4; how++) {
            struct server *s = server((enum waldur_list_kind)kind, 333, 1500000);
            struct waldur_list_target t = target_of(s);
            s->unsorted = how & 1;
            s->unfiltered = how & 2;
            lists_all(s, &t);
            free(s);
        }
    }
    struct server *s = server(WALDUR_LIST_ORDERS, 300, 1500000);
    struct waldur_list_target t = target_of(s);
    s->halfway = true;
    lists_all(s, &t);
    free(s);
}

static void each_offering_is_asked_for(void **state)
{
    (void)state;
    struct server *s = server(WALDUR_LIST_ORDERS, 18, 1000);
    struct waldur_list_target t = target_of(s);
    t.offerings = offerings;
    t.n_offerings = 2;
    t.states = 1U << WALDUR_ORDER_PENDING_PROVIDER | 1U << WALDUR_ORDER_EXECUTING;
    lists_all(s, &t);
    assert_int_equal(s->requests, 2);
    assert_string_equal(
        s->urls[1],
        URL "/marketplace-orders/?page_size=100&page=1&o=created&offering_uuid="
            "5aa5c1c8-61f4-4d10-9a55-3a0f6a2b8a01&state=pending-provider&state=executing&field="
            "uuid&field=type&field=state&field=marketplace_resource_uuid&field=offering_uuid&field="
            "created&field=modified");
    free(s);
}

static void what_is_asked_for_is_what_was_wanted(void **state)
{
    (void)state;
    static const char *const types[] = {"marketplace_order_approved",
                                        "marketplace_resource_unlinked"};
    struct server *s = server(WALDUR_LIST_EVENTS, 1, 0);
    struct waldur_list_target t = target_of(s);
    t.since_us = 1763719100999999;
    t.event_types = types;
    t.n_event_types = 2;
    t.offerings = offerings; /* not for events */
    t.n_offerings = 2;
    lists_all(s, &t);
    assert_int_equal(s->requests, 1);
    assert_string_equal(s->urls[0], URL "/events/?page_size=100&page=1&o=created&event_type="
                                        "marketplace_order_approved&event_type="
                                        "marketplace_resource_unlinked&created_from=1763719100");
    free(s);
    s = server(WALDUR_LIST_RESOURCES, 1, 0);
    t = target_of(s);
    t.since_us = 1763719100999999;
    t.states = 1U << WALDUR_RESOURCE_OK;
    lists_all(s, &t);
    assert_string_equal(s->urls[0],
                        URL "/marketplace-provider-resources/?page_size=100&page=1&o=created&state="
                            "OK&modified=2025-11-21T09%3A58%3A20.999999Z&field=uuid&field=state&"
                            "field=offering_uuid&field=backend_id&field=paused&field=created&field="
                            "modified");
    free(s);
    s = server(WALDUR_LIST_KEYS, 1, 0);
    t = target_of(s);
    t.states = 1U << WALDUR_KEY_UPDATING;
    lists_all(s, &t);
    assert_string_equal(s->urls[0],
                        URL "/marketplace-resource-api-keys/?page_size=100&page=1&state=Updating");
    free(s);
}

static void the_row_that_is_enough_ends_it(void **state)
{
    (void)state;
    struct server *s = server(WALDUR_LIST_ORDERS, 300, 1000);
    struct waldur_list_target t = target_of(s);
    struct waldur_list result;
    s->stop_after = 120;
    assert_int_equal(list(s, &t, &result).turn, WALDUR_DONE);
    assert_int_equal(result.rows, 120);
    assert_int_equal(s->requests, 2);
    free(s);
}

static void rows_that_cannot_be_read_are_counted(void **state)
{
    (void)state;
    static const char body[] =
        "[1,null,{},{\"uuid\":\"x\"},{\"uuid\":\"000000006a0e4c558f1e5d2f0c9b7a01\",\"created\":7},"
        "{\"uuid\":\"000000006a0e4c558f1e5d2f0c9b7a01\",\"state\":\"executing\",\"type\":"
        "\"Create\","
        "\"marketplace_resource_uuid\":\"000000006a0e4c558f1e5d2f0c9b7a03\"}]";
    struct exchange_response r = {.sent = true, .status = 200, .body = body, .retry_after_ms = -1};
    struct server *s = server(WALDUR_LIST_ORDERS, 1, 0);
    struct waldur_list_target t = target_of(s);
    struct waldur_list result;
    s->answer = &r;
    assert_int_equal(list(s, &t, &result).turn, WALDUR_DONE);
    assert_int_equal(result.rows, 1);
    assert_int_equal(result.skipped, 5);
    free(s);
}

static void a_list_that_does_not_end_is_an_error(void **state)
{
    (void)state;
    struct buf b;
    buf_init(&b, 1 << 16);
    for (int i = 0; i < 12; i++) {
        buf_addf(&b,
                 "%s{\"uuid\":\"000000006a0e4c558f1e5d2f0c9b7a01\",\"state\":\"executing\","
                 "\"type\":\"Create\",\"marketplace_resource_uuid\":"
                 "\"000000006a0e4c558f1e5d2f0c9b7a03\"}",
                 i ? "," : "[");
    }
    buf_addc(&b, ']');
    struct server *s = server(WALDUR_LIST_ORDERS, 1, 0);
    struct waldur_list_target t = target_of(s);
    struct waldur_list result;
    struct exchange_response r = {
        .sent = true, .status = 200, .body = buf_str(&b), .retry_after_ms = -1};
    s->answer = &r;
    s->answer_at = -1; /* always */
    struct waldur_action a = list(s, &t, &result);
    assert_int_equal(a.turn, WALDUR_FAILED);
    assert_int_equal(a.err.class, ERR_UNKNOWN);
    assert_int_equal(result.rows, 1);
    assert_true(s->requests < 50);
    buf_done(&b);
    free(s);
}

static void errors_end_it(void **state)
{
    (void)state;
    static const struct {
        struct exchange_response r;
        enum waldur_list_kind kind;
        int at;
        enum err_class class;
    } cases[] = {
        {{.sent = true, .status = 401, .body = "{\"detail\":\"Invalid token " TOKEN "\"}"},
         WALDUR_LIST_ORDERS,
         0,
         ERR_UNAUTHORIZED},
        {{.sent = true, .status = 403, .body = "{}"}, WALDUR_LIST_KEYS, 0, ERR_UNAUTHORIZED},
        {{.sent = true, .status = 404, .body = "{}"}, WALDUR_LIST_ORDERS, 0, ERR_UNAVAILABLE},
        {{.sent = true, .status = 404, .body = "<html>"}, WALDUR_LIST_ORDERS, 1, ERR_UNAVAILABLE},
        {{.sent = true, .status = 404, .body = "<html>"}, WALDUR_LIST_KEYS, 1, ERR_UNAVAILABLE},
        {{.sent = true, .status = 429, .body = "", .retry_after_ms = 5},
         WALDUR_LIST_ORDERS,
         1,
         ERR_THROTTLED},
        {{.sent = true, .status = 502, .body = "<html>"}, WALDUR_LIST_ORDERS, 1, ERR_UNKNOWN},
        {{.sent = true, .status = 200, .body = "<html>"}, WALDUR_LIST_ORDERS, 1, ERR_UNKNOWN},
        {{.sent = true, .status = 200, .body = "{}"}, WALDUR_LIST_EVENTS, 0, ERR_UNKNOWN},
        {{.sent = true, .status = 200, .body = "", .truncated = true},
         WALDUR_LIST_ORDERS,
         0,
         ERR_UNKNOWN},
        {{.sent = false, .body = "", .failure = "refused"}, WALDUR_LIST_ORDERS, 0, ERR_UNAVAILABLE},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct server *s = server(cases[i].kind, 150, 1000);
        struct waldur_list_target t = target_of(s);
        struct waldur_list result;
        struct exchange_response r = cases[i].r;
        s->answer = &r;
        s->answer_at = cases[i].at;
        struct waldur_action a = list(s, &t, &result);
        assert_int_equal(a.turn, WALDUR_FAILED);
        if (a.err.class != cases[i].class) {
            fail_msg("case %zu: %s: %s", i, err_class_name(a.err.class), a.err.msg);
        }
        assert_null(strstr(a.err.msg, TOKEN));
        free(s);
    }
}

static void an_old_waldur_has_no_keys(void **state)
{
    (void)state;
    struct exchange_response r = {
        .sent = true, .status = 404, .body = "<h1>Not Found</h1>", .retry_after_ms = -1};
    struct server *s = server(WALDUR_LIST_KEYS, 1, 0);
    struct waldur_list_target t = target_of(s);
    struct waldur_list result;
    s->answer = &r;
    /* Once, it may be a proxy's. */
    assert_int_equal(list(s, &t, &result).turn, WALDUR_DONE);
    assert_false(result.not_supported);
    assert_int_equal(result.rows, 1);
    assert_int_equal(s->waits, 1);
    s->site.keys = WALDUR_SUPPORT_UNKNOWN;
    s->answer_at = -1;
    assert_int_equal(list(s, &t, &result).turn, WALDUR_DONE);
    assert_true(result.not_supported);
    assert_int_equal(s->site.keys, WALDUR_SUPPORT_NO);
    free(s);
}

static void a_request_that_is_too_long_is_refused(void **state)
{
    (void)state;
    static char type[EXCHANGE_URL_MAX + 1];
    memset(type, 'a', EXCHANGE_URL_MAX);
    const char *const types[] = {type};
    struct server *s = server(WALDUR_LIST_EVENTS, 1, 0);
    struct waldur_list_target t = target_of(s);
    struct waldur_list result;
    t.event_types = types;
    t.n_event_types = 1;
    struct waldur_action a = list(s, &t, &result);
    assert_int_equal(a.turn, WALDUR_FAILED);
    assert_int_equal(a.err.class, ERR_INVALID);
    free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(few_rows_are_one_request),
        cmocka_unit_test(all_pages_are_read),
        cmocka_unit_test(rows_that_leave_make_none_be_missed),
        cmocka_unit_test(rows_that_appear_are_told),
        cmocka_unit_test(a_server_that_does_not_sort_or_filter_is_read_by_pages),
        cmocka_unit_test(each_offering_is_asked_for),
        cmocka_unit_test(what_is_asked_for_is_what_was_wanted),
        cmocka_unit_test(the_row_that_is_enough_ends_it),
        cmocka_unit_test(rows_that_cannot_be_read_are_counted),
        cmocka_unit_test(a_list_that_does_not_end_is_an_error),
        cmocka_unit_test(errors_end_it),
        cmocka_unit_test(an_old_waldur_has_no_keys),
        cmocka_unit_test(a_request_that_is_too_long_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
