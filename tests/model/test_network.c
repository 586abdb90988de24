/* A network run directly, without engine or scheduler: the golden models' tokens and logits, and the promise that a
 * sequence's logits have the same bits however its rows are cut, batched, spread over threads or laid out in blocks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "kernels/attention.h"
#include "model/model.h"
#include "topology/team.h"

enum {
    MAX_CASES    = 4,
    MAX_TOKENS   = 64,
    MAX_INPUT    = 224,
    MAX_VOCAB    = 320,
    MAX_FEATURES = 2048,
    BLOCK        = 32,
    TABLE        = 8,
    MODEL_LEN    = 256
};

/* ---- golden models ---- */

typedef struct golden_case {
    bool     has_encoder, has_last;
    int32_t  input[MAX_INPUT];   /* of the encoder where there is one, else the prompt */
    int32_t  prompt[MAX_TOKENS]; /* of the decoder */
    float    features[MAX_FEATURES];
    uint32_t frame_count;
    uint32_t input_count, prompt_count, token_count;
    int32_t  tokens[MAX_TOKENS];
    float    first_logits[MAX_VOCAB], last_logits[MAX_VOCAB];
} golden_case;

typedef struct golden {
    char        path[512];
    golden_case cases[MAX_CASES];
    uint32_t    case_count;
} golden;

static uint32_t read_tokens(const json_t *array, int32_t *tokens, size_t capacity)
{
    const size_t count = json_array_size(array);
    assert_in_range(count, 1, capacity);
    for (size_t i = 0; i < count; i++) tokens[i] = (int32_t)json_integer_value(json_array_get(array, i));
    return (uint32_t)count;
}

static void read_logits(const json_t *array, float *logits)
{
    assert_in_range(json_array_size(array), 1, MAX_VOCAB);
    for (size_t i = 0; i < json_array_size(array); i++) logits[i] = (float)json_number_value(json_array_get(array, i));
}

/* Two frames make one row of the encoder. */
static void read_features(const json_t *frames, golden_case *c)
{
    size_t i       = 0;
    c->frame_count = (uint32_t)json_array_size(frames);
    c->input_count = (c->frame_count + 1) / 2;
    for (size_t f = 0; f < c->frame_count; f++)
        for (size_t k = 0; k < json_array_size(json_array_get(frames, f)); k++) {
            assert_in_range(i, 0, MAX_FEATURES - 1);
            c->features[i++] = (float)json_number_value(json_array_get(json_array_get(frames, f), k));
        }
}

static void read_case(const json_t *json, golden_case *c)
{
    const json_t *encoder = json_object_get(json, "encoder_input"), *frames = json_object_get(json, "encoder_features");
    c->has_encoder = encoder != NULL || frames != NULL;
    if (frames != NULL)
        read_features(frames, c);
    else
        c->input_count = read_tokens(encoder ? encoder : json_object_get(json, "prompt"), c->input, MAX_INPUT);
    if (c->has_encoder && json_object_get(json, "prompt") != NULL)
        c->prompt_count = read_tokens(json_object_get(json, "prompt"), c->prompt, MAX_TOKENS);
    c->token_count = read_tokens(json_object_get(json, "tokens"), c->tokens, MAX_TOKENS);
    read_logits(json_object_get(json, "first_logits"), c->first_logits);
    c->has_last = json_object_get(json, "last_logits") != NULL;
    if (c->has_last) read_logits(json_object_get(json, "last_logits"), c->last_logits);
}

static const golden *golden_of(const char *name)
{
    static golden read;
    char          path[600];
    memset(&read, 0, sizeof read);
    snprintf(read.path, sizeof read.path, "%s/tests/models/%s", QUIRE_SOURCE_DIR, name);
    snprintf(path, sizeof path, "%s/expected.json", read.path);
    json_error_t error;
    json_t      *root = json_load_file(path, 0, &error);
    if (root == NULL) fail_msg("%s: %s", path, error.text);
    const json_t *cases = json_object_get(root, "cases");
    assert_in_range(json_array_size(cases), 1, MAX_CASES);
    read.case_count = (uint32_t)json_array_size(cases);
    for (uint32_t i = 0; i < read.case_count; i++) read_case(json_array_get(cases, i), &read.cases[i]);
    json_decref(root);
    return &read;
}

/* ---- a model on a team, with its keys and values ---- */

typedef struct setup {
    const char *name;
    uint32_t    threads;
    quire_dtype weights;
    qr_dtype    kv;
    uint32_t    max_rows; /* 0 = all at once */
} setup;

typedef struct machine {
    quire_model   *model;
    qr_team       *team;
    qr_network    *network;
    qr_kv_memory   kv;
    qr_model_facts facts;
} machine;

static void check(quire_status status, const quire_error *error)
{
    if (status != QUIRE_OK) fail_msg("%s", error->message);
}

static qr_network_options network_options(const setup *s, qr_team *team)
{
    return (qr_network_options){.team               = team,
                                .kv_dtype           = s->kv,
                                .block_size         = BLOCK,
                                .max_rows           = s->max_rows ? s->max_rows : 512,
                                .max_sequences      = MAX_CASES,
                                .max_logits_rows    = MAX_CASES,
                                .max_encoder_tokens = 256,
                                .max_model_len      = MODEL_LEN,
                                .batch_invariant    = true,
                                .bind               = {.huge_pages = QUIRE_TOGGLE_OFF}};
}

static void open_machine(machine *m, const setup *s, const char *path)
{
    static qr_placement placement;
    quire_error         error = {0};
    *m                        = (machine){0};
    check(quire_model_load(path,
                           &(quire_model_options){.size = sizeof(quire_model_options), .weight_dtype = s->weights},
                           &m->model, &error),
          &error);
    qr_model_facts_of(m->model, &m->facts);
    placement                 = (qr_placement){.thread_count = s->threads, .node_count = 1, .bind = QUIRE_BIND_NONE};
    placement.node_threads[0] = s->threads;
    check(qr_team_create(&placement, &(qr_team_options){0}, &m->team, &error), &error);
    const qr_network_options options = network_options(s, m->team);
    check(qr_network_create(m->model, &options, &m->network, &error), &error);
    const qr_kv_shape kv             = qr_network_kv_shape(m->network);
    const uint32_t    first_block[2] = {0, 2 * MAX_CASES * TABLE}, node_os[1] = {0};
    check(qr_kv_memory_create(&(qr_kv_memory_options){.layers      = m->facts.decoder_layers,
                                                      .num_blocks  = first_block[1],
                                                      .block_bytes = qr_kv_block_bytes(&kv),
                                                      .first_block = first_block,
                                                      .node_os     = node_os,
                                                      .node_count  = 1,
                                                      .bind        = options.bind},
                              &m->kv, &error),
          &error);
    memset(m->kv.mapping.base, 0xff, (size_t)m->kv.layers * m->kv.plane_bytes); /* NaN wherever nobody has written */
    check(qr_network_attach_kv(m->network, &m->kv, NULL, &error), &error);
}

