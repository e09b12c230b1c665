#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "langflow_mad.h"

/*
 * Random histories of one workspace under faults, crashes, late requests and tenants, and random
 * answers of a server gone mad. PROPERTY_SEED repeats one run.
 */

enum { HISTORIES = 700, MAD_RUNS = 20000 };

static const char *const profiles[] = {"1.8", "1.10", "1.13"};

#define BROKEN(w, seed, ...)                                                                       \
    do {                                                                                           \
        print_error("PROPERTY_SEED=%llu\n", (unsigned long long)(seed));                           \
        WORLD_FAIL(w, __VA_ARGS__);                                                                \
    } while (0)

/* ---- histories ---- */

/* What tenants and people do between two runs; nothing that takes the user away from us. */
static void meddle(struct world *w, struct rng *rng)
{
    static const struct {
        enum exchange_method method;
        const char *path, *body;
    } calls[] = {
        {METHOD_POST, "/api_key/", "{\"name\":\"their own\"}"},
        {METHOD_POST, "/flows/", "{\"name\":\"their own\",\"access_type\":\"PUBLIC\"}"},
        {METHOD_POST, "/variables/",
         "{\"name\":\"their_own\",\"value\":\"x\",\"type\":\"Generic\",\"default_fields\":[]}"},
        {METHOD_PATCH, "/users/", "{\"optins\":{}}"},
        {METHOD_PATCH, "/users/", "{\"username\":\"renamed\"}"},
        {METHOD_PATCH, "/flows/", "{\"access_type\":\"PUBLIC\",\"endpoint_name\":\"e\"}"},
        {METHOD_PATCH, "/flows/", "{\"mcp_enabled\":true,\"locked\":true}"},
        {METHOD_DELETE, "/flows/", NULL},
    };
    size_t i = (size_t)rng_below(rng, ARRAY_LEN(calls));
    char path[200];
    if (!w->external_id[0] || !w->secret[0] || property_chance(rng, 60)) {
        return;
    }
    bool own = !(calls[i].method == METHOD_POST);
    bool user = str_starts(calls[i].path, "/users/");
    snprintf(path, sizeof(path), "%s%s", calls[i].path,
             !own   ? ""
             : user ? w->external_id
                    : w->flow_uuid);
    cJSON_Delete(world_call(w, calls[i].method, path, w->secret, calls[i].body, NULL));
}

/* The workspace, and nothing beside it that is ours. */
static void check_end(struct world *w, uint64_t seed, enum driver_goal goal)
{
    size_t mine = 0, n = 0;
    world_now_ms += 10000;
    cJSON *user = world_user_by(w, "object.id", w->external_id);
    const cJSON *flow = NULL, *key = NULL;
    if (world_count(w) != (w->external_id[0] ? 1 : 0) || (goal == DRIVER_PRESENT && !user) ||
        (goal == DRIVER_ABSENT && user)) {
        BROKEN(w, seed, "%zu users", world_count(w));
    }
    if (user && json_bool(user, "object.is_active", false) != (goal == DRIVER_PRESENT)) {
        BROKEN(w, seed, "active, or not");
    }
    cJSON_ArrayForEach(key, json_get(user, "keys"))
    {
        bool ours = str_eq(json_str(key, "name"), "provisioner");
        mine += ours;
        if (goal == DRIVER_CLOSED || (ours && !str_eq(json_str(key, "api_key"), w->secret))) {
            BROKEN(w, seed, "a key is left");
        }
    }
    cJSON_ArrayForEach(flow, json_get(user, "flows"))
    {
        n += str_eq(json_str(flow, "id"), w->flow_uuid);
        bool shut = str_eq(json_str(flow, "access_type"), "PRIVATE") &&
                    !json_bool(flow, "mcp_enabled", true);
        if (goal == DRIVER_CLOSED && !shut) {
            BROKEN(w, seed, "a flow is open");
        }
    }
    if (user && goal == DRIVER_PRESENT && (mine != 1 || n != 1)) {
        BROKEN(w, seed, "%zu keys and %zu flows of ours", mine, n);
    }
    if (user && goal == DRIVER_PRESENT) {
        world_check_variable(w, user, "tone", "calm", "Generic");
        world_check_variable(w, user, "ragflow_collection_id", "c-1", "Generic");
        world_check_variable(w, user, "ragflow_api_key", WORLD_COLLECTION, "Credential");
    }
    cJSON_Delete(user);
}

