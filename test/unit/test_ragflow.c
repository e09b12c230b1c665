#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "ragflow/native.h"
#include "ragflow_sim.h"

static const char *const profiles[] = {"0.27-python", "0.27-go"};
static const enum driver_tenancy tenancies[] = {TENANCY_SHARED, TENANCY_ORGANIZATION,
                                                TENANCY_SUBSCRIPTION};

/* ---- how many requests it takes ---- */

/* Facts about the site apart: version, language, and whose the key is. */
static void shared_bars(void **state)
{
    struct sim w;
    (void)state;
    sim_begin(&w, "0.27-python", TENANCY_SHARED);
    assert_true(sim_run(&w, DRIVER_PRESENT));
    sim_check_present(&w);
    assert_int_equal(w.requests, 3 + 4);
    assert_int_equal(w.changes, 2);
    assert_true(w.site->known);
    assert_string_equal(w.site->version, "v0.27.0");
    assert_string_equal(w.site->server, "python");
    assert_true(sim_run(&w, DRIVER_PRESENT));
    assert_int_equal(w.requests, 1);
    sim_check_present(&w);
    assert_true(sim_run(&w, DRIVER_ABSENT));
    sim_check_absent(&w);
    assert_true(sim_run(&w, DRIVER_PRESENT));
    assert_int_equal(w.requests, 4);
    sim_end(&w);
}

/* All three ways, on both servers: fresh (the site's facts included), steady, and gone again. */
static void tenant_bars(void **state)
{
    static const int fresh[3] = {3 + 4, 5 + 8, 5 + 8};
    static const int gone[2][3] = {{6, 8, 12}, {7, 9, 13}};
    (void)state;
    for (size_t p = 0; p < ARRAY_LEN(profiles); p++) {
        for (size_t i = 0; i < ARRAY_LEN(tenancies); i++) {
            struct sim w;
            sim_begin(&w, profiles[p], tenancies[i]);
            assert_true(sim_run(&w, DRIVER_PRESENT));
            sim_check_present(&w);
            assert_int_equal(w.requests, fresh[i]);
            assert_true(sim_run(&w, DRIVER_PRESENT));
            assert_int_equal(w.requests, 1);
            sim_check_present(&w);
            assert_true(sim_run(&w, DRIVER_ABSENT));
            assert_int_equal(w.requests, gone[p][i]);
            sim_check_absent(&w);
            assert_int_equal(sim_count_users(&w), tenancies[i] == TENANCY_ORGANIZATION);
            sim_end(&w);
        }
    }
}

/* The Go server's marker name is not looked up where no create is open. One that landed
 * nevertheless is found by its having that name, and is used. */
static void a_go_dataset_that_landed_late_is_taken(void **state)
{
    struct sim w;
    char id[33];
    (void)state;
    sim_begin(&w, "0.27-go", TENANCY_SHARED);
    sim_plant(&w, "{\"name\":\"" SIM_MARKER "\",\"embedding_model\":\"" SIM_MODEL "\"}", id);
    assert_true(sim_run(&w, DRIVER_PRESENT));
    assert_string_equal(w.id, id);
    sim_check_present(&w);
    sim_end(&w);
}

static void without_overlap_there_is_nothing_to_update(void **state)
{
    struct sim w;
    (void)state;
    sim_begin(&w, "0.27-python", TENANCY_SHARED);
    w.t.chunk_overlap = 0;
    assert_true(sim_run(&w, DRIVER_PRESENT));
    assert_int_equal(w.requests, 3 + 3);
    sim_end(&w);
}

/* ---- cut off ---- */

/* After the fault, whatever came of it, an undisturbed run ends well. */
static void converge(struct sim *w, enum driver_goal goal, enum cut cut, int at)
{
    w->cut = cut;
    w->cut_at = at;
    bool done = sim_run(w, goal);
    w->cut_at = 0;
    for (int i = 0; i < 3 && !done; i++) {
        if (!w->dead && w->end.err.class != ERR_UNKNOWN && w->end.err.class != ERR_UNAVAILABLE &&
            w->end.err.class != ERR_UNAUTHORIZED) {
            SIM_BROKEN(w, "fault %d at request %d ended for good: %s", (int)cut, at,
                       w->end.err.msg);
        }
        done = sim_run(w, goal);
    }
    if (!done) {
        SIM_BROKEN(w, "fault %d at request %d: %s", (int)cut, at, w->end.err.msg);
    }
}

static void check_neighbours(struct sim *w, int planted)
{
    cJSON *objects = product_objects(&w->p);
    const cJSON *one = NULL;
    int n = 0;
    int64_t changes = 0;
    cJSON_ArrayForEach(one, objects)
    {
        if (!sim_is_ours(json_get(one, "object"))) {
            n++;
            assert_true(json_i64(one, "changes", &changes));
            if (changes != 0) {
                SIM_BROKEN(w, "a neighbour was changed");
            }
        }
    }
    cJSON_Delete(objects);
    if (n != planted) {
        SIM_BROKEN(w, "%d neighbours, not %d", n, planted);
    }
}

static int count_requests(const char *profile, enum driver_tenancy tenancy, enum driver_goal goal)
{
    struct sim w;
    sim_begin(&w, profile, tenancy);
    assert_true(sim_run(&w, DRIVER_PRESENT));
    if (goal == DRIVER_ABSENT) {
        assert_true(sim_run(&w, DRIVER_ABSENT));
    }
    int n = w.requests;
    sim_end(&w);
    return n;
}

static void cut_at(const char *profile, enum driver_tenancy tenancy, enum driver_goal goal,
                   enum cut cut, int at)
{
    struct sim w;
    char id[33];
    sim_begin(&w, profile, tenancy);
    sim_plant(&w, "{\"name\":\"other\",\"description\":\"" SIM_OTHER "\"}", id);
    if (goal == DRIVER_ABSENT) {
        assert_true(sim_run(&w, DRIVER_PRESENT));
        sim_new_site(&w);
        converge(&w, DRIVER_ABSENT, cut, at);
        sim_land(&w);
        sim_check_absent(&w);
    } else {
        converge(&w, DRIVER_PRESENT, cut, at);
        sim_land(&w);
        sim_check_present(&w);
        assert_true(sim_run(&w, DRIVER_ABSENT));
        sim_check_absent(&w);
    }
    check_neighbours(&w, 1);
    sim_end(&w);
}

static void every_fault_at_every_request(void **state)
{
    int n = 0;
    (void)state;
    for (size_t p = 0; p < ARRAY_LEN(profiles); p++) {
        for (size_t t = 0; t < ARRAY_LEN(tenancies); t++) {
            for (int g = 0; g < 2; g++) {
                enum driver_goal goal = g ? DRIVER_ABSENT : DRIVER_PRESENT;
                int requests = count_requests(profiles[p], tenancies[t], goal) + 3;
                for (int cut = CUT_BEFORE; cut < CUT_KINDS; cut++) {
                    for (int at = 1; at <= requests; at++, n++) {
                        cut_at(profiles[p], tenancies[t], goal, (enum cut)cut, at);
                    }
                }
            }
        }
    }
    print_message("%d faults\n", n);
}

/* ---- versions ---- */

