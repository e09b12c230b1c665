/*
 * Comparing: results cell by cell, and all tables.
 */
#include <cjson/cJSON.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "test_db.h"

/* ---- results ---- */

static const char *cell(const PGresult *res, int row, int column)
{
    return PQgetisnull(res, row, column) ? NULL : PQgetvalue(res, row, column);
}

static bool same_json(const char *a, const char *b)
{
    if (a[0] != '{' && a[0] != '[') {
        return false;
    }
    cJSON *x = cJSON_Parse(a), *y = cJSON_Parse(b);
    bool same = x && y && cJSON_Compare(x, y, true);
    cJSON_Delete(x);
    cJSON_Delete(y);
    return same;
}

static bool same_cell(const char *a, const char *b)
{
    return str_eq(a, b) || (a && b && same_json(a, b));
}

static const char *shown(const char *s)
{
    return s ? s : "NULL";
}

static bool same_row(const PGresult *real, int i, const PGresult *sim, int k, bool say)
{
    for (int c = 0; c < PQnfields(real); c++) {
        if (!same_cell(cell(real, i, c), cell(sim, k, c))) {
            if (say) {
                fprintf(stderr, "row %d, %s: PostgreSQL %s, simulated %s\n", i, PQfname(real, c),
                        shown(cell(real, i, c)), shown(cell(sim, k, c)));
            }
            return false;
        }
    }
    return true;
}

static int find_row(const PGresult *real, int i, const PGresult *sim)
{
    int k = 0;
    while (k < PQntuples(sim) && !same_row(real, i, sim, k, false)) {
        k++;
    }
    return k;
}

static bool same_shape(const PGresult *real, const PGresult *sim)
{
    bool same = PQnfields(real) == PQnfields(sim) && PQntuples(real) == PQntuples(sim);
    for (int c = 0; c < PQnfields(real) && same; c++) {
        same = str_eq(PQfname(real, c), PQfname(sim, c));
    }
    if (!same) {
        fprintf(stderr, "PostgreSQL: %d rows of %d columns; simulated: %d of %d, or other names\n",
                PQntuples(real), PQnfields(real), PQntuples(sim), PQnfields(sim));
    }
    return same;
}

bool results_equal(const PGresult *real, const PGresult *sim, bool any_order)
{
    bool same = same_shape(real, sim);
    for (int i = 0; i < PQntuples(real) && i < PQntuples(sim); i++) {
        int k = any_order ? find_row(real, i, sim) : i;
        if (k == PQntuples(sim)) {
            fprintf(stderr, "row %d (%s) is not simulated\n", i, shown(cell(real, i, 0)));
            return false;
        }
        if (!same_row(real, i, sim, k, true)) {
            return false;
        }
    }
    return same;
}

/* ---- the simulated tables as results ---- */

/* Fills a row of the result, column after column. */
struct row {
    PGresult *res;
    int row, column;
};

static void put(struct row *r, const char *text)
{
    db_put(r->res, r->row, r->column++, text);
}

static void put_number(struct row *r, int64_t n)
{
    db_put_i64(r->res, r->row, r->column++, n);
}

static void put_or_null(struct row *r, int64_t n, int64_t null)
{
    if (n == null) {
        put(r, NULL);
    } else {
        put_number(r, n);
    }
}

static void put_uuid(struct row *r, const char *uuid)
{
    put(r, uuid && uuid[0] ? uuid : NULL);
}

static void put_bytes(struct row *r, const struct db_bytes *b)
{
    if (!b->data) {
        put(r, NULL);
        return;
    }
    char *hex = malloc(b->len * 2 + 3);
    if (!hex) {
        abort();
    }
    hex[0] = '\\';
    hex[1] = 'x';
    str_hex(hex + 2, b->data, b->len);
    put(r, hex);
    free(hex);
}

