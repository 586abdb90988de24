/* What each tenant got. The index: Jain, Chiu, Hawe, "A Quantitative Measure of Fairness and Discrimination", 1984. */
#include "bench/result/fairness.h"

#include <math.h>
#include <stdlib.h>

#include "bench/common/array.h"

static bool in_window(const qr_run *run, int64_t t) { return t >= run->window_start_ns && t <= run->window_end_ns; }

static double ms(int64_t ns) { return (double)ns * 1e-6; }

/* Of one tenant; waits[2][request_count] is scratch. */
static void take_share(const qr_run *run, const qr_metrics *m, double *waits, qr_tenant_share *share)
{
    double  *firsts = waits + run->request_count;
    uint64_t n      = 0;
    for (size_t i = 0; i < run->request_count; i++) {
        const qr_run_request *r = &run->requests[i];
        if (r->shape.tenant != share->tenant) continue;
        share->due++;
        share->completed += r->finish == QUIRE_FINISH_LENGTH || r->finish == QUIRE_FINISH_STOP;
        if (in_window(run, r->end_ns)) share->output_tokens += r->output_tokens;
        if (r->first_ns < 0 || !in_window(run, r->first_ns) || r->planned_ns < 0) continue;
        waits[n]    = ms(r->planned_ns - r->due_ns);
        firsts[n++] = ms(r->first_ns - r->due_ns);
    }
    qr_summary_of(waits, n, m->percentiles, m->percentile_count, &share->queue);
    qr_summary_of(firsts, n, m->percentiles, m->percentile_count, &share->ttft);
}

static double jain(const qr_fairness *fairness)
{
    double sum = 0, squares = 0;
    for (uint32_t i = 0; i < fairness->count; i++) {
        const double x = (double)fairness->tenants[i].output_tokens;
        sum += x;
        squares += x * x;
    }
    return squares > 0 ? sum * sum / (fairness->count * squares) : NAN;
}

quire_status qr_fairness_of(const qr_run *run, const qr_metrics *metrics, qr_fairness *fairness_out)
{
    uint32_t most = 0;
    *fairness_out = (qr_fairness){.jain = NAN};
    double *waits = malloc((2 * run->request_count + 1) * sizeof *waits);
    if (waits == NULL) return QUIRE_ERR_NO_MEMORY;
    for (size_t i = 0; i < run->request_count; i++)
        if (run->requests[i].shape.tenant > most) most = run->requests[i].shape.tenant;
    bool ok = true;
    for (uint32_t t = 0; t <= most && ok; t++) {
        qr_tenant_share share = {.tenant = t};
        take_share(run, metrics, waits, &share);
        if (share.due > 0) ok = QR_ARRAY_PUSH(fairness_out->tenants, fairness_out->count, share);
    }
    free(waits);
    fairness_out->jain = jain(fairness_out);
    if (ok) return QUIRE_OK;
    qr_fairness_deinit(fairness_out);
    return QUIRE_ERR_NO_MEMORY;
}

void qr_fairness_deinit(qr_fairness *fairness)
{
    free(fairness->tenants);
    *fairness = (qr_fairness){0};
}
