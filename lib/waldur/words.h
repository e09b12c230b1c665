/*
 * What buyers read at Waldur. Never a server's words, an address, a token, or another tenant's
 * name: the text depends on the class of the error alone, and on a reference by which support finds
 * the job.
 */
#ifndef WALDUR_WORDS_H
#define WALDUR_WORDS_H

#include "base/err.h"
#include "waldur/terms.h"

enum { WALDUR_WORDS_MAX = 400, WALDUR_REFERENCE_MAX = 40 };

/*
 * Why an order was not carried out. reference: letters, digits and dashes, others are dropped, at
 * most WALDUR_REFERENCE_MAX; NULL or "" for none.
 */
void waldur_words_failed(enum waldur_order_type type, enum err_class class, const char *reference,
                         char out[WALDUR_WORDS_MAX]);
/* Why there will be no new key. */
void waldur_words_no_key(enum err_class class, const char *reference, char out[WALDUR_WORDS_MAX]);

#endif
