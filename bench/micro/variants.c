/* The team, the turns and the report of the micro-benchmarks. */
#include "bench/micro/variants.h"

#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/median.h"
#include "base/printable.h"
#include "engine/limits.h"
#include "kernels/limits.h"

enum {
    WARM_ROUNDS    = 2,
    MULTIPLY_STEPS = 400000,
    READ_SHARES    = 4, /* a turn of R reads one of so many shares, the next one the next */
    READ_ROUNDING  = READ_SHARES * QR_READ_STEP,
    TURNS_LEAST    = 3, /* that must agree, else all count */
};

static const double agreement = 1.1;

qr_dtype qr_multiplied_dtype(uint32_t dtype) { return dtype == QR_MICRO_INT4 ? QR_INT8 : (qr_dtype)dtype; }

quire_status qr_micro_group_size(qr_micro_options *options, quire_error *error)
{
    const uint32_t given = options->group_size;
    if (given == 0) options->group_size = 32;
    if (given == 0 || given == 32 || given == 64 || given == 128) return QUIRE_OK;
    return qr_fail(error, QUIRE_ERR_INVALID, "--group-size %u: expected 32, 64 or 128", given);
}

int qr_micro_status(quire_status status, const quire_error *error)
{
    if (status == QUIRE_OK) return 0;
    fprintf(stderr, "quire: error: kernel: %s\n", error->message);
    return status == QUIRE_ERR_INVALID || status == QUIRE_ERR_UNSUPPORTED ? 2 : 1;
}

int qr_micro_on_machine(const qr_micro_options *options, qr_micro_run *run, FILE *out)
{
    quire_error  error = {0};
    qr_machine   machine;
    quire_status status = qr_machine_create(options, &machine, &error);
    if (status == QUIRE_OK) {
        status = run(&machine, options, out, &error);
        qr_machine_destroy(&machine);
    }
    return qr_micro_status(status, &error);
}

uint64_t qr_list_greatest(const qr_micro_list *list)
{
    uint64_t most = 0;
    for (uint32_t i = 0; i < list->count; i++) most = qr_max_u64(most, list->values[i]);
    return most;
}

void qr_list_default(qr_micro_list *list, uint32_t count, const uint64_t *values)
{
    if (list->count > 0) return;
    list->count = count;
    memcpy(list->values, values, count * sizeof *values);
}

/* ---- the machine ---- */

static quire_status create_team(const qr_micro_options *options, const qr_topology *topology, qr_machine *machine,
                                quire_error *error)
{
    const quire_engine_options wanted = {.size = sizeof wanted, .cpus = options->cpus, .threads = options->threads};
    qr_placement               placement;
    char                       warning[256] = "";
    QR_TRY(qr_placement_plan(topology, &wanted, &placement, warning, error));
    if (warning[0] != '\0') qr_log_write(&machine->log, QUIRE_LOG_WARN, "%s", warning);
    const qr_team_options team = {.bind = machine->bind};
    QR_TRY(qr_team_create(&placement, &team, &machine->team, error));
    machine->thread_count = qr_team_size(machine->team);
    machine->l2_bytes     = topology->l2_bytes ? topology->l2_bytes : 1u << 20;
    machine->l3_bytes     = topology->l3_bytes ? topology->l3_bytes : 32u << 20;
    machine->beyond_bytes = qr_limits_beyond(machine->l3_bytes);
    return QUIRE_OK;
}

static void touch_part(void *context, uint32_t thread, uint32_t thread_count)
{
    const qr_mapping *parts = context;
    (void)thread_count;
    memset(parts[thread].base, 1, parts[thread].bytes); /* else a page of zeros is read */
}

