/* Latencies, rates and steps of a run as the numbers of a report. */
#include "bench/result/metrics.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "bench/common/array.h"
#include "bench/common/statistics.h"

enum { BATCHES = 10 };

typedef struct samples {
    double  *values;
    uint64_t count;
    bool     failed;
} samples;

static void add(samples *to, double value)
{
    if (!QR_ARRAY_PUSH(to->values, to->count, value)) to->failed = true;
}

static void finish_summary(samples *from, const qr_metrics *metrics, qr_summary *to)
{
    qr_summary_of(from->values, from->count, metrics->percentiles, metrics->percentile_count, to);
}

/* ---- the window ---- */

static bool in_window(const qr_run *run, int64_t t) { return t >= run->window_start_ns && t <= run->window_end_ns; }

static uint32_t batch_of(const qr_run *run, int64_t t)
{
    const int64_t length = run->window_end_ns - run->window_start_ns + 1;
    return (uint32_t)((t - run->window_start_ns) * BATCHES / length);
}

static qr_rate rate_of(const double *batches, double length_s)
{
    double sum = 0, squares = 0;
    for (int i = 0; i < BATCHES; i++) sum += batches[i];
    const double mean = sum / BATCHES, scale = length_s > 0 ? BATCHES / length_s : 0;
    for (int i = 0; i < BATCHES; i++) squares += (batches[i] - mean) * (batches[i] - mean);
    const double half = qr_student_975(BATCHES - 1) * sqrt(squares / (BATCHES - 1) / BATCHES);
    return (qr_rate){mean * scale, fmax(0, mean - half) * scale, (mean + half) * scale};
}

/* ---- requests ---- */

static double ms(int64_t ns) { return (double)ns * 1e-6; }

static double tpot_for_goodput(const qr_run_request *r) { return r->tpot_ns < 0 ? 0 : r->tpot_ns * 1e-6; }

static bool succeeded(const qr_run_request *r)
{
    return r->finish == QUIRE_FINISH_STOP || r->finish == QUIRE_FINISH_LENGTH;
}

bool qr_slo_is_met(const qr_slo *slo, const qr_run_request *r)
{
    return succeeded(r) && (slo->ttft_ms <= 0 || ms(r->first_ns - r->due_ns) <= slo->ttft_ms) &&
           (slo->tpot_ms <= 0 || tpot_for_goodput(r) <= slo->tpot_ms) &&
           (slo->e2el_ms <= 0 || ms(r->end_ns - r->due_ns) <= slo->e2el_ms) &&
           (slo->itl_p99_ms <= 0 || (double)r->itl_p99_ns * 1e-6 <= slo->itl_p99_ms);
}

bool qr_slo_is_given(const qr_slo *s)
{
    return s->ttft_ms > 0 || s->tpot_ms > 0 || s->e2el_ms > 0 || s->itl_p99_ms > 0;
}

/* An engine refuses at once; a server's answer comes later. */
static bool is_refused(const qr_run *run, const qr_run_request *r)
{
    if (r->finish != QUIRE_FINISH_ERROR) return false;
    return r->submit_ns == r->end_ns ||
           (run->is_remote && (r->status == QUIRE_ERR_FULL || r->status == QUIRE_ERR_INVALID));
}

static void count_request(qr_metrics *m, const qr_run *run, const qr_run_request *r)
{
    if (r->due_ns > run->window_end_ns) return;
    m->requests.due += in_window(run, r->due_ns);
    if (succeeded(r) && r->end_ns < run->window_start_ns) return; /* the warm-up's */
    m->requests.preempted += r->preemptions > 0;
    if (is_refused(run, r))
        m->requests.refused++;
    else if (r->finish == QUIRE_FINISH_ERROR || r->finish == QUIRE_FINISH_TIMEOUT)
        m->requests.failed++;
    else if (r->finish == QUIRE_FINISH_CANCELLED)
        m->requests.cancelled++;
    else if (succeeded(r) && in_window(run, r->end_ns))
        m->requests.completed++;
    else
        m->requests.truncated++;
}

typedef struct request_samples {
    samples ttft, ttft_service, queue, tpot, ntpot, e2el;
    double  ended[BATCHES], prompts[BATCHES], good, good_tokens; /* prompts: tokens, less those cached */
    double  met_ttft, met_tpot, met_e2el, met_itl;
    double  cached;
} request_samples;

