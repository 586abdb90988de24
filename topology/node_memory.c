/* mmap, mbind. A refused binding changes nothing but speed: the weights' has been reported already. */
#include "topology/node_memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/bits.h"
#include "topology/bind.h"

static size_t whole_pages(size_t bytes) { return qr_round_up(bytes, (size_t)sysconf(_SC_PAGESIZE)); }

static void *allocate(void *context, size_t size, size_t alignment)
{
    const qr_placement   *placement = context;
    const qr_bind_options silent    = {0};
    qr_assert(alignment <= (size_t)sysconf(_SC_PAGESIZE));
    if (size > SIZE_MAX / 2) return NULL;
    qr_mapping mapping = {.bytes = whole_pages(size ? size : 1)};
    mapping.base       = mmap(NULL, mapping.bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapping.base == MAP_FAILED) return NULL;
    (void)qr_mapping_spread(&mapping, placement->node_os, placement->node_count, placement->machine_nodes, &silent,
                            NULL);
    return mapping.base;
}

static void deallocate(void *context, void *pointer, size_t size)
{
    (void)context;
    if (pointer != NULL) munmap(pointer, whole_pages(size ? size : 1));
}

quire_allocator qr_node_allocator(const qr_placement *placement, const quire_allocator *otherwise)
{
    if (placement->machine_nodes <= 1) return *otherwise;
    return (quire_allocator){(void *)(uintptr_t)placement, allocate, deallocate};
}

void qr_node_memory_give(void *base, size_t bytes, uint32_t node_os)
{
    const uintptr_t begin = qr_round_up((uintptr_t)base, (size_t)sysconf(_SC_PAGESIZE));
    const uintptr_t end   = ((uintptr_t)base + bytes) / whole_pages(1) * whole_pages(1);
    if (begin < end) qr_bind_and_move((void *)begin, end - begin, node_os);
}
