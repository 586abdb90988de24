/* Is this result valid? Each check has a value, what it needs, and what to change. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/result/roofline.h"

static void check(qr_result *result, const char *id, bool ok, bool invalid, double value, const char *unit,
                  const char *need, const char *hint)
{
    if (result->check_count == QR_MAX_CHECKS) return;
    qr_check *to = &result->checks[result->check_count++];
    *to          = (qr_check){.id = id, .ok = ok, .invalid = invalid, .value = value, .unit = unit};
    snprintf(to->need, sizeof to->need, "%s", need);
    snprintf(to->hint, sizeof to->hint, "%s", hint);
}

static double percent(double part, double of) { return of > 0 ? fmin(100, 100 * part / of) : 0; }

static double median_of(const qr_summary *summary, const qr_metrics *m)
{
    for (size_t i = 0; i < m->percentile_count; i++)
        if (m->percentiles[i] == 50 && isfinite(summary->p[i])) return summary->p[i];
    return summary->mean;
}

/* Where requests come faster than they are served, a longer run does not give what is missing. */
static const char *unless_overloaded(const qr_result *result, const char *hint)
{
    for (uint32_t i = 0; i < result->run_count; i++)
        if (result->records[i].overloaded)
            return result->records[i].stopped ? "overload ended the run early: see the check overload"
                                              : "see the check overload";
    return hint;
}

/* What limits the number of requests is to be raised. */
static const char *more_requests(const qr_result *result, double completed)
{
    if (quire_config_integer(result->config, "run.duration") == 0) return "raise workload.num_prompts";
    if (completed == 0) return "the window is shorter than a request takes: raise run.duration";
    return quire_config_integer(result->config, "workload.num_prompts") == 0
               ? "raise run.duration"
               : "raise run.duration, or workload.num_prompts";
}

static void check_requests(qr_result *result, bool offline)
{
    double least = INFINITY, length = INFINITY;
    bool   long_enough = true;
    for (uint32_t i = 0; i < result->run_count; i++) {
        const qr_metrics *m = &result->runs[i];
        least               = fmin(least, m->requests.completed);
        length              = fmin(length, m->length_s);
        long_enough &= offline ? m->length_s >= 10 : m->e2el.n > 0 && m->length_s * 1e3 >= 10 * median_of(&m->e2el, m);
    }
    check(result, "requests", least >= (offline ? 32 : 100), true, least, least == 1 ? "request" : "requests",
          offline ? ">= 32 ended" : ">= 100 ended", unless_overloaded(result, more_requests(result, least)));
    check(result, "length", long_enough, true, length, "s", offline ? ">= 10 s" : ">= 10 x median e2el",
          unless_overloaded(result, "run longer"));
}

/* Of the requests whose TTFT counts, which the lag is a part of. */
static double generator_lag_p99_ms(const qr_run *run)
{
    double *lags = malloc((run->request_count + 1) * sizeof *lags), result = 0;
    size_t  count = 0;
    if (lags == NULL) return NAN;
    for (size_t i = 0; i < run->request_count; i++) {
        const qr_run_request *r = &run->requests[i];
        if (r->first_ns >= 0 && r->first_ns >= run->window_start_ns && r->first_ns <= run->window_end_ns)
            lags[count++] = (double)(r->submit_ns - r->due_ns) * 1e-6;
    }
    qr_summary summary;
    qr_summary_of(lags, count, (const double[]){99}, 1, &summary);
    result = count == 0 ? 0 : qr_quantile(lags, count, 0.99);
    free(lags);
    return result;
}

static void check_generator(qr_result *result, bool offline)
{
    double worst = 0, allowed = 1;
    for (uint32_t i = 0; i < result->run_count && !offline; i++) {
        worst   = fmax(worst, generator_lag_p99_ms(&result->records[i]));
        allowed = fmax(1, 0.01 * median_of(&result->runs[i].ttft, &result->runs[i]));
    }
    char need[48];
    snprintf(need, sizeof need, "P99 lag <= %.1f ms", allowed);
    check(
        result, "generator", worst <= allowed, true, worst, "ms", need,
        unless_overloaded(result, result->is_remote
                                      ? "the load generator was late or run.target_connections in use: raise it, or "
                                        "run the server elsewhere"
                                      : "the load generator was late or the queue full: raise max_num_queued_reqs, or "
                                        "reserve a CPU for the generator"));
}

