/* A line of JSON as `quire generate` reads it (docs/GENERATE.md) becomes a quire_request. */
#ifndef QR_BENCH_REQUEST_LINE_H
#define QR_BENCH_REQUEST_LINE_H

#include <jansson.h>
#include <stdbool.h>

#include "bench/workload/request_text.h"
#include "quire/quire.h"

enum { QR_MODEL_RULES = 4 };

typedef struct qr_request_line {
    uint64_t      line;
    json_t       *id; /* a string or an integer; NULL: none could be read */
    quire_request request;
    int32_t      *ids[QR_REQUEST_LISTS]; /* arrays of the line's own */
    void         *bias;
    float        *features;
    double        arrival_ms;
    bool          logprobs;       /* asked for */
    bool          has_max_tokens; /* max_tokens is the line's own, not the default */
} qr_request_line;

/* Ids of generation_config.json, which live as long as the model. */
typedef struct qr_model_rule {
    const int32_t *ids;
    uint32_t       count;
} qr_model_rule;

/* Values for fields that a line leaves out: [generate] of the configuration; where it has only its built-in default,
 * the model's own. */
typedef struct qr_request_defaults {
    uint32_t       max_tokens, logits;
    uint32_t       encoder_feature_size; /* of the model */
    quire_sampling sampling;
    quire_sampling beam_sampling; /* of beam searches, which do not sample: nothing but penalties is the model's */
    uint64_t       seed;          /* of line 0; each line has its number added */
    qr_model_rule  rules[QR_MODEL_RULES]; /* banned, first_banned, first_allowed, last_allowed */
} qr_request_defaults;

/* Why a line is no request. */
typedef struct qr_line_error {
    quire_status status;
    char         field[48]; /* "" = the whole line */
    char         message[256];
} qr_line_error;

quire_status qr_request_defaults_of(const quire_config *config, const quire_model_info *model,
                                    qr_request_defaults *defaults_out, quire_error *error);

/* error_out->status != OK: the line is bad; line_out still has its number and, where one could be read, its id. Deinit
 * in any case. */
void qr_request_line_read(const char *text, size_t length, uint64_t number, const qr_request_defaults *defaults,
                          qr_request_line *line_out, qr_line_error *error_out);
/* A default of max_tokens becomes what the line leaves room for: at least min_tokens, at most what fits behind the
 * prompt. What the line asks for stays. */
void qr_request_line_clip_default(qr_request_line *line, uint32_t max_model_len);
/* Frees what only submit needs. */
void qr_request_line_drop_lists(qr_request_line *line);
void qr_request_line_deinit(qr_request_line *line);

#endif
