/* The heap sifts with a hole instead of swaps; the map deletes by shifting back, so it needs no tombstones. */
#include "scheduler/queue.h"

#include "base/assert.h"
#include "base/rng.h"

static void put(qr_heap *heap, uint32_t place, qr_heap_node node)
{
    heap->nodes[place]      = node;
    heap->places[node.item] = place;
}

static void sift_up(qr_heap *heap, uint32_t place, qr_heap_node node)
{
    while (place > 0) {
        const uint32_t parent = (place - 1) / 2;
        if (!qr_rank_before(&node.rank, &heap->nodes[parent].rank)) break;
        put(heap, place, heap->nodes[parent]);
        place = parent;
    }
    put(heap, place, node);
}

static void sift_down(qr_heap *heap, uint32_t place, qr_heap_node node)
{
    for (;;) {
        uint32_t child = 2 * place + 1;
        if (child >= heap->count) break;
        if (child + 1 < heap->count && qr_rank_before(&heap->nodes[child + 1].rank, &heap->nodes[child].rank)) child++;
        if (!qr_rank_before(&heap->nodes[child].rank, &node.rank)) break;
        put(heap, place, heap->nodes[child]);
        place = child;
    }
    put(heap, place, node);
}

void qr_heap_push(qr_heap *heap, const qr_rank *rank, uint32_t item)
{
    qr_assert(heap->places[item] == QR_NONE);
    sift_up(heap, heap->count++, (qr_heap_node){*rank, item});
}

void qr_heap_remove(qr_heap *heap, uint32_t item)
{
    const uint32_t place = heap->places[item];
    qr_assert(place < heap->count && heap->nodes[place].item == item);
    heap->places[item]      = QR_NONE;
    const qr_heap_node last = heap->nodes[--heap->count];
    if (last.item == item) return;
    if (place > 0 && qr_rank_before(&last.rank, &heap->nodes[(place - 1) / 2].rank))
        sift_up(heap, place, last);
    else
        sift_down(heap, place, last);
}

uint32_t qr_heap_pop(qr_heap *heap)
{
    const uint32_t item = heap->nodes[0].item;
    qr_heap_remove(heap, item);
    return item;
}

bool qr_heap_check(const qr_heap *heap)
{
    for (uint32_t i = 0; i < heap->count; i++) {
        if (heap->places[heap->nodes[i].item] != i) return false;
        if (i > 0 && !qr_rank_before(&heap->nodes[(i - 1) / 2].rank, &heap->nodes[i].rank)) return false;
    }
    return true;
}

uint32_t qr_id_map_slots(uint32_t records)
{
    uint32_t slots = 4;
    while (slots < 2 * (uint64_t)records && slots < 1u << 31) slots *= 2;
    return slots;
}

static uint32_t home(const qr_id_map *map, uint64_t id) { return (uint32_t)qr_mix64(id) & map->mask; }

uint32_t qr_id_map_find(const qr_id_map *map, uint64_t id)
{
    for (uint32_t i = home(map, id);; i = (i + 1) & map->mask) {
        if (map->slots[i].id == 0) return QR_NONE;
        if (map->slots[i].id == id) return map->slots[i].record;
    }
}

void qr_id_map_insert(qr_id_map *map, uint64_t id, uint32_t record)
{
    uint32_t i = home(map, id);
    while (map->slots[i].id != 0) i = (i + 1) & map->mask;
    map->slots[i] = (qr_id_slot){id, record};
}

void qr_id_map_remove(qr_id_map *map, uint64_t id)
{
    uint32_t hole = home(map, id);
    while (map->slots[hole].id != id) {
        if (map->slots[hole].id == 0) return;
        hole = (hole + 1) & map->mask;
    }
    for (uint32_t i = (hole + 1) & map->mask; map->slots[i].id != 0; i = (i + 1) & map->mask) {
        const uint32_t wanted = home(map, map->slots[i].id);
        if (((i - wanted) & map->mask) < ((i - hole) & map->mask)) continue; /* it may not move before its home */
        map->slots[hole] = map->slots[i];
        hole             = i;
    }
    map->slots[hole] = (qr_id_slot){0};
}
