/*
 * backfill: what Waldur has told since some time, fetched from its list of events, as if its
 * webhooks had come.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/str.h"
#include "commands.h"
#include "hooks.h"
#include "marketplace.h"
#include "net/loop.h"
#include "session.h"
#include "talk.h"
#include "waldur/list.h"

enum { ARRAY_BYTES_MAX = 8 * 1024 * 1024, OUTPUT_MAX = 4096 };

/* What a webhook would be sent for, of what the worker acts on. */
static const char *const event_types[] = {
    "marketplace_order_approved",
    "marketplace_order_created",
    "marketplace_order_completed",
    "marketplace_order_failed",
    "marketplace_order_rejected",
    "marketplace_order_terminated",
    "marketplace_order_unlinked",
    "marketplace_resource_unlinked",
    "marketplace_resource_create_requested",
    "marketplace_resource_terminate_requested",
    "marketplace_resource_update_requested",
    "marketplace_resource_api_key_rotated",
};

struct backfill {
    const struct cli *cli;
    struct session session;
    struct loop *loop;
    struct marketplace *m;
    struct talk talk;
    struct buf kinds, orders, resources, keys; /* arrays of one length */
    size_t n;
    struct err err;
    bool failed;
    struct waldur_list told;
};

static void add(struct buf *array, const char *text)
{
    buf_adds(array, array->len > 1 ? "," : "");
    buf_adds(array, text && text[0] ? text : "NULL");
}

static int on_row(void *ctx, const struct waldur_row *row)
{
    struct backfill *b = ctx;
    const char *kind = hooks_kind(&row->hook);
    cli_progress("read %zu hints", b->n);
    if (kind) {
        add(&b->kinds, kind);
        add(&b->orders, row->hook.order_uuid);
        add(&b->resources, row->hook.resource_uuid);
        add(&b->keys, row->hook.api_key_uuid);
        b->n++;
    }
    return b->kinds.failed || b->orders.failed || b->resources.failed || b->keys.failed;
}

static void on_end(void *ctx, const struct err *err)
{
    struct backfill *b = ctx;
    if (err) {
        b->failed = true;
        b->err = *err;
    }
    b->told = *waldur_list_of(b->talk.op);
    loop_stop(b->loop);
}

static const struct talk_events events = {.end = on_end};

static int fetch(struct backfill *b, int64_t since_us, struct err *err)
{
    if (!(b->loop = loop_new(err)) ||
        !(b->m = marketplace_new(b->loop, b->session.config, NULL, err)))
        return -1;
    struct waldur_list_target t = {.access = marketplace_access(b->m),
                                   .kind = WALDUR_LIST_EVENTS,
                                   .since_us = since_us,
                                   .event_types = event_types,
                                   .n_event_types = ARRAY_LEN(event_types),
                                   .row = on_row,
                                   .ctx = b};
    struct waldur_op *op = waldur_list_start(&t, err);
    if (!op)
        return -1;
    talk_start(&b->talk, b->loop, b->m, op, "backfill", &events, b);
    if (loop_run(b->loop, err) != 0)
        return -1;
    cli_progress_end();
    if (b->failed) {
        *err = b->err;
        return err_prefix(err, "Waldur's events cannot be read");
    }
    return 0;
}

/* All or none, each once however often it was told. -1: said. */
static int64_t leave_hints(struct backfill *b)
{
    struct buf *const arrays[] = {&b->kinds, &b->orders, &b->resources, &b->keys};
    const char *params[ARRAY_LEN(arrays)];
    int64_t hints = -1;
    for (size_t i = 0; i < ARRAY_LEN(arrays); i++) {
        buf_addc(arrays[i], '}');
        params[i] = buf_str(arrays[i]);
        if (arrays[i]->failed) {
            cli_failf("there are more events than fit; take a later --since");
            return -1;
        }
    }
    if (session_number(
            &b->session,
            "SELECT count(agent_marketplace.waldur_hint(k, 'backfill', o, r, y)) FROM "
            "(SELECT DISTINCT k, o, r, y FROM unnest($1::text[], $2::uuid[], $3::uuid[], "
            "$4::uuid[]) AS u(k, o, r, y)) x",
            ARRAY_LEN(params), params, 0, &hints) != 0)
        return -1;
    PQclear(session_query(&b->session, "SELECT pg_notify('provisioner_orders', '')", 0, NULL));
    return hints;
}

static int summarize(const struct backfill *b, int64_t since_us, int64_t hints)
{
    struct buf out;
    char since[CLOCK_TEXT_MAX];
    clock_format(since, since_us);
    buf_init(&out, OUTPUT_MAX);
    if (cli_has(b->cli, OPT_JSON))
        buf_addf(&out,
                 "{\"since\":\"%s\",\"events\":%zu,\"unreadable\":%zu,\"hints\":%" PRId64 "}\n",
                 since, b->told.rows, b->told.skipped, hints);
    else
        buf_addf(&out,
                 "%zu events since %s, %zu of them unreadable; %" PRId64
                 " hints left for the workers\n",
                 b->told.rows + b->told.skipped, since, b->told.skipped, hints);
    int rc = cli_print(&out);
    return rc == CLI_OK && b->told.skipped > 0 ? CLI_ATTENTION : rc;
}

static int run(struct backfill *b, int64_t since_us)
{
    struct err err;
    if (!b->session.config->waldur_url)
        return cli_failf("no Waldur is configured; write waldur.url and waldur.token");
    if (fetch(b, since_us, &err) != 0)
        return cli_fail(&err);
    int64_t hints = leave_hints(b);
    return hints < 0 ? CLI_FAILED : summarize(b, since_us, hints);
}

int cmd_backfill(int argc, char **argv, const struct cli *cli)
{
    struct backfill b = {.cli = cli};
    struct buf *const arrays[] = {&b.kinds, &b.orders, &b.resources, &b.keys};
    int64_t since_us = 0;
    (void)argc, (void)argv;
    if (!cli_has(cli, OPT_SINCE))
        return cli_usage(cli, "say since when: --since 24h, or --since 2026-11-21T10:00:00Z");
    if (cli_time(cli, OPT_SINCE, clock_wall_us(), &since_us) != 0)
        return CLI_USAGE;
    for (size_t i = 0; i < ARRAY_LEN(arrays); i++) {
        buf_init(arrays[i], ARRAY_BYTES_MAX);
        buf_addc(arrays[i], '{');
    }
    int rc = session_open(&b.session, cli);
    if (rc == CLI_OK)
        rc = run(&b, since_us);
    talk_end(&b.talk);
    marketplace_free(b.m);
    loop_free(b.loop);
    session_close(&b.session);
    for (size_t i = 0; i < ARRAY_LEN(arrays); i++)
        buf_done(arrays[i]);
    return rc;
}
