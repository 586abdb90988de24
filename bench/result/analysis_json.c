/* The machine's roofline, the fraction of it that was reached, and what latencies consist of: members of a result. */
#include <math.h>
#include <stddef.h>
#include <stdio.h>

#include "base/median.h"
#include "bench/common/json_text.h"
#include "bench/result/attribution.h"
#include "bench/result/result_json.h"
#include "bench/result/roofline.h"

static json_t *limit(const qr_result *result, size_t offset, const char *unit)
{
    double  values[QR_MAX_LIMITS], low = INFINITY, high = -INFINITY;
    json_t *samples = json_array();
    qr_limits_values(result, offset, values);
    for (uint32_t i = 0; i < result->limit_count; i++) {
        low  = fmin(low, values[i]);
        high = fmax(high, values[i]);
        json_array_append_new(samples, qr_json_number(values[i]));
    }
    return json_pack("{s:s, s:I, s:o, s:o, s:o, s:o}", "unit", unit, "n", (json_int_t)result->limit_count, "median",
                     qr_json_number(qr_median(values, result->limit_count)), "min", qr_json_number(low), "max",
                     qr_json_number(high), "samples", samples);
}

/* The longest measured run that one block of one layer fills. */
static size_t block_run(const qr_result *result)
{
    const uint64_t layers = result->model.layers ? result->model.layers : 1;
    const uint64_t bytes  = result->engine.kv_bytes_per_token * result->engine.block_size / layers;
    size_t         run    = 0;
    while (run + 1 < QUIRE_LIMIT_RUNS && (UINT64_C(4096) << (run + 1)) <= bytes) run++;
    return run;
}

json_t *qr_limits_json(const qr_result *result)
{
    json_t *to = json_object(), *runs = json_object();
    if (result->limit_count == 0) return json_decref(runs), to;
    json_object_set_new(to, "read_gbs", limit(result, offsetof(quire_limits, read_gbs), "GB/s"));
    json_object_set_new(to, "read_block_gbs",
                        limit(result, offsetof(quire_limits, run_gbs) + block_run(result) * sizeof(double), "GB/s"));
    json_object_set_new(to, "f32_gflops", limit(result, offsetof(quire_limits, f32_gflops), "GFLOP/s"));
    json_object_set_new(to, "bf16_gflops", limit(result, offsetof(quire_limits, bf16_gflops), "GFLOP/s"));
    json_object_set_new(to, "int8_gops", limit(result, offsetof(quire_limits, int8_gops), "GOP/s"));
    json_object_set_new(to, "barrier_ns", limit(result, offsetof(quire_limits, barrier_ns), "ns"));
    for (size_t i = 0; i < QUIRE_LIMIT_RUNS; i++) {
        char name[16];
        snprintf(name, sizeof name, "%d", 4096 << i);
        json_object_set_new(runs, name, limit(result, offsetof(quire_limits, run_gbs) + i * sizeof(double), "GB/s"));
    }
    json_object_set_new(to, "read_run_gbs", runs);
    json_t *sets = json_object();
    for (size_t i = 0; i < QUIRE_LIMIT_SETS; i++) {
        char name[16];
        snprintf(name, sizeof name, "%d", 1 << (20 + i));
        if (result->limits[0].set_gbs[i] > 0)
            json_object_set_new(sets, name,
                                limit(result, offsetof(quire_limits, set_gbs) + i * sizeof(double), "GB/s"));
    }
    json_object_set_new(to, "read_set_gbs", sets);
    json_object_set_new(to, "read_bytes", json_integer((json_int_t)result->limits[0].read_bytes));
    json_object_set_new(to, "cache_bytes", json_integer((json_int_t)result->limits[0].cache_bytes));
    return to;
}

static json_t *phases(const qr_roofline_fraction *f)
{
    json_t *to = json_object();
    for (int i = 0; i < QR_ROOFLINE_PHASES; i++)
        json_object_set_new(to, f->phases[i].name,
                            json_pack("{s:f, s:f, s:f, s:f, s:o, s:o, s:o}", "bytes", f->phases[i].bytes, "flops",
                                      f->phases[i].flops, "floor_s", f->phases[i].floor_s, "measured_s",
                                      f->phases[i].measured_s, "fraction", qr_json_number(f->phases[i].fraction), "gbs",
                                      qr_json_number(f->phases[i].gbs), "gflops", qr_json_number(f->phases[i].gflops)));
    return to;
}

