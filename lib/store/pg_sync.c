/*
 * Session settings, errors in words, and the plain synchronous use of libpq.
 */
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "store/pg.h"
#include "store/pg_internal.h"

/*
 * synchronous_commit is only ever raised: a database set to "off" would break the promise that a
 * callback means "committed", while "remote_apply" and the like are the operator's choice.
 */
const char pg_session_sql[] =
    "select set_config('search_path', 'agent_marketplace, public', false),"
    " set_config('timezone', 'UTC', false),"
    " set_config('datestyle', 'ISO, YMD', false),"
    " set_config('intervalstyle', 'postgres', false),"
    " set_config('bytea_output', 'hex', false),"
    " set_config('extra_float_digits', '1', false),"
    " set_config('default_transaction_isolation', 'read committed', false),"
    " set_config('synchronous_commit', case current_setting('synchronous_commit')"
    "   when 'off' then 'on' else current_setting('synchronous_commit') end, false),"
    /* Compiling a plan takes 200 ms, and our statements are short whatever the planner expects. */
    " set_config('jit', 'off', false),"
    " set_config('idle_in_transaction_session_timeout', '30s', false),"
    " set_config('statement_timeout', $1, false),"
    " set_config('lock_timeout', $2, false)";

void pg_conninfo_fill(struct pg_conninfo *c, const char *url, const char *application)
{
    /* What stands before dbname the URL may override, what stands behind it not. */
    static const char *const defaults[][2] = {
        {"connect_timeout", "10"},    {"keepalives", "1"},       {"keepalives_idle", "30"},
        {"keepalives_interval", "5"}, {"keepalives_count", "4"}, {"tcp_user_timeout", "20000"},
    };
    size_t n = 0;
    for (; n < ARRAY_LEN(defaults); n++) {
        c->keywords[n] = defaults[n][0];
        c->values[n] = defaults[n][1];
    }
    const char *const rest[][2] = {{"dbname", url},
                                   {"application_name", application},
                                   {"client_encoding", "UTF8"},
                                   {NULL, NULL}};
    for (size_t i = 0; i < ARRAY_LEN(rest); i++, n++) {
        c->keywords[n] = rest[i][0];
        c->values[n] = rest[i][1];
    }
}

int pg_url_check(const char *url, struct err *err)
{
    /* Anything without "=" or a scheme libpq takes for a database's name; no one means that here.
     */
    if (!url ||
        (!str_starts(url, "postgresql://") && !str_starts(url, "postgres://") && !strchr(url, '=')))
        return err_set(err, ERR_INVALID,
                       "the database URL is not of the form postgresql://user:password@host/name");
    char *message = NULL;
    PQconninfoOption *options = PQconninfoParse(url, &message);
    /* The message may quote a part of the password, so it is not passed on. */
    PQfreemem(message);
    if (!options)
        return err_set(
            err, ERR_INVALID,
            "the database URL cannot be read; special characters in it need %%-encoding");
    PQconninfoFree(options);
    return 0;
}

static void drop_notice(void *arg, const PGresult *res)
{
    (void)arg;
    (void)res;
}

void pg_notices_off(PGconn *conn)
{
    PQsetNoticeReceiver(conn, drop_notice, NULL);
}

/* ---- errors ---- */

static bool state_in(const char *sqlstate, const char *const *list, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (str_starts(sqlstate, list[i]))
            return true;
    return false;
}

enum err_class pg_class_of(const char *sqlstate)
{
    static const char *const unknown[] = {"40003", "08007"}; /* the outcome of a commit is lost */
    /* The server's trouble, not the statement's: connections, rollbacks (deadlock), resources,
     * locks and time-outs, its disk, a stand-by, a prepared statement that is not there (any more).
     */
    static const char *const unavailable[] = {"0800", "40", "53",    "55P03", "57014",
                                              "57P0", "58", "25006", "26000"};
    if (state_in(sqlstate, unknown, ARRAY_LEN(unknown)))
        return ERR_UNKNOWN;
    if (state_in(sqlstate, unavailable, ARRAY_LEN(unavailable)))
        return ERR_UNAVAILABLE;
    return ERR_REFUSED;
}

bool pg_is_retryable(const char *sqlstate)
{
    return str_eq(sqlstate, "40P01") || str_eq(sqlstate, "40001");
}

bool pg_is_stale(const PGresult *res)
{
    if (str_eq(pg_sqlstate(res), "26000"))
        return true;
    /* "cached plan must not change result type"; the words are translated, the function's name is
     * not. */
    return str_eq(pg_sqlstate(res), "0A000") &&
           str_eq(PQresultErrorField(res, PG_DIAG_SOURCE_FUNCTION), "RevalidateCachedQuery");
}

const char *pg_sqlstate(const PGresult *res)
{
    const char *state = PQresultErrorField(res, PG_DIAG_SQLSTATE);
    return state ? state : "";
}

