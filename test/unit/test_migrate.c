#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/str.h"
#include "store/migrate.h"
#include "store/pg.h"
#include "unit/pg_cluster.h"

static struct pg_cluster cluster;

#define FILE_(v, n, s)                                                                             \
    {                                                                                              \
        .version = (v), .name = (n), .sql = (s), .len = sizeof(s) - 1                              \
    }

static const struct migration three[] = {
    FILE_(1, "0001_one.sql", "create table one (id int);\ninsert into one values (1);\n"),
    FILE_(2, "0002_two.sql", "create table two (id int primary key);"),
    FILE_(5, "0005_five.sql", "insert into two select 7; insert into one values (2)"),
};

static PGconn *connect_(void)
{
    struct err err;
    err_clear(&err);
    PGconn *conn = pg_connect(cluster.url, "test_migrate", &err);
    if (!conn)
        fail_msg("%s", err.msg);
    return conn;
}

static void exec_(PGconn *conn, const char *sql)
{
    struct err err;
    PGresult *res = pg_query(conn, sql, 0, NULL, &err);
    if (!res)
        fail_msg("%s: %s", sql, err.msg);
    PQclear(res);
}

static int number(PGconn *conn, const char *sql)
{
    struct err err;
    PGresult *res = pg_query(conn, sql, 0, NULL, &err);
    if (!res)
        fail_msg("%s: %s", sql, err.msg);
    int64_t value = -1;
    assert_true(str_to_i64(PQgetvalue(res, 0, 0), &value));
    PQclear(res);
    return (int)value;
}

static int start_cluster(void **state)
{
    (void)state;
    return pg_cluster_start(&cluster);
}

static int end_cluster(void **state)
{
    (void)state;
    return pg_cluster_do("remove");
}

static int fresh(void **state)
{
    *state = connect_();
    exec_(*state, "drop schema if exists agent_marketplace cascade");
    return 0;
}

static int finish(void **state)
{
    PQfinish(*state);
    return 0;
}

struct said {
    int applied, pending, last;
};

static void say(void *ctx, const struct migration *m, bool applied)
{
    struct said *s = ctx;
    if (applied)
        s->applied++;
    else
        s->pending++;
    assert_true(m->version > s->last);
    s->last = m->version;
}

static int run(PGconn *conn, const struct migration *list, size_t n, struct migrate_report *report,
               struct err *err)
{
    err_clear(err);
    return migrate_run_list(conn, list, n, false, NULL, NULL, report, err);
}

static void applies_in_order_once(void **state)
{
    struct migrate_report report;
    struct said said = {0};
    struct err err;
    err_clear(&err);
    assert_int_equal(migrate_run_list(*state, three, 2, false, say, &said, &report, &err), 0);
    assert_int_equal(report.applied, 2);
    assert_int_equal(report.pending, 0);
    assert_int_equal(report.current, 2);
    assert_int_equal(said.applied, 2);
    assert_int_equal(run(*state, three, 3, &report, &err), 0);
    assert_int_equal(report.applied, 1);
    assert_int_equal(report.current, 5);
    assert_int_equal(run(*state, three, 3, &report, &err), 0);
    assert_int_equal(report.applied, 0);
    assert_int_equal(report.current, 5);
    assert_int_equal(number(*state, "select sum(id) from agent_marketplace.one"), 3);
    assert_int_equal(
        number(*state,
               "select count(*) from agent_marketplace.schema_migration"
               " where length(checksum) = 64 and name ~ '^000[125]_' and applied_at <= now()"),
        3);
    /* The lock is given back and the session left as it was. */
    assert_int_equal(number(*state, "select count(*) from pg_locks where locktype = 'advisory'"),
                     0);
    assert_int_equal(number(*state, "select count(*) from pg_settings where name = 'lock_timeout'"
                                    " and setting <> '0'"),
                     0);
}

