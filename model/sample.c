/* Sampling of one row. The order of the steps, which is that of vLLM and Hugging Face:
 *
 *   raw logits, + logit bias, repetition penalty, presence and frequency penalty, masks (allowed, banned, stops),
 *   temperature, top-k, top-p (of the mass that top-k left), min-p (relative to the likeliest), draw
 *
 * "Order" is value descending, index ascending, so top-k keeps exactly k tokens. The three filters keep a prefix of
 * that order; its end is found by a radix selection, so nothing is sorted. The draw walks the kept tokens by index. All
 * sums run over fixed segments in ascending order. Nothing allocates after create. */
#include "model/sample.h"

#include <math.h>
#include <string.h>

#include "base/bits.h"
#include "base/error.h"
#include "base/memory.h"
#include "base/rng.h"

enum { SEGMENT = 4096, RADIX_BITS = 11, RADIX_SIZE = 1 << RADIX_BITS };

/* A prompt token that was not generated yet; the other bits count how often a token was. */
#define SEEN_IN_PROMPT 0x80000000u

typedef struct candidate {
    uint32_t key;    /* order_key of its value */
    uint32_t index;  /* token */
    float    weight; /* exp of its value below the greatest */
} candidate;

struct qr_sampler {
    const qr_kernels *kernels;
    uint32_t          vocab, top;
    float            *processed;  /* [vocab] logits with bias, penalties and masks */
    float            *scaled;     /* [vocab] (processed - greatest) / temperature */
    uint32_t         *counts;     /* [vocab] zero between calls */
    candidate        *candidates; /* [vocab] by index */
    double           *histogram;  /* [RADIX_SIZE] */
    qr_arena          arena;
    quire_allocator   allocator;
};

static void lay_out(qr_sampler *sampler, qr_arena *arena)
{
    sampler->processed  = QR_ARENA_TAKE(arena, float, sampler->vocab);
    sampler->scaled     = QR_ARENA_TAKE(arena, float, sampler->vocab);
    sampler->counts     = QR_ARENA_TAKE(arena, uint32_t, sampler->vocab);
    sampler->candidates = QR_ARENA_TAKE(arena, candidate, sampler->vocab);
    sampler->histogram  = QR_ARENA_TAKE(arena, double, RADIX_SIZE);
}

quire_status qr_sampler_create(const qr_kernels *kernels, uint32_t vocab, uint32_t top,
                               const quire_allocator *allocator, qr_sampler **sampler_out, quire_error *error)
{
    *sampler_out        = NULL;
    qr_sampler *sampler = qr_allocate(allocator, sizeof *sampler, _Alignof(qr_sampler));
    if (sampler == NULL) return qr_fail(error, QUIRE_ERR_NO_MEMORY, "sampler: no memory");
    sampler->kernels   = kernels;
    sampler->vocab     = vocab;
    sampler->top       = qr_min_u32(top, vocab);
    sampler->allocator = allocator ? *allocator : (quire_allocator){0};
    lay_out(sampler, &sampler->arena);
    const quire_status status = qr_arena_create(&sampler->arena, allocator, "sampler", error);
    if (status != QUIRE_OK) {
        qr_sampler_destroy(sampler);
        return status;
    }
    lay_out(sampler, &sampler->arena);
    *sampler_out = sampler;
    return QUIRE_OK;
}

void qr_sampler_destroy(qr_sampler *sampler)
{
    if (sampler == NULL) return;
    const quire_allocator allocator = sampler->allocator;
    qr_arena_destroy(&sampler->arena);
    qr_deallocate(&allocator, sampler, sizeof *sampler);
}

/* ---- what the digests of a row say, sums over a row ---- */

/* The raw logits: log softmax of x is x - greatest - log_sum. */
typedef struct raw_row {
    uint32_t best; /* the lowest of equals */
    float    greatest;
    double   log_sum;
} raw_row;

/* False: not all of them are finite. */
static bool look_at(const qr_kernels *kernels, const qr_digests *digests, raw_row *raw)
{
    const uint32_t group = kernels->argmax(digests->greatest, digests->groups, &raw->greatest);
    for (uint32_t i = 0; i < digests->groups; i++)
        if (isnan(digests->greatest[i])) return false;
    double sum = 0;
    for (uint32_t i = 0; i < digests->groups; i += SEGMENT) {
        const qr_digests rest = qr_digests_at(digests, 0, i);
        sum += (double)kernels->merge_exp(&rest, qr_min_u32(SEGMENT, digests->groups - i), raw->greatest);
    }
    raw->best    = digests->best[group];
    raw->log_sum = log(sum);
    return true;
}

