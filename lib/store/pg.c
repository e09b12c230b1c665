/*
 * All outstanding statements stand in one list in order of submission, and leave it from its head
 * only, so callbacks run in that order whatever happened in between:
 *
 *     head                      unsent                 tail
 *      |  done, sent, to replay  |  waiting, never sent |
 *
 * A group is a run of statements from `unsent`, or one statement to replay. A group that fails is
 * rolled back as a whole; its statements go to the replay list, which has precedence over `unsent`.
 * No group is sent while another one in flight holds one of its lock keys: the other might fail and
 * be replayed, and its statements would be overtaken.
 */
#include "store/pg.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/str.h"
#include "store/pg_internal.h"

enum fate {
    WAITING,
    SENT,
    REPLAY,
    ANSWERED, /* res is the answer, good or bad */
    LOST,     /* sent when the connection went */
    UNSENT    /* not sent when the connection went */
};

struct stmt {
    struct stmt *next;   /* in order of submission */
    struct stmt *replay; /* next to run again */
    pg_done_fn *done;
    void *ctx;
    PGresult *res;
    uint64_t seq;
    size_t bytes; /* of this allocation */
    uint32_t key; /* offset of lock_key in data; 0 (where parameters begin) for none */
    uint16_t statement;
    uint8_t fate;
    uint8_t tries;
    bool alone;
    /* For each parameter an int32_t length (-1: NULL, -2: C string) and its bytes and a NUL. */
    char data[];
};

struct group {
    struct stmt *sorted[PG_GROUP_MAX];
    struct stmt *first; /* in order of submission; the others follow it */
    size_t n;
    size_t got;       /* results so far */
    bool failed;      /* a statement failed, or the commit */
    PGresult *commit; /* why the commit failed */
    int64_t since_ms; /* when nothing stood before it any more */
};

enum state { DOWN, SETTING_UP, UP };

struct pg {
    struct loop *loop;
    struct pg_dial dial;
    struct pg_options options; /* url and application are not kept here */
    char statement_timeout[24], lock_timeout[24];
    enum state state;
    bool announced, announced_up; /* what on_state was told last */
    size_t setup_left;            /* results until the session is ready */
    struct stmt *head, *tail, *unsent;
    struct stmt *replay_head, *replay_tail;
    struct group groups[PG_GROUPS_IN_FLIGHT]; /* a ring */
    size_t first_group, in_flight;
    size_t outstanding, bytes;
    uint64_t seq;
    uint64_t connections;
    char why[ERR_MSG_MAX]; /* the last loss */
    struct pg_stats stats;
};

/* ---- statements ---- */

static const char *key_of(const struct stmt *s)
{
    return s->key ? s->data + s->key : NULL;
}

static size_t param_len(const struct pg_param *param)
{
    if (!param->value)
        return 0;
    return param->len >= 0 ? (size_t)param->len : strlen(param->value);
}

static char *put_param(char *at, const struct pg_param *param)
{
    size_t n = param_len(param);
    int32_t mark = !param->value ? -1 : param->len >= 0 ? (int32_t)n : -2;
    memcpy(at, &mark, sizeof(mark));
    at += sizeof(mark);
    if (!param->value)
        return at;
    memcpy(at, param->value, n);
    at[n] = '\0';
    return at + n + 1;
}

/* The bytes of struct stmt; 0 where they are beyond all bounds. */
static size_t stmt_size(const char *lock_key, const struct pg_param *params, int n)
{
    size_t size = sizeof(struct stmt) + 1;
    for (int i = 0; i < n; i++) {
        size_t len = param_len(&params[i]);
        if (len > PG_QUEUE_BYTES_MAX)
            return 0;
        size += sizeof(int32_t) + len + 1;
    }
    size += lock_key ? strlen(lock_key) + 1 : 0;
    return size > PG_QUEUE_BYTES_MAX ? 0 : size;
}