static void old_servers_are_refused(void **state)
{
    static const char *const versions[] = {NULL, "v0.24.0", "v0.25.1", "0.25.0", "v0.1.99"};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(versions); i++) {
        for (int goal = 0; goal < 2; goal++) {
            struct sim w;
            char id[33], settings[64];
            sim_begin(&w, versions[i] ? "0.27-python" : "0.24", TENANCY_SHARED);
            snprintf(settings, sizeof(settings), "{\"version\":\"%s\"}",
                     versions[i] ? versions[i] : "v0.24.0");
            sim_put(&w, settings);
            sim_plant(&w, "{\"name\":\"" SIM_NAME "\",\"description\":\"" SIM_MARKER "\"}", id);
            str_copy(w.id, sizeof(w.id), id);
            assert_false(sim_run(&w, goal ? DRIVER_PRESENT : DRIVER_ABSENT));
            assert_int_equal(w.end.err.class, ERR_UNAVAILABLE);
            assert_non_null(strstr(w.end.err.msg, "0.25.2"));
            assert_int_equal(w.last.health, HEALTH_AS_SAID);
            assert_int_equal(w.last.err.class, ERR_UNAVAILABLE);
            assert_int_equal(w.changes, 0);
            assert_int_equal(w.requests, 1);
            assert_false(w.site->known);
            /* Upgraded, it is used without anybody saying so. */
            if (versions[i]) {
                sim_put(&w, "{\"version\":\"v0.27.1\"}");
                assert_true(sim_run(&w, DRIVER_ABSENT));
            }
            sim_end(&w);
        }
    }
}

static void versions_decide_what_is_asked(void **state)
{
    static const struct {
        const char *version, *server;
        int facts;
    } cases[] = {{"v0.25.2", "python", 2}, {"v0.26.3", "python", 2}, {"0.27.0-rc1", "go", 3},
                 {"unknown", "go", 3},     {"nightly", "go", 3},     {"v1.0.0", "go", 3}};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct sim w;
        char settings[64];
        sim_begin(&w, "0.27-go", TENANCY_SHARED);
        snprintf(settings, sizeof(settings), "{\"version\":\"%s\"}", cases[i].version);
        sim_put(&w, settings);
        w.t.observe = true;
        assert_true(sim_run(&w, DRIVER_PRESENT));
        assert_int_equal(w.requests, cases[i].facts + (str_eq(cases[i].server, "go") ? 2 : 1));
        assert_string_equal(w.site->version, cases[i].version);
        assert_string_equal(w.site->server, cases[i].server);
        sim_end(&w);
    }
}

static void facts_grow_old(void **state)
{
    struct sim w;
    (void)state;
    sim_begin(&w, "0.27-python", TENANCY_SHARED);
    assert_true(sim_run(&w, DRIVER_PRESENT));
    w.site->now_ms += 59 * 60 * 1000;
    assert_true(sim_run(&w, DRIVER_PRESENT));
    assert_int_equal(w.requests, 1);
    w.site->now_ms += 60 * 1000;
    assert_true(sim_run(&w, DRIVER_PRESENT));
    assert_int_equal(w.requests, 4);
    sim_end(&w);
}

/* ---- keys and outages ---- */

static void an_outage_is_no_refusal(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(tenancies); i++) {
        struct sim w;
        sim_begin(&w, "0.27-python", tenancies[i]);
        assert_true(sim_run(&w, DRIVER_PRESENT));
        sim_put(&w, "{\"database_down\":true}");
        for (int goal = 0; goal < 2; goal++) {
            assert_false(sim_run(&w, goal ? DRIVER_PRESENT : DRIVER_ABSENT));
            assert_int_equal(w.end.err.class, ERR_UNAVAILABLE);
            assert_non_null(strstr(w.end.err.msg, "database"));
            assert_int_equal(w.last.health, HEALTH_AS_SAID);
            assert_int_equal(w.last.err.class, ERR_UNAVAILABLE);
            assert_int_equal(w.changes, 0);
        }
        /* Nothing recorded: a login works even then, and nothing after it. */
        char id[33];
        str_copy(id, sizeof(id), w.id);
        w.id[0] = w.tenant[0] = w.secret[0] = '\0';
        assert_false(sim_run(&w, DRIVER_ABSENT));
        assert_int_equal(w.end.err.class, ERR_UNAVAILABLE);
        sim_put(&w, "{\"database_down\":false}");
        assert_true(sim_run(&w, DRIVER_PRESENT));
        sim_check_present(&w);
        sim_end(&w);
    }
}

/* It is one account's matter: the runtime's other jobs go on, and a new key is got. */
static void a_refused_account_is_not_the_runtimes(void **state)
{
    static const enum driver_tenancy own[] = {TENANCY_ORGANIZATION, TENANCY_SUBSCRIPTION};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(own); i++) {
        struct sim w;
        sim_begin(&w, "0.27-python", own[i]);
        assert_true(sim_run(&w, DRIVER_PRESENT));
        str_copy(w.secret, sizeof(w.secret), "ragflow-revoked-00000000000000000");
        w.blamed = 0;
        assert_true(sim_run(&w, DRIVER_PRESENT));
        assert_int_equal(w.blamed, 0);
        sim_check_present(&w);
        sim_end(&w);
    }
}

static void a_refused_key_is_told_as_such(void **state)
{
    struct sim w;
    (void)state;
    sim_begin(&w, "0.27-python", TENANCY_SHARED);
    w.t.credential = "ragflow-wrong-0000000000000000000";
    assert_false(sim_run(&w, DRIVER_PRESENT));
    assert_int_equal(w.end.err.class, ERR_UNAUTHORIZED);
    assert_int_equal(w.last.health, HEALTH_AS_SAID);
    assert_int_equal(w.last.err.class, ERR_UNAUTHORIZED);
    sim_end(&w);
    sim_begin(&w, "0.27-python", TENANCY_ORGANIZATION);
    sim_put(&w, "{\"refuse_login\":true}");
    assert_false(sim_run(&w, DRIVER_PRESENT));
    assert_int_equal(w.end.err.class, ERR_UNAUTHORIZED);
    assert_non_null(strstr(w.end.err.msg, "admin email"));
    assert_int_equal(w.last.health, HEALTH_AS_SAID);
    sim_end(&w);
    sim_begin(&w, "0.27-go", TENANCY_SHARED);
    cJSON_Delete(product_admin(&w.p, "POST", "/tenants",
                               "{\"email\":\"boss@example.com\",\"key\":\"ragflow-boss\","
                               "\"superuser\":true}"));
    w.t.credential = "ragflow-boss";
    assert_false(sim_run(&w, DRIVER_PRESENT));
    assert_int_equal(w.end.err.class, ERR_UNAUTHORIZED);
    assert_non_null(strstr(w.end.err.msg, "Super user"));
    sim_end(&w);
}

static cJSON *own_keys(struct sim *w)
{
    cJSON *answer = product_admin(&w->p, "GET", "/tenants", NULL), *keys = NULL;
    const cJSON *one = NULL;
    cJSON_ArrayForEach(one, json_get(answer, "tenants"))
    {
        if (str_eq(json_str(one, "email"), SIM_EMAIL)) {
            keys = cJSON_Duplicate(json_get(one, "keys"), true);
        }
    }
    cJSON_Delete(answer);
    return keys;
}

