/* From the caller's options (zero means default) to values that need no further thought: ranges and defaults of the one
 * list (option_list.h), then the rules that join several fields. Pure. */
#ifndef QR_ENGINE_OPTIONS_H
#define QR_ENGINE_OPTIONS_H

#include "base/option_list.h"
#include "base/sized_struct.h"
#include "model/model.h"
#include "scheduler/scheduler.h"

/* Of models without a limit of their own (T5's positions are relative): its n_positions. */
enum { QR_FALLBACK_MODEL_LEN = 512 };

/* Replaces zeros by defaults and checks everything that does not depend on memory. ERR_INVALID names the option, its
 * value and what is allowed. *options: as copied; resolved in place. */
quire_status qr_options_resolve(quire_engine_options *options, const qr_model_facts *facts, quire_error *error);

/* Rows of one step at most that may need logits: of running sequences with their drafts, and of prompts that are told.
 */
uint32_t qr_options_logits_rows(const quire_engine_options *options);

/* The parts, from resolved options. num_blocks, node_count and hash_seed are left 0. */
void qr_options_scheduler(const quire_engine_options *options, const qr_model_facts *facts, qr_scheduler_options *out);
/* `team`, `bind` are left empty. */
void qr_options_network(const quire_engine_options *options, const qr_model_facts *facts, qr_network_options *out);

#endif
