/* From the caller's options (zero means default) to values that need no further thought: ranges and defaults of the one
 * list (option_list.h), then the rules that join several fields, then the sizes that depend on memory. Pure. */
#ifndef QR_ENGINE_OPTIONS_H
#define QR_ENGINE_OPTIONS_H

#include "base/option_list.h"
#include "base/options.h"
#include "model/model.h"
#include "scheduler/scheduler.h"

/* Of models without a limit of their own (T5's positions are relative): its n_positions. */
enum { QR_FALLBACK_MODEL_LEN = 512 };

/* Replaces zeros by defaults and checks everything that does not depend on memory. ERR_INVALID names the option, its
 * value and what is allowed. *options: as copied; resolved in place. */
quire_status qr_options_resolve(quire_engine_options *options, const qr_model_facts *facts, quire_error *error);

/* The parts, from resolved options. num_blocks, node_count and hash_seed are left 0. */
void qr_options_scheduler(const quire_engine_options *options, const qr_model_facts *facts, qr_scheduler_options *out);
/* `team`, `bind` are left empty. */
void qr_options_network(const quire_engine_options *options, const qr_model_facts *facts, qr_network_options *out);

/* What decides the number of blocks. */
typedef struct qr_pool_request {
    uint64_t limit;       /* bytes this process can still take */
    uint64_t block_bytes; /* of all layers */
    uint64_t size;        /* given bytes, or 0 */
    uint32_t num_blocks;  /* given number, or 0 */
    float    fraction;
    uint32_t block_size, node_count;
    uint32_t useful_blocks; /* more are not taken unless asked for */
} qr_pool_request;

/* Automatic sizing stops at so many blocks: four times what max_num_seqs longest sequences need. */
uint32_t qr_options_useful_blocks(const qr_scheduler_options *options);

/* docs/CACHE.md, Memory. ERR_INVALID: what was asked for is above the limit, or less than one block. */
quire_status qr_options_pool_blocks(const qr_pool_request *request, uint32_t *num_blocks_out, quire_error *error);

#endif
