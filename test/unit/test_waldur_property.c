/*
 * Operations on Waldur against one that answers anything: its own answers, knocked out of place, of
 * other states, of other orders, or none. What must hold stands in waldur_mad.h.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "waldur_mad.h"

enum { RUNS = 10000 };

struct world {
    struct rng rng;
    struct waldur_sim sim;
    unsigned madness; /* percent */
    char *body;
};

static const char *const junk[] = {
    "",
    "<html><body><h1>502 Bad Gateway</h1></body></html>",
    "{}",
    "[]",
    "null",
    "{\"detail\":\"Not found.\"}",
    "{\"detail\":\"bad token " WS_TOKEN " and key " WS_API_KEY "\"}",
    "[{\"uuid\":\"" WS_KEY "\",\"resource_uuid\":\"" WS_RESOURCE "\",\"state\":\"Updating\"}]",
    "[{\"uuid\":\"" WS_KEY "\",\"resource_uuid\":\"" WS_RESOURCE
    "\",\"state\":\"OK\",\"client_id\":\"" MAD_CLIENT "\"}]",
    "[{\"uuid\":\"" WS_KEY "\",\"resource_uuid\":\"" WS_ORDER "\",\"state\":\"Updating\"}]",
    "{\"uuid\":\"" WS_RESOURCE "\",\"state\":\"executing\"}",
};

static const int statuses[] = {0,   200, 200, 200, 200, 200, 201, 204, 301, 400, 401, 403,
                               404, 404, 405, 408, 409, 409, 410, 429, 500, 502, 503, 504};

/* Somebody else moves things. */
static void stir(struct world *w)
{
    struct waldur_sim *s = &w->sim;
    if (property_chance(&w->rng, w->madness / 3)) {
        s->state = (enum waldur_order_state)rng_below(&w->rng, WALDUR_ORDER_MAX);
    }
    if (property_chance(&w->rng, w->madness / 6)) {
        str_copy(s->backend_id, sizeof(s->backend_id), property_chance(&w->rng, 50) ? "" : "x");
    }
    for (size_t i = 0; i < s->n_keys; i++) {
        if (property_chance(&w->rng, w->madness / 6)) {
            s->keys[i].state = (enum waldur_key_state)rng_below(&w->rng, WALDUR_KEY_MAX);
        }
    }
    if (s->n_keys + 2 >= WS_KEYS_MAX) {
        s->n_keys = 0;
    }
}

static void give(void *ctx, const struct waldur_action *a, struct exchange_response *out)
{
    struct world *w = ctx;
    struct buf b;
    stir(w);
    buf_init(&b, 1 << 20);
    *out = (struct exchange_response){.sent = true, .body = "", .retry_after_ms = -1};
    out->status = w->sim.old && property_chance(&w->rng, 1) ? 404 : 200;
    if (str_starts(a->request.url, WS_URL "/marketplace-orders/?")) {
        buf_addc(&b, '[');
        for (uint64_t n = rng_below(&w->rng, 15); n > 0; n--) {
            ws_order_body(&w->sim, &b);
            buf_adds(&b, n > 1 ? "," : "");
        }
        buf_addc(&b, ']');
    } else if (!str_starts(a->request.url, WS_URL "/events/") &&
               !strstr(a->request.url, "offering_uuid=")) {
        out->status = ws_serve(&w->sim, a, &b);
    }
    if (property_chance(&w->rng, w->madness)) {
        out->status = PROPERTY_DRAW(&w->rng, statuses);
        out->sent = out->status != 0 || property_chance(&w->rng, 50);
        out->truncated = property_chance(&w->rng, 5);
        out->retry_after_ms = property_chance(&w->rng, 20) ? (int64_t)rng_below(&w->rng, 9999) : -1;
        if (out->status == 0) {
            str_copy(out->failure, sizeof(out->failure), "connection reset");
        }
        if (out->status == 0 || property_chance(&w->rng, 50)) {
            buf_reset(&b);
            buf_adds(&b, out->status ? PROPERTY_DRAW(&w->rng, junk) : "");
        }
    }
    free(w->body);
    w->body = buf_steal(&b);
    if (!w->body) {
        w->body = str_dup("");
    }
    if (w->body[0]) {
        property_knock(&w->rng, w->madness / 5, w->body);
    }
    out->body = w->body;
    out->body_len = strlen(w->body);
}

static unsigned ends[MAD_KINDS];

static void one(uint64_t seed)
{
    struct world *w = calloc(1, sizeof(*w));
    struct waldur_mad *m = calloc(1, sizeof(*m));
    assert_non_null(w);
    assert_non_null(m);
    rng_seed(&w->rng, seed);
    w->sim = ws_begin(property_chance(&w->rng, 40));
    w->sim.state = (enum waldur_order_state)rng_below(&w->rng, WALDUR_ORDER_MAX);
    w->sim.state = property_chance(&w->rng, 60) ? WALDUR_ORDER_EXECUTING : w->sim.state;
    w->sim.slow_approval = (int)rng_below(&w->rng, 4);
    w->sim.deaf = property_chance(&w->rng, 20);
    w->sim.filtered = property_chance(&w->rng, 20);
    for (uint64_t n = rng_below(&w->rng, 25); n > 0; n--) {
        ws_add_key(&w->sim, property_chance(&w->rng, 5) ? MAD_CLIENT : "pk_live_other",
                   property_chance(&w->rng, 10) ? WALDUR_KEY_UPDATING : WALDUR_KEY_OK);
    }
    w->madness = (unsigned)rng_below(&w->rng, 60);
    m->kind = (enum mad_kind)rng_below(&w->rng, MAD_KINDS);
    m->list = (enum waldur_list_kind)rng_below(&w->rng, WALDUR_LIST_EVENTS + 1);
    m->leaves = property_chance(&w->rng, 10);
    m->terminates = property_chance(&w->rng, 20);
    m->seed = seed;
    m->ctx = w;
    m->give = give;
    waldur_mad_run(m);
    ends[m->kind]++;
    ws_end(&w->sim);
    free(w->body);
    free(w);
    free(m);
}

static void whatever_waldur_answers(void **state)
{
    (void)state;
    size_t runs = property_runs(RUNS, one);
    for (size_t i = 0; i < MAD_KINDS && runs > 1; i++) {
        assert_true(ends[i] > RUNS / (2 * MAD_KINDS));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(whatever_waldur_answers)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
