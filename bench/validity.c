/* Is this number one to believe? Each check has a value, what it needs, and what to change. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/result.h"

static void check(qr_result *result, const char *id, bool ok, bool invalid, double value, const char *need,
                  const char *hint)
{
    if (result->check_count == QR_MAX_CHECKS) return;
    qr_check *to = &result->checks[result->check_count++];
    *to          = (qr_check){.id = id, .ok = ok, .invalid = invalid, .value = value};
    snprintf(to->need, sizeof to->need, "%s", need);
    snprintf(to->hint, sizeof to->hint, "%s", hint);
}

static void check_requests(qr_result *result, bool offline)
{
    double least = INFINITY, length = INFINITY;
    bool   long_enough = true;
    for (uint32_t i = 0; i < result->run_count; i++) {
        const qr_metrics *m = &result->runs[i];
        least               = fmin(least, m->requests.completed);
        length              = fmin(length, m->length_s);
        long_enough &= offline ? m->length_s >= 10 : m->e2el.n > 0 && m->length_s * 1e3 >= 10 * m->e2el.mean;
    }
    check(result, "requests", least >= (offline ? 32 : 100), true, least, offline ? ">= 32 ended" : ">= 100 ended",
          "raise workload.num_prompts or run.duration");
    check(result, "length", long_enough, true, length, offline ? ">= 10 s" : ">= 10 x mean e2el", "run longer");
}

static double generator_lag_p99_ms(const qr_run *run)
{
    double *lags = malloc((run->request_count + 1) * sizeof *lags), result = 0;
    size_t  count = 0;
    if (lags == NULL) return NAN;
    for (size_t i = 0; i < run->request_count; i++)
        if (run->requests[i].submit_ns >= 0)
            lags[count++] = (double)(run->requests[i].submit_ns - run->requests[i].due_ns) * 1e-6;
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
        allowed = fmax(1, 0.01 * result->runs[i].ttft.mean);
    }
    char need[48];
    snprintf(need, sizeof need, "P99 lag <= %.1f ms", allowed);
    check(result, "generator", worst <= allowed, true, worst, need,
          "the generator was late or the queue full: raise max_num_queued_reqs, or leave it a CPU");
}

static void check_outcomes(qr_result *result)
{
    double   failed = 0, due = 0, cut = 0, ended = 0;
    uint32_t verified = 0, wrong = 0;
    bool     steady = true;
    for (uint32_t i = 0; i < result->run_count; i++) {
        const qr_metrics *m = &result->runs[i];
        failed += m->requests.failed + m->requests.refused;
        due += m->requests.due;
        cut += m->requests.cut;
        ended += m->requests.completed;
        verified += m->requests.verified;
        wrong += m->requests.verify_failed;
        steady &= result->records[i].steady;
    }
    check(result, "failures", failed <= 0.001 * due, true, failed, "<= 0.1 % of due", "see status in .requests.jsonl");
    if (!result->is_virtual)
        check(result, "verified", wrong == 0 && (verified > 0 || !result->engine.batch_invariant), true,
              (double)verified - wrong, "all chosen requests equal when decoded alone",
              wrong ? "tokens differ: please report" : "run.verify_fraction is 0, or no request ended");
    check(result, "steady", steady, true, steady, "steady before the window", "raise run.warmup.max");
    check(result, "cut", cut <= 0.1 * (ended + cut), false, cut, "<= 10 % of requests", "run longer");
}

/* Virtual clock: are the steps of a kind that the cost model was fitted to? */
static void check_cost_model(qr_result *result)
{
    const double steps = result->cost.steps ? (double)result->cost.steps : 1;
    const double share = 100 * (double)result->cost.extrapolated / steps;
    check(result, "cost_model", share <= 10, false, share, "<= 10 % of steps extrapolated",
          "fit a log of larger batches");
}

static void check_limits(qr_result *result)
{
    double low = INFINITY, high = 0;
    for (uint32_t i = 0; i < result->limit_count; i++) {
        low  = fmin(low, result->limits[i].read_gbs);
        high = fmax(high, result->limits[i].read_gbs);
    }
    if (result->limit_count < 2) return;
    check(result, "limits", high <= 1.15 * low, false, high / low, "max / min bandwidth <= 1.15",
          "the machine's speed moved, or others use it: fractions of the limit are rough");
}

void qr_result_validate(qr_result *result)
{
    const bool offline  = strcmp(result->profile, "throughput") == 0;
    result->check_count = 0;
    check_requests(result, offline);
    check_generator(result, offline);
    check_outcomes(result);
    if (result->is_virtual) check_cost_model(result);
    check_limits(result);
#if defined(__OPTIMIZE__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    const bool release = true;
#else
    const bool release = false;
#endif
    check(result, "build", release, true, release, "an optimised build without sanitizers", "use the release preset");
}

bool qr_result_is_valid(const qr_result *result)
{
    bool valid = !result->partial;
    for (uint32_t i = 0; i < result->check_count; i++) valid &= result->checks[i].ok || !result->checks[i].invalid;
    return valid;
}
