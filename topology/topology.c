/* Asks hwloc for everything there is, then marks what this process may use: hwloc knows neither the affinity mask nor
 * the CPU quota. A CPU whose node has no memory, or memory the cpuset forbids, belongs to the nearest node that has. */
#include "topology/topology.h"

#include <errno.h>
#include <hwloc.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/error.h"
#include "base/memory.h"
#include "topology/affinity.h"
#include "topology/cgroup.h"

enum { LOCAL_DISTANCE = 10, REMOTE_DISTANCE = 20 };

typedef struct discovery {
    hwloc_topology_t hwloc;
    hwloc_obj_t      node[QR_MAX_NODES];        /* as in nodes[] of the result */
    uint32_t         nearest[QR_MAX_NODES * 2]; /* os_index of any node -> index into node[] */
} discovery;

/* ---- nodes ---- */

static bool holds_memory(hwloc_topology_t hwloc, hwloc_obj_t node)
{
    return node->attr->numanode.local_memory > 0 &&
           hwloc_bitmap_isset(hwloc_topology_get_allowed_nodeset(hwloc), node->os_index);
}

static quire_status find_nodes(discovery *d, qr_topology *topology, quire_error *error)
{
    hwloc_obj_t all = NULL;
    while ((all = hwloc_get_next_obj_by_type(d->hwloc, HWLOC_OBJ_NUMANODE, all)) != NULL) {
        if (!holds_memory(d->hwloc, all)) continue;
        if (topology->node_count == QR_MAX_NODES)
            return qr_fail(error, QUIRE_ERR_UNSUPPORTED, "this machine has more than %d NUMA nodes", QR_MAX_NODES);
        d->node[topology->node_count]         = all;
        topology->nodes[topology->node_count] = (qr_node){
            .os_index     = all->os_index,
            .memory_bytes = all->attr->numanode.local_memory,
        };
        topology->node_count++;
    }
    if (topology->node_count == 0) topology->node_count = 1; /* hwloc does not know: one node, os_index 0 */
    return QUIRE_OK;
}

static uint32_t distance_between(struct hwloc_distances_s *distances, hwloc_obj_t from, hwloc_obj_t to)
{
    const uint32_t otherwise = from == to ? LOCAL_DISTANCE : REMOTE_DISTANCE;
    if (distances == NULL || from == NULL || to == NULL) return otherwise;
    hwloc_uint64_t there = 0, back = 0;
    if (hwloc_distances_obj_pair_values(distances, from, to, &there, &back) != 0) return otherwise;
    return (uint32_t)qr_min_u64(there, UINT32_MAX);
}

static struct hwloc_distances_s *node_distances(hwloc_topology_t hwloc)
{
    struct hwloc_distances_s *distances = NULL;
    unsigned                  count     = 1;
    const unsigned long       kind      = HWLOC_DISTANCES_KIND_MEANS_LATENCY;
    if (hwloc_distances_get_by_type(hwloc, HWLOC_OBJ_NUMANODE, &count, &distances, kind, 0) != 0 || count == 0)
        return NULL;
    return distances;
}

static void fill_distances(discovery *d, qr_topology *topology)
{
    struct hwloc_distances_s *distances = node_distances(d->hwloc);
    for (uint32_t i = 0; i < topology->node_count; i++)
        for (uint32_t j = 0; j < topology->node_count; j++)
            topology->nodes[i].distance[j] = distance_between(distances, d->node[i], d->node[j]);
    hwloc_obj_t any = NULL;
    while ((any = hwloc_get_next_obj_by_type(d->hwloc, HWLOC_OBJ_NUMANODE, any)) != NULL) {
        uint32_t best = 0;
        for (uint32_t j = 1; j < topology->node_count; j++)
            if (distance_between(distances, any, d->node[j]) < distance_between(distances, any, d->node[best]))
                best = j;
        if (any->logical_index < QR_MAX_NODES * 2) d->nearest[any->logical_index] = best;
    }
    if (distances != NULL) hwloc_distances_release(d->hwloc, distances);
}

/* ---- CPUs ---- */

/* The first node with memory next to the CPU, else the one nearest to a node without. */
static uint32_t node_of(const discovery *d, const qr_topology *topology, hwloc_obj_t pu)
{
    for (uint32_t i = 0; i < topology->node_count; i++)
        if (d->node[i] != NULL && hwloc_bitmap_isset(pu->nodeset, d->node[i]->os_index)) return i;
    hwloc_obj_t any = NULL;
    while ((any = hwloc_get_next_obj_by_type(d->hwloc, HWLOC_OBJ_NUMANODE, any)) != NULL)
        if (hwloc_bitmap_isset(pu->nodeset, any->os_index) && any->logical_index < QR_MAX_NODES * 2)
            return d->nearest[any->logical_index];
    return 0;
}

