#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <sodium.h>
#include <string.h>

#include "account.h"
#include "base/rng.h"
#include "base/str.h"
#include "job.h"

#define SUBSCRIPTION "2f1c9a52-6a0e-4c55-8f1e-5d2f0c9b7a01"
#define ORGANIZATION "99999999-6a0e-4c55-8f1e-5d2f0c9b7a99"
#define TENANT_KEY   "ragflow-tenants-own-key"
#define WIDE_KEY     "ragflow-platforms-key"

struct fixture {
    struct config config;
    struct config_runtime runtime;
    struct job job;
    char sealed[ACCOUNT_SEALED_HEX_MAX + 1];
};

static void begin(struct fixture *f, const char *tenancy, const char *workspace_key)
{
    struct err err;
    *f = (struct fixture){0};
    f->config.has_master_key = true;
    memset(f->config.master_key, 7, sizeof(f->config.master_key));
    f->runtime.name = "shared-eu";
    f->runtime.langflow = (struct config_product){.api = "langflow"};
    f->runtime.ragflow = (struct config_product){.api = "ragflow",
                                                 .api_key = WIDE_KEY,
                                                 .tenancy = (char *)(uintptr_t)tenancy,
                                                 .workspace_key = (char *)(uintptr_t)workspace_key,
                                                 .tenant_domain = "tenants.invalid"};
    struct job *j = &f->job;
    str_copy(j->subscription, sizeof(j->subscription), SUBSCRIPTION);
    str_copy(j->organization, sizeof(j->organization), ORGANIZATION);
    j->config = &f->config;
    j->runtime_name = "shared-eu";
    j->rag_recorded = true;
    j->product = PRODUCT_LANGFLOW;
    assert_int_equal(account_seal(j, &f->config, PRODUCT_RAGFLOW, TENANT_KEY, f->sealed, &err), 0);
    assert_true(str_starts(f->sealed, "\\x"));
    j->sealed_keys[PRODUCT_RAGFLOW] = f->sealed + 2;
}

static struct account *made(const struct fixture *f)
{
    struct err err;
    struct account *a = account_new(&f->job, &f->runtime, &err);
    if (!a) {
        fail_msg("%s", err.msg);
    }
    return a;
}

/* Who gets a key that opens a whole tenant of RAGFlow's. */
static void which_key_a_workspace_gets(void **state)
{
    (void)state;
    static const struct {
        const char *tenancy, *workspace_key, *key;
    } cases[] = {
        {"shared", "own", ""},
        {"shared", "tenant-wide", WIDE_KEY},
        {"organization", "own", ""},
        {"organization", "tenant-wide", TENANT_KEY},
        {"subscription", "own", TENANT_KEY},
        {"subscription", "tenant-wide", TENANT_KEY},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct fixture f;
        begin(&f, cases[i].tenancy, cases[i].workspace_key);
        struct account *a = made(&f);
        assert_string_equal(a->collection_key, cases[i].key);
        account_free(a);
        /* Without retrieval there is nothing that it could open. */
        f.job.rag_recorded = false;
        a = made(&f);
        assert_string_equal(a->collection_key, "");
        account_free(a);
        f.job.rag_recorded = true;
        f.runtime.ragflow.api = "collections";
        a = made(&f);
        assert_string_equal(a->collection_key, "");
        account_free(a);
    }
}

static void targets_say_nothing_where_there_is_nothing(void **state)
{
    (void)state;
    struct fixture f;
    struct driver_target t = {0};
    begin(&f, "shared", "own");
    f.job.product = PRODUCT_RAGFLOW;
    f.job.sealed_keys[PRODUCT_RAGFLOW] = NULL;
    struct account *a = made(&f);
    account_fill(a, &t);
    assert_null(t.secret);
    assert_null(t.collection_key);
    assert_null(t.tenant_email);
    assert_null(t.password_wire);
    assert_null(t.flow_uuid);
    assert_int_equal(t.settings->tenancy, TENANCY_SHARED);
    account_free(a);
    account_free(NULL);
}

static void addresses_cannot_be_guessed(void **state)
{
    (void)state;
    struct fixture f;
    char first[ACCOUNT_EMAIL_MAX + 1];
    begin(&f, "subscription", "own");
    f.job.product = PRODUCT_RAGFLOW;
    struct account *a = made(&f);
    struct driver_target t = {0};
    account_fill(a, &t);
    assert_string_equal(t.secret, TENANT_KEY);
    str_copy(first, sizeof(first), t.tenant_email);
    assert_true(str_starts(first, "sub-2f1c9a526a0e4c558f1e5d2f0c9b7a01-"));
    assert_non_null(strstr(first, "@tenants.invalid"));
    account_free(a);

    a = made(&f);
    assert_string_equal(a->tenant_email, first);
    account_free(a);

    f.config.master_key[0] ^= 1;
    f.job.sealed_keys[PRODUCT_RAGFLOW] = NULL;
    a = made(&f);
    assert_string_not_equal(a->tenant_email, first);
    account_free(a);
    f.config.master_key[0] ^= 1;

    f.job.runtime_name = "another";
    a = made(&f);
    assert_string_not_equal(a->tenant_email, first);
    account_free(a);

    f.runtime.ragflow.tenancy = "organization";
    a = made(&f);
    assert_true(str_starts(a->tenant_email, "org-999999996a0e4c558f1e5d2f0c9b7a99-"));
    account_free(a);
}

