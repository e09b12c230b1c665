#include "config/settings.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "base/uuid.h"
#include "config/config.h"
#include "secret/secret.h"

_Static_assert(sizeof(enum runtime_mode) == sizeof(int), "CONFIG_CHOICE_INDEX stores an int");

enum {
    PATH_MAX_ = 128,
    LABEL_MAX = 192,
    PAIR_VALUE_MAX = 64 * 1024,
    MILLION = 1000000,
    TYPO_MAX = 2,      /* letters wrong in a key that still earns a suggestion */
    TYPO_KEY_MAX = 32, /* longer ones get the list instead */
};

/* One map of the file that is read with one table. */
struct scope {
    const char *file;
    const struct config_table *table;
    char *base;
    const char *label; /* "" or "runtimes[0]." before every path in messages */
    const struct config_node *map;
    struct err *err;
};

static void *field(const struct scope *s, const struct config_setting *row)
{
    return s->base + row->offset;
}

static void *field_also(const struct scope *s, const struct config_setting *row)
{
    return s->base + row->also;
}

static void label_of(const struct scope *s, const struct config_setting *row, char out[LABEL_MAX])
{
    snprintf(out, LABEL_MAX, "%s%s", s->label, row->path);
}

static void free_text(char **p)
{
    secret_wipe(*p);
    free(*p);
    *p = NULL;
}

/* ---- single values ---- */

static int bad(const struct scope *s, const struct config_setting *row, struct config_place at,
               const char *what)
{
    return config_fail(s->file, at, s->err, "%s%s %s", s->label, row->path, what);
}

static int store_text(const struct scope *s, const struct config_setting *row,
                      struct config_value *v)
{
    int64_t n = (int64_t)strlen(v->text);
    if (n < row->min || n > row->max) {
        return config_fail(s->file, v->at, s->err, "%s%s must have %lld to %lld bytes", s->label,
                           row->path, (long long)row->min, (long long)row->max);
    }
    if (!config_text_clean(v->text, false)) {
        return bad(s, row, v->at, "must be UTF-8 text in one line, without control characters");
    }
    const char *wanted = row->check ? row->check(v->text) : NULL;
    if (wanted) {
        return bad(s, row, v->at, wanted);
    }
    char **out = field(s, row);
    free_text(out);
    *out = v->text;
    v->text = NULL;
    return 0;
}

static int store_uuid(const struct scope *s, const struct config_setting *row,
                      const struct config_value *v)
{
    char uuid[UUID_TEXT];
    if (!uuid_parse(v->text, strlen(v->text), uuid)) {
        return bad(s, row, v->at, "must be a UUID, with or without dashes");
    }
    char *copy = str_dup(uuid);
    if (!copy) {
        return err_nomem(s->err);
    }
    char **out = field(s, row);
    free_text(out);
    *out = copy;
    return 0;
}

/* The index of text in "a|b|c", -1 when it is none of them. */
static int choice_index(const char *choices, const char *text)
{
    size_t n = strlen(text);
    for (int i = 0; n > 0; i++) {
        size_t k = strcspn(choices, "|");
        if (k == n && memcmp(choices, text, n) == 0) {
            return i;
        }
        if (choices[k] == '\0') {
            break;
        }
        choices += k + 1;
    }
    return -1;
}

static int store_choice(const struct scope *s, const struct config_setting *row,
                        struct config_value *v)
{
    int index = choice_index(row->choices, v->text);
    if (index < 0) {
        return config_fail(s->file, v->at, s->err, "%s%s must be one of %s", s->label, row->path,
                           row->choices);
    }
    if (row->type == CONFIG_CHOICE_INDEX) {
        memcpy(field(s, row), &index, sizeof(index));
        return 0;
    }
    char **out = field(s, row);
    free_text(out);
    *out = v->text;
    v->text = NULL;
    return 0;
}

