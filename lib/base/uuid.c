#include "base/uuid.h"

#include <string.h>

#include "base/rng.h"
#include "base/str.h"

/* 8-4-4-4-12 */
static bool is_dash_place(size_t i)
{
    return i == 8 || i == 13 || i == 18 || i == 23;
}

/* The lower-case hex digit, 0 where c is none. */
static char hex_digit(char c)
{
    if ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'))
        return c;
    if (c >= 'A' && c <= 'F')
        return (char)(c - 'A' + 'a');
    return '\0';
}

bool uuid_parse(const char *s, size_t n, char out[UUID_TEXT])
{
    if (!s || (n != 36 && n != 32))
        return false;
    char text[UUID_TEXT];
    const char *p = s;
    for (size_t i = 0; i < UUID_TEXT - 1; i++) {
        if (is_dash_place(i)) {
            text[i] = '-';
            if (n == 36 && *p++ != '-')
                return false;
            continue;
        }
        text[i] = hex_digit(*p++);
        if (!text[i])
            return false;
    }
    text[UUID_TEXT - 1] = '\0';
    memcpy(out, text, UUID_TEXT);
    return true;
}

void uuid_make(char out[UUID_TEXT])
{
    unsigned char b[16];
    rng_bytes(b, sizeof(b));
    b[6] = (unsigned char)((b[6] & 0x0FU) | 0x40U);
    b[8] = (unsigned char)((b[8] & 0x3FU) | 0x80U);
    char hex[33];
    str_hex(hex, b, sizeof(b));
    uuid_parse(hex, 32, out);
}

void uuid_hex(const char *uuid, char out[33])
{
    size_t n = 0;
    for (; *uuid && n < 32; uuid++) {
        if (*uuid != '-')
            out[n++] = *uuid;
    }
    out[n] = '\0';
}
