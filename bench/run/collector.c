/* One record per request, one time per token, one gap per pair of tokens; live metrics see the same values. */
#include "bench/run/collector.h"

#include <math.h>
#include <stdlib.h>

#include "base/error.h"
#include "base/median.h"
#include "bench/common/array.h"
#include "bench/common/percentiles.h"

enum { EVENTS_PER_POLL = 256, MAX_STAGES = 1 << 22 };

/* ---- tokens ---- */

static size_t index_of(const quire_event *event) { return (size_t)(uintptr_t)event->user_data; }

/* NULL: out of memory. */
static qr_sequence_times *times_of(qr_collector *c, const quire_event *event)
{
    const size_t at = index_of(event) * c->sequences_per_request + event->sequence % c->sequences_per_request;
    while (at >= c->sequence_count)
        if (!QR_ARRAY_PUSH(c->sequences, c->sequence_count, (qr_sequence_times){0})) return NULL;
    return &c->sequences[at];
}

static void take_first_of_request(const qr_collector *c, int64_t ns, qr_run_request *record)
{
    if (record->first_ns >= 0) return; /* another sequence's */
    record->first_ns = ns;
    qr_prometheus_observe(c->prometheus, QR_PROMETHEUS_TTFT, (double)(ns - record->due_ns) * 1e-9);
}

static bool take_gap(qr_collector *c, int64_t from_ns, int64_t to_ns, size_t request)
{
    const qr_run_gap gap = {.end_ns = to_ns, .gap_ns = to_ns - from_ns, .request = (uint32_t)request};
    qr_prometheus_observe(c->prometheus, QR_PROMETHEUS_ITL, (double)gap.gap_ns * 1e-9);
    return QR_ARRAY_PUSH(c->run->gaps, c->run->gap_count, gap);
}

static void keep_token(const quire_event *event, qr_run_request *record)
{
    if (record->kept && event->sequence == 0 && record->kept_count < record->shape.output_tokens)
        record->kept[record->kept_count++] = event->token;
}

static quire_status take_token(qr_collector *c, const quire_event *event, qr_run_request *record)
{
    const int64_t      ns    = (int64_t)(event->time_ns - c->start_ns);
    qr_sequence_times *times = times_of(c, event);
    if (times == NULL) return QUIRE_ERR_NO_MEMORY;
    if (times->tokens++ == 0) {
        times->first_ns = ns;
        take_first_of_request(c, ns, record);
    } else if (!take_gap(c, times->last_ns, ns, index_of(event))) {
        return QUIRE_ERR_NO_MEMORY;
    }
    times->last_ns = ns;
    record->output_tokens++;
    keep_token(event, record);
    return QR_ARRAY_PUSH(c->run->tokens, c->run->token_count, ns) ? QUIRE_OK : QUIRE_ERR_NO_MEMORY;
}

/* ---- ends ---- */

static int64_t since_start(const qr_collector *c, uint64_t time_ns)
{
    return time_ns ? (int64_t)(time_ns - c->start_ns) : -1;
}

static void take_tpot(const qr_sequence_times *times, qr_run_request *record)
{
    if (times->tokens < 2) return;
    const double tpot = (double)(times->last_ns - times->first_ns) / (times->tokens - 1);
    const double done = record->sequences_ended;
    record->tpot_ns   = record->tpot_ns < 0 ? tpot : (record->tpot_ns * done + tpot) / (done + 1);
}

/* P99 of a request's own gaps. They lie between its first token and now, among those of the others. */
static uint64_t own_itl_p99(const qr_run *run, size_t index, const qr_run_request *record)
{
    double *const gaps   = calloc(record->output_tokens + 1, sizeof *gaps);
    size_t        count  = 0;
    double        result = 0;
    for (size_t i = run->gap_count; gaps != NULL && i-- > 0 && run->gaps[i].end_ns >= record->first_ns;)
        if (run->gaps[i].request == index && count < record->output_tokens) gaps[count++] = (double)run->gaps[i].gap_ns;
    qr_sort(gaps, count);
    if (count > 0) result = qr_quantile(gaps, count, 0.99);
    free(gaps);
    return (uint64_t)llround(result);
}

static void take_preemptions(const qr_collector *c, const quire_finish_detail *detail, qr_run_request *record)
{
    if (record->preemptions > 0) return; /* another sequence's are there */
    for (uint32_t i = 0; i < QUIRE_KEPT_PREEMPTIONS && i < detail->preemptions; i++)
        record->preemption_intervals[i] =
            (qr_preemption_interval){since_start(c, detail->preemption_intervals[i].from_ns),
                                     since_start(c, detail->preemption_intervals[i].to_ns)};
}

