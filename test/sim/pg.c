/*
 * store/pg.h on simulated time. The client's half keeps store/pg.c's rules: one list in order of
 * submission, groups of it, no group while another in flight holds one of its keys, replays singly
 * after a failure. The server's half performs a group at one instant, some time after it left, and
 * then the answer travels. In between anything may be lost; what is on its way when a connection
 * goes may still be performed.
 */
#include "store/pg.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "sim.h"
#include "statements.h"
#include "world.h"

enum { CONNECT_MS = 5, BACKOFF_FIRST_MS = 100, BACKOFF_MAX_MS = 5000 };

enum fate { WAITING, SENT, REPLAY, ANSWERED, LOST, UNSENT };

struct stmt {
    struct stmt *next, *replay;
    pg_done_fn *done;
    void *ctx;
    PGresult *res;
    struct err *err; /* what the server said instead */
    uint64_t seq;
    int refs; /* of the list, and of each group that is under way with it */
    int statement;
    uint8_t fate, tries;
    bool alone;
    const char *key;
    int n;
    struct pg_param params[];
};

/* A group on its way to the server, at it, and back. */
struct flight {
    struct pg *pg; /* NULL: nobody waits for it any more */
    struct proc *proc;
    uint64_t serial; /* of the process's incarnation */
    int refs;        /* of its client's ring, and of what happens to it */
    struct stmt *first;
    size_t n;
    bool failed; /* rolled back as a whole */
    struct stmt *sorted[];
};

enum state { DOWN, UP };

struct pg {
    struct loop *loop;
    struct proc *proc;
    struct pg *next; /* of all */
    const struct pg_statement *statements;
    size_t n_statements;
    void (*on_state)(void *ctx, bool up, const char *why);
    void *ctx;
    enum state state;
    bool announced, announced_up;
    uint64_t connection; /* counts up with every loss */
    bool broken;         /* it is lost, and the client does not know yet */
    int64_t backoff_ms;
    struct stmt *head, *tail, *unsent, *replay_head, *replay_tail;
    struct flight *flights[PG_GROUPS_IN_FLIGHT];
    size_t in_flight;
    int64_t server_at_us, answer_at_us; /* when the latest of its groups is performed, answered */
    size_t outstanding;
    uint64_t seq;
    char why[ERR_MSG_MAX];
    struct pg_stats stats;
};

struct pg_listen {
    struct proc *proc;
    struct pg_listen *next;
    loop_fn *on_notify;
    void *ctx;
    bool up, pending;
    uint64_t connection;
};

/* ---- the server ---- */

static struct {
    int64_t down_until_us, frozen_until_us;
    struct pg *connections;
    struct pg_listen *listeners;
    size_t under_way;
} server;

int64_t database_now_us(void *ctx)
{
    (void)ctx;
    return wall_us() + world.db_offset_us;
}

bool database_idle(void)
{
    return server.under_way == 0;
}

/* ---- statements ---- */

static size_t param_bytes(const struct pg_param *p)
{
    return !p->value ? 0 : (p->len >= 0 ? (size_t)p->len : strlen(p->value)) + 1;
}

static struct stmt *stmt_new(const char *key, const struct pg_param *params, int n)
{
    size_t size = sizeof(struct stmt) + (size_t)n * sizeof(struct pg_param);
    size_t texts = key ? strlen(key) + 1 : 0;
    for (int i = 0; i < n; i++) {
        texts += param_bytes(&params[i]);
    }
    struct stmt *s = sim_alloc(size + texts);
    char *at = (char *)s + size;
    s->n = n;
    s->refs = 1;
    for (int i = 0; i < n; i++) {
        size_t bytes = param_bytes(&params[i]);
        s->params[i] = (struct pg_param){bytes ? at : NULL, params[i].len};
        if (bytes) {
            memcpy(at, params[i].value, bytes - 1);
            at += bytes;
        }
    }
    if (key) {
        s->key = memcpy(at, key, strlen(key) + 1);
    }
    return s;
}

static void stmt_unref(struct stmt *s)
{
    if (--s->refs == 0) {
        PQclear(s->res);
        free(s->err);
        free(s);
    }
}

