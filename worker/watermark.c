#include "watermark.h"

#include <stdbool.h>
#include <stdlib.h>

enum { FIRST_CAP = 64, KEPT_CAP = 4096 /* an emptied window keeps no more memory than this */ };

struct entry {
    int64_t offset;
    bool finished;
};

/* A ring of entries in rising order of offsets; the first is never finished. */
struct window {
    struct entry *entries;
    size_t cap, first, n;
    uint32_t generation;
    bool assigned;
};

struct watermark {
    size_t max;
    struct window *windows; /* by partition */
    size_t n;
};

static struct entry *entry_at(const struct window *p, size_t i)
{
    size_t at = p->first + i; /* both are below cap */
    return &p->entries[at < p->cap ? at : at - p->cap];
}

static void restart(struct window *p)
{
    p->generation++;
    p->first = p->n = 0;
    if (p->cap > KEPT_CAP) {
        free(p->entries);
        p->entries = NULL;
        p->cap = 0;
    }
}

static struct window *window_of(const struct watermark *w, int32_t partition)
{
    if (partition < 0 || (size_t)partition >= w->n || !w->windows[partition].assigned) {
        return NULL;
    }
    return &w->windows[partition];
}

/* The index of the first entry that is not below offset. */
static size_t lower_bound(const struct window *p, int64_t offset)
{
    size_t low = 0, high = p->n;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (entry_at(p, middle)->offset < offset) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static int grow(struct window *p, size_t max)
{
    if (p->n < p->cap) {
        return 0;
    }
    size_t cap = p->cap ? p->cap * 2 : FIRST_CAP;
    if (cap > max) {
        cap = max;
    }
    struct entry *entries = cap > p->n ? malloc(cap * sizeof(*entries)) : NULL;
    if (!entries) {
        return -1;
    }
    for (size_t i = 0; i < p->n; i++) {
        entries[i] = *entry_at(p, i);
    }
    free(p->entries);
    p->entries = entries;
    p->cap = cap;
    p->first = 0;
    return 0;
}

struct watermark *watermark_new(size_t window_max, struct err *err)
{
    struct watermark *w = calloc(1, sizeof(*w));
    if (!w) {
        err_nomem(err);
        return NULL;
    }
    w->max = window_max;
    return w;
}

void watermark_free(struct watermark *w)
{
    if (!w) {
        return;
    }
    for (size_t i = 0; i < w->n; i++) {
        free(w->windows[i].entries);
    }
    free(w->windows);
    free(w);
}

int watermark_assign(struct watermark *w, int32_t partition, struct err *err)
{
    if (partition < 0 || partition >= WATERMARK_PARTITIONS_MAX) {
        return err_set(err, ERR_INTERNAL, "partition %d: at most %d can be followed",
                       (int)partition, WATERMARK_PARTITIONS_MAX);
    }
    size_t wanted = (size_t)partition + 1;
    if (wanted > w->n) {
        struct window *grown = realloc(w->windows, wanted * sizeof(*grown));
        if (!grown) {
            return err_nomem(err);
        }
        for (size_t i = w->n; i < wanted; i++) {
            grown[i] = (struct window){0};
        }
        w->windows = grown;
        w->n = wanted;
    }
    restart(&w->windows[partition]);
    w->windows[partition].assigned = true;
    return 0;
}

void watermark_revoke(struct watermark *w, int32_t partition)
{
    struct window *p = window_of(w, partition);
    if (p) {
        restart(p);
        p->assigned = false;
    }
}

enum watermark_taken watermark_take(struct watermark *w, int32_t partition, int64_t offset,
                                    struct watermark_ticket *out)
{
    struct window *p = window_of(w, partition);
    if (!p) {
        return WATERMARK_FOREIGN;
    }
    size_t at = lower_bound(p, offset);
    if (at < p->n) {
        if (entry_at(p, at)->offset == offset) {
            return WATERMARK_KNOWN;
        }
        restart(p);
    }
    if (grow(p, w->max)) {
        return WATERMARK_FULL;
    }
    *entry_at(p, p->n) = (struct entry){.offset = offset};
    p->n++;
    *out = (struct watermark_ticket){
        .partition = partition, .generation = p->generation, .offset = offset};
    return WATERMARK_NEW;
}

int64_t watermark_finish(struct watermark *w, const struct watermark_ticket *ticket)
{
    struct window *p = window_of(w, ticket->partition);
    int64_t next = -1;
    if (!p || p->generation != ticket->generation) {
        return -1;
    }
    size_t at = lower_bound(p, ticket->offset);
    if (at == p->n || entry_at(p, at)->offset != ticket->offset) {
        return -1;
    }
    entry_at(p, at)->finished = true;
    while (p->n > 0 && entry_at(p, 0)->finished) {
        next = entry_at(p, 0)->offset + 1;
        p->first = p->first + 1 < p->cap ? p->first + 1 : 0;
        p->n--;
    }
    if (p->n == 0 && p->cap > KEPT_CAP) {
        free(p->entries);
        p->entries = NULL;
        p->cap = p->first = 0;
    }
    return next;
}

size_t watermark_width(const struct watermark *w, int32_t partition)
{
    const struct window *p = window_of(w, partition);
    return p ? p->n : 0;
}

size_t watermark_widest(const struct watermark *w)
{
    size_t widest = 0;
    for (size_t i = 0; i < w->n; i++) {
        if (w->windows[i].n > widest) {
            widest = w->windows[i].n;
        }
    }
    return widest;
}
