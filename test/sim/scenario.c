/*
 * One seed's story: what is ordered and how its events travel, what goes wrong meanwhile, what
 * people do, and how it all ends. Four acts: orders under a storm; changes of what is there, and
 * terminations, under others; retention, when its day has come. After each the storm is over, and
 * the promise is checked.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/str.h"
#include "base/uuid.h"
#include "naming/naming.h"
#include "setup.h"
#include "sim.h"
#include "world.h"

enum {
    QUIET_S = 3,         /* so long nothing may follow any more */
    SETTLE_MAX_S = 7200, /* after a storm; what is held comes back within a quarter of an hour */
    REPLAY_DEADLINE_MS = 24 * 3600 * 1000,
    COPIES_MAX = 3,
    RETENTION_DAYS = 30,
    LATER_MAX_MS = 20 * 1000,
};

/* ---- events ---- */

struct post {
    char *text;
    size_t partition;
    bool valid;
};

static void on_post(void *ctx, uint64_t arg, bool run)
{
    struct post *p = ctx;
    (void)arg;
    if (run) {
        kafka_append(p->partition, "key", p->text[0] ? p->text : NULL, p->valid);
    }
    free(p->text);
    free(p);
    world.posts -= 1;
}

static void post_at(int64_t delay_us, const char *text, size_t partition, bool valid)
{
    struct post *p = sim_alloc(sizeof(*p));
    *p = (struct post){sim_text(text), partition, valid};
    world.posts++;
    sim_after(delay_us, on_post, p, 0);
}

/* Once or oftener, in any order; most of them where their subscription's are. */
static void travel(const struct subscription *s, const char *text, int64_t within_us)
{
    int copies = sim_chance(0.6) ? 1 : (int)sim_between(2, COPIES_MAX);
    for (int i = 0; i < copies; i++) {
        size_t home = (size_t)s->number % world.n_partitions;
        post_at(sim_between(0, within_us), text,
                sim_chance(0.8) ? home : (size_t)sim_below(world.n_partitions), true);
    }
    if (sim_chance(0.05)) { /* days late */
        post_at(sim_between(2, 5) * DAY_US, text, (size_t)sim_below(world.n_partitions), true);
    }
}

static void next_order(struct subscription *s, char order[UUID_TEXT], char when[CLOCK_TEXT_MAX])
{
    s->orders++;
    s->time_us = s->time_us ? s->time_us + sim_between(1, 20) * SECOND
                            : wall_us() - sim_between(1800, 7200) * SECOND;
    uuid_make(order);
    clock_format(when, s->time_us);
}

/* A whole state: created or updated. */
static void tell(struct subscription *s, const char *type, int64_t within_us)
{
    char text[2048], order[UUID_TEXT], when[CLOCK_TEXT_MAX];
    next_order(s, order, when);
    s->revision = s->orders;
    if (!world.dialects.facade || !s->chunk_size) { /* collections keep what they were made with */
        s->chunk_size = 128 << sim_below(4);
    }
    snprintf(
        text, sizeof(text),
        "{\"specversion\":\"1.0\",\"id\":\"%s-%s\",\"source\":\"/waldur/marketplace\","
        "\"type\":\"subscription.%s\",\"subject\":\"%s\",\"time\":\"%s\",\"data\":{"
        "\"order_uuid\":\"%s\",\"subscription\":{\"uuid\":\"%s\",\"id\":\"%d\"},"
        "\"organization\":{\"uuid\":\"00000000-0000-4000-8000-00000000000%d\","
        "\"slug\":\"org-%d\"},\"project\":{\"uuid\":\"00000000-0000-4000-9000-00000000000%d\","
        "\"slug\":\"project-%d\"},\"offering\":{\"uuid\":"
        "\"00000000-0000-4000-a000-000000000001\",\"type\":\"%s\"},\"plan\":{\"tier\":\"%s\"},"
        "\"capabilities\":[%s],\"runtime\":{\"mode\":\"%s\"},\"knowledge_base\":{\"chunk_size\":%d,"
        "\"chunk_overlap\":32},\"variables\":{\"agent_name\":\"Agent %d\",\"revision\":\"%d\"}}}",
        order, type, type, s->uuid, when, order, s->uuid, s->number, s->organization,
        s->organization, s->project, s->project, s->csa ? "csa" : "faq", s->tier,
        s->rag ? "\"rag\"" : "", s->dedicated ? "dedicated" : "shared", s->chunk_size, s->number,
        s->revision);
    travel(s, text, within_us);
}