static void check_only_tells(void **state)
{
    struct migrate_report report;
    struct said said = {0};
    struct err err;
    err_clear(&err);
    assert_int_equal(migrate_run_list(*state, three, 3, true, say, &said, &report, &err), 0);
    assert_int_equal(report.pending, 3);
    assert_int_equal(report.current, 0);
    assert_int_equal(said.pending, 3);
    assert_int_equal(number(*state, "select count(*) from pg_namespace"
                                    " where nspname = 'agent_marketplace'"),
                     0);
    assert_int_equal(run(*state, three, 1, &report, &err), 0);
    assert_int_equal(migrate_run_list(*state, three, 3, true, NULL, NULL, &report, &err), 0);
    assert_int_equal(report.pending, 2);
    assert_int_equal(report.applied, 0);
    assert_int_equal(report.current, 1);
}

static void refuses_what_was_changed(void **state)
{
    struct migrate_report report = {.applied = 77};
    struct err err;
    struct migration changed[] = {three[0], FILE_(2, "0002_two.sql", "create table two (id int);")};
    assert_int_equal(run(*state, three, 2, &report, &err), 0);
    report.applied = 77;
    assert_int_equal(run(*state, changed, 2, &report, &err), -1);
    assert_int_equal(err.class, ERR_CONFLICT);
    assert_non_null(strstr(err.msg, "0002_two.sql"));
    assert_int_equal(report.applied, 77);
    assert_int_equal(migrate_run_list(*state, changed, 2, true, NULL, NULL, &report, &err), -1);
    assert_int_equal(err.class, ERR_CONFLICT);
}

static void refuses_a_newer_database(void **state)
{
    struct migrate_report report;
    struct err err;
    assert_int_equal(run(*state, three, 3, &report, &err), 0);
    assert_int_equal(run(*state, three, 2, &report, &err), -1);
    assert_int_equal(err.class, ERR_CONFLICT);
    assert_non_null(strstr(err.msg, "version 5"));
    assert_non_null(strstr(err.msg, "newer"));
}

static void refuses_holes(void **state)
{
    static const struct migration late[] = {
        FILE_(1, "0001_one.sql", "create table one (id int);\ninsert into one values (1);\n"),
        FILE_(2, "0002_two.sql", "create table two (id int primary key);"),
        FILE_(4, "0004_late.sql", "select 1"),
        FILE_(5, "0005_five.sql", "insert into two select 7; insert into one values (2)"),
    };
    const struct migration without[] = {three[0], three[2]};
    const struct migration unordered[] = {three[1], three[0]};
    struct migrate_report report;
    struct err err;
    assert_int_equal(run(*state, unordered, 2, &report, &err), -1);
    assert_int_equal(err.class, ERR_INTERNAL);
    assert_int_equal(run(*state, three, 3, &report, &err), 0);
    assert_int_equal(run(*state, late, 4, &report, &err), -1);
    assert_int_equal(err.class, ERR_CONFLICT);
    assert_non_null(strstr(err.msg, "0004_late.sql"));
    assert_int_equal(run(*state, without, 2, &report, &err), -1);
    assert_int_equal(err.class, ERR_CONFLICT);
    assert_non_null(strstr(err.msg, "0002_two.sql"));
}

static void expect_failure(PGconn *conn, const char *sql, const char *where, const char *sqlstate)
{
    const struct migration list[] = {three[0], {9, "0009_bad.sql", sql, strlen(sql)}};
    struct migrate_report report;
    struct err err;
    assert_int_equal(run(conn, list, 2, &report, &err), -1);
    if (!str_starts(err.msg, where))
        fail_msg("expected %s, got: %s", where, err.msg);
    assert_string_equal(err.sqlstate, sqlstate);
    /* Nothing of it stays, what came before does, and the connection is usable. */
    assert_int_equal(number(conn, "select max(version) from agent_marketplace.schema_migration"),
                     1);
    assert_int_equal(
        number(conn, "select count(*) from pg_class where relname in ('bad', 'worse')"), 0);
    assert_int_equal(number(conn, "select count(*) from pg_locks where locktype = 'advisory'"), 0);
}

