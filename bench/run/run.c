/* Releases what a run has recorded. */
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
