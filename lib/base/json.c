/*
 * The strict check walks the bytes once with a stack of at most JSON_DEPTH_MAX frames, and keeps
 * the names of the open objects, so that a closing brace can look for duplicates by sorting them: n
 * log n whatever names an attacker picks, where a hash would need a secret seed.
 */
#include "base/json.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/str.h"

enum {
    JSON_DEPTH_MAX = 64,
    JSON_NUMBER_MAX = 63, /* cJSON reads no more bytes of a number */
    JSON_TEXT_MAX = 64 * 1024 * 1024,
    JSON_PATH_PART_MAX = 128,
};

static const int64_t json_safe_max = (INT64_C(1) << 53) - 1; /* doubles are exact up to here */

/* A member name as written, between its quotes. */
struct name {
    const char *p;
    size_t n;
};

struct frame {
    bool object;
    bool placed;       /* inside a member or item: `key` or `index` belongs to the place */
    struct name key;   /* objects */
    size_t index;      /* arrays */
    size_t first_name; /* where this object's names start in scan.names */
};

enum want { WANT_VALUE, WANT_FIRST_ITEM, WANT_FIRST_NAME, WANT_NAME, WANT_NEXT, WANT_END };

struct scan {
    const char *start;
    const char *p;
    const char *end;
    size_t string_max;
    size_t depth_max;
    enum want want;
    size_t depth;
    struct frame stack[JSON_DEPTH_MAX];
    struct name *names; /* of all open objects; at most one for every 4 bytes of input */
    size_t names_len;
    size_t names_cap;
    struct json_fault *fault;
};

int json_refuse(struct json_fault *fault, const char *pointer, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(fault->reason, sizeof(fault->reason), fmt, ap);
    va_end(ap);
    str_copy(fault->pointer, sizeof(fault->pointer), pointer);
    fault->internal = false;
    return -1;
}

int json_broken(struct json_fault *fault, const char *why)
{
    json_refuse(fault, "", "%s", why);
    fault->internal = true;
    return -1;
}

/* --- JSON Pointer -------------------------------------------------------------------------------
 */

static const char pointer_cut[] = "/...";

void json_pointer_push(char pointer[JSON_POINTER_MAX], const char *token)
{
    size_t len = strlen(pointer);
    size_t tail = sizeof(pointer_cut) - 1;
    /* What follows a cut has no place to hang on. */
    if (len >= tail && strcmp(pointer + len - tail, pointer_cut) == 0)
        return;
    /* Room for a later cut always stays. */
    size_t room = JSON_POINTER_MAX - sizeof(pointer_cut);
    char *out = pointer + len;
    size_t at = len;
    bool fits = at < room;
    if (fits)
        pointer[at++] = '/';
    for (; fits && *token; token++) {
        bool escape = *token == '~' || *token == '/';
        fits = at + 1 + escape <= room;
        if (!fits)
            break;
        pointer[at++] = escape ? '~' : *token;
        if (escape)
            pointer[at++] = *token == '~' ? '0' : '1';
    }
    if (fits)
        pointer[at] = '\0';
    else
        memcpy(out, pointer_cut, sizeof(pointer_cut));
}

void json_pointer_push_index(char pointer[JSON_POINTER_MAX], size_t index)
{
    char text[24];
    snprintf(text, sizeof(text), "%zu", index);
    json_pointer_push(pointer, text);
}

/* --- Names: decoding and comparing --------------------------------------------------------------
 */

static unsigned hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return (unsigned)(c - '0');
    return (unsigned)((c | 0x20) - 'a') + 10U;
}

static unsigned hex4(const char *p)
{
    return hex_value(p[0]) << 12 | hex_value(p[1]) << 8 | hex_value(p[2]) << 4 | hex_value(p[3]);
}

