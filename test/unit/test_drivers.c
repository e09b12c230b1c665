#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "facade_sim.h"
#include "langflow/langflow.h"
#include "ragflow/ragflow.h"

enum { TIMEOUT_MS = 4321, SETTLE_MS = 777, FAULTS_MAX = 4, REQUESTS_MAX = 100 };

/* ---- one operation against the simulated server ---- */

struct planned {
    int at; /* the request it hits, from 1; 0: unused; -'P': every create, and so on */
    struct fault fault;
};

struct run {
    char trace[REQUESTS_MAX * 3]; /* see step_letter and effect_letter */
    size_t len;
    int requests;
    char external_id[EXTERNAL_ID_MAX + 1];
    struct err err;          /* of the operation */
    enum driver_sight sight; /* of an observation */
    bool met;
    struct err seen;                /* of the last bad answer */
    char made[EXTERNAL_ID_MAX + 1]; /* the last id that an outcome named */
};

struct scene {
    struct sim sim;
    struct driver_target target;
    cJSON *variables;
    struct run run;
};

static const struct driver_class *class_of(const struct scene *s)
{
    return s->sim.collections ? ragflow_driver("collections") : langflow_driver("workspaces");
}

static void scene_begin(struct scene *s, bool collections)
{
    memset(s, 0, sizeof(*s));
    s->sim.collections = collections;
    s->variables = cJSON_Parse("{\"tone\":\"calm\",\"size\":3,\"nothing\":null,"
                               "\"ragflow_collection_id\":\"c1\",\"ragflow_url\":\"http://r\"}");
    s->target = (struct driver_target){
        .url = SIM_URL,
        .credential = "s3cret",
        .timeout_ms = TIMEOUT_MS,
        .name = SIM_NAME,
        .marker = SIM_MARKER,
        .settle_ms = SETTLE_MS,
        .flow_id = "flow-1",
        .variables = s->variables,
        .embedding_model = "model@Vendor",
        .chunk_size = 256,
        .chunk_overlap = 16,
    };
}

static void scene_end(struct scene *s)
{
    assert_int_equal(s->sim.touched_foreign, 0);
    sim_done(&s->sim);
    cJSON_Delete(s->variables);
}

static void note(struct run *r, char letter)
{
    if (r->len + 1 >= sizeof(r->trace)) {
        fail_msg("endless: %s", r->trace);
    }
    r->trace[r->len++] = letter;
    r->trace[r->len] = '\0';
}

/* N: look by name, I: by id; P, U, D: create, update, delete. */
static char step_letter(const struct exchange_request *r)
{
    switch (r->method) {
    case METHOD_POST:
        return 'P';
    case METHOD_PATCH:
        return 'U';
    case METHOD_DELETE:
        return 'D';
    case METHOD_GET:
    case METHOD_PUT:
        break;
    }
    return strstr(r->url, "?name=") ? 'N' : 'I';
}

static char effect_letter(enum driver_effect effect)
{
    static const char letters[] = {[EFFECT_NONE] = '0',
                                   [EFFECT_DONE] = 'd',
                                   [EFFECT_UNKNOWN] = 'u',
                                   [EFFECT_REFUSED] = 'r',
                                   [EFFECT_NOT_SENT] = 'n'};
    return letters[effect];
}

/* What holds of every request, whatever it is for. */
static void check_request(const struct scene *s, const struct driver_action *a)
{
    const struct exchange_request *r = &a->request;
    char letter = step_letter(r);
    bool with_body = letter == 'P' || letter == 'U';
    const char *noun = s->sim.collections ? "collection" : "workspace";
    char effect[64];
    snprintf(effect, sizeof(effect), "%s.%s", noun,
             letter == 'P'   ? "create"
             : letter == 'U' ? "update"
                             : "delete");
    assert_string_equal(r->auth_header, "Authorization");
    assert_string_equal(r->auth_scheme, "Bearer ");
    assert_string_equal(r->credential, "s3cret");
    assert_null(strstr(r->url, "s3cret"));
    assert_int_equal(r->timeout_ms, TIMEOUT_MS);
    assert_int_equal(r->fresh_connection, letter == 'P');
    assert_int_equal(r->body.len > 0, with_body);
    if (with_body) {
        assert_string_equal(r->content_type, "application/json");
    } else {
        assert_null(r->content_type);
    }
    if (r->method == METHOD_GET) {
        assert_null(a->effect);
    } else {
        assert_string_equal(a->effect, effect);
    }
}

static const struct fault *fault_at(const struct planned *faults, int request, char letter)
{
    static const struct fault none = {FAULT_NONE, 0, 0, NULL};
    for (int i = 0; faults && i < FAULTS_MAX; i++) {
        if (faults[i].at == request || faults[i].at == -letter) {
            return &faults[i].fault;
        }
    }
    return &none;
}

static void exchange(struct scene *s, struct driver_op *op, struct driver_action *a,
                     const struct planned *faults)
{
    struct run *run = &s->run;
    struct sim_reply reply;
    struct driver_outcome outcome;

    check_request(s, a);
    note(run, step_letter(&a->request));
    const struct fault *fault = fault_at(faults, ++run->requests, step_letter(&a->request));
    struct exchange_response response = sim_exchange(&s->sim, &a->request, fault, &reply);
    class_of(s)->feed(op, &response, &outcome);
    if (a->effect) {
        note(run, effect_letter(outcome.effect));
        assert_int_not_equal(outcome.effect, EFFECT_NONE);
    } else {
        assert_int_equal(outcome.effect, EFFECT_NONE);
    }
    if (outcome.external_id[0]) {
        assert_int_equal(outcome.effect, EFFECT_DONE);
        str_copy(run->made, sizeof(run->made), outcome.external_id);
    }
    if (outcome.err.class != ERR_NONE) {
        run->seen = outcome.err;
    }
    sim_reply_done(&reply);
    exchange_request_done(&a->request);
}

/* Ends the trace with '.' for done, '!' for failed; W is a wait. */
static void play(struct scene *s, enum driver_goal goal, const struct planned *faults)
{
    struct err err;
    struct driver_action a;
    const struct driver_class *class = class_of(s);
    struct driver_op *op = class->start(goal, &s->target, &err);
    assert_non_null(op);
    memset(&s->run, 0, sizeof(s->run));
    for (;;) {
        class->next(op, &a);
        if (a.turn == TURN_REQUEST) {
            exchange(s, op, &a, faults);
        } else if (a.turn == TURN_WAIT) {
            assert_int_equal(a.wait_ms, SETTLE_MS);
            note(&s->run, 'W');
            sim_wait(&s->sim);
        } else {
            break;
        }
    }
    note(&s->run, a.turn == TURN_DONE ? '.' : '!');
    assert_null(a.effect);
    assert_int_equal(a.err.class != ERR_NONE, a.turn == TURN_FAILED);
    assert_true(s->run.requests <= DRIVER_ROUNDS_MAX);
    s->run.err = a.err;
    s->run.sight = a.sight;
    s->run.met = a.met;
    str_copy(s->run.external_id, sizeof(s->run.external_id), a.external_id);
    /* The end is the end, however often it is asked for. */
    enum driver_turn end = a.turn;
    class->next(op, &a);
    assert_int_equal(a.turn, end);
    class->free(op);
}

