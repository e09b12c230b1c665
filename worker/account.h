/*
 * What an operation needs to know of a subscription's own accounts at the products: keys that are
 * kept sealed, opened; addresses, ids and passwords that it may have to make some with. Lives as
 * long as the operation, and is wiped.
 */
#ifndef WORKER_ACCOUNT_H
#define WORKER_ACCOUNT_H

#include "base/err.h"
#include "base/uuid.h"
#include "config/config.h"
#include "driver/driver.h"
#include "machine/machine.h"
#include "secret/secret.h"

struct job;

enum {
    ACCOUNT_EMAIL_MAX = 255,
    ACCOUNT_SEALED_HEX_MAX = 2 + 2 * (DRIVER_SECRET_MAX + SECRET_SEALED_EXTRA)
};

struct account {
    char secret[SECRET_TEXT_MAX + 1];         /* of the product that is driven; "" for none */
    char collection_key[SECRET_TEXT_MAX + 1]; /* for the workspace; "" for none */
    char password[SECRET_PASSWORD_LEN + 1];
    char password_wire[SECRET_WIRE_MAX]; /* "" where RAGFlow needs none */
    char tenant_email[ACCOUNT_EMAIL_MAX + 1];
    char flow_uuid[UUID_TEXT];
    char proof[SECRET_TAG_LEN + 1];  /* of a workspace; "" without a master key */
    struct driver_settings settings; /* borrows from the configuration */
};

/* What the runtime's settings beyond address and credential are for a driver. Borrows from p. */
void account_settings(const struct config_product *p, struct driver_settings *out);

/*
 * For an operation of j on its product. NULL and *err where there is no memory, or a sealed key
 * does not open (another master key).
 */
struct account *account_new(const struct job *j, const struct config_runtime *r, struct err *err);
void account_free(struct account *a); /* wipes; NULL allowed */

/* Puts everything of it into the target that a driver may need. */
void account_fill(const struct account *a, struct driver_target *t);

/* The key as the statements take it, "\x...", sealed for this subscription and product. */
int account_seal(const struct job *j, const struct config *c, enum product product,
                 const char *secret, char out[ACCOUNT_SEALED_HEX_MAX + 1], struct err *err);

/* Everything of the account that a server's words might repeat becomes asterisks. */
void account_redact(const struct account *a, struct err *err);

#endif
