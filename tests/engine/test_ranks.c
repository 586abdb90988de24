/* Engines that are ranks of one model, as threads of this process: the same answers as of one rank, to the last bit,
 * whatever is asked; and what may not differ between them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "support/sanitized.h"
#include "support/small_engine.h"
#include "support/thread_ranks.h"

enum { REQUESTS = 16, SEQUENCES = 4, PROMPT_MAX = 70, OUTPUT_MAX = 20, VOCAB_MAX = 512, TOP = 4 };

typedef struct answer {
    int32_t      tokens[OUTPUT_MAX];
    float        logprobs[OUTPUT_MAX], score;
    int32_t      top_tokens[OUTPUT_MAX][TOP];
    float        top_logprobs[OUTPUT_MAX][TOP];
    float        logits[VOCAB_MAX]; /* of the last token */
    uint32_t     count;
    quire_finish finish;
    quire_status status;
} answer;

typedef struct answers {
    answer of[REQUESTS][SEQUENCES];
} answers;

/* What all ranks share. */
typedef struct job {
    const char          *path, *preset; /* of the model */
    quire_model_options  model_options;
    quire_engine_options options;
    thread_ranks        *ranks; /* NULL: one rank */
    answers             *answers;
    quire_stats          stats; /* of rank 0 */
    quire_status         status[16];
    quire_error          errors[16];
    uint64_t             weight_bytes[16], kv_bytes[16];
    void (*differ)(struct job *job, uint32_t rank, quire_engine_options *options, quire_model_options *model_options);
    uint32_t   preempted;
    quire_step steps[4];
} job;

/* ---- requests of every kind ---- */

static uint32_t draw(uint64_t stream, uint64_t i, uint32_t from, uint32_t to)
{
    return from + qr_random_below(stream, i, 0, to - from + 1);
}

static void submit(quire_engine *engine, const quire_model_info *info, uint32_t number, answers *to)
{
    static const int32_t          banned[] = {3, 5, 7}, stop[] = {11};
    static const quire_logit_bias bias[] = {{4, 1.5f}, {9, -2.0f}};
    int32_t                       prompt[PROMPT_MAX], encoder[PROMPT_MAX];
    float                         features[2 * 20 * 32];
    const bool                    encodes = info->encoder_layers > 0;
    quire_request                 r       = {.size       = sizeof r,
                                             .prompt     = prompt,
                                             .max_tokens = draw(3, number, 1, OUTPUT_MAX),
                                             .ignore_eos = true,
                                             .logits     = number % 3 == 0 ? QUIRE_LOGITS_LAST : QUIRE_LOGITS_NONE,
                                             .user_data  = to->of[number]};
    r.prompt_count                        = encodes ? 0 : draw(1, number, 1, PROMPT_MAX);
    if (encodes) r.prompt = NULL;
    for (uint32_t i = 0; i < r.prompt_count; i++) /* some begin alike */
        prompt[i] = (int32_t)qr_random_below(2, i < 40 ? number % 3 : number, i, info->vocab_size);
    if (encodes && info->encoder_feature_size == 0) {
        r.encoder_input = encoder;
        r.encoder_count = draw(4, number % 5, 1, PROMPT_MAX / 2);
        for (uint32_t i = 0; i < r.encoder_count; i++)
            encoder[i] = (int32_t)qr_random_below(5, number % 5, i, info->vocab_size);
    } else if (encodes) {
        r.encoder_features = features;
        r.encoder_frames   = draw(4, number % 5, 2, 20);
        for (uint32_t i = 0; i < r.encoder_frames * info->encoder_feature_size; i++)
            features[i] = (float)qr_random_below(5, number % 5, i, 100) / 50 - 1;
    }
    switch (number % 8) {
    case 1:
        r.sampling = (quire_sampling){.seed = number, .temperature = 0.9f, .top_k = 20, .top_p = 0.9f};
        r.n        = 2;
        break;
    case 2: r.beam_width = 3, r.n = 2, r.length_penalty = 1, r.logits = QUIRE_LOGITS_NONE; break;
    case 3: r.banned = banned, r.banned_count = 3, r.logprobs = TOP; break;
    case 4: r.logit_bias = bias, r.logit_bias_count = 2, r.sampling.repetition_penalty = 1.2f; break;
    case 5: r.tenant = "some tenant", r.cache_salt = "salt", r.stop = stop, r.stop_count = 1; break;
    case 6: r.first_allowed = banned, r.first_allowed_count = 3, r.sampling.temperature = 1.3f; break;
    case 7: r.allowed = banned, r.allowed_count = 3; break;
    default: break;
    }
    quire_request_id id;
    quire_error      error = {0};
    if (quire_engine_submit(engine, &r, &id, &error) != QUIRE_OK) {
        fprintf(stderr, "request %u: %s\n", number, error.message);
        abort();
    }
    if (number == REQUESTS - 1) (void)quire_engine_cancel(engine, id);
}