/* ---- the tables ---- */

enum {
    HAS_OURS = 1,    /* "id-ours", whole and open */
    HAS_FOREIGN = 2, /* "id-foreign" under our name */
    HAS_CLOSED = 4,  /* "id-ours", closed */
    HAS_SECOND = 8,  /* "id-second", ours under the same name */
    HAS_OTHERS = 16, /* strangers under other names, prefixes of ours among them */
    SERVER_LOOSE = 32,
    SERVER_TWICE = 64,
    SERVER_RENAMES = 128,
    SERVER_FORGETS = 256,
    SERVER_DEAF = 512,
    RENAMED_OURS = 1024, /* "id-ours" under a name that people gave it */
    COLLECTIONS = 2048,  /* else workspaces */
    BOTH = 4096,
    UNCERTAIN = 8192,
    FOREIGN_ID = 16384, /* "id-foreign" under another name */
    UPDATING = 32768,
    DELETING = 65536, /* "id-ours" */
};

struct row {
    const char *what;
    enum driver_goal goal;
    unsigned flags;
    const char *recorded;
    const char *trace;
    enum err_class class; /* of the operation */
    size_t ours;          /* afterwards */
    struct planned faults[FAULTS_MAX];
};

static void plant_ours(struct sim *s, const char *id, const char *name, bool closed)
{
    struct sim_object *o = sim_plant(s, id, name, SIM_MARKER);
    if (!s->collections) {
        sim_set(o, "waldur_status", closed ? "closed" : "active");
        sim_set(o, "ragflow_collection_id", closed ? "" : "c1");
        sim_set(o, "ragflow_url", closed ? "" : "http://r");
        sim_set(o, "tone", "edited");
        cJSON_AddNumberToObject(cJSON_GetObjectItem(o->json, "variables"), "size", 3);
    }
}

static void furnish(struct sim *s, unsigned flags)
{
    s->loose = flags & SERVER_LOOSE;
    s->twice = flags & SERVER_TWICE;
    s->renames = flags & SERVER_RENAMES;
    s->forgetful = flags & SERVER_FORGETS;
    s->deaf = flags & SERVER_DEAF;
    if (flags & HAS_OTHERS) {
        sim_plant(s, "id-x1", SIM_NAME "-2", SIM_OTHER);
        sim_plant(s, "id-x2", "acme-corp", NULL);
        sim_plant(s, "id-x3", "ACME-corp-website-support-csa-001", NULL);
    }
    if (flags & HAS_FOREIGN) {
        sim_plant(s, "id-foreign", SIM_NAME, SIM_OTHER);
    }
    if (flags & FOREIGN_ID) {
        sim_plant(s, "id-foreign", "elsewhere", SIM_OTHER);
    }
    if (flags & (HAS_OURS | HAS_CLOSED)) {
        plant_ours(s, "id-ours", SIM_NAME, flags & HAS_CLOSED);
    }
    if (flags & HAS_SECOND) {
        plant_ours(s, "id-second", SIM_NAME, false);
    }
    if (flags & RENAMED_OURS) {
        plant_ours(s, "id-ours", "my pet agent", false);
    }
}

static void check_row(const struct row *row, bool collections)
{
    struct scene s;
    scene_begin(&s, collections);
    furnish(&s.sim, row->flags);
    s.target.external_id = row->recorded;
    s.target.uncertain = row->flags & UNCERTAIN;
    s.target.updating = row->flags & UPDATING;
    s.target.deleting = row->flags & DELETING ? "id-ours" : NULL;
    play(&s, row->goal, row->faults);
    if (!str_eq(s.run.trace, row->trace) || s.run.err.class != row->class ||
        sim_count_ours(&s.sim) != row->ours) {
        fail_msg("%s (%s): %s, %s, %zu of ours; wanted %s, %s, %zu (%s)", row->what,
                 collections ? "collections" : "workspaces", s.run.trace,
                 err_class_name(s.run.err.class), sim_count_ours(&s.sim), row->trace,
                 err_class_name(row->class), row->ours, s.run.err.msg);
    }
    if (row->class == ERR_NONE && row->goal == DRIVER_PRESENT) {
        assert_non_null(sim_by_id(&s.sim, s.run.external_id));
    }
    if (row->class == ERR_NONE && row->goal == DRIVER_ABSENT) {
        assert_string_equal(s.run.external_id, "");
    }
    scene_end(&s);
}

static void check_rows(const struct row *rows, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (!(rows[i].flags & COLLECTIONS)) {
            check_row(&rows[i], false);
        }
        if (rows[i].flags & (COLLECTIONS | BOTH)) {
            check_row(&rows[i], true);
        }
    }
}

#define LOST_BEFORE                                                                                \
    {                                                                                              \
        FAULT_LOST_BEFORE, 0, 0, NULL                                                              \
    }
#define LOST_AFTER                                                                                 \
    {                                                                                              \
        FAULT_LOST_AFTER, 0, 0, NULL                                                               \
    }
#define LATE                                                                                       \
    {                                                                                              \
        FAULT_LATE, 0, 0, NULL                                                                     \
    }
#define HIDDEN                                                                                     \
    {                                                                                              \
        FAULT_HIDDEN, 0, 0, NULL                                                                   \
    }
#define NOT_SENT                                                                                   \
    {                                                                                              \
        FAULT_NOT_SENT, 0, 0, NULL                                                                 \
    }
#define CLAIMED                                                                                    \
    {                                                                                              \
        FAULT_CLAIMED, 0, 0, NULL                                                                  \
    }
#define CUT                                                                                        \
    {                                                                                              \
        FAULT_CUT, 0, 0, NULL                                                                      \
    }
#define STATUS(n)                                                                                  \
    {                                                                                              \
        FAULT_STATUS, (n), 0, NULL                                                                 \
    }
#define AFTER(n)                                                                                   \
    {                                                                                              \
        FAULT_STATUS_AFTER, (n), 0, NULL                                                           \
    }
#define BODY(text)                                                                                 \
    {                                                                                              \
        FAULT_BODY, 0, 0, (text)                                                                   \
    }
#define ANSWERS(n, t)                                                                              \
    {                                                                                              \
        FAULT_STATUS, (n), 0, (t)                                                                  \
    }

