/* A result as JSON, `quire.result/1`. Null means not measurable; there is never a NaN. */
#include "bench/result/result_json.h"
#include "bench/result/fairness.h"
#include "bench/result/machine.h"
#include "bench/result/series.h"
#include "bench/result/speed_of_light.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

static json_t *number(double value) { return isfinite(value) ? json_real(value) : json_null(); }

static json_t *whole(uint64_t value) { return json_integer((json_int_t)value); }

static json_t *rate(const qr_rate *r, const char *unit)
{
    return json_pack("{s:o, s:s, s:[o, o]}", "value", number(r->value), "unit", unit, "ci95", number(r->low),
                     number(r->high));
}

static json_t *value(double x, const char *unit) { return json_pack("{s:o, s:s}", "value", number(x), "unit", unit); }

static json_t *summary(const qr_summary *s, const qr_metrics *m, const char *unit)
{
    json_t *p = json_object(), *ci = json_object();
    for (size_t i = 0; i < m->percentile_count; i++) {
        char name[24];
        snprintf(name, sizeof name, "%g", m->percentiles[i]);
        json_object_set_new(p, name, number(s->p[i]));
        if (isfinite(s->p[i]))
            json_object_set_new(ci, name, json_pack("[o, o]", number(s->low[i]), number(s->high[i])));
    }
    return json_pack("{s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "unit", unit, "n", whole(s->n), "mean",
                     number(s->mean), "stdev", number(s->stdev), "min", number(s->min), "max", number(s->max), "p", p,
                     "ci95", ci);
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

static json_t *with_curve(const qr_summary *s, const qr_metrics *m, const char *unit)
{
    json_t *to = summary(s, m, unit);
    json_object_set_new(to, "curve", curve(s));
    return to;
}

static json_t *time_text(time_t t)
{
    char      text[32];
    struct tm utc;
    gmtime_r(&t, &utc);
    strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &utc);
    return json_string(text);
}

/* "quire 0.1.0, gcc 12.2.0, oneDNN 2.6.3, hwloc 2.9.0, ..." in its parts; the n-th, behind its first word. */
static json_t *build_part(int n, bool with_name)
{
    const char *at = quire_build_info();
    for (; n > 0 && at != NULL; n--) at = strstr(at, ", ") ? strstr(at, ", ") + 2 : NULL;
    if (at == NULL) return json_null();
    if (!with_name) at += strcspn(at, " ") + 1;
    return json_stringn(at, strcspn(at, ","));
}

static json_t *label(const qr_result *r)
{
    json_t *to = json_object();
    for (size_t i = 0; i < quire_config_count(r->config, "output.label"); i++) {
        char name[64], text[64];
        snprintf(name, sizeof name, "output.label[%zu].name", i);
        snprintf(text, sizeof text, "output.label[%zu].value", i);
        const char *value_text = quire_config_string(r->config, text);
        if (value_text != NULL) json_object_set_new(to, quire_config_string(r->config, name), json_string(value_text));
    }
    return to;
}

/* At the end of the last window, when the engine still stood. */
static json_t *huge_bytes(const qr_result *r)
{
    if (r->is_virtual || r->run_count == 0) return json_null();
    return json_integer((json_int_t)r->records[r->run_count - 1].placement.huge_bytes);
}

static json_t *context(const qr_result *r)
{
    char        host[256] = "";
    json_t     *command = json_array(), *to = qr_machine_json("");
    const char *cap = quire_config_string(r->config, "kernels.isa");
    gethostname(host, sizeof host - 1);
    for (int i = 0; i < r->argc; i++) json_array_append_new(command, json_string(r->argv[i]));
    json_object_set_new(to, "started", time_text(r->started));
    json_object_set_new(to, "finished", time_text(r->finished));
    json_object_set_new(to, "host", json_string(host));
    json_object_set_new(to, "command", command);
    json_object_set_new(to, "label", label(r));
    json_object_set_new(to, "quire",
                        json_pack("{s:o, s:s, s:s, s:o, s:b, s:b}", "version", build_part(0, false), "git",
                                  r->git ? r->git : "unknown", "build", quire_build_info(), "compiler",
                                  build_part(1, true), "optimised", qr_build_is_release(), "assertions", 1));
    json_object_set_new(to, "libs",
                        json_pack("{s:o, s:o, s:s, s:s}", "onednn", build_part(2, false), "hwloc", build_part(3, false),
                                  "onednn_impl", r->engine.implementation, "openmp", "libgomp"));
    json_object_set_new(json_object_get(to, "memory"), "huge_bytes", huge_bytes(r));
    json_t *cpu = json_object_get(to, "cpu");
    json_object_set_new(cpu, "isa", json_string(r->engine.isa));
    json_object_set_new(cpu, "isa_cap", cap != NULL && strcmp(cap, "auto") != 0 ? json_string(cap) : json_null());
    if (r->loadavg[0] < 0) return to;
    json_object_del(to, "loadavg"); /* that of now holds the run's own threads */
    json_object_set_new(to, "loadavg", json_pack("[f, f, f]", r->loadavg[0], r->loadavg[1], r->loadavg[2]));
    return to;
}

