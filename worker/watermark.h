/*
 * How far each partition is finished. Messages are taken in the order of their offsets and finish
 * in any order; the offset to store is one beyond the last message before which nothing is
 * unfinished. Pure. A partition that comes back starts anew: what was taken of it before counts no
 * more.
 */
#ifndef WORKER_WATERMARK_H
#define WORKER_WATERMARK_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum { WATERMARK_PARTITIONS_MAX = 100000 };

struct watermark;

struct watermark_ticket {
    int32_t partition;
    uint32_t generation;
    int64_t offset;
};

enum watermark_taken {
    WATERMARK_NEW,
    WATERMARK_KNOWN,   /* delivered again while it is still in the window: nothing to do */
    WATERMARK_FOREIGN, /* of a partition that is not ours */
    WATERMARK_FULL     /* the window's bound or memory ended */
};

/* window_max: messages of one partition between the stored offset and the last one taken. */
struct watermark *watermark_new(size_t window_max, struct err *err);
void watermark_free(struct watermark *w);

/* -1 and *err when memory ends or the number is beyond all bounds. */
int watermark_assign(struct watermark *w, int32_t partition, struct err *err);
void watermark_revoke(struct watermark *w, int32_t partition);

/*
 * An offset before the window, or in a gap of it, means that the broker's log began anew or was
 * rewound: the partition starts anew with it.
 */
enum watermark_taken watermark_take(struct watermark *w, int32_t partition, int64_t offset,
                                    struct watermark_ticket *out);

/* The offset to store now, or -1 when that has not moved (or the ticket is from before). */
int64_t watermark_finish(struct watermark *w, const struct watermark_ticket *ticket);

size_t watermark_width(const struct watermark *w, int32_t partition);
size_t watermark_widest(const struct watermark *w);

#endif