static const struct row goals_without_faults_rows[] = {
    {"creates", DRIVER_PRESENT, BOTH, NULL, "NPdI.", ERR_NONE, 1, {{0}}},
    {"creates anew what is gone", DRIVER_PRESENT, BOTH, "id-old", "INPdI.", ERR_NONE, 1, {{0}}},
    {"adopts ours by name", DRIVER_PRESENT, BOTH | HAS_OURS, NULL, "N.", ERR_NONE, 1, {{0}}},
    {"knows ours by id", DRIVER_PRESENT, BOTH | HAS_OURS, "id-ours", "I.", ERR_NONE, 1, {{0}}},
    {"a stale id", DRIVER_PRESENT, BOTH | HAS_OURS, "id-old", "IN.", ERR_NONE, 1, {{0}}},
    {"an empty id", DRIVER_PRESENT, BOTH | HAS_OURS, "", "N.", ERR_NONE, 1, {{0}}},
    {"renamed by people", DRIVER_PRESENT, BOTH | RENAMED_OURS, "id-ours", "I.", ERR_NONE, 1, {{0}}},
    {"a stranger has the name",
     DRIVER_PRESENT,
     BOTH | HAS_FOREIGN,
     NULL,
     "N!",
     ERR_CONFLICT,
     0,
     {{0}}},
    {"a stranger has the id",
     DRIVER_PRESENT,
     BOTH | FOREIGN_ID,
     "id-foreign",
     "INPdI.",
     ERR_NONE,
     1,
     {{0}}},
    {"a stranger has the id and the name",
     DRIVER_PRESENT,
     BOTH | HAS_FOREIGN,
     "id-foreign",
     "IN!",
     ERR_CONFLICT,
     0,
     {{0}}},
    {"ours beside a stranger",
     DRIVER_PRESENT,
     BOTH | HAS_FOREIGN | HAS_OURS,
     NULL,
     "N.",
     ERR_NONE,
     1,
     {{0}}},
    {"one too many",
     DRIVER_PRESENT,
     BOTH | HAS_OURS | HAS_SECOND,
     NULL,
     "NDdIN.",
     ERR_NONE,
     1,
     {{0}}},
    {"reopens", DRIVER_PRESENT, HAS_CLOSED, "id-ours", "IUdI.", ERR_NONE, 1, {{0}}},
    {"closes", DRIVER_CLOSED, HAS_OURS, "id-ours", "IUdI.", ERR_NONE, 1, {{0}}},
    {"closes by name", DRIVER_CLOSED, HAS_OURS, NULL, "NUdI.", ERR_NONE, 1, {{0}}},
    {"is closed already", DRIVER_CLOSED, HAS_CLOSED, "id-ours", "I.", ERR_NONE, 1, {{0}}},
    {"nothing to close", DRIVER_CLOSED, BOTH, "id-old", "IN.", ERR_NONE, 0, {{0}}},
    {"closes no stranger",
     DRIVER_CLOSED,
     BOTH | HAS_FOREIGN,
     "id-foreign",
     "IN.",
     ERR_NONE,
     0,
     {{0}}},
    {"deletes", DRIVER_ABSENT, BOTH | HAS_OURS, "id-ours", "IDdIN.", ERR_NONE, 0, {{0}}},
    {"deletes by name", DRIVER_ABSENT, BOTH | HAS_OURS, NULL, "NDdIN.", ERR_NONE, 0, {{0}}},
    {"deletes what people renamed",
     DRIVER_ABSENT,
     BOTH | RENAMED_OURS,
     "id-ours",
     "IDdIN.",
     ERR_NONE,
     0,
     {{0}}},
    {"deletes all of ours",
     DRIVER_ABSENT,
     BOTH | HAS_OURS | HAS_SECOND,
     "id-ours",
     "IDdINDdIN.",
     ERR_NONE,
     0,
     {{0}}},
    {"nothing to delete", DRIVER_ABSENT, BOTH, "id-old", "IN.", ERR_NONE, 0, {{0}}},
    {"nothing was ever there", DRIVER_ABSENT, BOTH, NULL, "N.", ERR_NONE, 0, {{0}}},
    {"deletes no stranger", DRIVER_ABSENT, BOTH | HAS_FOREIGN, NULL, "N.", ERR_NONE, 0, {{0}}},
    {"deletes no stranger by id",
     DRIVER_ABSENT,
     BOTH | HAS_FOREIGN,
     "id-foreign",
     "IN.",
     ERR_NONE,
     0,
     {{0}}},
};

static void goals_without_faults(void **state)
{
    (void)state;
    check_rows(goals_without_faults_rows, ARRAY_LEN(goals_without_faults_rows));
}

static const struct row odd_servers_rows[] = {
    {"a loose filter, nothing there",
     DRIVER_PRESENT,
     BOTH | HAS_OTHERS | SERVER_LOOSE,
     NULL,
     "NPdI.",
     ERR_NONE,
     1,
     {{0}}},
    {"a loose filter, ours there",
     DRIVER_PRESENT,
     BOTH | HAS_OTHERS | SERVER_LOOSE | HAS_OURS,
     NULL,
     "N.",
     ERR_NONE,
     1,
     {{0}}},
    {"a loose filter, absent",
     DRIVER_ABSENT,
     BOTH | HAS_OTHERS | SERVER_LOOSE | HAS_OURS,
     NULL,
     "NDdIN.",
     ERR_NONE,
     0,
     {{0}}},
    {"lists everything twice",
     DRIVER_PRESENT,
     BOTH | HAS_OURS | SERVER_TWICE,
     NULL,
     "N.",
     ERR_NONE,
     1,
     {{0}}},
    {"lists everything twice, two of ours",
     DRIVER_PRESENT,
     BOTH | HAS_OURS | HAS_SECOND | SERVER_TWICE,
     "id-old",
     "INDdIN.",
     ERR_NONE,
     1,
     {{0}}},
    {"renames in silence",
     DRIVER_PRESENT,
     BOTH | SERVER_RENAMES,
     NULL,
     "NPdIDdINWN!",
     ERR_CONFLICT,
     0,
     {{0}}},
    {"drops the marker",
     DRIVER_PRESENT,
     BOTH | SERVER_FORGETS,
     NULL,
     "NPdINWN!",
     ERR_CONFLICT,
     0,
     {{0}}},
    {"says deleted and keeps it",
     DRIVER_ABSENT,
     BOTH | HAS_OURS | SERVER_DEAF,
     "id-ours",
     "IDdIDdIDdIDdIDdIDdIDdIDdIDdIDdIDdIDd!",
     ERR_UNKNOWN,
     1,
     {{0}}},
    {"says merged and keeps it",
     DRIVER_CLOSED,
     HAS_OURS | SERVER_DEAF,
     "id-ours",
     "IUdIUdIUdIUdIUdIUdIUdIUdIUdIUdIUdIUd!",
     ERR_UNKNOWN,
     1,
     {{0}}},
    {"taken, and nobody there",
     DRIVER_PRESENT,
     BOTH,
     NULL,
     "NPrNWNPrNWNPrNWNPrNWNPrNWNPrNWNPrNWNPrNW!",
     ERR_UNKNOWN,
     0,
     {{-'P', STATUS(409)}}},
};

