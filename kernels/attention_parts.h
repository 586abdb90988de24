/* The plan of an attention step, as the files that make it (attention_plan.c) and follow it (attention.c) see it.
 *
 * A sequence is cut into items, in one of three ways:
 *   QR_BY_SPLIT   few rows: an item is one split of 256 keys, all kv heads, read as one contiguous stream
 *   QR_BY_HEAD    few rows, and fewer items than threads: an item is one split of one kv head
 *   QR_BY_TILE    many rows: an item is up to 128 query rows of one kv head, over all their splits
 * Items are laid on one line, weighted by cost, and the line is cut into one piece per thread. A sequence whose splits
 * of one head fall to several threads leaves each split's state in a slot, merged in ascending order afterwards; any
 * other is merged as it goes, in the same order. Where the line is cut therefore never shows in the bits. */
#ifndef QR_ATTENTION_PARTS_H
#define QR_ATTENTION_PARTS_H

#include <stdatomic.h>

#include "base/memory.h"
#include "kernels/attention.h"
#include "kernels/attention_kernels.h"

typedef enum qr_cut_kind { QR_BY_SPLIT, QR_BY_HEAD, QR_BY_TILE } qr_cut_kind;

typedef struct qr_planned_sequence {
    uint32_t    index; /* in `sequences` */
    qr_cut_kind kind;
    uint32_t    first_split, split_count;
    uint32_t    tile_rows; /* QR_BY_TILE: rows of a full item */
    uint32_t    items;
    uint32_t    first_task; /* tasks of the sequences before it */
    bool        cut;        /* its states go to slots */
    uint64_t    slot;       /* first slot, when cut */
} qr_planned_sequence;

typedef struct qr_line_position { /* an item on the line */
    uint32_t planned, item;
} qr_line_position;

typedef struct qr_attention_scratch {
    float *q;       /* [query_row_capacity][padded dim] packed query rows */
    float *split;   /* [query_row_capacity] states of the split at hand */
    float *running; /* [query_row_capacity] states of the splits before it */
    float *k, *v;   /* [padded dim] a head's row, prepared */

    /* int8 keys only */
    float   *wide;   /* [query_row_capacity][padded dim] query rows in f32 */
    float   *common; /* [tiles at once][query_row_capacity] their products with what a tile's keys have in common */
    float   *turned; /* [padded dim] that, of a kv head */
    uint64_t busy_ns;
    uint32_t runs;                     /* since build */
    uint32_t first_block, block_count; /* of the thread's node; only with several nodes */
    uint64_t remote_bytes, helped;     /* since creation */
} qr_attention_scratch;

/* What nobody has begun of a thread's share: tasks [low half, high half). A task is an item of many rows, or the whole
 * share of another sequence. The owner takes the first, and who has nothing left the last. Two, for this run and the
 * next. */
typedef struct qr_attention_claims {
    _Alignas(64) _Atomic uint64_t left[2];
} qr_attention_claims;

struct qr_attention_plan {
    qr_arena                    arena;
    const qr_attention_kernels *kernels;
    qr_attention_shape          shape;
    qr_attention_limits         limits;
    uint32_t                    group, padded_dim, state_floats;
    uint32_t                    query_row_capacity; /* rows times heads that a thread can hold */
    uint64_t                    slot_capacity, slots_few_rows;

    const qr_attention_sequence *sequences;
    qr_planned_sequence         *planned; /* [max_sequences] in node order */
    qr_line_position            *begin;   /* [thread_count + 1] first item of each thread */
    qr_attention_scratch        *scratch; /* [thread_count], each behind the one before, at the end of the arena */
    qr_attention_claims         *claims;  /* [thread_count] */
    uint32_t                    *thread_node;
    uint32_t                     node_count; /* that blocks are on; 1 until set_blocks */
    float                       *slots;      /* [slot_capacity][heads] states */

    uint32_t planned_count, task_count;
    bool     append_barrier, merge_needed;
    uint64_t bytes, flops;
};

/* ---- what a row sees: keys [begin, end) ---- */

static inline uint32_t qr_visible_end(const qr_attention_plan *plan, const qr_attention_sequence *sequence,
                                      uint32_t row)
{
    return plan->shape.kind == QR_ATTENTION_FULL ? sequence->kv_length : sequence->position + row + 1;
}

static inline uint32_t qr_visible_begin(const qr_attention_plan *plan, const qr_attention_sequence *sequence,
                                        uint32_t row)
{
    const uint32_t end = qr_visible_end(plan, sequence, row), window = plan->shape.window;
    return window != 0 && end > window ? end - window : 0;
}

/* ---- a thread's share ---- */

static inline uint32_t qr_tiles_of_rows(const qr_planned_sequence *planned, const qr_attention_sequence *sequence)
{
    return qr_ceil_div_u32(sequence->row_count, planned->tile_rows);
}

/* Behind the last planned sequence of which the thread has items. */
static inline uint32_t qr_last_planned(const qr_attention_plan *plan, uint32_t thread)
{
    const qr_line_position end = plan->begin[thread + 1];
    return end.item == 0 ? end.planned : end.planned + 1;
}

/* Makes the thread's share claimable in the run after the next barrier; `turn`: which of its two claims. */
void qr_attention_offer_share(const qr_attention_plan *plan, uint32_t thread, uint32_t turn);

#endif
