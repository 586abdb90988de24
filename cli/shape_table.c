/* Products from the family's declaration, shapes from the planner's steps. */
#include "cli/shape_table.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/bits.h"
#include "base/error.h"
#include "base/printable.h"
#include "base/request.h"
#include "bench/common/array.h"
#include "cache/block_pool.h"
#include "engine/options.h"
#include "model/outline.h"

/* ---- products ---- */

typedef struct builder {
    qr_shape_table   *table;
    const qr_outline *outline;
    bool              failed;
    uint32_t          layers;  /* of the group in hand */
    uint64_t          linears; /* that have their place in the table, of all layers */
} builder;

static void begin_group(builder *b, const char *stack, uint32_t layers, uint32_t of, uint32_t window)
{
    char seen[32] = "", share[32] = "";
    if (window > 0) snprintf(seen, sizeof seen, ", window %u", window);
    if (layers < of) snprintf(share, sizeof share, " of %u", of);
    b->layers = layers;
    if (!qr_array_reserve((void **)&b->table->groups, b->table->group_count, sizeof *b->table->groups)) {
        b->failed = true;
        return;
    }
    char *name = b->table->groups[b->table->group_count++];
    if (layers == 0)
        snprintf(name, sizeof *b->table->groups, "%s", stack);
    else
        snprintf(name, sizeof *b->table->groups, "%s, %u%s layer%s%s", stack, layers, share, qr_plural(of), seen);
}

static void add(builder *b, qr_product product)
{
    product.group  = (uint32_t)b->table->group_count - 1;
    product.layers = qr_max_u32(b->layers, 1);
    if (!QR_ARRAY_PUSH(b->table->products, b->table->product_count, product)) b->failed = true;
}

/* Nothing where the layer has no such projection. */
static void add_linear(builder *b, qr_product_kind kind, const char *before, const qr_linear *linear)
{
    const qr_projection_shape *shape   = &linear->shape;
    qr_product                 product = {
                        .kind = kind, .heads = 1, .matrices = shape->gated ? 2 : 1, .k = shape->k, .n = shape->columns};
    if (shape->columns == 0) return;
    snprintf(product.name, sizeof product.name, "%s%s", before, shape->name);
    b->linears += qr_max_u32(b->layers, 1);
    add(b, product);
}

/* Each sequence has keys of its own, so that attention is a product of each. */
static void add_attention(builder *b, qr_product_kind kind, const char *before, uint32_t window)
{
    const qr_architecture *a = &b->outline->architecture;
    for (uint32_t s = 0; s < b->table->run.sequence_count; s++) {
        qr_product product = {
            .kind = kind, .heads = a->heads, .matrices = 1, .window = window, .sequence = s, .k = a->head_dim};
        snprintf(product.name, sizeof product.name, "%sscores", before);
        add(b, product);
        product.sums = true;
        product.k    = 0;
        product.n    = a->head_dim;
        snprintf(product.name, sizeof product.name, "%ssums", before);
        add(b, product);
    }
}

static void add_experts(builder *b, const qr_layer *layer)
{
    const qr_architecture *a     = &b->outline->architecture;
    const size_t           first = b->table->product_count + 1;
    if (layer->experts == NULL) return;
    add_linear(b, QR_PRODUCT_ROWS, "", &layer->router);
    add_linear(b, QR_PRODUCT_EXPERT_ROWS, "", &layer->experts[0].in);
    add_linear(b, QR_PRODUCT_EXPERT_ROWS, "", &layer->experts[0].out);
    for (size_t i = first; i < b->table->product_count; i++)
        b->table->products[i].experts_per_token = a->experts_per_token;
    b->linears += 2ull * (a->experts - 1) * b->layers;
}

static void add_layer(builder *b, const qr_layer *layer, bool decoder, uint32_t window)
{
    const qr_product_kind rows = decoder ? QR_PRODUCT_ROWS : QR_PRODUCT_ENCODER_ROWS;
    add_linear(b, rows, "", &layer->qkv);
    add_attention(b, decoder ? QR_PRODUCT_SELF : QR_PRODUCT_ENCODER_SELF, "", window);
    add_linear(b, rows, "", &layer->output);
    if (layer->cross_q.shape.columns > 0) {
        add_linear(b, rows, "cross ", &layer->cross_q);
        add_attention(b, QR_PRODUCT_CROSS, "cross ", 0);
        add_linear(b, rows, "cross ", &layer->cross_output);
    }
    add_linear(b, rows, "", &layer->feed_in);
    add_linear(b, rows, "", &layer->feed_out);
    add_experts(b, layer);
}

