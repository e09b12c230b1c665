#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/rng.h"
#include "base/str.h"
#include "config/config.h"
#include "config/settings.h"

#define KEY_A "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
#define KEY_B "/////////////////////////////////////////w8="

/* Six lines; tests append to it, so that theirs begin with line 7. */
#define MINIMAL                                                                                    \
    "database: {url: \"postgresql://u@h/d\"}\n"                                                    \
    "kafka: {bootstrap_servers: \"b:9092\"}\n"                                                     \
    "runtimes:\n"                                                                                  \
    "  - name: one\n"                                                                              \
    "    langflow: {url: \"http://l\"}\n"                                                          \
    "    ragflow: {url: \"http://r\"}\n"

/* Text outside the runtimes; theirs follow as the last lines, the first of them in line 4. */
#define HEAD                                                                                       \
    "database: {url: \"postgresql://u@h/d\"}\n"                                                    \
    "kafka: {bootstrap_servers: \"b:9092\"}\n"                                                     \
    "runtimes:\n"

/* Somebody's RSA key, for where RAGFlow's goes. */
#define PEM                                                                                        \
    "-----BEGIN PUBLIC KEY-----\n"                                                                 \
    "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAv1D2GB+KtEs7qfsInm0x\n"                           \
    "BiPkjYLkoCmgOxVAYbHZe8rNGyvej+M8YhOs2FVfjw13bxrZjlrPZRJrn6lLB9GH\n"                           \
    "YRp7hSiMFmExelSpNkheR8yept7qJ6kd8o4I79UpBbj9TdVET8iDSIi+kgQjxNd/\n"                           \
    "qCtyApd6DCpBoJxhzICkwuDuJuX/b5lueM+J+do/rRtsslX5gh/OzjAEGuuXQvN3\n"                           \
    "4WUV46y1vr1Ne3GaCVnbONaw5IryPD8gtmi0hCm8DBWnYJmu3CxebemqMcZUl/Hr\n"                           \
    "fBn+3OWw09ZSfjln+MDCdMvdBv3xLpcSzHp9n2lNHcIpbAdjUUF/XQv4RDTma/TI\n"                           \
    "TQIDAQAB\n"                                                                                   \
    "-----END PUBLIC KEY-----\n"

#define FLOW "{\"name\":\"Support\",\"data\":{\"nodes\":[],\"edges\":[]}}"

/* Planted where secrets go; may appear nowhere in errors and prints. */
#define PLANTED "hunter2-PLANTED"

enum { TEXT_MAX = 4 * 1024 * 1024, FUZZ_ROUNDS = 20000 };

static char dir[64];
static char file[128];

static void path_in_dir(char out[128], const char *name)
{
    snprintf(out, 128, "%s/%s", dir, name);
}

static void write_file(const char *path, const char *text, size_t n)
{
    /* A new file each time: truncating an old one makes some file systems write it out at once. */
    unlink(path);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

static int load_bytes(const char *text, size_t n, struct config **out, struct err *err)
{
    write_file(file, text, n);
    err_clear(err);
    return config_load(file, out, err);
}

static struct config *load(const char *text)
{
    struct config *c = NULL;
    struct err err;
    if (load_bytes(text, strlen(text), &c, &err) != 0) {
        fail_msg("refused: %s\n%s", err.msg, text);
    }
    return c;
}

/* place: "line:column". The whole prefix and a part of the words are compared. */
static void refused_bytes(const char *text, size_t n, const char *place, const char *words)
{
    struct config *marker = (struct config *)(void *)dir, *c = marker;
    struct err err;
    char prefix[256];
    if (load_bytes(text, n, &c, &err) == 0) {
        config_free(c);
        fail_msg("accepted, wanted \"%s\":\n%.2000s", words, text);
    }
    snprintf(prefix, sizeof(prefix), "%s:%s: ", file, place);
    if (!str_starts(err.msg, prefix) || !strstr(err.msg, words)) {
        fail_msg("got \"%s\", wanted %s... %s, for\n%.2000s", err.msg, prefix, words, text);
    }
    assert_int_equal(err.class, ERR_INVALID);
    assert_ptr_equal(c, marker);
    assert_null(strchr(err.msg, '\n'));
    assert_null(strstr(err.msg, PLANTED));
}

static void refused(const char *text, const char *place, const char *words)
{
    refused_bytes(text, strlen(text), place, words);
}

/* ---- the sample that is shipped ---- */

static char *slurp(const char *path, size_t *n)
{
    char *text = NULL;
    const char *reason = NULL;
    if (config_file_read(path, CONFIG_FILE_MAX, &text, n, &reason) != 0) {
        fail_msg("%s: %s", path, reason);
    }
    return text;
}

static char *replaced(const char *text, const char *from, const char *to)
{
    struct buf b;
    buf_init(&b, TEXT_MAX);
    for (const char *hit; (hit = strstr(text, from)) != NULL; text = hit + strlen(from)) {
        buf_add(&b, text, (size_t)(hit - text));
        buf_adds(&b, to);
    }
    buf_adds(&b, text);
    char *out = buf_steal(&b);
    assert_non_null(out);
    return out;
}

/* The sample with its file: references led into the test's directory. */
static char *sample(void)
{
    char path[1024], keys[160];
    const char *slash = strrchr(__FILE__, '/');
    snprintf(path, sizeof(path), "%.*s/../../deploy/provisioner.yaml", (int)(slash - __FILE__),
             __FILE__);
    size_t n = 0;
    char *text = slurp(path, &n);
    snprintf(keys, sizeof(keys), "file:%s/", dir);
    char *out = replaced(text, "file:/etc/provisioner/", keys);
    config_file_free(text, n);
    return out;
}

static int setup(void **state)
{
    (void)state;
    char path[128];
    rng_init();
    snprintf(dir, sizeof(dir), "/tmp/test_config.XXXXXX");
    if (!mkdtemp(dir)) {
        return -1;
    }
    path_in_dir(file, "c.yaml");
    path_in_dir(path, "master.key");
    write_file(path, KEY_A "\n", strlen(KEY_A) + 1);
    path_in_dir(path, "reveal.pub");
    write_file(path, KEY_B "\n", strlen(KEY_B) + 1);
    path_in_dir(path, "hook.secret");
    write_file(path, PLANTED PLANTED "\n", strlen(PLANTED PLANTED) + 1);
    path_in_dir(path, "ragflow-public.pem");
    write_file(path, PEM, strlen(PEM));
    path_in_dir(path, "flows");
    mkdir(path, 0700);
    path_in_dir(path, "flows/customer-support-agent-v1.json");
    write_file(path, FLOW, strlen(FLOW));
    setenv("DATABASE_URL", "postgresql://u:" PLANTED "@h/d", 1);
    setenv("LANGFLOW_API_KEY", "sk-" PLANTED, 1);
    setenv("RAGFLOW_API_KEY", "ragflow-" PLANTED, 1);
    setenv("WALDUR_TOKEN", PLANTED, 1);
    setenv("RAGFLOW_MODELS_KEY", "models-" PLANTED, 1);
    setenv("RAGFLOW_ADMIN_PASSWORD", "admin-" PLANTED, 1);
    setenv("OPENAI_API_KEY", "provider-" PLANTED, 1);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    static const char *const names[] = {
        "c.yaml", "master.key",  "reveal.pub",         "value",
        "fifo",   "hook.secret", "ragflow-public.pem", "flows/customer-support-agent-v1.json"};
    char path[128];
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        path_in_dir(path, names[i]);
        unlink(path);
    }
    path_in_dir(path, "flows");
    rmdir(path);
    return rmdir(dir);
}

static char *print(const struct config *c, bool json)
{
    struct buf b;
    buf_init(&b, TEXT_MAX);
    assert_int_equal(json ? config_print_json(c, &b) : config_print_yaml(c, &b), 0);
    char *text = buf_steal(&b);
    assert_non_null(text);
    return text;
}

/* One text of exactly n letters. */
static char *letters(size_t n)
{
    char *s = malloc(n + 1);
    assert_non_null(s);
    memset(s, 'a', n);
    s[n] = '\0';
    return s;
}

/* ---- defaults ---- */

