/*
 * A queue in which owners take turns: in order for each, and the next one's turn after every item.
 * Intrusive; nothing is allocated.
 */
#ifndef WORKER_FAIR_H
#define WORKER_FAIR_H

#include <stddef.h>
#include <stdint.h>

/* Zero-initialised, part of what waits. The owner's text must stay while it does. */
struct fair_item {
    const char *owner;
    uint64_t order;
    struct fair_item *next;      /* of the same owner */
    struct fair_item *last;      /* of an owner's first one: the end of its items */
    struct fair_item *next_turn; /* of an owner's first one: that of the owner whose turn is next */
};

struct fair_queue {
    struct fair_item *first; /* whose turn it is; NULL: empty */
    struct fair_item **end;
    size_t n;
};

void fair_init(struct fair_queue *q);
/* Behind those of its owner whose order is not higher: equal ones, as 0, keep that of coming. */
void fair_push(struct fair_queue *q, struct fair_item *item, const char *owner, uint64_t order);
/* NULL when it is empty. */
struct fair_item *fair_pop(struct fair_queue *q);
/* It need not be in the queue. */
void fair_remove(struct fair_queue *q, struct fair_item *item);

#endif
