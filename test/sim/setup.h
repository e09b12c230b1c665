/*
 * The products from inside.
 */
#ifndef SIM_SETUP_H
#define SIM_SETUP_H

#include <stdbool.h>

#include "machine/machine.h"

enum { COMMIT_MAX_MS = 900 };

/* POST below the stand-in's /admin. */
void product_post(enum product p, const char *path, const char *body);
/* As whoever has the platform's account would; false: there is no such object. */
bool product_remove(enum product p, const char *id);

/* As whoever has that credential would; false: it was refused. */
bool product_rename(enum product p, const char *id, const char *credential, const char *name);
/* The half that opens what is sealed to the platform's public one. */
const unsigned char *setup_reveal_private(void);

#endif
