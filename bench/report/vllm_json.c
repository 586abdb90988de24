/* A result under the names of vLLM's `vllm bench serve --save-result`, for tools that read those: the first repetition,
 * flat, each field by vLLM's definition. Numbers have no least count of
 * samples here, and a latency without any is 0. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench/common/json_text.h"
#include "bench/report/result_file.h"
#include "bench/result/result_json.h"

static void set(json_t *to, const char *name, double value)
{
    if (isfinite(value)) json_object_set_new(to, name, json_real(value));
}

static void set_ms(json_t *to, const char *key, const qr_summary *s, double value)
{
    set(to, key, s->n > 0 ? value : 0);
}

/* mean_NAME_ms, std_NAME_ms, median_NAME_ms for P50, p99_NAME_ms and so on for the others. */
static void set_latency(json_t *to, const qr_metrics *m, const char *name, const qr_summary *s)
{
    char key[48];
    snprintf(key, sizeof key, "mean_%s_ms", name);
    set_ms(to, key, s, s->mean);
    snprintf(key, sizeof key, "std_%s_ms", name);
    set_ms(to, key, s, s->stdev * sqrt(((double)s->n - 1) / (double)s->n)); /* of the population, as numpy.std has it */
    for (size_t i = 0; i < m->percentile_count; i++) {
        if (m->percentiles[i] == 50)
            snprintf(key, sizeof key, "median_%s_ms", name);
        else
            snprintf(key, sizeof key, "p%g_%s_ms", m->percentiles[i], name);
        set_ms(to, key, s, s->any[i]);
    }
}

/* What vLLM counts: requests that succeeded, whole. */
typedef struct totals {
    uint64_t completed, input, output;
} totals;

static bool is_counted(const qr_run *run, const qr_run_request *q)
{
    return (q->finish == QUIRE_FINISH_STOP || q->finish == QUIRE_FINISH_LENGTH) && q->end_ns >= run->window_start_ns &&
           q->end_ns <= run->window_end_ns;
}

static totals totals_of(const qr_run *run)
{
    totals sum = {0};
    for (size_t i = 0; i < run->request_count; i++) {
        const qr_run_request *q = &run->requests[i];
        if (!is_counted(run, q)) continue;
        sum.completed++;
        sum.input += q->shape.prompt_tokens + q->shape.encoder_tokens;
        sum.output += q->output_tokens;
    }
    return sum;
}

/* The wait for one of max_concurrency places is before vLLM's clock starts. */
static void set_latency_since_sent(json_t *to, const qr_metrics *m, const qr_run *run, bool first, bool waits)
{
    qr_summary summary;
    size_t     count  = 0;
    double    *values = calloc(run->request_count + 1, sizeof *values);
    for (size_t i = 0; values != NULL && i < run->request_count; i++) {
        const qr_run_request *q = &run->requests[i];
        if (is_counted(run, q) && q->first_ns >= 0)
            values[count++] = 1e-6 * (double)((first ? q->first_ns : q->end_ns) - (waits ? q->submit_ns : q->due_ns));
    }
    if (values != NULL) qr_summary_of(values, count, m->percentiles, m->percentile_count, &summary);
    if (values != NULL) set_latency(to, m, first ? "ttft" : "e2el", &summary);
    free(values);
}

/* "inf" where no rate paces the requests; null where nothing bounds those in flight. A shape of Weibull's or constant
 * gaps is none of vLLM's gamma distribution. */
static void set_load(json_t *to, const qr_result *r, uint32_t max_concurrency)
{
    if (qr_profile_is_rated(r->profile))
        set(to, "request_rate", quire_config_number(r->config, "load.request_rate"));
    else
        json_object_set_new(to, "request_rate", json_string("inf"));
    if (strcmp(r->profile, "gamma") == 0)
        set(to, "burstiness", quire_config_number(r->config, "load.burstiness"));
    else if (strcmp(r->profile, "constant") != 0 && strcmp(r->profile, "weibull") != 0)
        set(to, "burstiness", 1);
    json_object_set_new(to, "max_concurrency", max_concurrency ? json_integer(max_concurrency) : json_null());
}

static uint32_t max_concurrency_of(const qr_result *r)
{
    if (strcmp(r->profile, "synchronous") == 0) return 1;
    const bool is_closed = strcmp(r->profile, "concurrent") == 0;
    return (uint32_t)quire_config_integer(r->config, is_closed ? "load.streams" : "load.max_concurrency");
}

bool qr_vllm_json_write(const qr_result *r, FILE *out)
{
    if (r->run_count == 0) return false;
    const qr_metrics *m    = &r->runs[0];
    const totals      sum  = totals_of(&r->records[0]);
    const uint32_t    most = max_concurrency_of(r);
    const bool waits = most > 0 && strcmp(r->profile, "concurrent") != 0 && strcmp(r->profile, "synchronous") != 0;
    char       date[32];
    struct tm  utc;
    gmtime_r(&r->started, &utc);
    strftime(date, sizeof date, "%Y%m%d-%H%M%S", &utc);
    const json_int_t failed = (json_int_t)m->requests.failed + m->requests.refused;
    json_t *to = json_pack("{s:s, s:s*, s:s, s:o, s:I}", "date", date, "clock", r->is_virtual ? "virtual" : NULL,
                           "backend", r->is_remote ? "openai" : "quire", "model_id", qr_json_string(r->model.name),
                           "num_prompts", (json_int_t)sum.completed + failed); /* none is left at an end */
    set_load(to, r, most);
    set(to, "duration", m->length_s);
    json_object_set_new(to, "completed", json_integer((json_int_t)sum.completed));
    json_object_set_new(to, "failed", json_integer(failed));
    json_object_set_new(to, "total_input_tokens", json_integer((json_int_t)sum.input));
    json_object_set_new(to, "total_output_tokens", json_integer((json_int_t)sum.output));
    set(to, "request_throughput", (double)sum.completed / m->length_s);
    set(to, "request_goodput", m->throughput.goodput);
    set(to, "output_throughput", (double)sum.output / m->length_s);
    set(to, "total_token_throughput", (double)(sum.input + sum.output) / m->length_s);
    set(to, "max_output_tokens_per_s", m->throughput.peak_output);
    set_latency_since_sent(to, m, &r->records[0], true, waits);
    set_latency(to, m, "tpot", &m->tpot);
    set_latency(to, m, "itl", &m->itl);
    set_latency_since_sent(to, m, &r->records[0], false, waits);
    const bool ok = json_dumpf(to, out, JSON_INDENT(2) | JSON_REAL_PRECISION(9)) == 0 && fputc('\n', out) != EOF;
    json_decref(to);
    return ok;
}
