/*
 * The stand-in Waldur, as its sources of 2024 (profile 24) and its generated client of 2026
 * (profile 26) have it: orders, resources, their API keys, events, and the webhooks that nobody
 * signs and nobody repeats. What it gets wrong is played too: set_state_erred that looks at no
 * state, approvals that are processed after their answer, slugs that change.
 * test/contract/waldur.py holds it to Waldur's published schema.
 *
 * The token that it was started with is a service provider's. Consumers and the system act through
 * /admin (waldur_admin.c).
 */
#ifndef STANDIN_WALDUR_H
#define STANDIN_WALDUR_H

#include "base/clock.h"
#include "base/rng.h"
#include "base/uuid.h"
#include "standin.h"

enum wd_kind {
    WD_CUSTOMER,
    WD_PROJECT,
    WD_OFFERING,
    WD_PLAN,
    WD_RESOURCE,
    WD_ORDER,
    WD_KEY,
    WD_HOOK,
    WD_EVENT,
    WD_KINDS
};

enum wd_type { WD_CREATE, WD_UPDATE, WD_TERMINATE, WD_RESTORE, WD_TYPES };

/* The open ones first: see wd_is_open. */
enum wd_order_state {
    WD_PENDING_CONSUMER,
    WD_PENDING_PROVIDER,
    WD_PENDING_PROJECT,
    WD_PENDING_START_DATE,
    WD_EXECUTING,
    WD_DONE,
    WD_ERRED,
    WD_CANCELED,
    WD_REJECTED,
    WD_ORDER_STATES
};

enum wd_resource_state {
    WD_R_CREATING,
    WD_R_OK,
    WD_R_ERRED,
    WD_R_UPDATING,
    WD_R_TERMINATING,
    WD_R_TERMINATED,
    WD_RESOURCE_STATES
};

enum wd_key_state { WD_K_CREATING, WD_K_OK, WD_K_UPDATING, WD_K_ERRED, WD_KEY_STATES };

/* As the API spells them; each ends with NULL. */
extern const char *const wd_types[], *const wd_order_states[], *const wd_resource_states[],
                                                                   *const wd_key_states[];

enum {
    WD_HEX = 33, /* a UUID without dashes, as Waldur shows it, and the NUL */
    WD_BUCKETS = 32768,
    WD_BODY_MAX = 4 * 1024 * 1024,
    WD_FIELDS_MAX = 100,
    WD_DENIED_MAX = 16,
    WD_WORD_MAX = 64
};

/* How often an order was told what, by its answer. */
struct wd_told {
    int64_t approved, done, done_refused, erred, erred_late, erred_refused, executing;
};

/* One row. What a kind does not have stays NULL. */
struct wd_record {
    enum wd_kind kind;
    uint64_t seq;
    char id[WD_HEX];
    int64_t created_us, modified_us;
    cJSON *own;                 /* members that are shown as they are */
    struct wd_record *customer; /* a project's; an offering's provider */
    struct wd_record *project, *offering, *plan, *old_plan;
    struct wd_record *resource;                     /* an order's, a key's */
    enum wd_type type;                              /* an order's */
    int state;                                      /* an order's, resource's or key's */
    bool by_system;                                 /* an order of the system's */
    int64_t consumer_us, provider_us, completed_us; /* an order's reviews and end; 0: not yet */
    struct wd_told told;
    size_t open; /* a resource's orders that are */
    struct wd_record *first_order, *last_order, *next_order, *prev_order; /* a resource's */
    struct wd_record *first_key, *next_key;                               /* a resource's */
    char *text; /* a key itself; an event's context as JSON */
    struct wd_record *prev, *next, *next_id;
};

/* Who does what is being done: events tell. */
enum wd_actor { WD_SYSTEM, WD_PROVIDER, WD_CONSUMER };

