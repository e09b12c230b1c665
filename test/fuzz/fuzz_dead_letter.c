/*
 * The headers of a dead letter out of the database: any text there is refused in words, or read,
 * and then reads the same again.
 */
#include "base/str.h"
#include "fuzz.h"
#include "message.h"

static struct message_headers first, second; /* large */

static struct message *message_of(const struct message_headers *h)
{
    const struct kafka_message m = {
        .topic = "t", .timestamp_ms = -1, .headers = h->list, .n_headers = h->n};
    struct message *copy = message_copy(&m);
    HOLDS(copy);
    return copy;
}

static void check_again(const struct message_headers *h)
{
    struct err err;
    struct buf b;
    size_t n = 0;
    struct message *m = message_of(h);
    buf_init(&b, MESSAGE_HEADERS_JSON_MAX);
    HOLDS(message_headers_json(m, &b) == 0);
    HOLDS(message_headers_read(buf_str(&b), &second, &err) == 0);
    for (size_t i = 0; i < h->n; i++) {
        const struct kafka_header *a = &h->list[i], *b_ = &second.list[n];
        if (!message_is_error_header(a->name)) {
            HOLDS(n < second.n && str_eq(a->name, b_->name) && a->len == b_->len);
            HOLDS(a->len == 0 || memcmp(a->value, b_->value, a->len) == 0);
            n++;
        }
    }
    HOLDS(n == second.n);
    HOLDS(message_replays(m) >= 0);
    message_headers_done(&second);
    buf_done(&b);
    free(m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct err err;
    char *text = fuzz_text((struct fuzz_input){(const char *)data, size});
    if (message_headers_read(text, &first, &err) == 0) {
        HOLDS(first.n <= MESSAGE_HEADERS_MAX);
        check_again(&first);
        message_headers_done(&first);
    } else {
        HOLDS(err.class == ERR_INVALID && err.msg[0]);
    }
    free(text);
    return 0;
}
