/*
 * build/bin/sim: plays seeds, many or one.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/rng.h"
#include "base/str.h"
#include "setup.h"
#include "sim.h"
#include "world.h"

enum { JOBS_MAX = 64, SEEDS_DEFAULT = 1000 };

static const char help[] =
    "sim - plays the worker's production code against a simulated world\n"
    "\n"
    "  sim [--seeds N] [--first-seed F] [--jobs J]   many seeds, J processes (default: 1000 from "
    "1 or\n"
    "                                                SIM_FIRST_SEED, 1)\n"
    "  sim --seed S [--trace]                        one seed; --trace tells its story\n"
    "\n"
    "A seed decides everything: which products and versions, who orders what, what fails and when\n"
    "(processes, connections, servers, clocks, messages), down to every id. When its storms are\n"
    "over, the promise is checked: an active subscription has exactly one workspace, one "
    "collection\n"
    "if it uses retrieval, and one live key, all recorded; a terminated one has nothing but what\n"
    "retention keeps; nothing is without a record, and nothing of others was touched; keys open, "
    "and\n"
    "what objects hold is what was ordered. Where a server lost what it had, or acted later than "
    "any\n"
    "request may, that is so from the subscription's next event on. While it runs\n"
    "every changing request must have a committed intent and come from the holder of its job's\n"
    "fence, within the lease.\n"
    "\n"
    "The same seed of the same program plays the same story. When a seed breaks the promise, its\n"
    "number is printed and the status is 1; replay it with\n"
    "\n"
    "  sim --seed S --trace | less\n"
    "\n"
    "where each line is: seconds, who, what. w1 ... w5 are the processes, `database' performs\n"
    "their statements, `langflow' and `ragflow' perform their requests, `kafka' takes events.\n";

struct options {
    uint64_t first, seeds;
    int jobs;
    bool one, trace;
};

/* What a process of this program tells the one that started it. */
struct report {
    uint64_t seeds, lifetimes, failed; /* failed: 1 + the seed; 0: none */
    bool over;
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void say_failure(uint64_t seed)
{
    fprintf(stderr, "seed %" PRIu64 ": %s\nreplay: sim --seed %" PRIu64 " --trace\n", seed,
            world.breach, seed);
}

static void clean(void)
{
    queue_free();
    kafka_free();
    setup_free();
}

/* ---- many ---- */

static void work(const struct options *o, int n, int out)
{
    struct report r = {0};
    double told = now();
    for (uint64_t i = (uint64_t)n; i < o->seeds; i += (uint64_t)o->jobs) {
        bool kept = scenario_play(o->first + i, false);
        r.seeds++;
        r.lifetimes += world.lifetimes;
        if (!kept) {
            say_failure(o->first + i);
            r.failed = 1 + o->first + i;
            break;
        }
        if (now() - told > 0.2) {
            told = now();
            (void)!write(out, &r, sizeof(r));
        }
    }
    r.over = true;
    (void)!write(out, &r, sizeof(r));
}

static void progress(const struct report *sum, uint64_t seeds, double since)
{
    double took = now() - since;
    if (isatty(STDERR_FILENO)) {
        fprintf(stderr, "\r%" PRIu64 " of %" PRIu64 " seeds, %.0f lifetimes/s ", sum->seeds, seeds,
                took > 0 ? (double)sum->lifetimes / took : 0);
    }
}

/* True while something was read. */
static bool collect(int in, struct report *last, struct report *sum, bool *over)
{
    struct report r;
    if (read(in, &r, sizeof(r)) != (ssize_t)sizeof(r)) {
        return false;
    }
    sum->seeds += r.seeds - last->seeds;
    sum->lifetimes += r.lifetimes - last->lifetimes;
    sum->failed = r.failed ? r.failed : sum->failed;
    *over = r.over;
    *last = r;
    return true;
}

static int many(const struct options *o)
{
    struct report last[JOBS_MAX] = {0}, sum = {0};
    pid_t children[JOBS_MAX];
    int pipes[2], running = o->jobs, status;
    double since = now();
    int in[JOBS_MAX];
    for (int i = 0; i < o->jobs; i++) {
        if (pipe(pipes) || (children[i] = fork()) < 0) {
            perror("sim");
            return 1;
        }
        if (children[i] == 0) {
            close(pipes[0]);
            work(o, i, pipes[1]);
            clean();
            exit(0);
        }
        close(pipes[1]);
        in[i] = pipes[0];
    }
    bool died = false;
    for (int i = 0; running > 0; i = (i + 1) % o->jobs) {
        bool over = false;
        if (in[i] < 0) {
            continue;
        }
        if (!collect(in[i], &last[i], &sum, &over) || over) {
            died = died || !over;
            running--;
            close(in[i]);
            in[i] = -1;
        }
        progress(&sum, o->seeds, since);
        for (int k = 0; sum.failed && k < o->jobs; k++) {
            if (in[k] >= 0) {
                kill(children[k], SIGTERM);
                close(in[k]);
                in[k] = -1;
                running--;
            }
        }
    }
    for (int i = 0; i < o->jobs; i++) {
        waitpid(children[i], &status, 0);
        died = died || (!sum.failed && status != 0);
    }
    double took = now() - since;
    printf("%s%" PRIu64 " seeds, %" PRIu64
           " lifetimes in %.1f s: %.0f lifetimes/s in %d process%s\n",
           isatty(STDERR_FILENO) ? "\n" : "", sum.seeds, sum.lifetimes, took,
           (double)sum.lifetimes / took, o->jobs, o->jobs == 1 ? "" : "es");
    if (died) {
        fputs("a process ended before its seeds did\n", stderr);
    }
    return sum.failed || died;
}

/* ---- one ---- */

static int one(const struct options *o)
{
    bool kept = scenario_play(o->first, o->trace);
    if (!kept) {
        fflush(stdout);
        say_failure(o->first);
    } else if (!o->trace) {
        printf("seed %" PRIu64 ": the promise was kept\n", o->first);
    }
    clean();
    return kept ? 0 : 1;
}

/* ---- the command line ---- */

static uint64_t number(const char *text, const char *what)
{
    int64_t n;
    if (!str_to_i64(text, &n) || n < 0) {
        fprintf(stderr, "sim: %s wants a whole number; see sim --help\n", what);
        exit(2);
    }
    return (uint64_t)n;
}

static struct options parse(int argc, char **argv)
{
    static const struct option known[] = {
        {"seeds", required_argument, NULL, 'n'},
        {"first-seed", required_argument, NULL, 'f'},
        {"jobs", required_argument, NULL, 'j'},
        {"seed", required_argument, NULL, 's'},
        {"trace", no_argument, NULL, 't'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    const char *first = getenv("SIM_FIRST_SEED");
    struct options o = {.first = first && *first ? number(first, "SIM_FIRST_SEED") : 1,
                        .seeds = SEEDS_DEFAULT,
                        .jobs = 1};
    int c;
    while ((c = getopt_long(argc, argv, "", known, NULL)) != -1) {
        switch (c) {
        case 'n':
            o.seeds = number(optarg, "--seeds");
            break;
        case 'f':
            o.first = number(optarg, "--first-seed");
            break;
        case 'j':
            o.jobs = (int)number(optarg, "--jobs");
            break;
        case 's':
            o.first = number(optarg, "--seed");
            o.one = true;
            break;
        case 't':
            o.trace = true;
            break;
        case 'h':
            fputs(help, stdout);
            exit(0);
        default:
            fputs("sim: see sim --help\n", stderr);
            exit(2);
        }
    }
    if (optind < argc || o.jobs < 1 || o.jobs > JOBS_MAX || (o.trace && !o.one)) {
        fputs("sim: see sim --help\n", stderr);
        exit(2);
    }
    return o;
}

int main(int argc, char **argv)
{
    struct options o = parse(argc, argv);
    int sink = STDERR_FILENO;
    rng_init();
    /* What a process of the simulated world logs as an error is part of its story alone. */
    log_setup(o.trace ? LOG_INFO : LOG_ERROR + 1, false, o.trace ? STDOUT_FILENO : sink);
    if (o.trace) {
        setvbuf(stdout, NULL, _IONBF, 0);
    }
    return o.one ? one(&o) : many(&o);
}
