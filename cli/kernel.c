/* quire kernel: micro-benchmarks of the parts, variants interleaved in one run. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/number.h"
#include "bench/micro/micro.h"
#include "cli/command.h"

enum {
    OPTION_ISA = 0x3001,
    OPTION_CPUS,
    OPTION_THREADS,
    OPTION_ROUNDS,
    OPTION_JSON,
    OPTION_STEPS,
    OPTION_DTYPE,
    OPTION_ROWS,
    OPTION_Q_HEADS,
    OPTION_KV_HEADS,
    OPTION_HEAD_DIM,
    OPTION_CONTEXT,
    OPTION_SEQUENCES,
    OPTION_LENGTHS,
    OPTION_RUN_LENGTH,
    OPTION_BLOCK_SIZE,
    OPTION_K,
    OPTION_COLUMNS,
    OPTION_MODEL,
};

typedef struct settings {
    const char      *what;
    qr_micro_options micro;
    unsigned         steps;
    uint64_t         given; /* options, see BIT */
} settings;

#define BIT(option) (UINT64_C(1) << ((option)-OPTION_ISA))
#define TEAM (BIT(OPTION_ISA) | BIT(OPTION_CPUS) | BIT(OPTION_THREADS))
#define ALWAYS (BIT(OPTION_ROUNDS) | BIT(OPTION_JSON))

typedef struct kernel {
    const char *name;
    int (*run)(const qr_micro_options *options, FILE *out); /* NULL: the scheduler's */
    uint64_t    options;                                    /* that it reads, see BIT */
    const char *text;
} kernel;

static const kernel kernels[] = {
    {"attention", qr_micro_attention,
     ALWAYS | TEAM | BIT(OPTION_DTYPE) | BIT(OPTION_ROWS) | BIT(OPTION_Q_HEADS) | BIT(OPTION_KV_HEADS) |
         BIT(OPTION_HEAD_DIM) | BIT(OPTION_CONTEXT) | BIT(OPTION_SEQUENCES) | BIT(OPTION_LENGTHS) |
         BIT(OPTION_RUN_LENGTH) | BIT(OPTION_BLOCK_SIZE),
     "paged attention, against a plain read, the same kernel in cache, a register loop"},
    {"barrier", qr_micro_barrier, ALWAYS | TEAM, "threads meeting, and taking over a function"},
    {"limits", qr_micro_limits, ALWAYS | TEAM,
     "reading in order and in runs, multiplication in registers, the barrier"},
    {"projection", qr_micro_projection,
     ALWAYS | TEAM | BIT(OPTION_DTYPE) | BIT(OPTION_ROWS) | BIT(OPTION_K) | BIT(OPTION_COLUMNS),
     "rows times packed weights, against a plain read, a register loop and oneDNN"},
    {"rowwise", qr_micro_rowwise, ALWAYS | TEAM | BIT(OPTION_K),
     "norms, conversions, argmax and sums of rows in cache, against a plain read there"},
    {"scheduler", NULL, ALWAYS | BIT(OPTION_STEPS), "plan, commit and submit with a model that takes no time"},
    {"step", qr_micro_step,
     ALWAYS | TEAM | BIT(OPTION_DTYPE) | BIT(OPTION_ROWS) | BIT(OPTION_CONTEXT) | BIT(OPTION_BLOCK_SIZE) |
         BIT(OPTION_MODEL),
     "whole decode steps of a model, every sequence with its own keys and values"},
};
enum { KERNELS = sizeof kernels / sizeof *kernels };

static const kernel *kernel_of(const char *name)
{
    for (size_t i = 0; name != NULL && i < KERNELS; i++)
        if (strcmp(name, kernels[i].name) == 0) return &kernels[i];
    return NULL;
}

static const struct argp_option options[] = {
    {"isa", OPTION_ISA, "NAME", 0, "cap on the instruction set, as kernels.isa", 1},
    {"cpus", OPTION_CPUS, "LIST", 0, "CPUs to use, as topology.cpus", 1},
    {"threads", OPTION_THREADS, "N", 0, "threads, as topology.threads", 1},
    {"rounds", OPTION_ROUNDS, "N", 0, "rounds in which every variant has one turn (default 15)", 1},
    {"json", OPTION_JSON, NULL, 0, "print JSON (quire.kernel/1)", 1},
    {"dtype", OPTION_DTYPE, "LIST", 0, "f32, bf16, int8: of the weights, or of keys and values; step: of both", 2},
    {"rows", OPTION_ROWS, "LIST", 0,
     "rows; attention: query rows of each sequence (default 1); step: sequences (default 1, 4, 16, 64)", 2},
    {"q-heads", OPTION_Q_HEADS, "LIST", 0, "attention: query heads (default 1, 4 and 8 for each kv head)", 3},
    {"kv-heads", OPTION_KV_HEADS, "N", 0, "attention: kv heads (default 8)", 3},
    {"head-dim", OPTION_HEAD_DIM, "N", 0, "attention: elements of a head (default 128)", 3},
    {"context", OPTION_CONTEXT, "N", 0,
     "attention: keys of each sequence (default 4096, or the rows); step: the same, of an encoder-decoder model "
     "its encoder's tokens (default 512)",
     3},
    {"sequences", OPTION_SEQUENCES, "N", 0,
     "attention: sequences (default: as many as do not fit the caches; 1 for more than 8 rows)", 3},
    {"lengths", OPTION_LENGTHS, "SHORTEST:LONGEST", 0,
     "attention: keys of each sequence drawn by Zipf's law instead (32 sequences)", 3},
    {"run-length", OPTION_RUN_LENGTH, "LIST", 0,
     "attention: contiguous bytes of keys and values, e.g. 128K,1M; 0: all (default)", 3},
    {"block-size", OPTION_BLOCK_SIZE, "N", 0, "attention, step: tokens of a block, as kv_cache.block_size", 3},
    {"k", OPTION_K, "N", 0, "projection, rowwise: input features (default 2048)", 4},
    {"n", OPTION_COLUMNS, "N", 0, "projection: output features (default 2816 for each thread)", 4},
    {"model", OPTION_MODEL, "MODEL", 0, "step: folder or preset, as bench takes it (default tinyllama-1.1b)", 4},
    {"steps", OPTION_STEPS, "N", 0, "scheduler: steps of each load (default 2000)", 5},
    {0},
};
enum { OPTIONS = sizeof options / sizeof *options };

