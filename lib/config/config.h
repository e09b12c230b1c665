/*
 * The configuration (contract, section 4): YAML with env: and file: values, checked against one
 * table of settings (config.c) from which `provisioner config` is printed too. Errors name file,
 * line and column, the setting and what it takes, never a value.
 */
#ifndef CONFIG_CONFIG_H
#define CONFIG_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "secret/secret.h"

enum {
    CONFIG_FILE_MAX = 1024 * 1024,
    CONFIG_RUNTIMES_MAX = 256,
    CONFIG_OFFERINGS_MAX = 1024,
    CONFIG_FLOWS_MAX = 64,
    CONFIG_FLOW_MAX = 3 * 1024 * 1024, /* bytes of one; a request has room for it */
};

struct config_pair {
    char *name;
    char *value;
    bool secret; /* masked in print: its name says so, it came by env: or file:, or it is a URL with
                    userinfo */
};

enum runtime_mode { RUNTIME_SHARED, RUNTIME_DEDICATED };

/* One upstream product of one runtime. Strings are owned by the config and never NULL unless said.
 */
struct config_product {
    char *api;     /* "langflow" | "workspaces", "ragflow" | "collections" */
    char *url;     /* http(s)://host[:port][/path], no trailing slash, no userinfo */
    char *api_key; /* secret; NULL when not set */
    char *tenancy; /* "shared" | "organization" | "subscription"; NULL for langflow */
    struct config_pair *embedding_models; /* ragflow only */
    size_t n_embedding_models;
    /* ragflow only */
    char *workspace_key; /* "own" | "tenant-wide" */
    char *tenant_domain;
    char *models_key;                               /* secret; NULL */
    char *admin_url, *admin_email, *admin_password; /* NULL; the last secret */
    char *public_key_file, *public_key;             /* its path, its PEM; NULL */
    char *admin_password_wire;                      /* under that key; NULL without one */
    char *provider, *provider_instance, *provider_key, *provider_url; /* NULL; the key secret */
    int64_t concurrency; /* requests at once, 1..1024; default 16 */
    int64_t timeout_ms;  /* one request; default 30 s */
};

struct config_runtime {
    char *name; /* unique; [a-z0-9-]{1,63} */
    enum runtime_mode mode;
    char *organization; /* slug; NULL for shared */
    struct config_product langflow;
    struct config_product ragflow;
};

struct config_offering {
    char *type; /* the key in `offerings` */
    char *uuid; /* Waldur's offering, canonical; NULL */
    char *flow; /* NULL: events must carry offering.flow_id */
    char **capabilities;
    size_t n_capabilities;
    struct config_pair *variables; /* defaults, scalars as strings */
    size_t n_variables;
    char *embedding_model; /* as events name it */
    int64_t chunk_size, chunk_overlap;
    struct config_pair *attributes; /* of Waldur's orders, and what of the event each becomes */
    size_t n_attributes;
    char *rate_component; /* the limit of Waldur's that is a key's requests a minute; NULL */
};

/* A file that a setting names. */
struct config_document {
    char *text;
    size_t len;
};

