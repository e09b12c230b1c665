#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/rng.h"
#include "facade_sim.h"
#include "langflow/langflow.h"
#include "ragflow/ragflow.h"

/*
 * Random histories of one upstream object under faults and crashes, journalled as the worker does
 * it, and random answers of a server gone mad. PROPERTY_SEED repeats one run.
 */

enum { HISTORIES = 60000, MAD_RUNS = 50000, TURNS_MAX = 100 };

enum change { CHANGE_CREATE, CHANGE_UPDATE, CHANGE_DELETE, CHANGE_MAX };

struct world {
    struct sim sim;
    struct rng rng;
    uint64_t seed;
    struct driver_target target;
    cJSON *variables;
    char recorded[EXTERNAL_ID_MAX + 1];
    bool open[CHANGE_MAX]; /* the journal: let out, not settled */
    enum driver_goal goal; /* of the operation under way */
    char log[4096];        /* what happened, for the report */
    size_t log_len;
};

static void say(struct world *w, const char *word)
{
    size_t n = strlen(word);
    if (w->log_len + n + 2 < sizeof(w->log)) {
        memcpy(w->log + w->log_len, word, n);
        w->log_len += n;
        w->log[w->log_len] = '\0';
    }
}

#define BROKEN(w, why)                                                                             \
    fail_msg("%s; PROPERTY_SEED=%llu: %s", (why), (unsigned long long)(w)->seed, (w)->log)

static bool chance(struct world *w, unsigned percent)
{
    return rng_below(&w->rng, 100) < percent;
}

static const struct driver_class *class_of(const struct world *w)
{
    return w->sim.collections ? ragflow_driver("collections") : langflow_driver("workspaces");
}

static void world_begin(struct world *w, uint64_t seed)
{
    memset(w, 0, sizeof(*w));
    w->seed = seed;
    rng_seed(&w->rng, seed);
    w->sim.collections = chance(w, 40);
    w->sim.not_unique = chance(w, 40);
    w->sim.loose = chance(w, 20);
    w->sim.twice = chance(w, 20);
    w->variables = cJSON_Parse("{\"tone\":\"calm\",\"ragflow_collection_id\":\"c1\","
                               "\"ragflow_url\":\"http://r\",\"nothing\":null}");
    w->target = (struct driver_target){.url = SIM_URL,
                                       .name = SIM_NAME,
                                       .marker = SIM_MARKER,
                                       .settle_ms = 10,
                                       .flow_id = "flow",
                                       .variables = w->variables,
                                       .chunk_size = 512};
}

static void world_end(struct world *w)
{
    sim_done(&w->sim);
    cJSON_Delete(w->variables);
}

static bool any_open(const struct world *w)
{
    return w->open[CHANGE_CREATE] || w->open[CHANGE_UPDATE] || w->open[CHANGE_DELETE];
}

/* ---- faults ---- */

static struct fault draw_fault(struct world *w, bool create)
{
    static const int refusals[] = {400, 401, 403, 422, 429, 503};
    static const int breakdowns[] = {500, 502, 503, 302};
    /* None of them says something untrue: a server that lies about absence cannot be helped. */
    static const char *const bodies[] = {"", "<html>", "{}", "null", "{\"id\":\"\"}", "{\"id\":1}"};
    struct fault f = {.kind = (enum fault_kind)rng_below(&w->rng, FAULT_KIND_MAX)};
    switch (f.kind) {
    case FAULT_STATUS:
        f.status = chance(w, 50) ? refusals[rng_below(&w->rng, ARRAY_LEN(refusals))]
                                 : breakdowns[rng_below(&w->rng, ARRAY_LEN(breakdowns))];
        f.retry_after_ms = chance(w, 50) ? 1000 : 0;
        break;
    case FAULT_STATUS_AFTER:
        f.status = breakdowns[rng_below(&w->rng, ARRAY_LEN(breakdowns))];
        f.retry_after_ms = chance(w, 50) ? 1000 : 0;
        break;
    case FAULT_BODY:
        f.body = bodies[rng_below(&w->rng, ARRAY_LEN(bodies))];
        break;
    case FAULT_LATE:
    case FAULT_HIDDEN:
    case FAULT_HIDDEN_LOST:
        f.kind = create ? f.kind : FAULT_LOST_AFTER;
        break;
    case FAULT_NONE:
    case FAULT_NOT_SENT:
    case FAULT_LOST_BEFORE:
    case FAULT_LOST_AFTER:
    case FAULT_CUT:
    case FAULT_CLAIMED:
    case FAULT_KIND_MAX:
        break;
    }
    return f;
}

