/* Result files: the suffix chooses the format. */
#include "bench/report/result_file.h"

#include <string.h>

#include "base/error.h"
#include "bench/common/json_text.h"
#include "bench/common/whole_file.h"
#include "bench/result/result_json.h"

typedef bool writer(const qr_result *result, FILE *to);

bool qr_result_write_json(const qr_result *result, FILE *to)
{
    json_t    *object = qr_result_json(result);
    const bool ok     = object != NULL && qr_json_write(object, to);
    json_decref(object);
    return ok;
}

bool qr_result_log(const qr_result *result, qr_log_kind kind, qr_log_line_taker *take, void *context)
{
    for (uint32_t r = 0; r < result->run_count; r++) {
        const qr_run *run   = &result->records[r];
        const size_t  count = kind == QR_LOG_STEPS ? run->step_count : run->request_count;
        for (size_t i = 0; i < count; i++) {
            json_t    *line = kind == QR_LOG_STEPS ? qr_result_step_json(result, r, i) : qr_request_json(result, r, i);
            const bool ok   = line != NULL && take(context, line);
            json_decref(line);
            if (!ok) return false;
        }
    }
    return true;
}

static bool write_line(void *to, const json_t *line)
{
    return json_dumpf(line, to, JSON_COMPACT | JSON_REAL_PRECISION(9)) == 0 && fputc('\n', to) != EOF;
}

static bool write_requests(const qr_result *result, FILE *to)
{
    return qr_result_log(result, QR_LOG_REQUESTS, write_line, to);
}

static bool write_steps(const qr_result *result, FILE *to)
{
    return qr_result_log(result, QR_LOG_STEPS, write_line, to);
}

static bool write_csv(const qr_result *result, FILE *to)
{
    fprintf(to, "repetition,length_s,completed,request_throughput,output_throughput,input_throughput,mean_ttft_ms,"
                "mean_itl_ms,mean_tpot_ms,mean_e2el_ms,preemptions\n");
    for (uint32_t r = 0; r < result->run_count; r++) {
        const qr_metrics *m = &result->runs[r];
        fprintf(to, "%u,%.6g,%u,%.6g,%.6g,%.6g,%.6g,%.6g,%.6g,%.6g,", r, m->length_s, m->requests.completed,
                m->throughput.requests.value, m->throughput.output.value, m->throughput.input.value, m->ttft.mean,
                m->itl.mean, m->tpot.mean, m->e2el.mean);
        if (!result->is_remote) fprintf(to, "%llu", (unsigned long long)m->steps.preemptions);
        fputc('\n', to);
    }
    return !ferror(to);
}

static bool write_markdown(const qr_result *result, FILE *to)
{
    fprintf(
        to,
        "| model | weights | threads | load | output tok/s | input tok/s | mean TTFT ms | mean TPOT ms | verdict |\n"
        "|---|---|---:|---|---:|---:|---:|---:|---|\n");
    for (uint32_t r = 0; r < result->run_count; r++) {
        const qr_metrics *m           = &result->runs[r];
        char              threads[16] = "-";
        if (!result->is_remote) snprintf(threads, sizeof threads, "%u", result->engine.threads);
        fprintf(to, "| %s | %s | %s | %s | %.2f | %.2f | %.1f | %.2f | %s |\n", result->model.name,
                result->is_remote ? "-" : quire_dtype_name(result->model.weight_dtype), threads, result->profile,
                m->throughput.output.value, m->throughput.input.value, m->ttft.mean, m->tpot.mean,
                qr_result_is_valid(result) ? "VALID" : "INVALID");
    }
    return !ferror(to);
}

static bool write_prometheus(const qr_result *result, FILE *to)
{
    return result->prometheus != NULL && qr_prometheus_write(result->prometheus, to);
}

static const struct {
    const char *suffix;
    writer     *write;
} formats[] = {{".requests.jsonl", write_requests}, /* longer suffixes first */
               {".steps.jsonl", write_steps},
               {".trace.json.gz", qr_trace_events_write_gz},
               {".trace.json", qr_trace_events_write},
               {".vllm.json", qr_vllm_json_write},
               {".json", qr_result_write_json},
               {".html", qr_result_html},
               {".prom", write_prometheus},
               {".csv", write_csv},
               {".md", write_markdown}};

bool qr_result_has_suffix(const char *path, const char *suffix)
{
    const size_t length = strlen(path), tail = strlen(suffix);
    return length > tail && strcmp(path + length - tail, suffix) == 0;
}

bool qr_result_is_trace(const char *path)
{
    return qr_result_has_suffix(path, ".trace.json") || qr_result_has_suffix(path, ".trace.json.gz");
}

static writer *format_of(const char *path)
{
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
        if (qr_result_has_suffix(path, formats[i].suffix)) return formats[i].write;
    return NULL;
}

bool qr_result_knows_suffix(const char *path) { return strcmp(path, "-") == 0 || format_of(path) != NULL; }

typedef struct job {
    const qr_result *result;
    writer          *write;
} job;

static bool write_job(const void *what, FILE *to)
{
    const job *j = what;
    return j->write(j->result, to);
}

quire_status qr_result_write(const qr_result *result, const char *path, quire_error *error)
{
    const job to_do = {result, format_of(path)};
    if (to_do.write == NULL)
        return qr_fail(error, QUIRE_ERR_INVALID, "%s: the suffix is none of " QR_RESULT_SUFFIXES, path);
    return qr_file_write_whole(path, write_job, &to_do, error);
}
