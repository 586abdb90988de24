/* One request of `quire generate`, from its line to its answer. docs/GENERATE.md describes both formats. */
#ifndef QR_JOB_H
#define QR_JOB_H

#include <stdbool.h>

#include "bench/workload/request_line.h"
#include "cli/text.h"

/* What came back for one sequence. */
typedef struct qr_job_sequence {
    int32_t            *tokens;                     /* [count] */
    float              *logprobs;                   /* [count] */
    qr_text             tops;                       /* JSON of top_logprobs, without the outer brackets */
    qr_text             logits;                     /* JSON of all logits rows, likewise */
    float              *first_logits, *last_logits; /* [vocab] or NULL */
    uint32_t            count;
    bool                finished, failed; /* failed: memory was short while collecting */
    quire_finish        finish;
    quire_status        status;
    quire_finish_detail detail;
} qr_job_sequence;

typedef struct qr_job {
    qr_request_line  from;
    quire_request_id handle;
    uint32_t         sequence_count;
    qr_job_sequence *sequences;       /* [sequence_count] */
    float           *prompt_logprobs; /* [prompt_count]; NAN: none came, the first token's for one */
    uint32_t         prompt_taken;    /* tokens of the prompt that came */
    qr_text          prompt_tops;     /* JSON of prompt_top_logprobs but the first, without the outer brackets */
    struct qr_job   *previous, *next;
} qr_job;

/* Reads a line. NULL: no memory. error_out->status != OK: the line is bad; the job has line and id for the answer. */
qr_job *qr_job_parse(const char *line, size_t length, uint64_t number, const qr_request_defaults *defaults,
                     qr_line_error *error_out);
void    qr_job_destroy(qr_job *job); /* NULL is allowed */

/* Notes an event of this job. */
void qr_job_take(qr_job *job, const quire_event *event, uint32_t vocab_size);

/* Appends the answer's line. Returns false if one of its sequences ended with an error. */
bool qr_job_answer(const qr_job *job, uint32_t vocab_size, bool encoder_decoder, qr_text *out);
void qr_job_answer_error(const json_t *id, uint64_t line, const qr_line_error *error, qr_text *out);

/* From the library's "field: sentence". */
void qr_job_error_of(const quire_error *error, qr_line_error *error_out);

#endif
