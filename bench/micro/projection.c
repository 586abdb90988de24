/* Rows times packed weights: how far from the speed of a plain read (few rows) and of multiplication (many), for the
 * path that an engine chooses and for oneDNN alone. Each matrix exists so often that all copies together are beyond the
 * caches; a pass of few rows goes through all of them, with a barrier after each as between the stages of a step. */
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/error.h"
#include "base/memory.h"
#include "base/rng.h"
#include "bench/micro/variants.h"
#include "kernels/projection.h"

enum {
    COPIES_MAX     = 64,
    PATHS          = 2,
    DTYPES         = QR_MICRO_INT4 + 1,
    LEAST_PRODUCTS = 8,  /* of a pass: the rows are then where a step finds them, in cache but for the first */
    FEW_ROWS       = 16, /* up to here a pass goes through all copies, beyond through proportionally fewer */
    TABLE          = 1 << 20,
};

typedef struct bench bench;

/* The copies of one matrix, packed for one path. */
typedef struct matrix_set {
    bench                 *bench;
    uint32_t               dtype; /* or QR_MICRO_INT4 */
    quire_small_m          path;
    qr_projection_context *context;
    qr_projection         *projections[COPIES_MAX];
    uint32_t               copies, next;
    qr_mapping             memory[QR_MAX_THREADS]; /* each thread's shards, one after the other */
    quire_status           statuses[QR_MAX_THREADS];
    quire_error            errors[QR_MAX_THREADS];
} matrix_set;

/* One number of rows. */
typedef struct projection_variant {
    matrix_set *set;
    uint32_t    rows, products; /* of one pass */
} projection_variant;

struct bench {
    qr_typed_bench     common;
    uint32_t           most_rows;
    float             *weights; /* [TABLE + k] random numbers */
    qr_rows            x[DTYPES], y;
    qr_mapping         x_memory[DTYPES], y_memory;  /* in huge pages, as an engine's rows are */
    matrix_set         sets[DTYPES * PATHS];        /* [DTYPES][PATHS] */
    projection_variant projection[QR_VARIANTS_MAX]; /* what common.variants of the same number are of */
};

/* ---- weights ---- */

static quire_status read_columns(void *context, uint32_t first, uint32_t count, float *out, quire_error *error)
{
    const bench   *b = context;
    const uint32_t k = b->common.options.k;
    (void)error;
    for (uint32_t c = 0; c < count; c++)
        memcpy(out + (size_t)c * k, b->weights + qr_mix64(first + c) % TABLE, k * sizeof *out);
    return QUIRE_OK;
}

static quire_status pack_copies(matrix_set *set, uint32_t thread, quire_error *error)
{
    const qr_weight_source source = {
        .read = read_columns, .context = set->bench, .columns = set->bench->common.options.columns};
    char *at = set->memory[thread].base;
    for (uint32_t i = 0; i < set->copies; i++) {
        const size_t bytes = qr_projection_shard_bytes(set->projections[i], thread);
        if (bytes > 0) QR_TRY(qr_projection_pack(set->projections[i], thread, at, &source, 1, error));
        at += bytes;
    }
    return QUIRE_OK;
}

static void pack_on_thread(void *context, uint32_t thread, uint32_t thread_count)
{
    matrix_set *set = context;
    (void)thread_count;
    set->statuses[thread] = pack_copies(set, thread, &set->errors[thread]);
}

static quire_status map_shards(matrix_set *set, quire_error *error)
{
    const qr_machine   *machine   = set->bench->common.machine;
    const qr_placement *placement = qr_team_placement(machine->team);
    for (uint32_t t = 0; t < machine->thread_count; t++) {
        const size_t bytes = set->copies * qr_projection_shard_bytes(set->projections[0], t);
        if (bytes == 0) continue;
        QR_TRY(qr_mapping_create(bytes, &machine->bind, "packed weights", &set->memory[t], error));
        QR_TRY(qr_mapping_bind(&set->memory[t], 0, bytes, placement->node_os[placement->node[t]], placement->node_count,
                               &machine->bind, error));
    }
    return QUIRE_OK;
}

