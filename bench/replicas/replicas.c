/* The next thing that happens is an arrival or the end of a step, whichever comes first. The steps under way are a heap
 * by their end; what happens at one moment happens in the order arrivals, ends, beginnings. */
#include "bench/replicas/replicas.h"

#include <stdlib.h>

#include "base/clock.h"
#include "base/error.h"
#include "bench/run/simulated.h"

/* START_NS: events have no time 0. */
enum { START_NS = 1000000000, CACHE_EVENTS = 64, EVENTS = 64 };

typedef struct arrival {
    uint64_t due_ns;
    uint32_t row, copy;
} arrival;

typedef struct replica {
    quire_planner    *planner;
    const quire_plan *plan; /* under way, or NULL */
    uint64_t          end_ns, busy_ns, requests;
    bool              is_woken; /* it is in the list */
} replica;

typedef struct life { /* of a request */
    uint64_t due_ns, first_ns;
    uint32_t tokens;
} life;

typedef struct fleet {
    const qr_replicas_options *options;
    qr_workload               *workload;
    qr_workload_request       *rows; /* [row_count] of one copy */
    uint32_t                   row_count;
    arrival                   *arrivals; /* [request_count] by time */
    life                      *lives;    /* [request_count] */
    double                    *ttft, *tpot;
    uint64_t                   request_count, ttft_count, tpot_count;
    replica                   *replicas; /* [count] */
    uint32_t                  *load;     /* [count] requests not ended */
    uint32_t                  *heap;     /* [heap_count] replicas with a step under way, the first to end first */
    uint32_t                  *woken;    /* [woken_count] replicas that may have something to begin, each once */
    uint32_t                   heap_count, woken_count;
    int32_t                   *prompt;
    int32_t                   *cache_tokens; /* [CACHE_EVENTS][block_size] */
    qr_prefix_map              map;
    qr_router                  router;
    quire_kv_pool              pool;
    qr_cost_report             cost;
    qr_cost_noise              noise;
    qr_simulated_tokens        tokens;
    uint64_t                   now_ns;
    qr_replicas_result        *result;
} fleet;

/* ---- arrivals ---- */

static int by_time(const void *left, const void *right)
{
    const arrival *a = left, *b = right;
    if (a->due_ns != b->due_ns) return a->due_ns < b->due_ns ? -1 : 1;
    if (a->copy != b->copy) return a->copy < b->copy ? -1 : 1;
    return a->row < b->row ? -1 : a->row > b->row;
}

/* The time from the first arrival to the next round, were there one. */
static uint64_t span_of(const fleet *f)
{
    const uint64_t last = f->rows[f->row_count - 1].due_ns;
    return last + last / f->row_count + 1;
}

static void place_arrivals(fleet *f)
{
    const uint64_t span  = span_of(f);
    const uint32_t count = f->options->count;
    uint64_t       at    = 0;
    for (uint32_t copy = 0; copy < count; copy++) {
        const uint64_t shift = (uint64_t)((double)span / count * copy);
        for (uint32_t row = 0; row < f->row_count; row++)
            f->arrivals[at++] = (arrival){START_NS + (f->rows[row].due_ns + shift) % span, row, copy};
    }
    qsort(f->arrivals, f->request_count, sizeof *f->arrivals, by_time);
}

static quire_status check_workload(const fleet *f, quire_error *error)
{
    if (qr_workload_is_closed(f->workload) || qr_workload_is_offline(f->workload) ||
        qr_workload_count(f->workload) == UINT32_MAX)
        return qr_fail(error, QUIRE_ERR_INVALID,
                       "replicas: the workload needs arrivals of its own and an end: a trace, or load.request_rate and "
                       "workload.num_prompts");
    if (f->options->model->encoder_layers > 0 || qr_workload_sequences(f->workload) > 1)
        return qr_fail(error, QUIRE_ERR_INVALID,
                       "replicas: requests are of decoders and have one sequence each; neither encoders nor workload.n "
                       "above 1 are simulated here");
    return QUIRE_OK;
}

