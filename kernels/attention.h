/* Paged attention over ragged block tables: plan once per step and layer group, run per layer.
 *
 * The keys of a sequence are cut into splits at absolute multiples of 256 positions; a row's result is the merge of its
 * splits in ascending order, whoever computed them, so its bits depend on neither batch nor threads nor chunking.
 * Online softmax: Milakov & Gimelshein 2018, arXiv:1805.02867; merge of partial results: Rabe & Staats 2021,
 * arXiv:2112.05682. */
#ifndef QR_ATTENTION_H
#define QR_ATTENTION_H

#include "base/memory.h"
#include "kernels/kernels.h"
#include "kernels/kv_tile.h"

#include "quire/hooks.h"
#include "quire/status.h"

typedef enum qr_attention_kind {
    QR_ATTENTION_CAUSAL = 0, /* row at position i sees keys j <= i, with a window also j > i - window */
    QR_ATTENTION_FULL   = 1, /* every row sees all kv_length keys: encoder self-attention, cross-attention */
} qr_attention_kind;

/* What stays the same for all steps of a layer group. */
typedef struct qr_attention_shape {
    qr_attention_kind kind;
    qr_kv_shape       kv;
    uint32_t          heads;   /* query heads, a multiple of kv.kv_heads */
    uint32_t          window;  /* CAUSAL: keys visible including the row's own; 0 = all */
    float             scale;   /* 1/sqrt(head_dim), or 1 (T5) */
    float             softcap; /* 0 = none: score = c * tanh(score / c) */
} qr_attention_shape;

/* One sequence of the step. The table has an entry for every visible key; entries below the window are never read. */
typedef struct qr_attention_sequence {
    uint32_t        row_start, row_count; /* its rows in q and out; row_count = 0: skipped */
    uint32_t        position;             /* CAUSAL: absolute position of its first row */
    uint32_t        kv_length;            /* keys after append: CAUSAL position + row_count; FULL: any */
    const uint32_t *blocks;               /* [ceil(kv_length / block_size)] */
    uint32_t        rope_row;             /* of position 0 in the rope tables */
    uint32_t        node;                 /* whose threads get its work first */
} qr_attention_sequence;

typedef struct qr_attention_plan qr_attention_plan; /* integers only; reused step after step */

/* Which tiles are fetched into L2 while the one before is at work. */
typedef enum qr_attention_prefetch {
    QR_PREFETCH_NONE  = 0,
    QR_PREFETCH_JUMPS = 1, /* those where the next block is not the adjacent one, which hardware cannot foresee */
    QR_PREFETCH_ALL   = 2,
} qr_attention_prefetch;

/* What suits the machine; never changes bits. Costs are one thread's with all at work, in femtoseconds; 0 = a guess. */
typedef struct qr_attention_tuning {
    qr_attention_prefetch prefetch;
    uint32_t              byte_fs; /* to read a byte of keys and values */
    uint32_t              pair_fs; /* for a query head to meet a key */
    uint32_t block_fs;       /* to take a key of a kv head once for a block of query heads; 0: kernels without blocks */
    uint32_t remote_percent; /* time to read keys of another node, of that for one's own, times 100; 0 = unknown: no
                              * thread does what threads of another node have not begun */
} qr_attention_tuning;

typedef struct qr_attention_limits {
    uint32_t            max_rows, max_sequences;
    uint32_t            max_kv_length; /* longest table of one sequence, tokens */
    uint32_t            thread_count;
    const uint32_t     *thread_node; /* [thread_count] never decreasing; NULL = all on one node */
    qr_attention_tuning tuning;
} qr_attention_limits;

/* ERR_UNSUPPORTED: a shape that no kernel has (head_dim > 256, ...). */
quire_status qr_attention_check(const qr_kernels *kernels, const qr_attention_shape *shape, quire_error *error);

/* Allocates plan and per-thread scratch once. Refuses what qr_attention_check() does. */
quire_status qr_attention_plan_create(const qr_kernels *kernels, const qr_attention_shape *shape,
                                      const qr_attention_limits *limits, const quire_allocator *allocator,
                                      qr_attention_plan **plan_out, quire_error *error);
void         qr_attention_plan_destroy(qr_attention_plan *plan);

/* Says which node each block is on, for the counters below: node n has [first_block[n], first_block[n + 1]), for as
 * many nodes as limits.thread_node names. Once, before the first build. */
void qr_attention_plan_set_blocks(qr_attention_plan *plan, const uint32_t *first_block);
/* Since creation: bytes of keys and values that threads read from blocks of other nodes, and shares that threads of
 * other nodes took over. */
void   qr_attention_remote(const qr_attention_plan *plan, uint64_t *bytes_out, uint64_t *helped_out);
size_t qr_attention_plan_bytes(const qr_attention_plan *plan); /* memory it holds */
/* Shows what the plan holds: each thread's scratch, and what all share. */
void qr_attention_plan_visit_memory(const qr_attention_plan *plan, qr_memory_visitor *visit, void *context);

/* Plans a step. `sequences` is borrowed until the next build. Serial, O(rows + splits). */
void qr_attention_plan_build(qr_attention_plan *plan, const qr_attention_sequence *sequences, uint32_t count);

