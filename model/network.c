/* The life of a qr_network: its memory, its packed weights, and a step around the family's list of stages. */
#include "model/network.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/error.h"

enum { EMBEDDING_CHUNK = 64 /* rows read at a time */ };

/* ---- declaring tensors ---- */

float *qr_declare_floats(qr_declaration *declaration, uint32_t count)
{
    return QR_ARENA_TAKE(declaration->arena, float, count);
}

void qr_declare_read(qr_declaration *declaration, float *into, uint32_t count, const char *name_format, ...)
{
    if (into == NULL || declaration->status != QUIRE_OK) return;
    char    name[256];
    va_list arguments;
    va_start(arguments, name_format);
    vsnprintf(name, sizeof name, name_format, arguments);
    va_end(arguments);
    declaration->status =
        qr_weights_vector(qr_model_weights(declaration->network->model), count, into, declaration->error, "%s", name);
}

/* As kernels/projection packs: panels of 64 columns, K padded to a cache line of each panel column's elements. */
static uint64_t packed_bytes(const qr_projection_shape *shape)
{
    const uint64_t panels = (uint64_t)qr_ceil_div_u32(shape->columns, 64) * (shape->gated ? 2 : 1);
    const uint32_t inner  = shape->dtype == QR_F32 ? 16 : shape->dtype == QR_BF16 ? 32 : 64;
    const uint64_t column = (uint64_t)qr_round_up_u32(shape->k, inner) * qr_dtype_bytes(shape->dtype);
    return panels * 64 * (column + (shape->dtype == QR_INT8 ? 8 : 0));
}

qr_linear *qr_declare_linear(qr_declaration *declaration, const qr_projection_shape *shape)
{
    qr_network         *network = declaration->network;
    qr_projection_shape typed   = *shape;
    typed.dtype                 = network->dtype;
    declaration->packed_bytes += packed_bytes(&typed);
    if (network->linears == NULL) return NULL;
    qr_assert(network->linear_count < network->linear_capacity);
    qr_linear *linear = &network->linears[network->linear_count++];
    linear->shape     = typed;
    return linear;
}

void qr_declare_matrix(qr_declaration *declaration, qr_linear *linear, uint32_t rows, const char *name_format, ...)
{
    if (linear == NULL || declaration->status != QUIRE_OK) return;
    char    name[256];
    va_list arguments;
    va_start(arguments, name_format);
    vsnprintf(name, sizeof name, name_format, arguments);
    va_end(arguments);
    qr_assert(linear->matrix_count < 3);
    declaration->status = qr_weights_find(qr_model_weights(declaration->network->model), rows, linear->shape.k,
                                          &linear->matrices[linear->matrix_count++], declaration->error, "%s", name);
}

/* ---- memory ---- */

static bool has_encoder(const qr_network *network) { return network->architecture->encoder_layers > 0; }

/* Rows that one pass over the layers can have: the step's rows, or its encoder tokens before them. */
static uint32_t most_rows(const qr_network *network)
{
    const qr_network_options *options = &network->options;
    return has_encoder(network) ? qr_max_u32(options->max_rows, options->max_encoder_tokens) : options->max_rows;
}

