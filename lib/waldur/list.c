#include "waldur/list.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/str.h"
#include "waldur/native.h"

/*
 * A list that Waldur sorts by creation is walked: the next request asks for what was created since
 * the last row, so a row that leaves the list shifts nothing. Rows of one time go by pages. Where a
 * server turns out not to sort or not to filter, the list is begun anew and read by pages alone;
 * what was told is not told again.
 */
enum { STALE_PAGES_MAX = 20 }; /* in a row without a new one, beside those of what was told */

/* UUIDs that were told: open addressing, doubled when half full. */
struct seen {
    char (*uuids)[UUID_TEXT];
    size_t n, room; /* room is a power of 2, or 0 */
};

struct list_op {
    struct waldur_op op;
    struct waldur_list_target target;
    size_t offering;  /* whose list is read */
    bool by_pages;    /* this one cannot be walked */
    int64_t after_us; /* rows created since then are asked for; -1: all */
    int page;
    int stale;
    struct seen seen;
    struct waldur_list result;
};

/* ---- what was told ---- */

static size_t place(const struct seen *s, const char *uuid)
{
    uint64_t hash = 1469598103934665603U; /* FNV-1a */
    for (const char *p = uuid; *p; p++) {
        hash = (hash ^ (unsigned char)*p) * 1099511628211U;
    }
    size_t at = (size_t)hash & (s->room - 1);
    while (s->uuids[at][0] && !str_eq(s->uuids[at], uuid)) {
        at = (at + 1) & (s->room - 1);
    }
    return at;
}

static int grow(struct seen *s)
{
    struct seen bigger = {.n = s->n, .room = s->room ? 2 * s->room : 256};
    bigger.uuids = calloc(bigger.room, sizeof(*bigger.uuids));
    if (!bigger.uuids) {
        return -1;
    }
    for (size_t i = 0; i < s->room; i++) {
        if (s->uuids[i][0]) {
            memcpy(bigger.uuids[place(&bigger, s->uuids[i])], s->uuids[i], UUID_TEXT);
        }
    }
    free(s->uuids);
    *s = bigger;
    return 0;
}

/* 1: it is new; 0: it was there; -1: memory ended. */
static int add(struct seen *s, const char *uuid)
{
    if (2 * s->n >= s->room && grow(s)) {
        return -1;
    }
    size_t at = place(s, uuid);
    if (s->uuids[at][0]) {
        return 0;
    }
    memcpy(s->uuids[at], uuid, UUID_TEXT);
    s->n++;
    return 1;
}

/* ---- rows ---- */

static int read_order_row(const cJSON *item, struct waldur_row *row, struct json_fault *fault)
{
    const char *type = NULL, *state = NULL;
    if (waldur_read_uuid(item, "uuid", row->uuid, fault) ||
        waldur_read_text(item, "type", &type, fault) ||
        waldur_read_text(item, "state", &state, fault) ||
        waldur_read_uuid(item, "marketplace_resource_uuid", row->resource_uuid, fault) ||
        waldur_read_uuid(item, "offering_uuid", row->offering_uuid, fault) ||
        waldur_read_time(item, "created", &row->created_us, fault) ||
        waldur_read_time(item, "modified", &row->modified_us, fault)) {
        return -1;
    }
    row->order_type = waldur_order_type_parse(type);
    row->order_state = waldur_order_state_parse(state);
    return 0;
}

static int read_resource_row(const cJSON *item, struct waldur_row *row, struct json_fault *fault)
{
    const char *state = NULL;
    if (waldur_read_uuid(item, "uuid", row->uuid, fault) ||
        waldur_read_text(item, "state", &state, fault) ||
        waldur_read_uuid(item, "offering_uuid", row->offering_uuid, fault) ||
        waldur_read_whole(item, "backend_id", row->backend_id, WALDUR_BACKEND_ID_MAX, fault) ||
        waldur_read_flag(item, "paused", &row->paused, fault) ||
        waldur_read_time(item, "created", &row->created_us, fault) ||
        waldur_read_time(item, "modified", &row->modified_us, fault)) {
        return -1;
    }
    row->resource_state = waldur_resource_state_parse(state);
    memcpy(row->resource_uuid, row->uuid, sizeof(row->uuid));
    return 0;
}

