#include "config/value.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <sodium.h>

#include "base/str.h"
#include "secret/secret.h"

#define DIGITS   "0123456789"
#define LETTERS  "abcdefghijklmnopqrstuvwxyz"
#define CAPITALS "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

enum { REFERENCE_SHOWN_MAX = 120 };

void config_file_free(char *text, size_t n)
{
    if (text) {
        sodium_memzero(text, n);
        free(text);
    }
}

/* One allocation of the whole bound: growing would leave copies of secrets behind. */
static int read_all(int fd, size_t max, char **out, size_t *n, const char **reason)
{
    char *text = malloc(max + 2);
    if (!text) {
        *reason = NULL;
        return -1;
    }
    size_t got = 0;
    while (got <= max) {
        ssize_t k = read(fd, text + got, max + 1 - got);
        if (k < 0 && errno == EINTR) {
            continue;
        }
        if (k < 0) {
            *reason = strerror(errno);
            config_file_free(text, got);
            return -1;
        }
        if (k == 0) {
            break;
        }
        got += (size_t)k;
    }
    if (got > max) {
        *reason = "too large";
        config_file_free(text, got);
        return -1;
    }
    text[got] = '\0';
    *out = text;
    *n = got;
    return 0;
}

int config_file_read(const char *path, size_t max, char **out, size_t *n, const char **reason)
{
    /* Non-blocking, so that a FIFO without a writer is refused instead of waited for. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) != 0) {
        *reason = strerror(errno);
        if (fd >= 0) {
            close(fd);
        }
        return -1;
    }
    int rc = -1;
    if (S_ISREG(st.st_mode)) {
        rc = read_all(fd, max, out, n, reason);
    } else {
        *reason = "not a regular file";
    }
    close(fd);
    return rc;
}

static bool is_variable_name(const char *s)
{
    size_t n = strspn(s, LETTERS CAPITALS DIGITS "_");
    return n > 0 && s[n] == '\0' && !(s[0] >= '0' && s[0] <= '9');
}

static int from_env(const char *file, const struct config_node *n, const char *label, char **out,
                    struct err *err)
{
    const char *name = n->text + strlen("env:");
    if (!is_variable_name(name)) {
        return config_fail(file, n->at, err,
                           "%s: env: wants a variable's name, letters, digits and _", label);
    }
    const char *value = getenv(name);
    if (!value || value[0] == '\0') {
        return config_fail(file, n->at, err, "%s: environment variable %.*s is %s; set it", label,
                           REFERENCE_SHOWN_MAX, name, value ? "empty" : "not set");
    }
    *out = str_dup(value);
    return *out ? 0 : err_nomem(err);
}

static int from_file(const char *file, const struct config_node *n, const char *label, char **out,
                     struct err *err)
{
    const char *path = n->text + strlen("file:");
    if (path[0] != '/') {
        return config_fail(file, n->at, err, "%s: file: wants a path that begins with \"/\"",
                           label);
    }
    char *text = NULL;
    size_t len = 0;
    const char *reason = NULL;
    if (config_file_read(path, CONFIG_VALUE_FILE_MAX, &text, &len, &reason) != 0) {
        if (!reason) {
            return err_nomem(err);
        }
        return config_fail(file, n->at, err,
                           "%s: file %.*s: %s; it must be a readable file of at most %d bytes",
                           label, REFERENCE_SHOWN_MAX, path, reason, CONFIG_VALUE_FILE_MAX);
    }
    int rc = 0;
    size_t line = strcspn(text, "\r\n");
    const char *fault = line == 0 ? "has nothing in its first line" : NULL;
    if (strlen(text) != len) {
        fault = "holds a NUL character";
    }
    if (fault) {
        rc = config_fail(file, n->at, err, "%s: file %.*s %s; write the value there", label,
                         REFERENCE_SHOWN_MAX, path, fault);
    } else {
        *out = str_dupn(text, line);
        rc = *out ? 0 : err_nomem(err);
    }
    config_file_free(text, len);
    return rc;
}

int config_value_read(const char *file, const struct config_node *n, const char *label,
                      struct config_value *out, struct err *err)
{
    if (n->kind != CONFIG_SCALAR) {
        return config_fail(file, n->at, err, "%s takes a single value, not a %s", label,
                           n->kind == CONFIG_MAPPING ? "map" : "list");
    }
    if (config_node_is_null(n)) {
        return config_fail(file, n->at, err, "%s has no value; write one or remove the key", label);
    }
    struct config_value v = {.plain = n->plain, .at = n->at};
    int rc = 0;
    if (str_starts(n->text, "env:")) {
        v.referred = true;
        rc = from_env(file, n, label, &v.text, err);
    } else if (str_starts(n->text, "file:")) {
        v.referred = true;
        rc = from_file(file, n, label, &v.text, err);
    } else {
        v.text = str_dup(n->text);
        rc = v.text ? 0 : err_nomem(err);
    }
    if (rc == 0) {
        *out = v;
    }
    return rc;
}

void config_value_done(struct config_value *v)
{
    secret_wipe(v->text);
    free(v->text);
    v->text = NULL;
}

/* U+0000.. and U+0080.. controls, the line separators U+2028 and U+2029, U+FEFF, U+FFFE, U+FFFF. */
static bool is_foreign(const unsigned char *p, bool lines)
{
    switch (p[0]) {
    case '\t':
    case '\n':
    case '\r':
        return !lines;
    case 0x7F:
        return true;
    case 0xC2:
        return p[1] <= 0x9F;
    case 0xE2:
        return p[1] == 0x80 && (p[2] == 0xA8 || p[2] == 0xA9);
    case 0xEF:
        return (p[1] == 0xBB && p[2] == 0xBF) || (p[1] == 0xBF && p[2] >= 0xBE);
    default:
        return p[0] < 0x20;
    }
}

bool config_text_clean(const char *s, bool lines)
{
    size_t n = strlen(s);
    if (!str_is_utf8(s, n)) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        if (is_foreign((const unsigned char *)s + i, lines)) {
            return false;
        }
    }
    return true;
}

