/*
 * What RAGFlow's answers mean. HTTP says 200 nearly always; the body's `code` decides, by what was
 * asked. The words of the answers change from version to version and are matched only where a code
 * says too little.
 */
#include "ragflow/native.h"

#include <string.h>
#include <strings.h>

#include "base/str.h"

/* RetCode in the product. */
enum {
    CODE_NONE = -1,
    CODE_EXCEPTION = 100,
    CODE_ARGUMENT = 101,
    CODE_DATA = 102,
    CODE_OPERATING = 103,
    CODE_CONNECTION = 105,
    CODE_RUNNING = 106,
    CODE_PERMISSION = 108,
    CODE_AUTHENTICATION = 109
};

static const struct json_limits answer_limits = {
    .size = 8 * 1024 * 1024, .depth = 64, .string = 4 * 1024 * 1024};

/* ---- words ---- */

/*
 * Validation messages are lines "Field: <a.b> - Message: <...> - Value: <...>" and repeat what they
 * were sent, a provider's key included: the values stay out, and so do lines that continue one.
 */
static void add_words(struct buf *b, const char *message)
{
    static const char field[] = "Field: ", value[] = " - Value: <";
    bool validation = str_starts(message, field);
    while (*message && b->len < EXCHANGE_WORDS_MAX) {
        size_t n = strcspn(message, "\r\n");
        if (!validation || str_starts(message, field)) {
            char *line = str_dupn(message, n < EXCHANGE_WORDS_MAX ? n : EXCHANGE_WORDS_MAX);
            char *cut = line && validation ? strstr(line, value) : NULL;
            if (cut) {
                *cut = '\0';
            }
            buf_addf(b, "%s%s", b->len ? "; " : "", line ? line : "");
            free(line);
        }
        message += n;
        message += strspn(message, "\r\n");
    }
}

/* Sets the error: who says what, in the server's words. */
static void set_err(struct ragflow_answer *a, enum err_class class,
                    const struct exchange_response *r)
{
    const char *message = json_str(a->json, "message");
    struct buf words;
    buf_init(&words, 4 * EXCHANGE_WORDS_MAX);
    add_words(&words, message ? message : "");
    size_t n = str_utf8_cut(buf_str(&words), words.len, EXCHANGE_WORDS_MAX - 1);
    err_set(&a->err, class, "RAGFlow's code %d%s%.*s%s%s%s", (int)a->code, n ? ": " : "", (int)n,
            buf_str(&words), r->request_id[0] ? " (request " : "", r->request_id,
            r->request_id[0] ? ")" : "");
    a->err.http_status = r->status;
    a->err.retry_after_ms = r->retry_after_ms;
    buf_done(&words);
}

/* ---- codes ---- */

static bool says(const struct ragflow_answer *a, const char *phrase)
{
    const char *message = json_str(a->json, "message");
    return message && strcasestr(message, phrase);
}

/* The server broke down over it; 102 says so only in words. */
static bool is_breakdown(const struct ragflow_answer *a)
{
    return a->code == CODE_EXCEPTION || a->code == CODE_CONNECTION || a->code == CODE_RUNNING ||
           (a->code >= 500 && a->code <= 599) ||
           (a->code == CODE_DATA &&
            (says(a, "Internal server error") || says(a, "Database operation failed")));
}

static enum ragflow_meaning meaning_of_miss(enum ragflow_kind kind)
{
    switch (kind) {
    case KIND_LOOK:
    case KIND_UPDATE:
    case KIND_DELETE:
        return MEANS_NOT_THERE;
    case KIND_SETUP:
        return MEANS_TAKEN; /* "already exists", "already in the team" */
    case KIND_SYSTEM:
    case KIND_HEALTH:
    case KIND_CREATE:
    case KIND_ADMIN:
    case KIND_LOGIN:
        break;
    }
    return MEANS_ERROR;
}

static void breakdown(struct ragflow_answer *a, bool changes, const struct exchange_response *r)
{
    a->meaning = MEANS_ERROR;
    a->health = HEALTH_AS_SAID;
    set_err(a, changes ? ERR_UNKNOWN : ERR_UNAVAILABLE, r);
}

static void by_code(enum ragflow_kind kind, bool changes, const struct exchange_response *r,
                    struct ragflow_answer *a)
{
    a->health = HEALTH_GOOD;
    if (is_breakdown(a)) {
        breakdown(a, changes, r);
        return;
    }
    switch (a->code) {
    case CODE_AUTHENTICATION:
    case 401:
        a->meaning = MEANS_DENIED;
        set_err(a, ERR_UNAUTHORIZED, r);
        return;
    case 403:
        set_err(a, ERR_UNAUTHORIZED, r);
        a->health = HEALTH_AS_SAID;
        return;
    case CODE_DATA:
    case CODE_PERMISSION:
        a->meaning = meaning_of_miss(kind);
        set_err(a, ERR_REFUSED, r);
        return;
    case CODE_ARGUMENT:
    case CODE_OPERATING:
        set_err(a, ERR_REFUSED, r);
        return;
    default: /* none that is known */
        breakdown(a, changes, r);
        return;
    }
}