static void test_defaults(void **state)
{
    (void)state;
    struct config *c = load(MINIMAL);
    assert_string_equal(c->file, file);
    assert_string_equal(c->database_url, "postgresql://u@h/d");
    assert_string_equal(c->kafka_bootstrap_servers, "b:9092");
    assert_string_equal(c->kafka_group_id, "provisioner");
    assert_string_equal(c->topic_events, "marketplace.subscriptions");
    assert_string_equal(c->topic_dead_letters, "marketplace.subscriptions.dlq");
    assert_string_equal(c->topic_outcomes, "marketplace.subscriptions.outcomes");
    assert_int_equal(c->n_kafka_properties, 0);
    assert_int_equal(c->n_offerings, 0);
    assert_null(c->waldur_url);
    assert_null(c->waldur_token);
    assert_null(c->waldur_api);
    assert_null(c->waldur_hook_secret);
    assert_string_equal(c->waldur_keys, "sealed");
    assert_string_equal(c->waldur_approve, "rule");
    assert_string_equal(c->waldur_auth, "token");
    assert_int_equal(c->waldur_sweep_ms, 60 * 1000);
    assert_int_equal(c->waldur_organization_max, 0);
    assert_int_equal(c->retry_initial_ms, 1000);
    assert_true(c->retry_factor == 2.0);
    assert_int_equal(c->retry_max_ms, 300 * 1000);
    assert_int_equal(c->retry_deadline_ms, 24 * 3600 * 1000);
    assert_int_equal(c->retention_chat_history_ms, INT64_C(30) * 86400 * 1000);
    assert_int_equal(c->retention_dead_letters_ms, INT64_C(90) * 86400 * 1000);
    assert_int_equal(c->retention_events_ms, INT64_C(90) * 86400 * 1000);
    assert_false(c->has_master_key);
    assert_false(c->has_reveal_public_key);
    assert_string_equal(c->http_listen, "127.0.0.1:9464");
    assert_string_equal(c->log_level, "info");
    assert_string_equal(c->log_format, "json");
    assert_int_equal(c->scheduling_organization_max, 32);
    assert_int_equal(c->scheduling_runtime_max, 500);
    assert_int_equal(c->scheduling_weight_free, 1);
    assert_int_equal(c->scheduling_weight_plus, 2);
    assert_int_equal(c->scheduling_weight_pro, 4);
    assert_int_equal(c->scheduling_weight_enterprise, 8);
    assert_int_equal(c->worker_max_jobs, 1000);
    assert_int_equal(c->worker_inbox_high_water, 1000000);
    assert_int_equal(c->worker_drain_ms, 25000);
    assert_int_equal(c->worker_lease_ms, 15000);
    assert_int_equal(c->worker_probe_settle_ms, 2000);
    config_free(c);
    config_free(NULL);
}

static void test_runtime_defaults(void **state)
{
    (void)state;
    struct config *c = load(MINIMAL "offerings: {csa: }\n");
    assert_int_equal(c->n_runtimes, 1);
    const struct config_runtime *r = &c->runtimes[0];
    assert_string_equal(r->name, "one");
    assert_int_equal(r->mode, RUNTIME_SHARED);
    assert_null(r->organization);
    assert_string_equal(r->langflow.api, "langflow");
    assert_string_equal(r->langflow.url, "http://l");
    assert_null(r->langflow.api_key);
    assert_null(r->langflow.tenancy);
    assert_int_equal(r->langflow.concurrency, 16);
    assert_int_equal(r->langflow.timeout_ms, 30000);
    assert_string_equal(r->ragflow.api, "ragflow");
    assert_string_equal(r->ragflow.url, "http://r");
    assert_null(r->ragflow.api_key);
    assert_string_equal(r->ragflow.tenancy, "shared");
    assert_string_equal(r->ragflow.workspace_key, "own");
    assert_string_equal(r->ragflow.tenant_domain, "tenants.invalid");
    assert_null(r->ragflow.admin_url);
    assert_null(r->ragflow.admin_password_wire);
    assert_int_equal(r->ragflow.n_embedding_models, 0);
    assert_int_equal(r->ragflow.concurrency, 16);
    assert_int_equal(r->ragflow.timeout_ms, 30000);
    assert_int_equal(c->n_offerings, 1);
    assert_string_equal(c->offerings[0].type, "csa");
    assert_null(c->offerings[0].uuid);
    assert_null(c->offerings[0].flow);
    assert_int_equal(c->offerings[0].n_capabilities, 0);
    assert_int_equal(c->offerings[0].n_variables, 0);
    config_free(c);
}

/* ---- files that settings name ---- */

static void test_flows(void **state)
{
    (void)state;
    char path[128], text[512];
    struct config *c = load(MINIMAL "flows: {a: flows/customer-support-agent-v1.json}\n");
    const struct config_document *flow = config_flow(c, "a");
    assert_non_null(flow);
    assert_int_equal(flow->len, strlen(FLOW));
    assert_string_equal(flow->text, FLOW);
    assert_null(config_flow(c, "b"));
    assert_null(config_flow(c, NULL));
    config_free(c);

    path_in_dir(path, "flows/customer-support-agent-v1.json");
    snprintf(text, sizeof(text), MINIMAL "flows:\n  a: %s\n", path);
    c = load(text);
    assert_string_equal(config_flow(c, "a")->text, FLOW);
    config_free(c);

    refused(MINIMAL "flows:\n  a: nothing.json\n", "8:6",
            "flows.a: the file that it names: No such file");
    path_in_dir(path, "value");
    write_file(path, "[1]", 3);
    refused(MINIMAL "flows:\n  a: value\n", "8:6", "the file is no flow in JSON");
    char *large = letters(CONFIG_FLOW_MAX + 1);
    write_file(path, large, CONFIG_FLOW_MAX + 1);
    free(large);
    refused(MINIMAL "flows:\n  a: value\n", "8:6", "too large");
}

#define ADMIN                                                                                      \
    "database: {url: \"postgresql://u@h/d\"}\n"                                                    \
    "kafka: {bootstrap_servers: \"b:9092\"}\n"                                                     \
    "runtimes:\n"                                                                                  \
    "  - name: one\n"                                                                              \
    "    langflow: {url: \"http://l\", api_key: k}\n"                                              \
    "    ragflow: {url: \"http://r\", tenancy: subscription, admin: {url: \"http://a\", email: "   \
    "a@b.c, password: " PLANTED ", public_key: "

static void test_public_key(void **state)
{
    (void)state;
    char path[128];
    struct config *c = load(ADMIN "ragflow-public.pem}}\n");
    assert_string_equal(c->runtimes[0].ragflow.public_key, PEM);
    assert_int_equal(strlen(c->runtimes[0].ragflow.admin_password_wire), 344);
    config_free(c);
    refused(ADMIN "nowhere.pem}}\n", "6:14", "ragflow.admin.public_key: the file that it names: ");
    path_in_dir(path, "value");
    write_file(path, "no key", 6);
    refused(ADMIN "value}}\n", "6:14", "is no RSA key in PEM");
    refused(ADMIN "\"-----BEGIN PUBLIC KEY-----\"}}\n", "6:133", "must be a file's path");
}

/* ---- what the products need ---- */

static void needs(const char *runtime, const char *more, const char *words)
{
    char text[2048];
    struct err err;
    snprintf(text, sizeof(text), HEAD "  - name: one\n%s%s", runtime, more);
    struct config *c = load(text);
    int rc = config_check_products(c, &err);
    config_free(c);
    if (words ? rc == 0 || !strstr(err.msg, words) : rc != 0) {
        fail_msg("%s, wanted %s for\n%s", rc ? err.msg : "fine", words ? words : "fine", text);
    }
}

static void test_products_need(void **state)
{
    (void)state;
#define LANGFLOW "    langflow: {url: \"http://l\", api_key: k}\n"
#define FACADE   "    langflow: {url: \"http://l\", api: workspaces}\n"
#define MASTER   "secrets: {master_key: \"" KEY_A "\"}\n"
    needs("    langflow: {url: \"http://l\"}\n    ragflow: {url: \"http://r\"}\n", MASTER,
          "\"one\" needs langflow.api_key");
    needs(LANGFLOW "    ragflow: {url: \"http://r\"}\n", MASTER, "needs ragflow.api_key");
    needs(LANGFLOW "    ragflow: {url: \"http://r\", api_key: k}\n", "",
          "needs secrets.master_key");
    needs(LANGFLOW "    ragflow: {url: \"http://r\", api_key: k}\n", MASTER, NULL);
    needs(FACADE "    ragflow: {url: \"http://r\", api: collections}\n", "", NULL);
    needs(FACADE "    ragflow: {url: \"http://r\", api_key: k}\n", "", NULL);
#define OWN FACADE "    ragflow: {url: \"http://r\", tenancy: organization"
    needs(OWN "}\n", MASTER, "needs ragflow.admin.url");
    needs(OWN ", admin: {url: \"http://a\", email: a@b.c}}\n", MASTER, "admin.email and .password");
    needs(OWN ", admin: {url: \"http://a\", email: a@b.c, password: p}}\n", MASTER,
          "needs ragflow.admin.public_key");
#define WHOLE                                                                                      \
    OWN ", admin: {url: \"http://a\", email: a@b.c, password: p, public_key: "                     \
        "ragflow-public.pem}}\n"
    needs(WHOLE, "", "needs secrets.master_key");
    needs(WHOLE, MASTER, NULL);
}

