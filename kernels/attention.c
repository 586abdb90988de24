/* Paged attention: the plan that spreads a step's keys over the threads, and the loops around the tile primitives.
 * Integers and pointers only; the arithmetic is in attention_template.h.
 *
 * A sequence is cut into items, in one of three ways:
 *   BY_SPLIT   few rows: an item is one split of 256 keys, all kv heads, read as one contiguous stream
 *   BY_HEAD    few rows, and fewer items than threads: an item is one split of one kv head
 *   BY_TILE    many rows: an item is up to 128 query rows of one kv head, over all their splits
 * Items are laid on one line, weighted by cost, and the line is cut into one piece per thread. A sequence whose splits
 * of one head fall to several threads leaves each split's state in a slot, merged in ascending order afterwards; any
 * other is merged as it goes, in the same order. Where the line is cut therefore never shows in the bits. */
#include "kernels/attention.h"

#include <stdatomic.h>
#include <stdio.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/memory.h"
#include "kernels/attention_kernels.h"

enum {
    FEW_ROWS        = 8,   /* of a sequence, to be cut by splits */
    TILE_QUERY_ROWS = 128, /* of an item of many rows: their states stay in L2 */
    SPLIT_TILES     = QR_SPLIT_TOKENS / QR_TILE_TOKENS,
    SPREAD_PERCENT  = 150, /* a node's load above this much of the mean: deal its work to other nodes as well */
};

/* Costs in femtoseconds; they decide who works, never what comes out. */
enum { COST_ITEM = 1000000000, COST_BYTE = 100000 };

typedef enum cut_kind { BY_SPLIT, BY_HEAD, BY_TILE } cut_kind;

typedef struct planned_sequence {
    uint32_t index; /* in `sequences` */
    cut_kind kind;
    uint32_t first_split, split_count;
    uint32_t tile_rows; /* BY_TILE: rows of a full item */
    uint32_t items;
    uint32_t first_unit; /* units of the sequences before it */
    bool     cut;        /* its states go to slots */
    uint64_t slot;       /* first slot, when cut */
} planned_sequence;

typedef struct line_position { /* an item on the line */
    uint32_t planned, item;
} line_position;

typedef struct thread_scratch {
    float   *q;       /* [unit_capacity][padded dim] packed query rows */
    float   *split;   /* [unit_capacity] states of the split at hand */
    float   *running; /* [unit_capacity] states of the splits before it */
    float   *k, *v;   /* [padded dim] a head's row, prepared */
    uint64_t busy_ns;
    uint32_t runs; /* since build */
} thread_scratch;

/* What nobody has begun of a thread's share: units [low half, high half). A unit is an item of many rows, or the whole
 * share of another sequence. The owner takes the first, and who has nothing left the last. Two, for this run and the
 * next. */
typedef struct thread_claims {
    _Alignas(64) _Atomic uint64_t left[2];
} thread_claims;

struct qr_attention_plan {
    qr_arena                    arena;
    const qr_attention_kernels *kernels;
    qr_attention_shape          shape;
    qr_attention_limits         limits;
    uint32_t                    group, padded_dim, state_floats;
    uint32_t                    unit_capacity; /* query rows a thread can hold */
    uint64_t                    slot_capacity, slots_few_rows;

    const qr_attention_sequence *sequences;
    planned_sequence            *planned; /* [max_sequences] in node order */
    line_position               *begin;   /* [thread_count + 1] first item of each thread */
    thread_scratch              *scratch; /* [thread_count] */
    thread_claims               *claims;  /* [thread_count] */
    uint32_t                    *thread_node;
    float                       *slots; /* [slot_capacity][heads] states */

    uint32_t planned_count, unit_count;
    bool     append_barrier, merge_needed;
    uint64_t bytes, flops;
};

/* ---- what a row sees ---- */

static uint32_t visible_end(const qr_attention_plan *plan, const qr_attention_sequence *sequence, uint32_t row)
{
    return plan->shape.kind == QR_ATTENTION_FULL ? sequence->kv_length : sequence->position + row + 1;
}

static uint32_t visible_begin(const qr_attention_plan *plan, const qr_attention_sequence *sequence, uint32_t row)
{
    const uint32_t end = visible_end(plan, sequence, row), window = plan->shape.window;
    return window != 0 && end > window ? end - window : 0;
}

/* ---- creation ---- */

static quire_status check_shape(const qr_kernels *kernels, const qr_attention_shape *shape, quire_error *error)
{
    const qr_kv_shape *kv = &shape->kv;
    if (kv->head_dim == 0 || kv->head_dim % 8 != 0 || kv->head_dim > QR_HEAD_DIM_MAX)
        return qr_fail(error, QUIRE_ERR_UNSUPPORTED, "attention: head_dim %u is not a multiple of 8 from 8 to %d",
                       kv->head_dim, QR_HEAD_DIM_MAX);
    if (kv->kv_heads == 0 || shape->heads == 0 || shape->heads % kv->kv_heads != 0)
        return qr_fail(error, QUIRE_ERR_UNSUPPORTED, "attention: %u heads are not a multiple of %u kv heads",
                       shape->heads, kv->kv_heads);
    if (kv->block_size == 0 || kv->block_size % QR_TILE_TOKENS != 0)
        return qr_fail(error, QUIRE_ERR_UNSUPPORTED, "attention: block_size %u is not a multiple of %d", kv->block_size,
                       QR_TILE_TOKENS);
    if (kernels->attention == NULL || (unsigned)kv->dtype > QR_INT8 ||
        kernels->attention->by_dtype[kv->dtype].attend == NULL)
        return qr_fail(error, QUIRE_ERR_UNSUPPORTED, "attention: %s has no kernel for this KV dtype", kernels->isa);
    return QUIRE_OK;
}

/* A cut sequence has at most the splits of max_kv_length, and each cut lies between two threads. Sequences of 2 to
 * FEW_ROWS rows need a slot per split and row: one longest such sequence is provided for, others are not cut. */
