#include "cli.h"

#include <getopt.h>
#include <inttypes.h>
#include <locale.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/rng.h"
#include "base/str.h"
#include "commands.h"
#include "help.h"
#include "table.h"

/* What getopt_long returns for a long option. */
enum { VAL_FIRST = 256, VAL_VERSION = VAL_FIRST + OPT_MAX };

enum {
    LINE_MAX_BYTES = 8 * 1024, /* a message on standard error */
    WORD_MAX = 32,             /* longer words are nobody's misspelling */
    PROGRESS_EVERY_MS = 100,
};

/* ---- messages ---- */

static void say_line(const char *text)
{
    struct buf line;
    buf_init(&line, LINE_MAX_BYTES);
    buf_adds(&line, "provisioner: ");
    table_escape(&line, text, strlen(text));
    if (line.failed)
        fputs("provisioner: a message was too long to be shown\n", stderr);
    else
        fprintf(stderr, "%s\n", buf_str(&line));
    buf_done(&line);
}

static void say_v(const char *fmt, va_list ap, const char *suffix)
{
    char text[2048];
    vsnprintf(text, sizeof(text), fmt, ap);
    size_t n = str_utf8_cut(text, strlen(text), sizeof(text) - 1);
    snprintf(text + n, sizeof(text) - n, "%s", suffix);
    cli_progress_end();
    say_line(text);
}

int cli_fail(const struct err *err)
{
    cli_progress_end();
    say_line(err->msg);
    return CLI_FAILED;
}

int cli_failf(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    say_v(fmt, ap, "");
    va_end(ap);
    return CLI_FAILED;
}

int cli_usage(const struct cli *cli, const char *fmt, ...)
{
    char suffix[96];
    const char *name = cli && cli->command ? cli->command->name : NULL;
    snprintf(suffix, sizeof(suffix), "; see `provisioner help%s%s`", name ? " " : "",
             name ? name : "");
    va_list ap;
    va_start(ap, fmt);
    say_v(fmt, ap, suffix);
    va_end(ap);
    return CLI_USAGE;
}

/* ---- the terminal ---- */

static bool progress_shown;

void cli_progress(const char *fmt, ...)
{
    static int64_t last_ms;
    int64_t now = clock_mono_ms();
    if (!isatty(STDERR_FILENO) || (progress_shown && now - last_ms < PROGRESS_EVERY_MS))
        return;
    last_ms = now;
    progress_shown = true;
    fputs("\r\033[K", stderr);
    va_list ap;
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fflush(stderr);
}

void cli_progress_end(void)
{
    if (progress_shown)
        fputs("\r\033[K", stderr);
    progress_shown = false;
}

size_t cli_width(void)
{
    struct winsize size;
    if (!isatty(STDOUT_FILENO) || ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0)
        return 0;
    return size.ws_col;
}

bool cli_confirm(const char *fmt, ...)
{
    char answer[16];
    if (!isatty(STDIN_FILENO) || !isatty(STDERR_FILENO))
        return false;
    va_list ap;
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputs(" [y/N] ", stderr);
    fflush(stderr);
    return fgets(answer, sizeof(answer), stdin) &&
           (str_eq(answer, "y\n") || str_eq(answer, "yes\n"));
}

/* ---- output ---- */

int cli_print(struct buf *out)
{
    int rc = CLI_OK;
    cli_progress_end();
    if (out->failed)
        rc = cli_failf(
            "the output does not fit into memory; ask for less, for example with --limit");
    else
        fwrite(buf_str(out), 1, out->len, stdout);
    buf_done(out);
    return rc;
}

/* Disks fill up and pipes close: output that went nowhere is no success. */
static int finish_output(int status)
{
    cli_progress_end();
    if (fflush(stdout) == 0 && !ferror(stdout))
        return status;
    cli_failf("standard output cannot be written");
    return status == CLI_OK ? CLI_FAILED : status;
}

/* ---- what was given ---- */

const char *cli_value(const struct cli *cli, enum cli_option_id id)
{
    for (size_t i = cli->n_given; i > 0; i--)
        if (cli->given[i - 1].id == id)
            return cli->given[i - 1].value;
    return NULL;
}

bool cli_has(const struct cli *cli, enum cli_option_id id)
{
    for (size_t i = 0; i < cli->n_given; i++)
        if (cli->given[i].id == id)
            return true;
    return false;
}

static const char *option_name(const struct cli *cli, enum cli_option_id id)
{
    for (size_t i = 0; cli->command->options[i].id != OPT_NONE; i++)
        if (cli->command->options[i].id == id)
            return cli->command->options[i].name;
    return "?";
}

