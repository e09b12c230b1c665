/*
 * The promise (design, section 1), literally: what is at the products against what is recorded, and
 * both against what was ordered.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/str.h"
#include "check.h"
#include "naming/naming.h"
#include "sim.h"
#include "upstream.h"

/* ---- while it runs ---- */

enum { JOBS_KNOWN_MAX = 1024 };

/* Who acted for a job last. */
static struct {
    int64_t fence;
    uint64_t serial;
} actors[JOBS_KNOWN_MAX];

void check_begin(void)
{
    memset(actors, 0, sizeof(actors));
}

static void check_actor(const struct proc *p, const struct db_effect *e)
{
    if (e->job < 0 || e->job >= JOBS_KNOWN_MAX) {
        return;
    }
    if (actors[e->job].fence > e->fence) {
        sim_breach("%s acts for job %" PRId64 " under fence %" PRId64 ", and somebody did under "
                   "fence %" PRId64 " already",
                   p->who, e->job, e->fence, actors[e->job].fence);
    } else if (actors[e->job].fence == e->fence && actors[e->job].serial != p->serial) {
        sim_breach("%s acts for job %" PRId64 " under the fence %" PRId64 " of another", p->who,
                   e->job, e->fence);
    }
    actors[e->job].fence = e->fence;
    actors[e->job].serial = p->serial;
}

/* jobs_claim, step_name and step_revoke let no more run than they were told; nothing else lets any
 * run. */
void check_bounds(void)
{
    int64_t organization = db_running_most(world.db, false), lane = db_running_most(world.db, true);
    if (organization > world.dialects.organization_max || lane > world.dialects.runtime_max) {
        sim_breach("%" PRId64 " jobs of one organization run, %" PRId64 " in one lane",
                   organization, lane);
    }
}

/*
 * What was intended before the pause may leave: the intent was committed under a lease that its
 * worker believed in before it asked for it, so the lease bounds how long that may take. Nothing is
 * intended while it is paused.
 */
static void check_pause(const struct proc *p, const struct db_effect *e)
{
    int64_t since_us = db_paused_since_us(world.db, e->subscription);
    int64_t patience_us = (int64_t)UPSTREAM_PATIENCE_MS * MS;
    if (since_us == 0) {
        return;
    }
    if (e->intended_at_us > since_us) {
        sim_breach("%s intends for %s, %.3f s after it was paused", p->who, e->subscription,
                   (double)(e->intended_at_us - since_us) / SECOND);
    }
    int64_t took_us = database_now_us(NULL) - since_us;
    if (took_us > setup_config(&world.dialects, 0)->worker_lease_ms * MS + patience_us) {
        sim_breach("%s sends for %s, %.3f s after it was paused", p->who, e->subscription,
                   (double)took_us / SECOND);
    }
}

void check_request(struct proc *p, const struct exchange_request *r, const char *request_id)
{
    const char *what = exchange_method_name(r->method);
    if (r->method == METHOD_GET || strstr(r->url, "/login")) {
        return;
    }
    const struct db_effect *e = db_effect_of(world.db, request_id);
    if (!e) {
        sim_breach("%s sends %s %s (%s) without a committed intent", p->who, what, r->url,
                   request_id);
        return;
    }
    const struct db_job *j = db_live_job(world.db, e->subscription);
    if (!str_eq(e->state, "intended")) {
        sim_breach("%s sends %s, whose effect is %s", p->who, request_id, e->state);
    } else if (!j || j->id != e->job || j->fence != e->fence || j->state != JOB_RUNNING ||
               !str_eq(j->owner, proc_owner(p))) {
        sim_breach("%s sends %s %s for job %" PRId64 " under fence %" PRId64
                   ", which it does not hold",
                   p->who, what, r->url, e->job, e->fence);
    } else if (db_lease_until_us(world.db, j->owner) < database_now_us(NULL)) {
        sim_breach("%s sends %s %s after its lease", p->who, what, r->url);
    }
    if (!strstr(r->url, e->target)) {
        sim_breach("%s sends %s to %s, its intent says %s", p->who, request_id, r->url, e->target);
    }
    check_actor(p, e);
    check_pause(p, e);
}

/* ---- when all is quiet ---- */

struct look {
    cJSON *workspaces, *collections, *tenants;
    struct found of[SUBSCRIPTIONS_MAX];
};

void bad(const struct found *f, const char *fmt, ...)
{
    char text[WORDS_MAX / 2];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    const char *state = !f->s->active ? "terminated" : f->s->suspended ? "suspended" : "active";
    sim_breach("%s %s: %s", state, f->s->uuid, text);
}