static void count_slots(qr_attention_plan *plan)
{
    const qr_attention_limits *limits = &plan->limits;
    const uint64_t             splits = qr_ceil_div_u32(limits->max_kv_length, QR_SPLIT_TOKENS);
    if (limits->thread_count < 2) return;
    uint64_t single = splits * (limits->thread_count - 1);
    if (limits->max_total_splits != 0) single = qr_min_u64(single, limits->max_total_splits);
    plan->slots_few_rows = limits->max_rows > 1 ? splits * qr_min_u32(limits->max_rows, FEW_ROWS) : 0;
    plan->slot_capacity  = single + plan->slots_few_rows;
}

static uint32_t rows_per_tile(const qr_attention_plan *plan) { return qr_max_u32(1, TILE_QUERY_ROWS / plan->group); }

static void lay_out(qr_attention_plan *plan, qr_arena *arena)
{
    const uint32_t threads = plan->limits.thread_count, units = plan->unit_capacity;
    plan->planned           = QR_ARENA_TAKE(arena, planned_sequence, plan->limits.max_sequences);
    plan->begin             = QR_ARENA_TAKE(arena, line_position, threads + 1);
    plan->thread_node       = QR_ARENA_TAKE(arena, uint32_t, threads);
    plan->claims            = QR_ARENA_TAKE(arena, thread_claims, threads);
    plan->slots             = QR_ARENA_TAKE(arena, float, plan->slot_capacity * plan->shape.heads * plan->state_floats);
    thread_scratch *scratch = QR_ARENA_TAKE(arena, thread_scratch, threads);
    for (uint32_t t = 0; t < threads; t++) {
        thread_scratch mine = {0};
        mine.q              = QR_ARENA_TAKE(arena, float, (size_t)units * plan->padded_dim);
        mine.split          = QR_ARENA_TAKE(arena, float, (size_t)units * plan->state_floats);
        mine.running        = QR_ARENA_TAKE(arena, float, (size_t)units * plan->state_floats);
        mine.k              = QR_ARENA_TAKE(arena, float, plan->padded_dim);
        mine.v              = QR_ARENA_TAKE(arena, float, plan->padded_dim);
        if (scratch != NULL) scratch[t] = mine;
    }
    plan->scratch = scratch;
}

quire_status qr_attention_plan_create(const qr_kernels *kernels, const qr_attention_shape *shape,
                                      const qr_attention_limits *limits, const quire_allocator *allocator,
                                      qr_attention_plan **plan_out, quire_error *error)
{
    *plan_out = NULL;
    QR_TRY(check_shape(kernels, shape, error));
    qr_assert(limits->thread_count > 0);
    qr_attention_plan plan = {.kernels = kernels->attention, .shape = *shape, .limits = *limits};
    if (shape->kind == QR_ATTENTION_FULL) plan.shape.window = 0;
    if (limits->tuning.byte_fs == 0) plan.limits.tuning.byte_fs = COST_BYTE;
    if (limits->tuning.pair_fs == 0)
        plan.limits.tuning.pair_fs = 4000000 * shape->kv.head_dim / plan.kernels->by_dtype[shape->kv.dtype].gflops;
    plan.group         = shape->heads / shape->kv.kv_heads;
    plan.padded_dim    = qr_kv_padded_dim(&shape->kv);
    plan.state_floats  = plan.padded_dim + QR_ATTENTION_STATE_TAIL;
    plan.unit_capacity = qr_max_u32(qr_min_u32(limits->max_rows, FEW_ROWS) * shape->heads,
                                    qr_min_u32(limits->max_rows, rows_per_tile(&plan)) * plan.group);
    count_slots(&plan);

    qr_attention_plan *self = qr_allocate(allocator, sizeof plan, 64);
    if (self == NULL) return qr_fail(error, QUIRE_ERR_NO_MEMORY, "attention plan: %zu bytes of memory", sizeof plan);
    lay_out(&plan, &plan.arena);
    const quire_status status = qr_arena_create(&plan.arena, allocator, "attention plan", error);
    if (status != QUIRE_OK) {
        qr_deallocate(allocator, self, sizeof plan);
        return status;
    }
    lay_out(&plan, &plan.arena);
    if (limits->thread_node != NULL)
        memcpy(plan.thread_node, limits->thread_node, limits->thread_count * sizeof *plan.thread_node);
    plan.limits.thread_node = plan.thread_node;
    *self                   = plan;
    *plan_out               = self;
    return QUIRE_OK;
}

void qr_attention_plan_destroy(qr_attention_plan *plan)
{
    if (plan == NULL) return;
    qr_arena              arena     = plan->arena;
    const quire_allocator allocator = arena.allocator;
    qr_deallocate(&allocator, plan, sizeof *plan);
    qr_arena_destroy(&arena);
}

size_t qr_attention_plan_bytes(const qr_attention_plan *plan) { return sizeof *plan + plan->arena.capacity; }

/* ---- planning: what there is to do ---- */

static uint32_t tiles_of_rows(const planned_sequence *planned, const qr_attention_sequence *sequence)
{
    return qr_ceil_div_u32(sequence->row_count, planned->tile_rows);
}

static void count_items(const qr_attention_plan *plan, planned_sequence *planned)
{
    const uint32_t kv_heads = plan->shape.kv.kv_heads;
    planned->items          = planned->kind == BY_SPLIT  ? planned->split_count
                              : planned->kind == BY_HEAD ? planned->split_count * kv_heads
                                                         : tiles_of_rows(planned, &plan->sequences[planned->index]) * kv_heads;
}

/* `slots_left`: of those for sequences of several rows. */
static planned_sequence plan_sequence(const qr_attention_plan *plan, uint32_t index, uint64_t *slots_left)
{
    const qr_attention_sequence *sequence = &plan->sequences[index];
    const uint32_t               last     = visible_end(plan, sequence, sequence->row_count - 1);
    qr_assert(last <= plan->limits.max_kv_length && last <= sequence->kv_length);

    planned_sequence planned = {.index = index, .kind = BY_TILE, .tile_rows = rows_per_tile(plan)};
    planned.first_split      = visible_begin(plan, sequence, 0) / QR_SPLIT_TOKENS;
    planned.split_count      = qr_max_u32(1, qr_ceil_div_u32(last, QR_SPLIT_TOKENS) - planned.first_split);
    const uint64_t slots     = (uint64_t)planned.split_count * sequence->row_count;
    if (sequence->row_count == 1 || plan->limits.thread_count == 1) {
        planned.kind = sequence->row_count <= FEW_ROWS ? BY_SPLIT : BY_TILE;
    } else if (sequence->row_count <= FEW_ROWS && slots <= *slots_left) {
        planned.kind = BY_SPLIT;
        *slots_left -= slots;
    }
    count_items(plan, &planned);
    return planned;
}

