/* Packed matrices of a safetensors file, the way of packing in the first byte: parts that were accepted can be read, as
 * values and as codes. */
#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "fuzz/fuzz.h"
#include "model/packed.h"
#include "model/safetensors.h"

enum { MOST_INPUTS = 1 << 12 };

static void read_last_row(const qr_tensors *files, const qr_tensor *tensor)
{
    static float         values[MOST_INPUTS], scales[MOST_INPUTS], minima[MOST_INPUTS];
    static uint8_t       codes[MOST_INPUTS];
    quire_error          error = {0};
    const uint64_t       rows = tensor->shape[0], k = tensor->shape[1];
    const qr_code_format format = qr_tensors_codes(tensor);
    FUZZ_CHECK(rows > 0 && k > 0);
    if (k > MOST_INPUTS || qr_tensors_check_readable(files, tensor, NULL) != QUIRE_OK) return;
    FUZZ_CHECK(qr_tensors_read(files, tensor, (rows - 1) * k, k, values, &error) == QUIRE_OK);
    if (format.bits == 0) return;
    FUZZ_CHECK(qr_tensors_read_codes(files, tensor, rows - 1, 1, codes, scales, format.has_minimum ? minima : NULL,
                                     &error) == QUIRE_OK);
    for (uint64_t i = 0; i < k && format.bits == 4; i++) FUZZ_CHECK(codes[i] < 16);
}

static void check_gathered(qr_tensors *files, const qr_quantisation *quantisation)
{
    quire_error        error  = {0};
    const quire_status status = qr_packed_gather(files, quantisation, &error);
    fuzz_check_error(status, &error);
    for (uint32_t i = 0; status == QUIRE_OK && i < qr_tensors_count(files); i++) {
        const qr_tensor *tensor = qr_tensors_at(files, i);
        FUZZ_CHECK(qr_tensors_find(files, tensor->name) != NULL);
        if (tensor->packed != NULL) read_last_row(files, tensor);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    qr_tensors *files = NULL;
    if (size == 0) return 0;
    const qr_quantisation quantisation = {.packing  = QR_PACKING_GPTQ + data[0] % 4,
                                          .bits     = data[0] & 4 ? 8 : 4,
                                          .zero_add = data[0] >> 3 & 1,
                                          .group    = data[0] & 16 ? 32 : 0};
    const char           *path         = fuzz_file(data + 1, size - 1);
    if (path == NULL) return 0;
    if (qr_safetensors_open_file(path, NULL, &files, NULL) == QUIRE_OK) check_gathered(files, &quantisation);
    qr_tensors_close(files);
    return 0;
}
