#ifndef QUIRE_HOOKS_H
#define QUIRE_HOOKS_H
#include "quire/api.h"
typedef struct quire_allocator {
    void *context;
    void *(*allocate)(void *context, size_t size, size_t alignment);
    void (*deallocate)(void *context, void *pointer, size_t size);
} quire_allocator;
typedef enum quire_log_level {
    QUIRE_LOG_ERROR = 1,
    QUIRE_LOG_WARN  = 2,
    QUIRE_LOG_INFO  = 3,
    QUIRE_LOG_DEBUG = 4,
} quire_log_level;
typedef struct quire_logger {
    void *context;
    void (*write)(void *context, quire_log_level level, const char *line);
    quire_log_level level;
    uint32_t        reserved;
} quire_logger;
#endif
