/*
 * The subscription's user, as the platform's account sees it: made, found, opened, closed, deleted.
 * The recorded id proves whose it is, since tenants may change their own name and optins; without
 * one, the name with our marker and proof does.
 */
#include "langflow/native.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/str.h"

#define USERS         "/api/v1/users/"
#define STATUS_CLOSED "closed"

enum {
    PAGE_NEW = 200,  /* 1.13 refuses more */
    PAGE_OLD = 5000, /* before, nothing is ordered: the fewer pages the better */
    TAKEN_MAX = 3,   /* times that a name is taken, and nobody listed who has it */
    CLOSED_LOOKS_MAX = 4,
};

/* ---- what answers say ---- */

/* Where strangers may sign up they may do so under our name, with our marker. */
static bool is_ours(const struct driver_op *op, const cJSON *user)
{
    const char *proof = op->target->proof;
    return str_eq(json_str(user, "optins.waldur_subscription"), op->target->marker) &&
           (!proof || str_eq(json_str(user, "optins.waldur_proof"), proof)) &&
           !json_bool(user, "is_superuser", false);
}

static void take_name(struct driver_op *op, const cJSON *user)
{
    const char *name = json_str(user, "username");
    char *copy = name ? str_dup(name) : NULL;
    if (copy) {
        free(op->username);
        op->username = copy;
    }
}

static void take_user(struct driver_op *op, const cJSON *user)
{
    op->user = USER_THERE;
    op->active = json_bool(user, "is_active", false);
    op->closed = str_eq(json_str(user, "optins.waldur_status"), STATUS_CLOSED);
    take_name(op, user);
}

/* Found by name: its id is to be recorded, a key that was held belongs to another, and those that
 * it has were given to nobody. */
static void adopt(struct driver_op *op, struct langflow_answer *a, const cJSON *user)
{
    langflow_leave(op);
    langflow_uuid(user, "id", op->user_id);
    take_user(op, user);
    op->look = false;
    op->adopted = true;
    a->out->record = !op->target->observe;
    str_copy(a->out->external_id, sizeof(a->out->external_id), op->user_id);
}

static void forget_user(struct driver_op *op)
{
    langflow_leave(op);
    free(op->username);
    op->username = NULL;
    op->user_id[0] = '\0';
    op->user = USER_UNKNOWN;
    op->vanishing = false;
    op->unlisted = false;
    op->shut = false;
    op->created = false;
    op->adopted = false;
    op->look = true;
    op->skip = 0;
    op->pages = 0;
}

/* Accepted deletes take a while: 1.13 erases in the background, 1.8 answers before it commits. */
static void still_there(struct driver_op *op)
{
    static const int64_t waits_ms[] = {250, 500, 1000, 2000, 4000, 4000};
    op->user = USER_UNKNOWN;
    if (op->polls < (int)ARRAY_LEN(waits_ms)) {
        op->wait_ms = waits_ms[op->polls++];
    } else if (op->deletes < 2) {
        op->vanishing = false; /* success was said, and the commit failed: again */
        op->user = USER_THERE;
        op->polls = (int)ARRAY_LEN(waits_ms) - 2;
    } else {
        langflow_fail(op, ERR_UNAVAILABLE,
                      "the server accepted to delete user %s, and still lists it; see its log",
                      op->user_id);
    }
}

/* A look showed the user whose id is in hand. */
static void seen_by_id(struct driver_op *op, const cJSON *user)
{
    if (op->vanishing) {
        take_name(op, user);
        still_there(op);
        return;
    }
    take_user(op, user);
    if (op->shut && (op->active || !op->closed)) {
        if (op->polls++ >= CLOSED_LOOKS_MAX) {
            langflow_fail(op, ERR_UNKNOWN, "the server closed user %s, and still shows it open",
                          op->user_id);
            return;
        }
        op->user = USER_UNKNOWN;
        langflow_settle(op);
    }
}

/* ---- bodies ---- */

static void add_optins(const struct driver_op *op, struct buf *b, bool closed)
{
    buf_adds(b, "\"optins\":{\"waldur_subscription\":");
    buf_add_json(b, op->target->marker);
    if (op->target->proof) {
        buf_adds(b, ",\"waldur_proof\":");
        buf_add_json(b, op->target->proof);
    }
    if (closed) {
        buf_adds(b, ",\"waldur_status\":\"" STATUS_CLOSED "\"");
    }
    buf_addc(b, '}');
}