int cli_duration(const struct cli *cli, enum cli_option_id id, int64_t fallback_ms, int64_t *out)
{
    const char *text = cli_value(cli, id);
    int64_t ms = fallback_ms;
    if (text && !str_to_duration_ms(text, &ms)) {
        cli_usage(cli, "--%s takes a duration such as 500ms, 30s, 5m, 24h or 30d",
                  option_name(cli, id));
        return -1;
    }
    *out = ms;
    return 0;
}

int cli_integer(const struct cli *cli, enum cli_option_id id, int64_t min, int64_t max,
                int64_t fallback, int64_t *out)
{
    const char *text = cli_value(cli, id);
    int64_t n = fallback;
    if (text && (!str_to_i64(text, &n) || n < min || n > max)) {
        cli_usage(cli, "--%s takes a number from %" PRId64 " to %" PRId64, option_name(cli, id),
                  min, max);
        return -1;
    }
    *out = n;
    return 0;
}

int cli_time(const struct cli *cli, enum cli_option_id id, int64_t now_us, int64_t *out)
{
    const char *text = cli_value(cli, id);
    int64_t us, ms;
    if (clock_parse(text, strlen(text), &us)) {
        *out = us;
        return 0;
    }
    if (str_to_duration_ms(text, &ms)) {
        *out = now_us - ms * 1000;
        return 0;
    }
    cli_usage(
        cli, "--%s takes a time such as 2026-11-21T10:00:00Z, or a duration such as 24h before now",
        option_name(cli, id));
    return -1;
}

int cli_config(const struct cli *cli, struct config **out)
{
    struct err err;
    if (config_load(cli->config_file, out, &err) == 0)
        return CLI_OK;
    int failed = cli_fail(&err);
    return err.class == ERR_INTERNAL ? failed : CLI_USAGE;
}

/* ---- misspellings ---- */

/* Optimal string alignment distance: a swapped pair of letters counts once. */
static size_t distance(const char *a, const char *b)
{
    size_t rows[3][WORD_MAX + 1];
    size_t na = strlen(a), nb = strlen(b);
    if (na > WORD_MAX || nb > WORD_MAX)
        return SIZE_MAX;
    for (size_t j = 0; j <= nb; j++)
        rows[0][j] = j;
    for (size_t i = 1; i <= na; i++) {
        size_t *now = rows[i % 3];
        const size_t *above = rows[(i + 2) % 3], *above2 = rows[(i + 1) % 3];
        now[0] = i;
        for (size_t j = 1; j <= nb; j++) {
            size_t best = above[j - 1] + (a[i - 1] != b[j - 1]);
            best = above[j] + 1 < best ? above[j] + 1 : best;
            best = now[j - 1] + 1 < best ? now[j - 1] + 1 : best;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
                above2[j - 2] + 1 < best)
                best = above2[j - 2] + 1;
            now[j] = best;
        }
    }
    return rows[na % 3][nb];
}

struct nearest {
    const char *word, *best;
    size_t distance;
};

static void nearest_try(struct nearest *n, const char *candidate)
{
    size_t d = distance(n->word, candidate);
    if (strlen(n->word) >= 3 && str_starts(candidate, n->word))
        d = 1;
    /* Up to a third of the word may be wrong: "jbos" is "jobs", "foo" is nothing. */
    if (d < n->distance && d <= (strlen(candidate) + 2) / 3) {
        n->best = candidate;
        n->distance = d;
    }
}

const struct cli_command *cli_find(const char *name)
{
    for (size_t i = 0; i < n_commands; i++)
        if (str_eq(commands[i].name, name))
            return &commands[i];
    return NULL;
}

int cli_unknown_command(const char *name)
{
    struct nearest n = {name, NULL, SIZE_MAX};
    for (size_t i = 0; i < n_commands; i++)
        nearest_try(&n, commands[i].name);
    if (n.best)
        return cli_usage(NULL, "there is no command \"%s\"; did you mean \"%s\"?", name, n.best);
    return cli_usage(NULL, "there is no command \"%s\"", name);
}

