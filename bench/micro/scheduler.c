/* What a step costs the scheduler: plan + commit per row and per submit, with a model that takes no time. The queue is
 * kept full, lengths and tokens are random, so that requests come and go in every step. */
#include "bench/micro/micro.h"

#include <stdlib.h>
#include <time.h>

#include "base/bits.h"
#include "base/error.h"
#include "base/memory.h"
#include "base/rng.h"
#include "scheduler/scheduler.h"

enum { PROMPT_MAX = 216, PROMPT_MIN = 16, OUTPUT_MAX = 350, OUTPUT_MIN = 50, VOCAB = 32000, WARM_STEPS = 300 };

typedef struct load {
    const char *name;
    uint32_t    running, waiting, drafts;
    bool        prefix_caching;
} load;

static const load loads[] = {
    {"64 running, 1,000 waiting", 64, 1000, 0, true},
    {"64 running, 1,000 waiting, 4 drafts", 64, 1000, 4, true},
    {"1,000 running, 10,000 waiting", 1000, 10000, 0, true},
    {"1,000 running, 10,000 waiting, no prefix cache", 1000, 10000, 0, false},
    {"1,000 running, 100,000 waiting", 1000, 100000, 0, true},
};

typedef struct bench {
    qr_scheduler     *scheduler;
    qr_sample_result *results;
    uint32_t          live, target;
    uint64_t          id, now_ns, submits, submit_ns, steps, step_ns, rows;
} bench;

/* The thread's own time: on a shared machine the clock on the wall measures the neighbours. */
static uint64_t thread_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static qr_scheduler_options options_for(const load *l)
{
    return (qr_scheduler_options){.max_num_seqs                 = l->running,
                                  .max_num_batched_tokens       = l->running + 512,
                                  .max_model_len                = 1024,
                                  .enable_chunked_prefill       = true,
                                  .long_prefill_token_threshold = 256,
                                  .max_num_partial_prefills     = 1,
                                  .max_long_partial_prefills    = 1,
                                  .scheduler_reserve_full_isl   = true,
                                  .watermark                    = 0.05f,
                                  .max_head_passes              = 8,
                                  .tenant_fairness              = true,
                                  .max_num_tenants              = 64,
                                  .max_num_queued_reqs          = l->waiting,
                                  .max_num_queued_tokens        = UINT32_MAX,
                                  .num_speculative_tokens       = l->drafts,
                                  .prompt_lookup_max            = 4,
                                  .num_blocks                   = l->running * 20,
                                  .block_size                   = 32,
                                  .node_count                   = 1,
                                  .enable_prefix_caching        = l->prefix_caching,
                                  .extents                      = true,
                                  .hash_seed                    = 1,
                                  .hash_bits                    = 64,
                                  .vocab_size                   = VOCAB};
}

static bool submit(bench *b)
{
    int32_t        prompt[PROMPT_MAX];
    const uint64_t id    = b->id + 1;
    const uint32_t count = PROMPT_MIN + qr_random_below(1, 1, id, PROMPT_MAX - PROMPT_MIN);
    for (uint32_t i = 0; i < count; i++) prompt[i] = (int32_t)qr_random_below(id, 2, i, VOCAB);
    const quire_request request = {.size         = sizeof request,
                                   .prompt       = prompt,
                                   .prompt_count = count,
                                   .max_tokens   = OUTPUT_MIN + qr_random_below(1, 3, id, OUTPUT_MAX - OUTPUT_MIN),
                                   .ignore_eos   = 1};
    const uint64_t      start   = thread_ns();
    const bool          queued  = qr_scheduler_submit(b->scheduler, &request, id, id, NULL) == QUIRE_OK;
    b->submit_ns += thread_ns() - start;
    b->submits += queued;
    b->live += queued;
    b->id += queued;
    return queued;
}

static void step(bench *b)
{
    uint32_t       count;
    uint64_t       start = thread_ns();
    const qr_plan *plan  = qr_scheduler_plan(b->scheduler, b->now_ns += 1000);
    b->step_ns += thread_ns() - start;
    b->rows += plan->rows;
    for (uint32_t i = 0; i < plan->sample_count; i++)
        b->results[i].token = (int32_t)qr_random_below(b->now_ns, 4, i, VOCAB);
    start = thread_ns();
    qr_scheduler_commit(b->scheduler, b->results, b->now_ns += 1000);
    b->step_ns += thread_ns() - start;
    b->steps++;
    const qr_scheduler_event *events = qr_scheduler_events(b->scheduler, &count);
    for (uint32_t i = 0; i < count; i++) b->live -= events[i].kind == QUIRE_EVENT_FINISHED;
    qr_scheduler_events_clear(b->scheduler);
}

static void run_steps(bench *b, unsigned steps)
{
    for (unsigned i = 0; i < steps; i++) {
        while (b->live < b->target && submit(b)) {
        }
        step(b);
    }
}

static void print_row(const bench *b, const load *l, FILE *out)
{
    const double steps = (double)b->steps, rows = (double)b->rows;
    fprintf(out, "%-48s %9.0f %9.1f %8.0f %9.2f %12.0f\n", l->name, rows / steps, (double)b->step_ns / steps / 1e3,
            (double)b->step_ns / rows, b->submits ? (double)b->submit_ns / (double)b->submits / 1e3 : 0,
            (double)qr_scheduler_bytes(b->scheduler) / (l->running + l->waiting));
}

static quire_status run_load(const load *l, unsigned steps, FILE *out, quire_error *error)
{
    const qr_scheduler_options options = options_for(l);
    const size_t               samples = options.max_num_batched_tokens + options.max_num_seqs;
    bench                      b       = {.target = l->running + l->waiting};
    QR_TRY(qr_scheduler_create(&options, &b.scheduler, error));
    b.results = qr_allocate(NULL, samples * sizeof *b.results, 64);
    if (b.results != NULL) {
        run_steps(&b, WARM_STEPS);
        b.submits = b.submit_ns = b.steps = b.step_ns = b.rows = 0;
        run_steps(&b, steps);
        print_row(&b, l, out);
    }
    qr_scheduler_destroy(b.scheduler);
    qr_deallocate(NULL, b.results, samples * sizeof *b.results);
    return b.results ? QUIRE_OK : qr_fail(error, QUIRE_ERR_NO_MEMORY, "the results of %zu samples", samples);
}

int qr_micro_scheduler(unsigned steps, FILE *out)
{
    quire_error error = {0};
    fprintf(out, "%-48s %9s %9s %8s %9s %12s\n", "plan + commit", "rows/step", "us/step", "ns/row", "us/submit",
            "bytes/record");
    for (size_t i = 0; i < sizeof loads / sizeof loads[0]; i++) {
        if (run_load(&loads[i], steps, out, &error) == QUIRE_OK) continue;
        fprintf(stderr, "quire kernel scheduler: %s\n", error.message);
        return 1;
    }
    return 0;
}
