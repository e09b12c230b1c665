/*
 * API keys of resources (2026): the provider makes them and hands them in, consumers reveal them
 * and ask for new ones.
 */
#include "waldur.h"

#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/str.h"

static void show(struct wd_call *c, int status, const struct wd_record *k)
{
    struct wd_show fields;
    wd_show_begin(&fields, c->s, c->http);
    fields.n = 0;
    reply_json(c->out, status, wd_show_key(&fields, k));
}

void wd_key_get(struct wd_call *c)
{
    show(c, 200, c->at);
}

static struct wd_record *find(const struct wd_record *resource, const char *client)
{
    struct wd_record *k = resource->first_key;
    while (k && !str_eq(wd_text(k, "client_id"), client))
        k = k->next_key;
    return k;
}

/* Takes the secret. */
static void keep(struct wd_call *c, struct wd_record *k, char *secret)
{
    free(k->text);
    k->text = secret;
    k->state = WD_K_OK;
    wd_set_text(k->own, "error_message", "");
    wd_touch(c->s, k);
}

/* Takes the texts. */
static void report(struct wd_call *c, struct wd_record *resource, char *client, char *secret)
{
    if (find(resource, client)) {
        wd_invalid(c, "non_field_errors", "The fields resource, client_id must make a unique set.");
        free(client);
        free(secret);
        return;
    }
    cJSON *own = cJSON_CreateObject();
    cJSON_AddStringToObject(own, "client_id", client);
    free(client);
    struct wd_record *k = wd_add(c->s, WD_KEY, NULL, own);
    if (!k) {
        free(secret);
        wd_crash(c);
        return;
    }
    wd_key_link(resource, k);
    keep(c, k, secret);
    show(c, 201, k);
}

void wd_key_report(struct wd_call *c)
{
    static const struct wd_rule wanted = {.max = 255, .required = true, .nonblank = true};
    static const struct wd_rule key = {.max = 4096, .required = true, .nonblank = true};
    char *resource = NULL, *client = NULL, *secret = NULL;
    if (!wd_take_text(c, "resource", wanted, &resource))
        return;
    struct wd_record *r = wd_find(c->s, WD_RESOURCE, resource);
    free(resource);
    if (!r) {
        wd_invalid(c, "resource", "Invalid hyperlink - Object does not exist.");
    } else if (wd_take_text(c, "client_id", wanted, &client)) {
        if (wd_take_text(c, "api_key", key, &secret))
            report(c, r, client, secret);
        else
            free(client);
    }
}

void wd_key_set(struct wd_call *c)
{
    char *client = NULL, *secret = NULL;
    if (!wd_take_text(c, "api_key",
                      (struct wd_rule){.max = 4096, .required = true, .nonblank = true}, &secret))
        return;
    if (!wd_take_text(c, "client_id", (struct wd_rule){.max = 255}, &client)) {
        free(secret);
        return;
    }
    if (client && *client)
        wd_set_text(c->at->own, "client_id", client);
    free(client);
    keep(c, c->at, secret);
    show(c, 200, c->at);
}

void wd_key_set_erred(struct wd_call *c)
{
    static const int valid[] = {WD_K_CREATING, WD_K_UPDATING, WD_K_ERRED};
    char *message;
    if (c->at->state == WD_K_OK) {
        wd_conflict(c, wd_key_states, valid, ARRAY_LEN(valid));
        return;
    }
    if (!wd_take_text(c, "error_message", (struct wd_rule){0}, &message))
        return;
    c->at->state = WD_K_ERRED;
    wd_set_text(c->at->own, "error_message", message ? message : "");
    free(message);
    wd_touch(c->s, c->at);
    show(c, 200, c->at);
}

void wd_key_reveal(struct wd_call *c)
{
    cJSON *answer = cJSON_CreateObject();
    cJSON_AddStringToObject(answer, "client_id", wd_text(c->at, "client_id"));
    cJSON_AddStringToObject(answer, "api_key", c->at->text);
    wd_fire(c->s, "marketplace_resource_api_key_revealed",
            "API key of resource {} has been revealed.", NULL, c->at->resource);
    reply_json(c->out, 200, answer);
}

void wd_key_turn(struct wd_store *s, struct wd_record *key)
{
    key->state = WD_K_UPDATING;
    wd_touch(s, key);
    wd_fire(s, "marketplace_resource_api_key_rotated",
            "Rotation of the API key of resource {} has been requested.", NULL, key->resource);
    wd_tell_rotation(s, key);
}

void wd_key_rotate(struct wd_call *c)
{
    static const int valid[] = {WD_K_OK, WD_K_ERRED};
    if (c->at->state != WD_K_OK && c->at->state != WD_K_ERRED) {
        wd_conflict(c, wd_key_states, valid, ARRAY_LEN(valid));
        return;
    }
    wd_key_turn(c->s, c->at);
    show(c, 202, c->at);
}
