/* A scripted engine with known token times, played by the real runner: every metric equals the value computed by hand.
 * The quire_engine_* functions below take the place of the library's. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "bench/keys.h"
#include "bench/result/attribution.h"
#include "bench/result/metrics.h"

#define MS UINT64_C(1000000)

/* Request r: its first token comes `ttft` ms after submit, then one every `gap` ms, `tokens` in all. */
static const struct script {
    uint64_t ttft, gap;
    uint32_t tokens;
} script[] = {{100, 10, 11}, {200, 20, 6}, {50, 30, 1}, {400, 5, 21}};
enum { REQUESTS = sizeof script / sizeof *script };

struct quire_engine {
    int                 fd;
    uint32_t            submitted;
    uint64_t            submit_ns[64];
    uint32_t            sent[64]; /* events */
    quire_finish_detail detail;
};

static struct quire_engine engine;

quire_status quire_engine_submit(quire_engine *e, const quire_request *request, quire_request_id *id_out,
                                 quire_error *error)
{
    (void)error;
    assert_int_equal((uintptr_t)request->user_data, e->submitted % 64);
    e->submit_ns[e->submitted] = qr_now_ns();
    *id_out                    = ++e->submitted;
    return QUIRE_OK;
}

/* Hands out everything at once: the script's times lie in the future, only the records count. */
size_t quire_engine_poll(quire_engine *e, quire_event *events, size_t capacity)
{
    size_t count = 0;
    for (uint32_t r = 0; r < e->submitted; r++) {
        const struct script *s = &script[r % REQUESTS];
        for (; e->sent[r] <= s->tokens && count < capacity; e->sent[r]++) {
            const uint32_t k     = e->sent[r] < s->tokens ? e->sent[r] : s->tokens - 1;
            quire_event   *event = &events[count++];
            *event               = (quire_event){.request   = r + 1,
                                                 .user_data = (void *)(uintptr_t)r,
                                                 .time_ns   = e->submit_ns[r] + (s->ttft + k * s->gap) * MS,
                                                 .kind      = QUIRE_EVENT_TOKEN,
                                                 .index     = k};
            if (e->sent[r] < s->tokens) continue;
            e->detail.first_planned_ns = e->submit_ns[r] + s->ttft * MS / 2;
            event->kind                = QUIRE_EVENT_FINISHED;
            event->finish              = QUIRE_FINISH_LENGTH;
            event->last                = 1;
            event->detail              = &e->detail;
            e->sent[r]++;
            return count; /* one detail at a time */
        }
    }
    return count;
}

quire_status quire_engine_step(quire_engine *e, quire_step *step)
{
    (void)e;
    *step = (quire_step){0};
    return QUIRE_OK;
}

void quire_engine_stats(const quire_engine *e, quire_stats *stats)
{
    (void)e;
    stats->max_model_len = 256;
    stats->blocks        = 100;
}

const char *quire_wait_reason_name(quire_wait_reason reason) { return (void)reason, ""; }
size_t      quire_engine_stages(const quire_engine *e, uint32_t thread, quire_stage *stages, size_t capacity,
                                uint64_t *dropped_out)
{
    return (void)e, (void)thread, (void)stages, (void)capacity, *dropped_out = 0;
}
int          quire_engine_event_fd(const quire_engine *e) { return e->fd; }
void         quire_engine_flush_cache(quire_engine *e) { (void)e; }
quire_status quire_engine_cancel(quire_engine *e, quire_request_id id) { return (void)e, (void)id, QUIRE_OK; }

static quire_config *configuration(void)
{
    quire_config     *config;
    quire_error       error;
    const char *const settings[] = {"workload.num_prompts=4",  "run.verify_fraction=0", "output.progress=none",
                                    "output.percentiles=[50]", "slo.ttft=150",          "slo.tpot=15"};
    assert_int_equal(qr_bench_config_create(&config, &error), QUIRE_OK);
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++)
        assert_int_equal(quire_config_set(config, settings[i], "test", &error), QUIRE_OK);
    return config;
}

static void assert_close(double value, double expected, double tolerance)
{
    if (!(fabs(value - expected) <= tolerance)) fail_msg("%.6f is not %.6f", value, expected);
}

/* The engine hands out times before any step is recorded: all that is not generator or queue is the scheduler's. */
static void assert_latencies_are_split_without_remainder(const qr_run *run)
{
    qr_split split;
    for (size_t i = 0; i < run->request_count; i++) {
        const qr_run_request *r   = &run->requests[i];
        int64_t               sum = 0;
        qr_split_ttft(run, r, &split);
        for (int c = 0; c < QR_CAUSES; c++) sum += split.ns[c];
        assert_int_equal(sum, r->first_ns - r->due_ns);
        assert_int_equal(split.ns[QR_CAUSE_GENERATOR], r->submit_ns - r->due_ns);
        assert_int_equal(split.ns[QR_CAUSE_QUEUE], r->planned_ns - r->submit_ns);
    }
    for (size_t i = 0; i < run->gap_count; i++) {
        int64_t sum = 0;
        qr_split_gap(run, &run->gaps[i], &split);
        for (int c = 0; c < QR_CAUSES; c++) sum += split.ns[c];
        assert_int_equal(sum, run->gaps[i].gap_ns);
    }
}

