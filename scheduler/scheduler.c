/* Creation, destruction, and what the engine looks at.
 *
 * Memory. Small arrays lie in one arena. What a record may need at most, but rarely does (tokens, block tables, encoder
 * ids, lists, heaps), lies in one reservation of address space that is touched only when used: a record holds at most
 * max_model_len tokens twice, and gives pages back when a long sequence ends. So the memory in use follows what lives,
 * which submit bounds by max_num_queued_reqs and max_num_queued_tokens, and can never exceed the reservation. */
#include <string.h>
#include <sys/mman.h>

#include "base/bits.h"
#include "base/error.h"
#include "base/request.h"
#include "scheduler/state.h"

/* ---- creation ---- */

static void lay_out_plan(qr_scheduler *s, qr_arena *arena)
{
    const uint32_t  slots = s->options.max_num_seqs, rows = s->options.max_num_batched_tokens;
    qr_plan_arrays *a   = &s->arrays;
    a->copies           = QR_ARENA_TAKE(arena, quire_plan_copy, slots);
    a->local_copies     = QR_ARENA_TAKE(arena, quire_plan_copy, slots);
    a->local_blocks     = QR_ARENA_TAKE(arena, const uint32_t *, slots);
    a->encoders         = QR_ARENA_TAKE(arena, quire_plan_encoder, slots);
    a->sequences        = QR_ARENA_TAKE(arena, quire_plan_sequence, slots);
    a->samples          = QR_ARENA_TAKE(arena, quire_plan_sample, slots + rows);
    a->tokens           = QR_ARENA_TAKE(arena, int32_t, rows);
    a->positions        = QR_ARENA_TAKE(arena, uint32_t, rows);
    a->logits_rows      = QR_ARENA_TAKE(arena, uint32_t, rows);
    a->slots            = QR_ARENA_TAKE(arena, uint64_t, rows);
    a->sequence_records = QR_ARENA_TAKE(arena, uint32_t, slots);
    a->encoder_records  = QR_ARENA_TAKE(arena, uint32_t, slots);
}

static void lay_out(qr_scheduler *s, qr_arena *arena)
{
    const uint32_t n = s->record_count, slots = s->options.max_num_seqs;
    s->sequences                  = QR_ARENA_TAKE(arena, qr_sequence, n);
    s->requests                   = QR_ARENA_TAKE(arena, qr_request, n);
    s->free_sequences             = QR_ARENA_TAKE(arena, uint32_t, n);
    s->done_requests              = QR_ARENA_TAKE(arena, uint32_t, n);
    s->ids.mask                   = qr_id_map_buckets(n) - 1;
    s->ids.buckets                = QR_ARENA_TAKE(arena, qr_id_bucket, s->ids.mask + 1);
    s->deadlines.nodes            = QR_ARENA_TAKE(arena, qr_heap_node, n);
    s->deadlines.index_of         = QR_ARENA_TAKE(arena, uint32_t, n);
    s->waiting_index              = QR_ARENA_TAKE(arena, uint32_t, n);
    s->tenants                    = QR_ARENA_TAKE(arena, qr_tenant, s->tenant_count);
    s->planned                    = QR_ARENA_TAKE(arena, uint32_t, slots);
    s->refused                    = QR_ARENA_TAKE(arena, uint32_t, QR_MAX_REFUSED + s->tenant_count);
    s->hits                       = QR_ARENA_TAKE(arena, uint32_t, s->table_capacity);
    s->suspects                   = QR_ARENA_TAKE(arena, uint32_t, n);
    s->suspect_sets               = QR_ARENA_TAKE(arena, uint32_t, n);
    s->failed                     = QR_ARENA_TAKE(arena, uint32_t, slots);
    s->holders                    = QR_ARENA_TAKE(arena, qr_cache_holder, 2 * (size_t)n);
    s->copies                     = QR_ARENA_TAKE(arena, qr_block_copy, slots);
    s->local_copies               = QR_ARENA_TAKE(arena, qr_block_copy, slots);
    s->seen                       = QR_ARENA_TAKE(arena, uint8_t, n);
    s->events                     = QR_ARENA_TAKE(arena, qr_scheduler_event, s->event_capacity);
    char                 *names   = QR_ARENA_TAKE(arena, char, s->options.tenant_count *(QUIRE_MAX_TENANT_NAME + 1));
    quire_tenant_options *tenants = QR_ARENA_TAKE(arena, quire_tenant_options, s->options.tenant_count);
    lay_out_plan(s, arena);
    if (arena->base == NULL) return;
    for (uint32_t i = 0; i < s->options.tenant_count; i++) {
        const quire_tenant_options given = qr_tenant_options_at(&s->options, i);
        tenants[i]                       = given;
        tenants[i].name                  = names + i * (QUIRE_MAX_TENANT_NAME + 1);
        if (given.name) strcpy(names + i * (QUIRE_MAX_TENANT_NAME + 1), given.name);
    }
    s->options.tenants       = tenants;
    s->options.tenant_stride = 0;
}

