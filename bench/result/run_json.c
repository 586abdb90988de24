/* A run of a result, and the aggregate over the runs, as JSON. Null means not measurable. */
#include <math.h>
#include <stddef.h>
#include <string.h>

#include "bench/common/json_text.h"
#include "bench/result/fairness.h"
#include "bench/result/result_json.h"
#include "bench/result/roofline.h"
#include "bench/result/series.h"

static json_t *rate(const qr_rate *r, const char *unit)
{
    return json_pack("{s:o, s:s, s:[o, o]}", "value", qr_json_number(r->value), "unit", unit, "ci95",
                     qr_json_number(r->low), qr_json_number(r->high));
}

static json_t *value(double x, const char *unit)
{
    return json_pack("{s:o, s:s}", "value", qr_json_number(x), "unit", unit);
}

static json_t *summary(const qr_summary *s, const qr_metrics *m, const char *unit)
{
    json_t *p = json_object(), *ci = json_object();
    for (size_t i = 0; i < m->percentile_count; i++) {
        char name[24];
        snprintf(name, sizeof name, "%g", m->percentiles[i]);
        json_object_set_new(p, name, qr_json_number(s->p[i]));
        if (isfinite(s->p[i]))
            json_object_set_new(ci, name, json_pack("[o, o]", qr_json_number(s->low[i]), qr_json_number(s->high[i])));
    }
    return json_pack("{s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "unit", unit, "n", qr_json_whole(s->n), "mean",
                     qr_json_number(s->mean), "stdev", qr_json_number(s->stdev), "min", qr_json_number(s->min), "max",
                     qr_json_number(s->max), "p", p, "ci95", ci);
}

/* The distribution's shape, for pictures: parallel arrays of percentiles and values. */
static json_t *curve(const qr_summary *s)
{
    json_t *p = json_array(), *values = json_array();
    for (size_t i = 0; i < QR_CURVE_POINTS && s->n > 0; i++) {
        if (!isfinite(s->curve[i])) continue;
        json_array_append_new(p, json_real(qr_curve_percentile(i)));
        json_array_append_new(values, json_real(s->curve[i]));
    }
    return json_pack("{s:o, s:o}", "p", p, "value", values);
}

/* A server tells nothing of the last two. */
static json_t *requests(const qr_metrics *m, bool is_remote)
{
    const struct {
        const char *name;
        uint32_t    count;
        bool        is_of_engine;
    } counts[] = {{"due", m->requests.due, false},
                  {"completed", m->requests.completed, false},
                  {"failed", m->requests.failed, false},
                  {"refused", m->requests.refused, false},
                  {"cancelled", m->requests.cancelled, false},
                  {"truncated", m->requests.truncated, false},
                  {"skipped", m->requests.skipped, false},
                  {"shortened", m->requests.shortened, false},
                  {"preempted", m->requests.preempted, true},
                  {"verified", m->requests.verified, true}};
    json_t *to = json_object();
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        json_object_set_new(to, counts[i].name,
                            is_remote && counts[i].is_of_engine ? json_null() : qr_json_whole(counts[i].count));
    return to;
}

/* ---- the metrics: what a run has, and which are averaged over the repetitions ---- */

static const struct {
    const char *name, *unit;
    size_t      offset; /* in qr_metrics: a qr_rate, or a double */
    bool        has_interval, is_averaged;
} throughputs[] = {
    {"requests", "req/s", offsetof(qr_metrics, throughput.requests), true, true},
    {"output_tokens", "tok/s", offsetof(qr_metrics, throughput.output), true, true},
    {"input_tokens", "tok/s", offsetof(qr_metrics, throughput.input), true, true},
    {"cached_tokens", "tok/s", offsetof(qr_metrics, throughput.cached), false, false},
    {"goodput", "req/s", offsetof(qr_metrics, throughput.goodput), false, true},
    {"token_goodput", "tok/s", offsetof(qr_metrics, throughput.token_goodput), false, false},
    {"peak_output_tokens", "tok/s", offsetof(qr_metrics, throughput.peak_output), false, false},
    {"output_tokens_per_user", "tok/s", offsetof(qr_metrics, throughput.per_user), false, false},
    {"saturated_output_tokens", "tok/s", offsetof(qr_metrics, throughput.saturated_output), false, false},
};

static const struct {
    const char *name;
    size_t      offset; /* in qr_metrics: a qr_summary, ms */
    bool        is_averaged;
} latencies[] = {
    {"ttft", offsetof(qr_metrics, ttft), true},    {"ttft_service", offsetof(qr_metrics, ttft_service), false},
    {"queue", offsetof(qr_metrics, queue), false}, {"itl", offsetof(qr_metrics, itl), true},
    {"tpot", offsetof(qr_metrics, tpot), true},    {"ntpot", offsetof(qr_metrics, ntpot), false},
    {"e2el", offsetof(qr_metrics, e2el), true},
};

