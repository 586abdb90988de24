/* Writes trace events. The format: "Trace Event Format" (Google, 2016); times are microseconds.
 *
 *   process 1         the engine: thread 1 its steps, thread 2 the generator, thread 10 + t the team's thread t
 *   process 10 + c    requests of class c: one asynchronous life per request, its phases nested in it */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <zlib.h>

#include "bench/report/result_file.h"
#include "bench/result/result_json.h"
#include "bench/result/series.h"

enum { ENGINE = 1, STEPS = 1, GENERATOR = 2, FIRST_THREAD = 10, FIRST_CLASS = 10, MOST_CLASSES = 64 };

static const double run_gap_us = 1e6; /* between the repetitions */

typedef struct writer {
    const qr_result *result;
    FILE            *to;
    uint32_t         run_index;
    const qr_run    *run;
    double           offset_us; /* of the run */
    double           sample;    /* share of the requests */
    bool             any;
} writer;

static double time_of(const writer *w, int64_t ns) { return w->offset_us + (double)ns * 1e-3; }

/* `members`, which it takes over, stand behind those that every event has. */
static void event(writer *w, const char *kind, uint32_t process, double ts, json_t *members)
{
    fprintf(w->to, "%s\n{\"ph\":\"%s\",\"pid\":%u,\"ts\":%.3f,", w->any ? "," : "", kind, process, ts);
    json_dumpf(members, w->to, JSON_COMPACT | JSON_EMBED | JSON_REAL_PRECISION(9));
    fputc('}', w->to);
    json_decref(members);
    w->any = true;
}

static void metadata(writer *w, const char *kind, uint32_t process, int thread, const char *name)
{
    event(w, "M", process, 0, json_pack("{s:i, s:s, s:{s:s}}", "tid", thread, "name", kind, "args", "name", name));
}

/* `args`, which it takes over, may be NULL. */
static void slice(writer *w, int thread, const char *name, double ts, double length_us, json_t *args)
{
    event(w, "X", ENGINE, ts,
          json_pack("{s:i, s:f, s:s, s:o*}", "tid", thread, "dur", length_us, "name", name, "args", args));
}

static void counter(writer *w, const char *name, double ts, json_t *values)
{
    event(w, "C", ENGINE, ts, json_pack("{s:s, s:o}", "name", name, "args", values));
}

/* ---- steps ---- */

static uint64_t length_ns(const quire_step *s) { return s->plan_ns + s->forward_ns + s->sample_ns + s->commit_ns; }

static const char *kind_of(const quire_step *s)
{
    if (s->rows_encoder > 0) return "step with encoder";
    return s->rows_prompt > 0 ? "step with prefill" : "decode step";
}

static void phases(writer *w, const quire_step *s)
{
    const struct {
        const char *name;
        uint64_t    ns;
    } parts[] = {{"plan", s->plan_ns}, {"forward", s->forward_ns}, {"sample", s->sample_ns}, {"commit", s->commit_ns}};
    uint64_t at = s->start_ns;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; at += parts[i++].ns)
        slice(w, STEPS, parts[i].name, time_of(w, (int64_t)at), (double)parts[i].ns * 1e-3, NULL);
}

static void step_events(writer *w, const quire_step *s)
{
    const double start = time_of(w, (int64_t)s->start_ns), length_us = (double)length_ns(s) * 1e-3;
    slice(w, STEPS, kind_of(s), start, length_us,
          qr_result_step_json(w->result, w->run_index, (size_t)(s - w->run->steps)));
    phases(w, s);
    counter(w, "sequences", start + length_us,
            json_pack("{s:I, s:I}", "running", (json_int_t)s->running, "waiting", (json_int_t)s->waiting));
    counter(w, "KV blocks", start + length_us,
            json_pack("{s:I, s:I}", "used", (json_int_t)s->blocks_used, "cached", (json_int_t)s->blocks_cached));
    if (s->preempted > 0)
        event(w, "i", ENGINE, start,
              json_pack("{s:i, s:s, s:s, s:{s:I}}", "tid", STEPS, "s", "t", "name", "preempted", "args", "sequences",
                        (json_int_t)s->preempted));
}

static void stages(writer *w)
{
    static const char *const names[] = {"projection", "attention", "logits", "row-wise", "sampling", "network"};
    for (size_t i = 0; i < w->run->stage_count; i++) {
        const qr_run_stage *s      = &w->run->stages[i];
        const int           thread = FIRST_THREAD + (int)s->thread;
        char                name[32];
        snprintf(name, sizeof name, "%s%s", s->encoder ? "encoder " : "", names[s->kind]);
        slice(w, thread, name, time_of(w, s->start_ns), s->busy_ns * 1e-3, NULL);
        if (s->wait_ns > 0) slice(w, thread, "barrier", time_of(w, s->start_ns + s->busy_ns), s->wait_ns * 1e-3, NULL);
    }
}