/* As somebody with the admin's rights. */
static void as_admin(struct sim *w, enum exchange_method method, const char *path, const char *body)
{
    struct exchange_request r;
    char session[256] = "";
    for (int i = 0; i < 2; i++) {
        exchange_request_init(&r);
        r.method = i ? method : METHOD_POST;
        snprintf(r.url, sizeof(r.url), "%s-admin/api/v1/admin%s", PRODUCT_URL, i ? path : "/login");
        r.content_type = "application/json";
        if (i) {
            buf_adds(&r.body, body ? body : "");
            r.auth_header = "Authorization";
            r.credential = session;
        } else {
            buf_addf(&r.body, "{\"email\":\"admin@ragflow.io\",\"password\":\"%s\"}", w->wire);
        }
        struct exchange_response a = product_ask(&w->p, &r);
        assert_int_equal(a.status, 200);
        str_copy(session, sizeof(session), a.authorization);
        exchange_request_done(&r);
    }
}

static void a_lost_key_is_replaced(void **state)
{
    (void)state;
    for (size_t i = 1; i < ARRAY_LEN(tenancies); i++) {
        struct sim w;
        char path[512], old[DRIVER_SECRET_MAX + 1], id[33];
        sim_begin(&w, "0.27-python", tenancies[i]);
        assert_true(sim_run(&w, DRIVER_PRESENT));
        str_copy(old, sizeof(old), w.secret);
        str_copy(id, sizeof(id), w.id);
        snprintf(path, sizeof(path), "/users/%s/keys/%s", SIM_EMAIL, old);
        as_admin(&w, METHOD_DELETE, path, NULL);
        assert_true(sim_run(&w, DRIVER_PRESENT));
        sim_check_present(&w);
        assert_string_not_equal(w.secret, old);
        assert_string_equal(w.id, id);
        /* And with the records empty, the same key and dataset are found. */
        str_copy(old, sizeof(old), w.secret);
        w.id[0] = w.tenant[0] = w.secret[0] = '\0';
        assert_true(sim_run(&w, DRIVER_PRESENT));
        sim_check_present(&w);
        assert_string_equal(w.secret, old);
        assert_string_equal(w.id, id);
        w.secret[0] = '\0';
        snprintf(path, sizeof(path), "/users/%s/keys/%s", SIM_EMAIL, old);
        as_admin(&w, METHOD_DELETE, path, NULL);
        assert_true(sim_run(&w, DRIVER_ABSENT));
        sim_check_absent(&w);
        sim_end(&w);
    }
}

static void surplus_keys_go_where_the_account_is_one_subscriptions(void **state)
{
    (void)state;
    for (size_t i = 1; i < ARRAY_LEN(tenancies); i++) {
        struct sim w;
        sim_begin(&w, "0.27-python", tenancies[i]);
        assert_true(sim_run(&w, DRIVER_PRESENT));
        as_admin(&w, METHOD_POST, "/users/" SIM_EMAIL "/keys", NULL);
        as_admin(&w, METHOD_POST, "/users/" SIM_EMAIL "/keys", NULL);
        char old[DRIVER_SECRET_MAX + 1];
        str_copy(old, sizeof(old), w.secret);
        w.secret[0] = '\0';
        assert_true(sim_run(&w, DRIVER_PRESENT));
        sim_check_present(&w);
        assert_string_equal(w.secret, old);
        cJSON *keys = own_keys(&w);
        assert_int_equal(cJSON_GetArraySize(keys), tenancies[i] == TENANCY_SUBSCRIPTION ? 1 : 3);
        cJSON_Delete(keys);
        sim_end(&w);
    }
}

/* ---- the admin's session ---- */

/* One request further; false when there is none. */
static bool step(struct sim *w, struct driver_op *op, int *logins)
{
    struct driver_action a;
    struct driver_outcome outcome;
    sim_class()->next(op, &a);
    if (a.turn == TURN_REQUEST) {
        *logins += strstr(a.request.url, "/login") != NULL;
        struct exchange_response r = product_ask(&w->p, &a.request);
        exchange_request_done(&a.request);
        sim_class()->feed(op, &r, &outcome);
    }
    return a.turn == TURN_REQUEST || a.turn == TURN_WAIT;
}

static void a_session_ended_elsewhere_is_renewed_once(void **state)
{
    struct sim w;
    struct driver_action a;
    struct driver_outcome outcome;
    struct err err;
    int logins = 0;
    (void)state;
    sim_begin(&w, "0.27-python", TENANCY_SUBSCRIPTION);
    assert_true(sim_run(&w, DRIVER_PRESENT));
    assert_int_equal(w.logins, 1);
    as_admin(&w, METHOD_GET, "/users", NULL);
    /* The first asks with the old session; the second logs in before that is answered. */
    struct driver_op *first = sim_class()->start(DRIVER_ABSENT, &w.t, &err);
    struct driver_op *second = sim_class()->start(DRIVER_ABSENT, &w.t, &err);
    sim_class()->next(first, &a);
    assert_non_null(strstr(a.request.url, "-admin/"));
    struct exchange_response r = product_ask(&w.p, &a.request);
    assert_int_equal(r.status, 401);
    char *body = str_dup(r.body);
    r.body = body;
    exchange_request_done(&a.request);
    for (int i = 0; i < 2; i++) { /* refused, and logged in */
        assert_true(step(&w, second, &logins));
    }
    assert_int_equal(logins, 1);
    sim_class()->feed(first, &r, &outcome);
    assert_int_equal(outcome.err.class, ERR_NONE);
    free(body);
    while (step(&w, first, &logins) || step(&w, second, &logins)) {
    }
    assert_int_equal(logins, 1);
    sim_class()->free(first);
    sim_class()->free(second);
    assert_int_equal(sim_count_ours(&w) + sim_count_users(&w), 0);
    sim_end(&w);
}

enum { CROWD = 8 };

/* Operations of one site take turns request by request, as in the worker. */
static void many_operations_share_one_login(void **state)
{
    struct sim w;
    struct driver_op *ops[CROWD];
    bool over[CROWD] = {false};
    struct err err;
    char emails[CROWD][64], names[CROWD][32], markers[CROWD][64];
    struct driver_target targets[CROWD];
    int logins = 0, left = CROWD, turns = 0;
    (void)state;
    sim_begin(&w, "0.27-python", TENANCY_SUBSCRIPTION);
    for (size_t i = 0; i < CROWD; i++) {
        targets[i] = w.t;
        snprintf(emails[i], sizeof(emails[i]), "w-%zu@provisioner.invalid", i);
        snprintf(names[i], sizeof(names[i]), "name-%zu", i);
        snprintf(markers[i], sizeof(markers[i]), "waldur-subscription:%zu", i);
        targets[i].tenant_email = emails[i];
        targets[i].name = names[i];
        targets[i].marker = markers[i];
        ops[i] = sim_class()->start(DRIVER_PRESENT, &targets[i], &err);
        assert_non_null(ops[i]);
    }
    for (size_t i = 0; left > 0; i = (i + 1) % CROWD) {
        struct driver_action a;
        struct driver_outcome outcome;
        assert_true(turns++ < 1000);
        if (over[i]) {
            continue;
        }
        sim_class()->next(ops[i], &a);
        w.site->now_ms++;
        if (a.turn == TURN_REQUEST) {
            bool login = strstr(a.request.url, "/login") != NULL;
            logins += login;
            struct exchange_response r = product_ask(&w.p, &a.request);
            exchange_request_done(&a.request);
            /* The answer comes when all others have had a turn; they find the login under way. */
            for (size_t j = 0; login && j < CROWD; j++) {
                struct driver_action other;
                if (j != i) {
                    sim_class()->next(ops[j], &other);
                    assert_int_equal(other.turn, TURN_WAIT);
                    assert_true(other.wait_ms > 0);
                }
            }
            sim_class()->feed(ops[i], &r, &outcome);
        } else if (a.turn != TURN_WAIT) {
            assert_int_equal(a.turn, TURN_DONE);
            over[i] = true;
            left--;
        }
    }
    assert_int_equal(logins, 1);
    for (size_t i = 0; i < CROWD; i++) {
        sim_class()->free(ops[i]);
    }
    sim_end(&w);
}