static void odd_servers(void **state)
{
    (void)state;
    check_rows(odd_servers_rows, ARRAY_LEN(odd_servers_rows));
}

/* What is lost, late, cut or refused, at every place. */
static const struct row faults_on_changes_rows[] = {
    {"reply to create lost after acting",
     DRIVER_PRESENT,
     BOTH,
     NULL,
     "NPuN.",
     ERR_NONE,
     1,
     {{2, LOST_AFTER}}},
    {"create lost before acting",
     DRIVER_PRESENT,
     BOTH,
     NULL,
     "NPuNWNPdI.",
     ERR_NONE,
     1,
     {{2, LOST_BEFORE}}},
    {"create acts late", DRIVER_PRESENT, BOTH, NULL, "NPuNWN.", ERR_NONE, 1, {{2, LATE}}},
    {"created, shows late", DRIVER_PRESENT, BOTH, NULL, "NPdINWN.", ERR_NONE, 1, {{2, HIDDEN}}},
    {"an earlier create may be under way",
     DRIVER_PRESENT,
     BOTH | UNCERTAIN,
     NULL,
     "NWNPdI.",
     ERR_NONE,
     1,
     {{0}}},
    {"it was, and ours is there",
     DRIVER_PRESENT,
     BOTH | UNCERTAIN | HAS_OURS,
     NULL,
     "N.",
     ERR_NONE,
     1,
     {{0}}},
    {"an id, gone, and uncertain",
     DRIVER_PRESENT,
     BOTH | UNCERTAIN,
     "id-old",
     "INWNPdI.",
     ERR_NONE,
     1,
     {{0}}},
    {"absent must be seen twice to delete",
     DRIVER_ABSENT,
     BOTH | UNCERTAIN,
     NULL,
     "NWN.",
     ERR_NONE,
     0,
     {{0}}},
    {"a stranger, uncertain, to delete",
     DRIVER_ABSENT,
     BOTH | UNCERTAIN | HAS_FOREIGN,
     NULL,
     "NWN.",
     ERR_NONE,
     0,
     {{0}}},
    {"a stranger, uncertain",
     DRIVER_PRESENT,
     BOTH | UNCERTAIN | HAS_FOREIGN,
     NULL,
     "NWN!",
     ERR_CONFLICT,
     0,
     {{0}}},
    {"deleted, uncertain",
     DRIVER_ABSENT,
     BOTH | UNCERTAIN | HAS_OURS,
     NULL,
     "NDdINWN.",
     ERR_NONE,
     0,
     {{0}}},
    {"500 after creating", DRIVER_PRESENT, BOTH, NULL, "NPuN.", ERR_NONE, 1, {{2, AFTER(500)}}},
    {"500 before creating",
     DRIVER_PRESENT,
     BOTH,
     NULL,
     "NPuNWNPdI.",
     ERR_NONE,
     1,
     {{2, STATUS(500)}}},
    {"created, garbage told",
     DRIVER_PRESENT,
     BOTH,
     NULL,
     "NPuN.",
     ERR_NONE,
     1,
     {{2, BODY("<html>")}}},
    {"created, nothing told", DRIVER_PRESENT, BOTH, NULL, "NPuN.", ERR_NONE, 1, {{2, BODY("")}}},
    {"created, an array told",
     DRIVER_PRESENT,
     BOTH,
     NULL,
     "NPuN.",
     ERR_NONE,
     1,
     {{2, BODY("[{\"id\":\"id-1\"}]")}}},
    {"created, a number for an id",
     DRIVER_PRESENT,
     BOTH,
     NULL,
     "NPuN.",
     ERR_NONE,
     1,
     {{2, BODY("{\"id\":7}")}}},
    {"created, an id that climbs",
     DRIVER_PRESENT,
     BOTH,
     NULL,
     "NPuN.",
     ERR_NONE,
     1,
     {{2, BODY("{\"id\":\"..\"}")}}},
    {"created, no name told",
     DRIVER_PRESENT,
     BOTH,
     NULL,
     "NPdI.",
     ERR_NONE,
     1,
     {{2, BODY("{\"id\":\"id-1\"}")}}},
    {"created, a stranger's id told",
     DRIVER_PRESENT,
     BOTH | FOREIGN_ID,
     NULL,
     "NPdIN.",
     ERR_NONE,
     1,
     {{2, BODY("{\"id\":\"id-foreign\",\"name\":\"elsewhere\"}")}}},
    {"created, too much told", DRIVER_PRESENT, BOTH, NULL, "NPuN.", ERR_NONE, 1, {{2, CUT}}},
    {"409, ours after all",
     DRIVER_PRESENT,
     BOTH | HAS_OURS,
     NULL,
     "NPrN.",
     ERR_NONE,
     1,
     {{1, ANSWERS(200, "[]")}}},
    {"409, a stranger",
     DRIVER_PRESENT,
     BOTH | HAS_FOREIGN,
     NULL,
     "NPrNWN!",
     ERR_CONFLICT,
     0,
     {{1, ANSWERS(200, "[]")}}},
    {"409 once, then free",
     DRIVER_PRESENT,
     BOTH,
     NULL,
     "NPrNWNPdI.",
     ERR_NONE,
     1,
     {{2, STATUS(409)}}},
    {"create claimed", DRIVER_PRESENT, BOTH, NULL, "NPdINWNPdI.", ERR_NONE, 1, {{2, CLAIMED}}},
    {"update claimed", DRIVER_CLOSED, HAS_OURS, "id-ours", "IUdIUdI.", ERR_NONE, 1, {{2, CLAIMED}}},
    {"delete claimed",
     DRIVER_ABSENT,
     BOTH | HAS_OURS,
     "id-ours",
     "IDdIDdIN.",
     ERR_NONE,
     0,
     {{2, CLAIMED}}},
    {"update lost before acting",
     DRIVER_CLOSED,
     HAS_OURS,
     "id-ours",
     "IUuIWIUdI.",
     ERR_NONE,
     1,
     {{2, LOST_BEFORE}}},
    {"update lost after acting",
     DRIVER_CLOSED,
     HAS_OURS,
     "id-ours",
     "IUuIWI.",
     ERR_NONE,
     1,
     {{2, LOST_AFTER}}},
    {"update finds it gone",
     DRIVER_CLOSED,
     HAS_OURS,
     "id-ours",
     "IUrNUdI.",
     ERR_NONE,
     1,
     {{2, STATUS(404)}}},
    {"update refused as busy",
     DRIVER_CLOSED,
     HAS_OURS,
     "id-ours",
     "IUr!",
     ERR_UNAVAILABLE,
     1,
     {{2, STATUS(409)}}},
    {"delete lost before acting",
     DRIVER_ABSENT,
     BOTH | HAS_OURS,
     "id-ours",
     "IDuIDdINWN.",
     ERR_NONE,
     0,
     {{2, LOST_BEFORE}}},
    {"delete lost after acting",
     DRIVER_ABSENT,
     BOTH | HAS_OURS,
     "id-ours",
     "IDuINWN.",
     ERR_NONE,
     0,
     {{2, LOST_AFTER}}},
    {"delete finds it gone",
     DRIVER_ABSENT,
     BOTH | HAS_OURS,
     "id-ours",
     "IDdN.",
     ERR_NONE,
     0,
     {{2, AFTER(404)}}},
    {"delete finds it gone (410)",
     DRIVER_ABSENT,
     BOTH | HAS_OURS,
     "id-ours",
     "IDdN.",
     ERR_NONE,
     0,
     {{2, AFTER(410)}}},
    {"delete refused as busy",
     DRIVER_ABSENT,
     BOTH | HAS_OURS,
     "id-ours",
     "IDr!",
     ERR_UNAVAILABLE,
     1,
     {{2, STATUS(409)}}},
    {"deleting the surplus is lost",
     DRIVER_PRESENT,
     BOTH | HAS_OURS | HAS_SECOND,
     NULL,
     "NDuIDdIN.",
     ERR_NONE,
     1,
     {{2, LOST_BEFORE}}},
};