static void take_latencies(request_samples *s, const qr_run *run, const qr_run_request *r)
{
    if (r->first_ns >= 0 && in_window(run, r->first_ns)) {
        add(&s->ttft, ms(r->first_ns - r->due_ns));
        add(&s->ttft_service, ms(r->first_ns - r->submit_ns));
        if (r->planned_ns >= 0) add(&s->queue, ms(r->planned_ns - r->due_ns));
        s->cached += r->cached_tokens;
        s->prompts[batch_of(run, r->first_ns)] +=
            fmax(0, (double)r->shape.prompt_tokens + r->shape.encoder_tokens - r->cached_tokens);
    }
    if (!succeeded(r) || !in_window(run, r->end_ns)) return;
    s->ended[batch_of(run, r->end_ns)] += 1;
    if (r->tpot_ns >= 0) add(&s->tpot, r->tpot_ns * 1e-6);
    add(&s->e2el, ms(r->end_ns - r->due_ns));
    if (r->output_tokens > 0) add(&s->ntpot, ms(r->end_ns - r->due_ns) / r->output_tokens);
}

static void take_slo(request_samples *s, const qr_metrics *m, const qr_run *run, const qr_run_request *r)
{
    if (!succeeded(r)) return;
    const qr_slo *slo = &m->slo;
    if (in_window(run, r->due_ns)) {
        s->met_ttft += qr_slo_is_met(&(qr_slo){.ttft_ms = slo->ttft_ms}, r);
        s->met_tpot += qr_slo_is_met(&(qr_slo){.tpot_ms = slo->tpot_ms}, r);
        s->met_e2el += qr_slo_is_met(&(qr_slo){.e2el_ms = slo->e2el_ms}, r);
        s->met_itl += qr_slo_is_met(&(qr_slo){.itl_p99_ms = slo->itl_p99_ms}, r);
        s->good += qr_slo_is_met(slo, r);
    }
    if (in_window(run, r->end_ns) && qr_slo_is_met(slo, r)) s->good_tokens += r->output_tokens;
}

static double share(double met, uint32_t due, double asked) { return asked > 0 && due > 0 ? met / due : NAN; }

static void finish_slo(qr_metrics *m, const request_samples *s)
{
    const uint32_t due          = m->requests.due;
    m->attainment               = share(s->good, due, qr_slo_is_given(&m->slo));
    m->attainment_ttft          = share(s->met_ttft, due, m->slo.ttft_ms);
    m->attainment_tpot          = share(s->met_tpot, due, m->slo.tpot_ms);
    m->attainment_e2el          = share(s->met_e2el, due, m->slo.e2el_ms);
    m->attainment_itl           = share(s->met_itl, due, m->slo.itl_p99_ms);
    m->throughput.goodput       = qr_slo_is_given(&m->slo) && m->length_s > 0 ? s->good / m->length_s : NAN;
    m->throughput.token_goodput = qr_slo_is_given(&m->slo) && m->length_s > 0 ? s->good_tokens / m->length_s : NAN;
}

static bool compute_requests(qr_metrics *m, const qr_run *run)
{
    request_samples s = {0};
    for (size_t i = 0; i < run->request_count; i++) {
        count_request(m, run, &run->requests[i]);
        take_latencies(&s, run, &run->requests[i]);
        take_slo(&s, m, run, &run->requests[i]);
    }
    m->requests.due += run->held_back;
    m->requests.truncated += run->held_back;
    samples *const    from[] = {&s.ttft, &s.ttft_service, &s.queue, &s.tpot, &s.ntpot, &s.e2el};
    qr_summary *const to[]   = {&m->ttft, &m->ttft_service, &m->queue, &m->tpot, &m->ntpot, &m->e2el};
    bool              ok     = true;
    for (size_t i = 0; i < sizeof from / sizeof *from; i++) {
        finish_summary(from[i], m, to[i]);
        ok &= !from[i]->failed;
        free(from[i]->values);
    }
    m->throughput.requests = rate_of(s.ended, m->length_s);
    if (run->is_remote) m->throughput.input = rate_of(s.prompts, m->length_s);
    m->throughput.cached   = m->length_s > 0 ? s.cached / m->length_s : 0;
    m->throughput.per_user = m->tpot.n > 0 && m->tpot.mean > 0 ? 1e3 / m->tpot.mean : NAN;
    finish_slo(m, &s);
    return ok;
}

/* ---- tokens ---- */

/* Most tokens of the window within one second; they come in ascending order. */
static double peak_per_second(const qr_run *run)
{
    double peak  = 0;
    size_t first = 0;
    for (size_t i = 0; i < run->token_count; i++) {
        if (!in_window(run, run->tokens[i])) continue;
        while (run->tokens[first] < run->window_start_ns || run->tokens[i] - run->tokens[first] >= 1000000000) first++;
        peak = fmax(peak, (double)(i - first + 1));
    }
    return peak;
}