/* ---- whose is whose ---- */

static void another_tenants_key_proves_nothing(void **state)
{
    struct sim w;
    char tenant[33];
    (void)state;
    sim_begin(&w, "0.27-python", TENANCY_SHARED);
    assert_true(sim_run(&w, DRIVER_PRESENT));
    str_copy(tenant, sizeof(tenant), w.tenant);
    cJSON_Delete(product_admin(&w.p, "POST", "/tenants",
                               "{\"email\":\"b@example.com\",\"key\":\"ragflow-b\"}"));
    w.t.credential = "ragflow-b";
    sim_new_site(&w);
    for (int goal = 0; goal < 2; goal++) {
        assert_false(sim_run(&w, goal ? DRIVER_PRESENT : DRIVER_ABSENT));
        assert_int_equal(w.end.err.class, ERR_UNAUTHORIZED);
        assert_non_null(strstr(w.end.err.msg, tenant));
        assert_int_equal(w.changes, 0);
    }
    w.t.credential = PRODUCT_TOKEN;
    sim_new_site(&w);
    assert_true(sim_run(&w, DRIVER_PRESENT));
    sim_end(&w);
    sim_begin(&w, "0.27-python", TENANCY_SUBSCRIPTION);
    assert_true(sim_run(&w, DRIVER_PRESENT));
    str_copy(w.secret, sizeof(w.secret), SIM_MODELS_KEY);
    assert_false(sim_run(&w, DRIVER_ABSENT));
    assert_int_equal(w.end.err.class, ERR_UNAUTHORIZED);
    assert_int_equal(w.changes, 0);
    assert_int_equal(sim_count_ours(&w), 1);
    sim_end(&w);
}

static void looks_alike_and_is_not(void **state)
{
    (void)state;
    for (size_t p = 0; p < ARRAY_LEN(profiles); p++) {
        struct sim w;
        char id[33];
        sim_begin(&w, profiles[p], TENANCY_SHARED);
        cJSON_Delete(product_admin(&w.p, "POST", "/tenants",
                                   "{\"email\":\"team@example.com\",\"member\":"
                                   "\"platform@example.com\"}"));
        sim_plant(&w, "{\"name\":\"other\",\"description\":\"" SIM_OTHER "\"}", id);
        sim_plant(&w,
                  "{\"tenant\":\"team@example.com\",\"name\":\"" SIM_NAME
                  "\",\"description\":\"" SIM_OTHER "\",\"permission\":\"team\"}",
                  id);
        assert_true(sim_run(&w, DRIVER_PRESENT));
        sim_check_present(&w);
        check_neighbours(&w, 2);
        assert_true(sim_run(&w, DRIVER_ABSENT));
        sim_check_absent(&w);
        check_neighbours(&w, 2);
        sim_end(&w);
    }
}

/* Even with our marker: what is in another tenant is not ours to touch. */
static void a_teams_dataset_is_not_ours(void **state)
{
    struct sim w;
    char id[33];
    (void)state;
    sim_begin(&w, "0.27-python", TENANCY_SHARED);
    cJSON_Delete(
        product_admin(&w.p, "POST", "/tenants",
                      "{\"email\":\"team@example.com\",\"member\":\"platform@example.com\"}"));
    sim_plant(&w,
              "{\"tenant\":\"team@example.com\",\"name\":\"" SIM_NAME
              "\",\"description\":\"" SIM_MARKER "\",\"permission\":\"team\"}",
              id);
    assert_true(sim_run(&w, DRIVER_PRESENT));
    assert_string_not_equal(w.id, id);
    str_copy(w.id, sizeof(w.id), id);
    assert_true(sim_run(&w, DRIVER_ABSENT));
    cJSON *o = sim_dataset(&w, id);
    assert_non_null(o);
    cJSON_Delete(o);
    assert_int_equal(sim_count_ours(&w), 1);
    sim_end(&w);
}

static void a_taken_name_is_a_conflict(void **state)
{
    static const char *const plants[] = {
        "{\"name\":\"" SIM_NAME "\"}",
        "{\"name\":\"" SIM_NAME "\",\"description\":\"" SIM_OTHER "\"}",
        "{\"name\":\"ACME-Corp-Website-Support-CSA-001\"}", "{\"name\":\"" SIM_NAME " \"}"};
    (void)state;
    for (size_t p = 0; p < ARRAY_LEN(profiles); p++) {
        for (size_t i = 0; i < ARRAY_LEN(plants); i++) {
            struct sim w;
            char id[33];
            sim_begin(&w, profiles[p], TENANCY_SHARED);
            sim_plant(&w, plants[i], id);
            for (int again = 0; again < 2; again++) {
                assert_false(sim_run(&w, DRIVER_PRESENT));
                bool go_finds_late = w.go && i >= 2; /* it refuses the rename, not the create */
                assert_int_equal(w.end.err.class, go_finds_late ? ERR_REFUSED : ERR_CONFLICT);
                assert_int_equal(sim_count_ours(&w), go_finds_late ? 1 : 0);
                check_neighbours(&w, 1);
            }
            assert_true(sim_run(&w, DRIVER_ABSENT));
            sim_check_absent(&w);
            check_neighbours(&w, 1);
            sim_end(&w);
        }
    }
}

static void remove_by_id(struct sim *w, const char *id)
{
    struct exchange_request r;
    exchange_request_init(&r);
    r.method = METHOD_DELETE;
    snprintf(r.url, sizeof(r.url), "%s/api/v1/datasets", PRODUCT_URL);
    r.content_type = "application/json";
    r.auth_header = "Authorization";
    r.auth_scheme = "Bearer ";
    r.credential = PRODUCT_TOKEN;
    buf_addf(&r.body, "{\"ids\":[\"%s\"]}", id);
    assert_int_equal(product_ask(&w->p, &r).status, 200);
    exchange_request_done(&r);
}

/* The server calls it name(1), and nobody hears of it. */
static void a_lost_create_that_was_renamed(void **state)
{
    (void)state;
    for (int leaves = 0; leaves < 2; leaves++) {
        struct sim w;
        char id[33];
        sim_begin(&w, "0.27-python", TENANCY_SHARED);
        sim_plant(&w, "{\"name\":\"ACME-Corp-Website-Support-CSA-001\"}", id);
        w.cut = CUT_AFTER;
        w.cut_at = 5;
        assert_false(sim_run(&w, DRIVER_PRESENT));
        assert_int_equal(sim_count_ours(&w), 1);
        w.cut_at = 0;
        assert_false(sim_run(&w, DRIVER_PRESENT));
        assert_int_equal(w.end.err.class, ERR_REFUSED);
        assert_non_null(strstr(w.end.err.msg, "already exists"));
        assert_int_equal(sim_count_ours(&w), 1);
        if (leaves) {
            remove_by_id(&w, id);
            assert_true(sim_run(&w, DRIVER_PRESENT));
            sim_check_present(&w);
        }
        w.open = false; /* whatever the journal says */
        assert_true(sim_run(&w, DRIVER_ABSENT));
        sim_check_absent(&w);
        sim_end(&w);
    }
}

