/*
 * show: everything that is known of one subscription, in order of time.
 */
#include <string.h>

#include "base/str.h"
#include "base/uuid.h"
#include "commands.h"
#include "session.h"

/* Values of variables whose names speak of secrets are masked: an event may carry anything. */
#define MASKED_VARIABLES                                                                           \
    "(SELECT coalesce(jsonb_object_agg(k, CASE WHEN k ~* "                                         \
    "'(key|token|secret|passw|credential)' THEN '\"********\"'::jsonb ELSE v END), '{}') "         \
    "FROM jsonb_each(c.variables) AS e(k, v))"

enum { SECTION_LIMIT = 10000 };
#define NEWEST " DESC LIMIT 10000) x ORDER BY "
_Static_assert(SECTION_LIMIT == 10000, "as NEWEST says");

struct section {
    const char *key, *title;
    bool single; /* one row at most: shown as lines, an object or null in JSON */
    const char *sql;
    const struct table_column *columns;
    size_t n_columns;
};

static const struct table_column subscription_columns[] = {
    {"uuid", "uuid", CELL_TEXT, false, 0},
    {"wanted", "wanted", CELL_TEXT, false, 0},
    {"generation", "generation", CELL_NUMBER, false, 0},
    {"wanted_at", "since", CELL_TIME, false, 0},
    {"order_uuid", "order", CELL_TEXT, false, 0},
    {"organization_uuid", "organization uuid", CELL_TEXT, false, 0},
    {"organization_slug", "organization", CELL_TEXT, false, 0},
    {"traceparent", "traceparent", CELL_TEXT, false, 0},
    {"created_at", "created", CELL_TIME, false, 0},
    {"updated_at", "updated", CELL_TIME, false, 0},
};

static const struct table_column config_columns[] = {
    {"name", "name", CELL_TEXT, false, 0},
    {"status", "status", CELL_TEXT, false, 0},
    {"status_reason", "status reason", CELL_TEXT, false, 0},
    {"runtime", "runtime mode", CELL_TEXT, false, 0},
    {"runtime_name", "runtime", CELL_TEXT, false, 0},
    {"runtime_workspace_id", "workspace id", CELL_TEXT, false, 0},
    {"runtime_flow_id", "flow id", CELL_TEXT, false, 0},
    {"runtime_run_url", "run url", CELL_TEXT, false, 0},
    {"knowledge_base_id", "collection id", CELL_TEXT, false, 0},
    {"knowledge_base_tenant", "collection's tenant", CELL_TEXT, false, 0},
    {"residue", "residue", CELL_TEXT, false, 0},
    {"api_key", "api key prefix", CELL_TEXT, false, 0},
    {"organization_uuid", NULL, CELL_TEXT, false, 0},
    {"organization_slug", "organization", CELL_TEXT, false, 0},
    {"project_uuid", NULL, CELL_TEXT, false, 0},
    {"project_slug", "project", CELL_TEXT, false, 0},
    {"offering_uuid", NULL, CELL_TEXT, false, 0},
    {"offering_type", "offering", CELL_TEXT, false, 0},
    {"plan_tier", "plan", CELL_TEXT, false, 0},
    {"capabilities", "capabilities", CELL_JSON, false, 0},
    {"variables", "variables", CELL_JSON, false, 0},
    {"updating", "updating", CELL_BOOL, false, 0},
    {"variables_due", "variables due", CELL_JSON, false, 0},
    {"ready_at", "ready", CELL_TIME, false, 0},
    {"archived_at", "archived", CELL_TIME, false, 0},
    {"created_at", "created", CELL_TIME, false, 0},
    {"updated_at", "updated", CELL_TIME, false, 0},
};

static const struct table_column pause_columns[] = {
    {"scope", "SCOPE", CELL_TEXT, false, 0},      {"label", "PAUSED", CELL_TEXT, true, 0},
    {"reason", "REASON", CELL_TEXT, true, 2},     {"actor", "BY", CELL_TEXT, false, 1},
    {"created_at", "SINCE", CELL_TIME, false, 0},
};

