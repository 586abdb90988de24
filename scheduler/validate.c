/* Checks of a request that need no queue: one table of ranges, ids, and feasibility, which is one formula for pool
 * sizes, submit, admission and guaranteed_no_evict. And the checks of the scheduler's own options. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/error.h"
#include "base/option_list.h"
#include "base/request.h"
#include "base/sized_struct.h"
#include "scheduler/state.h"

enum { MAX_PRIORITY = 1000, MAX_LENGTH_PENALTY = 1000 };
#define MAX_TIMEOUT_NS 86400000000000ull

/* ---- feasibility ---- */

/* A window of W tokens spans at most ceil((W + rows - 2) / bs) + 1 blocks while `rows` rows are written at once. */
static uint32_t self_blocks(const qr_scheduler_options *o, uint32_t positions, uint32_t rows)
{
    const uint32_t self = qr_ceil_div_u32(positions, o->block_size);
    if (o->window == 0) return self;
    const uint64_t span = (uint64_t)o->window + rows - 2;
    return (uint32_t)qr_min_u64(self, qr_ceil_div_u64(span, o->block_size) + 1);
}

/* The fewest blocks one sequence holds when it ends (F). Beams are counted as if they shared nothing: after a
 * preemption each may come back with blocks of its own. */
static uint32_t blocks_least(const qr_scheduler_options *o, uint32_t positions, uint32_t width, uint32_t encoder)
{
    return width * self_blocks(o, positions, 1) + qr_ceil_div_u32(encoder, o->block_size);
}

uint32_t qr_blocks_most(const qr_scheduler_options *o, uint32_t positions, uint32_t width, uint32_t encoder)
{
    return width * self_blocks(o, positions, o->max_num_batched_tokens) + qr_ceil_div_u32(encoder, o->block_size);
}

uint32_t qr_scheduler_blocks_needed(const qr_scheduler_options *options, uint32_t prompt, uint32_t max_tokens,
                                    uint32_t encoder)
{
    return blocks_least(options, prompt + max_tokens - 1, 1, encoder);
}

uint32_t qr_watermark_blocks(const qr_scheduler_options *o)
{
    return (uint32_t)qr_ceil_div_u64((uint64_t)((double)o->watermark * 1e6 + 0.5) * o->num_blocks, 1000000);
}

/* Of each sequence what its window shows, a part of a block at both ends, and a block copied from or left over. */
uint32_t qr_scheduler_local_blocks(const qr_scheduler_options *o)
{
    const uint32_t longest = qr_ceil_div_u32(o->max_model_len, o->block_size);
    const uint64_t shown   = qr_min_u32(qr_ceil_div_u32(o->local_window, o->block_size) + 2, longest);
    const uint64_t rows    = qr_ceil_div_u32(o->max_num_batched_tokens, o->block_size);
    return (uint32_t)qr_min_u64(o->num_blocks, (shown + 2) * o->max_num_seqs + rows + qr_watermark_blocks(o));
}

/* What the pool must have for this request with so many output tokens. */
static uint32_t blocks_for(const qr_scheduler_options *o, const quire_request *r, uint32_t max_tokens)
{
    const uint32_t positions = r->prompt_count + max_tokens - 1, width = r->beam_width > 1 ? r->beam_width : 1;
    if (o->capacity_policy != QUIRE_CAPACITY_GUARANTEED_NO_EVICT)
        return blocks_least(o, positions, width, r->encoder_count);
    const uint64_t most = qr_blocks_most(o, positions, width, r->encoder_count);
    return (uint32_t)qr_min_u64(UINT32_MAX, width > 1 ? most : most * r->n);
}

/* Largest max_tokens <= limit that fits the pool; 0: none. */
static uint32_t tokens_that_fit(const qr_scheduler_options *o, const quire_request *r, uint32_t limit)
{
    uint32_t low = 0, high = limit; /* low fits (or is 0), high + 1 does not */
    while (low < high) {
        const uint32_t middle = low + (high - low + 1) / 2;
        if (blocks_for(o, r, middle) <= o->num_blocks)
            low = middle;
        else
            high = middle - 1;
    }
    return low;
}