static void faults_on_changes(void **state)
{
    (void)state;
    check_rows(faults_on_changes_rows, ARRAY_LEN(faults_on_changes_rows));
}

#define OURS_BY_ID(id)                                                                             \
    "{\"id\":\"" id "\",\"name\":\"" SIM_NAME "\",\"description\":\"" SIM_MARKER                   \
    "\",\"variables\":{\"waldur_subscription\":\"" SIM_MARKER "\"}}"
#define OURS_WITHOUT_ID                                                                            \
    "{\"name\":\"" SIM_NAME "\",\"description\":\"" SIM_MARKER                                     \
    "\",\"variables\":{\"waldur_subscription\":\"" SIM_MARKER "\"}}"
static const struct row unusable_answers_to_looks_rows[] = {
    {"the list is an object",
     DRIVER_ABSENT,
     BOTH,
     NULL,
     "N!",
     ERR_UNKNOWN,
     0,
     {{1, ANSWERS(200, "{\"data\":[]}")}}},
    {"the list is null",
     DRIVER_PRESENT,
     BOTH,
     NULL,
     "N!",
     ERR_UNKNOWN,
     0,
     {{1, ANSWERS(200, "null")}}},
    {"the list is nothing",
     DRIVER_ABSENT,
     BOTH,
     NULL,
     "N!",
     ERR_UNKNOWN,
     0,
     {{1, ANSWERS(200, "")}}},
    {"the list is cut", DRIVER_ABSENT, BOTH, NULL, "N!", ERR_UNKNOWN, 0, {{1, CUT}}},
    {"the list has been moved",
     DRIVER_ABSENT,
     BOTH,
     NULL,
     "N!",
     ERR_UNKNOWN,
     0,
     {{1, ANSWERS(302, "")}}},
    {"no such path", DRIVER_ABSENT, BOTH, NULL, "N!", ERR_UNAVAILABLE, 0, {{1, STATUS(404)}}},
    {"strange members",
     DRIVER_PRESENT,
     BOTH,
     NULL,
     "NPdI.",
     ERR_NONE,
     1,
     {{1, ANSWERS(200, "[null,7,\"x\",[],{},{\"name\":1},{\"name\":null}]")}}},
    {"ours without an id",
     DRIVER_ABSENT,
     BOTH,
     NULL,
     "N!",
     ERR_UNKNOWN,
     0,
     {{1, ANSWERS(200, "[" OURS_WITHOUT_ID "]")}}},
    {"ours with and without an id",
     DRIVER_PRESENT,
     BOTH | HAS_OURS,
     NULL,
     "N!",
     ERR_UNKNOWN,
     1,
     {{1, ANSWERS(200, "[" OURS_BY_ID("id-ours") "," OURS_WITHOUT_ID "]")}}},
    {"ours with an empty id",
     DRIVER_ABSENT,
     BOTH,
     NULL,
     "N!",
     ERR_UNKNOWN,
     0,
     {{1, ANSWERS(200, "[" OURS_BY_ID("") "]")}}},
    {"ours with an id that climbs",
     DRIVER_ABSENT,
     BOTH,
     NULL,
     "N!",
     ERR_UNKNOWN,
     0,
     {{1, ANSWERS(200, "[" OURS_BY_ID("..") "]")}}},
    {"another object by id",
     DRIVER_ABSENT,
     BOTH | HAS_OURS,
     "id-ours",
     "I!",
     ERR_UNKNOWN,
     1,
     {{1, ANSWERS(200, OURS_BY_ID("id-other"))}}},
    {"no object by id",
     DRIVER_ABSENT,
     BOTH | HAS_OURS,
     "id-ours",
     "I!",
     ERR_UNKNOWN,
     1,
     {{1, ANSWERS(200, "[]")}}},
    {"read-back of a create fails",
     DRIVER_PRESENT,
     BOTH,
     NULL,
     "NPdI!",
     ERR_UNKNOWN,
     1,
     {{3, STATUS(500)}}},
    {"verification of a delete fails",
     DRIVER_ABSENT,
     BOTH | HAS_OURS,
     "id-ours",
     "IDdI!",
     ERR_UNKNOWN,
     0,
     {{3, STATUS(500)}}},
    {"second verification of a delete fails",
     DRIVER_ABSENT,
     BOTH | HAS_OURS,
     "id-ours",
     "IDdIN!",
     ERR_UNKNOWN,
     0,
     {{4, STATUS(500)}}},
    {"the second empty look fails",
     DRIVER_PRESENT,
     BOTH | UNCERTAIN,
     NULL,
     "NWN!",
     ERR_UNKNOWN,
     0,
     {{2, STATUS(500)}}},
};

