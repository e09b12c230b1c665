/*
 * standin --dialect NAME [--profile VERSION] --listen HOST:PORT --token SECRET [--port-file FILE]
 * ...
 *
 * Each --dialect begins another endpoint; the options after it are that endpoint's. A profile is
 * the product's version whose ways the dialect takes on. Prints one line for each endpoint,
 * "standin DIALECT http://HOST:PORT", when all listen. SIGTERM and SIGINT end it.
 */
#include "standin.h"

#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/rng.h"
#include "base/str.h"

enum { ENDPOINTS_MAX = 16, PATH_BYTES = 4096 };

struct wanted {
    struct endpoint_options options;
    const char *profile, *port_file;
};

static int usage(const char *why)
{
    fprintf(stderr,
            "standin: %s\nusage: standin --dialect NAME [--profile VERSION] --listen HOST:PORT "
            "--token SECRET [--port-file FILE] ...\n",
            why);
    return 2;
}

/* Returns the number of endpoints, or -1. */
static int parse(int argc, char **argv, struct wanted *out)
{
    static const struct option options[] = {
        {"dialect", required_argument, NULL, 'd'},   {"listen", required_argument, NULL, 'l'},
        {"token", required_argument, NULL, 't'},     {"profile", required_argument, NULL, 'P'},
        {"port-file", required_argument, NULL, 'p'}, {0}};
    int n = 0, c;
    while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
        struct wanted *w = n ? &out[n - 1] : NULL;
        if (c == 'd') {
            if (n == ENDPOINTS_MAX || !(out[n].options.dialect = dialect_find(optarg)))
                return -1;
            out[n++].options.listen = "127.0.0.1:0";
        } else if (!w || c == '?') {
            return -1;
        } else if (c == 'l') {
            w->options.listen = optarg;
        } else if (c == 't') {
            w->options.token = optarg;
        } else if (c == 'P') {
            w->profile = optarg;
        } else {
            w->port_file = optarg;
        }
    }
    for (int i = 0; i < n; i++) {
        struct endpoint_options *o = &out[i].options;
        if (!o->token || !dialect_profile(o->dialect, out[i].profile, &o->profile))
            return -1;
    }
    return optind == argc ? n : -1;
}

/* Whole or not at all: whoever waits for the file may read it as soon as it is there. */
static int write_port(const char *path, int port)
{
    char other[PATH_BYTES];
    if (snprintf(other, sizeof(other), "%s.new", path) >= (int)sizeof(other))
        return -1;
    FILE *f = fopen(other, "w");
    if (!f)
        return -1;
    bool ok = fprintf(f, "%d\n", port) > 0;
    ok = fclose(f) == 0 && ok;
    return ok && rename(other, path) == 0 ? 0 : -1;
}

static void raise_limits(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static void on_signal(void *ctx, uint32_t events)
{
    (void)events;
    loop_stop(ctx);
}

static int watch_signals(struct loop *loop, struct err *err)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    int fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    if (fd < 0)
        return err_set(err, ERR_INTERNAL, "signalfd does not work");
    return loop_fd_add(loop, fd, EPOLLIN, on_signal, loop, err) < 0 ? -1 : fd;
}

static int start(struct loop *loop, const struct wanted *w, struct endpoint **out, struct err *err)
{
    *out = endpoint_new(loop, &w->options, err);
    if (!*out)
        return -1;
    int port = endpoint_port(*out);
    if (w->port_file && write_port(w->port_file, port) < 0)
        return err_set(err, ERR_INTERNAL, "can't write %s", w->port_file);
    printf("standin %s http://127.0.0.1:%d\n", w->options.dialect->name, port);
    return 0;
}

static int serve(const struct wanted *wanted, int n)
{
    struct endpoint *endpoints[ENDPOINTS_MAX] = {0};
    struct err err;
    struct loop *loop = loop_new(&err);
    int signals = loop ? watch_signals(loop, &err) : -1;
    int rc = signals < 0 ? -1 : 0;
    for (int i = 0; i < n && rc == 0; i++)
        rc = start(loop, &wanted[i], &endpoints[i], &err);
    if (rc == 0) {
        fflush(stdout);
        rc = loop_run(loop, &err);
    }
    if (rc < 0)
        fprintf(stderr, "standin: %s\n", err.msg);
    for (int i = 0; i < n; i++)
        endpoint_free(endpoints[i]);
    if (signals >= 0) {
        loop_fd_del(loop, signals);
        close(signals);
    }
    loop_free(loop);
    return rc < 0 ? 1 : 0;
}

int main(int argc, char **argv)
{
    struct wanted wanted[ENDPOINTS_MAX] = {0};
    int n = parse(argc, argv, wanted);
    if (n < 1)
        return usage("wrong arguments");
    rng_init();
    raise_limits();
    return serve(wanted, n);
}
