/* The mock model. Slot p of a sequence holds a hash of its tenant, salt, encoder input and tokens[0..p], in the block
 * and at the offset that the block table names; each step re-reads every slot that its rows may see. So wrong reuse,
 * stale blocks, a missing copy-on-write, lost and foreign blocks show at once. */
#include <string.h>

#include "tests/sim/sim.h"

#define POISON 0xdeadbeefdeadbeefu

static uint64_t *slot_of(const sim *s, const uint32_t *blocks, uint32_t position)
{
    const uint32_t bs = s->config.options.block_size, block = blocks[position / bs];
    if (block >= s->config.options.num_blocks) return NULL;
    s->dirty[block] = 1;
    return &s->slots[(size_t)block * bs + position % bs];
}

static void write_slot(sim *s, const uint32_t *blocks, uint32_t position, uint64_t value)
{
    uint64_t *slot = slot_of(s, blocks, position);
    if (slot == NULL) sim_fail(s, SIM_ORACLE_CONTENT, "position %u is written outside the pool", position);
    const uint32_t  block = blocks[position / s->config.options.block_size];
    const qr_block *b     = &s->scheduler->cache.pool.blocks[block];
    if (b->refs != 1 || b->index != QR_INDEX_NONE)
        sim_fail(s, SIM_ORACLE_CONTENT, "block %u is written with %u references, index %u", block, b->refs, b->index);
    *slot = value;
}

static bool is_retiring(const sim *s, uint32_t record)
{
    return s->scheduler->sequences[record].state == QR_SEQUENCE_RETIRING;
}

static uint32_t record_of(const sim *s, uint32_t entry) { return s->scheduler->arrays.sequence_records[entry]; }

static void run_copies(sim *s, bool garbage)
{
    const uint32_t bs = s->config.options.block_size;
    for (uint32_t i = 0; i < s->plan->copy_count; i++) {
        const quire_plan_copy *c = &s->plan->copies[i];
        if (c->from == c->to || c->slots == 0 || c->slots > bs)
            sim_fail(s, SIM_ORACLE_CONTENT, "copy %u -> %u of %u slots", c->from, c->to, c->slots);
        s->dirty[c->to] = 1;
        memcpy(&s->slots[(size_t)c->to * bs], &s->slots[(size_t)c->from * bs], c->slots * sizeof *s->slots);
        if (garbage) s->slots[(size_t)c->to * bs] = POISON;
    }
}

static void run_encoder(sim *s, uint32_t item, bool garbage)
{
    const quire_plan_encoder *e      = &s->plan->encoders[item];
    const uint32_t            record = s->scheduler->arrays.encoder_records[item];
    const sim_request        *r      = sim_request_of(s, record);
    if (e->token_count != r->request.encoder_count ||
        memcmp(e->tokens, r->encoder, e->token_count * sizeof *e->tokens) != 0)
        sim_fail(s, SIM_ORACLE_CONTENT, "request %llu: the plan has another encoder input", (unsigned long long)r->id);
    garbage |= is_retiring(s, record);
    for (uint32_t i = 0; i < e->token_count; i++) write_slot(s, e->blocks, i, garbage ? POISON : r->encoder_hash[i]);
}

static void read_cross(sim *s, const sim_request *r, const quire_plan_sequence *e)
{
    for (uint32_t i = 0; i < r->request.encoder_count; i++) {
        const uint64_t *slot = slot_of(s, e->cross_blocks, i);
        if (slot == NULL || *slot != r->encoder_hash[i])
            sim_fail(s, SIM_ORACLE_CONTENT, "request %llu.%u reads wrong cross content at %u",
                     (unsigned long long)r->id, e->sequence, i);
    }
}

/* The arrays that a model reads instead of tables and tokens of the sequences. */
static void check_row(sim *s, const quire_plan_sequence *e, uint32_t p)
{
    const uint32_t bs = s->config.options.block_size, row = e->row_start + p - e->position;
    if (s->plan->tokens[row] != e->tokens[p] || s->plan->positions[row] != p ||
        s->plan->slots[row] != (uint64_t)e->blocks[p / bs] * bs + p % bs)
        sim_fail(s, SIM_ORACLE_CONTENT, "row %u of the plan is not position %u of its sequence", row, p);
}

