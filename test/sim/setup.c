/*
 * What is there before the first event: the products with what others have in them, and the
 * configuration. That is read once for each combination of dialects, not for each seed.
 */
#include <openssl/pem.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "base/str.h"
#include "setup.h"
#include "sim.h"

static const char rsa_public_key[] =
    "-----BEGIN PUBLIC KEY-----\n"
    "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEApXj6qAVvh7I4oChbQh8s\n"
    "fNe6GPZ+pml8Vn3RLXPm1sLekAOy+V0T1yaBUx7YM+v8qOr0JCDuiOs++X7pEcG8\n"
    "h3/JHqwcEuO8CoFCGT8PBwdPUgsa3maXxua5c/ZjgpJoyt0u1XeOmx06U4eeDuUp\n"
    "QsCVlwnI+CGSHQWev5JcjUN98RhqZLuk8wZoZapQyUIK8WWoPbISCOobp9YrecHU\n"
    "Ly/mtlKVr+WsLbn3yjC3DyiLLJMS84PoirbSIrNR22/wGgJpGc4mqsXMIRjmAc57\n"
    "UXfGw8CpEaPNvD5f0xRlR/66z3QiGLhUwD0oUMwsvZzmYYXxymuwksNt05D3vsjm\n"
    "NwIDAQAB\n"
    "-----END PUBLIC KEY-----\n";

static const char langflow_url[] = "http://langflow.example/base";
static const char ragflow_url[] = "http://ragflow.example/base";
static const char models_key[] = "ragflow-planted-models-key";
static const char *const flows[] = {"customer-support-agent-v1", "faq-assistant-v1"};

static const struct dialects no_dialects;

/* ---- the configuration ---- */

enum { CONFIGS_MAX = 128 };

static struct {
    struct dialects dialects;
    struct config *config[2];
} configs[CONFIGS_MAX];
static size_t n_configs;

static void write_file(char path[32], const char *text)
{
    str_copy(path, 32, "/tmp/sim.XXXXXX");
    int fd = mkstemp(path);
    size_t n = strlen(text);
    if (fd < 0 || write(fd, text, n) != (ssize_t)n) {
        perror("sim: a temporary file");
        exit(1);
    }
    close(fd);
}

static unsigned char reveal_private[32];

const unsigned char *setup_reveal_private(void)
{
    return reveal_private;
}

static void set_environment(void)
{
    unsigned char public[32], seed[32] = {1};
    char text[64];
    crypto_box_seed_keypair(public, reveal_private, seed);
    sodium_bin2base64(text, sizeof(text), public, 32, sodium_base64_VARIANT_ORIGINAL);
    setenv("SIM_REVEAL", text, 1);
    seed[1] = 2;
    sodium_bin2base64(text, sizeof(text), seed, 32, sodium_base64_VARIANT_ORIGINAL);
    setenv("SIM_MASTER", text, 1);
    setenv("SIM_DATABASE", "postgresql://sim@127.0.0.1/sim", 1);
    setenv("SIM_TOKEN", PRODUCT_TOKEN, 1);
    setenv("SIM_ADMIN", "planted-admin-password", 1);
    setenv("SIM_MODELS", models_key, 1);
}

static const char *tenancy_name(enum driver_tenancy t)
{
    static const char *const names[] = {"shared", "organization", "subscription"};
    return names[t];
}

static void write_runtime(const struct dialects *d, const char *head, const char *key_file,
                          struct buf *out)
{
    buf_addf(out,
             "  - %s\n"
             "    langflow: {api: %s, url: \"%s\", api_key: \"env:SIM_TOKEN\", timeout: 5s}\n"
             "    ragflow:\n"
             "      api: %s\n"
             "      url: \"%s\"\n"
             "      api_key: \"env:SIM_TOKEN\"\n"
             "      timeout: 5s\n"
             "      tenancy: %s\n",
             head, d->facade ? "workspaces" : "langflow", langflow_url,
             d->facade ? "collections" : "ragflow", ragflow_url, tenancy_name(d->tenancy));
    if (!d->facade) {
        buf_adds(out, "      embedding_models: {text-embedding-3-small: "
                      "\"text-embedding-3-small@OpenAI\"}\n");
    }
    if (d->tenancy != TENANCY_SHARED) {
        buf_addf(out,
                 "      models_key: \"env:SIM_MODELS\"\n"
                 "      admin: {url: \"%s-admin\", email: admin@ragflow.io, "
                 "password: \"env:SIM_ADMIN\", public_key: \"%s\"}\n",
                 ragflow_url, key_file);
    }
}

