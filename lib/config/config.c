/*
 * The settings themselves, one table a kind of map, and what no single row can check.
 */
#include "config/config.h"

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/str.h"
#include "config/node.h"
#include "config/settings.h"
#include "config/value.h"

#define SECOND  INT64_C(1000)
#define MINUTE  (60 * SECOND)
#define HOUR    (60 * MINUTE)
#define DAY     (24 * HOUR)
#define FOREVER (36500 * DAY)

enum {
    URL_MAX = 1024,
    SLUG_MAX = 255,
    SECRET_MAX = 8192,
    PASSWORD_MAX = 183,
    PAIRS_MAX = 256,
    WEIGHT_MAX = 100,
    CAPABILITIES_MAX = 64,
    ENDPOINT_NAME_MAX = 150,
    ENDPOINT_URL_MAX = 400
};

static const char default_file[] = "/etc/provisioner/provisioner.yaml";

#define AT(field) offsetof(struct config_runtime, field)
static const struct config_setting runtime_rows[] = {
    {.path = "name",
     .type = CONFIG_TEXT,
     .offset = AT(name),
     .min = 1,
     .max = 63,
     .check = config_check_runtime_name,
     .required = true,
     .doc = "a name that no other runtime has, of lower-case letters, digits and \"-\""},
    {.path = "mode",
     .type = CONFIG_CHOICE_INDEX,
     .offset = AT(mode),
     .fallback = "shared",
     .choices = "shared|dedicated",
     .doc = "whom it serves"},
    {.path = "organization",
     .type = CONFIG_TEXT,
     .offset = AT(organization),
     .min = 1,
     .max = SLUG_MAX,
     .doc = "the slug of the organization that a dedicated runtime serves"},
    {.path = "langflow.api",
     .type = CONFIG_CHOICE,
     .offset = AT(langflow.api),
     .fallback = "langflow",
     .choices = "langflow|workspaces",
     .doc = "the dialect it speaks"},
    {.path = "langflow.url",
     .type = CONFIG_TEXT,
     .offset = AT(langflow.url),
     .min = 1,
     .max = URL_MAX,
     .check = config_check_url,
     .required = true,
     .doc = "Langflow's address, http(s)://host[:port][/path]"},
    {.path = "langflow.api_key",
     .type = CONFIG_TEXT,
     .offset = AT(langflow.api_key),
     .min = 1,
     .max = SECRET_MAX,
     .secret = true,
     .doc = "its API key"},
    {.path = "langflow.concurrency",
     .type = CONFIG_INTEGER,
     .offset = AT(langflow.concurrency),
     .fallback = "16",
     .min = 1,
     .max = 1024,
     .doc = "how many requests may be under way at once"},
    {.path = "langflow.timeout",
     .type = CONFIG_DURATION,
     .offset = AT(langflow.timeout_ms),
     .fallback = "30s",
     .min = 100,
     .max = HOUR,
     .doc = "how long one request may take"},
    {.path = "ragflow.api",
     .type = CONFIG_CHOICE,
     .offset = AT(ragflow.api),
     .fallback = "ragflow",
     .choices = "ragflow|collections",
     .doc = "the dialect it speaks"},
    {.path = "ragflow.url",
     .type = CONFIG_TEXT,
     .offset = AT(ragflow.url),
     .min = 1,
     .max = URL_MAX,
     .check = config_check_url,
     .required = true,
     .doc = "RAGFlow's address, http(s)://host[:port][/path]"},
    {.path = "ragflow.api_key",
     .type = CONFIG_TEXT,
     .offset = AT(ragflow.api_key),
     .min = 1,
     .max = SECRET_MAX,
     .secret = true,
     .doc = "its API key"},
    {.path = "ragflow.tenancy",
     .type = CONFIG_CHOICE,
     .offset = AT(ragflow.tenancy),
     .fallback = "shared",
     .choices = "shared|organization|subscription",
     .doc = "who has a RAGFlow tenant of its own"},
    {.path = "ragflow.embedding_models",
     .type = CONFIG_PAIRS,
     .offset = AT(ragflow.embedding_models),
     .also = AT(ragflow.n_embedding_models),
     .max = PAIRS_MAX,
     .doc = "the events' names of embedding models and the product's"},
    {.path = "ragflow.workspace_key",
     .type = CONFIG_CHOICE,
     .offset = AT(ragflow.workspace_key),
     .fallback = "own",
     .choices = "own|tenant-wide",
     .doc = "which of RAGFlow's keys goes into a workspace"},
    {.path = "ragflow.tenant_domain",
     .type = CONFIG_TEXT,
     .offset = AT(ragflow.tenant_domain),
     .fallback = "tenants.invalid",
     .min = 4,
     .max = 100,
     .check = config_check_domain,
     .doc = "the domain of the addresses that RAGFlow's users get"},
    {.path = "ragflow.models_key",
     .type = CONFIG_TEXT,
     .offset = AT(ragflow.models_key),
     .min = 1,
     .max = SECRET_MAX,
     .secret = true,
     .doc = "an API key of the tenant whose models all tenants use (RAGFlow 0.27)"},
    {.path = "ragflow.admin.url",
     .type = CONFIG_TEXT,
     .offset = AT(ragflow.admin_url),
     .min = 1,
     .max = URL_MAX,
     .check = config_check_url,
     .doc = "the admin service's address, http(s)://host[:port][/path]"},
    {.path = "ragflow.admin.email",
     .type = CONFIG_TEXT,
     .offset = AT(ragflow.admin_email),
     .min = 3,
     .max = SLUG_MAX,
     .doc = "the superuser's address"},
    {.path = "ragflow.admin.password",
     .type = CONFIG_TEXT,
     .offset = AT(ragflow.admin_password),
     .min = 1,
     .max = PASSWORD_MAX,
     .secret = true,
     .doc = "the superuser's password"},
    {.path = "ragflow.admin.public_key",
     .type = CONFIG_TEXT,
     .offset = AT(ragflow.public_key_file),
     .min = 1,
     .max = URL_MAX,
     .check = config_check_path,
     .doc = "the file of RAGFlow's public key (conf/public.pem there)"},
    {.path = "ragflow.provider.name",
     .type = CONFIG_TEXT,
     .offset = AT(ragflow.provider),
     .min = 1,
     .max = SLUG_MAX,
     .doc = "the provider of models for each tenant (RAGFlow 0.26)"},
    {.path = "ragflow.provider.instance",
     .type = CONFIG_TEXT,
     .offset = AT(ragflow.provider_instance),
     .fallback = "platform",
     .min = 1,
     .max = SLUG_MAX,
     .doc = "what the provider's settings are called there"},
    {.path = "ragflow.provider.api_key",
     .type = CONFIG_TEXT,
     .offset = AT(ragflow.provider_key),
     .min = 1,
     .max = SECRET_MAX,
     .secret = true,
     .doc = "the provider's API key; tenants can read it"},
    {.path = "ragflow.provider.url",
     .type = CONFIG_TEXT,
     .offset = AT(ragflow.provider_url),
     .min = 1,
     .max = URL_MAX,
     .check = config_check_url,
     .doc = "the provider's address, where it is not its usual one"},
    {.path = "ragflow.concurrency",
     .type = CONFIG_INTEGER,
     .offset = AT(ragflow.concurrency),
     .fallback = "16",
     .min = 1,
     .max = 1024,
     .doc = "how many requests may be under way at once"},
    {.path = "ragflow.timeout",
     .type = CONFIG_DURATION,
     .offset = AT(ragflow.timeout_ms),
     .fallback = "30s",
     .min = 100,
     .max = HOUR,
     .doc = "how long one request may take"},
};
#undef AT

