/* Whole decode steps of a model at a given context, without computing every sequence's prompt first: one sequence is
 * computed, and its keys and values are copied for the others. Every sequence then has blocks of its own, whose bytes
 * move as those of any other would; nothing is shared. A pass is the forward pass of one row per sequence and its
 * greedy choice; the row takes the same position in every pass. Or a pass is a whole prompt, with the choice of its
 * first token. Planning and commit are `quire kernel scheduler`'s. */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/bits.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/memory.h"
#include "base/request.h"
#include "base/rng.h"
#include "bench/micro/variants.h"
#include "model/model.h"
#include "model/sample.h"

enum {
    DTYPES      = QR_MICRO_INT4 + 1,
    ROUNDS      = 15,
    WARM_PASSES = 2,  /* as many as variants.c does not count */
    OWN_TOKENS  = 32, /* decoder tokens of an encoder-decoder model's sequence */
    STAGES      = 7,
    PASSES_MAX  = QR_ROUNDS_MAX + WARM_PASSES,
};

static const char *const stage_names[STAGES] = {"projections", "logits",   "attention", "row-wise",
                                                "sampling",    "barriers", "other"};

/* A model in one dtype, with the keys and values of all sequences. */
typedef struct subject {
    const qr_machine    *machine;
    quire_model         *model;
    qr_network          *network;
    qr_model_facts       facts;
    qr_kv_memory         kv;
    uint32_t             dtype;   /* of weights, keys and values; QR_MICRO_INT4: the latter int8 */
    uint32_t             context; /* tokens that a row sees: itself included, or its encoder's */
    uint32_t             most_rows, own_blocks, cross_blocks, block_size;
    uint32_t             prompt;                      /* tokens of one that is computed whole; 0: none */
    uint32_t             prompt_blocks;               /* behind those of all sequences */
    uint32_t            *blocks;                      /* [most_rows][own_blocks + cross_blocks], [prompt_blocks] */
    qr_sampler         **samplers;                    /* [threads] */
    int32_t             *tokens;                      /* [max(most_rows, tokens of a prompt)] */
    float               *features;                    /* of the encoder's input, zeros, where the model reads them */
    uint32_t            *positions, *numbers;         /* likewise; numbers: 0, 1, 2, ... */
    quire_plan_sequence *sequences;                   /* [most_rows] */
    quire_plan_sample   *samples;                     /* [most_rows] */
    qr_multiplier        multiplier, wide_multiplier; /* wide: of what is multiplied in bf16 beside int8 weights */
} subject;

typedef struct step_variant {
    subject     *s;
    uint32_t     rows, passes;     /* rows whose next token is chosen */
    uint64_t     stage_ns[STAGES]; /* of the passes that count */
    quire_step   report;           /* of the last pass */
    quire_status status;
} step_variant;

typedef struct bench {
    qr_machine  *machine;
    subject      subjects[DTYPES];
    uint32_t     subject_count, variant_count;
    qr_variant   variants[DTYPES * (QR_MICRO_LIST_MAX + 3)];
    step_variant steps[DTYPES * (QR_MICRO_LIST_MAX + 3)];
} bench;

/* ---- one pass ---- */

static const quire_request greedy = {0};

/* A row's greedy token is the next pass's input. */
static void choose(void *context, uint32_t thread, uint32_t thread_count)
{
    const step_variant *variant = context;
    subject            *s       = variant->s;
    for (uint32_t i = thread; i < variant->rows; i += thread_count) {
        const qr_sample_input input  = {.partial_lse = qr_partial_lse_at(qr_network_partial_lse(s->network), i, 0),
                                        .request     = &greedy};
        qr_sample_output      output = {0};
        qr_sample(s->samplers[thread], &input, &output);
        s->tokens[i] = output.failed ? 0 : output.token;
    }
}

static uint32_t own_tokens(const subject *s) { return s->facts.encoder_decoder ? OWN_TOKENS : s->context; }

static quire_plan_sequence sequence(const subject *s, uint32_t i, uint32_t position, uint32_t rows)
{
    const uint32_t *blocks = s->blocks + (size_t)i * (s->own_blocks + s->cross_blocks);
    return (quire_plan_sequence){.request      = &greedy,
                                 .row_start    = i,
                                 .row_count    = rows,
                                 .position     = position,
                                 .blocks       = blocks,
                                 .cross_blocks = s->facts.encoder_decoder ? blocks + s->own_blocks : NULL,
                                 .cross_length = s->facts.encoder_decoder ? s->context : 0,
                                 .node         = i % qr_team_placement(s->machine->team)->node_count};
}

