#include "base/exchange.h"

#include <string.h>

#include "base/json.h"
#include "base/str.h"

static const struct json_limits body_limits = {
    .size = 1024 * 1024, .depth = 64, .string = 256 * 1024};

const char *exchange_method_name(enum exchange_method m)
{
    switch (m) {
    case METHOD_GET:
        return "GET";
    case METHOD_POST:
        return "POST";
    case METHOD_PUT:
        return "PUT";
    case METHOD_PATCH:
        return "PATCH";
    case METHOD_DELETE:
        return "DELETE";
    }
    return "?";
}

void exchange_request_init(struct exchange_request *r)
{
    *r = (struct exchange_request){.method = METHOD_GET, .auth_scheme = ""};
    buf_init(&r->body, EXCHANGE_REQUEST_MAX);
}

void exchange_request_done(struct exchange_request *r)
{
    if (r->body.data)
        explicit_bzero(r->body.data, r->body.len); /* it may hold a password */
    buf_done(&r->body);
    exchange_request_init(r);
}

/* Well-formed UTF-8 in, without C0, DEL and C1 controls; cut at a character. */
static void copy_printable(char out[EXCHANGE_WORDS_MAX], const char *s)
{
    size_t left = strlen(s);
    size_t n = 0;
    while (left > 0) {
        size_t step = str_utf8_step(s, left);
        unsigned char c = (unsigned char)s[0];
        bool c1 = step == 2 && c == 0xC2 && (unsigned char)s[1] < 0xA0;
        bool drop = step == 0 || c < 0x20 || c == 0x7f || c1;
        if (!drop) {
            if (n + step >= EXCHANGE_WORDS_MAX)
                break;
            memcpy(out + n, s, step);
            n += step;
        }
        step += step == 0;
        s += step;
        left -= step;
    }
    out[n] = '\0';
}

void exchange_words(const struct exchange_response *r, char out[EXCHANGE_WORDS_MAX])
{
    static const char *const members[] = {"detail", "message", "error"};
    out[0] = '\0';
    if (!r->body || r->body_len == 0)
        return;
    cJSON *tree;
    struct json_fault fault;
    if (json_parse(r->body, r->body_len, &body_limits, &tree, &fault))
        return;
    for (size_t i = 0; i < ARRAY_LEN(members) && out[0] == '\0'; i++) {
        const char *s = json_str(tree, members[i]);
        if (s)
            copy_printable(out, s);
    }
    cJSON_Delete(tree);
}

static enum err_class class_of(const struct exchange_response *r)
{
    if (r->status == 0)
        return r->sent ? ERR_UNKNOWN : ERR_UNAVAILABLE;
    if (r->status >= 200 && r->status <= 299)
        return ERR_NONE;
    switch (r->status) {
    case 401:
    case 403:
        return ERR_UNAUTHORIZED;
    case 404:
    case 410:
        return ERR_GONE;
    case 409:
        return ERR_CONFLICT;
    case 408:
    case 425:
        return ERR_UNKNOWN;
    case 429:
        return ERR_THROTTLED;
    case 503:
        return r->retry_after_ms >= 0 ? ERR_THROTTLED : ERR_UNKNOWN;
    default:
        return r->status >= 400 && r->status <= 499 ? ERR_REFUSED : ERR_UNKNOWN;
    }
}

enum err_class exchange_classify(const struct exchange_response *r, struct err *e)
{
    enum err_class class = class_of(r);
    if (!e)
        return class;
    if (class == ERR_NONE) {
        err_clear(e);
    } else if (r->status == 0) {
        err_set(e, class, "%s: %s", r->sent ? "no usable answer" : "not sent",
                r->failure[0] ? r->failure : "the connection failed");
    } else {
        char words[EXCHANGE_WORDS_MAX];
        exchange_words(r, words);
        err_set(e, class, "HTTP %d%s%s%s%s%s", r->status, words[0] ? ": " : "", words,
                r->request_id[0] ? " (request " : "", r->request_id, r->request_id[0] ? ")" : "");
    }
    e->http_status = r->status;
    e->retry_after_ms = r->retry_after_ms;
    return class;
}