static void stmt_forget(struct stmt *s)
{
    PQclear(s->res);
    free(s->err);
    s->res = NULL;
    s->err = NULL;
}

int pg_submit(struct pg *p, int statement, const char *lock_key, bool alone,
              const struct pg_param *params, pg_done_fn *done, void *ctx, struct err *err)
{
    if (statement < 0 || (size_t)statement >= p->n_statements) {
        return err_set(err, ERR_INTERNAL, "there is no statement %d", statement);
    }
    if (p->proc->dying) {
        return err_set(err, ERR_UNAVAILABLE, "the process is ending");
    }
    struct stmt *s = stmt_new(lock_key, params, p->statements[statement].n_params);
    s->done = done;
    s->ctx = ctx;
    s->alone = alone;
    s->statement = statement;
    s->seq = p->seq++;
    *(p->tail ? &p->tail->next : &p->head) = s;
    p->tail = s;
    if (!p->unsent) {
        p->unsent = s;
        loop_wake(p->loop);
    }
    p->outstanding++;
    return 0;
}

/* ---- answers ---- */

static void answer(struct pg *p, struct stmt *s)
{
    struct err err;
    if (s->fate == ANSWERED && s->res) {
        p->stats.statements++;
        if (s->done) {
            s->done(s->ctx, s->res, NULL);
        }
        return;
    }
    err_clear(&err);
    if (s->fate == LOST) {
        err_set(&err, ERR_UNKNOWN, "the database connection was lost: %s", p->why);
    } else if (s->fate == UNSENT) {
        err_set(&err, ERR_UNAVAILABLE, "the database is not connected: %s", p->why);
    } else if (s->err) {
        err = *s->err;
    }
    p->stats.failures++;
    if (s->done) {
        s->done(s->ctx, NULL, &err);
    }
}

static void deliver(struct pg *p)
{
    while (p->head && p->head->fate >= ANSWERED && !p->proc->dying) {
        struct stmt *s = p->head;
        p->head = s->next;
        if (!p->head) {
            p->tail = NULL;
        }
        p->outstanding--;
        answer(p, s);
        stmt_unref(s);
    }
}

static void fail_all(struct pg *p)
{
    for (struct stmt *s = p->head; s; s = s->next) {
        if (s->fate < ANSWERED) {
            s->fate = s->fate == SENT ? LOST : UNSENT;
        }
    }
    p->unsent = p->replay_head = p->replay_tail = NULL;
    deliver(p);
}

/* ---- connecting and losing ---- */

static void announce(struct pg *p, bool up, const char *why)
{
    if (p->announced && p->announced_up == up) {
        return;
    }
    p->announced = true;
    p->announced_up = up;
    sim_say(p->proc->who, "database %s: %s", up ? "up" : "down", why);
    if (p->on_state) {
        p->on_state(p->ctx, up, why);
    }
}

static void flight_unref(struct flight *f)
{
    if (--f->refs > 0) {
        return;
    }
    for (size_t i = 0; i < f->n; i++) {
        stmt_unref(f->sorted[i]);
    }
    free(f);
}

static void flight_over(struct flight *f)
{
    server.under_way--;
    flight_unref(f);
}

static void detach(struct pg *p)
{
    for (size_t i = 0; i < p->in_flight; i++) {
        p->flights[i]->pg = NULL;
        flight_unref(p->flights[i]);
    }
    p->in_flight = 0;
    p->connection++;
    p->broken = false;
}

static void dial(struct pg *p, int64_t delay_us);

static void lose(struct pg *p, const char *why)
{
    p->state = DOWN;
    str_copy(p->why, sizeof(p->why), why);
    detach(p);
    announce(p, false, p->why);
    fail_all(p);
    p->backoff_ms = p->backoff_ms ? 2 * p->backoff_ms : BACKOFF_FIRST_MS;
    p->backoff_ms = p->backoff_ms < BACKOFF_MAX_MS ? p->backoff_ms : BACKOFF_MAX_MS;
    dial(p, sim_between(p->backoff_ms / 2, p->backoff_ms) * MS);
}