static size_t put_utf8(char out[4], unsigned cp)
{
    if (cp < 0x80) {
        out[0] = (char)cp;
        return 1;
    }
    size_t n = cp < 0x800 ? 2 : cp < 0x10000 ? 3 : 4;
    static const unsigned char lead[] = {0, 0, 0xC0, 0xE0, 0xF0};
    for (size_t i = n; i > 1; i--) {
        out[i - 1] = (char)(0x80U | (cp & 0x3FU));
        cp >>= 6;
    }
    out[0] = (char)(lead[n] | cp);
    return n;
}

/* Decodes the escape (checked before) at p into out; returns the bytes of input it took. */
static size_t decode_escape(const char *p, char out[4], size_t *out_len)
{
    static const char from[] = "\"\\/bfnrt";
    static const char to[] = "\"\\/\b\f\n\r\t";
    if (p[1] != 'u') {
        out[0] = to[strchr(from, p[1]) - from];
        *out_len = 1;
        return 2;
    }
    unsigned cp = hex4(p + 2);
    size_t used = 6;
    if (cp >= 0xD800 && cp <= 0xDBFF) {
        cp = 0x10000U + ((cp - 0xD800U) << 10) + (hex4(p + 8) - 0xDC00U);
        used = 12;
    }
    *out_len = put_utf8(out, cp);
    return used;
}

/* Yields a checked name's decoded bytes, a few at a time. */
struct decoder {
    const char *p;
    const char *end;
    char bytes[4];
    size_t len;
    size_t at;
};

static struct decoder decode(struct name name)
{
    return (struct decoder){.p = name.p, .end = name.p + name.n};
}

/* The next byte, -1 at the end. */
static int decode_next(struct decoder *d)
{
    if (d->at < d->len)
        return (unsigned char)d->bytes[d->at++];
    if (d->p == d->end)
        return -1;
    if (*d->p != '\\')
        return (unsigned char)*d->p++;
    d->p += decode_escape(d->p, d->bytes, &d->len);
    d->at = 1;
    return (unsigned char)d->bytes[0];
}

static int compare_names(const void *a, const void *b)
{
    struct decoder x = decode(*(const struct name *)a);
    struct decoder y = decode(*(const struct name *)b);
    int i, j;
    do {
        i = decode_next(&x);
        j = decode_next(&y);
    } while (i == j && i >= 0);
    return (i > j) - (i < j);
}

/* --- Faults -------------------------------------------------------------------------------------
 */

static void push_name(char pointer[JSON_POINTER_MAX], struct name name)
{
    char token[JSON_POINTER_MAX];
    struct decoder d = decode(name);
    size_t n = 0;
    /* A token that fills this buffer fits into no pointer, and is cut there. */
    for (int c = decode_next(&d); c >= 0 && n < sizeof(token) - 1; c = decode_next(&d))
        token[n++] = (char)c;
    token[n] = '\0';
    json_pointer_push(pointer, token);
}

static void fault_place(struct scan *s)
{
    s->fault->pointer[0] = '\0';
    for (size_t i = 0; i < s->depth; i++) {
        if (!s->stack[i].placed)
            break;
        if (s->stack[i].object)
            push_name(s->fault->pointer, s->stack[i].key);
        else
            json_pointer_push_index(s->fault->pointer, s->stack[i].index);
    }
}

/* `at` is where in the input; the pointer names the value that is being read. */
static int refuse(struct scan *s, const char *at, const char *reason)
{
    fault_place(s);
    snprintf(s->fault->reason, sizeof(s->fault->reason), "%s, at byte %zu", reason,
             (size_t)(at - s->start));
    return -1;
}

static int out_of_memory(struct json_fault *fault)
{
    *fault = (struct json_fault){.internal = true};
    str_copy(fault->reason, sizeof(fault->reason), "out of memory");
    return -1;
}

/* --- Strings, numbers, literals -----------------------------------------------------------------
 */

static bool is_hex4(const char *p, const char *end)
{
    if (end - p < 4)
        return false;
    for (int i = 0; i < 4; i++) {
        bool letter = (p[i] >= 'a' && p[i] <= 'f') || (p[i] >= 'A' && p[i] <= 'F');
        if (!letter && !(p[i] >= '0' && p[i] <= '9'))
            return false;
    }
    return true;
}

