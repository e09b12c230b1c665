#include "hooks.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "statements.h"
#include "store/pg.h"

#define HOOKS_PATH "/hooks/waldur/"

enum {
    DIGEST_BYTES = 32,
    STATEMENT_MS = 5 * 1000, /* Waldur waits for 10 s at most */
    RETRY_AFTER_S = 5,
    ANSWER_MAX = 1024,
};

struct waiting;

struct hooks {
    struct pg *pg;
    struct metrics *metrics;
    void *ctx;
    loop_fn *on_hint;
    LIST_HEAD(waiting_list, waiting) waiting;
    bool enabled;
    const struct config *config;
    unsigned char digest[DIGEST_BYTES]; /* of the secret */
};

/* A webhook that waits for its hint's commit. */
struct waiting {
    LIST_ENTRY(waiting) link;
    struct hooks *hooks;
    struct httpd_request *request;
    const char *kind; /* static */
    int64_t since_ms;
};

static void digest(const char *text, unsigned char out[DIGEST_BYTES])
{
    (void)crypto_generichash(out, DIGEST_BYTES, (const unsigned char *)text, strlen(text), NULL, 0);
}

void hooks_configure(struct hooks *h, const struct config *config)
{
    h->config = config;
    h->enabled = config->waldur_url && config->waldur_hook_secret;
    if (h->enabled) {
        digest(config->waldur_hook_secret, h->digest);
    }
}

/* Digests have one length, and are compared in the same time whatever they are. */
static bool is_secret(const struct hooks *h, const char *text)
{
    unsigned char given[DIGEST_BYTES];
    digest(text, given);
    return h->enabled && sodium_memcmp(given, h->digest, DIGEST_BYTES) == 0;
}

/* ---- answers ---- */

static void answer(const struct hooks *h, struct httpd_request *r, int status, const char *kind,
                   const char *text, int64_t since_ms)
{
    metrics_add(h->metrics, M_WALDUR_HINTS_TOTAL, METRIC_LABELS("webhook", kind), 1);
    metrics_observe(h->metrics, M_WALDUR_HOOK_SECONDS, NULL,
                    (double)(clock_mono_ms() - since_ms) / 1000.0);
    httpd_reply(r, status, "application/json", text, strlen(text));
}

static void not_found(struct httpd_request *r)
{
    static const char text[] = "{\"error\":\"not found\"}\n";
    httpd_reply(r, 404, "application/json", text, sizeof(text) - 1);
}

static void not_now(const struct hooks *h, struct httpd_request *r, int64_t since_ms)
{
    httpd_retry_after(r, RETRY_AFTER_S);
    answer(h, r, 503, "refused", "{\"error\":\"the hint cannot be kept just now\"}\n", since_ms);
}

static void bad(const struct hooks *h, struct httpd_request *r, const struct json_fault *fault,
                int64_t since_ms)
{
    struct buf out;
    buf_init(&out, ANSWER_MAX);
    buf_adds(&out, "{\"error\":\"no body of Waldur's\",\"pointer\":");
    buf_add_json(&out, fault->pointer);
    buf_adds(&out, ",\"reason\":");
    buf_add_json(&out, fault->reason);
    buf_adds(&out, "}\n");
    answer(h, r, 400, "refused", out.failed ? "{\"error\":\"no body of Waldur's\"}\n" : out.data,
           since_ms);
    buf_done(&out);
}

/* ---- hints ---- */

static void on_kept(void *ctx, const PGresult *res, const struct err *err)
{
    struct waiting *w = ctx;
    struct hooks *h = w->hooks;
    if (res) {
        answer(h, w->request, 202, w->kind, "{\"accepted\":true}\n", w->since_ms);
        if (h->on_hint) {
            h->on_hint(h->ctx);
        }
    } else {
        if (err->class == ERR_REFUSED) {
            log_event(LOG_ERROR, "a webhook's hint was refused by the database",
                      LOG_S("error", err->msg));
        }
        not_now(h, w->request, w->since_ms);
    }
    LIST_REMOVE(w, link);
    free(w);
}

