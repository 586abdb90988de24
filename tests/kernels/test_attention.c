/* Paged attention of every instruction set against dense double precision, and the promise that a row's bits depend on
 * neither batch, threads, chunks nor where its blocks lie. Threads are simulated: their calls are made one after the
 * other, so that a missing barrier shows as NaN. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdlib.h>

#include "base/rng.h"
#include "tests/support/kernel_tables.h"
#include "tests/support/reference_attention.h"

enum { SEQUENCES_MAX = 6, POSITIONS_MAX = 2048, HEADS_MAX = 24, DIM_MAX = 256, GUARD = 32 };

static const qr_kernels *tables[KERNEL_TABLES_MAX];
static uint32_t          table_count;

static int find_tables(void **state)
{
    (void)state;
    table_count = kernel_tables(tables);
    return 0;
}

/* ---- a world: some sequences with all their keys, values and queries, and a cache ---- */

typedef struct world_sequence {
    reference_sequence dense;
    uint32_t          *blocks;
    float             *out;  /* [rows][heads * dim], of the last run */
    double            *want; /* same, or NULL */
} world_sequence;

typedef struct world {
    qr_attention_shape       shape;
    qr_attention_prologue    prologue;
    const qr_attention_bias *bias;
    qr_attention_bias        bias_table;
    float                   *norms, *rope, *bias_values, *common, *sinks;
    world_sequence           sequences[SEQUENCES_MAX];
    uint32_t                 count, block_count;
    char                    *plane;
    bool                     scattered;
} world;

static float unit(uint64_t seed, uint64_t stream, uint64_t i) /* unit variance */
{
    return (float)((qr_random_uniform(seed, stream, i) - 0.5) * 3.4641);
}

static float *random_floats(size_t count, uint64_t seed, uint64_t stream)
{
    float *x = malloc((count + 1) * sizeof *x);
    for (size_t i = 0; i < count; i++) x[i] = unit(seed, stream, i);
    return x;
}

static void make_prologue(world *w, uint64_t seed, bool norms, uint32_t rotary_dim)
{
    const uint32_t dim = w->shape.kv.head_dim, half = rotary_dim / 2;
    w->norms = random_floats(2 * (size_t)dim, seed, 100);
    w->rope  = malloc(sizeof(float) * 2 * POSITIONS_MAX * (half + 1));
    for (uint32_t i = 0; i < 2 * dim; i++) w->norms[i] = 1 + 0.2f * w->norms[i];
    if (norms) w->prologue.q_norm = w->norms, w->prologue.k_norm = w->norms + dim;
    w->prologue.norm_epsilon = 1e-6f;
    if (half == 0) return;
    w->prologue.rotary_dim = rotary_dim;
    w->prologue.rope_cos   = w->rope;
    w->prologue.rope_sin   = w->rope + POSITIONS_MAX * half;
    for (uint32_t d = 0; d < half; d++) {
        const double frequency = pow(10000.0, -2.0 * d / rotary_dim);
        for (uint32_t p = 0; p < POSITIONS_MAX; p++) {
            w->rope[p * half + d]                   = (float)cos(p * frequency);
            w->rope[(POSITIONS_MAX + p) * half + d] = (float)sin(p * frequency);
        }
    }
}

/* What all keys of a kv head have in common: `size` where rope hardly turns within a tile. Before the
 * sequences, whose keys have it. */
static void make_common(world *w, uint64_t seed, float size)
{
    const uint32_t dim = w->shape.kv.head_dim, rotary = w->prologue.rotary_dim, columns = w->shape.kv.kv_heads * dim;
    w->common = random_floats(columns, seed, 300);
    for (uint32_t c = 0; c < columns; c++) {
        const uint32_t d    = c % dim;
        const bool     fast = d < rotary && pow(10000.0, -2.0 * (d % (rotary / 2)) / rotary) * size >= 0.03;
        w->common[c]        = fast ? 0 : w->common[c] * size;
    }
    w->prologue.k_common = w->common;
}

static void make_bias(world *w, uint64_t seed, uint32_t max_distance)
{
    const bool full    = w->shape.kind == QR_ATTENTION_FULL;
    float     *weights = random_floats(32 * (size_t)w->shape.heads, seed, 101);
    qr_t5_bias_shape(full, max_distance, &w->bias_table);
    w->bias_values = malloc(sizeof(float) * w->bias_table.stride * w->shape.heads);
    qr_t5_bias_fill(&w->bias_table, w->bias_values, weights, w->shape.heads, full, 32, max_distance);
    w->bias = &w->bias_table;
    free(weights);
}

/* To what the cache can hold: the rounding of the inputs is not the kernels' error. */
static void round_rows(const qr_attention_shape *shape, const float *rows, uint32_t count)
{
    const uint32_t dim = shape->kv.head_dim;
    float         *x   = (float *)(uintptr_t)rows;
    for (size_t h = 0; h < (size_t)count * shape->kv.kv_heads; h++, x += dim) {
        float top = 0;
        for (uint32_t d = 0; d < dim; d++) top = fmaxf(top, fabsf(x[d]));
        for (uint32_t d = 0; d < dim; d++)
            x[d] = shape->kv.dtype == QR_BF16   ? qr_f32_of_bf16(qr_bf16_of_f32(x[d]))
                   : shape->kv.dtype == QR_INT8 ? rintf(x[d] * (127 / top)) * (top / 127)
                                                : x[d];
    }
}

/* Values are a function of the seed, the sequence's name and the position alone. */
static void add_sequence(world *w, uint64_t seed, uint64_t name, uint32_t keys, uint32_t first, uint32_t rows)
{
    const size_t        q_floats = (size_t)rows * w->shape.heads * w->shape.kv.head_dim;
    const size_t        kv_row   = (size_t)w->shape.kv.kv_heads * w->shape.kv.head_dim;
    world_sequence     *s        = &w->sequences[w->count++];
    reference_sequence *d        = &s->dense;
    d->keys = keys, d->first = first, d->rows = rows;
    d->q = random_floats(q_floats, seed, 3 * name + 1000);
    d->k = random_floats(keys * kv_row, seed, 3 * name + 1001);
    d->v = random_floats(keys * kv_row, seed, 3 * name + 1002);
    round_rows(&w->shape, d->k, keys);
    round_rows(&w->shape, d->v, keys);
    for (size_t i = 0; w->common != NULL && i < keys * kv_row; i++)
        ((float *)(uintptr_t)d->k)[i] += w->common[i % kv_row];
    s->out    = malloc((q_floats + 1) * sizeof *s->out);
    s->want   = NULL;
    s->blocks = malloc(sizeof *s->blocks * (qr_ceil_div_u32(keys, w->shape.kv.block_size) + 1));
}

