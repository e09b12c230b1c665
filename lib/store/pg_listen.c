/*
 * A second, plain connection that only LISTENs: LISTEN and its notices have no place in a pipeline.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "store/pg.h"
#include "store/pg_internal.h"

enum { CHANNEL_MAX = 63 };

struct pg_listen {
    struct pg_dial dial;
    char sql[CHANNEL_MAX + 16];
    loop_fn *on_notify;
    void *ctx;
};

/* Whether LISTEN is in force; false as well when the connection was dropped. */
static bool take_results(struct pg_listen *l)
{
    while (!PQisBusy(l->dial.conn)) {
        PGresult *res = PQgetResult(l->dial.conn);
        if (!res)
            return true;
        struct err err = {.class = ERR_NONE};
        if (PQresultStatus(res) != PGRES_COMMAND_OK)
            pg_err_from_result(&err, res, "LISTEN");
        PQclear(res);
        if (err.class != ERR_NONE) {
            pg_dial_drop(&l->dial, err.msg);
            return false;
        }
    }
    return false;
}

static bool take_notices(struct pg_listen *l)
{
    bool any = false;
    PGnotify *notice;
    while ((notice = PQnotifies(l->dial.conn)) != NULL) {
        PQfreemem(notice);
        any = true;
    }
    return any;
}

static void on_ready(void *ctx, uint32_t events)
{
    struct pg_listen *l = ctx;
    (void)events;
    if (!PQconsumeInput(l->dial.conn) || PQflush(l->dial.conn) < 0) {
        pg_dial_drop(&l->dial, NULL);
        return;
    }
    bool first = !l->dial.settled;
    if (first) {
        if (!take_results(l))
            return;
        pg_dial_settle(&l->dial);
    }
    if (take_notices(l) || first)
        l->on_notify(l->ctx);
}

static void on_connected(void *ctx)
{
    struct pg_listen *l = ctx;
    if (pg_dial_watch(&l->dial, EPOLLIN, on_ready, l) != 0)
        return;
    /* A few bytes into an empty socket buffer: they are sent at once or the connection is dead. */
    if (PQsetnonblocking(l->dial.conn, 1) != 0 || !PQsendQuery(l->dial.conn, l->sql) ||
        PQflush(l->dial.conn) != 0)
        pg_dial_drop(&l->dial, NULL);
}

static void on_lost(void *ctx, const char *why)
{
    (void)ctx; /* the pipeline's connection tells the world; this one just comes back */
    (void)why;
}

static bool is_identifier(const char *s)
{
    size_t n = strspn(s, "abcdefghijklmnopqrstuvwxyz_0123456789");
    return n > 0 && n <= CHANNEL_MAX && s[n] == '\0' && !(s[0] >= '0' && s[0] <= '9');
}

struct pg_listen *pg_listen_new(struct loop *loop, const char *url, const char *channel,
                                loop_fn *on_notify, void *ctx, struct err *err)
{
    if (!is_identifier(channel)) {
        err_set(err, ERR_INTERNAL, "the channel to listen on is not a plain identifier");
        return NULL;
    }
    struct pg_listen *l = calloc(1, sizeof *l);
    if (!l) {
        err_nomem(err);
        return NULL;
    }
    snprintf(l->sql, sizeof(l->sql), "listen %s", channel);
    l->on_notify = on_notify;
    l->ctx = ctx;
    l->dial.connected = on_connected;
    l->dial.lost = on_lost;
    l->dial.ctx = l;
    if (pg_dial_start(&l->dial, loop, url, "provisioner listen", err) != 0) {
        free(l);
        return NULL;
    }
    return l;
}

void pg_listen_free(struct pg_listen *l)
{
    if (!l)
        return;
    pg_dial_done(&l->dial);
    free(l);
}
