/*
 * A script of answers for one operation of a driver. The first line holds letters, each a choice of
 * what the operation is told (fuzz_X.c says which); 'r': the script begins anew when it ends;
 * 'l': its last answer goes on; else nothing more reaches the server. Then one answer after
 * another:
 *
 *   @@STATUS [type/subtype] [retry=MS] [auth=SESSION] [id=REQUEST-ID] [cut] [sent]
 *   BODY
 *
 * Status 0: no answer came. What a transport has made of an answer (exchange.h) holds of these too.
 */
#ifndef TEST_FUZZ_SCRIPT_H
#define TEST_FUZZ_SCRIPT_H

#include <ctype.h>

#include "base/exchange.h"
#include "base/str.h"
#include "fuzz.h"
#include "unit/property.h"

struct script {
    struct fuzz_input all, left, last;
    char letters[64];
    bool again;
    char *body; /* of the answer that is out; a copy of its own */
};

static inline bool script_has(const struct script *s, char letter)
{
    return strchr(s->letters, letter) != NULL;
}

/* Printable ASCII alone, as the transport hands headers on. */
static inline void script_word(char *out, size_t size, const char *word)
{
    size_t n = 0;
    for (; *word && n + 1 < size; word++) {
        if (*word > ' ' && *word < 0x7f) {
            out[n++] = *word;
        }
    }
    out[n] = '\0';
}

static inline void script_type(struct exchange_response *r, const char *word)
{
    script_word(r->content_type, sizeof(r->content_type), word);
    for (char *p = r->content_type; *p; p++) {
        *p = (char)tolower((unsigned char)*p);
    }
}

static inline void script_head(char *line, struct exchange_response *r)
{
    char *rest = NULL;
    int64_t number = 0;
    const char *word = strtok_r(line, " ", &rest);
    r->status = word && str_to_i64(word, &number) && number >= 0 && number <= 999 ? (int)number : 0;
    while ((word = strtok_r(NULL, " ", &rest))) {
        if (str_starts(word, "retry=") && str_to_i64(word + 6, &number) && number >= 0) {
            r->retry_after_ms = number;
        } else if (str_starts(word, "auth=")) {
            script_word(r->authorization, sizeof(r->authorization), word + 5);
        } else if (str_starts(word, "id=")) {
            script_word(r->request_id, sizeof(r->request_id), word + 3);
        } else if (strchr(word, '/')) {
            script_type(r, word);
        }
        r->truncated = r->truncated || str_eq(word, "cut");
        r->sent = r->sent || str_eq(word, "sent");
    }
}

static inline void script_give(void *ctx, const struct driver_action *a,
                               struct exchange_response *out)
{
    struct script *s = ctx;
    (void)a;
    if (s->left.n == 0 && s->again) {
        s->left = s->all;
    }
    struct fuzz_input answer =
        s->left.n == 0 && script_has(s, 'l') ? s->last : fuzz_until(&s->left, "\n@@");
    s->last = answer;
    char *head = fuzz_text(fuzz_until(&answer, "\n"));
    *out = (struct exchange_response){.body = "", .retry_after_ms = -1};
    script_head(head, out);
    free(head);
    out->sent = out->sent || out->status != 0;
    if (out->status == 0) {
        str_copy(out->failure, sizeof(out->failure), "connection reset");
    } else if (!out->truncated) {
        free(s->body);
        s->body = fuzz_text(answer);
        out->body = s->body;
        out->body_len = answer.n;
    }
}

static inline struct script script_of(const uint8_t *data, size_t size)
{
    struct script s = {.body = NULL};
    struct fuzz_input in = {(const char *)data, size};
    char *letters = fuzz_text(fuzz_until(&in, "\n@@"));
    str_copy(s.letters, sizeof(s.letters), letters);
    free(letters);
    s.all = s.left = in;
    s.again = script_has(&s, 'r') && in.n > 0;
    return s;
}

static inline void script_done(struct script *s)
{
    free(s->body);
    s->body = NULL;
}

static inline enum driver_goal script_goal(const struct script *s)
{
    return script_has(s, 'a') ? DRIVER_ABSENT : script_has(s, 'c') ? DRIVER_CLOSED : DRIVER_PRESENT;
}

/* The tests' headers fail through cmocka, which is told here that there is no test to go back to.
 */
static inline void script_abort_on_failure(void)
{
    HOLDS(setenv("CMOCKA_TEST_ABORT", "1", 1) == 0);
}

#endif