/* Deals blocks, in order or shuffled, leaving gaps; poisons the whole plane with NaN. */
static void place_blocks(world *w, bool scattered, uint64_t seed)
{
    uint32_t total = 0, next = 0, order[POSITIONS_MAX];
    for (uint32_t s = 0; s < w->count; s++)
        total += qr_ceil_div_u32(w->sequences[s].dense.keys, w->shape.kv.block_size);
    w->block_count = total + total / 2 + 2;
    for (uint32_t i = 0; i < w->block_count; i++) order[i] = i;
    for (uint32_t i = w->block_count - 1; scattered && i > 0; i--) {
        const uint32_t j = qr_random_below(seed, 200, i, i + 1), other = order[j];
        order[j] = order[i], order[i] = other;
    }
    for (uint32_t s = 0; s < w->count; s++)
        for (uint32_t b = 0; b < qr_ceil_div_u32(w->sequences[s].dense.keys, w->shape.kv.block_size); b++)
            w->sequences[s].blocks[b] = order[next++];
    free(w->plane);
    const size_t bytes = w->block_count * qr_kv_block_bytes(&w->shape.kv);
    w->plane           = aligned_alloc(64, qr_round_up(bytes, 64));
    memset(w->plane, 0xff, bytes);
}

static void destroy_world(world *w)
{
    for (uint32_t s = 0; s < w->count; s++) {
        free((void *)(uintptr_t)w->sequences[s].dense.q);
        free((void *)(uintptr_t)w->sequences[s].dense.k);
        free((void *)(uintptr_t)w->sequences[s].dense.v);
        free(w->sequences[s].out);
        free(w->sequences[s].want);
        free(w->sequences[s].blocks);
    }
    free(w->plane);
    free(w->norms);
    free(w->rope);
    free(w->bias_values), free(w->sinks);
    free(w->common);
}

/* ---- a step over parts of the world ---- */

typedef struct part { /* positions [from, from + count) of a sequence; FULL: rows, over all keys */
    uint32_t sequence, from, count;
} part;

typedef struct step_options {
    uint32_t threads;
    uint32_t nodes;      /* 0 = 1 */
    bool     append;     /* write keys and values of the parts */
    bool     run;        /* and compute; q rows exist from `first` on */
    uint32_t prefetch;   /* qr_attention_prefetch */
    bool     backwards;  /* threads in descending order */
    uint32_t reruns;     /* more runs of the same plan; the output of those before is lost */
    bool     first_only; /* of each run the output of the first thread counts */
    qr_dtype out;        /* f32 or bf16 */
} step_options;

typedef struct step_rows {
    float *q, *k, *v;
    char  *out;
    size_t q_stride, kv_stride, out_bytes;
} step_rows;

static void gather_row(const world *w, const world_sequence *s, uint32_t position, step_rows *rows, uint32_t row)
{
    const size_t q_row  = (size_t)w->shape.heads * w->shape.kv.head_dim;
    const size_t kv_row = (size_t)w->shape.kv.kv_heads * w->shape.kv.head_dim;
    if (position >= s->dense.first && position - s->dense.first < s->dense.rows)
        memcpy(rows->q + row * rows->q_stride, s->dense.q + (position - s->dense.first) * q_row, q_row * 4);
    if (position < s->dense.keys) {
        memcpy(rows->k + row * rows->kv_stride, s->dense.k + position * kv_row, kv_row * 4);
        memcpy(rows->v + row * rows->kv_stride, s->dense.v + position * kv_row, kv_row * 4);
    }
}

static void scatter_row(const world *w, world_sequence *s, uint32_t position, const char *out, qr_dtype dtype)
{
    const size_t q_row = (size_t)w->shape.heads * w->shape.kv.head_dim;
    float       *to    = s->out + (position - s->dense.first) * q_row;
    for (size_t i = 0; i < q_row; i++)
        to[i] = dtype == QR_F32 ? ((const float *)out)[i] : qr_f32_of_bf16(((const qr_bf16 *)out)[i]);
}

static void rerun(qr_attention_plan *plan, const qr_attention_args *args, const step_options *o, size_t out_bytes)
{
    char *first = malloc(out_bytes);
    for (uint32_t run = 0; run < o->reruns; run++) {
        memset(args->out.data, 0x5a, out_bytes);
        for (uint32_t i = 0; i < o->threads; i++) {
            qr_attention_run(plan, args, (i + run) % o->threads);
            if (i == 0) memcpy(first, args->out.data, out_bytes);
        }
        if (o->first_only) memcpy(args->out.data, first, out_bytes);
    }
    free(first);
}

/* All threads' calls, with barriers only where the plan asks for one. */
static void call_threads(qr_attention_plan *plan, const qr_attention_args *args, const step_options *o,
                         size_t out_bytes)
{
    const bool barrier = qr_attention_needs_append_barrier(plan);
    for (uint32_t i = 0; o->append && (barrier || !o->run) && i < o->threads; i++)
        qr_attention_append(plan, args, o->backwards ? o->threads - 1 - i : i);
    for (uint32_t i = 0; o->run && i < o->threads; i++) {
        const uint32_t t = o->backwards ? o->threads - 1 - i : i;
        (o->append && !barrier ? qr_attention_append_and_run : qr_attention_run)(plan, args, t);
    }
    rerun(plan, args, o, out_bytes);
    for (uint32_t t = 0; o->run && qr_attention_needs_merge(plan) && t < o->threads; t++)
        qr_attention_merge(plan, args, t);
}