static quire_status check_feasible(const qr_scheduler_options *o, quire_request *r, quire_error *error)
{
    const uint32_t fits = tokens_that_fit(o, r, o->max_model_len - r->prompt_count);
    if (r->max_tokens == 0) r->max_tokens = qr_max_u32(1, qr_max_u32(fits, r->min_tokens));
    const uint32_t needed = blocks_for(o, r, r->max_tokens);
    if (needed <= o->num_blocks) return QUIRE_OK;
    char hint[64] = "no max_tokens would fit";
    if (fits > 0) snprintf(hint, sizeof hint, "max_tokens <= %u would fit", fits);
    char encoder[48] = "", beams[32] = "";
    if (r->encoder_count > 0) snprintf(encoder, sizeof encoder, " + encoder input %u", r->encoder_count);
    if (r->beam_width > 1)
        snprintf(beams, sizeof beams, ", beam_width %u", r->beam_width);
    else if (r->n > 1 && o->capacity_policy == QUIRE_CAPACITY_GUARANTEED_NO_EVICT) /* all n at once */
        snprintf(beams, sizeof beams, ", n %u", r->n);
    return qr_fail(error, QUIRE_ERR_TOO_LONG,
                   "needs %u blocks (prompt %u + max_tokens %u%s%s, block_size %u), the pool has %u: %u missing; %s",
                   needed, r->prompt_count, r->max_tokens, encoder, beams, o->block_size, o->num_blocks,
                   needed - o->num_blocks, hint);
}

/* ---- ranges ---- */

typedef struct field {
    const char *name;
    double      value, minimum, maximum;
    bool        zero_too; /* zero means "off" and is accepted below the minimum */
} field;

/* Its frames become positions. */
static quire_status take_frames(const qr_scheduler_options *o, quire_request *r, quire_error *error)
{
    if (o->encoder_feature_size == 0 && r->encoder_frames == 0) return QUIRE_OK;
    if (o->encoder_feature_size == 0)
        return qr_fail(error, QUIRE_ERR_INVALID, "encoder_features: given, but this model %s",
                       o->encoder_decoder ? "reads encoder_input" : "has no encoder");
    if (r->encoder_input != NULL)
        return qr_fail(error, QUIRE_ERR_INVALID, "encoder_input: given, but this model reads encoder_features");
    if (r->encoder_frames > 0 && r->encoder_features == NULL)
        return qr_fail(error, QUIRE_ERR_INVALID, "encoder_features is NULL but %u frames are given", r->encoder_frames);
    r->encoder_count = qr_ceil_div_u32(r->encoder_frames, QR_FRAMES_PER_POSITION);
    return QUIRE_OK;
}

static quire_status check_features(const qr_scheduler_options *o, const quire_request *r, quire_error *error)
{
    const uint32_t size = o->encoder_feature_size;
    for (size_t i = 0; i < (size_t)r->encoder_frames * size; i++)
        if (!isfinite(r->encoder_features[i]))
            return qr_fail(error, QUIRE_ERR_INVALID, "encoder_features[%zu][%zu]: %g is not finite", i / size, i % size,
                           (double)r->encoder_features[i]);
    return QUIRE_OK;
}

static quire_status refuse_encoder_length(const qr_scheduler_options *o, const quire_request *r, uint32_t most,
                                          const char *limit, quire_error *error)
{
    const bool     frames = o->encoder_feature_size > 0;
    const char    *name = frames ? "encoder_features" : "encoder_input", *unit = frames ? "frames" : "tokens";
    const uint32_t found    = frames ? r->encoder_frames : r->encoder_count;
    char           text[32] = "missing";
    if (found > 0) snprintf(text, sizeof text, "%u %s", found, unit);
    return qr_fail(error, r->encoder_count > most ? QUIRE_ERR_TOO_LONG : QUIRE_ERR_INVALID,
                   "%s: %s; this model needs 1 to %u %s (%s)", name, text,
                   frames ? most * QR_FRAMES_PER_POSITION : most, unit, limit);
}

/* First, because other ranges depend on them. */
static quire_status check_lengths(const qr_scheduler_options *o, const quire_request *r, quire_error *error)
{
    if (r->prompt_count < 1 || r->prompt_count >= o->max_model_len)
        return qr_fail(error, r->prompt_count < 1 ? QUIRE_ERR_INVALID : QUIRE_ERR_TOO_LONG,
                       "prompt: %u tokens; this model needs 1 to %u (max_model_len %u - 1)", r->prompt_count,
                       o->max_model_len - 1, o->max_model_len);
    if (!o->encoder_decoder && r->encoder_count > 0)
        return qr_fail(error, QUIRE_ERR_INVALID, "encoder_input: given, but this model has no encoder");
    const bool     own  = o->max_encoder_positions > 0 && o->max_encoder_positions < o->max_num_encoder_input_tokens;
    const uint32_t most = own ? o->max_encoder_positions : o->max_num_encoder_input_tokens;
    if (!o->encoder_decoder || (r->encoder_count >= 1 && r->encoder_count <= most)) return QUIRE_OK;
    return refuse_encoder_length(o, r, most, own ? "the model's own limit" : "scheduler.max_num_encoder_input_tokens",
                                 error);
}