static void on_lost(void *ctx, uint64_t connection, bool run)
{
    struct pg *p = ctx;
    if (run && p->connection == connection) {
        lose(p, "server closed the connection unexpectedly");
    }
}

static void on_dialled(void *ctx, uint64_t connection, bool run)
{
    struct pg *p = ctx;
    if (!run || p->connection != connection) {
        return;
    }
    if (world.now_us < server.down_until_us) {
        lose(p, "connection refused");
        return;
    }
    p->state = UP;
    p->backoff_ms = 0;
    p->server_at_us = p->answer_at_us = world.now_us;
    announce(p, true, "connected");
}

/* Between the process and the server: the answer to the dialling arrives. */
struct dialling {
    struct proc *proc;
    uint64_t serial, connection;
    struct pg *pg;
};

static void dialled(void *ctx, uint64_t arg, bool run)
{
    struct dialling *d = ctx;
    (void)arg;
    if (run && d->proc->alive && d->proc->serial == d->serial) {
        int64_t thaw_us = server.frozen_until_us - world.now_us;
        if (thaw_us > 0) {
            sim_after(thaw_us, dialled, d, 0);
            return;
        }
        proc_post(d->proc, on_dialled, d->pg, d->connection);
    }
    free(d);
}

static void dial(struct pg *p, int64_t delay_us)
{
    struct dialling *d = sim_alloc(sizeof(*d));
    *d = (struct dialling){p->proc, p->proc->serial, p->connection, p};
    sim_after(delay_us + sim_between(1, CONNECT_MS) * MS, dialled, d, 0);
}

void database_freeze(int64_t for_us)
{
    sim_say("database", "frozen for %.1f s", (double)for_us / SECOND);
    server.frozen_until_us = world.now_us + for_us;
}

/* ---- groups: the client's half ---- */

static int compare(const void *a, const void *b)
{
    const struct stmt *x = *(struct stmt *const *)a, *y = *(struct stmt *const *)b;
    int order = !x->key || !y->key ? (x->key != NULL) - (y->key != NULL) : strcmp(x->key, y->key);
    return order ? order : (x->seq > y->seq) - (x->seq < y->seq);
}

static bool must_wait(const struct pg *p, const struct stmt *s)
{
    for (size_t i = 0; s->key && i < p->in_flight; i++) {
        const struct flight *f = p->flights[i];
        for (size_t k = 0; k < f->n; k++) {
            if (f->sorted[k]->key && strcmp(f->sorted[k]->key, s->key) == 0) {
                return true;
            }
        }
    }
    return false;
}

/* What may be sent next; 0: nothing may. */
static size_t fill(struct pg *p, struct stmt *group[PG_GROUP_MAX])
{
    size_t n = 0;
    if (p->replay_head) {
        if (must_wait(p, p->replay_head)) {
            return 0;
        }
        group[0] = p->replay_head;
        p->replay_head = p->replay_head->replay;
        if (!p->replay_head) {
            p->replay_tail = NULL;
        }
        return 1;
    }
    for (struct stmt *s = p->unsent; s && n < PG_GROUP_MAX; s = p->unsent = s->next) {
        if ((n > 0 && (s->alone || group[0]->alone)) || must_wait(p, s)) {
            break;
        }
        group[n++] = s;
    }
    return n;
}

static void arrive(void *ctx, uint64_t arg, bool run);

static int64_t commit_us(void)
{
    return world.storm && sim_chance(world.faults.pg_slow) ? sim_between(200 * MS, 9 * SECOND)
                                                           : sim_between(200, 3 * MS);
}

static void send(struct pg *p, struct stmt **group, size_t n)
{
    struct flight *f = sim_alloc(sizeof(*f) + n * sizeof(struct stmt *));
    f->pg = p;
    f->proc = p->proc;
    f->serial = p->proc->serial;
    f->refs = 2;
    f->first = group[0];
    f->n = n;
    memcpy(f->sorted, group, n * sizeof(struct stmt *));
    qsort(f->sorted, n, sizeof(struct stmt *), compare);
    for (size_t i = 0; i < n; i++) {
        f->sorted[i]->fate = SENT;
        f->sorted[i]->refs++;
    }
    p->flights[p->in_flight++] = f;
    server.under_way++;
    int64_t at = world.now_us + sim_between(50, 800) + commit_us();
    p->server_at_us = at > p->server_at_us ? at : p->server_at_us + 1;
    sim_after(p->server_at_us - world.now_us, arrive, f, 0);
}