static uint32_t take_events(quire_engine *engine, uint32_t vocab)
{
    quire_event  events[32];
    const size_t count = quire_engine_poll(engine, events, 32);
    uint32_t     ended = 0;
    for (size_t i = 0; i < count; i++) {
        answer *to = (answer *)events[i].user_data + events[i].sequence;
        if (events[i].kind == QUIRE_EVENT_FINISHED) {
            to->finish = events[i].finish;
            to->status = events[i].status;
            to->score  = ((const quire_finish_detail *)events[i].detail)->score;
            ended += events[i].last;
            continue;
        }
        const quire_token_detail *detail = events[i].detail;
        if (detail != NULL && detail->logits != NULL) memcpy(to->logits, detail->logits, vocab * sizeof *to->logits);
        for (uint32_t k = 0; detail != NULL && k < detail->top_count && k < TOP; k++) {
            to->top_tokens[to->count][k]   = detail->top_tokens[k];
            to->top_logprobs[to->count][k] = detail->top_logprobs[k];
        }
        to->tokens[to->count]     = events[i].token;
        to->logprobs[to->count++] = events[i].logprob;
    }
    return ended;
}

/* ---- a rank ---- */

static quire_model *open_model(const job *j, const quire_model_options *options)
{
    quire_model *model = NULL;
    quire_error  error = {0};
    if ((j->path != NULL ? quire_model_load(j->path, options, &model, &error)
                         : quire_model_synthetic(j->preset, options, &model, &error)) != QUIRE_OK) {
        fprintf(stderr, "%s\n", error.message);
        abort();
    }
    return model;
}

static void lead(job *j, quire_engine *engine, const quire_model_info *info)
{
    uint32_t ended = 0, submitted = 0;
    while (ended < REQUESTS) {
        for (int i = 0; i < 5 && submitted < REQUESTS; i++) submit(engine, info, submitted++, j->answers);
        quire_step step = {.size = sizeof step};
        if (quire_engine_step(engine, &step) != QUIRE_OK) return;
        j->preempted += step.preempted;
        ended += take_events(engine, info->vocab_size);
    }
    j->stats.size = sizeof j->stats;
    quire_engine_stats(engine, &j->stats);
}

static void run_rank(void *context, uint32_t rank)
{
    job                 *j             = context;
    quire_engine_options options       = j->options;
    quire_model_options  model_options = j->model_options;
    quire_engine        *engine        = NULL;
    quire_comm           comm;
    if (j->differ != NULL) j->differ(j, rank, &options, &model_options);
    if (j->ranks != NULL) {
        comm         = thread_ranks_comm(j->ranks, rank);
        options.comm = &comm;
    }
    quire_model     *model = open_model(j, &model_options);
    quire_model_info info  = {.size = sizeof info};
    quire_model_describe(model, &info);
    j->status[rank] = quire_engine_create(&options, model, &engine, &j->errors[rank]);
    if (j->status[rank] == QUIRE_OK) {
        quire_stats stats = {.size = sizeof stats};
        quire_engine_stats(engine, &stats);
        j->weight_bytes[rank] = stats.weight_bytes;
        j->kv_bytes[rank]     = stats.kv_bytes_per_token;
        if (rank == 0)
            lead(j, engine, &info);
        else
            j->status[rank] = quire_engine_run(engine);
    }
    quire_engine_destroy(engine);
    quire_model_destroy(model);
}

static void run_job(job *j, uint32_t ranks)
{
    memset(j->answers, 0, sizeof *j->answers);
    j->ranks = ranks > 0 ? thread_ranks_create(ranks) : NULL;
    if (ranks > 0)
        thread_ranks_run(j->ranks, run_rank, j);
    else
        run_rank(j, 0);
}

