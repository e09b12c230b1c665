/*
 * Places where a test build can be made to die or to fail: the CMake option PROVISIONER_FAULTS,
 * with libfiu; test/faults says how they are told what to do. In every other build nothing of this
 * is left: no call, no name, no argument evaluated.
 */
#ifndef BASE_FAULT_H
#define BASE_FAULT_H

#ifdef PROVISIONER_FAULTS

#include <stdbool.h>

/* Notes that the place was passed; the process may die in here, by SIGKILL. */
void fault_point(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* Shall this one fail? fmt makes its kind: "commit/before", "statement/step_name". */
bool fault_fails(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#define FAULT_POINT(...) fault_point(__VA_ARGS__)
#define FAULT_FAILS(...) fault_fails(__VA_ARGS__)

#else

#define FAULT_POINT(...) ((void)0)
#define FAULT_FAILS(...) (false)

#endif

#endif