static const struct config_table runtime_table = {
    .rows = runtime_rows, .n = ARRAY_LEN(runtime_rows), .size = sizeof(struct config_runtime)};

#define AT(field) offsetof(struct config_offering, field)
static const struct config_setting offering_rows[] = {
    {.path = "uuid",
     .type = CONFIG_UUID,
     .offset = AT(uuid),
     .doc = "the Waldur offering it stands for"},
    {.path = "flow",
     .type = CONFIG_TEXT,
     .offset = AT(flow),
     .min = 1,
     .max = SLUG_MAX,
     .doc = "the flow of events that name none"},
    {.path = "capabilities",
     .type = CONFIG_TEXTS,
     .offset = AT(capabilities),
     .also = AT(n_capabilities),
     .max = CAPABILITIES_MAX,
     .doc = "the capabilities of events that name none"},
    {.path = "variables",
     .type = CONFIG_PAIRS,
     .offset = AT(variables),
     .also = AT(n_variables),
     .max = PAIRS_MAX,
     .secret = true,
     .doc = "a workspace's variables; an event's go over them"},
    /* The isolation model's settings, "Ragflow collection". */
    {.path = "knowledge_base.embedding_model",
     .type = CONFIG_TEXT,
     .offset = AT(embedding_model),
     .fallback = "text-embedding-3-small",
     .min = 1,
     .max = SLUG_MAX,
     .doc = "the embedding model of events that name none"},
    {.path = "knowledge_base.chunk_size",
     .type = CONFIG_INTEGER,
     .offset = AT(chunk_size),
     .fallback = "512",
     .min = 1,
     .max = 2048,
     .doc = "tokens in a chunk, for events that do not say"},
    {.path = "knowledge_base.chunk_overlap",
     .type = CONFIG_INTEGER,
     .offset = AT(chunk_overlap),
     .fallback = "50",
     .min = 0,
     .max = 2047,
     .doc = "tokens that chunks share, for events that do not say"},
    {.path = "attributes",
     .type = CONFIG_PAIRS,
     .offset = AT(attributes),
     .also = AT(n_attributes),
     .max = PAIRS_MAX,
     .doc = "attributes of Waldur's orders and what they become, such as variables.tone"},
    {.path = "rate_component",
     .type = CONFIG_TEXT,
     .offset = AT(rate_component),
     .min = 1,
     .max = SLUG_MAX,
     .doc = "the limit of an order that is its key's requests a minute"},
};
#undef AT

static const struct config_table offering_table = {.rows = offering_rows,
                                                   .n = ARRAY_LEN(offering_rows),
                                                   .size = sizeof(struct config_offering),
                                                   .key_offset =
                                                       offsetof(struct config_offering, type)};