static struct stmt *stmt_new(size_t size, const char *lock_key, const struct pg_param *params,
                             int n)
{
    struct stmt *s = calloc(1, size);
    if (!s)
        return NULL;
    s->bytes = size;
    char *at = s->data;
    for (int i = 0; i < n; i++)
        at = put_param(at, &params[i]);
    if (lock_key) {
        at++; /* the offset must not be 0 where there are no parameters */
        s->key = (uint32_t)(at - s->data);
        memcpy(at, lock_key, strlen(lock_key) + 1);
    }
    return s;
}

static void stmt_free(struct stmt *s)
{
    PQclear(s->res);
    free(s);
}

int pg_submit(struct pg *p, int statement, const char *lock_key, bool alone,
              const struct pg_param *params, pg_done_fn *done, void *ctx, struct err *err)
{
    if (statement < 0 || (size_t)statement >= p->options.n_statements)
        return err_set(err, ERR_INTERNAL, "there is no statement %d", statement);
    int n = p->options.statements[statement].n_params;
    size_t size = stmt_size(lock_key, params, n);
    if (p->outstanding >= PG_QUEUE_MAX || size == 0 || p->bytes + size > PG_QUEUE_BYTES_MAX)
        return err_set(err, ERR_UNAVAILABLE,
                       "the queue to the database is full (%zu statements, %zu bytes)",
                       p->outstanding, p->bytes);
    struct stmt *s = stmt_new(size, lock_key, params, n);
    if (!s)
        return err_nomem(err);
    s->done = done;
    s->ctx = ctx;
    s->alone = alone;
    s->statement = (uint16_t)statement;
    s->seq = p->seq++;
    if (p->tail)
        p->tail->next = s;
    else
        p->head = s;
    p->tail = s;
    if (!p->unsent) {
        p->unsent = s;
        loop_wake(p->loop); /* the hook of this turn may be over */
    }
    p->outstanding++;
    p->bytes += size;
    return 0;
}

/* ---- answers ---- */

static void answer(struct pg *p, struct stmt *s)
{
    struct err err;
    err_clear(&err);
    if (s->fate == LOST) {
        err_set(&err, ERR_UNKNOWN, "the database connection was lost: %s", p->why);
    } else if (s->fate == UNSENT) {
        err_set(&err, ERR_UNAVAILABLE, "the database is not connected: %s", p->why);
    } else {
        ExecStatusType status = PQresultStatus(s->res);
        if (status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK) {
            p->stats.statements++;
            if (s->done)
                s->done(s->ctx, s->res, NULL);
            return;
        }
        pg_err_from_result(&err, s->res, p->options.statements[s->statement].name);
    }
    p->stats.failures++;
    if (s->done)
        s->done(s->ctx, NULL, &err);
}

/* Runs callbacks from the head up to the first statement that is still open. */
static void deliver(struct pg *p)
{
    while (p->head && p->head->fate >= ANSWERED) {
        struct stmt *s = p->head;
        p->head = s->next;
        if (!p->head)
            p->tail = NULL;
        p->outstanding--;
        p->bytes -= s->bytes;
        answer(p, s);
        stmt_free(s);
    }
}

/* Everything open meets its fate; what callbacks submit meanwhile waits for the next turn. */
static void fail_all(struct pg *p)
{
    for (struct stmt *s = p->head; s; s = s->next)
        if (s->fate < ANSWERED)
            s->fate = s->fate == SENT ? LOST : UNSENT;
    p->unsent = NULL;
    p->replay_head = p->replay_tail = NULL;
    deliver(p);
}

/* ---- state ---- */

static void announce(struct pg *p, bool up, const char *why)
{
    if (p->announced && p->announced_up == up)
        return;
    p->announced = true;
    p->announced_up = up;
    if (p->options.on_state)
        p->options.on_state(p->options.ctx, up, why);
}

