/* Several processes, called ranks, that run one model together: what an engine asks of whatever joins them. quire/mpi.h
 * makes one of an MPI communicator. */
#ifndef QUIRE_COMM_H
#define QUIRE_COMM_H

#include "quire/api.h"

enum { QUIRE_MAX_RANKS = 1024, QUIRE_MAX_HOST_NAME = 64 };

/* All ranks call the functions in the same order, one thread of a rank at a time, but not always the same one. They
 * return 0, or anything else when a rank cannot be reached; then nothing more is asked of them but `abort`. Blocks are
 * bytes of `data`: that of rank r is [offsets[r], offsets[r + 1]), and offsets[0] is 0. None of them allocates. */
typedef struct quire_comm {
    size_t   size; /* sizeof(quire_comm) as its maker sees it */
    void    *context;
    uint32_t rank, ranks;                                                /* 0..ranks-1 */
    char     host[QUIRE_MAX_HOST_NAME];                                  /* where this rank runs, for messages */
    int (*broadcast)(void *context, void *data, size_t bytes);           /* rank 0 has it, then all have */
    int (*gather)(void *context, void *data, const size_t *offsets);     /* each has its block, then rank 0 has all */
    int (*all_gather)(void *context, void *data, const size_t *offsets); /* each has its block, then all have all */
    void (*abort)(void *context, const char *why);                       /* ends all ranks; may return */
} quire_comm;

#endif