static quire_status pack(matrix_set *set, quire_error *error)
{
    const qr_machine *machine = set->bench->common.machine;
    QR_TRY(map_shards(set, error));
    qr_team_run(machine->team, pack_on_thread, set);
    for (uint32_t t = 0; t < machine->thread_count; t++)
        if (set->statuses[t] != QUIRE_OK) {
            *error = set->errors[t];
            return set->statuses[t];
        }
    for (uint32_t i = 0; i < set->copies; i++) QR_TRY(qr_projection_finish(set->projections[i], error));
    return QUIRE_OK;
}

static quire_status create_copies(matrix_set *set, quire_error *error)
{
    const bench        *b     = set->bench;
    qr_projection_shape shape = {.k       = b->common.options.k,
                                 .columns = b->common.options.columns,
                                 .dtype   = qr_multiplied_dtype(set->dtype),
                                 .name    = "micro"};
    if (set->dtype == QR_MICRO_INT4) shape.codes = (qr_code_format){.bits = 4, .group = b->common.options.group_size};
    for (set->copies = 0; set->copies < COPIES_MAX; set->copies++) {
        const uint64_t bytes = set->copies > 0 ? qr_projection_bytes(set->projections[0]) : 0;
        if (set->copies > 0 && set->copies * bytes >= b->common.machine->beyond_bytes) break;
        QR_TRY(qr_projection_create(set->context, &shape, &set->projections[set->copies], error));
    }
    return QUIRE_OK;
}

static quire_status create_set(bench *b, uint32_t dtype, quire_small_m path, matrix_set *set, quire_error *error)
{
    set->bench                                  = b;
    set->dtype                                  = dtype;
    set->path                                   = path;
    const qr_projection_context_options options = {.kernels         = b->common.machine->kernels,
                                                   .isa_cap         = b->common.options.isa,
                                                   .thread_count    = b->common.machine->thread_count,
                                                   .max_rows        = b->most_rows,
                                                   .small_m         = path,
                                                   .batch_invariant = true};
    QR_TRY(qr_projection_context_create(&options, &set->context, error));
    QR_TRY(create_copies(set, error));
    return pack(set, error);
}

static void destroy_set(matrix_set *set)
{
    for (uint32_t i = 0; i < set->copies; i++) qr_projection_destroy(set->projections[i]);
    qr_projection_context_destroy(set->context);
    for (uint32_t t = 0; t < QR_MAX_THREADS; t++)
        if (set->memory[t].base != NULL) qr_mapping_destroy(&set->memory[t]);
}

/* Where oneDNN has no product for a dtype, the path of its own is the engine's again. */
static bool is_onednn(const matrix_set *set)
{
    return set->context != NULL && strncmp(qr_projection_implementation(set->context), "own", 3) != 0;
}

/* ---- rows ---- */

static quire_status create_rows(const bench *b, uint32_t dtype, uint32_t dim, qr_rows *rows, qr_mapping *memory,
                                quire_error *error)
{
    const qr_dtype multiplied = qr_multiplied_dtype(dtype);
    *rows                     = (qr_rows){
                            .dtype = multiplied, .dim = dim, .stride = qr_row_stride(b->common.machine->kernels, multiplied, dim)};
    if (dtype == QR_MICRO_INT4) rows->scale_block = QR_CODES_BLOCK;
    const size_t bytes = (size_t)b->most_rows * rows->stride * qr_dtype_bytes(rows->dtype);
    QR_TRY(qr_mapping_create(bytes, &b->common.machine->bind, "rows", memory, error));
    rows->data   = memory->base;
    rows->scales = qr_allocate(NULL, (size_t)b->most_rows * qr_row_scales(rows) * sizeof(float), 64);
    return rows->scales ? QUIRE_OK : qr_fail(error, QUIRE_ERR_NO_MEMORY, "%u rows", b->most_rows);
}

