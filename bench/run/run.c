/* Releases what a run has recorded, and names how its requests ended. */
#include "bench/run/run.h"

#include <stdlib.h>

void qr_run_deinit(qr_run *run)
{
    for (size_t i = 0; i < run->request_count; i++) free(run->requests[i].kept);
    free(run->requests);
    free(run->tokens);
    free(run->gaps);
    free(run->load);
    free(run->contaminated);
    free(run->steps);
    free(run->stages);
    *run = (qr_run){0};
}

const char *qr_finish_name(quire_finish finish)
{
    static const char *const names[] = {"unfinished", "stop", "length", "cancelled", "error", "timeout"};
    return (unsigned)finish < sizeof names / sizeof *names ? names[finish] : "error";
}
