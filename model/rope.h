/* Rotary embedding: what config.json says of it, and the tables of cosines and sines. */
#ifndef QR_ROPE_H
#define QR_ROPE_H

#include <stdbool.h>
#include <stdint.h>

struct qr_config_reader;
struct qr_declaration;

/* Rotate-half form (element i of a head pairs with i + head_dim / 2). With llama3 the frequencies are changed as in
 * Hugging Face's _compute_llama3_parameters. */
typedef struct qr_rope {
    double   theta;
    bool     llama3;
    double   factor, low_freq_factor, high_freq_factor; /* llama3 only */
    uint32_t original_max_position_embeddings;          /* llama3 only */
} qr_rope;

void qr_rope_read(struct qr_config_reader *reader, qr_rope *rope);

/* The parameters' rope_cos and rope_sin, for as many positions as the network is made for. */
void qr_rope_declare(struct qr_declaration *declaration);

#endif