static double sum_exp(const qr_kernels *kernels, const float *x, uint32_t count, float top)
{
    double sum = 0;
    for (uint32_t i = 0; i < count; i += SEGMENT)
        sum += (double)kernels->sum_exp(x + i, qr_min_u32(SEGMENT, count - i), top);
    return sum;
}

/* ---- bias, penalties, masks ---- */

static bool has_penalty(const quire_sampling *sampling)
{
    return (sampling->repetition_penalty != 0 && sampling->repetition_penalty != 1) ||
           sampling->presence_penalty != 0 || sampling->frequency_penalty != 0;
}

/* But for a mask of the host's. */
static bool changes_logits(const quire_request *request, bool mask_stops)
{
    return has_penalty(&request->sampling) || request->logit_bias_count > 0 || request->allowed_count > 0 ||
           request->banned_count > 0 || mask_stops;
}

bool qr_sample_reads_logits(const quire_request *request, bool mask_stops)
{
    return request->sampling.temperature > 0 || request->logprobs > 0 || request->beam_width > 1 ||
           request->logits != QUIRE_LOGITS_NONE || request->masked || changes_logits(request, mask_stops);
}

static bool in_vocabulary(const qr_sampler *sampler, int32_t token)
{
    return token >= 0 && (uint32_t)token < sampler->vocab;
}

static void add_bias(qr_sampler *sampler, const quire_request *request)
{
    for (uint32_t i = 0; i < request->logit_bias_count; i++)
        if (in_vocabulary(sampler, request->logit_bias[i].token))
            sampler->processed[request->logit_bias[i].token] += request->logit_bias[i].bias;
}

static float penalised(float logit, uint32_t count, const quire_sampling *sampling)
{
    const float    repetition = sampling->repetition_penalty;
    const uint32_t outputs    = count & ~SEEN_IN_PROMPT;
    if (repetition != 0) logit = logit < 0 ? logit * repetition : logit / repetition;
    logit -= sampling->frequency_penalty * (float)outputs;
    return outputs > 0 ? logit - sampling->presence_penalty : logit;
}

/* Counts first, then visits each different token once, leaving the counts zero again. */
static void apply_penalties(qr_sampler *sampler, const qr_sample_input *input)
{
    uint32_t *counts = sampler->counts;
    for (uint32_t i = 0; i < input->token_count; i++) {
        if (!in_vocabulary(sampler, input->tokens[i])) continue;
        uint32_t *count = &counts[input->tokens[i]];
        *count          = i < input->prompt_count ? *count | SEEN_IN_PROMPT : *count + 1;
    }
    for (uint32_t i = 0; i < input->token_count; i++) {
        const int32_t token = input->tokens[i];
        if (!in_vocabulary(sampler, token) || counts[token] == 0) continue;
        sampler->processed[token] = penalised(sampler->processed[token], counts[token], &input->request->sampling);
        counts[token]             = 0;
    }
}

static void mask_listed(qr_sampler *sampler, const int32_t *tokens, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        if (in_vocabulary(sampler, tokens[i])) sampler->processed[tokens[i]] = -INFINITY;
}

static void mask_all_but(qr_sampler *sampler, const int32_t *tokens, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        if (in_vocabulary(sampler, tokens[i])) sampler->counts[tokens[i]] = 1;
    for (uint32_t i = 0; i < sampler->vocab; i++) {
        if (sampler->counts[i] == 0) sampler->processed[i] = -INFINITY;
        sampler->counts[i] = 0;
    }
}

static void mask_cleared_bits(qr_sampler *sampler, const uint32_t *mask)
{
    for (uint32_t start = 0; start < sampler->vocab; start += 32) {
        const uint32_t bits = mask[start / 32], end = qr_min_u32(32, sampler->vocab - start);
        if (bits == UINT32_MAX) continue;
        for (uint32_t i = 0; i < end; i++)
            if ((bits >> i & 1) == 0) sampler->processed[start + i] = -INFINITY;
    }
}

