/*
 * migrate: brings the database's schema up to date.
 */
#include <stdio.h>

#include "commands.h"
#include "store/migrate.h"
#include "store/pg.h"

enum { MIGRATE_OUTPUT_MAX = 64 * 1024 };

struct migrating {
    bool json, check;
    size_t n;
    struct buf files; /* JSON objects, or lines not yet printed */
};

static void say(void *ctx, const struct migration *m, bool applied)
{
    struct migrating *w = ctx;
    if (w->json) {
        buf_adds(&w->files, w->n++ ? ", " : "");
        buf_addf(&w->files, "{\"version\": %d, \"file\": ", m->version);
        buf_add_json(&w->files, m->name);
        buf_addf(&w->files, ", \"applied\": %s}", applied ? "true" : "false");
        return;
    }
    /* At once: what was applied before an error stays applied. */
    printf("%s %s\n", applied ? "applied" : "pending", m->name);
    fflush(stdout);
}

static int report(struct migrating *w, const struct migrate_report *r)
{
    struct buf out;
    buf_init(&out, MIGRATE_OUTPUT_MAX);
    if (w->json)
        buf_addf(&out,
                 "{\"current\": %d, \"wanted\": %d, \"applied\": %d, \"pending\": %d, \"files\": "
                 "[%s]}\n",
                 r->current, migrate_wanted(), r->applied, r->pending, buf_str(&w->files));
    else if (r->pending > 0)
        buf_addf(&out, "the schema is at version %d of %d, %d pending\n", r->current,
                 migrate_wanted(), r->pending);
    else
        buf_addf(&out, "the schema is at version %d, nothing is pending\n", r->current);
    int rc = cli_print(&out);
    return rc == CLI_OK && w->check && r->pending > 0 ? CLI_FAILED : rc;
}

int cmd_migrate(int argc, char **argv, const struct cli *cli)
{
    struct migrating w = {.json = cli_has(cli, OPT_JSON), .check = cli_has(cli, OPT_CHECK)};
    struct migrate_report r;
    struct config *config = NULL;
    struct err err;
    (void)argc, (void)argv;
    int rc = cli_config(cli, &config);
    if (rc != CLI_OK)
        return rc;
    buf_init(&w.files, MIGRATE_OUTPUT_MAX);
    PGconn *conn = pg_connect(config->database_url, "provisioner migrate", &err);
    if (!conn || migrate_run(conn, w.check, say, &w, &r, &err) != 0)
        rc = cli_fail(&err);
    else
        rc = report(&w, &r);
    PQfinish(conn);
    buf_done(&w.files);
    config_free(config);
    return rc;
}
