#include "job.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "account.h"
#include "base/clock.h"
#include "base/rng.h"
#include "base/str.h"
#include "upstream.h"

/* Columns of jobs_claim, then of runtime_recorded, in the order of their RETURNS TABLE. */
enum column {
    C_JOB,
    C_FENCE,
    C_SUBSCRIPTION,
    C_KIND,
    C_STEP,
    C_ATTEMPTS,
    C_DEADLINE_LEFT,
    C_WAITED,
    C_TAKEOVER,
    C_ORGANIZATION,
    C_ORGANIZATION_SLUG,
    C_ORDER,
    C_GENERATION,
    C_TRACEPARENT,
    C_SPEC,
    C_NAME,
    C_RUNTIME_NAME,
    C_WORKSPACE,
    C_COLLECTION,
    C_STATUS,
    C_CAPABILITIES,
    C_LANGFLOW_OPEN,
    C_RAGFLOW_OPEN,
    C_LANGFLOW_AGE, /* of open changes; their being updates and a deleted id stand behind it */
    C_LANGFLOW_UPDATE,
    C_LANGFLOW_DELETE,
    C_RAGFLOW_AGE,
    C_RAGFLOW_UPDATE,
    C_RAGFLOW_DELETE,
    C_LANE,
    C_CREDIT,
    C_TENANT,
    C_LANGFLOW_KEY,
    C_RAGFLOW_KEY,
    C_VARIABLES,
    C_VARIABLES_DUE,
    C_COLLECTION_ASKED,
};

static const char *text(const PGresult *res, int row, enum column c)
{
    return PQgetisnull(res, row, c) ? NULL : PQgetvalue(res, row, c);
}

static bool truth(const PGresult *res, int row, enum column c)
{
    return str_eq(text(res, row, c), "t");
}

static int64_t number(const PGresult *res, int row, enum column c)
{
    int64_t n = 0;
    const char *s = text(res, row, c);
    return s && str_to_i64(s, &n) ? n : 0;
}

static bool take(char **out, const char *s)
{
    *out = str_dup(s);
    return !s || *out;
}

/* A trace of its own for a job whose event carried none: logs and upstreams can still be joined. */
static void make_traceparent(char out[TRACEPARENT_MAX + 1])
{
    unsigned char random[24];
    char hex[49];
    rng_bytes(random, sizeof(random));
    str_hex(hex, random, sizeof(random));
    snprintf(out, TRACEPARENT_MAX + 1, "00-%.32s-%.16s-01", hex, hex + 32);
}

static bool take_open(struct job *j, const PGresult *res, int row)
{
    struct open_effect *l = &j->open[PRODUCT_LANGFLOW], *r = &j->open[PRODUCT_RAGFLOW];
    l->any = truth(res, row, C_LANGFLOW_OPEN);
    l->age_ms = number(res, row, C_LANGFLOW_AGE);
    l->update = truth(res, row, C_LANGFLOW_UPDATE);
    r->any = truth(res, row, C_RAGFLOW_OPEN);
    r->age_ms = number(res, row, C_RAGFLOW_AGE);
    r->update = truth(res, row, C_RAGFLOW_UPDATE);
    return take(&l->delete_id, text(res, row, C_LANGFLOW_DELETE)) &&
           take(&r->delete_id, text(res, row, C_RAGFLOW_DELETE));
}

static bool take_texts(struct job *j, const PGresult *res, int row)
{
    return take(&j->spec, text(res, row, C_SPEC)) &&
           take(&j->organization_slug, text(res, row, C_ORGANIZATION_SLUG)) &&
           take(&j->name, text(res, row, C_NAME)) &&
           take(&j->runtime_name, text(res, row, C_RUNTIME_NAME)) &&
           take(&j->lane, text(res, row, C_LANE)) &&
           take(&j->workspace_id, text(res, row, C_WORKSPACE)) &&
           take(&j->collection_id, text(res, row, C_COLLECTION)) &&
           take(&j->tenant_id, text(res, row, C_TENANT)) &&
           take(&j->sealed_keys[PRODUCT_LANGFLOW], text(res, row, C_LANGFLOW_KEY)) &&
           take(&j->sealed_keys[PRODUCT_RAGFLOW], text(res, row, C_RAGFLOW_KEY)) &&
           take(&j->variables, text(res, row, C_VARIABLES));
}

static bool take_due(struct job *j, const PGresult *res, int row)
{
    const char *due = text(res, row, C_VARIABLES_DUE);
    j->variables_due = due ? cJSON_Parse(due) : NULL;
    return !due || j->variables_due;
}