#define AT(field) offsetof(struct config, field)
static const struct config_setting rows[] = {
    {.path = "database.url",
     .type = CONFIG_TEXT,
     .offset = AT(database_url),
     .min = 1,
     .max = SECRET_MAX,
     .required = true,
     .secret = true,
     .doc = "PostgreSQL's address, postgresql://user@host/database"},
    {.path = "kafka.bootstrap_servers",
     .type = CONFIG_TEXT,
     .offset = AT(kafka_bootstrap_servers),
     .min = 1,
     .max = 4096,
     .required = true,
     .doc = "the brokers as host:port, parted by commas"},
    {.path = "kafka.group_id",
     .type = CONFIG_TEXT,
     .offset = AT(kafka_group_id),
     .fallback = "provisioner",
     .min = 1,
     .max = 255,
     .doc = "the consumer group"},
    {.path = "kafka.topics.events",
     .type = CONFIG_TEXT,
     .offset = AT(topic_events),
     .fallback = "marketplace.subscriptions",
     .min = 1,
     .max = 249,
     .check = config_check_topic,
     .doc = "the topic of subscription events"},
    {.path = "kafka.topics.dead_letters",
     .type = CONFIG_TEXT,
     .offset = AT(topic_dead_letters),
     .fallback = "marketplace.subscriptions.dlq",
     .min = 1,
     .max = 249,
     .check = config_check_topic,
     .doc = "the topic of what cannot be decoded"},
    {.path = "kafka.topics.outcomes",
     .type = CONFIG_TEXT,
     .offset = AT(topic_outcomes),
     .fallback = "marketplace.subscriptions.outcomes",
     .min = 1,
     .max = 249,
     .check = config_check_topic,
     .doc = "the topic of outcomes"},
    {.path = "kafka.properties",
     .type = CONFIG_PAIRS,
     .offset = AT(kafka_properties),
     .also = AT(n_kafka_properties),
     .max = PAIRS_MAX,
     .check = config_check_kafka_property,
     .secret = true,
     .doc = "properties for librdkafka"},
    {.path = "runtimes",
     .type = CONFIG_LIST,
     .offset = AT(runtimes),
     .also = AT(n_runtimes),
     .max = CONFIG_RUNTIMES_MAX,
     .table = &runtime_table,
     .required = true,
     .doc = "at least one, with name, langflow.url and ragflow.url"},
    {.path = "offerings",
     .type = CONFIG_MAP,
     .offset = AT(offerings),
     .also = AT(n_offerings),
     .max = CONFIG_OFFERINGS_MAX,
     .check = config_check_offering_type,
     .table = &offering_table,
     .doc = "defaults by offering type"},
    {.path = "flows",
     .type = CONFIG_PAIRS,
     .offset = AT(flows),
     .also = AT(n_flows),
     .max = CONFIG_FLOWS_MAX,
     .doc = "template flows that lie in files, by the names that offerings give"},
    {.path = "waldur.url",
     .type = CONFIG_TEXT,
     .offset = AT(waldur_url),
     .min = 1,
     .max = URL_MAX,
     .check = config_check_url,
     .doc = "Waldur's API, https://host/api"},
    {.path = "waldur.token",
     .type = CONFIG_TEXT,
     .offset = AT(waldur_token),
     .min = 1,
     .max = SECRET_MAX,
     .secret = true,
     .doc = "a token for it"},
    {.path = "waldur.auth",
     .type = CONFIG_CHOICE,
     .offset = AT(waldur_auth),
     .fallback = "token",
     .choices = "token|bearer",
     .doc = "what kind of token it is"},
    {.path = "waldur.hook_secret",
     .type = CONFIG_TEXT,
     .offset = AT(waldur_hook_secret),
     .min = 16,
     .max = 255,
     .check = config_check_path_secret,
     .secret = true,
     .doc = "the last part of the webhook's path, which nobody can guess"},
    {.path = "waldur.sweep",
     .type = CONFIG_DURATION,
     .offset = AT(waldur_sweep_ms),
     .fallback = "1m",
     .min = SECOND,
     .max = HOUR,
     .doc = "how often open orders are looked for"},
    {.path = "waldur.timeout",
     .type = CONFIG_DURATION,
     .offset = AT(waldur_timeout_ms),
     .fallback = "30s",
     .min = 100,
     .max = HOUR,
     .doc = "how long one request may take"},
    {.path = "waldur.concurrency",
     .type = CONFIG_INTEGER,
     .offset = AT(waldur_concurrency),
     .fallback = "8",
     .min = 2, /* an order and a key: neither waits for the other */
     .max = 256,
     .doc = "how many orders and keys one process works on at once"},
    {.path = "waldur.approve",
     .type = CONFIG_CHOICE,
     .offset = AT(waldur_approve),
     .fallback = "rule",
     .choices = "rule|manual",
     .doc = "who approves orders that wait for the provider"},
    {.path = "waldur.organization_max",
     .type = CONFIG_INTEGER,
     .offset = AT(waldur_organization_max),
     .fallback = "0",
     .max = 1000000,
     .doc = "up to how many active subscriptions of an organization are approved; 0: any number"},
    {.path = "waldur.keys",
     .type = CONFIG_CHOICE,
     .offset = AT(waldur_keys),
     .fallback = "sealed",
     .choices = "sealed|waldur",
     .doc = "who hands API keys to buyers"},
    {.path = "waldur.plans",
     .type = CONFIG_PAIRS,
     .offset = AT(waldur_plans),
     .also = AT(n_waldur_plans),
     .max = PAIRS_MAX,
     .doc = "the tiers of plans, by name or UUID"},
    {.path = "waldur.endpoints",
     .type = CONFIG_PAIRS,
     .offset = AT(waldur_endpoints),
     .also = AT(n_waldur_endpoints),
     .max = 16,
     .doc = "what buyers reach an agent by: names and URLs, {name} standing for the agent's"},
    {.path = "retry.initial",
     .type = CONFIG_DURATION,
     .offset = AT(retry_initial_ms),
     .fallback = "1s",
     .min = 1,
     .max = HOUR,
     .doc = "the first wait"},
    {.path = "retry.factor",
     .type = CONFIG_REAL,
     .offset = AT(retry_factor),
     .fallback = "2",
     .min = 1,
     .max = 10,
     .doc = "how much longer each wait is"},
    {.path = "retry.max",
     .type = CONFIG_DURATION,
     .offset = AT(retry_max_ms),
     .fallback = "5m",
     .min = 1,
     .max = DAY,
     .doc = "the longest wait"},
    {.path = "retry.deadline",
     .type = CONFIG_DURATION,
     .offset = AT(retry_deadline_ms),
     .fallback = "24h",
     .min = 1,
     .max = 365 * DAY,
     .doc = "after how long a job fails"},
    {.path = "retention.chat_history",
     .type = CONFIG_DURATION,
     .offset = AT(retention_chat_history_ms),
     .fallback = "30d",
     .max = FOREVER,
     .doc = "how long chats outlive their subscription; 0: not at all"},
    {.path = "retention.dead_letters",
     .type = CONFIG_DURATION,
     .offset = AT(retention_dead_letters_ms),
     .fallback = "90d",
     .max = FOREVER,
     .doc = "how long dead letters are kept"},
    {.path = "retention.events",
     .type = CONFIG_DURATION,
     .offset = AT(retention_events_ms),
     .fallback = "90d",
     .max = FOREVER,
     .doc = "how long events are remembered, duplicates dropped"},
    {.path = "secrets.master_key",
     .type = CONFIG_KEY32,
     .offset = AT(master_key),
     .also = AT(has_master_key),
     .secret = true,
     .doc = "32 bytes in base64"},
    {.path = "secrets.reveal_public_key",
     .type = CONFIG_KEY32,
     .offset = AT(reveal_public_key),
     .also = AT(has_reveal_public_key),
     .doc = "32 bytes in base64"},
    {.path = "http.listen",
     .type = CONFIG_TEXT,
     .offset = AT(http_listen),
     .fallback = "127.0.0.1:9464",
     .min = 1,
     .max = 255,
     .check = config_check_listen,
     .doc = "where health, metrics and hooks are served"},
    {.path = "log.level",
     .type = CONFIG_CHOICE,
     .offset = AT(log_level),
     .fallback = "info",
     .choices = "debug|info|warn|error",
     .doc = "from which level on"},
    {.path = "log.format",
     .type = CONFIG_CHOICE,
     .offset = AT(log_format),
     .fallback = "json",
     .choices = "json|text",
     .doc = "in which form"},
    {.path = "scheduling.organization_max",
     .type = CONFIG_INTEGER,
     .offset = AT(scheduling_organization_max),
     .fallback = "32",
     .min = 1,
     .max = 100000,
     .doc = "how many jobs of one organization run at once, over all workers"},
    {.path = "scheduling.runtime_max",
     .type = CONFIG_INTEGER,
     .offset = AT(scheduling_runtime_max),
     .fallback = "500",
     .min = 1,
     .max = 100000,
     .doc = "how many jobs of one runtime run at once, over all workers"},
    {.path = "scheduling.weights.free",
     .type = CONFIG_INTEGER,
     .offset = AT(scheduling_weight_free),
     .fallback = "1",
     .min = 1,
     .max = WEIGHT_MAX,
     .doc = "how many jobs of this plan go in one round"},
    {.path = "scheduling.weights.plus",
     .type = CONFIG_INTEGER,
     .offset = AT(scheduling_weight_plus),
     .fallback = "2",
     .min = 1,
     .max = WEIGHT_MAX,
     .doc = "how many jobs of this plan go in one round"},
    {.path = "scheduling.weights.pro",
     .type = CONFIG_INTEGER,
     .offset = AT(scheduling_weight_pro),
     .fallback = "4",
     .min = 1,
     .max = WEIGHT_MAX,
     .doc = "how many jobs of this plan go in one round"},
    {.path = "scheduling.weights.enterprise",
     .type = CONFIG_INTEGER,
     .offset = AT(scheduling_weight_enterprise),
     .fallback = "8",
     .min = 1,
     .max = WEIGHT_MAX,
     .doc = "how many jobs of this plan go in one round"},
    {.path = "worker.max_jobs",
     .type = CONFIG_INTEGER,
     .offset = AT(worker_max_jobs),
     .fallback = "1000",
     .min = 1,
     .max = 100000,
     .doc = "how many jobs one process holds"},
    {.path = "worker.inbox_high_water",
     .type = CONFIG_INTEGER,
     .offset = AT(worker_inbox_high_water),
     .fallback = "1000000",
     .min = 1,
     .max = 1000000,
     .doc = "how many waiting jobs pause consumption"},
    {.path = "worker.drain",
     .type = CONFIG_DURATION,
     .offset = AT(worker_drain_ms),
     .fallback = "25s",
     .max = HOUR,
     .doc = "how long SIGTERM waits for running steps"},
    {.path = "worker.lease",
     .type = CONFIG_DURATION,
     .offset = AT(worker_lease_ms),
     .fallback = "15s",
     .min = 3 * SECOND,
     .max = 5 * MINUTE,
     .doc = "after how long a dead worker's jobs are taken over"},
    {.path = "worker.probe_settle",
     .type = CONFIG_DURATION,
     .offset = AT(worker_probe_settle_ms),
     .fallback = "2s",
     .max = 10 * MINUTE,
     .doc = "the time between two looks that must both find nothing"},
};
#undef AT

