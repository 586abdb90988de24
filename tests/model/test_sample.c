/* Sampling against a naive reference that sorts everything in double precision, and against the distribution. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/rng.h"
#include "model/sample.h"

enum { VOCAB = 5000, TOP = 40 };

static uint64_t random_calls;
static double   random_number(void) { return qr_random_uniform(2026, 7, random_calls++); }
static uint32_t random_below(uint32_t limit) { return (uint32_t)(random_number() * limit); }

static uint32_t vocab_in_use; /* of the samplers of the test at hand */

static qr_sampler *sampler_of(uint32_t vocab)
{
    vocab_in_use        = vocab;
    qr_sampler *sampler = NULL;
    quire_error error;
    assert_int_equal(qr_sampler_create(qr_kernels_select(NULL), vocab, TOP, NULL, &sampler, &error), QUIRE_OK);
    return sampler;
}

static void bell_shaped(float *x, uint32_t count, float spread)
{
    for (uint32_t i = 0; i < count; i++) {
        double sum = 0;
        for (int j = 0; j < 6; j++) sum += random_number() - 0.5;
        x[i] = (float)sum * spread;
    }
}

/* ---- the reference ---- */

typedef struct entry {
    double  logit;
    int32_t token;
} entry;

static int by_order(const void *a, const void *b)
{
    const entry *x = a, *y = b;
    if (x->logit != y->logit) return x->logit > y->logit ? -1 : 1;
    return x->token < y->token ? -1 : 1;
}

static bool holds(const int32_t *tokens, uint32_t count, int32_t token)
{
    for (uint32_t i = 0; i < count; i++)
        if (tokens[i] == token) return true;
    return false;
}

static double reference_logit(const qr_sample_input *input, int32_t token)
{
    const quire_request *request = input->request;
    float                x       = input->logits[token];
    for (uint32_t i = 0; i < request->logit_bias_count; i++)
        if (request->logit_bias[i].token == token) x += request->logit_bias[i].bias;
    const quire_sampling *s       = &request->sampling;
    uint32_t              outputs = 0;
    for (uint32_t i = input->prompt_count; i < input->token_count; i++) outputs += input->tokens[i] == token;
    if (s->repetition_penalty != 0 && holds(input->tokens, input->token_count, token))
        x = x < 0 ? x * s->repetition_penalty : x / s->repetition_penalty;
    x -= s->frequency_penalty * (float)outputs;
    if (outputs > 0) x -= s->presence_penalty;
    if (request->allowed_count > 0 && !holds(request->allowed, request->allowed_count, token)) return -INFINITY;
    if (holds(request->banned, request->banned_count, token)) return -INFINITY;
    if (input->mask_stops &&
        (holds(input->eos, input->eos_count, token) || holds(request->stop, request->stop_count, token)))
        return -INFINITY;
    return (double)x;
}

/* Probability of every token as the filters leave it. */
static void reference(const qr_sample_input *input, double *probability)
{
    const quire_sampling *s = &input->request->sampling;
    static entry          entries[VOCAB];
    static double         weight[VOCAB];
    for (int32_t i = 0; i < VOCAB; i++) entries[i] = (entry){reference_logit(input, i), i};
    qsort(entries, VOCAB, sizeof *entries, by_order);
    uint32_t kept = s->top_k > 0 && s->top_k < VOCAB ? s->top_k : VOCAB;
    double   mass = 0, above = 0, sum = 0;
    for (uint32_t i = 0; i < kept; i++) {
        weight[i] = exp((entries[i].logit - entries[0].logit) / (double)s->temperature);
        mass += weight[i];
    }
    uint32_t count = 0;
    for (; count < kept; count++) {
        if (s->top_p > 0 && above >= (double)s->top_p * mass) break;
        if (s->min_p > 0 && weight[count] < (double)s->min_p) break;
        above += weight[count];
    }
    memset(probability, 0, VOCAB * sizeof *probability);
    for (uint32_t i = 0; i < count; i++) sum += weight[i];
    for (uint32_t i = 0; i < count; i++) probability[entries[i].token] = weight[i] / sum;
}