/* ---- the promise ---- */

static size_t count_foreign(const struct sim *s)
{
    size_t n = 0;
    for (size_t i = 0; i < s->n; i++) {
        n += s->objects[i].foreign;
    }
    return n;
}

static void check_strangers(struct world *w, size_t planted)
{
    if (w->sim.touched_foreign > 0 || count_foreign(&w->sim) != planted) {
        BROKEN(w, "a stranger's object was touched");
    }
}

static struct sim_object *only_ours(struct world *w)
{
    struct sim_object *found = NULL;
    for (size_t i = 0; i < w->sim.n; i++) {
        if (sim_ours(&w->sim, &w->sim.objects[i])) {
            found = &w->sim.objects[i];
        }
    }
    return found;
}

/* What DONE claims must be so, also after everything that was under way has landed. */
static void check_done(struct world *w, enum driver_goal goal, const char *id)
{
    sim_wait(&w->sim);
    size_t n = sim_count_ours(&w->sim);
    if (n > 1) {
        BROKEN(w, "two objects of ours");
    }
    if ((goal == DRIVER_PRESENT && n == 0) || (goal == DRIVER_ABSENT && n == 1)) {
        BROKEN(w, goal == DRIVER_PRESENT ? "done, and not there" : "done, and still there");
    }
    struct sim_object *o = only_ours(w);
    if (!str_eq(o ? json_str(o->json, "id") : "", id)) {
        BROKEN(w, "done with another id");
    }
    if (!o || w->sim.collections) {
        return;
    }
    bool closed = goal == DRIVER_CLOSED;
    if (!str_eq(sim_get(o, "waldur_status"), closed ? "closed" : "active") ||
        !str_eq(sim_get(o, "ragflow_collection_id"), closed ? "" : "c1")) {
        BROKEN(w, "done, and neither open nor closed");
    }
}

/* ---- one operation, as the worker runs it ---- */

static enum change change_of(const char *effect)
{
    return strstr(effect, ".create")   ? CHANGE_CREATE
           : strstr(effect, ".update") ? CHANGE_UPDATE
                                       : CHANGE_DELETE;
}

static void settle(struct world *w, const struct driver_action *a,
                   const struct driver_outcome *outcome)
{
    static const char *const words[] = {"0", "d", "u", "r", "n"};
    if (!a->effect) {
        return;
    }
    say(w, words[outcome->effect]);
    /* The worker does not wait for the settlement: it may be lost with the process. */
    if (outcome->effect != EFFECT_UNKNOWN && !(outcome->effect == EFFECT_DONE && chance(w, 10))) {
        w->open[change_of(a->effect)] = false;
    }
}

/* False when the process died meanwhile. */
static bool ask(struct world *w, struct driver_op *op, struct driver_action *a, unsigned trouble)
{
    struct sim_reply reply;
    struct driver_outcome outcome;
    bool create = a->request.method == METHOD_POST;
    struct fault fault = {.kind = FAULT_NONE};

    if (a->effect) {
        if (change_of(a->effect) == CHANGE_DELETE && w->goal != DRIVER_ABSENT &&
            sim_count_ours(&w->sim) < 2) {
            BROKEN(w, "the only one is deleted, and wanted");
        }
        w->open[change_of(a->effect)] = true;
        if (chance(w, trouble / 4)) {
            return false; /* intended, never sent */
        }
    }
    if (chance(w, trouble)) {
        fault = draw_fault(w, create);
    }
    say(w, exchange_method_name(a->request.method));
    char word[24];
    snprintf(word, sizeof(word), fault.kind ? "(%d/%d)" : "", (int)fault.kind, fault.status);
    say(w, word);
    struct exchange_response response = sim_exchange(&w->sim, &a->request, &fault, &reply);
    bool alive = !chance(w, trouble / 4);
    if (alive) {
        class_of(w)->feed(op, &response, &outcome);
        settle(w, a, &outcome);
    }
    say(w, " ");
    sim_reply_done(&reply);
    return alive;
}