static void destroy_rows(const bench *b, qr_rows *rows, qr_mapping *memory)
{
    if (memory->base != NULL) qr_mapping_destroy(memory);
    qr_deallocate(NULL, rows->scales, (size_t)b->most_rows * qr_row_scales(rows) * sizeof(float));
}

static quire_status create_inputs(bench *b, quire_error *error)
{
    b->weights = qr_allocate(NULL, (TABLE + (size_t)b->common.options.k) * sizeof *b->weights, 64);
    if (b->weights == NULL) return qr_fail(error, QUIRE_ERR_NO_MEMORY, "weights");
    for (size_t i = 0; i < TABLE + (size_t)b->common.options.k; i++)
        b->weights[i] = (float)(qr_random_uniform(1, 0, i) - 0.5);
    for (uint32_t i = 0; i < b->common.options.dtypes.count; i++) {
        const uint32_t dtype = (uint32_t)b->common.options.dtypes.values[i];
        qr_rows       *x     = &b->x[dtype];
        if (x->data != NULL) continue;
        QR_TRY(create_rows(b, dtype, b->common.options.k, x, &b->x_memory[dtype], error));
        for (uint32_t r = 0; r < b->most_rows; r++)
            b->common.machine->kernels->convert(x, r, b->weights + qr_mix64(r + 77) % TABLE);
    }
    return create_rows(b, QR_F32, b->common.options.columns, &b->y, &b->y_memory, error);
}

/* ---- variants ---- */

static void move_on(void *context, uint32_t round)
{
    const projection_variant *variant = context;
    (void)round;
    variant->set->next = (variant->set->next + variant->products) % variant->set->copies;
}

static void run_pass(void *context, uint32_t thread, uint32_t thread_count)
{
    const projection_variant *variant = context;
    const matrix_set         *set     = variant->set;
    const bench              *b       = set->bench;
    const qr_projection_out   out     = {.to = b->y};
    (void)thread_count;
    for (uint32_t i = 0; i < variant->products; i++) {
        qr_projection_run(set->projections[(set->next + i) % set->copies], thread, &b->x[set->dtype], variant->rows,
                          &out);
        if (i + 1 < variant->products) qr_team_barrier(b->common.machine->team);
    }
}

static void create_variant(bench *b, matrix_set *set, uint32_t rows)
{
    projection_variant *variant = &b->projection[b->common.variant_count];
    qr_variant         *turn    = &b->common.variants[b->common.variant_count++];
    *variant                    = (projection_variant){.set = set, .rows = rows};
    variant->products           = qr_max_u32(qr_min_u32(LEAST_PRODUCTS, set->copies),
                                   rows <= FEW_ROWS ? set->copies : set->copies * FEW_ROWS / rows);
    const double columns = b->common.options.columns, k = b->common.options.k;
    *turn            = (qr_variant){.prepare = move_on,
                                    .run     = run_pass,
                                    .context = variant,
                                    .bytes   = (double)qr_projection_bytes(set->projections[0]) * variant->products,
                                    .flops   = 2 * k * columns * rows * variant->products};
    const char *path = set->path == QUIRE_SMALL_M_ONEDNN ? "oneDNN" : "quire";
    snprintf(turn->name, sizeof turn->name, "%s M = %u, %s", qr_micro_dtype_name(set->dtype), rows, path);
    turn->params =
        json_pack("{s:s, s:i, s:i, s:i, s:s, s:s, s:i}", "dtype", qr_micro_dtype_name(set->dtype), "m", (int)rows, "n",
                  (int)b->common.options.columns, "k", (int)b->common.options.k, "path", path, "implementation",
                  qr_projection_implementation(set->context), "products", (int)variant->products);
}

static matrix_set *set_of(bench *b, uint32_t dtype, int path) { return &b->sets[dtype * PATHS + (uint32_t)path]; }

static quire_status create_sets(bench *b, quire_error *error)
{
    for (uint32_t d = 0; d < b->common.options.dtypes.count; d++) {
        const uint32_t dtype = (uint32_t)b->common.options.dtypes.values[d];
        if (set_of(b, dtype, 0)->context != NULL) continue;
        QR_TRY(create_set(b, dtype, QUIRE_SMALL_M_AUTO, set_of(b, dtype, 0), error));
        QR_TRY(create_set(b, dtype, QUIRE_SMALL_M_ONEDNN, set_of(b, dtype, 1), error));
    }
    return QUIRE_OK;
}