static bool compute_tokens(qr_metrics *m, const qr_run *run)
{
    double  batches[BATCHES] = {0};
    samples itl              = {0};
    for (size_t i = 0; i < run->token_count; i++)
        if (in_window(run, run->tokens[i])) batches[batch_of(run, run->tokens[i])] += 1;
    for (size_t i = 0; i < run->gap_count; i++)
        if (in_window(run, run->gaps[i].end_ns)) add(&itl, ms(run->gaps[i].gap_ns));
    finish_summary(&itl, m, &m->itl);
    free(itl.values);
    m->throughput.output      = rate_of(batches, m->length_s);
    m->throughput.peak_output = peak_per_second(run);
    return !itl.failed;
}

/* ---- steps ---- */

static void share_time(qr_metrics *m, const quire_step *step, double seconds)
{
    const double rows = step->rows + step->rows_encoder;
    m->steps.encoder_s += seconds * step->rows_encoder / rows;
    m->steps.prefill_s += seconds * step->rows_prompt / rows;
    m->steps.decode_s += seconds * (step->rows - step->rows_prompt) / rows;
}

static void add_stage_times(qr_metrics *m, const quire_step *step)
{
    m->steps.projection_s += (double)step->projection_ns * 1e-9;
    m->steps.attention_s += (double)step->attention_ns * 1e-9;
    m->steps.logits_s += (double)step->logits_ns * 1e-9;
    m->steps.rowwise_s += (double)step->rowwise_ns * 1e-9;
    m->steps.encoder_stage_s += (double)step->encoder_ns * 1e-9;
    m->steps.barrier_s += (double)step->barrier_ns * 1e-9;
    m->steps.network_s += (double)step->network_ns * 1e-9;
    m->steps.sampling_s += (double)step->sample_ns * 1e-9;
    m->steps.scheduler_s += (double)(step->plan_ns + step->commit_ns) * 1e-9;
    m->steps.weight_bytes += (double)step->weight_bytes;
    m->steps.kv_bytes += (double)step->kv_bytes;
    m->steps.flops += (double)step->flops;
}

/* `busy` is the time of all steps. */
static double unnamed_time(const qr_metrics *m, double busy)
{
    return fmax(0, busy - m->steps.projection_s - m->steps.attention_s - m->steps.logits_s - m->steps.rowwise_s -
                       m->steps.encoder_stage_s - m->steps.sampling_s - m->steps.scheduler_s - m->steps.barrier_s -
                       m->steps.network_s);
}

/* Seconds of the step that lie within the window: an interrupt ends it in the middle of one. */
static double seconds_within(const qr_run *run, const quire_step *step, double seconds)
{
    return fmin(seconds, (double)(run->window_end_ns - (int64_t)step->start_ns) * 1e-9);
}

static bool compute_steps(qr_metrics *m, const qr_run *run)
{
    samples rows = {0}, sequences = {0}, times = {0};
    double  batches[BATCHES] = {0}, busy = 0, within = 0, kv = 0, imbalance = 0, fill = 0, saturated = 0,
           saturated_tokens = 0;
    const double kv_bytes   = run->stats_last.kv_cache_bytes ? (double)run->stats_last.kv_cache_bytes : 1;
    const double budget     = run->stats_last.max_num_batched_tokens ? run->stats_last.max_num_batched_tokens : 1;
    for (size_t i = 0; i < run->step_count; i++) {
        const quire_step *step  = &run->steps[i];
        const int64_t     start = (int64_t)step->start_ns;
        const double seconds    = (double)(step->plan_ns + step->forward_ns + step->sample_ns + step->commit_ns) * 1e-9;
        const double usage      = (double)step->kv_used_bytes / kv_bytes;
        if (!in_window(run, start)) continue;
        m->steps.count++;
        add(&rows, step->rows);
        add(&sequences, step->sequences);
        add(&times, seconds * 1e3);
        share_time(m, step, seconds_within(run, step, seconds));
        add_stage_times(m, step);
        batches[batch_of(run, start)] += step->rows_prompt + step->rows_encoder;
        busy += seconds;
        within += seconds_within(run, step, seconds);
        kv += usage * seconds;
        fill += step->rows / budget * seconds;
        imbalance += (double)step->imbalance * seconds;
        m->steps.kv_usage_max = fmax(m->steps.kv_usage_max, usage);
        if (step->waiting > 0) saturated = (double)start * 1e-9 + seconds;
    }
    finish_summary(&rows, m, &m->steps.rows);
    finish_summary(&sequences, m, &m->steps.sequences);
    finish_summary(&times, m, &m->steps.time_ms);
    if (!run->is_remote) m->throughput.input = rate_of(batches, m->length_s);
    m->steps.busy_share    = m->length_s > 0 ? fmin(1, within / m->length_s) : 0;
    m->steps.idle_s        = fmax(0, m->length_s - within);
    m->steps.busy_s        = busy;
    m->steps.other_s       = unnamed_time(m, busy);
    m->steps.kv_usage_mean = busy > 0 ? kv / busy : 0;
    m->steps.batch_fill    = busy > 0 ? fill / busy : 0;
    m->steps.imbalance     = busy > 0 ? imbalance / busy : 0;
    for (size_t i = 0; i < run->token_count; i++) saturated_tokens += (double)run->tokens[i] * 1e-9 <= saturated;
    m->saturated_s                 = saturated;
    m->throughput.saturated_output = saturated > 0 ? saturated_tokens / saturated : NAN;
    free(rows.values);
    free(sequences.values);
    free(times.values);
    return !rows.failed && !sequences.failed && !times.failed;
}

