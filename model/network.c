/* The life of a qr_network: its sizes, its buffers and plans, its forecast. Weights are load.c's, a step step.c's. */
#include "model/network.h"

#include "base/error.h"
#include "base/request.h"
#include "model/attention_probe.h"

/* ---- memory ---- */

static qr_rows take_rows(const qr_network *network, qr_arena *arena, qr_dtype dtype, uint32_t rows, uint32_t dim)
{
    const uint32_t stride = qr_row_stride(network->kernels, dtype, dim);
    qr_rows        taken  = {.dtype = dtype, .dim = dim, .stride = stride};
    taken.data            = qr_arena_take(arena, (size_t)rows * stride, qr_dtype_bytes(dtype));
    if (dtype != QR_INT8) return taken;
    taken.scale_block = network->codes.bits != 0 ? QR_CODES_BLOCK : 0;
    taken.scales      = QR_ARENA_TAKE(arena, float, (size_t)rows *qr_row_scales(&taken));
    return taken;
}

static void lay_out_stage_logs(qr_network *network, qr_arena *arena)
{
    const uint32_t slices = network->options.stage_slices;
    network->stage_logs   = NULL;
    if (slices == 0) return;
    network->stage_logs = QR_ARENA_TAKE(arena, qr_stage_log, network->thread_count);
    for (uint32_t thread = 0; thread < network->thread_count; thread++) {
        quire_stage *items = QR_ARENA_TAKE(arena, quire_stage, slices);
        if (network->stage_logs != NULL) network->stage_logs[thread].items = items;
    }
}

/* By attention and projections, of what a projection reads next: a row's scale is known when the row is whole. */
static qr_dtype written_dtype(qr_dtype read) { return read == QR_INT8 ? QR_F32 : read; }

static void lay_out_experts(qr_network *network, qr_arena *arena)
{
    const qr_architecture *a    = network->architecture;
    qr_buffers            *b    = &network->buffers;
    const uint32_t         rows = qr_network_most_rows(network), slots = rows * a->experts_per_token;
    const qr_dtype         fed = qr_feed_out_dtype(a, network->dtype);
    b->routed          = network->dtype == QR_F32 ? b->normed : take_rows(network, arena, QR_F32, rows, a->hidden_size);
    b->expert_fed      = take_rows(network, arena, written_dtype(fed), slots, a->expert_size);
    b->expert_fed_read = fed == QR_INT8 ? take_rows(network, arena, fed, slots, a->expert_size) : b->expert_fed;
    b->routing         = (qr_routing){.scores         = take_rows(network, arena, QR_F32, rows, a->experts),
                                      .chosen         = QR_ARENA_TAKE(arena, uint32_t, slots),
                                      .chosen_weights = QR_ARENA_TAKE(arena, float, slots),
                                      .first          = QR_ARENA_TAKE(arena, uint32_t, a->experts + 2),
                                      .row            = QR_ARENA_TAKE(arena, uint32_t, slots),
                                      .weights        = QR_ARENA_TAKE(arena, float, slots)};
}

static void lay_out_windows(qr_network *network, qr_arena *arena)
{
    const qr_architecture *a    = network->architecture;
    qr_buffers            *b    = &network->buffers;
    const uint32_t         rows = network->options.max_encoder_tokens, frames = rows * QR_FRAMES_PER_POSITION;
    const qr_dtype         read = qr_wide_dtype(network->dtype);
    b->frame_windows            = take_rows(network, arena, read, frames, QR_TAPS * a->feature_size);
    b->convolved                = take_rows(network, arena, QR_F32, frames, a->hidden_size);
    b->windows                  = take_rows(network, arena, read, rows, QR_TAPS * a->hidden_size);
    b->window =
        take_rows(network, arena, QR_F32, network->thread_count, QR_TAPS * qr_max_u32(a->feature_size, a->hidden_size));
}

/* Side by side, so that ranks exchange them as rows of one array. */
static void lay_out_partial_lse(qr_network *network, qr_arena *arena)
{
    const uint32_t groups = qr_ceil_div_u32(network->architecture->vocab_size, QR_LSE_COLUMNS);
    const size_t   all    = (size_t)network->options.max_logits_rows * groups;
    float *const   first  = QR_ARENA_TAKE(arena, float, QR_LSE_PARTS *all);
    qr_partial_lse lse    = {.groups = groups};
    if (first != NULL) {
        lse.greatest = first;
        lse.sum_exp  = first + all;
        lse.best     = (uint32_t *)(void *)(first + 2 * all);
    }
    network->buffers.partial_lse = lse;
    network->lse_rows = QR_ARENA_TAKE(arena, uint32_t, (size_t)QR_LSE_PARTS * network->options.max_logits_rows);
}