static void take_detail(const qr_collector *c, const quire_finish_detail *detail, qr_run_request *record)
{
    record->planned_ns     = since_start(c, detail->first_planned_ns);
    record->prompt_done_ns = since_start(c, detail->prompt_done_ns);
    record->cached_tokens  = detail->cached_tokens;
    if (c->run->is_remote && detail->prompt_tokens > 0) record->shape.prompt_tokens = detail->prompt_tokens;
    record->encoder_shared = detail->encoder_shared;
    take_preemptions(c, detail, record);
    record->preemptions += detail->preemptions;
    for (int i = 0; i < QUIRE_WAIT_REASONS; i++) record->wait_ns[i] += detail->wait_ns[i];
}

static void observe_end(qr_prometheus *to, const qr_run_request *record)
{
    qr_prometheus_finished(to, record->finish);
    qr_prometheus_observe(to, QR_PROMETHEUS_E2E, (double)(record->end_ns - record->due_ns) * 1e-9);
    if (record->tpot_ns >= 0) qr_prometheus_observe(to, QR_PROMETHEUS_TPOT, record->tpot_ns * 1e-9);
    if (record->planned_ns < 0) return;
    qr_prometheus_observe(to, QR_PROMETHEUS_QUEUE, (double)(record->planned_ns - record->due_ns) * 1e-9);
}

static void take_end_of_request(qr_collector *c, const quire_event *event, qr_run_request *record)
{
    record->end_ns     = (int64_t)(event->time_ns - c->start_ns);
    record->itl_p99_ns = own_itl_p99(c->run, index_of(event), record);
    c->run->ended++;
    qr_generator_free_stream(c->generator, record->end_ns);
    observe_end(c->prometheus, record);
}

/* Of one sequence. */
static quire_status take_finish(qr_collector *c, const quire_event *event, qr_run_request *record)
{
    const qr_sequence_times *times = times_of(c, event);
    if (times == NULL) return QUIRE_ERR_NO_MEMORY;
    take_tpot(times, record);
    record->sequences_ended++;
    record->finish = (quire_finish)event->finish;
    record->status = (quire_status)event->status;
    if (event->detail != NULL) take_detail(c, event->detail, record);
    if (event->last) take_end_of_request(c, event, record);
    return QUIRE_OK;
}

quire_status qr_collector_take_events(qr_collector *c, const qr_target *target)
{
    quire_event events[EVENTS_PER_POLL];
    size_t      count;
    while ((count = target->poll(target->self, events, EVENTS_PER_POLL)) > 0)
        for (size_t i = 0; i < count; i++) {
            qr_run_request *record = &c->run->requests[index_of(&events[i])];
            QR_TRY(events[i].kind == QUIRE_EVENT_TOKEN ? take_token(c, &events[i], record)
                                                       : take_finish(c, &events[i], record));
        }
    return QUIRE_OK;
}

/* ---- steps ---- */

bool qr_collector_take_step(void *context, const quire_step *step)
{
    qr_collector *c    = context;
    quire_step    kept = *step;
    qr_prometheus_step(c->prometheus, step);
    kept.start_ns -= c->start_ns;
    return QR_ARRAY_PUSH(c->run->steps, c->run->step_count, kept);
}

static bool take_stage(qr_collector *c, uint32_t thread, const quire_stage *from)
{
    const qr_run_stage stage = {.start_ns = (int64_t)(from->start_ns - c->start_ns),
                                .busy_ns  = from->busy_ns,
                                .wait_ns  = from->wait_ns,
                                .thread   = (uint16_t)thread,
                                .kind     = (uint8_t)from->kind,
                                .encoder  = from->encoder};
    if (c->run->stage_count < MAX_STAGES) return QR_ARRAY_PUSH(c->run->stages, c->run->stage_count, stage);
    c->stages_lost++;
    return true;
}

bool qr_collector_take_stages(void *context, uint32_t thread, const quire_stage *stages, size_t count, uint64_t dropped)
{
    qr_collector *c = context;
    for (size_t i = 0; i < count; i++)
        if (!take_stage(c, thread, &stages[i])) return false;
    c->stages_dropped      = dropped + (thread > 0 ? c->stages_dropped : 0); /* a sum that starts anew each step */
    c->run->stages_dropped = c->stages_dropped + c->stages_lost;
    return true;
}

void qr_collector_deinit(qr_collector *c) { free(c->sequences); }
