#ifndef QUIRE_COMM_H
#define QUIRE_COMM_H
#include "quire/api.h"
enum { QUIRE_MAX_RANKS = 1024, QUIRE_MAX_HOST_NAME = 64 };
typedef struct quire_comm {
    size_t   size;
    void    *context;
    uint32_t rank, ranks;
    char     host[QUIRE_MAX_HOST_NAME];
    int (*broadcast)(void *context, void *data, size_t bytes);
    int (*gather)(void *context, void *data, const size_t *offsets);
    int (*all_gather)(void *context, void *data, const size_t *offsets);
    void (*abort)(void *context, const char *why);
} quire_comm;
#endif
