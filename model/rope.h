/* Rotary embedding: what config.json says of it, and the tables of cosines and sines. */
#ifndef QR_ROPE_H
#define QR_ROPE_H

#include <stdbool.h>
#include <stdint.h>

struct qr_architecture;
struct qr_config_reader;
struct qr_declaration;

typedef enum qr_rope_type {
    QR_ROPE_DEFAULT,
    QR_ROPE_LINEAR,   /* positions / factor: Chen et al., arXiv:2306.15595, eq. 4 */
    QR_ROPE_LLAMA3,   /* as Hugging Face's _compute_llama3_parameters */
    QR_ROPE_YARN,     /* Peng et al., arXiv:2309.00071 */
    QR_ROPE_LONGROPE, /* Ding et al., arXiv:2402.13753 */
} qr_rope_type;

enum { QR_ROPE_MAX_PAIRS = 128 }; /* of a head, where each has factors of its own */

/* Rotate-half form (element i of a head pairs with i + rotary_dim / 2). */
typedef struct qr_rope {
    qr_rope_type type;
    const char  *contradiction; /* a key about which rope_scaling and rope_parameters disagree, or NULL */
    double       theta;
    uint32_t     rotary_dim;                        /* of a head's elements, the first; the others pass through */
    double       factor;                            /* but default */
    double       low_freq_factor, high_freq_factor; /* llama3 */
    double       beta_fast, beta_slow;              /* yarn: rotations over the original length */
    bool         truncate;                          /* yarn: to whole pairs */
    float        magnitude;                         /* multiplies cosines and sines: 1 but for yarn and longrope */
    uint32_t     original_max_position_embeddings;  /* llama3, yarn, longrope */
    float        short_factor[QR_ROPE_MAX_PAIRS], long_factor[QR_ROPE_MAX_PAIRS]; /* longrope: [rotary_dim / 2] */
} qr_rope;

/* Cosines and sines, [positions][rotary_dim / 2] each. */
typedef struct qr_rope_tables {
    const float *cosines, *sines;
} qr_rope_tables;

/* Where families differ. */
typedef struct qr_rope_rules {
    double      theta;      /* where config.json has none; 0: 10000 */
    const char *parameters; /* rope_parameters, where config.json has no settings; NULL: none */
    bool        partial;    /* partial_rotary_factor may be below 1 */
    double
        local_theta; /* of windowed layers, which are not scaled, where config.json has none; 0: they are as others */
    uint32_t original_length;  /* longrope's, where config.json has none; 0: max_position_embeddings */
    bool     yarn_is_longrope; /* an early name of it */
} qr_rope_rules;

/* Fills architecture->rope and local_rope; and corrects max_position_embeddings, which config.json gives before scaling
 * (linear) or not at all (yarn). head_dim is read before. */
void qr_rope_read(struct qr_config_reader *reader, const qr_rope_rules *rules, struct qr_architecture *architecture);

/* Sequences of more positions use longrope's long factors from their first on, the others the short ones; 0 = all are
 * alike. */
static inline uint32_t qr_rope_long_length(const qr_rope *rope)
{
    return rope->type == QR_ROPE_LONGROPE ? rope->original_max_position_embeddings : 0;
}

/* The parameters' tables, for as many positions as the network is made for. */
void qr_rope_declare(struct qr_declaration *declaration);

#endif
