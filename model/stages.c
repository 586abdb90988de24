/* The stages of a forward pass. Each is run by all threads of the team at once (SPMD) and ends with the barrier: rows
 * are dealt out for what works on rows, columns for projections, the attention plan's items for attention. */
#include "model/network.h"

#include <string.h>

#include "base/clock.h"
#include "base/request.h"

static quire_stage_kind kind_of(const quire_step *report, const uint64_t *bucket)
{
    if (bucket == &report->attention_ns) return QUIRE_STAGE_ATTENTION;
    if (bucket == &report->logits_ns) return QUIRE_STAGE_LOGITS;
    if (bucket == &report->sample_ns) return QUIRE_STAGE_SAMPLING;
    if (bucket == &report->network_ns) return QUIRE_STAGE_NETWORK;
    return bucket == &report->rowwise_ns ? QUIRE_STAGE_ROWWISE : QUIRE_STAGE_PROJECTION;
}

static void keep_stage(const qr_pass *pass, const uint64_t *bucket, uint64_t done_ns, uint64_t end_ns)
{
    qr_stage_log *log = pass->log;
    if (log->count == pass->network->options.stage_slices) {
        log->dropped++;
        return;
    }
    log->items[log->count++] = (quire_stage){.start_ns = pass->mark_ns,
                                             .busy_ns  = (uint32_t)(done_ns - pass->mark_ns),
                                             .wait_ns  = (uint32_t)(end_ns - done_ns),
                                             .kind     = kind_of(pass->network->report, bucket),
                                             .encoder  = pass->in_encoder};
}

void qr_stage_end(qr_pass *pass, uint64_t *bucket)
{
    qr_team *team = pass->network->options.team;
    if (pass->thread != 0 && pass->log == NULL) {
        qr_team_barrier(team);
        return;
    }
    const uint64_t done_ns = qr_now_ns();
    qr_team_barrier(team);
    const uint64_t end_ns = qr_now_ns();
    if (pass->log != NULL) keep_stage(pass, bucket, done_ns, end_ns);
    if (pass->thread == 0) {
        quire_step *report = pass->network->report;
        *(pass->in_encoder ? &report->encoder_ns : bucket) += done_ns - pass->mark_ns;
        report->barrier_ns += end_ns - done_ns;
    }
    pass->mark_ns = end_ns;
}

typedef struct row_range {
    uint32_t first, end;
} row_range;

/* The thread's part of 0..count-1. */
static row_range dealt(const qr_pass *pass, uint32_t count)
{
    const uint64_t n = count;
    return (row_range){(uint32_t)(n * pass->thread / pass->thread_count),
                       (uint32_t)(n * (pass->thread + 1) / pass->thread_count)};
}

static void copy_blocks(const qr_pass *pass, const qr_kv_memory *memory, const quire_plan_copy *copies, uint32_t count)
{
    if (count == 0) return;
    const row_range layers = dealt(pass, memory->layers);
    for (uint32_t layer = layers.first; layer < layers.end; layer++)
        for (uint32_t i = 0; i < count; i++)
            qr_kv_copy_block(&pass->network->kv_shape, qr_kv_memory_plane(memory, layer), copies[i].from, copies[i].to,
                             copies[i].slots);
}

void qr_stage_copy_blocks(qr_pass *pass)
{
    const quire_plan *plan    = pass->plan;
    const qr_network *network = pass->network;
    if (plan->copy_count + plan->local_copy_count == 0) return;
    copy_blocks(pass, network->kv, plan->copies, plan->copy_count);
    copy_blocks(pass, network->local_kv, plan->local_copies, plan->local_copy_count);
    qr_stage_end(pass, &pass->network->report->attention_ns);
}

static float *f32_row(const qr_rows *rows, uint32_t row) { return (float *)rows->data + (size_t)row * rows->stride; }

/* The share's columns. */
static void widen_embedding(const qr_network *network, const qr_mapping *rows, uint32_t token, float *out)
{
    const uint32_t columns = network->share.hidden.count;
    const size_t   offset  = (size_t)token * columns;
    out += network->share.hidden.first;
    if (network->embedding_dtype == QR_F32) {
        memcpy(out, (const float *)(const void *)rows->base + offset, columns * sizeof *out);
        return;
    }
    const qr_bf16 *row = (const qr_bf16 *)(const void *)rows->base + offset;
    for (uint32_t i = 0; i < columns; i++) out[i] = qr_f32_of_bf16(row[i]);
}

