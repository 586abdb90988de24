/* What a step costs the scheduler: plan + commit per row and per submit, with a model that takes no time. The queue is
 * kept full, lengths and tokens are random, so that requests come and go in every step. The loads take turns in rounds,
 * medians over the rounds are printed. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "bench/micro/variants.h"

#include "base/bits.h"
#include "base/error.h"
#include "base/median.h"
#include "base/memory.h"
#include "base/rng.h"
#include "scheduler/scheduler.h"

enum { PROMPT_MAX = 216, PROMPT_MIN = 16, OUTPUT_MAX = 350, OUTPUT_MIN = 50, VOCAB = 32000, WARM_STEPS = 300 };

typedef struct load {
    uint32_t running, waiting, drafts;
    bool     prefix_caching, extents;
} load;

static const load loads[] = {
    {64, 1000, 0, true, true},    {64, 1000, 0, true, false},    {64, 1000, 4, true, true},
    {1000, 10000, 0, true, true}, {1000, 10000, 0, false, true}, {1000, 100000, 0, true, true},
};

enum { LOADS = sizeof loads / sizeof loads[0], ROUNDS_MAX = 101 };

typedef struct bench {
    const load    *load;
    qr_scheduler  *scheduler;
    quire_sampled *results;
    size_t         samples, resident_bytes; /* of memory that filling the queue made the process touch */
    uint32_t       live, target;
    uint64_t       id, now_ns;
    uint64_t       submits, submit_ns, steps, step_ns, rows; /* of the measured rounds */
    double         row_ns[ROUNDS_MAX];                       /* [rounds] */
    double         run_blocks;                               /* sum over the steps of their mean runs */
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
                                  .max_num_queued_tokens        = 1 << 30,
                                  .num_speculative_tokens       = l->drafts,
                                  .prompt_lookup_max            = 4,
                                  .num_blocks                   = l->running * 20,
                                  .block_size                   = 32,
                                  .node_count                   = 1,
                                  .enable_prefix_caching        = l->prefix_caching,
                                  .extents                      = l->extents,
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
                                   .ignore_eos   = true};
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
    uint32_t          count;
    uint64_t          start = thread_ns();
    const quire_plan *plan  = qr_scheduler_plan(b->scheduler, b->now_ns += 1000);
    b->step_ns += thread_ns() - start;
    b->rows += plan->rows;
    for (uint32_t i = 0; i < plan->sample_count; i++)
        b->results[i].token = (int32_t)qr_random_below(b->now_ns, 4, i, VOCAB);
    start = thread_ns();
    qr_scheduler_commit(b->scheduler, b->results, b->now_ns += 1000);
    b->step_ns += thread_ns() - start;
    b->steps++;
    quire_stats stats = {.size = sizeof stats};
    qr_scheduler_stats(b->scheduler, &stats);
    b->run_blocks += stats.contiguous_run_blocks;
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

/* Pages of this process in memory, in bytes. */
static size_t resident(void)
{
    unsigned long total = 0, pages = 0;
    FILE         *file = fopen("/proc/self/statm", "r");
    if (file == NULL) return 0;
    if (fscanf(file, "%lu %lu", &total, &pages) != 2) pages = 0;
    fclose(file);
    return pages * (size_t)sysconf(_SC_PAGESIZE);
}

static quire_status start(bench *b, const load *l, quire_error *error)
{
    const qr_scheduler_options options = options_for(l);
    *b = (bench){.load = l, .target = l->running + l->waiting, .samples = options.max_num_batched_tokens + l->running};
    QR_TRY(qr_scheduler_create(&options, &b->scheduler, error));
    b->results = qr_allocate(NULL, b->samples * sizeof *b->results, 64);
    if (b->results == NULL) return qr_fail(error, QUIRE_ERR_NO_MEMORY, "the results of %zu samples", b->samples);
    const size_t before = resident();
    while (b->live < b->target && submit(b)) {
    }
    b->resident_bytes = resident() - before;
    run_steps(b, WARM_STEPS);
    b->submits = b->submit_ns = b->steps = b->step_ns = b->rows = 0;
    b->run_blocks                                               = 0;
    return QUIRE_OK;
}

static void stop(bench *b)
{
    qr_scheduler_destroy(b->scheduler);
    qr_deallocate(NULL, b->results, b->samples * sizeof *b->results);
}

static void run_round(bench *b, unsigned round, unsigned steps)
{
    const uint64_t ns = b->step_ns, rows = b->rows;
    run_steps(b, steps);
    b->row_ns[round] = (double)(b->step_ns - ns) / (double)(b->rows - rows);
}

/* ---- the report ---- */

typedef struct figures {
    double step_s, row_s, submit_s, rows_per_step, run_blocks;
    double record_bytes; /* of a waiting request: its records, and what its prompt made the process touch */
    double most_bytes;   /* the same if every request were of max_model_len with full lists */
} figures;

