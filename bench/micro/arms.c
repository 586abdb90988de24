/* The team, the turns and the report of the micro-benchmarks: see arms.h. */
#include "bench/micro/arms.h"

#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/median.h"
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

const char *qr_dtype_name(qr_dtype dtype)
{
    static const char *const names[] = {[QR_F32] = "f32", [QR_BF16] = "bf16", [QR_INT8] = "int8"};
    return names[dtype];
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
    qr_team *team;
    qr_arm  *arm;
    uint64_t ns;
} pass;

static void run_pass(void *context, uint32_t thread, uint32_t thread_count)
{
    pass *p = context;
    qr_team_barrier(p->team);
    const uint64_t start = qr_now_ns();
    p->arm->run(p->arm->context, thread, thread_count);
    qr_team_barrier(p->team);
    if (thread == 0) p->ns = qr_now_ns() - start;
}

static double time_pass(const qr_arms *arms, qr_arm *arm, uint32_t round)
{
    pass p = {.team = arms->machine->team, .arm = arm};
    if (arm->prepare != NULL) arm->prepare(arm->context, round);
    if (arm->drive == NULL) {
        qr_team_run(p.team, run_pass, &p);
    } else {
        const uint64_t start = qr_now_ns();
        arm->drive(arm->context);
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

static qr_arm reading_arm(reader *r)
{
    qr_arm arm   = {.name = "R, plain read of memory", .prepare = next_share, .run = read_share, .context = r};
    size_t bytes = 0;
    for (uint32_t t = 0; t < r->machine->thread_count; t++) bytes += r->machine->memory[t].bytes / READ_SHARES;
    arm.bytes = (double)bytes;
    return arm;
}

/* ---- rounds ---- */

typedef struct turn {
    double seconds, before, after; /* of the arm, of R */
} turn;

typedef struct samples {
    turn    *turns;  /* [arms][rounds] */
    double  *values; /* [(arms + 1) * rounds] to sort */
    uint32_t rounds;
} samples;

static bool agrees(const turn *t)
{
    const double ratio = t->before / t->after;
    return ratio < agreement && ratio > 1 / agreement;
}

static void summarize(qr_arm *arm, double read_bytes, const turn *turns, const samples *s)
{
    arm->agreeing = 0;
    for (uint32_t i = 0; i < s->rounds; i++) arm->agreeing += agrees(&turns[i]);
    const bool all    = arm->agreeing < TURNS_LEAST;
    double    *ratios = s->values + s->rounds;
    arm->turns        = 0;
    for (uint32_t i = 0; i < s->rounds; i++) {
        if (!all && !agrees(&turns[i])) continue;
        const double read     = 2 * read_bytes / (turns[i].before + turns[i].after);
        ratios[arm->turns]    = arm->bytes / turns[i].seconds / read;
        s->values[arm->turns] = turns[i].seconds;
        arm->turns++;
    }
    arm->seconds       = qr_median(s->values, arm->turns);
    arm->gbs           = arm->bytes / arm->seconds * 1e-9;
    arm->gflops        = arm->flops / arm->seconds * 1e-9;
    const double ratio = qr_median(ratios, arm->turns);
    arm->read_gbs      = ratio > 0 ? arm->gbs / ratio : 0;
}

/* The two limits of one and the same round: R around the arm's turn, P of the multiplying arm's. */
static double floor_fraction(const qr_arm *arm, double read_bytes, const turn *turns, const turn *peaks,
                             const samples *s)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < s->rounds; i++) {
        if (arm->turns < s->rounds && !agrees(&turns[i])) continue;
        const double reading     = arm->bytes * (turns[i].before + turns[i].after) / (2 * read_bytes);
        const double multiplying = arm->flops * peaks[i].seconds / arm->peak->flops;
        s->values[count++]       = (reading > multiplying ? reading : multiplying) / turns[i].seconds;
    }
    return qr_median(s->values, count);
}