static quire_status draw_rows(fleet *f, quire_error *error)
{
    const quire_config *config = f->options->config;
    quire_stats         stats  = {.size = sizeof stats};
    quire_planner_stats(f->replicas[0].planner, &stats);
    QR_TRY(qr_workload_create(config, f->options->model, stats.max_model_len,
                              (uint64_t)quire_config_integer(config, "workload.seed"), &f->workload, error));
    QR_TRY(check_workload(f, error));
    f->row_count     = qr_workload_count(f->workload);
    f->request_count = (uint64_t)f->row_count * f->options->count;
    f->rows          = calloc(f->row_count, sizeof *f->rows);
    f->arrivals      = calloc(f->request_count, sizeof *f->arrivals);
    f->lives         = calloc(f->request_count, sizeof *f->lives);
    f->ttft          = calloc(f->request_count, sizeof *f->ttft);
    f->tpot          = calloc(f->request_count, sizeof *f->tpot);
    f->prompt        = calloc(stats.max_model_len + 1u, sizeof *f->prompt);
    f->cache_tokens  = calloc((size_t)CACHE_EVENTS * f->pool.block_size, sizeof *f->cache_tokens);
    if (!f->rows || !f->arrivals || !f->lives || !f->ttft || !f->tpot || !f->prompt || !f->cache_tokens)
        return qr_fail(error, QUIRE_ERR_NO_MEMORY, "replicas: out of memory for %llu requests",
                       (unsigned long long)f->request_count);
    for (uint32_t i = 0; i < f->row_count; i++) qr_workload_next(f->workload, &f->rows[i]);
    place_arrivals(f);
    return QUIRE_OK;
}

/* Equal blocks of two copies are different ones: all tokens of a copy are shifted by its number. */
static void make_request(fleet *f, const arrival *from, uint64_t index, quire_request *request_out)
{
    const qr_workload_request *shape = &f->rows[from->row];
    const uint32_t             vocab = f->options->model->vocab_size;
    qr_workload_fill(f->workload, shape, request_out);
    qr_workload_prompt(f->workload, shape, f->prompt);
    for (uint32_t i = 0; i < request_out->prompt_count; i++)
        f->prompt[i] = (int32_t)(((uint32_t)f->prompt[i] + from->copy) % vocab);
    request_out->prompt    = f->prompt;
    request_out->user_data = (void *)(uintptr_t)index;
}

/* ---- the heap of steps under way ---- */

static bool ends_before(const fleet *f, uint32_t a, uint32_t b)
{
    const uint64_t left = f->replicas[a].end_ns, right = f->replicas[b].end_ns;
    return left != right ? left < right : a < b;
}

static void push_step(fleet *f, uint32_t r)
{
    uint32_t at = f->heap_count++;
    for (; at > 0 && ends_before(f, r, f->heap[(at - 1) / 2]); at = (at - 1) / 2) f->heap[at] = f->heap[(at - 1) / 2];
    f->heap[at] = r;
}

static uint32_t pop_step(fleet *f)
{
    const uint32_t first = f->heap[0], last = f->heap[--f->heap_count];
    uint32_t       at = 0, child;
    while ((child = 2 * at + 1) < f->heap_count) {
        if (child + 1 < f->heap_count && ends_before(f, f->heap[child + 1], f->heap[child])) child++;
        if (!ends_before(f, f->heap[child], last)) break;
        f->heap[at] = f->heap[child];
        at          = child;
    }
    f->heap[at] = last;
    return first;
}

/* ---- what happens ---- */

static void take_event(fleet *f, uint32_t r, const quire_event *event)
{
    const uint64_t index = (uint64_t)(uintptr_t)event->user_data;
    life          *of    = &f->lives[index];
    if (event->kind == QUIRE_EVENT_TOKEN) {
        if (of->tokens++ == 0) {
            of->first_ns             = event->time_ns;
            f->ttft[f->ttft_count++] = (double)(event->time_ns - of->due_ns) * 1e-9;
        }
        return;
    }
    if (of->tokens > 1) f->tpot[f->tpot_count++] = (double)(event->time_ns - of->first_ns) * 1e-9 / (of->tokens - 1);
    f->load[r] -= event->last;
}

static void take_events(fleet *f, uint32_t r)
{
    quire_event events[EVENTS];
    size_t      count;
    while ((count = quire_planner_poll(f->replicas[r].planner, events, EVENTS)) > 0)
        for (size_t i = 0; i < count; i++) take_event(f, r, &events[i]);
}