enum { THROUGHPUTS = sizeof throughputs / sizeof *throughputs, LATENCIES = sizeof latencies / sizeof *latencies };

static const void *at(const qr_metrics *m, size_t offset) { return (const char *)m + offset; }

static json_t *throughput(const qr_metrics *m)
{
    json_t *to = json_object();
    for (size_t i = 0; i < THROUGHPUTS; i++) {
        const void *number = at(m, throughputs[i].offset);
        json_object_set_new(to, throughputs[i].name,
                            throughputs[i].has_interval ? rate(number, throughputs[i].unit)
                                                        : value(*(const double *)number, throughputs[i].unit));
    }
    json_object_set_new(to, "total_tokens", value(m->throughput.output.value + m->throughput.input.value, "tok/s"));
    return to;
}

static json_t *latency(const qr_metrics *m)
{
    json_t *to = json_object();
    for (size_t i = 0; i < LATENCIES; i++) {
        const qr_summary *s   = at(m, latencies[i].offset);
        json_t           *own = summary(s, m, "ms");
        json_object_set_new(own, "curve", curve(s));
        json_object_set_new(to, latencies[i].name, own);
    }
    return to;
}

static json_t *limit(double ms) { return ms > 0 ? json_real(ms) : json_null(); }

/* Attainment of each class of [[workload.mix]], by its name; {} without classes or limits. */
static json_t *by_class(const qr_result *r, uint32_t index)
{
    const qr_run *record  = &r->records[index];
    json_t       *to      = json_object();
    const size_t  classes = quire_config_count(r->config, "workload.mix");
    for (size_t c = 0; c < classes && qr_slo_is_given(&r->runs[index].slo); c++) {
        double due = 0, met = 0;
        char   key[64], name[32];
        snprintf(key, sizeof key, "workload.mix[%zu].name", c);
        snprintf(name, sizeof name, "%zu", c);
        const char *given = quire_config_string(r->config, key);
        for (size_t i = 0; i < record->request_count; i++) {
            const qr_run_request *q = &record->requests[i];
            if (q->shape.mix != c || q->due_ns < record->window_start_ns || q->due_ns > record->window_end_ns) continue;
            due++;
            met += qr_slo_is_met(&r->runs[index].slo, q);
        }
        json_object_set_new(to, given ? given : name, due > 0 ? json_real(met / due) : json_null());
    }
    return to;
}

static json_t *slo(const qr_result *r, uint32_t index)
{
    const qr_metrics *m = &r->runs[index];
    return json_pack("{s:{s:o, s:o, s:o, s:o}, s:o, s:{s:o, s:o, s:o, s:o}, s:o}", "limits_ms", "ttft",
                     limit(m->slo.ttft_ms), "tpot", limit(m->slo.tpot_ms), "e2el", limit(m->slo.e2el_ms), "itl_p99",
                     limit(m->slo.itl_p99_ms), "attainment", qr_json_number(m->attainment), "each", "ttft",
                     qr_json_number(m->attainment_ttft), "tpot", qr_json_number(m->attainment_tpot), "e2el",
                     qr_json_number(m->attainment_e2el), "itl_p99", qr_json_number(m->attainment_itl), "by_class",
                     by_class(r, index));
}