static void close_machine(machine *m)
{
    qr_network_destroy(m->network);
    qr_kv_memory_destroy(&m->kv);
    qr_team_destroy(m->team);
    quire_model_destroy(m->model);
}

/* ---- greedy decoding of some cases side by side ---- */

typedef struct way {
    uint32_t chunk;     /* prompt rows per step, 0 = all */
    bool     scattered; /* blocks in a random order */
    bool     staggered; /* case i starts at step 3 i */
    bool     moved;     /* each step first copies every sequence's last block elsewhere (copy on write) */
} way;

typedef struct transcript {
    int32_t  tokens[MAX_TOKENS];
    uint32_t token_count;
    float    logits[MAX_TOKENS][MAX_VOCAB];
} transcript;

typedef struct stream {
    const golden_case *golden;
    quire_request      request;
    int32_t            sequence[MODEL_LEN]; /* prompt and output */
    uint32_t           prompt_count, length, computed;
    uint32_t           blocks[TABLE], spare, cross_blocks[TABLE];
    bool               encoded;
} stream;

static void start_sequence(stream *s, int32_t decoder_start)
{
    const golden_case *c      = s->golden;
    const bool         starts = c->has_encoder && c->prompt_count == 0;
    const int32_t     *prompt = starts ? &decoder_start : c->has_encoder ? c->prompt : c->input;
    s->prompt_count           = starts ? 1 : c->has_encoder ? c->prompt_count : c->input_count;
    s->length                 = s->prompt_count;
    memcpy(s->sequence, prompt, s->prompt_count * sizeof *prompt);
}

static void start_streams(stream *streams, const golden *g, uint32_t first, uint32_t count, const machine *m, way w)
{
    uint32_t ids[2 * MAX_CASES * TABLE];
    for (uint32_t i = 0; i < 2 * MAX_CASES * TABLE; i++) ids[i] = i;
    for (uint32_t i = 2 * MAX_CASES * TABLE - 1; w.scattered && i > 0; i--) {
        const uint32_t j = qr_random_below(99, 1, i, i + 1), t = ids[i];
        ids[i] = ids[j];
        ids[j] = t;
    }
    for (uint32_t i = 0; i < count; i++) {
        stream *s = &streams[i];
        *s        = (stream){.golden = &g->cases[first + i]};
        start_sequence(s, m->facts.decoder_start_token_id);
        s->request = (quire_request){.prompt_count = s->prompt_count, .max_tokens = s->golden->token_count};
        memcpy(s->blocks, ids + i * 2 * TABLE, sizeof s->blocks);
        memcpy(s->cross_blocks, ids + (i * 2 + 1) * TABLE, sizeof s->cross_blocks);
        if (!s->golden->has_encoder)
            s->spare = s->cross_blocks[0];
        else
            s->spare = s->blocks[TABLE - 1];
    }
}

typedef struct step {
    int32_t             tokens[512];
    uint32_t            positions[512], logits_rows[MAX_CASES];
    quire_plan_sequence sequences[MAX_CASES];
    quire_plan_copy     copies[MAX_CASES];
    quire_plan_encoder  encoders[MAX_CASES];
    stream             *members[MAX_CASES], *samplers[MAX_CASES];
    quire_plan          plan;
} step;

static void add_encoder(step *t, stream *s)
{
    t->encoders[t->plan.encoder_count++] = (quire_plan_encoder){.tokens      = s->golden->input,
                                                                .token_count = s->golden->input_count,
                                                                .features    = s->golden->features,
                                                                .frame_count = s->golden->frame_count,
                                                                .blocks      = s->cross_blocks};
    s->encoded                           = true;
}

static void move_last_block(step *t, stream *s)
{
    const uint32_t slots = s->computed % BLOCK;
    if (slots == 0) return;
    uint32_t *block                 = &s->blocks[s->computed / BLOCK];
    t->copies[t->plan.copy_count++] = (quire_plan_copy){*block, s->spare, slots};
    const uint32_t old              = *block;
    *block                          = s->spare;
    s->spare                        = old;
}

static void add_rows(step *t, stream *s, way w)
{
    uint32_t rows = s->length - s->computed;
    if (w.chunk > 0 && rows > w.chunk) rows = w.chunk;
    const uint32_t start                   = t->plan.rows;
    t->members[t->plan.sequence_count]     = s;
    t->sequences[t->plan.sequence_count++] = (quire_plan_sequence){.request      = &s->request,
                                                                   .row_start    = start,
                                                                   .row_count    = rows,
                                                                   .position     = s->computed,
                                                                   .blocks       = s->blocks,
                                                                   .cross_blocks = s->cross_blocks,
                                                                   .cross_length = s->golden->input_count};
    for (uint32_t i = 0; i < rows; i++) {
        t->tokens[start + i]    = s->sequence[s->computed + i];
        t->positions[start + i] = s->computed + i;
    }
    t->plan.rows += rows;
    s->computed += rows;
    if (s->computed < s->length) return;
    t->samplers[t->plan.rows_logits]      = s;
    t->logits_rows[t->plan.rows_logits++] = start + rows - 1;
}

static void take_token(stream *s, transcript *out, const float *logits, uint32_t vocab)
{
    uint32_t best = 0;
    for (uint32_t i = 1; i < vocab; i++)
        if (logits[i] > logits[best]) best = i;
    memcpy(out->logits[out->token_count], logits, vocab * sizeof *logits);
    out->tokens[out->token_count++] = (int32_t)best;
    s->sequence[s->length++]        = (int32_t)best;
}

static quire_status forward(const machine *m, const quire_plan *plan)
{
    quire_step report = {0};
    return qr_network_forward(m->network, plan, NULL, NULL, &report);
}

