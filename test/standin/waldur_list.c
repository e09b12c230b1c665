/*
 * Lists: filters, order, pages. Arguments that mean nothing here are ignored, as Django ignores
 * them, but counted, because a misspelled filter is none.
 */
#include "waldur.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/json.h"
#include "base/str.h"

enum { ARGS_MAX = 64, SORTS_MAX = 8, PAGE_SIZE = 10, LINK_BYTES = 8192 };

enum shape { S_TEXT, S_UUID, S_CHOICE, S_TIME, S_SECONDS, S_BOOL };

struct arg;
typedef bool match_fn(const struct wd_store *s, const struct wd_record *r, const struct arg *a);

struct filter {
    const char *name;
    enum shape shape;
    bool many; /* any of several, else the last counts */
    bool since26;
    const char *const *choices;
    match_fn *match;
};

struct arg {
    const struct filter *filter;
    const char *text;
    char id[WD_HEX];
    int choice;
    int64_t us;
    bool flag;
};

struct list {
    enum wd_kind kind;
    const struct filter *filters; /* up to one without a name */
    const char *const *orders;    /* what `o` may be, without the dash; NULL: no such argument */
    int (*compare)(const struct wd_record *a, const struct wd_record *b, const char *by);
    const char *order; /* where nobody asks for one */
    cJSON *(*show)(const struct wd_show *show, const struct wd_record *r);
    bool (*visible)(const struct wd_store *s, const struct wd_record *r);
};

struct query {
    struct wd_call *c;
    const struct list *list;
    struct arg args[ARGS_MAX];
    size_t n;
    const char *sorts[SORTS_MAX];
    size_t n_sorts;
    int64_t page, size;
};

/* ---- reading arguments ---- */

static void refuse_choice(struct query *q, const char *name, const char *value)
{
    wd_invalid(q->c, name, "Select a valid choice. %s is not one of the available choices.", value);
}

/* "2026-11-26" and "2026-11-26T10:00" do as well. */
static bool read_time(const char *text, int64_t *us)
{
    char whole[CLOCK_TEXT_MAX + 16];
    size_t n = strlen(text);
    if (clock_parse(text, n, us))
        return true;
    static const char *const rests[] = {"Z", ":00Z", "T00:00:00Z"};
    for (size_t i = 0; i < ARRAY_LEN(rests); i++) {
        int len = snprintf(whole, sizeof(whole), "%s%s", text, rests[i]);
        if (len > 0 && (size_t)len < sizeof(whole) && clock_parse(whole, (size_t)len, us))
            return true;
    }
    return false;
}

static bool read_value(struct query *q, struct arg *a)
{
    const struct filter *f = a->filter;
    char *end;
    switch (f->shape) {
    case S_UUID:
        if (wd_hex(a->text, a->id))
            return true;
        wd_invalid(q->c, f->name, "Enter a valid UUID.");
        return false;
    case S_CHOICE:
        a->choice = wd_word(f->choices, a->text);
        if (a->choice >= 0)
            return true;
        refuse_choice(q, f->name, a->text);
        return false;
    case S_TIME:
        if (read_time(a->text, &a->us))
            return true;
        wd_invalid(q->c, f->name, "Enter a valid date/time.");
        return false;
    case S_SECONDS:
        a->us = (int64_t)(strtod(a->text, &end) * 1e6);
        if (*a->text && !*end)
            return true;
        wd_invalid(q->c, f->name, "Enter a number.");
        return false;
    case S_BOOL:
        a->flag = strcasecmp(a->text, "true") == 0 || str_eq(a->text, "1");
        return true;
    case S_TEXT:
        break;
    }
    return true;
}

static const struct filter *find_filter(const struct query *q, const char *name)
{
    for (const struct filter *f = q->list->filters; f->name; f++) {
        if (str_eq(f->name, name) && !(f->since26 && q->c->s->year == 24))
            return f;
    }
    return NULL;
}

static bool read_order(struct query *q, const char *value)
{
    const char *word = value + (value[0] == '-');
    if (!q->list->orders || wd_word(q->list->orders, word) < 0) {
        refuse_choice(q, "o", value);
        return false;
    }
    if (q->n_sorts < SORTS_MAX)
        q->sorts[q->n_sorts++] = value;
    return true;
}