/* Rows [row, row + rows) against the keys [from, to), all query heads of `kv_heads` kv heads. */
static uint64_t cost_of(const qr_attention_plan *plan, uint32_t rows, uint32_t from, uint32_t to, uint32_t kv_heads)
{
    const qr_kv_shape *kv          = &plan->shape.kv;
    const uint64_t     tokens      = to > from ? to - from : 0;
    const uint64_t     token_bytes = qr_kv_tile_bytes(kv) / QR_TILE_TOKENS;
    const uint64_t     pairs       = (uint64_t)rows * plan->group;
    return COST_ITEM +
           tokens * kv_heads * (plan->limits.tuning.byte_fs * token_bytes + plan->limits.tuning.pair_fs * pairs);
}

static uint64_t item_cost(const qr_attention_plan *plan, const planned_sequence *planned, uint32_t item)
{
    const qr_attention_sequence *sequence = &plan->sequences[planned->index];
    uint32_t                     row = 0, last_row = sequence->row_count - 1;
    if (planned->kind == BY_TILE) {
        row      = item % tiles_of_rows(planned, sequence) * planned->tile_rows;
        last_row = qr_min_u32(row + planned->tile_rows - 1, last_row);
    }
    uint32_t from = visible_begin(plan, sequence, row), to = visible_end(plan, sequence, last_row);
    if (planned->kind != BY_TILE) {
        const uint32_t split = planned->first_split + item % planned->split_count;
        from                 = qr_max_u32(from, split * QR_SPLIT_TOKENS);
        to                   = qr_min_u32(to, (split + 1) * QR_SPLIT_TOKENS);
    }
    return cost_of(plan, last_row - row + 1, from, to, planned->kind == BY_SPLIT ? plan->shape.kv.kv_heads : 1);
}

static void count_work(qr_attention_plan *plan, const qr_attention_sequence *sequence)
{
    const qr_kv_shape *kv    = &plan->shape.kv;
    uint64_t           pairs = 0;
    for (uint32_t row = 0; row < sequence->row_count; row++)
        pairs += visible_end(plan, sequence, row) - visible_begin(plan, sequence, row);
    const uint64_t keys = visible_end(plan, sequence, sequence->row_count - 1) - visible_begin(plan, sequence, 0);
    plan->bytes += keys * kv->kv_heads * qr_kv_tile_bytes(kv) / QR_TILE_TOKENS;
    plan->flops += pairs * 4 * kv->head_dim * plan->shape.heads;
}

/* ---- planning: who does it ---- */

typedef struct thread_group { /* the threads of one node, or all; and the planned sequences whose keys live there */
    uint32_t first_thread, last_thread; /* [first, last) */
    uint32_t first, last;
    uint64_t cost;
} thread_group;

static thread_group next_group(const qr_attention_plan *plan, uint32_t first_thread)
{
    thread_group group = {.first_thread = first_thread, .last_thread = first_thread};
    while (group.last_thread < plan->limits.thread_count &&
           plan->thread_node[group.last_thread] == plan->thread_node[first_thread])
        group.last_thread++;
    return group;
}

static bool node_has_threads(const qr_attention_plan *plan, uint32_t node)
{
    for (uint32_t t = 0; t < plan->limits.thread_count; t++)
        if (plan->thread_node[t] == node) return true;
    return false;
}

/* Appends the sequences of the group's node; those of a node without threads go to the first. */
static void plan_group(qr_attention_plan *plan, uint32_t count, thread_group *group, uint64_t *slots_left)
{
    const uint32_t node  = plan->thread_node[group->first_thread];
    const bool     all   = group->first_thread == 0 && group->last_thread == plan->limits.thread_count;
    uint32_t       items = 0;
    group->first         = plan->planned_count;
    for (uint32_t i = 0; i < count; i++) {
        const uint32_t home = plan->sequences[i].node;
        if (plan->sequences[i].row_count == 0) continue;
        if (!all && home != node && (group->first_thread != 0 || node_has_threads(plan, home))) continue;
        const planned_sequence planned = plan_sequence(plan, i, slots_left);
        items += planned.items;
        plan->planned[plan->planned_count++] = planned;
    }
    group->last = plan->planned_count;
    for (uint32_t k = group->first; k < group->last; k++) {
        planned_sequence *planned = &plan->planned[k];
        if (items < group->last_thread - group->first_thread && planned->kind == BY_SPLIT) {
            planned->kind = BY_HEAD;
            count_items(plan, planned);
        }
        for (uint32_t item = 0; item < planned->items; item++) group->cost += item_cost(plan, planned, item);
    }
}

/* An item goes to the thread in whose share of the line its middle lies. */
static void deal_group(qr_attention_plan *plan, const thread_group *group)
{
    const uint32_t threads = group->last_thread - group->first_thread;
    uint32_t       next    = group->first_thread; /* the first thread whose first item is not known yet */
    uint64_t       prefix  = 0;
    for (uint32_t k = group->first; k < group->last; k++)
        for (uint32_t item = 0; item < plan->planned[k].items; item++) {
            const uint64_t cost   = item_cost(plan, &plan->planned[k], item);
            const uint64_t thread = group->first_thread + threads * (2 * prefix + cost) / (2 * group->cost);
            while (next <= thread) plan->begin[next++] = (line_position){k, item};
            prefix += cost;
        }
    while (next < group->last_thread) plan->begin[next++] = (line_position){group->last, 0};
}

