/* The machine's roofline, the fraction of it that was reached, and what latencies consist of: members of a result. */
#include <math.h>
#include <stddef.h>
#include <stdio.h>

#include "bench/result/attribution.h"
#include "bench/result/result_json.h"
#include "bench/result/speed_of_light.h"

static json_t *number(double value) { return isfinite(value) ? json_real(value) : json_null(); }

static json_t *limit(const qr_result *result, size_t offset, const char *unit)
{
    double       values[QR_MAX_LIMITS], low = INFINITY, high = -INFINITY;
    const double median  = qr_limits_median(result, offset, values);
    json_t      *samples = json_array();
    for (uint32_t i = 0; i < result->limit_count; i++) {
        low  = fmin(low, values[i]);
        high = fmax(high, values[i]);
        json_array_append_new(samples, number(values[i]));
    }
    return json_pack("{s:s, s:I, s:o, s:o, s:o, s:o}", "unit", unit, "n", (json_int_t)result->limit_count, "median",
                     number(median), "min", number(low), "max", number(high), "samples", samples);
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
    json_object_set_new(to, "read_bytes", json_integer((json_int_t)result->limits[0].read_bytes));
    json_object_set_new(to, "cache_bytes", json_integer((json_int_t)result->limits[0].cache_bytes));
    return to;
}

static json_t *phases(const qr_speed_of_light *speed)
{
    json_t *to = json_object();
    for (int i = 0; i < QR_LIGHT_PHASES; i++)
        json_object_set_new(to, speed->phases[i].name,
                            json_pack("{s:f, s:f, s:f, s:f, s:o, s:o, s:o}", "bytes", speed->phases[i].bytes, "flops",
                                      speed->phases[i].flops, "floor_s", speed->phases[i].floor_s, "measured_s",
                                      speed->phases[i].measured_s, "fraction", number(speed->phases[i].fraction), "gbs",
                                      number(speed->phases[i].gbs), "gflops", number(speed->phases[i].gflops)));
    return to;
}

static json_t *by_rows(const qr_speed_of_light *speed)
{
    json_t *to = json_array();
    for (int i = 0; i < QR_LIGHT_CLASSES; i++) {
        json_t *rows = json_pack("[i]", (int)speed->by_rows[i].first);
        json_array_append_new(rows, speed->by_rows[i].last ? json_integer(speed->by_rows[i].last) : json_null());
        json_array_append_new(to, json_pack("{s:o, s:I, s:f, s:f, s:o}", "rows", rows, "steps",
                                            (json_int_t)speed->by_rows[i].steps, "floor_s", speed->by_rows[i].floor_s,
                                            "step_s", speed->by_rows[i].step_s, "fraction",
                                            number(speed->by_rows[i].fraction)));
    }
    return to;
}

json_t *qr_speed_of_light_json(const qr_result *result, uint32_t run)
{
    qr_speed_of_light speed;
    if (!qr_speed_of_light_of(result, run, &speed)) return json_null();
    return json_pack("{s:o, s:f, s:f, s:f, s:I, s:I, s:b, s:o, s:o}", "fraction", number(speed.fraction), "floor_s",
                     speed.floor_s, "step_s", speed.step_s, "rest_s", speed.rest_s, "steps", (json_int_t)speed.steps,
                     "cache_resident_steps", (json_int_t)speed.resident_steps, "cache_resident",
                     speed.resident_steps > speed.steps, "phases", phases(&speed), "by_rows", by_rows(&speed));
}

static void add_light(json_t *to, const qr_light *light, const quire_step *step)
{
    const double floor_s = qr_light_floor(light, step), step_s = qr_light_step_seconds(step);
    const bool   resident = qr_light_is_resident(light, step);
    json_object_set_new(to, "floor_us", number(floor_s * 1e6));
    json_object_set_new(to, "fraction", resident || step_s <= 0 ? json_null() : number(floor_s / step_s));
    json_object_set_new(to, "cache_resident", json_boolean(resident));
}

json_t *qr_result_step_json(const qr_result *result, uint32_t run, size_t index)
{
    const quire_step *step = &result->records[run].steps[index];
    json_t           *to   = qr_step_json(step, run);
    qr_light          light;
    if (to != NULL && qr_light_of(result, &light)) add_light(to, &light, step);
    return to;
}

/* ---- attribution ------------------------------------------------------------------------------------------------ */

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