/* \uXXXX at s->p, with its second half where it is the first of a surrogate pair. */
static int scan_unicode_escape(struct scan *s)
{
    const char *p = s->p;
    if (!is_hex4(p + 2, s->end))
        return refuse(s, p, "a \\u escape without four hexadecimal digits");
    unsigned cp = hex4(p + 2);
    if (cp == 0)
        return refuse(s, p, "a NUL character in a string");
    s->p += 6;
    if (cp < 0xD800 || cp > 0xDFFF)
        return 0;
    bool pair = cp <= 0xDBFF && s->end - s->p >= 6 && s->p[0] == '\\' && s->p[1] == 'u' &&
                is_hex4(s->p + 2, s->end) && (hex4(s->p + 2) & 0xFC00U) == 0xDC00U;
    if (!pair)
        return refuse(s, p, "a lone surrogate in a string");
    s->p += 6;
    return 0;
}

static int scan_escape(struct scan *s)
{
    if (s->end - s->p < 2)
        return refuse(s, s->p, "a string that does not end");
    if (s->p[1] == 'u')
        return scan_unicode_escape(s);
    if (s->p[1] == '\0' || !strchr("\"\\/bfnrt", s->p[1]))
        return refuse(s, s->p, "an unknown escape in a string");
    s->p += 2;
    return 0;
}

/* The string whose opening quote is at s->p; *text is what stands between the quotes. */
static int scan_string(struct scan *s, struct name *text)
{
    const char *start = ++s->p;
    while (s->p < s->end && *s->p != '"') {
        unsigned char c = (unsigned char)*s->p;
        if (c == '\\') {
            if (scan_escape(s))
                return -1;
        } else if (c < 0x20) {
            return refuse(s, s->p, "a raw control character in a string");
        } else {
            size_t step = str_utf8_step(s->p, (size_t)(s->end - s->p));
            if (step == 0)
                return refuse(s, s->p, "invalid UTF-8");
            s->p += step;
        }
        if ((size_t)(s->p - start) > s->string_max)
            return refuse(s, start, "a string that is too long");
    }
    if (s->p == s->end)
        return refuse(s, s->p, "a string that does not end");
    *text = (struct name){start, (size_t)(s->p - start)};
    s->p++;
    return 0;
}

/* Moves over digits; false for none. */
static bool scan_digits(struct scan *s)
{
    const char *start = s->p;
    while (s->p < s->end && *s->p >= '0' && *s->p <= '9')
        s->p++;
    return s->p > start;
}

static bool scan_char(struct scan *s, const char *any_of)
{
    if (s->p == s->end || *s->p == '\0' || !strchr(any_of, *s->p))
        return false;
    s->p++;
    return true;
}

static bool scan_number_grammar(struct scan *s)
{
    scan_char(s, "-");
    if (!scan_char(s, "0") && !scan_digits(s))
        return false;
    if (scan_char(s, ".") && !scan_digits(s))
        return false;
    if (scan_char(s, "eE")) {
        scan_char(s, "+-");
        return scan_digits(s);
    }
    return true;
}

static int scan_number(struct scan *s)
{
    const char *start = s->p;
    if (!scan_number_grammar(s))
        return refuse(s, start, "a malformed number");
    size_t n = (size_t)(s->p - start);
    if (n > JSON_NUMBER_MAX)
        return refuse(s, start, "a number of more than 63 characters");
    char text[JSON_NUMBER_MAX + 1];
    memcpy(text, start, n);
    text[n] = '\0';
    if (isinf(strtod(text, NULL)))
        return refuse(s, start, "a number beyond the range of a double");
    return 0;
}

