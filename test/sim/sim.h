/*
 * The simulator: one installation of the worker (several processes, their database, Kafka and the
 * two products) in one process, on simulated time, from one seed. The production code runs in it;
 * only what stands at its outermost boundary is played: net/loop.h, net/http.h, net/kafka.h and
 * store/pg.h (loop.c, http.c, kafka.c, pg.c here), the clocks and the randomness.
 *
 * One world at a time, in `world`: the substituted functions have no argument to find it by.
 * Nothing here depends on an address or on the machine, so that a seed replays to the letter.
 */
#ifndef SIM_SIM_H
#define SIM_SIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/rng.h"
#include "config/config.h"
#include "db.h"
#include "driver/driver.h"
#include "unit/product_sim.h"

enum {
    PROCS_MAX = 5,
    PARTITIONS_MAX_SIM = 4,
    SUBSCRIPTIONS_MAX = 8,
    ORGANIZATIONS_MAX = 3,
    WORDS_MAX = 2048
};

enum { MS = 1000, SECOND = 1000 * MS };
#define DAY_US (INT64_C(24) * 3600 * SECOND)

/* ---- time and chance (world.c) ---- */

/* run false: the world ends, or whose it is has died; only memory is to be given back. */
typedef void sim_fn(void *ctx, uint64_t arg, bool run);

void sim_after(int64_t delay_us, sim_fn *fn, void *ctx, uint64_t arg);
/* Performs the next happening at or before until_us; false: there is none, and time is until_us. */
bool sim_step(int64_t until_us);

uint64_t sim_below(uint64_t bound);
int64_t sim_between(int64_t low, int64_t high); /* both included */
bool sim_chance(double p);

void *sim_alloc(size_t n); /* zeroed; ends the process where memory ends */
char *sim_text(const char *s);