static void drop_groups(struct pg *p)
{
    for (size_t i = 0; i < PG_GROUPS_IN_FLIGHT; i++) {
        struct group *g = &p->groups[i];
        PQclear(g->commit);
        g->commit = NULL;
    }
    p->in_flight = 0;
}

static void on_lost(void *ctx, const char *why)
{
    struct pg *p = ctx;
    p->state = DOWN;
    str_copy(p->why, sizeof(p->why), why);
    drop_groups(p);
    announce(p, false, p->why);
    fail_all(p);
}

static void on_ready(void *ctx, uint32_t events);

/* Sends what libpq holds; watches for room as long as it holds some. -1: the connection is gone. */
static int flush(struct pg *p)
{
    int left = PQflush(p->dial.conn);
    if (left < 0) {
        pg_dial_drop(&p->dial, NULL);
        return -1;
    }
    uint32_t events = left ? EPOLLIN | EPOLLOUT : EPOLLIN;
    if (events != p->dial.events) {
        struct err err;
        if (loop_fd_mod(p->loop, p->dial.fd, events, &err) != 0) {
            pg_dial_drop(&p->dial, err.msg);
            return -1;
        }
        p->dial.events = events;
    }
    return 0;
}

/* ---- setting a session up: settings and prepared statements in one pipeline ---- */

static bool send_setup(struct pg *p)
{
    PGconn *conn = p->dial.conn;
    const char *const timeouts[] = {p->statement_timeout, p->lock_timeout};
    if (PQsetnonblocking(conn, 1) != 0 || !PQenterPipelineMode(conn))
        return false;
    if (!PQsendQueryParams(conn, pg_session_sql, 2, NULL, timeouts, NULL, NULL, 0))
        return false;
    for (size_t i = 0; i < p->options.n_statements; i++) {
        const struct pg_statement *s = &p->options.statements[i];
        if (!PQsendPrepare(conn, s->name, s->sql, 0, NULL))
            return false;
    }
    p->setup_left = 1 + p->options.n_statements;
    return PQpipelineSync(conn) == 1;
}

static void on_connected(void *ctx)
{
    struct pg *p = ctx;
    p->state = SETTING_UP;
    if (pg_dial_watch(&p->dial, EPOLLIN, on_ready, p) != 0)
        return;
    if (!send_setup(p))
        pg_dial_drop(&p->dial, NULL);
    else
        (void)flush(p);
}

static void setup_failed(struct pg *p, const PGresult *res)
{
    size_t at = 1 + p->options.n_statements - p->setup_left;
    const char *what = "session settings";
    if (at >= 1 && at <= p->options.n_statements)
        what = p->options.statements[at - 1].name;
    struct err err;
    pg_err_from_result(&err, res, what);
    pg_dial_drop(&p->dial, err.msg);
}

static void setup_result(struct pg *p, const PGresult *res)
{
    switch (PQresultStatus(res)) {
    case PGRES_TUPLES_OK:
    case PGRES_COMMAND_OK:
        p->setup_left--;
        break;
    case PGRES_PIPELINE_SYNC:
        p->state = UP;
        pg_dial_settle(&p->dial);
        p->stats.reconnects += p->connections++ > 0;
        announce(p, true, "connected");
        break;
    default:
        setup_failed(p, res);
        break;
    }
}

/* ---- groups ---- */

static struct group *group_at(struct pg *p, size_t i)
{
    return &p->groups[(p->first_group + i) % PG_GROUPS_IN_FLIGHT];
}

static int key_compare(const char *a, const char *b)
{
    if (!a || !b)
        return (a != NULL) - (b != NULL);
    return strcmp(a, b);
}

static int stmt_compare(const void *a, const void *b)
{
    const struct stmt *x = *(struct stmt *const *)a;
    const struct stmt *y = *(struct stmt *const *)b;
    int order = key_compare(key_of(x), key_of(y));
    return order ? order : (x->seq > y->seq) - (x->seq < y->seq);
}