/* Numbers are written without quotes; what env: and file: bring is text anyway. */
static int refuse_quotes(const struct scope *s, const struct config_setting *row,
                         const struct config_value *v)
{
    return v->plain || v->referred ? 0 : bad(s, row, v->at, "is a number; write it without quotes");
}

static int store_integer(const struct scope *s, const struct config_setting *row,
                         const struct config_value *v)
{
    int64_t i = 0;
    if (refuse_quotes(s, row, v) != 0) {
        return -1;
    }
    if (!str_to_i64(v->text, &i) || i < row->min || i > row->max) {
        return config_fail(s->file, v->at, s->err, "%s%s must be a whole number from %lld to %lld",
                           s->label, row->path, (long long)row->min, (long long)row->max);
    }
    *(int64_t *)field(s, row) = i;
    return 0;
}

static int store_real(const struct scope *s, const struct config_setting *row,
                      const struct config_value *v)
{
    int64_t millionths = 0;
    if (refuse_quotes(s, row, v) != 0) {
        return -1;
    }
    if (!config_text_millionths(v->text, &millionths) || millionths < row->min * MILLION ||
        millionths > row->max * MILLION) {
        return config_fail(s->file, v->at, s->err,
                           "%s%s must be a number from %lld to %lld with at most 6 decimals",
                           s->label, row->path, (long long)row->min, (long long)row->max);
    }
    *(double *)field(s, row) = (double)millionths / MILLION;
    return 0;
}

static int store_duration(const struct scope *s, const struct config_setting *row,
                          const struct config_value *v)
{
    int64_t ms = 0;
    bool good = str_to_duration_ms(v->text, &ms);
    if (!good || ms < row->min || ms > row->max) {
        char min[32], max[32];
        str_from_duration_ms(min, sizeof(min), row->min);
        str_from_duration_ms(max, sizeof(max), row->max);
        return config_fail(s->file, v->at, s->err,
                           "%s%s must be a duration from %s to %s: digits and ms, s, m, h or d",
                           s->label, row->path, min, max);
    }
    *(int64_t *)field(s, row) = ms;
    return 0;
}

static int store_key32(const struct scope *s, const struct config_setting *row,
                       const struct config_value *v)
{
    unsigned char key[SECRET_KEY_BYTES];
    struct err ignored; /* its words know nothing of the place */
    if (secret_key_parse(v->text, key, &ignored) != 0) {
        return bad(s, row, v->at, "must be 32 bytes in base64, 44 characters");
    }
    memcpy(field(s, row), key, sizeof(key));
    sodium_memzero(key, sizeof(key));
    *(bool *)field_also(s, row) = true;
    return 0;
}

/* May take the text out of v. */
static int store(const struct scope *s, const struct config_setting *row, struct config_value *v)
{
    switch (row->type) {
    case CONFIG_TEXT:
        return store_text(s, row, v);
    case CONFIG_UUID:
        return store_uuid(s, row, v);
    case CONFIG_CHOICE:
    case CONFIG_CHOICE_INDEX:
        return store_choice(s, row, v);
    case CONFIG_INTEGER:
        return store_integer(s, row, v);
    case CONFIG_REAL:
        return store_real(s, row, v);
    case CONFIG_DURATION:
        return store_duration(s, row, v);
    case CONFIG_KEY32:
        return store_key32(s, row, v);
    case CONFIG_TEXTS:
    case CONFIG_PAIRS:
    case CONFIG_LIST:
    case CONFIG_MAP:
        break;
    }
    return err_set(s->err, ERR_INTERNAL, "%s%s is no single value", s->label, row->path);
}

static int read_single(const struct scope *s, const struct config_setting *row,
                       const struct config_node *n)
{
    char label[LABEL_MAX];
    label_of(s, row, label);
    struct config_value v = {0};
    if (config_value_read(s->file, n, label, &v, s->err) != 0) {
        return -1;
    }
    int rc = store(s, row, &v);
    config_value_done(&v);
    return rc;
}

