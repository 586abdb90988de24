/* Who attends to what: a step's keys and rows cut into items, and the items dealt to threads. attention_parts.h has the
 * terms. Integers only. */
#include "base/assert.h"
#include "base/error.h"
#include "kernels/attention_parts.h"

enum {
    FEW_ROWS        = 8,   /* of a sequence, to be cut by splits */
    TILE_QUERY_ROWS = 128, /* of an item of many rows: their states stay in L2 */
    SPREAD_PERCENT  = 150, /* less unevenness than this costs less than reading from afar, however fast that is */
};

/* Costs in femtoseconds; they decide who works, never what comes out. */
enum { COST_ITEM = 1000000000, COST_BYTE = 100000 };

/* ---- creation ---- */

quire_status qr_attention_check(const qr_kernels *kernels, const qr_attention_shape *shape, quire_error *error)
{
    const qr_kv_shape *kv = &shape->kv;
    if (kv->head_dim == 0 || kv->head_dim % 4 != 0 || kv->head_dim > QR_HEAD_DIM_MAX)
        return qr_fail(error, QUIRE_ERR_UNSUPPORTED, "attention: head_dim %u is not a multiple of 4 from 4 to %d",
                       kv->head_dim, QR_HEAD_DIM_MAX);
    if (kv->kv_heads == 0 || shape->heads == 0 || shape->heads % kv->kv_heads != 0)
        return qr_fail(error, QUIRE_ERR_UNSUPPORTED, "attention: %u heads are not a multiple of %u kv heads",
                       shape->heads, kv->kv_heads);
    if (kv->block_size == 0 || kv->block_size % QR_TILE_TOKENS != 0)
        return qr_fail(error, QUIRE_ERR_UNSUPPORTED, "attention: block_size %u is not a multiple of %d", kv->block_size,
                       QR_TILE_TOKENS);
    if (kernels->attention == NULL || (unsigned)kv->dtype > QR_INT8 ||
        (kernels->attention->by_dtype[kv->dtype].attend == NULL &&
         kernels->attention->by_dtype[kv->dtype].attend_split == NULL))
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
    const uint64_t single = splits * (limits->thread_count - 1);
    plan->slots_few_rows  = limits->max_rows > 1 ? splits * qr_min_u32(limits->max_rows, FEW_ROWS) : 0;
    plan->slot_capacity   = single + plan->slots_few_rows;
}

static uint32_t rows_per_tile(const qr_attention_plan *plan) { return qr_max_u32(1, TILE_QUERY_ROWS / plan->group); }

static void lay_out(qr_attention_plan *plan, qr_arena *arena)
{
    const uint32_t threads = plan->limits.thread_count, rows = plan->query_row_capacity;
    plan->planned     = QR_ARENA_TAKE(arena, qr_planned_sequence, plan->limits.max_sequences);
    plan->begin       = QR_ARENA_TAKE(arena, qr_line_position, threads + 1);
    plan->thread_node = QR_ARENA_TAKE(arena, uint32_t, threads);
    plan->claims      = QR_ARENA_TAKE(arena, qr_attention_claims, threads);
    plan->slots       = QR_ARENA_TAKE(arena, float, plan->slot_capacity * plan->shape.heads * plan->state_floats);
    qr_attention_scratch *scratch = QR_ARENA_TAKE(arena, qr_attention_scratch, threads);
    for (uint32_t t = 0; t < threads; t++) {
        qr_attention_scratch mine = {0};
        mine.q                    = QR_ARENA_TAKE(arena, float, (size_t)rows * plan->padded_dim);
        mine.split                = QR_ARENA_TAKE(arena, float, (size_t)rows * plan->state_floats);
        mine.running              = QR_ARENA_TAKE(arena, float, (size_t)rows * plan->state_floats);
        mine.k                    = QR_ARENA_TAKE(arena, float, plan->padded_dim);
        mine.v                    = QR_ARENA_TAKE(arena, float, plan->padded_dim);
        if (plan->shape.kv.dtype == QR_INT8) {
            mine.wide   = QR_ARENA_TAKE(arena, float, (size_t)rows * plan->padded_dim);
            mine.common = QR_ARENA_TAKE(arena, float, (size_t)rows *QR_SPLIT_TILES);
            mine.turned = QR_ARENA_TAKE(arena, float, plan->padded_dim);
        }
        if (scratch != NULL) scratch[t] = mine;
    }
    plan->scratch = scratch;
}