/* The token that the walk by index chooses; a uniform number within 1e-5 of a border leaves it open (-1). */
static int32_t reference_draw(const double *probability, double uniform)
{
    double sum = 0;
    for (int32_t i = 0; i < VOCAB; i++) {
        sum += probability[i];
        if (fabs(sum - uniform) < 1e-5) return -1;
        if (sum > uniform) return i;
    }
    return -1;
}

/* As the projection to the vocabulary leaves them; until the next call. */
static qr_partial_lse partial_lse_of(const float *logits)
{
    const uint32_t vocab = vocab_in_use;
    enum { GROUPS = (VOCAB + QR_LSE_COLUMNS - 1) / QR_LSE_COLUMNS };
    static float    greatest[GROUPS], sum_exp[GROUPS];
    static uint32_t best[GROUPS];
    qr_partial_lse  partial_lse = {greatest, sum_exp, best, (vocab + QR_LSE_COLUMNS - 1) / QR_LSE_COLUMNS};
    for (uint32_t first = 0; first < vocab; first += QR_LSE_COLUMNS) {
        const qr_partial_lse at = qr_partial_lse_at(&partial_lse, 0, first / QR_LSE_COLUMNS);
        qr_kernels_select(NULL)->partial_lse(&at, logits + first, first, qr_min_u32(QR_LSE_COLUMNS, vocab - first));
    }
    return partial_lse;
}

static qr_sample_output run(qr_sampler *sampler, const qr_sample_input *all)
{
    static int32_t   tokens[TOP];
    static float     logprobs[TOP];
    qr_sample_output output = {.top_tokens = tokens, .top_logprobs = logprobs};
    qr_sample_input  input  = *all;
    input.partial_lse       = partial_lse_of(input.logits);
    if (!qr_sample_reads_logits(input.request, input.index, input.mask_stops) && input.mask == NULL)
        input.logits = NULL;
    qr_sample(sampler, &input, &output);
    return output;
}

/* ---- tests ---- */

static void greedy_takes_the_greatest_and_the_lowest_of_equals(void **state)
{
    (void)state;
    float logits[300];
    bell_shaped(logits, 300, 2);
    logits[250] = logits[71] = logits[140] = 9;
    qr_sampler         *sampler            = sampler_of(300);
    const quire_request request            = {0};
    qr_sample_output    output             = run(sampler, &(qr_sample_input){.logits = logits, .request = &request});
    assert_false(output.failed);
    assert_int_equal(output.token, 71);
    double sum = 0;
    for (int i = 0; i < 300; i++) sum += exp((double)logits[i]);
    assert_true(fabs((double)output.logprob - (9 - log(sum))) < 1e-5);
    qr_sampler_destroy(sampler);
}

/* Greedy from the partial log-sum-exp alone, against one pass over the row; few values, so that most rows have ties. */
static void greedy_needs_the_partial_lse_only_and_agrees_with_a_pass_over_the_row(void **state)
{
    (void)state;
    static float logits[VOCAB];
    for (uint32_t i = 0; i < 400; i++) {
        const uint32_t      vocab   = 1 + random_below(i % 2 ? 200 : VOCAB);
        qr_sampler         *sampler = sampler_of(vocab);
        const quire_request request = {0};
        const float         shift   = (float)random_below(3) * 1000 - 1000;
        double              sum     = 0;
        uint32_t            best    = 0;
        for (uint32_t t = 0; t < vocab; t++) logits[t] = (float)random_below(i % 4 ? 40 : 3) / 4 + shift;
        for (uint32_t t = 1; t < vocab; t++)
            if (logits[t] > logits[best]) best = t;
        for (uint32_t t = 0; t < vocab; t++) sum += exp((double)logits[t] - (double)logits[best]);
        assert_false(qr_sample_reads_logits(&request, 1, false));
        const qr_sample_output output = run(sampler, &(qr_sample_input){.logits = logits, .request = &request});
        assert_false(output.failed);
        assert_int_equal(output.token, best);
        assert_true(fabs((double)output.logprob + log(sum)) < 2e-6 * (1 + log(sum)));
        qr_sampler_destroy(sampler);
    }
}