static int store_fallback(const struct scope *s, const struct config_setting *row)
{
    struct config_value v = {.text = str_dup(row->fallback), .plain = true, .at = s->map->at};
    if (!v.text) {
        return err_nomem(s->err);
    }
    int rc = store(s, row, &v);
    config_value_done(&v);
    return rc;
}

/* ---- collections ---- */

/* Checks kind and count and makes the array; an empty one stays NULL. */
static int begin_array(const struct scope *s, const struct config_setting *row,
                       const struct config_node *n, enum config_node_kind kind, size_t size,
                       char **out)
{
    bool null = config_node_is_null(n);
    if (n->kind != kind && !null) {
        return bad(s, row, n->at, kind == CONFIG_MAPPING ? "must be a map" : "must be a list");
    }
    if ((int64_t)n->n > row->max) {
        return config_fail(s->file, n->at, s->err, "%s%s may have at most %lld entries", s->label,
                           row->path, (long long)row->max);
    }
    if (n->n == 0) {
        return 0;
    }
    char *array = calloc(n->n, size);
    if (!array) {
        return err_nomem(s->err);
    }
    memcpy(field(s, row), &array, sizeof(array));
    *(size_t *)field_also(s, row) = n->n;
    *out = array;
    return 0;
}

static int check_key(const struct scope *s, const struct config_setting *row,
                     const struct config_node *n)
{
    char shown[CONFIG_SHOWN_MAX + 4];
    config_key_shown(n->key, shown);
    if (!config_text_clean(n->key, false)) {
        return config_fail(s->file, n->key_at, s->err,
                           "%s%s: a key must be UTF-8 text without control characters", s->label,
                           row->path);
    }
    const char *wanted = row->check ? row->check(n->key) : NULL;
    if (wanted) {
        return config_fail(s->file, n->key_at, s->err, "%s%s: the key %s %s", s->label, row->path,
                           shown, wanted);
    }
    return 0;
}

static int read_texts(const struct scope *s, const struct config_setting *row,
                      const struct config_node *list)
{
    char *array = NULL;
    if (begin_array(s, row, list, CONFIG_SEQUENCE, sizeof(char *), &array) != 0) {
        return -1;
    }
    /* An item is read as a setting of its own that lives in the array. */
    struct config_setting item = {.path = row->path,
                                  .type = CONFIG_TEXT,
                                  .min = 1,
                                  .max = CONFIG_KEY_MAX,
                                  .check = row->check};
    struct scope inner = *s;
    inner.base = array;
    for (const struct config_node *c = list->first; c; c = c->next) {
        if (read_single(&inner, &item, c) != 0) {
            return -1;
        }
        item.offset += sizeof(char *);
    }
    return 0;
}

/* Free names have no secret flag, so what smells of a secret is one: better masked than shown. */
static bool smells_secret(const char *name, const struct config_value *v)
{
    static const char *const words[] = {"password", "passwd",     "passphrase",
                                        "secret",   "token",      "jaas",
                                        "key",      "credential", "oauthbearer.config"};
    const char *host = strstr(v->text, "://");
    if (v->referred || (host && strchr(host, '@'))) {
        return true;
    }
    size_t n = strlen(name), suffix = strlen(".location");
    if (n > suffix && str_eq(name + n - suffix, ".location")) {
        return false; /* where a key lies is no secret */
    }
    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        if (strcasestr(name, words[i])) {
            return true;
        }
    }
    return false;
}

static int read_pair(const struct scope *s, const struct config_setting *row,
                     const struct config_node *n, struct config_pair *out)
{
    char label[LABEL_MAX], shown[CONFIG_SHOWN_MAX + 4];
    if (check_key(s, row, n) != 0) {
        return -1;
    }
    snprintf(label, sizeof(label), "%s%s.%s", s->label, row->path, config_key_shown(n->key, shown));
    struct config_value v = {0};
    if (config_value_read(s->file, n, label, &v, s->err) != 0) {
        return -1;
    }
    int rc = 0;
    if (strlen(v.text) > PAIR_VALUE_MAX || !config_text_clean(v.text, true)) {
        rc = config_fail(s->file, n->at, s->err,
                         "%s must be UTF-8 text of at most %d bytes, without control characters",
                         label, PAIR_VALUE_MAX);
    } else {
        out->secret = row->secret && smells_secret(n->key, &v);
        out->value = v.text;
        v.text = NULL;
        out->name = str_dup(n->key);
        rc = out->name ? 0 : err_nomem(s->err);
    }
    config_value_done(&v);
    return rc;
}

