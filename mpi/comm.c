/* A quire_comm of an MPI communicator. Within a step ranks wait actively, by MPI's own collectives; for the message
 * that begins a step, which may be long in coming, they sleep in between. */
#include "quire/mpi.h"

#include <limits.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
    TESTS          = 16,      /* between two looks at the clock */
    PATIENCE_NS    = 1000000, /* of waiting awake */
    LEAST_SLEEP_NS = 10000,
    MOST_SLEEP_NS  = 500000,
};

typedef struct mpi_comm {
    quire_comm comm;
    MPI_Comm   mpi;
    int       *counts, *displacements; /* [ranks] */
    uint64_t   patience_ns;            /* 0 where ranks share CPUs: who waits is in the way */

} mpi_comm;

__attribute__((format(printf, 3, 4))) static quire_status fail(quire_error *error, quire_status status,
                                                               const char *format, ...)
{
    va_list arguments;
    if (error == NULL) return status;
    error->status = status;
    va_start(arguments, format);
    (void)vsnprintf(error->message, sizeof error->message, format, arguments);
    va_end(arguments);
    return status;
}

/* ---- collectives ---- */

static uint64_t now_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* First by looking again and again, as a message within a step comes soon; then by sleeping for longer and longer. */
static int wait_for(const mpi_comm *own, MPI_Request *request)
{
    int            done  = 0;
    long           sleep = LEAST_SLEEP_NS;
    const uint64_t until = now_ns() + own->patience_ns;
    for (;;) {
        for (int i = 0; i < TESTS && !done; i++) {
            const int failed = MPI_Test(request, &done, MPI_STATUS_IGNORE);
            if (failed != MPI_SUCCESS) return failed;
        }
        if (done) return MPI_SUCCESS;
        if (now_ns() < until) {
            sched_yield();
            continue;
        }
        nanosleep(&(struct timespec){.tv_nsec = sleep}, NULL);
        sleep = sleep < MOST_SLEEP_NS ? sleep + sleep / 4 : MOST_SLEEP_NS;
    }
}

static int broadcast(void *context, void *data, size_t bytes)
{
    const mpi_comm *own = context;
    for (size_t done = 0, now; done < bytes; done += now) {
        MPI_Request request;
        now              = bytes - done < INT_MAX / 2 ? bytes - done : INT_MAX / 2;
        const int failed = MPI_Ibcast((char *)data + done, (int)now, MPI_BYTE, 0, own->mpi, &request);
        if (failed != MPI_SUCCESS || wait_for(own, &request) != MPI_SUCCESS) return 1;
    }
    return 0;
}

/* False: more than MPI's numbers hold. */
static bool take_offsets(mpi_comm *own, const size_t *offsets)
{
    const uint32_t ranks = own->comm.ranks;
    if (offsets[ranks] > INT_MAX) return false;
    for (uint32_t r = 0; r < ranks; r++) {
        own->displacements[r] = (int)offsets[r];
        own->counts[r]        = (int)(offsets[r + 1] - offsets[r]);
    }
    return true;
}

static int gather(void *context, void *data, const size_t *offsets)
{
    mpi_comm      *own  = context;
    const uint32_t rank = own->comm.rank;
    MPI_Request    request;
    if (!take_offsets(own, offsets)) return 1;
    const int failed = rank == 0 ? MPI_Igatherv(MPI_IN_PLACE, 0, MPI_BYTE, data, own->counts, own->displacements,
                                                MPI_BYTE, 0, own->mpi, &request)
                                 : MPI_Igatherv((char *)data + offsets[rank], own->counts[rank], MPI_BYTE, NULL, NULL,
                                                NULL, MPI_BYTE, 0, own->mpi, &request);
    return failed != MPI_SUCCESS || wait_for(own, &request) != MPI_SUCCESS;
}

static int all_gather(void *context, void *data, const size_t *offsets)
{
    mpi_comm   *own = context;
    MPI_Request request;
    if (!take_offsets(own, offsets)) return 1;
    const int failed =
        MPI_Iallgatherv(MPI_IN_PLACE, 0, MPI_BYTE, data, own->counts, own->displacements, MPI_BYTE, own->mpi, &request);
    return failed != MPI_SUCCESS || wait_for(own, &request) != MPI_SUCCESS;
}

static void abort_all(void *context, const char *why)
{
    const mpi_comm *own = context;
    fprintf(stderr, "quire: rank %u of %u on %s: %s\n", own->comm.rank, own->comm.ranks, own->comm.host, why);
    fflush(stderr);
    (void)MPI_Abort(own->mpi, 1);
}

/* ---- life ---- */

static const char *name_of_level(int level)
{
    return level == MPI_THREAD_SINGLE ? "MPI_THREAD_SINGLE" : "MPI_THREAD_FUNNELED";
}

