/*
 * librdkafka's mock cluster as a process of its own, for deploy/quickstart and for tests that kill
 * a client while "the cluster" lives on:
 *
 *   mockbroker BROKERS TOPIC:PARTITIONS...
 *
 * Prints the bootstrap servers in one line and runs until SIGTERM, SIGINT or SIGHUP.
 */
#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/str.h"

enum { BROKERS_MAX = 9, TOPIC_MAX = 249, PARTITIONS_MAX = 1000 };

static int usage(void)
{
    fputs("usage: mockbroker BROKERS TOPIC:PARTITIONS...\n", stderr);
    return 2;
}

static int add_topic(rd_kafka_mock_cluster_t *cluster, const char *argument, int replicas)
{
    const char *colon = strrchr(argument, ':');
    char name[TOPIC_MAX + 1];
    int64_t partitions;
    if (colon == NULL || colon == argument || (size_t)(colon - argument) >= sizeof(name) ||
        !str_to_i64(colon + 1, &partitions) || partitions < 1 || partitions > PARTITIONS_MAX) {
        fprintf(stderr, "mockbroker: %s: want NAME:PARTITIONS, 1 to %d\n", argument,
                PARTITIONS_MAX);
        return -1;
    }
    str_copy(name, (size_t)(colon - argument) + 1, argument);
    rd_kafka_resp_err_t code = rd_kafka_mock_topic_create(cluster, name, (int)partitions, replicas);
    if (code == RD_KAFKA_RESP_ERR_NO_ERROR)
        return 0;
    fprintf(stderr, "mockbroker: topic %s: %s\n", name, rd_kafka_err2str(code));
    return -1;
}

static int serve(rd_kafka_t *rk, int brokers, char **topics, const sigset_t *ends)
{
    rd_kafka_mock_cluster_t *cluster = rd_kafka_mock_cluster_new(rk, brokers);
    int rc = 0;
    if (cluster == NULL) {
        fputs("mockbroker: the cluster could not be started\n", stderr);
        return 1;
    }
    for (; *topics != NULL && rc == 0; topics++)
        rc = add_topic(cluster, *topics, brokers < 3 ? brokers : 3);
    if (rc == 0) {
        int signo;
        puts(rd_kafka_mock_cluster_bootstraps(cluster));
        fflush(stdout);
        sigwait(ends, &signo);
    }
    rd_kafka_mock_cluster_destroy(cluster);
    return rc == 0 ? 0 : 1;
}

int main(int argc, char **argv)
{
    int64_t brokers;
    if (argc < 2 || !str_to_i64(argv[1], &brokers) || brokers < 1 || brokers > BROKERS_MAX)
        return usage();

    sigset_t ends;
    sigemptyset(&ends);
    sigaddset(&ends, SIGTERM);
    sigaddset(&ends, SIGINT);
    sigaddset(&ends, SIGHUP);
    sigprocmask(SIG_BLOCK, &ends, NULL);

    char why[256] = "";
    rd_kafka_t *rk = rd_kafka_new(RD_KAFKA_PRODUCER, NULL, why, sizeof(why));
    if (rk == NULL) {
        fprintf(stderr, "mockbroker: %s\n", why);
        return 1;
    }
    int status = serve(rk, (int)brokers, argv + 2, &ends);
    rd_kafka_destroy(rk);
    return status;
}
