/* The report that people read: at most 100 columns, most important first. */
#include "bench/report/result_file.h"

#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/result/attribution.h"
#include "bench/result/roofline.h"

static const qr_metrics *first(const qr_result *result) { return &result->runs[0]; }

/* A number in a column of its own width, "-" where it is not measurable. */
static void cell(FILE *to, double value, int width, int decimals)
{
    if (isnan(value))
        fprintf(to, "%*s", width, "-");
    else
        fprintf(to, "%*.*f", width, decimals, value);
}

enum { COLUMNS = 100, INDENT = 4 };

/* A line of text, broken at spaces where it would be longer than COLUMNS; what follows is indented. */
__attribute__((format(printf, 2, 3))) static void say(FILE *to, const char *format, ...)
{
    char    text[1024], *at = text;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    for (size_t room = COLUMNS; strlen(at) > room; room = COLUMNS - INDENT) {
        char *cut = at + room;
        while (cut > at && *cut != ' ') cut--;
        if (cut == at) break; /* one long word */
        *cut = '\0';
        fprintf(to, "%s\n%*s", at, INDENT, "");
        at = cut + 1;
    }
    fprintf(to, "%s\n", at);
}

static double mean_of(const qr_result *result, double (*of)(const qr_metrics *))
{
    double sum = 0;
    for (uint32_t i = 0; i < result->run_count; i++) sum += of(&result->runs[i]);
    return sum / result->run_count;
}

static double output_rate(const qr_metrics *m) { return m->throughput.output.value; }
static double input_rate(const qr_metrics *m) { return m->throughput.input.value; }
static double request_rate(const qr_metrics *m) { return m->throughput.requests.value; }

static void virtual_clock(const qr_result *result, FILE *to)
{
    const qr_cost_model *model = &result->cost.model;
    double               wall  = 0;
    for (uint32_t i = 0; i < result->run_count; i++) wall += result->records[i].wall_s;
    fprintf(to, "cost model fitted to %zu steps of %.50s%s\n", model->steps, result->cost.path,
            result->cost.resampled ? ", noise resampled" : "");
    fprintf(to, "  its error per step: median %.1f %%, P90 %.1f %%, total %+.1f %%; held out: %.1f, %.1f, %+.1f %%\n",
            100 * model->fitted.median, 100 * model->fitted.p90, 100 * model->fitted.total,
            100 * model->held_out.median, 100 * model->held_out.p90, 100 * model->held_out.total);
    fprintf(to, "  simulated in %.2f s; %.1f %% of %llu steps lie beyond what was fitted\n", wall,
            result->cost.steps ? 100.0 * (double)result->cost.extrapolated / (double)result->cost.steps : 0,
            (unsigned long long)result->cost.steps);
}

static void head(const qr_result *result, FILE *to)
{
    const quire_model_info *model = &result->model;
    const quire_stats      *e     = &result->engine;
    say(to, "%.60s  %s  %.2f G parameters, weights %s, KV %.1f GiB, %s", model->name, model->architecture,
        (double)model->parameters * 1e-9, quire_dtype_name(model->weight_dtype),
        (double)e->kv_cache_bytes / 1073741824.0, quire_config_string(result->config, "kv_cache.dtype"));
    if (result->is_virtual)
        virtual_clock(result, to);
    else
        say(to, "%u threads on %u node%s, %s, projections %s, batch invariant: %s", e->threads, e->nodes,
            e->nodes == 1 ? "" : "s", e->isa, e->implementation, e->batch_invariant ? "yes" : "no");
    say(to, "load %s, seed %llu, %u run%s of %.1f s", result->profile, (unsigned long long)result->seed,
        result->run_count, result->run_count == 1 ? "" : "s", first(result)->length_s);
}

/* "noise: 11.7 %, needs <= 2 % ...: what to change" */
static void failed_check(const qr_check *c, const char *before, FILE *to)
{
    char value[48];
    snprintf(value, sizeof value, "%.4g %s", c->value, c->unit);
    say(to, "  %s%s: %s, needs %s: %s", before, c->id,
        c->unit[0]     ? value
        : c->value > 0 ? "yes"
                       : "no",
        c->need, c->hint);
}