static void the_row_is_read_for_whatever_is_not_plainly_greedy(void **state)
{
    (void)state;
    const quire_logit_bias bias      = {.token = 1, .bias = 1};
    const int32_t          token     = 1;
    const quire_request    reading[] = {{.sampling = {.temperature = 0.5f}},
                                        {.sampling = {.repetition_penalty = 1.1f}},
                                        {.sampling = {.presence_penalty = 0.1f}},
                                        {.sampling = {.frequency_penalty = 0.1f}},
                                        {.logit_bias = &bias, .logit_bias_count = 1},
                                        {.allowed = &token, .allowed_count = 1},
                                        {.banned = &token, .banned_count = 1},
                                        {.logprobs = 1},
                                        {.beam_width = 2},
                                        {.logits = QUIRE_LOGITS_LAST},
                                        {.masked = true}};
    const quire_request    plain     = {.sampling   = {.repetition_penalty = 1, .top_k = 40, .top_p = 0.5f, .seed = 3},
                                        .beam_width = 1,
                                        .stop       = &token,
                                        .stop_count = 1};
    for (size_t i = 0; i < sizeof reading / sizeof *reading; i++)
        assert_true(qr_sample_reads_logits(&reading[i], 1, false));
    assert_true(qr_sample_reads_logits(&plain, 1, true));
    assert_false(qr_sample_reads_logits(&plain, 1, false));
}

static void every_filter_draws_what_a_full_sort_would(void **state)
{
    (void)state;
    static float  logits[VOCAB];
    static double probability[VOCAB];
    qr_sampler   *sampler = sampler_of(VOCAB);
    const struct {
        float    temperature, top_p, min_p;
        uint32_t top_k;
    } cases[]     = {{1, 0, 0, 0},         {0.7f, 0, 0, 0},         {1, 0, 0, 1},        {1, 0, 0, 40},
                     {1.5f, 0, 0, 4999},   {1, 0.9f, 0, 0},         {3, 0.99999f, 0, 0}, {1, 1e-6f, 0, 0},
                     {0.5f, 0.5f, 0, 0},   {1, 0, 0.05f, 0},        {1, 0, 1, 0},        {40, 0, 1e-9f, 0},
                     {2, 0.8f, 0.1f, 60},  {1, 0.95f, 0, 20},       {100, 0.3f, 0, 700}, {0.01f, 0.9f, 0, 100},
                     {1, 0, 0, VOCAB + 1}, {1, 0.9f, 0, UINT32_MAX}};
    uint32_t open = 0;
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        for (uint32_t i = 0; i < 30; i++) {
            bell_shaped(logits, VOCAB, i % 2 ? 3 : 1);
            if (i % 3 == 0) /* many ties */
                for (int t = 0; t < VOCAB; t++) logits[t] = rintf(logits[t] * 2) / 2;
            const quire_request   request = {.sampling = {.temperature = cases[c].temperature,
                                                          .top_p       = cases[c].top_p,
                                                          .min_p       = cases[c].min_p,
                                                          .top_k       = cases[c].top_k,
                                                          .seed        = i}};
            const qr_sample_input input   = {.logits = logits, .request = &request, .sequence_index = 3, .position = i};
            reference(&input, probability);
            const int32_t expected = reference_draw(probability, qr_random_uniform(i, 3, i));
            const int32_t token    = run(sampler, &input).token;
            assert_true(probability[token] > 0);
            if (expected < 0)
                open++;
            else
                assert_int_equal(token, expected);
        }
    }
    assert_true(open < 15);
    qr_sampler_destroy(sampler);
}

