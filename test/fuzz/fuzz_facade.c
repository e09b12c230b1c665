/*
 * The facade's driver against any server. Letters: 'k' collections; 'a' absent, 'c' closed; 'e' an
 * id is recorded; 'u' an earlier outcome is open; 'b' only look.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "script.h"
#include "unit/facade_mad.h"

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    script_abort_on_failure();
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct script s = script_of(data, size);
    const struct mad_answers answers = {&s, script_give};
    struct facade_mad m = {.collections = script_has(&s, 'k')};
    m.target = facade_target(&m.variables);
    m.target.credential = "planted-credential";
    m.target.external_id = script_has(&s, 'e') ? "id-1" : NULL;
    m.target.uncertain = script_has(&s, 'u');
    m.target.observe = script_has(&s, 'b');
    facade_mad_run(&m, script_goal(&s), &answers);
    cJSON_Delete(m.variables);
    script_done(&s);
    return 0;
}