static void test_domains(void **state)
{
    (void)state;
    static const char *const bad[] = {"a", "a.b", ".ab.cd", "a..cd", "A.example", "x y.example"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        char text[512];
        snprintf(text, sizeof(text),
                 HEAD "  - name: a\n    langflow: {url: \"http://l\"}\n    ragflow:\n      url: "
                      "\"http://r\"\n      tenant_domain: \"%s\"\n",
                 bad[i]);
        refused(text, "8:22", "runtimes[0].ragflow.tenant_domain must");
    }
}

/* ---- the table and the sample ---- */

/* print.c and the list of known keys want the rows of a group side by side. */
static void check_table(const struct config_table *t)
{
    for (size_t i = 0; i < t->n; i++) {
        const struct config_setting *row = &t->rows[i];
        assert_non_null(row->doc);
        size_t group =
            (size_t)(strrchr(row->path, '.') ? strrchr(row->path, '.') - row->path + 1 : 0);
        bool left = false;
        for (size_t j = i + 1; j < t->n && group > 0; j++) {
            bool same = strncmp(t->rows[j].path, row->path, group) == 0;
            if (same && left) {
                fail_msg("%s stands apart from its group", t->rows[j].path);
            }
            left = left || !same;
            assert_string_not_equal(t->rows[j].path, row->path);
        }
        if (row->table) {
            check_table(row->table);
        }
    }
}

static const struct config_node *at_path(const struct config_node *map, const char *path)
{
    while (map) {
        char key[64];
        size_t n = strcspn(path, ".");
        snprintf(key, sizeof(key), "%.*s", (int)n, path);
        map = config_node_get(map, key);
        if (path[n] == '\0') {
            break;
        }
        path += n + 1;
    }
    return map;
}

/* Every setting stands in the sample, those with a default with that default. */
static void check_sample(const struct config_table *t, const struct config_node *map,
                         const struct config_node *other)
{
    for (size_t i = 0; i < t->n; i++) {
        const struct config_setting *row = &t->rows[i];
        const struct config_node *n = at_path(map, row->path);
        if (!n && other) {
            n = at_path(other, row->path);
        }
        if (!n) {
            fail_msg("the sample lacks %s", row->path);
            return;
        }
        if (row->fallback) {
            assert_string_equal(n->text, row->fallback);
        }
        if (row->table) {
            check_sample(row->table, n->first, n->first->next);
        }
    }
}

static void test_table_and_sample(void **state)
{
    (void)state;
    check_table(&config_settings);
    char *text = sample();
    struct config_node *root = NULL;
    struct err err;
    assert_int_equal(config_node_parse("sample", text, strlen(text), &root, &err), 0);
    check_sample(&config_settings, root, NULL);
    config_node_free(root);
    free(text);
}

static void test_sample_loads(void **state)
{
    (void)state;
    char *text = sample();
    struct config *c = load(text);
    free(text);
    assert_string_equal(c->database_url, "postgresql://u:" PLANTED "@h/d");
    assert_int_equal(c->n_runtimes, 2);
    assert_int_equal(c->runtimes[1].mode, RUNTIME_DEDICATED);
    assert_string_equal(c->runtimes[1].organization, "bigcorp");
    assert_string_equal(c->runtimes[0].langflow.api_key, "sk-" PLANTED);
    assert_string_equal(c->waldur_url, "https://waldur.example/api");
    assert_string_equal(c->waldur_api, "https://waldur.example/api");
    assert_string_equal(c->waldur_plans[0].value, "pro");
    assert_string_equal(c->waldur_endpoints[0].name, "chat");
    assert_string_equal(c->offerings[0].uuid, "0d5f0d0f-7f0c-4a8e-9a66-6a5d4c1b2e10");
    assert_ptr_equal(config_offering_of(c, "0d5f0d0f-7f0c-4a8e-9a66-6a5d4c1b2e10"), c->offerings);
    assert_null(config_offering_of(c, "0d5f0d0f-7f0c-4a8e-9a66-6a5d4c1b2e11"));
    assert_string_equal(c->offerings[0].capabilities[0], "rag");
    assert_string_equal(c->offerings[0].variables[0].value, "professional");
    assert_true(c->has_master_key && c->has_reveal_public_key);
    for (size_t i = 0; i < SECRET_KEY_BYTES; i++) {
        assert_int_equal(c->master_key[i], i);
        assert_int_equal(c->reveal_public_key[i], i < 31 ? 0xFF : 0x0F);
    }
    config_free(c);
}

static void test_look_ups(void **state)
{
    (void)state;
    char *text = sample();
    struct config *c = load(text);
    free(text);
    assert_ptr_equal(config_runtime_for(c, RUNTIME_SHARED, "bigcorp"), &c->runtimes[0]);
    assert_ptr_equal(config_runtime_for(c, RUNTIME_SHARED, NULL), &c->runtimes[0]);
    assert_ptr_equal(config_runtime_for(c, RUNTIME_DEDICATED, "bigcorp"), &c->runtimes[1]);
    assert_null(config_runtime_for(c, RUNTIME_DEDICATED, "acme"));
    assert_null(config_runtime_for(c, RUNTIME_DEDICATED, NULL));
    assert_ptr_equal(config_runtime_named(c, "bigcorp-dedicated"), &c->runtimes[1]);
    assert_null(config_runtime_named(c, "bigcorp"));
    assert_ptr_equal(config_offering(c, "csa"), &c->offerings[0]);
    const struct config_offering *other = config_offering(c, "CSA");
    assert_ptr_equal(other, &c->any_offering);
    assert_null(other->flow);
    assert_string_equal(other->embedding_model, "text-embedding-3-small");
    assert_int_equal(other->chunk_size, 512);
    assert_int_equal(other->chunk_overlap, 50);
    const struct config_product *p = &c->runtimes[0].ragflow;
    assert_string_equal(config_embedding_model(p, "text-embedding-3-small"),
                        "text-embedding-3-small@OpenAI");
    assert_string_equal(config_embedding_model(p, "other"), "other");
    config_free(c);
}

static void test_which_file(void **state)
{
    (void)state;
    struct config *c = NULL;
    struct err err;
    write_file(file, MINIMAL, strlen(MINIMAL));
    setenv("PROVISIONER_CONFIG", file, 1);
    assert_int_equal(config_load(NULL, &c, &err), 0);
    assert_string_equal(c->file, file);
    config_free(c);
    assert_int_equal(config_load("/nonexistent/a.yaml", &c, &err), -1);
    assert_non_null(strstr(err.msg, "/nonexistent/a.yaml: No such file or directory; name "));
    if (access("/etc/provisioner/provisioner.yaml", F_OK) != 0) {
        setenv("PROVISIONER_CONFIG", "", 1);
        assert_int_equal(config_load(NULL, &c, &err), -1);
        assert_true(str_starts(err.msg, "/etc/provisioner/provisioner.yaml: "));
    }
    unsetenv("PROVISIONER_CONFIG");
    assert_int_equal(config_load(dir, &c, &err), -1);
    assert_non_null(strstr(err.msg, "not a regular file"));
}

/* ---- ranges ---- */

static void value_text(const struct config_setting *row, int64_t v, char out[64])
{
    if (row->type != CONFIG_DURATION) {
        snprintf(out, 64, "%lld", (long long)v);
    } else if (v == 0) {
        snprintf(out, 64, "0");
    } else {
        snprintf(out, 64, "%lldms", (long long)v);
    }
}