static struct found *owner_of(struct look *l, const cJSON *entry, bool workspace)
{
    char marker[MARKER_MAX];
    const char *id = json_str(entry, "object.id"), *mark = json_str(entry, "marker");
    for (size_t i = 0; i < world.n_subscriptions; i++) {
        struct found *f = &l->of[i];
        const char *name = json_str(entry, "object.name");
        naming_marker(f->s->uuid, marker);
        const char *recorded = !f->config  ? NULL
                               : workspace ? f->config->workspace_id
                                           : f->config->collection_id;
        /* RAGFlow's Go server keeps no description of what it makes: the marker is its name. */
        if ((mark && str_eq(mark, marker)) || (recorded && str_eq(recorded, id)) ||
            (name && str_starts(name, marker))) {
            return f;
        }
    }
    return NULL;
}

static void sort_out(struct look *l, const cJSON *objects, bool workspace)
{
    const cJSON *one;
    cJSON_ArrayForEach(one, objects)
    {
        if (json_bool(one, "planted", false)) {
            continue;
        }
        struct found *f = owner_of(l, one, workspace);
        if (!f) {
            sim_breach("%s %s (%s) is nobody's", workspace ? "workspace" : "collection",
                       json_str(one, "object.id"), json_str(one, "marker"));
        } else if (workspace) {
            f->workspaces++;
            f->workspace = one;
        } else {
            bool recorded = f->config && f->config->collection_id &&
                            str_eq(json_str(one, "object.id"), f->config->collection_id);
            f->collections++;
            f->collection = recorded || !f->collection ? one : f->collection;
        }
    }
}

static int live_keys(const char *uuid, size_t *at)
{
    const struct db_key *k;
    int n = 0;
    for (size_t i = 0; (k = db_key_at(world.db, i)); i++) {
        if (str_eq(k->subscription, uuid) && !k->revoked) {
            n++;
            *at = i;
        }
    }
    return n;
}

/* A tenant may have some more. */
static bool has_flow(const cJSON *flows, const char *id)
{
    const cJSON *one;
    int ours = 0, there = 0;
    cJSON_ArrayForEach(one, flows)
    {
        ours += !str_eq(json_str(one, "description"), THEIRS);
        there += str_eq(json_str(one, "id"), id);
    }
    return ours == 1 && there == 1;
}

static void check_account(const struct found *f)
{
    char flow[UUID_TEXT];
    const cJSON *flows = json_get(f->workspace, "flows"), *keys = json_get(f->workspace, "keys");
    naming_flow_uuid(f->s->uuid, flow);
    if (!json_bool(f->workspace, "object.is_active", false)) {
        bad(f, "the user is not active");
    }
    if (json_bool(f->workspace, "object.is_superuser", true)) {
        bad(f, "the user is a superuser");
    }
    if (!has_flow(flows, flow)) {
        bad(f, "it has %d flows, or another than %s", cJSON_GetArraySize(flows), flow);
    }
    if (!f->config->flow_id || !str_eq(f->config->flow_id, flow)) {
        bad(f, "flow %s is recorded, %s exists", f->config->flow_id, flow);
    }
    if (f->s->surplus ? cJSON_GetArraySize(keys) < 1 : cJSON_GetArraySize(keys) != 1) {
        bad(f, "the user has %d API keys", cJSON_GetArraySize(keys));
    }
    if (cJSON_GetArraySize(json_get(f->workspace, "projects")) != 1) {
        bad(f, "the user has %d projects", cJSON_GetArraySize(json_get(f->workspace, "projects")));
    }
}