static quire_status take_cache_events(fleet *f, uint32_t r)
{
    quire_cache_event events[CACHE_EVENTS];
    size_t            count = CACHE_EVENTS;
    while (count == CACHE_EVENTS) {
        count = quire_planner_poll_cache_events(f->replicas[r].planner, events, f->cache_tokens, CACHE_EVENTS);
        for (size_t i = 0; i < count; i++)
            QR_TRY(qr_prefix_map_apply(&f->map, r, &events[i], f->cache_tokens + i * f->pool.block_size));
    }
    return QUIRE_OK;
}

static void wake(fleet *f, uint32_t r)
{
    if (f->replicas[r].is_woken) return;
    f->replicas[r].is_woken    = true;
    f->woken[f->woken_count++] = r;
}

static quire_status arrive(fleet *f, uint64_t index)
{
    const arrival   *from = &f->arrivals[index];
    quire_request    request;
    quire_request_id id;
    make_request(f, from, index, &request);
    const uint32_t r       = qr_router_choose(&f->router, f->prompt, request.prompt_count);
    replica       *to      = &f->replicas[r];
    f->lives[index].due_ns = from->due_ns;
    to->requests++;
    const quire_status status = quire_planner_submit(to->planner, &request, f->now_ns, &id, NULL);
    f->result->refused += status == QUIRE_ERR_FULL;
    if (status == QUIRE_ERR_FULL) return QUIRE_OK;
    QR_TRY(status);
    f->load[r]++;
    wake(f, r);
    return QUIRE_OK;
}

static quire_status end_step(fleet *f, uint32_t r)
{
    replica *of = &f->replicas[r];
    QR_TRY(qr_simulated_sample(&f->tokens, of->plan, f->options->model->vocab_size));
    QR_TRY(quire_planner_commit(of->planner, f->tokens.sampled, of->plan->sample_count, f->now_ns, NULL));
    of->plan = NULL;
    take_events(f, r);
    wake(f, r);
    return f->options->routing == QR_ROUTING_PREFIX ? take_cache_events(f, r) : QUIRE_OK;
}

static quire_status begin_step(fleet *f, uint32_t r)
{
    replica *of  = &f->replicas[r];
    of->is_woken = false;
    if (of->plan != NULL || f->load[r] == 0) return QUIRE_OK;
    QR_TRY(quire_planner_plan(of->planner, f->now_ns, &of->plan, NULL));
    if (of->plan->rows == 0) {
        of->plan = NULL;
        return QUIRE_OK;
    }
    const uint64_t ns = qr_simulated_step_ns(&f->cost, &f->noise, of->plan);
    of->end_ns        = f->now_ns + ns;
    of->busy_ns += ns;
    push_step(f, r);
    return QUIRE_OK;
}

static uint64_t first_end(const fleet *f) { return f->heap_count > 0 ? f->replicas[f->heap[0]].end_ns : UINT64_MAX; }

static quire_status play(fleet *f)
{
    for (uint64_t next = 0; next < f->request_count || f->heap_count > 0;) {
        const uint64_t due = next < f->request_count ? f->arrivals[next].due_ns : UINT64_MAX, end = first_end(f);
        f->now_ns      = due < end ? due : end;
        f->woken_count = 0;
        while (next < f->request_count && f->arrivals[next].due_ns == f->now_ns) QR_TRY(arrive(f, next++));
        while (first_end(f) == f->now_ns) QR_TRY(end_step(f, pop_step(f)));
        for (uint32_t i = 0; i < f->woken_count; i++) QR_TRY(begin_step(f, f->woken[i]));
    }
    return QUIRE_OK;
}

static quire_status play_all(fleet *f, quire_error *error)
{
    const quire_status status = play(f);
    uint64_t           left   = 0;
    if (status != QUIRE_OK) return qr_fail(error, status, "replicas: the run stopped: %s", quire_status_text(status));
    for (uint32_t i = 0; i < f->options->count; i++) left += f->load[i];
    if (left == 0) return QUIRE_OK;
    return qr_fail(error, QUIRE_ERR_EXECUTION, "replicas: %llu requests can never run", (unsigned long long)left);
}

/* ---- beginning and end ---- */