/* Where the maximum comes from, for those that the configuration or another field sets. */
static const char *origin_of_limit(const qr_scheduler_options *o, const field *f)
{
    if (strcmp(f->name, "max_tokens") == 0) return "; the limit is max_model_len minus the prompt";
    if (strcmp(f->name, "prompt_top_logprobs") == 0 && f->maximum == 0) return "; it needs prompt_logprobs";
    const bool sequences = strcmp(f->name, "n") == 0 || strcmp(f->name, "beam_width") == 0;
    return sequences && f->maximum == o->max_num_seqs ? "; the limit is scheduler.max_num_seqs" : "";
}

/* A float with the fewest digits that give it back, so as it was written: 1.1, not 1.100000024. */
static const char *shown(double value, char text[32])
{
    int digits = value == floor(value) ? 10 : 6; /* whole: all of its digits */
    snprintf(text, 32, "%.*g", digits, value);
    for (; digits < 9 && strtof(text, NULL) != (float)value; digits++) snprintf(text, 32, "%.*g", digits + 1, value);
    return text;
}

static quire_status check_fields(const qr_scheduler_options *o, const field *fields, size_t count, quire_error *error)
{
    for (const field *f = fields; f < fields + count; f++) {
        if (f->value >= f->minimum && f->value <= f->maximum) continue; /* a NaN is in no range */
        if (f->zero_too && f->value == 0) continue;
        char value[32], minimum[32], maximum[32];
        return qr_fail(error, QUIRE_ERR_INVALID, "%s: %s is not in %s..%s%s", f->name, shown(f->value, value),
                       shown(f->minimum, minimum), shown(f->maximum, maximum), origin_of_limit(o, f));
    }
    return QUIRE_OK;
}

/* Apart from the table, because a double has not all the digits. */
static quire_status check_timeout(const char *name, uint64_t ns, quire_error *error)
{
    if (ns <= MAX_TIMEOUT_NS) return QUIRE_OK;
    return qr_fail(error, QUIRE_ERR_INVALID, "%s: %llu is not in 0..%llu (24 hours)", name, (unsigned long long)ns,
                   MAX_TIMEOUT_NS);
}

/* The table. Ranges that depend on other fields follow it. */
static quire_status check_ranges(const qr_scheduler_options *o, const quire_request *r, quire_error *error)
{
    const double room     = (double)o->max_model_len - r->prompt_count;
    const double beams    = qr_min_u32(qr_min_u32(QR_MAX_BEAMS, o->max_num_seqs), o->vocab_size / 2);
    const field  fields[] = {
         {"max_tokens", r->max_tokens, 1, room, true},
         {"min_tokens", r->min_tokens, 0, r->max_tokens ? r->max_tokens : room, false},
         {"n", r->n, 1, o->max_num_seqs, true},
         {"beam_width", r->beam_width, 1, beams, true},
         {"stop_count", r->stop_count, 0, QUIRE_MAX_STOP_IDS, false},
         {"logit_bias_count", r->logit_bias_count, 0, QUIRE_MAX_LOGIT_BIAS, false},
         {"allowed_count", r->allowed_count, 0, QUIRE_MAX_LISTED_IDS, false},
         {"banned_count", r->banned_count, 0, QUIRE_MAX_LISTED_IDS, false},
         {"first_banned_count", r->first_banned_count, 0, QUIRE_MAX_STOP_IDS, false},
         {"first_allowed_count", r->first_allowed_count, 0, QUIRE_MAX_STOP_IDS, false},
         {"last_allowed_count", r->last_allowed_count, 0, QUIRE_MAX_STOP_IDS, false},
         {"priority", r->priority, -MAX_PRIORITY, MAX_PRIORITY, false},
         {"temperature", (double)r->sampling.temperature, 0, 100, false},
         {"top_p", (double)r->sampling.top_p, 0, 1, false},
         {"min_p", (double)r->sampling.min_p, 0, 1, false},
         {"repetition_penalty", (double)r->sampling.repetition_penalty, (double)0.01f, 100, true},
         {"presence_penalty", (double)r->sampling.presence_penalty, -2, 2, false},
         {"frequency_penalty", (double)r->sampling.frequency_penalty, -2, 2, false},
         {"logprobs", r->logprobs, 0, QUIRE_MAX_LOGPROBS, false},
         {"prompt_top_logprobs", r->prompt_top_logprobs, 0, r->prompt_logprobs ? QUIRE_MAX_LOGPROBS : 0, false},
         {"logits", r->logits, 0, QUIRE_LOGITS_FIRST | QUIRE_LOGITS_LAST | QUIRE_LOGITS_ALL, false},
         {"length_penalty", (double)r->length_penalty, -MAX_LENGTH_PENALTY, MAX_LENGTH_PENALTY, false},
         {"early_stopping", (double)r->early_stopping, 0, QUIRE_EARLY_STOPPING_NEVER, false},
    };
    QR_TRY(check_fields(o, fields, sizeof fields / sizeof fields[0], error));
    QR_TRY(check_timeout("queue_timeout_ns", r->queue_timeout_ns, error));
    QR_TRY(check_timeout("timeout_ns", r->timeout_ns, error));
    if (qr_is_zero(r->sampling.reserved, sizeof r->sampling.reserved)) return QUIRE_OK;
    return qr_fail(error, QUIRE_ERR_INVALID, "sampling.reserved: must be 0");
}

