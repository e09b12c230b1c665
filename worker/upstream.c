#include "upstream.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/rng.h"
#include "base/str.h"
#include "job.h"
#include "langflow/langflow.h"
#include "ragflow/ragflow.h"

enum {
    FAILURES_TO_OPEN = 5,
    OPEN_FIRST_MS = 1000,
    OPEN_MAX_MS = 5 * 1000,
    REFUSED_MS = 30 * 1000, /* a refused credential is worth a rare look only */
    /* Recovery wakes those that are held, this is for lost wakes. As long as it has been down
     * already, so that an outage costs each of them few statements however long it lasts. */
    HELD_MIN_MS = 2 * 60 * 1000,
    HELD_MAX_MS = 15 * 60 * 1000,
    /* One that asks for patience is left alone as long as it says. */
    PAUSE_MIN_MS = 1000,
    PAUSE_MAX_MS = 60 * 60 * 1000,
    PROBE_AGAIN_MS = 1000, /* when the one that was to try went to another replica */
};

enum breaker { BREAKER_CLOSED, BREAKER_OPEN, BREAKER_TRYING };

struct upstream {
    struct upstreams *all;
    struct upstream *next;
    char *runtime;
    enum product product;
    size_t in_use;
    struct fair_queue waiting; /* jobs, by organization */
    enum breaker breaker;
    int failures;
    int64_t open_ms;          /* how long the next opening lasts */
    int64_t try_at_ms;        /* when it may be tried */
    struct driver_site *site; /* NULL until it is used */
    int64_t paused_until_ms;
    bool turned_away; /* jobs, because of the pause */
    struct loop_timer resume;
    struct loop_timer probe; /* calls for a held job when it may be tried */
    int64_t down_since_us;   /* wall clock */
    int64_t down_ms;         /* the same, monotonic */
    char reason[ERR_MSG_MAX];
};

struct upstreams {
    struct loop *loop;
    struct upstreams_events events;
    struct metrics *metrics;
    const struct config *config;
    struct upstream *list;
    struct rng jitter;
    struct loop_timer grant; /* slots are handed on from the loop, never from within a release */
};

static void grant_all(void *ctx);
static void on_resume(void *ctx);
static void on_probe(void *ctx);
static void set_probe(struct upstream *up, int64_t delay_ms);

struct upstreams *upstreams_new(struct loop *loop, const struct upstreams_events *events,
                                struct metrics *metrics, struct err *err)
{
    struct upstreams *u = calloc(1, sizeof(*u));
    if (!u) {
        err_nomem(err);
        return NULL;
    }
    u->loop = loop;
    u->events = *events;
    u->metrics = metrics;
    uint64_t seed = 0;
    rng_bytes(&seed, sizeof(seed));
    rng_seed(&u->jitter, seed);
    u->grant.fn = grant_all;
    u->grant.ctx = u;
    return u;
}

void upstreams_free(struct upstreams *u)
{
    if (!u) {
        return;
    }
    loop_timer_cancel(u->loop, &u->grant);
    while (u->list) {
        struct upstream *up = u->list;
        u->list = up->next;
        loop_timer_cancel(u->loop, &up->resume);
        loop_timer_cancel(u->loop, &up->probe);
        driver_site_unref(up->site);
        free(up->runtime);
        free(up);
    }
    free(u);
}

void upstreams_configure(struct upstreams *u, const struct config *config)
{
    u->config = config;
    /* What was wrong may be what was mended: the next job that comes tries. */
    for (struct upstream *up = u->list; up; up = up->next) {
        up->try_at_ms = clock_mono_ms();
        up->open_ms = OPEN_FIRST_MS;
        if (up->breaker != BREAKER_CLOSED) {
            set_probe(up, 0);
        }
        driver_site_unref(up->site);
        up->site = NULL;
    }
}

static const struct config_product *product_of(const struct config_runtime *r, enum product p)
{
    return p == PRODUCT_LANGFLOW ? &r->langflow : &r->ragflow;
}

static const struct driver_class *driver_of(const struct config_product *c, enum product p)
{
    return p == PRODUCT_LANGFLOW ? langflow_driver(c->api) : ragflow_driver(c->api);
}

static struct upstream *upstream_new(struct upstreams *u, const char *runtime, enum product product)
{
    struct upstream *up = calloc(1, sizeof(*up));
    if (!up || !(up->runtime = str_dup(runtime))) {
        free(up);
        return NULL;
    }
    up->all = u;
    up->product = product;
    fair_init(&up->waiting);
    up->open_ms = OPEN_FIRST_MS;
    up->resume = (struct loop_timer){.fn = on_resume, .ctx = up};
    up->probe = (struct loop_timer){.fn = on_probe, .ctx = up};
    up->next = u->list;
    u->list = up;
    metrics_set(u->metrics, M_UPSTREAM_UP, METRIC_LABELS(runtime, product_name(product)), 1);
    return up;
}