/* Decodes cases [first, first + count) together; transcripts[i] belongs to case first + i. */
static void decode(machine *m, const golden *g, uint32_t first, uint32_t count, way w, transcript *transcripts)
{
    static stream streams[MAX_CASES];
    static step   t;
    start_streams(streams, g, first, count, m, w);
    memset(transcripts, 0, count * sizeof *transcripts);
    for (uint32_t number = 0;; number++) {
        memset(&t, 0, sizeof t);
        t.plan.tokens      = t.tokens;
        t.plan.positions   = t.positions;
        t.plan.sequences   = t.sequences;
        t.plan.logits_rows = t.logits_rows;
        t.plan.copies      = t.copies;
        t.plan.encoders    = t.encoders;
        bool waiting       = false;
        for (uint32_t i = 0; i < count; i++) {
            stream *s = &streams[i];
            if (transcripts[i].token_count == s->golden->token_count) continue;
            waiting = true;
            if (w.staggered && number < 3 * i) continue;
            if (s->golden->has_encoder && !s->encoded) add_encoder(&t, s);
            if (w.moved) move_last_block(&t, s);
            add_rows(&t, s, w);
        }
        if (!waiting) return;
        assert_int_equal(forward(m, &t.plan), QUIRE_OK);
        for (uint32_t i = 0; i < t.plan.rows_logits; i++)
            take_token(t.samplers[i], &transcripts[t.samplers[i] - streams], qr_network_logits(m->network, i),
                       m->facts.vocab_size);
    }
}

static void decode_with(const setup *s, const golden *g, way w, transcript *transcripts)
{
    machine m;
    open_machine(&m, s, g->path);
    decode(&m, g, 0, g->case_count, w, transcripts);
    close_machine(&m);
}

static void decode_one_by_one(const setup *s, const golden *g, transcript *transcripts)
{
    machine m;
    open_machine(&m, s, g->path);
    for (uint32_t i = 0; i < g->case_count; i++) decode(&m, g, i, 1, (way){0}, &transcripts[i]);
    close_machine(&m);
}

/* ---- comparisons ---- */

static double spread_of(const float *x, uint32_t count)
{
    double mean = 0, squares = 0;
    for (uint32_t i = 0; i < count; i++) mean += (double)x[i] / count;
    for (uint32_t i = 0; i < count; i++) squares += ((double)x[i] - mean) * ((double)x[i] - mean);
    return sqrt(squares / count);
}

static double distance(const float *x, const float *y, uint32_t count)
{
    double worst = 0;
    for (uint32_t i = 0; i < count; i++) {
        const double d = fabs((double)x[i] - (double)y[i]);
        if (!(d <= worst)) worst = d; /* a NaN stays */
    }
    return worst;
}

static uint32_t vocabulary_of(const golden *g)
{
    uint32_t count = MAX_VOCAB; /* the reference ends with zeros */
    while (g->cases[0].first_logits[count - 1] == 0) count--;
    return count;
}

static void assert_golden(const golden *g, const transcript *transcripts)
{
    const uint32_t vocab = vocabulary_of(g);
    for (uint32_t i = 0; i < g->case_count; i++) {
        const golden_case *c = &g->cases[i];
        const transcript  *t = &transcripts[i];
        for (uint32_t k = 0; k < c->token_count; k++)
            if (t->tokens[k] != c->tokens[k])
                fail_msg("case %u: token %u is %d, not %d", i, k, t->tokens[k], c->tokens[k]);
        const double first = distance(t->logits[0], c->first_logits, vocab) / spread_of(c->first_logits, vocab);
        if (!(first < 2e-4)) fail_msg("case %u: first logits off by %g of the spread", i, first);
        if (!c->has_last) continue;
        const double last =
            distance(t->logits[c->token_count - 1], c->last_logits, vocab) / spread_of(c->last_logits, vocab);
        if (!(last < 2e-4)) fail_msg("case %u: last logits off by %g of the spread", i, last);
    }
}

static void assert_same_bits(const golden *g, const transcript *a, const transcript *b, const char *what)
{
    for (uint32_t i = 0; i < g->case_count; i++)
        for (uint32_t k = 0; k < g->cases[i].token_count; k++)
            if (memcmp(a[i].logits[k], b[i].logits[k], sizeof a[i].logits[k]) != 0)
                fail_msg("%s: %s: case %u: logits of token %u differ", g->path, what, i, k);
}

/* ---- tests ---- */

static transcript one[MAX_CASES], other[MAX_CASES];

static void assert_model_matches(const char *name)
{
    const golden *g = golden_of(name);
    decode_with(&(setup){.threads = 2, .weights = QUIRE_DTYPE_F32}, g, (way){0}, one);
    assert_golden(g, one);
}

static void llama_with_groups_and_scaled_rope_matches_its_golden(void **state)
{
    (void)state;
    assert_model_matches("llama3-gqa");
}

static void mistral_with_a_window_matches_its_golden(void **state)
{
    (void)state;
    assert_model_matches("mistral-swa");
}

static void qwen2_with_biases_matches_its_golden(void **state)
{
    (void)state;
    assert_model_matches("qwen2-bias");
}

static void qwen3_with_qk_norm_matches_its_golden(void **state)
{
    (void)state;
    assert_model_matches("qwen3-qknorm");
}

static void llama_with_heads_of_100_matches_its_golden(void **state)
{
    (void)state;
    assert_model_matches("llama-head-dim-100");
}

static void llama_with_linear_rope_matches_its_golden(void **state)
{
    (void)state;
    assert_model_matches("llama-linear");
}

static void qwen2_with_yarn_matches_its_golden(void **state)
{
    (void)state;
    assert_model_matches("qwen2-yarn");
}

static void qwen2_with_windows_on_some_layers_matches_its_golden(void **state)
{
    (void)state;
    assert_model_matches("qwen2-mixed-window");
}

/* Its first request stays below the original length and takes the short factors, the others the long ones. */
static void llama_with_longrope_matches_its_golden(void **state)
{
    (void)state;
    assert_model_matches("llama-longrope");
}

static void t5_with_relu_and_tied_output_matches_its_golden(void **state)
{
    (void)state;
    assert_model_matches("t5-relu");
}

static void t5_with_gated_gelu_and_own_output_matches_its_golden(void **state)
{
    (void)state;
    assert_model_matches("t5-gated");
}

static void t5_with_gated_silu_matches_its_golden(void **state)
{
    (void)state;
    assert_model_matches("t5-gated-silu");
}

static void t5_with_gelu_by_erf_matches_its_golden(void **state)
{
    (void)state;
    assert_model_matches("t5-gated-gelu-erf");
}

static void umt5_with_a_bias_of_each_layer_matches_its_golden(void **state)
{
    (void)state;
    assert_model_matches("umt5");
}

static void bart_and_its_like_match_their_goldens(void **state)
{
    (void)state;
    assert_model_matches("bart");
    assert_model_matches("mbart");
    assert_model_matches("m2m100");
    assert_model_matches("marian");
}