static quire_status check_ids(const char *name, const int32_t *ids, uint32_t count, uint32_t vocab, quire_error *error)
{
    if (count > 0 && ids == NULL)
        return qr_fail(error, QUIRE_ERR_INVALID, "%s is NULL but %u ids are given", name, count);
    for (uint32_t i = 0; i < count; i++)
        if (ids[i] < 0 || (uint32_t)ids[i] >= vocab)
            return qr_fail(error, QUIRE_ERR_INVALID, "%s[%u]: id %d is not in 0..%u", name, i, ids[i], vocab - 1);
    return QUIRE_OK;
}

static quire_status check_lists(const qr_scheduler_options *o, const quire_request *r, quire_error *error)
{
    QR_TRY(check_ids("prompt", r->prompt, r->prompt_count, o->vocab_size, error));
    if (o->encoder_feature_size == 0)
        QR_TRY(check_ids("encoder_input", r->encoder_input, r->encoder_count, o->vocab_size, error));
    else
        QR_TRY(check_features(o, r, error));
    QR_TRY(check_ids("stop", r->stop, r->stop_count, o->vocab_size, error));
    QR_TRY(check_ids("allowed", r->allowed, r->allowed_count, o->vocab_size, error));
    QR_TRY(check_ids("banned", r->banned, r->banned_count, o->vocab_size, error));
    QR_TRY(check_ids("first_banned", r->first_banned, r->first_banned_count, o->vocab_size, error));
    QR_TRY(check_ids("first_allowed", r->first_allowed, r->first_allowed_count, o->vocab_size, error));
    QR_TRY(check_ids("last_allowed", r->last_allowed, r->last_allowed_count, o->vocab_size, error));
    if (r->logit_bias_count > 0 && r->logit_bias == NULL)
        return qr_fail(error, QUIRE_ERR_INVALID, "logit_bias is NULL but %u entries are given", r->logit_bias_count);
    for (uint32_t i = 0; i < r->logit_bias_count; i++) {
        const quire_logit_bias *b = &r->logit_bias[i];
        QR_TRY(check_ids("logit_bias", &b->token, 1, o->vocab_size, error));
        if (!(b->bias >= -100 && b->bias <= 100))
            return qr_fail(error, QUIRE_ERR_INVALID, "logit_bias[%u]: %g is not in -100..100", i, (double)b->bias);
    }
    return QUIRE_OK;
}

static quire_status check_string(const char *name, const char *text, size_t limit, quire_error *error)
{
    if (text == NULL || strnlen(text, limit + 1) <= limit) return QUIRE_OK;
    return qr_fail(error, QUIRE_ERR_INVALID, "%s: longer than %zu bytes", name, limit);
}

static bool has_id(const int32_t *ids, uint32_t count, int32_t id)
{
    for (uint32_t i = 0; i < count; i++)
        if (ids[i] == id) return true;
    return false;
}