static void penalties_bias_and_masks_match_the_reference(void **state)
{
    (void)state;
    static float  logits[VOCAB];
    static double probability[VOCAB];
    qr_sampler   *sampler = sampler_of(VOCAB);
    for (uint32_t i = 0; i < 200; i++) {
        bell_shaped(logits, VOCAB, 2);
        int32_t          tokens[60], banned[20], allowed[30], stop[3], eos[2];
        quire_logit_bias bias[10];
        for (int t = 0; t < 60; t++) tokens[t] = (int32_t)random_below(VOCAB / 50) * 50;
        for (int t = 0; t < 60; t++) logits[tokens[t]] += 4;
        for (int t = 0; t < 20; t++) banned[t] = (int32_t)random_below(VOCAB);
        for (int t = 0; t < 30; t++) allowed[t] = t < 15 ? tokens[t] : (int32_t)random_below(VOCAB);
        for (int t = 0; t < 3; t++) stop[t] = tokens[t];
        for (int t = 0; t < 2; t++) eos[t] = tokens[t + 4];
        /* different tokens: repeated ones add up in a different order */
        for (int t = 0; t < 10; t++) bias[t] = (quire_logit_bias){t * 100, (float)random_number() * 8};
        const quire_request request = {
            .sampling         = {.temperature        = i % 4 == 0 ? 1e-4f : 1,
                                 .seed               = i,
                                 .top_p              = 0.9f,
                                 .repetition_penalty = i % 2 ? 1.3f : 0,
                                 .presence_penalty   = i % 3 ? 0.7f : 0,
                                 .frequency_penalty  = i % 5 ? 0.4f : 0},
            .logit_bias       = bias,
            .logit_bias_count = i % 2 ? 10 : 0,
            .allowed          = allowed,
            .allowed_count    = i % 7 == 0 ? 30 : 0,
            .banned           = banned,
            .banned_count     = 20,
            .stop             = stop,
            .stop_count       = 3,
        };
        const qr_sample_input input = {.logits       = logits,
                                       .request      = &request,
                                       .tokens       = tokens,
                                       .token_count  = 60,
                                       .prompt_count = 25,
                                       .position     = i,
                                       .mask_stops   = i % 2,
                                       .eos          = eos,
                                       .eos_count    = 2};
        reference(&input, probability);
        const int32_t expected = reference_draw(probability, qr_random_uniform(i, 0, i));
        const int32_t token    = run(sampler, &input).token;
        assert_true(probability[token] > 0);
        if (expected >= 0) assert_int_equal(token, expected);
    }
    qr_sampler_destroy(sampler);
}

static void a_token_depends_on_seed_sequence_and_position_only(void **state)
{
    (void)state;
    float logits[1000], other[1000];
    bell_shaped(logits, 1000, 1);
    bell_shaped(other, 1000, 1);
    qr_sampler *one = sampler_of(1000), *two = sampler_of(1000);
    uint32_t    differing = 0;
    for (uint32_t position = 0; position < 100; position++) {
        quire_request         request = {.sampling = {.temperature = 1, .seed = 5, .top_k = position % 2 ? 50 : 0}};
        const qr_sample_input input   = {
              .logits = logits, .request = &request, .sequence_index = 1, .position = position};
        qr_sample_input noise = input;
        noise.logits          = other;
        const int32_t token   = run(one, &input).token;
        (void)run(two, &noise);
        assert_int_equal(run(two, &input).token, token);
        request.sampling.seed = 6;
        differing += run(one, &input).token != token;
    }
    assert_true(differing > 80);
    qr_sampler_destroy(one);
    qr_sampler_destroy(two);
}

