#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <sodium.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "base/rng.h"
#include "base/str.h"
#include "secret/secret.h"

static unsigned char public_key[SECRET_KEY_BYTES];
static unsigned char private_key[SECRET_KEY_BYTES];

static int start(void **state)
{
    (void)state;
    rng_init();
    return crypto_box_keypair(public_key, private_key);
}

static void keys_are_made_hashed_and_sealed(void **state)
{
    (void)state;
    static const char base62[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    unsigned seen[128] = {0};
    char last[API_KEY_LEN + 1] = "";
    enum { ROUNDS = 1000 };
    for (int i = 0; i < ROUNDS; i++) {
        struct api_key key;
        struct err err;
        char clear[API_KEY_LEN + 1];
        assert_int_equal(api_key_make(public_key, &key, &err), 0);
        assert_int_equal(
            api_key_open(key.sealed, sizeof(key.sealed), public_key, private_key, clear, &err), 0);
        assert_int_equal(strlen(clear), API_KEY_LEN);
        assert_true(str_starts(clear, "pk_live_"));
        assert_int_equal(strspn(clear + 8, base62), API_KEY_LEN - 8);
        assert_int_equal(strlen(key.prefix), API_KEY_PREFIX_LEN);
        assert_true(str_starts(clear, key.prefix));
        char hash[65];
        str_sha256_hex(hash, clear, API_KEY_LEN);
        assert_string_equal(key.hash_hex, hash);
        assert_string_not_equal(clear, last);
        str_copy(last, sizeof(last), clear);
        for (const char *p = clear + 8; *p; p++)
            seen[(unsigned char)*p]++;
    }
    /* 40,000 letters, 645 expected of each, sigma 25: five of them either way. */
    for (size_t i = 0; i < 62; i++)
        assert_in_range(seen[(unsigned char)base62[i]], 520, 770);
}

static void delivered_keys_open_for_their_subscription_alone(void **state)
{
    (void)state;
    static const char one[] = "11111111-1111-1111-1111-111111111111";
    static const char other[] = "22222222-2222-2222-2222-222222222222";
    const unsigned char master[SECRET_KEY_BYTES] = {7}, wrong[SECRET_KEY_BYTES] = {8};
    unsigned char delivery[API_KEY_DELIVERY_LEN];
    char clear[SECRET_TEXT_MAX + 1], revealed[API_KEY_LEN + 1], hash[65];
    struct api_key key;
    struct err err;
    assert_int_equal(api_key_make_delivered(public_key, master, one, &key, delivery, &err), 0);
    assert_int_equal(
        api_key_delivery_open(master, one, key.prefix, delivery, sizeof(delivery), clear, &err), 0);
    assert_int_equal(
        api_key_open(key.sealed, sizeof(key.sealed), public_key, private_key, revealed, &err), 0);
    assert_string_equal(clear, revealed);
    str_sha256_hex(hash, clear, strlen(clear));
    assert_string_equal(key.hash_hex, hash);
    assert_int_equal(
        api_key_delivery_open(wrong, one, key.prefix, delivery, sizeof(delivery), clear, &err), -1);
    assert_int_equal(
        api_key_delivery_open(master, other, key.prefix, delivery, sizeof(delivery), clear, &err),
        -1);
    assert_int_equal(api_key_delivery_open(master, one, "pk_live_00000000", delivery,
                                           sizeof(delivery), clear, &err),
                     -1);
    assert_int_equal(
        api_key_delivery_open(master, one, key.prefix, delivery, sizeof(delivery) - 1, clear, &err),
        -1);
}

static void unusable_public_keys_are_refused(void **state)
{
    (void)state;
    const unsigned char zero[SECRET_KEY_BYTES] = {0};
    struct api_key key, before;
    memset(&key, 0x5A, sizeof(key));
    before = key;
    struct err err;
    assert_int_equal(api_key_make(zero, &key, &err), -1);
    assert_int_equal(err.class, ERR_INVALID);
    assert_memory_equal(&key, &before, sizeof(key));
}

static void only_the_right_key_opens(void **state)
{
    (void)state;
    struct api_key key;
    struct err err;
    char clear[API_KEY_LEN + 1] = "untouched";
    assert_int_equal(api_key_make(public_key, &key, &err), 0);
    unsigned char other_public[SECRET_KEY_BYTES], other_private[SECRET_KEY_BYTES];
    crypto_box_keypair(other_public, other_private);
    assert_int_equal(
        api_key_open(key.sealed, sizeof(key.sealed), other_public, other_private, clear, &err), -1);
    assert_int_equal(err.class, ERR_INVALID);
    assert_int_equal(
        api_key_open(key.sealed, sizeof(key.sealed) - 1, public_key, private_key, clear, &err), -1);
    for (size_t i = 0; i < sizeof(key.sealed); i += 7) {
        key.sealed[i] ^= 1;
        assert_int_equal(
            api_key_open(key.sealed, sizeof(key.sealed), public_key, private_key, clear, &err), -1);
        key.sealed[i] ^= 1;
    }
    assert_string_equal(clear, "untouched");
}

static void keys_are_read_from_base64(void **state)
{
    (void)state;
    static const char *const good[] = {
        "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
        "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8",
        " \tAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\r\n",
    };
    static const char *const bad[] = {
        "",
        " ",
        "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHg==",  /* 31 */
        "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8g",  /* 33 */
        "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8==", /* too much padding */
        "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh9=",  /* stray bits */
        "AAECAwQFBgcICQoLDA0O DxAREhMUFRYXGBkaGxwdHh8=",
        "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8= x",
        "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh-=", /* the URL alphabet */
        "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
    };
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        unsigned char key[SECRET_KEY_BYTES] = {0xFF};
        struct err err;
        assert_int_equal(secret_key_parse(good[i], key, &err), 0);
        for (size_t k = 0; k < sizeof(key); k++)
            assert_int_equal(key[k], k);
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        unsigned char key[SECRET_KEY_BYTES] = {0x5A};
        struct err err;
        assert_int_equal(secret_key_parse(bad[i], key, &err), -1);
        assert_int_equal(err.class, ERR_INVALID);
        assert_int_equal(key[0], 0x5A);
        assert_null(strstr(err.msg, "AAEC"));
    }
}