static int scan_literal(struct scan *s)
{
    static const char *const words[] = {"true", "false", "null"};
    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        size_t n = strlen(words[i]);
        if ((size_t)(s->end - s->p) >= n && memcmp(s->p, words[i], n) == 0) {
            s->p += n;
            return 0;
        }
    }
    return refuse(s, s->p, "expected a value");
}

/* --- Structure ----------------------------------------------------------------------------------
 */

static struct frame *top(struct scan *s)
{
    return &s->stack[s->depth - 1];
}

static void skip_space(struct scan *s)
{
    while (s->p < s->end && (*s->p == ' ' || *s->p == '\t' || *s->p == '\n' || *s->p == '\r'))
        s->p++;
}

static int open_container(struct scan *s, bool object)
{
    if (s->depth == s->depth_max)
        return refuse(s, s->p, "nested too deeply");
    s->p++;
    s->stack[s->depth++] = (struct frame){.object = object, .first_name = s->names_len};
    s->want = object ? WANT_FIRST_NAME : WANT_FIRST_ITEM;
    return 0;
}

static int check_duplicates(struct scan *s)
{
    struct frame *f = top(s);
    size_t n = s->names_len - f->first_name;
    if (n < 2)
        return 0;
    struct name *names = s->names + f->first_name;
    qsort(names, n, sizeof(names[0]), compare_names);
    for (size_t i = 1; i < n; i++) {
        if (compare_names(&names[i - 1], &names[i]) != 0)
            continue;
        f->key = names[i];
        f->placed = true;
        const char *later = names[i].p > names[i - 1].p ? names[i].p : names[i - 1].p;
        return refuse(s, later - 1, "a member that occurs twice");
    }
    return 0;
}

static int close_container(struct scan *s)
{
    struct frame *f = top(s);
    if (f->object) {
        if (check_duplicates(s))
            return -1;
        s->names_len = f->first_name;
    }
    s->p++;
    s->depth--;
    s->want = s->depth > 0 ? WANT_NEXT : WANT_END;
    return 0;
}

static int remember_name(struct scan *s, struct name name)
{
    if (s->names_len == s->names_cap) {
        size_t cap = s->names_cap ? s->names_cap * 2 : 32;
        struct name *names = reallocarray(s->names, cap, sizeof(*names));
        if (!names)
            return out_of_memory(s->fault);
        s->names = names;
        s->names_cap = cap;
    }
    s->names[s->names_len++] = name;
    return 0;
}

static int step_name(struct scan *s)
{
    struct frame *f = top(s);
    f->placed = false;
    if (s->want == WANT_FIRST_NAME && *s->p == '}')
        return close_container(s);
    if (*s->p != '"')
        return refuse(s, s->p, "expected a member name");
    struct name name;
    if (scan_string(s, &name) || remember_name(s, name))
        return -1;
    f->key = name;
    f->placed = true;
    skip_space(s);
    if (!scan_char(s, ":"))
        return refuse(s, s->p, "expected ':'");
    s->want = WANT_VALUE;
    return 0;
}

static int step_value(struct scan *s)
{
    if (s->want == WANT_FIRST_ITEM) {
        if (*s->p == ']')
            return close_container(s);
        top(s)->placed = true;
    }
    struct name text;
    int r;
    switch (*s->p) {
    case '{':
        return open_container(s, true);
    case '[':
        return open_container(s, false);
    case '"':
        r = scan_string(s, &text);
        break;
    case '-':
    case '0' ... '9':
        r = scan_number(s);
        break;
    default:
        r = scan_literal(s);
    }
    s->want = s->depth > 0 ? WANT_NEXT : WANT_END;
    return r;
}

/* Behind a member or an item. */
static int step_next(struct scan *s)
{
    struct frame *f = top(s);
    f->placed = false;
    if (*s->p == (f->object ? '}' : ']'))
        return close_container(s);
    if (*s->p != ',')
        return refuse(s, s->p, f->object ? "expected ',' or '}'" : "expected ',' or ']'");
    s->p++;
    if (f->object) {
        s->want = WANT_NAME;
    } else {
        f->index++;
        f->placed = true;
        s->want = WANT_VALUE;
    }
    return 0;
}