static void whisper_with_features_matches_its_golden(void **state)
{
    (void)state;
    assert_model_matches("whisper");
}

/* Whose decoders share one forward pass. */
static const char *const decoders[] = {"smollm3", "granite", "olmo2",     "phi3",    "gemma2",
                                       "gemma3",  "mixtral", "qwen3-moe", "gpt-oss", "gpt-oss-mxfp4"};
enum { DECODERS = sizeof decoders / sizeof *decoders };

static const char *const models[] = {"llama3-gqa", "mistral-swa", "qwen3-qknorm",       "umt5",   "bart", "mbart",
                                     "marian",     "t5-gated",    "qwen2-mixed-window", "whisper"};
enum { MODELS = sizeof models / sizeof *models };

static const setup f32_one_thread = {.threads = 1, .weights = QUIRE_DTYPE_F32};
static const setup f32_two        = {.threads = 2, .weights = QUIRE_DTYPE_F32};

static void a_chunked_prompt_gives_the_bits_of_a_whole_one(void **state)
{
    (void)state;
    for (int i = 0; i < MODELS; i++) {
        const golden *g = golden_of(models[i]);
        decode_with(&f32_two, g, (way){0}, one);
        decode_with(&f32_two, g, (way){.chunk = 17}, other);
        assert_same_bits(g, one, other, "chunks of 17");
        decode_with(&f32_two, g, (way){.chunk = 1}, other);
        assert_same_bits(g, one, other, "token by token");
    }
}

static void more_threads_give_the_same_bits(void **state)
{
    (void)state;
    for (int i = 0; i < MODELS; i++) {
        const golden *g = golden_of(models[i]);
        decode_with(&f32_one_thread, g, (way){0}, one);
        decode_with(&f32_two, g, (way){0}, other);
        assert_same_bits(g, one, other, "2 threads");
        if (i % 2 == 1) continue;
        decode_with(&(setup){.threads = 3, .weights = QUIRE_DTYPE_F32}, g, (way){0}, other);
        assert_same_bits(g, one, other, "3 threads");
    }
}

static void sequences_together_give_the_bits_of_each_alone(void **state)
{
    (void)state;
    for (int i = 0; i < MODELS; i++) {
        const golden *g = golden_of(models[i]);
        decode_one_by_one(&f32_two, g, one);
        decode_with(&f32_two, g, (way){0}, other);
        assert_same_bits(g, one, other, "together");
        decode_with(&f32_two, g, (way){.staggered = true, .chunk = 40}, other);
        assert_same_bits(g, one, other, "staggered");
    }
}

static void scattered_and_moved_blocks_give_the_same_bits(void **state)
{
    (void)state;
    for (int i = 0; i < MODELS; i++) {
        const golden *g = golden_of(models[i]);
        decode_with(&f32_two, g, (way){0}, one);
        decode_with(&f32_two, g, (way){.scattered = true}, other);
        assert_same_bits(g, one, other, "scattered");
        decode_with(&f32_two, g, (way){.moved = true}, other);
        assert_same_bits(g, one, other, "copied before each write");
    }
}

/* Largest error of the first logits, in spreads. */
static double greatest_error(const golden *g, const transcript *transcripts)
{
    const uint32_t vocab = vocabulary_of(g);
    double         worst = 0;
    for (uint32_t k = 0; k < g->case_count; k++) {
        const float *expected = g->cases[k].first_logits;
        worst = fmax(worst, distance(transcripts[k].logits[0], expected, vocab) / spread_of(expected, vocab));
    }
    return worst;
}

/* Alone on one thread, then with chunks, blocks and company on two. */
static void assert_decoder(const char *name, quire_dtype weights, double tolerance)
{
    const golden *g     = golden_of(name);
    const setup   alone = {.threads = 1, .weights = weights, .max_rows = 80};
    const setup   two   = {.threads = 2, .weights = weights, .max_rows = 80};
    decode_one_by_one(&alone, g, one);
    if (weights == QUIRE_DTYPE_F32) assert_golden(g, one);
    if (!(greatest_error(g, one) < tolerance))
        fail_msg("%s, %s: off by %g", name, quire_dtype_name(weights), greatest_error(g, one));
    decode_with(&two, g, (way){.chunk = 17, .scattered = true, .staggered = true, .moved = true}, other);
    assert_same_bits(g, one, other, quire_dtype_name(weights));
}

static void each_decoder_matches_its_golden_with_equal_bits_in_any_batch(void **state)
{
    (void)state;
    for (int i = 0; i < DECODERS; i++) {
        assert_decoder(decoders[i], QUIRE_DTYPE_F32, 2e-4);
        assert_decoder(decoders[i], QUIRE_DTYPE_BF16, 0.15);
        assert_decoder(decoders[i], QUIRE_DTYPE_INT8, 0.4);
        assert_decoder(decoders[i], QUIRE_DTYPE_INT4, 3); /* random models: errors of 8 % in each product add up */
    }
}

/* Whether this build's attention reads int8 keys and values; where not, create says so. */
static bool kv_is_supported(qr_dtype kv)
{
    const qr_kernels         *kernels = qr_kernels_select(NULL);
    const qr_attention_shape  shape   = {.kv = {kv, 1, 16, BLOCK}, .heads = 1, .scale = 1};
    const qr_attention_limits limits  = {.max_rows = 1, .max_sequences = 1, .max_kv_length = 32, .thread_count = 1};
    qr_attention_plan        *plan    = NULL;
    const quire_status        status  = qr_attention_plan_create(kernels, &shape, &limits, NULL, &plan, NULL);
    qr_attention_plan_destroy(plan);
    if (status != QUIRE_OK) assert_int_equal(status, QUIRE_ERR_UNSUPPORTED);
    return status == QUIRE_OK;
}