static void marked_twice(struct sim *w, const char *first, const char *second, char ids[2][33])
{
    char body[512];
    const char *const more[] = {first, second};
    for (int i = 0; i < 2; i++) {
        snprintf(body, sizeof(body),
                 "{\"name\":\"" SIM_NAME "\",\"description\":\"" SIM_MARKER
                 "\",\"embedding_model\":\"" SIM_MODEL "\",\"create_time\":%d%s}",
                 1000 + i, more[i]);
        sim_plant(w, body, ids[i]);
    }
}

/* What two servers make of one create that both got. */
static void of_two_the_older_stays(void **state)
{
    static const char full[] = ",\"documents\":[\"a\",\"b\"]";
    (void)state;
    for (size_t p = 0; p < ARRAY_LEN(profiles); p++) {
        struct sim w;
        char ids[2][33];
        sim_begin(&w, profiles[p], TENANCY_SHARED);
        marked_twice(&w, full, "", ids);
        assert_true(sim_run(&w, DRIVER_PRESENT));
        sim_check_present(&w);
        assert_string_equal(w.id, ids[0]);
        assert_int_equal(sim_blobs(&w), 2);
        sim_end(&w);

        sim_begin(&w, profiles[p], TENANCY_SHARED);
        marked_twice(&w, "", full, ids);
        assert_false(sim_run(&w, DRIVER_PRESENT));
        assert_int_equal(w.end.err.class, ERR_CONFLICT);
        assert_non_null(strstr(w.end.err.msg, ids[1]));
        assert_int_equal(sim_count_ours(&w), 2);
        str_copy(w.id, sizeof(w.id), ids[1]); /* the recorded one stays, however old */
        w.open = true;
        assert_true(sim_run(&w, DRIVER_PRESENT));
        sim_check_present(&w);
        assert_string_equal(w.id, ids[1]);
        sim_end(&w);

        sim_begin(&w, profiles[p], TENANCY_SHARED);
        marked_twice(&w, full, full, ids);
        assert_true(sim_run(&w, DRIVER_ABSENT));
        sim_check_absent(&w);
        assert_int_equal(sim_blobs(&w), 0);
        sim_end(&w);
    }
}

static void a_rename_by_people_is_borne(void **state)
{
    struct sim w;
    char id[33];
    (void)state;
    sim_begin(&w, "0.27-python", TENANCY_SHARED);
    sim_plant(&w,
              "{\"name\":\"Our answers\",\"description\":\"" SIM_MARKER
              "\",\"embedding_model\":\"" SIM_MODEL
              "\",\"parser_config\":{\"chunk_token_num\":512,\"overlapped_percent\":10}}",
              id);
    str_copy(w.id, sizeof(w.id), id);
    assert_true(sim_run(&w, DRIVER_PRESENT));
    assert_int_equal(w.changes, 0);
    assert_string_equal(w.id, id);
    sim_end(&w);
}

/* ---- settings ---- */

static void percent_of_a_chunk(void **state)
{
    static const struct {
        int64_t size, overlap, percent;
    } cases[] = {{512, 50, 10}, {512, 0, 0},    {512, 1, 1},    {100, 9, 9},
                 {1, 1, 90},    {512, 512, 90}, {512, 460, 90}, {2048, INT64_MAX, 90}};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct driver_target t = {.chunk_size = cases[i].size, .chunk_overlap = cases[i].overlap};
        assert_int_equal(ragflow_overlap_percent(&t), cases[i].percent);
    }
}

static void settings_are_brought_up_to_date_once(void **state)
{
    struct sim w;
    (void)state;
    sim_begin(&w, "0.27-python", TENANCY_SHARED);
    assert_true(sim_run(&w, DRIVER_PRESENT));
    w.t.chunk_size = 256;
    w.t.chunk_overlap = 20; /* 7.8 percent */
    assert_true(sim_run(&w, DRIVER_PRESENT));
    assert_int_equal(w.requests, 3);
    cJSON *o = sim_dataset(&w, w.id);
    int64_t n = 0;
    assert_true(json_i64(o, "parser_config.chunk_token_num", &n) && n == 256);
    assert_true(json_i64(o, "parser_config.overlapped_percent", &n) && n == 8);
    cJSON_Delete(o);
    assert_true(sim_run(&w, DRIVER_PRESENT));
    assert_int_equal(w.requests, 1);
    w.t.embedding_model = "bge-m3@Local";
    assert_false(sim_run(&w, DRIVER_PRESENT));
    assert_int_equal(w.end.err.class, ERR_REFUSED);
    assert_non_null(strstr(w.end.err.msg, "bge-m3@Local"));
    assert_non_null(strstr(w.end.err.msg, SIM_MODEL));
    assert_int_equal(w.changes, 0);
    sim_end(&w);
}

/* The read-back is request 7: three facts, look, create, update. */
static void what_the_server_does_not_keep_is_told(void **state)
{
    static const struct {
        const char *row, *says[2];
    } cases[] = {
        {"\"description\":\"" SIM_MARKER "\",\"parser_config\":{\"chunk_token_num\":512},"
         "\"embedding_model\":\"" SIM_MODEL "\"",
         {"overlapped_percent is 0", "not 10"}},
        {"\"description\":\"" SIM_MARKER "\",\"parser_config\":{\"chunk_token_num\":128,"
         "\"overlapped_percent\":10},\"embedding_model\":\"" SIM_MODEL "\"",
         {"chunk_token_num is 128", "not 512"}},
        {"\"description\":\"" SIM_MARKER "\",\"parser_config\":{\"chunk_token_num\":512,"
         "\"overlapped_percent\":10},\"embedding_model\":\"other@OpenAI\"",
         {"other@OpenAI", SIM_MODEL}},
        {"\"description\":\"" SIM_MARKER "\",\"parser_config\":{\"chunk_token_num\":512,"
         "\"overlapped_percent\":10,\"raptor\":{\"use_raptor\":true}},\"embedding_model\":"
         "\"" SIM_MODEL "\"",
         {"use_raptor is true", "not false"}},
        {"\"description\":\"cut\",\"parser_config\":{\"chunk_token_num\":512,"
         "\"overlapped_percent\":10},\"embedding_model\":\"" SIM_MODEL "\"",
         {"description is \"cut\"", SIM_MARKER}},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct sim w;
        char lie[1024];
        sim_begin(&w, "0.27-python", TENANCY_SHARED);
        snprintf(lie, sizeof(lie),
                 "{\"code\":0,\"data\":[{\"id\":\"@ID\",\"name\":\"" SIM_NAME
                 "\",\"tenant_id\":\"@TENANT\",%s}]}",
                 cases[i].row);
        w.cut_at = 7;
        w.lie = lie;
        assert_false(sim_run(&w, DRIVER_PRESENT));
        assert_int_equal(w.end.err.class, ERR_REFUSED);
        for (size_t j = 0; j < 2; j++) {
            if (!strstr(w.end.err.msg, cases[i].says[j])) {
                fail_msg("%s: no word of %s", w.end.err.msg, cases[i].says[j]);
            }
        }
        w.lie = NULL;
        w.cut_at = 0;
        assert_true(sim_run(&w, DRIVER_PRESENT));
        sim_check_present(&w);
        sim_end(&w);
    }
}

