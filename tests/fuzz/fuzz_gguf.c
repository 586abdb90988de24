/* A GGUF file that was accepted describes tensors inside itself that do not overlap, each readable or refused by type;
 * what its metadata says becomes a model's description or an error. */
#include <jansson.h>
#include <string.h>

#include "fuzz/fuzz.h"
#include "model/config_json.h"
#include "model/gguf.h"
#include "model/gguf_config.h"

static void check_tensor(const qr_tensors *files, const qr_tensor *tensor, size_t size)
{
    quire_error    error = {0};
    float          block[QR_BLOCK_MAX_ELEMENTS];
    const uint64_t blocks = (tensor->end - tensor->begin) / tensor->format->block_bytes;
    const uint32_t length = tensor->format->block_elements;
    FUZZ_CHECK(tensor->begin <= tensor->end && tensor->end <= size);
    FUZZ_CHECK(qr_tensors_find(files, tensor->name) != NULL);
    if (blocks == 0 || tensor->paired_rows > 0 || qr_tensors_check_readable(files, tensor, NULL) != QUIRE_OK) return;
    FUZZ_CHECK(qr_tensors_read(files, tensor, (blocks - 1) * length, length, block, &error) == QUIRE_OK);
}

static void check_tensors(const qr_tensors *files, size_t size)
{
    for (uint32_t i = 0; i < qr_tensors_count(files); i++) {
        check_tensor(files, qr_tensors_at(files, i), size);
        FUZZ_CHECK(i == 0 || strcmp(qr_tensors_at(files, i - 1)->name, qr_tensors_at(files, i)->name) < 0);
    }
}

static void check_translation(qr_tensors *files, const json_t *metadata, size_t size)
{
    quire_error            error = {0};
    json_t                *config;
    static qr_architecture architecture;
    quire_status           status = qr_gguf_translate(files, metadata, &config, &error);
    fuzz_check_error(status, &error);
    FUZZ_CHECK((status == QUIRE_OK) == (config != NULL));
    if (status != QUIRE_OK) return;
    check_tensors(files, size);
    status = qr_architecture_of(config, "fuzz", &architecture, &error);
    fuzz_check_error(status, &error);
    json_decref(config);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    qr_tensors *files    = NULL;
    json_t     *metadata = NULL;
    quire_error error    = {0};
    const char *path     = fuzz_file(data, size);
    if (path == NULL) return 0;
    const quire_status status = qr_gguf_open(path, NULL, &files, &metadata, &error);
    fuzz_check_error(status, &error);
    FUZZ_CHECK((status == QUIRE_OK) == (files != NULL) && (files != NULL) == (metadata != NULL));
    if (status == QUIRE_OK) {
        check_tensors(files, size);
        check_translation(files, metadata, size);
    }
    json_decref(metadata);
    qr_tensors_close(files);
    return 0;
}
