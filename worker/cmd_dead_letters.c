/*
 * dead-letters: the messages that could not be decoded.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "commands.h"
#include "message.h"
#include "pump.h"
#include "session.h"
#include "store/pg.h"

enum {
    LETTERS_LIMIT = 50,
    LETTERS_LIMIT_MAX = 100000,
    LETTER_TEXT_MAX = 4096, /* bytes of a value that `show` prints on a terminal */
    LETTER_HEX_MAX = 1024,  /* bytes of it that are shown in hex */
    LETTER_WINDOW = 64,     /* replays without an acknowledgement; each may be megabytes */
    LETTER_TIMEOUT_MS = 30000,
};

/* ---- list ---- */

static const struct table_column list_columns[] = {
    {"id", "ID", CELL_NUMBER, false, 0},
    {"state", "STATE", CELL_TEXT, false, 2},
    {"kafka_topic", "TOPIC", CELL_TEXT, false, 4},
    {"kafka_partition", "PARTITION", CELL_NUMBER, false, 3},
    {"kafka_offset", "OFFSET", CELL_NUMBER, false, 3},
    {"value_bytes", "BYTES", CELL_NUMBER, false, 5},
    {"replays", "REPLAYS", CELL_NUMBER, false, 6},
    {"received_at", "RECEIVED", CELL_TIME, false, 0},
    {"pointer", "WHERE", CELL_TEXT, true, 0},
    {"reason", "REASON", CELL_TEXT, true, 0},
    {"message_time", NULL, CELL_TIME, false, 0},
    {"published_at", NULL, CELL_TIME, false, 0},
    {"resolved_at", NULL, CELL_TIME, false, 0},
};

static int list(struct session *s)
{
    const char *state = cli_value(s->cli, OPT_STATE);
    char limit[24];
    int64_t n;
    if (state && !str_eq(state, "new") && !str_eq(state, "replayed") &&
        !str_eq(state, "discarded") && !str_eq(state, "all"))
        return cli_usage(s->cli, "--state takes new, replayed, discarded or all here");
    if (cli_integer(s->cli, OPT_LIMIT, 1, LETTERS_LIMIT_MAX, LETTERS_LIMIT, &n) != 0)
        return CLI_USAGE;
    snprintf(limit, sizeof(limit), "%" PRId64, n);
    const char *const params[] = {state ? state : "new", limit};
    PGresult *res = session_query(
        s,
        "SELECT id, state, kafka_topic, kafka_partition, kafka_offset, value_bytes, replays, "
        "received_at, pointer, reason, message_time, published_at, resolved_at "
        "FROM agent_marketplace.dead_letter WHERE $1 = 'all' OR state = $1 "
        "ORDER BY id DESC LIMIT $2::bigint",
        2, params);
    return res ? session_list(s, res, list_columns, ARRAY_LEN(list_columns), "no dead letters")
               : CLI_FAILED;
}

/* ---- one letter ---- */

enum { L_VALUE_BYTES = 5, L_REPLAYS = 6, L_KEY = 13, L_VALUE, L_HEADERS, L_TIME_MS };

struct letter {
    PGresult *res; /* one row; its first columns are those of the list */
    unsigned char *key, *value;
    size_t key_len, value_len;
    struct message_headers headers;
    int64_t replays, value_bytes, time_ms;
};

static void letter_free(struct letter *l)
{
    if (!l)
        return;
    PQclear(l->res);
    PQfreemem(l->key);
    PQfreemem(l->value);
    message_headers_done(&l->headers);
    free(l);
}

static unsigned char *column_bytes(const PGresult *res, int column, size_t *n)
{
    *n = 0;
    if (PQgetisnull(res, 0, column))
        return NULL;
    return PQunescapeBytea((const unsigned char *)PQgetvalue(res, 0, column), n);
}

static PGresult *letter_query(struct session *s, const char *id, struct err *err)
{
    int64_t number;
    const char *const params[] = {id};
    if (!str_to_i64(id, &number)) {
        err_set(err, ERR_INVALID,
                "\"%s\" is no dead letter's id; `provisioner dead-letters list` shows them", id);
        return NULL;
    }
    PGresult *res = pg_query(
        s->conn,
        "SELECT id, state, kafka_topic, kafka_partition, kafka_offset, value_bytes, replays, "
        "received_at, pointer, reason, message_time, published_at, resolved_at, key, value, "
        "headers, "
        "(extract(epoch FROM message_time) * 1000)::bigint "
        "FROM agent_marketplace.dead_letter WHERE id = $1::bigint",
        1, params, err);
    if (res && PQntuples(res) == 0) {
        err_set(err, ERR_GONE,
                "there is no dead letter %s; `provisioner dead-letters list` shows them", id);
        PQclear(res);
        return NULL;
    }
    return res;
}