static void step(world *w, const qr_kernels *kernels, const part *parts, uint32_t count, const step_options *o)
{
    const qr_attention_shape *shape = &w->shape;
    const uint32_t            dim   = shape->kv.head_dim;
    qr_attention_sequence     sequences[SEQUENCES_MAX];
    uint32_t                  thread_node[8], rows = 0, longest = 1;
    for (uint32_t i = 0; i < count; i++) {
        const world_sequence *s    = &w->sequences[parts[i].sequence];
        const bool            full = shape->kind == QR_ATTENTION_FULL;
        sequences[i]               = (qr_attention_sequence){.row_start = rows,
                                                             .row_count = parts[i].count,
                                                             .position  = parts[i].from,
                                                             .kv_length = full ? s->dense.keys : parts[i].from + parts[i].count,
                                                             .blocks    = s->blocks,
                                                             .node      = parts[i].sequence % (o->nodes == 0 ? 1 : o->nodes + 1)};
        rows += parts[i].count;
        longest = qr_max_u32(longest, sequences[i].kv_length);
    }
    for (uint32_t t = 0; t < o->threads; t++) thread_node[t] = o->nodes == 0 ? 0 : t * o->nodes / o->threads;
    const qr_attention_limits limits = {.max_rows      = rows,
                                        .max_sequences = count,
                                        .max_kv_length = longest,
                                        .thread_count  = o->threads,
                                        .thread_node   = thread_node,
                                        .tuning = {.prefetch = o->prefetch, .remote_percent = o->nodes > 1 ? 150 : 0}};
    qr_attention_plan        *plan;
    quire_error               error = {0};
    if (qr_attention_plan_create(kernels, shape, &limits, NULL, &plan, &error) != QUIRE_OK)
        fail_msg("%s", error.message);

    step_rows      r = {.q_stride = (size_t)shape->heads * dim + 3, .kv_stride = (size_t)shape->kv.kv_heads * dim + 5};
    const uint32_t out_stride = qr_round_up_u32(shape->heads * dim + 1, 64);
    r.out_bytes               = (size_t)rows * out_stride * qr_dtype_bytes(o->out);
    r.q                       = calloc(rows * r.q_stride, 4);
    r.k                       = calloc(rows * r.kv_stride, 4);
    r.v                       = calloc(rows * r.kv_stride, 4);
    r.out                     = aligned_alloc(64, qr_round_up(r.out_bytes, 64));
    memset(r.out, 0x5a, r.out_bytes);
    for (uint32_t i = 0; i < count; i++)
        for (uint32_t p = 0; p < parts[i].count; p++)
            gather_row(w, &w->sequences[parts[i].sequence], parts[i].from + p, &r, sequences[i].row_start + p);
    const qr_attention_args args = {
        .plane     = w->plane,
        .q         = r.q,
        .k         = r.k,
        .v         = r.v,
        .q_stride  = (uint32_t)r.q_stride,
        .kv_stride = (uint32_t)r.kv_stride,
        .prologue  = w->prologue,
        .bias      = w->bias,
        .sinks     = w->sinks,
        .out       = {.data = r.out, .dtype = o->out, .dim = shape->heads * dim, .stride = out_stride}};
    qr_attention_plan_build(plan, sequences, count);
    call_threads(plan, &args, o, r.out_bytes);
    for (uint32_t i = 0; o->run && i < count; i++)
        for (uint32_t p = 0; p < parts[i].count; p++) {
            const char *row = r.out + (size_t)(sequences[i].row_start + p) * out_stride * qr_dtype_bytes(o->out);
            scatter_row(w, &w->sequences[parts[i].sequence], parts[i].from + p, row, o->out);
            for (size_t b = shape->heads * dim * qr_dtype_bytes(o->out); b < out_stride * qr_dtype_bytes(o->out); b++)
                assert_int_equal(row[b], 0x5a); /* nothing beyond the row's heads */
        }
    free(r.q), free(r.k), free(r.v), free(r.out);
    qr_attention_plan_destroy(plan);
}

/* Fills the cache with what precedes the query rows. FULL: with all keys, as rows of a step of their own. */
static void fill_history(world *w, const qr_kernels *kernels, uint32_t sequence, uint32_t chunk)
{
    const world_sequence *s    = &w->sequences[sequence];
    const bool            full = w->shape.kind == QR_ATTENTION_FULL;
    const uint32_t        end  = full ? s->dense.keys : s->dense.first;
    for (uint32_t from = 0; from < end; from += chunk) {
        const part piece = {.sequence = sequence, .from = from, .count = qr_min_u32(chunk, end - from)};
        step(w, kernels, &piece, 1, &(step_options){.threads = 2, .append = true});
    }
}

static void assert_foreign_blocks_untouched(const world *w)
{
    const size_t bytes = qr_kv_block_bytes(&w->shape.kv);
    for (uint32_t b = 0; b < w->block_count; b++) {
        bool owned = false;
        for (uint32_t s = 0; s < w->count; s++)
            for (uint32_t i = 0; i < qr_ceil_div_u32(w->sequences[s].dense.keys, w->shape.kv.block_size); i++)
                owned |= w->sequences[s].blocks[i] == b;
        for (size_t i = 0; !owned && i < bytes; i += 61) assert_int_equal((uint8_t)w->plane[b * bytes + i], 0xff);
    }
}

/* ---- against double precision ---- */

static uint32_t below(uint64_t seed, uint64_t stream, uint32_t limit)
{
    return qr_random_below(seed, stream, 0, limit);
}