/* The logits to choose from, less `shift`: the raw ones if there is nothing to do, else `processed`. */
static const float *process(qr_sampler *sampler, const qr_sample_input *input, float shift)
{
    const quire_request *request = input->request;
    if (shift == 0 && !changes_logits(request, input->mask_stops) && input->mask == NULL) return input->logits;
    for (uint32_t i = 0; i < sampler->vocab; i++) sampler->processed[i] = input->logits[i] - shift;
    add_bias(sampler, request);
    if (has_penalty(&request->sampling)) apply_penalties(sampler, input);
    if (request->allowed_count > 0) mask_all_but(sampler, request->allowed, request->allowed_count);
    mask_listed(sampler, request->banned, request->banned_count);
    if (input->mask_stops) {
        mask_listed(sampler, input->eos, input->eos_count);
        mask_listed(sampler, request->stop, request->stop_count);
    }
    if (input->mask != NULL) mask_cleared_bits(sampler, input->mask);
    return sampler->processed;
}

/* ---- filters and the draw ---- */

/* Ascending integers in the order of the floats; -0 and 0 are equal. */
static uint32_t order_key(float x)
{
    const uint32_t bits = qr_bits_of_f32(x + 0.0f);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

/* Candidates with a scaled value of at least `floor`, by index; not weighed yet. */
static uint32_t gather(qr_sampler *sampler, float floor)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < sampler->vocab; i++) {
        const float x = sampler->scaled[i];
        if (x >= floor && x > -INFINITY) sampler->candidates[count++] = (candidate){.key = order_key(x), .index = i};
    }
    return count;
}

static void weigh(qr_sampler *sampler, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        sampler->candidates[i].weight = expf(sampler->scaled[sampler->candidates[i].index]);
}

static double mass_of(const qr_sampler *sampler, uint32_t count)
{
    double mass = 0;
    for (uint32_t i = 0; i < count; i++) mass += (double)sampler->candidates[i].weight;
    return mass;
}

typedef struct cut {
    uint32_t key;  /* candidates above are kept */
    double   ties; /* and this many (by_mass: this mass) of those equal to it, lowest index first */
} cut;

/* Where the shortest prefix of the order ends whose count (or mass) reaches `target`: three passes of a radix
 * selection from the most significant bits down. */
static cut find_cut(qr_sampler *sampler, uint32_t count, double target, bool by_mass)
{
    static const uint32_t shifts[] = {21, 10, 0}, widths[] = {11, 11, 10};
    uint32_t              prefix = 0, mask = 0;
    double                above = 0;
    for (int pass = 0; pass < 3; pass++) {
        const uint32_t digit_mask = (1u << widths[pass]) - 1;
        memset(sampler->histogram, 0, RADIX_SIZE * sizeof(double));
        for (uint32_t i = 0; i < count; i++) {
            const candidate *c = &sampler->candidates[i];
            if ((c->key & mask) == prefix)
                sampler->histogram[c->key >> shifts[pass] & digit_mask] += by_mass ? (double)c->weight : 1;
        }
        uint32_t digit = digit_mask;
        while (digit > 0 && above + sampler->histogram[digit] < target) above += sampler->histogram[digit--];
        prefix |= digit << shifts[pass];
        mask |= digit_mask << shifts[pass];
    }
    return (cut){prefix, target - above};
}

/* Keeps what the cut says, in place; returns the new count. */
static uint32_t keep_prefix(qr_sampler *sampler, uint32_t count, cut end, bool by_mass)
{
    uint32_t kept = 0;
    double   ties = 0;
    for (uint32_t i = 0; i < count; i++) {
        const candidate c = sampler->candidates[i];
        if (c.key < end.key) continue;
        if (c.key == end.key) {
            if (ties >= end.ties && ties > 0) continue;
            ties += by_mass ? (double)c.weight : 1;
        }
        sampler->candidates[kept++] = c;
    }
    return kept;
}

static uint32_t keep_top_k(qr_sampler *sampler, uint32_t count, uint32_t k)
{
    if (k == 0 || k >= count) return count;
    return keep_prefix(sampler, count, find_cut(sampler, count, k, false), false);
}

static uint32_t keep_top_p(qr_sampler *sampler, uint32_t count, double mass)
{
    return keep_prefix(sampler, count, find_cut(sampler, count, mass, true), true);
}

static uint32_t keep_min_p(qr_sampler *sampler, uint32_t count, float min_p)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < count; i++)
        if (sampler->candidates[i].weight >= min_p) sampler->candidates[kept++] = sampler->candidates[i];
    return kept;
}