static const char *why_none_was_verified(const qr_result *result)
{
    double ended = 0;
    for (uint32_t i = 0; i < result->run_count; i++) {
        if (result->records[i].interrupted) return "the run was interrupted before any was verified";
        ended += result->runs[i].requests.completed;
    }
    return ended > 0 ? "run.verify_fraction is 0, or leaves out those that ended" : "no request ended";
}

/* A server's most frequent error. */
static const char *why_requests_failed(const qr_result *result)
{
    const qr_http_problem *worst = NULL;
    for (uint32_t i = 0; i < result->answers.problem_count && i < QR_HTTP_PROBLEMS - 1; i++) /* the last: all others */
        if (worst == NULL || result->answers.problems[i].count > worst->count) worst = &result->answers.problems[i];
    return worst != NULL ? worst->what : "see status in .requests.jsonl";
}

static void check_outcomes(qr_result *result)
{
    double   failed = 0, due = 0, truncated = 0, ended = 0;
    uint32_t verified = 0, wrong = 0;
    bool     steady = true;
    for (uint32_t i = 0; i < result->run_count; i++) {
        const qr_metrics *m = &result->runs[i];
        failed += m->requests.failed + m->requests.refused;
        due += m->requests.due;
        truncated += m->requests.truncated;
        ended += m->requests.completed;
        verified += m->requests.verified;
        wrong += m->requests.verify_failed;
        steady &= result->records[i].steady;
    }
    check(result, "failures", failed <= 0.001 * due, true, percent(failed, due), "%", "<= 0.1 % of due",
          why_requests_failed(result));
    if (!result->is_virtual && !result->is_remote)
        check(result, "verified", wrong == 0 && (verified > 0 || !result->engine.batch_invariant), true,
              (double)verified - wrong, verified - wrong == 1 ? "request" : "requests",
              "same tokens when decoded alone", wrong ? "tokens differ: please report" : why_none_was_verified(result));
    check(result, "steady", steady, true, steady, "", "steady before the window",
          unless_overloaded(result, "raise run.warmup.max"));
    check(result, "truncated", truncated <= 0.1 * (ended + truncated), false, percent(truncated, ended + truncated),
          "%", "<= 10 % of requests", unless_overloaded(result, "run longer"));
}

/* Virtual clock: does the cost model predict steps that it was not fitted to, and are the steps of their kind? */
static void check_cost_model(qr_result *result)
{
    const double median = 100 * result->cost.model.held_out.median, p90 = 100 * result->cost.model.held_out.p90;
    check(result, "cost_error", median <= 25, true, median, "%", "median error of the cost model <= 25 %",
          "fit the cost model to a longer log of an undisturbed run");
    check(result, "cost_error_p90", p90 <= 25, false, p90, "%", "P90 error of the cost model <= 25 %",
          "high percentiles may be off by as much: fit the cost model to a longer log of an undisturbed run");
    const double steps = result->cost.steps ? (double)result->cost.steps : 1;
    const double share = 100 * (double)result->cost.extrapolated / steps;
    check(result, "cost_model", share <= 10, false, share, "%", "<= 10 % of steps extrapolated",
          "fit the cost model to a log with larger batches");
}

/* Requests that ended well before they had the tokens asked for, though no end of sequence was to stop them. */
static double share_of_short_answers(const qr_result *result)
{
    double ended = 0, shorter = 0;
    for (uint32_t i = 0; i < result->run_count; i++)
        for (size_t q = 0; q < result->records[i].request_count; q++) {
            const qr_run_request *r = &result->records[i].requests[q];
            if (r->finish != QUIRE_FINISH_STOP && r->finish != QUIRE_FINISH_LENGTH) continue;
            ended++;
            shorter += r->output_tokens < r->shape.output_tokens;
        }
    return percent(shorter, ended);
}

