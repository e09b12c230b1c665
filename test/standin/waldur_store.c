/*
 * Rows, found by their UUID; slugs as Waldur makes them.
 */
#include "waldur.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/str.h"
#include "base/uuid.h"

enum { SLUG_OF_2024 = 8, SLUG_OF_2026 = 10, SLUG_MAX_BYTES = 50 };

const char *const wd_types[] = {"Create", "Update", "Terminate", "Restore", NULL};
const char *const wd_order_states[] = {"pending-consumer",
                                       "pending-provider",
                                       "pending-project",
                                       "pending-start-date",
                                       "executing",
                                       "done",
                                       "erred",
                                       "canceled",
                                       "rejected",
                                       NULL};
const char *const wd_resource_states[] = {"Creating",    "OK",         "Erred", "Updating",
                                          "Terminating", "Terminated", NULL};
const char *const wd_key_states[] = {"Creating", "OK", "Updating", "Erred", NULL};

static size_t bucket(const char *s)
{
    uint64_t h = 14695981039346656037ULL; /* FNV-1a */
    for (; *s; s++)
        h = (h ^ (unsigned char)*s) * 1099511628211ULL;
    return (size_t)(h % WD_BUCKETS);
}

int64_t wd_now_us(struct wd_store *s)
{
    int64_t now = clock_wall_us();
    s->last_us = now > s->last_us ? now : s->last_us + 1;
    return s->last_us;
}

void wd_touch(struct wd_store *s, struct wd_record *r)
{
    r->modified_us = wd_now_us(s);
}

static bool taken(const struct wd_store *s, const char *id)
{
    bool found = false;
    for (int kind = 0; kind < WD_KINDS; kind++)
        found = found || wd_find(s, (enum wd_kind)kind, id);
    return found;
}

/* Of id, or a new one. */
static bool identify(const struct wd_store *s, const char *id, char out[WD_HEX])
{
    char uuid[UUID_TEXT];
    if (id)
        return wd_hex(id, out) && !taken(s, out);
    uuid_make(uuid);
    uuid_hex(uuid, out);
    return true;
}

struct wd_record *wd_add(struct wd_store *s, enum wd_kind kind, const char *id, cJSON *own)
{
    struct wd_record *r = own ? calloc(1, sizeof(*r)) : NULL;
    if (!r || !identify(s, id, r->id)) {
        free(r);
        cJSON_Delete(own);
        return NULL;
    }
    r->kind = kind;
    r->seq = ++s->seq;
    r->created_us = r->modified_us = wd_now_us(s);
    r->own = own;
    r->prev = s->last[kind];
    if (r->prev)
        r->prev->next = r;
    else
        s->first[kind] = r;
    s->last[kind] = r;
    s->count[kind]++;
    struct wd_record **at = &s->by_id[bucket(r->id)];
    r->next_id = *at;
    *at = r;
    return r;
}

static void record_free(struct wd_record *r)
{
    cJSON_Delete(r->own);
    free(r->text);
    free(r);
}

static void order_unlink(struct wd_record *o)
{
    struct wd_record *r = o->resource;
    if (!r)
        return;
    if (o->prev_order)
        o->prev_order->next_order = o->next_order;
    else
        r->first_order = o->next_order;
    if (o->next_order)
        o->next_order->prev_order = o->prev_order;
    else
        r->last_order = o->prev_order;
    r->open -= wd_is_open(o) ? 1 : 0;
}

static void key_unlink(struct wd_record *k)
{
    struct wd_record **at = &k->resource->first_key;
    while (*at != k)
        at = &(*at)->next_key;
    *at = k->next_key;
}

/* Out of what finds it; other rows may still point at it. */
static void take_out(struct wd_store *s, struct wd_record *r)
{
    struct wd_record **at = &s->by_id[bucket(r->id)];
    while (*at != r)
        at = &(*at)->next_id;
    *at = r->next_id;
    if (r->prev)
        r->prev->next = r->next;
    else
        s->first[r->kind] = r->next;
    if (r->next)
        r->next->prev = r->prev;
    else
        s->last[r->kind] = r->prev;
    s->count[r->kind]--;
    record_free(r);
}

void wd_remove(struct wd_store *s, struct wd_record *r)
{
    for (struct wd_record *o = r->first_order, *next; o; o = next) {
        next = o->next_order;
        take_out(s, o);
    }
    for (struct wd_record *k = r->first_key, *next; k; k = next) {
        next = k->next_key;
        take_out(s, k);
    }
    if (r->kind == WD_ORDER)
        order_unlink(r);
    if (r->kind == WD_KEY)
        key_unlink(r);
    take_out(s, r);
}

void wd_clear(struct wd_store *s)
{
    for (int kind = 0; kind < WD_KINDS; kind++) {
        for (struct wd_record *r = s->first[kind], *next; r; r = next) {
            next = r->next;
            record_free(r);
        }
        s->first[kind] = s->last[kind] = NULL;
    }
}

