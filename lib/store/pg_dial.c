/*
 * Makes one connection on the loop, and makes it again when it is lost. One timer does everything
 * and is always set, since setting a timer anew cannot fail: it is the backoff while there is no
 * connection, the attempt's deadline while one is being made, and the owner's tick afterwards.
 *
 * PQconnectStart resolves host names itself and blocks meanwhile; a URL with an address, or with
 * hostaddr=, does not.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/str.h"
#include "store/pg.h"
#include "store/pg_internal.h"

static void on_timer(void *ctx);

static void set_timer(struct pg_dial *d, int64_t delay_ms)
{
    (void)loop_timer_set(d->loop, &d->timer, delay_ms, NULL);
}

int pg_dial_start(struct pg_dial *d, struct loop *loop, const char *url, const char *application,
                  struct err *err)
{
    if (pg_url_check(url, err) != 0)
        return -1;
    d->loop = loop;
    d->fd = -1;
    d->timer.fn = on_timer;
    d->timer.ctx = d;
    str_copy(d->application, sizeof(d->application), application);
    rng_seed(&d->rng,
             (uint64_t)clock_mono_us() ^ (uint64_t)getpid() << 32 ^ (uint64_t)(uintptr_t)d);
    if (loop_timer_set(loop, &d->timer, 0, err) != 0)
        return -1;
    d->url = str_dup(url);
    if (!d->url) {
        loop_timer_cancel(loop, &d->timer);
        return err_nomem(err);
    }
    return 0;
}

static void unwatch(struct pg_dial *d)
{
    if (d->fd >= 0)
        loop_fd_del(d->loop, d->fd);
    d->fd = -1;
}

static void close_connection(struct pg_dial *d)
{
    unwatch(d);
    PQfinish(d->conn);
    d->conn = NULL;
    d->settled = false;
}

void pg_dial_done(struct pg_dial *d)
{
    if (!d->url)
        return;
    loop_timer_cancel(d->loop, &d->timer);
    close_connection(d);
    explicit_bzero(d->url, strlen(d->url));
    free(d->url);
    d->url = NULL;
}

/* Doubles up to the cap; between half and the whole of it, so that workers do not come back in
 * step. */
static int64_t backoff_ms(struct pg_dial *d)
{
    int64_t ms = PG_BACKOFF_MIN_MS;
    for (unsigned i = 1; i < d->attempts && ms < PG_BACKOFF_MAX_MS; i++)
        ms *= 2;
    if (ms > PG_BACKOFF_MAX_MS)
        ms = PG_BACKOFF_MAX_MS;
    return ms / 2 + (int64_t)rng_below(&d->rng, (uint64_t)ms / 2 + 1);
}

void pg_dial_drop(struct pg_dial *d, const char *why)
{
    char line[ERR_MSG_MAX];
    if (why)
        str_copy(line, sizeof(line), why);
    else
        pg_error_line(PQerrorMessage(d->conn), line, sizeof(line));
    if (d->settled && clock_mono_ms() - d->settled_ms >= PG_STEADY_MS)
        d->attempts = 0;
    close_connection(d);
    if (d->attempts < UINT16_MAX)
        d->attempts++;
    set_timer(d, backoff_ms(d));
    d->lost(d->ctx, line);
}

int pg_dial_watch(struct pg_dial *d, uint32_t events, loop_fd_fn *fn, void *ctx)
{
    struct err err;
    unwatch(d);
    int fd = PQsocket(d->conn);
    if (loop_fd_add(d->loop, fd, events, fn, ctx, &err) != 0) {
        pg_dial_drop(d, err.msg);
        return -1;
    }
    d->fd = fd;
    d->events = events;
    return 0;
}

void pg_dial_settle(struct pg_dial *d)
{
    d->settled = true;
    d->settled_ms = clock_mono_ms();
    set_timer(d, PG_TICK_MS);
}

static void on_progress(void *ctx, uint32_t events)
{
    struct pg_dial *d = ctx;
    (void)events;
    /* Unwatched first: PQconnectPoll may close the descriptor and open another with its number. */
    unwatch(d);
    switch (PQconnectPoll(d->conn)) {
    case PGRES_POLLING_READING:
        (void)pg_dial_watch(d, EPOLLIN, on_progress, d);
        break;
    case PGRES_POLLING_WRITING:
        (void)pg_dial_watch(d, EPOLLOUT, on_progress, d);
        break;
    case PGRES_POLLING_OK:
        d->connected(d->ctx);
        break;
    default:
        pg_dial_drop(d, NULL);
        break;
    }
}

static void attempt(struct pg_dial *d)
{
    set_timer(d, PG_CONNECT_MS);
    struct pg_conninfo info;
    pg_conninfo_fill(&info, d->url, d->application);
    d->conn = PQconnectStartParams(info.keywords, info.values, 1);
    if (!d->conn) {
        pg_dial_drop(d, "out of memory");
        return;
    }
    pg_notices_off(d->conn);
    if (PQstatus(d->conn) == CONNECTION_BAD)
        pg_dial_drop(d, NULL);
    else
        (void)pg_dial_watch(d, EPOLLOUT, on_progress, d);
}

static void on_timer(void *ctx)
{
    struct pg_dial *d = ctx;
    if (!d->conn) {
        attempt(d);
    } else if (!d->settled) {
        pg_dial_drop(d, "no answer from the database within 10 s");
    } else {
        set_timer(d, PG_TICK_MS);
        if (d->tick)
            d->tick(d->ctx);
    }
}
