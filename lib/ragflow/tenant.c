/*
 * The account of an organization's or a subscription's own: a RAGFlow user, which is a tenant, made
 * through the admin service. Its e-mail cannot be guessed, so that whoever bears it is ours, and
 * the server keeps e-mails unique, so that it is made once however often that is asked.
 */
#include "ragflow/native.h"

#include <string.h>
#include <strings.h>

#include "base/str.h"

#define UNRESERVED "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"

static bool of_subscription(const struct driver_op *op)
{
    return op->target->settings->tenancy == TENANCY_SUBSCRIPTION;
}

static void user_url(const struct driver_op *op, struct exchange_request *r, const char *below)
{
    char email[RAGFLOW_ENCODED];
    ragflow_url(r, op->target->settings->admin_url, "/api/v1/admin/users/%s%s",
                ragflow_encode(email, op->target->tenant_email), below);
}

/* ---- the user ---- */

void ragflow_build_user(struct driver_op *op, struct exchange_request *r)
{
    user_url(op, r, "");
}

static void user_is_absent(struct driver_op *op)
{
    op->tenant[0] = '\0';
    op->id[0] = op->recorded[0] = '\0';
    explicit_bzero(op->secret, sizeof(op->secret));
    if (ragflow_observing(op)) {
        ragflow_observed(op, SIGHT_ABSENT, op->goal == DRIVER_ABSENT);
    } else if (op->goal == DRIVER_PRESENT) {
        op->phase = PHASE_USER_CREATE;
    } else if (ragflow_settled(op, PHASE_USER_LOOK)) {
        op->phase = PHASE_DONE;
    }
}

static void user_is_there(struct driver_op *op)
{
    op->empty_looks = 0;
    bool wanted = op->goal == DRIVER_PRESENT && !ragflow_observing(op);
    if (op->goal == DRIVER_ABSENT && op->emptied) {
        op->phase = op->user_active ? PHASE_USER_CLOSE : PHASE_USER_DELETE;
    } else if (wanted && !op->user_active) {
        /* Only a delete closes accounts. One that may still land is brought to its end first: then
         * what is made anew is out of its reach. */
        char email[RAGFLOW_ENCODED];
        bool leaving =
            of_subscription(op) &&
            str_eq(op->target->deleting, ragflow_encode(email, op->target->tenant_email));
        op->phase = leaving ? PHASE_USER_DELETE : PHASE_USER_OPEN;
    } else {
        op->phase = PHASE_KEYS;
    }
}

static bool is_active(const cJSON *row)
{
    int64_t n = 0;
    return json_bool(row, "is_active", false) || str_eq(json_str(row, "is_active"), "1") ||
           (json_i64(row, "is_active", &n) && n == 1);
}

static const cJSON *find_user(const cJSON *users, const char *email)
{
    const cJSON *row = NULL;
    cJSON_ArrayForEach(row, users)
    {
        const char *theirs = json_str(row, "email");
        if (theirs && strcasecmp(theirs, email) == 0) {
            return row;
        }
    }
    return NULL;
}

void ragflow_feed_user(struct driver_op *op, const struct ragflow_answer *a,
                       struct driver_outcome *out)
{
    const cJSON *row = find_user(a->data, op->target->tenant_email);
    char id[RAGFLOW_ID];
    if (a->meaning == MEANS_NOT_THERE || (cJSON_IsArray(a->data) && !a->data->child)) {
        user_is_absent(op);
    } else if (!cJSON_IsArray(a->data) || !row || !ragflow_id_of(row, "id", id)) {
        ragflow_fail_with(op, ERR_UNKNOWN, "the admin service's answer is not that user");
    } else if (json_bool(row, "is_superuser", false)) {
        ragflow_fail_with(op, ERR_CONFLICT,
                          "the account made for this subscription has become a superuser; take "
                          "that from it in RAGFlow, then replay");
    } else {
        if (op->tenant[0] != '\0' &&
            !str_eq(id, op->tenant)) { /* made anew by somebody: what was recorded went with it */
            op->recorded[0] = '\0';
            explicit_bzero(op->secret, sizeof(op->secret));
        }
        str_copy(op->tenant, sizeof(op->tenant), id);
        op->user_active = is_active(row);
        user_is_there(op);
    }
    if (op->phase == PHASE_FAILED) {
        out->err = op->err;
    }
}