static json_t *model(const qr_result *r)
{
    const quire_model_info *m = &r->model;
    return json_pack("{s:s, s:s, s:s, s:I, s:s, s:s, s:I, s:I, s:I}", "name", m->name, "source", r->source,
                     "architecture", m->architecture, "parameters", (json_int_t)m->parameters, "weight_dtype",
                     quire_dtype_name(m->weight_dtype), "kv_dtype", quire_config_string(r->config, "kv_cache.dtype"),
                     "weight_bytes", (json_int_t)r->engine.weight_bytes, "kv_bytes_per_token",
                     (json_int_t)r->engine.kv_bytes_per_token, "max_model_len", (json_int_t)r->engine.max_model_len);
}

static json_t *placement(const qr_thread_placement *p)
{
    return json_pack("{s:b, s:o, s:I}", "pinned", p->pinned, "memory_local", number(p->memory_local), "migrations",
                     (json_int_t)p->migrations);
}

static json_t *engine(const qr_result *r)
{
    const quire_stats *e = &r->engine;
    json_t            *to =
        json_pack("{s:I, s:I, s:I, s:I, s:b, s:s, s:I, s:I}", "threads", (json_int_t)e->threads, "nodes",
                  (json_int_t)e->nodes, "block_size", (json_int_t)e->block_size, "num_blocks", (json_int_t)e->blocks,
                  "batch_invariant", e->batch_invariant, "implementation", e->implementation, "kv_cache_bytes",
                  (json_int_t)e->kv_cache_bytes, "scratch_bytes", (json_int_t)e->scratch_bytes);
    if (r->run_count == 0 || r->is_virtual) return to;
    const qr_thread_placement *p    = &r->records[r->run_count - 1].placement;
    json_t                    *cpus = json_array();
    for (uint32_t i = 0; i < p->threads && i < sizeof p->cpus / sizeof *p->cpus; i++)
        json_array_append_new(cpus, json_integer(p->cpus[i]));
    json_object_set_new(to, "cpus", cpus);
    json_object_set_new(to, "placement", placement(p));
    json_object_set_new(to, "small_m", json_string(quire_config_string(r->config, "kernels.small_m")));
    json_object_set_new(to, "prefetch", json_string(quire_config_string(r->config, "kernels.prefetch")));
    return to;
}

static void configuration(const qr_result *r, json_t *values, json_t *origins)
{
    const quire_config_key *key;
    for (size_t i = 0; (key = quire_config_key_at(r->config, i)) != NULL; i++) {
        const char *text   = quire_config_string(r->config, key->name);
        const char *origin = quire_config_origin(r->config, key->name);
        double      x      = quire_config_number(r->config, key->name);
        if (text != NULL)
            json_object_set_new(values, key->name, json_string(text));
        else if (strcmp(key->type, "boolean") == 0)
            json_object_set_new(values, key->name, json_boolean(quire_config_boolean(r->config, key->name)));
        else if (isfinite(x) && strcmp(key->type, "integer") == 0)
            json_object_set_new(values, key->name,
                                json_integer((json_int_t)quire_config_integer(r->config, key->name)));
        else if (isfinite(x))
            json_object_set_new(values, key->name, json_real(x));
        if (strcmp(origin, "built-in") != 0) json_object_set_new(origins, key->name, json_string(origin));
    }
}