/* output.color; "auto" is on a terminal, where NO_COLOR (no-color.org) is not set. */
static bool is_coloured(const qr_result *result, FILE *to)
{
    const char *mode = quire_config_string(result->config, "output.color");
    if (strcmp(mode, "auto") != 0) return strcmp(mode, "always") == 0;
    const char *no_color = getenv("NO_COLOR");
    return isatty(fileno(to)) && (no_color == NULL || no_color[0] == '\0');
}

static void verdict(const qr_result *result, FILE *to)
{
    const bool valid = qr_result_is_valid(result), coloured = is_coloured(result, to);
    fprintf(to, "%s%s%s",
            !coloured ? ""
            : valid   ? "\033[1;32m"
                      : "\033[1;31m",
            valid ? "VALID" : "INVALID", coloured ? "\033[0m" : "");
    if (result->is_virtual) fprintf(to, "  SIMULATED on the virtual clock");
    if (result->partial) fprintf(to, "  the run was interrupted");
    fprintf(to, "\n");
    for (uint32_t i = 0; i < result->check_count; i++)
        if (!result->checks[i].ok && result->checks[i].invalid) failed_check(&result->checks[i], "", to);
    for (uint32_t i = 0; i < result->check_count; i++)
        if (!result->checks[i].ok && !result->checks[i].invalid) failed_check(&result->checks[i], "warning: ", to);
}

static void throughput(const qr_result *result, FILE *to)
{
    const qr_metrics *m = first(result);
    fprintf(to, "\n%-28s%12s%12s%12s\n", "throughput", "mean", "95% low", "95% high");
    fprintf(to, "%-28s%12.2f%12.2f%12.2f\n", "  output tokens/s", mean_of(result, output_rate),
            m->throughput.output.low, m->throughput.output.high);
    fprintf(to, "%-28s%12.2f%12.2f%12.2f\n", "  input tokens/s computed", mean_of(result, input_rate),
            m->throughput.input.low, m->throughput.input.high);
    fprintf(to, "%-28s%12.3f%12.3f%12.3f\n", "  requests/s", mean_of(result, request_rate), m->throughput.requests.low,
            m->throughput.requests.high);
    if (m->saturated_s > 0)
        fprintf(to, "%-28s%12.2f  output tokens/s, in %.1f s\n", "  while requests waited",
                m->throughput.saturated_output, m->saturated_s);
    if (!isnan(m->attainment))
        fprintf(to, "%-28s%12.3f  attainment %.1f %%\n", "  goodput requests/s", m->throughput.goodput,
                100 * m->attainment);
}

static void latency_row(const qr_metrics *m, const char *name, const qr_summary *s, FILE *to)
{
    fprintf(to, "%-14s", name);
    cell(to, s->mean, 11, 2);
    for (size_t i = 0; i < m->percentile_count && i < 5; i++) cell(to, s->p[i], 11, 2);
    cell(to, s->max, 11, 2);
    fprintf(to, "%9llu\n", (unsigned long long)s->n);
}

static void latency(const qr_result *result, FILE *to)
{
    const qr_metrics *m = first(result);
    fprintf(to, "\n%-14s%11s", "latency, ms", "mean");
    for (size_t i = 0; i < m->percentile_count && i < 5; i++) {
        char name[16];
        snprintf(name, sizeof name, "P%g", m->percentiles[i]);
        fprintf(to, "%11s", name);
    }
    fprintf(to, "%11s%9s\n", "max", "n");
    latency_row(m, "  TTFT", &m->ttft, to);
    latency_row(m, "  queue", &m->queue, to);
    latency_row(m, "  ITL", &m->itl, to);
    latency_row(m, "  TPOT", &m->tpot, to);
    latency_row(m, "  E2E", &m->e2el, to);
    say(to,
        "TTFT: to the first token, from when a request was due; queue: of that, until its first step; ITL: from token "
        "to token; TPOT: mean of a request after its first token; E2E: to its end. -: too few samples.");
}

typedef struct time_part {
    const char *name;
    double      seconds;
} time_part;