/* A random world of bounded cost: long sequences have few and small heads. */
static void random_world(world *w, uint64_t seed, qr_dtype dtype)
{
    static const uint32_t dims[] = {64, 128, 16, 80, 32, 96, 8, 100, 256, 24, 120, 4}, small[] = {16, 8, 36, 24};
    const bool            is_long = below(seed, 1, 4) == 0;
    *w                            = (world){.shape = {.kind = below(seed, 2, 3) == 0, .kv = {.dtype = dtype}}};
    qr_attention_shape *shape     = &w->shape;
    shape->kv.head_dim            = is_long ? small[below(seed, 3, 4)] : dims[below(seed, 3, 12)];
    shape->kv.kv_heads            = 1 + below(seed, 4, is_long ? 2 : 6);
    shape->heads                  = shape->kv.kv_heads * (1 + below(seed, 5, is_long ? 3 : 24 / shape->kv.kv_heads));
    shape->kv.block_size          = 32 * (1 + below(seed, 6, 3));
    shape->scale                  = 1 / sqrtf((float)shape->kv.head_dim);
    if (shape->kind == QR_ATTENTION_CAUSAL && below(seed, 7, 3) == 0)
        shape->window = below(seed, 8, 2) ? 1 + below(seed, 9, 70) : 250 + below(seed, 9, 300);
    if (below(seed, 10, 4) == 0) shape->softcap = 5.0f + (float)below(seed, 11, 30);
    const uint32_t rotary = below(seed, 12, 2) ? shape->kv.head_dim : 2 * below(seed, 13, shape->kv.head_dim / 2 + 1);
    const bool     rope   = shape->kind == QR_ATTENTION_CAUSAL && below(seed, 14, 2);
    const bool     norms  = below(seed, 15, 4) == 0;
    make_prologue(w, seed, norms, rope ? rotary : 0);
    if (dtype == QR_INT8 && !norms && below(seed, 80, 2)) make_common(w, seed, 100);
    if (below(seed, 81, 4) == 0) w->sinks = random_floats(shape->heads, seed, 301);
    if (below(seed, 16, 3) == 0) make_bias(w, seed, 40 + below(seed, 17, 100));
    const uint32_t count = 1 + below(seed, 18, is_long ? 2 : 4);
    for (uint32_t i = 0; i < count; i++) {
        const uint32_t most = below(seed, 19 + i, 3) == 0 ? 24 : 4, rows = 1 + below(seed, 30 + i, is_long ? 3 : most);
        const uint32_t past = below(seed, 40 + i, is_long ? 1200 : 100);
        if (shape->kind == QR_ATTENTION_CAUSAL)
            add_sequence(w, seed, i, past + rows, past, rows);
        else
            add_sequence(w, seed, i, past + 1, 0, rows);
    }
    place_blocks(w, below(seed, 50, 2), seed);
}

static void compute_reference(world *w)
{
    for (uint32_t i = 0; i < w->count; i++) {
        world_sequence *s = &w->sequences[i];
        s->want           = malloc(sizeof *s->want * s->dense.rows * w->shape.heads * w->shape.kv.head_dim);
        reference_attention(&w->shape, &w->prologue, w->bias, w->sinks, &s->dense, s->want);
    }
}

static void assert_close(const world *w, const qr_kernels *kernels, uint64_t seed, double bound)
{
    for (uint32_t i = 0; i < w->count; i++) {
        const world_sequence *s     = &w->sequences[i];
        const size_t          count = (size_t)s->dense.rows * w->shape.heads * w->shape.kv.head_dim;
        for (size_t e = 0; e < count; e++)
            if (!(fabs((double)s->out[e] - s->want[e]) <= bound))
                fail_msg("%s, case %u, head_dim %u, sequence %u, row %zu: %g instead of %g", kernels->isa,
                         (unsigned)seed, w->shape.kv.head_dim, i, e / (w->shape.heads * w->shape.kv.head_dim),
                         (double)s->out[e], s->want[e]);
    }
}

static void check_random_worlds(qr_dtype dtype, uint32_t cases, double bound)
{
    for (uint64_t seed = 0; seed < cases; seed++) {
        world w;
        random_world(&w, seed, dtype);
        compute_reference(&w);
        for (uint32_t k = 0; k < table_count; k++) {
            part         parts[SEQUENCES_MAX];
            step_options o = {.threads   = 1 + below(seed + k, 60, 3),
                              .nodes     = below(seed + k, 61, 3),
                              .append    = w.shape.kind == QR_ATTENTION_CAUSAL,
                              .run       = true,
                              .prefetch  = below(seed + k, 62, 3),
                              .backwards = below(seed + k, 63, 2)};
            memset(w.plane, 0xff, w.block_count * qr_kv_block_bytes(&w.shape.kv));
            for (uint32_t i = 0; i < w.count; i++) {
                fill_history(&w, tables[k], i, 1 + below(seed, 70 + i, 300));
                parts[i] =
                    (part){.sequence = i, .from = w.sequences[i].dense.first, .count = w.sequences[i].dense.rows};
            }
            step(&w, tables[k], parts, w.count, &o);
            assert_close(&w, tables[k], seed, bound);
            assert_foreign_blocks_untouched(&w);
        }
        destroy_world(&w);
    }
}

static void f32_keys_agree_with_double_precision(void **state)
{
    (void)state;
    check_random_worlds(QR_F32, 40, 2e-6);
}

static void bf16_keys_agree_with_double_precision(void **state)
{
    (void)state;
    check_random_worlds(QR_BF16, 40, 8e-3);
}

static void int8_keys_agree_with_double_precision(void **state)
{
    (void)state;
    check_random_worlds(QR_INT8, 40, 2e-2);
}

/* ---- bits ---- */

typedef struct bit_case {
    qr_attention_kind kind;
    qr_dtype          dtype;
    uint32_t          dim, kv_heads, group, window;
    float             softcap;
    bool              bias, rope, common, sinks;
} bit_case;

static const bit_case bit_cases[] = {
    {.kind = QR_ATTENTION_CAUSAL, .dtype = QR_F32, .dim = 16, .kv_heads = 2, .group = 3, .rope = true},
    {.kind = QR_ATTENTION_CAUSAL, .dtype = QR_BF16, .dim = 24, .kv_heads = 3, .group = 4, .rope = true},
    {.kind = QR_ATTENTION_CAUSAL, .dtype = QR_BF16, .dim = 32, .kv_heads = 1, .group = 1, .window = 70},
    {.kind = QR_ATTENTION_CAUSAL, .dtype = QR_F32, .dim = 8, .kv_heads = 2, .group = 5, .window = 300, .sinks = true},
    {.kind = QR_ATTENTION_CAUSAL, .dtype = QR_BF16, .dim = 80, .kv_heads = 1, .group = 2, .bias = true, .softcap = 9},
    {.kind = QR_ATTENTION_FULL, .dtype = QR_F32, .dim = 16, .kv_heads = 2, .group = 1, .bias = true},
    {.kind = QR_ATTENTION_FULL, .dtype = QR_BF16, .dim = 64, .kv_heads = 1, .group = 1},
    {.kind = QR_ATTENTION_CAUSAL, .dtype = QR_INT8, .dim = 24, .kv_heads = 2, .group = 4, .rope = true},
    {.kind = QR_ATTENTION_FULL, .dtype = QR_INT8, .dim = 64, .kv_heads = 1, .group = 1, .bias = true},
    {.kind = QR_ATTENTION_CAUSAL, .dtype = QR_BF16, .dim = 64, .kv_heads = 5, .group = 1, .bias = true},
    {.kind = QR_ATTENTION_CAUSAL, .dtype = QR_F32, .dim = 16, .kv_heads = 4, .group = 1, .window = 70, .rope = true},
    {.kind = QR_ATTENTION_CAUSAL, .dtype = QR_INT8, .dim = 80, .kv_heads = 9, .group = 1, .softcap = 9},
    {.kind = QR_ATTENTION_CAUSAL, .dtype = QR_BF16, .dim = 128, .kv_heads = 1, .group = 24, .rope = true},
    {.kind = QR_ATTENTION_CAUSAL, .dtype = QR_INT8, .dim = 100, .kv_heads = 2, .group = 1, .rope = true},
    {.kind = QR_ATTENTION_CAUSAL, .dtype = QR_INT8, .dim = 64, .kv_heads = 5, .group = 1, .rope = true, .common = true},
    {.kind = QR_ATTENTION_CAUSAL, .dtype = QR_INT8, .dim = 32, .kv_heads = 2, .group = 7, .window = 70, .common = true},
};
enum { BIT_CASES = sizeof bit_cases / sizeof *bit_cases };

