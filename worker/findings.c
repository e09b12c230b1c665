#include "findings.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "table.h"

enum {
    INDENT = 2,
    LEVEL_WIDTH = 4,
    GAP = 2,
    TEXT_WIDTH_MIN = 24, /* narrower than that, lines are left as they are */
    ESCAPED_MAX = 8 * FINDING_TEXT_MAX,
};

static const char *const level_names[] = {"ok", "note", "warn", "bad"};

/* ---- the list ---- */

static struct finding *grow(struct findings *f)
{
    if (f->n == f->cap) {
        size_t cap = f->cap ? f->cap * 2 : 16;
        struct finding *list = f->n < FINDINGS_MAX ? realloc(f->list, cap * sizeof(*list)) : NULL;
        if (!list) {
            f->failed = true;
            return NULL;
        }
        f->list = list;
        f->cap = cap;
    }
    return &f->list[f->n++];
}

/* Cut between two characters. */
static void keep(char out[FINDING_TEXT_MAX + 1], const char *text)
{
    size_t n = str_utf8_cut(text, strlen(text), FINDING_TEXT_MAX);
    memcpy(out, text, n);
    out[n] = '\0';
}

void findings_add(struct findings *f, enum driver_level level, const char *server,
                  const char *subject, const char *mend, const char *fmt, ...)
{
    char what[2 * FINDING_TEXT_MAX];
    va_list ap;
    struct finding *at = grow(f);
    if (!at)
        return;
    at->level = level;
    at->server = server;
    at->subject = subject;
    va_start(ap, fmt);
    vsnprintf(what, sizeof(what), fmt, ap);
    va_end(ap);
    keep(at->what, what);
    keep(at->mend, mend ? mend : "");
}

void findings_append(struct findings *f, const struct findings *from)
{
    f->failed = f->failed || from->failed;
    for (size_t i = 0; i < from->n; i++) {
        struct finding *at = grow(f);
        if (!at)
            return;
        *at = from->list[i];
    }
}

void findings_done(struct findings *f)
{
    free(f->list);
    *f = (struct findings){0};
}

const char *findings_level_name(enum driver_level level)
{
    return level_names[level];
}

enum driver_level findings_worst(const struct findings *f)
{
    enum driver_level worst = LEVEL_OK;
    for (size_t i = 0; i < f->n; i++)
        worst = f->list[i].level > worst ? f->list[i].level : worst;
    return worst;
}

size_t findings_to_mend(const struct findings *f)
{
    size_t n = 0;
    for (size_t i = 0; i < f->n; i++)
        n += f->list[i].level >= LEVEL_WARN;
    return n;
}

/* ---- text ---- */

static void pad(struct buf *out, size_t n)
{
    for (size_t i = 0; i < n; i++)
        buf_addc(out, ' ');
}

/* Words from `column` on, where the cursor stands; broken before `width` unless that is 0. */
static void add_wrapped(struct buf *out, const char *text, size_t column, size_t width)
{
    size_t at = column;
    bool wraps = width >= column + TEXT_WIDTH_MIN;
    while (*text) {
        size_t n = strcspn(text, " ");
        size_t columns = table_width(text, n);
        if (wraps && at > column && at + 1 + columns > width) {
            buf_addc(out, '\n');
            pad(out, column);
            at = column;
        } else if (at > column) {
            buf_addc(out, ' ');
            at++;
        }
        buf_add(out, text, n);
        at += columns;
        text += n + (text[n] == ' ');
    }
    buf_addc(out, '\n');
}

static void add_escaped(struct buf *out, const char *text, size_t column, size_t width)
{
    struct buf escaped;
    buf_init(&escaped, ESCAPED_MAX);
    table_escape(&escaped, text, strlen(text));
    add_wrapped(out, buf_str(&escaped), column, width);
    buf_done(&escaped);
}

static size_t subject_width(const struct findings *f)
{
    size_t most = 0;
    for (size_t i = 0; i < f->n; i++) {
        size_t n = strlen(f->list[i].subject);
        most = n > most ? n : most;
    }
    return most;
}

static void add_finding(const struct finding *at, size_t subject, size_t width, struct buf *out)
{
    size_t column = INDENT + LEVEL_WIDTH + GAP + subject + GAP;
    pad(out, INDENT);
    buf_addf(out, "%-*s", LEVEL_WIDTH + GAP, level_names[at->level]);
    buf_addf(out, "%-*s", (int)(subject + GAP), at->subject);
    add_escaped(out, at->what, column, width);
    if (!*at->mend)
        return;
    pad(out, column);
    buf_adds(out, "mend: ");
    add_escaped(out, at->mend, column + strlen("mend: "), width);
}

void findings_text(const struct findings *f, size_t width, struct buf *out)
{
    size_t subject = subject_width(f);
    for (size_t i = 0; i < f->n; i++) {
        if (i == 0 || !str_eq(f->list[i].server, f->list[i - 1].server)) {
            buf_adds(out, i ? "\n" : "");
            table_escape(out, f->list[i].server, strlen(f->list[i].server));
            buf_addc(out, '\n');
        }
        add_finding(&f->list[i], subject, width, out);
    }
    size_t n = findings_to_mend(f);
    buf_adds(out, f->n ? "\n" : "");
    if (n == 0)
        buf_adds(out, "nothing is to be mended\n");
    else
        buf_addf(out, "%zu %s to be mended\n", n, n == 1 ? "thing is" : "things are");
}

/* ---- JSON ---- */

enum { F_LEVEL, F_SERVER, F_SUBJECT, F_WHAT, F_MEND };

static const char *cell(const void *ctx, size_t row, size_t column)
{
    const struct finding *at = &((const struct findings *)ctx)->list[row];
    switch (column) {
    case F_LEVEL:
        return level_names[at->level];
    case F_SERVER:
        return at->server;
    case F_SUBJECT:
        return at->subject;
    case F_WHAT:
        return at->what;
    default:
        return *at->mend ? at->mend : NULL;
    }
}

void findings_json(const struct findings *f, struct buf *out)
{
    static const struct table_column columns[] = {
        {"level", NULL, CELL_TEXT, false, 0},   {"server", NULL, CELL_TEXT, false, 0},
        {"subject", NULL, CELL_TEXT, false, 0}, {"what", NULL, CELL_TEXT, false, 0},
        {"mend", NULL, CELL_TEXT, false, 0},
    };
    const struct table t = {columns, ARRAY_LEN(columns), f->n, cell, f};
    buf_adds(out, "{\"findings\": ");
    table_json(&t, out);
    buf_addf(out, ",\n \"worst\": \"%s\"}\n", level_names[findings_worst(f)]);
}
