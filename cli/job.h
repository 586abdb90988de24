/* One request of `quire generate`, from its line to its answer. docs/GENERATE.md describes both formats. */
#ifndef QR_JOB_H
#define QR_JOB_H

#include <jansson.h>
#include <stdbool.h>

#include "cli/text.h"

#include "quire/quire.h"

/* What came back for one sequence. */
typedef struct qr_job_sequence {
    int32_t            *tokens;                     /* [count] */
    float              *logprobs;                   /* [count] */
    qr_text             tops;                       /* JSON of top_logprobs, without the outer brackets */
    qr_text             logits;                     /* JSON of all logits rows, likewise */
    float              *first_logits, *last_logits; /* [vocab] or NULL */
    uint32_t            count, capacity;
    bool                finished, failed; /* failed: memory was short while collecting */
    quire_finish        finish;
    quire_status        status;
    quire_finish_detail detail;
} qr_job_sequence;

typedef struct qr_job {
    uint64_t         line;
    json_t          *id; /* a string or an integer; NULL: none could be read */
    quire_request    request;
    int32_t         *ids[5]; /* the request's arrays */
    void            *bias;
    double           arrival_ms;
    bool             logprobs; /* asked for */
    quire_request_id handle;
    uint32_t         sequence_count;
    qr_job_sequence *sequences; /* [sequence_count] */
    struct qr_job   *previous, *next;
} qr_job;

/* Values for fields that a line leaves out: [generate] of the configuration. */
typedef struct qr_job_defaults {
    uint32_t       max_tokens, logits;
    quire_sampling sampling;
    uint64_t       seed;
} qr_job_defaults;

/* Why a line is answered with an error. */
typedef struct qr_job_error {
    quire_status status;
    char         field[48]; /* "" = the whole line */
    char         message[256];
} qr_job_error;

quire_status qr_job_defaults_of(const quire_config *config, qr_job_defaults *defaults_out, quire_error *error);

/* Reads a line. NULL: no memory. error_out->status != OK: the line is bad; the job has line and id for the answer. */
qr_job *qr_job_parse(const char *line, size_t length, uint64_t number, const qr_job_defaults *defaults,
                     qr_job_error *error_out);
/* Frees what only submit needs. */
void qr_job_drop_request(qr_job *job);
void qr_job_destroy(qr_job *job); /* NULL is allowed */

/* Notes an event of this job. */
void qr_job_take(qr_job *job, const quire_event *event, uint32_t vocab_size);

/* Appends the answer's line. Returns false if one of its sequences ended with an error. */
bool qr_job_answer(const qr_job *job, uint32_t vocab_size, bool encoder_decoder, qr_text *out);
void qr_job_answer_error(const json_t *id, uint64_t line, const qr_job_error *error, qr_text *out);

/* From the library's "field: sentence". */
void qr_job_error_of(const quire_error *error, qr_job_error *error_out);

#endif
