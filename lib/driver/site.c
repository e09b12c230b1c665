#include "driver/driver.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/str.h"

struct driver_site *driver_site_ref(struct driver_site *site)
{
    if (site) {
        site->refs++;
    }
    return site;
}

void driver_site_unref(struct driver_site *site)
{
    if (site && --site->refs == 0) {
        site->class->site_free(site);
    }
}

void driver_report_add(struct driver_report *r, enum driver_level level, const char *subject,
                       const char *mend, const char *fmt, ...)
{
    va_list ap;
    if (r->n == DRIVER_FINDINGS_MAX) {
        return;
    }
    struct driver_finding *f = &r->findings[r->n++];
    f->level = level;
    f->subject = subject;
    va_start(ap, fmt);
    vsnprintf(f->what, sizeof(f->what), fmt, ap);
    va_end(ap);
    str_copy(f->mend, sizeof(f->mend), mend ? mend : "");
}