struct wd_settings {
    int64_t process_ms; /* from an approval to its processing */
    int64_t race_ms;    /* so long after an approval another succeeds: nothing locks the row */
    bool is_support;    /* whoever the token is: without it no events and no hooks that fire */
    bool is_staff;
    char token_state[WD_WORD_MAX];           /* valid, expired or inactive */
    char denied[WD_DENIED_MAX][WD_WORD_MAX]; /* actions that are answered 403 */
    size_t n_denied;
    /* The webhooks. */
    double drop, duplicate; /* shares */
    int64_t window_ms;      /* each is late by up to this: that puts them out of order */
    int64_t senders;        /* so many under way at once */
    int64_t timeout_ms;
    int64_t seed;
    bool ssrf_guard;   /* hooks to private addresses are refused and not sent */
    bool stomp_spaces; /* messages say "pending provider" where REST has a dash */
};

struct wd_agenda;
struct wd_sender;
struct wd_slug;

struct wd_store {
    int year; /* 24 or 26 */
    char *token;
    struct wd_settings settings;
    enum wd_actor actor;
    int64_t now_ms, last_us;
    uint64_t seq;
    struct wd_record *by_id[WD_BUCKETS];
    struct wd_record *first[WD_KINDS], *last[WD_KINDS];
    size_t count[WD_KINDS];
    struct wd_slug *slugs[WD_BUCKETS];
    struct wd_agenda *agenda;
    struct wd_sender *sender;
    cJSON *calls;   /* name of a call: how often */
    cJSON *ignored; /* query arguments that meant nothing */
    cJSON *texts;   /* every body that was sent to a call that changes something */
};

/* One call under way. */
struct wd_call {
    struct wd_store *s;
    const struct call *http;
    struct reply *out;
    const char *route;    /* "marketplace-orders/{}/set_state_done/" */
    const char *action;   /* its last segment */
    char id[WD_HEX];      /* what stands for {} in the route; "" for no UUID */
    struct wd_record *at; /* what that names, where the route says of which kind */
    cJSON *body;          /* always an object, where the route takes one */
};

/* ---- rows (waldur_store.c) ---- */

/* Takes own. id NULL makes one. NULL when memory ends, for an id that is no UUID or is taken. */
struct wd_record *wd_add(struct wd_store *s, enum wd_kind kind, const char *id, cJSON *own);
/* A resource goes with its orders and keys. */
void wd_remove(struct wd_store *s, struct wd_record *r);
void wd_clear(struct wd_store *s);
struct wd_record *wd_find(const struct wd_store *s, enum wd_kind kind, const char *id);
/* 32 hex digits of a UUID in any spelling, or of the one at the end of a URL; false for none. */
bool wd_hex(const char *text, char out[WD_HEX]);
/* Orders of a resource, in order of their creation. */
void wd_order_link(struct wd_record *resource, struct wd_record *order);
void wd_key_link(struct wd_record *resource, struct wd_record *key);
/* Marks it as changed now. */
void wd_touch(struct wd_store *s, struct wd_record *r);
/* The time, never the same twice. */
int64_t wd_now_us(struct wd_store *s);
void wd_set(cJSON *object, const char *name, cJSON *value);          /* takes the value; replaces */
void wd_set_text(cJSON *object, const char *name, const char *text); /* NULL: null */
const char *wd_text(const struct wd_record *r, const char *name);    /* "" where there is none */
/* The next free slug for a name, as the version makes them; free() it. */
char *wd_slug(struct wd_store *s, enum wd_kind kind, const char *name);
void wd_slugs_free(struct wd_store *s);
void wd_count(cJSON *counts, const char *name);
/* The place of a word in a list that ends with NULL; -1 for none. */
int wd_word(const char *const *words, const char *word);

/* ---- what comes later (waldur_agenda.c) ---- */

typedef void wd_task_fn(struct wd_store *s, void *what);

struct wd_agenda *wd_agenda_new(void);
void wd_agenda_free(struct wd_agenda *a); /* what still waits is told to `drop` */
/* From then on tasks are done on the loop's time too, and not only with the next call. */
void wd_agenda_attach(struct wd_store *s, struct loop *loop);
/* fn is given what in ms, or drop is when the store ends first. */
void wd_later(struct wd_store *s, int64_t ms, wd_task_fn *fn, void *what, void (*drop)(void *what));
/* Does what has become due. */
void wd_settle(struct wd_store *s);