static void what_no_server_takes_is_not_asked_for(void **state)
{
    static const char *const models[] = {
        "",        "text-embedding-3-small", "@OpenAI", "model@", " @OpenAI",
        "model@ ", "0123456789abcdef"};
    struct sim w;
    (void)state;
    sim_begin(&w, "0.27-python", TENANCY_SHARED);
    for (size_t i = 0; i < ARRAY_LEN(models); i++) {
        w.t.embedding_model = models[i];
        assert_false(sim_run(&w, DRIVER_PRESENT));
        assert_int_equal(w.end.err.class, ERR_INVALID);
        assert_non_null(strstr(w.end.err.msg, "runtimes[].ragflow.embedding_models"));
        assert_true(sim_run(&w, DRIVER_ABSENT));
    }
    w.t.embedding_model = SIM_MODEL;
    for (int64_t size = 0; size < 3000; size += 2049) {
        w.t.chunk_size = size;
        assert_false(sim_run(&w, DRIVER_PRESENT));
        assert_int_equal(w.end.err.class, ERR_INVALID);
    }
    w.t.chunk_size = 512;
    assert_false(sim_run(&w, DRIVER_CLOSED));
    assert_int_equal(w.end.err.class, ERR_INTERNAL);
    w.s.tenancy = TENANCY_ORGANIZATION;
    w.s.admin_url = NULL;
    assert_false(sim_run(&w, DRIVER_PRESENT));
    assert_int_equal(w.end.err.class, ERR_INVALID);
    w.s.tenancy = TENANCY_SHARED;
    /* An id that is none was some other product's: the name tells. */
    str_copy(w.id, sizeof(w.id), "f8ac78ce-e5f3-11f1-936a-02fc00000001");
    assert_true(sim_run(&w, DRIVER_PRESENT));
    sim_check_present(&w);
    sim_end(&w);
}

static void a_default_model_must_be_one(void **state)
{
    struct sim w;
    (void)state;
    sim_begin(&w, "0.27-python", TENANCY_SHARED);
    w.t.embedding_model = NULL;
    assert_false(sim_run(&w, DRIVER_PRESENT));
    assert_int_equal(w.end.err.class, ERR_REFUSED);
    assert_non_null(strstr(w.end.err.msg, "bge-m3@xxxx"));
    assert_true(sim_run(&w, DRIVER_ABSENT));
    cJSON_Delete(
        product_admin(&w.p, "POST", "/models", "{\"model\":\"e5@Local\",\"default\":true}"));
    assert_true(sim_run(&w, DRIVER_PRESENT));
    sim_check_present(&w);
    sim_end(&w);
}

/* ---- models of tenants ---- */

static void a_tenant_without_models_is_told(void **state)
{
    struct sim w;
    (void)state;
    sim_begin(&w, "0.27-python", TENANCY_SUBSCRIPTION);
    w.s.models_key = NULL;
    assert_false(sim_run(&w, DRIVER_PRESENT));
    assert_int_equal(w.end.err.class, ERR_REFUSED);
    assert_non_null(strstr(w.end.err.msg, "Provider OpenAI not found"));
    assert_non_null(strstr(w.end.err.msg, "embedding_models"));
    assert_true(w.tenant[0] && w.secret[0]); /* recorded: the account is found again, or removed */
    assert_true(sim_run(&w, DRIVER_ABSENT));
    sim_check_absent(&w);
    w.s.models_key = SIM_MODELS_KEY;
    w.t.embedding_model = "unknown@OpenAI";
    assert_false(sim_run(&w, DRIVER_PRESENT));
    assert_int_equal(w.end.err.class, ERR_REFUSED);
    assert_non_null(strstr(w.end.err.msg, "models tenant has no"));
    sim_end(&w);
}

static void a_provider_of_its_own(void **state)
{
    static const char *const versions[] = {"v0.26.0", "v0.27.0", "v0.25.9"};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(versions); i++) {
        struct sim w;
        char settings[64];
        sim_begin(&w, "0.27-python", TENANCY_SUBSCRIPTION);
        snprintf(settings, sizeof(settings), "{\"version\":\"%s\"}", versions[i]);
        sim_put(&w, settings);
        w.s.provider = "OpenAI";
        w.s.provider_instance = "main";
        w.s.provider_key = "sk-provider-0123456789abcdef";
        w.s.models_key = i == 1 ? NULL : SIM_MODELS_KEY; /* no use before 0.27 */
        bool may = i < 2;
        assert_int_equal(sim_run(&w, DRIVER_PRESENT), may);
        if (may) {
            sim_check_present(&w);
            assert_true(sim_run(&w, DRIVER_ABSENT)); /* and once more in the same account */
            assert_true(sim_run(&w, DRIVER_PRESENT));
        }
        sim_end(&w);
    }
}

static void shared_models_by_name_or_id(void **state)
{
    struct sim w;
    char id[33];
    (void)state;
    sim_begin(&w, "0.27-python", TENANCY_ORGANIZATION);
    assert_true(sim_run(&w, DRIVER_PRESENT));
    int fresh = w.requests;
    cJSON *o = sim_dataset(&w, w.id);
    str_copy(id, sizeof(id), json_str(o, "embedding_model"));
    cJSON_Delete(o);
    assert_true(sim_is_hex(id));
    sim_new_site(&w); /* where the model's id is not known any more */
    assert_true(sim_run(&w, DRIVER_PRESENT));
    assert_int_equal(w.changes, 0);
    assert_true(sim_run(&w, DRIVER_ABSENT));
    /* In the team already, and by the id itself. */
    w.t.embedding_model = id;
    assert_true(sim_run(&w, DRIVER_PRESENT));
    sim_check_present(&w);
    assert_true(w.requests < fresh);
    sim_end(&w);
}

/* ---- going ---- */

static void documents_go_first_and_files_with_them(void **state)
{
    (void)state;
    for (size_t p = 0; p < ARRAY_LEN(profiles); p++) {
        for (size_t t = 0; t < ARRAY_LEN(tenancies); t++) {
            struct sim w;
            struct buf body;
            sim_begin(&w, profiles[p], tenancies[t]);
            assert_true(sim_run(&w, DRIVER_PRESENT));
            int n = t == 0 ? 1500 : 150; /* more rounds than are allowed to bring nothing */
            buf_init(&body, 65536);
            buf_addf(&body, "{\"dataset\":\"%s\",\"names\":[", w.id);
            for (int i = 0; i < n; i++) {
                buf_addf(&body, "%s\"file-%d\"", i ? "," : "", i);
            }
            buf_adds(&body, "]}");
            cJSON_Delete(product_admin(&w.p, "POST", "/documents", buf_str(&body)));
            buf_done(&body);
            assert_int_equal(sim_blobs(&w), n);
            assert_true(sim_run(&w, DRIVER_ABSENT));
            sim_check_absent(&w);
            assert_int_equal(sim_blobs(&w), 0);
            assert_string_equal(w.end.residue, "");
            sim_end(&w);
        }
    }
}