/* "group.name" with the value, and neighbours that leave it the whole range. */
static void setting_text(const struct config_setting *row, int64_t v, char *out, size_t size)
{
    char value[64];
    value_text(row, v, value);
    const char *name = strchr(row->path, '.') + 1, *inner = strchr(name, '.');
    int group = (int)(name - row->path) - 1;
    if (inner) {
        snprintf(out, size, MINIMAL "%.*s:\n  %.*s: {%s: %s}\n", group, row->path,
                 (int)(inner - name), name, inner + 1, value);
        return;
    }
    snprintf(out, size, MINIMAL "%.*s:\n  %s: %s\n%s%s%s", group, row->path, name, value,
             str_eq(row->path, "retry.max") ? "  initial: 1ms\n" : "",
             str_eq(row->path, "retry.initial") ? "  max: 1d\n" : "",
             str_eq(row->path, "retry.deadline") ? "  initial: 1ms\n" : "");
}

static void check_range(const struct config_setting *row)
{
    char text[1024], place[32];
    const int64_t ends[] = {row->min, row->max};
    for (size_t i = 0; i < ARRAY_LEN(ends); i++) {
        setting_text(row, ends[i], text, sizeof(text));
        struct config *c = load(text);
        if (row->type == CONFIG_REAL) {
            assert_true(*(double *)(void *)((char *)c + row->offset) == (double)ends[i]);
        } else {
            assert_int_equal(*(int64_t *)(void *)((char *)c + row->offset), ends[i]);
        }
        config_free(c);
    }
    const char *name = strchr(row->path, '.') + 1;
    snprintf(place, sizeof(place), "8:%zu",
             strlen(name) + strlen(strchr(name, '.') ? "  : {: " : "  : ") -
                 (strchr(name, '.') != NULL) + 1);
    setting_text(row, row->max + 1, text, sizeof(text));
    refused(text, place, row->path);
    setting_text(row, row->min - 1, text, sizeof(text));
    refused(text, place, row->path);
}

static void test_ranges(void **state)
{
    (void)state;
    int checked = 0;
    for (size_t i = 0; i < config_settings.n; i++) {
        const struct config_setting *row = &config_settings.rows[i];
        if (row->type == CONFIG_INTEGER || row->type == CONFIG_REAL ||
            row->type == CONFIG_DURATION) {
            check_range(row);
            checked++;
        }
    }
    assert_int_equal(checked, 22);
}

static void test_runtime_ranges(void **state)
{
    (void)state;
    struct config *c =
        load(HEAD "  - name: a\n"
                  "    langflow: {url: \"http://l\", concurrency: 1, timeout: 100ms}\n"
                  "    ragflow: {url: \"http://r\", concurrency: 1024, timeout: 1h}\n");
    assert_int_equal(c->runtimes[0].langflow.concurrency, 1);
    assert_int_equal(c->runtimes[0].langflow.timeout_ms, 100);
    assert_int_equal(c->runtimes[0].ragflow.concurrency, 1024);
    assert_int_equal(c->runtimes[0].ragflow.timeout_ms, 3600000);
    config_free(c);
    static const char *const bad[] = {"concurrency: 0", "concurrency: 1025", "timeout: 99ms",
                                      "timeout: 3601s"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        char text[512], place[16];
        snprintf(text, sizeof(text),
                 HEAD "  - name: a\n    ragflow: {url: \"http://r\"}\n    langflow: {url: "
                      "\"http://l\", %s}\n",
                 bad[i]);
        snprintf(place, sizeof(place), "6:%zu", 34 + strcspn(bad[i], " "));
        refused(text, place, "runtimes[0].langflow.");
    }
}

static void test_text_lengths(void **state)
{
    (void)state;
    for (size_t n = 249; n <= 250; n++) {
        char text[2048], *topic = letters(n);
        snprintf(
            text, sizeof(text),
            "database: {url: \"postgresql://u@h/d\"}\n"
            "runtimes: [{name: a, langflow: {url: \"http://l\"}, ragflow: {url: \"http://r\"}}]\n"
            "kafka:\n  bootstrap_servers: b\n  topics:\n    events: %s\n",
            topic);
        if (n == 249) {
            config_free(load(text));
        } else {
            refused(text, "6:13", "kafka.topics.events must have 1 to 249 bytes");
        }
        free(topic);
    }
}

/* ---- errors ---- */

struct refusal {
    const char *text, *place, *words;
};

static void check_refusals(const struct refusal *r, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        refused(r[i].text, r[i].place, r[i].words);
    }
}

static void test_keys(void **state)
{
    (void)state;
    static const struct refusal r[] = {
        {MINIMAL "retrys: {}\n", "7:1", "unknown key \"retrys\"; did you mean \"retry\"?"},
        {MINIMAL "retry: {facter: 3}\n", "7:9",
         "unknown key \"retry.facter\"; did you mean \"factor\"?"},
        {MINIMAL "worker: {inbox: 3}\n", "7:10", "did you mean \"inbox_high_water\"?"},
        {MINIMAL "waldur:\n  quarantine: x\n", "8:3",
         "unknown key \"waldur.quarantine\"; known here: url, token, auth, hook_secret"},
        {MINIMAL "waldur:\n  endpoint: x\n", "8:3", "did you mean \"endpoints\"?"},
        {MINIMAL "zzzzzzzz: 1\n", "7:1",
         "known here: database, kafka, runtimes, offerings, flows, waldur, retry, retention, "
         "secrets, "
         "http"},
        {MINIMAL "log: {level: info, level: warn}\n", "7:20",
         "\"level\" stands here twice, first in line 7; remove one"},
        {MINIMAL "retry.max: 5m\n", "7:1", "unknown key \"retry.max\""},
        {MINIMAL "waldur: {token:" PLANTED "}\n", "7:10",
         "\"waldur.token...\": a blank is missing after the colon"},
        {MINIMAL "? [a, b]\n: c\n", "7:3", "a key must be text"},
        {MINIMAL "\"\": c\n", "7:1", "a key must be text of 1 to 255 bytes"},
        {MINIMAL "\"a\\0b\": c\n", "7:1", "a key must be text of 1 to 255 bytes"},
        {HEAD "  - {name: a, langflow: {url: \"http://l\", tenancy: shared}}\n", "4:43",
         "unknown key \"runtimes[0].langflow.tenancy\""},
        {MINIMAL "offerings:\n  csa: {flows: x}\n", "8:9",
         "unknown key \"offerings.csa.flows\"; did you mean \"flow\"?"},
    };
    check_refusals(r, ARRAY_LEN(r));
}

