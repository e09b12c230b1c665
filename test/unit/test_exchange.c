#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "base/exchange.h"
#include "base/str.h"

static struct exchange_response answer(int status, const char *body)
{
    return (struct exchange_response){.sent = true,
                                      .status = status,
                                      .body = body,
                                      .body_len = strlen(body),
                                      .retry_after_ms = -1};
}

static void every_status_has_its_class(void **state)
{
    (void)state;
    static const struct {
        int from;
        int to;
        enum err_class class;
    } ranges[] = {
        {100, 199, ERR_UNKNOWN},      {200, 299, ERR_NONE},         {300, 399, ERR_UNKNOWN},
        {400, 400, ERR_REFUSED},      {401, 401, ERR_UNAUTHORIZED}, {402, 402, ERR_REFUSED},
        {403, 403, ERR_UNAUTHORIZED}, {404, 404, ERR_GONE},         {405, 407, ERR_REFUSED},
        {408, 408, ERR_UNKNOWN},      {409, 409, ERR_CONFLICT},     {410, 410, ERR_GONE},
        {411, 424, ERR_REFUSED},      {425, 425, ERR_UNKNOWN},      {426, 428, ERR_REFUSED},
        {429, 429, ERR_THROTTLED},    {430, 499, ERR_REFUSED},      {500, 999, ERR_UNKNOWN},
    };
    int next = 100;
    for (size_t i = 0; i < ARRAY_LEN(ranges); i++) {
        assert_int_equal(ranges[i].from, next);
        for (int s = ranges[i].from; s <= ranges[i].to; s++) {
            struct exchange_response r = answer(s, "");
            struct err e = {.msg = "old", .sqlstate = "XX000"};
            assert_int_equal(exchange_classify(&r, &e), ranges[i].class);
            assert_int_equal(e.class, ranges[i].class);
            assert_int_equal(e.http_status, s);
            assert_int_equal(e.retry_after_ms, -1);
            assert_string_equal(e.sqlstate, "");
            assert_int_equal(e.msg[0] == '\0', e.class == ERR_NONE);
            assert_int_equal(exchange_classify(&r, NULL), ranges[i].class);
        }
        next = ranges[i].to + 1;
    }
}

static void waits_as_told(void **state)
{
    (void)state;
    struct exchange_response r = answer(503, "");
    struct err e;
    r.retry_after_ms = 0;
    assert_int_equal(exchange_classify(&r, &e), ERR_THROTTLED);
    assert_int_equal(e.retry_after_ms, 0);
    r.retry_after_ms = 7000;
    assert_int_equal(exchange_classify(&r, &e), ERR_THROTTLED);
    assert_int_equal(e.retry_after_ms, 7000);
    r.status = 502; /* the wait does not make the outcome known */
    assert_int_equal(exchange_classify(&r, &e), ERR_UNKNOWN);
    assert_int_equal(e.retry_after_ms, 7000);
}

static void no_answer(void **state)
{
    (void)state;
    struct exchange_response r = answer(0, "");
    struct err e;
    str_copy(r.failure, sizeof(r.failure), "connection reset");
    assert_int_equal(exchange_classify(&r, &e), ERR_UNKNOWN);
    assert_string_equal(e.msg, "no usable answer: connection reset");
    r.sent = false;
    str_copy(r.failure, sizeof(r.failure), "could not resolve host");
    assert_int_equal(exchange_classify(&r, &e), ERR_UNAVAILABLE);
    assert_string_equal(e.msg, "not sent: could not resolve host");
    r.failure[0] = '\0';
    r.body = NULL;
    assert_int_equal(exchange_classify(&r, &e), ERR_UNAVAILABLE);
    assert_string_equal(e.msg, "not sent: the connection failed");
}

static void quotes_the_servers_words(void **state)
{
    (void)state;
    static const struct {
        const char *body;
        const char *msg;
    } cases[] = {
        {"{\"detail\":\"Flow name must be unique\"}", "HTTP 400: Flow name must be unique"},
        {"{\"message\":\"second\",\"code\":102}", "HTTP 400: second"},
        {"{\"error\":\"third\"}", "HTTP 400: third"},
        {"{\"error\":\"c\",\"message\":\"b\",\"detail\":\"a\"}", "HTTP 400: a"},
        {"{\"detail\":[{\"msg\":\"x\"}],\"message\":\"b\"}", "HTTP 400: b"},
        {"{\"detail\":\"\",\"error\":\"c\"}", "HTTP 400: c"},
        {"{\"detail\":\"a\\r\\n\\u001b[31mb\\u0085\\u007fc é\"}", "HTTP 400: a[31mbc é"},
        {"{\"detail\":\"a", "HTTP 400"},
        {"{\"detail\":12}", "HTTP 400"},
        {"[\"detail\"]", "HTTP 400"},
        {"<html>Bad Request</html>", "HTTP 400"},
        {"", "HTTP 400"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct exchange_response r = answer(400, cases[i].body);
        struct err e;
        exchange_classify(&r, &e);
        assert_string_equal(e.msg, cases[i].msg);
    }
    struct exchange_response r = answer(500, "{\"detail\":\"boom\"}");
    struct err e;
    str_copy(r.request_id, sizeof(r.request_id), "req-1");
    exchange_classify(&r, &e);
    assert_string_equal(e.msg, "HTTP 500: boom (request req-1)");
}

static void cuts_the_servers_words(void **state)
{
    (void)state;
    struct buf b;
    buf_init(&b, 10000);
    buf_adds(&b, "{\"detail\":\"x");
    for (int i = 0; i < 500; i++)
        buf_adds(&b, "€");
    buf_adds(&b, "\"}");
    struct exchange_response r = answer(400, buf_str(&b));
    char words[EXCHANGE_WORDS_MAX];
    exchange_words(&r, words);
    assert_int_equal(strlen(words), 199); /* 1 + 66 * 3: the 67th would not fit */
    assert_true(str_is_utf8(words, strlen(words)));
    buf_reset(&b);
    buf_addf(&b, "{\"detail\":\"%0500d\"}", 7);
    r = answer(400, buf_str(&b));
    exchange_words(&r, words);
    assert_int_equal(strlen(words), 200);
    buf_done(&b);
}

static void requests_start_clean(void **state)
{
    (void)state;
    static const char *const names[] = {"GET", "POST", "PUT", "PATCH", "DELETE"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        assert_string_equal(exchange_method_name((enum exchange_method)i), names[i]);
    struct exchange_request r;
    exchange_request_init(&r);
    assert_int_equal(r.method, METHOD_GET);
    assert_string_equal(r.url, "");
    assert_string_equal(r.auth_scheme, "");
    assert_null(r.content_type);
    assert_null(r.credential);
    assert_int_equal(buf_adds(&r.body, "{}"), 0);
    r.fresh_connection = true;
    exchange_request_done(&r);
    assert_null(r.body.data);
    assert_false(r.fresh_connection);
    exchange_request_done(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_status_has_its_class),
        cmocka_unit_test(waits_as_told),
        cmocka_unit_test(no_answer),
        cmocka_unit_test(quotes_the_servers_words),
        cmocka_unit_test(cuts_the_servers_words),
        cmocka_unit_test(requests_start_clean),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
