#include "account.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "job.h"

static enum driver_tenancy tenancy_of(const struct config_product *p)
{
    static const char *const names[] = {[TENANCY_SHARED] = "shared",
                                        [TENANCY_ORGANIZATION] = "organization",
                                        [TENANCY_SUBSCRIPTION] = "subscription"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (str_eq(names[i], p->tenancy)) {
            return (enum driver_tenancy)i;
        }
    }
    return TENANCY_SHARED;
}

void account_settings(const struct config_product *p, struct driver_settings *out)
{
    *out = (struct driver_settings){
        .tenancy = tenancy_of(p),
        .admin_url = p->admin_url,
        .admin_email = p->admin_email,
        .admin_password_wire = p->admin_password_wire,
        .models_key = p->models_key,
        .provider = p->provider,
        .provider_instance = p->provider_instance,
        .provider_key = p->provider_key,
        .provider_url = p->provider_url,
    };
}

static void context_of(const struct job *j, enum product product, char out[UUID_TEXT + 16])
{
    snprintf(out, UUID_TEXT + 16, "%s/%s", j->subscription, product_name(product));
}

static int open_key(const struct job *j, enum product product, char clear[SECRET_TEXT_MAX + 1],
                    struct err *err)
{
    unsigned char sealed[SECRET_TEXT_MAX + SECRET_SEALED_EXTRA];
    char context[UUID_TEXT + 16];
    const char *hex = j->sealed_keys[product];
    size_t n = 0;
    if (!hex) {
        return 0;
    }
    context_of(j, product, context);
    if (sodium_hex2bin(sealed, sizeof(sealed), hex, strlen(hex), NULL, &n, NULL)) {
        n = 0; /* longer than any key: it does not open */
    }
    return secret_open(j->config->master_key, context, sealed, n, clear, err);
}

/*
 * A user at RAGFlow is ours when it has this address: nobody without the master key can have made
 * it up.
 */
static void make_email(const struct job *j, const struct config_product *p, enum driver_tenancy t,
                       char out[ACCOUNT_EMAIL_MAX + 1])
{
    bool own = t == TENANCY_SUBSCRIPTION;
    const char *uuid = own ? j->subscription : j->organization;
    char text[128], hex[33], tag[SECRET_TAG_LEN + 1];
    snprintf(text, sizeof(text), "%s/%s/%s", j->runtime_name, own ? "subscription" : "organization",
             uuid);
    secret_tag(j->config->master_key, text, tag);
    uuid_hex(uuid, hex);
    snprintf(out, ACCOUNT_EMAIL_MAX + 1, "%s-%s-%.16s@%s", own ? "sub" : "org", hex, tag,
             p->tenant_domain);
}

/* A user at Langflow that is found by name is ours when it has this: names can be guessed, and
 * where anybody may sign up, be taken. */
static void make_proof(const struct job *j, char out[SECRET_TAG_LEN + 1])
{
    char text[128];
    if (j->config->has_master_key) {
        snprintf(text, sizeof(text), "%s/workspace/%s", j->runtime_name, j->subscription);
        secret_tag(j->config->master_key, text, out);
    }
}

/* A RAGFlow key opens a whole tenant: the workspace gets one only where that is its own, or where
 * the configuration says so. */
static int take_collection_key(struct account *a, const struct job *j,
                               const struct config_runtime *r, struct err *err)
{
    const struct config_product *p = &r->ragflow;
    enum driver_tenancy tenancy = tenancy_of(p);
    bool wide = str_eq(p->workspace_key, "tenant-wide");
    if (!str_eq(p->api, "ragflow") || !j->rag_recorded ||
        (tenancy != TENANCY_SUBSCRIPTION && !wide)) {
        return 0;
    }
    if (tenancy != TENANCY_SHARED) {
        return open_key(j, PRODUCT_RAGFLOW, a->collection_key, err);
    }
    str_copy(a->collection_key, sizeof(a->collection_key), p->api_key ? p->api_key : "");
    return 0;
}

static int fill_tenant(struct account *a, const struct job *j, const struct config_product *p,
                       struct err *err)
{
    account_settings(p, &a->settings);
    if (a->settings.tenancy == TENANCY_SHARED) {
        return 0;
    }
    make_email(j, p, a->settings.tenancy, a->tenant_email);
    return p->public_key
               ? secret_ragflow_password(p->public_key, a->password, a->password_wire, err)
               : 0;
}

static int fill(struct account *a, const struct job *j, const struct config_runtime *r,
                struct err *err)
{
    secret_password(a->password);
    if (open_key(j, j->product, a->secret, err)) {
        return -1;
    }
    if (j->product == PRODUCT_RAGFLOW) {
        return fill_tenant(a, j, &r->ragflow, err);
    }
    naming_flow_uuid(j->subscription, a->flow_uuid);
    make_proof(j, a->proof);
    account_settings(&r->langflow, &a->settings);
    return take_collection_key(a, j, r, err);
}

struct account *account_new(const struct job *j, const struct config_runtime *r, struct err *err)
{
    struct account *a = calloc(1, sizeof(*a));
    if (!a) {
        err_nomem(err);
        return NULL;
    }
    if (fill(a, j, r, err)) {
        account_free(a);
        return NULL;
    }
    return a;
}

void account_free(struct account *a)
{
    if (a) {
        sodium_memzero(a, sizeof(*a));
        free(a);
    }
}

static const char *text_or_null(const char *s)
{
    return s[0] ? s : NULL;
}

void account_fill(const struct account *a, struct driver_target *t)
{
    t->settings = &a->settings;
    t->secret = text_or_null(a->secret);
    t->password = a->password;
    t->password_wire = text_or_null(a->password_wire);
    t->tenant_email = text_or_null(a->tenant_email);
    t->flow_uuid = text_or_null(a->flow_uuid);
    t->proof = text_or_null(a->proof);
    t->collection_key = text_or_null(a->collection_key);
}

int account_seal(const struct job *j, const struct config *c, enum product product,
                 const char *secret, char out[ACCOUNT_SEALED_HEX_MAX + 1], struct err *err)
{
    unsigned char sealed[DRIVER_SECRET_MAX + SECRET_SEALED_EXTRA];
    char context[UUID_TEXT + 16];
    if (!c->has_master_key || strlen(secret) > DRIVER_SECRET_MAX) {
        return err_set(err, ERR_INTERNAL, "there is a key to keep, and nothing to keep it under");
    }
    context_of(j, product, context);
    if (secret_seal(c->master_key, context, secret, sealed, err)) {
        return -1;
    }
    out[0] = '\\';
    out[1] = 'x';
    str_hex(out + 2, sealed, strlen(secret) + SECRET_SEALED_EXTRA);
    return 0;
}

void account_redact(const struct account *a, struct err *err)
{
    const char *const secrets[] = {a->secret, a->collection_key, a->password, a->password_wire,
                                   a->proof};
    for (size_t i = 0; i < ARRAY_LEN(secrets); i++) {
        if (secrets[i][0]) {
            err_redact(err, secrets[i]);
        }
    }
}
