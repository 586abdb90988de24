/* Selects CPUs by name, thins them out to one per core, and spreads the threads evenly over what is left. */
#include "topology/placement.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/error.h"
#include "base/printable.h"

/* The CPUs still in the running, as marks beside topology->cpus. */
typedef struct selection {
    const qr_topology *topology;
    bool               in[QR_MAX_CPUS]; /* [cpu_count] */
} selection;

/* ---- the syntax of `cpus` ---- */

/*   list  = item {"," item}
 *   item  = range | place {"." place}
 *   place = ("node" | "package" | "core" | "pu") ":" range
 *   range = number ["-" number]
 *
 * A bare range counts CPUs as the operating system does, node:N likewise. Package, core and pu count from 0 inside the
 * place to their left: "package:0.core:0-7", "node:1.core:0.pu:1". */
typedef enum place_type { PLACE_CPU, PLACE_NODE, PLACE_PACKAGE, PLACE_CORE, PLACE_PU } place_type;

typedef struct place {
    place_type type;
    uint32_t   first, last;
} place;

static bool read_number(const char **text, uint32_t *value_out)
{
    if (**text < '0' || **text > '9') return false;
    char               *end   = NULL;
    const unsigned long value = strtoul(*text, &end, 10);
    *text                     = end;
    *value_out                = (uint32_t)value;
    return value <= INT_MAX;
}

static bool read_range(const char **text, place *place_out)
{
    if (!read_number(text, &place_out->first)) return false;
    place_out->last = place_out->first;
    if (**text != '-') return true;
    (*text)++;
    return read_number(text, &place_out->last) && place_out->last >= place_out->first;
}

static bool read_place(const char **text, place *place_out)
{
    static const char *const names[] = {
        [PLACE_NODE] = "node:", [PLACE_PACKAGE] = "package:", [PLACE_CORE] = "core:", [PLACE_PU] = "pu:"};
    for (int type = PLACE_NODE; type <= PLACE_PU; type++) {
        const size_t length = strlen(names[type]);
        if (strncmp(*text, names[type], length) != 0) continue;
        *text += length;
        place_out->type = (place_type)type;
        return read_range(text, place_out);
    }
    return false;
}

/* ---- selecting ---- */

/* The number of each selected CPU's package or core among those selected: their logical indices, with gaps closed. */
static void number_places(const selection *s, place_type type, uint16_t *number)
{
    const qr_topology *topology              = s->topology;
    uint16_t           rank[QR_MAX_CPUS + 1] = {0};
    for (uint32_t i = 0; i < topology->cpu_count; i++) {
        number[i] = (uint16_t)(type == PLACE_CORE ? topology->cpus[i].core : topology->cpus[i].package);
        if (s->in[i]) rank[number[i] + 1] = 1;
    }
    for (uint32_t key = 1; key <= QR_MAX_CPUS; key++) rank[key] = (uint16_t)(rank[key] + rank[key - 1]);
    for (uint32_t i = 0; i < topology->cpu_count; i++) number[i] = rank[number[i]];
}

/* Hardware threads count within their core; the CPUs of a core are adjacent. */
static void number_hardware_threads(const selection *s, uint16_t *number)
{
    const qr_cpu *cpus = s->topology->cpus;
    uint16_t      next = 0;
    for (uint32_t i = 0; i < s->topology->cpu_count; i++) {
        if (i > 0 && cpus[i].core != cpus[i - 1].core) next = 0;
        number[i] = next;
        next      = (uint16_t)(next + s->in[i]);
    }
}

static void number_cpus(const selection *s, place_type type, uint16_t *number)
{
    if (type == PLACE_PU) {
        number_hardware_threads(s, number);
    } else if (type == PLACE_CPU || type == PLACE_NODE) {
        for (uint32_t i = 0; i < s->topology->cpu_count; i++) {
            const qr_cpu *cpu = &s->topology->cpus[i];
            number[i]         = (uint16_t)(type == PLACE_CPU ? cpu->os_index : s->topology->nodes[cpu->node].os_index);
        }
    } else {
        number_places(s, type, number);
    }
}