static uint64_t number(struct argp_state *state, const char *flag, const char *text, char **end, uint64_t most)
{
    errno                          = 0;
    const unsigned long long value = strtoull(text, end, 10);
    if (*end == text || errno != 0 || text[0] == '-' || value > most)
        argp_error(state, "%s %s: not a whole number up to %llu", flag, text, (unsigned long long)most);
    return value;
}

static uint32_t whole(struct argp_state *state, const char *flag, const char *text, uint32_t least, uint32_t most)
{
    char          *end;
    const uint64_t value = number(state, flag, text, &end, most);
    if (*end != '\0' || value < least) argp_error(state, "%s %s: not in %u..%u", flag, text, least, most);
    return (uint32_t)value;
}

/* "512", "64K", "1M": bytes where `units`. */
static uint64_t item(struct argp_state *state, const char *flag, const char *text, char **end, bool units)
{
    uint64_t value = number(state, flag, text, end, 1u << 30);
    if (units && (**end == 'K' || **end == 'M')) value <<= *(*end)++ == 'K' ? 10 : 20;
    return value;
}

static void list(struct argp_state *state, const char *flag, const char *text, bool units, qr_micro_list *to)
{
    for (to->count = 0;;) {
        char *end;
        if (to->count == QR_MICRO_LIST_MAX) argp_error(state, "%s: more than %d values", flag, QR_MICRO_LIST_MAX);
        to->values[to->count++] = item(state, flag, text, &end, units);
        if (!units && to->values[to->count - 1] == 0) argp_error(state, "%s: 0 is below the minimum 1", flag);
        if (*end == '\0') return;
        if (*end != ',') argp_error(state, "%s: \"%s\" is not a list of numbers", flag, text);
        text = end + 1;
    }
}

static void dtypes(struct argp_state *state, const char *flag, const char *text, qr_micro_list *to)
{
    static const char *const names[] = {[QR_F32] = "f32", [QR_BF16] = "bf16", [QR_INT8] = "int8"};
    for (to->count = 0;;) {
        const size_t length = strcspn(text, ",");
        uint32_t     dtype  = QR_F32;
        while (dtype <= QR_INT8 && (strlen(names[dtype]) != length || strncmp(names[dtype], text, length) != 0))
            dtype++;
        if (dtype > QR_INT8 || to->count > QR_INT8) argp_error(state, "%s %s: a list of f32 | bf16 | int8", flag, text);
        to->values[to->count++] = dtype;
        if (text[length] == '\0') return;
        text += length + 1;
    }
}

static void lengths(struct argp_state *state, const char *text, qr_micro_options *micro)
{
    char *end;
    micro->shortest = (uint32_t)number(state, "--lengths", text, &end, 1u << 24);
    if (*end != ':') argp_error(state, "--lengths %s: expected SHORTEST:LONGEST", text);
    micro->longest = whole(state, "--lengths", end + 1, 1, 1u << 24);
}