/* Everything that is small or lives as long as the weights. */
static void declare(qr_declaration *d)
{
    qr_network            *network = d->network;
    const qr_architecture *a       = network->architecture;
    const uint32_t         entries = network->options.max_sequences;
    network->linear_count          = 0;
    network->linear_capacity       = a->layers * 7 + a->encoder_layers * 4 + 1;
    network->decoder               = QR_ARENA_TAKE(d->arena, qr_layer, a->layers);
    network->linears               = QR_ARENA_TAKE(d->arena, qr_linear, network->linear_capacity);
    network->regions               = QR_ARENA_TAKE(d->arena, qr_mapping, network->thread_count);
    network->self_sequences        = QR_ARENA_TAKE(d->arena, qr_attention_sequence, entries);
    if (has_encoder(network)) {
        network->encoder                = QR_ARENA_TAKE(d->arena, qr_layer, a->encoder_layers);
        network->cross_sequences        = QR_ARENA_TAKE(d->arena, qr_attention_sequence, entries);
        network->encoder_sequences      = QR_ARENA_TAKE(d->arena, qr_attention_sequence, entries);
        network->cross_append_sequences = QR_ARENA_TAKE(d->arena, qr_attention_sequence, entries);
        network->encoder_blocks         = QR_ARENA_TAKE(d->arena, uint32_t, network->encoder_block_count);
        network->encoder_tokens         = QR_ARENA_TAKE(d->arena, const int32_t *, network->options.max_encoder_tokens);
    }
    if (a->family == QR_FAMILY_T5)
        qr_t5_declare(d);
    else
        qr_llama_declare(d);
    network->head =
        qr_declare_linear(d, &(qr_projection_shape){.k = a->hidden_size, .columns = a->vocab_size, .name = "lm_head"});
    qr_declare_matrix(d, network->head, a->vocab_size, "%s", a->output_name);
}

static qr_rows take_rows(qr_arena *arena, qr_dtype dtype, uint32_t rows, uint32_t dim)
{
    const uint32_t stride = qr_round_up_u32(dim, 64);
    qr_rows        taken  = {.dtype = dtype, .dim = dim, .stride = stride};
    taken.data            = qr_arena_take(arena, (size_t)rows * stride, qr_dtype_bytes(dtype));
    if (dtype == QR_INT8) taken.scales = QR_ARENA_TAKE(arena, float, rows);
    return taken;
}

static void lay_out_buffers(qr_network *network, qr_arena *arena)
{
    const qr_architecture *a    = network->architecture;
    qr_buffers            *b    = &network->buffers;
    const uint32_t         rows = most_rows(network), logits = network->options.max_logits_rows;
    const uint32_t         q = a->heads * a->head_dim, kv = a->kv_heads * a->head_dim;
    const qr_dtype         read    = network->dtype;
    const qr_dtype         written = read == QR_INT8 ? QR_F32 : read; /* by attention and projections */

    b->hidden        = take_rows(arena, QR_F32, rows, a->hidden_size);
    b->normed        = take_rows(arena, read, rows, a->hidden_size);
    b->qkv           = take_rows(arena, QR_F32, rows, q + 2 * kv);
    b->attended      = take_rows(arena, written, rows, q);
    b->attended_read = read == written ? b->attended : take_rows(arena, read, rows, q);
    b->fed           = take_rows(arena, written, rows, a->intermediate_size);
    b->fed_read      = read == written ? b->fed : take_rows(arena, read, rows, a->intermediate_size);
    b->selected      = take_rows(arena, read, logits, a->hidden_size);
    b->logits        = (qr_rows){.dtype = QR_F32, .dim = a->vocab_size, .stride = a->vocab_size};
    b->logits.data   = QR_ARENA_TAKE(arena, float, (size_t)logits * a->vocab_size);
}

static uint64_t embedding_bytes(const qr_network *network)
{
    const qr_architecture *a = network->architecture;
    return (uint64_t)a->vocab_size * a->hidden_size * qr_dtype_bytes(network->embedding_dtype);
}

static uint64_t encoder_kv_bytes(const qr_network *network)
{
    return (uint64_t)network->encoder_block_count * qr_kv_block_bytes(&network->encoder_kv_shape);
}

/* The fields that follow from model and options; no memory but the struct's own is touched. */
static void set_up(qr_network *network, const quire_model *model, const qr_network_options *options,
                   uint32_t thread_count)
{
    const qr_architecture *a = qr_model_architecture(model);
    *network                 = (qr_network){.model = model, .architecture = a, .options = *options};
    network->thread_count    = thread_count;
    network->dtype           = qr_model_weight_dtype(model, options->isa);
    network->embedding_dtype = network->dtype == QR_F32 ? QR_F32 : QR_BF16;
    network->kv_shape        = (qr_kv_shape){options->kv_dtype, a->kv_heads, a->head_dim, options->block_size};
    if (a->encoder_layers == 0) return;
    network->encoder_kv_shape = network->kv_shape;
    if (options->kv_dtype == QR_INT8) network->encoder_kv_shape.dtype = QR_BF16; /* read once per layer: no gain */
    network->encoder_block_count = options->max_encoder_tokens / options->block_size +
                                   qr_min_u32(options->max_sequences, options->max_encoder_tokens);
}

