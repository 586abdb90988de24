/* Creation, the calls that change a request from outside (submit, cancel, pause, resume), views and events.
 *
 * Memory. Small arrays lie in one arena. What a record may need at most, but rarely does (tokens, block tables, encoder
 * ids, lists, heaps), lies in one reservation of address space that is touched only when used: a record holds at most
 * max_model_len tokens twice, and gives pages back when a long sequence ends. So the memory in use follows what lives,
 * which submit bounds by max_num_queued_reqs and max_num_queued_tokens, and can never exceed the reservation. */
#include <string.h>
#include <sys/mman.h>

#include "base/assert.h"
#include "base/bits.h"
#include "base/error.h"
#include "scheduler/state.h"

enum {
    HYPOTHESIS_EVENTS = 1024,      /* tokens of finished beam searches between two clears */
    KEPT_BYTES        = 64 * 1024, /* of a record's tokens that stay resident when it is freed */
    PAGE_BYTES        = 4096,
};

/* ---- creation ---- */

static void lay_out(qr_scheduler *s, qr_arena *arena)
{
    const uint32_t n = s->record_count, slots = s->options.max_num_seqs, rows = s->options.max_num_batched_tokens;
    s->sequences                  = QR_ARENA_TAKE(arena, qr_sequence, n);
    s->requests                   = QR_ARENA_TAKE(arena, qr_request, n);
    s->free_sequences             = QR_ARENA_TAKE(arena, uint32_t, n);
    s->free_requests              = QR_ARENA_TAKE(arena, uint32_t, n);
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
    s->seen                       = QR_ARENA_TAKE(arena, uint8_t, n);
    s->plan.entries               = QR_ARENA_TAKE(arena, qr_plan_entry, slots);
    s->plan.samples               = QR_ARENA_TAKE(arena, qr_plan_sample, slots + rows);
    s->plan.copies                = QR_ARENA_TAKE(arena, qr_plan_copy, slots);
    s->plan.encoders              = QR_ARENA_TAKE(arena, qr_plan_encoder, slots);
    s->events                     = QR_ARENA_TAKE(arena, qr_scheduler_event, s->event_capacity);
    char                 *names   = QR_ARENA_TAKE(arena, char, s->options.tenant_count *(QUIRE_MAX_TENANT_NAME + 1));
    quire_tenant_options *tenants = QR_ARENA_TAKE(arena, quire_tenant_options, s->options.tenant_count);
    if (arena->base == NULL) return;
    for (uint32_t i = 0; i < s->options.tenant_count; i++) {
        tenants[i]      = s->options.tenants[i];
        tenants[i].name = names + i * (QUIRE_MAX_TENANT_NAME + 1);
        if (s->options.tenants[i].name) strcpy(names + i * (QUIRE_MAX_TENANT_NAME + 1), s->options.tenants[i].name);
    }
    s->options.tenants = tenants;
}

static void lay_out_reserve(qr_scheduler *s, qr_arena *reserve)
{
    const size_t n       = s->record_count,
                 encoder = s->options.encoder_decoder ? s->options.max_num_encoder_input_tokens : 0;
    s->tokens            = QR_ARENA_TAKE(reserve, int32_t, n * s->token_stride);
    s->lists             = QR_ARENA_TAKE(reserve, qr_request_lists, n);
    s->self_blocks       = QR_ARENA_TAKE(reserve, uint32_t, n * s->table_capacity);
    s->cross_blocks      = QR_ARENA_TAKE(reserve, uint32_t, n * s->cross_capacity);
    s->encoder_ids       = QR_ARENA_TAKE(reserve, int32_t, n * encoder);
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
    s->cross_capacity = o->encoder_decoder ? qr_ceil_div_u32(o->max_num_encoder_input_tokens, o->block_size) : 0;
    s->token_stride   = 2 * (size_t)qr_round_up_u32(o->max_model_len, 16); /* tokens, and a beam search's hypothesis */
    s->event_capacity = s->record_count + o->max_num_seqs + o->max_num_batched_tokens + HYPOTHESIS_EVENTS;
    s->watermark = (uint32_t)qr_ceil_div_u64((uint64_t)((double)o->watermark * 1e6 + 0.5) * o->num_blocks, 1000000);
}

