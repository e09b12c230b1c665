#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "ragflow_mad.h"

/*
 * Random histories of one collection under faults, crashes and people, and random answers of a
 * server gone mad. PROPERTY_SEED repeats one run.
 */

enum { HISTORIES = 4000, MAD_RUNS = 60000, ATTEMPTS = 3 };

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
    return property_chance(&w->rng, percent);
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

static void every_history_ends_well(void **state)
{
    (void)state;
    property_runs(HISTORIES, history);
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
    return PROPERTY_DRAW(rng, ids);
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
    return PROPERTY_DRAW(rng, texts);
}

static cJSON *draw_number(struct rng *rng)
{
    static const double numbers[] = {0, 0, 0, 0, 0, 1, 2, 10, 512, -1, 1.5, 1e300};
    return cJSON_CreateNumber(PROPERTY_DRAW(rng, numbers));
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
    add(rng, o, "code", cJSON_CreateNumber(rng_below(rng, 4) ? 0 : PROPERTY_DRAW(rng, codes)));
    add(rng, o, "data", draw_data(rng, url));
    add(rng, o, "message", cJSON_CreateString(draw_text(rng)));
    add(rng, o, "status", cJSON_CreateString(rng_below(rng, 2) ? "ok" : "nok"));
    char *text = json_text(o);
    cJSON_Delete(o);
    property_knock(rng, 3, text);
    return text;
}

static int draw_status(struct rng *rng)
{
    static const int odd[] = {0,   100, 199, 204, 302, 400, 401, 404, 408,
                              409, 410, 422, 429, 500, 502, 503, 999};
    return rng_below(rng, 20) ? 200 : PROPERTY_DRAW(rng, odd);
}

struct mad_source {
    struct rng rng;
    char *body;
};

static void answer_madly(void *ctx, const struct driver_action *a, struct exchange_response *r)
{
    struct mad_source *s = ctx;
    free(s->body);
    s->body = draw_body(&s->rng, a->request.url);
    *r = (struct exchange_response){.status = draw_status(&s->rng),
                                    .body = s->body,
                                    .body_len = strlen(s->body),
                                    .retry_after_ms = property_chance(&s->rng, 20) ? 5 : -1};
    r->sent = r->status != 0 || property_chance(&s->rng, 50);
    r->truncated = property_chance(&s->rng, 1);
    str_copy(r->authorization, sizeof(r->authorization),
             property_chance(&s->rng, 80) ? "session" : "");
}

static unsigned long n_changes, n_deletes, n_ends[2];

static void mad_run(uint64_t seed)
{
    static struct ragflow_mad m; /* large */
    struct mad_source source = {.body = NULL};
    const struct mad_answers answers = {&source, answer_madly};
    struct rng *rng = &source.rng;
    struct sim *w = &m.sim;
    memset(&m, 0, sizeof(m));
    w->seed = seed;
    rng_seed(rng, seed);
    sim_target(w, (enum driver_tenancy)rng_below(rng, 3));
    sim_new_site(w);
    w->s.models_key = property_chance(rng, 50) ? SIM_MODELS_KEY : NULL;
    w->t.external_id = property_chance(rng, 50) ? "0000000000001111936a02fc00000001" : NULL;
    w->t.tenant_id = property_chance(rng, 50) ? MAD_TENANT : NULL;
    w->t.secret = property_chance(rng, 50) ? "ragflow-recorded" : NULL;
    w->t.uncertain = property_chance(rng, 50);
    w->t.updating = property_chance(rng, 20);
    w->t.deleting = property_chance(rng, 20) ? "0000000000001111936a02fc00000001" : NULL;
    w->t.observe = property_chance(rng, 20);
    ragflow_mad_run(&m, property_chance(rng, 50) ? DRIVER_PRESENT : DRIVER_ABSENT, &answers);
    n_changes += m.changes;
    n_deletes += m.deletes;
    n_ends[m.end == TURN_DONE]++;
    free(source.body);
    driver_site_unref(w->site);
}

static void no_answer_leads_astray(void **state)
{
    (void)state;
    size_t runs = property_runs(MAD_RUNS, mad_run);
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
