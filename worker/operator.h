/*
 * Who runs a command, for the audit log.
 */
#ifndef WORKER_OPERATOR_H
#define WORKER_OPERATOR_H

enum { OPERATOR_MAX = 80 };

/* "operator:NAME": the login, that behind sudo where there is one; the number where it has no name.
 */
void operator_name(char out[OPERATOR_MAX]);

#endif
