/* Small types that several headers share.
 *
 * How structs grow. A program compiled against this release runs with every later 0.1.x.
 *
 * A struct that a caller hands in, to be read or filled, begins with `size`, which the caller sets to sizeof of it.
 * Later fields are added at its end. One to be read may be shorter than the library's (what is missing is 0) or longer
 * (what the library does not know must be 0, else ERR_INVALID). One to be filled gets as much as fits, and 0 where it
 * is longer.
 *
 * A struct that quire shows by pointer begins with the `size` that quire knows, and grows at its end too.
 *
 * A struct that is an element of an array or a member of another struct is frozen: its layout stays, and its `reserved`
 * fields are 0. Only tenants, an array that is read once, begin with `size`, which is also the distance from one to the
 * next. */
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
    QUIRE_DTYPE_AUTO = 0, /* weights: the codes of a file in 4 or 8 bits, else bf16; KV: bf16 */
    QUIRE_DTYPE_F32  = 1,
    QUIRE_DTYPE_BF16 = 2,
    QUIRE_DTYPE_INT8 = 3, /* symmetric, one scale per output channel (weights) or per token and head (KV) */
    QUIRE_DTYPE_INT4 = 4, /* weights only: symmetric, one scale per weight_group_size inputs of an output channel */
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
    QUIRE_STAGE_NETWORK    = 5, /* with other ranks */
} quire_stage_kind;

/* What one thread did in one stage of a step: its work, then waiting for the others at the barrier. 24 bytes, frozen.
 */
typedef struct quire_stage {
    uint64_t         start_ns; /* monotonic clock */
    uint32_t         busy_ns, wait_ns;
    quire_stage_kind kind;
    bool             encoder; /* of the encoder's layers */
    uint8_t          reserved[3];
} quire_stage;

/* What an engine keeps in memory. */
typedef enum quire_memory {
    QUIRE_MEMORY_WEIGHTS   = 0, /* on the NUMA node of the thread that multiplies with them */
    QUIRE_MEMORY_EMBEDDING = 1, /* rows in equal parts, on the threads' nodes in turn */
    QUIRE_MEMORY_KV        = 2, /* keys and values, on the node of their block */
    QUIRE_MEMORY_SCRATCH   = 3, /* what one thread works in, on its node */
    QUIRE_MEMORY_BUFFERS   = 4, /* what all threads read and write: on any node that has one of them */
    QUIRE_MEMORY_QUEUES    = 5, /* tables and queues of requests: likewise */
    QUIRE_MEMORIES         = 6, /* how many */
} quire_memory;

enum { QUIRE_MAX_MEMORIES = 16 }; /* room in arrays by memory; what no memory of this release has is 0 */

/* Its name, e.g. "weights"; "unknown" for what is none. Thread: any. */
QUIRE_API const char *quire_memory_name(quire_memory memory);

/* Pages of memory, counted by where they are. 32 bytes, frozen. */
typedef struct quire_pages {
    uint64_t right, wrong; /* on the NUMA node that they are planned for, on another */
    uint64_t absent;       /* never touched, so nowhere yet */
    uint64_t reserved;
} quire_pages;

/* Why a sequence is not in the last plan; docs/SCHEDULER.md has the table. */
typedef enum quire_wait_reason {
    QUIRE_WAIT_NONE           = 0,
    QUIRE_WAIT_ORDER          = 1,
    QUIRE_WAIT_TENANT         = 2,
    QUIRE_WAIT_HEAD           = 3,
    QUIRE_WAIT_SEQUENCES      = 4,
    QUIRE_WAIT_BUDGET         = 5,
    QUIRE_WAIT_PARTIAL        = 6,
    QUIRE_WAIT_BLOCKS         = 7,
    QUIRE_WAIT_WATERMARK      = 8,
    QUIRE_WAIT_QUOTA          = 9,
    QUIRE_WAIT_ENCODER        = 10,
    QUIRE_WAIT_ENCODER_SHARED = 11,
    QUIRE_WAIT_READER         = 12,
    QUIRE_WAIT_FAULT          = 13,
    QUIRE_WAIT_REASONS        = 14, /* how many */
} quire_wait_reason;

enum { QUIRE_MAX_WAIT_REASONS = 24 }; /* room in arrays by reason; what no reason of this release has is 0 */

/* Its name, e.g. "blocks"; "unknown" for what is none. Thread: any. */
QUIRE_API const char *quire_wait_reason_name(quire_wait_reason reason);

#endif
