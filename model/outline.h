/* A model without its numbers: what its family declares, with the shape of every projection, and nothing read or
 * packed. */
#ifndef QR_OUTLINE_H
#define QR_OUTLINE_H

#include "model/declare.h"

typedef struct qr_outline {
    qr_architecture architecture;
    qr_parameters   parameters; /* `first_linear` lists every projection; norms, biases and tables are random */
    qr_arena        memory;
} qr_outline;

/* `dtype`: of the weights. Takes the bytes of the norms, biases and tables of the model. ERR_NO_MEMORY,
 * ERR_UNSUPPORTED: as loading says. On failure there is nothing to deinit. */
quire_status qr_outline_init(qr_outline *outline, const qr_architecture *architecture, qr_dtype dtype,
                             quire_error *error);
void         qr_outline_deinit(qr_outline *outline);

#endif