static json_t *validity(const qr_result *r)
{
    json_t *checks = json_array();
    for (uint32_t i = 0; i < r->check_count; i++) {
        const qr_check *c = &r->checks[i];
        json_array_append_new(checks, json_pack("{s:s, s:b, s:s, s:o, s:s, s:s, s:s}", "id", c->id, "ok", c->ok,
                                                "severity", c->invalid ? "invalid" : "warn", "value", number(c->value),
                                                "unit", c->unit, "need", c->need, "hint", c->ok ? "" : c->hint));
    }
    return json_pack("{s:s, s:o}", "result", qr_result_is_valid(r) ? "VALID" : "INVALID", "checks", checks);
}

static json_t *requests(const qr_metrics *m)
{
    const struct {
        const char *name;
        uint32_t    count;
    } counts[] = {{"due", m->requests.due},
                  {"completed", m->requests.completed},
                  {"failed", m->requests.failed},
                  {"refused", m->requests.refused},
                  {"cancelled", m->requests.cancelled},
                  {"cut", m->requests.cut},
                  {"preempted", m->requests.preempted},
                  {"skipped", m->requests.skipped},
                  {"shortened", m->requests.shortened},
                  {"verified", m->requests.verified}};
    json_t *to = json_object();
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        json_object_set_new(to, counts[i].name, whole(counts[i].count));
    return to;
}

static json_t *throughput(const qr_metrics *m)
{
    json_t *to = json_object();
    json_object_set_new(to, "requests", rate(&m->throughput.requests, "req/s"));
    json_object_set_new(to, "output_tokens", rate(&m->throughput.output, "tok/s"));
    json_object_set_new(to, "input_tokens", rate(&m->throughput.input, "tok/s"));
    json_object_set_new(to, "cached_tokens", value(m->throughput.cached, "tok/s"));
    json_object_set_new(to, "total_tokens", value(m->throughput.output.value + m->throughput.input.value, "tok/s"));
    json_object_set_new(to, "goodput", value(m->throughput.goodput, "req/s"));
    json_object_set_new(to, "token_goodput", value(m->throughput.token_goodput, "tok/s"));
    json_object_set_new(to, "peak_output_tokens", value(m->throughput.peak_output, "tok/s"));
    json_object_set_new(to, "output_tokens_per_user", value(m->throughput.per_user, "tok/s"));
    json_object_set_new(to, "saturated_output_tokens", value(m->throughput.saturated_output, "tok/s"));
    return to;
}

static json_t *latency(const qr_metrics *m)
{
    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "ttft", with_curve(&m->ttft, m, "ms"), "ttft_service",
                     with_curve(&m->ttft_service, m, "ms"), "queue", with_curve(&m->queue, m, "ms"), "itl",
                     with_curve(&m->itl, m, "ms"), "tpot", with_curve(&m->tpot, m, "ms"), "ntpot",
                     with_curve(&m->ntpot, m, "ms"), "e2el", with_curve(&m->e2el, m, "ms"));
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
                     limit(m->slo.itl_p99_ms), "attainment", number(m->attainment), "each", "ttft",
                     number(m->attainment_ttft), "tpot", number(m->attainment_tpot), "e2el", number(m->attainment_e2el),
                     "itl_p99", number(m->attainment_itl), "by_class", by_class(r, index));
}