enum { EXCHANGE_BYTES = 4 << 20 }; /* more rows go in several messages */

/* Room for at least one row of the widest kind. */
static void lay_out_exchange(qr_network *network, qr_arena *arena)
{
    const qr_architecture *a     = network->architecture;
    const uint32_t         rows  = qr_network_most_rows(network);
    const uint32_t         inner = qr_max_u32(qr_max_u32(a->intermediate_size, a->expert_size), qr_q_columns(a));
    const size_t           row   = sizeof(float) * (size_t)qr_max_u32(a->vocab_size, qr_max_u32(a->hidden_size, inner));
    const size_t           slots = sizeof(float) * (size_t)rows * a->experts_per_token * a->expert_size;
    const size_t           all   = qr_max_u64(row * rows, slots);
    qr_buffers            *b     = &network->buffers;
    b->exchange_bytes            = qr_max_u64(row, qr_min_u64(all, EXCHANGE_BYTES));
    b->exchanged                 = QR_ARENA_TAKE(arena, char, b->exchange_bytes);
    b->exchange_offsets          = QR_ARENA_TAKE(arena, size_t, network->share.ranks + 1);
}

static void lay_out_buffers(qr_network *network, qr_arena *arena)
{
    const qr_architecture *a    = network->architecture;
    qr_buffers            *b    = &network->buffers;
    const uint32_t         rows = qr_network_most_rows(network), logits = network->options.max_logits_rows;
    const uint32_t         q = qr_q_columns(a), kv = qr_network_kv_columns(network);
    const qr_dtype         read = network->dtype, fed = qr_feed_out_dtype(a, read);

    b->hidden = take_rows(network, arena, QR_F32, rows, a->hidden_size);
    b->normed = take_rows(network, arena, read, rows, a->hidden_size);
    b->qkv    = take_rows(network, arena, QR_F32, rows, qr_network_q_columns(network) + 2 * kv);
    b->heads  = b->qkv;
    if (a->qk_norm == QR_QK_NORM_ROW && network->share.ranks > 1)
        b->heads = take_rows(network, arena, QR_F32, rows, q + qr_kv_columns(a));
    b->attended      = take_rows(network, arena, written_dtype(read), rows, q);
    b->attended_read = read == QR_INT8 ? take_rows(network, arena, read, rows, q) : b->attended;
    b->branch        = take_rows(network, arena, QR_F32, a->branch_norms ? rows : 0, a->hidden_size);
    if (a->experts > 0) lay_out_experts(network, arena);
    const uint32_t dense = qr_has_dense_layers(a) ? rows : 0;
    b->fed               = take_rows(network, arena, written_dtype(fed), dense, a->intermediate_size);
    b->fed_read          = fed == QR_INT8 ? take_rows(network, arena, fed, dense, a->intermediate_size) : b->fed;
    if (a->feature_size > 0) lay_out_windows(network, arena);
    b->selected    = take_rows(network, arena, read, logits, a->hidden_size);
    b->logits      = (qr_rows){.dtype = QR_F32, .dim = a->vocab_size, .stride = a->vocab_size};
    b->logits.data = QR_ARENA_TAKE(arena, float, (size_t)logits * a->vocab_size);

    lay_out_partial_lse(network, arena);
    network->logits_kept = QR_ARENA_TAKE(arena, bool, logits);
    network->kept_rows   = QR_ARENA_TAKE(arena, uint32_t, logits);
    if (network->share.ranks > 1) lay_out_exchange(network, arena);
    lay_out_stage_logs(network, arena);
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
    network->share =
        options->comm != NULL ? qr_share_of(a, options->comm->rank, options->comm->ranks) : qr_share_of(a, 0, 1);
    network->thread_count = thread_count;
    if (options->shared.allocate == NULL) network->options.shared = options->allocator;
    network->dtype           = qr_model_weight_dtype(model);
    network->codes           = qr_model_weight_codes(model);
    network->tuning          = (qr_attention_tuning){.prefetch = QR_PREFETCH_ALL};
    network->embedding_dtype = qr_wide_dtype(network->dtype);
    network->kv_shape =
        (qr_kv_shape){options->kv_dtype, network->share.kv_heads.count, a->head_dim, options->block_size};
    if (a->encoder_layers == 0) return;
    network->encoder_kv_shape = network->kv_shape;
    if (options->kv_dtype == QR_INT8) network->encoder_kv_shape.dtype = QR_BF16; /* read once per layer: no gain */
    network->encoder_block_count = options->max_encoder_tokens / options->block_size +
                                   qr_min_u32(options->max_sequences, options->max_encoder_tokens);
}