/* An earlier job's change may land at any time. */
static void changes_that_are_still_open(void **state)
{
    enum { UPDATE = UNCERTAIN | UPDATING, DELETE = UNCERTAIN | DELETING };
    static const struct row rows[] = {
        {"an update, and it is there",
         DRIVER_PRESENT,
         UPDATE | HAS_OURS,
         "id-ours",
         "IWI.",
         ERR_NONE,
         1,
         {{0}}},
        {"found by name", DRIVER_PRESENT, UPDATE | HAS_OURS, NULL, "NWI.", ERR_NONE, 1, {{0}}},
        {"under a name of people's choice",
         DRIVER_PRESENT,
         UPDATE | RENAMED_OURS,
         "id-ours",
         "IWI.",
         ERR_NONE,
         1,
         {{0}}},
        {"to close", DRIVER_CLOSED, UPDATE | HAS_OURS, "id-ours", "IWIUdI.", ERR_NONE, 1, {{0}}},
        {"to delete", DRIVER_ABSENT, UPDATE | HAS_OURS, "id-ours", "IDdINWN.", ERR_NONE, 0, {{0}}},
        {"a delete that may land late is finished, and another made",
         DRIVER_PRESENT,
         BOTH | DELETE | HAS_OURS,
         "id-ours",
         "IDdINWNPdI.",
         ERR_NONE,
         1,
         {{0}}},
        {"the same, not recorded",
         DRIVER_PRESENT,
         BOTH | DELETE | HAS_OURS,
         NULL,
         "NDdINWNPdI.",
         ERR_NONE,
         1,
         {{0}}},
        {"it has landed", DRIVER_PRESENT, BOTH | DELETE, "id-ours", "INWNPdI.", ERR_NONE, 1, {{0}}},
        {"it is another's",
         DRIVER_PRESENT,
         BOTH | DELETE | HAS_SECOND,
         "id-second",
         "I.",
         ERR_NONE,
         1,
         {{0}}},
        {"finishing it is refused",
         DRIVER_PRESENT,
         BOTH | DELETE | HAS_OURS,
         "id-ours",
         "IDr!",
         ERR_REFUSED,
         1,
         {{2, STATUS(400)}}},
    };
    (void)state;
    check_rows(rows, ARRAY_LEN(rows));
}

static void unusable_answers_to_looks(void **state)
{
    (void)state;
    check_rows(unusable_answers_to_looks_rows, ARRAY_LEN(unusable_answers_to_looks_rows));
}

/* Every class of refusal at every place where a request stands. */
static void refusals_at_every_request(void **state)
{
    static const struct {
        struct fault fault;
        enum err_class class;
        char effect;  /* of a change that meets it */
        bool goes_on; /* after a change */
    } answers[] = {
        {STATUS(400), ERR_REFUSED, 'r', false},
        {STATUS(422), ERR_REFUSED, 'r', false},
        {STATUS(401), ERR_UNAUTHORIZED, 'r', false},
        {STATUS(403), ERR_UNAUTHORIZED, 'r', false},
        {STATUS(429), ERR_THROTTLED, 'r', false},
        {{FAULT_STATUS, 429, 5000, NULL}, ERR_THROTTLED, 'r', false},
        {{FAULT_STATUS, 503, 7000, NULL}, ERR_THROTTLED, 'u', false},
        {STATUS(503), ERR_UNKNOWN, 'u', true},
        {STATUS(500), ERR_UNKNOWN, 'u', true},
        {STATUS(408), ERR_UNKNOWN, 'u', true},
        {STATUS(302), ERR_UNKNOWN, 'u', true},
        {LOST_BEFORE, ERR_UNKNOWN, 'u', true},
        {NOT_SENT, ERR_UNAVAILABLE, 'n', false},
    };
    static const struct {
        enum driver_goal goal;
        unsigned flags;
        const char *recorded, *letters; /* of the requests, without faults */
    } ways[] = {
        {DRIVER_PRESENT, 0, NULL, "NPI"},
        {DRIVER_CLOSED, HAS_OURS, "id-ours", "IUI"},
        {DRIVER_ABSENT, HAS_OURS, "id-ours", "IDIN"},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(answers) * ARRAY_LEN(ways); i++) {
        size_t w = i % ARRAY_LEN(ways), n = i / ARRAY_LEN(ways);
        for (int at = 1; at <= (int)strlen(ways[w].letters); at++) {
            struct planned faults[FAULTS_MAX] = {{at, answers[n].fault}};
            char letter = ways[w].letters[at - 1];
            bool change = strchr("PUD", letter) != NULL;
            struct scene s;
            scene_begin(&s, false);
            furnish(&s.sim, ways[w].flags);
            s.target.external_id = ways[w].recorded;
            play(&s, ways[w].goal, faults);
            char met[3] = {letter, change ? answers[n].effect : '\0', '\0'};
            assert_non_null(strstr(s.run.trace, met));
            assert_int_equal(s.run.seen.class, answers[n].class);
            assert_int_equal(s.run.seen.http_status, answers[n].fault.status);
            if (change && answers[n].goes_on) {
                assert_int_equal(s.run.err.class, ERR_NONE);
            } else {
                assert_int_equal(s.run.requests, at);
                assert_int_equal(s.run.err.class, answers[n].class);
                assert_int_equal(s.run.err.retry_after_ms, answers[n].fault.retry_after_ms
                                                               ? answers[n].fault.retry_after_ms
                                                               : -1);
            }
            scene_end(&s);
        }
    }
}

/* ---- what requests say and what they leave ---- */

static void created_objects_are_whole(void **state)
{
    struct scene s;
    (void)state;
    scene_begin(&s, false);
    cJSON_AddStringToObject(s.variables, "waldur_subscription", SIM_OTHER); /* a forged marker */
    play(&s, DRIVER_PRESENT, NULL);
    assert_string_equal(s.run.made, s.run.external_id);
    char *text = json_text(s.sim.objects[0].json);
    assert_string_equal(text, "{\"name\":\"" SIM_NAME "\",\"flow_id\":\"flow-1\",\"variables\":{"
                              "\"tone\":\"calm\",\"size\":3,\"nothing\":null,"
                              "\"ragflow_collection_id\":\"c1\",\"ragflow_url\":\"http://r\","
                              "\"waldur_subscription\":\"" SIM_MARKER
                              "\",\"waldur_status\":\"active\"},\"id\":\"id-1\"}");
    free(text);
    scene_end(&s);

    scene_begin(&s, true);
    play(&s, DRIVER_PRESENT, NULL);
    text = json_text(s.sim.objects[0].json);
    assert_string_equal(text, "{\"name\":\"" SIM_NAME "\",\"description\":\"" SIM_MARKER
                              "\",\"embedding_model\":\"model@Vendor\",\"chunk_size\":256,"
                              "\"chunk_overlap\":16,\"id\":\"id-1\"}");
    free(text);
    scene_end(&s);

    scene_begin(&s, true);
    s.target.embedding_model = NULL; /* the server's default */
    play(&s, DRIVER_PRESENT, NULL);
    assert_null(json_get(s.sim.objects[0].json, "embedding_model"));
    scene_end(&s);
}

static void drift_is_mended_and_edits_survive(void **state)
{
    struct scene s;
    (void)state;
    scene_begin(&s, false);
    plant_ours(&s.sim, "id-ours", SIM_NAME, false);
    struct sim_object *o = sim_by_id(&s.sim, "id-ours");
    sim_set(o, "tone", "the tenant's own");
    sim_set(o, "invented", "by the tenant");
    sim_set(o, "ragflow_collection_id", "somebody else's");
    sim_set(o, "ragflow_api_key", "tenant's");
    cJSON_DeleteItemFromObject(cJSON_GetObjectItem(o->json, "variables"), "size");
    play(&s, DRIVER_PRESENT, NULL);
    assert_string_equal(s.run.trace, "NUdI.");
    assert_string_equal(sim_get(o, "tone"), "the tenant's own");
    assert_string_equal(sim_get(o, "invented"), "by the tenant");
    assert_string_equal(sim_get(o, "ragflow_collection_id"), "c1");
    assert_string_equal(sim_get(o, "ragflow_api_key"), "tenant's");
    assert_non_null(json_get(o->json, "variables.size"));

    /* Settled: nothing is asked for twice, a null that the server dropped least of all. */
    play(&s, DRIVER_PRESENT, NULL);
    assert_string_equal(s.run.trace, "N.");
    scene_end(&s);
}