static quire_status create_memory(qr_machine *machine, quire_error *error)
{
    const qr_placement *placement = qr_team_placement(machine->team);
    const size_t        bytes     = qr_round_up(machine->beyond_bytes / machine->thread_count, READ_ROUNDING);
    machine->memory               = calloc(machine->thread_count, sizeof *machine->memory);
    machine->sink                 = calloc(machine->thread_count, sizeof *machine->sink);
    if (machine->memory == NULL || machine->sink == NULL) return qr_fail(error, QUIRE_ERR_NO_MEMORY, "memory to read");
    for (uint32_t t = 0; t < machine->thread_count; t++) {
        QR_TRY(qr_mapping_create(bytes, &machine->bind, "memory to read", &machine->memory[t], error));
        QR_TRY(qr_mapping_bind(&machine->memory[t], 0, bytes, placement->node_os[placement->node[t]],
                               placement->node_count, &machine->bind, error));
    }
    qr_team_run(machine->team, touch_part, machine->memory);
    return QUIRE_OK;
}

quire_status qr_machine_create(const qr_micro_options *options, qr_machine *machine, quire_error *error)
{
    const qr_topology_source source = {0};
    qr_topology              topology;
    *machine      = (qr_machine){.kernels = qr_kernels_select(options->isa)};
    machine->bind = (qr_bind_options){.log = &machine->log};
    qr_log_init(&machine->log, NULL);
    quire_status status = qr_kernels_check_cap(options->isa, error);
    if (status == QUIRE_OK) status = qr_topology_create(&source, &topology, error);
    if (status == QUIRE_OK) {
        status = create_team(options, &topology, machine, error);
        qr_topology_destroy(&topology);
    }
    if (status == QUIRE_OK) status = create_memory(machine, error);
    if (status != QUIRE_OK) qr_machine_destroy(machine);
    return status;
}

void qr_machine_destroy(qr_machine *machine)
{
    qr_team_destroy(machine->team);
    for (uint32_t t = 0; machine->memory != NULL && t < machine->thread_count; t++)
        if (machine->memory[t].base != NULL) qr_mapping_destroy(&machine->memory[t]);
    free(machine->memory), free(machine->sink);
    qr_log_deinit(&machine->log);
    *machine = (qr_machine){0};
}

/* ---- turns ---- */

typedef struct pass {
    qr_team    *team;
    qr_variant *variant;
    uint64_t    ns;
} pass;

static void run_pass(void *context, uint32_t thread, uint32_t thread_count)
{
    pass *p = context;
    qr_team_barrier(p->team);
    const uint64_t start = qr_now_ns();
    p->variant->run(p->variant->context, thread, thread_count);
    qr_team_barrier(p->team);
    if (thread == 0) p->ns = qr_now_ns() - start;
}

static double time_pass(const qr_variants *variants, qr_variant *variant, uint32_t round)
{
    pass p = {.team = variants->machine->team, .variant = variant};
    if (variant->prepare != NULL) variant->prepare(variant->context, round);
    if (variant->drive == NULL) {
        qr_team_run(p.team, run_pass, &p);
    } else {
        const uint64_t start = qr_now_ns();
        variant->drive(variant->context);
        p.ns = qr_now_ns() - start;
    }
    return (double)p.ns * 1e-9;
}

/* ---- R ---- */

typedef struct reader {
    const qr_machine *machine;
    uint32_t          share; /* read next */
} reader;

static void next_share(void *context, uint32_t round)
{
    reader *r = context;
    (void)round;
    r->share = (r->share + 1) % READ_SHARES;
}

static void read_share(void *context, uint32_t thread, uint32_t thread_count)
{
    const reader     *r     = context;
    const qr_mapping *part  = &r->machine->memory[thread];
    const size_t      bytes = part->bytes / READ_SHARES;
    (void)thread_count;
    r->machine->sink[thread] += r->machine->kernels->limits->read(part->base + r->share * bytes, bytes);
}

static qr_variant reading_variant(reader *r)
{
    qr_variant variant = {.name = "R, plain read of memory", .prepare = next_share, .run = read_share, .context = r};
    size_t     bytes   = 0;
    for (uint32_t t = 0; t < r->machine->thread_count; t++) bytes += r->machine->memory[t].bytes / READ_SHARES;
    variant.bytes = (double)bytes;
    return variant;
}

/* ---- rounds ---- */

typedef struct turn {
    double seconds, before, after; /* of the variant, of R */
} turn;

typedef struct samples {
    turn    *turns;  /* [variants][rounds] */
    double  *values; /* [(variants + 1) * rounds] to sort */
    uint32_t rounds;
} samples;