static int unknown_option(const struct cli *cli, const char *text)
{
    char word[WORD_MAX + 1] = "";
    const char *name = text + strspn(text, "-");
    size_t len = strcspn(name, "=");
    struct nearest n = {word, NULL, SIZE_MAX};
    if (len <= WORD_MAX) {
        memcpy(word, name, len);
        word[len] = '\0';
    }
    for (size_t i = 0; cli->command && cli->command->options[i].id != OPT_NONE; i++)
        nearest_try(&n, cli->command->options[i].name);
    nearest_try(&n, "config");
    nearest_try(&n, "help");
    if (n.best)
        return cli_usage(cli, "there is no option \"%.*s\"; did you mean \"--%s\"?",
                         (int)(len + (size_t)(name - text)), text, n.best);
    return cli_usage(cli, "there is no option \"%.*s\"", (int)(len + (size_t)(name - text)), text);
}

/* ---- parsing ---- */

/* What getopt_long answered with '?' or ':'. */
static int refused_option(const struct cli *cli, int val, char **argv)
{
    const char *text = argv[optind > 0 ? optind - 1 : 0];
    const char letter[] = {'-', (char)optopt, '\0'};
    if (val == ':')
        return cli_usage(cli, "option %s needs a value", text);
    if (optopt >= VAL_FIRST)
        return cli_usage(cli, "option %.*s takes no value", (int)strcspn(text, "="), text);
    return unknown_option(cli, optopt ? letter : text);
}

static void long_option(struct option *o, const char *name, bool value, int val)
{
    *o = (struct option){name, value ? required_argument : no_argument, NULL, val};
}

/* What stands behind the command's name. Operands end up behind the options (getopt permutes). */
static int parse_options(struct cli *cli, int argc, char **argv)
{
    struct option options[CLI_OPTIONS_MAX + 3] = {{0}};
    size_t n = 0;
    for (; cli->command->options[n].id != OPT_NONE; n++) {
        const struct cli_option *o = &cli->command->options[n];
        long_option(&options[n], o->name, o->value != NULL, VAL_FIRST + (int)o->id);
    }
    long_option(&options[n], "config", true, VAL_FIRST + OPT_CONFIG);
    long_option(&options[n + 1], "help", false, VAL_FIRST + OPT_HELP);
    optind = 0;
    for (int val; (val = getopt_long(argc, argv, ":h", options, NULL)) != -1;) {
        if (val == ':' || val == '?')
            return refused_option(cli, val, argv);
        if (val == VAL_FIRST + OPT_CONFIG)
            cli->config_file = optarg;
        else
            cli->given[cli->n_given++] = (struct cli_given){
                val == 'h' ? OPT_HELP : (enum cli_option_id)(val - VAL_FIRST), optarg};
    }
    return CLI_OK;
}

static int run_command(struct cli *cli, int argc, char **argv)
{
    const struct cli_command *command = cli->command;
    int rc = parse_options(cli, argc, argv);
    if (rc != CLI_OK)
        return rc;
    if (cli_has(cli, OPT_HELP))
        return help_command(command);
    int n = argc - optind;
    if (n < command->min_operands)
        return cli_usage(cli, "%s needs %s", command->name, command->operands);
    if (n > command->max_operands)
        return cli_usage(cli, "%s does not take \"%s\"", command->name,
                         argv[optind + command->max_operands]);
    return command->handler(n, argv + optind, cli);
}

/* What stands before the command's name; -1: go on with argv[optind]. */
static int parse_global(struct cli *cli, int argc, char **argv)
{
    static const struct option options[] = {
        {"config", required_argument, NULL, VAL_FIRST + OPT_CONFIG},
        {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, VAL_VERSION},
        {0},
    };
    opterr = 0;
    optind = 0;
    for (int val; (val = getopt_long(argc, argv, "+:h", options, NULL)) != -1;) {
        if (val == VAL_FIRST + OPT_CONFIG)
            cli->config_file = optarg;
        else if (val == VAL_VERSION)
            return cmd_version(0, argv + argc, cli);
        else if (val == 'h')
            return help_overview();
        else
            return refused_option(cli, val, argv);
    }
    return -1;
}

int cli_main(int argc, char **argv)
{
    struct cli cli = {0};
    /* Widths of characters are asked of the C library; nothing else depends on a locale. */
    setlocale(LC_CTYPE, "C.UTF-8");
    rng_init();
    int rc = parse_global(&cli, argc, argv);
    if (rc >= 0)
        return finish_output(rc);
    if (optind >= argc)
        return cli_usage(NULL, "no command was given");
    int first = optind;
    cli.command = cli_find(argv[first]);
    if (!cli.command)
        return cli_unknown_command(argv[first]);
    /* No argument is more than one option. */
    cli.given = calloc((size_t)argc, sizeof(*cli.given));
    if (!cli.given)
        return cli_failf("out of memory");
    rc = run_command(&cli, argc - first, argv + first);
    free(cli.given);
    return finish_output(rc);
}
