/*
 * doctor: looks at everything that the worker needs, all at the same time, and says what to mend.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/str.h"
#include "commands.h"
#include "doctor.h"

enum {
    DOCTOR_TIMEOUT_MS = 30 * 1000,
    DOCTOR_TIMEOUT_MAX_MS = 60 * 60 * 1000,
    DOCTOR_OUTPUT_MAX = 64 * 1024 * 1024,
    DOCTOR_TICK_MS = 200,
};

struct visit {
    const struct cli *cli;
    char **only; /* operands; none: everything */
    int n_only;
    struct doctor doctor;
    struct exam *exams;
    size_t n_exams;
    struct loop_timer tick;
    int64_t end_ms;
};

/* ---- which ones ---- */

static bool is_wanted(const struct visit *v, const char *name)
{
    for (int i = 0; i < v->n_only; i++)
        if (str_eq(v->only[i], name))
            return true;
    return v->n_only == 0;
}

static struct exam *add_exam(struct visit *v, const struct exam_class *class, const char *server)
{
    struct exam *e = &v->exams[v->n_exams++];
    e->class = class;
    e->doctor = &v->doctor;
    str_copy(e->server, sizeof(e->server), server);
    return e;
}

static void add_runtime(struct visit *v, const struct config_runtime *r)
{
    for (enum product p = 0; p < PRODUCT_MAX; p++) {
        char server[96];
        snprintf(server, sizeof(server), "runtime %s %s", r->name, product_name(p));
        struct exam *e = add_exam(v, &exam_product, server);
        e->runtime = r;
        e->product = p;
    }
}

static int check_operands(const struct visit *v)
{
    for (int i = 0; i < v->n_only; i++) {
        const char *name = v->only[i];
        if (!str_eq(name, "configuration") && !str_eq(name, "database") && !str_eq(name, "kafka") &&
            !str_eq(name, "waldur") && !config_runtime_named(v->doctor.config, name))
            return cli_usage(v->cli,
                             "\"%s\" is neither a runtime of the configuration, nor configuration, "
                             "database, kafka or waldur",
                             name);
    }
    return CLI_OK;
}

static int choose(struct visit *v)
{
    const struct config *c = v->doctor.config;
    int rc = check_operands(v);
    if (rc != CLI_OK)
        return rc;
    v->exams = calloc(4 + c->n_runtimes * PRODUCT_MAX, sizeof(*v->exams));
    if (!v->exams)
        return cli_failf("out of memory");
    if (is_wanted(v, "configuration"))
        add_exam(v, &exam_configuration, "configuration");
    if (is_wanted(v, "database"))
        add_exam(v, &exam_database, "database");
    if (is_wanted(v, "kafka"))
        add_exam(v, &exam_kafka, "kafka");
    if (c->waldur_url && is_wanted(v, "waldur"))
        add_exam(v, &exam_waldur, "waldur");
    for (size_t i = 0; i < c->n_runtimes; i++)
        if (is_wanted(v, c->runtimes[i].name))
            add_runtime(v, &c->runtimes[i]);
    return CLI_OK;
}

/* ---- the visit ---- */

void exam_over(struct exam *e)
{
    if (e->over)
        return;
    e->over = true;
    if (--e->doctor->under_way == 0)
        loop_stop(e->doctor->loop);
}

static void show_progress(const struct visit *v)
{
    const char *waits = "";
    for (size_t i = v->n_exams; i > 0; i--)
        waits = v->exams[i - 1].over ? waits : v->exams[i - 1].server;
    cli_progress("looked at %zu of %zu; waiting for %s", v->n_exams - v->doctor.under_way,
                 v->n_exams, waits);
}

static void on_tick(void *ctx)
{
    struct visit *v = ctx;
    struct err err;
    int64_t left_ms = v->end_ms - clock_mono_ms();
    show_progress(v);
    if (left_ms <= 0 ||
        loop_timer_set(v->doctor.loop, &v->tick,
                       left_ms < DOCTOR_TICK_MS ? left_ms : DOCTOR_TICK_MS, &err) != 0)
        loop_stop(v->doctor.loop);
}

/* Stops every exam; those that are not over are told. */
static void stop_all(struct visit *v)
{
    char bound[24];
    str_from_duration_ms(bound, sizeof(bound), v->doctor.timeout_ms);
    for (size_t i = 0; i < v->n_exams; i++) {
        struct exam *e = &v->exams[i];
        e->class->stop(e);
        if (!e->over)
            EXAM_ADD(e, LEVEL_BAD, "answer",
                     "look at the server and at what stands between; --timeout gives more time",
                     "not everything could be seen within %s", bound);
    }
}

static int run(struct visit *v, struct err *err)
{
    struct doctor *d = &v->doctor;
    const struct http_options options = {.user_agent = "provisioner/" PROVISIONER_VERSION};
    if (!(d->loop = loop_new(err)) || !(d->http = http_new(d->loop, &options, err)))
        return -1;
    v->end_ms = clock_mono_ms() + d->timeout_ms;
    v->tick = (struct loop_timer){.fn = on_tick, .ctx = v};
    /* All count before the first may be over. */
    d->under_way = v->n_exams;
    for (size_t i = 0; i < v->n_exams; i++)
        if (v->exams[i].class->start(&v->exams[i], err) != 0)
            return -1;
    if (loop_timer_set(d->loop, &v->tick, 0, err) != 0 || loop_run(d->loop, err) != 0)
        return -1;
    return 0;
}

static void end(struct visit *v)
{
    struct doctor *d = &v->doctor;
    stop_all(v);
    cli_progress_end();
    if (d->loop)
        loop_timer_cancel(d->loop, &v->tick);
    http_free(d->http);
    loop_free(d->loop);
}

/* ---- what is said ---- */

static int report(const struct visit *v)
{
    struct findings all = {0};
    struct buf out;
    for (size_t i = 0; i < v->n_exams; i++)
        findings_append(&all, &v->exams[i].findings);
    buf_init(&out, DOCTOR_OUTPUT_MAX);
    if (cli_has(v->cli, OPT_JSON))
        findings_json(&all, &out);
    else
        findings_text(&all, cli_width(), &out);
    int rc =
        all.failed ? cli_failf("out of memory: not everything that was found is shown") : CLI_OK;
    int printed = cli_print(&out);
    rc = rc == CLI_OK ? printed : rc;
    if (rc == CLI_OK && findings_to_mend(&all) > 0)
        rc = CLI_ATTENTION;
    findings_done(&all);
    return rc;
}

int cmd_doctor(int argc, char **argv, const struct cli *cli)
{
    struct visit v = {.cli = cli, .only = argv, .n_only = argc};
    struct config *config = NULL;
    struct err err;
    int64_t timeout_ms;
    if (cli_duration(cli, OPT_TIMEOUT, DOCTOR_TIMEOUT_MS, &timeout_ms) != 0)
        return CLI_USAGE;
    if (timeout_ms < 1 || timeout_ms > DOCTOR_TIMEOUT_MAX_MS)
        return cli_usage(cli, "--timeout takes a duration from 1ms to 1h");
    int rc = cli_config(cli, &config);
    if (rc != CLI_OK)
        return rc;
    v.doctor.config = config;
    v.doctor.timeout_ms = timeout_ms;
    rc = choose(&v);
    if (rc == CLI_OK) {
        int ran = run(&v, &err);
        end(&v);
        rc = ran == 0 ? report(&v) : cli_fail(&err);
    }
    for (size_t i = 0; i < v.n_exams; i++)
        findings_done(&v.exams[i].findings);
    free(v.exams);
    config_free(config);
    return rc;
}