static void a_workspace_without_retrieval_leads_to_no_documents(void **state)
{
    struct scene s;
    (void)state;
    scene_begin(&s, false);
    plant_ours(&s.sim, "id-ours", SIM_NAME, false);
    cJSON_DeleteItemFromObject(s.variables, "ragflow_collection_id");
    cJSON_DeleteItemFromObject(s.variables, "ragflow_url");
    cJSON_AddStringToObject(s.variables, "ragflow_top_k", "5");
    play(&s, DRIVER_PRESENT, NULL);
    assert_string_equal(s.run.trace, "NUdI.");
    struct sim_object *o = sim_by_id(&s.sim, "id-ours");
    assert_string_equal(sim_get(o, "ragflow_collection_id"), "");
    assert_string_equal(sim_get(o, "ragflow_url"), "");
    assert_string_equal(sim_get(o, "ragflow_top_k"), "5");
    scene_end(&s);
}

/* Whatever stands there, an observation only looks, and once. */
static void observations_change_nothing(void **state)
{
    static const struct {
        unsigned flags;
        const char *recorded;
        enum driver_sight sight;
        bool met[3]; /* for present, closed, absent */
        const char *trace;
    } rows[] = {
        {HAS_OTHERS, NULL, SIGHT_ABSENT, {false, true, true}, "N."},
        {HAS_OTHERS, "id-gone", SIGHT_ABSENT, {false, true, true}, "IN."},
        {HAS_OURS, NULL, SIGHT_OURS, {true, false, false}, "N."},
        {HAS_OURS, "id-ours", SIGHT_OURS, {true, false, false}, "I."},
        {RENAMED_OURS, "id-ours", SIGHT_OURS, {true, false, false}, "I."},
        {HAS_CLOSED, "id-ours", SIGHT_OURS, {false, true, false}, "I."},
        {HAS_FOREIGN, NULL, SIGHT_FOREIGN, {false, true, true}, "N."},
        {HAS_OURS | HAS_SECOND, NULL, SIGHT_OURS, {false, false, false}, "N."},
        {HAS_FOREIGN | FOREIGN_ID, "id-foreign", SIGHT_FOREIGN, {false, true, true}, "IN."},
        {HAS_OTHERS | UNCERTAIN, NULL, SIGHT_ABSENT, {false, true, true}, "N."},
    };
    static const enum driver_goal goals[] = {DRIVER_PRESENT, DRIVER_CLOSED, DRIVER_ABSENT};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows) * ARRAY_LEN(goals); i++) {
        size_t row = i / ARRAY_LEN(goals), goal = i % ARRAY_LEN(goals);
        struct scene s;
        scene_begin(&s, false);
        furnish(&s.sim, rows[row].flags);
        s.target.external_id = rows[row].recorded;
        s.target.uncertain = rows[row].flags & UNCERTAIN;
        s.target.observe = true;
        play(&s, goals[goal], NULL);
        assert_string_equal(s.run.trace, rows[row].trace);
        assert_int_equal(s.run.sight, rows[row].sight);
        assert_int_equal(s.run.met, rows[row].met[goal]);
        assert_int_equal(s.run.external_id[0] != '\0', rows[row].sight == SIGHT_OURS);
        scene_end(&s);
    }
}

static void closing_shuts_and_reopening_restores(void **state)
{
    struct scene s;
    (void)state;
    scene_begin(&s, false);
    plant_ours(&s.sim, "id-ours", SIM_NAME, false);
    struct sim_object *o = sim_by_id(&s.sim, "id-ours");
    play(&s, DRIVER_CLOSED, NULL);
    assert_string_equal(s.run.external_id, "id-ours");
    assert_string_equal(sim_get(o, "waldur_status"), "closed");
    assert_string_equal(sim_get(o, "ragflow_collection_id"), "");
    assert_string_equal(sim_get(o, "ragflow_url"), "");
    assert_string_equal(sim_get(o, "tone"), "edited"); /* what is left is left as it was */
    play(&s, DRIVER_CLOSED, NULL);
    assert_string_equal(s.run.trace, "N.");
    play(&s, DRIVER_PRESENT, NULL);
    assert_string_equal(sim_get(o, "waldur_status"), "active");
    assert_string_equal(sim_get(o, "ragflow_collection_id"), "c1");
    assert_string_equal(sim_get(o, "tone"), "edited"); /* opened again as its tenant left it */
    play(&s, DRIVER_PRESENT, NULL);
    assert_string_equal(s.run.trace, "N.");
    scene_end(&s);
}

/* Over what the tenant made of them, once; what was dropped is emptied; all else is the tenant's.
 */
static void orders_write_what_they_change(void **state)
{
    struct scene s;
    (void)state;
    cJSON *changed = cJSON_Parse("[\"tone\",\"dropped\",\"never\",\"size\"]");
    scene_begin(&s, false);
    plant_ours(&s.sim, "id-ours", SIM_NAME, false);
    struct sim_object *o = sim_by_id(&s.sim, "id-ours");
    sim_set(o, "dropped", "x");
    sim_set(o, "own", "the tenant's");
    play(&s, DRIVER_PRESENT, NULL);
    assert_string_equal(sim_get(o, "tone"), "edited");
    s.target.changed = changed;
    play(&s, DRIVER_PRESENT, NULL);
    assert_string_equal(sim_get(o, "tone"), "calm");
    assert_string_equal(sim_get(o, "dropped"), "");
    assert_string_equal(sim_get(o, "own"), "the tenant's");
    assert_string_equal(sim_get(o, "ragflow_collection_id"), "c1");
    assert_null(sim_get(o, "never"));
    play(&s, DRIVER_PRESENT, NULL);
    assert_string_equal(s.run.trace, "N.");
    play(&s, DRIVER_CLOSED, NULL);
    assert_string_equal(sim_get(o, "tone"), "calm");
    scene_end(&s);
    cJSON_Delete(changed);
}

static void conflicts_name_the_stranger(void **state)
{
    struct scene s;
    (void)state;
    scene_begin(&s, true);
    sim_plant(&s.sim, "id-\n\x1b[31mforeign", SIM_NAME, NULL);
    play(&s, DRIVER_PRESENT, NULL);
    assert_int_equal(s.run.err.class, ERR_CONFLICT);
    assert_non_null(strstr(s.run.err.msg, SIM_NAME));
    assert_non_null(strstr(s.run.err.msg, "foreign"));
    assert_null(strpbrk(s.run.err.msg, "\n\x1b"));
    scene_end(&s);
}

