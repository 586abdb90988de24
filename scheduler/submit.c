/* A request enters: checks, the bounds of the queue, a copy of all that came with it, its deadlines, its rank. */
#include <string.h>

#include "base/bits.h"
#include "base/error.h"
#include "scheduler/state.h"

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
