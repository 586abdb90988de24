/* A request enters: checks, the bounds of the queue, a copy of all that came with it, its deadlines, its rank. */
#include <string.h>

#include "base/bits.h"
#include "base/error.h"
#include "base/request.h"
#include "scheduler/state.h"

static uint32_t slots_of(const quire_request *resolved)
{
    return resolved->beam_width > 1 ? resolved->beam_width : resolved->n;
}

/* How the waiting are counted, for errors about their number. */
#define COUNTED " (a request counts as its n, or its beam_width)"

quire_status qr_scheduler_check_queue(const qr_scheduler_options *o, const quire_request *resolved, uint64_t queued,
                                      uint64_t queued_tokens, quire_error *error)
{
    const uint32_t slots = slots_of(resolved), tokens = resolved->prompt_count + resolved->encoder_count;
    if (queued + slots > o->max_num_queued_reqs)
        return qr_fail(error, QUIRE_ERR_FULL,
                       "queue: %llu sequences are waiting and %u more do not fit in max_num_queued_reqs %u" COUNTED,
                       (unsigned long long)queued, slots, o->max_num_queued_reqs);
    if (queued_tokens + tokens > o->max_num_queued_tokens)
        return qr_fail(error, QUIRE_ERR_FULL,
                       "queue: %llu tokens are waiting and %u more do not fit in max_num_queued_tokens %u",
                       (unsigned long long)queued_tokens, tokens, o->max_num_queued_tokens);
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

/* Copies an array that came with the request; none stays NULL. */
static const void *keep(void *storage, const void *array, size_t bytes)
{
    if (bytes == 0) return NULL;
    memcpy(storage, array, bytes);
    return storage;
}

static const char *keep_text(char *storage, const char *text) { return text ? strcpy(storage, text) : NULL; }

static void store_encoder_input(qr_scheduler *s, uint32_t request, quire_request *q)
{
    const size_t values = (size_t)q->encoder_frames * s->options.encoder_feature_size;
    int32_t     *words  = q->encoder_count > 0 ? qr_encoder_words(s, request) : NULL;
    float       *floats = values > 0 ? s->encoder_features + request * s->feature_stride : NULL;
    q->encoder_features = keep(floats, q->encoder_features, values * sizeof *q->encoder_features);
    if (values > 0) {
        q->encoder_input = NULL;
        qr_cross_words(q->encoder_features, values, words, q->encoder_count);
        return;
    }
    q->encoder_input = keep(words, q->encoder_input, q->encoder_count * sizeof *q->encoder_input);
}

static void store_request(qr_scheduler *s, uint32_t request, const quire_request *resolved)
{
    qr_request_lists *lists = &s->lists[request];
    quire_request    *q     = &s->requests[request].stored;
    *q                      = *resolved;
    q->prompt               = keep(qr_tokens(s, request), q->prompt, q->prompt_count * sizeof *q->prompt);
    store_encoder_input(s, request, q);
    q->stop          = keep(lists->stop, q->stop, q->stop_count * sizeof *q->stop);
    q->allowed       = keep(lists->allowed, q->allowed, q->allowed_count * sizeof *q->allowed);
    q->banned        = keep(lists->banned, q->banned, q->banned_count * sizeof *q->banned);
    q->first_banned  = keep(lists->first_banned, q->first_banned, q->first_banned_count * sizeof *q->first_banned);
    q->first_allowed = keep(lists->first_allowed, q->first_allowed, q->first_allowed_count * sizeof *q->first_allowed);
    q->last_allowed  = keep(lists->last_allowed, q->last_allowed, q->last_allowed_count * sizeof *q->last_allowed);
    q->logit_bias    = keep(lists->bias, q->logit_bias, q->logit_bias_count * sizeof *q->logit_bias);
    q->tenant        = keep_text(lists->tenant, q->tenant);
    q->cache_salt    = keep_text(lists->cache_salt, q->cache_salt);
}

/* Writes nothing that others read of a record which is not QUEUED yet. */
uint32_t qr_scheduler_keep(qr_scheduler *s, const quire_request *resolved, quire_request_id id)
{
    const uint32_t count = slots_of(resolved);
    if (count > s->free_sequence_count) return QR_NONE;
    const uint32_t request = s->free_sequences[--s->free_sequence_count];
    uint32_t       last    = request;
    for (uint32_t i = 1; i < count; i++)
        last = s->sequences[last].sibling = s->free_sequences[--s->free_sequence_count];
    s->sequences[last].sibling = QR_NONE;
    store_request(s, request, resolved);
    s->requests[request].id = id;
    qr_id_map_insert(&s->ids, id, request);
    return request;
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
    const uint32_t positions = qr_request_positions(r);
    if (s->options.capacity_policy != QUIRE_CAPACITY_GUARANTEED_NO_EVICT) return 0;
    if (r->beam_width > 1) return qr_blocks_most(&s->options, positions, r->beam_width, r->encoder_count);
    return r->n * qr_blocks_most(&s->options, positions, 1, r->encoder_count);
}

static quire_status open_tenant(qr_scheduler *s, const quire_request *stored, uint32_t *tenant_out, quire_error *error)
{
    const char    *name   = stored->tenant ? stored->tenant : "";
    const uint32_t tenant = *tenant_out = qr_tenant_open(s, name);
    if (tenant == QR_NONE)
        return qr_fail(error, QUIRE_ERR_FULL, "%u tenants have live requests, max_num_tenants is %u", s->tenant_count,
                       s->options.max_num_tenants);
    const qr_tenant *t = &s->tenants[tenant];
    if (t->queued + slots_of(stored) <= t->max_num_queued_reqs) return QUIRE_OK;
    return qr_fail(
        error, QUIRE_ERR_FULL,
        "queue: %u sequences of tenant \"%s\" are waiting and %u more do not fit in its max_num_queued_reqs %u" COUNTED,
        t->queued, name, slots_of(stored), t->max_num_queued_reqs);
}

static void init_request(qr_scheduler *s, uint32_t request, uint32_t tenant, uint64_t arrival_ns)
{
    qr_request         *r      = &s->requests[request];
    const quire_request stored = r->stored;
    *r = (qr_request){.stored = stored, .id = r->id, .arrival_ns = arrival_ns, .tenant = tenant, .first = request};
    r->number          = ++s->last_number;
    r->stored.tenant   = s->tenants[tenant].name;
    r->live            = stored.n;
    r->promised_blocks = blocks_to_promise(s, &stored);
    if (stored.cache_salt != NULL) memcpy(r->salt, stored.cache_salt, strlen(stored.cache_salt));
    for (uint32_t m = request; m != QR_NONE; m = s->sequences[m].sibling)
        qr_sequence_init(s, m, request, r->sequences++);
}

quire_status qr_scheduler_enter(qr_scheduler *s, uint32_t request, uint64_t arrival_ns, quire_error *error)
{
    uint32_t tenant;
    QR_TRY(open_tenant(s, &s->requests[request].stored, &tenant, error));
    init_request(s, request, tenant, arrival_ns);
    s->live_requests++;
    qr_tenant_request_opened(s, tenant);
    set_deadlines(s, request);
    queue_request(s, request);
    return QUIRE_OK;
}

static quire_status submit(qr_scheduler *s, const quire_request *request, quire_request_id id, uint64_t arrival_ns,
                           quire_error *error)
{
    quire_request resolved;
    uint32_t      queued, tokens;
    if (id == 0 || qr_id_map_find(&s->ids, id) != QR_NONE)
        return qr_fail(error, QUIRE_ERR_INVALID, "id: %llu must be nonzero and not in use", (unsigned long long)id);
    QR_TRY(qr_request_resolve(&s->options, request, &resolved, error));
    qr_scheduler_queued(s, &queued, &tokens);
    QR_TRY(qr_scheduler_check_queue(&s->options, &resolved, queued, tokens, error));
    const uint32_t record = qr_scheduler_keep(s, &resolved, id);
    if (record == QR_NONE)
        return qr_fail(error, QUIRE_ERR_FULL, "queue: %u sequences have ended but their events are not taken yet",
                       s->record_count);
    const quire_status status = qr_scheduler_enter(s, record, arrival_ns, error);
    if (status != QUIRE_OK) qr_scheduler_release(s, record);
    return status;
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
