/* A growing array of plain values, for records whose number is known only afterwards. */
#ifndef QR_BENCH_ARRAY_H
#define QR_BENCH_ARRAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>

/* Makes room for one more behind `count` elements of `size` bytes; capacities are powers of two, so `count` tells when
 * to grow. False: out of memory, the array is unchanged. */
static inline bool qr_array_reserve(void **array, size_t count, size_t size)
{
    if (count != 0 && (count < 64 || (count & (count - 1)) != 0)) return true;
    void *grown = realloc(*array, (count < 64 ? 64 : 2 * count) * size);
    if (grown == NULL) return false;
    *array = grown;
    return true;
}

#define QR_ARRAY_PUSH(array, count, value)                                                                             \
    (qr_array_reserve((void **)&(array), (count), sizeof *(array)) ? ((array)[(count)++] = (value), true) : false)

#endif