static void check_active(const struct found *f, const cJSON *tenants)
{
    const struct db_config *c = f->config;
    size_t key = 0;
    if (!c) {
        bad(f, "nothing is recorded");
        return;
    }
    if (!str_eq(c->status, "ready")) {
        bad(f, "its status is %s", c->status);
    }
    bool more = f->s->surplus && f->s->rag && f->collections > 1;
    if (f->workspaces != 1 || (f->collections != (f->s->rag ? 1 : 0) && !more)) {
        bad(f, "%d workspaces, %d collections", f->workspaces, f->collections);
        return;
    }
    if (!c->workspace_id || !str_eq(c->workspace_id, json_str(f->workspace, "object.id"))) {
        bad(f, "workspace %s is recorded, %s exists", c->workspace_id,
            json_str(f->workspace, "object.id"));
    }
    if (f->s->rag
            ? !c->collection_id || !str_eq(c->collection_id, json_str(f->collection, "object.id"))
            : c->collection_id != NULL) {
        bad(f, "collection %s is recorded, %s exists", c->collection_id,
            f->collection ? json_str(f->collection, "object.id") : "none");
    }
    int keys = live_keys(f->s->uuid, &key);
    if (keys != 1 || !c->api_key || !str_eq(c->api_key, db_key_at(world.db, key)->prefix)) {
        bad(f, "%d live keys, %s is recorded", keys, c->api_key);
        return;
    }
    const char *name = json_str(f->workspace, "object.name");
    name = name ? name : json_str(f->workspace, "object.username");
    if (!str_eq(f->s->name, c->name) ||
        (!f->s->renamed[PRODUCT_LANGFLOW] && !str_eq(name, c->name)) ||
        (f->collection && !f->s->renamed[PRODUCT_RAGFLOW] &&
         !str_eq(json_str(f->collection, "object.name"), c->name))) {
        bad(f, "its name is %s, recorded %s, ordered %s", name, c->name, f->s->name);
    }
    if (c->residue && !f->s->restored) {
        bad(f, "residue: %s", c->residue);
    }
    if (!world.dialects.facade) {
        check_account(f);
    }
    check_inside(f, key, tenants);
}

static void check_closed(const struct found *f)
{
    const cJSON *v;
    if (json_bool(f->workspace, "object.is_active", true)) {
        bad(f, "the kept user is active");
    }
    if (cJSON_GetArraySize(json_get(f->workspace, "keys")) > 0 && !f->s->surplus) {
        bad(f, "the kept user has API keys");
    }
    cJSON_ArrayForEach(v, json_get(f->workspace, "variables"))
    {
        if (str_starts(json_str(v, "name"), "ragflow_")) {
            bad(f, "the kept user has the variable %s", json_str(v, "name"));
        }
    }
}

/* RAGFlow is left alone while it rests: what was under way there is looked into when it goes on. */
static bool rests_open(const struct subscription *s)
{
    const struct db_effect *e;
    for (size_t i = 0; s->active && s->suspended && (e = db_effect_at(world.db, i)); i++) {
        if (str_eq(e->subscription, s->uuid) && str_eq(e->product, "ragflow") &&
            (str_eq(e->state, "intended") || str_eq(e->state, "unknown"))) {
            return true;
        }
    }
    return false;
}

static void check_shut(const struct found *f)
{
    const char *told = found_variable(f, "ragflow_collection_id");
    if (!world.dialects.facade) {
        check_closed(f);
    } else if (!str_eq(found_variable(f, "waldur_status"), "closed") || (told && told[0])) {
        bad(f, "the workspace is not closed");
    }
}

/* Nothing is in use, nothing is lost. */
static void check_suspended(const struct found *f)
{
    const struct db_config *c = f->config;
    size_t key = 0;
    int keys = live_keys(f->s->uuid, &key);
    const char *prefix = keys > 0 ? db_key_at(world.db, key)->prefix : "";
    if (!c) {
        if (f->workspaces > 0 || f->collections > 0 || keys > 0) {
            bad(f, "%d workspaces, %d collections, %d keys, and no record", f->workspaces,
                f->collections, keys);
        }
        return;
    }
    if (!str_eq(c->status, "suspended")) {
        bad(f, "its status is %s", c->status);
    }
    bool more = f->s->surplus || rests_open(f->s);
    if (f->workspaces > 1 || (f->collections > 1 && !more)) {
        bad(f, "%d workspaces, %d collections", f->workspaces, f->collections);
    }
    if (keys > 1 || !str_eq(c->api_key ? c->api_key : "", prefix)) {
        bad(f, "%d live keys, %s is recorded", keys, c->api_key);
    }
    if (f->s->whole && (keys != 1 || f->workspaces != 1 || f->collections < f->s->had_rag ||
                        (f->collections > f->s->had_rag && !f->s->surplus))) {
        bad(f, "of what it had are left %d workspaces, %d collections, %d keys", f->workspaces,
            f->collections, keys);
    }
    const char *id = f->workspace ? json_str(f->workspace, "object.id") : NULL;
    if (c->workspace_id ? !id || !str_eq(c->workspace_id, id) : id != NULL) {
        bad(f, "workspace %s is recorded, %s exists", c->workspace_id, id ? id : "none");
    }
    /* An order that drops retrieval may have been cut off between its deletion and the record of
     * it, told what is gone already by a refusal: no effect is open then. */
    bool cut_off = rests_open(f->s) || !f->s->whole;
    if (c->collection_id ? f->collections == 0 && !cut_off : f->collections > 0 && !more) {
        bad(f, "collection %s is recorded, %d exist", c->collection_id, f->collections);
    }
    if (f->workspace) {
        check_shut(f);
    }
}

