/*
 * The sender of webhooks: as lossy as Waldur's. Nothing is signed, nothing is sent again, answers
 * are not read. Tests make it drop, double and delay on purpose, from a seed.
 */
#include "waldur.h"

#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "net/http.h"

enum { DELIVERIES_MAX = 200000, TYPE_BYTES = 64, SHARE = 1 << 30 };

/* What becomes of it is drawn when the event is fired: so the seed and the order of events say it
 * all, however long anything takes. */
struct stop {
    char *url;
    bool dropped;
};

/* One body on its way to one or several destinations, one after the other. */
struct parcel {
    struct wd_store *s;
    enum wd_form form;
    char event[WD_HEX], type[TYPE_BYTES];
    char *body;
    struct stop *stops;
    size_t n, at;
    struct parcel *prev, *next;
};

struct delivery {
    char event[WD_HEX], type[TYPE_BYTES];
    char *url;
    const char *outcome; /* sent, failed, dropped, skipped or guarded */
    int status;
    int64_t at_ms;
};

struct wd_sender {
    struct http *http;           /* NULL: no loop, nothing is sent */
    struct parcel *first, *last; /* due, and waiting for a free sender */
    struct parcel *active;       /* those of busy ones */
    size_t busy, waiting;        /* waiting: also those that are not due yet */
    struct rng rng;
    struct delivery *log;
    size_t n, cap;
};

const char *const wd_forms[] = {"webhook", "form", "stomp", "stomp-legacy", NULL};

struct wd_sender *wd_sender_new(void)
{
    return calloc(1, sizeof(struct wd_sender));
}

int wd_sender_attach(struct wd_store *s, struct loop *loop, struct err *err)
{
    const struct http_options options = {.user_agent = "python-requests/2.32.3",
                                         .timeout_ms = s->settings.timeout_ms};
    s->sender->http = http_new(loop, &options, err);
    return s->sender->http ? 0 : -1;
}

void wd_sender_reset(struct wd_store *s)
{
    rng_seed(&s->sender->rng, (uint64_t)s->settings.seed);
}

/* ---- what became of them ---- */

static void note(struct parcel *p, const char *outcome, int status)
{
    struct wd_sender *w = p->s->sender;
    if (w->n == w->cap && w->n < DELIVERIES_MAX) {
        size_t cap = w->cap ? 2 * w->cap : 256;
        struct delivery *log = realloc(w->log, cap * sizeof(*log));
        if (!log)
            return;
        w->log = log;
        w->cap = cap;
    }
    if (w->n == w->cap)
        return;
    struct delivery *d = &w->log[w->n++];
    *d = (struct delivery){.url = str_dup(p->stops[p->at].url),
                           .outcome = outcome,
                           .status = status,
                           .at_ms = clock_mono_ms()};
    str_copy(d->event, sizeof(d->event), p->event);
    str_copy(d->type, sizeof(d->type), p->type);
}

void wd_deliveries_clear(struct wd_store *s)
{
    for (size_t i = 0; i < s->sender->n; i++)
        free(s->sender->log[i].url);
    s->sender->n = 0;
}

cJSON *wd_deliveries(const struct wd_store *s)
{
    cJSON *list = cJSON_CreateArray();
    for (size_t i = 0; i < s->sender->n; i++) {
        const struct delivery *d = &s->sender->log[i];
        cJSON *one = cJSON_CreateObject();
        cJSON_AddStringToObject(one, "event", d->event);
        cJSON_AddStringToObject(one, "type", d->type);
        cJSON_AddStringToObject(one, "url", d->url ? d->url : "");
        cJSON_AddStringToObject(one, "outcome", d->outcome);
        cJSON_AddNumberToObject(one, "status", d->status);
        cJSON_AddNumberToObject(one, "at_ms", (double)d->at_ms);
        cJSON_AddItemToArray(list, one);
    }
    return list;
}

size_t wd_sending(const struct wd_store *s)
{
    return s->sender->busy + s->sender->waiting;
}

/* ---- parcels ---- */

static void parcel_free(struct parcel *p)
{
    if (!p)
        return;
    for (size_t i = 0; i < p->n; i++)
        free(p->stops[i].url);
    free(p->stops);
    free(p->body);
    free(p);
}

static void parcel_drop(void *what)
{
    parcel_free(what);
}

static void parcels_free(struct parcel *p)
{
    for (struct parcel *next; p; p = next) {
        next = p->next;
        parcel_free(p);
    }
}

void wd_sender_free(struct wd_sender *w)
{
    if (!w)
        return;
    http_free(w->http);
    parcels_free(w->first);
    parcels_free(w->active);
    for (size_t i = 0; i < w->n; i++)
        free(w->log[i].url);
    free(w->log);
    free(w);
}

/* Takes body. */
static struct parcel *parcel_new(struct wd_store *s, enum wd_form form, const char *type,
                                 const char *event, char *body)
{
    struct parcel *p = body ? calloc(1, sizeof(*p)) : NULL;
    if (!p) {
        free(body);
        return NULL;
    }
    p->s = s;
    p->form = form;
    p->body = body;
    str_copy(p->event, sizeof(p->event), event);
    str_copy(p->type, sizeof(p->type), type);
    return p;
}

