/* What a seed draws: the configuration, the set of faults it may meet, and its requests. Small everything: pools that a
 * few sequences fill, short queues, few tokens, so that every limit is met often. */
#include <string.h>

#include "base/bits.h"
#include "tests/sim/sim.h"

static bool chance(sim *s, uint32_t percent) { return sim_draw(s, 100) < percent; }

static uint32_t pick(sim *s, const uint32_t *values, uint32_t count) { return values[sim_draw(s, count)]; }
#define PICK(s, ...)                                                                                                   \
    pick((s), (const uint32_t[]){__VA_ARGS__}, sizeof((const uint32_t[]){__VA_ARGS__}) / sizeof(uint32_t))

static void draw_lengths(sim *s)
{
    sim_config           *c = &s->config;
    qr_scheduler_options *o = &c->options;
    o->max_model_len        = 16 + sim_draw(s, PICK(s, 32, 64, 144));
    c->longest_prompt       = 1 + sim_draw(s, o->max_model_len - 1);
    c->longest_output       = 1 + sim_draw(s, o->max_model_len);
    o->encoder_decoder      = chance(s, 40);
    c->longest_encoder      = 1 + sim_draw(s, PICK(s, 8, SIM_ENCODER));
    o->max_num_encoder_input_tokens =
        o->encoder_decoder ? c->longest_encoder + sim_draw(s, PICK(s, 1, 16, 2 * SIM_ENCODER)) : 1;
    c->encoder_inputs = 1 + sim_draw(s, 8);
    o->window         = chance(s, 20) ? 1 + sim_draw(s, o->max_model_len) : 0;
}

static void draw_rows(sim *s)
{
    qr_scheduler_options *o   = &s->config.options;
    o->max_num_seqs           = 1 + sim_draw(s, PICK(s, 4, 8, 16));
    o->enable_chunked_prefill = chance(s, 80);
    const uint32_t least = o->enable_chunked_prefill ? o->max_num_seqs : qr_max_u32(o->max_num_seqs, o->max_model_len);
    o->max_num_batched_tokens       = least + sim_draw(s, PICK(s, 4, 32, 160));
    o->long_prefill_token_threshold = chance(s, 50) ? sim_draw(s, o->max_num_batched_tokens + 1) : 0;
    o->max_num_partial_prefills     = 1 + sim_draw(s, chance(s, 50) ? 1 : o->max_num_seqs);
    o->max_long_partial_prefills    = 1 + sim_draw(s, o->max_num_partial_prefills);
    o->scheduler_reserve_full_isl   = chance(s, 60);
    o->capacity_policy = chance(s, 15) ? QUIRE_CAPACITY_GUARANTEED_NO_EVICT : QUIRE_CAPACITY_MAX_UTILIZATION;
    o->watermark       = (float)PICK(s, 0, 1, 5, 25) / 100;
    o->max_head_passes = PICK(s, 0, 1, 8);
    if (chance(s, 25)) o->num_speculative_tokens = 1 + sim_draw(s, 6);
    o->prompt_lookup_max     = 1 + sim_draw(s, 4);
    s->config.repetitive     = o->num_speculative_tokens > 0;
    o->max_num_queued_reqs   = 2 + sim_draw(s, PICK(s, 4, 16, 40));
    o->max_num_queued_tokens = o->max_model_len + sim_draw(s, PICK(s, 64, 4096));
    o->policy                = chance(s, 35) ? QUIRE_POLICY_PRIORITY : QUIRE_POLICY_FCFS;
    o->priority_ageing_ns    = chance(s, 60) ? 1000u << sim_draw(s, 12) : 0;
}