const struct config_table config_settings = {
    .rows = rows, .n = ARRAY_LEN(rows), .size = sizeof(struct config)};

/* ---- what takes more than one row ---- */

struct checks {
    const struct config *c;
    const struct config_node *root;
    struct err *err;
};

/* The place of group.name, or of what is there of it. */
static struct config_place place_in(const struct config_node *map, const char *group,
                                    const char *name)
{
    const struct config_node *g = group ? config_node_get(map, group) : map;
    const struct config_node *n = config_node_get(g, name);
    /* map is a root or an item of a list, and so never NULL. */
    return n ? n->at : g ? g->at : map->at; // NOLINT(clang-analyzer-core.NullDereference)
}

static struct config_place place_of_runtime(const struct checks *k, size_t i, const char *name)
{
    const struct config_node *item = config_node_item(config_node_get(k->root, "runtimes"), i);
    return place_in(item, NULL, name);
}

static int check_topics(const struct checks *k)
{
    const struct config *c = k->c;
    const struct config_node *kafka = config_node_get(k->root, "kafka");
    const char *topics[] = {c->topic_events, c->topic_dead_letters, c->topic_outcomes};
    static const char *const names[] = {"events", "dead_letters", "outcomes"};
    for (size_t i = 1; i < ARRAY_LEN(topics); i++) {
        for (size_t j = 0; j < i; j++) {
            if (str_eq(topics[i], topics[j])) {
                return config_fail(
                    c->file, place_in(kafka, "topics", names[i]), k->err,
                    "kafka.topics.%s is the same topic as kafka.topics.%s; name another", names[i],
                    names[j]);
            }
        }
    }
    return 0;
}

