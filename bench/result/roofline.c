/* Floors of steps, and their sums by phase and by rows. */
#include "bench/result/roofline.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

static const double least_set = 1 << 20; /* set_gbs[0] */

void qr_limits_values(const qr_result *result, size_t offset, double values_out[QR_MAX_LIMITS])
{
    for (uint32_t i = 0; i < result->limit_count; i++)
        memcpy(&values_out[i], (const char *)&result->limits[i] + offset, sizeof *values_out);
}

static double best_of(const qr_result *result, size_t offset)
{
    double values[QR_MAX_LIMITS], best = 0;
    qr_limits_values(result, offset, values);
    for (uint32_t i = 0; i < result->limit_count; i++) best = fmax(best, values[i]);
    return best;
}

double qr_limits_spread(const qr_result *result)
{
    const double high = best_of(result, offsetof(quire_limits, read_gbs));
    double       low  = high;
    for (uint32_t i = 0; i < result->limit_count; i++) low = fmin(low, result->limits[i].read_gbs);
    return low > 0 ? high / low : 1;
}

static double peak_of(const qr_result *result, const char *dtype)
{
    if (strcmp(dtype, "int8") == 0 || strcmp(dtype, "int4") == 0) /* unpacked to bytes, and multiplied as they are */
        return best_of(result, offsetof(quire_limits, int8_gops));
    if (strcmp(dtype, "f32") == 0) return best_of(result, offsetof(quire_limits, f32_gflops));
    return best_of(result, offsetof(quire_limits, bf16_gflops)); /* what "auto" means for KV as well */
}

bool qr_roofline_of(const qr_result *result, qr_roofline *roofline_out)
{
    const char *kv = quire_config_string(result->config, "kv_cache.dtype");
    if (result->limit_count == 0) return false;
    *roofline_out = (qr_roofline){.read_gbs      = best_of(result, offsetof(quire_limits, read_gbs)),
                                  .weight_gflops = peak_of(result, quire_dtype_name(result->model.weight_dtype)),
                                  .wide_gflops   = peak_of(result, "bf16"),
                                  .kv_gflops     = peak_of(result, kv ? kv : "bf16"),
                                  .read_bytes    = result->limits[0].read_bytes,
                                  .cache_bytes   = result->limits[0].cache_bytes};
    double least  = roofline_out->read_gbs; /* no set is slower than a larger one; what says so was disturbed */
    for (size_t i = QUIRE_LIMIT_SETS; i-- > 0;) {
        double *gbs = &roofline_out->set_gbs[i];
        *gbs        = best_of(result, offsetof(quire_limits, set_gbs) + i * sizeof(double));
        if (*gbs > 0) *gbs = least = fmax(least, *gbs);
    }
    return true;
}

/* The curve goes from 1 MiB in powers of two to read_bytes, whose bandwidth is read_gbs. */
double qr_roofline_read_gbs(const qr_roofline *roof, double bytes)
{
    double below = least_set, low = roof->set_gbs[0];
    if (!(low > 0)) return roof->read_gbs; /* limits of before there were sets */
    if (bytes <= below) return low;
    for (size_t i = 1; i <= QUIRE_LIMIT_SETS; i++) {
        const bool   is_last = i == QUIRE_LIMIT_SETS || !(roof->set_gbs[i] > 0);
        const double above   = is_last ? fmax((double)roof->read_bytes, 2 * below) : 2 * below;
        const double high    = is_last ? roof->read_gbs : roof->set_gbs[i];
        if (bytes < above) return low * pow(high / low, log(bytes / below) / log(above / below));
        if (is_last) break;
        below = above, low = high;
    }
    return roof->read_gbs;
}

typedef struct work {
    double bytes, weight_flops, wide_flops, kv_flops; /* wide_flops: of weight_flops */
} work;

static double floor_of(const qr_roofline *roof, double read_gbs, const work *w)
{
    const double wide = w->wide_flops > 0 ? w->wide_flops / roof->wide_gflops : 0;
    const double own  = (w->weight_flops - w->wide_flops) / roof->weight_gflops;
    return fmax(w->bytes / read_gbs, own + wide + w->kv_flops / roof->kv_gflops) * 1e-9;
}

static double bytes_of(const quire_step *step) { return (double)(step->weight_bytes + step->kv_bytes); }

double qr_roofline_floor(const qr_roofline *roof, const quire_step *step)
{
    return floor_of(roof, qr_roofline_read_gbs(roof, bytes_of(step)),
                    &(work){.bytes        = bytes_of(step),
                            .weight_flops = (double)(step->projection_flops + step->logits_flops),
                            .wide_flops   = (double)step->wide_flops,
                            .kv_flops     = (double)step->attention_flops});
}

double qr_roofline_step_seconds(const quire_step *step)
{
    return (double)(step->plan_ns + step->forward_ns + step->sample_ns + step->commit_ns) * 1e-9;
}

bool qr_roofline_fits_caches(const qr_roofline *roof, const quire_step *step)
{
    return step->weight_bytes + step->kv_bytes <= roof->cache_bytes;
}

