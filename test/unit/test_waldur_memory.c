/*
 * Memory ends at each allocation of each operation, decoder and translation in turn: an error that
 * says so, nothing lost and nothing taken for done; asked again, it is done.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "waldur/list.h"
#include "waldur/translate.h"
#include "waldur_sim.h"

/* How many more allocations there are; -1: as many as wanted. */
static int64_t left = -1;
static bool ended;

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);

static bool is_there(void)
{
    ended = ended || left == 0;
    left -= left > 0;
    return left != 0 || !ended;
}

void *__wrap_malloc(size_t n)
{
    return is_there() ? __real_malloc(n) : NULL;
}

void *__wrap_calloc(size_t n, size_t size)
{
    return is_there() ? __real_calloc(n, size) : NULL;
}

void *__wrap_realloc(void *p, size_t n)
{
    return is_there() ? __real_realloc(p, n) : NULL;
}

static int64_t hold(void)
{
    int64_t were = left;
    left = -1;
    return were;
}

static int no_row(void *ctx, const struct waldur_row *row)
{
    (void)row;
    ++*(size_t *)ctx;
    return 0;
}

enum kind { INTAKE, DONE, ERRED, KEY, LIST, KINDS };

static size_t rows;

static struct waldur_op *start(struct waldur_sim *s, enum kind kind, struct err *err)
{
    static const char *const offerings[] = {WS_OFFERING};
    static const struct waldur_endpoint endpoints[] = {{"Chat", "https://chat.example/x"}};
    static const struct waldur_key_told keys[] = {{"pk_live_abcd", WS_API_KEY}};
    const struct waldur_access access = ws_access(s);
    switch (kind) {
    case INTAKE:
        return waldur_intake_start(
            &(struct waldur_intake_target){
                .access = access, .order = WS_ORDER, .offerings = offerings, .n_offerings = 1},
            err);
    case DONE:
    case ERRED:
        return waldur_report_start(
            &(struct waldur_report_target){.access = access,
                                           .order = WS_ORDER,
                                           .resource = WS_RESOURCE,
                                           .verdict = kind == DONE ? WALDUR_VERDICT_DONE
                                                                   : WALDUR_VERDICT_ERRED,
                                           .backend_id = WS_NAME,
                                           .metadata = "{\"ready\":true}",
                                           .endpoints = endpoints,
                                           .n_endpoints = 1,
                                           .keys = keys,
                                           .n_keys = 1,
                                           .error_message = "no"},
            err);
    case KEY:
        return waldur_key_start(&(struct waldur_key_target){.access = access,
                                                            .resource = WS_RESOURCE,
                                                            .client_id = "pk_live_new",
                                                            .api_key = WS_API_KEY},
                                err);
    case LIST:
    case KINDS:
        break;
    }
    return waldur_list_start(&(struct waldur_list_target){.access = access,
                                                          .kind = WALDUR_LIST_KEYS,
                                                          .since_us = -1,
                                                          .row = no_row,
                                                          .ctx = &rows},
                             err);
}

/* One answer; Waldur has all the memory that it wants. */
static void answer(struct waldur_sim *s, struct waldur_op *op, struct waldur_action *a, bool list)
{
    int64_t were = hold();
    struct exchange_response r = {.sent = true, .status = 200, .retry_after_ms = -1};
    struct waldur_outcome out;
    if (list) {
        struct buf b;
        buf_init(&b, 1 << 20);
        ws_keys_body(s, a->request.url, &b, &r.status);
        free(s->body);
        r.body_len = b.len;
        r.body = s->body = buf_steal(&b);
    } else {
        r = ws_answer(s, a);
    }
    left = were;
    waldur_op_feed(op, &r, &out);
    exchange_request_done(&a->request);
}

/* Its end; an operation that could not even begin has failed. */
static struct waldur_action run(struct waldur_sim *s, enum kind kind)
{
    struct waldur_action a = {.turn = WALDUR_FAILED};
    struct waldur_op *op = start(s, kind, &a.err);
    if (!op) {
        return a;
    }
    for (waldur_op_next(op, &a); a.turn != WALDUR_DONE && a.turn != WALDUR_FAILED;
         waldur_op_next(op, &a)) {
        if (a.turn == WALDUR_ASK) {
            waldur_intake_accept(op, WS_NAME);
        } else if (a.turn == WALDUR_REQUEST) {
            answer(s, op, &a, kind == LIST);
        }
    }
    waldur_op_free(op);
    return a;
}