void qr_network_plan_memory(const quire_model *model, const qr_network_options *options, uint32_t thread_count,
                            qr_network_forecast *forecast_out)
{
    qr_network network;
    set_up(&network, model, options, thread_count);
    qr_arena       parameters = {0}, step = {0};
    qr_declaration declaration = {.network = &network, .arena = &parameters};
    declare(&declaration);
    lay_out_buffers(&network, &step);
    *forecast_out = (qr_network_forecast){
        .weight_bytes          = declaration.packed_bytes + embedding_bytes(&network) + parameters.used,
        .scratch_bytes         = step.used,
        .encoder_scratch_bytes = encoder_kv_bytes(&network),
    };
}

/* ---- weights ---- */

typedef struct packing {
    qr_network   *network;
    quire_status *statuses; /* [thread_count] */
    quire_error  *errors;   /* [thread_count] */
} packing;

static quire_status pack_linears(qr_network *network, uint32_t thread, quire_error *error)
{
    char *memory = network->regions[thread].base;
    for (uint32_t i = 0; i < network->linear_count; i++) {
        const qr_linear *linear = &network->linears[i];
        const size_t     bytes  = qr_projection_shard_bytes(linear->projection, thread);
        if (bytes == 0) continue;
        qr_weight_source sources[3];
        for (uint32_t m = 0; m < linear->matrix_count; m++) sources[m] = qr_matrix_source(&linear->matrices[m]);
        QR_TRY(qr_projection_pack(linear->projection, thread, memory, sources, linear->matrix_count, error));
        memory += bytes;
    }
    return QUIRE_OK;
}

static quire_status read_embedding_chunk(qr_network *network, uint32_t first, uint32_t count, float *chunk,
                                         quire_error *error)
{
    const size_t offset = (size_t)first * network->architecture->hidden_size;
    const size_t floats = (size_t)count * network->architecture->hidden_size;
    QR_TRY(qr_matrix_read(&network->embedding, first, count, chunk, error));
    if (network->embedding_dtype == QR_F32) {
        memcpy((float *)(void *)network->embedding_rows.base + offset, chunk, floats * sizeof *chunk);
        return QUIRE_OK;
    }
    qr_bf16 *rows = (qr_bf16 *)(void *)network->embedding_rows.base + offset;
    for (size_t i = 0; i < floats; i++) rows[i] = qr_bf16_of_f32(chunk[i]);
    return QUIRE_OK;
}

/* The thread's part of the rows; so the matrix is spread over the nodes. */
static quire_status read_embedding(qr_network *network, uint32_t thread, quire_error *error)
{
    const uint64_t rows  = network->architecture->vocab_size;
    const uint32_t first = (uint32_t)(rows * thread / network->thread_count);
    const uint32_t end   = (uint32_t)(rows * (thread + 1) / network->thread_count);
    const size_t   bytes = (size_t)EMBEDDING_CHUNK * network->architecture->hidden_size * sizeof(float);
    float         *chunk = qr_allocate(&network->options.allocator, bytes, 64);
    if (chunk == NULL) return qr_fail(error, QUIRE_ERR_NO_MEMORY, "embedding: no memory for %zu bytes", bytes);
    quire_status status = QUIRE_OK;
    for (uint32_t row = first; row < end && status == QUIRE_OK; row += EMBEDDING_CHUNK)
        status = read_embedding_chunk(network, row, qr_min_u32(EMBEDDING_CHUNK, end - row), chunk, error);
    qr_deallocate(&network->options.allocator, chunk, bytes);
    return status;
}