static void order_created(struct subscription *s, int64_t within_us)
{
    tell(s, "created", within_us);
    s->restored = s->restored || (s->orders > 1 && !s->active);
    s->active = true;
    s->suspended = false;
    s->purged = false;
}

static void order_updated(struct subscription *s, int64_t within_us)
{
    static const char *const tiers[] = {"free", "plus", "pro"};
    s->tier = tiers[sim_below(ARRAY_LEN(tiers))];
    s->rag = sim_chance(0.3) ? !s->rag : s->rag;
    s->whole = false;
    tell(s, "updated", within_us);
}

/* What names the subscription alone: suspended, resumed or terminated. */
static void order_short(struct subscription *s, const char *type, int64_t within_us)
{
    char text[1024], order[UUID_TEXT], when[CLOCK_TEXT_MAX];
    next_order(s, order, when);
    snprintf(text, sizeof(text),
             "{\"specversion\":\"1.0\",\"id\":\"%s-%s\",\"source\":\"/waldur/marketplace\","
             "\"type\":\"subscription.%s\",\"subject\":\"%s\",\"time\":\"%s\",\"data\":{"
             "\"order_uuid\":\"%s\",\"subscription\":{\"uuid\":\"%s\"}}}",
             order, type, type, s->uuid, when, order, s->uuid);
    travel(s, text, within_us);
}

static void order_terminated(struct subscription *s, int64_t within_us)
{
    if (s->active) {
        world.lifetimes++;
    }
    s->active = s->suspended = s->whole = false;
    s->purged = !world.dialects.keep;
    order_short(s, "terminated", within_us);
}

/* One that is over takes no notice of any of them. */
static void order_change(struct subscription *s, int64_t within_us)
{
    int kind = (int)sim_below(5);
    if (kind == 0) {
        order_updated(s, within_us);
        return;
    }
    bool suspended = kind < 3;
    s->suspended = s->active && suspended;
    order_short(s, suspended ? "suspended" : "resumed", within_us);
}

static void post_malformed(int64_t within_us)
{
    static const char *const texts[] = {
        "",
        "{",
        "null",
        "[]",
        "{\"specversion\":\"1.0\"}",
        "{\"specversion\":\"1.0\",\"id\":\"x\",\"source\":\"/waldur/marketplace\","
        "\"type\":\"subscription.created\",\"data\":{\"order_uuid\":\"no uuid\"}}",
        "{\"specversion\":\"1.0\",\"id\":\"y\",\"source\":\"/w\",\"type\":\"subscription.renamed\","
        "\"data\":{}}",
    };
    post_at(sim_between(0, within_us), texts[sim_below(ARRAY_LEN(texts))],
            (size_t)sim_below(world.n_partitions), false);
}

/* ---- who orders what ---- */

static void name_of(struct subscription *s)
{
    snprintf(s->name, sizeof(s->name), "org-%d-project-%d-%s-%03d", s->organization, s->project,
             s->csa ? "csa" : "faq", s->number);
}

static void make_subscriptions(void)
{
    static const char *const tiers[] = {"free", "plus", "pro"};
    size_t n = (size_t)sim_between(1, sim_chance(0.7) ? 3 : 6);
    int organizations = (int)sim_between(1, ORGANIZATIONS_MAX);
    for (size_t i = 0; i < n; i++) {
        struct subscription *s = &world.subscriptions[i];
        uuid_make(s->uuid);
        s->organization = (int)sim_below((uint64_t)organizations);
        s->project = (int)sim_below(2);
        s->number = (int)i + 1;
        s->rag = s->csa = sim_chance(0.7);
        if (i > 0 && sim_chance(0.04)) {
            const struct subscription *twin = &world.subscriptions[sim_below(i)];
            s->organization = twin->organization;
            s->project = twin->project;
            s->number = twin->number;
            s->rag = s->csa = twin->csa;
            s->doomed = world.subscriptions[twin - world.subscriptions].doomed = true;
        }
        s->tier = tiers[sim_below(ARRAY_LEN(tiers))];
        s->dedicated = s->organization < world.dialects.dedicated && sim_chance(0.5);
        name_of(s);
    }
    world.n_subscriptions = n;
}