static void test_kinds(void **state)
{
    (void)state;
    static const struct refusal r[] = {
        {"- a\n", "1:1", "the file must be a map of settings"},
        {"just text\n", "1:1", "the file must be a map of settings"},
        {"", "1:1", "the file says nothing"},
        {"# only a comment\n", "1:1", "the file says nothing"},
        {MINIMAL "log: loud\n", "7:6", "log must be a map"},
        {MINIMAL "log: [a]\n", "7:6", "log must be a map"},
        {MINIMAL "log:\n  level: [info]\n", "8:10", "log.level takes a single value, not a list"},
        {MINIMAL "log:\n  level: {a: b}\n", "8:10", "log.level takes a single value, not a map"},
        {MINIMAL "log:\n  level:\n", "8:9", "log.level has no value; write one or remove the key"},
        {MINIMAL "log: {level: ~}\n", "7:14", "log.level has no value"},
        {MINIMAL "log: {level: null}\n", "7:14", "log.level has no value"},
        {MINIMAL "log: {level: \"null\"}\n", "7:14",
         "log.level must be one of debug|info|warn|error"},
        {MINIMAL "log: {level: inf}\n", "7:14", "log.level must be one of debug|info|warn|error"},
        {MINIMAL "log: {level: \"debug|info\"}\n", "7:14", "log.level must be one of"},
        {MINIMAL "log: {level: \"\"}\n", "7:14", "log.level must be one of"},
        {MINIMAL "scheduling: {runtime_max: 0}\n", "7:27",
         "scheduling.runtime_max must be a whole number from 1 to 100000"},
        {MINIMAL "scheduling: {organization_max: many}\n", "7:32",
         "scheduling.organization_max must be a whole number from 1 to 100000"},
        {MINIMAL "scheduling: {weights: {pro: 101}}\n", "7:29",
         "scheduling.weights.pro must be a whole number from 1 to 100"},
        {MINIMAL "scheduling: {weights: {gold: 1}}\n", "7:24", "gold"},
        {MINIMAL "worker: {max_jobs: \"10\"}\n", "7:20",
         "worker.max_jobs is a number; write it without quotes"},
        {MINIMAL "worker: {max_jobs: ten}\n", "7:20", "must be a whole number from 1 to 100000"},
        {MINIMAL "worker: {max_jobs: 1.5}\n", "7:20", "must be a whole number"},
        {MINIMAL "worker: {max_jobs: 0x10}\n", "7:20", "must be a whole number"},
        {MINIMAL "worker: {max_jobs: 99999999999999999999}\n", "7:20", "must be a whole number"},
        {MINIMAL "worker: {max_jobs: -1}\n", "7:20", "must be a whole number"},
        {MINIMAL "worker: {drain: 25}\n", "7:17", "must be a duration from 0 to 1h"},
        {MINIMAL "worker: {drain: -5s}\n", "7:17", "must be a duration"},
        {MINIMAL "worker: {drain: 1.5m}\n", "7:17", "must be a duration"},
        {MINIMAL "retention: {events: -1d}\n", "7:21", "retention.events must be a duration"},
        {MINIMAL "retry: {factor: \"2\"}\n", "7:17", "retry.factor is a number"},
        {MINIMAL "retry: {factor: 2.}\n", "7:17", "must be a number from 1 to 10"},
        {MINIMAL "retry: {factor: 1e1}\n", "7:17", "must be a number from 1 to 10"},
        {MINIMAL "retry: {factor: 10.000001}\n", "7:17", "must be a number from 1 to 10"},
        {MINIMAL "retry: {factor: 0.999999}\n", "7:17", "must be a number from 1 to 10"},
        {MINIMAL "retry: {factor: 1.0000001}\n", "7:17", "at most 6 decimals"},
        {MINIMAL "retry: {factor: .nan}\n", "7:17", "must be a number from 1 to 10"},
        {MINIMAL "offerings: [csa]\n", "7:12", "offerings must be a map"},
        {MINIMAL "offerings: {csa: [a]}\n", "7:18", "offerings.csa must be a map"},
        {MINIMAL "offerings: {csa: {capabilities: rag}}\n", "7:33", "capabilities must be a list"},
        {MINIMAL "offerings: {csa: {capabilities: [[rag]]}}\n", "7:34", "takes a single value"},
        {MINIMAL "offerings: {csa: {capabilities: [rag, \"\"]}}\n", "7:39",
         "must have 1 to 255 bytes"},
        {MINIMAL "offerings: {csa: {variables: {a: [b]}}}\n", "7:34",
         "offerings.csa.variables.a takes a single value, not a list"},
        {MINIMAL "http: {listen: \"a\\u0007:1\"}\n", "7:16", "without control characters"},
        {HEAD "  - text\n", "4:5", "runtimes[0] must be a map"},
        {"database: {url: x}\nkafka: {bootstrap_servers: b}\nruntimes: {a: b}\n", "3:11",
         "runtimes must be a list"},
    };
    check_refusals(r, ARRAY_LEN(r));
}

/* What YAML could not carry back is not let in. */
static void test_characters(void **state)
{
    (void)state;
    static const char *const foreign[] = {"\\u2028", "\\u2029", "\\u0085", "\\uFFFE", "\\uFFFF",
                                          "\\uFEFF", "\\x7F",   "\\x1F",   "\\t",     "\\n"};
    static const char *const good[] = {"\\u2027", "\\u202A",     "\\u00A0",
                                       "\\uFFFD", "\\U0010FFFF", "\\\""};
    char text[512];
    for (size_t i = 0; i < ARRAY_LEN(foreign); i++) {
        snprintf(text, sizeof(text), MINIMAL "offerings: {a: {flow: \"x%s\"}}\n", foreign[i]);
        refused(text, "7:23", "offerings.a.flow must be UTF-8 text in one line");
    }
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        snprintf(text, sizeof(text), MINIMAL "offerings: {a: {flow: \"x%s\"}}\n", good[i]);
        struct config *c = load(text);
        char *printed = print(c, false);
        struct config *again = load(printed);
        assert_string_equal(again->offerings[0].flow, c->offerings[0].flow);
        config_free(again);
        free(printed);
        config_free(c);
    }
}

static void test_missing(void **state)
{
    (void)state;
    static const struct refusal r[] = {
        {"kafka: {bootstrap_servers: b}\n", "1:1", "database.url is missing; write PostgreSQL's"},
        {"log: {}\n\ndatabase: {}\n", "3:11", "database.url is missing"},
        {"database:\n", "1:10", "database.url is missing"},
        {"database: {url: x}\nkafka:\n  group_id: g\n", "3:3",
         "kafka.bootstrap_servers is missing"},
        {"database: {url: x}\nkafka: {bootstrap_servers: b}\n", "1:1",
         "runtimes is missing; write at least"},
        {"database: {url: x}\nkafka: {bootstrap_servers: b}\nruntimes: []\n", "1:1",
         "runtimes is missing"},
        {HEAD "  - mode: shared\n", "4:5", "runtimes[0].name is missing"},
        {HEAD "  - name: a\n", "4:5", "runtimes[0].langflow.url is missing"},
        {HEAD "  - name: a\n    langflow: {url: \"http://l\"}\n    ragflow:\n      api: ragflow\n",
         "7:7", "runtimes[0].ragflow.url is missing; write RAGFlow's address"},
    };
    check_refusals(r, ARRAY_LEN(r));
}

#define PRODUCTS "langflow: {url: \"http://l\"}, ragflow: {url: \"http://r\"}"

static void test_whole(void **state)
{
    (void)state;
    static const struct refusal r[] = {
        {HEAD "  - {name: a, mode: dedicated, " PRODUCTS "}\n", "4:21",
         "runtimes[0] is dedicated; write organization"},
        {HEAD "  - {name: a, organization: x, " PRODUCTS "}\n", "4:29",
         "runtimes[0] is shared; remove organization"},
        {HEAD "  - {name: a, " PRODUCTS "}\n  - {name: a, " PRODUCTS "}\n", "5:12",
         "runtimes[1] has the name of runtimes[0]"},
        {HEAD "  - {name: a, mode: dedicated, organization: x, " PRODUCTS "}\n"
              "  - {name: b, mode: dedicated, organization: x, " PRODUCTS "}\n",
         "5:46", "runtimes[1] serves the organization of runtimes[0]"},
        {HEAD "  - {name: A, " PRODUCTS "}\n", "4:12",
         "runtimes[0].name must be of lower-case letters"},
        {HEAD "  - {name: a, mode: private, " PRODUCTS "}\n", "4:21",
         "must be one of shared|dedicated"},
        {HEAD "  - {name: a, langflow: {api: ragflow, url: \"http://l\"}}\n", "4:31",
         "must be one of langflow|workspaces"},
        {HEAD "  - {name: a, ragflow: {api: workspaces, url: \"http://l\"}}\n", "4:30",
         "must be one of ragflow|collections"},
        {HEAD "  - {name: a, ragflow: {tenancy: none, url: \"http://l\"}}\n", "4:34",
         "must be one of shared|organization|subscription"},
        {MINIMAL "retry: {initial: 10s, max: 9s}\n", "7:28",
         "retry.max is shorter than retry.initial"},
        {MINIMAL "retry: {initial: 10m}\n", "7:8", "retry.max is shorter than retry.initial"},
        {MINIMAL "retry: {deadline: 500ms}\n", "7:19", "retry.deadline is shorter than"},
        {MINIMAL "waldur: {url: \"https://w\"}\n", "7:15",
         "waldur.url is set without waldur.token"},
        {MINIMAL "waldur: {token: " PLANTED "}\n", "7:17",
         "waldur.token is set without waldur.url"},
        {MINIMAL "waldur: {hook_secret: " PLANTED PLANTED "}\n", "7:23",
         "waldur.hook_secret is set without waldur.url"},
        {MINIMAL "waldur: {hook_secret: \"" PLANTED PLANTED "/\"}\n", "7:23",
         "waldur.hook_secret must be of letters"},
        {MINIMAL "waldur: {hook_secret: short}\n", "7:23",
         "waldur.hook_secret must have 16 to 255"},
        {MINIMAL "waldur: {url: \"http://w\", token: t, keys: waldur}\n", "7:43",
         "waldur.keys: waldur needs secrets.master_key"},
        {MINIMAL "waldur: {plans: {Big: huge}}\n", "7:23", "waldur.plans.Big must be one of free"},
        {MINIMAL "waldur: {endpoints: {chat: \"ftp://x\"}}\n", "7:28",
         "waldur.endpoints.chat must be a name"},
        {MINIMAL "offerings:\n  a: {uuid: 0D5F0D0F7F0C4A8E9A666A5D4C1B2E10}\n"
                 "  b: {uuid: 0d5f0d0f-7f0c-4a8e-9a66-6a5d4c1b2e10}\n",
         "9:13", "offerings.b has the uuid of offerings.a"},
        {MINIMAL "offerings: {a: {uuid: 5}}\n", "7:23", "offerings.a.uuid must be a UUID"},
        {MINIMAL "offerings: {\"a b\": {}}\n", "7:13",
         "offerings: the key a... must be of letters"},
        {MINIMAL "offerings: {\"--\": {}}\n", "7:13", "offerings: the key -- must be of letters"},
        {MINIMAL "secrets: {master_key: " PLANTED "}\n", "7:23",
         "secrets.master_key must be 32 bytes"},
        {MINIMAL "secrets: {reveal_public_key: AAAA}\n", "7:30", "must be 32 bytes in base64"},
    };
    check_refusals(r, ARRAY_LEN(r));
}