static void pack_thread(void *context, uint32_t thread, uint32_t thread_count)
{
    (void)thread_count;
    const packing *job    = context;
    quire_status   status = pack_linears(job->network, thread, &job->errors[thread]);
    if (status == QUIRE_OK) status = read_embedding(job->network, thread, &job->errors[thread]);
    job->statuses[thread] = status;
}

static quire_status create_projections(qr_network *network, quire_error *error)
{
    const qr_projection_context_options options = {
        .kernels         = network->kernels,
        .isa_cap         = network->options.isa,
        .thread_count    = network->thread_count,
        .max_rows        = qr_max_u32(most_rows(network), network->options.max_logits_rows),
        .small_m         = network->options.small_m,
        .batch_invariant = network->options.batch_invariant,
        .log             = network->options.bind.log,
        .allocator       = network->options.allocator,
    };
    QR_TRY(qr_projection_context_create(&options, &network->context, error));
    for (uint32_t i = 0; i < network->linear_count; i++)
        QR_TRY(
            qr_projection_create(network->context, &network->linears[i].shape, &network->linears[i].projection, error));
    return QUIRE_OK;
}

/* One region per thread for all its shards, bound to its node; the thread touches it first when it packs. */
static quire_status create_regions(qr_network *network, quire_error *error)
{
    const qr_placement    *placement = qr_team_placement(network->options.team);
    const qr_bind_options *bind      = &network->options.bind;
    for (uint32_t thread = 0; thread < network->thread_count; thread++) {
        size_t bytes = 0;
        for (uint32_t i = 0; i < network->linear_count; i++)
            bytes += qr_projection_shard_bytes(network->linears[i].projection, thread);
        if (bytes == 0) continue;
        qr_mapping *region = &network->regions[thread];
        QR_TRY(qr_mapping_create(bytes, bind, "weights", region, error));
        QR_TRY(qr_mapping_bind(region, 0, bytes, placement->node_os[placement->node[thread]], placement->node_count,
                               bind, error));
    }
    return qr_mapping_create(embedding_bytes(network), bind, "embedding", &network->embedding_rows, error);
}

static quire_status first_failure(const packing *job, quire_error *error)
{
    for (uint32_t thread = 0; thread < job->network->thread_count; thread++) {
        if (job->statuses[thread] == QUIRE_OK) continue;
        if (error != NULL) *error = job->errors[thread];
        return job->statuses[thread];
    }
    return QUIRE_OK;
}

static quire_status pack(qr_network *network, quire_error *error)
{
    qr_arena arena = {0};
    packing  job   = {.network = network};
    for (int pass = 0; pass < 2; pass++) {
        job.statuses = QR_ARENA_TAKE(&arena, quire_status, network->thread_count);
        job.errors   = QR_ARENA_TAKE(&arena, quire_error, network->thread_count);
        if (pass == 0) QR_TRY(qr_arena_create(&arena, &network->options.allocator, "packing", error));
    }
    qr_team_run(network->options.team, pack_thread, &job);
    const quire_status status = first_failure(&job, error);
    qr_arena_destroy(&arena);
    return status;
}

static void add_work(qr_work *work, const qr_linear *linear)
{
    if (linear == NULL) return;
    work->bytes += qr_projection_bytes(linear->projection);
    work->flops += 2ull * linear->shape.k * linear->shape.columns * (linear->shape.gated ? 2 : 1);
}

static void count_work(qr_network *network)
{
    for (uint32_t i = 0; i < network->architecture->layers; i++) {
        const qr_layer  *layer = &network->decoder[i];
        const qr_linear *own[] = {layer->qkv,          layer->output,  layer->cross_q,
                                  layer->cross_output, layer->feed_in, layer->feed_out};
        for (size_t l = 0; l < sizeof own / sizeof *own; l++) add_work(&network->decoder_work, own[l]);
        add_work(&network->cross_work, layer->cross_kv);
    }
    for (uint32_t i = 0; i < network->architecture->encoder_layers; i++) {
        const qr_layer  *layer = &network->encoder[i];
        const qr_linear *own[] = {layer->qkv, layer->output, layer->feed_in, layer->feed_out};
        for (size_t l = 0; l < sizeof own / sizeof *own; l++) add_work(&network->encoder_work, own[l]);
    }
    add_work(&network->head_work, network->head);
}

