/* quire topo: the machine as this process may use it, and where the engine's threads would be pinned. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/printable.h"
#include "cli/command.h"
#include "cli/mpirun.h"
#include "cli/topo_verify.h"
#include "engine/node_bandwidth.h"
#include "kernels/cpu.h"
#include "kernels/kernels.h"
#include "topology/placement.h"

typedef struct settings {
    qr_arguments common;
    const char  *synthetic;
    bool         bandwidth, verify;
    uint32_t     steps; /* of --verify */
} settings;

static void print_bytes(const char *before, uint64_t bytes)
{
    if (bytes == 0)
        fprintf(qr_stdout, "%sunknown", before);
    else if (bytes < 1 << 20)
        fprintf(qr_stdout, "%s%llu KiB", before, (unsigned long long)bytes >> 10);
    else if (bytes < 1 << 30)
        fprintf(qr_stdout, "%s%.1f MiB", before, (double)bytes / (1 << 20));
    else
        fprintf(qr_stdout, "%s%.1f GiB", before, (double)bytes / (1 << 30));
}

static int by_os_index(const void *a, const void *b)
{
    const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

/* In ascending order, "0-3,8". */
static void print_numbers(uint32_t *numbers, uint32_t count)
{
    qsort(numbers, count, sizeof *numbers, by_os_index);
    for (uint32_t i = 0, end; i < count; i = end) {
        for (end = i + 1; end < count && numbers[end] == numbers[end - 1] + 1;) end++;
        fprintf(qr_stdout, "%s%u", i > 0 ? "," : "", numbers[i]);
        if (end > i + 1) fprintf(qr_stdout, "-%u", numbers[end - 1]);
    }
}

static void print_machine(const qr_topology *t)
{
    uint32_t packages = 0, cores = 0, allowed = 0, numbers[QR_MAX_CPUS];
    for (uint32_t i = 0; i < t->cpu_count; i++) {
        if (t->cpus[i].package >= packages) packages = t->cpus[i].package + 1;
        if (i == 0 || t->cpus[i].core != t->cpus[i - 1].core) cores++;
        if (t->cpus[i].allowed) numbers[allowed++] = t->cpus[i].os_index;
    }
    fprintf(qr_stdout, "machine    %u package%s, %u node%s, %u core%s, %u hardware thread%s%s\n", packages,
            qr_plural(packages), t->node_count, qr_plural(t->node_count), cores, qr_plural(cores), t->cpu_count,
            qr_plural(t->cpu_count), t->synthetic ? " (synthetic)" : "");
    print_bytes("caches     L2 ", t->l2_bytes);
    print_bytes(" a core, L3 ", t->l3_bytes);
    fprintf(qr_stdout, "\nallowed    CPUs ");
    print_numbers(numbers, allowed);
    if (t->quota_cpus > 0)
        fprintf(qr_stdout, ", quota of %.2f CPUs\n", t->quota_cpus);
    else
        fprintf(qr_stdout, ", no CPU quota\n");
    if (!t->synthetic) print_bytes("memory     ", qr_memory_limit(NULL));
    if (!t->synthetic) fprintf(qr_stdout, " can still be taken\n");
}

static void print_kernels(const quire_engine_options *options)
{
    const qr_kernels *tables[16];
    const uint32_t    count  = qr_kernels_available(tables, 16);
    const qr_kernels *chosen = qr_kernels_select(options->isa);
    fprintf(qr_stdout, "kernels    %s; this CPU runs", chosen->isa);
    for (uint32_t i = 0; i < count && i < 16; i++) fprintf(qr_stdout, " %s", tables[i]->isa);
    fprintf(qr_stdout, "\n");
    if (qr_cpu_refusal() != NULL) fprintf(qr_stdout, "           %s\n", qr_cpu_refusal());
    if (qr_kernels_remark(chosen) != NULL) fprintf(qr_stdout, "           %s\n", qr_kernels_remark(chosen));
}

static void print_placement(const qr_topology *t, const qr_placement *p, const char *warning)
{
    static const char *const bind_names[] = {"core", "pu", "none"};
    fprintf(qr_stdout, "placement  %u thread%s on %u node%s, bind = %s\n", p->thread_count, qr_plural(p->thread_count),
            p->node_count, qr_plural(p->node_count), bind_names[p->bind]);
    uint32_t numbers[QR_MAX_THREADS], first = 0;
    for (uint32_t n = 0; n < p->node_count; n++) {
        const uint32_t count = p->node_threads[n];
        uint64_t       bytes = 0;
        for (uint32_t i = 0; i < t->node_count; i++)
            if (t->nodes[i].os_index == p->node_os[n]) bytes = t->nodes[i].memory_bytes;
        memcpy(numbers, p->cpu + first, count * sizeof *numbers);
        fprintf(qr_stdout, "  node %-4u threads %u-%u on CPUs ", p->node_os[n], first, first + count - 1);
        print_numbers(numbers, count);
        print_bytes(", memory ", bytes);
        fprintf(qr_stdout, "\n");
        first += count;
    }
    if (warning[0] != '\0') fprintf(qr_stdout, "warning    %s\n", warning);
}

static void print_bandwidth(const qr_placement *p, const qr_node_bandwidth *b)
{
    fprintf(qr_stdout, "bandwidth  GB/s, threads of a node (down) reading the memory of a node (across)\n%12s", "");
    for (uint32_t m = 0; m < b->node_count; m++) fprintf(qr_stdout, "  node %-4u", b->node_os[m]);
    fprintf(qr_stdout, "\n");
    for (uint32_t n = 0; n < p->node_count; n++) {
        fprintf(qr_stdout, "  node %-4u ", p->node_os[n]);
        for (uint32_t m = 0; m < b->node_count; m++)
            if (b->gbs[n][m] > 0)
                fprintf(qr_stdout, " %9.2f ", b->gbs[n][m]);
            else
                fprintf(qr_stdout, " %9s ", "-");
        fprintf(qr_stdout, "\n");
    }
}

static quire_status measure_bandwidth(const qr_topology *topology, const qr_placement *placement,
                                      const quire_engine_options *options, quire_error *error)
{
    const qr_team_options team_options = {0};
    qr_team              *team         = NULL;
    qr_node_bandwidth    *bandwidth    = malloc(sizeof *bandwidth);
    if (bandwidth == NULL)
        return qr_fail(error, QUIRE_ERR_NO_MEMORY, "%zu bytes of memory are missing", sizeof *bandwidth);
    const quire_status status = qr_team_create(placement, &team_options, &team, error);
    if (status == QUIRE_OK) {
        qr_node_bandwidth_measure(team, qr_kernels_select(options->isa), topology, bandwidth);
        print_bandwidth(placement, bandwidth);
    }
    qr_team_destroy(team);
    free(bandwidth);
    return status;
}

static int show(void *context, const quire_config *config)
{
    const settings             *s         = context;
    const char                 *synthetic = s->synthetic;
    const quire_engine_options *options   = quire_config_engine(config);
    const qr_topology_source    source    = {.synthetic = synthetic};
    qr_topology                 topology;
    quire_error                 error        = {0};
    char                        warning[256] = "";
    if (s->verify && !qr_mpirun_is_alone("topo --verify")) return QR_EXIT_USAGE;
    qr_placement *placement = malloc(sizeof *placement);
    if (placement == NULL) return QR_EXIT_FAILED;
    quire_status status = qr_kernels_check_cap(options->isa, &error);
    if (status == QUIRE_OK) status = qr_topology_create(&source, &topology, &error);
    if (status == QUIRE_OK) {
        print_machine(&topology);
        print_kernels(options);
        status = qr_placement_plan(&topology, options, placement, warning, &error);
        if (status == QUIRE_OK) print_placement(&topology, placement, warning);
        if (status == QUIRE_OK && s->bandwidth) status = measure_bandwidth(&topology, placement, options, &error);
        qr_topology_destroy(&topology);
    }
    free(placement);
    if (status != QUIRE_OK) return qr_report_error(&error);
    return s->verify ? qr_topo_verify(config, s->steps) : QR_EXIT_OK;
}

/* ---- options ---- */

enum { OPTION_VERIFY = 0x1000, OPTION_STEPS, OPTION_BANDWIDTH, MOST_STEPS = 1000000 };

static const struct argp_option options[] = {
    {"threads", 'j', "N", 0, "compute threads; 0 = one per physical core [topology.threads]", 0},
    {"cpus", 'C', "LIST", 0, "e.g. 0-15,32-47 or node:0 [topology.cpus]", 0},
    {"synthetic", 'S', "MACHINE", 0, "plan for another machine, in hwloc's words: \"pack:2 node:1 core:8 pu:2\"", 0},
    {"bandwidth", OPTION_BANDWIDTH, NULL, 0, "measure how fast each node's threads read each node's memory", 0},
    {"verify", OPTION_VERIFY, NULL, 0,
     "load the model, run some steps of random requests, and count the pages that are on the nodes planned for them",
     0},
    {"steps", OPTION_STEPS, "N", 0, "of --verify (default 200)", 0},
    {0},
};

static void check_flags(const settings *s, struct argp_state *state)
{
    if (s->synthetic != NULL && (s->verify || s->bandwidth))
        argp_error(state, "--synthetic and --%s are mutually exclusive: nothing of another machine can be measured",
                   s->verify ? "verify" : "bandwidth");
}

static error_t parse(int option, char *value, struct argp_state *state)
{
    settings *s = state->input;
    switch (option) {
    case ARGP_KEY_INIT: state->child_inputs[0] = &s->common; return 0;
    case ARGP_KEY_END: check_flags(s, state); return 0;
    case 'S': s->synthetic = value; return 0;
    case OPTION_BANDWIDTH: s->bandwidth = true; return 0;
    case OPTION_VERIFY: s->verify = true; return 0;
    case OPTION_STEPS: s->steps = (uint32_t)qr_parse_number(state, "--steps", value, 0, MOST_STEPS); return 0;
    default: return qr_parse_alias(options, option, value, &s->common);
    }
}

int qr_command_topo(int argc, char **argv)
{
    static const struct argp argp = {
        .options  = options,
        .parser   = parse,
        .args_doc = "[CONFIG]",
        .doc      = "Show the machine, the CPUs this process may use, and the placement of the engine's threads."
                    "\vAllowed are the CPUs in the affinity mask that the process was started with and the cgroup's "
                    "cpuset; the CPU quota bounds how many threads are started. --verify asks the kernel where every page "
                    "of the engine's memory is, after loading and after the steps; exit status 1 if one is on another "
                    "node than planned.",
    };
    static const qr_default without_a_model[] = {{"model.preset", "tiny", "model.preset"}};

    settings s             = {.steps = QR_VERIFY_STEPS};
    s.common.defaults      = without_a_model;
    s.common.default_count = 1;
    qr_parse(&argp, argc, argv, &s);
    return qr_arguments_run(&s.common, show, &s);
}
