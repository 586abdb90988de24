/* The engine's pinned threads and the one OpenMP region they never leave.
 *
 * A thread of the team's own opens the region and stays in it, since an OpenMP team belongs to its opener. run() hands
 * a function over and waits for it; between functions the team spins for a short while and then sleeps. All threads
 * block all signals. */
#ifndef QR_TEAM_H
#define QR_TEAM_H

#include "topology/bind.h"

typedef struct qr_team qr_team;

/* Runs on every thread at once, SPMD. */
typedef void qr_team_function(void *context, uint32_t thread, uint32_t thread_count);

typedef struct qr_team_options {
    uint32_t        barrier_spin_ns; /* how long a waiting thread spins before it sleeps; 0 = 20000 */
    qr_bind_options bind;
    quire_allocator allocator;
} qr_team_options;

/* Proves with plain pthreads that this many threads exist (libgomp would end the process), then opens the region and
 * pins. ERR_THREADS, ERR_NO_MEMORY; a refused pin as in qr_bind_options. Thread: any. */
quire_status qr_team_create(const qr_placement *placement, const qr_team_options *options, qr_team **team_out,
                            quire_error *error);
void         qr_team_destroy(qr_team *team); /* NULL is allowed. Thread: owner. */

/* Returns when every thread has finished `function`. Thread: one at a time. */
void qr_team_run(qr_team *team, qr_team_function *function, void *context);

/* Waits until every thread of the team is here; orders memory. Only inside a function given to run(). */
void qr_team_barrier(qr_team *team);

const qr_placement *qr_team_placement(const qr_team *team);
uint32_t            qr_team_size(const qr_team *team);

/* True in a child of fork(): the team's threads do not exist there. */
bool qr_team_is_forked(const qr_team *team);

#endif