static void bit_world(world *w, const bit_case *c)
{
    *w = (world){.shape = {.kind   = c->kind,
                           .kv     = {.dtype = c->dtype, .kv_heads = c->kv_heads, .head_dim = c->dim, .block_size = 32},
                           .heads  = c->kv_heads * c->group,
                           .window = c->window,
                           .scale  = 0.3f,
                           .softcap = c->softcap}};
    make_prologue(w, 9, c->rope && !c->common, c->rope ? c->dim : 0);
    if (c->common) make_common(w, 9, 100);
    if (c->bias) make_bias(w, 9, 64);
    if (c->sinks) w->sinks = random_floats(w->shape.heads, 9, 301);
}

/* Rows [first, keys) of sequence `name`, 0 to 3; all of them are the same in every world of a case. */
static void add_bit_sequence(world *w, uint32_t name)
{
    static const uint32_t keys[] = {530, 266, 41, 258}, rows[] = {1, 18, 41, 4};
    const bool            full = w->shape.kind == QR_ATTENTION_FULL;
    add_sequence(w, 9, name, keys[name], full ? 0 : keys[name] - rows[name], rows[name]);
}

/* The expected bits: alone, one thread, blocks in order, the history in one piece. */
static float *bits_alone(const bit_case *c, const qr_kernels *kernels, uint32_t name, size_t *bytes_out)
{
    world w;
    bit_world(&w, c);
    add_bit_sequence(&w, name);
    place_blocks(&w, false, 0);
    const reference_sequence *d = &w.sequences[0].dense;
    fill_history(&w, kernels, 0, 2048);
    const bool append = c->kind == QR_ATTENTION_CAUSAL;
    step(&w, kernels, &(part){.from = d->first, .count = d->rows}, 1,
         &(step_options){.threads = 1, .append = append, .run = true});
    *bytes_out  = sizeof(float) * d->rows * w.shape.heads * w.shape.kv.head_dim;
    float *bits = malloc(*bytes_out);
    memcpy(bits, w.sequences[0].out, *bytes_out);
    destroy_world(&w);
    return bits;
}

static void assert_bits(const world *w, uint32_t sequence, const float *want, size_t bytes, const qr_kernels *kernels,
                        uint32_t case_number, const char *how)
{
    const float *got = w->sequences[sequence].out;
    if (memcmp(got, want, bytes) == 0) return;
    for (size_t i = 0; i < bytes / 4; i++)
        if (qr_bits_of_f32(got[i]) != qr_bits_of_f32(want[i]))
            fail_msg("%s, case %u, %s: sequence %u, row %zu: %.9g instead of %.9g", kernels->isa, case_number, how,
                     sequence, i / (w->shape.heads * w->shape.kv.head_dim), (double)got[i], (double)want[i]);
}

typedef struct how {
    const char  *text;
    step_options options;
    bool         scattered;
    uint32_t     history_chunk;
} how;

static const how ways[] = {
    {"in a batch", {.threads = 1}, false, 2048},
    {"scattered, history in chunks of 17", {.threads = 1, .prefetch = QR_PREFETCH_ALL}, true, 17},
    {"2 threads", {.threads = 2}, false, 100},
    {"3 threads, 2 nodes, backwards", {.threads = 3, .nodes = 2, .backwards = true}, true, 256},
    {"8 threads", {.threads = 8, .prefetch = QR_PREFETCH_JUMPS}, false, 33},
};

/* All four sequences in one step, then each alone again with the step's options (few items: cut by heads). */
static void check_way(const bit_case *c, uint32_t case_number, const qr_kernels *kernels, const how *way,
                      float *const want[4], const size_t bytes[4])
{
    for (uint32_t alone = 0; alone < (way->options.threads > 1 ? 2 : 1); alone++) {
        world w;
        part  parts[4];
        bit_world(&w, c);
        for (uint32_t i = 0; i < 4; i++) add_bit_sequence(&w, i);
        place_blocks(&w, way->scattered, 77);
        step_options o = way->options;
        o.run = true, o.append = c->kind == QR_ATTENTION_CAUSAL;
        for (uint32_t i = 0; i < 4; i++) {
            const reference_sequence *d = &w.sequences[i].dense;
            parts[i]                    = (part){.sequence = i, .from = d->first, .count = d->rows};
            fill_history(&w, kernels, i, way->history_chunk);
            if (alone) step(&w, kernels, &parts[i], 1, &o);
        }
        if (!alone) step(&w, kernels, parts, 4, &o);
        for (uint32_t i = 0; i < 4; i++) assert_bits(&w, i, want[i], bytes[i], kernels, case_number, way->text);
        destroy_world(&w);
    }
}

static void bits_depend_on_neither_batch_nor_threads_nor_placement(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < BIT_CASES; i++)
        for (uint32_t k = 0; k < table_count; k++) {
            float *want[4];
            size_t bytes[4];
            for (uint32_t s = 0; s < 4; s++) want[s] = bits_alone(&bit_cases[i], tables[k], s, &bytes[s]);
            for (uint32_t y = 0; y < sizeof ways / sizeof *ways; y++)
                check_way(&bit_cases[i], i, tables[k], &ways[y], want, bytes);
            for (uint32_t s = 0; s < 4; s++) free(want[s]);
        }
}

