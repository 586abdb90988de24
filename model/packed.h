/* Matrices that folders of Hugging Face's kind hold in several tensors: codes of 4 or 8 bits, the scales of groups of
 * them and, maybe, zero points and the groups' order. They become one tensor of the table, under the name that the
 * matrix has in a folder that is not quantised.
 *
 *   value[column][i] = scale[column][g] * (code[column][i] - zero[column][g]), g = i / group or, with an order,
 * order[i]
 *
 * gptq   (github.com/AutoGPTQ/AutoGPTQ)  qweight: words along the inputs; qzeros: along the columns, one less than they
 *                                        are but in "gptq_v2"; scales [groups][columns]; g_idx: the order
 * awq    (github.com/casper-hansen/AutoAWQ, "gemm")  qweight and qzeros: words along the columns, in AWQ's order
 * packed (compressed-tensors, "pack-quantized")  weight_packed: words along the inputs; weight_zero_point: along the
 *                                        columns; weight_scale [columns][groups]; codes and zeros with half their range
 * added bytes  (compressed-tensors, "int-quantized")  weight: signed bytes; weight_zero_point: the same */
#ifndef QR_PACKED_H
#define QR_PACKED_H

#include <jansson.h>

#include "model/tensors.h"

struct qr_config_reader;

typedef enum qr_packing {
    QR_PACKING_NONE,
    QR_PACKING_GPTQ,
    QR_PACKING_AWQ,
    QR_PACKING_PACKED,
    QR_PACKING_BYTES,
    QR_PACKING_MXFP4, /* gpt-oss's experts, which stay the tensors they are */
} qr_packing;

/* What config.json says of all its matrices. */
typedef struct qr_quantisation {
    qr_packing packing;
    uint32_t   bits;          /* gptq, awq; compressed-tensors: 0 where it does not say */
    uint32_t   zero_add;      /* gptq: what a stored zero point lacks */
    uint32_t   group;         /* inputs that share a scale, UINT32_MAX: all; 0: as many as the scales say */
    bool       ordered;       /* by an order, which is there if there is more than one group */
    bool       has_zeros;     /* zero points are there */
    bool       has_not_zeros; /* they are not; neither: both may be */
} qr_quantisation;

/* `quantization_config`, or the root of quantize_config.json. Complaints go to the reader. */
void qr_quantisation_read(struct qr_config_reader *reader, const json_t *settings, qr_quantisation *quantisation_out);

/* Replaces the tensors of packed matrices by one each. ERR_FORMAT: a part is missing, or parts do not fit each other.
 */
quire_status qr_packed_gather(qr_tensors *files, const qr_quantisation *quantisation, quire_error *error);

/* Rows [first, first + count) of a packed tensor as f32. As qr_tensors_read. */
quire_status qr_packed_read(const qr_tensors *files, const qr_tensor *tensor, uint64_t first, uint64_t count,
                            float *out, quire_error *error);

/* As qr_tensors_codes and qr_tensors_read_codes. */
struct qr_packed;
qr_code_format qr_packed_codes(const struct qr_packed *packed);
quire_status   qr_packed_read_codes(const qr_tensors *files, const qr_tensor *tensor, uint64_t first, uint64_t count,
                                    uint8_t *codes, float *scales, float *minima, quire_error *error);

#endif