/* Plans all groups; returns the greatest load of a thread as a percentage of the mean. */
static uint64_t deal_by_node(qr_attention_plan *plan, uint32_t count)
{
    uint64_t slots_left = plan->slots_few_rows, total = 0, greatest = 0;
    uint32_t first = 0;
    while (first < plan->limits.thread_count) {
        thread_group group = next_group(plan, first);
        plan_group(plan, count, &group, &slots_left);
        deal_group(plan, &group);
        total += group.cost;
        greatest = qr_max_u64(greatest, group.cost / (group.last_thread - group.first_thread));
        first    = group.last_thread;
    }
    return total == 0 ? 100 : greatest * plan->limits.thread_count / (total / 100 + 1);
}

/* One line over all nodes, still in node order, so that a node's threads get its own work first. */
static void deal_over_nodes(qr_attention_plan *plan)
{
    thread_group all = {.last_thread = plan->limits.thread_count, .last = plan->planned_count};
    for (uint32_t k = 0; k < plan->planned_count; k++)
        for (uint32_t item = 0; item < plan->planned[k].items; item++)
            all.cost += item_cost(plan, &plan->planned[k], item);
    deal_group(plan, &all);
}

/* Whether a boundary between threads falls inside (k, the items of one head). */
static bool is_cut_inside_a_head(const qr_attention_plan *plan, uint32_t k)
{
    const planned_sequence *planned  = &plan->planned[k];
    const uint32_t          per_head = planned->kind == BY_SPLIT  ? planned->items
                                       : planned->kind == BY_HEAD ? planned->split_count
                                                                  : planned->items / plan->shape.kv.kv_heads;
    for (uint32_t t = 1; t < plan->limits.thread_count; t++)
        if (plan->begin[t].planned == k && plan->begin[t].item % per_head != 0) return true;
    return false;
}

/* No slots left: the thread that has the first item takes them all. */
static void give_to_one_thread(qr_attention_plan *plan, uint32_t k)
{
    for (uint32_t t = 1; t < plan->limits.thread_count; t++)
        if (plan->begin[t].planned == k && plan->begin[t].item != 0) plan->begin[t] = (line_position){k + 1, 0};
}

static void assign_slots(qr_attention_plan *plan)
{
    uint64_t used = 0;
    for (uint32_t t = 1; t < plan->limits.thread_count; t++) {
        const uint32_t k = plan->begin[t].planned;
        if (k >= plan->planned_count || plan->planned[k].cut || !is_cut_inside_a_head(plan, k)) continue;
        planned_sequence *planned = &plan->planned[k];
        if (planned->kind == BY_TILE) continue; /* its items are merged where they are computed */
        const uint64_t slots = (uint64_t)planned->split_count * plan->sequences[planned->index].row_count;
        if (used + slots > plan->slot_capacity) {
            give_to_one_thread(plan, k);
            continue;
        }
        planned->cut       = true;
        planned->slot      = used;
        plan->merge_needed = true;
        used += slots;
    }
}

static uint32_t last_planned(const qr_attention_plan *plan, uint32_t thread) /* exclusive */
{
    const line_position end = plan->begin[thread + 1];
    return end.item == 0 ? end.planned : end.planned + 1;
}

static void number_units(qr_attention_plan *plan)
{
    plan->unit_count = 0;
    for (uint32_t k = 0; k < plan->planned_count; k++) {
        plan->planned[k].first_unit = plan->unit_count;
        plan->unit_count += plan->planned[k].kind == BY_TILE ? plan->planned[k].items : 1;
    }
}

/* The first unit at or behind a place on the line; `end`: of a sequence that is cut there, the one behind it. */
static uint32_t unit_at(const qr_attention_plan *plan, line_position at, bool end)
{
    if (at.planned == plan->planned_count) return plan->unit_count;
    const planned_sequence *planned = &plan->planned[at.planned];
    return planned->first_unit + (planned->kind == BY_TILE ? at.item : end && at.item > 0);
}

static void offer_share(const qr_attention_plan *plan, uint32_t thread, uint32_t turn)
{
    const uint64_t first = unit_at(plan, plan->begin[thread], false);
    const uint64_t end   = unit_at(plan, plan->begin[thread + 1], true);
    atomic_store_explicit(&plan->claims[thread].left[turn], first | end << 32, memory_order_relaxed);
}

void qr_attention_plan_build(qr_attention_plan *plan, const qr_attention_sequence *sequences, uint32_t count)
{
    qr_assert(count <= plan->limits.max_sequences);
    plan->sequences      = sequences;
    plan->planned_count  = 0;
    plan->append_barrier = plan->merge_needed = false;
    plan->bytes = plan->flops = 0;
    if (deal_by_node(plan, count) > SPREAD_PERCENT) deal_over_nodes(plan);
    plan->begin[plan->limits.thread_count] = (line_position){plan->planned_count, 0};
    assign_slots(plan);
    number_units(plan);
    for (uint32_t k = 0; k < plan->planned_count; k++) {
        count_work(plan, &sequences[plan->planned[k].index]);
        plan->append_barrier |=
            plan->planned[k].kind == BY_TILE; /* one thread writes a head's keys, any may read them */
    }
    for (uint32_t t = 0; t < plan->limits.thread_count; t++) {
        plan->scratch[t].busy_ns = plan->scratch[t].runs = 0;
        offer_share(plan, t, 0);
        offer_share(plan, t, 1);
    }
}

bool     qr_attention_needs_append_barrier(const qr_attention_plan *plan) { return plan->append_barrier; }
bool     qr_attention_needs_merge(const qr_attention_plan *plan) { return plan->merge_needed; }
uint64_t qr_attention_bytes(const qr_attention_plan *plan) { return plan->bytes; }
uint64_t qr_attention_flops(const qr_attention_plan *plan) { return plan->flops; }
uint64_t qr_attention_busy_ns(const qr_attention_plan *plan, uint32_t thread) { return plan->scratch[thread].busy_ns; }

/* ---- a thread's share ---- */