static json_t *steps(const qr_metrics *m)
{
    json_t *wait = json_object();
    for (int i = 0; i < QUIRE_WAIT_REASONS; i++)
        json_object_set_new(wait, quire_wait_reason_name((quire_wait_reason)i), number(m->steps.wait_s[i]));
    json_t *to =
        json_pack("{s:I, s:f, s:f, s:f, s:f, s:f, s:f, s:f}", "count", (json_int_t)m->steps.count, "busy_share",
                  m->steps.busy_share, "kv_usage_mean", m->steps.kv_usage_mean, "kv_usage_max", m->steps.kv_usage_max,
                  "batch_fill", m->steps.batch_fill, "prefix_hit_share", m->steps.prefix_hit_share,
                  "contiguous_run_bytes", m->steps.contiguous_run_bytes, "imbalance", m->steps.imbalance);
    json_object_set_new(to, "rows", summary(&m->steps.rows, m, "rows"));
    json_object_set_new(to, "sequences", summary(&m->steps.sequences, m, "sequences"));
    json_object_set_new(to, "time", summary(&m->steps.time_ms, m, "ms"));
    json_object_set_new(to, "preemptions", whole(m->steps.preemptions));
    json_object_set_new(to, "recomputed_tokens", whole(m->steps.recomputed_tokens));
    json_object_set_new(to, "encoder_runs", whole(m->steps.encoder_runs));
    json_object_set_new(to, "encoder_runs_saved", whole(m->steps.encoder_runs_saved));
    json_object_set_new(to, "draft_tokens", whole(m->steps.drafts));
    json_object_set_new(to, "draft_accepted", whole(m->steps.drafts_accepted));
    json_object_set_new(to, "time_s",
                        json_pack("{s:f, s:f, s:f, s:f}", "encoder", m->steps.encoder_s, "prefill", m->steps.prefill_s,
                                  "decode", m->steps.decode_s, "idle", m->steps.idle_s));
    json_object_set_new(to, "stage_s",
                        json_pack("{s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f}", "projections", m->steps.projection_s,
                                  "attention", m->steps.attention_s, "logits", m->steps.logits_s, "rowwise",
                                  m->steps.rowwise_s, "encoder", m->steps.encoder_stage_s, "sampling",
                                  m->steps.sampling_s, "scheduler", m->steps.scheduler_s, "barrier", m->steps.barrier_s,
                                  "other", m->steps.other_s));
    json_object_set_new(to, "moved",
                        json_pack("{s:f, s:f, s:f}", "weight_bytes", m->steps.weight_bytes, "kv_bytes",
                                  m->steps.kv_bytes, "flops", m->steps.flops));
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
    json_t *to = json_pack("{s:o, s:o}", "jain", number(shares.jain), "by_tenant", by_tenant);
    qr_fairness_deinit(&shares);
    return to;
}