/* Threads are called one after the other here: the first of a run finds everything not begun. */
static void a_thread_takes_what_others_have_not_begun_in_every_run_of_a_plan(void **state)
{
    (void)state;
    const how way = {"by the first thread", {.threads = 3, .reruns = 4, .first_only = true}, false, 100};
    for (uint32_t i = 0; i < BIT_CASES; i++)
        for (uint32_t k = 0; k < table_count; k++) {
            float *want[4];
            size_t bytes[4];
            for (uint32_t s = 0; s < 4; s++) want[s] = bits_alone(&bit_cases[i], tables[k], s, &bytes[s]);
            check_way(&bit_cases[i], i, tables[k], &way, want, bytes);
            for (uint32_t s = 0; s < 4; s++) free(want[s]);
        }
}

/* The query rows of sequence 1 in chunks of several sizes instead of all at once. */
static void bits_do_not_depend_on_chunks(void **state)
{
    (void)state;
    static const uint32_t chunks[] = {1, 3, 7, 16};
    for (uint32_t i = 0; i < BIT_CASES; i++) {
        if (bit_cases[i].kind != QR_ATTENTION_CAUSAL) continue;
        for (uint32_t k = 0; k < table_count; k++) {
            size_t bytes;
            float *want = bits_alone(&bit_cases[i], tables[k], 1, &bytes);
            for (uint32_t n = 0; n < 4; n++) {
                world w;
                bit_world(&w, &bit_cases[i]);
                add_bit_sequence(&w, 1);
                place_blocks(&w, true, n);
                fill_history(&w, tables[k], 0, 64);
                const reference_sequence *d = &w.sequences[0].dense;
                for (uint32_t row = 0; row < d->rows; row += chunks[n])
                    step(&w, tables[k], &(part){.from = d->first + row, .count = qr_min_u32(chunks[n], d->rows - row)},
                         1, &(step_options){.threads = 1 + n % 3, .append = true, .run = true});
                assert_bits(&w, 0, want, bytes, tables[k], i, "in chunks");
                destroy_world(&w);
            }
            free(want);
        }
    }
}

/* ---- the rest of the contract ---- */

enum { HIDING_KEYS = 140, HIDING_FIRST = 30, HIDING_SEEN = 35 };

/* Rows of a chunk whose keys and values are those from position HIDING_SEEN on. */
static void check_hidden_keys(const bit_case *c, uint32_t case_number, const qr_kernels *kernels, float key,
                              float value)
{
    world        w[2];
    const size_t kv_row = (size_t)c->kv_heads * c->dim, q_row = kv_row * c->group;
    for (uint32_t n = 0; n < 2; n++) {
        bit_world(&w[n], c);
        add_sequence(&w[n], 9, 0, HIDING_KEYS, HIDING_FIRST, HIDING_KEYS - HIDING_FIRST);
        place_blocks(&w[n], false, 0);
        fill_history(&w[n], kernels, 0, HIDING_KEYS);
    }
    float *k = (float *)(uintptr_t)w[1].sequences[0].dense.k, *v = (float *)(uintptr_t)w[1].sequences[0].dense.v;
    for (size_t e = HIDING_SEEN * kv_row; e < HIDING_KEYS * kv_row; e++) {
        if (key != 0) k[e] = key;
        v[e] = value;
    }
    const part         seen = {.from = HIDING_FIRST, .count = HIDING_SEEN - HIDING_FIRST};
    const part         all  = {.from = HIDING_FIRST, .count = HIDING_KEYS - HIDING_FIRST};
    const step_options o    = {.threads = 1, .append = true, .run = true};
    step(&w[0], kernels, &seen, 1, &o);
    step(&w[1], kernels, &all, 1, &o);
    const float *out = w[1].sequences[0].out, *behind = out + (HIDING_SEEN - HIDING_FIRST) * q_row;
    assert_bits(&w[1], 0, w[0].sequences[0].out, (HIDING_SEEN - HIDING_FIRST) * q_row * sizeof(float), kernels,
                case_number, "before huge keys");
    for (size_t e = 0; e < q_row && !isfinite(value); e++) assert_true(!isfinite(behind[e]));
    /* A draft that was not accepted, or a block's copy, leaves keys behind that no row may see yet. */
    step(&w[1], kernels, &seen, 1, &o);
    assert_bits(&w[1], 0, w[0].sequences[0].out, (HIDING_SEEN - HIDING_FIRST) * q_row * sizeof(float), kernels,
                case_number, "before keys left behind");
    destroy_world(&w[0]);
    destroy_world(&w[1]);
}

/* exp(-inf) is 1.2e-38 here, and times 3e38 it would show: only an exact zero hides a key; and 0 * inf is NaN. A key of
 * 0: as it was. */
static void a_key_that_a_row_does_not_see_has_no_effect_whatever_it_is(void **state)
{
    (void)state;
    static const float hidden[][2] = {{1e18f, 3e38f}, {INFINITY, INFINITY}, {NAN, NAN},
                                      {0, INFINITY},  {0, -INFINITY},       {0, NAN}};
    for (uint32_t i = 0; i < BIT_CASES; i++)
        for (uint32_t k = 0; k < table_count && bit_cases[i].kind == QR_ATTENTION_CAUSAL; k++)
            for (uint32_t n = 0; n < sizeof hidden / sizeof *hidden; n++)
                check_hidden_keys(&bit_cases[i], i, tables[k], hidden[n][0], hidden[n][1]);
}

static void bf16_output_is_the_rounded_f32_output(void **state)
{
    (void)state;
    for (uint32_t k = 0; k < table_count; k++) {
        world w;
        float rounded[HEADS_MAX * DIM_MAX];
        bit_world(&w, &bit_cases[1]);
        add_bit_sequence(&w, 0);
        place_blocks(&w, false, 0);
        fill_history(&w, tables[k], 0, 600);
        const part   row   = {.from = w.sequences[0].dense.first, .count = 1};
        const size_t count = (size_t)w.shape.heads * w.shape.kv.head_dim;
        step(&w, tables[k], &row, 1, &(step_options){.threads = 2, .append = true, .run = true});
        for (size_t i = 0; i < count; i++) rounded[i] = qr_f32_of_bf16(qr_bf16_of_f32(w.sequences[0].out[i]));
        step(&w, tables[k], &row, 1, &(step_options){.threads = 2, .append = true, .run = true, .out = QR_BF16});
        assert_memory_equal(rounded, w.sequences[0].out, count * sizeof(float));
        destroy_world(&w);
    }
}