static void norm_row(const qr_network *network, const qr_rows *out, uint32_t row, const float *in, const qr_norm *norm)
{
    const float epsilon = network->architecture->norm_epsilon;
    if (norm->weight == NULL)
        network->kernels->convert(out, row, in);
    else if (norm->bias == NULL)
        network->kernels->rms_norm(out, row, in, norm->weight, epsilon);
    else
        network->kernels->layer_norm(out, row, in, norm->weight, norm->bias, epsilon);
}

/* row = row * scale + positions[position], in some columns */
static void add_position(const qr_network *network, float *row, qr_span columns, const float *positions,
                         uint32_t position)
{
    const size_t at    = (size_t)position * network->architecture->hidden_size + columns.first;
    const float  scale = network->architecture->embedding_scale;
    row += columns.first;
    for (uint32_t i = 0; i < columns.count; i++) row[i] *= scale;
    if (positions != NULL) network->kernels->axpy(row, positions + at, 1, columns.count);
}

static void embed_decoder_row(const qr_pass *pass, uint32_t row, float *out)
{
    const qr_network *network = pass->network;
    widen_embedding(network, &network->embedding_rows, (uint32_t)pass->plan->tokens[row], out);
    add_position(network, out, network->share.hidden, network->parameters.decoder_positions,
                 pass->plan->positions[row]);
}

static const quire_plan_encoder *encoder_item(const qr_pass *pass, uint32_t row)
{
    return &pass->plan->encoders[pass->network->encoder_row_items[row]];
}

static void embed_encoder_row(const qr_pass *pass, uint32_t row, float *out)
{
    const qr_network *network = pass->network;
    const bool        other   = network->architecture->encoder_embedding_name != NULL;
    widen_embedding(network, other ? &network->encoder_embedding_rows : &network->embedding_rows,
                    (uint32_t)encoder_item(pass, row)->tokens[network->encoder_row_positions[row]], out);
    add_position(network, out, network->share.hidden, network->parameters.encoder_positions,
                 network->encoder_row_positions[row]);
}

void qr_stage_embed(qr_pass *pass, uint32_t rows, bool encoder)
{
    const qr_network    *network = pass->network;
    const qr_parameters *p       = &network->parameters;
    const qr_rows       *hidden  = &network->buffers.hidden;
    const qr_norm       *norm    = encoder ? &p->encoder_embedding_norm : &p->decoder_embedding_norm;
    const row_range      mine    = dealt(pass, rows);
    for (uint32_t row = mine.first; row < mine.end; row++)
        (encoder ? embed_encoder_row : embed_decoder_row)(pass, row, f32_row(hidden, row));
    if (network->share.ranks > 1) qr_stage_end(pass, &network->report->rowwise_ns);
    qr_stage_exchange(pass, hidden, rows, QR_CUT_HIDDEN, false);
    for (uint32_t row = mine.first; norm->weight != NULL && row < mine.end; row++)
        norm_row(network, hidden, row, f32_row(hidden, row), norm);
}

void qr_stage_norm_into(qr_pass *pass, uint32_t rows, const qr_norm *norm, const qr_rows *to)
{
    const qr_network *network = pass->network;
    const row_range   mine    = dealt(pass, rows);
    for (uint32_t row = mine.first; row < mine.end; row++)
        norm_row(network, to, row, f32_row(&network->buffers.hidden, row), norm);
}

void qr_stage_norm(qr_pass *pass, uint32_t rows, const qr_norm *norm)
{
    qr_stage_norm_into(pass, rows, norm, &pass->network->buffers.normed);
    qr_stage_end(pass, &pass->network->report->rowwise_ns);
}

void qr_stage_norm_hidden(qr_pass *pass, uint32_t rows, const qr_norm *norm)
{
    const qr_network *network = pass->network;
    const qr_rows    *hidden  = &network->buffers.hidden;
    const row_range   mine    = dealt(pass, rows);
    for (uint32_t row = mine.first; row < mine.end; row++) {
        if (norm->weight != NULL) norm_row(network, hidden, row, f32_row(hidden, row), norm);
        network->kernels->convert(&network->buffers.normed, row, f32_row(hidden, row));
    }
    qr_stage_end(pass, &pass->network->report->rowwise_ns);
}

static void norm_before(qr_pass *pass, uint32_t rows, const qr_norm *norm)
{
    if (!pass->network->architecture->post_norm) qr_stage_norm(pass, rows, norm);
}

