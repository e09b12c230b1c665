/*
 * A growing byte buffer with a mandatory upper bound. The content is always
 * followed by a NUL that len does not count. Once an add fails (bound or
 * memory) the buffer stays failed and empty: check once, at the end.
 */
#ifndef BASE_BUF_H
#define BASE_BUF_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buf {
    char *data; /* NULL until something is added */
    size_t len;
    size_t cap;
    size_t max; /* len may never exceed this */
    bool failed;
    bool full; /* failed, and of its bound: more memory would not help */
};

/* Cannot fail; allocates nothing. */
void buf_init(struct buf *b, size_t max);
/* Frees; the buffer may be used again as after buf_init. */
void buf_done(struct buf *b);
/* Empties, keeps the memory, clears `failed` and `full`. */
void buf_reset(struct buf *b);

/* Each returns 0, or -1 when the bound or memory ends. */
int buf_add(struct buf *b, const void *p, size_t n);
int buf_adds(struct buf *b, const char *s);
int buf_addc(struct buf *b, char c);
/* In decimal; without printf, as claims and documents are full of numbers. */
int buf_add_i64(struct buf *b, int64_t n);
int buf_addf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
int buf_vaddf(struct buf *b, const char *fmt, va_list ap) __attribute__((format(printf, 2, 0)));
/* s as a JSON string with its quotes; invalid UTF-8 and NUL become U+FFFD. NULL is `null`. */
int buf_add_json(struct buf *b, const char *s);
int buf_add_jsonn(struct buf *b, const char *s, size_t n);
/* s percent-encoded for one URL path segment or query value (RFC 3986 unreserved stay). */
int buf_add_url(struct buf *b, const char *s);

/* The content as a C string, "" while empty. Owned by the buffer. */
const char *buf_str(const struct buf *b);
/* The content handed over to the caller (free()); NULL when failed. Leaves the buffer empty. */
char *buf_steal(struct buf *b);

#endif