/* Items [from, to) of planned sequence k that belong to the thread; false when it has none of k. */
static bool share_of(const qr_attention_plan *plan, uint32_t thread, uint32_t k, uint32_t *from, uint32_t *to)
{
    const line_position begin = plan->begin[thread], end = plan->begin[thread + 1];
    *from = k == begin.planned ? begin.item : 0;
    *to   = k == end.planned ? end.item : plan->planned[k].items;
    return *from < *to;
}

/* Takes the first or the last unit that is left of the owner's share. Who works hands nothing over by it: results meet
 * at the barrier. */
static bool claim(const qr_attention_plan *plan, uint32_t owner, uint32_t turn, bool first, uint32_t *unit_out)
{
    _Atomic uint64_t *left = &plan->claims[owner].left[turn];
    uint64_t          seen = atomic_load_explicit(left, memory_order_relaxed), after;
    do {
        const uint32_t begin = (uint32_t)seen, end = (uint32_t)(seen >> 32);
        if (begin >= end) return false;
        *unit_out = first ? begin : end - 1;
        after     = first ? seen + 1 : seen - (UINT64_C(1) << 32);
    } while (!atomic_compare_exchange_weak_explicit(left, &seen, after, memory_order_relaxed, memory_order_relaxed));
    return true;
}

/* Some rows of a sequence, some kv heads, some splits. */
typedef struct portion {
    const qr_attention_sequence *sequence;
    uint32_t                     row, rows;
    uint32_t                     head, heads; /* kv heads */
    uint32_t                     split, split_end;
    const char                  *after; /* the tile that the thread reads next, or NULL */
} portion;

static qr_attention_head head_of(const qr_attention_plan *plan, const qr_attention_prologue *prologue,
                                 const float *norm, uint32_t position, float scale)
{
    const size_t at = (size_t)position * (prologue->rotary_dim / 2);
    return (qr_attention_head){.dim          = plan->shape.kv.head_dim,
                               .padded_dim   = plan->padded_dim,
                               .norm         = norm,
                               .norm_epsilon = prologue->norm_epsilon,
                               .cos          = prologue->rope_cos == NULL ? NULL : prologue->rope_cos + at,
                               .sin          = prologue->rope_cos == NULL ? NULL : prologue->rope_sin + at,
                               .rotary_dim   = prologue->rotary_dim,
                               .scale        = scale};
}

static char *tile_at(const qr_attention_plan *plan, const qr_attention_args *args,
                     const qr_attention_sequence *sequence, uint32_t tile, uint32_t kv_head)
{
    const qr_kv_shape *kv        = &plan->shape.kv;
    const uint32_t     per_block = kv->block_size / QR_TILE_TOKENS;
    return args->plane + qr_kv_tile_offset(kv, sequence->blocks[tile / per_block], tile % per_block, kv_head);
}

/* ---- append ---- */

static void append_row(const qr_attention_plan *plan, const qr_attention_args *args, const thread_scratch *scratch,
                       const portion *p, uint32_t row)
{
    const uint32_t          position = p->sequence->position + row, slot = position % QR_TILE_TOKENS;
    const size_t            at     = (size_t)(p->sequence->row_start + row) * args->kv_stride;
    const qr_attention_head k_head = head_of(plan, &args->prologue, args->prologue.k_norm, position, 1.0f);
    const qr_attention_head v_head = {.dim = k_head.dim, .padded_dim = k_head.padded_dim, .scale = 1.0f};
    for (uint32_t h = p->head; h < p->head + p->heads; h++) {
        char *tile = tile_at(plan, args, p->sequence, position / QR_TILE_TOKENS, h);
        if (slot == 0) memset(tile, 0, qr_kv_tile_bytes(&plan->shape.kv)); /* 0 * NaN of a former tenant is NaN */
        plan->kernels->prepare(&k_head, args->k + at + h * k_head.dim, scratch->k);
        plan->kernels->prepare(&v_head, args->v + at + h * k_head.dim, scratch->v);
        qr_kv_tile_store(plan->kernels, &plan->shape.kv, tile, slot, scratch->k, scratch->v);
    }
}

/* A slot's key lies in as many lines as it has pairs of elements: written one by one, each would be waited for. */
static void fetch_tiles(const qr_attention_plan *plan, const qr_attention_args *args, const portion *p,
                        uint32_t position)
{
    const char  *tiles = tile_at(plan, args, p->sequence, position / QR_TILE_TOKENS, p->head);
    const size_t bytes = qr_kv_tile_bytes(&plan->shape.kv) * p->heads;
    if (plan->limits.tuning.prefetch == QR_PREFETCH_NONE || position % QR_TILE_TOKENS == 0) return;
    for (size_t i = 0; i < bytes; i += 64) __builtin_prefetch(tiles + i, 0, 2);
}

/* Rows whose positions lie in the portion's splits. */
static void append_portion(const qr_attention_plan *plan, const qr_attention_args *args, const thread_scratch *scratch,
                           const portion *p)
{
    const uint32_t position = p->sequence->position, rows = p->sequence->row_count;
    const uint32_t from = qr_max_u32(position, p->split * QR_SPLIT_TOKENS);
    const uint32_t to   = qr_min_u32(position + rows, p->split_end * QR_SPLIT_TOKENS);
    if (from < to) fetch_tiles(plan, args, p, from);
    for (uint32_t at = from; at < to; at++) append_row(plan, args, scratch, p, at - position);
}

/* The items [from, to) of a sequence as portions: heads outermost, each with its splits, or its rows (BY_TILE). */
typedef void portion_visitor(const qr_attention_plan *plan, const qr_attention_args *args, uint32_t thread,
                             const planned_sequence *planned, const portion *p);

static void visit_by_head(const qr_attention_plan *plan, const qr_attention_args *args, uint32_t thread,
                          const planned_sequence *planned, uint32_t from, uint32_t to, portion_visitor *visit)
{
    const qr_attention_sequence *sequence = &plan->sequences[planned->index];
    const uint32_t               splits   = planned->split_count;
    for (uint32_t item = from; item < to;) {
        const uint32_t head = item / splits, end = qr_min_u32(to, (head + 1) * splits);
        const portion  p = {.sequence  = sequence,
                            .rows      = sequence->row_count,
                            .head      = head,
                            .heads     = 1,
                            .split     = planned->first_split + item % splits,
                            .split_end = planned->first_split + end - head * splits};
        visit(plan, args, thread, planned, &p);
        item = end;
    }
}

