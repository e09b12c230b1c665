/*
 * submit: events from files to Kafka, or straight into the inbox.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/str.h"
#include "commands.h"
#include "event/event.h"
#include "eventfile.h"
#include "plan.h"
#include "pump.h"
#include "session.h"
#include "statements.h"

enum {
    SUBMIT_TIMEOUT_MS = 30000,
    SUBMIT_TIMEOUT_MAX_MS = 24 * 60 * 60 * 1000,
    SUBMIT_WINDOW = 5000,   /* messages without an acknowledgement */
    SUBMIT_COMPLAINTS = 20, /* invalid events that are named */
    SUBMIT_TEXT_MAX = 8 * 1024,
};

static const char content_type[] = "application/cloudevents+json";

struct item {
    const struct eventfile_slice *slice;
    char subscription[UUID_TEXT];
};

struct submission {
    const struct cli *cli;
    struct config *config;
    struct eventfile **files;
    size_t n_files;
    struct item *items;
    size_t n_items, invalid;
    int64_t timeout_ms;
    struct pump pump;
    struct kafka_producer *producer;
    struct pg *pg;
    size_t applied, repeated, stale, noted, duplicate; /* --direct */
};

/* ---- reading ---- */

static int decode(const struct eventfile_slice *s, struct event *e, struct json_fault *fault)
{
    const struct event_header header = {"content-type", content_type, sizeof(content_type) - 1};
    return event_decode(s->text, s->len, &header, 1, clock_wall_us(), e, fault);
}

static void complain(struct submission *s, const struct eventfile *f,
                     const struct eventfile_slice *slice, const struct json_fault *fault)
{
    if (s->invalid++ < SUBMIT_COMPLAINTS)
        cli_failf("%s:%zu: %s%s%s", f->name, slice->line, fault->pointer,
                  *fault->pointer ? " " : "", fault->reason);
}

static int check_file(struct submission *s, const struct eventfile *f)
{
    struct item *grown = realloc(s->items, (s->n_items + f->n) * sizeof(*grown));
    if (!grown)
        return cli_failf("out of memory");
    s->items = grown;
    for (size_t i = 0; i < f->n; i++) {
        struct event e;
        struct json_fault fault;
        if (decode(&f->slices[i], &e, &fault) != 0) {
            if (fault.internal)
                return cli_failf("%s:%zu: %s", f->name, f->slices[i].line, fault.reason);
            complain(s, f, &f->slices[i], &fault);
            continue;
        }
        struct item *item = &s->items[s->n_items++];
        item->slice = &f->slices[i];
        str_copy(item->subscription, sizeof(item->subscription), e.subscription_uuid);
        event_done(&e);
        cli_progress("checked %zu events", s->n_items);
    }
    return CLI_OK;
}

static int read_files(struct submission *s, int argc, char **argv)
{
    struct err err;
    size_t bytes = 0;
    s->files = calloc((size_t)argc, sizeof(struct eventfile *));
    if (!s->files)
        return cli_failf("out of memory");
    for (int i = 0; i < argc; i++) {
        struct eventfile *f = eventfile_read(argv[i], &err);
        if (!f)
            return cli_fail(&err);
        s->files[s->n_files++] = f;
        bytes += f->len;
        if (bytes > EVENTFILE_BYTES_MAX)
            return cli_failf("the files hold more than %d MiB; submit them in parts",
                             EVENTFILE_BYTES_MAX / (1024 * 1024));
        int rc = check_file(s, f);
        if (rc != CLI_OK)
            return rc;
    }
    if (s->invalid > SUBMIT_COMPLAINTS)
        cli_failf("%zu more events are invalid", s->invalid - SUBMIT_COMPLAINTS);
    if (s->invalid > 0 && !cli_has(s->cli, OPT_SKIP_INVALID))
        return cli_failf(
            "nothing was sent: %zu of %zu events are invalid; mend them, or leave them "
            "out with --skip-invalid",
            s->invalid, s->invalid + s->n_items);
    return CLI_OK;
}

/* ---- to Kafka ---- */

static void delivered(void *ctx, const struct err *err)
{
    struct submission *s = ctx;
    pump_answer(&s->pump, err);
}

static int send_message(void *ctx, size_t i, struct err *err)
{
    struct submission *s = ctx;
    const struct item *item = &s->items[i];
    const struct kafka_header header = {"content-type", content_type, sizeof(content_type) - 1};
    return kafka_produce(s->producer, s->config->topic_events, item->subscription,
                         strlen(item->subscription), item->slice->text, item->slice->len, &header,
                         1, 0, delivered, s, err);
}

static int to_kafka(struct submission *s)
{
    struct err err;
    s->pump.send = send_message;
    s->producer = pump_producer(s->pump.loop, s->config, &err);
    if (!s->producer)
        return cli_fail(&err);
    int rc = pump_kafka(&s->pump, s->producer, s->config, s->timeout_ms);
    kafka_producer_free(s->producer);
    return rc;
}

/* ---- straight into the inbox ---- */

static void taken(void *ctx, const PGresult *res, const struct err *err)
{
    struct submission *s = ctx;
    const char *verdict = res ? PQgetvalue(res, 0, 0) : "";
    s->applied += str_eq(verdict, "applied");
    s->repeated += str_eq(verdict, "repeated");
    s->stale += str_eq(verdict, "stale");
    s->noted += str_eq(verdict, "noted");
    s->duplicate += str_eq(verdict, "duplicate");
    pump_answer(&s->pump, err);
}

