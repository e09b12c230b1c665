#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "base/str.h"
#include "machine/machine.h"
#include "store/migrate.h"

/* The migrations' text as one string: the tables in it are compared with the machine's. */
static char *schema_text(void)
{
    struct buf b;
    buf_init(&b, 4 * 1024 * 1024);
    for (size_t i = 0; i < n_migrations; i++) {
        buf_add(&b, migrations[i].sql, migrations[i].len);
    }
    return buf_steal(&b);
}

static size_t count(const char *text, const char *needle)
{
    size_t n = 0;
    for (const char *at = strstr(text, needle); at; at = strstr(at + 1, needle)) {
        n++;
    }
    return n;
}

/* A later migration lays down some kinds' plans anew: theirs count, those before it do not. */
static char *plan_rows(const char *schema)
{
    static const char head[] = "INSERT INTO job_plan (kind, position, step) VALUES";
    static const char gone[] = "DELETE FROM job_plan WHERE kind IN (";
    struct buf rows;
    buf_init(&rows, 64 * 1024);
    for (const char *at = strstr(schema, head); at; at = strstr(at + 1, head)) {
        const char *end = strchr(at, ';');
        const char *later = strstr(at, gone);
        for (const char *row = strstr(at, "('"); row && row < end; row = strstr(row + 1, "('")) {
            size_t kind = strcspn(row + 2, "'") + 2; /* with both quotes */
            const char *named = later ? memmem(later, strcspn(later, ";"), row + 1, kind) : NULL;
            if (!named) {
                buf_add(&rows, row, strcspn(row, ")") + 1);
            }
        }
    }
    return buf_steal(&rows);
}

/* The rows of every such INSERT, as text, each up to its semicolon. */
static char *insert_rows(const char *schema, const char *head)
{
    struct buf rows;
    buf_init(&rows, 64 * 1024);
    assert_non_null(strstr(schema, head));
    for (const char *at = strstr(schema, head); at; at = strstr(at + 1, head)) {
        const char *end = strchr(at, ';');
        assert_non_null(end);
        buf_add(&rows, at + strlen(head), (size_t)(end - at) - strlen(head));
    }
    return buf_steal(&rows);
}

static void test_edges_are_the_databases(void **state)
{
    (void)state;
    char *schema = schema_text();
    char *rows = insert_rows(schema, "INSERT INTO job_edge (from_state, to_state) VALUES");
    size_t edges = 0;
    for (int from = 0; from < JOB_STATE_MAX; from++) {
        for (int to = 0; to < JOB_STATE_MAX; to++) {
            char row[64];
            snprintf(row, sizeof(row), "('%s', '%s')", job_state_name((enum job_state)from),
                     job_state_name((enum job_state)to));
            bool there = strstr(rows, row) != NULL;
            assert_int_equal(there, machine_may((enum job_state)from, (enum job_state)to));
            edges += there;
        }
    }
    assert_int_equal(edges, count(rows, "("));
    free(rows);
    free(schema);
}

static void test_plans_are_the_databases(void **state)
{
    (void)state;
    char *schema = schema_text();
    char *rows = plan_rows(schema);
    size_t total = 0;
    for (int kind = 0; kind < KIND_MAX; kind++) {
        size_t n = 0;
        const enum job_step *steps = machine_plan((enum job_kind)kind, &n);
        for (size_t i = 0; i < n; i++) {
            char row[96];
            snprintf(row, sizeof(row), "('%s', %zu, '%s')", job_kind_name((enum job_kind)kind),
                     i + 1, job_step_name(steps[i]));
            if (!strstr(rows, row)) {
                fail_msg("the database lacks %s", row);
            }
            assert_int_equal(machine_next((enum job_kind)kind, steps[i]),
                             i + 1 < n ? steps[i + 1] : STEP_MAX);
        }
        total += n;
    }
    assert_int_equal(total, count(rows, "("));
    free(rows);
    free(schema);
}

static void test_names_round_trip(void **state)
{
    (void)state;
    for (int s = 0; s < JOB_STATE_MAX; s++) {
        assert_int_equal(job_state_parse(job_state_name((enum job_state)s)), s);
        /* Whatever has ended may not come back, but what failed or was cancelled, by a person's
         * wish. */
        bool ended = !machine_live((enum job_state)s) && s != JOB_FAILED && s != JOB_CANCELLED;
        for (int to = 0; ended && to < JOB_STATE_MAX; to++) {
            assert_false(machine_may((enum job_state)s, (enum job_state)to));
        }
    }
    for (int k = 0; k < KIND_MAX; k++) {
        assert_int_equal(job_kind_parse(job_kind_name((enum job_kind)k)), k);
    }
    for (int s = 0; s < STEP_MAX; s++) {
        assert_int_equal(job_step_parse(job_step_name((enum job_step)s)), s);
    }
    assert_int_equal(job_state_parse("Queued"), JOB_STATE_MAX);
    assert_int_equal(job_step_parse(NULL), STEP_MAX);
}

static struct action act(enum job_kind kind, enum job_step step, struct facts facts)
{
    return machine_action(kind, step, &facts);
}