/* ---- attention plans ---- */

static qr_attention_shape attention_shape(const qr_network *network, qr_attention_kind kind, const qr_kv_shape *kv,
                                          uint32_t window)
{
    const qr_architecture *a = network->architecture;
    return (qr_attention_shape){
        .kind    = kind,
        .kv      = *kv,
        .heads   = network->share.heads.count,
        .window  = window,
        .scale   = a->attention_scale,
        .softcap = a->attention_cap,
    };
}

/* What the machine says of its nodes, until it is measured; 10 is local. */
static uint32_t percent_by_distance(const qr_placement *placement)
{
    uint32_t farthest = 0;
    if (placement->node_count == 1) return 0;
    for (uint32_t i = 0; i < placement->node_count; i++)
        for (uint32_t j = 0; j < i; j++) farthest = qr_max_u32(farthest, placement->node_distance[i][j]);
    return qr_min_u32(qr_max_u32(farthest, 10), 40) * 10;
}

/* The packed weights stand in for keys: they are there, beyond the caches, each thread's on its node. */
static void tune_attention(qr_network *network)
{
    const qr_attention_shape         shape   = attention_shape(network, QR_ATTENTION_CAUSAL, &network->kv_shape, 0);
    const quire_toggle               wanted  = network->options.prefetch;
    const qr_attention_probe_options options = {.kernels   = network->kernels,
                                                .shape     = &shape,
                                                .team      = network->options.team,
                                                .memory    = network->regions,
                                                .log       = network->options.bind.log,
                                                .allocator = &network->options.allocator};
    network->tuning.remote_percent           = percent_by_distance(qr_team_placement(network->options.team));
    qr_attention_probe(&options, &network->tuning);
    if (wanted != QUIRE_TOGGLE_AUTO)
        network->tuning.prefetch = wanted == QUIRE_TOGGLE_ON ? QR_PREFETCH_ALL : QR_PREFETCH_NONE;
}

static quire_status create_plan(qr_network *network, qr_attention_kind kind, const qr_kv_shape *kv, uint32_t window,
                                uint32_t max_rows, uint32_t max_kv_length, qr_attention_plan **plan_out,
                                quire_error *error)
{
    const qr_attention_shape  shape  = attention_shape(network, kind, kv, window);
    const qr_attention_limits limits = {
        .max_rows      = max_rows,
        .max_sequences = network->options.max_sequences,
        .max_kv_length = max_kv_length,
        .thread_count  = network->thread_count,
        .thread_node   = network->options.team ? qr_team_placement(network->options.team)->node : NULL,
        .tuning        = network->tuning,
    };
    return qr_attention_plan_create(network->kernels, &shape, &limits, &network->options.shared, plan_out, error);
}

static quire_status create_plans(qr_network *network, quire_error *error)
{
    const qr_network_options *o       = &network->options;
    const uint32_t            encoder = o->max_encoder_tokens;
    const qr_architecture    *a       = network->architecture;
    QR_TRY(create_plan(network, QR_ATTENTION_CAUSAL, &network->kv_shape, qr_widest_window(a), o->max_rows,
                       o->max_model_len, &network->self_plan, error));
    if (a->full_layers > 0)
        QR_TRY(create_plan(network, QR_ATTENTION_CAUSAL, &network->kv_shape, a->window, o->max_rows, o->max_model_len,
                           &network->window_plan, error));
    if (!qr_network_has_encoder(network)) return QUIRE_OK;
    QR_TRY(create_plan(network, QR_ATTENTION_FULL, &network->kv_shape, 0, o->max_rows, encoder, &network->cross_plan,
                       error));
    QR_TRY(create_plan(network, QR_ATTENTION_FULL, &network->encoder_kv_shape, 0, encoder, encoder,
                       &network->encoder_plan, error));
    return create_plan(network, QR_ATTENTION_FULL, &network->kv_shape, 0, encoder, encoder, &network->cross_append_plan,
                       error);
}

static void destroy_plans(qr_network *network)
{
    qr_attention_plan_destroy(network->self_plan);
    qr_attention_plan_destroy(network->window_plan);
    qr_attention_plan_destroy(network->cross_plan);
    qr_attention_plan_destroy(network->encoder_plan);
    qr_attention_plan_destroy(network->cross_append_plan);
}

