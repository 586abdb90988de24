/* The heap of waiting groups and the map of request ids. The heap sifts with a hole instead of swaps; the map deletes
 * by shifting back, so it needs no tombstones. */
#include "scheduler/queue.h"

#include "base/assert.h"
#include "base/bits.h"
#include "base/rng.h"

static void put(qr_heap *heap, uint32_t index, qr_heap_node node)
{
    heap->nodes[index]        = node;
    heap->index_of[node.item] = index;
}

static void sift_up(qr_heap *heap, uint32_t index, qr_heap_node node)
{
    while (index > 0) {
        const uint32_t parent = (index - 1) / 2;
        if (!qr_rank_before(&node.rank, &heap->nodes[parent].rank)) break;
        put(heap, index, heap->nodes[parent]);
        index = parent;
    }
    put(heap, index, node);
}

static void sift_down(qr_heap *heap, uint32_t index, qr_heap_node node)
{
    for (;;) {
        uint32_t child = 2 * index + 1;
        if (child >= heap->count) break;
        if (child + 1 < heap->count && qr_rank_before(&heap->nodes[child + 1].rank, &heap->nodes[child].rank)) child++;
        if (!qr_rank_before(&heap->nodes[child].rank, &node.rank)) break;
        put(heap, index, heap->nodes[child]);
        index = child;
    }
    put(heap, index, node);
}

void qr_heap_push(qr_heap *heap, const qr_rank *rank, uint32_t item)
{
    qr_assert(heap->index_of[item] == QR_NONE);
    sift_up(heap, heap->count++, (qr_heap_node){*rank, item});
}

void qr_heap_remove(qr_heap *heap, uint32_t item)
{
    const uint32_t index = heap->index_of[item];
    qr_assert(index < heap->count && heap->nodes[index].item == item);
    heap->index_of[item]    = QR_NONE;
    const qr_heap_node last = heap->nodes[--heap->count];
    if (last.item == item) return;
    if (index > 0 && qr_rank_before(&last.rank, &heap->nodes[(index - 1) / 2].rank))
        sift_up(heap, index, last);
    else
        sift_down(heap, index, last);
}

bool qr_heap_check(const qr_heap *heap)
{
    for (uint32_t i = 0; i < heap->count; i++) {
        if (heap->index_of[heap->nodes[i].item] != i) return false;
        if (i > 0 && !qr_rank_before(&heap->nodes[(i - 1) / 2].rank, &heap->nodes[i].rank)) return false;
    }
    return true;
}

uint32_t qr_id_map_buckets(uint32_t records)
{
    return (uint32_t)qr_next_power_of_two(qr_max_u64(4, qr_min_u64(2 * (uint64_t)records, 1u << 31)));
}

static uint32_t home(const qr_id_map *map, uint64_t id) { return (uint32_t)qr_mix64(id) & map->mask; }

uint32_t qr_id_map_find(const qr_id_map *map, uint64_t id)
{
    for (uint32_t i = home(map, id);; i = (i + 1) & map->mask) {
        if (map->buckets[i].id == 0) return QR_NONE;
        if (map->buckets[i].id == id) return map->buckets[i].record;
    }
}

void qr_id_map_insert(qr_id_map *map, uint64_t id, uint32_t record)
{
    uint32_t i = home(map, id);
    while (map->buckets[i].id != 0) i = (i + 1) & map->mask;
    map->buckets[i] = (qr_id_bucket){id, record};
}

void qr_id_map_remove(qr_id_map *map, uint64_t id)
{
    uint32_t hole = home(map, id);
    while (map->buckets[hole].id != id) {
        if (map->buckets[hole].id == 0) return;
        hole = (hole + 1) & map->mask;
    }
    for (uint32_t i = (hole + 1) & map->mask; map->buckets[i].id != 0; i = (i + 1) & map->mask) {
        const uint32_t wanted = home(map, map->buckets[i].id);
        if (((i - wanted) & map->mask) < ((i - hole) & map->mask)) continue; /* it may not move before its home */
        map->buckets[hole] = map->buckets[i];
        hole               = i;
    }
    map->buckets[hole] = (qr_id_bucket){0};
}