void pg_err_from_result(struct err *err, const PGresult *res, const char *what)
{
    if (!err)
        return;
    const char *state = pg_sqlstate(res);
    enum err_class class = *state && !pg_is_stale(res) ? pg_class_of(state) : ERR_UNAVAILABLE;
    const char *primary = PQresultErrorField(res, PG_DIAG_MESSAGE_PRIMARY);
    const char *constraint = PQresultErrorField(res, PG_DIAG_CONSTRAINT_NAME);
    char words[256];
    if (primary)
        str_copy(words, sizeof(words), primary);
    else
        pg_error_line(PQresultErrorMessage(res), words, sizeof(words));
    err_set(err, class, "%s: %s%s%s%s%s%s%s", what, words, constraint ? " (constraint " : "",
            constraint ? constraint : "", constraint ? ")" : "", *state ? " [" : "", state,
            *state ? "]" : "");
    str_copy(err->sqlstate, sizeof(err->sqlstate), state);
}

struct line_out {
    char *p;
    size_t len, size;
};

static void out_add(struct line_out *o, char c)
{
    if (o->len + 1 < o->size)
        o->p[o->len++] = c;
}

static bool line_has(const char *line, size_t n, const char *word)
{
    return memmem(line, n, word, strlen(word)) != NULL;
}

static bool line_starts(const char *line, size_t n, const char *word)
{
    return n >= strlen(word) && memcmp(line, word, strlen(word)) == 0;
}

/*
 * What libpq itself quotes may come from a mis-read URL, and so be a part of the password ("@" or
 * "/" in it not encoded). Safe are the server's words, and a host that was found.
 */
static bool quotes_are_safe(const char *line, size_t n)
{
    if (line_has(line, n, "FATAL: ") || line_has(line, n, "ERROR: "))
        return true;
    if (line_starts(line, n, "connection to server "))
        return true;
    return line_starts(line, n, "could not translate host name \"") && !memchr(line, '@', n);
}

static void add_line(struct line_out *o, const char *line, size_t n)
{
    bool mask = !quotes_are_safe(line, n);
    bool quoted = false;
    if (o->len > 0) {
        out_add(o, ';');
        out_add(o, ' ');
    }
    for (size_t i = 0; i < n; i++) {
        if (mask && line[i] == '"') {
            quoted = !quoted;
            for (const char *s = quoted ? "\"..." : "\""; *s; s++)
                out_add(o, *s);
        } else if (!quoted && (unsigned char)line[i] < ' ') {
            out_add(o, ' ');
        } else if (!quoted) {
            out_add(o, line[i]);
        }
    }
}

void pg_error_line(const char *message, char *out, size_t size)
{
    /* These quote data or the statement. */
    static const char *const dropped[] = {"DETAIL:", "CONTEXT:", "LINE ", "STATEMENT:", "QUERY:"};
    struct line_out o = {out, 0, size};
    while (message && *message) {
        message += strspn(message, " \t\r\n");
        size_t n = strcspn(message, "\n");
        bool keep = n > 0 && message[0] != '^';
        for (size_t i = 0; i < ARRAY_LEN(dropped); i++)
            keep = keep && !line_starts(message, n, dropped[i]);
        if (keep)
            add_line(&o, message, n);
        message += n;
    }
    if (o.len == 0)
        str_copy(out, size, "no reason given");
    else
        out[o.len] = '\0';
}

/* ---- synchronous use ---- */

static int session_setup(PGconn *conn, struct err *err)
{
    static const char *const no_timeouts[] = {"0", "0"};
    PGresult *res = pg_query(conn, pg_session_sql, 2, no_timeouts, err);
    if (!res)
        return -1;
    PQclear(res);
    return 0;
}

PGconn *pg_connect(const char *url, const char *application, struct err *err)
{
    if (pg_url_check(url, err) != 0)
        return NULL;
    struct pg_conninfo info;
    pg_conninfo_fill(&info, url, application);
    PGconn *conn = PQconnectdbParams(info.keywords, info.values, 1);
    if (!conn) {
        err_nomem(err);
        return NULL;
    }
    if (PQstatus(conn) != CONNECTION_OK) {
        char why[ERR_MSG_MAX];
        pg_error_line(PQerrorMessage(conn), why, sizeof(why));
        err_set(err, ERR_UNAVAILABLE, "cannot connect to the database: %s", why);
        PQfinish(conn);
        return NULL;
    }
    pg_notices_off(conn);
    if (session_setup(conn, err) != 0) {
        PQfinish(conn);
        return NULL;
    }
    return conn;
}

PGresult *pg_query(PGconn *conn, const char *sql, int n, const char *const *params, struct err *err)
{
    if (PQstatus(conn) != CONNECTION_OK) {
        err_set(err, ERR_UNAVAILABLE, "the database connection is closed");
        return NULL;
    }
    PGresult *res = PQexecParams(conn, sql, n, NULL, params, NULL, NULL, 0);
    ExecStatusType status = PQresultStatus(res);
    if (status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK)
        return res;
    if (PQstatus(conn) != CONNECTION_OK) {
        char why[ERR_MSG_MAX];
        pg_error_line(PQerrorMessage(conn), why, sizeof(why));
        err_set(err, ERR_UNKNOWN, "the database connection was lost: %s", why);
    } else {
        pg_err_from_result(err, res, "the database refused a statement");
    }
    PQclear(res);
    return NULL;
}