static uint32_t ancestor_index(hwloc_topology_t hwloc, hwloc_obj_type_t type, hwloc_obj_t pu, uint32_t otherwise)
{
    hwloc_obj_t ancestor = hwloc_get_ancestor_obj_by_type(hwloc, type, pu);
    return ancestor ? ancestor->logical_index : otherwise;
}

static int by_place(const void *left, const void *right)
{
    const qr_cpu *a = left, *b = right;
    if (a->node != b->node) return a->node < b->node ? -1 : 1;
    if (a->core != b->core) return a->core < b->core ? -1 : 1;
    return a->os_index < b->os_index ? -1 : a->os_index > b->os_index;
}

static quire_status find_cpus(discovery *d, qr_topology *topology, quire_error *error)
{
    const int count = hwloc_get_nbobjs_by_type(d->hwloc, HWLOC_OBJ_PU);
    if (count <= 0) return qr_fail(error, QUIRE_ERR_UNSUPPORTED, "hwloc finds no CPU on this machine");
    if (count > QR_MAX_CPUS)
        return qr_fail(error, QUIRE_ERR_UNSUPPORTED, "this machine has %d CPUs, at most %d are supported", count,
                       QR_MAX_CPUS);
    topology->cpus = qr_allocate(NULL, (size_t)count * sizeof *topology->cpus, _Alignof(qr_cpu));
    if (topology->cpus == NULL) return qr_fail(error, QUIRE_ERR_NO_MEMORY, "the list of %d CPUs", count);
    topology->cpu_count = (uint32_t)count;
    for (uint32_t i = 0; i < topology->cpu_count; i++) {
        hwloc_obj_t pu    = hwloc_get_obj_by_type(d->hwloc, HWLOC_OBJ_PU, i);
        topology->cpus[i] = (qr_cpu){
            .os_index = pu->os_index,
            .core     = ancestor_index(d->hwloc, HWLOC_OBJ_CORE, pu, pu->logical_index),
            .node     = node_of(d, topology, pu),
            .package  = ancestor_index(d->hwloc, HWLOC_OBJ_PACKAGE, pu, 0),
            .allowed  = true,
        };
    }
    qsort(topology->cpus, topology->cpu_count, sizeof *topology->cpus, by_place);
    return QUIRE_OK;
}

/* ---- what the process may use ---- */

static bool affinity(const char *root, qr_cpu_set *set)
{
    char list[4096];
    if (root == NULL) return qr_affinity_at_start(set);
    return qr_read_field(root, "/proc/self/status", "Cpus_allowed_list:", list, sizeof list) &&
           qr_cpu_set_parse(list, set);
}

/* Forbids the CPUs outside `set`, unless nothing would remain: a cpuset file that contradicts the affinity mask (seen
 * in sandboxes that fake one of them) is then the one to doubt. */
static void restrict_cpus(qr_topology *topology, const qr_cpu_set *set)
{
    uint32_t remaining = 0;
    for (uint32_t i = 0; i < topology->cpu_count; i++)
        remaining += topology->cpus[i].allowed && qr_cpu_set_has(set, topology->cpus[i].os_index);
    if (remaining == 0) return;
    for (uint32_t i = 0; i < topology->cpu_count; i++)
        if (!qr_cpu_set_has(set, topology->cpus[i].os_index)) topology->cpus[i].allowed = false;
}

static void apply_limits(qr_topology *topology, const char *root)
{
    qr_cpu_set set;
    if (affinity(root, &set)) restrict_cpus(topology, &set);
    if (qr_cgroup_cpuset(root, &set)) restrict_cpus(topology, &set);
    topology->quota_cpus = qr_cgroup_quota(root);
}

static bool is_allowed(const qr_topology *topology, uint32_t os_index)
{
    for (uint32_t i = 0; i < topology->cpu_count; i++)
        if (topology->cpus[i].os_index == os_index) return topology->cpus[i].allowed;
    return false;
}

static bool serves_an_allowed_cpu(const qr_topology *topology, hwloc_obj_t cache)
{
    for (int cpu = hwloc_bitmap_first(cache->cpuset); cpu >= 0; cpu = hwloc_bitmap_next(cache->cpuset, cpu))
        if (is_allowed(topology, (uint32_t)cpu)) return true;
    return false;
}

