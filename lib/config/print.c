/*
 * The effective settings as YAML or JSON, in the order of the table.
 */
#include <math.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "base/str.h"
#include "config/config.h"
#include "config/settings.h"

static const char MASK[] = "********";

struct printer {
    struct buf *out;
    bool json;
    int depth;
    bool first; /* JSON: no comma yet in this object or array */
    bool dash;  /* YAML: the next line begins a list's item */
};

/* Begins a line (YAML) or parts from the entry before (JSON), and writes the key unless it is NULL.
 */
static void entry(struct printer *p, const char *key, size_t n, bool quoted)
{
    if (p->json) {
        buf_adds(p->out, p->first ? "" : ",");
        p->first = false;
        if (key) {
            buf_add_jsonn(p->out, key, n);
            buf_addc(p->out, ':');
        }
        return;
    }
    int blanks = 2 * p->depth - (p->dash ? 2 : 0);
    buf_addf(p->out, "%*s%s", blanks, "", p->dash ? "- " : "");
    p->dash = false;
    if (key && quoted) {
        buf_add_jsonn(p->out, key, n);
        buf_addc(p->out, ':');
    } else if (key) {
        buf_add(p->out, key, n);
        buf_addc(p->out, ':');
    }
}

static void begin(struct printer *p, const char *key, size_t n, bool quoted, char bracket)
{
    entry(p, key, n, quoted);
    buf_addc(p->out, p->json ? bracket : '\n');
    p->first = true;
    p->depth++;
}

static void end(struct printer *p, char bracket)
{
    if (p->json) {
        buf_addc(p->out, bracket);
    }
    p->first = false;
    p->depth--;
}

/* bare: a number in JSON and a plain word in YAML */
static void value(struct printer *p, const char *text, bool bare)
{
    if (!p->json) {
        buf_addc(p->out, ' ');
    }
    if (bare) {
        buf_adds(p->out, text);
    } else {
        buf_add_json(p->out, text);
    }
    if (!p->json) {
        buf_addc(p->out, '\n');
    }
}

/* A key that may stand in YAML without quotes because the table chose it; JSON quotes them all. */
static void named(struct printer *p, const char *name, const char *text, bool bare)
{
    entry(p, name, strlen(name), false);
    value(p, text, bare);
}

static void unset(struct printer *p, const char *name)
{
    if (p->json) {
        named(p, name, "null", true);
    } else {
        buf_addf(p->out, "%*s# %s: not set\n", 2 * p->depth, "", name);
    }
}

static void print_real(struct printer *p, const char *name, double v)
{
    char text[40];
    snprintf(text, sizeof(text), "%lld.%06lld", llround(v * 1e6) / 1000000,
             llround(v * 1e6) % 1000000);
    size_t n = strlen(text);
    while (text[n - 1] == '0') {
        n--;
    }
    text[text[n - 1] == '.' ? n - 1 : n] = '\0';
    named(p, name, text, true);
}

static void print_choice(struct printer *p, const char *name, const char *choices,
                         const void *field)
{
    char text[64];
    int index = 0;
    memcpy(&index, field, sizeof(index));
    for (; index > 0; index--) {
        choices += strcspn(choices, "|") + 1;
    }
    snprintf(text, sizeof(text), "%.*s", (int)strcspn(choices, "|"), choices);
    named(p, name, text, !p->json);
}

static void print_text(struct printer *p, const struct config_setting *row, const char *name,
                       const void *field)
{
    const char *text = NULL;
    memcpy(&text, field, sizeof(text));
    if (!text) {
        unset(p, name);
    } else if (row->secret) {
        named(p, name, MASK, false);
    } else {
        named(p, name, text, row->type == CONFIG_CHOICE && !p->json);
    }
}

static void print_key32(struct printer *p, const struct config_setting *row, const char *name,
                        const char *base)
{
    char text[sodium_base64_ENCODED_LEN(SECRET_KEY_BYTES, sodium_base64_VARIANT_ORIGINAL)];
    if (!*(const bool *)(base + row->also)) {
        unset(p, name);
    } else if (row->secret) {
        named(p, name, MASK, false);
    } else {
        sodium_bin2base64(text, sizeof(text), (const unsigned char *)base + row->offset,
                          SECRET_KEY_BYTES, sodium_base64_VARIANT_ORIGINAL);
        named(p, name, text, false);
    }
}