static void smaller_numbers_stay_near_the_golden_and_keep_their_bits(void **state)
{
    (void)state;
    const struct {
        quire_dtype weights;
        qr_dtype    kv;
        double      tolerance;
    } cases[]                        = {{QUIRE_DTYPE_F32, QR_BF16, 0.05},
                                        {QUIRE_DTYPE_BF16, QR_BF16, 0.15},
                                        {QUIRE_DTYPE_INT8, QR_BF16, 0.4},
                                        {QUIRE_DTYPE_INT8, QR_INT8, 0.5},
                                        {QUIRE_DTYPE_INT4, QR_BF16, 2.5}}; /* random: errors of 8 % in each product */
    static const char *const names[] = {"llama3-gqa", "t5-gated", "umt5",   "bart",
                                        "mbart",      "m2m100",   "marian", "whisper"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const golden  *g     = golden_of(names[i]);
        const uint32_t vocab = vocabulary_of(g);
        for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
            if (!kv_is_supported(cases[c].kv)) continue;
            const setup two = {.threads = 2, .weights = cases[c].weights, .kv = cases[c].kv};
            decode_with(&two, g, (way){0}, one);
            for (uint32_t k = 0; k < g->case_count; k++) {
                const float *expected = g->cases[k].first_logits;
                const double off      = distance(one[k].logits[0], expected, vocab) / spread_of(expected, vocab);
                if (!(off < cases[c].tolerance))
                    fail_msg("%s: weights %d, kv %d, case %u: off by %g", g->path, (int)cases[c].weights,
                             (int)cases[c].kv, k, off);
            }
            const setup alone = {.threads = 1, .weights = cases[c].weights, .kv = cases[c].kv};
            decode_one_by_one(&alone, g, other);
            assert_same_bits(g, one, other, "alone on one thread");
            decode_with(&two, g, (way){.chunk = 13, .scattered = true}, other);
            assert_same_bits(g, one, other, "in chunks");
        }
    }
}

/* Two of 64 units of each feed-forward are a thousand times the others, and taken back by wo. */
static void int8_weights_stand_large_hidden_units_of_t5(void **state)
{
    (void)state;
    const golden *g   = golden_of("t5-large-units");
    const setup   two = {.threads = 2, .weights = QUIRE_DTYPE_INT8}, alone = {.threads = 1, .weights = two.weights};
    decode_with(&f32_two, g, (way){0}, one);
    assert_golden(g, one);
    decode_with(&two, g, (way){0}, one);
    if (!(greatest_error(g, one) < 0.1)) fail_msg("off by %g", greatest_error(g, one));
    decode_one_by_one(&alone, g, other);
    assert_same_bits(g, one, other, "alone on one thread");
}

/* Biases of 300 in four of 64 channels; in the keys they would set the step of all. */
static void int8_keys_stand_large_biases_better_than_bf16_does(void **state)
{
    (void)state;
    const golden *g     = golden_of("qwen2-large-key-bias");
    const setup   two   = {.threads = 2, .weights = QUIRE_DTYPE_F32, .kv = QR_INT8};
    const setup   bf16  = {.threads = 2, .weights = QUIRE_DTYPE_F32, .kv = QR_BF16};
    const setup   alone = {.threads = 1, .weights = QUIRE_DTYPE_F32, .kv = QR_INT8};
    decode_with(&f32_two, g, (way){0}, one);
    assert_golden(g, one);
    decode_with(&bf16, g, (way){0}, one);
    const double of_bf16 = greatest_error(g, one);
    decode_with(&two, g, (way){0}, one);
    if (!(greatest_error(g, one) < of_bf16)) fail_msg("off by %g, bf16 by %g", greatest_error(g, one), of_bf16);
    decode_one_by_one(&alone, g, other);
    assert_same_bits(g, one, other, "alone on one thread");
    decode_with(&two, g, (way){.chunk = 13, .scattered = true}, other);
    assert_same_bits(g, one, other, "in chunks");
    decode_with(&two, g, (way){.moved = true}, other);
    assert_same_bits(g, one, other, "copied before each write");
}

static void a_batch_beyond_the_limits_is_refused_and_harms_nothing(void **state)
{
    (void)state;
    const golden *g = golden_of("llama3-gqa");
    machine       m;
    open_machine(&m, &f32_two, g->path);
    const uint32_t            blocks[TABLE] = {0}, position = 0;
    const int32_t             tokens[1] = {320};
    const quire_plan_sequence sequence  = {.row_count = 1, .blocks = blocks};
    quire_plan                plan      = {
                            .rows = 1, .sequence_count = 1, .tokens = tokens, .positions = &position, .sequences = &sequence};
    assert_int_equal(forward(&m, &plan), QUIRE_ERR_EXECUTION); /* token */
    const int32_t good[1] = {319};
    plan.tokens           = good;
    assert_int_equal(forward(&m, &plan), QUIRE_OK);
    plan.rows = 513;
    assert_int_equal(forward(&m, &plan), QUIRE_ERR_EXECUTION);
    plan.rows                         = 1;
    const quire_plan_sequence too_far = {.row_count = 1, .position = MODEL_LEN, .blocks = blocks};
    plan.sequences                    = &too_far;
    assert_int_equal(forward(&m, &plan), QUIRE_ERR_EXECUTION);
    plan.sequences                 = &sequence;
    const quire_plan_encoder input = {.tokens = good, .token_count = 1, .blocks = blocks};
    plan.encoder_count             = 1;
    plan.encoders                  = &input;
    assert_int_equal(forward(&m, &plan), QUIRE_ERR_EXECUTION); /* no encoder */
    decode(&m, g, 0, g->case_count, (way){0}, one);
    assert_golden(g, one);
    close_machine(&m);
}

static void a_poisoned_sequence_fails_alone(void **state)
{
    (void)state;
    const golden *g = golden_of("llama3-gqa");
    machine       m;
    open_machine(&m, &f32_two, g->path);
    const uint32_t tables[2][TABLE] = {{0}, {1}}, logits_rows[2] = {0, 1};
    static float   clean[2][MAX_VOCAB];
    for (int poisoned = 0; poisoned < 2; poisoned++) {
        for (uint32_t position = 0; position < 3; position++) {
            const int32_t             tokens[2]    = {7, 9};
            const uint32_t            positions[2] = {position, position};
            const quire_plan_sequence sequences[2] = {
                {.row_start = 0, .row_count = 1, .position = position, .blocks = tables[0]},
                {.row_start = 1, .row_count = 1, .position = position, .blocks = tables[1]}};
            const quire_plan plan = {.rows           = 2,
                                     .sequence_count = 2,
                                     .rows_logits    = 2,
                                     .tokens         = tokens,
                                     .positions      = positions,
                                     .sequences      = sequences,
                                     .logits_rows    = logits_rows};
            assert_int_equal(forward(&m, &plan), QUIRE_OK);
            if (position == 0 && poisoned) memset(qr_kv_memory_plane(&m.kv, 0), 0xff, m.kv.block_bytes);
            if (position < 2) continue;
            const float *logits[2] = {qr_network_logits(m.network, 0), qr_network_logits(m.network, 1)};
            if (!poisoned) memcpy(clean[1], logits[1], 320 * sizeof(float));
            assert_memory_equal(clean[1], logits[1], 320 * sizeof(float));
            assert_int_equal(isfinite(logits[0][0]) != 0, !poisoned);
        }
    }
    close_machine(&m);
}