static void close_job(job *j)
{
    thread_ranks_destroy(j->ranks);
    j->ranks = NULL;
}

static job new_job(quire_dtype weights)
{
    job j                            = {.model_options = {.size = sizeof(quire_model_options), .weight_dtype = weights},
                                        .options       = small_engine_options(),
                                        .answers       = calloc(1, sizeof(answers))};
    j.options.threads                = 1;
    j.options.max_num_seqs           = 6;
    j.options.max_logits_in_flight   = 64;
    j.options.max_model_len          = 90;
    j.options.num_kv_blocks          = 12;
    j.options.max_num_batched_tokens = 48;
    return j;
}

static void assert_ran(const job *j, uint32_t ranks)
{
    for (uint32_t r = 0; r < ranks; r++)
        if (j->status[r] != QUIRE_OK) fail_msg("rank %u of %u: %s", r, ranks, j->errors[r].message);
    if (thread_ranks_aborted(j->ranks) != NULL) fail_msg("%u ranks: %s", ranks, thread_ranks_aborted(j->ranks));
}

static void assert_same(const answers *one, const answers *several, const char *what, uint32_t ranks)
{
    for (uint32_t i = 0; i < REQUESTS; i++)
        for (uint32_t s = 0; s < SEQUENCES; s++)
            if (i < REQUESTS - 1 && memcmp(&one->of[i][s], &several->of[i][s], sizeof(answer)) != 0)
                fail_msg("%s on %u ranks: sequence %u of request %u differs from that of one rank", what, ranks, s, i);
}

/* ---- the same bits ---- */

static void check_model(const char *path, const char *preset, quire_dtype weights, const uint32_t *ranks)
{
    char folder[512];
    job  j = new_job(weights);
    snprintf(folder, sizeof folder, QUIRE_SOURCE_DIR "/tests/models/%s", path ? path : "");
    j.path = path ? folder : NULL;
    if (path && strcmp(path, "whisper") == 0) j.options.max_model_len = 60;
    j.preset = preset;
    run_job(&j, 0);
    answers *one = j.answers;
    if (j.status[0] != QUIRE_OK) fail_msg("%s: %s", path ? path : preset, j.errors[0].message);
    const uint64_t hash = j.stats.decision_hash;
    j.answers           = calloc(1, sizeof *j.answers);
    for (; *ranks > 0; ranks++) {
        run_job(&j, *ranks);
        assert_ran(&j, *ranks);
        assert_same(one, j.answers, path ? path : preset, *ranks);
        if (j.stats.ranks != *ranks || (j.stats.network_messages > 0) != (*ranks > 1))
            fail_msg("%u ranks: the statistics say %u, %llu messages", *ranks, j.stats.ranks,
                     (unsigned long long)j.stats.network_messages);
        close_job(&j);
    }
    (void)hash;
    free(j.answers);
    free(one);
}

static const uint32_t to_four[] = {2, 3, 4, 0}, two[] = {2, 0};

static void llama_gives_the_same_bits_on_1_to_5_ranks(void **state)
{
    (void)state;
    check_model("llama3-gqa", NULL, QUIRE_DTYPE_F32, QR_SANITIZED ? two : (const uint32_t[]){1, 2, 3, 4, 5, 0});
    check_model("llama3-gqa", NULL, QUIRE_DTYPE_BF16, to_four);
    check_model("llama3-gqa", NULL, QUIRE_DTYPE_INT8, to_four);
    check_model("qwen2-bias", NULL, QUIRE_DTYPE_BF16, to_four);
    check_model("qwen3-qknorm", NULL, QUIRE_DTYPE_BF16, to_four);
    check_model("mistral-swa", NULL, QUIRE_DTYPE_INT8, two);
}

static void t5_gives_the_same_bits_on_1_to_4_ranks(void **state)
{
    (void)state;
    check_model("t5-gated", NULL, QUIRE_DTYPE_F32, to_four);
    check_model("t5-relu", NULL, QUIRE_DTYPE_BF16, to_four);
    check_model("t5-gated", NULL, QUIRE_DTYPE_INT8, to_four);
}