static int read_pairs(const struct scope *s, const struct config_setting *row,
                      const struct config_node *map)
{
    char *array = NULL;
    if (begin_array(s, row, map, CONFIG_MAPPING, sizeof(struct config_pair), &array) != 0) {
        return -1;
    }
    struct config_pair *pairs = (struct config_pair *)(void *)array;
    for (const struct config_node *c = map->first; c; c = c->next) {
        if (read_pair(s, row, c, pairs++) != 0) {
            return -1;
        }
    }
    return 0;
}

static int read_scope(const struct scope *s);

static int read_element(const struct scope *s, const struct config_setting *row,
                        const struct config_node *n, size_t index, char *base)
{
    char label[LABEL_MAX], shown[CONFIG_SHOWN_MAX + 4];
    if (row->type == CONFIG_MAP) {
        if (check_key(s, row, n) != 0) {
            return -1;
        }
        snprintf(label, sizeof(label), "%s%s.%s.", s->label, row->path,
                 config_key_shown(n->key, shown));
        char *key = str_dup(n->key);
        if (!key) {
            return err_nomem(s->err);
        }
        memcpy(base + row->table->key_offset, &key, sizeof(key));
    } else {
        snprintf(label, sizeof(label), "%s%s[%zu].", s->label, row->path, index);
    }
    if (n->kind != CONFIG_MAPPING && !(row->type == CONFIG_MAP && config_node_is_null(n))) {
        return config_fail(s->file, n->at, s->err, "%.*s must be a map", (int)strlen(label) - 1,
                           label);
    }
    struct scope inner = *s;
    inner.table = row->table;
    inner.base = base;
    inner.label = label;
    inner.map = n;
    return read_scope(&inner);
}

static int read_elements(const struct scope *s, const struct config_setting *row,
                         const struct config_node *n)
{
    enum config_node_kind kind = row->type == CONFIG_LIST ? CONFIG_SEQUENCE : CONFIG_MAPPING;
    char *array = NULL;
    if (begin_array(s, row, n, kind, row->table->size, &array) != 0) {
        return -1;
    }
    size_t i = 0;
    for (const struct config_node *c = n->first; c; c = c->next, i++) {
        if (read_element(s, row, c, i, array + i * row->table->size) != 0) {
            return -1;
        }
    }
    return 0;
}

static int read_row(const struct scope *s, const struct config_setting *row,
                    const struct config_node *n)
{
    switch (row->type) {
    case CONFIG_TEXTS:
        return read_texts(s, row, n);
    case CONFIG_PAIRS:
        return read_pairs(s, row, n);
    case CONFIG_LIST:
    case CONFIG_MAP:
        return read_elements(s, row, n);
    default:
        return read_single(s, row, n);
    }
}

/* ---- unknown keys ---- */

static size_t min3(size_t a, size_t b, size_t c)
{
    size_t ab = a < b ? a : b;
    return ab < c ? ab : c;
}

/* Levenshtein's distance; both at most TYPO_KEY_MAX bytes. */
static size_t distance(const char *a, size_t na, const char *b, size_t nb)
{
    size_t row[TYPO_KEY_MAX + 1];
    for (size_t j = 0; j <= nb; j++) {
        row[j] = j;
    }
    for (size_t i = 1; i <= na; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= nb; j++) {
            size_t above = row[j];
            row[j] = min3(above + 1, row[j - 1] + 1, diagonal + (a[i - 1] != b[j - 1]));
            diagonal = above;
        }
    }
    return row[nb];
}