static bool read_filter(struct query *q, const struct filter *f, const char *value)
{
    struct arg *a = NULL;
    if (!*value) /* an empty one is none */
        return true;
    for (size_t i = 0; !f->many && i < q->n; i++) {
        if (q->args[i].filter == f)
            a = &q->args[i];
    }
    if (!a && q->n == ARGS_MAX)
        return true;
    if (!a)
        a = &q->args[q->n++];
    *a = (struct arg){.filter = f, .text = value};
    return read_value(q, a);
}

static bool is_own(const char *name)
{
    static const char *const own[] = {"page", "page_size", "field", "o", NULL};
    return wd_word(own, name) >= 0;
}

static bool read_arguments(struct query *q)
{
    const char *name, *value;
    for (size_t i = 0; call_argument_at(q->c->http, i, &name, &value); i++) {
        const struct filter *f = is_own(name) ? NULL : find_filter(q, name);
        if (f && !read_filter(q, f, value))
            return false;
        if (str_eq(name, "o") && !read_order(q, value))
            return false;
        if (!f && !is_own(name))
            wd_count(q->c->s->ignored, name);
    }
    return true;
}

/* A size that is none is the default, one too large the largest; a page that is none is no page. */
static bool read_pages(struct query *q)
{
    const char *page = call_argument(q->c->http, "page");
    const char *size = call_argument(q->c->http, "page_size");
    int64_t most = q->c->s->year == 24 ? 300 : 100;
    q->page = 1;
    q->size = PAGE_SIZE;
    if (size && (!str_to_i64(size, &q->size) || q->size < 1))
        q->size = PAGE_SIZE;
    if (q->size > most)
        q->size = most;
    return !page || (str_to_i64(page, &q->page) && q->page >= 1);
}

/* ---- rows ---- */

/* Filters are all to be met; of one that was given several times, any. */
static bool meets(const struct query *q, const struct wd_record *r)
{
    for (size_t i = 0; i < q->n; i++) {
        const struct arg *a = &q->args[i];
        bool met = a->filter->match(q->c->s, r, a);
        for (size_t k = 0; k < q->n && a->filter->many && !met; k++)
            met = q->args[k].filter == a->filter && a->filter->match(q->c->s, r, &q->args[k]);
        if (!met)
            return false;
    }
    return true;
}

static int compare(const void *a, const void *b, void *ctx)
{
    const struct wd_record *const *x = a, *const *y = b;
    const struct query *q = ctx;
    for (size_t i = 0; i < q->n_sorts; i++) {
        bool down = q->sorts[i][0] == '-';
        int c = q->list->compare(*x, *y, q->sorts[i] + down);
        if (c)
            return down ? -c : c;
    }
    return (*x)->seq < (*y)->seq ? -1 : 1;
}

static size_t select_rows(struct query *q, struct wd_record **out)
{
    size_t n = 0;
    for (struct wd_record *r = q->c->s->first[q->list->kind]; r; r = r->next) {
        bool visible = !q->list->visible || q->list->visible(q->c->s, r);
        if (visible && meets(q, r))
            out[n++] = r;
    }
    bool in_order = q->n_sorts == 0 || (q->n_sorts == 1 && str_eq(q->sorts[0], "created"));
    if (!in_order)
        qsort_r(out, n, sizeof(*out), compare, q);
    return n;
}

/* ---- pages ---- */

static void add_link(struct query *q, struct buf *b, const char *rel, int64_t page)
{
    struct wd_show show;
    const char *name, *value;
    wd_show_begin(&show, q->c->s, q->c->http);
    buf_addf(b, "%s<%s%s?page=%lld", b->len ? ", " : "", show.base,
             q->c->http->path + strlen("/api"), (long long)page);
    for (size_t i = 0; call_argument_at(q->c->http, i, &name, &value); i++) {
        if (str_eq(name, "page"))
            continue;
        buf_addc(b, '&');
        buf_add_url(b, name);
        buf_addc(b, '=');
        buf_add_url(b, value);
    }
    buf_addf(b, ">; rel=\"%s\"", rel);
}

static void add_headers(struct query *q, size_t total, int64_t pages)
{
    char count[32];
    struct buf links;
    snprintf(count, sizeof(count), "%zu", total);
    reply_header(q->c->out, "X-Result-Count", count);
    buf_init(&links, LINK_BYTES);
    add_link(q, &links, "first", 1);
    if (q->page > 1)
        add_link(q, &links, "prev", q->page - 1);
    if (q->page < pages)
        add_link(q, &links, "next", q->page + 1);
    add_link(q, &links, "last", pages);
    if (!links.failed)
        reply_header(q->c->out, "Link", buf_str(&links));
    buf_done(&links);
}