static void assert_drive(struct action a, enum product product, enum goal goal)
{
    assert_int_equal(a.kind, ACTION_DRIVE);
    assert_int_equal(a.product, product);
    assert_int_equal(a.goal, goal);
}

static void test_actions(void **state)
{
    (void)state;
    struct facts rag = {.named = true, .rag = true};
    assert_drive(act(KIND_PROVISION, STEP_COLLECTION, rag), PRODUCT_RAGFLOW, GOAL_PRESENT);
    assert_drive(act(KIND_PROVISION, STEP_WORKSPACE, rag), PRODUCT_LANGFLOW, GOAL_PRESENT);
    /* Retrieval dropped by a later order: what was made for it goes. */
    assert_drive(
        act(KIND_PROVISION, STEP_COLLECTION, (struct facts){.named = true, .has_collection = true}),
        PRODUCT_RAGFLOW, GOAL_ABSENT);
    assert_int_equal(act(KIND_PROVISION, STEP_COLLECTION, (struct facts){.named = true}).kind,
                     ACTION_PASS);
    /* A failed provision may have left one that nothing records. */
    assert_drive(act(KIND_TERMINATE, STEP_COLLECTION, rag), PRODUCT_RAGFLOW, GOAL_ABSENT);
    assert_drive(act(KIND_TERMINATE, STEP_CLOSE_WORKSPACE,
                     (struct facts){.named = true, .keep_history = true}),
                 PRODUCT_LANGFLOW, GOAL_CLOSED);
    assert_drive(act(KIND_TERMINATE, STEP_CLOSE_WORKSPACE, rag), PRODUCT_LANGFLOW, GOAL_ABSENT);
    assert_drive(act(KIND_PURGE, STEP_WORKSPACE, rag), PRODUCT_LANGFLOW, GOAL_ABSENT);
    /* Terminated before anything was named: nothing can exist, nothing is touched. */
    assert_int_equal(
        act(KIND_TERMINATE, STEP_CLOSE_WORKSPACE, (struct facts){.keep_history = true}).kind,
        ACTION_PASS);
    assert_int_equal(act(KIND_TERMINATE, STEP_COLLECTION, (struct facts){.rag = true}).kind,
                     ACTION_PASS);
    assert_int_equal(act(KIND_PROVISION, STEP_REPORT, rag).kind, ACTION_PASS);
    assert_int_equal(act(KIND_PROVISION, STEP_RECORD, rag).kind, ACTION_RECORD_READY);
    assert_int_equal(act(KIND_PURGE, STEP_RECORD, rag).kind, ACTION_ARCHIVE);
}

static void test_actions_of_changes(void **state)
{
    (void)state;
    struct facts rag = {.named = true, .rag = true, .has_collection = true, .keep_history = true};
    struct facts dropped = {.named = true, .has_collection = true};
    const enum job_kind kinds[] = {KIND_UPDATE, KIND_RESUME};
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        assert_int_equal(act(kinds[i], STEP_NAME, rag).kind, ACTION_FREEZE_NAME);
        assert_drive(act(kinds[i], STEP_COLLECTION, rag), PRODUCT_RAGFLOW, GOAL_PRESENT);
        assert_drive(act(kinds[i], STEP_COLLECTION, dropped), PRODUCT_RAGFLOW, GOAL_ABSENT);
        assert_int_equal(act(kinds[i], STEP_API_KEY, rag).kind, ACTION_ISSUE_KEY);
        assert_int_equal(act(kinds[i], STEP_RECORD, rag).kind, ACTION_RECORD_READY);
    }
    assert_drive(act(KIND_UPDATE, STEP_WORKSPACE, rag), PRODUCT_LANGFLOW, GOAL_PRESENT);
    assert_drive(act(KIND_RESUME, STEP_OPEN_WORKSPACE, rag), PRODUCT_LANGFLOW, GOAL_PRESENT);
    /* Whatever retention says: what is suspended is closed, never deleted, and keeps its key. */
    assert_int_equal(act(KIND_SUSPEND, STEP_REVOKE, rag).kind, ACTION_REFUSE_KEYS);
    assert_drive(act(KIND_SUSPEND, STEP_CLOSE_WORKSPACE, rag), PRODUCT_LANGFLOW, GOAL_CLOSED);
    assert_drive(act(KIND_SUSPEND, STEP_CLOSE_WORKSPACE, dropped), PRODUCT_LANGFLOW, GOAL_CLOSED);
    assert_int_equal(act(KIND_SUSPEND, STEP_CLOSE_WORKSPACE, (struct facts){0}).kind, ACTION_PASS);
    assert_int_equal(act(KIND_SUSPEND, STEP_RECORD, rag).kind, ACTION_RECORD_SUSPENDED);
    size_t n = 0;
    const enum job_step *steps = machine_plan(KIND_SUSPEND, &n);
    for (size_t i = 0; i < n; i++) {
        assert_int_not_equal(steps[i], STEP_COLLECTION);
    }
}

static const struct retry_policy policy = {.initial_ms = 1000, .max_ms = 300000, .factor = 2};

