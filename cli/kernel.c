/* quire kernel: micro-benchmarks of the parts, variants interleaved in one run. */
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/number.h"
#include "bench/micro/micro.h"
#include "cli/command.h"

#define EVERY "rounds json"
#define TEAM EVERY " isa cpus threads"

typedef struct kernel {
    const char *name;
    int (*run)(const qr_micro_options *options, FILE *out);
    const char *flags; /* that it reads */
    const char *text;
} kernel;

static const kernel kernels[] = {
    {"attention", qr_micro_attention,
     TEAM " dtype rows q-heads kv-heads head-dim context sequences lengths run-length block-size",
     "paged attention, against a plain read, the same kernel in cache, a register loop"},
    {"barrier", qr_micro_barrier, TEAM, "threads meeting, and taking over a function"},
    {"limits", qr_micro_limits, TEAM, "reading in order and in runs, multiplication in registers, the barrier"},
    {"projection", qr_micro_projection, TEAM " dtype rows k n group-size",
     "rows times packed weights, against a plain read, a register loop and oneDNN"},
    {"rowwise", qr_micro_rowwise, TEAM " k",
     "norms, conversions, argmax and sums of rows in cache, against a plain read there"},
    {"scheduler", qr_micro_scheduler, EVERY " steps", "plan, commit and submit with a model that takes no time"},
    {"step", qr_micro_step, TEAM " dtype rows context prompt block-size model layers group-size",
     "whole decode steps of a model, every sequence with its own keys and values; a whole prompt"},
};
enum { KERNELS = sizeof kernels / sizeof *kernels };

static const kernel *kernel_of(const char *name)
{
    for (size_t i = 0; name != NULL && i < KERNELS; i++)
        if (strcmp(name, kernels[i].name) == 0) return &kernels[i];
    return NULL;
}

/* ---- flags ---- */

typedef enum kind { SWITCH, TEXT, WHOLE, COUNTS, BYTES, DTYPES, LENGTHS } kind;

static const struct flag {
    const char *name, *argument, *text;
    int         group;
    kind        kind;
    size_t      member; /* of qr_micro_options */
    uint32_t    least, most;
} flags[] = {
#define OF(member) offsetof(qr_micro_options, member)
    {"isa", "NAME", "cap on the instruction set, as kernels.isa", 1, TEXT, OF(isa), 0, 0},
    {"cpus", "LIST", "CPUs to use, as topology.cpus", 1, TEXT, OF(cpus), 0, 0},
    {"threads", "N", "threads, as topology.threads", 1, WHOLE, OF(threads), 1, 1024},
    {"rounds", "N", "rounds in which every variant has one turn (default 15)", 1, WHOLE, OF(rounds), 1, 1000},
    {"json", NULL, "print JSON (quire.kernel/1)", 1, SWITCH, OF(json), 0, 0},
    {"dtype", "LIST",
     "f32, bf16, int8: of the weights, or of keys and values; step: of both; int4: of weights, beside int8", 2, DTYPES,
     OF(dtypes), 0, 0},
    {"rows", "LIST", "rows; attention: query rows of each sequence (default 1); step: sequences (default 1, 4, 16, 64)",
     2, COUNTS, OF(rows), 0, 0},
    {"q-heads", "LIST", "attention: query heads (default 1, 4 and 8 for each kv head)", 3, COUNTS, OF(q_heads), 0, 0},
    {"kv-heads", "N", "attention: kv heads (default 8)", 3, WHOLE, OF(kv_heads), 1, 1024},
    {"head-dim", "N", "attention: elements of a head (default 128)", 3, WHOLE, OF(head_dim), 4, 256},
    {"context", "N",
     "attention: keys of each sequence (default 4096, or the rows); step: the same, of an encoder-decoder model "
     "its encoder's tokens (default 512)",
     3, WHOLE, OF(context), 1, 1u << 24},
    {"sequences", "N", "attention: sequences (default: as many as do not fit the caches; 1 for more than 8 rows)", 3,
     WHOLE, OF(sequences), 1, 65536},
    {"lengths", "SHORTEST:LONGEST", "attention: keys of each sequence drawn by Zipf's law instead (32 sequences)", 3,
     LENGTHS, 0, 1, 1u << 24},
    {"run-length", "LIST", "attention: contiguous bytes of keys and values, e.g. 128K,1M; 0: all (default)", 3, BYTES,
     OF(run_bytes), 0, 0},
    {"block-size", "N", "attention, step: tokens of a block, as kv_cache.block_size", 3, WHOLE, OF(block_size), 32,
     256},
    {"k", "N", "projection, rowwise: input features (default 2048)", 4, WHOLE, OF(k), 1, 65536},
    {"n", "N", "projection: output features (default 2816 for each thread)", 4, WHOLE, OF(columns), 1, 1u << 20},
    {"group-size", "N", "projection, step: as model.weight_group_size", 4, WHOLE, OF(group_size), 32, 128},
    {"model", "MODEL", "step: folder or preset, as bench takes it (default tinyllama-1.1b)", 4, TEXT, OF(model), 0, 0},
    {"layers", "N", "step: of a preset that is too large, only so many (num_hidden_layers)", 4, WHOLE, OF(layers), 1,
     1024},
    {"prompt", "N", "step: a prefill of N tokens in one step as well", 4, WHOLE, OF(prompt), 1, 1u << 24},
    {"steps", "N", "scheduler: steps of each load (default 2000)", 5, WHOLE, OF(steps), 1, 1000000},
};
enum { FLAGS = sizeof flags / sizeof *flags, FIRST_FLAG = 0x3001 };

