#include "base/log.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/str.h"

enum {
    LOG_LINE_MAX = 8 * 1024, /* with its line feed */
    LOG_VALUE_MAX = 2 * 1024,
    LOG_VALUE_MIN = 64, /* a value that does not fit even so is left out */
    LOG_TAIL = 24,      /* kept free for the mark, the brace and the line feed */
};

static struct {
    enum log_level level;
    bool json;
    int fd;
} settings = {LOG_INFO, true, STDERR_FILENO};

static const char *const level_names[] = {
    [LOG_DEBUG] = "debug", [LOG_INFO] = "info", [LOG_WARN] = "warn", [LOG_ERROR] = "error"};
static const char *const level_marks[] = {
    [LOG_DEBUG] = "DEBUG", [LOG_INFO] = "INFO", [LOG_WARN] = "WARN", [LOG_ERROR] = "ERROR"};

void log_setup(enum log_level level, bool json, int fd)
{
    settings.level = level;
    settings.json = json;
    settings.fd = fd;
}

bool log_level_parse(const char *name, enum log_level *out)
{
    for (size_t i = 0; i < ARRAY_LEN(level_names); i++) {
        if (str_eq(name, level_names[i])) {
            *out = (enum log_level)i;
            return true;
        }
    }
    return false;
}

bool log_enabled(enum log_level level)
{
    return level >= settings.level;
}

/* Text format: what needs no quotes. A space is one thing in an event and another in a value. */
static bool is_bare(const char *s, size_t n, bool space)
{
    for (size_t i = 0; i < n; i++) {
        if (s[i] == '"' || s[i] == '\\' || s[i] == '=' || s[i] < ' ' || s[i] > '~' ||
            (s[i] == ' ' && !space))
            return false;
    }
    return n > 0;
}

static void add_text(struct buf *b, const char *s, size_t max, bool space)
{
    size_t len = strlen(s);
    size_t keep = str_utf8_cut(s, len, max);
    if (keep == len && !settings.json && is_bare(s, len, space)) {
        buf_add(b, s, len);
        return;
    }
    buf_add_jsonn(b, s, keep);
    if (keep < len && !b->failed) {
        b->len--; /* the closing quote comes behind the mark */
        buf_adds(b, "…\"");
    }
}

static void add_field(struct buf *b, const struct log_field *f, size_t max)
{
    if (settings.json) {
        buf_addc(b, ',');
        buf_add_json(b, f->key);
        buf_addc(b, ':');
    } else {
        buf_addf(b, " %s=", f->key);
    }
    switch (f->kind) {
    case LOG_FIELD_STR:
        add_text(b, f->v.s, max, false);
        break;
    case LOG_FIELD_INT:
        buf_addf(b, "%" PRId64, f->v.i);
        break;
    case LOG_FIELD_BOOL:
        buf_adds(b, f->v.b ? "true" : "false");
        break;
    }
}

static void add_start(struct buf *b, enum log_level level, const char *event)
{
    char time[CLOCK_TEXT_MAX];
    clock_format_us(time, clock_wall_us());
    if (settings.json)
        buf_addf(b, "{\"time\":\"%s\",\"level\":\"%s\",\"event\":", time, level_names[level]);
    else
        buf_addf(b, "%s %s ", time, level_marks[level]);
    /* An escaped byte takes six at most: this much always fits. */
    add_text(b, event, LOG_VALUE_MAX / 4, true);
}

/* Adds the field, cut shorter and shorter until it fits; false when it was left out. */
static bool add_fitting(struct buf *line, struct buf *scratch, const struct log_field *f)
{
    for (size_t max = LOG_VALUE_MAX; max >= LOG_VALUE_MIN; max /= 2) {
        buf_reset(scratch);
        add_field(scratch, f, max);
        if (!scratch->failed && line->len + scratch->len + LOG_TAIL <= LOG_LINE_MAX)
            return buf_add(line, scratch->data, scratch->len) == 0;
    }
    return false;
}

static void write_line(const char *p, size_t n)
{
    /* A log that cannot be written has nowhere to say so. */
    while (n > 0) {
        ssize_t done = write(settings.fd, p, n);
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return;
        p += done;
        n -= (size_t)done;
    }
}

void log_write(enum log_level level, const char *event, const struct log_field *fields)
{
    static const char lost[] = "{\"level\":\"error\",\"event\":\"log line lost: out of memory\"}\n";
    if (!log_enabled(level))
        return;
    struct buf line, scratch;
    buf_init(&line, LOG_LINE_MAX);
    buf_init(&scratch, LOG_LINE_MAX);
    add_start(&line, level, event);
    bool whole = true;
    for (const struct log_field *f = fields; f && f->key; f++) {
        if (f->kind == LOG_FIELD_STR && !f->v.s)
            continue;
        whole = add_fitting(&line, &scratch, f) && whole;
    }
    if (!whole)
        buf_adds(&line, settings.json ? ",\"cut\":true" : " cut=true");
    buf_adds(&line, settings.json ? "}\n" : "\n");
    if (line.failed)
        write_line(lost, sizeof(lost) - 1);
    else
        write_line(line.data, line.len);
    buf_done(&scratch);
    buf_done(&line);
}
