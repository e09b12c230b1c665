#include "machine/machine.h"

static void print_states(struct buf *out)
{
    buf_adds(out, "stateDiagram-v2\n    [*] --> queued\n");
    for (int from = 0; from < JOB_STATE_MAX; from++) {
        bool leaves = false;
        for (int to = 0; to < JOB_STATE_MAX; to++) {
            if (machine_may((enum job_state)from, (enum job_state)to)) {
                buf_addf(out, "    %s --> %s\n", job_state_name((enum job_state)from),
                         job_state_name((enum job_state)to));
                leaves = true;
            }
        }
        if (!leaves) {
            buf_addf(out, "    %s --> [*]\n", job_state_name((enum job_state)from));
        }
    }
}

static void print_plans(struct buf *out)
{
    buf_adds(out, "flowchart LR\n");
    for (int kind = 0; kind < KIND_MAX; kind++) {
        size_t n = 0;
        const enum job_step *steps = machine_plan((enum job_kind)kind, &n);
        const char *name = job_kind_name((enum job_kind)kind);
        buf_addf(out, "    %s([%s])", name, name);
        for (size_t i = 0; i < n; i++) {
            buf_addf(out, " --> %s_%s[%s]", name, job_step_name(steps[i]), job_step_name(steps[i]));
        }
        buf_addc(out, '\n');
    }
}

int machine_mermaid(struct buf *out)
{
    buf_adds(out, "```mermaid\n");
    print_states(out);
    buf_adds(out, "```\n\n```mermaid\n");
    print_plans(out);
    buf_adds(out, "```\n");
    return out->failed ? -1 : 0;
}
