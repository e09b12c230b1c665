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
    [S_COUNTS] = {"counts", "SELECT what, n FROM agent_marketplace.job_counts($1::int)", 1},
    [S_SCHEMA_VERSION] =
        {"schema_version",
         "SELECT coalesce(max(version), 0) FROM agent_marketplace.schema_migration", 0},
};