static void answer(struct query *q, struct wd_record **rows, size_t n)
{
    int64_t pages = ((int64_t)n + q->size - 1) / q->size;
    struct wd_show show;
    pages = pages ? pages : 1;
    if (q->page > pages) {
        reply_detail(q->c->out, 404, "Invalid page.");
        return;
    }
    cJSON *list = cJSON_CreateArray();
    wd_show_begin(&show, q->c->s, q->c->http);
    size_t from = (size_t)((q->page - 1) * q->size);
    bool head = str_eq(q->c->http->method, "HEAD");
    for (size_t i = from; !head && i < n && i < from + (size_t)q->size; i++)
        cJSON_AddItemToArray(list, q->list->show(&show, rows[i]));
    reply_json(q->c->out, 200, list);
    add_headers(q, n, pages);
}

static void serve(struct wd_call *c, const struct list *list)
{
    struct query *q = calloc(1, sizeof(*q));
    struct wd_record **rows = calloc(c->s->count[list->kind] + 1, sizeof(struct wd_record *));
    if (!q || !rows) {
        wd_crash(c);
    } else {
        q->c = c;
        q->list = list;
        if (read_arguments(q)) {
            if (!q->n_sorts && list->order)
                q->sorts[q->n_sorts++] = list->order;
            if (read_pages(q))
                answer(q, rows, select_rows(q, rows));
            else
                reply_detail(c->out, 404, "Invalid page.");
        }
    }
    free(rows);
    free(q);
}

/* ---- what rows are compared with ---- */

static bool by_state(const struct wd_store *s, const struct wd_record *r, const struct arg *a)
{
    (void)s;
    return r->state == a->choice;
}

static bool by_type(const struct wd_store *s, const struct wd_record *r, const struct arg *a)
{
    (void)s;
    return (int)r->type == a->choice;
}

static bool is(const struct wd_record *r, const char *id)
{
    return r && str_eq(r->id, id);
}

static const struct wd_record *offering_of(const struct wd_record *r)
{
    return r->kind == WD_KEY ? r->resource->offering : r->offering;
}

static bool by_offering(const struct wd_store *s, const struct wd_record *r, const struct arg *a)
{
    (void)s;
    return is(offering_of(r), a->id);
}

static bool by_offering_slug(const struct wd_store *s, const struct wd_record *r,
                             const struct arg *a)
{
    (void)s;
    return str_eq(wd_text(r->offering, "slug"), a->text);
}

static bool by_offering_type(const struct wd_store *s, const struct wd_record *r,
                             const struct arg *a)
{
    (void)s;
    return str_eq(wd_text(r->offering, "type"), a->text);
}

static bool by_resource(const struct wd_store *s, const struct wd_record *r, const struct arg *a)
{
    (void)s;
    return is(r->resource, a->id);
}

static bool by_project(const struct wd_store *s, const struct wd_record *r, const struct arg *a)
{
    (void)s;
    return is(r->project, a->id);
}

static bool by_customer(const struct wd_store *s, const struct wd_record *r, const struct arg *a)
{
    (void)s;
    return is(r->project->customer, a->id);
}

static bool by_provider(const struct wd_store *s, const struct wd_record *r, const struct arg *a)
{
    (void)s;
    return is(r->offering->customer, a->id);
}

static bool by_created(const struct wd_store *s, const struct wd_record *r, const struct arg *a)
{
    (void)s;
    return r->created_us >= a->us;
}

static bool by_created_before(const struct wd_store *s, const struct wd_record *r,
                              const struct arg *a)
{
    (void)s;
    return r->created_us < a->us;
}

static bool by_modified(const struct wd_store *s, const struct wd_record *r, const struct arg *a)
{
    (void)s;
    return r->modified_us >= a->us;
}

static bool by_modified_before(const struct wd_store *s, const struct wd_record *r,
                               const struct arg *a)
{
    (void)s;
    return r->modified_us < a->us;
}

static bool by_name(const struct wd_store *s, const struct wd_record *r, const struct arg *a)
{
    (void)s;
    return strcasestr(wd_text(r->kind == WD_ORDER ? r->resource : r, "name"), a->text) != NULL;
}

static bool by_exact_name(const struct wd_store *s, const struct wd_record *r, const struct arg *a)
{
    (void)s;
    return str_eq(wd_text(r, "name"), a->text);
}

static bool by_query(const struct wd_store *s, const struct wd_record *r, const struct arg *a)
{
    return by_name(s, r, a) || strcasestr(wd_text(r, "slug"), a->text) ||
           strcasestr(wd_text(r, "backend_id"), a->text);
}

