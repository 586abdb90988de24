/* The seam between the engine and the architectures: a quire_model (what is in the files) becomes a qr_network (weights
 * packed for one team, and the buffers of a step). */
#ifndef QR_MODEL_H
#define QR_MODEL_H

#include "base/log.h"
#include "base/memory.h"
#include "cache/kv_memory.h"
#include "kernels/kernels.h"
#include "kernels/kv_tile.h"
#include "topology/team.h"

#include "quire/comm.h"
#include "quire/plan.h"

enum { QR_MAX_FEATURES = 4096 };

/* What the engine must know of a model before anything is allocated. */
typedef struct qr_model_facts {
    bool     encoder_decoder;
    uint32_t vocab_size, decoder_layers, encoder_layers;
    uint32_t heads, kv_heads, head_dim;
    uint32_t window;                     /* sliding window that all layers have, the widest; 0 = some see everything */
    uint32_t local_layers, local_window; /* where some see everything: those that do not, and their window; else 0 */
    uint32_t max_position_embeddings;    /* 0 = none (T5) */
    uint32_t max_encoder_positions;      /* 0 = none */
    uint32_t encoder_feature_size;       /* of a frame; 0: the encoder reads tokens */
    uint32_t long_length;            /* requests of more positions have other keys for the same tokens; 0 = none have */
    int32_t  decoder_start_token_id; /* -1: none */
    uint32_t eos_count;
    int32_t  eos_token_ids[QUIRE_MAX_EOS_IDS];
} qr_model_facts;

qr_model_facts qr_model_facts_from(const quire_model_info *info);
void           qr_model_facts_of(const quire_model *model, qr_model_facts *facts_out);

typedef struct qr_network qr_network;

typedef struct qr_network_options {
    qr_team          *team;
    const char       *isa; /* cap, NULL = none */
    qr_dtype          kv_dtype;
    uint32_t          block_size;
    uint32_t          max_rows;      /* of one step */
    uint32_t          max_sequences; /* entries of one step */
    uint32_t          max_logits_rows;
    uint32_t          max_encoder_tokens; /* of one step */
    uint32_t          max_model_len;
    quire_small_m     small_m;
    uint32_t          stage_slices; /* kept of each thread and step; 0 = none */
    bool              batch_invariant;
    quire_toggle      prefetch; /* of keys; auto: measured at create */
    const quire_comm *comm;     /* the other ranks; borrowed. NULL: there are none */
    qr_bind_options   bind;     /* of weights and buffers; bind.log is used for all messages */
    quire_allocator   allocator;
    quire_allocator   shared; /* of what threads of several nodes work in; without functions: allocator */
} qr_network_options;

/* Bytes that create would take: packed weights, step buffers. For `quire check`; needs no team. Refuses the models and
 * options that create refuses before it looks for memory, with its message. */
typedef struct qr_network_forecast {
    uint64_t weight_bytes, scratch_bytes, encoder_scratch_bytes;
} qr_network_forecast;
quire_status qr_network_plan_memory(const quire_model *model, const qr_network_options *options, uint32_t thread_count,
                                    qr_network_forecast *forecast_out, quire_error *error);

/* ERR_INVALID where weights of so many bytes are above what this process can take. */
quire_status qr_weights_check_fit(uint64_t weight_bytes, uint64_t available_bytes, quire_error *error);

/* Reads, packs (each thread its shard, on its node) and self-tests. Errors name file, tensor and offset. */
quire_status qr_network_create(const quire_model *model, const qr_network_options *options, qr_network **network_out,
                               quire_error *error);
void         qr_network_destroy(qr_network *network);

/* Whether other ranks could not be reached in the last forward, so that its results are none. Thread: the driver. */
bool qr_network_lost_ranks(const qr_network *network);

/* Numbers that are the same for the same model: of its shape and settings, and of its tensors, of each of which 16
 * pieces of 256 bytes are read. ERR_IO. */
quire_status qr_model_digest(const quire_model *model, uint64_t *shape_out, uint64_t *contents_out, quire_error *error);

/* Key heads of the model that this rank holds. ERR_INVALID, ERR_UNSUPPORTED: so many ranks cannot run it. */
quire_status qr_model_kv_heads_of_rank(const quire_model *model, uint32_t rank, uint32_t ranks, uint32_t *kv_heads_out,
                                       quire_error *error);

/* Shape of the KV blocks this network reads and writes. */
qr_kv_shape qr_network_kv_shape(const qr_network *network);
/* Must be called once before the first forward; borrowed. `local` is of the model's local layers and `memory` of the
 * others; plans then have local_blocks. NULL: `memory` is of all layers. ERR_NO_MEMORY. */
quire_status qr_network_attach_kv(qr_network *network, const qr_kv_memory *memory, const qr_kv_memory *local,
                                  quire_error *error);

/* Run by all threads behind the logits, in the same handing-over: sampling. */
typedef void qr_after_logits(void *context, uint32_t thread, uint32_t thread_count);

/* Runs the plan's copies, encoder items and rows, then `after` if there are logits (NULL: nothing), on the team. Adds
 * what the pass took and moved to *step: its times but forward_ns, bytes, flops and imbalance. ERR_EXECUTION if
 * something failed. Thread: the driver. */
quire_status qr_network_forward(qr_network *network, const quire_plan *plan, qr_after_logits *after, void *context,
                                quire_step *step);

/* [vocab_size] of plan->logits_rows[row], until the next forward; NULL: no sample of the plan reads the row itself. */
const float *qr_network_logits(const qr_network *network, uint32_t row);

/* Of each logits row of the last forward, kept or not; valid until the next one. */
const qr_partial_lse *qr_network_partial_lse(const qr_network *network);

/* The stages of `thread` in the last forward, [returned] in order; *stages_out is NULL when none are kept. Until the
 * next forward. Thread: the driver. */
uint32_t qr_network_stages(const qr_network *network, uint32_t thread, const quire_stage **stages_out,
                           uint64_t *dropped_out);

/* Since creation: bytes of keys and values that threads read from blocks of other nodes, and shares of attention that
 * threads of other nodes took over. */
void qr_network_count_remote(const qr_network *network, uint64_t *bytes_out, uint64_t *helped_out);

/* Shows all memory of the network but its blocks. */
void qr_network_visit_memory(const qr_network *network, qr_memory_visitor *visit, void *context);

const char *qr_network_implementation(const qr_network *network); /* as qr_projection_implementation */
const char *qr_network_isa(const qr_network *network);
bool        qr_network_batch_invariant(const qr_network *network);
uint64_t    qr_network_weight_bytes(const qr_network *network);
uint64_t    qr_network_scratch_bytes(const qr_network *network);

#endif
