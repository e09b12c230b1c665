/*
 * The simulated database does what PostgreSQL does: both get the same random calls at the same
 * times; every answer, notice and refusal is compared at once, all tables now and then.
 *
 *   test_db             SIM_SEED: the first seed; SIM_CALLS: how many calls
 *   test_db speed [N]   how fast the simulated one alone is: N lives, no server
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/str.h"
#include "test_db.h"

enum { CALLS = 15000, MOST = 4 /* times that */, LIVES = 10000 };

static void see(struct seen *s, const char *statement, const char *verdict)
{
    char what[SEEN_TEXT];
    size_t i = 0;
    snprintf(what, sizeof(what), "%s %.24s", statement, verdict);
    while (i < s->n && !str_eq(s->what[i], what)) {
        i++;
    }
    if (i == s->n && s->n < SEEN_MAX) {
        str_copy(s->what[s->n++], SEEN_TEXT, what);
    }
    if (i < SEEN_MAX) {
        s->times[i]++;
    }
}

/* ---- the simulated side ---- */

static int64_t now(void *ctx)
{
    return ((const struct test *)ctx)->maker.now_us;
}

static void notify(void *ctx)
{
    ((struct test *)ctx)->current->notified = true;
}

static void violated(void *ctx, const char *what)
{
    (void)what;
    ((struct test *)ctx)->current->violated = true;
}

static PGresult *text_result(const char *name, const char *value)
{
    PGresAttDesc column = {.name = (char *)(uintptr_t)name};
    PGresult *res = PQmakeEmptyPGresult(NULL, PGRES_TUPLES_OK);
    PQsetResultAttrs(res, 1, &column);
    db_put(res, 0, 0, value);
    return res;
}

static int64_t time_of(const char *text)
{
    int64_t us = 0;
    clock_parse(text, strlen(text), &us);
    return us;
}

static PGresult *simulate(struct test *t, const struct call *c, struct err *err)
{
    char id[24];
    if (c->statement == T_REPLAY) {
        return text_result("verdict", db_job_replay(t->db, c->p[0].value, c->p[1].value,
                                                    strtoll(c->p[2].value, NULL, 10)));
    }
    if (c->statement == T_PURGE) {
        snprintf(id, sizeof(id), "%" PRId64,
                 db_retention_purge(t->db, c->p[0].value, time_of(c->p[1].value),
                                    strtoll(c->p[2].value, NULL, 10)));
        return text_result("coalesce", id);
    }
    if (c->statement == T_CANCEL) {
        return text_result("verdict",
                           db_job_cancel(t->db, strtoll(c->p[0].value, NULL, 10), c->p[1].value,
                                         strtoll(c->p[2].value, NULL, 10)));
    }
    if (c->statement == T_PAUSE) {
        bool set = db_pause_set(t->db, c->p[0].value, c->p[1].value, err);
        return t->current->violated ? NULL : text_result("pause_set", set ? "t" : "f");
    }
    if (c->statement == T_RESUME) {
        bool lifted = db_pause_lift(t->db, c->p[0].value, c->p[1].value);
        return text_result("pause_lift", lifted ? "t" : "f");
    }
    return db_exec(t->db, (enum statement)c->statement, c->p, err);
}

/* ---- comparing ---- */

static void show_call(const struct test *t, const struct call *c, int i)
{
    fprintf(stderr, "SIM_SEED=%" PRIu64 ", call %d: %s(", t->seed, i, call_name(c->statement));
    for (int k = 0; k < c->n; k++) {
        fprintf(stderr, "%s%s", k ? ", " : "", c->p[k].value ? c->p[k].value : "NULL");
    }
    fputs(")\n", stderr);
}

static const char *sqlstate(const PGresult *res)
{
    const char *state = PQresultErrorField(res, PG_DIAG_SQLSTATE);
    return state ? state : "";
}

static bool refusals_equal(const struct performed *p, const PGresult *real)
{
    bool refused = PQresultStatus(real) != PGRES_TUPLES_OK;
    if (refused == !p->sim && refused == p->violated &&
        (!refused || (str_eq(sqlstate(real), p->err.sqlstate) && p->err.class == ERR_REFUSED))) {
        return true;
    }
    fprintf(stderr, "PostgreSQL: %s %s; simulated: %s %s\n", refused ? "no" : "yes",
            PQresultErrorMessage(real), p->sim ? "yes" : p->err.sqlstate, p->err.msg);
    return false;
}

static bool answers_equal(const struct performed *p, const PGresult *real, bool notified)
{
    if (!refusals_equal(p, real)) {
        return false;
    }
    if (notified != p->notified) {
        fprintf(stderr, "notified: PostgreSQL %d, simulated %d\n", notified, p->notified);
        return false;
    }
    return !p->sim || results_equal(real, p->sim, false);
}