/* ---- answers (waldur.c) ---- */

/* 400 {"member": ["why"]}. */
void wd_invalid(struct wd_call *c, const char *member, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* 400 ["why"]. */
void wd_refuse(struct wd_call *c, const char *why);
/* 409 with the states that would have done. */
void wd_conflict(struct wd_call *c, const char *const *names, const int *valid, size_t n);
/* 500, as Django shows it. */
void wd_crash(struct wd_call *c);
void wd_status(struct wd_call *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

struct wd_rule {
    size_t max; /* characters; 0: any number */
    bool required, nonblank;
};
/* The body's member as a string with the space around it gone, or *out NULL where there is none.
 * False and a 400 where the rule is broken. free() it. */
bool wd_take_text(struct wd_call *c, const char *member, struct wd_rule rule, char **out);

/* ---- lists and shapes (waldur_list.c, waldur_show.c) ---- */

/* Which members were asked for. */
struct wd_show {
    struct wd_store *s;
    char base[128]; /* http://host:port/api */
    const char *fields[WD_FIELDS_MAX];
    size_t n; /* 0: all */
};
void wd_show_begin(struct wd_show *show, struct wd_store *s, const struct call *http);
cJSON *wd_show_order(const struct wd_show *show, const struct wd_record *o);
cJSON *wd_show_resource(const struct wd_show *show, const struct wd_record *r);
cJSON *wd_show_key(const struct wd_show *show, const struct wd_record *k);
cJSON *wd_show_hook(const struct wd_show *show, const struct wd_record *h);
cJSON *wd_show_event(const struct wd_show *show, const struct wd_record *e);
cJSON *wd_show_user(const struct wd_show *show);
/* An attribute that its name gives away as a credential. */
bool wd_is_secret(const char *name);
void wd_time(char out[CLOCK_TEXT_MAX], int64_t us);

void wd_order_list(struct wd_call *c);
void wd_resource_list(struct wd_call *c);
void wd_key_list(struct wd_call *c);
void wd_hook_list(struct wd_call *c);
void wd_event_list(struct wd_call *c);

/* ---- orders (waldur_order.c) ---- */

bool wd_is_open(const struct wd_record *order);
struct wd_wish {
    enum wd_type type;
    struct wd_record *resource, *offering, *project, *plan; /* Create: no resource */
    const char *name, *uuid;                                /* of a new resource; uuid NULL: any */
    const cJSON *attributes, *limits;
    bool anyway; /* whatever the resource's state and other orders */
};
/* NULL and what is wrong in c->out. The order waits for its consumer's approval. */
struct wd_record *wd_order_new(struct wd_call *c, const struct wd_wish *wish);
/* With what follows from it for events, and after an approval for later. */
void wd_order_move(struct wd_store *s, struct wd_record *o, enum wd_order_state state);
/* Where the consumer's approval leads. */
void wd_order_approve(struct wd_store *s, struct wd_record *o);
/* As the callbacks of Waldur bring order and resource together; false: they raised. */
/* To executing, and to be processed when the answer is out. */
void wd_order_execute(struct wd_store *s, struct wd_record *o);
bool wd_order_finish(struct wd_store *s, struct wd_record *o, enum wd_order_state state);
bool wd_order_retry(struct wd_store *s, struct wd_record *o);
void wd_resource_move(struct wd_store *s, struct wd_record *r, enum wd_resource_state state);

void wd_order_get(struct wd_call *c);
void wd_order_approve_by_provider(struct wd_call *c);
void wd_order_reject_by_provider(struct wd_call *c);
void wd_order_set_executing(struct wd_call *c);
void wd_order_set_done(struct wd_call *c);
void wd_order_set_erred(struct wd_call *c);
void wd_order_set_backend_id(struct wd_call *c);
void wd_order_set_info(struct wd_call *c);
void wd_order_cancel(struct wd_call *c);
void wd_order_again(struct wd_call *c);

/* ---- resources and their keys (waldur_resource.c, waldur_key.c) ---- */

void wd_resource_get(struct wd_call *c);
void wd_resource_set_backend_id(struct wd_call *c);
void wd_resource_set_metadata(struct wd_call *c);
void wd_resource_set_endpoints(struct wd_call *c);
void wd_resource_report(struct wd_call *c);
void wd_resource_set_limits(struct wd_call *c);
void wd_resource_set_ok(struct wd_call *c);
void wd_resource_set_erred(struct wd_call *c);
void wd_resource_sync(struct wd_call *c);
void wd_resource_restore(struct wd_call *c);
void wd_resource_terminate(struct wd_call *c);
void wd_offering_check_unique(struct wd_call *c);

void wd_key_report(struct wd_call *c);
void wd_key_get(struct wd_call *c);
void wd_key_set(struct wd_call *c);
void wd_key_set_erred(struct wd_call *c);
void wd_key_reveal(struct wd_call *c);
void wd_key_rotate(struct wd_call *c);
void wd_key_turn(struct wd_store *s, struct wd_record *key); /* a new one is wanted */

/* ---- events and who is told of them (waldur_event.c, waldur_send.c, waldur_hook.c) ---- */

/* Of what is sent. FORM_ENCODED is a webhook's second kind, in which the context's values are lost;
 * the last two are the message bus's. */
enum wd_form { WD_WEBHOOK, WD_FORM_ENCODED, WD_STOMP, WD_STOMP_LEGACY, WD_FORMS };
extern const char *const wd_forms[];

/* order or resource may be NULL; the message's "{}" is the resource's name. */
void wd_fire(struct wd_store *s, const char *type, const char *message,
             const struct wd_record *order, const struct wd_record *resource);
/* The message bus's words about the same, for hooks that want them. */
void wd_tell_order(struct wd_store *s, const struct wd_record *o);
void wd_tell_resource(struct wd_store *s, const struct wd_record *r);
void wd_tell_rotation(struct wd_store *s, const struct wd_record *key);
/* Those words; free() them. */
char *wd_order_message(const struct wd_store *s, const struct wd_record *o, enum wd_form form);
char *wd_resource_message(const struct wd_record *r);
char *wd_rotation_message(const struct wd_record *key);
/* {"created","message","context","event_type"}, or the same as a form; free() it. */
char *wd_event_body(const struct wd_record *e, enum wd_form form);

void wd_hook_get(struct wd_call *c);
void wd_hook_create(struct wd_call *c);
void wd_hook_change(struct wd_call *c);
void wd_hook_delete(struct wd_call *c);
bool wd_hook_wants(const struct wd_store *s, const struct wd_record *h, enum wd_form form,
                   const char *type);
/* An http(s) URL of an address that is not for us alone. */
bool wd_is_public(const char *url);

struct wd_sender *wd_sender_new(void);
void wd_sender_free(struct wd_sender *w);
int wd_sender_attach(struct wd_store *s, struct loop *loop, struct err *err);
void wd_sender_reset(struct wd_store *s); /* after a change of its settings */
/* To every hook that wants it: late, twice or never, as the settings have it. Takes body. event: a
 * UUID or "". */
void wd_send(struct wd_store *s, enum wd_form form, const char *type, const char *event,
             char *body);
/* To one destination at once, whatever the settings say. Takes body. */
void wd_send_to(struct wd_store *s, const char *url, const char *type, char *body);
cJSON *wd_deliveries(const struct wd_store *s);
void wd_deliveries_clear(struct wd_store *s);
/* Deliveries that wait or are under way. */
size_t wd_sending(const struct wd_store *s);

/* ---- for tests (waldur_admin.c) ---- */

void wd_admin(void *store, const struct call *c, struct reply *out);
void wd_plant(void *store, const cJSON *objects, struct reply *out);
void wd_list(void *store, struct reply *out);

#endif
