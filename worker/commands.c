#include "commands.h"

#include "base/str.h"

#define STATES "queued running retrying held failed superseded succeeded cancelled"
#define PHASES "hinted left taken reported dropped"
#define STEPS                                                                                      \
    "name announce collection workspace api_key record report close_workspace open_workspace "     \
    "revoke archive chat_history"

#define OPTION_JSON                                                                                \
    {                                                                                              \
        OPT_JSON, "json", NULL, NULL, "one JSON document in place of a table"                      \
    }
#define OPTION_ORGANIZATION                                                                        \
    {                                                                                              \
        OPT_ORGANIZATION, "organization", "SLUG", NULL, "only jobs of this organization"           \
    }
#define OPTION_REASON                                                                              \
    {                                                                                              \
        OPT_REASON, "reason", "TEXT", NULL, "why; it is shown wherever this is"                    \
    }
#define OPTIONS_TARGET                                                                             \
    {OPT_ALL, "all", NULL, NULL, "all jobs"},                                                      \
        {OPT_RUNTIME, "runtime", "NAME", NULL, "jobs of this runtime"},                            \
        {OPT_ORGANIZATION, "organization", "SLUG|UUID", NULL, "jobs of this organization"},        \
    {                                                                                              \
        OPT_SUBSCRIPTION, "subscription", "UUID|NAME", NULL, "jobs of this subscription"           \
    }
#define OPTION_ERROR                                                                               \
    {                                                                                              \
        OPT_ERROR, "error", "TEXT", NULL,                                                          \
            "only jobs whose error is of this class (such as refused or conflict), or contains "   \
            "this text"                                                                            \
    }
#define OPTION_SINCE                                                                               \
    {                                                                                              \
        OPT_SINCE, "since", "TIME", NULL,                                                          \
            "only jobs that changed since: a duration before now (24h) or a time "                 \
            "(2026-11-21T10:00:00Z)"                                                               \
    }