struct config {
    char *file;
    char *database_url; /* secret */
    char *kafka_bootstrap_servers;
    char *kafka_group_id;
    char *topic_events, *topic_dead_letters, *topic_outcomes;
    struct config_pair *kafka_properties; /* for librdkafka, as they are */
    size_t n_kafka_properties;
    struct config_runtime *runtimes;
    size_t n_runtimes;
    struct config_offering *offerings;
    size_t n_offerings;
    struct config_offering any_offering; /* defaults alone: for types that are not listed */
    struct config_pair *flows; /* template flows: names and paths, relative ones beside the file */
    size_t n_flows;
    struct config_document *flow_texts; /* one each */
    char *waldur_url;                   /* no trailing slash; NULL: not configured */
    char *waldur_api;                   /* the same, up to and with "/api" */
    char *waldur_token;                 /* secret; set exactly when waldur_url is */
    char *waldur_auth;                  /* "token" | "bearer" */
    char *waldur_hook_secret; /* secret, of characters that a URL takes; NULL: no webhooks */
    int64_t waldur_sweep_ms;  /* between two sweeps; default 1 m */
    int64_t waldur_timeout_ms, waldur_concurrency;
    char *waldur_approve;             /* "rule" | "manual" */
    int64_t waldur_organization_max;  /* active subscriptions that are approved; 0: no bound */
    char *waldur_keys;                /* "sealed" | "waldur" */
    struct config_pair *waldur_plans; /* plans' names or UUIDs, and their tiers */
    size_t n_waldur_plans;
    struct config_pair *waldur_endpoints; /* names, and URLs in which {name} is the agent's */
    size_t n_waldur_endpoints;
    int64_t retry_initial_ms, retry_max_ms, retry_deadline_ms;
    double retry_factor; /* 1.0 .. 10.0 */
    int64_t retention_chat_history_ms, retention_dead_letters_ms, retention_events_ms;
    bool has_master_key, has_reveal_public_key;
    unsigned char master_key[SECRET_KEY_BYTES];
    unsigned char reveal_public_key[SECRET_KEY_BYTES];
    char *http_listen;
    char *log_level;  /* debug info warn error */
    char *log_format; /* json text */
    /* scheduling: jobs that run at once, over all workers (1..100000; defaults 32, 500); what
     * plans weigh against each other (1..100; defaults 1, 2, 4, 8) */
    int64_t scheduling_organization_max, scheduling_runtime_max;
    int64_t scheduling_weight_free, scheduling_weight_plus, scheduling_weight_pro,
        scheduling_weight_enterprise;
    /* worker: limits of one process; all have defaults */
    int64_t worker_max_jobs; /* jobs held at once, 1..100000; default 1000 */
    int64_t
        worker_inbox_high_water; /* waiting jobs above which consumption pauses; default 1000000 */
    int64_t worker_drain_ms;     /* bound on SIGTERM's drain; default 25 s */
    int64_t worker_lease_ms;     /* default 15 s; 3 s .. 5 m */
    int64_t worker_probe_settle_ms; /* between two looks that must both find nothing; default 2 s */
};

/*
 * Reads and checks the file: NULL means $PROVISIONER_CONFIG, else
 * /etc/provisioner/provisioner.yaml. On failure -1 and *err with "file:line:column: what; what to
 * do". *out is then untouched.
 */
int config_load(const char *path, struct config **out, struct err *err);
void config_free(struct config *c); /* wipes secrets */

/*
 * What `config` prints: effective values, defaults included, secrets as "********". The YAML loads
 * again once the masks are filled in; what is not set is a comment there and null in JSON. 0, or -1
 * when the buffer ends.
 */
int config_print_yaml(const struct config *c, struct buf *out);
int config_print_json(const struct config *c, struct buf *out);

/*
 * The runtime for a new subscription: dedicated wants the one whose organization is the slug;
 * shared the first shared one. NULL when there is none.
 */
const struct config_runtime *config_runtime_for(const struct config *c, enum runtime_mode mode,
                                                const char *organization_slug);
const struct config_runtime *config_runtime_named(const struct config *c, const char *name);
/* The one that stands for an offering of Waldur's (canonical UUID); NULL: none. */
const struct config_offering *config_offering_of(const struct config *c, const char *uuid);
/* Never NULL: a type that is not listed has the defaults, and no flow. */
const struct config_offering *config_offering(const struct config *c, const char *type);
/* The template flow of that name, JSON; NULL: the product has it. */
const struct config_document *config_flow(const struct config *c, const char *flow);
/* Is all there that the products themselves need (`api: langflow`, `api: ragflow`)? For whoever is
 * to speak to them: -1 and *err name runtime and setting. */
int config_check_products(const struct config *c, struct err *err);
/* The product's name of an embedding model; the name itself where no mapping is configured. */
const char *config_embedding_model(const struct config_product *p, const char *name);

#endif
