/* Where an engine's pages are: every part of its memory is shown, with the node that it is planned for, and counted. */
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "engine/engine.h"
#include "topology/node_memory.h"
#include "topology/pages.h"

typedef struct counting {
    const qr_placement *placement;
    uint32_t            node; /* of the placement; QR_ANY_NODE: all */
    quire_memory_check *check;
    uint32_t            wrong_node;
    quire_error        *error;
    quire_status        status;
} counting;

static void visit_engine(const quire_engine *engine, qr_memory_visitor *visit, void *context)
{
    const uint32_t *node = qr_team_placement(engine->team)->node;
    qr_network_visit_memory(engine->network, visit, context);
    qr_kv_memory_visit(&engine->kv, visit, context);
    qr_kv_memory_visit(&engine->local_kv, visit, context);
    qr_scheduler_visit_memory(engine->planner.scheduler, visit, context);
    visit(context, QUIRE_MEMORY_QUEUES, engine->arena.base, engine->arena.capacity, QR_ANY_NODE);
    for (uint32_t i = 0; i < engine->thread_count; i++)
        qr_sampler_visit_memory(engine->samplers[i], node[i], visit, context);
}

/* A thread's scratch lies in one allocation with that of others, or was made by whoever creates the engine. */
static void settle_part(void *context, quire_memory memory, void *base, size_t bytes, uint32_t node)
{
    const qr_placement *placement = context;
    if (memory == QUIRE_MEMORY_SCRATCH && base != NULL) qr_node_memory_give(base, bytes, placement->node_os[node]);
}

void qr_engine_settle_memory(quire_engine *engine)
{
    const qr_placement *placement = qr_team_placement(engine->team);
    if (placement->machine_nodes > 1) visit_engine(engine, settle_part, (void *)(uintptr_t)placement);
}

static qr_node_set planned_nodes(const qr_placement *placement, uint32_t node)
{
    return node == QR_ANY_NODE ? (qr_node_set){placement->node_os, placement->node_count}
                               : (qr_node_set){&placement->node_os[node], 1};
}

static void count_part(void *context, quire_memory memory, void *base, size_t bytes, uint32_t node)
{
    counting     *c     = context;
    quire_pages  *pages = &c->check->pages[memory];
    qr_page_count count = {0};
    if (c->status != QUIRE_OK || base == NULL || (c->node != QR_ANY_NODE && node != c->node)) return;
    c->status = qr_pages_count(base, bytes, planned_nodes(c->placement, node), &count, c->error);
    if (count.wrong > 0) c->wrong_node = count.wrong_node;
    pages->right += count.right;
    pages->wrong += count.wrong;
    pages->absent += count.absent;
}

static uint32_t node_by_os(const qr_placement *placement, uint32_t node_os)
{
    uint32_t n = 0;
    while (n < placement->node_count && placement->node_os[n] != node_os) n++;
    return n;
}

static void tell_statistics(quire_engine *engine, const quire_memory_check *check)
{
    uint64_t right = 0, wrong = 0;
    for (int i = 0; i < QUIRE_MEMORIES; i++) right += check->pages[i].right, wrong += check->pages[i].wrong;
    pthread_mutex_lock(&engine->stats_mutex);
    engine->stats.numa_pages_checked   = right + wrong;
    engine->stats.numa_pages_misplaced = wrong;
    pthread_mutex_unlock(&engine->stats_mutex);
}

quire_status qr_engine_check_memory(quire_engine *engine, uint32_t node, quire_memory_check *check_out,
                                    quire_error *error)
{
    const qr_placement *placement = qr_team_placement(engine->team);
    const bool          all       = node == QUIRE_ALL_NODES;
    counting            c         = {.placement = placement, .node = QR_ANY_NODE, .check = check_out, .error = error};
    *check_out = (quire_memory_check){.size = sizeof *check_out, .page_bytes = (uint64_t)sysconf(_SC_PAGESIZE)};
    if (!all) c.node = node_by_os(placement, node);
    if (!all && c.node == placement->node_count)
        return qr_fail(error, QUIRE_ERR_NOT_FOUND, "no thread of this engine is on NUMA node %u", node);
    visit_engine(engine, count_part, &c);
    if (c.status != QUIRE_OK) return c.status;
    qr_scheduler_count_homes(engine->planner.scheduler, &check_out->blocks_home, &check_out->blocks_away);
    if (all) tell_statistics(engine, check_out);
    return QUIRE_OK;
}