/* As many rounds as there are documents, but none that bring nothing. */
static void documents_that_stay_are_given_up(void **state)
{
    struct sim w;
    (void)state;
    sim_begin(&w, "0.27-python", TENANCY_SHARED);
    assert_true(sim_run(&w, DRIVER_PRESENT));
    struct err err;
    w.t.external_id = w.id;
    struct driver_op *op = sim_class()->start(DRIVER_ABSENT, &w.t, &err);
    struct driver_action a;
    struct driver_outcome outcome;
    int requests = 0;
    for (sim_class()->next(op, &a); a.turn == TURN_REQUEST; sim_class()->next(op, &a)) {
        static const char docs[] = "{\"code\":0,\"data\":{\"total\":3,\"docs\":[{\"id\":"
                                   "\"00000000000000000000000000000001\"}]}}";
        bool list = strstr(a.request.url, "/documents?") != NULL;
        bool end = strstr(a.request.url, "/documents#") != NULL;
        struct exchange_response r = {.sent = true,
                                      .status = 200,
                                      .body = docs,
                                      .body_len = strlen(docs),
                                      .retry_after_ms = -1};
        if (!list && !end) {
            r = product_ask(&w.p, &a.request);
        }
        exchange_request_done(&a.request);
        sim_class()->feed(op, &r, &outcome);
        assert_true(requests++ <= DRIVER_ROUNDS_MAX);
    }
    assert_int_equal(a.turn, TURN_FAILED);
    assert_int_equal(a.err.class, ERR_UNKNOWN);
    sim_class()->free(op);
    sim_end(&w);
}

static void residue_is_told(void **state)
{
    struct sim w;
    (void)state;
    sim_begin(&w, "0.27-python", TENANCY_SHARED);
    assert_true(sim_run(&w, DRIVER_PRESENT));
    char id[33];
    str_copy(id, sizeof(id), w.id);
    sim_put(&w, "{\"delete_errors\":1}");
    assert_true(sim_run(&w, DRIVER_ABSENT));
    sim_check_absent(&w);
    assert_non_null(strstr(w.end.residue, id));
    assert_non_null(strstr(w.end.residue, "doc store failed"));
    sim_end(&w);
}

/* As the journal has it at the end of a path. */
#define SIM_EMAIL_URL "w-2f1c9a526a0e4c558f1e5d2f0c9b7a01%40provisioner.invalid"

static bool account_is_active(struct sim *w)
{
    cJSON *answer = product_admin(&w->p, "GET", "/tenants", NULL);
    const cJSON *one = NULL;
    bool active = false;
    cJSON_ArrayForEach(one, json_get(answer, "tenants"))
    {
        active = active ||
                 (str_eq(json_str(one, "email"), SIM_EMAIL) && json_bool(one, "active", false));
    }
    cJSON_Delete(answer);
    return active;
}

/* An account on its way out is brought to its end before there is another. */
static void a_restore_meets_a_termination(void **state)
{
    (void)state;
    for (size_t p = 0; p < ARRAY_LEN(profiles); p++) {
        for (size_t t = 0; t < ARRAY_LEN(tenancies); t++) {
            int requests = count_requests(profiles[p], tenancies[t], DRIVER_ABSENT) + 3;
            for (int cut = CUT_BEFORE; cut < CUT_KINDS; cut++) {
                for (int at = 1; at <= requests; at++) {
                    struct sim w;
                    char old[EXTERNAL_ID_MAX + 1];
                    sim_begin(&w, profiles[p], tenancies[t]);
                    assert_true(sim_run(&w, DRIVER_PRESENT));
                    sim_new_site(&w);
                    w.cut = (enum cut)cut;
                    w.cut_at = at;
                    str_copy(old, sizeof(old), w.tenant);
                    (void)sim_run(&w, DRIVER_ABSENT);
                    w.cut_at = 0;
                    bool leaving = str_eq(w.open_delete, SIM_EMAIL_URL);
                    bool open = w.open;
                    converge(&w, DRIVER_PRESENT, CUT_NONE, 0);
                    sim_land(&w);
                    sim_check_present(&w);
                    if (tenancies[t] == TENANCY_SUBSCRIPTION && open) {
                        assert_true(account_is_active(&w));
                    }
                    if (leaving) {
                        assert_string_not_equal(w.tenant, old);
                    }
                    sim_end(&w);
                }
            }
        }
    }
}

/* Settings of before that land late are written over. */
static void a_late_update_does_not_stay(void **state)
{
    struct sim w;
    (void)state;
    sim_begin(&w, "0.27-python", TENANCY_SHARED);
    assert_true(sim_run(&w, DRIVER_PRESENT));
    w.t.chunk_size = 256;
    w.cut = CUT_LATE_DEATH;
    w.cut_at = 2;
    assert_false(sim_run(&w, DRIVER_PRESENT));
    assert_true(w.open_update);
    w.cut_at = 0;
    w.t.chunk_size = 512;
    assert_true(sim_run(&w, DRIVER_PRESENT));
    sim_land(&w);
    sim_check_present(&w);
    sim_end(&w);
}

static void an_account_with_all_rights_is_nobodys(void **state)
{
    struct sim w;
    (void)state;
    sim_begin(&w, "0.27-python", TENANCY_SUBSCRIPTION);
    cJSON_Delete(product_admin(&w.p, "POST", "/tenants",
                               "{\"email\":\"" SIM_EMAIL "\",\"superuser\":true}"));
    for (int goal = 0; goal < 2; goal++) {
        assert_false(sim_run(&w, goal ? DRIVER_PRESENT : DRIVER_ABSENT));
        assert_int_equal(w.end.err.class, ERR_CONFLICT);
    }
    assert_int_equal(sim_count_users(&w), 1);
    sim_end(&w);
}

/* What a delete that was let out may still reach is not what is kept. */
static void an_open_delete_makes_another_dataset(void **state)
{
    struct sim w;
    char id[33];
    (void)state;
    sim_begin(&w, "0.27-python", TENANCY_SHARED);
    assert_true(sim_run(&w, DRIVER_PRESENT));
    str_copy(id, sizeof(id), w.id);
    w.open = true;
    str_copy(w.open_delete, sizeof(w.open_delete), id);
    assert_true(sim_run(&w, DRIVER_PRESENT));
    sim_check_present(&w);
    assert_string_not_equal(w.id, id);
    sim_end(&w);
}

static void an_account_closed_by_people_is_opened(void **state)
{
    struct sim w;
    (void)state;
    sim_begin(&w, "0.27-python", TENANCY_SUBSCRIPTION);
    assert_true(sim_run(&w, DRIVER_PRESENT));
    as_admin(&w, METHOD_PUT, "/users/" SIM_EMAIL "/activate", "{\"activate_status\":\"off\"}");
    w.secret[0] = '\0';
    assert_true(sim_run(&w, DRIVER_PRESENT));
    sim_check_present(&w);
    assert_int_equal(w.changes, 1);
    sim_end(&w);
}

/* ---- looking only ---- */

static void observe(struct sim *w, enum driver_goal goal, enum driver_sight sight, bool met)
{
    w->t.observe = true;
    if (!sim_run(w, goal)) {
        SIM_BROKEN(w, "an observation failed: %s", w->end.err.msg);
    }
    w->t.observe = false;
    assert_int_equal(w->changes, 0);
    assert_int_equal(w->end.sight, sight);
    assert_int_equal(w->end.met, met);
}