static void draws_follow_the_probabilities(void **state)
{
    (void)state;
    static const double probabilities[8] = {0.4, 0.02, 0.18, 0.1, 0.05, 0.15, 0.07, 0.03};
    static const char  *names[]          = {"all", "top_k"};
    float               logits[8];
    for (int i = 0; i < 8; i++) logits[i] = (float)log(probabilities[i]);
    qr_sampler *sampler = sampler_of(8);
    for (uint32_t k = 0; k < 2; k++) {
        const quire_request request   = {.sampling = {.temperature = 1, .seed = 11, .top_k = k * 7}};
        uint32_t            counts[8] = {0}, draws = 20000;
        for (uint32_t i = 0; i < draws; i++)
            counts[run(sampler, &(qr_sample_input){.logits = logits, .request = &request, .position = i}).token]++;
        double chi_square = 0; /* 7 degrees of freedom: above 24.3 once in a thousand */
        for (int i = 0; i < 8; i++) {
            if (k == 1 && i == 1) {
                assert_int_equal(counts[1], 0);
                continue;
            }
            const double expected = probabilities[i] * draws / (k == 1 ? 0.98 : 1);
            chi_square += (counts[i] - expected) * (counts[i] - expected) / expected;
        }
        if (chi_square > 24.3) fail_msg("%s: chi square %g", names[k], chi_square);
    }
    qr_sampler_destroy(sampler);
}

static void the_list_is_sorted_and_ties_go_to_the_lower_id(void **state)
{
    (void)state;
    static float logits[VOCAB];
    bell_shaped(logits, VOCAB, 2);
    for (int i = 0; i < VOCAB; i++) logits[i] = rintf(logits[i] * 8) / 8;
    static entry entries[VOCAB];
    double       sum = 0;
    for (int32_t i = 0; i < VOCAB; i++) {
        entries[i] = (entry){(double)logits[i], i};
        sum += exp((double)logits[i]);
    }
    qsort(entries, VOCAB, sizeof *entries, by_order);
    qr_sampler         *sampler = sampler_of(VOCAB);
    const quire_request request = {.logprobs = 20};
    qr_sample_output    output  = run(sampler, &(qr_sample_input){.logits = logits, .request = &request});
    assert_int_equal(output.top_count, 20);
    assert_int_equal(output.token, output.top_tokens[0]);
    assert_true(output.logprob == output.top_logprobs[0]);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(output.top_tokens[i], entries[i].token);
        assert_true(fabs((double)output.top_logprobs[i] - (entries[i].logit - log(sum))) < 1e-5);
    }
    qr_sampler_destroy(sampler);
}

static void the_first_and_the_last_token_have_rules_of_their_own(void **state)
{
    (void)state;
    float logits[100];
    for (int i = 0; i < 100; i++) logits[i] = (float)-i;
    const int32_t       best[] = {0, 1}, forced[] = {60, 50, 70};
    const quire_request request = {.max_tokens         = 3,
                                   .banned             = forced,
                                   .banned_count       = 2,
                                   .first_banned       = best,
                                   .first_banned_count = 2,
                                   .last_allowed       = forced,
                                   .last_allowed_count = 3};
    qr_sample_input     input   = {.logits = logits, .request = &request};
    qr_sampler         *sampler = sampler_of(100);
    assert_int_equal(run(sampler, &input).token, 2);
    input.index = 1;
    assert_int_equal(run(sampler, &input).token, 0);
    input.index = 2;
    assert_int_equal(run(sampler, &input).token, 50); /* banned or not */
    quire_request start       = request;
    start.first_allowed       = &best[1];
    start.first_allowed_count = 1;
    input                     = (qr_sample_input){.logits = logits, .request = &start};
    assert_int_equal(run(sampler, &input).token, 1);
    start.beam_width              = 2;
    const qr_sample_output output = run(sampler, &input);
    assert_true(output.top_tokens[0] == 1 && output.top_logprobs[0] == 0 && output.top_logprobs[1] == -INFINITY);
    qr_sampler_destroy(sampler);
}

