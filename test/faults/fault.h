/*
 * What the faults build is told, by its environment. Names may end in "*", which stands for
 * anything.
 *
 *   PROVISIONER_CRASH_AT=NAME#K   SIGKILL of itself at the K-th pass of a place
 *                                 ("store/step_name/before")
 *   PROVISIONER_FAIL=KIND#N,...   the N-th of a kind fails, once; N-M: that many; 0: every one
 *                                 ("statement/step_name", "request/after", "allocation")
 *   PROVISIONER_FAIL_SITES=FILE   the first allocation of every place in the program that the file
 *                                 does not list fails, and is then listed
 *   PROVISIONER_FAULT_LOG=FILE    what was passed, failed or was deadly, a line each; a place's
 *                                 name once
 */
#ifndef FAULTS_FAULT_H
#define FAULTS_FAULT_H

#include <stdbool.h>
#include <stddef.h>

#include "base/fault.h"

enum { FAULT_NAME_MAX = 320 };

/* Appends one line; may be called from every thread, and allocates nothing. */
void fault_append(int fd, const char *what, const char *name);
/* The file that an environment variable names; -1: none. */
int fault_open(const char *variable);

#endif