static void check_gone(const struct found *f)
{
    const struct db_config *c = f->config;
    size_t key;
    bool kept = world.dialects.keep && !f->s->purged;
    if (f->collections > 0) {
        bad(f, "%d collections are left", f->collections);
    }
    if (f->workspaces > (kept ? 1 : 0)) {
        bad(f, "%d workspaces are left", f->workspaces);
    }
    if (live_keys(f->s->uuid, &key) > 0) {
        bad(f, "a live key is left");
    }
    for (int p = 0; p < PRODUCT_MAX; p++) {
        if (db_runtime_key(world.db, f->s->uuid, (enum product)p).data) {
            bad(f, "a sealed key of its account at %s is left", product_name((enum product)p));
        }
    }
    if (!c) {
        if (f->workspaces > 0) {
            bad(f, "a workspace is there that is not recorded");
        }
        return;
    }
    if (!str_eq(c->status, "purged") && !(kept && str_eq(c->status, "archived"))) {
        bad(f, "its status is %s", c->status);
    }
    const char *id = f->workspace ? json_str(f->workspace, "object.id") : NULL;
    if (c->workspace_id ? !id || !str_eq(c->workspace_id, id) : id != NULL) {
        bad(f, "workspace %s is recorded, %s exists", c->workspace_id, id ? id : "none");
    }
    if (c->collection_id || c->api_key) {
        bad(f, "collection %s or key %s is still recorded", c->collection_id, c->api_key);
    }
    if (f->workspace && !world.dialects.facade) {
        check_closed(f);
    }
}

/*
 * Whatever its servers lost, and however late they were: names that are unique there keep a second
 * one from being made. RAGFlow's are not.
 */
static void check_shaken(const struct found *f)
{
    if (f->workspaces > 1 || (f->collections > 1 && world.dialects.facade)) {
        bad(f, "%d workspaces, %d collections", f->workspaces, f->collections);
    }
}

/* ---- what belongs to no one subscription ---- */

/* From where two texts part, and a little before. */
static size_t parting(const char *a, const char *b)
{
    size_t n = 0;
    while (a[n] && a[n] == b[n]) {
        n++;
    }
    return n > 60 ? n - 60 : 0;
}

static void check_foreign(const struct upstream_world *u, const cJSON *objects, const char *what)
{
    for (size_t i = 0; i < u->n_foreign; i++) {
        const cJSON *one, *found = NULL;
        cJSON_ArrayForEach(one, objects)
        {
            if (str_eq(json_str(one, "object.id"), u->foreign_id[i])) {
                found = one;
            }
        }
        char *now = found ? json_text(found) : NULL;
        if (!now) {
            sim_breach("%s's foreign object %s is gone", what, u->foreign_id[i]);
        } else if (!str_eq(now, u->foreign_text[i])) {
            size_t from = parting(u->foreign_text[i], now);
            sim_breach("%s's foreign object %s was changed: ...%.300s -> ...%.300s", what,
                       u->foreign_id[i], u->foreign_text[i] + from, now + from);
        }
        free(now);
    }
}

static void check_own_tenant(const struct subscription *s, const struct found *f,
                             const cJSON *tenant)
{
    const char *email = json_str(tenant, "email"), *id = json_str(tenant, "id");
    int keys = cJSON_GetArraySize(json_get(tenant, "keys"));
    if (s->shaken || rests_open(s)) {
        return;
    }
    if (!f->config || !f->config->tenant_id || !str_eq(f->config->tenant_id, id)) {
        bad(f, "tenant %s (%s) is not recorded", id, email);
    }
    if ((keys < 1 && !s->suspended) || (keys > 1 && !s->surplus)) {
        bad(f, "tenant %s has %d keys", email, keys);
    }
}

static void check_tenant(const struct look *l, const cJSON *tenant)
{
    const char *email = json_str(tenant, "email");
    for (size_t i = 0; i < world.n_subscriptions; i++) {
        const struct subscription *s = &world.subscriptions[i];
        char hex[33];
        uuid_hex(s->uuid, hex);
        if (str_starts(email + strlen("sub-"), hex)) {
            check_own_tenant(s, &l->of[i], tenant);
            return;
        }
    }
    sim_breach("tenant %s (%s) is nobody's", json_str(tenant, "id"), email);
}