/* After build: whether the caller must put a barrier between append and run, and between run and merge. */
bool qr_attention_needs_append_barrier(const qr_attention_plan *plan);
bool qr_attention_needs_merge(const qr_attention_plan *plan);

/* Counted by the plan: bytes of distinct visible keys and values, and 4 * D * heads * visible pairs. One layer. */
uint64_t qr_attention_bytes(const qr_attention_plan *plan);
uint64_t qr_attention_flops(const qr_attention_plan *plan);

/* Rotary embedding and per-head norm, applied to q and k where they are used. All optional. */
typedef struct qr_attention_prologue {
    const float *rope_cos, *rope_sin; /* [rows][rotary_dim / 2]; NULL: none */
    uint32_t     rotary_dim;          /* <= head_dim, half-split; the rest passes through */
    const float *q_norm, *k_norm;     /* [head_dim] RMSNorm weights (Qwen3), before rope; NULL: none */
    float        norm_epsilon;
    /* [kv_heads][head_dim] what the keys have in common before rope, or NULL: none. int8 tiles hold keys less this, as
     * rope turns it at the tile's first token; queries meet it apart, once per tile and in f32. So it does not set the
     * step of the codes. Right whatever it is. Other dtypes hold keys whole. */
    const float *k_common;
} qr_attention_prologue;

/* Relative position bias by distance, computed at load (qr_t5_bias_*). */
typedef struct qr_attention_bias {
    const float *by_distance; /* [heads][stride], entry (j - i) + zero is added to score (i, j) */
    uint32_t     stride, zero;
    uint32_t     reach; /* distances beyond +-reach have the bias of +-reach; 31 such entries stand at either end */
} qr_attention_bias;

/* One layer. q, k, v are f32 rows as a projection wrote them; element (row r, head h, d) at r * stride + h * D + d. */
typedef struct qr_attention_args {
    char                    *plane;               /* this layer's blocks */
    const float             *q;                   /* [rows][heads * D] */
    const float             *k, *v;               /* [rows][kv_heads * D]; append only */
    uint32_t                 q_stride, kv_stride; /* floats between rows */
    qr_attention_prologue    prologue;
    const qr_attention_bias *bias; /* NULL: none */
    const float *sinks; /* [heads] a score that every row has beside its keys', of a key without value; NULL: none */
    qr_rows      out;   /* [rows][heads * D], f32 or bf16; by row number */
} qr_attention_args;

/* Writes k and v of this step's rows at positions [position, position + row_count); zeroes a tile before its slot 0
 * is written. Rows are dealt to threads as the plan says. */
void qr_attention_append(const qr_attention_plan *plan, const qr_attention_args *args, uint32_t thread);

/* Scores, softmax, values for the thread's share, then for what other threads of its node have not begun of theirs,
 * then for what those of other nodes have not, where that is faster than waiting for them; results that lie in one
 * thread are finished into args->out. Every thread calls it once per run, with a barrier between two runs of a plan. */
void qr_attention_run(qr_attention_plan *plan, const qr_attention_args *args, uint32_t thread);

/* Both, sequence after sequence, so that run finds in the cache what append wrote. Only where the plan needs no barrier
 * between them. */
void qr_attention_append_and_run(qr_attention_plan *plan, const qr_attention_args *args, uint32_t thread);

/* Merges sequences that were cut between threads. */
void qr_attention_merge(qr_attention_plan *plan, const qr_attention_args *args, uint32_t thread);

/* Nanoseconds the thread spent in the last step's runs, for the imbalance statistic. */
uint64_t qr_attention_busy_ns(const qr_attention_plan *plan, uint32_t thread);

/* Query heads that meet a key of their kv head together, at a cost that hardly depends on how many they are; 0: each
 * costs the same. */
uint32_t qr_attention_block_heads(const qr_kernels *kernels, const qr_kv_shape *shape);

/* Reads [memory, memory + bytes) as one sequence's keys, at least a tile of each kv head, with one query row of every
 * head; returns the tokens, of whole splits where kernels take those. For measuring. `scratch`:
 * qr_attention_walk_floats() floats, 64-byte aligned. */
size_t   qr_attention_walk_floats(const qr_attention_shape *shape);
uint64_t qr_attention_walk(const qr_kernels *kernels, const qr_attention_shape *shape, const char *memory, size_t bytes,
                           bool prefetch, float *scratch);

/* Copies the first `slots` token slots (rounded up to whole tiles) of block `from` to block `to` in one plane. */
void qr_kv_copy_block(const qr_kv_shape *shape, char *plane, uint32_t from, uint32_t to, uint32_t slots);

/* T5 relative position buckets (Raffel et al. 2020, arXiv:1910.10683; as Hugging Face computes them in f32).
 * relative = j - i. Result in [0, num_buckets). */
uint32_t qr_t5_bucket(int32_t relative, bool bidirectional, uint32_t num_buckets, uint32_t max_distance);

/* Size and content of a by-distance table from weights [num_buckets][heads]; `table_out` needs heads * stride floats.
 */
void qr_t5_bias_shape(bool bidirectional, uint32_t max_distance, qr_attention_bias *bias_out);
void qr_t5_bias_fill(qr_attention_bias *bias, float *table, const float *weights, uint32_t heads, bool bidirectional,
                     uint32_t num_buckets, uint32_t max_distance);

#endif
