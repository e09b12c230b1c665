#include "table.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <wchar.h>

#include "base/clock.h"
#include "base/str.h"

enum {
    CELL_BYTES_MAX = 8 * 1024 * 1024, /* a dead letter's value, escaped, is the longest */
    CELL_WIDTH_MIN = 8,               /* what a flexible column keeps */
    CELL_WIDTH_LEAST = 4,             /* what any column keeps */
    GAP = 2,
};

/* ---- characters ---- */

static uint32_t decode(const char *s, size_t step)
{
    static const unsigned char masks[] = {0, 0x7f, 0x1f, 0x0f, 0x07};
    uint32_t c = (unsigned char)s[0] & masks[step];
    for (size_t i = 1; i < step; i++)
        c = c << 6 | ((unsigned char)s[i] & 0x3fU);
    return c;
}

/* Steers a terminal, reorders or hides what stands around it. */
static bool is_unsafe(uint32_t c)
{
    return c < 0x20 || (c >= 0x7f && c <= 0x9f) || c == 0xad || c == 0x61c || c == 0x180e ||
           (c >= 0x200b && c <= 0x200f) || (c >= 0x2028 && c <= 0x202e) ||
           (c >= 0x2060 && c <= 0x206f) || c == 0xfeff || (c >= 0xfff9 && c <= 0xfffb) ||
           (c >= 0xe0000 && c <= 0xe0fff);
}

static void escape_one(struct buf *out, uint32_t c)
{
    if (c == '\n')
        buf_adds(out, "\\n");
    else if (c == '\t')
        buf_adds(out, "\\t");
    else if (c == '\r')
        buf_adds(out, "\\r");
    else if (c < 0x100)
        buf_addf(out, "\\x%02" PRIx32, c);
    else
        buf_addf(out, "\\u{%" PRIx32 "}", c);
}

void table_escape(struct buf *out, const char *s, size_t n)
{
    size_t from = 0;
    for (size_t i = 0; i < n;) {
        size_t step = str_utf8_step(s + i, n - i);
        uint32_t c = step ? decode(s + i, step) : (unsigned char)s[i];
        if (step && !is_unsafe(c)) {
            i += step;
            continue;
        }
        buf_add(out, s + from, i - from);
        escape_one(out, c);
        i += step ? step : 1;
        from = i;
    }
    buf_add(out, s + from, n - from);
}

static size_t char_width(const char *s, size_t step)
{
    int w = wcwidth((wchar_t)decode(s, step));
    return w < 0 ? 1 : (size_t)w;
}

size_t table_width(const char *s, size_t n)
{
    size_t width = 0;
    for (size_t i = 0; i < n;) {
        size_t step = str_utf8_step(s + i, n - i);
        width += step ? char_width(s + i, step) : 1;
        i += step ? step : 1;
    }
    return width;
}

/* s cut to `width` columns, with "…" where something is missing. Returns the columns used. */
static size_t add_cut(struct buf *out, const char *s, size_t n, size_t width)
{
    size_t used = 0, i = 0;
    if (table_width(s, n) <= width) {
        buf_add(out, s, n);
        return table_width(s, n);
    }
    while (i < n) {
        size_t step = str_utf8_step(s + i, n - i);
        step = step ? step : 1;
        size_t w = char_width(s + i, step);
        if (used + w + 1 > width)
            break;
        used += w;
        i += step;
    }
    buf_add(out, s, i);
    buf_adds(out, "…");
    return used + 1;
}

static void pad(struct buf *out, size_t n)
{
    for (size_t i = 0; i < n; i++)
        buf_addc(out, ' ');
}

/* ---- times ---- */

bool table_time(const char *text, int64_t *us)
{
    char rfc[64];
    size_t n = strlen(text);
    if (n < 3 || !str_copy(rfc, sizeof(rfc), text))
        return false;
    if (n > 10 && rfc[10] == ' ')
        rfc[10] = 'T';
    if (memcmp(rfc + n - 3, "+00", 3) == 0) {
        rfc[n - 3] = 'Z';
        n -= 2;
    }
    return clock_parse(rfc, n, us);
}