/* All runtimes are at one server each: what they make stands side by side. */
static void write_config(const struct dialects *d, const char *key_file, struct buf *out)
{
    buf_adds(out, "database: {url: \"env:SIM_DATABASE\"}\n"
                  "kafka:\n"
                  "  bootstrap_servers: 127.0.0.1:9092\n"
                  "  group_id: provisioner\n"
                  "  topics: {events: events, dead_letters: dead-letters, outcomes: outcomes}\n"
                  "runtimes:\n");
    write_runtime(d, "name: shared\n    mode: shared", key_file, out);
    for (int i = 0; i < d->dedicated; i++) {
        char head[128];
        snprintf(head, sizeof(head),
                 "name: dedicated-%d\n    mode: dedicated\n    organization: org-%d", i, i);
        write_runtime(d, head, key_file, out);
    }
    buf_addf(out,
             "offerings:\n"
             "  csa: {flow: %s, capabilities: [rag]}\n"
             "  faq: {flow: %s, capabilities: []}\n"
             "retry: {initial: 200ms, factor: 2, max: 2s, deadline: 24h}\n"
             "retention: {chat_history: %s, dead_letters: 90d, events: 90d}\n"
             "worker: {lease: 6s, drain: 10s}\n"
             "secrets: {master_key: \"env:SIM_MASTER\", reveal_public_key: \"env:SIM_REVEAL\"}\n",
             flows[0], flows[1], d->keep ? "30d" : "0");
}

static void load(struct config **out, const char *text)
{
    char path[32];
    struct err err;
    write_file(path, text);
    if (config_load(path, out, &err)) {
        fprintf(stderr, "sim: %s\n%s", err.msg, text);
        exit(1);
    }
    unlink(path);
}

static bool same(const struct dialects *a, const struct dialects *b)
{
    return a->facade == b->facade && str_eq(a->langflow, b->langflow) &&
           str_eq(a->ragflow, b->ragflow) && a->tenancy == b->tenancy && a->keep == b->keep &&
           a->dedicated == b->dedicated;
}

static void read_configs(const struct dialects *d)
{
    if (n_configs == 0) {
        set_environment();
    }
    if (n_configs == CONFIGS_MAX) {
        abort();
    }
    char key_file[32];
    struct buf text;
    buf_init(&text, 64 * 1024);
    write_file(key_file, rsa_public_key);
    write_config(d, key_file, &text);
    configs[n_configs].dialects = *d;
    load(&configs[n_configs].config[0], buf_str(&text));
    load(&configs[n_configs].config[1], buf_str(&text));
    unlink(key_file);
    buf_done(&text);
    n_configs++;
}

/* Bounds differ with every seed: they are set in what was read. */
const struct config *setup_config(const struct dialects *d, int which)
{
    size_t i = 0;
    while (i < n_configs && !same(&configs[i].dialects, d)) {
        i++;
    }
    if (i == n_configs) {
        read_configs(d);
    }
    struct config *c = configs[i].config[which];
    c->scheduling_organization_max = d->organization_max;
    c->scheduling_runtime_max = d->runtime_max;
    return c;
}

/* ---- RAGFlow's public key, decoded once: OpenSSL takes longer for that than all the rest of a job
 * does ---- */

static EVP_PKEY *public_key;

EVP_PKEY *__real_PEM_read_bio_PUBKEY(BIO *bio, EVP_PKEY **out, pem_password_cb *cb, void *ctx);
EVP_PKEY *__wrap_PEM_read_bio_PUBKEY(BIO *bio, EVP_PKEY **out, pem_password_cb *cb, void *ctx);

EVP_PKEY *__wrap_PEM_read_bio_PUBKEY(BIO *bio, EVP_PKEY **out, pem_password_cb *cb, void *ctx)
{
    if (!public_key) {
        public_key = __real_PEM_read_bio_PUBKEY(bio, out, cb, ctx);
    }
    if (public_key) {
        EVP_PKEY_up_ref(public_key);
    }
    return public_key;
}

void setup_free(void)
{
    EVP_PKEY_free(public_key);
    public_key = NULL;
    while (n_configs > 0) {
        n_configs--;
        config_free(configs[n_configs].config[0]);
        config_free(configs[n_configs].config[1]);
        configs[n_configs].dialects = no_dialects;
    }
}

/* ---- the products ---- */

static struct product_sim *of(enum product p)
{
    return &world.upstream[p].product;
}

void product_post(enum product p, const char *path, const char *body)
{
    cJSON_Delete(product_admin(of(p), "POST", path, body));
}

static void request(struct exchange_request *r, enum product p, enum exchange_method method,
                    const char *path)
{
    bool key = p == PRODUCT_LANGFLOW && !world.dialects.facade;
    exchange_request_init(r);
    r->method = method;
    snprintf(r->url, sizeof(r->url), "%s/api/v1/%s", of(p)->url, path);
    r->content_type = "application/json";
    r->auth_header = key ? "x-api-key" : "Authorization";
    r->auth_scheme = key ? "" : "Bearer ";
    r->credential = PRODUCT_TOKEN;
}