static void what_is_kept_opens_in_its_own_row_alone(void **state)
{
    (void)state;
    static const char text[] = "sk-AbCdEfGhIjKlMnOpQrStUvWxYz0123456789_-";
    static const char row[] = "2f1c9a52-6a0e-4c55-8f1e-5d2f0c9b7a01/langflow";
    unsigned char master[SECRET_KEY_BYTES] = {1}, other[SECRET_KEY_BYTES] = {2};
    unsigned char sealed[sizeof(text) - 1 + SECRET_SEALED_EXTRA], again[sizeof(sealed)];
    char clear[SECRET_TEXT_MAX + 1] = "untouched";
    struct err err;
    assert_int_equal(secret_seal(master, row, text, sealed, &err), 0);
    assert_int_equal(secret_seal(master, row, text, again, &err), 0);
    assert_memory_not_equal(sealed, again, sizeof(sealed));

    assert_int_equal(secret_open(other, row, sealed, sizeof(sealed), clear, &err), -1);
    assert_int_equal(err.class, ERR_INVALID);
    assert_int_equal(secret_open(master, "another/langflow", sealed, sizeof(sealed), clear, &err),
                     -1);
    assert_non_null(strstr(err.msg, "another/langflow"));
    assert_int_equal(secret_open(master, row, sealed, SECRET_SEALED_EXTRA - 1, clear, &err), -1);
    for (size_t i = 0; i < sizeof(sealed); i++) {
        sealed[i] ^= 1;
        assert_int_equal(secret_open(master, row, sealed, sizeof(sealed), clear, &err), -1);
        sealed[i] ^= 1;
    }
    assert_string_equal(clear, "untouched");
    assert_int_equal(secret_open(master, row, sealed, sizeof(sealed), clear, &err), 0);
    assert_string_equal(clear, text);

    char longest[SECRET_TEXT_MAX + 2];
    unsigned char room[SECRET_TEXT_MAX + 1 + SECRET_SEALED_EXTRA];
    memset(longest, 'x', sizeof(longest) - 1);
    longest[SECRET_TEXT_MAX + 1] = '\0';
    assert_int_equal(secret_seal(master, row, longest, room, &err), -1);
    longest[SECRET_TEXT_MAX] = '\0';
    assert_int_equal(secret_seal(master, row, longest, room, &err), 0);
    assert_int_equal(secret_open(master, row, room, sizeof(room), clear, &err), -1);
    assert_int_equal(
        secret_open(master, row, room, SECRET_TEXT_MAX + SECRET_SEALED_EXTRA, clear, &err), 0);
    assert_string_equal(clear, longest);
}

