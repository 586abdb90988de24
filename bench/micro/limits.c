/* quire kernel limits: what the machine can do at most, as every run measures it, and the peak of each instruction
 * set. */
#include "engine/limits.h"
#include "base/error.h"
#include "bench/micro/variants.h"
#include "kernels/limits.h"

enum { DTYPES = 3, TABLES_MAX = 8, LINES_MAX = 2 + QUIRE_LIMIT_RUNS + DTYPES * TABLES_MAX };

typedef struct bench {
    qr_machine   *machine;
    qr_variant    variants[LINES_MAX];
    uint32_t      count;
    qr_multiplier multipliers[DTYPES * TABLES_MAX];
} bench;

static qr_variant *add_rate(bench *b, double gbs, double bytes)
{
    qr_variant *variant = &b->variants[b->count++];
    variant->gbs        = gbs;
    variant->bytes      = bytes;
    variant->seconds    = bytes / gbs * 1e-9;
    return variant;
}

static void add_reading(bench *b, const quire_limits *limits)
{
    qr_variant *read = add_rate(b, limits->read_gbs, (double)limits->read_bytes);
    snprintf(read->name, sizeof read->name, "R, memory read in order");
    read->params = json_pack("{s:I}", "cache_bytes", (json_int_t)limits->cache_bytes);
    for (int i = 0; i < QUIRE_LIMIT_RUNS; i++) {
        qr_variant *run = add_rate(b, limits->run_gbs[i], (double)limits->read_bytes / 4);
        run->params     = json_pack("{s:i}", "run_bytes", 4096 << i);
        snprintf(run->name, sizeof run->name, "memory read in shuffled runs of %d KiB", 4 << i);
        qr_variant_limit(run, limits->read_gbs, "R", false);
    }
}

static void add_barrier(bench *b, const quire_limits *limits)
{
    qr_variant *barrier = &b->variants[b->count++];
    barrier->seconds    = limits->barrier_ns * 1e-9;
    snprintf(barrier->name, sizeof barrier->name, "barrier");
    snprintf(barrier->note, sizeof barrier->note, "%.0f ns", limits->barrier_ns);
}

/* Every table that this machine can run below the cap, all their products in turn. */
static quire_status measure_peaks(bench *b, uint32_t rounds, quire_error *error)
{
    const qr_kernels *tables[TABLES_MAX];
    const uint32_t    available = qr_kernels_available(tables, TABLES_MAX), first = b->count;
    bool              allowed = false;
    for (uint32_t t = 0; t < available; t++) {
        allowed |= tables[t] == b->machine->kernels;
        for (qr_dtype dtype = QR_F32; allowed && dtype <= QR_INT8; dtype++) {
            char name[64];
            snprintf(name, sizeof name, "P %s, %s, in registers", tables[t]->isa, qr_dtype_name(dtype));
            qr_machine as_if    = *b->machine;
            as_if.kernels       = tables[t];
            qr_variant *variant = &b->variants[b->count++];
            qr_variant_multiply(variant, name, &b->multipliers[t * DTYPES + dtype], &as_if, dtype);
            variant->params = json_pack("{s:s, s:s}", "isa", tables[t]->isa, "dtype", qr_dtype_name(dtype));
        }
    }
    qr_variants peaks = {.machine = b->machine, .variant = b->variants + first, .count = b->count - first};
    return qr_variants_run(&peaks, rounds, error);
}

static quire_status run(qr_machine *machine, const qr_micro_options *options, FILE *out, quire_error *error)
{
    const qr_limits_options how = {
        .kernels = machine->kernels, .cache_bytes = machine->l3_bytes, .bind = &machine->bind};
    quire_limits limits;
    bench        b = {.machine = machine};
    QR_TRY(qr_limits_measure(machine->team, &how, &limits, error));
    add_reading(&b, &limits);
    QR_TRY(measure_peaks(&b, options->rounds ? options->rounds : 15, error));
    add_barrier(&b, &limits);
    qr_variants all = {.machine = machine, .variant = b.variants, .count = b.count};
    return qr_variants_report(&all, "limits", options->json, out, error);
}

int qr_micro_limits(const qr_micro_options *options, FILE *out) { return qr_micro_on_machine(options, run, out); }
