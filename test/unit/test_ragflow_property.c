#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/rng.h"
#include "ragflow_sim.h"

/*
 * Random histories of one collection under faults, crashes and people, and random answers of a
 * server gone mad. PROPERTY_SEED repeats one run.
 */

enum { HISTORIES = 4000, MAD_RUNS = 60000, ATTEMPTS = 3, MAD_REQUESTS = 400 };

struct world {
    struct sim sim;
    struct rng rng;
    uint64_t seed;
    int strangers;
    bool taken; /* a stranger has our name, or one alike */
};

#define BROKEN(w, why)                                                                             \
    SIM_BROKEN(&(w)->sim, "%s; PROPERTY_SEED=%llu", (why), (unsigned long long)(w)->seed)

static bool chance(struct world *w, unsigned percent)
{
    return rng_below(&w->rng, 100) < percent;
}

static void world_begin(struct world *w, uint64_t seed)
{
    memset(w, 0, sizeof(*w));
    w->seed = seed;
    rng_seed(&w->rng, seed);
    sim_begin(&w->sim, chance(w, 60) ? "0.27-python" : "0.27-go",
              (enum driver_tenancy)rng_below(&w->rng, 3));
    if (chance(w, 20)) {
        sim_put(&w->sim, "{\"race\":true}");
    }
}

/* ---- what else happens at the server ---- */

static void upload(struct world *w)
{
    char body[256];
    cJSON *objects = product_objects(&w->sim.p);
    const cJSON *one = NULL;
    cJSON_ArrayForEach(one, objects)
    {
        if (sim_is_ours(json_get(one, "object"))) {
            snprintf(body, sizeof(body), "{\"dataset\":\"%s\",\"names\":[\"a\",\"b\"]}",
                     json_str(one, "object.id"));
            cJSON_Delete(product_admin(&w->sim.p, "POST", "/documents", body));
            break;
        }
    }
    cJSON_Delete(objects);
}

static void stranger(struct world *w)
{
    static const char *const plants[] = {
        "{\"name\":\"other\",\"description\":\"" SIM_OTHER "\",\"documents\":[\"x\"]}",
        "{\"name\":\"acme\"}", "{\"name\":\"" SIM_NAME "-neighbour\"}"};
    static const char *const alike[] = {"{\"name\":\"" SIM_NAME "\"}",
                                        "{\"name\":\"ACME-corp-website-support-csa-001\"}",
                                        "{\"name\":\"" SIM_NAME " \"}"};
    char id[33];
    bool takes = chance(w, 15) && w->sim.s.tenancy == TENANCY_SHARED;
    w->taken = w->taken || takes;
    sim_plant(&w->sim, takes ? alike[rng_below(&w->rng, 3)] : plants[rng_below(&w->rng, 3)], id);
    w->strangers++;
}

static void meddle(struct world *w)
{
    if (chance(w, 15)) {
        stranger(w);
    }
    if (chance(w, 10)) {
        upload(w);
    }
    if (chance(w, 10)) {
        w->sim.t.chunk_size = chance(w, 50) ? 256 : 512;
    }
    if (chance(w, 10)) {
        sim_new_site(&w->sim);
    }
    if (chance(w, 5)) {
        w->sim.secret[0] = '\0';
    }
}

static unsigned long n_changes, n_deletes, n_ends[2];

static void count(const struct driver_action *a)
{
    n_changes += a->effect != NULL;
    n_deletes += a->effect && strstr(a->effect, "collection.delete");
}

static void check_strangers(struct world *w)
{
    cJSON *objects = product_objects(&w->sim.p);
    const cJSON *one = NULL;
    int n = 0;
    cJSON_ArrayForEach(one, objects)
    {
        int64_t changes = 0;
        bool ours = sim_is_ours(json_get(one, "object"));
        n += !ours;
        if (!ours && (!json_i64(one, "changes", &changes) || changes != 0)) {
            BROKEN(w, "a stranger's dataset was changed");
        }
    }
    cJSON_Delete(objects);
    if (n != w->strangers) {
        BROKEN(w, "a stranger's dataset is gone");
    }
}

