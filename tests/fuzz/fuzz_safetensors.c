/* A header that was accepted describes tensors inside the file, in order, each readable or refused by type. */
#include <string.h>

#include "fuzz/fuzz.h"
#include "model/safetensors.h"

static uint64_t elements(const qr_tensor *tensor)
{
    uint64_t count = 1;
    for (uint32_t i = 0; i < tensor->rank; i++) count *= tensor->shape[i];
    return count;
}

static void check_tensor(const qr_tensors *files, const qr_tensor *tensor, size_t size)
{
    quire_error error = {0};
    float       value[2];
    FUZZ_CHECK(tensor->begin <= tensor->end && tensor->end <= size);
    FUZZ_CHECK(elements(tensor) <= 8 * size);
    FUZZ_CHECK(qr_tensors_find(files, tensor->name) != NULL);
    if (elements(tensor) == 0 || qr_tensors_check_readable(files, tensor, NULL) != QUIRE_OK) return;
    FUZZ_CHECK(qr_tensors_read(files, tensor, elements(tensor) - 1, 1, value, &error) == QUIRE_OK);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    qr_tensors *files = NULL;
    quire_error error = {0};
    const char *path  = fuzz_file(data, size);
    if (path == NULL) return 0;
    const quire_status status = qr_safetensors_open_file(path, NULL, &files, &error);
    fuzz_check_error(status, &error);
    FUZZ_CHECK((status == QUIRE_OK) == (files != NULL));
    for (uint32_t i = 0; status == QUIRE_OK && i < qr_tensors_count(files); i++) {
        const qr_tensor *tensor = qr_tensors_at(files, i);
        check_tensor(files, tensor, size);
        FUZZ_CHECK(i == 0 || strcmp(qr_tensors_at(files, i - 1)->name, tensor->name) < 0);
    }
    qr_tensors_close(files);
    return 0;
}