typedef struct scarce {
    uint32_t left, asked;
    int64_t  balance;
} scarce;

static void *allocate_scarcely(void *context, size_t size, size_t alignment)
{
    scarce *s = context;
    if (__atomic_fetch_add(&s->asked, 1, __ATOMIC_RELAXED) >= s->left) return NULL;
    __atomic_fetch_add(&s->balance, 1, __ATOMIC_RELAXED);
    return aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment);
}

static void deallocate_scarcely(void *context, void *pointer, size_t size)
{
    (void)size;
    if (pointer != NULL) __atomic_fetch_sub(&((scarce *)context)->balance, 1, __ATOMIC_RELAXED);
    free(pointer);
}

static void create_fails_cleanly_at_every_allocation(void **state)
{
    (void)state;
    const char *const names[] = {"qwen2-bias", "t5-relu"};
    for (int i = 0; i < 2; i++) {
        machine m;
        open_machine(&m, &f32_two, golden_of(names[i])->path);
        for (uint32_t left = 0;; left += left < 40 ? 1 : 29) {
            scarce             memory  = {.left = left};
            qr_network_options options = network_options(&f32_two, m.team);
            options.allocator          = (quire_allocator){&memory, allocate_scarcely, deallocate_scarcely};
            qr_network        *network = NULL;
            quire_error        error   = {0};
            const quire_status status  = qr_network_create(m.model, &options, &network, &error);
            qr_network_destroy(network);
            assert_int_equal(memory.balance, 0);
            if (status == QUIRE_OK) break;
            assert_int_equal(status, QUIRE_ERR_NO_MEMORY);
            assert_null(network);
            assert_int_not_equal(error.message[0], 0);
        }
        close_machine(&m);
    }
}

/* llama3-gqa: hidden 128, q | k | v 192, inner 352, vocabulary 320, 3 layers. */
static void a_step_reports_what_it_must_move_and_compute(void **state)
{
    (void)state;
    const golden *g = golden_of("llama3-gqa");
    machine       m;
    open_machine(&m, &(setup){.threads = 2, .weights = QUIRE_DTYPE_F32, .kv = QR_BF16}, g->path);
    const uint32_t            blocks[TABLE] = {0, 1}, logits_row = 3;
    const int32_t             tokens[4]    = {1, 2, 3, 4};
    const uint32_t            positions[4] = {0, 1, 2, 3};
    const quire_plan_sequence sequence     = {.row_count = 4, .blocks = blocks};
    const quire_plan          plan         = {.rows           = 4,
                                              .sequence_count = 1,
                                              .rows_logits    = 1,
                                              .tokens         = tokens,
                                              .positions      = positions,
                                              .sequences      = &sequence,
                                              .logits_rows    = &logits_row};
    quire_step                report       = {0};
    assert_int_equal(qr_network_forward(m.network, &plan, NULL, NULL, &report), QUIRE_OK);
    const uint64_t layer = 128 * 192 + 128 * 128 + 2 * 128 * 352 + 352 * 128;
    assert_int_equal(report.projection_flops, 4 * 3 * 2 * layer);
    assert_int_equal(report.logits_flops, 2 * 128 * 320);
    assert_int_equal(report.attention_flops, 3 * 4 * 16 * 8 * (1 + 2 + 3 + 4));
    assert_int_equal(report.flops, report.projection_flops + report.logits_flops + report.attention_flops);
    /* 4 tokens are written and read: 2 kv heads, 16 numbers of 2 bytes, keys and values, 3 layers */
    assert_int_equal(report.kv_bytes, 2 * 4 * 2 * (2 * 16 * 2) * 3);
    assert_true(report.projection_bytes >= 3 * layer * 4 + 4 * 128 * 4);
    assert_true(report.projection_bytes < 3 * layer * 4 * 3 / 2);
    assert_true(report.logits_bytes >= 128 * 320 * 4);
    assert_int_equal(report.weight_bytes, report.projection_bytes + report.logits_bytes);
    assert_true(report.projection_ns > 0 && report.attention_ns > 0 && report.logits_ns > 0 && report.rowwise_ns > 0);
    assert_int_equal(report.encoder_ns, 0);
    assert_true(report.imbalance >= 1 && report.imbalance <= 2);
    close_machine(&m);
}

/* qwen2-mixed-window: 2 heads of 16, one kv head; a full layer and two with a window of 12. Both sequences have 40
 * tokens behind them, the first 32 in the same block. */
static void each_layer_counts_what_its_own_window_shows(void **state)
{
    (void)state;
    const golden *g = golden_of("qwen2-mixed-window");
    machine       m;
    open_machine(&m, &(setup){.threads = 2, .weights = QUIRE_DTYPE_F32, .kv = QR_F32}, g->path);
    assert_int_equal(m.facts.window, 0); /* the cache keeps what the full layer sees */
    memset(m.kv.mapping.base, 0, (size_t)m.kv.layers * m.kv.plane_bytes);
    const uint32_t            blocks[2][TABLE] = {{0, 1}, {0, 2}}, positions[2] = {40, 40};
    const int32_t             tokens[2]    = {1, 2};
    const quire_plan_sequence sequences[2] = {
        {.row_count = 1, .position = 40, .blocks = blocks[0]},
        {.row_start = 1, .row_count = 1, .position = 40, .blocks = blocks[1]},
    };
    const quire_plan plan = {
        .rows = 2, .sequence_count = 2, .tokens = tokens, .positions = positions, .sequences = sequences};
    quire_step report = {0};
    assert_int_equal(qr_network_forward(m.network, &plan, NULL, NULL, &report), QUIRE_OK);
    assert_int_equal(report.attention_flops, 4 * 16 * 2 * (2 * 41 + 2 * 2 * 12));
    /* read: 2 x 41 - 32 tokens in one layer, 2 x 12 - 3 in two; written: 2 in each */
    assert_int_equal(report.kv_bytes, (2 * 41 - 32 + 2 * (2 * 12 - 3) + 3 * 2) * 2 * 16 * 4);
    close_machine(&m);
}

/* An encoder input of 4 tokens and the first row of its decoder, without logits. */
static quire_step run_encoder_step(machine *m)
{
    const uint32_t            blocks[TABLE] = {0}, cross_blocks[TABLE] = {1}, position = 0;
    const int32_t             start = 0, input[4] = {5, 6, 7, 8};
    const quire_plan_encoder  item     = {.tokens = input, .token_count = 4, .blocks = cross_blocks};
    const quire_plan_sequence sequence = {
        .row_count = 1, .blocks = blocks, .cross_blocks = cross_blocks, .cross_length = 4};
    const quire_plan plan   = {.rows           = 1,
                               .sequence_count = 1,
                               .encoder_count  = 1,
                               .tokens         = &start,
                               .positions      = &position,
                               .sequences      = &sequence,
                               .encoders       = &item};
    quire_step       report = {0};
    assert_int_equal(qr_network_forward(m->network, &plan, NULL, NULL, &report), QUIRE_OK);
    return report;
}