static error_t parse_kernel(int option, const char *value, struct argp_state *state)
{
    qr_micro_options *m = &((settings *)state->input)->micro;
    switch (option) {
    case OPTION_DTYPE: dtypes(state, "--dtype", value, &m->dtypes); return 0;
    case OPTION_ROWS: list(state, "--rows", value, false, &m->rows); return 0;
    case OPTION_Q_HEADS: list(state, "--q-heads", value, false, &m->q_heads); return 0;
    case OPTION_KV_HEADS: m->kv_heads = whole(state, "--kv-heads", value, 1, 1024); return 0;
    case OPTION_HEAD_DIM: m->head_dim = whole(state, "--head-dim", value, 4, 256); return 0;
    case OPTION_CONTEXT: m->context = whole(state, "--context", value, 1, 1u << 24); return 0;
    case OPTION_SEQUENCES: m->sequences = whole(state, "--sequences", value, 1, 65536); return 0;
    case OPTION_LENGTHS: lengths(state, value, m); return 0;
    case OPTION_RUN_LENGTH: list(state, "--run-length", value, true, &m->run_bytes); return 0;
    case OPTION_BLOCK_SIZE: m->block_size = whole(state, "--block-size", value, 32, 256); return 0;
    case OPTION_K: m->k = whole(state, "--k", value, 1, 65536); return 0;
    case OPTION_MODEL: m->model = value; return 0;
    case OPTION_COLUMNS: m->columns = whole(state, "--n", value, 1, 1u << 20); return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static error_t parse(int option, char *value, struct argp_state *state)
{
    settings *s = state->input;
    if (option >= OPTION_ISA && option <= OPTION_MODEL) s->given |= BIT(option);
    switch (option) {
    case ARGP_KEY_INIT: state->out_stream = qr_stdout; return 0;
    case OPTION_ISA: s->micro.isa = value; return 0;
    case OPTION_CPUS: s->micro.cpus = value; return 0;
    case OPTION_THREADS: s->micro.threads = whole(state, "--threads", value, 1, 1024); return 0;
    case OPTION_ROUNDS: s->micro.rounds = whole(state, "--rounds", value, 1, 1000); return 0;
    case OPTION_JSON: s->micro.json = true; return 0;
    case OPTION_STEPS: s->steps = whole(state, "--steps", value, 1, 1000000); return 0;
    case ARGP_KEY_ARG:
        if (s->what != NULL) argp_usage(state);
        s->what = value;
        return 0;
    case ARGP_KEY_END:
        if (s->what == NULL) argp_usage(state);
        return 0;
    default: return parse_kernel(option, value, state);
    }
}

/* The names of the kernels that read one of `options`, joined; what does not fit is left out. */
static const char *names_of(uint64_t wanted, const char *separator, char *text, size_t size)
{
    size_t at = 0;
    text[0]   = '\0';
    for (size_t i = 0; i < KERNELS; i++)
        if ((kernels[i].options & wanted) != 0 && at < size)
            at += (size_t)snprintf(text + at, size - at, "%s%s", at > 0 ? separator : "", kernels[i].name);
    return text;
}

/* An option that the kernel does not read would make the user believe in what was not measured. */
static bool all_apply(const kernel *k, uint64_t given)
{
    char text[128];
    for (uint32_t i = 0; options[i].name != NULL; i++) {
        const uint64_t bit = BIT(options[i].key);
        if ((given & bit) == 0 || (k->options & bit) != 0) continue;
        qr_complain("kernel %s: --%s does not apply; it applies to: %s", k->name, options[i].name,
                    names_of(bit, ", ", text, sizeof text));
        return false;
    }
    return true;
}

static int run(const settings *s)
{
    const kernel *k = kernel_of(s->what);
    char          text[128];
    if (k == NULL) {
        qr_complain("kernel %s: expected one of %s", s->what, names_of(ALWAYS, ", ", text, sizeof text));
        return QR_EXIT_USAGE;
    }
    if (!all_apply(k, s->given)) return QR_EXIT_USAGE;
    return k->run != NULL ? k->run(&s->micro, qr_stdout) : qr_micro_scheduler(&s->micro, s->steps, qr_stdout);
}

/* The kernel that the arguments name, wherever, so that --help may stand before it or behind; NULL: none. */
static const kernel *named_kernel(int argc, char **argv)
{
    const kernel *found = NULL;
    for (int i = 1; i < argc && found == NULL; i++) found = kernel_of(argv[i]);
    return found;
}

/* The help of one kernel, or of all with k NULL. */
static void describe(const kernel *k, struct argp_option shown[OPTIONS], char *text, size_t size)
{
    memcpy(shown, options, sizeof options);
    for (uint32_t i = 0; k != NULL && shown[i].name != NULL; i++)
        if ((k->options & BIT(shown[i].key)) == 0) shown[i].flags |= OPTION_HIDDEN;
    size_t at =
        (size_t)snprintf(text, size, "Measure one part alone, against this machine's roofline, in the same run.\v");
    for (size_t i = 0; i < KERNELS; i++)
        if (k == NULL || k == &kernels[i])
            at += (size_t)snprintf(text + at, size - at, "%-11s %s\n", kernels[i].name, kernels[i].text);
    snprintf(text + at, size - at,
             "\nA LIST makes a variant of every value. All variants take turns in every round; medians are printed.");
}

int qr_command_kernel(int argc, char **argv)
{
    struct argp_option shown[OPTIONS];
    char               names[128], text[1024];
    const kernel      *k = named_kernel(argc, argv);
    settings           s = {.steps = 2000};
    describe(k, shown, text, sizeof text);
    const struct argp argp = {.options  = shown,
                              .parser   = parse,
                              .args_doc = k != NULL ? k->name : names_of(ALWAYS, "\n", names, sizeof names),
                              .doc      = text};
    qr_complete(&argp);
    argp_parse(&argp, argc, argv, 0, NULL, &s);
    return run(&s);
}