static void history(uint64_t seed)
{
    struct world w;
    struct rng rng;
    enum driver_goal goal = DRIVER_PRESENT;
    rng_seed(&rng, seed);
    world_begin(&w, profiles[rng_below(&rng, ARRAY_LEN(profiles))]);
    if (property_chance(&rng, 50)) {
        world_settings(&w, "{\"new_user_is_active\":true}");
    }
    if (property_chance(&rng, 30)) {
        world_settings(&w, "{\"shuffle\":true}");
    }
    w.target.collection_key = WORLD_COLLECTION;
    w.rng = &rng;
    size_t wishes = 1 + rng_below(&rng, 4);
    for (size_t i = 0; i < wishes; i++) {
        goal = (enum driver_goal)rng_below(&rng, 3);
        for (int attempt = 0; attempt < 4; attempt++) {
            meddle(&w, &rng);
            w.trouble = (unsigned)rng_below(&rng, 30);
            bool done = world_run(&w, goal);
            world_now_ms += 1000;
            if (property_chance(&rng, 50) || done) {
                world_land(&w);
            }
            if (done || property_chance(&rng, 20)) {
                break; /* reached, or a newer wish came */
            }
        }
    }
    w.trouble = 0;
    if (!world_run(&w, goal)) {
        BROKEN(&w, seed, "the undisturbed run did not reach its goal: %s", w.last.err.msg);
    }
    check_end(&w, seed, goal);
    world_end(&w);
}

static void every_history_ends_well(void **state)
{
    (void)state;
    property_runs(HISTORIES, history);
}

/* ---- a server gone mad ---- */

static const char *const ids[] = {"11111111-1111-4111-8111-111111111111",
                                  "22222222-2222-4222-8222-222222222222",
                                  "33333333-3333-4333-8333-333333333333", "../../x", ""};

static const char marker[] = WORLD_MARKER, other[] = WORLD_OTHER;

static cJSON *mad_object(struct rng *rng, const char *flow_uuid)
{
    static const char *const names[] = {WORLD_NAME,    "provisioner", "tone",
                                        "ragflow_url", "Agent",       ""};
    /* First what a marker may be, and what a status. */
    static const char *const words[] = {marker,   other,           "closed", "sk-1234567890",
                                        "PUBLIC", "PRIVATE",       "x y",    "Generic",
                                        "1.10.1", "Langflow Base", "0.3.0",  "\xc3\xa9"};
    static const char *const members[] = {"access_token", "api_key",      "access_type",
                                          "value",        "type",         "version",
                                          "package",      "endpoint_name"};
    cJSON *o = cJSON_CreateObject();
    const char *id = property_chance(rng, 20) ? flow_uuid : PROPERTY_DRAW(rng, ids);
    cJSON_AddStringToObject(o, "id", property_chance(rng, 70) ? ids[0] : id);
    cJSON_AddStringToObject(o, "user_id",
                            property_chance(rng, 70) ? ids[0] : PROPERTY_DRAW(rng, ids));
    cJSON_AddStringToObject(o, "flow_id", flow_uuid);
    cJSON_AddStringToObject(o, "username",
                            property_chance(rng, 70) ? WORLD_NAME : PROPERTY_DRAW(rng, names));
    cJSON_AddStringToObject(o, "name", PROPERTY_DRAW(rng, names));
    cJSON_AddBoolToObject(o, "is_active", property_chance(rng, 60));
    cJSON_AddBoolToObject(o, "is_superuser", property_chance(rng, 5));
    cJSON_AddBoolToObject(o, "has_value", property_chance(rng, 80));
    cJSON_AddBoolToObject(o, "mcp_enabled", property_chance(rng, 40));
    for (size_t i = 0; i < ARRAY_LEN(members); i++) {
        cJSON_AddStringToObject(o, members[i], PROPERTY_DRAW(rng, words));
    }
    cJSON *files = cJSON_AddArrayToObject(o, "files");
    for (uint64_t n = rng_below(rng, 4); n > 0; n--) {
        cJSON_AddItemToArray(files, cJSON_CreateString(property_chance(rng, 80)
                                                           ? PROPERTY_DRAW(rng, names)
                                                           : PROPERTY_DRAW(rng, ids)));
    }
    cJSON *optins = cJSON_AddObjectToObject(o, "optins");
    cJSON_AddStringToObject(optins, "waldur_subscription",
                            property_chance(rng, 70) ? WORLD_MARKER : words[rng_below(rng, 4)]);
    cJSON_AddStringToObject(optins, "waldur_proof", property_chance(rng, 80) ? WORLD_PROOF : "x");
    if (property_chance(rng, 40)) {
        cJSON_AddStringToObject(optins, "waldur_status", words[rng_below(rng, 4)]);
    }
    return o;
}