static int read_key_row(const cJSON *item, struct waldur_row *row, struct json_fault *fault)
{
    struct key_row key;
    if (key_row_read(item, &key, fault)) {
        return -1;
    }
    memcpy(row->uuid, key.uuid, sizeof(key.uuid));
    memcpy(row->resource_uuid, key.resource_uuid, sizeof(key.resource_uuid));
    memcpy(row->client_id, key.client_id, sizeof(key.client_id));
    row->key_state = key.state;
    row->modified_us = key.modified_us;
    return 0;
}

static int read_event_row(const cJSON *item, struct waldur_row *row, struct json_fault *fault)
{
    if (waldur_read_uuid(item, "uuid", row->uuid, fault) ||
        hook_of_event(item, &row->hook, fault)) {
        return -1;
    }
    memcpy(row->resource_uuid, row->hook.resource_uuid, sizeof(row->resource_uuid));
    memcpy(row->offering_uuid, row->hook.offering_uuid, sizeof(row->offering_uuid));
    row->order_type = row->hook.order_type;
    row->order_state = row->hook.order_state;
    row->created_us = row->hook.created_us;
    return 0;
}

static int read_row(enum waldur_list_kind kind, const cJSON *item, struct waldur_row *row,
                    struct json_fault *fault)
{
    static int (*const read[])(const cJSON *, struct waldur_row *,
                               struct json_fault *) = {[WALDUR_LIST_ORDERS] = read_order_row,
                                                       [WALDUR_LIST_RESOURCES] = read_resource_row,
                                                       [WALDUR_LIST_KEYS] = read_key_row,
                                                       [WALDUR_LIST_EVENTS] = read_event_row};
    *row = (struct waldur_row){.kind = kind, .created_us = -1, .modified_us = -1};
    row->hook.created_us = -1;
    if (!cJSON_IsObject(item)) {
        return json_refuse(fault, "", "must be an object");
    }
    if (read[kind](item, row, fault)) {
        return -1;
    }
    return row->uuid[0] ? 0 : waldur_refuse(fault, "uuid", "is required");
}

/* ---- requests ---- */

struct kind {
    const char *path;
    const char *const *fields; /* what is asked for alone; NULL: all that there is */
    const char *(*state)(unsigned state);
    unsigned states;
    bool sorted;
};

static const char *order_state(unsigned state)
{
    return waldur_order_state_name((enum waldur_order_state)state);
}

static const char *resource_state(unsigned state)
{
    return waldur_resource_state_name((enum waldur_resource_state)state);
}

static const char *key_state(unsigned state)
{
    return waldur_key_state_name((enum waldur_key_state)state);
}

static const char *const order_fields[] = {
    "uuid",          "type",    "state",    "marketplace_resource_uuid",
    "offering_uuid", "created", "modified", NULL};
static const char *const resource_fields[] = {"uuid",   "state",   "offering_uuid", "backend_id",
                                              "paused", "created", "modified",      NULL};

static const struct kind kinds[] = {
    [WALDUR_LIST_ORDERS] = {waldur_orders, order_fields, order_state, WALDUR_ORDER_MAX, true},
    [WALDUR_LIST_RESOURCES] = {waldur_resources, resource_fields, resource_state,
                               WALDUR_RESOURCE_MAX, true},
    [WALDUR_LIST_KEYS] = {waldur_keys, NULL, key_state, WALDUR_KEY_MAX, false},
    [WALDUR_LIST_EVENTS] = {"/events/", NULL, NULL, 0, true},
};

static const struct kind *kind_of(const struct list_op *l)
{
    return &kinds[l->target.kind];
}

static void add_query(struct buf *path, const char *name, const char *value)
{
    buf_addf(path, "&%s=", name);
    buf_add_url(path, value);
}

static void add_time(struct buf *path, const char *name, int64_t us)
{
    char text[CLOCK_TEXT_MAX];
    clock_format_us(text, us);
    add_query(path, name, text);
}

