/* Weights into memory: each thread packs its shard of every matrix into a region of its own node. */
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/printable.h"
#include "base/request.h"
#include "model/network.h"
#include "topology/topology.h"

enum {
    EMBEDDING_CHUNK = 64,        /* rows read at a time */
    CODE_BYTES      = 128 << 20, /* that must be free before oneDNN generates code: it does not survive a failed mmap */
};

typedef struct packing {
    qr_network  *network;
    quire_error *errors; /* [thread_count] */
} packing;

/* Columns are dealt in equal parts, so that the thread's are about these. */
static void expect_linear(const qr_network *network, const qr_linear *linear, uint32_t thread)
{
    const bool     cut  = linear != NULL && linear->span_count > 0;
    const uint32_t rank = cut ? network->share.rank : 0, ranks = cut ? network->share.ranks : 1;
    for (uint32_t m = 0; linear != NULL && m < linear->matrix_count; m++)
        qr_matrix_expect(&linear->matrices[m], rank * network->thread_count + thread, ranks * network->thread_count);
}

/* Some rows of a matrix, as a source. */
typedef struct piece {
    qr_weight_source whole;
    uint32_t         first;
} piece;

static quire_status read_piece(void *context, uint32_t first, uint32_t count, float *out, quire_error *error)
{
    const piece *p = context;
    return p->whole.read(p->whole.context, p->first + first, count, out, error);
}

static quire_status read_piece_codes(void *context, uint32_t first, uint32_t count, uint8_t *codes, float *scales,
                                     float *minima, quire_error *error)
{
    const piece *p = context;
    return p->whole.read_codes(p->whole.context, p->first + first, count, codes, scales, minima, error);
}

static qr_weight_source source_of_piece(piece *p, uint32_t columns)
{
    return (qr_weight_source){.read       = read_piece,
                              .read_codes = p->whole.read_codes != NULL ? read_piece_codes : NULL,
                              .context    = p,
                              .columns    = columns};
}

/* The matrix that has the column, when all stand side by side; *before: columns of those before it. */
static const qr_matrix *matrix_at(const qr_linear *linear, uint32_t column, uint32_t *before)
{
    const qr_matrix *matrix = linear->matrices;
    for (*before = 0; column - *before >= matrix->rows; matrix++) *before += matrix->rows;
    return matrix;
}

/* What the rank's share of a projection is packed from; returns how many. */
static uint32_t share_sources(const qr_linear *linear, piece *pieces, qr_weight_source *sources)
{
    uint32_t count = linear->shape.gated ? linear->matrix_count : linear->span_count;
    if (linear->span_count == 0) count = linear->matrix_count;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t         before = 0;
        const bool       whole = linear->span_count == 0, gated = linear->shape.gated;
        const qr_span    span   = whole ? (qr_span){0, linear->matrices[i].rows} : linear->spans[gated ? 0 : i];
        const qr_matrix *matrix = whole || gated ? &linear->matrices[i] : matrix_at(linear, span.first, &before);
        pieces[i]               = (piece){qr_matrix_source(matrix, &linear->shape.codes), span.first - before};
        sources[i]              = source_of_piece(&pieces[i], span.count);
    }
    return count;
}

static quire_status pack_linears(qr_network *network, uint32_t thread, quire_error *error)
{
    char *memory = network->regions[thread].base;
    expect_linear(network, network->parameters.first_linear, thread);
    for (const qr_linear *linear = network->parameters.first_linear; linear != NULL; linear = linear->next) {
        const size_t bytes = qr_projection_shard_bytes(linear->projection, thread);
        expect_linear(network, linear->next, thread);
        if (bytes == 0) continue;
        piece            pieces[QR_LINEAR_MATRICES];
        qr_weight_source sources[QR_LINEAR_MATRICES];
        const uint32_t   count = share_sources(linear, pieces, sources);
        QR_TRY(qr_projection_pack(linear->projection, thread, memory, sources, count, error));
        memory += bytes;
    }
    return QUIRE_OK;
}

static quire_status read_embedding_chunk(const qr_network *network, const qr_matrix *matrix, const qr_mapping *table,
                                         uint32_t first, uint32_t count, float *chunk, quire_error *error)
{
    const qr_span own  = network->share.hidden;
    const qr_rows rows = {
        .data = table->base, .dtype = network->embedding_dtype, .dim = own.count, .stride = own.count};
    QR_TRY(qr_matrix_read(matrix, first, count, chunk, error));
    for (uint32_t i = 0; i < count; i++)
        network->kernels->convert(&rows, first + i, chunk + (size_t)i * matrix->columns + own.first);
    return QUIRE_OK;
}

