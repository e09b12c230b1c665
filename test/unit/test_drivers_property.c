#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "facade_mad.h"

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
    return property_chance(&w->rng, percent);
}

static const struct driver_class *class_of(const struct world *w)
{
    return facade_class(w->sim.collections);
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
    w->target = facade_target(&w->variables);
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
        f.status =
            chance(w, 50) ? PROPERTY_DRAW(&w->rng, refusals) : PROPERTY_DRAW(&w->rng, breakdowns);
        f.retry_after_ms = chance(w, 50) ? 1000 : 0;
        break;
    case FAULT_STATUS_AFTER:
        f.status = PROPERTY_DRAW(&w->rng, breakdowns);
        f.retry_after_ms = chance(w, 50) ? 1000 : 0;
        break;
    case FAULT_BODY:
        f.body = PROPERTY_DRAW(&w->rng, bodies);
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

static void every_history_ends_well(void **state)
{
    (void)state;
    property_runs(HISTORIES, history);
}

/* ---- a server gone mad ---- */

static const char *draw_text(struct rng *rng)
{
    static const char *const texts[] = {"id-1",     "id-2",     "id-3",   "",       "..",
                                        SIM_NAME,   SIM_NAME,   "x",      "active", "closed",
                                        SIM_MARKER, SIM_MARKER, SIM_OTHER};
    return PROPERTY_DRAW(rng, texts);
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
        const char *name = PROPERTY_DRAW(rng, names);
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
    property_knock(rng, 16, text);
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
        return PROPERTY_DRAW(rng, odd);
    }
    return method == METHOD_POST ? 201 : method == METHOD_DELETE ? 204 : 200;
}

struct mad_source {
    struct rng rng;
    char *body;
};

static void answer_madly(void *ctx, const struct driver_action *a, struct exchange_response *r)
{
    struct mad_source *s = ctx;
    free(s->body);
    s->body = draw_body(&s->rng, strstr(a->request.url, "?name=") != NULL);
    *r = (struct exchange_response){.status = draw_status(&s->rng, a->request.method),
                                    .body = s->body,
                                    .body_len = strlen(s->body),
                                    .retry_after_ms = property_chance(&s->rng, 20) ? 5 : -1};
    r->sent = r->status != 0 || property_chance(&s->rng, 50);
    r->truncated = property_chance(&s->rng, 3);
}

static void mad_run(uint64_t seed)
{
    struct facade_mad m = {.seed = seed};
    struct mad_source source = {.body = NULL};
    const struct mad_answers answers = {&source, answer_madly};
    rng_seed(&source.rng, seed);
    m.collections = property_chance(&source.rng, 40);
    m.target = facade_target(&m.variables);
    m.target.external_id = property_chance(&source.rng, 50) ? "id-1" : NULL;
    m.target.uncertain = property_chance(&source.rng, 50);
    facade_mad_run(&m, (enum driver_goal)rng_below(&source.rng, 3), &answers);
    free(source.body);
    cJSON_Delete(m.variables);
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
