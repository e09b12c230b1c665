#include "supervisor.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/str.h"

struct supervisor {
    struct loop *loop;
    struct sockaddr_un address;
    socklen_t address_len; /* 0: nobody to tell */
    int fd;
    int64_t feed_ms; /* 0: no watchdog */
    struct loop_timer feed;
};

/* A path, or '@' and an abstract name. */
static void find_socket(struct supervisor *s)
{
    const char *path = getenv("NOTIFY_SOCKET");
    size_t n = path ? strlen(path) : 0;
    if (n < 2 || n >= sizeof(s->address.sun_path) || (path[0] != '/' && path[0] != '@')) {
        return;
    }
    s->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (s->fd < 0) {
        return;
    }
    s->address.sun_family = AF_UNIX;
    memcpy(s->address.sun_path, path, n);
    if (path[0] == '@') {
        s->address.sun_path[0] = '\0';
    }
    s->address_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n);
}

/* Half of what the supervisor allows; only where it is this very process that is watched. */
static int64_t watchdog_ms(void)
{
    const char *usec = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");
    int64_t us = 0, watched = 0;
    if (!usec || !str_to_i64(usec, &us) || us < 2000) {
        return 0;
    }
    if (pid && (!str_to_i64(pid, &watched) || watched != getpid())) {
        return 0;
    }
    return us / 2000;
}

static void feed(void *ctx)
{
    struct supervisor *s = ctx;
    struct err err;
    supervisor_tell(s, "WATCHDOG=1");
    /* Where the timer cannot be set the supervisor will act, which is right. */
    (void)loop_timer_set(s->loop, &s->feed, s->feed_ms, &err);
}

struct supervisor *supervisor_new(struct loop *loop, struct err *err)
{
    struct supervisor *s = calloc(1, sizeof(*s));
    if (!s) {
        err_nomem(err);
        return NULL;
    }
    s->loop = loop;
    s->fd = -1;
    s->feed = (struct loop_timer){.fn = feed, .ctx = s};
    find_socket(s);
    s->feed_ms = s->address_len ? watchdog_ms() : 0;
    if (s->feed_ms > 0) {
        feed(s);
    }
    return s;
}

void supervisor_free(struct supervisor *s)
{
    if (!s) {
        return;
    }
    loop_timer_cancel(s->loop, &s->feed);
    if (s->fd >= 0) {
        close(s->fd);
    }
    free(s);
}

void supervisor_tell(const struct supervisor *s, const char *assignment)
{
    if (s->address_len) {
        (void)sendto(s->fd, assignment, strlen(assignment), MSG_NOSIGNAL,
                     (const struct sockaddr *)&s->address, s->address_len);
    }
}