static void rates(writer *w)
{
    static const char *const columns[][2] = {{"output_tokens", "output tokens/s"}, {"input_tokens", "input tokens/s"}};
    json_t                  *series       = qr_series_json(w->run), *value;
    const double             dt_us        = json_number_value(json_object_get(series, "dt_s")) * 1e6;
    size_t                   i;
    for (size_t c = 0; c < 2; c++)
        json_array_foreach(json_object_get(series, columns[c][0]), i, value)
            counter(w, columns[c][1], w->offset_us + (double)i * dt_us, json_pack("{s:O}", "tokens/s", value));
    json_decref(series);
}

/* ---- requests ---- */

/* Evenly: request i is in when the count of those chosen grows with it. */
static bool is_sampled(const writer *w, size_t i)
{
    return (uint64_t)((double)(i + 1) * w->sample) > (uint64_t)((double)i * w->sample);
}

static uint64_t id_of(const writer *w, size_t request) { return ((uint64_t)w->run_index << 32) + request + 1; }

static uint32_t process_of(const qr_run_request *r)
{
    return FIRST_CLASS + (r->shape.mix < MOST_CLASSES ? r->shape.mix : MOST_CLASSES - 1);
}

/* `args`, which it takes over, may be NULL. */
static void async(writer *w, const char *kind, const char *name, size_t request, int64_t ns, json_t *args)
{
    event(w, kind, process_of(&w->run->requests[request]), time_of(w, ns),
          json_pack("{s:i, s:s, s:o, s:s, s:o*}", "tid", 0, "cat", "request", "id",
                    json_sprintf("0x%llx", (unsigned long long)id_of(w, request)), "name", name, "args", args));
}

static void span(writer *w, const char *name, size_t request, int64_t from, int64_t to)
{
    async(w, "b", name, request, from, NULL);
    async(w, "e", name, request, to, NULL);
}

/* A part of a life that was planned, with the preemptions in it. */
static void phase(writer *w, const char *name, size_t request, int64_t from, int64_t to)
{
    const qr_preemption_interval *preempted = w->run->requests[request].preemption_intervals;
    async(w, "b", name, request, from, NULL);
    for (size_t i = 0; i < QUIRE_KEPT_PREEMPTIONS && preempted[i].to_ns > 0; i++) {
        const int64_t start = preempted[i].from_ns > from ? preempted[i].from_ns : from;
        const int64_t end   = preempted[i].to_ns < to ? preempted[i].to_ns : to;
        if (start < end) span(w, "preempted", request, start, end);
    }
    async(w, "e", name, request, to, NULL);
}

static int64_t end_of(const writer *w, const qr_run_request *r) { return r->end_ns >= 0 ? r->end_ns : w->run->end_ns; }

/* A phase lasts until the next that happened, or the end. */
static void life(writer *w, size_t i)
{
    const qr_run_request *r       = &w->run->requests[i];
    const int64_t         end     = end_of(w, r);
    const int64_t         first   = r->first_ns >= 0 ? r->first_ns : end;
    const int64_t         planned = r->planned_ns >= 0 ? r->planned_ns : first;
    char                  name[48];
    snprintf(name, sizeof name, "request %zu", i);
    async(w, "b", name, i, r->due_ns, qr_request_json(w->result, w->run_index, i));
    span(w, "queue", i, r->due_ns, planned);
    if (r->planned_ns >= 0)
        phase(w, r->shape.encoder_tokens > 0 ? "encoder and prefill" : "prefill", i, planned, first);
    if (r->first_ns >= 0) phase(w, "decode", i, first, end);
    async(w, "e", name, i, end, NULL);
}

/* The step that was under way at `ns`, or NULL. Steps are in order and do not overlap. */
static const quire_step *step_at(const qr_run *run, int64_t ns)
{
    size_t low = 0, high = run->step_count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if ((int64_t)run->steps[middle].start_ns <= ns)
            low = middle + 1;
        else
            high = middle;
    }
    return low > 0 ? &run->steps[low - 1] : NULL;
}

/* One arrow's end, bound to the slice around its time: a submit, or the step that was under way at `ns`. */
static void flow(writer *w, const char *kind, int thread, size_t request, int64_t ns)
{
    const quire_step *step = thread == STEPS ? step_at(w->run, ns) : NULL;
    if (thread == STEPS && step == NULL) return;
    event(w, kind, ENGINE, time_of(w, step ? (int64_t)step->start_ns : ns),
          json_pack("{s:i, s:s, s:s, s:I, s:s}", "tid", thread, "cat", "request", "name", "request", "id",
                    (json_int_t)id_of(w, request), "bp", "e"));
}

/* Submits have no length of their own; a microsecond can be seen, and does not reach into the next. */
static double submit_length_us(const qr_run *run, size_t i)
{
    const bool   last = i + 1 == run->request_count || run->requests[i + 1].submit_ns < 0;
    const double gap  = last ? 1 : (double)(run->requests[i + 1].submit_ns - run->requests[i].submit_ns) * 1e-3;
    return gap < 1 ? gap : 1;
}

static bool has_flow(const qr_run_request *r) { return r->submit_ns >= 0 && r->first_ns >= 0; }