const char *hooks_kind(const struct hook *hook)
{
    switch (hook->kind) {
    case HOOK_ORDER_MOVED:
    case HOOK_ORDER_APPROVED:
        return "order";
    case HOOK_ORDER_CLOSED:
        return "closed";
    case HOOK_RESOURCE_REQUESTED:
    case HOOK_RESOURCE_CHANGED:
        return "resource";
    case HOOK_UNLINKED:
        return "unlinked";
    case HOOK_KEY_ROTATION:
        return "key";
    case HOOK_OTHER:
    case HOOK_KIND_MAX:
        break;
    }
    return NULL;
}

static const char *or_null(const char *s)
{
    return s[0] ? s : NULL;
}

static int keep(struct hooks *h, struct httpd_request *r, const struct hook *hook, const char *kind,
                int64_t since_ms)
{
    struct err err;
    struct waiting *w = malloc(sizeof(*w));
    if (!w) {
        return -1;
    }
    *w = (struct waiting){.hooks = h, .request = r, .kind = kind, .since_ms = since_ms};
    const struct pg_param p[] = {{kind, -1},
                                 {"webhook", -1},
                                 {or_null(hook->order_uuid), -1},
                                 {or_null(hook->resource_uuid), -1},
                                 {or_null(hook->api_key_uuid), -1}};
    if (pg_submit(h->pg, 0, NULL, false, p, on_kept, w, &err)) {
        free(w);
        return -1;
    }
    LIST_INSERT_HEAD(&h->waiting, w, link);
    return 0;
}

static void handle(void *ctx, struct httpd_request *r, const char *path, const char *body,
                   size_t body_len)
{
    struct hooks *h = ctx;
    struct hook hook;
    struct json_fault fault;
    int64_t now_ms = clock_mono_ms();
    if (!is_secret(h, path + sizeof(HOOKS_PATH) - 1)) {
        not_found(r);
        return;
    }
    if (hook_decode(body, body_len, &hook, &fault)) {
        if (fault.internal) {
            not_now(h, r, now_ms);
        } else {
            bad(h, r, &fault, now_ms);
        }
        return;
    }
    const char *kind = hooks_kind(&hook);
    /* Staff's webhooks tell of every offering there is. Of one that becomes ours the sweep tells.
     */
    bool foreign = hook.offering_uuid[0] && !config_offering_of(h->config, hook.offering_uuid);
    if (!kind || foreign) {
        answer(h, r, 202, foreign ? "foreign" : "ignored", "{\"accepted\":false}\n", now_ms);
    } else if (!pg_is_up(h->pg) || keep(h, r, &hook, kind, now_ms)) {
        not_now(h, r, now_ms);
    }
}

struct httpd_route hooks_route(struct hooks *h)
{
    return (struct httpd_route){"POST", HOOKS_PATH "*", handle, h};
}

/* ---- life ---- */

struct hooks *hooks_new(struct loop *loop, const struct hooks_options *options, struct err *err)
{
    struct hooks *h = calloc(1, sizeof(*h));
    if (!h) {
        err_nomem(err);
        return NULL;
    }
    LIST_INIT(&h->waiting);
    h->metrics = options->metrics;
    h->ctx = options->ctx;
    h->on_hint = options->on_hint;
    hooks_configure(h, options->config);
    struct pg_options pg = {.url = options->config->database_url,
                            .application = "provisioner hooks",
                            .statements = &statements[S_WALDUR_HINT],
                            .n_statements = 1,
                            .statement_timeout_ms = STATEMENT_MS};
    h->pg = pg_new(loop, &pg, err);
    if (!h->pg) {
        hooks_free(h);
        return NULL;
    }
    return h;
}

void hooks_free(struct hooks *h)
{
    if (!h) {
        return;
    }
    pg_free(h->pg);
    while (!LIST_EMPTY(&h->waiting)) {
        struct waiting *w = LIST_FIRST(&h->waiting);
        LIST_REMOVE(w, link);
        free(w);
    }
    sodium_memzero(h->digest, sizeof(h->digest));
    free(h);
}