/* t5-gated: hidden 80, q = k = v 160, inner 144, vocabulary 300, 3 encoder and 2 decoder layers. */
/* Weight bytes of a step of the first `rows` tokens. */
static quire_step report_of_rows(const machine *m, uint32_t rows)
{
    static const int32_t      tokens[8]    = {5, 9, 14, 20, 33, 41, 57, 90};
    static const uint32_t     positions[8] = {0, 1, 2, 3, 4, 5, 6, 7}, blocks[TABLE] = {0};
    const quire_plan_sequence sequence = {.row_count = rows, .blocks = blocks};
    const quire_plan          plan     = {
                     .rows = rows, .sequence_count = 1, .tokens = tokens, .positions = positions, .sequences = &sequence};
    quire_step report = {0};
    assert_int_equal(qr_network_forward(m->network, &plan, NULL, NULL, &report), QUIRE_OK);
    return report;
}

/* Two layers of 4 experts, of which a row chooses 2. */
static void a_step_counts_the_experts_that_its_rows_chose(void **state)
{
    (void)state;
    enum { HIDDEN = 32, INNER = 48, LAYER = HIDDEN * (64 + HIDDEN + 4), EXPERT = 3 * HIDDEN * INNER };
    const golden *g = golden_of("mixtral");
    machine       m;
    open_machine(&m, &f32_two, g->path);
    const quire_step alone = report_of_rows(&m, 1), many = report_of_rows(&m, 8);
    assert_int_equal(alone.projection_flops, 2 * 2 * (LAYER + 2 * EXPERT));
    assert_int_equal(many.projection_flops, 8 * 2 * 2 * (LAYER + 2 * EXPERT));
    /* packed: inputs and outputs in multiples of 64 */
    const uint64_t expert = 3 * 64 * 64 * 4, embedding = HIDDEN * 4;
    assert_true(many.projection_bytes - 8 * embedding > alone.projection_bytes - embedding); /* some chose others */
    assert_int_equal((many.projection_bytes - 8 * embedding - (alone.projection_bytes - embedding)) % expert, 0);
    assert_true(many.projection_bytes - 8 * embedding <= alone.projection_bytes - embedding + 4 * expert);
    close_machine(&m);
}

static void an_encoder_step_counts_encoder_cross_and_decoder_work(void **state)
{
    (void)state;
    const golden *g = golden_of("t5-gated");
    machine       m;
    open_machine(&m, &f32_two, g->path);
    const quire_step report    = run_encoder_step(&m);
    const uint64_t   attention = 80 * 480 + 160 * 80, feed = 2 * 80 * 144 + 144 * 80, cross = 80 * 160 + 160 * 80;
    const uint64_t   weights = 3 * (attention + feed) + 2 * (attention + cross + feed) + 2 * 80 * 320;
    assert_int_equal(report.projection_flops,
                     2 * (4 * 3 * (attention + feed) + 4 * 2 * 80 * 320 + 2 * (attention + cross + feed)));
    assert_int_equal(report.attention_flops, 4 * 32 * 5 * (3 * 16 + 2 * 4 + 2 * 1));
    /* read: encoder 3 x 4, cross 2 x 4, self 2 x 1; written: 3 x 4, 2 x 4, 2 x 1 tokens of 5 heads, f32 */
    assert_int_equal(report.kv_bytes, 2 * (12 + 8 + 2) * 5 * 2 * 32 * 4);
    assert_in_range(report.projection_bytes, weights * 4, weights * 4 * 2);
    /* the encoder's own: its layers, and the cross blocks' projections and writing */
    assert_int_equal(report.encoder_projection_flops, 2 * (4 * 3 * (attention + feed) + 4 * 2 * 80 * 320));
    assert_int_equal(report.encoder_attention_flops, 4 * 32 * 5 * 3 * 16);
    assert_int_equal(report.encoder_kv_bytes, (12 + 12 + 8) * 5 * 2 * 32 * 4);
    assert_in_range(report.encoder_weight_bytes, (3 * (attention + feed) + 2 * 80 * 320) * 4,
                    report.projection_bytes - 2 * (attention + cross + feed) * 4);
    assert_int_equal(report.logits_bytes, 0);
    assert_true(report.encoder_ns > 0 && report.projection_ns > 0 && report.logits_ns == 0);
    close_machine(&m);
}

/* wi and everything else in int8, wo in bf16; a shard is a multiple of 64 columns and inputs. */
static void an_int8_step_counts_what_stays_wide_in_its_own_dtype(void **state)
{
    (void)state;
    const golden *g = golden_of("t5-gated");
    const setup   s = {.threads = 2, .weights = QUIRE_DTYPE_INT8};
    machine       m;
    open_machine(&m, &s, g->path);
    const quire_step report = run_encoder_step(&m);
    assert_int_equal(report.encoder_wide_flops, 2 * 4 * 3 * 144 * 80);
    assert_int_equal(report.wide_flops, report.encoder_wide_flops + 2 * 2 * 144 * 80);
    /* 3 and 2 layers: wo, its columns and inputs rounded up to 64; the others a byte each, 8 more per column */
    const uint64_t wo = 128 * 192 * 2, wi = 2 * 192 * (128 + 8), o = 128 * (192 + 8), qkv = 512 * (128 + 8);
    const uint64_t q = 192 * (128 + 8), kv = 320 * (128 + 8), rows = 80 * 2;
    assert_int_equal(report.projection_bytes, 5 * (wo + wi + o + qkv) + 2 * (q + o + kv) + 5 * rows);
    close_machine(&m);
}

/* Half a byte each and two for 32, inputs and columns rounded up to 64; wo in bf16 as beside int8. */
static void an_int4_step_counts_codes_and_scales(void **state)
{
    (void)state;
    const golden *g = golden_of("t5-gated");
    const setup   s = {.threads = 2, .weights = QUIRE_DTYPE_INT4};
    machine       m;
    open_machine(&m, &s, g->path);
    const quire_step report = run_encoder_step(&m);
    assert_int_equal(report.encoder_wide_flops, 2 * 4 * 3 * 144 * 80);
    const uint64_t k80 = 128 / 2 + 128 / 32 * 2, k160 = 192 / 2 + 192 / 32 * 2; /* of one column */
    const uint64_t wo = 128 * 192 * 2, wi = 2 * 192 * k80, o = 128 * k160, qkv = 512 * k80;
    const uint64_t q = 192 * k80, kv = 320 * k80, rows = 80 * 2;
    assert_int_equal(report.projection_bytes, 5 * (wo + wi + o + qkv) + 2 * (q + o + kv) + 5 * rows);
    close_machine(&m);
}

