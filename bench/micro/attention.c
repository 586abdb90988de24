/* Paged attention alone: how far it is from the speed of a plain read (few query rows) and of multiplication (many).
 *
 * A kernel reads keys and values, then computes with them; both times add up where the reads of the next tile do not
 * overlap. With R the rate of a plain read of the same memory and C that of the same kernel on keys that fit a core's
 * second-level cache, 1/(1/R + 1/C) is what a kernel reaches that hides nothing. C is measured by the same plan with
 * block tables that name the same few blocks over and over. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/error.h"
#include "base/median.h"
#include "base/memory.h"
#include "base/rng.h"
#include "bench/micro/variants.h"
#include "cache/kv_memory.h"
#include "kernels/attention.h"
#include "model/attention_probe.h"

enum {
    FEW_ROWS        = 8, /* of a sequence: up to so many it is decoding, reading bounds it */
    DISTINCT_BLOCKS = 8, /* that are filled; the others are copies */
    DTYPES          = 3,
    HEADS_MAX       = 16384,
};

/* One combination of the options, in memory or in cache. */
typedef struct combination {
    qr_dtype dtype;
    uint32_t q_heads, rows;
    size_t   run_bytes; /* 0: as long as they come */
    bool     in_cache;
} combination;

typedef struct bench bench;

typedef struct attention_variant {
    bench                 *bench;
    combination            combination;
    qr_attention_plan     *plan;
    qr_attention_sequence *sequences; /* [bench.sequence_count] */
    uint32_t              *blocks;    /* [bench.block_count] tables of all sequences, one after the other */
    qr_attention_args      args;
    double                *imbalance; /* [passes] slowest thread over the mean */
    uint32_t               passes;
} attention_variant;

struct bench {
    qr_typed_bench    common;
    uint32_t          sequence_count, block_count, most_heads, most_rows, most_tokens;
    uint32_t         *lengths;                                                         /* [sequence_count] */
    uint32_t          first_sequence[QR_MAX_NODES + 1], first_block[QR_MAX_NODES + 1]; /* of each node */
    qr_kv_memory      kv[DTYPES];  /* one layer; empty where the dtype is not measured */
    float            *q, *kv_rows; /* query rows; rows to fill blocks with */
    qr_rows           out;
    attention_variant attention[QR_VARIANTS_MAX]; /* what common.variants of the same number are of */
};

/* ---- what is measured ---- */

static qr_kv_shape kv_shape(const bench *b, qr_dtype dtype)
{
    return (qr_kv_shape){dtype, b->common.options.kv_heads, b->common.options.head_dim, b->common.options.block_size};
}

static bool measures(const bench *b, uint32_t dtype)
{
    for (uint32_t i = 0; i < b->common.options.dtypes.count; i++)
        if (b->common.options.dtypes.values[i] == dtype) return true;
    return false;
}

/* As many as it takes to be beyond the caches in every dtype. */
static uint32_t enough_sequences(const bench *b)
{
    size_t least = SIZE_MAX;
    for (qr_dtype dtype = QR_F32; dtype <= QR_INT8; dtype++) {
        const qr_kv_shape shape = kv_shape(b, dtype);
        if (measures(b, dtype)) least = qr_min_u64(least, qr_kv_block_bytes(&shape));
    }
    const uint64_t sequence =
        (uint64_t)least * qr_ceil_div_u32(b->common.options.context, b->common.options.block_size);
    return (uint32_t)(b->common.machine->beyond_bytes / sequence) + 1;
}