static void lay_out_reserve(qr_scheduler *s, qr_arena *reserve)
{
    const size_t n       = s->record_count,
                 encoder = s->options.encoder_decoder ? s->options.max_num_encoder_input_tokens : 0;
    s->tokens            = QR_ARENA_TAKE(reserve, int32_t, n * s->token_stride);
    s->lists             = QR_ARENA_TAKE(reserve, qr_request_lists, n);
    s->self_blocks       = QR_ARENA_TAKE(reserve, uint32_t, n * s->table_capacity);
    s->cross_blocks      = QR_ARENA_TAKE(reserve, uint32_t, n * s->cross_capacity);
    s->local_blocks      = QR_ARENA_TAKE(reserve, uint32_t, n * s->local_capacity);
    s->encoder_words     = QR_ARENA_TAKE(reserve, int32_t, n * encoder);
    s->encoder_features  = QR_ARENA_TAKE(reserve, float, n * s->feature_stride);
    for (uint32_t i = 0; i < s->tenant_count; i++) {
        qr_heap_node *nodes = QR_ARENA_TAKE(reserve, qr_heap_node, n);
        if (reserve->base) s->tenants[i].heap = (qr_heap){.nodes = nodes, .index_of = s->waiting_index};
    }
}

static quire_status reserve(qr_scheduler *s, quire_error *error)
{
    qr_arena *arena = &s->reserve;
    lay_out_reserve(s, arena);
    arena->capacity = arena->used;
    arena->used     = 0;
    arena->base =
        mmap(NULL, arena->capacity, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (arena->base == MAP_FAILED) {
        arena->base = NULL;
        return qr_fail(error, QUIRE_ERR_NO_MEMORY,
                       "scheduler: cannot reserve %zu bytes of address space for %u sequences of %u tokens",
                       arena->capacity, s->record_count, s->options.max_model_len);
    }
    lay_out_reserve(s, arena);
    return QUIRE_OK;
}

static void compute_sizes(qr_scheduler *s)
{
    const qr_scheduler_options *o = &s->options;
    s->record_count               = o->max_num_queued_reqs + 2 * o->max_num_seqs; /* waiting, running, retiring */
    s->tenant_count               = o->max_num_tenants + o->tenant_count;
    s->table_capacity             = qr_ceil_div_u32(o->max_model_len, o->block_size);
    s->local_capacity             = o->local_window > 0 ? s->table_capacity : 0;
    s->cross_capacity = o->encoder_decoder ? qr_ceil_div_u32(o->max_num_encoder_input_tokens, o->block_size) : 0;
    s->feature_stride = (size_t)QR_FRAMES_PER_POSITION * o->encoder_feature_size * o->max_num_encoder_input_tokens;
    s->token_stride   = 2 * (size_t)qr_round_up_u32(o->max_model_len, 16); /* tokens, and a beam search's hypothesis */
    s->event_capacity = s->record_count + o->max_num_seqs + o->max_num_batched_tokens + QR_HYPOTHESIS_EVENTS;
    s->watermark      = qr_watermark_blocks(o);
}

static void init(qr_scheduler *s)
{
    for (uint32_t i = 0; i < s->record_count; i++) {
        s->free_sequences[i]     = s->record_count - 1 - i;
        s->deadlines.index_of[i] = s->waiting_index[i] = QR_NONE;
    }
    s->free_sequence_count = s->record_count;
    s->running = s->preempted = s->paused = s->emitting = QR_LIST_EMPTY;
    s->hypothesis_room                                  = QR_HYPOTHESIS_EVENTS;
    qr_tenants_init(s);
}

static quire_status create_parts(qr_scheduler *s, quire_error *error)
{
    const qr_scheduler_options *o = &s->options;
    compute_sizes(s);
    lay_out(s, &s->arena);
    QR_TRY(qr_arena_create(&s->arena, &o->allocator, "scheduler", error));
    lay_out(s, &s->arena);
    QR_TRY(reserve(s, error));
    const qr_cache_options cache = {.num_blocks            = o->num_blocks,
                                    .block_size            = o->block_size,
                                    .node_count            = o->node_count,
                                    .node_share            = o->node_share,
                                    .node_threads          = o->node_threads,
                                    .distance              = o->node_distance,
                                    .max_tenants           = s->tenant_count,
                                    .extents               = o->extents,
                                    .enable_prefix_caching = o->enable_prefix_caching,
                                    .encoder_decoder       = o->encoder_decoder,
                                    .list_freed            = o->zero_on_free,
                                    .local_window          = o->local_window,
                                    .local_blocks          = o->num_local_blocks,
                                    .keep_journal          = o->cache_events && o->enable_prefix_caching,
                                    .hash_seed             = o->hash_seed,
                                    .hash_bits             = o->hash_bits,
                                    .allocator             = o->allocator};
    QR_TRY(qr_cache_create(&cache, &s->cache, error));
    init(s);
    return QUIRE_OK;
}

quire_status qr_scheduler_create(const qr_scheduler_options *options, qr_scheduler **scheduler_out, quire_error *error)
{
    *scheduler_out = NULL;
    QR_TRY(qr_scheduler_options_check(options, error));
    qr_scheduler *s = qr_allocate(&options->allocator, sizeof *s, 64);
    if (s == NULL) return qr_fail(error, QUIRE_ERR_NO_MEMORY, "scheduler: %zu bytes are not available", sizeof *s);
    s->options                = *options;
    const quire_status status = create_parts(s, error);
    if (status != QUIRE_OK) {
        qr_scheduler_destroy(s);
        return status;
    }
    *scheduler_out = s;
    return QUIRE_OK;
}

void qr_scheduler_destroy(qr_scheduler *s)
{
    if (s == NULL) return;
    const quire_allocator allocator = s->options.allocator;
    if (s->cache.arena.base != NULL) qr_cache_destroy(&s->cache);
    if (s->reserve.base != NULL) munmap(s->reserve.base, s->reserve.capacity);
    if (s->arena.base != NULL) qr_arena_destroy(&s->arena);
    qr_deallocate(&allocator, s, sizeof *s);
}

size_t qr_scheduler_record_bytes(const qr_scheduler *s) { return s->arena.capacity / s->record_count; }
size_t qr_scheduler_reserved_bytes(const qr_scheduler *s) { return s->reserve.capacity; }

/* ---- looking in ---- */

uint32_t qr_request_find(const qr_scheduler *s, quire_request_id id)
{
    const uint32_t request = id == 0 ? QR_NONE : qr_id_map_find(&s->ids, id);
    return request == QR_NONE || s->requests[request].live == 0 ? QR_NONE : request;
}

const quire_request *qr_scheduler_kept(const qr_scheduler *s, quire_request_id id)
{
    const uint32_t request = id == 0 ? QR_NONE : qr_id_map_find(&s->ids, id);
    return request == QR_NONE ? NULL : &s->requests[request].stored;
}

bool qr_scheduler_idle(const qr_scheduler *s) { return s->live_requests == 0; }

const uint32_t *qr_scheduler_freed(const qr_scheduler *s, bool local, uint32_t *count_out)
{
    const qr_block_pool *pool = local ? &s->cache.local : &s->cache.pool;
    *count_out                = pool->freed_count;
    return pool->freed;
}

void qr_scheduler_freed_clear(qr_scheduler *s)
{
    qr_block_pool_freed_clear(&s->cache.pool);
    qr_block_pool_freed_clear(&s->cache.local);
}

uint32_t qr_scheduler_read_cache_events(qr_scheduler *s, quire_cache_event *events, int32_t *tokens, uint32_t capacity)
{
    return qr_journal_read(&s->cache.journal, &s->cache.pool, events, tokens, capacity);
}

void qr_scheduler_restart_cache_events(qr_scheduler *s) { qr_journal_restart(&s->cache.journal, &s->cache.pool); }

void qr_scheduler_flush_cache(qr_scheduler *s) { qr_block_pool_flush(&s->cache.pool); }

void qr_scheduler_allow_drafts(qr_scheduler *s, bool allowed) { s->drafts_held_back = !allowed; }