/* Tokens this far below the greatest are looked at only when the likely ones do not fill the filter. */
static const float LIKELY = -16.0f;

/* Each of the three leaves the weighed tokens of its filter in `candidates`, by index. */
static uint32_t start_with_top_k(qr_sampler *sampler, uint32_t k)
{
    uint32_t count = gather(sampler, LIKELY);
    if (count < k) count = gather(sampler, -INFINITY);
    count = keep_top_k(sampler, count, k);
    weigh(sampler, count);
    return count;
}

static uint32_t start_with_top_p(qr_sampler *sampler, float top_p)
{
    double   mass  = sum_exp(sampler->kernels, sampler->scaled, sampler->vocab, 0);
    uint32_t count = gather(sampler, LIKELY);
    weigh(sampler, count);
    if (mass_of(sampler, count) < (double)top_p * mass) {
        count = gather(sampler, -INFINITY);
        weigh(sampler, count);
        mass = mass_of(sampler, count);
    }
    return keep_top_p(sampler, count, (double)top_p * mass);
}

static uint32_t start_with_min_p(qr_sampler *sampler, float min_p)
{
    const uint32_t count = gather(sampler, logf(min_p) - 0.01f); /* a little more; keep_min_p decides */
    weigh(sampler, count);
    return count;
}

/* Leaves the tokens that survive the filters in `candidates`, by index. At least one filter is on. */
static uint32_t filter(qr_sampler *sampler, const quire_sampling *sampling)
{
    const bool top_p = sampling->top_p > 0 && sampling->top_p < 1;
    uint32_t   count;
    if (sampling->top_k > 0) {
        count = start_with_top_k(sampler, sampling->top_k);
        if (top_p) count = keep_top_p(sampler, count, (double)sampling->top_p * mass_of(sampler, count));
    } else {
        count = top_p ? start_with_top_p(sampler, sampling->top_p) : start_with_min_p(sampler, sampling->min_p);
    }
    return sampling->min_p > 0 ? keep_min_p(sampler, count, sampling->min_p) : count;
}

static uint32_t draw_candidate(const qr_sampler *sampler, uint32_t count, double uniform)
{
    const double target = uniform * mass_of(sampler, count);
    double       sum    = 0;
    uint32_t     last   = 0;
    for (uint32_t i = 0; i < count; i++) {
        const candidate *c = &sampler->candidates[i];
        if (c->weight > 0) last = i;
        sum += (double)c->weight;
        if (sum > target) break;
    }
    return sampler->candidates[last].index;
}

/* From the whole vocabulary: the segment by the segments' sums, then the token within. */
static uint32_t draw_any(const qr_sampler *sampler, double uniform)
{
    const float *scaled = sampler->scaled;
    const double target = uniform * sum_exp(sampler->kernels, scaled, sampler->vocab, 0);
    double       sum    = 0;
    uint32_t     start  = 0;
    for (; start + SEGMENT < sampler->vocab; start += SEGMENT) {
        const double segment = (double)sampler->kernels->sum_exp(scaled + start, SEGMENT, 0);
        if (sum + segment > target) break;
        sum += segment;
    }
    uint32_t last = UINT32_MAX;
    for (uint32_t i = start; i < sampler->vocab; i++) {
        const float weight = expf(scaled[i]);
        if (weight > 0) last = i;
        sum += (double)weight;
        if (sum > target && last != UINT32_MAX) return last;
    }
    if (last != UINT32_MAX) return last;
    float greatest; /* rounding led past the last possible token */
    return sampler->kernels->argmax(scaled, sampler->vocab, &greatest);
}

/* (x - greatest) / temperature: never overflows upwards, however small the temperature. */
static void scale(qr_sampler *sampler, const float *x, float greatest, float temperature)
{
    for (uint32_t i = 0; i < sampler->vocab; i++) {
        const float below  = x[i] - greatest;
        sampler->scaled[i] = below == 0 ? 0 : below / temperature;
    }
}

static uint32_t draw(qr_sampler *sampler, const float *logits, float greatest, const qr_sample_input *input)
{
    const quire_sampling *sampling = &input->request->sampling;
    const double          uniform  = qr_random_uniform(sampling->seed, input->sequence_index, input->position);
    scale(sampler, logits, greatest, sampling->temperature);
    const bool filtered = (sampling->top_k > 0 && sampling->top_k < sampler->vocab) ||
                          (sampling->top_p > 0 && sampling->top_p < 1) || sampling->min_p > 0;
    return filtered ? draw_candidate(sampler, filter(sampler, sampling), uniform) : draw_any(sampler, uniform);
}

