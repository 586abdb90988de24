/* Ranks as threads of one process: what an engine with several ranks needs, without MPI. */
#ifndef THREAD_RANKS_H
#define THREAD_RANKS_H

#include <quire/quire.h>

typedef struct thread_ranks thread_ranks;

thread_ranks *thread_ranks_create(uint32_t ranks);
void          thread_ranks_destroy(thread_ranks *ranks);

quire_comm  thread_ranks_comm(thread_ranks *ranks, uint32_t rank);
const char *thread_ranks_aborted(const thread_ranks *ranks); /* why, or NULL */

/* From now on the collectives fail. */
void thread_ranks_break(thread_ranks *ranks);

/* Calls `function` as every rank at once, each in a thread of its own, and waits for all. */
void thread_ranks_run(thread_ranks *ranks, void (*function)(void *context, uint32_t rank), void *context);

#endif