static void norm_after(qr_pass *pass, uint32_t rows, const qr_norm *norm)
{
    if (pass->network->architecture->post_norm) qr_stage_norm_hidden(pass, rows, norm);
}

void qr_stage_project(qr_pass *pass, const qr_linear *linear, const qr_rows *x, uint32_t rows,
                      const qr_projection_out *out)
{
    qr_projection_out biased = *out;
    biased.bias              = linear->bias;
    qr_projection_run(linear->projection, pass->thread, x, rows, &biased);
    qr_stage_end(pass, &pass->network->report->projection_ns);
}

/* ---- convolutions over rows ---- */

/* What a window is taken from. */
typedef struct window_source {
    const float *rows; /* [count] */
    size_t       stride;
    uint32_t     columns, count;
} window_source;

/* Row `row` of `out`: the window around `center`, by column then row; what lies outside of the source is zero. */
static void write_window(const qr_pass *pass, const qr_rows *out, uint32_t row, const window_source *from,
                         uint32_t center)
{
    float *window = f32_row(&pass->network->buffers.window, pass->thread);
    for (uint32_t tap = 0; tap < QR_TAPS; tap++) {
        const uint32_t at     = center + tap - QR_TAPS / 2; /* before the first: beyond the last */
        const float   *source = at < from->count ? from->rows + at * from->stride : NULL;
        for (uint32_t i = 0; i < from->columns; i++) window[i * QR_TAPS + tap] = source != NULL ? source[i] : 0;
    }
    pass->network->kernels->convert(out, row, window);
}

/* A row has two frames; where the last has one only, the other's window is written and not read. */
static void write_frame_windows(qr_pass *pass, uint32_t rows)
{
    const qr_network *network = pass->network;
    const uint32_t    size    = network->architecture->feature_size;
    const row_range   mine    = dealt(pass, rows * QR_FRAMES_PER_POSITION);
    for (uint32_t i = mine.first; i < mine.end; i++) {
        const uint32_t            row  = i / QR_FRAMES_PER_POSITION;
        const quire_plan_encoder *item = encoder_item(pass, row);
        const window_source       from = {item->features, size, size, item->frame_count};
        write_window(pass, &network->buffers.frame_windows, i, &from,
                     network->encoder_row_positions[row] * QR_FRAMES_PER_POSITION + i % QR_FRAMES_PER_POSITION);
    }
    qr_stage_end(pass, &pass->network->report->rowwise_ns);
}

static void write_windows(qr_pass *pass, uint32_t rows)
{
    const qr_network *network   = pass->network;
    const qr_rows    *convolved = &network->buffers.convolved;
    const row_range   mine      = dealt(pass, rows);
    for (uint32_t row = mine.first; row < mine.end; row++) {
        const uint32_t      position = network->encoder_row_positions[row];
        const window_source from = {f32_row(convolved, (row - position) * QR_FRAMES_PER_POSITION), convolved->stride,
                                    convolved->dim, encoder_item(pass, row)->frame_count};
        write_window(pass, &network->buffers.windows, row, &from, position * QR_FRAMES_PER_POSITION);
    }
    qr_stage_end(pass, &pass->network->report->rowwise_ns);
}

void qr_stage_convolve(qr_pass *pass, uint32_t rows)
{
    const qr_network    *network = pass->network;
    const qr_buffers    *buffers = &network->buffers;
    const qr_parameters *p       = &network->parameters;
    const row_range      mine    = dealt(pass, rows);
    write_frame_windows(pass, rows);
    qr_stage_project(pass, &p->convolutions[0], &buffers->frame_windows, rows * QR_FRAMES_PER_POSITION,
                     &(qr_projection_out){.to = buffers->convolved});
    write_windows(pass, rows);
    qr_stage_project(pass, &p->convolutions[1], &buffers->windows, rows, &(qr_projection_out){.to = buffers->hidden});
    for (uint32_t row = mine.first; row < mine.end; row++)
        add_position(network, f32_row(&buffers->hidden, row), (qr_span){0, network->architecture->hidden_size},
                     p->encoder_positions, network->encoder_row_positions[row]);
}

void qr_stage_quantise(qr_pass *pass, const qr_rows *from, const qr_rows *to, uint32_t rows)
{
    if (from->data == to->data) return;
    const row_range mine = dealt(pass, rows);
    for (uint32_t row = mine.first; row < mine.end; row++) pass->network->kernels->convert(to, row, f32_row(from, row));
    qr_stage_end(pass, &pass->network->report->rowwise_ns);
}