static void tells_file_and_line(void **state)
{
    /* A position from the parser, behind characters of more than one byte. */
    expect_failure(*state, "create table bad (id int);\n-- \xc3\xa4\xc3\xb6\xc3\xbc\n\nselekt 1;\n",
                   "0009_bad.sql:4: ", "42601");
    /* An unknown column has a position of its own in the middle of a statement. */
    expect_failure(*state, "create table bad (id int);\nselect id,\n  nope\nfrom bad;",
                   "0009_bad.sql:3: ", "42703");
    /* A failure at run time has none: the statement's first line. */
    expect_failure(
        *state,
        "create table bad (id int);\n"
        "create function worse() returns int language sql as $f$ select 1; $f$;\n"
        "/* ; /* ; */ */ insert into bad values (';'\n::text::char::\"char\"::text = ';')"
        ";\n\nselect 1 / 0;",
        "0009_bad.sql:3: ", "42804");
    expect_failure(*state,
                   "create table bad (id int); -- it's ; quoted\n"
                   "create function worse() returns int language sql as $f$ select ';'::int; $f$;\n"
                   "select 'it''s;', E'\\';', \"relname;\" from (select 1 as \"relname;\") x;\n"
                   ";;\n\n  select 1 /\n 0;",
                   "0009_bad.sql:2: ", "22P02");
    expect_failure(*state,
                   "create table bad (id int); -- it's ; quoted\n"
                   "select 'it''s;', E'\\';', \"relname;\" from (select 1 as \"relname;\") x;\n"
                   "do $$ begin perform 1; perform 2; end $$;;;\n\n  insert into bad\n"
                   " select 1 / (random() * 0)::int;",
                   "0009_bad.sql:5: ", "22012");
}

static void statement_lines(void **state)
{
    (void)state;
    assert_int_equal(migrate_statement_line("select 1", 0), 1);
    assert_int_equal(migrate_statement_line("\n\n select 1;\n;\n;select 2", 1), 5);
    assert_int_equal(migrate_statement_line("create rule r as on insert to a do (b;\nc);\nd", 1),
                     3);
    assert_int_equal(migrate_statement_line("select $1;\nselect $a$;$b$;$a$;\nx", 2), 3);
    assert_int_equal(migrate_statement_line("a;\n'unfinished ; \n", 7), 3);
    assert_int_equal(migrate_statement_line("", 3), 1);
    assert_int_equal(migrate_statement_line("/* unfinished", 0), 1);
    assert_int_equal(migrate_statement_line("x$$", 0), 1);
}

static void refuses_own_transactions_and_copy(void **state)
{
    struct migrate_report report;
    struct err err;
    static const struct migration commits[] = {
        FILE_(1, "0001_c.sql", "select 1; commit; select 2")};
    static const struct migration copies[] = {
        FILE_(1, "0001_copy.sql", "create table bad (id int);\ncopy bad from stdin;")};
    static const struct migration nul[] = {FILE_(1, "0001_nul.sql", "select 1;\0select 2;")};
    assert_int_equal(run(*state, commits, 1, &report, &err), -1);
    assert_int_equal(err.class, ERR_INVALID);
    assert_int_equal(run(*state, copies, 1, &report, &err), -1);
    assert_int_equal(err.class, ERR_INVALID);
    assert_non_null(strstr(err.msg, "0001_copy.sql:2"));
    assert_int_equal(run(*state, nul, 1, &report, &err), -1);
    assert_int_equal(err.class, ERR_INVALID);
    assert_int_equal(number(*state, "select count(*) from pg_class where relname = 'bad'"), 0);
    assert_int_equal(number(*state, "select count(*) from agent_marketplace.schema_migration"), 0);
}

static void deferred_constraint_fails_its_file(void **state)
{
    static const struct migration list[] = {
        FILE_(1, "0001_d.sql",
              "create table d (id int unique deferrable initially deferred);"
              "insert into d values (1), (1);")};
    struct migrate_report report;
    struct err err;
    assert_int_equal(run(*state, list, 1, &report, &err), -1);
    assert_string_equal(err.sqlstate, "23505");
    assert_true(str_starts(err.msg, "0001_d.sql"));
    assert_int_equal(number(*state, "select count(*) from agent_marketplace.schema_migration"), 0);
}