/* ---- histories ---- */

static bool operate(struct world *w, enum driver_goal goal)
{
    struct sim *s = &w->sim;
    s->cut_at = chance(w, 70) ? 1 + (int)rng_below(&w->rng, 18) : 0;
    s->cut = (enum cut)(1 + rng_below(&w->rng, CUT_KINDS - 1));
    s->forgets = chance(w, 10);
    bool done = sim_run(s, goal) && !s->forgets;
    s->forgets = false;
    s->cut_at = 0;
    check_strangers(w);
    return done;
}

/* The undisturbed run; only a name that is a stranger's may keep it from its goal. */
static void final_run(struct world *w, enum driver_goal goal)
{
    bool done = false;
    for (int i = 0; i < 3 && !done; i++) {
        done = sim_run(&w->sim, goal);
    }
    check_strangers(w);
    bool excused = goal == DRIVER_PRESENT && w->taken &&
                   (w->sim.end.err.class == ERR_CONFLICT || w->sim.end.err.class == ERR_REFUSED);
    /* Two with something in them are a matter for a person. */
    excused = excused || (w->sim.end.err.class == ERR_CONFLICT &&
                          strstr(w->sim.end.err.msg, "decide which to keep"));
    if (!done && !excused) {
        BROKEN(w, "the undisturbed run did not reach its goal");
    }
    sim_land(&w->sim);
    if (done && goal == DRIVER_PRESENT) {
        sim_check_present(&w->sim);
    } else if (done) {
        sim_check_absent(&w->sim);
    }
}

static void history(uint64_t seed)
{
    struct world w;
    enum driver_goal goal = DRIVER_PRESENT;
    world_begin(&w, seed);
    w.sim.seed = seed;
    size_t wishes = 1 + rng_below(&w.rng, 4);
    for (size_t i = 0; i < wishes; i++) {
        goal = chance(&w, 55) ? DRIVER_PRESENT : DRIVER_ABSENT;
        for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
            meddle(&w);
            bool done = operate(&w, goal);
            if (!w.sim.open || chance(&w, 50)) {
                sim_land(&w.sim);
            }
            if (done || chance(&w, 20)) {
                break; /* reached, or a newer wish came */
            }
        }
    }
    final_run(&w, goal);
    sim_end(&w.sim);
}

static uint64_t first_seed(size_t *runs)
{
    const char *given = getenv("PROPERTY_SEED");
    uint64_t seed = (uint64_t)clock_wall_us();
    if (given) {
        seed = strtoull(given, NULL, 10);
        *runs = 1;
    }
    print_message("seeds from %llu\n", (unsigned long long)seed);
    return seed;
}

static void every_history_ends_well(void **state)
{
    size_t runs = HISTORIES;
    uint64_t seed = first_seed(&runs);
    (void)state;
    for (size_t i = 0; i < runs; i++) {
        history(seed + i);
    }
}

/* ---- a server gone mad ---- */

#define MAD_TENANT "aaaaaaaaaaaa11f1936a02fc00000001"
#define MAD_OTHER  "bbbbbbbbbbbb11f1936a02fc00000001"

static const char *draw_id(struct rng *rng)
{
    static const char *const ids[] = {"0000000000001111936a02fc00000001",
                                      "0000000000001111936a02fc00000002",
                                      "0000000000001111936A02FC00000003",
                                      MAD_TENANT,
                                      MAD_TENANT,
                                      MAD_TENANT,
                                      MAD_OTHER,
                                      "",
                                      "*",
                                      "../datasets",
                                      "0000000000001111936a02fc0000000g"};
    return ids[rng_below(rng, ARRAY_LEN(ids))];
}

