/* quire generate: JSON Lines in, JSON Lines out.
 *
 * One thread reads and parses, another steps, polls and writes. The reader is ahead of the engine's queue by a bounded
 * amount, the engine of the writer by no more than one step, and memory is bounded by that and by [scheduler]
 * max_num_queued_*; a slow consumer of the output just slows the steps down. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/agree.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/printable.h"
#include "bench/session.h"
#include "cli/command.h"
#include "cli/inputs.h"
#include "cli/interrupt.h"
#include "cli/job.h"
#include "cli/job_reader.h"
#include "cli/mpirun.h"
#include "cli/output.h"
#include "cli/write.h"

enum { EVENTS_AT_ONCE = 256, IDLE_US = 200, IDLE_MS = 200, LOGITS_BUDGET = 64 << 20, PROGRESS_NS = 250000000 };

typedef struct generator {
    const quire_config *config;
    const quire_comm   *comm; /* of several ranks; NULL: alone */
    quire_model        *model;
    quire_engine       *engine;
    quire_model_info    info;
    qr_request_defaults defaults;
    int                 input, output;
    qr_job_reader      *reader;
    const char         *input_name, *output_name;
    qr_text             text;
    bool                by_arrival; /* pace = "arrival" */
    bool                ended;      /* no more input */
    bool                stopping;   /* the output is gone, or a signal came: cancel and finish */
    bool                failed;
    qr_job             *held;   /* parsed, not yet submitted: not due, or the queue is full */
    qr_job             *active; /* submitted */
    uint64_t            active_count, output_tokens, start_ns, shown_ns;
    uint64_t            answered, errors, cancelled, unwritten; /* requests that ended; errors: of the answered */
    uint64_t            bad;                                    /* lines */
    uint64_t            most_cross_blocks;
    uint32_t            max_model_len;
    double              last_arrival_ms;
    volatile int       *interrupt;
} generator;

static bool is_interrupted(const generator *g) { return *g->interrupt == QR_INTERRUPT_ASKED; }

/* ---- writing ---- */

static void cancel_all(generator *g)
{
    if (g->stopping) return;
    g->stopping = true;
    for (const qr_job *job = g->active; job != NULL; job = job->next) (void)quire_engine_cancel(g->engine, job->handle);
}

/* Whole lines only: what cannot be written ends the run, but its summary still reaches the terminal. */
static bool flush(generator *g)
{
    bool written = false;
    if (g->text.failed) {
        qr_complain("no memory for an answer");
        g->failed = true;
        cancel_all(g);
    } else if (g->output >= 0 && !qr_write_lines(g->output, g->text.data, g->text.length)) {
        qr_complain("%s: writing: %s", g->output_name, qr_write_error(errno));
        g->failed = true;
        g->output = -1;
        cancel_all(g);
    } else {
        written = g->output >= 0;
    }
    g->text.length = 0;
    g->text.failed = false;
    return written;
}

static void answer_bad(generator *g, const json_t *id, uint64_t line, const qr_line_error *error)
{
    qr_job_answer_error(id, line, error, &g->text);
    g->bad++;
    (void)flush(g);
}

/* ---- jobs ---- */

static void link_job(generator *g, qr_job *job)
{
    job->next = g->active;
    if (job->next != NULL) job->next->previous = job;
    g->active = job;
    g->active_count++;
}

static void unlink_job(generator *g, qr_job *job)
{
    if (job->previous != NULL)
        job->previous->next = job->next;
    else
        g->active = job->next;
    if (job->next != NULL) job->next->previous = job->previous;
    g->active_count--;
}

/* The library cannot tell an empty encoder_input from none. */
static bool check_encoder(const generator *g, const qr_job *job, quire_error *error)
{
    if (g->info.encoder_layers > 0 || job->from.request.encoder_input == NULL || job->from.request.encoder_count > 0)
        return true;
    snprintf(error->message, sizeof error->message, "encoder_input: given, but this model has no encoder");
    return false;
}

/* A default of max_tokens that the KV cache cannot hold becomes what it can, which is what 0 asks the engine for. */
static quire_status submit_request(generator *g, qr_job *job, quire_error *error)
{
    quire_request *request = &job->from.request;
    if (!check_encoder(g, job, error)) return QUIRE_ERR_INVALID;
    const quire_status status = quire_engine_submit(g->engine, request, &job->handle, error);
    if (status != QUIRE_ERR_TOO_LONG || job->from.has_max_tokens) return status;
    request->max_tokens = 0;
    return quire_engine_submit(g->engine, request, &job->handle, error);
}