static void set_defaults(bench *b)
{
    qr_micro_options *o = &b->common.options;
    if (o->head_dim == 0) o->head_dim = 128;
    if (o->kv_heads == 0) o->kv_heads = 8;
    if (o->block_size == 0) o->block_size = 32;
    if (o->rounds == 0) o->rounds = 15;
    qr_list_default(&o->dtypes, 2, (uint64_t[]){QR_BF16, QR_INT8});
    qr_list_default(&o->rows, 1, (uint64_t[]){1});
    qr_list_default(&o->run_bytes, 1, (uint64_t[]){0});
    qr_list_default(&o->q_heads, 3, (uint64_t[]){o->kv_heads, 4 * o->kv_heads, 8 * o->kv_heads});
    b->most_heads = (uint32_t)qr_list_greatest(&o->q_heads);
    b->most_rows  = (uint32_t)qr_list_greatest(&o->rows);
    if (o->context == 0) o->context = b->most_rows > FEW_ROWS ? b->most_rows : o->longest > 0 ? o->longest : 4096;
    if (o->longest > 0 && o->sequences == 0) o->sequences = 32;
    if (o->sequences == 0) o->sequences = b->most_rows > FEW_ROWS ? 1 : enough_sequences(b);
    b->sequence_count = o->sequences;
}

/* Query rows and their results. */
static quire_status check_row_bytes(const bench *b, quire_error *error)
{
    const uint64_t rows = (uint64_t)b->sequence_count * b->most_rows, heads = b->most_heads;
    const uint64_t bytes = 2 * rows * heads * b->common.options.head_dim * sizeof(float), left = qr_memory_limit(NULL);
    if (bytes <= left / 10 * 9) return QUIRE_OK;
    return qr_fail(error, QUIRE_ERR_INVALID,
                   "--rows %u of --sequences %u with --q-heads %u of --head-dim %u: query rows and results take %llu "
                   "bytes, %llu bytes of memory are left",
                   b->most_rows, b->sequence_count, b->most_heads, b->common.options.head_dim,
                   (unsigned long long)bytes, (unsigned long long)left);
}

static quire_status check(const bench *b, quire_error *error)
{
    const qr_micro_options *o = &b->common.options;
    if (o->longest > 0 && (o->shortest == 0 || o->shortest > o->longest))
        return qr_fail(error, QUIRE_ERR_INVALID, "--lengths %u:%u: not from a smaller to a greater length", o->shortest,
                       o->longest);
    const uint32_t shortest = o->longest > 0 ? o->shortest : o->context;
    if (b->most_rows > shortest)
        return qr_fail(error, QUIRE_ERR_INVALID, "--rows %u: a sequence of %u tokens has no more rows than that",
                       b->most_rows, shortest);
    for (uint32_t i = 0; i < o->q_heads.count; i++)
        if (o->q_heads.values[i] % o->kv_heads != 0 || o->q_heads.values[i] > HEADS_MAX)
            return qr_fail(error, QUIRE_ERR_INVALID, "--q-heads %llu: not a multiple of --kv-heads %u up to %d",
                           (unsigned long long)o->q_heads.values[i], o->kv_heads, HEADS_MAX);
    if ((uint64_t)b->sequence_count * b->most_rows > 65536)
        return qr_fail(error, QUIRE_ERR_INVALID, "--rows %u of --sequences %u: more than 65536 rows", b->most_rows,
                       b->sequence_count);
    return check_row_bytes(b, error);
}

/* Zipf's law with exponent 1 over [shortest, longest]: the logarithm of the length is uniform. */
static uint32_t drawn_length(const qr_micro_options *o, uint32_t index)
{
    if (o->longest == 0) return o->context;
    const double u = qr_random_uniform(7, 0, index);
    return (uint32_t)lrint(o->shortest * pow((double)o->longest / o->shortest, u));
}

/* Keys and values of `blocks` in every dtype. */
static quire_status check_kv_bytes(const bench *b, uint64_t blocks, quire_error *error)
{
    const uint64_t left  = qr_memory_limit(NULL);
    uint64_t       bytes = 0;
    for (qr_dtype dtype = QR_F32; dtype <= QR_INT8; dtype++) {
        const qr_kv_shape shape = kv_shape(b, dtype);
        if (measures(b, dtype)) bytes += blocks * qr_kv_block_bytes(&shape);
    }
    if (bytes <= left / 10 * 9 && blocks <= UINT32_MAX) return QUIRE_OK;
    return qr_fail(error, QUIRE_ERR_INVALID,
                   "--sequences %u of up to %u tokens: keys and values take %llu bytes in %llu blocks, %llu bytes of "
                   "memory are left and a cache has at most %u blocks",
                   b->sequence_count, b->most_tokens, (unsigned long long)bytes, (unsigned long long)blocks,
                   (unsigned long long)left, UINT32_MAX);
}