static bool by_slug(const struct wd_store *s, const struct wd_record *r, const struct arg *a)
{
    (void)s;
    return str_eq(wd_text(r, "slug"), a->text);
}

static bool by_backend_id(const struct wd_store *s, const struct wd_record *r, const struct arg *a)
{
    (void)s;
    return str_eq(wd_text(r, "backend_id"), a->text);
}

static bool by_paused(const struct wd_store *s, const struct wd_record *r, const struct arg *a)
{
    (void)s;
    return json_bool(r->own, "paused", false) == a->flag;
}

static bool by_provider_review(const struct wd_store *s, const struct wd_record *r,
                               const struct arg *a)
{
    (void)s;
    return !a->flag || r->state == WD_PENDING_PROVIDER;
}

static bool by_consumer_review(const struct wd_store *s, const struct wd_record *r,
                               const struct arg *a)
{
    (void)s;
    return !a->flag || r->state == WD_PENDING_CONSUMER;
}

static bool by_open_order(const struct wd_store *s, const struct wd_record *r, const struct arg *a)
{
    (void)s;
    for (const struct wd_record *o = r->first_order; o; o = o->next_order) {
        if (o->state == a->choice)
            return true;
    }
    return false;
}

static bool by_event_type(const struct wd_store *s, const struct wd_record *r, const struct arg *a)
{
    (void)s;
    return str_eq(wd_text(r, "event_type"), a->text);
}

/* "resource_uuid" looks at the event's member "resource". */
static bool by_event_scope(const struct wd_store *s, const struct wd_record *r, const struct arg *a)
{
    char member[WD_WORD_MAX];
    (void)s;
    str_copy(member, sizeof(member), a->filter->name);
    member[strcspn(member, "_")] = '\0';
    return str_eq(wd_text(r, member), a->id);
}

static bool by_message(const struct wd_store *s, const struct wd_record *r, const struct arg *a)
{
    (void)s;
    return strcasestr(wd_text(r, "message"), a->text) != NULL;
}

/* ---- the lists ---- */

static int by_number(int64_t a, int64_t b)
{
    return (a > b) - (a < b);
}

static int compare_rows(const struct wd_record *a, const struct wd_record *b, const char *by)
{
    if (str_eq(by, "created"))
        return by_number(a->created_us, b->created_us);
    if (str_eq(by, "modified"))
        return by_number(a->modified_us, b->modified_us);
    if (str_eq(by, "state"))
        return by_number(a->state, b->state);
    if (str_eq(by, "consumer_reviewed_at"))
        return by_number(a->consumer_us, b->consumer_us);
    if (str_eq(by, "name") || str_eq(by, "end_date"))
        return strcmp(wd_text(a, by), wd_text(b, by));
    if (str_eq(by, "project_name"))
        return strcmp(wd_text(a->project, "name"), wd_text(b->project, "name"));
    return 0; /* all cost the same */
}

static bool offering_is_seen(const struct wd_store *s, const struct wd_record *r)
{
    (void)s;
    return !json_bool(offering_of(r)->own, "hidden", false);
}

/* Events are the consumers' and the staff's. */
static bool events_are_seen(const struct wd_store *s, const struct wd_record *r)
{
    (void)r;
    return s->settings.is_staff || s->settings.is_support;
}

static bool hook_is_seen(const struct wd_store *s, const struct wd_record *r)
{
    (void)s;
    return !json_get(r->own, "form");
}

void wd_order_list(struct wd_call *c)
{
    static const struct filter filters[] = {
        {"state", S_CHOICE, true, false, wd_order_states, by_state},
        {"type", S_CHOICE, true, false, wd_types, by_type},
        {"offering_uuid", S_UUID, true, false, NULL, by_offering},
        {"offering", S_UUID, false, false, NULL, by_offering},
        {"offering_slug", S_TEXT, true, false, NULL, by_offering_slug},
        {"offering_type", S_TEXT, true, false, NULL, by_offering_type},
        {"provider_uuid", S_UUID, false, false, NULL, by_provider},
        {"customer_uuid", S_UUID, false, false, NULL, by_customer},
        {"project_uuid", S_UUID, false, false, NULL, by_project},
        {"resource", S_UUID, false, false, NULL, by_resource},
        {"resource_uuid", S_UUID, false, false, NULL, by_resource},
        {"resource_name", S_TEXT, false, false, NULL, by_name},
        {"query", S_TEXT, false, false, NULL, by_query},
        {"slug", S_TEXT, false, true, NULL, by_slug},
        {"created", S_TIME, false, false, NULL, by_created},
        {"created_before", S_TIME, false, true, NULL, by_created_before},
        {"modified", S_TIME, false, false, NULL, by_modified},
        {"modified_before", S_TIME, false, true, NULL, by_modified_before},
        {"can_approve_as_provider", S_BOOL, false, false, NULL, by_provider_review},
        {"can_approve_as_consumer", S_BOOL, false, false, NULL, by_consumer_review},
        {0}};
    static const char *const orders[] = {"created", "consumer_reviewed_at", "cost", "state", NULL};
    static const struct list list = {.kind = WD_ORDER,
                                     .filters = filters,
                                     .orders = orders,
                                     .compare = compare_rows,
                                     .show = wd_show_order,
                                     .visible = offering_is_seen};
    serve(c, &list);
}

