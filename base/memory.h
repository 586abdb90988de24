/* The only door to the heap. Objects that live as long as an engine are laid out in one arena:
 *
 *   qr_arena arena = {0};             counting: base is NULL, take() returns NULL and adds up
 *   layout(object, &arena);
 *   QR_TRY(qr_arena_create(&arena, allocator, "scheduler", error));
 *   layout(object, &arena);           the same calls again, now with addresses
 */
#ifndef QR_BASE_MEMORY_H
#define QR_BASE_MEMORY_H

#include <stddef.h>
#include <stdint.h>

#include "quire/hooks.h"
#include "quire/status.h"
#include "quire/types.h"

/* Zeroed; alignment a power of two. NULL when memory is short. A NULL allocator, or one without functions, is the
 * system's. `size` must be given back to qr_deallocate. */
void *qr_allocate(const quire_allocator *allocator, size_t size, size_t alignment);
void  qr_deallocate(const quire_allocator *allocator, void *pointer, size_t size);

typedef struct qr_arena {
    char           *base;     /* NULL while counting */
    size_t          used;     /* bytes taken */
    size_t          capacity; /* bytes allocated */
    quire_allocator allocator;
} qr_arena;

/* count * size bytes, zeroed, 64-byte aligned; NULL while counting. Aborts on overflow of size_t while counting. */
void *qr_arena_take(qr_arena *arena, size_t count, size_t size);
#define QR_ARENA_TAKE(arena, type, count) ((type *)qr_arena_take((arena), (count), sizeof(type)))

/* Ends counting: allocates what was counted. ERR_NO_MEMORY names `what` and the bytes. */
quire_status qr_arena_create(qr_arena *arena, const quire_allocator *allocator, const char *what, quire_error *error);
void         qr_arena_destroy(qr_arena *arena);

#define QR_ANY_NODE UINT32_MAX /* one of the team's nodes, whichever */

/* Who is told of an object's memory, part by part: what it is, and the placement's node that it should be on. */
typedef void qr_memory_visitor(void *context, quire_memory memory, void *base, size_t bytes, uint32_t node);

#endif
