#include "secret/secret.h"

#include <sodium.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "base/rng.h"
#include "base/str.h"

static const char key_start[] = "pk_live_";

enum { KEY_START_LEN = sizeof(key_start) - 1, KEY_RANDOM_LEN = API_KEY_LEN - KEY_START_LEN };

_Static_assert(API_KEY_SEALED_LEN == API_KEY_LEN + crypto_box_SEALBYTES, "sealing adds this much");
_Static_assert(SECRET_KEY_BYTES == crypto_box_PUBLICKEYBYTES &&
                   SECRET_KEY_BYTES == crypto_box_SECRETKEYBYTES,
               "one size for every key");

/* Uniform base62: bytes from 248 up are thrown away, since 256 is no multiple of 62. */
static void random_base62(char *out, size_t n)
{
    static const char alphabet[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    enum { LETTERS = sizeof(alphabet) - 1, LIMIT = 256 - 256 % LETTERS };
    unsigned char pool[64];
    size_t done = 0;
    while (done < n) {
        rng_bytes(pool, sizeof(pool));
        for (size_t i = 0; i < sizeof(pool) && done < n; i++) {
            if (pool[i] < LIMIT)
                out[done++] = alphabet[pool[i] % LETTERS];
        }
    }
    sodium_memzero(pool, sizeof(pool));
}

/* The caller wipes clear. */
static int make_key(const unsigned char reveal_public_key[SECRET_KEY_BYTES], struct api_key *out,
                    char clear[API_KEY_LEN + 1], struct err *err)
{
    rng_init();
    memcpy(clear, key_start, KEY_START_LEN);
    random_base62(clear + KEY_START_LEN, KEY_RANDOM_LEN);
    clear[API_KEY_LEN] = '\0';

    struct api_key key;
    memcpy(key.prefix, clear, API_KEY_PREFIX_LEN);
    key.prefix[API_KEY_PREFIX_LEN] = '\0';
    str_sha256_hex(key.hash_hex, clear, API_KEY_LEN);
    if (crypto_box_seal(key.sealed, (const unsigned char *)clear, API_KEY_LEN, reveal_public_key))
        return err_set(err, ERR_INVALID,
                       "the reveal public key is no X25519 public key: make a new pair");
    *out = key;
    return 0;
}

int api_key_make(const unsigned char reveal_public_key[SECRET_KEY_BYTES], struct api_key *out,
                 struct err *err)
{
    char clear[API_KEY_LEN + 1];
    int r = make_key(reveal_public_key, out, clear, err);
    sodium_memzero(clear, sizeof(clear));
    return r;
}

static void delivery_context(const char *subscription, const char *prefix, char out[128])
{
    snprintf(out, 128, "%.64s/%.32s", subscription, prefix);
}

int api_key_make_delivered(const unsigned char reveal_public_key[SECRET_KEY_BYTES],
                           const unsigned char master_key[SECRET_KEY_BYTES],
                           const char *subscription, struct api_key *out,
                           unsigned char delivery[API_KEY_DELIVERY_LEN], struct err *err)
{
    char clear[API_KEY_LEN + 1], context[128];
    struct api_key key;
    int r = make_key(reveal_public_key, &key, clear, err);
    if (r == 0) {
        delivery_context(subscription, key.prefix, context);
        r = secret_seal(master_key, context, clear, delivery, err);
    }
    sodium_memzero(clear, sizeof(clear));
    if (r == 0)
        *out = key;
    return r;
}

int api_key_delivery_open(const unsigned char master_key[SECRET_KEY_BYTES],
                          const char *subscription, const char *prefix,
                          const unsigned char *delivery, size_t n, char clear[SECRET_TEXT_MAX + 1],
                          struct err *err)
{
    char context[128];
    delivery_context(subscription, prefix, context);
    return secret_open(master_key, context, delivery, n, clear, err);
}

int api_key_open(const unsigned char *sealed, size_t n,
                 const unsigned char public_key[SECRET_KEY_BYTES],
                 const unsigned char private_key[SECRET_KEY_BYTES], char clear[API_KEY_LEN + 1],
                 struct err *err)
{
    rng_init();
    if (n != API_KEY_SEALED_LEN)
        return err_set(err, ERR_INVALID, "a sealed key has %d bytes, not %zu", API_KEY_SEALED_LEN,
                       n);
    unsigned char text[API_KEY_LEN];
    if (crypto_box_seal_open(text, sealed, n, public_key, private_key)) {
        sodium_memzero(text, sizeof(text));
        return err_set(err, ERR_INVALID, "the sealed key is damaged, or sealed to another key");
    }
    memcpy(clear, text, API_KEY_LEN);
    clear[API_KEY_LEN] = '\0';
    sodium_memzero(text, sizeof(text));
    return 0;
}

_Static_assert(SECRET_SEALED_EXTRA == crypto_aead_xchacha20poly1305_ietf_NPUBBYTES +
                                          crypto_aead_xchacha20poly1305_ietf_ABYTES,
               "sealing under the master key adds this much");
_Static_assert(SECRET_KEY_BYTES == crypto_aead_xchacha20poly1305_ietf_KEYBYTES,
               "one size for every key");

int secret_seal(const unsigned char master_key[SECRET_KEY_BYTES], const char *context,
                const char *clear, unsigned char *out, struct err *err)
{
    enum { NONCE = crypto_aead_xchacha20poly1305_ietf_NPUBBYTES };
    size_t n = strlen(clear);
    if (n > SECRET_TEXT_MAX)
        return err_set(err, ERR_INVALID, "a secret of more than %d bytes cannot be kept",
                       SECRET_TEXT_MAX);
    rng_init();
    rng_bytes(out, NONCE);
    (void)crypto_aead_xchacha20poly1305_ietf_encrypt(
        out + NONCE, NULL, (const unsigned char *)clear, n, (const unsigned char *)context,
        strlen(context), NULL, out, master_key);
    return 0;
}

int secret_open(const unsigned char master_key[SECRET_KEY_BYTES], const char *context,
                const unsigned char *sealed, size_t n, char clear[SECRET_TEXT_MAX + 1],
                struct err *err)
{
    enum { NONCE = crypto_aead_xchacha20poly1305_ietf_NPUBBYTES };
    char text[SECRET_TEXT_MAX + 1];
    rng_init();
    bool opens = n >= SECRET_SEALED_EXTRA && n <= SECRET_TEXT_MAX + SECRET_SEALED_EXTRA &&
                 crypto_aead_xchacha20poly1305_ietf_decrypt(
                     (unsigned char *)text, NULL, NULL, sealed + NONCE, n - NONCE,
                     (const unsigned char *)context, strlen(context), sealed, master_key) == 0;
    if (opens) {
        memcpy(clear, text, n - SECRET_SEALED_EXTRA);
        clear[n - SECRET_SEALED_EXTRA] = '\0';
    }
    sodium_memzero(text, sizeof(text));
    return opens ? 0
                 : err_set(err, ERR_INVALID,
                           "what is kept for %s does not open: secrets.master_key is another one "
                           "than it was, or the row was changed",
                           context);
}

void secret_password(char out[SECRET_PASSWORD_LEN + 1])
{
    rng_init();
    random_base62(out, SECRET_PASSWORD_LEN);
    out[SECRET_PASSWORD_LEN] = '\0';
}

void secret_tag(const unsigned char master_key[SECRET_KEY_BYTES], const char *text,
                char out[SECRET_TAG_LEN + 1])
{
    unsigned char hash[SECRET_TAG_LEN / 2];
    (void)crypto_generichash(hash, sizeof(hash), (const unsigned char *)text, strlen(text),
                             master_key, SECRET_KEY_BYTES);
    str_hex(out, hash, sizeof(hash));
}

int secret_key_parse(const char *base64, unsigned char out[SECRET_KEY_BYTES], struct err *err)
{
    static const char space[] = " \t\r\n";
    const char *p = base64 + strspn(base64, space);
    size_t n = strcspn(p, space);
    size_t rest = strspn(p + n, space);
    int variant = n > 0 && p[n - 1] == '=' ? sodium_base64_VARIANT_ORIGINAL
                                           : sodium_base64_VARIANT_ORIGINAL_NO_PADDING;
    unsigned char key[SECRET_KEY_BYTES];
    size_t len = 0;
    int r = 0;
    if (p[n + rest] != '\0' ||
        sodium_base642bin(key, sizeof(key), p, n, NULL, &len, NULL, variant) ||
        len != SECRET_KEY_BYTES)
        r = err_set(err, ERR_INVALID, "a key is %d bytes in base64 (44 characters)",
                    SECRET_KEY_BYTES);
    else
        memcpy(out, key, sizeof(key));
    sodium_memzero(key, sizeof(key));
    return r;
}

void secret_wipe(char *s)
{
    if (s)
        sodium_memzero(s, strlen(s));
}

void secret_harden_process(void)
{
    /* Hardening only: where the kernel refuses, the program is no less correct. */
    const struct rlimit none = {0, 0};
    (void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    (void)setrlimit(RLIMIT_CORE, &none);
}