void table_ago(struct buf *out, int64_t at_us, int64_t now_us)
{
    static const struct {
        int64_t seconds;
        char unit;
    } units[] = {{86400, 'd'}, {3600, 'h'}, {60, 'm'}, {1, 's'}};
    int64_t s = (now_us - at_us) / 1000000;
    bool future = s < 0;
    uint64_t length = future ? (uint64_t)-s : (uint64_t)s;
    for (size_t i = 0; i < ARRAY_LEN(units); i++) {
        /* Two of a unit before it is used: "90m", not "1h". */
        uint64_t unit = (uint64_t)units[i].seconds;
        if (length < unit * (unit == 1 ? 1 : 2))
            continue;
        buf_addf(out, "%s%" PRIu64 "%c%s", future ? "in " : "", length / unit, units[i].unit,
                 future ? "" : " ago");
        return;
    }
    buf_adds(out, "now");
}

static void add_time(struct buf *out, const char *text, const struct table_view *view)
{
    int64_t us;
    char rfc[CLOCK_TEXT_MAX];
    if (!table_time(text, &us)) {
        table_escape(out, text, strlen(text));
        return;
    }
    if (!view->absolute) {
        table_ago(out, us, view->now_us);
        return;
    }
    clock_format(rfc, us / 1000000 * 1000000);
    buf_adds(out, rfc);
    buf_adds(out, " (");
    table_ago(out, us, view->now_us);
    buf_addc(out, ')');
}

/* ---- text ---- */

static void add_cell(const struct table *t, size_t row, size_t column,
                     const struct table_view *view, struct buf *out)
{
    const char *text = t->cell(t->ctx, row, column);
    if (!text)
        return;
    switch (t->columns[column].kind) {
    case CELL_TIME:
        add_time(out, text, view);
        return;
    case CELL_BOOL:
        buf_adds(out, str_eq(text, "t") ? "yes" : "no");
        return;
    case CELL_TEXT:
    case CELL_NUMBER:
    case CELL_JSON:
        break;
    }
    table_escape(out, text, strlen(text));
}

struct layout {
    size_t width[TABLE_COLUMNS_MAX]; /* 0: not shown */
};

static void measure(const struct table *t, const struct table_view *view, struct buf *cell,
                    struct layout *l)
{
    *l = (struct layout){0};
    for (size_t c = 0; c < t->n_columns; c++) {
        if (!t->columns[c].title)
            continue;
        l->width[c] = table_width(t->columns[c].title, strlen(t->columns[c].title));
        for (size_t r = 0; r < t->n_rows; r++) {
            buf_reset(cell);
            add_cell(t, r, c, view, cell);
            size_t w = table_width(buf_str(cell), cell->len);
            l->width[c] = w > l->width[c] ? w : l->width[c];
        }
    }
}

/* The line's width with every flexible column at its least when `least`. */
static size_t line_width(const struct table *t, const struct layout *l, bool least)
{
    size_t total = 0;
    for (size_t c = 0; c < t->n_columns; c++) {
        size_t w = l->width[c];
        if (least && t->columns[c].flexible && w > CELL_WIDTH_MIN)
            w = CELL_WIDTH_MIN;
        total += w ? w + GAP : 0;
    }
    return total > GAP ? total - GAP : total;
}

static bool drop_one(const struct table *t, struct layout *l)
{
    size_t worst = t->n_columns;
    for (size_t c = 0; c < t->n_columns; c++) {
        if (l->width[c] && t->columns[c].drop > 0 &&
            (worst == t->n_columns || t->columns[c].drop > t->columns[worst].drop))
            worst = c;
    }
    if (worst == t->n_columns)
        return false;
    l->width[worst] = 0;
    return true;
}

/* Takes one column from the widest that may give; flexible ones give first. */
static bool shrink_one(const struct table *t, struct layout *l, bool any)
{
    size_t widest = t->n_columns;
    size_t least = any ? CELL_WIDTH_LEAST : CELL_WIDTH_MIN;
    for (size_t c = 0; c < t->n_columns; c++) {
        if (l->width[c] > least && (any || t->columns[c].flexible) &&
            (widest == t->n_columns || l->width[c] > l->width[widest]))
            widest = c;
    }
    if (widest == t->n_columns)
        return false;
    l->width[widest]--;
    return true;
}