static void other_families_give_the_same_bits_on_2_ranks(void **state)
{
    (void)state;
    static const char *const names[] = {"gemma2", "gemma3", "phi3",  "smollm3", "granite", "bart",
                                        "m2m100", "marian", "mbart", "umt5",    "whisper"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) check_model(names[i], NULL, QUIRE_DTYPE_BF16, two);
}

static void mixtures_of_experts_give_the_same_bits_on_2_to_4_ranks(void **state)
{
    (void)state;
    check_model("mixtral", NULL, QUIRE_DTYPE_F32, to_four);
    check_model("mixtral", NULL, QUIRE_DTYPE_INT8, two);
    check_model("qwen3-moe", NULL, QUIRE_DTYPE_BF16, to_four);
    check_model("gpt-oss", NULL, QUIRE_DTYPE_F32, to_four);
    check_model("gpt-oss-mxfp4", NULL, QUIRE_DTYPE_BF16, two);
    check_model("gpt-oss-mxfp4", NULL, QUIRE_DTYPE_INT8, to_four);
}

static void norms_of_all_heads_together_give_the_same_bits_on_2_to_4_ranks(void **state)
{
    (void)state;
    check_model("olmo2", NULL, QUIRE_DTYPE_F32, to_four); /* 2 key heads: from 3 ranks on some have the same */
    check_model("olmo2", NULL, QUIRE_DTYPE_BF16, to_four);
    check_model("olmo2", NULL, QUIRE_DTYPE_INT8, two);
}

/* ---- what else must not matter ---- */

static const quire_shape_override eight_heads[] = {{"hidden_size", 512},
                                                   {"intermediate_size", 576},
                                                   {"num_attention_heads", 8},
                                                   {"num_key_value_heads", 4},
                                                   {"vocab_size", 512}};

static job eight_headed(quire_dtype weights)
{
    job j                       = new_job(weights);
    j.preset                    = "tiny";
    j.model_options.shape       = eight_heads;
    j.model_options.shape_count = sizeof eight_heads / sizeof *eight_heads;
    return j;
}

static const quire_shape_override few_experts[] = {
    {"hidden_size", 512},           {"num_hidden_layers", 2}, {"num_attention_heads", 8},
    {"num_key_value_heads", 4},     {"head_dim", 16},         {"num_experts", 8},
    {"moe_intermediate_size", 320}, {"vocab_size", 512},      {"num_experts_per_tok", 3}};

static job mixture(quire_dtype weights)
{
    job j                       = new_job(weights);
    j.preset                    = "qwen3-30b-a3b";
    j.model_options.shape       = few_experts;
    j.model_options.shape_count = sizeof few_experts / sizeof *few_experts;
    return j;
}

static void check_job(job *j, const char *what, uint32_t ranks)
{
    run_job(j, 0);
    if (j->status[0] != QUIRE_OK) fail_msg("%s", j->errors[0].message);
    answers *one = j->answers;
    j->answers   = calloc(1, sizeof *j->answers);
    run_job(j, ranks);
    assert_ran(j, ranks);
    assert_same(one, j->answers, what, ranks);
    close_job(j);
    free(one);
}

static void eight_ranks_give_the_same_bits_and_hold_an_eighth_of_the_weights(void **state)
{
    (void)state;
    job j = eight_headed(QUIRE_DTYPE_BF16);
    run_job(&j, 1);
    const uint64_t weights = j.weight_bytes[0], keys = j.kv_bytes[0];
    close_job(&j);
    check_job(&j, "8 heads", 8);
    for (int r = 0; r < 8; r++) {
        assert_in_range(j.weight_bytes[r], weights / 8, weights * 3 / 16); /* norms and rope are every rank's */
        assert_int_equal(j.kv_bytes[r], keys / 4);                         /* a key head is on two of them */
    }
    free(j.answers);
}