/* The thread's part of the rows; so the matrix is spread over the nodes. */
static quire_status read_embedding(const qr_network *network, const qr_matrix *matrix, const qr_mapping *table,
                                   uint32_t thread, quire_error *error)
{
    const uint64_t rows  = matrix->rows;
    const uint32_t first = (uint32_t)(rows * thread / network->thread_count);
    const uint32_t end   = (uint32_t)(rows * (thread + 1) / network->thread_count);
    const size_t   bytes = (size_t)EMBEDDING_CHUNK * matrix->columns * sizeof(float);
    float         *chunk = qr_allocate(&network->options.allocator, bytes, 64);
    if (chunk == NULL) return qr_fail(error, QUIRE_ERR_NO_MEMORY, "embedding: no memory for %zu bytes", bytes);
    quire_status status = QUIRE_OK;
    for (uint32_t row = first; row < end && status == QUIRE_OK; row += EMBEDDING_CHUNK)
        status =
            read_embedding_chunk(network, matrix, table, row, qr_min_u32(EMBEDDING_CHUNK, end - row), chunk, error);
    qr_deallocate(&network->options.allocator, chunk, bytes);
    return status;
}

static quire_status read_embeddings(const qr_network *network, uint32_t thread, quire_error *error)
{
    const qr_parameters *p = &network->parameters;
    QR_TRY(read_embedding(network, &p->embedding, &network->embedding_rows, thread, error));
    if (network->architecture->encoder_embedding_name == NULL) return QUIRE_OK;
    return read_embedding(network, &p->encoder_embedding, &network->encoder_embedding_rows, thread, error);
}

static void pack_thread(void *context, uint32_t thread, uint32_t thread_count)
{
    (void)thread_count;
    const packing *job   = context;
    quire_error   *error = &job->errors[thread];
    if (pack_linears(job->network, thread, error) == QUIRE_OK) (void)read_embeddings(job->network, thread, error);
}

static uint32_t most_projected_rows(const qr_network *network)
{
    const bool     features = network->architecture->feature_size > 0;
    const uint32_t frames   = features ? network->options.max_encoder_tokens * QR_FRAMES_PER_POSITION : 0;
    return qr_max_u32(frames, qr_max_u32(qr_network_most_rows(network), network->options.max_logits_rows));
}

static quire_status create_projections(qr_network *network, quire_error *error)
{
    const uint64_t left = qr_memory_limit(NULL);
    if (left < CODE_BYTES)
        return qr_fail(error, QUIRE_ERR_NO_MEMORY,
                       "projections: this process can take %llu more bytes, generating their code needs %d",
                       (unsigned long long)left, CODE_BYTES);
    const qr_projection_context_options options = {
        .kernels         = network->kernels,
        .isa_cap         = network->options.isa,
        .thread_count    = network->thread_count,
        .max_rows        = most_projected_rows(network),
        .small_m         = network->options.small_m,
        .batch_invariant = network->options.batch_invariant,
        .log             = network->options.bind.log,
        .allocator       = network->options.allocator,
        .shared          = network->options.shared,
    };
    QR_TRY(qr_projection_context_create(&options, &network->context, error));
    for (qr_linear *l = network->parameters.first_linear; l != NULL; l = l->next)
        QR_TRY(qr_projection_create(network->context, &l->shape, &l->projection, error));
    return QUIRE_OK;
}

size_t qr_network_region_bytes(const qr_network *network, uint32_t thread)
{
    size_t bytes = 0;
    for (const qr_linear *l = network->parameters.first_linear; l != NULL; l = l->next)
        bytes += qr_projection_shard_bytes(l->projection, thread);
    return bytes;
}

/* The rows in equal parts, each on the node of the thread that reads it in; any thread may want any row. */
static quire_status create_embedding(qr_network *network, qr_mapping *table, uint64_t rows, quire_error *error)
{
    const qr_placement *placement = qr_team_placement(network->options.team);
    const uint32_t      threads   = network->thread_count;
    const size_t        row_bytes = qr_network_embedding_bytes(network) / network->architecture->vocab_size;
    QR_TRY(qr_mapping_create(qr_network_embedding_bytes(network), &network->options.bind, "embedding", table, error));
    for (uint32_t t = 0; t < threads; t++) {
        const uint64_t first = rows * t / threads, end = rows * (t + 1) / threads;
        QR_TRY(qr_mapping_bind(table, first * row_bytes, (end - first) * row_bytes,
                               placement->node_os[placement->node[t]], placement->machine_nodes, &network->options.bind,
                               error));
    }
    return QUIRE_OK;
}