static void draw_blocks(sim *s)
{
    qr_scheduler_options *o  = &s->config.options;
    o->block_size            = PICK(s, 1, 4, 4, 16, 16, 32);
    const uint32_t one       = qr_ceil_div_u32(o->max_model_len, o->block_size);
    const uint32_t cross     = o->encoder_decoder ? qr_ceil_div_u32(s->config.longest_encoder, o->block_size) : 0;
    const uint32_t most      = chance(s, 20) ? 6 * (one + cross) : 3 * (one + cross);
    o->num_blocks            = qr_min_u32(512, 1 + (one + cross) / 2 + sim_draw(s, most));
    o->node_count            = qr_min_u32(PICK(s, 1, 1, 2, 3, 4), o->num_blocks);
    o->extents               = chance(s, 65);
    o->enable_prefix_caching = chance(s, 80);
    o->enable_cross_sharing  = chance(s, 75);
    o->hash_bits             = PICK(s, 6, 16, 64);
    if (s->run.hash_bits) o->hash_bits = s->run.hash_bits;
    o->hash_seed           = qr_random_u64(s->run.seed, 77, s->run.hash_salt);
    o->cache_events        = qr_random_below(s->run.seed, 78, 0, 4) == 0; /* of a stream of its own */
    s->config.drafts_pause = chance(s, 50);
    o->zero_on_free        = chance(s, 30);
    o->preemption_mode     = chance(s, 25) ? QUIRE_PREEMPTION_RECOMPUTE : QUIRE_PREEMPTION_TAIL;
}

static void draw_tenants(sim *s)
{
    static const char *const names[SIM_TENANTS] = {"", "a", "b", "c"};
    sim_config              *c                  = &s->config;
    c->tenant_names                             = PICK(s, 1, 2, 3, 4);
    c->options.tenant_fairness                  = chance(s, 70);
    c->options.max_num_tenants                  = 1 + sim_draw(s, SIM_TENANTS);
    c->options.tenant_count                     = sim_draw(s, c->tenant_names);
    c->options.tenants                          = c->tenants;
    for (uint32_t i = 0; i < c->options.tenant_count; i++) {
        c->tenants[i] = (quire_tenant_options){.name = names[i], .weight = (float)(1 + sim_draw(s, 4))};
        if (chance(s, 40)) c->tenants[i].max_kv_fraction = 0.1f + (float)sim_draw(s, 9) / 10;
        if (chance(s, 40)) c->tenants[i].max_num_seqs = 1 + sim_draw(s, c->options.max_num_seqs);
        if (chance(s, 40)) c->tenants[i].max_num_queued_reqs = 1 + sim_draw(s, c->options.max_num_queued_reqs);
    }
}

static void draw_traffic(sim *s)
{
    sim_config *c      = &s->config;
    c->arrivals        = PICK(s, 30, 100, 300, 800, 1000);
    c->documents       = 1 + sim_draw(s, 6);
    c->overlap         = PICK(s, 0, 50, 100);
    c->fan_percent     = PICK(s, 0, 0, 20, 50);
    c->beam_percent    = PICK(s, 0, 0, 10, 30);
    c->timeout_percent = PICK(s, 0, 0, 10, 30);
    c->stop_percent    = PICK(s, 0, 0, 30);
    c->salt_percent    = PICK(s, 0, 0, 30);
    for (uint32_t f = 0; f < SIM_FAULT_KINDS; f++) c->faults |= (uint32_t)chance(s, 55) << f;
    if (chance(s, 15)) c->faults = 0;
}

/* One in eight seeds is of the kind that the wait bound is proved for. */
static void draw_bounded(sim *s)
{
    sim_config           *c = &s->config;
    qr_scheduler_options *o = &c->options;
    if (!chance(s, 12)) return;
    c->bounded                      = true;
    o->policy                       = QUIRE_POLICY_FCFS;
    o->max_head_passes              = 0;
    o->scheduler_reserve_full_isl   = true;
    o->window                       = 0;
    o->encoder_decoder              = false;
    o->max_num_encoder_input_tokens = 1;
    o->capacity_policy              = QUIRE_CAPACITY_MAX_UTILIZATION;
    c->tenant_names                 = 1;
    o->tenant_count                 = 0;
    c->beam_percent                 = 0;
    c->faults &= ~(1u << SIM_READER_STOPS | 1u << SIM_READER_STOPS_IN_FLIGHT);
}

