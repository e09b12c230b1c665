#include "marketplace.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"

enum {
    FAILURES_TO_CLOSE = 5,
    CLOSED_FIRST_MS = 1000,
    CLOSED_MAX_MS = 10 * 1000,
    REFUSED_MS = 30 * 1000, /* a refused token is worth a rare look only */
    PATIENCE_MIN_MS = 1000,
    PATIENCE_MAX_MS = 60 * 60 * 1000,
    FORBIDDEN_MS = 15 * 60 * 1000, /* told for so long after the last one */
};

struct marketplace {
    const struct config *config;
    struct metrics *metrics;
    struct http *http;
    struct waldur_site site;
    int failures;
    bool down; /* left alone until try_at_ms, then tried by one */
    int64_t try_at_ms, closed_ms, patience_until_ms;
    int64_t since_us;
    char reason[ERR_MSG_MAX];
    int64_t forbidden_until_ms; /* a 403 about one object: Waldur is well, but a person must look */
    char forbidden[ERR_MSG_MAX];
};

static void set_up(const struct marketplace *m, bool up)
{
    if (m->metrics && m->config->waldur_url) {
        metrics_set(m->metrics, M_WALDUR_UP, NULL, up ? 1 : 0);
    }
}

struct marketplace *marketplace_new(struct loop *loop, const struct config *config,
                                    struct metrics *metrics, struct err *err)
{
    struct marketplace *m = calloc(1, sizeof(*m));
    if (!m) {
        err_nomem(err);
        return NULL;
    }
    struct http_options http = {.user_agent = "provisioner/" PROVISIONER_VERSION};
    m->config = config;
    m->metrics = metrics;
    m->closed_ms = CLOSED_FIRST_MS;
    m->http = http_new(loop, &http, err);
    if (!m->http) {
        free(m);
        return NULL;
    }
    set_up(m, true);
    return m;
}

void marketplace_free(struct marketplace *m)
{
    if (m) {
        http_free(m->http);
        free(m);
    }
}

void marketplace_configure(struct marketplace *m, const struct config *config)
{
    m->config = config;
    m->site = (struct waldur_site){0};
    m->try_at_ms = clock_mono_ms();
    m->closed_ms = CLOSED_FIRST_MS;
    m->forbidden_until_ms = 0;
    set_up(m, !m->down);
}

bool marketplace_configured(const struct marketplace *m)
{
    return m->config->waldur_url != NULL;
}

struct waldur_access marketplace_access(struct marketplace *m)
{
    const struct config *c = m->config;
    return (struct waldur_access){.url = c->waldur_api,
                                  .credential = c->waldur_token,
                                  .scheme = str_eq(c->waldur_auth, "bearer") ? "Bearer " : "Token ",
                                  .timeout_ms = c->waldur_timeout_ms,
                                  .site = &m->site};
}

struct http *marketplace_http(struct marketplace *m)
{
    return m->http;
}

int64_t marketplace_pause_ms(const struct marketplace *m, size_t in_use)
{
    int64_t now = clock_mono_ms(), until = m->patience_until_ms;
    if (m->down && m->try_at_ms > until) {
        until = m->try_at_ms;
    }
    if (until > now) {
        return until - now;
    }
    return m->down && in_use > 0 ? CLOSED_FIRST_MS : 0;
}

/* ---- health ---- */

static void close_down(struct marketplace *m, const struct err *err)
{
    bool refused = err->http_status == 401;
    m->try_at_ms = clock_mono_ms() + (refused ? REFUSED_MS : m->closed_ms);
    m->closed_ms = m->closed_ms * 2 < CLOSED_MAX_MS ? m->closed_ms * 2 : CLOSED_MAX_MS;
    str_copy(m->reason, sizeof(m->reason), err->msg);
    if (m->down) {
        return;
    }
    m->down = true;
    m->since_us = clock_wall_us();
    log_event(LOG_ERROR,
              refused ? "Waldur refuses the token; orders wait, none is made to err"
                      : "Waldur is not usable; orders wait, none is made to err",
              LOG_S("reason", m->reason));
    set_up(m, false);
}