static void attend(qr_pass *pass, qr_attention_plan *plan, const qr_attention_args *args, bool append)
{
    uint64_t  *bucket   = &pass->network->report->attention_ns;
    const bool together = append && !qr_attention_needs_append_barrier(plan);
    if (append && !together) {
        qr_attention_append(plan, args, pass->thread);
        qr_stage_end(pass, bucket);
    }
    (together ? qr_attention_append_and_run : qr_attention_run)(plan, args, pass->thread);
    if (qr_attention_needs_merge(plan)) {
        qr_stage_end(pass, bucket);
        qr_attention_merge(plan, args, pass->thread);
    }
    qr_stage_end(pass, bucket);
}

/* RMS norm of count floats in place. */
static void normalise(const qr_network *network, float *x, uint32_t count, const float *weight)
{
    const qr_rows one = {.data = x, .dtype = QR_F32, .dim = count, .stride = count};
    network->kernels->rms_norm(&one, 0, x, weight, network->architecture->norm_epsilon);
}

/* No barrier: the norm that follows reads the same rows. */
static void add_normalised_branch(qr_pass *pass, const float *branch_norm, uint32_t rows)
{
    const qr_network *network = pass->network;
    const uint32_t    hidden  = network->architecture->hidden_size;
    const row_range   mine    = dealt(pass, rows);
    for (uint32_t row = mine.first; row < mine.end; row++) {
        float *branch = f32_row(&network->buffers.branch, row);
        normalise(network, branch, hidden, branch_norm);
        network->kernels->axpy(f32_row(&network->buffers.hidden, row), branch, network->architecture->residual_scale,
                               hidden);
    }
}

/* hidden += residual_scale * norm(x * W (+ bias)), where there is a branch norm; else without it */
static void add_to_hidden(qr_pass *pass, const qr_linear *linear, const qr_rows *x, const float *branch_norm,
                          uint32_t rows)
{
    const qr_network       *network = pass->network;
    const qr_rows          *to      = branch_norm != NULL ? &network->buffers.branch : &network->buffers.hidden;
    const qr_rows           own     = qr_share_view(to, network->share.hidden);
    const qr_projection_out sum     = {.to = own, .add = true, .multiply = network->architecture->residual_scale};
    const qr_projection_out branch  = {.to = own};
    qr_stage_project(pass, linear, x, rows, branch_norm != NULL ? &branch : &sum);
    qr_stage_exchange(pass, to, rows, QR_CUT_HIDDEN, false);
    if (branch_norm != NULL) add_normalised_branch(pass, branch_norm, rows);
}

static void add_attended(qr_pass *pass, const qr_linear *linear, const float *branch_norm, uint32_t rows)
{
    const qr_buffers *buffers = &pass->network->buffers;
    qr_stage_exchange(pass, &buffers->attended, rows, QR_CUT_QUERIES, false);
    qr_stage_quantise(pass, &buffers->attended, &buffers->attended_read, rows);
    add_to_hidden(pass, linear, &buffers->attended_read, branch_norm, rows);
}

/* The share's q and k of a row, to or from where rows have those of all ranks. */
static void copy_heads(const qr_network *network, uint32_t row, bool to_all)
{
    const uint32_t  dim = network->architecture->head_dim, q = qr_network_q_columns(network);
    const qr_share *share = &network->share;
    float *const own = f32_row(&network->buffers.qkv, row), *const all = f32_row(&network->buffers.heads, row);
    float *const queries = all + share->heads.first * dim;
    float *const keys    = all + qr_q_columns(network->architecture) + share->kv_heads.first * dim;
    memcpy(to_all ? queries : own, to_all ? own : queries, q * sizeof *own);
    memcpy(to_all ? keys : own + q, to_all ? own + q : keys, qr_network_kv_columns(network) * sizeof *own);
}

