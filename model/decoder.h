/* What the families of decoder-only models with rotary embedding share: keys of config.json, tensors by the names that
 * most have, and the forward pass, which follows what the architecture and the layers have. */
#ifndef QR_DECODER_H
#define QR_DECODER_H

#include "model/config_reader.h"
#include "model/network.h"

/* `sliding_window`: null is "no window", `fallback` the class's default (0: none). The layers that have it are those of
 * `layer_types` where given, else all but those in `full`. */
void qr_decoder_read_window(qr_config_reader *reader, uint32_t fallback, const qr_layer_set *full,
                            qr_architecture *architecture);

/* attention_bias, of q, k, v and o; and mlp_bias, which is refused. */
void qr_decoder_read_biases(qr_config_reader *reader, qr_architecture *architecture);

/* q, k, v and o of a layer, and the norms of q and k. `fused`: one tensor holds q, k and v. */
void qr_decoder_declare_attention(qr_declaration *declaration, qr_layer *layer, bool fused);
/* `fused`: one tensor holds gate and up. */
void qr_decoder_declare_feed_forward(qr_declaration *declaration, qr_layer *layer, bool fused);

/* The whole model; `declare_layer` the tensors "model.layers.i.*". */
void qr_decoder_declare(qr_declaration *declaration, void (*declare_layer)(qr_declaration *, qr_layer *, uint32_t));

void qr_decoder_forward(qr_pass *pass);

#endif
