/* Small types that several headers share; it includes nothing else of quire but api.h. */
#ifndef QUIRE_TYPES_H
#define QUIRE_TYPES_H

#include "quire/api.h"

/* Gives back what quire allocated for the caller, where a function says so. NULL is allowed. Thread: any. */
QUIRE_API void quire_free(void *memory);

enum { QUIRE_MAX_EOS_IDS = 8 }; /* end-of-sequence ids of a model */

/* A choice that the library makes when left alone. */
typedef enum quire_toggle {
    QUIRE_TOGGLE_AUTO = 0,
    QUIRE_TOGGLE_ON   = 1,
    QUIRE_TOGGLE_OFF  = 2,
} quire_toggle;

typedef enum quire_dtype {
    QUIRE_DTYPE_AUTO = 0, /* weights: bf16 where the CPU multiplies it, else f32; KV: bf16 */
    QUIRE_DTYPE_F32  = 1,
    QUIRE_DTYPE_BF16 = 2,
    QUIRE_DTYPE_INT8 = 3, /* symmetric, one scale per output channel (weights) or per token and head (KV) */
} quire_dtype;

/* Name of a dtype as in the configuration file: "f32". Thread: any. */
QUIRE_API const char *quire_dtype_name(quire_dtype dtype);

/* Who multiplies matrices of few rows. */
typedef enum quire_small_m {
    QUIRE_SMALL_M_AUTO   = 0,
    QUIRE_SMALL_M_ONEDNN = 1,
    QUIRE_SMALL_M_OWN    = 2,
} quire_small_m;

/* What a compute thread is bound to. */
typedef enum quire_bind {
    QUIRE_BIND_CORE = 0,
    QUIRE_BIND_PU   = 1, /* one hardware thread */
    QUIRE_BIND_NONE = 2,
} quire_bind;

typedef enum quire_stage_kind {
    QUIRE_STAGE_PROJECTION = 0,
    QUIRE_STAGE_ATTENTION  = 1,
    QUIRE_STAGE_LOGITS     = 2,
    QUIRE_STAGE_ROWWISE    = 3,
    QUIRE_STAGE_SAMPLING   = 4,
} quire_stage_kind;

/* What one thread did in one stage of a step: its work, then waiting for the others at the barrier. */
typedef struct quire_stage {
    uint64_t         start_ns; /* monotonic clock */
    uint32_t         busy_ns, wait_ns;
    quire_stage_kind kind;
    bool             encoder; /* of the encoder's layers */
} quire_stage;

#endif