static void order_changes(struct subscription *s, int64_t within_us)
{
    for (uint64_t n = sim_chance(0.4) ? 1 + sim_below(4) : 0; n > 0; n--) {
        order_change(s, within_us);
    }
}

/* Several lives, one after the other, with orders that change them in between. */
static void order_lives(struct subscription *s, int64_t within_us)
{
    int lives = sim_chance(0.5) ? 1 : (int)sim_between(2, sim_chance(0.7) ? 3 : 4);
    for (int i = 0; i < lives; i++) {
        if (i > 0) {
            order_terminated(s, within_us);
            order_changes(s, within_us);
        }
        order_created(s, within_us);
        order_changes(s, within_us);
        if (sim_chance(0.2)) {
            order_created(s, within_us);
        }
    }
    if (sim_chance(0.25)) {
        order_terminated(s, within_us);
    }
}

/* ---- what others have ---- */

static void plant_facade(const char *name, const struct subscription *s)
{
    char body[512];
    snprintf(body, sizeof(body), "{\"name\":\"%s\",\"flow_id\":\"theirs\",\"variables\":{}}", name);
    product_post(PRODUCT_LANGFLOW, "/objects", body);
    snprintf(body, sizeof(body), "{\"name\":\"%s-kb\",\"embedding_model\":\"theirs\"}", name);
    product_post(PRODUCT_RAGFLOW, "/objects", body);
    (void)s;
}

static void plant_native(const char *name, const struct subscription *s, bool marked)
{
    char body[1024];
    snprintf(body, sizeof(body),
             "{\"username\":\"%s\",\"optins\":{\"%s\":\"waldur-subscription:%s\"},\"keys\":"
             "[\"sk-theirs-%s\"],\"flows\":[{\"name\":\"%s\",\"data\":{\"nodes\":[]}}],"
             "\"variables\":[{\"name\":\"ragflow_url\",\"type\":\"Generic\",\"value\":\"x\"}]}",
             name, marked ? "waldur_subscription" : "owner", marked ? s->uuid : "none", name,
             "customer-support-agent-v1");
    product_post(PRODUCT_LANGFLOW, "/objects", body);
    snprintf(body, sizeof(body),
             "{\"name\":\"%s-theirs\",\"description\":\"somebody else's\",\"embedding_model\":"
             "\"theirs@Theirs\",\"documents\":[\"theirs.pdf\"]}",
             name);
    product_post(PRODUCT_RAGFLOW, "/objects", body);
}

static void plant_foreign(void)
{
    for (size_t i = 0; i < world.n_subscriptions; i++) {
        struct subscription *s = &world.subscriptions[i];
        bool taken = sim_chance(0.04);
        char name[300];
        snprintf(name, sizeof(name), "%s%s", s->name, taken ? "" : "-theirs");
        s->doomed = s->doomed || taken;
        s->foreign_name = taken;
        if (!taken && !sim_chance(0.2)) {
            continue;
        }
        if (world.dialects.facade) {
            plant_facade(name, s);
        } else {
            plant_native(name, s, sim_chance(0.5));
        }
        if (s->foreign_name) {
            break; /* one name is planted once */
        }
    }
    product_remember_foreign(&world.upstream[PRODUCT_LANGFLOW]);
    product_remember_foreign(&world.upstream[PRODUCT_RAGFLOW]);
}

/* ---- what goes wrong ---- */

