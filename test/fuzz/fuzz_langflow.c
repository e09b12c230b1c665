/*
 * Langflow's driver against any server. Letters: 'a' absent, 'c' closed, 'i' inspection; 'e' a user
 * is recorded, 'k' its key too; 'd' its delete is under way; 'u' an earlier outcome is open; 'n'
 * one that is an update; 'b' only look; 't' the template is a file; 'y' a collection's key; 'v' an
 * order has changed variables; 'p' no
 * proof.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "script.h"
#include "unit/langflow_mad.h"

static const char recorded[] = "11111111-1111-4111-8111-111111111111";
static const char file[] = "{\"name\":\"Agent\",\"data\":{\"nodes\":[],\"edges\":[]}}";

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    script_abort_on_failure();
    return 0;
}

static void aim(struct world *w, const struct script *s)
{
    static cJSON *changed; /* of every run */
    world_now_ms = 1000;
    world_aim(w);
    w->target.external_id = script_has(s, 'e') ? recorded : NULL;
    w->target.secret = script_has(s, 'k') ? "sk-planted-1234567890" : NULL;
    w->target.deleting = script_has(s, 'd') ? recorded : NULL;
    w->target.uncertain = script_has(s, 'u');
    w->target.updating = script_has(s, 'n');
    w->target.observe = script_has(s, 'b');
    w->target.proof = script_has(s, 'p') ? NULL : WORLD_PROOF;
    w->target.collection_key = script_has(s, 'y') ? WORLD_COLLECTION : NULL;
    w->target.password = "Pass-word-of-a-run";
    w->target.template = script_has(s, 't') ? file : NULL;
    w->target.template_len = w->target.template ? strlen(file) : 0;
    if (!changed) {
        changed = cJSON_Parse("[\"tone\",\"dropped\"]");
    }
    w->target.changed = script_has(s, 'v') ? changed : NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct langflow_mad m; /* large */
    struct script s = script_of(data, size);
    const struct mad_answers answers = {&s, script_give};
    memset(&m, 0, sizeof(m));
    aim(&m.world, &s);
    if (script_has(&s, 'i')) {
        langflow_mad_inspect(&m, &answers);
    } else {
        langflow_mad_run(&m, script_goal(&s), &answers);
    }
    driver_site_unref(m.world.site);
    cJSON_Delete(m.world.variables);
    script_done(&s);
    return 0;
}
