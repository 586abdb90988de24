#ifndef QUIRE_TYPES_H
#define QUIRE_TYPES_H
#include "quire/api.h"
QUIRE_API void quire_free(void *memory);
enum { QUIRE_MAX_EOS_IDS = 8 };
typedef enum quire_toggle {
    QUIRE_TOGGLE_AUTO = 0,
    QUIRE_TOGGLE_ON   = 1,
    QUIRE_TOGGLE_OFF  = 2,
} quire_toggle;
typedef enum quire_dtype {
    QUIRE_DTYPE_AUTO = 0,
    QUIRE_DTYPE_F32  = 1,
    QUIRE_DTYPE_BF16 = 2,
    QUIRE_DTYPE_INT8 = 3,
    QUIRE_DTYPE_INT4 = 4,
} quire_dtype;
QUIRE_API const char *quire_dtype_name(quire_dtype dtype);
typedef enum quire_small_m {
    QUIRE_SMALL_M_AUTO   = 0,
    QUIRE_SMALL_M_ONEDNN = 1,
    QUIRE_SMALL_M_OWN    = 2,
} quire_small_m;
typedef enum quire_bind {
    QUIRE_BIND_CORE = 0,
    QUIRE_BIND_PU   = 1,
    QUIRE_BIND_NONE = 2,
} quire_bind;
typedef enum quire_stage_kind {
    QUIRE_STAGE_PROJECTION = 0,
    QUIRE_STAGE_ATTENTION  = 1,
    QUIRE_STAGE_LOGITS     = 2,
    QUIRE_STAGE_ROWWISE    = 3,
    QUIRE_STAGE_SAMPLING   = 4,
    QUIRE_STAGE_NETWORK    = 5,
} quire_stage_kind;
typedef struct quire_stage {
    uint64_t         start_ns;
    uint32_t         busy_ns, wait_ns;
    quire_stage_kind kind;
    bool             encoder;
    uint8_t          reserved[3];
} quire_stage;
typedef enum quire_memory {
    QUIRE_MEMORY_WEIGHTS   = 0,
    QUIRE_MEMORY_EMBEDDING = 1,
    QUIRE_MEMORY_KV        = 2,
    QUIRE_MEMORY_SCRATCH   = 3,
    QUIRE_MEMORY_BUFFERS   = 4,
    QUIRE_MEMORY_QUEUES    = 5,
    QUIRE_MEMORIES         = 6,
} quire_memory;
enum { QUIRE_MAX_MEMORIES = 16 };
QUIRE_API const char *quire_memory_name(quire_memory memory);
typedef struct quire_pages {
    uint64_t right, wrong;
    uint64_t absent;
    uint64_t reserved;
} quire_pages;
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
    QUIRE_WAIT_REASONS        = 14,
} quire_wait_reason;
enum { QUIRE_MAX_WAIT_REASONS = 24 };
QUIRE_API const char *quire_wait_reason_name(quire_wait_reason reason);
#endif