/* Can a first token have this id? min_tokens keeps what would end the sequence from being chosen. */
static bool can_choose(const qr_scheduler_options *o, const quire_request *r, int32_t id)
{
    if (has_id(r->banned, r->banned_count, id)) return false;
    if (has_id(r->first_banned, r->first_banned_count, id)) return false;
    if (r->min_tokens == 0) return true;
    return !has_id(r->stop, r->stop_count, id) && !has_id(o->eos_token_ids, o->eos_count, id);
}

/* At least one token must be left. The lists are at most QUIRE_MAX_LISTED_IDS long, and the search ends at the first
 * token that is left. */
static quire_status check_choice(const qr_scheduler_options *o, const quire_request *r, quire_error *error)
{
    if (r->first_allowed_count > 0) return QUIRE_OK;
    const char *why = r->min_tokens > 0 ? "banned, or ends the sequence before min_tokens" : "also in banned";
    for (uint32_t i = 0; i < r->allowed_count; i++)
        if (can_choose(o, r, r->allowed[i])) return QUIRE_OK;
    if (r->allowed_count > 0)
        return qr_fail(error, QUIRE_ERR_INVALID, "allowed: every id is %s, so no token could be chosen", why);
    if (r->banned_count + r->first_banned_count + r->stop_count + o->eos_count < o->vocab_size) return QUIRE_OK;
    for (uint32_t id = 0; id < o->vocab_size; id++)
        if (can_choose(o, r, (int32_t)id)) return QUIRE_OK;
    return qr_fail(error, QUIRE_ERR_INVALID,
                   "banned: contains every id of the vocabulary, so no token could be chosen");
}

static quire_status check_combinations(const quire_request *r, quire_error *error)
{
    if (r->beam_width <= 1) return QUIRE_OK;
    if (r->n > r->beam_width)
        return qr_fail(error, QUIRE_ERR_INVALID, "n: %u is not in 1..%u (beam_width)", r->n, r->beam_width);
    if (r->sampling.temperature > 0)
        return qr_fail(error, QUIRE_ERR_INVALID, "temperature: %g; beam search does not sample, so it must be 0",
                       (double)r->sampling.temperature);
    if (r->logprobs > 0)
        return qr_fail(error, QUIRE_ERR_INVALID, "logprobs: %u; beam search returns none, so it must be 0",
                       r->logprobs);
    if (r->prompt_logprobs)
        return qr_fail(error, QUIRE_ERR_INVALID, "prompt_logprobs: beam search returns none, so it must be off");
    if (r->logits != 0)
        return qr_fail(error, QUIRE_ERR_INVALID, "logits: %u; beam search returns none, so it must be 0", r->logits);
    return QUIRE_OK;
}

static quire_status check_prompt_logprobs(const qr_scheduler_options *o, const quire_request *r, quire_error *error)
{
    const uint32_t most = qr_max_given_rows(o);
    if (!qr_is_zero(r->reserved, sizeof r->reserved)) return qr_fail(error, QUIRE_ERR_INVALID, "reserved: must be 0");
    if (!r->prompt_logprobs || o->enable_chunked_prefill || r->prompt_count <= most) return QUIRE_OK;
    return qr_fail(error, QUIRE_ERR_INVALID,
                   "prompt_logprobs: with enable_chunked_prefill = false a prompt may have %u tokens, this one has %u",
                   most, r->prompt_count);
}

quire_status qr_request_resolve(const qr_scheduler_options *o, const quire_request *request, quire_request *r,
                                quire_error *error)
{
    QR_TRY(qr_options_copy("quire_request", request, sizeof request->size, r, sizeof *r, error));
    if (o->encoder_decoder && r->prompt_count == 0) r->prompt = &o->decoder_start_token_id, r->prompt_count = 1;
    QR_TRY(take_frames(o, r, error));
    QR_TRY(check_lengths(o, r, error));
    QR_TRY(check_ranges(o, r, error));
    QR_TRY(check_lists(o, r, error));
    QR_TRY(check_string("tenant", r->tenant, QUIRE_MAX_TENANT_NAME, error));
    QR_TRY(check_string("cache_salt", r->cache_salt, QUIRE_MAX_CACHE_SALT, error));
    QR_TRY(check_choice(o, r, error));
    QR_TRY(check_combinations(r, error));
    QR_TRY(check_prompt_logprobs(o, r, error));
    r->n = qr_max_u32(r->n, 1);
    r->skip_reading_prefix_cache |= r->prompt_logprobs; /* what is not computed has no logits */
    return check_feasible(o, r, error);
}

