/* Counters and histograms under a mutex, written beside the file and renamed over it. */
#include "bench/run/prometheus.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "bench/common/whole_file.h"
#include "bench/run/noise.h"
#include "bench/run/run.h"

enum { MOST_BOUNDS = 24, STATUSES = 16 };

static const int64_t interval_ns = 1000000000;

typedef struct histogram {
    uint64_t counts[MOST_BOUNDS + 1]; /* [bound_count + 1] not cumulative; the last is beyond every bound */
    uint64_t count;
    double   sum;
} histogram;

static const double seconds[] = {0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5,
                                 1,     2,     5,     10,   20,   50,   100, 200, 500};
static const double rows[]    = {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536};

static const struct description {
    const char   *name, *help;
    const double *bounds; /* [bound_count] ascending */
    size_t        bound_count;
} descriptions[QR_PROMETHEUS_HISTOGRAMS] = {
    [QR_PROMETHEUS_TTFT]  = {"quire_time_to_first_token_seconds", "From the due time of a request to its first token.",
                             seconds, sizeof seconds / sizeof *seconds},
    [QR_PROMETHEUS_ITL]   = {"quire_inter_token_latency_seconds", "Between two tokens of a sequence.", seconds,
                             sizeof seconds / sizeof *seconds},
    [QR_PROMETHEUS_TPOT]  = {"quire_time_per_output_token_seconds", "Mean time of a request's tokens after the first.",
                             seconds, sizeof seconds / sizeof *seconds},
    [QR_PROMETHEUS_E2E]   = {"quire_e2e_request_latency_seconds", "From the due time of a request to its end.", seconds,
                             sizeof seconds / sizeof *seconds},
    [QR_PROMETHEUS_QUEUE] = {"quire_request_queue_time_seconds", "From the due time of a request to its first step.",
                             seconds, sizeof seconds / sizeof *seconds},
    [QR_PROMETHEUS_STEP]  = {"quire_step_seconds", "Time of a step: plan, forward, sample, commit.", seconds,
                             sizeof seconds / sizeof *seconds},
    [QR_PROMETHEUS_ROWS]  = {"quire_step_rows", "Tokens computed in a step.", rows, sizeof rows / sizeof *rows},
};

struct qr_prometheus {
    const char     *path;
    pthread_mutex_t mutex; /* the driver observes steps while the generator's thread writes */
    histogram       histograms[QR_PROMETHEUS_HISTOGRAMS];
    uint64_t        finished[QUIRE_FINISH_TIMEOUT + 1], refused[STATUSES];
    quire_stats     stats;
    int64_t         written_ns;
    uint64_t        throttled_before; /* periods of the control group before the first run */

    qr_prometheus_roofline roofline;
    double                 floor_s, compared_s; /* of the steps that were compared */
};

qr_prometheus *qr_prometheus_create(const char *path)
{
    qr_prometheus *metrics = calloc(1, sizeof *metrics);
    if (metrics == NULL) return NULL;
    metrics->path = path;
    pthread_mutex_init(&metrics->mutex, NULL);
    metrics->throttled_before = qr_throttled_periods("");
    return metrics;
}

void qr_prometheus_destroy(qr_prometheus *metrics)
{
    if (metrics == NULL) return;
    pthread_mutex_destroy(&metrics->mutex);
    free(metrics);
}

/* ---- what happens ---- */

static void observe(qr_prometheus *metrics, qr_prometheus_histogram which, double value)
{
    const struct description *d  = &descriptions[which];
    histogram                *to = &metrics->histograms[which];
    size_t                    i  = 0;
    while (i < d->bound_count && value > d->bounds[i]) i++;
    to->counts[i]++;
    to->count++;
    to->sum += value;
}

void qr_prometheus_observe(qr_prometheus *metrics, qr_prometheus_histogram which, double value)
{
    if (metrics == NULL) return;
    pthread_mutex_lock(&metrics->mutex);
    observe(metrics, which, value);
    pthread_mutex_unlock(&metrics->mutex);
}

void qr_prometheus_compare(qr_prometheus *metrics, const qr_prometheus_roofline *roofline)
{
    if (metrics != NULL) metrics->roofline = *roofline;
}