struct upstream *upstreams_get(struct upstreams *u, const char *runtime, enum product product,
                               struct err *err)
{
    const struct config_runtime *r = config_runtime_named(u->config, runtime);
    if (!r) {
        err_set(err, ERR_UNAVAILABLE,
                "runtime \"%s\" is not in the configuration any more: put it back under runtimes, "
                "then send SIGHUP",
                runtime);
        return NULL;
    }
    const struct config_product *c = product_of(r, product);
    if (!driver_of(c, product)) {
        err_set(err, ERR_UNAVAILABLE,
                "runtime \"%s\": this version has no driver for %s api \"%s\"; give it one that it "
                "has, then send SIGHUP",
                runtime, product_name(product), c->api);
        return NULL;
    }
    for (struct upstream *up = u->list; up; up = up->next) {
        if (up->product == product && str_eq(up->runtime, runtime)) {
            return up;
        }
    }
    struct upstream *up = upstream_new(u, runtime, product);
    if (!up) {
        err_nomem(err);
    }
    return up;
}

const struct config_product *upstream_config(const struct upstream *up)
{
    const struct config_runtime *r = config_runtime_named(up->all->config, up->runtime);
    return r ? product_of(r, up->product) : NULL;
}

const struct driver_class *upstream_driver(const struct upstream *up)
{
    const struct config_product *c = upstream_config(up);
    return c ? driver_of(c, up->product) : NULL;
}

int upstream_site(struct upstream *up, struct driver_site **out, struct err *err)
{
    const struct driver_class *class = upstream_driver(up);
    *out = NULL;
    if (!class || !class->site_new) {
        return 0;
    }
    /* A runtime may have changed its dialect. */
    if (up->site && up->site->class != class) {
        driver_site_unref(up->site);
        up->site = NULL;
    }
    if (!up->site) {
        up->site = class->site_new(err);
    }
    *out = up->site;
    return up->site ? 0 : -1;
}

/* ---- slots ---- */

static size_t limit(const struct upstream *up)
{
    const struct config_product *c = upstream_config(up);
    if (clock_mono_ms() < up->paused_until_ms) {
        return 0;
    }
    if (up->breaker != BREAKER_CLOSED || !c || (up->site && !up->site->known)) {
        return 1; /* one job at a time finds out what it is, and whether it works again */
    }
    return (size_t)c->concurrency;
}

static struct job *pop_waiter(struct upstream *up)
{
    struct fair_item *item = fair_pop(&up->waiting);
    return item ? (struct job *)(void *)((char *)item - offsetof(struct job, turn)) : NULL;
}

static void grant(struct upstream *up)
{
    while (up->waiting.first && up->in_use < limit(up)) {
        struct job *j = pop_waiter(up);
        j->has_slot = true;
        up->in_use++;
        up->all->events.granted(up->all->events.ctx, j);
    }
}

static void grant_all(void *ctx)
{
    struct upstreams *u = ctx;
    for (struct upstream *up = u->list; up; up = up->next) {
        grant(up);
    }
}

int64_t upstream_patience_ms(const struct upstream *up)
{
    int64_t left = up->paused_until_ms - clock_mono_ms();
    return left > 0 ? left : 0;
}

static void on_resume(void *ctx)
{
    struct upstream *up = ctx;
    bool turned_away = up->turned_away;
    up->paused_until_ms = 0;
    up->turned_away = false;
    grant(up);
    if (turned_away) {
        up->all->events.recovered(up->all->events.ctx, up->runtime);
    }
}

static void grant_soon(struct upstreams *u)
{
    struct err err;
    if (loop_timer_set(u->loop, &u->grant, 0, &err)) {
        grant_all(u);
    }
}

/* Between half of it and the whole, so that they do not come back all at once. */
static int64_t held_ms(const struct upstream *up)
{
    int64_t down_ms = clock_mono_ms() - up->down_ms;
    int64_t ms = down_ms < HELD_MIN_MS ? HELD_MIN_MS : down_ms;
    ms = ms < HELD_MAX_MS ? ms : HELD_MAX_MS;
    return ms / 2 + (int64_t)rng_below(&up->all->jitter, (uint64_t)ms / 2 + 1);
}

bool upstream_holds(const struct upstream *up, int64_t *hold_ms)
{
    if (up->breaker != BREAKER_OPEN) {
        return false;
    }
    *hold_ms = held_ms(up);
    return true;
}

static int refuse(struct upstream *up, int64_t *hold_ms, struct err *err)
{
    char since[CLOCK_TEXT_MAX];
    clock_format(since, up->down_since_us);
    *hold_ms = held_ms(up);
    return err_set(err, ERR_UNAVAILABLE, "%s of runtime \"%s\" is not usable since %s: %s",
                   product_name(up->product), up->runtime, since, up->reason);
}

