/* Every line of `quire generate` gets exactly one answer: a request, or an error with a sentence. */
#include "cli/job.h"
#include "fuzz/fuzz.h"

static void check_request(const quire_request *request)
{
    FUZZ_CHECK(request->prompt_count == 0 || request->prompt != NULL);
    FUZZ_CHECK(request->encoder_count == 0 || request->encoder_input != NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const qr_request_defaults defaults = {.max_tokens = 16, .seed = 1};
    qr_line_error             error    = {0};
    qr_text                   text     = {0};
    qr_job                   *job      = qr_job_parse((const char *)data, size, 7, &defaults, &error);
    FUZZ_CHECK(job != NULL);
    if (error.status != QUIRE_OK) {
        FUZZ_CHECK(error.message[0] != 0);
        qr_job_answer_error(job->from.id, job->from.line, &error, &text);
        FUZZ_CHECK(text.length > 2 && text.data[text.length - 1] == '\n');
    } else {
        check_request(&job->from.request);
    }
    qr_text_deinit(&text);
    qr_job_destroy(job);
    return 0;
}
