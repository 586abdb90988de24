/* Submit, cancel and flush, and what of them counts towards the limits of the queue. */
#include "engine/inbox.h"

#include "base/bits.h"
#include "base/error.h"

/* ---- submit ---- */

/* Logits slots that one step may need for the request's FIRST and ALL. */
static uint32_t logits_demand(const qr_inbox *inbox, const quire_request *request, uint32_t sequences)
{
    if ((request->logits & (QUIRE_LOGITS_FIRST | QUIRE_LOGITS_ALL)) == 0) return 0;
    const uint32_t tokens = request->logits & QUIRE_LOGITS_ALL ? 1 + inbox->limits->num_speculative_tokens : 1;
    return qr_min_u32(sequences * tokens, inbox->logits_slots);
}

static void describe(const qr_inbox *inbox, qr_record *record, const quire_request *request, uint64_t now_ns)
{
    record->user_data       = request->user_data;
    record->arrival_ns      = now_ns;
    record->queued_tokens   = request->prompt_count + request->encoder_count;
    record->logits          = request->logits;
    record->logits_per_step = logits_demand(inbox, request, record->sequences);
    record->firsts_due      = record->sequences;
}

static bool keep(qr_inbox *inbox, qr_record *record, const quire_request *request)
{
    quire_request own = *request;
    own.user_data     = record;
    record->request   = qr_scheduler_keep(inbox->scheduler, &own, record->id);
    if (record->request != UINT32_MAX) return true;
    qr_ledger_take_back(inbox->ledger, record);
    return false;
}

static quire_status submit_locked(qr_inbox *inbox, const quire_request *request, uint64_t now_ns,
                                  quire_request_id *id_out, quire_error *error)
{
    const uint64_t queued = (uint64_t)inbox->scheduler_requests + inbox->pending_requests;
    const uint64_t tokens = (uint64_t)inbox->scheduler_tokens + inbox->pending_tokens;
    QR_TRY(qr_scheduler_check_queue(inbox->limits, request, queued, tokens, error));
    qr_record *record = qr_ledger_open(inbox->ledger, qr_max_u32(request->n, request->beam_width));
    if (record == NULL || !keep(inbox, record, request))
        return qr_fail(error, QUIRE_ERR_FULL, "queue: %u finished or running sequences still await poll()",
                       inbox->ledger->finish_reserved);
    describe(inbox, record, request, now_ns);
    inbox->pending_requests += record->sequences;
    inbox->pending_tokens += record->queued_tokens;
    inbox->submitted++;
    *id_out = record->id;
    qr_ledger_wake(inbox->ledger);
    return QUIRE_OK;
}

quire_status qr_inbox_submit(qr_inbox *inbox, const quire_request *resolved, uint64_t now_ns, quire_request_id *id_out,
                             quire_error *error)
{
    qr_ledger_lock(inbox->ledger);
    const quire_status status = submit_locked(inbox, resolved, now_ns, id_out, error);
    if (status != QUIRE_OK) inbox->refused++;
    qr_ledger_unlock(inbox->ledger);
    return status;
}

void qr_inbox_count_refusal(qr_inbox *inbox)
{
    qr_ledger_lock(inbox->ledger);
    inbox->refused++;
    qr_ledger_unlock(inbox->ledger);
}

/* ---- cancel, flush ---- */

qr_record *qr_inbox_find(const qr_inbox *inbox, quire_request_id id)
{
    const quire_request *request = qr_scheduler_kept(inbox->scheduler, id);
    return request ? request->user_data : NULL;
}

quire_status qr_inbox_cancel(qr_inbox *inbox, quire_request_id id)
{
    qr_ledger_lock(inbox->ledger);
    qr_record *record = qr_inbox_find(inbox, id);
    const bool found  = record != NULL && record->state != QR_RECORD_ENDED;
    if (found) qr_ledger_cancel(inbox->ledger, record);
    if (found) qr_ledger_wake(inbox->ledger);
    qr_ledger_unlock(inbox->ledger);
    return found ? QUIRE_OK : QUIRE_ERR_NOT_FOUND;
}

void qr_inbox_flush_cache(qr_inbox *inbox)
{
    qr_ledger_lock(inbox->ledger);
    inbox->flush_cache = true;
    qr_ledger_wake(inbox->ledger);
    qr_ledger_unlock(inbox->ledger);
}

/* ---- the driver's side ---- */

static void leave(qr_inbox *inbox, const qr_record *record)
{
    inbox->pending_requests -= record->sequences;
    inbox->pending_tokens -= record->queued_tokens;
}

void qr_inbox_entered(qr_inbox *inbox, const qr_record *record)
{
    leave(inbox, record);
    inbox->scheduler_requests += record->sequences;
    inbox->scheduler_tokens += record->queued_tokens;
}

void qr_inbox_forget(qr_inbox *inbox, const qr_record *record)
{
    leave(inbox, record);
    qr_scheduler_release(inbox->scheduler, record->request);
}

void qr_inbox_report(qr_inbox *inbox, uint32_t scheduler_requests, uint32_t scheduler_tokens)
{
    inbox->scheduler_requests = scheduler_requests;
    inbox->scheduler_tokens   = scheduler_tokens;
}
