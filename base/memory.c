#include "base/memory.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/bits.h"
#include "base/error.h"

enum { ARENA_ALIGNMENT = 64 };

void *qr_allocate(const quire_allocator *allocator, size_t size, size_t alignment)
{
    void *pointer = NULL;
    if (size > SIZE_MAX - alignment) return NULL;
    if (allocator != NULL && allocator->allocate != NULL)
        pointer = allocator->allocate(allocator->context, size, alignment);
    else
        pointer = aligned_alloc(alignment, qr_round_up(size ? size : 1, alignment));
    return pointer ? memset(pointer, 0, size) : NULL;
}

void qr_deallocate(const quire_allocator *allocator, void *pointer, size_t size)
{
    if (pointer == NULL) return;
    if (allocator != NULL && allocator->deallocate != NULL)
        allocator->deallocate(allocator->context, pointer, size);
    else
        free(pointer);
}

void *qr_arena_take(qr_arena *arena, size_t count, size_t size)
{
    uint64_t   bytes = 0, end = 0;
    const bool fits = qr_mul_u64(count, size, &bytes) && qr_add_u64(bytes, ARENA_ALIGNMENT - 1, &bytes) &&
                      qr_add_u64(arena->used, bytes / ARENA_ALIGNMENT * ARENA_ALIGNMENT, &end);
    qr_assert(fits);
    void *pointer = arena->base ? arena->base + arena->used : NULL;
    qr_assert(arena->base == NULL || end <= arena->capacity);
    arena->used = end;
    return pointer;
}

quire_status qr_arena_create(qr_arena *arena, const quire_allocator *allocator, const char *what, quire_error *error)
{
    arena->allocator = allocator ? *allocator : (quire_allocator){0};
    arena->capacity  = arena->used;
    arena->used      = 0;
    arena->base      = qr_allocate(&arena->allocator, arena->capacity, ARENA_ALIGNMENT);
    if (arena->base == NULL)
        return qr_fail(error, QUIRE_ERR_NO_MEMORY, "%s: %zu bytes of memory are not available", what, arena->capacity);
    return QUIRE_OK;
}

void qr_arena_destroy(qr_arena *arena)
{
    qr_deallocate(&arena->allocator, arena->base, arena->capacity);
    *arena = (qr_arena){0};
}
