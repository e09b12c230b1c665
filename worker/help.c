#include "help.h"

#include <string.h>

#include "base/str.h"
#include "commands.h"

enum {
    HELP_MAX = 256 * 1024,
    HELP_COLUMN = 26, /* where explanations begin */
    HELP_WIDTH = 88,
};

static const struct cli_option common[] = {
    {OPT_CONFIG, "config", "FILE", "@",
     "the configuration; default $PROVISIONER_CONFIG, else /etc/provisioner/provisioner.yaml"},
    {OPT_HELP, "help", NULL, NULL, "this text"},
};

static const char exits_common[] = "0  done\n"
                                   "1  failed\n"
                                   "2  wrong usage or configuration; nothing was tried\n"
                                   "3  done, and something needs a person\n";

/* ---- text ---- */

static void pad_to(struct buf *out, size_t from, size_t column)
{
    for (; from < column; from++)
        buf_addc(out, ' ');
}

/* Words of text from `column` on, broken before HELP_WIDTH; the cursor stands at `at`. */
static void add_wrapped(struct buf *out, const char *text, size_t at, size_t column)
{
    if (at >= column) {
        buf_addc(out, '\n');
        at = 0;
    }
    pad_to(out, at, column);
    at = column;
    while (*text) {
        size_t word = strcspn(text, " ");
        if (at > column && at + 1 + word > HELP_WIDTH) {
            buf_addc(out, '\n');
            pad_to(out, 0, column);
            at = column;
        } else if (at > column) {
            buf_addc(out, ' ');
            at++;
        }
        buf_add(out, text, word);
        at += word;
        text += word + (text[word] == ' ');
    }
    buf_addc(out, '\n');
}

static void add_option(struct buf *out, const struct cli_option *o)
{
    size_t before = out->len;
    buf_addf(out, "  --%s%s%s", o->name, o->value ? " " : "", o->value ? o->value : "");
    add_wrapped(out, o->help, out->len - before, HELP_COLUMN);
}

static void add_indented(struct buf *out, const char *lines)
{
    while (*lines) {
        size_t n = strcspn(lines, "\n");
        buf_adds(out, "  ");
        buf_add(out, lines, n);
        buf_addc(out, '\n');
        lines += n + (lines[n] == '\n');
    }
}

static void add_exits(struct buf *out, const struct cli_command *c,
                      void (*add)(struct buf *, const char *))
{
    add(out, c->exits ? c->exits : exits_common);
}

int help_command(const struct cli_command *c)
{
    struct buf out;
    buf_init(&out, HELP_MAX);
    buf_addf(&out, "usage: provisioner %s%s%s%s\n\n%s\n\noptions\n", c->name,
             c->options[0].id != OPT_NONE ? " [options]" : "", *c->operands ? " " : "", c->operands,
             c->help);
    for (size_t i = 0; c->options[i].id != OPT_NONE; i++)
        add_option(&out, &c->options[i]);
    for (size_t i = 0; i < ARRAY_LEN(common); i++)
        add_option(&out, &common[i]);
    buf_adds(&out, "\nexamples\n");
    add_indented(&out, c->examples);
    buf_adds(&out, "\nexit status\n");
    add_exits(&out, c, add_indented);
    return cli_print(&out);
}

int help_overview(void)
{
    struct buf out;
    buf_init(&out, HELP_MAX);
    buf_adds(&out,
             "usage: provisioner [--config FILE] COMMAND [options] [operands]\n\n"
             "The Waldur marketplace provisioning worker: turns subscription events into agent\n"
             "workspaces, document collections and API keys, and takes them away again.\n\n"
             "commands\n");
    for (size_t i = 0; i < n_commands; i++) {
        size_t before = out.len;
        buf_addf(&out, "  %s", commands[i].name);
        add_wrapped(&out, commands[i].summary, out.len - before, 18);
    }
    buf_adds(&out, "\nexit status\n");
    add_indented(&out, exits_common);
    buf_adds(&out, "\n`provisioner help COMMAND` explains a command.\n");
    return cli_print(&out);
}

/* ---- the manual page ---- */

/* roff: a backslash, and a dot or quote at the start of a line, mean something; so does a dash. */
static void roff(struct buf *out, const char *s)
{
    bool start = true;
    for (; *s; s++) {
        if (start && (*s == '.' || *s == '\''))
            buf_adds(out, "\\&");
        if (*s == '\\')
            buf_adds(out, "\\e");
        else if (*s == '-')
            buf_adds(out, "\\-");
        else
            buf_addc(out, *s);
        start = *s == '\n';
    }
}

/* Paragraphs are parted by empty lines. */
static void roff_paragraphs(struct buf *out, const char *s)
{
    const char *end;
    while ((end = strstr(s, "\n\n")) != NULL) {
        struct buf part;
        buf_init(&part, HELP_MAX);
        buf_add(&part, s, (size_t)(end - s));
        roff(out, buf_str(&part));
        buf_done(&part);
        buf_adds(out, "\n.PP\n");
        s = end + 2;
    }
    roff(out, s);
    buf_addc(out, '\n');
}

static void roff_literal(struct buf *out, const char *lines)
{
    buf_adds(out, ".PP\n.nf\n.RS 2\n");
    roff(out, lines);
    buf_adds(out, ".RE\n.fi\n");
}

static void roff_option(struct buf *out, const struct cli_option *o)
{
    buf_adds(out, ".TP\n\\fB\\-\\-");
    roff(out, o->name);
    buf_adds(out, "\\fR");
    if (o->value)
        buf_addf(out, " \\fI%s\\fR", o->value);
    buf_addc(out, '\n');
    roff(out, o->help);
    buf_addc(out, '\n');
}