static uint64_t plan_bytes(const qr_network *network)
{
    const qr_attention_plan *plans[] = {network->self_plan, network->window_plan, network->cross_plan,
                                        network->encoder_plan, network->cross_append_plan};
    uint64_t                 bytes   = 0;
    for (size_t i = 0; i < sizeof plans / sizeof *plans; i++)
        if (plans[i] != NULL) bytes += qr_attention_plan_bytes(plans[i]);
    return bytes;
}

/* ---- what no memory could mend ---- */

/* Finds the kernels, and asks them before anything is loaded; projections are asked as they are declared. */
static quire_status find_kernels(qr_network *network, quire_error *error)
{
    const qr_attention_shape shape = attention_shape(network, QR_ATTENTION_CAUSAL, &network->kv_shape, 0);
    QR_TRY(qr_share_check(network->architecture, network->share.ranks, error));
    QR_TRY(qr_kernels_check_cap(network->options.isa, error));
    network->kernels = qr_kernels_select(network->options.isa);
    return qr_attention_check(network->kernels, &shape, error);
}

/* ---- forecast ---- */

quire_status qr_network_plan_memory(const quire_model *model, const qr_network_options *options, uint32_t thread_count,
                                    qr_network_forecast *forecast_out, quire_error *error)
{
    qr_network network;
    set_up(&network, model, options, thread_count);
    network.options.team = NULL;
    QR_TRY(find_kernels(&network, error));
    QR_TRY(qr_network_declare(&network, error));
    (void)create_plans(&network, NULL); /* for their sizes; one that finds no memory counts as nothing */
    qr_arena step = {0};
    lay_out_buffers(&network, &step);
    *forecast_out = (qr_network_forecast){
        .weight_bytes          = qr_network_weight_bytes(&network),
        .scratch_bytes         = step.used + plan_bytes(&network),
        .encoder_scratch_bytes = encoder_kv_bytes(&network),
    };
    destroy_plans(&network);
    return QUIRE_OK;
}

/* ---- life ---- */

/* All threads write a part of each row and read the whole, so that no node is better than another. */
static quire_status create_shared(qr_network *network, size_t bytes, const char *what, qr_mapping *mapping_out,
                                  quire_error *error)
{
    const qr_placement    *placement = qr_team_placement(network->options.team);
    const qr_bind_options *bind      = &network->options.bind;
    QR_TRY(qr_mapping_create(bytes, bind, what, mapping_out, error));
    return qr_mapping_spread(mapping_out, placement->node_os, placement->node_count, placement->machine_nodes, bind,
                             error);
}

static quire_status create_step_memory(qr_network *network, quire_error *error)
{
    qr_arena arena = {0};
    lay_out_buffers(network, &arena);
    QR_TRY(create_shared(network, arena.used, "step buffers", &network->step_memory, error));
    arena = (qr_arena){.base = network->step_memory.base, .capacity = arena.used};
    lay_out_buffers(network, &arena);
    if (!qr_network_has_encoder(network)) return QUIRE_OK;
    for (uint32_t i = 0; i < network->encoder_block_count; i++) network->encoder_blocks[i] = i;
    return create_shared(network, encoder_kv_bytes(network), "encoder keys and values", &network->encoder_kv, error);
}

static quire_status create(qr_network *network, quire_error *error)
{
    QR_TRY(find_kernels(network, error));
    QR_TRY(qr_network_load(network, error));
    QR_TRY(create_step_memory(network, error));
    tune_attention(network);
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
    destroy_plans(network);
    for (qr_linear *l = network->parameters.first_linear; l != NULL; l = l->next) qr_projection_destroy(l->projection);
    qr_projection_context_destroy(network->context);
    if (network->regions != NULL)
        for (uint32_t i = 0; i < network->thread_count; i++) qr_mapping_destroy(&network->regions[i]);
    qr_mapping_destroy(&network->embedding_rows);
    qr_mapping_destroy(&network->encoder_embedding_rows);
    qr_mapping_destroy(&network->step_memory);
    qr_mapping_destroy(&network->encoder_kv);
    qr_arena_destroy(&network->parameter_memory);
    const quire_allocator allocator = network->options.allocator;
    qr_deallocate(&allocator, network->counted, network->counted_bytes);
    qr_deallocate(&allocator, network, sizeof *network);
}

/* ---- where its memory is ---- */

static uint64_t embedding_bytes_before(const qr_network *network, uint64_t rows, uint32_t thread)
{
    return rows * thread / network->thread_count *
           (qr_network_embedding_bytes(network) / network->architecture->vocab_size);
}