static void event(struct row *r, const void *row)
{
    const struct event_row *e = row;
    put_number(r, e->seq);
    put(r, e->source);
    put(r, e->id);
    put(r, e->type);
    put(r, e->subscription);
    put(r, e->organization);
    put(r, e->order);
    put_number(r, e->at_us);
    put_number(r, e->received_us);
    put(r, e->topic);
    put_or_null(r, e->partition, -1);
    put_or_null(r, e->offset, -1);
    put(r, e->traceparent);
    put(r, db_event_verdicts[e->verdict]);
    put(r, e->data);
}

static void subscription(struct row *r, const void *row)
{
    const struct subscription_row *s = row;
    put(r, s->pub.uuid);
    put(r, db_wanted_names[s->pub.wanted]);
    put_number(r, s->pub.generation);
    put_number(r, s->pub.wanted_at_us);
    put_number(r, s->event_seq);
    put(r, s->pub.order);
    put(r, s->organization);
    put(r, s->slug);
    put(r, s->pub.spec);
    put(r, s->traceparent);
    put_number(r, s->created_us);
    put_number(r, s->updated_us);
    put(r, s->runtime_name);
    put(r, s->wish.alive == ALIVE_NULL ? NULL : s->wish.alive == ALIVE_TRUE ? "t" : "f");
    put_or_null(r, s->wish.alive_at_us, 0);
    put_or_null(r, s->wish.spec_at_us, 0);
    put(r, s->wish.suspended ? "t" : "f");
    put_or_null(r, s->wish.suspended_at_us, 0);
}

static void config(struct row *r, const void *row)
{
    const struct config_row *c = row;
    put(r, c->pub.subscription);
    put(r, c->organization);
    put(r, c->organization_slug);
    put(r, c->project);
    put(r, c->project_slug);
    put(r, c->offering);
    put(r, c->offering_type);
    put(r, c->plan_tier);
    put(r, c->capabilities);
    put(r, c->variables);
    put(r, c->runtime);
    put(r, c->pub.runtime_name);
    put(r, c->pub.name);
    put(r, c->pub.workspace_id);
    put(r, c->pub.collection_id);
    put(r, c->pub.api_key);
    put(r, c->pub.status);
    put(r, c->status_reason);
    put_or_null(r, c->ready_us, 0);
    put_or_null(r, c->pub.archived_at_us, 0);
    put_number(r, c->created_us);
    put_number(r, c->updated_us);
    put(r, c->pub.flow_id);
    put(r, c->run_url);
    put(r, c->pub.tenant_id);
    put(r, c->pub.residue);
    put(r, c->pub.rag ? "t" : "f");
    put(r, c->updating ? "t" : "f");
    put(r, c->variables_due ? c->variables_due : "[]");
    for (int p = 0; p < PRODUCT_MAX; p++) {
        put_bytes(r, &c->keys[p].sealed);
        put_or_null(r, c->keys[p].updated_us, 0);
    }
}

static void job(struct row *r, const void *row)
{
    const struct job_row *j = row;
    put_number(r, j->pub.id);
    put(r, j->pub.subscription);
    put(r, j->organization->uuid);
    put(r, j->slug);
    put(r, j->order);
    put(r, j->runtime_name);
    put(r, job_kind_name(j->pub.kind));
    put_number(r, j->pub.generation);
    put(r, job_state_name(j->pub.state));
    put(r, job_step_name(j->pub.step));
    put_number(r, j->pub.attempts);
    put_number(r, j->pub.next_attempt_at_us);
    put_number(r, j->deadline_us);
    put_number(r, j->pub.fence);
    put_uuid(r, j->pub.owner);
    put(r, j->pub.error_class);
    put(r, j->pub.error);
    put(r, j->traceparent);
    put_number(r, j->created_us);
    put_number(r, j->updated_us);
    put_or_null(r, j->finished_us, 0);
    put(r, j->lane->name);
    put(r, j->tier);
    put(r, j->paused ? "t" : "f");
    put(r, j->cancel_actor);
    put(r, j->cancel_error);
}