/* How far key is from a known name; a beginning of it counts as a typo. */
static size_t unlikeness(const char *key, const char *name, size_t n)
{
    size_t k = strlen(key);
    if (k > TYPO_KEY_MAX || n > TYPO_KEY_MAX) {
        return TYPO_MAX + 1;
    }
    size_t shorter = k < n ? k : n;
    size_t d = distance(key, k, name, n);
    if (shorter >= 3 && strncasecmp(key, name, shorter) == 0 && d > TYPO_MAX) {
        d = TYPO_MAX;
    }
    return d < n ? d : TYPO_MAX + 1;
}

/* The names in one group, one after the other: *row is where to go on. NULL at the end. */
static const char *next_name(const struct config_table *t, const char *prefix, size_t *row,
                             size_t *n)
{
    size_t skip = strlen(prefix);
    for (; *row < t->n; (*row)++) {
        const char *path = t->rows[*row].path;
        if (!str_starts(path, prefix)) {
            continue;
        }
        const char *name = path + skip;
        *n = strcspn(name, ".");
        const char *before = *row > 0 ? t->rows[*row - 1].path : "";
        bool repeated =
            strncmp(before, path, skip + *n) == 0 && name[*n] == '.' && before[skip + *n] == '.';
        if (!repeated) {
            (*row)++;
            return name;
        }
    }
    return NULL;
}

static int unknown_key(const struct scope *s, const char *prefix, const struct config_node *n)
{
    char shown[CONFIG_SHOWN_MAX + 4], known[160] = "";
    config_key_shown(n->key, shown);
    if (strchr(n->key, ':')) {
        return config_fail(s->file, n->key_at, s->err,
                           "\"%s%s%s\": a blank is missing after the colon; write \"key: value\"",
                           s->label, prefix, shown);
    }
    const char *best = NULL;
    size_t best_n = 0, best_d = TYPO_MAX + 1, len = 0;
    size_t row = 0, used = 0;
    for (const char *name; (name = next_name(s->table, prefix, &row, &len)) != NULL;) {
        size_t d = unlikeness(n->key, name, len);
        if (d < best_d) {
            best = name;
            best_n = len;
            best_d = d;
        }
        int k = snprintf(known + used, sizeof(known) - used, "%s%.*s", used ? ", " : "", (int)len,
                         name);
        used = k > 0 && used + (size_t)k < sizeof(known) ? used + (size_t)k : sizeof(known) - 1;
    }
    if (best) {
        return config_fail(s->file, n->key_at, s->err,
                           "unknown key \"%s%s%s\"; did you mean \"%.*s\"?", s->label, prefix,
                           shown, (int)best_n, best);
    }
    return config_fail(s->file, n->key_at, s->err, "unknown key \"%s%s%s\"; known here: %s",
                       s->label, prefix, shown, known);
}

/* ---- groups ---- */

static const struct config_setting *find_row(const struct config_table *t, const char *path)
{
    for (size_t i = 0; i < t->n; i++) {
        if (str_eq(t->rows[i].path, path)) {
            return &t->rows[i];
        }
    }
    return NULL;
}

static bool is_group(const struct config_table *t, const char *prefix)
{
    for (size_t i = 0; i < t->n; i++) {
        if (str_starts(t->rows[i].path, prefix)) {
            return true;
        }
    }
    return false;
}

/* prefix: "" or "kafka.topics.". Recursion is as deep as the paths of the table. */
static int read_group(const struct scope *s, const char *prefix, const struct config_node *map)
{
    for (const struct config_node *c = map->first; c; c = c->next) {
        char path[PATH_MAX_];
        int n = snprintf(path, sizeof(path) - 1, "%s%s", prefix, c->key);
        if (n < 0 || (size_t)n >= sizeof(path) - 1 || strchr(c->key, '.')) {
            return unknown_key(s, prefix, c);
        }
        const struct config_setting *row = find_row(s->table, path);
        if (row) {
            if (read_row(s, row, c) != 0) {
                return -1;
            }
            continue;
        }
        path[n] = '.';
        path[n + 1] = '\0';
        if (!is_group(s->table, path)) {
            return unknown_key(s, prefix, c);
        }
        if (c->kind != CONFIG_MAPPING && !config_node_is_null(c)) {
            return config_fail(s->file, c->at, s->err, "%s%.*s must be a map", s->label, n, path);
        }
        if (read_group(s, path, c) != 0) {
            return -1;
        }
    }
    return 0;
}