static void count_stages(step_variant *variant, uint64_t all_ns)
{
    const quire_step *r             = &variant->report;
    const uint64_t    parts[STAGES] = {r->projection_ns, r->logits_ns, r->attention_ns,
                                       r->rowwise_ns,    r->sample_ns, r->barrier_ns};
    uint64_t          rest          = all_ns;
    for (int i = 0; i + 1 < STAGES; i++) {
        variant->stage_ns[i] += parts[i];
        rest -= qr_min_u64(rest, parts[i]);
    }
    variant->stage_ns[STAGES - 1] += rest;
}

static void compute(step_variant *variant, const quire_plan *plan, uint64_t start_ns)
{
    variant->report           = (quire_step){0};
    const quire_status status = qr_network_forward(variant->s->network, plan, choose, variant, &variant->report);
    if (status != QUIRE_OK) variant->status = status;
    if (++variant->passes > WARM_PASSES) count_stages(variant, qr_now_ns() - start_ns);
}

static void decode(void *context)
{
    step_variant  *variant = context;
    subject       *s       = variant->s;
    const uint64_t start   = qr_now_ns();
    for (uint32_t i = 0; i < variant->rows; i++) {
        s->positions[i] = own_tokens(s) - 1;
        s->sequences[i] = sequence(s, i, own_tokens(s) - 1, 1);
        s->samples[i]   = (quire_plan_sample){.row = i, .logits_row = i, .entry = i};
    }
    const quire_plan plan = {.rows           = variant->rows,
                             .sequence_count = variant->rows,
                             .sample_count   = variant->rows,
                             .rows_logits    = variant->rows,
                             .tokens         = s->tokens,
                             .positions      = s->positions,
                             .sequences      = s->sequences,
                             .samples        = s->samples,
                             .logits_rows    = s->numbers};
    compute(variant, &plan, start);
}

static void prefill(void *context)
{
    step_variant             *variant = context;
    subject                  *s       = variant->s;
    const uint64_t            start   = qr_now_ns();
    const uint32_t            last    = s->prompt - 1;
    const quire_plan_sequence prompt  = {.request   = &greedy,
                                         .row_count = s->prompt,
                                         .blocks = s->blocks + (size_t)s->most_rows * (s->own_blocks + s->cross_blocks)};
    const quire_plan_sample   sample  = {.row = last};
    const quire_plan          plan    = {.rows           = s->prompt,
                                         .sequence_count = 1,
                                         .sample_count   = 1,
                                         .rows_logits    = 1,
                                         .tokens         = s->tokens,
                                         .positions      = s->numbers,
                                         .sequences      = &prompt,
                                         .samples        = &sample,
                                         .logits_rows    = &last};
    compute(variant, &plan, start);
}

/* ---- keys and values ---- */

/* The encoder's input, if the model has one, then all tokens but the last of sequence 0. */
static quire_status compute_prompt(subject *s, quire_error *error)
{
    const uint32_t            count   = own_tokens(s);
    quire_step                report  = {0};
    const quire_plan_encoder  encoder = {.tokens      = s->tokens,
                                         .token_count = s->context,
                                         .features    = s->features,
                                         .frame_count = s->context * QR_FRAMES_PER_POSITION,
                                         .blocks      = s->blocks + s->own_blocks};
    const quire_plan_sequence first   = sequence(s, 0, 0, count);
    const quire_plan          plan    = {.rows           = count,
                                         .sequence_count = 1,
                                         .encoder_count  = s->facts.encoder_decoder,
                                         .tokens         = s->tokens,
                                         .positions      = s->numbers,
                                         .sequences      = &first,
                                         .encoders       = &encoder};
    if (qr_network_forward(s->network, &plan, NULL, NULL, &report) == QUIRE_OK) return QUIRE_OK;
    return qr_fail(error, QUIRE_ERR_EXECUTION, "the prompt of %u tokens cannot be computed", count);
}

static void copy_keys_and_values(subject *s)
{
    const uint32_t each = s->own_blocks + s->cross_blocks;
    for (uint32_t layer = 0; layer < s->kv.layers; layer++)
        for (uint32_t i = each; i < s->most_rows * each; i++) {
            char *plane = qr_kv_memory_plane(&s->kv, layer);
            memcpy(plane + s->blocks[i] * s->kv.block_bytes, plane + s->blocks[i % each] * s->kv.block_bytes,
                   s->kv.block_bytes);
        }
}