/* Where the thread's share of planned sequence k begins; NULL: it has none that is cut by splits. */
static const char *first_read(const qr_attention_plan *plan, const qr_attention_args *args, uint32_t thread, uint32_t k)
{
    uint32_t from, to;
    if (k >= last_planned(plan, thread) || !share_of(plan, thread, k, &from, &to)) return NULL;
    const planned_sequence      *planned  = &plan->planned[k];
    const qr_attention_sequence *sequence = &plan->sequences[planned->index];
    const uint32_t               first =
        qr_max_u32((planned->first_split + from) * QR_SPLIT_TOKENS, visible_begin(plan, sequence, 0));
    if (planned->kind != BY_SPLIT || first >= sequence->kv_length) return NULL;
    return tile_at(plan, args, sequence, first / QR_TILE_TOKENS, 0);
}

static void visit_by_split(const qr_attention_plan *plan, const qr_attention_args *args, uint32_t thread,
                           const planned_sequence *planned, uint32_t from, uint32_t to, const char *after,
                           portion_visitor *visit)
{
    const qr_attention_sequence *sequence = &plan->sequences[planned->index];
    const portion                p        = {.sequence  = sequence,
                                             .rows      = sequence->row_count,
                                             .heads     = plan->shape.kv.kv_heads,
                                             .split     = planned->first_split + from,
                                             .split_end = planned->first_split + to,
                                             .after     = after};
    visit(plan, args, thread, planned, &p);
}

static void append_visit(const qr_attention_plan *plan, const qr_attention_args *args, uint32_t thread,
                         const planned_sequence *planned, const portion *p)
{
    (void)planned;
    append_portion(plan, args, &plan->scratch[thread], p);
}

/* Many rows: the thread with a head's first item writes all its rows. */
static void append_heads(const qr_attention_plan *plan, const qr_attention_args *args, uint32_t thread,
                         const planned_sequence *planned, uint32_t from, uint32_t to)
{
    const qr_attention_sequence *sequence = &plan->sequences[planned->index];
    const uint32_t               tiles    = tiles_of_rows(planned, sequence);
    portion                      p        = {.sequence = sequence, .split_end = UINT32_MAX / QR_SPLIT_TOKENS};
    p.head                                = qr_ceil_div_u32(from, tiles);
    p.heads                               = qr_ceil_div_u32(to, tiles) - p.head;
    if (p.heads > 0) append_portion(plan, args, &plan->scratch[thread], &p);
}

/* What of the owner's share lies in planned sequence k, by whichever thread. */
static void append_share(const qr_attention_plan *plan, const qr_attention_args *args, uint32_t owner, uint32_t k,
                         uint32_t thread)
{
    const planned_sequence *planned = &plan->planned[k];
    uint32_t                from, to;
    if (!share_of(plan, owner, k, &from, &to)) return;
    if (planned->kind == BY_TILE)
        append_heads(plan, args, thread, planned, from, to);
    else if (planned->kind == BY_HEAD)
        visit_by_head(plan, args, thread, planned, from, to, append_visit);
    else
        visit_by_split(plan, args, thread, planned, from, to, NULL, append_visit);
}

void qr_attention_append(const qr_attention_plan *plan, const qr_attention_args *args, uint32_t thread)
{
    for (uint32_t k = plan->begin[thread].planned; k < last_planned(plan, thread); k++)
        append_share(plan, args, thread, k, thread);
}

/* ---- run ---- */

/* A portion's query rows are numbered (kv head, row, head of the group), the head of the group innermost. */
static uint32_t units_of(const qr_attention_plan *plan, const portion *p) { return p->heads * p->rows * plan->group; }

/* Rows are a stride apart, which no hardware prefetcher follows. */
static void fetch_floats(const float *from, uint32_t count)
{
    for (uint32_t i = 0; i < count; i += 16) __builtin_prefetch(from + i);
}

static void pack_queries(const qr_attention_plan *plan, const qr_attention_args *args, const thread_scratch *scratch,
                         const portion *p)
{
    const uint32_t group = plan->group, dim = plan->shape.kv.head_dim;
    float         *to = scratch->q;
    for (uint32_t h = p->head; h < p->head + p->heads; h++)
        for (uint32_t r = p->row; r < p->row + p->rows; r++) {
            const float            *row  = args->q + (size_t)(p->sequence->row_start + r) * args->q_stride;
            const qr_attention_head head = head_of(plan, &args->prologue, args->prologue.q_norm,
                                                   p->sequence->position + r, plan->shape.scale * QR_LOG2_E);
            if (r + 1 < p->row + p->rows) fetch_floats(row + args->q_stride + (size_t)h * group * dim, group * dim);
            for (uint32_t g = 0; g < group; g++, to += plan->padded_dim) {
                plan->kernels->prepare(&head, row + (size_t)(h * group + g) * dim, scratch->k);
                plan->kernels->by_dtype[plan->shape.kv.dtype].pack_q(scratch->k, plan->padded_dim, to);
            }
        }
}

static void clear_states(const qr_attention_plan *plan, float *states, uint32_t count)
{
    memset(states, 0, (size_t)count * plan->state_floats * sizeof *states);
    for (uint32_t i = 0; i < count; i++) states[(size_t)i * plan->state_floats + plan->padded_dim] = QR_ATTENTION_EMPTY;
}

static bool is_empty(const qr_attention_plan *plan, const float *state)
{
    const float *tail = state + plan->padded_dim, *l = tail + QR_ATTENTION_STATE_TAIL - QR_ATTENTION_LANES;
    if (tail[0] != QR_ATTENTION_EMPTY) return false;
    for (uint32_t lane = 0; lane < QR_ATTENTION_LANES; lane++)
        if (l[lane] != 0.0f) return false; /* scores of NaN leave m behind */
    return true;
}