typedef struct settings {
    const char      *what;
    qr_micro_options micro;
    bool             given[FLAGS];
} settings;

/* Is the flag one of the words? */
static bool reads(const kernel *k, const struct flag *f)
{
    const size_t length = strlen(f->name);
    for (const char *at = k->flags; *at != '\0'; at += strcspn(at, " "), at += *at == ' ')
        if (strcspn(at, " ") == length && strncmp(at, f->name, length) == 0) return true;
    return false;
}

/* The names of the kernels that read the flag (NULL: of all), joined; what does not fit is left out. */
static const char *names_of(const struct flag *f, const char *separator, char *text, size_t size)
{
    size_t at = 0;
    text[0]   = '\0';
    for (size_t i = 0; i < KERNELS; i++)
        if ((f == NULL || reads(&kernels[i], f)) && at < size)
            at += (size_t)snprintf(text + at, size - at, "%s%s", at > 0 ? separator : "", kernels[i].name);
    return text;
}

/* ---- values ---- */

static uint64_t number(struct argp_state *state, const char *flag, const char *text, char **end, uint64_t most)
{
    errno                          = 0;
    const unsigned long long value = strtoull(text, end, 10);
    if (*end == text || errno != 0 || text[0] == '-' || value > most)
        argp_error(state, "--%s %s: not a whole number up to %llu", flag, text, (unsigned long long)most);
    return value;
}

static uint32_t whole(struct argp_state *state, const struct flag *f, const char *text)
{
    char          *end;
    const uint64_t value = number(state, f->name, text, &end, f->most);
    if (*end != '\0' || value < f->least) argp_error(state, "--%s %s: not in %u..%u", f->name, text, f->least, f->most);
    return (uint32_t)value;
}

/* "512"; of BYTES also "64K" and "1M". */
static void list(struct argp_state *state, const struct flag *f, const char *text, qr_micro_list *to)
{
    for (to->count = 0;;) {
        char *end;
        if (to->count == QR_MICRO_LIST_MAX) argp_error(state, "--%s: more than %d values", f->name, QR_MICRO_LIST_MAX);
        uint64_t value = number(state, f->name, text, &end, 1u << 30);
        if (f->kind == BYTES && (*end == 'K' || *end == 'M')) value <<= *end++ == 'K' ? 10 : 20;
        if (f->kind == COUNTS && value == 0) argp_error(state, "--%s: 0 is below the minimum 1", f->name);
        to->values[to->count++] = value;
        if (*end == '\0') return;
        if (*end != ',') argp_error(state, "--%s: \"%s\" is not a list of numbers", f->name, text);
        text = end + 1;
    }
}