static void draw_faults(void)
{
    struct faults *f = &world.faults;
    *f = (struct faults){0};
    if (sim_chance(0.08)) {
        return; /* all is well, once in a while */
    }
    for (int i = 0; i < R_FAULTS; i++) {
        f->request[i] = sim_chance(0.35) ? 0.002 * (double)sim_between(1, 40) : 0;
    }
    double *const rates[] = {&f->pg_lost_before, &f->pg_lost_after, &f->pg_refused,
                             &f->pg_unserializable, &f->pg_slow};
    for (size_t i = 0; i < ARRAY_LEN(rates); i++) {
        *rates[i] = sim_chance(0.3) ? 0.001 * (double)sim_between(1, 20) : 0;
    }
    f->notify_lost = sim_chance(0.3) ? 0.5 : 0;
    f->produce_fails = sim_chance(0.3) ? 0.2 : 0;
    f->produce_slow = sim_chance(0.2) ? 0.2 : 0;
    f->crash = sim_chance(0.6) ? 1.0 / (double)sim_between(30, 1500) : 0;
    world.crashes_left = (int)sim_between(1, 12);
    int64_t *const means[] = {&f->pause_s, &f->restart_s, &f->freeze_s, &f->outage_s,
                              &f->drain_s, &f->reload_s,  &f->step_s,   &f->kafka_s};
    for (size_t i = 0; i < ARRAY_LEN(means); i++) {
        *means[i] = sim_chance(0.3) ? sim_between(5, 60) : 0;
    }
    f->meddling = sim_chance(0.4);
    f->late_max_ms = world.late ? world.late_max_ms + LATER_MAX_MS : world.late_max_ms;
    f->request[R_LATE] = world.late ? 0.03 : f->request[R_LATE];
    f->request[R_UNKEPT] = world.forgetful ? f->request[R_UNKEPT] : 0;
    f->restore_s = world.forgetful ? sim_between(2, 30) : 0;
    f->rename_s = world.renaming ? sim_between(2, 30) : 0;
}

static struct proc *any_proc(void)
{
    return &world.procs[sim_below(world.n_procs)];
}

enum trouble {
    T_PAUSE,
    T_RESTART,
    T_FREEZE,
    T_OUTAGE,
    T_DRAIN,
    T_RELOAD,
    T_STEP,
    T_KAFKA,
    T_RESTORE,
    T_RENAME,
    T_KINDS
};

static int64_t mean_of(enum trouble t)
{
    const struct faults *f = &world.faults;
    const int64_t means[T_KINDS + 1] = {
        [T_PAUSE] = f->pause_s,   [T_RESTART] = f->restart_s, [T_FREEZE] = f->freeze_s,
        [T_OUTAGE] = f->outage_s, [T_DRAIN] = f->drain_s,     [T_RELOAD] = f->reload_s,
        [T_STEP] = f->step_s,     [T_KAFKA] = f->kafka_s,     [T_RESTORE] = f->restore_s,
        [T_RENAME] = f->rename_s};
    return means[t];
}

static void product_outage(void)
{
    enum product p = (enum product)sim_below(PRODUCT_MAX);
    struct upstream_world *u = &world.upstream[p];
    u->outage_until_us = world.now_us + sim_between(1, sim_chance(0.1) ? 300 : 25) * SECOND;
    u->outage_refuses = sim_chance(0.5);
    sim_say(product_name(p), "away until %.1f", (double)u->outage_until_us / SECOND);
}

static void strike(enum trouble t)
{
    struct proc *p = any_proc();
    switch (t) {
    case T_PAUSE:
        proc_pause(p, sim_between(100 * MS, 25 * SECOND));
        return;
    case T_RESTART:
        database_restart(sim_between(10 * MS, 10 * SECOND));
        return;
    case T_FREEZE:
        database_freeze(sim_between(100 * MS, 20 * SECOND));
        return;
    case T_OUTAGE:
        product_outage();
        return;
    case T_DRAIN:
        proc_drain(p);
        return;
    case T_RELOAD:
        proc_reload(p);
        return;
    case T_STEP:
        p->wall_offset_us = sim_between(-3600, 3600) * SECOND;
        sim_say(p->who, "its wall clock is set");
        return;
    case T_KAFKA:
        kafka_outage(sim_between(100 * MS, 15 * SECOND));
        return;
    case T_RESTORE:
        server_restored();
        return;
    case T_RENAME:
        server_renames();
        return;
    case T_KINDS:
        return;
    }
}

static void on_trouble(void *ctx, uint64_t arg, bool run)
{
    uint64_t storm = arg >> 8;
    enum trouble t = (enum trouble)(arg & 255);
    if (!run || !world.storm || storm != world.storms) {
        return;
    }
    strike(t);
    sim_after(sim_between(1, 2 * mean_of(t) * 1000) * MS, on_trouble, ctx, arg);
}

/* Those that ended come back. */
static void on_supervise(void *ctx, uint64_t storm, bool run)
{
    if (!run || !world.storm || storm != world.storms) {
        return;
    }
    for (size_t i = 0; i < world.n_procs; i++) {
        if (!world.procs[i].alive && sim_chance(0.3)) {
            proc_start(&world.procs[i]);
        }
    }
    sim_after(sim_between(200, 2000) * MS, on_supervise, ctx, storm);
}

