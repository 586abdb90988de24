/* The numbers of a report, from the records of a run. docs/BENCHMARKING.md defines each; the formulas stand beside
 * their fields here.
 *
 *   a due   q submitted   s first planned   p prompt computed   t_k token k   f = t_1   e = last token */
#ifndef QR_BENCH_METRICS_H
#define QR_BENCH_METRICS_H

#include "bench/common/statistics.h"
#include "bench/run/run.h"

/* A rate with its 95 % interval from batch means (10 batches of the window). */
typedef struct qr_rate {
    double value, low, high;
} qr_rate;

typedef struct qr_slo {
    double ttft_ms, tpot_ms, e2el_ms, itl_p99_ms; /* 0 = not asked for */
} qr_slo;

typedef struct qr_metrics {
    double   percentiles[QR_MAX_PERCENTILES]; /* as asked for, 0..100 */
    size_t   percentile_count;
    uint32_t tenants;                         /* of the workload */
    double   length_s, warmup_s, saturated_s; /* saturated: part of an offline run with requests waiting; < 0: n/a */
    struct {
        uint32_t due, completed, failed, refused, cancelled, truncated, preempted, skipped, shortened, verified,
            verify_failed;
    } requests;
    struct {
        qr_rate requests;                                      /* ended in the window / its length */
        qr_rate output;                                        /* tokens emitted in the window / its length */
        qr_rate input;                                         /* prompt and encoder tokens computed / length */
        double  cached;                                        /* prompt tokens found in the prefix cache / length */
        double  goodput, token_goodput, peak_output, per_user; /* per_user = 1 / mean tpot */
        double  saturated_output;                              /* output tokens/s while requests waited; NAN: n/a */
    } throughput;
    qr_summary ttft, ttft_service, queue, itl, tpot, ntpot, e2el; /* ms */
    qr_slo     slo;
    double     attainment, attainment_ttft, attainment_tpot, attainment_e2el, attainment_itl; /* NAN: not asked */
    struct {
        uint64_t count;
        double   busy_share, kv_usage_mean, kv_usage_max, batch_fill, prefix_hit_share, contiguous_run_bytes, imbalance;
        uint64_t preemptions, recomputed_tokens, encoder_runs, encoder_runs_saved, drafts, drafts_accepted;
        double   encoder_s, prefill_s, decode_s, idle_s; /* a step's time is shared by its rows of each kind; they add
                                                          * up to the window, where a step may end beyond it */
        double     busy_s;                               /* of the steps, whole */
        qr_summary rows, sequences, time_ms;
        double     wait_s[QUIRE_WAIT_REASONS];
        /* what steps were spent on, adding up to their time; encoder_stage_s: all work of the encoder's layers;
         * other_s: what no stage names */
        double projection_s, attention_s, logits_s, rowwise_s, encoder_stage_s, sampling_s, scheduler_s, barrier_s,
            network_s, other_s;
        double weight_bytes, kv_bytes, flops; /* sums over steps */
    } steps;
} qr_metrics;

/* [slo] of the configuration, the preset included. */
void qr_slo_read(const quire_config *config, qr_slo *slo_out);
bool qr_slo_is_given(const qr_slo *slo); /* any of them */

/* Ended well and within all limits. */
bool qr_slo_is_met(const qr_slo *slo, const qr_run_request *request);

/* Percentiles and SLOs from the configuration; the window from the run. ERR_NO_MEMORY. */
quire_status qr_metrics_compute(const qr_run *run, const quire_config *config, const qr_workload *workload,
                                qr_metrics *metrics_out, quire_error *error);

#endif