static void address(struct parcel *p, const char *url, bool dropped)
{
    struct stop *stops = realloc(p->stops, (p->n + 1) * sizeof(*stops));
    if (!stops)
        return;
    p->stops = stops;
    p->stops[p->n] = (struct stop){.url = str_dup(url), .dropped = dropped};
    p->n += p->stops[p->n].url ? 1 : 0;
}

static bool happens(struct wd_sender *w, double share)
{
    return share > 0 && (double)rng_below(&w->rng, SHARE) < share * (double)SHARE;
}

static void due(struct wd_store *s, void *what);

static int64_t delay(struct wd_store *s)
{
    int64_t window = s->settings.window_ms;
    return window > 0 ? (int64_t)rng_below(&s->sender->rng, (uint64_t)window + 1) : 0;
}

static void post(struct parcel *p, int64_t ms)
{
    p->s->sender->waiting++;
    wd_later(p->s, ms, due, p, parcel_drop);
}

/* ---- sending ---- */

static void pump(struct wd_store *s);
static void step(struct wd_store *s, struct parcel *p);

static void begin(struct wd_sender *w, struct parcel *p)
{
    w->waiting--;
    w->busy++;
    p->prev = NULL;
    p->next = w->active;
    if (p->next)
        p->next->prev = p;
    w->active = p;
}

static void end(struct wd_sender *w, struct parcel *p)
{
    w->busy--;
    if (p->prev)
        p->prev->next = p->next;
    else
        w->active = p->next;
    if (p->next)
        p->next->prev = p->prev;
    parcel_free(p);
}

static void on_answer(void *ctx, const struct exchange_response *response)
{
    struct parcel *p = ctx;
    struct wd_store *s = p->s;
    bool failed = response->status == 0;
    note(p, failed ? "failed" : "sent", response->status);
    p->at++;
    /* In 2024 a connection that fails takes the hooks after it along. */
    for (; failed && s->year == 24 && p->at < p->n; p->at++)
        note(p, "skipped", 0);
    step(s, p);
    pump(s);
}

static bool send_one(struct parcel *p)
{
    struct wd_store *s = p->s;
    struct exchange_request request;
    struct err err;
    exchange_request_init(&request);
    request.method = METHOD_POST;
    request.content_type =
        p->form == WD_FORM_ENCODED ? "application/x-www-form-urlencoded" : "application/json";
    request.fresh_connection = true;
    request.timeout_ms = s->settings.timeout_ms;
    buf_adds(&request.body, p->body);
    bool ok = s->sender->http && str_copy(request.url, sizeof(request.url), p->stops[p->at].url) &&
              !request.body.failed &&
              http_send(s->sender->http, &request, NULL, on_answer, p, &err);
    exchange_request_done(&request);
    return ok;
}

static const char *refused(const struct parcel *p)
{
    const struct stop *stop = &p->stops[p->at];
    if (p->s->settings.ssrf_guard && !wd_is_public(stop->url))
        return "guarded";
    return stop->dropped ? "dropped" : NULL;
}

/* To the next destination that is sent to; ends the parcel after the last. */
static void step(struct wd_store *s, struct parcel *p)
{
    for (; p->at < p->n; p->at++) {
        const char *why = refused(p);
        if (!why && send_one(p))
            return;
        note(p, why ? why : "failed", 0);
    }
    end(s->sender, p);
}

static void pump(struct wd_store *s)
{
    struct wd_sender *w = s->sender;
    while (w->first && (int64_t)w->busy < s->settings.senders) {
        struct parcel *p = w->first;
        w->first = p->next;
        if (!w->first)
            w->last = NULL;
        begin(w, p);
        step(s, p);
    }
}

static void due(struct wd_store *s, void *what)
{
    struct parcel *p = what;
    struct wd_sender *w = s->sender;
    p->next = NULL;
    if (w->last)
        w->last->next = p;
    else
        w->first = p;
    w->last = p;
    pump(s);
}

/* A parcel of its own, on its own time. */
static void send_twin(const struct parcel *p, const char *url)
{
    struct parcel *twin = parcel_new(p->s, p->form, p->type, p->event, str_dup(p->body));
    if (!twin)
        return;
    address(twin, url, false);
    post(twin, delay(p->s));
}

void wd_send(struct wd_store *s, enum wd_form form, const char *type, const char *event, char *body)
{
    struct wd_sender *w = s->sender;
    struct parcel *p = parcel_new(s, form, type, event, body);
    for (const struct wd_record *h = s->first[WD_HOOK]; p && h; h = h->next) {
        if (!wd_hook_wants(s, h, form, type))
            continue;
        bool dropped = happens(w, s->settings.drop), twice = happens(w, s->settings.duplicate);
        address(p, wd_text(h, "destination_url"), dropped);
        if (twice && !dropped)
            send_twin(p, wd_text(h, "destination_url"));
    }
    if (p)
        post(p, delay(s));
}

void wd_send_to(struct wd_store *s, const char *url, const char *type, char *body)
{
    struct parcel *p = parcel_new(s, WD_WEBHOOK, type, "", body);
    if (!p)
        return;
    address(p, url, false);
    post(p, 0);
}
