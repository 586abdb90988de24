/* How the elements of a tensor are stored in a file: one by one, or in blocks that share a scale. */
#ifndef QR_TENSOR_FORMAT_H
#define QR_TENSOR_FORMAT_H

#include <stdint.h>

enum { QR_BLOCK_MAX_ELEMENTS = 256 };

typedef struct qr_tensor_format {
    const char *name;           /* as the file's format calls it: "BF16", "Q4_K" */
    uint32_t    block_elements; /* 1: each stands alone */
    uint32_t    block_bytes;
    /* Whole blocks as f32, exactly; NULL: nothing here computes with it. `from` need not be aligned. */
    void (*decode)(const void *from, uint64_t blocks, float *out);
} qr_tensor_format;

/* By the dtype of a safetensors header; NULL: not known. */
const qr_tensor_format *qr_tensor_format_of_dtype(const char *dtype);
/* By GGML's number of the type; NULL: not known. */
const qr_tensor_format *qr_tensor_format_of_ggml(uint32_t type);

#endif
