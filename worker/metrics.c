#include "metrics.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"

/*
 * A series is known by its rendered labels (`kind="provision",step="name"`), which is what sorts
 * and prints it. Families are small sorted arrays: looking up costs ten comparisons.
 */

enum {
    LABELS_MAX = 4,
    LABEL_VALUE_MAX = 128, /* bytes before escaping; longer ones are cut */
    LABELS_TEXT_MAX = LABELS_MAX * (2 * LABEL_VALUE_MAX + 24),
    BUCKETS_MAX = 16,
    SERIES_MAX = 1000, /* of a family; the "other" series comes on top */
};

enum kind { COUNTER, GAUGE, HISTOGRAM };

struct family {
    const char *name, *help;
    enum kind kind;
    const char *labels[LABELS_MAX + 1];
    double buckets[BUCKETS_MAX]; /* rising upper bounds; 0 ends them */
};

#define FAST_BUCKETS                                                                               \
    {                                                                                              \
        0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60                            \
    }
#define SLOW_BUCKETS                                                                               \
    {                                                                                              \
        0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 21600, 86400                   \
    }

static const struct family families[METRIC_MAX] = {
    [M_EVENTS_TOTAL] = {.name = "provisioner_events_total",
                        .help = "Events read from Kafka and settled, by what became of them.",
                        .kind = COUNTER,
                        .labels = {"verdict"}},
    [M_JOBS] = {.name = "provisioner_jobs",
                .help = "Live and failed jobs in the database, counted every 10 seconds.",
                .kind = GAUGE,
                .labels = {"state"}},
    [M_PAUSED] = {.name = "provisioner_paused",
                  .help = "Pauses that operators have set, by what they stop.",
                  .kind = GAUGE,
                  .labels = {"scope"}},
    [M_JOBS_FINISHED_TOTAL] = {.name = "provisioner_jobs_finished_total",
                               .help = "Runs of jobs that this process ended, by resulting state.",
                               .kind = COUNTER,
                               .labels = {"kind", "state"}},
    [M_STEP_SECONDS] = {.name = "provisioner_step_seconds",
                        .help = "Duration of a job's step, from its start to its commit.",
                        .kind = HISTOGRAM,
                        .labels = {"kind", "step"},
                        .buckets = FAST_BUCKETS},
    [M_READY_SECONDS] = {.name = "provisioner_ready_seconds",
                         .help = "Time from an accepted created event to the ready subscription.",
                         .kind = HISTOGRAM,
                         .buckets = SLOW_BUCKETS},
    [M_EFFECTS_TOTAL] = {.name = "provisioner_effects_total",
                         .help = "Changes asked of other systems, by how they ended.",
                         .kind = COUNTER,
                         .labels = {"product", "class"}},
    [M_UPSTREAM_REQUESTS_TOTAL] = {.name = "provisioner_upstream_requests_total",
                                   .help = "Requests to upstreams, by class of status.",
                                   .kind = COUNTER,
                                   .labels = {"runtime", "product", "method", "status"}},
    [M_UPSTREAM_SECONDS] = {.name = "provisioner_upstream_seconds",
                            .help = "Duration of requests to upstreams.",
                            .kind = HISTOGRAM,
                            .labels = {"runtime", "product"},
                            .buckets = FAST_BUCKETS},
    [M_UPSTREAM_UP] = {.name = "provisioner_upstream_up",
                       .help = "Whether the upstream is driven (1) or its jobs are held (0).",
                       .kind = GAUGE,
                       .labels = {"runtime", "product"}},
    [M_JOBS_IN_HAND] = {.name = "provisioner_jobs_in_hand",
                        .help = "Jobs that this process is working on.",
                        .kind = GAUGE},
    [M_LEASES_LOST_TOTAL] = {.name = "provisioner_leases_lost_total",
                             .help = "Leases and fences that turned out to be lost.",
                             .kind = COUNTER},
    [M_TAKEOVERS_TOTAL] = {.name = "provisioner_takeovers_total",
                           .help = "Jobs taken over from workers whose lease ended.",
                           .kind = COUNTER},
    [M_INBOX_LAG] = {.name = "provisioner_inbox_lag_messages",
                     .help = "Messages read from Kafka and not settled yet.",
                     .kind = GAUGE},
    [M_KAFKA_LAG] = {.name = "provisioner_kafka_lag_messages",
                     .help = "Messages in the assigned partitions behind the stored offsets.",
                     .kind = GAUGE},
    [M_KAFKA_PAUSED] = {.name = "provisioner_kafka_paused",
                        .help = "Whether consumption is paused (1).",
                        .kind = GAUGE},
    [M_OUTBOX_WAITING] = {.name = "provisioner_outbox_waiting",
                          .help = "Outcomes in the database that Kafka has not acknowledged.",
                          .kind = GAUGE},
    [M_DEAD_LETTERS_TOTAL] = {.name = "provisioner_dead_letters_total",
                              .help = "Messages that could not be taken in.",
                              .kind = COUNTER},
    [M_LOOP_LAG_SECONDS] = {.name = "provisioner_loop_lag_seconds",
                            .help = "Longest turn of the event loop since the last scrape.",
                            .kind = GAUGE},
    [M_DATABASE_UP] = {.name = "provisioner_database_up",
                       .help = "Whether the database is connected (1).",
                       .kind = GAUGE},
    [M_DATABASE_GROUPS_TOTAL] = {.name = "provisioner_database_groups_total",
                                 .help = "Groups of statements that the database answered.",
                                 .kind = COUNTER},
    [M_DATABASE_STATEMENTS_TOTAL] = {.name = "provisioner_database_statements_total",
                                     .help = "Statements committed.",
                                     .kind = COUNTER},
    [M_WALDUR_UP] = {.name = "provisioner_waldur_up",
                     .help = "Whether Waldur is asked (1), or left alone until it is well (0).",
                     .kind = GAUGE},
    [M_WALDUR_HINTS_TOTAL] = {.name = "provisioner_waldur_hints_total",
                              .help = "Hints about orders, resources and keys, by where they came "
                                      "from and what they were about.",
                              .kind = COUNTER,
                              .labels = {"source", "kind"}},
    [M_WALDUR_HOOK_SECONDS] = {.name = "provisioner_waldur_hook_seconds",
                               .help = "Time from a webhook's last byte to its answer.",
                               .kind = HISTOGRAM,
                               .buckets = FAST_BUCKETS},
    [M_WALDUR_ORDERS] = {.name = "provisioner_waldur_orders",
                         .help = "Orders that wait to be read, are left, or are being carried out.",
                         .kind = GAUGE,
                         .labels = {"phase", "reason"}},
    [M_WALDUR_WAITING] = {.name = "provisioner_waldur_waiting",
                          .help = "Hints that were not looked into yet, and keys that are wanted.",
                          .kind = GAUGE,
                          .labels = {"what"}},
    [M_WALDUR_DROPPED_TOTAL] = {.name = "provisioner_waldur_dropped_total",
                                .help =
                                    "Looks at orders that brought no event, by why: not approved "
                                    "yet (and left), not ours, handled already, ...",
                                .kind = COUNTER,
                                .labels = {"reason"}},
    [M_WALDUR_REPORTS_TOTAL] = {.name = "provisioner_waldur_reports_total",
                                .help = "Orders whose end Waldur was told, and was seen to know.",
                                .kind = COUNTER,
                                .labels = {"state"}},
    [M_WALDUR_KEYS_TOTAL] = {.name = "provisioner_waldur_keys_total",
                             .help = "API keys that Waldur wanted, by what became of the wish.",
                             .kind = COUNTER,
                             .labels = {"end"}},
    [M_WALDUR_SWEEPS_TOTAL] = {.name = "provisioner_waldur_sweeps_total",
                               .help = "Sweeps over Waldur's open orders.",
                               .kind = COUNTER,
                               .labels = {"result"}},
    [M_BUILD_INFO] = {.name = "provisioner_build_info",
                      .help = "Always 1; the version is in the label.",
                      .kind = GAUGE,
                      .labels = {"version"}},
};

