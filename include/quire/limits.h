/* What this machine can do at most: the numbers that bytes and operations of a step are divided by. */
#ifndef QUIRE_LIMITS_H
#define QUIRE_LIMITS_H

#include "quire/engine.h"

enum { QUIRE_LIMIT_RUNS = 9, QUIRE_LIMIT_SETS = 9 };

/* GB = 10^9 bytes. All are medians of several short samples, taken by all threads of the engine at once. */
typedef struct quire_limits {
    size_t   size;                      /* sizeof(quire_limits), set by the caller */
    double   read_gbs;                  /* R: memory read in order */
    double   run_gbs[QUIRE_LIMIT_RUNS]; /* memory read in runs of 4 KiB, 8 KiB, ... 1 MiB, in random order */
    double   f32_gflops, bf16_gflops;   /* P: multiplied in registers; a multiplication and its addition are two */
    double   int8_gops;                 /* the same */
    double   barrier_ns;                /* of the team's barrier, everybody arriving at once */
    uint64_t read_bytes;                /* memory that a sample of read_gbs reads */
    uint64_t cache_bytes;               /* last-level caches of the engine's cores together; 0 = unknown */
    uint64_t measured_ns;               /* monotonic clock, when it was done */
    double   set_gbs[QUIRE_LIMIT_SETS]; /* 1 MiB, 2 MiB, ... 256 MiB read over and over, caches included; 0: more than
                                         * the memory measured in (read_bytes) */
} quire_limits;

/* Measures the limits with the engine's own threads where they are pinned, in memory of the kind that weights have
 * (bound to the threads' nodes, huge pages where the engine uses them): eight times the last-level caches, at most
 * 512 MiB or 8 MiB a thread (`read_bytes`), allocated for the call. Takes some 0.5 s, more where other processes run,
 * in which no step may run. A virtual machine may be told of a larger cache than it has, and then read_bytes is less
 * than eight times cache_bytes. ERR_NO_MEMORY: not even a small part of that memory is available. Thread: driver,
 * between steps. */
QUIRE_API QUIRE_NODISCARD quire_status quire_engine_measure_limits(quire_engine *engine, quire_limits *limits_out,
                                                                   quire_error *error);

#endif