static int ask_patience(struct upstream *up, int64_t *hold_ms, struct err *err)
{
    up->turned_away = true;
    *hold_ms = upstream_patience_ms(up);
    return err_set(err, ERR_THROTTLED,
                   "%s of runtime \"%s\" asked to be left alone for %" PRId64 " s more",
                   product_name(up->product), up->runtime, (*hold_ms + 999) / 1000);
}

int upstream_acquire(struct upstream *up, struct job *job, int64_t *hold_ms, struct err *err)
{
    if ((up->breaker == BREAKER_OPEN && clock_mono_ms() < up->try_at_ms) ||
        (up->breaker == BREAKER_TRYING && up->in_use > 0)) {
        return refuse(up, hold_ms, err);
    }
    if (upstream_patience_ms(up) > UPSTREAM_PATIENCE_MS) {
        return ask_patience(up, hold_ms, err);
    }
    if (up->breaker == BREAKER_OPEN) {
        up->breaker = BREAKER_TRYING;
    }
    job->upstream = up;
    if (!up->waiting.first && up->in_use < limit(up)) {
        up->in_use++;
        job->has_slot = true;
        return 0;
    }
    fair_push(&up->waiting, &job->turn, job->organization, 0);
    return 1;
}

void upstream_release(struct job *job)
{
    struct upstream *up = job->upstream;
    if (!up) {
        return;
    }
    job->upstream = NULL;
    if (job->has_slot) {
        job->has_slot = false;
        up->in_use--;
        grant_soon(up->all);
        return;
    }
    fair_remove(&up->waiting, &job->turn);
}

/* ---- health ---- */

static void tell(const struct upstream *up, enum log_level level, const char *event)
{
    log_event(level, event, LOG_S("runtime", up->runtime),
              LOG_S("product", product_name(up->product)), LOG_S("reason", up->reason));
}

static void tell_patience(const struct upstream *up, int64_t ms)
{
    log_event(LOG_WARN, "upstream asks to be left alone", LOG_S("runtime", up->runtime),
              LOG_S("product", product_name(up->product)), LOG_I("ms", ms));
}

static void dismiss_waiters(struct upstream *up,
                            int (*why)(struct upstream *up, int64_t *hold_ms, struct err *err))
{
    while (up->waiting.first) {
        struct job *j = pop_waiter(up);
        struct err err;
        int64_t hold_ms = 0;
        j->upstream = NULL;
        (void)why(up, &hold_ms, &err);
        up->all->events.dismissed(up->all->events.ctx, j, &err, hold_ms);
    }
}

/* The longest that was asked for counts. Who would wait for long does so in the database. */
static void pause(struct upstream *up, int64_t told_ms)
{
    struct err err;
    int64_t ms = told_ms < PAUSE_MAX_MS ? told_ms : PAUSE_MAX_MS;
    ms = ms > PAUSE_MIN_MS ? ms : PAUSE_MIN_MS;
    if (ms <= upstream_patience_ms(up) ||
        loop_timer_set(up->all->loop, &up->resume, ms, &err) != 0) {
        return;
    }
    up->paused_until_ms = clock_mono_ms() + ms;
    if (ms > UPSTREAM_PATIENCE_MS) {
        tell_patience(up, ms);
        dismiss_waiters(up, ask_patience);
    }
}

static void set_probe(struct upstream *up, int64_t delay_ms)
{
    struct err err;
    (void)loop_timer_set(up->all->loop, &up->probe, delay_ms, &err); /* or the next new job tries */
}

/* A job that is let go may be claimed by a replica that may not try yet, and be held there: one
 * after the other, until one came here or the breaker is closed. */
static void on_probe(void *ctx)
{
    struct upstream *up = ctx;
    if (up->breaker == BREAKER_CLOSED) {
        return;
    }
    set_probe(up, PROBE_AGAIN_MS);
    if (up->in_use == 0) {
        up->all->events.probe(up->all->events.ctx, up->runtime);
    }
}

static void open_breaker(struct upstream *up, const struct err *err)
{
    bool was_well = up->breaker == BREAKER_CLOSED;
    bool refused = err->class == ERR_UNAUTHORIZED;
    up->breaker = BREAKER_OPEN;
    up->try_at_ms = clock_mono_ms() + (refused ? REFUSED_MS : up->open_ms);
    up->open_ms = up->open_ms * 2 > OPEN_MAX_MS ? OPEN_MAX_MS : up->open_ms * 2;
    set_probe(up, up->try_at_ms - clock_mono_ms());
    str_copy(up->reason, sizeof(up->reason), err->msg);
    if (was_well) {
        up->down_since_us = clock_wall_us();
        up->down_ms = clock_mono_ms();
        tell(up, LOG_ERROR, refused ? "upstream refuses the credential" : "upstream down");
        metrics_set(up->all->metrics, M_UPSTREAM_UP,
                    METRIC_LABELS(up->runtime, product_name(up->product)), 0);
    }
    dismiss_waiters(up, refuse);
}