static int width_of(const time_part *p)
{
    const int length = (int)strlen(p->name) + 2;
    return length > 8 ? length : 8; /* "100.0 %" */
}

/* Two lines; the parts are all of the time `of`. One that a model does not have is left out. */
static void share_rows(const char *head, const time_part *parts, size_t count, double of, bool encoder, FILE *to)
{
    fprintf(to, "\n%-8s", head);
    for (size_t i = 0; i < count; i++)
        if (encoder || strcmp(parts[i].name, "encoder") != 0) fprintf(to, "%*s", width_of(&parts[i]), parts[i].name);
    fprintf(to, "\n%-8s", "  share");
    for (size_t i = 0; i < count; i++)
        if (encoder || strcmp(parts[i].name, "encoder") != 0)
            fprintf(to, "%*.1f %%", width_of(&parts[i]) - 2, of > 0 ? 100 * parts[i].seconds / of : 0);
    fputc('\n', to);
}

/* Where the window went, and where the steps' part of it, `busy` seconds. */
static void times(const qr_metrics *m, double busy, bool encoder, FILE *to)
{
    const time_part kinds[]  = {{"prefill", m->steps.prefill_s},
                                {"decode", m->steps.decode_s},
                                {"encoder", m->steps.encoder_s},
                                {"idle", m->steps.idle_s}};
    const time_part stages[] = {{"projections", m->steps.projection_s},
                                {"attention", m->steps.attention_s},
                                {"logits", m->steps.logits_s},
                                {"row-wise", m->steps.rowwise_s},
                                {"encoder", m->steps.encoder_stage_s},
                                {"sampling", m->steps.sampling_s},
                                {"scheduler", m->steps.scheduler_s},
                                {"barriers", m->steps.barrier_s},
                                {"other", m->steps.other_s}};
    share_rows("window", kinds, 4, m->length_s, encoder, to);
    if (busy > 0) share_rows("steps", stages, 9, busy, encoder, to);
}

static void engine(const qr_result *result, FILE *to)
{
    const qr_metrics *m    = first(result);
    const double      busy = result->is_virtual ? 0 : m->steps.busy_s;
    times(m, busy, result->model.encoder_layers > 0, to);
    if (m->steps.count == 0)
        fprintf(to, "\nno step ended in the window\n");
    else
        say(to, "\n%llu steps of %.2f ms: %.1f rows of %.1f sequences, batch %.0f %% full, busy %.0f %% of the window",
            (unsigned long long)m->steps.count, m->steps.time_ms.mean, m->steps.rows.mean, m->steps.sequences.mean,
            100 * m->steps.batch_fill, 100 * m->steps.busy_share);
    if (busy > 0)
        say(to, "moved %.1f GB/s (weights and KV once per step), computed %.1f GFLOP/s",
            (m->steps.weight_bytes + m->steps.kv_bytes) / busy * 1e-9, m->steps.flops / busy * 1e-9);
    say(to, "KV cache: %.1f %% used, at most %.1f %%; preemptions %llu, recomputed tokens %llu, prefix hits %.1f %%",
        100 * m->steps.kv_usage_mean, 100 * m->steps.kv_usage_max, (unsigned long long)m->steps.preemptions,
        (unsigned long long)m->steps.recomputed_tokens, 100 * m->steps.prefix_hit_share);
    if (result->model.encoder_layers > 0)
        say(to, "encoder runs %llu, saved by sharing %llu", (unsigned long long)m->steps.encoder_runs,
            (unsigned long long)m->steps.encoder_runs_saved);
    if (m->steps.drafts > 0)
        say(to, "drafted tokens %llu, accepted %.1f %%", (unsigned long long)m->steps.drafts,
            100.0 * (double)m->steps.drafts_accepted / (double)m->steps.drafts);
    say(to, "requests: %u due, %u completed, %u failed, %u refused, %u truncated, %u preempted, %u verified alone",
        m->requests.due, m->requests.completed, m->requests.failed, m->requests.refused, m->requests.truncated,
        m->requests.preempted, m->requests.verified);
    if (m->requests.shortened + m->requests.skipped > 0)
        say(to, "beyond max_model_len %u: %u requests shortened, %u skipped", result->engine.max_model_len,
            m->requests.shortened, m->requests.skipped);
}