static void add_password(struct driver_op *op, struct buf *b)
{
    if (!op->target->password) {
        langflow_fail(op, ERR_INTERNAL, "no password was given for the workspace's user");
        return;
    }
    buf_adds(b, ",\"password\":");
    buf_add_json(b, op->target->password);
    buf_addc(b, ',');
}

/* ---- making ---- */

static void build_create(struct driver_op *op, struct exchange_request *r)
{
    langflow_url(op, r, USERS, NULL, NULL);
    langflow_json(r);
    buf_adds(&r->body, "{\"username\":");
    buf_add_json(&r->body, op->target->name);
    add_password(op, &r->body);
    add_optins(op, &r->body, false);
    buf_addc(&r->body, '}');
}

static void created(struct driver_op *op, struct langflow_answer *a, const cJSON *user)
{
    langflow_leave(op);
    take_user(op, user);
    op->created = true;
    op->opened = op->active;
    /* It is new: nothing in it, and nothing to be found by listing. */
    op->keys_listed = true;
    op->flow = FLOW_ABSENT;
    a->out->record = true;
    str_copy(a->out->external_id, sizeof(a->out->external_id), op->user_id);
}

static bool feed_create(struct driver_op *op, struct langflow_answer *a)
{
    if (a->verdict == VERDICT_REFUSED && a->r->status == 400) {
        op->look = true; /* taken: by an earlier attempt of ours or by a stranger */
        op->user = USER_UNKNOWN;
        op->taken++;
        return true;
    }
    cJSON *user = langflow_tree(a);
    char id[UUID_TEXT];
    bool fine = user && langflow_uuid(user, "id", id) &&
                str_eq(json_str(user, "username"), op->target->name);
    if (fine) {
        str_copy(op->user_id, sizeof(op->user_id), id);
        created(op, a, user);
    }
    cJSON_Delete(user);
    return fine;
}

static void doubt_create(struct driver_op *op)
{
    op->look = true;
    op->user = USER_UNKNOWN;
}

const struct langflow_step langflow_user_create = {.what = "making the workspace's user",
                                                   .effect = "workspace.create",
                                                   .method = METHOD_POST,
                                                   .as = AS_PLATFORM,
                                                   .build = build_create,
                                                   .feed = feed_create,
                                                   .doubt = doubt_create};

/* ---- opening ---- */

/* Nobody's password is known but that of this operation: a superuser may set another's. */
static void build_open(struct driver_op *op, struct exchange_request *r)
{
    langflow_url(op, r, USERS, op->user_id, NULL);
    langflow_json(r);
    buf_adds(&r->body, "{\"is_active\":true");
    if (!op->created || op->logins > 0) {
        add_password(op, &r->body);
        add_optins(op, &r->body, false);
    }
    buf_addc(&r->body, '}');
}

static bool feed_open(struct driver_op *op, struct langflow_answer *a)
{
    char id[UUID_TEXT];
    if (a->verdict == VERDICT_GONE) {
        forget_user(op);
        return true;
    }
    cJSON *user = langflow_tree(a);
    bool fine = user && langflow_uuid(user, "id", id) && str_eq(id, op->user_id) &&
                json_bool(user, "is_active", false) && json_str(user, "username");
    if (fine) {
        take_user(op, user);
        op->opened = true;
        op->unlisted = false;
        str_copy(a->out->external_id, sizeof(a->out->external_id), op->user_id);
    }
    cJSON_Delete(user);
    return fine;
}

const struct langflow_step langflow_user_open = {.what = "opening the workspace's user",
                                                 .effect = "workspace.open",
                                                 .method = METHOD_PATCH,
                                                 .as = AS_PLATFORM,
                                                 .build = build_open,
                                                 .feed = feed_open};

/* ---- looking ---- */

/* Such a server is of another version than was read: before or after an upgrade. */
static bool unlike_its_version(struct driver_op *op, const struct langflow_answer *a)
{
    bool unlike = a->r->status == 405 || a->r->status == 422;
    if (!unlike || op->reread) {
        return false;
    }
    op->reread = true;
    op->site->base.known = false;
    return true;
}

static void build_get(struct driver_op *op, struct exchange_request *r)
{
    langflow_url(op, r, USERS, op->user_id, NULL);
}

static bool feed_get(struct driver_op *op, struct langflow_answer *a)
{
    char id[UUID_TEXT];
    if (a->verdict == VERDICT_GONE) {
        forget_user(op);
        return true;
    }
    if (a->verdict == VERDICT_ODD || a->r->status == 405) {
        op->not_by_id = true; /* a page in the place of a 404 says nothing; the list does */
        return true;
    }
    cJSON *user = langflow_tree(a);
    bool fine = user && langflow_uuid(user, "id", id) && str_eq(id, op->user_id);
    if (fine) {
        seen_by_id(op, user);
    }
    cJSON_Delete(user);
    return fine;
}

