/*
 * RAGFlow's driver against any server. Letters: 'o' tenancy organization, 's' subscription, else
 * shared; 'a' absent, 'i' inspection; 'e' a dataset is recorded, 't' its tenant, 'k' the tenant's
 * key; 'd' the dataset's delete is under way; 'u' an earlier outcome is open; 'n' one that is an
 * update; 'b' only look; 'm' a tenant whose models all use, 'v' a provider.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "script.h"
#include "unit/ragflow_mad.h"

static const char dataset[] = "0000000000001111936a02fc00000001";
static const char tenant[] = "aaaaaaaaaaaa11f1936a02fc00000001";

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    script_abort_on_failure();
    return 0;
}

static void aim(struct sim *w, const struct script *s)
{
    sim_target(w, script_has(s, 'o')   ? TENANCY_ORGANIZATION
                  : script_has(s, 's') ? TENANCY_SUBSCRIPTION
                                       : TENANCY_SHARED);
    sim_new_site(w);
    w->s.models_key = script_has(s, 'm') ? SIM_MODELS_KEY : NULL;
    if (script_has(s, 'v')) {
        w->s.provider = "OpenAI";
        w->s.provider_instance = "platform";
        w->s.provider_key = "sk-planted-provider";
    }
    w->t.external_id = script_has(s, 'e') ? dataset : NULL;
    w->t.tenant_id = script_has(s, 't') ? tenant : NULL;
    w->t.secret = script_has(s, 'k') ? "ragflow-recorded" : NULL;
    w->t.deleting = script_has(s, 'd') ? dataset : NULL;
    w->t.uncertain = script_has(s, 'u');
    w->t.updating = script_has(s, 'n');
    w->t.observe = script_has(s, 'b');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct ragflow_mad m; /* large */
    struct script s = script_of(data, size);
    const struct mad_answers answers = {&s, script_give};
    memset(&m, 0, sizeof(m));
    aim(&m.sim, &s);
    if (script_has(&s, 'i')) {
        ragflow_mad_inspect(&m, &answers);
    } else {
        ragflow_mad_run(&m, script_has(&s, 'a') ? DRIVER_ABSENT : DRIVER_PRESENT, &answers);
    }
    driver_site_unref(m.sim.site);
    script_done(&s);
    return 0;
}