static json_t *by_rows(const qr_roofline_fraction *f)
{
    json_t *to = json_array();
    for (int i = 0; i < QR_ROOFLINE_CLASSES; i++) {
        json_t *rows = json_pack("[i]", (int)f->by_rows[i].first);
        json_array_append_new(rows, f->by_rows[i].last ? json_integer(f->by_rows[i].last) : json_null());
        json_array_append_new(to, json_pack("{s:o, s:I, s:f, s:f, s:o}", "rows", rows, "steps",
                                            (json_int_t)f->by_rows[i].steps, "floor_s", f->by_rows[i].floor_s, "step_s",
                                            f->by_rows[i].step_s, "fraction", qr_json_number(f->by_rows[i].fraction)));
    }
    return to;
}

json_t *qr_roofline_json(const qr_result *result, uint32_t run)
{
    qr_roofline_fraction f;
    if (!qr_roofline_fraction_of(result, run, &f)) return json_null();
    return json_pack("{s:o, s:f, s:f, s:f, s:o, s:o, s:I, s:I, s:o, s:o}", "fraction", qr_json_number(f.fraction),
                     "floor_s", f.floor_s, "step_s", f.step_s, "rest_s", f.rest_s, "read_gbs",
                     qr_json_number(f.read_gbs), "step_bytes", qr_json_number(f.step_bytes), "steps",
                     (json_int_t)f.steps, "cached_steps", (json_int_t)f.cached_steps, "phases", phases(&f), "by_rows",
                     by_rows(&f));
}

static void add_floor(json_t *to, const qr_roofline *roof, const quire_step *step, bool agree)
{
    const double floor_s = qr_roofline_floor(roof, step), step_s = qr_roofline_step_seconds(step);
    const double fraction = step_s > 0 && agree ? floor_s / step_s : NAN;
    json_object_set_new(to, "floor_us", qr_json_number(floor_s * 1e6));
    json_object_set_new(to, "fraction", qr_json_number(fraction));
    json_object_set_new(to, "fits_caches", json_boolean(qr_roofline_fits_caches(roof, step)));
}

json_t *qr_result_step_json(const qr_result *result, uint32_t run, size_t index)
{
    const quire_step *step = &result->records[run].steps[index];
    json_t           *to   = qr_step_json(step, run);
    qr_roofline       roof;
    if (to != NULL && qr_roofline_of(result, &roof))
        add_floor(to, &roof, step, qr_limits_spread(result) <= QR_LIMITS_AGREE);
    return to;
}

/* ---- attribution ---- */

static json_t *band(const qr_band *b)
{
    json_t *to = json_object(), *reasons = json_object();
    for (int c = 0; c < QR_CAUSES; c++) json_object_set_new(to, qr_cause_name((qr_cause)c), json_real(b->ms[c]));
    for (int i = 0; i < QUIRE_WAIT_REASONS; i++)
        if (b->queue_ms[i] > 0)
            json_object_set_new(reasons, quire_wait_reason_name((quire_wait_reason)i), json_real(b->queue_ms[i]));
    json_object_set_new(to, "queue_by_reason", reasons);
    return to;
}

/* A member for each percentile that the summary has. */
static json_t *bands(const qr_run *run, const qr_metrics *m, qr_latency latency, const qr_summary *summary)
{
    json_t *to = json_object();
    for (size_t i = 0; i < m->percentile_count; i++) {
        char    name[24];
        qr_band b;
        if (!isfinite(summary->p[i]) || !qr_band_of(run, latency, m->percentiles[i], &b)) continue;
        snprintf(name, sizeof name, "%g", m->percentiles[i]);
        json_object_set_new(to, name, band(&b));
    }
    return to;
}

json_t *qr_attribution_json(const qr_run *run, const qr_metrics *m)
{
    return json_pack("{s:s, s:o, s:o}", "unit", "ms", "ttft", bands(run, m, QR_LATENCY_TTFT, &m->ttft), "itl",
                     bands(run, m, QR_LATENCY_ITL, &m->itl));
}