static bool is_newest(size_t i, const char *subscription)
{
    const struct db_job *later;
    while ((later = db_job_at(world.db, ++i))) {
        if (str_eq(later->subscription, subscription)) {
            return false;
        }
    }
    return true;
}

/* Those that ended so, each its subscription's newest: of another one the newest would be replayed.
 */
static void replay(enum job_state state)
{
    const struct db_job *j;
    for (size_t i = 0; (j = db_job_at(world.db, i)); i++) {
        if (j->state == state && is_newest(i, j->subscription)) {
            char uuid[UUID_TEXT];
            str_copy(uuid, sizeof(uuid), j->subscription);
            const char *verdict = db_job_replay(world.db, uuid, NULL, REPLAY_DEADLINE_MS);
            sim_say("operator", "replays %s: %s", uuid, verdict);
        }
    }
}

static void pause_something(void)
{
    static const char *const scopes[] = {"all", "runtime", "organization", "subscription"};
    const struct subscription *s = &world.subscriptions[sim_below(world.n_subscriptions)];
    char target[UUID_TEXT] = "";
    size_t scope = sim_below(ARRAY_LEN(scopes));
    if (scope == 1) {
        snprintf(target, sizeof(target), s->dedicated ? "dedicated-%d" : "shared", s->organization);
    } else if (scope == 2) {
        snprintf(target, sizeof(target), "00000000-0000-4000-8000-00000000000%d", s->organization);
    } else if (scope == 3) {
        str_copy(target, sizeof(target), s->uuid);
    }
    if (scope == 3 && !db_subscription(world.db, target)) {
        return;
    }
    bool new = db_pause_set(world.db, scopes[scope], target, NULL);
    sim_say("operator", "pauses %s %s%s", scopes[scope], target,
            new ? "" : ", which is so already");
}

/* The i-th of what is paused; false: there are fewer. */
static bool resume(size_t i)
{
    const char *scope, *target;
    if (!db_pause_at(world.db, i, &scope, &target)) {
        return false;
    }
    sim_say("operator", "resumes %s %s", scope, target);
    (void)db_pause_lift(world.db, scope, target);
    return true;
}

static void cancel_job(int64_t id)
{
    sim_say("operator", "cancels job %" PRId64 ": %s", id,
            db_job_cancel(world.db, id, "simulated", REPLAY_DEADLINE_MS));
}

static void cancel_something(void)
{
    const struct db_job *j =
        db_live_job(world.db, world.subscriptions[sim_below(world.n_subscriptions)].uuid);
    if (j) {
        cancel_job(j->id);
    }
}

static void on_cancel(void *ctx, uint64_t job, bool run)
{
    (void)ctx;
    if (run && world.storm) {
        cancel_job((int64_t)job);
        replay(JOB_CANCELLED);
    }
}

/* Where a request is about to leave. */
void scenario_intended(int64_t job)
{
    if (world.storm && world.faults.meddling && sim_chance(0.01)) {
        sim_after(sim_between(0, 2 * MS), on_cancel, NULL, (uint64_t)job);
    }
}

static void on_operator(void *ctx, uint64_t storm, bool run)
{
    if (!run || !world.storm || storm != world.storms) {
        return;
    }
    switch (sim_below(world.faults.meddling ? 8 : 1)) {
    case 0:
        replay(JOB_FAILED);
        break;
    case 1:
        replay(JOB_CANCELLED);
        break;
    case 2:
    case 3:
    case 4:
        pause_something();
        break;
    case 5:
    case 6:
        (void)resume(sim_below(3));
        break;
    default:
        cancel_something();
        break;
    }
    int64_t most_ms = world.faults.meddling ? 6000 : 40000;
    sim_after(sim_between(most_ms / 20, most_ms) * MS, on_operator, ctx, storm);
}

/* Nothing stays paused; what was cancelled is replayed once everything runs (settle). */
static void operators_leave(void)
{
    while (resume(0)) {
    }
}