static bool agrees(const turn *t)
{
    const double ratio = t->before / t->after;
    return ratio < agreement && ratio > 1 / agreement;
}

static void summarize(qr_variant *variant, double read_bytes, const turn *turns, const samples *s)
{
    variant->agreeing = 0;
    for (uint32_t i = 0; i < s->rounds; i++) variant->agreeing += agrees(&turns[i]);
    const bool all    = variant->agreeing < TURNS_LEAST;
    double    *ratios = s->values + s->rounds;
    variant->turns    = 0;
    for (uint32_t i = 0; i < s->rounds; i++) {
        if (!all && !agrees(&turns[i])) continue;
        const double read         = 2 * read_bytes / (turns[i].before + turns[i].after);
        ratios[variant->turns]    = variant->bytes / turns[i].seconds / read;
        s->values[variant->turns] = turns[i].seconds;
        variant->turns++;
    }
    variant->seconds   = qr_median(s->values, variant->turns);
    variant->gbs       = variant->bytes / variant->seconds * 1e-9;
    variant->gflops    = variant->flops / variant->seconds * 1e-9;
    const double ratio = qr_median(ratios, variant->turns);
    variant->read_gbs  = ratio > 0 ? variant->gbs / ratio : 0;
}

static const turn *turns_of(const qr_variants *variants, const qr_variant *variant, const samples *s)
{
    return s->turns + (size_t)(variant - variants->variant) * s->rounds;
}

/* The two limits of one and the same round: R around the variant's turn, P of the multiplying variants'. */
static double floor_fraction(const qr_variants *variants, const qr_variant *variant, const samples *s)
{
    const turn  *turns = turns_of(variants, variant, s), *peaks = turns_of(variants, variant->peak, s);
    const turn  *wide_peaks = variant->wide_flops > 0 ? turns_of(variants, variant->wide_peak, s) : NULL;
    const double read_bytes = variants->read.bytes;
    uint32_t     count      = 0;
    for (uint32_t i = 0; i < s->rounds; i++) {
        if (variant->turns < s->rounds && !agrees(&turns[i])) continue;
        const double reading     = variant->bytes * (turns[i].before + turns[i].after) / (2 * read_bytes);
        double       multiplying = (variant->flops - variant->wide_flops) * peaks[i].seconds / variant->peak->flops;
        if (wide_peaks != NULL) multiplying += variant->wide_flops * wide_peaks[i].seconds / variant->wide_peak->flops;
        s->values[count++] = (reading > multiplying ? reading : multiplying) / turns[i].seconds;
    }
    return qr_median(s->values, count);
}

static void summarize_reading(qr_variants *variants, const samples *s)
{
    qr_variant *read = &variants->read;
    read->turns = read->agreeing = variants->count * s->rounds;
    for (uint32_t i = 0; i < read->turns; i++) s->values[i] = s->turns[i].before;
    read->seconds  = qr_median(s->values, read->turns);
    read->read_gbs = read->gbs = read->bytes / read->seconds * 1e-9;
}

static void run_round(qr_variants *variants, uint32_t round, const samples *s)
{
    double before = time_pass(variants, &variants->read, round);
    for (uint32_t i = 0; i < variants->count; i++) {
        const uint32_t index   = round % 2 == 0 ? i : variants->count - 1 - i;
        const double   seconds = time_pass(variants, &variants->variant[index], round);
        const double   after   = time_pass(variants, &variants->read, round);
        if (round >= WARM_ROUNDS)
            s->turns[(size_t)index * s->rounds + round - WARM_ROUNDS] = (turn){seconds, before, after};
        before = after;
    }
}

