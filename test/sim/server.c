/*
 * What becomes of objects behind the worker's back: a server that was restored from a backup has
 * lost them, one that accepted a change does not keep it, and people with accounts there rename
 * what is ours, or add to it.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/str.h"
#include "setup.h"
#include "sim.h"
#include "standin/langflow.h"
#include "standin/ragflow.h"

static struct lf_store *langflow(void)
{
    struct lf_store *s = world.upstream[PRODUCT_LANGFLOW].product.store;
    lf_settle(s);
    return s;
}

static struct ragflow *ragflow(void)
{
    return world.upstream[PRODUCT_RAGFLOW].product.store;
}

/* ---- forgetting ---- */

static bool langflow_forgets(const char *id)
{
    static const enum lf_kind kinds[] = {LF_USER, LF_FLOW, LF_VARIABLE, LF_KEY};
    struct lf_store *s = langflow();
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        struct lf_record *r = lf_find(s, kinds[i], id);
        if (r) {
            lf_remove(s, r, 0);
            return true;
        }
    }
    return false;
}

static bool ragflow_forgets(const char *id)
{
    struct dataset *d = dataset_find(ragflow(), id);
    if (d) {
        dataset_remove(ragflow(), d);
    }
    return d != NULL;
}

static void forget(enum product p, const char *id, const char *subscription)
{
    bool was = world.dialects.facade   ? product_remove(p, id)
               : p == PRODUCT_LANGFLOW ? langflow_forgets(id)
                                       : ragflow_forgets(id);
    if (was) {
        sim_say(product_name(p), "has lost %s", id);
        subscription_shaken(subscription, false);
    }
}

/* ---- what was accepted and is not kept ---- */

struct loss {
    enum product product;
    char id[64], subscription[UUID_TEXT];
};

static void on_loss(void *ctx, uint64_t arg, bool run)
{
    struct loss *l = ctx;
    (void)arg;
    if (run && world.storm) {
        forget(l->product, l->id, l->subscription);
    }
    free(l);
}

void server_loses(enum product p, const char *answer, const char *subscription)
{
    cJSON *json = cJSON_Parse(answer);
    const char *id = json_str(json, "id") ? json_str(json, "id") : json_str(json, "data.id");
    if (id) {
        struct loss *l = sim_alloc(sizeof(*l));
        l->product = p;
        str_copy(l->id, sizeof(l->id), id);
        str_copy(l->subscription, sizeof(l->subscription), subscription);
        sim_after(sim_between(0, 3 * SECOND), on_loss, l, 0);
    }
    cJSON_Delete(json);
}

/* ---- a backup ---- */

/* Its newest of a kind; NULL: there is none. */
static const struct lf_record *newest(const struct lf_record *user, enum lf_kind kind)
{
    return user ? user->last[kind] : NULL;
}

/* A flow of the tenant's own gets the name that ours had. */
static void take_name(struct lf_record *user, const struct lf_record *flow)
{
    cJSON *wanted = cJSON_CreateObject();
    cJSON_AddStringToObject(wanted, "name", json_str(flow->json, "name"));
    cJSON_AddStringToObject(wanted, "description", THEIRS);
    (void)lf_flow_new(langflow(), user, NULL, wanted);
    cJSON_Delete(wanted);
    sim_say("tenant", "makes a flow \"%s\"", json_str(flow->json, "name"));
}

/* The account, or what is in it. */
static void langflow_restored(const struct subscription *s, const char *user_id)
{
    static const enum lf_kind kinds[] = {LF_FLOW, LF_VARIABLE, LF_KEY};
    struct lf_record *user = lf_find(langflow(), LF_USER, user_id);
    const struct lf_record *part = newest(user, kinds[sim_below(ARRAY_LEN(kinds))]);
    char name_of_flow[UUID_TEXT];
    if (!user || !part || sim_chance(0.4)) {
        forget(PRODUCT_LANGFLOW, user_id, s->uuid);
        return;
    }
    if (part->kind == LF_FLOW && str_eq(json_str(part->json, "description"), THEIRS)) {
        return;
    }
    str_copy(name_of_flow, sizeof(name_of_flow), part->id);
    if (part->kind == LF_FLOW && sim_chance(0.5)) {
        cJSON *name = cJSON_Duplicate(part->json, true);
        struct lf_record flow = {.json = name};
        forget(PRODUCT_LANGFLOW, name_of_flow, s->uuid);
        take_name(user, &flow);
        cJSON_Delete(name);
        return;
    }
    forget(PRODUCT_LANGFLOW, name_of_flow, s->uuid);
}

static struct subscription *any_recorded(const struct db_config **c)
{
    struct subscription *s = &world.subscriptions[sim_below(world.n_subscriptions)];
    *c = db_config(world.db, s->uuid);
    return *c ? s : NULL;
}

void server_restored(void)
{
    const struct db_config *c;
    const struct subscription *s = any_recorded(&c);
    enum product p = (enum product)sim_below(PRODUCT_MAX);
    const char *id = !s ? NULL : p == PRODUCT_LANGFLOW ? c->workspace_id : c->collection_id;
    if (!id) {
        return;
    }
    if (p == PRODUCT_LANGFLOW && !world.dialects.facade) {
        langflow_restored(s, id);
    } else {
        forget(p, id, s->uuid);
    }
}

/* ---- renaming ---- */

/* While it is being made, a name that is not as it was asked for is the server's fault. What was
 * ready makes a collection when an order adds retrieval. */
static bool is_young(const struct db_config *c)
{
    const struct db_job *j;
    bool young = str_eq(c->status, "provisioning") || str_eq(c->status, "failed");
    for (size_t i = 0; !young && (j = db_job_at(world.db, i)); i++) {
        young = str_eq(j->subscription, c->subscription) && machine_live(j->state) &&
                j->step == STEP_COLLECTION;
    }
    return young;
}

void server_renames(void)
{
    const struct db_config *c;
    struct subscription *s = any_recorded(&c);
    enum product p = (enum product)sim_below(PRODUCT_MAX);
    const char *id = !s ? NULL : p == PRODUCT_LANGFLOW ? c->workspace_id : c->collection_id;
    const char *credential = PRODUCT_TOKEN;
    char name[300];
    /* A create that lands later than it may is stopped by the name alone, as long as it is taken.
     */
    bool guards = s && p == PRODUCT_LANGFLOW && s->surplus;
    if (!id || guards || is_young(c) || world.dialects.facade) {
        return;
    }
    if (p == PRODUCT_RAGFLOW) {
        const struct dataset *d = dataset_find(ragflow(), id);
        /* Until it has its description, the name of what the Go server made is all that it bears.
         */
        const char *mark = d ? json_str(d->json, "description") : NULL;
        bool whole = mark && str_starts(mark, "waldur-subscription:");
        credential = whole ? json_str(cJSON_GetArrayItem(d->owner->keys, 0), "token") : NULL;
    }
    snprintf(name, sizeof(name), "%.100s renamed %" PRIu64, s->name, sim_below(1000));
    if (credential && product_rename(p, id, credential, name)) {
        s->renamed[p] = true;
        sim_say(product_name(p), "%s is renamed \"%s\"", id, name);
    }
}
