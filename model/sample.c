/* Sampling of one row. The order of the steps, which is that of vLLM and Hugging Face:
 *
 *   raw logits, + logit bias, repetition penalty, presence and frequency penalty, masks (allowed, banned, stops; what
 *   the first or the last token must be goes before all of these), temperature, top-k, top-p (of the mass that top-k
 * left), min-p (relative to the likeliest), draw
 *
 * "Order" is value descending, index ascending, so top-k keeps exactly k tokens. Each of the three filters keeps a
 * prefix of that order, and all together the shortest. Where a prefix ends is found by buckets of values first, whose
 * counts and masses one pass adds up, then by a radix selection in the one bucket where the end lies: nothing is
 * sorted, and no pass but the vector ones and that one touches the whole vocabulary. The draw walks the kept tokens by
 * index. All sums run over fixed segments in ascending order. Nothing allocates after create. */
#include "model/sample.h"

#include <math.h>
#include <string.h>

#include "base/bits.h"
#include "base/error.h"
#include "base/memory.h"
#include "base/rng.h"

enum {
    SEGMENT          = 4096, /* tokens; that exp_scaled() and its like take at once */
    BUCKETS          = 2048,
    BUCKETS_PER_UNIT = 64, /* of the scaled value: finer than 2 %, down to 1e-14 of the greatest */
    GATHER_BLOCK     = 16,
    RADIX_BITS       = 11,
    RADIX_SIZE       = 1 << RADIX_BITS,
};

/* A prompt token that was not generated yet; the other bits count how often a token was. */
#define SEEN_IN_PROMPT 0x80000000u

typedef struct candidate {
    uint32_t key;    /* order_key of its scaled value */
    uint32_t index;  /* token */
    float    weight; /* exp of that value */
} candidate;

typedef struct bucket {
    double   mass;
    uint32_t count;
} bucket;

struct qr_sampler {
    const qr_kernels *kernels;
    uint32_t          vocab, segment_count, top;
    float            *processed;  /* [vocab] logits with bias, penalties and masks */
    float            *scaled;     /* [vocab] (processed - greatest) / temperature */
    float            *weights;    /* [vocab] exp(scaled) */
    double           *segments;   /* [segment_count] sums of the weights that are kept */
    uint32_t         *counts;     /* [vocab] zero between calls */
    bucket           *buckets;    /* [BUCKETS] by scaled value, the greatest first */
    uint16_t         *bucket_of;  /* [vocab, whole blocks] */
    candidate        *candidates; /* [vocab] of one bucket, by index */
    double           *histogram;  /* [RADIX_SIZE] */
    qr_arena          arena;
    quire_allocator   allocator;
};

static void lay_out(qr_sampler *sampler, qr_arena *arena)
{
    sampler->processed  = QR_ARENA_TAKE(arena, float, sampler->vocab);
    sampler->scaled     = QR_ARENA_TAKE(arena, float, sampler->vocab);
    sampler->weights    = QR_ARENA_TAKE(arena, float, sampler->vocab);
    sampler->segments   = QR_ARENA_TAKE(arena, double, sampler->segment_count);
    sampler->counts     = QR_ARENA_TAKE(arena, uint32_t, sampler->vocab);
    sampler->buckets    = QR_ARENA_TAKE(arena, bucket, BUCKETS);
    sampler->bucket_of  = QR_ARENA_TAKE(arena, uint16_t, sampler->vocab + GATHER_BLOCK);
    sampler->candidates = QR_ARENA_TAKE(arena, candidate, sampler->vocab);
    sampler->histogram  = QR_ARENA_TAKE(arena, double, RADIX_SIZE);
}