static void add_times(const struct list_op *l, struct buf *path)
{
    if (l->target.kind == WALDUR_LIST_EVENTS) {
        if (l->after_us >= 0) {
            /* Whole seconds: a fraction may be rounded up on its way, and pass a row by. */
            buf_addf(path, "&created_from=%lld", (long long)(l->after_us / 1000000));
        }
        return;
    }
    if (l->after_us >= 0) {
        add_time(path, "created", l->after_us);
    }
    if (l->target.kind == WALDUR_LIST_RESOURCES && l->target.since_us >= 0) {
        add_time(path, "modified", l->target.since_us);
    }
}

static void list_next(struct waldur_op *op, struct waldur_action *out)
{
    struct list_op *l = (struct list_op *)op;
    const struct kind *kind = kind_of(l);
    struct buf path;
    buf_init(&path, EXCHANGE_URL_MAX - 1);
    buf_addf(&path, "%s?page_size=%d&page=%d", kind->path, WALDUR_LIST_PAGE, l->page);
    if (kind->sorted) {
        buf_adds(&path, "&o=created");
    }
    if (l->target.kind != WALDUR_LIST_EVENTS && l->target.n_offerings > 0) {
        add_query(&path, "offering_uuid", l->target.offerings[l->offering]);
    }
    for (unsigned state = 1; state < kind->states; state++) {
        if (l->target.states & (1U << state)) {
            add_query(&path, "state", kind->state(state));
        }
    }
    for (size_t i = 0; l->target.kind == WALDUR_LIST_EVENTS && i < l->target.n_event_types; i++) {
        add_query(&path, "event_type", l->target.event_types[i]);
    }
    add_times(l, &path);
    for (const char *const *field = kind->fields; field && *field; field++) {
        add_query(&path, "field", *field);
    }
    if (path.failed) {
        op_fail_with(op, path.full ? ERR_INVALID : ERR_INTERNAL,
                     "the request for the list is too long; ask for less at once");
    } else {
        op_request(op, out, buf_str(&path), NULL, NULL);
    }
    buf_done(&path);
}

/* ---- answers ---- */

static void begin(struct list_op *l, bool by_pages)
{
    l->by_pages = by_pages || !kind_of(l)->sorted;
    l->after_us = l->target.kind == WALDUR_LIST_ORDERS || l->target.kind == WALDUR_LIST_EVENTS
                      ? l->target.since_us
                      : -1;
    l->page = 1;
    l->stale = 0;
}

static void list_ended(struct list_op *l)
{
    if (l->target.kind != WALDUR_LIST_EVENTS && l->offering + 1 < l->target.n_offerings) {
        l->offering++;
        begin(l, false);
        return;
    }
    op_done(&l->op);
}

/* What one page showed. */
struct page {
    int rows, fresh;
    bool walkable; /* sorted, and nothing of before what was asked for */
    int64_t last_us;
};

/* Where a second is asked for, a row may be of before the microsecond. */
static bool in_order(const struct list_op *l, const struct page *p, int64_t created_us)
{
    int64_t from = p->rows > 1 ? p->last_us : l->after_us;
    if (l->target.kind == WALDUR_LIST_EVENTS && p->rows <= 1) {
        from -= from > 0 ? from % 1000000 : 0;
    }
    return created_us >= 0 && created_us >= from;
}

/* False: enough, or the operation failed. */
static bool tell(struct list_op *l, const struct waldur_row *row, struct page *p)
{
    int fresh = add(&l->seen, row->uuid);
    if (fresh < 0) {
        op_fail_with(&l->op, ERR_INTERNAL, "out of memory");
        return false;
    }
    if (fresh == 0) {
        return true;
    }
    if (l->result.rows == WALDUR_LIST_ROWS_MAX) {
        op_fail_with(&l->op, ERR_UNKNOWN, "the list is longer than is sensible; ask for less");
        return false;
    }
    p->fresh++;
    l->result.rows++;
    if (l->target.row(l->target.ctx, row)) {
        op_done(&l->op);
        return false;
    }
    return true;
}

static void read_page(struct list_op *l, const cJSON *array, struct page *p)
{
    const cJSON *item = NULL;
    cJSON_ArrayForEach(item, array)
    {
        struct waldur_row row;
        struct json_fault fault;
        p->rows++;
        if (read_row(l->target.kind, item, &row, &fault)) {
            l->result.skipped++;
            continue;
        }
        p->walkable = p->walkable && in_order(l, p, row.created_us);
        p->last_us = row.created_us;
        if (!tell(l, &row, p)) {
            return;
        }
    }
}

