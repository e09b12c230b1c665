#include "lanes.h"

#include <stdlib.h>

#include "base/str.h"
#include "base/uuid.h"
#include "upstream.h"

enum { LANES_MAX = CONFIG_RUNTIMES_MAX + 64 }; /* jobs may name runtimes that left the file */

struct lane {
    char *name;
    char organization[UUID_TEXT];
    int64_t credit;
};

struct lanes {
    struct lane list[LANES_MAX];
    size_t n;
};

struct lanes *lanes_new(void)
{
    return calloc(1, sizeof(struct lanes));
}

void lanes_free(struct lanes *l)
{
    for (size_t i = 0; l && i < l->n; i++) {
        free(l->list[i].name);
    }
    free(l);
}

static struct lane *find(struct lanes *l, const char *name)
{
    for (size_t i = 0; i < l->n; i++) {
        if (str_eq(l->list[i].name, name)) {
            return &l->list[i];
        }
    }
    if (l->n == LANES_MAX || !(l->list[l->n].name = str_dup(name))) {
        return NULL;
    }
    return &l->list[l->n++];
}

void lanes_served(struct lanes *l, const char *lane, const char *organization, int64_t credit)
{
    struct lane *at = find(l, lane);
    if (at) {
        str_copy(at->organization, sizeof(at->organization), organization);
        at->credit = credit;
    }
}

size_t lanes_room(size_t places, size_t in_hand, size_t in_lane)
{
    size_t left = places > in_hand ? places - in_hand : 0;
    return left > in_lane ? (left - in_lane + 1) / 2 : 0;
}

static void add_number(struct buf *out, const char *before, int64_t n)
{
    buf_adds(out, before);
    buf_add_i64(out, n);
}

/* With one runtime alone there is nobody to leave places to. */
static void add_rooms(const struct config *config, struct executor *x, struct buf *out)
{
    size_t places = (size_t)config->worker_max_jobs, in_hand = executor_jobs(x);
    bool alone = config->n_runtimes == 1;
    buf_adds(out, "\"room\":{");
    for (size_t i = 0; i < config->n_runtimes; i++) {
        const char *name = config->runtimes[i].name;
        size_t room = alone ? places : lanes_room(places, in_hand, executor_jobs_of(x, name));
        size_t open = upstreams_room(executor_upstreams(x), name);
        buf_adds(out, i ? "," : "");
        buf_add_json(out, name);
        buf_addc(out, ':');
        buf_add_i64(out, (int64_t)(open < room ? open : room));
    }
    buf_addc(out, '}');
    add_number(out, ",\"room_else\":", (int64_t)(alone ? places : lanes_room(places, in_hand, 0)));
}

/* Where nothing is in their way they are not told apart. */
static void add_held(const struct config *config, struct executor *x, struct buf *out)
{
    const char *comma = "";
    buf_adds(out, ",\"held\":{");
    for (size_t i = 0; i < config->n_runtimes; i++) {
        const char *name = config->runtimes[i].name;
        size_t room = upstreams_room_for_held(executor_upstreams(x), name);
        if (room != SIZE_MAX) {
            buf_adds(out, comma);
            buf_add_json(out, name);
            buf_addf(out, ":%zu", room);
            comma = ",";
        }
    }
    buf_addc(out, '}');
}

static void add_round(const struct lanes *l, struct buf *out)
{
    buf_adds(out, ",\"after\":{");
    for (size_t i = 0; i < l->n; i++) {
        buf_adds(out, i ? "," : "");
        buf_add_json(out, l->list[i].name);
        buf_adds(out, ":\"");
        buf_adds(out, l->list[i].organization);
        buf_addc(out, '"');
    }
    buf_adds(out, "},\"credit\":{");
    for (size_t i = 0; i < l->n; i++) {
        buf_adds(out, i ? "," : "");
        buf_add_json(out, l->list[i].name);
        buf_addc(out, ':');
        buf_add_i64(out, l->list[i].credit);
    }
    buf_addc(out, '}');
}

void lanes_policy(const struct lanes *l, const struct config *config, struct executor *x,
                  struct buf *out)
{
    add_number(out, "{\"organization_max\":", config->scheduling_organization_max);
    add_number(out, ",\"runtime_max\":", config->scheduling_runtime_max);
    add_number(out, ",\"weights\":{\"free\":", config->scheduling_weight_free);
    add_number(out, ",\"plus\":", config->scheduling_weight_plus);
    add_number(out, ",\"pro\":", config->scheduling_weight_pro);
    add_number(out, ",\"enterprise\":", config->scheduling_weight_enterprise);
    buf_adds(out, "},");
    add_rooms(config, x, out);
    add_held(config, x, out);
    add_round(l, out);
    buf_addc(out, '}');
}
