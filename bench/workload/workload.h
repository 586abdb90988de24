/* What a benchmark asks for: arrivals, lengths and contents of requests, all a pure function of (configuration, seed,
 * request number). Four streams - arrival, length, content, sampling - so that changing one leaves the others. */
#ifndef QR_BENCH_WORKLOAD_H
#define QR_BENCH_WORKLOAD_H

#include "bench/workload/distribution.h"

#include "quire/model.h"

typedef struct qr_workload_request {
    uint32_t        number; /* its place in the workload, from 0 */
    uint64_t        due_ns; /* from the start; 0 in closed loops */
    uint32_t        prompt_tokens, output_tokens, encoder_tokens;
    bool            is_shortened;                       /* more was asked for than max_model_len holds */
    uint32_t        prefix_tokens;                      /* of the prompt, the first ones are those of group prefix_id */
    uint64_t        prefix_id, encoder_id, content_key; /* equal ids, equal tokens */
    const uint64_t *hash_ids; /* [hash_count] of a trace: equal id = equal tokens of that block; NULL: none */
    uint32_t        hash_count;
    uint32_t        tenant, mix; /* mix: class of [[workload.mix]] */
    int32_t         priority;
    uint64_t        sampling_seed;
} qr_workload_request;

enum { QR_WORKLOAD_MAX_ENCODER = 1 << 20 }; /* tokens; longer draws are clipped, far beyond what an engine takes */

typedef struct qr_workload qr_workload;

/* ERR_INVALID: values that contradict each other; ERR_IO / ERR_FORMAT: traces and request files. */
quire_status qr_workload_create(const quire_config *config, const quire_model_info *model, uint32_t max_model_len,
                                uint64_t seed, qr_workload **workload_out, quire_error *error);
void         qr_workload_destroy(qr_workload *workload); /* NULL is allowed */

uint32_t    qr_workload_count(const qr_workload *workload);      /* UINT32_MAX: as many as the run's duration takes */
bool        qr_workload_is_closed(const qr_workload *workload);  /* due when a slot frees, not by the clock */
bool        qr_workload_is_offline(const qr_workload *workload); /* profile throughput: all due at 0 */
bool        qr_workload_has_beams(const qr_workload *workload);  /* some request is a beam search */
bool        qr_workload_is_file(const qr_workload *workload);    /* requests with ids of their own */
uint32_t    qr_workload_streams(const qr_workload *workload);    /* closed loops: requests in flight */
uint32_t    qr_workload_shortened(const qr_workload *workload);  /* so far: lengths cut to fit max_model_len */
uint32_t    qr_workload_sequences(const qr_workload *workload);  /* the most of one request */
uint32_t    qr_workload_skipped(const qr_workload *workload);    /* trace rows beyond max_model_len */
uint32_t    qr_workload_empty(const qr_workload *workload);      /* trace rows without tokens, played with 1 + 1 */
uint32_t    qr_workload_hash_block(const qr_workload *workload); /* tokens behind one of hash_ids; 0: no trace */
uint32_t    qr_workload_tenants(const qr_workload *workload);    /* how many there are; at least 1 */
uint64_t    qr_workload_seed(const qr_workload *workload);
const char *qr_workload_profile(const qr_workload *workload);

/* Whether load.request_rate applies to a profile; and which those are, for messages: "constant, poisson, ...". */
bool                     qr_profile_is_rated(const char *name);
extern const char *const qr_rated_profiles;

/* A key along which load grows, as people read it. */
typedef struct qr_load_key {
    const char *key, *title, *unit;
} qr_load_key;

const qr_load_key *qr_load_key_of(const char *key); /* NULL: none */
const char        *qr_last_word(const char *key);   /* "streams" of "load.streams" */

/* The next request, in ascending order (arrivals accumulate). */
void qr_workload_next(qr_workload *workload, qr_workload_request *request_out);

/* Request `index` as qr_workload_next() will give it, but for its due time; nothing is drawn. */
void qr_workload_peek(const qr_workload *workload, uint32_t index, qr_workload_request *request_out);

/* Its token ids: `out` holds prompt_tokens (encoder_tokens) ids. */
void qr_workload_prompt(const qr_workload *workload, const qr_workload_request *request, int32_t *out);
void qr_workload_encoder(const qr_workload *workload, const qr_workload_request *request, int32_t *out);

const quire_model_info *qr_workload_model(const qr_workload *workload);

/* Of a model that reads features: out[qr_workload_feature_count()], instead of encoder ids. */
size_t qr_workload_feature_count(const quire_model_info *model, uint32_t encoder_tokens);
void   qr_workload_features(const qr_workload *workload, const qr_workload_request *request, float *out);

/* Fills everything of *to but prompt, encoder_input and encoder_features. */
void qr_workload_fill(const qr_workload *workload, const qr_workload_request *request, quire_request *to);

#endif
