/*
 * What an account needs before its datasets can embed. A models tenant shares its models with all
 * others, which join its team and name a model by its id: the provider's secret stays there (0.27).
 * Or every account gets a provider of its own, whose secret its keys can read (0.26).
 */
#include "ragflow/native.h"

#include <string.h>

#include "base/str.h"

enum { MODEL_TOKENS = 8191 };

static bool may_share(const struct driver_op *op)
{
    const struct driver_settings *s = op->target->settings;
    return s && s->models_key && ragflow_site_since(op->site, 0, 27, 0);
}

static bool may_provide(const struct driver_op *op)
{
    const struct driver_settings *s = op->target->settings;
    return s && s->provider && s->provider_instance && s->provider_key &&
           ragflow_site_since(op->site, 0, 26, 0);
}

/* From what is known of the shared model to the next thing that is missing. */
static void share(struct driver_op *op)
{
    const char *wanted = op->target->embedding_model;
    const char *id = ragflow_is_id(wanted) ? wanted : ragflow_site_model(op->site, wanted);
    if (op->site->models_tenant[0] == '\0') {
        op->phase = PHASE_MODELS_ME;
    } else if (!id) {
        op->phase = PHASE_MODELS_LIST;
    } else {
        str_copy(op->model, sizeof(op->model), id);
        op->phase = PHASE_INVITE;
    }
}

void ragflow_equip(struct driver_op *op)
{
    op->phase = PHASE_CREATE;
    if (!ragflow_has_tenant(op) || op->equipped || !op->target->embedding_model) {
        return;
    }
    if (may_share(op)) {
        share(op);
    } else if (may_provide(op)) {
        op->phase = PHASE_PROVIDER;
    }
}

static void equipped(struct driver_op *op)
{
    op->equipped = true;
    ragflow_equip(op);
}

/* ---- what a dataset has ---- */

/* "model@provider" and "model@instance@provider" name the same where the instance is left out. */
static bool same_name(const char *wanted, const char *has)
{
    const char *at = strchr(wanted, '@'), *last = strrchr(has, '@');
    return at && last && at == strrchr(wanted, '@') && str_eq(at, last) &&
           strncmp(wanted, has, (size_t)(at - wanted) + 1) == 0;
}

enum ragflow_fit ragflow_model_fit(const struct driver_op *op, const cJSON *row)
{
    const char *has = json_str(row, "embedding_model"), *id = json_str(row, "tenant_embd_id");
    const char *wanted = op->model;
    if (!has || has[0] == '\0') {
        return MODEL_DIFFERS;
    }
    if (wanted[0] == '\0') {
        return strstr(has, "@xxxx")
                   ? MODEL_DIFFERS
                   : MODEL_FITS; /* the stock configuration's placeholder embeds nothing */
    }
    if (str_eq(has, wanted) || str_eq(id, wanted) || same_name(wanted, has)) {
        return MODEL_FITS;
    }
    if (ragflow_is_id(wanted)) { /* told by its name: that of the configuration */
        bool same =
            same_name(op->target->embedding_model, has) || str_eq(op->target->embedding_model, has);
        return same ? MODEL_FITS : MODEL_DIFFERS;
    }
    /* Shared models are named by their id. */
    if (!ragflow_has_tenant(op) || !may_share(op) || !ragflow_is_id(has)) {
        return MODEL_DIFFERS;
    }
    const char *known = ragflow_site_model(op->site, wanted);
    return !known ? MODEL_UNKNOWN : str_eq(known, has) ? MODEL_FITS : MODEL_DIFFERS;
}

/* ---- a models tenant ---- */

void ragflow_feed_models_me(struct driver_op *op, const struct ragflow_answer *a,
                            struct driver_outcome *out)
{
    if (ragflow_id_of(a->data, "id", op->site->models_tenant)) {
        share(op);
        return;
    }
    ragflow_fail_with(op, ERR_UNKNOWN, "the server does not tell whose the models key is");
    out->err = op->err;
}

void ragflow_build_models(struct driver_op *op, struct exchange_request *r)
{
    ragflow_url(r, op->target->url, "/api/v1/models?type=embedding");
}

/* The row's model in the way that the configuration names models. */
static bool is_model(const cJSON *row, const char *wanted)
{
    const char *name = json_str(row, "model_name"), *provider = json_str(row, "provider_name");
    const char *at = strchr(wanted, '@'), *last = strrchr(wanted, '@');
    name = name ? name : json_str(row, "name");
    return name && at && strlen(name) == (size_t)(at - wanted) &&
           strncmp(name, wanted, strlen(name)) == 0 && (!provider || str_eq(provider, last + 1));
}