static int step(struct scan *s)
{
    switch (s->want) {
    case WANT_VALUE:
    case WANT_FIRST_ITEM:
        return step_value(s);
    case WANT_FIRST_NAME:
    case WANT_NAME:
        return step_name(s);
    case WANT_NEXT:
        return step_next(s);
    case WANT_END:
        break;
    }
    return refuse(s, s->p, "something follows the document");
}

static int scan_document(struct scan *s)
{
    for (;;) {
        skip_space(s);
        if (s->p == s->end)
            break;
        if (step(s))
            return -1;
    }
    return s->want == WANT_END ? 0 : refuse(s, s->p, "the document ends too early");
}

static int scan_begin(struct scan *s, const char *p, size_t n, const struct json_limits *limits,
                      struct json_fault *fault)
{
    *fault = (struct json_fault){.internal = false};
    if (n > limits->size) {
        snprintf(fault->reason, sizeof(fault->reason), "larger than %zu bytes", limits->size);
        return -1;
    }
    *s = (struct scan){
        .start = p,
        .p = p,
        .end = p + n,
        .string_max = limits->string,
        .depth_max = limits->depth < JSON_DEPTH_MAX ? limits->depth : JSON_DEPTH_MAX,
        .want = WANT_VALUE,
        .fault = fault,
    };
    return 0;
}

int json_parse(const char *p, size_t n, const struct json_limits *limits, cJSON **out,
               struct json_fault *fault)
{
    struct scan s;
    if (scan_begin(&s, p, n, limits, fault))
        return -1;
    int r = scan_document(&s);
    free(s.names);
    if (r)
        return -1;
    /* It accepts everything that passed the check; only memory can end. */
    cJSON *tree = cJSON_ParseWithLengthOpts(p, n, NULL, false);
    if (!tree)
        return out_of_memory(fault);
    *out = tree;
    return 0;
}

static int scan_members(struct scan *s, json_member_fn *fn, void *ctx)
{
    const char *value = NULL; /* where the value of a member of the outermost object begins */
    for (;;) {
        skip_space(s);
        if (s->p == s->end)
            break;
        if (s->depth == 0 && s->want == WANT_VALUE && *s->p != '{')
            return refuse(s, s->p, "expected an object");
        if (s->depth == 1 && s->want == WANT_VALUE)
            value = s->p;
        if (step(s))
            return -1;
        if (s->depth == 1 && s->want == WANT_NEXT && value) {
            struct name key = top(s)->key;
            struct json_member m = {key.p, key.n, value, (size_t)(s->p - value)};
            fn(ctx, &m);
            value = NULL;
        }
    }
    return s->want == WANT_END ? 0 : refuse(s, s->p, "the document ends too early");
}

int json_members(const char *p, size_t n, const struct json_limits *limits, json_member_fn *fn,
                 void *ctx, struct json_fault *fault)
{
    struct scan s;
    if (scan_begin(&s, p, n, limits, fault))
        return -1;
    int r = scan_members(&s, fn, ctx);
    free(s.names);
    return r;
}

bool json_member_is(const struct json_member *m, const char *name)
{
    return m->name_len == strlen(name) && memcmp(m->name, name, m->name_len) == 0;
}

/* --- Trees --------------------------------------------------------------------------------------
 */

const cJSON *json_get(const cJSON *tree, const char *path)
{
    while (tree && *path) {
        size_t n = strcspn(path, ".");
        char name[JSON_PATH_PART_MAX];
        if (n >= sizeof(name))
            return NULL;
        memcpy(name, path, n);
        name[n] = '\0';
        tree = cJSON_IsObject(tree) ? cJSON_GetObjectItemCaseSensitive(tree, name) : NULL;
        path += n + (path[n] == '.');
    }
    return tree;
}

const char *json_str(const cJSON *tree, const char *path)
{
    return cJSON_GetStringValue(json_get(tree, path));
}

