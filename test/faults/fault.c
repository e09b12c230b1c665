#include "faults/fault.h"

#include <fcntl.h>
#include <fiu-control.h>
#include <fiu.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* libfiu asks us whether a place that was named fails at this pass. */
struct aim {
    char name[FAULT_NAME_MAX];
    long from, to; /* passes; from 0: all */
    long passes;
};

enum { NAMES_MAX = 4096, AIMS_MAX = 8 };

static struct aim aims[AIMS_MAX];
static int n_aims;
static int log_fd = -1;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static uint64_t passed[NAMES_MAX];

static int its_turn(const char *name, int *value, void **info, unsigned *flags)
{
    struct aim *a = *info;
    (void)name;
    (void)value;
    (void)flags;
    long pass = __atomic_add_fetch(&a->passes, 1, __ATOMIC_RELAXED);
    return a->from == 0 || (pass >= a->from && pass <= a->to);
}

static void not_understood(void)
{
    static const char text[] = "faults: the environment is not understood\n";
    (void)!write(STDERR_FILENO, text, sizeof(text) - 1);
    _exit(2);
}

/* "NAME#K" or "NAME#K-L" of n bytes; K is 1 where it is left out. */
static void aim(const char *prefix, const char *wanted, int n)
{
    const char *count = memchr(wanted, '#', (size_t)n);
    int len = count ? (int)(count - wanted) : n;
    if (n_aims == AIMS_MAX || len == 0) {
        not_understood();
    }
    struct aim *a = &aims[n_aims++];
    (void)snprintf(a->name, sizeof(a->name), "%s%.*s", prefix, len, wanted);
    char *end = NULL;
    a->from = count ? strtol(count + 1, &end, 10) : 1;
    a->to = end && *end == '-' ? strtol(end + 1, NULL, 10) : a->from;
    if (a->from < 0 || fiu_enable_external(a->name, 1, a, 0, its_turn)) {
        not_understood();
    }
}

static void aim_all(const char *prefix, const char *variable)
{
    const char *wanted = getenv(variable);
    while (wanted && wanted[0]) {
        int n = (int)strcspn(wanted, ",");
        aim(prefix, wanted, n);
        wanted += n + (wanted[n] == ',');
    }
}

int fault_open(const char *variable)
{
    const char *path = getenv(variable);
    return path && path[0] ? open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600) : -1;
}

__attribute__((constructor)) static void begin(void)
{
    (void)fiu_init(0);
    log_fd = fault_open("PROVISIONER_FAULT_LOG");
    aim_all("", "PROVISIONER_CRASH_AT");
    aim_all("fail/", "PROVISIONER_FAIL");
}

void fault_append(int fd, const char *what, const char *name)
{
    char line[FAULT_NAME_MAX + 16];
    int n = snprintf(line, sizeof(line), "%s %s\n", what, name);
    if (fd >= 0 && n > 0 && (size_t)n < sizeof(line)) {
        (void)!write(fd, line, (size_t)n);
    }
}

/* True the first time. */
static bool is_new(const char *name)
{
    uint64_t hash = 14695981039346656037u;
    bool new = false;
    for (const char *p = name; *p; p++) {
        hash = (hash ^ (unsigned char)*p) * 1099511628211u;
    }
    (void)pthread_mutex_lock(&lock);
    for (size_t i = 0; i < NAMES_MAX; i++) {
        uint64_t *slot = &passed[(hash + i) % NAMES_MAX];
        if (*slot == hash) {
            break;
        }
        if (*slot == 0) {
            *slot = hash;
            new = true;
            break;
        }
    }
    (void)pthread_mutex_unlock(&lock);
    return new;
}

void fault_point(const char *fmt, ...)
{
    char name[FAULT_NAME_MAX];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(name, sizeof(name), fmt, ap);
    va_end(ap);
    if (log_fd >= 0 && is_new(name)) {
        fault_append(log_fd, "passed", name);
    }
    if (fiu_fail(name)) {
        fault_append(log_fd, "died", name);
        (void)kill(getpid(), SIGKILL);
        for (;;) {
            (void)pause();
        }
    }
}

bool fault_fails(const char *fmt, ...)
{
    static const char prefix[] = "fail/";
    char name[FAULT_NAME_MAX];
    va_list ap;
    memcpy(name, prefix, sizeof(prefix));
    va_start(ap, fmt);
    (void)vsnprintf(name + sizeof(prefix) - 1, sizeof(name) - sizeof(prefix), fmt, ap);
    va_end(ap);
    if (!fiu_fail(name)) {
        return false;
    }
    fault_append(log_fd, "failed", name + sizeof(prefix) - 1);
    return true;
}