static void beams_get_twice_their_width_of_processed_logprobs(void **state)
{
    (void)state;
    float logits[100];
    bell_shaped(logits, 100, 2);
    int32_t banned[99];
    for (int i = 0; i < 99; i++) banned[i] = i;
    logits[20] = logits[30]  = 20;
    qr_sampler      *sampler = sampler_of(100);
    quire_request    request = {.beam_width = 4, .banned = banned, .banned_count = 25};
    qr_sample_output output  = run(sampler, &(qr_sample_input){.logits = logits, .request = &request});
    assert_int_equal(output.top_count, 8);
    assert_int_equal(output.top_tokens[0], 30);
    assert_true(fabsf(output.top_logprobs[0] + logf(2)) < 1e-3f); /* not normalized again over what is left */
    request.banned_count = 97;
    output               = run(sampler, &(qr_sample_input){.logits = logits, .request = &request});
    assert_int_equal(output.top_count, 3);
    for (int i = 3; i < 8; i++) /* a beam search reads twice its width: what nothing is left for never wins */
        assert_true(output.top_logprobs[i] == -INFINITY);
    qr_sampler_destroy(sampler);
}

static void of_the_ends_of_a_beam_only_the_best_are_listed(void **state)
{
    (void)state;
    float logits[100];
    for (int i = 0; i < 100; i++) logits[i] = (float)-i;
    const int32_t          ends[]     = {1, 3, 4, 5, 6, 7, 8, 9};
    qr_sampler            *sampler    = sampler_of(100);
    const quire_request    request    = {.beam_width = 4, .stop = ends, .stop_count = 8};
    const qr_sample_input  input      = {.logits = logits, .request = &request};
    const int32_t          expected[] = {0, 1, 2, 3, 10, 11, 12, 13};
    const qr_sample_output output     = run(sampler, &input);
    assert_int_equal(output.top_count, 8);
    assert_memory_equal(output.top_tokens, expected, sizeof expected);
    qr_sampler_destroy(sampler);
}

static void a_mask_leaves_the_set_bits_alone(void **state)
{
    (void)state;
    enum { SMALL = 77 }; /* not a whole number of words */
    float logits[SMALL];
    for (uint32_t round = 0; round < 200; round++) {
        uint32_t mask[3] = {0};
        int32_t  best    = -1;
        bell_shaped(logits, SMALL, 3);
        for (int32_t t = 0; t < SMALL; t++) {
            if (random_below(4) > 0 && t != (int32_t)(round % SMALL)) continue;
            mask[t / 32] |= 1u << t % 32;
            if (best < 0 || logits[t] > logits[best]) best = t;
        }
        const quire_request greedy = {0}, warm = {.sampling = {.temperature = 5, .seed = round}};
        qr_sampler         *sampler = sampler_of(SMALL);
        qr_sample_input     input   = {.logits = logits, .request = &greedy, .mask = mask};
        assert_int_equal(run(sampler, &input).token, best);
        input.request       = &warm;
        const int32_t drawn = run(sampler, &input).token;
        assert_true(mask[drawn / 32] >> drawn % 32 & 1);
        memset(mask, 0, sizeof mask);
        mask[2] = ~0u << (SMALL % 32); /* only bits that are no tokens */
        assert_true(run(sampler, &input).failed);
        qr_sampler_destroy(sampler);
    }
}

static void a_non_finite_logit_fails_the_row(void **state)
{
    (void)state;
    const float  bad[]   = {NAN, INFINITY, -INFINITY};
    qr_sampler  *sampler = sampler_of(777);
    static float logits[777];
    for (uint32_t i = 0; i < 60; i++) {
        bell_shaped(logits, 777, 1);
        const quire_request   request = {.sampling = {.temperature = i % 2 ? 1.0f : 0}};
        const qr_sample_input input   = {.logits = logits, .request = &request};
        assert_false(run(sampler, &input).failed);
        logits[i % 3 == 0 ? 776 : random_below(777)] = bad[i % 3];
        assert_true(run(sampler, &input).failed);
    }
    qr_sampler_destroy(sampler);
}

