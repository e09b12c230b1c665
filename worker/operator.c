#include "operator.h"

#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/str.h"

void operator_name(char out[OPERATOR_MAX])
{
    const char *name = getuid() == 0 ? getenv("SUDO_USER") : NULL;
    const struct passwd *user = name ? NULL : getpwuid(getuid());
    name = user ? user->pw_name : name;
    if (name && *name && str_is_utf8(name, strlen(name))) {
        snprintf(out, OPERATOR_MAX, "operator:%.60s", name);
    } else {
        snprintf(out, OPERATOR_MAX, "operator:%ld", (long)getuid());
    }
}
