/*
 * Files of events: one JSON event, NDJSON (one event a line), or a JSON array of events; each with
 * the line on which it begins. The bytes are only split here, not judged: event_decode does that.
 */
#ifndef WORKER_EVENTFILE_H
#define WORKER_EVENTFILE_H

#include <stddef.h>

#include "base/err.h"

enum { EVENTFILE_BYTES_MAX = 256 * 1024 * 1024, EVENTFILE_EVENTS_MAX = 1000000 };

struct eventfile_slice {
    const char *text; /* borrowed from the text that was split */
    size_t len;
    size_t line; /* 1 .. */
};

struct eventfile {
    char *name;
    char *text;
    size_t len;
    struct eventfile_slice *slices;
    size_t n;
};

/* path "-" is standard input. NULL and *err when it cannot be read, is too large or holds no event.
 */
struct eventfile *eventfile_read(const char *path, struct err *err);
void eventfile_free(struct eventfile *f);

/* For tests: splits text (copied). */
struct eventfile *eventfile_split(const char *name, const char *text, size_t len, struct err *err);

#endif
