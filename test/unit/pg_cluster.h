/*
 * A private PostgreSQL cluster for one test program, through test/tools/pg_private. A server that
 * does not start fails the test: nothing is skipped.
 */
#ifndef UNIT_PG_CLUSTER_H
#define UNIT_PG_CLUSTER_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

struct pg_cluster {
    char url[256];   /* an ordinary role that owns its database */
    char admin[256]; /* the superuser, same database */
};

/* pg_private's exit status; the first line of its output without the newline. */
static inline int pg_cluster_command(const char *command, char *out, size_t size)
{
    int ends[2];
    if (pipe(ends) != 0)
        return -1;
    pid_t pid = fork();
    if (pid == 0) {
        dup2(ends[1], STDOUT_FILENO);
        close(ends[0]);
        close(ends[1]);
        execl(TEST_TOOLS "/pg_private", "pg_private", command, TEST_WORK "/pg", (char *)NULL);
        _exit(127);
    }
    close(ends[1]);
    size_t len = 0;
    ssize_t n = 1;
    while (len + 1 < size && (n = read(ends[0], out + len, size - 1 - len)) > 0)
        len += (size_t)n;
    out[len] = '\0';
    out[strcspn(out, "\n")] = '\0';
    close(ends[0]);
    int status = -1;
    if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
        return -1;
    return WEXITSTATUS(status);
}

/* start, stop, restart, kill, remove; 0 when it worked. */
static inline int pg_cluster_do(const char *command)
{
    char line[256];
    return pg_cluster_command(command, line, sizeof(line));
}

/* A fresh cluster; what an earlier run left is removed. */
static inline int pg_cluster_start(struct pg_cluster *c)
{
    if (pg_cluster_do("remove") != 0 || pg_cluster_command("start", c->url, sizeof(c->url)) != 0 ||
        pg_cluster_command("admin", c->admin, sizeof(c->admin)) != 0) {
        fprintf(stderr, "the private PostgreSQL cluster did not start\n");
        return -1;
    }
    return 0;
}

#endif