static quire_status load_weights(qr_network *network, quire_error *error)
{
    const qr_architecture *a = network->architecture;
    qr_declaration         d = {.network = network, .arena = &network->parameters, .error = error};
    declare(&d);
    QR_TRY(qr_arena_create(&network->parameters, &network->options.allocator, "model parameters", error));
    declare(&d);
    QR_TRY(d.status);
    QR_TRY(qr_weights_find(qr_model_weights(network->model), a->vocab_size, a->hidden_size, &network->embedding, error,
                           "%s", a->embedding_name));
    QR_TRY(create_projections(network, error));
    QR_TRY(create_regions(network, error));
    QR_TRY(pack(network, error));
    for (uint32_t i = 0; i < network->linear_count; i++)
        QR_TRY(qr_projection_finish(network->linears[i].projection, error));
    count_work(network);
    return QUIRE_OK;
}

/* ---- plans and buffers ---- */

static quire_status create_plan(qr_network *network, qr_attention_kind kind, const qr_kv_shape *kv, uint32_t max_rows,
                                uint32_t max_kv_length, qr_attention_plan **plan_out, quire_error *error)
{
    const qr_architecture   *a     = network->architecture;
    const qr_attention_shape shape = {
        .kind   = kind,
        .kv     = *kv,
        .heads  = a->heads,
        .window = kind == QR_ATTENTION_CAUSAL ? a->window : 0,
        .scale  = a->family == QR_FAMILY_T5 ? 1 : 1 / sqrtf((float)a->head_dim),
    };
    const qr_attention_limits limits = {
        .max_rows      = max_rows,
        .max_sequences = network->options.max_sequences,
        .max_kv_length = max_kv_length,
        .thread_count  = network->thread_count,
        .thread_node   = qr_team_placement(network->options.team)->node,
        .prefetch      = network->options.prefetch,
    };
    return qr_attention_plan_create(network->kernels, &shape, &limits, &network->options.allocator, plan_out, error);
}

static quire_status create_plans(qr_network *network, quire_error *error)
{
    const qr_network_options *o       = &network->options;
    const uint32_t            encoder = o->max_encoder_tokens;
    QR_TRY(create_plan(network, QR_ATTENTION_CAUSAL, &network->kv_shape, o->max_rows, o->max_model_len,
                       &network->self_plan, error));
    if (!has_encoder(network)) return QUIRE_OK;
    QR_TRY(
        create_plan(network, QR_ATTENTION_FULL, &network->kv_shape, o->max_rows, encoder, &network->cross_plan, error));
    QR_TRY(create_plan(network, QR_ATTENTION_FULL, &network->encoder_kv_shape, encoder, encoder, &network->encoder_plan,
                       error));
    return create_plan(network, QR_ATTENTION_FULL, &network->kv_shape, encoder, encoder, &network->cross_append_plan,
                       error);
}

static quire_status create_step_memory(qr_network *network, quire_error *error)
{
    qr_arena arena = {0};
    lay_out_buffers(network, &arena);
    QR_TRY(qr_mapping_create(arena.used, &network->options.bind, "step buffers", &network->step_memory, error));
    arena = (qr_arena){.base = network->step_memory.base, .capacity = arena.used};
    lay_out_buffers(network, &arena);
    if (!has_encoder(network)) return QUIRE_OK;
    for (uint32_t i = 0; i < network->encoder_block_count; i++) network->encoder_blocks[i] = i;
    return qr_mapping_create(encoder_kv_bytes(network), &network->options.bind, "encoder keys and values",
                             &network->encoder_kv, error);
}

