/* The family's declaration run twice, as loading does, over synthetic weights of which no projection is packed. */
#include "model/outline.h"

static quire_status find(void *context, const qr_tensor_spec *spec, qr_matrix *matrix_out, quire_error *error)
{
    return qr_weights_find(context, spec, matrix_out, error);
}

quire_status qr_outline_init(qr_outline *outline, const qr_architecture *architecture, qr_dtype dtype,
                             quire_error *error)
{
    *outline               = (qr_outline){.architecture = *architecture};
    qr_weights     weights = {.architecture = &outline->architecture};
    qr_declaration d       = {.architecture  = &outline->architecture,
                              .dtype         = dtype,
                              .max_model_len = 1, /* tables by position have no part in a product */
                              .parameters    = &outline->parameters,
                              .arena         = &outline->memory,
                              .error         = error};
    qr_declare(&d);
    if (d.status == QUIRE_OK) d.status = qr_arena_create(&outline->memory, NULL, "a model's outline", error);
    if (d.status == QUIRE_OK) {
        d.visit   = find;
        d.context = &weights;
        qr_declare(&d);
    }
    if (d.status != QUIRE_OK) qr_outline_deinit(outline);
    return d.status;
}

void qr_outline_deinit(qr_outline *outline) { qr_arena_destroy(&outline->memory); }
