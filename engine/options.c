/* One table says each option's place, range and default; what follows it are the rules between options. */
#include "engine/options.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

#include "base/bits.h"
#include "base/error.h"
#include "topology/placement.h"

enum {
    POOL_BOOKKEEPING = 96,  /* bytes per block, besides its token ids */
    POOL_SPARE_BYTES = 256, /* MiB of the limit that automatic sizing leaves alone, at least, where half is left */
    USEFUL_TIMES     = 4,
};

/* ---- the table of ranges ---------------------------------------------------------------------------------------- */

typedef enum field_kind { WHOLE, LONG_WHOLE, REAL } field_kind;

typedef struct option_field {
    const char *name;
    size_t      offset;
    field_kind  kind;
    double      least, most;
    double      fallback; /* takes the place of 0 */
    double      special;  /* allowed besides the range; 0: none */
} option_field;

#define AT(member) offsetof(quire_engine_options, member)
#define TOGGLE(section, member)                                                                                        \
    {                                                                                                                  \
        "[" section "] " #member, AT(member), WHOLE, QUIRE_TOGGLE_ON, QUIRE_TOGGLE_OFF, 0, 0                           \
    }
#define CHOICE(section, member, last)                                                                                  \
    {                                                                                                                  \
        "[" section "] " #member, AT(member), WHOLE, 0, last, 0, 0                                                     \
    }

static const option_field fields[] = {
    {"[model] max_model_len", AT(max_model_len), WHOLE, 2, QR_LARGEST_MODEL_LEN, 0, 0},
    CHOICE("scheduler", policy, QUIRE_POLICY_PRIORITY),
    {"[scheduler] priority_ageing_ms", AT(priority_ageing_ms), WHOLE, 1, 86400000, 10000, UINT32_MAX - 1},
    {"[scheduler] max_num_seqs", AT(max_num_seqs), WHOLE, 1, 4096, 64, 0},
    {"[scheduler] max_num_batched_tokens", AT(max_num_batched_tokens), WHOLE, 1, 65536, 0, 0},
    {"[scheduler] max_num_encoder_input_tokens", AT(max_num_encoder_input_tokens), WHOLE, 1, 65536, 0, 0},
    TOGGLE("scheduler", enable_chunked_prefill),
    {"[scheduler] long_prefill_token_threshold", AT(long_prefill_token_threshold), WHOLE, 1, 65536, 0, 0},
    {"[scheduler] max_num_partial_prefills", AT(max_num_partial_prefills), WHOLE, 1, 4096, 1, 0},
    {"[scheduler] max_long_partial_prefills", AT(max_long_partial_prefills), WHOLE, 1, 4096, 1, 0},
    TOGGLE("scheduler", scheduler_reserve_full_isl),
    CHOICE("scheduler", capacity_scheduler_policy, QUIRE_CAPACITY_GUARANTEED_NO_EVICT),
    CHOICE("scheduler", preemption_mode, QUIRE_PREEMPTION_RECOMPUTE),
    {"[scheduler] watermark", AT(watermark), REAL, -1, 0.5, 0.05, 0},
    {"[scheduler] max_head_passes", AT(max_head_passes), WHOLE, 1, 1024, 8, UINT32_MAX},
    {"[scheduler] max_num_queued_reqs", AT(max_num_queued_reqs), WHOLE, 1, 1048576, 1024, 0},
    {"[scheduler] max_num_queued_tokens", AT(max_num_queued_tokens), WHOLE, 2, 1 << 30, 0, 0},
    {"[scheduler] consumer_timeout_ms", AT(consumer_timeout_ms), WHOLE, 1, 86400000, 30000, 0},
    TOGGLE("scheduler", tenant_fairness),
    {"[scheduler] max_num_tenants", AT(max_num_tenants), WHOLE, 1, 1024, 64, 0},
    {"[[tenant]] count", AT(tenant_count), WHOLE, 0, 1024, 0, 0},
    {"[kv_cache] block_size", AT(block_size), WHOLE, 32, 256, 32, 0},
    {"[kv_cache] size", AT(kv_cache_bytes), LONG_WHOLE, 1, 0x1p60, 0, 0},
    {"[kv_cache] num_kv_blocks", AT(num_kv_blocks), WHOLE, 1, 1 << 28, 0, 0},
    {"[kv_cache] memory_fraction", AT(memory_fraction), REAL, 0.001, 1, 0, 0},
    CHOICE("kv_cache", kv_dtype, QUIRE_DTYPE_INT8),
    TOGGLE("kv_cache", enable_prefix_caching),
    TOGGLE("kv_cache", enable_cross_sharing),
    TOGGLE("kv_cache", extents),
    TOGGLE("kv_cache", zero_on_free),
    {"[topology] threads", AT(threads), WHOLE, 1, QR_MAX_THREADS, 0, 0},
    TOGGLE("topology", smt),
    CHOICE("topology", bind, QUIRE_BIND_NONE),
    TOGGLE("topology", huge_pages),
    {"[topology] barrier_spin", AT(barrier_spin_ns), WHOLE, 1, 1000000000, 20000, 0},
    TOGGLE("numa", numa_strict),
    CHOICE("kernels", small_m, QUIRE_SMALL_M_OWN),
    TOGGLE("kernels", batch_invariant),
    TOGGLE("kernels", prefetch),
    {"max_logits_in_flight", AT(max_logits_in_flight), WHOLE, 1, 65536, 0, 0},
    {"num_speculative_tokens", AT(num_speculative_tokens), WHOLE, 1, 15, 0, 0},
    {"prompt_lookup_max", AT(prompt_lookup_max), WHOLE, 1, 16, 4, 0},
    TOGGLE("scheduler", speculative_adaptive),
    {"stage_slices", AT(stage_slices), WHOLE, 1, 65536, 0, 0},
};