static void storm(int64_t for_us)
{
    draw_faults();
    world.storm = true;
    world.storms++;
    sim_say("storm", "for %.1f s", (double)for_us / SECOND);
    for (int t = 0; t < T_KINDS; t++) {
        if (mean_of((enum trouble)t) > 0) {
            sim_after(sim_between(1, 2 * mean_of((enum trouble)t) * 1000) * MS, on_trouble, NULL,
                      world.storms << 8 | (uint64_t)t);
        }
    }
    sim_after(0, on_supervise, NULL, world.storms);
    sim_after(sim_between(200, world.faults.meddling ? 6000 : 40000) * MS, on_operator, NULL,
              world.storms);
    int64_t until = world.now_us + for_us;
    while (!world.breach[0] && sim_step(until)) {
    }
    world.storm = false;
    operators_leave();
    for (int p = 0; p < PRODUCT_MAX; p++) {
        world.upstream[p].outage_until_us = 0;
    }
}

/* ---- calm ---- */

static bool all_run(void)
{
    bool all = true;
    for (size_t i = 0; i < world.n_procs; i++) {
        struct proc *p = &world.procs[i];
        proc_resume(p);
        if (!p->alive) {
            proc_start(p);
        }
        all = all && !p->draining;
    }
    return all;
}

static bool all_done(void)
{
    for (size_t i = 0; i < world.n_subscriptions; i++) {
        if (db_live_job(world.db, world.subscriptions[i].uuid)) {
            return false;
        }
    }
    return http_calls() == 0 && kafka_quiet() && db_outbox(world.db) == 0;
}

static void let_pass(int64_t for_us)
{
    int64_t until = world.now_us + for_us;
    while (!world.breach[0] && sim_step(until)) {
    }
}

/* What is made from here on is new, and what the facade opens again. */
static void forget_what_is_gone(void)
{
    for (size_t i = 0; i < world.n_subscriptions; i++) {
        struct subscription *s = &world.subscriptions[i];
        const struct db_config *c = db_config(world.db, s->uuid);
        bool kept = c && c->workspace_id && !world.dialects.facade;
        s->surplus = s->surplus && (s->active || kept || s->shaken);
    }
}

static void settle(void)
{
    int64_t limit = world.now_us + SETTLE_MAX_S * (int64_t)SECOND;
    int quiet = 0;
    sim_say("calm", "everything runs");
    while (!world.breach[0] && quiet < QUIET_S) {
        bool run = all_run();
        replay(JOB_CANCELLED); /* what was being cancelled ends only now, maybe */
        let_pass(SECOND);
        quiet = run && all_done() ? quiet + 1 : 0;
        if (quiet == 0 && world.now_us > limit) {
            check_promise();
            sim_breach("it does not come to rest: %zu requests under way, %zu outcomes waiting, "
                       "events %s, processes %s",
                       http_calls(), db_outbox(world.db),
                       kafka_quiet() ? "taken in" : "not taken in", run ? "run" : "do not run");
        }
    }
    forget_what_is_gone();
}

/* ---- what the next event mends ---- */

void subscription_shaken(const char *uuid, bool late)
{
    for (size_t i = 0; i < world.n_subscriptions; i++) {
        struct subscription *s = &world.subscriptions[i];
        bool it = str_eq(s->uuid, uuid);
        s->shaken = s->shaken || it;
        s->surplus = s->surplus || (it && late && !world.dialects.facade);
    }
}

bool subscription_has_surplus(const char *uuid)
{
    bool has = false;
    for (size_t i = 0; i < world.n_subscriptions; i++) {
        has = has || (world.subscriptions[i].surplus && str_eq(world.subscriptions[i].uuid, uuid));
    }
    return has;
}

/* One more order says what is wanted anyway. */
static bool order_again(struct subscription *s)
{
    bool again = s->shaken && !world.breach[0];
    s->shaken = false;
    if (again && s->active) {
        order_created(s, SECOND);
    } else if (again && s->orders > 0) {
        order_terminated(s, SECOND);
    }
    return again;
}

/* The storm's end, and the promise. */
static void come_to_rest(void)
{
    bool again = false;
    settle();
    check_promise();
    for (size_t i = 0; i < world.n_subscriptions; i++) {
        again = order_again(&world.subscriptions[i]) || again;
    }
    if (again) {
        settle();
        check_promise();
    }
}

/* ---- what people mend ---- */