static void compute_counters(qr_metrics *m, const qr_run *run)
{
    const quire_stats *a = &run->stats_first, *b = &run->stats_last;
    const double       queries    = (double)(b->prefix_queries - a->prefix_queries);
    m->steps.preemptions          = b->preemptions - a->preemptions;
    m->steps.recomputed_tokens    = b->tokens_recomputed - a->tokens_recomputed;
    m->steps.encoder_runs         = b->encoder_runs - a->encoder_runs;
    m->steps.encoder_runs_saved   = b->encoder_runs_saved - a->encoder_runs_saved;
    m->steps.drafts               = b->drafts - a->drafts;
    m->steps.drafts_accepted      = b->drafts_accepted - a->drafts_accepted;
    m->steps.prefix_hit_share     = queries > 0 ? (double)(b->prefix_hits - a->prefix_hits) / queries : 0;
    m->steps.contiguous_run_bytes = b->contiguous_run_bytes;
    for (int i = 0; i < QUIRE_WAIT_REASONS; i++) m->steps.wait_s[i] = (double)(b->wait_ns[i] - a->wait_ns[i]) * 1e-9;
}

/* ---- all ---- */

static void read_limit(const quire_config *config, const char *key, double *to)
{
    if (quire_config_is_set(config, key)) *to = quire_config_number(config, key);
}

void qr_slo_read(const quire_config *config, qr_slo *to)
{
    const char *preset = quire_config_string(config, "slo.preset");
    *to                = (qr_slo){0};
#define QR_SLO_PRESET(name, ttft, tpot)                                                                                \
    if (preset != NULL && strcmp(preset, name) == 0) *to = (qr_slo){.ttft_ms = ttft, .tpot_ms = tpot};
#include "bench/result/slo_presets.inc"
#undef QR_SLO_PRESET
    read_limit(config, "slo.ttft", &to->ttft_ms);
    read_limit(config, "slo.tpot", &to->tpot_ms);
    read_limit(config, "slo.e2el", &to->e2el_ms);
    read_limit(config, "slo.itl_p99", &to->itl_p99_ms);
}

static void read_settings(qr_metrics *m, const quire_config *config)
{
    const size_t count  = quire_config_count(config, "output.percentiles");
    m->percentile_count = count < QR_MAX_PERCENTILES ? count : QR_MAX_PERCENTILES;
    for (size_t i = 0; i < m->percentile_count; i++) {
        char key[48];
        snprintf(key, sizeof key, "output.percentiles[%zu]", i);
        m->percentiles[i] = quire_config_number(config, key);
    }
    qr_slo_read(config, &m->slo);
}

quire_status qr_metrics_compute(const qr_run *run, const quire_config *config, const qr_workload *workload,
                                qr_metrics *metrics_out, quire_error *error)
{
    qr_metrics *m = metrics_out;
    *m            = (qr_metrics){0};
    read_settings(m, config);
    m->length_s               = (double)(run->window_end_ns - run->window_start_ns) * 1e-9;
    m->warmup_s               = (double)run->window_start_ns * 1e-9;
    m->tenants                = qr_workload_tenants(workload);
    m->requests.skipped       = qr_workload_skipped(workload);
    m->requests.shortened     = qr_workload_shortened(workload);
    m->requests.verified      = run->verified;
    m->requests.verify_failed = run->verify_failed;
    bool ok                   = compute_requests(m, run);
    ok &= compute_tokens(m, run);
    ok &= compute_steps(m, run);
    compute_counters(m, run);
    if (run->is_remote || !qr_workload_is_offline(workload)) m->saturated_s = -1, m->throughput.saturated_output = NAN;
    return ok ? QUIRE_OK : qr_fail(error, QUIRE_ERR_NO_MEMORY, "metrics: out of memory");
}