static const char *draw_text(struct rng *rng)
{
    static const char *const texts[] = {
        SIM_NAME,
        SIM_NAME,
        SIM_MARKER,
        SIM_MARKER,
        SIM_OTHER,
        "acme-corp-website-support-csa-001(1)",
        "waldur-subscription:2f1c9a52-6a0e-4c55-8f1e-5d2f0c9b7a01(1)",
        "",
        SIM_MODEL,
        "python",
        "go",
        "v0.27.0",
        "v0.24.0",
        "1",
        "ok",
        SIM_EMAIL,
        "Internal server error"};
    return texts[rng_below(rng, ARRAY_LEN(texts))];
}

static cJSON *draw_number(struct rng *rng)
{
    static const double numbers[] = {0, 0, 0, 0, 0, 1, 2, 10, 512, -1, 1.5, 1e300};
    return cJSON_CreateNumber(numbers[rng_below(rng, ARRAY_LEN(numbers))]);
}

static void add(struct rng *rng, cJSON *o, const char *name, cJSON *value)
{
    if (rng_below(rng, 80) == 0) {
        cJSON_Delete(value);
        value = rng_below(rng, 2) ? cJSON_CreateNull() : cJSON_CreateString(draw_text(rng));
    }
    if (rng_below(rng, 80) == 0) {
        cJSON_Delete(value);
    } else {
        cJSON_AddItemToObject(o, name, value);
    }
}

/* A dataset, a user, a key and a model at once. */
static cJSON *draw_row(struct rng *rng, const char *url)
{
    /* Mostly the one that was asked for: a user's is the tenant. */
    const char *asked = strstr(url, "?id=");
    const char *likely = asked ? asked + 4 : strstr(url, "/users") ? MAD_TENANT : draw_id(rng);
    const char *id = rng_below(rng, 6) ? likely : draw_id(rng);
    cJSON *o = cJSON_CreateObject(), *config = cJSON_CreateObject();
    add(rng, o, "id", cJSON_CreateString(id));
    add(rng, o, "name", cJSON_CreateString(rng_below(rng, 3) ? SIM_NAME : draw_text(rng)));
    add(rng, o, "description", cJSON_CreateString(rng_below(rng, 3) ? SIM_MARKER : draw_text(rng)));
    add(rng, o, "tenant_id", cJSON_CreateString(rng_below(rng, 10) ? MAD_TENANT : draw_id(rng)));
    add(rng, o, "embedding_model",
        cJSON_CreateString(rng_below(rng, 3) ? SIM_MODEL : draw_text(rng)));
    add(rng, o, "document_count", draw_number(rng));
    add(rng, o, "chunk_count", draw_number(rng));
    add(rng, o, "create_time", draw_number(rng));
    add(rng, config, "chunk_token_num", draw_number(rng));
    add(rng, config, "overlapped_percent", draw_number(rng));
    add(rng, o, "parser_config", config);
    add(rng, o, "email", cJSON_CreateString(rng_below(rng, 3) ? SIM_EMAIL : draw_text(rng)));
    add(rng, o, "is_active", cJSON_CreateString(rng_below(rng, 2) ? "1" : "0"));
    add(rng, o, "token", cJSON_CreateString(rng_below(rng, 3) ? "ragflow-mad-key" : "a b/c"));
    add(rng, o, "model_id", cJSON_CreateString(draw_id(rng)));
    add(rng, o, "model_name", cJSON_CreateString("text-embedding-3-small"));
    add(rng, o, "language", cJSON_CreateString(draw_text(rng)));
    return o;
}

static cJSON *draw_rows(struct rng *rng, const char *url)
{
    cJSON *rows = cJSON_CreateArray();
    for (uint64_t n = rng_below(rng, 4); n > 0; n--) {
        cJSON_AddItemToArray(rows, draw_row(rng, url));
    }
    return rows;
}

static cJSON *draw_data(struct rng *rng, const char *url)
{
    bool documents = strstr(url, "/documents?") != NULL;
    bool list = strstr(url, "?") || strstr(url, "/keys") || strstr(url, "/admin/users/");
    if (rng_below(rng, 60) == 0) {
        return draw_number(rng);
    }
    if (strstr(url, "/version")) {
        return cJSON_CreateString(rng_below(rng, 20) ? "v0.27.0" : draw_text(rng));
    }
    if (documents) {
        cJSON *o = cJSON_CreateObject();
        add(rng, o, "docs", draw_rows(rng, url));
        add(rng, o, "total", draw_number(rng));
        return o;
    }
    return (rng_below(rng, 30) ? list : !list) ? draw_rows(rng, url) : draw_row(rng, url);
}