/* Sequences go to the nodes in turn; those of a node have adjacent blocks. */
static quire_status create_cache(subject *s, quire_error *error)
{
    const qr_placement *placement = qr_team_placement(s->machine->team);
    const uint32_t      nodes = placement->node_count, each = s->own_blocks + s->cross_blocks;
    const uint32_t      of_node = qr_ceil_div_u32(s->most_rows, nodes) * each;
    uint32_t            first_block[QR_MAX_NODES + 1];
    for (uint32_t n = 0; n <= nodes; n++) first_block[n] = n * of_node;
    for (uint32_t i = 0; i < s->most_rows * each; i++)
        s->blocks[i] = first_block[i / each % nodes] + i / each / nodes * each + i % each;
    const qr_kv_shape shape = qr_network_kv_shape(s->network);
    for (uint32_t i = 0; i < s->prompt_blocks; i++) s->blocks[s->most_rows * each + i] = nodes * of_node + i;
    first_block[nodes] += s->prompt_blocks;
    const qr_kv_memory_options options = {.layers      = s->facts.decoder_layers,
                                          .num_blocks  = first_block[nodes],
                                          .block_bytes = qr_kv_block_bytes(&shape),
                                          .first_block = first_block,
                                          .node_os     = placement->node_os,
                                          .node_count  = nodes,
                                          .bind        = s->machine->bind};
    QR_TRY(qr_kv_memory_create(&options, &s->kv, error));
    return qr_network_attach_kv(s->network, &s->kv, NULL, error);
}

/* ---- life ---- */

static quire_status open_model(const qr_micro_options *options, subject *s, quire_error *error)
{
    static const quire_dtype dtypes[DTYPES] = {QUIRE_DTYPE_F32, QUIRE_DTYPE_BF16, QUIRE_DTYPE_INT8, QUIRE_DTYPE_INT4};
    const char              *name           = options->model ? options->model : "tinyllama-1.1b";
    quire_model_options      model          = {
                      .size = sizeof model, .weight_dtype = dtypes[s->dtype], .weight_group_size = options->group_size};
    const quire_shape_override layers = {"num_hidden_layers", options->layers};
    struct stat                entry;
    if (stat(name, &entry) == 0) return quire_model_load(name, &model, &s->model, error);
    if (options->layers > 0) model.shape = &layers, model.shape_count = 1;
    return quire_model_synthetic(name, &model, &s->model, error);
}

static quire_status check_lengths(const subject *s, quire_error *error)
{
    const qr_model_facts *facts = &s->facts;
    const uint32_t        most = facts->encoder_decoder ? facts->max_encoder_positions : facts->max_position_embeddings;
    if (s->prompt > 0 && facts->encoder_decoder)
        return qr_fail(error, QUIRE_ERR_INVALID, "--prompt %u: the model has an encoder", s->prompt);
    if (most == 0 || qr_max_u32(s->context, s->prompt) <= most) return QUIRE_OK;
    const bool context = s->context > most;
    return qr_fail(error, QUIRE_ERR_INVALID, "--%s %u: the model has at most %u positions",
                   context ? "context" : "prompt", context ? s->context : s->prompt, most);
}

static quire_status create_arrays(subject *s, quire_error *error)
{
    const uint32_t rows = s->most_rows, most = qr_max_u32(s->context, s->prompt);
    const uint32_t tokens = qr_max_u32(rows, most + OWN_TOKENS);
    s->blocks    = calloc((size_t)rows * (s->own_blocks + s->cross_blocks) + s->prompt_blocks, sizeof *s->blocks);
    s->tokens    = calloc(tokens, sizeof *s->tokens);
    s->positions = calloc(tokens, sizeof *s->positions);
    s->numbers   = calloc(tokens, sizeof *s->numbers);
    s->sequences = calloc(rows, sizeof *s->sequences);
    s->samples   = calloc(rows, sizeof *s->samples);
    s->features =
        calloc((size_t)s->context * QR_FRAMES_PER_POSITION * s->facts.encoder_feature_size + 1, sizeof(float));
    s->samplers = calloc(s->machine->thread_count, sizeof(qr_sampler *));
    if (!s->blocks || !s->tokens || !s->positions || !s->numbers || !s->sequences || !s->samples || !s->samplers ||
        !s->features)
        return qr_fail(error, QUIRE_ERR_NO_MEMORY, "%u sequences of %u tokens", rows, s->context);
    for (uint32_t i = 0; i < tokens; i++) {
        s->numbers[i] = i;
        s->tokens[i]  = (int32_t)qr_random_below(1, 1, i, s->facts.vocab_size);
    }
    for (uint32_t t = 0; t < s->machine->thread_count; t++)
        QR_TRY(qr_sampler_create(s->machine->kernels, s->facts.vocab_size, 1, NULL, &s->samplers[t], error));
    return QUIRE_OK;
}

