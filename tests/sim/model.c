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

static void run_copies(sim *s, bool garbage)
{
    const uint32_t bs = s->config.options.block_size;
    for (uint32_t i = 0; i < s->plan->copy_count; i++) {
        const qr_plan_copy *c = &s->plan->copies[i];
        if (c->from == c->to || c->slots == 0 || c->slots > bs)
            sim_fail(s, SIM_ORACLE_CONTENT, "copy %u -> %u of %u slots", c->from, c->to, c->slots);
        s->dirty[c->to] = 1;
        memcpy(&s->slots[(size_t)c->to * bs], &s->slots[(size_t)c->from * bs], c->slots * sizeof *s->slots);
        if (garbage) s->slots[(size_t)c->to * bs] = POISON;
    }
}

static void run_encoder(sim *s, const qr_plan_encoder *e, bool garbage)
{
    const sim_request *r = sim_request_of(s, e->sequence);
    if (e->token_count != r->request.encoder_count ||
        memcmp(e->tokens, r->encoder, e->token_count * sizeof *e->tokens) != 0)
        sim_fail(s, SIM_ORACLE_CONTENT, "request %llu: the plan has another encoder input", (unsigned long long)r->id);
    garbage |= is_retiring(s, e->sequence);
    for (uint32_t i = 0; i < e->token_count; i++) write_slot(s, e->blocks, i, garbage ? POISON : r->encoder_hash[i]);
}

static void read_cross(sim *s, const sim_request *r, const qr_sequence_view *view)
{
    for (uint32_t i = 0; i < r->request.encoder_count; i++) {
        const uint64_t *slot = slot_of(s, view->cross_blocks, i);
        if (slot == NULL || *slot != r->encoder_hash[i])
            sim_fail(s, SIM_ORACLE_CONTENT, "request %llu.%u reads wrong cross content at %u",
                     (unsigned long long)r->id, view->index, i);
    }
}

/* The rows of one sequence. Hashes of its prefixes go to prefix[], [0] before the first token. */
static void run_rows(sim *s, const qr_plan_entry *e, const sim_request *r, const qr_sequence_view *view,
                     uint64_t *prefix)
{
    const uint32_t window = s->config.options.window, end = e->position + e->rows;
    const uint32_t first   = window > 0 && e->position + 1 > window ? e->position + 1 - window : 0;
    const bool     garbage = is_retiring(s, e->sequence);
    prefix[0]              = r->root_hash;
    for (uint32_t p = 0; p < end; p++) prefix[p + 1] = sim_extend(prefix[p], view->tokens[p]);
    for (uint32_t p = first; p < e->position; p++) {
        const uint64_t *slot = slot_of(s, view->blocks, p);
        if (slot == NULL || *slot != prefix[p + 1])
            sim_fail(s, SIM_ORACLE_CONTENT, "request %llu.%u reads a wrong slot at position %u, block %u",
                     (unsigned long long)r->id, view->index, p, view->blocks[p / s->config.options.block_size]);
    }
    for (uint32_t p = e->position; p < end; p++) write_slot(s, view->blocks, p, garbage ? POISON : prefix[p + 1]);
}

static void run_sample(sim *s, const qr_plan_sample *sample, uint32_t i, const sim_request *r,
                       const qr_sequence_view *view, const uint64_t *prefix)
{
    qr_sample_result *result = &s->results[i];
    const uint64_t    hash   = prefix[sample->position];
    *result                  = (qr_sample_result){.logprob = -1, .failed = sample->output_index >= r->not_finite};
    result->token            = sim_token(s, r, hash, view->tokens[sample->position - 1], sample);
    if (r->request.beam_width <= 1) return;
    int32_t *tokens   = s->candidates + (size_t)i * 2 * SIM_STREAMS;
    float   *logprobs = s->candidate_logprobs + (size_t)i * 2 * SIM_STREAMS;
    sim_candidates(s, r, hash, sample->mask_stops, tokens, logprobs);
    result->candidates = tokens, result->candidate_logprobs = logprobs;
}

static void run_entry(sim *s, const qr_plan_entry *e)
{
    uint64_t         prefix[SIM_TOKENS + 1];
    qr_sequence_view view;
    qr_scheduler_sequence(s->scheduler, e->sequence, &view);
    const sim_request *r = sim_request_of(s, e->sequence);
    if (!is_retiring(s, e->sequence)) read_cross(s, r, &view); /* else its encoder may have written garbage */
    run_rows(s, e, r, &view, prefix);
    for (uint32_t i = e->sample_start; i < e->sample_start + e->sample_count; i++)
        run_sample(s, &s->plan->samples[i], i, r, &view, prefix);
}

void sim_forward(sim *s)
{
    run_copies(s, false);
    for (uint32_t i = 0; i < s->plan->encoder_count; i++) run_encoder(s, &s->plan->encoders[i], false);
    for (uint32_t i = 0; i < s->plan->entry_count; i++) run_entry(s, &s->plan->entries[i]);
}

void sim_forward_garbage(sim *s)
{
    run_copies(s, true);
    for (uint32_t i = 0; i < s->plan->encoder_count; i++) run_encoder(s, &s->plan->encoders[i], true);
    for (uint32_t i = 0; i < s->plan->entry_count; i++) {
        const qr_plan_entry *e = &s->plan->entries[i];
        qr_sequence_view     view;
        qr_scheduler_sequence(s->scheduler, e->sequence, &view);
        for (uint32_t p = e->position; p < e->position + e->rows; p++) write_slot(s, view.blocks, p, POISON);
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