static void find_caches(const discovery *d, qr_topology *topology)
{
    hwloc_obj_t cache = hwloc_get_next_obj_by_type(d->hwloc, HWLOC_OBJ_L2CACHE, NULL);
    if (cache != NULL) topology->l2_bytes = cache->attr->cache.size;
    for (cache = NULL; (cache = hwloc_get_next_obj_by_type(d->hwloc, HWLOC_OBJ_L3CACHE, cache)) != NULL;)
        if (serves_an_allowed_cpu(topology, cache)) topology->l3_bytes += cache->attr->cache.size;
}

/* ---- create ---- */

static quire_status load(discovery *d, const qr_topology_source *source, quire_error *error)
{
    if (source->synthetic != NULL && hwloc_topology_set_synthetic(d->hwloc, source->synthetic) != 0)
        return qr_fail(error, QUIRE_ERR_INVALID, "topology \"%.80s\": hwloc cannot read it: %s", source->synthetic,
                       strerror(errno));
    if (source->synthetic == NULL) hwloc_topology_set_flags(d->hwloc, HWLOC_TOPOLOGY_FLAG_INCLUDE_DISALLOWED);
    if (hwloc_topology_load(d->hwloc) != 0)
        return qr_fail(error, QUIRE_ERR_UNSUPPORTED, "hwloc cannot describe this machine: %s", strerror(errno));
    return QUIRE_OK;
}

static quire_status discover(discovery *d, const qr_topology_source *source, qr_topology *topology, quire_error *error)
{
    QR_TRY(load(d, source, error));
    topology->synthetic = !hwloc_topology_is_thissystem(d->hwloc);
    QR_TRY(find_nodes(d, topology, error));
    fill_distances(d, topology);
    QR_TRY(find_cpus(d, topology, error));
    if (!topology->synthetic || source->root != NULL) apply_limits(topology, source->root);
    find_caches(d, topology);
    return QUIRE_OK;
}

quire_status qr_topology_create(const qr_topology_source *source, qr_topology *topology_out, quire_error *error)
{
    static const qr_topology_source this_machine = {0};
    *topology_out                                = (qr_topology){0};
    discovery d                                  = {0};
    if (hwloc_topology_init(&d.hwloc) != 0)
        return qr_fail(error, QUIRE_ERR_NO_MEMORY, "hwloc cannot start: %s", strerror(errno));
    const quire_status status = discover(&d, source ? source : &this_machine, topology_out, error);
    hwloc_topology_destroy(d.hwloc);
    if (status != QUIRE_OK) qr_topology_destroy(topology_out);
    return status;
}

void qr_topology_destroy(qr_topology *topology)
{
    qr_deallocate(NULL, topology->cpus, topology->cpu_count * sizeof *topology->cpus);
    *topology = (qr_topology){0};
}

/* ---- memory ---- */

static uint64_t available_memory(const char *root)
{
    char value[64];
    if (qr_read_field(root, "/proc/meminfo", "MemAvailable:", value, sizeof value))
        return strtoull(value, NULL, 10) * 1024;
    const long pages = sysconf(_SC_AVPHYS_PAGES), page_bytes = sysconf(_SC_PAGESIZE);
    return pages > 0 && page_bytes > 0 ? (uint64_t)pages * (uint64_t)page_bytes : UINT64_MAX;
}

/* RLIMIT_AS - VmSize. */
static uint64_t address_space_left(const char *root)
{
    char value[128];
    if (!qr_read_field(root, "/proc/self/limits", "Max address space", value, sizeof value) || value[0] < '0' ||
        value[0] > '9')
        return UINT64_MAX;
    const uint64_t limit = strtoull(value, NULL, 10);
    if (!qr_read_field(root, "/proc/self/status", "VmSize:", value, sizeof value)) return limit;
    const uint64_t used = strtoull(value, NULL, 10) * 1024;
    return limit > used ? limit - used : 0;
}

uint64_t qr_memory_limit(const char *root)
{
    const uint64_t memory = qr_min_u64(available_memory(root), qr_cgroup_memory(root));
    return qr_min_u64(memory, address_space_left(root));
}

static uint64_t node_field(const char *root, uint32_t node_os, const char *name)
{
    char path[64], key[64], value[64];
    snprintf(path, sizeof path, "/sys/devices/system/node/node%u/meminfo", node_os);
    snprintf(key, sizeof key, "Node %u %s:", node_os, name);
    return qr_read_field(root, path, key, value, sizeof value) ? strtoull(value, NULL, 10) * 1024 : UINT64_MAX;
}

uint64_t qr_node_free_memory(const char *root, uint32_t node_os)
{
    static const char *const names[] = {"MemFree", "Active(file)", "Inactive(file)"};
    uint64_t                 bytes   = 0;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const uint64_t field = node_field(root, node_os, names[i]);
        if (field == UINT64_MAX) return UINT64_MAX;
        bytes += field;
    }
    return bytes;
}
