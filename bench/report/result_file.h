/* A result as text: the terminal's table, and the files that `quire bench -o` writes. */
#ifndef QR_BENCH_RESULT_FILE_H
#define QR_BENCH_RESULT_FILE_H

#include <jansson.h>
#include <stdio.h>

#include "bench/result/result.h"

/* At most 100 columns; output.color = "auto" colours it on a terminal. */
void qr_result_table(const qr_result *result, bool on_terminal, FILE *to);

/* Forms for any stream. False: out of memory, or the file does not take it (errno). */
bool qr_result_html(const qr_result *result, FILE *to); /* the page of `quire report` for one result */
bool qr_result_write_json(const qr_result *result, FILE *to);
bool qr_vllm_json_write(const qr_result *result, FILE *to);

/* Chrome trace events, for ui.perfetto.dev: steps and their phases, the lives of requests, counters, and flows from a
 * request to the steps it took part in. docs/BENCHMARKING.md, The trace. */
bool qr_trace_events_write(const qr_result *result, FILE *to);
bool qr_trace_events_write_gz(const qr_result *result, FILE *to); /* compressed */

/* The lines of a log, until one is not taken: false. */
typedef enum qr_log_kind { QR_LOG_STEPS, QR_LOG_REQUESTS } qr_log_kind;
typedef bool qr_log_line_taker(void *context, const json_t *line);
bool         qr_result_log(const qr_result *result, qr_log_kind kind, qr_log_line_taker *take, void *context);

#define QR_RESULT_SUFFIXES                                                                                             \
    ".json .vllm.json .html .csv .md .requests.jsonl .steps.jsonl .trace.json .trace.json.gz .prom"

/* Writes a file by its suffix, one of the above; whole, or not at all. ERR_INVALID: another suffix; ERR_IO. */
quire_status qr_result_write(const qr_result *result, const char *path, quire_error *error);
bool         qr_result_knows_suffix(const char *path); /* or "-" */
bool         qr_result_is_trace(const char *path);
bool         qr_result_has_suffix(const char *path, const char *suffix); /* and something before it */

#endif
