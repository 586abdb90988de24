/* Ranks joined by MPI, for quire_engine_options.comm: a library of its own, libquire_mpi, so that quire needs no MPI.
 *
 * Rank 0 submits and polls as if it were alone; the others call quire_engine_run(), which returns when rank 0 has
 * destroyed its engine. All make the engine with equal options and models; docs/SCALE.md says what may differ. */
#ifndef QUIRE_MPI_H
#define QUIRE_MPI_H

#include <mpi.h>

#include "quire/comm.h"
#include "quire/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A comm of all ranks of `parent`, by a communicator of its own. To be destroyed when the engine has been, and before
 * MPI_Finalize(). ERR_INVALID: MPI is not initialised, or for fewer threads than MPI_THREAD_SERIALIZED, or has ended.
 * Called by all ranks of `parent`. */
QUIRE_API QUIRE_NODISCARD quire_status quire_mpi_comm_create(MPI_Comm parent, quire_comm **comm_out,
                                                             quire_error *error);
QUIRE_API void quire_mpi_comm_destroy(quire_comm *comm); /* NULL is allowed. Called by all ranks. */

/* The same of a program that uses MPI for nothing else: initialises it, and makes a comm of all that mpirun has
 * started. ERR_INVALID: this process was not started by mpirun or the like. `end` destroys the comm and ends MPI. */
QUIRE_API QUIRE_NODISCARD quire_status quire_mpi_begin(quire_comm **comm_out, quire_error *error);
QUIRE_API void                         quire_mpi_end(quire_comm *comm);

#ifdef __cplusplus
}
#endif

#endif
