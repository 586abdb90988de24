/* Statistics: counters, why a request waits, and the hash over all decisions. */
#include <string.h>

#include "base/bits.h"
#include "base/rng.h"
#include "scheduler/state.h"

static uint32_t unfinished_sequence(const qr_scheduler *s, uint32_t request)
{
    for (uint32_t m = s->requests[request].first; m != QR_NONE; m = s->sequences[m].sibling) {
        const qr_sequence_state state = s->sequences[m].state;
        if (state != QR_SEQUENCE_NONE && state != QR_SEQUENCE_DONE && state != QR_SEQUENCE_RETIRING) return m;
    }
    return QR_NONE;
}

quire_status qr_scheduler_explain(const qr_scheduler *s, quire_request_id id, uint64_t now_ns, quire_explanation *out)
{
    const uint32_t request = qr_request_find(s, id);
    const uint32_t group   = request == QR_NONE ? QR_NONE : unfinished_sequence(s, request);
    if (group == QR_NONE) return QUIRE_ERR_NOT_FOUND;
    const qr_sequence *g = &s->sequences[group];
    *out = (quire_explanation){.reason = g->reason, .missing_blocks = g->reason == QUIRE_WAIT_BLOCKS ? g->missing : 0};
    memcpy(out->wait_ns, g->wait_ns, sizeof g->wait_ns);
    if (now_ns > g->since_ns) out->wait_ns[g->reason] += now_ns - g->since_ns;
    return QUIRE_OK;
}

/* Blocks that several sequences name are counted once: each user of the table counts its share. */
static uint64_t cross_blocks(const qr_scheduler *s)
{
    double         blocks  = 0;
    const qr_list *lists[] = {&s->running, &s->preempted, &s->paused};
    for (uint32_t l = 0; l < 3; l++)
        for (uint32_t g = lists[l]->head; g != QR_NONE; g = s->sequences[g].link.next) {
            const qr_block_table *table = &s->sequences[g].cross;
            if (table->count > 0) blocks += (double)table->count / s->cache.pool.blocks[table->blocks[0]].refs;
        }
    return (uint64_t)(blocks + 0.5);
}

void qr_scheduler_stats(const qr_scheduler *s, quire_stats *stats)
{
    const qr_block_pool *pool     = &s->cache.pool;
    const quire_stats    previous = *stats;
    *stats                        = s->stats;
    stats->size                   = previous.size;
    stats->step_ns                = previous.step_ns;
    stats->threads = previous.threads, stats->nodes = previous.nodes;
    stats->weight_bytes = previous.weight_bytes, stats->kv_cache_bytes = previous.kv_cache_bytes;
    stats->scratch_bytes = previous.scratch_bytes, stats->kv_bytes_per_token = previous.kv_bytes_per_token;
    stats->batch_invariant      = previous.batch_invariant;
    stats->numa_pages_checked   = previous.numa_pages_checked,
    stats->numa_pages_misplaced = previous.numa_pages_misplaced;
    stats->kv_remote_bytes = previous.kv_remote_bytes, stats->attention_helped = previous.attention_helped;
    memcpy(stats->isa, previous.isa, sizeof stats->isa);
    memcpy(stats->implementation, previous.implementation, sizeof stats->implementation);
    stats->block_size             = s->options.block_size;
    stats->max_model_len          = s->options.max_model_len;
    stats->max_num_batched_tokens = s->options.max_num_batched_tokens;
    stats->max_num_queued_tokens  = s->options.max_num_queued_tokens;
    stats->blocks                 = pool->num_blocks;
    stats->blocks_used            = pool->used;
    stats->blocks_cached          = pool->cached;
    stats->blocks_free            = pool->free + pool->reserved;
    stats->local_blocks           = s->cache.local.num_blocks;
    stats->local_blocks_used      = s->cache.local.used;
    stats->local_blocks_cached    = s->cache.local.cached;
    stats->cross_blocks_used      = s->options.encoder_decoder ? cross_blocks(s) : 0;
    stats->extents_taken          = pool->extents_taken;
    stats->extents_evicted        = pool->extents_evicted;
    stats->reservation_thefts     = pool->reservation_thefts;
    stats->blocks_spilled         = pool->spilled + s->cache.local.spilled;
    stats->running                = s->slots[QR_SEQUENCE_RUNNING];
    stats->waiting                = s->slots[QR_SEQUENCE_QUEUED] + s->slots[QR_SEQUENCE_PREEMPTED];
    stats->paused                 = s->slots[QR_SEQUENCE_PAUSED];
    stats->queued_tokens          = (uint32_t)(s->queued_tokens > UINT32_MAX ? UINT32_MAX : s->queued_tokens);
    stats->decision_hash          = s->hash;
    /* the engine knows the bytes of a block */
    stats->contiguous_run_blocks = pool->runs ? (double)pool->run_blocks / (double)pool->runs : 0;
}

