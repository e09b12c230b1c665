#include "driver/facade.h"

#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/str.h"

/*
 * Every change leads back to a look, and only a look ends the operation: what an answer claimed is
 * never taken for what is there. A change whose outcome is open makes one empty look insufficient;
 * an open update makes one look at the object insufficient; and an object whose delete is open is
 * deleted before anything else: what is made then has another id, where a late delete finds
 * nothing.
 */
enum phase {
    LOOK_ID,   /* GET path/id */
    LOOK_NAME, /* GET path?name= */
    SETTLE,    /* nothing found, and an outcome is open: look again later */
    SETTLE_ID, /* it is there, and an update is open: look again later */
    CREATE,
    UPDATE,
    DELETE,
    DONE,
    FAILED,
};

struct driver_op {
    const struct facade_noun *noun;
    const struct driver_target *target;
    enum driver_goal goal;
    enum phase phase;
    int rounds;      /* requests so far, bounded */
    int empty_looks; /* that showed none of ours, in a row */
    bool uncertain;
    bool updating;           /* an earlier update may still land on what is there */
    bool created;            /* the id in hand came from our own create */
    bool doomed;             /* the object in hand goes whatever the goal: surplus, or misnamed */
    bool misnamed;           /* the server made it under another name */
    enum driver_sight sight; /* what an observation ended with */
    bool met;
    char id[EXTERNAL_ID_MAX + 1];
    cJSON *body; /* of the update to come; owned */
    struct err err;
};

/*
 * What can stand in a path as an object's id; NULL where there is none. Dots alone would be taken
 * for a step in the path, and the request would reach something else.
 */
static const char *usable_id(const cJSON *object)
{
    const char *id = json_str(object, "id");
    return id && id[0] != '\0' && strlen(id) <= EXTERNAL_ID_MAX && strspn(id, ".") < strlen(id)
               ? id
               : NULL;
}

static const struct json_limits answer_limits = {
    .size = 8 * 1024 * 1024, .depth = 64, .string = 4 * 1024 * 1024};

struct driver_op *facade_start(const struct facade_noun *noun, enum driver_goal goal,
                               const struct driver_target *target, struct err *err)
{
    struct driver_op *op = calloc(1, sizeof(*op));
    if (!op) {
        err_nomem(err);
        return NULL;
    }
    op->noun = noun;
    op->target = target;
    op->goal = goal;
    op->uncertain = target->uncertain;
    op->updating = target->updating && !target->observe;
    op->phase = LOOK_NAME;
    const char *id = target->external_id;
    if (id && id[0] != '\0' && strlen(id) <= EXTERNAL_ID_MAX) {
        str_copy(op->id, sizeof(op->id), id);
        op->phase = LOOK_ID;
    }
    return op;
}

void facade_free(struct driver_op *op)
{
    if (op) {
        cJSON_Delete(op->body);
        free(op);
    }
}

static void fail(struct driver_op *op, const struct err *e)
{
    op->phase = FAILED;
    op->err = *e;
}

static void fail_with(struct driver_op *op, enum err_class class, const char *what)
{
    op->phase = FAILED;
    err_set(&op->err, class, "%s", what);
}

/* ---- requests ---- */

static void set_body(struct exchange_request *r, const cJSON *json)
{
    char *text = json ? json_text(json) : NULL;
    if (!text) {
        r->body.failed = true;
        return;
    }
    r->content_type = "application/json";
    buf_adds(&r->body, text);
    free(text);
}

/* The whole URL, or one that failed to fit. id: path/id; name: path?name=. */
static bool set_url(struct exchange_request *r, const struct driver_op *op, const char *id,
                    const char *name)
{
    struct buf url;
    buf_init(&url, sizeof(r->url) - 1);
    buf_adds(&url, op->target->url);
    buf_adds(&url, op->noun->path);
    if (id) {
        buf_addc(&url, '/');
        buf_add_url(&url, id);
    }
    if (name) {
        buf_adds(&url, "?name=");
        buf_add_url(&url, name);
    }
    bool fits = !url.failed && str_copy(r->url, sizeof(r->url), buf_str(&url));
    buf_done(&url);
    return fits;
}