static void roff_command(struct buf *out, const struct cli_command *c)
{
    buf_addf(out, ".SS ");
    roff(out, c->name);
    buf_addc(out, ' ');
    roff(out, c->operands);
    buf_addc(out, '\n');
    roff_paragraphs(out, c->help);
    for (size_t i = 0; c->options[i].id != OPT_NONE; i++)
        roff_option(out, &c->options[i]);
    buf_adds(out, ".PP\nExamples:\n");
    roff_literal(out, c->examples);
    if (c->exits) {
        buf_adds(out, ".PP\nExit status:\n");
        roff_literal(out, c->exits);
    }
}

int help_manual(void)
{
    struct buf out;
    buf_init(&out, HELP_MAX);
    buf_adds(&out,
             ".TH PROVISIONER 1 \"\" \"provisioner " PROVISIONER_VERSION "\"\n"
             ".SH NAME\nprovisioner \\- Waldur marketplace provisioning worker\n"
             ".SH SYNOPSIS\n\\fBprovisioner\\fR [\\fB\\-\\-config\\fR \\fIFILE\\fR] "
             "\\fICOMMAND\\fR [\\fIoptions\\fR] [\\fIoperands\\fR]\n"
             ".SH DESCRIPTION\n"
             "Turns subscription events into agent workspaces, document collections and API "
             "keys, and takes them away again.\nTables are cut to the terminal's width; with "
             "\\fB\\-\\-json\\fR a listing is one JSON document, its times in RFC 3339.\n"
             "Errors are one line on standard error that says what was wrong and what to do.\n"
             ".SH OPTIONS\n");
    for (size_t i = 0; i < ARRAY_LEN(common); i++)
        roff_option(&out, &common[i]);
    buf_adds(&out, ".SH COMMANDS\n");
    for (size_t i = 0; i < n_commands; i++)
        roff_command(&out, &commands[i]);
    buf_adds(&out, ".SH EXIT STATUS\n");
    roff_literal(&out, exits_common);
    buf_adds(&out, ".SH ENVIRONMENT\n.TP\n\\fBPROVISIONER_CONFIG\\fR\nThe configuration where "
                   "\\fB\\-\\-config\\fR is not given.\n"
                   ".SH FILES\n.TP\n/etc/provisioner/provisioner.yaml\nThe configuration where "
                   "nothing else is said.\n");
    return cli_print(&out);
}

/* ---- completion ---- */

static void completion_words(struct buf *out, const char *words)
{
    if (str_eq(words, "@"))
        buf_adds(out, "compopt -o filenames; mapfile -t COMPREPLY < <(compgen -f -- \"$cur\")");
    else
        buf_addf(out, "mapfile -t COMPREPLY < <(compgen -W '%s' -- \"$cur\")", words);
}

static void completion_option(struct buf *out, const char *command, const struct cli_option *o)
{
    if (!o->value)
        return;
    buf_addf(out, "    %s:--%s) ", command, o->name);
    if (o->words) {
        completion_words(out, o->words);
        buf_adds(out, "; ");
    }
    buf_adds(out, "return ;;\n");
}

static void completion_operands(struct buf *out)
{
    for (size_t i = 0; i < n_commands; i++) {
        if (!commands[i].words)
            continue;
        buf_addf(out, "    %s) ", commands[i].name);
        completion_words(out, commands[i].words);
        buf_adds(out, " ;;\n");
    }
}

static void completion_flags(struct buf *out)
{
    for (size_t i = 0; i < n_commands; i++) {
        buf_addf(out, "        %s) options='--config --help", commands[i].name);
        for (size_t k = 0; commands[i].options[k].id != OPT_NONE; k++)
            buf_addf(out, " --%s", commands[i].options[k].name);
        buf_adds(out, "' ;;\n");
    }
}

int help_completion(void)
{
    struct buf out;
    buf_init(&out, HELP_MAX);
    buf_adds(&out, "# bash completion for provisioner; made by `provisioner help --format bash`.\n"
                   "_provisioner() {\n"
                   "    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}\n"
                   "    local command='' options='' i\n"
                   "    COMPREPLY=()\n"
                   "    for ((i = 1; i < COMP_CWORD; i++)); do\n"
                   "        case ${COMP_WORDS[i]} in\n"
                   "        --config) ((i++)) ;;\n"
                   "        -*) ;;\n"
                   "        *) command=${COMP_WORDS[i]}; break ;;\n"
                   "        esac\n"
                   "    done\n"
                   "    case $command:$prev in\n");
    completion_option(&out, "*", &common[0]);
    for (size_t i = 0; i < n_commands; i++)
        for (size_t k = 0; commands[i].options[k].id != OPT_NONE; k++)
            completion_option(&out, commands[i].name, &commands[i].options[k]);
    buf_adds(&out, "    esac\n"
                   "    if [[ $cur == -* ]]; then\n"
                   "        case $command in\n"
                   "        '') options='--config --help --version' ;;\n");
    completion_flags(&out);
    buf_adds(&out, "        esac\n"
                   "        mapfile -t COMPREPLY < <(compgen -W \"$options\" -- \"$cur\")\n"
                   "        return\n"
                   "    fi\n"
                   "    case $command in\n"
                   "    '') mapfile -t COMPREPLY < <(compgen -W '");
    for (size_t i = 0; i < n_commands; i++)
        buf_addf(&out, "%s%s", i ? " " : "", commands[i].name);
    buf_adds(&out, "' -- \"$cur\") ;;\n");
    completion_operands(&out);
    buf_adds(&out, "    esac\n}\ncomplete -F _provisioner provisioner\n");
    return cli_print(&out);
}