static json_t *noise(const qr_run *run)
{
    const qr_noise n = qr_noise_between(&run->noise_first, &run->noise_last);
    return json_pack("{s:f, s:f, s:I, s:I, s:I, s:I, s:f}", "steal_share", n.steal_share, "other_share", n.other_share,
                     "involuntary_switches", (json_int_t)n.involuntary_switches, "page_faults",
                     (json_int_t)n.page_faults, "major_faults", (json_int_t)n.major_faults, "throttled_periods",
                     (json_int_t)n.throttled_periods, "contaminated_s", qr_contaminated_s(run));
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
    static const char *const names[] = {"projections_s", "attention_s", "logits_s", "rowwise_s", "sampling_s"};
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

static json_t *run(const qr_result *r, uint32_t index)
{
    const qr_metrics *m      = &r->runs[index];
    const qr_run     *record = &r->records[index];
    const bool        vary   = quire_config_boolean(r->config, "run.vary_seed");
    json_t           *to =
        json_pack("{s:I, s:I, s:{s:f, s:f, s:f, s:o, s:b}}", "repetition", (json_int_t)index, "seed",
                  (json_int_t)(r->seed + (vary ? index : 0)), "window", "length_s", m->length_s, "warmup_s",
                  m->warmup_s, "grace_s", (double)(record->end_ns - record->window_end_ns) * 1e-9, "saturated_s",
                  m->saturated_s < 0 ? json_null() : number(m->saturated_s), "oversaturated", record->oversaturated);
    json_object_set_new(to, "requests", requests(m));
    json_object_set_new(to, "throughput", throughput(m));
    json_object_set_new(to, "latency", latency(m));
    json_object_set_new(to, "slo", slo(r, index));
    json_object_set_new(to, "steps", steps(m));
    json_object_set_new(to, "speed_of_light", qr_speed_of_light_json(r, index));
    json_object_set_new(to, "attribution", r->is_virtual ? json_null() : qr_attribution_json(record, m));
    json_object_set_new(to, "noise", r->is_virtual ? json_null() : noise(record));
    json_object_set_new(to, "fairness", fairness(record, m));
    json_object_set_new(to, "threads", threads(record));
    json_object_set_new(to, "series", series(record));
    return to;
}

/* Over the repetitions: mean, stdev, and Student's interval; null without values. */
static json_t *aggregate_of(double *values, uint32_t count, const char *unit)
{
    if (count == 0) return json_null();
    const qr_interval mean = qr_interval_of_mean(values, count);
    qr_summary        s;
    qr_summary_of(values, count, NULL, 0, &s);
    return json_pack("{s:o, s:o, s:o, s:[o, o], s:s}", "mean", number(s.mean), "stdev", number(s.stdev), "n",
                     whole(s.n), "ci95", number(mean.low), number(mean.high), "unit", unit);
}

/* `at` gives the value of one run; null where one has none. */
static json_t *over_runs(const qr_result *r, double (*at)(const qr_metrics *m), const char *unit)
{
    double values[QR_MAX_REPETITIONS];
    for (uint32_t i = 0; i < r->run_count; i++) {
        values[i] = at(&r->runs[i]);
        if (!isfinite(values[i])) return json_null();
    }
    return aggregate_of(values, r->run_count, unit);
}

static json_t *fraction_of_limit(const qr_result *r)
{
    double   fraction[QR_MAX_REPETITIONS];
    uint32_t known = 0;
    for (uint32_t i = 0; i < r->run_count; i++) {
        qr_speed_of_light speed;
        if (qr_speed_of_light_of(r, i, &speed) && isfinite(speed.fraction)) fraction[known++] = speed.fraction;
    }
    return aggregate_of(fraction, known, "of the roofline");
}

static double requests_of(const qr_metrics *m) { return m->throughput.requests.value; }
static double output_of(const qr_metrics *m) { return m->throughput.output.value; }
static double input_of(const qr_metrics *m) { return m->throughput.input.value; }
static double goodput_of(const qr_metrics *m) { return m->throughput.goodput; }
static double ttft_of(const qr_metrics *m) { return m->ttft.mean; }
static double itl_of(const qr_metrics *m) { return m->itl.mean; }
static double tpot_of(const qr_metrics *m) { return m->tpot.mean; }
static double e2el_of(const qr_metrics *m) { return m->e2el.mean; }

static json_t *aggregate(const qr_result *r)
{
    return json_pack("{s:{s:o, s:o, s:o, s:o}, s:{s:o, s:o, s:o, s:o}, s:{s:o}}", "throughput", "requests",
                     over_runs(r, requests_of, "req/s"), "output_tokens", over_runs(r, output_of, "tok/s"),
                     "input_tokens", over_runs(r, input_of, "tok/s"), "goodput", over_runs(r, goodput_of, "req/s"),
                     "latency", "ttft", over_runs(r, ttft_of, "ms"), "itl", over_runs(r, itl_of, "ms"), "tpot",
                     over_runs(r, tpot_of, "ms"), "e2el", over_runs(r, e2el_of, "ms"), "speed_of_light", "fraction",
                     fraction_of_limit(r));
}

/* The files that `quire report` reads besides this one. */
static json_t *logs(const qr_result *r)
{
    json_t *to = json_object();
    if (r->requests_log != NULL) json_object_set_new(to, "requests", json_string(r->requests_log));
    if (r->steps_log != NULL) json_object_set_new(to, "steps", json_string(r->steps_log));
    return to;
}

bool qr_config_hash(const quire_config *config, char hash_out[32])
{
    char      *engine = quire_config_print(config, QUIRE_PRINT_BARE, "quire");
    char      *run    = quire_config_print(config, QUIRE_PRINT_BARE, QR_RUN_KEYS);
    const bool ok     = engine != NULL && run != NULL;
    if (ok) {
        const XXH64_hash_t seed = XXH3_64bits(engine, strlen(engine));
        const XXH64_hash_t hash = XXH3_64bits_withSeed(run, strlen(run), seed);
        snprintf(hash_out, 32, "xxh3:%016llx", (unsigned long long)hash);
    }
    quire_free(engine);
    quire_free(run);
    return ok;
}

static json_t *cost_error(const qr_cost_error *e)
{
    return json_pack("{s:f, s:f, s:f}", "median", e->median, "p90", e->p90, "total", e->total);
}

/* Virtual clock: relative errors of the cost model per step, and of the sum of all steps. */
static json_t *cost_model(const qr_result *r)
{
    double wall = 0;
    if (!r->is_virtual) return json_null();
    for (uint32_t i = 0; i < r->run_count; i++) wall += r->records[i].wall_s;
    return json_pack("{s:s, s:s, s:I, s:o, s:o, s:I, s:I, s:f}", "noise", r->cost.resampled ? "resample" : "none",
                     "fitted_to", r->cost.path, "fitted_steps", (json_int_t)r->cost.model.steps, "error",
                     cost_error(&r->cost.model.fitted), "held_out_error", cost_error(&r->cost.model.held_out), "steps",
                     (json_int_t)r->cost.steps, "extrapolated_steps", (json_int_t)r->cost.extrapolated, "wall_s", wall);
}

static const char *load_model(const char *profile)
{
    if (strcmp(profile, "throughput") == 0) return "offline";
    return strcmp(profile, "synchronous") == 0 || strcmp(profile, "concurrent") == 0 ? "closed" : "open";
}

/* Requests of a file say it each for themselves. */
static json_t *ignores_eos(const quire_config *config)
{
    const char *source = quire_config_string(config, "workload.source");
    if (source != NULL && strcmp(source, "file") == 0) return json_null();
    return json_boolean(quire_config_boolean(config, "workload.ignore_eos"));
}

json_t *qr_result_json(const qr_result *r)
{
    char    hash[32];
    json_t *values = json_object(), *origins = json_object(), *runs = json_array(), *to = json_object();
    configuration(r, values, origins);
    for (uint32_t i = 0; i < r->run_count; i++) json_array_append_new(runs, run(r, i));
    json_object_set_new(to, "schema", json_string("quire.result/1"));
    json_object_set_new(to, "partial", json_boolean(r->partial));
    json_object_set_new(to, "context", context(r));
    json_object_set_new(to, "model", model(r));
    json_object_set_new(to, "engine", engine(r));
    json_object_set_new(to, "config", values);
    json_object_set_new(to, "config_origin", origins);
    if (qr_config_hash(r->config, hash)) json_object_set_new(to, "config_hash", json_string(hash));
    json_object_set_new(to, "seed", whole(r->seed));
    json_object_set_new(to, "sweep", json_null());
    json_object_set_new(to, "disclosure",
                        json_pack("{s:s, s:s, s:s, s:s, s:s, s:b, s:o, s:s}", "boundary", "library", "load_model",
                                  load_model(r->profile), "profile", r->profile, "clock",
                                  r->is_virtual ? "virtual" : "real", "workload",
                                  quire_config_string(r->config, "workload.source"), "prefix_caching",
                                  quire_config_boolean(r->config, "kv_cache.enable_prefix_caching"), "ignore_eos",
                                  ignores_eos(r->config), "percentiles", "linear"));
    json_object_set_new(to, "cost_model", cost_model(r));
    json_object_set_new(to, "validity", validity(r));
    json_object_set_new(to, "limits", qr_limits_json(r));
    json_object_set_new(to, "runs", runs);
    json_object_set_new(to, "aggregate", aggregate(r));
    json_object_set_new(to, "logs", logs(r));
    return to;
}

/* Its inter-token latencies, in order: they lie between its first token and its end. */
static json_t *gaps_of(const qr_run *run, size_t index)
{
    const qr_run_request *q   = &run->requests[index];
    json_t               *to  = json_array();
    size_t                low = 0, high = run->gap_count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (run->gaps[middle].end_ns < q->first_ns)
            low = middle + 1;
        else
            high = middle;
    }
    for (; low < run->gap_count && (q->end_ns < 0 || run->gaps[low].end_ns <= q->end_ns); low++)
        if (run->gaps[low].request == index) json_array_append_new(to, json_real((double)run->gaps[low].gap_ns * 1e-3));
    return to;
}

