/*
 * What the stand-in Waldur sends is read as what it tells: the webhooks of a subscription's life,
 * in both versions, and the message bus's words.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/str.h"
#include "standin/waldur.h"
#include "unit/product_sim.h"
#include "waldur/hook.h"

enum { BODY_BYTES = 1024, PATH_BYTES = 128 };

static char *plant(struct product_sim *p, const char *kind, const char *of, const char *id)
{
    char body[BODY_BYTES];
    snprintf(body, sizeof(body), "{\"kind\":\"%s\",\"name\":\"%s\",\"%s\":\"%s\"}", kind, kind, of,
             id ? id : "");
    cJSON *answer = product_admin(p, "POST", "/objects", body);
    char *made = str_dup(cJSON_GetArrayItem(json_get(answer, "ids"), 0)->valuestring);
    cJSON_Delete(answer);
    return made;
}

/* The order and the resource of what was ordered. */
static void ordered(cJSON *answer, char order[WD_HEX], char resource[WD_HEX])
{
    const cJSON *one = json_get(answer, "orders");
    one = one ? one->child : answer;
    assert_true(str_copy(order, WD_HEX, json_str(one, "order")));
    assert_true(str_copy(resource, WD_HEX, json_str(one, "resource")));
    cJSON_Delete(answer);
}

static void act(struct product_sim *p, const char *what, const char *id, const char *action)
{
    char path[PATH_BYTES];
    snprintf(path, sizeof(path), "/%s/%s/%s", what, id, action);
    cJSON_Delete(product_admin(p, "POST", path, "{}"));
}

/* A Create that errs, is tried again and canceled; a termination by cron; what staff unlinks. */
static void live(struct product_sim *p, char order[WD_HEX], char resource[WD_HEX])
{
    char body[BODY_BYTES], path[PATH_BYTES], end[WD_HEX], other[WD_HEX];
    char *customer = plant(p, "customer", "x", NULL);
    char *project = plant(p, "project", "customer", customer);
    char *offering = plant(p, "offering", "customer", customer);
    struct wd_store *s = p->store;
    snprintf(body, sizeof(body), "{\"project\":\"%s\",\"offering\":\"%s\",\"state\":\"executing\"}",
             project, offering);
    ordered(product_admin(p, "POST", "/orders", body), order, resource);
    wd_set_text(wd_find(s, WD_RESOURCE, resource)->own, "backend_id", "ws-1");
    assert_true(wd_order_finish(s, wd_find(s, WD_ORDER, order), WD_ERRED));
    act(p, "orders", order, "retry");
    assert_true(wd_order_finish(s, wd_find(s, WD_ORDER, order), WD_DONE));
    snprintf(path, sizeof(path), "/resources/%s/expire", resource);
    ordered(product_admin(p, "POST", path, "{}"), end, resource);
    act(p, "orders", end, "execute");
    assert_true(wd_order_finish(s, wd_find(s, WD_ORDER, end), WD_DONE));
    ordered(product_admin(p, "POST", "/orders", body), end, other);
    act(p, "orders", end, "cancel");
    ordered(product_admin(p, "POST", "/orders", body), end, other);
    act(p, "resources", other, "unlink");
    free(customer);
    free(project);
    free(offering);
}

static enum hook_kind wanted(const char *type)
{
    if (str_eq(type, "marketplace_order_approved"))
        return HOOK_ORDER_APPROVED;
    if (strstr(type, "_unlinked"))
        return HOOK_UNLINKED;
    if (str_starts(type, "marketplace_order_"))
        return HOOK_ORDER_CLOSED;
    return strstr(type, "_requested") ? HOOK_RESOURCE_REQUESTED : HOOK_RESOURCE_CHANGED;
}

/* Takes the body. */
static struct hook read_body(char *body)
{
    struct json_fault fault;
    struct hook h;
    assert_non_null(body);
    if (hook_decode(body, strlen(body), &h, &fault))
        fail_msg("%s: %s %s", body, fault.pointer, fault.reason);
    free(body);
    return h;
}