static const struct table_column event_columns[] = {
    {"received_at", "RECEIVED", CELL_TIME, false, 0},
    {"seq", "SEQ", CELL_NUMBER, false, 4},
    {"type", "TYPE", CELL_TEXT, false, 0},
    {"verdict", "VERDICT", CELL_TEXT, false, 0},
    {"event_time", NULL, CELL_TIME, false, 0},
    {"order_uuid", NULL, CELL_TEXT, false, 0},
    {"source", "SOURCE", CELL_TEXT, true, 2},
    {"event_id", "ID", CELL_TEXT, true, 0},
    {"kafka_topic", NULL, CELL_TEXT, false, 0},
    {"kafka_partition", "PARTITION", CELL_NUMBER, false, 3},
    {"kafka_offset", "OFFSET", CELL_NUMBER, false, 3},
    {"traceparent", NULL, CELL_TEXT, false, 0},
};

static const struct table_column job_columns[] = {
    {"created_at", "CREATED", CELL_TIME, false, 0},
    {"id", "JOB", CELL_NUMBER, false, 0},
    {"kind", "KIND", CELL_TEXT, false, 0},
    {"generation", "GENERATION", CELL_NUMBER, false, 5},
    {"state", "STATE", CELL_TEXT, false, 0},
    {"step", "STEP", CELL_TEXT, false, 0},
    {"attempts", "TRIES", CELL_NUMBER, false, 3},
    {"order_uuid", NULL, CELL_TEXT, false, 0},
    {"runtime_name", "RUNTIME", CELL_TEXT, false, 4},
    {"next_attempt_at", NULL, CELL_TIME, false, 0},
    {"deadline_at", NULL, CELL_TIME, false, 0},
    {"fence", NULL, CELL_NUMBER, false, 0},
    {"lease_owner", NULL, CELL_TEXT, false, 0},
    {"traceparent", NULL, CELL_TEXT, false, 0},
    {"updated_at", NULL, CELL_TIME, false, 0},
    {"finished_at", "FINISHED", CELL_TIME, false, 2},
    {"error_class", "CLASS", CELL_TEXT, false, 1},
    {"error", "ERROR", CELL_TEXT, true, 0},
};

static const struct table_column effect_columns[] = {
    {"intended_at", "INTENDED", CELL_TIME, false, 0},
    {"id", NULL, CELL_NUMBER, false, 0},
    {"job_id", "JOB", CELL_NUMBER, false, 0},
    {"step", "STEP", CELL_TEXT, false, 2},
    {"operation", "OPERATION", CELL_TEXT, false, 0},
    {"state", "STATE", CELL_TEXT, false, 0},
    {"http_status", "HTTP", CELL_NUMBER, false, 3},
    {"external_id", "ID UPSTREAM", CELL_TEXT, false, 0},
    {"fence", NULL, CELL_NUMBER, false, 0},
    {"runtime_name", "RUNTIME", CELL_TEXT, false, 4},
    {"product", NULL, CELL_TEXT, false, 0},
    {"method", NULL, CELL_TEXT, false, 0},
    {"target", NULL, CELL_TEXT, false, 0},
    {"name", NULL, CELL_TEXT, false, 0},
    {"marker", NULL, CELL_TEXT, false, 0},
    {"body_sha256", NULL, CELL_TEXT, false, 0},
    {"request_id", "REQUEST", CELL_TEXT, true, 5},
    {"settled_at", NULL, CELL_TIME, false, 0},
    {"error_class", "CLASS", CELL_TEXT, false, 1},
    {"error", "ERROR", CELL_TEXT, true, 0},
};

static const struct table_column order_columns[] = {
    {"created_at", "CREATED", CELL_TIME, false, 0},
    {"order_uuid", "ORDER", CELL_TEXT, false, 0},
    {"order_type", "TYPE", CELL_TEXT, false, 0},
    {"phase", "PHASE", CELL_TEXT, false, 0},
    {"order_state", "AT WALDUR", CELL_TEXT, false, 1},
    {"source", NULL, CELL_TEXT, false, 0},
    {"reason", "REASON", CELL_TEXT, false, 0},
    {"detail", "DETAIL", CELL_TEXT, true, 1},
    {"backend_id", "BACKEND ID", CELL_TEXT, false, 3},
    {"announced_at", NULL, CELL_TIME, false, 0},
    {"taken_at", NULL, CELL_TIME, false, 0},
    {"inbox", NULL, CELL_TEXT, false, 0},
    {"verdict", "JOB", CELL_TEXT, false, 2},
    {"told", "TOLD", CELL_TEXT, false, 0},
    {"told_at", NULL, CELL_TIME, false, 0},
    {"unlinked_at", "UNLINKED", CELL_TIME, false, 4},
    {"hints", NULL, CELL_NUMBER, false, 0},
    {"attempts", NULL, CELL_NUMBER, false, 0},
    {"due_at", NULL, CELL_TIME, false, 0},
    {"error_class", "CLASS", CELL_TEXT, false, 2},
    {"error", "ERROR", CELL_TEXT, true, 1},
};