void ragflow_build_user_create(struct driver_op *op, struct exchange_request *r)
{
    const struct driver_target *t = op->target;
    ragflow_url(r, t->settings->admin_url, "/api/v1/admin/users");
    buf_adds(&r->body, "{\"username\":");
    buf_add_json(&r->body, t->tenant_email);
    buf_adds(&r->body, ",\"password\":");
    buf_add_json(&r->body, t->password_wire);
    buf_adds(&r->body, ",\"role\":\"user\"}");
    ragflow_body(r);
    if (!t->password_wire) {
        r->body.failed = true;
    }
}

void ragflow_feed_user_create(struct driver_op *op, const struct ragflow_answer *a,
                              struct driver_outcome *out)
{
    op->phase = PHASE_USER_LOOK;
    if (a->meaning == MEANS_DONE && ragflow_id_of(a->data, "id", op->tenant)) {
        str_copy(out->tenant_id, sizeof(out->tenant_id), op->tenant);
        op->user_active = true;
        op->phase = PHASE_KEY_CREATE; /* a new user has none */
        ragflow_gain(op);
    } else if (a->meaning == MEANS_DONE) {
        out->effect = EFFECT_UNKNOWN;
        err_set(&out->err, ERR_UNKNOWN, "the answer to the create names no user");
    } else {
        err_clear(&out->err); /* taken: an earlier attempt of ours made it */
    }
}

static void build_activation(struct driver_op *op, struct exchange_request *r, const char *status)
{
    user_url(op, r, "/activate");
    buf_addf(&r->body, "{\"activate_status\":\"%s\"}", status);
    ragflow_body(r);
}

void ragflow_build_user_open(struct driver_op *op, struct exchange_request *r)
{
    build_activation(op, r, "on");
}

void ragflow_feed_user_open(struct driver_op *op, const struct ragflow_answer *a,
                            struct driver_outcome *out)
{
    (void)out;
    op->phase = a->meaning == MEANS_DONE ? PHASE_KEYS : PHASE_USER_LOOK;
}

void ragflow_build_user_close(struct driver_op *op, struct exchange_request *r)
{
    build_activation(op, r, "off");
}

void ragflow_feed_user_close(struct driver_op *op, const struct ragflow_answer *a,
                             struct driver_outcome *out)
{
    (void)out;
    op->phase = a->meaning == MEANS_DONE ? PHASE_USER_DELETE : PHASE_USER_LOOK;
}

void ragflow_feed_user_delete(struct driver_op *op, const struct ragflow_answer *a,
                              struct driver_outcome *out)
{
    if (a->meaning == MEANS_NOT_THERE) {
        err_clear(&out->err);
        out->effect = EFFECT_DONE;
    }
    op->phase = PHASE_USER_LOOK;
}

/* ---- its keys ---- */

void ragflow_build_keys(struct driver_op *op, struct exchange_request *r)
{
    user_url(op, r, "/keys");
}

/* One that can be sent and recorded; NULL for none. */
static const char *usable_key(const cJSON *row)
{
    const char *token = json_str(row, "token");
    size_t n = token ? strlen(token) : 0;
    return n > 0 && n <= DRIVER_SECRET_MAX && strspn(token, UNRESERVED) == n ? token : NULL;
}

static int64_t created_ms(const cJSON *row)
{
    int64_t ms = 0;
    return json_i64(row, "create_time", &ms) ? ms : INT64_MAX;
}

/* The recorded one where it is still there, else the oldest: the same for all who look. */
static const cJSON *key_to_keep(const struct driver_op *op, const cJSON *rows)
{
    const cJSON *row = NULL, *best = NULL;
    cJSON_ArrayForEach(row, rows)
    {
        if (!usable_key(row)) {
            continue;
        }
        bool recorded = !op->was_denied && str_eq(usable_key(row), op->target->secret);
        if (recorded) {
            return row;
        }
        if (!best || created_ms(row) < created_ms(best)) {
            best = row;
        }
    }
    return best;
}