/* ---- the list of the most likely ---- */

/* The `want` greatest of x by insertion into a sorted list; few enter, since a late one must beat the list's last. */
static uint32_t list_top(const float *x, uint32_t vocab, uint32_t want, int32_t *tokens, float *values)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < vocab; i++) {
        if (!(x[i] > -INFINITY) || (count == want && !(x[i] > values[count - 1]))) continue;
        uint32_t at = count < want ? count++ : want - 1;
        for (; at > 0 && x[i] > values[at - 1]; at--) {
            values[at] = values[at - 1];
            tokens[at] = tokens[at - 1];
        }
        values[at] = x[i];
        tokens[at] = (int32_t)i;
    }
    return count;
}

/* For one row of a beam search: the best `width`, then the best others that are no ends, since of the ends only those
 * among the best of all beams count. What nothing is left for is token 0 with -INFINITY. */
static void list_beams(qr_sampler *sampler, const qr_sample_input *input, const float *x, uint32_t width,
                       qr_sample_output *output)
{
    const quire_request *request  = input->request;
    int32_t             *tokens   = output->top_tokens;
    float               *logprobs = output->top_logprobs;
    uint32_t             count    = list_top(x, sampler->vocab, width, tokens, logprobs);
    if (x != sampler->processed) memcpy(sampler->processed, x, sampler->vocab * sizeof(float));
    mask_listed(sampler, tokens, count);
    if (!request->ignore_eos) mask_listed(sampler, input->eos, input->eos_count);
    mask_listed(sampler, request->stop, request->stop_count);
    count += list_top(sampler->processed, sampler->vocab, width, tokens + count, logprobs + count);
    for (uint32_t i = count; i < 2 * width; i++) tokens[i] = 0, logprobs[i] = -INFINITY;
    output->top_count = count;
}

/* The candidates of one beam, by log probability. Biases, penalties and masks act on log probabilities and are not
 * normalized again, as Hugging Face's generate() does it. */
static void sample_beam(qr_sampler *sampler, const qr_sample_input *input, const raw_row *raw, qr_sample_output *output)
{
    float        greatest;
    const float *x  = process(sampler, input, (float)((double)raw->greatest + raw->log_sum));
    output->token   = (int32_t)sampler->kernels->argmax(x, sampler->vocab, &greatest);
    output->logprob = greatest;
    output->failed  = !(greatest > -INFINITY && greatest < INFINITY);
    if (!output->failed) list_beams(sampler, input, x, input->request->beam_width, output);
}

static void sample_token(qr_sampler *sampler, const qr_sample_input *input, const raw_row *raw,
                         qr_sample_output *output)
{
    const quire_request *request  = input->request;
    const float         *logits   = process(sampler, input, 0);
    float                greatest = raw->greatest;
    uint32_t             token    = raw->best;
    if (logits != input->logits) token = sampler->kernels->argmax(logits, sampler->vocab, &greatest);
    output->failed = !(greatest > -INFINITY && greatest < INFINITY);
    if (output->failed) return;
    if (request->sampling.temperature > 0) token = draw(sampler, logits, greatest, input);
    const float value = token == raw->best ? raw->greatest : input->logits[token];
    output->token     = (int32_t)token;
    output->logprob   = (float)((double)value - (double)raw->greatest - raw->log_sum);

    const uint32_t want = qr_min_u32(request->logprobs, sampler->top);
    if (want == 0) return;
    output->top_count = list_top(input->logits, sampler->vocab, want, output->top_tokens, output->top_logprobs);
    for (uint32_t i = 0; i < output->top_count; i++)
        output->top_logprobs[i] = (float)((double)output->top_logprobs[i] - (double)raw->greatest - raw->log_sum);
}

void qr_sample(qr_sampler *sampler, const qr_sample_input *input, qr_sample_output *output)
{
    raw_row raw;
    output->token     = -1;
    output->logprob   = 0;
    output->top_count = 0;
    output->failed    = !look_at(sampler->kernels, &input->digests, &raw);
    if (output->failed) return;
    if (input->request->beam_width > 1)
        sample_beam(sampler, input, &raw, output);
    else
        sample_token(sampler, input, &raw, output);
}