static void test_kafka(void **state)
{
    (void)state;
#define KAFKA(x)                                                                                   \
    "database: {url: x}\nruntimes: [{name: a, " PRODUCTS "}]\nkafka:\n  bootstrap_servers: b\n" x
    static const struct refusal r[] = {
        {KAFKA("  topics: {events: t, outcomes: t}\n"), "5:33",
         "kafka.topics.outcomes is the same topic as kafka.topics.events"},
        {KAFKA("  topics: {events: marketplace.subscriptions.dlq}\n"), "5:11",
         "kafka.topics.dead_letters is the same topic as kafka.topics.events"},
        {KAFKA("  topics: {events: \"a b\"}\n"), "5:20", "must be a topic's name"},
        {KAFKA("  topics: {events: ..}\n"), "5:20", "must be a topic's name"},
        {KAFKA("  properties: {group.id: x}\n"), "5:16", "set kafka.group_id"},
        {KAFKA("  properties: {bootstrap.servers: x}\n"), "5:16", "set kafka.bootstrap_servers"},
        {KAFKA("  properties: {enable.auto.offset.store: true}\n"), "5:16",
         "offsets follow the database"},
        {KAFKA("  properties: {\"sasl.password:" PLANTED "\": x}\n"), "5:16",
         "the key sasl.password... is no property"},
        {KAFKA("  properties: {sasl.password: }\n"), "5:31",
         "kafka.properties.sasl.password has no value"},
        {KAFKA("  properties: {sasl.password: \"" PLANTED "\\0\"}\n"), "5:31", "NUL"},
        {KAFKA("  properties: {sasl.password: \"" PLANTED "\\b\"}\n"), "5:31",
         "kafka.properties.sasl.password must be UTF-8 text"},
        {KAFKA("  properties: [a]\n"), "5:15", "kafka.properties must be a map"},
    };
    check_refusals(r, ARRAY_LEN(r));
    struct config *c = load(KAFKA("  properties: {ssl.key.pem: \"a\\nb\\n\", retries: 1000}\n"));
    assert_string_equal(c->kafka_properties[0].value, "a\nb\n");
    assert_string_equal(c->kafka_properties[1].value, "1000");
    config_free(c);
}

static void test_urls(void **state)
{
    (void)state;
    static const struct {
        const char *url, *kept; /* NULL: refused */
    } urls[] = {
        {"http://h", "http://h"},
        {"https://h.example:8443/a/b", "https://h.example:8443/a/b"},
        {"https://h/api/", "https://h/api"},
        {"http://h///", "http://h"},
        {"http://[::1]:80/", "http://[::1]:80"},
        {"http://h:65535", "http://h:65535"},
        {"http://h:65536", NULL},
        {"http://h:0", NULL},
        {"http://h:", NULL},
        {"http://h:80x", NULL},
        {"http://", NULL},
        {"http:///path", NULL},
        {"ftp://h", NULL},
        {"h:80", NULL},
        {"http://u:" PLANTED "@h", NULL},
        {"http://u@h", NULL},
        {"http://h?a=b", NULL},
        {"http://h/#f", NULL},
        {"http://h/a b", NULL},
        {"http://h/\\\\", NULL},
        {"http://[::1", NULL},
        {"http://[]", NULL},
        {"http://h\xC3\xA4", NULL},
        {"http://h/\xC3\xA4", NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(urls); i++) {
        char text[512];
        snprintf(text, sizeof(text), MINIMAL "waldur: {token: t, url: \"%s\"}\n", urls[i].url);
        if (urls[i].kept) {
            struct config *c = load(text);
            assert_string_equal(c->waldur_url, urls[i].kept);
            config_free(c);
        } else {
            refused(text, "7:25", "waldur.url must ");
        }
    }
}

static void test_url_secrets(void **state)
{
    (void)state;
    static const struct refusal r[] = {
        {MINIMAL "waldur: {token: t, url: \"http://u:" PLANTED "@h\"}\n", "7:25",
         "must not carry a user name or password"},
        {MINIMAL "waldur: {token: t, url: \"http://h?key=" PLANTED "\"}\n", "7:25",
         "must not carry a query"},
    };
    check_refusals(r, ARRAY_LEN(r));
}

static void test_listen(void **state)
{
    (void)state;
    static const char *const good[] = {"127.0.0.1:9464", "[::1]:0", "localhost:65535",
                                       "0.0.0.0:80"};
    static const char *const wrong[] = {"9464",   ":9464", "h",    "h:65536",
                                        "::1:80", "[::1]", "h:-1", "h:1 "};
    char text[512];
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        snprintf(text, sizeof(text), MINIMAL "http: {listen: \"%s\"}\n", good[i]);
        struct config *c = load(text);
        assert_string_equal(c->http_listen, good[i]);
        config_free(c);
    }
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        snprintf(text, sizeof(text), MINIMAL "http: {listen: \"%s\"}\n", wrong[i]);
        refused(text, "7:16", "http.listen must be host:port");
    }
}

/* ---- env: and file: ---- */

static void test_env(void **state)
{
    (void)state;
    setenv("TEST_JOBS", "77", 1);
    setenv("TEST_EMPTY", "", 1);
    setenv("TEST_BAD", PLANTED "\n", 1);
    setenv("TEST_LATIN", "\xE4" PLANTED, 1);
    unsetenv("TEST_UNSET");
    setenv("TEST_FACTOR", "1.25", 1);
    struct config *c = load(MINIMAL "worker: {max_jobs: \"env:TEST_JOBS\"}\n"
                                    "retry: {factor: env:TEST_FACTOR}\n");
    assert_int_equal(c->worker_max_jobs, 77);
    assert_true(c->retry_factor == 1.25);
    config_free(c);
    static const struct refusal r[] = {
        {MINIMAL "log: {level: env:TEST_UNSET}\n", "7:14",
         "log.level: environment variable TEST_UNSET is not set; set it"},
        {MINIMAL "log: {level: \"env:TEST_EMPTY\"}\n", "7:14",
         "variable TEST_EMPTY is empty; set it"},
        {MINIMAL "log: {level: \"env:\"}\n", "7:14", "env: wants a variable's name"},
        {MINIMAL "log: {level: \"env:9A\"}\n", "7:14", "env: wants a variable's name"},
        {MINIMAL "log: {level: \"env:A-B\"}\n", "7:14", "env: wants a variable's name"},
        {MINIMAL "log: {level: env:TEST_BAD}\n", "7:14", "log.level must be one of"},
        {MINIMAL "http: {listen: env:TEST_BAD}\n", "7:16", "http.listen must be UTF-8 text"},
        {MINIMAL "http: {listen: env:TEST_LATIN}\n", "7:16", "http.listen must be UTF-8 text"},
        {MINIMAL "worker: {max_jobs: env:TEST_BAD}\n", "7:20", "must be a whole number"},
        {MINIMAL "worker: {drain: env:TEST_BAD}\n", "7:17", "must be a duration"},
        {MINIMAL "waldur: {token: t, url: env:DATABASE_URL}\n", "7:25",
         "waldur.url must be http(s)"},
        {MINIMAL "offerings: {a: {uuid: env:TEST_BAD}}\n", "7:23", "must be a UUID"},
        {MINIMAL "offerings: {a: {variables: {b: env:TEST_LATIN}}}\n", "7:32",
         "must be UTF-8 text"},
    };
    check_refusals(r, ARRAY_LEN(r));
}

static void file_value(const char *content, size_t n, const char *wanted, const char *words)
{
    char path[128], text[512];
    path_in_dir(path, "value");
    write_file(path, content, n);
    snprintf(text, sizeof(text), MINIMAL "waldur: {url: \"http://w\", token: \"file:%s\"}\n", path);
    if (!words) {
        struct config *c = load(text);
        assert_string_equal(c->waldur_token, wanted);
        config_free(c);
        return;
    }
    refused(text, "7:34", words);
    char in_message[160];
    snprintf(in_message, sizeof(in_message), "waldur.token: file %s", path);
    refused(text, "7:34", in_message);
}

