/* Shapes of published models, for synthetic weights. */
#ifndef QR_PRESETS_H
#define QR_PRESETS_H

#include "quire/model.h"

struct qr_architecture;

#ifdef __cplusplus
extern "C" {
#endif

/* ERR_INVALID: no such preset (the message lists them), no such key, or a shape that is impossible. */
quire_status qr_architecture_preset(const char *preset, const quire_shape_override *overrides, uint32_t override_count,
                                    struct qr_architecture *architecture_out, quire_error *error);

/* The i-th preset's name, NULL past the end. */
const char *qr_preset_name(uint32_t index);

#ifdef __cplusplus
}
#endif

#endif