const struct langflow_step langflow_user_get = {.what = "looking for the workspace's user",
                                                .method = METHOD_GET,
                                                .as = AS_PLATFORM,
                                                .build = build_get,
                                                .feed = feed_get};

/* What of a name can be searched for: commas split query values, and LIKE has signs of its own. */
static void add_searchable(struct buf *url, const char *name)
{
    char part[LANGFLOW_SEARCH_MAX];
    size_t n = strcspn(name, ",\\%_");
    n = str_utf8_cut(name, n, sizeof(part) - 1);
    memcpy(part, name, n);
    part[n] = '\0';
    buf_add_url(url, part);
}

static void build_list(struct driver_op *op, struct exchange_request *r)
{
    char rest[1024];
    struct buf b;
    bool by_id = op->user_id[0] != '\0';
    const char *name = by_id && op->username ? op->username : op->target->name;
    if (op->limit == 0) {
        op->limit = langflow_since(op, 13) ? PAGE_NEW : PAGE_OLD;
    }
    buf_init(&b, sizeof(rest) - 1);
    buf_addf(&b, "?limit=%" PRId64, op->limit);
    if (langflow_since(op, 13) && !by_id && op->taken == 0) {
        buf_adds(&b, "&username=");
        buf_add_url(&b, name);
    } else if (langflow_since(op, 10) && !op->wide) {
        buf_adds(&b, "&search=");
        add_searchable(&b, name);
    }
    if (op->skip > 0) {
        buf_addf(&b, "&skip=%" PRId64, op->skip);
    }
    if (!b.failed) {
        langflow_url(op, r, USERS, NULL, buf_str(&b));
    }
    buf_done(&b);
}

struct sighting {
    const cJSON *by_id, *ours, *foreign;
    size_t n;
};

static struct sighting sift(const struct driver_op *op, const cJSON *users)
{
    struct sighting s = {0};
    const cJSON *user = NULL;
    cJSON_ArrayForEach(user, users)
    {
        char id[UUID_TEXT];
        const char *name = json_str(user, "username");
        s.n++;
        if (!name || !langflow_uuid(user, "id", id)) {
            continue;
        }
        if (str_eq(id, op->user_id)) {
            s.by_id = user;
        } else if (str_eq(name, op->target->name)) {
            bool ours = is_ours(op, user);
            s.ours = ours ? user : s.ours;
            s.foreign = ours ? s.foreign : user;
        } else if (op->taken > 0 && strcasecmp(name, op->target->name) == 0) {
            s.foreign = user; /* 1.13 takes names that differ in case for one */
        }
    }
    return s;
}

static void not_listed(struct driver_op *op)
{
    bool by_id = op->user_id[0] != '\0';
    bool pages = op->pages > 0 && !langflow_since(op, 13);
    op->skip = 0;
    op->pages = 0;
    if (pages && op->empty_looks++ == 0) {
        langflow_settle(op); /* pages of a list without order may miss one */
    } else if (by_id && (!op->username || op->vanishing) && !op->wide && langflow_since(op, 10)) {
        op->wide = true; /* somebody may have renamed it */
    } else if (by_id && op->vanishing) {
        forget_user(op);
    } else if (by_id && op->target->observe) {
        forget_user(op);
    } else if (by_id) {
        op->unlisted = true;
    } else {
        op->user = USER_ABSENT;
        op->look = false;
    }
    op->wide = op->wide && op->user_id[0] != '\0';
}

static void seen_foreign(struct driver_op *op, const cJSON *user)
{
    op->user = USER_FOREIGN;
    if (op->goal == DRIVER_PRESENT && !op->target->observe) {
        char id[UUID_TEXT] = "?";
        langflow_uuid(user, "id", id);
        langflow_fail(
            op, ERR_CONFLICT,
            "a user \"%s\" exists in Langflow (id %s) without this subscription's marker and "
            "proof; rename or remove it there, then replay",
            op->target->name, id);
    }
}