struct wd_record *wd_find(const struct wd_store *s, enum wd_kind kind, const char *id)
{
    char hex[WD_HEX];
    if (!id || !wd_hex(id, hex))
        return NULL;
    struct wd_record *r = s->by_id[bucket(hex)];
    while (r && !(r->kind == kind && str_eq(r->id, hex)))
        r = r->next_id;
    return r;
}

bool wd_hex(const char *text, char out[WD_HEX])
{
    char uuid[UUID_TEXT];
    size_t n = strlen(text);
    while (n && text[n - 1] == '/')
        n--;
    const char *from = text;
    for (size_t i = 0; i < n; i++) {
        if (text[i] == '/')
            from = text + i + 1;
    }
    if (!uuid_parse(from, (size_t)(text + n - from), uuid))
        return false;
    uuid_hex(uuid, out);
    return true;
}

void wd_order_link(struct wd_record *resource, struct wd_record *order)
{
    order->resource = resource;
    order->prev_order = resource->last_order;
    if (resource->last_order)
        resource->last_order->next_order = order;
    else
        resource->first_order = order;
    resource->last_order = order;
    resource->open += wd_is_open(order) ? 1 : 0;
}

void wd_key_link(struct wd_record *resource, struct wd_record *key)
{
    key->resource = resource;
    key->next_key = resource->first_key;
    resource->first_key = key;
}

/* ---- members ---- */

void wd_set(cJSON *object, const char *name, cJSON *value)
{
    if (cJSON_GetObjectItemCaseSensitive(object, name))
        cJSON_ReplaceItemInObjectCaseSensitive(object, name, value);
    else
        cJSON_AddItemToObject(object, name, value);
}

void wd_set_text(cJSON *object, const char *name, const char *text)
{
    wd_set(object, name, text ? cJSON_CreateString(text) : cJSON_CreateNull());
}

const char *wd_text(const struct wd_record *r, const char *name)
{
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(r->own, name));
    return text ? text : "";
}

void wd_count(cJSON *counts, const char *name)
{
    cJSON *n = cJSON_GetObjectItemCaseSensitive(counts, name);
    if (n)
        cJSON_SetNumberValue(n, n->valuedouble + 1);
    else
        cJSON_AddNumberToObject(counts, name, 1);
}

int wd_word(const char *const *words, const char *word)
{
    for (int i = 0; words[i]; i++) {
        if (str_eq(words[i], word))
            return i;
    }
    return -1;
}

/* ---- slugs ---- */

struct wd_slug {
    enum wd_kind kind;
    char base[SLUG_MAX_BYTES];
    int64_t n; /* made of it so far */
    struct wd_slug *next;
};

/* Lower case, letters, digits and underscores, runs of space and dashes as one dash; what is not
 * ASCII goes. */
static void slugify(const char *name, size_t max, char out[SLUG_MAX_BYTES])
{
    size_t n = 0;
    for (; *name && n < max; name++) {
        unsigned char c = (unsigned char)*name;
        if (c < 0x80 && (isalnum(c) || c == '_'))
            out[n++] = (char)tolower(c);
        else if ((isspace(c) || c == '-') && n && out[n - 1] != '-')
            out[n++] = '-';
    }
    while (n && out[n - 1] == '-')
        n--;
    out[n] = '\0';
}

static struct wd_slug *slug_of(struct wd_store *s, enum wd_kind kind, const char *base)
{
    struct wd_slug **at = &s->slugs[bucket(base)];
    for (struct wd_slug *one = *at; one; one = one->next) {
        if (one->kind == kind && str_eq(one->base, base))
            return one;
    }
    struct wd_slug *one = calloc(1, sizeof(*one));
    if (!one)
        return NULL;
    one->kind = kind;
    str_copy(one->base, sizeof(one->base), base);
    one->next = *at;
    *at = one;
    return one;
}

char *wd_slug(struct wd_store *s, enum wd_kind kind, const char *name)
{
    char base[SLUG_MAX_BYTES], made[2 * SLUG_MAX_BYTES];
    slugify(name, s->year == 24 ? SLUG_OF_2024 : SLUG_OF_2026, base);
    struct wd_slug *one = slug_of(s, kind, base);
    long long n = one ? (long long)++one->n : 1;
    if (s->year == 24)
        snprintf(made, sizeof(made), "%s-%lld", base, n);
    else if (n == 1)
        snprintf(made, sizeof(made), "%s", base);
    else
        snprintf(made, sizeof(made), "%s-%lld", base, n);
    return str_dup(made);
}

void wd_slugs_free(struct wd_store *s)
{
    for (size_t i = 0; i < WD_BUCKETS; i++) {
        for (struct wd_slug *one = s->slugs[i], *next; one; one = next) {
            next = one->next;
            free(one);
        }
        s->slugs[i] = NULL;
    }
}