/* Mostly what a RAGFlow could say, then bytes knocked out of place. */
static char *draw_body(struct rng *rng, const char *url)
{
    static const int codes[] = {0,   0,   0,   0,   0,   0,   0,   0,   100, 101, 102,
                                102, 103, 108, 109, 401, 403, 404, 409, 500, -1};
    cJSON *o = cJSON_CreateObject();
    add(rng, o, "code",
        cJSON_CreateNumber(rng_below(rng, 4) ? 0 : codes[rng_below(rng, ARRAY_LEN(codes))]));
    add(rng, o, "data", draw_data(rng, url));
    add(rng, o, "message", cJSON_CreateString(draw_text(rng)));
    add(rng, o, "status", cJSON_CreateString(rng_below(rng, 2) ? "ok" : "nok"));
    char *text = json_text(o);
    cJSON_Delete(o);
    size_t len = strlen(text);
    for (uint64_t n = rng_below(rng, 40) ? 0 : 1 + rng_below(rng, 4); n > 0; n--) {
        text[rng_below(rng, len)] = (char)(1 + rng_below(rng, 255));
    }
    return text;
}

static int draw_status(struct rng *rng)
{
    static const int odd[] = {0,   100, 199, 204, 302, 400, 401, 404, 408,
                              409, 410, 422, 429, 500, 502, 503, 999};
    return rng_below(rng, 20) ? 200 : odd[rng_below(rng, ARRAY_LEN(odd))];
}

enum { SHOWN_MAX = 4 * MAD_REQUESTS };

/* Ids that the answers so far showed to be ours. */
struct shown {
    char ids[SHOWN_MAX][33];
    size_t n;
};

static void remember(struct shown *shown, const cJSON *row)
{
    const char *id = json_str(row, "id");
    if (id && strlen(id) == 32 && sim_is_ours(row) && shown->n < SHOWN_MAX) {
        for (size_t i = 0; i < 33; i++) {
            shown->ids[shown->n][i] = (char)(id[i] >= 'A' && id[i] <= 'F' ? id[i] + 32 : id[i]);
        }
        shown->n++;
    }
}

static void remember_all(struct shown *shown, const struct exchange_response *r)
{
    cJSON *json = cJSON_Parse(r->body);
    const cJSON *data = json_get(json, "data"), *row = NULL;
    if (cJSON_IsArray(data)) {
        cJSON_ArrayForEach(row, data)
        {
            remember(shown, row);
        }
    }
    remember(shown, data);
    cJSON_Delete(json);
}

/* A change of a dataset is aimed at what was shown to be ours. */
static void check_mad_aim(struct world *w, const struct driver_action *a, const struct shown *shown)
{
    const struct exchange_request *r = &a->request;
    char id[33] = "";
    sim_check_shape(&w->sim, a);
    if (r->method == METHOD_GET || r->method == METHOD_POST) {
        return;
    }
    if (str_starts(r->url, PRODUCT_URL "/api/v1/datasets#/")) {
        str_copy(id, sizeof(id), r->url + strlen(PRODUCT_URL "/api/v1/datasets#/"));
    } else if (!sim_dataset_of(r->url, id)) {
        return;
    }
    bool known = false;
    for (size_t i = 0; i < shown->n && !known; i++) {
        known = str_eq(shown->ids[i], id);
    }
    if (!known || !sim_is_hex(id)) {
        BROKEN(w, "a change aimed at what was not shown to be ours");
    }
}