/* The rows of one sequence. Hashes of its prefixes go to prefix[], [0] before the first token. */
static void run_rows(sim *s, const quire_plan_sequence *e, const sim_request *r, bool garbage, uint64_t *prefix)
{
    const uint32_t window = s->config.options.window, end = e->position + e->row_count;
    const uint32_t first = window > 0 && e->position + 1 > window ? e->position + 1 - window : 0;
    prefix[0]            = r->root_hash;
    for (uint32_t p = 0; p < end; p++) prefix[p + 1] = sim_extend(prefix[p], e->tokens[p]);
    for (uint32_t p = first; p < e->position; p++) {
        const uint64_t *slot = slot_of(s, e->blocks, p);
        if (slot == NULL || *slot != prefix[p + 1])
            sim_fail(s, SIM_ORACLE_CONTENT, "request %llu.%u reads a wrong slot at position %u, block %u",
                     (unsigned long long)r->id, e->sequence, p, e->blocks[p / s->config.options.block_size]);
    }
    for (uint32_t p = e->position; p < end; p++) {
        check_row(s, e, p);
        write_slot(s, e->blocks, p, garbage ? POISON : prefix[p + 1]);
    }
}

static void run_sample(sim *s, uint32_t i, const sim_request *r, const quire_plan_sequence *e, const uint64_t *prefix)
{
    const quire_plan_sample *sample = &s->plan->samples[i];
    quire_sampled           *result = &s->results[i];
    const uint64_t           hash   = prefix[sample->position];
    if (sample->given) {
        *result = (quire_sampled){.logprob = sim_given_logprob(hash)};
        return;
    }
    *result       = (quire_sampled){.logprob = -1, .failed = sample->index >= r->not_finite};
    result->token = sim_token(s, r, hash, e->tokens[sample->position - 1], sample);
    if (r->request.beam_width <= 1) return;
    int32_t *tokens   = s->candidates + (size_t)i * 2 * SIM_STREAMS;
    float   *logprobs = s->candidate_logprobs + (size_t)i * 2 * SIM_STREAMS;
    sim_candidates(s, r, hash, sample->mask_stops, tokens, logprobs);
    result->candidates = tokens, result->candidate_logprobs = logprobs;
}

static void run_entry(sim *s, uint32_t entry)
{
    uint64_t                   prefix[SIM_TOKENS + 1];
    const quire_plan_sequence *e        = &s->plan->sequences[entry];
    const sim_request         *r        = sim_request_of(s, record_of(s, entry));
    const bool                 retiring = is_retiring(s, record_of(s, entry));
    if (!retiring) read_cross(s, r, e); /* else its encoder may have written garbage */
    run_rows(s, e, r, retiring, prefix);
    for (uint32_t i = e->sample_start; i < e->sample_start + e->sample_count; i++) run_sample(s, i, r, e, prefix);
}

void sim_forward(sim *s)
{
    run_copies(s, false);
    for (uint32_t i = 0; i < s->plan->encoder_count; i++) run_encoder(s, i, false);
    for (uint32_t i = 0; i < s->plan->sequence_count; i++) run_entry(s, i);
}

void sim_forward_garbage(sim *s)
{
    run_copies(s, true);
    for (uint32_t i = 0; i < s->plan->encoder_count; i++) run_encoder(s, i, true);
    for (uint32_t i = 0; i < s->plan->sequence_count; i++) {
        const quire_plan_sequence *e = &s->plan->sequences[i];
        for (uint32_t p = e->position; p < e->position + e->row_count; p++) write_slot(s, e->blocks, p, POISON);
    }
}

/* zero_on_free: what the pool lists is all that lost its content since the last step. */
static void check_freed(sim *s, uint32_t block)
{
    if (!s->config.options.zero_on_free || s->step == 1) return; /* before the first step nothing has had content */
    if (s->scheduler->cache.pool.is_freed[block]) return;
    sim_fail(s, SIM_ORACLE_STATE, "block %u lost its content and is not listed", block);
}

void sim_poison_free(sim *s)
{
    const qr_block_pool *pool = &s->scheduler->cache.pool;
    const uint32_t       bs   = pool->block_size;
    for (uint32_t b = 0; b < pool->num_blocks; b++) {
        if (!s->dirty[b] || pool->blocks[b].state == QR_BLOCK_USED || pool->blocks[b].state == QR_BLOCK_CACHED)
            continue;
        check_freed(s, b);
        for (uint32_t i = 0; i < bs; i++) s->slots[(size_t)b * bs + i] = POISON;
        s->dirty[b] = 0;
    }
    qr_scheduler_freed_clear(s->scheduler);
}