static const char *surplus_key(const cJSON *rows, const cJSON *keep)
{
    const cJSON *row = NULL;
    cJSON_ArrayForEach(row, rows)
    {
        const char *token = usable_key(row);
        if (token && !str_eq(token, usable_key(keep))) {
            return token;
        }
    }
    return NULL;
}

static void have_key(struct driver_op *op, const char *token, struct driver_outcome *out)
{
    str_copy(op->secret, sizeof(op->secret), token);
    op->held = false;
    op->tenant_sure = true;
    str_copy(out->tenant_id, sizeof(out->tenant_id), op->tenant);
    str_copy(out->secret, sizeof(out->secret), op->secret);
    ragflow_gain(op);
    ragflow_seek(op);
}

static void no_key(struct driver_op *op)
{
    if (ragflow_observing(op)) {
        /* Without one nothing can be seen of the datasets; the account alone is ours. */
        bool all = of_subscription(op) && op->goal == DRIVER_ABSENT;
        ragflow_observed(op, all ? SIGHT_OURS : SIGHT_ABSENT, !all && op->goal == DRIVER_ABSENT);
    } else if (op->goal == DRIVER_ABSENT && of_subscription(op)) {
        op->emptied = true; /* the user's end is the end of its datasets and files, too */
        user_is_there(op);
    } else if (ragflow_settled(op, PHASE_KEYS)) { /* else an open create makes a second one */
        op->empty_looks = 0;
        op->phase = PHASE_KEY_CREATE;
    }
}

void ragflow_feed_keys(struct driver_op *op, const struct ragflow_answer *a,
                       struct driver_outcome *out)
{
    if (a->meaning == MEANS_NOT_THERE) {
        op->phase = PHASE_USER_LOOK;
        return;
    }
    if (!cJSON_IsArray(a->data)) {
        ragflow_fail_with(op, ERR_UNKNOWN, "the admin service's answer is no list of keys");
        out->err = op->err;
        return;
    }
    const cJSON *keep = key_to_keep(op, a->data);
    if (!keep) {
        no_key(op);
        return;
    }
    char tenant[RAGFLOW_ID];
    if (ragflow_id_of(keep, "tenant_id", tenant) && !str_eq(tenant, op->tenant)) {
        ragflow_fail_with(op, ERR_UNKNOWN, "the admin service lists another tenant's keys");
        out->err = op->err;
        return;
    }
    const char *surplus = surplus_key(a->data, keep);
    if (surplus && of_subscription(op) && op->goal == DRIVER_PRESENT && !ragflow_observing(op)) {
        str_copy(op->surplus, sizeof(op->surplus), surplus);
        op->phase = PHASE_KEY_DELETE;
        return;
    }
    have_key(op, usable_key(keep), out);
}

void ragflow_feed_key_create(struct driver_op *op, const struct ragflow_answer *a,
                             struct driver_outcome *out)
{
    if (a->meaning != MEANS_DONE) {
        op->phase = PHASE_USER_LOOK;
    } else if (usable_key(a->data)) {
        have_key(op, usable_key(a->data), out);
    } else {
        out->effect = EFFECT_UNKNOWN;
        err_set(&out->err, ERR_UNKNOWN, "the answer to the create names no key");
        op->phase = PHASE_KEYS;
    }
}

/* The key follows the URL where no journal keeps it. */
void ragflow_build_key_delete(struct driver_op *op, struct exchange_request *r)
{
    user_url(op, r, "/keys/");
    r->url_secret = op->surplus;
}

void ragflow_feed_key_delete(struct driver_op *op, const struct ragflow_answer *a,
                             struct driver_outcome *out)
{
    if (a->meaning == MEANS_NOT_THERE) {
        err_clear(&out->err);
        out->effect = EFFECT_DONE;
    }
    op->phase = PHASE_KEYS;
}