static int check_runtime(const struct checks *k, size_t i)
{
    const struct config *c = k->c;
    const struct config_runtime *r = &c->runtimes[i];
    bool dedicated = r->mode == RUNTIME_DEDICATED;
    if (dedicated && !r->organization) {
        return config_fail(
            c->file, place_of_runtime(k, i, "mode"), k->err,
            "runtimes[%zu] is dedicated; write organization, the slug that it serves", i);
    }
    if (!dedicated && r->organization) {
        return config_fail(c->file, place_of_runtime(k, i, "organization"), k->err,
                           "runtimes[%zu] is shared; remove organization, or write mode: dedicated",
                           i);
    }
    for (size_t j = 0; j < i; j++) {
        if (str_eq(c->runtimes[j].name, r->name)) {
            return config_fail(c->file, place_of_runtime(k, i, "name"), k->err,
                               "runtimes[%zu] has the name of runtimes[%zu]; name it otherwise", i,
                               j);
        }
        if (dedicated && str_eq(c->runtimes[j].organization, r->organization)) {
            return config_fail(c->file, place_of_runtime(k, i, "organization"), k->err,
                               "runtimes[%zu] serves the organization of runtimes[%zu]; keep one",
                               i, j);
        }
    }
    return 0;
}

static int check_offerings(const struct checks *k)
{
    const struct config *c = k->c;
    const struct config_node *offerings = config_node_get(k->root, "offerings");
    for (size_t i = 1; i < c->n_offerings; i++) {
        for (size_t j = 0; j < i && c->offerings[i].uuid; j++) {
            if (str_eq(c->offerings[i].uuid, c->offerings[j].uuid)) {
                return config_fail(c->file, place_in(config_node_item(offerings, i), NULL, "uuid"),
                                   k->err, "offerings.%s has the uuid of offerings.%s; keep one",
                                   c->offerings[i].type, c->offerings[j].type);
            }
        }
    }
    return 0;
}

static struct config_place place_in_waldur(const struct checks *k, const char *group,
                                           const char *name)
{
    const struct config_node *waldur = config_node_get(k->root, "waldur");
    /* Whoever asks has read something below it. */
    return waldur ? place_in(waldur, group, name) : k->root->at;
}

