/*
 * Help in all its forms, from the one table of commands.
 */
#ifndef WORKER_HELP_H
#define WORKER_HELP_H

#include "cli.h"

/* Each prints to standard output and returns an exit status. */
int help_overview(void);
int help_command(const struct cli_command *command);
int help_manual(void);     /* roff, provisioner(1) */
int help_completion(void); /* for bash */

#endif