static struct letter *letter_load(struct session *s, const char *id, struct err *err)
{
    PGresult *res = letter_query(s, id, err);
    struct letter *l = res ? calloc(1, sizeof(*l)) : NULL;
    if (!l) {
        if (res)
            err_nomem(err);
        PQclear(res);
        return NULL;
    }
    l->res = res;
    l->key = column_bytes(res, L_KEY, &l->key_len);
    l->value = column_bytes(res, L_VALUE, &l->value_len);
    str_to_i64(PQgetvalue(res, 0, L_VALUE_BYTES), &l->value_bytes);
    str_to_i64(PQgetvalue(res, 0, L_REPLAYS), &l->replays);
    if (!PQgetisnull(res, 0, L_TIME_MS))
        str_to_i64(PQgetvalue(res, 0, L_TIME_MS), &l->time_ms);
    if (message_headers_read(PQgetvalue(res, 0, L_HEADERS), &l->headers, err) == 0)
        return l;
    err_prefix(err, "dead letter %s", id);
    letter_free(l);
    return NULL;
}

/* ---- show ---- */

static void add_hex(struct buf *out, const unsigned char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        buf_addf(out, "%02x", p[i]);
}

/* "name": text, and "name_hex" where it is no text. */
static void add_bytes_json(struct buf *out, const char *name, const void *p, size_t n)
{
    const bool text = p && str_is_utf8(p, n) && !memchr(p, 0, n);
    buf_addf(out, "\"%s\": ", name);
    if (text)
        buf_add_jsonn(out, p, n);
    else
        buf_adds(out, "null");
    if (!p || text)
        return;
    buf_addf(out, ", \"%s_hex\": \"", name);
    add_hex(out, p, n);
    buf_addc(out, '"');
}

static void add_bytes_text(struct buf *out, const void *p, size_t n)
{
    const bool text = p && str_is_utf8(p, n) && !memchr(p, 0, n);
    size_t shown = n < LETTER_HEX_MAX ? n : LETTER_HEX_MAX;
    if (!p) {
        buf_adds(out, "(null)\n");
        return;
    }
    if (text) {
        shown = str_utf8_cut(p, n, LETTER_TEXT_MAX);
        table_escape(out, p, shown);
    } else {
        buf_adds(out, "hex ");
        add_hex(out, p, shown);
    }
    if (shown < n)
        buf_addf(out, " ... (%zu of %zu bytes; --json shows them all)", shown, n);
    buf_addc(out, '\n');
}

static void letter_json(const struct letter *l, const struct table *t, struct buf *out)
{
    table_json_row(t, 0, out);
    /* More members before the closing brace. */
    if (!out->failed)
        out->data[--out->len] = '\0';
    buf_adds(out, ", ");
    add_bytes_json(out, "key", l->key, l->key_len);
    buf_adds(out, ", \"headers\": [");
    for (size_t i = 0; i < l->headers.n; i++) {
        const struct kafka_header *h = &l->headers.list[i];
        buf_adds(out, i ? ", {\"name\": " : "{\"name\": ");
        buf_add_json(out, h->name);
        buf_adds(out, ", ");
        add_bytes_json(out, "value", h->value, h->len);
        buf_addc(out, '}');
    }
    buf_adds(out, "], ");
    add_bytes_json(out, "value", l->value, l->value_len);
    buf_addc(out, '}');
}

static void letter_text(const struct letter *l, const struct table *t, struct buf *out)
{
    struct table_view view = session_view(true);
    table_fields(t, 0, &view, out);
    buf_adds(out, "KEY        ");
    add_bytes_text(out, l->key, l->key_len);
    for (size_t i = 0; i < l->headers.n; i++) {
        const struct kafka_header *h = &l->headers.list[i];
        buf_adds(out, "HEADER     ");
        table_escape(out, h->name, strlen(h->name));
        buf_adds(out, ": ");
        add_bytes_text(out, h->value, h->len);
    }
    buf_adds(out, "VALUE\n");
    add_bytes_text(out, l->value, l->value_len);
}

static int show(struct session *s, int argc, char **argv)
{
    struct err err;
    struct buf out;
    const bool json = cli_has(s->cli, OPT_JSON);
    int missing = 0, shown = 0;
    if (argc == 0)
        return cli_usage(s->cli, "dead-letters show needs ID...");
    buf_init(&out, SESSION_OUTPUT_MAX);
    for (int i = 0; i < argc; i++) {
        struct letter *l = letter_load(s, argv[i], &err);
        if (!l) {
            cli_fail(&err);
            missing++;
            continue;
        }
        struct table t = session_table(l->res, list_columns, ARRAY_LEN(list_columns));
        if (json)
            buf_adds(&out, shown ? ",\n " : "[\n ");
        else
            buf_adds(&out, shown ? "\n" : "");
        shown++;
        (json ? letter_json : letter_text)(l, &t, &out);
        letter_free(l);
    }
    if (json)
        buf_adds(&out, shown ? "\n]\n" : "[]\n");
    int rc = cli_print(&out);
    return missing ? CLI_FAILED : rc;
}