static bool is_tier(const char *text)
{
    static const char *const tiers[] = {"free", "plus", "pro", "enterprise"};
    for (size_t i = 0; i < ARRAY_LEN(tiers); i++) {
        if (str_eq(text, tiers[i])) {
            return true;
        }
    }
    return false;
}

static int check_plans(const struct checks *k)
{
    const struct config *c = k->c;
    char shown[CONFIG_SHOWN_MAX + 4];
    for (size_t i = 0; i < c->n_waldur_plans; i++) {
        const struct config_pair *plan = &c->waldur_plans[i];
        if (!is_tier(plan->value)) {
            return config_fail(c->file, place_in_waldur(k, "plans", plan->name), k->err,
                               "waldur.plans.%s must be one of free, plus, pro, enterprise",
                               config_key_shown(plan->name, shown));
        }
    }
    return 0;
}

static int check_endpoints(const struct checks *k)
{
    const struct config *c = k->c;
    char shown[CONFIG_SHOWN_MAX + 4];
    for (size_t i = 0; i < c->n_waldur_endpoints; i++) {
        const struct config_pair *e = &c->waldur_endpoints[i];
        if (strlen(e->name) > ENDPOINT_NAME_MAX || strlen(e->value) > ENDPOINT_URL_MAX ||
            (!str_starts(e->value, "https://") && !str_starts(e->value, "http://"))) {
            return config_fail(c->file, place_in_waldur(k, "endpoints", e->name), k->err,
                               "waldur.endpoints.%s must be a name of at most %d bytes and a URL "
                               "of at most %d, https://...",
                               config_key_shown(e->name, shown), ENDPOINT_NAME_MAX,
                               ENDPOINT_URL_MAX);
        }
    }
    return 0;
}

static int check_waldur(const struct checks *k)
{
    const struct config *c = k->c;
    if (!c->waldur_url != !c->waldur_token) {
        bool url = c->waldur_url != NULL;
        return config_fail(c->file, place_in(k->root, "waldur", url ? "url" : "token"), k->err,
                           "waldur.%s is set without waldur.%s; write both or none",
                           url ? "url" : "token", url ? "token" : "url");
    }
    if (c->waldur_hook_secret && !c->waldur_url) {
        return config_fail(c->file, place_in_waldur(k, NULL, "hook_secret"), k->err,
                           "waldur.hook_secret is set without waldur.url; what a webhook tells has "
                           "to be read there");
    }
    if (c->waldur_url && str_eq(c->waldur_keys, "waldur") && !c->has_master_key) {
        return config_fail(c->file, place_in_waldur(k, NULL, "keys"), k->err,
                           "waldur.keys: waldur needs secrets.master_key, under which a key is "
                           "kept until Waldur has it");
    }
    return check_plans(k) != 0 || check_endpoints(k) != 0 ? -1 : 0;
}

static int check_retry(const struct checks *k)
{
    const struct config *c = k->c;
    if (c->retry_max_ms < c->retry_initial_ms) {
        return config_fail(c->file, place_in(k->root, "retry", "max"), k->err,
                           "retry.max is shorter than retry.initial; make it at least as long");
    }
    if (c->retry_deadline_ms < c->retry_initial_ms) {
        return config_fail(
            c->file, place_in(k->root, "retry", "deadline"), k->err,
            "retry.deadline is shorter than retry.initial; make it at least as long");
    }
    return 0;
}

static int check_whole(const struct checks *k)
{
    for (size_t i = 0; i < k->c->n_runtimes; i++) {
        if (check_runtime(k, i) != 0) {
            return -1;
        }
    }
    if (check_topics(k) != 0 || check_offerings(k) != 0 || check_waldur(k) != 0) {
        return -1;
    }
    return check_retry(k);
}

/* ---- files that settings name ---- */

/* Relative ones lie beside the configuration. */
static char *path_beside(const char *file, const char *path)
{
    const char *slash = strrchr(file, '/');
    size_t n = path[0] == '/' || !slash ? 0 : (size_t)(slash - file) + 1;
    char *out = malloc(n + strlen(path) + 1);
    if (out) {
        memcpy(out, file, n);
        memcpy(out + n, path, strlen(path) + 1);
    }
    return out;
}

static int read_beside(const struct checks *k, struct config_place at, const char *setting,
                       const char *path, size_t max, struct config_document *out)
{
    const char *reason = NULL;
    char *whole = path_beside(k->c->file, path);
    if (!whole) {
        return err_nomem(k->err);
    }
    int rc = config_file_read(whole, max, &out->text, &out->len, &reason);
    if (rc != 0 && !reason) {
        err_nomem(k->err);
    } else if (rc != 0) {
        config_fail(
            k->c->file, at, k->err,
            "%s: the file that it names: %s; it must be a readable file of at most %zu bytes",
            setting, reason, max);
    }
    free(whole);
    return rc;
}

static void ignore_member(void *ctx, const struct json_member *m)
{
    (void)ctx;
    (void)m;
}