static quire_status draw_sequences(bench *b, quire_error *error)
{
    const qr_placement *placement = qr_team_placement(b->common.machine->team);
    uint64_t            blocks    = 0;
    b->lengths                    = calloc(b->sequence_count, sizeof *b->lengths);
    if (b->lengths == NULL) return qr_fail(error, QUIRE_ERR_NO_MEMORY, "%u sequences", b->sequence_count);
    for (uint32_t n = 0; n < placement->node_count; n++) {
        b->first_sequence[n] = (uint32_t)((uint64_t)b->sequence_count * n / placement->node_count);
        b->first_block[n]    = (uint32_t)blocks;
        const uint32_t end   = (uint32_t)((uint64_t)b->sequence_count * (n + 1) / placement->node_count);
        for (uint32_t s = b->first_sequence[n]; s < end; s++) {
            b->lengths[s]  = drawn_length(&b->common.options, s);
            b->most_tokens = qr_max_u32(b->most_tokens, b->lengths[s]);
            blocks += qr_ceil_div_u32(b->lengths[s], b->common.options.block_size);
        }
    }
    QR_TRY(check_kv_bytes(b, blocks, error));
    b->block_count                           = (uint32_t)blocks;
    b->first_sequence[placement->node_count] = b->sequence_count;
    b->first_block[placement->node_count]    = b->block_count;
    return QUIRE_OK;
}

/* ---- block tables ---- */

/* Fisher-Yates over the `count` runs of `run` blocks from `first` on. What does not fill a run stays. */
static void shuffle_runs(uint32_t *blocks, uint32_t first, uint32_t last, uint32_t run)
{
    const uint32_t count = (last - first) / run;
    for (uint32_t i = count; i > 1; i--) {
        const uint32_t other = (uint32_t)(qr_random_uniform(8, first, i) * i);
        for (uint32_t j = 0; j < run; j++) {
            uint32_t      *a = &blocks[first + (i - 1) * run + j], *c = &blocks[first + other * run + j];
            const uint32_t kept = *a;
            *a = *c, *c = kept;
        }
    }
}

static quire_status fill_tables(const bench *b, attention_variant *variant, quire_error *error)
{
    const qr_kv_shape shape = kv_shape(b, variant->combination.dtype);
    const size_t      block = qr_kv_block_bytes(&shape);
    const size_t      all   = block * b->block_count;
    if (variant->combination.run_bytes > all)
        return qr_fail(error, QUIRE_ERR_INVALID, "--run-length %zu: all keys and values in %s have %zu bytes",
                       variant->combination.run_bytes, qr_dtype_name(shape.dtype), all);
    const uint32_t run = (uint32_t)(variant->combination.run_bytes / block);
    if (variant->combination.run_bytes > 0 && run == 0)
        return qr_fail(error, QUIRE_ERR_INVALID,
                       "--run-length %zu: a block of %u tokens of %s has %zu bytes; fewer --kv-heads make it smaller",
                       variant->combination.run_bytes, shape.block_size, qr_dtype_name(shape.dtype), block);
    const uint32_t few = (uint32_t)qr_max_u64(1, b->common.machine->l2_bytes / 2 / block);
    for (uint32_t n = 0; n < qr_team_placement(b->common.machine->team)->node_count; n++) {
        const uint32_t first = b->first_block[n], last = b->first_block[n + 1];
        for (uint32_t i = first; i < last; i++)
            variant->blocks[i] = variant->combination.in_cache ? first + (i - first) % few : i;
        if (run > 0 && !variant->combination.in_cache) shuffle_runs(variant->blocks, first, last, run);
    }
    return QUIRE_OK;
}