/* ---- which ones ---- */

struct chosen {
    PGresult *res; /* owns the ids of --all */
    const char **ids;
    size_t n;
};

static void chosen_done(struct chosen *c)
{
    PQclear(c->res);
    free(c->ids);
    *c = (struct chosen){0};
}

static int choose(struct session *s, int argc, char **argv, const char *verb, struct chosen *c)
{
    const bool all = cli_has(s->cli, OPT_ALL);
    if (all == (argc > 0))
        return cli_usage(s->cli, "dead-letters %s needs either ID... or --all", verb);
    if (all) {
        c->res = session_query(s,
                               "SELECT id FROM agent_marketplace.dead_letter WHERE state = 'new' "
                               "ORDER BY id LIMIT 100000",
                               0, NULL);
        if (!c->res)
            return CLI_FAILED;
    }
    c->n = all ? (size_t)PQntuples(c->res) : (size_t)argc;
    c->ids = calloc(c->n + 1, sizeof(*c->ids));
    if (!c->ids)
        return cli_failf("out of memory");
    for (size_t i = 0; i < c->n; i++)
        c->ids[i] = all ? PQgetvalue(c->res, (int)i, 0) : argv[i];
    if (all && c->n > 0 && !cli_has(s->cli, OPT_YES) &&
        !cli_confirm("%s all %zu new dead letters?", verb, c->n))
        return cli_failf("nothing was done: %zu dead letters are new; confirm with --yes", c->n);
    return CLI_OK;
}

static int print_count(struct session *s, const char *done, size_t n)
{
    struct buf out;
    buf_init(&out, SESSION_OUTPUT_MAX);
    if (cli_has(s->cli, OPT_JSON))
        buf_addf(&out, "{\"%s\": %zu}\n", done, n);
    else
        buf_addf(&out, "%s %zu dead letter%s\n", done, n, n == 1 ? "" : "s");
    return cli_print(&out);
}

/* ---- discard ---- */

static int discard(struct session *s, const struct chosen *c)
{
    int64_t number;
    for (size_t i = 0; i < c->n; i++)
        if (!str_to_i64(c->ids[i], &number))
            return cli_failf(
                "\"%s\" is no dead letter's id; `provisioner dead-letters list` shows them",
                c->ids[i]);
    char *ids = session_array(c->ids, c->n);
    const char *const params[] = {ids};
    PGresult *res =
        ids ? session_query(s,
                            "UPDATE agent_marketplace.dead_letter "
                            "SET state = 'discarded', resolved_at = now() "
                            "WHERE id = ANY ($1::text[]::bigint[]) AND state = 'new' RETURNING id",
                            1, params)
            : NULL;
    free(ids);
    if (!res)
        return CLI_FAILED;
    size_t n = (size_t)PQntuples(res);
    PQclear(res);
    int rc = print_count(s, "discarded", n);
    /* With --all somebody else may have been quicker, and that is as good. */
    if (rc == CLI_OK && n < c->n && !cli_has(s->cli, OPT_ALL))
        rc = cli_failf(
            "%zu of %zu are unknown or were resolved before; `provisioner dead-letters list "
            "--state all` shows them",
            c->n - n, c->n);
    return rc;
}

/* ---- replay ---- */

struct replaying {
    struct session *session;
    const struct chosen *chosen;
    struct kafka_producer *producer;
    struct pump pump;
    struct sending {
        struct replaying *r;
        const char *id;
    } * sendings;
};

static void acknowledged(void *ctx, const struct err *failure)
{
    const struct sending *x = ctx;
    struct err err;
    const char *const params[] = {x->id};
    if (!failure) {
        PGresult *res =
            pg_query(x->r->session->conn,
                     "UPDATE agent_marketplace.dead_letter "
                     "SET state = 'replayed', resolved_at = now() WHERE id = $1::bigint",
                     1, params, &err);
        if (!res) {
            err_prefix(&err, "dead letter %s was sent, but cannot be marked", x->id);
            failure = &err;
        }
        PQclear(res);
    }
    pump_answer(&x->r->pump, failure);
}

/* The original ones; what was added when the message was given up goes, the count of replays comes.
 */