/* Two sequences whose first blocks are the same ones: a shared prefix, and a copied block after it. */
static void shared_and_copied_blocks_serve_every_reader(void **state)
{
    (void)state;
    for (uint32_t k = 0; k < table_count; k++) {
        world  w;
        size_t bytes;
        float *want = bits_alone(&bit_cases[0], tables[k], 0, &bytes);
        bit_world(&w, &bit_cases[0]);
        add_bit_sequence(&w, 0);
        add_bit_sequence(&w, 0);
        place_blocks(&w, true, 5);
        fill_history(&w, tables[k], 0, 128);
        const uint32_t last = w.sequences[0].dense.first / 32, filled = w.sequences[0].dense.first % 32;
        memcpy(w.sequences[1].blocks, w.sequences[0].blocks, last * sizeof(uint32_t));
        qr_kv_copy_block(&w.shape.kv, w.plane, w.sequences[0].blocks[last], w.sequences[1].blocks[last], filled);
        const part parts[] = {{.sequence = 0, .from = w.sequences[0].dense.first, .count = 1},
                              {.sequence = 1, .from = w.sequences[0].dense.first, .count = 1}};
        step(&w, tables[k], parts, 2, &(step_options){.threads = 2, .append = true, .run = true});
        assert_bits(&w, 0, want, bytes, tables[k], 0, "shared prefix");
        assert_bits(&w, 1, want, bytes, tables[k], 0, "copied block");
        free(want);
        destroy_world(&w);
    }
}

/* Distinct visible keys and values, and visible pairs, by hand. */
static void the_plan_counts_bytes_and_flops(void **state)
{
    (void)state;
    const qr_attention_shape    shape  = {.kv     = {.dtype = QR_BF16, .kv_heads = 2, .head_dim = 64, .block_size = 32},
                                          .heads  = 8,
                                          .window = 100,
                                          .scale  = 1};
    const qr_attention_limits   limits = {.max_rows = 8, .max_sequences = 3, .max_kv_length = 999, .thread_count = 2};
    const qr_attention_sequence sequences[] = {{.row_count = 3, .position = 49, .kv_length = 52},
                                               {.row_count = 0},
                                               {.row_count = 1, .position = 499, .kv_length = 500}};
    qr_attention_plan          *plan;
    assert_int_equal(qr_attention_plan_create(tables[0], &shape, &limits, NULL, &plan, NULL), QUIRE_OK);
    qr_attention_plan_build(plan, sequences, 3);
    assert_int_equal(qr_attention_bytes(plan), (52 + 100) * 2 * 2 * 64 * 2);
    assert_int_equal(qr_attention_flops(plan), 4 * 64 * 8 * (50 + 51 + 52 + 100));
    qr_attention_plan_build(plan, sequences, 0);
    assert_int_equal(qr_attention_bytes(plan), 0);
    assert_false(qr_attention_needs_merge(plan));
    qr_attention_plan_destroy(plan);
}

/* Twelve sequences of one block at home on the second of two nodes with a thread each; one thread is called, so that
 * it finds what the other has not begun. Returns the shares that it took over, and the bytes it read from afar. */
static uint64_t help_alone(uint32_t remote_percent, uint32_t thread, uint32_t block, uint64_t *bytes_out)
{
    enum { SEQUENCES = 12 };
    const qr_attention_shape shape = {
        .kv = {.dtype = QR_F32, .kv_heads = 1, .head_dim = 16, .block_size = 32}, .heads = 1, .scale = 1};
    const uint32_t            thread_node[2] = {0, 1}, first_block[3] = {0, 4, 8};
    const qr_attention_limits limits = {.max_rows      = SEQUENCES,
                                        .max_sequences = SEQUENCES,
                                        .max_kv_length = 32,
                                        .thread_count  = 2,
                                        .thread_node   = thread_node,
                                        .tuning        = {.remote_percent = remote_percent}};
    qr_attention_sequence     sequences[SEQUENCES];
    for (uint32_t i = 0; i < SEQUENCES; i++)
        sequences[i] = (qr_attention_sequence){
            .row_start = i, .row_count = 1, .position = 31, .kv_length = 32, .blocks = &block, .node = 1};
    qr_attention_plan *plan;
    uint64_t           helped;
    const size_t       rows = SEQUENCES * 64 * sizeof(float);
    float             *q = calloc(1, rows), *out = aligned_alloc(64, rows);
    char              *plane = calloc(8, qr_kv_block_bytes(&shape.kv));
    assert_int_equal(qr_attention_plan_create(tables[0], &shape, &limits, NULL, &plan, NULL), QUIRE_OK);
    qr_attention_plan_set_blocks(plan, first_block);
    const qr_attention_args args = {
        .plane = plane, .q = q, .q_stride = 64, .out = {.data = out, .dtype = QR_F32, .dim = 16, .stride = 64}};
    qr_attention_plan_build(plan, sequences, SEQUENCES);
    qr_attention_run(plan, &args, thread);
    qr_attention_remote(plan, bytes_out, &helped);
    qr_attention_plan_destroy(plan);
    free(q), free(out), free(plane);
    return helped;
}

/* All is at home on node 1, ten times the mean: a thread of node 0 is dealt no share where reading from afar takes ten
 * times as long, but takes tasks as long as the owner has at least ten left. */
static void a_thread_of_another_node_helps_as_long_as_that_is_faster_than_waiting(void **state)
{
    (void)state;
    uint64_t       bytes;
    const uint64_t split = (uint64_t)32 * 2 * 16 * sizeof(float);
    assert_int_equal(help_alone(1000, 0, 4, &bytes), 3); /* with 12, 11 and 10 left */
    assert_int_equal(bytes, 3 * split);
    assert_int_equal(help_alone(400, 0, 4, &bytes), 9);
    assert_int_equal(bytes, 9 * split);
    assert_int_equal(help_alone(1300, 0, 4, &bytes), 0);
    assert_int_equal(bytes, 0);
    assert_int_equal(help_alone(1000, 1, 4, &bytes), 0); /* the owner: all of it, from its own node */
    assert_int_equal(bytes, 0);
    assert_int_equal(help_alone(1000, 1, 3, &bytes), 0); /* blocks that spilled to the other */
    assert_int_equal(bytes, 12 * split);
}