static void summarize_floor(qr_arms *arms, qr_arm *arm, const samples *s)
{
    const turn *turns = s->turns + (size_t)(arm - arms->arm) * s->rounds;
    if (arm->peak == NULL) return;
    arm->floor_fraction =
        floor_fraction(arm, arms->read.bytes, turns, s->turns + (size_t)(arm->peak - arms->arm) * s->rounds, s);
}

static void summarize_reading(qr_arms *arms, const samples *s)
{
    qr_arm *read = &arms->read;
    read->turns = read->agreeing = arms->count * s->rounds;
    for (uint32_t i = 0; i < read->turns; i++) s->values[i] = s->turns[i].before;
    read->seconds  = qr_median(s->values, read->turns);
    read->read_gbs = read->gbs = read->bytes / read->seconds * 1e-9;
}

static void run_round(qr_arms *arms, uint32_t round, const samples *s)
{
    double before = time_pass(arms, &arms->read, round);
    for (uint32_t i = 0; i < arms->count; i++) {
        const uint32_t index   = round % 2 == 0 ? i : arms->count - 1 - i;
        const double   seconds = time_pass(arms, &arms->arm[index], round);
        const double   after   = time_pass(arms, &arms->read, round);
        if (round >= WARM_ROUNDS)
            s->turns[(size_t)index * s->rounds + round - WARM_ROUNDS] = (turn){seconds, before, after};
        before = after;
    }
}

quire_status qr_arms_run(qr_arms *arms, uint32_t rounds, quire_error *error)
{
    reader  r = {.machine = arms->machine};
    samples s = {.rounds = rounds};
    s.turns   = calloc((size_t)arms->count * rounds, sizeof *s.turns);
    s.values  = calloc(((size_t)arms->count + 1) * rounds, sizeof *s.values);
    if (s.turns == NULL || s.values == NULL) {
        free(s.turns), free(s.values);
        return qr_fail(error, QUIRE_ERR_NO_MEMORY, "%u rounds of samples", rounds);
    }
    arms->read = reading_arm(&r);
    for (uint32_t round = 0; round < WARM_ROUNDS + rounds; round++) run_round(arms, round, &s);
    for (uint32_t i = 0; i < arms->count; i++)
        summarize(&arms->arm[i], arms->read.bytes, s.turns + (size_t)i * rounds, &s);
    for (uint32_t i = 0; i < arms->count; i++) summarize_floor(arms, &arms->arm[i], &s);
    summarize_reading(arms, &s);
    free(s.turns), free(s.values);
    return QUIRE_OK;
}

void qr_arm_limit(qr_arm *arm, double limit, const char *name, bool is_peak)
{
    arm->limit         = limit;
    arm->limit_name    = name;
    arm->limit_is_peak = is_peak;
    arm->fraction      = limit > 0 ? (is_peak ? arm->gflops : arm->gbs) / limit : 0;
}

void qr_arm_note(qr_arm *arm, const char *key, double value)
{
    if (arm->more == NULL) arm->more = json_object();
    json_object_set_new(arm->more, key, json_real(value));
}

/* ---- report ---- */

static json_t *number(double value, bool known) { return known ? json_real(value) : json_null(); }

static json_t *arm_json(qr_arm *arm)
{
    const char *unit = arm->limit_name == NULL ? NULL : arm->limit_is_peak ? "GFLOP/s" : "GB/s";
    json_t     *json =
        json_pack("{s:s, s:o, s:f, s:f, s:f, s:f, s:o, s:o, s:s?, s:s?, s:o, s:o, s:o, s:o}", "name", arm->name,
                  "params", arm->params ? arm->params : json_object(), "seconds", arm->seconds, "bytes", arm->bytes,
                  "flops", arm->flops, "gbs", arm->gbs, "gflops", number(arm->gflops, arm->flops > 0), "limit",
                  number(arm->limit, arm->limit > 0), "limit_name", arm->limit_name, "limit_unit", unit, "fraction",
                  number(arm->fraction, arm->limit > 0), "read_gbs", number(arm->read_gbs, arm->read_gbs > 0), "turns",
                  arm->turns > 0 ? json_integer(arm->turns) : json_null(), "turns_agreeing",
                  arm->turns > 0 ? json_integer(arm->agreeing) : json_null());
    if (arm->more != NULL) json_object_update(json, arm->more);
    json_decref(arm->more);
    arm->params = arm->more = NULL;
    return json;
}