static void answer_madly(struct world *w, struct driver_op *op, const struct driver_action *a,
                         struct shown *shown)
{
    struct driver_outcome outcome;
    char *body = draw_body(&w->rng, a->request.url);
    struct exchange_response r = {.status = draw_status(&w->rng),
                                  .body = body,
                                  .body_len = strlen(body),
                                  .retry_after_ms = chance(w, 20) ? 5 : -1};
    r.sent = r.status != 0 || chance(w, 50);
    r.truncated = chance(w, 1);
    str_copy(r.authorization, sizeof(r.authorization), chance(w, 80) ? "session" : "");
    if (r.status >= 200 && r.status <= 299 && !r.truncated) {
        remember_all(shown, &r);
    }
    sim_say(&w->sim, exchange_method_name(a->request.method), a->request.url);
    sim_say(&w->sim, "  ", body);
    sim_class()->feed(op, &r, &outcome);
    if ((outcome.effect != EFFECT_NONE) != (a->effect != NULL)) {
        BROKEN(w, "an effect without a change, or a change without an effect");
    }
    if (outcome.record && !sim_is_hex(outcome.external_id)) {
        BROKEN(w, "recorded what is no id");
    }
    sim_check_words(&w->sim, &outcome.err);
    free(body);
}

static void mad_run(uint64_t seed)
{
    struct world w;
    static struct shown shown;
    struct driver_action a;
    struct err err;
    int requests = 0, waits = 0;
    memset(&w, 0, sizeof(w));
    shown.n = 0;
    w.seed = seed;
    rng_seed(&w.rng, seed);
    sim_target(&w.sim, (enum driver_tenancy)rng_below(&w.rng, 3));
    sim_new_site(&w.sim);
    w.sim.s.models_key = chance(&w, 50) ? SIM_MODELS_KEY : NULL;
    w.sim.t.external_id = chance(&w, 50) ? "0000000000001111936a02fc00000001" : NULL;
    w.sim.t.tenant_id = chance(&w, 50) ? MAD_TENANT : NULL;
    w.sim.t.secret = chance(&w, 50) ? "ragflow-recorded" : NULL;
    w.sim.t.uncertain = chance(&w, 50);
    w.sim.t.updating = chance(&w, 20);
    w.sim.t.deleting = chance(&w, 20) ? "0000000000001111936a02fc00000001" : NULL;
    w.sim.t.observe = chance(&w, 20);
    struct driver_op *op =
        sim_class()->start(chance(&w, 50) ? DRIVER_PRESENT : DRIVER_ABSENT, &w.sim.t, &err);
    assert_non_null(op);
    for (sim_class()->next(op, &a); a.turn == TURN_REQUEST || a.turn == TURN_WAIT;
         sim_class()->next(op, &a)) {
        if (a.turn == TURN_WAIT) {
            waits++;
            continue;
        }
        requests++;
        if (w.sim.t.observe && a.effect) {
            BROKEN(&w, "an observation changes something");
        }
        count(&a);
        check_mad_aim(&w, &a, &shown);
        answer_madly(&w, op, &a, &shown);
        exchange_request_done(&a.request);
        if (requests > MAD_REQUESTS || waits > MAD_REQUESTS) {
            BROKEN(&w, "unbounded");
        }
    }
    n_ends[a.turn == TURN_DONE]++;
    if (a.turn == TURN_FAILED &&
        (a.err.class == ERR_NONE || a.err.class == ERR_INTERNAL || a.err.msg[0] == '\0')) {
        BROKEN(&w, "failed without a reason, or by its own fault");
    }
    sim_check_words(&w.sim, &a.err);
    sim_class()->free(op);
    driver_site_unref(w.sim.site);
}

static void no_answer_leads_astray(void **state)
{
    size_t runs = MAD_RUNS;
    uint64_t seed = first_seed(&runs);
    (void)state;
    for (size_t i = 0; i < runs; i++) {
        mad_run(seed + i);
    }
    print_message("%lu changes, %lu of them deletes of datasets; %lu failed, %lu done\n", n_changes,
                  n_deletes, n_ends[0], n_ends[1]);
    assert_true(runs < MAD_RUNS || (n_deletes > 100 && n_ends[1] > 100));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_history_ends_well),
        cmocka_unit_test(no_answer_leads_astray),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