static bool group_has_key(const struct group *g, const char *key)
{
    size_t low = 0, high = g->n;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = key_compare(key_of(g->sorted[middle]), key);
        if (order == 0)
            return true;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return false;
}

static bool must_wait(struct pg *p, const struct stmt *s)
{
    const char *key = key_of(s);
    for (size_t i = 0; key && i < p->in_flight; i++)
        if (group_has_key(group_at(p, i), key))
            return true;
    return false;
}

/* Fills g with what may be sent next; false when nothing may. */
static bool group_fill(struct pg *p, struct group *g)
{
    size_t bytes = 0;
    g->n = g->got = 0;
    g->failed = false;
    if (p->replay_head) {
        struct stmt *s = p->replay_head;
        if (must_wait(p, s))
            return false;
        p->replay_head = s->replay;
        if (!p->replay_head)
            p->replay_tail = NULL;
        g->first = g->sorted[g->n++] = s;
        return true;
    }
    g->first = p->unsent;
    for (struct stmt *s = p->unsent; s && g->n < PG_GROUP_MAX; s = p->unsent = s->next) {
        bytes += s->bytes;
        if (g->n > 0 && (s->alone || g->first->alone || bytes > PG_GROUP_BYTES_MAX))
            break;
        if (must_wait(p, s))
            break;
        g->sorted[g->n++] = s;
    }
    qsort(g->sorted, g->n, sizeof(void *), stmt_compare);
    return g->n > 0;
}

#ifdef PROVISIONER_FAULTS
/* In place of a statement: the server says no. */
static bool send_refusal(struct pg *p, const char *sqlstate)
{
    char sql[96];
    snprintf(sql, sizeof(sql), "DO $$BEGIN RAISE 'a fault' USING ERRCODE = '%s'; END$$", sqlstate);
    return PQsendQueryParams(p->dial.conn, sql, 0, NULL, NULL, NULL, NULL, 0) == 1;
}
#endif

static bool send_stmt(struct pg *p, const struct stmt *s)
{
    const struct pg_statement *statement = &p->options.statements[s->statement];
    const char *values[PG_PARAMS_MAX];
    int lengths[PG_PARAMS_MAX], formats[PG_PARAMS_MAX];
    const char *at = s->data;
    for (int i = 0; i < statement->n_params; i++) {
        int32_t mark;
        memcpy(&mark, at, sizeof(mark));
        at += sizeof(mark);
        values[i] = mark == -1 ? NULL : at;
        lengths[i] = mark > 0 ? mark : 0;
        formats[i] = mark >= 0;
        if (mark != -1)
            at += (mark >= 0 ? (size_t)mark : strlen(at)) + 1;
    }
    FAULT_POINT("store/%s/before", statement->name);
#ifdef PROVISIONER_FAULTS
    if (FAULT_FAILS("statement/%s", statement->name))
        return send_refusal(p, "53100"); /* disk full */
    if (FAULT_FAILS("refusal/%s", statement->name))
        return send_refusal(p, "XX000");
    if (FAULT_FAILS("unsent/%s", statement->name))
        return false;
#endif
    return PQsendQueryPrepared(p->dial.conn, statement->name, statement->n_params, values, lengths,
                               formats, 0) == 1;
}

static bool group_send(struct pg *p, struct group *g)
{
    bool ok = true;
    for (size_t i = 0; i < g->n; i++)
        g->sorted[i]->fate = SENT;
    for (size_t i = 0; ok && i < g->n; i++)
        ok = send_stmt(p, g->sorted[i]);
    if (FAULT_FAILS("commit/before"))
        return false; /* the connection ends before the sync, and nothing is committed */
    return ok && PQpipelineSync(p->dial.conn) == 1;
}