static size_t replay_headers(const struct letter *l, const char *count, struct kafka_header *out)
{
    size_t n = 0;
    for (size_t i = 0; i < l->headers.n; i++)
        if (!message_is_error_header(l->headers.list[i].name))
            out[n++] = l->headers.list[i];
    out[n++] = (struct kafka_header){MESSAGE_REPLAYS, count, strlen(count)};
    return n;
}

/* A message is replayed whole or not at all. */
static int check_whole(const struct letter *l, const char *id, struct err *err)
{
    bool whole = l->value_bytes == (int64_t)l->value_len;
    for (size_t i = 0; i < l->headers.n; i++)
        whole = whole && !str_eq(l->headers.list[i].name, MESSAGE_LEFT_OUT);
    if (whole)
        return 0;
    return err_set(err, ERR_INVALID,
                   "dead letter %s was too large to be kept whole (%" PRId64
                   " bytes, %zu kept); discard it and have the event sent again",
                   id, l->value_bytes, l->value_len);
}

static int produce(struct replaying *r, const struct letter *l, struct sending *x, struct err *err)
{
    struct kafka_header headers[MESSAGE_HEADERS_MAX + 1];
    char count[24];
    if (check_whole(l, x->id, err) != 0)
        return -1;
    snprintf(count, sizeof(count), "%" PRId64, l->replays + 1);
    size_t n = replay_headers(l, count, headers);
    return kafka_produce(r->producer, r->session->config->topic_events, l->key, l->key_len,
                         l->value, l->value_len, headers, n, l->time_ms, acknowledged, x, err);
}

static int send_letter(void *ctx, size_t i, struct err *err)
{
    struct replaying *r = ctx;
    struct sending *x = &r->sendings[i];
    struct letter *l = letter_load(r->session, x->id, err);
    int rc = l ? produce(r, l, x, err) : -1;
    letter_free(l);
    return rc;
}

static int replay_sent(struct replaying *r)
{
    struct err err;
    r->producer = pump_producer(r->pump.loop, r->session->config, &err);
    if (!r->producer)
        return cli_fail(&err);
    int rc = CLI_OK;
    if (pump_kafka(&r->pump, r->producer, r->session->config, LETTER_TIMEOUT_MS) != 0)
        rc = cli_failf("%zu of %zu dead letters were replayed, then: %s", r->pump.done, r->pump.n,
                       r->pump.err.msg);
    kafka_producer_free(r->producer);
    int printed = print_count(r->session, "replayed", r->pump.done);
    return rc == CLI_OK ? printed : rc;
}

static int replay(struct session *s, const struct chosen *c)
{
    struct err err;
    struct replaying r = {.session = s, .chosen = c};
    r.pump = (struct pump){.send = send_letter,
                           .ctx = &r,
                           .n = c->n,
                           .window = LETTER_WINDOW,
                           .verb = "replayed",
                           .loop = loop_new(&err)};
    if (!r.pump.loop)
        return cli_fail(&err);
    int rc = CLI_FAILED;
    r.sendings = calloc(c->n + 1, sizeof(*r.sendings));
    for (size_t i = 0; r.sendings && i < c->n; i++)
        r.sendings[i] = (struct sending){&r, c->ids[i]};
    if (r.sendings)
        rc = replay_sent(&r);
    else
        cli_failf("out of memory");
    free(r.sendings);
    loop_free(r.pump.loop);
    return rc;
}

/* ---- the command ---- */

static int resolve(struct session *s, int argc, char **argv, const char *verb,
                   int (*act)(struct session *, const struct chosen *))
{
    struct chosen c = {0};
    int rc = choose(s, argc, argv, verb, &c);
    if (rc == CLI_OK)
        rc = act(s, &c);
    chosen_done(&c);
    return rc;
}

int cmd_dead_letters(int argc, char **argv, const struct cli *cli)
{
    struct session s;
    const char *verb = argv[0];
    if (!str_eq(verb, "list") && !str_eq(verb, "show") && !str_eq(verb, "replay") &&
        !str_eq(verb, "discard"))
        return cli_usage(
            cli, "dead-letters does not know \"%s\"; it takes list, show, replay or discard", verb);
    if (str_eq(verb, "list") && argc > 1)
        return cli_usage(cli, "dead-letters list does not take \"%s\"", argv[1]);
    int rc = session_open(&s, cli);
    if (rc == CLI_OK && str_eq(verb, "list"))
        rc = list(&s);
    else if (rc == CLI_OK && str_eq(verb, "show"))
        rc = show(&s, argc - 1, argv + 1);
    else if (rc == CLI_OK && str_eq(verb, "replay"))
        rc = resolve(&s, argc - 1, argv + 1, "replay", replay);
    else if (rc == CLI_OK)
        rc = resolve(&s, argc - 1, argv + 1, "discard", discard);
    session_close(&s);
    return rc;
}
