/* What libquire_mpi refuses, each in a process of its own: MPI cannot be initialised twice. Prints the message.
 * usage: refusals uninitialised|finalised|threads|null|alone */
#include <stdio.h>
#include <string.h>

#include <quire/mpi.h>

int main(int argc, char **argv)
{
    const char *what  = argc > 1 ? argv[1] : "";
    quire_comm *comm  = NULL;
    quire_error error = {0};
    int         level = MPI_THREAD_SINGLE;
    if (strcmp(what, "threads") == 0) MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &level);
    if (strcmp(what, "finalised") == 0 || strcmp(what, "null") == 0)
        MPI_Init_thread(NULL, NULL, MPI_THREAD_SERIALIZED, &level);
    if (strcmp(what, "finalised") == 0) MPI_Finalize();
    const quire_status status =
        strcmp(what, "alone") == 0
            ? quire_mpi_begin(&comm, &error)
            : quire_mpi_comm_create(strcmp(what, "null") == 0 ? MPI_COMM_NULL : MPI_COMM_WORLD, &comm, &error);
    printf("%s\n", status != QUIRE_OK ? error.message : "made");
    if (strcmp(what, "threads") == 0 || strcmp(what, "null") == 0) MPI_Finalize();
    return status == QUIRE_ERR_INVALID && comm == NULL ? 0 : 1;
}
