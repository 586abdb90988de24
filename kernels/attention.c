/* Paged attention: the loops around the tile primitives, over what the plan gives each thread. Integers and pointers
 * only; the arithmetic is in attention_template.h. */
#include "base/assert.h"
#include "base/clock.h"
#include "kernels/attention_parts.h"

/* ---- a thread's share ---- */

/* Items [from, to) of planned sequence k that belong to the thread; false when it has none of k. */
static bool share_of(const qr_attention_plan *plan, uint32_t thread, uint32_t k, uint32_t *from, uint32_t *to)
{
    const qr_line_position begin = plan->begin[thread], end = plan->begin[thread + 1];
    *from = k == begin.planned ? begin.item : 0;
    *to   = k == end.planned ? end.item : plan->planned[k].items;
    return *from < *to;
}

/* Takes the first or the last task that is left of the owner's share. Who works hands nothing over by it: results meet
 * at the barrier. */
static bool claim(const qr_attention_plan *plan, uint32_t owner, uint32_t turn, bool first, uint32_t *task_out)
{
    _Atomic uint64_t *left = &plan->claims[owner].left[turn];
    uint64_t          seen = atomic_load_explicit(left, memory_order_relaxed), after;
    do {
        const uint32_t begin = (uint32_t)seen, end = (uint32_t)(seen >> 32);
        if (begin >= end) return false;
        *task_out = first ? begin : end - 1;
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
                                 const float *norm, uint32_t rope_row, float scale)
{
    const size_t at = (size_t)rope_row * (prologue->rotary_dim / 2);
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

/* What keys have in common of which the tiles hold nothing, or NULL. */
static const float *common_of(const qr_attention_plan *plan, const qr_attention_args *args)
{
    return plan->shape.kv.dtype == QR_INT8 ? args->prologue.k_common : NULL;
}

/* That of a kv head, as rope turns it at the first token of the tile that `position` lies in. */
static void turn_common(const qr_attention_plan *plan, const qr_attention_args *args,
                        const qr_attention_scratch *scratch, const qr_attention_sequence *sequence, uint32_t position,
                        uint32_t kv_head)
{
    const uint32_t          first = position - position % QR_TILE_TOKENS;
    const qr_attention_head head  = head_of(plan, &args->prologue, NULL, sequence->rope_row + first, 1.0f);
    plan->kernels->prepare(&head, args->prologue.k_common + (size_t)kv_head * head.dim, scratch->turned);
}

/* ---- append ---- */

static void append_row(const qr_attention_plan *plan, const qr_attention_args *args,
                       const qr_attention_scratch *scratch, const portion *p, uint32_t row)
{
    const uint32_t    position = p->sequence->position + row, slot = position % QR_TILE_TOKENS;
    const size_t      at = (size_t)(p->sequence->row_start + row) * args->kv_stride;
    qr_attention_head k_head =
        head_of(plan, &args->prologue, args->prologue.k_norm, p->sequence->rope_row + position, 1.0f);
    const qr_attention_head v_head = {.dim = k_head.dim, .padded_dim = k_head.padded_dim, .scale = 1.0f};
    if (common_of(plan, args) != NULL) k_head.minus = scratch->turned;
    for (uint32_t h = p->head; h < p->head + p->heads; h++) {
        if (k_head.minus != NULL) turn_common(plan, args, scratch, p->sequence, position, h);
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
static void append_portion(const qr_attention_plan *plan, const qr_attention_args *args,
                           const qr_attention_scratch *scratch, const portion *p)
{
    const uint32_t position = p->sequence->position, rows = p->sequence->row_count;
    const uint32_t from = qr_max_u32(position, p->split * QR_SPLIT_TOKENS);
    const uint32_t to   = qr_min_u32(position + rows, p->split_end * QR_SPLIT_TOKENS);
    if (from < to) fetch_tiles(plan, args, p, from);
    for (uint32_t at = from; at < to; at++) append_row(plan, args, scratch, p, at - position);
}

/* The items [from, to) of a sequence as portions: heads outermost, each with its splits, or its rows (QR_BY_TILE). */
typedef void portion_visitor(const qr_attention_plan *plan, const qr_attention_args *args, uint32_t thread,
                             const qr_planned_sequence *planned, const portion *p);

static void visit_by_head(const qr_attention_plan *plan, const qr_attention_args *args, uint32_t thread,
                          const qr_planned_sequence *planned, uint32_t from, uint32_t to, portion_visitor *visit)
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
    if (k >= qr_last_planned(plan, thread) || !share_of(plan, thread, k, &from, &to)) return NULL;
    const qr_planned_sequence   *planned  = &plan->planned[k];
    const qr_attention_sequence *sequence = &plan->sequences[planned->index];
    const uint32_t               first =
        qr_max_u32((planned->first_split + from) * QR_SPLIT_TOKENS, qr_visible_begin(plan, sequence, 0));
    if (planned->kind != QR_BY_SPLIT || first >= sequence->kv_length) return NULL;
    return tile_at(plan, args, sequence, first / QR_TILE_TOKENS, 0);
}

static void visit_by_split(const qr_attention_plan *plan, const qr_attention_args *args, uint32_t thread,
                           const qr_planned_sequence *planned, uint32_t from, uint32_t to, const char *after,
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
                         const qr_planned_sequence *planned, const portion *p)
{
    (void)planned;
    append_portion(plan, args, &plan->scratch[thread], p);
}

/* Many rows: the thread with a head's first item writes all its rows. */
static void append_heads(const qr_attention_plan *plan, const qr_attention_args *args, uint32_t thread,
                         const qr_planned_sequence *planned, uint32_t from, uint32_t to)
{
    const qr_attention_sequence *sequence = &plan->sequences[planned->index];
    const uint32_t               tiles    = qr_tiles_of_rows(planned, sequence);
    portion                      p        = {.sequence = sequence, .split_end = UINT32_MAX / QR_SPLIT_TOKENS};
    p.head                                = qr_ceil_div_u32(from, tiles);
    p.heads                               = qr_ceil_div_u32(to, tiles) - p.head;
    if (p.heads > 0) append_portion(plan, args, &plan->scratch[thread], &p);
}

/* What of the owner's share lies in planned sequence k, by whichever thread. */
static void append_share(const qr_attention_plan *plan, const qr_attention_args *args, uint32_t owner, uint32_t k,
                         uint32_t thread)
{
    const qr_planned_sequence *planned = &plan->planned[k];
    uint32_t                   from, to;
    if (!share_of(plan, owner, k, &from, &to)) return;
    if (planned->kind == QR_BY_TILE)
        append_heads(plan, args, thread, planned, from, to);
    else if (planned->kind == QR_BY_HEAD)
        visit_by_head(plan, args, thread, planned, from, to, append_visit);
    else
        visit_by_split(plan, args, thread, planned, from, to, NULL, append_visit);
}

void qr_attention_append(const qr_attention_plan *plan, const qr_attention_args *args, uint32_t thread)
{
    for (uint32_t k = plan->begin[thread].planned; k < qr_last_planned(plan, thread); k++)
        append_share(plan, args, thread, k, thread);
}

/* ---- run ---- */

/* A portion's query rows are numbered (kv head, row, head of the group), the head of the group innermost. */
static uint32_t query_rows_of(const qr_attention_plan *plan, const portion *p)
{
    return p->heads * p->rows * plan->group;
}

/* Rows are a stride apart, which no hardware prefetcher follows. */
static void fetch_floats(const float *from, uint32_t count)
{
    for (uint32_t i = 0; i < count; i += 16) __builtin_prefetch(from + i);
}

static void pack_queries(const qr_attention_plan *plan, const qr_attention_args *args,
                         const qr_attention_scratch *scratch, const portion *p)
{
    const uint32_t group = plan->group, dim = plan->shape.kv.head_dim;
    const bool     wide = common_of(plan, args) != NULL;
    float         *to = scratch->q, *prepared = wide ? scratch->wide : scratch->k;
    for (uint32_t h = p->head; h < p->head + p->heads; h++)
        for (uint32_t r = p->row; r < p->row + p->rows; r++) {
            const float            *row = args->q + (size_t)(p->sequence->row_start + r) * args->q_stride;
            const qr_attention_head head =
                head_of(plan, &args->prologue, args->prologue.q_norm, p->sequence->rope_row + p->sequence->position + r,
                        plan->shape.scale * QR_LOG2_E);
            if (r + 1 < p->row + p->rows) fetch_floats(row + args->q_stride + (size_t)h * group * dim, group * dim);
            for (uint32_t g = 0; g < group; g++, to += plan->padded_dim) {
                plan->kernels->prepare(&head, row + (size_t)(h * group + g) * dim, prepared);
                plan->kernels->by_dtype[plan->shape.kv.dtype].pack_q(prepared, plan->padded_dim, to);
                if (wide) prepared += plan->padded_dim;
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

/* Behind all keys, whoever met them: takes the weight of the head's sink into the state. `spare`: another state. */
static void take_sink(const qr_attention_plan *plan, float sink, float *state, float *spare)
{
    float *tail = spare + plan->padded_dim;
    clear_states(plan, spare, 1);
    tail[0]                                            = sink * QR_LOG2_E;
    tail[QR_ATTENTION_STATE_TAIL - QR_ATTENTION_LANES] = 1;
    merge_state(plan, state, spare);
}

static void finish_state(const qr_attention_plan *plan, const qr_attention_args *args, uint32_t row, uint32_t head,
                         float *state, float *spare)
{
    const qr_rows *out     = &args->out;
    const uint32_t dim     = plan->shape.kv.head_dim;
    const size_t   element = (size_t)row * out->stride + (size_t)head * dim;
    if (args->sinks != NULL) take_sink(plan, args->sinks[head], state, spare);
    plan->kernels->finish(state, dim, plan->padded_dim, out->dtype,
                          (char *)out->data + element * qr_dtype_bytes(out->dtype));
}

static void finish_portion(const qr_attention_plan *plan, const qr_attention_args *args,
                           const qr_attention_scratch *scratch, const portion *p)
{
    float *states = scratch->running;
    for (uint32_t h = p->head; h < p->head + p->heads; h++)
        for (uint32_t r = p->row; r < p->row + p->rows; r++)
            for (uint32_t g = 0; g < plan->group; g++, states += plan->state_floats)
                finish_state(plan, args, p->sequence->row_start + r, h * plan->group + g, states, scratch->split);
}

/* Products of the tile's query rows, which are those from `offset` on, with what the keys from `key` on have in
 * common. */
static void meet_common(const qr_attention_plan *plan, const qr_attention_args *args,
                        const qr_attention_scratch *scratch, const portion *p, const qr_attention_tile *t,
                        size_t offset, uint32_t key, float *products)
{
    for (uint32_t h = 0; h < t->heads; h++) {
        const size_t at = offset + (size_t)h * t->head_rows;
        turn_common(plan, args, scratch, p->sequence, key, p->head + h);
        plan->kernels->dot(scratch->wide + at * plan->padded_dim, scratch->turned, plan->padded_dim, t->rows * t->group,
                           products + at);
    }
}

/* The portion's rows from `first` on, and its kv heads, as kernels want them. */
static qr_attention_tile tile_of(const qr_attention_plan *plan, const qr_attention_args *args,
                                 const qr_attention_scratch *scratch, const portion *p, uint32_t first, uint32_t last,
                                 float *states)
{
    const uint32_t           group  = plan->group;
    const size_t             offset = (size_t)(first - p->row) * group;
    const qr_attention_bias *bias   = args->bias;
    qr_attention_tile        t      = {.tile_bytes   = qr_kv_tile_bytes(&plan->shape.kv),
                                       .prefetch     = plan->limits.tuning.prefetch == QR_PREFETCH_ALL,
                                       .padded_dim   = plan->padded_dim,
                                       .heads        = p->heads,
                                       .rows         = last - first,
                                       .group        = group,
                                       .head_rows    = p->rows * group,
                                       .q            = (const char *)(scratch->q + offset * plan->padded_dim),
                                       .state        = states + offset * plan->state_floats,
                                       .visible_end  = qr_visible_end(plan, p->sequence, first),
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
    return t;
}

/* Tile `tile` for the portion's kv heads; rows that do not see it are left out. */
static void attend_tile(const qr_attention_plan *plan, const qr_attention_args *args,
                        const qr_attention_scratch *scratch, const portion *p, uint32_t tile, const char *next,
                        float *states)
{
    const uint32_t key   = tile * QR_TILE_TOKENS;
    uint32_t       first = p->row, last = p->row + p->rows;
    while (first < last && qr_visible_end(plan, p->sequence, first) <= key) first++;
    while (first < last && qr_visible_begin(plan, p->sequence, last - 1) >= key + QR_TILE_TOKENS) last--;
    if (first == last) return;
    qr_attention_tile t = tile_of(plan, args, scratch, p, first, last, states);
    t.tile              = tile_at(plan, args, p->sequence, tile, p->head);
    t.next              = next;
    t.first_key         = key;
    if (common_of(plan, args) != NULL) {
        const size_t offset = (size_t)(first - p->row) * plan->group;
        t.common            = scratch->common + offset;
        meet_common(plan, args, scratch, p, &t, offset, key, scratch->common);
    }
    plan->kernels->by_dtype[plan->shape.kv.dtype].attend(&t);
}

/* The tiles of which some row of the portion sees a key. */
static uint32_t first_tile(const qr_attention_plan *plan, const portion *p)
{
    return qr_visible_begin(plan, p->sequence, p->row) / QR_TILE_TOKENS;
}

static uint32_t end_tile(const qr_attention_plan *plan, const portion *p)
{
    return qr_ceil_div_u32(qr_visible_end(plan, p->sequence, p->row + p->rows - 1), QR_TILE_TOKENS);
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
static void attend_by_tile(const qr_attention_plan *plan, const qr_attention_args *args,
                           const qr_attention_scratch *scratch, const portion *p, uint32_t first, uint32_t end,
                           uint32_t last_tile, float *states)
{
    clear_states(plan, states, query_rows_of(plan, p));
    for (uint32_t tile = first; tile < end; tile++) {
        const char *next = tile_ahead(plan, args, p, tile, last_tile);
        attend_tile(plan, args, scratch, p, tile, next, states);
    }
}

/* The same at once. */
static void attend_whole(const qr_attention_plan *plan, const qr_attention_args *args,
                         const qr_attention_scratch *scratch, const portion *p, uint32_t first, uint32_t end,
                         uint32_t last_tile, float *states)
{
    qr_attention_split s = {.rest       = tile_of(plan, args, scratch, p, p->row, p->row + p->rows, states),
                            .tile_count = end > first ? end - first : 0};
    s.rest.first_key     = first * QR_TILE_TOKENS;
    for (uint32_t i = 0; i < s.tile_count; i++) s.tiles[i] = tile_at(plan, args, p->sequence, first + i, p->head);
    if (s.tile_count > 0) s.rest.next = tile_ahead(plan, args, p, end - 1, last_tile);
    if (common_of(plan, args) != NULL) {
        s.rest.common   = scratch->common;
        s.common_stride = plan->query_row_capacity;
        for (uint32_t i = 0; i < s.tile_count; i++)
            meet_common(plan, args, scratch, p, &s.rest, 0, (first + i) * QR_TILE_TOKENS,
                        scratch->common + i * s.common_stride);
    }
    plan->kernels->by_dtype[plan->shape.kv.dtype].attend_split(&s);
}

static void attend_split(const qr_attention_plan *plan, const qr_attention_args *args,
                         const qr_attention_scratch *scratch, const portion *p, uint32_t split, uint32_t last_tile,
                         float *states)
{
    const uint32_t first = qr_max_u32(first_tile(plan, p), split * QR_SPLIT_TILES);
    const uint32_t end   = qr_min_u32(end_tile(plan, p), (split + 1) * QR_SPLIT_TILES);
    const bool     whole = plan->kernels->by_dtype[plan->shape.kv.dtype].attend_split != NULL;
    (whole ? attend_whole : attend_by_tile)(plan, args, scratch, p, first, end, last_tile, states);
}

/* Walks the portion's splits in ascending order. `slots` NULL: merges as it goes and finishes the rows; else leaves
 * each split's states there, split outermost, and `slot_head` is the kv head the portion starts at. */
static void run_portion(const qr_attention_plan *plan, const qr_attention_args *args,
                        const qr_attention_scratch *scratch, const portion *p, float *slots, size_t slot_stride)
{
    const uint32_t count     = query_rows_of(plan, p);
    const uint32_t last_tile = qr_min_u32(end_tile(plan, p), p->split_end * QR_SPLIT_TILES);
    pack_queries(plan, args, scratch, p);
    for (uint32_t split = p->split; split < p->split_end; split++) {
        const bool first  = split == p->split;
        float     *states = slots != NULL ? slots + (split - p->split) * slot_stride
                            : first       ? scratch->running
                                          : scratch->split;
        attend_split(plan, args, scratch, p, split, last_tile, states);
        if (slots == NULL && !first)
            for (size_t row = 0; row < count; row++)
                merge_state(plan, scratch->running + row * plan->state_floats, states + row * plan->state_floats);
    }
    if (slots == NULL) finish_portion(plan, args, scratch, p);
}

/* Bytes of the portion's keys and values that are on other nodes than the thread. */
static void count_remote(const qr_attention_plan *plan, uint32_t thread, const portion *p)
{
    qr_attention_scratch *scratch   = &plan->scratch[thread];
    const uint32_t        per_block = plan->shape.kv.block_size / QR_TILE_TOKENS;
    const uint32_t        end       = qr_min_u32(end_tile(plan, p), p->split_end * QR_SPLIT_TILES);
    uint64_t              tiles     = 0;
    for (uint32_t tile = qr_max_u32(first_tile(plan, p), p->split * QR_SPLIT_TILES); tile < end; tile++)
        tiles += p->sequence->blocks[tile / per_block] - scratch->first_block >= scratch->block_count;
    scratch->remote_bytes += tiles * p->heads * qr_kv_tile_bytes(&plan->shape.kv);
}

/* Slots of a cut sequence: [split][kv head][row][head of the group] states. */
static float *slot_of(const qr_attention_plan *plan, const qr_planned_sequence *planned, uint32_t split, uint32_t row)
{
    const size_t rows  = (size_t)plan->sequences[planned->index].row_count * plan->shape.heads;
    const size_t first = (size_t)planned->slot * plan->shape.heads + (split - planned->first_split) * rows;
    return plan->slots + (first + row) * plan->state_floats;
}

static void run_visit(const qr_attention_plan *plan, const qr_attention_args *args, uint32_t thread,
                      const qr_planned_sequence *planned, const portion *p)
{
    const size_t rows  = (size_t)p->rows * plan->shape.heads;
    float       *slots = planned->cut ? slot_of(plan, planned, p->split, p->head * p->rows * plan->group) : NULL;
    run_portion(plan, args, &plan->scratch[thread], p, slots, rows * plan->state_floats);
    if (plan->node_count > 1) count_remote(plan, thread, p);
}

static void run_tile(const qr_attention_plan *plan, const qr_attention_args *args, uint32_t thread,
                     const qr_planned_sequence *planned, uint32_t item)
{
    const qr_attention_sequence *sequence = &plan->sequences[planned->index];
    const uint32_t               tiles    = qr_tiles_of_rows(planned, sequence);
    portion                      p        = {.sequence = sequence, .head = item / tiles, .heads = 1};
    p.row                                 = item % tiles * planned->tile_rows;
    p.rows                                = qr_min_u32(planned->tile_rows, sequence->row_count - p.row);
    p.split                               = qr_visible_begin(plan, sequence, p.row) / QR_SPLIT_TOKENS;
    p.split_end = qr_ceil_div_u32(qr_visible_end(plan, sequence, p.row + p.rows - 1), QR_SPLIT_TOKENS);
    run_portion(plan, args, &plan->scratch[thread], &p, NULL, 0);
    if (plan->node_count > 1) count_remote(plan, thread, &p);
}

/* The planned sequence of a task. */
static uint32_t planned_of(const qr_attention_plan *plan, uint32_t task)
{
    uint32_t k = 0, end = plan->planned_count;
    while (end - k > 1) {
        const uint32_t middle = k + (end - k) / 2;
        if (plan->planned[middle].first_task <= task)
            k = middle;
        else
            end = middle;
    }
    return k;
}

static void run_task(const qr_attention_plan *plan, const qr_attention_args *args, uint32_t owner, uint32_t task,
                     uint32_t thread, bool append)
{
    const uint32_t             k       = planned_of(plan, task);
    const qr_planned_sequence *planned = &plan->planned[k];
    uint32_t                   from, to;
    if (!share_of(plan, owner, k, &from, &to)) return;
    if (append) append_share(plan, args, owner, k, thread);
    if (planned->kind == QR_BY_TILE)
        run_tile(plan, args, thread, planned, task - planned->first_task);
    else if (planned->kind == QR_BY_HEAD)
        visit_by_head(plan, args, thread, planned, from, to, run_visit);
    else
        visit_by_split(plan, args, thread, planned, from, to,
                       owner == thread ? first_read(plan, args, thread, k + 1) : NULL, run_visit);
}

/* Whether a thread of another node should take what is left of the shares of threads [first, end), all of one node: it
 * needs remote_percent of the time that they need for a task, and they need the time of one for each that is left to
 * each of them. */
static bool helping_pays(const qr_attention_plan *plan, uint32_t first, uint32_t end, uint32_t turn)
{
    const uint32_t percent = plan->limits.tuning.remote_percent;
    uint64_t       left    = 0;
    for (uint32_t t = first; t < end && percent > 0; t++) {
        const uint64_t seen  = atomic_load_explicit(&plan->claims[t].left[turn], memory_order_relaxed);
        const uint32_t begin = (uint32_t)seen, behind = (uint32_t)(seen >> 32);
        left += begin < behind ? behind - begin : 0;
    }
    return percent > 0 && left * 100 >= (uint64_t)(end - first) * percent;
}

static void help_node(qr_attention_plan *plan, const qr_attention_args *args, uint32_t thread, bool append,
                      uint32_t first, uint32_t end, uint32_t turn)
{
    for (uint32_t owner = first, task; owner < end; owner++)
        while (helping_pays(plan, first, end, turn) && claim(plan, owner, turn, false, &task)) {
            run_task(plan, args, owner, task, thread, append);
            plan->scratch[thread].helped++;
        }
}

static void help_other_nodes(qr_attention_plan *plan, const qr_attention_args *args, uint32_t thread, bool append,
                             uint32_t turn)
{
    const uint32_t threads = plan->limits.thread_count;
    for (uint32_t first = 0, end; first < threads; first = end) {
        for (end = first + 1; end < threads && plan->thread_node[end] == plan->thread_node[first];) end++;
        if (plan->thread_node[first] != plan->thread_node[thread])
            help_node(plan, args, thread, append, first, end, turn);
    }
}

/* The thread's own share, then what the others of its node have not begun: a core that others use, or whose memory is
 * slower, would keep all waiting. Then other nodes. Bits do not depend on who works. Nobody can still want what is
 * offered here for the next run: that of the last run lies behind a barrier. */
static void run_shares(qr_attention_plan *plan, const qr_attention_args *args, uint32_t thread, bool append)
{
    const uint64_t start = qr_now_ns();
    const uint32_t turn = plan->scratch[thread].runs++ % 2, threads = plan->limits.thread_count;
    qr_attention_offer_share(plan, thread, 1 - turn);
    for (uint32_t i = 0, task; i < threads; i++) {
        const uint32_t owner = (thread + i) % threads;
        if (plan->thread_node[owner] != plan->thread_node[thread]) continue;
        while (claim(plan, owner, turn, owner == thread, &task)) run_task(plan, args, owner, task, thread, append);
    }
    if (plan->thread_node[threads - 1] > 0) help_other_nodes(plan, args, thread, append, turn);
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

static void merge_row(const qr_attention_plan *plan, const qr_attention_args *args, const qr_attention_scratch *scratch,
                      const qr_planned_sequence *planned, uint32_t query_row)
{
    const qr_attention_sequence *sequence = &plan->sequences[planned->index];
    const uint32_t               group = plan->group, row = query_row / group % sequence->row_count;
    const uint32_t               head = query_row / (group * sequence->row_count) * group + query_row % group;
    clear_states(plan, scratch->running, 1);
    for (uint32_t s = 0; s < planned->split_count; s++)
        merge_state(plan, scratch->running, slot_of(plan, planned, planned->first_split + s, query_row));
    finish_state(plan, args, sequence->row_start + row, head, scratch->running, scratch->split);
}

void qr_attention_merge(qr_attention_plan *plan, const qr_attention_args *args, uint32_t thread)
{
    const uint64_t start = qr_now_ns();
    for (uint32_t k = 0; plan->merge_needed && k < plan->planned_count; k++) {
        const qr_planned_sequence *planned = &plan->planned[k];
        if (!planned->cut) continue;
        const uint64_t rows    = (uint64_t)plan->sequences[planned->index].row_count * plan->shape.heads;
        const uint64_t threads = plan->limits.thread_count;
        for (uint64_t u = rows * thread / threads; u < rows * (thread + 1) / threads; u++)
            merge_row(plan, args, &plan->scratch[thread], planned, (uint32_t)u);
    }
    plan->scratch[thread].busy_ns += qr_now_ns() - start;
}
