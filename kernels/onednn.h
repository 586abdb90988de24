/* The only door to oneDNN: bare products y = x * W in f32, one thread each, weights laid out once for every row count.
 * Compiles against oneDNN 2.6 and 3.x; none of its types leaves onednn.c and onednn_calls.h, none of its exceptions
 * onednn_calls.cpp. */
#ifndef QR_ONEDNN_H
#define QR_ONEDNN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/number.h"

#include "quire/hooks.h"
#include "quire/status.h"

typedef struct qr_onednn         qr_onednn;         /* the engine and a stream per thread */
typedef struct qr_onednn_weights qr_onednn_weights; /* the layout of one [k][columns] matrix */
typedef struct qr_onednn_matmul  qr_onednn_matmul;  /* that matrix times a fixed number of rows */

/* `isa` names a kernels table and caps oneDNN, which remembers the first cap of the process. */
quire_status qr_onednn_create(const char *isa, uint32_t thread_count, const quire_allocator *allocator,
                              qr_onednn **onednn_out, quire_error *error);
void         qr_onednn_destroy(qr_onednn *onednn);

typedef struct qr_onednn_shape {
    qr_dtype dtype;      /* of x and W; y is f32 */
    uint32_t k, columns; /* multiples of 64 */
    bool     packed;     /* panels of 64 columns; else plain [columns][k] */
} qr_onednn_shape;

/* ERR_UNSUPPORTED: the packed matmul (brgemm) is not what oneDNN would run, or it wants its weights in other panels
 * than projection_kernels.h describes; the message says which. */
quire_status qr_onednn_weights_create(qr_onednn *onednn, const qr_onednn_shape *shape, qr_onednn_weights **weights_out,
                                      quire_error *error);
void         qr_onednn_weights_destroy(qr_onednn_weights *weights);

/* "brg:avx512_core_bf16", "gemm:jit" */
const char *qr_onednn_weights_implementation(const qr_onednn_weights *weights);

/* A matmul of `rows` rows for one thread. ERR_UNSUPPORTED: it would run something else than the weights were made for.
 */
quire_status qr_onednn_matmul_create(const qr_onednn_weights *weights, uint32_t thread, uint32_t rows,
                                     qr_onednn_matmul **matmul_out, quire_error *error);
void         qr_onednn_matmul_destroy(qr_onednn_matmul *matmul);
size_t       qr_onednn_matmul_scratch_bytes(const qr_onednn_matmul *matmul);

/* x[rows][k], y[rows][columns], both dense. Runs on the calling thread if inside a parallel region. False: oneDNN,
 * which takes a few hundred bytes of the heap for the time of a call, did not get them; y is then undefined. */
bool qr_onednn_matmul_run(qr_onednn_matmul *matmul, const void *x, const void *weights, float *y, void *scratch);

#endif