/* The one way in which splits come together: in ascending order, the first that a row sees is taken as it is. */
static void merge_state(const qr_attention_plan *plan, float *into, const float *from)
{
    if (is_empty(plan, from)) return;
    if (is_empty(plan, into))
        memcpy(into, from, plan->state_floats * sizeof *into);
    else
        plan->kernels->merge(into, from, plan->padded_dim);
}

static void finish_state(const qr_attention_plan *plan, const qr_attention_args *args, uint32_t row, uint32_t head,
                         const float *state)
{
    const qr_rows *out     = &args->out;
    const uint32_t dim     = plan->shape.kv.head_dim;
    const size_t   element = (size_t)row * out->stride + (size_t)head * dim;
    plan->kernels->finish(state, dim, plan->padded_dim, out->dtype,
                          (char *)out->data + element * qr_dtype_bytes(out->dtype));
}

static void finish_portion(const qr_attention_plan *plan, const qr_attention_args *args, const portion *p,
                           const float *states)
{
    for (uint32_t h = p->head; h < p->head + p->heads; h++)
        for (uint32_t r = p->row; r < p->row + p->rows; r++)
            for (uint32_t g = 0; g < plan->group; g++, states += plan->state_floats)
                finish_state(plan, args, p->sequence->row_start + r, h * plan->group + g, states);
}

/* Tile `tile` for the portion's kv heads; rows that do not see it are left out. */
static void attend_tile(const qr_attention_plan *plan, const qr_attention_args *args, const portion *p, uint32_t tile,
                        const char *next, const float *q, float *states)
{
    const uint32_t key = tile * QR_TILE_TOKENS, group = plan->group;
    uint32_t       first = p->row, last = p->row + p->rows;
    while (first < last && visible_end(plan, p->sequence, first) <= key) first++;
    while (first < last && visible_begin(plan, p->sequence, last - 1) >= key + QR_TILE_TOKENS) last--;
    if (first == last) return;
    const size_t             offset = (size_t)(first - p->row) * group;
    const qr_attention_bias *bias   = args->bias;
    qr_attention_tile        t      = {.tile         = tile_at(plan, args, p->sequence, tile, p->head),
                                       .tile_bytes   = qr_kv_tile_bytes(&plan->shape.kv),
                                       .next         = next,
                                       .prefetch     = plan->limits.tuning.prefetch == QR_PREFETCH_ALL,
                                       .first_key    = key,
                                       .padded_dim   = plan->padded_dim,
                                       .heads        = p->heads,
                                       .rows         = last - first,
                                       .group        = group,
                                       .head_rows    = p->rows * group,
                                       .q            = (const char *)(q + offset * plan->padded_dim),
                                       .state        = states + offset * plan->state_floats,
                                       .visible_end  = visible_end(plan, p->sequence, first),
                                       .visible_step = plan->shape.kind == QR_ATTENTION_CAUSAL,
                                       .window       = plan->shape.window,
                                       .softcap      = plan->shape.softcap * QR_LOG2_E,
                                       .position     = p->sequence->position + first};
    if (bias != NULL) {
        t.bias        = bias->by_distance + (size_t)p->head * group * bias->stride;
        t.bias_stride = bias->stride;
        t.bias_zero   = bias->zero;
        t.bias_reach  = bias->reach;
    }
    plan->kernels->by_dtype[plan->shape.kv.dtype].attend(&t);
}

/* The tiles of which some row of the portion sees a key. */
static uint32_t first_tile(const qr_attention_plan *plan, const portion *p)
{
    return visible_begin(plan, p->sequence, p->row) / QR_TILE_TOKENS;
}

static uint32_t end_tile(const qr_attention_plan *plan, const portion *p)
{
    return qr_ceil_div_u32(visible_end(plan, p->sequence, p->row + p->rows - 1), QR_TILE_TOKENS);
}

/* What to fetch while `tile` is at work, for the first of the portion's kv heads; NULL: nothing. `last_tile`: where the
 * portion ends. */
static const char *tile_ahead(const qr_attention_plan *plan, const qr_attention_args *args, const portion *p,
                              uint32_t tile, uint32_t last_tile)
{
    const qr_attention_prefetch prefetch = plan->limits.tuning.prefetch;
    if (prefetch == QR_PREFETCH_NONE) return NULL;
    const char  *here = tile_at(plan, args, p->sequence, tile, p->head);
    const char  *next = tile + 1 < last_tile ? tile_at(plan, args, p->sequence, tile + 1, p->head) : p->after;
    const size_t run  = qr_kv_tile_bytes(&plan->shape.kv) * plan->shape.kv.kv_heads;
    return prefetch == QR_PREFETCH_ALL || next != here + run ? next : NULL;
}

/* Takes the keys of one split into `states`, heads inside tiles: that is their order in memory. */
static void attend_split(const qr_attention_plan *plan, const qr_attention_args *args, const portion *p, uint32_t split,
                         uint32_t last_tile, const float *q, float *states)
{
    const uint32_t end = qr_min_u32(end_tile(plan, p), (split + 1) * SPLIT_TILES);
    for (uint32_t tile = qr_max_u32(first_tile(plan, p), split * SPLIT_TILES); tile < end; tile++) {
        const char *next = tile_ahead(plan, args, p, tile, last_tile);
        attend_tile(plan, args, p, tile, next, q, states);
    }
}

/* Walks the portion's splits in ascending order. `slots` NULL: merges as it goes and finishes the rows; else leaves
 * each split's states there, split outermost, and `slot_head` is the kv head the portion starts at. */
static void run_portion(const qr_attention_plan *plan, const qr_attention_args *args, const thread_scratch *scratch,
                        const portion *p, float *slots, size_t slot_stride)
{
    const uint32_t units     = units_of(plan, p);
    const uint32_t last_tile = qr_min_u32(end_tile(plan, p), p->split_end * SPLIT_TILES);
    pack_queries(plan, args, scratch, p);
    for (uint32_t split = p->split; split < p->split_end; split++) {
        const bool first  = split == p->split;
        float     *states = slots != NULL ? slots + (split - p->split) * slot_stride
                            : first       ? scratch->running
                                          : scratch->split;
        clear_states(plan, states, units);
        attend_split(plan, args, p, split, last_tile, scratch->q, states);
        if (slots == NULL && !first)
            for (size_t u = 0; u < units; u++)
                merge_state(plan, scratch->running + u * plan->state_floats, states + u * plan->state_floats);
    }
    if (slots == NULL) finish_portion(plan, args, p, scratch->running);
}

