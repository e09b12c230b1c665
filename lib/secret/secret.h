/*
 * Keys: made, hashed, sealed. Clear keys live in this process's memory only, for as long as it
 * takes to seal them, and are wiped (sodium_memzero).
 */
#ifndef SECRET_SECRET_H
#define SECRET_SECRET_H

#include <stddef.h>

#include "base/err.h"

enum {
    SECRET_KEY_BYTES = 32,   /* master key, reveal public key */
    API_KEY_PREFIX_LEN = 16, /* "pk_live_" and 8 characters: public, unique, recorded */
    API_KEY_LEN = 8 + 40,    /* "pk_live_" and 40 characters of base62, 238 bits */
    API_KEY_SEALED_LEN = API_KEY_LEN + 48, /* crypto_box_SEALBYTES */
};

struct api_key {
    char prefix[API_KEY_PREFIX_LEN + 1];
    char hash_hex[65];                        /* SHA-256 of the whole key */
    unsigned char sealed[API_KEY_SEALED_LEN]; /* crypto_box_seal of the whole key */
};

/* A new key, already hashed and sealed to the public key; the clear text is wiped before it
 * returns. */
int api_key_make(const unsigned char reveal_public_key[SECRET_KEY_BYTES], struct api_key *out,
                 struct err *err);

/* For tests and the platform: opens a sealed key with the private half. clear holds API_KEY_LEN
 * + 1. */
int api_key_open(const unsigned char *sealed, size_t n,
                 const unsigned char public_key[SECRET_KEY_BYTES],
                 const unsigned char private_key[SECRET_KEY_BYTES], char clear[API_KEY_LEN + 1],
                 struct err *err);

/* 32 bytes from base64 (RFC 4648, with or without padding, surrounding white space allowed). */
int secret_key_parse(const char *base64, unsigned char out[SECRET_KEY_BYTES], struct err *err);

/* Wipes a C string in place; NULL allowed. */
void secret_wipe(char *s);
/* Makes this process refuse core files and ptrace by others (PR_SET_DUMPABLE, RLIMIT_CORE). */
void secret_harden_process(void);

#endif
