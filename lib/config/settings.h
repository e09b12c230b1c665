/*
 * Private to config: the tables of settings (config.c) and what derives from them: reading with
 * checks and defaults, printing, freeing.
 */
#ifndef CONFIG_SETTINGS_H
#define CONFIG_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "config/node.h"
#include "config/value.h"

enum config_type {
    CONFIG_TEXT,         /* char * */
    CONFIG_UUID,         /* char *, canonical */
    CONFIG_CHOICE,       /* char *, one of `choices` */
    CONFIG_CHOICE_INDEX, /* int (an enum), the index in `choices` */
    CONFIG_INTEGER,      /* int64_t */
    CONFIG_REAL,         /* double */
    CONFIG_DURATION,     /* int64_t, milliseconds */
    CONFIG_KEY32,        /* unsigned char[32]; `also` is the bool that says whether it is set */
    CONFIG_TEXTS,        /* char **; `also`, here and below, is the size_t that counts */
    CONFIG_PAIRS,        /* struct config_pair *: a map with free keys */
    CONFIG_LIST,         /* struct *: a list of maps, each read with `table` */
    CONFIG_MAP, /* struct *: a map with free keys of maps, the key into table->key_offset */
};

struct config_table;

/* Rows of one group stand together. */
struct config_setting {
    const char *path; /* dotted */
    enum config_type type;
    size_t offset;        /* in the struct that the table fills */
    size_t also;          /* second offset, see the types */
    const char *fallback; /* as the file would say it; NULL: none */
    int64_t min, max; /* numbers and durations: value; text: bytes; lists, maps, pairs: entries */
    const char *choices;    /* "a|b|c" */
    config_check_fn *check; /* of the text; for PAIRS and MAP of each key */
    const struct config_table *table;
    bool required, secret;
    const char *doc; /* completes "write ..." */
};

struct config_table {
    const struct config_setting *rows;
    size_t n;
    size_t size;       /* of the struct */
    size_t key_offset; /* CONFIG_MAP: where the key goes, a char * */
};

/* The table of the whole file, for struct config. */
extern const struct config_table config_settings;

/* base: zeroed memory of t->size bytes; on failure it holds a part, for config_settings_free. */
int config_settings_read(const char *file, const struct config_table *t, void *base,
                         const struct config_node *map, struct err *err);
/* Wipes and frees what the rows own, not base itself. */
void config_settings_free(const struct config_table *t, void *base);
/* 0, or -1 when the buffer's bound or memory ends. */
int config_settings_print(const struct config_table *t, const void *base, bool json,
                          struct buf *out);

#endif