void qr_scheduler_visit_memory(const qr_scheduler *s, qr_memory_visitor *visit, void *context)
{
    visit(context, QUIRE_MEMORY_QUEUES, s->arena.base, s->arena.capacity, QR_ANY_NODE);
    visit(context, QUIRE_MEMORY_QUEUES, s->cache.arena.base, s->cache.arena.capacity, QR_ANY_NODE);
}

static void count_homes(const qr_block_pool *pool, const qr_block_table *table, uint64_t *home, uint64_t *away)
{
    for (uint32_t i = table->first; i < table->count; i++)
        ++*(pool->blocks[table->blocks[i]].node == table->home ? home : away);
}

void qr_scheduler_count_homes(const qr_scheduler *s, uint64_t *home_out, uint64_t *away_out)
{
    *home_out = *away_out = 0;
    for (uint32_t g = s->running.head; g != QR_NONE; g = s->sequences[g].link.next)
        QR_FOR_EACH_MEMBER(s, m, g) {
            const qr_sequence *q = &s->sequences[m];
            count_homes(&s->cache.pool, &q->self, home_out, away_out);
            count_homes(&s->cache.pool, &q->cross, home_out, away_out);
            if (s->cache.local.num_blocks > 0) count_homes(&s->cache.local, &q->local, home_out, away_out);
        }
}

void qr_scheduler_queued(const qr_scheduler *s, uint32_t *sequences_out, uint32_t *tokens_out)
{
    *sequences_out = s->slots[QR_SEQUENCE_QUEUED] + s->slots[QR_SEQUENCE_PREEMPTED] + s->slots[QR_SEQUENCE_PAUSED];
    *tokens_out    = (uint32_t)qr_min_u64(s->queued_tokens, UINT32_MAX);
}

uint64_t qr_scheduler_decision_hash(const qr_scheduler *s) { return s->hash; }

static void mix(qr_scheduler *s, uint64_t a, uint64_t b) { s->hash = qr_random_u64(s->hash, a, b); }

void qr_stats_hash_plan(qr_scheduler *s)
{
    const quire_plan *p = &s->plan;
    mix(s, s->stats.steps, (uint64_t)p->rows << 32 | p->rows_encoder);
    for (uint32_t i = 0; i < p->sequence_count; i++) {
        const quire_plan_sequence *e = &p->sequences[i];
        const qr_sequence         *q = &s->sequences[s->arrays.sequence_records[i]];
        mix(s, s->requests[q->request].number << 12 | q->index, (uint64_t)e->position << 32 | e->row_count);
        mix(s, (uint64_t)e->drafts << 32 | e->sample_count, e->blocks[e->block_count - 1]);
        if (p->local_blocks != NULL) mix(s, i, p->local_blocks[i][e->block_count - 1]);
    }
    for (uint32_t i = 0; i < p->copy_count; i++)
        mix(s, p->copies[i].from, (uint64_t)p->copies[i].to << 32 | p->copies[i].slots);
    for (uint32_t i = 0; i < p->encoder_count; i++)
        mix(s, s->requests[s->sequences[s->arrays.encoder_records[i]].request].number, p->encoders[i].blocks[0]);
}