quire_status qr_variants_run(qr_variants *variants, uint32_t rounds, quire_error *error)
{
    reader  r = {.machine = variants->machine};
    samples s = {.rounds = rounds};
    s.turns   = calloc((size_t)variants->count * rounds, sizeof *s.turns);
    s.values  = calloc(((size_t)variants->count + 1) * rounds, sizeof *s.values);
    if (s.turns == NULL || s.values == NULL) {
        free(s.turns), free(s.values);
        return qr_fail(error, QUIRE_ERR_NO_MEMORY, "%u rounds of samples", rounds);
    }
    variants->read = reading_variant(&r);
    for (uint32_t round = 0; round < WARM_ROUNDS + rounds; round++) run_round(variants, round, &s);
    for (uint32_t i = 0; i < variants->count; i++)
        summarize(&variants->variant[i], variants->read.bytes, s.turns + (size_t)i * rounds, &s);
    for (uint32_t i = 0; i < variants->count; i++)
        if (variants->variant[i].peak != NULL)
            variants->variant[i].floor_fraction = floor_fraction(variants, &variants->variant[i], &s);
    summarize_reading(variants, &s);
    free(s.turns), free(s.values);
    return QUIRE_OK;
}

void qr_variant_limit(qr_variant *variant, double limit, const char *name, bool is_peak)
{
    variant->limit         = limit;
    variant->limit_name    = name;
    variant->limit_is_peak = is_peak;
    variant->fraction      = limit > 0 ? (is_peak ? variant->gflops : variant->gbs) / limit : 0;
}

void qr_variant_note(qr_variant *variant, const char *key, double value)
{
    if (variant->more == NULL) variant->more = json_object();
    json_object_set_new(variant->more, key, json_real(value));
}

/* ---- report ---- */

static json_t *number(double value, bool known) { return known ? json_real(value) : json_null(); }

static json_t *variant_json(qr_variant *variant)
{
    const char *unit = variant->limit_name == NULL ? NULL : variant->limit_is_peak ? "GFLOP/s" : "GB/s";
    json_t     *json = json_pack(
            "{s:s, s:o, s:f, s:f, s:f, s:f, s:o, s:o, s:s?, s:s?, s:o, s:o, s:o, s:o}", "name", variant->name, "params",
        variant->params ? variant->params : json_object(), "seconds", variant->seconds, "bytes", variant->bytes,
            "flops", variant->flops, "gbs", variant->gbs, "gflops", number(variant->gflops, variant->flops > 0), "limit",
            number(variant->limit, variant->limit > 0), "limit_name", variant->limit_name, "limit_unit", unit, "fraction",
            number(variant->fraction, variant->limit > 0), "read_gbs", number(variant->read_gbs, variant->read_gbs > 0),
            "turns", variant->turns > 0 ? json_integer(variant->turns) : json_null(), "turns_agreeing",
        variant->turns > 0 ? json_integer(variant->agreeing) : json_null());
    if (variant->more != NULL) json_object_update(json, variant->more);
    json_decref(variant->more);
    variant->params = variant->more = NULL;
    return json;
}

static void print_variant(const qr_variant *variant, FILE *out)
{
    fprintf(out, "%-44s %9.3f ms", variant->name, variant->seconds * 1e3);
    if (variant->bytes > 0)
        fprintf(out, " %7.1f GB/s", variant->gbs);
    else
        fprintf(out, " %12s", "");
    if (variant->flops > 0)
        fprintf(out, " %7.1f GFLOP/s", variant->gflops);
    else
        fprintf(out, " %15s", "");
    if (variant->limit > 0) fprintf(out, "  %5.2f of %s", variant->fraction, variant->limit_name);
    if (variant->note[0] != '\0') fprintf(out, "  %s", variant->note);
    fputc('\n', out);
}

static void drop_json(const qr_variants *variants)
{
    for (uint32_t i = 0; i < variants->count; i++) {
        json_decref(variants->variant[i].params), json_decref(variants->variant[i].more);
        variants->variant[i].params = variants->variant[i].more = NULL;
    }
}

static void report_json(qr_variants *variants, const char *kernel, FILE *out)
{
    json_t *list = json_array();
    if (variants->read.seconds > 0) json_array_append_new(list, variant_json(&variants->read));
    for (uint32_t i = 0; i < variants->count; i++) json_array_append_new(list, variant_json(&variants->variant[i]));
    json_t *all =
        json_pack("{s:s, s:s, s:s, s:i, s:o}", "schema", "quire.kernel/1", "kernel", kernel, "isa",
                  variants->machine->kernels->isa, "threads", (int)variants->machine->thread_count, "variants", list);
    json_dumpf(all, out, JSON_INDENT(2) | JSON_REAL_PRECISION(12));
    fputc('\n', out);
    json_decref(all);
}