static quire_status create(qr_network *network, quire_error *error)
{
    network->kernels = qr_kernels_select(network->options.isa);
    if (network->kernels == NULL)
        return qr_fail(error, QUIRE_ERR_INVALID, "isa: \"%s\" is not an instruction set of this build",
                       network->options.isa ? network->options.isa : "QUIRE_ISA");
    QR_TRY(load_weights(network, error));
    QR_TRY(create_step_memory(network, error));
    return create_plans(network, error);
}

quire_status qr_network_create(const quire_model *model, const qr_network_options *options, qr_network **network_out,
                               quire_error *error)
{
    *network_out        = NULL;
    qr_network *network = qr_allocate(&options->allocator, sizeof *network, 64);
    if (network == NULL) return qr_fail(error, QUIRE_ERR_NO_MEMORY, "network: no memory");
    set_up(network, model, options, qr_team_size(options->team));
    const quire_status status = create(network, error);
    if (status != QUIRE_OK) {
        qr_network_destroy(network);
        return status;
    }
    *network_out = network;
    return QUIRE_OK;
}

void qr_network_destroy(qr_network *network)
{
    if (network == NULL) return;
    qr_attention_plan_destroy(network->self_plan);
    qr_attention_plan_destroy(network->cross_plan);
    qr_attention_plan_destroy(network->encoder_plan);
    qr_attention_plan_destroy(network->cross_append_plan);
    if (network->linears != NULL)
        for (uint32_t i = 0; i < network->linear_count; i++) qr_projection_destroy(network->linears[i].projection);
    qr_projection_context_destroy(network->context);
    if (network->regions != NULL)
        for (uint32_t i = 0; i < network->thread_count; i++) qr_mapping_destroy(&network->regions[i]);
    qr_mapping_destroy(&network->embedding_rows);
    qr_mapping_destroy(&network->step_memory);
    qr_mapping_destroy(&network->encoder_kv);
    qr_arena_destroy(&network->parameters);
    const quire_allocator allocator = network->options.allocator;
    qr_deallocate(&allocator, network, sizeof *network);
}

/* ---- a step ---- */

void qr_network_attach_kv(qr_network *network, const qr_kv_memory *memory)
{
    qr_assert(memory->layers >= network->architecture->layers);
    qr_assert(memory->block_bytes == qr_kv_block_bytes(&network->kv_shape));
    network->kv = memory;
}

static bool tokens_are_valid(const qr_network *network, const int32_t *tokens, uint32_t count)
{
    bool valid = true;
    for (uint32_t i = 0; i < count; i++)
        valid &= tokens[i] >= 0 && (uint32_t)tokens[i] < network->architecture->vocab_size;
    return valid;
}

/* Whether the batch is within what the network was made for: a step must never touch memory that is not its own. */
static bool batch_is_valid(const qr_network *network, const qr_batch *batch)
{
    const qr_network_options *o = &network->options;
    if (batch->row_count > o->max_rows || batch->sequence_count > o->max_sequences ||
        batch->logits_count > o->max_logits_rows || !tokens_are_valid(network, batch->tokens, batch->row_count))
        return false;
    for (uint32_t i = 0; i < batch->sequence_count; i++) {
        const qr_batch_sequence *s = &batch->sequences[i];
        if ((uint64_t)s->row_start + s->row_count > batch->row_count ||
            (uint64_t)s->position + s->row_count > o->max_model_len || s->cross_length > o->max_encoder_tokens ||
            (has_encoder(network) && s->cross_length == 0))
            return false;
    }
    for (uint32_t i = 0; i < batch->logits_count; i++)
        if (batch->logits_rows[i] >= batch->row_count) return false;
    if (batch->encoder_count > (has_encoder(network) ? o->max_sequences : 0)) return false;
    uint64_t encoder_tokens = 0;
    for (uint32_t i = 0; i < batch->encoder_count; i++) {
        encoder_tokens += batch->encoders[i].token_count;
        if (encoder_tokens > o->max_encoder_tokens ||
            !tokens_are_valid(network, batch->encoders[i].tokens, batch->encoders[i].token_count))
            return false;
    }
    return true;
}