static quire_status create_subject(const qr_micro_options *options, subject *s, quire_error *error)
{
    QR_TRY(open_model(options, s, error));
    qr_model_facts_of(s->model, &s->facts);
    QR_TRY(check_lengths(s, error));
    s->own_blocks         = qr_ceil_div_u32(own_tokens(s), s->block_size);
    s->cross_blocks       = s->facts.encoder_decoder ? qr_ceil_div_u32(s->context, s->block_size) : 0;
    s->prompt_blocks      = qr_ceil_div_u32(s->prompt, s->block_size);
    const uint32_t tokens = qr_max_u32(own_tokens(s), s->prompt); /* of a sequence */
    QR_TRY(create_arrays(s, error));
    const qr_network_options network = {.team               = s->machine->team,
                                        .isa                = options->isa,
                                        .kv_dtype           = qr_multiplied_dtype(s->dtype),
                                        .block_size         = s->block_size,
                                        .max_rows           = qr_max_u32(s->most_rows, tokens),
                                        .max_sequences      = s->most_rows,
                                        .max_logits_rows    = s->most_rows,
                                        .max_encoder_tokens = s->facts.encoder_decoder ? s->context : 0,
                                        .max_model_len      = tokens,
                                        .batch_invariant    = true,
                                        .bind               = s->machine->bind};
    QR_TRY(qr_network_create(s->model, &network, &s->network, error));
    QR_TRY(create_cache(s, error));
    QR_TRY(compute_prompt(s, error));
    copy_keys_and_values(s);
    return QUIRE_OK;
}

static void destroy_subject(subject *s)
{
    for (uint32_t t = 0; s->samplers != NULL && t < s->machine->thread_count; t++) qr_sampler_destroy(s->samplers[t]);
    qr_network_destroy(s->network);
    qr_kv_memory_destroy(&s->kv);
    quire_model_destroy(s->model);
    free(s->blocks), free(s->tokens), free(s->positions), free(s->numbers), free(s->features);
    free(s->sequences), free(s->samples), free(s->samplers);
}

/* ---- variants and report ---- */

/* Bytes and operations come from a pass that does not count. */
static qr_variant *add_step(bench *b, const step_variant *what, void (*pass)(void *), const qr_variant *peak,
                            const qr_variant *wide_peak)
{
    step_variant *step    = &b->steps[b->variant_count];
    qr_variant   *variant = &b->variants[b->variant_count++];
    *step                 = *what;
    pass(step);
    step->passes = 0;
    *variant     = (qr_variant){.drive      = pass,
                                .context    = step,
                                .bytes      = (double)(step->report.weight_bytes + step->report.kv_bytes),
                                .flops      = (double)step->report.flops,
                                .peak       = peak,
                                .wide_flops = (double)step->report.wide_flops,
                                .wide_peak  = wide_peak};
    return variant;
}

static void add_decode(bench *b, subject *s, uint32_t rows, const qr_variant *peak, const qr_variant *wide_peak)
{
    const char *dtype   = qr_micro_dtype_name(s->dtype);
    qr_variant *variant = add_step(b, &(step_variant){.s = s, .rows = rows}, decode, peak, wide_peak);
    variant->params =
        json_pack("{s:s, s:I, s:I}", "dtype", dtype, "rows", (json_int_t)rows, "context", (json_int_t)s->context);
    snprintf(variant->name, sizeof variant->name, "%s, %u sequences, context %u", dtype, rows, s->context);
}

static void add_prefill(bench *b, subject *s, const qr_variant *peak, const qr_variant *wide_peak)
{
    const char *dtype   = qr_micro_dtype_name(s->dtype);
    qr_variant *variant = add_step(b, &(step_variant){.s = s, .rows = 1}, prefill, peak, wide_peak);
    variant->params     = json_pack("{s:s, s:I}", "dtype", dtype, "prompt", (json_int_t)s->prompt);
    snprintf(variant->name, sizeof variant->name, "%s, a prompt of %u", dtype, s->prompt);
}

