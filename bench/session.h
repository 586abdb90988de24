/* One benchmark from a configuration to a result: model, engine, repetitions, checks. */
#ifndef QR_BENCH_SESSION_H
#define QR_BENCH_SESSION_H

#include "bench/result.h"

/* The values of an interrupt flag. ENDS: nothing can be lost yet, so a signal may simply end the process. */
enum { QR_INTERRUPT_ENDS = -1, QR_INTERRUPT_NONE = 0, QR_INTERRUPT_ASKED = 1 };

/* Runs what the (checked) configuration asks for and fills *result_out, which borrows `config`; deinit it in any case.
 * `interrupt` ASKED ends early with a partial result; ENDS becomes NONE when the engine stands. Errors are those of
 * model, engine and workload; a run that failed half-way leaves the repetitions before it. Thread: owner of the
 * configuration. */
quire_status qr_session_run(const quire_config *config, const quire_logger *logger, volatile int *interrupt,
                            qr_result *result_out, quire_error *error);

/* The model that the configuration names. ERR_INVALID: none. */
quire_status qr_session_open_model(const quire_config *config, const quire_logger *logger, quire_model **model_out,
                                   quire_error *error);

#endif