static void print_single(struct printer *p, const struct config_setting *row, const char *name,
                         const char *base)
{
    const char *field = base + row->offset;
    char text[40];
    int64_t i = 0;
    double real = 0;
    switch (row->type) {
    case CONFIG_CHOICE_INDEX:
        print_choice(p, name, row->choices, field);
        return;
    case CONFIG_INTEGER:
        memcpy(&i, field, sizeof(i));
        snprintf(text, sizeof(text), "%lld", (long long)i);
        named(p, name, text, true);
        return;
    case CONFIG_REAL:
        memcpy(&real, field, sizeof(real));
        print_real(p, name, real);
        return;
    case CONFIG_DURATION:
        memcpy(&i, field, sizeof(i));
        str_from_duration_ms(text, sizeof(text), i);
        named(p, name, text, !p->json);
        return;
    case CONFIG_KEY32:
        print_key32(p, row, name, base);
        return;
    default:
        print_text(p, row, name, field);
        return;
    }
}

static void print_scope(struct printer *p, const struct config_table *t, const char *base);

static void print_elements(struct printer *p, const struct config_setting *row, const char *array,
                           size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const char *element = array + i * row->table->size;
        if (row->type == CONFIG_MAP) {
            const char *key = NULL;
            memcpy(&key, element + row->table->key_offset, sizeof(key));
            begin(p, key, strlen(key), true, '{');
            print_scope(p, row->table, element);
            end(p, '}');
            continue;
        }
        if (p->json) {
            entry(p, NULL, 0, false);
            buf_addc(p->out, '{');
        }
        p->first = true;
        p->dash = !p->json;
        p->depth++;
        print_scope(p, row->table, element);
        end(p, '}');
    }
}

static void print_collection(struct printer *p, const struct config_setting *row, const char *name,
                             const char *base)
{
    void *array = NULL;
    size_t n = 0;
    memcpy(&array, base + row->offset, sizeof(array));
    memcpy(&n, base + row->also, sizeof(n));
    bool list = row->type == CONFIG_LIST || row->type == CONFIG_TEXTS;
    if (n == 0) {
        named(p, name, list ? "[]" : "{}", true);
        return;
    }
    begin(p, name, strlen(name), false, list ? '[' : '{');
    if (row->type == CONFIG_TEXTS) {
        for (size_t i = 0; i < n; i++) {
            entry(p, NULL, 0, false);
            buf_adds(p->out, p->json ? "" : "-");
            value(p, ((char **)array)[i], false);
        }
    } else if (row->type == CONFIG_PAIRS) {
        const struct config_pair *pairs = array;
        for (size_t i = 0; i < n; i++) {
            entry(p, pairs[i].name, strlen(pairs[i].name), true);
            value(p, pairs[i].secret ? MASK : pairs[i].value, false);
        }
    } else {
        print_elements(p, row, array, n);
    }
    end(p, list ? ']' : '}');
}

static void print_row(struct printer *p, const struct config_setting *row, const char *name,
                      const char *base)
{
    switch (row->type) {
    case CONFIG_TEXTS:
    case CONFIG_PAIRS:
    case CONFIG_LIST:
    case CONFIG_MAP:
        print_collection(p, row, name, base);
        return;
    default:
        print_single(p, row, name, base);
        return;
    }
}

/* Rows i.. that share the first `skip` bytes of their path; returns the first that does not. */
static size_t print_group(struct printer *p, const struct config_table *t, size_t i, size_t skip,
                          const char *base)
{
    const char *prefix = t->rows[i].path;
    while (i < t->n && strncmp(t->rows[i].path, prefix, skip) == 0) {
        const char *name = t->rows[i].path + skip;
        size_t n = strcspn(name, ".");
        if (name[n] == '\0') {
            print_row(p, &t->rows[i], name, base);
            i++;
            continue;
        }
        begin(p, name, n, false, '{');
        i = print_group(p, t, i, skip + n + 1, base);
        end(p, '}');
    }
    return i;
}

static void print_scope(struct printer *p, const struct config_table *t, const char *base)
{
    print_group(p, t, 0, 0, base);
}

int config_settings_print(const struct config_table *t, const void *base, bool json,
                          struct buf *out)
{
    struct printer p = {.out = out, .json = json, .first = true};
    buf_adds(out, json ? "{" : "");
    print_scope(&p, t, base);
    buf_adds(out, json ? "}" : "");
    return out->failed ? -1 : 0;
}
