#include "langflow.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/str.h"

static size_t bucket(const char *s)
{
    uint64_t h = 14695981039346656037ULL; /* FNV-1a, case folded: names are looked up either way */
    for (; *s; s++)
        h = (h ^ (unsigned char)(*s >= 'A' && *s <= 'Z' ? *s | 32 : *s)) * 1099511628211ULL;
    return (size_t)(h % LF_BUCKETS);
}

bool lf_seen(const struct lf_store *s, const struct lf_record *r)
{
    return r->from_ms <= s->now_ms;
}

/* ---- chains ---- */

static void link_sibling(struct lf_store *s, struct lf_record *r)
{
    struct lf_record **first = r->owner ? &r->owner->first[r->kind] : &s->first[r->kind];
    struct lf_record **last = r->owner ? &r->owner->last[r->kind] : &s->last[r->kind];
    r->prev = *last;
    if (*last)
        (*last)->next = r;
    else
        *first = r;
    *last = r;
}

static void unlink_sibling(struct lf_store *s, struct lf_record *r)
{
    struct lf_record **first = r->owner ? &r->owner->first[r->kind] : &s->first[r->kind];
    struct lf_record **last = r->owner ? &r->owner->last[r->kind] : &s->last[r->kind];
    if (r->prev)
        r->prev->next = r->next;
    else
        *first = r->next;
    if (r->next)
        r->next->prev = r->prev;
    else
        *last = r->prev;
}

static void unlink_alias(struct lf_store *s, struct lf_record *r)
{
    if (!r->alias)
        return;
    struct lf_record **at = &s->by_alias[bucket(r->alias)];
    while (*at != r)
        at = &(*at)->next_alias;
    *at = r->next_alias;
    free(r->alias);
    r->alias = NULL;
}

bool lf_alias(struct lf_store *s, struct lf_record *r, const char *alias)
{
    char *copy = str_dup(alias);
    if (!copy)
        return false;
    unlink_alias(s, r);
    struct lf_record **at = &s->by_alias[bucket(copy)];
    while (*at) /* in order of arrival: messages are listed through it */
        at = &(*at)->next_alias;
    r->alias = copy;
    r->next_alias = NULL;
    *at = r;
    return true;
}

static void unlink_all(struct lf_store *s, struct lf_record *r)
{
    struct lf_record **at = &s->by_id[bucket(r->id)];
    while (*at != r)
        at = &(*at)->next_id;
    *at = r->next_id;
    for (at = &s->dying; *at; at = &(*at)->next_dying) {
        if (*at == r) {
            *at = r->next_dying;
            break;
        }
    }
    unlink_alias(s, r);
    unlink_sibling(s, r);
}

/* ---- coming and going ---- */

struct lf_record *lf_add(struct lf_store *s, enum lf_kind kind, struct lf_record *owner,
                         const char *id, const char *alias, cJSON *json)
{
    struct lf_record *r = calloc(1, sizeof(*r));
    if (!r) {
        cJSON_Delete(json);
        return NULL;
    }
    r->kind = kind;
    r->owner = owner;
    r->json = json;
    r->seq = ++s->seq;
    bool at_once = kind == LF_USER || kind == LF_TOKEN || kind == LF_FILE;
    r->from_ms = s->now_ms + (at_once ? 0 : s->settings.commit_ms);
    if (id)
        str_copy(r->id, sizeof(r->id), id);
    else
        uuid_make(r->id);
    lf_set(json, "id", cJSON_CreateString(r->id));
    if (alias && !lf_alias(s, r, alias)) {
        cJSON_Delete(json);
        free(r);
        return NULL;
    }
    struct lf_record **at = &s->by_id[bucket(r->id)];
    r->next_id = *at;
    *at = r;
    link_sibling(s, r);
    s->created += kind == LF_USER;
    return r;
}

static void erase_row(struct lf_store *s, struct lf_record *r)
{
    s->deleted += r->kind == LF_USER;
    unlink_all(s, r);
    cJSON_Delete(r->json);
    free(r->secret);
    free(r->old_secret);
    free(r);
}

static void erase(struct lf_store *s, struct lf_record *r);

static void erase_messages(struct lf_store *s, const char *flow_id)
{
    for (struct lf_record *m = lf_by_alias(s, LF_MESSAGE, flow_id, NULL), *next; m; m = next) {
        next = lf_by_alias(s, LF_MESSAGE, flow_id, m);
        erase(s, m);
    }
}

static void erase_flows_of(struct lf_store *s, struct lf_record *project)
{
    for (struct lf_record *f = project->owner->first[LF_FLOW], *next; f; f = next) {
        const cJSON *folder = cJSON_GetObjectItemCaseSensitive(f->json, "folder_id");
        next = f->next;
        if (str_eq(cJSON_GetStringValue(folder), project->id))
            erase(s, f);
    }
}

