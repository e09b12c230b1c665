#include "config/node.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "base/str.h"
#include "secret/secret.h"

/* A longer file name is cut from the left, so that the message behind it still fits into an err. */
enum { FILE_SHOWN_MAX = 160 };

struct builder {
    const char *file;
    struct config_node *root;
    struct config_node *stack[CONFIG_DEPTH_MAX];
    size_t depth;
    char *key; /* read, its value not yet */
    struct config_place key_at;
    size_t nodes;
    bool document_seen;
    bool done;
    struct err *err;
};

int config_fail(const char *file, struct config_place at, struct err *err, const char *fmt, ...)
{
    char what[ERR_MSG_MAX];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof(what), fmt, ap);
    va_end(ap);
    size_t n = strlen(file);
    bool cut = n > FILE_SHOWN_MAX;
    return err_set(err, ERR_INVALID, "%s%s:%zu:%zu: %s", cut ? "..." : "",
                   cut ? file + n - FILE_SHOWN_MAX : file, at.line, at.column, what);
}

const char *config_key_shown(const char *key, char out[CONFIG_SHOWN_MAX + 4])
{
    size_t n = strspn(key, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-");
    if (n > CONFIG_SHOWN_MAX) {
        n = CONFIG_SHOWN_MAX;
    }
    memcpy(out, key, n);
    out[n] = '\0';
    if (key[n] != '\0') {
        memcpy(out + n, "...", 4);
    }
    return out;
}

static struct config_place place_of(yaml_mark_t mark)
{
    return (struct config_place){.line = mark.line + 1, .column = mark.column + 1};
}

/* libyaml's reader names a byte offset instead of a mark. */
static struct config_place place_at(const char *text, size_t n, size_t offset)
{
    struct config_place at = {1, 1};
    for (size_t i = 0; i < n && i < offset; i++) {
        if (text[i] == '\n') {
            at.line++;
            at.column = 1;
        } else if (((unsigned char)text[i] & 0xC0) != 0x80) {
            at.column++;
        }
    }
    return at;
}

static void node_wipe_one(struct config_node *n)
{
    secret_wipe(n->text);
    free(n->text);
    secret_wipe(n->key);
    free(n->key);
    free(n);
}

void config_node_free(struct config_node *n)
{
    if (!n) {
        return;
    }
    /* Recursion is as deep as the tree: CONFIG_DEPTH_MAX. */
    for (struct config_node *c = n->first; c;) {
        struct config_node *next = c->next;
        config_node_free(c);
        c = next;
    }
    node_wipe_one(n);
}

const struct config_node *config_node_get(const struct config_node *map, const char *key)
{
    if (!map || map->kind != CONFIG_MAPPING) {
        return NULL;
    }
    for (const struct config_node *c = map->first; c; c = c->next) {
        if (str_eq(c->key, key)) {
            return c;
        }
    }
    return NULL;
}

const struct config_node *config_node_item(const struct config_node *list, size_t index)
{
    const struct config_node *c = list ? list->first : NULL;
    for (; c && index > 0; index--) {
        c = c->next;
    }
    return c;
}

bool config_node_is_null(const struct config_node *n)
{
    return n->kind == CONFIG_SCALAR && n->plain &&
           (n->text[0] == '\0' || str_eq(n->text, "~") || str_eq(n->text, "null") ||
            str_eq(n->text, "Null") || str_eq(n->text, "NULL"));
}

static struct config_node *top(const struct builder *b)
{
    return b->depth ? b->stack[b->depth - 1] : NULL;
}

static int refuse_extras(struct builder *b, const yaml_event_t *e, const yaml_char_t *anchor,
                         const yaml_char_t *tag)
{
    if (anchor) {
        return config_fail(b->file, place_of(e->start_mark), b->err,
                           "anchors are not accepted; write the value out");
    }
    if (tag) {
        return config_fail(b->file, place_of(e->start_mark), b->err,
                           "tags are not accepted; remove what begins with \"!\"");
    }
    return 0;
}

/* Hangs n into the tree, taking it and the waiting key. */
static int attach(struct builder *b, struct config_node *n)
{
    struct config_node *parent = top(b);
    if (!parent) {
        b->root = n;
        return 0;
    }
    if (parent->n >= CONFIG_CHILDREN_MAX) {
        int rc = config_fail(b->file, n->at, b->err,
                             "more than %d entries in one place; shorten it", CONFIG_CHILDREN_MAX);
        node_wipe_one(n);
        return rc;
    }
    n->key = b->key;
    n->key_at = b->key_at;
    b->key = NULL;
    if (parent->last) {
        parent->last->next = n;
    } else {
        parent->first = n;
    }
    parent->last = n;
    parent->n++;
    return 0;
}

static int add_node(struct builder *b, const yaml_event_t *e, enum config_node_kind kind,
                    struct config_node **out)
{
    if (b->nodes >= CONFIG_NODES_MAX) {
        return config_fail(b->file, place_of(e->start_mark), b->err,
                           "more than %d values in all; shorten the file", CONFIG_NODES_MAX);
    }
    struct config_node *n = calloc(1, sizeof(*n));
    if (!n) {
        return err_nomem(b->err);
    }
    b->nodes++;
    n->kind = kind;
    n->at = place_of(e->start_mark);
    if (attach(b, n) != 0) {
        return -1;
    }
    *out = n;
    return 0;
}

static int on_key(struct builder *b, const yaml_event_t *e)
{
    const char *text = (const char *)e->data.scalar.value;
    size_t n = e->data.scalar.length;
    struct config_place at = place_of(e->start_mark);
    if (n == 0 || n > CONFIG_KEY_MAX || strlen(text) != n) {
        return config_fail(b->file, at, b->err, "a key must be text of 1 to %d bytes",
                           CONFIG_KEY_MAX);
    }
    const struct config_node *twin = config_node_get(top(b), text);
    if (twin) {
        char shown[CONFIG_SHOWN_MAX + 4];
        return config_fail(b->file, at, b->err,
                           "\"%s\" stands here twice, first in line %zu; remove one",
                           config_key_shown(text, shown), twin->key_at.line);
    }
    b->key = str_dupn(text, n);
    if (!b->key) {
        return err_nomem(b->err);
    }
    b->key_at = at;
    return 0;
}

static int on_scalar(struct builder *b, const yaml_event_t *e)
{
    if (refuse_extras(b, e, e->data.scalar.anchor, e->data.scalar.tag) != 0) {
        return -1;
    }
    const struct config_node *parent = top(b);
    if (parent && parent->kind == CONFIG_MAPPING && !b->key) {
        return on_key(b, e);
    }
    const char *text = (const char *)e->data.scalar.value;
    if (strlen(text) != e->data.scalar.length) {
        return config_fail(b->file, place_of(e->start_mark), b->err,
                           "a value holds a NUL character; remove it");
    }
    struct config_node *n = NULL;
    if (add_node(b, e, CONFIG_SCALAR, &n) != 0) {
        return -1;
    }
    /* add_node fills n on success. */
    // NOLINTNEXTLINE(clang-analyzer-core.NullDereference)
    n->plain = e->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    n->text = str_dupn(text, e->data.scalar.length);
    return n->text ? 0 : err_nomem(b->err);
}

static int on_start(struct builder *b, const yaml_event_t *e, enum config_node_kind kind,
                    const yaml_char_t *anchor, const yaml_char_t *tag)
{
    if (refuse_extras(b, e, anchor, tag) != 0) {
        return -1;
    }
    const struct config_node *parent = top(b);
    if (parent && parent->kind == CONFIG_MAPPING && !b->key) {
        return config_fail(b->file, place_of(e->start_mark), b->err,
                           "a key must be text, not a list or a map");
    }
    if (b->depth >= CONFIG_DEPTH_MAX) {
        return config_fail(b->file, place_of(e->start_mark), b->err,
                           "nested deeper than %d levels; flatten it", CONFIG_DEPTH_MAX);
    }
    struct config_node *n = NULL;
    if (add_node(b, e, kind, &n) != 0) {
        return -1;
    }
    b->stack[b->depth++] = n;
    return 0;
}

static int on_document(struct builder *b, const yaml_event_t *e)
{
    if (b->document_seen) {
        return config_fail(b->file, place_of(e->start_mark), b->err,
                           "a second document begins here; keep one");
    }
    b->document_seen = true;
    return 0;
}

static int on_event(struct builder *b, const yaml_event_t *e)
{
    switch (e->type) {
    case YAML_DOCUMENT_START_EVENT:
        return on_document(b, e);
    case YAML_ALIAS_EVENT:
        return config_fail(b->file, place_of(e->start_mark), b->err,
                           "aliases are not accepted; write the value out, or quote the \"*\"");
    case YAML_SCALAR_EVENT:
        return on_scalar(b, e);
    case YAML_SEQUENCE_START_EVENT:
        return on_start(b, e, CONFIG_SEQUENCE, e->data.sequence_start.anchor,
                        e->data.sequence_start.tag);
    case YAML_MAPPING_START_EVENT:
        return on_start(b, e, CONFIG_MAPPING, e->data.mapping_start.anchor,
                        e->data.mapping_start.tag);
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT:
        b->depth--;
        return 0;
    case YAML_STREAM_END_EVENT:
        b->done = true;
        return 0;
    default:
        return 0;
    }
}

static int parser_failed(const struct builder *b, const yaml_parser_t *p, const char *text,
                         size_t n)
{
    /* libyaml's problems are fixed texts: nothing from the file is in them. */
    const char *problem = p->problem ? p->problem : "unreadable";
    switch (p->error) {
    case YAML_MEMORY_ERROR:
        return err_nomem(b->err);
    case YAML_READER_ERROR:
        return config_fail(b->file, place_at(text, n, p->problem_offset), b->err,
                           "%s; save the file as UTF-8 text without control characters", problem);
    default:
        return config_fail(b->file, place_of(p->problem_mark), b->err,
                           "not YAML: %s; check indentation (blanks, no tabs), colons and quotes",
                           problem);
    }
}

static int build(struct builder *b, yaml_parser_t *parser, const char *text, size_t n)
{
    while (!b->done) {
        yaml_event_t e;
        if (!yaml_parser_parse(parser, &e)) {
            return parser_failed(b, parser, text, n);
        }
        int rc = on_event(b, &e);
        if (e.type == YAML_SCALAR_EVENT) {
            secret_wipe((char *)e.data.scalar.value);
        }
        yaml_event_delete(&e);
        if (rc != 0) {
            return -1;
        }
    }
    if (!b->root) {
        return config_fail(b->file, (struct config_place){1, 1}, b->err,
                           "the file says nothing; start from the sample configuration");
    }
    return 0;
}

int config_node_parse(const char *file, const char *text, size_t n, struct config_node **out,
                      struct err *err)
{
    yaml_parser_t parser;
    if (!yaml_parser_initialize(&parser)) {
        return err_nomem(err);
    }
    /* The encoding is told, not guessed: UTF-16 is refused. So the byte order mark is ours to skip.
     */
    if (n >= 3 && memcmp(text, "\xEF\xBB\xBF", 3) == 0) {
        text += 3;
        n -= 3;
    }
    yaml_parser_set_encoding(&parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&parser, (const unsigned char *)text, n);
    struct builder b = {.file = file, .err = err};
    int rc = build(&b, &parser, text, n);
    yaml_parser_delete(&parser);
    secret_wipe(b.key);
    free(b.key);
    if (rc != 0) {
        config_node_free(b.root);
        return -1;
    }
    *out = b.root;
    return 0;
}