/* Sums, so that the gauge is that of all steps until now. */
static void compare(qr_prometheus *metrics, const quire_step *step, double time_s)
{
    const double floor_s = metrics->roofline.floor_s ? metrics->roofline.floor_s(metrics->roofline.context, step) : NAN;
    if (isnan(floor_s)) return;
    metrics->floor_s += floor_s;
    metrics->compared_s += time_s;
}

void qr_prometheus_step(qr_prometheus *metrics, const quire_step *step)
{
    if (metrics == NULL) return;
    const double time_s = (double)(step->plan_ns + step->forward_ns + step->sample_ns + step->commit_ns) * 1e-9;
    pthread_mutex_lock(&metrics->mutex);
    compare(metrics, step, time_s);
    observe(metrics, QR_PROMETHEUS_STEP, time_s);
    observe(metrics, QR_PROMETHEUS_ROWS, step->rows + step->rows_encoder);
    pthread_mutex_unlock(&metrics->mutex);
}

void qr_prometheus_finished(qr_prometheus *metrics, quire_finish finish)
{
    if (metrics != NULL && finish <= QUIRE_FINISH_TIMEOUT) metrics->finished[finish]++;
}

void qr_prometheus_refused(qr_prometheus *metrics, quire_status status)
{
    if (metrics != NULL && status < 0 && -(int)status < STATUSES) metrics->refused[-(int)status]++;
}

/* Each repetition's clock starts at 0. */
bool qr_prometheus_is_due(const qr_prometheus *metrics, int64_t now_ns)
{
    if (metrics == NULL) return false;
    return now_ns < metrics->written_ns || now_ns - metrics->written_ns >= interval_ns;
}

static bool write_text(const void *metrics, FILE *to)
{
    return qr_prometheus_write(*(qr_prometheus *const *)metrics, to);
}

void qr_prometheus_refresh(qr_prometheus *metrics, const quire_stats *stats, int64_t now_ns)
{
    if (metrics == NULL) return;
    metrics->stats      = *stats;
    metrics->written_ns = now_ns;
    qr_file_refresh(metrics->path, write_text, &metrics); /* the generator must not wait for a disk */
}

/* ---- the text ---- */