bool json_i64(const cJSON *tree, const char *path, int64_t *out)
{
    const cJSON *item = json_get(tree, path);
    if (!cJSON_IsNumber(item))
        return false;
    double v = item->valuedouble;
    /* Beyond 2^53 - 1 two different texts read as one double: not the number that was written. */
    if (!(fabs(v) <= (double)json_safe_max) || v != trunc(v))
        return false;
    *out = (int64_t)v;
    return true;
}

bool json_bool(const cJSON *tree, const char *path, bool fallback)
{
    const cJSON *item = json_get(tree, path);
    return cJSON_IsBool(item) ? cJSON_IsTrue(item) : fallback;
}

bool json_has_string(const cJSON *tree, const char *path, const char *s)
{
    const cJSON *array = json_get(tree, path);
    if (!cJSON_IsArray(array))
        return false;
    bool found = false;
    const cJSON *item;
    cJSON_ArrayForEach(item, array)
    {
        if (!cJSON_IsString(item))
            return false;
        found = found || str_eq(item->valuestring, s);
    }
    return found;
}

/* The shortest text that reads back as the same double (cJSON's own loses the last digits). */
static int add_number(struct buf *b, double v)
{
    if (!isfinite(v))
        return buf_add(b, "null", 4);
    if (v == 0 && signbit(v))
        return buf_add(b, "-0", 2);
    if (v == trunc(v) && fabs(v) <= (double)json_safe_max)
        return buf_add_i64(b, (int64_t)v);
    char text[32];
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof(text), "%.*g", digits, v);
        if (strtod(text, NULL) == v)
            break;
    }
    return buf_adds(b, text);
}

static int add_scalar(struct buf *b, const cJSON *item)
{
    if (cJSON_IsString(item) || cJSON_IsRaw(item)) {
        const char *s = item->valuestring ? item->valuestring : "";
        return cJSON_IsRaw(item) ? buf_adds(b, s) : buf_add_json(b, s);
    }
    if (cJSON_IsNumber(item))
        return add_number(b, item->valuedouble);
    if (cJSON_IsBool(item))
        return buf_adds(b, cJSON_IsTrue(item) ? "true" : "false");
    return buf_adds(b, "null");
}

static bool is_container(const cJSON *item)
{
    return cJSON_IsObject(item) || cJSON_IsArray(item);
}

static int add_name(struct buf *b, const cJSON *parent, const cJSON *item)
{
    if (!cJSON_IsObject(parent))
        return 0;
    buf_add_json(b, item->string ? item->string : "");
    return buf_addc(b, ':');
}

/* Depth first, without recursion; -1 when the bound, the depth or memory ends. */
static int add_tree(struct buf *b, const cJSON *tree)
{
    const cJSON *parents[JSON_DEPTH_MAX];
    size_t depth = 0;
    const cJSON *item = tree;
    for (;;) {
        if (is_container(item)) {
            if (depth == JSON_DEPTH_MAX)
                return -1;
            buf_addc(b, cJSON_IsObject(item) ? '{' : '[');
            parents[depth++] = item;
            item = item->child;
        } else {
            add_scalar(b, item);
            item = depth > 0 ? item->next : NULL;
            if (item)
                buf_addc(b, ',');
        }
        while (!item && depth > 0) {
            const cJSON *done = parents[--depth];
            buf_addc(b, cJSON_IsObject(done) ? '}' : ']');
            item = depth > 0 ? done->next : NULL;
            if (item)
                buf_addc(b, ',');
        }
        if (!item || b->failed)
            return b->failed ? -1 : 0;
        add_name(b, parents[depth - 1], item);
    }
}

char *json_text(const cJSON *tree)
{
    struct buf b;
    buf_init(&b, JSON_TEXT_MAX);
    if (!tree || add_tree(&b, tree)) {
        buf_done(&b);
        return NULL;
    }
    return buf_steal(&b);
}
