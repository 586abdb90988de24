/* A result under the names of vLLM's `vllm bench serve --save-result`, for tools that read those: the first repetition,
 * flat. A number that could not be measured is left out. */
#include <math.h>
#include <string.h>

#include "bench/report/result_file.h"
#include "bench/result/result_json.h"

static void set(json_t *to, const char *name, double value)
{
    if (isfinite(value)) json_object_set_new(to, name, json_real(value));
}

/* mean_NAME_ms, std_NAME_ms, median_NAME_ms for P50, p99_NAME_ms and so on for the others. */
static void set_latency(json_t *to, const qr_metrics *m, const char *name, const qr_summary *s)
{
    char key[48];
    snprintf(key, sizeof key, "mean_%s_ms", name);
    set(to, key, s->mean);
    snprintf(key, sizeof key, "std_%s_ms", name);
    set(to, key, s->stdev);
    for (size_t i = 0; i < m->percentile_count; i++) {
        if (m->percentiles[i] == 50)
            snprintf(key, sizeof key, "median_%s_ms", name);
        else
            snprintf(key, sizeof key, "p%g_%s_ms", m->percentiles[i], name);
        set(to, key, s->p[i]);
    }
}

static uint64_t prompt_tokens(const qr_run *run)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < run->request_count; i++)
        if (run->requests[i].end_ns >= run->window_start_ns && run->requests[i].end_ns <= run->window_end_ns)
            sum += run->requests[i].shape.prompt_tokens;
    return sum;
}

bool qr_vllm_json_write(const qr_result *r, FILE *out)
{
    json_t *to = json_object();
    if (to == NULL || r->run_count == 0) return json_decref(to), false;
    const qr_metrics *m    = &r->runs[0];
    const double      rate = quire_config_number(r->config, "load.request_rate");
    char              date[32];
    struct tm         utc;
    gmtime_r(&r->started, &utc);
    strftime(date, sizeof date, "%Y%m%d-%H%M%S", &utc);
    json_object_set_new(to, "date", json_string(date));
    if (r->is_virtual) json_object_set_new(to, "clock", json_string("virtual"));
    json_object_set_new(to, "backend", json_string("quire"));
    json_object_set_new(to, "model_id", json_string(r->model.name));
    json_object_set_new(to, "num_prompts", json_integer((json_int_t)r->records[0].request_count));
    if (strcmp(r->profile, "throughput") == 0)
        json_object_set_new(to, "request_rate", json_string("inf"));
    else
        set(to, "request_rate", rate);
    set(to, "burstiness", quire_config_number(r->config, "load.burstiness"));
    json_object_set_new(to, "max_concurrency",
                        json_integer((json_int_t)quire_config_integer(r->config, "load.max_concurrency")));
    set(to, "duration", m->length_s);
    json_object_set_new(to, "completed", json_integer(m->requests.completed));
    json_object_set_new(to, "failed", json_integer((json_int_t)m->requests.failed + m->requests.refused));
    json_object_set_new(to, "total_input_tokens", json_integer((json_int_t)prompt_tokens(&r->records[0])));
    json_object_set_new(to, "total_output_tokens",
                        json_integer((json_int_t)llround(m->throughput.output.value * m->length_s)));
    set(to, "request_throughput", m->throughput.requests.value);
    set(to, "request_goodput", m->throughput.goodput);
    set(to, "output_throughput", m->throughput.output.value);
    set(to, "total_token_throughput", m->throughput.output.value + m->throughput.input.value);
    set(to, "max_output_tokens_per_s", m->throughput.peak_output);
    set_latency(to, m, "ttft", &m->ttft);
    set_latency(to, m, "tpot", &m->tpot);
    set_latency(to, m, "itl", &m->itl);
    set_latency(to, m, "e2el", &m->e2el);
    const bool ok = json_dumpf(to, out, JSON_INDENT(2) | JSON_REAL_PRECISION(9)) == 0 && fputc('\n', out) != EOF;
    json_decref(to);
    return ok;
}