static void dtypes(struct argp_state *state, const char *flag, const char *text, qr_micro_list *to)
{
    for (to->count = 0;;) {
        const size_t length = strcspn(text, ",");
        uint32_t     dtype  = QR_F32;
        while (dtype <= QR_MICRO_INT4 &&
               (strlen(qr_micro_dtype_name(dtype)) != length || strncmp(qr_micro_dtype_name(dtype), text, length) != 0))
            dtype++;
        if (dtype > QR_MICRO_INT4 || to->count > QR_MICRO_INT4)
            argp_error(state, "--%s %s: a list of f32 | bf16 | int8 | int4", flag, text);
        to->values[to->count++] = dtype;
        if (text[length] == '\0') return;
        text += length + 1;
    }
}

static void lengths(struct argp_state *state, const struct flag *f, const char *text, qr_micro_options *micro)
{
    char *end;
    micro->shortest = (uint32_t)number(state, f->name, text, &end, f->most);
    if (*end != ':') argp_error(state, "--%s %s: expected SHORTEST:LONGEST", f->name, text);
    micro->longest = whole(state, f, end + 1);
}

static void take(struct argp_state *state, const struct flag *f, const char *value, qr_micro_options *micro)
{
    void *const to = (char *)micro + f->member;
    switch (f->kind) {
    case SWITCH: *(bool *)to = true; return;
    case TEXT: *(const char **)to = value; return;
    case WHOLE: *(uint32_t *)to = whole(state, f, value); return;
    case COUNTS:
    case BYTES: list(state, f, value, to); return;
    case DTYPES: dtypes(state, f->name, value, to); return;
    case LENGTHS: lengths(state, f, value, micro); return;
    }
}

static error_t parse(int option, char *value, struct argp_state *state)
{
    settings *s = state->input;
    if (option >= FIRST_FLAG && option < FIRST_FLAG + FLAGS) {
        s->given[option - FIRST_FLAG] = true;
        take(state, &flags[option - FIRST_FLAG], value, &s->micro);
        return 0;
    }
    switch (option) {
    case ARGP_KEY_INIT: state->out_stream = qr_stdout; return 0;
    case ARGP_KEY_ARG:
        if (s->what != NULL) argp_usage(state);
        s->what = value;
        return 0;
    case ARGP_KEY_NO_ARGS: argp_usage(state); return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

/* ---- the command ---- */

/* A flag that the kernel does not read would make the user believe in what was not measured. */
static bool all_apply(const kernel *k, const settings *s)
{
    char text[128];
    for (size_t i = 0; i < FLAGS; i++) {
        if (!s->given[i] || reads(k, &flags[i])) continue;
        qr_complain("kernel %s: --%s does not apply; it applies to: %s", k->name, flags[i].name,
                    names_of(&flags[i], ", ", text, sizeof text));
        return false;
    }
    return true;
}

static int run(const settings *s)
{
    const kernel *k = kernel_of(s->what);
    char          text[128];
    if (k != NULL) return all_apply(k, s) ? k->run(&s->micro, qr_stdout) : QR_EXIT_USAGE;
    qr_complain("kernel %s: expected one of %s", s->what, names_of(NULL, ", ", text, sizeof text));
    return QR_EXIT_USAGE;
}

/* The kernel that the arguments name, wherever, so that --help may stand before it or behind; NULL: none. */
static const kernel *named_kernel(int argc, char **argv)
{
    const kernel *found = NULL;
    for (int i = 1; i < argc && found == NULL; i++) found = kernel_of(argv[i]);
    return found;
}

/* The help of one kernel, or of all with k NULL. */
static void describe(const kernel *k, struct argp_option shown[FLAGS + 1], char *text, size_t size)
{
    for (int i = 0; i < FLAGS; i++)
        shown[i] = (struct argp_option){.name  = flags[i].name,
                                        .key   = FIRST_FLAG + i,
                                        .arg   = flags[i].argument,
                                        .flags = k == NULL || reads(k, &flags[i]) ? 0 : OPTION_HIDDEN,
                                        .doc   = flags[i].text,
                                        .group = flags[i].group};
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
    struct argp_option shown[FLAGS + 1] = {{0}};
    char               names[128], text[1024];
    const kernel      *k = named_kernel(argc, argv);
    settings           s = {0};
    describe(k, shown, text, sizeof text);
    const struct argp argp = {.options  = shown,
                              .parser   = parse,
                              .args_doc = k != NULL ? k->name : names_of(NULL, "\n", names, sizeof names),
                              .doc      = text};
    qr_complete(&argp);
    argp_parse(&argp, argc, argv, 0, NULL, &s);
    return run(&s);
}