static bool is_alike(const qr_linear *x, const qr_linear *y)
{
    return x->shape.k == y->shape.k && x->shape.columns == y->shape.columns && x->shape.gated == y->shape.gated;
}

static bool layers_are_alike(const qr_layer *x, const qr_layer *y)
{
    const bool experts = x->experts != NULL && y->experts != NULL;
    return is_alike(&x->qkv, &y->qkv) && is_alike(&x->output, &y->output) && is_alike(&x->cross_q, &y->cross_q) &&
           is_alike(&x->cross_kv, &y->cross_kv) && is_alike(&x->cross_output, &y->cross_output) &&
           is_alike(&x->feed_in, &y->feed_in) && is_alike(&x->feed_out, &y->feed_out) &&
           (x->experts != NULL) == (y->experts != NULL) &&
           (!experts || (is_alike(&x->experts->in, &y->experts->in) && is_alike(&x->experts->out, &y->experts->out)));
}

static uint32_t window_of(const builder *b, bool decoder, uint32_t layer)
{
    return decoder ? qr_layer_window(&b->outline->architecture, layer) : 0;
}

static bool is_in_group_of(const builder *b, const qr_layer *layers, bool decoder, uint32_t i, uint32_t first)
{
    return layers_are_alike(&layers[i], &layers[first]) && window_of(b, decoder, i) == window_of(b, decoder, first);
}

/* Layers of one shape once, with their number. */
static void add_stack(builder *b, const qr_layer *layers, uint32_t count, bool decoder)
{
    for (uint32_t first = 0; first < count; first++) {
        uint32_t before = 0, alike = 0;
        for (uint32_t i = 0; i < first; i++) before += is_in_group_of(b, layers, decoder, i, first);
        for (uint32_t i = first; i < count; i++) alike += is_in_group_of(b, layers, decoder, i, first);
        if (before > 0) continue;
        begin_group(b, decoder ? "decoder" : "encoder", alike, count, window_of(b, decoder, first));
        add_layer(b, &layers[first], decoder, window_of(b, decoder, first));
    }
}

static quire_status list_products(qr_shape_table *table, const qr_outline *outline, quire_error *error)
{
    const qr_architecture *a       = &outline->architecture;
    const qr_parameters   *p       = &outline->parameters;
    builder                b       = {.table = table, .outline = outline};
    uint64_t               linears = 0;
    if (p->convolutions[0].shape.columns > 0) begin_group(&b, "from features to the encoder's rows", 0, 0, 0);
    add_linear(&b, QR_PRODUCT_FRAME_ROWS, "", &p->convolutions[0]);
    add_linear(&b, QR_PRODUCT_ENCODER_ROWS, "", &p->convolutions[1]);
    add_stack(&b, p->encoder, a->encoder_layers, false);
    if (a->encoder_layers > 0) {
        begin_group(&b, "encoder to decoder", a->layers, a->layers, 0);
        add_linear(&b, QR_PRODUCT_ENCODER_ROWS, "cross ", &p->decoder[0].cross_kv);
    }
    add_stack(&b, p->decoder, a->layers, true);
    begin_group(&b, "logits", 0, 0, 0);
    add_linear(&b, QR_PRODUCT_LOGITS_ROWS, "", &p->head);
    for (const qr_linear *linear = p->first_linear; linear != NULL; linear = linear->next)
        linears += linear->shape.columns > 0;
    if (b.failed) return qr_fail(error, QUIRE_ERR_NO_MEMORY, "no memory for a table of products");
    if (b.linears != linears)
        return qr_fail(error, QUIRE_ERR_UNSUPPORTED, "shapes: %s has %llu projections, and this table places %llu",
                       a->model_type, (unsigned long long)linears, (unsigned long long)b.linears);
    return QUIRE_OK;
}

/* ---- steps ---- */

static uint32_t sequence_of(const quire_request *request) { return (uint32_t)(uintptr_t)request->user_data; }

