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
    SECRET_TEXT_MAX = 512,                 /* bytes of what is sealed under the master key */
    SECRET_SEALED_EXTRA = 40,              /* nonce and tag */
    API_KEY_DELIVERY_LEN = API_KEY_LEN + SECRET_SEALED_EXTRA,
    SECRET_PASSWORD_LEN = 40, /* letters of base62, 238 bits; below bcrypt's 72 bytes */
    SECRET_TAG_LEN = 32,      /* hex digits */
    SECRET_WIRE_MAX = 1024,   /* a password as RAGFlow wants it, keys of up to 4096 bits */
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

/*
 * The same, for a key that somebody else is to be handed: sealed under the master key too
 * (secret_seal), bound to "<subscription>/<prefix>". api_key_delivery_open gives it back, as
 * secret_open does.
 */
int api_key_make_delivered(const unsigned char reveal_public_key[SECRET_KEY_BYTES],
                           const unsigned char master_key[SECRET_KEY_BYTES],
                           const char *subscription, struct api_key *out,
                           unsigned char delivery[API_KEY_DELIVERY_LEN], struct err *err);
int api_key_delivery_open(const unsigned char master_key[SECRET_KEY_BYTES],
                          const char *subscription, const char *prefix,
                          const unsigned char *delivery, size_t n, char clear[SECRET_TEXT_MAX + 1],
                          struct err *err);

/* For tests and the platform: opens a sealed key with the private half. clear holds API_KEY_LEN
 * + 1. */
int api_key_open(const unsigned char *sealed, size_t n,
                 const unsigned char public_key[SECRET_KEY_BYTES],
                 const unsigned char private_key[SECRET_KEY_BYTES], char clear[API_KEY_LEN + 1],
                 struct err *err);

/*
 * Keys of accounts at the products, kept under the master key: nonce (24 bytes), then ciphertext
 * and tag of XChaCha20-Poly1305 (IETF), bound to its context, "<subscription uuid>/<product>": in
 * another row it does not open. out holds strlen(clear) + SECRET_SEALED_EXTRA bytes; clear has at
 * most SECRET_TEXT_MAX.
 */
int secret_seal(const unsigned char master_key[SECRET_KEY_BYTES], const char *context,
                const char *clear, unsigned char *out, struct err *err);
/* clear holds SECRET_TEXT_MAX + 1 bytes; the caller wipes it. */
int secret_open(const unsigned char master_key[SECRET_KEY_BYTES], const char *context,
                const unsigned char *sealed, size_t n, char clear[SECRET_TEXT_MAX + 1],
                struct err *err);

/* A random password; the caller wipes it. */
void secret_password(char out[SECRET_PASSWORD_LEN + 1]);
/* Always the same for a text under a key, and not to be guessed without it (BLAKE2b, keyed). */
void secret_tag(const unsigned char master_key[SECRET_KEY_BYTES], const char *text,
                char out[SECRET_TAG_LEN + 1]);
/*
 * A password as RAGFlow wants it: base64(RSA-PKCS1v1.5(base64(password))), under the public key
 * that the server has as conf/public.pem. Not for secrecy (each installation has the same private
 * key).
 */
int secret_ragflow_password(const char *public_key_pem, const char *password,
                            char out[SECRET_WIRE_MAX], struct err *err);

/* 32 bytes from base64 (RFC 4648, with or without padding, surrounding white space allowed). */
int secret_key_parse(const char *base64, unsigned char out[SECRET_KEY_BYTES], struct err *err);

/* Wipes a C string in place; NULL allowed. */
void secret_wipe(char *s);
/* Makes this process refuse core files and ptrace by others (PR_SET_DUMPABLE, RLIMIT_CORE). */
void secret_harden_process(void);

#endif
