#include "eventfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/str.h"

struct cursor {
    const char *p, *end;
    size_t line;
};

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static void step(struct cursor *c)
{
    c->line += *c->p == '\n';
    c->p++;
}

static void skip_space(struct cursor *c)
{
    while (c->p < c->end && is_space(*c->p))
        step(c);
}

static void skip_string(struct cursor *c)
{
    for (step(c); c->p < c->end && *c->p != '"'; step(c))
        if (*c->p == '\\' && c->p + 1 < c->end)
            step(c);
    if (c->p < c->end)
        step(c);
}

/* To the end of the value that begins here: a comma or closing bracket outside of it, or the end.
 */
static void skip_value(struct cursor *c)
{
    size_t depth = 0;
    while (c->p < c->end) {
        char ch = *c->p;
        if (depth == 0 && (ch == ',' || ch == ']' || ch == '}'))
            return;
        if (ch == '"') {
            skip_string(c);
            continue;
        }
        if (ch == '{' || ch == '[')
            depth++;
        if (ch == '}' || ch == ']')
            depth--;
        step(c);
    }
}

static int add_slice(struct eventfile *f, const char *from, const char *to, size_t line,
                     struct err *err)
{
    /* Powers of two. */
    if ((f->n & (f->n - 1)) == 0) {
        size_t room = f->n ? f->n * 2 : 1;
        struct eventfile_slice *grown = realloc(f->slices, room * sizeof(*grown));
        if (!grown)
            return err_nomem(err);
        f->slices = grown;
    }
    if (f->n == EVENTFILE_EVENTS_MAX)
        return err_set(err, ERR_INVALID, "%s: more than %d events; submit them in parts", f->name,
                       EVENTFILE_EVENTS_MAX);
    while (to > from && is_space(to[-1]))
        to--;
    f->slices[f->n++] = (struct eventfile_slice){from, (size_t)(to - from), line};
    return 0;
}

static int split_array(struct eventfile *f, struct cursor c, struct err *err)
{
    step(&c);
    skip_space(&c);
    if (c.p < c.end && *c.p == ']')
        return err_set(err, ERR_INVALID, "%s: the array holds no event", f->name);
    for (;;) {
        skip_space(&c);
        struct cursor from = c;
        skip_value(&c);
        if (add_slice(f, from.p, c.p, from.line, err) != 0)
            return -1;
        if (c.p == c.end || *c.p != ',')
            break;
        step(&c);
    }
    if (c.p == c.end || *c.p != ']')
        return err_set(err, ERR_INVALID, "%s:%zu: the array does not end with ]", f->name, c.line);
    step(&c);
    skip_space(&c);
    if (c.p < c.end)
        return err_set(err, ERR_INVALID, "%s:%zu: something stands behind the array", f->name,
                       c.line);
    return 0;
}

static int split_lines(struct eventfile *f, struct cursor c, struct err *err)
{
    for (skip_space(&c); c.p < c.end; skip_space(&c)) {
        const char *newline = memchr(c.p, '\n', (size_t)(c.end - c.p));
        const char *to = newline ? newline : c.end;
        if (add_slice(f, c.p, to, c.line, err) != 0)
            return -1;
        c.p = to;
    }
    return 0;
}

/* Does the first value end on the line on which it begins? Then each line is an event. */
static bool is_lines(struct cursor c)
{
    size_t line = c.line;
    if (c.p < c.end && *c.p == '{') {
        size_t depth = 0;
        do {
            if (*c.p == '"') {
                skip_string(&c);
                continue;
            }
            depth += *c.p == '{' || *c.p == '[';
            depth -= *c.p == '}' || *c.p == ']';
            step(&c);
        } while (c.p < c.end && depth > 0 && c.line == line);
        return depth == 0;
    }
    return false;
}

static int split(struct eventfile *f, struct err *err)
{
    static const char bom[] = "\xef\xbb\xbf";
    struct cursor c = {f->text, f->text + f->len, 1};
    if (f->len >= 3 && memcmp(f->text, bom, 3) == 0)
        c.p += 3;
    skip_space(&c);
    if (c.p == c.end)
        return err_set(err, ERR_INVALID, "%s: is empty; an event in JSON was expected", f->name);
    if (*c.p == '[')
        return split_array(f, c, err);
    if (is_lines(c))
        return split_lines(f, c, err);
    return add_slice(f, c.p, c.end, c.line, err);
}

static struct eventfile *finish(struct eventfile *f, struct err *err)
{
    if (f && f->name && f->text && split(f, err) == 0)
        return f;
    if (!f || !f->name || !f->text)
        err_nomem(err);
    eventfile_free(f);
    return NULL;
}

struct eventfile *eventfile_split(const char *name, const char *text, size_t len, struct err *err)
{
    struct eventfile *f = calloc(1, sizeof(*f));
    if (f) {
        f->name = str_dup(name);
        f->text = str_dupn(text, len);
        f->len = len;
    }
    return finish(f, err);
}

static int read_all(int fd, const char *name, struct buf *out, struct err *err)
{
    char part[64 * 1024];
    for (;;) {
        ssize_t n = read(fd, part, sizeof(part));
        if (n == 0)
            return 0;
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_set(err, ERR_INVALID, "%s: cannot be read: %s", name, strerror(errno));
        if (buf_add(out, part, (size_t)n) != 0)
            return err_set(err, ERR_INVALID, "%s: is larger than %d MiB; submit it in parts", name,
                           EVENTFILE_BYTES_MAX / (1024 * 1024));
    }
}

struct eventfile *eventfile_read(const char *path, struct err *err)
{
    const bool standard = str_eq(path, "-");
    const char *name = standard ? "standard input" : path;
    struct buf text;
    int fd = standard ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        err_set(err, ERR_INVALID, "%s: cannot be opened: %s", name, strerror(errno));
        return NULL;
    }
    buf_init(&text, EVENTFILE_BYTES_MAX);
    int rc = read_all(fd, name, &text, err);
    if (!standard)
        close(fd);
    struct eventfile *f = rc == 0 ? calloc(1, sizeof(*f)) : NULL;
    if (f) {
        f->name = str_dup(name);
        f->len = text.len;
        f->text = text.len ? buf_steal(&text) : str_dup("");
    }
    buf_done(&text);
    return rc == 0 ? finish(f, err) : NULL;
}

void eventfile_free(struct eventfile *f)
{
    if (!f)
        return;
    free(f->name);
    free(f->text);
    free(f->slices);
    free(f);
}
