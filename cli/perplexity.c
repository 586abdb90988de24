/* quire perplexity: how well a model predicts a text, as llama.cpp measures it. The text is cut into chunks of
 * --ctx-size tokens, each a request of its own, so that they are batched; the second half of each chunk is scored,
 * since its tokens have at least half a chunk before them. Perplexity = exp(mean of -log p(token | the chunk before
 * it)). */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "bench/common/array.h"
#include "bench/common/input_file.h"
#include "bench/session.h"
#include "cli/command.h"
#include "cli/mpirun.h"

enum { CTX_SIZE = 512, LEAST_CTX_SIZE = 4, MOST_CTX_SIZE = 1 << 20, EVENTS_AT_ONCE = 256 };

typedef struct settings {
    qr_arguments common;
    const char  *file;
    uint32_t     ctx_size; /* 0: CTX_SIZE, or what the model's longest sequence leaves */
    int32_t      bos;      /* -1: none */
    bool         json;
} settings;

typedef struct sums {
    double   nll, nll_squares; /* of -log p, and of its square */
    uint64_t tokens;
} sums;

typedef struct chunk {
    sums         scored;
    quire_status status;
} chunk;

typedef struct scorer {
    const settings  *settings;
    quire_model     *model;
    quire_engine    *engine;
    quire_model_info info;
    int32_t         *tokens; /* [count] */
    size_t           count;
    chunk           *chunks; /* [chunk_count] */
    uint32_t         ctx_size, chunk_count, submitted, ended;
    uint64_t         start_ns;
} scorer;

/* ---- the text ---- */

/* Between token ids: a list of numbers, or a JSON array. */
static bool is_between(int c) { return c > 0 && strchr(" \t\r\n,[]", c) != NULL; }

/* The rest of the word that begins with `c`, cut at `size`; returns what follows it. */
static int read_word(FILE *from, int c, char *word, size_t size)
{
    size_t length = 0;
    for (; c != EOF && !is_between(c) && length < size - 1; c = getc(from)) word[length++] = c == '\0' ? '?' : (char)c;
    word[length] = '\0';
    return c;
}

static bool read_ids(scorer *s, FILE *from)
{
    char     word[12]; /* of more digits than an id has */
    uint64_t line = 1;
    for (int c = getc(from); c != EOF;) {
        if (is_between(c)) {
            line += c == '\n';
            c = getc(from);
            continue;
        }
        c = read_word(from, c, word, sizeof word);
        char         *end;
        const int64_t id = strtoll(word, &end, 10);
        if (!isdigit((unsigned char)word[0]) || *end != '\0' || id >= s->info.vocab_size) {
            qr_complain("%s:%" PRIu64 ": \"%s\" is not a token id of 0..%u", s->settings->file, line, word,
                        s->info.vocab_size - 1);
            return false;
        }
        if (!QR_ARRAY_PUSH(s->tokens, s->count, (int32_t)id)) {
            qr_complain("%s: no memory for more than %zu token ids", s->settings->file, s->count);
            return false;
        }
    }
    if (ferror(from)) qr_complain("%s: %s", s->settings->file, strerror(errno));
    return !ferror(from);
}

static bool read_text(scorer *s)
{
    quire_error error = {0};
    FILE       *from  = qr_input_open(s->settings->file, QR_MOST_ROWS_BYTES, &error);
    if (from == NULL) return qr_report_error(&error), false;
    const bool read = read_ids(s, from);
    fclose(from);
    return read;
}

/* What is left behind the last whole chunk is not scored, as in llama.cpp. */
static bool cut(scorer *s)
{
    const uint32_t size = s->ctx_size;
    s->chunk_count      = (uint32_t)(s->count / size);
    if (s->chunk_count == 0)
        return qr_complain("%s: %zu tokens are less than one chunk of --ctx-size %u", s->settings->file, s->count,
                           size),
               false;
    s->chunks = calloc(s->chunk_count, sizeof *s->chunks);
    if (s->chunks == NULL) qr_complain("no memory for %u chunks", s->chunk_count);
    for (uint32_t i = 0; s->settings->bos >= 0 && i < s->chunk_count; i++)
        s->tokens[(size_t)i * size] = s->settings->bos;
    return s->chunks != NULL;
}

/* ---- scoring ---- */

