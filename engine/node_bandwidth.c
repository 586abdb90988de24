/* One pair of nodes after the other: memory that is bound to one, read by the threads of the other. */
#include "engine/node_bandwidth.h"

#include <string.h>

#include "base/bits.h"
#include "base/clock.h"
#include "base/median.h"
#include "kernels/limits.h"

enum { SAMPLES = 5, MOST_BYTES = 64 << 20, SHARE = 8 /* at most this part of a node's memory */ };

typedef struct pair {
    qr_team          *team;
    const qr_kernels *kernels;
    qr_mapping        memory;
    size_t            thread_bytes;
    uint32_t          reader, first_thread, threads; /* of the placement's node */
    double            ns[SAMPLES];
    float             sink[QR_MAX_THREADS];
} pair;

static void read_memory(void *context, uint32_t thread, uint32_t thread_count)
{
    pair          *p    = context;
    const uint32_t mine = thread - p->first_thread;
    (void)thread_count;
    if (thread == p->first_thread) memset(p->memory.base, 1, p->thread_bytes * p->threads); /* zeros would be shared */
    for (uint32_t s = 0; s < SAMPLES; s++) {
        qr_team_barrier(p->team);
        const uint64_t start = qr_now_ns();
        if (mine < p->threads)
            p->sink[thread] += p->kernels->limits->read(p->memory.base + mine * p->thread_bytes, p->thread_bytes);
        qr_team_barrier(p->team);
        if (thread == 0) p->ns[s] = (double)(qr_now_ns() - start);
    }
}

static size_t bytes_to_read(const qr_node *node) { return (size_t)qr_min_u64(MOST_BYTES, node->memory_bytes / SHARE); }

static double measure(pair *p, const qr_node *node, uint32_t machine_nodes)
{
    const qr_bind_options strict = {.huge_pages = QUIRE_TOGGLE_AUTO, .strict = true};
    p->thread_bytes              = bytes_to_read(node) / p->threads / QR_READ_STEP * QR_READ_STEP;
    const size_t bytes           = p->thread_bytes * p->threads;
    double       gbs             = 0;
    if (bytes == 0 || qr_mapping_create(bytes, &strict, "bandwidth", &p->memory, NULL) != QUIRE_OK) return 0;
    if (qr_mapping_bind(&p->memory, 0, bytes, node->os_index, machine_nodes, &strict, NULL) == QUIRE_OK) {
        qr_team_run(p->team, read_memory, p);
        gbs = (double)bytes / qr_median(p->ns, SAMPLES);
    }
    qr_mapping_destroy(&p->memory);
    return gbs;
}

void qr_node_bandwidth_measure(qr_team *team, const qr_kernels *kernels, const qr_topology *topology,
                               qr_node_bandwidth *bandwidth_out)
{
    const qr_placement *placement = qr_team_placement(team);
    pair                p         = {.team = team, .kernels = kernels};
    *bandwidth_out                = (qr_node_bandwidth){.node_count = topology->node_count};
    for (uint32_t n = 0; n < topology->node_count; n++) bandwidth_out->node_os[n] = topology->nodes[n].os_index;
    for (p.reader = 0; p.reader < placement->node_count; p.reader++) {
        p.threads = placement->node_threads[p.reader];
        for (uint32_t n = 0; n < topology->node_count; n++)
            bandwidth_out->gbs[p.reader][n] = measure(&p, &topology->nodes[n], topology->node_count);
        p.first_thread += p.threads;
    }
}