/* Is what the client saw what the workload asked for, and are its chunks tokens? */
static void check_answers(qr_result *result)
{
    const qr_http_counts *a     = &result->answers;
    const double          shown = (double)(a->tokens - a->missing), chunks = a->chunks > 0 ? (double)a->chunks : 1;
    const double          miscounted = percent((double)(a->missing + a->excess), (double)a->tokens);
    const bool            ignores    = quire_config_boolean(result->config, "workload.ignore_eos") &&
                         strcmp(quire_config_string(result->config, "workload.source"), "file") != 0;
    check(result, "token_count", miscounted <= 1, false, miscounted, "%",
          "<= 1 % of tokens without a chunk of their own",
          "the usage has other counts than the stream: throughput is right, ITL is that of chunks");
    check(result, "chunks", shown / chunks <= 1.05, false, shown / chunks, "tokens per chunk", "<= 1.05",
          "tokens that come together have an ITL of 0 between them: compare TPOT");
    if (!ignores) return;
    const double shorter = share_of_short_answers(result);
    check(result, "lengths", shorter <= 1, false, shorter, "%", "<= 1 % of answers shorter than asked for",
          result->server.takes_extensions ? "the server does not heed ignore_eos: set workload.ignore_eos = false"
                                          : "the server does not take ignore_eos: set workload.ignore_eos = false");
}

static void check_limits(qr_result *result)
{
    const double spread = qr_limits_spread(result);
    if (result->limit_count < 2) return;
    check(result, "limits", spread <= QR_LIMITS_AGREE, false, spread, "highest / lowest bandwidth", "<= 1.15",
          "the machine's speed varied, or other processes ran: no fraction of the roofline is given");
}

static void check_overload(qr_result *result)
{
    uint32_t over = 0;
    for (uint32_t i = 0; i < result->run_count; i++) over += result->records[i].overloaded;
    check(result, "overload", over == 0, true, over, over == 1 ? "run" : "runs",
          "requests served as fast as they arrive",
          strcmp(result->profile, "replay") == 0
              ? "the queue kept growing, and the waits with it: raise workload.trace.time_scale"
              : "the queue kept growing, and the waits with it: lower load.request_rate");
}

/* Threads pinned, and their memory on their nodes; with topology.bind = "none" neither was asked for. The engine knows
 * which node each page is for; without it, of one node, pages count that are on any of the threads' nodes. */
static void check_placement(qr_result *result)
{
    const char *bind  = quire_config_string(result->config, "topology.bind");
    double      local = 1;
    bool        ok    = true;
    for (uint32_t i = 0; i < result->run_count; i++) {
        const qr_thread_placement *p = &result->records[i].placement;
        if (isfinite(p->memory_local)) local = fmin(local, p->memory_local);
        ok &= p->threads == 0 || p->pinned;
    }
    if (result->engine.numa_pages_checked > 0)
        local = 1 - (double)result->engine.numa_pages_misplaced / (double)result->engine.numa_pages_checked;
    if (bind != NULL && strcmp(bind, "none") == 0) ok = true;
    check(result, "placement", ok && local >= 0.99, true, 100 * local, "%", "threads pinned, >= 99 % of memory local",
          ok ? "memory is on other nodes: set numa.strict, or use numactl" : "pinning was refused: see the warnings");
}

double qr_contaminated_s(const qr_run *run)
{
    int64_t ns = 0;
    for (size_t i = 0; i < run->contaminated_count; i++) {
        const int64_t start = run->contaminated[i] * INT64_C(1000000000), end = start + 1000000000;
        const int64_t from = start > run->window_start_ns ? start : run->window_start_ns;
        const int64_t to   = end < run->window_end_ns ? end : run->window_end_ns;
        ns += to > from ? to - from : 0;
    }
    return (double)ns * 1e-9;
}