struct series {
    char *labels; /* rendered; "" for none */
    double value; /* histograms: the sum */
    uint64_t count;
    uint64_t *buckets; /* histograms: not cumulative */
};

struct series_list {
    struct series *items; /* sorted by labels */
    size_t n, cap;
};

struct metrics {
    struct series_list lists[METRIC_MAX];
};

/* ---- labels ---- */

/* Escapes into out (of twice LABEL_VALUE_MAX and more); returns the end. */
static char *put_value(char *out, const char *value)
{
    size_t n = strlen(value);
    if (!str_is_utf8(value, n)) {
        value = "other";
        n = strlen(value);
    }
    n = str_utf8_cut(value, n, LABEL_VALUE_MAX);
    for (size_t i = 0; i < n; i++) {
        if (value[i] == '\\' || value[i] == '"' || value[i] == '\n') {
            *out++ = '\\';
        }
        *out++ = value[i] == '\n' ? 'n' : value[i];
    }
    return out;
}

/* values NULL: every label is "other". */
static void render(const struct family *f, const char *const *values, char out[LABELS_TEXT_MAX])
{
    char *at = out;
    bool ended = false;
    for (size_t i = 0; f->labels[i]; i++) {
        ended = ended || (values && !values[i]);
        at = stpcpy(at, i ? "," : "");
        at = stpcpy(at, f->labels[i]);
        at = stpcpy(at, "=\"");
        at = put_value(at, !values ? "other" : ended ? "" : values[i]);
        *at++ = '"';
    }
    *at = '\0';
}