static json_t *steps(const qr_metrics *m)
{
    json_t *wait = json_object();
    for (int i = 0; i < QUIRE_WAIT_REASONS; i++)
        json_object_set_new(wait, quire_wait_reason_name((quire_wait_reason)i), qr_json_number(m->steps.wait_s[i]));
    json_t *to =
        json_pack("{s:I, s:f, s:f, s:f, s:f, s:f, s:f, s:f}", "count", (json_int_t)m->steps.count, "busy_share",
                  m->steps.busy_share, "kv_usage_mean", m->steps.kv_usage_mean, "kv_usage_max", m->steps.kv_usage_max,
                  "batch_fill", m->steps.batch_fill, "prefix_hit_share", m->steps.prefix_hit_share,
                  "contiguous_run_bytes", m->steps.contiguous_run_bytes, "imbalance", m->steps.imbalance);
    json_object_set_new(to, "rows", summary(&m->steps.rows, m, "rows"));
    json_object_set_new(to, "sequences", summary(&m->steps.sequences, m, "sequences"));
    json_object_set_new(to, "time", summary(&m->steps.time_ms, m, "ms"));
    json_object_set_new(to, "preemptions", qr_json_whole(m->steps.preemptions));
    json_object_set_new(to, "recomputed_tokens", qr_json_whole(m->steps.recomputed_tokens));
    json_object_set_new(to, "encoder_runs", qr_json_whole(m->steps.encoder_runs));
    json_object_set_new(to, "encoder_runs_saved", qr_json_whole(m->steps.encoder_runs_saved));
    json_object_set_new(to, "draft_tokens", qr_json_whole(m->steps.drafts));
    json_object_set_new(to, "draft_accepted", qr_json_whole(m->steps.drafts_accepted));
    json_object_set_new(to, "time_s",
                        json_pack("{s:f, s:f, s:f, s:f}", "encoder", m->steps.encoder_s, "prefill", m->steps.prefill_s,
                                  "decode", m->steps.decode_s, "idle", m->steps.idle_s));
    json_object_set_new(to, "stage_s",
                        json_pack("{s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f}", "projections",
                                  m->steps.projection_s, "attention", m->steps.attention_s, "logits", m->steps.logits_s,
                                  "rowwise", m->steps.rowwise_s, "encoder", m->steps.encoder_stage_s, "sampling",
                                  m->steps.sampling_s, "scheduler", m->steps.scheduler_s, "barrier", m->steps.barrier_s,
                                  "network", m->steps.network_s, "other", m->steps.other_s));
    const double moved = m->steps.weight_bytes + m->steps.kv_bytes, busy = m->steps.busy_s;
    json_object_set_new(to, "moved",
                        json_pack("{s:f, s:f, s:f, s:o, s:o}", "weight_bytes", m->steps.weight_bytes, "kv_bytes",
                                  m->steps.kv_bytes, "flops", m->steps.flops, "gbs",
                                  qr_json_number(moved / busy * 1e-9), "gflops",
                                  qr_json_number(m->steps.flops / busy * 1e-9)));
    json_object_set_new(to, "wait_s", wait);
    return to;
}

/* As the workload names them: a single one has no name. */
static void tenant_name(const qr_metrics *m, uint32_t tenant, char name_out[20])
{
    name_out[0] = '\0';
    if (m->tenants > 1) snprintf(name_out, 20, "tenant-%u", tenant);
}

/* Null where there is one tenant. */
static json_t *fairness(const qr_run *run, const qr_metrics *m)
{
    qr_fairness shares;
    if (qr_fairness_of(run, m, &shares) != QUIRE_OK || shares.count < 2) {
        qr_fairness_deinit(&shares);
        return json_null();
    }
    json_t *by_tenant = json_object();
    for (uint32_t i = 0; i < shares.count; i++) {
        const qr_tenant_share *share = &shares.tenants[i];
        char                   name[20];
        tenant_name(m, share->tenant, name);
        json_object_set_new(by_tenant, name,
                            json_pack("{s:I, s:I, s:I, s:o, s:o}", "due", (json_int_t)share->due, "completed",
                                      (json_int_t)share->completed, "output_tokens", (json_int_t)share->output_tokens,
                                      "queue", summary(&share->queue, m, "ms"), "ttft",
                                      summary(&share->ttft, m, "ms")));
    }
    json_t *to = json_pack("{s:o, s:o}", "jain", qr_json_number(shares.jain), "by_tenant", by_tenant);
    qr_fairness_deinit(&shares);
    return to;
}

static json_t *noise(const qr_run *run)
{
    const qr_noise n = qr_noise_between(&run->noise_first, &run->noise_last);
    return json_pack("{s:f, s:o, s:I, s:I, s:I, s:I, s:f}", "steal_share", n.steal_share, "other_share",
                     qr_json_number(run->is_remote ? NAN : n.other_share), "involuntary_switches",
                     (json_int_t)n.involuntary_switches, "page_faults", (json_int_t)n.page_faults, "major_faults",
                     (json_int_t)n.major_faults, "throttled_periods", (json_int_t)n.throttled_periods, "contaminated_s",
                     qr_contaminated_s(run));
}

static json_t *series(const qr_run *run)
{
    json_t *to = qr_series_json(run), *contaminated = json_array();
    for (size_t i = 0; i < run->contaminated_count; i++)
        json_array_append_new(contaminated, json_integer(run->contaminated[i]));
    json_object_set_new(to, "contaminated", contaminated);
    return to;
}

/* What each thread did within the steps of the window; null unless its stages were kept, for a trace, all of them. */
static json_t *threads(const qr_run *run)
{
    static const char *const names[] = {"projections_s", "attention_s", "logits_s",
                                        "rowwise_s",     "sampling_s",  "network_s"};
    enum { KINDS = sizeof names / sizeof *names, MOST = sizeof run->placement.cpus / sizeof *run->placement.cpus };
    double work[MOST][KINDS] = {{0}}, busy[MOST] = {0}, barrier[MOST] = {0};
    if (run->stage_count == 0 || run->stages_dropped > 0 || run->placement.threads > MOST) return json_null();
    for (size_t i = 0; i < run->stage_count; i++) {
        const qr_run_stage *s = &run->stages[i];
        if (s->start_ns < run->window_start_ns || s->start_ns > run->window_end_ns || s->thread >= MOST ||
            s->kind >= KINDS)
            continue;
        work[s->thread][s->kind] += s->busy_ns * 1e-9;
        busy[s->thread] += s->busy_ns * 1e-9;
        barrier[s->thread] += s->wait_ns * 1e-9;
    }
    json_t *to = json_array();
    for (uint32_t t = 0; t < run->placement.threads; t++) {
        json_t *thread = json_pack("{s:I, s:I, s:f, s:f}", "thread", (json_int_t)t, "cpu",
                                   (json_int_t)run->placement.cpus[t], "busy_s", busy[t], "barrier_s", barrier[t]);
        for (size_t k = 0; k < KINDS; k++) json_object_set_new(thread, names[k], json_real(work[t][k]));
        json_array_append_new(to, thread);
    }
    return to;
}

