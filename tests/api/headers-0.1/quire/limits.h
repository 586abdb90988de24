#ifndef QUIRE_LIMITS_H
#define QUIRE_LIMITS_H
#include "quire/engine.h"
enum { QUIRE_LIMIT_RUNS = 9, QUIRE_LIMIT_SETS = 9 };
typedef struct quire_limits {
    size_t   size;
    double   read_gbs;
    double   run_gbs[QUIRE_LIMIT_RUNS];
    double   f32_gflops, bf16_gflops;
    double   int8_gops;
    double   barrier_ns;
    uint64_t read_bytes;
    uint64_t cache_bytes;
    uint64_t measured_ns;
    double   set_gbs[QUIRE_LIMIT_SETS];
} quire_limits;
QUIRE_API QUIRE_NODISCARD quire_status quire_engine_measure_limits(quire_engine *engine, quire_limits *limits_out,
                                                                   quire_error *error);
#endif