bool config_text_millionths(const char *s, int64_t *out)
{
    size_t whole = strspn(s, DIGITS);
    size_t behind = s[whole] == '.' ? strspn(s + whole + 1, DIGITS) : 0;
    const char *end = s + whole + (s[whole] == '.' ? 1 + behind : 0);
    if (whole == 0 || whole > 9 || behind > 6 || *end != '\0' || (s[whole] == '.' && behind == 0)) {
        return false;
    }
    int64_t v = 0;
    for (size_t i = 0; i < whole; i++) {
        v = v * 10 + (s[i] - '0');
    }
    for (size_t i = 0; i < 6; i++) {
        v = v * 10 + (i < behind ? s[whole + 1 + i] - '0' : 0);
    }
    *out = v;
    return true;
}

static bool only(const char *s, size_t n, const char *accept)
{
    return n > 0 && strspn(s, accept) >= n;
}

/* "host", "host:port", "[v6]:port" in s[0..n). */
static bool is_authority(const char *s, size_t n, bool port_wanted, int64_t port_min)
{
    size_t host = 0;
    if (n > 0 && s[0] == '[') {
        const char *close = memchr(s, ']', n);
        if (!close || !only(s + 1, (size_t)(close - s) - 1, DIGITS "abcdefABCDEF:.")) {
            return false;
        }
        host = (size_t)(close - s) + 1;
    } else {
        host = strspn(s, LETTERS CAPITALS DIGITS ".-_");
        host = host < n ? host : n;
    }
    if (host == 0) {
        return false;
    }
    if (host == n) {
        return !port_wanted;
    }
    char text[6];
    size_t digits = n - host - 1;
    if (s[host] != ':' || digits == 0 || digits >= sizeof(text) ||
        !only(s + host + 1, digits, DIGITS)) {
        return false;
    }
    memcpy(text, s + host + 1, digits);
    text[digits] = '\0';
    int64_t port = 0;
    return str_to_i64(text, &port) && port >= port_min && port <= 65535;
}

const char *config_check_url(char *text)
{
    static const char wanted[] = "must be http(s)://host[:port][/path]";
    size_t scheme = str_starts(text, "http://") ? 7 : str_starts(text, "https://") ? 8 : 0;
    if (scheme == 0) {
        return wanted;
    }
    char *authority = text + scheme;
    size_t n = strcspn(authority, "/?#");
    if (memchr(authority, '@', n)) {
        return "must not carry a user name or password; use the product's api_key or token";
    }
    if (strpbrk(authority, "?#")) {
        return "must not carry a query or a fragment";
    }
    if (!is_authority(authority, n, false, 1)) {
        return wanted;
    }
    for (const char *p = authority + n; *p; p++) {
        if (*p <= ' ' || *p >= 0x7F || strchr("\"<>\\^`{|}", *p)) {
            return "must be written in ASCII, other characters percent-encoded";
        }
    }
    for (size_t len = strlen(text); text[len - 1] == '/'; len--) {
        text[len - 1] = '\0';
    }
    return NULL;
}

const char *config_check_listen(char *text)
{
    return is_authority(text, strlen(text), true, 0)
               ? NULL
               : "must be host:port or [v6]:port, such as 127.0.0.1:9464";
}

const char *config_check_topic(char *text)
{
    bool good = only(text, strlen(text), LETTERS CAPITALS DIGITS "._-") && !str_eq(text, ".") &&
                !str_eq(text, "..");
    return good ? NULL : "must be a topic's name, of letters, digits, \".\", \"_\" and \"-\"";
}

const char *config_check_runtime_name(char *text)
{
    return only(text, strlen(text), LETTERS DIGITS "-")
               ? NULL
               : "must be of lower-case letters, digits and \"-\"";
}

const char *config_check_offering_type(char *text)
{
    /* naming_make wants something left of it in a name. */
    bool good = only(text, strlen(text), LETTERS CAPITALS DIGITS "._-") &&
                strpbrk(text, LETTERS CAPITALS DIGITS);
    return good ? NULL : "must be of letters, digits, \".\", \"_\" and \"-\"";
}

const char *config_check_kafka_property(char *text)
{
    if (str_eq(text, "bootstrap.servers") || str_eq(text, "metadata.broker.list")) {
        return "is not set here; set kafka.bootstrap_servers";
    }
    if (str_eq(text, "group.id")) {
        return "is not set here; set kafka.group_id";
    }
    if (str_starts(text, "enable.auto.")) {
        return "is not set here; offsets follow the database";
    }
    return only(text, strlen(text), LETTERS CAPITALS DIGITS "._-") ? NULL
                                                                   : "is no property of librdkafka";
}

const char *config_check_domain(char *text)
{
    static const char wanted[] =
        "must be a domain of two parts or more, such as tenants.example.com";
    if (!only(text, strlen(text), LETTERS DIGITS ".-") || text[0] == '.' || strstr(text, "..")) {
        return wanted;
    }
    const char *last = strrchr(text, '.');
    return last && strlen(last) > 2 ? NULL : wanted;
}

const char *config_check_path_secret(char *text)
{
    static const char unreserved[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                     "0123456789-._~";
    return text[strspn(text, unreserved)]
               ? "must be of letters, digits, \"-\", \".\", \"_\" and \"~\" alone"
               : NULL;
}

const char *config_check_path(char *text)
{
    return str_starts(text, "-----BEGIN") ? "must be a file's path, without \"file:\" before it"
                                          : NULL;
}
