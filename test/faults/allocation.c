/*
 * Allocations that fail: the program's own, which the linker sends here (--wrap), and those of the
 * libraries that can be given an allocator, libcurl and cJSON. libpq, librdkafka and libyaml
 * cannot; librdkafka ends the process where memory does.
 */
#include <cjson/cJSON.h>
#include <curl/curl.h>
#include <execinfo.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "faults/fault.h"

enum {
    SITES_MAX = 1 << 14,
    FRAMES = 24,
    FRAMES_TOLD = 5, /* of the program's own, that make a site */
    /* One failure at a time: what deals with it may allocate. */
    SPARED = 20,
};

extern void *__real_malloc(size_t size);
extern void *__real_calloc(size_t n, size_t size);
extern void *__real_realloc(void *p, size_t size);
extern void *__real_reallocarray(void *p, size_t n, size_t size);
extern CURLcode __real_curl_global_init(long flags);
/* The linker's names for the program's bounds. */
extern const char __executable_start, etext;

void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t size);
void *__wrap_reallocarray(void *p, size_t n, size_t size);
CURLcode __wrap_curl_global_init(long flags);

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static uint64_t sites[SITES_MAX];
static int sites_fd = -1;
static int spared;
static __thread bool inside; /* the unwinder may allocate */

/* ---- sites ---- */

static bool add_site(uint64_t site)
{
    for (size_t i = 0; i < SITES_MAX; i++) {
        uint64_t *slot = &sites[(site + i) % SITES_MAX];
        if (*slot == site) {
            return false;
        }
        if (*slot == 0) {
            *slot = site;
            return true;
        }
    }
    return false;
}

/* Where in the program this is, whatever lies between: offsets from its beginning. */
static uint64_t here(char *text, size_t size)
{
    void *frames[FRAMES];
    int n = backtrace(frames, FRAMES);
    uint64_t hash = 14695981039346656037u;
    size_t told = 0, len = 0;
    /* Before those are this function, its callers and the wrapped allocation itself. */
    for (int i = 3; i < n && told < FRAMES_TOLD; i++) {
        const char *at = frames[i];
        if (at < &__executable_start || at >= &etext) {
            continue;
        }
        uint64_t offset = (uint64_t)(at - &__executable_start);
        hash = (hash ^ offset) * 1099511628211u;
        len += (size_t)snprintf(text + len, size - len, " 0x%llx", (unsigned long long)offset - 1);
        told++;
    }
    return hash ? hash : 1;
}

__attribute__((constructor)) static void read_sites(void)
{
    sites_fd = fault_open("PROVISIONER_FAIL_SITES");
    FILE *f = sites_fd >= 0 ? fdopen(dup(sites_fd), "r") : NULL;
    char line[FAULT_NAME_MAX];
    while (f && fgets(line, sizeof(line), f)) {
        char *number = strchr(line, ' ');
        (void)add_site(number ? strtoull(number, NULL, 16) : 0);
    }
    if (f) {
        (void)fclose(f);
    }
}

/* Its place fails the first time; then others are spared for a while. */
static __attribute__((noinline)) bool site_fails(void)
{
    char text[160] = "", name[FAULT_NAME_MAX];
    bool fails = false;
    if (sites_fd < 0 || inside) {
        return false;
    }
    inside = true;
    uint64_t site = here(text, sizeof(text));
    (void)pthread_mutex_lock(&lock);
    if (spared > 0) {
        spared--;
    } else if (add_site(site)) {
        fails = true;
        spared = SPARED;
        (void)snprintf(name, sizeof(name), "%016llx%s", (unsigned long long)site, text);
        fault_append(sites_fd, "site", name);
    }
    (void)pthread_mutex_unlock(&lock);
    inside = false;
    return fails;
}

static __attribute__((noinline)) bool fails(void)
{
    return site_fails() || fault_fails("allocation");
}

/* ---- the program's own ---- */

void *__wrap_malloc(size_t size)
{
    return fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size)
{
    return fails() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t size)
{
    return fails() ? NULL : __real_realloc(p, size);
}

void *__wrap_reallocarray(void *p, size_t n, size_t size)
{
    return fails() ? NULL : __real_reallocarray(p, n, size);
}

/* ---- libraries' ---- */

static char *copy(const char *s)
{
    size_t size = strlen(s) + 1;
    char *p = __wrap_malloc(size);
    return p ? memcpy(p, s, size) : NULL;
}

CURLcode __wrap_curl_global_init(long flags)
{
    return curl_global_init_mem(flags, __wrap_malloc, free, __wrap_realloc, copy, __wrap_calloc);
}

__attribute__((constructor)) static void give_allocators(void)
{
    cJSON_Hooks hooks = {.malloc_fn = __wrap_malloc, .free_fn = free};
    cJSON_InitHooks(&hooks);
}