/* Drives until done, failed or dead; true when done. */
static bool operate(struct world *w, enum driver_goal goal, unsigned trouble, struct err *err)
{
    static const char *const goals[] = {"\n present: ", "\n closed: ", "\n absent: "};
    struct driver_action a = {.turn = TURN_REQUEST};
    bool done = false;
    char recorded[EXTERNAL_ID_MAX + 1];
    str_copy(recorded, sizeof(recorded), w->recorded);
    w->target.external_id = recorded[0] ? recorded : NULL;
    w->target.uncertain = any_open(w);
    w->goal = goal;
    say(w, goals[goal]);
    say(w, w->target.uncertain ? "? " : "");
    err_clear(err);
    struct driver_op *op = class_of(w)->start(goal, &w->target, err);
    bool alive = op != NULL;
    for (int turns = 0; alive; turns++) {
        if (turns > TURNS_MAX) {
            BROKEN(w, "endless");
        }
        class_of(w)->next(op, &a);
        if (a.turn == TURN_REQUEST) {
            alive = ask(w, op, &a, trouble);
            exchange_request_done(&a.request);
        } else if (a.turn == TURN_WAIT) {
            say(w, "wait ");
            sim_wait(&w->sim);
            alive = !chance(w, trouble / 4);
        } else {
            break;
        }
    }
    if (alive && a.turn == TURN_DONE) {
        say(w, "done ");
        check_done(w, goal, a.external_id);
        done = !chance(w, trouble / 2); /* else it died before it could record that */
        if (done) {
            str_copy(w->recorded, sizeof(w->recorded), a.external_id);
            memset(w->open, 0, sizeof(w->open));
        }
    } else if (alive) {
        *err = a.err;
        say(w, err_class_name(a.err.class));
    }
    class_of(w)->free(op);
    return done;
}

/* ---- histories ---- */

/* People and other programs at the same server; returns how many strangers came. */
static size_t meddle(struct world *w)
{
    size_t came = 0;
    if (chance(w, 15) && w->sim.n < SIM_OBJECTS_MAX / 2) {
        bool same_name = chance(w, 30) && (w->sim.not_unique || !sim_by_name(&w->sim, SIM_NAME));
        sim_plant(&w->sim, NULL, same_name ? SIM_NAME : SIM_NAME "-neighbour",
                  chance(w, 50) ? SIM_OTHER : NULL);
        say(w, "\n (a stranger) ");
        came = 1;
    }
    struct sim_object *ours = only_ours(w);
    if (ours && !ours->hidden && !w->sim.collections && chance(w, 10)) {
        sim_set(ours, chance(w, 50) ? "ragflow_collection_id" : "tone", "edited");
        say(w, "\n (an edit) ");
    }
    if (ours && !ours->hidden && chance(w, 3)) {
        sim_disown(&w->sim, ours);
        say(w, "\n (another's now) ");
        return came + 1;
    }
    if (ours && !ours->hidden && chance(w, 5)) {
        sim_erase(&w->sim, ours);
        say(w, "\n (removed by hand) ");
    }
    return came;
}

static void final_run(struct world *w, enum driver_goal goal)
{
    struct err err;
    if (operate(w, goal, 0, &err)) {
        return;
    }
    bool taken = false;
    for (size_t i = 0; i < w->sim.n; i++) {
        taken = taken || (w->sim.objects[i].foreign &&
                          str_eq(json_str(w->sim.objects[i].json, "name"), SIM_NAME));
    }
    if (goal != DRIVER_PRESENT || err.class != ERR_CONFLICT || !taken ||
        sim_count_ours(&w->sim) > 0) {
        BROKEN(w, "the undisturbed run did not reach its goal");
    }
}