/* Slots of a cut sequence: [split][kv head][row][head of the group] states. */
static float *slot_of(const qr_attention_plan *plan, const planned_sequence *planned, uint32_t split, uint32_t unit)
{
    const size_t units = (size_t)plan->sequences[planned->index].row_count * plan->shape.heads;
    const size_t first = (size_t)planned->slot * plan->shape.heads + (split - planned->first_split) * units;
    return plan->slots + (first + unit) * plan->state_floats;
}

static void run_visit(const qr_attention_plan *plan, const qr_attention_args *args, uint32_t thread,
                      const planned_sequence *planned, const portion *p)
{
    const size_t units = (size_t)p->rows * plan->shape.heads;
    float       *slots = planned->cut ? slot_of(plan, planned, p->split, p->head * p->rows * plan->group) : NULL;
    run_portion(plan, args, &plan->scratch[thread], p, slots, units * plan->state_floats);
}

static void run_tile(const qr_attention_plan *plan, const qr_attention_args *args, uint32_t thread,
                     const planned_sequence *planned, uint32_t item)
{
    const qr_attention_sequence *sequence = &plan->sequences[planned->index];
    const uint32_t               tiles    = tiles_of_rows(planned, sequence);
    portion                      p        = {.sequence = sequence, .head = item / tiles, .heads = 1};
    p.row                                 = item % tiles * planned->tile_rows;
    p.rows                                = qr_min_u32(planned->tile_rows, sequence->row_count - p.row);
    p.split                               = visible_begin(plan, sequence, p.row) / QR_SPLIT_TOKENS;
    p.split_end = qr_ceil_div_u32(visible_end(plan, sequence, p.row + p.rows - 1), QR_SPLIT_TOKENS);
    run_portion(plan, args, &plan->scratch[thread], &p, NULL, 0);
}

/* The planned sequence of a unit. */
static uint32_t planned_of(const qr_attention_plan *plan, uint32_t unit)
{
    uint32_t k = 0, end = plan->planned_count;
    while (end - k > 1) {
        const uint32_t middle = k + (end - k) / 2;
        if (plan->planned[middle].first_unit <= unit)
            k = middle;
        else
            end = middle;
    }
    return k;
}

static void run_unit(const qr_attention_plan *plan, const qr_attention_args *args, uint32_t owner, uint32_t unit,
                     uint32_t thread, bool append)
{
    const uint32_t          k       = planned_of(plan, unit);
    const planned_sequence *planned = &plan->planned[k];
    uint32_t                from, to;
    if (!share_of(plan, owner, k, &from, &to)) return;
    if (append) append_share(plan, args, owner, k, thread);
    if (planned->kind == BY_TILE)
        run_tile(plan, args, thread, planned, unit - planned->first_unit);
    else if (planned->kind == BY_HEAD)
        visit_by_head(plan, args, thread, planned, from, to, run_visit);
    else
        visit_by_split(plan, args, thread, planned, from, to,
                       owner == thread ? first_read(plan, args, thread, k + 1) : NULL, run_visit);
}

/* The thread's own share, then what the others of its node have not begun: a core that others use, or whose memory is
 * slower, would keep all waiting. Bits do not depend on who works. Nobody can still want what is offered here for the
 * next run: that of the last run lies behind a barrier. */
static void run_shares(qr_attention_plan *plan, const qr_attention_args *args, uint32_t thread, bool append)
{
    const uint64_t start = qr_now_ns();
    const uint32_t turn = plan->scratch[thread].runs++ % 2, threads = plan->limits.thread_count;
    offer_share(plan, thread, 1 - turn);
    for (uint32_t i = 0, unit; i < threads; i++) {
        const uint32_t owner = (thread + i) % threads;
        if (plan->thread_node[owner] != plan->thread_node[thread]) continue;
        while (claim(plan, owner, turn, owner == thread, &unit)) run_unit(plan, args, owner, unit, thread, append);
    }
    plan->scratch[thread].busy_ns += qr_now_ns() - start;
}

void qr_attention_run(qr_attention_plan *plan, const qr_attention_args *args, uint32_t thread)
{
    run_shares(plan, args, thread, false);
}

void qr_attention_append_and_run(qr_attention_plan *plan, const qr_attention_args *args, uint32_t thread)
{
    qr_assert(!plan->append_barrier);
    run_shares(plan, args, thread, true);
}

/* ---- merge ---- */

static void merge_unit(const qr_attention_plan *plan, const qr_attention_args *args, const thread_scratch *scratch,
                       const planned_sequence *planned, uint32_t unit)
{
    const qr_attention_sequence *sequence = &plan->sequences[planned->index];
    const uint32_t               group = plan->group, row = unit / group % sequence->row_count;
    const uint32_t               head = unit / (group * sequence->row_count) * group + unit % group;
    clear_states(plan, scratch->running, 1);
    for (uint32_t s = 0; s < planned->split_count; s++)
        merge_state(plan, scratch->running, slot_of(plan, planned, planned->first_split + s, unit));
    finish_state(plan, args, sequence->row_start + row, head, scratch->running);
}

void qr_attention_merge(qr_attention_plan *plan, const qr_attention_args *args, uint32_t thread)
{
    const uint64_t start = qr_now_ns();
    for (uint32_t k = 0; plan->merge_needed && k < plan->planned_count; k++) {
        const planned_sequence *planned = &plan->planned[k];
        if (!planned->cut) continue;
        const uint64_t units   = (uint64_t)plan->sequences[planned->index].row_count * plan->shape.heads;
        const uint64_t threads = plan->limits.thread_count;
        for (uint64_t u = units * thread / threads; u < units * (thread + 1) / threads; u++)
            merge_unit(plan, args, &plan->scratch[thread], planned, (uint32_t)u);
    }
    plan->scratch[thread].busy_ns += qr_now_ns() - start;
}