static void build(struct driver_op *op, struct driver_action *out)
{
    struct exchange_request *r = &out->request;
    bool by_name = op->phase == LOOK_NAME;
    bool by_id = op->phase != LOOK_NAME && op->phase != CREATE;

    r->method = METHOD_GET;
    r->auth_header = op->target->credential ? "Authorization" : NULL;
    r->auth_scheme = "Bearer ";
    r->credential = op->target->credential;
    r->timeout_ms = op->target->timeout_ms;
    if (op->phase == CREATE) {
        cJSON *json = op->noun->create_body(op->target);
        r->method = METHOD_POST;
        r->fresh_connection = true;
        out->effect = op->noun->effect_create;
        set_body(r, json);
        cJSON_Delete(json);
    } else if (op->phase == UPDATE) {
        r->method = METHOD_PATCH;
        out->effect = op->noun->effect_update;
        set_body(r, op->body);
    } else if (op->phase == DELETE) {
        r->method = METHOD_DELETE;
        out->effect = op->noun->effect_delete;
        str_copy(out->deletes, sizeof(out->deletes), op->id);
    }
    if (!set_url(r, op, by_id ? op->id : NULL, by_name ? op->target->name : NULL) ||
        r->body.failed) {
        fail_with(op, ERR_INTERNAL, "the request could not be built (memory, or a URL too long)");
    }
}

void facade_next(struct driver_op *op, struct driver_action *out)
{
    memset(out, 0, sizeof(*out));
    exchange_request_init(&out->request);
    err_clear(&out->err);
    if (op->phase == SETTLE || op->phase == SETTLE_ID) {
        op->phase = op->phase == SETTLE ? LOOK_NAME : LOOK_ID;
        out->turn = TURN_WAIT;
        out->wait_ms = op->target->settle_ms;
        return;
    }
    if (op->phase != DONE && op->phase != FAILED && op->rounds++ >= DRIVER_ROUNDS_MAX) {
        fail_with(op, ERR_UNKNOWN, "the server's answers contradict each other; gave up asking");
    }
    if (op->phase != DONE && op->phase != FAILED) {
        out->turn = TURN_REQUEST;
        build(op, out);
        if (op->phase != FAILED) {
            return;
        }
        exchange_request_done(&out->request);
    }
    if (op->phase == DONE) {
        out->turn = TURN_DONE;
        str_copy(out->external_id, sizeof(out->external_id), op->id);
        out->sight = op->sight;
        out->met = op->met;
        return;
    }
    out->turn = TURN_FAILED;
    out->effect = NULL;
    out->err = op->err;
}

/* ---- what was seen ---- */

static void take_id(struct driver_op *op, const cJSON *object)
{
    str_copy(op->id, sizeof(op->id), usable_id(object));
    op->created = false;
    op->doomed = false;
}

/* An observation ends with what it saw first. */
static void observed(struct driver_op *op, enum driver_sight sight, bool met)
{
    op->phase = DONE;
    op->sight = sight;
    op->met = met;
    if (sight != SIGHT_OURS) {
        op->id[0] = '\0';
    }
}

/* None of ours in sight: enough, unless a change of ours may still land. */
static bool settled(struct driver_op *op)
{
    if (op->uncertain && ++op->empty_looks < 2) {
        op->phase = SETTLE;
        return false;
    }
    return true;
}

static void seen_absent(struct driver_op *op)
{
    if (op->target->observe) {
        observed(op, SIGHT_ABSENT, op->goal != DRIVER_PRESENT);
        return;
    }
    if (!settled(op)) {
        return;
    }
    op->uncertain = false;
    op->empty_looks = 0;
    op->id[0] = '\0';
    op->phase = op->goal == DRIVER_PRESENT ? CREATE : DONE;
    if (op->phase == CREATE && op->misnamed) {
        op->phase = FAILED;
        err_set(&op->err, ERR_CONFLICT,
                "the server made \"%s\" under another name, and it was removed again; free that "
                "name there, then replay",
                op->target->name);
    }
}

/* Is the object in hand the one that an earlier delete may still reach? */
static bool under_deletion(const struct driver_op *op)
{
    return op->target->deleting && !op->target->observe && str_eq(op->id, op->target->deleting);
}

static void seen_ours(struct driver_op *op, const cJSON *object)
{
    op->empty_looks = 0;
    /* A server that renames instead of refusing has made what nobody asked for. One that was
     * recorded before stays ours under whatever name people gave it since. */
    if (op->created && !str_eq(json_str(object, "name"), op->target->name)) {
        op->misnamed = true;
        op->doomed = true;
    }
    if (op->goal == DRIVER_ABSENT && op->target->observe) {
        observed(op, SIGHT_OURS, false);
        return;
    }
    if (op->goal == DRIVER_ABSENT || op->doomed || under_deletion(op)) {
        op->phase = DELETE;
        return;
    }
    if (op->updating) {
        op->updating = false;
        op->phase = SETTLE_ID;
        return;
    }
    bool needed = false;
    cJSON_Delete(op->body);
    op->body = NULL;
    if (op->noun->effect_update) {
        op->body = op->noun->update_body(object, op->goal, op->target, &needed);
    }
    if (op->target->observe) {
        observed(op, SIGHT_OURS, !needed);
        return;
    }
    op->phase = needed ? UPDATE : DONE;
    if (needed && !op->body) {
        fail_with(op, ERR_INTERNAL, "out of memory");
    }
}