static void a_row_whose_tokens_are_all_masked_fails(void **state)
{
    (void)state;
    float logits[50];
    bell_shaped(logits, 50, 1);
    const int32_t       only    = 17;
    qr_sampler         *sampler = sampler_of(50);
    const quire_request request = {.allowed = &only, .allowed_count = 1};
    qr_sample_input     input   = {.logits = logits, .request = &request, .eos = &only, .eos_count = 1};
    assert_int_equal(run(sampler, &input).token, 17);
    input.mask_stops = true;
    assert_true(run(sampler, &input).failed);
    qr_sampler_destroy(sampler);
}

static void a_filter_that_reaches_into_the_tail_draws_from_it(void **state)
{
    (void)state;
    static float logits[VOCAB]; /* one likely token; 4999 unlikely ones have 2e-4 together */
    for (int i = 0; i < VOCAB; i++) logits[i] = i == 9 ? 0 : -17;
    uint64_t seed = 0;
    while (qr_random_uniform(seed, 0, 0) < 0.99988) seed++;
    qr_sampler           *sampler = sampler_of(VOCAB);
    quire_request         request = {.sampling = {.temperature = 1, .seed = seed, .top_p = 0.99995f}};
    const qr_sample_input input   = {.logits = logits, .request = &request};
    assert_int_not_equal(run(sampler, &input).token, 9);
    request.sampling.top_p = 0.99f;
    assert_int_equal(run(sampler, &input).token, 9);
    request.sampling = (quire_sampling){.temperature = 1, .seed = seed, .top_k = 4990};
    assert_int_not_equal(run(sampler, &input).token, 9);
    qr_sampler_destroy(sampler);
}

static void extreme_temperatures_stay_in_range(void **state)
{
    (void)state;
    static float logits[VOCAB];
    bell_shaped(logits, VOCAB, 10);
    logits[4999]        = 60;
    qr_sampler *sampler = sampler_of(VOCAB);
    for (uint32_t i = 0; i < 20; i++) {
        quire_request         request = {.sampling = {.temperature = 1e-38f, .seed = i, .top_p = i % 2 ? 0.9f : 0}};
        const qr_sample_input input   = {.logits = logits, .request = &request};
        assert_int_equal(run(sampler, &input).token, 4999);
        request.sampling.temperature = 100;
        const int32_t token          = run(sampler, &input).token;
        assert_in_range(token, 0, VOCAB - 1);
    }
    qr_sampler_destroy(sampler);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(greedy_takes_the_greatest_and_the_lowest_of_equals),
        cmocka_unit_test(every_filter_draws_what_a_full_sort_would),
        cmocka_unit_test(penalties_bias_and_masks_match_the_reference),
        cmocka_unit_test(a_token_depends_on_seed_sequence_and_position_only),
        cmocka_unit_test(draws_follow_the_probabilities),
        cmocka_unit_test(the_list_is_sorted_and_ties_go_to_the_lower_id),
        cmocka_unit_test(the_first_and_the_last_token_have_rules_of_their_own),
        cmocka_unit_test(beams_get_twice_their_width_of_processed_logprobs),
        cmocka_unit_test(of_the_ends_of_a_beam_only_the_best_are_listed),
        cmocka_unit_test(a_mask_leaves_the_set_bits_alone),
        cmocka_unit_test(a_non_finite_logit_fails_the_row),
        cmocka_unit_test(a_row_whose_tokens_are_all_masked_fails),
        cmocka_unit_test(a_filter_that_reaches_into_the_tail_draws_from_it),
        cmocka_unit_test(extreme_temperatures_stay_in_range),
        cmocka_unit_test(greedy_needs_the_partial_lse_only_and_agrees_with_a_pass_over_the_row),
        cmocka_unit_test(the_row_is_read_for_whatever_is_not_plainly_greedy),
    };
    return cmocka_run_group_tests_name("model/sample", tests, NULL, NULL);
}