static void print_arm(const qr_arm *arm, FILE *out)
{
    fprintf(out, "%-44s %9.3f ms", arm->name, arm->seconds * 1e3);
    if (arm->bytes > 0)
        fprintf(out, " %7.1f GB/s", arm->gbs);
    else
        fprintf(out, " %12s", "");
    if (arm->flops > 0)
        fprintf(out, " %7.1f GFLOP/s", arm->gflops);
    else
        fprintf(out, " %15s", "");
    if (arm->limit > 0) fprintf(out, "  %5.2f of %s", arm->fraction, arm->limit_name);
    if (arm->note[0] != '\0') fprintf(out, "  %s", arm->note);
    fputc('\n', out);
}

static void drop_json(const qr_arms *arms)
{
    for (uint32_t i = 0; i < arms->count; i++) {
        json_decref(arms->arm[i].params), json_decref(arms->arm[i].more);
        arms->arm[i].params = arms->arm[i].more = NULL;
    }
}

static void report_json(qr_arms *arms, const char *kernel, FILE *out)
{
    json_t *list = json_array();
    if (arms->read.seconds > 0) json_array_append_new(list, arm_json(&arms->read));
    for (uint32_t i = 0; i < arms->count; i++) json_array_append_new(list, arm_json(&arms->arm[i]));
    json_t *all = json_pack("{s:s, s:s, s:s, s:i, s:o}", "schema", "quire.kernel/1", "kernel", kernel, "isa",
                            arms->machine->kernels->isa, "threads", (int)arms->machine->thread_count, "arms", list);
    json_dumpf(all, out, JSON_INDENT(2) | JSON_REAL_PRECISION(12));
    fputc('\n', out);
    json_decref(all);
}

static void report_text(const qr_arms *arms, FILE *out)
{
    fprintf(out, "%s, %u threads\n", arms->machine->kernels->isa, arms->machine->thread_count);
    if (arms->read.seconds > 0) print_arm(&arms->read, out);
    for (uint32_t i = 0; i < arms->count; i++) print_arm(&arms->arm[i], out);
}

quire_status qr_arms_report(qr_arms *arms, const char *kernel, bool as_json, FILE *out, quire_error *error)
{
    if (as_json)
        report_json(arms, kernel, out);
    else
        report_text(arms, out);
    drop_json(arms);
    return fflush(out) == 0 && !ferror(out) ? QUIRE_OK : qr_fail(error, QUIRE_ERR_IO, "the report cannot be written");
}

/* ---- arms that every benchmark has ---- */

static void multiply_part(void *context, uint32_t thread, uint32_t thread_count)
{
    qr_multiplier *m = context;
    (void)thread_count;
    m->sink[thread] += m->kernels->limits->by_dtype[m->dtype].multiply(MULTIPLY_STEPS);
}

void qr_arm_multiply(qr_arm *arm, const char *name, qr_multiplier *multiplier, const qr_machine *machine,
                     qr_dtype dtype)
{
    const double step = machine->kernels->limits->by_dtype[dtype].operations;
    *multiplier       = (qr_multiplier){.kernels = machine->kernels, .dtype = dtype};
    *arm =
        (qr_arm){.run = multiply_part, .context = multiplier, .flops = step * MULTIPLY_STEPS * machine->thread_count};
    snprintf(arm->name, sizeof arm->name, "%s", name);
}