static void report_text(const qr_variants *variants, FILE *out)
{
    fprintf(out, "%s, %u thread%s\n", variants->machine->kernels->isa, variants->machine->thread_count,
            qr_plural(variants->machine->thread_count));
    if (variants->read.seconds > 0) print_variant(&variants->read, out);
    for (uint32_t i = 0; i < variants->count; i++) print_variant(&variants->variant[i], out);
}

quire_status qr_variants_report(qr_variants *variants, const char *kernel, bool as_json, FILE *out, quire_error *error)
{
    if (as_json)
        report_json(variants, kernel, out);
    else
        report_text(variants, out);
    drop_json(variants);
    return fflush(out) == 0 && !ferror(out) ? QUIRE_OK : qr_fail(error, QUIRE_ERR_IO, "the report cannot be written");
}

/* ---- variants that every benchmark has ---- */

static void multiply_part(void *context, uint32_t thread, uint32_t thread_count)
{
    qr_multiplier *m = context;
    (void)thread_count;
    m->sink[thread] += m->kernels->limits->by_dtype[m->dtype].multiply(MULTIPLY_STEPS);
}

void qr_variant_multiply(qr_variant *variant, const char *name, qr_multiplier *multiplier, const qr_machine *machine,
                         qr_dtype dtype)
{
    const double step = machine->kernels->limits->by_dtype[dtype].operations;
    *multiplier       = (qr_multiplier){.kernels = machine->kernels, .dtype = dtype};
    *variant          = (qr_variant){
                 .run = multiply_part, .context = multiplier, .flops = step * MULTIPLY_STEPS * machine->thread_count};
    snprintf(variant->name, sizeof variant->name, "%s", name);
}

static void add_peaks(qr_typed_bench *b)
{
    for (uint32_t d = 0; d < b->options.dtypes.count; d++) {
        const uint32_t dtype = (uint32_t)b->options.dtypes.values[d];
        char           name[32];
        if (b->multiplier[dtype].kernels != NULL) continue; /* listed twice */
        snprintf(name, sizeof name, "P %s, in registers", qr_micro_dtype_name(dtype));
        b->peak_variant[dtype] = b->variant_count;
        qr_variant_multiply(&b->variants[b->variant_count++], name, &b->multiplier[dtype], b->machine,
                            qr_multiplied_dtype(dtype));
    }
}

static quire_status run_typed(const qr_typed_benchmark *benchmark, qr_typed_bench *b, FILE *out, quire_error *error)
{
    QR_TRY(benchmark->create(b, error));
    b->judged_count = b->variant_count;
    add_peaks(b);
    qr_variants variants = {.machine = b->machine, .variant = b->variants, .count = b->variant_count};
    QR_TRY(qr_variants_run(&variants, b->options.rounds, error));
    for (uint32_t i = 0; i < b->judged_count; i++) benchmark->judge(b, i);
    return qr_variants_report(&variants, benchmark->name, b->options.json, out, error);
}

quire_status qr_typed_bench_run(const qr_typed_benchmark *benchmark, qr_machine *machine,
                                const qr_micro_options *options, FILE *out, quire_error *error)
{
    qr_typed_bench *b = calloc(1, benchmark->size);
    if (b == NULL) return qr_fail(error, QUIRE_ERR_NO_MEMORY, "variants");
    b->machine                = machine;
    b->options                = *options;
    const quire_status status = run_typed(benchmark, b, out, error);
    benchmark->destroy(b);
    free(b);
    return status;
}

double qr_typed_bench_note_fractions(qr_typed_bench *b, uint32_t index, uint32_t dtype)
{
    qr_variant  *variant = &b->variants[index];
    const double peak    = b->variants[b->peak_variant[dtype]].gflops;
    qr_variant_note(variant, "fraction_of_read", variant->gbs / variant->read_gbs);
    qr_variant_note(variant, "fraction_of_peak", variant->gflops / peak);
    return peak;
}