/* What tells a workspace's user from a stranger's of the same name. */
static void proofs_cannot_be_guessed(void **state)
{
    (void)state;
    struct fixture f;
    struct err err;
    struct driver_target t = {0};
    char first[SECRET_TAG_LEN + 1], wanted[SECRET_TAG_LEN + 1];
    begin(&f, "shared", "own");
    struct account *a = made(&f);
    account_fill(a, &t);
    secret_tag(f.config.master_key, "shared-eu/workspace/" SUBSCRIPTION, wanted);
    assert_string_equal(t.proof, wanted);
    str_copy(first, sizeof(first), t.proof);
    err_set(&err, ERR_REFUSED, "no: %s", first);
    account_redact(a, &err);
    assert_null(strstr(err.msg, first));
    account_free(a);

    f.job.runtime_name = "another";
    a = made(&f);
    assert_string_not_equal(a->proof, first);
    account_free(a);
    f.job.runtime_name = "shared-eu";

    str_copy(f.job.subscription, sizeof(f.job.subscription), ORGANIZATION);
    f.job.sealed_keys[PRODUCT_RAGFLOW] = NULL;
    a = made(&f);
    assert_string_not_equal(a->proof, first);
    account_free(a);
    str_copy(f.job.subscription, sizeof(f.job.subscription), SUBSCRIPTION);

    f.config.master_key[0] ^= 1;
    a = made(&f);
    assert_string_not_equal(a->proof, first);
    account_free(a);

    f.config.has_master_key = false;
    a = made(&f);
    account_fill(a, &t);
    assert_null(t.proof);
    account_free(a);
}

static void another_master_key_is_told(void **state)
{
    (void)state;
    struct fixture f;
    struct err err;
    begin(&f, "subscription", "own");
    f.job.product = PRODUCT_RAGFLOW;
    f.config.master_key[0] ^= 1;
    assert_null(account_new(&f.job, &f.runtime, &err));
    assert_int_equal(err.class, ERR_INVALID);
    assert_non_null(strstr(err.msg, SUBSCRIPTION "/ragflow"));
    assert_non_null(strstr(err.msg, "secrets.master_key"));
    f.config.master_key[0] ^= 1;
    /* What is no hex at all, or of the other product. */
    f.job.sealed_keys[PRODUCT_RAGFLOW] = "zz";
    assert_null(account_new(&f.job, &f.runtime, &err));
    f.job.product = PRODUCT_LANGFLOW;
    f.job.sealed_keys[PRODUCT_LANGFLOW] = f.sealed + 2;
    assert_null(account_new(&f.job, &f.runtime, &err));
}

static void nothing_is_kept_without_a_master_key(void **state)
{
    (void)state;
    struct fixture f;
    struct err err;
    char out[ACCOUNT_SEALED_HEX_MAX + 1], longest[DRIVER_SECRET_MAX + 2];
    begin(&f, "shared", "own");
    memset(longest, 'k', sizeof(longest) - 1);
    longest[DRIVER_SECRET_MAX + 1] = '\0';
    assert_int_equal(account_seal(&f.job, &f.config, PRODUCT_LANGFLOW, longest, out, &err), -1);
    longest[DRIVER_SECRET_MAX] = '\0';
    assert_int_equal(account_seal(&f.job, &f.config, PRODUCT_LANGFLOW, longest, out, &err), 0);
    f.config.has_master_key = false;
    assert_int_equal(account_seal(&f.job, &f.config, PRODUCT_LANGFLOW, "key", out, &err), -1);
    assert_int_equal(err.class, ERR_INTERNAL);
}

static void words_of_servers_are_redacted(void **state)
{
    (void)state;
    struct fixture f;
    struct err err;
    begin(&f, "subscription", "own");
    char password[SECRET_PASSWORD_LEN + 1];
    struct account *a = made(&f);
    str_copy(password, sizeof(password), a->password);
    err_set(&err, ERR_REFUSED, "no: %s and %s", password, a->collection_key);
    account_redact(a, &err);
    assert_null(strstr(err.msg, password));
    assert_null(strstr(err.msg, TENANT_KEY));
    assert_true(str_starts(err.msg, "no: ****"));
    account_free(a);
}

static int start(void **state)
{
    (void)state;
    rng_init();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(which_key_a_workspace_gets),
        cmocka_unit_test(targets_say_nothing_where_there_is_nothing),
        cmocka_unit_test(addresses_cannot_be_guessed),
        cmocka_unit_test(proofs_cannot_be_guessed),
        cmocka_unit_test(another_master_key_is_told),
        cmocka_unit_test(nothing_is_kept_without_a_master_key),
        cmocka_unit_test(words_of_servers_are_redacted),
    };
    return cmocka_run_group_tests(tests, start, NULL);
}
