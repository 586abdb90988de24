/* How the elements of a tensor are stored in a file: one by one, or in blocks that share a scale. */
#ifndef QR_TENSOR_FORMAT_H
#define QR_TENSOR_FORMAT_H

#include <stdint.h>

#include "kernels/projection.h"

enum { QR_BLOCK_MAX_ELEMENTS = 256 };

typedef struct qr_tensor_format {
    const char *name;           /* as the file's format calls it: "BF16", "Q4_K" */
    uint32_t    block_elements; /* 1: each stands alone */
    uint32_t    block_bytes;
    /* Whole blocks as f32, exactly; NULL: nothing here computes with it. `from` need not be aligned. */
    void (*decode)(const void *from, uint64_t blocks, float *out);
    /* Where a block is codes that products can read as they are; no bits: it is not. The same blocks as codes, one a
     * byte, and a scale and a minimum (`minima`: with these only) for each group. */
    qr_code_format codes;
    void (*split)(const void *from, uint64_t blocks, uint8_t *codes, float *scales, float *minima);
} qr_tensor_format;

/* By the dtype of a safetensors header; NULL: not known. */
const qr_tensor_format *qr_tensor_format_of_dtype(const char *dtype);
/* By GGML's number of the type; NULL: not known. */
const qr_tensor_format *qr_tensor_format_of_ggml(uint32_t type);

#endif