/* False: the engine's queue is full, keep the job. */
static bool submit(generator *g, qr_job *job)
{
    quire_error        error  = {0};
    const quire_status status = submit_request(g, job, &error);
    if (status == QUIRE_ERR_FULL && g->active_count > 0) return false;
    if (status == QUIRE_OK) {
        qr_request_line_drop_lists(&job->from);
        link_job(g, job);
        return true;
    }
    qr_line_error bad;
    error.status = status;
    qr_job_error_of(&error, &bad);
    answer_bad(g, job->from.id, job->from.line, &bad);
    qr_job_destroy(job);
    return true;
}

static uint64_t due_ns(const generator *g, const qr_job *job)
{
    return g->by_arrival ? g->start_ns + (uint64_t)(job->from.arrival_ms * 1e6) : 0;
}

/* The job of a line, NULL for one that was answered. */
static qr_job *take_line(generator *g, qr_read_job *read)
{
    qr_job *job = read->job;
    if (read->error.status == QUIRE_OK && job->from.arrival_ms < g->last_arrival_ms) {
        read->error = (qr_line_error){.status = QUIRE_ERR_INVALID, .field = "arrival_ms"};
        snprintf(read->error.message, sizeof read->error.message, "%.9g is below %.9g of an earlier line",
                 job->from.arrival_ms, g->last_arrival_ms);
    }
    if (read->error.status == QUIRE_OK) {
        g->last_arrival_ms = job->from.arrival_ms;
        qr_request_line_clip_default(&job->from, g->max_model_len);
        return job;
    }
    answer_bad(g, job ? job->from.id : NULL, read->number, &read->error);
    qr_job_destroy(job);
    return NULL;
}

/* Takes one line into g->held. False: there is none now. */
static bool take_one(generator *g, int timeout_ms)
{
    qr_read_job read;
    qr_job_reader_next(g->reader, timeout_ms, &read);
    if (read.result == QR_LINE_READY) {
        g->held = take_line(g, &read);
        return true;
    }
    if (read.result == QR_LINE_ERROR)
        qr_complain("%s: reading line %" PRIu64 ": %s", g->input_name, read.number + 1, strerror(read.why));
    g->failed |= read.result == QR_LINE_ERROR;
    g->ended |= read.result != QR_LINE_WAIT;
    return false;
}

/* Submits what is there and due. Waits, a little, only when the engine has nothing to do. */
static void feed(generator *g)
{
    while (!g->stopping && !is_interrupted(g)) {
        if (g->held == NULL) {
            if (g->ended || !take_one(g, g->active_count == 0 ? IDLE_MS : 0)) return;
            continue;
        }
        const uint64_t now = qr_now_ns(), due = due_ns(g, g->held);
        if (now < due) {
            if (g->active_count > 0) return;
            poll(NULL, 0, (int)((due - now) / 1000000 > 1000 ? 1000 : (due - now) / 1000000 + 1));
            continue;
        }
        if (!submit(g, g->held)) return;
        g->held = NULL;
    }
}

/* ---- events ---- */

static bool is_cancelled(const qr_job *job)
{
    for (uint32_t i = 0; job->sequences != NULL && i < job->sequence_count; i++)
        if (job->sequences[i].finish == QUIRE_FINISH_CANCELLED) return true;
    return false;
}

/* Answered is what somebody can read. */
static void answer(generator *g, qr_job *job)
{
    const bool well    = qr_job_answer(job, g->info.vocab_size, g->info.encoder_layers > 0, &g->text);
    const bool written = flush(g);
    if (is_cancelled(job)) {
        g->cancelled++;
    } else if (written) {
        g->answered++;
        g->errors += !well;
    } else {
        g->unwritten++;
    }
}

static void take(generator *g, const quire_event *event)
{
    qr_job *job = event->user_data;
    qr_job_take(job, event, g->info.vocab_size);
    if (event->kind == QUIRE_EVENT_TOKEN) g->output_tokens++;
    if (event->kind != QUIRE_EVENT_FINISHED || !event->last) return;
    answer(g, job);
    unlink_job(g, job);
    qr_job_destroy(job);
}

static size_t drain(generator *g)
{
    quire_event events[EVENTS_AT_ONCE];
    size_t      total = 0;
    for (size_t count; (count = quire_engine_poll(g->engine, events, EVENTS_AT_ONCE)) > 0; total += count)
        for (size_t i = 0; i < count; i++) take(g, &events[i]);
    return total;
}