/* What was disturbed, how much, and what that does; "noise" has said it already where it fails. */
static void check_disturbance(qr_result *result, double others, double contaminated)
{
    const bool often = contaminated > 5; /* a tail may be the disturbance's */
    char       hint[sizeof result->checks->hint];
    if (others > QR_NOISE_INVALID_PERCENT)
        snprintf(hint, sizeof hint, "see the check noise");
    else if (often)
        snprintf(hint, sizeof hint,
                 "in these others ran, pages came from disk or the clock fell: tail latencies may be theirs");
    else
        snprintf(hint, sizeof hint, "throughput may be some %.0f %% low, and tail latencies longer", ceil(others));
    check(result, "disturbance", others <= QR_NOISE_LIMIT_PERCENT && !often, false, often ? contaminated : others, "%",
          often ? "<= 5 % of seconds contaminated" : "<= 2 % of the CPUs' time elsewhere", hint);
}

static void check_noise(qr_result *result)
{
    double   worst = 0, contaminated = 0;
    uint64_t throttled = 0;
    for (uint32_t i = 0; i < result->run_count; i++) {
        const qr_run  *run   = &result->records[i];
        const qr_noise noise = qr_noise_between(&run->noise_first, &run->noise_last);
        worst                = fmax(worst, 100 * qr_noise_share(&noise));
        contaminated         = fmax(contaminated, percent(qr_contaminated_s(run), result->runs[i].length_s));
        throttled += noise.throttled_periods;
    }
    check(result, "quota", throttled == 0, true, (double)throttled, "periods", "no throttled period of the cgroup",
          "raise the CPU quota, or lower topology.threads");
    check(result, "noise", worst <= QR_NOISE_INVALID_PERCENT, true, worst, "%", "<= 5 % of the CPUs' time elsewhere",
          "other processes or the hypervisor took time: stop them, or repeat");
    check_disturbance(result, worst, contaminated);
}

/* The highest percentile below the greatest sample needs the most samples: qr_summary_of() has the rule. */
static double highest_percentile(const qr_metrics *m)
{
    double highest = 0;
    for (size_t i = 0; i < m->percentile_count; i++)
        if (m->percentiles[i] < 100) highest = fmax(highest, m->percentiles[i]);
    return highest;
}

static void check_percentiles(qr_result *result)
{
    const double highest = highest_percentile(&result->runs[0]);
    uint32_t     missing = 0;
    char         need[48];
    for (uint32_t r = 0; r < result->run_count; r++) {
        const qr_metrics       *m    = &result->runs[r];
        const qr_summary *const of[] = {&m->ttft, &m->itl, &m->tpot, &m->e2el};
        for (size_t i = 0; i < sizeof of / sizeof *of; i++)
            for (size_t p = 0; p < m->percentile_count; p++)
                missing += m->percentiles[p] < 100 && of[i]->n > 0 && !isfinite(of[i]->p[p]);
    }
    if (highest > 50)
        snprintf(need, sizeof need, "%.0f samples for P%g", ceil(1000 / (100 - highest) * (1 - 1e-9)), highest);
    else
        snprintf(need, sizeof need, "a sample");
    check(result, "percentiles", missing == 0, false, missing, "omitted", need,
          unless_overloaded(result, "run longer"));
}

bool qr_build_is_release(void)
{
#if defined(__OPTIMIZE__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    return true;
#else
    return false;
#endif
}

void qr_result_validate(qr_result *result)
{
    const bool offline  = strcmp(result->profile, "throughput") == 0;
    result->check_count = 0;
    check_overload(result); /* first: it is why others fail */
    check_requests(result, offline);
    check_generator(result, offline);
    check_outcomes(result);
    check_percentiles(result);
    check_limits(result);
    if (result->is_virtual) { /* nothing was measured on this machine */
        check_cost_model(result);
        return;
    }
    if (result->is_remote)
        check_answers(result);
    else
        check_placement(result);
    check_noise(result);
    const bool release = qr_build_is_release();
    check(result, "build", release, true, release, "", "an optimised build without sanitizers",
          "use the release preset");
}

bool qr_result_is_valid(const qr_result *result)
{
    bool valid = !result->partial;
    for (uint32_t i = 0; i < result->check_count; i++) valid &= result->checks[i].ok || !result->checks[i].invalid;
    return valid;
}

void qr_result_destroy(qr_result *result)
{
    for (uint32_t i = 0; result != NULL && i < result->run_count; i++) qr_run_deinit(&result->records[i]);
    free(result);
}
