/*
 * The stand-in RAGFlow: what its files share. One endpoint plays the API server (ports 9380 and
 * 9384 of the product), the admin service (9381; told apart by its path) and the object storage
 * behind them, as far as a collection needs them. Several tenants, told apart by their keys.
 */
#ifndef STANDIN_RAGFLOW_H
#define STANDIN_RAGFLOW_H

#include "standin.h"

enum ragflow_profile { RAGFLOW_024, RAGFLOW_PYTHON, RAGFLOW_GO };

enum {
    RAGFLOW_ID = 33, /* 32 hex digits and the NUL */
    RAGFLOW_EMAIL = 256,
    RAGFLOW_PARTS_MAX = 4,
    RAGFLOW_BUCKETS = 8192,
    /* Body codes: RetCode in the product. */
    CODE_EXCEPTION = 100,
    CODE_ARGUMENT = 101,
    CODE_DATA = 102,
    CODE_PERMISSION = 108,
    CODE_AUTHENTICATION = 109
};

struct tenant {
    char id[RAGFLOW_ID]; /* of its owner too: a tenant is a user */
    char email[RAGFLOW_EMAIL];
    bool active, superuser;
    cJSON *keys;      /* [{"token","beta","create_time",...}] */
    cJSON *joined;    /* [{"tenant","role":"invite"|"normal"}] */
    cJSON *providers; /* {provider: {instance: {"api_key","base_url","models":[...]}}} */
    char *default_model;
    struct tenant *next;
};

struct dataset {
    uint64_t seq;
    struct tenant *owner;
    cJSON *json;      /* as the Python server answers a create */
    const char *id;   /* inside json */
    char *folded;     /* the name as the collation compares it */
    cJSON *documents; /* oldest first */
    bool planted;
    int64_t changes;
    struct dataset *older, *newer, *next_id, *next_name;
};

struct ragflow_settings {
    bool database_down;    /* no key is known, healthz answers 500 */
    bool race;             /* creates see no taken name, as with two server processes */
    bool refuse_login;     /* the admin service's password is wrong */
    int64_t delete_errors; /* so many dataset deletes leave residue: code 0 with errors[] */
    int64_t register_enabled;
    char version[64];
};

struct ragflow {
    enum ragflow_profile profile;
    struct tenant *tenants; /* the first is the one of --token */
    struct dataset *oldest, *newest;
    struct dataset *by_id[RAGFLOW_BUCKETS], *by_name[RAGFLOW_BUCKETS];
    uint64_t created, deleted;
    cJSON *blobs; /* {bucket: {name: true}}: what object storage holds */
    struct ragflow_settings settings;
    char session[64]; /* the admin service knows one at a time; "" for none */
};

/* One request on its way through a handler. */
struct ask {
    struct ragflow *r;
    const struct call *call;
    struct reply *out;
    struct tenant *tenant;                       /* whose key it came with; NULL for open routes */
    char part[RAGFLOW_PARTS_MAX][RAGFLOW_EMAIL]; /* what the stars of the route stand for */
};

/* ---- answers (ragflow.c) ---- */

