/* Loops that measure what the machine can do at most, one set per instruction set (limits_template.h): reading memory,
 * and multiplying what is in registers already. Single-threaded; engine/limits.c runs them on all threads. */
#ifndef QR_LIMITS_LOOPS_H
#define QR_LIMITS_LOOPS_H

#include "kernels/kernels.h"

enum { QR_READ_STEP = 256 }; /* bytes; what is read is a multiple of it */

typedef struct qr_limit_loops {
    /* Reads bytes [from, from + bytes), 64-byte aligned, as fast as plain loads can. The result means nothing, but has
     * to be computed. */
    float (*read)(const void *from, size_t bytes);

    struct {
        /* `steps` times the widest product that this instruction set has for the dtype, in enough chains to hide its
         * latency. The result means nothing. */
        float (*multiply)(uint32_t steps);
        uint32_t operations; /* of a step; a multiplication and its addition are two */
    } by_dtype[3];           /* qr_dtype */
} qr_limit_loops;

#endif
