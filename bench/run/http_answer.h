/* The answer to a streamed request of /v1/completions: server-sent events, each a JSON object, and "[DONE]" behind the
 * last. Bytes go in as they come from the network; tokens are told as soon as an event is whole. */
#ifndef QR_BENCH_HTTP_ANSWER_H
#define QR_BENCH_HTTP_ANSWER_H

#include <stdbool.h>
#include <stddef.h>

#include "quire/request.h"

/* How the tokens of an answer are known, from the least exact on: a chunk counts as one; the same, and the usage at the
 * end says how many there were; the usage of each chunk; the token ids of each chunk. */
typedef enum qr_counted_by {
    QR_BY_CHUNKS,
    QR_BY_TOTAL,
    QR_BY_USAGE,
    QR_BY_TOKEN_IDS,
    QR_COUNTED_BY, /* how many */
} qr_counted_by;

/* "chunks", "total", "usage", "token_ids". */
const char *qr_counted_by_name(qr_counted_by how);

typedef struct qr_answer_choice {
    uint32_t     tokens;
    quire_finish finish; /* NONE: not told yet */
} qr_answer_choice;

typedef struct qr_answer_text { /* grows as needed, to QR_ANSWER_MOST_EVENT */
    char  *bytes;
    size_t length, capacity;
} qr_answer_text;

enum { QR_ANSWER_MOST_EVENT = 16 << 20 }; /* bytes: the first chunk may repeat the ids of the prompt */

typedef struct qr_answer {
    /* So many new tokens of a sequence. False: out of memory. */
    bool (*take_tokens)(void *context, uint32_t sequence, uint32_t count);
    void             *context;
    qr_answer_choice *choices; /* [n] of [choice_capacity] */
    uint32_t          n, choice_capacity, max_tokens;
    qr_answer_text    line, event;
    qr_counted_by     counted_by;      /* of the chunks so far */
    uint64_t          lines;           /* of data: comments are no sign of life */
    uint32_t          chunks;          /* with tokens */
    uint32_t          tokens;          /* of all choices */
    uint32_t          missing, excess; /* at the end: tokens that no chunk showed; that the usage does not have */
    int64_t           prompt_tokens, cached_tokens, output_tokens; /* of the usage; -1: not told */
    bool              is_done;                                     /* "[DONE]" */
    bool              has_chunk_usage; /* the usage came with tokens, not at the end alone */
} qr_answer;

/* Begins the answer to a request for `n` sequences of at most `max_tokens` tokens; take_tokens and context are kept.
 * ERR_NO_MEMORY. */
quire_status qr_answer_begin(qr_answer *answer, uint32_t n, uint32_t max_tokens);
void         qr_answer_deinit(qr_answer *answer);

/* ERR_FORMAT: no such stream; ERR_EXECUTION: the server tells an error in it; ERR_NO_MEMORY. */
quire_status qr_answer_take(qr_answer *answer, const char *bytes, size_t length, quire_error *error);

/* The stream is over: tells the tokens that only the usage at the end counts. ERR_IO: it broke off. */
quire_status qr_answer_end(qr_answer *answer, quire_error *error);

#endif