static void test_file(void **state)
{
    (void)state;
    file_value("secret\n", 7, "secret", NULL);
    file_value("secret", 6, "secret", NULL);
    file_value("secret\r\n", 8, "secret", NULL);
    file_value("first\nsecond\n", 13, "first", NULL);
    file_value("env:HOME\n", 9, "env:HOME", NULL); /* once is enough */
    file_value("", 0, NULL, "has nothing in its first line");
    file_value("\nsecret\n", 8, NULL, "has nothing in its first line");
    file_value(PLANTED "\0x\n", strlen(PLANTED) + 3, NULL, "holds a NUL character");
    char *big = letters(CONFIG_VALUE_FILE_MAX + 1);
    memcpy(big, "token\n", 6); // NOLINT(bugprone-not-null-terminated-result): more follows
    file_value(big, CONFIG_VALUE_FILE_MAX, "token", NULL);
    file_value(big, CONFIG_VALUE_FILE_MAX + 1, NULL, "too large");
    free(big);
    char text[512], fifo[128];
    path_in_dir(fifo, "fifo");
    assert_int_equal(mkfifo(fifo, 0600), 0);
    snprintf(text, sizeof(text), MINIMAL "log: {level: \"file:%s\"}\n", fifo);
    refused(text, "7:14", "not a regular file");
    refused(MINIMAL "log: {level: file:a}\n", "7:14", "file: wants a path that begins with \"/\"");
    refused(MINIMAL "log: {level: \"file:/nonexistent/x\"}\n", "7:14",
            "log.level: file /nonexistent/x: No such file or directory");
}

/* ---- print ---- */

#define SECRETIVE                                                                                  \
    "database: {url: \"postgresql://u:" PLANTED "@h/d\"}\n"                                        \
    "kafka:\n"                                                                                     \
    "  bootstrap_servers: b\n"                                                                     \
    "  properties:\n"                                                                              \
    "    client.id: visible-id\n"                                                                  \
    "    ssl.key.location: /etc/visible-location\n"                                                \
    "    sasl.password: " PLANTED "\n"                                                             \
    "    ssl.key.password: " PLANTED "\n"                                                          \
    "    ssl.key.pem: " PLANTED "\n"                                                               \
    "    sasl.jaas.config: " PLANTED "\n"                                                          \
    "    sasl.oauthbearer.client.secret: " PLANTED "\n"                                            \
    "    sasl.oauthbearer.config: " PLANTED "\n"                                                   \
    "    my.TOKEN.value: " PLANTED "\n"                                                            \
    "    harmless: env:WALDUR_TOKEN\n"                                                             \
    "runtimes:\n"                                                                                  \
    "  - name: a\n"                                                                                \
    "    langflow: {url: \"http://l\", api_key: " PLANTED "}\n"                                    \
    "    ragflow: {url: \"http://r\", api_key: env:RAGFLOW_API_KEY}\n"                             \
    "offerings:\n"                                                                                 \
    "  csa:\n"                                                                                     \
    "    variables: {openai_api_key: " PLANTED ", tone: visible-tone,\n"                           \
    "                db: \"postgres://u:" PLANTED "@h/d\"}\n"                                      \
    "waldur: {url: \"http://w\", token: " PLANTED "}\n"                                            \
    "secrets: {master_key: \"" KEY_A "\", reveal_public_key: \"" KEY_B "\"}\n"

static void test_masks(void **state)
{
    (void)state;
    static const char *const visible[] = {"visible-id", "visible-location", "visible-tone", KEY_B};
    struct config *c = load(SECRETIVE);
    for (int json = 0; json <= 1; json++) {
        char *text = print(c, json);
        assert_null(strstr(text, PLANTED));
        assert_null(strstr(text, KEY_A));
        for (size_t i = 0; i < ARRAY_LEN(visible); i++) {
            assert_non_null(strstr(text, visible[i]));
        }
        int masks = 0;
        for (const char *p = text; (p = strstr(p, "\"********\"")) != NULL; p++) {
            masks++;
        }
        assert_int_equal(masks, 1 + 8 + 2 + 2 + 1 + 1);
        free(text);
    }
    config_free(c);
}

static void test_print_bounds(void **state)
{
    (void)state;
    struct config *c = load(MINIMAL);
    struct buf b;
    buf_init(&b, 100);
    assert_int_equal(config_print_yaml(c, &b), -1);
    buf_reset(&b);
    assert_int_equal(config_print_json(c, &b), -1);
    buf_done(&b);
    config_free(c);
}

/* Loads what was printed; the masked key is the one mask that is no value. */
static void check_round_trip(const struct config *c)
{
    char *first = print(c, false);
    char *json = print(c, true);
    char *keyed = replaced(first, "master_key: \"********\"", "master_key: \"" KEY_A "\"");
    char *filled =
        replaced(keyed, "hook_secret: \"********\"", "hook_secret: " PLANTED "-" PLANTED);
    free(keyed);
    struct config *again = load(filled);
    char *second = print(again, false);
    char *second_json = print(again, true);
    /* A URL, an env: or file: value is masked for what it is; its mask no longer is one. */
    assert_string_equal(first, second);
    assert_string_equal(json, second_json);
    config_free(again);
    free(first);
    free(filled);
    free(second);
    free(json);
    free(second_json);
}

static void test_round_trip(void **state)
{
    (void)state;
    char *text = sample();
    const char *const texts[] = {text, MINIMAL, SECRETIVE,
                                 MINIMAL
                                 "retry: {factor: 1.000001, deadline: 90s}\n"
                                 "offerings: {a: {capabilities: [\"- x\", \"a: b\"],\n"
                                 "  variables: {\"k: #\": \"l1\\nl2\\t\\\"q\\\" \\u00e4\"}}}\n"};
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        struct config *c = load(texts[i]);
        check_round_trip(c);
        config_free(c);
    }
    free(text);
}

static void test_json(void **state)
{
    (void)state;
    static const struct json_limits limits = {.size = TEXT_MAX, .depth = 16, .string = 65536};
    char *text = sample();
    struct config *c = load(text);
    char *json = print(c, true);
    cJSON *tree = NULL;
    struct json_fault fault;
    assert_int_equal(json_parse(json, strlen(json), &limits, &tree, &fault), 0);
    int64_t n = 0;
    assert_true(json_i64(tree, "worker.max_jobs", &n) && n == 1000);
    assert_string_equal(json_str(tree, "worker.drain"), "25s");
    assert_string_equal(json_str(tree, "kafka.topics.events"), "marketplace.subscriptions");
    assert_string_equal(json_str(tree, "database.url"), "********");
    assert_string_equal(json_str(tree, "log.level"), "info");
    assert_true(json_has_string(tree, "offerings.csa.capabilities", "rag"));
    const cJSON *shared = cJSON_GetArrayItem(json_get(tree, "runtimes"), 0);
    assert_string_equal(json_str(shared, "mode"), "shared");
    assert_true(cJSON_IsNull(json_get(shared, "organization")));
    assert_true(cJSON_IsNumber(json_get(tree, "retry.factor")));
    cJSON_Delete(tree);
    free(json);
    config_free(c);
    free(text);
}

/* ---- hostile files ---- */

static char *repeated(const char *unit, size_t n, size_t *len)
{
    size_t k = strlen(unit);
    char *s = malloc(n * k + 1);
    assert_non_null(s);
    for (size_t i = 0; i < n; i++) {
        memcpy(s + i * k, unit, k);
    }
    s[n * k] = '\0';
    *len = n * k;
    return s;
}