/* {"code":0,"data":...}; takes the tree. */
void ask_ok(struct ask *a, cJSON *data);
/* The same with "message":"success". */
void ask_success(struct ask *a, cJSON *data);
void ask_fail(struct ask *a, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* The code of "lacks permission": by version. */
int ask_miss_code(const struct ask *a);
/* The body as the framework reads it, an object with its floats marked (check_mark_floats), or NULL
 * and the answer. cJSON_Delete() ends it. */
cJSON *ask_body(struct ask *a);

void ragflow_id(char out[RAGFLOW_ID]);
/* "sk"-like text: prefix and n random characters of base64url. */
void ragflow_random(char *out, const char *prefix, size_t n);
/* Adds or replaces; takes value. */
void ragflow_set(cJSON *to, const char *name, cJSON *value);
void ragflow_set_text(cJSON *to, const char *name, const char *text);
/* The time now as the product's rows have it: create_time and create_date, or update_... */
void ragflow_stamp(cJSON *to, bool update);

/* ---- routes (ragflow.c) ---- */

struct route {
    const char *method, *path; /* a segment "*" stands for any one */
    unsigned profiles;         /* 1 << enum ragflow_profile, or-ed */
    bool open;                 /* needs no key */
    void (*handler)(struct ask *a);
};

/* The route for the call, its stars in a->part; NULL, and *other_method says whether the path
 * exists with another. */
const struct route *route_find(const struct route *routes, size_t n, struct ask *a,
                               bool *other_method);

/* ---- validation (ragflow_check.c) ---- */

/* Each: true, or false and the answer. Bodies may be normalised (names trimmed, ids as hex). */
bool check_create(struct ask *a, cJSON *body);
bool check_update(struct ask *a, cJSON *body);
bool check_delete(struct ask *a, cJSON *body);
/* What was written with a fraction or an exponent is no integer, 512.0 included; cJSON's tree alone
 * cannot tell. */
void check_mark_floats(cJSON *tree, const char *text);
/* A UUID in any spelling to 32 digits, if this version takes it. */
bool check_uuid(const struct ask *a, const char *text, char out[RAGFLOW_ID]);

struct list_request {
    char id[RAGFLOW_ID]; /* "" for none */
    const char *name;    /* borrowed; NULL for none */
    cJSON *ids;          /* NULL for none; list_request_done() */
    int64_t page, page_size;
    bool by_update, descending;
};

bool check_list(struct ask *a, struct list_request *out);
void list_request_done(struct list_request *rq);

/* ---- tenants, keys, models (ragflow_tenant.c) ---- */

struct tenant *tenant_add(struct ragflow *r, const char *email);
void tenant_free(struct tenant *t);
/* With everything that it has. */
void tenant_delete(struct ragflow *r, struct tenant *t);
struct tenant *tenant_by_id(const struct ragflow *r, const char *id);
struct tenant *tenant_by_email(const struct ragflow *r, const char *email);
struct tenant *tenant_by_key(const struct ragflow *r, const char *key);
bool tenant_joined(const struct tenant *t, const struct tenant *other);
/* role: "invite" or "normal". */
void tenant_join(struct tenant *guest, const struct tenant *host, const char *role);
/* token NULL: a new one. The row, the tenant's. */
cJSON *tenant_mint(struct tenant *t, const char *token);
bool tenant_unmint(struct tenant *t, const char *token);
/* The instance (made where it is missing) gets one more model; the model's row. */
cJSON *tenant_add_model(struct tenant *t, const char *provider, const char *instance,
                        const char *model, const char *type);
/* Whether a dataset of this tenant may use the model; else the answer is given. */
bool tenant_check_model(struct ask *a, const char *model);

void keys_list(struct ask *a);
void keys_create(struct ask *a);
void keys_delete(struct ask *a);
void users_me(struct ask *a);
void team_invite(struct ask *a);
void team_accept(struct ask *a);
void provider_add(struct ask *a);
void provider_add_instance(struct ask *a);
void provider_get_instance(struct ask *a);
void models_list(struct ask *a);
void models_default(struct ask *a);

/* ---- datasets (ragflow_dataset.c) ---- */

struct dataset *dataset_find(const struct ragflow *r, const char *id);
bool dataset_visible(const struct dataset *d, const struct tenant *t);
/* Stored files stay: only deleting documents, or the whole tenant, frees them. */
void dataset_remove(struct ragflow *r, struct dataset *d);
/* As somebody else would have made it; members of `wanted` replace the usual ones. */
struct dataset *dataset_plant(struct ragflow *r, struct tenant *owner, const cJSON *wanted);
/* As this profile's server shows it. */
cJSON *dataset_render(const struct ragflow *r, const struct dataset *d);
void dataset_free(struct dataset *d);

void datasets_create(struct ask *a);
void datasets_list(struct ask *a);
void datasets_get(struct ask *a);
void datasets_update(struct ask *a);
void datasets_delete(struct ask *a);

/* ---- documents and stored files (ragflow_document.c) ---- */

/* A document with its stored file; borrowed. */
cJSON *document_add(struct ragflow *r, struct dataset *d, const char *name);
void documents_list(struct ask *a);
void documents_upload(struct ask *a);
void documents_delete(struct ask *a);

/* ---- the admin service (ragflow_admin.c) ---- */

/* Answers everything below /api/v1/admin. */
void admin_service(struct ask *a);

/* ---- what tests do and see (ragflow_test.c) ---- */

void ragflow_plant(void *store, const cJSON *objects, struct reply *out);
void ragflow_objects(void *store, struct reply *out);
void ragflow_admin(void *store, const struct call *c, struct reply *out);

#endif