static const quire_plan_sequence *find_sequence(const quire_plan *plan, uint32_t sequence)
{
    for (uint32_t i = 0; i < plan->sequence_count; i++)
        if (sequence_of(plan->sequences[i].request) == sequence) return &plan->sequences[i];
    return NULL;
}

/* Inputs are run whole, and every request's differs from the others'. */
static uint32_t encoder_length(const quire_plan *plan, quire_request_id id)
{
    for (uint32_t i = 0; i < plan->encoder_count; i++)
        if (plan->encoders[i].id == id) return plan->encoders[i].token_count;
    return 0;
}

/* From the first key that the first row sees to the last row's. */
static uint32_t keys_of(const quire_plan_sequence *s, uint32_t window)
{
    const uint32_t begin = window > 0 && s->position + 1 > window ? s->position + 1 - window : 0;
    return s->position + s->row_count - begin;
}

static qr_shape attention_shape(const qr_product *p, const quire_plan *plan, const quire_request_id *ids)
{
    const quire_plan_sequence *s    = find_sequence(plan, p->sequence);
    uint32_t                   rows = s != NULL ? s->row_count : 0, keys = 0;
    if (p->kind == QR_PRODUCT_ENCODER_SELF)
        rows = keys = encoder_length(plan, ids[p->sequence]);
    else if (s != NULL)
        keys = p->kind == QR_PRODUCT_CROSS ? s->cross_length : keys_of(s, p->window);
    return p->sums ? (qr_shape){rows, keys, p->n} : (qr_shape){rows, p->k, keys};
}

static qr_shape shape_of(const qr_product *p, const quire_plan *plan, const quire_request_id *ids)
{
    switch (p->kind) {
    case QR_PRODUCT_ROWS: return (qr_shape){plan->rows, p->k, p->n};
    case QR_PRODUCT_ENCODER_ROWS: return (qr_shape){plan->rows_encoder, p->k, p->n};
    case QR_PRODUCT_FRAME_ROWS: return (qr_shape){plan->rows_encoder * QR_FRAMES_PER_POSITION, p->k, p->n};
    case QR_PRODUCT_EXPERT_ROWS: return (qr_shape){plan->rows * p->experts_per_token, p->k, p->n};
    case QR_PRODUCT_LOGITS_ROWS: return (qr_shape){plan->rows_logits, p->k, p->n};
    default: return attention_shape(p, plan, ids);
    }
}

/* Which tokens they are changes no shape: all are token 0. */
static quire_status commit(quire_planner *planner, const quire_plan *plan, uint32_t step, quire_error *error)
{
    quire_sampled *sampled = calloc(plan->sample_count + 1, sizeof *sampled);
    if (sampled == NULL) return qr_fail(error, QUIRE_ERR_NO_MEMORY, "no memory for %u tokens", plan->sample_count);
    const quire_status status = quire_planner_commit(planner, sampled, plan->sample_count, step, error);
    free(sampled);
    return status;
}

static quire_status play_step(qr_shape_table *table, quire_planner *planner, uint32_t step, const quire_request_id *ids,
                              quire_error *error)
{
    const quire_plan *plan;
    quire_event       event;
    QR_TRY(quire_planner_plan(planner, step, &plan, error));
    table->steps[step] = (qr_shape_step){.sequences    = plan->sequence_count,
                                         .rows         = plan->rows,
                                         .rows_prompt  = plan->rows_prompt,
                                         .rows_encoder = plan->rows_encoder,
                                         .rows_logits  = plan->rows_logits};
    for (size_t i = 0; i < table->product_count; i++)
        table->shapes[step * table->product_count + i] = shape_of(&table->products[i], plan, ids);
    if (plan->rows + plan->rows_encoder == 0) return QUIRE_OK;
    QR_TRY(commit(planner, plan, step, error));
    while (quire_planner_poll(planner, &event, 1) == 1) continue;
    return QUIRE_OK;
}

