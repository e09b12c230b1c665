#include "inspection.h"

#include <stdlib.h>

#include "base/clock.h"
#include "base/str.h"

/* Beyond any inspection that makes headway. */
enum { REQUESTS_MAX = 100 };

struct inspection {
    struct loop *loop;
    struct http *http;
    const struct driver_class *class;
    struct driver_target target;
    struct driver_report *report;
    inspection_done_fn *done;
    void *ctx;
    struct driver_op *op;
    struct http_call *call;
    struct loop_timer timer; /* the first turn, and waits */
    bool looks;              /* the driver has no inspection of its own */
    int requests;
    struct err err;
};

/* ---- secrets ---- */

static void redact_text(char *text, size_t size, const char *secret)
{
    struct err err;
    err_clear(&err);
    str_copy(err.msg, sizeof(err.msg), text);
    err_redact(&err, secret);
    str_copy(text, size, err.msg);
}

/* Servers may repeat what they were sent. */
static void redact(struct inspection *i)
{
    const struct driver_settings none = {0};
    const struct driver_settings *s = i->target.settings ? i->target.settings : &none;
    const char *const secrets[] = {i->target.credential, s->admin_password_wire, s->models_key,
                                   s->provider_key};
    for (size_t k = 0; k < ARRAY_LEN(secrets); k++) {
        err_redact(&i->err, secrets[k]);
        for (size_t n = 0; n < i->report->n; n++) {
            struct driver_finding *f = &i->report->findings[n];
            redact_text(f->what, sizeof(f->what), secrets[k]);
            redact_text(f->mend, sizeof(f->mend), secrets[k]);
        }
    }
}

/* ---- the end ---- */

static void finish(struct inspection *i, const struct err *err)
{
    struct err said;
    i->err = *err;
    redact(i);
    said = i->err;
    i->done(i->ctx, &said);
}

static void fail(struct inspection *i, const char *what)
{
    struct err err;
    err_set(&err, ERR_INTERNAL, "%s", what);
    finish(i, &err);
}

static void looked(struct inspection *i)
{
    driver_report_add(i->report, LEVEL_OK, "credential", NULL, "%s",
                      i->target.credential ? "the server answers and takes it"
                                           : "none is set, and the server answers without");
}

/* ---- turns ---- */

static void turn(struct inspection *i);

static void set_now(const struct inspection *i)
{
    if (i->target.site)
        i->target.site->now_ms = clock_mono_ms();
}

static void on_answer(void *ctx, const struct exchange_response *response)
{
    struct inspection *i = ctx;
    struct driver_outcome outcome;
    i->call = NULL;
    set_now(i);
    i->class->feed(i->op, response, &outcome);
    turn(i);
}

static void request(struct inspection *i, struct driver_action *action)
{
    struct err err;
    /* An inspection changes nothing, whatever a driver may want. */
    const char *refused = action->effect                  ? "it asked to change something"
                          : i->requests++ >= REQUESTS_MAX ? "it asks without end"
                                                          : NULL;
    if (!refused)
        i->call = http_send(i->http, &action->request, NULL, on_answer, i, &err);
    exchange_request_done(&action->request);
    if (refused)
        fail(i, refused);
    else if (!i->call)
        finish(i, &err);
}

static void on_timer(void *ctx)
{
    turn(ctx);
}

static void turn(struct inspection *i)
{
    struct driver_action action;
    struct err err;
    set_now(i);
    i->class->next(i->op, &action);
    switch (action.turn) {
    case TURN_REQUEST:
        request(i, &action);
        return;
    case TURN_WAIT:
        if (loop_timer_set(i->loop, &i->timer, action.wait_ms, &err) != 0)
            finish(i, &err);
        return;
    case TURN_DONE:
        if (i->looks)
            looked(i);
        err_clear(&err);
        finish(i, &err);
        return;
    case TURN_FAILED:
        finish(i, &action.err);
        return;
    }
}

/* ---- beginning and end ---- */

/* A name that is none of ours: they hold no dot. */
static struct driver_op *look(struct inspection *i, struct err *err)
{
    i->looks = true;
    i->target.observe = true;
    i->target.name = "provisioner.doctor";
    i->target.subscription = "00000000-0000-0000-0000-000000000000";
    i->target.marker = "waldur-subscription:00000000-0000-0000-0000-000000000000";
    i->target.external_id = NULL;
    return i->class->start(DRIVER_PRESENT, &i->target, err);
}

static int start(struct inspection *i, struct err *err)
{
    i->target.site = NULL;
    if (i->class->site_new && !(i->target.site = i->class->site_new(err)))
        return -1;
    i->op = i->class->inspect ? i->class->inspect(&i->target, i->report, err) : look(i, err);
    return i->op ? loop_timer_set(i->loop, &i->timer, 0, err) : -1;
}

struct inspection *inspection_start(struct loop *loop, struct http *http,
                                    const struct driver_class *class,
                                    const struct driver_target *target,
                                    struct driver_report *report, inspection_done_fn *done,
                                    void *ctx, struct err *err)
{
    struct inspection *i = calloc(1, sizeof(*i));
    if (!i) {
        err_nomem(err);
        return NULL;
    }
    *i = (struct inspection){.loop = loop,
                             .http = http,
                             .class = class,
                             .target = *target,
                             .report = report,
                             .done = done,
                             .ctx = ctx,
                             .timer = {.fn = on_timer, .ctx = i}};
    err_clear(&i->err);
    if (start(i, err) == 0)
        return i;
    inspection_free(i);
    return NULL;
}

void inspection_free(struct inspection *i)
{
    if (!i)
        return;
    redact(i);
    loop_timer_cancel(i->loop, &i->timer);
    if (i->call)
        http_cancel(i->http, i->call);
    i->class->free(i->op);
    driver_site_unref(i->target.site);
    free(i);
}