static void create_variants(bench *b)
{
    const qr_micro_options *o = &b->common.options;
    for (uint32_t d = 0; d < o->dtypes.count; d++)
        for (uint32_t r = 0; r < o->rows.count; r++)
            for (int path = 0; path < PATHS; path++) {
                matrix_set *set = set_of(b, (uint32_t)o->dtypes.values[d], path);
                if (path == 0 || is_onednn(set)) create_variant(b, set, (uint32_t)o->rows.values[r]);
            }
}

/* ---- results ---- */

/* Reading or multiplying, whichever takes longer, is the limit. */
static void state_limit(bench *b, uint32_t index)
{
    const uint32_t dtype   = b->projection[index].set->dtype;
    qr_variant    *variant = &b->common.variants[index];
    const double   read = variant->read_gbs, peak = qr_typed_bench_note_fractions(&b->common, index, dtype);
    if (variant->bytes / read > variant->flops / peak)
        qr_variant_limit(variant, read, "R", false);
    else
        qr_variant_limit(variant, peak, "P", true);
}

static void judge(void *state, uint32_t index)
{
    bench *b = state;
    state_limit(b, index);
    if (b->projection[index].set->path == QUIRE_SMALL_M_ONEDNN || index + 1 == b->common.judged_count ||
        b->projection[index + 1].set->path != QUIRE_SMALL_M_ONEDNN)
        return;
    qr_variant  *variant = &b->common.variants[index];
    const double times   = b->common.variants[index + 1].seconds / variant->seconds;
    qr_variant_note(variant, "times_onednn", times);
    snprintf(variant->note, sizeof variant->note, "%.2f x oneDNN", times);
}

/* ---- life ---- */

static quire_status set_defaults(bench *b, quire_error *error)
{
    qr_micro_options *o = &b->common.options;
    QR_TRY(qr_micro_group_size(o, error));
    if (o->k == 0) o->k = 2048;
    if (o->columns == 0) o->columns = 2816 * b->common.machine->thread_count;
    if (o->rounds == 0) o->rounds = 15;
    qr_list_default(&o->dtypes, 4, (uint64_t[]){QR_BF16, QR_INT8, QR_MICRO_INT4, QR_F32});
    qr_list_default(&o->rows, 9, (uint64_t[]){1, 2, 4, 6, 8, 12, 16, 64, 512});
    b->most_rows = (uint32_t)qr_list_greatest(&o->rows);
    if (b->most_rows > 65536) return qr_fail(error, QUIRE_ERR_INVALID, "--rows %u: more than 65536", b->most_rows);
    return QUIRE_OK;
}

static void destroy(void *state)
{
    bench *b = state;
    for (int i = 0; i < DTYPES * PATHS; i++) destroy_set(&b->sets[i]);
    for (int d = 0; d < DTYPES; d++) destroy_rows(b, &b->x[d], &b->x_memory[d]);
    destroy_rows(b, &b->y, &b->y_memory);
    qr_deallocate(NULL, b->weights, (TABLE + (size_t)b->common.options.k) * sizeof *b->weights);
}

static quire_status create(void *state, quire_error *error)
{
    bench *b = state;
    QR_TRY(set_defaults(b, error));
    QR_TRY(create_inputs(b, error));
    QR_TRY(create_sets(b, error));
    create_variants(b);
    return QUIRE_OK;
}

static quire_status run(qr_machine *machine, const qr_micro_options *options, FILE *out, quire_error *error)
{
    static const qr_typed_benchmark benchmark = {"projection", sizeof(bench), create, judge, destroy};
    return qr_typed_bench_run(&benchmark, machine, options, out, error);
}

int qr_micro_projection(const qr_micro_options *options, FILE *out) { return qr_micro_on_machine(options, run, out); }