static void preemption_and_drafts_give_the_same_bits(void **state)
{
    (void)state;
    job j                            = eight_headed(QUIRE_DTYPE_F32);
    j.options.num_kv_blocks          = 10;
    j.options.watermark              = QUIRE_NO_WATERMARK;
    j.options.max_num_seqs           = 12;
    j.options.num_speculative_tokens = 3;
    j.options.speculative_adaptive   = QUIRE_TOGGLE_OFF;
    check_job(&j, "drafts", 3);
    if (j.preempted == 0 || j.stats.drafts == 0 || j.stats.tokens_cached == 0)
        fail_msg("%u preempted, %llu drafts, %llu tokens cached", j.preempted, (unsigned long long)j.stats.drafts,
                 (unsigned long long)j.stats.tokens_cached);
    j.options.speculative_adaptive = QUIRE_TOGGLE_ON;
    check_job(&j, "adaptive drafts", 2);
    free(j.answers);
}

static void several_threads_of_a_rank_give_the_same_bits(void **state)
{
    (void)state;
    job jobs[]   = {eight_headed(QUIRE_DTYPE_BF16), mixture(QUIRE_DTYPE_INT8), new_job(QUIRE_DTYPE_F32)};
    jobs[2].path = QUIRE_SOURCE_DIR "/tests/models/olmo2";
    for (size_t i = 0; i < sizeof jobs / sizeof *jobs; i++) {
        jobs[i].options.threads = 2;
        check_job(&jobs[i], "2 threads each", 2);
        free(jobs[i].answers);
    }
}

static void experts_are_divided_among_8_ranks(void **state)
{
    (void)state;
    job j = mixture(QUIRE_DTYPE_BF16);
    run_job(&j, 1);
    const uint64_t weights = j.weight_bytes[0];
    close_job(&j);
    check_job(&j, "experts", 8);
    for (int r = 0; r < 8; r++)
        assert_in_range(j.weight_bytes[r], weights / 8, weights / 4); /* the router is every rank's */
    free(j.answers);
}

/* Prompts of more bytes than a message has at once come over several steps. */
static void rows_beyond_the_buffer_go_in_several_messages(void **state)
{
    (void)state;
    static const quire_shape_override wide[]         = {{"intermediate_size", 40000}, {"num_hidden_layers", 1}};
    static const quire_shape_override wide_experts[] = {
        {"hidden_size", 64}, {"num_hidden_layers", 1},        {"num_attention_heads", 2}, {"num_key_value_heads", 2},
        {"num_experts", 8},  {"moe_intermediate_size", 4000}, {"vocab_size", 256}};
    job jobs[]                        = {new_job(QUIRE_DTYPE_F32), mixture(QUIRE_DTYPE_F32)};
    jobs[0].preset                    = "tiny";
    jobs[0].model_options.shape       = wide;
    jobs[0].model_options.shape_count = sizeof wide / sizeof *wide;
    jobs[1].model_options.shape       = wide_experts;
    jobs[1].model_options.shape_count = sizeof wide_experts / sizeof *wide_experts;
    for (int i = 0; i < 2; i++) {
        check_job(&jobs[i], "wide", 2);
        free(jobs[i].answers);
    }
}

/* ---- what may not be ---- */

static void refuse(job *j, uint32_t ranks, const char *message)
{
    run_job(j, ranks);
    for (uint32_t r = 0; r < ranks; r++) {
        assert_int_not_equal(j->status[r], QUIRE_OK);
        if (strstr(j->errors[r].message, message) == NULL)
            fail_msg("rank %u says \"%s\", not \"%s\"", r, j->errors[r].message, message);
    }
    close_job(j);
    free(j->answers);
}

static void more_ranks_than_heads_are_refused(void **state)
{
    (void)state;
    job j = eight_headed(QUIRE_DTYPE_F32);
    refuse(&j, 9, "9 ranks, but this model has 8 attention heads");
}

static void more_ranks_than_columns_of_an_expert_are_refused(void **state)
{
    static const quire_shape_override narrow[] = {
        {"moe_intermediate_size", 6}, {"num_hidden_layers", 1}, {"num_experts", 8}, {"vocab_size", 512}};
    (void)state;
    job j                       = new_job(QUIRE_DTYPE_F32);
    j.preset                    = "qwen3-30b-a3b";
    j.model_options.shape       = narrow;
    j.model_options.shape_count = sizeof narrow / sizeof *narrow;
    refuse(&j, 7, "7 ranks, but this model has 6 columns in an expert");
}

static void other_option(job *j, uint32_t rank, quire_engine_options *options, quire_model_options *model_options)
{
    (void)j, (void)model_options;
    if (rank == 2) options->max_num_seqs = 5;
}

