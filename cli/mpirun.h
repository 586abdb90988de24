/* A tool that mpirun has started as several ranks: libquire_mpi is loaded then and only then. */
#ifndef QR_CLI_MPIRUN_H
#define QR_CLI_MPIRUN_H

#include <stdbool.h>

#include <quire/quire.h>

/* Joins the other ranks, which must have been given the same command. *comm_out is NULL where this process is alone.
 * False: it could not, which was said. */
bool qr_mpirun_join(const char *command, const quire_comm **comm_out);

/* Of a rank but 0, which must do as rank 0 asks. NULL: alone. */
static inline bool qr_mpirun_follows(const quire_comm *comm) { return comm != NULL && comm->rank > 0; }

/* The logger of this rank: others than 0 say who they are, and only warnings. */
quire_logger qr_mpirun_logger(const quire_comm *comm, const quire_logger *logger);

/* A rank but 0 ends when rank 0 says so: mpirun passes signals to all, and rank 0 has answers to write. */
void qr_mpirun_leave_signals(const quire_comm *comm);

/* At the end of all ranks. NULL: alone. */
void qr_mpirun_leave(const quire_comm *comm);

/* Of a command that runs on one rank only. False, and says so: there are several. */
bool qr_mpirun_is_alone(const char *command);

#endif