quire_status qr_sampler_create(const qr_kernels *kernels, uint32_t vocab, uint32_t top,
                               const quire_allocator *allocator, qr_sampler **sampler_out, quire_error *error)
{
    *sampler_out        = NULL;
    qr_sampler *sampler = qr_allocate(allocator, sizeof *sampler, _Alignof(qr_sampler));
    if (sampler == NULL) return qr_fail(error, QUIRE_ERR_NO_MEMORY, "sampler: no memory");
    sampler->kernels       = kernels;
    sampler->vocab         = vocab;
    sampler->segment_count = qr_ceil_div_u32(vocab, SEGMENT);
    sampler->top           = qr_min_u32(top, vocab);
    sampler->allocator     = allocator ? *allocator : (quire_allocator){0};
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

void qr_sampler_visit_memory(const qr_sampler *sampler, uint32_t node, qr_memory_visitor *visit, void *context)
{
    visit(context, QUIRE_MEMORY_SCRATCH, sampler->arena.base, sampler->arena.capacity, node);
}

void qr_sampler_destroy(qr_sampler *sampler)
{
    if (sampler == NULL) return;
    const quire_allocator allocator = sampler->allocator;
    qr_arena_destroy(&sampler->arena);
    qr_deallocate(&allocator, sampler, sizeof *sampler);
}

/* ---- what the partial log-sum-exp of a row says ---- */

/* The raw logits: log softmax of x is x - greatest - log_sum. */
typedef struct raw_row {
    uint32_t best; /* the lowest of equals */
    float    greatest;
    double   log_sum;
} raw_row;

/* False: not all of them are finite. */
static bool look_at(const qr_kernels *kernels, const qr_partial_lse *partial_lse, raw_row *raw)
{
    const uint32_t group = kernels->argmax(partial_lse->greatest, partial_lse->groups, &raw->greatest);
    for (uint32_t i = 0; i < partial_lse->groups; i++)
        if (isnan(partial_lse->greatest[i])) return false;
    double sum = 0;
    for (uint32_t i = 0; i < partial_lse->groups; i += SEGMENT) {
        const qr_partial_lse rest = qr_partial_lse_at(partial_lse, 0, i);
        sum += (double)kernels->merge_exp(&rest, qr_min_u32(SEGMENT, partial_lse->groups - i), raw->greatest);
    }
    raw->best    = partial_lse->best[group];
    raw->log_sum = log(sum);
    return true;
}

/* ---- bias, penalties, masks ---- */

static bool has_penalty(const quire_sampling *sampling)
{
    return (sampling->repetition_penalty != 0 && sampling->repetition_penalty != 1) ||
           sampling->presence_penalty != 0 || sampling->frequency_penalty != 0;
}

typedef struct id_list {
    const int32_t *ids;
    uint32_t       count; /* 0: every token is */
} id_list;

/* What output token `index` must be one of. */
static id_list forced(const quire_request *request, uint32_t index)
{
    if (request->last_allowed_count > 0 && index + 1 == request->max_tokens)
        return (id_list){request->last_allowed, request->last_allowed_count};
    return index == 0 ? (id_list){request->first_allowed, request->first_allowed_count} : (id_list){0};
}

/* But for a mask of the host's. */
static bool changes_logits(const quire_request *request, uint32_t index, bool mask_stops)
{
    return has_penalty(&request->sampling) || request->logit_bias_count > 0 || request->allowed_count > 0 ||
           request->banned_count > 0 || (request->first_banned_count > 0 && index == 0) ||
           forced(request, index).count > 0 || mask_stops;
}

bool qr_sample_reads_logits(const quire_request *request, uint32_t index, bool mask_stops)
{
    return request->sampling.temperature > 0 || request->logprobs > 0 || request->beam_width > 1 ||
           request->logits != QUIRE_LOGITS_NONE || request->masked || changes_logits(request, index, mask_stops);
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

static void mask(qr_sampler *sampler, const qr_sample_input *input)
{
    const quire_request *request = input->request;
    if (request->allowed_count > 0) mask_all_but(sampler, request->allowed, request->allowed_count);
    mask_listed(sampler, request->banned, request->banned_count);
    if (input->index == 0) mask_listed(sampler, request->first_banned, request->first_banned_count);
    if (input->mask_stops) {
        mask_listed(sampler, input->eos, input->eos_count);
        mask_listed(sampler, request->stop, request->stop_count);
    }
    if (input->mask != NULL) mask_cleared_bits(sampler, input->mask);
}

/* To a beam search what must come is certain, as Hugging Face has it. */
static void force(qr_sampler *sampler, const qr_sample_input *input, id_list must)
{
    mask_all_but(sampler, must.ids, must.count);
    if (input->request->beam_width <= 1) return;
    for (uint32_t i = 0; i < must.count; i++)
        if (in_vocabulary(sampler, must.ids[i])) sampler->processed[must.ids[i]] = 0;
}

/* The logits to choose from, less `shift`: the raw ones if there is nothing to do, else `processed`. */
static const float *process(qr_sampler *sampler, const qr_sample_input *input, float shift)
{
    const quire_request *request = input->request;
    const id_list        must    = forced(request, input->index);
    if (shift == 0 && !changes_logits(request, input->index, input->mask_stops) && input->mask == NULL)
        return input->logits;
    for (uint32_t i = 0; i < sampler->vocab; i++) sampler->processed[i] = input->logits[i] - shift;
    add_bias(sampler, request);
    if (has_penalty(&request->sampling)) apply_penalties(sampler, input);
    if (must.count > 0)
        force(sampler, input, must);
    else
        mask(sampler, input);
    return sampler->processed;
}

/* ---- weights ---- */

static uint32_t segment_length(const qr_sampler *sampler, uint32_t segment)
{
    return qr_min_u32(SEGMENT, sampler->vocab - segment * SEGMENT);
}

static void weigh(qr_sampler *sampler, const float *logits, float greatest, float temperature)
{
    for (uint32_t s = 0; s < sampler->segment_count; s++) {
        const uint32_t at = s * SEGMENT;
        sampler->segments[s] =
            (double)sampler->kernels->exp_scaled(sampler->scaled + at, sampler->weights + at, logits + at,
                                                 segment_length(sampler, s), greatest, temperature);
    }
}

static double mass_of_segments(const qr_sampler *sampler)
{
    double mass = 0;
    for (uint32_t s = 0; s < sampler->segment_count; s++) mass += sampler->segments[s];
    return mass;
}

/* ---- prefixes of the order ---- */

/* Tokens with a scaled value above `floor`, and those equal to it whose index is below `tie_end`. */
typedef struct prefix {
    float    floor;
    uint32_t tie_end;
} prefix;

static const prefix everything = {-INFINITY, UINT32_MAX};

static prefix shorter(prefix a, prefix b)
{
    if (a.floor != b.floor) return a.floor > b.floor ? a : b;
    return a.tie_end < b.tie_end ? a : b;
}

static bool is_kept(const qr_sampler *sampler, prefix kept, uint32_t i)
{
    return sampler->scaled[i] > kept.floor || (sampler->scaled[i] == kept.floor && i < kept.tie_end);
}

/* The mass of the prefix; leaves that of its segments in `segments`. */
static double measure(qr_sampler *sampler, prefix kept)
{
    const float above = nextafterf(kept.floor, INFINITY);
    for (uint32_t s = 0; s < sampler->segment_count; s++) {
        const uint32_t at = s * SEGMENT, length = segment_length(sampler, s);
        const uint32_t ties = kept.tie_end > at ? qr_min_u32(kept.tie_end - at, length) : 0;
        const float   *x = sampler->scaled + at, *weights = sampler->weights + at;
        sampler->segments[s] = (double)sampler->kernels->sum_from(x, weights, ties, kept.floor) +
                               (double)sampler->kernels->sum_from(x + ties, weights + ties, length - ties, above);
    }
    return mass_of_segments(sampler);
}

static uint32_t bucket_number(float scaled)
{
    const float at = scaled * -BUCKETS_PER_UNIT;
    return (uint32_t)(int32_t)(at < BUCKETS - 1 ? at : BUCKETS - 1); /* a signed conversion is one instruction */
}

static void fill_buckets(qr_sampler *sampler)
{
    memset(sampler->buckets, 0, BUCKETS * sizeof *sampler->buckets);
    for (uint32_t i = 0; i < sampler->vocab; i++) {
        const uint32_t index  = bucket_number(sampler->scaled[i]);
        sampler->bucket_of[i] = (uint16_t)index;
        sampler->buckets[index].mass += (double)sampler->weights[i];
        sampler->buckets[index].count++;
    }
}

/* Ascending integers in the order of the floats; -0 and 0 are equal. */
static uint32_t order_key(float x)
{
    const uint32_t bits = qr_bits_of_f32(x + 0.0f);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

static bool holds(const uint16_t *numbers, uint16_t wanted) /* [GATHER_BLOCK]; a loop that compilers vectorize */
{
    uint16_t found = 0;
    for (int i = 0; i < GATHER_BLOCK; i++) found |= numbers[i] == wanted;
    return found != 0;
}

/* The bucket's tokens become the candidates; returns how many. */
static uint32_t gather(qr_sampler *sampler, uint32_t index)
{
    uint32_t count = 0;
    for (uint32_t start = 0; start < sampler->vocab; start += GATHER_BLOCK) {
        if (!holds(sampler->bucket_of + start, (uint16_t)index)) continue;
        for (uint32_t i = start; i < qr_min_u32(start + GATHER_BLOCK, sampler->vocab); i++)
            if (sampler->bucket_of[i] == index)
                sampler->candidates[count++] = (candidate){order_key(sampler->scaled[i]), i, sampler->weights[i]};
    }
    return count;
}

/* How much of a target one token, or one bucket, is. */
typedef enum measure_by { BY_COUNT, BY_MASS } measure_by;

static double candidate_size(const candidate *c, measure_by by) { return by == BY_MASS ? (double)c->weight : 1; }

static double bucket_size(const bucket *b, measure_by by) { return by == BY_MASS ? b->mass : (double)b->count; }

/* The key at which the shortest prefix of candidates[count] ends whose size reaches `target`, in three passes of a
 * radix selection from the most significant bits down. *ties_out: what those equal to the key must still add. */
static uint32_t find_key(qr_sampler *sampler, uint32_t count, double target, measure_by by, double *ties_out)
{
    static const uint32_t shifts[] = {21, 10, 0}, widths[] = {11, 11, 10};
    uint32_t              key = 0, mask = 0;
    double                above = 0;
    for (int pass = 0; pass < 3; pass++) {
        const uint32_t digit_mask = (1u << widths[pass]) - 1;
        memset(sampler->histogram, 0, RADIX_SIZE * sizeof(double));
        for (uint32_t i = 0; i < count; i++) {
            const candidate *c = &sampler->candidates[i];
            if ((c->key & mask) == key)
                sampler->histogram[c->key >> shifts[pass] & digit_mask] += candidate_size(c, by);
        }
        uint32_t digit = digit_mask, least = 0; /* rounding of sums may leave the target out of reach */
        while (least < digit_mask && sampler->histogram[least] == 0) least++;
        while (digit > least && above + sampler->histogram[digit] < target) above += sampler->histogram[digit--];
        key |= digit << shifts[pass];
        mask |= digit_mask << shifts[pass];
    }
    *ties_out = target - above;
    return key;
}

/* The shortest prefix of the order whose size reaches `target`; at least one token. Buckets are filled. */
static prefix prefix_of(qr_sampler *sampler, double target, measure_by by)
{
    uint32_t at    = 0;
    double   above = 0;
    while (at < BUCKETS - 1 && above + bucket_size(&sampler->buckets[at], by) < target)
        above += bucket_size(&sampler->buckets[at++], by);
    const uint32_t count = gather(sampler, at);
    double         ties;
    const uint32_t key = find_key(sampler, count, target - above, by, &ties);
    prefix         end = everything; /* rounding led past the last token */
    double         sum = 0;
    for (uint32_t i = 0; i < count; i++) {
        const candidate *c = &sampler->candidates[i];
        if (c->key != key) continue;
        end = (prefix){sampler->scaled[c->index], c->index + 1};
        sum += candidate_size(c, by);
        if (sum >= ties) break;
    }
    return end;
}

/* ---- the draw ---- */

/* What top-k, top-p and min-p leave. */
static prefix filter(qr_sampler *sampler, const quire_sampling *sampling)
{
    const bool top_k = sampling->top_k > 0 && sampling->top_k < sampler->vocab;
    const bool top_p = sampling->top_p > 0 && sampling->top_p < 1;
    prefix     kept  = everything;
    if (top_k || top_p) fill_buckets(sampler);
    if (top_k) kept = prefix_of(sampler, sampling->top_k, BY_COUNT);
    if (top_p) {
        const double mass = top_k ? measure(sampler, kept) : mass_of_segments(sampler);
        kept              = shorter(kept, prefix_of(sampler, (double)sampling->top_p * mass, BY_MASS));
    }
    if (sampling->min_p > 0) kept = shorter(kept, (prefix){logf(sampling->min_p), UINT32_MAX});
    if (top_k || top_p || sampling->min_p > 0) (void)measure(sampler, kept);
    return kept;
}

/* The token at `uniform` of the kept mass, by index: the segment by the segments' masses, then the token within. The
 * sums of both differ by rounding, so the last possible token of the segment is taken where none is reached. */
static uint32_t draw_kept(const qr_sampler *sampler, prefix kept, double uniform)
{
    const double target = uniform * mass_of_segments(sampler);
    double       before = 0, sum = 0; /* the mass before the segment `at`, and before the segment s */
    uint32_t     at = 0;
    for (uint32_t s = 0; s < sampler->segment_count && sum <= target; s++) {
        if (sampler->segments[s] > 0) at = s, before = sum;
        sum += sampler->segments[s];
    }
    uint32_t last = at * SEGMENT;
    for (uint32_t i = at * SEGMENT, end = i + segment_length(sampler, at); i < end && before <= target; i++) {
        if (sampler->weights[i] <= 0 || !is_kept(sampler, kept, i)) continue;
        last = i;
        before += (double)sampler->weights[i];
    }
    return last;
}

static uint32_t draw(qr_sampler *sampler, const float *logits, float greatest, const qr_sample_input *input)
{
    const quire_sampling *sampling = &input->request->sampling;
    weigh(sampler, logits, greatest, sampling->temperature);
    return draw_kept(sampler, filter(sampler, sampling),
                     qr_random_uniform(sampling->seed, input->sequence_index, input->position));
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

static float log_probability(const raw_row *raw, float logit)
{
    return (float)((double)logit - (double)raw->greatest - raw->log_sum);
}

static void list_likely(const qr_sampler *sampler, const qr_sample_input *input, const raw_row *raw, uint32_t want,
                        qr_sample_output *output)
{
    if (want == 0) return;
    output->top_count = list_top(input->logits, sampler->vocab, qr_min_u32(want, sampler->top), output->top_tokens,
                                 output->top_logprobs);
    for (uint32_t i = 0; i < output->top_count; i++)
        output->top_logprobs[i] = log_probability(raw, output->top_logprobs[i]);
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
    output->logprob   = log_probability(raw, value);
    list_likely(sampler, input, raw, request->logprobs, output);
}

/* The log probability of the prompt's own next token; one that is impossible has -INFINITY. */
static void tell_given(qr_sampler *sampler, const qr_sample_input *input, const raw_row *raw, qr_sample_output *output)
{
    output->failed = !(raw->greatest > -INFINITY && raw->greatest < INFINITY);
    if (output->failed) return;
    output->token   = input->tokens[input->position];
    output->logprob = log_probability(raw, input->logits[output->token]);
    list_likely(sampler, input, raw, input->request->prompt_top_logprobs, output);
}

void qr_sample(qr_sampler *sampler, const qr_sample_input *input, qr_sample_output *output)
{
    raw_row raw;
    output->token     = -1;
    output->logprob   = 0;
    output->top_count = 0;
    output->failed    = !look_at(sampler->kernels, &input->partial_lse, &raw);
    if (output->failed) return;
    if (input->given)
        tell_given(sampler, input, &raw, output);
    else if (input->request->beam_width > 1)
        sample_beam(sampler, input, &raw, output);
    else
        sample_token(sampler, input, &raw, output);
}