static void before_sleep(void *ctx)
{
    struct pg *p = ctx;
    if (p->state != UP) {
        if (p->head)
            fail_all(p);
        return;
    }
    bool sent = false;
    while (p->in_flight < PG_GROUPS_IN_FLIGHT) {
        struct group *g = group_at(p, p->in_flight);
        if (!group_fill(p, g))
            break;
        if (p->in_flight++ == 0)
            g->since_ms = clock_mono_ms();
        if (!group_send(p, g)) {
            pg_dial_drop(&p->dial, NULL);
            return;
        }
        sent = true;
    }
    if (sent)
        (void)flush(p);
}

/* ---- results ---- */

static void replay_add(struct pg *p, struct stmt *s)
{
    PQclear(s->res);
    s->res = NULL;
    s->fate = REPLAY;
    s->replay = NULL;
    if (p->replay_tail)
        p->replay_tail->replay = s;
    else
        p->replay_head = s;
    p->replay_tail = s;
}

/* Ahead of those that wait: they may have its lock key. */
static void replay_add_first(struct pg *p, struct stmt *s)
{
    PQclear(s->res);
    s->res = NULL;
    s->fate = REPLAY;
    s->replay = p->replay_head;
    p->replay_head = s;
    if (!p->replay_tail)
        p->replay_tail = s;
}

static void group_failed(struct pg *p, struct group *g, bool *stale)
{
    struct stmt *s = g->first;
    if (g->n > 1) {
        p->stats.replays++;
        for (size_t i = 0; i < g->n; i++, s = s->next)
            replay_add(p, s);
        return;
    }
    if (g->commit) {
        PQclear(s->res);
        s->res = g->commit;
        g->commit = NULL;
    }
    if (pg_is_retryable(pg_sqlstate(s->res)) && ++s->tries < PG_TRIES_MAX) {
        replay_add_first(p, s);
        return;
    }
    *stale = pg_is_stale(s->res);
    s->fate = ANSWERED;
}

/* The oldest group's sync is back: what it did is committed, or rolled back as a whole. */
static void group_done(struct pg *p)
{
    struct group *g = group_at(p, 0);
    bool stale = false;
    if (FAULT_FAILS("commit/after")) {
        pg_dial_drop(&p->dial, "the answer to a commit is lost");
        return;
    }
    p->first_group = (p->first_group + 1) % PG_GROUPS_IN_FLIGHT;
    p->in_flight--;
    p->stats.groups++;
    group_at(p, 0)->since_ms = clock_mono_ms();
    if (g->failed)
        group_failed(p, g, &stale);
    else
        for (size_t i = 0; i < g->n; i++) {
            g->sorted[i]->fate = ANSWERED;
            FAULT_POINT("store/%s/committed", p->options.statements[g->sorted[i]->statement].name);
        }
    PQclear(g->commit);
    g->commit = NULL;
    deliver(p);
    if (stale)
        pg_dial_drop(&p->dial, "the schema changed; statements are prepared anew");
}

/* Takes res over. */
static void group_result(struct pg *p, PGresult *res)
{
    struct group *g = group_at(p, 0);
    ExecStatusType status = PQresultStatus(res);
    if (status == PGRES_PIPELINE_SYNC && (g->got == g->n || g->failed)) {
        PQclear(res);
        group_done(p);
        return;
    }
    if (status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK) {
        if (g->got < g->n) {
            g->sorted[g->got++]->res = res;
            return;
        }
    } else if (status == PGRES_PIPELINE_ABORTED) {
        PQclear(res);
        g->got++;
        return;
    } else if (status == PGRES_FATAL_ERROR && PQstatus(p->dial.conn) == CONNECTION_OK) {
        g->failed = true;
        if (g->got < g->n) {
            g->sorted[g->got++]->res = res;
        } else { /* all statements had worked: a deferred constraint spoke up */
            PQclear(g->commit);
            g->commit = res;
        }
        return;
    }
    bool bad = PQstatus(p->dial.conn) != CONNECTION_OK;
    PQclear(res);
    pg_dial_drop(&p->dial, bad ? NULL : "the database answered something else than was asked");
}