/* ---- the scheduler's own options ---- */

static double most(const char *key) { return qr_option_find(key)->most; }

quire_tenant_options qr_tenant_options_at(const qr_scheduler_options *o, uint32_t i)
{
    quire_tenant_options tenant = {0};
    const size_t         stride = o->tenant_stride ? o->tenant_stride : sizeof tenant;
    memcpy(&tenant, (const char *)o->tenants + i * stride, qr_min_u64(stride, sizeof tenant));
    return tenant;
}

static quire_status check_tenant(const quire_tenant_options *tenant, quire_error *error)
{
    quire_tenant_options copy = *tenant;
    QR_TRY(check_string("tenant.name", tenant->name, QUIRE_MAX_TENANT_NAME, error));
    return qr_option_resolve_all(QR_OF_TENANT, &copy, error);
}

/* Ranges are those of the options that they come from; 0 may be allowed where an option has a word for it. */
quire_status qr_scheduler_options_check(const qr_scheduler_options *o, quire_error *error)
{
    const uint32_t most_eos = sizeof o->eos_token_ids / sizeof o->eos_token_ids[0];
    const field    fields[] = {
           {"max_num_seqs", o->max_num_seqs, 1, most("scheduler.max_num_seqs"), false},
           {"max_num_batched_tokens", o->max_num_batched_tokens, o->max_num_seqs, most("scheduler.max_num_batched_tokens"),
            false},
           {"max_num_encoder_input_tokens", o->max_num_encoder_input_tokens, o->encoder_decoder,
            most("scheduler.max_num_encoder_input_tokens"), false},
           {"max_model_len", o->max_model_len, 2, most("model.max_model_len"), false},
           {"long_prefill_token_threshold", o->long_prefill_token_threshold, 0, o->max_num_batched_tokens, false},
           {"max_num_partial_prefills", o->max_num_partial_prefills, 1, o->max_num_seqs, false},
           {"max_long_partial_prefills", o->max_long_partial_prefills, 1, o->max_num_partial_prefills, false},
           {"priority_ageing_ns", (double)o->priority_ageing_ns, 0, most("scheduler.priority_ageing"), false},
           {"watermark", (double)o->watermark, 0, most("scheduler.watermark"), false},
           {"max_head_passes", o->max_head_passes, 0, most("scheduler.max_head_passes"), false},
           {"max_num_tenants", o->max_num_tenants, 1, most("scheduler.max_num_tenants"), false},
           {"max_num_queued_reqs", o->max_num_queued_reqs, 1, most("scheduler.max_num_queued_reqs"), false},
           {"max_num_queued_tokens", o->max_num_queued_tokens, o->max_model_len, most("scheduler.max_num_queued_tokens"),
            false},
           {"num_speculative_tokens", o->num_speculative_tokens, 0, most("scheduler.num_speculative_tokens"), false},
           {"num_blocks", o->num_blocks, 1, most("kv_cache.num_kv_blocks"), false},
           {"block_size", o->block_size, 1, 65536, false},
           {"node_count", o->node_count, 1, QR_MAX_NODES, false},
           {"vocab_size", o->vocab_size, 1, INT32_MAX, false},
           {"eos_count", o->eos_count, 0, most_eos, false},
    };
    QR_TRY(check_fields(o, fields, sizeof fields / sizeof fields[0], error));
    if (!o->enable_chunked_prefill && o->max_num_batched_tokens < o->max_model_len)
        return qr_fail(
            error, QUIRE_ERR_INVALID,
            "max_num_batched_tokens: %u is below max_model_len %u, which enable_chunked_prefill = false requires",
            o->max_num_batched_tokens, o->max_model_len);
    if (o->local_window > 0) {
        const field local = {"num_local_blocks", o->num_local_blocks, qr_scheduler_local_blocks(o), o->num_blocks,
                             false};
        QR_TRY(check_fields(o, &local, 1, error));
    }
    for (uint32_t i = 0; i < o->tenant_count; i++) {
        const quire_tenant_options tenant = qr_tenant_options_at(o, i);
        QR_TRY(check_tenant(&tenant, error));
    }
    return QUIRE_OK;
}