static void close_breaker(struct upstream *up)
{
    up->failures = 0;
    if (up->breaker == BREAKER_CLOSED) {
        return;
    }
    up->breaker = BREAKER_CLOSED;
    up->open_ms = OPEN_FIRST_MS;
    tell(up, LOG_INFO, "upstream usable again");
    metrics_set(up->all->metrics, M_UPSTREAM_UP,
                METRIC_LABELS(up->runtime, product_name(up->product)), 1);
    grant_soon(up->all);
    up->all->events.recovered(up->all->events.ctx, up->runtime);
}

static const char *status_label(int status)
{
    static const char *const families[] = {"none", "1xx", "2xx", "3xx", "4xx", "5xx"};
    return status >= 100 && status < 600 ? families[status / 100] : families[0];
}

void upstream_report(struct upstream *up, const struct err *err, int64_t duration_ms, int status,
                     const char *method)
{
    const char *product = product_name(up->product);
    metrics_add(up->all->metrics, M_UPSTREAM_REQUESTS_TOTAL,
                METRIC_LABELS(up->runtime, product, method, status_label(status)), 1);
    metrics_observe(up->all->metrics, M_UPSTREAM_SECONDS, METRIC_LABELS(up->runtime, product),
                    (double)duration_ms / 1000.0);
    switch (err->class) {
    case ERR_UNAUTHORIZED: /* a 403 may be about one object: only a row of them is about us */
    case ERR_UNAVAILABLE:
    case ERR_UNKNOWN:
        up->failures++;
        if (up->failures >= FAILURES_TO_OPEN || up->breaker != BREAKER_CLOSED || status == 401) {
            open_breaker(up, err);
        }
        return;
    case ERR_THROTTLED: /* alive, and asks for patience */
        pause(up, err->retry_after_ms);
        close_breaker(up);
        return;
    case ERR_NONE:
    case ERR_INVALID:
    case ERR_REFUSED:
    case ERR_CONFLICT:
    case ERR_GONE:
    case ERR_INTERNAL:
    case ERR_CLASS_MAX:
        close_breaker(up);
        break;
    }
    /* There may be more room now that it is known what it is. */
    if (up->waiting.first && up->in_use < limit(up)) {
        grant_soon(up->all);
    }
}

static size_t room(const struct upstream *up)
{
    if (upstream_patience_ms(up) > UPSTREAM_PATIENCE_MS ||
        (up->breaker == BREAKER_OPEN && clock_mono_ms() < up->try_at_ms)) {
        return 0;
    }
    return up->breaker == BREAKER_CLOSED ? SIZE_MAX : up->in_use == 0;
}

size_t upstreams_room(const struct upstreams *u, const char *runtime)
{
    size_t least = SIZE_MAX;
    for (const struct upstream *up = u->list; up; up = up->next) {
        /* RAGFlow's absence is not everybody's matter: who needs it is held when that shows. */
        if (up->product == PRODUCT_LANGFLOW && str_eq(up->runtime, runtime) && room(up) < least) {
            least = room(up);
        }
    }
    return least;
}

size_t upstreams_room_for_held(const struct upstreams *u, const char *runtime)
{
    size_t least = SIZE_MAX;
    for (const struct upstream *up = u->list; up; up = up->next) {
        if (str_eq(up->runtime, runtime) && room(up) < least) {
            least = room(up);
        }
    }
    return least;
}

size_t upstreams_down(const struct upstreams *u)
{
    size_t n = 0;
    for (const struct upstream *up = u->list; up; up = up->next) {
        n += up->breaker != BREAKER_CLOSED;
    }
    return n;
}

void upstreams_json(const struct upstreams *u, struct buf *out)
{
    bool first = true;
    buf_addc(out, '[');
    for (const struct upstream *up = u->list; up; up = up->next) {
        if (up->breaker == BREAKER_CLOSED) {
            continue;
        }
        char since[CLOCK_TEXT_MAX];
        clock_format(since, up->down_since_us);
        buf_adds(out, first ? "{\"runtime\":" : ",{\"runtime\":");
        buf_add_json(out, up->runtime);
        buf_addf(out, ",\"product\":\"%s\",\"since\":\"%s\",\"reason\":", product_name(up->product),
                 since);
        buf_add_json(out, up->reason);
        buf_addc(out, '}');
        first = false;
    }
    buf_addc(out, ']');
}