/* ---- sums ---- */

static void add_phases(const qr_roofline *roof, const quire_step *step, qr_roofline_fraction *f)
{
    const work parts[QR_ROOFLINE_PHASES] = {
        {.bytes        = (double)(step->projection_bytes - step->encoder_weight_bytes),
         .weight_flops = (double)(step->projection_flops - step->encoder_projection_flops),
         .wide_flops   = (double)(step->wide_flops - step->encoder_wide_flops)},
        {.bytes    = (double)(step->kv_bytes - step->encoder_kv_bytes),
         .kv_flops = (double)(step->attention_flops - step->encoder_attention_flops)},
        {.bytes = (double)step->logits_bytes, .weight_flops = (double)step->logits_flops},
        {.bytes        = (double)(step->encoder_weight_bytes + step->encoder_kv_bytes),
         .weight_flops = (double)step->encoder_projection_flops,
         .wide_flops   = (double)step->encoder_wide_flops,
         .kv_flops     = (double)step->encoder_attention_flops}};
    const uint64_t ns[QR_ROOFLINE_PHASES] = {step->projection_ns, step->attention_ns, step->logits_ns,
                                             step->encoder_ns};
    const double   read_gbs               = qr_roofline_read_gbs(roof, bytes_of(step));
    for (int i = 0; i < QR_ROOFLINE_PHASES; i++) {
        f->phases[i].bytes += parts[i].bytes;
        f->phases[i].flops += parts[i].weight_flops + parts[i].kv_flops;
        f->phases[i].floor_s += floor_of(roof, read_gbs, &parts[i]);
        f->phases[i].measured_s += (double)ns[i] * 1e-9;
    }
}

static void add_class(const quire_step *step, double floor_s, double step_s, qr_roofline_fraction *f)
{
    const uint32_t rows = step->rows + step->rows_encoder;
    int class           = 0;
    while (class + 1 < QR_ROOFLINE_CLASSES && rows > f->by_rows[class].last) class ++;
    f->by_rows[class].steps++;
    f->by_rows[class].floor_s += floor_s;
    f->by_rows[class].step_s += step_s;
}

static void add_step(const qr_roofline *roof, const quire_step *step, qr_roofline_fraction *f)
{
    const double floor_s = qr_roofline_floor(roof, step), step_s = qr_roofline_step_seconds(step);
    f->steps++;
    f->cached_steps += qr_roofline_fits_caches(roof, step);
    f->step_bytes += bytes_of(step);
    f->read_gbs += bytes_of(step) / qr_roofline_read_gbs(roof, bytes_of(step)); /* ns, until divide() */
    f->floor_s += floor_s;
    f->step_s += step_s;
    add_phases(roof, step, f);
    add_class(step, floor_s, step_s, f);
}

static double ratio(double part, double whole) { return whole > 0 ? part / whole : NAN; }

static double fraction_of(double floor_s, double time_s, bool agree) { return agree ? ratio(floor_s, time_s) : NAN; }

static void divide(qr_roofline_fraction *f, bool agree)
{
    f->fraction   = fraction_of(f->floor_s, f->step_s, agree);
    f->read_gbs   = ratio(f->step_bytes, f->read_gbs);
    f->step_bytes = ratio(f->step_bytes, (double)f->steps);
    f->rest_s     = f->step_s;
    for (int i = 0; i < QR_ROOFLINE_PHASES; i++) {
        f->phases[i].fraction = fraction_of(f->phases[i].floor_s, f->phases[i].measured_s, agree);
        f->rest_s -= f->phases[i].measured_s;
        f->phases[i].gbs    = ratio(f->phases[i].bytes, f->phases[i].measured_s) * 1e-9;
        f->phases[i].gflops = ratio(f->phases[i].flops, f->phases[i].measured_s) * 1e-9;
    }
    for (int i = 0; i < QR_ROOFLINE_CLASSES; i++)
        f->by_rows[i].fraction = fraction_of(f->by_rows[i].floor_s, f->by_rows[i].step_s, agree);
}

bool qr_roofline_fraction_of(const qr_result *result, uint32_t run, qr_roofline_fraction *fraction_out)
{
    const qr_run *record = &result->records[run];
    qr_roofline   roof;
    *fraction_out = (qr_roofline_fraction){
        .phases  = {{.name = "projections"}, {.name = "attention"}, {.name = "logits"}, {.name = "encoder"}},
        .by_rows = {{.first = 1, .last = 4}, {.first = 5, .last = 16}, {.first = 17, .last = 64}, {.first = 65}}};
    if (!qr_roofline_of(result, &roof)) return false;
    for (size_t i = 0; i < record->step_count; i++) {
        const int64_t start = (int64_t)record->steps[i].start_ns;
        if (start >= record->window_start_ns && start <= record->window_end_ns)
            add_step(&roof, &record->steps[i], fraction_out);
    }
    divide(fraction_out, qr_limits_spread(result) <= QR_LIMITS_AGREE);
    return true;
}