static void show_progress(generator *g, bool end)
{
    const uint64_t now = qr_now_ns();
    if (!isatty(STDERR_FILENO) || (!end && now - g->shown_ns < PROGRESS_NS)) return;
    g->shown_ns = now;
    fprintf(stderr, "\r%" PRIu64 " done, %" PRIu64 " in the engine, %" PRIu64 " tokens, %.1f tokens/s\033[K%s",
            g->answered, g->active_count, g->output_tokens,
            (double)g->output_tokens * 1e9 / (double)(now - g->start_ns + 1), end ? "\r\033[K" : "");
}

static void watch_cross_blocks(generator *g)
{
    quire_stats stats = {.size = sizeof stats};
    if (g->info.encoder_layers == 0) return;
    quire_engine_stats(g->engine, &stats);
    if (stats.cross_blocks_used > g->most_cross_blocks) g->most_cross_blocks = stats.cross_blocks_used;
}

static quire_status run(generator *g)
{
    g->start_ns = g->shown_ns = qr_now_ns();
    for (;;) {
        if (is_interrupted(g)) cancel_all(g);
        feed(g);
        if (g->active_count == 0 && (g->stopping || is_interrupted(g) || (g->ended && g->held == NULL))) break;
        if (g->active_count == 0) continue;
        quire_step         step   = {.size = sizeof step};
        const quire_status status = quire_engine_step(g->engine, &step);
        if (status != QUIRE_OK) return status;
        watch_cross_blocks(g);
        if (drain(g) == 0 && step.rows == 0 && step.rows_encoder == 0) usleep(IDLE_US);
        show_progress(g, false);
    }
    show_progress(g, true);
    return QUIRE_OK;
}

/* ---- set-up ---- */