/* The admin service: HTTP 400 for whatever it does not like. */
static void by_admin_code(bool changes, const struct exchange_response *r, struct ragflow_answer *a)
{
    a->health = HEALTH_GOOD;
    switch (a->code) {
    case 404:
        a->meaning = MEANS_NOT_THERE;
        set_err(a, ERR_REFUSED, r);
        return;
    case 409:
        a->meaning = MEANS_TAKEN;
        set_err(a, ERR_REFUSED, r);
        return;
    case 401:
    case 403:
        set_err(a, ERR_UNAUTHORIZED, r);
        a->health = HEALTH_AS_SAID;
        return;
    default:
        break;
    }
    if (is_breakdown(a)) {
        breakdown(a, changes, r);
    } else {
        set_err(a, ERR_REFUSED, r);
    }
}

/* ---- bodies ---- */

static cJSON *parse(const struct exchange_response *r)
{
    struct json_fault fault;
    cJSON *json = NULL;
    if (r->truncated || json_parse(r->body, r->body_len, &answer_limits, &json, &fault)) {
        return NULL;
    }
    return json;
}

static void unreadable(struct ragflow_answer *a, const struct exchange_response *r,
                       const char *what)
{
    a->health = HEALTH_AS_SAID;
    err_set(&a->err, ERR_UNKNOWN, "HTTP %d with a body that %s", r->status, what);
    a->err.http_status = r->status;
}

/* Old servers say so where the key is missing altogether. */
static bool is_false(const cJSON *data)
{
    return data && cJSON_IsFalse(data);
}

static void read_envelope(enum ragflow_kind kind, bool changes, const struct exchange_response *r,
                          struct ragflow_answer *a)
{
    bool admin = kind == KIND_ADMIN || kind == KIND_LOGIN;
    if (!a->json) {
        unreadable(a, r, "is not JSON");
    } else if (!json_i64(a->json, "code", &a->code)) {
        a->code = CODE_NONE;
        unreadable(a, r, "is not RAGFlow's");
    } else if (a->code == 0 && r->status <= 299) {
        a->data = json_get(a->json, "data");
        a->meaning = is_false(a->data) ? MEANS_DENIED : MEANS_DONE;
        a->health = HEALTH_GOOD;
        err_clear(&a->err);
        if (a->meaning == MEANS_DENIED) {
            set_err(a, ERR_UNAUTHORIZED, r);
        }
    } else if (admin) {
        by_admin_code(changes, r, a);
    } else {
        by_code(kind, changes, r, a);
    }
}

/* What HTTP itself said; the words that go with it may repeat what was sent. */
static void by_status(enum ragflow_kind kind, const struct exchange_response *r,
                      struct ragflow_answer *a)
{
    a->health = HEALTH_AS_SEEN;
    if (r->status == 401) {
        a->meaning = MEANS_DENIED;
        a->health = HEALTH_GOOD; /* until it is known why */
    } else if (a->err.class == ERR_GONE && kind == KIND_SYSTEM) {
        a->meaning = MEANS_NOT_THERE;
        a->health = HEALTH_GOOD;
    } else if (a->err.class == ERR_GONE) {
        /* Not an end: what stands before a server that restarts says so, too. */
        err_set(&a->err, ERR_UNAVAILABLE,
                "the server knows no such path (HTTP %d); check the runtime's %s", r->status,
                kind == KIND_ADMIN || kind == KIND_LOGIN ? "admin url" : "url");
        a->err.http_status = r->status;
    } else if (a->err.class == ERR_CONFLICT) {
        a->meaning = MEANS_TAKEN;
        a->health = HEALTH_GOOD;
    }
}

void ragflow_answer_read(enum ragflow_kind kind, bool changes, const struct exchange_response *r,
                         struct ragflow_answer *out)
{
    bool admin = kind == KIND_ADMIN || kind == KIND_LOGIN;
    *out = (struct ragflow_answer){.meaning = MEANS_ERROR, .code = CODE_NONE};
    out->session = r->authorization;
    exchange_classify(r, &out->err);
    if (r->status != 0 && r->body_len > 0) {
        out->json = parse(r);
    }
    if (kind == KIND_HEALTH) {
        bool well = r->status == 200 && str_eq(json_str(out->json, "status"), "ok");
        out->meaning = well ? MEANS_DONE : MEANS_NOT_THERE;
        out->health = HEALTH_AS_SAID;
    } else if (out->err.class == ERR_NONE ||
               (admin && r->status == 400 && json_get(out->json, "code"))) {
        read_envelope(kind, changes, r, out);
    } else {
        by_status(kind, r, out);
    }
}

void ragflow_answer_done(struct ragflow_answer *a)
{
    cJSON_Delete(a->json);
    a->json = NULL;
    a->data = NULL;
}