static void seen_foreign(struct driver_op *op, const cJSON *object)
{
    if (op->target->observe) {
        observed(op, SIGHT_FOREIGN, op->goal != DRIVER_PRESENT);
        return;
    }
    if (op->goal != DRIVER_PRESENT) {
        seen_absent(op); /* not ours: neither closed nor deleted */
        return;
    }
    if (!settled(op)) {
        return;
    }
    const char *id = json_str(object, "id");
    op->phase = FAILED;
    err_set(
        &op->err, ERR_CONFLICT,
        "\"%s\" exists upstream (id %.64s) without this subscription's marker; rename or remove "
        "it there, then replay",
        op->target->name, id ? id : "?");
}

/* Parses a 2xx body; NULL after failing the operation. */
static cJSON *parse(struct driver_op *op, const struct exchange_response *r, struct err *e)
{
    struct json_fault fault;
    cJSON *json = NULL;
    if (r->truncated || json_parse(r->body, r->body_len, &answer_limits, &json, &fault)) {
        err_set(e, ERR_UNKNOWN, "HTTP %d with a body that is not JSON", r->status);
        e->http_status = r->status;
        fail(op, e);
        return NULL;
    }
    return json;
}

static void unreadable(struct driver_op *op, struct err *e, const char *what)
{
    err_set(e, ERR_UNKNOWN, "%s", what);
    fail(op, e);
}

static void feed_look_id(struct driver_op *op, const struct exchange_response *r, struct err *e)
{
    if (e->class == ERR_GONE) {
        err_clear(e);
        op->phase = LOOK_NAME;
        return;
    }
    if (e->class != ERR_NONE) {
        fail(op, e);
        return;
    }
    cJSON *object = parse(op, r, e);
    if (!object) {
        return;
    }
    const char *id = json_str(object, "id");
    if (!id || !str_eq(id, op->id)) {
        unreadable(op, e, "the answer to a look-up by id is not that object");
    } else if (op->noun->ours(object, op->target)) {
        seen_ours(op, object);
    } else {
        /* The recorded id is somebody else's: only the name can tell what is ours. */
        op->phase = LOOK_NAME;
    }
    cJSON_Delete(object);
}

struct sighting {
    const cJSON *ours; /* the recorded one if it is there, else the first */
    const cJSON *extra;
    const cJSON *foreign;
    bool unusable; /* one of ours cannot be addressed */
};

static struct sighting sift(const struct driver_op *op, const cJSON *array)
{
    struct sighting s = {0};
    const cJSON *item = NULL;
    cJSON_ArrayForEach(item, array)
    {
        if (!str_eq(json_str(item, "name"), op->target->name)) {
            continue; /* the filter may be looser than equality */
        }
        const char *id = usable_id(item);
        if (!op->noun->ours(item, op->target)) {
            s.foreign = item;
        } else if (!id) {
            s.unusable = true;
        } else if (!s.ours) {
            s.ours = item;
        } else if (str_eq(id, usable_id(s.ours))) {
            continue; /* listed twice */
        } else if (str_eq(id, op->target->external_id)) {
            s.extra = s.ours;
            s.ours = item;
        } else {
            s.extra = item;
        }
    }
    return s;
}

static void feed_look_name(struct driver_op *op, const struct exchange_response *r, struct err *e)
{
    if (e->class != ERR_NONE) {
        if (e->class == ERR_GONE) {
            /* Not an end: what stands before a server that restarts says so, too. */
            err_set(e, ERR_UNAVAILABLE,
                    "the server knows no such path (HTTP 404); check the runtime's url");
            e->http_status = r->status;
        }
        fail(op, e);
        return;
    }
    cJSON *array = parse(op, r, e);
    if (!array) {
        return;
    }
    struct sighting s = sift(op, array);
    if (!cJSON_IsArray(array)) {
        unreadable(op, e, "the answer to a look-up by name is not an array");
    } else if (s.unusable) {
        unreadable(op, e, "the server lists an object of ours without a usable id");
    } else if (s.extra && op->target->observe) {
        take_id(op, s.ours);
        observed(op, SIGHT_OURS, false); /* there is one too many */
    } else if (s.extra) {
        take_id(op, s.extra);
        op->doomed = true;
        op->phase = DELETE;
    } else if (s.ours) {
        take_id(op, s.ours);
        seen_ours(op, s.ours);
    } else if (s.foreign) {
        seen_foreign(op, s.foreign);
    } else {
        seen_absent(op);
    }
    cJSON_Delete(array);
}