static const struct table_column told_columns[] = {
    {"intended_at", "INTENDED", CELL_TIME, false, 0}, {"subject", NULL, CELL_TEXT, false, 0},
    {"operation", "OPERATION", CELL_TEXT, false, 0},  {"state", "STATE", CELL_TEXT, false, 0},
    {"http_status", "HTTP", CELL_NUMBER, false, 2},   {"method", NULL, CELL_TEXT, false, 0},
    {"target", "TARGET", CELL_TEXT, true, 3},         {"body_sha256", NULL, CELL_TEXT, false, 0},
    {"request_id", "REQUEST", CELL_TEXT, false, 4},   {"settled_at", NULL, CELL_TIME, false, 0},
    {"error_class", "CLASS", CELL_TEXT, false, 1},    {"error", "ERROR", CELL_TEXT, true, 0},
};

static const struct table_column key_columns[] = {
    {"created_at", "CREATED", CELL_TIME, false, 0},
    {"prefix", "PREFIX", CELL_TEXT, false, 0},
    {"permissions", "PERMISSIONS", CELL_JSON, true, 0},
    {"allowed_domains", "DOMAINS", CELL_JSON, true, 0},
    {"rate_limit", "RATE", CELL_TEXT, false, 0},
    {"expires_at", "EXPIRES", CELL_TIME, false, 1},
    {"revoked_at", "REVOKED", CELL_TIME, false, 0},
    {"last_used_at", "LAST USED", CELL_TIME, false, 2},
};

static const struct table_column history_columns[] = {
    {"at", "AT", CELL_TIME, false, 0},        {"job_id", "JOB", CELL_NUMBER, false, 0},
    {"actor", "BY", CELL_TEXT, false, 1},     {"action", "WHAT", CELL_TEXT, false, 0},
    {"detail", "DETAIL", CELL_JSON, true, 0},
};

#define COLUMNS(x) x, ARRAY_LEN(x)