static void look_over(struct driver_op *op, struct langflow_answer *a, const cJSON *list,
                      const cJSON *users)
{
    int64_t total = 0;
    bool by_id = op->user_id[0] != '\0';
    struct sighting s = sift(op, users);
    bool more = json_i64(list, "total_count", &total) && s.n > 0 &&
                op->skip + (int64_t)s.n < total && op->pages < LANGFLOW_PAGES_MAX;
    if (s.by_id) {
        seen_by_id(op, s.by_id);
    } else if (!by_id && s.ours) {
        adopt(op, a, s.ours);
    } else if (!by_id && s.foreign) {
        seen_foreign(op, s.foreign);
    } else if (more) {
        op->skip += (int64_t)s.n;
        op->pages++;
        return;
    } else {
        not_listed(op);
        return;
    }
    op->skip = 0;
    op->pages = 0;
}

static bool feed_list(struct driver_op *op, struct langflow_answer *a)
{
    if (a->verdict == VERDICT_ODD && a->r->truncated && op->limit > 1) {
        op->limit = op->limit / 8 > 0 ? op->limit / 8 : 1;
        return true;
    }
    if (unlike_its_version(op, a)) {
        op->limit = 0;
        return true;
    }
    cJSON *list = langflow_tree(a);
    const cJSON *users = json_get(list, "users");
    bool fine = cJSON_IsArray(users);
    if (fine) {
        look_over(op, a, list, users);
    }
    cJSON_Delete(list);
    if (fine && op->user == USER_ABSENT && op->taken >= TAKEN_MAX) {
        langflow_fail(op, ERR_CONFLICT,
                      "Langflow says that the name \"%s\" is taken, and lists no such user; remove "
                      "what holds it there, then replay",
                      op->target->name);
    } else if (fine && op->user == USER_ABSENT && op->taken > 0) {
        langflow_settle(op);
    }
    return fine;
}

const struct langflow_step langflow_user_list = {.what = "looking for the workspace's user",
                                                 .method = METHOD_GET,
                                                 .as = AS_PLATFORM,
                                                 .build = build_list,
                                                 .feed = feed_list};

/* ---- closing ---- */

static void build_close(struct driver_op *op, struct exchange_request *r)
{
    langflow_url(op, r, USERS, op->user_id, NULL);
    langflow_json(r);
    buf_adds(&r->body, "{\"is_active\":false,");
    add_optins(op, &r->body, true);
    buf_addc(&r->body, '}');
}

static bool feed_close(struct driver_op *op, struct langflow_answer *a)
{
    char id[UUID_TEXT];
    if (a->verdict == VERDICT_GONE) {
        forget_user(op);
        return true;
    }
    cJSON *user = langflow_tree(a);
    bool fine = user && langflow_uuid(user, "id", id) && str_eq(id, op->user_id);
    if (fine) {
        take_user(op, user);
        fine = !op->active && op->closed;
    }
    if (fine) {
        langflow_forget_entry(op);
        op->user = USER_UNKNOWN; /* until a look says the same */
        op->shut = true;
        op->polls = 0;
        str_copy(a->out->external_id, sizeof(a->out->external_id), op->user_id);
    }
    cJSON_Delete(user);
    return fine;
}

const struct langflow_step langflow_user_close = {.what = "closing the workspace's user",
                                                  .effect = "workspace.close",
                                                  .method = METHOD_PATCH,
                                                  .as = AS_PLATFORM,
                                                  .build = build_close,
                                                  .feed = feed_close};

/* ---- deleting ---- */

static void build_delete(struct driver_op *op, struct exchange_request *r)
{
    langflow_url(op, r, USERS, op->user_id, NULL);
    op->deletes++;
}

static void vanish(struct driver_op *op)
{
    op->vanishing = true;
    op->user = USER_UNKNOWN;
    op->polls = op->deletes > 1 ? op->polls : 0;
}

static bool feed_delete(struct driver_op *op, struct langflow_answer *a)
{
    if (a->verdict != VERDICT_GOOD && a->verdict != VERDICT_GONE) {
        return false;
    }
    /* Accepted is not done: until it is seen to be gone, this may still reach what is made of it.
     */
    bool accepted = a->verdict == VERDICT_GOOD && (a->r->status == 202 || !langflow_since(op, 10));
    a->out->effect = accepted ? EFFECT_UNKNOWN : EFFECT_DONE;
    str_copy(a->out->external_id, sizeof(a->out->external_id), op->user_id);
    langflow_forget_entry(op);
    vanish(op);
    return true;
}

const struct langflow_step langflow_user_delete = {.what = "deleting the workspace's user",
                                                   .effect = "workspace.delete",
                                                   .method = METHOD_DELETE,
                                                   .as = AS_PLATFORM,
                                                   .build = build_delete,
                                                   .feed = feed_delete,
                                                   .doubt = vanish};