static void other_isa(job *j, uint32_t rank, quire_engine_options *options, quire_model_options *model_options)
{
    (void)j, (void)model_options;
    if (rank == 1) options->isa = "scalar";
}

static void other_weights(job *j, uint32_t rank, quire_engine_options *options, quire_model_options *model_options)
{
    (void)j, (void)options;
    if (rank == 1) model_options->weight_seed = 77;
}

static void other_experts(job *j, uint32_t rank, quire_engine_options *options, quire_model_options *model_options)
{
    (void)j, (void)options;
    if (rank == 2) model_options->shape_count--; /* of a token; no tensor's shape follows from it */
}

static void bad_option(job *j, uint32_t rank, quire_engine_options *options, quire_model_options *model_options)
{
    (void)j, (void)model_options;
    if (rank == 1) options->block_size = 33;
}

static void no_threads(job *j, uint32_t rank, quire_engine_options *options, quire_model_options *model_options)
{
    (void)j, (void)model_options;
    if (rank == 1) options->cpus = "4000";
}

static void differences_are_named(void **state)
{
    static const struct {
        void (*differ)(job *, uint32_t, quire_engine_options *, quire_model_options *);
        const char *message;
    } cases[] = {
        {other_option,
         "rank 2 on host2: scheduler.max_num_seqs is 5, but of rank 0 on host0: scheduler.max_num_seqs is 6"},
        {other_isa, "rank 1 on host1: the instruction set is scalar, but of rank 0 on host0: the instruction set is"},
        {other_weights, "rank 1 on host1: the model's contents are"},
        {bad_option, "rank 1 on host1: [kv_cache] block_size: 33"},
        {no_threads, "rank 1 on host1: "},
        {other_experts, "rank 2 on host2: the model's shape"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        job j    = cases[i].differ == other_experts ? mixture(QUIRE_DTYPE_F32) : eight_headed(QUIRE_DTYPE_F32);
        j.differ = cases[i].differ;
        refuse(&j, 3, cases[i].message);
    }
}

/* ---- what they tell one another ---- */

/* One greedy sequence on two ranks. */
static void step_as_rank(void *context, uint32_t rank)
{
    job                 *j       = context;
    quire_engine_options options = j->options;
    quire_comm           comm    = thread_ranks_comm(j->ranks, rank);
    quire_model         *model   = open_model(j, &j->model_options);
    quire_engine        *engine  = NULL;
    options.comm                 = &comm;
    if (quire_engine_create(&options, model, &engine, &j->errors[rank]) != QUIRE_OK) abort();
    if (rank == 0) {
        const int32_t       prompt[] = {1, 2, 3, 4, 5};
        const quire_request request  = {
             .size = sizeof request, .prompt = prompt, .prompt_count = 5, .max_tokens = 4, .ignore_eos = true};
        quire_request_id id;
        if (quire_engine_submit(engine, &request, &id, NULL) != QUIRE_OK) abort();
        for (int i = 0; i < 4; i++) {
            j->steps[i].size = sizeof j->steps[i];
            if (quire_engine_step(engine, &j->steps[i]) != QUIRE_OK) abort();
        }
    } else {
        j->status[1] = quire_engine_run(engine);
    }
    quire_engine_destroy(engine);
    quire_model_destroy(model);
}

/* What rank 0 of two receives in a step of a model with two layers. */
typedef struct traffic {
    uint64_t layer_messages, layer_row, hidden; /* bytes of a layer and row; columns that the other rank has */
    uint64_t groups;                            /* of 64 columns of the vocabulary, of the other rank */
} traffic;

static void check_traffic(job *j, const traffic *expected)
{
    enum { LAYERS = 2 };
    j->ranks = thread_ranks_create(2);
    thread_ranks_run(j->ranks, step_as_rank, j);
    for (int i = 0; i < 4; i++) {
        const uint64_t rows   = i == 0 ? 5 : 1;
        const uint64_t logits = 3 * 4 * expected->groups; /* partial log-sum-exp of one row; the rest is not needed */
        assert_int_equal(j->steps[i].rows, rows);
        assert_int_equal(j->steps[i].network_messages, expected->layer_messages * LAYERS + 1 + 1);
        assert_int_equal(j->steps[i].network_bytes,
                         rows * (LAYERS * expected->layer_row + 4 * expected->hidden) + logits);
    }
    close_job(j);
    free(j->answers);
}

static void bytes_and_messages_of_a_step_are_as_the_shapes_say(void **state)
{
    enum { QUERIES = 8 * 16 / 2, HIDDEN = 512 / 2, INNER = 576 - 4 * 64 /* rank 0 has 4 of 9 units */ };
    (void)state;
    job j = eight_headed(QUIRE_DTYPE_BF16);
    check_traffic(&j, &(traffic){4, 2 * QUERIES + 4 * HIDDEN + 2 * INNER + 4 * HIDDEN, HIDDEN, 4});
}

static void a_mixture_of_experts_exchanges_the_columns_of_a_rows_experts(void **state)
{
    enum { QUERIES = 8 * 16 / 2, HIDDEN = 512 / 2, EXPERT = 320 - 2 * 64 /* rank 0 has 2 of 5 units */, CHOSEN = 3 };
    (void)state;
    job j = mixture(QUIRE_DTYPE_BF16);
    check_traffic(&j, &(traffic){4, 2 * QUERIES + 4 * HIDDEN + 2 * CHOSEN * EXPERT + 4 * HIDDEN, HIDDEN, 4});
}

static void norms_of_all_heads_together_take_two_messages_more(void **state)
{
    enum { QUERIES = 4 * 8 / 2, KEYS = 2 * 8 / 2, HIDDEN = 32 / 2, INNER = 48 - 32 };
    (void)state;
    job j  = new_job(QUIRE_DTYPE_BF16);
    j.path = QUIRE_SOURCE_DIR "/tests/models/olmo2";
    check_traffic(&j,
                  &(traffic){6, 4 * QUERIES + 4 * KEYS + 2 * QUERIES + 4 * HIDDEN + 2 * INNER + 4 * HIDDEN, HIDDEN, 1});
}

/* ---- ranks that are lost ---- */

static void ignore_line(void *context, quire_log_level level, const char *line)
{
    (void)context, (void)level, (void)line;
}

/* As if the rank had decided otherwise: its part of the reports of a step is another. */
static int gather_another_hash(void *context, void *data, const size_t *offsets)
{
    quire_comm *plain = context;
    if (offsets[1] == 16) ((char *)data + offsets[plain->rank])[0] ^= 1;
    return plain->gather(plain->context, data, offsets);
}

static int broadcast_through(void *context, void *data, size_t bytes)
{
    quire_comm *plain = context;
    return plain->broadcast(plain->context, data, bytes);
}

static int all_gather_through(void *context, void *data, const size_t *offsets)
{
    quire_comm *plain = context;
    return plain->all_gather(plain->context, data, offsets);
}

static void abort_through(void *context, const char *why)
{
    quire_comm *plain = context;
    plain->abort(plain->context, why);
}

typedef struct loss {
    thread_ranks *ranks;
    quire_model  *model;
    bool          disagree; /* else the collectives fail */
    quire_status  status[2];
} loss;

static void lose(void *context, uint32_t rank)
{
    loss                *l     = context;
    quire_comm           plain = thread_ranks_comm(l->ranks, rank), comm = plain;
    quire_engine_options options = small_engine_options();
    quire_engine        *engine  = NULL;
    if (l->disagree && rank == 1)
        comm = (quire_comm){.size       = sizeof comm,
                            .context    = &plain,
                            .rank       = 1,
                            .ranks      = 2,
                            .broadcast  = broadcast_through,
                            .gather     = gather_another_hash,
                            .all_gather = all_gather_through,
                            .abort      = abort_through};
    options.comm         = &comm;
    options.threads      = 1;
    options.logger.level = QUIRE_LOG_ERROR;
    options.logger.write = ignore_line;
    if ((l->status[rank] = quire_engine_create(&options, l->model, &engine, NULL)) != QUIRE_OK) return;
    if (rank == 0) {
        const int32_t       prompt[] = {1, 2, 3};
        const quire_request request  = {
             .size = sizeof request, .prompt = prompt, .prompt_count = 3, .max_tokens = 50, .ignore_eos = true};
        quire_request_id id;
        l->status[0] = quire_engine_submit(engine, &request, &id, NULL);
        for (int i = 0; i < 10 && l->status[0] == QUIRE_OK; i++) {
            if (i == 5 && !l->disagree) thread_ranks_break(l->ranks);
            l->status[0] = quire_engine_step(engine, NULL);
        }
        if (quire_engine_submit(engine, &request, &id, NULL) != QUIRE_ERR_IO) l->status[0] = QUIRE_ERR_INTERNAL;
    } else {
        l->status[1] = quire_engine_run(engine);
    }
    quire_engine_destroy(engine);
}

static void run_lossy(loss *l)
{
    l->ranks = thread_ranks_create(2);
    l->model = small_engine_model("tiny", NULL);
    thread_ranks_run(l->ranks, lose, l);
    assert_int_equal(l->status[0], QUIRE_ERR_IO);
    assert_int_equal(l->status[1], QUIRE_ERR_IO);
    quire_model_destroy(l->model);
}

static void ranks_that_decide_otherwise_end_with_both_hashes(void **state)
{
    (void)state;
    loss l = {.disagree = true};
    run_lossy(&l);
    const char *why = thread_ranks_aborted(l.ranks);
    assert_non_null(why);
    unsigned long long step, ours, theirs;
    assert_int_equal(sscanf(why, "step %llu: ranks 0 and 1 have decided differently: decision hashes %llx and %llx",
                            &step, &ours, &theirs),
                     3);
    assert_true(ours == (theirs ^ 1));
    thread_ranks_destroy(l.ranks);
}

static void a_rank_that_cannot_be_reached_ends_the_others(void **state)
{
    (void)state;
    loss l = {0};
    run_lossy(&l);
    assert_non_null(strstr(thread_ranks_aborted(l.ranks), "cannot be reached"));
    thread_ranks_destroy(l.ranks);
}

static void a_comm_that_makes_no_sense_is_refused(void **state)
{
    (void)state;
    quire_comm           comm    = {.size = sizeof comm, .rank = 1, .ranks = 1};
    quire_engine_options options = small_engine_options();
    quire_model         *model   = small_engine_model("tiny", NULL);
    quire_engine        *engine  = NULL;
    quire_error          error   = {0};
    options.comm                 = &comm;
    assert_int_equal(quire_engine_create(&options, model, &engine, &error), QUIRE_ERR_INVALID);
    assert_string_equal(error.message, "comm: rank 1 of 1; there may be 1 to 1024 ranks");
    comm.rank = 0;
    assert_int_equal(quire_engine_create(&options, model, &engine, &error), QUIRE_ERR_INVALID);
    assert_string_equal(error.message, "comm: one of its functions is NULL");
    quire_model_destroy(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(llama_gives_the_same_bits_on_1_to_5_ranks),
        cmocka_unit_test(t5_gives_the_same_bits_on_1_to_4_ranks),
        cmocka_unit_test(other_families_give_the_same_bits_on_2_ranks),
        cmocka_unit_test(mixtures_of_experts_give_the_same_bits_on_2_to_4_ranks),
        cmocka_unit_test(norms_of_all_heads_together_give_the_same_bits_on_2_to_4_ranks),
        cmocka_unit_test(eight_ranks_give_the_same_bits_and_hold_an_eighth_of_the_weights),
        cmocka_unit_test(experts_are_divided_among_8_ranks),
        cmocka_unit_test(preemption_and_drafts_give_the_same_bits),
        cmocka_unit_test(several_threads_of_a_rank_give_the_same_bits),
        cmocka_unit_test(rows_beyond_the_buffer_go_in_several_messages),
        cmocka_unit_test(more_ranks_than_heads_are_refused),
        cmocka_unit_test(more_ranks_than_columns_of_an_expert_are_refused),
        cmocka_unit_test(differences_are_named),
        cmocka_unit_test(bytes_and_messages_of_a_step_are_as_the_shapes_say),
        cmocka_unit_test(a_mixture_of_experts_exchanges_the_columns_of_a_rows_experts),
        cmocka_unit_test(norms_of_all_heads_together_take_two_messages_more),
        cmocka_unit_test(ranks_that_decide_otherwise_end_with_both_hashes),
        cmocka_unit_test(a_rank_that_cannot_be_reached_ends_the_others),
        cmocka_unit_test(a_comm_that_makes_no_sense_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