bool product_remove(enum product p, const char *id)
{
    static const char *const places[PRODUCT_MAX] = {"users", "datasets"};
    static const char *const facades[PRODUCT_MAX] = {"workspaces", "collections"};
    bool many = p == PRODUCT_RAGFLOW && !world.dialects.facade;
    char path[200];
    struct exchange_request r;
    snprintf(path, sizeof(path), "%s%s%s", (world.dialects.facade ? facades : places)[p],
             many ? "" : "/", many ? "" : id);
    request(&r, p, METHOD_DELETE, path);
    if (many) {
        buf_addf(&r.body, "{\"ids\":[\"%s\"]}", id);
    }
    struct exchange_response answer = product_ask(of(p), &r);
    exchange_request_done(&r);
    return answer.status >= 200 && answer.status <= 299;
}

bool product_rename(enum product p, const char *id, const char *credential, const char *name)
{
    char path[200];
    struct exchange_request r;
    bool user = p == PRODUCT_LANGFLOW;
    snprintf(path, sizeof(path), "%s/%s", user ? "users" : "datasets", id);
    request(&r, p, user ? METHOD_PATCH : METHOD_PUT, path);
    r.credential = credential;
    buf_addf(&r.body, "{\"%s\":\"%s\"}", user ? "username" : "name", name);
    struct exchange_response answer = product_ask(of(p), &r);
    exchange_request_done(&r);
    return answer.status == 200 && (user || strstr(answer.body, "\"code\":0"));
}

static void template(const char *name)
{
    struct exchange_request r;
    request(&r, PRODUCT_LANGFLOW, METHOD_POST, "flows/");
    buf_addf(&r.body,
             "{\"name\":\"%s\",\"data\":{\"nodes\":[{\"id\":\"chat\",\"data\":{\"type\":"
             "\"ChatInput\",\"note\":\"%s\"}}],\"edges\":[]}}",
             name, name);
    struct exchange_response answer = product_ask(of(PRODUCT_LANGFLOW), &r);
    if (answer.status != 201) {
        sim_breach("the template was not made: %d %s", answer.status, answer.body);
    }
    exchange_request_done(&r);
}

static void langflow_begin(void)
{
    char body[256];
    /* Answers before commits are 1.8's way, a bound on logins came with 1.10. */
    bool slow = sim_chance(0.4), old = str_eq(world.dialects.langflow, "1.8");
    snprintf(body, sizeof(body),
             "{\"login_limit\":%d,\"new_user_is_active\":%s,\"commit_ms\":%d,\"erase_ms\":%d,"
             "\"shuffle\":%s}",
             !old && sim_chance(0.2) ? 5 : 0, sim_chance(0.7) ? "true" : "false",
             slow && old ? (int)sim_between(1, COMMIT_MAX_MS) : 0,
             slow ? (int)sim_between(1, 2000) : 0, sim_chance(0.3) ? "true" : "false");
    template(flows[0]);
    template(flows[1]);
    product_post(PRODUCT_LANGFLOW, "/settings", body);
}

static void ragflow_begin(void)
{
    char body[256];
    product_post(PRODUCT_RAGFLOW, "/models",
                 "{\"model\":\"text-embedding-3-small@OpenAI\",\"api_key\":\"sk-planted\","
                 "\"default\":true}");
    if (world.dialects.tenancy == TENANCY_SHARED) {
        return;
    }
    snprintf(body, sizeof(body), "{\"email\":\"models@example.com\",\"key\":\"%s\"}", models_key);
    cJSON *tenant = product_admin(of(PRODUCT_RAGFLOW), "POST", "/tenants", body);
    snprintf(body, sizeof(body),
             "{\"model\":\"text-embedding-3-small@OpenAI\",\"tenant\":\"%s\",\"api_key\":"
             "\"sk-planted\"}",
             json_str(tenant, "id"));
    product_post(PRODUCT_RAGFLOW, "/models", body);
    cJSON_Delete(tenant);
}

void products_begin(void)
{
    const struct dialects *d = &world.dialects;
    product_begin(of(PRODUCT_LANGFLOW), d->facade ? "workspaces" : "langflow", d->langflow);
    product_begin(of(PRODUCT_RAGFLOW), d->facade ? "collections" : "ragflow", d->ragflow);
    of(PRODUCT_LANGFLOW)->url = langflow_url;
    of(PRODUCT_RAGFLOW)->url = ragflow_url;
    if (!d->facade) {
        langflow_begin();
        ragflow_begin();
    }
}

void product_remember_foreign(struct upstream_world *u)
{
    cJSON *objects = product_objects(&u->product), *one;
    cJSON_ArrayForEach(one, objects)
    {
        if (json_bool(one, "planted", false) && u->n_foreign < FOREIGN_MAX) {
            u->foreign_id[u->n_foreign] = sim_text(json_str(one, "object.id"));
            u->foreign_text[u->n_foreign++] = json_text(one);
        }
    }
    cJSON_Delete(objects);
}

void products_end(void)
{
    for (int p = 0; p < PRODUCT_MAX; p++) {
        struct upstream_world *u = &world.upstream[p];
        for (size_t i = 0; i < u->n_foreign; i++) {
            free(u->foreign_id[i]);
            free(u->foreign_text[i]);
        }
        if (u->product.dialect) {
            product_end(&u->product);
        }
        *u = (struct upstream_world){0};
    }
}
