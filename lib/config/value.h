/*
 * Private to config: scalars as text, env:NAME and file:/path resolved, and the checks of single
 * texts.
 */
#ifndef CONFIG_VALUE_H
#define CONFIG_VALUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "config/node.h"

enum { CONFIG_VALUE_FILE_MAX = 64 * 1024 };

struct config_value {
    char *text;    /* owned; may be a secret */
    bool referred; /* it came by env: or file:, so no message and no print of a free key shows it */
    bool plain;    /* it was written without quotes */
    struct config_place at;
};

/* label names the setting in messages. */
int config_value_read(const char *file, const struct config_node *n, const char *label,
                      struct config_value *out, struct err *err);
void config_value_done(struct config_value *v);

/* A regular file whole, NUL-terminated; *reason says why not ("too large", ...), NULL: memory
 * ended. */
int config_file_read(const char *path, size_t max, char **out, size_t *n, const char **reason);
void config_file_free(char *text, size_t n);

/* UTF-8 without control characters that YAML could not carry; lines: tab and line breaks are fine.
 */
bool config_text_clean(const char *s, bool lines);
/* "1", "1.5": at most 9 digits before and 6 behind the point, whatever the locale. In millionths.
 */
bool config_text_millionths(const char *s, int64_t *out);

/* NULL when good, else what is wanted, for a message. They may shorten the text in place. */
typedef const char *config_check_fn(char *text);
config_check_fn config_check_url;    /* drops trailing slashes */
config_check_fn config_check_listen; /* host:port, [v6]:port */
config_check_fn config_check_topic;
config_check_fn config_check_runtime_name;
config_check_fn config_check_offering_type;
config_check_fn config_check_kafka_property;
config_check_fn config_check_domain;
config_check_fn config_check_path;        /* of a file, not its content */
config_check_fn config_check_path_secret; /* a part of a URL's path */

#endif