static void init(qr_scheduler *s)
{
    for (uint32_t i = 0; i < s->record_count; i++) {
        s->free_sequences[i] = s->free_requests[i] = s->record_count - 1 - i;
        s->deadlines.index_of[i] = s->waiting_index[i] = QR_NONE;
    }
    s->free_sequence_count = s->free_request_count = s->record_count;
    s->running = s->preempted = s->paused = s->emitting = (qr_list){QR_NONE, QR_NONE};
    s->hypothesis_room                                  = HYPOTHESIS_EVENTS;
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
                                    .max_tenants           = s->tenant_count,
                                    .extents               = o->extents,
                                    .enable_prefix_caching = o->enable_prefix_caching,
                                    .encoder_decoder       = o->encoder_decoder,
                                    .list_freed            = o->zero_on_free,
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

size_t qr_scheduler_bytes(const qr_scheduler *s) { return sizeof *s + s->arena.capacity + s->cache.arena.capacity; }
size_t qr_scheduler_record_bytes(const qr_scheduler *s) { return s->arena.capacity / s->record_count; }
size_t qr_scheduler_reserved_bytes(const qr_scheduler *s) { return s->reserve.capacity; }

/* ---- submit ---- */

static quire_status check_queue(const qr_scheduler *s, const quire_request *r, uint32_t slots, quire_error *error)
{
    const qr_scheduler_options *o      = &s->options;
    const char                 *name   = r->tenant ? r->tenant : "";
    const uint32_t              tenant = qr_tenant_find(s, name);
    const uint64_t              queued =
        (uint64_t)s->slots[QR_SEQUENCE_QUEUED] + s->slots[QR_SEQUENCE_PREEMPTED] + s->slots[QR_SEQUENCE_PAUSED];
    const uint64_t tokens = s->queued_tokens + r->prompt_count + r->encoder_count;
    if (queued + slots > o->max_num_queued_reqs || slots > s->free_sequence_count || s->free_request_count == 0)
        return qr_fail(error, QUIRE_ERR_FULL,
                       "queue: %llu sequences are waiting and %u more do not fit in max_num_queued_reqs %u",
                       (unsigned long long)queued, slots, o->max_num_queued_reqs);
    if (tokens > o->max_num_queued_tokens)
        return qr_fail(
            error, QUIRE_ERR_FULL, "queue: %llu tokens are waiting and %u more do not fit in max_num_queued_tokens %u",
            (unsigned long long)s->queued_tokens, (uint32_t)(tokens - s->queued_tokens), o->max_num_queued_tokens);
    if (tenant != QR_NONE && s->tenants[tenant].queued + slots > s->tenants[tenant].max_num_queued_reqs)
        return qr_fail(
            error, QUIRE_ERR_FULL,
            "queue: %u sequences of tenant \"%s\" are waiting and %u more do not fit in its max_num_queued_reqs %u",
            s->tenants[tenant].queued, name, slots, s->tenants[tenant].max_num_queued_reqs);
    return QUIRE_OK;
}

static void set_rank(const qr_scheduler *s, const qr_request *r, qr_sequence *q)
{
    const int64_t  arrival = (int64_t)qr_min_u64(r->arrival_ns, INT64_MAX / 2), priority = r->stored.priority;
    const uint64_t ageing = s->options.priority_ageing_ns;
    q->rank               = (qr_rank){.high = 0, .low = r->arrival_ns, .tie = r->number << 12};
    if (s->options.policy != QUIRE_POLICY_PRIORITY) return;
    if (ageing == 0)
        q->rank.high = priority;
    else
        q->rank = (qr_rank){.high = arrival + priority * (int64_t)ageing, .tie = r->number << 12};
}

/* Copies an array that came with the request; NULL stays NULL. */
static const int32_t *keep(int32_t *storage, const int32_t *ids, uint32_t count)
{
    if (count == 0) return NULL;
    memcpy(storage, ids, count * sizeof *ids);
    return storage;
}

static void store_request(qr_scheduler *s, uint32_t request, const quire_request *resolved)
{
    qr_request       *r     = &s->requests[request];
    qr_request_lists *lists = &s->lists[request];
    quire_request    *q     = &r->stored;
    *q                      = *resolved;
    q->prompt               = keep(qr_tokens(s, r->first), q->prompt, q->prompt_count);
    q->stop                 = keep(lists->stop, q->stop, q->stop_count);
    q->allowed              = keep(lists->allowed, q->allowed, q->allowed_count);
    q->banned               = keep(lists->banned, q->banned, q->banned_count);
    if (q->logit_bias_count > 0) {
        memcpy(lists->bias, q->logit_bias, q->logit_bias_count * sizeof *q->logit_bias);
        q->logit_bias = lists->bias;
    }
    if (q->encoder_count > 0)
        q->encoder_input = keep(s->encoder_ids + (size_t)request * s->options.max_num_encoder_input_tokens,
                                q->encoder_input, q->encoder_count);
    q->tenant = s->tenants[r->tenant].name;
    if (q->cache_salt != NULL) q->cache_salt = r->cache_salt;
}

static uint64_t deadline_after(uint64_t arrival_ns, uint64_t duration_ns)
{
    return duration_ns == 0 ? UINT64_MAX : arrival_ns + duration_ns;
}

static void set_deadlines(qr_scheduler *s, uint32_t request)
{
    qr_request *r        = &s->requests[request];
    r->queue_deadline_ns = deadline_after(r->arrival_ns, r->stored.queue_timeout_ns);
    r->deadline_ns       = deadline_after(r->arrival_ns, r->stored.timeout_ns);
    const qr_rank rank   = {.low = qr_min_u64(r->queue_deadline_ns, r->deadline_ns), .tie = r->number};
    if (rank.low != UINT64_MAX) qr_heap_push(&s->deadlines, &rank, request);
}

/* Takes the records: one request, and one sequence for each stream or beam. */
static void take_records(qr_scheduler *s, uint32_t request, uint32_t count)
{
    qr_request *r = &s->requests[request];
    r->first      = qr_sequence_take(s, request, 0);
    for (uint32_t i = 1, last = r->first; i < count; i++)
        last = s->sequences[last].sibling = qr_sequence_take(s, request, i);
    r->sequences = count;
}

static void queue_request(qr_scheduler *s, uint32_t request)
{
    qr_request  *r = &s->requests[request];
    qr_sequence *q = &s->sequences[r->first];
    q->slots       = r->sequences;
    q->length      = r->stored.prompt_count;
    q->since_ns    = r->arrival_ns;
    q->reason      = QUIRE_WAIT_ORDER;
    set_rank(s, r, q);
    qr_group_move(s, r->first, QR_SEQUENCE_QUEUED);
}

static uint32_t blocks_to_promise(const qr_scheduler *s, const quire_request *r)
{
    const uint32_t positions = r->prompt_count + r->max_tokens - 1;
    if (s->options.capacity_policy != QUIRE_CAPACITY_GUARANTEED_NO_EVICT) return 0;
    if (r->beam_width > 1) return qr_blocks_most(&s->options, positions, r->beam_width, r->encoder_count);
    return r->n * qr_blocks_most(&s->options, positions, 1, r->encoder_count);
}

static quire_status accept(qr_scheduler *s, const quire_request *resolved, quire_request_id id, uint64_t arrival_ns,
                           uint32_t slots, quire_error *error)
{
    const uint32_t tenant = qr_tenant_open(s, resolved->tenant ? resolved->tenant : "");
    if (tenant == QR_NONE)
        return qr_fail(error, QUIRE_ERR_FULL, "%u tenants have live requests, max_num_tenants is %u", s->tenant_count,
                       s->options.max_num_tenants);
    const uint32_t request = s->free_requests[--s->free_request_count];
    qr_request    *r       = &s->requests[request];
    *r = (qr_request){.id = id, .number = ++s->last_number, .arrival_ns = arrival_ns, .tenant = tenant};
    if (resolved->cache_salt != NULL) {
        const size_t length = strlen(resolved->cache_salt);
        memcpy(r->salt, resolved->cache_salt, length);
        memcpy(r->cache_salt, resolved->cache_salt, length);
    }
    take_records(s, request, slots);
    store_request(s, request, resolved);
    r->live            = resolved->n;
    r->promised_blocks = blocks_to_promise(s, resolved);
    qr_id_map_insert(&s->ids, id, request);
    qr_tenant_request_opened(s, tenant);
    set_deadlines(s, request);
    queue_request(s, request);
    return QUIRE_OK;
}

static quire_status submit(qr_scheduler *s, const quire_request *request, quire_request_id id, uint64_t arrival_ns,
                           quire_error *error)
{
    quire_request resolved;
    if (id == 0 || qr_id_map_find(&s->ids, id) != QR_NONE)
        return qr_fail(error, QUIRE_ERR_INVALID, "id: %llu must be nonzero and not in use", (unsigned long long)id);
    QR_TRY(qr_request_resolve(&s->options, request, &resolved, error));
    const uint32_t slots = resolved.beam_width > 1 ? resolved.beam_width : resolved.n;
    QR_TRY(check_queue(s, &resolved, slots, error));
    return accept(s, &resolved, id, arrival_ns, slots, error);
}

quire_status qr_scheduler_submit(qr_scheduler *s, const quire_request *request, quire_request_id id,
                                 uint64_t arrival_ns, quire_error *error)
{
    const quire_status status = submit(s, request, id, arrival_ns, error);
    if (status == QUIRE_OK)
        s->stats.requests_submitted++;
    else
        s->stats.requests_refused++;
    return status;
}

/* ---- cancel, pause, resume ---- */

static quire_status end_request(qr_scheduler *s, quire_request_id id, quire_finish finish, quire_status status,
                                uint64_t now_ns)
{
    const uint32_t request = qr_id_map_find(&s->ids, id);
    if (request == QR_NONE) return QUIRE_ERR_NOT_FOUND;
    s->now_ns = qr_max_u64(s->now_ns, now_ns);
    qr_request_finish(s, request, finish, status);
    return QUIRE_OK;
}

quire_status qr_scheduler_cancel(qr_scheduler *s, quire_request_id id, uint64_t now_ns)
{
    return end_request(s, id, QUIRE_FINISH_CANCELLED, QUIRE_OK, now_ns);
}

void qr_scheduler_fail(qr_scheduler *s, quire_request_id id, quire_status status, uint64_t now_ns)
{
    (void)end_request(s, id, QUIRE_FINISH_ERROR, status, now_ns);
}

static bool leads_group(const qr_scheduler *s, uint32_t record)
{
    return s->requests[s->sequences[record].request].first == record || !qr_is_beam(s, &s->sequences[record]);
}

void qr_request_pause(qr_scheduler *s, uint32_t request)
{
    for (uint32_t m = s->requests[request].first; m != QR_NONE; m = s->sequences[m].sibling) {
        const qr_sequence_state state = s->sequences[m].state;
        if (!leads_group(s, m) || (state != QR_SEQUENCE_RUNNING && state != QR_SEQUENCE_PREEMPTED)) continue;
        if (s->sequences[m].suspect) qr_fault_forget(s, m);
        qr_group_move(s, m, QR_SEQUENCE_PAUSED);
        qr_note_wait(s, m, QUIRE_WAIT_READER, 0);
    }
}

static bool is_in_flight(const qr_scheduler *s, uint32_t request)
{
    for (uint32_t m = s->requests[request].first; m != QR_NONE; m = s->sequences[m].sibling)
        if (s->in_flight && s->sequences[m].entry != QR_NONE) return true;
    return false;
}

quire_status qr_scheduler_pause(qr_scheduler *s, quire_request_id id, uint64_t now_ns)
{
    const uint32_t request = qr_id_map_find(&s->ids, id);
    if (request == QR_NONE) return QUIRE_ERR_NOT_FOUND;
    s->now_ns = qr_max_u64(s->now_ns, now_ns);
    if (is_in_flight(s, request))
        s->requests[request].pause_wanted = true;
    else
        qr_request_pause(s, request);
    return QUIRE_OK;
}

quire_status qr_scheduler_resume(qr_scheduler *s, quire_request_id id, uint64_t now_ns)
{
    const uint32_t request = qr_id_map_find(&s->ids, id);
    if (request == QR_NONE) return QUIRE_ERR_NOT_FOUND;
    s->now_ns                         = qr_max_u64(s->now_ns, now_ns);
    s->requests[request].pause_wanted = false;
    for (uint32_t m = s->requests[request].first; m != QR_NONE; m = s->sequences[m].sibling) {
        if (s->sequences[m].state != QR_SEQUENCE_PAUSED || !leads_group(s, m)) continue;
        qr_group_move(s, m, QR_SEQUENCE_PREEMPTED);
        qr_note_wait(s, m, QUIRE_WAIT_ORDER, 0);
    }
    return QUIRE_OK;
}

void qr_scheduler_allow_drafts(qr_scheduler *s, bool allowed) { s->drafts_held_back = !allowed; }

/* ---- views ---- */

void qr_scheduler_sequence(const qr_scheduler *s, uint32_t sequence, qr_sequence_view *view_out)
{
    const qr_sequence    *q      = &s->sequences[sequence];
    const qr_request     *r      = &s->requests[q->request];
    const qr_block_table *cross  = qr_is_beam(s, q) ? &s->sequences[r->first].cross : &q->cross;
    const uint32_t        drafts = q->drafts;
    *view_out                    = (qr_sequence_view){.id           = r->id,
                                                      .request      = &r->stored,
                                                      .index        = q->index,
                                                      .tokens       = qr_tokens(s, sequence),
                                                      .token_count  = q->length + drafts,
                                                      .prompt_count = r->stored.prompt_count,
                                                      .output_count = q->length - r->stored.prompt_count,
                                                      .blocks       = q->self.blocks,
                                                      .block_count  = q->self.count,
                                                      .cross_blocks = cross->blocks,
                                                      .cross_length = r->stored.encoder_count,
                                                      .node         = q->self.home,
                                                      .state        = q->state,
                                                      .computed     = q->computed};
}

uint32_t qr_scheduler_record_count(const qr_scheduler *s) { return s->record_count; }

bool qr_scheduler_idle(const qr_scheduler *s) { return s->free_request_count + s->done_count == s->record_count; }

const uint32_t *qr_scheduler_freed(const qr_scheduler *s, uint32_t *count_out)
{
    *count_out = s->cache.pool.freed_count;
    return s->cache.pool.freed;
}

void qr_scheduler_freed_clear(qr_scheduler *s) { qr_block_pool_freed_clear(&s->cache.pool); }

void qr_scheduler_flush_cache(qr_scheduler *s) { qr_block_pool_flush(&s->cache.pool); }

/* ---- events ---- */

const qr_scheduler_event *qr_scheduler_events(const qr_scheduler *s, uint32_t *count_out)
{
    *count_out = s->event_count;
    return s->events;
}

/* Pages of a long sequence go back to the system. */
static void discard_tokens(const qr_scheduler *s, uint32_t record)
{
    const size_t bytes = s->token_stride * sizeof(int32_t);
    if (bytes <= KEPT_BYTES || s->sequences[record].length * sizeof(int32_t) <= KEPT_BYTES) return;
    const uintptr_t first = (uintptr_t)qr_tokens(s, record) + KEPT_BYTES, end = (uintptr_t)qr_tokens(s, record) + bytes;
    const uintptr_t from = qr_round_up(first, PAGE_BYTES), to = end / PAGE_BYTES * PAGE_BYTES;
    if (to > from) (void)madvise((void *)from, to - from, MADV_DONTNEED);
}

static void free_request(qr_scheduler *s, uint32_t request)
{
    for (uint32_t m = s->requests[request].first; m != QR_NONE;) {
        const uint32_t next = s->sequences[m].sibling;
        discard_tokens(s, m);
        s->sequences[m].state                       = QR_SEQUENCE_NONE;
        s->free_sequences[s->free_sequence_count++] = m;
        m                                           = next;
    }
    s->requests[request].id                   = 0;
    s->free_requests[s->free_request_count++] = request;
}

void qr_scheduler_events_clear(qr_scheduler *s)
{
    s->event_count = 0;
    while (s->done_count > 0) free_request(s, s->done_requests[--s->done_count]);
    s->hypothesis_room = HYPOTHESIS_EVENTS;
    qr_beam_deliver(s);
}

uint32_t qr_scheduler_event_capacity(const qr_scheduler *s) { return s->event_capacity; }