static int submit_event(struct submission *s, const struct event *e, struct err *err)
{
    char time[CLOCK_TEXT_MAX], deadline[24];
    clock_format(time, e->time_us);
    snprintf(deadline, sizeof(deadline), "%" PRId64, s->config->retry_deadline_ms);
    const struct pg_param params[] = {
        {e->source, -1},
        {e->id, -1},
        {event_type_name(e->type), -1},
        {e->subscription_uuid, -1},
        {*e->organization_uuid ? e->organization_uuid : NULL, -1},
        {e->order_uuid, -1},
        {time, -1},
        {e->data, -1},
        {*e->traceparent ? e->traceparent : NULL, -1},
        {NULL, -1},
        {NULL, -1},
        {NULL, -1},
        {deadline, -1},
        {plan_place(e->data, s->config), -1},
    };
    return pg_submit(s->pg, S_INBOX_TAKE, e->subscription_uuid, false, params, taken, s, err);
}

static int send_statement(void *ctx, size_t i, struct err *err)
{
    struct submission *s = ctx;
    struct event e;
    struct json_fault fault;
    /* While the connection is not there, statements fail: wait instead. */
    if (!pg_is_up(s->pg))
        return err_set(err, ERR_THROTTLED, "the database is not connected yet");
    if (decode(s->items[i].slice, &e, &fault) != 0)
        return err_set(err, ERR_INTERNAL, "%s", fault.reason);
    int rc = submit_event(s, &e, err);
    event_done(&e);
    return rc;
}

static void on_state(void *ctx, bool up, const char *why)
{
    struct submission *s = ctx;
    (void)why;
    if (up)
        pump_feed(&s->pump);
}

static int to_inbox(struct submission *s)
{
    struct session session;
    struct err err;
    /* A plain connection first: it says at once, in words, what is wrong. */
    int rc = session_open(&session, s->cli);
    session_close(&session);
    if (rc != CLI_OK)
        return rc;
    const struct pg_options options = {.url = s->config->database_url,
                                       .application = "provisioner submit",
                                       .statements = statements,
                                       .n_statements = STATEMENT_MAX,
                                       .statement_timeout_ms = s->timeout_ms,
                                       .on_state = on_state,
                                       .ctx = s};
    s->pump.send = send_statement;
    s->pump.timeout_ms = s->timeout_ms;
    s->pg = pg_new(s->pump.loop, &options, &err);
    if (!s->pg)
        return cli_fail(&err);
    rc = pump_run(&s->pump);
    pg_free(s->pg);
    return rc;
}

/* ---- the command ---- */

static int explain_failure(const struct submission *s)
{
    const struct pump *p = &s->pump;
    const bool open = p->err.class == ERR_UNKNOWN;
    return cli_failf("%zu of %zu events were taken, then: %s%s; submitting the same files again is "
                     "safe, events are known by source and id",
                     p->done, p->n, p->err.msg,
                     open ? " (what was under way may have arrived)" : "");
}

static int report(const struct submission *s, bool direct)
{
    struct buf out;
    buf_init(&out, SUBMIT_TEXT_MAX);
    if (cli_has(s->cli, OPT_JSON)) {
        buf_addf(&out, "{\"submitted\": %zu, \"invalid\": %zu", s->pump.done, s->invalid);
        if (direct)
            buf_addf(&out,
                     ", \"applied\": %zu, \"repeated\": %zu, \"stale\": %zu, \"noted\": %zu, "
                     "\"duplicate\": %zu",
                     s->applied, s->repeated, s->stale, s->noted, s->duplicate);
        buf_adds(&out, "}\n");
    } else {
        buf_addf(&out, "submitted %zu event%s %s", s->pump.done, s->pump.done == 1 ? "" : "s",
                 direct ? "to the inbox" : "to topic ");
        if (direct)
            buf_addf(&out, ": %zu applied, %zu repeated, %zu stale, %zu noted, %zu duplicate",
                     s->applied, s->repeated, s->stale, s->noted, s->duplicate);
        else
            buf_adds(&out, s->config->topic_events);
        buf_addf(&out, "%s\n", s->invalid ? ", left out what is invalid" : "");
    }
    return cli_print(&out);
}

static int submit(struct submission *s)
{
    struct err err;
    const bool direct = cli_has(s->cli, OPT_DIRECT);
    s->pump =
        (struct pump){.ctx = s, .n = s->n_items, .window = SUBMIT_WINDOW, .verb = "submitted"};
    s->pump.loop = loop_new(&err);
    if (!s->pump.loop)
        return cli_fail(&err);
    int rc = s->n_items == 0 ? 0 : direct ? to_inbox(s) : to_kafka(s);
    loop_free(s->pump.loop);
    if (rc > 0)
        return rc;
    if (rc < 0) {
        explain_failure(s);
        if (cli_has(s->cli, OPT_JSON))
            report(s, direct);
        return CLI_FAILED;
    }
    rc = report(s, direct);
    return rc == CLI_OK && s->invalid ? CLI_ATTENTION : rc;
}

int cmd_submit(int argc, char **argv, const struct cli *cli)
{
    struct submission s = {.cli = cli};
    if (cli_duration(cli, OPT_TIMEOUT, SUBMIT_TIMEOUT_MS, &s.timeout_ms) != 0)
        return CLI_USAGE;
    if (s.timeout_ms < 1 || s.timeout_ms > SUBMIT_TIMEOUT_MAX_MS)
        return cli_usage(cli, "--timeout takes a duration from 1ms to 24h");
    int rc = cli_config(cli, &s.config);
    if (rc == CLI_OK)
        rc = read_files(&s, argc, argv);
    if (rc == CLI_OK)
        rc = submit(&s);
    for (size_t i = 0; i < s.n_files; i++)
        eventfile_free(s.files[i]);
    free(s.files);
    free(s.items);
    config_free(s.config);
    return rc;
}