static bool open_files(generator *g)
{
    const char *input  = quire_config_string(g->config, "generate.input");
    const char *output = quire_config_string(g->config, "generate.output");
    const char *pace   = quire_config_string(g->config, "generate.pace");
    g->by_arrival      = pace != NULL && strcmp(pace, "arrival") == 0;
    g->input_name      = input && strcmp(input, "-") != 0 ? input : "stdin";
    g->output_name     = output && strcmp(output, "-") != 0 ? output : "stdout";
    g->output          = qr_stdout_descriptor();
    if (input != NULL && strcmp(input, "-") != 0) g->input = open(input, O_RDONLY | O_CLOEXEC);
    if (g->input < 0) {
        qr_complain("%s: %s", input, strerror(errno));
        return false;
    }
    if (output != NULL && strcmp(output, "-") != 0)
        g->output = open(output, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (g->output < 0) qr_complain("%s: %s", output, strerror(errno));
    return g->output >= 0;
}

static void close_files(generator *g)
{
    qr_job_reader_stop(g->reader);
    if (g->input > STDIN_FILENO) close(g->input);
    if (g->output > STDERR_FILENO && g->output != qr_stdout_descriptor() &&
        close(g->output) != 0) { /* NFS and quota errors surface at close */
        qr_complain("%s: closing: %s", g->output_name, strerror(errno));
        g->failed = true;
    }
    qr_text_deinit(&g->text);
}

static quire_status open_engine(generator *g, quire_error *error)
{
    quire_engine_options options = *quire_config_engine(g->config);
    const quire_logger   logger  = qr_logger_of(g->config);
    options.logger               = qr_mpirun_logger(g->comm, &logger);
    options.comm                 = g->comm;
    g->info.size                 = sizeof g->info;
    quire_status status          = qr_session_open_model(g->config, &options.logger, &g->model, error);
    status                       = qr_agree(g->comm, status, NULL, error);
    if (status != QUIRE_OK) return status;
    quire_model_describe(g->model, &g->info);
    status = qr_agree(g->comm, qr_request_defaults_of(g->config, &g->info, &g->defaults, error), NULL, error);
    if (status != QUIRE_OK) return status;
    /* Every token of a step may carry logits; with fewer slots the engine makes requests wait for the next poll. */
    const uint32_t running = options.max_num_seqs ? options.max_num_seqs : 64;
    const uint32_t fit     = (uint32_t)(LOGITS_BUDGET / (4 * (uint64_t)g->info.vocab_size)) + 4;
    if (options.max_logits_in_flight == 0) options.max_logits_in_flight = running < fit ? running : fit;
    status = quire_engine_create(&options, g->model, &g->engine, error);
    if (status != QUIRE_OK || qr_mpirun_follows(g->comm)) return status;
    quire_stats stats = {.size = sizeof stats};
    quire_engine_stats(g->engine, &stats);
    g->max_model_len = stats.max_model_len;
    g->reader        = qr_job_reader_start(g->input, &g->defaults);
    if (g->reader != NULL) return QUIRE_OK;
    return qr_fail(error, QUIRE_ERR_NO_MEMORY, "no memory or no thread for the input");
}

static void summarise_answers(const generator *g)
{
    const double seconds = (double)(qr_now_ns() - g->start_ns) / 1e9;
    fprintf(stderr, "quire: %" PRIu64 " answered, %" PRIu64 " of them failed", g->answered, g->errors);
    if (g->cancelled > 0) fprintf(stderr, ", %" PRIu64 " cancelled", g->cancelled);
    if (g->unwritten > 0) fprintf(stderr, ", %" PRIu64 " could not be written", g->unwritten);
    fprintf(stderr, ", %" PRIu64 " bad line%s, %" PRIu64 " output token%s in %.2f s (%.1f tokens/s)\n", g->bad,
            qr_plural(g->bad), g->output_tokens, qr_plural(g->output_tokens), seconds,
            (double)g->output_tokens / (seconds > 0 ? seconds : 1));
}

static void summarise_ranks(const quire_stats *stats)
{
    const double steps = stats->steps > 0 ? (double)stats->steps : 1;
    fprintf(stderr, " on each of %u ranks; %.1f messages and %.0f bytes a step, %.3f ms waiting for the network",
            stats->ranks, (double)stats->network_messages / steps, (double)stats->network_bytes / steps,
            (double)stats->network_wait_ns / steps / 1e6);
}

/* What would have been nearer on one node. */
static void summarise_nodes(const quire_stats *stats)
{
    fprintf(stderr,
            "quire: %u nodes: %" PRIu64 " block%s spilled, %" PRIu64 " cached token%s on another node, %" PRIu64
            " KV bytes read from another node, attention helped %" PRIu64 "\n",
            stats->nodes, stats->blocks_spilled, qr_plural(stats->blocks_spilled), stats->prefix_hits_remote,
            qr_plural(stats->prefix_hits_remote), stats->kv_remote_bytes, stats->attention_helped);
}

static void summarise(const generator *g)
{
    quire_stats stats = {.size = sizeof stats};
    quire_engine_stats(g->engine, &stats);
    summarise_answers(g);
    fprintf(stderr,
            "quire: %" PRIu64 " step%s, %" PRIu64 " prompt token%s computed, %" PRIu64 " cached, %" PRIu64
            " preemption%s; %s, %s, %u thread%s",
            stats.steps, qr_plural(stats.steps), stats.tokens_prompt, qr_plural(stats.tokens_prompt),
            stats.tokens_cached, stats.preemptions, qr_plural(stats.preemptions), stats.isa, stats.implementation,
            stats.threads, qr_plural(stats.threads));
    if (stats.ranks > 1) summarise_ranks(&stats);
    fputs("\n", stderr);
    if (stats.nodes > 1) summarise_nodes(&stats);
    if (quire_config_integer(g->config, "scheduler.num_speculative_tokens") > 0)
        fprintf(stderr, "quire: %" PRIu64 " of %" PRIu64 " drafts accepted, paused in %" PRIu64 " step%s\n",
                stats.drafts_accepted, stats.drafts, stats.steps_drafts_paused, qr_plural(stats.steps_drafts_paused));
    if (g->info.encoder_layers > 0)
        fprintf(stderr,
                "quire: %" PRIu64 " encoder run%s, %" PRIu64 " saved by sharing, at most %" PRIu64
                " cross block%s held\n",
                stats.encoder_runs, qr_plural(stats.encoder_runs), stats.encoder_runs_saved, g->most_cross_blocks,
                qr_plural(g->most_cross_blocks));
}

static void drop_jobs(generator *g)
{
    qr_job_destroy(g->held);
    while (g->active != NULL) {
        qr_job *job = g->active;
        unlink_job(g, job);
        qr_job_destroy(job);
    }
}

static void close_engine(generator *g)
{
    quire_engine_destroy(g->engine);
    quire_model_destroy(g->model);
    qr_mpirun_leave(g->comm);
}

/* A rank but 0: reads no request and writes no answer. What fails on all is said by rank 0. */
static int follow(generator *g)
{
    quire_error error = {0};
    qr_mpirun_leave_signals(g->comm);
    quire_status status = open_engine(g, &error);
    if (status == QUIRE_OK) status = quire_engine_run(g->engine);
    close_engine(g);
    return qr_exit_status(status); /* rank 0's, too: mpirun passes on that of the rank that ends first */
}

static int generate(void *context, const quire_config *config)
{
    const char *output = quire_config_string(config, "generate.output");
    if (!qr_inputs_are_kept("generate.output", output ? output : "-", qr_arguments_config_path(context), config))
        return QR_EXIT_USAGE;
    generator g = {.config = config, .input = STDIN_FILENO, .output = -1};
    if (!qr_mpirun_join("generate", &g.comm)) return QR_EXIT_FAILED;
    if (qr_mpirun_follows(g.comm)) return follow(&g);
    quire_error error  = {0};
    int         status = QR_EXIT_FAILED;
    g.interrupt        = qr_interrupt_install();
    if (!open_files(&g)) {
        (void)qr_agree(g.comm, QUIRE_ERR_IO, NULL, NULL); /* the others are waiting */
        close_files(&g);
    } else if (open_engine(&g, &error) != QUIRE_OK) {
        status = qr_report_error(&error);
        close_files(&g);
    } else {
        *g.interrupt             = QR_INTERRUPT_NONE; /* from here on there are answers to keep */
        const quire_status ended = run(&g);
        if (ended != QUIRE_OK) qr_complain("%s", quire_status_text(ended));
        g.failed |= ended != QUIRE_OK;
        summarise(&g);
        close_files(&g);
        status = is_interrupted(&g)                      ? QR_EXIT_INTERRUPTED
                 : g.failed || g.errors > 0 || g.bad > 0 ? QR_EXIT_FAILED
                                                         : QR_EXIT_OK;
    }
    close_engine(&g);
    drop_jobs(&g);
    return status;
}

/* ---- options ---- */

static const struct argp_option options[] = {
    {"input", 'i', "FILE", 0, "requests, one JSON object a line; - = stdin (default) [generate.input]", 0},
    {"output", 'o', "FILE", 0, "answers, one a line in order of completion; - = stdout (default) [generate.output]", 0},
    {"max-tokens", 'n', "N", 0,
     "most tokens to generate, for requests that omit it (default 128) [generate.max_tokens]", 0},
    {"temperature", 't', "T", 0,
     "sampling temperature, for requests that omit it; 0 = greedy (default) [generate.temperature]", 0},
    {"seed", 's', "N", 0, "a request that omits its seed gets this plus its line number [generate.seed]", 0},
    {"pace", 'p', "asap|arrival", 0, "arrival: wait for each request's arrival_ms [generate.pace]", 0},
    {"threads", 'j', "N", 0, "compute threads; 0 = one per physical core [topology.threads]", 0},
    {0},
};
static error_t parse(int option, char *value, struct argp_state *state)
{
    if (option == ARGP_KEY_INIT) return qr_parse_common(option, value, state);
    return qr_parse_alias(options, option, value, state->input);
}

int qr_command_generate(int argc, char **argv)
{
    static const struct argp argp = {
        .options  = options,
        .parser   = parse,
        .args_doc = "[CONFIG]",
        .doc      = "Read requests as JSON Lines, decode them together, write answers as JSON Lines."
                    "\vA request:  {\"id\": \"a\", \"prompt\": [1, 15043], \"max_tokens\": 32}\n"
                    "An answer:  {\"id\": \"a\", \"tokens\": [...], \"finish_reason\": \"length\", ...}\n\n"
                    "Prompts and answers are token ids. A bad line is answered with an error; the others continue. Requests "
                    "may carry "
                    "encoder_input, temperature, top_k, top_p, min_p, seed, n, beam_width, stop_token_ids, logprobs, "
                    "logits, priority, tenant, timeout_ms and more: docs/GENERATE.md.\n\n"
                    "  quire generate --model models/tinyllama -i requests.jsonl -o answers.jsonl\n"
                    "  echo '{\"prompt\": [1, 2, 3]}' | quire generate --model tiny",
    };
    qr_arguments arguments = {0};
    qr_parse(&argp, argc, argv, &arguments);
    return qr_arguments_run(&arguments, generate, &arguments);
}