/* [[from, to], ...] of the first preemptions. */
static json_t *preemption_intervals(const qr_run_request *q)
{
    json_t *to = json_array();
    for (size_t i = 0; i < QUIRE_KEPT_PREEMPTIONS && q->preemption_intervals[i].to_ns > 0; i++)
        json_array_append_new(to, json_pack("[I, I]", (json_int_t)q->preemption_intervals[i].from_ns,
                                            (json_int_t)q->preemption_intervals[i].to_ns));
    return to;
}

json_t *qr_request_json(const qr_result *r, uint32_t run_index, size_t index)
{
    const qr_run         *record = &r->records[run_index];
    const qr_run_request *q      = &record->requests[index];
    json_t               *wait   = json_object();
    for (int i = 0; i < QUIRE_WAIT_REASONS; i++)
        if (q->wait_ns[i])
            json_object_set_new(wait, quire_wait_reason_name((quire_wait_reason)i), whole(q->wait_ns[i]));
    json_t *to =
        json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "id", (json_int_t)index,
                  "run", (json_int_t)run_index, "class", (json_int_t)q->shape.mix, "priority",
                  (json_int_t)q->shape.priority, "num_prompt_tokens", (json_int_t)q->shape.prompt_tokens,
                  "num_encoder_tokens", (json_int_t)q->shape.encoder_tokens, "num_cached_tokens",
                  (json_int_t)q->cached_tokens, "num_output_tokens", (json_int_t)q->output_tokens, "a",
                  (json_int_t)q->due_ns, "q", (json_int_t)q->submit_ns, "s", (json_int_t)q->planned_ns, "p",
                  (json_int_t)q->prompt_done_ns, "f", (json_int_t)q->first_ns, "e", (json_int_t)q->end_ns);
    static const char *const reasons[] = {"unfinished", "stop", "length", "cancelled", "error", "timeout"};
    json_object_set_new(to, "num_preemptions", whole(q->preemptions));
    json_object_set_new(to, "finish_reason", json_string(reasons[q->finish]));
    if (q->preemption_intervals[0].to_ns > 0) json_object_set_new(to, "preempted_ns", preemption_intervals(q));
    if (q->status != QUIRE_OK) json_object_set_new(to, "status", json_string(quire_status_text(q->status)));
    json_object_set_new(to, "in_window",
                        json_boolean(q->end_ns >= record->window_start_ns && q->end_ns <= record->window_end_ns));
    json_object_set_new(to, "wait_ns", wait);
    json_object_set_new(to, "tenant", whole(q->shape.tenant));
    if (qr_slo_is_given(&r->runs[run_index].slo))
        json_object_set_new(to, "slo_ok", json_boolean(qr_slo_is_met(&r->runs[run_index].slo, q)));
    if (quire_config_boolean(r->config, "output.itl_samples"))
        json_object_set_new(to, "itl_us", gaps_of(record, index));
    return to;
}