static int read_flow(const struct checks *k, size_t i, struct config_document *out)
{
    static const struct json_limits limits = {
        .size = CONFIG_FLOW_MAX, .depth = 64, .string = CONFIG_FLOW_MAX};
    const struct config_pair *flow = &k->c->flows[i];
    struct config_place at = place_in(k->root, "flows", flow->name);
    char setting[CONFIG_SHOWN_MAX + 16], shown[CONFIG_SHOWN_MAX + 4];
    struct json_fault fault;
    snprintf(setting, sizeof(setting), "flows.%s", config_key_shown(flow->name, shown));
    if (read_beside(k, at, setting, flow->value, CONFIG_FLOW_MAX, out) != 0) {
        return -1;
    }
    if (json_members(out->text, out->len, &limits, ignore_member, NULL, &fault) != 0) {
        if (fault.internal) {
            return err_nomem(k->err);
        }
        return config_fail(k->c->file, at, k->err,
                           "%s: the file is no flow in JSON, as Langflow exports one: %s", setting,
                           fault.reason);
    }
    return 0;
}

static int read_flows(struct config *c, const struct checks *k)
{
    c->flow_texts = calloc(c->n_flows ? c->n_flows : 1, sizeof(*c->flow_texts));
    if (!c->flow_texts) {
        return err_nomem(k->err);
    }
    for (size_t i = 0; i < c->n_flows; i++) {
        if (read_flow(k, i, &c->flow_texts[i]) != 0) {
            return -1;
        }
    }
    return 0;
}

/* The ciphertext serves for every login: what has to be read and encrypted is so once. */
static int read_public_key(struct config *c, const struct checks *k, size_t i)
{
    struct config_product *p = &c->runtimes[i].ragflow;
    struct config_document pem = {0};
    struct err e;
    char setting[64], wire[SECRET_WIRE_MAX];
    if (!p->public_key_file) {
        return 0;
    }
    struct config_place at = place_of_runtime(k, i, "ragflow");
    snprintf(setting, sizeof(setting), "runtimes[%zu].ragflow.admin.public_key", i);
    if (read_beside(k, at, setting, p->public_key_file, CONFIG_VALUE_FILE_MAX, &pem) != 0) {
        return -1;
    }
    p->public_key = pem.text;
    if (secret_ragflow_password(pem.text, p->admin_password ? p->admin_password : "", wire, &e)) {
        return config_fail(c->file, at, k->err, "%s: %s", setting, e.msg);
    }
    p->admin_password_wire = str_dup(wire);
    return p->admin_password_wire ? 0 : err_nomem(k->err);
}

/* People write the address of the server as often as that of its API. */
static int derive_api(struct config *c, struct err *err)
{
    static const char api[] = "/api";
    size_t n = c->waldur_url ? strlen(c->waldur_url) : 0;
    if (!c->waldur_url) {
        return 0;
    }
    bool there = n >= sizeof(api) - 1 && str_eq(c->waldur_url + n - (sizeof(api) - 1), api);
    c->waldur_api = malloc(n + sizeof(api));
    if (!c->waldur_api) {
        return err_nomem(err);
    }
    memcpy(c->waldur_api, c->waldur_url, n);
    memcpy(c->waldur_api + n, there ? "" : api, there ? 1 : sizeof(api));
    return 0;
}

static int read_files(struct config *c, const struct config_node *root, struct err *err)
{
    struct checks k = {.c = c, .root = root, .err = err};
    for (size_t i = 0; i < c->n_runtimes; i++) {
        if (read_public_key(c, &k, i) != 0) {
            return -1;
        }
    }
    return derive_api(c, err) == 0 ? read_flows(c, &k) : -1;
}

static void free_files(struct config *c)
{
    free(c->waldur_api);
    for (size_t i = 0; c->flow_texts && i < c->n_flows; i++) {
        config_file_free(c->flow_texts[i].text, c->flow_texts[i].len);
    }
    free(c->flow_texts);
    for (size_t i = 0; c->runtimes && i < c->n_runtimes; i++) {
        free(c->runtimes[i].ragflow.public_key);
        free(c->runtimes[i].ragflow.admin_password_wire);
    }
}

/* ---- loading ---- */

static int read_tree(const char *path, struct config_node **out, struct err *err)
{
    char *text = NULL;
    size_t n = 0;
    const char *reason = NULL;
    if (config_file_read(path, CONFIG_FILE_MAX, &text, &n, &reason) != 0) {
        if (!reason) {
            return err_nomem(err);
        }
        return err_set(err, ERR_INVALID,
                       "%.300s: %s; name a readable file of at most %d bytes with --config or "
                       "PROVISIONER_CONFIG",
                       path, reason, CONFIG_FILE_MAX);
    }
    int rc = config_node_parse(path, text, n, out, err);
    config_file_free(text, n);
    return rc;
}

static int __attribute__((nonnull))
fill(struct config *c, const struct config_node *root, struct err *err)
{
    if (config_settings_read(c->file, &config_settings, c, root, err) != 0) {
        return -1;
    }
    const struct config_node nothing = {.kind = CONFIG_MAPPING};
    if (config_settings_read(c->file, &offering_table, &c->any_offering, &nothing, err) != 0) {
        return -1;
    }
    struct checks k = {.c = c, .root = root, .err = err};
    return check_whole(&k) == 0 ? read_files(c, root, err) : -1;
}