static void open_flow(writer *w, size_t i)
{
    const qr_run_request *r = &w->run->requests[i];
    if (!has_flow(r)) return;
    slice(w, GENERATOR, "submit", time_of(w, r->submit_ns), submit_length_us(w->run, i),
          json_pack("{s:I, s:f}", "request", (json_int_t)i, "late_us", (double)(r->submit_ns - r->due_ns) * 1e-3));
    flow(w, "s", GENERATOR, i, r->submit_ns);
    if (r->planned_ns >= 0) flow(w, "t", STEPS, i, r->planned_ns);
}

/* The first token and each later one; the last ends the flow. */
static void token_flows(writer *w)
{
    const qr_run *run = w->run;
    for (size_t i = 0; i < run->request_count; i++)
        if (is_sampled(w, i) && has_flow(&run->requests[i])) flow(w, "t", STEPS, i, run->requests[i].first_ns);
    for (size_t g = 0; g < run->gap_count; g++) {
        const qr_run_gap *gap = &run->gaps[g];
        if (is_sampled(w, gap->request) && gap->end_ns < end_of(w, &run->requests[gap->request]))
            flow(w, "t", STEPS, gap->request, gap->end_ns);
    }
    for (size_t i = 0; i < run->request_count; i++)
        if (is_sampled(w, i) && has_flow(&run->requests[i])) flow(w, "f", STEPS, i, end_of(w, &run->requests[i]));
}

/* ---- the file ---- */

static void name_class(writer *w, uint32_t mix)
{
    char        key[48], name[96];
    const char *given;
    snprintf(key, sizeof key, "workload.mix[%u].name", mix);
    given = quire_config_string(w->result->config, key);
    if (given != NULL)
        snprintf(name, sizeof name, "requests: %.80s", given);
    else if (mix > 0)
        snprintf(name, sizeof name, "requests of class %u", mix);
    else
        snprintf(name, sizeof name, "requests");
    metadata(w, "process_name", FIRST_CLASS + mix, 0, name);
}

static void names(writer *w)
{
    bool seen[MOST_CLASSES] = {false};
    metadata(w, "process_name", ENGINE, 0, "engine");
    metadata(w, "thread_name", ENGINE, STEPS, "steps");
    metadata(w, "thread_name", ENGINE, GENERATOR, "generator");
    for (uint32_t thread = 0; thread < w->result->engine.threads; thread++) {
        char name[32];
        snprintf(name, sizeof name, "thread %u", thread);
        metadata(w, "thread_name", ENGINE, FIRST_THREAD + (int)thread, name);
    }
    for (uint32_t r = 0; r < w->result->run_count; r++)
        for (size_t i = 0; i < w->result->records[r].request_count; i++)
            seen[process_of(&w->result->records[r].requests[i]) - FIRST_CLASS] = true;
    for (uint32_t mix = 0; mix < MOST_CLASSES; mix++)
        if (seen[mix]) name_class(w, mix);
}

static void run_events(writer *w)
{
    for (size_t i = 0; i < w->run->step_count; i++) step_events(w, &w->run->steps[i]);
    stages(w);
    rates(w);
    for (size_t i = 0; i < w->run->request_count; i++) {
        if (!is_sampled(w, i)) continue;
        life(w, i);
        open_flow(w, i);
    }
    token_flows(w);
}

static uint64_t dropped(const qr_result *result)
{
    uint64_t count = 0;
    for (uint32_t r = 0; r < result->run_count; r++) count += result->records[r].stages_dropped;
    return count;
}

bool qr_trace_events_write(const qr_result *result, FILE *to)
{
    writer w = {.result = result, .to = to};
    w.sample = quire_config_number(result->config, "output.trace_sample");
    fprintf(to, "{\"displayTimeUnit\":\"ms\",\"otherData\":{\"stages_dropped\":%llu},\"traceEvents\":[",
            (unsigned long long)dropped(result));
    names(&w);
    for (; w.run_index < result->run_count; w.run_index++) {
        w.run = &result->records[w.run_index];
        run_events(&w);
        w.offset_us += (double)w.run->end_ns * 1e-3 + run_gap_us;
    }
    fputs("\n]}\n", to);
    return fflush(to) == 0 && !ferror(to);
}

static ssize_t compress_some(void *context, const char *bytes, size_t size)
{
    const int written = gzwrite(context, bytes, (unsigned)size);
    return written > 0 ? written : 0; /* 0: the stream fails */
}

bool qr_trace_events_write_gz(const qr_result *result, FILE *to)
{
    const int    own   = dup(fileno(to));
    const gzFile file  = own >= 0 ? gzdopen(own, "w") : NULL;
    FILE        *plain = file ? fopencookie(file, "w", (cookie_io_functions_t){.write = compress_some}) : NULL;
    bool         ok    = plain != NULL && qr_trace_events_write(result, plain);
    if (plain != NULL) ok &= fclose(plain) == 0;
    if (file != NULL) return gzclose(file) == Z_OK && ok;
    if (own >= 0) close(own);
    return false;
}
