/*
 * The last requests, a ring. A request's number is its place in the order of arrival.
 */
#include "standin.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/str.h"

enum { ENTRIES_MAX = 131072 };

struct entry {
    char *head;
    const char *fault;
    int64_t began_ms, ended_ms; /* 0: still under way */
    int status;
    bool acted;
};

struct journal {
    struct entry ring[ENTRIES_MAX]; /* number n stands at n % ENTRIES_MAX */
    uint64_t first, next;           /* numbers kept: first <= n < next */
    uint64_t dropped;
};

struct journal *journal_new(void)
{
    struct journal *j = calloc(1, sizeof(*j));
    if (j)
        j->first = j->next = 1;
    return j;
}

void journal_clear(struct journal *j)
{
    for (; j->first < j->next; j->first++) {
        struct entry *e = &j->ring[j->first % ENTRIES_MAX];
        free(e->head);
        *e = (struct entry){0};
    }
    j->dropped = 0;
}

void journal_free(struct journal *j)
{
    if (!j)
        return;
    journal_clear(j);
    free(j);
}

uint64_t journal_begin(struct journal *j, const char *head)
{
    uint64_t n = j->next++;
    struct entry *e = &j->ring[n % ENTRIES_MAX];
    if (n - j->first >= ENTRIES_MAX) {
        free(e->head);
        j->first++;
        j->dropped++;
    }
    *e = (struct entry){.head = str_dup(head), .began_ms = clock_mono_ms()};
    return n;
}

void journal_end(struct journal *j, uint64_t n, int status, const char *fault, bool acted)
{
    if (n < j->first || n >= j->next)
        return;
    struct entry *e = &j->ring[n % ENTRIES_MAX];
    e->status = status;
    e->fault = fault;
    e->acted = acted;
    e->ended_ms = clock_mono_ms();
}

static void add_entry(struct buf *b, uint64_t n, const struct entry *e)
{
    buf_addf(b,
             "{\"n\":%llu,%s,\"status\":%d,\"acted\":%s,\"at_ms\":%lld,\"took_ms\":%lld,\"fault\":",
             (unsigned long long)n, e->head ? e->head : "\"lost\":true", e->status,
             e->acted ? "true" : "false", (long long)e->began_ms,
             (long long)(e->ended_ms ? e->ended_ms - e->began_ms : -1));
    buf_add_json(b, e->fault);
    buf_addc(b, '}');
}

void journal_list(const struct journal *j, uint64_t since, size_t limit, struct reply *out)
{
    struct buf b;
    buf_init(&b, STANDIN_ANSWER_MAX);
    uint64_t n = since > j->first ? since : j->first;
    buf_adds(&b, "{\"entries\":[");
    for (size_t i = 0; i < limit && n < j->next; i++, n++) {
        if (i)
            buf_addc(&b, ',');
        add_entry(&b, n, &j->ring[n % ENTRIES_MAX]);
    }
    buf_addf(&b, "],\"next\":%llu,\"dropped\":%llu}", (unsigned long long)n,
             (unsigned long long)j->dropped);
    if (b.failed) {
        reply_detail(out, 500, "the log is too long for one answer: use ?limit=");
        buf_done(&b);
        return;
    }
    reply_done(out);
    out->len = b.len;
    out->body = buf_steal(&b);
    out->status = 200;
}