static const struct migration slow[] = {
    FILE_(1, "0001_s.sql", "create table s (id int); select pg_sleep(0.05)"),
    FILE_(2, "0002_s.sql", "insert into s values (1); select pg_sleep(0.05)"),
    FILE_(3, "0003_s.sql", "insert into s values (2); select pg_sleep(0.05)"),
};

struct racer {
    pthread_t thread;
    int rc, applied, current;
    struct err err;
};

static void *race(void *arg)
{
    struct racer *r = arg;
    struct migrate_report report = {0};
    err_clear(&r->err);
    PGconn *conn = pg_connect(cluster.url, "racer", &r->err);
    r->rc = conn ? migrate_run_list(conn, slow, 3, false, NULL, NULL, &report, &r->err) : -1;
    r->applied = report.applied;
    r->current = report.current;
    PQfinish(conn);
    return NULL;
}

static void runs_at_once_are_safe(void **state)
{
    struct racer racers[6];
    int applied = 0;
    for (size_t i = 0; i < ARRAY_LEN(racers); i++)
        assert_int_equal(pthread_create(&racers[i].thread, NULL, race, &racers[i]), 0);
    for (size_t i = 0; i < ARRAY_LEN(racers); i++) {
        pthread_join(racers[i].thread, NULL);
        if (racers[i].rc != 0)
            fail_msg("%s", racers[i].err.msg);
        assert_int_equal(racers[i].current, 3);
        applied += racers[i].applied;
    }
    assert_int_equal(applied, 3);
    assert_int_equal(number(*state, "select count(*) from agent_marketplace.s"), 2);
}

static void works_without_the_right_to_create_schemas(void **state)
{
    struct migrate_report report;
    struct err err;
    assert_int_equal(run(*state, three, 2, &report, &err), 0);
    PGconn *admin = pg_connect(cluster.admin, "test_migrate", &err);
    assert_non_null(admin);
    exec_(admin, "alter database provisioner owner to postgres");
    exec_(admin, "revoke create on database provisioner from provisioner, public");
    int rc = run(*state, three, 3, &report, &err);
    exec_(admin, "alter database provisioner owner to provisioner");
    PQfinish(admin);
    if (rc != 0)
        fail_msg("%s", err.msg);
    assert_int_equal(report.applied, 1);
}

static void closed_connection(void **state)
{
    (void)state;
    struct migrate_report report;
    struct err err;
    PGconn *conn = connect_();
    static const struct migration list[] = {
        FILE_(1, "0001_end.sql", "select pg_terminate_backend(pg_backend_pid())")};
    assert_int_equal(run(conn, list, 1, &report, &err), -1);
    assert_int_equal(err.class, ERR_UNAVAILABLE);
    assert_string_equal(err.sqlstate, "57P01");
    assert_int_equal(run(conn, list, 1, &report, &err), -1);
    assert_int_equal(err.class, ERR_UNAVAILABLE);
    PQfinish(conn);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(statement_lines),
        cmocka_unit_test_setup_teardown(applies_in_order_once, fresh, finish),
        cmocka_unit_test_setup_teardown(check_only_tells, fresh, finish),
        cmocka_unit_test_setup_teardown(refuses_what_was_changed, fresh, finish),
        cmocka_unit_test_setup_teardown(refuses_a_newer_database, fresh, finish),
        cmocka_unit_test_setup_teardown(refuses_holes, fresh, finish),
        cmocka_unit_test_setup_teardown(tells_file_and_line, fresh, finish),
        cmocka_unit_test_setup_teardown(refuses_own_transactions_and_copy, fresh, finish),
        cmocka_unit_test_setup_teardown(deferred_constraint_fails_its_file, fresh, finish),
        cmocka_unit_test_setup_teardown(runs_at_once_are_safe, fresh, finish),
        cmocka_unit_test_setup_teardown(works_without_the_right_to_create_schemas, fresh, finish),
        cmocka_unit_test_setup_teardown(closed_connection, fresh, finish),
    };
    return cmocka_run_group_tests(tests, start_cluster, end_cluster);
}