/* Accounts of subscriptions begin with "sub-", those of organizations with "org-". */
static void check_tenants(const struct look *l)
{
    const cJSON *one;
    int organizations = 0;
    cJSON_ArrayForEach(one, json_get(l->tenants, "tenants"))
    {
        const char *email = json_str(one, "email");
        organizations += str_starts(email, "org-");
        if (str_starts(email, "sub-")) {
            check_tenant(l, one);
        }
    }
    /* One at each runtime where they have something. */
    int most = ORGANIZATIONS_MAX + world.dialects.dedicated;
    if (organizations > most) {
        sim_breach("%d tenants of organizations, which have %d", organizations, most);
    }
}

static void check_records(void)
{
    const struct db_job *j;
    const struct db_effect *e;
    for (size_t i = 0; (j = db_job_at(world.db, i)); i++) {
        if (machine_live(j->state)) {
            sim_breach("job %" PRId64 " of %s is still %s", j->id, j->subscription,
                       job_state_name(j->state));
        }
        const struct db_subscription *s = db_subscription(world.db, j->subscription);
        bool may = false;
        for (size_t k = 0; k < world.n_subscriptions; k++) {
            const struct subscription *of = &world.subscriptions[k];
            may = may || ((of->doomed || of->shaken) && str_eq(of->uuid, j->subscription));
        }
        if (j->state == JOB_FAILED && s && s->generation == j->generation && !may) {
            sim_breach("job %" PRId64 " of %s (%s) failed at %s, and needed no human: %s: %s",
                       j->id, j->subscription, job_kind_name(j->kind), job_step_name(j->step),
                       j->error_class, j->error);
        }
    }
    for (size_t i = 0; (e = db_effect_at(world.db, i)); i++) {
        bool open = str_eq(e->state, "intended") || str_eq(e->state, "unknown");
        const struct subscription *s = NULL;
        for (size_t k = 0; k < world.n_subscriptions; k++) {
            s = str_eq(world.subscriptions[k].uuid, e->subscription) ? &world.subscriptions[k] : s;
        }
        if (open && s && !s->doomed && !s->shaken && !rests_open(s)) {
            sim_breach("effect %" PRId64 " of %s is %s: %s", e->id, e->subscription, e->state,
                       e->operation);
        }
    }
    if (db_outbox(world.db) > 0) {
        sim_breach("%zu outcomes wait to be published", db_outbox(world.db));
    }
}

void check_promise(void)
{
    struct look l = {0};
    const size_t n = world.n_subscriptions;
    struct product_sim *langflow = &world.upstream[PRODUCT_LANGFLOW].product,
                       *ragflow = &world.upstream[PRODUCT_RAGFLOW].product;
    if (world.breach[0]) {
        return;
    }
    l.workspaces = product_objects(langflow);
    l.collections = product_objects(ragflow);
    l.tenants = world.dialects.facade ? NULL : product_admin(ragflow, "GET", "/tenants", NULL);
    for (size_t i = 0; i < n; i++) {
        l.of[i].s = &world.subscriptions[i];
        l.of[i].config = db_config(world.db, l.of[i].s->uuid);
    }
    sort_out(&l, l.workspaces, true);
    sort_out(&l, l.collections, false);
    for (size_t i = 0; i < n; i++) {
        const struct subscription *s = &world.subscriptions[i];
        const struct found *f = &l.of[i];
        if (s->shaken) {
            check_shaken(f);
        } else if (s->doomed && s->active) {
            if (f->workspaces > 1 || (f->collections > 1 && !s->surplus)) {
                bad(f, "%d workspaces, %d collections", f->workspaces, f->collections);
            }
        } else if (s->active && s->suspended) {
            check_suspended(f);
        } else if (s->active) {
            check_active(f, json_get(l.tenants, "tenants"));
        } else {
            check_gone(f);
        }
    }
    check_foreign(&world.upstream[PRODUCT_LANGFLOW], l.workspaces, "langflow");
    check_foreign(&world.upstream[PRODUCT_RAGFLOW], l.collections, "ragflow");
    if (l.tenants) {
        check_tenants(&l);
    }
    check_records();
    kafka_check();
    cJSON_Delete(l.workspaces);
    cJSON_Delete(l.collections);
    cJSON_Delete(l.tenants);
}