static void note_walk(struct test *t)
{
    static const struct {
        enum claim_met what;
        const char *name;
    } met[] = {{MET_PAUSE_ALL, "paused: all"},
               {MET_PAUSE_LANE, "paused: lane"},
               {MET_PAUSE_ORGANIZATION, "paused: organization"},
               {MET_LANE_FULL, "lane full"},
               {MET_NO_ROOM, "no room"},
               {MET_ORGANIZATION_FULL, "organization full"},
               {MET_WEIGHT, "weight"},
               {MET_CREDIT, "credit"},
               {MET_ROUND, "once more"},
               {MET_LANES, "lanes"},
               {MET_DUE, "due"}};
    for (size_t i = 0; i < ARRAY_LEN(met); i++) {
        if (t->db->met & met[i].what) {
            see(&t->seen, "jobs_claim", met[i].name);
        }
    }
}

static void note(struct test *t, const struct call *c, const PGresult *sim, const struct err *err)
{
    const char *verdict = err->sqlstate;
    if (sim) {
        bool rows = PQntuples(sim) > 0 && PQnfields(sim) > 0;
        verdict = !rows                                            ? "no row"
                  : PQnfields(sim) > 2 || c->statement == S_COUNTS ? "rows"
                                                                   : PQgetvalue(sim, 0, 0);
        if (verdict[0] && strspn(verdict, "0123456789") == strlen(verdict)) {
            verdict = str_eq(verdict, "0") ? "0" : "n";
        }
        verdict = str_starts(verdict, "conflict:") ? "conflict" : verdict;
    }
    if (c->statement == S_JOBS_CLAIM && sim && PQntuples(sim) > 0) {
        verdict = str_eq(PQgetvalue(sim, 0, 8), "t") ? "takeover" : "claim";
    }
    see(&t->seen, call_name(c->statement), verdict);
    if (c->statement == S_JOBS_CLAIM) {
        note_walk(t);
    }
}

static void perform(struct test *t, struct performed *p)
{
    p->now_us = t->maker.now_us;
    p->notified = p->violated = false;
    err_clear(&p->err);
    t->current = p;
    p->sim = simulate(t, &p->call, &p->err);
    note(t, &p->call, p->sim, &p->err);
    real_send(&t->real, &p->call, p->now_us);
}

static bool compare_next(struct test *t, struct performed *p)
{
    bool notified;
    PGresult *real = real_receive(&t->real, &notified);
    bool same = answers_equal(p, real, notified);
    PQclear(real);
    PQclear(p->sim);
    t->compared++;
    return same;
}

/* n calls, from call `first` on, of which the first that differs is told. */
static bool batch(struct test *t, int first, int n)
{
    bool same = true;
    for (int i = 0; i < n; i++) {
        make_call(&t->maker, &t->batch[i].call);
        perform(t, &t->batch[i]);
    }
    for (int i = 0; i < n; i++) {
        if (!compare_next(t, &t->batch[i]) && same) {
            same = false;
            show_call(t, &t->batch[i].call, first + i);
        }
    }
    return same;
}

bool test_call(struct test *t, int statement, int n, const char *const *values)
{
    struct performed *p = &t->batch[0];
    p->call.statement = statement;
    p->call.n = n;
    for (int i = 0; i < n; i++) {
        p->call.p[i] = (struct pg_param){values[i], -1};
    }
    perform(t, p);
    bool same = compare_next(t, p);
    if (!same) {
        show_call(t, &p->call, 0);
    }
    return same;
}

bool test_begin(struct test *t, uint64_t seed)
{
    const struct db_options options = {
        .named = true, .now_us = now, .notify = notify, .violated = violated, .ctx = t};
    db_free(t->db);
    t->seed = seed;
    t->db = db_new(&options);
    maker_init(&t->maker, t->db, seed);
    return !real_reset(&t->real);
}

/* All tables after every n calls; PostgreSQL is told of as many at once. */
static bool episode(struct test *t, uint64_t seed, int n)
{
    bool same = test_begin(t, seed);
    for (int i = 0; i < EPISODE_CALLS && same; i += n) {
        same = batch(t, i, n);
        if (same && !tables_equal(&t->real, t->db)) {
            same = false;
            show_call(t, &t->batch[n - 1].call, i + n - 1);
        }
    }
    return same && looks_right(t->db);
}