/* Of several ranks: each gets the others' q and k. */
static void gather_heads(qr_pass *pass, uint32_t rows)
{
    const qr_network *network = pass->network;
    const uint32_t    q = qr_q_columns(network->architecture), kv = qr_kv_columns(network->architecture);
    const qr_rows     queries = qr_share_view(&network->buffers.heads, (qr_span){0, q});
    const qr_rows     keys    = qr_share_view(&network->buffers.heads, (qr_span){q, kv});
    const row_range   mine    = dealt(pass, rows);
    for (uint32_t row = mine.first; row < mine.end; row++) copy_heads(network, row, true);
    qr_stage_end(pass, &pass->network->report->rowwise_ns);
    qr_stage_exchange(pass, &queries, rows, QR_CUT_QUERIES, false);
    qr_stage_exchange(pass, &keys, rows, QR_CUT_KEYS, false);
}

/* Of all heads of q together, and of k; norms by head are attention's. */
static void normalise_queries_and_keys(qr_pass *pass, const qr_layer *layer, uint32_t rows)
{
    const qr_network *network = pass->network;
    const uint32_t    q = qr_q_columns(network->architecture), kv = qr_kv_columns(network->architecture);
    const bool        several = network->share.ranks > 1;
    const row_range   mine    = dealt(pass, rows);
    if (several) gather_heads(pass, rows);
    for (uint32_t row = mine.first; row < mine.end; row++) {
        float *x = f32_row(&network->buffers.heads, row);
        normalise(network, x, q, layer->q_norm);
        normalise(network, x + q, kv, layer->k_norm);
        if (several) copy_heads(network, row, false);
    }
    qr_stage_end(pass, &pass->network->report->rowwise_ns);
}

/* Rows as a projection wrote them into the buffer of q, k and v. */
static qr_attention_args attention_args(const qr_network *network, char *plane)
{
    const qr_rows *rows = &network->buffers.qkv;
    const uint32_t dim  = network->architecture->head_dim;
    const qr_span  own  = {network->share.heads.first * dim, network->share.heads.count * dim};
    return (qr_attention_args){.plane     = plane,
                               .q         = rows->data,
                               .q_stride  = rows->stride,
                               .kv_stride = rows->stride,
                               .out       = qr_share_view(&network->buffers.attended, own)};
}

void qr_stage_self_attention(qr_pass *pass, const qr_layer *layer, const qr_self_attention *how, uint32_t rows)
{
    const qr_buffers      *buffers = &pass->network->buffers;
    const qr_architecture *a       = pass->network->architecture;
    qr_attention_args      args    = attention_args(pass->network, how->plane);
    qr_attention_bias      bias    = how->bias != NULL ? *how->bias : (qr_attention_bias){0};
    const qr_share        *share   = &pass->network->share;
    args.k                         = args.q + qr_network_q_columns(pass->network);
    args.v                         = args.k + qr_network_kv_columns(pass->network);
    args.prologue                  = how->prologue;
    if (args.prologue.k_common != NULL) args.prologue.k_common += share->kv_heads.first * a->head_dim;
    if (how->bias != NULL) bias.by_distance += (size_t)share->heads.first * bias.stride;
    args.bias  = how->bias != NULL ? &bias : NULL;
    args.sinks = how->sinks != NULL ? how->sinks + share->heads.first : NULL;
    norm_before(pass, rows, &layer->attention_norm);
    qr_stage_project(pass, &layer->qkv, &buffers->normed, rows, &(qr_projection_out){.to = buffers->qkv});
    if (a->qk_norm == QR_QK_NORM_ROW) normalise_queries_and_keys(pass, layer, rows);
    attend(pass, how->plan, &args, true);
    add_attended(pass, &layer->output, layer->attention_branch_norm, rows);
    norm_after(pass, rows, &layer->attention_norm);
}

void qr_stage_cross_attention(qr_pass *pass, const qr_layer *layer, uint32_t i, uint32_t rows)
{
    const qr_network       *network = pass->network;
    const qr_attention_args args    = attention_args(network, qr_kv_memory_plane(network->kv, i));
    qr_projection_out       out     = {.to = network->buffers.qkv};
    out.to.dim                      = qr_network_q_columns(network);
    norm_before(pass, rows, &layer->cross_norm);
    qr_stage_project(pass, &layer->cross_q, &network->buffers.normed, rows, &out);
    attend(pass, network->cross_plan, &args, false);
    add_attended(pass, &layer->cross_output, NULL, rows);
    norm_after(pass, rows, &layer->cross_norm);
}

