#include "fair.h"

#include <stdbool.h>

#include "base/str.h"

void fair_init(struct fair_queue *q)
{
    q->first = NULL;
    q->end = &q->first;
    q->n = 0;
}

static void append_turn(struct fair_queue *q, struct fair_item *first)
{
    first->next_turn = NULL;
    *q->end = first;
    q->end = &first->next_turn;
}

static void unlink_turn(struct fair_queue *q, struct fair_item **at)
{
    *at = (*at)->next_turn;
    if (!*at) {
        q->end = at;
    }
}

/* A first one's place in the round becomes another's. */
static void replace_turn(struct fair_queue *q, struct fair_item **at, struct fair_item *by)
{
    by->next_turn = (*at)->next_turn;
    *at = by;
    if (!by->next_turn) {
        q->end = &by->next_turn;
    }
}

static struct fair_item **find(struct fair_queue *q, const char *owner)
{
    struct fair_item **at = &q->first;
    while (*at && !str_eq((*at)->owner, owner)) {
        at = &(*at)->next_turn;
    }
    return at;
}

static void push_behind(struct fair_item *first, struct fair_item *item)
{
    struct fair_item *before = first->last->order <= item->order ? first->last : first;
    while (before->next && before->next->order <= item->order) {
        before = before->next;
    }
    item->next = before->next;
    before->next = item;
    first->last = item->next ? first->last : item;
}

void fair_push(struct fair_queue *q, struct fair_item *item, const char *owner, uint64_t order)
{
    struct fair_item **at = find(q, owner), *first = *at;
    *item = (struct fair_item){.owner = owner, .order = order};
    q->n++;
    if (!first) {
        item->last = item;
        append_turn(q, item);
    } else if (first->order <= order) {
        push_behind(first, item);
    } else {
        item->next = first;
        item->last = first->last;
        replace_turn(q, at, item);
    }
}

struct fair_item *fair_pop(struct fair_queue *q)
{
    struct fair_item *item = q->first;
    if (!item) {
        return NULL;
    }
    unlink_turn(q, &q->first);
    if (item->next) {
        item->next->last = item->last;
        append_turn(q, item->next);
    }
    item->next = NULL;
    q->n--;
    return item;
}

/* False: it is not behind this first one. */
static bool remove_behind(struct fair_item *first, struct fair_item *item)
{
    for (struct fair_item *before = first; before; before = before->next) {
        if (before->next == item) {
            before->next = item->next;
            first->last = first->last == item ? before : first->last;
            return true;
        }
    }
    return false;
}

void fair_remove(struct fair_queue *q, struct fair_item *item)
{
    struct fair_item **at = item->owner ? find(q, item->owner) : q->end;
    if (!*at) {
        return;
    }
    if (*at == item) {
        if (item->next) {
            item->next->last = item->last;
            replace_turn(q, at, item->next);
        } else {
            unlink_turn(q, at);
        }
        q->n--;
    } else if (remove_behind(*at, item)) {
        q->n--;
    }
    item->next = NULL;
}
