/* A file of requests that was accepted has only such as the model was said to take. */
#include "bench/keys.h"
#include "bench/workload/request_file.h"
#include "fuzz/fuzz.h"

enum { VOCAB = 100, MAX_MODEL_LEN = 64 };

static void check_file(const qr_request_file *file)
{
    FUZZ_CHECK(qr_request_file_count(file) > 0 && qr_request_file_tenants(file) > 0);
    for (uint32_t i = 0; i < qr_request_file_count(file); i++) {
        const quire_request *request = qr_request_file_at(file, i);
        FUZZ_CHECK(request->prompt_count > 0 && request->max_tokens > 0 &&
                   request->prompt_count + request->max_tokens <= MAX_MODEL_LEN);
        for (uint32_t k = 0; k < request->prompt_count; k++)
            FUZZ_CHECK(request->prompt[k] >= 0 && request->prompt[k] < VOCAB);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static quire_config   *config = NULL; /* building one takes longer than reading a file */
    const quire_model_info model  = {.size = sizeof model, .vocab_size = VOCAB, .layers = 1};
    qr_request_file       *file   = NULL;
    quire_error            error  = {0};
    const char            *path   = fuzz_file(data, size);
    if (config == NULL) FUZZ_CHECK(qr_bench_config_create(&config, &error) == QUIRE_OK);
    if (path == NULL || quire_config_set_value(config, "workload.path", path, "fuzz", &error) != QUIRE_OK) return 0;
    const quire_status status = qr_request_file_read(config, &model, MAX_MODEL_LEN, &file, &error);
    fuzz_check_error(status, &error);
    if (status == QUIRE_OK) check_file(file);
    qr_request_file_destroy(file);
    return 0;
}