json_t *qr_run_json(const qr_result *r, uint32_t index)
{
    const qr_metrics *m      = &r->runs[index];
    const qr_run     *record = &r->records[index];
    const bool        vary   = quire_config_boolean(r->config, "run.vary_seed");
    json_t           *to =
        json_pack("{s:I, s:I, s:{s:f, s:f, s:f, s:o, s:b}}", "repetition", (json_int_t)index, "seed",
                  (json_int_t)(r->seed + (vary ? index : 0)), "window", "length_s", m->length_s, "warmup_s",
                  m->warmup_s, "grace_s", (double)(record->end_ns - record->window_end_ns) * 1e-9, "saturated_s",
                  m->saturated_s < 0 ? json_null() : qr_json_number(m->saturated_s), "overloaded", record->overloaded);
    json_object_set_new(to, "requests", requests(m, r->is_remote));
    json_object_set_new(to, "throughput", throughput(m));
    json_object_set_new(to, "latency", latency(m));
    json_object_set_new(to, "slo", slo(r, index));
    json_object_set_new(to, "steps", r->is_remote ? json_null() : steps(m));
    json_object_set_new(to, "speed_of_light", qr_roofline_json(r, index));
    json_object_set_new(to, "attribution",
                        r->is_virtual || r->is_remote ? json_null() : qr_attribution_json(record, m));
    json_object_set_new(to, "noise", r->is_virtual ? json_null() : noise(record));
    json_object_set_new(to, "fairness", fairness(record, m));
    json_object_set_new(to, "threads", threads(record));
    json_object_set_new(to, "series", series(record));
    return to;
}

/* ---- over the repetitions ---- */

/* Over the repetitions: mean, stdev, and Student's interval; null without values. */
static json_t *aggregate_of(double *values, uint32_t count, const char *unit)
{
    if (count == 0) return json_null();
    const qr_interval mean = qr_interval_of_mean(values, count);
    qr_summary        s;
    qr_summary_of(values, count, NULL, 0, &s);
    return json_pack("{s:o, s:o, s:o, s:[o, o], s:s}", "mean", qr_json_number(s.mean), "stdev", qr_json_number(s.stdev),
                     "n", qr_json_whole(s.n), "ci95", qr_json_number(mean.low), qr_json_number(mean.high), "unit",
                     unit);
}

/* Of a double in the metrics of each run; null where one has none. */
static json_t *over_runs(const qr_result *r, size_t offset, const char *unit)
{
    double values[QR_MAX_REPETITIONS];
    for (uint32_t i = 0; i < r->run_count; i++) {
        values[i] = *(const double *)at(&r->runs[i], offset);
        if (!isfinite(values[i])) return json_null();
    }
    return aggregate_of(values, r->run_count, unit);
}

static json_t *fraction_of_roofline(const qr_result *r)
{
    double   fraction[QR_MAX_REPETITIONS];
    uint32_t known = 0;
    for (uint32_t i = 0; i < r->run_count; i++) {
        qr_roofline_fraction f;
        if (qr_roofline_fraction_of(r, i, &f) && isfinite(f.fraction)) fraction[known++] = f.fraction;
    }
    return aggregate_of(fraction, known, "of the roofline");
}

json_t *qr_aggregate_json(const qr_result *r)
{
    json_t *throughput_of = json_object(), *latency_of = json_object();
    for (size_t i = 0; i < THROUGHPUTS; i++)
        if (throughputs[i].is_averaged)
            json_object_set_new(throughput_of, throughputs[i].name,
                                over_runs(r, throughputs[i].offset, throughputs[i].unit));
    for (size_t i = 0; i < LATENCIES; i++)
        if (latencies[i].is_averaged)
            json_object_set_new(latency_of, latencies[i].name,
                                over_runs(r, latencies[i].offset + offsetof(qr_summary, mean), "ms"));
    return json_pack("{s:o, s:o, s:{s:o}}", "throughput", throughput_of, "latency", latency_of, "speed_of_light",
                     "fraction", fraction_of_roofline(r));
}
