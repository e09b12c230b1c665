/*
 * doctor: one product of one runtime, by its driver's inspection.
 */
#include <stdio.h>
#include <stdlib.h>

#include "account.h"
#include "base/str.h"
#include "doctor.h"
#include "inspection.h"
#include "langflow/langflow.h"
#include "ragflow/ragflow.h"

struct product_exam {
    struct exam *exam;
    const struct config_product *config;
    struct driver_settings settings;
    struct driver_report report;
    struct inspection *inspection;
};

/* ---- findings ---- */

static const char *native_api(enum product p)
{
    return p == PRODUCT_LANGFLOW ? "langflow" : "ragflow";
}

/* Unencrypted to another host: whoever listens on the way has the credential. */
static bool is_exposed(const char *url)
{
    static const char *const near[] = {"http://127.", "http://localhost", "http://[::1]"};
    if (!str_starts(url, "http://"))
        return false;
    for (size_t i = 0; i < ARRAY_LEN(near); i++)
        if (str_starts(url, near[i]))
            return false;
    return true;
}

static void look_at_address(struct exam *e, const struct config_product *c)
{
    EXAM_ADD(e, LEVEL_OK, "address", NULL, "%s, api: %s%s%s", c->url, c->api,
             c->tenancy ? ", tenancy: " : "", c->tenancy ? c->tenancy : "");
    if (c->api_key && is_exposed(c->url))
        EXAM_ADD(e, LEVEL_NOTE, "address", "use https://, unless the network between is trusted",
                 "the credential travels unencrypted");
}

static void copy_report(struct product_exam *x)
{
    for (size_t i = 0; i < x->report.n; i++) {
        const struct driver_finding *f = &x->report.findings[i];
        EXAM_ADD(x->exam, f->level, f->subject, *f->mend ? f->mend : NULL, "%s", f->what);
    }
    x->report.n = 0;
}

static void not_that_product(struct exam *e, const struct config_product *c, const struct err *err)
{
    char mend[FINDING_TEXT_MAX];
    snprintf(mend, sizeof(mend),
             "look at url and api of %s: api: %s is the product itself, %s the platform's own "
             "facade",
             e->server, native_api(e->product),
             e->product == PRODUCT_LANGFLOW ? "workspaces" : "collections");
    EXAM_ADD(e, LEVEL_BAD, "answer", mend, "the server does not speak %s: %s", c->api, err->msg);
}

static void explain(struct exam *e, const struct config_product *c, const struct err *err)
{
    const char *product = native_api(e->product);
    char mend[FINDING_TEXT_MAX];
    if (err->class == ERR_UNAUTHORIZED) {
        snprintf(mend, sizeof(mend),
                 "give a valid %s.api_key for this runtime, then send SIGHUP to the workers",
                 product);
        EXAM_ADD(e, LEVEL_BAD, "credential", mend, "refused: %s", err->msg);
    } else if (err->class == ERR_INTERNAL || err->class == ERR_INVALID) {
        EXAM_ADD(e, LEVEL_BAD, "inspection", NULL, "it could not be made: %s", err->msg);
    } else if (err->http_status == 0) {
        snprintf(mend, sizeof(mend), "look at the server, at %s.url, and at what stands between",
                 product);
        EXAM_ADD(e, LEVEL_BAD, "reach", mend, "%s", err->msg);
    } else if (err->http_status >= 500 || err->class == ERR_THROTTLED) {
        EXAM_ADD(e, LEVEL_BAD, "answer", "look into the server's log, and try again later", "%s",
                 err->msg);
    } else {
        not_that_product(e, c, err);
    }
}

/* ---- the exam ---- */

static void on_done(void *ctx, const struct err *err)
{
    struct product_exam *x = ctx;
    copy_report(x);
    if (err->class != ERR_NONE)
        explain(x->exam, x->config, err);
    exam_over(x->exam);
}

static int inspect(struct product_exam *x, const struct driver_class *class, struct err *err)
{
    const struct doctor *d = x->exam->doctor;
    const struct config_product *c = x->config;
    account_settings(c, &x->settings);
    const struct driver_target target = {
        .url = c->url,
        .credential = c->api_key,
        .timeout_ms = c->timeout_ms < d->timeout_ms ? c->timeout_ms : d->timeout_ms,
        .settings = &x->settings,
    };
    x->inspection = inspection_start(d->loop, d->http, class, &target, &x->report, on_done, x, err);
    return x->inspection ? 0 : -1;
}

static int start(struct exam *e, struct err *err)
{
    struct product_exam *x = calloc(1, sizeof(*x));
    struct err why;
    if (!x)
        return err_nomem(err);
    e->state = x;
    x->exam = e;
    x->config = e->product == PRODUCT_LANGFLOW ? &e->runtime->langflow : &e->runtime->ragflow;
    look_at_address(e, x->config);
    const struct driver_class *class = e->product == PRODUCT_LANGFLOW
                                           ? langflow_driver(x->config->api)
                                           : ragflow_driver(x->config->api);
    if (!class) {
        EXAM_ADD(e, LEVEL_BAD, "api", "give a server that speaks an api of this version's",
                 "this version has no driver for api: %s; jobs are held", x->config->api);
        exam_over(e);
    } else if (inspect(x, class, &why) != 0) {
        explain(e, x->config, &why);
        exam_over(e);
    }
    return 0;
}

static void stop(struct exam *e)
{
    struct product_exam *x = e->state;
    if (!x)
        return;
    inspection_free(x->inspection);
    copy_report(x); /* what was found until the time was over */
    free(x);
    e->state = NULL;
}

const struct exam_class exam_product = {start, stop};