/* " 83 %", or "-" where no step counts. */
static void share(const char *name, double fraction, FILE *to)
{
    if (isnan(fraction))
        fprintf(to, "%s -", name);
    else
        fprintf(to, "%s %.0f %%", name, 100 * fraction);
}

/* A fraction above 1 says that the machine was not measured at its best. */
static bool any_above_one(const qr_roofline_fraction *f)
{
    bool any = f->fraction > 1;
    for (int i = 0; i < QR_ROOFLINE_PHASES; i++) any |= f->phases[i].fraction > 1;
    for (int i = 0; i < QR_ROOFLINE_CLASSES; i++) any |= f->by_rows[i].fraction > 1;
    return any;
}

static void roofline_lines(const qr_result *result, FILE *to)
{
    static const char *const names[QR_ROOFLINE_CLASSES] = {" 1-4", ", 5-16", ", 17-64", ", 65+"};
    qr_roofline_fraction     f;
    qr_roofline              roof;
    if (!qr_roofline_of(result, &roof) || !qr_roofline_fraction_of(result, 0, &f)) return;
    if (f.steps == 0) {
        fprintf(to, "\nof the roofline: unknown, every step may have run from the caches\n");
        return;
    }
    share("\nof the roofline:", f.fraction, to);
    for (int i = 0; i < QR_ROOFLINE_PHASES; i++) {
        if (i > 0 && !(f.phases[i].measured_s > 0)) continue;
        fputs(i == 0 ? " (" : ", ", to);
        share(f.phases[i].name, f.phases[i].fraction, to);
    }
    fputs(")\n  by rows of a step:", to);
    for (int i = 0; i < QR_ROOFLINE_CLASSES; i++) share(names[i], f.by_rows[i].fraction, to);
    fputc('\n', to);
    say(to, "  measured on this machine: %.1f GB/s memory read bandwidth, %.0f GFLOP/s peak of the weights' type%s",
        roof.read_gbs, roof.weight_gflops,
        any_above_one(&f) ? "; above 100 %: the machine was faster during the run" : "");
    if (f.resident_steps > 0)
        fprintf(to, "  %llu of %llu steps may have run from the caches and are left out\n",
                (unsigned long long)f.resident_steps, (unsigned long long)(f.resident_steps + f.steps));
}

/* ", P99 90 % others' prefill" after "most of an ITL:", for the middle and the highest percentile with its samples. */
static void cause_line(const qr_result *result, qr_latency latency, const char *name, const qr_summary *s, FILE *to)
{
    const qr_metrics *m       = first(result);
    int               highest = -1;
    bool              any     = false;
    for (size_t i = 0; i < m->percentile_count; i++)
        if (!isnan(s->p[i]) && (highest < 0 || m->percentiles[i] > m->percentiles[highest])) highest = (int)i;
    for (size_t i = 0; i < m->percentile_count; i++) {
        qr_band band;
        double  part;
        if (isnan(s->p[i]) || ((int)i != highest && m->percentiles[i] != 50)) continue;
        if (!qr_band_of(&result->records[0], latency, m->percentiles[i], &band)) continue;
        const qr_cause cause = qr_band_main_cause(&band, &part);
        fprintf(to, any ? "; " : "most of %s ", name);
        fprintf(to, "P%g: %s %.0f %%", m->percentiles[i], qr_cause_text(cause), 100 * part);
        any = true;
    }
    if (any) fputc('\n', to);
}

static void causes(const qr_result *result, FILE *to)
{
    const qr_metrics *m = first(result);
    cause_line(result, QR_LATENCY_TTFT, "TTFT", &m->ttft, to);
    cause_line(result, QR_LATENCY_ITL, "ITL", &m->itl, to);
}

void qr_result_table(const qr_result *result, FILE *to)
{
    if (result->run_count == 0) {
        fprintf(to, "no run ended\n");
        return;
    }
    verdict(result, to);
    head(result, to);
    throughput(result, to);
    latency(result, to);
    roofline_lines(result, to);
    if (!result->is_virtual) causes(result, to); /* stages are not simulated */
    engine(result, to);
}