static void after_page(struct list_op *l, const struct page *p)
{
    l->stale = p->fresh > 0 ? 0 : l->stale + 1;
    if (p->rows < PAGE_LEAST && (p->walkable || l->by_pages)) {
        list_ended(l);
    } else if (l->stale > STALE_PAGES_MAX + (int)(l->result.rows / PAGE_LEAST)) {
        op_fail_with(&l->op, ERR_UNKNOWN, "Waldur's list does not end");
    } else if (l->by_pages) {
        l->page++;
    } else if (!p->walkable) {
        begin(l, true);
    } else if (p->last_us > l->after_us &&
               (l->target.kind != WALDUR_LIST_EVENTS ||
                p->last_us / 1000000 > l->after_us / 1000000 || l->after_us < 0)) {
        l->after_us = p->last_us;
        l->page = 1;
    } else {
        l->page++;
    }
}

static void without_keys(struct list_op *l, struct waldur_outcome *out)
{
    switch (op_without_keys(&l->op, out)) {
    case KEYS_DOUBT:
        l->op.wait_ms = l->op.access.settle_ms;
        return;
    case KEYS_NONE_HERE:
        l->result.not_supported = true;
        op_done(&l->op);
        return;
    case KEYS_MORE:
    case KEYS_END:
    case KEYS_FAILED:
        return;
    }
}

/* A 404: past the end; or not there at all. */
static void without_page(struct list_op *l, struct waldur_outcome *out)
{
    if (l->page > 1 && out->answered) {
        err_clear(&out->err);
        list_ended(l);
    } else if (l->target.kind == WALDUR_LIST_KEYS && l->page == 1) {
        without_keys(l, out);
    } else {
        if (out->err.class == ERR_GONE) {
            err_set(&out->err, ERR_UNAVAILABLE,
                    "Waldur knows no such list (HTTP 404); check waldur.url");
            out->err.http_status = 404;
        }
        op_fail(&l->op, &out->err);
    }
}

static void list_feed(struct waldur_op *op, const struct exchange_response *r,
                      struct waldur_outcome *out)
{
    struct list_op *l = (struct list_op *)op;
    struct page page = {.walkable = true, .last_us = -1};
    struct json_fault fault;
    cJSON *array = NULL;
    enum err_class class = op_looked(op, r, out);
    if (r->status == 404 || class == ERR_GONE) {
        without_page(l, out);
        return;
    }
    if (class != ERR_NONE) {
        op_fail(op, &out->err);
        return;
    }
    if (r->truncated || json_parse(r->body, r->body_len, &waldur_body_limits, &array, &fault)) {
        op_unreadable(op, r, out, "list", r->truncated ? NULL : &fault);
        return;
    }
    if (!cJSON_IsArray(array)) {
        op_unreadable(op, r, out, "list", NULL);
    } else {
        read_page(l, array, &page);
        if (op->end == OP_RUNS) {
            after_page(l, &page);
        }
    }
    cJSON_Delete(array);
}

/* ---- life ---- */

static void list_free(struct waldur_op *op)
{
    struct list_op *l = (struct list_op *)op;
    free(l->seen.uuids);
    free(l);
}

struct waldur_op *waldur_list_start(const struct waldur_list_target *target, struct err *err)
{
    static const struct waldur_op_class class = {
        .next = list_next, .feed = list_feed, .free = list_free};
    struct list_op *l = calloc(1, sizeof(*l));
    if (!l) {
        err_nomem(err);
        return NULL;
    }
    op_init(&l->op, &class, &target->access);
    l->target = *target;
    /* Every page tells a row or is stale, and each list may be begun anew once. */
    l->op.rounds_max =
        2 * (WALDUR_LIST_ROWS_MAX + STALE_PAGES_MAX * (1 + (int)target->n_offerings));
    begin(l, false);
    return &l->op;
}

const struct waldur_list *waldur_list_of(const struct waldur_op *op)
{
    return &((const struct list_op *)op)->result;
}
