/* Mixtures of experts (Shazeer et al. 2017, arXiv:1701.06538): a layer's feed-forward is several, and a router chooses
 * some of them for each row. */
#ifndef QR_EXPERTS_H
#define QR_EXPERTS_H

#include "model/config_reader.h"
#include "model/network.h"

enum { QR_MAX_EXPERTS = 1024 };

/* The number of experts, num_local_experts or num_experts, and num_experts_per_tok. Defaults: `experts`, for which
 * messages use `key`, and `per_token`. */
void qr_experts_read(qr_config_reader *reader, const char *key, uint32_t experts, uint32_t per_token,
                     qr_architecture *architecture);

/* A layer's router, and its experts to be declared one by one. */
void       qr_declare_router(qr_declaration *declaration, qr_layer *layer, const char *name, bool bias);
qr_expert *qr_declare_expert(qr_declaration *declaration, qr_layer *layer, uint32_t expert);

/* hidden += sum over the row's experts, in ascending order, of weight * out(activation(in(norm(hidden)))). What rows
 * chose one expert are multiplied together; the weights of an expert that no row chose are not read. */
void qr_stage_experts(qr_pass *pass, const qr_layer *layer, uint32_t rows);

#endif
