#include "support/thread_ranks.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct one_rank {
    thread_ranks *all;
    uint32_t      rank;
    char         *data; /* of the collective in progress */
    void (*function)(void *context, uint32_t rank);
    void *context;
} one_rank;

struct thread_ranks {
    pthread_mutex_t mutex;
    pthread_cond_t  changed;
    uint32_t        ranks, arrived;
    uint64_t        turn;
    bool            broken;
    char            why[256];
    one_rank        each[];
};

thread_ranks *thread_ranks_create(uint32_t ranks)
{
    thread_ranks *all = calloc(1, sizeof *all + ranks * sizeof(one_rank));
    assert_non_null(all);
    pthread_mutex_init(&all->mutex, NULL);
    pthread_cond_init(&all->changed, NULL);
    all->ranks = ranks;
    for (uint32_t i = 0; i < ranks; i++) all->each[i] = (one_rank){.all = all, .rank = i};
    return all;
}

void thread_ranks_destroy(thread_ranks *all) { free(all); }

const char *thread_ranks_aborted(const thread_ranks *all) { return all->why[0] != '\0' ? all->why : NULL; }

/* All meet; false: broken. */
static bool meet(thread_ranks *all)
{
    pthread_mutex_lock(&all->mutex);
    const uint64_t turn = all->turn;
    if (++all->arrived == all->ranks) {
        all->arrived = 0;
        all->turn++;
        pthread_cond_broadcast(&all->changed);
    }
    while (all->turn == turn && !all->broken) pthread_cond_wait(&all->changed, &all->mutex);
    const bool whole = !all->broken;
    pthread_mutex_unlock(&all->mutex);
    return whole;
}

static int broadcast(void *context, void *data, size_t bytes)
{
    one_rank *own = context;
    own->data     = data;
    if (!meet(own->all)) return 1;
    if (own->rank > 0) memcpy(data, own->all->each[0].data, bytes);
    return meet(own->all) ? 0 : 1;
}

static int collect(one_rank *own, char *data, const size_t *offsets, bool wanted)
{
    own->data = data;
    if (!meet(own->all)) return 1;
    for (uint32_t r = 0; wanted && r < own->all->ranks; r++)
        if (r != own->rank) memcpy(data + offsets[r], own->all->each[r].data + offsets[r], offsets[r + 1] - offsets[r]);
    return meet(own->all) ? 0 : 1;
}

static int gather(void *context, void *data, const size_t *offsets)
{
    return collect(context, data, offsets, ((one_rank *)context)->rank == 0);
}

static int all_gather(void *context, void *data, const size_t *offsets)
{
    return collect(context, data, offsets, true);
}

void thread_ranks_break(thread_ranks *all)
{
    pthread_mutex_lock(&all->mutex);
    all->broken = true;
    pthread_cond_broadcast(&all->changed);
    pthread_mutex_unlock(&all->mutex);
}

static void end_all(void *context, const char *why)
{
    one_rank *own = context;
    pthread_mutex_lock(&own->all->mutex);
    if (own->all->why[0] == '\0') snprintf(own->all->why, sizeof own->all->why, "%s", why);
    pthread_mutex_unlock(&own->all->mutex);
    thread_ranks_break(own->all);
}

quire_comm thread_ranks_comm(thread_ranks *all, uint32_t rank)
{
    quire_comm comm = {.size       = sizeof comm,
                       .context    = &all->each[rank],
                       .rank       = rank,
                       .ranks      = all->ranks,
                       .broadcast  = broadcast,
                       .gather     = gather,
                       .all_gather = all_gather,
                       .abort      = end_all};
    snprintf(comm.host, sizeof comm.host, "host%u", rank);
    return comm;
}

static void *run_one(void *argument)
{
    one_rank *own = argument;
    own->function(own->context, own->rank);
    return NULL;
}

void thread_ranks_run(thread_ranks *all, void (*function)(void *context, uint32_t rank), void *context)
{
    pthread_t *threads = calloc(all->ranks, sizeof *threads);
    assert_non_null(threads);
    for (uint32_t r = 0; r < all->ranks; r++) {
        all->each[r].function = function;
        all->each[r].context  = context;
        assert_int_equal(pthread_create(&threads[r], NULL, run_one, &all->each[r]), 0);
    }
    for (uint32_t r = 0; r < all->ranks; r++) pthread_join(threads[r], NULL);
    free(threads);
}