static void remove_foreign(const struct subscription *s)
{
    for (int p = 0; p < PRODUCT_MAX; p++) {
        struct upstream_world *u = &world.upstream[p];
        for (size_t i = 0; i < u->n_foreign; i++) {
            char name[320];
            snprintf(name, sizeof(name), "\"%s\"", s->name);
            bool removed = strstr(u->foreign_text[i], name) &&
                           product_remove((enum product)p, u->foreign_id[i]);
            if (removed) {
                sim_say("operator", "removes %s", u->foreign_text[i]);
                u->n_foreign--;
                free(u->foreign_id[i]);
                free(u->foreign_text[i]);
                u->foreign_id[i] = u->foreign_id[u->n_foreign];
                u->foreign_text[i] = u->foreign_text[u->n_foreign];
                i--;
            }
        }
    }
}

/* A conflict's cause goes: the foreign object is deleted, or the twin is given another number. */
static void mend(void)
{
    bool any = false;
    for (size_t i = 0; i < world.n_subscriptions; i++) {
        struct subscription *s = &world.subscriptions[i];
        const struct db_config *c = db_config(world.db, s->uuid);
        if (!s->doomed) {
            continue;
        }
        any = true;
        s->doomed = false;
        if (s->foreign_name) {
            remove_foreign(s);
        }
        if (!c && s->active) {
            s->number += 100 * ((int)i + 1); /* three may have shared one name */
            name_of(s);
            order_created(s, SECOND);
        }
    }
    if (any) {
        let_pass(3 * SECOND); /* Langflow takes its time to delete a user */
        replay(JOB_FAILED);
        settle();
        check_promise();
    }
}

/* ---- acts ---- */

static void act_orders(void)
{
    int64_t span = sim_between(2, sim_chance(0.1) ? 120 : 20) * SECOND;
    for (size_t i = 0; i < world.n_subscriptions; i++) {
        order_lives(&world.subscriptions[i], span / 2 + 1);
    }
    for (uint64_t n = sim_chance(0.4) ? 1 + sim_below(4) : 0; n > 0; n--) {
        post_malformed(span);
    }
    storm(span);
    come_to_rest();
    mend();
}

/* What is whole is changed. */
static void act_changes(void)
{
    int64_t span = sim_between(2, sim_chance(0.1) ? 60 : 20) * SECOND;
    for (size_t i = 0; i < world.n_subscriptions; i++) {
        struct subscription *s = &world.subscriptions[i];
        s->whole = s->active && !s->suspended && !s->doomed && !s->shaken;
        s->had_rag = s->rag;
        if (s->active && !s->doomed && sim_chance(0.6)) {
            order_change(s, span / 2);
            order_changes(s, span / 2);
        }
    }
    storm(span);
    come_to_rest();
}

static void act_terminations(void)
{
    int64_t span = sim_between(2, sim_chance(0.1) ? 60 : 12) * SECOND;
    for (size_t i = 0; i < world.n_subscriptions; i++) {
        struct subscription *s = &world.subscriptions[i];
        if (s->active && !world.breach[0]) {
            order_terminated(s, span / 2);
        }
    }
    storm(span);
    come_to_rest();
}

static void everybody_leaves(void)
{
    bool gently = sim_chance(0.5);
    for (size_t i = 0; i < world.n_procs; i++) {
        if (gently) {
            proc_drain(&world.procs[i]);
        }
    }
    let_pass(15 * SECOND);
    for (size_t i = 0; i < world.n_procs; i++) {
        proc_kill(&world.procs[i]);
    }
}

static void purge_due(void)
{
    int64_t before = database_now_us(NULL) - RETENTION_DAYS * DAY_US;
    for (size_t i = 0; i < world.n_subscriptions; i++) {
        struct subscription *s = &world.subscriptions[i];
        if (!s->active && db_retention_purge(world.db, s->uuid, before, REPLAY_DEADLINE_MS) > 0) {
            sim_say("cron", "purges %s", s->uuid);
        }
    }
}

/* The day before, nothing may go; on the day, all of it. */
static void act_retention(void)
{
    int64_t span = sim_between(2, 20) * SECOND;
    everybody_leaves();
    let_pass((RETENTION_DAYS - 1) * DAY_US);
    purge_due();
    (void)all_run();
    settle();
    check_promise();
    everybody_leaves();
    let_pass(2 * DAY_US);
    (void)all_run();
    let_pass(sim_between(0, 2 * SECOND));
    purge_due();
    for (size_t i = 0; i < world.n_subscriptions; i++) {
        struct subscription *s = &world.subscriptions[i];
        s->purged = !s->active;
        bool named = db_config(world.db, s->uuid) != NULL; /* else its name may be a twin's */
        if (named && sim_chance(0.15)) {                   /* restored, as it is taken away */
            order_created(s, span / 2);
        }
    }
    storm(span);
    come_to_rest();
}