static void history(uint64_t seed)
{
    struct world w;
    size_t strangers = 0;
    enum driver_goal goal = DRIVER_PRESENT;
    world_begin(&w, seed);
    size_t wishes = 1 + rng_below(&w.rng, 5);
    for (size_t i = 0; i < wishes; i++) {
        goal = (enum driver_goal)rng_below(&w.rng, 3);
        for (int attempt = 0; attempt < 4; attempt++) {
            struct err err;
            strangers += meddle(&w);
            bool done = operate(&w, goal, 30, &err);
            check_strangers(&w, strangers);
            /* What has been answered shows by the time of a retry; what is open may still not. */
            if (!any_open(&w) || chance(&w, 50)) {
                sim_wait(&w.sim);
            }
            if (done || chance(&w, 20)) {
                break; /* reached, or a newer wish came */
            }
        }
    }
    final_run(&w, goal);
    check_strangers(&w, strangers);
    world_end(&w);
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

static const char *draw_text(struct rng *rng)
{
    static const char *const texts[] = {"id-1",     "id-2",     "id-3",   "",       "..",
                                        SIM_NAME,   SIM_NAME,   "x",      "active", "closed",
                                        SIM_MARKER, SIM_MARKER, SIM_OTHER};
    return texts[rng_below(rng, ARRAY_LEN(texts))];
}

static cJSON *draw_object(struct rng *rng)
{
    cJSON *o = cJSON_CreateObject();
    static const char *const names[] = {"id", "name", "description"};
    static const char *const inner[] = {"waldur_subscription", "waldur_status",
                                        "ragflow_collection_id", "tone"};
    cJSON_AddStringToObject(o, "id", rng_below(rng, 4) ? "id-1" : draw_text(rng));
    cJSON_AddStringToObject(o, "name", rng_below(rng, 4) ? SIM_NAME : draw_text(rng));
    cJSON_AddStringToObject(o, "description", draw_text(rng));
    cJSON *v = cJSON_AddObjectToObject(o, "variables");
    for (size_t i = 0; i < ARRAY_LEN(inner); i++) {
        if (rng_below(rng, 3)) {
            cJSON_AddStringToObject(v, inner[i], draw_text(rng));
        }
    }
    if (rng_below(rng, 8) == 0) {
        const char *name = names[rng_below(rng, ARRAY_LEN(names))];
        cJSON_DeleteItemFromObjectCaseSensitive(o, name);
        cJSON_AddItemToObject(o, name,
                              rng_below(rng, 2) ? cJSON_CreateNull() : cJSON_CreateArray());
    }
    if (rng_below(rng, 16) == 0) {
        cJSON_ReplaceItemInObjectCaseSensitive(o, "variables", cJSON_CreateString("none"));
    }
    return o;
}

/* Mostly what a facade could say, then bytes knocked out of place. */
static char *draw_body(struct rng *rng, bool list)
{
    cJSON *json = NULL;
    if (rng_below(rng, 10) ? list : !list) {
        json = cJSON_CreateArray();
        for (uint64_t n = rng_below(rng, 4); n > 0; n--) {
            cJSON_AddItemToArray(json, draw_object(rng));
        }
    } else {
        json = draw_object(rng);
    }
    char *text = json_text(json);
    cJSON_Delete(json);
    size_t len = strlen(text);
    for (uint64_t n = rng_below(rng, 6) ? 0 : 1 + rng_below(rng, 4); n > 0; n--) {
        text[rng_below(rng, len)] = (char)(1 + rng_below(rng, 255));
    }
    if (rng_below(rng, 20) == 0) {
        text[rng_below(rng, len)] = '\0';
    }
    return text;
}

static int draw_status(struct rng *rng, enum exchange_method method)
{
    static const int odd[] = {0,   100, 199, 200, 204, 302, 400, 401, 404, 404,
                              408, 409, 410, 422, 429, 500, 503, 599, 999};
    if (rng_below(rng, 4) == 0) {
        return odd[rng_below(rng, ARRAY_LEN(odd))];
    }
    return method == METHOD_POST ? 201 : method == METHOD_DELETE ? 204 : 200;
}

enum { SHOWN_MAX = 4 * DRIVER_ROUNDS_MAX };

/* Ids that answers to looks showed to be ours. */
struct shown {
    char ids[SHOWN_MAX][EXTERNAL_ID_MAX + 1];
    size_t n;
};

static void remember(struct shown *shown, const struct sim *sim, const cJSON *object)
{
    const char *id = json_str(object, "id");
    if (id && str_eq(sim_marker_of(sim, object), SIM_MARKER) && shown->n < SHOWN_MAX) {
        str_copy(shown->ids[shown->n++], sizeof(shown->ids[0]), id);
    }
}

static void remember_all(struct shown *shown, const struct sim *sim, const char *body)
{
    static const struct json_limits limits = {.size = 1 << 20, .depth = 64, .string = 1 << 20};
    struct json_fault fault;
    cJSON *json = NULL;
    if (json_parse(body, strlen(body), &limits, &json, &fault)) {
        return;
    }
    const cJSON *item = NULL;
    cJSON_ArrayForEach(item, json)
    {
        if (cJSON_IsArray(json)) {
            remember(shown, sim, item);
        }
    }
    remember(shown, sim, json);
    cJSON_Delete(json);
}

static void check_aim(struct world *w, const struct exchange_request *r, const struct shown *shown)
{
    char id[SIM_ID_MAX], name[SIM_ID_MAX];
    if (!sim_route(&w->sim, r->url, id, name)) {
        BROKEN(w, "a request to nowhere");
    }
    if (r->method == METHOD_GET || r->method == METHOD_POST) {
        return;
    }
    bool known = false;
    for (size_t i = 0; i < shown->n; i++) {
        known = known || str_eq(shown->ids[i], id);
    }
    if (!known || strspn(id, ".") == strlen(id)) {
        BROKEN(w, "a change aimed at what was not shown to be ours");
    }
}

static void answer_madly(struct world *w, struct driver_op *op, const struct driver_action *a,
                         struct shown *shown)
{
    struct driver_outcome outcome;
    bool list = strstr(a->request.url, "?name=") != NULL;
    char *body = draw_body(&w->rng, list);
    struct exchange_response r = {.status = draw_status(&w->rng, a->request.method),
                                  .body = body,
                                  .body_len = strlen(body),
                                  .retry_after_ms = chance(w, 20) ? 5 : -1};
    r.sent = r.status != 0 || chance(w, 50);
    r.truncated = chance(w, 3);
    if (a->request.method == METHOD_GET && r.status >= 200 && r.status <= 299 && !r.truncated) {
        remember_all(shown, &w->sim, body);
    }
    say(w, exchange_method_name(a->request.method));
    say(w, " ");
    class_of(w)->feed(op, &r, &outcome);
    if ((outcome.effect != EFFECT_NONE) != (a->effect != NULL)) {
        BROKEN(w, "an effect without a change, or a change without an effect");
    }
    free(body);
}

static void mad_run(uint64_t seed)
{
    struct world w;
    struct shown shown = {.n = 0};
    struct driver_action a;
    struct err err;
    int requests = 0, waits = 0;
    world_begin(&w, seed);
    w.target.external_id = chance(&w, 50) ? "id-1" : NULL;
    w.target.uncertain = chance(&w, 50);
    struct driver_op *op =
        class_of(&w)->start((enum driver_goal)rng_below(&w.rng, 3), &w.target, &err);
    for (class_of(&w)->next(op, &a); a.turn == TURN_REQUEST || a.turn == TURN_WAIT;
         class_of(&w)->next(op, &a)) {
        if (a.turn == TURN_WAIT) {
            waits++;
            continue;
        }
        requests++;
        check_aim(&w, &a.request, &shown);
        answer_madly(&w, op, &a, &shown);
        exchange_request_done(&a.request);
        if (requests > DRIVER_ROUNDS_MAX || waits > DRIVER_ROUNDS_MAX) {
            BROKEN(&w, "unbounded");
        }
    }
    if (a.turn == TURN_FAILED && (a.err.class == ERR_NONE || a.err.msg[0] == '\0')) {
        BROKEN(&w, "failed without a reason");
    }
    class_of(&w)->free(op);
    world_end(&w);
}

static void no_answer_leads_astray(void **state)
{
    size_t runs = MAD_RUNS;
    uint64_t seed = first_seed(&runs);
    (void)state;
    for (size_t i = 0; i < runs; i++) {
        mad_run(seed + i);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_history_ends_well),
        cmocka_unit_test(no_answer_leads_astray),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