static void before_sleep(void *ctx)
{
    struct pg *p = ctx;
    if (p->state != UP) {
        if (p->head) {
            fail_all(p);
        }
        return;
    }
    while (p->in_flight < PG_GROUPS_IN_FLIGHT) {
        struct stmt *group[PG_GROUP_MAX];
        size_t n = fill(p, group);
        if (n == 0 || proc_action(p->proc, "before a group leaves")) {
            break;
        }
        send(p, group, n);
    }
}

static void replay(struct pg *p, struct stmt *s, bool first)
{
    stmt_forget(s);
    s->fate = REPLAY;
    s->replay = first ? p->replay_head : NULL;
    if (first || !p->replay_tail) {
        p->replay_head = s;
    } else {
        p->replay_tail->replay = s;
    }
    if (!first || !p->replay_tail) {
        p->replay_tail = s;
    }
}

static void group_done(struct pg *p, struct flight *f)
{
    struct stmt *s = f->first;
    memmove(p->flights, p->flights + 1, --p->in_flight * sizeof(struct flight *));
    p->stats.groups++;
    if (f->failed && f->n > 1) {
        p->stats.replays++;
        for (size_t i = 0; i < f->n; i++, s = s->next) {
            replay(p, s, false);
        }
    } else if (f->failed && str_eq(s->err->sqlstate, "40001") && ++s->tries < PG_TRIES_MAX) {
        replay(p, s, true);
    } else {
        for (size_t i = 0; i < f->n; i++) {
            f->sorted[i]->fate = ANSWERED;
        }
    }
    f->pg = NULL;
    flight_unref(f);
    deliver(p);
}

static void on_answer(void *ctx, uint64_t arg, bool run)
{
    struct flight *f = ctx;
    (void)arg;
    if (run && f->pg) {
        group_done(f->pg, f);
    }
    flight_over(f);
}

/* ---- groups: the server's half ---- */

static void refuse(struct flight *f, const char *sqlstate, enum err_class class, const char *words)
{
    f->failed = true;
    struct stmt *s = f->sorted[sim_below(f->n)];
    stmt_forget(s);
    s->err = sim_alloc(sizeof(*s->err));
    err_set(s->err, class, "%s", words);
    str_copy(s->err->sqlstate, sizeof(s->err->sqlstate), sqlstate);
}

static void seen(const struct stmt *s)
{
    int64_t partition = 0, offset = 0;
    switch ((enum statement)s->statement) {
    case S_INBOX_TAKE:
        if (str_to_i64(s->params[10].value, &partition) &&
            str_to_i64(s->params[11].value, &offset)) {
            kafka_finished((int32_t)partition, offset);
        }
        return;
    case S_OUTBOX_CLAIM:
        for (int i = 0; i < PQntuples(s->res); i++) {
            outbox_claimed(PQgetvalue(s->res, i, 0), PQgetvalue(s->res, i, 3));
        }
        return;
    case S_OUTBOX_DONE:
        outbox_done(s->params[0].value);
        return;
    case S_DEAD_LETTER_ADD:
        if (str_to_i64(s->params[1].value, &partition) && str_to_i64(s->params[2].value, &offset)) {
            dead_letter_kept((int32_t)partition, offset, PQgetvalue(s->res, 0, 0),
                             str_eq(PQgetvalue(s->res, 0, 1), "t"));
        }
        return;
    case S_EFFECT_INTEND:
        if (str_eq(PQgetvalue(s->res, 0, 0), "ok") && str_to_i64(s->params[0].value, &offset)) {
            scenario_intended(offset);
        }
        return;
    case S_DEAD_LETTER_PUBLISHED:
        dead_letter_marked(s->params[0].value);
        return;
    default:
        return;
    }
}