static void describe_sequences(const bench *b, attention_variant *variant)
{
    uint32_t block = 0, row = 0;
    for (uint32_t n = 0, s = 0; s < b->sequence_count; s++) {
        while (s >= b->first_sequence[n + 1]) n++;
        variant->sequences[s] = (qr_attention_sequence){.row_start = row,
                                                        .row_count = variant->combination.rows,
                                                        .position  = b->lengths[s] - variant->combination.rows,
                                                        .kv_length = b->lengths[s],
                                                        .blocks    = variant->blocks + block,
                                                        .node      = n};
        row += variant->combination.rows;
        block += qr_ceil_div_u32(b->lengths[s], b->common.options.block_size);
    }
}

/* ---- memory ---- */

static quire_status create_kv(bench *b, qr_dtype dtype, quire_error *error)
{
    const qr_placement        *placement = qr_team_placement(b->common.machine->team);
    const qr_kv_shape          shape     = kv_shape(b, dtype);
    const qr_kv_memory_options options   = {.layers      = 1,
                                            .num_blocks  = b->block_count,
                                            .block_bytes = qr_kv_block_bytes(&shape),
                                            .first_block = b->first_block,
                                            .node_os     = placement->node_os,
                                            .node_count  = placement->node_count,
                                            .bind        = b->common.machine->bind};
    return qr_kv_memory_create(&options, &b->kv[dtype], error);
}

static void fill_random(float *to, size_t count, uint64_t stream)
{
    for (size_t i = 0; i < count; i++) to[i] = (float)(2 * qr_random_uniform(9, stream, i) - 1);
}

/* The first blocks by way of the kernels' own append, the others as copies of them. */
static quire_status fill_kv(bench *b, qr_dtype dtype, quire_error *error)
{
    const uint32_t distinct                             = qr_min_u32(DISTINCT_BLOCKS, b->block_count);
    const uint32_t tokens                               = distinct * b->common.options.block_size,
                   dim                                  = b->common.options.kv_heads * b->common.options.head_dim;
    const uint32_t              blocks[DISTINCT_BLOCKS] = {0, 1, 2, 3, 4, 5, 6, 7};
    const qr_attention_sequence sequence                = {.row_count = tokens, .kv_length = tokens, .blocks = blocks};
    const qr_attention_shape    shape                   = {
                             .kind = QR_ATTENTION_CAUSAL, .kv = kv_shape(b, dtype), .heads = b->common.options.kv_heads, .scale = 1};
    const qr_attention_limits limits = {
        .max_rows = tokens, .max_sequences = 1, .max_kv_length = tokens, .thread_count = 1};
    const qr_attention_args args = {
        .plane = qr_kv_memory_plane(&b->kv[dtype], 0), .k = b->kv_rows, .v = b->kv_rows, .kv_stride = dim};
    qr_attention_plan *plan;
    QR_TRY(qr_attention_plan_create(b->common.machine->kernels, &shape, &limits, NULL, &plan, error));
    qr_attention_plan_build(plan, &sequence, 1);
    qr_attention_append(plan, &args, 0);
    qr_attention_plan_destroy(plan);
    for (uint32_t i = distinct; i < b->block_count; i++)
        qr_kv_copy_block(&shape.kv, args.plane, i % distinct, i, b->common.options.block_size);
    return QUIRE_OK;
}

static quire_status create_memory(bench *b, quire_error *error)
{
    const size_t q_row = (size_t)b->most_heads * b->common.options.head_dim,
                 rows  = (size_t)b->sequence_count * b->most_rows;
    const size_t kv    = (size_t)DISTINCT_BLOCKS * b->common.options.block_size * b->common.options.kv_heads *
                      b->common.options.head_dim;
    b->q       = qr_allocate(NULL, rows * q_row * sizeof *b->q, 64);
    b->kv_rows = qr_allocate(NULL, kv * sizeof *b->kv_rows, 64);
    b->out     = (qr_rows){.dtype  = QR_F32,
                           .dim    = (uint32_t)q_row,
                           .stride = qr_round_up_u32((uint32_t)q_row, 64),
                           .data   = qr_allocate(NULL, rows * qr_round_up(q_row, 64) * sizeof(float), 64)};
    if (b->q == NULL || b->kv_rows == NULL || b->out.data == NULL)
        return qr_fail(error, QUIRE_ERR_NO_MEMORY, "%zu query rows of %zu floats", rows, q_row);
    fill_random(b->q, rows * q_row, 0);
    fill_random(b->kv_rows, kv, 1);
    for (qr_dtype dtype = QR_F32; dtype <= QR_INT8; dtype++) {
        if (!measures(b, dtype)) continue;
        QR_TRY(create_kv(b, dtype, error));
        QR_TRY(fill_kv(b, dtype, error));
    }
    return QUIRE_OK;
}