void qr_attention_plan_set_blocks(qr_attention_plan *plan, const uint32_t *first_block)
{
    plan->node_count = plan->thread_node[plan->limits.thread_count - 1] + 1;
    for (uint32_t t = 0; t < plan->limits.thread_count; t++) {
        const uint32_t node          = plan->thread_node[t];
        plan->scratch[t].first_block = first_block[node];
        plan->scratch[t].block_count = first_block[node + 1] - first_block[node];
    }
}

void qr_attention_remote(const qr_attention_plan *plan, uint64_t *bytes_out, uint64_t *helped_out)
{
    *bytes_out = *helped_out = 0;
    for (uint32_t t = 0; t < plan->limits.thread_count; t++) {
        *bytes_out += plan->scratch[t].remote_bytes;
        *helped_out += plan->scratch[t].helped;
    }
}

/* From the first float of a thread's scratch to the next thread's, or to the end. */
static char *scratch_begin(const qr_attention_plan *plan, uint32_t thread)
{
    return thread < plan->limits.thread_count ? (char *)plan->scratch[thread].q
                                              : plan->arena.base + plan->arena.capacity;
}

void qr_attention_plan_visit_memory(const qr_attention_plan *plan, qr_memory_visitor *visit, void *context)
{
    visit(context, QUIRE_MEMORY_BUFFERS, plan->arena.base, (size_t)(scratch_begin(plan, 0) - plan->arena.base),
          QR_ANY_NODE);
    for (uint32_t t = 0; t < plan->limits.thread_count; t++)
        visit(context, QUIRE_MEMORY_SCRATCH, scratch_begin(plan, t),
              (size_t)(scratch_begin(plan, t + 1) - scratch_begin(plan, t)), plan->thread_node[t]);
}