static quire_status submit(const qr_shape_run *run, quire_planner *planner, const qr_model_facts *facts,
                           uint32_t sequence, quire_request_id *id, quire_error *error)
{
    const uint32_t prompt = run->prompt_tokens[sequence], encoder = run->encoder_tokens[sequence];
    const uint32_t size = facts->encoder_feature_size, frames = size > 0 ? encoder * QR_FRAMES_PER_POSITION : 0;
    int32_t       *tokens   = calloc(qr_max_u32(prompt, encoder) + 1, sizeof *tokens);
    float         *features = calloc((size_t)frames * size + 1, sizeof *features);
    quire_status   status   = QUIRE_ERR_NO_MEMORY;
    if (tokens != NULL && features != NULL) {
        tokens[0]                   = (int32_t)(sequence % facts->vocab_size); /* no two find each other's keys */
        features[0]                 = (float)sequence;
        const quire_request request = {.size             = sizeof request,
                                       .user_data        = (void *)(uintptr_t)sequence,
                                       .prompt           = prompt > 0 ? tokens : NULL,
                                       .prompt_count     = prompt,
                                       .encoder_input    = encoder > 0 && size == 0 ? tokens : NULL,
                                       .encoder_count    = size == 0 ? encoder : 0,
                                       .encoder_features = frames > 0 ? features : NULL,
                                       .encoder_frames   = frames,
                                       .max_tokens       = run->steps};
        status                      = quire_planner_submit(planner, &request, 0, id, error);
    } else
        qr_fail(error, status, "no memory for %u tokens", qr_max_u32(prompt, encoder));
    free(tokens);
    free(features);
    return status;
}

static quire_status play(qr_shape_table *table, quire_planner *planner, const qr_model_facts *facts, quire_error *error)
{
    quire_request_id ids[QR_SHAPE_SEQUENCES];
    for (uint32_t s = 0; s < table->run.sequence_count; s++)
        QR_TRY(submit(&table->run, planner, facts, s, &ids[s], error));
    for (uint32_t step = 0; step < table->run.steps; step++) QR_TRY(play_step(table, planner, step, ids, error));
    return QUIRE_OK;
}

/* An encoder input's blocks are whole extents; one extent more of each for the ends. */
static uint32_t blocks_needed(const qr_shape_run *run, uint32_t block_size)
{
    uint32_t blocks = 0;
    for (uint32_t s = 0; s < run->sequence_count; s++)
        blocks += (run->prompt_tokens[s] + run->steps + run->encoder_tokens[s]) / block_size + 3 * QR_EXTENT_BLOCKS;
    return blocks;
}

static quire_status create_planner(const quire_engine_options *options, const qr_model_facts *facts,
                                   const qr_shape_run *run, quire_planner **planner_out, quire_error *error)
{
    const quire_planner_model model = {.size                   = sizeof model,
                                       .vocab_size             = facts->vocab_size,
                                       .max_model_len          = options->max_model_len,
                                       .window                 = facts->window,
                                       .encoder_decoder        = facts->encoder_decoder,
                                       .decoder_start_token_id = facts->decoder_start_token_id,
                                       .encoder_feature_size   = facts->encoder_feature_size,
                                       .num_blocks             = blocks_needed(run, options->block_size)};
    return quire_planner_create(options, &model, planner_out, error);
}

quire_status qr_shape_table_init(qr_shape_table *table, const quire_model *model, const quire_engine_options *options,
                                 const qr_shape_run *run, quire_error *error)
{
    quire_engine_options resolved = *options;
    quire_planner       *planner  = NULL;
    qr_model_facts       facts;
    qr_outline           outline;
    *table = (qr_shape_table){.run = *run};
    qr_model_facts_of(model, &facts);
    QR_TRY(qr_options_resolve(&resolved, &facts, error));
    QR_TRY(qr_outline_init(&outline, qr_model_architecture(model), qr_model_weight_dtype(model), error));
    quire_status status = list_products(table, &outline, error);
    qr_outline_deinit(&outline);
    if (status == QUIRE_OK) status = create_planner(&resolved, &facts, run, &planner, error);
    table->shapes = calloc((size_t)run->steps * table->product_count + 1, sizeof *table->shapes);
    if (status == QUIRE_OK && table->shapes == NULL)
        status = qr_fail(error, QUIRE_ERR_NO_MEMORY, "no memory for a table of shapes");
    if (status == QUIRE_OK) status = play(table, planner, &facts, error);
    quire_planner_destroy(planner);
    return status;
}

void qr_shape_table_deinit(qr_shape_table *table)
{
    free(table->groups);
    free(table->products);
    free(table->shapes);
}