static void effect(struct row *r, const void *row)
{
    const struct effect_row *e = row;
    put_number(r, e->pub.id);
    put(r, e->pub.subscription);
    put_number(r, e->pub.job);
    put_number(r, e->pub.fence);
    put(r, job_step_name(e->step));
    put(r, e->runtime_name);
    put(r, e->pub.product);
    put(r, e->pub.operation);
    put(r, e->pub.method);
    put(r, e->pub.target);
    put(r, e->name);
    put(r, e->marker);
    put(r, e->sha256);
    put(r, e->pub.request_id);
    put(r, e->pub.state);
    put(r, e->pub.external_id);
    put_or_null(r, e->http_status, -1);
    put(r, e->error_class);
    put(r, e->error);
    put_number(r, e->pub.intended_at_us);
    put_or_null(r, e->settled_us, 0);
    put(r, e->pub.object);
}

static void key(struct row *r, const void *row)
{
    const struct key_row *k = row;
    put_number(r, k->id);
    put(r, k->pub.subscription);
    put(r, k->organization);
    put(r, k->pub.prefix);
    put_bytes(r, &k->hash);
    put_bytes(r, &k->sealed);
    put(r, k->permissions);
    put(r, k->domains);
    put(r, k->rate_limit);
    put_number(r, k->created_us);
    put_or_null(r, k->expires_us, 0);
    put_or_null(r, k->revoked_us, 0);
    put(r, k->pub.revoked ? "t" : "f");
}

static void worker(struct row *r, const void *row)
{
    const struct worker_row *w = row;
    put(r, w->owner);
    put(r, w->host);
    put_number(r, w->pid);
    put(r, w->version);
    put_number(r, w->started_us);
    put_number(r, w->lease_us);
}

static void outbox(struct row *r, const void *row)
{
    const struct outbox_row *o = row;
    put_number(r, o->id);
    put(r, o->subscription->pub.uuid);
    put(r, o->type);
    put(r, o->payload);
    put_number(r, o->created_us);
    put_uuid(r, o->owner);
    put_or_null(r, o->claimed_until_us, 0);
}

static void letter(struct row *r, const void *row)
{
    const struct letter_row *l = row;
    put_number(r, l->id);
    put(r, l->topic);
    put_number(r, l->partition);
    put_number(r, l->offset);
    put_or_null(r, l->at_us, 0);
    put_bytes(r, &l->key);
    put_bytes(r, &l->value);
    put_number(r, l->value_bytes);
    put(r, l->headers);
    put(r, l->pointer);
    put(r, l->reason);
    put_number(r, l->replays);
    put_number(r, l->received_us);
    put_or_null(r, l->published_us, 0);
}

static void audited(struct row *r, const void *row)
{
    const struct audit_row *a = row;
    put(r, a->subscription);
    put(r, a->organization);
    put_or_null(r, a->job, 0);
    put(r, a->actor);
    put(r, a->action);
}

static void paused(struct row *r, const void *row)
{
    const struct pause_row *p = row;
    put(r, p->scope);
    put(r, p->target);
    put_number(r, p->created_us);
}

static bool deleted_pause(const void *row)
{
    return ((const struct pause_row *)row)->gone;
}

static bool deleted_worker(const void *row)
{
    return ((const struct worker_row *)row)->gone;
}

static bool deleted_outbox(const void *row)
{
    return ((const struct outbox_row *)row)->gone;
}

/* ---- both ---- */