/* The rows as load.c deals them. */
static void visit_embedding(const qr_network *network, const qr_mapping *table, uint64_t rows,
                            const uint32_t *thread_node, qr_memory_visitor *visit, void *context)
{
    for (uint32_t t = 0; t < network->thread_count && table->base != NULL; t++) {
        const uint64_t begin = embedding_bytes_before(network, rows, t);
        visit(context, QUIRE_MEMORY_EMBEDDING, table->base + begin,
              embedding_bytes_before(network, rows, t + 1) - begin, thread_node[t]);
    }
}

void qr_network_count_remote(const qr_network *network, uint64_t *bytes_out, uint64_t *helped_out)
{
    const qr_attention_plan *plans[] = {network->self_plan, network->window_plan, network->cross_plan};
    *bytes_out = *helped_out = 0;
    for (size_t i = 0; i < sizeof plans / sizeof *plans; i++) {
        uint64_t bytes, helped;
        if (plans[i] == NULL) continue;
        qr_attention_remote(plans[i], &bytes, &helped);
        *bytes_out += bytes;
        *helped_out += helped;
    }
}

static void visit_plans(const qr_network *network, qr_memory_visitor *visit, void *context)
{
    const qr_attention_plan *plans[] = {network->self_plan, network->window_plan, network->cross_plan,
                                        network->encoder_plan, network->cross_append_plan};
    for (size_t i = 0; i < sizeof plans / sizeof *plans; i++)
        if (plans[i] != NULL) qr_attention_plan_visit_memory(plans[i], visit, context);
}

void qr_network_visit_memory(const qr_network *network, qr_memory_visitor *visit, void *context)
{
    const uint32_t      *node = qr_team_placement(network->options.team)->node;
    const qr_parameters *p    = &network->parameters;
    for (uint32_t t = 0; t < network->thread_count; t++)
        if (network->regions[t].base != NULL)
            visit(context, QUIRE_MEMORY_WEIGHTS, network->regions[t].base, qr_network_region_bytes(network, t),
                  node[t]);
    visit(context, QUIRE_MEMORY_BUFFERS, network->parameter_memory.base, network->parameter_memory.capacity,
          QR_ANY_NODE);
    visit_embedding(network, &network->embedding_rows, p->embedding.rows, node, visit, context);
    visit_embedding(network, &network->encoder_embedding_rows, p->encoder_embedding.rows, node, visit, context);
    visit(context, QUIRE_MEMORY_BUFFERS, network->step_memory.base, network->step_memory.bytes, QR_ANY_NODE);
    visit(context, QUIRE_MEMORY_BUFFERS, network->encoder_kv.base, network->encoder_kv.bytes, QR_ANY_NODE);
    visit_plans(network, visit, context);
    qr_projection_visit_memory(network->context, node, visit, context);
}

/* ---- facts ---- */

uint32_t qr_network_stages(const qr_network *network, uint32_t thread, const quire_stage **stages_out,
                           uint64_t *dropped_out)
{
    const bool          kept = network->stage_logs != NULL && thread < network->thread_count;
    const qr_stage_log *log  = kept ? &network->stage_logs[thread] : NULL;
    *stages_out              = log ? log->items : NULL;
    *dropped_out             = log ? log->dropped : 0;
    return log ? log->count : 0;
}

const float *qr_network_logits(const qr_network *network, uint32_t row)
{
    const float *logits = network->buffers.logits.data;
    return network->logits_kept[row] ? logits + (size_t)row * network->architecture->vocab_size : NULL;
}

bool qr_network_lost_ranks(const qr_network *network) { return network->lost_ranks; }

quire_status qr_model_kv_heads_of_rank(const quire_model *model, uint32_t rank, uint32_t ranks, uint32_t *kv_heads_out,
                                       quire_error *error)
{
    const qr_architecture *a = qr_model_architecture(model);
    QR_TRY(qr_share_check(a, ranks, error));
    *kv_heads_out = qr_share_of(a, rank, ranks).kv_heads.count;
    return QUIRE_OK;
}

const qr_partial_lse *qr_network_partial_lse(const qr_network *network) { return &network->buffers.partial_lse; }

qr_kv_shape qr_network_kv_shape(const qr_network *network) { return network->kv_shape; }
const char *qr_network_isa(const qr_network *network) { return network->kernels->isa; }
const char *qr_network_implementation(const qr_network *network)
{
    return qr_projection_implementation(network->context);
}
bool qr_network_batch_invariant(const qr_network *network) { return qr_projection_batch_invariant(network->context); }

uint64_t qr_network_weight_bytes(const qr_network *network)
{
    return network->packed_bytes + network->parameter_memory.used;
}

uint64_t qr_network_scratch_bytes(const qr_network *network)
{
    return network->step_memory.bytes + network->encoder_kv.bytes + plan_bytes(network);
}
