/* What models share whose layers have BART's tensors. */
#ifndef QR_BART_H
#define QR_BART_H

#include "model/config_reader.h"
#include "model/declare.h"

/* Sizes of both stacks, and what follows from them. */
void qr_bart_read_sizes(qr_config_reader *reader, qr_architecture *architecture);

/* `activation`: the class's default. */
void qr_bart_read_activation(qr_config_reader *reader, const char *activation, qr_architecture *architecture);

/* The layers of a stack; the prefix is then that of what stands beside them. `key_bias`: projections of keys have a
 * bias as all others have. */
void qr_bart_declare_layers(qr_declaration *declaration, bool decoder, bool key_bias);

#endif
