/* Loading libquire_mpi only where there are ranks keeps the start of the tool as fast as without. */
#include "cli/mpirun.h"

#include <dlfcn.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/agree.h"
#include "base/memory.h"
#include "cli/command.h"

#define LIBRARY "libquire_mpi.so.0.1"

typedef quire_status begin_function(quire_comm **comm_out, quire_error *error);
typedef void         end_function(quire_comm *comm);

/* What mpirun and its like say of how many they start; 0: nothing. */
static unsigned long started(void)
{
    static const char *const names[] = {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MPI_LOCALNRANKS"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const char *text = getenv(names[i]);
        if (text != NULL) return strtoul(text, NULL, 10);
    }
    return 0;
}

static void *library(void) { return dlopen(LIBRARY, RTLD_NOW | RTLD_GLOBAL); } /* MPI's own modules want to see it */

static bool find(void *symbol_out, const char *name)
{
    void *const handle = library();
    void *const symbol = handle != NULL ? dlsym(handle, name) : NULL;
    memcpy(symbol_out, &symbol, sizeof symbol);
    return symbol != NULL;
}

/* Ranks of two commands would take each other's messages for their own. */
static bool have_one_command(const quire_comm *comm, const char *command)
{
    char        mine[16] = "";
    uint32_t    other    = 0;
    quire_error error;
    snprintf(mine, sizeof mine, "%s", command);
    char *all = qr_gather_all(comm, mine, sizeof mine);
    if (all == NULL) {
        (void)qr_unreachable(comm, &error);
        qr_complain("%s", error.message);
        return false;
    }
    while (other < comm->ranks && strcmp(all + other * sizeof mine, all) == 0) other++;
    if (other < comm->ranks && comm->rank == 0)
        qr_complain("rank %u was given the command %s, but rank 0 %s", other, all + other * sizeof mine, all);
    qr_deallocate(NULL, all, sizeof mine * comm->ranks);
    return other == comm->ranks;
}

bool qr_mpirun_join(const char *command, const quire_comm **comm_out)
{
    begin_function *begin;
    quire_comm     *comm  = NULL;
    quire_error     error = {0};
    *comm_out             = NULL;
    if (started() < 2) return true;
    if (!find(&begin, "quire_mpi_begin")) {
        qr_complain("started as one of %lu ranks, but %s cannot be loaded: %s; it comes of a build with MPI", started(),
                    LIBRARY, dlerror());
        return false;
    }
    const quire_status status = begin(&comm, &error);
    *comm_out                 = comm;
    if (status != QUIRE_OK) {
        qr_complain("%s", error.message);
        return false;
    }
    if (have_one_command(comm, command)) return true;
    qr_mpirun_leave(comm);
    *comm_out = NULL;
    return false;
}

static void write_line(void *context, quire_log_level level, const char *line)
{
    static const char *const names[] = {[QUIRE_LOG_ERROR] = "error", [QUIRE_LOG_WARN] = "warning"};
    const quire_comm        *comm    = context;
    fprintf(stderr, "quire: rank %u on %s: %s: %s\n", comm->rank, comm->host,
            level <= QUIRE_LOG_WARN ? names[level] : "log", line);
}

quire_logger qr_mpirun_logger(const quire_comm *comm, const quire_logger *logger)
{
    quire_logger own = *logger;
    if (!qr_mpirun_follows(comm)) return own;
    own.context = (void *)(uintptr_t)comm;
    own.write   = write_line;
    own.level   = logger->level == QUIRE_LOG_ERROR ? QUIRE_LOG_ERROR : QUIRE_LOG_WARN;
    return own;
}

void qr_mpirun_leave_signals(const quire_comm *comm)
{
    if (!qr_mpirun_follows(comm)) return;
    signal(SIGINT, SIG_IGN);
    signal(SIGTERM, SIG_IGN);
}

void qr_mpirun_leave(const quire_comm *comm)
{
    end_function *end;
    if (comm == NULL) return;
    if (find(&end, "quire_mpi_end")) end((quire_comm *)(uintptr_t)comm);
}

bool qr_mpirun_is_alone(const char *command)
{
    if (started() < 2) return true;
    qr_complain("%s runs on one rank only, and mpirun has started %lu; generate and bench run on several", command,
                started());
    return false;
}