static void tell(const struct flight *f, const struct stmt *s)
{
    char line[400] = "";
    size_t at = 0;
    for (int i = 0; i < s->n && i < 10 && at + 60 < sizeof(line); i++) {
        bool binary = s->params[i].len >= 0;
        int n = snprintf(line + at, sizeof(line) - at, "%s%.44s", i ? " " : "",
                         !s->params[i].value ? "-"
                         : binary            ? "(bytes)"
                                             : s->params[i].value);
        at += n > 0 ? (size_t)n : 0;
    }
    const char *verdict = !s->res                  ? s->err->msg
                          : PQntuples(s->res) == 0 ? "no row"
                                                   : PQgetvalue(s->res, 0, 0);
    sim_say("database", "%s %s(%s) -> %.60s%s", f->proc->who, statements[s->statement].name, line,
            verdict, s->res && PQntuples(s->res) > 1 ? ", ..." : "");
}

static bool quiet(const struct stmt *s)
{
    return (s->statement == S_JOBS_CLAIM || s->statement == S_OUTBOX_CLAIM ||
            s->statement == S_JOBS_RELEASE) &&
           s->res && PQntuples(s->res) == 0;
}

static void perform(struct flight *f)
{
    for (size_t i = 0; i < f->n && !world.breach[0]; i++) {
        struct stmt *s = f->sorted[i];
        struct err err;
        err_clear(&err);
        stmt_forget(s);
        s->res = db_exec(world.db, (enum statement)s->statement, s->params, &err);
        if (!s->res) {
            s->err = sim_alloc(sizeof(*s->err));
            *s->err = err;
        } else {
            seen(s);
        }
        check_bounds();
        if (world.trace && !quiet(s)) {
            tell(f, s);
        }
    }
}

/* The client hears of it later; until then nothing arrives any more. */
static void cut(struct pg *p, const char *when)
{
    sim_say("database", "%s loses its connection %s", p->proc->who, when);
    p->broken = true;
    proc_post(p->proc, on_lost, p, p->connection);
}

static void answered(void *ctx, uint64_t arg, bool run)
{
    struct flight *f = ctx;
    (void)arg;
    if (run && f->pg && !f->pg->broken) {
        proc_post(f->proc, on_answer, f, 0);
    } else {
        flight_over(f);
    }
}

/* False: what was sent is rolled back, or never came. */
static bool commit(struct flight *f)
{
    const struct faults *x = &world.faults;
    /* A backend goes on with what it has in hand when its client is gone. */
    if (!f->pg || f->pg->broken) {
        if (sim_chance(0.5)) {
            return false;
        }
    } else if (world.storm && sim_chance(x->pg_lost_before)) {
        cut(f->pg, "before a group arrives");
        return false;
    }
    if (world.storm && sim_chance(x->pg_refused)) {
        refuse(f, "XX000", ERR_REFUSED, "simulated: an internal error");
    } else if (world.storm && sim_chance(x->pg_unserializable)) {
        refuse(f, "40001", ERR_UNAVAILABLE, "simulated: could not serialize access");
    } else {
        perform(f);
    }
    return true;
}

static void arrive(void *ctx, uint64_t arg, bool run)
{
    struct flight *f = ctx;
    (void)arg;
    int64_t thaw_us = server.frozen_until_us - world.now_us;
    if (run && thaw_us > 0) {
        int64_t at = server.frozen_until_us + sim_between(0, MS);
        if (f->pg) {
            at = at > f->pg->server_at_us ? at : f->pg->server_at_us + 1;
            f->pg->server_at_us = at;
        }
        sim_after(at - world.now_us, arrive, f, 0);
        return;
    }
    if (!run || !commit(f)) {
        flight_over(f);
        return;
    }
    if (f->pg) {
        (void)proc_action(f->proc, "after a commit, before its answer");
    }
    if (f->pg && !f->pg->broken && world.storm && sim_chance(world.faults.pg_lost_after)) {
        cut(f->pg, "after a commit");
    }
    if (!f->pg || f->pg->broken) {
        flight_over(f);
        return;
    }
    int64_t at = world.now_us + sim_between(50, 800);
    f->pg->answer_at_us = at > f->pg->answer_at_us ? at : f->pg->answer_at_us + 1;
    sim_after(f->pg->answer_at_us - world.now_us, answered, f, 0);
}