/* False: an error that waiting does not mend. */
static bool submit(scorer *s)
{
    const uint32_t size = s->ctx_size;
    while (s->submitted < s->chunk_count) {
        quire_request_id    id;
        quire_error         error   = {0};
        const quire_request request = {.size                      = sizeof request,
                                       .user_data                 = &s->chunks[s->submitted],
                                       .prompt                    = s->tokens + (size_t)s->submitted * size,
                                       .prompt_count              = size,
                                       .max_tokens                = 1,
                                       .skip_writing_prefix_cache = true,
                                       .prompt_logprobs           = true};
        const quire_status  status  = quire_engine_submit(s->engine, &request, &id, &error);
        if (status == QUIRE_ERR_FULL) return true;
        if (status != QUIRE_OK) return qr_report_error(&error), false;
        s->submitted++;
    }
    return true;
}

static void take(scorer *s, const quire_event *event)
{
    chunk *c = event->user_data;
    if (event->kind == QUIRE_EVENT_FINISHED) {
        c->status = event->status;
        s->ended++;
    } else if (event->kind == QUIRE_EVENT_PROMPT && event->index > s->ctx_size / 2) {
        c->scored.nll -= (double)event->logprob;
        c->scored.nll_squares += (double)event->logprob * (double)event->logprob;
        c->scored.tokens++;
    }
}

static bool score(scorer *s)
{
    s->start_ns = qr_now_ns();
    while (s->ended < s->chunk_count) {
        quire_event events[EVENTS_AT_ONCE];
        if (!submit(s)) return false;
        const quire_status status = quire_engine_step(s->engine, NULL);
        if (status != QUIRE_OK) return qr_complain("%s", quire_status_text(status)), false;
        for (size_t count; (count = quire_engine_poll(s->engine, events, EVENTS_AT_ONCE)) > 0;)
            for (size_t i = 0; i < count; i++) take(s, &events[i]);
    }
    return true;
}

/* ---- the result ---- */

/* In the order of the text, so that the last digit is the same whatever ended first. */
static bool add_up(const scorer *s, sums *all)
{
    for (uint32_t i = 0; i < s->chunk_count; i++) {
        const chunk *c = &s->chunks[i];
        if (c->status != QUIRE_OK)
            return qr_complain("%s: chunk %u of %u: %s", s->settings->file, i + 1, s->chunk_count,
                               quire_status_text(c->status)),
                   false;
        all->nll += c->scored.nll;
        all->nll_squares += c->scored.nll_squares;
        all->tokens += c->scored.tokens;
    }
    return true;
}

/* The standard error of the mean, carried through exp(). */
static double error_of(const sums *all)
{
    const double n = (double)all->tokens, mean = all->nll / n;
    return all->tokens < 2 ? 0 : exp(mean) * sqrt(fmax(0, all->nll_squares / n - mean * mean) / (n - 1));
}

