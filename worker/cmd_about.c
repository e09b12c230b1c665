/*
 * Commands that tell about the program itself: config, graph, version, help.
 */
#include <cjson/cJSON.h>
#include <curl/curl.h>
#include <libpq-fe.h>
#include <librdkafka/rdkafka.h>
#include <microhttpd.h>
#include <sodium.h>
#include <stdio.h>
#include <yaml.h>

#include "base/str.h"
#include "commands.h"
#include "help.h"
#include "machine/machine.h"
#include "store/migrate.h"

enum { ABOUT_OUTPUT_MAX = 4 * 1024 * 1024 };

int cmd_config(int argc, char **argv, const struct cli *cli)
{
    struct config *config = NULL;
    struct buf out;
    (void)argc, (void)argv;
    int rc = cli_config(cli, &config);
    if (rc != CLI_OK)
        return rc;
    buf_init(&out, ABOUT_OUTPUT_MAX);
    if (cli_has(cli, OPT_JSON))
        config_print_json(config, &out);
    else
        config_print_yaml(config, &out);
    if (out.len > 0 && out.data[out.len - 1] != '\n')
        buf_addc(&out, '\n');
    config_free(config);
    return cli_print(&out);
}

int cmd_graph(int argc, char **argv, const struct cli *cli)
{
    struct buf out;
    (void)argc, (void)argv, (void)cli;
    buf_init(&out, ABOUT_OUTPUT_MAX);
    machine_mermaid(&out);
    return cli_print(&out);
}

struct version {
    const char *name, *text;
};

static void print_versions(const struct version *v, size_t n, bool json, struct buf *out)
{
    if (json) {
        buf_addf(out, "{\"version\": \"%s\", \"schema\": %d, \"libraries\": {", PROVISIONER_VERSION,
                 migrate_wanted());
        for (size_t i = 0; i < n; i++) {
            buf_addf(out, "%s\"%s\": ", i ? ", " : "", v[i].name);
            buf_add_json(out, v[i].text);
        }
        buf_adds(out, "}}\n");
        return;
    }
    buf_addf(out, "provisioner %s, schema version %d\n", PROVISIONER_VERSION, migrate_wanted());
    for (size_t i = 0; i < n; i++)
        buf_addf(out, "  %-14s %s\n", v[i].name, v[i].text);
}

int cmd_version(int argc, char **argv, const struct cli *cli)
{
    char pq[32];
    struct buf out;
    int number = PQlibVersion();
    (void)argc, (void)argv;
    snprintf(pq, sizeof(pq), "%d.%d", number / 10000, number % 10000);
    /* Those in use now, not those that were compiled against. */
    const struct version versions[] = {
        {"librdkafka", rd_kafka_version_str()},
        {"libcurl", curl_version_info(CURLVERSION_NOW)->version},
        {"libpq", pq},
        {"libsodium", sodium_version_string()},
        {"libmicrohttpd", MHD_get_version()},
        {"libyaml", yaml_get_version_string()},
        {"cJSON", cJSON_Version()},
    };
    buf_init(&out, ABOUT_OUTPUT_MAX);
    print_versions(versions, ARRAY_LEN(versions), cli_has(cli, OPT_JSON), &out);
    return cli_print(&out);
}

int cmd_help(int argc, char **argv, const struct cli *cli)
{
    const char *format = cli_value(cli, OPT_FORMAT);
    if (str_eq(format, "man"))
        return help_manual();
    if (str_eq(format, "bash"))
        return help_completion();
    if (format && !str_eq(format, "text"))
        return cli_usage(cli, "--format takes text, man or bash");
    if (argc == 0)
        return help_overview();
    const struct cli_command *command = cli_find(argv[0]);
    return command ? help_command(command) : cli_unknown_command(argv[0]);
}