static void every_metric_equals_the_hand_computed_value(void **state)
{
    (void)state;
    const quire_model_info model     = {.size = sizeof model, .vocab_size = 100, .decoder_start_token_id = -1};
    volatile int           interrupt = 0;
    quire_config          *config    = configuration();
    qr_workload           *workload;
    qr_run                 run;
    qr_metrics             m;
    quire_error            error;
    engine.fd = eventfd(1, 0);
    assert_int_equal(qr_workload_create(config, &model, 256, 1, &workload, &error), QUIRE_OK);
    const qr_run_options options = {.engine = &engine, .workload = workload, .config = config, .interrupt = &interrupt};
    assert_int_equal(qr_run_execute(&options, &run, &error), QUIRE_OK);
    run.window_end_ns = run.end_ns = 501 * (int64_t)MS + run.requests[3].submit_ns; /* the script's last token */
    assert_int_equal(qr_metrics_compute(&run, config, workload, &m, &error), QUIRE_OK);

    double lag = 0; /* ms between the due time, 0, and submit: mean over the requests */
    for (int i = 0; i < REQUESTS; i++) lag += (double)run.requests[i].submit_ns * 1e-6 / REQUESTS;
    assert_int_equal(m.requests.completed, 4);
    assert_int_equal(m.requests.due, 4);
    assert_close(m.ttft.mean, lag + (100 + 200 + 50 + 400) / 4.0, 0.1);
    assert_close(m.ttft_service.mean, (100 + 200 + 50 + 400) / 4.0, 0.1); /* submit_ns is taken just before the call */
    assert_close(m.queue.mean, lag + (100 + 200 + 50 + 400) / 8.0, 0.1);
    assert_int_equal(m.tpot.n, 3); /* one request has a single token */
    assert_close(m.tpot.mean, (10 + 20 + 5) / 3.0, 1e-9);
    assert_int_equal(m.itl.n, 10 + 5 + 20);
    assert_close(m.itl.mean, (10 * 10 + 5 * 20 + 20 * 5) / 35.0, 1e-9);
    assert_close(m.itl.p[0], 5, 1e-9);
    assert_close(m.itl.max, 20, 1e-9);
    assert_close(m.e2el.mean, lag + (200 + 300 + 50 + 500) / 4.0, 0.1);
    assert_close(m.throughput.output.value * m.length_s, 11 + 6 + 1 + 21, 1e-6);
    assert_close(m.throughput.requests.value * m.length_s, 4, 1e-6);
    assert_close(m.throughput.peak_output, 39, 0);
    assert_close(m.attainment_ttft, 0.5, 0);  /* 100 and 50 ms */
    assert_close(m.attainment_tpot, 0.75, 0); /* 10, 5, and none */
    assert_close(m.attainment, 0.5, 0);
    assert_close(m.throughput.token_goodput * m.length_s, 11 + 1, 1e-6);
    assert_latencies_are_split_without_remainder(&run);
    qr_run_deinit(&run);
    qr_workload_destroy(workload);
    quire_config_destroy(config);
    close(engine.fd);
}

static void percentiles_are_those_of_linear_interpolation(void **state)
{
    (void)state;
    double       values[1000];
    const double asked[] = {50, 90, 99, 99.9};
    qr_summary   s;
    for (int i = 0; i < 1000; i++) values[(i * 7) % 1000] = i + 1;
    qr_summary_of(values, 1000, asked, 4, &s);
    assert_close(s.mean, 500.5, 1e-9);
    assert_close(s.p[0], 500.5, 1e-9);
    assert_close(s.p[1], 900.1, 1e-9);
    assert_close(s.p[2], 990.01, 1e-9);
    assert_true(isnan(s.p[3]));       /* needs 10,000 samples */
    assert_close(s.low[0], 469, 1.5); /* ranks 500 -+ 1.96 sqrt(250) */
    assert_close(s.high[0], 532, 1.5);
    qr_summary_of(values, 5, asked, 1, &s); /* all five lie on one side of the median in 1 case of 16 */
    assert_true(!isnan(s.p[0]) && isnan(s.low[0]) && isnan(s.high[0]));
    qr_summary_of(values, 6, asked, 1, &s);
    assert_true(s.low[0] == values[0] && s.high[0] == values[5]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_metric_equals_the_hand_computed_value),
        cmocka_unit_test(percentiles_are_those_of_linear_interpolation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