/* ---- what became of a change ---- */

static void outcome_open(struct driver_op *op, struct driver_outcome *out)
{
    out->effect = EFFECT_UNKNOWN;
    op->uncertain = true;
    op->empty_looks = 0;
    op->updating =
        op->updating || op->phase == UPDATE; /* it may land after a look that is content */
    op->phase = op->id[0] != '\0' && op->phase != CREATE ? LOOK_ID : LOOK_NAME;
}

static void feed_created(struct driver_op *op, const struct exchange_response *r,
                         struct driver_outcome *out)
{
    struct json_fault fault;
    cJSON *object = NULL;
    bool readable = !r->truncated &&
                    json_parse(r->body, r->body_len, &answer_limits, &object, &fault) == 0 &&
                    usable_id(object);
    if (!readable) {
        err_set(&out->err, ERR_UNKNOWN, "HTTP %d whose body names no object", r->status);
        out->err.http_status = r->status;
        outcome_open(op, out);
    } else {
        take_id(op, object);
        out->effect = EFFECT_DONE;
        str_copy(out->external_id, sizeof(out->external_id), op->id);
        out->unseen = true;
        op->created = true;
        op->uncertain = true; /* a read-back that misses is not proof of absence */
        op->phase = LOOK_ID;
    }
    cJSON_Delete(object);
}

static void feed_change(struct driver_op *op, const struct exchange_response *r,
                        struct driver_outcome *out)
{
    enum phase was = op->phase;
    switch (out->err.class) {
    case ERR_NONE:
        if (was == CREATE) {
            feed_created(op, r, out);
            return;
        }
        out->effect = EFFECT_DONE;
        op->phase = LOOK_ID;
        return;
    case ERR_GONE:
        if (was == CREATE) {
            out->effect = EFFECT_REFUSED;
            err_set(&out->err, ERR_REFUSED,
                    "the server knows no such path (HTTP %d); check the runtime's url", r->status);
            fail(op, &out->err);
            return;
        }
        err_clear(&out->err);
        out->effect = was == DELETE ? EFFECT_DONE : EFFECT_REFUSED;
        op->phase = LOOK_NAME;
        return;
    case ERR_CONFLICT:
        out->effect = EFFECT_REFUSED;
        if (was != CREATE) {
            /* Busy with it, not a matter of names: the server's words stand, and time may help. */
            out->err.class = ERR_UNAVAILABLE;
            break;
        }
        err_clear(&out->err);
        /* Taken: by an earlier attempt of ours or by a stranger; a look tells. */
        op->uncertain = true;
        op->empty_looks = 0;
        op->phase = LOOK_NAME;
        return;
    case ERR_UNKNOWN:
        outcome_open(op, out);
        return;
    case ERR_UNAVAILABLE:
        out->effect = EFFECT_NOT_SENT;
        break;
    case ERR_THROTTLED:
        out->effect = out->err.http_status == 429 ? EFFECT_REFUSED : EFFECT_UNKNOWN;
        break;
    case ERR_INVALID:
    case ERR_UNAUTHORIZED:
    case ERR_REFUSED:
    case ERR_INTERNAL:
    case ERR_CLASS_MAX:
        out->effect = EFFECT_REFUSED;
        break;
    }
    fail(op, &out->err);
}

void facade_feed(struct driver_op *op, const struct exchange_response *response,
                 struct driver_outcome *out)
{
    memset(out, 0, sizeof(*out));
    err_clear(&out->err);
    exchange_classify(response, &out->err);
    switch (op->phase) {
    case LOOK_ID:
        feed_look_id(op, response, &out->err);
        return;
    case LOOK_NAME:
        feed_look_name(op, response, &out->err);
        return;
    case CREATE:
    case UPDATE:
    case DELETE:
        feed_change(op, response, out);
        return;
    case SETTLE:
    case SETTLE_ID:
    case DONE:
    case FAILED:
        return; /* nothing was asked */
    }
}