static void open_up(struct marketplace *m)
{
    m->failures = 0;
    if (m->down) {
        m->down = false;
        m->closed_ms = CLOSED_FIRST_MS;
        m->site = (struct waldur_site){0}; /* it may have been away for an upgrade */
        log_event(LOG_INFO, "Waldur is usable again");
        set_up(m, true);
    }
}

static void be_patient(struct marketplace *m, int64_t told_ms)
{
    int64_t ms = told_ms < PATIENCE_MAX_MS ? told_ms : PATIENCE_MAX_MS;
    ms = ms > PATIENCE_MIN_MS ? ms : PATIENCE_MIN_MS;
    int64_t until = clock_mono_ms() + ms;
    if (until > m->patience_until_ms) {
        m->patience_until_ms = until;
        log_event(LOG_WARN, "Waldur asks to be left alone", LOG_I("ms", ms));
    }
}

static void forbid(struct marketplace *m, const struct err *err)
{
    int64_t now = clock_mono_ms();
    if (now >= m->forbidden_until_ms) {
        log_event(LOG_ERROR,
                  "Waldur does not let this token do what an order needs; the order waits",
                  LOG_S("reason", err->msg));
    }
    m->forbidden_until_ms = now + FORBIDDEN_MS;
    str_copy(m->forbidden, sizeof(m->forbidden), err->msg);
}

static void count(const struct marketplace *m, int status, enum exchange_method method,
                  int64_t took_ms)
{
    static const char *const families[] = {"none", "1xx", "2xx", "3xx", "4xx", "5xx"};
    const char *family = status >= 100 && status < 600 ? families[status / 100] : families[0];
    if (m->metrics) {
        metrics_add(m->metrics, M_UPSTREAM_REQUESTS_TOTAL,
                    METRIC_LABELS("waldur", "waldur", exchange_method_name(method), family), 1);
        metrics_observe(m->metrics, M_UPSTREAM_SECONDS, METRIC_LABELS("waldur", "waldur"),
                        (double)took_ms / 1000.0);
    }
}

void marketplace_report(struct marketplace *m, const struct exchange_response *response,
                        struct waldur_outcome *outcome, int64_t took_ms,
                        enum exchange_method method)
{
    struct err *e = &outcome->err;
    err_redact(e, m->config->waldur_token ? m->config->waldur_token : "");
    count(m, response->status, method, took_ms);
    if (e->class == ERR_THROTTLED) {
        be_patient(m, e->retry_after_ms);
    } else if (e->class == ERR_UNAUTHORIZED && e->http_status == 401) {
        close_down(m, e);
    } else if (outcome->answered) {
        if (e->class == ERR_UNAUTHORIZED) {
            forbid(m, e);
        }
        open_up(m);
    } else {
        m->failures++;
        if (m->failures >= FAILURES_TO_CLOSE || m->down) {
            close_down(m, e);
        }
    }
}

bool marketplace_down(const struct marketplace *m)
{
    return m->down;
}

void marketplace_json(const struct marketplace *m, bool comma, struct buf *out)
{
    bool forbidden = clock_mono_ms() < m->forbidden_until_ms;
    if (!m->config->waldur_url || (!m->down && !forbidden)) {
        return;
    }
    buf_adds(out, comma ? ",{" : "{");
    buf_adds(out, "\"runtime\":\"waldur\",\"product\":\"waldur\",");
    if (m->down) {
        char since[CLOCK_TEXT_MAX];
        clock_format(since, m->since_us);
        buf_addf(out, "\"since\":\"%s\",", since);
    }
    buf_adds(out, "\"reason\":");
    buf_add_json(out, m->down ? m->reason : m->forbidden);
    buf_addc(out, '}');
}