/* One region per thread for all its shards, bound to its node; the thread touches it first when it packs. */
static quire_status create_regions(qr_network *network, quire_error *error)
{
    const qr_placement    *placement = qr_team_placement(network->options.team);
    const qr_bind_options *bind      = &network->options.bind;
    for (uint32_t thread = 0; thread < network->thread_count; thread++) {
        const size_t bytes = qr_network_region_bytes(network, thread);
        if (bytes == 0) continue;
        qr_mapping *region = &network->regions[thread];
        QR_TRY(qr_mapping_create(bytes, bind, "weights", region, error));
        QR_TRY(qr_mapping_bind(region, 0, bytes, placement->node_os[placement->node[thread]], placement->machine_nodes,
                               bind, error));
    }
    QR_TRY(create_embedding(network, &network->embedding_rows, network->parameters.embedding.rows, error));
    if (network->architecture->encoder_embedding_name == NULL) return QUIRE_OK;
    return create_embedding(network, &network->encoder_embedding_rows, network->parameters.encoder_embedding.rows,
                            error);
}

static quire_status pack(qr_network *network, quire_error *error)
{
    const size_t  bytes = network->thread_count * sizeof(quire_error);
    const packing job   = {.network = network, .errors = qr_allocate(&network->options.allocator, bytes, 64)};
    if (job.errors == NULL) return qr_fail(error, QUIRE_ERR_NO_MEMORY, "packing: no memory for %zu bytes", bytes);
    qr_team_run(network->options.team, pack_thread, (void *)(uintptr_t)&job);
    quire_error first = {0};
    for (uint32_t i = 0; i < network->thread_count && first.status == QUIRE_OK; i++) first = job.errors[i];
    if (first.status != QUIRE_OK && error != NULL) *error = first;
    qr_deallocate(&network->options.allocator, job.errors, bytes);
    return first.status;
}

static void add_work(qr_work *work, const qr_linear *linear, qr_dtype dtype)
{
    if (linear->projection == NULL) return;
    const uint64_t flops = 2ull * linear->shape.k * linear->shape.columns * (linear->shape.gated ? 2 : 1);
    work->bytes += qr_projection_bytes(linear->projection);
    work->flops += flops;
    if (linear->shape.dtype != dtype) work->wide_flops += flops;
}

static void add_layer(qr_work *work, const qr_layer *layer, qr_dtype dtype)
{
    const qr_linear *own[] = {&layer->qkv,     &layer->output,   &layer->cross_q, &layer->cross_output,
                              &layer->feed_in, &layer->feed_out, &layer->router};
    for (size_t i = 0; i < sizeof own / sizeof *own; i++) add_work(work, own[i], dtype);
}

static void count_work(qr_network *network)
{
    const qr_parameters *p = &network->parameters;
    for (uint32_t i = 0; i < network->architecture->layers; i++) {
        add_layer(&network->decoder_work, &p->decoder[i], network->dtype);
        add_work(&network->cross_work, &p->decoder[i].cross_kv, network->dtype);
        if (network->expert_work.bytes == 0 && p->decoder[i].experts != NULL) { /* all are alike */
            add_work(&network->expert_work, &p->decoder[i].experts[0].in, network->dtype);
            add_work(&network->expert_work, &p->decoder[i].experts[0].out, network->dtype);
        }
    }
    add_work(&network->encoder_work, &p->convolutions[0], network->dtype);
    const uint64_t second_frame = network->encoder_work.flops; /* a row has two */
    network->encoder_work.flops += second_frame;
    network->encoder_work.wide_flops *= 2;
    add_work(&network->encoder_work, &p->convolutions[1], network->dtype);
    for (uint32_t i = 0; i < network->architecture->encoder_layers; i++)
        add_layer(&network->encoder_work, &p->encoder[i], network->dtype);
    add_work(&network->head_work, &p->head, network->dtype);
}

