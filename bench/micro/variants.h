/* What the micro-benchmarks of kernels share: a team as the engine's, variants that take turns, medians, one report.
 *
 * All variants of a run are timed once in every round, in an order that alternates from round to round, each by all
 * threads between two barriers. Before and after each turn a quarter of a memory of its own is read, in rotation: the
 * bandwidth R of that moment. On a shared machine R can double within a second, so a variant is compared with its own
 * neighbours, and a turn counts only if those two agree within 10 % (unless too few do). */
#ifndef QR_VARIANTS_H
#define QR_VARIANTS_H

#include <jansson.h>

#include "bench/micro/micro.h"
#include "kernels/kernels.h"
#include "topology/team.h"

/* Threads pinned as the engine pins them, and how its memory is placed. */
typedef struct qr_machine {
    qr_team          *team;
    uint32_t          thread_count;
    const qr_kernels *kernels;
    uint64_t          l2_bytes, l3_bytes; /* of one core, of all together; guessed where unknown */
    uint64_t          beyond_bytes;       /* qr_limits_beyond(l3_bytes) */
    qr_mapping       *memory; /* [thread_count] what R reads: each thread its own part, together beyond_bytes */
    float            *sink;   /* [thread_count] makes what is read needed */
    qr_log            log;
    qr_bind_options   bind;
} qr_machine;

quire_status qr_machine_create(const qr_micro_options *options, qr_machine *machine, quire_error *error);
void         qr_machine_destroy(qr_machine *machine);

enum { QR_VARIANTS_MAX = 160, QR_ROUNDS_MAX = 1000 };

typedef struct qr_variant {
    char    name[64];
    json_t *params; /* owned; NULL: none */
    /* Untimed, by the driver, before each pass: NULL: nothing to do. */
    void (*prepare)(void *context, uint32_t round);
    /* One pass, on every thread. Ends when the work of all threads is done or the next barrier will see to it. */
    void (*run)(void *context, uint32_t thread, uint32_t thread_count);
    /* Instead of run: one pass by the driver, which hands its work to the team itself. */
    void (*drive)(void *context);
    void  *context;
    double bytes, flops; /* of one pass of all threads */
    const struct qr_variant
          *peak;       /* a variant of the same run that only multiplies: P of floor_fraction; NULL: not wanted */
    double wide_flops; /* of flops, in another type, whose P is that of `wide_peak` */
    const struct qr_variant *wide_peak;

    double   seconds; /* median of a pass; set by qr_variants_run */
    double   gbs, gflops;
    double   read_gbs;       /* R at its turns: gbs / read_gbs is the median of the ratios turn by turn */
    uint32_t turns;          /* that count; 0: the limits measure in their own way */
    uint32_t agreeing;       /* between two R that agree; fewer than three: all count */
    double   floor_fraction; /* max(bytes / R, flops / P) over the time, turn by turn; only with a `peak` */

    /* What it is measured against, set by the benchmark after the run: a rate in GB/s, or in GFLOP/s where
     * `limit_of` is QR_LIMIT_PEAK; 0 = nothing. */
    double      limit;
    const char *limit_name; /* "R", "P", "1/(1/R + 1/C)", "oneDNN" */
    bool        limit_is_peak;
    double      fraction;  /* reached / limit; set by qr_variant_limit */
    json_t     *more;      /* owned; further fields of the JSON; NULL: none */
    char        note[128]; /* printed behind the line */
} qr_variant;

typedef struct qr_variants {
    const qr_machine *machine;
    qr_variant       *variant; /* [count], the caller's */
    uint32_t          count;
    qr_variant        read; /* R, all turns; set by qr_variants_run */
} qr_variants;

/* Times `rounds` passes of each variant after two that do not count. */
quire_status qr_variants_run(qr_variants *variants, uint32_t rounds, quire_error *error);

/* States the limit of a variant that has run; `is_peak`: GFLOP/s instead of GB/s. */
void qr_variant_limit(qr_variant *variant, double limit, const char *name, bool is_peak);

/* Adds a field to the variant's JSON. */
void qr_variant_note(qr_variant *variant, const char *key, double value);

/* R and every variant as a line of text, or all as one JSON document {"schema": "quire.kernel/1", "kernel", "isa",
 * "threads", "variants": [{"name", "params", "seconds", "bytes", "flops", "gbs", "gflops", "limit", "limit_name",
 * "fraction", ...}]}. Frees params and more. ERR_IO where `out` refuses. */
quire_status qr_variants_report(qr_variants *variants, const char *kernel, bool as_json, FILE *out, quire_error *error);

/* ---- variants that every benchmark has ---- */

/* Multiplies in registers as the limit P does. */
typedef struct qr_multiplier {
    const qr_kernels *kernels;
    qr_dtype          dtype;
    float             sink[QR_MAX_THREADS];
} qr_multiplier;
void qr_variant_multiply(qr_variant *variant, const char *name, qr_multiplier *multiplier, const qr_machine *machine,
                         qr_dtype dtype);

/* A benchmark of products in several types: the first member of its state. */
typedef struct qr_typed_bench {
    const qr_machine *machine;
    qr_micro_options  options; /* defaults filled in */
    qr_variant        variants[QR_VARIANTS_MAX];
    uint32_t          judged_count; /* of the variants: those before P of each type */
    uint32_t          variant_count, peak_variant[QR_MICRO_INT4 + 1];
    qr_multiplier     multiplier[QR_MICRO_INT4 + 1];
} qr_typed_bench;

typedef struct qr_typed_benchmark {
    const char *name;
    size_t      size;                                        /* of the state, zeros before `create` */
    quire_status (*create)(void *state, quire_error *error); /* all variants but P */
    void (*judge)(void *state, uint32_t variant);            /* states the limit of one that has run */
    void (*destroy)(void *state);                            /* also what a failed `create` has left */
} qr_typed_benchmark;

/* Creates the state, adds P for each type of the options, runs the variants in turn, judges and reports them. */
quire_status qr_typed_bench_run(const qr_typed_benchmark *benchmark, qr_machine *machine,
                                const qr_micro_options *options, FILE *out, quire_error *error);

/* Notes what a variant that has run reached of R and of its type's P. Returns that P, in GFLOP/s. */
double qr_typed_bench_note_fractions(qr_typed_bench *bench, uint32_t variant, uint32_t dtype);

/* What a benchmark returns to its caller, after a message on stderr if it failed. */
int qr_micro_status(quire_status status, const quire_error *error);

/* Makes the machine that the options ask for, runs a benchmark on it and returns what that says. */
typedef quire_status qr_micro_run(qr_machine *machine, const qr_micro_options *options, FILE *out, quire_error *error);
int                  qr_micro_on_machine(const qr_micro_options *options, qr_micro_run *run, FILE *out);

/* The list's greatest value; what an empty list is to hold. */
uint64_t qr_list_greatest(const qr_micro_list *list);
void     qr_list_default(qr_micro_list *list, uint32_t count, const uint64_t *values);

/* What is multiplied, of a value in a list of dtypes: int8 for codes of 4 bits. */
qr_dtype qr_multiplied_dtype(uint32_t dtype);

/* ERR_INVALID where --group-size is none; 0 becomes 32. */
quire_status qr_micro_group_size(qr_micro_options *options, quire_error *error);

#endif
