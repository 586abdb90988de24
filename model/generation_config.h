/* generation_config.json, beside config.json: how the publisher wants tokens to be generated. */
#ifndef QR_GENERATION_CONFIG_H
#define QR_GENERATION_CONFIG_H

#include "base/log.h"
#include "model/architecture.h"

#include "quire/request.h"

/* For requests that do not say; zero where the file does not either. */
typedef struct qr_generation {
    quire_sampling sampling;
    uint32_t       max_new_tokens;
    /* as in a request: suppress_tokens with bad_words_ids, begin_suppress_tokens, forced_bos_ and forced_eos_token_id
     */
    uint32_t banned_count, first_banned_count, first_allowed_count, last_allowed_count;
    int32_t  banned[QUIRE_MAX_LISTED_IDS];
    int32_t  first_banned[QUIRE_MAX_STOP_IDS], first_allowed[QUIRE_MAX_STOP_IDS], last_allowed[QUIRE_MAX_STOP_IDS];
} qr_generation;

/* Its end-of-sequence ids and its decoder start take the place of config.json's in *architecture. No file: all stays as
 * it is. What quire does not do is warned of by name. ERR_IO; ERR_FORMAT: a key that is read has no proper value. */
quire_status qr_generation_read(const char *folder, qr_architecture *architecture, qr_generation *generation_out,
                                qr_log *log, quire_error *error);

/* The same from its text. */
quire_status qr_generation_parse(const char *text, size_t length, const char *origin, qr_architecture *architecture,
                                 qr_generation *generation_out, qr_log *log, quire_error *error);

#endif