/* One in three seeds, a few rows a step so that prompts are cut for it; the wait bound counts no such cuts. */
static void draw_told(sim *s)
{
    if (s->config.bounded || !chance(s, 33)) return;
    s->config.told_percent           = PICK(s, 10, 50, 100);
    s->config.options.max_given_rows = PICK(s, 1, 3, 16, 128);
}

/* Half of the seeds that can: a window of some layers beside others that see everything. */
static void draw_local(sim *s)
{
    qr_scheduler_options *o = &s->config.options;
    if (s->config.bounded || o->window > 0 || o->encoder_decoder || chance(s, 50)) return;
    o->local_window      = 1 + sim_draw(s, PICK(s, 8, 32, o->max_model_len));
    const uint32_t least = qr_scheduler_local_blocks(o);
    o->num_local_blocks  = least + (chance(s, 50) ? sim_draw(s, o->num_blocks - least + 1) : 0);
}

void sim_draw_config(sim *s)
{
    qr_scheduler_options *o   = &s->config.options;
    o->vocab_size             = PICK(s, 29, 53, 211); /* primes: candidates of a beam search are distinct */
    o->eos_count              = chance(s, 30);
    o->eos_token_ids[0]       = 1;
    o->decoder_start_token_id = 0;
    draw_lengths(s);
    draw_rows(s);
    draw_blocks(s);
    draw_tenants(s);
    draw_traffic(s);
    draw_bounded(s);
    draw_told(s);
    draw_local(s);
    s->config.faults &= ~s->run.without;
}

/* ---- requests ---- */

static int32_t document_token(const sim *s, uint32_t document, uint32_t i)
{
    return (int32_t)qr_random_below(s->run.seed, 500 + document, i, s->config.options.vocab_size);
}

/* A client whose request was cancelled sends it again: what the cancelled one left in the cache is looked for. */
static bool repeat_cancelled(sim *s, sim_request *r)
{
    if (s->retries == 0 || !chance(s, 50)) return false;
    s->retries--;
    const sim_request *from = &s->cancelled;
    memcpy(r->prompt, from->prompt, sizeof r->prompt);
    memcpy(r->encoder, from->encoder, sizeof r->encoder);
    r->request.prompt        = r->prompt;
    r->request.prompt_count  = from->request.prompt_count;
    r->request.encoder_input = from->request.encoder_count ? r->encoder : NULL;
    r->request.encoder_count = from->request.encoder_count;
    return true;
}

static void draw_tenant(sim *s, sim_request *r, bool repeats)
{
    static const char *const names[SIM_TENANTS] = {"", "a", "b", "c"};
    const bool               salted = repeats ? s->cancelled.salt[0] != 0 : chance(s, s->config.salt_percent);
    r->tenant_number                = repeats ? s->cancelled.tenant_number : sim_draw(s, s->config.tenant_names);
    strcpy(r->tenant, names[r->tenant_number]);
    r->request.tenant = r->tenant;
    if (!salted) return;
    strcpy(r->salt, repeats ? s->cancelled.salt : sim_draw(s, 2) ? "x" : "y");
    r->request.cache_salt = r->salt;
}

static void draw_prompt(sim *s, sim_request *r)
{
    const sim_config *c        = &s->config;
    const uint32_t    document = sim_draw(s, c->documents), count = 1 + sim_draw(s, c->longest_prompt);
    const uint32_t    common = count * sim_draw(s, c->overlap + 1) / 100;
    const bool        equal  = c->overlap == 100 && chance(s, 30);
    for (uint32_t i = 0; i < count; i++)
        r->prompt[i] =
            equal || i < common ? document_token(s, document, i) : (int32_t)sim_draw(s, c->options.vocab_size);
    r->request.prompt       = r->prompt;
    r->request.prompt_count = count;
}

static void draw_encoder(sim *s, sim_request *r)
{
    if (!s->config.options.encoder_decoder) return;
    const uint32_t input = sim_draw(s, s->config.encoder_inputs);
    const uint32_t count = 1 + qr_random_below(s->run.seed, 600, input, s->config.longest_encoder);
    for (uint32_t i = 0; i < count; i++) r->encoder[i] = document_token(s, 100 + input, i);
    r->request.encoder_input = r->encoder;
    r->request.encoder_count = count;
}

