/*
 * The command line: one table of commands and options, parsed by getopt_long before a command
 * starts; usage errors, exit statuses, help.
 */
#ifndef WORKER_CLI_H
#define WORKER_CLI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "config/config.h"

enum cli_exit {
    CLI_OK = 0,
    CLI_FAILED = 1,    /* it was tried and did not work */
    CLI_USAGE = 2,     /* wrong usage or configuration; nothing was tried */
    CLI_ATTENTION = 3, /* done, and something needs a person */
};

/* Ids of options; one space for all commands. */
enum cli_option_id {
    OPT_NONE,
    OPT_CONFIG,
    OPT_HELP,
    OPT_JSON,
    OPT_CHECK,
    OPT_DIRECT,
    OPT_SKIP_INVALID,
    OPT_TIMEOUT,
    OPT_STATE,
    OPT_ORGANIZATION,
    OPT_ERROR,
    OPT_SINCE,
    OPT_LIMIT,
    OPT_FROM_STEP,
    OPT_DRY_RUN,
    OPT_RATE,
    OPT_YES,
    OPT_WAIT,
    OPT_NO_WAIT,
    OPT_NOW,
    OPT_ALL,
    OPT_FORMAT,
    OPT_RUNTIME,
    OPT_SUBSCRIPTION,
    OPT_REASON,
    OPT_MAX
};

struct cli_option {
    enum cli_option_id id;
    const char *name;  /* long form, without the dashes */
    const char *value; /* "FILE", "DURATION"; NULL: a flag */
    const char *words; /* for completion: the values it may take, space-separated; NULL: any */
    const char *help;  /* one sentence, lower case, no full stop */
};

enum { CLI_OPTIONS_MAX = 16, CLI_OPERANDS_MAX = 100000 };

struct cli;
typedef int cli_handler(int argc, char **argv, const struct cli *cli);

struct cli_command {
    const char *name;
    const char *operands; /* as in the synopsis; "" for none */
    const char *summary;  /* one line */
    const char *words;    /* first operand's values, space-separated; NULL: any; "@" file names */
    int min_operands, max_operands;
    cli_handler *handler;
    const char *help; /* paragraphs, wrapped at 80 columns */
    struct cli_option
        options[CLI_OPTIONS_MAX]; /* up to OPT_NONE; --config and --help come beside */
    const char *examples;         /* lines without indentation */
    const char *exits;            /* "1  what it means here", a line each */
};

struct cli_given {
    enum cli_option_id id;
    const char *value; /* NULL for a flag */
};

/* What the command line said; borrowed from argv for the life of the process. */
struct cli {
    const struct cli_command *command;
    const char *config_file; /* NULL: the default place (config_load) */
    struct cli_given *given; /* in the order in which they stood */
    size_t n_given;
};

/* The last value of an option, NULL where it was not given (or is a flag). */
const char *cli_value(const struct cli *cli, enum cli_option_id id);
bool cli_has(const struct cli *cli, enum cli_option_id id);

/* Values of options; fallback where not given. 0, or -1 after cli_usage has been said. */
int cli_duration(const struct cli *cli, enum cli_option_id id, int64_t fallback_ms, int64_t *out);
int cli_integer(const struct cli *cli, enum cli_option_id id, int64_t min, int64_t max,
                int64_t fallback, int64_t *out);

/* An RFC 3339 time, or a duration before now_us; the option was given. */
int cli_time(const struct cli *cli, enum cli_option_id id, int64_t now_us, int64_t *out);

/* One line on standard error: "provisioner: ..."; control characters are escaped. Returns its
 * status. */
int cli_fail(const struct err *err) __attribute__((nonnull));
int cli_failf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* The same with status CLI_USAGE and where help is to be found. */
int cli_usage(const struct cli *cli, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* The configuration; on failure the error has been said, and the status is to be returned. */
int cli_config(const struct cli *cli, struct config **out);

/* Prints to standard output and ends the buffer. CLI_OK, or CLI_FAILED when the buffer had failed.
 */
int cli_print(struct buf *out);
/* Columns of the terminal behind standard output; 0 where there is none. */
size_t cli_width(void);
/* A line that replaces itself, on a terminal alone and not more than ten times a second. */
void cli_progress(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void cli_progress_end(void);
/* Asks on the terminal; false where there is none to ask. */
bool cli_confirm(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

const struct cli_command *cli_find(const char *name);
/* Says so, and which one may have been meant. CLI_USAGE. */
int cli_unknown_command(const char *name);

/* Parses the line and runs the command. Returns the exit status. */
int cli_main(int argc, char **argv);

#endif