json_t *qr_step_json(const quire_step *s, uint32_t run_index)
{
    const struct {
        const char *name;
        uint64_t    value;
    } counts[] = {{"step", s->step},
                  {"run", run_index},
                  {"t_ns", s->start_ns},
                  {"rows", s->rows},
                  {"rows_prefill", s->rows_prompt},
                  {"rows_encoder", s->rows_encoder},
                  {"rows_logits", s->rows_logits},
                  {"sequences", s->sequences},
                  {"running", s->running},
                  {"waiting", s->waiting},
                  {"blocks_used", s->blocks_used},
                  {"blocks_cached", s->blocks_cached},
                  {"preempted", s->preempted},
                  {"bytes", s->weight_bytes + s->kv_bytes},
                  {"kv_bytes", s->kv_bytes},
                  {"kv_tokens", s->kv_tokens},
                  {"kv_pairs", s->kv_pairs},
                  {"cross_tokens", s->cross_tokens},
                  {"cross_pairs", s->cross_pairs},
                  {"encoder_pairs", s->encoder_pairs},
                  {"flops", s->flops}};
    const struct {
        const char *name;
        uint64_t    ns;
    } times[]  = {{"plan_us", s->plan_ns},      {"forward_us", s->forward_ns},       {"sample_us", s->sample_ns},
                  {"commit_us", s->commit_ns},  {"projection_us", s->projection_ns}, {"attention_us", s->attention_ns},
                  {"logits_us", s->logits_ns},  {"encoder_us", s->encoder_ns},       {"rowwise_us", s->rowwise_ns},
                  {"barrier_us", s->barrier_ns}};
    json_t *to = json_object();
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        json_object_set_new(to, counts[i].name, whole(counts[i].value));
    for (size_t i = 0; i < sizeof times / sizeof *times; i++)
        json_object_set_new(to, times[i].name, json_real((double)times[i].ns * 1e-3));
    json_object_set_new(to, "imbalance", json_real((double)s->imbalance));
    return to;
}
