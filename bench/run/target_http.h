/* A server with OpenAI's interface as a benchmark's target: each request is a streamed completion on a connection of
 * its own, and an event's time is when its chunk came. Steps, blocks and the server's limits stay unknown. */
#ifndef QR_BENCH_TARGET_HTTP_H
#define QR_BENCH_TARGET_HTTP_H

#include "bench/run/http_answer.h"
#include "bench/run/target.h"

#include "quire/config.h"

enum { QR_HTTP_PROBLEMS = 8, QR_HTTP_DEFAULT_VOCABULARY = 8192, QR_HTTP_LEAST_VOCABULARY = 16 };
enum { QR_HTTP_UNKNOWN_LENGTH = 1 << 20 }; /* max_model_len of a server that does not say it */

typedef struct qr_http_facts { /* of the server; the same in all runs */
    char     url[200], model[512], software[64];
    bool     takes_ids, takes_extensions; /* prompts as token ids; vLLM's members of a request */
    uint32_t max_model_len;               /* 0: it does not say */
    uint32_t vocab_size;                  /* prompts have ids below it */
} qr_http_facts;

typedef struct qr_http_problem {
    char     what[160];
    uint64_t count;
} qr_http_problem;

typedef struct qr_http_counts {
    uint64_t        answers[QR_COUNTED_BY];     /* that ended well, by how their tokens are known */
    uint64_t        chunks, tokens;             /* of those; a chunk has at least one */
    uint64_t        missing, excess;            /* tokens that no chunk showed, that the usage does not have */
    uint64_t        cached_answers;             /* of `answers`, those that told how much of the prompt was cached */
    uint64_t        connections;                /* opened */
    qr_http_problem problems[QR_HTTP_PROBLEMS]; /* of requests that failed or were refused; the last: all others */
    uint32_t        problem_count;
} qr_http_counts;

/* run.target is set. */
bool qr_target_is_http(const quire_config *config);

/* Connects, and finds out by requests of two tokens what the server takes. `vocab_size`: of a model that is known here,
 * 0: as the server says, else what it takes of QR_HTTP_DEFAULT_VOCABULARY; run.target_vocab_size overrules both.
 * `logger` is told of each problem once. Errors as of http_server.h. */
quire_status qr_target_http_create(const quire_config *config, uint32_t vocab_size, const quire_logger *logger,
                                   qr_target *target_out, quire_error *error);

/* Without a request for tokens: is the server there, and does it have the model? */
quire_status qr_target_http_look(const quire_config *config, qr_http_facts *facts_out, quire_error *error);

const qr_http_facts *qr_target_http_facts(const qr_target *target);

/* Adds what was counted since the last call. */
void qr_target_http_take_counts(const qr_target *target, qr_http_counts *to);

#endif
