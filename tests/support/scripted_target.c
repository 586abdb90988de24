/* Events become visible when the clock has reached them, oldest request first. */
#include "support/scripted_target.h"

static const scripted_request *script_of(const scripted_target *t, uint32_t r)
{
    return &t->script[r % t->script_count];
}

/* Of the next event of request r; UINT64_MAX: it has none. */
static uint64_t next_event_ns(const scripted_target *t, uint32_t r)
{
    const scripted_request *s = script_of(t, r);
    if (t->sent[r] > s->tokens) return UINT64_MAX;
    if (t->is_cancelled[r]) return 0;
    const uint32_t k = t->sent[r] < s->tokens ? t->sent[r] : s->tokens - 1;
    return t->submit_ns[r] + s->ttft_ns + k * s->gap_ns;
}

static quire_status start(void *self, const qr_step_listener *listener, quire_error *error)
{
    (void)listener;
    (void)error;
    ((scripted_target *)self)->starts++;
    return QUIRE_OK;
}

static void stop(void *self) { ((scripted_target *)self)->stops++; }

static uint64_t now(const void *self) { return ((const scripted_target *)self)->now_ns; }

static quire_status submit(void *self, const quire_request *request, quire_request_id *id_out)
{
    scripted_target *t = self;
    if (t->queue > 0 && t->in_flight >= t->queue) return QUIRE_ERR_FULL;
    const uint32_t     r      = t->submitted++;
    const quire_status status = script_of(t, r)->refusal;
    t->submit_ns[r]           = t->now_ns;
    t->user_data[r]           = request->user_data;
    t->sent[r]                = status == QUIRE_OK ? 0 : UINT32_MAX;
    t->in_flight += status == QUIRE_OK;
    *id_out = r + 1;
    return status;
}

static void cancel(void *self, quire_request_id id)
{
    scripted_target *t      = self;
    t->is_cancelled[id - 1] = true;
    t->sent[id - 1]         = script_of(t, (uint32_t)id - 1)->tokens;
    t->cancels++;
}

static void give_end(scripted_target *t, uint32_t r, quire_event *event)
{
    t->detail     = (quire_finish_detail){.first_planned_ns = t->submit_ns[r] + script_of(t, r)->ttft_ns / 2};
    event->kind   = QUIRE_EVENT_FINISHED;
    event->finish = t->is_cancelled[r] ? QUIRE_FINISH_CANCELLED : QUIRE_FINISH_LENGTH;
    event->last   = 1;
    event->detail = &t->detail;
    t->in_flight--;
}

static quire_event event_of(scripted_target *t, uint32_t r)
{
    const uint32_t k     = t->sent[r];
    const bool     lie   = t->lies_after && t->stops > 0 && k == 1;
    quire_event    event = {.request   = r + 1,
                            .user_data = t->user_data[r],
                            .time_ns   = next_event_ns(t, r),
                            .kind      = QUIRE_EVENT_TOKEN,
                            .index     = k,
                            .token     = (int32_t)k + lie};
    if (k == script_of(t, r)->tokens) give_end(t, r, &event);
    t->sent[r]++;
    return event;
}

/* Ends are handed out alone, because there is one detail. */
static size_t poll_events(void *self, quire_event *events, size_t capacity)
{
    scripted_target *t     = self;
    size_t           count = 0;
    for (uint32_t r = 0; r < t->submitted; r++)
        while (next_event_ns(t, r) <= t->now_ns && count < capacity) {
            events[count++] = event_of(t, r);
            if (events[count - 1].kind == QUIRE_EVENT_FINISHED) return count;
        }
    return count;
}

static quire_status wait_until(void *self, uint64_t until_ns, quire_error *error)
{
    scripted_target *t  = self;
    uint64_t         to = until_ns;
    (void)error;
    for (uint32_t r = 0; r < t->submitted; r++)
        if (next_event_ns(t, r) < to) to = next_event_ns(t, r);
    if (to > t->now_ns) t->now_ns = to;
    return t->now_ns >= t->fails_at_ns ? t->wait_status : QUIRE_OK;
}

static void stats_of(const void *self, quire_stats *stats)
{
    (void)self;
    stats->max_model_len = 256;
    stats->blocks        = 100;
}

static void flush_cache(void *self) { ((scripted_target *)self)->flushes++; }
static void destroy(void *self) { (void)self; }

qr_target scripted_target_of(scripted_target *scripted)
{
    if (scripted->now_ns == 0) scripted->now_ns = 1000;
    return (qr_target){.self        = scripted,
                       .start       = start,
                       .stop        = stop,
                       .now         = now,
                       .submit      = submit,
                       .cancel      = cancel,
                       .poll        = poll_events,
                       .wait        = wait_until,
                       .stats       = stats_of,
                       .flush_cache = flush_cache,
                       .destroy     = destroy,
                       .retry_ns    = 1000000,
                       .idle_ns     = 20000000};
}
