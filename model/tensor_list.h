/* The tensors an architecture is made of, by Hugging Face's names: one list for checking files, for counting
 * parameters and for knowing what a synthetic model has. */
#ifndef QR_TENSOR_LIST_H
#define QR_TENSOR_LIST_H

#include "model/architecture.h"

typedef struct qr_tensor_need {
    char     name[96];
    uint32_t rank;          /* 1 or 2 */
    uint32_t rows, columns; /* rank 1: rows = 1 */
} qr_tensor_need;

/* Calls visit for each, until it returns something else than OK, which is then returned. */
typedef quire_status qr_tensor_visit(void *context, const qr_tensor_need *need);
quire_status         qr_tensor_list_walk(const qr_architecture *architecture, qr_tensor_visit *visit, void *context);

#endif
