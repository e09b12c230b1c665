/*
 * What was looked at and how it was found: a list that grows, told as text grouped by server, or as
 * JSON.
 */
#ifndef WORKER_FINDINGS_H
#define WORKER_FINDINGS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "driver/driver.h"

enum { FINDING_TEXT_MAX = 600, FINDINGS_MAX = 100000 };

struct finding {
    enum driver_level level;
    const char *server; /* borrowed: "database", "runtime shared-eu langflow" */
    const char *subject;
    char what[FINDING_TEXT_MAX + 1];
    char mend[FINDING_TEXT_MAX + 1]; /* "" where nothing is to be done */
};

/* Zero-initialise. */
struct findings {
    struct finding *list;
    size_t n, cap;
    bool failed; /* memory ended: something is missing */
};

/* server and subject are borrowed; mend may be NULL. What does not fit is cut. */
void findings_add(struct findings *f, enum driver_level level, const char *server,
                  const char *subject, const char *mend, const char *fmt, ...)
    __attribute__((format(printf, 6, 7)));
/* Adds those of `from`, in their order. */
void findings_append(struct findings *f, const struct findings *from);
void findings_done(struct findings *f);

const char *findings_level_name(enum driver_level level);
/* LEVEL_OK for an empty list. */
enum driver_level findings_worst(const struct findings *f);
/* Something needs a person: WARN or BAD. */
size_t findings_to_mend(const struct findings *f);

/* Grouped by server, in the list's order; width: the terminal's, 0: lines are not broken. */
void findings_text(const struct findings *f, size_t width, struct buf *out);
/* {"findings": [...], "worst": "bad"} */
void findings_json(const struct findings *f, struct buf *out);

#endif