static void the_servers_words_reach_the_error(void **state)
{
    struct planned no[FAULTS_MAX] = {{2, ANSWERS(422, "{\"detail\":\"flow is unknown\"}")}};
    struct scene s;
    (void)state;
    scene_begin(&s, false);
    play(&s, DRIVER_PRESENT, no);
    assert_string_equal(s.run.trace, "NPr!");
    assert_non_null(strstr(s.run.err.msg, "flow is unknown"));
    assert_int_equal(s.run.err.http_status, 422);
    scene_end(&s);
}

static void names_and_ids_are_escaped(void **state)
{
    struct driver_action a;
    struct err err;
    struct scene s;
    (void)state;
    scene_begin(&s, false);
    s.target.name = "a b&c=d/../e?f#g%h\xc3\xa9";
    s.target.external_id = "../x?y#z /%2e";
    struct driver_op *op = class_of(&s)->start(DRIVER_ABSENT, &s.target, &err);
    class_of(&s)->next(op, &a);
    assert_string_equal(a.request.url, SIM_URL "/api/v1/workspaces/..%2Fx%3Fy%23z%20%2F%252e");
    exchange_request_done(&a.request);
    struct exchange_response gone = {.sent = true, .status = 404, .body = "", .retry_after_ms = -1};
    struct driver_outcome outcome;
    class_of(&s)->feed(op, &gone, &outcome);
    class_of(&s)->next(op, &a);
    assert_string_equal(a.request.url, SIM_URL "/api/v1/workspaces?name=a%20b%26c%3Dd%2F..%2Fe"
                                               "%3Ff%23g%25h%C3%A9");
    exchange_request_done(&a.request);
    class_of(&s)->free(op);
    scene_end(&s);
}

/* One answer to the first look; what becomes of the operation. */
static enum err_class first_answer(bool collections, const char *body, size_t len)
{
    struct driver_action a;
    struct driver_outcome outcome;
    struct err err;
    struct scene s;
    struct exchange_response response = {
        .sent = true, .status = 200, .body = body, .body_len = len, .retry_after_ms = -1};
    scene_begin(&s, collections);
    const struct driver_class *class = class_of(&s);
    struct driver_op *op = class->start(DRIVER_ABSENT, &s.target, &err);
    class->next(op, &a);
    exchange_request_done(&a.request);
    class->feed(op, &response, &outcome);
    class->next(op, &a);
    enum err_class result = a.turn == TURN_FAILED ? a.err.class : ERR_NONE;
    exchange_request_done(&a.request);
    class->free(op);
    scene_end(&s);
    return result;
}

static void huge_answers_are_bounded(void **state)
{
    static const char item[] = "{\"name\":\"x\",\"id\":\"1\"},";
    enum { MIB = 1024 * 1024, PAD = 9 * MIB };
    (void)state;
    char *text = malloc(PAD + 8);
    assert_non_null(text);

    text[0] = '[';
    size_t n = 1;
    while (n < (size_t)4 * MIB) {
        memcpy(text + n, item, sizeof(item) - 1);
        n += sizeof(item) - 1;
    }
    text[n - 1] = ']';
    text[n] = '\0';
    assert_int_equal(first_answer(true, text, n), ERR_NONE); /* a long list is a list */

    memset(text, ' ', PAD);
    text[0] = '[';
    text[PAD - 1] = ']';
    text[PAD] = '\0';
    assert_int_equal(first_answer(true, text, PAD), ERR_UNKNOWN); /* above 8 MiB */

    memset(text, '[', PAD);
    assert_int_equal(first_answer(false, text, MIB), ERR_UNKNOWN); /* depth */
    free(text);
}

static void what_does_not_fit_is_not_sent(void **state)
{
    struct scene s;
    char url[EXCHANGE_URL_MAX + 1], id[EXTERNAL_ID_MAX + 2];
    (void)state;
    scene_begin(&s, false);
    memset(url, 'u', sizeof(url));
    url[sizeof(url) - 1] = '\0';
    s.target.url = url;
    play(&s, DRIVER_PRESENT, NULL);
    assert_string_equal(s.run.trace, "!");
    assert_int_equal(s.run.err.class, ERR_INTERNAL);
    scene_end(&s);

    scene_begin(&s, false);
    char *big = calloc(1, EXCHANGE_REQUEST_MAX + 1);
    assert_non_null(big);
    memset(big, 'b', EXCHANGE_REQUEST_MAX);
    cJSON_AddStringToObject(s.variables, "big", big);
    free(big);
    play(&s, DRIVER_PRESENT, NULL);
    assert_string_equal(s.run.trace, "N!");
    assert_int_equal(s.run.err.class, ERR_INTERNAL);
    scene_end(&s);

    /* An id that cannot be whole is none. */
    scene_begin(&s, false);
    memset(id, 'i', sizeof(id));
    id[sizeof(id) - 1] = '\0';
    s.target.external_id = id;
    play(&s, DRIVER_PRESENT, NULL);
    assert_string_equal(s.run.trace, "NPdI.");
    scene_end(&s);
}

static void small_print(void **state)
{
    struct driver_action a;
    struct err err;
    struct scene s;
    (void)state;
    assert_null(langflow_driver("collections"));
    assert_null(langflow_driver(NULL));
    assert_null(ragflow_driver("workspaces"));
    assert_null(ragflow_driver(""));
    scene_begin(&s, false);
    const struct driver_class *class = class_of(&s);
    assert_string_equal(class->api, "workspaces");
    class->free(NULL);

    s.target.credential = NULL;
    struct driver_op *op = class->start(DRIVER_PRESENT, &s.target, &err);
    class->next(op, &a);
    assert_null(a.request.auth_header);
    assert_null(a.request.credential);
    exchange_request_done(&a.request);
    class->free(op); /* abandoned half-way */
    scene_end(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(goals_without_faults),
        cmocka_unit_test(odd_servers),
        cmocka_unit_test(faults_on_changes),
        cmocka_unit_test(changes_that_are_still_open),
        cmocka_unit_test(unusable_answers_to_looks),
        cmocka_unit_test(refusals_at_every_request),
        cmocka_unit_test(created_objects_are_whole),
        cmocka_unit_test(drift_is_mended_and_edits_survive),
        cmocka_unit_test(a_workspace_without_retrieval_leads_to_no_documents),
        cmocka_unit_test(observations_change_nothing),
        cmocka_unit_test(closing_shuts_and_reopening_restores),
        cmocka_unit_test(orders_write_what_they_change),
        cmocka_unit_test(conflicts_name_the_stranger),
        cmocka_unit_test(the_servers_words_reach_the_error),
        cmocka_unit_test(names_and_ids_are_escaped),
        cmocka_unit_test(huge_answers_are_bounded),
        cmocka_unit_test(what_does_not_fit_is_not_sent),
        cmocka_unit_test(small_print),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