void wd_resource_list(struct wd_call *c)
{
    static const struct filter filters[] = {
        {"state", S_CHOICE, true, false, wd_resource_states, by_state},
        {"order_state", S_CHOICE, true, false, wd_order_states, by_open_order},
        {"offering_uuid", S_UUID, true, false, NULL, by_offering},
        {"offering", S_UUID, false, false, NULL, by_offering},
        {"offering_slug", S_TEXT, true, false, NULL, by_offering_slug},
        {"offering_type", S_TEXT, false, false, NULL, by_offering_type},
        {"provider_uuid", S_UUID, false, false, NULL, by_provider},
        {"customer", S_UUID, false, false, NULL, by_customer},
        {"customer_uuid", S_UUID, false, false, NULL, by_customer},
        {"project_uuid", S_UUID, false, false, NULL, by_project},
        {"name", S_TEXT, false, false, NULL, by_name},
        {"name_exact", S_TEXT, false, false, NULL, by_exact_name},
        {"query", S_TEXT, false, false, NULL, by_query},
        {"backend_id", S_TEXT, false, false, NULL, by_backend_id},
        {"paused", S_BOOL, false, false, NULL, by_paused},
        {"created", S_TIME, false, false, NULL, by_created},
        {"modified", S_TIME, false, false, NULL, by_modified},
        {0}};
    static const char *const orders[] = {"created",      "end_date", "name",
                                         "project_name", "state",    NULL};
    static const struct list list = {.kind = WD_RESOURCE,
                                     .filters = filters,
                                     .orders = orders,
                                     .compare = compare_rows,
                                     .show = wd_show_resource,
                                     .visible = offering_is_seen};
    serve(c, &list);
}

void wd_key_list(struct wd_call *c)
{
    static const struct filter filters[] = {
        {"state", S_CHOICE, true, false, wd_key_states, by_state},
        {"resource_uuid", S_UUID, false, false, NULL, by_resource},
        {"offering_uuid", S_UUID, true, false, NULL, by_offering},
        {"modified", S_TIME, false, false, NULL, by_modified},
        {"modified_before", S_TIME, false, false, NULL, by_modified_before},
        {0}};
    static const char *const orders[] = {"created", "modified", NULL};
    static const struct list list = {.kind = WD_KEY,
                                     .filters = filters,
                                     .orders = orders,
                                     .compare = compare_rows,
                                     .show = wd_show_key,
                                     .visible = offering_is_seen};
    serve(c, &list);
}

void wd_hook_list(struct wd_call *c)
{
    static const struct filter filters[] = {{0}};
    static const struct list list = {
        .kind = WD_HOOK, .filters = filters, .show = wd_show_hook, .visible = hook_is_seen};
    serve(c, &list);
}

void wd_event_list(struct wd_call *c)
{
    static const struct filter filters[] = {
        {"event_type", S_TEXT, true, false, NULL, by_event_type},
        {"created_from", S_SECONDS, false, false, NULL, by_created},
        {"created_to", S_SECONDS, false, false, NULL, by_created_before},
        {"resource_uuid", S_UUID, false, true, NULL, by_event_scope},
        {"customer_uuid", S_UUID, false, false, NULL, by_event_scope},
        {"project_uuid", S_UUID, false, false, NULL, by_event_scope},
        {"message", S_TEXT, false, false, NULL, by_message},
        {0}};
    static const char *const orders[] = {"created", NULL};
    static const struct list list = {.kind = WD_EVENT,
                                     .filters = filters,
                                     .orders = orders,
                                     .compare = compare_rows,
                                     .order = "-created",
                                     .show = wd_show_event,
                                     .visible = events_are_seen};
    serve(c, &list);
}