static void take_results(struct pg *p)
{
    bool separator = false;
    while (p->state == SETTING_UP || (p->state == UP && p->in_flight > 0)) {
        if (PQisBusy(p->dial.conn))
            return;
        PGresult *res = PQgetResult(p->dial.conn);
        if (!res && separator) { /* nothing is expected any more, yet we do expect something */
            pg_dial_drop(&p->dial, "the connection to the database is out of step");
            return;
        }
        separator = !res;
        if (!res)
            continue;
        if (p->state == UP) {
            group_result(p, res);
        } else {
            setup_result(p, res);
            PQclear(res);
        }
    }
}

static void on_ready(void *ctx, uint32_t events)
{
    struct pg *p = ctx;
    (void)events;
    if (!PQconsumeInput(p->dial.conn)) {
        pg_dial_drop(&p->dial, NULL);
        return;
    }
    take_results(p);
    if (p->state != DOWN && PQstatus(p->dial.conn) == CONNECTION_BAD)
        pg_dial_drop(&p->dial, NULL);
    else if (p->state != DOWN)
        (void)flush(p);
}

/* A server that neither answers nor goes away: statement_timeout would have spoken up long ago. */
static void on_tick(void *ctx)
{
    struct pg *p = ctx;
    int64_t limit_ms = 2 * p->options.statement_timeout_ms + PG_SILENCE_MS;
    if (p->in_flight > 0 && clock_mono_ms() - group_at(p, 0)->since_ms > limit_ms)
        pg_dial_drop(&p->dial, "no answer from the database for too long");
}

/* ---- life ---- */

static int check_options(const struct pg_options *options, struct err *err)
{
    if (options->n_statements > UINT16_MAX || options->statement_timeout_ms <= 0)
        return err_set(err, ERR_INTERNAL, "impossible number of statements or statement timeout");
    for (size_t i = 0; i < options->n_statements; i++)
        if (options->statements[i].n_params < 0 || options->statements[i].n_params > PG_PARAMS_MAX)
            return err_set(err, ERR_INTERNAL, "statement %s: more than %d parameters",
                           options->statements[i].name, PG_PARAMS_MAX);
    return 0;
}

struct pg *pg_new(struct loop *loop, const struct pg_options *options, struct err *err)
{
    if (check_options(options, err) != 0)
        return NULL;
    struct pg *p = calloc(1, sizeof *p);
    if (!p) {
        err_nomem(err);
        return NULL;
    }
    p->loop = loop;
    p->options = *options;
    p->options.url = p->options.application = NULL;
    snprintf(p->statement_timeout, sizeof(p->statement_timeout), "%lld",
             (long long)options->statement_timeout_ms);
    snprintf(p->lock_timeout, sizeof(p->lock_timeout), "%lld", (long long)options->lock_timeout_ms);
    str_copy(p->why, sizeof(p->why), "connecting");
    p->dial.connected = on_connected;
    p->dial.lost = on_lost;
    p->dial.tick = on_tick;
    p->dial.ctx = p;
    if (loop_before_sleep(loop, before_sleep, p, err) != 0) {
        free(p);
        return NULL;
    }
    if (pg_dial_start(&p->dial, loop, options->url, options->application, err) != 0) {
        pg_free(p);
        return NULL;
    }
    return p;
}

void pg_free(struct pg *p)
{
    if (!p)
        return;
    loop_before_sleep_del(p->loop, before_sleep, p);
    pg_dial_done(&p->dial);
    drop_groups(p);
    while (p->head) {
        struct stmt *s = p->head;
        p->head = s->next;
        stmt_free(s);
    }
    free(p);
}

bool pg_is_up(const struct pg *p)
{
    return p->state == UP;
}

const char *pg_why(const struct pg *p)
{
    return p->why;
}

size_t pg_outstanding(const struct pg *p)
{
    return p->outstanding;
}

void pg_stats(const struct pg *p, struct pg_stats *out)
{
    *out = p->stats;
}