static double read_field(const quire_engine_options *options, const option_field *field)
{
    const char *at = (const char *)options + field->offset;
    uint32_t    whole;
    uint64_t    long_whole;
    float       real;
    switch (field->kind) {
    case REAL: memcpy(&real, at, sizeof real); return (double)real;
    case LONG_WHOLE: memcpy(&long_whole, at, sizeof long_whole); return (double)long_whole;
    default: memcpy(&whole, at, sizeof whole); return whole;
    }
}

/* Only for fields with a fallback, which are 32 bits wide. */
static void write_fallback(quire_engine_options *options, const option_field *field)
{
    char          *at    = (char *)options + field->offset;
    const float    real  = (float)field->fallback;
    const uint32_t whole = (uint32_t)field->fallback;
    if (field->kind == REAL)
        memcpy(at, &real, sizeof real);
    else
        memcpy(at, &whole, sizeof whole);
}

static quire_status check_field(quire_engine_options *options, const option_field *field, quire_error *error)
{
    const double value = read_field(options, field);
    if (value == 0) {
        if (field->fallback != 0) write_fallback(options, field);
        return QUIRE_OK;
    }
    if (value >= field->least && value <= field->most) return QUIRE_OK;
    if (field->special != 0 && value == field->special) return QUIRE_OK;
    const int digits = field->kind == REAL ? 6 : 19;
    return qr_fail(error, QUIRE_ERR_INVALID, "%s: %.*g is not in %.*g..%.*g", field->name, digits, value, digits,
                   field->least, digits, field->most);
}

/* ---- rules between options -------------------------------------------------------------------------------------- */

static quire_status resolve_model_len(quire_engine_options *options, const qr_model_facts *facts, quire_error *error)
{
    const uint32_t own = facts->max_position_embeddings;
    if (options->max_model_len == 0)
        options->max_model_len = own ? qr_min_u32(own, QR_LARGEST_MODEL_LEN) : QR_FALLBACK_MODEL_LEN;
    if (own == 0 || options->max_model_len <= own) return QUIRE_OK;
    return qr_fail(error, QUIRE_ERR_INVALID, "[model] max_model_len: %u is above the model's own limit %u",
                   options->max_model_len, own);
}

static quire_status resolve_batch(quire_engine_options *options, quire_error *error)
{
    const bool whole_prompts = options->enable_chunked_prefill == QUIRE_TOGGLE_OFF;
    if (options->max_num_batched_tokens == 0) {
        options->max_num_batched_tokens = qr_max_u32(512, options->max_num_seqs);
        if (whole_prompts)
            options->max_num_batched_tokens = qr_max_u32(options->max_num_batched_tokens, options->max_model_len);
    }
    const uint32_t rows = options->max_num_batched_tokens;
    if (rows < options->max_num_seqs)
        return qr_fail(error, QUIRE_ERR_INVALID, "[scheduler] max_num_batched_tokens: %u is below max_num_seqs %u",
                       rows, options->max_num_seqs);
    if (whole_prompts && rows < options->max_model_len)
        return qr_fail(
            error, QUIRE_ERR_INVALID,
            "[scheduler] max_num_batched_tokens: %u is below max_model_len %u, which enable_chunked_prefill = "
            "false requires",
            rows, options->max_model_len);
    if (options->max_num_encoder_input_tokens == 0) options->max_num_encoder_input_tokens = qr_max_u32(rows, 512);
    if (options->long_prefill_token_threshold == 0) options->long_prefill_token_threshold = qr_max_u32(rows / 2, 1);
    if (options->long_prefill_token_threshold > rows)
        return qr_fail(error, QUIRE_ERR_INVALID,
                       "[scheduler] long_prefill_token_threshold: %u is above max_num_batched_tokens %u",
                       options->long_prefill_token_threshold, rows);
    return QUIRE_OK;
}