static const char *choose_file(const char *path)
{
    if (path) {
        return path;
    }
    const char *named = getenv("PROVISIONER_CONFIG");
    return named && named[0] ? named : default_file;
}

int config_load(const char *path, struct config **out, struct err *err)
{
    path = choose_file(path);
    struct config *c = calloc(1, sizeof(*c));
    struct config_node *root = NULL;
    if (!c || !(c->file = str_dup(path))) {
        config_free(c);
        return err_nomem(err);
    }
    int rc = read_tree(path, &root, err);
    if (rc == 0 && root) {
        rc = fill(c, root, err);
    }
    config_node_free(root);
    if (rc != 0) {
        config_free(c);
        return -1;
    }
    *out = c;
    return 0;
}

void config_free(struct config *c)
{
    if (!c) {
        return;
    }
    free_files(c);
    config_settings_free(&config_settings, c);
    config_settings_free(&offering_table, &c->any_offering);
    free(c->file);
    free(c);
}

/* ---- using ---- */

int config_print_yaml(const struct config *c, struct buf *out)
{
    buf_adds(out, "# Effective settings; secrets are masked. From ");
    buf_add_json(out, c->file); /* quoted: a file's name may hold a line break */
    buf_addc(out, '\n');
    return config_settings_print(&config_settings, c, false, out);
}

int config_print_json(const struct config *c, struct buf *out)
{
    return config_settings_print(&config_settings, c, true, out);
}

const struct config_runtime *config_runtime_for(const struct config *c, enum runtime_mode mode,
                                                const char *organization_slug)
{
    for (size_t i = 0; i < c->n_runtimes; i++) {
        const struct config_runtime *r = &c->runtimes[i];
        if (r->mode == mode &&
            (mode == RUNTIME_SHARED ||
             (organization_slug && str_eq(r->organization, organization_slug)))) {
            return r;
        }
    }
    return NULL;
}

const struct config_runtime *config_runtime_named(const struct config *c, const char *name)
{
    for (size_t i = 0; i < c->n_runtimes; i++) {
        if (str_eq(c->runtimes[i].name, name)) {
            return &c->runtimes[i];
        }
    }
    return NULL;
}

const struct config_offering *config_offering(const struct config *c, const char *type)
{
    for (size_t i = 0; i < c->n_offerings; i++) {
        if (str_eq(c->offerings[i].type, type)) {
            return &c->offerings[i];
        }
    }
    return &c->any_offering;
}

const struct config_offering *config_offering_of(const struct config *c, const char *uuid)
{
    for (size_t i = 0; i < c->n_offerings; i++) {
        if (c->offerings[i].uuid && str_eq(c->offerings[i].uuid, uuid)) {
            return &c->offerings[i];
        }
    }
    return NULL;
}

const char *config_embedding_model(const struct config_product *p, const char *name)
{
    for (size_t i = 0; i < p->n_embedding_models; i++) {
        if (str_eq(p->embedding_models[i].name, name)) {
            return p->embedding_models[i].value;
        }
    }
    return name;
}

const struct config_document *config_flow(const struct config *c, const char *flow)
{
    for (size_t i = 0; i < c->n_flows; i++) {
        if (str_eq(c->flows[i].name, flow)) {
            return &c->flow_texts[i];
        }
    }
    return NULL;
}

/* ---- what the products themselves need ---- */

static int missing(const struct config *c, const struct config_runtime *r, const char *what,
                   const char *why, struct err *err)
{
    return err_set(err, ERR_INVALID, "%.200s: runtime \"%s\" needs %s %s", c->file, r->name, what,
                   why);
}

static int check_tenancy(const struct config *c, const struct config_runtime *r, struct err *err)
{
    const struct config_product *p = &r->ragflow;
    static const char why[] = "(ragflow.tenancy is not shared: its users are made there)";
    if (str_eq(p->tenancy, "shared")) {
        return p->api_key ? 0
                          : missing(c, r, "ragflow.api_key",
                                    "(ragflow.tenancy is shared: the key of the one tenant)", err);
    }
    if (!p->admin_url) {
        return missing(c, r, "ragflow.admin.url", why, err);
    }
    if (!p->admin_email || !p->admin_password) {
        return missing(c, r, "ragflow.admin.email and .password", why, err);
    }
    return p->admin_password_wire ? 0 : missing(c, r, "ragflow.admin.public_key", why, err);
}

int config_check_products(const struct config *c, struct err *err)
{
    static const char master[] = "secrets.master_key (32 bytes in base64)";
    static const char why[] = "(keys of accounts at the products are kept under it)";
    for (size_t i = 0; i < c->n_runtimes; i++) {
        const struct config_runtime *r = &c->runtimes[i];
        bool langflow = str_eq(r->langflow.api, "langflow");
        bool ragflow = str_eq(r->ragflow.api, "ragflow");
        if (langflow && !r->langflow.api_key) {
            return missing(c, r, "langflow.api_key", "(an API key of a Langflow superuser)", err);
        }
        if (ragflow && check_tenancy(c, r, err) != 0) {
            return -1;
        }
        if ((langflow || (ragflow && !str_eq(r->ragflow.tenancy, "shared"))) &&
            !c->has_master_key) {
            return missing(c, r, master, why, err);
        }
    }
    return 0;
}
