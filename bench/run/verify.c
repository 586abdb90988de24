/* Alone means: nothing else in the batch, nothing in the cache, so that both the batch and reuse are put to the test.
 */
#include "bench/run/verify.h"

#include "base/error.h"

enum { EVENTS_PER_POLL = 256 };

typedef struct replay { /* of one request */
    const qr_run_request *record;
    quire_request_id      id;
    uint32_t              count;
    bool                  equal, ended;
} replay;

static void take_event(replay *r, const quire_event *event)
{
    if (event->request != r->id) return;
    if (event->kind == QUIRE_EVENT_FINISHED && event->last) r->ended = true;
    if (event->kind != QUIRE_EVENT_TOKEN || event->sequence != 0) return;
    r->equal &= r->count < r->record->kept_count && event->token == r->record->kept[r->count];
    r->count++;
}

static quire_status decode_alone(qr_generator *g, replay *r, quire_error *error)
{
    const qr_target *target = g->target;
    quire_event      events[EVENTS_PER_POLL];
    quire_request    request;
    qr_generator_make(g, &r->record->shape, &request);
    target->flush_cache(target->self);
    QR_TRY(target->submit(target->self, &request, &r->id));
    while (!r->ended) {
        QR_TRY(target->wait(target->self, UINT64_MAX, error));
        const size_t count = target->poll(target->self, events, EVENTS_PER_POLL);
        for (size_t i = 0; i < count; i++) take_event(r, &events[i]);
    }
    return QUIRE_OK;
}

static bool has_ended_well(const qr_run_request *record)
{
    return record->finish == QUIRE_FINISH_LENGTH || record->finish == QUIRE_FINISH_STOP;
}

static bool is_chosen(const qr_run_request *record) { return record->kept != NULL && has_ended_well(record); }

quire_status qr_verify(qr_generator *g, const qr_verify_watcher *watcher, const volatile int *interrupt,
                       quire_error *error)
{
    uint32_t total = 0;
    for (size_t i = 0; i < g->run->request_count; i++) total += is_chosen(&g->run->requests[i]);
    for (size_t i = 0; i < g->run->request_count && !*interrupt; i++) {
        const qr_run_request *record = &g->run->requests[i];
        replay                r      = {.record = record, .equal = true};
        if (!is_chosen(record)) continue;
        watcher->take(watcher->context, g->run->verified, total);
        QR_TRY(decode_alone(g, &r, error));
        g->run->verified++;
        g->run->verify_failed += !r.equal || r.count != record->kept_count;
    }
    return QUIRE_OK;
}