/* What must have been met, or the calls are not what they should be. */
static const char *const wanted[] = {
    "inbox_take applied",
    "inbox_take repeated",
    "inbox_take stale",
    "inbox_take duplicate",
    "inbox_take 23502",
    "inbox_take 23514",
    "dead_letter_add n",
    "dead_letter_add 23514",
    "dead_letter_published ",
    "worker_register ",
    "worker_register 23505",
    "worker_renew t",
    "worker_renew f",
    "worker_leave 0",
    "worker_leave n",
    "jobs_claim claim",
    "jobs_claim takeover",
    "jobs_claim no row",
    "jobs_back no row",
    "step_pass ok",
    "step_pass lost",
    "step_pass superseded",
    "step_pass 23503",
    "step_name ok",
    "step_name lost",
    "step_name superseded",
    "step_name conflict",
    "step_name 23502",
    "step_name 23514",
    "step_resource ok",
    "step_resource lost",
    "step_resource superseded",
    "step_resource 22P02",
    "step_resource 23505",
    "step_resource 23514",
    "step_api_key ok",
    "step_api_key lost",
    "step_api_key superseded",
    "step_api_key 23502",
    "step_api_key 23505",
    "step_api_key 23514",
    "step_api_key P0002",
    "step_ready ok",
    "step_ready lost",
    "step_ready superseded",
    "step_ready 23514",
    "step_revoke ok",
    "step_revoke lost",
    "step_revoke superseded",
    "step_archive ok",
    "step_archive lost",
    "step_archive superseded",
    "step_archive 23514",
    "job_settle ok",
    "job_settle lost",
    "job_settle superseded",
    "job_settle 23514",
    "effect_intend ok",
    "effect_intend lost",
    "effect_intend superseded",
    "effect_intend 23514",
    "effect_settle t",
    "effect_settle f",
    "runtime_keep ok",
    "runtime_keep lost",
    "runtime_keep superseded",
    "runtime_keep 23503",
    "runtime_keep 23505",
    "runtime_keep 23514",
    "jobs_release ",
    "jobs_release alpha",
    "outbox_claim rows",
    "outbox_claim no row",
    "outbox_done 0",
    "outbox_done n",
    "outbox_back 0",
    "outbox_back n",
    "counts rows",
    "schema_version n",
    "job_replay queued",
    "job_replay none",
    "job_replay superseded",
    "job_replay bad step",
    "retention_purge n",
    "retention_purge 0",
    "step_pass paused",
    "step_name paused",
    "step_name queued",
    "step_resource paused",
    "step_api_key paused",
    "step_ready paused",
    "step_revoke paused",
    "step_revoke queued",
    "step_archive paused",
    "effect_intend paused",
    "runtime_keep paused",
    "job_cancel cancelled",
    "job_cancel cancelling",
    "step_pass cancelled",
    "step_resource cancelled",
    "job_settle cancelled",
    "effect_intend cancelled",
    "runtime_keep cancelled",
    "job_cancel finished",
    "job_cancel none",
    "pause_set t",
    "pause_set f",
    "pause_set P0002",
    "pause_lift t",
    "pause_lift f",
    "jobs_claim paused: all",
    "jobs_claim paused: lane",
    "jobs_claim paused: organization",
    "jobs_claim lane full",
    "jobs_claim no room",
    "jobs_claim organization full",
    "jobs_claim weight",
    "jobs_claim credit",
    "jobs_claim once more",
    "jobs_claim lanes",
    "jobs_claim due",
};

/* How many were not; says which. */
static int missed(const struct seen *s, bool say)
{
    int n = 0;
    for (size_t i = 0; i < ARRAY_LEN(wanted); i++) {
        size_t k = 0;
        while (k < s->n && !str_eq(s->what[k], wanted[i])) {
            k++;
        }
        if (k == s->n) {
            n++;
            if (say) {
                fprintf(stderr, "never met: %s\n", wanted[i]);
            }
        }
    }
    return n;
}

static int number(const char *s, int fallback)
{
    int64_t n;
    return s && str_to_i64(s, &n) && n > 0 && n < INT_MAX ? (int)n : fallback;
}

static uint64_t first_seed(void)
{
    const char *given = getenv("SIM_SEED");
    return given ? strtoull(given, NULL, 10) : (uint64_t)clock_wall_us();
}

/* As many calls as SIM_CALLS says; else CALLS, and on until every verdict was met. */
static int compare(struct test *t)
{
    const char *asked = getenv("SIM_CALLS");
    uint64_t seed = first_seed();
    int calls = number(asked, CALLS), most = asked ? calls : MOST * CALLS;
    printf("SIM_SEED=%" PRIu64 "\n", seed);
    bool same = scenes(t);
    for (int done = 0; same && (done < calls || (done < most && missed(&t->seen, false) > 0));
         done += EPISODE_CALLS) {
        same = episode(t, seed, BATCH);
        seed += same;
    }
    if (!same && t->seed == seed) {
        fputs("---- once more, call by call\n", stderr);
        episode(t, seed, 1);
    }
    db_free(t->db);
    printf("%zu calls compared\n", t->compared);
    for (size_t i = 0; i < t->seen.n; i++) {
        printf("%8u  %s\n", t->seen.times[i], t->seen.what[i]);
    }
    return !same || (!asked && missed(&t->seen, true)) ? 1 : 0;
}

int main(int argc, char **argv)
{
    static struct test test;
    if (argc > 1 && str_eq(argv[1], "speed")) {
        return speed(number(argv[2], LIVES));
    }
    int rc = real_start(&test.real) ? 1 : compare(&test);
    real_end(&test.real);
    return rc;
}