static void narrow(selection *s, const place *p)
{
    uint16_t number[QR_MAX_CPUS];
    number_cpus(s, p->type, number);
    for (uint32_t i = 0; i < s->topology->cpu_count; i++)
        s->in[i] = s->in[i] && number[i] >= p->first && number[i] <= p->last;
}

static const qr_cpu *find_cpu(const qr_topology *topology, uint32_t os_index)
{
    for (uint32_t i = 0; i < topology->cpu_count; i++)
        if (topology->cpus[i].os_index == os_index) return &topology->cpus[i];
    return NULL;
}

/* A CPU that is named outright must be usable; a place stands for its usable CPUs. */
static quire_status check_named(const qr_topology *topology, const place *p, const char *cpus, quire_error *error)
{
    for (uint32_t os_index = p->first; os_index <= p->last; os_index++) {
        const qr_cpu *cpu = find_cpu(topology, os_index);
        if (cpu == NULL)
            return qr_fail(error, QUIRE_ERR_INVALID, "[topology] cpus: \"%.60s\" names CPU %u, which does not exist",
                           cpus, os_index);
        if (!cpu->allowed)
            return qr_fail(error, QUIRE_ERR_INVALID,
                           "[topology] cpus: \"%.60s\" names CPU %u, which this process may not use (the affinity "
                           "mask it was started with, or the cgroup's cpuset)",
                           cpus, os_index);
    }
    return QUIRE_OK;
}

static quire_status unreadable(const char *cpus, const char *at, quire_error *error)
{
    return qr_fail(error, QUIRE_ERR_INVALID,
                   "[topology] cpus: \"%.60s\" cannot be read at \"%.20s\"; examples: auto, 0-15,32-47, node:0, "
                   "package:0.core:0-7",
                   cpus, at);
}

static void start_with_allowed(selection *s)
{
    for (uint32_t i = 0; i < s->topology->cpu_count; i++) s->in[i] = s->topology->cpus[i].allowed;
}

static quire_status select_item(const char **text, const char *cpus, selection *s, quire_error *error)
{
    place       p  = {.type = PLACE_CPU};
    const char *at = *text;
    start_with_allowed(s);
    if (**text >= '0' && **text <= '9') {
        if (!read_range(text, &p)) return unreadable(cpus, at, error);
        QR_TRY(check_named(s->topology, &p, cpus, error));
        narrow(s, &p);
        return QUIRE_OK;
    }
    for (;;) {
        if (!read_place(text, &p)) return unreadable(cpus, at, error);
        narrow(s, &p);
        if (**text != '.') return QUIRE_OK;
        at = ++*text;
    }
}

static uint32_t count_selected(const selection *s)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < s->topology->cpu_count; i++) count += s->in[i];
    return count;
}

static quire_status select_cpus(const char *cpus, selection *s, quire_error *error)
{
    if (cpus == NULL || *cpus == '\0' || strcmp(cpus, "auto") == 0) {
        start_with_allowed(s);
        return QUIRE_OK;
    }
    bool in[QR_MAX_CPUS] = {false};
    for (const char *text = cpus;; text++) {
        const char *at = text;
        QR_TRY(select_item(&text, cpus, s, error));
        if (count_selected(s) == 0)
            return qr_fail(error, QUIRE_ERR_INVALID, "[topology] cpus: \"%.*s\" holds no CPU that this process may use",
                           (int)qr_min_u64((uint64_t)(text - at), 60), at);
        for (uint32_t i = 0; i < s->topology->cpu_count; i++) in[i] = in[i] || s->in[i];
        if (*text == '\0') break;
        if (*text != ',') return unreadable(cpus, text, error);
    }
    memcpy(s->in, in, sizeof in);
    return QUIRE_OK;
}

/* ---- threads ---- */

/* The CPUs (indices into topology->cpus) that get a thread: all selected ones, or the first of each core. */
static uint32_t list_candidates(const selection *s, bool smt, uint16_t *list)
{
    const qr_cpu *cpus  = s->topology->cpus;
    uint32_t      count = 0;
    for (uint32_t i = 0; i < s->topology->cpu_count; i++) {
        if (!s->in[i] || (!smt && count > 0 && cpus[list[count - 1]].core == cpus[i].core)) continue;
        list[count++] = (uint16_t)i;
    }
    return count;
}