static quire_status resolve_prefills(const quire_engine_options *options, quire_error *error)
{
    if (options->max_num_partial_prefills > options->max_num_seqs)
        return qr_fail(error, QUIRE_ERR_INVALID, "[scheduler] max_num_partial_prefills: %u is above max_num_seqs %u",
                       options->max_num_partial_prefills, options->max_num_seqs);
    if (options->max_long_partial_prefills > options->max_num_partial_prefills)
        return qr_fail(error, QUIRE_ERR_INVALID,
                       "[scheduler] max_long_partial_prefills: %u is above max_num_partial_prefills %u",
                       options->max_long_partial_prefills, options->max_num_partial_prefills);
    return QUIRE_OK;
}

static quire_status resolve_queue(quire_engine_options *options, const qr_model_facts *facts, quire_error *error)
{
    const uint32_t encoder = facts->encoder_decoder ? options->max_num_encoder_input_tokens : 0;
    const uint32_t longest = options->max_model_len + encoder;
    if (options->max_num_queued_tokens == 0) options->max_num_queued_tokens = qr_max_u32(1 << 20, longest);
    if (options->max_num_queued_tokens >= longest) return QUIRE_OK;
    return qr_fail(error, QUIRE_ERR_INVALID,
                   "[scheduler] max_num_queued_tokens: %u is below %u, the longest request (max_model_len %u + encoder "
                   "tokens %u)",
                   options->max_num_queued_tokens, longest, options->max_model_len, encoder);
}

static bool in_range(float value, float least, float most) { return value >= least && value <= most; }

static quire_status check_tenant(const quire_engine_options *options, uint32_t i, quire_error *error)
{
    const quire_tenant_options *tenant = &options->tenants[i];
    if (tenant->name == NULL || strnlen(tenant->name, QUIRE_MAX_TENANT_NAME + 1) > QUIRE_MAX_TENANT_NAME)
        return qr_fail(error, QUIRE_ERR_INVALID, "[[tenant]] %u: name: is missing or longer than %d bytes", i,
                       QUIRE_MAX_TENANT_NAME);
    if (tenant->weight != 0 && !in_range(tenant->weight, 1, 1000))
        return qr_fail(error, QUIRE_ERR_INVALID, "[[tenant]] %s: weight: %g is not in 1..1000", tenant->name,
                       (double)tenant->weight);
    if (tenant->max_kv_fraction != 0 && !in_range(tenant->max_kv_fraction, 0.01f, 1))
        return qr_fail(error, QUIRE_ERR_INVALID, "[[tenant]] %s: max_kv_fraction: %g is not in 0.01..1", tenant->name,
                       (double)tenant->max_kv_fraction);
    for (uint32_t k = 0; k < i; k++)
        if (strcmp(options->tenants[k].name, tenant->name) == 0)
            return qr_fail(error, QUIRE_ERR_INVALID, "[[tenant]] %s: is given twice", tenant->name);
    return QUIRE_OK;
}

static quire_status check_tenants(const quire_engine_options *options, quire_error *error)
{
    if (options->tenant_count > options->max_num_tenants)
        return qr_fail(error, QUIRE_ERR_INVALID, "[[tenant]] count: %u is above max_num_tenants %u",
                       options->tenant_count, options->max_num_tenants);
    if (options->tenant_count > 0 && options->tenants == NULL)
        return qr_fail(error, QUIRE_ERR_INVALID, "[[tenant]] count: %u, but tenants is NULL", options->tenant_count);
    for (uint32_t i = 0; i < options->tenant_count; i++) QR_TRY(check_tenant(options, i, error));
    return QUIRE_OK;
}

static quire_status check_cache(quire_engine_options *options, quire_error *error)
{
    if (!qr_is_power_of_two(options->block_size))
        return qr_fail(error, QUIRE_ERR_INVALID, "[kv_cache] block_size: %u is not one of 32, 64, 128, 256",
                       options->block_size);
    const int given = (options->kv_cache_bytes != 0) + (options->num_kv_blocks != 0) + (options->memory_fraction != 0);
    if (given > 1)
        return qr_fail(error, QUIRE_ERR_INVALID,
                       "[kv_cache] size, num_kv_blocks, memory_fraction: at most one may be given, there are %d",
                       given);
    if (given == 0) options->memory_fraction = 0.5f;
    if (options->kv_dtype == QUIRE_DTYPE_AUTO) options->kv_dtype = QUIRE_DTYPE_BF16;
    return QUIRE_OK;
}

