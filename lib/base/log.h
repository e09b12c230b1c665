/*
 * Structured logging: one line per event on standard error, JSON or text. Only worker/ and programs
 * log; other libraries return errors. Every value is escaped; nothing here may be given a secret.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <stdbool.h>
#include <stdint.h>

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };

struct log_field {
    const char *key; /* NULL ends the list */
    enum { LOG_FIELD_STR, LOG_FIELD_INT, LOG_FIELD_BOOL } kind;
    union {
        const char *s; /* NULL: the field is left out */
        int64_t i;
        bool b;
    } v;
};

#define LOG_S(k, x) ((struct log_field){.key = (k), .kind = LOG_FIELD_STR, .v.s = (x)})
#define LOG_I(k, x) ((struct log_field){.key = (k), .kind = LOG_FIELD_INT, .v.i = (x)})
#define LOG_B(k, x) ((struct log_field){.key = (k), .kind = LOG_FIELD_BOOL, .v.b = (x)})
#define LOG_END     ((struct log_field){.key = 0})

/* Process-wide; call once at start. Until then: LOG_INFO, JSON, standard error. */
void log_setup(enum log_level level, bool json, int fd);
bool log_level_parse(const char *name, enum log_level *out); /* debug info warn error */
bool log_enabled(enum log_level level);

/* {"time":..., "level":..., "event":..., fields...}; one write(2) a line, at most 8 KiB, cut values
 * marked. */
void log_write(enum log_level level, const char *event, const struct log_field *fields);

/* log_event(LOG_INFO, "job finished", LOG_S("job", id), LOG_I("attempt", 3)); */
#define log_event(level, event, ...)                                                               \
    log_write((level), (event), (const struct log_field[]){__VA_ARGS__ __VA_OPT__(, ) LOG_END})

#endif
