#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "product_sim.h"

/* ---- the product inside the test ---- */

static struct exchange_response ask(struct product *p, const char *path)
{
    struct exchange_request r;
    exchange_request_init(&r);
    snprintf(r.url, sizeof(r.url), "%s%s", PRODUCT_URL, path);
    r.auth_header = "x-api-key";
    r.credential = PRODUCT_TOKEN;
    struct exchange_response out = product_ask(p, &r);
    exchange_request_done(&r);
    return out;
}

static void the_stand_in_answers(void **state)
{
    (void)state;
    static const char *const profiles[] = {"1.8", "1.10", "1.13"};
    for (size_t i = 0; i < 3; i++) {
        struct product p;
        product_begin(&p, "langflow", profiles[i]);
        struct exchange_response r = ask(&p, "/api/v1/users/whoami");
        assert_int_equal(r.status, 200);
        assert_non_null(strstr(r.body, "langflow-admin"));
        r = ask(&p, "/api/v1/flows/?header_flows=true");
        assert_string_equal(r.body, "[]");
        product_end(&p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_stand_in_answers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