/* What lives as long as the parameters, and depends on the options. */
static void lay_out(qr_network *network, qr_arena *arena)
{
    const uint32_t entries    = network->options.max_sequences;
    network->regions          = QR_ARENA_TAKE(arena, qr_mapping, network->thread_count);
    network->self_sequences   = QR_ARENA_TAKE(arena, qr_attention_sequence, entries);
    network->window_sequences = QR_ARENA_TAKE(arena, qr_attention_sequence, entries);
    if (!qr_network_has_encoder(network)) return;
    network->cross_sequences        = QR_ARENA_TAKE(arena, qr_attention_sequence, entries);
    network->encoder_sequences      = QR_ARENA_TAKE(arena, qr_attention_sequence, entries);
    network->cross_append_sequences = QR_ARENA_TAKE(arena, qr_attention_sequence, entries);
    network->encoder_blocks         = QR_ARENA_TAKE(arena, uint32_t, network->encoder_block_count);
    network->encoder_row_items      = QR_ARENA_TAKE(arena, uint32_t, network->options.max_encoder_tokens);
    network->encoder_row_positions  = QR_ARENA_TAKE(arena, uint32_t, network->options.max_encoder_tokens);
}

static quire_status find(void *context, const qr_tensor_spec *spec, qr_matrix *matrix_out, quire_error *error)
{
    return qr_weights_find(context, spec, matrix_out, error);
}

quire_status qr_network_declare(qr_network *network, quire_error *error)
{
    qr_arena      *arena = &network->parameter_memory;
    qr_declaration d     = {.architecture  = network->architecture,
                            .dtype         = network->dtype,
                            .codes         = network->codes,
                            .weights       = qr_model_weights(network->model),
                            .share         = &network->share,
                            .max_model_len = network->options.max_model_len,
                            .parameters    = &network->parameters,
                            .arena         = arena,
                            .visit         = arena->base ? find : NULL,
                            .context       = (void *)(uintptr_t)qr_model_weights(network->model),
                            .error         = error};
    lay_out(network, arena);
    qr_declare(&d);
    network->packed_bytes = d.packed_bytes;
    return d.status;
}

/* What is not read as it is stored. */
static void log_codes(const qr_network *network)
{
    uint32_t kept = 0, others = 0;
    if (!qr_model_weights(network->model)->keeps_codes) return;
    for (const qr_linear *l = network->parameters.first_linear; l != NULL; l = l->next)
        for (uint32_t m = 0; m < l->matrix_count; m++) {
            const bool as_stored = qr_matrix_source(&l->matrices[m], &l->shape.codes).read_codes != NULL;
            kept += as_stored;
            others += !as_stored;
        }
    qr_log_write(network->options.bind.log, QUIRE_LOG_INFO,
                 "the codes of %u matrices are kept; %u others become 8 bits in groups of 32", kept, others);
}

quire_status qr_weights_check_fit(uint64_t weight_bytes, uint64_t available_bytes, quire_error *error)
{
    enum { MIB = 1 << 20 };
    if (weight_bytes <= available_bytes) return QUIRE_OK;
    return qr_fail(error, QUIRE_ERR_INVALID,
                   "the weights, %llu MiB, are more than the %llu MiB available; less is needed with a smaller "
                   "model.weight_dtype, or a preset with fewer layers (model.shape.num_hidden_layers)",
                   (unsigned long long)((weight_bytes + MIB - 1) / MIB), (unsigned long long)available_bytes / MIB);
}

quire_status qr_network_load(qr_network *network, quire_error *error)
{
    const uint64_t start_ns = qr_now_ns();
    QR_TRY(qr_network_declare(network, error));
    QR_TRY(qr_weights_check_fit(qr_network_weight_bytes(network), qr_memory_limit(NULL), error));
    QR_TRY(qr_arena_create(&network->parameter_memory, &network->options.shared, "model parameters", error));
    QR_TRY(qr_network_declare(network, error));
    QR_TRY(create_projections(network, error));
    QR_TRY(create_regions(network, error));
    QR_TRY(pack(network, error));
    for (qr_linear *l = network->parameters.first_linear; l != NULL; l = l->next)
        QR_TRY(qr_projection_finish(l->projection, error));
    log_codes(network);
    count_work(network);
    qr_log_write(network->options.bind.log, QUIRE_LOG_INFO, "packed %.1f MB of weights on %u thread%s in %.1f s",
                 (double)qr_network_weight_bytes(network) / 1e6, network->thread_count,
                 qr_plural(network->thread_count), (double)(qr_now_ns() - start_ns) / 1e9);
    return QUIRE_OK;
}