static quire_status check_isa(const char *isa, quire_error *error)
{
    static const char *const names[] = {"scalar", "avx2", "avx512", "avx512_bf16"};
    if (isa == NULL) return QUIRE_OK;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(isa, names[i]) == 0) return QUIRE_OK;
    return qr_fail(error, QUIRE_ERR_INVALID, "[kernels] isa: \"%.32s\" is not one of scalar, avx2, avx512, avx512_bf16",
                   isa);
}

static quire_status check_allocator(const quire_allocator *allocator, quire_error *error)
{
    if ((allocator->allocate == NULL) == (allocator->deallocate == NULL)) return QUIRE_OK;
    return qr_fail(error, QUIRE_ERR_INVALID, "allocator: give both functions or neither");
}

quire_status qr_options_resolve(quire_engine_options *options, const qr_model_facts *facts, quire_error *error)
{
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) QR_TRY(check_field(options, &fields[i], error));
    QR_TRY(resolve_model_len(options, facts, error));
    QR_TRY(resolve_batch(options, error));
    QR_TRY(resolve_prefills(options, error));
    QR_TRY(resolve_queue(options, facts, error));
    QR_TRY(check_tenants(options, error));
    QR_TRY(check_cache(options, error));
    QR_TRY(check_isa(options->isa, error));
    return check_allocator(&options->allocator, error);
}

/* ---- the parts -------------------------------------------------------------------------------------------------- */

static bool on_unless_off(quire_toggle toggle) { return toggle != QUIRE_TOGGLE_OFF; }

static void fill_scheduling(const quire_engine_options *options, qr_scheduler_options *out)
{
    const bool strict_priority        = options->priority_ageing_ms == UINT32_MAX - 1;
    const bool no_threshold           = options->long_prefill_token_threshold == options->max_num_batched_tokens;
    out->policy                       = options->policy;
    out->priority_ageing_ns           = strict_priority ? 0 : (uint64_t)options->priority_ageing_ms * 1000000;
    out->max_num_seqs                 = options->max_num_seqs;
    out->max_num_batched_tokens       = options->max_num_batched_tokens;
    out->max_num_encoder_input_tokens = options->max_num_encoder_input_tokens;
    out->max_model_len                = options->max_model_len;
    out->enable_chunked_prefill       = on_unless_off(options->enable_chunked_prefill);
    out->long_prefill_token_threshold = no_threshold ? 0 : options->long_prefill_token_threshold;
    out->max_num_partial_prefills     = options->max_num_partial_prefills;
    out->max_long_partial_prefills    = options->max_long_partial_prefills;
    out->scheduler_reserve_full_isl   = on_unless_off(options->scheduler_reserve_full_isl);
    out->capacity_policy              = options->capacity_scheduler_policy;
    out->preemption_mode              = options->preemption_mode;
    out->watermark                    = fmaxf(options->watermark, 0);
    out->max_head_passes              = options->max_head_passes == UINT32_MAX ? 0 : options->max_head_passes;
    out->tenant_fairness              = on_unless_off(options->tenant_fairness);
    out->max_num_tenants              = options->max_num_tenants;
    out->tenants                      = options->tenants;
    out->tenant_count                 = options->tenant_count;
    out->max_num_queued_reqs          = options->max_num_queued_reqs;
    out->max_num_queued_tokens        = options->max_num_queued_tokens;
    out->num_speculative_tokens       = options->num_speculative_tokens;
    out->prompt_lookup_max            = options->prompt_lookup_max;
}

void qr_options_scheduler(const quire_engine_options *options, const qr_model_facts *facts, qr_scheduler_options *out)
{
    *out = (qr_scheduler_options){0};
    fill_scheduling(options, out);
    out->block_size             = options->block_size;
    out->enable_prefix_caching  = on_unless_off(options->enable_prefix_caching);
    out->enable_cross_sharing   = on_unless_off(options->enable_cross_sharing);
    out->extents                = on_unless_off(options->extents);
    out->zero_on_free           = options->zero_on_free == QUIRE_TOGGLE_ON;
    out->hash_bits              = 64;
    out->encoder_decoder        = facts->encoder_decoder;
    out->vocab_size             = facts->vocab_size;
    out->window                 = facts->window;
    out->decoder_start_token_id = facts->decoder_start_token_id;
    out->eos_count              = facts->eos_count;
    memcpy(out->eos_token_ids, facts->eos_token_ids, sizeof out->eos_token_ids);
    out->allocator = options->allocator;
}