/* ---- life ---- */

struct pg *pg_new(struct loop *loop, const struct pg_options *options, struct err *err)
{
    struct pg *p = sim_alloc(sizeof(*p));
    p->loop = loop;
    p->proc = world.current;
    p->statements = options->statements;
    p->n_statements = options->n_statements;
    p->on_state = options->on_state;
    p->ctx = options->ctx;
    str_copy(p->why, sizeof(p->why), "connecting");
    if (loop_before_sleep(loop, before_sleep, p, err) != 0) {
        free(p);
        return NULL;
    }
    p->next = server.connections;
    server.connections = p;
    dial(p, 0);
    return p;
}

void pg_free(struct pg *p)
{
    if (!p) {
        return;
    }
    loop_before_sleep_del(p->loop, before_sleep, p);
    detach(p);
    while (p->head) {
        struct stmt *s = p->head;
        p->head = s->next;
        stmt_unref(s);
    }
    struct pg **at = &server.connections;
    while (*at != p) {
        at = &(*at)->next;
    }
    *at = p->next;
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

/* ---- notifications ---- */

static void on_notified(void *ctx, uint64_t arg, bool run)
{
    struct pg_listen *l = ctx;
    (void)arg;
    l->pending = false;
    if (run) {
        l->on_notify(l->ctx);
    }
}

static void notify(struct pg_listen *l)
{
    if (!l->pending) {
        l->pending = true;
        proc_post(l->proc, on_notified, l, 0);
    }
}

static void on_listening(void *ctx, uint64_t connection, bool run)
{
    struct pg_listen *l = ctx;
    if (run && l->connection == connection) {
        l->up = true;
        l->on_notify(l->ctx);
    }
}

struct listening {
    struct proc *proc;
    uint64_t serial, connection;
    struct pg_listen *listen;
};

static void listening(void *ctx, uint64_t arg, bool run)
{
    struct listening *d = ctx;
    (void)arg;
    if (run && d->proc->alive && d->proc->serial == d->serial) {
        if (world.now_us < server.down_until_us || world.now_us < server.frozen_until_us) {
            sim_after(SECOND, listening, d, 0);
            return;
        }
        proc_post(d->proc, on_listening, d->listen, d->connection);
    }
    free(d);
}

static void listen_dial(struct pg_listen *l)
{
    struct listening *d = sim_alloc(sizeof(*d));
    *d = (struct listening){l->proc, l->proc->serial, l->connection, l};
    sim_after(sim_between(1, CONNECT_MS) * MS, listening, d, 0);
}

struct pg_listen *pg_listen_new(struct loop *loop, const char *url, const char *channel,
                                loop_fn *on_notify, void *ctx, struct err *err)
{
    (void)loop, (void)url, (void)channel, (void)err;
    struct pg_listen *l = sim_alloc(sizeof(*l));
    l->proc = world.current;
    l->on_notify = on_notify;
    l->ctx = ctx;
    l->next = server.listeners;
    server.listeners = l;
    listen_dial(l);
    return l;
}

void pg_listen_free(struct pg_listen *l)
{
    if (!l) {
        return;
    }
    struct pg_listen **at = &server.listeners;
    while (*at != l) {
        at = &(*at)->next;
    }
    *at = l->next;
    free(l);
}

void database_notify(void *ctx)
{
    (void)ctx;
    for (struct pg_listen *l = server.listeners; l; l = l->next) {
        if (l->up && !(world.storm && sim_chance(world.faults.notify_lost))) {
            notify(l);
        }
    }
}

void database_restart(int64_t for_us)
{
    sim_say("database", "restarts, away for %.1f s", (double)for_us / SECOND);
    server.down_until_us = world.now_us + for_us;
    for (struct pg *p = server.connections; p; p = p->next) {
        if (p->state == UP && !p->broken) {
            cut(p, "as the server restarts");
        }
    }
    for (struct pg_listen *l = server.listeners; l; l = l->next) {
        l->up = false;
        l->connection++;
        listen_dial(l);
    }
}

void database_begin(void)
{
    server.down_until_us = server.frozen_until_us = 0;
    server.under_way = 0;
}
