/*
 * Answers the wish for a new key of a resource (rotation at Waldur): hands it over, or says that
 * there will be none. Nothing is posted unless Waldur waits for it (state Updating), and not where
 * it has a key of this client_id already.
 *
 * Effects: "key.set", "key.erred".
 */
#ifndef WALDUR_KEY_H
#define WALDUR_KEY_H

#include "base/uuid.h"
#include "waldur/op.h"
#include "waldur/terms.h"

enum { WALDUR_CLIENT_ID_MAX = 255 };

/* Everything borrowed; must outlive the operation. */
struct waldur_key_target {
    struct waldur_access access;
    const char *resource; /* its UUID, canonical */
    const char *key; /* the UUID of the key at Waldur; NULL: the one of the resource's that waits */
    const char *client_id;     /* the new key's */
    const char *api_key;       /* the new key, secret; NULL: there will be none */
    const char *error_message; /* then: what buyers read (words.h) */
};

enum waldur_key_end {
    WALDUR_KEY_TOLD,         /* and seen */
    WALDUR_KEY_ALREADY,      /* Waldur has a key of this client_id (`state` Updating: it waits for
                                another one again); or had been told of the error */
    WALDUR_KEY_NOT_WANTED,   /* nobody waits for a new key */
    WALDUR_KEY_GONE,         /* the key, or every key of the resource, is not known there */
    WALDUR_KEY_NOT_SUPPORTED /* this Waldur has no keys */
};

struct waldur_key {
    enum waldur_key_end end;
    enum waldur_key_state state;                  /* as seen last */
    char key_uuid[UUID_TEXT];                     /* of the key that it was about; "" for none */
    char client_id[WALDUR_CLIENT_ID_MAX * 4 + 1]; /* which it had when it was first looked at */
};

/* Copies *target; what it points to is borrowed. NULL and *err when memory ends. */
struct waldur_op *waldur_key_start(const struct waldur_key_target *target, struct err *err);
/* After WALDUR_DONE. The operation's own. */
const struct waldur_key *waldur_key_of(const struct waldur_op *op);

#endif