static void draw_decoding(sim *s, sim_request *r)
{
    const sim_config *c    = &s->config;
    quire_request    *q    = &r->request;
    const uint32_t    room = c->options.max_model_len - q->prompt_count;
    const uint32_t    seqs = c->options.max_num_seqs;
    q->max_tokens          = chance(s, 5) ? 0 : qr_min_u32(room, 1 + sim_draw(s, c->longest_output));
    q->min_tokens          = chance(s, 20) ? sim_draw(s, qr_max_u32(q->max_tokens, 1)) : 0;
    q->ignore_eos          = chance(s, 30);
    q->sampling.seed       = sim_draw(s, 1000);
    q->length_penalty      = (float)PICK(s, 0, 5, 10, 20) / 10;
    q->early_stopping      = (quire_early_stopping)sim_draw(s, 3);
    for (uint32_t i = 0; i < SIM_STOPS; i++) r->stop[i] = (int32_t)sim_draw(s, c->options.vocab_size);
    q->stop                = r->stop;
    q->stop_count          = chance(s, c->stop_percent) ? 1 + sim_draw(s, SIM_STOPS) : 0;
    const uint32_t streams = qr_min_u32(SIM_STREAMS, seqs);
    if (chance(s, c->fan_percent)) q->n = 1 + sim_draw(s, streams);
    if (streams > 1 && chance(s, c->beam_percent)) {
        q->beam_width = 2 + sim_draw(s, streams - 1);
        q->n          = 1 + sim_draw(s, q->beam_width);
    }
}

void sim_draw_request(sim *s, sim_request *r)
{
    const sim_config *c = &s->config;
    *r                  = (sim_request){.used = true, .not_finite = UINT32_MAX};
    quire_request *q    = &r->request;
    q->size             = sizeof *q;
    const bool repeats  = repeat_cancelled(s, r);
    if (!repeats) draw_prompt(s, r), draw_encoder(s, r);
    draw_decoding(s, r);
    draw_tenant(s, r, repeats);
    q->priority                  = (int32_t)sim_draw(s, 9) - 4;
    q->skip_reading_prefix_cache = chance(s, 5);
    q->skip_writing_prefix_cache = chance(s, 5);
    if (chance(s, c->timeout_percent)) q->timeout_ns = 1 + sim_draw(s, 400000);
    if (chance(s, c->timeout_percent)) q->queue_timeout_ns = 1 + sim_draw(s, 200000);
    const uint32_t luck = sim_draw(s, 100000);
    r->poison           = c->faults >> SIM_POISON & 1 && luck < 300;
    if (c->faults >> SIM_NOT_FINITE & 1 && luck > 99000) r->not_finite = sim_draw(s, 8);
    if (c->told_percent == 0 || q->beam_width > 1) return;
    const uint32_t most = c->options.enable_chunked_prefill ? UINT32_MAX : c->options.max_given_rows;
    q->prompt_logprobs  = q->prompt_count <= most && chance(s, c->told_percent);
}

quire_status sim_spoil_request(sim *s, quire_request *q)
{
    quire_status refused_as = QUIRE_ERR_INVALID;
    switch (sim_draw(s, 8)) {
    case 0:
        q->prompt_count = s->config.options.max_model_len;
        refused_as      = QUIRE_ERR_TOO_LONG;
        break;
    case 1: q->max_tokens = s->config.options.max_model_len; break;
    case 2: q->n = s->config.options.max_num_seqs + 1; break;
    case 3: q->priority = 1001; break;
    case 4: q->sampling.temperature = -1; break;
    case 5: q->min_tokens = s->config.options.max_model_len; break;
    case 6:
        q->encoder_count = s->config.options.max_num_encoder_input_tokens + 1;
        if (s->config.options.encoder_decoder) refused_as = QUIRE_ERR_TOO_LONG;
        break;
    default: q->size = 0; break;
    }
    return refused_as;
}
