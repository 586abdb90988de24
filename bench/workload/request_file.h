/* workload.source = "file": requests of `quire generate` (docs/GENERATE.md), with their own ids, sampling and limits.
 */
#ifndef QR_BENCH_REQUEST_FILE_H
#define QR_BENCH_REQUEST_FILE_H

#include "bench/workload/request_line.h"
#include "bench/workload/workload.h"

typedef struct qr_request_file qr_request_file;

/* Reads workload.path whole; fields that a line leaves out come from [generate]. ERR_IO, ERR_FORMAT (with the line): a
 * line that is no request, decreasing arrival_ms, what this model cannot take (an id beyond its vocabulary, an encoder
 * input, more than max_model_len tokens), or what a benchmark does not take (raw logits). A model without layers is
 * none: nothing is known of it. */
quire_status qr_request_file_read(const quire_config *config, const quire_model_info *model, uint32_t max_model_len,
                                  qr_request_file **file_out, quire_error *error);
void         qr_request_file_destroy(qr_request_file *file); /* NULL is allowed */

uint32_t    qr_request_file_count(const qr_request_file *file);
uint32_t    qr_request_file_sequences(const qr_request_file *file); /* the largest n */
bool        qr_request_file_has_beams(const qr_request_file *file); /* some request is a beam search */
uint32_t    qr_request_file_tenants(const qr_request_file *file);   /* different names; at least 1 */
const char *qr_request_file_tenant(const qr_request_file *file, uint32_t tenant);

/* As read; what it points to lives as long as the file. */
const quire_request *qr_request_file_at(const qr_request_file *file, uint32_t index);

/* Sets lengths, due_ns, priority, tenant, encoder_id and sampling_seed of *request_out. */
void qr_request_file_shape(const qr_request_file *file, uint32_t index, qr_workload_request *request_out);

#endif
