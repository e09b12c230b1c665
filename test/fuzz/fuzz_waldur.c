/*
 * Operations on Waldur against any server. Letters: 'i' takes an order in, 'd' reports it done, 'e'
 * erred, 'k' answers for a key, 'n' with none; else it lists: 'o' orders, 's' resources, 'y' keys,
 * else events. 't' it terminates; 'x' the shell leaves the order; 'r' and 'l' as in script.h.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "script.h"
#include "unit/waldur_mad.h"

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    script_abort_on_failure();
    return 0;
}

static void give(void *ctx, const struct waldur_action *a, struct exchange_response *out)
{
    (void)a;
    script_give(ctx, NULL, out);
}

static enum mad_kind kind_of(const struct script *s)
{
    static const char letters[] = {[MAD_INTAKE] = 'i',
                                   [MAD_DONE] = 'd',
                                   [MAD_ERRED] = 'e',
                                   [MAD_KEY] = 'k',
                                   [MAD_NO_KEY] = 'n'};
    for (size_t i = 0; i < sizeof(letters); i++) {
        if (script_has(s, letters[i])) {
            return (enum mad_kind)i;
        }
    }
    return MAD_LIST;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct waldur_mad m;
    struct script s = script_of(data, size);
    m = (struct waldur_mad){.kind = kind_of(&s),
                            .list = script_has(&s, 'o')   ? WALDUR_LIST_ORDERS
                                    : script_has(&s, 's') ? WALDUR_LIST_RESOURCES
                                    : script_has(&s, 'y') ? WALDUR_LIST_KEYS
                                                          : WALDUR_LIST_EVENTS,
                            .terminates = script_has(&s, 't'),
                            .leaves = script_has(&s, 'x'),
                            .ctx = &s,
                            .give = give};
    waldur_mad_run(&m);
    script_done(&s);
    return 0;
}