static bool print_result(const scorer *s, const sums *all)
{
    const double mean = all->nll / (double)all->tokens, seconds = (double)(qr_now_ns() - s->start_ns) / 1e9;
    const double rate = (double)s->chunk_count * s->ctx_size / seconds;
    if (s->settings->json) {
        json_t *object =
            json_pack("{s:s, s:s, s:s, s:I, s:I, s:I, s:f, s:f, s:f, s:f}", "schema", "quire.perplexity/1", "model",
                      s->info.name, "file", s->settings->file, "ctx_size", (json_int_t)s->ctx_size, "chunks",
                      (json_int_t)s->chunk_count, "tokens_scored", (json_int_t)all->tokens, "nll", mean, "perplexity",
                      exp(mean), "standard_error", error_of(all), "tokens_per_second", rate);
        if (object == NULL) {
            qr_complain("a token of the text is impossible to the model: its perplexity is not a finite number");
            return false;
        }
        json_dumpf(object, qr_stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
        json_decref(object);
        fputc('\n', qr_stdout);
        return true;
    }
    fprintf(qr_stdout, "%s, %s: %u chunks of %u tokens, %" PRIu64 " tokens scored\n", s->info.name, s->settings->file,
            s->chunk_count, s->ctx_size, all->tokens);
    fprintf(qr_stdout, "perplexity %.4f +/- %.4f\n", exp(mean), error_of(all));
    fprintf(stderr, "quire: %.1f tokens/s\n", rate);
    return true;
}

/* ---- set-up ---- */

static bool is_possible(const scorer *s)
{
    if (s->info.encoder_layers > 0)
        qr_complain("perplexity: %s is an encoder-decoder model; only decoder-only models predict a text alone",
                    s->info.name);
    else if (s->settings->bos >= (int64_t)s->info.vocab_size)
        qr_complain("--bos: %d is not a token id of 0..%u", s->settings->bos, s->info.vocab_size - 1);
    else
        return true;
    return false;
}

/* A chunk is a prompt, behind which one token must have room. */
static bool choose_size(scorer *s, uint32_t max_model_len)
{
    const uint32_t most = max_model_len - 1, asked = s->settings->ctx_size;
    s->ctx_size = asked > 0 ? asked : most < CTX_SIZE ? most : CTX_SIZE;
    if (s->ctx_size >= LEAST_CTX_SIZE && s->ctx_size <= most) return true;
    qr_complain("--ctx-size: %u is not in %d..%u (max_model_len %u - 1)", s->ctx_size, LEAST_CTX_SIZE, most,
                max_model_len);
    return false;
}

static uint32_t longest_sequence(const scorer *s)
{
    quire_stats stats = {.size = sizeof stats};
    quire_engine_stats(s->engine, &stats);
    return stats.max_model_len;
}

static bool open_all(scorer *s, const quire_config *config)
{
    quire_engine_options options = *quire_config_engine(config);
    quire_error          error   = {0};
    options.logger               = qr_logger_of(config);
    s->info.size                 = sizeof s->info;
    if (qr_session_open_model(config, &options.logger, &s->model, &error) == QUIRE_OK) {
        quire_model_describe(s->model, &s->info);
        if (!is_possible(s) || !read_text(s)) return false;
        if (quire_engine_create(&options, s->model, &s->engine, &error) == QUIRE_OK)
            return choose_size(s, longest_sequence(s)) && cut(s);
    }
    qr_report_error(&error);
    return false;
}

static int perplexity(void *context, const quire_config *config)
{
    if (!qr_mpirun_is_alone("perplexity")) return QR_EXIT_USAGE;
    scorer     s    = {.settings = context};
    sums       all  = {0};
    const bool done = open_all(&s, config) && score(&s) && add_up(&s, &all) && print_result(&s, &all);
    quire_engine_destroy(s.engine);
    quire_model_destroy(s.model);
    free(s.chunks);
    free(s.tokens);
    return done ? QR_EXIT_OK : QR_EXIT_FAILED;
}

/* ---- options ---- */

enum { OPTION_BOS = 0x1000, OPTION_JSON };

static const struct argp_option options[] = {
    {"ctx-size", 'n', "N", 0, "tokens of a chunk, 4..1048576 (default 512, or the longest prompt where that is less)",
     0},
    {"bos", OPTION_BOS, "ID", 0,
     "replaces the first token of each chunk, as llama.cpp does for models with a token of their own for the start", 0},
    {"json", OPTION_JSON, NULL, 0, "print quire.perplexity/1 instead of two lines", 0},
    {0},
};

static error_t parse(int option, char *value, struct argp_state *state)
{
    settings *s = state->input;
    switch (option) {
    case ARGP_KEY_INIT: state->child_inputs[0] = &s->common; return 0;
    case ARGP_KEY_ARG:
        if (s->file != NULL) return ARGP_ERR_UNKNOWN; /* a configuration */
        s->file = value;
        return 0;
    case ARGP_KEY_END:
        if (s->file == NULL && !s->common.print_config) argp_error(state, "a file of token ids is needed");
        return 0;
    case 'n':
        s->ctx_size = (uint32_t)qr_parse_number(state, "--ctx-size", value, LEAST_CTX_SIZE, MOST_CTX_SIZE);
        return 0;
    case OPTION_BOS: s->bos = (int32_t)qr_parse_number(state, "--bos", value, 0, INT32_MAX); return 0;
    case OPTION_JSON: s->json = true; return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

int qr_command_perplexity(int argc, char **argv)
{
    static const struct argp argp = {
        .options  = options,
        .parser   = parse,
        .args_doc = "FILE [CONFIG]",
        .doc      = "Measure how well a model predicts a text: the perplexity of its tokens, as llama.cpp computes it."
                    "\vFILE holds token ids, between white space or as a JSON array. The second half of each chunk is "
                    "scored; what is left behind the last whole chunk is not.\n\n"
                    "  quire perplexity --model models/smollm2 wiki.test.ids\n",
    };
    settings s = {.bos = -1};
    qr_parse(&argp, argc, argv, &s);
    return qr_arguments_run(&s.common, perplexity, &s);
}