static void plan_rows(qr_network *network, const qr_batch *batch)
{
    for (uint32_t i = 0; i < batch->sequence_count; i++) {
        const qr_batch_sequence *s = &batch->sequences[i];
        network->self_sequences[i] = (qr_attention_sequence){.row_start = s->row_start,
                                                             .row_count = s->row_count,
                                                             .position  = s->position,
                                                             .kv_length = s->position + s->row_count,
                                                             .blocks    = s->blocks,
                                                             .node      = s->node};
        if (!has_encoder(network)) continue;
        network->cross_sequences[i]           = network->self_sequences[i];
        network->cross_sequences[i].kv_length = s->cross_length;
        network->cross_sequences[i].blocks    = s->cross_blocks;
    }
    qr_attention_plan_build(network->self_plan, network->self_sequences, batch->sequence_count);
    if (has_encoder(network))
        qr_attention_plan_build(network->cross_plan, network->cross_sequences, batch->sequence_count);
}

/* All encoder inputs of the step as one ragged batch, one after the other without padding. */
static void plan_encoder(qr_network *network, const qr_batch *batch)
{
    uint32_t rows = 0, blocks = 0;
    for (uint32_t i = 0; i < batch->encoder_count; i++) {
        const qr_batch_encoder     *item          = &batch->encoders[i];
        const qr_attention_sequence sequence      = {.row_start = rows,
                                                     .row_count = item->token_count,
                                                     .kv_length = item->token_count,
                                                     .blocks    = network->encoder_blocks + blocks,
                                                     .node      = item->node};
        network->encoder_sequences[i]             = sequence;
        network->cross_append_sequences[i]        = sequence;
        network->cross_append_sequences[i].blocks = item->blocks;
        for (uint32_t t = 0; t < item->token_count; t++) network->encoder_tokens[rows + t] = &item->tokens[t];
        rows += item->token_count;
        blocks += qr_ceil_div_u32(item->token_count, network->encoder_kv_shape.block_size);
    }
    qr_assert(blocks <= network->encoder_block_count);
    network->encoder_rows = rows;
    if (rows == 0) return;
    qr_attention_plan_build(network->encoder_plan, network->encoder_sequences, batch->encoder_count);
    qr_attention_plan_build(network->cross_append_plan, network->cross_append_sequences, batch->encoder_count);
}

static void run_thread(void *context, uint32_t thread, uint32_t thread_count)
{
    qr_network *network = context;
    qr_pass     pass    = {.network = network, .batch = network->batch, .thread = thread, .thread_count = thread_count};
    pass.mark_ns        = qr_now_ns();
    qr_stage_copy_blocks(&pass);
    if (network->architecture->family == QR_FAMILY_T5)
        qr_t5_forward(&pass);
    else
        qr_llama_forward(&pass);
    qr_stage_logits(&pass);
}

/* Bytes of one token's keys and values in one layer, as they must move. */
static uint64_t token_bytes(const qr_kv_shape *kv)
{
    return (uint64_t)kv->kv_heads * (2 * kv->head_dim * qr_dtype_bytes(kv->dtype) + (kv->dtype == QR_INT8 ? 12 : 0));
}

static void count_attention(qr_forward_report *report, const qr_attention_plan *plan, uint64_t layers)
{
    report->kv_bytes += layers * qr_attention_bytes(plan);
    report->attention_flops += layers * qr_attention_flops(plan);
}

static void count_projections(qr_forward_report *report, const qr_work *work, uint64_t rows)
{
    report->projection_bytes += work->bytes;
    report->projection_flops += work->flops * rows;
}

