/*
 * A product inside a test: a stand-in's dialect without sockets. What drivers ask is answered by
 * the very code that test/contract holds to the real servers.
 */
#ifndef TEST_PRODUCT_SIM_H
#define TEST_PRODUCT_SIM_H

#include <cjson/cJSON.h>

#include "base/exchange.h"
#include "standin/standin.h"

#define PRODUCT_URL   "http://up.example/base"
#define PRODUCT_TOKEN "planted-superuser-token"

struct product_sim {
    const struct dialect *dialect;
    const char *url; /* PRODUCT_URL, until somebody gives it another */
    void *store;
    struct reply reply; /* of the last call; what product_ask returned borrows from it */
    char *plain;        /* its body after decompression */
};

/* profile NULL: the dialect's default. Fails the test where there is none. */
void product_begin(struct product_sim *p, const char *dialect, const char *profile);
void product_end(struct product_sim *p);

/*
 * Performs the request and gives the answer as a transport would: decompressed, NUL-terminated. The
 * request is the caller's all the same. A request that is not below PRODUCT_URL, or PRODUCT_URL
 * with "-admin" behind it (RAGFlow's admin service), fails the test.
 */
struct exchange_response product_ask(struct product_sim *p, const struct exchange_request *r);

/* GET, POST, ... on what the stand-in's /admin serves: "/settings", "/objects", ... The answer is
 * the caller's (cJSON_Delete); anything but 2xx fails the test. body may be NULL. */
cJSON *product_admin(struct product_sim *p, const char *method, const char *path, const char *body);

/* Everything that is there, as /admin/objects tells it: see standin.h. */
cJSON *product_objects(struct product_sim *p);

#endif