static qr_dtype dtype_of(quire_dtype dtype)
{
    return dtype == QUIRE_DTYPE_F32 ? QR_F32 : dtype == QUIRE_DTYPE_INT8 ? QR_INT8 : QR_BF16;
}

void qr_options_network(const quire_engine_options *options, const qr_model_facts *facts, qr_network_options *out)
{
    const uint32_t samples = options->max_num_seqs * (1 + options->num_speculative_tokens);
    *out                   = (qr_network_options){
                          .isa                = options->isa,
                          .kv_dtype           = dtype_of(options->kv_dtype),
                          .block_size         = options->block_size,
                          .max_rows           = options->max_num_batched_tokens,
                          .max_sequences      = options->max_num_seqs,
                          .max_logits_rows    = qr_min_u32(samples, options->max_num_batched_tokens),
                          .max_encoder_tokens = facts->encoder_decoder ? options->max_num_encoder_input_tokens : 0,
                          .max_model_len      = options->max_model_len,
                          .small_m            = options->small_m,
                          .stage_slices       = options->stage_slices,
                          .batch_invariant    = on_unless_off(options->batch_invariant),
                          .prefetch           = options->prefetch,
                          .allocator          = options->allocator,
    };
}

/* ---- sizes ------------------------------------------------------------------------------------------------------ */

static uint64_t automatic_bytes(uint64_t limit, float fraction)
{
    const uint64_t spare = qr_min_u64(qr_max_u64((uint64_t)POOL_SPARE_BYTES << 20, limit / 20), limit / 2);
    return (uint64_t)((double)(limit - spare) * (double)fraction);
}

uint32_t qr_options_useful_blocks(const qr_scheduler_options *options)
{
    const uint32_t encoder = options->encoder_decoder ? options->max_num_encoder_input_tokens : 0;
    const uint64_t longest = qr_scheduler_blocks_needed(options, 1, options->max_model_len - 1, encoder);
    return (uint32_t)qr_min_u64(longest * options->max_num_seqs * USEFUL_TIMES, UINT32_MAX);
}

static quire_status check_explicit(const qr_pool_request *request, uint64_t budget, quire_error *error)
{
    if (budget <= request->limit) return QUIRE_OK;
    if (request->size)
        return qr_fail(error, QUIRE_ERR_INVALID, "[kv_cache] size: %llu bytes are above the %llu this process can take",
                       (unsigned long long)request->size, (unsigned long long)request->limit);
    return qr_fail(error, QUIRE_ERR_INVALID,
                   "[kv_cache] num_kv_blocks: %u blocks are %llu bytes, above the %llu this process can take",
                   request->num_blocks, (unsigned long long)budget, (unsigned long long)request->limit);
}

/* Whole extents on each node where there are enough. */
static uint32_t round_to_extents(uint64_t blocks, uint32_t node_count)
{
    const uint64_t unit = (uint64_t)8 * node_count;
    return (uint32_t)(blocks >= unit ? blocks / unit * unit : blocks);
}

quire_status qr_options_pool_blocks(const qr_pool_request *request, uint32_t *num_blocks_out, quire_error *error)
{
    const uint64_t with_books = request->block_bytes + POOL_BOOKKEEPING + sizeof(int32_t) * request->block_size;
    const bool     automatic  = request->size == 0 && request->num_blocks == 0;
    const uint64_t budget     = request->num_blocks ? request->num_blocks * with_books
                                : request->size     ? request->size
                                                    : automatic_bytes(request->limit, request->fraction);
    if (!automatic) QR_TRY(check_explicit(request, budget, error));
    uint64_t blocks = request->num_blocks ? request->num_blocks : budget / with_books;
    if (automatic) blocks = qr_min_u64(blocks, request->useful_blocks);
    if (blocks == 0)
        return qr_fail(error, QUIRE_ERR_INVALID,
                       "[kv_cache] %s: %llu bytes do not hold one block of %llu; this process can take %llu",
                       automatic ? "memory_fraction" : "size", (unsigned long long)budget,
                       (unsigned long long)with_books, (unsigned long long)request->limit);
    blocks          = qr_min_u64(blocks, 1u << 28);
    *num_blocks_out = request->num_blocks ? (uint32_t)blocks : round_to_extents(blocks, request->node_count);
    return QUIRE_OK;
}