struct job *job_from_row(const PGresult *res, int row, int64_t now_mono_ms)
{
    struct job *j = calloc(1, sizeof(*j));
    if (!j || !take_texts(j, res, row) || !take_open(j, res, row) || !take_due(j, res, row)) {
        job_free(j);
        return NULL;
    }
    j->id = number(res, row, C_JOB);
    j->fence = number(res, row, C_FENCE);
    str_copy(j->id_text, sizeof(j->id_text), text(res, row, C_JOB));
    str_copy(j->fence_text, sizeof(j->fence_text), text(res, row, C_FENCE));
    str_copy(j->subscription, sizeof(j->subscription), text(res, row, C_SUBSCRIPTION));
    str_copy(j->organization, sizeof(j->organization), text(res, row, C_ORGANIZATION));
    str_copy(j->order, sizeof(j->order), text(res, row, C_ORDER));
    j->kind = job_kind_parse(text(res, row, C_KIND));
    j->step = job_step_parse(text(res, row, C_STEP));
    j->attempts = (int)number(res, row, C_ATTEMPTS);
    j->deadline_mono_ms = now_mono_ms + number(res, row, C_DEADLINE_LEFT);
    j->age_ms = number(res, row, C_WAITED);
    j->claimed_ms = now_mono_ms;
    j->takeover = truth(res, row, C_TAKEOVER);
    j->collection_asked = truth(res, row, C_COLLECTION_ASKED);
    j->credit = number(res, row, C_CREDIT);
    const char *capabilities = text(res, row, C_CAPABILITIES);
    j->rag_recorded = capabilities && strstr(capabilities, "\"rag\"");
    const char *trace = text(res, row, C_TRACEPARENT);
    if (!trace || !str_copy(j->traceparent, sizeof(j->traceparent), trace)) {
        make_traceparent(j->traceparent);
    }
    naming_marker(j->subscription, j->marker);
    return j;
}

void job_request_done(struct job *j)
{
    if (j->request) {
        exchange_request_done(j->request);
        free(j->request);
        j->request = NULL;
    }
}

void job_free(struct job *j)
{
    if (!j) {
        return;
    }
    if (j->op) {
        j->driver->free(j->op);
    }
    plan_done(&j->plan);
    job_request_done(j);
    free(j->spec);
    free(j->organization_slug);
    free(j->name);
    free(j->runtime_name);
    free(j->lane);
    free(j->workspace_id);
    free(j->collection_id);
    free(j->tenant_id);
    free(j->sealed_keys[PRODUCT_LANGFLOW]);
    free(j->sealed_keys[PRODUCT_RAGFLOW]);
    free(j->variables);
    cJSON_Delete(j->variables_due);
    driver_site_unref(j->target.site);
    account_free(j->account);
    job_settled(j, PRODUCT_LANGFLOW);
    job_settled(j, PRODUCT_RAGFLOW);
    free(j);
}

void job_settled(struct job *j, enum product product)
{
    free(j->open[product].delete_id);
    j->open[product] = (struct open_effect){0};
}

struct facts job_facts(const struct job *j, const struct config *config)
{
    return (struct facts){
        .named = j->name != NULL,
        .rag = j->rag_recorded,
        .has_collection =
            j->collection_id || j->tenant_id || j->collection_asked || j->open[PRODUCT_RAGFLOW].any,
        .keep_history = config->retention_chat_history_ms > 0,
        .waldur = config->waldur_url != NULL,
    };
}

int64_t job_deadline_left_ms(const struct job *j)
{
    return j->deadline_mono_ms - clock_mono_ms();
}

void job_request_id(const struct job *j, char *out, size_t size)
{
    snprintf(out, size, "p%" PRId64 ".%" PRId64 ".%u", j->id, j->fence, j->requests);
}

void job_traceparent(const struct job *j, char out[TRACEPARENT_MAX + 1])
{
    unsigned char span[8];
    char hex[17];
    rng_bytes(span, sizeof(span));
    str_hex(hex, span, sizeof(span));
    /* version-traceid-spanid-flags: 2 + 1 + 32 + 1 + 16 + 1 + 2 (W3C Trace Context, 3.2) */
    snprintf(out, TRACEPARENT_MAX + 1, "%.36s%s%.3s", j->traceparent, hex, j->traceparent + 52);
}

enum { JOB_FIELDS = 9, EXTRA_FIELDS = 8 };

void job_log(const struct job *j, enum log_level level, const char *event,
             const struct log_field *fields)
{
    char trace[33];
    if (!log_enabled(level)) {
        return;
    }
    snprintf(trace, sizeof(trace), "%.32s", j->traceparent + 3);
    struct log_field all[JOB_FIELDS + EXTRA_FIELDS + 1] = {
        LOG_S("subscription", j->subscription),
        LOG_S("organization", j->organization_slug),
        LOG_I("job", j->id),
        LOG_S("kind", job_kind_name(j->kind)),
        LOG_S("step", job_step_name(j->step)),
        LOG_I("attempt", j->attempts + 1),
        LOG_S("trace", trace),
        LOG_S("runtime", j->runtime_name),
        LOG_I("fence", j->fence),
    };
    for (int i = 0; i < EXTRA_FIELDS && fields[i].key; i++) {
        all[JOB_FIELDS + i] = fields[i];
    }
    log_write(level, event, all);
}