/* ---- series ---- */

/* Where it is, or would stand. */
static size_t find(const struct series_list *l, const char *labels, bool *found)
{
    size_t low = 0, high = l->n;
    *found = false;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(l->items[middle].labels, labels);
        if (order == 0) {
            *found = true;
            return middle;
        }
        if (order < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static size_t n_buckets(const struct family *f)
{
    size_t n = 0;
    while (n < BUCKETS_MAX && f->buckets[n] > 0) {
        n++;
    }
    return n;
}

static struct series *insert(struct series_list *l, size_t at, const struct family *f,
                             const char *labels)
{
    if (l->n == l->cap) {
        size_t cap = l->cap ? l->cap * 2 : 4;
        struct series *items = realloc(l->items, cap * sizeof(*items));
        if (!items) {
            return NULL;
        }
        l->items = items;
        l->cap = cap;
    }
    struct series s = {.labels = str_dup(labels)};
    s.buckets = f->kind == HISTOGRAM ? calloc(n_buckets(f), sizeof(*s.buckets)) : NULL;
    if (!s.labels || (f->kind == HISTOGRAM && !s.buckets)) {
        free(s.labels);
        free(s.buckets);
        return NULL;
    }
    memmove(&l->items[at + 1], &l->items[at], (l->n - at) * sizeof(s));
    l->items[at] = s;
    l->n++;
    return &l->items[at];
}

/* NULL when memory ends: the sample is dropped. */
static struct series *series_of(struct metrics *m, enum metric which, const char *const *values)
{
    static const char *const none[] = {NULL};
    const struct family *f = &families[which];
    struct series_list *l = &m->lists[which];
    char labels[LABELS_TEXT_MAX];
    bool found;
    render(f, values ? values : none, labels);
    size_t at = find(l, labels, &found);
    if (!found && l->n >= SERIES_MAX) {
        render(f, NULL, labels);
        at = find(l, labels, &found);
    }
    return found ? &l->items[at] : insert(l, at, f, labels);
}

static void list_clear(struct series_list *l)
{
    for (size_t i = 0; i < l->n; i++) {
        free(l->items[i].labels);
        free(l->items[i].buckets);
    }
    l->n = 0;
}

/* ---- life ---- */

struct metrics *metrics_new(struct err *err)
{
    struct metrics *m = calloc(1, sizeof(*m));
    if (!m) {
        err_nomem(err);
        return NULL;
    }
    /* What has no labels is there from the start, so that a rate has something to begin with. */
    for (int i = 0; i < METRIC_MAX; i++) {
        if (families[i].kind != GAUGE && !families[i].labels[0] &&
            !series_of(m, (enum metric)i, NULL)) {
            err_nomem(err);
            metrics_free(m);
            return NULL;
        }
    }
    metrics_set(m, M_BUILD_INFO, METRIC_LABELS(PROVISIONER_VERSION), 1);
    return m;
}

void metrics_free(struct metrics *m)
{
    if (!m) {
        return;
    }
    for (int i = 0; i < METRIC_MAX; i++) {
        list_clear(&m->lists[i]);
        free(m->lists[i].items);
    }
    free(m);
}

void metrics_add(struct metrics *m, enum metric which, const char *const *labels, double delta)
{
    struct series *s = series_of(m, which, labels);
    if (s) {
        s->value += delta;
    }
}

void metrics_set(struct metrics *m, enum metric which, const char *const *labels, double value)
{
    struct series *s = series_of(m, which, labels);
    if (s) {
        s->value = value;
    }
}

void metrics_clear(struct metrics *m, enum metric which)
{
    list_clear(&m->lists[which]);
}

void metrics_observe(struct metrics *m, enum metric which, const char *const *labels,
                     double seconds)
{
    const struct family *f = &families[which];
    struct series *s = series_of(m, which, labels);
    if (!s || !s->buckets) {
        return;
    }
    size_t n = n_buckets(f);
    for (size_t i = 0; i < n; i++) {
        if (seconds <= f->buckets[i]) {
            s->buckets[i]++;
            break;
        }
    }
    s->count++;
    s->value += seconds;
}

/* ---- text ---- */

/* The fewest digits that read back as the same number. */
static void add_number(struct buf *out, double x)
{
    char text[40];
    if (isnan(x) || isinf(x)) {
        buf_adds(out, isnan(x) ? "NaN" : x > 0 ? "+Inf" : "-Inf");
        return;
    }
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(text, sizeof(text), "%.*g", digits, x);
        if (digits == 17 || !(strtod(text, NULL) < x || strtod(text, NULL) > x)) {
            break;
        }
    }
    /* 1e+06 is right and read by nobody. */
    if (fabs(x) < 1e15 && !(x < floor(x) || x > floor(x))) {
        snprintf(text, sizeof(text), "%.0f", x);
    }
    buf_adds(out, text);
}

static void add_sample(struct buf *out, const char *name, const char *suffix, const char *labels,
                       double value)
{
    buf_addf(out, "%s%s%s%s%s ", name, suffix, labels[0] ? "{" : "", labels, labels[0] ? "}" : "");
    add_number(out, value);
    buf_addc(out, '\n');
}

static void add_bucket(struct buf *out, const struct family *f, const struct series *s,
                       const double *bound, uint64_t count)
{
    buf_addf(out, "%s_bucket{%s%sle=\"", f->name, s->labels, s->labels[0] ? "," : "");
    add_number(out, bound ? *bound : INFINITY);
    buf_adds(out, "\"} ");
    add_number(out, (double)count);
    buf_addc(out, '\n');
}

static void add_histogram(struct buf *out, const struct family *f, const struct series *s)
{
    uint64_t count = 0;
    size_t n = n_buckets(f);
    for (size_t i = 0; i < n; i++) {
        count += s->buckets[i];
        add_bucket(out, f, s, &f->buckets[i], count);
    }
    add_bucket(out, f, s, NULL, s->count);
    add_sample(out, f->name, "_sum", s->labels, s->value);
    add_sample(out, f->name, "_count", s->labels, (double)s->count);
}

int metrics_print(const struct metrics *m, struct buf *out)
{
    static const char *const kinds[] = {
        [COUNTER] = "counter", [GAUGE] = "gauge", [HISTOGRAM] = "histogram"};
    for (int i = 0; i < METRIC_MAX; i++) {
        const struct family *f = &families[i];
        const struct series_list *l = &m->lists[i];
        buf_addf(out, "# HELP %s %s\n# TYPE %s %s\n", f->name, f->help, f->name, kinds[f->kind]);
        for (size_t j = 0; j < l->n; j++) {
            if (f->kind == HISTOGRAM) {
                add_histogram(out, f, &l->items[j]);
            } else {
                add_sample(out, f->name, "", l->items[j].labels, l->items[j].value);
            }
        }
    }
    return out->failed ? -1 : 0;
}