static void fit(const struct table *t, size_t width, struct layout *l)
{
    /* A cell of megabytes must not be worn down column by column. */
    for (size_t c = 0; c < t->n_columns; c++)
        l->width[c] = l->width[c] > width ? width : l->width[c];
    while (line_width(t, l, true) > width && drop_one(t, l))
        ;
    while (line_width(t, l, false) > width && shrink_one(t, l, false))
        ;
    while (line_width(t, l, false) > width && shrink_one(t, l, true))
        ;
}

static void add_line(const struct table *t, const struct layout *l, const struct table_view *view,
                     size_t row, struct buf *cell, struct buf *out)
{
    size_t owed = 0; /* spaces that only a further cell needs */
    for (size_t c = 0; c < t->n_columns; c++) {
        if (!l->width[c])
            continue;
        buf_reset(cell);
        if (row == SIZE_MAX)
            buf_adds(cell, t->columns[c].title);
        else
            add_cell(t, row, c, view, cell);
        size_t w = table_width(buf_str(cell), cell->len);
        w = w < l->width[c] ? w : l->width[c];
        size_t left = t->columns[c].kind == CELL_NUMBER ? l->width[c] - w : 0;
        owed += left;
        if (w > 0) {
            pad(out, owed);
            w = add_cut(out, buf_str(cell), cell->len, l->width[c]);
            owed = 0;
        }
        owed += l->width[c] - left - w + GAP;
    }
    buf_addc(out, '\n');
}

void table_text(const struct table *t, const struct table_view *view, struct buf *out)
{
    struct layout l;
    struct buf cell;
    if (t->n_rows == 0)
        return;
    buf_init(&cell, CELL_BYTES_MAX);
    measure(t, view, &cell, &l);
    if (view->width > 0)
        fit(t, view->width, &l);
    add_line(t, &l, view, SIZE_MAX, &cell, out);
    for (size_t r = 0; r < t->n_rows; r++)
        add_line(t, &l, view, r, &cell, out);
    buf_done(&cell);
}

void table_fields(const struct table *t, size_t row, const struct table_view *view, struct buf *out)
{
    struct buf cell;
    size_t width = 0;
    for (size_t c = 0; c < t->n_columns; c++) {
        const char *title = t->columns[c].title;
        size_t w = title && t->cell(t->ctx, row, c) ? table_width(title, strlen(title)) : 0;
        width = w > width ? w : width;
    }
    buf_init(&cell, CELL_BYTES_MAX);
    for (size_t c = 0; c < t->n_columns; c++) {
        const char *title = t->columns[c].title;
        if (!title || !t->cell(t->ctx, row, c))
            continue;
        buf_reset(&cell);
        add_cell(t, row, c, view, &cell);
        buf_adds(out, title);
        pad(out, width + GAP - table_width(title, strlen(title)));
        buf_add(out, buf_str(&cell), cell.len);
        buf_addc(out, '\n');
    }
    buf_done(&cell);
}

/* ---- JSON ---- */

static void add_json_cell(struct buf *out, enum table_kind kind, const char *text)
{
    int64_t us;
    char rfc[CLOCK_TEXT_MAX];
    if (!text) {
        buf_adds(out, "null");
        return;
    }
    switch (kind) {
    case CELL_NUMBER:
    case CELL_JSON:
        buf_adds(out, text);
        return;
    case CELL_BOOL:
        buf_adds(out, str_eq(text, "t") ? "true" : "false");
        return;
    case CELL_TIME:
        if (!table_time(text, &us))
            break;
        clock_format(rfc, us);
        text = rfc;
        break;
    case CELL_TEXT:
        break;
    }
    buf_add_json(out, text);
}

void table_json_row(const struct table *t, size_t row, struct buf *out)
{
    const char *separator = "{";
    for (size_t c = 0; c < t->n_columns; c++) {
        if (!t->columns[c].key)
            continue;
        buf_adds(out, separator);
        buf_add_json(out, t->columns[c].key);
        buf_adds(out, ": ");
        add_json_cell(out, t->columns[c].kind, t->cell(t->ctx, row, c));
        separator = ", ";
    }
    buf_addc(out, '}');
}

void table_json(const struct table *t, struct buf *out)
{
    buf_addc(out, '[');
    for (size_t r = 0; r < t->n_rows; r++) {
        buf_adds(out, r ? ",\n " : "\n ");
        table_json_row(t, r, out);
    }
    buf_adds(out, t->n_rows ? "\n]" : "]");
}
