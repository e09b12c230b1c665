#include "secret/secret.h"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <sodium.h>
#include <string.h>

enum { RSA_BYTES_MAX = 512, INNER_MAX = 256, PADDING = 11 };

static EVP_PKEY *read_key(const char *pem)
{
    BIO *bio = BIO_new_mem_buf(pem, -1);
    EVP_PKEY *key = bio ? PEM_read_bio_PUBKEY(bio, NULL, NULL, NULL) : NULL;
    BIO_free(bio);
    if (key && (EVP_PKEY_base_id(key) != EVP_PKEY_RSA || EVP_PKEY_size(key) > RSA_BYTES_MAX)) {
        EVP_PKEY_free(key);
        return NULL;
    }
    return key;
}

static int encrypt(EVP_PKEY *key, const char *text, unsigned char *out, size_t *n)
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(key, NULL);
    int ok = ctx && EVP_PKEY_encrypt_init(ctx) == 1 &&
             EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PADDING) == 1 &&
             EVP_PKEY_encrypt(ctx, out, n, (const unsigned char *)text, strlen(text)) == 1;
    EVP_PKEY_CTX_free(ctx);
    return ok ? 0 : -1;
}

int secret_ragflow_password(const char *public_key_pem, const char *password,
                            char out[SECRET_WIRE_MAX], struct err *err)
{
    char inner[INNER_MAX];
    unsigned char cipher[RSA_BYTES_MAX];
    size_t n = sizeof(cipher), len = strlen(password);
    EVP_PKEY *key = read_key(public_key_pem);
    if (!key)
        return err_set(err, ERR_INVALID,
                       "RAGFlow's public key is no RSA key in PEM of at most 4096 bits: take "
                       "conf/public.pem of the server");
    int room = EVP_PKEY_size(key) - PADDING;
    int rc = -1;
    if (sodium_base64_encoded_len(len, sodium_base64_VARIANT_ORIGINAL) <= sizeof(inner)) {
        sodium_bin2base64(inner, sizeof(inner), (const unsigned char *)password, len,
                          sodium_base64_VARIANT_ORIGINAL);
        rc = (int)strlen(inner) <= room ? encrypt(key, inner, cipher, &n) : -1;
    }
    EVP_PKEY_free(key);
    sodium_memzero(inner, sizeof(inner));
    if (rc)
        return err_set(err, ERR_INVALID, "the password is too long for RAGFlow's public key");
    sodium_bin2base64(out, SECRET_WIRE_MAX, cipher, n, sodium_base64_VARIANT_ORIGINAL);
    return 0;
}
