/* Floors of steps, and their sums by phase and by rows. */
#include "bench/result/speed_of_light.h"

#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

enum { CACHES = 8 };

static int compare_doubles(const void *left, const void *right)
{
    const double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

double qr_limits_median(const qr_result *result, size_t offset, double *values_out)
{
    double values[QR_MAX_LIMITS];
    for (uint32_t i = 0; i < result->limit_count; i++)
        memcpy(&values[i], (const char *)&result->limits[i] + offset, sizeof *values);
    if (values_out != NULL) memcpy(values_out, values, result->limit_count * sizeof *values);
    if (result->limit_count == 0) return NAN;
    qsort(values, result->limit_count, sizeof *values, compare_doubles);
    return qr_quantile(values, result->limit_count, 0.5);
}

static double peak_of(const qr_result *result, const char *dtype)
{
    if (strcmp(dtype, "int8") == 0) return qr_limits_median(result, offsetof(quire_limits, int8_gops), NULL);
    if (strcmp(dtype, "f32") == 0) return qr_limits_median(result, offsetof(quire_limits, f32_gflops), NULL);
    return qr_limits_median(result, offsetof(quire_limits, bf16_gflops), NULL); /* what "auto" means for KV as well */
}

bool qr_light_of(const qr_result *result, qr_light *light_out)
{
    const char *kv = quire_config_string(result->config, "kv_cache.dtype");
    if (result->limit_count == 0) return false;
    *light_out = (qr_light){.read_gbs       = qr_limits_median(result, offsetof(quire_limits, read_gbs), NULL),
                            .weight_gflops  = peak_of(result, quire_dtype_name(result->model.weight_dtype)),
                            .kv_gflops      = peak_of(result, kv ? kv : "bf16"),
                            .resident_bytes = CACHES * result->limits[0].cache_bytes};
    return true;
}

static double floor_of(const qr_light *light, double bytes, double weight_flops, double kv_flops)
{
    const double read = bytes / light->read_gbs;
    return fmax(read, weight_flops / light->weight_gflops + kv_flops / light->kv_gflops) * 1e-9;
}

double qr_light_floor(const qr_light *light, const quire_step *step)
{
    return floor_of(light, (double)(step->weight_bytes + step->kv_bytes),
                    (double)(step->projection_flops + step->logits_flops), (double)step->attention_flops);
}

double qr_light_step_seconds(const quire_step *step)
{
    return (double)(step->plan_ns + step->forward_ns + step->sample_ns + step->commit_ns) * 1e-9;
}

bool qr_light_is_resident(const qr_light *light, const quire_step *step)
{
    return step->weight_bytes + step->kv_bytes < light->resident_bytes;
}

/* ---- sums ------------------------------------------------------------------------------------------------------- */

static void add_phases(const qr_light *light, const quire_step *step, qr_speed_of_light *speed)
{
    const struct {
        double bytes, weight_flops, kv_flops;
        double ns;
    } parts[QR_LIGHT_PHASES] = {
        {(double)(step->projection_bytes - step->encoder_weight_bytes),
         (double)(step->projection_flops - step->encoder_projection_flops), 0, (double)step->projection_ns},
        {(double)(step->kv_bytes - step->encoder_kv_bytes), 0,
         (double)(step->attention_flops - step->encoder_attention_flops), (double)step->attention_ns},
        {(double)step->logits_bytes, (double)step->logits_flops, 0, (double)step->logits_ns},
        {(double)(step->encoder_weight_bytes + step->encoder_kv_bytes), (double)step->encoder_projection_flops,
         (double)step->encoder_attention_flops, (double)step->encoder_ns}};
    for (int i = 0; i < QR_LIGHT_PHASES; i++) {
        speed->phases[i].bytes += parts[i].bytes;
        speed->phases[i].flops += parts[i].weight_flops + parts[i].kv_flops;
        speed->phases[i].floor_s += floor_of(light, parts[i].bytes, parts[i].weight_flops, parts[i].kv_flops);
        speed->phases[i].measured_s += parts[i].ns * 1e-9;
    }
}

static void add_class(const quire_step *step, double floor_s, double step_s, qr_speed_of_light *speed)
{
    const uint32_t rows = step->rows + step->rows_encoder;
    int class           = 0;
    while (class + 1 < QR_LIGHT_CLASSES && rows > speed->by_rows[class].last) class ++;
    speed->by_rows[class].steps++;
    speed->by_rows[class].floor_s += floor_s;
    speed->by_rows[class].step_s += step_s;
}

static void add_step(const qr_light *light, const quire_step *step, qr_speed_of_light *speed)
{
    const double floor_s = qr_light_floor(light, step), step_s = qr_light_step_seconds(step);
    if (qr_light_is_resident(light, step)) {
        speed->resident_steps++;
        return;
    }
    speed->steps++;
    speed->floor_s += floor_s;
    speed->step_s += step_s;
    add_phases(light, step, speed);
    add_class(step, floor_s, step_s, speed);
}

static double ratio(double part, double whole) { return whole > 0 ? part / whole : NAN; }

static void divide(qr_speed_of_light *speed)
{
    speed->fraction = ratio(speed->floor_s, speed->step_s);
    speed->rest_s   = speed->step_s;
    for (int i = 0; i < QR_LIGHT_PHASES; i++) {
        speed->phases[i].fraction = ratio(speed->phases[i].floor_s, speed->phases[i].measured_s);
        speed->rest_s -= speed->phases[i].measured_s;
        speed->phases[i].gbs    = ratio(speed->phases[i].bytes, speed->phases[i].measured_s) * 1e-9;
        speed->phases[i].gflops = ratio(speed->phases[i].flops, speed->phases[i].measured_s) * 1e-9;
    }
    for (int i = 0; i < QR_LIGHT_CLASSES; i++)
        speed->by_rows[i].fraction = ratio(speed->by_rows[i].floor_s, speed->by_rows[i].step_s);
}

bool qr_speed_of_light_of(const qr_result *result, uint32_t run, qr_speed_of_light *speed_out)
{
    const qr_run *record = &result->records[run];
    qr_light      light;
    *speed_out = (qr_speed_of_light){
        .phases  = {{.name = "projections"}, {.name = "attention"}, {.name = "logits"}, {.name = "encoder"}},
        .by_rows = {{.first = 1, .last = 4}, {.first = 5, .last = 16}, {.first = 17, .last = 64}, {.first = 65}}};
    if (!qr_light_of(result, &light)) return false;
    for (size_t i = 0; i < record->step_count; i++) {
        const int64_t start = (int64_t)record->steps[i].start_ns;
        if (start >= record->window_start_ns && start <= record->window_end_ns)
            add_step(&light, &record->steps[i], speed_out);
    }
    divide(speed_out);
    return true;
}