static void observations_change_nothing(void **state)
{
    (void)state;
    for (size_t t = 0; t < ARRAY_LEN(tenancies); t++) {
        struct sim w;
        char ids[2][33];
        sim_begin(&w, "0.27-python", tenancies[t]);
        observe(&w, DRIVER_PRESENT, SIGHT_ABSENT, false);
        observe(&w, DRIVER_ABSENT, SIGHT_ABSENT, true);
        assert_true(sim_run(&w, DRIVER_PRESENT));
        observe(&w, DRIVER_PRESENT, SIGHT_OURS, true);
        assert_string_equal(w.end.external_id, w.id);
        observe(&w, DRIVER_ABSENT, SIGHT_OURS, false);
        w.t.chunk_size = 100;
        observe(&w, DRIVER_PRESENT, SIGHT_OURS, false);
        w.t.chunk_size = 512;
        w.t.embedding_model = "another@Provider";
        observe(&w, DRIVER_PRESENT, SIGHT_OURS, false);
        sim_check_present(&w);
        if (tenancies[t] == TENANCY_SHARED) {
            assert_true(sim_run(&w, DRIVER_ABSENT));
            sim_plant(&w, "{\"name\":\"" SIM_NAME "\"}", ids[0]);
            observe(&w, DRIVER_PRESENT, SIGHT_FOREIGN, false);
            observe(&w, DRIVER_ABSENT, SIGHT_FOREIGN, true);
            marked_twice(&w, "", "", ids);
            observe(&w, DRIVER_PRESENT, SIGHT_OURS, false);
        }
        sim_end(&w);
    }
}

/* ---- words ---- */

static void secrets_stay_out_of_words(void **state)
{
    static const char *const says[] = {
        "Field: <api_key> - Message: <bad> - Value: <sk-provider-0123456789abcdef>",
        "we were told sk-provider-0123456789abcdef, and what of it", "token " PRODUCT_TOKEN,
        "cut: "
        "planted-superuser-t"};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(says); i++) {
        struct sim w;
        char lie[512];
        sim_begin(&w, "0.27-python", TENANCY_SUBSCRIPTION);
        w.s.models_key = NULL;
        w.s.provider = "OpenAI";
        w.s.provider_instance = "main";
        w.s.provider_key = "sk-provider-0123456789abcdef";
        snprintf(lie, sizeof(lie),
                 "{\"code\":101,\"message\":\"%s\\nField: <b> - Message: <worse>"
                 " - Value: <x\\ny>\"}",
                 says[i]);
        w.lie = lie;
        w.cut_at = 8; /* two facts, login, user, key, look, provider, instance */
        assert_false(sim_run(&w, DRIVER_PRESENT));
        assert_int_equal(w.end.err.class, ERR_REFUSED);
        assert_null(strstr(w.end.err.msg, "sk-provider"));
        assert_null(strstr(w.end.err.msg, "planted-super"));
        if (i == 0) {
            assert_non_null(strstr(w.end.err.msg, "Field: <api_key> - Message: <bad>; Field: <b>"));
        }
        sim_end(&w);
    }
}

/* The administrator's, which only the login's answer told: both that of the request and the one
 * that others got since. */
static void a_session_stays_out_of_words(void **state)
{
    struct sim w;
    struct driver_action a;
    struct driver_outcome outcome = {0};
    struct err err;
    char body[1024], session[256] = "";
    (void)state;
    sim_begin(&w, "0.27-python", TENANCY_SUBSCRIPTION);
    struct driver_op *op = sim_class()->start(DRIVER_PRESENT, &w.t, &err);
    assert_non_null(op);
    while (session[0] == '\0') {
        sim_class()->next(op, &a);
        assert_int_equal(a.turn, TURN_REQUEST);
        struct exchange_response r;
        if (strstr(a.request.url, "-admin") && !strstr(a.request.url, "/login")) {
            assert_true(str_copy(session, sizeof(session), a.request.credential));
            snprintf(body, sizeof(body), "{\"code\":101,\"message\":\"no %s here\"}", session);
            r = (struct exchange_response){
                .sent = true, .status = 400, .body = body, .body_len = strlen(body)};
            r.retry_after_ms = -1;
            str_copy(r.content_type, sizeof(r.content_type), "application/json");
        } else {
            r = product_ask(&w.p, &a.request);
        }
        exchange_request_done(&a.request);
        sim_class()->feed(op, &r, &outcome);
    }
    assert_true(strlen(session) > 16);
    assert_int_equal(outcome.err.class, ERR_REFUSED);
    assert_non_null(strstr(outcome.err.msg, "no ***"));
    assert_null(strstr(outcome.err.msg, session));
    sim_class()->free(op);
    sim_end(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shared_bars),
        cmocka_unit_test(tenant_bars),
        cmocka_unit_test(a_go_dataset_that_landed_late_is_taken),
        cmocka_unit_test(without_overlap_there_is_nothing_to_update),
        cmocka_unit_test(every_fault_at_every_request),
        cmocka_unit_test(old_servers_are_refused),
        cmocka_unit_test(versions_decide_what_is_asked),
        cmocka_unit_test(facts_grow_old),
        cmocka_unit_test(an_outage_is_no_refusal),
        cmocka_unit_test(a_refused_account_is_not_the_runtimes),
        cmocka_unit_test(a_refused_key_is_told_as_such),
        cmocka_unit_test(a_lost_key_is_replaced),
        cmocka_unit_test(surplus_keys_go_where_the_account_is_one_subscriptions),
        cmocka_unit_test(a_session_ended_elsewhere_is_renewed_once),
        cmocka_unit_test(many_operations_share_one_login),
        cmocka_unit_test(another_tenants_key_proves_nothing),
        cmocka_unit_test(looks_alike_and_is_not),
        cmocka_unit_test(a_teams_dataset_is_not_ours),
        cmocka_unit_test(a_taken_name_is_a_conflict),
        cmocka_unit_test(a_lost_create_that_was_renamed),
        cmocka_unit_test(of_two_the_older_stays),
        cmocka_unit_test(a_rename_by_people_is_borne),
        cmocka_unit_test(percent_of_a_chunk),
        cmocka_unit_test(settings_are_brought_up_to_date_once),
        cmocka_unit_test(what_the_server_does_not_keep_is_told),
        cmocka_unit_test(what_no_server_takes_is_not_asked_for),
        cmocka_unit_test(a_default_model_must_be_one),
        cmocka_unit_test(a_tenant_without_models_is_told),
        cmocka_unit_test(a_provider_of_its_own),
        cmocka_unit_test(shared_models_by_name_or_id),
        cmocka_unit_test(documents_go_first_and_files_with_them),
        cmocka_unit_test(documents_that_stay_are_given_up),
        cmocka_unit_test(residue_is_told),
        cmocka_unit_test(a_restore_meets_a_termination),
        cmocka_unit_test(a_late_update_does_not_stay),
        cmocka_unit_test(an_account_with_all_rights_is_nobodys),
        cmocka_unit_test(an_open_delete_makes_another_dataset),
        cmocka_unit_test(an_account_closed_by_people_is_opened),
        cmocka_unit_test(observations_change_nothing),
        cmocka_unit_test(secrets_stay_out_of_words),
        cmocka_unit_test(a_session_stays_out_of_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