static const qr_variant *add_peak(bench *b, uint32_t dtype, qr_dtype multiplied, qr_multiplier *multiplier)
{
    char        name[64];
    qr_variant *peak = &b->variants[b->variant_count++];
    snprintf(name, sizeof name, "P %s, in registers", qr_micro_dtype_name(dtype));
    qr_variant_multiply(peak, name, multiplier, b->machine, multiplied);
    return peak;
}

static quire_status add_subject(bench *b, const qr_micro_options *options, const qr_micro_list *rows, uint32_t dtype,
                                quire_error *error)
{
    subject *s = &b->subjects[b->subject_count++];
    *s         = (subject){.machine    = b->machine,
                           .dtype      = dtype,
                           .context    = options->context ? options->context : 512,
                           .prompt     = options->prompt,
                           .block_size = options->block_size ? options->block_size : 32};
    for (uint32_t i = 0; i < rows->count; i++) s->most_rows = qr_max_u32(s->most_rows, (uint32_t)rows->values[i]);
    if (s->block_size % 32 != 0)
        return qr_fail(error, QUIRE_ERR_INVALID, "--block-size %u: not a multiple of 32", s->block_size);
    QR_TRY(create_subject(options, s, error));
    const qr_dtype    multiplied = qr_multiplied_dtype(dtype);
    const qr_variant *peak = add_peak(b, dtype, multiplied, &s->multiplier), *wide_peak = peak;
    if (multiplied == QR_INT8) wide_peak = add_peak(b, QR_BF16, QR_BF16, &s->wide_multiplier);
    for (uint32_t i = 0; i < rows->count; i++) add_decode(b, s, (uint32_t)rows->values[i], peak, wide_peak);
    if (s->prompt > 0) add_prefill(b, s, peak, wide_peak);
    return QUIRE_OK;
}

static void judge(qr_variant *variant, const step_variant *step)
{
    uint64_t all = 0;
    size_t   at  = 0;
    if (variant->peak == NULL) return;
    qr_variant_limit(variant, variant->gbs / variant->floor_fraction, "max(bytes/R, flops/P)", false);
    for (int i = 0; i < STAGES; i++) all += step->stage_ns[i];
    for (int i = 0; i < STAGES; i++) {
        char         key[32];
        const double share = (double)step->stage_ns[i] / (double)all;
        snprintf(key, sizeof key, "%s_share", stage_names[i]);
        qr_variant_note(variant, key, share);
        at += (size_t)snprintf(variant->note + at, sizeof variant->note - at, "%s%s %.1f %%", i ? ", " : "",
                               stage_names[i], 100 * share);
    }
}

static quire_status decode_all(bench *b, const qr_micro_options *options, FILE *out, quire_error *error)
{
    const qr_micro_list dtypes = options->dtypes.count ? options->dtypes : (qr_micro_list){1, {QR_BF16}};
    const qr_micro_list rows   = options->rows.count ? options->rows : (qr_micro_list){4, {1, 4, 16, 64}};
    for (uint32_t i = 0; i < dtypes.count; i++)
        QR_TRY(add_subject(b, options, &rows, (uint32_t)dtypes.values[i], error));
    qr_variants all = {.machine = b->machine, .variant = b->variants, .count = b->variant_count};
    QR_TRY(qr_variants_run(&all, options->rounds ? options->rounds : ROUNDS, error));
    for (uint32_t i = 0; i < b->variant_count; i++) {
        if (b->steps[i].status != QUIRE_OK) return qr_fail(error, b->steps[i].status, "a step could not be computed");
        judge(&b->variants[i], &b->steps[i]);
    }
    return qr_variants_report(&all, "step", options->json, out, error);
}

static quire_status run(qr_machine *machine, const qr_micro_options *options, FILE *out, quire_error *error)
{
    bench *b = calloc(1, sizeof *b);
    if (b == NULL) return qr_fail(error, QUIRE_ERR_NO_MEMORY, "the benchmark's state");
    b->machine                = machine;
    const quire_status status = decode_all(b, options, out, error);
    for (uint32_t i = 0; i < b->subject_count; i++) destroy_subject(&b->subjects[i]);
    free(b);
    return status;
}

int qr_micro_step(const qr_micro_options *options, FILE *out) { return qr_micro_on_machine(options, run, out); }