static cJSON *mad_list(struct rng *rng, const char *flow_uuid)
{
    cJSON *list = cJSON_CreateArray();
    for (uint64_t n = rng_below(rng, 4); n > 0; n--) {
        cJSON_AddItemToArray(list, mad_object(rng, flow_uuid));
    }
    return list;
}

/* What fits the question, mostly; then bytes out of place. */
static char *mad_body(struct rng *rng, const struct exchange_request *r, const char *flow_uuid)
{
    cJSON *json = mad_object(rng, flow_uuid);
    bool wrapped = strstr(r->url, "/users/?") || strstr(r->url, "/api_key/");
    if (r->method == METHOD_GET && wrapped) {
        cJSON_AddItemToObject(json, "users", mad_list(rng, flow_uuid));
        cJSON_AddItemToObject(json, "api_keys", mad_list(rng, flow_uuid));
        cJSON_AddNumberToObject(json, "total_count", (double)rng_below(rng, 9));
    } else if (r->method == METHOD_GET && property_chance(rng, 80) &&
               (strstr(r->url, "/flows/?") || strstr(r->url, "/variables/") ||
                strstr(r->url, "/messages"))) {
        cJSON_Delete(json);
        json = mad_list(rng, flow_uuid);
    } else if (strstr(r->url, flow_uuid) && property_chance(rng, 80)) {
        cJSON_ReplaceItemInObjectCaseSensitive(json, "id", cJSON_CreateString(flow_uuid));
    }
    char *text = json_text(json);
    cJSON_Delete(json);
    property_knock(rng, 10, text);
    return text;
}

static int mad_status(struct rng *rng)
{
    static const int odd[] = {0,   100, 200, 202, 204, 302, 400, 401, 403, 404, 405,
                              409, 410, 413, 422, 423, 429, 500, 503, 599, 999};
    return property_chance(rng, 80) ? 200 : odd[rng_below(rng, ARRAY_LEN(odd))];
}

struct mad_source {
    struct rng *rng;
    const struct world *world;
    char *body;
};

static void answer_madly(void *ctx, const struct driver_action *a, struct exchange_response *r)
{
    static const char *const types[] = {"", "application/json", "application/json", "text/html"};
    struct mad_source *s = ctx;
    struct rng *rng = s->rng;
    free(s->body);
    s->body = strstr(a->request.url, "/version") && property_chance(rng, 90)
                  ? str_dup("{\"version\":\"1.13.0\"}")
                  : mad_body(rng, &a->request, s->world->flow_uuid);
    *r = (struct exchange_response){.status = mad_status(rng),
                                    .body = s->body,
                                    .body_len = strlen(s->body),
                                    .truncated = property_chance(rng, 2),
                                    .retry_after_ms = property_chance(rng, 20) ? 5 : -1};
    r->sent = r->status != 0 || property_chance(rng, 50);
    str_copy(r->content_type, sizeof(r->content_type), PROPERTY_DRAW(rng, types));
}

static void mad_run(uint64_t seed)
{
    static struct langflow_mad m; /* large */
    struct world *w = &m.world;
    struct rng rng;
    memset(&m, 0, sizeof(m));
    w->seed = seed;
    rng_seed(&rng, seed);
    world_aim(w);
    w->target.external_id = property_chance(&rng, 50) ? ids[rng_below(&rng, 2)] : NULL;
    w->target.secret = property_chance(&rng, 50) ? "sk-1234567890" : NULL;
    w->target.deleting = property_chance(&rng, 10) ? ids[0] : NULL;
    w->target.uncertain = property_chance(&rng, 50);
    w->target.observe = property_chance(&rng, 10);
    w->target.password = "Pass-word-of-a-run";
    w->target.template = property_chance(&rng, 50) ? "{\"name\":\"Agent\",\"data\":{}}" : NULL;
    w->target.template_len = w->target.template ? strlen(w->target.template) : 0;
    cJSON *changed = cJSON_Parse("[\"tone\",\"dropped\"]");
    w->target.changed = property_chance(&rng, 50) ? changed : NULL;
    struct mad_source source = {.rng = &rng, .world = w};
    const struct mad_answers answers = {&source, answer_madly};
    langflow_mad_run(&m, (enum driver_goal)rng_below(&rng, 3), &answers);
    free(source.body);
    driver_site_unref(w->site);
    cJSON_Delete(w->variables);
    cJSON_Delete(changed);
}

static void no_answer_leads_astray(void **state)
{
    (void)state;
    property_runs(MAD_RUNS, mad_run);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_history_ends_well),
        cmocka_unit_test(no_answer_leads_astray),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