static quire_status create_replicas(fleet *f, quire_error *error)
{
    const qr_replicas_options *o = f->options;
    f->replicas                  = calloc(o->count, sizeof *f->replicas);
    f->load                      = calloc(o->count, sizeof *f->load);
    f->heap                      = calloc(o->count, sizeof *f->heap);
    f->woken                     = calloc(o->count, sizeof *f->woken);
    if (!f->replicas || !f->load || !f->heap || !f->woken)
        return qr_fail(error, QUIRE_ERR_NO_MEMORY, "replicas: out of memory");
    const bool wants_events = o->routing == QR_ROUTING_PREFIX;
    for (uint32_t i = 0; i < o->count; i++)
        QR_TRY(qr_simulated_planner(o->config, o->model, &f->pool, wants_events, &f->replicas[i].planner, error));
    return QUIRE_OK;
}

static quire_status prepare(fleet *f, quire_error *error)
{
    const qr_replicas_options *o = f->options;
    QR_TRY(qr_simulated_cost(o->config, &f->cost, &f->noise, error));
    QR_TRY(qr_simulated_pool(o->config, o->model, &f->pool, error));
    QR_TRY(create_replicas(f, error));
    QR_TRY(draw_rows(f, error));
    const uint64_t blocks = o->routing == QR_ROUTING_PREFIX ? (uint64_t)f->pool.num_blocks * o->count : 0;
    if (qr_prefix_map_init(&f->map, blocks, f->pool.block_size) != QUIRE_OK)
        return qr_fail(error, QUIRE_ERR_NO_MEMORY, "replicas: out of memory for the router");
    f->router = (qr_router){.routing = o->routing,
                            .count   = o->count,
                            .slack   = o->slack,
                            .load    = f->load,
                            .map     = &f->map,
                            .seed    = (uint64_t)quire_config_integer(o->config, "workload.seed")};
    return QUIRE_OK;
}

static void add_replica(fleet *f, const replica *of, quire_stats *stats)
{
    qr_replicas_result *to = f->result;
    *stats                 = (quire_stats){.size = sizeof *stats};
    quire_planner_stats(of->planner, stats);
    to->prompt_tokens += stats->prefix_queries;
    to->cached_tokens += stats->prefix_hits;
    to->output_tokens += stats->tokens_output;
    to->preemptions += stats->preemptions;
    to->hash = to->hash * 31 + stats->decision_hash;
    to->busy_share += (double)of->busy_ns * 1e-9;
    if ((double)of->requests > to->most_requests) to->most_requests = (double)of->requests;
}

static void summarise(fleet *f)
{
    static const double percentiles[QR_REPLICAS_PERCENTILES] = {50, 90, 99};
    qr_replicas_result *to                                   = f->result;
    const uint32_t      count                                = f->options->count;
    quire_stats         stats;
    to->requests     = f->request_count;
    to->length_s     = (double)(f->now_ns - START_NS) * 1e-9;
    to->steps        = f->cost.steps;
    to->extrapolated = f->cost.extrapolated;
    for (uint32_t i = 0; i < count; i++) add_replica(f, &f->replicas[i], &stats);
    to->busy_share /= to->length_s * count;
    to->most_requests /= f->row_count;
    qr_summary_of(f->ttft, f->ttft_count, percentiles, QR_REPLICAS_PERCENTILES, &to->ttft);
    qr_summary_of(f->tpot, f->tpot_count, percentiles, QR_REPLICAS_PERCENTILES, &to->tpot);
}

static void deinit(fleet *f)
{
    for (uint32_t i = 0; f->replicas != NULL && i < f->options->count; i++)
        quire_planner_destroy(f->replicas[i].planner);
    qr_workload_destroy(f->workload);
    qr_cost_noise_deinit(&f->noise);
    qr_prefix_map_deinit(&f->map);
    void *const all[] = {f->rows, f->arrivals, f->lives, f->ttft,   f->tpot,         f->replicas,
                         f->load, f->heap,     f->woken, f->prompt, f->cache_tokens, f->tokens.sampled};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
}

quire_status qr_replicas_run(const qr_replicas_options *options, qr_replicas_result *result_out, quire_error *error)
{
    fleet          f     = {.options = options, .now_ns = START_NS, .result = result_out};
    const uint64_t begun = qr_now_ns();
    *result_out          = (qr_replicas_result){0};
    quire_status status  = prepare(&f, error);
    if (status == QUIRE_OK) status = play_all(&f, error);
    if (status == QUIRE_OK) summarise(&f);
    result_out->wall_s = (double)(qr_now_ns() - begun) * 1e-9;
    deinit(&f);
    return status;
}
