/*
 * Files of events: the pieces lie in the text, in order, apart, not empty, and on the lines that
 * they say; one event alone is one piece whatever stands in its strings.
 */
#include "base/str.h"
#include "eventfile.h"
#include "fuzz.h"

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static size_t line_of(const struct eventfile *f, const char *at)
{
    size_t line = 1;
    for (const char *p = f->text; p < at; p++) {
        line += *p == '\n';
    }
    return line;
}

static void check_pieces(const struct eventfile *f)
{
    const char *from = f->text;
    HOLDS(f->n >= 1 && f->n <= EVENTFILE_EVENTS_MAX);
    for (size_t i = 0; i < f->n; i++) {
        const struct eventfile_slice *s = &f->slices[i];
        HOLDS(s->text >= from && s->text + s->len <= f->text + f->len);
        HOLDS(s->line == line_of(f, s->text));
        HOLDS(s->len == 0 || (!is_space(s->text[0]) && !is_space(s->text[s->len - 1])));
        from = s->text + s->len;
    }
}

/* Whole JSON documents come out as they went in: one, or those of an array. */
static void check_json(const struct eventfile *f)
{
    static const struct json_limits limits = {SIZE_MAX, 64, SIZE_MAX};
    struct json_fault fault;
    cJSON *tree = NULL, *piece = NULL;
    if (json_parse(f->text, f->len, &limits, &tree, &fault) != 0) {
        return;
    }
    bool array = cJSON_IsArray(tree);
    HOLDS((int)f->n == (array ? cJSON_GetArraySize(tree) : 1));
    for (size_t i = 0; i < f->n; i++) {
        const struct eventfile_slice *s = &f->slices[i];
        HOLDS(json_parse(s->text, s->len, &limits, &piece, &fault) == 0);
        HOLDS(cJSON_Compare(piece, array ? cJSON_GetArrayItem(tree, (int)i) : tree, true));
        cJSON_Delete(piece);
    }
    cJSON_Delete(tree);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct err err;
    char *text = fuzz_copy((struct fuzz_input){(const char *)data, size});
    struct eventfile *f = eventfile_split("events.json", text, size, &err);
    if (f) {
        HOLDS(f->len == size && (size == 0 || memcmp(f->text, text, size) == 0));
        check_pieces(f);
        check_json(f);
    } else {
        HOLDS(err.class == ERR_INVALID && str_starts(err.msg, "events.json"));
    }
    eventfile_free(f);
    free(text);
    return 0;
}
