/* A trace that was accepted has ascending times and lengths that the engine was said to take. The first byte picks the
 * format. */
#include "bench/keys.h"
#include "bench/workload/trace.h"
#include "fuzz/fuzz.h"

enum { MAX_MODEL_LEN = 4096 };

static void check_trace(const qr_trace *trace)
{
    uint64_t before = 0;
    FUZZ_CHECK(qr_trace_describe(trace).count > 0);
    for (uint32_t i = 0; i < qr_trace_describe(trace).count; i++) {
        qr_workload_request request = {0};
        qr_trace_request(trace, i, &request);
        FUZZ_CHECK(request.due_ns >= before);
        FUZZ_CHECK(request.prompt_tokens >= 1 && request.output_tokens >= 1);
        FUZZ_CHECK(request.prompt_tokens + request.output_tokens <= MAX_MODEL_LEN);
        FUZZ_CHECK(request.encoder_tokens <= QR_WORKLOAD_MAX_ENCODER);
        FUZZ_CHECK(request.hash_count == 0 || request.hash_ids != NULL);
        before = request.due_ns;
    }
}

static bool set(quire_config *config, const char *key, const char *value)
{
    char        assignment[256];
    quire_error error = {0};
    snprintf(assignment, sizeof assignment, "workload.trace.%s=\"%s\"", key, value);
    return quire_config_set(config, assignment, "fuzz", &error) == QUIRE_OK;
}

/* Building one takes longer than reading a trace. */
static quire_config *shared_config(void)
{
    static quire_config *config = NULL;
    quire_error          error  = {0};
    if (config == NULL) FUZZ_CHECK(qr_bench_config_create(&config, &error) == QUIRE_OK);
    return config;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const formats[] = {"auto", "azure", "mooncake", "burstgpt", "quire"};
    quire_config            *config    = shared_config();
    qr_trace                *trace     = NULL;
    quire_error              error     = {0};
    if (size == 0) return 0;
    const char *path = fuzz_file(data + 1, size - 1);
    if (path == NULL || !set(config, "path", path) || !set(config, "format", formats[data[0] % 5])) return 0;
    const quire_status status = qr_trace_read(config, MAX_MODEL_LEN, &trace, &error);
    fuzz_check_error(status, &error);
    if (status == QUIRE_OK) check_trace(trace);
    qr_trace_destroy(trace);
    return 0;
}