/* ---- variants ---- */

static double imbalance_of(const attention_variant *variant)
{
    const uint32_t threads = variant->bench->common.machine->thread_count;
    double         slowest = 0, sum = 0;
    for (uint32_t t = 0; t < threads; t++) {
        const double busy = (double)qr_attention_busy_ns(variant->plan, t);
        slowest           = busy > slowest ? busy : slowest;
        sum += busy;
    }
    return sum > 0 ? slowest * threads / sum : 0;
}

/* The plan is built for each pass as for each step; the times of the pass before are taken first. */
static void prepare_pass(void *context, uint32_t round)
{
    attention_variant *variant = context;
    if (round > 0) variant->imbalance[variant->passes++] = imbalance_of(variant);
    qr_attention_plan_build(variant->plan, variant->sequences, variant->bench->sequence_count);
}

static void run_pass(void *context, uint32_t thread, uint32_t thread_count)
{
    attention_variant *variant = context;
    (void)thread_count;
    qr_attention_run(variant->plan, &variant->args, thread);
    if (!qr_attention_needs_merge(variant->plan)) return;
    qr_team_barrier(variant->bench->common.machine->team);
    qr_attention_merge(variant->plan, &variant->args, thread);
}

/* As the engine does at start, over the keys and values themselves. */
static void probe(const bench *b, const qr_attention_shape *shape, qr_attention_tuning *tuning)
{
    const qr_kv_memory *kv      = &b->kv[shape->kv.dtype];
    const uint32_t      threads = b->common.machine->thread_count;
    const size_t        share   = kv->block_bytes * b->block_count / threads / 64 * 64;
    qr_mapping         *memory  = calloc(threads, sizeof *memory);
    if (memory == NULL) return;
    for (uint32_t t = 0; t < threads; t++)
        memory[t] = (qr_mapping){.base = qr_kv_memory_plane(kv, 0) + t * share, .bytes = share};
    qr_attention_probe(
        &(qr_attention_probe_options){
            .kernels = b->common.machine->kernels, .shape = shape, .team = b->common.machine->team, .memory = memory},
        tuning);
    free(memory);
}

static quire_status create_plan(const bench *b, attention_variant *variant, quire_error *error)
{
    const combination       *v      = &variant->combination;
    const qr_attention_shape shape  = {.kind  = QR_ATTENTION_CAUSAL,
                                       .kv    = kv_shape(b, v->dtype),
                                       .heads = v->q_heads,
                                       .scale = 1 / sqrtf((float)b->common.options.head_dim)};
    qr_attention_tuning      tuning = {.prefetch = QR_PREFETCH_ALL};
    probe(b, &shape, &tuning);
    const qr_attention_limits limits = {.max_rows      = b->sequence_count * v->rows,
                                        .max_sequences = b->sequence_count,
                                        .max_kv_length = b->most_tokens,
                                        .thread_count  = b->common.machine->thread_count,
                                        .thread_node   = qr_team_placement(b->common.machine->team)->node,
                                        .tuning        = tuning};
    return qr_attention_plan_create(b->common.machine->kernels, &shape, &limits, NULL, &variant->plan, error);
}