static void the_forecast_is_what_create_takes(void **state)
{
    (void)state;
    const quire_dtype dtypes[] = {QUIRE_DTYPE_F32, QUIRE_DTYPE_INT8, QUIRE_DTYPE_INT4};
    for (int i = 0; i < 3 * MODELS; i++) {
        const golden *g = golden_of(models[i / 3]);
        const setup   s = {.threads = 2, .weights = dtypes[i % 3], .kv = QR_BF16};
        machine       m;
        open_machine(&m, &s, g->path);
        qr_network_options  options = network_options(&s, NULL);
        qr_network_forecast forecast;
        assert_int_equal(qr_network_plan_memory(m.model, &options, 2, &forecast, NULL), QUIRE_OK);
        assert_int_equal(forecast.weight_bytes, qr_network_weight_bytes(m.network));
        assert_true(forecast.scratch_bytes + forecast.encoder_scratch_bytes <= qr_network_scratch_bytes(m.network));
        assert_int_equal(forecast.encoder_scratch_bytes > 0, m.facts.encoder_decoder);
        close_machine(&m);
    }
}

/* Synthetic "tiny" with another size; the message of create is the forecast's. */
static void assert_refused_by_both(const char *key, int64_t value, const char *words)
{
    const setup                s             = {.threads = 1};
    const quire_shape_override change        = {key, value};
    quire_model_options        model_options = {
               .size = sizeof model_options, .weight_dtype = QUIRE_DTYPE_F32, .shape = &change, .shape_count = 1};
    quire_model        *model;
    qr_team            *team;
    qr_network         *network;
    qr_network_forecast forecast;
    quire_error         error = {0}, forecast_error = {0};
    static qr_placement placement = {.thread_count = 1, .node_count = 1, .bind = QUIRE_BIND_NONE, .node_threads = {1}};
    check(quire_model_synthetic("tiny", &model_options, &model, &error), &error);
    check(qr_team_create(&placement, &(qr_team_options){0}, &team, &error), &error);
    const qr_network_options options = network_options(&s, team);
    const quire_status       refused = qr_network_create(model, &options, &network, &error);
    assert_int_not_equal(refused, QUIRE_OK);
    assert_int_equal(qr_network_plan_memory(model, &options, 1, &forecast, &forecast_error), refused);
    assert_string_equal(error.message, forecast_error.message);
    if (strstr(error.message, words) == NULL) fail_msg("%s %lld: %s", key, (long long)value, error.message);
    qr_team_destroy(team);
    quire_model_destroy(model);
}

static void the_forecast_refuses_what_create_refuses(void **state)
{
    (void)state;
    assert_refused_by_both("head_dim", 2, "head_dim 2 is not a multiple of 4 from 4 to 256");
    assert_refused_by_both("head_dim", 10, "head_dim 10 is not a multiple of 4 from 4 to 256");
    assert_refused_by_both("head_dim", 512, "head_dim 512 is not a multiple of 4 from 4 to 256");
    assert_refused_by_both("intermediate_size", 65537, "down: 65537 input features; must be 1 to 65536");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(llama_with_groups_and_scaled_rope_matches_its_golden),
        cmocka_unit_test(mistral_with_a_window_matches_its_golden),
        cmocka_unit_test(qwen2_with_biases_matches_its_golden),
        cmocka_unit_test(qwen3_with_qk_norm_matches_its_golden),
        cmocka_unit_test(llama_with_heads_of_100_matches_its_golden),
        cmocka_unit_test(llama_with_linear_rope_matches_its_golden),
        cmocka_unit_test(qwen2_with_yarn_matches_its_golden),
        cmocka_unit_test(qwen2_with_windows_on_some_layers_matches_its_golden),
        cmocka_unit_test(llama_with_longrope_matches_its_golden),
        cmocka_unit_test(each_decoder_matches_its_golden_with_equal_bits_in_any_batch),
        cmocka_unit_test(t5_with_relu_and_tied_output_matches_its_golden),
        cmocka_unit_test(t5_with_gated_gelu_and_own_output_matches_its_golden),
        cmocka_unit_test(t5_with_gated_silu_matches_its_golden),
        cmocka_unit_test(t5_with_gelu_by_erf_matches_its_golden),
        cmocka_unit_test(umt5_with_a_bias_of_each_layer_matches_its_golden),
        cmocka_unit_test(bart_and_its_like_match_their_goldens),
        cmocka_unit_test(whisper_with_features_matches_its_golden),
        cmocka_unit_test(a_chunked_prompt_gives_the_bits_of_a_whole_one),
        cmocka_unit_test(more_threads_give_the_same_bits),
        cmocka_unit_test(sequences_together_give_the_bits_of_each_alone),
        cmocka_unit_test(scattered_and_moved_blocks_give_the_same_bits),
        cmocka_unit_test(smaller_numbers_stay_near_the_golden_and_keep_their_bits),
        cmocka_unit_test(int8_weights_stand_large_hidden_units_of_t5),
        cmocka_unit_test(int8_keys_stand_large_biases_better_than_bf16_does),
        cmocka_unit_test(a_batch_beyond_the_limits_is_refused_and_harms_nothing),
        cmocka_unit_test(a_poisoned_sequence_fails_alone),
        cmocka_unit_test(create_fails_cleanly_at_every_allocation),
        cmocka_unit_test(a_step_reports_what_it_must_move_and_compute),
        cmocka_unit_test(each_layer_counts_what_its_own_window_shows),
        cmocka_unit_test(a_step_counts_the_experts_that_its_rows_chose),
        cmocka_unit_test(an_encoder_step_counts_encoder_cross_and_decoder_work),
        cmocka_unit_test(an_int8_step_counts_what_stays_wide_in_its_own_dtype),
        cmocka_unit_test(an_int4_step_counts_codes_and_scales),
        cmocka_unit_test(the_forecast_is_what_create_takes),
        cmocka_unit_test(the_forecast_refuses_what_create_refuses),
    };
    return cmocka_run_group_tests_name("model/network", tests, NULL, NULL);
}
