/* The mock model. Slot p of a sequence holds a hash of its tenant, salt, encoder input and tokens[0..p], in the block
 * and at the offset that the block table names; each step re-reads every slot that its rows may see. So wrong reuse,
 * stale blocks, a missing copy-on-write, lost and foreign blocks show at once. */
#include <string.h>

#include "tests/sim/sim.h"

#define POISON 0xdeadbeefdeadbeefu

/* Of local blocks, and of the others: their numbers start anew, their slots lie behind, their content is another. */
static const qr_block_pool *pool_of(const sim *s, bool local)
{
    return local ? &s->scheduler->cache.local : &s->scheduler->cache.pool;
}
static uint32_t first_block(const sim *s, bool local) { return local ? s->config.options.num_blocks : 0; }
static uint64_t content(uint64_t hash, bool local) { return local ? ~hash : hash; }

static uint64_t *slot_of(const sim *s, bool local, const uint32_t *blocks, uint32_t position)
{
    const uint32_t bs = s->config.options.block_size, block = blocks[position / bs];
    if (block >= pool_of(s, local)->num_blocks) return NULL;
    s->dirty[first_block(s, local) + block] = 1;
    return &s->slots[((size_t)first_block(s, local) + block) * bs + position % bs];
}

static void write_slot(sim *s, bool local, const uint32_t *blocks, uint32_t position, uint64_t value)
{
    uint64_t *slot = slot_of(s, local, blocks, position);
    if (slot == NULL) sim_fail(s, SIM_ORACLE_CONTENT, "position %u is written outside the pool", position);
    const uint32_t  block = blocks[position / s->config.options.block_size];
    const qr_block *b     = &pool_of(s, local)->blocks[block];
    if (b->refs != 1 || b->index != QR_INDEX_NONE)
        sim_fail(s, SIM_ORACLE_CONTENT, "block %u is written with %u references, index %u", block, b->refs, b->index);
    *slot = value == POISON ? value : content(value, local);
}

static bool is_retiring(const sim *s, uint32_t record)
{
    return s->scheduler->sequences[record].state == QR_SEQUENCE_RETIRING;
}

static uint32_t record_of(const sim *s, uint32_t entry) { return s->scheduler->arrays.sequence_records[entry]; }

static void run_copy(sim *s, const quire_plan_copy *c, bool local, bool garbage)
{
    const size_t bs = s->config.options.block_size, from = (size_t)first_block(s, local) + c->from,
                 to = (size_t)first_block(s, local) + c->to;
    if (c->from == c->to || c->slots == 0 || c->slots > bs)
        sim_fail(s, SIM_ORACLE_CONTENT, "copy %u -> %u of %u slots", c->from, c->to, c->slots);
    s->dirty[to] = 1;
    memcpy(&s->slots[to * bs], &s->slots[from * bs], c->slots * sizeof *s->slots);
    if (garbage) s->slots[to * bs] = POISON;
}

static void run_copies(sim *s, bool garbage)
{
    for (uint32_t i = 0; i < s->plan->copy_count; i++) run_copy(s, &s->plan->copies[i], false, garbage);
    for (uint32_t i = 0; i < s->plan->local_copy_count; i++) run_copy(s, &s->plan->local_copies[i], true, garbage);
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
    for (uint32_t i = 0; i < e->token_count; i++)
        write_slot(s, false, e->blocks, i, garbage ? POISON : r->encoder_hash[i]);
}

static void read_cross(sim *s, const sim_request *r, const quire_plan_sequence *e)
{
    for (uint32_t i = 0; i < r->request.encoder_count; i++) {
        const uint64_t *slot = slot_of(s, false, e->cross_blocks, i);
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

/* What the first row sees of the rows before this step. */
static void read_rows(sim *s, const quire_plan_sequence *e, const sim_request *r, bool local, const uint32_t *blocks,
                      const uint64_t *prefix)
{
    const uint32_t window = local ? s->config.options.local_window : s->config.options.window;
    const uint32_t first  = window > 0 && e->position + 1 > window ? e->position + 1 - window : 0;
    for (uint32_t p = first; p < e->position; p++) {
        const uint64_t *slot = slot_of(s, local, blocks, p);
        if (slot == NULL || *slot != content(prefix[p + 1], local))
            sim_fail(s, SIM_ORACLE_CONTENT, "request %llu.%u reads a wrong %sslot at position %u, block %u",
                     (unsigned long long)r->id, e->sequence, local ? "local " : "", p,
                     blocks[p / s->config.options.block_size]);
    }
}

/* The rows of one sequence. Hashes of its prefixes go to prefix[], [0] before the first token. */
static void run_rows(sim *s, uint32_t entry, const sim_request *r, bool garbage, uint64_t *prefix)
{
    const quire_plan_sequence *e     = &s->plan->sequences[entry];
    const uint32_t            *local = s->plan->local_blocks ? s->plan->local_blocks[entry] : NULL;
    const uint32_t             end   = e->position + e->row_count;
    prefix[0]                        = r->root_hash;
    for (uint32_t p = 0; p < end; p++) prefix[p + 1] = sim_extend(prefix[p], e->tokens[p]);
    read_rows(s, e, r, false, e->blocks, prefix);
    if (local != NULL) read_rows(s, e, r, true, local, prefix);
    for (uint32_t p = e->position; p < end; p++) {
        check_row(s, e, p);
        write_slot(s, false, e->blocks, p, garbage ? POISON : prefix[p + 1]);
        if (local != NULL) write_slot(s, true, local, p, garbage ? POISON : prefix[p + 1]);
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
    run_rows(s, entry, r, retiring, prefix);
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
        for (uint32_t p = e->position; p < e->position + e->row_count; p++) {
            write_slot(s, false, e->blocks, p, POISON);
            if (s->plan->local_blocks != NULL) write_slot(s, true, s->plan->local_blocks[i], p, POISON);
        }
    }
}

/* zero_on_free: what the pool lists is all that lost its content since the last step. */
static void check_freed(sim *s, bool local, uint32_t block)
{
    if (!s->config.options.zero_on_free || s->step == 1) return; /* before the first step nothing has had content */
    if (pool_of(s, local)->is_freed[block]) return;
    sim_fail(s, SIM_ORACLE_STATE, "%sblock %u lost its content and is not listed", local ? "local " : "", block);
}

static void poison_free(sim *s, bool local)
{
    const qr_block_pool *pool  = pool_of(s, local);
    uint8_t             *dirty = s->dirty + first_block(s, local);
    uint64_t            *slots = s->slots + (size_t)first_block(s, local) * s->config.options.block_size;
    for (uint32_t b = 0; b < pool->num_blocks; b++) {
        if (!dirty[b] || pool->blocks[b].state == QR_BLOCK_USED || pool->blocks[b].state == QR_BLOCK_CACHED) continue;
        check_freed(s, local, b);
        for (uint32_t i = 0; i < pool->block_size; i++) slots[(size_t)b * pool->block_size + i] = POISON;
        dirty[b] = 0;
    }
}

void sim_poison_free(sim *s)
{
    poison_free(s, false);
    poison_free(s, true);
    qr_scheduler_freed_clear(s->scheduler);
}