static void name_variant(const bench *b, const combination *v, qr_variant *variant)
{
    char run[32] = "";
    if (v->run_bytes > 0) snprintf(run, sizeof run, ", runs of %zu KiB", v->run_bytes >> 10);
    snprintf(variant->name, sizeof variant->name, "%s G = %u, %u row%s%s%s", qr_dtype_name(v->dtype),
             v->q_heads / b->common.options.kv_heads, v->rows, v->rows > 1 ? "s" : "", run,
             v->in_cache ? ", in L2" : "");
    variant->params = json_pack(
        "{s:s, s:i, s:i, s:i, s:i, s:i, s:i, s:I, s:b, s:i}", "kv_dtype", qr_dtype_name(v->dtype), "head_dim",
        (int)b->common.options.head_dim, "q_heads", (int)v->q_heads, "kv_heads", (int)b->common.options.kv_heads,
        "rows", (int)v->rows, "sequences", (int)b->sequence_count, "longest", (int)b->most_tokens, "run_bytes",
        (json_int_t)v->run_bytes, "in_cache", v->in_cache, "block_size", (int)b->common.options.block_size);
}

static quire_status create_variant(bench *b, const combination *v, quire_error *error)
{
    attention_variant *variant = &b->attention[b->common.variant_count];
    qr_variant        *turn    = &b->common.variants[b->common.variant_count++];
    *variant                   = (attention_variant){.bench = b, .combination = *v};
    variant->sequences         = calloc(b->sequence_count, sizeof *variant->sequences);
    variant->blocks            = calloc(b->block_count, sizeof *variant->blocks);
    variant->imbalance         = calloc(b->common.options.rounds + 2, sizeof *variant->imbalance);
    if (variant->sequences == NULL || variant->blocks == NULL || variant->imbalance == NULL)
        return qr_fail(error, QUIRE_ERR_NO_MEMORY, "block tables");
    QR_TRY(fill_tables(b, variant, error));
    describe_sequences(b, variant);
    QR_TRY(create_plan(b, variant, error));
    qr_attention_plan_build(variant->plan, variant->sequences, b->sequence_count);
    variant->args = (qr_attention_args){.plane    = qr_kv_memory_plane(&b->kv[v->dtype], 0),
                                        .q        = b->q,
                                        .q_stride = v->q_heads * b->common.options.head_dim,
                                        .out      = b->out};
    *turn         = (qr_variant){.prepare = prepare_pass,
                                 .run     = run_pass,
                                 .context = variant,
                                 .bytes   = (double)qr_attention_bytes(variant->plan),
                                 .flops   = (double)qr_attention_flops(variant->plan)};
    name_variant(b, v, turn);
    return QUIRE_OK;
}

/* In memory, and where reading bounds it the same in cache right after it. */
static quire_status create_pair(bench *b, combination v, quire_error *error)
{
    if (b->common.variant_count + 2 > QR_VARIANTS_MAX - DTYPES)
        return qr_fail(error, QUIRE_ERR_INVALID, "more than %d combinations of the lists", (QR_VARIANTS_MAX - 5) / 2);
    QR_TRY(create_variant(b, &v, error));
    if (v.rows > FEW_ROWS) return QUIRE_OK;
    v.in_cache = true;
    return create_variant(b, &v, error);
}

static quire_status create_attention_variants(bench *b, quire_error *error)
{
    const qr_micro_options *o = &b->common.options;
    for (uint32_t d = 0; d < o->dtypes.count; d++)
        for (uint32_t r = 0; r < o->rows.count; r++)
            for (uint32_t h = 0; h < o->q_heads.count; h++)
                for (uint32_t c = 0; c < o->run_bytes.count; c++)
                    QR_TRY(create_pair(b,
                                       (combination){.dtype     = (qr_dtype)o->dtypes.values[d],
                                                     .rows      = (uint32_t)o->rows.values[r],
                                                     .q_heads   = (uint32_t)o->q_heads.values[h],
                                                     .run_bytes = o->run_bytes.values[c]},
                                       error));
    return QUIRE_OK;
}

/* ---- results ---- */

static double tokens_per_second(const bench *b, const qr_variant *variant)
{
    double tokens = 0;
    for (uint32_t s = 0; s < b->sequence_count; s++) tokens += b->lengths[s];
    return tokens / variant->seconds;
}

/* The same with bf16 keys and values, or NULL. */
static const qr_variant *bf16_twin(const bench *b, const combination *v)
{
    for (uint32_t i = 0; i < b->common.judged_count; i++) {
        const combination *w = &b->attention[i].combination;
        if (w->dtype == QR_BF16 && w->rows == v->rows && w->q_heads == v->q_heads && w->run_bytes == v->run_bytes &&
            w->in_cache == v->in_cache)
            return &b->common.variants[i];
    }
    return NULL;
}

