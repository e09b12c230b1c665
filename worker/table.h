/*
 * Rows for people and for scripts: aligned columns that respect the terminal's width, or one JSON
 * document. What comes from a database may hold anything: control characters never reach a
 * terminal.
 */
#ifndef WORKER_TABLE_H
#define WORKER_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

enum { TABLE_COLUMNS_MAX = 32 };

enum table_kind {
    CELL_TEXT,
    CELL_NUMBER, /* right-aligned; as it is in JSON */
    CELL_TIME,   /* PostgreSQL's text of a timestamptz in UTC, or RFC 3339 */
    CELL_BOOL,   /* "t" or "f" */
    CELL_JSON,   /* JSON text */
};

struct table_column {
    const char *key;   /* member in JSON; NULL: not there */
    const char *title; /* NULL: not in the text form */
    enum table_kind kind;
    bool flexible; /* may be cut where the terminal is narrow */
    int drop;      /* > 0: left out where it is narrow, the highest first */
};

/* A cell's text; NULL for none. */
typedef const char *table_cell_fn(const void *ctx, size_t row, size_t column);

struct table {
    const struct table_column *columns; /* at most TABLE_COLUMNS_MAX */
    size_t n_columns, n_rows;
    table_cell_fn *cell;
    const void *ctx;
};

struct table_view {
    size_t width;   /* of the terminal; 0: nothing is cut or left out */
    int64_t now_us; /* what times are told relative to */
    bool absolute;  /* the time itself beside the relative one */
};

/* A heading and a line a row; nothing at all without rows. */
void table_text(const struct table *t, const struct table_view *view, struct buf *out);
/* One row as "title  value" lines; what is NULL is left out. */
void table_fields(const struct table *t, size_t row, const struct table_view *view,
                  struct buf *out);
/* An array of objects, one a line. */
void table_json(const struct table *t, struct buf *out);
void table_json_row(const struct table *t, size_t row, struct buf *out);

/* s with everything escaped that could steer a terminal or hide text: "\x1b", "\u{202e}", "\n". */
void table_escape(struct buf *out, const char *s, size_t n);
/* "3m ago", "in 5s", "now". */
void table_ago(struct buf *out, int64_t at_us, int64_t now_us);
/* A CELL_TIME's value; false for what is no time ("infinity"). */
bool table_time(const char *text, int64_t *us);
/* Columns that s takes on a terminal; s is escaped already. */
size_t table_width(const char *s, size_t n);

#endif
