/* Benchmarks from configurations to results: model, engine, repetitions, checks. One session is one engine; several
 * configurations that ask for the same engine can share it. */
#ifndef QR_BENCH_SESSION_H
#define QR_BENCH_SESSION_H

#include "bench/result/result.h"
#include "bench/run/runner.h"

/* The model that the configuration names. ERR_INVALID: none. */
quire_status qr_session_open_model(const quire_config *config, const quire_logger *logger, quire_model **model_out,
                                   quire_error *error);

/* The values of an interrupt flag. ENDS: nothing can be lost yet, so a signal may simply end the process. */
enum { QR_INTERRUPT_ENDS = -1, QR_INTERRUPT_NONE = 0, QR_INTERRUPT_ASKED = 1 };

/* run.clock = "virtual": nothing is loaded, and the KV cache is only said to exist. */
bool qr_session_is_virtual(const quire_config *config);

/* ---- one configuration, all its repetitions ---- */

/* Runs what the (checked) configuration asks for and fills *result_out, which borrows `config`; deinit it in any case.
 * `interrupt` ASKED ends early with a partial result; ENDS becomes NONE once the engine is created. Errors are those of
 * model, engine and workload; a run that failed half-way leaves the repetitions before it. `comm`: the engine is one
 * rank of several, or NULL; a rank but 0 does as rank 0 asks until that is done, and has no run. Thread: owner of the
 * configuration. */
quire_status qr_session_run(const quire_config *config, const quire_logger *logger, const quire_comm *comm,
                            volatile int *interrupt, qr_result *result_out, quire_error *error);

/* ---- several configurations in turn ---- */

typedef struct qr_session qr_session;

/* Model and engine of `config`, which is borrowed. *session_out is NULL on failure. */
quire_status qr_session_open(const quire_config *config, const quire_logger *logger, const quire_comm *comm,
                             qr_session **session_out, quire_error *error);
/* True when `config` asks for the engine that this session has: [model] to [kernels] are equal. */
bool qr_session_serves(const qr_session *session, const quire_config *config);
void qr_session_close(qr_session *session); /* NULL is allowed */

/* Before the first repetition of a result, and after the last: what its head and its checks say. */
void qr_session_begin(const quire_config *config, qr_result *result_out);
void qr_session_end(qr_result *result);

/* Plays one more repetition of result->config, which the session serves. `stop` may end it early (NULL: nothing does).
 * Errors as above; result->partial is then set. */
quire_status qr_session_repeat(qr_session *session, volatile int *interrupt, const qr_run_stop *stop, qr_result *result,
                               quire_error *error);

/* Between two repetitions: the prefix cache is emptied, then run.cooldown passes (or `interrupt` is ASKED). */
void qr_session_cool(qr_session *session, const quire_config *config, const volatile int *interrupt);

#endif