const struct cli_command commands[] = {
    {.name = "run",
     .operands = "",
     .summary = "the worker: consumes events, provisions, serves health and metrics",
     .handler = cmd_run,
     .help =
         "Consumes subscription events from Kafka, brings every subscription to what is wanted of\n"
         "it, and serves /healthz, /readyz and /metrics on http.listen. Any number of replicas\n"
         "may run at once.\n\n"
         "SIGTERM and SIGINT drain: nothing new is begun, jobs reach their next boundary, the "
         "rest\n"
         "is given back, all within worker.drain. SIGHUP reads the configuration anew. The log\n"
         "goes to standard error.",
     .examples = "provisioner run --config /etc/provisioner/provisioner.yaml\n",
     .exits = "0  drained\n"
              "1  it cannot go on\n"
              "2  wrong usage or configuration\n"},
    {.name = "migrate",
     .operands = "",
     .summary = "applies the schema's migrations, or tells what is pending",
     .handler = cmd_migrate,
     .help = "Applies the migrations that the database lacks, in order, each in its own "
             "transaction, all\n"
             "under a lock, so that any number may run at once. Forward only.",
     .options = {{OPT_CHECK, "check", NULL, NULL,
                  "changes nothing; fails when something is pending"},
                 OPTION_JSON},
     .examples = "provisioner migrate\n"
                 "provisioner migrate --check || echo pending\n",
     .exits = "0  up to date; with --check: nothing is pending\n"
              "1  failed; with --check: something is pending\n"
              "2  wrong usage or configuration\n"},
    {.name = "submit",
     .operands = "FILE...",
     .summary = "validates events and produces them to Kafka",
     .words = "@",
     .min_operands = 1,
     .max_operands = CLI_OPERANDS_MAX,
     .handler = cmd_submit,
     .help =
         "Reads events (CloudEvents in JSON), validates each, produces them to kafka.topics.events "
         "and\n"
         "waits until the broker has acknowledged every one. A FILE holds one event, one event a\n"
         "line, or a JSON array of events; - is standard input. When any is invalid nothing is\n"
         "sent, and each invalid one is named by file, line, JSON Pointer and reason.\n\n"
         "Submitting the same events again is safe: they are known by source and id.",
     .options = {{OPT_DIRECT, "direct", NULL, NULL,
                  "writes into the database's inbox, without Kafka"},
                 {OPT_SKIP_INVALID, "skip-invalid", NULL, NULL, "leaves invalid events out"},
                 {OPT_TIMEOUT, "timeout", "DURATION", NULL,
                  "gives up when no acknowledgement has come for so long; default 30s"},
                 {OPT_JSON, "json", NULL, NULL, "the counts as one JSON document"}},
     .examples = "provisioner submit created.json\n"
                 "generate-events | provisioner submit -\n"
                 "provisioner submit --direct --json restore.ndjson\n",
     .exits = "0  every event was acknowledged\n"
              "1  an event is invalid and nothing was sent, or not every event was acknowledged\n"
              "2  wrong usage or configuration\n"
              "3  sent, but for the invalid ones (--skip-invalid)\n"},
    {.name = "jobs",
     .operands = "",
     .summary = "lists jobs",
     .handler = cmd_jobs,
     .help = "Lists jobs, those that changed last first. Filters add up.",
     .options = {{OPT_STATE, "state", "STATE[,STATE]", STATES,
                  "only jobs in these states; may be given more than once"},
                 OPTION_ORGANIZATION,
                 OPTION_ERROR,
                 OPTION_SINCE,
                 {OPT_LIMIT, "limit", "N", NULL, "at most so many; default 50"},
                 OPTION_JSON},
     .examples = "provisioner jobs --state failed --since 24h\n"
                 "provisioner jobs --organization acme-corp --state queued,retrying,held\n"
                 "provisioner jobs --error unauthorized --json\n"},
    {.name = "orders",
     .operands = "",
     .summary = "Waldur's orders: what waits, why, and what was told",
     .handler = cmd_orders,
     .help =
         "Lists Waldur's orders, those that changed last first. hinted: not read yet. left: not\n"
         "approved, or not yet; REASON and DETAIL say why, and it is looked at again with every\n"
         "sweep. taken: its job runs. reported: Waldur was told, and seen to know. dropped: not\n"
         "ours, or closed by others.",
     .options = {{OPT_STATE, "state", "STATE[,STATE]", PHASES,
                  "only orders in these states; may be given more than once"},
                 {OPT_ORGANIZATION, "organization", "SLUG", NULL,
                  "only orders of this organization"},
                 {OPT_LIMIT, "limit", "N", NULL, "at most so many; default 50"},
                 OPTION_JSON},
     .examples = "provisioner orders --state left\n"
                 "provisioner orders --state hinted,taken --organization acme-corp --json\n"},
    {.name = "backfill",
     .operands = "",
     .summary = "fetches what Waldur has told since some time",
     .handler = cmd_backfill,
     .help =
         "Reads Waldur's events since a time and leaves a hint for each order, resource and key\n"
         "that they are about, as if its webhooks had come: workers look at each of them, once\n"
         "or again, and do what is still to be done. Safe to repeat. The sweep finds open orders\n"
         "by itself; this is for what was closed or forgotten meanwhile.",
     .options = {{OPT_SINCE, "since", "TIME", NULL,
                  "from when on: a duration before now (24h) or a time (2026-11-21T10:00:00Z)"},
                 {OPT_JSON, "json", NULL, NULL, "the counts as one JSON document"}},
     .examples = "provisioner backfill --since 24h\n",
     .exits = "0  done\n"
              "1  Waldur or the database failed; no hint was left\n"
              "2  wrong usage or configuration\n"
              "3  done, but some events could not be read\n"},
    {.name = "show",
     .operands = "SUBSCRIPTION",
     .summary = "one subscription whole",
     .min_operands = 1,
     .max_operands = 1,
     .handler = cmd_show,
     .help = "Shows all that is known of one subscription, each part in order of time (the newest "
             "10000\n"
             "entries of it): what is wanted, its AgentConfig, events, jobs, changes in other "
             "systems, API\n"
             "keys (prefix and terms alone) and the history of attempts and errors.\n\n"
             "SUBSCRIPTION is a UUID, with or without dashes, or the name that was frozen for it.",
     .options = {OPTION_JSON},
     .examples = "provisioner show 2f1c9a52-6a0e-4c55-8f1e-5d2f0c9b7a01\n"
                 "provisioner show acme-corp-website-support-csa-001 --json\n",
     .exits = "0  shown\n"
              "1  there is no such subscription, or the database failed\n"
              "2  wrong usage or configuration\n"},
    {.name = "replay",
     .operands = "SUBSCRIPTION... | --state failed",
     .summary = "runs failed or cancelled jobs again, from the step where they ended",
     .max_operands = CLI_OPERANDS_MAX,
     .handler = cmd_replay,
     .help =
         "Queues failed or cancelled jobs again, from the step where they ended, and waits until\n"
         "they have settled. A running worker does the work: without one the command says so and\n"
         "does not wait.\n\n"
         "Name subscriptions (UUIDs or frozen names), or choose by --state failed or cancelled "
         "with\n"
         "the filters of `provisioner jobs`. More than one needs --yes, or a yes on the terminal.",
     .options = {{OPT_STATE, "state", "failed|cancelled", "failed cancelled",
                  "all such jobs that the filters leave"},
                 OPTION_ORGANIZATION,
                 OPTION_ERROR,
                 OPTION_SINCE,
                 {OPT_LIMIT, "limit", "N", NULL, "at most so many, the oldest first; default 1000"},
                 {OPT_FROM_STEP, "from-step", "STEP", STEPS, "begins at this earlier step"},
                 {OPT_DRY_RUN, "dry-run", NULL, NULL, "changes nothing; tells what would run"},
                 {OPT_RATE, "rate", "N/s", NULL, "at most so many a second; default: no bound"},
                 {OPT_WAIT, "wait", "DURATION", NULL, "waits so long; default 60s"},
                 {OPT_NO_WAIT, "no-wait", NULL, NULL, "does not wait"},
                 {OPT_YES, "yes", NULL, NULL, "does not ask"},
                 OPTION_JSON},
     .examples = "provisioner replay acme-corp-website-support-csa-001\n"
                 "provisioner replay --state failed --error unauthorized --dry-run\n"
                 "provisioner replay --state failed --since 2h --rate 20/s --yes\n",
     .exits = "0  every job was queued and, unless --no-wait, has settled well\n"
              "1  something could not be replayed, or the database failed\n"
              "2  wrong usage or configuration\n"
              "3  replayed, but jobs failed again, have not settled, or no worker runs\n"},
    {.name = "cancel",
     .operands = "JOB...",
     .summary = "ends jobs that shall not go on",
     .min_operands = 1,
     .max_operands = CLI_OPERANDS_MAX,
     .handler = cmd_cancel,
     .help =
         "Ends jobs that wait or run. One that waits ends at once; a running one (verdict\n"
         "\"cancelling\") at its next write: a request that is under way is not taken back, and\n"
         "what it made stays in the journal. A second cancel ends one whose worker gave it back\n"
         "meanwhile. Nothing that was made is removed. A subscription that was being provisioned\n"
         "or terminated is then failed, and its order is told so; one that is ready or suspended\n"
         "stays so, also when its termination is cancelled.\n\n"
         "`provisioner replay` runs a cancelled job again, from where it stood; a newer order has\n"
         "its own.",
     .options = {OPTION_REASON, OPTION_JSON},
     .examples = "provisioner cancel 4711\n"
                 "provisioner cancel 4711 4712 --reason 'ordered twice'\n",
     .exits = "0  every job was cancelled, or is being\n"
              "1  one had ended already or does not exist, or the database failed\n"
              "2  wrong usage or configuration\n"},
    {.name = "pause",
     .operands = "",
     .summary = "stops jobs until `resume`; lists what is paused",
     .handler = cmd_pause,
     .help =
         "Stops jobs of everything, a runtime, an organization or a subscription, until they are\n"
         "resumed, across restarts and for every worker. Events are still taken in, and their "
         "jobs\n"
         "wait; so do terminations and suspensions, but for one thing: where a runtime alone is\n"
         "paused, keys are revoked or refused all the same. Jobs that run stop at their next\n"
         "step or change upstream. Paused jobs count towards retry.deadline.\n\n"
         "Without an option it lists what is paused. Options may be given more than once.",
     .options = {OPTIONS_TARGET, OPTION_REASON, OPTION_JSON},
     .examples = "provisioner pause --runtime shared-eu --reason 'upgrade of Langflow'\n"
                 "provisioner pause --organization acme-corp\n"
                 "provisioner pause\n"},
    {.name = "resume",
     .operands = "",
     .summary = "lets paused jobs go on",
     .handler = cmd_resume,
     .help = "Takes a pause back; workers go on at once. Each pause is taken back as it was made:\n"
             "--all ends the pause of everything, and nothing that was paused by name.",
     .options = {OPTIONS_TARGET, OPTION_JSON},
     .examples = "provisioner resume --runtime shared-eu\n"
                 "provisioner resume --all\n"},
    {.name = "retention",
     .operands = "",
     .summary = "deletes what is due: chat history, old events and dead letters",
     .handler = cmd_retention,
     .help =
         "Deletes what the settings under `retention` no longer keep, and nothing else: the chat\n"
         "history of subscriptions archived longer ago than retention.chat_history, with the\n"
         "workspace that kept it; events older than retention.events, but for those that are a\n"
         "subscription's current wish; dead letters older than retention.dead_letters. Meant to\n"
         "be run by a timer. Does its work itself and needs no Kafka and no other worker; two\n"
         "runs at once are safe.",
     .options = {{OPT_DRY_RUN, "dry-run", NULL, NULL, "changes nothing; tells what is due"},
                 {OPT_NOW, "now", "TIME", NULL,
                  "what is due at this time rather than now (2026-11-21T10:00:00Z)"},
                 {OPT_LIMIT, "limit", "N", NULL,
                  "at most so many subscriptions, the longest archived first; default 1000"},
                 {OPT_WAIT, "wait", "DURATION", NULL, "works so long on subscriptions; default 5m"},
                 OPTION_JSON},
     .examples = "provisioner retention --dry-run\n"
                 "provisioner retention --limit 100 --wait 10m --json\n",
     .exits = "0  done\n"
              "1  failed\n"
              "2  wrong usage or configuration\n"
              "3  done, but a subscription that is due could not be purged, or a server left\n"
              "   something of one behind (column ERROR)\n"},
    {.name = "dead-letters",
     .operands = "list|show|replay|discard [ID...]",
     .summary = "the events that could not be decoded",
     .words = "list show replay discard",
     .min_operands = 1,
     .max_operands = CLI_OPERANDS_MAX,
     .handler = cmd_dead_letters,
     .help =
         "list shows the newest dead letters; show prints some whole, headers, key and value. "
         "replay\n"
         "produces the original message to kafka.topics.events again, waits for the broker and\n"
         "marks the letter replayed: a message that still cannot be decoded comes back as a new\n"
         "dead letter. discard marks letters as of no further interest; retention deletes both in\n"
         "time.",
     .options = {{OPT_STATE, "state", "STATE", "new replayed discarded all",
                  "list: letters in this state, or all; default new"},
                 {OPT_LIMIT, "limit", "N", NULL, "list: at most so many; default 50"},
                 {OPT_ALL, "all", NULL, NULL, "replay, discard: every new letter"},
                 {OPT_YES, "yes", NULL, NULL, "replay, discard: with --all does not ask"},
                 OPTION_JSON},
     .examples = "provisioner dead-letters list\n"
                 "provisioner dead-letters show 17\n"
                 "provisioner dead-letters replay 17 18\n"
                 "provisioner dead-letters discard --all --yes\n"},
    {.name = "doctor",
     .operands = "[WHAT...]",
     .summary = "looks at every server and says what to mend",
     .words = "configuration database kafka waldur",
     .max_operands = CLI_OPERANDS_MAX,
     .handler = cmd_doctor,
     .help =
         "Reaches every server that the configuration names, all at the same time, and looks at\n"
         "versions, rights and settings; changes nothing, and may run beside workers. WHAT\n"
         "restricts it: configuration, database, kafka, waldur, or the name of a runtime.\n\n"
         "Every finding has a level: ok; note, which nobody has to act on; warn, which goes wrong\n"
         "one day; bad, which keeps the worker from its work. What is warn or bad comes with what\n"
         "to do about it. Credentials are shown nowhere.\n\n"
         "Run it after every change of the configuration, and first when something is wrong.",
     .options = {{OPT_TIMEOUT, "timeout", "DURATION", NULL,
                  "looks for so long, at everything together; default 30s"},
                 {OPT_JSON, "json", NULL, NULL,
                  "one JSON document: findings (level, server, subject, what, mend) and the worst "
                  "level"}},
     .examples = "provisioner doctor\n"
                 "provisioner doctor database kafka\n"
                 "provisioner doctor shared-eu --timeout 1m\n"
                 "provisioner doctor --json | jq '.findings[] | select(.level != \"ok\")'\n",
     .exits = "0  nothing is to be mended: every finding is ok or note\n"
              "1  doctor itself failed\n"
              "2  wrong usage, or the configuration cannot be read\n"
              "3  something is to be mended: a finding is warn or bad\n"},
    {.name = "config",
     .operands = "",
     .summary = "prints the settings in effect, secrets masked",
     .handler = cmd_config,
     .help = "Reads and checks the configuration and prints the settings in effect, defaults "
             "included,\n"
             "as YAML. Secrets are masked. An error names file, line and column.",
     .options = {{OPT_JSON, "json", NULL, NULL, "as one JSON document"}},
     .examples = "provisioner config --config ./provisioner.yaml\n",
     .exits = "0  the configuration is good\n"
              "2  it is not, or wrong usage\n"},
    {.name = "graph",
     .operands = "",
     .summary = "prints the state machine as Mermaid diagrams",
     .handler = cmd_graph,
     .help =
         "Prints which states a job passes through, and the steps of each kind of job, as Mermaid\n"
         "diagrams in Markdown.",
     .examples = "provisioner graph > machine.md\n"},
    {.name = "version",
     .operands = "",
     .summary = "the versions of the program, its schema and its libraries",
     .handler = cmd_version,
     .help =
         "Prints the program's version, the schema version that it needs, and the versions of the\n"
         "libraries in use.",
     .options = {{OPT_JSON, "json", NULL, NULL, "as one JSON document"}},
     .examples = "provisioner version --json\n"},
    {.name = "help",
     .operands = "[COMMAND]",
     .summary = "explains the program or a command",
     .words = "run migrate submit jobs orders backfill show replay retention dead-letters doctor "
              "config graph version",
     .max_operands = 1,
     .handler = cmd_help,
     .help = "Explains a command, or lists them all.",
     .options = {{OPT_FORMAT, "format", "FORMAT", "text man bash",
                  "text; man: the manual page; bash: a completion script"}},
     .examples =
         "provisioner help replay\n"
         "provisioner help --format bash > /usr/share/bash-completion/completions/provisioner\n"},
};

const size_t n_commands = ARRAY_LEN(commands);