static const struct {
    const char *name, *sql;
    size_t table; /* of struct db */
    void (*fill)(struct row *r, const void *row);
    bool (*deleted)(const void *row);
    bool by_uuid; /* with which the row begins; else in the order of insertion */
} tables[] = {
    {.name = "subscription_event",
     .sql = "select seq, source, event_id, type, subscription_uuid, organization_uuid, order_uuid,"
            " sim_clock.us(event_time), sim_clock.us(received_at), kafka_topic, kafka_partition,"
            " kafka_offset, traceparent, verdict, data from subscription_event order by seq",
     .table = offsetof(struct db, events),
     .fill = event},
    {.name = "subscription",
     .sql = "select uuid, wanted, generation, sim_clock.us(wanted_at), event_seq, order_uuid,"
            " organization_uuid, organization_slug, spec, traceparent, sim_clock.us(created_at),"
            " sim_clock.us(updated_at), runtime_name, alive, sim_clock.us(alive_at),"
            " sim_clock.us(spec_at), suspended, sim_clock.us(suspended_at)"
            " from subscription order by uuid",
     .table = offsetof(struct db, subscriptions),
     .fill = subscription,
     .by_uuid = true},
    {.name = "agent_config, agent_runtime_key",
     .sql = "select subscription_uuid, organization_uuid, organization_slug, project_uuid,"
            " project_slug, offering_uuid, offering_type, plan_tier, array_to_json(capabilities),"
            " variables, runtime, runtime_name, name, runtime_workspace_id, knowledge_base_id,"
            " api_key, status, status_reason, sim_clock.us(ready_at), sim_clock.us(archived_at),"
            " sim_clock.us(created_at), sim_clock.us(c.updated_at), runtime_flow_id,"
            " runtime_run_url, knowledge_base_tenant, residue, 'rag' = any (capabilities),"
            " updating, array_to_json(variables_due),"
            " l.sealed, sim_clock.us(l.updated_at), r.sealed, sim_clock.us(r.updated_at)"
            " from agent_config c"
            " left join (select * from agent_runtime_key where product = 'langflow') l"
            " using (subscription_uuid)"
            " left join (select * from agent_runtime_key where product = 'ragflow') r"
            " using (subscription_uuid) order by subscription_uuid",
     .table = offsetof(struct db, configs),
     .fill = config,
     .by_uuid = true},
    {.name = "provisioning_job",
     .sql = "select id, subscription_uuid, organization_uuid, organization_slug, order_uuid,"
            " runtime_name, kind, generation, state, step, attempts,"
            " sim_clock.us(next_attempt_at), sim_clock.us(deadline_at), fence, lease_owner,"
            " error_class, error, traceparent, sim_clock.us(created_at),"
            " sim_clock.us(updated_at), sim_clock.us(finished_at), lane, plan_tier, paused,"
            " cancel_actor, cancel_error"
            " from provisioning_job"
            " order by id",
     .table = offsetof(struct db, jobs),
     .fill = job},
    {.name = "provisioning_effect",
     .sql = "select id, subscription_uuid, job_id, fence, step, runtime_name, product, operation,"
            " method, target, name, marker, body_sha256, request_id, state, external_id,"
            " http_status, error_class, error, sim_clock.us(intended_at),"
            " sim_clock.us(settled_at), object from provisioning_effect order by id",
     .table = offsetof(struct db, effects),
     .fill = effect},
    {.name = "agent_api_key",
     .sql = "select id, subscription_uuid, organization_uuid, prefix, key_hash, sealed_key,"
            " array_to_json(permissions), array_to_json(allowed_domains), rate_limit,"
            " sim_clock.us(created_at), sim_clock.us(expires_at), sim_clock.us(revoked_at),"
            " revoked_at is not null from agent_api_key order by id",
     .table = offsetof(struct db, keys),
     .fill = key},
    {.name = "worker",
     .sql = "select owner, host, pid, version, sim_clock.us(started_at),"
            " sim_clock.us(lease_until) from worker order by owner",
     .table = offsetof(struct db, workers),
     .fill = worker,
     .deleted = deleted_worker,
     .by_uuid = true},
    {.name = "outbox",
     .sql = "select id, subscription_uuid, type, payload, sim_clock.us(created_at), claimed_by,"
            " sim_clock.us(claimed_until) from outbox order by id",
     .table = offsetof(struct db, outbox),
     .fill = outbox,
     .deleted = deleted_outbox},
    {.name = "dead_letter",
     .sql = "select id, kafka_topic, kafka_partition, kafka_offset, sim_clock.us(message_time),"
            " key, value, value_bytes, headers, pointer, reason, replays,"
            " sim_clock.us(received_at), sim_clock.us(published_at) from dead_letter order by id",
     .table = offsetof(struct db, letters),
     .fill = letter},
    {.name = "audit_log",
     .sql = "select subscription_uuid, organization_uuid, job_id, actor, action from audit_log"
            " order by id",
     .table = offsetof(struct db, audit),
     .fill = audited},
    {.name = "scheduling_pause",
     .sql = "select scope, target, sim_clock.us(created_at) from scheduling_pause"
            " order by created_at",
     .table = offsetof(struct db, pauses),
     .fill = paused,
     .deleted = deleted_pause},
};