quire_status qr_attention_plan_create(const qr_kernels *kernels, const qr_attention_shape *shape,
                                      const qr_attention_limits *limits, const quire_allocator *allocator,
                                      qr_attention_plan **plan_out, quire_error *error)
{
    *plan_out = NULL;
    QR_TRY(qr_attention_check(kernels, shape, error));
    qr_assert(limits->thread_count > 0);
    qr_attention_plan plan = {.kernels = kernels->attention, .shape = *shape, .limits = *limits};
    if (shape->kind == QR_ATTENTION_FULL) plan.shape.window = 0;
    if (limits->tuning.byte_fs == 0) plan.limits.tuning.byte_fs = COST_BYTE;
    if (limits->tuning.pair_fs == 0)
        plan.limits.tuning.pair_fs = 4000000 * shape->kv.head_dim / plan.kernels->by_dtype[shape->kv.dtype].gflops;
    plan.group              = shape->heads / shape->kv.kv_heads;
    plan.padded_dim         = qr_kv_padded_dim(&shape->kv);
    plan.state_floats       = plan.padded_dim + QR_ATTENTION_STATE_TAIL;
    plan.query_row_capacity = qr_max_u32(qr_min_u32(limits->max_rows, FEW_ROWS) * shape->heads,
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
    plan.node_count         = 1;
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

static void count_items(const qr_attention_plan *plan, qr_planned_sequence *planned)
{
    const uint32_t kv_heads = plan->shape.kv.kv_heads;
    planned->items          = planned->kind == QR_BY_SPLIT ? planned->split_count
                              : planned->kind == QR_BY_HEAD
                                  ? planned->split_count * kv_heads
                                  : qr_tiles_of_rows(planned, &plan->sequences[planned->index]) * kv_heads;
}

/* `slots_left`: of those for sequences of several rows. */
static qr_planned_sequence plan_sequence(const qr_attention_plan *plan, uint32_t index, uint64_t *slots_left)
{
    const qr_attention_sequence *sequence = &plan->sequences[index];
    const uint32_t               last     = qr_visible_end(plan, sequence, sequence->row_count - 1);
    qr_assert(last <= plan->limits.max_kv_length && last <= sequence->kv_length);

    qr_planned_sequence planned = {.index = index, .kind = QR_BY_TILE, .tile_rows = rows_per_tile(plan)};
    planned.first_split         = qr_visible_begin(plan, sequence, 0) / QR_SPLIT_TOKENS;
    planned.split_count         = qr_max_u32(1, qr_ceil_div_u32(last, QR_SPLIT_TOKENS) - planned.first_split);
    const uint64_t slots        = (uint64_t)planned.split_count * sequence->row_count;
    if (sequence->row_count == 1 || plan->limits.thread_count == 1) {
        planned.kind = sequence->row_count <= FEW_ROWS ? QR_BY_SPLIT : QR_BY_TILE;
    } else if (sequence->row_count <= FEW_ROWS && slots <= *slots_left) {
        planned.kind = QR_BY_SPLIT;
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
    const uint64_t     blocks      = qr_ceil_div_u32(rows * plan->group, QR_ATTENTION_BLOCK);

    const qr_attention_tuning *tuning = &plan->limits.tuning;
    return COST_ITEM +
           tokens * kv_heads * (tuning->byte_fs * token_bytes + tuning->block_fs * blocks + tuning->pair_fs * pairs);
}

static uint64_t item_cost(const qr_attention_plan *plan, const qr_planned_sequence *planned, uint32_t item)
{
    const qr_attention_sequence *sequence = &plan->sequences[planned->index];
    uint32_t                     row = 0, last_row = sequence->row_count - 1;
    if (planned->kind == QR_BY_TILE) {
        row      = item % qr_tiles_of_rows(planned, sequence) * planned->tile_rows;
        last_row = qr_min_u32(row + planned->tile_rows - 1, last_row);
    }
    uint32_t from = qr_visible_begin(plan, sequence, row), to = qr_visible_end(plan, sequence, last_row);
    if (planned->kind != QR_BY_TILE) {
        const uint32_t split = planned->first_split + item % planned->split_count;
        from                 = qr_max_u32(from, split * QR_SPLIT_TOKENS);
        to                   = qr_min_u32(to, (split + 1) * QR_SPLIT_TOKENS);
    }
    return cost_of(plan, last_row - row + 1, from, to, planned->kind == QR_BY_SPLIT ? plan->shape.kv.kv_heads : 1);
}

static void count_work(qr_attention_plan *plan, const qr_attention_sequence *sequence)
{
    const qr_kv_shape *kv    = &plan->shape.kv;
    uint64_t           pairs = 0;
    for (uint32_t row = 0; row < sequence->row_count; row++)
        pairs += qr_visible_end(plan, sequence, row) - qr_visible_begin(plan, sequence, row);
    const uint64_t keys = qr_visible_end(plan, sequence, sequence->row_count - 1) - qr_visible_begin(plan, sequence, 0);
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
        const qr_planned_sequence planned = plan_sequence(plan, i, slots_left);
        items += planned.items;
        plan->planned[plan->planned_count++] = planned;
    }
    group->last = plan->planned_count;
    for (uint32_t k = group->first; k < group->last; k++) {
        qr_planned_sequence *planned = &plan->planned[k];
        if (items < group->last_thread - group->first_thread && planned->kind == QR_BY_SPLIT) {
            planned->kind = QR_BY_HEAD;
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
            while (next <= thread) plan->begin[next++] = (qr_line_position){k, item};
            prefix += cost;
        }
    while (next < group->last_thread) plan->begin[next++] = (qr_line_position){group->last, 0};
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

/* A node's load above this much of the mean is dealt to other nodes as well: a thread there that gets the mean, all of
 * it from afar, is done before the node's own threads would be with all of theirs. */
static uint64_t spread_percent(const qr_attention_plan *plan)
{
    return qr_max_u32(plan->limits.tuning.remote_percent, SPREAD_PERCENT);
}

/* Whether a boundary between threads falls inside (k, the items of one head). */
static bool is_cut_inside_a_head(const qr_attention_plan *plan, uint32_t k)
{
    const qr_planned_sequence *planned  = &plan->planned[k];
    const uint32_t             per_head = planned->kind == QR_BY_SPLIT  ? planned->items
                                          : planned->kind == QR_BY_HEAD ? planned->split_count
                                                                        : planned->items / plan->shape.kv.kv_heads;
    for (uint32_t t = 1; t < plan->limits.thread_count; t++)
        if (plan->begin[t].planned == k && plan->begin[t].item % per_head != 0) return true;
    return false;
}

/* No slots left: the thread that has the first item takes them all. */
static void give_to_one_thread(qr_attention_plan *plan, uint32_t k)
{
    for (uint32_t t = 1; t < plan->limits.thread_count; t++)
        if (plan->begin[t].planned == k && plan->begin[t].item != 0) plan->begin[t] = (qr_line_position){k + 1, 0};
}

static void assign_slots(qr_attention_plan *plan)
{
    uint64_t used = 0;
    for (uint32_t t = 1; t < plan->limits.thread_count; t++) {
        const uint32_t k = plan->begin[t].planned;
        if (k >= plan->planned_count || plan->planned[k].cut || !is_cut_inside_a_head(plan, k)) continue;
        qr_planned_sequence *planned = &plan->planned[k];
        if (planned->kind == QR_BY_TILE) continue; /* its items are merged where they are computed */
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

static void number_tasks(qr_attention_plan *plan)
{
    plan->task_count = 0;
    for (uint32_t k = 0; k < plan->planned_count; k++) {
        plan->planned[k].first_task = plan->task_count;
        plan->task_count += plan->planned[k].kind == QR_BY_TILE ? plan->planned[k].items : 1;
    }
}

/* The first task at or behind a position on the line; `end`: of a sequence that is cut there, the one behind it. */
static uint32_t task_at(const qr_attention_plan *plan, qr_line_position at, bool end)
{
    if (at.planned == plan->planned_count) return plan->task_count;
    const qr_planned_sequence *planned = &plan->planned[at.planned];
    return planned->first_task + (planned->kind == QR_BY_TILE ? at.item : end && at.item > 0);
}

void qr_attention_offer_share(const qr_attention_plan *plan, uint32_t thread, uint32_t turn)
{
    const uint64_t first = task_at(plan, plan->begin[thread], false);
    const uint64_t end   = task_at(plan, plan->begin[thread + 1], true);
    atomic_store_explicit(&plan->claims[thread].left[turn], first | end << 32, memory_order_relaxed);
}

void qr_attention_plan_build(qr_attention_plan *plan, const qr_attention_sequence *sequences, uint32_t count)
{
    qr_assert(count <= plan->limits.max_sequences);
    plan->sequences      = sequences;
    plan->planned_count  = 0;
    plan->append_barrier = plan->merge_needed = false;
    plan->bytes = plan->flops = 0;
    if (deal_by_node(plan, count) > spread_percent(plan)) deal_over_nodes(plan);
    plan->begin[plan->limits.thread_count] = (qr_line_position){plan->planned_count, 0};
    assign_slots(plan);
    number_tasks(plan);
    for (uint32_t k = 0; k < plan->planned_count; k++) {
        count_work(plan, &sequences[plan->planned[k].index]);
        plan->append_barrier |=
            plan->planned[k].kind == QR_BY_TILE; /* one thread writes a head's keys, any may read them */
    }
    for (uint32_t t = 0; t < plan->limits.thread_count; t++) {
        plan->scratch[t].busy_ns = plan->scratch[t].runs = 0;
        qr_attention_offer_share(plan, t, 0);
        qr_attention_offer_share(plan, t, 1);
    }
}

bool     qr_attention_needs_append_barrier(const qr_attention_plan *plan) { return plan->append_barrier; }
bool     qr_attention_needs_merge(const qr_attention_plan *plan) { return plan->merge_needed; }
uint64_t qr_attention_bytes(const qr_attention_plan *plan) { return plan->bytes; }
uint64_t qr_attention_flops(const qr_attention_plan *plan) { return plan->flops; }
uint64_t qr_attention_busy_ns(const qr_attention_plan *plan, uint32_t thread) { return plan->scratch[thread].busy_ns; }