static void test_hostile(void **state)
{
    (void)state;
    static const struct refusal r[] = {
        {"a: &x [1]\nb: *x\n", "1:4", "anchors are not accepted"},
        {"a: &x y\n", "1:4", "anchors are not accepted"},
        {"&x a: y\n", "1:1", "anchors are not accepted"},
        {"a: *x\n", "1:4", "aliases are not accepted"},
        {"a: !!int 5\n", "1:4", "tags are not accepted"},
        {"a: ! 5\n", "1:4", "tags are not accepted"},
        {"a: !x [5]\n", "1:4", "tags are not accepted"},
        {"a:\n\tb: c\n", "2:1", "no tabs"},
        {"a: b\n---\nc: d\n", "2:1", "a second document begins here"},
        {"a: [b\n", "2:1", "not YAML: "},
        {"a: \"b\n", "2:1", "not YAML: "},
        {"a: b: c\n", "1:5", "not YAML: "},
        {"a: \"\\x\"\n", "1:7", "not YAML: "},
        {"a: b\nc\n", "3:1", "not YAML: "},
        {"a: \xFF\n", "1:4", "save the file as UTF-8"},
        {"\xC3\xA4: b\n\xC3\xA4: \xC3\n", "2:5", "save the file as UTF-8"},
        {"a: \xED\xA0\x80\n", "1:4", "save the file as UTF-8"},
        {"a: b\x01\n", "1:5", "control characters"},
        {"a: \"\\0\"\n", "1:4", "NUL"},
        {"[[[[[[[[[[[[[[[[[", "1:17", "nested deeper than 16 levels"},
        {"{a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: ", "1:65",
         "nested deeper than 16 levels"},
    };
    check_refusals(r, ARRAY_LEN(r));
    refused_bytes("a: b\0c\n", 7, "1:5", "control characters");
    refused_bytes("\xFE\xFF\0a\0:\0 \0b", 10, "1:1", "save the file as UTF-8");
    struct config *c = load("\xEF\xBB\xBF" MINIMAL); /* a UTF-8 byte order mark is no harm */
    config_free(c);
}

static void test_hostile_sizes(void **state)
{
    (void)state;
    struct config *c = NULL;
    struct err err;
    size_t n = 0;
    char *s = repeated("# comment\n", 2 * 1024 * 1024 / 10, &n);
    assert_int_equal(load_bytes(s, n, &c, &err), -1);
    assert_non_null(
        strstr(err.msg, "c.yaml: too large; name a readable file of at most 1048576 bytes"));
    assert_int_equal(load_bytes(s, CONFIG_FILE_MAX, &c, &err), -1);
    assert_non_null(strstr(err.msg, "the file says nothing"));
    free(s);
    s = repeated("[", CONFIG_FILE_MAX, &n);
    refused_bytes(s, n, "1:17", "nested deeper");
    free(s);
    s = repeated("- a\n", CONFIG_CHILDREN_MAX + 1, &n);
    refused_bytes(s, n, "1025:3", "more than 1024 entries in one place");
    free(s);
    /* 65 lists of 1,024 items in one map: the total ends first. */
    char *items = repeated("a,", CONFIG_CHILDREN_MAX, &n);
    struct buf b;
    buf_init(&b, CONFIG_FILE_MAX);
    for (int i = 0; i < 65; i++) {
        buf_addf(&b, "k%d: [%s]\n", i, items);
    }
    refused_bytes(buf_str(&b), b.len, "64:1925", "more than 65536 values in all");
    buf_done(&b);
    free(items);
}

static void test_many(void **state)
{
    (void)state;
    for (int n = CONFIG_RUNTIMES_MAX; n <= CONFIG_RUNTIMES_MAX + 1; n++) {
        struct buf b;
        buf_init(&b, CONFIG_FILE_MAX);
        buf_adds(&b, HEAD);
        for (int i = 0; i < n; i++) {
            buf_addf(&b, "  - {name: r%d, " PRODUCTS "}\n", i);
        }
        if (n > CONFIG_RUNTIMES_MAX) {
            refused(buf_str(&b), "4:3", "runtimes may have at most 256 entries");
        } else {
            struct config *c = load(buf_str(&b));
            assert_int_equal(c->n_runtimes, n);
            assert_non_null(config_runtime_named(c, "r255"));
            config_free(c);
        }
        buf_done(&b);
    }
}

/* ---- mutations ---- */

static const char *const tokens[] = {"env:",
                                     "file:",
                                     "- ",
                                     "\t",
                                     "{",
                                     "}",
                                     "[",
                                     "]",
                                     "*a",
                                     "&a ",
                                     "!!str ",
                                     ": ",
                                     "#",
                                     "\n",
                                     "\"",
                                     "'",
                                     "|\n",
                                     ">-\n",
                                     "\xFF",
                                     "~",
                                     "0",
                                     "-1",
                                     "1e9",
                                     "null",
                                     ",",
                                     "\\",
                                     "? ",
                                     "---\n",
                                     "%Y ",
                                     "\xC2",
                                     "env:LANGFLOW_API_KEY",
                                     "99999999999999999999",
                                     "\xEF\xBB\xBF"};

static void mutate(struct rng *r, struct buf *out, const char *text, size_t n)
{
    size_t at = rng_below(r, n), len = rng_below(r, n - at < 40 ? n - at : 40);
    buf_add(out, text, at);
    switch (rng_below(r, 6)) {
    case 0: /* another byte, NUL among them */
        buf_addc(out, (char)rng_below(r, 256));
        buf_add(out, text + at + 1, n - at - 1);
        return;
    case 1: /* cut out */
        buf_add(out, text + at + len, n - at - len);
        return;
    case 2: /* twice */
        buf_add(out, text + at, len);
        break;
    case 3: /* something from elsewhere */
        buf_add(out, text + rng_below(r, n - len), len);
        break;
    case 4:
        buf_adds(out, tokens[rng_below(r, ARRAY_LEN(tokens))]);
        break;
    default: /* the end is missing, now and then */
        if (rng_below(r, 8) == 0) {
            return;
        }
        buf_addc(out, '\n');
        break;
    }
    buf_add(out, text + at, n - at);
}

/* Any file is accepted or refused with a place, and what is accepted prints as itself. */
static bool check_mutant(const struct buf *b)
{
    struct config *c = NULL;
    struct err err;
    if (load_bytes(buf_str(b), b->len, &c, &err) != 0) {
        assert_int_equal(err.class, ERR_INVALID);
        assert_true(str_starts(err.msg, file));
        assert_null(strstr(err.msg, PLANTED));
        return false;
    }
    check_round_trip(c);
    config_free(c);
    return true;
}

static void test_mutations(void **state)
{
    (void)state;
    const char *given = getenv("PROVISIONER_TEST_SEED");
    int64_t seed = 0;
    if (!given || !str_to_i64(given, &seed)) {
        seed = clock_wall_us();
    }
    print_message("seed: PROVISIONER_TEST_SEED=%lld\n", (long long)seed);
    struct rng r;
    rng_seed(&r, (uint64_t)seed);
    char *text = sample();
    int accepted = 0;
    for (int i = 0; i < FUZZ_ROUNDS; i++) {
        struct buf b, next;
        buf_init(&b, TEXT_MAX);
        buf_adds(&b, text);
        for (uint64_t k = 1 + rng_below(&r, 4); k > 0 && b.len > 1; k--) {
            buf_init(&next, TEXT_MAX);
            mutate(&r, &next, buf_str(&b), b.len);
            buf_done(&b);
            b = next;
        }
        accepted += check_mutant(&b);
        buf_done(&b);
    }
    print_message("%d of %d accepted\n", accepted, FUZZ_ROUNDS);
    assert_in_range(accepted, FUZZ_ROUNDS / 20, FUZZ_ROUNDS * 19 / 20);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_runtime_defaults),
        cmocka_unit_test(test_flows),
        cmocka_unit_test(test_public_key),
        cmocka_unit_test(test_products_need),
        cmocka_unit_test(test_domains),
        cmocka_unit_test(test_table_and_sample),
        cmocka_unit_test(test_sample_loads),
        cmocka_unit_test(test_look_ups),
        cmocka_unit_test(test_which_file),
        cmocka_unit_test(test_ranges),
        cmocka_unit_test(test_runtime_ranges),
        cmocka_unit_test(test_text_lengths),
        cmocka_unit_test(test_keys),
        cmocka_unit_test(test_kinds),
        cmocka_unit_test(test_characters),
        cmocka_unit_test(test_missing),
        cmocka_unit_test(test_whole),
        cmocka_unit_test(test_kafka),
        cmocka_unit_test(test_urls),
        cmocka_unit_test(test_url_secrets),
        cmocka_unit_test(test_listen),
        cmocka_unit_test(test_env),
        cmocka_unit_test(test_file),
        cmocka_unit_test(test_masks),
        cmocka_unit_test(test_print_bounds),
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_json),
        cmocka_unit_test(test_hostile),
        cmocka_unit_test(test_hostile_sizes),
        cmocka_unit_test(test_many),
        cmocka_unit_test(test_mutations),
    };
    return cmocka_run_group_tests_name("config", tests, setup, teardown);
}
