/*
 * doctor: the configuration. That it can be read at all was seen before; here is what is not set.
 */
#include "doctor.h"

static void look_at_keys(struct exam *e, const struct config *c)
{
    if (c->has_reveal_public_key)
        EXAM_ADD(e, LEVEL_OK, "reveal key", NULL, "secrets.reveal_public_key is set");
    else
        EXAM_ADD(e, LEVEL_BAD, "reveal key",
                 "make a key pair as README.md says under \"Keys\", and give its public half as "
                 "secrets.reveal_public_key",
                 "secrets.reveal_public_key is not set: `provisioner run` does not start, since "
                 "API keys could not be sealed");
    if (c->has_master_key)
        EXAM_ADD(e, LEVEL_OK, "master key", NULL, "secrets.master_key is set");
    else
        EXAM_ADD(
            e, LEVEL_NOTE, "master key",
            "`openssl rand -base64 32` makes one; give it as secrets.master_key, and keep a "
            "copy where the database's copies are not",
            "secrets.master_key is not set: enough for the facades, not for accounts at Langflow "
            "and RAGFlow themselves, whose keys are kept under it");
}

static void look_at_products(struct exam *e, const struct config *c)
{
    struct err why;
    if (config_check_products(c, &why) == 0)
        EXAM_ADD(e, LEVEL_OK, "products", NULL, "what each of them needs is set");
    else
        EXAM_ADD(e, LEVEL_BAD, "products",
                 "set it; deploy/provisioner.yaml explains every setting. Until then `provisioner "
                 "run` does not start",
                 "%s", why.msg);
}

static void look_at_runtimes(struct exam *e, const struct config *c)
{
    size_t shared = 0;
    for (size_t i = 0; i < c->n_runtimes; i++)
        shared += c->runtimes[i].mode == RUNTIME_SHARED;
    if (shared > 0)
        EXAM_ADD(e, LEVEL_OK, "runtimes", NULL, "%zu shared, %zu dedicated", shared,
                 c->n_runtimes - shared);
    else
        EXAM_ADD(e, LEVEL_NOTE, "runtimes",
                 "add one with mode: shared, unless every organization has a runtime of its own",
                 "none is shared: subscriptions of organizations without a dedicated one are held");
}

static int start(struct exam *e, struct err *err)
{
    const struct config *c = e->doctor->config;
    (void)err;
    EXAM_ADD(e, LEVEL_OK, "file", NULL, "%s can be read", c->file);
    look_at_keys(e, c);
    look_at_products(e, c);
    look_at_runtimes(e, c);
    exam_over(e);
    return 0;
}

static void stop(struct exam *e)
{
    (void)e;
}

const struct exam_class exam_configuration = {start, stop};