/* One line of the story, where it is told. */
void sim_say(const char *who, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* The promise is broken: the first breach is kept, and ends the run. */
void sim_breach(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* ---- what may go wrong in this seed ---- */

enum request_fault {
    R_REFUSED,      /* no connection: nothing was sent */
    R_RESET_BEFORE, /* sent, not performed, reset */
    R_RESET_AFTER,  /* performed, its answer lost */
    R_LATE,         /* performed after its client gave up */
    R_TWICE,        /* sent again by the client's library on a connection that died */
    R_500_BEFORE,
    R_500_AFTER,
    R_502_HTML,
    R_THROTTLED,
    R_HALF_BODY,
    R_HTML_200,
    R_HANG,       /* never performed, never answered */
    R_HANG_AFTER, /* performed, never answered */
    R_SLOW,       /* performed and answered within the time-out, seconds later */
    R_UNKEPT,     /* performed, or not, and answered as if it were; what it made is lost again */
    R_FAULTS
};

struct faults {
    double request[R_FAULTS]; /* chance of each for one request */
    double pg_lost_before, pg_lost_after, pg_refused, pg_unserializable, pg_slow; /* of one group */
    double notify_lost;
    double produce_fails, produce_slow;
    double crash; /* of the process, at each of its actions */
    int64_t pause_s, restart_s, freeze_s, outage_s, drain_s, reload_s, step_s, kafka_s, restore_s,
        rename_s;        /* mean time between; 0: never */
    int64_t late_max_ms; /* how long after its time-out a request may still be performed */
    bool meddling;       /* operators pause, resume and cancel */
};

/* ---- processes (process.c) ---- */

struct loop;
struct item;
struct run_parts; /* what cmd_run holds */
struct proc {
    char who[16]; /* "w1" */
    int slot;
    uint64_t serial;   /* of this incarnation; counts over all */
    bool alive, dying; /* dying: nothing that it does has any effect any more */
    bool paused, draining, drained;
    uint64_t pauses;
    int64_t boot_us, mono_base_us, ppm, wall_offset_us;
    struct loop *loop;
    struct item *first, **last;
    int64_t turn_at_us, busy_until_us;
    uint64_t turn_no;
    struct run_parts *parts;
};

void proc_start(struct proc *p);
void proc_kill(struct proc *p);
void proc_pause(struct proc *p, int64_t for_us);
void proc_resume(struct proc *p);
void proc_drain(struct proc *p);
void proc_reload(struct proc *p);
/* The owner that its engine writes into leases. */
const char *proc_owner(const struct proc *p);
/* Something is there for it to read: it turns as soon as it can. */
void proc_post(struct proc *p, sim_fn *fn, void *ctx, uint64_t arg);
int64_t proc_mono_us(const struct proc *p);
/* A boundary at which a process can end; true: it ended here (or is about to). */
bool proc_action(struct proc *p, const char *what);

/* ---- the loop (loop.c) ---- */

/* Before a turn reads what was posted: whoever wakes it from here on wants another turn. */
void loop_woken(struct loop *l);
void loop_turn(struct loop *l);
/* When it wants its next turn: monotonic microseconds; 0: at once; -1: only for events. */
int64_t loop_wants_us(const struct loop *l);

/* ---- the database's connection (pg.c) ---- */

void database_restart(int64_t for_us);
void database_freeze(int64_t for_us);
void database_notify(void *ctx);
int64_t database_now_us(void *ctx);
bool database_idle(void); /* nothing is under way to it */
void database_begin(void);

/* ---- products (http.c, setup.c) ---- */

struct dialects {
    bool facade;
    const char *langflow, *ragflow; /* profiles */
    enum driver_tenancy tenancy;
    bool keep;     /* chat history outlives the termination */
    int dedicated; /* so many organizations, from the first on, have a runtime of their own */
    int64_t organization_max, runtime_max; /* jobs that may run at once */
};

enum { FOREIGN_MAX = 16 };

struct upstream_world {
    struct product_sim product;
    int64_t outage_until_us;
    bool outage_refuses; /* else 503 */
    size_t n_foreign;
    char *foreign_id[FOREIGN_MAX], *foreign_text[FOREIGN_MAX];
};

void products_begin(void);
void products_end(void);
void product_remember_foreign(struct upstream_world *u);
size_t http_calls(void); /* under way, late ones too */
/* The configuration of the world's dialects; which: 0 or 1, two equal ones. Kept until the end of
 * the program. */
const struct config *setup_config(const struct dialects *d, int which);
void setup_free(void);

/* ---- what becomes of objects behind the worker's back (server.c) ---- */

#define THEIRS "theirs" /* description of a flow that a tenant made */

/* What this answer says was made is lost within seconds. */
void server_loses(enum product p, const char *answer, const char *subscription);
/* From a backup without some object of ours. */
void server_restored(void);
/* Somebody renames a recorded object of ours; names are the servers' own business after that. */
void server_renames(void);

/* ---- Kafka (kafka.c) ---- */

void kafka_begin(size_t partitions);
void kafka_end(void);
void kafka_free(void);
/* valid: must be taken in; else it must become a dead letter. Texts are copied. */
void kafka_append(size_t partition, const char *key, const char *value, bool valid);
/* The inbox has it. */
void kafka_finished(int32_t partition, int64_t offset);
void kafka_paused(struct proc *p); /* of no heartbeats */
void kafka_outage(int64_t for_us);
bool kafka_quiet(void); /* everything is finished, and committed */
/* Each message's fate, once everything is quiet. */
void kafka_check(void);
void outbox_claimed(const char *id, const char *payload);
void outbox_done(const char *ids);
void dead_letter_kept(int32_t partition, int64_t offset, const char *id, bool published);
void dead_letter_marked(const char *id);

/* ---- what is played, and what is checked (scenario.c, check.c) ---- */

struct subscription {
    char uuid[UUID_TEXT];
    int organization, project, number;
    bool csa;     /* what its offering is, and its name says: with retrieval unless told so */
    bool rag;     /* as told last, and */
    int revision; /* so the variable of that name */
    bool suspended;
    bool whole; /* it was ready once, with `had_rag`, and has not been told otherwise since */
    bool had_rag;
    bool dedicated;   /* placed at the runtime of its organization */
    const char *tier; /* its plan */
    int orders;
    int chunk_size;            /* that its newest whole state ordered */
    bool active;               /* the newest of its events that were sent */
    int64_t time_us;           /* of it */
    char name[256];            /* that the naming rule gives, while its id is its number */
    bool foreign_name;         /* somebody else's object has it */
    bool doomed;               /* may fail, and needs a human */
    bool purged;               /* a purge was asked for and is due */
    bool renamed[PRODUCT_MAX]; /* by somebody else, once */
    /* Its server lost what it had, or performed a request later than it may: what is promised holds
     * from its next event on. */
    bool shaken;
    /* A request that was performed too late may have left one more key, or one more dataset at
     * RAGFlow, whose names are not unique: a termination takes it. */
    bool surplus;
    bool restored; /* it was terminated before: what a purge had to leave is told of it still */
};

struct world {
    uint64_t seed;
    int64_t now_us;
    struct rng rng;
    bool trace, storm;
    uint64_t storms;
    size_t n_partitions, posts;     /* posts: events that are still to be sent */
    int64_t late_max_ms;            /* that servers keep to */
    bool forgetful, renaming, late; /* servers; late: they do not keep to it */
    char breach[WORDS_MAX + 64];
    struct faults faults;
    struct dialects dialects;
    struct db *db;
    int64_t db_offset_us;
    struct proc procs[PROCS_MAX];
    size_t n_procs;
    uint64_t serials;
    struct proc *current; /* whose code runs; NULL: a server's */
    int crashes_left;
    struct upstream_world upstream[PRODUCT_MAX];
    struct subscription subscriptions[SUBSCRIPTIONS_MAX];
    size_t n_subscriptions;
    size_t lifetimes;
};

extern struct world world;

/* Plays one seed; true: the promise was kept. */
bool scenario_play(uint64_t seed, bool trace);
/* A change was intended for this job. */
void scenario_intended(int64_t job);
/* late: by a request that was performed too late. */
void subscription_shaken(const char *uuid, bool late);
bool subscription_has_surplus(const char *uuid);
void check_begin(void);
void check_promise(void);
/* After each statement. */
void check_bounds(void);
/* Before a request leaves. */
void check_request(struct proc *p, const struct exchange_request *r, const char *request_id);

#endif
