/*
 * The commands. Options, --config and --help are parsed, and the number of operands is checked,
 * before a handler is entered (cli.h): argc and argv are the operands alone, argv[argc] is NULL.
 * What it returns is the exit status: one of enum cli_exit.
 */
#ifndef WORKER_COMMANDS_H
#define WORKER_COMMANDS_H

#include <stddef.h>

#include "cli.h"

int cmd_run(int argc, char **argv, const struct cli *cli);
int cmd_migrate(int argc, char **argv, const struct cli *cli);
int cmd_submit(int argc, char **argv, const struct cli *cli);
int cmd_jobs(int argc, char **argv, const struct cli *cli);
int cmd_orders(int argc, char **argv, const struct cli *cli);
int cmd_backfill(int argc, char **argv, const struct cli *cli);
int cmd_show(int argc, char **argv, const struct cli *cli);
int cmd_replay(int argc, char **argv, const struct cli *cli);
int cmd_cancel(int argc, char **argv, const struct cli *cli);
int cmd_pause(int argc, char **argv, const struct cli *cli);
int cmd_resume(int argc, char **argv, const struct cli *cli);
int cmd_retention(int argc, char **argv, const struct cli *cli);
int cmd_dead_letters(int argc, char **argv, const struct cli *cli);
int cmd_doctor(int argc, char **argv, const struct cli *cli);
int cmd_config(int argc, char **argv, const struct cli *cli);
int cmd_graph(int argc, char **argv, const struct cli *cli);
int cmd_version(int argc, char **argv, const struct cli *cli);
int cmd_help(int argc, char **argv, const struct cli *cli);

/* The one table of commands: dispatch, help, the manual page and the completions derive from it. */
extern const struct cli_command commands[];
extern const size_t n_commands;

#endif