static void erase_owned(struct lf_store *s, struct lf_record *user)
{
    if (s->minor >= 13)
        lf_files_erase(s, user->id);
    /* From the last kind on: a project would take its flows, messages and all. */
    for (int kind = LF_KINDS - 1; kind >= 0; kind--) {
        for (struct lf_record *r = user->first[kind], *next; r; r = next) {
            next = r->next;
            /* Before 1.13 a user's flows go without their messages. */
            if (kind == LF_FLOW && s->minor < 13)
                erase_row(s, r);
            else
                erase(s, r);
        }
    }
}

static void erase(struct lf_store *s, struct lf_record *r)
{
    if (r->kind == LF_FLOW)
        erase_messages(s, r->id);
    else if (r->kind == LF_PROJECT)
        erase_flows_of(s, r);
    else if (r->kind == LF_USER)
        erase_owned(s, r);
    erase_row(s, r);
}

void lf_remove(struct lf_store *s, struct lf_record *r, int64_t ms)
{
    int64_t commit_ms = r->kind == LF_FILE ? 0 : s->settings.commit_ms;
    int64_t wait = commit_ms > ms ? commit_ms : ms;
    if (wait <= 0) {
        erase(s, r);
    } else if (!r->until_ms) {
        r->until_ms = s->now_ms + wait;
        r->next_dying = s->dying;
        s->dying = r;
    }
}

static struct lf_record *take_due(struct lf_store *s)
{
    struct lf_record **at = &s->dying, *r;
    while (*at && (*at)->until_ms > s->now_ms)
        at = &(*at)->next_dying;
    r = *at;
    if (r)
        *at = r->next_dying;
    return r;
}

void lf_settle(struct lf_store *s)
{
    struct lf_record *r;
    s->now_ms = clock_mono_ms();
    while ((r = take_due(s)))
        erase(s, r);
}

void lf_clear(struct lf_store *s)
{
    for (int kind = 0; kind < LF_KINDS; kind++) {
        for (struct lf_record *r = s->first[kind], *next; r; r = next) {
            next = r->next;
            erase(s, r);
        }
    }
}

/* ---- finding ---- */

struct lf_record *lf_find(const struct lf_store *s, enum lf_kind kind, const char *id)
{
    struct lf_record *r = s->by_id[bucket(id)];
    while (r && !(r->kind == kind && str_eq(r->id, id) && lf_seen(s, r)))
        r = r->next_id;
    return r;
}

bool lf_taken(const struct lf_store *s, enum lf_kind kind, const char *id)
{
    const struct lf_record *r = s->by_id[bucket(id)];
    while (r && !(r->kind == kind && str_eq(r->id, id)))
        r = r->next_id;
    return r != NULL;
}

struct lf_record *lf_own(const struct lf_store *s, enum lf_kind kind, const struct lf_record *user,
                         const char *id)
{
    struct lf_record *r = lf_find(s, kind, id);
    return r && r->owner == user ? r : NULL;
}

static struct lf_record *skip_unseen(const struct lf_store *s, struct lf_record *r)
{
    while (r && !lf_seen(s, r))
        r = r->next;
    return r;
}

struct lf_record *lf_first(const struct lf_store *s, const struct lf_record *owner,
                           enum lf_kind kind)
{
    return skip_unseen(s, owner ? owner->first[kind] : s->first[kind]);
}

struct lf_record *lf_next(const struct lf_store *s, const struct lf_record *r)
{
    return skip_unseen(s, r->next);
}

struct lf_record *lf_by_alias(const struct lf_store *s, enum lf_kind kind, const char *alias,
                              const struct lf_record *after)
{
    struct lf_record *r = after ? after->next_alias : s->by_alias[bucket(alias)];
    bool fold = kind == LF_USER && s->minor >= 13;
    while (r && !(r->kind == kind &&
                  (fold ? strcasecmp(r->alias, alias) == 0 : str_eq(r->alias, alias))))
        r = r->next_alias;
    return r;
}

/* ---- trees ---- */

void lf_set(cJSON *object, const char *name, cJSON *value)
{
    if (cJSON_GetObjectItemCaseSensitive(object, name))
        cJSON_ReplaceItemInObjectCaseSensitive(object, name, value);
    else
        cJSON_AddItemToObject(object, name, value);
}

void lf_take(cJSON *to, const cJSON *from, const char *const *names)
{
    for (; *names; names++) {
        const cJSON *v = cJSON_GetObjectItemCaseSensitive(from, *names);
        if (v && !cJSON_IsNull(v))
            lf_set(to, *names, cJSON_Duplicate(v, true));
    }
}