static void check(void **state, const char *profile, size_t unlinked)
{
    struct product_sim p;
    char order[WD_HEX], resource[WD_HEX], hex[WD_HEX];
    size_t approved = 0, gone = 0, n = 0;
    (void)state;
    product_begin(&p, "waldur", profile);
    live(&p, order, resource);
    const struct wd_store *s = p.store;
    for (const struct wd_record *e = s->first[WD_EVENT]; e; e = e->next, n++) {
        struct hook h = read_body(wd_event_body(e, WD_WEBHOOK));
        if (h.kind != wanted(wd_text(e, "event_type")))
            fail_msg("%s is read as %d", wd_text(e, "event_type"), h.kind);
        assert_int_equal(h.created_us, e->created_us);
        if (!h.order_uuid[0])
            continue;
        uuid_hex(h.order_uuid, hex);
        approved += h.kind == HOOK_ORDER_APPROVED && str_eq(hex, order);
        assert_true(h.order_type == WALDUR_TYPE_CREATE || h.order_type == WALDUR_TYPE_TERMINATE);
    }
    for (const struct wd_record *e = s->first[WD_EVENT]; e; e = e->next)
        gone += strstr(wd_text(e, "event_type"), "_unlinked") != NULL;
    assert_true(n > 12);
    assert_int_equal(approved, 2); /* once more with the retry */
    assert_int_equal(gone, unlinked);
    product_end(&p);
}

/* What the bus says of one order in a state. */
static void check_order(struct product_sim *p, struct wd_record *o, int state)
{
    static const enum waldur_order_state states[] = {WALDUR_ORDER_PENDING_CONSUMER,
                                                     WALDUR_ORDER_PENDING_PROVIDER,
                                                     WALDUR_ORDER_PENDING_PROJECT,
                                                     WALDUR_ORDER_PENDING_START_DATE,
                                                     WALDUR_ORDER_EXECUTING,
                                                     WALDUR_ORDER_DONE,
                                                     WALDUR_ORDER_ERRED,
                                                     WALDUR_ORDER_CANCELED,
                                                     WALDUR_ORDER_REJECTED};
    char hex[WD_HEX];
    o->state = state;
    for (enum wd_form form = WD_STOMP; form <= WD_STOMP_LEGACY; form++) {
        struct hook h = read_body(wd_order_message(p->store, o, form));
        assert_int_equal(h.order_state, states[state]);
        uuid_hex(h.order_uuid, hex);
        assert_string_equal(hex, o->id);
        bool whole = form == WD_STOMP;
        assert_int_equal(h.order_type, whole ? WALDUR_TYPE_CREATE : WALDUR_TYPE_UNKNOWN);
        assert_int_equal(*h.resource_uuid != '\0', whole);
        if (state == WD_EXECUTING)
            assert_int_equal(h.kind, HOOK_ORDER_APPROVED);
        else
            assert_int_equal(h.kind, state < WD_EXECUTING ? HOOK_ORDER_MOVED : HOOK_ORDER_CLOSED);
    }
}

static void test_bus(void **state)
{
    struct product_sim p;
    char order[WD_HEX], resource[WD_HEX];
    (void)state;
    product_begin(&p, "waldur", "26");
    live(&p, order, resource);
    struct wd_record *o = wd_find(p.store, WD_ORDER, order);
    for (int at = 0; at < WD_ORDER_STATES; at++)
        check_order(&p, o, at);
    struct hook h = read_body(wd_resource_message(o->resource));
    assert_int_equal(h.kind, HOOK_RESOURCE_CHANGED);
    struct wd_record key = {.kind = WD_KEY, .resource = o->resource, .own = cJSON_CreateObject()};
    assert_true(wd_hex("7f3c1c1e-5b1d-4c1e-9c55-0f6f0a2b8a11", key.id));
    h = read_body(wd_rotation_message(&key));
    assert_int_equal(h.kind, HOOK_KEY_ROTATION);
    assert_string_equal(h.api_key_uuid, "7f3c1c1e-5b1d-4c1e-9c55-0f6f0a2b8a11");
    cJSON_Delete(key.own);
    product_end(&p);
}

static void test_2026(void **state)
{
    check(state, "26", 1);
}

static void test_2024(void **state)
{
    check(state, "24", 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_2026),
        cmocka_unit_test(test_2024),
        cmocka_unit_test(test_bus),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