static void state_limit(bench *b, uint32_t index)
{
    const combination *v       = &b->attention[index].combination;
    qr_variant        *variant = &b->common.variants[index];
    const double       read = variant->read_gbs, peak = qr_typed_bench_note_fractions(&b->common, index, v->dtype);
    if (v->rows > FEW_ROWS || v->in_cache) {
        qr_variant_limit(variant, peak, "P", true);
    } else if (v->q_heads == b->common.options.kv_heads) {
        qr_variant_limit(variant, read, "R", false);
    } else {
        const double cached = b->common.variants[index + 1].gbs;
        qr_variant_limit(variant, 1 / (1 / read + 1 / cached), "1/(1/R + 1/C)", false);
        qr_variant_note(variant, "cached_gbs", cached);
    }
}

static void judge(void *state, uint32_t index)
{
    bench             *b       = state;
    attention_variant *a       = &b->attention[index];
    qr_variant        *variant = &b->common.variants[index];
    const qr_variant  *twin    = bf16_twin(b, &a->combination);
    state_limit(b, index);
    a->imbalance[a->passes++] = imbalance_of(a);
    const double imbalance    = qr_median(a->imbalance, a->passes);
    qr_variant_note(variant, "imbalance", imbalance);
    qr_variant_note(variant, "kv_tokens_per_second", tokens_per_second(b, variant));
    if (twin != NULL && twin != variant) qr_variant_note(variant, "times_bf16", twin->seconds / variant->seconds);
    int length = snprintf(variant->note, sizeof variant->note, "slowest/mean %.3f", imbalance);
    if (twin != NULL && twin != variant)
        snprintf(variant->note + length, sizeof variant->note - (size_t)length, ", %.2f x bf16",
                 twin->seconds / variant->seconds);
}

/* ---- life ---- */

static void destroy(void *state)
{
    bench *b = state;
    for (uint32_t i = 0; i < QR_VARIANTS_MAX; i++) {
        qr_attention_plan_destroy(b->attention[i].plan);
        free(b->attention[i].sequences), free(b->attention[i].blocks), free(b->attention[i].imbalance);
    }
    const size_t rows = (size_t)b->sequence_count * b->most_rows;
    const size_t kv   = (size_t)DISTINCT_BLOCKS * b->common.options.block_size * b->common.options.kv_heads *
                      b->common.options.head_dim;
    qr_deallocate(NULL, b->q, rows * b->out.dim * sizeof *b->q);
    qr_deallocate(NULL, b->kv_rows, kv * sizeof *b->kv_rows);
    qr_deallocate(NULL, b->out.data, rows * b->out.stride * sizeof(float));
    for (int dtype = 0; dtype < DTYPES; dtype++) qr_kv_memory_destroy(&b->kv[dtype]);
    free(b->lengths);
}

static quire_status create(void *state, quire_error *error)
{
    bench *b = state;
    if (b->common.options.longest > 0 && b->common.options.context > 0)
        return qr_fail(error, QUIRE_ERR_INVALID, "--context and --lengths are mutually exclusive");
    if (measures(b, QR_MICRO_INT4))
        return qr_fail(error, QUIRE_ERR_INVALID, "--dtype int4: keys and values are f32, bf16 or int8");
    set_defaults(b);
    QR_TRY(check(b, error));
    QR_TRY(draw_sequences(b, error));
    QR_TRY(create_memory(b, error));
    QR_TRY(create_attention_variants(b, error));
    return QUIRE_OK;
}

static quire_status run(qr_machine *machine, const qr_micro_options *options, FILE *out, quire_error *error)
{
    static const qr_typed_benchmark benchmark = {"attention", sizeof(bench), create, judge, destroy};
    return qr_typed_bench_run(&benchmark, machine, options, out, error);
}

int qr_micro_attention(const qr_micro_options *options, FILE *out) { return qr_micro_on_machine(options, run, out); }