void qr_stage_write_cross_blocks(qr_pass *pass, uint32_t rows)
{
    qr_network       *network = pass->network;
    const uint32_t    columns = qr_network_kv_columns(network);
    qr_projection_out out     = {.to = network->buffers.qkv};
    out.to.dim                = 2 * columns;
    for (uint32_t i = 0; i < network->architecture->layers; i++) {
        qr_attention_args args = attention_args(network, qr_kv_memory_plane(network->kv, i));
        args.k                 = args.q; /* there is no q, and an append reads none */
        args.v                 = args.k + columns;
        qr_stage_project(pass, &network->parameters.decoder[i].cross_kv, &network->buffers.normed, rows, &out);
        qr_attention_append(network->cross_append_plan, &args, pass->thread);
        qr_stage_end(pass, &network->report->attention_ns);
    }
}

void qr_stage_feed_forward(qr_pass *pass, const qr_layer *layer, uint32_t rows)
{
    const qr_buffers *buffers = &pass->network->buffers;
    const qr_rows     own     = qr_share_view(&buffers->fed, pass->network->share.inner);
    norm_before(pass, rows, &layer->feed_norm);
    qr_stage_project(pass, &layer->feed_in, &buffers->normed, rows, &(qr_projection_out){.to = own});
    qr_stage_exchange(pass, &buffers->fed, rows, QR_CUT_INNER, false);
    qr_stage_quantise(pass, &buffers->fed, &buffers->fed_read, rows);
    add_to_hidden(pass, &layer->feed_out, &buffers->fed_read, layer->feed_branch_norm, rows);
    norm_after(pass, rows, &layer->feed_norm);
}

/* A group's best column was counted from its rank's first one. */
static void number_columns(const qr_pass *pass)
{
    const qr_partial_lse *lse  = &pass->network->buffers.partial_lse;
    const row_range       mine = dealt(pass, pass->plan->rows_logits);
    for (uint32_t row = mine.first; row < mine.end; row++)
        for (uint32_t i = 0; i < lse->groups; i++) {
            uint32_t *best = &lse->best[(size_t)row * lse->groups + i];
            *best          = i * QR_LSE_COLUMNS + *best % QR_LSE_COLUMNS;
        }
}

/* Rank 0 chooses the tokens: it gets what it needs of the others' columns. */
static void collect_logits(qr_pass *pass)
{
    const qr_network *network = pass->network;
    const qr_buffers *b       = &network->buffers;
    const uint32_t    groups  = b->partial_lse.groups;
    const qr_rows     lse     = {
                .data = b->partial_lse.greatest, .dtype = QR_F32, .dim = groups, .stride = groups, .index = network->lse_rows};
    qr_rows logits = b->logits;
    logits.index   = network->kept_rows;
    qr_stage_exchange(pass, &lse, QR_LSE_PARTS * pass->plan->rows_logits, QR_CUT_GROUPS, true);
    qr_stage_exchange(pass, &logits, network->kept_count, QR_CUT_VOCABULARY, true);
    if (network->share.rank > 0) return;
    number_columns(pass);
    qr_stage_end(pass, &network->report->logits_ns);
}

/* Final norm of the rows that want logits, gathered, then the projection to the vocabulary. */
void qr_stage_logits(qr_pass *pass)
{
    qr_network       *network = pass->network;
    const quire_plan *plan    = pass->plan;
    if (plan->rows_logits == 0) return;
    const row_range mine = dealt(pass, plan->rows_logits);
    for (uint32_t i = mine.first; i < mine.end; i++)
        norm_row(network, &network->buffers.selected, i, f32_row(&network->buffers.hidden, plan->logits_rows[i]),
                 &network->parameters.decoder_norm);
    qr_stage_end(pass, &network->report->rowwise_ns);
    const float             scale = network->architecture->logits_scale;
    const qr_span           own   = network->share.vocabulary;
    const float            *bias  = network->parameters.head.bias;
    const qr_partial_lse    lse   = qr_partial_lse_at(&network->buffers.partial_lse, 0, own.first / QR_LSE_COLUMNS);
    const qr_projection_out out   = {.to          = qr_share_view(&network->buffers.logits, own),
                                     .bias        = bias != NULL ? bias + own.first : NULL,
                                     .multiply    = scale == 1 ? 0 : scale,
                                     .softcap     = network->architecture->logits_cap,
                                     .partial_lse = &lse,
                                     .kept        = network->logits_kept};
    if (own.count > 0)
        qr_projection_run(network->parameters.head.projection, pass->thread, &network->buffers.selected,
                          plan->rows_logits, &out);
    qr_stage_end(pass, &network->report->logits_ns);
    if (network->share.ranks > 1) collect_logits(pass);
}
