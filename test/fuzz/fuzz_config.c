/*
 * Configurations: any YAML is refused with its place or taken; what is taken prints as YAML and as
 * JSON that reads, and neither print nor refusal holds a secret that came from the environment or a
 * file. The file is one in memory; the tree alone is read too.
 */
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/str.h"
#include "config/config.h"
#include "config/node.h"
#include "fuzz.h"

#define PLANTED "hunter2-PLANTED"
#define KEY     "/////////////////////////////////////////w8="

enum { PRINT_MAX = 16 * 1024 * 1024 };

static int memory = -1;
static bool typed; /* the input says it itself, in a key perhaps, and keys are shown */
static char path[64];

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    memory = memfd_create("provisioner.yaml", MFD_CLOEXEC);
    HOLDS(memory >= 0);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", memory);
    /* Nothing of the machine's own may be what an input finds. */
    HOLDS(clearenv() == 0);
    HOLDS(setenv("SECRET", PLANTED, 1) == 0);
    HOLDS(setenv("DATABASE_URL", "postgresql://u:" PLANTED "@h/d", 1) == 0);
    HOLDS(setenv("KEY", KEY, 1) == 0);
    HOLDS(setenv("PUBLIC", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=", 1) == 0);
    return 0;
}

static void check_refusal(const struct err *err, const char *file)
{
    HOLDS(err->class == ERR_INVALID && str_starts(err->msg, file));
    HOLDS(typed || (!strstr(err->msg, PLANTED) && !strstr(err->msg, KEY)));
    HOLDS(str_is_utf8(err->msg, strlen(err->msg)));
    for (const char *p = err->msg; *p; p++) {
        HOLDS((unsigned char)*p >= 0x20 && *p != 0x7f);
    }
}

static bool any_planted(const char *const *strings, size_t n)
{
    bool found = false;
    for (size_t i = 0; i < n; i++) {
        found = found || (strings[i] && strstr(strings[i], PLANTED));
    }
    return found;
}

static bool planted_in_pairs(const struct config_pair *pairs, size_t n)
{
    bool found = false;
    for (size_t i = 0; i < n; i++) {
        found = found || strstr(pairs[i].name, PLANTED) ||
                (!pairs[i].secret && strstr(pairs[i].value, PLANTED));
    }
    return found;
}

static bool planted_in_product(const struct config_product *p)
{
    const char *const strings[] = {p->api,         p->url,           p->tenancy,
                                   p->admin_url,   p->workspace_key, p->tenant_domain,
                                   p->admin_email, p->provider,      p->provider_instance,
                                   p->public_key,  p->provider_url,  p->public_key_file};
    return any_planted(strings, ARRAY_LEN(strings)) ||
           planted_in_pairs(p->embedding_models, p->n_embedding_models);
}

/* Did the input put the secret where everybody may read it? */
static bool planted_in_public(const struct config *c)
{
    const char *const strings[] = {
        c->kafka_bootstrap_servers, c->kafka_group_id, c->topic_events, c->topic_dead_letters,
        c->topic_outcomes,          c->waldur_url,     c->http_listen};
    bool found = any_planted(strings, ARRAY_LEN(strings)) ||
                 planted_in_pairs(c->kafka_properties, c->n_kafka_properties) ||
                 planted_in_pairs(c->flows, c->n_flows);
    for (size_t i = 0; i < c->n_runtimes; i++) {
        const struct config_runtime *r = &c->runtimes[i];
        const char *const own[] = {r->name, r->organization};
        found = found || any_planted(own, ARRAY_LEN(own)) || planted_in_product(&r->langflow) ||
                planted_in_product(&r->ragflow);
    }
    for (size_t i = 0; i < c->n_offerings; i++) {
        const struct config_offering *o = &c->offerings[i];
        const char *const own[] = {o->type, o->flow, o->embedding_model};
        found = found || any_planted(own, ARRAY_LEN(own)) ||
                any_planted((const char *const *)o->capabilities, o->n_capabilities) ||
                planted_in_pairs(o->variables, o->n_variables);
    }
    return found;
}

static void check_secrets(const struct config *c, const char *printed)
{
    bool same = memcmp(c->master_key, c->reveal_public_key, SECRET_KEY_BYTES) == 0;
    HOLDS(typed || planted_in_public(c) || !strstr(printed, PLANTED));
    HOLDS(typed || !c->has_master_key || same || c->master_key[0] != 0xff || !strstr(printed, KEY));
}

static void check_print(const struct config *c)
{
    static const struct json_limits limits = {PRINT_MAX, 64, PRINT_MAX};
    struct config_node *tree = NULL;
    struct json_fault fault;
    struct err err;
    cJSON *json = NULL;
    struct buf b;
    buf_init(&b, PRINT_MAX);
    HOLDS(config_print_yaml(c, &b) == 0);
    check_secrets(c, buf_str(&b));
    HOLDS(b.len > CONFIG_FILE_MAX ||
          config_node_parse("printed", buf_str(&b), b.len, &tree, &err) == 0);
    config_node_free(tree);
    buf_reset(&b);
    HOLDS(config_print_json(c, &b) == 0);
    check_secrets(c, buf_str(&b));
    HOLDS(json_parse(buf_str(&b), b.len, &limits, &json, &fault) == 0);
    cJSON_Delete(json);
    buf_done(&b);
}

static void check_config(const struct config *c)
{
    struct err err;
    HOLDS(c->n_runtimes <= CONFIG_RUNTIMES_MAX && c->n_offerings <= CONFIG_OFFERINGS_MAX);
    HOLDS(c->database_url && c->kafka_bootstrap_servers);
    HOLDS(c->retry_initial_ms > 0 && c->retry_max_ms >= c->retry_initial_ms);
    HOLDS(c->retry_factor >= 1.0 && c->retry_factor <= 10.0);
    HOLDS(c->worker_lease_ms >= 3000 && c->worker_max_jobs >= 1);
    for (size_t i = 0; i < c->n_runtimes; i++) {
        const struct config_runtime *r = &c->runtimes[i];
        HOLDS(config_runtime_named(c, r->name) == r);
        HOLDS(r->langflow.concurrency >= 1 && r->langflow.timeout_ms > 0);
        HOLDS(!strstr(r->langflow.url, "@") && !strstr(r->ragflow.url, "@"));
    }
    for (size_t i = 0; i < c->n_offerings; i++) {
        HOLDS(config_offering(c, c->offerings[i].type) == &c->offerings[i]);
    }
    (void)config_check_products(c, &err);
    check_print(c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct config_node *tree = NULL;
    struct config *c = NULL;
    struct err err;
    char *text = fuzz_copy((struct fuzz_input){(const char *)data, size});
    typed = memmem(data, size, PLANTED, strlen(PLANTED)) || memmem(data, size, KEY, strlen(KEY));
    if (config_node_parse("tree", text, size, &tree, &err)) {
        check_refusal(&err, "tree:");
    }
    config_node_free(tree);
    HOLDS(ftruncate(memory, 0) == 0 && pwrite(memory, text, size, 0) == (ssize_t)size);
    if (config_load(path, &c, &err) == 0) {
        check_config(c);
    } else {
        check_refusal(&err, path);
    }
    config_free(c);
    free(text);
    return 0;
}