static void passwords_and_tags(void **state)
{
    (void)state;
    char a[SECRET_PASSWORD_LEN + 1], b[SECRET_PASSWORD_LEN + 1];
    secret_password(a);
    secret_password(b);
    assert_int_equal(strlen(a), SECRET_PASSWORD_LEN);
    assert_string_not_equal(a, b);

    unsigned char one[SECRET_KEY_BYTES] = {1}, two[SECRET_KEY_BYTES] = {2};
    char x[SECRET_TAG_LEN + 1], y[SECRET_TAG_LEN + 1];
    secret_tag(one, "organization/1", x);
    secret_tag(one, "organization/1", y);
    assert_int_equal(strlen(x), SECRET_TAG_LEN);
    assert_string_equal(x, y);
    secret_tag(one, "organization/2", y);
    assert_string_not_equal(x, y);
    secret_tag(two, "organization/1", y);
    assert_string_not_equal(x, y);
}

/* What RAGFlow does with it: base64, RSA, base64. */
static void ragflow_reads_its_password(void **state)
{
    (void)state;
    EVP_PKEY *key = EVP_RSA_gen(2048);
    BIO *bio = BIO_new(BIO_s_mem());
    char *pem = NULL;
    assert_true(key && bio && PEM_write_bio_PUBKEY(bio, key) && BIO_write(bio, "", 1) == 1);
    BIO_get_mem_data(bio, &pem);

    char wire[SECRET_WIRE_MAX];
    struct err err;
    assert_int_equal(secret_ragflow_password(pem, "correct horse", wire, &err), 0);

    unsigned char cipher[SECRET_WIRE_MAX], text[SECRET_WIRE_MAX];
    size_t n = 0, len = sizeof(text);
    assert_int_equal(sodium_base642bin(cipher, sizeof(cipher), wire, strlen(wire), NULL, &n, NULL,
                                       sodium_base64_VARIANT_ORIGINAL),
                     0);
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(key, NULL);
    assert_int_equal(EVP_PKEY_decrypt_init(ctx), 1);
    assert_int_equal(EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PADDING), 1);
    assert_int_equal(EVP_PKEY_decrypt(ctx, text, &len, cipher, n), 1);
    text[len] = '\0';
    assert_string_equal(text, "Y29ycmVjdCBob3JzZQ==");

    char long_one[256];
    memset(long_one, 'x', sizeof(long_one));
    long_one[184] = '\0';
    assert_int_equal(secret_ragflow_password(pem, long_one, wire, &err), -1);
    long_one[183] = '\0';
    assert_int_equal(secret_ragflow_password(pem, long_one, wire, &err), 0);
    assert_int_equal(secret_ragflow_password("no key", "x", wire, &err), -1);
    assert_int_equal(err.class, ERR_INVALID);
    EVP_PKEY_CTX_free(ctx);
    EVP_PKEY_free(key);
    BIO_free(bio);
}

static void wipes(void **state)
{
    (void)state;
    char s[] = "secret";
    const char zero[sizeof(s)] = {0};
    secret_wipe(s);
    assert_memory_equal(s, zero, sizeof(s));
    secret_wipe(s);
    secret_wipe(NULL);
}

static void hardens_the_process(void **state)
{
    (void)state;
    secret_harden_process();
    struct rlimit core;
    assert_int_equal(getrlimit(RLIMIT_CORE, &core), 0);
    assert_int_equal(core.rlim_cur, 0);
    assert_int_equal(core.rlim_max, 0);
    assert_int_equal(prctl(PR_GET_DUMPABLE), 0);
    /* The leak checker at exit has to attach to the process. */
    prctl(PR_SET_DUMPABLE, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_are_made_hashed_and_sealed),
        cmocka_unit_test(delivered_keys_open_for_their_subscription_alone),
        cmocka_unit_test(unusable_public_keys_are_refused),
        cmocka_unit_test(only_the_right_key_opens),
        cmocka_unit_test(keys_are_read_from_base64),
        cmocka_unit_test(what_is_kept_opens_in_its_own_row_alone),
        cmocka_unit_test(passwords_and_tags),
        cmocka_unit_test(ragflow_reads_its_password),
        cmocka_unit_test(wipes),
        cmocka_unit_test(hardens_the_process),
    };
    return cmocka_run_group_tests(tests, start, NULL);
}