/* Where a missing setting belongs: the deepest map on its path that is there. */
static struct config_place place_for(const struct config_node *map, const char *path)
{
    for (;;) {
        char key[PATH_MAX_];
        size_t n = strcspn(path, ".");
        const struct config_node *next = NULL;
        if (n < sizeof(key) && path[n] == '.') {
            memcpy(key, path, n);
            key[n] = '\0';
            next = config_node_get(map, key);
        }
        if (!next) {
            return map->at;
        }
        map = next;
        path += n + 1;
    }
}

static bool is_missing(const struct scope *s, const struct config_setting *row)
{
    void *p = NULL;
    memcpy(&p, field(s, row), sizeof(p));
    return !p;
}

static int read_scope(const struct scope *s)
{
    const struct config_table *t = s->table;
    for (size_t i = 0; i < t->n; i++) {
        if (t->rows[i].fallback && store_fallback(s, &t->rows[i]) != 0) {
            return -1;
        }
    }
    if (read_group(s, "", s->map) != 0) {
        return -1;
    }
    for (size_t i = 0; i < t->n; i++) {
        const struct config_setting *row = &t->rows[i];
        if (row->required && is_missing(s, row)) {
            return config_fail(s->file, place_for(s->map, row->path), s->err,
                               "%s%s is missing; write %s", s->label, row->path, row->doc);
        }
    }
    return 0;
}

int config_settings_read(const char *file, const struct config_table *t, void *base,
                         const struct config_node *map, struct err *err)
{
    struct scope s = {.file = file, .table = t, .base = base, .label = "", .map = map, .err = err};
    if (map->kind != CONFIG_MAPPING) {
        return config_fail(file, map->at, err, "the file must be a map of settings");
    }
    return read_scope(&s);
}

/* ---- the end ---- */

static void free_texts(char **texts, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        free_text(&texts[i]);
    }
    free(texts);
}

static void free_pairs(struct config_pair *pairs, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        free_text(&pairs[i].name);
        free_text(&pairs[i].value);
    }
    free(pairs);
}

static void free_row(const struct config_setting *row, char *base)
{
    void *p = NULL;
    size_t n = 0;
    switch (row->type) {
    case CONFIG_TEXT:
    case CONFIG_UUID:
    case CONFIG_CHOICE:
        free_text((char **)(void *)(base + row->offset));
        return;
    case CONFIG_KEY32:
        sodium_memzero(base + row->offset, SECRET_KEY_BYTES);
        return;
    case CONFIG_CHOICE_INDEX:
    case CONFIG_INTEGER:
    case CONFIG_REAL:
    case CONFIG_DURATION:
        return;
    default:
        break;
    }
    memcpy(&p, base + row->offset, sizeof(p));
    memcpy(&n, base + row->also, sizeof(n));
    if (row->type == CONFIG_TEXTS) {
        free_texts(p, n);
    } else if (row->type == CONFIG_PAIRS) {
        free_pairs(p, n);
    } else {
        for (size_t i = 0; i < n; i++) {
            char *element = (char *)p + i * row->table->size;
            config_settings_free(row->table, element);
            if (row->type == CONFIG_MAP) {
                free_text((char **)(void *)(element + row->table->key_offset));
            }
        }
        free(p);
    }
}

void config_settings_free(const struct config_table *t, void *base)
{
    for (size_t i = 0; i < t->n; i++) {
        free_row(&t->rows[i], base);
    }
}