static const struct section sections[] = {
    {"subscription", "Subscription", true,
     "SELECT uuid, wanted, generation, wanted_at, order_uuid, organization_uuid, "
     "organization_slug, "
     "traceparent, created_at, updated_at FROM agent_marketplace.subscription WHERE uuid = "
     "$1::uuid",
     COLUMNS(subscription_columns)},
    {"agent_config", "AgentConfig", true,
     "SELECT name, status, status_reason, runtime, runtime_name, runtime_workspace_id, "
     "runtime_flow_id, runtime_run_url, "
     "knowledge_base_id, knowledge_base_tenant, residue, api_key, organization_uuid, "
     "organization_slug, project_uuid, "
     "project_slug, "
     "offering_uuid, offering_type, plan_tier, array_to_json(capabilities), " MASKED_VARIABLES ", "
     "updating, array_to_json(variables_due), "
     "ready_at, archived_at, created_at, updated_at FROM agent_marketplace.agent_config c "
     "WHERE subscription_uuid = $1::uuid",
     COLUMNS(config_columns)},
    {"pauses", "Paused", false,
     "SELECT p.scope, p.label, p.reason, p.actor, p.created_at FROM "
     "agent_marketplace.scheduling_pause p, agent_marketplace.subscription s LEFT JOIN "
     "agent_marketplace.agent_config c ON c.subscription_uuid = s.uuid WHERE s.uuid = $1::uuid AND "
     "((p.scope = 'all') OR (p.scope = 'runtime' AND p.target = coalesce(c.runtime_name, "
     "s.runtime_name)) OR (p.scope = 'organization' AND p.target = s.organization_uuid::text) OR "
     "(p.scope = 'subscription' AND p.target = s.uuid::text)) ORDER BY p.created_at",
     COLUMNS(pause_columns)},
    {"events", "Events", false,
     "SELECT * FROM (SELECT received_at, seq, type, verdict, event_time, order_uuid, source, "
     "event_id, "
     "kafka_topic, kafka_partition, kafka_offset, traceparent "
     "FROM agent_marketplace.subscription_event WHERE subscription_uuid = $1::uuid "
     "ORDER BY seq" NEWEST "seq",
     COLUMNS(event_columns)},
    {"jobs", "Jobs", false,
     "SELECT * FROM (SELECT created_at, id, kind, generation, state, step, attempts, order_uuid, "
     "runtime_name, next_attempt_at, deadline_at, fence, lease_owner, traceparent, updated_at, "
     "finished_at, error_class, error FROM agent_marketplace.provisioning_job "
     "WHERE subscription_uuid = $1::uuid ORDER BY id" NEWEST "id",
     COLUMNS(job_columns)},
    {"effects", "Changes upstream", false,
     "SELECT * FROM (SELECT intended_at, id, job_id, step, operation, state, http_status, "
     "external_id, "
     "fence, runtime_name, product, method, target, name, marker, body_sha256, request_id, "
     "settled_at, "
     "error_class, error FROM agent_marketplace.provisioning_effect "
     "WHERE subscription_uuid = $1::uuid ORDER BY id" NEWEST "id",
     COLUMNS(effect_columns)},
    {"orders", "Orders at Waldur", false,
     "SELECT * FROM (SELECT created_at, order_uuid, order_type, phase, order_state, source, "
     "reason, detail, backend_id, announced_at, taken_at, inbox, verdict, told, told_at, "
     "unlinked_at, hints, attempts, due_at, error_class, error FROM agent_marketplace.waldur_order "
     "WHERE resource_uuid = $1::uuid ORDER BY created_at" NEWEST "created_at",
     COLUMNS(order_columns)},
    {"waldur_effects", "Changes at Waldur", false,
     "SELECT intended_at, subject, operation, state, http_status, method, target, body_sha256, "
     "request_id, settled_at, error_class, error FROM (SELECT * FROM "
     "agent_marketplace.waldur_effect WHERE resource_uuid = $1::uuid ORDER BY id" NEWEST "id",
     COLUMNS(told_columns)},
    {"api_keys", "API keys", false,
     "SELECT * FROM (SELECT created_at, prefix, array_to_json(permissions), "
     "array_to_json(allowed_domains), rate_limit, expires_at, revoked_at, last_used_at "
     "FROM agent_marketplace.agent_api_key WHERE subscription_uuid = $1::uuid "
     "ORDER BY created_at" NEWEST "created_at",
     COLUMNS(key_columns)},
    {"history", "History", false,
     "SELECT at, job_id, actor, action, detail FROM (SELECT id, at, job_id, actor, action, detail "
     "FROM agent_marketplace.audit_log WHERE subscription_uuid = $1::uuid "
     "ORDER BY id" NEWEST "id",
     COLUMNS(history_columns)},
};

static void add_json(const struct section *x, const struct table *t, bool first, struct buf *out)
{
    buf_adds(out, first ? "{" : ",\n ");
    buf_add_json(out, x->key);
    buf_adds(out, ": ");
    if (!x->single)
        table_json(t, out);
    else if (t->n_rows > 0)
        table_json_row(t, 0, out);
    else
        buf_adds(out, "null");
}

static void add_text(const struct section *x, const struct table *t, bool first, struct buf *out)
{
    struct table_view view = session_view(true);
    if (t->n_rows == 0)
        return;
    buf_addf(out, "%s%s\n", first ? "" : "\n", x->title);
    if (x->single)
        table_fields(t, 0, &view, out);
    else
        table_text(t, &view, out);
}

static int show(struct session *s, const char *uuid)
{
    struct buf out;
    const char *const params[] = {uuid};
    const bool json = cli_has(s->cli, OPT_JSON);
    buf_init(&out, SESSION_OUTPUT_MAX);
    for (size_t i = 0; i < ARRAY_LEN(sections); i++) {
        const struct section *x = &sections[i];
        PGresult *res = session_query(s, x->sql, 1, params);
        if (!res) {
            buf_done(&out);
            return CLI_FAILED;
        }
        struct table t = session_table(res, x->columns, x->n_columns);
        if (json)
            add_json(x, &t, i == 0, &out);
        else
            add_text(x, &t, i == 0, &out);
        PQclear(res);
    }
    if (json)
        buf_adds(&out, "}\n");
    return cli_print(&out);
}

/* One snapshot: the sections must not contradict each other. */
int cmd_show(int argc, char **argv, const struct cli *cli)
{
    struct session s;
    char uuid[UUID_TEXT];
    (void)argc;
    int rc = session_open(&s, cli);
    if (rc == CLI_OK) {
        PGresult *res =
            session_query(&s, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", 0, NULL);
        rc = res && session_subscription(&s, argv[0], uuid) > 0 ? show(&s, uuid) : CLI_FAILED;
        PQclear(res);
    }
    session_close(&s);
    return rc;
}
