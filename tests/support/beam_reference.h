/* Beam search written as plainly as possible over the driver's model, after BeamSearchScorer of transformers 4.x:
 * whole token lists are copied, candidates are gathered and sorted, nothing is shared. */
#ifndef BEAM_REFERENCE_H
#define BEAM_REFERENCE_H

#include "support/scheduler_driver.h"

typedef struct beam_hypothesis {
    int32_t  tokens[DRIVER_TOKENS];
    uint32_t count;
    double   score;
    bool     ended; /* by a stop token */
} beam_hypothesis;

/* Best first; returns how many. stop_token: negative = none. */
uint32_t beam_reference(const driver *d, const driver_request *r, const quire_request *parameters, int32_t stop_token,
                        beam_hypothesis *out);

#endif