static figures figures_of(bench *b, unsigned rounds)
{
    const double steps = (double)b->steps, records = b->target + (double)b->load->running;
    const double books  = (double)qr_scheduler_record_bytes(b->scheduler);
    const double row_ns = qr_median(b->row_ns, rounds);
    return (figures){.step_s        = row_ns * (double)b->rows / steps * 1e-9,
                     .row_s         = row_ns * 1e-9,
                     .submit_s      = b->submits ? (double)b->submit_ns / (double)b->submits * 1e-9 : 0,
                     .rows_per_step = (double)b->rows / steps,
                     .run_blocks    = b->run_blocks / steps,
                     .record_bytes  = books + (double)b->resident_bytes / b->target,
                     .most_bytes    = books + (double)qr_scheduler_reserved_bytes(b->scheduler) / records};
}

static void print_line(const load *l, const figures *f, FILE *out)
{
    fprintf(out, "%7u %8u %6u %6s %7s %9.0f %9.1f %7.0f %9.2f %8.2f %9.0f %9.0f\n", l->running, l->waiting, l->drafts,
            l->prefix_caching ? "on" : "off", l->extents ? "on" : "off", f->rows_per_step, f->step_s * 1e6,
            f->row_s * 1e9, f->submit_s * 1e6, f->run_blocks, f->record_bytes, f->most_bytes);
}

static json_t *variant_of(const load *l, const figures *f)
{
    json_t *params =
        json_pack("{s:I, s:I, s:I, s:b, s:b}", "running", (json_int_t)l->running, "waiting", (json_int_t)l->waiting,
                  "drafts", (json_int_t)l->drafts, "prefix_caching", l->prefix_caching, "extents", l->extents);
    return json_pack("{s:s, s:o, s:f, s:f, s:f, s:f, s:f, s:f, s:f}", "name", "plan + commit", "params", params,
                     "seconds", f->step_s, "seconds_per_row", f->row_s, "seconds_per_submit", f->submit_s, "rows",
                     f->rows_per_step, "contiguous_run_blocks", f->run_blocks, "waiting_request_bytes", f->record_bytes,
                     "waiting_request_bytes_most", f->most_bytes);
}

static quire_status print_json(const figures *f, uint32_t steps, FILE *out, quire_error *error)
{
    json_t *variants = json_array();
    for (size_t i = 0; i < LOADS; i++) json_array_append_new(variants, variant_of(&loads[i], &f[i]));
    json_t   *document = json_pack("{s:s, s:s, s:I, s:o}", "schema", "quire.kernel/1", "kernel", "scheduler", "steps",
                                   (json_int_t)steps, "variants", variants);
    const int failed   = document == NULL || json_dumpf(document, out, JSON_INDENT(2) | JSON_REAL_PRECISION(6)) != 0;
    json_decref(document);
    if (failed || fputc('\n', out) == EOF) return qr_fail(error, QUIRE_ERR_IO, "the report cannot be written");
    return QUIRE_OK;
}

static quire_status report(bench *benches, const qr_micro_options *options, FILE *out, quire_error *error)
{
    figures f[LOADS];
    for (size_t i = 0; i < LOADS; i++) f[i] = figures_of(&benches[i], options->rounds);
    if (options->json) return print_json(f, options->steps, out, error);
    fprintf(out, "%7s %8s %6s %6s %7s %9s %9s %7s %9s %8s %9s %9s\n", "running", "waiting", "drafts", "prefix",
            "extents", "rows/step", "us/step", "ns/row", "us/submit", "run", "B/waiting", "at most");
    for (size_t i = 0; i < LOADS; i++) print_line(&loads[i], &f[i], out);
    const size_t few = LOADS - 3, many = LOADS - 1;
    fprintf(out, "%u waiting against %u: %.3f times the time of a row\n", loads[many].waiting, loads[few].waiting,
            f[many].row_s / f[few].row_s);
    return QUIRE_OK;
}

static quire_status run(bench *benches, const qr_micro_options *options, FILE *out, quire_error *error)
{
    const uint32_t steps = qr_max_u32(1, options->steps / options->rounds);
    for (size_t i = 0; i < LOADS; i++) QR_TRY(start(&benches[i], &loads[i], error));
    for (unsigned round = 0; round < options->rounds; round++)
        for (size_t i = 0; i < LOADS; i++) run_round(&benches[round % 2 ? LOADS - 1 - i : i], round, steps);
    return report(benches, options, out, error);
}

int qr_micro_scheduler(const qr_micro_options *options, FILE *out)
{
    bench            benches[LOADS];
    qr_micro_options mine  = *options;
    quire_error      error = {0};
    mine.rounds            = qr_min_u32(mine.rounds ? mine.rounds : 15, ROUNDS_MAX);
    if (mine.steps == 0) mine.steps = 2000;
    memset(benches, 0, sizeof benches);
    const quire_status status = run(benches, &mine, out, &error);
    for (size_t i = 0; i < LOADS; i++) stop(&benches[i]);
    return qr_micro_status(status, &error);
}
