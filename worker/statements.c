#include "statements.h"

const struct pg_statement statements[STATEMENT_MAX] = {
    [S_INBOX_TAKE] =
        {"inbox_take",
         "SELECT agent_marketplace.inbox_take($1, $2, $3, $4::uuid, $5::uuid, $6::uuid, "
         "$7::timestamptz, $8::jsonb, $9, $10, $11::int, $12::bigint, $13::bigint, $14)",
         14},
    [S_DEAD_LETTER_ADD] =
        {"dead_letter_add",
         "SELECT id, published FROM agent_marketplace.dead_letter_add($1, $2::int, "
         "$3::bigint, $4::timestamptz, $5::bytea, $6::bytea, $7::bigint, $8::jsonb, "
         "$9, $10, $11::int)",
         11},
    [S_DEAD_LETTER_PUBLISHED] = {"dead_letter_published",
                                 "SELECT agent_marketplace.dead_letter_published($1::bigint)", 1},
    [S_WORKER_REGISTER] = {"worker_register",
                           "SELECT agent_marketplace.worker_register($1::uuid, $2, $3::int, $4, "
                           "$5::bigint)",
                           5},
    [S_WORKER_RENEW] = {"worker_renew",
                        "SELECT agent_marketplace.worker_renew($1::uuid, $2::bigint)", 2},
    [S_WORKER_LEAVE] = {"worker_leave", "SELECT agent_marketplace.worker_leave($1::uuid)", 1},
    [S_JOBS_CLAIM] = {"jobs_claim",
                      "SELECT j.*, r.* FROM agent_marketplace.jobs_claim($1::uuid, $2::int, "
                      "$3::uuid, $4::int, $5::bigint[], $6::boolean, $7::jsonb) j CROSS JOIN "
                      "LATERAL agent_marketplace.runtime_recorded(j.subscription_uuid) r",
                      7},
    [S_JOBS_BACK] = {"jobs_back",
                     "SELECT agent_marketplace.jobs_back($1::uuid, $2::bigint[], $3::bigint[])", 3},
    [S_STEP_PASS] = {"step_pass",
                     "SELECT agent_marketplace.step_pass($1::bigint, $2::uuid, $3::bigint, "
                     "$4::bigint, $5::agent_marketplace.job_step)",
                     5},
    [S_STEP_NAME] = {"step_name",
                     "SELECT agent_marketplace.step_name($1::bigint, $2::uuid, $3::bigint, "
                     "$4::bigint, $5::agent_marketplace.job_step, $6, $7, $8, $9::jsonb, $10::int)",
                     10},
    [S_STEP_RESOURCE] = {"step_resource",
                         "SELECT agent_marketplace.step_resource($1::bigint, $2::uuid, $3::bigint, "
                         "$4::bigint, $5::agent_marketplace.job_step, $6, $7, $8::jsonb, "
                         "$9::bytea)",
                         9},
    [S_STEP_API_KEY] = {"step_api_key",
                        "SELECT agent_marketplace.step_api_key($1::bigint, $2::uuid, $3::bigint, "
                        "$4::bigint, $5::agent_marketplace.job_step, $6, $7::bytea, $8::bytea, "
                        "$9::jsonb)",
                        9},
    [S_STEP_API_KEY_FOR_WALDUR] =
        {"step_api_key_for_waldur",
         "SELECT agent_marketplace.step_api_key_for_waldur($1::bigint, $2::uuid, $3::bigint, "
         "$4::bigint, $5::agent_marketplace.job_step, $6, $7::bytea, $8::bytea, $9::jsonb, "
         "$10::bytea)",
         10},
    [S_STEP_READY] = {"step_ready",
                      "SELECT agent_marketplace.step_ready($1::bigint, $2::uuid, $3::bigint, "
                      "$4::bigint, $5::agent_marketplace.job_step)",
                      5},
    [S_STEP_REVOKE] = {"step_revoke",
                       "SELECT agent_marketplace.step_revoke($1::bigint, $2::uuid, $3::bigint, "
                       "$4::bigint, $5::agent_marketplace.job_step, $6::int)",
                       6},
    [S_STEP_REFUSE] = {"step_refuse",
                       "SELECT agent_marketplace.step_refuse($1::bigint, $2::uuid, $3::bigint, "
                       "$4::bigint, $5::agent_marketplace.job_step, $6::int)",
                       6},
    [S_STEP_SUSPENDED] =
        {"step_suspended",
         "SELECT agent_marketplace.step_suspended($1::bigint, $2::uuid, $3::bigint, "
         "$4::bigint, $5::agent_marketplace.job_step)",
         5},
    [S_STEP_ARCHIVE] = {"step_archive",
                        "SELECT agent_marketplace.step_archive($1::bigint, $2::uuid, $3::bigint, "
                        "$4::bigint, $5::agent_marketplace.job_step)",
                        5},
    [S_STEP_ANNOUNCE] = {"step_announce",
                         "SELECT agent_marketplace.step_announce($1::bigint, $2::uuid, $3::bigint, "
                         "$4::bigint, $5::agent_marketplace.job_step)",
                         5},
    [S_STEP_REPORT] = {"step_report",
                       "SELECT agent_marketplace.step_report($1::bigint, $2::uuid, $3::bigint, "
                       "$4::bigint, $5::agent_marketplace.job_step)",
                       5},
    [S_JOB_SETTLE] = {"job_settle",
                      "SELECT agent_marketplace.job_settle($1::bigint, $2::uuid, $3::bigint, "
                      "$4::bigint, $5::agent_marketplace.job_state, $6::int, $7::bigint, $8, $9)",
                      9},
    [S_EFFECT_INTEND] =
        {"effect_intend",
         "SELECT verdict, effect_id FROM agent_marketplace.effect_intend($1::bigint, "
         "$2::uuid, $3::bigint, $4::bigint, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
         13},
    [S_EFFECT_SETTLE] = {"effect_settle",
                         "SELECT agent_marketplace.effect_settle($1::bigint, $2::bigint, "
                         "$3::agent_marketplace.effect_state, $4, $5::int, $6, $7)",
                         7},
    [S_RUNTIME_KEEP] = {"runtime_keep",
                        "SELECT agent_marketplace.runtime_keep($1::bigint, $2::uuid, $3::bigint, "
                        "$4::bigint, $5, $6, $7, $8::bytea)",
                        8},
    [S_JOBS_RELEASE] = {"jobs_release",
                        "SELECT $1::text, agent_marketplace.jobs_release($1, $2::int)", 2},
    [S_OUTBOX_CLAIM] = {"outbox_claim",
                        "SELECT id, subscription_uuid, type, payload FROM "
                        "agent_marketplace.outbox_claim($1::uuid, $2::int)",
                        2},
    [S_OUTBOX_DONE] = {"outbox_done", "SELECT agent_marketplace.outbox_done($1::bigint[])", 1},
    [S_OUTBOX_FORGET] = {"outbox_forget",
                         "SELECT agent_marketplace.outbox_forget($1::uuid, $2::bigint[])", 2},
    [S_OUTBOX_BACK] = {"outbox_back", "SELECT agent_marketplace.outbox_back($1::bigint[])", 1},
    [S_WALDUR_HINT] = {"waldur_hint",
                       "SELECT agent_marketplace.waldur_hint($1, $2, $3::uuid, $4::uuid, $5::uuid)",
                       5},
    [S_WALDUR_CLAIM] =
        {"waldur_claim",
         "SELECT order_uuid, fence, phase, order_type, resource_uuid, backend_id, verdict, told, "
         "job_id, job_error_class, attempts, name, api_key, status, delivery_prefix, delivery FROM "
         "agent_marketplace.waldur_claim($1::uuid, $2::int, $3::uuid[])",
         3},
    [S_WALDUR_ACCEPT] = {"waldur_accept",
                         "SELECT verdict, detail FROM agent_marketplace.waldur_accept($1::uuid, "
                         "$2::uuid, $3::bigint, $4::jsonb, $5, $6::int, $7::boolean)",
                         7},
    [S_WALDUR_TAKE] =
        {"waldur_take",
         "SELECT agent_marketplace.waldur_take($1::uuid, $2::uuid, $3::bigint, $4::jsonb, $5, $6, "
         "$7, $8, $9::uuid, $10::uuid, $11::timestamptz, $12::jsonb, $13::bigint, $14)",
         14},
    [S_WALDUR_LEAVE] = {"waldur_leave",
                        "SELECT agent_marketplace.waldur_leave($1::uuid, $2::uuid, $3::bigint, "
                        "$4::jsonb, $5, $6, $7)",
                        7},
    [S_WALDUR_CLOSED] = {"waldur_closed",
                         "SELECT agent_marketplace.waldur_closed($1::uuid, $2::uuid, $3::bigint, "
                         "$4::jsonb, $5, $6, $7, $8::jsonb, $9::bigint)",
                         9},
    [S_WALDUR_WAIT] = {"waldur_wait",
                       "SELECT agent_marketplace.waldur_wait($1::uuid, $2::uuid, $3::bigint, "
                       "$4::bigint, $5::boolean, $6, $7)",
                       7},
    [S_WALDUR_TOLD] =
        {"waldur_told",
         "SELECT agent_marketplace.waldur_told($1::uuid, $2::uuid, $3::bigint, $4, $5, $6)", 6},
    [S_WALDUR_INTEND] = {"waldur_intend",
                         "SELECT verdict, effect_id FROM agent_marketplace.waldur_intend($1::uuid, "
                         "$2::uuid, $3::bigint, $4, $5, $6, $7, $8)",
                         8},
    [S_WALDUR_SETTLE] = {"waldur_settle",
                         "SELECT agent_marketplace.waldur_settle($1::bigint, $2::bigint, "
                         "$3::agent_marketplace.effect_state, $4::int, $5, $6)",
                         6},
    [S_WALDUR_KEY_CLAIM] =
        {"waldur_key_claim",
         "SELECT key_uuid, fence, phase, resource_uuid, prefix, attempts, status, api_key, "
         "delivery FROM agent_marketplace.waldur_key_claim($1::uuid, $2::int, $3::uuid[])",
         3},
    [S_WALDUR_KEY_KEEP] = {"waldur_key_keep",
                           "SELECT agent_marketplace.waldur_key_keep($1::uuid, $2::uuid, "
                           "$3::bigint, $4, $5::bytea, $6::bytea, $7::bytea)",
                           7},
    [S_WALDUR_KEY_LIVE] =
        {"waldur_key_live",
         "SELECT agent_marketplace.waldur_key_live($1::uuid, $2::uuid, $3::bigint)", 3},
    [S_WALDUR_KEY_END] =
        {"waldur_key_end",
         "SELECT agent_marketplace.waldur_key_end($1::uuid, $2::uuid, $3::bigint, $4, $5)", 5},
    [S_WALDUR_KEY_WAIT] = {"waldur_key_wait",
                           "SELECT agent_marketplace.waldur_key_wait($1::uuid, $2::uuid, "
                           "$3::bigint, $4::bigint, $5::boolean, $6, $7)",
                           7},
    [S_WALDUR_SWEEP_BEGIN] =
        {"waldur_sweep_begin",
         "SELECT fence, (extract(epoch FROM modified_from) * 1000000)::bigint FROM "
         "agent_marketplace.waldur_sweep_begin($1::uuid, $2::bigint, $3::bigint)",
         3},
    [S_WALDUR_SWEEP_ORDERS] =
        {"waldur_sweep_orders",
         "SELECT agent_marketplace.waldur_sweep_orders($1::uuid, $2::bigint, $3::uuid[])", 3},
    [S_WALDUR_SWEEP_END] =
        {"waldur_sweep_end",
         "SELECT agent_marketplace.waldur_sweep_end($1::uuid, $2::bigint, $3::timestamptz, $4)", 4},
    [S_WALDUR_PAUSED] = {"waldur_paused",
                         "SELECT agent_marketplace.waldur_paused($1::uuid, $2, $3, $4, "
                         "$5::timestamptz, $6::jsonb, $7::bigint)",
                         7},
    [S_WALDUR_COUNTS] = {"waldur_counts",
                         "SELECT what, reason, n FROM agent_marketplace.waldur_counts()", 0},
    [S_COUNTS] = {"counts", "SELECT what, n FROM agent_marketplace.job_counts($1::int)", 1},
    [S_SCHEMA_VERSION] =
        {"schema_version",
         "SELECT coalesce(max(version), 0) FROM agent_marketplace.schema_migration", 0},
};