/* Many equal sequences: nobody has twice the work of another; one long sequence is shared by all. */
static void work_is_cut_where_it_pays(void **state)
{
    (void)state;
    const qr_attention_shape shape = {
        .kv = {.dtype = QR_F32, .kv_heads = 2, .head_dim = 64, .block_size = 32}, .heads = 8, .scale = 1};
    const qr_attention_limits limits = {.max_rows = 600, .max_sequences = 4, .max_kv_length = 4096, .thread_count = 4};
    qr_attention_plan        *plan;
    qr_attention_sequence     s[4] = {{.row_count = 1, .position = 4000, .kv_length = 4001}};
    assert_int_equal(qr_attention_plan_create(tables[0], &shape, &limits, NULL, &plan, NULL), QUIRE_OK);
    qr_attention_plan_build(plan, s, 1);
    assert_true(qr_attention_needs_merge(plan));
    for (uint32_t i = 0; i < 4; i++) s[i] = (qr_attention_sequence){.row_count = 1, .position = 255, .kv_length = 256};
    qr_attention_plan_build(plan, s, 4);
    assert_false(qr_attention_needs_merge(plan));
    s[0] = (qr_attention_sequence){.row_count = 600, .position = 0, .kv_length = 600};
    qr_attention_plan_build(plan, s, 1);
    assert_true(qr_attention_needs_append_barrier(plan)); /* 2 heads, 4 threads */
    assert_false(qr_attention_needs_merge(plan));
    qr_attention_plan_destroy(plan);
}

/* Two sequences of one length, of 1 and of 8 rows, `group` query heads for each kv head: with two threads each gets one
 * where both cost the same, and the second is cut where it costs more. */
static bool cuts_a_sequence(uint32_t group, qr_attention_tuning tuning)
{
    const qr_attention_shape shape = {
        .kv = {.dtype = QR_BF16, .kv_heads = 2, .head_dim = 64, .block_size = 32}, .heads = 2 * group, .scale = 1};
    const qr_attention_limits limits = {
        .max_rows = 9, .max_sequences = 2, .max_kv_length = 4096, .thread_count = 2, .tuning = tuning};
    const qr_attention_sequence s[2] = {{.row_count = 1, .position = 4095, .kv_length = 4096},
                                        {.row_start = 1, .row_count = 8, .position = 4088, .kv_length = 4096}};
    qr_attention_plan          *plan;
    assert_int_equal(qr_attention_plan_create(tables[0], &shape, &limits, NULL, &plan, NULL), QUIRE_OK);
    qr_attention_plan_build(plan, s, 2);
    const bool cut = qr_attention_needs_merge(plan);
    qr_attention_plan_destroy(plan);
    return cut;
}

static void rows_that_share_a_block_cost_once(void **state)
{
    (void)state;
    const qr_attention_tuning by_head  = {.byte_fs = 1, .pair_fs = 1000000};
    const qr_attention_tuning by_block = {.byte_fs = 1, .pair_fs = 1, .block_fs = 1000000};
    assert_true(cuts_a_sequence(4, by_head));
    assert_false(cuts_a_sequence(4, by_block)); /* 4 and 32 query rows: a block each */
    assert_true(cuts_a_sequence(8, by_block));  /* 8 and 64 */
}

static void assert_unsupported(qr_attention_shape shape, const char *message)
{
    const qr_attention_limits limits = {.max_rows = 1, .max_sequences = 1, .max_kv_length = 32, .thread_count = 1};
    qr_attention_plan        *plan   = NULL;
    quire_error               error  = {0};
    assert_int_equal(qr_attention_plan_create(tables[0], &shape, &limits, NULL, &plan, &error), QUIRE_ERR_UNSUPPORTED);
    assert_string_equal(error.message, message);
    assert_null(plan);
}

static void shapes_without_a_kernel_are_refused_by_name(void **state)
{
    (void)state;
    const qr_attention_shape good = {.kv = {.kv_heads = 2, .head_dim = 64, .block_size = 32}, .heads = 4};
    qr_attention_shape       bad  = good;
    bad.kv.head_dim               = 264;
    assert_unsupported(bad, "attention: head_dim 264 is not a multiple of 4 from 4 to 256");
    bad = good, bad.kv.head_dim = 22;
    assert_unsupported(bad, "attention: head_dim 22 is not a multiple of 4 from 4 to 256");
    bad = good, bad.heads = 3;
    assert_unsupported(bad, "attention: 3 heads are not a multiple of 2 kv heads");
    bad = good, bad.kv.block_size = 16;
    assert_unsupported(bad, "attention: block_size 16 is not a multiple of 32");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(f32_keys_agree_with_double_precision),
        cmocka_unit_test(bf16_keys_agree_with_double_precision),
        cmocka_unit_test(int8_keys_agree_with_double_precision),
        cmocka_unit_test(bits_depend_on_neither_batch_nor_threads_nor_placement),
        cmocka_unit_test(a_thread_takes_what_others_have_not_begun_in_every_run_of_a_plan),
        cmocka_unit_test(bits_do_not_depend_on_chunks),
        cmocka_unit_test(a_key_that_a_row_does_not_see_has_no_effect_whatever_it_is),
        cmocka_unit_test(bf16_output_is_the_rounded_f32_output),
        cmocka_unit_test(shared_and_copied_blocks_serve_every_reader),
        cmocka_unit_test(the_plan_counts_bytes_and_flops),
        cmocka_unit_test(a_thread_of_another_node_helps_as_long_as_that_is_faster_than_waiting),
        cmocka_unit_test(work_is_cut_where_it_pays),
        cmocka_unit_test(rows_that_share_a_block_cost_once),
        cmocka_unit_test(shapes_without_a_kernel_are_refused_by_name),
    };
    return cmocka_run_group_tests(tests, find_tables, NULL);
}