static uint32_t default_threads(uint32_t candidates, double quota)
{
    uint32_t threads = qr_min_u32(candidates, QR_MAX_THREADS);
    if (quota > 0.0 && quota < (double)threads) threads = quota < 1.0 ? 1 : (uint32_t)floor(quota);
    return threads;
}

static quire_status choose_threads(const quire_engine_options *options, const qr_topology *topology,
                                   uint32_t candidates, uint32_t *threads_out, char *warning_out, quire_error *error)
{
    const uint32_t asked = options->threads;
    *threads_out         = asked ? asked : default_threads(candidates, topology->quota_cpus);
    if (asked > QR_MAX_THREADS)
        return qr_fail(error, QUIRE_ERR_INVALID, "[topology] threads: %u is above the maximum %d", asked,
                       QR_MAX_THREADS);
    if (asked > candidates && options->bind != QUIRE_BIND_NONE)
        return qr_fail(
            error, QUIRE_ERR_INVALID,
            "[topology] threads: %u asked for, but `cpus` holds %u %s%s this process may use (bind = \"none\" "
            "lets threads share)",
            asked, candidates, options->smt == QUIRE_TOGGLE_ON ? "hardware thread" : "physical core",
            qr_plural(candidates));
    if (topology->quota_cpus > 0.0 && (double)asked > topology->quota_cpus)
        snprintf(warning_out, 256, "%u thread%s on a cgroup CPU quota of %.2f CPUs will be throttled", asked,
                 qr_plural(asked), topology->quota_cpus);
    return QUIRE_OK;
}

/* Numbers the nodes that have a thread, in the topology's order. */
static uint32_t number_node(const qr_cpu *cpu, const qr_topology *topology, qr_placement *placement, uint32_t *origin)
{
    const uint32_t count = placement->node_count;
    if (count > 0 && origin[count - 1] == cpu->node) return count - 1;
    origin[count]             = cpu->node;
    placement->node_os[count] = topology->nodes[cpu->node].os_index;
    placement->node_count     = count + 1;
    return count;
}

/* Threads are spread evenly over the candidates, so that half the threads get half of each node and cache. */
static void place_threads(const qr_topology *topology, const uint16_t *list, uint32_t candidates,
                          qr_placement *placement)
{
    uint32_t origin[QR_MAX_NODES];
    for (uint32_t thread = 0; thread < placement->thread_count; thread++) {
        const qr_cpu  *cpu      = &topology->cpus[list[(uint64_t)thread * candidates / placement->thread_count]];
        const uint32_t node     = number_node(cpu, topology, placement, origin);
        placement->cpu[thread]  = cpu->os_index;
        placement->node[thread] = node;
        placement->node_threads[node]++;
    }
    for (uint32_t i = 0; i < placement->node_count; i++)
        for (uint32_t j = 0; j < placement->node_count; j++)
            placement->node_distance[i][j] = topology->nodes[origin[i]].distance[origin[j]];
}

/* Nothing can be pinned on a machine from a description; hardware threads that are all in use keep to themselves. */
static quire_bind choose_bind(const qr_topology *topology, const quire_engine_options *options)
{
    if (topology->synthetic) return QUIRE_BIND_NONE;
    return options->bind == QUIRE_BIND_CORE && options->smt == QUIRE_TOGGLE_ON ? QUIRE_BIND_PU : options->bind;
}

quire_status qr_placement_plan(const qr_topology *topology, const quire_engine_options *options,
                               qr_placement *placement_out, char *warning_out, quire_error *error)
{
    selection s = {.topology = topology};
    uint16_t  list[QR_MAX_CPUS];
    *placement_out = (qr_placement){.bind = choose_bind(topology, options), .machine_nodes = topology->node_count};
    warning_out[0] = '\0';
    QR_TRY(select_cpus(options->cpus, &s, error));
    const uint32_t candidates = list_candidates(&s, options->smt == QUIRE_TOGGLE_ON, list);
    if (candidates == 0) return qr_fail(error, QUIRE_ERR_UNSUPPORTED, "no CPU is left that this process may use");
    QR_TRY(choose_threads(options, topology, candidates, &placement_out->thread_count, warning_out, error));
    place_threads(topology, list, candidates, placement_out);
    return QUIRE_OK;
}
