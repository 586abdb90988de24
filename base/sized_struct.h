/* Structs that begin with their size, so that programs and libraries of different versions understand each other. */
#ifndef QR_BASE_SIZED_STRUCT_H
#define QR_BASE_SIZED_STRUCT_H

#include <stdbool.h>
#include <stddef.h>

#include "quire/status.h"

/* Copies a struct that begins with `size` over *to (`to_size` bytes). A smaller one comes from an older caller: its
 * missing fields are zero. A larger one comes from a newer caller and must be zero beyond what is known here, else
 * ERR_INVALID. `least` is the smallest size ever released. */
quire_status qr_options_copy(const char *what, const void *from, size_t least, void *to, size_t to_size,
                             quire_error *error);

/* The same of element `i` of an array of such structs: the size in the first is the distance between them. */
quire_status qr_options_copy_element(const char *what, const void *array, size_t i, void *to, size_t to_size,
                                     quire_error *error);

/* Whether `count` bytes, those of a struct's reserved members, are all 0. */
bool qr_is_zero(const void *bytes, size_t count);

/* The reverse: fills a caller's struct, which begins with its size, as far as it reaches; what it has beyond is 0. */
void qr_options_give(const void *from, size_t from_size, void *to);

#endif