static quire_status check_mpi(MPI_Comm parent, quire_error *error)
{
    int initialized = 0, finalized = 0, level = MPI_THREAD_SINGLE;
    (void)MPI_Initialized(&initialized);
    (void)MPI_Finalized(&finalized);
    if (!initialized || finalized)
        return fail(error, QUIRE_ERR_INVALID, "quire_mpi_comm_create: %s",
                    finalized ? "MPI_Finalize() was called" : "MPI_Init_thread() was not called yet");
    (void)MPI_Query_thread(&level);
    if (level < MPI_THREAD_SERIALIZED)
        return fail(error, QUIRE_ERR_INVALID,
                    "quire_mpi_comm_create: MPI was initialised for %s; ask MPI_Init_thread() for at least "
                    "MPI_THREAD_SERIALIZED",
                    name_of_level(level));
    if (parent == MPI_COMM_NULL)
        return fail(error, QUIRE_ERR_INVALID, "quire_mpi_comm_create: the communicator is MPI_COMM_NULL");
    return QUIRE_OK;
}

/* More ranks than CPUs on this host. */
static bool shares_cpus(const mpi_comm *own)
{
    MPI_Comm host;
    int      ranks = 1;
    if (MPI_Comm_split_type(own->mpi, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &host) == MPI_SUCCESS) {
        (void)MPI_Comm_size(host, &ranks);
        (void)MPI_Comm_free(&host);
    }
    const long all = sysconf(_SC_NPROCESSORS_ONLN);
    return ranks > all;
}

static quire_status join(mpi_comm *own, MPI_Comm parent, quire_error *error)
{
    int rank, ranks;
    if (MPI_Comm_dup(parent, &own->mpi) != MPI_SUCCESS || MPI_Comm_rank(own->mpi, &rank) != MPI_SUCCESS ||
        MPI_Comm_size(own->mpi, &ranks) != MPI_SUCCESS)
        return fail(error, QUIRE_ERR_IO, "quire_mpi_comm_create: the communicator cannot be duplicated");
    (void)MPI_Comm_set_errhandler(own->mpi, MPI_ERRORS_RETURN);
    own->comm = (quire_comm){.size       = sizeof own->comm,
                             .context    = own,
                             .rank       = (uint32_t)rank,
                             .ranks      = (uint32_t)ranks,
                             .broadcast  = broadcast,
                             .gather     = gather,
                             .all_gather = all_gather,
                             .abort      = abort_all};
    if (gethostname(own->comm.host, sizeof own->comm.host - 1) != 0) strcpy(own->comm.host, "unknown");
    own->counts        = calloc((size_t)ranks, sizeof *own->counts);
    own->displacements = calloc((size_t)ranks, sizeof *own->displacements);
    own->patience_ns   = shares_cpus(own) ? 0 : PATIENCE_NS;
    if (own->counts != NULL && own->displacements != NULL) return QUIRE_OK;
    return fail(error, QUIRE_ERR_NO_MEMORY, "quire_mpi_comm_create: no memory for %d ranks", ranks);
}

quire_status quire_mpi_comm_create(MPI_Comm parent, quire_comm **comm_out, quire_error *error)
{
    *comm_out           = NULL;
    quire_status status = check_mpi(parent, error);
    if (status != QUIRE_OK) return status;
    mpi_comm *own = calloc(1, sizeof *own);
    if (own == NULL) return fail(error, QUIRE_ERR_NO_MEMORY, "quire_mpi_comm_create: no memory");
    own->mpi = MPI_COMM_NULL;
    status   = join(own, parent, error);
    if (status == QUIRE_OK)
        *comm_out = &own->comm;
    else
        quire_mpi_comm_destroy(&own->comm);
    return status;
}

void quire_mpi_comm_destroy(quire_comm *comm)
{
    mpi_comm *own = (mpi_comm *)comm; /* its first member */
    if (own == NULL) return;
    if (own->mpi != MPI_COMM_NULL) (void)MPI_Comm_free(&own->mpi);
    free(own->counts);
    free(own->displacements);
    free(own);
}

/* Without one of these MPI would start this process as the only one of a world of its own. */
static bool was_launched(void)
{
    static const char *const names[] = {"OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "PMI_RANK", "PMI_FD", "MPI_LOCALNRANKS"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (getenv(names[i]) != NULL) return true;
    return false;
}

quire_status quire_mpi_begin(quire_comm **comm_out, quire_error *error)
{
    int level;
    *comm_out = NULL;
    if (!was_launched())
        return fail(error, QUIRE_ERR_INVALID,
                    "quire_mpi_begin: this process was not started by mpirun, so there are no other ranks");
    if (MPI_Init_thread(NULL, NULL, MPI_THREAD_SERIALIZED, &level) != MPI_SUCCESS)
        return fail(error, QUIRE_ERR_IO, "quire_mpi_begin: MPI_Init_thread() failed");
    const quire_status status = quire_mpi_comm_create(MPI_COMM_WORLD, comm_out, error);
    if (status != QUIRE_OK) (void)MPI_Finalize();
    return status;
}

void quire_mpi_end(quire_comm *comm)
{
    quire_mpi_comm_destroy(comm);
    if (comm != NULL) (void)MPI_Finalize();
}