static void an_operation(enum kind kind)
{
    bool short_of_memory = true;
    for (int64_t at = 0; short_of_memory; at++) {
        struct waldur_sim s = ws_begin(false);
        s.state = kind == INTAKE ? WALDUR_ORDER_PENDING_PROVIDER : WALDUR_ORDER_EXECUTING;
        if (kind == KEY || kind == LIST) {
            ws_add_key(&s, "pk_live_old", WALDUR_KEY_UPDATING);
        }
        ended = false;
        left = at;
        struct waldur_action a = run(&s, kind);
        hold();
        short_of_memory = ended;
        if (a.turn == WALDUR_FAILED) {
            assert_true(short_of_memory && a.err.class != ERR_NONE && a.err.msg[0]);
            /* Never what would be held against the order. */
            assert_true(a.err.class != ERR_REFUSED && a.err.class != ERR_INVALID);
        }
        for (int again = 0; a.turn == WALDUR_FAILED && again < 2; again++) {
            a = run(&s, kind);
        }
        assert_int_equal(a.turn, WALDUR_DONE);
        assert_int_equal(s.posted_to_closed, 0);
        assert_int_equal(s.n_keys, kind == INTAKE || kind == ERRED ? 0 : 1);
        if (kind == DONE || kind == ERRED) {
            assert_int_equal(s.state, kind == DONE ? WALDUR_ORDER_DONE : WALDUR_ORDER_ERRED);
        }
        ws_end(&s);
    }
}

static void operations(void **state)
{
    (void)state;
    for (int kind = 0; kind < KINDS; kind++) {
        an_operation((enum kind)kind);
    }
    assert_true(rows > 0);
}

static void a_translation(void **state)
{
    (void)state;
    static const char *const names[] = {"agent_name"};
    static const char *const capabilities[] = {"rag"};
    static const struct waldur_mapping mappings[] = {{"domains", "api_key.allowed_domains"},
                                                     {"may", "api_key.permissions"},
                                                     {"chunk", "knowledge_base.chunk_size"}};
    const struct waldur_setup setup = {.type = "csa",
                                       .flow = "f",
                                       .capabilities = capabilities,
                                       .n_capabilities = 1,
                                       .variables = names,
                                       .n_variables = 1,
                                       .mappings = mappings,
                                       .n_mappings = 3,
                                       .rate_component = "requests"};
    struct waldur_sim s = ws_begin(false);
    struct buf order, resource;
    buf_init(&order, 1 << 16);
    buf_init(&resource, 1 << 16);
    s.attributes =
        "{\"agent_name\":\"Ada\",\"domains\":\"a.example, b.example\",\"may\":[\"chat\"],"
        "\"chunk\":\"512\"}";
    ws_order_body(&s, &order);
    ws_resource_body(&s, &resource);
    bool done = false;
    for (int64_t at = 0; !done; at++) {
        struct waldur_order o = {.attributes = NULL};
        struct waldur_resource r = {.attributes = NULL};
        struct waldur_event e = {.data = NULL};
        struct json_fault fault = {.internal = false};
        char reason[WALDUR_REASON_MAX] = "";
        ended = false;
        left = at;
        bool read = waldur_order_decode(buf_str(&order), order.len, &o, &fault) == 0 &&
                    waldur_resource_decode(buf_str(&resource), resource.len, &r, &fault) == 0;
        enum waldur_translation t =
            read ? waldur_translate(WS_URL, &setup, &o, &r, &e, reason) : WALDUR_TRANSLATION_MEMORY;
        hold();
        assert_true(read || fault.internal); /* it says nothing of the body */
        assert_string_equal(reason, "");
        assert_int_equal(t, ended ? WALDUR_TRANSLATION_MEMORY : WALDUR_TRANSLATED);
        done = !ended;
        waldur_order_done(&o);
        waldur_resource_done(&r);
        waldur_event_done(&e);
    }
    buf_done(&order);
    buf_done(&resource);
    ws_end(&s);
}

int main(void)
{
    cJSON_Hooks hooks = {.malloc_fn = __wrap_malloc, .free_fn = free};
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(operations),
        cmocka_unit_test(a_translation),
    };
    cJSON_InitHooks(&hooks);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