/* Events that are days late may still be on their way. */
static void act_stragglers(void)
{
    if (world.posts == 0 || world.breach[0]) {
        return;
    }
    everybody_leaves();
    let_pass(6 * DAY_US);
    settle();
    check_promise();
}

/* ---- the seed ---- */

static void draw_dialects(struct dialects *d)
{
    static const char *const langflows[] = {"1.8", "1.10", "1.13"};
    static const char *const ragflows[] = {"0.27-python", "0.27-go"};
    *d = (struct dialects){.facade = sim_chance(0.5),
                           .keep = sim_chance(0.5),
                           .dedicated = sim_chance(0.4) ? (int)sim_between(1, 2) : 0,
                           .organization_max = sim_chance(0.4) ? sim_between(1, 4) : 200,
                           .runtime_max = sim_chance(0.4) ? sim_between(1, 4) : 500};
    if (!d->facade) {
        d->langflow = langflows[sim_below(ARRAY_LEN(langflows))];
        d->ragflow = ragflows[sim_below(ARRAY_LEN(ragflows))];
        /* Accounts cost a password under RSA each, which is most of such a seed's time. */
        d->tenancy = sim_chance(0.7)   ? TENANCY_SHARED
                     : sim_chance(0.5) ? TENANCY_ORGANIZATION
                                       : TENANCY_SUBSCRIPTION;
    }
}

static void on_violated(void *ctx, const char *what)
{
    (void)ctx;
    sim_breach("the database: %s", what);
}

static void begin(uint64_t seed, bool trace)
{
    world = (struct world){.seed = seed, .trace = trace};
    random_begin(seed);
    draw_dialects(&world.dialects);
    world.db_offset_us = sim_between(-3 * SECOND, 3 * SECOND);
    world.forgetful = sim_chance(0.15);
    world.renaming = sim_chance(0.15);
    world.late = sim_chance(0.1);
    world.n_partitions = (size_t)sim_between(1, PARTITIONS_MAX_SIM);
    /* How late a server may still act is what the setting says; 1.8 commits later than it answers.
     */
    world.late_max_ms = setup_config(&world.dialects, 0)->worker_probe_settle_ms - 100 -
                        (str_eq(world.dialects.langflow, "1.8") ? COMMIT_MAX_MS : 0);
    const struct db_options options = {
        .now_us = database_now_us, .notify = database_notify, .violated = on_violated};
    world.db = db_new(&options);
    check_begin();
    database_begin();
    kafka_begin(world.n_partitions);
    products_begin();
    make_subscriptions();
    plant_foreign();
    sim_say("seed",
            "%" PRIu64 ": %s %s %s, tenancy %d, %s, %zu subscriptions, %zu partitions, "
            "%d dedicated, %" PRId64 " and %" PRId64 " at once",
            seed, world.dialects.facade ? "facade" : "native", world.dialects.langflow,
            world.dialects.ragflow, world.dialects.tenancy, world.dialects.keep ? "kept" : "purged",
            world.n_subscriptions, world.n_partitions, world.dialects.dedicated,
            world.dialects.organization_max, world.dialects.runtime_max);
    world.n_procs = (size_t)sim_between(2, sim_chance(0.6) ? 3 : PROCS_MAX);
    for (size_t i = 0; i < world.n_procs; i++) {
        world.procs[i].slot = (int)i;
        proc_start(&world.procs[i]);
    }
}

static void end(void)
{
    for (size_t i = 0; i < world.n_procs; i++) {
        proc_kill(&world.procs[i]);
    }
    queue_end();
    kafka_end();
    products_end();
    db_free(world.db);
}

bool scenario_play(uint64_t seed, bool trace)
{
    static void (*const acts[])(void) = {act_orders, act_changes, act_terminations, act_retention,
                                         act_stragglers};
    begin(seed, trace);
    for (size_t i = 0; i < ARRAY_LEN(acts) && !world.breach[0]; i++) {
        if (acts[i] != act_retention || world.dialects.keep) {
            acts[i]();
        }
    }
    sim_say("end", "%s", world.breach[0] ? "the promise was broken" : "the promise was kept");
    end();
    return !world.breach[0];
}