static void head(FILE *to, const char *name, const char *type, const char *help)
{
    fprintf(to, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void gauge(FILE *to, const char *name, const char *help, double value)
{
    head(to, name, "gauge", help);
    fprintf(to, "%s %.9g\n", name, value);
}

static void counter(FILE *to, const char *name, const char *help, uint64_t value)
{
    head(to, name, "counter", help);
    fprintf(to, "%s %llu\n", name, (unsigned long long)value);
}

static void write_gauges(const quire_stats *s, FILE *to)
{
    const char    *onednn  = strstr(quire_build_info(), "oneDNN ");
    const unsigned version = quire_version();
    gauge(to, "quire_num_requests_running", "Sequences that take part in steps.", s->running);
    gauge(to, "quire_num_requests_waiting", "Sequences that wait to be admitted.", s->waiting);
    gauge(to, "quire_kv_cache_usage_ratio", "Share of the KV cache's bytes in blocks in use, 0 to 1.",
          s->kv_cache_bytes ? (double)s->kv_used_bytes / (double)s->kv_cache_bytes : 0);
    head(to, "quire_kv_blocks", "gauge", "KV blocks by state, of all nodes.");
    fprintf(to, "quire_kv_blocks{state=\"used\"} %llu\n", (unsigned long long)s->blocks_used);
    fprintf(to, "quire_kv_blocks{state=\"cached\"} %llu\n", (unsigned long long)s->blocks_cached);
    fprintf(to, "quire_kv_blocks{state=\"free\"} %llu\n", (unsigned long long)s->blocks_free);
    gauge(to, "quire_numa_pages_misplaced", "Pages on another NUMA node than planned, when they were last checked.",
          (double)s->numa_pages_misplaced);
    gauge(to, "quire_batch_invariant", "1: results do not depend on the batch, verified at start-up.",
          s->batch_invariant);
    head(to, "quire_build_info", "gauge", "Always 1; the labels say what runs.");
    fprintf(to, "quire_build_info{version=\"%u.%u.%u\",isa=\"%s\",onednn=\"%.*s\"} 1\n", version / 1000000,
            version / 1000 % 1000, version % 1000, s->isa, onednn ? (int)strcspn(onednn + 7, ", ") : 0,
            onednn ? onednn + 7 : "");
}

static void write_counters(const qr_prometheus *metrics, FILE *to)
{
    const quire_stats *s = &metrics->stats;
    counter(to, "quire_prompt_tokens_total", "Prompt tokens computed.", s->tokens_prompt);
    counter(to, "quire_encoder_tokens_total", "Encoder tokens computed.", s->tokens_encoder);
    counter(to, "quire_generation_tokens_total", "Tokens generated.", s->tokens_output);
    counter(to, "quire_prefix_cache_queries_total", "Prompt tokens looked up in the prefix cache.", s->prefix_queries);
    counter(to, "quire_prefix_cache_hits_total", "Prompt tokens found in the prefix cache.", s->prefix_hits);
    counter(to, "quire_kv_remote_bytes_total", "Bytes of keys and values read from another NUMA node's memory.",
            s->kv_remote_bytes);
    counter(to, "quire_blocks_spilled_total", "KV blocks taken on another NUMA node than their sequence's home.",
            s->blocks_spilled);
    counter(to, "quire_num_preemptions_total", "Sequences put back to the queue.", s->preemptions);
    counter(to, "quire_recomputed_tokens_total", "Tokens computed again after a preemption.", s->tokens_recomputed);
    counter(to, "quire_steps_total", "Steps.", s->steps);
    head(to, "quire_requests_total", "counter", "Requests that ended, by reason.");
    for (int i = QUIRE_FINISH_STOP; i <= QUIRE_FINISH_TIMEOUT; i++)
        fprintf(to, "quire_requests_total{finish_reason=\"%s\"} %llu\n", qr_finish_name((quire_finish)i),
                (unsigned long long)metrics->finished[i]);
    head(to, "quire_requests_refused_total", "counter", "Requests that submit refused, by status.");
#define WRITE_REFUSED(name, value, text)                                                                               \
    if ((value) < 0)                                                                                                   \
        fprintf(to, "quire_requests_refused_total{status=\"%s\"} %llu\n", #name,                                       \
                (unsigned long long)metrics->refused[-(value)]);
    QUIRE_STATUS_MAP(WRITE_REFUSED)
#undef WRITE_REFUSED
    counter(to, "quire_cpu_throttled_periods_total", "Periods in which the control group's CPU quota ran out.",
            qr_throttled_periods("") - metrics->throttled_before);
    head(to, "quire_request_wait_seconds_total", "counter", "Time that sequences were not in a plan, by reason.");
    for (int i = QUIRE_WAIT_ORDER; i < QUIRE_WAIT_REASONS; i++)
        fprintf(to, "quire_request_wait_seconds_total{reason=\"%s\"} %.9g\n",
                quire_wait_reason_name((quire_wait_reason)i), (double)s->wait_ns[i] * 1e-9);
}

static void write_histogram(const struct description *d, const histogram *h, FILE *to)
{
    uint64_t below = 0;
    head(to, d->name, "histogram", d->help);
    for (size_t i = 0; i < d->bound_count; i++) {
        below += h->counts[i];
        fprintf(to, "%s_bucket{le=\"%g\"} %llu\n", d->name, d->bounds[i], (unsigned long long)below);
    }
    fprintf(to, "%s_bucket{le=\"+Inf\"} %llu\n", d->name, (unsigned long long)h->count);
    fprintf(to, "%s_sum %.9g\n%s_count %llu\n", d->name, h->sum, d->name, (unsigned long long)h->count);
}

bool qr_prometheus_write(qr_prometheus *metrics, FILE *to)
{
    histogram copies[QR_PROMETHEUS_HISTOGRAMS];
    pthread_mutex_lock(&metrics->mutex);
    memcpy(copies, metrics->histograms, sizeof copies);
    const double fraction = metrics->compared_s > 0 ? metrics->floor_s / metrics->compared_s : NAN;
    pthread_mutex_unlock(&metrics->mutex);
    write_gauges(&metrics->stats, to);
    if (!isnan(fraction))
        gauge(to, "quire_roofline_fraction",
              "Least time that the roofline allows for the steps, over the time they took.", fraction);
    write_counters(metrics, to);
    for (int i = 0; i < QR_PROMETHEUS_HISTOGRAMS; i++) write_histogram(&descriptions[i], &copies[i], to);
    return fflush(to) == 0 && !ferror(to);
}