static int by_uuid(const void *a, const void *b)
{
    const char *const *x = a, *const *y = b;
    return strcmp(*x, *y);
}

/* The columns' names are PostgreSQL's: only what stands below them is compared. */
static PGresult *simulated(const struct db *db, size_t i, const PGresult *real)
{
    const struct table *t = (const void *)((const char *)db + tables[i].table);
    struct row r = {.res = PQcopyResult(real, PG_COPYRES_ATTRS)};
    void **rows = calloc(t->n + 1, sizeof(*rows));
    if (!rows || !r.res) {
        abort();
    }
    for (size_t k = 0; k < t->n; k++) {
        rows[k] = t->rows[k];
    }
    if (tables[i].by_uuid) {
        qsort(rows, t->n, sizeof(*rows), by_uuid);
    }
    for (size_t k = 0; k < t->n; k++) {
        if (!tables[i].deleted || !tables[i].deleted(rows[k])) {
            r.column = 0;
            tables[i].fill(&r, rows[k]);
            r.row++;
        }
    }
    free(rows);
    return r.res;
}

bool tables_equal(struct real *r, const struct db *db)
{
    bool same = true;
    for (size_t i = 0; i < ARRAY_LEN(tables) && same; i++) {
        PGresult *real = real_query(r, tables[i].sql);
        PGresult *sim = simulated(db, i, real);
        same = PQresultStatus(real) == PGRES_TUPLES_OK && results_equal(real, sim, false);
        if (!same) {
            fprintf(stderr, "table %s: %s\n", tables[i].name, PQresultErrorMessage(real));
        }
        PQclear(real);
        PQclear(sim);
    }
    return same;
}

static const struct db_job *live_job_of(const struct db *db, const char *uuid)
{
    const struct db_job *live = NULL, *j;
    for (size_t i = 0; (j = db_job_at(db, i)); i++) {
        live = str_eq(j->subscription, uuid) && machine_live(j->state) ? j : live;
    }
    return live;
}

static const struct db_config *config_of(const struct db *db, const char *uuid)
{
    const struct db_config *c;
    size_t i = 0;
    while ((c = db_config_at(db, i)) && !str_eq(c->subscription, uuid)) {
        i++;
    }
    return c;
}

static const char *live_key_of(const struct db *db, const char *uuid)
{
    const struct db_key *k;
    size_t i = 0;
    while ((k = db_key_at(db, i)) && !(str_eq(k->subscription, uuid) && !k->revoked)) {
        i++;
    }
    return k ? k->prefix : NULL;
}

bool looks_right(const struct db *db)
{
    bool right = true;
    size_t waiting = 0;
    const struct db_subscription *s;
    const struct db_effect *e;
    for (size_t i = 0; (s = db_subscription_at(db, i)); i++) {
        const struct key_row *key = db_find_subscription(db, s->uuid)->live_key;
        right = right && db_subscription(db, s->uuid) == s &&
                db_live_job(db, s->uuid) == live_job_of(db, s->uuid) &&
                db_config(db, s->uuid) == config_of(db, s->uuid) &&
                str_eq(key ? key->pub.prefix : NULL, live_key_of(db, s->uuid));
    }
    for (size_t i = 0; (e = db_effect_at(db, i)); i++) {
        right = right && db_effect_of(db, e->request_id) == e;
    }
    for (size_t i = 0; i < db->outbox.n; i++) {
        waiting += !deleted_outbox(db->outbox.rows[i]);
    }
    right = right && waiting == db_outbox(db) && !db_effect_of(db, "none") &&
            !db_subscription(db, "none");
    if (!right) {
        fputs("a look shows something else than its row\n", stderr);
    }
    return right;
}