static void keep_model(struct ragflow_site *site, const char *name, const char *id)
{
    struct ragflow_model *m = &site->models[site->n_models % RAGFLOW_MODELS_MAX];
    str_copy(m->name, sizeof(m->name), name);
    str_copy(m->id, sizeof(m->id), id);
    site->n_models += site->n_models < RAGFLOW_MODELS_MAX;
}

void ragflow_feed_models(struct driver_op *op, const struct ragflow_answer *a,
                         struct driver_outcome *out)
{
    const cJSON *row = NULL;
    char id[RAGFLOW_ID];
    (void)out;
    cJSON_ArrayForEach(row, a->data)
    {
        if (is_model(row, op->target->embedding_model) && ragflow_id_of(row, "model_id", id)) {
            keep_model(op->site, op->target->embedding_model, id);
            if (op->learning) {
                op->phase = PHASE_LOOK_ID;
            } else {
                share(op);
            }
            return;
        }
    }
    if (op->learning && ragflow_observing(op)) {
        ragflow_observed(op, SIGHT_OURS, false);
        return;
    }
    ragflow_fail_with(op, ERR_REFUSED,
                      "the models tenant has no embedding model \"%.128s\"; add it there, or name "
                      "another in runtimes[].ragflow.embedding_models",
                      op->target->embedding_model);
}

void ragflow_build_invite(struct driver_op *op, struct exchange_request *r)
{
    ragflow_url(r, op->target->url, "/api/v1/tenants/%s/users", op->site->models_tenant);
    buf_adds(&r->body, "{\"email\":");
    buf_add_json(&r->body, op->target->tenant_email);
    buf_addc(&r->body, '}');
    ragflow_body(r);
}

/* Invited or in the team before: both lead on. Where neither is so, the create is refused. */
void ragflow_feed_invite(struct driver_op *op, const struct ragflow_answer *a,
                         struct driver_outcome *out)
{
    (void)a;
    err_clear(&out->err);
    op->phase = PHASE_JOIN;
}

void ragflow_build_join(struct driver_op *op, struct exchange_request *r)
{
    ragflow_url(r, op->target->url, "/api/v1/tenants/%s", op->site->models_tenant);
    buf_adds(&r->body, "{}");
    ragflow_body(r);
}

void ragflow_feed_join(struct driver_op *op, const struct ragflow_answer *a,
                       struct driver_outcome *out)
{
    (void)a;
    err_clear(&out->err);
    equipped(op);
}

/* ---- a provider of its own ---- */

void ragflow_build_provider(struct driver_op *op, struct exchange_request *r)
{
    ragflow_url(r, op->target->url, "/api/v1/providers");
    buf_adds(&r->body, "{\"provider_name\":");
    buf_add_json(&r->body, op->target->settings->provider);
    buf_addc(&r->body, '}');
    ragflow_body(r);
}

void ragflow_feed_provider(struct driver_op *op, const struct ragflow_answer *a,
                           struct driver_outcome *out)
{
    (void)a;
    err_clear(&out->err);
    op->phase = PHASE_INSTANCE;
}

void ragflow_build_instance(struct driver_op *op, struct exchange_request *r)
{
    const struct driver_settings *s = op->target->settings;
    const char *model = op->target->embedding_model;
    char provider[RAGFLOW_ENCODED], name[RAGFLOW_MODEL];
    str_copy(name, sizeof(name), model);
    name[strcspn(name, "@")] = '\0';
    ragflow_url(r, op->target->url, "/api/v1/providers/%s/instances",
                ragflow_encode(provider, s->provider));
    buf_adds(&r->body, "{\"instance_name\":");
    buf_add_json(&r->body, s->provider_instance);
    buf_adds(&r->body, ",\"api_key\":");
    buf_add_json(&r->body, s->provider_key);
    buf_adds(&r->body, ",\"base_url\":");
    buf_add_json(&r->body, s->provider_url ? s->provider_url : "");
    buf_adds(&r->body, ",\"region\":\"\",\"model_info\":[{\"model_type\":[\"embedding\"],"
                       "\"model_name\":");
    buf_add_json(&r->body, name);
    buf_addf(&r->body, ",\"max_tokens\":%d}]}", MODEL_TOKENS);
    ragflow_body(r);
}

void ragflow_feed_instance(struct driver_op *op, const struct ragflow_answer *a,
                           struct driver_outcome *out)
{
    (void)a;
    err_clear(&out->err);
    equipped(op);
}