/* What the step must move and compute at least, from the plans and shapes. */
static void count_step(qr_network *network)
{
    const qr_batch        *batch  = network->batch;
    const qr_architecture *a      = network->architecture;
    qr_forward_report     *report = &network->report;
    const uint64_t         rows = batch->row_count, encoder_rows = network->encoder_rows;
    const uint64_t         token = token_bytes(&network->kv_shape);
    if (rows > 0) {
        count_projections(report, &network->decoder_work, rows);
        count_attention(report, network->self_plan, a->layers);
        if (has_encoder(network)) count_attention(report, network->cross_plan, a->layers);
    }
    if (encoder_rows > 0) {
        count_projections(report, &network->encoder_work, encoder_rows);
        count_projections(report, &network->cross_work, encoder_rows);
        count_attention(report, network->encoder_plan, a->encoder_layers);
        report->kv_bytes += encoder_rows * token_bytes(&network->encoder_kv_shape) * a->encoder_layers;
    }
    report->kv_bytes += (rows + encoder_rows) * token * a->layers;
    for (uint32_t i = 0; i < batch->copy_count; i++)
        report->kv_bytes += 2 * (uint64_t)batch->copies[i].slots * token * a->layers;
    report->projection_bytes += (rows + encoder_rows) * a->hidden_size * qr_dtype_bytes(network->embedding_dtype);
    if (batch->logits_count > 0) {
        report->logits_bytes = network->head_work.bytes;
        report->logits_flops = network->head_work.flops * batch->logits_count;
    }
    report->weight_bytes = report->projection_bytes + report->logits_bytes;
    report->flops        = report->projection_flops + report->attention_flops + report->logits_flops;
}

/* Slowest thread's attention time over the mean. */
static float imbalance(const qr_network *network)
{
    uint64_t slowest = 0, sum = 0;
    for (uint32_t thread = 0; thread < network->thread_count; thread++) {
        const uint64_t busy = qr_attention_busy_ns(network->self_plan, thread);
        slowest             = qr_max_u64(slowest, busy);
        sum += busy;
    }
    return sum == 0 ? 1 : (float)((double)slowest * network->thread_count / (double)sum);
}

quire_status qr_network_forward(qr_network *network, const qr_batch *batch, const float **logits_out,
                                qr_forward_report *report_out)
{
    if (logits_out != NULL) *logits_out = network->buffers.logits.data;
    if (qr_team_is_forked(network->options.team)) return QUIRE_ERR_FORKED;
    if (network->kv == NULL || !batch_is_valid(network, batch)) return QUIRE_ERR_EXECUTION;
    network->batch  = batch;
    network->report = (qr_forward_report){0};
    plan_rows(network, batch);
    plan_encoder(network, batch);
    qr_team_run(network->options.team, run_thread, network);
    count_step(network);
    network->report.imbalance = batch->row_count > 0 ? imbalance(network) : 1;
    if (report_out != NULL) *report_out = network->report;
    return QUIRE_OK;
}

/* ---- facts ---- */

qr_kv_shape qr_network_kv_shape(const qr_network *network) { return network->kv_shape; }
const char *qr_network_isa(const qr_network *network) { return network->kernels->isa; }
const char *qr_network_implementation(const qr_network *network)
{
    return qr_projection_implementation(network->context);
}
bool qr_network_batch_invariant(const qr_network *network) { return qr_projection_batch_invariant(network->context); }

uint64_t qr_network_weight_bytes(const qr_network *network)
{
    uint64_t bytes = network->parameters.used + embedding_bytes(network);
    for (uint32_t i = 0; i < network->linear_count; i++) bytes += qr_projection_bytes(network->linears[i].projection);
    return bytes;
}

uint64_t qr_network_scratch_bytes(const qr_network *network)
{
    const qr_attention_plan *plans[] = {network->self_plan, network->cross_plan, network->encoder_plan,
                                        network->cross_append_plan};
    uint64_t                 bytes   = network->step_memory.bytes + network->encoder_kv.bytes;
    for (size_t i = 0; i < sizeof plans / sizeof *plans; i++)
        if (plans[i] != NULL) bytes += qr_attention_plan_bytes(plans[i]);
    return bytes;
}