static struct verdict judge(enum err_class class, int attempts, int64_t left, int64_t retry_after,
                            uint64_t random)
{
    struct err e;
    err_set(&e, class, "x");
    e.retry_after_ms = retry_after;
    return machine_judge(&e, attempts, left, &policy, random);
}

static void test_judge_classes(void **state)
{
    (void)state;
    const enum err_class again[] = {ERR_UNAVAILABLE, ERR_UNKNOWN, ERR_INTERNAL};
    const enum err_class never[] = {ERR_INVALID, ERR_REFUSED, ERR_CONFLICT, ERR_GONE};
    for (size_t i = 0; i < ARRAY_LEN(again); i++) {
        assert_int_equal(judge(again[i], 0, 1000, -1, 7).to, JOB_RETRYING);
        assert_true(judge(again[i], 0, 1000, -1, 7).counts);
        struct verdict late = judge(again[i], 3, 0, -1, 7);
        assert_int_equal(late.to, JOB_FAILED);
        assert_true(late.out_of_time);
    }
    for (size_t i = 0; i < ARRAY_LEN(never); i++) {
        assert_int_equal(judge(never[i], 0, 1000000, -1, 7).to, JOB_FAILED);
        assert_false(judge(never[i], 0, 1000000, -1, 7).out_of_time);
    }
    struct verdict told = judge(ERR_THROTTLED, 4, 1000000, 17000, 7);
    assert_int_equal(told.to, JOB_RETRYING);
    assert_int_equal(told.delay_ms, 17000);
    assert_false(told.counts);
    assert_int_equal(judge(ERR_THROTTLED, 9, 1000000, 17000, UINT64_MAX).delay_ms, 17000);
    assert_true(judge(ERR_THROTTLED, 0, 1000000, 0, 7).delay_ms >= 50); /* no storm */
    assert_int_equal(judge(ERR_THROTTLED, 0, 1, INT64_C(365) * 86400 * 1000, 7).delay_ms, 3600000);
    struct verdict held = judge(ERR_UNAUTHORIZED, 4, -1, -1, 7);
    assert_int_equal(held.to,
                     JOB_HELD); /* even past the deadline: fail nothing for a bad credential */
    assert_false(held.counts);
}

static void test_backoff_is_bounded_and_spread(void **state)
{
    (void)state;
    struct rng r;
    uint64_t seed = 20261121;
    rng_seed(&r, seed);
    print_message("seed %llu\n", (unsigned long long)seed);
    for (int attempts = 0; attempts < 64; attempts++) {
        int64_t ceiling = attempts < 9 ? 1000 << attempts : 300000;
        if (ceiling > 300000) {
            ceiling = 300000;
        }
        int64_t least = INT64_MAX, most = 0;
        for (int i = 0; i < 500; i++) {
            int64_t d = judge(ERR_UNAVAILABLE, attempts, 1, -1, rng_next(&r)).delay_ms;
            assert_in_range(d, 50, ceiling);
            least = d < least ? d : least;
            most = d > most ? d : most;
        }
        assert_true(least < ceiling / 4 && most > ceiling * 3 / 4);
    }
}

static void test_graph_tells_every_edge(void **state)
{
    (void)state;
    struct buf b;
    buf_init(&b, 64 * 1024);
    assert_int_equal(machine_mermaid(&b), 0);
    for (int from = 0; from < JOB_STATE_MAX; from++) {
        for (int to = 0; to < JOB_STATE_MAX; to++) {
            char line[80];
            snprintf(line, sizeof(line), "    %s --> %s\n", job_state_name((enum job_state)from),
                     job_state_name((enum job_state)to));
            assert_int_equal(strstr(buf_str(&b), line) != NULL,
                             machine_may((enum job_state)from, (enum job_state)to));
        }
    }
    assert_non_null(strstr(buf_str(&b), "terminate_revoke[revoke] --> terminate_close_workspace"));
    buf_done(&b);
}

/* README.md shows the machine: it has to be this one. README_FILE comes from the build. */
static void test_readme_shows_this_machine(void **state)
{
    (void)state;
    static char readme[256 * 1024];
    FILE *f = fopen(README_FILE, "rb");
    assert_non_null(f);
    size_t n = fread(readme, 1, sizeof(readme) - 1, f);
    fclose(f);
    readme[n] = '\0';
    struct buf b;
    buf_init(&b, 64 * 1024);
    assert_int_equal(machine_mermaid(&b), 0);
    if (!strstr(readme, buf_str(&b))) {
        fail_msg("README.md does not hold what `provisioner graph` prints; paste it there");
    }
    buf_done(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_edges_are_the_databases),
        cmocka_unit_test(test_plans_are_the_databases),
        cmocka_unit_test(test_names_round_trip),
        cmocka_unit_test(test_actions),
        cmocka_unit_test(test_actions_of_changes),
        cmocka_unit_test(test_judge_classes),
        cmocka_unit_test(test_backoff_is_bounded_and_spread),
        cmocka_unit_test(test_graph_tells_every_edge),
        cmocka_unit_test(test_readme_shows_this_machine),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
