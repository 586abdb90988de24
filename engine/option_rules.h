/* The rules between options, for create and for the configuration file. */
#ifndef QR_ENGINE_OPTION_RULES_H
#define QR_ENGINE_OPTION_RULES_H

#include "base/option_list.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What an error is about: keys of the list; NULL: unknown, or one key alone. */
typedef struct qr_option_fault {
    const char *key, *other;
} qr_option_fault;

/* The one that compares options with each other; an option of 0 is still to be computed and compares with nothing. */
quire_status qr_options_check_order(const quire_engine_options *options, qr_option_fault *fault_out,
                                    quire_error *error);

/* All fields of an engine's options, then the rules between them, as far as they can be judged without a model.
 * Replaces zeros by constant defaults. */
quire_status qr_options_check(quire_engine_options *options, qr_option_fault *fault_out, quire_error *error);

#ifdef __cplusplus
}
#endif

#endif
